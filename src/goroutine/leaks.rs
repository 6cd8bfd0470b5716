//! Clusters of goroutines that are stuck alike, scored; every term of a score is kept.

use super::code::{Code, Line};
use super::holders::{holders, paths, Holder, Holders};
use super::lookup::{Lookup, Lookups, Verdict};
use super::sites::{Link, Site, Sites};
use super::{list, Blocked, Channel, Goroutine, Goroutines};
use crate::error::Watch;
use crate::layout::goroutine::LEAKED;
use crate::session::Session;
use crate::types::TypeSource;
use crate::Result;
use rustc_hash::FxHashMap;

/// One term of a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub id: &'static str,
    pub points: i32,
}

/// How much a cluster looks like a leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Waiting,
    LeakSuspect,
    LikelyKeyMismatch,
}

impl Class {
    /// 70 and more, 40 and more, less.
    fn of(score: i32) -> Class {
        match score {
            70.. => Class::LikelyKeyMismatch,
            40.. => Class::LeakSuspect,
            _ => Class::Waiting,
        }
    }

    /// The name in the JSON record.
    pub fn name(self) -> &'static str {
        match self {
            Class::LikelyKeyMismatch => "likely_key_mismatch",
            Class::LeakSuspect => "leak_suspect",
            Class::Waiting => "waiting",
        }
    }
}

/// Goroutines with the same state, stack and creator.
#[derive(Debug)]
pub struct Cluster {
    pub state: String,
    /// The frames without the runtime's parking.
    pub frames: Vec<Line>,
    pub created_by: Option<String>,
    /// Indices into the goroutines listed.
    pub members: Vec<usize>,
    /// Map operations before the wait, the closest first.
    pub sites: Vec<Site>,
    pub score: i32,
    pub terms: Vec<Term>,
    pub class: Class,
    /// The known idle pattern that it is, in words.
    pub idle: Option<&'static str>,
}

/// All clusters, worst first, and what they were made of.
pub struct Leaks {
    pub goroutines: Goroutines,
    pub holders: Holders,
    pub clusters: Vec<Cluster>,
    /// What each goroutine looked up at the closest site of its cluster, by goroutine ID.
    pub lookups: FxHashMap<u64, Lookup>,
    /// Whether lookups of some were left out.
    pub lookups_cut: bool,
}

impl Leaks {
    /// The map entries that hold what a goroutine waits on.
    pub fn held_by(&self, goroutine: &Goroutine) -> Vec<&Holder> {
        let addresses = goroutine.blocked_on.as_ref().map(Blocked::addresses).unwrap_or_default();
        addresses.iter().filter_map(|address| self.holders.of.get(address)).flatten().collect()
    }
}

/// Members of one cluster whose lookups are read.
const MAX_LOOKUPS: usize = 1000;

/// Clusters the goroutines that wait, and scores each cluster.
pub fn leaks(session: &Session, watch: &dyn Watch) -> Result<Leaks> {
    let goroutines = list(session, watch)?;
    let waiting = || goroutines.all.iter().enumerate().filter(|(_, g)| g.reason.is_some() && !g.system);
    let mut wanted = Vec::new();
    let mut groups: FxHashMap<(String, Vec<Line>, Option<String>), Vec<usize>> = FxHashMap::default();
    for (i, goroutine) in waiting() {
        wanted.extend(goroutine.blocked_on.as_ref().map(Blocked::addresses).unwrap_or_default());
        let created_by = goroutine.created_at.as_ref().map(|line| line.func.to_string());
        let frames = goroutine.lines().map(|(_, line)| line).skip_while(|line| is_parking(&line.func));
        let frames = frames.filter(|line| &*line.func != "runtime.goexit").cloned().collect();
        groups.entry((goroutine.state(), frames, created_by)).or_default().push(i);
    }
    let holders = holders(session, &wanted, watch)?;
    let mut code = Sites::new(session, Code::of(session)?);
    let mut readers = Lookups::new(session);
    let (lookups, lookups_cut) = (FxHashMap::default(), false);
    let mut leaks = Leaks { goroutines, holders, clusters: Vec::new(), lookups, lookups_cut };
    let mut clusters = Vec::new();
    for ((state, frames, created_by), members) in groups {
        let Some(first) = members.first().and_then(|&i| leaks.goroutines.all.get(i)) else { continue };
        let sites = code.of(first);
        if let Some(site) = sites.first() {
            leaks.lookups_cut |= members.len() > MAX_LOOKUPS;
            for goroutine in members.iter().take(MAX_LOOKUPS).filter_map(|&i| leaks.goroutines.all.get(i)) {
                if let Some(lookup) = readers.of(&mut code, goroutine, site, watch)? {
                    leaks.lookups.insert(goroutine.goid, lookup);
                }
            }
        }
        let idle = idle_pattern(session, first);
        let terms = terms(&leaks, &members, &sites, idle);
        let score = terms.iter().map(|term| term.points).sum::<i32>().clamp(0, 100);
        let class = Class::of(score);
        clusters.push(Cluster { state, frames, created_by, members, sites, score, terms, class, idle });
    }
    name_maps(session, &mut leaks, &mut clusters, watch)?;
    clusters.sort_by_key(|cluster| (std::cmp::Reverse(cluster.score), cluster.members.first().copied()));
    leaks.clusters = clusters;
    Ok(leaks)
}

