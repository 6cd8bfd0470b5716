//! Whether two sources tell of one process, and of one build of it.
//!
//! Signs, each of which two runs of one program cannot share or one process cannot show:
//!
//! - goroutine ids are never used twice: the same id starts in the same function, with the same creator;
//! - a goroutine that waits on a nil channel or in `select {}` never leaves: who has it once has it for ever, so two
//!   sources that each lack the other's are of no one process, whichever was taken first ([`Moment`]);
//! - a thread of the trace is a thread of the kernel, and the runtime's list of them lacks only those that ended;
//! - the process began before anything was taken of it;
//! - the same address holds the same function, and builds have the same ID.

use rustc_hash::{FxHashMap, FxHashSet};

use super::record::{Functions, Process};
use super::{ProfileFacts, Seen};
use crate::evidence::clusters::{is_go_wrapper, without_type_arguments};
use crate::evidence::profile::{Symbols, Text};
use crate::evidence::trace::{self, GoState, Trace};

/// Contradictions kept; more prove nothing more.
const MAX_CONFLICTS: usize = 20;
/// A file's time and the process's clock may be off by this much and still be of one machine: ns.
const CLOCK_SLACK: i64 = 1_000_000_000;

/// What the comparison of two sources found: two runs of one program have most goroutines alike, so one conflict is
/// enough.
#[derive(Debug, Default)]
pub struct Comparison {
    /// `(goid, sentence)`, the first of them; no goid for what is about the whole source.
    pub conflicts: Vec<(Option<u64>, String)>,
    /// What only one process can share.
    pub same: Option<String>,
    /// Goroutines that are in both.
    pub common: u64,
}

impl Comparison {
    fn add(&mut self, goid: u64, a: (&str, &str), b: (&str, &str), what: &str) {
        if a.1 != b.1 {
            let ((a_name, a), (b_name, b)) = (a, b);
            self.say(Some(goid), || format!("goroutine {goid} {what} {a} in {a_name}, but {b} in {b_name}"));
        }
    }

    fn say(&mut self, goid: Option<u64>, sentence: impl FnOnce() -> String) {
        if self.conflicts.len() < MAX_CONFLICTS {
            self.conflicts.push((goid, sentence()));
        }
    }
}

/// One source of goroutines with ids: a profile or memory.
pub struct Side<'s> {
    pub id: &'s str,
    /// Its number in [`Seen::input`].
    pub input: usize,
    /// Whether it lists all goroutines, so that one it lacks was not there.
    pub whole: bool,
    pub facts: Option<&'s ProfileFacts>,
    /// For memory.
    pub process: Option<&'s Process>,
}

/// Everything that was seen, and the names in it.
pub struct World<'s> {
    pub seen: &'s FxHashMap<u64, Vec<Seen>>,
    pub symbols: &'s Symbols,
}

impl World<'_> {
    fn of(&self, side: &Side, goid: u64) -> Option<&Seen> {
        self.seen.get(&goid)?.iter().find(|one| one.input == side.input)
    }

    fn ids(&self, side: &Side) -> Vec<u64> {
        let here = |all: &&Vec<Seen>| all.iter().any(|one| one.input == side.input);
        let mut ids: Vec<u64> = self.seen.iter().filter(|(_, all)| here(all)).map(|(&goid, _)| goid).collect();
        ids.sort_unstable();
        ids
    }

    fn never_leaves(&self, one: &Seen) -> bool {
        is_for_ever(self.symbols.text(one.state))
    }
}

/// Wait reasons that nothing can end (`waitReasonStrings` in `src/runtime/runtime2.go`, Go 1.19 to 1.27).
pub fn is_for_ever(state: &str) -> bool {
    matches!(state, "chan receive (nil chan)" | "chan send (nil chan)" | "select (no cases)")
}

