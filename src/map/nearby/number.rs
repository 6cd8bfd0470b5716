//! Numbers that are nearly equal.

use super::{Closeness, Relation};
use rapidfuzz::distance::osa;

/// The integer that was asked for.
pub struct Integer {
    pub value: i128,
    /// Width of its type.
    pub bits: u32,
    digits: osa::BatchComparator<u8>,
    length: usize,
    /// Integers whose digits in another base are these in base ten, or the other way round.
    other_bases: Vec<(i128, String)>,
}

/// Slips of a unit: seconds for milliseconds, bytes for kilobytes.
const FACTORS: [i128; 6] = [10, 100, 1000, 1024, 1_000_000, 1_000_000_000];
/// Differences up to this are near.
const NEAR: u128 = 16;

impl Integer {
    pub fn new(value: i128, bits: u32) -> Integer {
        let digits = value.to_string();
        let other_bases = other_bases(value);
        Integer { value, bits, length: digits.len(), digits: osa::BatchComparator::new(digits.bytes()), other_bases }
    }

    /// How near a different integer of the same type is.
    pub fn compare(&self, stored: i128, worst: u32, tell: bool) -> Option<Closeness> {
        let wanted = self.value;
        if stored == wanted {
            return None;
        }
        if self.bits == 64 && (wanted, stored) == (0, 1 << 63) {
            let detail = || "the bits of -0.0, where those of 0.0 were asked for".to_string();
            return Some(Closeness::new(Relation::SignedZero, 0, detail, tell));
        }
        if let Some(cut) = self.cut(stored, tell) {
            return Some(cut);
        }
        if stored == -wanted {
            return Some(Closeness::new(Relation::Numeric, 200, || format!("{stored} is {wanted} negated"), tell));
        }
        let gap = stored.abs_diff(wanted);
        if gap <= NEAR {
            let detail = || format!("{stored} = {wanted} {} {gap}", if stored > wanted { '+' } else { '-' });
            return Some(Closeness::new(Relation::Numeric, 210 + gap as u32, detail, tell));
        }
        if self.is_swapped(stored) {
            let detail = || format!("{stored:#x} is {wanted:#x} in the opposite byte order");
            return Some(Closeness::new(Relation::Numeric, 180, detail, tell));
        }
        if let Some(factor) = FACTORS.into_iter().find(|factor| is_multiple(wanted, stored, *factor)) {
            let detail = || match stored.abs() > wanted.abs() {
                true => format!("{stored} is {wanted} times {factor}"),
                false => format!("{stored} times {factor} is {wanted}"),
            };
            return Some(Closeness::new(Relation::Numeric, 230, detail, tell));
        }
        if let Some((_, how)) = self.other_bases.iter().find(|(other, _)| *other == stored) {
            return Some(Closeness::new(Relation::Numeric, 220, || how.clone(), tell));
        }
        const ONE_DIGIT: u32 = 240;
        (ONE_DIGIT <= worst && self.is_one_digit_off(stored)).then(|| {
            Closeness::new(Relation::Numeric, ONE_DIGIT, || format!("{stored} is one digit off {wanted}"), tell)
        })
    }

    /// One of the two is the other cut to 32, 16 or 8 bits.
    fn cut(&self, stored: i128, tell: bool) -> Option<Closeness> {
        [32u32, 16, 8].into_iter().filter(|&bits| bits < self.bits).find_map(|bits| {
            let cut = |whole: i128, part: i128| {
                let low = whole & ((1 << bits) - 1);
                let signed = low - if low >> (bits - 1) == 1 { 1 << bits } else { 0 };
                // Few bits are equal by chance too easily to be worth saying.
                let telling = bits == 32 || part.unsigned_abs() > 15;
                telling && whole != part && (low == part || signed == part)
            };
            let detail = || match cut(self.value, stored) {
                true => format!("{stored} is {} cut to {bits} bits", self.value),
                false => format!("{stored} becomes {} when cut to {bits} bits", self.value),
            };
            let is_cut = cut(self.value, stored) || cut(stored, self.value);
            // Among many keys, some end in the wanted bits by chance.
            let by_chance = if bits < 32 && !cut(self.value, stored) { 60 } else { 0 };
            is_cut.then(|| Closeness::new(Relation::Width, 150 + 2 * (32 - bits) + by_chance, detail, tell))
        })
    }

