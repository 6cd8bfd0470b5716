//! What is known already: findings of an earlier audit, as a JSON file to keep beside the code.

use super::{Audit, State};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const SCHEMA: &str = "mapscope.audit-baseline/1";

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    schema: String,
    findings: Vec<Known>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    rule: String,
    place: String,
    value: u64,
}

impl Baseline {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Baseline> {
        let text = std::fs::read(path).map_err(|error| Error::file(path, error))?;
        let wrong = |why: String| Error::Usage(format!("{} is no baseline of gomap audit: {why}", path.display()));
        let baseline: Baseline = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if baseline.schema != SCHEMA {
            return Err(wrong(format!("its schema is {:?}, expected {SCHEMA:?}", baseline.schema)));
        }
        Ok(baseline)
    }

    /// All findings of an audit, as known from now on.
    pub fn of(audit: &Audit) -> Baseline {
        let known = |finding: &super::Finding| Known {
            rule: finding.rule.name().into(),
            place: finding.place.clone(),
            value: finding.value,
        };
        Baseline { schema: SCHEMA.into(), findings: audit.findings.iter().map(known).collect() }
    }

    /// As the text of a file, one finding a line where it is long.
    pub fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).expect("strings and numbers only");
        text + "\n"
    }

    /// Marks the findings that are known, or known but worse by more than `tolerance` (a share); names those gone.
    pub fn apply(&self, audit: &mut Audit, tolerance: f64) {
        let mut known: BTreeMap<(&str, &str), (u64, bool)> = BTreeMap::new();
        for one in &self.findings {
            let entry = known.entry((&one.rule, &one.place)).or_default();
            entry.0 = entry.0.max(one.value);
        }
        for finding in &mut audit.findings {
            let Some((value, met)) = known.get_mut(&(finding.rule.name(), finding.place.as_str())) else { continue };
            *met = true;
            let most = *value as f64 * (1.0 + tolerance);
            finding.state = if finding.value as f64 <= most { State::Known } else { State::Worse };
            if finding.state == State::Worse {
                finding.message += &format!("; {value} in the baseline");
            }
        }
        // What was not looked at is not known to be gone.
        let looked_at = |rule: &str| audit.checked.keys().any(|checked| checked.name() == rule);
        let gone = known.into_iter().filter(|((rule, _), (_, met))| !met && looked_at(rule));
        audit.fixed = gone.map(|((rule, place), _)| (rule.to_string(), place.to_string())).collect();
    }
}
