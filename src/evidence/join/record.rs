//! What the sources say together, as plain data: `gomap.evidence/1`.

use crate::evidence::clusters::without_type_arguments;
use crate::goroutine::lookup::Verdict;
use crate::goroutine::sites::Kind;
use crate::map::identity::Digest;
use crate::score::{Class, Clue, Entry, Odd, Reach, Score};
use std::borrow::Cow;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

/// One call of a normalised stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub function: String,
    pub file: String,
    /// 0 where unknown.
    pub line: u32,
}

/// What an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    Profile,
    /// A core or a live process.
    Memory,
    Trace,
}

impl InputKind {
    /// A word for records.
    pub fn name(self) -> &'static str {
        match self {
            InputKind::Profile => "profile",
            InputKind::Memory => "memory",
            InputKind::Trace => "trace",
        }
    }
}

/// A source that took part.
#[derive(Debug, Clone)]
pub struct Input {
    /// `p1`, `p2`, …, `d1` for memory, `t1` for the trace: what the rest of the record calls it.
    pub id: String,
    pub name: String,
    /// `goroutine stacks (debug=2)`, `execution trace, format go 1.26`, …
    pub format: String,
    pub kind: InputKind,
    /// Goroutines in it.
    pub goroutines: u64,
    /// When it was taken, ns since 1970, where the file itself says.
    pub taken: Option<i64>,
    /// Only a part of it could be read.
    pub truncated: bool,
    pub notes: Vec<String>,
}

/// The clocks.
#[derive(Debug, Clone, Default)]
pub struct Alignment {
    /// First and last moment of the trace, ns of trace time.
    pub window: Option<(i64, i64)>,
    /// The same on the runtime's monotonic clock, with how far it may be off; ns.
    pub mono: Option<(i64, i64, u64)>,
    /// The same on the wall clock, ns since 1970.
    pub wall: Option<(i64, i64, u64)>,
    /// How trace time was mapped to the monotonic clock: `clock_snapshot`, `nanotime`, `none`.
    pub source: &'static str,
    /// And to the wall clock: `clock_snapshot`, `memstats`, `this machine`, `none`.
    pub wall_source: &'static str,
    /// The moment of the memory.
    pub now: Option<Now>,
    /// When each profile can have been taken, ns of trace time, where a goroutine or the file's time tells.
    pub profiles: Vec<Taken>,
    pub warnings: Vec<String>,
}

/// The moment at which memory was read or dumped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Now {
    /// On the monotonic clock, ns: not before, and what says so.
    pub low: Option<(i64, &'static str)>,
    /// Not after.
    pub high: Option<(i64, &'static str)>,
    /// How far the wall clocks of trace and memory disagree, ns.
    pub residual: Option<u64>,
}

/// When a profile was taken.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Id and kind of the input.
    pub id: String,
    pub kind: InputKind,
    /// Ns of trace time; None for no bound.
    pub low: Option<i64>,
    pub high: Option<i64>,
}

/// Whether two inputs are of one process.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Ids of the inputs.
    pub a: String,
    pub b: String,
    pub verdict: SameProcess,
    /// What shows it.
    pub sign: String,
}

/// Whether two inputs are of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameProcess {
    /// They share what only one process can.
    Same,
    /// They contradict each other.
    Different,
    NotTold,
}

impl SameProcess {
    /// Words for records.
    pub fn name(self) -> &'static str {
        match self {
            SameProcess::Same => "same",
            SameProcess::Different => "different",
            SameProcess::NotTold => "not told",
        }
    }
}

/// How a cluster's state is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateSource {
    /// The header of a traceback, or a label that says the same.
    Header,
    /// Concluded from the runtime's functions on the stack.
    Frames,
    Trace,
    Memory,
    /// No source tells.
    None,
}

impl StateSource {
    /// A word for records.
    pub fn name(self) -> &'static str {
        match self {
            StateSource::Header => "header",
            StateSource::Frames => "frames",
            StateSource::Trace => "trace",
            StateSource::Memory => "memory",
            StateSource::None => "none",
        }
    }
}

