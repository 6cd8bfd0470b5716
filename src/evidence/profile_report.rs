//! `mapscope profile FILE...`: the clusters of one profile, or what grows over several, for people and for programs.

use std::fmt::Write;

use serde_json::{json, Value};

use super::clusters::{survey, Cluster, FileError, Row, Site, Source, Survey};
use super::profile::{Note, Symbols, Text};

/// Clusters and frames shown as text; JSON has all of them.
const SHOWN_CLUSTERS: usize = 40;
const SHOWN_FRAMES: usize = 12;
const SHOWN_GOIDS: usize = 8;
const SHOWN_LABELS: usize = 6;

/// The answer for profiles given as name and content, in the order in which they were taken: text, or one JSON
/// document on one line.
pub fn profile_report(files: &[(&str, &[u8])], json: bool) -> Result<String, FileError> {
    let survey = survey(files)?;
    Ok(if json { to_json(&survey).to_string() } else { to_text(&survey) })
}

fn to_text(survey: &Survey) -> String {
    let mut out = String::new();
    for profile in &survey.profiles {
        let _ = write!(out, "{}: {}, {}", printable(&profile.name), profile.kind.as_str(), goroutines(profile.held));
        out.push('\n');
        for line in &profile.causes {
            let _ = writeln!(out, "  cause: {}", printable(line));
        }
        for note in &profile.notes {
            let _ = writeln!(out, "  note: {note}");
        }
    }
    survey.notes.iter().for_each(|note| {
        let _ = writeln!(out, "note: {note}");
    });
    if survey.profiles.len() > 1 {
        write_trend(&mut out, survey);
    }
    for (n, row) in survey.rows.iter().take(SHOWN_CLUSTERS).enumerate() {
        write_row(&mut out, n + 1, row, survey);
    }
    if let Some(more) = survey.rows.len().checked_sub(SHOWN_CLUSTERS).filter(|&more| more > 0) {
        let _ = writeln!(out, "\n… {more} smaller clusters (--json shows all)");
    }
    out
}

fn write_trend(out: &mut String, survey: &Survey) {
    let growing = survey.rows.iter().filter(|row| row.grows()).count();
    let over = survey.seconds.map(|s| format!(" over {s:.1} s")).unwrap_or_default();
    let _ = match growing {
        0 => writeln!(out, "trend: no cluster grows{over}"),
        1 => writeln!(out, "trend: 1 cluster grows{over}"),
        n => writeln!(out, "trend: {n} clusters grow{over}"),
    };
}

fn write_row(out: &mut String, n: usize, row: &Row, survey: &Survey) {
    let (cluster, symbols) = (&row.cluster, &survey.symbols);
    let _ = write!(out, "\nc{n}  {}  {}", goroutines(row.counts.last().copied().unwrap_or(0)), state(cluster, symbols));
    if row.counts.len() > 1 {
        let counts: Vec<String> = row.counts.iter().map(u64::to_string).collect();
        let _ = write!(out, "  {} ({:+}", counts.join(" -> "), row.growth());
        if let Some(rate) = rate(row, survey) {
            let _ = write!(out, ", {rate:+.2}/s");
        }
        out.push_str(if row.grows() { ", grows)" } else { ")" });
    }
    out.push('\n');
    for line in remarks(row, symbols) {
        let _ = writeln!(out, "    {line}");
    }
    for site in cluster.sites.iter().take(SHOWN_FRAMES) {
        let _ = writeln!(out, "    {}", place(site, symbols));
    }
    if let Some(more) = cluster.sites.len().checked_sub(SHOWN_FRAMES).filter(|&more| more > 0) {
        let _ = writeln!(out, "    … {more} more frames");
    }
    if let Some(site) = &cluster.created_by {
        let _ = writeln!(out, "    created by {}", place(site, symbols));
    }
}

