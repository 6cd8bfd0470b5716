//! A program held to limits: goroutines and leaks out of joined evidence, maps out of a target. For pipelines: what is
//! already known (a baseline) passes, what is new or worse fails.
//!
//! Data flows one way: [`policy`] and facts -> [`Audit`] (plain data) -> [`baseline`] -> [`form`].

pub mod baseline;
pub mod form;
mod junit;
pub mod policy;
mod sarif;

use crate::evidence::join::{Cluster, Evidence, InputKind, Limit};
use crate::map::check::Finding as MapFinding;
use policy::{MapLimits, Policy};
use std::collections::BTreeMap;

/// What a policy can ask for; each is a test case of the JUnit form and a rule of the SARIF form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    Goroutines,
    Leaks,
    TotalMaps,
    TotalEntries,
    TotalBytes,
    MapEntries,
    MapBytes,
    MapLoad,
    NanKeys,
    Integrity,
}

impl Rule {
    /// Its name in answers and baselines.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Goroutines => "goroutines",
            Rule::Leaks => "leaks",
            Rule::TotalMaps => "total-maps",
            Rule::TotalEntries => "total-entries",
            Rule::TotalBytes => "total-bytes",
            Rule::MapEntries => "map-entries",
            Rule::MapBytes => "map-bytes",
            Rule::MapLoad => "map-load",
            Rule::NanKeys => "nan-keys",
            Rule::Integrity => "integrity",
        }
    }

    /// What it holds a program to.
    pub fn meaning(self) -> &'static str {
        match self {
            Rule::Goroutines => "The process has no more goroutines than allowed.",
            Rule::Leaks => "No goroutines wait for what can hardly come: a missed map key, a channel nobody serves.",
            Rule::TotalMaps => "All maps together are no more than allowed.",
            Rule::TotalEntries => "All maps together have no more entries than allowed.",
            Rule::TotalBytes => "All maps together take no more bytes than allowed.",
            Rule::MapEntries => "A map has no more entries than allowed.",
            Rule::MapBytes => "A map takes no more bytes than allowed.",
            Rule::MapLoad => "A large map is not mostly empty: a map never shrinks, only copying it frees the rest.",
            Rule::NanKeys => "A map holds no NaN keys: such entries can never be found or deleted.",
            Rule::Integrity => "Every map keeps the runtime's invariants: each key lies where its hash says.",
        }
    }
}

/// How a finding stands to the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not in the baseline.
    New,
    /// In the baseline, and larger now.
    Worse,
    /// In the baseline, and no larger now.
    Known,
}

impl State {
    /// A word for answers.
    pub fn name(self) -> &'static str {
        match self {
            State::New => "new",
            State::Worse => "worse",
            State::Known => "known",
        }
    }
}

/// A limit that is not kept.
#[derive(Debug, Clone)]
pub struct Finding {
    pub rule: Rule,
    /// What is the same from run to run: a map's owner path with nothing cut, a cluster's state and function.
    pub place: String,
    /// The same as it is shown.
    pub shown: String,
    /// How bad: larger is worse. Goroutines, entries, bytes, wasted bytes, findings.
    pub value: u64,
    pub message: String,
    /// Where in the source, if known: file and line.
    pub source: Option<(String, u32)>,
    pub state: State,
}

impl Finding {
    /// Whether it makes the audit fail.
    pub fn fails(&self) -> bool {
        self.state != State::Known
    }
}

/// All that was checked, and what was found.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// The rules that the policy asks for and the sources could answer, with what was looked at.
    pub checked: BTreeMap<Rule, String>,
    /// The rules that the policy asks for, and why they could not be checked: such an audit does not pass.
    pub unchecked: BTreeMap<Rule, String>,
    pub findings: Vec<Finding>,
    /// Rule and place of baseline findings that are gone.
    pub fixed: Vec<(String, String)>,
    /// How findings of a baseline of the first form were matched, whose long paths are cut.
    pub cut: Option<baseline::CutPlaces>,
    /// What else a reader should know.
    pub notes: Vec<String>,
}

impl Audit {
    /// Whether nothing is new or worse, and everything asked for was checked.
    pub fn passed(&self) -> bool {
        self.unchecked.is_empty() && !self.findings.iter().any(Finding::fails)
    }

    fn find(&mut self, rule: Rule, place: Place, value: u64, message: String) {
        let Place { whole, shown } = place;
        self.findings.push(Finding { rule, place: whole, shown, value, message, source: None, state: State::New });
    }

    /// Checks `value` against a limit, if the policy has one.
    fn limit(&mut self, rule: Rule, place: Place, value: u64, most: Option<u64>, what: &str) {
        let Some(most) = most else { return };
        self.checked.entry(rule).or_default();
        if value > most {
            let message = format!("{}: {value} {what}, at most {most} allowed", place.shown);
            self.find(rule, place, value, message);
        }
    }
}