/// How a goroutine of the trace came to its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// By goroutine id: sound.
    Id,
    /// By equal stack, as the profile has no ids: it is one of the group.
    Stack,
    /// Only one source knows it.
    Alone,
}

impl Link {
    /// A word for records.
    pub fn name(self) -> &'static str {
        match self {
            Link::Id => "goid",
            Link::Stack => "stack",
            Link::Alone => "alone",
        }
    }
}

/// What a profile says of one goroutine.
#[derive(Debug, Clone)]
pub struct InProfile {
    /// Index of the input.
    pub input: usize,
    /// Its state in the runtime's words; one text for all that are in it.
    pub state: Arc<str>,
    /// Whole minutes, seen by the garbage collector: less than the true wait.
    pub minutes: Option<u64>,
    pub leaked: bool,
    pub labels: Vec<(String, String)>,
}

/// A stretch of one state, ns of trace time; `end` is the trace's for the last.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub start: i64,
    pub end: i64,
    /// As Go names it: `Running`, `Waiting`, …
    pub state: &'static str,
}

/// What the trace says of one goroutine; times are ns of trace time.
#[derive(Debug, Clone)]
pub struct InTrace {
    pub created: Option<i64>,
    pub created_by: Option<u64>,
    pub state: &'static str,
    /// Since when it waits, if it waits at the end; None when that was before the trace.
    pub since: Option<i64>,
    /// Why, in the words of the trace.
    pub reason: Option<String>,
    pub proc: Option<u32>,
    pub thread: Option<u64>,
    pub stack: Vec<Frame>,
    /// How often it was woken in the trace.
    pub woken: u64,
    pub last_waker: Option<u64>,
    pub cpu_samples: u64,
    pub spans: Vec<Span>,
}

/// The finding: a map lookup, then a wait that never ends.
#[derive(Debug, Clone)]
pub struct Window {
    /// When a CPU sample showed the goroutine in the map function, ns of trace time.
    pub lookup: i64,
    pub function: String,
    /// The caller of the map function.
    pub caller: Option<Frame>,
    /// When the wait began, ns of trace time.
    pub block: i64,
    pub reason: Option<String>,
    pub site: Site,
}

/// Where a lookup stands to the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// In the function that waits.
    SameFunction,
    /// In a function that called the one that waits.
    Caller,
    /// Elsewhere.
    Other,
}

impl Site {
    /// How it hangs together with the wait.
    pub fn reach(self) -> Option<Reach> {
        match self {
            Site::SameFunction => Some(Reach::SameFunction),
            Site::Caller => Some(Reach::Caller),
            Site::Other => None,
        }
    }

    /// A word for records.
    pub fn name(self) -> &'static str {
        match self {
            Site::SameFunction => "same_func",
            Site::Caller => "caller",
            Site::Other => "other",
        }
    }
}

/// Everything that is known of one goroutine.
#[derive(Debug, Clone)]
pub struct Goroutine {
    pub goid: u64,
    /// Index of its cluster.
    pub cluster: usize,
    pub link: Link,
    pub profiles: Vec<InProfile>,
    pub trace: Option<Box<InTrace>>,
    pub memory: Option<Box<TargetGoroutine>>,
    pub windows: Vec<Window>,
    /// That of its cluster, unless the trace tells more of it.
    pub score: Arc<Score>,
    pub conflicts: Vec<String>,
    pub confidence: Confidence,
}

/// How many sources agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    Low,
    Medium,
    High,
}

impl Confidence {
    /// A word for records.
    pub fn name(self) -> &'static str {
        match self {
            Confidence::Low => "low",
            Confidence::Medium => "medium",
            Confidence::High => "high",
        }
    }
}

