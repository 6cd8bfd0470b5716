//! `gomap check`: the integrity of one map or of all, with what each finding means.

use super::{head, write_error};
use crate::error::{Quiet, Watch};
use crate::map::check::{check as check_map, Report};
use crate::map::GoMap;
use crate::memory::Place;
use crate::reach::{in_pieces, reach, Progress};
use crate::session::{MapRef, Session};
use crate::{Error, Result};
use serde_json::{json, Value};
use std::io::Write;

/// A map to check: what it is called, and where it is.
pub type Named = (String, MapRef);

/// Maps checked before what they say is written.
const BLOCK: usize = 1 << 12;

/// Checks every map that can be reached.
pub fn check_all(session: &Session, as_json: bool, watch: &dyn Watch, out: &mut dyn Write) -> Result<bool> {
    let found = reach(session, watch)?;
    check_each(session, &found.maps, &|map| (found.expression(map, &Quiet), found.map(map)), as_json, watch, out)
}

/// Checks `maps`; returns whether anything worse than information was found.
pub fn check(session: &Session, maps: &[Named], as_json: bool, watch: &dyn Watch, out: &mut dyn Write) -> Result<bool> {
    check_each(session, maps, &Named::clone, as_json, watch, out)
}

/// What the checks of some maps came to, and the words for it.
#[derive(Default)]
struct Checked {
    sound: u64,
    keys: u64,
    findings: bool,
    words: Vec<String>,
}

fn check_each<T: Sync>(
    session: &Session,
    maps: &[T],
    named: &(dyn Fn(&T) -> Named + Sync),
    as_json: bool,
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<bool> {
    // A walk of every thread's stack: once, not for each map.
    let writer = session.writer();
    let one = maps.len() == 1;
    let check_one = |map: &T, checked: &mut Checked, watch: &dyn Watch| {
        let (name, target) = named(map);
        let (report, head) = match examine(session, target, writer.as_deref(), watch)? {
            Ok((map, report)) => {
                let mut head = head(&map, &session.notes);
                head["path"] = name.as_str().into();
                (report, head)
            }
            Err(error) if one => return Err(error),
            Err(error) => (broken(error), json!({"path": name, "address": format!("{:#x}", target.address)})),
        };
        checked.keys += report.keys;
        checked.findings |= !report.is_sound();
        checked.sound += u64::from(report.findings.is_empty());
        if as_json {
            checked.words.push(document(&head, &report).to_string());
        } else if !report.findings.is_empty() || report.unchecked.is_some() || one {
            checked.words.push(text(&head, &report));
        }
        Ok(())
    };
    let alone = session.memory.place() == Place::Debugger;
    let mut all = Checked::default();
    let mut put = |text: &str| out.write_all(text.as_bytes()).map_err(write_error);
    let (mut between, between_more) = if as_json { ("{\"maps\":[", ",") } else { ("", "") };
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
        for checked in pieces {
            all.sound += checked.sound;
            all.keys += checked.keys;
            all.findings |= checked.findings;
            for words in checked.words {
                put(between)?;
                put(&words)?;
                between = between_more;
            }
        }
    }
    if as_json {
        put(if maps.is_empty() { "{\"maps\":[]}\n" } else { "]}\n" })?;
    } else if !one {
        let Checked { sound, keys, .. } = all;
        put(&format!(
            "{} maps checked, {sound} without findings, {keys} keys found where their hash says\n",
            maps.len()
        ))?;
    }
    Ok(all.findings)
}

/// Opens and checks one of many maps. The inner error, a header that cannot be, is this map's finding ([`broken`]) and
/// not the end of the others; the outer one is.
pub(super) fn examine<'s>(
    session: &'s Session,
    target: MapRef,
    writer: Option<&str>,
    watch: &dyn Watch,
) -> Result<Result<(GoMap<'s>, Report)>> {
    let checked = session.open(target).and_then(|map| {
        let report = check_map(&map, &session.hasher(&map), writer, watch)?;
        Ok((map, report))
    });
    match checked {
        Err(Error::Interrupted) => Err(Error::Interrupted),
        checked => Ok(checked),
    }
}

/// The report of a map whose header cannot be.
pub(super) fn broken(error: Error) -> Report {
    use crate::map::check::{Finding, FindingKind};
    let finding = Finding { kind: FindingKind::BadPointer, detail: error.to_string() };
    Report { findings: vec![finding], ..Report::default() }
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
                "severity": finding.kind.severity().name(),
            })
        })
        .collect();
    let mut document = json!({"map": head, "findings": findings, "keys_checked": report.keys});
    if let Some(why) = &report.unchecked {
        document["unchecked"] = why.as_str().into();
    }
    document
}

fn text(head: &Value, report: &Report) -> String {
    let name = |member: &str| head[member].as_str().unwrap_or("?");
    let mut text = format!("{} ({}, {} entries, at {})\n", name("path"), name("type"), head["count"], name("address"));
    for finding in &report.findings {
        text += &format!("  {} {}: {}\n", finding.kind.severity().name(), finding.kind.name(), finding.detail);
    }
    let mut kinds: Vec<_> = report.findings.iter().map(|f| f.kind).collect();
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
