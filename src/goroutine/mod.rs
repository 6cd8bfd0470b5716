//! Goroutines: which there are, what each waits on, and its stack; read from memory alone.

mod clues;
pub mod code;
mod coroutines;
mod flow;
pub mod holders;
mod leads;
pub mod leaks;
mod live;
pub mod locals;
mod locate;
pub mod lookup;
mod notes;
pub mod operand;
pub mod runtime;
mod semaphores;
mod shown;
pub mod sites;
mod stack;
mod vouch;
mod wait;
pub mod writers;

pub use code::{Code, Line};
pub use notes::{Limit, ListNote, Torn, Unsearched};
pub use runtime::Runtime;
pub use shown::Shown;
pub use stack::{Broken, Frame, On, Stack};
pub use vouch::Vouched;
pub use wait::{Blocked, Case, Channel, Direction, Queue, Sync, SyncKind, SyncState};

use crate::error::Watch;
use crate::layout::goroutine as layout;
use crate::map::GoMap;
use crate::memory::Thread;
use crate::session::Session;
use crate::{Error, Result};
use coroutines::Coroutines;
use rustc_hash::{FxHashMap, FxHashSet};
use semaphores::Semaphores;
use stack::{Stacks, Start};
use std::borrow::Cow;
use std::sync::Arc;
use wait::Waits;

/// One goroutine, as the runtime's own records have it.
#[derive(Debug, Clone)]
pub struct Goroutine {
    pub goid: u64,
    /// Address of its `runtime.g`.
    pub g: u64,
    /// `runtime.g.atomicstatus` without the scan bit.
    pub status: u32,
    /// The target's own text of why it waits; `None` when it does not.
    pub reason: Option<Arc<str>>,
    /// Who created it (Go 1.21 and later; 0 is nobody).
    pub parent: Option<u64>,
    /// The `go` statement.
    pub created_at: Option<Line>,
    /// Where that statement's call returns to.
    pub created_pc: Option<u64>,
    /// The function it started in.
    pub start: Option<Line>,
    /// pprof labels.
    pub labels: Vec<(String, String)>,
    /// ID of its M, the kernel's ID of that thread, and ID of the P it runs on.
    pub m: Option<u64>,
    pub thread: Option<u64>,
    pub p: Option<i32>,
    /// When a garbage collection first saw it waiting, in the runtime's nanotime; not when it began to wait.
    pub seen_waiting_since: Option<i64>,
    /// Whether it runs on one thread only, its own (`runtime.LockOSThread`, a callback from C).
    pub locked: bool,
    /// Who started the goroutine that started this one, and so on, where `GODEBUG=tracebackancestors` kept it.
    pub ancestors: Vec<Ancestor>,
    /// What it waits on.
    pub blocked_on: Option<Blocked>,
    /// Its frames, innermost first.
    pub stack: Stack,
    /// Whether it is one of the runtime's own.
    pub system: bool,
    /// Whether it is in a call of C; its frames are those below that call.
    pub in_c: bool,
    /// What about it could not be read.
    pub torn: Vec<Torn>,
}

/// A goroutine that led to another, as it was when it started that or its next ancestor.
#[derive(Debug, Clone)]
pub struct Ancestor {
    pub goid: u64,
    /// Its lines then, the `go` statement first.
    pub lines: Vec<Line>,
    /// Whether the runtime kept no more than these.
    pub cut: bool,
    /// The `go` statement that started it.
    pub created_at: Option<Line>,
}

impl Goroutine {
    /// The name of its status.
    pub fn status_name(&self) -> Cow<'static, str> {
        match layout::status_name(self.status) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(format!("unknown status {}", self.status)),
        }
    }

    /// What a traceback of the runtime has in brackets: the wait reason, else the status.
    pub fn state(&self) -> String {
        match &self.reason {
            Some(reason) => reason.to_string(),
            None => self.status_name().into_owned(),
        }
    }

    /// All lines of its stack, inlined calls included, innermost first.
    pub fn lines(&self) -> impl Iterator<Item = (&Frame, &Line)> {
        self.stack.frames.iter().flat_map(|frame| frame.info.lines.iter().map(move |line| (frame, line)))
    }
}

