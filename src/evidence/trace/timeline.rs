//! One goroutine's life, drawn for a terminal and as JSON.

use super::event::GoState;
use super::listing::wall_text;
use super::model::{Block, Goroutine, Span, StackRef, TextId, Trace};
use serde_json::{json, Value};
use std::fmt::Write;

/// Rows of states printed; a bar shows the rest.
const MAX_ROWS: usize = 40;
/// Frames shown of a stack.
const MAX_FRAMES: usize = 6;
/// Frames of a stack in JSON.
const MAX_JSON_FRAMES: usize = 128;

/// Draws goroutine `goid`'s states over the trace's window, `width` columns wide (40 at least).
///
/// Text from the trace is escaped: no control character reaches the terminal.
pub fn timeline(trace: &Trace, goid: u64, width: usize, colour: bool) -> String {
    let Some(g) = trace.goroutines.get(&goid) else { return unknown(trace, goid) };
    let paint = Paint { colour };
    let width = width.clamp(40, 500);
    let mut out = header(trace, g);
    if let Some((first, last)) = trace.window {
        let cells = bar(g, first, last, width - 2);
        out.push('|');
        cells.iter().for_each(|state| paint.cell(&mut out, *state));
        out.push_str("|\n");
        let (left, right) = (seconds(0), seconds(last.saturating_sub(first)));
        let gap = width.saturating_sub(left.len() + right.len());
        let _ = writeln!(out, "{left}{:gap$}{right}", "");
        out.push_str("# running  - runnable  s syscall  . waiting\n");
        rows(&mut out, trace, g, first, &paint);
    }
    block_lines(&mut out, trace, g);
    if g.map_sample_count > 0 {
        let last = g.map_samples.back();
        let function = last.map(|sample| clean(trace.text(sample.function))).unwrap_or_default();
        let _ = writeln!(
            out,
            "{} of {} CPU samples are in map functions, last {function}",
            g.map_sample_count, g.cpu_samples
        );
    }
    for note in &trace.notes {
        let _ = writeln!(out, "note: {}", clean(note));
    }
    out
}

fn unknown(trace: &Trace, goid: u64) -> String {
    let mut out = format!("The trace does not tell of goroutine {goid}");
    if trace.counts.goroutines_dropped > 0 {
        out.push_str(" (or it ended and was left out to bound memory)");
    }
    if let (Some((first, _)), Some((last, _))) = (trace.goroutines.first_key_value(), trace.goroutines.last_key_value())
    {
        let _ = write!(out, ": it knows {} goroutines, {first} to {last}", trace.goroutines.len());
    }
    out.push_str(".\n");
    out
}

fn header(trace: &Trace, g: &Goroutine) -> String {
    let start = g.start_function.map_or_else(|| "unknown start".to_owned(), |id| clean(trace.text(id)));
    let mut out = format!("goroutine {}  {start}\n", g.goid);
    let origin = trace.window.map_or(0, |(first, _)| first);
    match g.created {
        Some(created) => {
            let _ = write!(out, "created at {}", seconds(created.time.saturating_sub(origin)));
            match created.by {
                Some(by) => {
                    let _ = write!(out, " by goroutine {by}");
                }
                None => out.push_str(" by the runtime"),
            }
            if let Some(at) = created.stack.and_then(|stack| trace.stack(stack).next()) {
                let _ = write!(out, " in {} ({}:{})", clean(at.function), clean(at.file), at.line);
            }
            out.push('\n');
        }
        None => out.push_str("older than the trace\n"),
    }
    if let Some(wall) = trace.clocks.wall(origin) {
        let (seconds, nanos) = (wall.ns.div_euclid(1_000_000_000), wall.ns.rem_euclid(1_000_000_000));
        let text = wall_text(i64::try_from(seconds).unwrap_or(i64::MAX), nanos as u32);
        let _ = writeln!(out, "0 is {text} (within {} ns)", wall.residual);
    }
    out
}

