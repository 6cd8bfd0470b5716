//! Which map type fits a header in memory: the sizes of its buckets or groups agree with the objects that hold them,
//! all its keys lie where their own hash says, and its values are such as the types allow.

use super::Heap;
use crate::binary::rtype;
use crate::error::{Quiet, Watch};
use crate::layout::{hmap, swiss};
use crate::map::check::check;
use crate::map::keys::{KeyHash, Keys};
use crate::map::lookup::{h2, Hasher};
use crate::map::swiss::Table;
use crate::map::GoMap;
use crate::memory::{Memory, MemoryError};
use crate::reach::reach;
use crate::session::{MapRef, Session};
use crate::types::{GoType, Kind, MapLayout, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::sync::{Arc, OnceLock};

/// Size of a map header, classic and Swiss, and of the objects that hold one.
pub const HEADER: u64 = hmap::SIZE as u64;
/// Entries of a map that are looked at one by one; `check` looks at all.
const ENTRIES: usize = 8;
/// Bytes of a string and elements of a slice that no process has.
const MAX_LENGTH: u64 = 1 << 44;
/// Elements of an array that are looked at.
const ELEMENTS: u64 = 64;
/// Values nested in each other (not behind pointers) that are looked at.
const MAX_NEST: usize = 16;

/// A map type that may be that of a header.
#[derive(Debug)]
struct Fit {
    ty: TypeId,
    name: Arc<str>,
    /// Address of the descriptor of its bucket or group type.
    slots: u64,
}

/// Map types with the same slots and the same hash function: a header's bytes fit all of them or none.
#[derive(Debug)]
struct Family {
    layout: MapLayout,
    closure: u64,
    /// Whether slots hold pointers.
    pointers: bool,
    types: Vec<Fit>,
    hasher: OnceLock<Hasher>,
}

/// A header's type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// The header, with the type that fits.
    pub map: MapRef,
    /// Names of other types that the same bytes can be a map of.
    pub or: Vec<Arc<str>>,
}

/// The map types of a program, and its heap.
pub struct Identifier<'s> {
    session: &'s Session,
    heap: Heap,
    families: Vec<Family>,
    classic: bool,
}

/// Where a map's first buckets or groups are, how many, and whether more may follow in the same object.
struct Cells {
    address: u64,
    count: u64,
    spare: u64,
}

impl<'s> Identifier<'s> {
    /// Reads the heap and the map types.
    pub fn new(session: &'s Session) -> Result<Identifier<'s>> {
        let heap = Heap::of(session)?;
        let descriptors = session.types.descriptors()?;
        let mut families: Vec<Family> = Vec::new();
        let mut addresses: Vec<u64> = session.types.type_index()?.addresses().collect();
        addresses.sort_unstable();
        for address in addresses {
            let Ok(descriptor) = descriptors.descriptor(address) else { continue };
            if descriptor.kind != Kind::Map {
                continue;
            }
            let Ok(map) = descriptors.map(address) else { continue };
            let (Ok(ty), Ok(slots)) = (session.types.by_descriptor(address), descriptors.descriptor(map.slots)) else {
                continue;
            };
            let Ok(name) = session.types.load(ty).map(|ty| ty.name.clone()) else { continue };
            let pointers = slots.pointer_bytes > 0;
            let fit = Fit { ty, name, slots: map.slots };
            let same = |family: &&mut Family| {
                family.closure == map.hasher && family.layout == map.layout && family.pointers == pointers
            };
            match families.iter_mut().find(same) {
                Some(family) if family.types.iter().any(|known| known.name == fit.name && known.slots == fit.slots) => {
                }
                Some(family) => family.types.push(fit),
                None => families.push(Family {
                    layout: map.layout,
                    closure: map.hasher,
                    pointers,
                    types: vec![fit],
                    hasher: OnceLock::new(),
                }),
            }
        }
        let classic = families.iter().any(|family| matches!(family.layout, MapLayout::Classic(_)));
        Ok(Identifier { session, heap, families, classic })
    }

    /// The heap.
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    /// Addresses of the allocated objects that may be map headers.
    pub fn headers(&self) -> impl Iterator<Item = u64> + '_ {
        let spans = self.heap.spans().iter().filter(|span| span.elem_size == HEADER && !span.no_scan);
        spans.flat_map(|span| {
            let allocated = span.allocated(&*self.session.memory);
            allocated.into_iter().map(|index| span.base + index * span.elem_size)
        })
    }

