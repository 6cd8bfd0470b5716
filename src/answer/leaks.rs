//! `gomap leaks` and `gomap explain`: clusters of stuck goroutines with their scores, one goroutine in words.

use super::goroutines::{blocked_json, blocked_text, place, user_line};
use super::graph::{self, Language};
use super::{sentences, target, write_error};
use crate::error::Watch;
use crate::goroutine::holders::Holder;
use crate::goroutine::leaks::{leaks as find, Cluster, Leaks};
use crate::goroutine::lookup::{Lookup, Verdict};
use crate::goroutine::sites::Site;
use crate::goroutine::{Blocked, Goroutine, Limit, Shown, Vouched};
use crate::score::{self, Class};
use crate::session::Session;
use crate::{Error, Result};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::{json, Value};
use std::fmt::Write as _;
use std::io::Write;

/// What `gomap leaks` shows, and when it fails.
#[derive(Debug, Clone, Copy)]
pub struct LeaksOptions {
    /// Known idle patterns too.
    pub all: bool,
    pub json: bool,
    /// Draws instead.
    pub graph: Option<Language>,
    /// Clusters of this class or a worse one are findings; `None` never fails.
    pub fail_on: Option<Class>,
}

/// The class that `--fail-on` names; `none` is none.
pub fn fail_on(name: &str) -> Result<Option<Class>> {
    const CLASSES: [Class; 3] = [Class::LikelyKeyMismatch, Class::LeakSuspect, Class::Waiting];
    let plain = name.replace(['-', ' '], "_");
    if plain == "none" {
        return Ok(None);
    }
    let found = CLASSES.into_iter().find(|class| class.name() == plain);
    found.map(Some).ok_or_else(|| {
        Error::Usage(format!("--fail-on is likely-key-mismatch, leak-suspect, waiting or none, not {name:?}"))
    })
}

/// Shows clusters of stuck goroutines; returns whether there is one to fail on.
pub fn leaks(session: &Session, options: LeaksOptions, watch: &dyn Watch, out: &mut dyn Write) -> Result<bool> {
    let leaks = find(session, watch)?;
    let bad = |cluster: &Cluster| {
        options.fail_on.is_some_and(|least| cluster.score.class() >= least && cluster.idle.is_none())
    };
    let findings = leaks.clusters.iter().any(bad);
    let shown = |cluster: &&Cluster| options.all || cluster.idle.is_none();
    if let Some(language) = options.graph {
        let text = graph::of_leaks(&leaks, leaks.clusters.iter().filter(shown), language);
        return drawn(text, options.json, out).map(|()| findings);
    }
    if options.json {
        record(session, &leaks, None, out)?;
        return Ok(findings);
    }
    let mut text = String::new();
    for cluster in leaks.clusters.iter().filter(shown) {
        text += &cluster_text(&leaks, cluster);
    }
    let aside: usize = leaks.clusters.iter().filter(|c| !shown(c)).map(|c| c.members.len()).sum();
    if aside > 0 {
        let _ = writeln!(text, "{aside} goroutines in known idle patterns set aside (--all shows them)");
    }
    let (maps, entries) = (leaks.holders.maps, leaks.holders.entries);
    let _ = writeln!(text, "objects waited on were looked for in {entries} entries of {maps} maps");
    limits(&leaks).iter().for_each(|limit| text += &format!("note: {limit}\n"));
    out.write_all(text.as_bytes()).map_err(write_error)?;
    Ok(findings)
}

/// Writes a drawing, as it is or as the one member of a document.
fn drawn(text: String, as_json: bool, out: &mut dyn Write) -> Result<()> {
    match as_json {
        true => super::line(out, &json!({ "graph": text })),
        false => out.write_all(text.as_bytes()).map_err(write_error),
    }
}

