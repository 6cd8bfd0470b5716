//! `gomap goroutines`: all of them, or those that a filter leaves, one by one or in groups.

use super::{flush, flush_if_full, line, sentences};
use crate::error::Watch;
use crate::goroutine::code::PcInfo;
use crate::goroutine::{
    each, ids, Ancestor, Blocked, Channel, Direction, Frame, Goroutine, Line, On, Queue, Runtime, SyncState,
};
use crate::session::Session;
use crate::{Error, Result};
use regex::Regex;
use rustc_hash::FxHashMap;
use serde_json::{json, Value};
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

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

/// Shows the goroutines of a target; each is read, written and forgotten, for there may be very many.
pub fn goroutines(session: &Session, options: &GoroutineOptions, watch: &dyn Watch, out: &mut dyn Write) -> Result<()> {
    let runtime = Runtime::of(session)?;
    let ids = ids(&runtime)?;
    if options.group {
        return groups(session, &runtime, &ids, options, watch, out);
    }
    let mut buffer = Vec::new();
    let mut frames = Frames::default();
    let (mut shown, mut total) = (0u64, 0u64);
    if options.json {
        buffer.extend_from_slice(b"{\"goroutines\":[");
    }
    let listed = each(&runtime, watch, &mut |goroutine| {
        total += 1;
        if !options.keeps(&goroutine) {
            return Ok(());
        }
        shown += 1;
        if options.json {
            if shown > 1 {
                buffer.push(b',');
            }
            frames.write_document(&goroutine, &ids, &mut buffer);
        } else {
            buffer.extend_from_slice(text(&goroutine, &ids, options.stack).as_bytes());
        }
        flush_if_full(out, &mut buffer)
    })?;
    let mut notes = sentences(&session.notes);
    notes.extend(sentences(&listed.notes));
    if options.json {
        let tail = json!({"shown": shown, "total": total, "dead": listed.dead, "notes": notes}).to_string();
        buffer.extend_from_slice(b"],");
        buffer.extend_from_slice(&tail.as_bytes()[1..]);
        buffer.push(b'\n');
    } else {
        let mut end = format!("{shown} of {total} goroutines, {} dead ones left out\n", listed.dead);
        notes.iter().for_each(|note| end += &format!("note: {note}\n"));
        buffer.extend_from_slice(end.as_bytes());
    }
    flush(out, &mut buffer)
}

/// Goroutines in the same state at the same PCs; the first of them stands for all.
struct Group {
    first: Goroutine,
    goids: Vec<u64>,
}

