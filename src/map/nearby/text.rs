//! Texts that are nearly equal.

use super::difference::{spell, units, Unit};
use super::encoding::Encodings;
use super::{Closeness, Relation};
use caseless::Caseless;
use rapidfuzz::distance::osa;
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::LazyLock;
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};
use unicode_security::confusable_detection::skeleton;

/// Texts beyond this length are compared by affix only.
const LONGEST: usize = 4096;
/// Beginnings remembered; more are made anew.
const MOST_FORMS: usize = 256;
/// Fewer letters and digits are equal by chance.
const FEWEST_LETTERS: usize = 4;
/// Buckets of the histogram that bounds the edit distance from below.
const BUCKETS: usize = 32;

/// The text that was asked for, with the forms that candidates are compared with.
pub struct Text {
    bytes: Vec<u8>,
    /// Whether it has forms at all: it is UTF-8 and not too long.
    has_forms: bool,
    /// Forms of what follows each common beginning that a stored text had.
    forms: RefCell<FxHashMap<usize, Rc<Forms>>>,
    counts: [u8; BUCKETS],
    length: usize,
    edits: Option<osa::BatchComparator<Unit>>,
    number: Option<Number>,
    encodings: Encodings,
    /// Letters and digits, in lower case, of a text that has enough of them and is ASCII.
    letters: Option<Vec<u8>>,
}

/// What is equal for all texts that differ only in white space, unseen characters, form, case or look.
struct Forms {
    /// Seen characters, compatibility-composed and case-folded.
    folded: Vec<char>,
    /// Their skeletons, case-folded.
    alike: Vec<char>,
}

/// What `skeleton` and case folding make of each ASCII character.
static ALIKE: LazyLock<Vec<Vec<char>>> =
    LazyLock::new(|| (0..128u8).map(|b| alike((b as char).encode_utf8(&mut [0; 4])).collect()).collect());

