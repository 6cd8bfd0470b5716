//! How likely a group of goroutines is stuck on a map lookup that missed: a sum whose every term is shown. One table of
//! points, for what memory alone tells (`leaks`) and for all sources together (`evidence`, `audit`).

/// What speaks for or against, and by how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub id: &'static str,
    pub points: i32,
    /// The fact behind it, in words.
    pub because: String,
    /// Only near the wait in the code: nothing was followed from it to the wait.
    pub nearby: bool,
}

/// Least sums of the classes.
const LIKELY: i32 = 70;
const SUSPECT: i32 = 40;
/// The term that keeps a class from what is only near the wait.
const NEARBY_ONLY: &str = "only_nearby";

/// A sum of terms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    pub terms: Vec<Term>,
}

impl Score {
    /// Adds a term.
    pub fn add(&mut self, id: &'static str, points: i32, because: impl Into<String>) {
        self.terms.push(Term { id, points, because: because.into(), nearby: false });
    }

    /// Adds what is only near the wait in the code.
    fn add_nearby(&mut self, id: &'static str, points: i32, because: impl Into<String>) {
        self.terms.push(Term { id, points, because: because.into(), nearby: true });
    }

    /// Takes back what would make a class out of terms from which nothing was followed to the wait.
    fn settle(&mut self) {
        self.terms.retain(|term| term.id != NEARBY_ONLY);
        let sum = |terms: &mut dyn Iterator<Item = &Term>| terms.map(|term| term.points).sum::<i32>();
        let all = sum(&mut self.terms.iter());
        let followed = sum(&mut self.terms.iter().filter(|term| !term.nearby));
        let least = [LIKELY, SUSPECT].into_iter().find(|&least| followed < least && least <= all);
        if let Some(least) = least {
            self.add(NEARBY_ONLY, least - 1 - all, "what is only near the wait in the code makes no worse class");
        }
    }

    /// Adds a term in place of one of this kind that counts less; none beside one that counts as much.
    fn raise(&mut self, id: &'static str, points: i32, because: impl Into<String>) {
        if self.terms.iter().all(|term| term.id != id || term.points < points) {
            self.terms.retain(|term| term.id != id);
            self.add(id, points, because);
        }
    }

    fn has(&self, id: &str) -> bool {
        self.terms.iter().any(|term| term.id == id)
    }

    /// The sum, from 0 to 100.
    pub fn total(&self) -> i32 {
        self.terms.iter().map(|term| term.points).sum::<i32>().clamp(0, 100)
    }

    /// What the sum means.
    pub fn class(&self) -> Class {
        match self.total() {
            LIKELY.. => Class::LikelyKeyMismatch,
            SUSPECT.. => Class::LeakSuspect,
            _ => Class::Waiting,
        }
    }
}

/// What a score means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Waiting,
    LeakSuspect,
    LikelyKeyMismatch,
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

/// A map and one of its keys, as Go literals.
pub type Entry<'a> = (&'a str, &'a str);

/// A lookup that missed, and the stored key that it should have met.
pub struct Missed<'a> {
    pub map: &'a str,
    pub key: &'a str,
    pub stored: &'a str,
    pub relation: &'a str,
    pub detail: &'a str,
    /// The key is only likely to be that: its length, or whether its memory is still its own, is inferred.
    pub inferred: bool,
}

/// How a map operation in the code hangs together with the wait behind it, the closest last. The first two say no more
/// than where it is; nothing was followed from it to the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// In a function that called the one that waits, before that call.
    Caller,
    /// In the function that waits, before the wait.
    SameFunction,
    /// What it gave decided that the function waits; not on what.
    Decides,
    /// The wait is in a loop that what it gives ends.
    Until,
    /// What is waited on was stored by it.
    Stored,
    /// What is waited on is what it gave, or something else: both lead to the wait.
    Either,
    /// What is waited on is what it gave, or in it.
    Flow,
}

