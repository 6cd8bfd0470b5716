//! One event of a trace, as Go's own reader presents it.

use super::generation::ClockSnapshot;
use std::num::NonZeroU32;

/// "No thread", "no P" or "no goroutine" in [`Event`]'s context, as Go prints it.
pub const NONE: i64 = -1;

/// The state of a goroutine, in the execution trace's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GoState {
    /// Nothing was known about it before this event.
    Undetermined,
    NotExist,
    Runnable,
    Running,
    Waiting,
    Syscall,
}

impl GoState {
    /// The name Go prints.
    pub fn name(self) -> &'static str {
        match self {
            GoState::Undetermined => "Undetermined",
            GoState::NotExist => "NotExist",
            GoState::Runnable => "Runnable",
            GoState::Running => "Running",
            GoState::Waiting => "Waiting",
            GoState::Syscall => "Syscall",
        }
    }
}

/// The state of a P.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProcState {
    Undetermined,
    NotExist,
    Running,
    Idle,
}

impl ProcState {
    /// The name Go prints.
    pub fn name(self) -> &'static str {
        match self {
            ProcState::Undetermined => "Undetermined",
            ProcState::NotExist => "NotExist",
            ProcState::Running => "Running",
            ProcState::Idle => "Idle",
        }
    }
}

/// A stack; [`super::Events::frames`] resolves it until the next [`Kind::Sync`].
///
/// The number is its place among the generation's stacks: dense, where the file's ids need not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StackId(pub(super) NonZeroU32);

impl StackId {
    /// The stack without frames, id 0 in the file.
    pub(super) const EMPTY: StackId = StackId(NonZeroU32::MIN);

    #[inline]
    pub(super) fn place(self) -> usize {
        self.0.get() as usize
    }
}

/// A kind of time range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range<'a> {
    /// The world is stopped, and why; bound to the goroutine with this id.
    StopTheWorld { reason: &'a [u8], goroutine: i64 },
    /// The garbage collector's mark phase, of the whole process.
    GcMark,
    /// A P sweeps.
    GcSweep { proc: i64 },
    /// A goroutine helps the collector mark.
    GcAssist { goroutine: i64 },
}

/// Begin, end, or already there when the generation began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    Begin,
    Active,
    End,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A generation starts, or (the last one) the trace ends; numbered from 1.
    Sync {
        number: u64,
        snapshot: Option<ClockSnapshot>,
    },
    /// A goroutine changed state; `from == to` repeats a known state at the start of a generation.
    Goroutine {
        goid: i64,
        from: GoState,
        to: GoState,
        reason: &'a [u8],
        /// The goroutine's own stack: where it starts when created, where it stands otherwise.
        stack: Option<StackId>,
    },
    /// A P changed state.
    Proc {
        proc: i64,
        from: ProcState,
        to: ProcState,
    },
    /// The CPU profiler's sample; may contradict the states by a little.
    StackSample,
    /// A runtime metric.
    Metric {
        name: &'static str,
        value: u64,
    },
    /// A label set on the current goroutine.
    Label {
        label: &'a [u8],
    },
    /// A range's edge; `swept` are a sweep's bytes swept and reclaimed.
    Range {
        edge: Edge,
        range: Range<'a>,
        swept: Option<(u64, u64)>,
    },
    /// `runtime/trace.NewTask`; `parent` is -1 for none.
    TaskBegin {
        id: u64,
        parent: i64,
        name: &'a [u8],
    },
    TaskEnd {
        id: u64,
        parent: i64,
        name: &'a [u8],
    },
    RegionBegin {
        task: u64,
        name: &'a [u8],
    },
    RegionEnd {
        task: u64,
        name: &'a [u8],
    },
    Log {
        task: u64,
        category: &'a [u8],
        message: &'a [u8],
    },
    /// An event of the alloc-free experiment: its tag and raw arguments.
    Experimental {
        tag: u8,
        args: [u64; 4],
    },
}

/// One event with the context it happened in: the context before it, where it changes the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'a> {
    /// Nanoseconds; strictly rising through a trace.
    pub time: i64,
    /// The thread (M's id), or [`NONE`].
    pub thread: i64,
    /// The P, or [`NONE`].
    pub proc: i64,
    /// The goroutine, or [`NONE`].
    pub goroutine: i64,
    pub kind: Kind<'a>,
    /// The stack of the goroutine in the context.
    pub stack: Option<StackId>,
    /// Where that goroutine is among those that exist.
    pub(super) slot: u32,
}