/// Goroutines in the same state at the same place.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `c1` is the one with the highest score.
    pub id: String,
    pub count: u64,
    /// In each profile, in order.
    pub counts: Vec<u64>,
    pub grows: bool,
    /// Wait reason or status in the runtime's words.
    pub state: String,
    pub state_source: StateSource,
    pub frames: Vec<Frame>,
    pub created_by: Option<Frame>,
    /// Ascending.
    pub goids: Vec<u64>,
    pub leaked: u64,
    /// Shortest and longest wait in whole minutes.
    pub minutes: Option<(u64, u64)>,
    pub labels: Vec<(String, String, u64)>,
    pub nil_channel: bool,
    /// Map functions on the stack: caught inside a map operation.
    pub map_functions: Vec<String>,
    /// Ids of the inputs that show it.
    pub sources: Vec<String>,
    pub score: Score,
    pub class: Class,
    pub confidence: Confidence,
    /// Map operations in the code before the wait.
    pub sites: Vec<MemorySite>,
    /// What one of its goroutines looked up before the wait: one that names the stored key, if any does.
    pub lookup: Option<Box<Looked>>,
    /// Map entries that hold what its goroutines wait on, each once.
    pub held: Vec<Held>,
    /// What the whole of memory tells of the wait.
    pub clues: Vec<Clue>,
    /// The known idle pattern that memory shows it to be.
    pub idle: Option<&'static str>,
    /// The goroutine that the score is of, where there is one.
    pub strongest: Option<u64>,
}

impl Cluster {
    /// The innermost frame of the program's own code.
    pub fn place(&self) -> Option<&Frame> {
        self.frames.iter().find(|frame| !is_library(&frame.function)).or(self.frames.first())
    }
}

/// What is not known, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Memory was read, but not the code that tells of map operations before waits and their keys.
    CallsUnread,
    /// Memory was read, and no key that was looked up survives in it.
    NoKeySurvives,
    NoMemory,
    NoKeyGiven,
    /// Map and key are what the user thinks.
    KeyOfUser,
    NoTrace,
    NoCpuSamples,
    NoProfile,
    NoGoroutineIds,
}

impl Limit {
    /// What is not known, as records name it.
    pub fn what(self) -> &'static str {
        match self {
            Limit::CallsUnread | Limit::NoKeySurvives | Limit::NoMemory | Limit::NoKeyGiven | Limit::KeyOfUser => {
                "keys"
            }
            Limit::NoTrace => "block_times",
            Limit::NoCpuSamples => "lookups",
            Limit::NoProfile => "wait_reasons",
            Limit::NoGoroutineIds => "goroutine_ids",
        }
    }

    /// Whether it is about the keys that were looked up.
    pub fn is_of_keys(self) -> bool {
        matches!(
            self,
            Limit::CallsUnread | Limit::NoKeySurvives | Limit::NoMemory | Limit::NoKeyGiven | Limit::KeyOfUser
        )
    }
}

/// Why it is not known.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Limit::CallsUnread => return write!(f, "{}", crate::goroutine::Limit::CallsUnread),
            Limit::NoKeySurvives => "no key that was looked up survives in memory: only stored keys are named",
            Limit::NoMemory => "no core or process was read: which map and which key are not known",
            Limit::NoKeyGiven => "no --key was given: which key was looked up is not known; only stored keys are named",
            Limit::KeyOfUser => "map and key are the user's: that these goroutines looked it up there is not proven",
            Limit::NoTrace => "no trace was given: when each wait began and who might have ended it are not known",
            Limit::NoCpuSamples => "the trace has no CPU samples (run the CPU profiler beside it): it shows no lookups",
            Limit::NoProfile => "no profile was given: wait reasons are the trace's coarser ones",
            Limit::NoGoroutineIds => "the profiles have no goroutine ids (take debug=2): joined by stack, as groups",
        })
    }
}

/// All sources, joined.
#[derive(Debug, Clone)]
pub struct Evidence {
    pub inputs: Vec<Input>,
    pub alignment: Alignment,
    /// The highest score first.
    pub clusters: Vec<Cluster>,
    /// By goid.
    pub goroutines: Vec<Goroutine>,
    /// Whether the inputs are of one process, pair by pair.
    pub identities: Vec<Identity>,
    /// Where sources contradict each other, one sentence each.
    pub conflicts: Vec<String>,
    pub limits: Vec<Limit>,
    /// The map that the user suspects.
    pub map: Option<MapView>,
}

