//! The stored keys nearest to one that a lookup misses, each with how it differs.
//!
//! The wanted key is taken apart once; every stored key is then compared with it in one pass that rejects
//! most keys by length, hash-like counts or their first characters, before any costly normal form.

mod difference;
mod number;
mod text;
mod value;

#[cfg(test)]
mod tests;

use super::keys::Keys;
use crate::types::{GoType, TypeId};
use crate::Result;
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

/// The distance of a stored zero value that is near in no other way.
const ZERO_VALUE: u32 = 900;

/// Collects the best near misses of one key.
pub struct NearMisses<'k, 'a> {
    keys: &'k Keys<'a>,
    ty: Arc<GoType>,
    wanted: Wanted,
    limit: usize,
    best: Vec<Candidate>,
    offered: u64,
    unreadable: u64,
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
        let wanted = Wanted::of(keys, &ty, wanted)?;
        Ok(NearMisses { keys, ty, wanted, limit, best: Vec::new(), offered: 0, unreadable: 0 })
    }

    /// Considers the stored key with these bytes at this target address. A key equal to the wanted one is no
    /// near miss; one that cannot be read is only counted.
    pub fn offer(&mut self, key: &[u8], address: u64) {
        self.offered += 1;
        let worst = match self.best.len() < self.limit {
            true => u32::MAX,
            false => self.best.last().map_or(0, |worst| worst.distance),
        };
        let (relation, distance) = match self.wanted.compare(self.keys, key, worst, false) {
            Ok(Outcome::Near(near)) => (near.relation, near.distance),
            Ok(Outcome::Far) if !self.wanted.is_zero() && self.wanted.holds_zero(key) => {
                (Relation::ZeroValue, ZERO_VALUE)
            }
            Ok(_) => return,
            Err(_) => {
                self.unreadable += 1;
                return;
            }
        };
        if distance > worst {
            return;
        }
        let words = self.in_words(key);
        let order = self.offered;
        let candidate = Candidate { distance, relation, words, order, key: key.to_vec(), address };
        let at = self.best.partition_point(|other| other.rank() < candidate.rank());
        self.best.insert(at, candidate);
        self.best.truncate(self.limit);
    }

    /// Keys offered that could not be read.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The near misses, best first.
    pub fn finish(self) -> Vec<Near> {
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
        self.best.iter().map(near).collect()
    }

    fn in_words(&self, key: &[u8]) -> String {
        let stored = Wanted::of(self.keys, &self.ty, key).ok();
        stored.and_then(|stored| stored.describe()).unwrap_or_default()
    }
}
