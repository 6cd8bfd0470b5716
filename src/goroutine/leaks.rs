//! Clusters of goroutines that are stuck alike, scored; every term of a score is kept.

use super::clues::Clues;
use super::code::{Code, Line};
use super::holders::{holders, paths, Holder, Holders};
use super::leads::leads;
use super::lookup::{Lookup, Lookups, Verdict};
use super::sites::{Site, Sites};
use super::{list, Blocked, Channel, Goroutine, Goroutines, Limit};
use crate::error::Watch;
use crate::layout::goroutine::LEAKED;
use crate::score::{self, of_cluster, Clue, Facts, Missed, Score};
use crate::session::Session;
use crate::types::TypeSource;
use crate::Result;
use rustc_hash::FxHashMap;

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
    pub score: Score,
    /// What the whole of memory tells of the wait.
    pub clues: Vec<Clue>,
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
    /// Why no calls and lookups were read at all.
    pub calls_unread: Option<Limit>,
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
    let calls_unread = session.types.program().is_arm().then_some(Limit::CallsUnread);
    let mut leaks = Leaks { goroutines, holders, clusters: Vec::new(), lookups, lookups_cut, calls_unread };
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
        let (score, clues) = (Score::default(), Vec::new());
        clusters.push(Cluster { state, frames, created_by, members, sites, score, clues, idle });
    }
    name_maps(session, &mut leaks, &mut clusters, watch)?;
    let storage = leaks.holders.of.values().flatten().map(|holder| holder.key_address);
    let found = leads(session, &leaks.goroutines, storage, watch)?;
    leaks.holders.limits.extend(found.unsearched.map(Limit::Others));
    leaks.holders.limits.extend(Some(found.unread).filter(|&unread| unread > 0).map(Limit::Unread));
    let mut clues = Clues::new(session, &leaks, &found.others);
    for cluster in &mut clusters {
        let members: Vec<&Goroutine> = cluster.members.iter().filter_map(|&i| leaks.goroutines.all.get(i)).collect();
        if cluster.idle.is_none() {
            cluster.clues = clues.of(&cluster.sites, &members, &mut code, watch)?;
        }
        cluster.score = score_of(&leaks, cluster, &members);
    }
    clusters.sort_by_key(|cluster| (std::cmp::Reverse(cluster.score.total()), cluster.members.first().copied()));
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

fn score_of(leaks: &Leaks, cluster: &Cluster, members: &[&Goroutine]) -> Score {
    let nil_channel = members.iter().any(|g| matches!(g.blocked_on, Some(Blocked::NilChan)));
    let lookups = || members.iter().filter_map(|g| leaks.lookups.get(&g.goid));
    let site = cluster.sites.first();
    let map = |lookup: &Lookup| {
        let at = lookup.map.map_or(String::new(), |at| format!(" at {at:#x}"));
        site.and_then(|site| site.map.clone()).unwrap_or_else(|| format!("the {}{at}", lookup.map_type))
    };
    // Keys that are only alike say something where a lookup is known to have missed.
    let near = |lookup: &&Lookup| lookup.may_miss() && lookup.near.iter().any(|near| near.confusable || nil_channel);
    let missed = lookups().filter(near).min_by_key(|lookup| lookup.is_inferred());
    let missed = missed.and_then(|lookup| Some((lookup, map(lookup), lookup.key.as_ref()?, lookup.near.first()?)));
    let zero = lookups().find(|lookup| lookup.kind.asks() && lookup.verdict == Some(Verdict::Zero));
    let zero = zero.and_then(|lookup| Some((map(lookup), lookup.key.as_ref()?)));
    let held: Vec<&Holder> = members.iter().flat_map(|g| leaks.held_by(g)).collect();
    let has_object = members.iter().any(|g| g.blocked_on.as_ref().is_some_and(|b| !b.addresses().is_empty()));
    of_cluster(&Facts {
        nil_channel,
        leaked: members.iter().filter(|g| g.status == LEAKED).count() as u64,
        count: members.len() as u64,
        held: held.first().map(|holder| holder.entry()),
        in_no_map: has_object && leaks.holders.maps > 0 && leaks.holders.limits.is_empty(),
        odd_key: held.iter().find_map(|holder| Some((holder.entry(), holder.odd?))),
        site: site.map(|site| (site.call.as_str(), site.reach)),
        missed: missed.as_ref().map(|(lookup, map, key, near)| Missed {
            map,
            key: &key.text,
            stored: &near.key.text,
            relation: near.relation,
            detail: &near.detail,
            inferred: lookup.is_inferred(),
        }),
        zero: zero.as_ref().map(|(map, key)| (map.as_str(), key.text.as_str())),
        clues: &cluster.clues,
        idle: cluster.idle,
        ..Facts::default()
    })
}

/// Waits that every healthy program has.
fn idle_pattern(session: &Session, goroutine: &Goroutine) -> Option<&'static str> {
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
    if for_signals {
        return Some("waits for signals");
    }
    if matches!(goroutine.blocked_on, Some(Blocked::Poll { .. })) {
        return Some("waits for the network or a file");
    }
    let functions: Vec<&str> = goroutine.lines().map(|(_, line)| &*line.func).collect();
    score::idle_pattern(&goroutine.state(), &functions)
}
