//! What a core or a process says of its goroutines, as the plain data that the join takes.

use super::process::process;
use super::view::view;
use crate::error::Watch;
use crate::evidence::join::{Frame, Held, MapView, MemorySite, Target, TargetGoroutine};
use crate::goroutine::leaks::{leaks, Class, Cluster, Leaks};
use crate::goroutine::sites::{Link, Site};
use crate::goroutine::{Goroutine, Line};
use crate::session::{MapRef, Session};
use crate::{Error, Result};
use rustc_hash::FxHashMap;

/// Reads all goroutines, what they wait on, and the map entries behind it; `map` is the one that the user names, else
/// the one behind most suspected goroutines is drawn.
pub fn target(session: &Session, map: Option<MapView>, watch: &dyn Watch) -> Result<Target> {
    let found = leaks(session, watch)?;
    let mut sites: FxHashMap<u64, Vec<MemorySite>> = FxHashMap::default();
    for cluster in &found.clusters {
        let goids = cluster.members.iter().filter_map(|&at| found.goroutines.all.get(at)).map(|g| g.goid);
        goids.for_each(|goid| {
            sites.insert(goid, cluster.sites.iter().map(site).collect());
        });
    }
    let map = match map {
        Some(map) => Some(map),
        None => suspected_map(session, &found, watch)?,
    };
    let version = session.types.program().version.as_ref().map(|version| version.text.clone());
    let mut limits = found.goroutines.listed.notes.clone();
    limits.extend(found.holders.limits.iter().cloned());
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
            .map(|g| goroutine(&found, g, &mut sites))
            .collect(),
        map,
        limits,
        notes: session.notes.clone(),
        process: process(session),
    })
}

fn goroutine(found: &Leaks, goroutine: &Goroutine, sites: &mut FxHashMap<u64, Vec<MemorySite>>) -> TargetGoroutine {
    let held = found.held_by(goroutine).into_iter().map(|holder| Held {
        map: holder.map.clone(),
        map_type: holder.map_type.to_string(),
        key: holder.key.clone(),
    });
    TargetGoroutine {
        goid: goroutine.goid,
        g: goroutine.g,
        state: goroutine.state(),
        waits: goroutine.reason.is_some(),
        blocked_on: goroutine.blocked_on.as_ref().map(|blocked| (blocked.kind(), blocked.addresses())),
        held: held.collect(),
        sites: sites.remove(&goroutine.goid).unwrap_or_default(),
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

fn site(site: &Site) -> MemorySite {
    MemorySite {
        call: site.call.clone(),
        at: site.line.as_ref().map(frame),
        map_type: site.map_type.as_ref().map(|name| name.to_string()),
        same_function: site.link != Link::Caller,
    }
}

/// The map that holds what most suspected goroutines wait on, drawn; a sync.Map cannot be drawn.
fn suspected_map(session: &Session, found: &Leaks, watch: &dyn Watch) -> Result<Option<MapView>> {
    let mut counts: FxHashMap<(&str, &str, u64), u64> = FxHashMap::default();
    let suspected = |cluster: &&Cluster| cluster.class != Class::Waiting || cluster.idle.is_none();
    for cluster in found.clusters.iter().filter(suspected) {
        for goroutine in cluster.members.iter().filter_map(|&at| found.goroutines.all.get(at)) {
            for holder in found.held_by(goroutine).into_iter().filter(|holder| holder.map_type.starts_with("map[")) {
                *counts.entry((&holder.map, &holder.map_type, holder.address)).or_default() += 1;
            }
        }
    }
    let most = counts.into_iter().max_by_key(|&((map, _, _), count)| (count, std::cmp::Reverse(map)));
    let Some(((name, type_name, address), _)) = most else { return Ok(None) };
    let Ok(ty) = session.type_named(type_name) else { return Ok(None) };
    match view(session, MapRef { address, ty }, name, None, watch) {
        Ok(view) => Ok(Some(view)),
        Err(Error::Interrupted) => Err(Error::Interrupted),
        // A map that cannot be drawn takes nothing from the rest.
        Err(_) => Ok(None),
    }
}
