//! Decoding a map: its header, its buckets or groups, its entries, at every stage of growth.

pub mod check;
pub mod classic;
pub mod hash;
pub mod identity;
pub mod keys;
pub mod lookup;
pub mod nearby;
mod note;
pub mod swiss;
pub mod sync;

#[cfg(test)]
mod tests;

pub use note::{Note, Part};

use crate::error::Watch;
use crate::layout::{hmap, SLOTS};
use crate::memory::{Memory, MemoryError};
use crate::types::{GoType, MapLayout, MapType, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

/// A map in target memory, its header read and found plausible.
pub struct GoMap<'a> {
    /// Where its bytes are.
    pub memory: &'a dyn Memory,
    /// Where its types are.
    pub types: &'a dyn TypeSource,
    /// The map type.
    pub ty: Arc<GoType>,
    /// Type of the keys.
    pub key: Arc<GoType>,
    /// Type of the elems.
    pub elem: Arc<GoType>,
    /// Where the slots are.
    pub slots: Slots,
    /// Address of the header; 0 for a nil map.
    pub address: u64,
    /// What the header says.
    pub header: Header,
}

/// The header by layout.
#[derive(Debug, Clone)]
pub enum Header {
    /// A nil map: no header at all.
    Nil,
    /// `runtime.hmap`.
    Classic(classic::Header),
    /// `internal/runtime/maps.Map`.
    Swiss(swiss::Header),
    /// `sync.Map`.
    Sync(sync::Header),
}

/// How maps are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `runtime.hmap`.
    Classic,
    /// `internal/runtime/maps.Map`.
    Swiss,
    /// `sync.Map`.
    Sync,
}

impl Layout {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Classic => "classic",
            Layout::Swiss => "swiss",
            Layout::Sync => "sync",
        }
    }
}

/// Slots of a bucket or group, in bytes from its start: key `i` is at `keys + i * key_stride`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slots {
    /// Size of the bucket or group.
    pub size: u64,
    pub keys: u64,
    pub key_stride: u64,
    pub elems: u64,
    pub elem_stride: u64,
    /// Whether the key slot holds a pointer to the key.
    pub indirect_key: bool,
    /// Whether the elem slot holds a pointer to the elem.
    pub indirect_elem: bool,
    /// Whether this is the classic layout.
    pub classic: bool,
}

/// A map type with the types of its keys and elems, and its slots found sound.
#[derive(Debug, Clone)]
pub struct Parts {
    pub ty: Arc<GoType>,
    pub key: Arc<GoType>,
    pub elem: Arc<GoType>,
    pub slots: Slots,
}

impl Parts {
    /// The parts of a map type.
    pub fn of(types: &dyn TypeSource, ty: &Arc<GoType>) -> Result<Parts> {
        let Shape::Map(map) = &ty.shape else {
            return Err(Error::Type(format!("{} is not a map type", ty.name)));
        };
        let (key, elem) = (types.load(map.key)?, types.load(map.elem)?);
        let slots = Slots::of(map);
        slots.check(ty, &key, &elem)?;
        Ok(Parts { ty: ty.clone(), key, elem, slots })
    }
}

/// Where a bucket or group is within its map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Classic: bucket `index` (of the old array when `old`), `overflow` links down its chain.
    Bucket { old: bool, index: u64, overflow: u64 },
    /// Swiss: group `group` of the table at directory index `table`; a small map is table 0, group 0.
    Group { table: u64, group: u64 },
    /// sync.Map: an entry of the trie, under the hash bits `prefix` (four a level).
    Node { level: u64, prefix: u64 },
}

/// A bucket or group: its 8 tophash or control bytes, and its slots.
pub struct Cell<'c> {
    /// Where it is in the map.
    pub place: Place,
    /// Its target address.
    pub address: u64,
    /// Its bytes, all of them.
    pub bytes: &'c [u8],
    /// Bit `i` is set when slot `i` holds a live entry.
    pub live: u8,
}

impl Cell<'_> {
    /// Tophash (classic) or control (Swiss) byte of each slot.
    pub fn control(&self) -> [u8; SLOTS] {
        let mut control = [0; SLOTS];
        control.copy_from_slice(&self.bytes[..SLOTS]);
        control
    }
}

