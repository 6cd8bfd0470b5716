//! `gomap why --all`: which maps of the process hold a key, or something like it.

use super::get::KeyInput;
use super::verdict::Verdict;
use super::why::inquire;
use super::{sentences, write_error, Show, Values};
use crate::error::Watch;
use crate::map::keys::Keys;
use crate::map::nearby::Relation;
use crate::memory::Place;
use crate::reach::{in_pieces, reach, Progress, Reached};
use crate::session::Session;
use crate::value::Overlay;
use crate::{Error, Result};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

/// Near misses shown of one map.
const NEAR: usize = 3;

/// What one map says to the key.
struct Answer<'r> {
    map: &'r Reached,
    verdict: Verdict,
    /// Nothing for a key that is there.
    best: Option<Relation>,
    /// The key, as this map's type has it.
    key: String,
    near: Vec<(String, Relation, String)>,
}

/// Asks every map whose keys the literal can be one of; at most `limit` answers (0 for all) are written, keys that
/// are there before near misses, the nearest first. Each map's search of near misses ends when `budget` is spent.
pub fn why_all(
    session: &Session,
    key: &KeyInput,
    limit: usize,
    budget: Option<Duration>,
    show: &Show,
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<()> {
    let found = reach(session, watch)?;
    let alone = session.memory.place() == Place::Debugger;
    let pieces = in_pieces(&found.maps, alone, Progress::of(&found.maps), watch, &|_, maps, watch| {
        let mut asked = 0u64;
        let mut answers = Vec::new();
        for map in maps {
            watch.tick(0, 0)?;
            match ask(session, found.map(map), map, key, budget, show, watch) {
                Ok(Some(answer)) => answers.push(answer),
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                Ok(None) => {}
                // Another type of key, or a map that cannot be read: no answer.
                Err(_) => continue,
            }
            asked += 1;
        }
        Ok((asked, answers))
    })?;
    let asked: u64 = pieces.iter().map(|(asked, _)| asked).sum();
    if asked == 0 {
        let count = found.maps.len();
        return Err(Error::Usage(format!("none of the {count} maps has keys that this literal can be one of")));
    }
    let mut answers: Vec<Answer<'_>> = pieces.into_iter().flat_map(|(_, answers)| answers).collect();
    answers.sort_by_key(|answer| (answer.verdict, answer.best));
    let shown = if limit == 0 { answers.len() } else { limit.min(answers.len()) };
    let mut text = String::new();
    if show.json {
        let documents: Vec<String> = answers[..shown]
            .iter()
            .map(|answer| {
                let map = json!({
                    "path": found.expression(answer.map, watch),
                    "type": found.type_name(answer.map),
                    "address": format!("{:#x}", answer.map.address),
                    "count": answer.map.count,
                });
                let near = answer.near.iter().map(|(key, relation, detail)| {
                    let (relation, detail) = (json!(relation.name()), json!(detail));
                    format!("{{\"key\":{key},\"relation\":{relation},\"detail\":{detail}}}")
                });
                let (verdict, near) = (answer.verdict.name(), near.collect::<Vec<_>>().join(","));
                format!("{{\"map\":{map},\"key\":{},\"verdict\":\"{verdict}\",\"near\":[{near}]}}", answer.key)
            })
            .collect();
        let notes = json!(sentences(&found.notes));
        text += &format!("{{\"maps\":[{}],\"asked\":{asked},\"notes\":{notes}}}\n", documents.join(","));
    } else {
        for answer in &answers[..shown] {
            let (path, name) = (found.expression(answer.map, watch), found.type_name(answer.map));
            text += &format!("{path} {name}: {} is {}\n", answer.key, answer.verdict.words());
            for (key, relation, detail) in &answer.near {
                text += &format!("    {key}  {}: {detail}\n", relation.name());
            }
        }
        if shown < answers.len() {
            text += &format!("  … {} more; --limit 0 shows all\n", answers.len() - shown);
        }
        text += &format!("{} of {asked} maps with such keys hold it or something like it\n", answers.len());
    }
    out.write_all(text.as_bytes()).map_err(write_error)
}

/// What one map says; `None` when it holds nothing like the key.
fn ask<'r>(
    session: &Session,
    target: crate::session::MapRef,
    map: &'r Reached,
    key: &KeyInput,
    budget: Option<Duration>,
    show: &Show,
    watch: &dyn Watch,
) -> Result<Option<Answer<'r>>> {
    let opened = session.open(target)?;
    let (bytes, arena) = key.lay_out(&opened)?;
    let overlay = Overlay::new(&arena, opened.memory);
    let opened = opened.through(&overlay);
    let keys = Keys::new(&overlay, opened.types);
    let inquiry = inquire(&opened, &keys, &session.hasher(&opened), &bytes, budget, watch)?;
    if inquiry.near.is_empty() && !matches!(inquiry.verdict, Verdict::Present | Verdict::Unreachable) {
        return Ok(None);
    }
    let values = Values::of(&opened, show, watch)?;
    let near = inquiry.near.iter().take(NEAR);
    Ok(Some(Answer {
        map,
        verdict: inquiry.verdict,
        best: inquiry.near.first().map(|near| near.relation),
        key: values.key_text(&bytes)?,
        near: near
            .map(|near| Ok((values.key_text(&near.key)?, near.relation, near.detail.clone())))
            .collect::<Result<_>>()?,
    }))
}
