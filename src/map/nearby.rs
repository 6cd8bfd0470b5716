//! Near misses: stored keys that look like the one asked for but are not, each with the reason.

use super::keys::Keys;
use crate::types::{GoType, Kind, Shape, TypeSource};
use crate::Result;
use byteorder::{ByteOrder, LittleEndian as LE};
use caseless::Caseless;
use rapidfuzz::distance::osa;
use std::collections::BinaryHeap;
use unicode_normalization::UnicodeNormalization;

/// Why a key is nearly, but not, another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    Nan,
    DynamicType,
    Pointee,
    Whitespace,
    UnicodeForm,
    Invisible,
    Case,
    Homoglyph,
    SignedZero,
    Width,
    Numeric,
    StructField,
    EditDistance,
    Affix,
    ZeroValue,
}

impl Relation {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Relation::Nan => "nan",
            Relation::DynamicType => "dynamic-type",
            Relation::Pointee => "pointee",
            Relation::Whitespace => "whitespace",
            Relation::UnicodeForm => "unicode-form",
            Relation::Invisible => "invisible",
            Relation::Case => "case",
            Relation::Homoglyph => "homoglyph",
            Relation::SignedZero => "signed-zero",
            Relation::Width => "width",
            Relation::Numeric => "numeric",
            Relation::StructField => "struct-field",
            Relation::EditDistance => "edit-distance",
            Relation::Affix => "affix",
            Relation::ZeroValue => "zero-value",
        }
    }
}

/// A stored key near the one asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Near {
    /// Smaller is nearer.
    pub score: u32,
    /// The reason.
    pub relation: Relation,
    /// The exact difference.
    pub detail: String,
    /// The stored key's bytes; its pointers are valid in the target's memory.
    pub key: Vec<u8>,
}

/// What a comparison of two values found.
struct Hit {
    score: u32,
    relation: Relation,
    detail: String,
}

fn hit(score: u32, relation: Relation, detail: impl Into<String>) -> Option<Hit> {
    Some(Hit { score, relation, detail: detail.into() })
}

/// Values nested deeper than this are not compared.
const MAX_NEST: usize = 8;
/// Strings longer than this are compared by prefix only: nobody mistypes a megabyte.
const MAX_TEXT: usize = 4 << 10;

/// Keeps the nearest keys of a stream.
pub struct NearMisses<'n> {
    keys: &'n Keys<'n>,
    types: &'n dyn TypeSource,
    ty: &'n GoType,
    wanted: &'n [u8],
    /// Prepared once when the key is a string.
    text: Option<Wanted>,
    limit: usize,
    best: BinaryHeap<Near>,
}

