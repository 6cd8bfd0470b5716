//! Finding one key as the runtime would: by its hash, along the runtime's own path, in every state of growth.
//!
//! Sources: `mapaccess2` in src/runtime/map.go go1.19 to 1.23; `Map.getWithKey`, `table.getWithKey` in
//! src/internal/runtime/maps go1.24 to 1.27.

use super::classic::is_evacuated;
use super::hash::HashState;
use super::keys::{KeyHash, Keys, Recipe};
use super::swiss::Table;
use super::{sync, Cell, GoMap, Header, Place};
use crate::error::Watch;
use crate::layout::{hmap, swiss, sync_map as layout, SLOTS};
use crate::memory::Memory;
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use rustc_hash::FxHashSet;
use std::fmt;

/// How keys of a map are hashed, or why that is not known.
#[derive(Debug, Clone)]
pub enum Hasher {
    /// The target's state and the recipe of this map's hasher function, with its name.
    Known { state: Box<HashState>, recipe: Recipe, function: String },
    /// Every key has to be compared, because …
    Unknown(String),
}

/// A slot that a lookup looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The bucket or group.
    pub place: Place,
    /// Its address.
    pub address: u64,
    /// The slot.
    pub slot: usize,
    /// Its tophash or control byte.
    pub control: u8,
    /// What came of it.
    pub matched: Match,
}

/// How far a slot matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// The tophash or control byte differs: the key was not compared.
    None,
    /// The byte is equal, the key is not.
    Byte,
    /// The key is equal.
    Key,
}

/// Where an entry lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The bucket or group.
    pub place: Place,
    /// The slot.
    pub slot: usize,
    /// Address of the stored key.
    pub key_address: u64,
    /// Address of the elem.
    pub elem_address: u64,
}

/// What a lookup did and found.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The hash; `None` when the hasher is unknown and every key was compared.
    pub hash: Option<KeyHash>,
    /// The map's seed.
    pub seed: u64,
    /// The slots looked at, in order.
    pub path: Vec<Step>,
    /// Why the runtime stops there, or that it never does.
    pub stop: Stop,
    /// The entry.
    pub found: Option<Found>,
}

/// Why a lookup ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It did not begin.
    NotBegun,
    /// No hash is known: every key was compared.
    Compared,
    Nil,
    Empty,
    /// A `sync.Map` without anything in it.
    NeverUsed,
    /// The key is there.
    Equal,
    /// The key is there, but its value was deleted (`sync.Map`).
    Deleted,
    /// Classic: nothing follows in the bucket or its chain.
    EmptyRest,
    /// Classic: the end of the chain.
    ChainEnd,
    /// Swiss: the end of a small map's only group.
    OnlyGroup,
    /// Swiss: a group with an empty slot.
    EmptySlot,
    /// `sync.Map`: nothing under these bits of the hash, or an entry with another key.
    NoEntry,
    OtherKey,
    /// It never ends.
    Never(Endless),
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stop::NotBegun => "",
            Stop::Compared => "every key was compared",
            Stop::Nil => "the map is nil",
            Stop::Empty => "the map is empty, so the runtime looks no further",
            Stop::NeverUsed => "the map was never used",
            Stop::Equal => "the key is equal",
            Stop::Deleted => "the key is there, but its value was deleted",
            Stop::EmptyRest => "emptyRest: nothing follows in this bucket or its overflow chain",
            Stop::ChainEnd => "the end of the bucket's chain",
            Stop::OnlyGroup => "the end of the only group",
            Stop::EmptySlot => "a group with an empty slot ends the probe",
            Stop::NoEntry => "there is nothing under these bits of the hash",
            Stop::OtherKey => "the entry under these bits of the hash has another key",
            Stop::Never(endless) => return write!(f, "{endless}"),
        })
    }
}