    /// The type of the map whose header is at `address`; `None` when it is no header of a map with entries.
    pub fn identify(&self, address: u64) -> Option<Identified> {
        let memory = &*self.session.memory;
        let cells = if self.classic { classic_cells(memory, address) } else { swiss_cells(memory, address) }?;
        let object = self.heap.object(cells.address)?;
        let head = self.heap.type_word(object.span);
        if object.base.checked_add(head)? != cells.address {
            return None;
        }
        let room = object.span.elem_size - head;
        let noted = self.heap.noted_type(memory, &object);
        let mut fits: Vec<&Fit> = Vec::new();
        for family in self.families.iter().filter(|family| family.pointers != object.span.no_scan) {
            // Size classes waste less than a third of an object.
            let least = cells.count.saturating_mul(size(&family.layout));
            let most = cells.count.saturating_add(cells.spare).saturating_mul(size(&family.layout));
            if least > room || most.saturating_mul(3) < room.saturating_mul(2) {
                continue;
            }
            let of_noted = |fit: &&Fit| noted.is_none_or(|noted| fit.slots == noted);
            let types: Vec<&Fit> = family.types.iter().filter(of_noted).collect();
            let Some(first) = types.first() else { continue };
            if self.is_sound(family, MapRef { address, ty: first.ty }) {
                let of_its_type = |fit: &&Fit| self.values_agree(MapRef { address, ty: fit.ty });
                fits.extend(types.into_iter().filter(of_its_type));
            }
        }
        let (first, rest) = fits.split_first()?;
        let map = MapRef { address, ty: first.ty };
        Some(Identified { map, or: rest.iter().map(|fit| fit.name.clone()).collect() })
    }

    /// Whether the map is sound under a family's types, every key found by its hash.
    fn is_sound(&self, family: &Family, target: MapRef) -> bool {
        let Ok(map) = self.session.open(target) else { return false };
        let hasher = family.hasher.get_or_init(|| self.session.hasher(&map));
        matches!(hasher, Hasher::Known { .. })
            && self.first_keys_agree(&map, hasher).unwrap_or(false)
            && check(&map, hasher, None, &Quiet).is_ok_and(|report| {
                report.keys + report.nan_keys > 0 && report.is_sound() && report.unchecked.is_none()
            })
    }

    /// Whether the first keys are found by their hash. A NaN lies anywhere; where all keys are floats that are NaN, their
    /// bits and the map's own parts have to do.
    fn first_keys_agree(&self, map: &GoMap<'_>, hasher: &Hasher) -> Result<bool> {
        let keys = Keys::new(&*self.session.memory, &self.session.types);
        let (mut found, mut agree, mut nan) = (0, true, 0);
        map.each(&Quiet, &mut |entry| {
            let Ok(key) = entry.key else {
                agree = false;
                return Ok(false);
            };
            let lookup = map.look_up(hasher, &keys, key, &Quiet)?;
            if let Some(KeyHash::Known(hash)) = lookup.hash {
                found += 1;
                agree &= lookup.found.is_some_and(|place| place.key_address == entry.key_address);
                // In a small Swiss map the runtime compares some keys without a look at their control bytes.
                agree &= self.classic || lookup.path.last().is_some_and(|step| step.control == h2(hash));
            }
            nan += u64::from(matches!(lookup.hash, Some(KeyHash::Random)));
            Ok(found < ENTRIES && agree)
        })?;
        let of_floats = matches!(map.key.kind, Kind::Float32 | Kind::Float64);
        Ok(agree && (found > 0 || of_floats && nan > 0))
    }

    /// Whether the first keys and values can be ones of the map's type.
    fn values_agree(&self, target: MapRef) -> bool {
        let Ok(map) = self.session.open(target) else { return false };
        let (mut seen, mut agree) = (0, true);
        let walked = map.each(&Quiet, &mut |entry| {
            let is_value = |ty: &GoType, bytes: &std::result::Result<&[u8], MemoryError>| {
                bytes.as_ref().is_ok_and(|bytes| self.is_value(ty, bytes, MAX_NEST))
            };
            agree &= is_value(&map.key, &entry.key) && is_value(&map.elem, &entry.elem);
            seen += 1;
            Ok(seen < ENTRIES && agree)
        });
        agree && walked.is_ok()
    }

