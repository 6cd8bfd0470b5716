//! The stored keys nearest to one that a lookup misses, each with how it differs.
//!
//! The wanted key is taken apart once; every stored key is then compared with it in one pass that rejects
//! most keys by length, hash-like counts or their first characters, before any costly normal form.

mod difference;
mod encoding;
mod instant;
mod number;
mod text;
mod value;

#[cfg(test)]
mod tests;

use super::keys::Keys;
use crate::types::{GoType, TypeId};
use crate::Result;
use byteorder::{ByteOrder, LittleEndian as LE};
use std::sync::Arc;
use value::{Outcome, Wanted};

/// How a stored key relates to the wanted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relation {
    /// Both hold a NaN, which equals nothing.
    Nan,
    /// Equal numbers, one of them the negative zero.
    SignedZero,
    /// Equal values of different dynamic types.
    DynamicType,
    /// Different pointers to equal values.
    Pointee,
    /// Texts equal but for white space.
    Whitespace,
    /// Texts equal but for characters that are not seen.
    Invisible,
    /// Texts equal in NFC or NFKC.
    UnicodeForm,
    /// Texts equal but for upper and lower case.
    Case,
    /// Texts that look alike (UTS #39).
    Homoglyph,
    /// One text in two encodings.
    Encoding,
    /// Numbers equal once cut to fewer bits.
    Width,
    /// Numbers that are close, or written alike.
    Numeric,
    /// Some fields or elements are equal.
    StructField,
    /// One text begins or ends with the other.
    Affix,
    /// Texts a few edits apart.
    EditDistance,
    /// The stored key is the zero value.
    ZeroValue,
}

impl Relation {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Relation::Nan => "nan",
            Relation::SignedZero => "signed-zero",
            Relation::DynamicType => "dynamic-type",
            Relation::Pointee => "pointee",
            Relation::Whitespace => "whitespace",
            Relation::Invisible => "invisible",
            Relation::UnicodeForm => "unicode-form",
            Relation::Case => "case",
            Relation::Homoglyph => "homoglyph",
            Relation::Encoding => "encoding",
            Relation::Width => "width",
            Relation::Numeric => "numeric",
            Relation::StructField => "struct-field",
            Relation::Affix => "affix",
            Relation::EditDistance => "edit-distance",
            Relation::ZeroValue => "zero-value",
        }
    }
}

/// How near two values are.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Closeness {
    relation: Relation,
    /// 0 is nearest; comparable across relations.
    distance: u32,
    /// The exact difference; empty unless it was asked for.
    detail: String,
}

impl Closeness {
    fn new(relation: Relation, distance: u32, detail: impl FnOnce() -> String, tell: bool) -> Closeness {
        Closeness { relation, distance, detail: if tell { detail() } else { String::new() } }
    }
}

/// A stored key that is nearly the wanted one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// The stored key's bytes.
    pub key: Vec<u8>,
    /// Its target address.
    pub address: u64,
    /// How it relates to the wanted key.
    pub relation: Relation,
    /// The exact difference, e.g. `"order-A" + U+0020`: what is stored, in terms of what was asked for.
    pub detail: String,
    /// 0 is nearest.
    pub distance: u32,
}

impl Near {
    /// Whether a wanted text of `length` characters, if it is a text, is taken for this key by mistake rather than like it by
    /// chance: no more than one character in eight differs.
    pub fn is_telling(&self, length: Option<usize>) -> bool {
        match self.relation {
            Relation::Numeric | Relation::StructField | Relation::Affix | Relation::ZeroValue => false,
            Relation::EditDistance => {
                length.is_some_and(|length| (1..=length / 8).any(|e| text::edit_cost(e, length) == self.distance))
            }
            _ => true,
        }
    }
}

/// The distance of a stored zero value that is near in no other way.
const ZERO_VALUE: u32 = 900;

/// Keys that wait to be read in the order of their addresses.
const BATCH: usize = 1 << 17;
/// Bytes of such keys.
const BATCH_BYTES: usize = 8 << 20;

/// Collects the best near misses of one key.
pub struct NearMisses<'k, 'a> {
    keys: &'k Keys<'a>,
    ty: Arc<GoType>,
    wanted_bytes: Vec<u8>,
    wanted: Wanted,
    /// Where in a key the word is that leads to what must be read to compare it, unless it is read in place.
    /// Maps store keys in random order: following each at once would read the same pages again and again.
    leads: Option<usize>,
    batch: Vec<Stored>,
    limit: usize,
    best: Vec<Candidate>,
    nearest: Nearest,
    offered: u64,
}

/// A stored key.
struct Stored {
    leads_to: u64,
    order: u64,
    key: Vec<u8>,
    address: u64,
}

