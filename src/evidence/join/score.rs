//! How likely a group of goroutines is stuck on a map lookup that missed: a sum whose every term is shown.

/// What speaks for or against, and by how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub id: &'static str,
    pub points: i32,
    /// The fact behind it, in words.
    pub because: String,
}

/// A sum of terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    pub terms: Vec<Term>,
}

impl Score {
    /// Adds a term.
    pub fn add(&mut self, id: &'static str, points: i32, because: impl Into<String>) {
        self.terms.push(Term { id, points, because: because.into() });
    }

    /// The sum, from 0 to 100.
    pub fn total(&self) -> i32 {
        self.terms.iter().map(|term| term.points).sum::<i32>().clamp(0, 100)
    }

    /// What the sum means.
    pub fn class(&self) -> Class {
        match self.total() {
            70.. => Class::LikelyKeyMismatch,
            40.. => Class::LeakSuspect,
            _ => Class::Waiting,
        }
    }
}

/// What a score means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    LikelyKeyMismatch,
    LeakSuspect,
    Waiting,
}

impl Class {
    /// A word for records.
    pub fn name(self) -> &'static str {
        match self {
            Class::LikelyKeyMismatch => "likely_key_mismatch",
            Class::LeakSuspect => "leak_suspect",
            Class::Waiting => "waiting",
        }
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Class::LikelyKeyMismatch => "likely key mismatch",
            Class::LeakSuspect => "leak suspect",
            Class::Waiting => "waiting",
        }
    }
}

/// Facts of a cluster that count the same for each of its goroutines.
pub struct ClusterFacts<'a> {
    pub nil_channel: bool,
    pub state: &'a str,
    pub leaked: u64,
    pub count: u64,
    /// From the first profile to the last, where it grew and never shrank.
    pub growth: Option<u64>,
    pub minutes: Option<u64>,
    /// A map entry that holds what the goroutines wait on, or that all maps were searched and none does.
    pub held: Option<&'a super::Held>,
    pub in_no_map: bool,
    /// An entry whose key many lookups miss.
    pub odd_key: Option<&'a super::Held>,
    /// A map operation in the code before the wait.
    pub site: Option<&'a super::MemorySite>,
    /// A lookup before the wait whose key is like a stored one.
    pub lookup: Option<&'a super::Looked>,
    /// A lookup that finds the zero value.
    pub zero: Option<&'a super::Looked>,
    /// How the key that the user gave misses a stored one, in words.
    pub near: Option<String>,
    /// Functions, innermost first.
    pub functions: &'a [&'a str],
}

/// Terms of a cluster.
pub fn of_cluster(facts: &ClusterFacts<'_>) -> Score {
    let mut score = Score::default();
    if facts.nil_channel {
        score.add("nil_chan", 35, "waits on a nil channel: what a map lookup that finds nothing gives for a channel");
    }
    if facts.leaked > 0 {
        score.add("leaked", 30, "the garbage collector found that nothing can wake it");
    }
    if let Some(points) = step(facts.count, [10, 100, 1000]) {
        score.add("cluster_size", points, format!("{} goroutines wait at the same place", facts.count));
    }
    if let Some(growth) = facts.growth {
        score.add("growth", 10, format!("grew by {growth} over the profiles and never shrank"));
    }
    if let Some(points) = facts.minutes.and_then(|minutes| step(minutes, [1, 10, 60])) {
        let minutes = facts.minutes.unwrap_or_default();
        score.add("block_age", points, format!("waits for {minutes} minutes or more, as the garbage collector saw it"));
    }
    match facts.site {
        Some(site) if site.flows => {
            score.add("map_site", 15, format!("what it waits on is what {} gave it", site.call))
        }
        Some(site) if site.same_function => {
            score.add("map_site", 8, format!("the function that waits calls {} before", site.call))
        }
        Some(site) => {
            score.add("map_site", 3, format!("a caller of the function that waits calls {} before", site.call))
        }
        None => {}
    }
    if let Some(held) = facts.held {
        score.add("object_in_map", 10, format!("what it waits on is in {}, under the key {}", held.map, held.key));
    } else if facts.in_no_map {
        score.add("object_in_no_map", 5, "what it waits on is in no map that package variables lead to");
    }
    if let Some(odd) = facts.odd_key {
        let (points, why) = match odd.key.as_str() {
            "NaN" => (25, "which no lookup finds"),
            _ => (12, "with white space around it, which a trimmed key misses"),
        };
        score.add("odd_key", points, format!("{} holds the key {}, {why}", odd.map, odd.key));
    }
    match (facts.lookup.and_then(|looked| Some((looked, looked.missed()?))), &facts.near) {
        (Some((looked, (key, near))), _) => {
            let (points, guessed) = if looked.inferred { (12, ", its length inferred,") } else { (25, "") };
            let (map, relation) = (&looked.map, near.relation);
            let why = format!("{key}{guessed} is not in {map}, which holds {}: {relation} ({})", near.key, near.detail);
            score.add("near_miss", points, why);
        }
        (None, Some(near)) => score.add("near_miss", 12, near.clone()),
        (None, None) => {}
    }
    if let Some((looked, key)) = facts.zero.and_then(|looked| Some((looked, looked.key.as_ref()?))) {
        score.add("zero_value", 10, format!("{key} is in {} with the zero value", looked.map));
    }
    if let Some(why) = idle_pattern(facts) {
        score.add("idle_pattern", -40, why);
    }
    score
}

