//! Joined evidence for people and for programs: text, Markdown, JSON, and one self-contained HTML file.
//!
//! Every text of a source is the target's or a stranger's: each form escapes it in one place.

mod chain;
mod diff;
mod html;
mod json;
mod markdown;
mod svg;
mod text;

use crate::evidence::join::Evidence;
use crate::{Error, Result};
use std::io::Write;

/// The forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    Json,
    Markdown,
    Html,
}

impl Form {
    /// The form of that name.
    pub fn of(name: &str) -> Result<Form> {
        match name {
            "text" => Ok(Form::Text),
            "json" => Ok(Form::Json),
            "markdown" => Ok(Form::Markdown),
            "html" => Ok(Form::Html),
            other => Err(Error::Usage(format!("a report is text, json, markdown or html, not {other}"))),
        }
    }
}

/// Writes the report in that form; `colour` is for a terminal.
pub fn write(evidence: &Evidence, form: Form, colour: bool, out: &mut dyn Write) -> Result<()> {
    let written = match form {
        Form::Text => out.write_all(text::render(evidence, colour).as_bytes()),
        Form::Json => json::write(evidence, out),
        Form::Markdown => out.write_all(markdown::render(evidence).as_bytes()),
        Form::Html => out.write_all(html::render(evidence).as_bytes()),
    };
    written.map_err(|error| Error::of_output(&error, "the answer"))
}

/// Characters that steer a terminal, reorder text or are invisible: shown as escapes everywhere.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` with such characters as `\u{202e}`.
pub fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if is_unsafe(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
        out
    })
}

fn goroutines(count: u64) -> String {
    format!("{count} goroutine{}", if count == 1 { "" } else { "s" })
}

/// A time span of that many nanoseconds in the unit that fits it.
fn duration(ns: i64) -> String {
    match ns.unsigned_abs() {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        1_000_000_000..120_000_000_000 => format!("{:.3} s", ns as f64 / 1e9),
        _ => format!("{:.1} min", ns as f64 / 60e9),
    }
}

/// `2026-11-24T03:15:00.123456789Z`.
fn wall(ns: i64) -> String {
    let nanos = u32::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or_default();
    crate::evidence::trace::wall_text(ns.div_euclid(1_000_000_000), nanos)
}