/// Explains one goroutine, in words or as a graph.
pub fn explain(
    session: &Session,
    goid: u64,
    as_json: bool,
    graph: Option<Language>,
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<()> {
    let leaks = find(session, watch)?;
    let goroutine = leaks.goroutines.all.iter().find(|g| g.goid == goid);
    let goroutine =
        goroutine.ok_or_else(|| Error::Usage(format!("there is no goroutine {goid}; see gomap goroutines")))?;
    if let Some(language) = graph {
        let cluster = cluster_of(&leaks, goroutine);
        return drawn(graph::of_goroutine(&leaks, goroutine, cluster, language), as_json, out);
    }
    if as_json {
        return record(session, &leaks, Some(goid), out);
    }
    out.write_all(story(&leaks, goroutine).as_bytes()).map_err(write_error)
}

/// The cluster that a goroutine is in.
fn cluster_of<'l>(leaks: &'l Leaks, goroutine: &Goroutine) -> Option<&'l Cluster> {
    let index = leaks.goroutines.all.iter().position(|g| g.goid == goroutine.goid)?;
    leaks.clusters.iter().find(|cluster| cluster.members.contains(&index))
}

fn limits(leaks: &Leaks) -> Vec<String> {
    let mut limits = sentences(&leaks.goroutines.listed.notes);
    limits.extend(sentences(&leaks.holders.limits));
    limits.extend(leaks.calls_unread.iter().map(Limit::to_string));
    limits.push("the time a goroutine has waited is not known without a trace".into());
    if leaks.lookups_cut {
        limits.push("of very large clusters only the first goroutines' lookups were read".into());
    }
    limits
}

fn cluster_text(leaks: &Leaks, cluster: &Cluster) -> String {
    let members = || cluster.members.iter().filter_map(|&i| leaks.goroutines.all.get(i));
    let goids: Vec<String> = members().take(20).map(|g| g.goid.to_string()).collect();
    let more = if cluster.members.len() > 20 { ", …" } else { "" };
    let class = cluster.score.class().words();
    let plural = if cluster.members.len() == 1 { "" } else { "s" };
    let mut text = format!(
        "{class}, score {}: {} goroutine{plural} [{}]: {}{more}\n",
        cluster.score.total(),
        cluster.members.len(),
        cluster.state,
        goids.join(", ")
    );
    for term in &cluster.score.terms {
        let _ = writeln!(text, "  {:>+4} {}", term.points, term.because);
    }
    for frame in cluster.frames.iter().take(6) {
        let _ = writeln!(text, "    {}", place(frame));
    }
    if let Some(by) = &cluster.created_by {
        let _ = writeln!(text, "    created by {by}");
    }
    cluster.sites.iter().for_each(|site| text += &site_text(site));
    let mut told = FxHashSet::default();
    for goroutine in members() {
        let Some(lookup) = leaks.lookups.get(&goroutine.goid) else { continue };
        let said = lookup_text(lookup);
        if told.len() < 8 && told.insert(said.clone()) {
            let _ = writeln!(text, "  goroutine {}: {said}", goroutine.goid);
        }
    }
    let mut held = 0;
    for goroutine in members() {
        for holder in leaks.held_by(goroutine) {
            held += 1;
            if held <= 8 {
                let _ = writeln!(text, "  goroutine {}: {}", goroutine.goid, holder_text(holder));
            }
        }
    }
    if held > 8 {
        let _ = writeln!(text, "  and {} more", held - 8);
    }
    text
}

fn site_text(site: &Site) -> String {
    format!("  map operation before the wait, {}: {}\n", site.reach.words(), site_label(site))
}

/// The operation, its map's type, and where it is.
pub(super) fn site_label(site: &Site) -> String {
    let at = site.line.as_ref().map_or_else(|| format!("{:#x}", site.pc), place);
    format!("{}, {at}", target::site(site).operation())
}

/// The lookup in words: the key, whether it is there, and the stored keys that are like it.
fn lookup_text(lookup: &Lookup) -> String {
    let guessed = match (lookup.inferred, lookup.memory) {
        (true, _) => " (length inferred)",
        (_, Vouched::Proven) => "",
        _ => " (most likely: its memory was not used again since the wait began)",
    };
    let mut text = match (&lookup.key, &lookup.lost) {
        (Some(key), _) => {
            let verdict = match lookup.verdict {
                Some(Verdict::Absent) => ", which is absent",
                Some(Verdict::Zero) => ", which is present with the zero value",
                Some(Verdict::Present) => ", which is present",
                None => ", in a map that is not known any more",
            };
            format!("{} {}{guessed}{verdict}", lookup.kind.verb(), key.text)
        }
        (None, lost) => format!(
            "the key {} is lost: {}",
            lookup.kind.verb().trim_end_matches(','),
            lost.as_deref().unwrap_or("nothing of it is left")
        ),
    };
    for near in lookup.near.iter().take(2) {
        let _ = write!(text, "; stored is {} ({}: {})", near.key.text, near.relation, near.detail);
    }
    text
}

