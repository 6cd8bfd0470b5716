//! One map drawn for a report: how full its buckets or groups are, and a missed key beside the stored ones like it.

use super::get::KeyInput;
use super::why::inquire;
use super::{Show, Values};
use crate::error::Watch;
use crate::evidence::join::{Heat, MapView, NearKey};
use crate::map::keys::Keys;
use crate::map::{Findings, GoMap, Place};
use crate::session::{MapRef, Session};
use crate::types::Shape;
use crate::value::{Options, Overlay, FOLLOW_LIMIT};
use crate::Result;

/// Squares of the heat map, at most.
const SQUARES: usize = 1024;
const VALUES: Options = Options { depth: 2, string_limit: 400, elements_limit: 40, follow_limit: FOLLOW_LIMIT };

/// Draws the map that `name` leads to and, where a key is given, looks it up.
pub fn view(
    session: &Session,
    target: MapRef,
    name: &str,
    key: Option<&KeyInput>,
    watch: &dyn Watch,
) -> Result<MapView> {
    let map = session.open(target)?;
    let mut view = MapView {
        expression: name.to_string(),
        type_name: map.ty.name.to_string(),
        address: map.address,
        count: map.count(),
        unit: if map.slots.classic { "bucket" } else { "group" },
        heat: heat(&map, watch)?,
        key: None,
        verdict: None,
        missed: false,
        holds_channels: matches!(map.elem.shape, Shape::Chan(_)),
        near: Vec::new(),
    };
    let Some(key) = key else { return Ok(view) };
    let (bytes, arena) = key.lay_out(&map)?;
    let overlay = Overlay::new(&arena, map.memory);
    let map = map.through(&overlay);
    let keys = Keys::new(&overlay, map.types);
    let inquiry = inquire(&map, &keys, &session.hasher(&map), &bytes, None, watch)?;
    let show = Show { json: false, colour: false, values: VALUES };
    let values = Values::of(&map, &show, watch)?;
    view.key = Some(values.key_text(&bytes)?);
    view.verdict = Some(inquiry.verdict.name());
    view.missed = inquiry.lookup.found.is_none();
    for near in &inquiry.near {
        let (key, relation, detail) = (values.key_text(&near.key)?, near.relation.name(), near.detail.clone());
        view.near.push(NearKey { key, relation, detail });
    }
    Ok(view)
}

/// Live slots of each bucket (with its overflow chain) or group; neighbours share a square in a large map.
fn heat(map: &GoMap<'_>, watch: &dyn Watch) -> Result<Heat> {
    let mut squares: Vec<(u64, u64)> = Vec::new();
    let mut each = 1u64;
    map.each_cell(watch, &mut Findings::default(), &mut |cell| {
        let live = u64::from(cell.live.count_ones());
        let chained = matches!(cell.place, Place::Bucket { overflow: 1.., .. });
        match squares.last_mut() {
            Some((slots, _)) if chained => *slots += live,
            Some((slots, cells)) if *cells < each => (*slots, *cells) = (*slots + live, *cells + 1),
            _ => squares.push((live, 1)),
        }
        if squares.len() > SQUARES {
            let pair = |pair: &[(u64, u64)]| pair.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            squares = squares.chunks(2).map(pair).collect();
            each *= 2;
        }
        Ok(true)
    })?;
    Ok(Heat { squares, cells_each: each })
}