impl Evidence {
    /// Whether any cluster is at least a leak suspect.
    pub fn is_suspicious(&self) -> bool {
        self.clusters.iter().any(|cluster| cluster.class != Class::Waiting)
    }

    /// How long a goroutine that can never be woken had waited when the memory was taken: at least and at most, ns.
    /// The trace alone knows when a wait began.
    pub fn waited(&self, goroutine: &Goroutine) -> Option<(i64, Option<i64>)> {
        let state = &goroutine.memory.as_ref()?.state;
        let since = goroutine.trace.as_ref()?.since.filter(|_| super::same::is_for_ever(state))?;
        let ((mono, ..), (window, _)) = self.alignment.mono.zip(self.alignment.window)?;
        let began = since.checked_add(mono.checked_sub(window)?)?;
        let now = self.alignment.now?;
        let until = |at: i64| at.checked_sub(began).filter(|&waited| waited >= 0);
        Some((now.low.and_then(|(at, _)| until(at))?, now.high.and_then(|(at, _)| until(at))))
    }

    /// The goroutines of a cluster.
    pub fn members(&self, cluster: usize) -> impl Iterator<Item = &Goroutine> {
        self.goroutines.iter().filter(move |goroutine| goroutine.cluster == cluster)
    }
}

/// Functions that are not the program's own: the runtime and those of `sync` and `internal`.
pub fn is_library(function: &str) -> bool {
    ["runtime.", "internal/", "sync.", "time."].iter().any(|start| function.starts_with(start))
}

/// How full a map is, square by square.
#[derive(Debug, Clone, Default)]
pub struct Heat {
    /// Live slots, and the buckets or groups they are in; a bucket of 8 slots may have more by its overflow chain.
    pub squares: Vec<(u64, u64)>,
    /// Buckets or groups in one square.
    pub cells_each: u64,
}

/// A stored key that looks like the missed one.
#[derive(Debug, Clone)]
pub struct NearKey {
    /// As a Go literal.
    pub key: String,
    /// As `gomap why` names it.
    pub relation: &'static str,
    pub detail: String,
}

/// A map of the target that the user suspects, and the key that was looked up in it.
#[derive(Debug, Clone)]
pub struct MapView {
    pub expression: String,
    pub type_name: String,
    pub address: u64,
    pub count: u64,
    /// `bucket` or `group`.
    pub unit: &'static str,
    pub heat: Heat,
    /// As a Go literal.
    pub key: Option<String>,
    /// `present`, `absent`, `unreachable`, `unhashable`; for show.
    pub verdict: Option<&'static str>,
    /// A lookup does not find the key.
    pub missed: bool,
    /// Its elements are channels, so that a missed lookup gives a nil one.
    pub holds_channels: bool,
    /// The nearest first.
    pub near: Vec<NearKey>,
}

impl MapView {
    /// The key and its nearest stored one, if the lookup misses it and the map holds channels.
    pub fn missed_channel(&self) -> Option<(&str, &NearKey)> {
        let explains = self.missed && self.holds_channels;
        Some((self.key.as_deref().filter(|_| explains)?, self.near.first()?))
    }
}

/// A core or a process, as far as the join needs it.
#[derive(Debug, Clone)]
pub struct Target {
    /// `go1.27.3`.
    pub version: Option<String>,
    /// Maps in which the objects waited on were looked for, and whether nothing was left out.
    pub maps_scanned: u64,
    pub whole_scan: bool,
    /// Without the runtime's own.
    pub goroutines: Vec<TargetGoroutine>,
    /// No goroutine was lost.
    pub complete: bool,
    /// The map to draw.
    pub map: Option<MapView>,
    /// Whether map operations before waits and looked-up keys were not read at all, for want of a decoder.
    pub calls_unread: bool,
    /// What could not be read.
    pub limits: Vec<String>,
    pub notes: Vec<String>,
    pub process: Process,
}