/// What there is beside the goroutines themselves.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// Dead ones, whose memory waits to be used again.
    pub dead: u64,
    /// What could not be read of the list itself.
    pub notes: Vec<ListNote>,
}

/// All goroutines of a target.
pub struct Goroutines {
    /// In the order of `runtime.allgs`; dead ones left out.
    pub all: Vec<Goroutine>,
    /// What there is beside.
    pub listed: Listed,
}

impl Goroutines {
    /// Goroutine IDs by the address of their g.
    pub fn ids(&self) -> FxHashMap<u64, u64> {
        self.all.iter().map(|goroutine| (goroutine.g, goroutine.goid)).collect()
    }
}

/// Entries of the list read at once: a torn length costs no more than the memory that there is.
const BLOCK: u64 = 4096;
/// Ticks of the watch: one every so many goroutines.
const TICK: u64 = 256;
/// Lost entries of the list that are told one by one.
const TOLD: u64 = 20;

/// Lists all goroutines with their stacks and what they wait on.
///
/// Fails only when the list itself cannot be found; what is torn in one goroutine is said there.
pub fn list(session: &Session, watch: &dyn Watch) -> Result<Goroutines> {
    let runtime = Runtime::of(session)?;
    // No room for more than the memory that there is can hold, whatever a torn list claims.
    let room = session.memory.size().map_or(0, |size| size / runtime.g.size.max(1) as u64);
    let mut all = Vec::with_capacity(runtime.allgs.1.min(room) as usize);
    let listed = each(&runtime, watch, &mut |mut goroutine| {
        goroutine.stack.frames.shrink_to_fit();
        all.push(goroutine);
        Ok(())
    })?;
    Ok(Goroutines { all, listed })
}

/// Reads one goroutine after the other, dead ones left out.
pub fn each(
    runtime: &Runtime<'_>,
    watch: &dyn Watch,
    visit: &mut dyn FnMut(Goroutine) -> Result<()>,
) -> Result<Listed> {
    let mut reader = Reader::new(runtime, watch)?;
    let mut listed = Listed::default();
    let mut lost = 0u64;
    let notes = each_g(runtime, &mut |entry, g| {
        if entry.is_multiple_of(TICK) {
            watch.tick(entry, runtime.allgs.1)?;
        }
        match reader.read(g) {
            Ok(Some(goroutine)) => visit(goroutine)?,
            Ok(None) => listed.dead += 1,
            Err(error) => {
                lost += 1;
                if lost <= TOLD {
                    listed.notes.push(ListNote::Lost { g, entry, error });
                }
            }
        }
        Ok(())
    })?;
    if lost > TOLD {
        listed.notes.push(ListNote::MoreLost(lost - TOLD));
    }
    listed.notes.extend(notes);
    Ok(listed)
}

/// Goroutine IDs by the address of their g, dead ones left out.
pub fn ids(runtime: &Runtime<'_>) -> Result<FxHashMap<u64, u64>> {
    let at = &runtime.g;
    let mut ids = FxHashMap::default();
    each_g(runtime, &mut |_, g| {
        let word = |at: usize| runtime.memory.u64(g.wrapping_add(at as u64)).unwrap_or(0);
        let status = word(at.status) as u32 & !layout::SCAN;
        if !matches!(status, layout::DEAD | layout::DEAD_EXTRA) {
            ids.insert(g, word(at.goid));
        }
        Ok(())
    })?;
    Ok(ids)
}