impl Reach {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Reach::Flow => "flow",
            Reach::Either => "either",
            Reach::Stored => "stored",
            Reach::Until => "until",
            Reach::Decides => "decides",
            Reach::SameFunction => "same_func",
            Reach::Caller => "caller",
        }
    }

    /// Whether the code was followed from the operation to the wait: to what is waited on, or to the end of its loop.
    pub fn is_followed(self) -> bool {
        self >= Reach::Until
    }

    /// For people, behind "map operation before the wait, ".
    pub fn words(self) -> &'static str {
        match self {
            Reach::Flow => "whose result is waited on",
            Reach::Either => "whose result may be what is waited on",
            Reach::Stored => "which stored what is waited on",
            Reach::Until => "whose result ends the loop of the wait",
            Reach::Decides => "whose result decided to wait, not on what",
            Reach::SameFunction => "in the waiting function, with no link to what is waited on",
            Reach::Caller => "in a caller, with no link to what is waited on",
        }
    }
}

/// Facts of a cluster that count the same for each of its goroutines.
#[derive(Default)]
pub struct Facts<'a> {
    pub nil_channel: bool,
    /// The garbage collector said so, of how many.
    pub leaked: u64,
    pub count: u64,
    /// From the first profile to the last, where it grew and never shrank.
    pub growth: Option<u64>,
    pub minutes: Option<u64>,
    /// A map entry that holds what the goroutines wait on, or that all maps were searched and none does.
    pub held: Option<Entry<'a>>,
    pub in_no_map: bool,
    /// An entry whose key many lookups miss.
    pub odd_key: Option<(Entry<'a>, Odd)>,
    /// A map operation in the code before the wait.
    pub site: Option<(&'a str, Reach)>,
    /// A lookup before the wait whose key is like a stored one; of the operation in `site` if there is one.
    pub missed: Option<Missed<'a>>,
    /// A lookup that finds the zero value; of that operation too.
    pub zero: Option<Entry<'a>>,
    /// How the key that the user gave misses a stored one, in words.
    pub near: Option<String>,
    /// What only the whole of memory tells.
    pub clues: &'a [Clue],
    /// Why it is a wait that healthy programs have.
    pub idle: Option<&'a str>,
}

/// What the whole of memory and code tells of a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Clue {
    /// Nothing leads to what is waited on but those that wait.
    OnlyWaiters,
    /// Nothing leads there but those that wait and a map entry.
    OnlyEntry { map: String, key: String },
    /// Another goroutine is stuck because its lookup missed the entry.
    MissedBy { goid: u64, asked: String, map: String, key: String, relation: &'static str },
    /// Nothing but the entry leads there, and the same map has a key that the entry's is easily taken for.
    Twin { map: String, key: String, other: String, relation: &'static str },
    /// The code looks this map up with keys of another type than all that are stored.
    OtherType { map: String, stored: String, asked: String, at: String },
    /// A lock is held, but no goroutine that does not wait for it has the lock or its key.
    HeldByNobody,
    /// Another goroutine, which does not wait there, has what is waited on.
    OthersHaveIt,
    /// The wait is for a stored zero to change, and no other goroutine has the cond.
    ZeroAwaited { map: String, key: String },
}

impl Clue {
    fn add_to(&self, score: &mut Score) {
        match self {
            // The same fact as the collector's.
            Clue::OnlyWaiters if score.has("leaked") => {}
            Clue::OnlyWaiters => {
                score.add("only_waiters", 30, "no variable, no other goroutine and no object leads to what it waits on")
            }
            Clue::OnlyEntry { map, key } => {
                let why = "only by that entry can it be woken: nothing else leads to what it waits on";
                score.add("only_entry", 5, format!("{why} ({map}[{key}])"))
            }
            Clue::MissedBy { goid, asked, map, key, relation } => score.add(
                "missed_by_another",
                50,
                format!("goroutine {goid} looked up {asked} in {map}, missed {key} ({relation}) and is stuck itself"),
            ),
            Clue::Twin { map, key, other, relation } => {
                score.add("twin_key", 15, format!("{map} has {other} beside {key}: {relation}"))
            }
            Clue::OtherType { map, stored, asked, at } => score.add(
                "other_key_type",
                55,
                format!("{at} looks {map} up with a key of type {asked}; the key stored is a {stored}, and no code looks that up"),
            ),
            Clue::HeldByNobody => {
                score.add("held_by_nobody", 20, "it is locked, and no goroutine but those that wait has it or its key")
            }
            Clue::OthersHaveIt => {
                score.add("others_have_it", -15, "another goroutine, which does not wait for it, has what it waits on")
            }
            // That nobody can wake it counts once.
            Clue::ZeroAwaited { map, key } => score.add(
                "zero_awaited",
                if score.has("only_waiters") || score.has("leaked") { 10 } else { 20 },
                format!("it waits for {map}[{key}] to change, and no other goroutine has what would wake it"),
            ),
        }
    }
}

/// Terms of a cluster.
pub fn of_cluster(facts: &Facts<'_>) -> Score {
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
        // So waits who uses a sound registry too.
        Some((call, Reach::Flow | Reach::Either)) if facts.held.is_some() => {
            score.add("map_site", 5, format!("what it waits on is what {call} gave it, and is in a map still"))
        }
        Some((call, Reach::Flow)) => score.add("map_site", 15, format!("what it waits on is what {call} gave it")),
        Some((call, Reach::Either)) => score.add(
            "map_site",
            12,
            format!("what it waits on is what {call} gave it, or what was taken in its place"),
        ),
        Some((call, Reach::Stored)) => score.add("map_site", 10, format!("what it waits on was stored by {call}")),
        Some((call, Reach::Until)) => score.add("map_site", 10, format!("it waits until {call} gives something else")),
        Some((call, Reach::Decides)) => score.add_nearby(
            "map_site",
            6,
            format!(
                "what {call} gave decided that it waits; what it waits on came from elsewhere, or was not followed"
            ),
        ),
        Some((call, Reach::SameFunction)) => score.add_nearby(
            "map_site",
            4,
            format!("the function that waits calls {call} before; no link to what it waits on was found"),
        ),
        Some((call, Reach::Caller)) => score.add_nearby(
            "map_site",
            2,
            format!("a caller of the function that waits calls {call} before; no link to the wait was found"),
        ),
        None => {}
    }
    if let Some((map, key)) = facts.held {
        score.add("object_in_map", 10, format!("what it waits on is in {map}, under the key {key}"));
    } else if facts.in_no_map {
        score.add("object_in_no_map", 5, "what it waits on is in no map that was found");
    }
    if let Some(((map, key), odd)) = facts.odd_key {
        score.add("odd_key", odd.points(), format!("{map} holds the key {key}, {odd}"));
    }
    let followed = facts.site.is_none_or(|(_, reach)| reach.is_followed());
    match (&facts.missed, &facts.near) {
        (Some(Missed { map, key, stored, relation, detail, inferred }), _) => {
            let (points, guessed) = if *inferred { (12, ", inferred,") } else { (25, "") };
            let why = format!("{key}{guessed} is not in {map}, which holds {stored}: {relation} ({detail})");
            match followed {
                true => score.add("near_miss", points, why),
                false => score.add_nearby("near_miss", 5, format!("{why}; the lookup has no link to what it waits on")),
            }
        }
        (None, Some(near)) => score.add("near_miss", 12, near.clone()),
        (None, None) => {}
    }
    if let Some((map, key)) = facts.zero {
        let why = format!("{key} is in {map} with the zero value");
        match followed {
            true => score.add("zero_value", 10, why),
            false => score.add_nearby("zero_value", 2, why),
        }
    }
    facts.clues.iter().for_each(|clue| clue.add_to(&mut score));
    if let Some(why) = facts.idle {
        score.add("idle_pattern", -40, why);
    }
    score.settle();
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
    /// Where a CPU sample showed a map lookup.
    pub site: Option<Reach>,
}

/// Terms of one goroutine that waits at the end of the trace, on top of its cluster's.
pub fn of_goroutine(cluster: &Score, facts: &TraceFacts) -> Score {
    let mut score = cluster.clone();
    if facts.window > 0 && i128::from(facts.waits) * 10 >= i128::from(facts.window) * 8 {
        score.add("no_waker", 10, "nothing in the trace wakes it, and it waits for most of the trace");
    }
    let minutes = u64::try_from(facts.waits / 60_000_000_000).unwrap_or_default();
    if let Some(points) = step(minutes, [1, 10, 60]) {
        score.raise("block_age", points, format!("waits for {minutes} minutes in the trace"));
    }
    // The code before the wait may have told already.
    match facts.site.filter(|_| !cluster.has("map_site")) {
        Some(Reach::Caller) => {
            score.add_nearby("map_site", 3, "a CPU sample shows a map operation in a caller before the wait")
        }
        Some(_) => {
            score.add_nearby("map_site", 8, "a CPU sample shows a map operation in the function that then waits")
        }
        None => {}
    }
    if facts.wakes >= 3 {
        score.add(
            "regular_wakes",
            -20,
            format!("was woken {} times before: this wait may be one of many", facts.wakes),
        );
    }
    score.settle();
    score
}

/// 5, 10 or 15 points for reaching the first, second or third step.
fn step(value: u64, steps: [u64; 3]) -> Option<i32> {
    let reached = steps.iter().filter(|&&at| value >= at).count();
    (reached > 0).then_some(reached as i32 * 5)
}

/// Why lookups miss a stored key easily.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Odd {
    /// There is a NaN in it.
    Nan,
    /// It is a text with white space around it.
    Spaced,
}

