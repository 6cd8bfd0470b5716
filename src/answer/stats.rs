//! `gomap stats`: count, load, chains or groups, growth, tombstones, bytes.

use super::{head, head_text, line, state, write_error, State};
use crate::error::Watch;
use crate::map::sync::SyncSurvey;
use crate::map::{GoMap, Survey};
use crate::session::Note;
use crate::Result;
use serde_json::{json, Value};
use std::fmt::Write as _;
use std::io::Write;

/// Shows the statistics of `map`.
pub fn stats(map: &GoMap<'_>, as_json: bool, notes: &[Note], watch: &dyn Watch, out: &mut dyn Write) -> Result<()> {
    let survey = map.survey(watch)?;
    let state = state(&survey, notes);
    if as_json {
        return line(out, &document(map, &survey, &state));
    }
    let text = head_text(map, &state) + &lines(map, &survey);
    out.write_all(text.as_bytes()).map_err(write_error)
}

/// Classic: entries per bucket (the runtime grows above 6.5). Swiss: share of slots that are live.
fn load_factor(map: &GoMap<'_>, survey: &Survey) -> Option<f64> {
    if survey.sync.is_some() {
        return None;
    }
    let whole = if map.slots.classic { survey.buckets? } else { survey.capacity };
    (whole > 0).then(|| survey.live as f64 / whole as f64)
}

fn document(map: &GoMap<'_>, survey: &Survey, state: &[State]) -> Value {
    let growth = survey.growth.map(|(old, evacuated)| json!({"old_buckets": old, "evacuated": evacuated}));
    let members = [
        ("load_factor", load_factor(map, survey).map(Value::from)),
        ("bytes", Some(survey.bytes.into())),
        ("buckets", survey.buckets.map(Value::from)),
        ("overflow_buckets", survey.overflow_buckets.map(Value::from)),
        ("tables", survey.tables.map(Value::from)),
        ("groups", survey.groups.map(Value::from)),
        ("tombstones", survey.tombstones.map(Value::from)),
        ("growth", growth),
        ("histogram", Some(json!(survey.histogram))),
    ];
    let mut document = serde_json::Map::from_iter([("map".to_string(), head(map, state))]);
    if let Some(sync) = &survey.sync {
        let counts = sync_counts(sync);
        document.extend(counts.into_iter().filter_map(|(name, value)| Some((name.replace(' ', "_"), value?))));
    }
    document.extend(members.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))));
    Value::Object(document)
}

/// What only a sync.Map has.
fn sync_counts(sync: &SyncSurvey) -> [(&'static str, Option<Value>); 9] {
    [
        ("read", sync.read.map(Value::from)),
        ("dirty", sync.dirty.map(Value::from)),
        ("amended", sync.amended.map(Value::from)),
        ("misses", sync.misses.map(Value::from)),
        ("deleted", sync.deleted.map(Value::from)),
        ("expunged", sync.expunged.map(Value::from)),
        ("nodes", sync.nodes.map(Value::from)),
        ("depth", sync.depth.map(Value::from)),
        ("overflow entries", sync.overflow.map(Value::from)),
    ]
}

fn lines(map: &GoMap<'_>, survey: &Survey) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<17} {value}");
    };
    if let Some(load) = load_factor(map, survey) {
        let unit = if map.slots.classic { "entries per bucket" } else { "of the slots live" };
        row("load factor", format!("{load:.2} {unit}"));
    }
    row("bytes", survey.bytes.to_string());
    let counts = [
        ("buckets", survey.buckets),
        ("overflow buckets", survey.overflow_buckets),
        ("tables", survey.tables),
        ("groups", survey.groups),
        ("tombstones", survey.tombstones),
    ];
    for (name, count) in counts {
        if let Some(count) = count {
            row(name, count.to_string());
        }
    }
    if let Some((old, evacuated)) = survey.growth {
        row("growth", format!("{evacuated} of {old} old buckets evacuated"));
    }
    for (name, value) in survey.sync.iter().flat_map(sync_counts) {
        if let Some(value) = value {
            row(name, value.to_string());
        }
    }
    let what = if map.slots.classic { "overflow buckets on a chain" } else { "live slots in a group" };
    let most = survey.histogram.iter().max().copied().unwrap_or(0);
    if most > 0 {
        let _ = writeln!(text, "  {what}:");
        for (i, &count) in survey.histogram.iter().enumerate() {
            let bar = "█".repeat((count as u128 * 40).div_ceil(most as u128) as usize);
            let _ = writeln!(text, "  {i:>5} {count:>10} {bar}");
        }
    }
    text
}
