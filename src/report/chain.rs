//! The verdict, and the chain of one cluster: key -> lookup -> value -> wait.

use super::{duration, goroutines, wall};
use crate::evidence::join::{Class, Cluster, Evidence, Frame, Identity, Limit, SameProcess, Site, StateSource};
use crate::goroutine::lookup::Verdict;

/// One link of the chain.
pub struct Step {
    pub title: &'static str,
    /// What is known, or that it is not.
    pub text: String,
    /// Where it is known from, or why it is not.
    pub source: String,
    pub known: bool,
}

/// The verdict in one sentence.
pub fn verdict(evidence: &Evidence) -> String {
    let Some(top) = evidence.clusters.first() else { return "The files hold no goroutine.".to_string() };
    let place = top.place().map(|frame| format!(" in {}", place(frame))).unwrap_or_default();
    let count = goroutines(top.count);
    let waits = if top.count == 1 { "waits" } else { "wait" };
    match (top.class, top.nil_channel) {
        (Class::LikelyKeyMismatch, true) => {
            format!("{count} {waits} for ever on a nil channel{place}: likely a map lookup with a key that is not in the map.")
        }
        (Class::LikelyKeyMismatch, false) => {
            format!("{count} {waits} for ever{place} ({}): likely a key mismatch.", top.state)
        }
        (Class::LeakSuspect, true) => {
            format!("{count} {waits} for ever on a nil channel{place}: a leak, perhaps after a map lookup that found nothing.")
        }
        (Class::LeakSuspect, false) => format!("{count} {waits}{place} ({}): a leak is suspected.", top.state),
        (Class::Waiting, _) => {
            let all = evidence.clusters.iter().fold(0u64, |sum, cluster| sum.saturating_add(cluster.count));
            format!(
                "No leak stands out: {} in {} places, none with enough against it.",
                goroutines(all),
                evidence.clusters.len()
            )
        }
    }
}

/// The finding of the join: lookups followed by a wait without end.
pub fn finding(evidence: &Evidence) -> Option<String> {
    let found: Vec<_> = evidence.goroutines.iter().filter_map(|g| Some((g, g.windows.last()?))).collect();
    let (goroutine, window) = found.iter().min_by_key(|(_, window)| window.block.saturating_sub(window.lookup))?;
    let (count, verb) = (goroutines(found.len() as u64), if found.len() == 1 { "was" } else { "were" });
    let gap = duration(window.block.saturating_sub(window.lookup));
    Some(format!(
        "{count} {verb} seen in a map lookup and then blocked without end; goroutine {} blocked {gap} after {}.",
        goroutine.goid, window.function
    ))
}

/// `main.consume (main.go:10)`.
pub fn place(frame: &Frame) -> String {
    let file = frame.file.rsplit('/').next().unwrap_or_default();
    match (frame.function.as_str(), file) {
        ("", "") => "an unknown function".to_string(),
        (function, "") => function.to_string(),
        (function, file) => format!("{function} ({file}:{})", frame.line),
    }
}

/// What is known of the clocks, one sentence each.
pub fn clocks(evidence: &Evidence) -> Vec<String> {
    let alignment = &evidence.alignment;
    let mut told = Vec::new();
    match (alignment.wall, alignment.window) {
        (Some((first, last, residual)), _) => told.push(format!(
            "The trace runs from {} to {} (±{}, by {}).",
            wall(first),
            wall(last),
            duration(i64::try_from(residual).unwrap_or(i64::MAX)),
            alignment.wall_source.replace('_', " ")
        )),
        (None, Some((first, last))) => {
            let span = duration(last.saturating_sub(first));
            told.push(format!("The trace runs for {span}; its wall clock time is not known."));
        }
        (None, None) => {}
    }
    let since_start = |at: i64| alignment.mono.map(|(first, ..)| at.saturating_sub(first));
    if let Some(now) = alignment.now {
        let text = |bound: Option<(i64, &str)>, word: &str| {
            let (at, why) = bound?;
            Some(format!("{word} {} after the trace began ({why})", duration(since_start(at)?)))
        };
        let bounds = [text(now.low, "not before"), text(now.high.filter(|high| Some(*high) != now.low), "not after")];
        let bounds: Vec<String> = bounds.into_iter().flatten().collect();
        if !bounds.is_empty() {
            told.push(format!("The memory was taken {}.", bounds.join(", ")));
        }
        if let Some(residual) = now.residual {
            let apart = duration(i64::try_from(residual).unwrap_or(i64::MAX));
            told.push(format!("The wall clocks of trace and memory lie {apart} apart."));
        }
    }
    for taken in &alignment.profiles {
        let from = |at: i64| alignment.window.map(|(first, _)| duration(at.saturating_sub(first)));
        let bounds = [
            taken.low.and_then(from).map(|at| format!("not before {at}")),
            taken.high.and_then(from).map(|at| format!("not after {at}")),
        ];
        let bounds: Vec<String> = bounds.into_iter().flatten().collect();
        if !bounds.is_empty() {
            told.push(format!("{} was taken {} of trace time, as its goroutines tell.", taken.id, bounds.join(", ")));
        }
    }
    told
}

