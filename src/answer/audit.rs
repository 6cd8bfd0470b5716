//! What an audit needs to know of the maps of a core or process, as plain data.

use super::check::{broken, examine};
use super::list::load;
use super::sentences;
use crate::audit::{MapFacts, Maps};
use crate::error::Watch;
use crate::goroutine::writers::Writers;
use crate::map::check::Report;
use crate::reach::{reach, Found};
use crate::session::Session;
use crate::Result;

/// Every map; with `keys`, each is checked too, as by `gomap check --all`.
pub fn map_facts(session: &Session, keys: bool, watch: &dyn Watch) -> Result<Maps> {
    let found = reach(session, watch)?;
    let mut maps = Vec::with_capacity(found.maps.len());
    let writers = Writers::new(session);
    for (i, map) in found.maps.iter().enumerate() {
        watch.tick(i as u64, found.maps.len() as u64)?;
        let report = match keys {
            true => match examine(session, found.map(map), &writers, watch)? {
                Ok((_, report)) => report,
                Err(error) => broken(&error),
            },
            false => Report::default(),
        };
        // An address says nothing in the next run.
        let (path, shown) = match map.found {
            Found::Candidate => {
                let path = format!("(heap).{}", found.type_name(map));
                (path.clone(), path)
            }
            _ => (found.whole_path(map), found.path(map)),
        };
        maps.push(MapFacts {
            path,
            shown,
            type_name: found.type_name(map).to_string(),
            entries: map.count,
            bytes: map.bytes,
            load: load(map),
            findings: report.findings,
            nan_keys: report.nan_keys,
        });
    }
    for torn in found.torn.iter().filter(|_| keys) {
        maps.push(MapFacts {
            path: found.torn_whole_path(torn),
            shown: found.torn_path(torn),
            type_name: found.torn_type(torn).to_string(),
            entries: 0,
            bytes: 0,
            load: None,
            findings: broken(&torn.error).findings,
            nan_keys: 0,
        });
    }
    let mut notes = sentences(&found.notes);
    notes.extend(sentences(&session.notes));
    Ok(Maps { maps, notes })
}