fn groups(
    session: &Session,
    runtime: &Runtime<'_>,
    ids: &FxHashMap<u64, u64>,
    options: &GoroutineOptions,
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<()> {
    let mut groups: FxHashMap<(String, Vec<u64>), Group> = FxHashMap::default();
    let mut shown = 0;
    let listed = each(runtime, watch, &mut |goroutine| {
        if options.keeps(&goroutine) {
            shown += 1;
            let pcs = goroutine.stack.frames.iter().map(|frame| frame.pc).collect();
            let goid = goroutine.goid;
            let alike = groups.entry((goroutine.state(), pcs));
            alike.or_insert_with(|| Group { first: goroutine, goids: Vec::new() }).goids.push(goid);
        }
        Ok(())
    })?;
    let mut notes = sentences(&session.notes);
    notes.extend(sentences(&listed.notes));
    let mut groups: Vec<Group> = groups.into_values().collect();
    groups.sort_by_key(|group| (std::cmp::Reverse(group.goids.len()), group.first.goid));
    if options.json {
        let documents: Vec<Value> = groups
            .iter()
            .map(|group| {
                let stack = document(&group.first, ids)["stack"].take();
                json!({"count": group.goids.len(), "state": group.first.state(), "goids": group.goids, "stack": stack})
            })
            .collect();
        return line(out, &json!({"groups": documents, "shown": shown, "notes": notes}));
    }
    let mut buffer = Vec::new();
    for Group { first, goids } in &groups {
        let named: Vec<String> = goids.iter().take(20).map(u64::to_string).collect();
        let more = if goids.len() > 20 { ", …" } else { "" };
        let plural = if goids.len() == 1 { "" } else { "s" };
        let head = format!("{} goroutine{plural} [{}]: {}{more}\n", goids.len(), first.state(), named.join(", "));
        buffer.extend_from_slice(head.as_bytes());
        buffer.extend_from_slice(stack_text(first).as_bytes());
        flush_if_full(out, &mut buffer)?;
    }
    notes.iter().for_each(|note| buffer.extend_from_slice(format!("note: {note}\n").as_bytes()));
    flush(out, &mut buffer)
}

/// Documents of goroutines; what is said of a frame is made once for each PC.
#[derive(Default)]
struct Frames(FxHashMap<(u64, *const PcInfo, On), (Arc<PcInfo>, String)>);

impl Frames {
    /// Frames remembered; stacks of garbage must not fill our memory.
    const MOST: usize = 1 << 16;

    /// Appends the goroutine's document.
    fn write_document(&mut self, goroutine: &Goroutine, ids: &FxHashMap<u64, u64>, buffer: &mut Vec<u8>) {
        let head = head(goroutine, ids).to_string();
        buffer.extend_from_slice(&head.as_bytes()[..head.len() - 1]);
        buffer.extend_from_slice(b",\"stack\":[");
        if self.0.len() > Frames::MOST {
            self.0.clear();
        }
        for (i, frame) in goroutine.stack.frames.iter().enumerate() {
            if i > 0 {
                buffer.push(b',');
            }
            let made = self.0.entry((frame.pc, Arc::as_ptr(&frame.info), frame.on)).or_insert_with(|| {
                let lines: Vec<String> =
                    frame.info.lines.iter().map(|line| frame_json(frame, line).to_string()).collect();
                (frame.info.clone(), lines.join(","))
            });
            buffer.extend_from_slice(made.1.as_bytes());
        }
        buffer.extend_from_slice(b"]}");
    }
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
    let locked = if goroutine.locked { ", locked to thread" } else { "" };
    let mut text = format!("goroutine {} [{}{locked}]", goroutine.goid, goroutine.state());
    if goroutine.system {
        text += " (runtime's own)";
    }
    if goroutine.in_c {
        text += " (in C code)";
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
        goroutine.ancestors.iter().for_each(|ancestor| text += &ancestor_text(ancestor));
        if let Some(since) = goroutine.seen_waiting_since {
            let _ = writeln!(text, "  a garbage collection saw it waiting at {since} ns of the runtime's clock");
        }
    }
    text
}

fn ancestor_text(ancestor: &Ancestor) -> String {
    let mut text = format!("  originating from goroutine {}\n", ancestor.goid);
    ancestor.lines.iter().for_each(|line| text += &format!("    {}\n", place(line)));
    if ancestor.cut {
        text += "    … the runtime kept no more of its frames\n";
    }
    if let Some(at) = &ancestor.created_at {
        let _ = writeln!(text, "    created in {}", place(at));
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
    let timer = match (channel.timer, channel.due) {
        (true, Some(due)) => format!(", of a timer due at {due} ns of the runtime's clock"),
        (true, None) => ", of a timer".into(),
        _ => String::new(),
    };
    format!(
        "channel {:#x} (len {}, cap {}{closed}{timer}){}{}",
        channel.address,
        channel.len,
        channel.cap,
        queue_text(&channel.receivers, "receiving", ids),
        queue_text(&channel.senders, "sending", ids)
    )
}

/// A channel without its waiters.
pub(super) fn channel_label(channel: &Channel) -> String {
    format!("channel {:#x}\nlen {}, cap {}", channel.address, channel.len, channel.cap)
}

/// The objects waited on, each with its address (0 when it has none) and a short text.
pub(super) fn object_texts(blocked: &Blocked) -> Vec<(u64, String)> {
    match blocked {
        Blocked::NilChan => vec![(0, "a nil channel".into())],
        Blocked::Chan { channel, .. } => vec![(channel.address, channel_label(channel))],
        Blocked::Select(cases) => cases.iter().map(|c| (c.channel.address, channel_label(&c.channel))).collect(),
        Blocked::Semaphore(sync) => vec![(sync.address, format!("{} {:#x}", blocked.kind(), sync.address))],
        Blocked::Cond { address } => vec![(*address, format!("cond {address:#x}"))],
        Blocked::Poll { desc, fd: Some(fd) } => vec![(*desc, format!("descriptor {fd}"))],
        Blocked::Poll { desc, fd: None } => vec![(*desc, format!("poll record {desc:#x}"))],
        Blocked::Coroutine { address, .. } => vec![(*address, format!("coroutine {address:#x}"))],
        Blocked::Timer { .. } => vec![(0, "a timer".into())],
    }
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
            let state = sync.state.map_or(String::new(), |state| format!(" ({state})"));
            format!("{} {:#x}{state}, {} waiting on its semaphore", blocked.kind(), sync.address, sync.waiters)
        }
        Blocked::Cond { address } => format!("cond {address:#x}"),
        Blocked::Poll { desc, fd } => {
            let fd = fd.map_or("unknown descriptor".to_string(), |fd| format!("descriptor {fd}"));
            format!("{fd} (poll record {desc:#x})")
        }
        Blocked::Coroutine { address, goroutine: Some(g) } => match ids.get(g) {
            Some(goid) => format!("coroutine {address:#x}, which goroutine {goid} runs"),
            None => format!("coroutine {address:#x}"),
        },
        Blocked::Coroutine { address, goroutine: None } => {
            format!("coroutine {address:#x}, its own: until somebody asks it for more or stops it")
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
        "closed": channel.closed, "timer": channel.timer, "due": channel.due,
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
            "address": hex(sync.address), "semaphore": hex(sync.sema), "waiters": sync.waiters, "state": sync.state.map(|state| state.to_string()),
            "held": sync.state.and_then(SyncState::is_held),
        }),
        Blocked::Cond { address } => json!({"address": hex(*address)}),
        Blocked::Poll { desc, fd } => json!({"address": hex(*desc), "fd": fd}),
        Blocked::Coroutine { address, goroutine } => {
            json!({"address": hex(*address), "goid": goroutine.and_then(|g| ids.get(&g))})
        }
        Blocked::Timer { due } => json!({"address": null, "due": due}),
    };
    value["kind"] = blocked.kind().into();
    value
}