/// Compares two sources that know goroutine ids, or what is known of their builds.
pub fn sides(a: &Side, b: &Side, world: &World) -> Comparison {
    let mut found = Comparison::default();
    builds(&mut found, a, b);
    for goid in world.ids(a) {
        let (Some(one), Some(two)) = (world.of(a, goid), world.of(b, goid)) else { continue };
        found.common += 1;
        if let (Some(x), Some(y)) = (start(one, world.symbols), start(two, world.symbols)) {
            found.add(goid, (a.id, &x), (b.id, &y), "starts in");
        }
        let names = |one: &Seen| one.created_by.map(|id| bare(world.symbols.text(id)));
        // Memory may name an inlined function where the runtime names the one around it.
        let of_files = a.process.is_none() && b.process.is_none();
        if let (Some(x), Some(y), true) = (names(one), names(two), of_files) {
            found.add(goid, (a.id, &x), (b.id, &y), "is created by");
        }
        if let (Some(x), Some(y)) = (one.parent, two.parent) {
            let (x, y) = (format!("goroutine {x}"), format!("goroutine {y}"));
            found.add(goid, (a.id, &x), (b.id, &y), "comes from");
        }
        // The addresses of a crash's goroutines; the heap begins at a random one since Go 1.26, and by chance before.
        if let (Some(x), Some(y)) = (one.g, two.g) {
            let (x, y) = (format!("{x:#x}"), format!("{y:#x}"));
            found.add(goid, (a.id, &x), (b.id, &y), "is at");
        }
    }
    // Who lacks a goroutine that never leaves was taken before it began to wait.
    let (a_first, b_first) = (lacks(a, b, world), lacks(b, a, world));
    if let (Some(of_b), Some(of_a)) = (a_first, b_first) {
        found.say(None, || {
            format!(
                "goroutine {of_b} waits for ever in {} and not in {}, goroutine {of_a} in {} and not in {}: \
                 neither can have been taken first",
                b.id, a.id, a.id, b.id
            )
        });
    }
    for (file, memory, lacking) in [(a, b, b_first), (b, a, a_first)] {
        let Some(process) = memory.process else { continue };
        // Memory that lacks it, though its id was handed out already, shows a process in which it never was.
        if let Some(goid) = lacking.filter(|&goid| process.live || process.knew(goid) == Some(true)) {
            found.say(Some(goid), || {
                format!("goroutine {goid} waits for ever in {}, and {} has it no more", file.id, memory.id)
            });
        }
        began(&mut found, file, memory, process);
    }
    found
}

/// A goroutine that waits for ever in `other` and not in `side`.
fn lacks(side: &Side, other: &Side, world: &World) -> Option<u64> {
    let lacking = |&goid: &u64| {
        world.of(other, goid).is_some_and(|one| world.never_leaves(one))
            && world.of(side, goid).map_or(side.whole, |one| !world.never_leaves(one))
    };
    world.ids(other).into_iter().find(lacking)
}

fn builds(found: &mut Comparison, a: &Side, b: &Side) {
    let id = |side: &Side| {
        let of_file = side.facts.and_then(|facts| facts.build_id.clone());
        of_file.or_else(|| side.process.and_then(|process| process.build_id.clone()))
    };
    match (id(a), id(b)) {
        (Some(x), Some(y)) if x != y => {
            found.say(None, || format!("the build ID is {x} in {}, but {y} in {}", a.id, b.id));
        }
        _ => {}
    }
    for (file, memory) in [(a, b), (b, a)] {
        let (Some(facts), Some(process)) = (file.facts, memory.process) else { continue };
        let (file, memory) = (file.id, memory.id);
        for (pc, names) in &facts.calls {
            let others = process.functions.at(*pc).or_else(|| process.functions.at(pc.wrapping_sub(1)));
            if !process.functions.is_empty()
                && !others.is_some_and(|name| name == Functions::WRAPPER || names.contains(&name))
            {
                found.say(None, || format!("the code at {pc:#x} in {file} is another function's in {memory}"));
                break;
            }
        }
    }
}