    /// Whether these bytes can be a value of this type, by what its pointers lead to.
    fn is_value(&self, ty: &GoType, bytes: &[u8], nest: usize) -> bool {
        let word = |at: usize| bytes.get(at..at + 8).map_or(0, LE::read_u64);
        let leads = |address: u64| address == 0 || self.session.memory.u8(address).is_ok();
        let Some(nest) = nest.checked_sub(1) else { return true };
        let part = |offset: u64, id: TypeId| {
            let Ok(inner) = self.session.types.load(id) else { return true };
            let start = offset as usize;
            bytes
                .get(start..start.saturating_add(inner.size as usize))
                .is_none_or(|part| self.is_value(&inner, part, nest))
        };
        match &ty.shape {
            _ if ty.kind == Kind::Bool => bytes.first().is_none_or(|&byte| byte < 2),
            _ if ty.kind == Kind::String => word(8) == 0 || (word(0) != 0 && word(8) < MAX_LENGTH && leads(word(0))),
            Shape::Slice(_) => word(8) <= word(16) && word(16) < MAX_LENGTH && leads(word(0)),
            Shape::Interface { methods } => {
                let descriptor = || rtype::of_interface(&*self.session.memory, *methods, word(0)).unwrap_or(0);
                word(0) == 0 || self.session.types.by_descriptor(descriptor()).is_ok()
            }
            Shape::Pointer(_) | Shape::Map(_) | Shape::Chan(_) | Shape::Func => leads(word(0)),
            Shape::Struct(fields) => fields.iter().all(|field| part(field.offset, field.ty)),
            Shape::Array { elem, len } => {
                let Ok(inner) = self.session.types.load(*elem) else { return true };
                (0..(*len).min(ELEMENTS)).all(|index| part(index.saturating_mul(inner.size), *elem))
            }
            _ => true,
        }
    }
}

fn size(layout: &MapLayout) -> u64 {
    match layout {
        MapLayout::Classic(layout) => layout.bucket_size,
        MapLayout::Swiss(layout) => layout.group_size,
    }
}

/// The buckets of a classic map with entries; arrays of 16 and more have overflow buckets behind them
/// (`makeBucketArray`, src/runtime/map.go).
fn classic_cells(memory: &dyn Memory, address: u64) -> Option<Cells> {
    let bytes = memory.array::<{ hmap::SIZE }>(address).ok()?;
    let (count, flags, b) = (LE::read_u64(&bytes[hmap::COUNT..]), bytes[hmap::FLAGS], bytes[hmap::B]);
    let buckets = LE::read_u64(&bytes[hmap::BUCKETS..]);
    let plausible = count > 0 && flags < 16 && b < 40 && buckets != 0 && buckets.is_multiple_of(8);
    let cells = 1u64.checked_shl(b.into())?;
    plausible.then_some(Cells { address: buckets, count: cells, spare: if b >= 4 { cells / 16 } else { 0 } })
}

/// The first groups of a Swiss map with entries.
fn swiss_cells(memory: &dyn Memory, address: u64) -> Option<Cells> {
    let bytes = memory.array::<{ swiss::SIZE }>(address).ok()?;
    let word = |at: usize| LE::read_u64(&bytes[at..]);
    let (used, dir, dir_len) = (word(swiss::USED), word(swiss::DIR_PTR), word(swiss::DIR_LEN));
    if used == 0 || dir == 0 || !dir.is_multiple_of(8) || bytes[swiss::WRITING] > 1 {
        return None;
    }
    if dir_len == 0 {
        return (used <= 8).then_some(Cells { address: dir, count: 1, spare: 0 });
    }
    if 1u64.checked_shl(bytes[swiss::GLOBAL_DEPTH].into()) != Some(dir_len) {
        return None;
    }
    let table = Table::read(memory, memory.u64(dir).ok()?).ok()?;
    Some(Cells { address: table.groups, count: table.group_count(), spare: 0 })
}

/// The map whose header is at `address`, its type told by memory: what typed traversal leads there, else what fits.
pub fn map_at(session: &Session, address: u64, watch: &dyn Watch) -> Result<MapRef> {
    let unknown = |why: String| Err(Error::Usage(format!("{why}; say its type with --type, e.g. 'map[string]int'")));
    let identified = Identifier::new(session).ok().and_then(|identifier| identifier.identify(address));
    if let Some(found) = identified.as_ref().filter(|found| found.or.is_empty()) {
        return Ok(found.map);
    }
    let led = reach(session, watch)?.maps.into_iter().find(|map| map.map.address == address);
    if let Some(map) = led.as_ref().filter(|map| map.or.is_empty()) {
        return Ok(map.map);
    }
    match identified {
        None => unknown(format!("no map was recognised at {address:#x}")),
        Some(found) => {
            let first = session.types.load(found.map.ty)?.name.to_string();
            let names = found.or.iter().fold(first, |names, name| format!("{names}, {name}"));
            unknown(format!("the map at {address:#x} fits several types ({names})"))
        }
    }
}
