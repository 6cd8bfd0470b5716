//! `gomap print`: the entries of a map, streamed through a filter and a limit.

use super::ordered::{all_entries, Formatter};
use super::{cut_text, head, head_text, place_text, state, write_error, Show, Tally, Values, FLUSH};
use crate::error::{Quiet, Watch};
use crate::map::{Entry, GoMap};
use crate::session::Note;
use crate::types::{GoType, Kind};
use crate::value::Filter;
use crate::Result;
use byteorder::{ByteOrder, LittleEndian as LE};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;

/// What to print of a map.
#[derive(Debug, Clone)]
pub struct PrintOptions {
    /// Form of the answer.
    pub show: Show,
    /// Entries shown; 0 for all.
    pub limit: u64,
    /// Which entries, in the language of [`Filter`].
    pub pattern: Option<String>,
    /// In which order; the map's own when `None`.
    pub sort: Option<SortBy>,
    /// Places and bytes instead of values.
    pub raw: bool,
}

/// Order of the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortBy {
    Key,
    Elem,
}

/// Prints the entries of `map`; `notes` are what the session knows of its source.
pub fn print(
    map: &GoMap<'_>,
    options: &PrintOptions,
    notes: &[Note],
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<Tally> {
    let filter = match &options.pattern {
        Some(pattern) => Some(Arc::new(Filter::compile(map.types, map.key.id, map.elem.id, pattern)?)),
        None => None,
    };
    let row = Row::of(map, options, &filter, watch)?;
    let state = state(&map.survey(watch)?, notes);
    let json = options.show.json;
    match json {
        true => write!(out, "{{\"map\":{},\"entries\":[", head(map, &state)),
        false => out.write_all(head_text(map, &state).as_bytes()),
    }
    .map_err(write_error)?;
    let mut first = json;
    let mut write = |rows: &[u8]| {
        // Each row of JSON begins with its comma.
        let skipped = (first && !rows.is_empty()) as usize;
        first &= rows.is_empty();
        out.write_all(&rows[skipped..]).map_err(write_error)
    };
    let (tally, matched) = match (options.sort, options.limit) {
        (None, 0) => {
            let tally = all_entries(
                map,
                watch,
                &|map, watch| Ok(Box::new(Row::of(map, options, &filter, watch)?)),
                &mut write,
            )?;
            (tally, tally.shown)
        }
        _ => some_entries(map, options, &row, watch, &mut write)?,
    };
    let truncated = matched > tally.shown;
    if json {
        let cut = if tally.cut > 0 { format!(",\"cut\":{}", tally.cut) } else { String::new() };
        writeln!(out, "],\"shown\":{},\"truncated\":{truncated}{cut}}}", tally.shown).map_err(write_error)?;
        return Ok(tally);
    }
    if truncated {
        let rest = match (&filter, options.sort) {
            (None, _) => format!("{} more", map.count().saturating_sub(tally.shown)),
            (Some(_), Some(_)) => format!("{} more match", matched - tally.shown),
            (Some(_), None) => "more match".into(),
        };
        writeln!(out, "  … {rest}; --limit 0 shows all").map_err(write_error)?;
    }
    if tally.cut > 0 {
        writeln!(out, "  note: {}", cut_text(tally.cut)).map_err(write_error)?;
    }
    Ok(tally)
}

/// Tells entries in order or up to the limit; returns what was told, and how many match (at most one more than the
/// limit when they are not sorted).
fn some_entries(
    map: &GoMap<'_>,
    options: &PrintOptions,
    row: &Row<'_>,
    watch: &dyn Watch,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<(Tally, u64)> {
    let (mut tally, mut matched) = (Tally::default(), 0u64);
    let mut buffer = Vec::with_capacity(2 * FLUSH);
    let mut one = |entry: &Entry<'_>| {
        tally += row.append(entry, &mut buffer)?;
        if buffer.len() >= FLUSH {
            write(&buffer)?;
            buffer.clear();
        }
        Ok(())
    };
    let mut sorted = options.sort.map(|by| Sorted::new(map, by, options.limit));
    map.each(watch, &mut |entry| {
        if !row.wants(entry)? {
            return Ok(true);
        }
        matched += 1;
        match &mut sorted {
            Some(sorted) => sorted.offer(entry, map),
            None if matched > options.limit => return Ok(false),
            None => one(entry)?,
        }
        Ok(true)
    })?;
    if let Some(sorted) = sorted {
        sorted.each(watch, |at| at.with(map, &mut one))?;
    }
    write(&buffer)?;
    Ok((tally, matched))
}

/// How one entry is told.
struct Row<'a> {
    values: Values<'a>,
    filter: Option<Arc<Filter>>,
    raw: bool,
}

