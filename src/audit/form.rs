//! An audit as text, JSON, SARIF 2.1.0 or JUnit XML.

use super::{junit, sarif, Audit, State};
use crate::report::visible;
use crate::{Error, Result};
use serde_json::{json, Value};
use std::fmt::Write as _;

/// Characters of a place that only a baseline knows in a line of text.
const SHOWN_PLACE: usize = 200;

/// The forms of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    Json,
    Sarif,
    Junit,
}

impl Form {
    /// The form of that name.
    pub fn of(name: &str) -> Result<Form> {
        match name {
            "text" => Ok(Form::Text),
            "json" => Ok(Form::Json),
            "sarif" => Ok(Form::Sarif),
            "junit" => Ok(Form::Junit),
            other => Err(Error::Usage(format!("an audit is text, json, sarif or junit, not {other}"))),
        }
    }
}

/// The audit in that form.
pub fn render(audit: &Audit, form: Form) -> Result<String> {
    match form {
        Form::Text => Ok(text(audit)),
        Form::Json => Ok(format!("{}\n", document(audit))),
        Form::Sarif => Ok(format!("{}\n", sarif::document(audit))),
        Form::Junit => junit::document(audit),
    }
}

fn text(audit: &Audit) -> String {
    let mut text = String::new();
    for finding in &audit.findings {
        let mark = if finding.fails() { "FAIL" } else { "pass" };
        let state = match finding.state {
            State::New => "",
            State::Worse => " (worse than the baseline)",
            State::Known => " (known)",
        };
        let at = finding.source.as_ref().map_or(String::new(), |(file, line)| format!(" {file}:{line}"));
        let _ = writeln!(text, "{mark} {}{state}: {}{}", finding.rule.name(), visible(&finding.message), visible(&at));
    }
    for (rule, said) in &audit.checked {
        if audit.findings.iter().all(|finding| finding.rule != *rule) {
            let _ = writeln!(text, "pass {}: {}", rule.name(), visible(said));
        }
    }
    for (rule, why) in &audit.unchecked {
        let _ = writeln!(text, "FAIL {}: not checked: {}", rule.name(), visible(why));
    }
    for (rule, place) in &audit.fixed {
        let _ = writeln!(text, "gone {rule}: {}", visible(&short(place)));
    }
    for note in notes(audit) {
        let _ = writeln!(text, "note: {}", visible(&note));
    }
    let failed = audit.findings.iter().filter(|finding| finding.fails()).count() + audit.unchecked.len();
    let known = audit.findings.len() - audit.findings.iter().filter(|finding| finding.fails()).count();
    let verdict = if audit.passed() { "passed" } else { "failed" };
    let _ = writeln!(text, "audit {verdict}: {failed} to mend, {known} known");
    text
}

/// What a reader should know besides.
pub(super) fn notes(audit: &Audit) -> Vec<String> {
    audit.notes.iter().cloned().chain(audit.cut.as_ref().map(ToString::to_string)).collect()
}

/// A place of a baseline in a line; only here is it cut.
pub(super) fn short(place: &str) -> String {
    match place.char_indices().nth(SHOWN_PLACE) {
        Some((end, _)) => format!("{}…", &place[..end]),
        None => place.to_string(),
    }
}

fn document(audit: &Audit) -> Value {
    let findings = audit.findings.iter().map(|finding| {
        json!({
            "rule": finding.rule.name(), "place": finding.place, "value": finding.value, "message": finding.message,
            "state": finding.state.name(), "file": finding.source.as_ref().map(|(file, _)| file),
            "line": finding.source.as_ref().map(|(_, line)| line),
        })
    });
    let named = |rules: &std::collections::BTreeMap<super::Rule, String>| -> Value {
        rules.iter().map(|(rule, said)| (rule.name().to_string(), Value::from(said.as_str()))).collect()
    };
    json!({
        "schema": "mapscope.audit/1",
        "passed": audit.passed(),
        "findings": findings.collect::<Vec<_>>(),
        "checked": named(&audit.checked),
        "unchecked": named(&audit.unchecked),
        "fixed": audit.fixed.iter().map(|(rule, place)| json!({"rule": rule, "place": place})).collect::<Vec<_>>(),
        "notes": notes(audit),
    })
}