/// What is known of whether the sources are of one process, one sentence for each pair.
pub fn identities(evidence: &Evidence) -> Vec<String> {
    let sentence = |one: &Identity| match one.verdict {
        SameProcess::Same => format!("{} and {} are of one process: {}.", one.a, one.b, one.sign),
        SameProcess::Different => {
            format!("{} and {} are of different processes or builds: {}.", one.a, one.b, one.sign)
        }
        SameProcess::NotTold => {
            format!("{} and {}: nothing tells for certain that they are of one process; {}.", one.a, one.b, one.sign)
        }
    };
    evidence.identities.iter().map(sentence).collect()
}

/// The chain of cluster number `at`.
pub fn steps(evidence: &Evidence, at: usize, cluster: &Cluster) -> [Step; 4] {
    if let Some(key) = given_key(evidence, cluster) {
        return [key, lookup(evidence, at, cluster), value(evidence, at, cluster), wait(evidence, at, cluster)];
    }
    if let Some(key) = looked_up_key(cluster) {
        return [key, lookup(evidence, at, cluster), value(evidence, at, cluster), wait(evidence, at, cluster)];
    }
    if let Some(held) = cluster.held.first() {
        let more = cluster.held.len().saturating_sub(1);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = format!("{} in {}{more}", held.key, held.map);
        let source = format!("d1: the {} entry that holds what it waits on (the stored key)", held.map_type);
        let key = Step { title: "key", text, source, known: true };
        return [key, lookup(evidence, at, cluster), value(evidence, at, cluster), wait(evidence, at, cluster)];
    }
    let lost = cluster.lookup.as_ref().and_then(|looked| looked.lost.as_ref().map(|why| format!("d1: {why}")));
    let keys = evidence.limits.iter().find(|limit| limit.is_of_keys());
    let key = Step {
        title: "key",
        text: "not known".to_string(),
        source: lost.or(keys.map(Limit::to_string)).unwrap_or_default(),
        known: false,
    };
    [key, lookup(evidence, at, cluster), value(evidence, at, cluster), wait(evidence, at, cluster)]
}

/// The key that the user gave, for a cluster that it explains.
fn given_key(evidence: &Evidence, cluster: &Cluster) -> Option<Step> {
    let map = evidence.map.as_ref().filter(|_| cluster.nil_channel)?;
    let (key, near) = map.missed_channel()?;
    let text = format!("{key} is not in {}; it holds {}", map.expression, near.key);
    Some(Step {
        title: "key",
        text,
        source: format!("{}; map and key as given by the user", near.relation),
        known: true,
    })
}

/// The key that memory still has, beside the stored one that it should have met.
fn looked_up_key(cluster: &Cluster) -> Option<Step> {
    let looked = cluster.lookup.as_ref()?;
    let key = looked.key.as_ref()?;
    let text = match (looked.missed(), looked.verdict) {
        (Some((_, near)), _) => format!("{key} is not in {}; it holds {}", looked.map, near.key),
        (None, Some(Verdict::Absent)) => format!("{key} is not in {}", looked.map),
        (None, Some(Verdict::Zero)) => format!("{key} is in {} with the zero value", looked.map),
        (None, Some(Verdict::Present)) => format!("{key} is in {}", looked.map),
        (None, None) => key.clone(),
    };
    let relation = looked.missed().map_or(String::new(), |(_, near)| format!("{}; ", near.relation));
    let guessed = if looked.inferred { ", its length inferred" } else { "" };
    let source = format!("{relation}d1: the key is read from {}{guessed}", looked.source.unwrap_or("memory"));
    Some(Step { title: "key", text, source, known: true })
}

