//! Which hits the kernel passes on: the filter expression of the event.
//!
//! The kernel compares numbers: the map, the goroutine, the map's type, a key's length and bytes. It may pass on more than
//! what is wanted, never less; the reader of the hits decides the rest.
//!
//! Source: Documentation/trace/events.rst, "Event filtering".

use super::functions::ProbePlan;
use super::tracefs::PointedKey;
use crate::value::{Demand, TextLength};
use std::collections::BTreeSet;

/// Bytes of an expression at most: the kernel takes one page of it (`perf_event_set_filter`, kernel/events/core.c).
const LONGEST: usize = 4000;
/// Parts of words at most; a probe may fetch 128 values in all.
const MOST_PARTS: usize = 32;

/// What a hit must be about; everything set must hold.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Address of the map.
    pub map: Option<u64>,
    /// Goroutine id.
    pub goroutine: Option<u64>,
    /// Demands on the key, when all maps that can pass have one key type.
    pub key: Vec<Demand>,
    /// The map types known to be unwanted, or wanted with some keys only.
    pub types: Vec<TypeFilter>,
    /// Only operations that have a key.
    pub keyed: bool,
    /// No operations on a `sync.Map`.
    pub no_sync_map: bool,
    /// What a pointer to a key points at, when all maps that can pass have one key type.
    pub pointed: PointedKey,
}

/// One map type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeFilter {
    /// Run-time address of its descriptor.
    pub descriptor: u64,
    /// What its keys must be like; `None` when no operation on such a map is wanted.
    pub keys: Option<Vec<Demand>>,
}

/// Bits of a word of the key that are compared by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    pub word: usize,
    pub bit: usize,
    pub bits: usize,
}

impl Part {
    /// The name of its field.
    pub fn field(self) -> String {
        match self {
            Part { word, bit: 0, bits: 64 } => format!("w{word}"),
            Part { word, bit, bits } => format!("p{word}_{bit}_{bits}"),
        }
    }

    /// The part that a number of `size` bytes at `offset` is, when it lies in one word.
    fn of_number(offset: usize, size: usize) -> Option<Part> {
        (size > 0 && offset % 8 + size <= 8).then_some(Part { word: offset / 8, bit: offset % 8 * 8, bits: size * 8 })
    }

    /// The word `index` of a text, or as much of it as `bytes` has.
    fn of_text(index: usize, bytes: &[u8]) -> Part {
        Part { word: index, bit: 0, bits: bytes.len() * 8 }
    }
}

/// What the kernel was asked to decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expression {
    /// In the kernel's language; empty when all pass.
    pub text: String,
    /// Types that found room in it.
    pub types: usize,
}

impl Filters {
    /// What the kernel picks hits by, in words; `types` of the types found room. `None` when it passes on all.
    pub fn in_words(&self, types: usize) -> Option<String> {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.map.map(|_| "map".to_string()));
        words.extend(self.goroutine.map(|_| "goroutine".to_string()));
        match self.types.iter().filter(|ty| ty.keys.as_ref().is_none_or(|keys| !keys.is_empty())).count() {
            0 => {}
            all if all == types => words.push("map type".to_string()),
            all => words.push(format!("map type ({types} of {all} found room)")),
        }
        let keys = |ty: &TypeFilter| ty.keys.as_ref().is_some_and(|keys| !keys.is_empty());
        if !self.key.is_empty() || self.types.iter().any(keys) {
            words.push("length, beginning or number of the key".to_string());
        }
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// Parts of words that the expression compares, besides whole ones.
    pub(super) fn parts(&self, key_words: usize) -> BTreeSet<Part> {
        let mut parts = BTreeSet::new();
        let of_types = self.types.iter().filter_map(|ty| ty.keys.as_ref()).flatten();
        for demand in self.key.iter().chain(of_types) {
            match demand {
                Demand::Number { offset, size, .. } => parts.extend(Part::of_number(*offset, *size)),
                Demand::Text { start, .. } => {
                    parts.extend(start.chunks(8).enumerate().map(|(i, bytes)| Part::of_text(i, bytes)))
                }
            }
        }
        parts.into_iter().filter(|part| part.bits < 64 && part.word < key_words).take(MOST_PARTS).collect()
    }

