//! What is kept of the hits when they are gone: totals and the most frequent keys and callers, in bounded memory.

use rustc_hash::FxHashMap;

/// Totals of one watch.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Operations seen.
    pub hits: u64,
    /// Those whose key was in the map.
    pub found: u64,
    /// Those whose key was not.
    pub missed: u64,
    /// Keys by number of operations.
    pub keys: Frequent,
    /// Keys by number of misses.
    pub missing: Frequent,
    /// Callers by number of operations.
    pub callers: Frequent,
}

impl Summary {
    /// An empty summary that remembers up to `capacity` keys and callers.
    pub fn new(capacity: usize) -> Summary {
        let frequent = || Frequent::new(capacity);
        Summary { hits: 0, found: 0, missed: 0, keys: frequent(), missing: frequent(), callers: frequent() }
    }

    /// Counts an operation; `found` is `None` when nobody looked, `key` when the operation has none.
    pub fn add(&mut self, key: Option<&str>, found: Option<bool>, caller: &str) {
        self.hits += 1;
        match found {
            Some(true) => self.found += 1,
            Some(false) => self.missed += 1,
            None => {}
        }
        if let Some(key) = key {
            self.keys.add(key);
            if found == Some(false) {
                self.missing.add(key);
            }
        }
        self.callers.add(caller);
    }
}

/// The most frequent of a stream of texts, counted in bounded memory.
///
/// Counts are exact until more than `capacity` different texts have come. Then rare ones are forgotten, and a text
/// that comes (again) starts from the highest count forgotten: a count is never too low, and at most
/// [`Frequent::error`] too high (the space-saving algorithm of Metwally, Agrawal and El Abbadi, 2005, evicting in bulk).
#[derive(Debug, Clone)]
pub struct Frequent {
    counts: FxHashMap<Box<str>, u64>,
    capacity: usize,
    forgotten: u64,
}

impl Frequent {
    /// Remembers up to `capacity` texts exactly.
    pub fn new(capacity: usize) -> Frequent {
        Frequent { counts: FxHashMap::default(), capacity: capacity.max(1), forgotten: 0 }
    }

    /// Counts one.
    pub fn add(&mut self, text: &str) {
        if let Some(count) = self.counts.get_mut(text) {
            *count += 1;
            return;
        }
        self.counts.insert(text.into(), self.forgotten + 1);
        if self.counts.len() > self.capacity.saturating_mul(2) {
            self.forget_rare();
        }
    }

    /// The `n` most frequent with their counts, most frequent first; of equals the first by text.
    pub fn top(&self, n: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<(&str, u64)> = self.counts.iter().map(|(text, count)| (&**text, *count)).collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        all.truncate(n);
        all
    }

    /// By how much a count may be too high; 0 while all are exact.
    pub fn error(&self) -> u64 {
        self.forgotten
    }

    fn forget_rare(&mut self) {
        let mut counts: Vec<u64> = self.counts.values().copied().collect();
        let middle = counts.len().saturating_sub(self.capacity);
        let (_, &mut limit, _) = counts.select_nth_unstable(middle);
        let mut equal_kept = self.capacity.saturating_sub(counts.iter().filter(|c| **c > limit).count());
        self.counts.retain(|_, count| {
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

    #[test]
    fn totals_tell_hits_misses_and_the_rest() {
        let mut summary = Summary::new(10);
        summary.add(Some("a"), Some(true), "main.f");
        summary.add(Some("b"), Some(false), "main.f");
        summary.add(Some("b"), Some(false), "main.g");
        summary.add(None, None, "main.g");
        assert_eq!((summary.hits, summary.found, summary.missed), (4, 1, 2));
        assert_eq!(summary.keys.top(9), [("b", 2), ("a", 1)]);
        assert_eq!(summary.missing.top(9), [("b", 2)]);
        assert_eq!(summary.callers.top(1), [("main.f", 2)]);
    }

    #[test]
    fn heavy_texts_survive_a_flood_of_rare_ones_within_the_stated_error() {
        let mut frequent = Frequent::new(50);
        for i in 0..100_000u32 {
            frequent.add(&format!("rare {i}"));
            if i % 10 == 0 {
                frequent.add("heavy");
            }
            assert!(frequent.counts.len() <= 100);
        }
        let (text, count) = frequent.top(1)[0];
        assert_eq!(text, "heavy");
        assert!(count >= 10_000 && count - frequent.error() <= 10_000, "{count} with error {}", frequent.error());
    }
}
