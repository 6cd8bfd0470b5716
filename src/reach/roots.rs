//! Where a traversal of untyped words begins, and how an interface is told among words.

use crate::error::Watch;
use crate::goroutine::runtime::Runtime;
use crate::heap::Heap;
use crate::memory::Memory;
use crate::session::Session;
use crate::Result;
use byteorder::{ByteOrder, LittleEndian as LE};
use rustc_hash::FxHashMap;
use std::ops::Range;

/// Goroutines of one process at most.
const MAX_GOROUTINES: u64 = 1 << 26;
/// Bytes of one stack at most (`maxstackceiling`, twice the default 1 GB: src/runtime/proc.go).
const MAX_STACK: u64 = 2_000_000_000;

/// First words of interfaces: descriptors and itabs, with the descriptor that each means.
pub struct Pairs {
    first: u64,
    last: u64,
    words: FxHashMap<u64, u64>,
}

impl Pairs {
    /// Those of the session's program.
    pub fn of(session: &Session) -> Result<Pairs> {
        let descriptors = session.types.descriptors()?;
        let mut words: FxHashMap<u64, u64> = session.types.type_index()?.addresses().map(|at| (at, at)).collect();
        for module in session.types.modules() {
            for itab in descriptors.itabs(module) {
                words.extend(descriptors.itab(itab).map(|found| (itab, found.ty)));
            }
        }
        let first = words.keys().min().copied().unwrap_or(0);
        let last = words.keys().max().copied().unwrap_or(0);
        Ok(Pairs { first, last, words })
    }

    /// The descriptor that a word means.
    pub fn descriptor(&self, word: u64) -> Option<u64> {
        match word < self.first || word > self.last {
            true => None,
            false => self.words.get(&word).copied(),
        }
    }
}

/// What a range of memory is whose words may be pointers.
pub enum Root {
    /// Package variables, each known by its address.
    Variables,
    /// A stack or a finalizer, as it is called.
    Named(String),
}

/// Ranges of memory whose words may be pointers: variables, stacks, finalizers.
pub fn ranges(session: &Session, heap: &Heap, watch: &dyn Watch) -> Result<Vec<(Root, Range<u64>)>> {
    let mut roots: Vec<(Root, Range<u64>)> = Vec::new();
    for module in session.types.modules() {
        for (range, mask) in [(&module.data.data, module.data.gcdatamask), (&module.data.bss, module.data.gcbssmask)] {
            roots.extend(pointers(&*session.memory, range, mask).into_iter().map(|part| (Root::Variables, part)));
        }
    }
    roots.extend(stacks(session).unwrap_or_default().into_iter().map(|(name, range)| (Root::Named(name), range)));
    for span in heap.spans() {
        watch.tick(0, 0)?;
        let specials = span.specials(&*session.memory).into_iter();
        roots.extend(specials.map(|range| (Root::Named(format!("finalizer at {:#x}", range.start)), range)));
    }
    Ok(roots)
}

/// The runs of words of `range` that its mask says are pointers; all of it when there is no mask for it.
fn pointers(memory: &dyn Memory, range: &Range<u64>, (address, bits): (u64, u64)) -> Vec<Range<u64>> {
    /// Words between two pointers that are looked at in one go.
    const GAP: u64 = 2;
    let words = (range.end.saturating_sub(range.start) / 8).min(bits);
    let Ok(mask) = memory.bytes(address, words.div_ceil(8) as usize) else { return vec![range.clone()] };
    let mut runs: Vec<Range<u64>> = Vec::new();
    for (at, byte) in (0..).step_by(64).zip(mask.iter()) {
        let mut left = *byte;
        while left != 0 {
            let word = range.start + at + 8 * u64::from(left.trailing_zeros());
            left &= left - 1;
            match runs.last_mut() {
                Some(run) if word <= run.end + 8 * GAP && run.end - run.start < 1 << 20 => run.end = word + 8,
                // Of an interface only the second word counts as a pointer.
                _ => runs.push(word.saturating_sub(8).max(range.start)..word + 8),
            }
        }
    }
    runs
}

/// The stacks of all goroutines, as far as the runtime's list of them is known.
fn stacks(session: &Session) -> Result<Vec<(String, Range<u64>)>> {
    let runtime = Runtime::of(session)?;
    let (list, count) = runtime.allgs;
    let memory = &*session.memory;
    let mut stacks = Vec::new();
    let list = memory.bytes(list, 8 * count.min(MAX_GOROUTINES) as usize)?;
    for g in list.chunks_exact(8).map(LE::read_u64) {
        let word = |offset: usize| memory.u64(g.wrapping_add(offset as u64)).unwrap_or(0);
        let (low, high) = (word(runtime.g.stack_lo), word(runtime.g.stack_hi));
        if low < high && high - low <= MAX_STACK {
            stacks.push((format!("stack of goroutine {}", word(runtime.g.goid)), low..high));
        }
    }
    Ok(stacks)
}