    /// The expression for returns, of which the kernel knows only the goroutine.
    pub(super) fn of_returns(&self) -> String {
        self.goroutine.map_or(String::new(), |goroutine| format!("goid == {goroutine:#x}"))
    }

    /// The expression for the kernel, over the fields of [`super::tracefs::Fetches::definition`].
    ///
    /// `bias` is what the loader added to link-time addresses; `key_words` is how many words of a key are fetched: the
    /// reader of the hits compares the rest of a longer one.
    pub(super) fn expression(&self, plan: &ProbePlan, bias: u64, key_words: usize) -> Expression {
        let mut terms = Vec::new();
        let fields = [("m", self.map), ("goid", self.goroutine)];
        terms.extend(fields.iter().filter_map(|(field, wanted)| Some(format!("{field} == {:#x}", (*wanted)?))));
        for code in &plan.hidden {
            let (start, end) = (code.start.wrapping_add(bias), code.end.wrapping_add(bias));
            terms.push(format!("(c1 < {start:#x} || c1 >= {end:#x})"));
        }
        if self.no_sync_map {
            terms.push("t != 0x0".to_string());
        }
        let language = Language { parts: self.parts(key_words), key_words };
        terms.extend(self.key.iter().filter_map(|demand| language.demand(demand)));
        let mut text = terms.join(" && ");
        let mut types = 0;
        for ty in &self.types {
            let wanted =
                ty.keys.as_ref().map(|keys| keys.iter().filter_map(|d| language.demand(d)).collect::<Vec<_>>());
            let term = match wanted {
                None => format!("t != {:#x}", ty.descriptor),
                Some(keys) if keys.is_empty() => continue,
                Some(keys) => format!("(t != {:#x} || ({}))", ty.descriptor, keys.join(" && ")),
            };
            if text.len() + term.len() + 4 > LONGEST {
                continue;
            }
            text = if text.is_empty() { term } else { format!("{text} && {term}") };
            types += 1;
        }
        Expression { text, types }
    }
}

/// What can be said of a key with what is fetched of it.
struct Language {
    parts: BTreeSet<Part>,
    key_words: usize,
}

impl Language {
    fn can_compare(&self, part: Part) -> bool {
        part.word < self.key_words && (part.bits == 64 || self.parts.contains(&part))
    }

    fn demand(&self, demand: &Demand) -> Option<String> {
        match demand {
            Demand::Number { offset, size, ranges } => {
                let part = Part::of_number(*offset, *size).filter(|part| self.can_compare(*part))?;
                Some(in_ranges(&part.field(), ranges))
            }
            Demand::Text { offset, length, start } => {
                let header = Part { word: offset / 8 + 1, bit: 0, bits: 64 };
                let pointed = self.can_compare(header).then(|| in_length(&header.field(), *length));
                if *offset != 0 {
                    return pointed;
                }
                // A string in registers (kind 2) brings its text; of one behind a pointer (kind 1) there is the header.
                let mut terms = vec!["k == 2".to_string(), in_length("n", *length)];
                let words = start.chunks(8).enumerate().map(|(i, bytes)| (Part::of_text(i, bytes), bytes));
                let compared = words.filter(|(part, _)| self.can_compare(*part));
                terms.extend(compared.map(|(part, bytes)| format!("{} == {:#x}", part.field(), word(bytes))));
                let pointed = pointed.map_or("k == 1".to_string(), |term| format!("(k == 1 && {term})"));
                Some(format!("(({}) || {pointed} || k == 3)", terms.join(" && ")))
            }
        }
    }
}

/// That a field lies in one of the ranges.
fn in_ranges(field: &str, ranges: &[(u64, u64)]) -> String {
    let range = |&(low, high): &(u64, u64)| match low == high {
        true => format!("{field} == {low:#x}"),
        false => format!("({field} >= {low:#x} && {field} <= {high:#x})"),
    };
    match ranges {
        // No number is below zero.
        [] => format!("{field} < 0x0"),
        [only] => range(only),
        several => format!("({})", several.iter().map(range).collect::<Vec<_>>().join(" || ")),
    }
}

