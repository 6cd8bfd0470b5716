//! What a trace says about each goroutine, as plain data.

use super::clock::Clocks;
use super::error::TraceError;
use super::event::GoState;
use super::wire::Version;
use std::collections::{BTreeMap, VecDeque};
use std::num::NonZeroU32;

/// How much of a trace to keep. The defaults hold a trace of 10^7 events well under 200 MB.
#[derive(Debug, Clone)]
pub struct Options {
    /// States kept for each goroutine, the latest ones.
    pub max_spans: usize,
    /// States kept for all goroutines together; beyond it each goroutine keeps its last few.
    pub max_all_spans: usize,
    /// Goroutines kept at one time; new ones beyond it are only counted.
    pub max_goroutines: usize,
    /// Ended goroutines kept, the latest to end.
    pub max_ended: usize,
    /// Wakers kept for each goroutine, the latest ones.
    pub max_wakers: usize,
    /// CPU samples inside map functions kept for each goroutine, the latest ones.
    pub max_map_samples: usize,
    /// Goroutines for which all states are kept, up to a million each, and which are kept after their end.
    pub focus: Vec<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            max_spans: 32,
            max_all_spans: 500_000,
            max_goroutines: 500_000,
            max_ended: 10_000,
            max_wakers: 8,
            max_map_samples: 32,
            focus: Vec::new(),
        }
    }
}

impl Options {
    /// The defaults, with everything kept for one goroutine: for its timeline.
    pub fn focused(goid: u64) -> Options {
        Options { focus: vec![goid], ..Options::default() }
    }
}

/// A text of a [`Trace`]; [`Trace::text`] resolves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextId(NonZeroU32);

/// A stack of a [`Trace`]; [`Trace::stack`] resolves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackRef(NonZeroU32);

/// A place in a list, as a number that is never zero: half the size where there may be none.
fn number(place: usize) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(u32::try_from(place).unwrap_or(u32::MAX))
}

fn place(number: NonZeroU32) -> usize {
    number.get() as usize - 1
}

impl TextId {
    pub(super) fn new(at: usize) -> TextId {
        TextId(number(at))
    }

    pub(super) fn place(self) -> usize {
        place(self.0)
    }
}

impl StackRef {
    pub(super) fn new(at: usize) -> StackRef {
        StackRef(number(at))
    }

    pub(super) fn place(self) -> usize {
        place(self.0)
    }
}

/// A frame kept beyond its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeptFrame {
    pub pc: u64,
    pub function: TextId,
    pub file: TextId,
    pub line: u64,
}

/// One frame of a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackFrame<'t> {
    pub pc: u64,
    pub function: &'t str,
    pub file: &'t str,
    pub line: u64,
}

/// How a goroutine came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Creation {
    /// Trace time, ns.
    pub time: i64,
    /// The goroutine that executed the `go` statement; None when the runtime or a C thread did.
    pub by: Option<u64>,
    /// Where the creator stood.
    pub stack: Option<StackRef>,
}

/// A time in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Trace time, ns.
    pub start: i64,
    /// None while it lasts at the end of the trace.
    pub end: Option<i64>,
    pub state: GoState,
    /// Why it left the running state, in the runtime's words; None where the trace does not say.
    pub reason: Option<TextId>,
    /// Where it stood when the state began, where the trace tells.
    pub stack: Option<StackRef>,
    /// The P it had, or was on last.
    pub proc: Option<u32>,
    /// The M's id it had, or was on last.
    pub thread: Option<u64>,
}

/// A wait, from the event that began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Trace time, ns.
    pub time: i64,
    /// The runtime's reason: coarser than the wait reason that a traceback shows.
    pub reason: Option<TextId>,
    pub stack: Option<StackRef>,
    pub proc: Option<u32>,
    pub thread: Option<u64>,
    /// When it was woken; None when it never was in the trace.
    pub woken: Option<i64>,
}

/// What made a waiting goroutine runnable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wake {
    /// Trace time, ns.
    pub time: i64,
    /// The goroutine that did it; None for the runtime itself (network poller, timers, monitor).
    pub by: Option<u64>,
    /// Where the waker stood.
    pub stack: Option<StackRef>,
}

/// A CPU sample that shows the goroutine inside a map operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapSample {
    /// Trace time, ns.
    pub time: i64,
    /// The map function's name, such as `runtime.mapaccess1_faststr`.
    pub function: TextId,
    pub stack: StackRef,
    /// The first wait after the sample.
    pub followed_by: Option<Block>,
}

