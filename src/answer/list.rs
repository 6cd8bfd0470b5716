//! `gomap list`: every map that can be reached, with its owner path and what it costs.

use super::{flush, flush_if_full, sentences, write_error, Show, Values};
use crate::error::Watch;
use crate::map::GoMap;
use crate::memory::Place;
use crate::reach::{in_pieces, reach, Found, Progress, Reach, Reached, Torn};
use crate::session::Session;
use crate::types::TypeId;
use crate::value::Filter;
use crate::Result;
use rustc_hash::FxHashMap;
use serde_json::json;
use std::cmp::Reverse;
use std::fmt::Write as _;
use std::io::Write;

/// What to list.
#[derive(Debug, Clone)]
pub struct ListOptions {
    /// How entries that were looked for are shown.
    pub show: Show,
    /// In which order.
    pub sort: ListSort,
    /// Only maps whose type contains this text.
    pub type_name: Option<String>,
    /// Only maps that take at least so many bytes.
    pub min_bytes: u64,
    /// Only maps with an entry that matches, in the language of [`Filter`].
    pub pattern: Option<String>,
    /// At most so many; 0 for all.
    pub limit: usize,
}

/// Order of the maps, the most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListSort {
    Bytes,
    Count,
    /// Bytes of slots that hold nothing.
    Waste,
}

/// Below this share of live slots a map wastes memory, as above this share of tombstones.
const WASTEFUL: f64 = 0.2;
/// Maps of fewer bytes are not worth naming as wasteful.
const WORTH_NAMING: u64 = 1 << 12;
/// So many are named.
const NAMED: usize = 10;
/// Matching entries shown of one map.
const MATCHES: usize = 3;

/// How many entries match, and the first of them in the form asked for.
#[derive(Default)]
struct Matches {
    count: u64,
    first: Vec<Vec<u8>>,
}

/// Lists the maps of the session.
pub fn list(session: &Session, options: &ListOptions, watch: &dyn Watch, out: &mut dyn Write) -> Result<()> {
    let found = reach(session, watch)?;
    let wanted = |map: &&Reached| {
        map.bytes >= options.min_bytes
            && options.type_name.as_ref().is_none_or(|text| found.type_name(map).contains(text.as_str()))
    };
    let mut maps: Vec<&Reached> = found.maps.iter().filter(wanted).collect();
    let mut matches = FxHashMap::default();
    if let Some(pattern) = &options.pattern {
        matches = matching(session, &found, &maps, pattern, &options.show, watch)?;
        maps.retain(|map| matches.contains_key(&map.address));
    }
    let size = |map: &Reached| match options.sort {
        ListSort::Bytes => map.bytes,
        ListSort::Count => map.count,
        ListSort::Waste => waste(map),
    };
    let shown = most(&maps, options.limit, size);
    let mut notes = sentences(&found.notes);
    notes.extend(sentences(&session.notes));
    let of_type =
        |torn: &&Torn| options.type_name.as_ref().is_none_or(|text| found.torn_type(torn).contains(text.as_str()));
    let torn = found.torn.iter().filter(of_type).collect();
    let listing = Listing { found: &found, maps: &maps, shown, torn, matches, notes };
    match options.show.json {
        true => listing.json(watch, out),
        false => listing.text(watch, out),
    }
}

/// The `limit` maps (all for 0) of which there is most, in order; of equal ones the one that was come to first is first.
fn most<'r>(maps: &[&'r Reached], limit: usize, size: impl Fn(&Reached) -> u64) -> Vec<&'r Reached> {
    let mut order: Vec<(Reverse<u64>, usize)> =
        maps.iter().enumerate().map(|(at, map)| (Reverse(size(map)), at)).collect();
    if limit > 0 && limit < order.len() {
        order.select_nth_unstable(limit);
        order.truncate(limit);
    }
    order.sort_unstable();
    order.into_iter().map(|(_, at)| maps[at]).collect()
}

/// What matches a pattern, by the map's header. A pattern that makes no sense for a map's type matches nothing there.
fn matching(
    session: &Session,
    found: &Reach<'_>,
    maps: &[&Reached],
    pattern: &str,
    show: &Show,
    watch: &dyn Watch,
) -> Result<FxHashMap<u64, Matches>> {
    let alone = session.memory.place() == Place::Debugger;
    let types: Vec<TypeId> = maps.iter().map(|map| found.map(map).ty).collect();
    let mut filters: FxHashMap<TypeId, Result<Filter>> = FxHashMap::default();
    for (&ty, map) in types.iter().zip(maps) {
        if let std::collections::hash_map::Entry::Vacant(vacant) = filters.entry(ty) {
            let opened = session.open(found.map(map));
            vacant.insert(opened.and_then(|map| Filter::compile(map.types, map.key.id, map.elem.id, pattern)));
        }
    }
    // What fits no map at all is a mistake, and the same one everywhere if it is in the pattern's form.
    if let Some(Err(error)) = filters.values().find(|_| filters.values().all(Result::is_err)) {
        return Err(error.clone());
    }
    let pieces = in_pieces(maps, alone, Progress::of(maps), watch, &|_, maps, watch| {
        let mut found_in = Vec::new();
        for &map in maps {
            watch.tick(0, 0)?;
            let target = found.map(map);
            let Some(Ok(filter)) = filters.get(&target.ty) else { continue };
            let Ok(opened) = session.open(target) else { continue };
            let matches = matches(&opened, filter, show, watch)?;
            if matches.count > 0 {
                found_in.push((map.address, matches));
            }
        }
        Ok(found_in)
    })?;
    Ok(pieces.into_iter().flatten().collect())
}

