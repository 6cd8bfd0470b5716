//! What is kept of the hits when they are gone: totals and the most frequent keys and callers, in bounded memory.

use super::pairs::Outcome;
use rustc_hash::FxHashMap;
use std::hash::Hash;

/// Totals of one watch; keys are counted by what `K` says they are.
#[derive(Debug, Clone)]
pub struct Summary<K> {
    /// Operations seen: those found, missed, unknown and keyless together.
    pub hits: u64,
    /// Those whose key was in the map.
    pub found: u64,
    /// Those whose key was not.
    pub missed: u64,
    /// Those with a key of which that is not known.
    pub unknown: u64,
    /// Those that have no key.
    pub keyless: u64,
    /// Keys by number of operations.
    pub keys: Frequent<K>,
    /// Keys by number of reads that missed them.
    pub missing: Frequent<K>,
    /// Callers by number of operations.
    pub callers: Frequent<Box<str>>,
}

impl<K: Eq + Hash + Clone> Summary<K> {
    /// An empty summary that remembers up to `capacity` keys and callers.
    pub fn new(capacity: usize) -> Summary<K> {
        let (keys, missing, callers) = (Frequent::new(capacity), Frequent::new(capacity), Frequent::new(capacity));
        Summary { hits: 0, found: 0, missed: 0, unknown: 0, keyless: 0, keys, missing, callers }
    }

    /// Counts an operation; `outcome` is `None` when it has no key, `key`, what that is and how it is shown, when nobody knows it.
    pub fn add(&mut self, key: Option<(&K, &str)>, outcome: Option<Outcome>, is_read: bool, caller: &str) {
        self.hits += 1;
        self.callers.add(&caller.into(), caller);
        match outcome {
            Some(Outcome::Found) => self.found += 1,
            Some(Outcome::Missing) => self.missed += 1,
            Some(Outcome::Unknown) => self.unknown += 1,
            None => self.keyless += 1,
        }
        let Some((key, shown)) = key else { return };
        self.keys.add(key, shown);
        if outcome == Some(Outcome::Missing) && is_read {
            self.missing.add(key, shown);
        }
    }
}

/// The most frequent of a stream of things, counted in bounded memory; how each is shown is kept with it.
///
/// Counts are exact until more than `capacity` different ones have come. Then rare ones are forgotten, and one
/// that comes (again) starts from the highest count forgotten: a count is never too low, and at most
/// [`Frequent::error`] too high (the space-saving algorithm of Metwally, Agrawal and El Abbadi, 2005, evicting in bulk).
#[derive(Debug, Clone)]
pub struct Frequent<K> {
    counts: FxHashMap<K, (u64, Box<str>)>,
    capacity: usize,
    forgotten: u64,
}

/// One row of [`Frequent::top`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row<'f, K> {
    /// What was counted.
    pub of: &'f K,
    /// How it is shown; others may be shown alike.
    pub shown: &'f str,
    /// How often it came.
    pub count: u64,
}

impl<K: Eq + Hash + Clone> Frequent<K> {
    /// Remembers up to `capacity` exactly.
    pub fn new(capacity: usize) -> Frequent<K> {
        Frequent { counts: FxHashMap::default(), capacity: capacity.max(1), forgotten: 0 }
    }

    /// Counts one.
    pub fn add(&mut self, of: &K, shown: &str) {
        if let Some((count, _)) = self.counts.get_mut(of) {
            *count += 1;
            return;
        }
        self.counts.insert(of.clone(), (self.forgotten + 1, shown.into()));
        if self.counts.len() > self.capacity.saturating_mul(2) {
            self.forget_rare();
        }
    }

    /// The `n` most frequent, most frequent first; of equals the first as shown.
    pub fn top(&self, n: usize) -> Vec<Row<'_, K>> {
        let mut all: Vec<Row<'_, K>> =
            self.counts.iter().map(|(of, (count, shown))| Row { of, shown, count: *count }).collect();
        all.sort_unstable_by(|a, b| b.count.cmp(&a.count).then(a.shown.cmp(b.shown)));
        all.truncate(n);
        all
    }

    /// By how much a count may be too high; 0 while all are exact.
    pub fn error(&self) -> u64 {
        self.forgotten
    }

    fn forget_rare(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().map(|(count, _)| *count).collect();
        let middle = counts.len().saturating_sub(self.capacity);
        let (_, &mut limit, _) = counts.select_nth_unstable(middle);
        let mut equal_kept = self.capacity.saturating_sub(counts.iter().filter(|c| **c > limit).count());
        self.counts.retain(|_, (count, _)| {
            let keep_equal = *count == limit && equal_kept > 0;
            equal_kept -= usize::from(keep_equal);
            *count > limit || keep_equal
        });
        self.forgotten = self.forgotten.max(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<K: Eq + Hash + Clone>(frequent: &Frequent<K>, n: usize) -> Vec<(&str, u64)> {
        frequent.top(n).into_iter().map(|row| (row.shown, row.count)).collect()
    }

    #[test]
    fn totals_tell_hits_misses_and_the_rest() {
        let mut summary = Summary::new(10);
        summary.add(Some((&1, "a")), Some(Outcome::Found), true, "main.f");
        summary.add(Some((&2, "b")), Some(Outcome::Missing), true, "main.f");
        summary.add(Some((&2, "b")), Some(Outcome::Missing), false, "main.g");
        summary.add(Some((&2, "b")), Some(Outcome::Unknown), true, "main.g");
        summary.add(None, None, false, "main.g");
        summary.add(None, Some(Outcome::Found), false, "main.g");
        assert_eq!((summary.hits, summary.found, summary.missed, summary.unknown, summary.keyless), (6, 2, 2, 1, 1));
        assert_eq!(rows(&summary.keys, 9), [("b", 3), ("a", 1)]);
        assert_eq!(rows(&summary.missing, 9), [("b", 1)], "an assignment misses nothing");
        assert_eq!(rows(&summary.callers, 1), [("main.g", 4)]);
    }

    #[test]
    fn what_is_shown_alike_is_counted_apart() {
        let mut frequent = Frequent::new(10);
        for key in [b"alpha", b"omega", b"omega"] {
            frequent.add(key, "long…");
        }
        assert_eq!(rows(&frequent, 9), [("long…", 2), ("long…", 1)]);
    }

    #[test]
    fn heavy_ones_survive_a_flood_of_rare_ones_within_the_stated_error() {
        let mut frequent = Frequent::new(50);
        for i in 0..100_000u32 {
            frequent.add(&i, "rare");
            if i % 10 == 0 {
                frequent.add(&u32::MAX, "heavy");
            }
            assert!(frequent.counts.len() <= 100);
        }
        let (text, count) = rows(&frequent, 1)[0];
        assert_eq!(text, "heavy");
        assert!(count >= 10_000 && count - frequent.error() <= 10_000, "{count} with error {}", frequent.error());
    }
}
