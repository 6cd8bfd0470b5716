//! What only the whole of memory and code tells of a wait: who else could end it, and how the key behind it is missed.

use super::holders::Holder;
use super::leads::Others;
use super::leaks::Leaks;
use super::live::Live;
use super::lookup::{Lookup, Verdict, CONFUSABLE};
use super::shown::shown;
use super::sites::{KeyAsked, Site, Sites};
use super::stack::On;
use super::{Blocked, Goroutine, SyncKind, SyncState};
use crate::error::Watch;
use crate::heap::Heap;
use crate::map::identity::Key;
use crate::map::keys::Keys;
use crate::map::nearby::NearMisses;
use crate::score::{Clue, Reach};
use crate::session::Session;
use crate::types::{Kind, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use rustc_hash::{FxHashMap, FxHashSet};

/// Entries whose keys are compared with the others of their maps, and keys compared in all.
const MAX_ENTRIES: usize = 64;
const MAX_COMPARED: u64 = 1 << 22;
/// Near keys looked at for one entry.
const NEAR: usize = 8;
/// Bytes of an object on the way to a key that a stack points to, such as a closure.
const MAX_CLOSURE: u64 = 256;
/// Different lengths of texts that are looked for.
const MAX_LENGTHS: usize = 16;
/// Longest key looked for on stacks.
const MAX_KEY: u64 = 4096;

/// Finds clues for one cluster after the other.
pub struct Clues<'l> {
    session: &'l Session,
    leaks: &'l Leaks,
    others: &'l FxHashMap<u64, Others>,
    /// Lookups that missed and whose goroutines are stuck, by map.
    missed: FxHashMap<u64, Vec<(u64, &'l Lookup)>>,
    compared: u64,
    /// Read when it is first asked for.
    heap: Option<Option<Heap>>,
}

impl<'l> Clues<'l> {
    pub fn new(session: &'l Session, leaks: &'l Leaks, others: &'l FxHashMap<u64, Others>) -> Clues<'l> {
        let mut missed: FxHashMap<u64, Vec<(u64, &Lookup)>> = FxHashMap::default();
        for goroutine in &leaks.goroutines.all {
            let lookup = leaks.lookups.get(&goroutine.goid);
            let stuck = matches!(goroutine.blocked_on, Some(Blocked::NilChan));
            if let Some((lookup, map)) = lookup.filter(|_| stuck).and_then(|lookup| Some((lookup, lookup.map?))) {
                missed.entry(map).or_default().push((goroutine.goid, lookup));
            }
        }
        Clues { session, leaks, others, missed, compared: 0, heap: None }
    }

    /// The clues of a cluster.
    pub fn of(
        &mut self,
        sites: &[Site],
        members: &[&Goroutine],
        code: &mut Sites<'_>,
        watch: &dyn Watch,
    ) -> Result<Vec<Clue>> {
        let mut clues = Vec::new();
        let held: Vec<(&Goroutine, &Holder)> =
            members.iter().flat_map(|g| self.leaks.held_by(g).into_iter().map(move |h| (*g, h))).collect();
        // Every member's objects: one that something else leads to is woken by that, and the others may be too.
        let led = |test: &dyn Fn(&Others) -> bool| {
            let of = |g: &&Goroutine| {
                let addresses = g.blocked_on.as_ref().map(Blocked::addresses).unwrap_or_default();
                !addresses.is_empty() && addresses.iter().all(|at| self.others.get(at).is_some_and(test))
            };
            !members.is_empty() && members.iter().all(of)
        };
        if led(&Others::none) {
            clues.push(Clue::OnlyWaiters);
        }
        if let Some(&(_, first)) = held.first().filter(|_| led(&Others::only_entry)) {
            clues.push(Clue::OnlyEntry { map: first.map.clone(), key: first.key.clone() });
            let alone = self.keys_are_nowhere_else(&held, watch)?;
            if alone {
                clues.extend(self.twin(&held, watch)?);
            }
            if alone && members.iter().all(|g| is_locked(g)) {
                clues.push(Clue::HeldByNobody);
            }
        }
        clues.extend(held.iter().find_map(|(_, holder)| self.missed_by(holder)));
        if let Some(&(_, first)) = held.first() {
            clues.extend(self.other_type(first, sites, code, watch)?);
        }
        if led(&|others| others.goroutine) {
            clues.push(Clue::OthersHaveIt);
        }
        if led(&|others| !others.others_have_it()) {
            clues.extend(self.zero_awaited(sites, members));
        }
        Ok(clues)
    }

    /// A stuck goroutine whose lookup missed this entry by what is easily overlooked.
    fn missed_by(&self, holder: &Holder) -> Option<Clue> {
        let mut all = self.missed.get(&holder.address)?.iter();
        all.find_map(|(goid, lookup)| {
            let stored = holder.identity.as_ref()?;
            let is_it = |key: &Key| key.is_in_one_map(stored);
            let near =
                lookup.near.iter().find(|near| near.confusable && near.key.identity.as_ref().is_some_and(is_it))?;
            Some(Clue::MissedBy {
                goid: *goid,
                asked: lookup.key.as_ref()?.text.clone(),
                map: holder.map.clone(),
                key: holder.key.clone(),
                relation: near.relation,
            })
        })
    }

    /// A key of the same map that an entry's is easily taken for.
    fn twin(&mut self, held: &[(&Goroutine, &Holder)], watch: &dyn Watch) -> Result<Option<Clue>> {
        let session = self.session;
        let keys = Keys::new(&*session.memory, &session.types);
        let mut seen = FxHashSet::default();
        for (_, holder) in held.iter().filter(|(_, holder)| seen.insert(holder.key_address)).take(MAX_ENTRIES) {
            let Some(map) = holder.map_ref().and_then(|map| session.open(map).ok()) else { continue };
            self.compared += map.count();
            if self.compared > MAX_COMPARED {
                break;
            }
            let Ok(ty) = session.types.load(holder.key_type) else { continue };
            let Ok(bytes) = session.memory.bytes(holder.key_address, ty.size as usize) else { continue };
            let Ok(mut near) = NearMisses::new(&keys, holder.key_type, &bytes, NEAR) else { continue };
            // A key much longer than one with an empty part is not near it, and fills it all the same.
            let text = |key: &[u8]| keys.text(&ty, key);
            let own = text(&bytes).filter(|own| has_empty_part(own));
            let mut filled: Option<Vec<u8>> = None;
            map.each(watch, &mut |entry| {
                if let (Ok(stored), true) = (&entry.key, entry.key_address != holder.key_address) {
                    near.offer(stored, entry.key_address);
                    if let (Some(own), None) = (&own, &filled) {
                        filled = text(stored).filter(|other| fills_empty_part(own, other)).map(|_| stored.to_vec());
                    }
                }
                Ok(true)
            })?;
            let near = near.finish().near.into_iter().find(|one| one.distance < CONFUSABLE);
            let near = near.map(|one| (one.key, one.relation.name()));
            let Some((other, relation)) = near.or(filled.map(|key| (key, "fills a part that is empty"))) else {
                continue;
            };
            if let Some(other) = shown(session, holder.key_type, &other) {
                let (map, key) = (holder.map.clone(), holder.key.clone());
                return Ok(Some(Clue::Twin { map, key, other: other.text, relation }));
            }
        }
        Ok(None)
    }

    /// Code that looks the map up with keys of another type than the one stored, and none that does with that.
    fn other_type(
        &self,
        holder: &Holder,
        sites: &[Site],
        code: &mut Sites<'_>,
        watch: &dyn Watch,
    ) -> Result<Option<Clue>> {
        let types = &self.session.types;
        let is_interface = types.load(holder.key_type).is_ok_and(|ty| matches!(ty.shape, Shape::Interface { .. }));
        let same = |site: &&Site| site.map.as_deref().is_none_or(|map| holder.map.starts_with(map));
        let site = sites.iter().filter(|site| site.variable.is_some()).find(same);
        let (true, Some(variable)) = (is_interface, site.and_then(|site| site.variable)) else { return Ok(None) };
        let Some(stored) = self.dynamic_type(holder) else { return Ok(None) };
        let Some(lookups) = code.lookups_of(variable, watch)? else { return Ok(None) };
        let other = |(ty, line): &KeyAsked| Some((ty.filter(|&ty| ty != stored)?, line.clone()));
        let others: Option<Vec<_>> = lookups.iter().map(other).collect();
        let Some((asked, line)) = others.and_then(|others| others.into_iter().next()) else { return Ok(None) };
        let name = |ty| types.load(ty).map_or_else(|_| "?".to_string(), |ty| ty.name.to_string());
        let map = site.and_then(|site| site.map.clone()).unwrap_or_else(|| holder.map.clone());
        Ok(Some(Clue::OtherType { map, stored: name(stored), asked: name(asked), at: line.func.to_string() }))
    }

    /// The dynamic type of an interface key.
    fn dynamic_type(&self, holder: &Holder) -> Option<TypeId> {
        let descriptor = self.session.memory.u64(holder.key_address).ok()?;
        self.session.types.by_descriptor(descriptor).ok()
    }

    /// A wait on a cond, in a loop that a lookup ends, which finds a stored zero.
    fn zero_awaited(&self, sites: &[Site], members: &[&Goroutine]) -> Option<Clue> {
        let site = sites.first().filter(|site| site.reach == Reach::Until)?;
        members.iter().find_map(|goroutine| {
            let lookup = self.leaks.lookups.get(&goroutine.goid)?;
            let zero =
                lookup.verdict == Some(Verdict::Zero) && matches!(goroutine.blocked_on, Some(Blocked::Cond { .. }));
            let key = lookup.key.as_ref().filter(|_| zero)?.text.clone();
            Some(Clue::ZeroAwaited { map: site.map.clone().unwrap_or_else(|| format!("a {}", lookup.map_type)), key })
        })
    }

    /// Whether no goroutine has the key of one of these entries but those that wait there: on its stack, or in a small
    /// object that its stack points to. False where a key cannot be looked for.
    fn keys_are_nowhere_else(&mut self, held: &[(&Goroutine, &Holder)], watch: &dyn Watch) -> Result<bool> {
        let session = self.session;
        let memory = &*session.memory;
        let mut texts: FxHashSet<Vec<u8>> = FxHashSet::default();
        let mut numbers: FxHashSet<u64> = FxHashSet::default();
        for (_, holder) in held {
            match self.needle(holder.key_type, holder.key_address, 2) {
                Some(Needle::Text(text)) => drop(texts.insert(text)),
                Some(Needle::Number(number)) => drop(numbers.insert(number)),
                None => return Ok(false),
            }
        }
        let lengths: FxHashSet<u64> = texts.iter().map(|text| text.len() as u64).collect();
        if lengths.len() > MAX_LENGTHS {
            return Ok(false);
        }
        let is_text = |at: u64, len: u64| memory.bytes(at, len as usize).is_ok_and(|text| texts.contains(&*text));
        let is_key = |words: &[u64]| {
            words.iter().any(|word| numbers.contains(word))
                || words.windows(2).any(|pair| lengths.contains(&pair[1]) && is_text(pair[0], pair[1]))
        };
        let live = Live::of(self.session, self.leaks.goroutines.all.iter());
        if self.heap.is_none() {
            self.heap = Some(match Heap::of(self.session, watch) {
                Err(Error::Interrupted) => return Err(Error::Interrupted),
                heap => heap.ok(),
            });
        }
        let heap = self.heap.as_ref().and_then(Option::as_ref);
        let own: FxHashSet<u64> = held.iter().map(|(goroutine, _)| goroutine.g).collect();
        for (i, goroutine) in self.leaks.goroutines.all.iter().enumerate() {
            if i % 64 == 0 {
                watch.tick(i as u64, self.leaks.goroutines.all.len() as u64)?;
            }
            let mut frames = goroutine.stack.frames.iter().filter(|frame| frame.on == On::Goroutine);
            let Some(first) = frames.next().filter(|_| !goroutine.system && !own.contains(&goroutine.g)) else {
                continue;
            };
            let end = frames.next_back().map_or(first.end, |last| last.end);
            let words = |at: u64, len: u64| memory.words(at, len as usize / 8).unwrap_or_default();
            // A number may be anywhere; a text is had only by a pointer that is still used, its length somewhere on the stack.
            let stack = words(first.sp, end.saturating_sub(first.sp));
            let parts = live.parts(goroutine);
            let used = parts.iter().flat_map(|part| words(part.start, part.end.saturating_sub(part.start)));
            let lengths: Vec<u64> = lengths.iter().copied().filter(|len| stack.contains(len)).collect();
            let has = |word: u64| word > 4096 && lengths.iter().any(|&len| is_text(word, len));
            let object = |at: u64| match heap.as_ref().and_then(|heap| heap.object(at)) {
                // What lies behind an object is another's.
                Some(object) => words(at, (object.base + object.span.elem_size - at).min(MAX_CLOSURE)),
                None => words(at, MAX_CLOSURE),
            };
            if stack.iter().any(|word| numbers.contains(word))
                || used.into_iter().any(|word| has(word) || word > 4096 && is_key(&object(word)))
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What of a key can be looked for.
    fn needle(&self, ty: TypeId, at: u64, depth: usize) -> Option<Needle> {
        let memory = &*self.session.memory;
        let loaded = self.session.types.load(ty).ok()?;
        match (&loaded.shape, loaded.kind) {
            (_, Kind::String) => {
                let (data, len) = (memory.u64(at).ok()?, memory.u64(at.checked_add(8)?).ok()?);
                let text = (len > 0 && len <= MAX_KEY).then(|| memory.bytes(data, len as usize).ok())??;
                Some(Needle::Text(text.into_owned()))
            }
            (Shape::Interface { methods: false }, _) if depth > 0 => {
                let (descriptor, data) = (memory.u64(at).ok()?, memory.u64(at.checked_add(8)?).ok()?);
                let inner = self.session.types.by_descriptor(descriptor).ok()?;
                match crate::binary::rtype::is_direct(memory, descriptor).ok()? {
                    true => Some(Needle::Number(data)),
                    false => self.needle(inner, data, depth - 1),
                }
            }
            // Who has not its longest text, or its first number, has not all of it.
            (Shape::Struct(fields), _) if depth > 0 => {
                let parts =
                    fields.iter().filter_map(|field| self.needle(field.ty, at.checked_add(field.offset)?, depth - 1));
                parts.max_by_key(|part| match part {
                    Needle::Text(text) => text.len(),
                    Needle::Number(_) => 0,
                })
            }
            (Shape::Plain | Shape::Pointer(_) | Shape::Chan(_), _) if loaded.size == 8 => {
                memory.u64(at).ok().map(Needle::Number)
            }
            (Shape::Plain, _) if loaded.size == 4 => memory.u32(at).ok().map(|n| Needle::Number(n.into())),
            _ => None,
        }
    }
}

enum Needle {
    Text(Vec<u8>),
    Number(u64),
}

/// Whether a goroutine waits for a lock that is held.
fn is_locked(goroutine: &Goroutine) -> bool {
    let Some(Blocked::Semaphore(sync)) = &goroutine.blocked_on else { return false };
    sync.state.and_then(SyncState::is_held) == Some(true)
        && matches!(sync.kind, SyncKind::Mutex | SyncKind::RwMutexRead | SyncKind::RwMutexWrite)
}

const SEPARATORS: &[u8] = b"_-:/.|,#@";

/// Whether a key ends or begins with a separator.
fn has_empty_part(key: &[u8]) -> bool {
    [key.first(), key.last()].into_iter().flatten().any(|end| SEPARATORS.contains(end))
}

/// Whether a key ends (or begins) with a separator, and the other goes on after (or before) it.
fn fills_empty_part(key: &[u8], other: &[u8]) -> bool {
    let is_separator = |end: Option<&u8>| end.is_some_and(|end| SEPARATORS.contains(end));
    other.len() > key.len()
        && (is_separator(key.last()) && other.starts_with(key) || is_separator(key.first()) && other.ends_with(key))
}

#[cfg(test)]
mod tests {
    use super::{fills_empty_part, has_empty_part};

    #[test]
    fn a_part_that_is_empty_in_one_key_and_filled_in_another() {
        assert!(fills_empty_part(b"42_", b"42_default"));
        assert!(fills_empty_part(b":80", b"host:80"));
        assert!(!fills_empty_part(b"user:1", b"user:10"));
        assert!(!fills_empty_part(b"42_", b"42_"));
        assert!(!fills_empty_part(b"42", b"421"));
        assert!(has_empty_part(b"42_") && !has_empty_part(b"4_2"));
    }
}
