//! The key that a goroutine looked up before it waited, as far as its memory survives, set beside the stored keys.

use super::locals::Locals;
use super::shown::{shown, Shown};
use super::sites::{Kind as OperationKind, Left, Site, Sites, Source};
use super::vouch::{Vouched, Vouching};
use super::{Blocked, Goroutine};
use crate::error::{Quiet, Watch};
use crate::expression::{self, Hashers, Meaning, Scope};
use crate::map::identity::Key;
use crate::map::keys::Keys;
use crate::map::nearby::{NearMisses, Relation};
use crate::map::GoMap;
use crate::memory::Memory;
use crate::score::Reach;
use crate::session::{MapRef, Session};
use crate::types::{Kind, TypeId, TypeSource};
use crate::value::{Arena, Overlay};
use crate::{Error, Result};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A stored key like the one looked up.
#[derive(Debug, Clone, PartialEq)]
pub struct NearKey {
    pub key: Shown,
    pub relation: &'static str,
    pub detail: String,
    /// Whether people take the two for equal; else they are only alike.
    pub confusable: bool,
    /// Whether they are NaN, which no lookup finds.
    pub never_equal: bool,
}

/// What a lookup of the key in the map as it is now gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Absent,
    /// Present; its elem is the zero value.
    Zero,
    Present,
}

/// The key of a map operation before a wait, and what a lookup of it gives now.
#[derive(Debug, Clone, PartialEq)]
pub struct Lookup {
    /// What was done with the key.
    pub kind: OperationKind,
    pub map_type: Arc<str>,
    /// Address of the map's header.
    pub map: Option<u64>,
    pub key: Option<Shown>,
    /// Where the key was found, as the JSON record names it.
    pub source: Option<&'static str>,
    /// Whether the key's length is a guess: the one that makes it most like a stored key.
    pub inferred: bool,
    /// Whether the memory that it leads to is still what it was.
    pub memory: Vouched,
    /// Why the key is not known.
    pub lost: Option<String>,
    pub verdict: Option<Verdict>,
    /// Best first.
    pub near: Vec<NearKey>,
}

/// Keys nearer than this are taken for equal: white space, case, Unicode form, encoding, pointee, type.
pub(super) const CONFUSABLE: u32 = 170;
/// Near misses kept of one lookup.
const NEAR: usize = 4;
/// Stored keys compared in all, after which no further search begins: many goroutines mostly make the same mistake.
const MAX_COMPARED: u64 = 1 << 22;
/// Stored keys of a map that are tried against every length of a string.
const MAX_TRIED: u64 = 4096;
/// Bytes past the longest stored key at which a string may still end.
const LONGER: u64 = 16;
/// Longest string whose length is guessed.
const MAX_GUESSED: u64 = 256;

impl Lookup {
    /// Whether the key is only likely to be the one looked up.
    pub fn is_inferred(&self) -> bool {
        self.inferred || self.memory != Vouched::Proven
    }
}

/// What is said of an address in place of what is there now.
fn used_again(address: u64) -> String {
    format!("{address:#x}, its memory may have been used again since")
}

/// Reads lookups; remembers those that are alike.
pub struct Lookups<'s> {
    session: &'s Session,
    known: FxHashMap<(u64, TypeId, Key), Lookup>,
    vouching: Option<Vouching<'s>>,
    /// Stored keys compared so far.
    compared: u64,
}

impl Lookup {
    /// Whether keys that are like its tell something: it asked what is stored, or has a key that nothing finds.
    pub fn may_miss(&self) -> bool {
        self.kind.asks() || self.near.first().is_some_and(|near| near.never_equal)
    }
}