/// The state that fills most of each column's time; None where nothing is known.
fn bar(g: &Goroutine, first: i64, last: i64, columns: usize) -> Vec<Option<GoState>> {
    let length = i128::from(last) - i128::from(first) + 1;
    let edge = |column: usize| i128::from(first) + length * column as i128 / columns.max(1) as i128;
    let mut cells = Vec::with_capacity(columns);
    let mut spans = g.spans.iter().peekable();
    for column in 0..columns {
        let (from, to) = (edge(column), edge(column + 1).max(edge(column) + 1));
        let mut best: Option<(i128, GoState)> = None;
        while let Some(span) = spans.peek() {
            let end = span_end(g, span, last);
            let share = end.min(to) - i128::from(span.start).max(from);
            if share > 0 && best.is_none_or(|(most, _)| share > most) {
                best = Some((share, span.state));
            }
            if end > to || i128::from(span.start) >= to {
                break;
            }
            spans.next();
        }
        cells.push(best.map(|(_, state)| state));
    }
    cells
}

fn span_end(g: &Goroutine, span: &Span, last: i64) -> i128 {
    i128::from(span.end.or(g.ended).unwrap_or(last)) + i128::from(span.end.is_none())
}

fn rows(out: &mut String, trace: &Trace, g: &Goroutine, origin: i64, paint: &Paint) {
    let hidden = g.spans.len().saturating_sub(MAX_ROWS) as u64 + g.spans_dropped;
    if hidden > 0 {
        let _ = writeln!(out, "  ({hidden} earlier states are not listed)");
    }
    for span in g.spans.iter().skip(g.spans.len().saturating_sub(MAX_ROWS)) {
        let _ = write!(out, "  {:>14}  ", seconds(span.start.saturating_sub(origin)));
        paint.state(out, span.state);
        match span.end {
            Some(end) => {
                let _ = write!(out, " {:>12}", duration(end.saturating_sub(span.start)));
            }
            None => {
                let _ = write!(out, " {:>12}", "to the end");
            }
        }
        if let Some(proc) = span.proc {
            let _ = write!(out, "  P{proc}");
        }
        if let Some(thread) = span.thread {
            let _ = write!(out, " M{thread}");
        }
        if let Some(reason) = span.reason {
            let _ = write!(out, "  {}", clean(trace.text(reason)));
        }
        out.push('\n');
    }
    if let Some(ended) = g.ended {
        let _ = writeln!(out, "  {:>14}  ended", seconds(ended.saturating_sub(origin)));
    }
}

fn block_lines(out: &mut String, trace: &Trace, g: &Goroutine) {
    if g.waits_since_before() {
        out.push_str("waits since before the trace began; the trace tells neither since when nor why\n");
        if let Some(stack) = g.spans.back().and_then(|span| span.stack) {
            stack_lines(out, trace, stack);
        }
        return;
    }
    let Some(block) = g.last_block else { return };
    let reason = block.reason.map_or_else(|| "no reason given".to_owned(), |id| clean(trace.text(id)));
    let _ = write!(out, "last block: {reason}, ");
    match (block.woken, trace.window) {
        (Some(woken), _) => {
            let _ = writeln!(out, "woken after {}", duration(woken.saturating_sub(block.time)));
        }
        (None, Some((_, last))) => {
            let _ = writeln!(out, "never woken in the {} to the end", duration(last.saturating_sub(block.time)));
        }
        (None, None) => out.push_str("never woken\n"),
    }
    if let Some(stack) = block.stack {
        stack_lines(out, trace, stack);
    }
    if let Some(wake) = g.wakers.back() {
        let by = wake.by.map_or_else(|| "the runtime".to_owned(), |goid| format!("goroutine {goid}"));
        let _ = writeln!(out, "woken {} times, last by {by}", g.wakes);
        if let Some(stack) = wake.stack {
            stack_lines(out, trace, stack);
        }
    }
}