/// Time spent in each state inside the trace, ns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    pub runnable: i64,
    pub running: i64,
    pub waiting: i64,
    pub syscall: i64,
}

/// Everything kept about one goroutine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goroutine {
    pub goid: u64,
    /// None when it is older than the trace.
    pub created: Option<Creation>,
    /// The function it runs: the outermost of its start stack or, for one older than the trace, of any
    /// of its stacks; None when no stack of it is in the trace.
    pub start_function: Option<TextId>,
    /// When the trace first tells of it.
    pub first_seen: i64,
    /// When it ended; None when it lives at the end of the trace.
    pub ended: Option<i64>,
    /// The latest states, oldest first.
    pub spans: VecDeque<Span>,
    /// How many older states were dropped.
    pub spans_dropped: u64,
    pub last_block: Option<Block>,
    /// How often it blocked, was woken, entered a syscall.
    pub blocks: u64,
    pub wakes: u64,
    pub syscalls: u64,
    /// The latest wakers, oldest first.
    pub wakers: VecDeque<Wake>,
    pub times: Times,
    pub cpu_samples: u64,
    /// Samples inside map functions: how many, and the latest of them, oldest first.
    pub map_sample_count: u64,
    pub map_samples: VecDeque<MapSample>,
    /// The last label `runtime/trace` saw on it.
    pub label: Option<TextId>,
}

impl Goroutine {
    /// Its last state.
    pub fn state(&self) -> GoState {
        match (self.ended, self.spans.back()) {
            (None, Some(span)) => span.state,
            (Some(_), _) => GoState::NotExist,
            (None, None) => GoState::Undetermined,
        }
    }

    /// Whether it waited from before the trace to its end, so that the trace knows neither when nor why.
    pub fn waits_since_before(&self) -> bool {
        self.created.is_none() && self.state() == GoState::Waiting && self.last_block.is_none()
    }
}

/// What the trace holds, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    /// Events by kind, in Go's names.
    pub by_kind: BTreeMap<&'static str, u64>,
    pub generations: u64,
    pub goroutines_seen: u64,
    pub goroutines_created: u64,
    pub goroutines_ended: u64,
    /// Records of ended goroutines that were dropped to bound memory.
    pub goroutines_dropped: u64,
    /// Goroutines that never had a record, for the same reason.
    pub goroutines_not_kept: u64,
    pub threads: u64,
    pub procs: u64,
    pub cpu_samples: u64,
    pub map_samples: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// A trace, read.
#[derive(Debug, Clone)]
pub struct Trace {
    pub version: Version,
    /// First and last event, ns of trace time; None for a trace without a complete generation.
    pub window: Option<(i64, i64)>,
    pub counts: Counts,
    pub clocks: Clocks,
    /// The kernel's ids of the threads (Ms) that the trace names, ascending.
    pub threads: Vec<u64>,
    /// By goid.
    pub goroutines: BTreeMap<u64, Goroutine>,
    /// Why reading stopped before the end of the file; the rest of this value is what stood before.
    pub incomplete: Option<TraceError>,
    /// What the reader should know about this trace, one sentence each.
    pub notes: Vec<String>,
    pub(super) texts: Vec<Box<str>>,
    pub(super) frames: Vec<KeptFrame>,
    pub(super) stacks: Vec<Box<[u32]>>,
}

impl Trace {
    /// A text; bytes that were not UTF-8 are replaced by U+FFFD. Not escaped: it comes from the target.
    pub fn text(&self, id: TextId) -> &str {
        self.texts.get(id.place()).map_or("", |text| text)
    }

    /// A stack's frames, innermost first.
    pub fn stack(&self, stack: StackRef) -> impl Iterator<Item = StackFrame<'_>> + '_ {
        let frames = self.stacks.get(stack.place()).map_or(&[][..], |frames| frames);
        frames.iter().filter_map(|at| self.frames.get(*at as usize)).map(|frame| StackFrame {
            pc: frame.pc,
            function: self.text(frame.function),
            file: self.text(frame.file),
            line: frame.line,
        })
    }

    /// Every stack that is kept.
    pub fn stacks(&self) -> impl Iterator<Item = StackRef> {
        (0..self.stacks.len()).map(StackRef::new)
    }

    /// Goroutines that still wait when the trace ends, by goid.
    pub fn blocked(&self) -> impl Iterator<Item = &Goroutine> {
        self.goroutines.values().filter(|g| g.state() == GoState::Waiting)
    }
}
