//! `gomap check`: the integrity of one map or of all, with what each finding means.

use super::{head, sentences, source, write_error};
use crate::error::{Quiet, Watch};
use crate::goroutine::writers::Writers;
use crate::map::check::{check as check_map, Finding, FindingKind, Report};
use crate::map::GoMap;
use crate::memory::Place;
use crate::reach::{self, in_pieces, reach, Progress, Reach, Torn};
use crate::session::{MapRef, Session};
use crate::{Error, Result};
use serde_json::{json, Value};
use std::io::Write;

/// A map to check: what it is called, and where it is.
pub type Named = (String, MapRef);

/// Maps checked before what they say is written.
const BLOCK: usize = 1 << 12;
/// Maps that could not be read and are named.
const NAMED: usize = 20;

/// Checks every map that can be reached. Fails when none could be read.
pub fn check_all(session: &Session, as_json: bool, watch: &dyn Watch, out: &mut dyn Write) -> Result<bool> {
    let found = reach(session, watch)?;
    let (unread, torn): (Vec<&Torn>, Vec<&Torn>) = found.torn.iter().partition(|torn| torn.is_left_out());
    nothing_read(&found, &unread)?;
    let torn: Vec<(Value, Report)> =
        torn.into_iter().map(|torn| (torn_head(&found, torn), broken(&torn.error))).collect();
    let mut notes = sentences(&found.notes);
    notes.extend(sentences(&session.notes));
    let unread = unread.iter().map(|torn| (found.torn_path(torn), torn.error.to_string())).collect();
    let rest = Rest { torn, unread, notes };
    check_each(
        session,
        &found.maps,
        &|map| (found.expression(map, &Quiet), found.map(map)),
        Some(rest),
        as_json,
        watch,
        out,
    )
}

/// Checks `maps`; returns whether anything worse than information was found.
pub fn check(session: &Session, maps: &[Named], as_json: bool, watch: &dyn Watch, out: &mut dyn Write) -> Result<bool> {
    check_each(session, maps, &Named::clone, None, as_json, watch, out)
}

/// Fails when there may be maps, and what would tell could not be read. Variables that the core left out are those of
/// the executable's file, in which maps are empty: without the heap such maps tell nothing.
fn nothing_read(found: &Reach<'_>, unread: &[&Torn]) -> Result<()> {
    let no_heap = found.notes.iter().any(|note| matches!(note, reach::Note::Heap(_)));
    if found.maps.iter().any(|map| map.count > 0) || !found.maps.is_empty() && !no_heap {
        return Ok(());
    }
    let hides = |note: &&reach::Note| matches!(note, reach::Note::Heap(_) | reach::Note::Unreadable(_));
    let first = unread.first().map(|torn| format!("{}: {}", found.torn_path(torn), torn.error));
    let why = first.or_else(|| found.notes.iter().find(hides).map(ToString::to_string));
    match why {
        Some(why) => Err(Error::Binary(format!("no map could be read, so nothing was checked: {why}"))),
        None => Ok(()),
    }
}

fn torn_head(found: &Reach<'_>, torn: &Torn) -> Value {
    let (path, name) = (found.torn_expression(torn, &Quiet), found.torn_type(torn));
    json!({"path": path, "type": name, "address": format!("{:#x}", torn.address)})
}

/// What there is to say beside the maps that were opened.
#[derive(Default)]
struct Rest {
    /// Maps whose headers cannot be.
    torn: Vec<(Value, Report)>,
    /// Maps that were not looked at, and why.
    unread: Vec<(String, String)>,
    notes: Vec<String>,
}

/// What the checks of some maps came to, and the words for it.
#[derive(Default)]
struct Checked {
    maps: usize,
    sound: u64,
    keys: u64,
    findings: bool,
    words: Vec<String>,
}

impl Checked {
    fn add(&mut self, head: &Value, report: &Report, as_json: bool, always: bool) {
        self.maps += 1;
        self.keys += report.keys;
        self.findings |= !report.is_sound();
        self.sound += u64::from(report.findings.is_empty());
        if as_json {
            self.words.push(document(head, report).to_string());
        } else if !report.findings.is_empty() || report.unchecked.is_some() || always {
            self.words.push(text(head, report));
        }
    }
}