fn stack_lines(out: &mut String, trace: &Trace, stack: StackRef) {
    for frame in trace.stack(stack).take(MAX_FRAMES) {
        let _ = writeln!(out, "    {} ({}:{})", clean(frame.function), clean(frame.file), frame.line);
    }
    let more = trace.stack(stack).count().saturating_sub(MAX_FRAMES);
    if more > 0 {
        let _ = writeln!(out, "    ... {more} more");
    }
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn code(state: GoState) -> &'static str {
        match state {
            GoState::Running => "32",
            GoState::Runnable => "33",
            GoState::Syscall => "36",
            _ => "31",
        }
    }

    fn coloured(&self, out: &mut String, state: GoState, text: &str) {
        let _ = match self.colour {
            true => write!(out, "\x1b[{}m{text}\x1b[0m", Paint::code(state)),
            false => out.write_str(text),
        };
    }

    fn cell(&self, out: &mut String, state: Option<GoState>) {
        match state {
            Some(GoState::Running) => self.coloured(out, GoState::Running, "#"),
            Some(GoState::Runnable) => self.coloured(out, GoState::Runnable, "-"),
            Some(GoState::Syscall) => self.coloured(out, GoState::Syscall, "s"),
            Some(GoState::Waiting) => self.coloured(out, GoState::Waiting, "."),
            _ => out.push(' '),
        }
    }

    fn state(&self, out: &mut String, state: GoState) {
        self.coloured(out, state, &format!("{:<8}", state.name().to_lowercase()));
    }
}

/// Escapes what could act on a terminal.
fn clean(text: &str) -> String {
    // Besides control characters: those that reorder text or are invisible.
    let acts = |c: char| {
        c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().flat_map(|c| if acts(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

fn seconds(ns: i64) -> String {
    format!("{:.6}s", ns as f64 / 1e9)
}

fn duration(ns: i64) -> String {
    match ns {
        ..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.3} s", ns as f64 / 1e9),
    }
}

/// One goroutine as JSON; times in ns of trace time, `null` for what the trace does not tell.
pub fn timeline_json(trace: &Trace, goid: u64) -> Option<Value> {
    let g = trace.goroutines.get(&goid)?;
    let text = |id: Option<TextId>| id.map(|id| trace.text(id));
    let stack = |stack: Option<StackRef>| stack.map(|stack| stack_json(trace, stack));
    let block = |b: &Block| {
        json!({"time": b.time, "mono": mono(trace, b.time), "reason": text(b.reason), "p": b.proc, "m": b.thread,
            "woken": b.woken, "stack": stack(b.stack)})
    };
    Some(json!({
        "goid": g.goid,
        "start_function": text(g.start_function),
        "created": g.created.map(|c| json!({"time": c.time, "by": c.by, "stack": stack(c.stack)})),
        "first_seen": g.first_seen,
        "ended": g.ended,
        "state": g.state().name(),
        "waits_since_before_trace": g.waits_since_before(),
        "states": g.spans.iter().map(|s| json!({"start": s.start, "end": s.end, "state": s.state.name(),
            "reason": text(s.reason), "p": s.proc, "m": s.thread})).collect::<Vec<_>>(),
        "states_dropped": g.spans_dropped,
        "last_block": g.last_block.as_ref().map(block),
        "blocks": g.blocks,
        "woken": g.wakes,
        "wakers": g.wakers.iter().map(|w| json!({"time": w.time, "by": w.by, "stack": stack(w.stack)})).collect::<Vec<_>>(),
        "times_ns": {"running": g.times.running, "runnable": g.times.runnable, "waiting": g.times.waiting, "syscall": g.times.syscall},
        "cpu_samples": g.cpu_samples,
        "map_sample_count": g.map_sample_count,
        "map_samples": g.map_samples.iter().map(|m| json!({"time": m.time, "function": trace.text(m.function),
            "stack": stack_json(trace, m.stack), "followed_by": m.followed_by.as_ref().map(block)})).collect::<Vec<_>>(),
        "label": text(g.label),
        "window": trace.window,
        "clock": {"relation": trace.clocks.relation().name(), "window_mono": trace.window.map(|w| [mono(trace, w.0), mono(trace, w.1)])},
        "notes": trace.notes,
    }))
}

fn mono(trace: &Trace, time: i64) -> Value {
    let at = trace.clocks.mono(time).and_then(|mono| i64::try_from(mono.ns).ok());
    json!(at)
}

fn stack_json(trace: &Trace, stack: StackRef) -> Vec<Value> {
    let frames = trace.stack(stack).take(MAX_JSON_FRAMES);
    frames.map(|f| json!({"func": f.function, "file": f.file, "line": f.line, "pc": format!("{:#x}", f.pc)})).collect()
}