/// A file written before the process began is of another.
fn began(found: &mut Comparison, file: &Side, memory: &Side, process: &Process) {
    let start = process.started.and_then(|mono| process.wall(mono));
    let Some((facts, start)) = file.facts.zip(start) else { return };
    if let Some(at) = facts.taken.or(facts.written).filter(|&at| at < start.saturating_sub(CLOCK_SLACK)) {
        let before = start.saturating_sub(at) / 1_000_000_000;
        found.say(None, || format!("{} was written {before} s before the process of {} began", file.id, memory.id));
    }
}

/// Where a source can lie on the trace's time axis, from goroutines that it has or lacks.
#[derive(Debug, Clone)]
pub struct Moment {
    /// Ns of trace time, and why; no bound where nothing tells.
    pub low: Option<(i64, String)>,
    pub high: Option<(i64, String)>,
}

impl Moment {
    fn not_before(&mut self, at: i64, why: impl FnOnce() -> String) {
        if self.low.as_ref().is_none_or(|(low, _)| at > *low) {
            self.low = Some((at, why()));
        }
    }

    fn not_after(&mut self, at: i64, why: impl FnOnce() -> String) {
        if self.high.as_ref().is_none_or(|(high, _)| at < *high) {
            self.high = Some((at, why()));
        }
    }
}

/// Compares what a source with goroutine ids and the trace say; the moment tells when the source was taken.
pub fn with_trace(side: &Side, trace: (&str, &Trace), world: &World) -> (Comparison, Moment) {
    let mut found = Comparison::default();
    for (goid, goroutine) in &trace.1.goroutines {
        if let Some(one) = world.of(side, *goid) {
            found.common += 1;
            starts(&mut found, (*goid, goroutine), one, (side, trace), world.symbols);
        }
    }
    let moment = moment(&mut found, side, trace, world);
    if let (Some((low, after)), Some((high, before))) = (&moment.low, &moment.high) {
        if low > high {
            found.say(None, || format!("{} was taken {after}, and {before}: both cannot be", side.id));
        }
    }
    match side.process {
        Some(process) => memory_and_trace(&mut found, side.id, process, trace),
        None => calls_and_trace(&mut found, side, trace),
    }
    (found, moment)
}

/// The functions in which a goroutine started and was created.
fn starts(
    found: &mut Comparison,
    (goid, goroutine): (u64, &trace::Goroutine),
    one: &Seen,
    (side, trace): (&Side, (&str, &Trace)),
    symbols: &Symbols,
) {
    let theirs = goroutine.start_function.map(|id| trace.1.text(id)).unwrap_or_default();
    // The main goroutine starts in runtime.main everywhere.
    if goid == 1 || theirs.is_empty() {
        return;
    }
    if is_go_wrapper(theirs) {
        // The compiler's wrapper is named after the function with the `go` statement; profiles leave it out.
        let around = theirs.rfind(".gowrap").and_then(|at| theirs.get(..at)).unwrap_or(theirs);
        if let Some(creator) = one.created_by.map(|id| bare(symbols.text(id))) {
            found.add(goid, (side.id, &creator), (trace.0, &bare(around)), "is created by");
        }
        if let (Some(ours), Some(theirs)) = (start(one, symbols), wrapped(trace.1, goroutine)) {
            found.add(goid, (side.id, &ours), (trace.0, &theirs), "starts in");
        }
    } else if let Some(ours) = start(one, symbols) {
        found.add(goid, (side.id, &ours), (trace.0, &bare(theirs)), "starts in");
    }
    let parent = goroutine.created.and_then(|creation: trace::Creation| creation.by);
    if let (Some(ours), Some(theirs)) = (one.parent, parent) {
        let (ours, theirs) = (format!("goroutine {ours}"), format!("goroutine {theirs}"));
        found.add(goid, (side.id, &ours), (trace.0, &theirs), "comes from");
    }
}

