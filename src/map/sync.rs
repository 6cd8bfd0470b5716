//! `sync.Map`, both layouts: read and dirty maps (Go <= 1.23, and `nosynchashtriemap` on 1.24 and 1.25), and the
//! hash trie (Go >= 1.24).
//!
//! Sources: src/sync/map.go go1.21 to 1.23 and src/sync/oldmap.go; src/internal/sync/hashtriemap.go go1.24 to 1.27.

use super::lookup::Endless;
use super::{Entry, Findings, GoMap, Note, Part, Place, Survey};
use crate::error::{Quiet, Watch};
use crate::layout::sync_map as at;
use crate::memory::{Memory, MemoryError};
use crate::types::{GoType, Kind, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use rustc_hash::FxHashSet;

/// What a `sync.Map` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// Two maps of entry pointers.
    ReadDirty(ReadDirty),
    /// A trie over the keys' hashes.
    Trie(Trie),
}

/// The layout of Go <= 1.23.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadDirty {
    /// Type of both inner maps, `map[any]*entry`.
    pub inner: TypeId,
    /// Header of `read.m`; 0 when never used.
    pub read: u64,
    /// Whether `dirty` holds keys that `read.m` lacks.
    pub amended: bool,
    /// Header of `dirty`; 0 for nil.
    pub dirty: u64,
    /// Loads that had to look into `dirty`.
    pub misses: u64,
    /// The pointer that marks an entry as deleted and not in `dirty`; 0 when it is not known.
    pub expunged: u64,
}

/// The layout of Go >= 1.24.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trie {
    /// The root node; 0 when never used.
    pub root: u64,
    /// Closure of the hasher.
    pub hasher: u64,
    /// Hash seed.
    pub seed: u64,
}

/// Counts that only a `sync.Map` has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncSurvey {
    /// Read and dirty: keys in `read.m` and in `dirty`, live or not.
    pub read: Option<u64>,
    pub dirty: Option<u64>,
    pub amended: Option<bool>,
    pub misses: Option<u64>,
    /// Entries whose value was deleted, and those that are expunged from `dirty` too.
    pub deleted: Option<u64>,
    pub expunged: Option<u64>,
    /// Trie: indirect nodes, deepest level, entries on overflow chains (equal full hashes).
    pub nodes: Option<u64>,
    pub depth: Option<u64>,
    pub overflow: Option<u64>,
}

/// The state of a `sync.entry`.
enum State {
    Live(u64),
    Deleted,
    Expunged,
}

/// The words of a `sync.Map`, by offset.
type Words<'w> = &'w dyn Fn(u64) -> Result<u64, MemoryError>;

/// Size of an interface.
const ANY: usize = 16;

impl Header {
    /// Reads the `sync.Map` of type `ty` at `address`.
    pub fn read(memory: &dyn Memory, types: &dyn TypeSource, ty: &GoType, address: u64) -> Result<Header> {
        Header::read_by(memory, types, ty, &|offset| memory.u64(address.wrapping_add(offset)))
    }

    /// The same, of one whose own bytes were read already.
    pub fn of_value(memory: &dyn Memory, types: &dyn TypeSource, ty: &GoType, value: &[u8]) -> Result<Header> {
        let missing = MemoryError { address: 0, place: memory.place() };
        Header::read_by(memory, types, ty, &|offset| {
            let word = usize::try_from(offset).ok().and_then(|at| value.get(at..at.checked_add(8)?));
            word.map(LE::read_u64).ok_or(missing.clone())
        })
    }

    fn read_by(memory: &dyn Memory, types: &dyn TypeSource, ty: &GoType, word: Words<'_>) -> Result<Header> {
        if let Some((trie_at, trie)) = field(ty, "m") {
            let trie = types.load(trie)?;
            let part = |name: &str| {
                let (offset, _) = field(&trie, name).ok_or_else(|| unknown(ty))?;
                Ok::<u64, Error>(word(trie_at.wrapping_add(offset))?)
            };
            return Ok(Header::Trie(Trie { root: part("root")?, hasher: part("keyHash")?, seed: part("seed")? }));
        }
        let part = |name: &str| field(ty, name).ok_or_else(|| unknown(ty));
        let ((dirty_at, inner), (misses_at, _)) = (part("dirty")?, part("misses")?);
        let read_only = word(read_only_at(types, ty)?.ok_or_else(|| unknown(ty))?)?;
        let (read, amended) = match read_only {
            0 => (0, false),
            _ => (memory.u64(read_only)?, memory.u8(read_only.wrapping_add(at::READ_ONLY_AMENDED))? != 0),
        };
        let (dirty, misses) = (word(dirty_at)?, word(misses_at)?);
        let mut maps = ReadDirty { inner, read, amended, dirty, misses, expunged: 0 };
        maps.expunged = match types.variable_address("sync.expunged") {
            Some(address) => memory.u64(address).unwrap_or(0),
            None => maps.find_expunged(memory, types).unwrap_or(0),
        };
        Ok(Header::ReadDirty(maps))
    }

