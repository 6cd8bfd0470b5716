//! The report as one self-contained HTML file: no script, no network, readable on a phone and in print.

use super::{chain, diff, goroutines, svg, visible, wall};
use crate::evidence::join::{Class, Cluster, Evidence, Looked, MapView, Score};
use std::fmt::Write;

/// Clusters shown in full.
const FULL: usize = 25;
/// Clusters in the table of all places.
const LISTED: usize = 200;
const GOIDS: usize = 40;

const STYLE: &str = include_str!("report.css");

/// The verdict first, then each suspected cluster with its chain, then all places, sources and gaps.
pub fn render(evidence: &Evidence) -> String {
    let verdict = chain::verdict(evidence);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n",
        escape(&verdict)
    );
    head(&mut out, evidence, &verdict);
    let suspects = evidence.clusters.iter().enumerate().filter(|(_, cluster)| cluster.class != Class::Waiting);
    suspects.take(FULL).for_each(|(at, cluster)| section(&mut out, evidence, at, cluster));
    if let Some(map) = &evidence.map {
        map_section(&mut out, map);
    }
    places(&mut out, evidence);
    sources(&mut out, evidence);
    out.push_str("</main></body></html>\n");
    out
}

fn head(out: &mut String, evidence: &Evidence, verdict: &str) {
    let class = evidence.clusters.first().map_or(Class::Waiting, |cluster| cluster.class);
    let _ = writeln!(out, "<header class=\"{}\"><h1 id=\"verdict\">{}</h1>", class.name(), escape(verdict));
    if let Some(finding) = chain::finding(evidence) {
        let _ = writeln!(out, "<p class=\"finding\">{}</p>", escape(&finding));
    }
    let total = evidence.clusters.iter().fold(0u64, |sum, cluster| sum.saturating_add(cluster.count));
    let suspected: u64 = evidence.clusters.iter().filter(|c| c.class != Class::Waiting).map(|c| c.count).sum();
    let tiles = [
        ("goroutines", total.to_string()),
        ("suspected", suspected.to_string()),
        ("score", evidence.clusters.first().map_or(0, |c| c.score.total()).to_string()),
        ("confidence", evidence.clusters.first().map_or("none", |c| c.confidence.name()).to_string()),
    ];
    out.push_str("<dl class=\"tiles\">");
    for (name, value) in tiles {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    out.push_str("</dl></header>\n");
}

fn section(out: &mut String, evidence: &Evidence, at: usize, cluster: &Cluster) {
    let _ = writeln!(
        out,
        "<section id=\"{}\" class=\"{}\"><h2>{}: {} <small>{}, score {}, confidence {}</small></h2>",
        escape(&cluster.id),
        cluster.class.name(),
        escape(&cluster.id),
        goroutines(cluster.count),
        cluster.class.words(),
        cluster.score.total(),
        cluster.confidence.name()
    );
    out.push_str("<ol class=\"chain\">");
    for step in chain::steps(evidence, at, cluster) {
        let known = if step.known { "known" } else { "unknown" };
        let (text, source) = (escape(&step.text), escape(&step.source));
        let _ =
            write!(out, "<li class=\"{known}\"><b>{}</b><span>{text}</span><small>{source}</small></li>", step.title);
    }
    out.push_str("</ol>\n");
    let given = evidence.map.as_ref().filter(|_| cluster.nil_channel).and_then(MapView::missed_channel);
    if let Some((key, near)) = given.or(cluster.lookup.as_deref().and_then(Looked::missed)) {
        let (asked, stored) = diff::marked(key, &near.key);
        let _ = writeln!(
            out,
            "<div class=\"pair\"><div><small>looked up</small><code>{asked}</code></div>\
             <div><small>stored</small><code>{stored}</code></div></div>"
        );
    }
    if let Some(drawing) = svg::timeline(evidence, at) {
        let legend = "<p class=\"legend\"><i class=\"s-running\"></i>running <i class=\"s-runnable\"></i>runnable \
            <i class=\"s-syscall\"></i>syscall <i class=\"s-waiting\"></i>waiting <i class=\"lookup\"></i>map lookup</p>";
        let _ = writeln!(out, "<h3>Timeline</h3>{drawing}{legend}");
    }
    if let Some(drawing) = svg::trend(cluster) {
        let _ = writeln!(out, "<h3>Over the profiles</h3>{drawing}");
    }
    score(out, &cluster.score, cluster.strongest);
    stack(out, cluster);
    out.push_str("</section>\n");
}

fn score(out: &mut String, score: &Score, strongest: Option<u64>) {
    let of = strongest.map(|goid| format!(" (of goroutine {goid}, the strongest)")).unwrap_or_default();
    let _ = write!(out, "<h3>Score{of}</h3><table class=\"score\"><tbody>");
    for term in &score.terms {
        let _ = write!(out, "<tr><td>{:+}</td><td>{}</td></tr>", term.points, escape(&term.because));
    }
    let _ = writeln!(out, "<tr class=\"total\"><td>{}</td><td>of 100</td></tr></tbody></table>", score.total());
}

fn stack(out: &mut String, cluster: &Cluster) {
    out.push_str("<h3>Stack</h3><ol class=\"stack\">");
    for frame in &cluster.frames {
        let (function, file) = (escape(&frame.function), escape(&frame.file));
        let _ = write!(out, "<li><code>{function}</code> <small>{file}:{}</small></li>", frame.line);
    }
    out.push_str("</ol>");
    if let Some(frame) = &cluster.created_by {
        let _ = write!(out, "<p>created by <code>{}</code></p>", escape(&chain::place(frame)));
    }
    if !cluster.goids.is_empty() {
        let shown: Vec<String> = cluster.goids.iter().take(GOIDS).map(u64::to_string).collect();
        let more = cluster.goids.len().saturating_sub(shown.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let _ = write!(out, "<p>goroutine ids {}{more}</p>", shown.join(", "));
    }
    if !cluster.held.is_empty() {
        out.push_str("<h3>Stored keys of what it waits on</h3><ul>");
        for held in &cluster.held {
            let (key, map, name) = (escape(&held.key), escape(&held.map), escape(&held.map_type));
            let _ = write!(out, "<li><code>{key}</code> in <code>{map}</code> <small>{name}</small></li>");
        }
        out.push_str("</ul>");
    }
    if !cluster.labels.is_empty() {
        out.push_str("<p>labels");
        for (key, value, count) in cluster.labels.iter().take(12) {
            let _ = write!(out, " <code>{}={}</code> ({count})", escape(key), escape(value));
        }
        out.push_str("</p>");
    }
    out.push('\n');
}

fn map_section(out: &mut String, map: &MapView) {
    let (expression, type_name) = (escape(&map.expression), escape(&map.type_name));
    let entries = if map.count == 1 { "entry" } else { "entries" };
    let _ = writeln!(
        out,
        "<section id=\"map\"><h2>Map <code>{expression}</code> <small>{type_name}, {} {entries}, at {:#x}</small></h2>",
        map.count, map.address
    );
    if let (Some(key), Some(verdict)) = (&map.key, map.verdict) {
        let _ = write!(out, "<p>The key <code>{}</code> is {verdict}.</p>", escape(key));
        if !map.near.is_empty() {
            out.push_str("<div class=\"wide\"><table class=\"keys\"><thead><tr><th>looked up</th><th>stored</th><th>difference</th></tr></thead><tbody>");
        }
        for near in &map.near {
            let (asked, stored) = diff::marked(key, &near.key);
            let (relation, detail) = (escape(near.relation), escape(&near.detail));
            let _ = write!(
                out,
                "<tr><td><code>{asked}</code></td><td><code>{stored}</code></td><td>{relation}: {detail}</td></tr>"
            );
        }
        if !map.near.is_empty() {
            out.push_str("</tbody></table></div>");
        }
    }
    if let Some(drawing) = svg::heat(map) {
        let _ = writeln!(out, "<h3>Occupancy</h3>{drawing}");
    }
    out.push_str("</section>\n");
}

fn places(out: &mut String, evidence: &Evidence) {
    out.push_str("<section><h2>All places</h2><div class=\"wide\"><table class=\"places\"><thead><tr><th>id</th><th>score</th><th>goroutines</th><th>state</th><th>place</th></tr></thead><tbody>\n");
    for cluster in evidence.clusters.iter().take(LISTED) {
        let place = cluster.place().map(chain::place).unwrap_or_default();
        let _ = writeln!(
            out,
            "<tr class=\"{}\"><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td><code>{}</code></td></tr>",
            cluster.class.name(),
            escape(&cluster.id),
            cluster.score.total(),
            cluster.count,
            escape(&cluster.state),
            escape(&place)
        );
    }
    out.push_str("</tbody></table></div>");
    if let Some(more) = evidence.clusters.len().checked_sub(LISTED).filter(|&more| more > 0) {
        let _ = write!(out, "<p class=\"more\">and {more} more</p>");
    }
    out.push_str("</section>\n");
}

fn sources(out: &mut String, evidence: &Evidence) {
    out.push_str("<section><h2>Sources</h2><ul>");
    for input in &evidence.inputs {
        let taken = input.taken.map(|at| format!(", taken {}", wall(at))).unwrap_or_default();
        let cut = if input.truncated { ", read in part" } else { "" };
        let (name, format) = (escape(&input.name), escape(&input.format));
        let _ = write!(
            out,
            "<li><b>{}</b> <code>{name}</code>: {format}, {}{taken}{cut}",
            escape(&input.id),
            goroutines(input.goroutines)
        );
        list(out, &input.notes);
        out.push_str("</li>");
    }
    out.push_str("</ul>");
    list(out, &chain::clocks(evidence));
    list(out, &chain::identities(evidence));
    out.push_str("</section>\n");
    for (title, texts) in [("Warnings", &evidence.alignment.warnings), ("Conflicts", &evidence.conflicts)] {
        if !texts.is_empty() {
            let _ = write!(out, "<section><h2>{title}</h2>");
            list(out, texts);
            out.push_str("</section>\n");
        }
    }
    let limits: Vec<String> =
        evidence.limits.iter().map(|limit| format!("{}: {}", limit.what().replace('_', " "), limit)).collect();
    out.push_str("<section><h2>Not known</h2>");
    list(out, &limits);
    out.push_str("</section>\n");
}

fn list(out: &mut String, texts: &[String]) {
    if texts.is_empty() {
        return;
    }
    out.push_str("<ul>");
    texts.iter().for_each(|text| {
        let _ = write!(out, "<li>{}</li>", escape(text));
    });
    out.push_str("</ul>");
}

/// Text that means nothing to HTML, in elements and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    visible(text).chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn target_text_means_nothing_to_html() {
        assert_eq!(
            super::escape("</style><script>alert('1')</script>\" onload=\"x\u{0}\u{202e}&"),
            "&lt;/style&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&quot; onload=&quot;x\\u{0}\\u{202e}&amp;"
        );
    }
}