fn moment(found: &mut Comparison, side: &Side, trace: (&str, &Trace), world: &World) -> Moment {
    let mut moment = Moment { low: None, high: None };
    let Some((_, end)) = trace.1.window else { return moment };
    let t = trace.0;
    for (&goid, goroutine) in &trace.1.goroutines {
        let one = world.of(side, goid);
        if let (Some(_), Some(created)) = (one, goroutine.created) {
            moment.not_before(created.time, || format!("after goroutine {goid} was created in {t}"));
        }
        if let (Some(one), Some(ended)) = (one, goroutine.ended) {
            moment.not_after(ended, || format!("before goroutine {goid} ended in {t}"));
            if world.never_leaves(one) {
                found.say(Some(goid), || format!("goroutine {goid} waits for ever in {}, but ends in {t}", side.id));
            }
        }
        let Some(block) = goroutine.last_block.filter(|block| block.woken.is_none()) else { continue };
        let for_ever = block.reason.is_some_and(|reason| trace.1.text(reason) == "forever");
        let stays = goroutine.state() == GoState::Waiting && for_ever;
        if stays && one.map_or(side.whole, |one| !world.never_leaves(one)) {
            moment.not_after(block.time, || format!("before goroutine {goid} began to wait for ever in {t}"));
        }
    }
    let complete = trace.1.counts.goroutines_not_kept == 0;
    for goid in world.ids(side) {
        if !world.of(side, goid).is_some_and(|one| world.never_leaves(one)) {
            continue;
        }
        let why = || format!("after {t} ended, in which goroutine {goid} does not yet wait for ever as in {}", side.id);
        match trace.1.goroutines.get(&goid) {
            None if complete => moment.not_before(end, why),
            Some(theirs) if theirs.ended.is_none() => {
                let block = theirs.last_block.filter(|_| theirs.state() == GoState::Waiting);
                match block.filter(|block| block.woken.is_none()) {
                    Some(block) if block.reason.is_some_and(|reason| trace.1.text(reason) == "forever") => moment
                        .not_before(block.time, || format!("after goroutine {goid} began to wait for ever in {t}")),
                    // It waits since before the trace, which tells no reason then.
                    None if theirs.waits_since_before() => {}
                    _ => moment.not_before(end, why),
                }
            }
            _ => {}
        }
    }
    if side.process.is_some_and(|process| process.live) {
        moment.not_before(end, || format!("after {t} ended, as the process still lives"));
    }
    let written = side.facts.and_then(|facts| facts.taken.or(facts.written));
    if let Some((written, wall)) = written.zip(trace.1.clocks.wall(end)) {
        let at = i128::from(written) - wall.ns + i128::from(end) + i128::from(CLOCK_SLACK);
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        if at < end {
            moment.not_after(at, || format!("before its file was written, while {t} still ran"));
        }
    }
    moment
}

/// What memory and the trace share or cannot share: threads, the process's start, code.
fn memory_and_trace(found: &mut Comparison, id: &str, process: &Process, trace: (&str, &Trace)) {
    let (name, trace) = trace;
    let first = trace.window.and_then(|(first, _)| trace.clocks.mono(first));
    let early = process.started.zip(first).filter(|&(start, first)| first.ns < i128::from(start));
    if let Some((start, first)) = early {
        let before = (i128::from(start) - first.ns) as f64 / 1e9;
        found.say(None, || format!("{name} began {before:.3} s before the process of {id} on the monotonic clock"));
    }
    let known: FxHashSet<u64> = process.threads.iter().copied().collect();
    let shared: Vec<u64> = trace.threads.iter().copied().filter(|thread| known.contains(thread)).collect();
    if !known.is_empty() && !trace.threads.is_empty() && shared.is_empty() {
        let (theirs, ours) = (list(&trace.threads), list(&process.threads));
        found.say(None, || format!("{name} ran on the threads {theirs}, and {id} has only {ours}"));
    }
    let strange = misplaced(&process.functions, trace);
    if let Some((pc, function)) = strange {
        found.say(None, || format!("{name} has {function} at {pc:#x}, where {id} has another function"));
    }
    if found.conflicts.is_empty() && !shared.is_empty() && process.started.is_some() && first.is_some() {
        found.same = Some(format!(
            "{id} and {name} share the threads {}, the process began before {name}, and the code lies where it lay",
            list(&shared)
        ));
    }
}

