//! `gomap goroutines`: all of them, or those that a filter leaves, one by one or in groups.

use super::{flush, flush_if_full, line};
use crate::error::Watch;
use crate::goroutine::{list, Blocked, Channel, Direction, Goroutine, Line, On, Queue};
use crate::session::Session;
use crate::{Error, Result};
use regex::Regex;
use rustc_hash::FxHashMap;
use serde_json::{json, Value};
use std::fmt::Write as _;
use std::io::Write;

/// Which goroutines, and how.
#[derive(Debug, Default)]
pub struct GoroutineOptions {
    /// Status or wait reason, or the start of one.
    pub state: Option<String>,
    /// A function on the stack.
    pub func: Option<Regex>,
    /// Address of the object waited on.
    pub on: Option<u64>,
    /// A pprof label and its value.
    pub label: Option<(String, String)>,
    /// Alike ones together.
    pub group: bool,
    /// Stacks in text (JSON always has them).
    pub stack: bool,
    pub json: bool,
}

impl GoroutineOptions {
    fn keeps(&self, goroutine: &Goroutine) -> bool {
        let state = |wanted: &String| {
            goroutine.state().starts_with(wanted.as_str()) || goroutine.status_name() == wanted.as_str()
        };
        let label = |wanted: &(String, String)| goroutine.labels.contains(wanted);
        self.state.as_ref().is_none_or(state)
            && self.func.as_ref().is_none_or(|func| goroutine.lines().any(|(_, line)| func.is_match(&line.func)))
            && self.on.is_none_or(|on| is_on(goroutine, on))
            && self.label.as_ref().is_none_or(label)
    }
}

fn is_on(goroutine: &Goroutine, address: u64) -> bool {
    goroutine.blocked_on.as_ref().is_some_and(|blocked| match blocked {
        Blocked::Semaphore(sync) => sync.address == address || sync.sema == address,
        other => other.addresses().contains(&address),
    })
}

/// Parses `K=V`.
pub fn parse_label(text: &str) -> Result<(String, String)> {
    let split = text.split_once('=').map(|(key, value)| (key.to_string(), value.to_string()));
    split.ok_or_else(|| Error::Usage(format!("a label filter is KEY=VALUE, not {text:?}")))
}

/// Shows the goroutines of a target.
pub fn goroutines(session: &Session, options: &GoroutineOptions, watch: &dyn Watch, out: &mut dyn Write) -> Result<()> {
    let found = list(session, watch)?;
    let ids = found.ids();
    let kept: Vec<&Goroutine> = found.all.iter().filter(|g| options.keeps(g)).collect();
    let mut notes = session.notes.clone();
    notes.extend(found.notes.iter().cloned());
    if options.group {
        return groups(&kept, &ids, options, &notes, out);
    }
    let mut buffer = Vec::new();
    if options.json {
        buffer.extend_from_slice(b"{\"goroutines\":[");
        for (i, goroutine) in kept.iter().enumerate() {
            if i > 0 {
                buffer.push(b',');
            }
            serde_json::to_writer(&mut buffer, &document(goroutine, &ids)).map_err(|e| super::write_error(e.into()))?;
            flush_if_full(out, &mut buffer)?;
        }
        let tail = json!({"shown": kept.len(), "total": found.all.len(), "dead": found.dead, "notes": notes});
        let tail = tail.to_string();
        buffer.extend_from_slice(b"],");
        buffer.extend_from_slice(&tail.as_bytes()[1..]);
        buffer.push(b'\n');
    } else {
        for goroutine in &kept {
            buffer.extend_from_slice(text(goroutine, &ids, options.stack).as_bytes());
            flush_if_full(out, &mut buffer)?;
        }
        let total = found.all.len();
        let mut end = format!("{} of {total} goroutines, {} dead ones left out\n", kept.len(), found.dead);
        notes.iter().for_each(|note| end += &format!("note: {note}\n"));
        buffer.extend_from_slice(end.as_bytes());
    }
    flush(out, &mut buffer)
}