impl<'a> Row<'a> {
    fn of(
        map: &GoMap<'a>,
        options: &PrintOptions,
        filter: &Option<Arc<Filter>>,
        watch: &'a dyn Watch,
    ) -> Result<Row<'a>> {
        Ok(Row { values: Values::of(map, &options.show, watch)?, filter: filter.clone(), raw: options.raw })
    }

    fn wants(&self, entry: &Entry<'_>) -> Result<bool> {
        match (&self.filter, &entry.key, &entry.elem) {
            (None, _, _) => Ok(true),
            (Some(filter), Ok(key), Ok(elem)) => filter.matches(&self.values.context, key, elem),
            (Some(_), _, _) => Ok(false),
        }
    }

    fn append(&self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<Tally> {
        let json = self.values.show.json;
        out.extend_from_slice(if json { b"," } else { b"  " });
        let mut tally = Tally { shown: 1, cut: 0 };
        match (self.raw, json) {
            (true, true) => raw_json(entry, out),
            (true, false) => raw_text(entry, out),
            (false, _) => tally = self.values.entry(entry, out)?,
        }
        if !json {
            out.push(b'\n');
        }
        Ok(tally)
    }
}

impl Formatter for Row<'_> {
    fn entry(&self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<Tally> {
        match self.wants(entry)? {
            true => self.append(entry, out),
            false => Ok(Tally::default()),
        }
    }

    fn prefetch(&self, entry: &Entry<'_>, level: usize) {
        self.values.prefetch(entry, level);
    }

    fn levels(&self) -> usize {
        self.values.levels()
    }
}

/// Appends `map` as one Go literal, for a pretty printer: `map[string]int{"a":1}`.
pub fn literal(map: &GoMap<'_>, limit: u64, show: &Show, watch: &dyn Watch, out: &mut Vec<u8>) -> Result<()> {
    out.extend_from_slice(map.ty.name.as_bytes());
    if map.address == 0 {
        out.extend_from_slice(b"(nil)");
        return Ok(());
    }
    let values = Values::of(map, show, watch)?;
    let mut shown = 0;
    out.push(b'{');
    map.each(watch, &mut |entry| {
        if shown > 0 {
            out.extend_from_slice(b", ");
        }
        if limit != 0 && shown >= limit {
            out.extend_from_slice(format!("… {} more", map.count().saturating_sub(shown)).as_bytes());
            return Ok(false);
        }
        shown += 1;
        values.entry(entry, out)?;
        Ok(true)
    })?;
    out.push(b'}');
    Ok(())
}

fn hex(bytes: &Result<&[u8], crate::memory::MemoryError>) -> String {
    match bytes {
        Ok(bytes) => bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
        Err(error) => format!("<{error}>"),
    }
}

fn raw_text(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let line = format!(
        "{}, slot {}: key at {:#x} {}, elem at {:#x} {}",
        place_text(entry.place),
        entry.slot,
        entry.key_address,
        hex(&entry.key),
        entry.elem_address,
        hex(&entry.elem)
    );
    out.extend_from_slice(line.as_bytes());
}

fn raw_json(entry: &Entry<'_>, out: &mut Vec<u8>) {
    let document = serde_json::json!({
        "where": super::place_json(entry.place, entry.slot),
        "key": {"address": format!("{:#x}", entry.key_address), "bytes": hex(&entry.key)},
        "elem": {"address": format!("{:#x}", entry.elem_address), "bytes": hex(&entry.elem)},
    });
    out.extend_from_slice(document.to_string().as_bytes());
}

/// What an entry is sorted by.
#[derive(Debug, Clone)]
enum Rank {
    Int(i64),
    Uint(u64),
    Float(f64),
    Bytes(Vec<u8>),
}

impl PartialEq for Rank {
    fn eq(&self, other: &Rank) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Rank) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Rank) -> Ordering {
        match (self, other) {
            (Rank::Int(a), Rank::Int(b)) => a.cmp(b),
            (Rank::Uint(a), Rank::Uint(b)) => a.cmp(b),
            (Rank::Float(a), Rank::Float(b)) => a.total_cmp(b),
            (Rank::Bytes(a), Rank::Bytes(b)) => a.cmp(b),
            _ => Ordering::Equal,
        }
    }
}

/// An entry remembered by its addresses.
struct Remembered {
    rank: Rank,
    key: u64,
    elem: u64,
    place: crate::map::Place,
    slot: usize,
}