    /// Calls `f` with every live entry, until it returns `false`.
    pub fn each(
        &self,
        memory: &dyn Memory,
        types: &dyn TypeSource,
        watch: &dyn Watch,
        findings: &mut Findings,
        f: &mut dyn FnMut(&Entry<'_>) -> Result<bool>,
    ) -> Result<SyncSurvey> {
        match self {
            Header::ReadDirty(maps) => maps.each(memory, types, watch, findings, f),
            Header::Trie(trie) => trie.each(memory, watch, findings, f),
        }
    }

    /// Live entries; what cannot be read does not count.
    pub fn count(&self, memory: &dyn Memory, types: &dyn TypeSource) -> u64 {
        let mut count = 0;
        let counted = self.each(memory, types, &Quiet, &mut Findings::default(), &mut |_| {
            count += 1;
            Ok(true)
        });
        counted.map_or(0, |_| count)
    }

    /// Counts everything in one walk.
    pub fn survey(&self, map: &GoMap<'_>, watch: &dyn Watch) -> Result<Survey> {
        let mut survey = Survey::default();
        let mut live = 0;
        let counts = self.each(map.memory, map.types, watch, &mut survey.findings, &mut |_| {
            live += 1;
            Ok(true)
        })?;
        survey.live = live;
        survey.bytes = match self {
            Header::Trie(_) => counts.nodes.unwrap_or(0) * at::INDIRECT_SIZE + live * at::ENTRY_SIZE + map.ty.size,
            Header::ReadDirty(maps) => {
                let inner = maps.inner_maps(map.memory, map.types);
                let sizes = inner.iter().map(|inner| inner.survey(watch).map_or(0, |survey| survey.bytes));
                sizes.fold(map.ty.size, u64::saturating_add)
            }
        };
        survey.sync = Some(counts);
        Ok(survey)
    }
}

impl ReadDirty {
    /// The inner maps that exist: `read.m`, then `dirty`.
    pub fn inner_maps<'m>(&self, memory: &'m dyn Memory, types: &'m dyn TypeSource) -> Vec<GoMap<'m>> {
        let headers = [self.read, self.dirty].into_iter().filter(|&header| header != 0);
        headers.filter_map(|header| GoMap::open(memory, types, self.inner, header).ok()).collect()
    }

    /// The mark of expunged entries, where no variable tells it: it points to a nil interface, and `dirty` has every
    /// entry of `read.m` but those (src/sync/map.go `dirtyLocked`).
    fn find_expunged(&self, memory: &dyn Memory, types: &dyn TypeSource) -> Option<u64> {
        let maps = self.inner_maps(memory, types);
        let [read, dirty] = &maps[..] else { return None };
        let mut doubtful = Vec::new();
        read.each(&Quiet, &mut |entry| {
            let pointer = entry.elem.as_ref().map_or(0, |elem| LE::read_u64(elem));
            if let Ok(value) = memory.u64(pointer) {
                if memory.array::<ANY>(value).is_ok_and(|value| value == [0; ANY]) {
                    doubtful.push((pointer, value));
                }
            }
            Ok(true)
        })
        .ok()?;
        if doubtful.is_empty() {
            return None;
        }
        let mut kept = FxHashSet::default();
        dirty
            .each(&Quiet, &mut |entry| {
                kept.extend(entry.elem.as_ref().ok().map(|elem| LE::read_u64(elem)));
                Ok(true)
            })
            .ok()?;
        doubtful.into_iter().find(|(pointer, _)| !kept.contains(pointer)).map(|(_, value)| value)
    }

