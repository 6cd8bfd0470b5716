//! Answers: what each verb says of a map, as text or as JSON (the contract is in ARCHITECTURE.md).

mod audit;
mod background;
mod buckets;
mod check;
mod export;
mod get;
mod goroutines;
mod graph;
mod leaks;
mod list;
mod locals;
mod ordered;
mod print;
mod process;
mod snapshot;
mod state;
mod stats;
mod target;
mod verdict;
mod view;
pub mod watch;
mod why;
mod why_all;

pub use audit::map_facts;
pub use background::write_behind;
pub use buckets::buckets;
pub use check::{check, check_all};
pub use export::{export, Format};
pub use get::{get, look_up, FoundElem, KeyInput};
pub use goroutines::{goroutines, parse_label, GoroutineOptions};
pub use graph::Language;
pub use leaks::{explain, fail_on, leaks, LeaksOptions};
pub use list::{list, ListOptions, ListSort};
pub use locals::{evaluate_in, goroutine, locals, resolve_in, InFrame};
pub use ordered::Tally;
pub use print::{literal, print, PrintOptions, SortBy};
pub use snapshot::{diff, snapshot, Snapshot};
pub use stats::stats;
pub use target::target;
pub use view::view;
pub use why::why;
pub use why_all::why_all;

use crate::error::Watch;
use crate::map::{Entry, GoMap, Note, Place};
use crate::memory::MemoryError;
use crate::value::{push_key, Context, GoSyntax, Json, Options, Plan};
use crate::{Error, Result};
use serde_json::{json, Value};
use state::{source, state, State};
use std::io::Write;
use std::sync::Arc;

/// How answers look.
#[derive(Debug, Clone)]
pub struct Show {
    /// One JSON document on one line instead of text.
    pub json: bool,
    /// ANSI colour.
    pub colour: bool,
    /// How much of each value.
    pub values: Options,
}

/// Bytes collected before they go to the writer.
const FLUSH: usize = 64 << 10;

/// Prints the keys and elems of one map.
struct Values<'a> {
    context: Context<'a>,
    key: Arc<Plan>,
    elem: Arc<Plan>,
    show: Show,
}

/// What a value is to its map.
#[derive(Clone, Copy)]
enum Role {
    Key,
    Elem,
}

/// Appends a value in the form asked for.
fn write_value(
    plan: &Plan,
    context: &Context<'_>,
    (show, role): (&Show, Role),
    bytes: &Result<&[u8], MemoryError>,
    out: &mut Vec<u8>,
) -> Result<()> {
    match (bytes, show.json) {
        (Ok(bytes), true) => plan.write(context, bytes, &mut Json::new(out)),
        (Ok(bytes), false) => match role {
            Role::Key => push_key(plan, context, bytes, show.colour, out),
            Role::Elem => plan.write(context, bytes, &mut GoSyntax::new(out, show.colour)),
        },
        (Err(error), true) => {
            out.extend_from_slice(json!({ "$unreadable": error.to_string() }).to_string().as_bytes());
            Ok(())
        }
        (Err(error), false) => {
            out.extend_from_slice(format!("<{error}>").as_bytes());
            Ok(())
        }
    }
}

