//! What a pattern demands of a key's own bytes, for somebody who can only compare numbers: the kernel's filters.

/// One demand; a key that does not meet it does not match the pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Demand {
    /// The little-endian number of `size` bytes (1, 2, 4 or 8) at `offset` lies in one of these ranges, ends included.
    Number { offset: usize, size: usize, ranges: Vec<(u64, u64)> },
    /// The string whose header is at `offset` has a length in this range, and begins so.
    Text { offset: usize, length: TextLength, start: Vec<u8> },
}

/// How many bytes a text has, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextLength {
    pub shortest: u64,
    pub longest: u64,
}

/// What can be said of the texts that match a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TextBounds {
    pub length: TextLength,
    pub start: Vec<u8>,
}

impl TextBounds {
    /// Texts that equal `text`.
    pub fn exactly(text: &[u8]) -> TextBounds {
        let length = text.len() as u64;
        TextBounds { length: TextLength { shortest: length, longest: length }, start: text.to_vec() }
    }

    /// Texts that hold `text` somewhere.
    pub fn containing(text: &str) -> TextBounds {
        let shortest = text.len() as u64;
        TextBounds { length: TextLength { shortest, longest: u64::MAX }, start: Vec::new() }
    }

    /// Texts that a glob matches: `*` is any bytes, `?` one character.
    pub fn of_glob(glob: &str) -> TextBounds {
        let start = glob.split(['*', '?']).next().unwrap_or_default().as_bytes().to_vec();
        let (mut shortest, mut longest) = (0u64, 0u64);
        for c in glob.chars() {
            let (least, most) = match c {
                '*' => (0, u64::MAX),
                '?' => (1, char::MAX.len_utf8() as u64),
                c => (c.len_utf8() as u64, c.len_utf8() as u64),
            };
            shortest += least;
            longest = longest.saturating_add(most);
        }
        TextBounds { length: TextLength { shortest, longest }, start }
    }
}

/// The values of `size` bytes, as unsigned numbers, of the integers from `low` to `high` that have that many.
pub(super) fn unsigned_ranges(low: i128, high: i128, size: usize, signed: bool) -> Vec<(u64, u64)> {
    let bits = 8 * size as u32;
    let (least, most) = match signed {
        true => (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1),
        false => (0, (1i128 << bits) - 1),
    };
    let (low, high) = (low.max(least), high.min(most));
    let wrapped = |value: i128| (value & ((1i128 << bits) - 1)) as u64;
    let parts = [(low, high.min(-1)), (low.max(0), high)];
    parts.into_iter().filter(|(low, high)| low <= high).map(|(low, high)| (wrapped(low), wrapped(high))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negative_numbers_are_the_high_ones() {
        assert_eq!(unsigned_ranges(5, 9, 8, true), [(5, 9)]);
        assert_eq!(unsigned_ranges(-2, 3, 4, true), [(0xffff_fffe, 0xffff_ffff), (0, 3)]);
        assert_eq!(unsigned_ranges(i128::MIN, -1, 1, true), [(0x80, 0xff)]);
        assert_eq!(unsigned_ranges(i128::MIN, 1000, 1, false), [(0, 255)]);
        assert_eq!(unsigned_ranges(10, i128::MAX, 8, true), [(10, i64::MAX as u64)]);
        assert_eq!(unsigned_ranges(0, i128::MAX, 8, false), [(0, u64::MAX)]);
        assert_eq!(unsigned_ranges(300, 400, 1, false), []);
    }

    #[test]
    fn a_glob_bounds_its_texts() {
        let bounds = TextBounds::of_glob("order-*é?");
        assert_eq!((bounds.start.as_slice(), bounds.length.shortest), (&b"order-"[..], 9));
        assert_eq!(bounds.length.longest, u64::MAX);
        let bounds = TextBounds::of_glob("?b");
        assert_eq!((bounds.start.len(), bounds.length), (0, TextLength { shortest: 2, longest: 5 }));
    }
}
