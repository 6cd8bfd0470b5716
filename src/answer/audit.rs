//! What an audit needs to know of the maps of a core or process, as plain data.

use super::check::broken;
use super::list::load;
use crate::audit::{MapFacts, Maps};
use crate::error::Watch;
use crate::map::check::{check, Report};
use crate::reach::{reach, Found};
use crate::session::Session;
use crate::{Error, Result};

/// Every map; with `keys`, each is checked too, as by `gomap check --all`.
pub fn map_facts(session: &Session, keys: bool, watch: &dyn Watch) -> Result<Maps> {
    let found = reach(session, watch)?;
    let mut maps = Vec::with_capacity(found.maps.len());
    let writer = session.writer();
    for (i, map) in found.maps.iter().enumerate() {
        watch.tick(i as u64, found.maps.len() as u64)?;
        let checked = || {
            let opened = session.open(found.map(map))?;
            check(&opened, &session.hasher(&opened), writer.as_deref(), watch)
        };
        let report = match keys.then(checked) {
            None => Report::default(),
            Some(Ok(report)) => report,
            Some(Err(Error::Interrupted)) => return Err(Error::Interrupted),
            Some(Err(error)) => broken(error),
        };
        // An address says nothing in the next run.
        let path = match map.found {
            Found::Candidate => format!("(heap).{}", found.type_name(map)),
            _ => found.path(map),
        };
        maps.push(MapFacts {
            path,
            type_name: found.type_name(map).to_string(),
            entries: map.count,
            bytes: map.bytes,
            load: load(map),
            findings: report.findings,
            nan_keys: report.nan_keys,
        });
    }
    let mut notes = found.notes.clone();
    notes.extend_from_slice(&session.notes);
    Ok(Maps { maps, notes })
}