/// The lookup as the record has it.
pub(super) fn lookup_json(lookup: &Lookup) -> Value {
    let id = |key: &Shown| key.identity.as_ref().map(|key| key.digest().to_string());
    let key = lookup.key.as_ref().map(|key| {
        let length = if lookup.inferred { "inferred" } else { "known" };
        json!({"value": key.json, "text": key.text, "id": id(key), "source": lookup.source, "length": length,
               "memory": lookup.memory.name()})
    });
    let near: Vec<Value> = lookup
        .near
        .iter()
        .map(
            |near| json!({"key": near.key.json, "text": near.key.text, "id": id(&near.key), "relation": near.relation, "diff": near.detail}),
        )
        .collect();
    let found = lookup.verdict.map(|verdict| verdict != Verdict::Absent);
    let map = lookup.map.map(|address| format!("{address:#x}"));
    json!({
        "operation": lookup.kind.name(), "map": {"type": &*lookup.map_type, "address": map}, "key": key, "lost": lookup.lost, "found": found,
        "zero": lookup.verdict == Some(Verdict::Zero), "near": near,
    })
}

fn holder_text(holder: &Holder) -> String {
    let mut text = format!("what it waits on is stored in {}[{}]", holder.map, holder.key);
    if let Some(odd) = holder.odd {
        let _ = write!(text, ", {odd}");
    }
    text
}

/// One goroutine's chain in plain words.
fn story(leaks: &Leaks, goroutine: &Goroutine) -> String {
    let ids = leaks.goroutines.ids();
    let mut text = format!("goroutine {} is in state {:?}.\n", goroutine.goid, goroutine.state());
    if let Some(at) = user_line(goroutine) {
        let _ = writeln!(text, "It is at {}.", place(at));
    }
    if let Some(created) = &goroutine.created_at {
        let _ = writeln!(text, "It was created in {}.", place(created));
    }
    if let Some(blocked) = &goroutine.blocked_on {
        let _ = writeln!(text, "It waits on {}.", blocked_text(blocked, &ids));
        if matches!(blocked, Blocked::NilChan) {
            text += "A lookup that misses in a map of channels yields a nil channel.\n";
        }
    }
    for holder in leaks.held_by(goroutine) {
        let _ = writeln!(text, "{} ({}).", capital(&holder_text(holder)), holder.type_name);
    }
    if let Some(cluster) = cluster_of(leaks, goroutine) {
        cluster.sites.iter().for_each(|site| text += &capital(site_text(site).trim_start()));
        if let Some(lookup) = leaks.lookups.get(&goroutine.goid) {
            let _ = writeln!(text, "{}.", capital(&lookup_text(lookup)));
        }
        let others = cluster.members.len() - 1;
        for term in &cluster.score.terms {
            let _ = writeln!(text, "{:>+4} {}", term.points, term.because);
        }
        let (class, total) = (cluster.score.class().words(), cluster.score.total());
        let _ = writeln!(text, "{others} other goroutines wait alike; together they are: {class}, score {total}.");
    }
    goroutine.torn.iter().for_each(|torn| text += &format!("note: {torn}\n"));
    leaks.calls_unread.iter().for_each(|limit| text += &format!("note: {limit}\n"));
    text
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().collect::<String>() + letters.as_str())
}