/// A live entry.
pub struct Entry<'e> {
    /// The key's bytes, or why they cannot be read (only an indirect key can be missing).
    pub key: Result<&'e [u8], MemoryError>,
    /// The elem's bytes, likewise.
    pub elem: Result<&'e [u8], MemoryError>,
    /// Target address of the key.
    pub key_address: u64,
    /// Target address of the elem.
    pub elem_address: u64,
    /// The bucket or group it is in.
    pub place: Place,
    /// Slot in it, 0 to 7.
    pub slot: usize,
}

/// What a walk over all buckets or groups met besides entries.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// At most [`MAX_FINDINGS`], then `more` counts on.
    pub notes: Vec<Note>,
    /// Findings not written out.
    pub more: u64,
}

/// Findings written out in full.
pub const MAX_FINDINGS: usize = 20;

impl Findings {
    /// Adds a note.
    pub fn add(&mut self, note: impl FnOnce() -> Note) {
        if self.notes.len() < MAX_FINDINGS {
            self.notes.push(note());
        } else {
            self.more += 1;
        }
    }

    /// Adds those of another walk.
    pub fn extend(&mut self, other: Findings) {
        self.more += other.more;
        other.notes.into_iter().for_each(|note| self.add(|| note));
    }

    /// The notes, with a last one that counts the rest.
    pub fn into_notes(mut self) -> Vec<Note> {
        self.notes.extend((self.more > 0).then_some(Note::More(self.more)));
        self.notes
    }
}

/// Counts over the whole map: occupancy, growth, size.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// Live slots found.
    pub live: u64,
    /// Classic: buckets of the current array.
    pub buckets: Option<u64>,
    /// Classic: overflow buckets met on all chains.
    pub overflow_buckets: Option<u64>,
    /// Classic, growing: buckets of the old array, and how many of them are evacuated.
    pub growth: Option<(u64, u64)>,
    /// Swiss: tables (0 for a small map).
    pub tables: Option<u64>,
    /// Swiss: groups of all tables.
    pub groups: Option<u64>,
    /// Swiss: deleted slots that still lengthen probes.
    pub tombstones: Option<u64>,
    /// sync.Map: what is where.
    pub sync: Option<sync::SyncSurvey>,
    /// Slots allocated, live or not.
    pub capacity: u64,
    /// Classic: chains with `i` overflow buckets. Swiss: groups with `i` live slots.
    pub histogram: Vec<u64>,
    /// Bytes of header, buckets or groups, directory and indirect keys and elems.
    pub bytes: u64,
    /// What is wrong or in motion.
    pub findings: Findings,
}