fn lookup(evidence: &Evidence, at: usize, cluster: &Cluster) -> Step {
    let windows = evidence.members(at).flat_map(|g| g.windows.iter().map(move |window| (g.goid, window)));
    let title = "lookup";
    if let Some((goid, window)) =
        windows.min_by_key(|(_, window)| (window.site as u8, window.block.saturating_sub(window.lookup)))
    {
        let caller = window.caller.as_ref().map(|frame| format!(", called in {}", place(frame))).unwrap_or_default();
        let gap = duration(window.block.saturating_sub(window.lookup));
        let site = match window.site {
            Site::SameFunction => "in the function that waits",
            Site::Caller => "in a caller of the function that waits",
            Site::Other => "elsewhere",
        };
        let source = format!("CPU sample of goroutine {goid}, {gap} before it blocks, {site}");
        return Step { title, text: format!("{}{caller}", window.function), source, known: true };
    }
    if let Some(site) = cluster.sites.iter().max_by_key(|site| site.reach) {
        let at = site.at.as_ref().map(|frame| format!(" in {}", place(frame))).unwrap_or_default();
        let source = "d1: the machine code before the wait".to_string();
        return Step { title, text: format!("{}{at}, {}", site.operation(), site.reach.words()), source, known: true };
    }
    if let Some(function) = cluster.map_functions.first() {
        let source = "on the stack: caught inside a map operation".to_string();
        return Step { title, text: function.clone(), source, known: true };
    }
    let source = match cluster.nil_channel {
        true => "concluded from the nil channel only; no CPU sample shows the lookup",
        false => "no CPU sample of these goroutines is in a map function",
    };
    Step { title, text: "not seen".to_string(), source: source.to_string(), known: false }
}

fn value(evidence: &Evidence, at: usize, cluster: &Cluster) -> Step {
    let title = "value";
    if cluster.nil_channel {
        let source = match cluster.state_source {
            StateSource::Header => "the runtime's wait reason",
            StateSource::Trace => "the trace: blocked for ever in a channel operation",
            StateSource::Memory => "the runtime's wait reason, in memory",
            StateSource::Frames | StateSource::None => "the line of the runtime's channel code on the stack",
        };
        return Step { title, text: "nil channel".to_string(), source: source.to_string(), known: true };
    }
    let object = evidence.members(at).find_map(|g| g.memory.as_ref()?.blocked_on.as_ref());
    if let Some((kind, addresses)) = object {
        let at = addresses.first().map(|at| format!(" at {at:#x}")).unwrap_or_default();
        let stored = match cluster.held.as_slice() {
            [] => String::new(),
            [held] => format!(", stored in {}[{}]", held.map, held.key),
            [held, rest @ ..] => format!(", stored in {}[{}] and {} more entries", held.map, held.key, rest.len()),
        };
        return Step {
            title,
            text: format!("{kind}{at}{stored}"),
            source: "d1: the runtime's wait queue".to_string(),
            known: true,
        };
    }
    let source = "only a core or a process shows the object it waits on".to_string();
    Step { title, text: "not known".to_string(), source, known: false }
}

fn wait(evidence: &Evidence, at: usize, cluster: &Cluster) -> Step {
    let place = cluster.place().map(|frame| format!(" in {}", place(frame))).unwrap_or_default();
    let last = evidence.alignment.window.map(|(_, last)| last);
    let longest = evidence.members(at).filter_map(|g| g.trace.as_ref()?.since).min();
    let since = match (longest.zip(last), cluster.minutes) {
        (Some((since, last)), _) => {
            format!("; {} when the trace ends, and nothing woke it", duration(last.saturating_sub(since)))
        }
        (None, Some((_, most))) => format!("; for {most} minutes or more, as the garbage collector saw it"),
        (None, None) => String::new(),
    };
    let waited = evidence.members(at).filter_map(|g| evidence.waited(g)).max();
    let waited = waited.map(|(least, _)| format!("; at least {} when the memory was taken", duration(least)));
    let text = format!("{}{place}", cluster.state);
    let source = format!("{}{since}{}", cluster.sources.join(", "), waited.unwrap_or_default());
    Step { title: "wait", text, source, known: true }
}