/// A place as it is told from others, and as it is shown.
struct Place {
    whole: String,
    shown: String,
}

impl Place {
    /// One that is short.
    fn named(name: &str) -> Place {
        Place { whole: name.to_string(), shown: name.to_string() }
    }
}

/// What an audit needs to know of one map.
#[derive(Debug, Clone)]
pub struct MapFacts {
    /// Owner path, whole: by it maps are told apart, and a policy's globs match it.
    pub path: String,
    /// Owner path, long keys cut.
    pub shown: String,
    pub type_name: String,
    pub entries: u64,
    pub bytes: u64,
    /// Share of live slots.
    pub load: Option<f64>,
    pub findings: Vec<MapFinding>,
    pub nan_keys: u64,
}

impl MapFacts {
    fn place(&self) -> Place {
        Place { whole: self.path.clone(), shown: self.shown.clone() }
    }
}

/// The maps of a target.
#[derive(Debug, Clone, Default)]
pub struct Maps {
    pub maps: Vec<MapFacts>,
    pub notes: Vec<String>,
}

/// Holds the evidence, and the maps of a target where there is one, to the policy.
pub fn audit(policy: &Policy, evidence: &Evidence, maps: Option<&Maps>) -> Audit {
    let mut audit = Audit::default();
    goroutines(policy, evidence, &mut audit);
    match maps {
        Some(maps) => {
            totals(policy, maps, &mut audit);
            maps.maps.iter().for_each(|map| one_map(policy, map, &mut audit));
            say_what_was_checked(policy, maps, &mut audit);
            audit.notes.extend_from_slice(&maps.notes);
        }
        None if policy.written => say_what_needs_a_target(policy, &mut audit),
        None => {}
    }
    audit.findings.sort_by(|a, b| a.rule.cmp(&b.rule).then(b.value.cmp(&a.value)).then_with(|| a.place.cmp(&b.place)));
    audit
}

fn goroutines(policy: &Policy, evidence: &Evidence, audit: &mut Audit) {
    let count = goroutine_count(evidence);
    audit.limit(Rule::Goroutines, Place::named("goroutines"), count, policy.goroutines.max, "goroutines");
    if let Some(said) = audit.checked.get_mut(&Rule::Goroutines) {
        *said = format!("{count} goroutines");
    }
    if policy.leaks.classes.is_empty() {
        return;
    }
    match evidence.limits.contains(&Limit::CallsUnread) {
        true => drop(audit.unchecked.insert(Rule::Leaks, Limit::CallsUnread.to_string())),
        false => {
            let said = format!("{} clusters of {count} goroutines", evidence.clusters.len());
            audit.checked.insert(Rule::Leaks, said);
        }
    }
    let mut places: BTreeMap<String, Finding> = BTreeMap::new();
    for cluster in &evidence.clusters {
        let asked = policy.leaks.classes.iter().any(|class| class.is(cluster.class));
        if !asked || cluster.count <= policy.leaks.max {
            continue;
        }
        let found = leak(cluster);
        // Clusters that differ in lines only are one place.
        match places.get_mut(&found.place) {
            Some(same) => same.value += found.value,
            None => drop(places.insert(found.place.clone(), found)),
        }
    }
    audit.findings.extend(places.into_values());
}

/// In memory, else in the last profile, else in the trace.
fn goroutine_count(evidence: &Evidence) -> u64 {
    let of = |kind| evidence.inputs.iter().rev().find(|input| input.kind == kind).map(|input| input.goroutines);
    of(InputKind::Memory).or_else(|| of(InputKind::Profile)).or_else(|| of(InputKind::Trace)).unwrap_or(0)
}

fn leak(cluster: &Cluster) -> Finding {
    let at = cluster.place();
    let function = at.map_or("an unknown place", |frame| frame.function.as_str());
    let class = cluster.class.words();
    let plural = if cluster.count == 1 { "" } else { "s" };
    let mut message = format!(
        "{class}, score {}: {} goroutine{plural} in {function} [{}]",
        cluster.score.total(),
        cluster.count,
        cluster.state
    );
    for held in cluster.held.iter().take(3) {
        message += &format!("; what it waits on is stored in {}[{}]", held.map, held.key);
    }
    for term in &cluster.score.terms {
        message += &format!("; {} {:+}", term.because, term.points);
    }
    let Place { whole, shown } = Place::named(&format!("{function} [{}]", cluster.state));
    Finding {
        rule: Rule::Leaks,
        place: whole,
        shown,
        value: cluster.count,
        message,
        source: at.filter(|frame| !frame.file.is_empty()).map(|frame| (frame.file.clone(), frame.line)),
        state: State::New,
    }
}