fn matches(map: &GoMap<'_>, filter: &Filter, show: &Show, watch: &dyn Watch) -> Result<Matches> {
    let values = Values::of(map, show, watch)?;
    let mut found = Matches::default();
    map.each(watch, &mut |entry| {
        let (Ok(key), Ok(elem)) = (&entry.key, &entry.elem) else { return Ok(true) };
        if filter.matches(&values.context, key, elem)? {
            found.count += 1;
            if found.first.len() < MATCHES {
                let mut text = Vec::new();
                values.entry(entry, &mut text)?;
                found.first.push(text);
            }
        }
        Ok(true)
    })?;
    Ok(found)
}

/// What is listed.
struct Listing<'l, 'r> {
    found: &'l Reach<'r>,
    maps: &'l [&'l Reached],
    /// Those of them that are written out.
    shown: Vec<&'l Reached>,
    /// Where a type leads to a map that is none, or that cannot be read.
    torn: Vec<&'l Torn>,
    /// When entries were looked for.
    matches: FxHashMap<u64, Matches>,
    notes: Vec<String>,
}

impl Listing<'_, '_> {
    /// Entries and bytes of all.
    fn sums(&self) -> (u64, u64) {
        self.maps
            .iter()
            .fold((0, 0), |(entries, bytes), map| (entries + map.count, u64::saturating_add(bytes, map.bytes)))
    }

    /// Those that waste most, with the reason.
    fn wasteful(&self) -> Vec<(&Reached, String)> {
        let wasteful: Vec<&Reached> = self.maps.iter().copied().filter(|map| self.is_wasteful(map)).collect();
        let named = most(&wasteful, NAMED, waste).into_iter();
        named.map(|map| (map, self.why_wasteful(map))).collect()
    }

    fn json(&self, watch: &dyn Watch, out: &mut dyn Write) -> Result<()> {
        let mut buffer = b"{\"maps\":[".to_vec();
        for (i, map) in self.shown.iter().enumerate() {
            watch.tick(i as u64, self.maps.len() as u64)?;
            if i > 0 {
                buffer.push(b',');
            }
            let mut document = self.document(map, watch).to_string();
            if let Some(matches) = self.matches.get(&map.address) {
                let first: Vec<_> = matches.first.iter().map(|text| String::from_utf8_lossy(text)).collect();
                document.pop();
                let _ = write!(document, ",\"matches\":{},\"entries\":[{}]}}", matches.count, first.join(","));
            }
            buffer.extend_from_slice(document.as_bytes());
            flush_if_full(out, &mut buffer)?;
        }
        let (entries, bytes) = self.sums();
        let mut summary = json!({"maps": self.maps.len(), "entries": entries, "bytes": bytes});
        if let Some(heap) = self.found.heap {
            summary["heap_bytes"] = heap.into();
        }
        summary["wasteful"] = self
            .wasteful()
            .into_iter()
            .map(|(map, why)| {
                json!({
                    "path": self.found.expression(map, watch),
                    "address": format!("{:#x}", map.address),
                    "bytes": map.bytes,
                    "wasted": waste(map),
                    "why": why,
                })
            })
            .collect();
        let torn = |torn: &&Torn| {
            json!({
                "path": self.found.torn_expression(torn, watch),
                "type": self.found.torn_type(torn),
                "address": format!("{:#x}", torn.address),
                "why": torn.error.to_string(),
                "read": !torn.is_left_out(),
            })
        };
        let torn: Vec<_> = self.torn.iter().map(torn).collect();
        let rest = json!({"summary": summary, "torn": torn, "notes": self.notes}).to_string();
        buffer.extend_from_slice(b"],");
        buffer.extend_from_slice(&rest.as_bytes()[1..]);
        buffer.push(b'\n');
        flush(out, &mut buffer)
    }

    fn document(&self, map: &Reached, watch: &dyn Watch) -> serde_json::Value {
        let mut document = json!({
            "path": self.found.expression(map, watch),
            "type": self.found.type_name(map),
            "address": format!("{:#x}", map.address),
            "layout": self.found.layout(map).name(),
            "count": map.count,
            "bytes": map.bytes,
            "found": map.found.name(),
            "sure": self.found.sure(map).name(),
        });
        let or = self.found.or_names(map);
        if !or.is_empty() {
            document["or"] = or.iter().map(|name| name.to_string()).collect();
        }
        if let Some(load) = load(map) {
            document["load"] = load.into();
        }
        if let Some(tombstones) = self.found.tombstones(map) {
            document["tombstones"] = tombstones.into();
        }
        if let Some(overflow) = self.found.overflow(map) {
            document["overflow_buckets"] = overflow.into();
        }
        document
    }