/// A frame of the trace whose address belongs to another function here.
fn misplaced<'t>(functions: &Functions, trace: &'t Trace) -> Option<(u64, &'t str)> {
    if functions.is_empty() {
        return None;
    }
    let mut checked: FxHashSet<u64> = FxHashSet::default();
    for stack in trace.stacks() {
        let frames: Vec<trace::StackFrame> = trace.stack(stack).collect();
        for (n, frame) in frames.iter().enumerate().filter(|(_, frame)| frame.pc != 0 && !frame.function.is_empty()) {
            // The trace gives one address one name: of calls inlined there, all but the first told have the wrong one.
            let beside = [n.checked_sub(1), n.checked_add(1)].into_iter().flatten().filter_map(|at| frames.get(at));
            if !checked.insert(frame.pc) || beside.into_iter().any(|other| other.pc == frame.pc) {
                continue;
            }
            // Calls inlined into a function have their own names at its addresses, and it comes further out.
            let outward = frames.get(n..).unwrap_or_default();
            let is_here = |pc: u64| {
                let name = functions.at(pc)?;
                Some(name == Functions::WRAPPER || outward.iter().any(|outer| Functions::hash(outer.function) == name))
            };
            // A return address may lie behind a function that ends in the call.
            let fits = is_here(frame.pc) == Some(true) || is_here(frame.pc.wrapping_sub(1)) == Some(true);
            if !fits {
                return Some((frame.pc, frame.function));
            }
        }
    }
    None
}

/// The same address in a debug=0 profile and in the trace is one function.
fn calls_and_trace(found: &mut Comparison, side: &Side, trace: (&str, &Trace)) {
    let Some(facts) = side.facts.filter(|facts| !facts.calls.is_empty()) else { return };
    for stack in trace.1.stacks() {
        for frame in trace.1.stack(stack) {
            let Some(names) = facts.calls.get(&frame.pc) else { continue };
            if !frame.function.is_empty() && !names.contains(&Functions::hash(frame.function)) {
                let (pc, function, (name, _)) = (frame.pc, frame.function, trace);
                found.say(None, || format!("{name} has {function} at {pc:#x}, where {} has another function", side.id));
                return;
            }
        }
    }
}

fn list(ids: &[u64]) -> String {
    let shown: Vec<String> = ids.iter().take(4).map(u64::to_string).collect();
    let more = ids.len().saturating_sub(shown.len());
    shown.join(", ") + &if more > 0 { format!(" and {more} more") } else { String::new() }
}

/// The function a goroutine started in, where its whole stack is there.
fn start(one: &Seen, symbols: &Symbols) -> Option<String> {
    one.start.map(|id: Text| bare(symbols.text(id))).filter(|name| !name.is_empty())
}

/// The function inside the compiler's wrapper of a `go` statement, where the goroutine waits in it.
fn wrapped(trace: &Trace, goroutine: &trace::Goroutine) -> Option<String> {
    let stack: Vec<&str> = trace.stack(super::wait_stack(goroutine)?).map(|frame| frame.function).collect();
    let (outermost, inner) = stack.split_last()?;
    // A stack of as many frames as a trace holds may lack its outer end, but then does not end in a wrapper.
    let inner = inner.last().filter(|_| is_go_wrapper(outermost))?;
    Some(bare(inner))
}

fn bare(name: &str) -> String {
    without_type_arguments(name).into_owned()
}