    fn is_swapped(&self, stored: i128) -> bool {
        if self.bits < 16 {
            return false;
        }
        let swap = |value: i128| (value as u64).swap_bytes() >> (64 - self.bits);
        let mask = u64::MAX >> (64 - self.bits);
        // Values that read the same both ways say nothing.
        swap(self.value) == stored as u64 & mask && self.value.unsigned_abs() > 255
    }

    fn is_one_digit_off(&self, stored: i128) -> bool {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(stored);
        if self.length < 3 || digits.len() < 3 || digits.len().abs_diff(self.length) > 1 {
            return false;
        }
        self.digits.distance_with_args(digits.bytes(), &osa::Args::default().score_cutoff(1)).is_some()
    }
}

/// 420 and 1604 for 644: file modes without their 0o, hex digits without their 0x.
fn other_bases(value: i128) -> Vec<(i128, String)> {
    const SMALLEST: i128 = 100;
    if value < SMALLEST {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (base, prefix, written) in [(8, "0o", format!("{value:o}")), (16, "0x", format!("{value:x}"))] {
        if let Ok(read) = i128::from_str_radix(&value.to_string(), base) {
            found.push((read, format!("{read} is {prefix}{value}")));
        }
        if let Ok(digits) = written.parse() {
            found.push((digits, format!("{value} is {prefix}{digits}")));
        }
    }
    found
}

fn is_multiple(a: i128, b: i128, factor: i128) -> bool {
    (a != 0 && b == a * factor) || (b != 0 && a == b * factor)
}

/// How near a float is to a wanted one; `None` when it is far, or equal in value and sign.
pub fn floats(wanted: f64, stored: f64, tell: bool) -> Option<Closeness> {
    if wanted.is_nan() && stored.is_nan() {
        let detail = || "NaN is not equal to itself: no lookup ever finds this entry".to_string();
        return Some(Closeness::new(Relation::Nan, 0, detail, tell));
    }
    let near = |relation, distance, detail: &dyn Fn() -> String| Some(Closeness::new(relation, distance, detail, tell));
    if stored == wanted {
        let differ = stored.is_sign_negative() != wanted.is_sign_negative();
        let detail = || format!("{stored:?} is stored, {wanted:?} asked for: equal keys that print differently");
        return if differ { near(Relation::SignedZero, 0, &detail) } else { None };
    }
    if !wanted.is_finite() || !stored.is_finite() {
        let detail = || format!("{stored} is {wanted} negated");
        return if stored == -wanted { near(Relation::Numeric, 200, &detail) } else { None };
    }
    if wanted as f32 as f64 == stored || stored as f32 as f64 == wanted {
        return near(Relation::Width, 150, &|| format!("{stored:?} is {wanted:?} once either is rounded to a float32"));
    }
    if stored == -wanted {
        return near(Relation::Numeric, 200, &|| format!("{stored:?} is {wanted:?} negated"));
    }
    let gap = (stored - wanted).abs();
    if gap <= wanted.abs().max(stored.abs()) * 1e-9 {
        return near(Relation::Numeric, 160, &|| format!("{stored:?} = {wanted:?} {:+e}", stored - wanted));
    }
    if wanted.round() == stored || wanted.trunc() == stored || stored.round() == wanted || stored.trunc() == wanted {
        return near(Relation::Numeric, 205, &|| format!("{stored:?} is {wanted:?} once either is rounded"));
    }
    match gap <= NEAR as f64 {
        true => near(Relation::Numeric, 210 + gap as u32, &|| format!("{stored:?} = {wanted:?} {:+}", stored - wanted)),
        false => None,
    }
}