/// What makes goroutines alike: state and PCs.
fn groups(
    kept: &[&Goroutine],
    ids: &FxHashMap<u64, u64>,
    options: &GoroutineOptions,
    notes: &[String],
    out: &mut dyn Write,
) -> Result<()> {
    let mut groups: FxHashMap<(String, Vec<u64>), Vec<&Goroutine>> = FxHashMap::default();
    for goroutine in kept {
        let pcs = goroutine.stack.frames.iter().map(|frame| frame.pc).collect();
        groups.entry((goroutine.state(), pcs)).or_default().push(goroutine);
    }
    let mut groups: Vec<Vec<&Goroutine>> = groups.into_values().collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.len()), group[0].goid));
    if options.json {
        let documents: Vec<Value> = groups
            .iter()
            .map(|group| {
                let goids: Vec<u64> = group.iter().map(|g| g.goid).collect();
                let stack = document(group[0], ids)["stack"].take();
                json!({"count": group.len(), "state": group[0].state(), "goids": goids, "stack": stack})
            })
            .collect();
        return line(out, &json!({"groups": documents, "shown": kept.len(), "notes": notes}));
    }
    let mut buffer = Vec::new();
    for group in &groups {
        let goids: Vec<String> = group.iter().take(20).map(|g| g.goid.to_string()).collect();
        let more = if group.len() > 20 { ", …" } else { "" };
        let plural = if group.len() == 1 { "" } else { "s" };
        let head = format!("{} goroutine{plural} [{}]: {}{more}\n", group.len(), group[0].state(), goids.join(", "));
        buffer.extend_from_slice(head.as_bytes());
        buffer.extend_from_slice(stack_text(group[0]).as_bytes());
        flush_if_full(out, &mut buffer)?;
    }
    notes.iter().for_each(|note| buffer.extend_from_slice(format!("note: {note}\n").as_bytes()));
    flush(out, &mut buffer)
}

/// `main.f at main.go:12`.
pub(super) fn place(line: &Line) -> String {
    let file = line.file.rsplit('/').next().unwrap_or(&line.file);
    format!("{} at {file}:{}", line.func, line.line)
}

/// The first line that is the program's own and not the runtime's or the library's waiting.
pub(super) fn user_line(goroutine: &Goroutine) -> Option<&Line> {
    const WAITING: [&str; 6] = ["runtime.", "sync.", "internal/", "time.", "syscall.", "reflect."];
    let lines = || goroutine.lines().map(|(_, line)| line);
    lines().find(|line| !WAITING.iter().any(|start| line.func.starts_with(start))).or_else(|| lines().next())
}

pub(super) fn text(goroutine: &Goroutine, ids: &FxHashMap<u64, u64>, stack: bool) -> String {
    let mut text = format!("goroutine {} [{}]", goroutine.goid, goroutine.state());
    if goroutine.system {
        text += " (runtime's own)";
    }
    if let Some(line) = user_line(goroutine) {
        let _ = write!(text, " {}", place(line));
    }
    if let Some(thread) = goroutine.thread {
        let p = goroutine.p.map_or(String::new(), |p| format!(", P {p}"));
        let _ = write!(text, ", thread {thread}{p}");
    }
    text.push('\n');
    if let Some(blocked) = &goroutine.blocked_on {
        let _ = writeln!(text, "  waits on {}", blocked_text(blocked, ids));
    }
    for (key, value) in &goroutine.labels {
        let _ = writeln!(text, "  label {key}={value}");
    }
    for torn in &goroutine.torn {
        let _ = writeln!(text, "  note: {torn}");
    }
    if stack {
        text += &stack_text(goroutine);
        if let Some(start) = &goroutine.start {
            let _ = writeln!(text, "  started in {}", start.func);
        }
        if let Some(at) = &goroutine.created_at {
            let by = goroutine.parent.filter(|&p| p != 0).map_or(String::new(), |p| format!(" by goroutine {p}"));
            let _ = writeln!(text, "  created{by} in {}", place(at));
        }
        if let Some(since) = goroutine.seen_waiting_since {
            let _ = writeln!(text, "  a garbage collection saw it waiting at {since} ns of the runtime's clock");
        }
    }
    text
}

fn stack_text(goroutine: &Goroutine) -> String {
    let mut text = String::new();
    for (frame, line) in goroutine.lines() {
        let on = match frame.on {
            On::Goroutine => "",
            On::System => "  [system stack]",
            On::Signal => "  [signal stack]",
        };
        let inlined = if line.inlined { "  [inlined]" } else { "" };
        let _ = writeln!(text, "    {:#x} {}{inlined}{on}", frame.pc, place(line));
    }
    text
}

fn queue_text(queue: &Queue, what: &str, ids: &FxHashMap<u64, u64>) -> String {
    if queue.count == 0 {
        return String::new();
    }
    let names: Vec<String> = goids(queue, ids).iter().map(u64::to_string).collect();
    let more = if queue.count as usize > names.len() { ", …" } else { "" };
    format!(", {} {what} ({}{more})", queue.count, names.join(", "))
}

fn goids(queue: &Queue, ids: &FxHashMap<u64, u64>) -> Vec<u64> {
    queue.first.iter().filter_map(|g| ids.get(g).copied()).collect()
}

fn channel_text(channel: &Channel, ids: &FxHashMap<u64, u64>) -> String {
    let closed = if channel.closed { ", closed" } else { "" };
    let timer = if channel.timer { ", of a timer" } else { "" };
    format!(
        "channel {:#x} (len {}, cap {}{closed}{timer}){}{}",
        channel.address,
        channel.len,
        channel.cap,
        queue_text(&channel.receivers, "receiving", ids),
        queue_text(&channel.senders, "sending", ids)
    )
}