impl<'n> NearMisses<'n> {
    /// Looks for keys near the one whose bytes are `wanted`; at most `limit` are kept.
    pub fn new(
        keys: &'n Keys<'n>,
        types: &'n dyn TypeSource,
        ty: &'n GoType,
        wanted: &'n [u8],
        limit: usize,
    ) -> Result<NearMisses<'n>> {
        let text = match ty.kind {
            Kind::String => Some(Wanted::new(&keys.text(wanted)?)),
            _ => None,
        };
        Ok(NearMisses { keys, types, ty, wanted, text, limit, best: BinaryHeap::new() })
    }

    /// Compares one stored key, which is not equal to the wanted one.
    pub fn offer(&mut self, stored: &[u8]) {
        let found = match &self.text {
            Some(text) => self.keys.text(stored).ok().and_then(|stored| text.relate(&stored)),
            None => self.relate(self.ty, self.wanted, stored, MAX_NEST),
        };
        let Some(Hit { score, relation, detail }) = found else { return };
        let full = self.best.len() >= self.limit;
        if full && self.best.peek().is_some_and(|worst| (worst.score, &worst.detail) <= (score, &detail)) {
            return;
        }
        self.best.push(Near { score, relation, detail, key: stored.to_vec() });
        if self.best.len() > self.limit {
            self.best.pop();
        }
    }

    /// The nearest keys, best first.
    pub fn finish(self) -> Vec<Near> {
        self.best.into_sorted_vec()
    }

    fn relate(&self, ty: &GoType, wanted: &[u8], stored: &[u8], nest: usize) -> Option<Hit> {
        let nest = nest.checked_sub(1)?;
        let size = ty.size as usize;
        let (wanted, stored) = (wanted.get(..size)?, stored.get(..size)?);
        match (&ty.shape, ty.kind) {
            (_, Kind::String) => Wanted::new(&self.keys.text(wanted).ok()?).relate(&self.keys.text(stored).ok()?),
            (Shape::Interface { .. }, _) => self.relate_dynamic(ty, wanted, stored, nest),
            (Shape::Pointer(Some(elem)), _) => {
                let (a, b) = (LE::read_u64(wanted), LE::read_u64(stored));
                if a == b || a == 0 || b == 0 {
                    return None;
                }
                let elem = self.types.load(*elem).ok()?;
                let (a_bytes, b_bytes) = (self.keys.bytes(a, elem.size).ok()?, self.keys.bytes(b, elem.size).ok()?);
                let equal = self.keys.equal(&elem, &a_bytes, &b_bytes).unwrap_or(a_bytes == b_bytes);
                let detail = || {
                    format!("another {} at {b:#x}, not {a:#x}: pointers are equal only when they point to the same variable", elem.name)
                };
                if equal {
                    return hit(60, Relation::Pointee, detail());
                }
                let inner = self.relate(&elem, &a_bytes, &b_bytes, nest)?;
                hit(
                    400 + inner.score,
                    Relation::Pointee,
                    format!("{}; what they point to differs too: {}", detail(), inner.detail),
                )
            }
            (Shape::Struct(fields), _) => {
                let named = fields.iter().filter(|f| &*f.name != "_");
                self.relate_parts(named.map(|f| (format!(".{}", f.name), f.offset, f.ty)), wanted, stored, nest)
            }
            (Shape::Array { elem, len }, _) if *len <= 1 << 12 => {
                let stride = self.types.load(*elem).ok()?.size;
                self.relate_parts((0..*len).map(|i| (format!("[{i}]"), i * stride, *elem)), wanted, stored, nest)
            }
            (_, Kind::Float32 | Kind::Float64 | Kind::Complex64 | Kind::Complex128) => {
                relate_floats(&floats(ty.kind, wanted), &floats(ty.kind, stored))
            }
            (_, kind) if kind.is_signed() || kind.is_unsigned() => relate_integers(kind, wanted, stored),
            _ => None,
        }
    }

    /// Structs and arrays: near when few parts differ, and each of these differs a little or it is just one.
    fn relate_parts(
        &self,
        parts: impl Iterator<Item = (String, u64, crate::types::TypeId)>,
        wanted: &[u8],
        stored: &[u8],
        nest: usize,
    ) -> Option<Hit> {
        let (mut equal, mut details, mut score, mut unlike) = (0, Vec::new(), 0, 0);
        for (name, offset, id) in parts {
            let ty = self.types.load(id).ok()?;
            let (a, b) = (wanted.get(offset as usize..)?, stored.get(offset as usize..)?);
            if self.keys.equal(&ty, a, b).unwrap_or(false) {
                equal += 1;
                continue;
            }
            match self.relate(&ty, a, b, nest) {
                Some(inner) => {
                    score += inner.score;
                    details.push(format!("{name} ({}): {}", inner.relation.name(), inner.detail));
                }
                None => {
                    unlike += 1;
                    details.push(format!("{name} differs"));
                }
            }
        }
        let different = details.len() as u32;
        if different == 0 || unlike > 1 || (unlike == 1 && equal == 0) || different > 3 {
            return None;
        }
        hit(200 + score + 300 * unlike + 50 * different, Relation::StructField, details.join("; "))
    }

    /// Interfaces: the same value under another dynamic type, or the same type with a near value.
    fn relate_dynamic(&self, ty: &GoType, wanted: &[u8], stored: &[u8], nest: usize) -> Option<Hit> {
        let a = self.keys.dynamic_of(ty, wanted).ok()?;
        let b = self.keys.dynamic_of(ty, stored).ok()?;
        let ((a_type, a), (b_type, b)) = match (a, b) {
            (Some(a), Some(b)) => (a, b),
            (None, Some((b_type, b))) if b.iter().all(|&byte| byte == 0) => {
                return hit(
                    700,
                    Relation::ZeroValue,
                    format!("a zero {} is stored, a nil interface was asked for", b_type.name),
                )
            }
            (Some((a_type, a)), None) if a.iter().all(|&byte| byte == 0) => {
                return hit(
                    700,
                    Relation::ZeroValue,
                    format!("a nil interface is stored, a zero {} was asked for", a_type.name),
                )
            }
            _ => return None,
        };
        if a_type.name == b_type.name {
            return self.relate(&a_type, &a, &b, nest);
        }
        let types = format!("stored is of type {}, asked for is of type {}", b_type.name, a_type.name);
        if let (Kind::String, Kind::String) = (a_type.kind, b_type.kind) {
            let (a, b) = (self.keys.text(&a).ok()?, self.keys.text(&b).ok()?);
            if a == b {
                return hit(20, Relation::DynamicType, format!("the same text, but {types}"));
            }
            let inner = Wanted::new(&a).relate(&b)?;
            return hit(500 + inner.score, Relation::DynamicType, format!("{types}; and {}", inner.detail));
        }
        if let (Some(a), Some(b)) = (Number::of(&a_type, &a), Number::of(&b_type, &b)) {
            return a
                .same(&b)
                .then_some(())
                .and_then(|()| hit(20, Relation::DynamicType, format!("the same number, but {types}")));
        }
        if let Some((text, number)) = self.text_and_number((&a_type, &a), (&b_type, &b)) {
            let same = text.trim().parse::<f64>().is_ok_and(|parsed| number.as_float() == parsed);
            return same
                .then_some(())
                .and_then(|()| hit(90, Relation::DynamicType, format!("the same number, but {types}")));
        }
        if let Shape::Pointer(Some(elem)) = b_type.shape {
            if elem == a_type.id && self.pointee_equals(&a_type, &b, &a) {
                return hit(60, Relation::Pointee, format!("{types}, and it points to an equal value"));
            }
        }
        if let Shape::Pointer(Some(elem)) = a_type.shape {
            if elem == b_type.id && self.pointee_equals(&b_type, &a, &b) {
                return hit(60, Relation::Pointee, format!("{types}, and it points to an equal value"));
            }
        }
        let alike = a_type.kind == b_type.kind && a_type.size == b_type.size;
        let same = alike
            && matches!(a_type.shape, Shape::Struct(_) | Shape::Array { .. } | Shape::Plain)
            && (a == b || self.keys.equal(&a_type, &a, &b).unwrap_or(false));
        same.then_some(()).and_then(|()| hit(30, Relation::DynamicType, format!("the same value, but {types}")))
    }

    fn text_and_number(&self, a: (&GoType, &[u8]), b: (&GoType, &[u8])) -> Option<(String, Number)> {
        let (text, number) = match (a.0.kind, b.0.kind) {
            (Kind::String, _) => (self.keys.text(a.1).ok()?, Number::of(b.0, b.1)?),
            (_, Kind::String) => (self.keys.text(b.1).ok()?, Number::of(a.0, a.1)?),
            _ => return None,
        };
        Some((String::from_utf8(text).ok()?, number))
    }

    fn pointee_equals(&self, ty: &GoType, pointer: &[u8], value: &[u8]) -> bool {
        let Some(address) = pointer.get(..8).map(LE::read_u64).filter(|&address| address != 0) else { return false };
        let pointee = self.keys.bytes(address, ty.size);
        pointee.is_ok_and(|pointee| self.keys.equal(ty, &pointee, value).unwrap_or(false))
    }
}