/// What makes a lookup of an absent key go on for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endless {
    /// Swiss: a probe ends only at a group with an empty slot (`getWithKey`, src/internal/runtime/maps/table.go, go1.24
    /// to 1.27), and the table has none.
    Table { index: u64 },
    /// Classic: a chain of overflow buckets leads back to one of its own (`mapaccess2`, src/runtime/map.go).
    Chain { old: bool, index: u64, address: u64 },
    /// `sync.Map`: so does a chain of entries with one hash (`entry.lookup`, src/internal/sync/hashtriemap.go).
    Entries { level: u64, prefix: u64 },
}

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Endless::Table { index } => {
                write!(f, "table {index} has no empty slot, which is where a lookup of an absent key ends")
            }
            Endless::Chain { old, index, address } => {
                write!(f, "overflow chain of {} {index} returns to itself at {address:#x}", super::note::bucket(old))
            }
            Endless::Entries { level, prefix } => {
                write!(f, "the entries at level {level} under hash prefix {prefix:#x} lead back to themselves")
            }
        }
    }
}

/// The tophash of a hash: its top byte, kept clear of the marks below `minTopHash`.
pub fn tophash(hash: u64) -> u8 {
    let top = (hash >> 56) as u8;
    if top < hmap::MIN_TOP_HASH {
        top + hmap::MIN_TOP_HASH
    } else {
        top
    }
}

/// The part of a hash that control bytes hold.
pub fn h2(hash: u64) -> u8 {
    (hash & 0x7f) as u8
}