/// What memory says of the process itself; empty or None where it does not say.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// The GNU build ID in hex, as a profile's mapping has it.
    pub build_id: Option<String>,
    /// It lives and is read now, after every file was written.
    pub live: bool,
    /// `runtime.runtimeInitTime`: when the runtime started, on its monotonic clock; ns.
    pub started: Option<i64>,
    /// The kernel's ids of the threads in `runtime.allm`, ascending.
    pub threads: Vec<u64>,
    /// Goroutine ids that were not handed out yet: those from here on, and the rest of each P's block, `start..end`.
    pub next_goid: Option<u64>,
    pub spare_goids: Vec<(u64, u64)>,
    /// The monotonic and the wall clock at one moment, ns, and who read them.
    pub clocks: Option<(i64, i64, &'static str)>,
    /// The moment of the memory on the monotonic clock, ns: not before, not after, and why.
    pub now: (Option<(i64, &'static str)>, Option<(i64, &'static str)>),
    pub functions: Functions,
}

impl Process {
    /// Whether the goroutine id was handed out before this moment.
    pub fn knew(&self, goid: u64) -> Option<bool> {
        let spare = self.spare_goids.iter().any(|&(start, end)| (start..end).contains(&goid));
        self.next_goid.map(|next| goid < next && !spare)
    }

    /// The wall clock at `mono`, ns since 1970.
    pub fn wall(&self, mono: i64) -> Option<i64> {
        let (at, wall, _) = self.clocks?;
        wall.checked_add(mono.checked_sub(at)?)
    }
}

/// Where the code of each function lies.
#[derive(Debug, Clone, Default)]
pub struct Functions {
    /// Run-time address of the first byte, of the first byte behind it, and the name's hash; by address.
    ranges: Vec<(u64, u64, u64)>,
}

impl Functions {
    /// From ranges, names and `abi.FuncID`s in any order.
    pub fn new<'n>(all: impl Iterator<Item = (u64, u64, Cow<'n, str>, u8)>) -> Functions {
        let mut all: Vec<_> = all.map(|(start, end, name, id)| (start, end, Functions::hash(&name), id)).collect();
        all.sort_unstable();
        // The last of the IDs is the wrappers' in every version (`FuncIDWrapper` in `src/internal/abi/symtab.go`, Go 1.21
        // to 1.27), and there is no program without; what is inlined into a wrapper stands in stacks without it.
        let wrapper = all.iter().map(|&(.., id)| id).max().filter(|&id| id > 0);
        let name = |name, id| if Some(id) == wrapper { Functions::WRAPPER } else { name };
        Functions { ranges: all.into_iter().map(|(start, end, hash, id)| (start, end, name(hash, id))).collect() }
    }

    /// What stands for the name of a wrapper, which stacks leave out.
    pub const WRAPPER: u64 = 0;

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// What stands for a name here: traces and profiles print `[...]` for the type arguments that the program has whole.
    pub fn hash(name: &str) -> u64 {
        rustc_hash::FxBuildHasher.hash_one(without_type_arguments(name).as_ref())
    }

    /// The hash of the name of the function with code at `pc`.
    pub fn at(&self, pc: u64) -> Option<u64> {
        let before = self.ranges.partition_point(|&(start, ..)| start <= pc).checked_sub(1)?;
        self.ranges.get(before).filter(|&&(_, end, _)| pc < end).map(|&(.., name)| name)
    }
}