/// A number of any kind.
enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    fn of(ty: &GoType, bytes: &[u8]) -> Option<Number> {
        match ty.kind {
            kind if kind.is_signed() || kind.is_unsigned() => integer(kind, bytes).map(Number::Integer),
            Kind::Float32 | Kind::Float64 => floats(ty.kind, bytes).first().copied().map(Number::Float),
            _ => None,
        }
    }

    fn as_float(&self) -> f64 {
        match self {
            Number::Integer(value) => *value as f64,
            Number::Float(value) => *value,
        }
    }

    fn same(&self, other: &Number) -> bool {
        match (self, other) {
            (Number::Integer(a), Number::Integer(b)) => a == b,
            _ => self.as_float() == other.as_float(),
        }
    }
}

fn integer(kind: Kind, bytes: &[u8]) -> Option<i128> {
    let len = bytes.len();
    if !(1..=8).contains(&len) {
        return None;
    }
    Some(match kind.is_signed() {
        true => LE::read_int(bytes, len) as i128,
        false => LE::read_uint(bytes, len) as i128,
    })
}

fn floats(kind: Kind, bytes: &[u8]) -> Vec<f64> {
    match kind {
        Kind::Float32 | Kind::Complex64 => bytes.chunks_exact(4).map(|b| LE::read_f32(b) as f64).collect(),
        _ => bytes.chunks_exact(8).map(LE::read_f64).collect(),
    }
}