/// Addresses of the records of dead goroutines.
fn dead(runtime: &Runtime<'_>) -> Result<FxHashSet<u64>> {
    let mut dead = FxHashSet::default();
    each_g(runtime, &mut |_, g| {
        let status = runtime.memory.u32(g.wrapping_add(runtime.g.status as u64)).unwrap_or(0) & !layout::SCAN;
        if matches!(status, layout::DEAD | layout::DEAD_EXTRA) {
            dead.insert(g);
        }
        Ok(())
    })?;
    Ok(dead)
}

/// Visits the number and the address of each entry of `runtime.allgs`; what is wrong with the list itself is returned.
fn each_g(runtime: &Runtime<'_>, visit: &mut dyn FnMut(u64, u64) -> Result<()>) -> Result<Vec<ListNote>> {
    let memory = runtime.memory;
    let (array, said) = runtime.allgs;
    let mut notes = Vec::new();
    // No more goroutines than fit into the memory that there is.
    let room = memory.size().map_or(u64::MAX, |size| size / runtime.g.size.max(1) as u64);
    let count = said.min(room);
    if count < said {
        notes.push(ListNote::ImpossibleLength(said));
    }
    let (mut seen, mut twice, mut empty) = (FxHashSet::default(), 0u64, 0u64);
    let mut index = 0;
    while index < count {
        let block = (count - index).min(BLOCK);
        let at = array.wrapping_add(index.wrapping_mul(8));
        let words = match memory.bytes(at, (block * 8) as usize) {
            Ok(words) => words,
            // What is left of a block with a hole in it is read word by word.
            Err(error) => {
                let place = |i: u64| at.wrapping_add(8 * i);
                let there: Vec<u8> = (0..block).map_while(|i| memory.array::<8>(place(i)).ok()).flatten().collect();
                let lost = index + there.len() as u64 / 8;
                notes.push(ListNote::Unreadable { first: lost, end: count, error });
                Cow::Owned(there)
            }
        };
        for (i, word) in words.chunks_exact(8).enumerate() {
            let g = word.try_into().map(u64::from_le_bytes).unwrap_or(0);
            match (g, seen.insert(g)) {
                (0, _) => empty += 1,
                (_, false) => twice += 1,
                _ => visit(index + i as u64, g)?,
            }
        }
        if words.len() as u64 != block * 8 {
            break;
        }
        index += block;
    }
    notes.extend((twice > 0).then_some(ListNote::Repeated(twice)));
    notes.extend((empty > 0).then_some(ListNote::Empty(empty)));
    Ok(notes)
}

/// The goroutine with this ID, with its stack and what it waits on.
pub fn find(session: &Session, goid: u64, watch: &dyn Watch) -> Result<Goroutine> {
    let runtime = Runtime::of(session)?;
    let (array, count) = runtime.allgs;
    for index in 0..count {
        if index.is_multiple_of(TICK) {
            watch.tick(index, count)?;
        }
        let Ok(g) = runtime.memory.u64(array.wrapping_add(index.wrapping_mul(8))) else { break };
        if runtime.memory.u64(g.wrapping_add(runtime.g.goid as u64)).ok() != Some(goid) {
            continue;
        }
        if let Some(found) = Reader::new(&runtime, watch)?.read(g)? {
            return Ok(found);
        }
    }
    Err(Error::Usage(format!("there is no goroutine {goid}; gomap goroutines lists those that there are")))
}

/// Reads one goroutine after the other.
struct Reader<'r> {
    runtime: &'r Runtime<'r>,
    code: Code<'r>,
    waits: Waits<'r>,
    /// Read when the first one parked at one is met.
    coroutines: Option<Coroutines>,
    watch: &'r dyn Watch,
}

/// A word of a g that was read whole.
fn word(g: &[u8], at: usize) -> u64 {
    let bytes = at.checked_add(8).and_then(|end| g.get(at..end)).and_then(|b| b.try_into().ok());
    bytes.map_or(0, u64::from_le_bytes)
}

