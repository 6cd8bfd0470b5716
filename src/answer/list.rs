//! `gomap list`: every map that can be reached, with its owner path and what it costs.

use super::{line, write_error};
use crate::error::Watch;
use crate::reach::{reach, Found, Reached};
use crate::session::Session;
use crate::Result;
use serde_json::json;
use std::io::Write;

/// What to list.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// One JSON document instead of text.
    pub json: bool,
    /// Sorted by count instead of bytes.
    pub by_count: bool,
    /// Only maps whose type contains this text.
    pub type_name: Option<String>,
    /// Only maps that take at least so many bytes.
    pub min_bytes: u64,
    /// At most so many; 0 for all.
    pub limit: usize,
}

/// Below this share of live slots a map wastes memory.
const WASTEFUL: f64 = 0.2;
/// Maps of fewer bytes are not worth naming as wasteful.
const WORTH_NAMING: u64 = 1 << 12;

/// Lists the maps of the session.
pub fn list(session: &Session, options: &ListOptions, watch: &dyn Watch, out: &mut dyn Write) -> Result<()> {
    let found = reach(session, watch)?;
    let wanted = |map: &&Reached| {
        map.survey.bytes >= options.min_bytes
            && options.type_name.as_ref().is_none_or(|text| map.type_name.contains(text.as_str()))
    };
    let mut maps: Vec<&Reached> = found.maps.iter().filter(wanted).collect();
    maps.sort_by_key(|map| std::cmp::Reverse(if options.by_count { map.count } else { map.survey.bytes }));
    let shown = if options.limit == 0 { maps.len() } else { options.limit.min(maps.len()) };
    let (entries, bytes) =
        maps.iter().fold((0, 0), |(entries, bytes), map| (entries + map.count, bytes + map.survey.bytes));
    let mut notes = found.notes.clone();
    notes.extend_from_slice(&session.notes);
    if options.json {
        let documents: Vec<_> = maps[..shown].iter().map(|map| document(map)).collect();
        let mut summary = json!({"maps": maps.len(), "entries": entries, "bytes": bytes});
        if let Some(heap) = found.heap {
            summary["heap_bytes"] = heap.into();
        }
        return line(out, &json!({"maps": documents, "summary": summary, "notes": notes}));
    }
    let mut text = format!("{:>12} {:>10} {:>5}  {}\n", "bytes", "entries", "load", "map");
    for map in &maps[..shown] {
        let load = load(map).map_or("-".into(), |load| format!("{load:.2}"));
        let (bytes, count) = (map.survey.bytes, map.count);
        text += &format!("{bytes:>12} {count:>10} {load:>5}  {} {}{}\n", map.path, map.type_name, doubt(map));
    }
    if shown < maps.len() {
        text += &format!("  … {} more; --limit 0 shows all\n", maps.len() - shown);
    }
    text += &format!("{} maps, {entries} entries, {bytes} bytes of headers, buckets and indirect values", maps.len());
    text += &match found.heap.filter(|&heap| heap > 0) {
        Some(heap) => format!(", {:.1} % of the heap's {heap}\n", 100.0 * bytes as f64 / heap as f64),
        None => "\n".into(),
    };
    let mut wasteful: Vec<_> = maps.iter().filter(|map| is_wasteful(map)).collect();
    wasteful.truncate(10);
    if !wasteful.is_empty() {
        text += "mostly empty (load under 0.2; a map never shrinks, so copying it frees the difference):\n";
    }
    for map in wasteful {
        text += &format!("{:>12} {:>10}        {}\n", map.survey.bytes, map.count, map.path);
    }
    for note in notes {
        text += &format!("note: {note}\n");
    }
    out.write_all(text.as_bytes()).map_err(write_error)
}

/// What else the map could be, in words.
fn doubt(map: &Reached) -> String {
    let found = if map.found == Found::Candidate { " (candidate)" } else { "" };
    match map.or.as_slice() {
        [] => found.into(),
        [only] => format!(" or {only}{found}"),
        [first, rest @ ..] => format!(" or {first} or {} more types{found}", rest.len()),
    }
}

/// Share of the allocated slots that are live.
pub(super) fn load(map: &Reached) -> Option<f64> {
    (map.survey.capacity > 0).then(|| map.survey.live as f64 / map.survey.capacity as f64)
}

fn is_wasteful(map: &Reached) -> bool {
    map.survey.bytes >= WORTH_NAMING && load(map).is_some_and(|load| load < WASTEFUL)
}

fn document(map: &Reached) -> serde_json::Value {
    let mut document = json!({
        "path": map.path,
        "type": &*map.type_name,
        "address": format!("{:#x}", map.map.address),
        "layout": map.layout,
        "count": map.count,
        "bytes": map.survey.bytes,
        "found": map.found.name(),
    });
    if !map.or.is_empty() {
        document["or"] = map.or.iter().map(|name| name.to_string()).collect();
    }
    if let Some(load) = load(map) {
        document["load"] = load.into();
    }
    if let Some(tombstones) = map.survey.tombstones {
        document["tombstones"] = tombstones.into();
    }
    document
}
