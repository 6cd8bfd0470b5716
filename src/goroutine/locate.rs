//! Where a program without DWARF keeps its goroutines: variables of the runtime found by what is in them, among the
//! program's variables.

use super::runtime::{GLayout, SudogLayout, Table};
use crate::binary::moduledata::Module;
use crate::layout::goroutine::{self as layout, semtable};
use crate::memory::Memory;
use byteorder::{ByteOrder, LittleEndian as LE};
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::Range;

/// Bytes of a program's variables that are searched.
const MAX_DATA: u64 = 1 << 30;
/// More goroutines than these there are not.
const MAX_GOROUTINES: u64 = 1 << 28;
/// Of a list that is only supposed to be one of goroutines, so many are looked at.
const SAMPLES: u64 = 64;
/// Bytes of a wait reason at most.
const LONGEST_REASON: u64 = 200;

/// Calls `visit` with the address of every aligned word of a range and the words from there on, three at least where
/// that many follow; stops when it says so.
fn each_word(memory: &dyn Memory, range: &Range<u64>, visit: &mut dyn FnMut(u64, &[u64]) -> bool) {
    const BLOCK: u64 = 1 << 20;
    const OVERLAP: u64 = 64;
    let end = range.end.min(range.start.saturating_add(MAX_DATA));
    let Some(mut at) = range.start.checked_next_multiple_of(8) else { return };
    while at < end {
        let len = BLOCK.min(end - at);
        if let Ok(words) = memory.words(at, len as usize / 8) {
            let last = if len == BLOCK { words.len() - (OVERLAP / 8) as usize } else { words.len() };
            for i in 0..last {
                if visit(at.wrapping_add(8 * i as u64), &words[i..]) {
                    return;
                }
            }
        }
        at += if len == BLOCK { BLOCK - OVERLAP } else { len };
    }
}

/// `runtime.allgs`: address of its array, and its length. The longest slice whose elements are goroutines.
pub fn allgs(memory: &dyn Memory, module: &Module, g: &GLayout) -> Option<(u64, u64)> {
    let mut best: Option<(u64, u64)> = None;
    each_word(memory, &module.data.bss, &mut |_, words| {
        let &[array, len, cap, ..] = words else { return false };
        let plausible = array != 0 && array % 8 == 0 && len <= cap && cap < MAX_GOROUTINES;
        if plausible && len > best.map_or(0, |(_, len)| len) && is_list(memory, array, len, g) {
            best = Some((array, len));
        }
        false
    });
    best
}

/// Whether most elements of the array are goroutines; some may be torn.
fn is_list(memory: &dyn Memory, array: u64, len: u64, g: &GLayout) -> bool {
    let step = len.div_ceil(SAMPLES).max(1);
    let (mut seen, mut sound) = (0, 0);
    for i in (0..len).step_by(step as usize) {
        seen += 1;
        let address = memory.u64(array.wrapping_add(8 * i)).unwrap_or(0);
        sound += u64::from(is_g(memory, address, g));
        // Most slices are none: the first few elements tell.
        if seen == 4 && sound < 2 {
            return false;
        }
    }
    sound > 0 && sound * 2 > seen
}

fn is_g(memory: &dyn Memory, address: u64, g: &GLayout) -> bool {
    const MAX_GOID: u64 = 1 << 48;
    const MAX_STACK: u64 = 2_000_000_000;
    if address == 0 || !address.is_multiple_of(8) {
        return false;
    }
    let Ok(bytes) = memory.bytes(address, g.size) else { return false };
    let word = |at: usize| bytes.get(at..at + 8).map_or(0, LE::read_u64);
    let (low, high, sp) = (word(g.stack_lo), word(g.stack_hi), word(g.sched_sp));
    let status = word(g.status) as u32 & !layout::SCAN;
    let dead = matches!(status, layout::DEAD | layout::DEAD_EXTRA);
    let stack = low < high && high - low <= MAX_STACK && (dead || sp == 0 || (low..=high).contains(&sp));
    let goid = word(g.goid);
    layout::status_name(status).is_some() && goid < MAX_GOID && (stack || dead && low == high) && (dead || goid > 0)
}

