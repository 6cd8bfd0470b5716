//! The scheduler as the events tell it: decides whether a thread's next event can have happened yet.
//!
//! Threads' clocks tie and (on some machines) disagree, so time alone does not order events of
//! different threads. What does: each goroutine and P is in one state, and events that bind one to a
//! thread carry a number that counts within the generation. An event that does not fit yet waits until
//! others have passed; one that can never fit means the trace is broken.
//!
//! Facts: Go 1.27.3 `src/internal/trace/order.go`.

mod annotations;
mod goroutines;
mod passed;
mod procs;
mod ranges;

use super::error::TraceError;
use super::event::{Event, GoState, Kind, StackId, NONE};
use super::generation::Generation;
use super::wire::tag;
pub(super) use passed::{Moved, Passed, Place};
use ranges::RangeKey;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::hash_map::Entry;

/// A timed event before it is ordered; `args` without the time difference.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Raw {
    pub tag: u8,
    pub time: i64,
    pub args: [u64; 4],
}

/// Why no order of the events makes sense: what, and the id it happened to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Broken(pub &'static str, pub i64);

impl Broken {
    pub fn at(self, time: i64) -> TraceError {
        TraceError::Order { time, what: self.0, id: self.1 }
    }
}

/// Whether the event has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advance {
    Passed,
    /// Another thread's event must pass first.
    NotYet,
}

type Step = Result<Advance, Broken>;

/// An id and where its state is, which saves looking that up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    id: i64,
    slot: u32,
}

impl Held {
    const NOTHING: Held = Held { id: NONE, slot: u32::MAX };

    fn is_nothing(self) -> bool {
        self.id == NONE
    }
}

/// What a thread runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Context {
    /// [`NONE`] for none.
    thread: i64,
    proc: Held,
    goroutine: Held,
}

impl Context {
    fn needs_thread(&self) -> Result<(), Broken> {
        if self.thread == NONE {
            return Err(Broken("an event that needs a thread has none", NONE));
        }
        Ok(())
    }

    fn needs_proc(&self) -> Result<(), Broken> {
        self.needs_thread()?;
        if self.proc.is_nothing() {
            return Err(Broken("an event on a thread that has no P", self.thread));
        }
        Ok(())
    }

    fn needs_goroutine(&self) -> Result<(), Broken> {
        self.needs_thread()?;
        if self.goroutine.is_nothing() {
            return Err(Broken("an event on a thread that runs no goroutine", self.thread));
        }
        Ok(())
    }

    fn needs_no_goroutine(&self) -> Result<(), Broken> {
        if !self.goroutine.is_nothing() {
            return Err(Broken("a thread starts a goroutine while it runs another", self.goroutine.id));
        }
        Ok(())
    }

    /// User code runs: thread, P and goroutine are all there.
    fn runs_user_code(&self) -> Result<(), Broken> {
        self.needs_proc()?;
        self.needs_goroutine()
    }
}

/// A count within a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seq {
    generation: u64,
    count: u64,
}

