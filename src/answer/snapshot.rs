//! `gomap snapshot` and `gomap diff`: what came into a map, what went, what changed, and what a growth moved.

use super::{flush, flush_if_full, head, line, place_json, state, write_error, Show, Values};
use crate::error::{Quiet, Watch};
use crate::files;
use crate::map::keys::Keys;
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

/// A key as it is shown, an elem and its place.
type Stored = (Box<str>, Box<str>, Box<str>);

/// A map's entries at one moment; key, elem and place as JSON.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The head of the map.
    pub head: Value,
    /// By what the key is. NaNs of the same bits share one.
    entries: FxHashMap<Box<str>, Vec<Stored>>,
    count: u64,
    /// Whether its keys are known by what they are; else by their text.
    has_ids: bool,
}

impl Snapshot {
    /// The same entries, known by the text of their keys.
    fn by_text(&self) -> FxHashMap<Box<str>, Vec<Stored>> {
        let mut entries: FxHashMap<Box<str>, Vec<Stored>> = FxHashMap::default();
        for stored in self.entries.values().flatten() {
            entries.entry(stored.0.clone()).or_default().push(stored.clone());
        }
        entries
    }
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
    let count = each_entry(map, watch, &mut |id, key, elem, place| {
        let line = format!("{{\"key\":{key},\"id\":\"{id}\",\"elem\":{elem},\"where\":{place}}}\n");
        buffer.extend_from_slice(line.as_bytes());
        flush_if_full(out, &mut buffer)
    })?;
    flush(out, &mut buffer)?;
    Ok(count)
}

/// Calls `f` with what the key is, and with key, elem and place as JSON, of each entry; returns how many there are.
fn each_entry(
    map: &GoMap<'_>,
    watch: &dyn Watch,
    f: &mut dyn FnMut(&str, &str, &str, &str) -> Result<()>,
) -> Result<u64> {
    let values = Values::of(map, &show(), &Quiet)?;
    let keys = Keys::new(map.memory, map.types);
    let mut count = 0;
    let (mut key, mut elem) = (Vec::new(), Vec::new());
    map.each(watch, &mut |entry| {
        key.clear();
        elem.clear();
        values.write_key(&entry.key, &mut key)?;
        values.write_elem(&entry.elem, &mut elem)?;
        let place = place_json(entry.place, entry.slot).to_string();
        count += 1;
        // A key that cannot be read is none but the one in this place.
        let id = entry.key.as_ref().ok().and_then(|key| keys.identity(&map.key, key).ok());
        let id = id.map_or_else(|| format!("unreadable at {place}").replace('"', "'"), |id| id.digest().to_string());
        f(&id, &String::from_utf8_lossy(&key), &String::from_utf8_lossy(&elem), &place)?;
        Ok(true)
    })?;
    Ok(count)
}

impl Snapshot {
    /// Of a map as it is now.
    pub fn of(map: &GoMap<'_>, notes: &[Note], watch: &dyn Watch) -> Result<Snapshot> {
        let head = head(map, &state(&map.survey(watch)?, notes));
        let mut snapshot = Snapshot { head, has_ids: true, ..Snapshot::default() };
        each_entry(map, watch, &mut |id, key, elem, place| {
            snapshot.add(id, key, elem, place);
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
        let mut snapshot = Snapshot { has_ids: true, ..Snapshot::default() };
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
        let key = member("key")?;
        // Snapshots before ids were written have none.
        let id = entry.get("id").map_or(key, |id| id.get().trim_matches('"'));
        self.has_ids &= entry.contains_key("id");
        self.add(id, key, member("elem")?, member("where")?);
        Ok(())
    }

    fn add(&mut self, id: &str, key: &str, elem: &str, place: &str) {
        self.entries.entry(id.into()).or_default().push((key.into(), elem.into(), place.into()));
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
    // Keys of another process are others, whatever they are: there, and in old snapshots, their texts have to do.
    let by_text =
        (!a.has_ids || !b.has_ids || a.head["address"] != b.head["address"]).then(|| (a.by_text(), b.by_text()));
    let (thens, nows) = by_text.as_ref().map_or((&a.entries, &b.entries), |(a, b)| (a, b));
    for (id, olds) in thens {
        let news = nows.get(id).map_or(&[][..], Vec::as_slice);
        let mut left: Vec<&Stored> = news.iter().collect();
        // Of several entries under one NaN each is its own, and its elem cannot change.
        let is_one = olds.len() == 1 && news.len() == 1;
        for old in olds {
            let same = left.iter().position(|new| is_one || new.1 == old.1);
            let Some(new) = same.map(|at| left.swap_remove(at)) else {
                removed.push(text(&old.0, &old.1));
                continue;
            };
            kept += 1;
            moved += u64::from(old.2 != new.2);
            if old.1 != new.1 {
                let ((_, old, _), (key, new, _)) = (old, new);
                changed.push(match as_json {
                    true => format!("{{\"key\":{key},\"old\":{old},\"new\":{new}}}"),
                    false => format!("{key}: {old} -> {new}"),
                });
            }
        }
        added.extend(left.into_iter().map(|(key, new, _)| text(key, new)));
    }
    for news in nows.iter().filter(|(id, _)| !thens.contains_key(*id)).map(|(_, news)| news) {
        added.extend(news.iter().map(|(key, new, _)| text(key, new)));
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