impl Text {
    pub fn new(bytes: Vec<u8>) -> Text {
        let is_short = bytes.len() <= LONGEST;
        let has_forms = is_short && std::str::from_utf8(&bytes).is_ok();
        let units = units(&bytes);
        let edits = is_short.then(|| osa::BatchComparator::new(units.iter().copied()));
        let letters =
            bytes.is_ascii().then(|| letters(&bytes).collect()).filter(|l: &Vec<u8>| l.len() >= FEWEST_LETTERS);
        Text {
            has_forms,
            forms: RefCell::default(),
            counts: counts(&bytes),
            length: units.len(),
            edits,
            number: number(&bytes),
            encodings: Encodings::of(&bytes[..bytes.len().min(LONGEST)]),
            letters,
            bytes,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether a text of so many bytes can be near at all.
    pub fn may_be_near(&self, len: usize) -> bool {
        let wanted = self.bytes.len();
        len <= wanted.saturating_mul(4).saturating_add(64) && wanted <= len.saturating_mul(4).saturating_add(64)
    }

    /// How near a different text is; nothing that is farther than `worst` is looked for.
    pub fn compare(&self, stored: &[u8], worst: u32, tell: bool) -> Option<Closeness> {
        if stored == self.bytes || !self.may_be_near(stored.len()) {
            return None;
        }
        let detail = || spell(&self.bytes, stored);
        if let Some(near) = self.compare_forms(stored, tell) {
            return Some(near);
        }
        if let Some(near) = self.compare_numbers(stored, tell) {
            return Some(near);
        }
        if let Some(how) = self.encodings.compare(&self.bytes, stored) {
            return Some(Closeness::new(Relation::Encoding, 145, || Encodings::detail(&self.bytes, stored, how), tell));
        }
        if self.is_padded_otherwise(stored) {
            return Some(Closeness::new(Relation::Numeric, 165, detail, tell));
        }
        if let Some(extra) = self.affix(stored) {
            return Some(Closeness::new(Relation::Affix, 300 + extra.min(200) as u32, detail, tell));
        }
        if self.letters.as_ref().is_some_and(|ours| stored.is_ascii() && letters(stored).eq(ours.iter().copied())) {
            let detail = || format!("{}: only punctuation and case differ", detail());
            return Some(Closeness::new(Relation::EditDistance, 250, detail, tell));
        }
        let edits = self.edits(stored, worst)?;
        Some(Closeness::new(Relation::EditDistance, edit_cost(edits, self.length), detail, tell))
    }

    fn compare_forms(&self, stored: &[u8], tell: bool) -> Option<Closeness> {
        if !self.has_forms || stored.len() > LONGEST {
            return None;
        }
        let cut = self.common_beginning(stored);
        let (forms, rest) = (self.forms_after(cut), stored.get(cut..)?);
        let (folds, looks) = match rest.is_ascii() {
            true => {
                let seen = || rest.iter().filter(|&&b| b.is_ascii_graphic());
                let folds = seen().map(|b| b.to_ascii_lowercase() as char).eq(forms.folded.iter().copied());
                (folds, folds || seen().flat_map(|&b| &ALIKE[b as usize]).eq(&forms.alike))
            }
            false => {
                let text = std::str::from_utf8(rest).ok()?;
                let seen = seen(text);
                let folds = folded(&seen).eq(forms.folded.iter().copied());
                (folds, folds || alike(&seen).eq(forms.alike.iter().copied()))
            }
        };
        if !folds && !looks {
            return None;
        }
        let (wanted, text) = (std::str::from_utf8(&self.bytes).ok()?, std::str::from_utf8(stored).ok()?);
        let stages = Stage::needed(wanted, text)?;
        let first = *stages.first()?;
        let spread = (text.len().abs_diff(wanted.len())).min(9) as u32;
        let distance = first.distance() + 25 * (stages.len() as u32 - 1) + spread;
        let detail = || {
            let others: Vec<&str> = stages[1..].iter().map(|stage| stage.relation().name()).collect();
            let spelled = spell(&self.bytes, stored);
            match others.is_empty() {
                true => spelled,
                false => format!("{spelled} (also: {})", others.join(", ")),
            }
        };
        Some(Closeness::new(first.relation(), distance, detail, tell))
    }

    /// Where the texts part: a character before they differ, which combining marks may yet change.
    fn common_beginning(&self, stored: &[u8]) -> usize {
        let common = self.bytes.iter().zip(stored).take_while(|(a, b)| a == b).count();
        let text = self.bytes.get(..common).and_then(|bytes| bytes.utf8_chunks().next());
        let starters = text.map_or("", |chunk| chunk.valid()).char_indices().rev();
        starters
            .map(|(at, c)| (at, canonical_combining_class(c)))
            .find(|&(_, class)| class == 0)
            .map_or(0, |(at, _)| at)
    }

    fn forms_after(&self, cut: usize) -> Rc<Forms> {
        let make = || {
            let rest = self.bytes.get(cut..).and_then(|rest| std::str::from_utf8(rest).ok()).unwrap_or_default();
            let seen = seen(rest);
            Rc::new(Forms { folded: folded(&seen).collect(), alike: alike(&seen).collect() })
        };
        let mut forms = self.forms.borrow_mut();
        if forms.len() >= MOST_FORMS {
            forms.clear();
        }
        forms.entry(cut).or_insert_with(make).clone()
    }

    fn compare_numbers(&self, stored: &[u8], tell: bool) -> Option<Closeness> {
        let (wanted, stored_number) = (self.number.as_ref()?, number(stored)?);
        if !wanted.is(&stored_number) {
            return None;
        }
        let relation = match wanted.value.is_sign_negative() == stored_number.value.is_sign_negative() {
            true => Relation::Numeric,
            false => Relation::SignedZero,
        };
        Some(Closeness::new(relation, 160, || spell(&self.bytes, stored), tell))
    }

    /// Whether the two differ only in zeros before their numbers.
    fn is_padded_otherwise(&self, stored: &[u8]) -> bool {
        stored.len() != self.bytes.len() && unpadded(&self.bytes).eq(unpadded(stored))
    }

    /// How much longer one is, when the other begins or ends it.
    fn affix(&self, stored: &[u8]) -> Option<usize> {
        let (long, short) = match stored.len() > self.bytes.len() {
            true => (stored, &self.bytes[..]),
            false => (&self.bytes[..], stored),
        };
        let is_affix = short.len() >= 3 && (long.starts_with(short) || long.ends_with(short));
        is_affix.then(|| long.len() - short.len())
    }

    fn edits(&self, stored: &[u8], worst: u32) -> Option<usize> {
        // A few edits in a short text leave nothing in common.
        let affordable = (1..=3).take_while(|&edits| edit_cost(edits, self.length) <= worst);
        let most = affordable.last()?.min((self.length / 4).max(1));
        if self.length < 2 || stored.len() > LONGEST || !self.may_be_within(stored, most) {
            return None;
        }
        let args = osa::Args::default().score_cutoff(most);
        match stored.is_ascii() {
            true if stored.len().abs_diff(self.length) > most => None,
            true => self.edits.as_ref()?.distance_with_args(stored.iter().map(|&b| b as Unit), &args),
            false => self.edits.as_ref()?.distance_with_args(units(stored), &args),
        }
    }

    /// Whether so many edits can be enough, by the count of each byte: one edit of a character changes at
    /// most 4 bytes on either side.
    fn may_be_within(&self, stored: &[u8], edits: usize) -> bool {
        let bytes_of_an_edit = if stored.is_ascii() && self.bytes.len() == self.length { 2 } else { 8 };
        let other = counts(stored);
        let differing: u32 = self.counts.iter().zip(&other).map(|(a, b)| a.abs_diff(*b) as u32).sum();
        differing as usize <= edits * bytes_of_an_edit
    }
}

/// How many bytes fall in each bucket, at most 255.
fn counts(bytes: &[u8]) -> [u8; BUCKETS] {
    let mut counts = [0u8; BUCKETS];
    for &byte in bytes.iter().take(LONGEST) {
        let bucket = &mut counts[byte as usize % BUCKETS];
        *bucket = bucket.saturating_add(1);
    }
    counts
}

/// The distance of a text of `length` characters that so many edits make another one.
pub(super) fn edit_cost(edits: usize, length: usize) -> u32 {
    (305 + 20 * edits + 60 * edits / length.max(1)) as u32
}

/// A number as text.
struct Number {
    value: f64,
    /// Digits before and after the point, without zeros that say nothing; `None` with an exponent.
    digits: Option<(Vec<u8>, Vec<u8>)>,
}

impl Number {
    /// Whether they are equal, by their digits where they have them: long identifiers share one float.
    fn is(&self, other: &Number) -> bool {
        match (&self.digits, &other.digits) {
            (Some(ours), Some(theirs)) => self.value == other.value && ours == theirs,
            _ => self.value == other.value,
        }
    }
}

/// A text that is a number and nothing else.
fn number(bytes: &[u8]) -> Option<Number> {
    let is_numeric = matches!(bytes.first()?, b'0'..=b'9' | b'+' | b'-' | b'.') && bytes.len() <= 40;
    let text = std::str::from_utf8(bytes).ok().filter(|_| is_numeric)?;
    let value = text.parse().ok()?;
    let (whole, part) = text.trim_start_matches(['+', '-']).split_once('.').unwrap_or((text, ""));
    let whole = whole.trim_start_matches(['+', '-']).trim_start_matches('0');
    let part = part.trim_end_matches('0');
    let is_plain = [whole, part].iter().all(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    Some(Number { value, digits: is_plain.then(|| (whole.into(), part.into())) })
}

/// Letters and digits in lower case.
fn letters(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase)
}

/// The text without the zeros before its numbers.
fn unpadded(bytes: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut last = 0u8;
    bytes.iter().enumerate().filter_map(move |(i, &byte)| {
        let goes_on = bytes.get(i + 1).is_some_and(u8::is_ascii_digit);
        let is_padding = byte == b'0' && !last.is_ascii_digit() && goes_on;
        if !is_padding {
            last = byte;
        }
        (!is_padding).then_some(byte)
    })
}

/// The ways in which texts differ that are equal to a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Whitespace,
    Invisible,
    UnicodeForm,
    Case,
    Homoglyph,
}

impl Stage {
    const ALL: [Stage; 5] = [Stage::Whitespace, Stage::Invisible, Stage::UnicodeForm, Stage::Case, Stage::Homoglyph];