impl<'a> GoMap<'a> {
    /// Reads the header of the map of type `ty` whose header is at `address` (0: a nil map).
    ///
    /// Fails when `ty` is no map type, the header cannot be read, or what it says cannot be.
    pub fn open(memory: &'a dyn Memory, types: &'a dyn TypeSource, ty: TypeId, address: u64) -> Result<GoMap<'a>> {
        let ty = types.load(ty)?;
        match ty.is_sync_map() {
            true => GoMap::open_sync(memory, types, ty, address),
            false => GoMap::open_as(memory, types, &Parts::of(types, &ty)?, address),
        }
    }

    /// The same, for a type whose parts are known already.
    pub fn open_as(
        memory: &'a dyn Memory,
        types: &'a dyn TypeSource,
        parts: &Parts,
        address: u64,
    ) -> Result<GoMap<'a>> {
        let Parts { ty, key, elem, slots } = parts.clone();
        let header = match address {
            0 => Header::Nil,
            _ if slots.classic => Header::Classic(classic::Header::read(memory, address, &slots)?),
            _ => Header::Swiss(swiss::Header::read(memory, address)?),
        };
        Ok(GoMap { memory, types, ty, key, elem, slots, address, header })
    }

    /// The same map, its keys and elems read through other memory: the target's with a key laid over it.
    pub fn through<'b>(&self, memory: &'b dyn Memory) -> GoMap<'b>
    where
        'a: 'b,
    {
        GoMap {
            memory,
            types: self.types,
            ty: self.ty.clone(),
            key: self.key.clone(),
            elem: self.elem.clone(),
            slots: self.slots.clone(),
            address: self.address,
            header: self.header.clone(),
        }
    }

    fn open_sync(
        memory: &'a dyn Memory,
        types: &'a dyn TypeSource,
        ty: Arc<GoType>,
        address: u64,
    ) -> Result<GoMap<'a>> {
        let header = match address {
            0 => Header::Nil,
            _ => Header::Sync(sync::Header::read(memory, types, &ty, address)?),
        };
        GoMap::of_sync(memory, types, ty, address, header)
    }

    /// The `sync.Map` of type `ty` whose own bytes are `value`: one inside another value, whose address is not known.
    pub fn sync_in(
        memory: &'a dyn Memory,
        types: &'a dyn TypeSource,
        ty: Arc<GoType>,
        value: &[u8],
    ) -> Result<GoMap<'a>> {
        let header = Header::Sync(sync::Header::of_value(memory, types, &ty, value)?);
        GoMap::of_sync(memory, types, ty, 0, header)
    }

    fn of_sync(
        memory: &'a dyn Memory,
        types: &'a dyn TypeSource,
        ty: Arc<GoType>,
        address: u64,
        header: Header,
    ) -> Result<GoMap<'a>> {
        let any = types.load(sync::ANY_TYPE)?;
        // Entries are come to one by one: there are no slots.
        let slots = Slots {
            size: 0,
            keys: 0,
            key_stride: 0,
            elems: 0,
            elem_stride: 0,
            indirect_key: false,
            indirect_elem: false,
            classic: false,
        };
        Ok(GoMap { memory, types, ty, key: any.clone(), elem: any, slots, address, header })
    }

    /// `len(m)`, as the header has it.
    pub fn count(&self) -> u64 {
        match &self.header {
            Header::Nil => 0,
            Header::Classic(header) => header.count,
            Header::Swiss(header) => header.used,
            Header::Sync(header) => header.count(self.memory, self.types),
        }
    }

    /// Whether the header's flag of a writer is set.
    pub fn is_being_written(&self) -> bool {
        match &self.header {
            Header::Classic(header) => header.flags & hmap::HASH_WRITING != 0,
            Header::Swiss(header) => header.writing != 0,
            Header::Nil | Header::Sync(_) => false,
        }
    }

    /// How it is laid out.
    pub fn layout(&self) -> Layout {
        if self.ty.is_sync_map() {
            Layout::Sync
        } else if self.slots.classic {
            Layout::Classic
        } else {
            Layout::Swiss
        }
    }

    /// Calls `f` with every bucket or group that can hold live entries, until it returns `false`.
    pub fn each_cell(
        &self,
        watch: &dyn Watch,
        findings: &mut Findings,
        f: &mut dyn FnMut(&Cell<'_>) -> Result<bool>,
    ) -> Result<()> {
        match &self.header {
            // A sync.Map has entries, but no buckets of its own.
            Header::Nil | Header::Sync(_) => Ok(()),
            Header::Classic(header) => header.each_bucket(self, watch, findings, f),
            Header::Swiss(header) => header.each_group(self, watch, findings, f),
        }
    }

    /// Calls `f` with every live entry, until it returns `false`.
    pub fn each(&self, watch: &dyn Watch, f: &mut dyn FnMut(&Entry<'_>) -> Result<bool>) -> Result<()> {
        if let Header::Sync(header) = &self.header {
            header.each(self.memory, self.types, watch, &mut Findings::default(), f)?;
            return Ok(());
        }
        self.each_cell(watch, &mut Findings::default(), &mut |cell| self.each_slot(cell, f))
    }

    /// Calls `f` with every live entry of `cell`, until it returns `false`; says whether it never did.
    pub fn each_slot(
        &self,
        cell: &Cell<'_>,
        f: &mut (impl FnMut(&Entry<'_>) -> Result<bool> + ?Sized),
    ) -> Result<bool> {
        let mut live = cell.live;
        while live != 0 {
            let slot = live.trailing_zeros() as usize;
            live &= live - 1;
            if !self.with_entry(cell, slot, f)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Calls `f` with slot `slot` of `cell` as an entry.
    pub fn with_entry<R>(&self, cell: &Cell<'_>, slot: usize, f: &mut (impl FnMut(&Entry<'_>) -> R + ?Sized)) -> R {
        let slots = &self.slots;
        let key_at = slots.keys + slot as u64 * slots.key_stride;
        let elem_at = slots.elems + slot as u64 * slots.elem_stride;
        let key = self.part(cell, key_at, self.key.size, slots.indirect_key);
        let elem = self.part(cell, elem_at, self.elem.size, slots.indirect_elem);
        f(&Entry {
            key: key.1.as_deref().map_err(Clone::clone),
            elem: elem.1.as_deref().map_err(Clone::clone),
            key_address: key.0,
            elem_address: elem.0,
            place: cell.place,
            slot,
        })
    }

    /// Address and bytes of the key or elem at offset `at` of the cell, following the pointer of an indirect one.
    fn part<'c>(
        &'c self,
        cell: &Cell<'c>,
        at: u64,
        size: u64,
        indirect: bool,
    ) -> (u64, Result<Cow<'c, [u8]>, MemoryError>) {
        // In bounds: Slots::check has compared every slot with the cell's size, and cells are whole.
        let bytes = &cell.bytes[at as usize..];
        if !indirect {
            return (cell.address + at, Ok(Cow::Borrowed(&bytes[..size as usize])));
        }
        let pointer = u64::from_le_bytes(bytes[..8].try_into().unwrap_or_default());
        (pointer, self.memory.bytes(pointer, size as usize))
    }

    /// Counts everything in one pass over the control bytes.
    pub fn survey(&self, watch: &dyn Watch) -> Result<Survey> {
        let mut survey = match &self.header {
            Header::Nil => {
                return Ok(Survey { findings: Findings { notes: vec![Note::Nil], more: 0 }, ..Survey::default() })
            }
            Header::Classic(header) => header.survey(self, watch)?,
            Header::Swiss(header) => header.survey(self, watch)?,
            Header::Sync(header) => return header.survey(self, watch),
        };
        let indirect = |yes: bool, size: u64| if yes { survey.live.saturating_mul(size) } else { 0 };
        survey.bytes = survey
            .bytes
            .saturating_add(indirect(self.slots.indirect_key, self.key.size))
            .saturating_add(indirect(self.slots.indirect_elem, self.elem.size));
        if self.is_being_written() {
            survey.findings.add(|| Note::Writing);
        }
        let (count, live) = (self.count(), survey.live);
        if count != live {
            survey.findings.add(|| Note::Count { said: count, live });
        }
        Ok(survey)
    }
}

/// The top bits of eight bytes, gathered into one byte: bit `i` is that of byte `i`.
fn top_bits(bytes: u64) -> u8 {
    (((bytes & 0x8080_8080_8080_8080) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

impl Slots {
    fn of(map: &MapType) -> Slots {
        match &map.layout {
            MapLayout::Classic(layout) => Slots {
                size: layout.bucket_size,
                keys: layout.keys,
                key_stride: layout.key_size,
                elems: layout.elems,
                elem_stride: layout.elem_size,
                indirect_key: layout.indirect_key,
                indirect_elem: layout.indirect_elem,
                classic: true,
            },
            MapLayout::Swiss(layout) => Slots {
                size: layout.group_size,
                keys: layout.keys,
                key_stride: layout.key_stride,
                elems: layout.elems,
                elem_stride: layout.elem_stride,
                indirect_key: layout.indirect_key,
                indirect_elem: layout.indirect_elem,
                classic: false,
            },
        }
    }

    /// Every slot must lie within its bucket or group, so that no later read needs a check.
    fn check(&self, ty: &GoType, key: &GoType, elem: &GoType) -> Result<()> {
        let fits = |offset: u64, stride: u64, size: u64, indirect: bool| {
            let size = if indirect { 8 } else { size };
            let last = stride.checked_mul(SLOTS as u64 - 1)?.checked_add(offset)?.checked_add(size)?;
            (offset >= SLOTS as u64 && last <= self.size && (size == 0 || stride >= size)).then_some(())
        };
        let fit = fits(self.keys, self.key_stride, key.size, self.indirect_key).and(fits(
            self.elems,
            self.elem_stride,
            elem.size,
            self.indirect_elem,
        ));
        // Slots hold at most 128-byte keys and elems, so a sound cell is below 3 KiB.
        if fit.is_none() || self.size > 1 << 16 {
            return Err(Error::Type(format!(
                "the slot layout of {} contradicts the sizes of its key and elem",
                ty.name
            )));
        }
        Ok(())
    }
}