/// What a pass over all keys found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nearest {
    /// The near misses, best first.
    pub near: Vec<Near>,
    /// Target address of a stored key that is equal to the wanted one.
    pub equal: Option<u64>,
    /// Keys that could not be read.
    pub unreadable: u64,
}

/// A stored key that is among the best so far.
struct Candidate {
    distance: u32,
    relation: Relation,
    /// The key in words, so that ties are broken the same way in every run of the program.
    words: String,
    order: u64,
    key: Vec<u8>,
    address: u64,
}

impl Candidate {
    fn rank(&self) -> (u32, Relation, usize, &str, u64) {
        (self.distance, self.relation, self.words.len(), &self.words, self.order)
    }
}

impl<'k, 'a> NearMisses<'k, 'a> {
    /// Looks for at most `limit` keys near `wanted`, the bytes of a key of type `ty`. What keys point to is
    /// read through `keys`.
    ///
    /// Fails when the wanted key itself cannot be read.
    pub fn new(keys: &'k Keys<'a>, ty: TypeId, wanted: &[u8], limit: usize) -> Result<NearMisses<'k, 'a>> {
        let ty = keys.types().load(ty)?;
        let (wanted_bytes, wanted) = (wanted.to_vec(), Wanted::of(keys, &ty, wanted)?);
        let is_in_place = keys.memory().regions().iter().any(|r| keys.memory().mapped(r.start, 1).is_some());
        let leads = wanted.leads().filter(|_| !is_in_place);
        let nearest = Nearest::default();
        let (batch, best) = (Vec::new(), Vec::new());
        Ok(NearMisses { keys, ty, wanted_bytes, wanted, leads, batch, limit, best, nearest, offered: 0 })
    }

    /// Considers the stored key with these bytes at this target address.
    pub fn offer(&mut self, key: &[u8], address: u64) {
        self.offered += 1;
        let Some(leads) = self.leads else { return self.consider(key, address, self.offered) };
        let leads_to = key.get(leads..).and_then(|key| key.get(..8)).map_or(0, LE::read_u64);
        self.batch.push(Stored { leads_to, order: self.offered, key: key.to_vec(), address });
        if self.batch.len() >= BATCH || self.batch.len() * key.len() >= BATCH_BYTES {
            self.consider_batch();
        }
    }

    fn consider_batch(&mut self) {
        let mut batch = std::mem::take(&mut self.batch);
        batch.sort_unstable_by_key(|stored| (stored.leads_to, stored.order));
        for Stored { key, address, order, .. } in &batch {
            self.consider(key, *address, *order);
        }
        batch.clear();
        self.batch = batch;
    }

    fn consider(&mut self, key: &[u8], address: u64, order: u64) {
        let worst = match self.best.len() < self.limit {
            true => u32::MAX,
            false => self.best.last().map_or(0, |worst| worst.distance),
        };
        let outcome = self.wanted.compare(self.keys, key, worst, false);
        let may_be_equal = match &outcome {
            Ok(Outcome::Equal) => true,
            Ok(Outcome::Near(near)) => near.relation == Relation::SignedZero,
            _ => false,
        };
        if may_be_equal && self.keys.equal(&self.ty, key, &self.wanted_bytes).unwrap_or(false) {
            self.nearest.equal = Some(address);
        }
        let (relation, distance) = match outcome {
            Ok(Outcome::Near(near)) => (near.relation, near.distance),
            Ok(Outcome::Far) if !self.wanted.is_zero() && self.wanted.holds_zero(key) => {
                (Relation::ZeroValue, ZERO_VALUE)
            }
            Ok(_) => return,
            Err(_) => {
                self.nearest.unreadable += 1;
                return;
            }
        };
        if distance > worst {
            return;
        }
        let words = self.in_words(key);
        let candidate = Candidate { distance, relation, words, order, key: key.to_vec(), address };
        let at = self.best.partition_point(|other| other.rank() < candidate.rank());
        self.best.insert(at, candidate);
        self.best.truncate(self.limit);
    }

    /// What was found among all keys offered.
    pub fn finish(mut self) -> Nearest {
        self.consider_batch();
        let detail = |candidate: &Candidate| match self.wanted.compare(self.keys, &candidate.key, u32::MAX, true) {
            Ok(Outcome::Near(near)) => near.detail,
            _ => format!("the stored key is the zero value of {}", self.ty.name),
        };
        let near = |candidate: &Candidate| Near {
            key: candidate.key.clone(),
            address: candidate.address,
            relation: candidate.relation,
            detail: detail(candidate),
            distance: candidate.distance,
        };
        let near = self.best.iter().map(near).collect();
        Nearest { near, ..self.nearest }
    }

    fn in_words(&self, key: &[u8]) -> String {
        let stored = Wanted::of(self.keys, &self.ty, key).ok();
        stored.and_then(|stored| stored.describe()).unwrap_or_default()
    }
}