fn verb(direction: Direction) -> &'static str {
    match direction {
        Direction::Receive => "receive",
        Direction::Send => "send",
    }
}

/// The object in words.
pub(super) fn blocked_text(blocked: &Blocked, ids: &FxHashMap<u64, u64>) -> String {
    match blocked {
        Blocked::NilChan => "a nil channel: nothing can wake it".into(),
        Blocked::Chan { channel, .. } => channel_text(channel, ids),
        Blocked::Select(cases) if cases.is_empty() => "a select without any channel that is not nil".into(),
        Blocked::Select(cases) => {
            let cases: Vec<String> =
                cases.iter().map(|c| format!("{} on {}", verb(c.direction), channel_text(&c.channel, ids))).collect();
            format!("{} cases: {}", cases.len(), cases.join("; "))
        }
        Blocked::Semaphore(sync) => {
            let state = sync.state.as_ref().map_or(String::new(), |state| format!(" ({state})"));
            format!("{} {:#x}{state}, {} waiting on its semaphore", blocked.kind(), sync.address, sync.waiters)
        }
        Blocked::Cond { address } => format!("cond {address:#x}"),
        Blocked::Poll { desc, fd } => {
            let fd = fd.map_or("unknown descriptor".to_string(), |fd| format!("descriptor {fd}"));
            format!("{fd} (poll record {desc:#x})")
        }
        Blocked::Timer { due } => match due {
            Some(due) => format!("a timer due at {due} ns of the runtime's clock"),
            None => "a timer".into(),
        },
    }
}

fn channel_json(channel: &Channel, ids: &FxHashMap<u64, u64>) -> Value {
    let queue = |queue: &Queue| json!({"count": queue.count, "goids": goids(queue, ids), "cut": queue.cut});
    json!({
        "address": format!("{:#x}", channel.address), "len": channel.len, "cap": channel.cap,
        "closed": channel.closed, "timer": channel.timer,
        "receivers": queue(&channel.receivers), "senders": queue(&channel.senders),
    })
}

/// `blocked_on` as JSON.
pub(super) fn blocked_json(blocked: &Blocked, ids: &FxHashMap<u64, u64>) -> Value {
    let hex = |address: u64| format!("{address:#x}");
    let mut value = match blocked {
        Blocked::NilChan => json!({"address": null}),
        Blocked::Chan { channel, direction } => {
            let mut value = channel_json(channel, ids);
            value["direction"] = verb(*direction).into();
            value
        }
        Blocked::Select(cases) => {
            let cases: Vec<Value> = cases
                .iter()
                .map(|case| {
                    let mut value = channel_json(&case.channel, ids);
                    value["direction"] = verb(case.direction).into();
                    value
                })
                .collect();
            json!({"address": null, "cases": cases})
        }
        Blocked::Semaphore(sync) => json!({
            "address": hex(sync.address), "semaphore": hex(sync.sema), "waiters": sync.waiters, "state": sync.state,
        }),
        Blocked::Cond { address } => json!({"address": hex(*address)}),
        Blocked::Poll { desc, fd } => json!({"address": hex(*desc), "fd": fd}),
        Blocked::Timer { due } => json!({"address": null, "due": due}),
    };
    value["kind"] = blocked.kind().into();
    value
}

fn line_json(line: &Option<Line>) -> Value {
    line.as_ref().map_or(Value::Null, |line| json!({"func": &*line.func, "file": &*line.file, "line": line.line}))
}

/// One goroutine as JSON.
pub(super) fn document(goroutine: &Goroutine, ids: &FxHashMap<u64, u64>) -> Value {
    let stack: Vec<Value> = goroutine
        .lines()
        .map(|(frame, line)| {
            let stack = match frame.on {
                On::Goroutine => "goroutine",
                On::System => "system",
                On::Signal => "signal",
            };
            json!({
                "pc": format!("{:#x}", frame.pc), "func": &*line.func, "file": &*line.file, "line": line.line,
                "inlined": line.inlined, "on": stack,
            })
        })
        .collect();
    let labels: serde_json::Map<String, Value> =
        goroutine.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    json!({
        "goid": goroutine.goid,
        "g": format!("{:#x}", goroutine.g),
        "status": goroutine.status_name(),
        "reason": goroutine.reason.as_deref(),
        "m": goroutine.m, "thread": goroutine.thread, "p": goroutine.p,
        "labels": labels,
        "system": goroutine.system,
        "parent": goroutine.parent,
        "created_at": line_json(&goroutine.created_at),
        "start": line_json(&goroutine.start),
        "gc_saw_waiting_at": goroutine.seen_waiting_since,
        "stack": stack,
        "blocked_on": goroutine.blocked_on.as_ref().map(|blocked| blocked_json(blocked, ids)),
        "torn": goroutine.torn,
    })
}
