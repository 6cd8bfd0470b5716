//! `gomap snapshot` and `gomap diff`: what came into a map, what went, what changed, and what a growth moved.

use super::{flush, flush_if_full, head, line, place_json, state, write_error, Show, Values};
use crate::error::{Quiet, Watch};
use crate::files;
use crate::map::GoMap;
use crate::session::Note;
use crate::value::Options;
use crate::{Error, Result};
use rustc_hash::FxHashMap;
use serde_json::value::RawValue;
use serde_json::{json, Value};
use std::io::{BufRead, Write};
use std::path::Path;

/// What the first line of a snapshot's file says.
const FORMAT: &str = "mapscope_snapshot";
const VERSION: u64 = 1;
/// Pointers followed from an entry: what lies deeper is not compared.
const DEPTH: usize = 3;
/// Bytes of one line of a snapshot at most.
const LONGEST_LINE: usize = 1 << 30;

/// An elem and its place.
type Stored = (Box<str>, Box<str>);

/// A map's entries at one moment; key, elem and place as JSON.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The head of the map.
    pub head: Value,
    /// By key. Keys that are alike in JSON (NaNs, pointers to equal values) share one.
    entries: FxHashMap<Box<str>, Vec<Stored>>,
    count: u64,
}

fn show() -> Show {
    Show { json: true, colour: false, values: Options { depth: DEPTH, ..Options::default() } }
}

/// Writes the map to `out`, a line for its head and one for each entry; returns how many entries.
pub fn snapshot(map: &GoMap<'_>, notes: &[Note], watch: &dyn Watch, out: &mut dyn Write) -> Result<u64> {
    let mut first = head(map, &state(&map.survey(watch)?, notes));
    first[FORMAT] = VERSION.into();
    line(out, &first)?;
    let mut buffer = Vec::new();
    let count = each_entry(map, watch, &mut |key, elem, place| {
        buffer.extend_from_slice(format!("{{\"key\":{key},\"elem\":{elem},\"where\":{place}}}\n").as_bytes());
        flush_if_full(out, &mut buffer)
    })?;
    flush(out, &mut buffer)?;
    Ok(count)
}

/// Calls `f` with key, elem and place of each entry as JSON; returns how many there are.
fn each_entry(map: &GoMap<'_>, watch: &dyn Watch, f: &mut dyn FnMut(&str, &str, &str) -> Result<()>) -> Result<u64> {
    let values = Values::of(map, &show(), &Quiet)?;
    let mut count = 0;
    let (mut key, mut elem) = (Vec::new(), Vec::new());
    map.each(watch, &mut |entry| {
        key.clear();
        elem.clear();
        values.write_key(&entry.key, &mut key)?;
        values.write_elem(&entry.elem, &mut elem)?;
        let place = place_json(entry.place, entry.slot).to_string();
        count += 1;
        f(&String::from_utf8_lossy(&key), &String::from_utf8_lossy(&elem), &place)?;
        Ok(true)
    })?;
    Ok(count)
}

impl Snapshot {
    /// Of a map as it is now.
    pub fn of(map: &GoMap<'_>, notes: &[Note], watch: &dyn Watch) -> Result<Snapshot> {
        let mut snapshot = Snapshot { head: head(map, &state(&map.survey(watch)?, notes)), ..Snapshot::default() };
        each_entry(map, watch, &mut |key, elem, place| {
            snapshot.add(key, elem, place);
            Ok(())
        })?;
        Ok(snapshot)
    }

    /// Of a file that `gomap snapshot` wrote.
    pub fn read(path: &Path, watch: &dyn Watch) -> Result<Snapshot> {
        let bad = |n: u64, why: String| Error::Usage(format!("{}, line {n}: {why}", path.display()));
        let (file, _) = files::open(path)?;
        let mut lines = std::io::BufReader::new(file);
        let mut text = String::new();
        let mut snapshot = Snapshot::default();
        for n in 1.. {
            text.clear();
            watch.tick(n, 0)?;
            let read = std::io::Read::take(&mut lines, LONGEST_LINE as u64).read_line(&mut text);
            match read.map_err(|e| bad(n, format!("not text ({e})")))? {
                0 if n == 1 => return Err(bad(n, "an empty file is no snapshot".into())),
                0 => break,
                _ if n == 1 => {
                    snapshot.head = serde_json::from_str(&text).map_err(|_| not_one(path))?;
                    if snapshot.head[FORMAT] != VERSION {
                        return Err(not_one(path));
                    }
                }
                _ => snapshot.add_line(text.trim_end()).map_err(|e| bad(n, format!("not an entry ({e})")))?,
            }
        }
        Ok(snapshot)
    }