fn check_each<T: Sync>(
    session: &Session,
    maps: &[T],
    named: &(dyn Fn(&T) -> Named + Sync),
    rest: Option<Rest>,
    as_json: bool,
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<bool> {
    let writers = Writers::new(session);
    let one = rest.is_none() && maps.len() == 1;
    let check_one = |map: &T, checked: &mut Checked, watch: &dyn Watch| {
        let (name, target) = named(map);
        let (report, head) = match examine(session, target, &writers, watch)? {
            Ok((map, report)) => {
                let state: Vec<_> = if one { source(&session.notes).collect() } else { Vec::new() };
                let mut head = head(&map, &state);
                head["path"] = name.as_str().into();
                (report, head)
            }
            Err(error) if one => return Err(error),
            Err(error) => (broken(&error), json!({"path": name, "address": format!("{:#x}", target.address)})),
        };
        checked.add(&head, &report, as_json, one);
        Ok(())
    };
    let alone = session.memory.place() == Place::Debugger;
    let mut all = Checked::default();
    let mut put = |text: &str| out.write_all(text.as_bytes()).map_err(write_error);
    put(if as_json { "{\"maps\":[" } else { "" })?;
    let (mut between, between_more) = ("", if as_json { "," } else { "" });
    let mut take = |checked: Checked| {
        all.maps += checked.maps;
        all.sound += checked.sound;
        all.keys += checked.keys;
        all.findings |= checked.findings;
        for words in checked.words {
            put(between)?;
            put(&words)?;
            between = between_more;
        }
        Ok::<(), Error>(())
    };
    for (i, block) in maps.chunks(BLOCK).enumerate() {
        let progress = Progress { before: (i * BLOCK) as u64, total: maps.len() as u64 };
        let pieces = in_pieces(block, alone, progress, watch, &|_, maps, watch| {
            let mut checked = Checked::default();
            for map in maps {
                watch.tick(0, 0)?;
                check_one(map, &mut checked, watch)?;
            }
            Ok(checked)
        })?;
        pieces.into_iter().try_for_each(&mut take)?;
    }
    let Rest { torn, unread, notes } = rest.unwrap_or_default();
    let mut checked = Checked::default();
    torn.iter().for_each(|(head, report)| checked.add(head, report, as_json, true));
    take(checked)?;
    let mut end = String::new();
    if as_json {
        end.push(']');
        if !one {
            let unread: Vec<Value> = unread.iter().map(|(path, why)| json!({"path": path, "why": why})).collect();
            end += &format!(",\"unread\":{},\"notes\":{}", json!(unread), json!(notes));
        }
        end += "}\n";
    } else if !one {
        let Checked { maps, sound, keys, .. } = all;
        end += &format!("{maps} maps checked, {sound} without findings, {keys} keys found where their hash says\n");
        for (path, why) in unread.iter().take(NAMED) {
            end += &format!("not checked: {path}: {why}\n");
        }
        if unread.len() > NAMED {
            end += &format!("not checked: {} more maps\n", unread.len() - NAMED);
        }
        notes.iter().for_each(|note| end += &format!("note: {note}\n"));
    }
    out.write_all(end.as_bytes()).map_err(write_error)?;
    Ok(all.findings)
}

/// Opens and checks one of many maps. The inner error, a header that cannot be, is this map's finding ([`broken`]) and
/// not the end of the others; the outer one is.
pub(super) fn examine<'s>(
    session: &'s Session,
    target: MapRef,
    writers: &Writers<'_>,
    watch: &dyn Watch,
) -> Result<Result<(GoMap<'s>, Report)>> {
    let who = |map: u64, watch: &dyn Watch| writers.of(map, watch);
    let checked = session.open(target).and_then(|map| {
        let report = check_map(&map, &session.hasher(&map), &who, watch)?;
        Ok((map, report))
    });
    match checked {
        Err(Error::Interrupted) => Err(Error::Interrupted),
        checked => Ok(checked),
    }
}

/// The report of a map whose header cannot be.
pub(super) fn broken(error: &Error) -> Report {
    Report { findings: vec![Finding::new(FindingKind::of_error(error), error.to_string())], ..Report::default() }
}

fn document(head: &Value, report: &Report) -> Value {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "kind": finding.kind.name(),
                "detail": finding.detail,
                "meaning": finding.kind.meaning(),
                "severity": finding.severity.name(),
                "passing": finding.passing,
            })
        })
        .collect();
    let mut document = json!({"map": head, "findings": findings, "keys_checked": report.keys});
    if !report.more.is_empty() {
        document["more"] = report.more.iter().map(|(kind, more)| (kind.name().to_string(), json!(more))).collect();
    }
    if let Some(why) = &report.unchecked {
        document["unchecked"] = why.as_str().into();
    }
    document
}

fn text(head: &Value, report: &Report) -> String {
    let name = |member: &str| head[member].as_str().unwrap_or("?");
    let count = head["count"].as_u64().map_or(String::new(), |count| format!("{count} entries, "));
    let mut text = format!("{} ({}, {count}at {})\n", name("path"), name("type"), name("address"));
    for finding in &report.findings {
        let passing = if finding.passing { " (the write in progress explains it)" } else { "" };
        text += &format!("  {} {}: {}{passing}\n", finding.severity.name(), finding.kind.name(), finding.detail);
    }
    for (kind, more) in &report.more {
        text += &format!("  and {more} more of {}\n", kind.name());
    }
    let mut kinds: Vec<_> = report.findings.iter().filter(|finding| !finding.passing).map(|f| f.kind).collect();
    kinds.sort();
    kinds.dedup();
    for kind in kinds {
        text += &format!("  {} means: {}\n", kind.name(), kind.meaning());
    }
    match &report.unchecked {
        Some(why) => text += &format!("  keys were not checked against their hash: {why}\n"),
        None if report.findings.is_empty() => {
            text += &format!("  sound: {} keys found where their hash says\n", report.keys)
        }
        None => {}
    }
    text
}
