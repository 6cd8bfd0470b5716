//! One event as text, in the form of `go tool trace -d=parsed`, for reading and for comparing.

use super::event::{Edge, Event, Kind, Range, StackId};
use super::events::Events;
use super::wire::tag;
use crate::value::{push_go_string, GoTime};
use std::fmt::{self, Write};

/// Writes `event` and its stacks, ending with a newline. Wall clock times are in UTC.
pub fn write_event(out: &mut String, events: &Events, event: &Event) -> fmt::Result {
    let Event { thread, proc, goroutine, time, .. } = *event;
    write!(out, "M={thread} P={proc} G={goroutine} {} Time={time}", kind_name(&event.kind))?;
    match event.kind {
        Kind::Sync { number, snapshot } => {
            write!(out, " N={number}")?;
            if let Some(s) = snapshot {
                write!(out, " Trace={} Mono={} Wall={}", s.trace, s.mono, wall_text(s.wall_seconds, s.wall_nanos))?;
            }
        }
        Kind::Goroutine { goid, from, to, reason, stack } => {
            write!(out, " GoID={goid} {}->{} Reason={}", from.name(), to.name(), quote(reason))?;
            write_stack(out, "TransitionStack=", events, stack)?;
        }
        Kind::Proc { proc, from, to } => write!(out, " ProcID={proc} {}->{} Reason=\"\"", from.name(), to.name())?,
        Kind::StackSample => {}
        Kind::Metric { name, value } => write!(out, " Name=\"{name}\" Value=Value{{Uint64({value})}}")?,
        Kind::Label { label } => write!(out, " Label={} Resource=Goroutine({goroutine})", quote(label))?,
        Kind::Range { edge, range, swept } => write_range(out, edge, range, swept)?,
        Kind::TaskBegin { id, parent, name } | Kind::TaskEnd { id, parent, name } => {
            write!(out, " ID={id} Parent={} Type={}", parent as u64, quote(name))?;
        }
        Kind::RegionBegin { task, name } | Kind::RegionEnd { task, name } => {
            write!(out, " Task={task} Type={}", quote(name))?;
        }
        Kind::Log { task, category, message } => {
            write!(out, " Task={task} Category={} Message={}", quote(category), quote(message))?;
        }
        Kind::Experimental { tag, args } => write_experimental(out, tag, args)?,
    }
    write_stack(out, "Stack=", events, event.stack)?;
    out.write_char('\n')
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Sync { .. } => "Sync",
        Kind::Goroutine { .. } | Kind::Proc { .. } => "StateTransition",
        Kind::StackSample => "StackSample",
        Kind::Metric { .. } => "Metric",
        Kind::Label { .. } => "Label",
        Kind::Range { edge: Edge::Begin, .. } => "RangeBegin",
        Kind::Range { edge: Edge::Active, .. } => "RangeActive",
        Kind::Range { edge: Edge::End, .. } => "RangeEnd",
        Kind::TaskBegin { .. } => "TaskBegin",
        Kind::TaskEnd { .. } => "TaskEnd",
        Kind::RegionBegin { .. } => "RegionBegin",
        Kind::RegionEnd { .. } => "RegionEnd",
        Kind::Log { .. } => "Log",
        Kind::Experimental { .. } => "Experimental",
    }
}

fn write_range(out: &mut String, edge: Edge, range: Range, swept: Option<(u64, u64)>) -> fmt::Result {
    match range {
        Range::StopTheWorld { reason, goroutine } => {
            let name = [b"stop-the-world (", reason, b")"].concat();
            write!(out, " Name={} Scope=Goroutine({goroutine})", quote(&name))?;
        }
        Range::GcMark => out.write_str(" Name=\"GC concurrent mark phase\" Scope=None")?,
        Range::GcSweep { proc } => write!(out, " Name=\"GC incremental sweep\" Scope=Proc({proc})")?,
        Range::GcAssist { goroutine } => write!(out, " Name=\"GC mark assist\" Scope=Goroutine({goroutine})")?,
    }
    match (edge, swept) {
        (Edge::End, Some((swept, reclaimed))) => write!(
            out,
            " Attributes=[\"bytes swept\"=Value{{Uint64({swept})}} \"bytes reclaimed\"=Value{{Uint64({reclaimed})}}]"
        ),
        (Edge::End, None) => out.write_str(" Attributes=[]"),
        _ => Ok(()),
    }
}

fn write_experimental(out: &mut String, tag: u8, args: [u64; 4]) -> fmt::Result {
    const NAMES: [(&str, &[&str]); 9] = [
        ("Span", &["id", "npages_value", "kindclass"]),
        ("SpanAlloc", &["id", "npages_value", "kindclass"]),
        ("SpanFree", &["id"]),
        ("HeapObject", &["id", "type"]),
        ("HeapObjectAlloc", &["id", "type"]),
        ("HeapObjectFree", &["id"]),
        ("GoroutineStack", &["id", "order"]),
        ("GoroutineStackAlloc", &["id", "order"]),
        ("GoroutineStackFree", &["id"]),
    ];
    let known = tag.checked_sub(tag::SPAN).and_then(|i| NAMES.get(usize::from(i)));
    let (name, arguments) = known.copied().unwrap_or(("Unknown", &[]));
    let arguments: Vec<String> =
        arguments.iter().zip(args).map(|(name, value)| format!("{name}=Value{{Uint64({value})}}")).collect();
    write!(out, " Name={name} Args=[{}]", arguments.join(", "))
}

fn write_stack(out: &mut String, title: &str, events: &Events, stack: Option<StackId>) -> fmt::Result {
    let Some(stack) = stack else { return Ok(()) };
    write!(out, "\n{title}\n")?;
    for frame in events.frames(stack) {
        let (function, file) = (String::from_utf8_lossy(frame.function), String::from_utf8_lossy(frame.file));
        write!(out, "\t{function} @ {:#x}\n\t\t{file}:{}\n", frame.pc, frame.line)?;
    }
    Ok(())
}

/// Text in double quotes, escaped as Go's `%q` escapes it.
fn quote(text: &[u8]) -> String {
    let mut out = Vec::new();
    push_go_string(&mut out, text);
    String::from_utf8_lossy(&out).into_owned()
}

/// Seconds and nanoseconds since 1970 in Go's `time.RFC3339Nano` form, in UTC.
pub fn wall_text(seconds: i64, nanos: u32) -> String {
    // Go's own times, too, stop being dates long before this bound.
    let seconds = seconds.clamp(-1 << 52, 1 << 52);
    let mut out = Vec::new();
    GoTime { unix: seconds, nanosecond: nanos, offset: 0, location: String::new() }.push_rfc3339(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}
