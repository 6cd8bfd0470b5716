//! `gomap check`: the integrity of one map or of all, with what each finding means.

use super::{head, line, write_error};
use crate::error::Watch;
use crate::map::check::{check as check_map, Report};
use crate::map::GoMap;
use crate::reach::reach;
use crate::session::{MapRef, Session};
use crate::{Error, Result};
use serde_json::{json, Value};
use std::io::Write;

/// A map to check: what it is called, and where it is.
pub type Named = (String, MapRef);

/// Checks every map that can be reached.
pub fn check_all(session: &Session, as_json: bool, watch: &dyn Watch, out: &mut dyn Write) -> Result<bool> {
    let found = reach(session, watch)?;
    let maps: Vec<Named> = found.maps.iter().map(|map| (found.path(map), found.map(map))).collect();
    check(session, &maps, as_json, watch, out)
}

/// Checks `maps`; returns whether anything worse than information was found.
pub fn check(session: &Session, maps: &[Named], as_json: bool, watch: &dyn Watch, out: &mut dyn Write) -> Result<bool> {
    let mut documents = Vec::new();
    let (mut sound, mut findings, mut keys) = (0u64, false, 0u64);
    // A walk of every thread's stack: once, not for each map.
    let writer = session.writer();
    for (i, (name, target)) in maps.iter().enumerate() {
        watch.tick(i as u64, maps.len() as u64)?;
        let (report, head) = match examine(session, *target, writer.as_deref(), watch)? {
            Ok((map, report)) => {
                let mut head = head(&map, &session.notes);
                head["path"] = name.as_str().into();
                (report, head)
            }
            Err(error) if maps.len() == 1 => return Err(error),
            Err(error) => (broken(error), json!({"path": name, "address": format!("{:#x}", target.address)})),
        };
        keys += report.keys;
        findings |= !report.is_sound();
        sound += report.findings.is_empty() as u64;
        if as_json {
            documents.push(document(&head, &report));
        } else if !report.findings.is_empty() || report.unchecked.is_some() || maps.len() == 1 {
            out.write_all(text(&head, &report).as_bytes()).map_err(write_error)?;
        }
    }
    if as_json {
        line(out, &json!({ "maps": documents }))?;
    } else if maps.len() != 1 {
        let said =
            format!("{} maps checked, {sound} without findings, {keys} keys found where their hash says\n", maps.len());
        out.write_all(said.as_bytes()).map_err(write_error)?;
    }
    Ok(findings)
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
