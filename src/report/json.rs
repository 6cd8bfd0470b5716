//! The record as JSON, `gomap.evidence/1`: unknown is null with an entry in `limits`.

use super::chain;
use crate::evidence::join::{Cluster, Evidence, Frame, Goroutine, Held, InTrace, MapView, Score, Window};
use serde::{Serialize, Serializer};
use serde_json::{json, Value};
use std::io::{self, Write};

/// The whole record on one line; goroutines are written one by one, for there may be very many.
pub fn write(evidence: &Evidence, out: &mut dyn Write) -> io::Result<()> {
    let rest = rest(evidence);
    let members = rest.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), Member::Value(value)));
    let mut out = io::BufWriter::with_capacity(1 << 16, out);
    serde_json::Serializer::new(&mut out).collect_map(members.chain([("goroutines", Member::Goroutines(evidence))]))?;
    out.write_all(b"\n")?;
    out.flush()
}

/// A member of the record.
enum Member<'a> {
    Value(&'a Value),
    Goroutines(&'a Evidence),
}

impl Serialize for Member<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Member::Value(value) => value.serialize(serializer),
            Member::Goroutines(evidence) => {
                serializer.collect_seq(evidence.goroutines.iter().map(|one| goroutine(evidence, one)))
            }
        }
    }
}

/// All but the goroutines.
fn rest(evidence: &Evidence) -> Value {
    let alignment = &evidence.alignment;
    let both = |pair: Option<(i64, i64, u64)>| {
        pair.map(|(first, last, residual)| json!({"first": first, "last": last, "residual_ns": residual}))
    };
    json!({
        "schema": "gomap.evidence/1",
        "verdict": {"text": chain::verdict(evidence), "finding": chain::finding(evidence), "suspicious": evidence.is_suspicious()},
        "inputs": evidence.inputs.iter().map(|input| json!({
            "id": input.id,
            "kind": input.kind.name(),
            "name": input.name,
            "format": input.format,
            "goroutines": input.goroutines,
            "taken": input.taken.map(super::wall),
            "truncated": input.truncated,
            "notes": input.notes,
        })).collect::<Vec<_>>(),
        "alignment": {
            "source": alignment.source,
            "window_ns": alignment.window.map(|(first, last)| [first, last]),
            "mono": both(alignment.mono),
            "wall": both(alignment.wall),
            "wall_source": alignment.wall_source,
            "now_mono": alignment.now.map(|now| json!({
                "low": now.low.map(|(at, _)| at), "low_source": now.low.map(|(_, why)| why),
                "high": now.high.map(|(at, _)| at), "high_source": now.high.map(|(_, why)| why),
                "residual_ns": now.residual,
            })),
            "profiles": alignment.profiles.iter().map(|taken| json!({"id": taken.id, "low": taken.low, "high": taken.high})).collect::<Vec<_>>(),
            "warnings": alignment.warnings,
        },
        "clusters": evidence.clusters.iter().map(cluster).collect::<Vec<_>>(),
        "map": evidence.map.as_ref().map(map),
        "identity": evidence.identities.iter().map(|one| json!({"a": one.a, "b": one.b, "verdict": one.verdict.name(), "sign": one.sign})).collect::<Vec<_>>(),
        "conflicts": evidence.conflicts,
        "limits": evidence.limits.iter().map(|limit| json!({"what": limit.what(), "reason": limit.to_string()})).collect::<Vec<_>>(),
    })
}

fn map(map: &MapView) -> Value {
    json!({
        "expr": map.expression,
        "type": map.type_name,
        "addr": format!("{:#x}", map.address),
        "count": map.count,
        "heat": {"unit": map.unit, "cells_each": map.heat.cells_each, "live": map.heat.squares.iter().map(|(live, _)| live).collect::<Vec<_>>()},
        "key": map.key,
        "verdict": map.verdict,
        "near": map.near.iter().map(|near| json!({"key": near.key, "relation": near.relation, "detail": near.detail})).collect::<Vec<_>>(),
    })
}

fn cluster(cluster: &Cluster) -> Value {
    json!({
        "id": cluster.id,
        "count": cluster.count,
        "counts": cluster.counts,
        "grows": cluster.grows,
        "state": cluster.state,
        "state_source": cluster.state_source.name(),
        "nil_channel": cluster.nil_channel,
        "map_functions": cluster.map_functions,
        "frames": cluster.frames.iter().map(frame).collect::<Vec<_>>(),
        "created_by": cluster.created_by.as_ref().map(frame),
        "goids": cluster.goids,
        "leaked": cluster.leaked,
        "minutes": cluster.minutes.map(|(low, high)| json!({"least": low, "most": high})),
        "labels": cluster.labels.iter().map(|(key, value, n)| json!({"key": key, "value": value, "count": n})).collect::<Vec<_>>(),
        "sources": cluster.sources,
        "score": score(&cluster.score),
        "class": cluster.class.name(),
        "confidence": cluster.confidence.name(),
        "sites": cluster.sites.iter().map(|site| json!({
            "call": site.call, "line": site.at.as_ref().map(|at| at.line), "map_type": site.map_type, "map": site.map.as_ref().map(|map| json!({"expr": map})),
            "key_expr": site.key_expr, "operation": site.kind.name(), "link": site.reach.name(), "followed": site.reach.is_followed(),
        })).collect::<Vec<_>>(),
        "held_by": cluster.held.iter().map(held_json).collect::<Vec<_>>(),
        "strongest": cluster.strongest,
    })
}

