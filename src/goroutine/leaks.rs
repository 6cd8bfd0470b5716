//! Clusters of goroutines that are stuck alike, scored; every term of a score is kept.

use super::code::{Code, Line};
use super::holders::{holders, Holder, Holders};
use super::{list, Blocked, Goroutine, Goroutines};
use crate::error::Watch;
use crate::layout::goroutine::LEAKED;
use crate::session::Session;
use crate::types::TypeSource;
use crate::Result;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// One term of a score.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub id: &'static str,
    pub points: i32,
}

/// A map operation before the wait, in the waiting function or a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Address of the call instruction.
    pub pc: u64,
    /// The runtime function called, e.g. `runtime.mapaccess1_faststr`.
    pub call: String,
    /// Where that is in the source.
    pub line: Option<Line>,
    /// The map type given to it, where the machine code says so.
    pub map_type: Option<Arc<str>>,
    /// Whether the waiting function itself has the call, not a caller of it.
    pub same_function: bool,
}

/// How much a cluster looks like a leak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    LikelyKeyMismatch,
    LeakSuspect,
    Waiting,
}

impl Class {
    /// 70 and more, 40 and more, less.
    fn of(score: i32) -> Class {
        match score {
            70.. => Class::LikelyKeyMismatch,
            40.. => Class::LeakSuspect,
            _ => Class::Waiting,
        }
    }

    /// The name in the JSON record.
    pub fn name(self) -> &'static str {
        match self {
            Class::LikelyKeyMismatch => "likely_key_mismatch",
            Class::LeakSuspect => "leak_suspect",
            Class::Waiting => "waiting",
        }
    }
}

/// Goroutines with the same state, stack and creator.
#[derive(Debug)]
pub struct Cluster {
    pub state: String,
    /// The frames without the runtime's parking.
    pub frames: Vec<Line>,
    pub created_by: Option<String>,
    /// Indices into the goroutines listed.
    pub members: Vec<usize>,
    pub sites: Vec<Site>,
    pub score: i32,
    pub terms: Vec<Term>,
    pub class: Class,
    /// The known idle pattern that it is, in words.
    pub idle: Option<&'static str>,
}

/// All clusters, worst first, and what they were made of.
pub struct Leaks {
    pub goroutines: Goroutines,
    pub holders: Holders,
    pub clusters: Vec<Cluster>,
}

impl Leaks {
    /// The map entries that hold what a goroutine waits on.
    pub fn held_by(&self, goroutine: &Goroutine) -> Vec<&Holder> {
        let addresses = goroutine.blocked_on.as_ref().map(Blocked::addresses).unwrap_or_default();
        addresses.iter().filter_map(|address| self.holders.of.get(address)).flatten().collect()
    }
}

/// User frames whose code is searched for map operations.
const SITE_FRAMES: usize = 4;
/// Longest function searched.
const MAX_FUNCTION: u64 = 1 << 20;
/// Instruction bytes before a call in which its arguments are set up.
const ARGUMENTS: usize = 64;

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
    let mut code = Code::of(session)?;
    let mut leaks = Leaks { goroutines, holders, clusters: Vec::new() };
    let mut clusters = Vec::new();
    for ((state, frames, created_by), members) in groups {
        let Some(first) = members.first().and_then(|&i| leaks.goroutines.all.get(i)) else { continue };
        let sites = sites(session, &mut code, first);
        let for_signals = || leaks.held_by(first).iter().any(|holder| holder.map.starts_with("os/signal."));
        let idle = idle_pattern(first).or_else(|| for_signals().then_some("waits for signals"));
        let terms = terms(&leaks, &members, &sites, idle);
        let score = terms.iter().map(|term| term.points).sum::<i32>().clamp(0, 100);
        let class = Class::of(score);
        clusters.push(Cluster { state, frames, created_by, members, sites, score, terms, class, idle });
    }
    clusters.sort_by_key(|cluster| (std::cmp::Reverse(cluster.score), cluster.members.first().copied()));
    leaks.clusters = clusters;
    Ok(leaks)
}

fn is_parking(func: &str) -> bool {
    func.starts_with("runtime.") || func.starts_with("sync.runtime_") || func.starts_with("internal/sync.runtime_")
}

fn terms(leaks: &Leaks, members: &[usize], sites: &[Site], idle: Option<&'static str>) -> Vec<Term> {
    let goroutines = || members.iter().filter_map(|&i| leaks.goroutines.all.get(i));
    let mut terms = Vec::new();
    let mut add = |id, points| terms.push(Term { id, points });
    if goroutines().any(|g| matches!(g.blocked_on, Some(Blocked::NilChan))) {
        add("nil_chan", 35);
    }
    if goroutines().any(|g| g.status == LEAKED) {
        add("leaked_says_the_collector", 30);
    }
    match members.len() {
        1000.. => add("cluster_of_1000", 15),
        100.. => add("cluster_of_100", 10),
        10.. => add("cluster_of_10", 5),
        _ => {}
    }
    match sites.iter().map(|site| site.same_function).max() {
        Some(true) => add("map_site_in_same_function", 8),
        Some(false) => add("map_site_in_caller", 3),
        None => {}
    }
    let held: Vec<&Holder> = goroutines().flat_map(|g| leaks.held_by(g)).collect();
    let has_object = goroutines().any(|g| g.blocked_on.as_ref().is_some_and(|blocked| !blocked.addresses().is_empty()));
    if !held.is_empty() {
        add("object_in_a_map", 10);
    } else if has_object && leaks.holders.maps > 0 && leaks.holders.limits.is_empty() {
        add("object_in_no_map_scanned", 5);
    }
    if held.iter().any(|holder| holder.key == "NaN") {
        add("stored_key_is_nan", 25);
    } else if held.iter().any(|holder| has_outer_space(&holder.key)) {
        add("stored_key_has_outer_space", 12);
    }
    if idle.is_some() {
        add("known_idle_pattern", -40);
    }
    terms
}