/// A key in the form asked for.
fn key_text(plan: &Plan, context: &Context<'_>, show: &Show, bytes: &[u8]) -> Result<String> {
    let mut text = Vec::new();
    write_value(plan, context, (show, Role::Key), &Ok(bytes), &mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

impl<'a> Values<'a> {
    fn of(map: &GoMap<'a>, show: &Show, watch: &'a dyn Watch) -> Result<Values<'a>> {
        let context = Context::new(map.memory, map.types, show.values.clone(), watch);
        let (key, elem) = (context.plan(map.key.id)?, context.plan(map.elem.id)?);
        Ok(Values { context, key, elem, show: show.clone() })
    }

    /// Appends a key in the form asked for.
    fn write_key(&self, bytes: &Result<&[u8], MemoryError>, out: &mut Vec<u8>) -> Result<()> {
        write_value(&self.key, &self.context, (&self.show, Role::Key), bytes, out)
    }

    /// Appends an elem in the form asked for.
    fn write_elem(&self, bytes: &Result<&[u8], MemoryError>, out: &mut Vec<u8>) -> Result<()> {
        write_value(&self.elem, &self.context, (&self.show, Role::Elem), bytes, out)
    }

    /// A key in the form asked for.
    fn key_text(&self, key: &[u8]) -> Result<String> {
        key_text(&self.key, &self.context, &self.show, key)
    }

    /// Appends `{"key":…,"elem":…}` or `key: elem`.
    fn entry(&self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<Tally> {
        let cut = self.context.cut();
        if self.show.json {
            out.extend_from_slice(b"{\"key\":");
            self.write_key(&entry.key, out)?;
            out.extend_from_slice(b",\"elem\":");
            self.write_elem(&entry.elem, out)?;
            out.push(b'}');
        } else {
            self.write_key(&entry.key, out)?;
            out.extend_from_slice(b": ");
            self.write_elem(&entry.elem, out)?;
        }
        Ok(Tally { shown: 1, cut: (self.context.cut() > cut) as u64 })
    }

    /// Asks for the memory `level` pointers away from `entry`; see [`Plan::prefetch`].
    fn prefetch(&self, entry: &Entry<'_>, level: usize) {
        for (plan, bytes) in [(&self.key, &entry.key), (&self.elem, &entry.elem)] {
            if let Ok(bytes) = bytes {
                plan.prefetch(&self.context, bytes, level);
            }
        }
    }

    /// How many levels are worth asking for.
    fn levels(&self) -> usize {
        self.key.levels(&self.context).max(self.elem.levels(&self.context))
    }
}

/// That the pointers of some entries lead to more than was told.
pub fn cut_text(entries: u64) -> String {
    let (entries, have) = if entries == 1 { ("1 entry".into(), "has") } else { (format!("{entries} entries"), "have") };
    format!("{entries} {have} more behind pointers than follow-limit allows; --follow-limit 0 shows all")
}

/// Notes, damage or limits in their words.
fn sentences<T: std::fmt::Display>(all: &[T]) -> Vec<String> {
    all.iter().map(T::to_string).collect()
}

/// The head of every answer about one map.
fn head(map: &GoMap<'_>, state: &[State]) -> Value {
    json!({
        "type": &*map.ty.name,
        "address": format!("{:#x}", map.address),
        "layout": map.layout().name(),
        "count": map.count(),
        "state": sentences(state),
    })
}

/// The head as lines of text.
fn head_text(map: &GoMap<'_>, state: &[State]) -> String {
    let count = map.count();
    let entries = if count == 1 { "entry" } else { "entries" };
    let mut text = match map.address {
        0 => format!("{}(nil)\n", map.ty.name),
        address => format!("{}, {count} {entries}, {} layout, at {address:#x}\n", map.ty.name, map.layout().name()),
    };
    // The first line says that a map is nil.
    for said in state.iter().filter(|said| !matches!(said, State::Map(Note::Nil))) {
        text.push_str(&format!("  note: {said}\n"));
    }
    text
}

/// A place as the JSON of `where`.
fn place_json(place: Place, slot: usize) -> Value {
    match place {
        Place::Bucket { old: false, index, overflow } => json!({"bucket": index, "overflow": overflow, "slot": slot}),
        Place::Bucket { old: true, index, overflow } => {
            json!({"bucket": index, "old": true, "overflow": overflow, "slot": slot})
        }
        Place::Node { level, prefix } => json!({"level": level, "prefix": format!("{prefix:#x}"), "overflow": slot}),
        Place::Group { table, group } => json!({"table": table, "group": group, "slot": slot}),
    }
}

/// A bucket or group in words.
fn place_text(place: Place) -> String {
    match place {
        Place::Bucket { old, index, overflow } => {
            let array = if old { "old bucket" } else { "bucket" };
            match overflow {
                0 => format!("{array} {index}"),
                _ => format!("{array} {index}, overflow {overflow}"),
            }
        }
        Place::Node { level, prefix } => format!("level {level}, hash prefix {prefix:#x}"),
        Place::Group { table, group } => format!("table {table}, group {group}"),
    }
}

/// Writes out what has been collected, once there is enough of it.
fn flush_if_full(out: &mut dyn Write, buffer: &mut Vec<u8>) -> Result<()> {
    if buffer.len() >= FLUSH {
        flush(out, buffer)?;
    }
    Ok(())
}

fn flush(out: &mut dyn Write, buffer: &mut Vec<u8>) -> Result<()> {
    out.write_all(buffer).map_err(write_error)?;
    buffer.clear();
    Ok(())
}

fn write_error(error: std::io::Error) -> Error {
    Error::of_output(&error, "the answer")
}

/// Writes one JSON document as a line.
fn line(out: &mut dyn Write, document: &Value) -> Result<()> {
    writeln!(out, "{document}").map_err(write_error)
}
