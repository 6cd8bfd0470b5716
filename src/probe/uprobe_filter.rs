//! Which hits the kernel passes on: the filter expression of the event.
//!
//! Source: Documentation/trace/events.rst, "Event filtering".

use super::functions::ProbePlan;
use super::tracefs::PointedKey;

/// What a hit must be about; everything set must hold.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Address of the map.
    pub map: Option<u64>,
    /// Address of the map's type descriptor; hits on a `sync.Map` have none and do not pass.
    pub map_type: Option<u64>,
    /// Goroutine id.
    pub goroutine: Option<u64>,
    /// The key.
    pub key: Option<KeyFilter>,
    /// What a pointer to a key points at, when all maps that can pass have one key type.
    pub pointed: PointedKey,
}

/// A key to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFilter {
    /// Its bytes in memory; for keys without pointers in them.
    Bytes(Vec<u8>),
    /// The text of a string key.
    String(Vec<u8>),
}

impl KeyFilter {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            KeyFilter::Bytes(bytes) | KeyFilter::String(bytes) => bytes,
        }
    }

    /// How many of the 8 bytes of word `word` belong to the key; `None` behind its end.
    pub(super) fn bytes_in_word(&self, word: usize) -> Option<usize> {
        let left = self.bytes().len().checked_sub(word.checked_mul(8)?)?;
        (left > 0).then(|| left.min(8))
    }
}

impl Filters {
    /// The expression for the kernel, over the fields of [`super::tracefs::Fetches::definition`]; empty when all pass.
    ///
    /// `bias` is what the loader added to link-time addresses; `key_words` is how many words of a key are fetched: a longer key is compared
    /// by these, and the reader of the hits compares the rest.
    pub(super) fn expression(&self, plan: &ProbePlan, bias: u64, key_words: usize) -> String {
        let mut terms = Vec::new();
        let fields = [("m", self.map), ("t", self.map_type), ("goid", self.goroutine)];
        terms.extend(fields.iter().filter_map(|(field, wanted)| Some(format!("{field} == {:#x}", (*wanted)?))));
        for code in &plan.hidden {
            let (start, end) = (code.start.wrapping_add(bias), code.end.wrapping_add(bias));
            terms.push(format!("(c1 < {start:#x} || c1 >= {end:#x})"));
        }
        terms.extend(self.key.as_ref().map(|key| key_expression(key, key_words)));
        terms.join(" && ")
    }
}

/// The key's words, and for a string its length; interfaces are left to the reader.
fn key_expression(key: &KeyFilter, key_words: usize) -> String {
    let mut terms = match key {
        KeyFilter::Bytes(_) => Vec::new(),
        KeyFilter::String(text) => vec![format!("n == {:#x}", text.len())],
    };
    let words = key.bytes().chunks(8).enumerate().take(key_words);
    terms.extend(words.map(|(i, chunk)| format!("w{i} == {:#x}", word(chunk))));
    if terms.is_empty() {
        terms.push("m >= 0".to_string());
    }
    format!("(open == 1 || ({}))", terms.join(" && "))
}

/// Up to 8 bytes as a little-endian number.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::functions::Arch;
    use super::*;

    fn plan(hidden: Vec<std::ops::Range<u64>>) -> ProbePlan {
        ProbePlan { arch: Arch::Amd64, points: Vec::new(), wrappers: Vec::new(), hidden }
    }

    #[test]
    fn everything_passes_without_filters() {
        assert_eq!(Filters::default().expression(&plan(Vec::new()), 0, 8), "");
    }

    #[test]
    fn all_that_is_set_must_hold() {
        let filters = Filters {
            map: Some(0xc000),
            goroutine: Some(7),
            key: Some(KeyFilter::String(b"0123456789".to_vec())),
            ..Filters::default()
        };
        assert_eq!(
            filters.expression(&plan(std::iter::once(0x10..0x20).collect()), 0x1000, 8),
            "m == 0xc000 && goid == 0x7 && (c1 < 0x1010 || c1 >= 0x1020) && \
             (open == 1 || (n == 0xa && w0 == 0x3736353433323130 && w1 == 0x3938))"
        );
    }

    #[test]
    fn a_key_longer_than_what_is_fetched_is_compared_as_far() {
        let filters = Filters { key: Some(KeyFilter::Bytes(vec![1; 200])), ..Filters::default() };
        let expression = filters.expression(&plan(Vec::new()), 0, 2);
        assert_eq!(expression, "(open == 1 || (w0 == 0x101010101010101 && w1 == 0x101010101010101))");
    }

    #[test]
    fn the_empty_string_is_a_key() {
        let filters = Filters { key: Some(KeyFilter::String(Vec::new())), ..Filters::default() };
        assert_eq!(filters.expression(&plan(Vec::new()), 0, 8), "(open == 1 || (n == 0x0))");
    }
}
