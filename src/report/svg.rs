//! Drawings for the HTML report, without script: timelines and trends.

use super::html::escape;
use super::{duration, goroutines};
use crate::evidence::join::{Cluster, Evidence, Goroutine, MapView};
use std::fmt::Write;

/// Goroutines drawn for one cluster.
const ROWS: usize = 8;
/// States drawn for one goroutine.
const SPANS: usize = 200;
const WIDTH: f64 = 640.0;
const LEFT: f64 = 64.0;
const ROW: f64 = 22.0;

/// States over the trace's window of a cluster's goroutines: those with a finding first.
pub fn timeline(evidence: &Evidence, cluster: usize) -> Option<String> {
    let (first, last) = evidence.alignment.window?;
    let length = last.checked_sub(first).filter(|&length| length > 0)?;
    let mut members: Vec<&Goroutine> = evidence.members(cluster).filter(|g| g.trace.is_some()).collect();
    members.sort_by_key(|g| (std::cmp::Reverse(g.windows.len()), g.goid));
    let shown = members.get(..members.len().min(ROWS)).filter(|shown| !shown.is_empty())?;
    let height = ROW * shown.len() as f64 + 24.0;
    let x = |time: i64| {
        let into = time.clamp(first, last).saturating_sub(first);
        LEFT + (WIDTH - LEFT - 4.0) * into as f64 / length as f64
    };
    let mut out = format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"States over {}\">",
        duration(length)
    );
    for (n, goroutine) in shown.iter().enumerate() {
        let top = n as f64 * ROW + 3.0;
        let _ = write!(out, "<text x=\"0\" y=\"{:.1}\">g {}</text>", top + 12.0, goroutine.goid);
        let told = goroutine.trace.as_ref()?;
        let skip = told.spans.len().saturating_sub(SPANS);
        for span in told.spans.iter().skip(skip) {
            let (from, to) = (x(span.start), x(span.end));
            let _ = write!(
                out,
                "<rect class=\"s-{}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{} for {}</title></rect>",
                escape(&span.state.to_lowercase()),
                (to - from).max(1.0),
                ROW - 6.0,
                escape(span.state),
                duration(span.end.saturating_sub(span.start))
            );
        }
        for window in &goroutine.windows {
            let at = x(window.lookup);
            let _ = write!(
                out,
                "<path class=\"lookup\" d=\"M{at:.1} {:.1}l-4 -6h8z\"><title>{}, {} before the wait</title></path>",
                top + 6.0,
                escape(&window.function),
                duration(window.block.saturating_sub(window.lookup))
            );
        }
    }
    let bottom = height - 6.0;
    let _ = write!(out, "<text x=\"{LEFT}\" y=\"{bottom}\">0</text>");
    let _ = write!(out, "<text x=\"{WIDTH}\" y=\"{bottom}\" text-anchor=\"end\">{}</text></svg>", duration(length));
    if let Some(more) = members.len().checked_sub(ROWS).filter(|&more| more > 0) {
        let _ = write!(out, "<p class=\"more\">and {} more</p>", goroutines(more as u64));
    }
    Some(out)
}

/// A bar for each profile with the cluster's number of goroutines.
pub fn trend(cluster: &Cluster) -> Option<String> {
    let most = cluster.counts.iter().max().copied().filter(|&most| most > 0 && cluster.counts.len() > 1)?;
    let bar = (WIDTH - LEFT) / cluster.counts.len() as f64;
    let mut out = format!(
        "<svg class=\"trend\" viewBox=\"0 0 {WIDTH} 90\" role=\"img\" aria-label=\"Goroutines in each profile\">"
    );
    for (n, &count) in cluster.counts.iter().enumerate() {
        let height = 60.0 * count as f64 / most as f64;
        let (left, width) = (LEFT + bar * n as f64, (bar - 4.0).clamp(1.0, 60.0));
        let _ = write!(
            out,
            "<rect class=\"bar\" x=\"{left:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
            74.0 - height
        );
        let _ = write!(
            out,
            "<text x=\"{left:.1}\" y=\"{:.1}\">{count}</text><text x=\"{left:.1}\" y=\"87\">p{}</text>",
            70.0 - height,
            n + 1
        );
    }
    out.push_str("</svg>");
    Some(out)
}

/// A square for each bucket or group (or a run of them), darker the fuller it is.
pub fn heat(map: &MapView) -> Option<String> {
    const COLUMNS: usize = 64;
    let squares = &map.heat.squares;
    if squares.is_empty() {
        return None;
    }
    let side = WIDTH / COLUMNS as f64;
    let height = side * squares.len().div_ceil(COLUMNS) as f64;
    let mut out =
        format!("<svg class=\"heat\" viewBox=\"0 0 {WIDTH} {height:.1}\" role=\"img\" aria-label=\"Occupancy\">");
    for (n, &(live, cells)) in squares.iter().enumerate() {
        let full = (live as f64 / (cells.max(1) * 8) as f64).min(1.0);
        let (x, y) = ((n % COLUMNS) as f64 * side, (n / COLUMNS) as f64 * side);
        let over = if live > cells.saturating_mul(8) { " class=\"over\"" } else { "" };
        let _ = write!(
            out,
            "<rect{over} x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill-opacity=\"{:.2}\"><title>{live} live slots</title></rect>",
            side - 1.0,
            side - 1.0,
            0.08 + 0.92 * full
        );
    }
    let unit = map.unit;
    let what = match map.heat.cells_each {
        0 | 1 => format!("a square is a {unit} of 8 slots"),
        n => format!("a square is {n} {unit}s of 8 slots"),
    };
    let _ = write!(out, "</svg><p class=\"legend\">{what}; darker is fuller</p>");
    Some(out)
}
