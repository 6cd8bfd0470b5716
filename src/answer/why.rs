//! `gomap why`: how the runtime looks a key up, step by step, and which stored keys look like it.

use super::get::{lookup_notes, missing, KeyInput};
use super::state::LookupNote;
use super::verdict::Verdict;
use super::{head, head_text, place_json, place_text, source, write_error, Show, State, Values};
use crate::error::Watch;
use crate::map::keys::{KeyHash, Keys};
use crate::map::lookup::{Found, Hasher, Lookup, Match, Stop};
use crate::map::nearby::{Near, NearMisses};
use crate::map::GoMap;
use crate::session::{MapRef, Session};
use crate::value::Overlay;
use crate::Result;
use serde_json::{json, Value};
use std::io::Write;
use std::time::{Duration, Instant};

/// Near misses shown.
const NEAR: usize = 8;
/// Keys compared between two looks at the clock.
const KEYS_A_LOOK: u64 = 256;

/// Everything that is known about one lookup.
pub(super) struct Inquiry {
    pub(super) lookup: Lookup,
    /// An equal key that lies off the path of its hash.
    stray: Option<Found>,
    pub(super) near: Vec<Near>,
    pub(super) verdict: Verdict,
    /// Stored keys compared with the missed one.
    compared: u64,
    /// Whether the time for that was spent before all had been.
    is_cut: bool,
}