/// The texts of `runtime.waitReasonStrings`, by the first two of them.
pub fn reasons(memory: &dyn Memory, module: &Module, go: (u32, u32)) -> Option<Vec<String>> {
    let [_, second] = layout::FIRST_REASONS;
    let mut table = None;
    each_word(memory, &module.data.data, &mut |at, words| {
        let &[_, 0, text, len, ..] = words else { return false };
        let found = len == second.len() as u64
            && memory.bytes(text, second.len()).is_ok_and(|text| *text == *second.as_bytes());
        table = found.then_some(at);
        found
    });
    let table = table?;
    let text = |i: usize| {
        let header = table.wrapping_add(16 * i as u64);
        let len = memory.u64(header.wrapping_add(8)).ok().filter(|&len| len <= LONGEST_REASON)?;
        let text = memory.bytes(memory.u64(header).ok()?, len as usize).ok()?;
        String::from_utf8(text.into_owned()).ok()
    };
    let mut texts = vec![String::new()];
    texts.extend((1..layout::reasons(go)).map_while(text));
    Some(texts)
}

/// Waiters of one semaphore of which one must be known.
const MAX_WAITERS: usize = 16;

/// `runtime.semtable`, by its roots: each leads to a sudog of a goroutine whose semaphore has that root's number.
/// `None` when no goroutine waits on a semaphore, or the table is not in memory.
pub fn semaphores(
    memory: &dyn Memory,
    module: &Module,
    allgs: (u64, u64),
    at: &SudogLayout,
    treap: u64,
    arm: bool,
) -> Option<Table> {
    let gs = all(memory, allgs);
    let stride = if arm { semtable::STRIDE_ARM } else { semtable::STRIDE };
    let size = semtable::ROOTS * stride;
    let bss = &module.data.bss;
    let mut votes: FxHashMap<u64, u64> = FxHashMap::default();
    each_word(memory, bss, &mut |place, words| {
        let sudog = words.first().copied().unwrap_or(0);
        if sudog == 0 || sudog % 8 != 0 {
            return false;
        }
        let word = |offset: u64| memory.u64(sudog.wrapping_add(offset)).ok();
        // The first waiter may be one that a torn list has lost.
        let next = |waiter: &u64| memory.u64(waiter.wrapping_add(at.waitlink)).ok().filter(|&next| next != 0);
        let mut waiters = std::iter::successors(Some(sudog), next).take(MAX_WAITERS);
        let waits = waiters.any(|waiter| memory.u64(waiter.wrapping_add(at.g)).is_ok_and(|g| gs.contains(&g)));
        let Some(semaphore) = word(at.elem).filter(|&semaphore| waits && semaphore != 0) else { return false };
        let root = (semaphore >> 3) % semtable::ROOTS * stride;
        let table = place.checked_sub(root).and_then(|table| table.checked_sub(treap));
        if let Some(table) = table.filter(|&table| bss.start <= table && table.saturating_add(size) <= bss.end) {
            *votes.entry(table).or_default() += 1;
        }
        false
    });
    let is_table = |table: u64| {
        memory
            .bytes(table, size as usize)
            .is_ok_and(|bytes| bytes.chunks_exact(stride as usize).all(|root| is_root(root, treap)))
    };
    let mut best: Vec<(u64, u64)> = votes.into_iter().filter(|&(table, _)| is_table(table)).collect();
    best.sort_unstable_by_key(|&(table, votes)| (std::cmp::Reverse(votes), table));
    best.first().map(|&(address, _)| Table { address, count: semtable::ROOTS, stride })
}

/// Whether bytes can be a root of semaphores: waiters are counted exactly where there are any, and the padding is empty.
fn is_root(root: &[u8], treap: u64) -> bool {
    let after = treap as usize + 8;
    let (Some(first), Some(waiters)) = (root.get(treap as usize..after), root.get(after..after + 4)) else {
        return false;
    };
    let counted = LE::read_u32(waiters) > 0;
    let any = LE::read_u64(first) != 0;
    root[after + 4..].iter().all(|&byte| byte == 0) && any == counted
}

/// Addresses of all gs that can be read.
fn all(memory: &dyn Memory, (array, count): (u64, u64)) -> FxHashSet<u64> {
    const BLOCK: u64 = 1 << 16;
    let mut gs = FxHashSet::default();
    let mut done = 0;
    while done < count {
        let len = BLOCK.min(count - done);
        let Ok(bytes) = memory.bytes(array.wrapping_add(8 * done), 8 * len as usize) else { break };
        gs.extend(bytes.chunks_exact(8).map(LE::read_u64).filter(|&g| g != 0));
        done += len;
    }
    gs
}
