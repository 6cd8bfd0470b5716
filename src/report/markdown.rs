//! The report as Markdown, for an issue or a chat.

use super::{chain, goroutines, visible};
use crate::evidence::join::{Class, Evidence, Frame};
use std::fmt::Write;

/// Clusters shown in full.
const FULL: usize = 20;

/// The same as the HTML report, without drawings.
pub fn render(evidence: &Evidence) -> String {
    let mut out = format!("# {}\n\n", escape(&chain::verdict(evidence)));
    if let Some(finding) = chain::finding(evidence) {
        let _ = writeln!(out, "**{}**\n", escape(&finding));
    }
    for (at, cluster) in evidence.clusters.iter().enumerate().filter(|(_, c)| c.class != Class::Waiting).take(FULL) {
        let _ = writeln!(
            out,
            "## {}: {}, {}, score {}, confidence {}\n",
            cluster.id,
            goroutines(cluster.count),
            cluster.class.words(),
            cluster.score.total(),
            cluster.confidence.name()
        );
        out.push_str("| link | what | source |\n| --- | --- | --- |\n");
        for step in chain::steps(evidence, at, cluster) {
            let _ = writeln!(out, "| {} | {} | {} |", step.title, escape(&step.text), escape(&step.source));
        }
        out.push_str("\n| points | because |\n| ---: | --- |\n");
        for term in &cluster.score.terms {
            let _ = writeln!(out, "| {:+} | {} |", term.points, escape(&term.because));
        }
        out.push('\n');
        cluster.frames.iter().for_each(|frame| {
            let _ = writeln!(out, "1. {}", place(frame));
        });
        out.push('\n');
    }
    out.push_str("## All places\n\n| id | score | goroutines | state | place |\n| --- | ---: | ---: | --- | --- |\n");
    for cluster in evidence.clusters.iter().take(100) {
        let at = cluster.place().map(place).unwrap_or_default();
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {at} |",
            cluster.id,
            cluster.score.total(),
            cluster.count,
            escape(&cluster.state)
        );
    }
    out.push_str("\n## Sources\n\n");
    for input in &evidence.inputs {
        let _ = writeln!(out, "- {}: {}: {}", input.id, escape(&input.name), escape(&input.format));
        input.notes.iter().for_each(|note| {
            let _ = writeln!(out, "  - {}", escape(note));
        });
    }
    for told in chain::clocks(evidence).iter().chain(&chain::identities(evidence)) {
        let _ = writeln!(out, "- {}", escape(told));
    }
    for (title, texts) in [("Warnings", &evidence.alignment.warnings), ("Conflicts", &evidence.conflicts)] {
        if !texts.is_empty() {
            let _ = writeln!(out, "\n## {title}\n");
        }
        texts.iter().for_each(|text| {
            let _ = writeln!(out, "- {}", escape(text));
        });
    }
    out.push_str("\n## Not known\n\n");
    evidence.limits.iter().for_each(|limit| {
        let _ = writeln!(out, "- {}: {}", limit.what().replace('_', " "), escape(&limit.to_string()));
    });
    out
}

fn place(frame: &Frame) -> String {
    escape(&chain::place(frame))
}

/// Text without any meaning to Markdown or to HTML inside it.
fn escape(text: &str) -> String {
    visible(text).chars().fold(String::new(), |mut out, c| {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '!' | '#' | '~' => out.extend(['\\', c]),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn target_text_means_nothing_to_markdown() {
        assert_eq!(super::escape("a|b\n![x](http://y)<script>"), r"a\|b\\u{a}\!\[x\](http://y)&lt;script&gt;");
    }
}