impl Seq {
    fn follows(self, before: Seq) -> bool {
        self.generation == before.generation && Some(self.count) == before.count.checked_add(1)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GoStatus {
    Runnable,
    Running,
    Syscall,
    Waiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcStatus {
    Running,
    Idle,
    Syscall,
    /// In a syscall on a thread that is gone.
    Abandoned,
}

#[derive(Debug, Clone, Copy)]
struct Goroutine {
    id: i64,
    status: GoStatus,
    seq: Seq,
}

/// Goroutines that exist, each in a slot that another takes over when it has ended.
#[derive(Debug, Default)]
struct Goroutines {
    slots: Vec<Goroutine>,
    free: Vec<u32>,
    slot_of: FxHashMap<i64, u32>,
}

impl Goroutines {
    fn find(&self, id: i64) -> Option<Held> {
        self.slot_of.get(&id).map(|slot| Held { id, slot: *slot })
    }

    /// The state of a goroutine that may have ended, and its slot have been taken over, since it was held.
    #[inline]
    fn held(&mut self, held: Held) -> Option<&mut Goroutine> {
        let slot = match self.slots.get(held.slot as usize) {
            Some(there) if there.id == held.id && !held.is_nothing() => held.slot,
            _ => *self.slot_of.get(&held.id)?,
        };
        self.slots.get_mut(slot as usize)
    }

    fn get_mut(&mut self, id: i64) -> Option<(Held, &mut Goroutine)> {
        let held = self.find(id)?;
        self.slots.get_mut(held.slot as usize).map(|state| (held, state))
    }

    /// Adds one; None when it is there.
    fn add(&mut self, state: Goroutine) -> Option<Held> {
        let slot = *self.free.last().unwrap_or(&(self.slots.len() as u32));
        match self.slot_of.entry(state.id) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(vacant) => vacant.insert(slot),
        };
        self.free.pop();
        match self.slots.get_mut(slot as usize) {
            Some(free) => *free = state,
            None => self.slots.push(state),
        }
        Some(Held { id: state.id, slot })
    }

    fn remove(&mut self, id: i64) {
        let Some(slot) = self.slot_of.remove(&id) else { return };
        if let Some(state) = self.slots.get_mut(slot as usize) {
            state.id = NONE;
        }
        self.free.push(slot);
    }
}

#[derive(Debug, Clone, Copy)]
struct Proc {
    id: i64,
    status: ProcStatus,
    seq: Seq,
    /// The thread that had it last.
    owner: i64,
}

#[derive(Debug, Clone, Copy)]
struct Thread {
    id: i64,
    /// Whether an event of this thread, or one that names it, was looked at.
    known: bool,
    goroutine: Held,
    proc: Held,
}

/// The index of a thread in [`Order`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ThreadSlot(usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GcMark {
    Undetermined,
    NotRunning,
    Running,
}

/// The state of the whole scheduler.
#[derive(Debug)]
pub(super) struct Order<'a> {
    goroutines: Goroutines,
    procs: Vec<Proc>,
    proc_of: FxHashMap<i64, u32>,
    threads: Vec<Thread>,
    thread_of: FxHashMap<i64, usize>,
    /// Active tasks: name and parent.
    tasks: FxHashMap<u64, (&'a [u8], i64)>,
    /// Open regions by goroutine.
    regions: FxHashMap<i64, Vec<(u64, &'a [u8])>>,
    /// Open ranges.
    ranges: FxHashSet<RangeKey>,
    /// Open stops of the world by goroutine: the reasons' string ids.
    stops: FxHashMap<i64, Vec<u64>>,
    gc_seq: u64,
    gc_mark: GcMark,
    first_generation: Option<u64>,
    pub(super) passed: Passed<'a>,
}

/// A goroutine's change of state; the reason by its place among the generation's strings.
struct Change {
    from: GoState,
    to: GoState,
    reason: u32,
    /// Its own stack: where it starts when created, where it stands otherwise.
    own: Option<StackId>,
    /// That of the context's goroutine.
    stack: Option<StackId>,
}

impl Change {
    fn new(from: GoState, to: GoState) -> Change {
        Change { from, to, reason: 0, own: None, stack: None }
    }
}

/// What a step needs to know around its event.
struct At<'g, 'a> {
    raw: &'g Raw,
    generation: &'g Generation<'a>,
    first: bool,
    slot: Option<ThreadSlot>,
    now: Context,
}

impl<'a> At<'_, 'a> {
    fn arg(&self, i: usize) -> u64 {
        self.raw.args.get(i).copied().unwrap_or_default()
    }

    fn id(&self, i: usize) -> i64 {
        self.arg(i) as i64
    }

    fn seq(&self, i: usize) -> Seq {
        Seq { generation: self.generation.number, count: self.arg(i) }
    }

    fn start_of_generation(&self) -> Seq {
        Seq { generation: self.generation.number, count: 0 }
    }

    /// The place of the string that an argument names.
    fn place(&self, i: usize) -> Result<u32, Broken> {
        let id = self.arg(i);
        self.generation.tables.place_of(id).ok_or(Broken("an event names a string that is not there", id as i64))
    }

    fn text(&self, i: usize) -> Result<&'a [u8], Broken> {
        Ok(self.generation.tables.text(self.place(i)?))
    }