    fn text(&self, watch: &dyn Watch, out: &mut dyn Write) -> Result<()> {
        let mut buffer = format!("{:>12} {:>10} {:>5}  {}\n", "bytes", "entries", "load", "map").into_bytes();
        for (i, map) in self.shown.iter().enumerate() {
            watch.tick(i as u64, self.maps.len() as u64)?;
            let load = load(map).map_or("-".into(), |load| format!("{load:.2}"));
            let (path, name, doubt) = (self.found.expression(map, watch), self.found.type_name(map), self.doubt(map));
            let (bytes, count) = (map.bytes, map.count);
            let matches = self.matches.get(&map.address);
            writeln!(buffer, "{bytes:>12} {count:>10} {load:>5}  {path} {name}{doubt}").map_err(write_error)?;
            for text in matches.iter().flat_map(|matches| &matches.first) {
                buffer.extend_from_slice(b"                                 ");
                buffer.extend_from_slice(text);
                buffer.push(b'\n');
            }
            let more = matches.map_or(0, |matches| matches.count - matches.first.len() as u64);
            if more > 0 {
                writeln!(buffer, "                                 … {more} more match").map_err(write_error)?;
            }
            flush_if_full(out, &mut buffer)?;
        }
        let shown = self.shown.len();
        let mut text = String::new();
        if shown < self.maps.len() {
            text += &format!("  … {} more; --limit 0 shows all\n", self.maps.len() - shown);
        }
        let (entries, bytes) = self.sums();
        text += &format!(
            "{} maps, {entries} entries, {bytes} bytes of headers, buckets and indirect values",
            self.maps.len()
        );
        text += &match self.found.heap.filter(|&heap| heap > 0) {
            Some(heap) => format!(", {:.1} % of the heap's {heap}\n", 100.0 * bytes as f64 / heap as f64),
            None => "\n".into(),
        };
        let wasteful = self.wasteful();
        if !wasteful.is_empty() {
            text += "waste most (a map never shrinks, so copying it frees the difference):\n";
        }
        for (map, why) in wasteful {
            text +=
                &format!("{:>12} {:>10}        {}: {why}\n", map.bytes, map.count, self.found.expression(map, watch));
        }
        for torn in &self.torn {
            let what = if torn.is_left_out() { "not read" } else { "torn" };
            let (path, name) = (self.found.torn_expression(torn, watch), self.found.torn_type(torn));
            text += &format!("{what}: {path} {name}: {}\n", torn.error);
        }
        for note in &self.notes {
            text += &format!("note: {note}\n");
        }
        buffer.extend_from_slice(text.as_bytes());
        flush(out, &mut buffer)
    }

    /// What else the map could be, in words.
    fn doubt(&self, map: &Reached) -> String {
        let found = if map.found == Found::Candidate { " (candidate)" } else { "" };
        match &self.found.or_names(map)[..] {
            [] => found.into(),
            [only] => format!(" or {only}{found}"),
            [first, rest @ ..] => format!(" or {first} or {} more types{found}", rest.len()),
        }
    }

    fn is_wasteful(&self, map: &Reached) -> bool {
        map.bytes >= WORTH_NAMING
            && load(map).is_some_and(|load| load < WASTEFUL || self.share_of_tombstones(map) > WASTEFUL)
    }

    fn share_of_tombstones(&self, map: &Reached) -> f64 {
        self.found.tombstones(map).map_or(0.0, |count| f64::from(count) / map.capacity as f64)
    }

    /// Why a map wastes memory that does.
    fn why_wasteful(&self, map: &Reached) -> String {
        let (load, tombstones) = (load(map).unwrap_or(0.0), self.share_of_tombstones(map));
        let mut reasons = Vec::new();
        match map.live {
            0 => reasons.push(format!("grown to {} slots and emptied", map.capacity)),
            live if load < WASTEFUL => reasons.push(format!("{live} of {} slots in use", map.capacity)),
            _ => {}
        }
        if tombstones > WASTEFUL {
            reasons.push(format!("{:.0} % of its slots are tombstones", 100.0 * tombstones));
        }
        reasons.join(", ")
    }
}

/// Share of the allocated slots that are live.
pub(super) fn load(map: &Reached) -> Option<f64> {
    (map.capacity > 0).then(|| map.live as f64 / map.capacity as f64)
}

/// Bytes of slots that hold nothing.
fn waste(map: &Reached) -> u64 {
    load(map).map_or(0, |load| (map.bytes as f64 * (1.0 - load)) as u64)
}