impl<'s> Lookups<'s> {
    pub fn new(session: &'s Session) -> Lookups<'s> {
        Lookups { session, known: FxHashMap::default(), vouching: None, compared: 0 }
    }

    /// What the goroutine looked up at a site; `None` when the map's type is not known.
    pub fn of(
        &mut self,
        sites: &mut Sites<'_>,
        goroutine: &Goroutine,
        site: &Site,
        watch: &dyn Watch,
    ) -> Result<Option<Lookup>> {
        let types = &self.session.types;
        let Some(name) = &site.map_type else { return Ok(None) };
        let ty = types.load(self.session.type_named(name)?)?;
        let target = sites.map(goroutine, site);
        let map = target.map(|target| self.session.open(target)).transpose().unwrap_or(None);
        let key_type = match (&map, &ty.shape) {
            (Some(map), _) => map.key.id,
            (None, crate::types::Shape::Map(map)) => map.key,
            _ => TypeId::Basic(Kind::Interface),
        };
        let size = types.load(key_type)?.size as usize;
        let mut lookup = Lookup {
            kind: site.kind,
            map_type: ty.name.clone(),
            map: target.map(|target| target.address),
            key: None,
            source: None,
            inferred: false,
            memory: Vouched::Proven,
            lost: None,
            verdict: None,
            near: Vec::new(),
        };
        let mut left = sites.key(goroutine, site, size);
        if !matches!(left, Left::Whole(..)) {
            if let Some(bytes) = self.by_variable(goroutine, site, key_type) {
                left = Left::Whole(bytes, Source::Dwarf);
            }
        }
        match left {
            Left::Nothing(why) => {
                lookup.lost = Some(why.to_string());
                Ok(Some(lookup))
            }
            Left::Whole(bytes, source) => {
                lookup.source = Some(source.name());
                let (vouched, address) = self.vouching(watch)?.key(goroutine, key_type, &bytes);
                lookup.memory = vouched;
                if vouched == Vouched::No {
                    lookup.lost = Some(used_again(address));
                    return Ok(Some(lookup));
                }
                self.whole(lookup, target, map.as_ref(), key_type, bytes, watch).map(Some)
            }
            Left::Pointer(data, source) => {
                lookup.source = Some(source.name());
                lookup.memory = self.vouching(watch)?.word(goroutine, data);
                if lookup.memory == Vouched::No {
                    lookup.lost = Some(used_again(data));
                    return Ok(Some(lookup));
                }
                let missed = site.reach == Reach::Flow && matches!(goroutine.blocked_on, Some(Blocked::NilChan));
                let guess = match &map {
                    Some(map) if map.count() <= MAX_TRIED && self.compared < MAX_COMPARED => {
                        self.guess(map, data, missed, watch)?
                    }
                    _ => None,
                };
                let Some(key) = guess else {
                    lookup.lost = Some("only its pointer is left, and no length makes it like a stored key".into());
                    return Ok(Some(lookup));
                };
                lookup.inferred = true;
                self.whole(lookup, target, map.as_ref(), key_type, key, watch).map(Some)
            }
        }
    }

    fn vouching(&mut self, watch: &dyn Watch) -> Result<&Vouching<'s>> {
        let vouching = match self.vouching.take() {
            Some(vouching) => vouching,
            None => Vouching::new(self.session, watch)?,
        };
        Ok(self.vouching.insert(vouching))
    }

    fn whole(
        &mut self,
        mut lookup: Lookup,
        target: Option<MapRef>,
        map: Option<&GoMap<'_>>,
        key_type: TypeId,
        bytes: Vec<u8>,
        watch: &dyn Watch,
    ) -> Result<Lookup> {
        lookup.key = shown(self.session, key_type, &bytes);
        if lookup.key.is_none() {
            lookup.lost = Some("what is left of it cannot be read".into());
        }
        let Some((map, target)) = map.zip(target) else { return Ok(lookup) };
        let identity = lookup.key.as_ref().and_then(|key| key.identity.clone());
        let same = identity.map(|identity| (target.address, target.ty, identity));
        if let Some(known) = same.as_ref().and_then(|same| self.known.get(same)) {
            let Lookup { kind, source, inferred, memory, .. } = lookup;
            return Ok(Lookup { kind, source, inferred, memory, ..known.clone() });
        }
        let keys = Keys::new(&*self.session.memory, &self.session.types);
        match map.look_up(&self.session.hasher(map), &keys, &bytes, watch) {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(error) => lookup.lost = Some(error.to_string()),
            Ok(found) => {
                lookup.verdict = Some(match found.found {
                    None => Verdict::Absent,
                    Some(found) => {
                        let elem = self.session.memory.bytes(found.elem_address, map.elem.size as usize);
                        let zero = elem.is_ok_and(|elem| elem.iter().all(|&byte| byte == 0));
                        if zero {
                            Verdict::Zero
                        } else {
                            Verdict::Present
                        }
                    }
                });
            }
        }
        if lookup.verdict == Some(Verdict::Absent) && self.compared < MAX_COMPARED {
            self.compared += map.count();
            let mut near = NearMisses::new(&keys, map.key.id, &bytes, NEAR)?;
            map.each(watch, &mut |entry| {
                if let Ok(stored) = entry.key {
                    near.offer(stored, entry.key_address);
                }
                Ok(true)
            })?;
            lookup.near = near.finish().near.into_iter().filter_map(|near| self.near(map, near)).collect();
            // Many NaN keys are all the same to the reader.
            lookup.near.dedup_by(|a, b| a.key.identity.is_some() && a.key.identity == b.key.identity);
        }
        self.known.extend(same.map(|same| (same, lookup.clone())));
        Ok(lookup)
    }