    /// The state of the entry that `pointer` (the elem of an inner map) points to.
    fn state(&self, memory: &dyn Memory, pointer: u64) -> Result<State, MemoryError> {
        Ok(match memory.u64(pointer)? {
            0 => State::Deleted,
            value if value == self.expunged => State::Expunged,
            value => State::Live(value),
        })
    }

    /// The value behind an elem of an inner map; `None` when it is deleted or expunged.
    pub fn value_at(&self, memory: &dyn Memory, elem: &[u8]) -> Result<Option<u64>, MemoryError> {
        match self.state(memory, LE::read_u64(elem))? {
            State::Live(value) => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    fn each(
        &self,
        memory: &dyn Memory,
        types: &dyn TypeSource,
        watch: &dyn Watch,
        findings: &mut Findings,
        f: &mut dyn FnMut(&Entry<'_>) -> Result<bool>,
    ) -> Result<SyncSurvey> {
        let mut counts = SyncSurvey {
            read: Some(0),
            dirty: Some(0),
            amended: Some(self.amended),
            misses: Some(self.misses),
            deleted: Some(0),
            expunged: Some(0),
            ..SyncSurvey::default()
        };
        let mut goes_on = true;
        // `dirty`, where it is in use, has every live key of `read.m`; `read.m` alone has the expunged ones.
        for (header, is_read) in [(self.read, true), (self.dirty, false)] {
            if header == 0 {
                continue;
            }
            let listed = is_read != self.amended;
            let map = match GoMap::open(memory, types, self.inner, header) {
                Ok(map) => map,
                Err(error) => {
                    findings.add(|| Note::Lost { part: Part::Inner { read: is_read }, error });
                    continue;
                }
            };
            let size = if is_read { &mut counts.read } else { &mut counts.dirty };
            *size = Some(map.count());
            let (mut deleted, mut expunged) = (0, 0);
            map.each(watch, &mut |entry| {
                let Ok(pointer) = entry.elem else { return Ok(true) };
                match self.state(memory, LE::read_u64(pointer)) {
                    Ok(State::Live(value)) if listed && goes_on => {
                        let bytes = memory.bytes(value, ANY);
                        let elem = bytes.as_deref().map_err(Clone::clone);
                        goes_on = f(&Entry { key: entry.key.clone(), elem, elem_address: value, ..*entry })?;
                    }
                    Ok(State::Live(_)) => {}
                    Ok(State::Deleted) => deleted += is_read as u64,
                    Ok(State::Expunged) => expunged += is_read as u64,
                    Err(error) => findings.add(|| Note::Lost { part: Part::Value, error: error.into() }),
                }
                Ok(true)
            })?;
            if is_read {
                (counts.deleted, counts.expunged) = (Some(deleted), Some(expunged));
            }
        }
        Ok(counts)
    }
}

/// A node of the trie still to be visited.
struct Pending {
    address: u64,
    level: u64,
    prefix: u64,
}

impl Trie {
    fn each(
        &self,
        memory: &dyn Memory,
        watch: &dyn Watch,
        findings: &mut Findings,
        f: &mut dyn FnMut(&Entry<'_>) -> Result<bool>,
    ) -> Result<SyncSurvey> {
        let mut counts = SyncSurvey { nodes: Some(0), depth: Some(0), overflow: Some(0), ..SyncSurvey::default() };
        let mut pending = Vec::new();
        if self.root != 0 {
            pending.push(Pending { address: self.root, level: 0, prefix: 0 });
        }
        // A corrupt trie may lead to its nodes in circles: no more of them than there is memory.
        let mut allowance = memory.size().unwrap_or(1 << 40) / at::ENTRY_SIZE;
        while let Some(node) = pending.pop() {
            if allowance == 0 {
                findings.add(|| Note::TrieCycle);
                break;
            }
            allowance -= 1;
            if allowance & 1023 == 0 {
                watch.tick(counts.nodes.unwrap_or(0), 0)?;
            }
            let is_entry = match memory.u8(node.address) {
                Ok(flag) => flag != 0,
                Err(error) => {
                    findings.add(|| Note::Lost { part: Part::Node { level: node.level }, error: error.into() });
                    continue;
                }
            };
            if is_entry {
                if !self.chain(memory, &node, &mut counts, findings, &mut allowance, f)? {
                    return Ok(counts);
                }
                continue;
            }
            counts.nodes = counts.nodes.map(|nodes| nodes + 1);
            counts.depth = counts.depth.map(|depth| depth.max(node.level));
            if node.level >= at::MAX_LEVEL {
                findings.add(|| Note::DeepNode { level: node.level });
                continue;
            }
            let children = match memory.bytes(node.address.wrapping_add(at::INDIRECT_CHILDREN), 8 * at::CHILDREN) {
                Ok(children) => children,
                Err(error) => {
                    findings.add(|| Note::Lost { part: Part::Children { level: node.level }, error: error.into() });
                    continue;
                }
            };
            for (child, word) in children.chunks_exact(8).enumerate().rev() {
                let address = LE::read_u64(word);
                if address != 0 {
                    pending.push(Pending { address, level: node.level + 1, prefix: node.prefix << 4 | child as u64 });
                }
            }
        }
        Ok(counts)
    }

    /// An entry and those with the same full hash.
    fn chain(
        &self,
        memory: &dyn Memory,
        node: &Pending,
        counts: &mut SyncSurvey,
        findings: &mut Findings,
        allowance: &mut u64,
        f: &mut dyn FnMut(&Entry<'_>) -> Result<bool>,
    ) -> Result<bool> {
        let mut address = node.address;
        let mut overflow = 0;
        let mut seen = FxHashSet::default();
        while address != 0 {
            let bytes = match memory.bytes(address, at::ENTRY_SIZE as usize) {
                Ok(bytes) => bytes,
                Err(error) => {
                    findings.add(|| Note::Lost { part: Part::Entry { level: node.level }, error: error.into() });
                    return Ok(true);
                }
            };
            let (key, elem) = (at::ENTRY_KEY as usize, at::ENTRY_VALUE as usize);
            let entry = Entry {
                key: Ok(&bytes[key..key + ANY]),
                elem: Ok(&bytes[elem..elem + ANY]),
                key_address: address + at::ENTRY_KEY,
                elem_address: address + at::ENTRY_VALUE,
                place: Place::Node { level: node.level, prefix: node.prefix },
                slot: overflow,
            };
            if !f(&entry)? {
                return Ok(false);
            }
            address = LE::read_u64(&bytes[at::ENTRY_OVERFLOW as usize..]);
            if address != 0 {
                overflow += 1;
                counts.overflow = counts.overflow.map(|overflow| overflow + 1);
                if *allowance == 0 || !seen.insert(address) {
                    findings.add(|| Note::Endless(Endless::Entries { level: node.level, prefix: node.prefix }));
                    return Ok(true);
                }
                *allowance -= 1;
            }
        }
        Ok(true)
    }

    /// The path that a lookup of `hash` takes: (level, child, address of the node there), the last one an entry or 0.
    pub fn path(&self, memory: &dyn Memory, hash: u64) -> Result<Vec<(u64, u64, u64)>> {
        let mut path = Vec::new();
        let mut node = self.root;
        for level in 1..=at::MAX_LEVEL {
            if node == 0 {
                break;
            }
            let child = hash >> (64 - 4 * level) & 15;
            let next = memory.u64(node.wrapping_add(at::INDIRECT_CHILDREN + 8 * child))?;
            path.push((level, child, next));
            if next == 0 || memory.u8(next)? != 0 {
                break;
            }
            node = next;
        }
        Ok(path)
    }
}

/// Where the older layout has its pointer to the `readOnly`, from the start of the `sync.Map`; `None` in the newer one.
/// Until Go 1.19 `read` was an `atomic.Value`: an interface whose data word is that pointer.
pub fn read_only_at(types: &dyn TypeSource, ty: &GoType) -> Result<Option<u64>> {
    let Some((at, read)) = field(ty, "read") else { return Ok(None) };
    Ok(at.checked_add(types.load(read)?.size.saturating_sub(8)))
}

fn field(ty: &GoType, name: &str) -> Option<(u64, TypeId)> {
    let Shape::Struct(fields) = &ty.shape else { return None };
    fields.iter().find(|field| &*field.name == name).map(|field| (field.offset, field.ty))
}

/// The type of both inner maps of a `sync.Map` that has such.
pub fn inner_type(ty: &GoType) -> Option<TypeId> {
    field(ty, "dirty").map(|(_, inner)| inner)
}

fn unknown(ty: &GoType) -> Error {
    Error::Type(format!("this {} has a layout that is not known", ty.name))
}

/// The type of a `sync.Map`'s keys and values.
pub const ANY_TYPE: TypeId = TypeId::Basic(Kind::Interface);