/// One goroutine in memory.
#[derive(Debug, Clone)]
pub struct TargetGoroutine {
    pub goid: u64,
    /// Address of its `runtime.g`.
    pub g: u64,
    /// Wait reason, else status.
    pub state: String,
    /// Whether it is parked.
    pub waits: bool,
    /// Kind and addresses of what it waits on.
    pub blocked_on: Option<(&'static str, Vec<u64>)>,
    /// Map entries that hold it.
    pub held: Vec<Held>,
    /// What the whole of memory tells of the wait of its cluster.
    pub clues: Arc<[Clue]>,
    /// The known idle pattern that its cluster is.
    pub idle: Option<&'static str>,
    pub sites: Vec<MemorySite>,
    pub lookup: Option<Box<Looked>>,
    pub start: Option<String>,
    pub created_by: Option<Frame>,
    pub parent: Option<u64>,
    pub labels: Vec<(String, String)>,
    /// Innermost first.
    pub frames: Vec<Frame>,
}

/// A map entry that holds what a goroutine waits on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How the map is reached.
    pub map: String,
    pub map_type: String,
    /// As a Go literal.
    pub key: String,
    /// Addresses of the map's header and of the key in it, which tell entries apart that look alike.
    pub map_address: u64,
    pub key_address: u64,
    /// What the key is, where that is known.
    pub id: Option<Digest>,
    /// Why lookups miss it easily.
    pub odd: Option<Odd>,
}

impl Held {
    /// The map and the key.
    pub fn entry(&self) -> Entry<'_> {
        (&self.map, &self.key)
    }
}

/// A map operation in the machine code before the wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemorySite {
    /// The runtime function called.
    pub call: String,
    pub at: Option<Frame>,
    pub map_type: Option<String>,
    /// The map as an expression over package variables.
    pub map: Option<String>,
    /// The key as the source spells it.
    pub key_expr: Option<String>,
    /// What it does to the map.
    pub kind: Kind,
    /// How it hangs together with the wait.
    pub reach: Reach,
}

impl MemorySite {
    /// `runtime.mapaccess1_faststr of main.pending (map[string]chan int) with key id`.
    pub fn operation(&self) -> String {
        let map = match (&self.map, &self.map_type) {
            (Some(map), Some(ty)) => format!(" of {map} ({ty})"),
            (Some(map), None) => format!(" of {map}"),
            (None, Some(ty)) => format!(" of a {ty}"),
            (None, None) => String::new(),
        };
        let key = self.key_expr.as_ref().map_or(String::new(), |key| format!(" with key {key}"));
        format!("{}{map}{key}", self.call)
    }
}

/// A lookup before a wait, as far as its memory survives.
#[derive(Debug, Clone)]
pub struct Looked {
    /// An expression over package variables, else the map's type and address.
    pub map: String,
    /// As a Go literal.
    pub key: Option<String>,
    /// Where the key was found, as the record names it.
    pub source: Option<&'static str>,
    /// Its length is a guess: the one that makes it most like a stored key.
    pub inferred: bool,
    /// Why the key is not known.
    pub lost: Option<String>,
    pub verdict: Option<Verdict>,
    /// The nearest first.
    pub near: Vec<NearKey>,
    /// Whether people take the key and one of these for equal; else they are only alike.
    pub confusable: bool,
    /// Whether the operation asked for the key, so that keys like it tell something.
    pub may_miss: bool,
    /// All of it, as `gomap leaks --json` has it.
    pub record: serde_json::Value,
}

impl Looked {
    /// The key and the stored one that it should have met.
    pub fn missed(&self) -> Option<(&str, &NearKey)> {
        Some((self.key.as_deref()?, self.near.first().filter(|_| self.verdict == Some(Verdict::Absent))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generic_function_is_the_one_that_a_trace_prints_without_type_arguments() {
        let whole = "encoding/json.typeEncoder.OnceValue[go.shape.func([]int) map[string]int].func3";
        let all = [(0x10, 0x20, whole, 0), (0x20, 0x30, "main.f", 0), (0x30, 0x40, "main.gowrap1", 9)];
        let functions = Functions::new(all.into_iter().map(|(start, end, name, id)| (start, end, name.into(), id)));
        assert_eq!(functions.at(0x1f), Some(Functions::hash("encoding/json.typeEncoder.OnceValue[...].func3")));
        assert_eq!(functions.at(0x20), Some(Functions::hash("main.f")));
        assert_eq!((functions.at(0x30), functions.at(0x40)), (Some(Functions::WRAPPER), None));
    }
}
