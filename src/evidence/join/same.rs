//! Whether two sources tell of one process: goroutine ids are never used twice in a process, so the same id must
//! start in the same function and come from the same creator.

use rustc_hash::FxHashMap;

use super::Seen;
use crate::evidence::clusters::{is_go_wrapper, without_type_arguments};
use crate::evidence::profile::{Symbols, Text};
use crate::evidence::trace::{self, Trace};

/// Contradictions kept; more prove nothing more.
const MAX_CONFLICTS: usize = 20;

/// What the comparison of two sources found.
#[derive(Debug, Default)]
pub struct Comparison {
    pub differ: u64,
    /// `(goid, sentence)`, the first of them.
    pub conflicts: Vec<(u64, String)>,
}

impl Comparison {
    /// Whether the sources are of different processes or builds: two runs of one program have most goroutines alike,
    /// so one that differs is enough.
    pub fn is_foreign(&self) -> bool {
        self.differ > 0
    }

    fn add(&mut self, goid: u64, a: (&str, &str), b: (&str, &str), what: &str) {
        if a.1 == b.1 {
            return;
        }
        self.differ += 1;
        if self.conflicts.len() < MAX_CONFLICTS {
            let ((a_name, a), (b_name, b)) = (a, b);
            self.conflicts.push((goid, format!("goroutine {goid} {what} {a} in {a_name}, but {b} in {b_name}")));
        }
    }
}

/// Compares what two profiles say of the goroutines that are in both.
pub fn profiles(a: (&str, usize), b: (&str, usize), seen: &FxHashMap<u64, Vec<Seen>>, symbols: &Symbols) -> Comparison {
    let mut found = Comparison::default();
    let mut goids: Vec<&u64> = seen.keys().collect();
    goids.sort_unstable();
    for goid in goids {
        let Some(all) = seen.get(goid) else { continue };
        let of = |input: usize| all.iter().find(|one| one.input == input);
        let (Some(one), Some(two)) = (of(a.1), of(b.1)) else { continue };
        if let (Some(x), Some(y)) = (start(one, symbols), start(two, symbols)) {
            found.add(*goid, (a.0, &x), (b.0, &y), "starts in");
        }
    }
    found
}

/// Compares what a profile and the trace say of the goroutines that are in both.
pub fn with_trace(
    profile: (&str, usize),
    trace: (&str, &Trace),
    seen: &FxHashMap<u64, Vec<Seen>>,
    symbols: &Symbols,
) -> Comparison {
    let mut found = Comparison::default();
    for (goid, goroutine) in &trace.1.goroutines {
        // The main goroutine starts in runtime.main everywhere.
        let Some(one) = seen.get(goid).and_then(|all| all.iter().find(|one| one.input == profile.1)) else { continue };
        if *goid == 1 {
            continue;
        }
        let theirs = goroutine.start_function.map(|id| trace.1.text(id)).unwrap_or_default();
        if theirs.is_empty() {
            continue;
        }
        if is_go_wrapper(theirs) {
            // The compiler's wrapper is named after the function with the `go` statement; profiles leave it out.
            let around = theirs.rfind(".gowrap").and_then(|at| theirs.get(..at)).unwrap_or(theirs);
            if let Some(creator) = one.created_by.map(|id| bare(symbols.text(id))) {
                found.add(*goid, (profile.0, &creator), (trace.0, &bare(around)), "is created by");
            }
            if let (Some(ours), Some(theirs)) = (start(one, symbols), wrapped(trace.1, goroutine)) {
                found.add(*goid, (profile.0, &ours), (trace.0, &theirs), "starts in");
            }
        } else if let Some(ours) = start(one, symbols) {
            found.add(*goid, (profile.0, &ours), (trace.0, &bare(theirs)), "starts in");
        }
        let parent = goroutine.created.and_then(|creation: trace::Creation| creation.by);
        if let (Some(ours), Some(theirs)) = (one.parent, parent) {
            let (ours, theirs) = (format!("goroutine {ours}"), format!("goroutine {theirs}"));
            found.add(*goid, (profile.0, &ours), (trace.0, &theirs), "comes from");
        }
    }
    found
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
