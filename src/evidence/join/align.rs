//! The trace's window on the other clocks, and how the profiles lie to it.

use super::record::{Alignment, Input};
use crate::evidence::trace::{OtherTime, Trace};

/// A profile taken farther than this from the trace shows another moment: ns.
const FAR: i64 = 60_000_000_000;
/// The wall clock may be slewed by this much over a trace without a word: ns.
const SLEW: u128 = 1_000_000;

/// Relates the trace's window to the monotonic clock and to wall clock; `inputs` are profiles with the time of
/// their files' last change.
pub fn align(trace: Option<&Trace>, inputs: &[(&Input, Option<i64>)]) -> Alignment {
    let Some(trace) = trace else { return Alignment { source: "none", ..Alignment::default() } };
    let clocks = &trace.clocks;
    let both = |map: &dyn Fn(i64) -> Option<OtherTime>| {
        let (first, last) = trace.window?;
        let (first, last) = (map(first)?, map(last)?);
        Some((i64::try_from(first.ns).ok()?, i64::try_from(last.ns).ok()?, first.residual.max(last.residual)))
    };
    let wall = both(&|at| clocks.wall(at));
    let mut warnings = Vec::new();
    if let Some(drift) = clocks.wall_drift().filter(|drift| drift.unsigned_abs() > SLEW) {
        let ms = drift as f64 / 1e6;
        warnings.push(format!("the wall clock moved by {ms:+.1} ms against the monotonic clock while the trace ran"));
    }
    if let Some((first, last, _)) = wall {
        inputs.iter().for_each(|(input, written)| warnings.extend(distance(input, *written, first, last)));
    }
    let mono = both(&|at| clocks.mono(at));
    Alignment { window: trace.window, mono, wall, source: clocks.relation().name(), warnings }
}

/// A warning about a profile that was taken well before or after the trace.
fn distance(input: &Input, written: Option<i64>, first: i64, last: i64) -> Option<String> {
    let seconds = |ns: i64| ns / 1_000_000_000;
    let name = &input.id;
    match (input.taken, written) {
        (Some(at), _) if at > last.saturating_add(FAR) => Some(format!(
            "{name} was taken {} s after the trace ended: goroutines may have moved on",
            seconds(at.saturating_sub(last))
        )),
        (Some(at), _) if at < first.saturating_sub(FAR) => Some(format!(
            "{name} was taken {} s before the trace began: goroutines may have moved on",
            seconds(first.saturating_sub(at))
        )),
        (None, Some(at)) if at < first.saturating_sub(FAR) => Some(format!(
            "the file of {name} was last written {} s before the trace began: goroutines may have moved on",
            seconds(first.saturating_sub(at))
        )),
        _ => None,
    }
}
