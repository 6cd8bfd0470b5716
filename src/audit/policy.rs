//! The limits that an audit holds a program to: a TOML file, strict in its names.

use crate::evidence::join::Class;
use crate::files;
use crate::map::check::Severity;
use crate::{Error, Result};
use regex::bytes::Regex;
use serde::Deserialize;
use std::path::Path;

/// What is checked; what a policy does not name is not.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    #[serde(default)]
    pub goroutines: Goroutines,
    #[serde(default)]
    pub leaks: Leaks,
    #[serde(default)]
    pub total: Total,
    /// Limits of single maps: the first one whose `path` matches counts.
    #[serde(default, rename = "map")]
    pub maps: Vec<MapLimits>,
    #[serde(default)]
    pub integrity: Integrity,
    #[serde(default)]
    pub baseline: Baseline,
    /// Whether the user wrote it: what it asks for must then be checked, or the audit does not pass.
    #[serde(skip)]
    pub written: bool,
}

/// `[goroutines]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Goroutines {
    /// At most so many, of all sorts.
    pub max: Option<u64>,
}

/// `[leaks]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaks {
    /// Classes of which a cluster is a finding.
    #[serde(default)]
    pub classes: Vec<LeakClass>,
    /// Goroutines that such a cluster may have without being one.
    #[serde(default)]
    pub max: u64,
}

/// A class of [`Class`] that a policy can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeakClass {
    LikelyKeyMismatch,
    LeakSuspect,
}

impl LeakClass {
    /// Whether a cluster of this class is meant.
    pub fn is(self, class: Class) -> bool {
        matches!(
            (self, class),
            (LeakClass::LikelyKeyMismatch, Class::LikelyKeyMismatch) | (LeakClass::LeakSuspect, Class::LeakSuspect)
        )
    }
}

/// `[total]`: over all maps.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Total {
    pub max_maps: Option<u64>,
    pub max_entries: Option<u64>,
    pub max_bytes: Option<u64>,
}

/// `[[map]]`: for the maps whose owner path matches.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapLimits {
    /// `main.cache`, or a glob: `main.server.*`.
    pub path: Glob,
    pub max_entries: Option<u64>,
    pub max_bytes: Option<u64>,
    /// Least share of live slots, for maps of at least `min_load_bytes`.
    pub min_load: Option<f64>,
    #[serde(default = "worth_naming")]
    pub min_load_bytes: u64,
    pub max_nan_keys: Option<u64>,
}

/// A small map is mostly empty by nature.
fn worth_naming() -> u64 {
    64 << 10
}

/// A path with `*` (any text) and `?` (one character).
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct Glob(Regex);

impl TryFrom<String> for Glob {
    type Error = String;

    fn try_from(text: String) -> Result<Glob, String> {
        let pattern = Regex::new(&crate::value::glob(&text));
        pattern.map(Glob).map_err(|error| format!("path {text:?} is no glob: {error}"))
    }
}

/// `[integrity]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Integrity {
    /// Findings of `gomap check` that are at least so serious.
    pub severity: Option<Least>,
}

/// A least severity that a policy can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Least {
    Warning,
    Error,
}

impl Least {
    /// Whether a finding of that severity counts.
    pub fn takes(self, severity: Severity) -> bool {
        match self {
            Least::Warning => severity >= Severity::Warning,
            Least::Error => severity >= Severity::Error,
        }
    }
}

/// `[baseline]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Share by which a known finding may grow before it counts as worse: 0.1 is 10 %.
    #[serde(default)]
    pub tolerance: f64,
}

/// What is checked without a policy file.
const DEFAULT: &str = r#"
[leaks]
classes = ["likely_key_mismatch", "leak_suspect"]

[integrity]
severity = "error"
"#;

impl Default for Policy {
    fn default() -> Policy {
        Policy::parse(DEFAULT, "the built-in policy").expect("a constant")
    }
}

impl Policy {
    /// Reads the file at `path`; what it gets wrong is one sentence with the line.
    pub fn read(path: &Path) -> Result<Policy> {
        let text = String::from_utf8(files::read(path)?).map_err(|_| Error::file(path, "it is not UTF-8"))?;
        let policy = Policy::parse(&text, &path.display().to_string())?;
        Ok(Policy { written: true, ..policy })
    }

    fn parse(text: &str, name: &str) -> Result<Policy> {
        let wrong = |error: toml::de::Error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            Error::Usage(format!("{name}, line {line}: {}", error.message().replace('\n', "; ")))
        };
        let policy: Policy = toml::from_str(text).map_err(wrong)?;
        let shares = policy.maps.iter().filter_map(|limits| limits.min_load).chain([policy.baseline.tolerance]);
        match shares.into_iter().find(|share| !(0.0..=1.0).contains(share)) {
            Some(share) => Err(Error::Usage(format!("{name}: {share} is not a share from 0 to 1"))),
            None => Ok(policy),
        }
    }

    /// The limits of the map at that owner path.
    pub fn limits_of(&self, path: &str) -> Option<&MapLimits> {
        self.maps.iter().find(|limits| limits.path.0.is_match(path.as_bytes()))
    }

    /// Whether anything is asked of the maps of a target.
    pub fn asks_for_maps(&self) -> bool {
        let Total { max_maps, max_entries, max_bytes } = self.total;
        self.asks_for_keys() || !self.maps.is_empty() || max_maps.or(max_entries).or(max_bytes).is_some()
    }

    /// Whether every key must be looked at.
    pub fn asks_for_keys(&self) -> bool {
        self.integrity.severity.is_some() || self.maps.iter().any(|limits| limits.max_nan_keys.is_some())
    }
}