fn line_json(line: &Option<Line>) -> Value {
    line.as_ref().map_or(Value::Null, |line| json!({"func": &*line.func, "file": &*line.file, "line": line.line}))
}

fn frame_json(frame: &Frame, line: &Line) -> Value {
    let stack = match frame.on {
        On::Goroutine => "goroutine",
        On::System => "system",
        On::Signal => "signal",
    };
    json!({
        "pc": format!("{:#x}", frame.pc), "func": &*line.func, "file": &*line.file, "line": line.line,
        "inlined": line.inlined, "on": stack,
    })
}

/// One goroutine as JSON.
pub(super) fn document(goroutine: &Goroutine, ids: &FxHashMap<u64, u64>) -> Value {
    let mut document = head(goroutine, ids);
    document["stack"] = goroutine.lines().map(|(frame, line)| frame_json(frame, line)).collect();
    document
}

fn ancestor_json(ancestor: &Ancestor) -> Value {
    let line = |line: &Line| json!({"func": &*line.func, "file": &*line.file, "line": line.line});
    json!({
        "goid": ancestor.goid, "stack": ancestor.lines.iter().map(line).collect::<Vec<_>>(), "cut": ancestor.cut,
        "created_at": line_json(&ancestor.created_at),
    })
}

/// All of it but the stack.
fn head(goroutine: &Goroutine, ids: &FxHashMap<u64, u64>) -> Value {
    let labels: serde_json::Map<String, Value> =
        goroutine.labels.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    json!({
        "goid": goroutine.goid,
        "g": format!("{:#x}", goroutine.g),
        "status": goroutine.status_name(),
        "reason": goroutine.reason.as_deref(),
        "m": goroutine.m, "thread": goroutine.thread, "p": goroutine.p,
        "labels": labels,
        "system": goroutine.system, "in_c": goroutine.in_c, "locked_to_thread": goroutine.locked,
        "ancestors": goroutine.ancestors.iter().map(ancestor_json).collect::<Vec<_>>(),
        "parent": goroutine.parent,
        "created_at": line_json(&goroutine.created_at),
        "start": line_json(&goroutine.start),
        "gc_saw_waiting_at": goroutine.seen_waiting_since,
        "blocked_on": goroutine.blocked_on.as_ref().map(|blocked| blocked_json(blocked, ids)),
        "torn": sentences(&goroutine.torn),
    })
}