fn relate_floats(wanted: &[f64], stored: &[f64]) -> Option<Hit> {
    let has_nan = |values: &[f64]| values.iter().any(|value| value.is_nan());
    if has_nan(wanted) {
        return has_nan(stored)
            .then_some(())
            .and_then(|()| hit(0, Relation::Nan, "NaN is not equal to NaN, so this entry can never be found"));
    }
    let near = wanted.iter().zip(stored).all(|(a, b)| a == b || (a - b).abs() <= 1e-6 * a.abs().max(b.abs()));
    if !near {
        return None;
    }
    let narrow = wanted.iter().zip(stored).all(|(&a, &b)| a as f32 == b as f32);
    let difference: Vec<String> = wanted.iter().zip(stored).map(|(a, b)| format!("{:e}", b - a)).collect();
    match narrow {
        true => hit(
            150,
            Relation::Width,
            format!("equal as float32; the stored one is greater by {}", difference.join(", ")),
        ),
        false => hit(180, Relation::Numeric, format!("the stored one is greater by {}", difference.join(", "))),
    }
}

fn relate_integers(kind: Kind, wanted: &[u8], stored: &[u8]) -> Option<Hit> {
    let (a, b) = (integer(kind, wanted)?, integer(kind, stored)?);
    let bits = 8 * wanted.len() as u32;
    if bits == 64 && (a == 0 || b == 0) && (a ^ b) as u64 == 1 << 63 {
        return hit(100, Relation::SignedZero, "these are the bits of +0 and -0, which are equal as float64");
    }
    if a == -b {
        return hit(170, Relation::Numeric, format!("{b} has the other sign"));
    }
    for width in [8, 16, 32] {
        let mask = (1i128 << width) - 1;
        let truncated = a & mask == b || b & mask == a || (a & mask == b & mask && (a < 0) != (b < 0));
        if width < bits && truncated && a.abs().max(b.abs()) >= 1 << (width - 1) {
            return hit(140, Relation::Width, format!("{b} and {a} are equal in their low {width} bits"));
        }
    }
    let step = b - a;
    if step.abs() == 1 {
        return hit(250, Relation::Numeric, format!("{b} is {} by 1", if step > 0 { "greater" } else { "smaller" }));
    }
    if wanted.len() > 1 && a != 0 && b != 0 && (a == b.swap_bytes() >> (128 - bits)) {
        return hit(160, Relation::Numeric, format!("{b} has its bytes in the other order"));
    }
    for power in [10, 100, 1000, 1_000_000, 1_000_000_000] {
        if a != 0 && (a == b * power || b == a * power) {
            return hit(300, Relation::Numeric, format!("{b} differs by a factor of {power}"));
        }
    }
    let (a, b) = (a.to_string(), b.to_string());
    let distance = osa::distance(a.bytes(), b.bytes());
    let enough = a.len().min(b.len()) >= 4 && distance == 1;
    enough
        .then_some(())
        .and_then(|()| hit(350, Relation::Numeric, format!("{b} differs in one digit, or in the order of two")))
}

/// The text asked for, in every form that it is compared in.
struct Wanted {
    text: String,
    /// Not UTF-8: only its bytes can be compared.
    raw: Option<Vec<u8>>,
    folded: String,
    nfc: String,
    nfkc: String,
    visible: String,
    skeleton: String,
    squashed: String,
    comparator: osa::BatchComparator<char>,
    chars: usize,
    letters: u64,
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
        || (c.is_control() && !c.is_whitespace())
}