fn totals(policy: &Policy, maps: &Maps, audit: &mut Audit) {
    let sum = |of: fn(&MapFacts) -> u64| maps.maps.iter().map(of).sum();
    let total = &policy.total;
    let all = || Place::named("all maps");
    audit.limit(Rule::TotalMaps, all(), maps.maps.len() as u64, total.max_maps, "maps");
    audit.limit(Rule::TotalEntries, all(), sum(|map| map.entries), total.max_entries, "entries");
    audit.limit(Rule::TotalBytes, all(), sum(|map| map.bytes), total.max_bytes, "bytes");
}

fn one_map(policy: &Policy, map: &MapFacts, audit: &mut Audit) {
    if let Some(limits) = policy.limits_of(&map.path) {
        audit.limit(Rule::MapEntries, map.place(), map.entries, limits.max_entries, "entries");
        audit.limit(Rule::MapBytes, map.place(), map.bytes, limits.max_bytes, "bytes");
        audit.limit(Rule::NanKeys, map.place(), map.nan_keys, limits.max_nan_keys, "keys that are NaN");
        load(limits, map, audit);
    }
    let Some(least) = policy.integrity.severity else { return };
    let broken: Vec<&MapFinding> = map.findings.iter().filter(|finding| least.takes(finding.severity)).collect();
    let mut kinds: Vec<_> = broken.iter().map(|finding| finding.kind).collect();
    kinds.sort();
    kinds.dedup();
    for kind in kinds {
        let all: Vec<&str> = broken.iter().filter(|f| f.kind == kind).map(|f| f.detail.as_str()).collect();
        let more = if all.len() > 3 { format!("; and {} more", all.len() - 3) } else { String::new() };
        let shown = all[..all.len().min(3)].join("; ");
        let message = format!("{} ({}): {}: {shown}{more}: {}", map.shown, map.type_name, kind.name(), kind.meaning());
        let at = |path: &str| format!("{path} {}", kind.name());
        let place = Place { whole: at(&map.path), shown: at(&map.shown) };
        audit.find(Rule::Integrity, place, all.len() as u64, message);
    }
}

fn load(limits: &MapLimits, map: &MapFacts, audit: &mut Audit) {
    let (Some(least), Some(load)) = (limits.min_load, map.load) else { return };
    audit.checked.entry(Rule::MapLoad).or_default();
    if load >= least || map.bytes < limits.min_load_bytes {
        return;
    }
    let wasted = (map.bytes as f64 * (1.0 - load)) as u64;
    let message =
        format!("{}: {load:.2} of the slots live in {} bytes, at least {least} asked for", map.shown, map.bytes);
    audit.find(Rule::MapLoad, map.place(), wasted, message);
}

fn say_what_was_checked(policy: &Policy, maps: &Maps, audit: &mut Audit) {
    if policy.integrity.severity.is_some() {
        audit.checked.entry(Rule::Integrity).or_default();
    }
    let count = format!("{} maps", maps.maps.len());
    for (_, said) in audit.checked.iter_mut().filter(|(_, said)| said.is_empty()) {
        said.clone_from(&count);
    }
    for limits in &policy.maps {
        let named = [
            (Rule::MapEntries, limits.max_entries.is_some()),
            (Rule::MapBytes, limits.max_bytes.is_some()),
            (Rule::MapLoad, limits.min_load.is_some()),
            (Rule::NanKeys, limits.max_nan_keys.is_some()),
        ];
        for (rule, _) in named.into_iter().filter(|(_, asked)| *asked) {
            audit.checked.entry(rule).or_insert_with(|| format!("no map of {count} has such a path"));
        }
    }
}

fn say_what_needs_a_target(policy: &Policy, audit: &mut Audit) {
    let total = &policy.total;
    let any = |of: fn(&MapLimits) -> bool| policy.maps.iter().any(of);
    let asked = [
        (Rule::TotalMaps, total.max_maps.is_some()),
        (Rule::TotalEntries, total.max_entries.is_some()),
        (Rule::TotalBytes, total.max_bytes.is_some()),
        (Rule::MapEntries, any(|limits| limits.max_entries.is_some())),
        (Rule::MapBytes, any(|limits| limits.max_bytes.is_some())),
        (Rule::MapLoad, any(|limits| limits.min_load.is_some())),
        (Rule::NanKeys, any(|limits| limits.max_nan_keys.is_some())),
        (Rule::Integrity, policy.integrity.severity.is_some()),
    ];
    for (rule, _) in asked.into_iter().filter(|(_, asked)| *asked) {
        audit.unchecked.insert(rule, "it needs the memory of a core or a process, and there is none".into());
    }
}