    fn near(&self, map: &GoMap<'_>, near: crate::map::nearby::Near) -> Option<NearKey> {
        let key = shown(self.session, map.key.id, &near.key)?;
        let confusable = near.distance < CONFUSABLE;
        let never_equal = near.relation == Relation::Nan;
        Some(NearKey { key, relation: near.relation.name(), detail: near.detail, confusable, never_equal })
    }

    /// A string key whose length is lost: of a length that makes it a stored key, unless the lookup is known to have
    /// missed; else of that which makes it equal to one but for what is easily overlooked.
    fn guess(&mut self, map: &GoMap<'_>, data: u64, missed: bool, watch: &dyn Watch) -> Result<Option<Vec<u8>>> {
        let memory = &*self.session.memory;
        let mut longest = 0;
        map.each(watch, &mut |entry| {
            let len = entry.key.as_ref().ok().and_then(|key| key.get(8..16)?.try_into().ok());
            longest = longest.max(len.map_or(0, u64::from_le_bytes).min(MAX_GUESSED));
            Ok(true)
        })?;
        let keys = Keys::new(memory, &self.session.types);
        let (mut equal, mut best): (Option<Vec<u8>>, Option<(u32, Vec<u8>)>) = (None, None);
        for len in 1..=longest + LONGER {
            let Ok(bytes) = memory.bytes(data, len as usize) else { break };
            // What follows a string in its heap object is zeros.
            if bytes.contains(&0) {
                break;
            }
            if std::str::from_utf8(&bytes).is_err() {
                continue;
            }
            let key = [data.to_le_bytes(), len.to_le_bytes()].concat();
            self.compared += map.count();
            let mut near = NearMisses::new(&keys, map.key.id, &key, 1)?;
            map.each(watch, &mut |entry| {
                if let Ok(stored) = entry.key {
                    near.offer(stored, entry.key_address);
                }
                Ok(true)
            })?;
            let found = near.finish();
            let alike = |relation| {
                use Relation::*;
                matches!(relation, Whitespace | Invisible | UnicodeForm | Case | Homoglyph | Encoding)
            };
            match found.near.first() {
                _ if found.equal.is_some() => equal = Some(key),
                Some(near) if alike(near.relation) && best.as_ref().is_none_or(|(best, _)| near.distance < *best) => {
                    best = Some((near.distance, key))
                }
                _ => {}
            }
        }
        Ok(equal.filter(|_| !missed).or(best.map(|(_, key)| key)))
    }

    /// The key out of the variable that the source names as the key.
    fn by_variable(&self, goroutine: &Goroutine, site: &Site, key_type: TypeId) -> Option<Vec<u8>> {
        let (name, line) = (site.key_expr.as_deref()?, site.line.as_ref()?);
        if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
            || name.starts_with(|c: char| c.is_numeric())
        {
            return None;
        }
        let locals = Locals::of(self.session, goroutine).ok()?;
        let frame = site.frame?;
        let frames = goroutine.stack.frames.get(..frame)?;
        let first: usize = frames.iter().map(|frame| frame.info.lines.len()).sum();
        let lines = &goroutine.stack.frames.get(frame)?.info.lines;
        let number = first + lines.iter().position(|one| one.func == line.func)?;
        let level = locals.level(number).ok()?;
        let mut arena = Arena::default();
        let first = name.split('.').next()?;
        let local = level.local(first)?.location(&mut arena).ok()?;
        let memory = Overlay::new(&arena, &*self.session.memory);
        let look = |asked: &str| Ok((asked == first).then_some(local));
        let types = &self.session.types;
        let (session, hashers) = (self.session, &Hashers::default());
        let scope = Scope { session, memory: &memory, locals: &look, hashers, scans: false, watch: &Quiet };
        let place = expression::evaluate(scope, name).and_then(Meaning::place).ok()?;
        let (have, wanted) = (types.load(place.ty).ok()?, types.load(key_type).ok()?);
        let memory: &dyn Memory = &memory;
        (have.name == wanted.name)
            .then(|| memory.bytes(place.address, wanted.size as usize).ok())?
            .map(|b| b.into_owned())
    }
}