/// Facts of one goroutine in the trace.
pub struct TraceFacts {
    /// How long it waits at the end of the trace, ns; at least, if it began before.
    pub waits: i64,
    /// Length of the trace, ns.
    pub window: i64,
    /// Often woken before, so that this wait is likely one of many.
    pub wakes: u64,
    pub site: Option<super::Site>,
}

/// Terms of one goroutine that waits at the end of the trace, on top of its cluster's.
pub fn of_goroutine(cluster: &Score, facts: &TraceFacts) -> Score {
    let mut score = cluster.clone();
    if facts.window > 0 && i128::from(facts.waits) * 10 >= i128::from(facts.window) * 8 {
        score.add("no_waker", 10, "nothing in the trace wakes it, and it waits for most of the trace");
    }
    let minutes = u64::try_from(facts.waits / 60_000_000_000).unwrap_or_default();
    if let Some(points) = step(minutes, [1, 10, 60]) {
        let known = score.terms.iter().position(|term| term.id == "block_age");
        if known.is_none_or(|at| score.terms.get(at).is_some_and(|term| term.points < points)) {
            known.map(|at| score.terms.remove(at));
            score.add("block_age", points, format!("waits for {minutes} minutes in the trace"));
        }
    }
    // The code before the wait may have told already.
    match facts.site.filter(|_| !cluster.terms.iter().any(|term| term.id == "map_site")) {
        Some(super::Site::SameFunction) => {
            score.add("map_site", 8, "a CPU sample shows a map lookup in the function that then waits")
        }
        Some(super::Site::Caller) => {
            score.add("map_site", 3, "a CPU sample shows a map lookup in a caller before the wait")
        }
        Some(super::Site::Other) | None => {}
    }
    if facts.wakes >= 3 {
        score.add(
            "regular_wakes",
            -20,
            format!("was woken {} times before: this wait may be one of many", facts.wakes),
        );
    }
    score
}

/// 5, 10 or 15 points for reaching the first, second or third step.
fn step(value: u64, steps: [u64; 3]) -> Option<i32> {
    let reached = steps.iter().filter(|&&at| value >= at).count();
    (reached > 0).then_some(reached as i32 * 5)
}

/// Whether lookups miss this stored key easily: NaN, or a quoted key with white space around it.
pub fn is_odd(key: &str) -> bool {
    let text = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
    key == "NaN" || text.is_some_and(|text| text.trim() != text)
}

/// Why a wait is one that healthy programs have.
fn idle_pattern(facts: &ClusterFacts<'_>) -> Option<&'static str> {
    let on_stack = |name: &str| facts.functions.iter().any(|function| function.starts_with(name));
    if on_stack("os/signal.signal_recv") {
        return Some("waits for signals");
    }
    if facts.state == "IO wait" || facts.state == "network" {
        return Some("waits for the network or a file");
    }
    if facts.state == "sleep" || on_stack("time.Sleep") {
        return Some("sleeps");
    }
    if !facts.functions.is_empty() && facts.functions.iter().all(|function| function.starts_with("runtime.")) {
        return Some("belongs to the runtime");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>(functions: &'a [&'a str]) -> ClusterFacts<'a> {
        ClusterFacts {
            nil_channel: true,
            state: "chan receive (nil chan)",
            leaked: 0,
            count: 8,
            growth: None,
            minutes: None,
            held: None,
            in_no_map: false,
            odd_key: None,
            site: None,
            lookup: None,
            zero: None,
            near: None,
            functions,
        }
    }

    #[test]
    fn the_terms_add_up_and_the_total_stays_between_0_and_100() {
        let all = ClusterFacts { leaked: 9, count: 5000, growth: Some(7), minutes: Some(70), ..facts(&["main.f"]) };
        let score = of_cluster(&all);
        let points: Vec<_> = score.terms.iter().map(|term| (term.id, term.points)).collect();
        assert_eq!(points, [("nil_chan", 35), ("leaked", 30), ("cluster_size", 15), ("growth", 10), ("block_age", 15)]);
        assert_eq!((score.total(), score.class()), (100, Class::LikelyKeyMismatch));
        let idle = ClusterFacts { nil_channel: false, state: "IO wait", count: 1, ..facts(&["net.(*netFD).accept"]) };
        assert_eq!((of_cluster(&idle).total(), of_cluster(&idle).class()), (0, Class::Waiting));
    }

    #[test]
    fn the_trace_knows_the_age_of_a_wait_better_than_the_profile() {
        let cluster = of_cluster(&ClusterFacts { minutes: Some(1), ..facts(&["main.f"]) });
        let trace = TraceFacts { waits: 11 * 60_000_000_000, window: 12 * 60_000_000_000, wakes: 0, site: None };
        let ages: Vec<_> = of_goroutine(&cluster, &trace).terms.into_iter().filter(|t| t.id == "block_age").collect();
        assert_eq!(ages.len(), 1);
        assert_eq!(ages[0].points, 10);
        let short = TraceFacts { waits: 1, window: 100, wakes: 5, site: Some(super::super::Site::SameFunction) };
        assert_eq!(
            of_goroutine(&Score::default(), &short).terms.iter().map(|t| t.points).collect::<Vec<_>>(),
            [8, -20]
        );
    }
}
