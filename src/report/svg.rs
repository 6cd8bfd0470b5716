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

/// A square for each bucket or group (or a run of them), darker the fuller it is, with the scale below.
pub fn heat(map: &MapView) -> Option<String> {
    const COLUMNS: usize = 64;
    /// A small map is not blown up.
    const SIDE: f64 = 26.0;
    let squares = &map.heat.squares;
    if squares.is_empty() {
        return None;
    }
    let columns = squares.len().min(((squares.len() as f64).sqrt() * 2.0).ceil() as usize).clamp(8, COLUMNS);
    let side = (WIDTH / columns as f64).min(SIDE);
    let bottom = side * squares.len().div_ceil(columns) as f64;
    let (live, slots) = squares.iter().fold((0, 0), |(live, slots), (here, cells)| (live + here, slots + cells * 8));
    let shade = |full: f64| 0.08 + 0.92 * full.min(1.0);
    let height = bottom + 34.0;
    let mut out =
        format!("<svg class=\"heat\" viewBox=\"0 0 {WIDTH} {height:.1}\" role=\"img\" aria-label=\"Occupancy\">");
    for (n, &(live, cells)) in squares.iter().enumerate() {
        let (x, y) = ((n % columns) as f64 * side, (n / columns) as f64 * side);
        let over = if live > cells.saturating_mul(8) { " class=\"over\"" } else { "" };
        let _ = write!(
            out,
            "<rect{over} x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill-opacity=\"{:.2}\"><title>{live} live slots</title></rect>",
            side - 1.5,
            side - 1.5,
            shade(live as f64 / (cells.max(1) * 8) as f64)
        );
    }
    let y = bottom + 8.0;
    let _ = write!(out, "<text x=\"0\" y=\"{:.1}\">empty</text>", y + 12.0);
    for step in 0..=8 {
        let opacity = shade(f64::from(step) / 8.0);
        let x = 36.0 + f64::from(step) * 16.0;
        let _ = write!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"15\" height=\"15\" rx=\"2\" fill-opacity=\"{opacity:.2}\"/>"
        );
    }
    let _ = write!(out, "<text x=\"186\" y=\"{:.1}\">full</text></svg>", y + 12.0);
    let unit = map.unit;
    let what = match map.heat.cells_each {
        0 | 1 => format!("a square is a {unit} of 8 slots"),
        n => format!("a square is {n} {unit}s of 8 slots"),
    };
    let share = 100.0 * live as f64 / slots.max(1) as f64;
    let _ = write!(out, "<p class=\"legend\">{what}; {live} of {slots} slots are live ({share:.0} %)</p>");
    Some(out)
}