impl Remembered {
    fn with(&self, map: &GoMap<'_>, f: impl FnOnce(&Entry<'_>) -> Result<()>) -> Result<()> {
        let key = map.memory.bytes(self.key, map.key.size as usize);
        let elem = map.memory.bytes(self.elem, map.elem.size as usize);
        f(&Entry {
            key: key.as_deref().map_err(Clone::clone),
            elem: elem.as_deref().map_err(Clone::clone),
            key_address: self.key,
            elem_address: self.elem,
            place: self.place,
            slot: self.slot,
        })
    }
}

/// Sorted in pieces this long, so that Ctrl-C is seen between them.
const PIECE: usize = 1 << 16;

/// Keeps the first rows of the order; at most a piece more than will be shown.
struct Sorted<'m> {
    rows: Vec<Remembered>,
    by: SortBy,
    ty: &'m GoType,
    limit: usize,
}

impl<'m> Sorted<'m> {
    fn new(map: &'m GoMap<'_>, by: SortBy, limit: u64) -> Sorted<'m> {
        let ty = match by {
            SortBy::Key => &*map.key,
            SortBy::Elem => &*map.elem,
        };
        Sorted { rows: Vec::new(), by, ty, limit: usize::try_from(limit).unwrap_or(0) }
    }

    fn offer(&mut self, entry: &Entry<'_>, map: &GoMap<'_>) {
        let bytes = match self.by {
            SortBy::Key => entry.key.as_deref(),
            SortBy::Elem => entry.elem.as_deref(),
        };
        let rank = rank(self.ty, bytes.unwrap_or_default(), map);
        let (key, elem) = (entry.key_address, entry.elem_address);
        self.rows.push(Remembered { rank, key, elem, place: entry.place, slot: entry.slot });
        if self.limit > 0 && self.rows.len() >= 2 * self.limit + PIECE {
            self.rows.select_nth_unstable_by(self.limit, |a, b| a.rank.cmp(&b.rank));
            self.rows.truncate(self.limit);
        }
    }

    /// Calls `f` with the rows in order: pieces are sorted, then merged.
    fn each(mut self, watch: &dyn Watch, mut f: impl FnMut(&Remembered) -> Result<()>) -> Result<()> {
        let total = self.rows.len() as u64;
        let mut next = BinaryHeap::new();
        let mut pieces: Vec<&[Remembered]> = Vec::new();
        for piece in self.rows.chunks_mut(PIECE) {
            watch.tick(0, total)?;
            piece.sort_by(|a, b| a.rank.cmp(&b.rank));
            pieces.push(piece);
        }
        next.extend(pieces.iter().enumerate().filter_map(|(i, piece)| Some(Reverse((&piece.first()?.rank, i, 0)))));
        let most = if self.limit > 0 { self.limit } else { usize::MAX };
        for done in 0..most as u64 {
            let Some(Reverse((_, piece, at))) = next.pop() else { break };
            watch.tick(done, total)?;
            f(&pieces[piece][at])?;
            next.extend(pieces[piece].get(at + 1).map(|row| Reverse((&row.rank, piece, at + 1))));
        }
        Ok(())
    }
}

/// Numbers by value, strings by bytes, everything else by its printed form.
fn rank(ty: &GoType, bytes: &[u8], map: &GoMap<'_>) -> Rank {
    let whole = bytes.len() as u64 == ty.size && !bytes.is_empty() && bytes.len() <= 8;
    match ty.kind {
        kind if whole && kind.is_signed() => Rank::Int(LE::read_int(bytes, bytes.len())),
        kind if whole && (kind.is_unsigned() || kind == Kind::Bool) => Rank::Uint(LE::read_uint(bytes, bytes.len())),
        Kind::Float32 if whole => Rank::Float(LE::read_f32(bytes) as f64),
        Kind::Float64 if whole => Rank::Float(LE::read_f64(bytes)),
        Kind::String if bytes.len() == 16 => {
            let (data, len) = (LE::read_u64(bytes), LE::read_u64(&bytes[8..]));
            let text = map.memory.bytes(data, len as usize);
            Rank::Bytes(text.map(|text| text.into_owned()).unwrap_or_default())
        }
        _ => Rank::Bytes(printed(ty, bytes, map)),
    }
}

fn printed(ty: &GoType, bytes: &[u8], map: &GoMap<'_>) -> Vec<u8> {
    let context = crate::value::Context::new(map.memory, map.types, Default::default(), &Quiet);
    let mut text = Vec::new();
    if let Ok(plan) = context.plan(ty.id) {
        let mut sink = crate::value::GoSyntax::new(&mut text, false);
        if plan.write(&context, bytes, &mut sink).is_err() {
            text.clear();
        }
    }
    text
}