    fn add_line(&mut self, text: &str) -> std::result::Result<(), String> {
        let entry: FxHashMap<&str, &RawValue> = serde_json::from_str(text).map_err(|e| e.to_string())?;
        let member = |name: &str| entry.get(name).map(|value| value.get()).ok_or_else(|| format!("it has no {name}"));
        self.add(member("key")?, member("elem")?, member("where")?);
        Ok(())
    }

    fn add(&mut self, key: &str, elem: &str, place: &str) {
        self.entries.entry(key.into()).or_default().push((elem.into(), place.into()));
        self.count += 1;
    }
}

fn not_one(path: &Path) -> Error {
    Error::Usage(format!("{} is no snapshot that gomap snapshot wrote", path.display()))
}

/// Tells how `b` differs from `a`; at most `limit` entries of each sort, 0 for all.
pub fn diff(a: &Snapshot, b: &Snapshot, limit: usize, as_json: bool, out: &mut dyn Write) -> Result<()> {
    let mut added: Vec<String> = Vec::new();
    let mut removed: Vec<String> = Vec::new();
    let mut changed: Vec<String> = Vec::new();
    let (mut kept, mut moved) = (0u64, 0u64);
    let text = |key: &str, elem: &str| match as_json {
        true => format!("{{\"key\":{key},\"elem\":{elem}}}"),
        false => format!("{key}: {elem}"),
    };
    for (key, olds) in &a.entries {
        let news = b.entries.get(key).map_or(&[][..], Vec::as_slice);
        for (i, (old, place)) in olds.iter().enumerate() {
            let Some((new, new_place)) = news.get(i) else {
                removed.push(text(key, old));
                continue;
            };
            kept += 1;
            moved += u64::from(place != new_place);
            if old != new {
                changed.push(match as_json {
                    true => format!("{{\"key\":{key},\"old\":{old},\"new\":{new}}}"),
                    false => format!("{key}: {old} -> {new}"),
                });
            }
        }
    }
    for (key, news) in &b.entries {
        let known = a.entries.get(key).map_or(0, Vec::len);
        added.extend(news.iter().skip(known).map(|(new, _)| text(key, new)));
    }
    let counts = [added.len(), removed.len(), changed.len()];
    for list in [&mut added, &mut removed, &mut changed] {
        list.sort_unstable();
        if limit > 0 {
            list.truncate(limit);
        }
    }
    let said = if as_json {
        format!(
            "{{\"a\":{},\"b\":{},\"counts\":{},\"added\":[{}],\"removed\":[{}],\"changed\":[{}]}}\n",
            a.head,
            b.head,
            json!({"added": counts[0], "removed": counts[1], "changed": counts[2], "kept": kept, "moved": moved}),
            added.join(","),
            removed.join(","),
            changed.join(",")
        )
    } else {
        let mut said = format!(
            "{} added, {} removed, {} changed of {} entries then and {} now; {moved} of {kept} kept ones moved\n",
            counts[0], counts[1], counts[2], a.count, b.count
        );
        if a.head["type"] != b.head["type"] {
            said += &format!("  note: the types differ: {} and {}\n", a.head["type"], b.head["type"]);
        }
        for (mark, list, all) in [('+', &added, counts[0]), ('-', &removed, counts[1]), ('~', &changed, counts[2])] {
            for entry in list {
                said += &format!("  {mark} {entry}\n");
            }
            if all > list.len() {
                said += &format!("  {mark} … {} more; --limit 0 shows all\n", all - list.len());
            }
        }
        said
    };
    out.write_all(said.as_bytes()).map_err(write_error)
}