/// A goroutine's record: fields in their order, nothing copied that need not be.
#[derive(Serialize)]
struct GoroutineRecord<'a> {
    goid: u64,
    cluster: Option<&'a str>,
    joined_by: &'static str,
    sources: Sources<'a>,
    g: Option<String>,
    blocked_on: Value,
    windows: Vec<Value>,
    waited_ns: Option<Waited>,
    lookup: Option<&'a Value>,
    score: ScoreRecord<'a>,
    conflicts: &'a [String],
    confidence: &'static str,
}

#[derive(Serialize)]
struct Waited {
    low: i64,
    high: Option<i64>,
}

/// What each source says of it, by the source's id.
struct Sources<'a>(&'a Evidence, &'a Goroutine);

#[derive(Serialize)]
#[serde(untagged)]
enum Told<'a> {
    Profile { state: &'a str, minutes: Option<u64>, leaked: bool, labels: serde_json::Map<String, Value> },
    Trace(Value),
}

impl Serialize for Sources<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Sources(evidence, goroutine) = self;
        let profiles = goroutine.profiles.iter().map(|told| {
            let id = evidence.inputs.get(told.input).map_or("", |input| &input.id);
            let labels = told.labels.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
            (id, Told::Profile { state: &told.state, minutes: told.minutes, leaked: told.leaked, labels })
        });
        let trace = goroutine.trace.as_ref().map(|told| ("t1", Told::Trace(in_trace(told))));
        serializer.collect_map(profiles.chain(trace))
    }
}

#[derive(Serialize)]
struct ScoreRecord<'a> {
    total: i32,
    terms: Vec<TermRecord<'a>>,
}

#[derive(Serialize)]
struct TermRecord<'a> {
    id: &'static str,
    points: i32,
    because: &'a str,
}

fn goroutine<'a>(evidence: &'a Evidence, goroutine: &'a Goroutine) -> GoroutineRecord<'a> {
    let window = |window: &Window| {
        json!({
            "lookup": window.lookup,
            "function": window.function,
            "caller": window.caller.as_ref().map(frame),
            "block": window.block,
            "gap_ns": window.block.saturating_sub(window.lookup),
            "reason": window.reason,
            "ends": Value::Null,
            "link": window.site.name(),
        })
    };
    GoroutineRecord {
        goid: goroutine.goid,
        cluster: evidence.clusters.get(goroutine.cluster).map(|cluster| cluster.id.as_str()),
        joined_by: goroutine.link.name(),
        sources: Sources(evidence, goroutine),
        g: goroutine.memory.as_ref().map(|memory| format!("{:#x}", memory.g)),
        blocked_on: blocked_on(evidence, goroutine),
        windows: goroutine.windows.iter().map(window).collect(),
        waited_ns: evidence.waited(goroutine).map(|(low, high)| Waited { low, high }),
        lookup: goroutine.memory.as_ref().and_then(|memory| Some(&memory.lookup.as_ref()?.record)),
        score: score(&goroutine.score),
        conflicts: &goroutine.conflicts,
        confidence: goroutine.confidence.name(),
    }
}

fn blocked_on(evidence: &Evidence, goroutine: &Goroutine) -> Value {
    let memory = goroutine.memory.as_ref();
    if let Some((memory, (kind, addresses))) = memory.and_then(|memory| Some((memory, memory.blocked_on.as_ref()?))) {
        let held = memory.held.iter().map(held_json);
        let addresses: Vec<String> = addresses.iter().map(|at| format!("{at:#x}")).collect();
        return json!({"kind": kind, "addr": addresses.first(), "addrs": addresses, "held_by": held.collect::<Vec<_>>()});
    }
    let nil = evidence.clusters.get(goroutine.cluster).is_some_and(|cluster| cluster.nil_channel);
    if nil {
        json!({"kind": "nil_chan", "addr": null, "held_by": []})
    } else {
        Value::Null
    }
}

fn in_trace(told: &InTrace) -> Value {
    json!({
        "created": told.created.map(|ts| json!({"ts": ts, "by": told.created_by})),
        "state": told.state,
        "last_block": told.since.map(|ts| json!({"ts": ts, "reason": told.reason, "p": told.proc, "m": told.thread})),
        "stack": told.stack.iter().map(frame).collect::<Vec<_>>(),
        "woken": told.woken,
        "last_waker": told.last_waker,
        "cpu_samples": told.cpu_samples,
    })
}

fn frame(frame: &Frame) -> Value {
    json!({"func": frame.function, "file": frame.file, "line": frame.line})
}

fn score(score: &Score) -> ScoreRecord<'_> {
    let terms = score.terms.iter().map(|term| TermRecord { id: term.id, points: term.points, because: &term.because });
    ScoreRecord { total: score.total(), terms: terms.collect() }
}

fn held_json(held: &Held) -> Value {
    let (map, key) = (format!("{:#x}", held.map_address), format!("{:#x}", held.key_address));
    let id = held.id.map(|id| id.to_string());
    json!({"map": held.map, "key": held.key, "id": id, "map_type": held.map_type, "map_address": map, "key_address": key})
}
