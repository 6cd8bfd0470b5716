//! The trace's window on the other clocks, and how the profiles and the memory lie to it.

use super::record::{Alignment, Input, InputKind, Now, Process, Taken};
use crate::evidence::trace::{OtherTime, Trace};

/// A profile taken farther than this from the trace shows another moment: ns.
const FAR: i64 = 60_000_000_000;
/// The wall clock may be slewed by this much over a trace without a word: ns.
const SLEW: u128 = 1_000_000;

/// The kernel slews the monotonic and the wall clock together, but steps only the wall clock: what two readings of
/// both differ by is a step, or this share of the time between them (`MAX_TICKADJ`, 500 ppm).
const SLEW_SHARE: i64 = 2000;

/// Relates the trace's window to the monotonic clock, to wall clock and to the moment of the memory; `inputs` are
/// profiles with the time of their files' last change, `moments` what goroutines tell of when each source was taken.
pub fn align(
    trace: Option<&Trace>,
    process: Option<&Process>,
    inputs: &[(&Input, Option<i64>)],
    moments: Vec<Taken>,
) -> Alignment {
    let mut now = process.map(|process| Now { low: process.now.0, high: process.now.1, residual: None });
    let Some(trace) = trace else {
        return Alignment { source: "none", wall_source: "none", now, ..Alignment::default() };
    };
    let clocks = &trace.clocks;
    let both = |map: &dyn Fn(i64) -> Option<OtherTime>| {
        let (first, last) = trace.window?;
        let (first, last) = (map(first)?, map(last)?);
        Some((i64::try_from(first.ns).ok()?, i64::try_from(last.ns).ok()?, first.residual.max(last.residual)))
    };
    let mono = both(&|at| clocks.mono(at));
    let told = both(&|at| clocks.wall(at));
    let of_memory = |process: &Process| wall_by_memory(mono?, process);
    let mut warnings = Vec::new();
    if let Some(drift) = clocks.wall_drift().filter(|drift| drift.unsigned_abs() > SLEW) {
        let ms = drift as f64 / 1e6;
        warnings.push(format!("the wall clock moved by {ms:+.1} ms against the monotonic clock while the trace ran"));
    }
    let by_memory = process.and_then(of_memory);
    if let Some(((told, _, _), (ours, _, allowed))) = told.zip(by_memory) {
        let residual = told.abs_diff(ours);
        now = now.map(|now| Now { residual: Some(residual), ..now });
        if residual > allowed.saturating_add(SLEW as u64) {
            let ms = residual as f64 / 1e6;
            warnings.push(format!("the wall clock of the trace and that of the memory differ by {ms:.1} ms"));
        }
    }
    let wall = told.or(by_memory);
    let wall_source = match (told, by_memory, process.and_then(|process| process.clocks)) {
        (Some(_), ..) => "clock_snapshot",
        (None, Some(_), Some((_, _, source))) => source,
        _ => "none",
    };
    if let Some((first, last, _)) = wall {
        inputs.iter().for_each(|(input, written)| warnings.extend(distance(input, *written, first, last)));
    }
    if let (Some((_, last, _)), Some((high, _))) = (mono, now.and_then(|now| now.high)) {
        if last > high.saturating_add(SLEW as i64) {
            let seconds = last.saturating_sub(high) as f64 / 1e9;
            warnings.push(format!("the trace goes on {seconds:.3} s after the memory was dumped, by their clocks"));
        }
    }
    let (of_memory, profiles): (Vec<Taken>, Vec<Taken>) =
        moments.into_iter().partition(|taken| taken.kind == InputKind::Memory);
    let seen = of_memory.iter().find_map(|taken| i64::try_from(clocks.mono(taken.low?)?.ns).ok());
    if let (Some(now), Some(seen)) = (&mut now, seen) {
        now.low = now.low.max(Some((seen, "a goroutine that it shares with the trace")));
    }
    let source = clocks.relation().name();
    Alignment { window: trace.window, mono, wall, source, wall_source, now, profiles, warnings }
}

/// The trace's window on the wall clock by the clocks of the memory, for a trace that has no clock snapshots.
fn wall_by_memory((first, last, step): (i64, i64, u64), process: &Process) -> Option<(i64, i64, u64)> {
    let (at, _, _) = process.clocks?;
    let residual = at.abs_diff(first).max(at.abs_diff(last)) / SLEW_SHARE as u64;
    Some((process.wall(first)?, process.wall(last)?, step.saturating_add(residual)))
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
