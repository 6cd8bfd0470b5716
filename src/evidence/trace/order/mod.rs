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
mod procs;
mod ranges;

use super::error::TraceError;
use super::event::{Event, Kind, StackId, NONE};
use super::generation::Generation;
use super::wire::tag;
use ranges::RangeKey;
use rustc_hash::{FxHashMap, FxHashSet};

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

/// What a thread runs: [`NONE`] for what it does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Context {
    thread: i64,
    proc: i64,
    goroutine: i64,
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
        if self.proc == NONE {
            return Err(Broken("an event on a thread that has no P", self.thread));
        }
        Ok(())
    }

    fn needs_goroutine(&self) -> Result<(), Broken> {
        self.needs_thread()?;
        if self.goroutine == NONE {
            return Err(Broken("an event on a thread that runs no goroutine", self.thread));
        }
        Ok(())
    }

    fn needs_no_goroutine(&self) -> Result<(), Broken> {
        if self.goroutine != NONE {
            return Err(Broken("a thread starts a goroutine while it runs another", self.goroutine));
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
    status: GoStatus,
    seq: Seq,
}

#[derive(Debug, Clone, Copy)]
struct Proc {
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
    goroutine: i64,
    proc: i64,
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
    goroutines: FxHashMap<i64, Goroutine>,
    procs: FxHashMap<i64, Proc>,
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
    /// What the last event turned into, and how much of it was handed out: one event, rarely three.
    pub(super) passed: Vec<Event<'a>>,
    handed_out: usize,
}

/// What a step needs to know around its event.
struct At<'g, 'a> {
    raw: Raw,
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

    fn text(&self, i: usize) -> Result<&'a [u8], Broken> {
        let id = self.arg(i);
        self.generation.tables.string(id).ok_or(Broken("an event names a string that is not there", id as i64))
    }

    /// The stack an argument names; id 0 is an empty stack.
    fn stack(&self, i: usize) -> Result<StackId, Broken> {
        let id = self.arg(i);
        if !self.generation.tables.has_stack(id) {
            return Err(Broken("an event names a stack that is not there", id as i64));
        }
        Ok(StackId(id))
    }

    /// The stack an argument names, None for id 0.
    fn stack_or_none(&self, i: usize) -> Result<Option<StackId>, Broken> {
        Ok(Some(self.stack(i)?).filter(|stack| stack.0 != 0))
    }
}

impl<'a> Order<'a> {
    pub fn new() -> Order<'a> {
        Order {
            goroutines: FxHashMap::default(),
            procs: FxHashMap::default(),
            threads: Vec::new(),
            thread_of: FxHashMap::default(),
            tasks: FxHashMap::default(),
            regions: FxHashMap::default(),
            ranges: FxHashSet::default(),
            stops: FxHashMap::default(),
            gc_seq: 0,
            gc_mark: GcMark::Undetermined,
            first_generation: None,
            passed: Vec::new(),
            handed_out: 0,
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
            self.threads.push(Thread { id, known: false, goroutine: NONE, proc: NONE });
        }
        Some(ThreadSlot(at))
    }

    /// The next event that has passed.
    #[inline]
    pub fn pop(&mut self) -> Option<Event<'a>> {
        let event = self.passed.get(self.handed_out).copied();
        if event.is_some() {
            self.handed_out += 1;
        } else if self.handed_out > 0 {
            self.passed.clear();
            self.handed_out = 0;
        }
        event
    }

    /// Lets the thread's event pass if it can have happened now.
    #[inline]
    pub fn advance(&mut self, raw: &Raw, slot: Option<ThreadSlot>, generation: &Generation<'a>) -> Step {
        let first = *self.first_generation.get_or_insert(generation.number) == generation.number;
        let mut now = Context { thread: NONE, proc: NONE, goroutine: NONE };
        if let Some(thread) = slot.and_then(|slot| self.threads.get_mut(slot.0)) {
            thread.known = true;
            now = Context { thread: thread.id, proc: thread.proc, goroutine: thread.goroutine };
        }
        let at = At { raw: *raw, generation, first, slot, now };
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
    fn bind(&mut self, at: &At, proc: i64, goroutine: i64) {
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
        self.passed.push(Event { time: at.raw.time, thread, proc, goroutine, kind, stack });
        Ok(Advance::Passed)
    }

    fn current_goroutine(&mut self, at: &At) -> Result<&mut Goroutine, Broken> {
        let id = at.now.goroutine;
        self.goroutines.get_mut(&id).ok_or(Broken("an event of a goroutine that does not exist", id))
    }

    fn current_proc(&mut self, at: &At) -> Result<&mut Proc, Broken> {
        let id = at.now.proc;
        self.procs.get_mut(&id).ok_or(Broken("an event on a P that does not exist", id))
    }

    /// The current goroutine, which must be in `status`.
    fn current_in(&mut self, at: &At, status: GoStatus) -> Result<&mut Goroutine, Broken> {
        let id = at.now.goroutine;
        let state = self.current_goroutine(at)?;
        if state.status != status {
            return Err(Broken("an event of a goroutine that is in another state", id));
        }
        Ok(state)
    }
}