fn without(text: &str, dropped: fn(char) -> bool) -> String {
    text.chars().filter(|&c| !dropped(c)).collect()
}

/// All that a reader's eye overlooks taken away: forms, case, white space, invisible characters, look-alikes.
fn squash(text: &str) -> String {
    let plain = text.chars().filter(|&c| !c.is_whitespace() && !is_invisible(c));
    let folded: String = plain.nfkc().default_case_fold().nfkc().collect();
    unicode_security::skeleton(&folded).collect()
}

fn fold(text: &str) -> String {
    text.chars().default_case_fold().collect()
}

/// Which letters a text has: a bit for each of 64 classes.
fn letters(text: &[u8]) -> u64 {
    text.iter().fold(0, |set, &byte| set | 1 << (byte & 63))
}

impl Wanted {
    fn new(bytes: &[u8]) -> Wanted {
        let cut = &bytes[..bytes.len().min(MAX_TEXT)];
        let text = String::from_utf8_lossy(cut).into_owned();
        Wanted {
            raw: std::str::from_utf8(cut).is_err().then(|| cut.to_vec()),
            folded: fold(&text),
            nfc: text.nfc().collect(),
            nfkc: text.nfkc().collect(),
            visible: without(&text, is_invisible),
            skeleton: unicode_security::skeleton(&text).collect(),
            squashed: squash(&text),
            comparator: osa::BatchComparator::new(text.chars()),
            chars: text.chars().count(),
            letters: letters(cut),
            text,
        }
    }

    /// Why `stored` may be meant; `None` when it is unlike.
    fn relate(&self, stored: &[u8]) -> Option<Hit> {
        let stored = &stored[..stored.len().min(MAX_TEXT)];
        let (Ok(text), None) = (std::str::from_utf8(stored), &self.raw) else {
            return self.relate_bytes(stored);
        };
        if text == self.text {
            return None;
        }
        if text.is_ascii() && self.text.is_ascii() {
            self.relate_ascii(text)
        } else {
            self.relate_unicode(text)
        }
    }