impl GoMap<'_> {
    /// The map's hash seed; 0 for a nil map.
    pub fn seed(&self) -> u64 {
        match &self.header {
            Header::Nil => 0,
            Header::Classic(header) => header.hash0 as u64,
            Header::Swiss(header) => header.seed,
            Header::Sync(sync::Header::Trie(trie)) => trie.seed,
            Header::Sync(sync::Header::ReadDirty(_)) => 0,
        }
    }

    /// Looks up the key whose bytes are `key`; what it points to is read by `keys`.
    pub fn look_up(&self, hasher: &Hasher, keys: &Keys<'_>, key: &[u8], watch: &dyn Watch) -> Result<Lookup> {
        let mut lookup = Lookup { hash: None, seed: self.seed(), path: Vec::new(), stop: Stop::NotBegun, found: None };
        let Hasher::Known { state, recipe, .. } = hasher else {
            lookup.found = self.scan_for(keys, key, watch)?;
            lookup.stop = Stop::Compared;
            return Ok(lookup);
        };
        if let Header::Sync(sync::Header::ReadDirty(maps)) = &self.header {
            return self.look_up_in_both(maps, hasher, keys, key, watch);
        }
        let hash = keys.hash(state, recipe, key, lookup.seed)?;
        lookup.hash = Some(hash.clone());
        let KeyHash::Known(hash) = hash else { return Ok(lookup) };
        let fast = Fast::of(self, recipe, key);
        let mut search = Search { map: self, keys, key, fast, lookup };
        match &self.header {
            Header::Nil => search.lookup.stop = Stop::Nil,
            Header::Classic(_) | Header::Swiss(_) if self.count() == 0 => search.lookup.stop = Stop::Empty,
            Header::Classic(header) => search.classic(header, hash)?,
            Header::Swiss(header) if header.is_small() => search.small(header, hash)?,
            Header::Swiss(header) => search.tables(header, hash)?,
            Header::Sync(header) => search.trie(header, hash)?,
        }
        Ok(search.lookup)
    }

    /// As `sync.Map.Load` does: `read.m`, then `dirty` when it has more.
    fn look_up_in_both(
        &self,
        maps: &sync::ReadDirty,
        hasher: &Hasher,
        keys: &Keys<'_>,
        key: &[u8],
        watch: &dyn Watch,
    ) -> Result<Lookup> {
        let mut lookup = Lookup { hash: None, seed: 0, path: Vec::new(), stop: Stop::NeverUsed, found: None };
        for (header, used) in [(maps.read, true), (maps.dirty, maps.amended)] {
            if header == 0 || !used || lookup.found.is_some() {
                continue;
            }
            let inner = GoMap::open(self.memory, self.types, maps.inner, header)?;
            let part = inner.look_up(hasher, keys, key, watch)?;
            lookup.path.extend(part.path);
            (lookup.hash, lookup.seed, lookup.stop) = (part.hash, part.seed, part.stop);
            if let Some(found) = part.found {
                let pointer = self.memory.array::<8>(found.elem_address)?;
                match maps.value_at(self.memory, &pointer)? {
                    Some(value) => lookup.found = Some(Found { elem_address: value, ..found }),
                    None => {
                        lookup.stop = Stop::Deleted;
                        return Ok(lookup);
                    }
                }
            }
        }
        Ok(lookup)
    }

    /// The first entry with an equal key, found by comparing every one.
    pub fn scan_for(&self, keys: &Keys<'_>, key: &[u8], watch: &dyn Watch) -> Result<Option<Found>> {
        let mut found = None;
        self.each(watch, &mut |entry| {
            let Ok(stored) = entry.key else { return Ok(true) };
            if keys.equal(&self.key, stored, key).unwrap_or(false) {
                let (key_address, elem_address) = (entry.key_address, entry.elem_address);
                found = Some(Found { place: entry.place, slot: entry.slot, key_address, elem_address });
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }
}

/// Which of the runtime's lookups compiled code calls: keys of 4 or 8 plain bytes, and strings, have their own, unless
/// elems are large (`mapfast`, src/cmd/compile/internal/walk/walk.go).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fast {
    No,
    Word,
    /// Strings, with the length of the key.
    String(u64),
}

impl Fast {
    const MAX_ELEM: u64 = 128;

    fn of(map: &GoMap<'_>, recipe: &Recipe, key: &[u8]) -> Fast {
        match recipe {
            _ if map.elem.size > Fast::MAX_ELEM => Fast::No,
            Recipe::Memory32 | Recipe::Memory64 => Fast::Word,
            Recipe::String => Fast::String(key.get(8..16).map_or(0, LE::read_u64)),
            _ => Fast::No,
        }
    }
}

/// The first and last bytes of a string, by which the runtime chooses what it compares whole.
type Ends = (u64, Vec<u8>, Vec<u8>);

struct Search<'s, 'a> {
    map: &'s GoMap<'a>,
    keys: &'s Keys<'s>,
    key: &'s [u8],
    fast: Fast,
    lookup: Lookup,
}

impl Search<'_, '_> {
    fn classic(&mut self, header: &super::classic::Header, hash: u64) -> Result<()> {
        let map = self.map;
        let size = map.slots.size;
        // One bucket: strings are found in it without their hash (`mapaccess2_faststr`, src/runtime/map_faststr.go).
        if let (Fast::String(len), 0) = (self.fast, header.b) {
            let bytes = map.memory.bytes(header.buckets, size as usize)?;
            let place = Place::Bucket { old: false, index: 0, overflow: 0 };
            let cell = Cell { place, address: header.buckets, bytes: &bytes, live: u8::MAX };
            let mut slots: Vec<usize> = (0..SLOTS).filter(|&slot| bytes[slot] > hmap::EMPTY_ONE).collect();
            if len >= 32 {
                self.keep_alike(&cell, &mut slots, 4);
            }
            if len < 32 || slots.len() < 2 {
                self.lookup.stop = Stop::ChainEnd;
                return self.among(&cell, &slots).map(drop);
            }
        }
        let address_of = |array: u64, index: u64| array.wrapping_add(index.wrapping_mul(size));
        let index = hash & (header.bucket_count() - 1);
        let (mut old, mut number) = (false, index);
        let mut address = address_of(header.buckets, index);
        if header.is_growing() {
            let old_index = hash & (header.old_bucket_count() - 1);
            let old_address = address_of(header.oldbuckets, old_index);
            if !is_evacuated(map.memory.u8(old_address)?) {
                (old, number, address) = (true, old_index, old_address);
            }
        }
        let top = tophash(hash);
        let mut overflow = 0;
        let mut seen = FxHashSet::default();
        let limit = header.count.saturating_add(1 << 16);
        while overflow <= limit {
            let bytes = map.memory.bytes(address, size as usize)?;
            let place = Place::Bucket { old, index: number, overflow };
            let cell = Cell { place, address, bytes: &bytes, live: u8::MAX };
            for (slot, &byte) in cell.control().iter().enumerate() {
                // Keys of 4 and 8 bytes are compared without their tophash; neither they nor strings stop at emptyRest
                // (src/runtime/map_fast32.go, map_fast64.go, map_faststr.go, go1.19 to 1.23).
                let wanted = if self.fast == Fast::Word { byte > hmap::EMPTY_ONE } else { byte == top };
                if !wanted {
                    self.step(&cell, slot, byte, Match::None);
                    if byte == hmap::EMPTY_REST && self.fast == Fast::No {
                        self.lookup.stop = Stop::EmptyRest;
                        return Ok(());
                    }
                } else if self.compare(&cell, slot, byte)? {
                    return Ok(());
                }
            }
            address = LE::read_u64(&bytes[size as usize - 8..]);
            if address == 0 {
                self.lookup.stop = Stop::ChainEnd;
                return Ok(());
            }
            if !seen.insert(address) {
                self.lookup.stop = Stop::Never(Endless::Chain { old, index: number, address });
                return Ok(());
            }
            overflow += 1;
        }
        Err(Error::Map(format!("the overflow chain of bucket {number} is longer than the map can need")))
    }

    /// Compares the key with those in `slots` of a cell, and with no other.
    fn among(&mut self, cell: &Cell<'_>, slots: &[usize]) -> Result<bool> {
        for (slot, &byte) in cell.control().iter().enumerate() {
            if !slots.contains(&slot) {
                self.step(cell, slot, byte, Match::None);
            } else if self.compare(cell, slot, byte)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Leaves those slots whose strings have the key's length and its first and last `count` bytes.
    fn keep_alike(&self, cell: &Cell<'_>, slots: &mut Vec<usize>, count: u64) {
        let ends = |string: &[u8]| -> Option<Ends> {
            let (data, len) = (LE::read_u64(string.get(..8)?), LE::read_u64(string.get(8..16)?));
            let last = data.checked_add(len.checked_sub(count)?)?;
            let part = |at: u64| self.keys.memory().bytes(at, count as usize).ok().map(|part| part.into_owned());
            Some((len, part(data)?, part(last)?))
        };
        let wanted = ends(self.key);
        slots.retain(|&slot| {
            self.map.with_entry(cell, slot, &mut |entry| entry.key.clone().ok().and_then(ends)) == wanted
        });
    }

    /// A small map: its one group. Keys of 4 or 8 plain bytes are compared without their hash, and so are long strings
    /// of which only one is like the key (`getWithoutKeySmallFastStr`, src/internal/runtime/maps/runtime_faststr*.go).
    fn small(&mut self, header: &super::swiss::Header, hash: u64) -> Result<()> {
        const LONG: u64 = 64;
        let map = self.map;
        let bytes = map.memory.bytes(header.dir_ptr, map.slots.size as usize)?;
        let place = Place::Group { table: 0, group: 0 };
        let cell = Cell { place, address: header.dir_ptr, bytes: &bytes, live: u8::MAX };
        let controls = cell.control();
        let by_hash = || (0..SLOTS).filter(|&slot| controls[slot] == h2(hash)).collect();
        let mut slots: Vec<usize> = (0..SLOTS).filter(|&slot| controls[slot] & 0x80 == 0).collect();
        match self.fast {
            Fast::Word => {}
            Fast::String(len) if len > LONG => {
                self.keep_alike(&cell, &mut slots, 8);
                if slots.len() > 1 {
                    slots = by_hash();
                }
            }
            Fast::String(_) | Fast::No => slots = by_hash(),
        }
        self.lookup.stop = Stop::OnlyGroup;
        self.among(&cell, &slots).map(drop)
    }

    fn tables(&mut self, header: &super::swiss::Header, hash: u64) -> Result<()> {
        let map = self.map;
        let index = header.directory_index(hash);
        if index >= header.dir_len {
            return Err(Error::Map(format!("directory index {index} is beyond its {} entries", header.dir_len)));
        }
        let table = Table::read(map.memory, map.memory.u64(header.dir_ptr.wrapping_add(8 * index))?)?;
        let mask = table.length_mask;
        let mut group = hash >> 7 & mask;
        for step in 1..=table.group_count() {
            let address = table.groups.wrapping_add(group.wrapping_mul(map.slots.size));
            let bytes = map.memory.bytes(address, map.slots.size as usize)?;
            let place = Place::Group { table: table.index.max(0) as u64, group };
            let cell = Cell { place, address, bytes: &bytes, live: u8::MAX };
            let control = cell.control();
            for (slot, &byte) in control.iter().enumerate() {
                if byte != h2(hash) {
                    self.step(&cell, slot, byte, Match::None);
                } else if self.compare(&cell, slot, byte)? {
                    return Ok(());
                }
            }
            if control.contains(&swiss::EMPTY) {
                self.lookup.stop = Stop::EmptySlot;
                return Ok(());
            }
            group = (group + step) & mask;
        }
        self.lookup.stop = Stop::Never(Endless::Table { index: table.index.max(0) as u64 });
        Ok(())
    }

    /// The trie of a sync.Map: four bits of the hash a level, then the entries under them.
    fn trie(&mut self, header: &sync::Header, hash: u64) -> Result<()> {
        let (map, keys, key) = (self.map, self.keys, self.key);
        let sync::Header::Trie(trie) = header else { return Ok(()) };
        let memory = map.memory;
        self.lookup.stop = Stop::NeverUsed;
        for (level, child, address) in trie.path(memory, hash)? {
            let place = Place::Node { level, prefix: hash >> (64 - 4 * level) };
            let mut matched = Match::None;
            let mut entry = if address != 0 && memory.u8(address)? != 0 { address } else { 0 };
            self.lookup.stop = Stop::NoEntry;
            let mut seen = FxHashSet::default();
            for slot in 0..1 << 16 {
                if entry == 0 {
                    break;
                }
                if !seen.insert(entry) {
                    self.lookup.stop = Stop::Never(Endless::Entries { level, prefix: hash >> (64 - 4 * level) });
                    break;
                }
                let key_address = entry.wrapping_add(layout::ENTRY_KEY);
                let stored = memory.bytes(key_address, map.key.size as usize)?;
                if keys.equal(&map.key, &stored, key)? {
                    let elem_address = entry.wrapping_add(layout::ENTRY_VALUE);
                    self.lookup.found = Some(Found { place, slot, key_address, elem_address });
                    self.lookup.stop = Stop::Equal;
                    matched = Match::Key;
                    break;
                }
                matched = Match::Byte;
                self.lookup.stop = Stop::OtherKey;
                entry = memory.u64(entry.wrapping_add(layout::ENTRY_OVERFLOW))?;
            }
            self.lookup.path.push(Step { place, address, slot: 0, control: child as u8, matched });
        }
        Ok(())
    }

    fn step(&mut self, cell: &Cell<'_>, slot: usize, control: u8, matched: Match) {
        // A path this long is corrupt; its end says as much as its middle.
        if self.lookup.path.len() < 1 << 16 {
            self.lookup.path.push(Step { place: cell.place, address: cell.address, slot, control, matched });
        }
    }

    fn compare(&mut self, cell: &Cell<'_>, slot: usize, control: u8) -> Result<bool> {
        let (map, keys, key) = (self.map, self.keys, self.key);
        let found = map.with_entry(cell, slot, &mut |entry| -> Result<Option<Found>> {
            let stored = entry.key.clone()?;
            let (key_address, elem_address) = (entry.key_address, entry.elem_address);
            let found = Found { place: cell.place, slot, key_address, elem_address };
            Ok(keys.equal(&map.key, stored, key)?.then_some(found))
        })?;
        self.step(cell, slot, control, if found.is_some() { Match::Key } else { Match::Byte });
        if found.is_some() {
            self.lookup.found = found;
            self.lookup.stop = Stop::Equal;
        }
        Ok(found.is_some())
    }
}

/// Reads a process's hash state from its three variables.
pub fn read_hash_state(
    memory: &dyn Memory,
    [use_aes, schedule, hashkey]: [u64; 3],
    arm: bool,
    go: (u32, u32),
) -> Result<HashState> {
    use super::hash::Algorithm;
    let algorithm = match (memory.u8(use_aes)?, arm) {
        (0, _) => Algorithm::Fallback,
        (1, false) => Algorithm::AmdAes,
        (1, true) => Algorithm::ArmAes,
        (other, _) => return Err(Error::Map(format!("the hash state of the process is corrupt (AES flag {other})"))),
    };
    let schedule = memory.array::<128>(schedule)?;
    let words = memory.array::<{ 4 * SLOTS }>(hashkey)?;
    let hashkey = std::array::from_fn(|i| LE::read_u64(&words[8 * i..]));
    Ok(HashState::new(algorithm, &schedule, hashkey, go))
}