fn in_length(field: &str, length: TextLength) -> String {
    match length {
        TextLength { shortest, longest } if shortest == longest => format!("{field} == {shortest:#x}"),
        TextLength { shortest, longest: u64::MAX } => format!("{field} >= {shortest:#x}"),
        TextLength { shortest, longest } => format!("({field} >= {shortest:#x} && {field} <= {longest:#x})"),
    }
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
        ProbePlan {
            arch: Arch::Amd64,
            points: Vec::new(),
            wrappers: Vec::new(),
            hidden,
            returns: Vec::new(),
            zero: None,
            before_exec: None,
        }
    }

    fn text(filters: &Filters, key_words: usize) -> String {
        filters.expression(&plan(Vec::new()), 0, key_words).text
    }

    fn exactly(text: &[u8]) -> Demand {
        let length = text.len() as u64;
        Demand::Text { offset: 0, length: TextLength { shortest: length, longest: length }, start: text.to_vec() }
    }

    #[test]
    fn everything_passes_without_filters() {
        assert_eq!(text(&Filters::default(), 8), "");
    }

    #[test]
    fn all_that_is_set_must_hold() {
        let filters =
            Filters { map: Some(0xc000), goroutine: Some(7), key: vec![exactly(b"0123456789")], ..Filters::default() };
        let expression = filters.expression(&plan(std::iter::once(0x10..0x20).collect()), 0x1000, 8);
        assert_eq!(
            expression.text,
            "m == 0xc000 && goid == 0x7 && (c1 < 0x1010 || c1 >= 0x1020) && \
             ((k == 2 && n == 0xa && w0 == 0x3736353433323130 && p1_0_16 == 0x3938) || (k == 1 && w1 == 0xa) || k == 3)"
        );
    }

    #[test]
    fn a_key_longer_than_what_is_fetched_is_compared_as_far() {
        let filters = Filters { key: vec![exactly(&[1; 200])], ..Filters::default() };
        let word = 0x0101_0101_0101_0101u64;
        let expected = format!(
            "((k == 2 && n == 0xc8 && w0 == {word:#x} && w1 == {word:#x}) || (k == 1 && w1 == 0xc8) || k == 3)"
        );
        assert_eq!(text(&filters, 2), expected);
    }

    #[test]
    fn numbers_are_compared_where_they_lie() {
        let number = |offset, size, ranges| Demand::Number { offset, size, ranges };
        let of = |demand| text(&Filters { key: vec![demand], ..Filters::default() }, 2);
        assert_eq!(of(number(0, 8, vec![(5, 5)])), "w0 == 0x5");
        assert_eq!(of(number(4, 4, vec![(1, 3), (7, 7)])), "((p0_32_32 >= 0x1 && p0_32_32 <= 0x3) || p0_32_32 == 0x7)");
        assert_eq!(of(number(0, 1, vec![])), "p0_0_8 < 0x0", "nothing passes");
        assert_eq!(of(number(6, 4, vec![(1, 1)])), "", "a number that two words share is left to the reader");
        assert_eq!(of(number(16, 8, vec![(1, 1)])), "", "as is one behind what is fetched");
    }

    #[test]
    fn types_are_excluded_as_far_as_there_is_room() {
        let keys = Some(vec![Demand::Number { offset: 0, size: 8, ranges: vec![(1, 9)] }]);
        let mut types =
            vec![TypeFilter { descriptor: 0x50, keys }, TypeFilter { descriptor: 0x60, keys: Some(Vec::new()) }];
        types.push(TypeFilter { descriptor: 0x70, keys: None });
        let filters = Filters { types: types.clone(), no_sync_map: true, ..Filters::default() };
        let expression = filters.expression(&plan(Vec::new()), 0, 8);
        assert_eq!(expression.text, "t != 0x0 && (t != 0x50 || ((w0 >= 0x1 && w0 <= 0x9))) && t != 0x70");
        assert_eq!(expression.types, 2);
        types.extend((0..10_000).map(|i| TypeFilter { descriptor: 0x50_0000 + i * 64, keys: None }));
        let expression = Filters { types, ..Filters::default() }.expression(&plan(Vec::new()), 0, 8);
        assert!(expression.text.len() <= LONGEST && (150..400).contains(&expression.types), "{}", expression.types);
    }
}