/// What is worth knowing of a cluster beside its state and stack.
fn remarks(row: &Row, symbols: &Symbols) -> Vec<String> {
    let cluster = &row.cluster;
    let mut lines = Vec::new();
    if cluster.nil_channel {
        lines.push(
            "! waits on a nil channel, for ever: what a map lookup that finds nothing gives for a channel".to_string(),
        );
    }
    if !cluster.map_functions.is_empty() {
        let names: Vec<String> = cluster.map_functions.iter().map(|&name| printable(symbols.text(name))).collect();
        lines.push(format!("! inside a map operation: {}", names.join(", ")));
    }
    if cluster.leaked > 0 {
        lines.push(format!("! leaked, says the garbage collector: {}", goroutines(cluster.leaked)));
    }
    if let Some((low, high)) = cluster.minutes {
        let range = if low == high { high.to_string() } else { format!("{low} to {high}") };
        lines.push(format!("waits for at least {range} min (seen by the garbage collector)"));
    }
    if cluster.locked > 0 {
        lines.push(format!("locked to a thread: {}", goroutines(cluster.locked)));
    }
    match cluster.collapsed {
        (_, 0) => {}
        (low, high) if low == high => lines.push(format!("recursion shown once: {high} more frames of the same call")),
        (low, high) => lines.push(format!("recursion shown once: {low} to {high} more frames of the same call")),
    }
    match cluster.elided {
        (0, _) => {}
        (count, 0) => lines.push(format!("stacks cut by the runtime: {}", goroutines(count))),
        (count, most) => {
            lines.push(format!("stacks cut by the runtime: {}, up to {most} frames of one", goroutines(count)))
        }
    }
    if !cluster.goids.is_empty() {
        let shown: Vec<String> = cluster.goids.iter().take(SHOWN_GOIDS).map(u64::to_string).collect();
        let more = cluster.goids.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!("ids {}{more}", shown.join(", ")));
    }
    if let Some(persistent) = row.persistent.filter(|&n| n > 0) {
        lines.push(format!("in every profile: {}", goroutines(persistent)));
    }
    if !cluster.labels.is_empty() {
        let label = |(&(key, value), count): (&(Text, Text), &u64)| {
            format!("{}={} ({count})", printable(symbols.text(key)), printable(symbols.text(value)))
        };
        let shown: Vec<String> = cluster.labels.iter().take(SHOWN_LABELS).map(label).collect();
        let more = if cluster.labels.len() > SHOWN_LABELS { ", …" } else { "" };
        lines.push(format!("labels {}{more}", shown.join(", ")));
    }
    lines
}

fn state(cluster: &Cluster, symbols: &Symbols) -> String {
    let words = printable(symbols.text(cluster.reason.unwrap_or(cluster.status)));
    match cluster.source {
        Source::Header => words,
        Source::Frames => format!("{words} (by its frames)"),
        Source::Unknown => "state not in this form of profile".to_string(),
    }
}

fn place(site: &Site, symbols: &Symbols) -> String {
    let function = match symbols.text(site.function) {
        "" => "?".to_string(),
        name => printable(name),
    };
    match symbols.text(site.file) {
        "" => function,
        file => format!("{function}  {}:{}", printable(file), site.line),
    }
}

fn rate(row: &Row, survey: &Survey) -> Option<f64> {
    survey.seconds.filter(|&s| s > 0.0).map(|s| row.growth() as f64 / s)
}

fn goroutines(count: u64) -> String {
    format!("{count} goroutine{}", if count == 1 { "" } else { "s" })
}

/// Text of the file as it is safe to print: what could steer a terminal is escaped.
fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        let steers =
            c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if steers {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    })
}

fn to_json(survey: &Survey) -> Value {
    let profiles: Vec<Value> = survey
        .profiles
        .iter()
        .map(|profile| {
            json!({
                "name": profile.name,
                "kind": profile.kind.as_str(),
                "total": profile.total,
                "goroutines": profile.held,
                "taken_unix_ns": profile.taken,
                "causes": profile.causes,
                "truncated": profile.truncated,
                "notes": texts(&profile.notes),
            })
        })
        .collect();
    let clusters: Vec<Value> = survey.rows.iter().enumerate().map(|(n, row)| row_json(n + 1, row, survey)).collect();
    json!({"profiles": profiles, "seconds": survey.seconds, "clusters": clusters, "notes": texts(&survey.notes)})
}

fn texts(notes: &[Note]) -> Vec<String> {
    notes.iter().map(Note::to_string).collect()
}

fn row_json(n: usize, row: &Row, survey: &Survey) -> Value {
    let (cluster, symbols) = (&row.cluster, &survey.symbols);
    let text = |text: Text| symbols.text(text);
    let labels: Vec<Value> = cluster
        .labels
        .iter()
        .map(|(&(key, value), count)| json!({"key": text(key), "value": text(value), "count": count}))
        .collect();
    json!({
        "id": format!("c{n}"),
        "count": row.counts.last(),
        "counts": row.counts,
        "growth": row.growth(),
        "growth_per_second": rate(row, survey),
        "grows": row.grows(),
        "persistent": row.persistent,
        "status": text(cluster.status),
        "reason": cluster.reason.map(text),
        "state_source": match cluster.source {
            Source::Header => "header",
            Source::Frames => "frames",
            Source::Unknown => "none",
        },
        "nil_channel": cluster.nil_channel,
        "map_functions": cluster.map_functions.iter().map(|&name| text(name)).collect::<Vec<_>>(),
        "leaked": cluster.leaked,
        "locked": cluster.locked,
        "durable": cluster.durable,
        "minutes": cluster.minutes.map(|(low, high)| json!({"least": low, "most": high})),
        "goids": cluster.goids,
        "labels": labels,
        "frames": cluster.sites.iter().map(|site| site_json(site, symbols)).collect::<Vec<_>>(),
        "frames_elided": cluster.elided.0 > 0,
        "frames_collapsed": {"least": cluster.collapsed.0, "most": cluster.collapsed.1},
        "created_by": cluster.created_by.as_ref().map(|site| site_json(site, symbols)),
    })
}

fn site_json(site: &Site, symbols: &Symbols) -> Value {
    json!({"func": symbols.text(site.function), "file": symbols.text(site.file), "line": site.line})
}
