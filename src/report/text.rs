//! The report for a terminal.

use super::{chain, goroutines, visible};
use crate::evidence::join::{Class, Evidence};
use std::fmt::Write;

/// Clusters shown in full; the others in one line each.
const FULL: usize = 8;
const LINES: usize = 20;

/// The verdict, the clusters that are suspected with their chains, and what is not known.
pub fn render(evidence: &Evidence, colour: bool) -> String {
    let bold = |text: String| if colour { format!("\x1b[1m{text}\x1b[0m") } else { text };
    let mut out = String::new();
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    line(bold(visible(&chain::verdict(evidence))));
    chain::finding(evidence).into_iter().for_each(|finding| line(visible(&finding)));
    let (suspects, others): (Vec<_>, Vec<_>) =
        evidence.clusters.iter().enumerate().partition(|(at, c)| c.class != Class::Waiting && *at < FULL);
    for (at, cluster) in suspects {
        let score = cluster.score.total();
        line(String::new());
        let head = format!(
            "{}  {}  {}, score {score}, confidence {}",
            cluster.id,
            goroutines(cluster.count),
            cluster.class.words(),
            cluster.confidence.name()
        );
        line(bold(head));
        for step in chain::steps(evidence, at, cluster) {
            line(format!("  {:<7} {}  ({})", step.title, visible(&step.text), visible(&step.source)));
        }
        for term in &cluster.score.terms {
            line(format!("  {:>+4}    {}", term.points, visible(&term.because)));
        }
        for frame in &cluster.frames {
            line(format!("    {}", visible(&format!("{}  {}:{}", frame.function, frame.file, frame.line))));
        }
        if !cluster.goids.is_empty() {
            let shown: Vec<String> = cluster.goids.iter().take(8).map(u64::to_string).collect();
            let more = cluster.goids.len().saturating_sub(shown.len());
            line(format!(
                "    ids {}{}",
                shown.join(", "),
                if more > 0 { format!(" and {more} more") } else { String::new() }
            ));
        }
    }
    if !others.is_empty() {
        line(String::new());
        line("waiting:".to_string());
        for (_, cluster) in others.iter().take(LINES) {
            let place = cluster.place().map(chain::place).unwrap_or_default();
            let row = format!(
                "  {:<5} {:>3}  {}  {}  {place}",
                cluster.id,
                cluster.score.total(),
                goroutines(cluster.count),
                cluster.state
            );
            line(visible(&row));
        }
        if let Some(more) = others.len().checked_sub(LINES).filter(|&more| more > 0) {
            line(format!("  … {more} more (--json has all)"));
        }
    }
    line(String::new());
    for input in &evidence.inputs {
        line(visible(&format!("{}  {}: {}, {}", input.id, input.name, input.format, goroutines(input.goroutines))));
        input.notes.iter().for_each(|note| line(format!("    note: {}", visible(note))));
    }
    chain::clocks(evidence).iter().chain(&chain::identities(evidence)).for_each(|told| line(visible(told)));
    for (title, texts) in [("warning", &evidence.alignment.warnings), ("conflict", &evidence.conflicts)] {
        texts.iter().for_each(|text| line(format!("{title}: {}", visible(text))));
    }
    let mut tail = String::new();
    evidence.limits.iter().for_each(|limit| {
        let _ = writeln!(tail, "not known: {}: {}", limit.what().replace('_', " "), limit);
    });
    out.push_str(&tail);
    out
}