    /// Most keys are ASCII: no normal form can make them equal, and cheap counts rule most of them out.
    fn relate_ascii(&self, stored: &str) -> Option<Hit> {
        let (a, b) = (self.text.as_bytes(), stored.as_bytes());
        let ignored = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || *byte == 0x0b;
        let plain = |text: &'_ [u8]| -> Vec<u8> {
            text.iter().filter(|byte| !ignored(byte)).map(|byte| byte.to_ascii_lowercase()).collect()
        };
        let difference = (a.len() as i64 - b.len() as i64).unsigned_abs() as usize;
        let has_ignored = a.iter().any(ignored) || b.iter().any(ignored);
        if (difference == 0 || has_ignored) && (a.eq_ignore_ascii_case(b) || (has_ignored && plain(a) == plain(b))) {
            return self.same_to_the_eye(stored);
        }
        if difference <= 2
            && self.letters_near(b)
            && self.skeleton == unicode_security::skeleton(stored).collect::<String>()
        {
            return self.same_to_the_eye(stored);
        }
        self.relate_by_edits(stored)
    }

    fn relate_unicode(&self, stored: &str) -> Option<Hit> {
        if squash(stored) == self.squashed && !self.squashed.is_empty() {
            return self.same_to_the_eye(stored);
        }
        self.relate_by_edits(stored)
    }

    /// The two are one text to a reader: which of the differences that one overlooks is it?
    fn same_to_the_eye(&self, stored: &str) -> Option<Hit> {
        let difference = || difference(&self.text, stored);
        let spaceless = |text: &str| without(text, char::is_whitespace);
        if self.text.trim() == stored.trim() {
            return hit(70, Relation::Whitespace, difference());
        }
        if spaceless(&self.text) == spaceless(stored) {
            return hit(80, Relation::Whitespace, difference());
        }
        if self.nfc == stored.nfc().collect::<String>() {
            return hit(75, Relation::UnicodeForm, difference());
        }
        if self.visible == without(stored, is_invisible) {
            return hit(76, Relation::Invisible, difference());
        }
        if self.nfkc == stored.nfkc().collect::<String>() {
            return hit(90, Relation::UnicodeForm, difference());
        }
        if self.folded == fold(stored) {
            return hit(95, Relation::Case, difference());
        }
        if self.skeleton == unicode_security::skeleton(stored).collect::<String>() {
            return hit(100, Relation::Homoglyph, difference());
        }
        // Several at once: named by the first that takes part.
        let trimmed = self.text.trim() != self.text || stored.trim() != stored;
        let hidden = self.visible != self.text || without(stored, is_invisible) != stored;
        let composed = self.nfkc != self.text || stored.nfkc().collect::<String>() != stored;
        let relation = match (trimmed, composed, hidden) {
            (true, _, _) => Relation::Whitespace,
            (_, true, _) => Relation::UnicodeForm,
            (_, _, true) => Relation::Invisible,
            _ => Relation::Case,
        };
        hit(120, relation, difference())
    }

    /// Whether so few letters differ that a few edits can make them equal.
    fn letters_near(&self, stored: &[u8]) -> bool {
        (self.letters ^ letters(stored)).count_ones() as usize <= 2 * self.most_edits() + 2
    }

    /// Edits that are still a slip: one in five characters, three at most.
    fn most_edits(&self) -> usize {
        (self.chars.div_ceil(5)).min(3)
    }

    fn relate_by_edits(&self, stored: &str) -> Option<Hit> {
        let (short, long) = match self.text.len() < stored.len() {
            true => (self.text.as_str(), stored),
            false => (stored, self.text.as_str()),
        };
        let extra = long.len() - short.len();
        let is_affix =
            extra > 0 && short.len() >= 3 && extra <= short.len() && (long.starts_with(short) || long.ends_with(short));
        if is_affix {
            return hit(500 + extra.min(100) as u32, Relation::Affix, difference(&self.text, stored));
        }
        let most = self.most_edits();
        if self.chars < 3 || extra > 4 * most || !self.letters_near(stored.as_bytes()) {
            return None;
        }
        let cutoff = osa::Args::default().score_cutoff(most);
        let distance = self.comparator.distance_with_args(stored.chars(), &cutoff)?;
        hit(
            400 + 20 * distance as u32,
            Relation::EditDistance,
            format!("{distance} edits: {}", difference(&self.text, stored)),
        )
    }

    fn relate_bytes(&self, stored: &[u8]) -> Option<Hit> {
        let wanted = self.raw.as_deref().unwrap_or(self.text.as_bytes());
        if wanted.len().min(stored.len()) < 3 || wanted.len().abs_diff(stored.len()) > 3 {
            return None;
        }
        let cutoff = osa::Args::default().score_cutoff(2usize);
        let distance = osa::distance_with_args(wanted.iter().copied(), stored.iter().copied(), &cutoff)?;
        hit(
            450 + 20 * distance as u32,
            Relation::EditDistance,
            format!("{distance} bytes differ; one of the keys is not UTF-8"),
        )
    }
}

/// Code points written out in a difference at most.
const MAX_POINTS: usize = 8;

/// How `stored` differs from `wanted`, as code points: `stored is "order-A" + U+0020`.
fn difference(wanted: &str, stored: &str) -> String {
    let (a, b): (Vec<char>, Vec<char>) = (wanted.chars().collect(), stored.chars().collect());
    let prefix = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let room = a.len().min(b.len()) - prefix;
    let suffix = a.iter().rev().zip(b.iter().rev()).take(room).take_while(|(x, y)| x == y).count();
    let middle = |chars: &[char]| chars[prefix..chars.len() - suffix].to_vec();
    let (a_middle, b_middle) = (middle(&a), middle(&b));
    let around = |middle: String| {
        let quoted = |chars: &[char]| format!("{:?}", chars.iter().collect::<String>());
        let mut parts = Vec::new();
        if prefix > 0 {
            parts.push(quoted(&a[..prefix]));
        }
        parts.push(middle);
        if suffix > 0 {
            parts.push(quoted(&a[a.len() - suffix..]));
        }
        parts.join(" + ")
    };
    match (a_middle.is_empty(), b_middle.is_empty()) {
        (true, _) => format!("stored is {}", around(points(&b_middle))),
        (_, true) => format!("asked for is {}", around(points(&a_middle))),
        _ if a_middle.len() == b_middle.len() && a_middle.len() > 1 => {
            let pairs = a_middle.iter().zip(&b_middle).filter(|(x, y)| x != y);
            let shown: Vec<String> =
                pairs.clone().take(MAX_POINTS).map(|(x, y)| format!("{} for {}", point(*y), point(*x))).collect();
            let more = if pairs.count() > MAX_POINTS { " …" } else { "" };
            format!("stored has {}{more}", shown.join(", "))
        }
        _ => format!("stored is {}, not {}", around(points(&b_middle)), points(&a_middle)),
    }
}