/// Names the maps whose address only a frame told.
fn name_maps(session: &Session, leaks: &mut Leaks, clusters: &mut [Cluster], watch: &dyn Watch) -> Result<()> {
    let mut searched = false;
    for cluster in clusters {
        let Some(site) = cluster.sites.first_mut().filter(|site| site.map.is_none()) else { continue };
        let looked_up = cluster.members.iter().filter_map(|&i| leaks.goroutines.all.get(i)?.goid.into());
        let addresses = looked_up.filter_map(|goid: u64| leaks.lookups.get(&goid)?.map);
        let mut addresses: Vec<u64> = addresses.collect();
        addresses.dedup();
        let [address] = addresses[..] else { continue };
        if !leaks.holders.paths.contains_key(&address) && !std::mem::replace(&mut searched, true) {
            leaks.holders.paths.extend(paths(session, watch)?);
        }
        site.map = leaks.holders.paths.get(&address).cloned();
    }
    Ok(())
}

fn is_parking(func: &str) -> bool {
    func.starts_with("runtime.") || func.starts_with("sync.runtime_") || func.starts_with("internal/sync.runtime_")
}

fn terms(leaks: &Leaks, members: &[usize], sites: &[Site], idle: Option<&'static str>) -> Vec<Term> {
    let goroutines = || members.iter().filter_map(|&i| leaks.goroutines.all.get(i));
    let mut terms = Vec::new();
    let mut add = |id, points| terms.push(Term { id, points });
    if goroutines().any(|g| matches!(g.blocked_on, Some(Blocked::NilChan))) {
        add("nil_chan", 35);
    }
    if goroutines().any(|g| g.status == LEAKED) {
        add("leaked_says_the_collector", 30);
    }
    match members.len() {
        1000.. => add("cluster_of_1000", 15),
        100.. => add("cluster_of_100", 10),
        10.. => add("cluster_of_10", 5),
        _ => {}
    }
    match sites.first().map(|site| site.link) {
        Some(Link::Flow) => add("map_site_flow", 15),
        Some(Link::SameFunction) => add("map_site_in_same_function", 8),
        Some(Link::Caller) => add("map_site_in_caller", 3),
        None => {}
    }
    let lookups = || goroutines().filter_map(|g| leaks.lookups.get(&g.goid));
    // Keys that are only alike say something where a lookup is known to have missed.
    let missed = goroutines().any(|g| matches!(g.blocked_on, Some(Blocked::NilChan)));
    let counts = |lookup: &Lookup| lookup.near.iter().any(|near| near.confusable || missed);
    let near = |inferred| lookups().any(|lookup| lookup.inferred == inferred && counts(lookup));
    if near(false) {
        add("near_miss", 25);
    } else if near(true) {
        add("near_miss_of_inferred_key", 12);
    }
    if lookups().any(|lookup| lookup.verdict == Some(Verdict::Zero)) {
        add("value_zero_while_present", 10);
    }
    let held: Vec<&Holder> = goroutines().flat_map(|g| leaks.held_by(g)).collect();
    let has_object = goroutines().any(|g| g.blocked_on.as_ref().is_some_and(|blocked| !blocked.addresses().is_empty()));
    if !held.is_empty() {
        add("object_in_a_map", 10);
    } else if has_object && leaks.holders.maps > 0 && leaks.holders.limits.is_empty() {
        add("object_in_no_map_scanned", 5);
    }
    if held.iter().any(|holder| holder.key == "NaN") {
        add("stored_key_is_nan", 25);
    } else if held.iter().any(|holder| has_outer_space(&holder.key)) {
        add("stored_key_has_outer_space", 12);
    }
    if idle.is_some() {
        add("known_idle_pattern", -40);
    }
    terms
}

/// Whether a quoted key starts or ends with white space, which a trimmed one never meets.
pub fn has_outer_space(key: &str) -> bool {
    let text = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    text.is_some_and(|text| text.trim() != text)
}

/// Waits that every healthy program has.
fn idle_pattern(session: &Session, goroutine: &Goroutine) -> Option<&'static str> {
    let has = |start: &str| goroutine.lines().any(|(_, line)| line.func.starts_with(start));
    let timer = match &goroutine.blocked_on {
        Some(Blocked::Chan { channel, .. }) => channel.timer,
        Some(Blocked::Select(cases)) => cases.iter().any(|case| case.channel.timer),
        Some(Blocked::Timer { .. }) => true,
        _ => false,
    };
    if timer {
        return Some("waits for a timer");
    }
    let of_signals = |channel: &Channel| {
        let elem = session.types.by_descriptor(channel.elem_type).and_then(|ty| session.types.load(ty));
        elem.is_ok_and(|ty| &*ty.name == "os.Signal")
    };
    let for_signals = match &goroutine.blocked_on {
        Some(Blocked::Chan { channel, .. }) => of_signals(channel),
        Some(Blocked::Select(cases)) => cases.iter().any(|case| of_signals(&case.channel)),
        _ => false,
    };
    if for_signals || has("os/signal.") {
        return Some("waits for signals");
    }
    if matches!(goroutine.blocked_on, Some(Blocked::Poll { .. })) || goroutine.reason.as_deref() == Some("IO wait") {
        return Some("waits for input or output");
    }
    if goroutine.lines().all(|(_, line)| line.func.starts_with("runtime.")) {
        return Some("is the runtime's own");
    }
    None
}