    fn relation(self) -> Relation {
        match self {
            Stage::Whitespace => Relation::Whitespace,
            Stage::Invisible => Relation::Invisible,
            Stage::UnicodeForm => Relation::UnicodeForm,
            Stage::Case => Relation::Case,
            Stage::Homoglyph => Relation::Homoglyph,
        }
    }

    fn distance(self) -> u32 {
        100 + 10 * self as u32
    }

    fn apply(self, text: &str) -> String {
        match self {
            Stage::Whitespace => text.chars().filter(|c| !c.is_whitespace()).collect(),
            Stage::Invisible => text.chars().filter(|&c| !is_invisible(c)).collect(),
            Stage::UnicodeForm => text.nfkc().collect(),
            Stage::Case => text.nfd().default_case_fold().nfc().collect(),
            Stage::Homoglyph => skeleton(text).collect(),
        }
    }

    /// The fewest ways in which the two differ: one if one is enough.
    fn needed(a: &str, b: &str) -> Option<Vec<Stage>> {
        let single = Stage::ALL.into_iter().find(|stage| stage.apply(a) == stage.apply(b));
        if let Some(stage) = single {
            return Some(vec![stage]);
        }
        if turkic(Stage::Case.apply(a).chars()).eq(turkic(Stage::Case.apply(b).chars())) {
            return Some(vec![Stage::Case]);
        }
        // Look first, case last: folding the skeleton also joins an `I` that looks like `l` with `L`.
        let orders: [&[Stage]; 2] = [
            &[Stage::Whitespace, Stage::Invisible, Stage::UnicodeForm, Stage::Case],
            &[Stage::Whitespace, Stage::Invisible, Stage::Homoglyph, Stage::Case],
        ];
        let apply =
            |stages: &[Stage], text: &str| stages.iter().fold(text.to_string(), |text, stage| stage.apply(&text));
        let equal = |stages: &[Stage]| apply(stages, a) == apply(stages, b);
        let mut needed = orders.into_iter().find(|stages| equal(stages))?.to_vec();
        for stage in Stage::ALL.into_iter().rev() {
            let fewer: Vec<Stage> = needed.iter().copied().filter(|&other| other != stage).collect();
            if fewer.len() < needed.len() && equal(&fewer) {
                needed = fewer;
            }
        }
        Some(needed)
    }
}

fn folded(text: &str) -> impl Iterator<Item = char> + '_ {
    turkic(text.nfkc().default_case_fold())
}

/// Joins the dotless and the dotted i, which Turkish case folding tells apart and all other folding confuses.
fn turkic(text: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    let mut after_i = false;
    text.filter_map(move |c| {
        let is_dot = after_i && c == '\u{307}';
        after_i = matches!(c, 'i' | 'ı');
        match c {
            _ if is_dot => None,
            'ı' => Some('i'),
            _ => Some(c),
        }
    })
}

fn alike(text: &str) -> impl Iterator<Item = char> + '_ {
    skeleton(text).default_case_fold()
}

/// The text without white space and unseen characters.
fn seen(text: &str) -> Cow<'_, str> {
    match text.chars().any(|c| c.is_whitespace() || is_invisible(c)) {
        true => Cow::Owned(text.chars().filter(|&c| !c.is_whitespace() && !is_invisible(c)).collect()),
        false => Cow::Borrowed(text),
    }
}

/// Control and format characters, variation selectors, and fillers that render as nothing.
fn is_invisible(c: char) -> bool {
    match c {
        ' '..='~' => false,
        '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}' => true,
        '\u{180b}'..='\u{180f}' | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ if c.is_whitespace() => false,
        _ => matches!(c.general_category(), GeneralCategory::Control | GeneralCategory::Format),
    }
}