fn point(c: char) -> String {
    format!("U+{:04X}", c as u32)
}

fn points(chars: &[char]) -> String {
    let mut text = chars.iter().take(MAX_POINTS).map(|&c| point(c)).collect::<Vec<_>>().join(" ");
    if chars.len() > MAX_POINTS {
        text += &format!(" … ({} code points)", chars.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(wanted: &str, stored: &str) -> Option<(Relation, String)> {
        Wanted::new(wanted.as_bytes()).relate(stored.as_bytes()).map(|hit| (hit.relation, hit.detail))
    }

    #[test]
    fn texts_that_look_alike_are_named_by_what_differs() {
        let cases = [
            ("order-A", "order-A ", Relation::Whitespace, "stored is \"order-A\" + U+0020"),
            (" order-A", "order-A", Relation::Whitespace, "asked for is U+0020 + \"order-A\""),
            ("order-A", "order\u{a0}-A", Relation::Whitespace, "stored is \"order\" + U+00A0 + \"-A\""),
            ("caf\u{e9}", "cafe\u{301}", Relation::UnicodeForm, "stored is \"caf\" + U+0065 U+0301, not U+00E9"),
            ("ﬁle", "file", Relation::UnicodeForm, "stored is U+0066 U+0069 + \"le\", not U+FB01"),
            ("admin", "ad\u{200b}min", Relation::Invisible, "stored is \"ad\" + U+200B + \"min\""),
            ("Alice", "alice", Relation::Case, "stored is U+0061 + \"lice\", not U+0041"),
            ("straße", "STRASSE", Relation::Case, "stored is"),
            ("paypal", "p\u{430}ypal", Relation::Homoglyph, "stored is \"p\" + U+0430 + \"ypal\", not U+0061"),
            ("user-12345", "user-12346", Relation::EditDistance, "1 edits"),
            ("user-12345", "user-12354", Relation::EditDistance, "1 edits"),
            ("session", "session-old", Relation::Affix, "stored is \"session\" + U+002D"),
        ];
        for (wanted, stored, name, detail) in cases {
            let (relation, said) = relation(wanted, stored).unwrap_or_else(|| panic!("{wanted:?} {stored:?}"));
            assert_eq!(relation, name, "{wanted:?} {stored:?}: {said}");
            assert!(said.contains(detail), "{said:?} lacks {detail:?}");
        }
    }

    #[test]
    fn unlike_texts_have_no_relation() {
        for (wanted, stored) in [("alice", "bob"), ("a", "b"), ("", "x"), ("order-1", "invoice-9"), ("same", "same")] {
            assert!(relation(wanted, stored).is_none(), "{wanted:?} {stored:?}");
        }
    }

    #[test]
    fn integers_are_related_by_width_sign_and_step() {
        let relate =
            |a: i64, b: i64| relate_integers(Kind::Int64, &a.to_le_bytes(), &b.to_le_bytes()).map(|h| h.relation);
        assert_eq!(relate(0x1_0000_002a, 0x2a), Some(Relation::Width));
        assert_eq!(relate(4294967295, -1), Some(Relation::Width));
        assert_eq!(relate(41, 42), Some(Relation::Numeric));
        assert_eq!(relate(-42, 42), Some(Relation::Numeric));
        assert_eq!(relate(0, i64::MIN), Some(Relation::SignedZero));
        assert_eq!(relate(1000, 77), None);
    }
}