impl<'r> Reader<'r> {
    fn new(runtime: &'r Runtime<'r>, watch: &'r dyn Watch) -> Result<Reader<'r>> {
        Ok(Reader {
            runtime,
            code: Code::of(runtime.session)?,
            waits: Waits::new(runtime, Semaphores::read(runtime, watch)?),
            coroutines: None,
            watch,
        })
    }

    /// The goroutine at `address`; `None` when it is dead.
    fn read(&mut self, address: u64) -> Result<Option<Goroutine>> {
        let at = &self.runtime.g;
        let g = self.runtime.memory.bytes(address, at.size)?;
        let status = word(&g, at.status) as u32 & !layout::SCAN;
        if matches!(status, layout::DEAD | layout::DEAD_EXTRA) || word(&g, at.goid) == 0 {
            return Ok(None);
        }
        let mut goroutine = Goroutine {
            goid: word(&g, at.goid),
            g: address,
            status,
            reason: self.reason(status, &g),
            parent: at.parent.map(|at| word(&g, at)),
            created_at: None,
            created_pc: None,
            start: self.line(word(&g, at.startpc), false),
            labels: Vec::new(),
            m: None,
            thread: None,
            p: None,
            seen_waiting_since: None,
            locked: word(&g, at.lockedm) != 0,
            ancestors: Vec::new(),
            blocked_on: None,
            stack: Stack::default(),
            system: false,
            in_c: false,
            torn: Vec::new(),
        };
        // The first goroutine has a gopc too, in the start-up code that nobody called.
        if goroutine.goid != 1 {
            goroutine.created_at = self.line(word(&g, at.gopc), true);
            goroutine.created_pc = Some(word(&g, at.gopc));
        }
        if layout::status_name(status).is_none() {
            goroutine.torn.push(Torn::Status(status));
        }
        if status == layout::COPYSTACK {
            goroutine.torn.push(Torn::StackMoves);
        }
        if matches!(status, layout::WAITING | layout::LEAKED) {
            goroutine.seen_waiting_since = Some(word(&g, at.waitsince) as i64).filter(|&since| since != 0);
        }
        match self.labels(word(&g, at.labels)) {
            Ok(labels) => goroutine.labels = labels,
            Err(error) => goroutine.torn.push(Torn::Labels(error)),
        }
        match self.ancestors(word(&g, at.ancestors)) {
            Ok(ancestors) => goroutine.ancestors = ancestors,
            Err(error) => goroutine.torn.push(Torn::Ancestors(error)),
        }
        let m = word(&g, at.m);
        if m != 0 {
            self.read_m(m, &mut goroutine);
        }
        goroutine.stack = self.stack(&g, m, &goroutine);
        goroutine.system = is_system(&goroutine);
        let innermost = goroutine.stack.frames.first().map_or("", |frame| frame.info.func());
        goroutine.in_c = status == layout::SYSCALL && innermost == "runtime.cgocall";
        if let Some(why) = &goroutine.stack.broken {
            goroutine.torn.push(Torn::StackEnds(why.clone()));
        }
        if goroutine.reason.as_deref() == Some(layout::WAITS_FOR_COROUTINE) {
            goroutine.blocked_on = self.coroutine_of(address)?;
        } else if goroutine.reason.is_some() {
            let timer = at.timer.map_or(0, |at| word(&g, at));
            goroutine.blocked_on = self.waits.blocked_on(&goroutine, word(&g, at.waiting), timer);
        }
        Ok(Some(goroutine))
    }

    /// The coroutine that the goroutine whose g is at `g` is parked at.
    fn coroutine_of(&mut self, g: u64) -> Result<Option<Blocked>> {
        let known = match self.coroutines.take() {
            Some(known) => known,
            None => Coroutines::read(self.runtime, &mut self.code, self.watch)?,
        };
        Ok(self.coroutines.insert(known).of(g))
    }

    fn reason(&self, status: u32, g: &[u8]) -> Option<Arc<str>> {
        if !matches!(status, layout::WAITING | layout::LEAKED) {
            return None;
        }
        let number = *g.get(self.runtime.g.waitreason)?;
        let known = self.runtime.reasons.get(number as usize).filter(|text| !text.is_empty());
        Some(known.cloned().unwrap_or_else(|| format!("wait reason {number}").into()))
    }

    /// The source line of a PC: of the call before it when `returned`.
    fn line(&mut self, pc: u64, returned: bool) -> Option<Line> {
        let info = self.code.at(pc, returned)?;
        let line = if returned { info.lines.first() } else { info.lines.last() };
        line.cloned()
    }

    fn labels(&self, labels: u64) -> Result<Vec<(String, String)>> {
        const MOST: u64 = 1000;
        if labels == 0 {
            return Ok(Vec::new());
        }
        let memory = self.runtime.memory;
        let text = |header: u64| -> Result<String> {
            const LONGEST: u64 = 1 << 16;
            let len = memory.u64(header.wrapping_add(8))?.min(LONGEST) as usize;
            Ok(String::from_utf8_lossy(&memory.bytes(memory.u64(header)?, len)?).into_owned())
        };
        let mut found = Vec::new();
        if self.runtime.go >= (1, 24) {
            let (array, len) = (memory.u64(labels)?, memory.u64(labels.wrapping_add(8))?);
            for i in 0..len.min(MOST) {
                let label = array.wrapping_add(i * 32);
                found.push((text(label)?, text(label.wrapping_add(16))?));
            }
            return Ok(found);
        }
        let types = &self.runtime.session.types;
        let ty = self.runtime.session.type_named("map[string]string")?;
        let map = GoMap::open(memory, types, ty, memory.u64(labels)?)?;
        map.each(self.watch, &mut |entry| {
            found.push((text(entry.key_address)?, text(entry.elem_address)?));
            Ok((found.len() as u64) < MOST)
        })?;
        found.sort();
        Ok(found)
    }

    /// `g.ancestors`: a slice of `ancestorInfo{pcs []uintptr; goid uint64; gopc uintptr}` (src/runtime/runtime2.go
    /// go1.19 to 1.27).
    fn ancestors(&mut self, slice: u64) -> Result<Vec<Ancestor>> {
        const SIZE: u64 = 40;
        // What one asks GODEBUG for; more is not one's history but a broken length.
        const MOST: u64 = 1000;
        // `tracebackInnerFrames`, src/runtime/traceback.go.
        const KEPT: u64 = 50;
        if slice == 0 {
            return Ok(Vec::new());
        }
        let memory = self.runtime.memory;
        let (array, len) = (memory.u64(slice)?, memory.u64(slice.wrapping_add(8))?);
        let mut ancestors = Vec::new();
        for i in 0..len.min(MOST) {
            let words = memory.words(array.wrapping_add(i * SIZE), 5)?;
            let [pcs, count, _, goid, gopc] = words[..] else { break };
            let pcs = memory.words(pcs, count.min(KEPT) as usize)?;
            let lines = pcs.into_iter().filter_map(|pc| self.line(pc, true)).collect();
            let created_at = if goid == 1 { None } else { self.line(gopc, true) };
            ancestors.push(Ancestor { goid, lines, cut: count >= KEPT, created_at });
        }
        Ok(ancestors)
    }

    fn read_m(&self, m: u64, goroutine: &mut Goroutine) {
        let (memory, at) = (self.runtime.memory, &self.runtime.m);
        let word = |offset: u64| memory.u64(m.wrapping_add(offset)).ok();
        goroutine.m = word(at.id);
        goroutine.thread = word(at.procid);
        goroutine.p =
            word(at.p).filter(|&p| p != 0).and_then(|p| Some(memory.u32(p.wrapping_add(at.p_id)).ok()? as i32));
    }

    /// Walks the stack from where the goroutine's state says that its registers are.
    fn stack(&mut self, g: &[u8], m: u64, goroutine: &Goroutine) -> Stack {
        let at = &self.runtime.g;
        let mut stacks = Stacks { goroutine: (word(g, at.stack_lo), word(g, at.stack_hi)), ..Stacks::default() };
        let saved =
            Start { pc: word(g, at.sched_pc), sp: word(g, at.sched_sp), lr: word(g, at.sched_lr), exact: false };
        let syscall = Start { pc: word(g, at.syscall_pc), sp: word(g, at.syscall_sp), lr: 0, exact: false };
        let start = match goroutine.status {
            layout::SYSCALL if syscall.sp != 0 => syscall,
            layout::RUNNING | layout::SYSCALL => {
                stacks.system = self.stack_of(m.wrapping_add(self.runtime.m.g0));
                stacks.signal = self.stack_of(m.wrapping_add(self.runtime.m.gsignal));
                let Some(registers) = self.registers(goroutine.thread, &stacks) else {
                    return Stack { frames: Vec::new(), broken: Some(Broken::NoRegisters) };
                };
                stacks.saved = Some(saved);
                self.before_vdso(m).unwrap_or(registers)
            }
            _ => saved,
        };
        if start.sp == 0 {
            return Stack::default();
        }
        stack::walk(self.runtime, &mut self.code, start, &stacks)
    }

    /// Where the thread was when it called the kernel's vDSO, while it is in there: that has no frames of Go
    /// (`traceback1`, src/runtime/traceback.go go1.21 to 1.27).
    fn before_vdso(&self, m: u64) -> Option<Start> {
        let word = |at: u64| self.runtime.memory.u64(m.wrapping_add(at)).ok();
        let sp = word(self.runtime.m.vdso_sp).filter(|&sp| sp != 0)?;
        Some(Start { pc: word(self.runtime.m.vdso_pc)?, sp, lr: 0, exact: false })
    }

    /// Low and high end of the stack of the g that the word at `pointer` leads to.
    fn stack_of(&self, pointer: u64) -> (u64, u64) {
        let memory = self.runtime.memory;
        let end = |at: usize| memory.u64(memory.u64(pointer).ok()?.checked_add(at as u64)?).ok();
        (end(self.runtime.g.stack_lo).unwrap_or(0), end(self.runtime.g.stack_hi).unwrap_or(0))
    }

    /// Where the thread is that runs a goroutine with these stacks: the one of that ID, else the one that is on them,
    /// for in another PID namespace threads have other IDs.
    fn registers(&self, tid: Option<u64>, stacks: &Stacks) -> Option<Start> {
        let (arm, threads) = (self.runtime.arm, &self.runtime.session.threads);
        let start = |thread: &Thread| {
            let [pc, sp, _, _] = thread.pc_sp_bp_g(arm)?;
            Some(Start { pc, sp, lr: thread.link(arm).unwrap_or(0), exact: true })
        };
        let on_stacks = |start: &Start| stacks.of(start.sp).is_some();
        let named = threads.iter().find(|thread| Some(thread.tid) == tid).and_then(start);
        named.filter(on_stacks).or_else(|| threads.iter().filter_map(start).find(on_stacks)).or(named)
    }
}

/// `runtime.isSystemGoroutine` (src/runtime/traceback.go go1.21 to 1.27), by name: coroutines (`iter.Pull`) are the
/// user's. The goroutine of finalizers and cleanups is the user's while it runs the user's code.
fn is_system(goroutine: &Goroutine) -> bool {
    const USERS: [&str; 3] = ["runtime.main", "runtime.corostart", "runtime.handleAsyncEvent"];
    const BOTH: [&str; 3] = ["runtime.runfinq", "runtime.runFinalizers", "runtime.runCleanups"];
    let Some(start) = &goroutine.start else { return false };
    let runtimes = |func: &str| func.starts_with("runtime.");
    match BOTH.contains(&&*start.func) {
        true => goroutine.lines().all(|(_, line)| runtimes(&line.func)),
        false => runtimes(&start.func) && !USERS.contains(&&*start.func),
    }
}
