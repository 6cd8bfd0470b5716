//! SARIF 2.1.0 (OASIS), the form that code hosts show beside the code.

use super::{Audit, Finding, Rule, State};
use serde_json::{json, Value};

/// One run with a result a finding.
pub fn document(audit: &Audit) -> Value {
    let rules: Vec<Rule> = audit.checked.keys().chain(audit.unchecked.keys()).copied().collect();
    let unchecked = audit.unchecked.iter().map(|(rule, why)| {
        json!({"level": "error", "descriptor": {"id": rule.name()}, "message": {"text": format!("{} was not checked: {why}", rule.name())}})
    });
    let notes = super::form::notes(audit).into_iter().map(|note| json!({"level": "note", "message": {"text": note}}));
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "mapscope",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|rule| json!({
                    "id": rule.name(), "shortDescription": {"text": rule.meaning()},
                })).collect::<Vec<_>>(),
            }},
            "invocations": [{
                "executionSuccessful": audit.unchecked.is_empty(),
                "toolExecutionNotifications": unchecked.chain(notes).collect::<Vec<_>>(),
            }],
            "results": audit.findings.iter().map(|finding| result(finding, &rules)).collect::<Vec<_>>(),
        }],
    })
}

fn result(finding: &Finding, rules: &[Rule]) -> Value {
    let mut location = json!({"logicalLocations": [{"fullyQualifiedName": finding.place}]});
    if let Some((file, line)) = &finding.source {
        location["physicalLocation"] = json!({"artifactLocation": {"uri": uri(file)}});
        if *line > 0 {
            location["physicalLocation"]["region"] = json!({"startLine": line});
        }
    }
    let mut result = json!({
        "ruleId": finding.rule.name(),
        "level": if finding.rule == Rule::MapLoad { "warning" } else { "error" },
        "message": {"text": finding.message},
        "locations": [location],
        "partialFingerprints": {"place/v2": format!("{} {}", finding.rule.name(), finding.place)},
        "properties": {"value": finding.value},
        "baselineState": match finding.state {
            State::New => "new",
            State::Worse => "updated",
            State::Known => "unchanged",
        },
    });
    if let Some(index) = rules.iter().position(|rule| *rule == finding.rule) {
        result["ruleIndex"] = index.into();
    }
    result
}

/// A file's path as a URI: absolute ones of the scheme `file`, others relative; RFC 3986 escapes.
fn uri(path: &str) -> String {
    let mut uri = String::from(if path.starts_with('/') { "file://" } else { "" });
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => uri.push(byte as char),
            other => uri.push_str(&format!("%{other:02X}")),
        }
    }
    uri
}
