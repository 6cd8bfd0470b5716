//! What a core or a process says of its goroutines, as the plain data that the join takes.

use super::leaks::lookup_json;
use super::process::process;
use super::sentences;
use super::view::view;
use crate::error::Watch;
use crate::evidence::join::{Frame, Held, Looked, MapView, MemorySite, NearKey, Target, TargetGoroutine};
use crate::goroutine::leaks::{leaks, Cluster, Leaks};
use crate::goroutine::lookup::{self, Lookup};
use crate::goroutine::sites::Site;
use crate::goroutine::{Goroutine, Line};
use crate::map::identity::Key;
use crate::score::{Class, Clue};
use crate::session::{MapRef, Session};
use crate::types::{Shape, TypeSource};
use crate::{Error, Result};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Reads all goroutines, what they wait on, and the map entries behind it; `map` is the one that the user names, else
/// the one behind most suspected goroutines is drawn.
pub fn target(session: &Session, map: Option<MapView>, watch: &dyn Watch) -> Result<Target> {
    let found = leaks(session, watch)?;
    let mut of_goid: FxHashMap<u64, OfCluster> = FxHashMap::default();
    for cluster in &found.clusters {
        let sites: Vec<MemorySite> = cluster.sites.iter().map(site).collect();
        let of = OfCluster { sites, clues: cluster.clues.clone().into(), idle: cluster.idle };
        let goids = cluster.members.iter().filter_map(|&at| found.goroutines.all.get(at)).map(|g| g.goid);
        of_goid.extend(goids.map(|goid| (goid, of.clone())));
    }
    let map = match map {
        Some(map) => Some(map),
        None => suspected_map(session, &found, watch)?,
    };
    let version = session.types.program().version.as_ref().map(|version| version.text.clone());
    let mut limits = sentences(&found.goroutines.listed.notes);
    limits.extend(sentences(&found.holders.limits));
    Ok(Target {
        version,
        complete: found.goroutines.listed.notes.is_empty(),
        maps_scanned: found.holders.maps,
        whole_scan: found.holders.limits.is_empty(),
        goroutines: found
            .goroutines
            .all
            .iter()
            .filter(|g| !g.system)
            .map(|g| goroutine(&found, g, of_goid.remove(&g.goid).unwrap_or_default()))
            .collect(),
        map,
        calls_unread: found.calls_unread.is_some(),
        limits,
        notes: sentences(&session.notes),
        process: process(session),
    })
}

/// What the goroutines of a cluster share.
#[derive(Clone, Default)]
struct OfCluster {
    sites: Vec<MemorySite>,
    clues: Arc<[Clue]>,
    idle: Option<&'static str>,
}

fn goroutine(found: &Leaks, goroutine: &Goroutine, of: OfCluster) -> TargetGoroutine {
    let held = found.held_by(goroutine).into_iter().map(|holder| Held {
        map: holder.map.clone(),
        map_type: holder.type_name.to_string(),
        key: holder.key.clone(),
        map_address: holder.address,
        key_address: holder.key_address,
        id: holder.identity.as_ref().map(Key::digest),
        odd: holder.odd,
    });
    TargetGoroutine {
        goid: goroutine.goid,
        g: goroutine.g,
        state: goroutine.state(),
        waits: goroutine.reason.is_some(),
        blocked_on: goroutine.blocked_on.as_ref().map(|blocked| (blocked.kind(), blocked.addresses())),
        held: held.collect(),
        lookup: found.lookups.get(&goroutine.goid).map(|lookup| Box::new(looked(lookup, &of.sites))),
        sites: of.sites,
        clues: of.clues,
        idle: of.idle,
        start: goroutine.start.as_ref().map(|line| line.func.to_string()),
        created_by: goroutine.created_at.as_ref().map(frame),
        parent: goroutine.parent.filter(|&parent| parent != 0),
        labels: goroutine.labels.clone(),
        frames: goroutine.lines().map(|(_, line)| frame(line)).collect(),
    }
}

fn frame(line: &Line) -> Frame {
    Frame { function: line.func.to_string(), file: line.file.to_string(), line: line.line }
}

fn looked(lookup: &Lookup, sites: &[MemorySite]) -> Looked {
    let named = sites.first().and_then(|site| site.map.clone());
    let at = lookup.map.map_or(String::new(), |at| format!(" at {at:#x}"));
    Looked {
        map: named.unwrap_or_else(|| format!("the {}{at}", lookup.map_type)),
        key: lookup.key.as_ref().map(|key| key.text.clone()),
        source: lookup.source,
        inferred: lookup.is_inferred(),
        lost: lookup.lost.clone(),
        verdict: lookup.verdict,
        near: lookup.near.iter().map(near_key).collect(),
        may_miss: lookup.may_miss(),
        confusable: lookup.near.iter().any(|near| near.confusable),
        record: lookup_json(lookup),
    }
}

fn near_key(near: &lookup::NearKey) -> NearKey {
    NearKey { key: near.key.text.clone(), relation: near.relation, detail: near.detail.clone() }
}

pub(super) fn site(site: &Site) -> MemorySite {
    MemorySite {
        call: site.call.clone(),
        at: site.line.as_ref().map(frame),
        map_type: site.map_type.as_ref().map(|name| name.to_string()),
        map: site.map.clone(),
        key_expr: site.key_expr.clone(),
        reach: site.reach,
        kind: site.kind,
    }
}

/// The map that holds what most suspected goroutines wait on, drawn; a sync.Map cannot be drawn.
fn suspected_map(session: &Session, found: &Leaks, watch: &dyn Watch) -> Result<Option<MapView>> {
    let mut counts: FxHashMap<MapRef, (&str, u64)> = FxHashMap::default();
    let suspected = |cluster: &&Cluster| cluster.score.class() != Class::Waiting || cluster.idle.is_none();
    let is_map = |ty| session.types.load(ty).is_ok_and(|ty| matches!(ty.shape, Shape::Map(_)));
    for cluster in found.clusters.iter().filter(suspected) {
        for goroutine in cluster.members.iter().filter_map(|&at| found.goroutines.all.get(at)) {
            for holder in found.held_by(goroutine) {
                let Some(map) = holder.map_ref().filter(|map| is_map(map.ty)) else { continue };
                counts.entry(map).or_insert((&holder.map, 0)).1 += 1;
            }
        }
    }
    let most = counts.into_iter().max_by_key(|&(map, (name, count))| (count, std::cmp::Reverse((name, map.address))));
    let Some((map, (name, _))) = most else { return Ok(None) };
    match view(session, map, name, None, watch) {
        Ok(view) => Ok(Some(view)),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        // A map that cannot be drawn takes nothing from the rest.
        Err(_) => Ok(None),
    }
}