    /// The stack an argument names; id 0 is an empty stack.
    fn stack(&self, i: usize) -> Result<StackId, Broken> {
        let id = self.arg(i);
        self.generation.tables.stack(id).ok_or(Broken("an event names a stack that is not there", id as i64))
    }

    /// The stack an argument names, None for id 0.
    fn stack_or_none(&self, i: usize) -> Result<Option<StackId>, Broken> {
        Ok(Some(self.stack(i)?).filter(|stack| *stack != StackId::EMPTY))
    }
}

impl<'a> Order<'a> {
    pub fn new() -> Order<'a> {
        Order {
            goroutines: Goroutines::default(),
            procs: Vec::new(),
            proc_of: FxHashMap::default(),
            threads: Vec::new(),
            thread_of: FxHashMap::default(),
            tasks: FxHashMap::default(),
            regions: FxHashMap::default(),
            ranges: FxHashSet::default(),
            stops: FxHashMap::default(),
            gc_seq: 0,
            gc_mark: GcMark::Undetermined,
            first_generation: None,
            passed: Passed::default(),
        }
    }

    /// The slot of thread `id`, None for no thread.
    pub fn slot(&mut self, id: i64) -> Option<ThreadSlot> {
        if id == NONE {
            return None;
        }
        let next = self.threads.len();
        let at = *self.thread_of.entry(id).or_insert(next);
        if at == next {
            self.threads.push(Thread { id, known: false, goroutine: Held::NOTHING, proc: Held::NOTHING });
        }
        Some(ThreadSlot(at))
    }

    /// Events of this generation come next.
    pub fn enter(&mut self, generation: u64) {
        self.first_generation.get_or_insert(generation);
    }

    /// Where goroutine `id` is, if it is.
    pub fn slot_of_goroutine(&self, id: i64) -> u32 {
        self.goroutines.find(id).unwrap_or(Held::NOTHING).slot
    }

    /// The threads and Ps that the events have told of.
    pub fn threads(&self) -> impl Iterator<Item = i64> + '_ {
        self.threads.iter().filter(|thread| thread.known).map(|thread| thread.id)
    }

    pub fn procs(&self) -> impl Iterator<Item = i64> + '_ {
        self.procs.iter().map(|proc| proc.id)
    }

    /// Lets the thread's event pass if it can have happened now.
    #[inline]
    pub fn advance(&mut self, raw: &Raw, slot: Option<ThreadSlot>, generation: &Generation<'a>) -> Step {
        let first = self.first_generation == Some(generation.number);
        let mut now = Context { thread: NONE, proc: Held::NOTHING, goroutine: Held::NOTHING };
        if let Some(thread) = slot.and_then(|slot| self.threads.get_mut(slot.0)) {
            thread.known = true;
            now = Context { thread: thread.id, proc: thread.proc, goroutine: thread.goroutine };
        }
        let at = At { raw, generation, first, slot, now };
        match raw.tag {
            tag::GO_CREATE | tag::GO_CREATE_BLOCKED => self.go_create(&at),
            tag::GO_CREATE_SYSCALL => self.go_create_syscall(&at),
            tag::GO_START => self.go_start(&at),
            tag::GO_DESTROY | tag::GO_STOP | tag::GO_BLOCK => self.go_leave(&at),
            tag::GO_DESTROY_SYSCALL => self.go_destroy_syscall(&at),
            tag::GO_UNBLOCK => self.go_unblock(&at),
            tag::GO_SYSCALL_BEGIN => self.syscall_begin(&at),
            tag::GO_SYSCALL_END => self.syscall_end(&at),
            tag::GO_SYSCALL_END_BLOCKED => self.syscall_end_blocked(&at),
            tag::GO_STATUS | tag::GO_STATUS_STACK => self.go_status(&at),
            tag::GO_SWITCH | tag::GO_SWITCH_DESTROY => self.go_switch(&at),
            tag::PROC_START => self.proc_start(&at),
            tag::PROC_STOP => self.proc_stop(&at),
            tag::PROC_STEAL => self.proc_steal(&at),
            tag::PROC_STATUS => self.proc_status(&at),
            tag::STW_BEGIN | tag::GC_ASSIST_BEGIN => self.goroutine_range_begin(&at),
            tag::STW_END | tag::GC_ASSIST_END => self.goroutine_range_end(&at),
            tag::GC_ASSIST_ACTIVE => self.assist_active(&at),
            tag::GC_SWEEP_BEGIN => self.sweep_begin(&at),
            tag::GC_SWEEP_ACTIVE => self.sweep_active(&at),
            tag::GC_SWEEP_END => self.sweep_end(&at),
            tag::GC_ACTIVE => self.gc_active(&at),
            tag::GC_BEGIN => self.gc_begin(&at),
            tag::GC_END => self.gc_end(&at),
            tag::PROCS_CHANGE => self.procs_change(&at),
            tag::HEAP_ALLOC | tag::HEAP_GOAL => self.heap_metric(&at),
            tag::GO_LABEL => self.label(&at),
            tag::TASK_BEGIN => self.task_begin(&at),
            tag::TASK_END => self.task_end(&at),
            tag::REGION_BEGIN => self.region_begin(&at),
            tag::REGION_END => self.region_end(&at),
            tag::LOG => self.log(&at),
            tag::SPAN..=tag::GOROUTINE_STACK_FREE => self.experimental(&at),
            other => Err(Broken("an event that has no place in a thread's stream", i64::from(other))),
        }
    }

    /// Sets what the event's thread runs from now on.
    #[inline]
    fn bind(&mut self, at: &At, proc: Held, goroutine: Held) {
        if let Some(thread) = at.slot.and_then(|slot| self.threads.get_mut(slot.0)) {
            thread.proc = proc;
            thread.goroutine = goroutine;
        }
    }

    /// The event passes, in the context before it.
    #[inline(always)]
    fn pass(&mut self, at: &At, kind: Kind<'a>, stack: Option<StackId>) -> Step {
        self.pass_in(at.now, at, kind, stack)
    }

    #[inline(always)]
    fn pass_in(&mut self, now: Context, at: &At, kind: Kind<'a>, stack: Option<StackId>) -> Step {
        let Context { thread, proc, goroutine } = now;
        let (slot, proc, goroutine) = (goroutine.slot, proc.id, goroutine.id);
        self.passed.push(Event { time: at.raw.time, thread, proc, goroutine, kind, stack, slot });
        Ok(Advance::Passed)
    }

    /// A goroutine changes its state, in the context before it.
    #[inline(always)]
    fn moves(&mut self, now: Context, at: &At, goroutine: Held, change: Change) -> Step {
        let Change { from, to, reason, own, stack } = change;
        self.passed.push_moved(Moved {
            time: at.raw.time,
            thread: now.thread,
            proc: now.proc.id,
            goroutine: now.goroutine.id,
            goid: goroutine.id,
            slot: goroutine.slot,
            reason,
            own,
            stack,
            from,
            to,
        });
        Ok(Advance::Passed)
    }

    #[inline]
    fn current_goroutine(&mut self, at: &At) -> Result<&mut Goroutine, Broken> {
        let held = at.now.goroutine;
        self.goroutines.held(held).ok_or(Broken("an event of a goroutine that does not exist", held.id))
    }

    #[inline]
    fn current_proc(&mut self, at: &At) -> Result<&mut Proc, Broken> {
        let Held { id, slot } = at.now.proc;
        self.procs.get_mut(slot as usize).ok_or(Broken("an event on a P that does not exist", id))
    }

    fn proc(&mut self, id: i64) -> Option<(Held, &mut Proc)> {
        let slot = *self.proc_of.get(&id)?;
        self.procs.get_mut(slot as usize).map(|proc| (Held { id, slot }, proc))
    }

    /// The current goroutine, which must be in `status`.
    #[inline]
    fn current_in(&mut self, at: &At, status: GoStatus) -> Result<&mut Goroutine, Broken> {
        let id = at.now.goroutine.id;
        let state = self.current_goroutine(at)?;
        if state.status != status {
            return Err(Broken("an event of a goroutine that is in another state", id));
        }
        Ok(state)
    }
}