/// Writes the evidence record, of all goroutines or of one; goroutines one by one, for there may be very many.
fn record(session: &Session, leaks: &Leaks, only: Option<u64>, out: &mut dyn Write) -> Result<()> {
    let ids = leaks.goroutines.ids();
    let version = session.types.program().version.as_ref().map(|version| version.text.clone());
    let members = |cluster: &Cluster| -> Vec<&Goroutine> {
        let all = cluster.members.iter().filter_map(|&i| leaks.goroutines.all.get(i));
        all.filter(|g| only.is_none_or(|only| g.goid == only)).collect()
    };
    let numbered = || leaks.clusters.iter().enumerate().map(|(i, cluster)| (format!("c{}", i + 1), cluster));
    let shown = numbered().filter(|(_, cluster)| !members(cluster).is_empty());
    let clusters: Vec<Value> = shown.map(|(id, cluster)| cluster_json(leaks, &id, cluster)).collect();
    let limits: Vec<Value> =
        limits(leaks).into_iter().map(|reason| json!({"what": "evidence", "reason": reason})).collect();
    let head = json!({
        "schema": "gomap.evidence/1",
        "inputs": [{"id": "d1", "kind": "memory", "go": version}],
        "alignment": {"mono_wall": null, "now_mono": null, "warnings": sentences(&session.notes)},
        "clusters": clusters, "limits": limits,
    });
    let head = head.to_string();
    let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(write_error);
    write(&head.as_bytes()[..head.len() - 1])?;
    let mut before = "";
    write(b",\"goroutines\":[")?;
    for (id, cluster) in numbered() {
        // Why is said of the cluster.
        let terms = cluster.score.terms.iter().map(|term| json!({"id": term.id, "points": term.points})).collect();
        for goroutine in members(cluster) {
            let document = goroutine_json(leaks, &ids, (&id, cluster, &terms), goroutine);
            write(format!("{}{document}", std::mem::replace(&mut before, ",")).as_bytes())?;
        }
    }
    write(b"]}\n")
}

fn terms_json(cluster: &Cluster) -> Value {
    let term = |term: &score::Term| json!({"id": term.id, "points": term.points, "because": term.because});
    cluster.score.terms.iter().map(term).collect()
}

fn goroutine_json(
    leaks: &Leaks,
    ids: &FxHashMap<u64, u64>,
    (id, cluster, terms): (&str, &Cluster, &Value),
    goroutine: &Goroutine,
) -> Value {
    let mut blocked = goroutine.blocked_on.as_ref().map_or(Value::Null, |b| blocked_json(b, ids));
    if !blocked.is_null() {
        let held: Vec<Value> = leaks
            .held_by(goroutine)
            .iter()
            .map(|h| {
                let (map, key) = (format!("{:#x}", h.address), format!("{:#x}", h.key_address));
                let id = h.identity.as_ref().map(|key| key.digest().to_string());
                json!({"map": h.map, "key": h.key, "id": id, "map_type": &*h.type_name, "map_address": map, "key_address": key})
            })
            .collect();
        blocked["held_by"] = held.into();
    }
    json!({
        "goid": goroutine.goid, "g": format!("{:#x}", goroutine.g), "cluster": id,
        "sources": {"d1": {"status": goroutine.status, "waitreason": goroutine.reason.as_deref(),
                           "waitsince": goroutine.seen_waiting_since}},
        "blocked_on": blocked, "lookup": leaks.lookups.get(&goroutine.goid).map(lookup_json),
        "score": {"total": cluster.score.total(), "terms": terms},
        "conflicts": sentences(&goroutine.torn), "confidence": "low",
    })
}

fn cluster_json(leaks: &Leaks, id: &str, cluster: &Cluster) -> Value {
    let goids: Vec<u64> = cluster.members.iter().filter_map(|&i| leaks.goroutines.all.get(i)).map(|g| g.goid).collect();
    let frames: Vec<Value> = cluster
        .frames
        .iter()
        .map(|f| json!({"func": &*f.func, "file": &*f.file, "line": f.line, "inlined": f.inlined}))
        .collect();
    let sites: Vec<Value> = cluster
        .sites
        .iter()
        .map(|site| {
            json!({
                "pc": format!("{:#x}", site.pc), "call": site.call, "line": site.line.as_ref().map(|l| l.line),
                "map_type": site.map_type.as_deref(), "map": site.map.as_ref().map(|map| json!({"expr": map})),
                "key_expr": site.key_expr, "operation": site.kind.name(), "link": site.reach.name(),
                "followed": site.reach.is_followed(),
            })
        })
        .collect();
    json!({
        "id": id, "count": goids.len(), "state": cluster.state, "frames": frames,
        "created_by": cluster.created_by, "goids": goids, "score": cluster.score.total(),
        "class": cluster.score.class().name(), "idle": cluster.idle, "terms": terms_json(cluster), "sites": sites,
    })
}