/// Explains the lookup of one key. The pass over all stored keys that looks for near misses ends when `budget` is
/// spent, which the answer then says; `None` compares all.
pub fn why(
    session: &Session,
    target: MapRef,
    key: &KeyInput,
    budget: Option<Duration>,
    show: &Show,
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<()> {
    let map = session.open(target)?;
    let (bytes, arena) = key.lay_out(&map)?;
    let overlay = Overlay::new(&arena, map.memory);
    let map = map.through(&overlay);
    let keys = Keys::new(&overlay, map.types);
    let hasher = session.hasher(&map);
    let inquiry = inquire(&map, &keys, &hasher, &bytes, budget, watch)?;
    let mut state = lookup_notes(&map, &hasher, &inquiry.lookup);
    if let (true, Some(budget)) = (inquiry.is_cut, budget) {
        let (compared, stored) = (inquiry.compared, map.count());
        state.push(State::Lookup(LookupNote::Partly { compared, stored, budget }));
    }
    state.extend(source(&session.notes));
    let values = Values::of(&map, show, watch)?;
    let key = values.key_text(&bytes)?;
    let near = inquiry.near.iter().map(|near| Ok((values.key_text(&near.key)?, near))).collect::<Result<Vec<_>>>()?;
    let answer = match show.json {
        true => document(&map, &state, &key, &inquiry, &hasher, &near),
        false => text(&map, &state, &key, &inquiry, &hasher, &near),
    };
    out.write_all(answer.as_bytes()).map_err(write_error)
}

pub(super) fn inquire(
    map: &GoMap<'_>,
    keys: &Keys<'_>,
    hasher: &Hasher,
    key: &[u8],
    budget: Option<Duration>,
    watch: &dyn Watch,
) -> Result<Inquiry> {
    let lookup = map.look_up(hasher, keys, key, watch)?;
    if lookup.found.is_some() {
        return Ok(Inquiry {
            lookup,
            stray: None,
            near: Vec::new(),
            verdict: Verdict::Present,
            compared: 0,
            is_cut: false,
        });
    }
    let mut near = NearMisses::new(keys, map.key.id, key, NEAR)?;
    let (started, mut compared, mut is_cut) = (Instant::now(), 0u64, false);
    map.each(watch, &mut |entry| {
        if let Ok(stored) = entry.key {
            near.offer(stored, entry.key_address);
        }
        compared += 1;
        is_cut = compared % KEYS_A_LOOK == 0 && budget.is_some_and(|budget| started.elapsed() > budget);
        Ok(!is_cut)
    })?;
    // The last key was compared in time after all.
    is_cut &= compared < map.count();
    let nearest = near.finish();
    let stray = match nearest.equal {
        Some(address) => find_at(map, address, watch)?,
        None => None,
    };
    let verdict = match (&lookup.hash, stray) {
        (Some(KeyHash::Unhashable(_)), _) => Verdict::Unhashable,
        (_, Some(_)) => Verdict::Unreachable,
        _ => missing(&lookup),
    };
    Ok(Inquiry { lookup, stray, near: nearest.near, verdict, compared, is_cut })
}

/// The entry whose key is stored at this address.
fn find_at(map: &GoMap<'_>, address: u64, watch: &dyn Watch) -> Result<Option<Found>> {
    let mut found = None;
    map.each(watch, &mut |entry| {
        let (key_address, elem_address) = (entry.key_address, entry.elem_address);
        if key_address == address {
            found = Some(Found { place: entry.place, slot: entry.slot, key_address, elem_address });
        }
        Ok(found.is_none())
    })?;
    Ok(found)
}

/// Hexadecimal, as addresses and hashes are shown.
fn hex(number: u64) -> String {
    format!("{number:#x}")
}

fn document(
    map: &GoMap<'_>,
    state: &[State],
    key: &str,
    inquiry: &Inquiry,
    hasher: &Hasher,
    near: &[(String, &Near)],
) -> String {
    let Inquiry { lookup, .. } = inquiry;
    let control = if map.slots.classic { "tophash" } else { "control" };
    let path: Vec<Value> = lookup
        .path
        .iter()
        .map(|step| {
            let mut place = place_json(step.place, step.slot);
            place[control] = step.control.into();
            place["match"] = match step.matched {
                Match::None => "none",
                Match::Byte => "tophash",
                Match::Key => "key",
            }
            .into();
            place
        })
        .collect();
    let mut tail = json!({
        "seed": hex(lookup.seed),
        "path": path,
        "stop": lookup.stop.to_string(),
        "verdict": inquiry.verdict.name(),
        "compared": inquiry.compared,
    });
    match &lookup.hash {
        Some(KeyHash::Known(hash)) => tail["hash"] = hex(*hash).into(),
        Some(KeyHash::Random) => tail["hash"] = "random".into(),
        _ => {}
    }
    if let Hasher::Known { state, function, .. } = hasher {
        tail["hasher"] = json!({"function": function, "algorithm": state.describe()});
    }
    if let Some(stray) = inquiry.stray {
        tail["stored_at"] = place_json(stray.place, stray.slot);
    }
    // Keys are already JSON, so the document is put together by hand around them.
    let near: Vec<String> = near
        .iter()
        .map(|(key, near)| {
            format!("{{\"key\":{key},\"relation\":{},\"detail\":{}}}", json!(near.relation.name()), json!(near.detail))
        })
        .collect();
    let mut tail = tail.to_string();
    tail.pop();
    format!("{{\"map\":{},\"key\":{key},{},\"near\":[{}]}}\n", head(map, state), &tail[1..], near.join(","))
}

fn text(
    map: &GoMap<'_>,
    state: &[State],
    key: &str,
    inquiry: &Inquiry,
    hasher: &Hasher,
    near: &[(String, &Near)],
) -> String {
    let Inquiry { lookup, .. } = inquiry;
    let mut text = head_text(map, state);
    if let (Some(KeyHash::Known(hash)), Hasher::Known { state, function, .. }) = (&lookup.hash, hasher) {
        let how = state.describe();
        text += &format!("  hash of {key} is {hash:#x} (by {function}, {how}, seed {:#x})\n", lookup.seed);
    }
    let mut last = None;
    for step in &lookup.path {
        if last != Some(step.place) {
            text += &format!("  {} at {:#x}\n", place_text(step.place), step.address);
            last = Some(step.place);
        }
        let outcome = match step.matched {
            Match::None => "not compared",
            Match::Byte => "compared, another key",
            Match::Key => "the key",
        };
        text += &format!("    slot {}  {:02x}  {outcome}\n", step.slot, step.control);
    }
    match lookup.stop {
        Stop::NotBegun => {}
        Stop::Never(why) => text += &format!("  never stops: {why}\n"),
        stop => text += &format!("  stops: {stop}\n"),
    }
    text += &match (inquiry.verdict, inquiry.stray) {
        (Verdict::Unreachable, Some(stray)) => format!(
            "  {key} is unreachable: it is stored in {}, slot {}, off the path of its hash; \
             it was changed in place, or a race tore the map\n",
            place_text(stray.place),
            stray.slot
        ),
        (Verdict::Unhashable, _) => format!("  {key} cannot be hashed: the program would panic\n"),
        (verdict, _) => format!("  {key} is {}\n", verdict.words()),
    };
    if !near.is_empty() {
        text += "  near misses, best first:\n";
    }
    for (key, near) in near {
        text += &format!("    {key}  {}: {}\n", near.relation.name(), near.detail);
    }
    text
}
