//! What is known already: findings of an earlier audit, as a JSON file to keep beside the code.

use super::form::short;
use super::{Audit, Finding, State};
use crate::files;
use crate::{Error, Result};
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// The first form has places as they were shown, long keys cut.
const FIRST: &str = "mapscope.audit-baseline/1";
const SCHEMA: &str = "mapscope.audit-baseline/2";
/// What stands where something was cut.
const CUT: char = '…';

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

/// What the cut places of a baseline of the first form came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CutPlaces {
    /// Findings taken for known by what is left of a path, and the first such path.
    pub matched: u64,
    pub first: String,
    /// Further findings that such a path fits as well, which count as new.
    pub others: u64,
}

impl fmt::Display for CutPlaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CutPlaces { matched, first, others } = self;
        write!(
            f,
            "the baseline is of an older form that cuts long paths: {matched} of its findings cannot be matched for \
             certain and may be of other maps ({first})"
        )?;
        if *others > 0 {
            write!(f, ", {others} more that fit count as new")?;
        }
        f.write_str("; write it anew with --write-baseline")
    }
}

impl Baseline {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Baseline> {
        let text = files::read(path)?;
        let wrong = |why: String| Error::Usage(format!("{} is no baseline of gomap audit: {why}", path.display()));
        let baseline: Baseline = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        if ![FIRST, SCHEMA].contains(&baseline.schema.as_str()) {
            return Err(wrong(format!("its schema is {:?}, expected {SCHEMA:?}", baseline.schema)));
        }
        Ok(baseline)
    }

    /// All findings of an audit, as known from now on.
    pub fn of(audit: &Audit) -> Baseline {
        let known = |finding: &Finding| Known {
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

    /// Marks the findings that are known, or known but worse by more than `tolerance` (a share); names those gone. A
    /// known finding stands for one finding, not for all that have the same place.
    pub fn apply(&self, audit: &mut Audit, tolerance: f64) {
        let mut known: BTreeMap<(&str, &str), Vec<u64>> = BTreeMap::new();
        for one in &self.findings {
            known.entry((&one.rule, &one.place)).or_default().push(one.value);
        }
        let mut found: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
        for (at, finding) in audit.findings.iter().enumerate() {
            found.entry((finding.rule.name(), &finding.place)).or_default().push(at);
        }
        let mut pairs = Vec::new();
        for (place, values) in &mut known {
            if let Some(here) = found.get_mut(place) {
                pair(values, here, &audit.findings, tolerance, &mut pairs);
            }
        }
        if self.schema == FIRST {
            let left: BTreeSet<usize> = found.into_values().flatten().collect();
            audit.cut = pair_cut(&mut known, left, &audit.findings, tolerance, &mut pairs);
        }
        // What was not looked at is not known to be gone.
        let looked_at = |rule: &str| audit.checked.keys().any(|checked| checked.name() == rule);
        let gone = known.iter().filter(|((rule, _), values)| looked_at(rule) && !values.is_empty());
        let gone = gone.flat_map(|(place, values)| values.iter().map(move |_| place));
        audit.fixed = gone.map(|&(rule, place)| (rule.to_string(), place.to_string())).collect();
        for (at, value) in pairs {
            let Some(finding) = audit.findings.get_mut(at) else { continue };
            finding.state = if covers(value, finding, tolerance) { State::Known } else { State::Worse };
            if finding.state == State::Worse {
                finding.message += &format!("; {value} in the baseline");
            }
        }
    }
}

fn covers(value: u64, finding: &Finding, tolerance: f64) -> bool {
    finding.value as f64 <= value as f64 * (1.0 + tolerance)
}

/// Gives each known value a finding, as far as there are any: one that it covers where it can. Both lists are left with
/// what has no partner.
fn pair(
    values: &mut Vec<u64>,
    here: &mut Vec<usize>,
    findings: &[Finding],
    tolerance: f64,
    pairs: &mut Vec<(usize, u64)>,
) {
    let value_of = |at: usize| findings.get(at).map_or(0, |finding| finding.value);
    values.sort_unstable_by_key(|&value| std::cmp::Reverse(value));
    here.sort_unstable_by_key(|&at| std::cmp::Reverse(value_of(at)));
    for must_cover in [true, false] {
        values.retain(|&value| {
            let fits = |at: &usize| !must_cover || findings.get(*at).is_some_and(|f| covers(value, f, tolerance));
            let Some(n) = here.iter().position(fits) else { return true };
            pairs.push((here.remove(n), value));
            false
        });
    }
}

/// The same for places that the first form cut.
fn pair_cut(
    known: &mut BTreeMap<(&str, &str), Vec<u64>>,
    mut left: BTreeSet<usize>,
    findings: &[Finding],
    tolerance: f64,
    pairs: &mut Vec<(usize, u64)>,
) -> Option<CutPlaces> {
    let mut cut = CutPlaces::default();
    for ((rule, place), values) in
        known.iter_mut().filter(|((_, place), values)| place.contains(CUT) && !values.is_empty())
    {
        let Some(pattern) = pattern(place) else { continue };
        let fits = |&at: &usize| findings.get(at).is_some_and(|f| f.rule.name() == *rule && pattern.is_match(&f.place));
        let mut here: Vec<usize> = left.iter().copied().filter(fits).collect();
        let before = pairs.len();
        pair(values, &mut here, findings, tolerance, pairs);
        let matched = pairs.get(before..).unwrap_or_default();
        for (at, _) in matched {
            left.remove(at);
        }
        if cut.matched == 0 && !matched.is_empty() {
            cut.first = short(place);
        }
        cut.matched += matched.len() as u64;
        cut.others += here.len() as u64;
    }
    (cut.matched > 0).then_some(cut)
}

/// What a cut place fits: a string that goes on, elements left out, a whole key, or the beginning of a path.
fn pattern(place: &str) -> Option<Regex> {
    let pieces: Vec<&str> = place.split(CUT).collect();
    let last = pieces.len() - 1;
    let mut text = String::from("(?s)^");
    for (n, piece) in pieces.into_iter().enumerate() {
        let piece = if n > 0 { without_count(piece) } else { piece };
        // The quote closes what was shown of a string.
        let piece = if n < last { piece.strip_suffix('"').unwrap_or(piece) } else { piece };
        text += &regex::escape(piece);
        text += if n < last { ".*" } else { "$" };
    }
    Regex::new(&text).ok()
}

/// What follows `…3 more`.
fn without_count(piece: &str) -> &str {
    piece.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix(" more").unwrap_or(piece)
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn cut_places_fit_what_they_were_cut_from() {
        for (cut, whole) in [
            ("main.m[\"abc\"…].x", "main.m[\"abcdef\"].x"),
            ("main.m[main.K{1, 2, 3, 4, …2 more}]", "main.m[main.K{1, 2, 3, 4, 5, 6}]"),
            ("main.m[…].x", "main.m[main.K{A:1}].x"),
            ("….next[\"a\"]", "main.list.next.next[\"a\"]"),
        ] {
            assert!(pattern(cut).unwrap().is_match(whole), "{cut}");
        }
        assert!(!pattern("main.m[\"abc\"…].x").unwrap().is_match("main.m[\"abdef\"].x"));
        assert!(!pattern("main.m[\"abc\"…].x").unwrap().is_match("main.n[\"abcdef\"].x"));
    }
}