impl Odd {
    fn points(self) -> i32 {
        match self {
            Odd::Nan => 25,
            Odd::Spaced => 12,
        }
    }
}

impl std::fmt::Display for Odd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Odd::Nan => "a key that no lookup finds and no delete removes",
            Odd::Spaced => "a key with white space around it, which a trimmed key misses",
        })
    }
}

/// Why a wait is one that healthy programs have, as far as its state and its functions tell.
pub fn idle_pattern(state: &str, functions: &[&str]) -> Option<&'static str> {
    let on_stack = |name: &str| functions.iter().any(|function| function.starts_with(name));
    if on_stack("os/signal.") {
        return Some("waits for signals");
    }
    if state == "IO wait" || state == "network" {
        return Some("waits for the network or a file");
    }
    if state == "sleep" || on_stack("time.Sleep") {
        return Some("waits for a timer");
    }
    if !functions.is_empty() && functions.iter().all(|function| function.starts_with("runtime.")) {
        return Some("is the runtime's own");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts<'a>() -> Facts<'a> {
        Facts { nil_channel: true, count: 8, ..Facts::default() }
    }

    #[test]
    fn the_terms_add_up_and_the_total_stays_between_0_and_100() {
        let all = Facts { leaked: 9, count: 5000, growth: Some(7), minutes: Some(70), ..facts() };
        let score = of_cluster(&all);
        let points: Vec<_> = score.terms.iter().map(|term| (term.id, term.points)).collect();
        assert_eq!(points, [("nil_chan", 35), ("leaked", 30), ("cluster_size", 15), ("growth", 10), ("block_age", 15)]);
        assert_eq!((score.total(), score.class()), (100, Class::LikelyKeyMismatch));
        let idle = Facts { nil_channel: false, idle: idle_pattern("IO wait", &["net.accept"]), ..facts() };
        assert_eq!((of_cluster(&idle).total(), of_cluster(&idle).class()), (0, Class::Waiting));
    }

    #[test]
    fn the_trace_knows_the_age_of_a_wait_better_than_the_profile() {
        let cluster = of_cluster(&Facts { minutes: Some(1), ..facts() });
        let trace = TraceFacts { waits: 11 * 60_000_000_000, window: 12 * 60_000_000_000, wakes: 0, site: None };
        let ages: Vec<_> = of_goroutine(&cluster, &trace).terms.into_iter().filter(|t| t.id == "block_age").collect();
        assert_eq!(ages.len(), 1);
        assert_eq!(ages[0].points, 10);
        let short = TraceFacts { waits: 1, window: 100, wakes: 5, site: Some(Reach::SameFunction) };
        assert_eq!(
            of_goroutine(&Score::default(), &short).terms.iter().map(|t| t.points).collect::<Vec<_>>(),
            [8, -20]
        );
    }
}