/// Whether a quoted key starts or ends with white space, which a trimmed one never meets.
pub fn has_outer_space(key: &str) -> bool {
    let text = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    text.is_some_and(|text| text.trim() != text)
}

/// Waits that every healthy program has.
fn idle_pattern(goroutine: &Goroutine) -> Option<&'static str> {
    let has = |start: &str| goroutine.lines().any(|(_, line)| line.func.starts_with(start));
    let timer = match &goroutine.blocked_on {
        Some(Blocked::Chan { channel, .. }) => channel.timer,
        Some(Blocked::Select(cases)) => cases.iter().any(|case| case.channel.timer),
        Some(Blocked::Timer { .. }) => true,
        _ => false,
    };
    if timer {
        return Some("waits for a timer");
    }
    if has("os/signal.") {
        return Some("waits for signals");
    }
    if matches!(goroutine.blocked_on, Some(Blocked::Poll { .. })) || goroutine.reason.as_deref() == Some("IO wait") {
        return Some("waits for input or output");
    }
    if goroutine.lines().all(|(_, line)| line.func.starts_with("runtime.")) {
        return Some("is the runtime's own");
    }
    None
}

/// Whether this runtime function is a map operation that takes the map type as its first argument.
fn is_map_operation(func: &str) -> bool {
    let rest = func.strip_prefix("runtime.map").or_else(|| func.strip_prefix("internal/runtime/maps.mapruntime_map"));
    rest.is_some_and(|rest| rest.starts_with("access") || rest.starts_with("assign") || rest.starts_with("delete"))
        || ["Load", "Store", "LoadOrStore", "LoadAndDelete", "Delete"]
            .iter()
            .any(|method| func.strip_prefix("sync.(*Map).") == Some(method))
}

/// The last map operation before the wait in each of the first user frames (amd64 only).
///
/// A call is recognised by its target: bytes that look like one and lead exactly to the entry of such a function.
fn sites(session: &Session, code: &mut Code<'_>, goroutine: &Goroutine) -> Vec<Site> {
    let mut found = Vec::new();
    if session.types.program().is_arm() {
        return found;
    }
    let frames = goroutine.stack.frames.iter().filter(|frame| {
        let func = frame.info.func();
        !["runtime.", "sync.", "internal/"].iter().any(|start| func.starts_with(start))
    });
    for (depth, frame) in frames.take(SITE_FRAMES).enumerate() {
        let len = frame.pc.saturating_sub(frame.info.entry);
        if len > MAX_FUNCTION {
            continue;
        }
        let Ok(bytes) = session.memory.bytes(frame.info.entry, len as usize) else { continue };
        for at in memchr::memrchr_iter(0xe8, &bytes) {
            let Some(target) = relative(&bytes, at + 1, frame.info.entry) else { continue };
            let Some(info) = code.at(target, false).filter(|info| info.entry == target) else { continue };
            if !is_map_operation(info.func()) {
                continue;
            }
            let pc = frame.info.entry + at as u64;
            let line = code.at(pc, false).and_then(|info| info.lines.first().cloned());
            let map_type = map_type(session, &bytes, at, frame.info.entry);
            found.push(Site { pc, call: info.func().to_string(), line, map_type, same_function: depth == 0 });
            break;
        }
    }
    found
}

/// Where the 32-bit displacement at `at` of code that starts at `entry` leads.
fn relative(bytes: &[u8], at: usize, entry: u64) -> Option<u64> {
    let displacement = i32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?);
    Some(entry.wrapping_add(at as u64 + 4).wrapping_add(displacement as i64 as u64))
}

/// The map type that the last `LEAQ type(RIP), AX` before the call at `call` loads.
fn map_type(session: &Session, bytes: &[u8], call: usize, entry: u64) -> Option<Arc<str>> {
    const LEA_AX: [u8; 3] = [0x48, 0x8d, 0x05];
    let start = call.saturating_sub(ARGUMENTS);
    let at = memchr::memmem::rfind(bytes.get(start..call)?, &LEA_AX)?;
    let descriptor = relative(bytes, start + at + 3, entry)?;
    let ty = session.types.load(session.types.by_descriptor(descriptor).ok()?).ok()?;
    matches!(ty.shape, crate::types::Shape::Map(_)).then(|| ty.name.clone())
}
