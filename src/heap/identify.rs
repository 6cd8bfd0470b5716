//! Which map type fits a header in memory: the sizes of its buckets or groups agree with the objects that hold them,
//! all its keys lie where their own hash says, and its values are such as the types allow.

use super::{Heap, Object};
use crate::binary::rtype;
use crate::error::Watch;
use crate::layout::{hmap, swiss};
use crate::map::check::{check, Report, Writing};
use crate::map::keys::{KeyHash, Keys};
use crate::map::lookup::{h2, Hasher};
use crate::map::swiss::Table;
use crate::map::{Entry, GoMap, Parts};
use crate::memory::{Memory, MemoryError};
use crate::reach::reach;
use crate::session::{MapRef, Session};
use crate::types::{GoType, Kind, MapLayout, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::sync::OnceLock;

/// Size of a map header, classic and Swiss, and of the objects that hold one.
pub const HEADER: u64 = hmap::SIZE as u64;
/// Entries of a map whose values are looked at, and whose keys are before all else is.
const ENTRIES: usize = 8;
/// Of maps with no more entries than this, all that the runtime keeps true of a map has to agree. So many keys of a larger
/// one, each where its own hash says, are proof enough: they lie in several cells, so these have the right size too.
const FEW: usize = 64;
/// Bytes and elements that no string or slice has.
const MAX_LENGTH: u64 = 1 << 44;
/// Elements of an array that are looked at.
const ELEMENTS: u64 = 64;
/// Values nested in each other (not behind pointers) that are looked at.
const MAX_NEST: usize = 16;

/// A map type that may be that of a header.
#[derive(Debug)]
struct Fit {
    ty: TypeId,
    /// Address of the descriptor of its bucket or group type.
    slots: u64,
    parts: OnceLock<Option<Parts>>,
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
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identified {
    /// The type that fits.
    pub ty: TypeId,
    /// Other types that the same bytes can be a map of, the more plausible first.
    pub or: Vec<TypeId>,
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
    /// 0 when nothing was allocated yet.
    address: u64,
    count: u64,
    spare: u64,
    /// What the header has besides: `len(m)` and the hash seed.
    entries: u64,
    seed: u64,
}

impl Cells {
    /// Whether so many cells are what an object of `room` bytes would be allocated for.
    fn fill(&self, room: u64, layout: &MapLayout) -> bool {
        let least = self.count.saturating_mul(size(layout));
        let most = self.count.saturating_add(self.spare).saturating_mul(size(layout));
        // Size classes waste less than a third of an object.
        least <= room && most.saturating_mul(3) >= room.saturating_mul(2)
    }
}

impl<'s> Identifier<'s> {
    /// Reads the heap and the map types.
    pub fn new(session: &'s Session, watch: &dyn Watch) -> Result<Identifier<'s>> {
        let heap = Heap::of(session, watch)?;
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
            let pointers = slots.pointer_bytes > 0;
            let fit = Fit { ty, slots: map.slots, parts: OnceLock::new() };
            let same = |family: &&mut Family| {
                family.closure == map.hasher && family.layout == map.layout && family.pointers == pointers
            };
            match families.iter_mut().find(same) {
                Some(family) if family.types.iter().any(|known| known.ty == fit.ty) => {}
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

    /// The type of the map whose header is at `address`; `None` when it is no header of a map with entries.
    pub fn identify(&self, address: u64, watch: &dyn Watch) -> Result<Option<Identified>> {
        let memory = &*self.session.memory;
        let cells = self.cells(address).filter(|cells| cells.entries > 0);
        let Some((cells, object)) = cells.and_then(|cells| self.heap.object(cells.address).map(|o| (cells, o))) else {
            return Ok(None);
        };
        let head = self.heap.type_word(object.span);
        if object.base.checked_add(head) != Some(cells.address) {
            return Ok(None);
        }
        let room = object.span.elem_size - head;
        let noted = self.heap.noted_type(memory, &object);
        let mut fits: Vec<&Fit> = Vec::new();
        for family in self.families.iter().filter(|family| family.pointers != object.span.no_scan) {
            if !cells.fill(room, &family.layout) {
                continue;
            }
            let fit = |fit: &&Fit| {
                let agrees = |map: GoMap<'_>| self.values_agree(&map, watch);
                Ok(noted.is_none_or(|noted| fit.slots == noted) && self.open(fit, address).map_or(Ok(false), agrees)?)
            };
            let types = family.types.iter().filter_map(|ty| fit(&ty).map(|fits| fits.then_some(ty)).transpose());
            let types = types.collect::<Result<Vec<&Fit>>>()?;
            let Some(map) = types.first().and_then(|first| self.open(first, address)) else { continue };
            if self.is_sound(family, &map, watch)? {
                fits.extend(types);
            }
        }
        if fits.len() > 1 {
            let doubts = |fit: &&Fit| self.open(fit, address).map_or(Ok(u32::MAX), |map| self.doubts(&map, watch));
            let doubts = fits.iter().map(doubts).collect::<Result<Vec<u32>>>()?;
            let mut order: Vec<(bool, u32, &Fit)> =
                fits.iter().zip(doubts).map(|(&fit, doubts)| (self.is_of_shapes(fit), doubts, fit)).collect();
            order.sort_by_key(|&(of_shapes, doubts, _)| (of_shapes, doubts));
            fits = order.into_iter().map(|(_, _, fit)| fit).collect();
        }
        let Some((first, rest)) = fits.split_first() else { return Ok(None) };
        Ok(Some(Identified { ty: first.ty, or: rest.iter().map(|fit| fit.ty).collect() }))
    }

    /// Whether a map with entries, of whose type there is doubt, is proven by its keys and values.
    pub fn proves(&self, map: MapRef, watch: &dyn Watch) -> Result<bool> {
        let Some((family, fit)) = self.family(map.ty) else { return Ok(false) };
        match self.open(fit, map.address) {
            Some(map) => Ok(self.values_agree(&map, watch)? && self.is_sound(family, &map, watch)?),
            None => Ok(false),
        }
    }

    /// Whether an empty map, of whose type there is doubt, can be one: an object of a header's size with a seed, and
    /// with buckets or groups that are such an object too, or none.
    pub fn can_be_empty(&self, map: MapRef) -> bool {
        let memory = &*self.session.memory;
        let Some(((family, _), cells)) = self.family(map.ty).zip(self.cells(map.address)) else { return false };
        let is_header = self.heap.object(map.address).is_some_and(|object| {
            object.base == map.address && object.span.elem_size == HEADER && object.is_allocated(memory)
        });
        let filled = |object: Object<'_>| {
            let head = self.heap.type_word(object.span);
            object.base.checked_add(head) == Some(cells.address)
                && cells.fill(object.span.elem_size - head, &family.layout)
        };
        let cells_agree = cells.address == 0 || self.heap.object(cells.address).is_some_and(filled);
        is_header && cells.entries == 0 && cells.seed != 0 && cells_agree
    }

    fn family(&self, ty: TypeId) -> Option<(&Family, &Fit)> {
        let of = |family: &'_ Family| family.types.iter().position(|fit| fit.ty == ty);
        self.families.iter().find_map(|family| of(family).map(|at| (family, &family.types[at])))
    }

    fn open(&self, fit: &Fit, address: u64) -> Option<GoMap<'_>> {
        let types = &self.session.types;
        let parts = fit.parts.get_or_init(|| types.load(fit.ty).and_then(|ty| Parts::of(types, &ty)).ok());
        GoMap::open_as(&*self.session.memory, types, parts.as_ref()?, address).ok()
    }

    fn cells(&self, address: u64) -> Option<Cells> {
        let memory = &*self.session.memory;
        match self.classic {
            true => classic_cells(memory, address),
            false => swiss_cells(memory, address),
        }
    }

    /// Whether the map is sound under a family's types, its keys found by their hash.
    fn is_sound(&self, family: &Family, map: &GoMap<'_>, watch: &dyn Watch) -> Result<bool> {
        let hasher = family.hasher.get_or_init(|| self.session.hasher(map));
        if !matches!(hasher, Hasher::Known { .. }) || !no_error(self.first_keys_agree(map, hasher, watch))? {
            return Ok(false);
        }
        let sound =
            |report: Report| report.keys + report.nan_keys > 0 && report.is_sound() && report.unchecked.is_none();
        match map.count() > FEW as u64 {
            true => Ok(true),
            false => no_error(check(map, hasher, &|_, _| Ok(Writing::Nobody), watch).map(sound)),
        }
    }

    /// Whether the first keys are found by their hash. A NaN lies anywhere; where all keys are floats that are NaN, their
    /// bits and the map's own parts have to do.
    fn first_keys_agree(&self, map: &GoMap<'_>, hasher: &Hasher, watch: &dyn Watch) -> Result<bool> {
        let keys = Keys::new(&*self.session.memory, &self.session.types);
        let enough = if map.count() > FEW as u64 { FEW } else { ENTRIES };
        let (mut found, mut agree, mut nan) = (0, true, 0);
        map.each(watch, &mut |entry| {
            let Ok(key) = entry.key else {
                agree = false;
                return Ok(false);
            };
            let lookup = map.look_up(hasher, &keys, key, watch)?;
            if let Some(KeyHash::Known(hash)) = lookup.hash {
                found += 1;
                agree &= lookup.found.is_some_and(|place| place.key_address == entry.key_address);
                // In a small Swiss map the runtime compares some keys without a look at their control bytes.
                agree &= self.classic || lookup.path.last().is_some_and(|step| step.control == h2(hash));
            }
            nan += u64::from(matches!(lookup.hash, Some(KeyHash::Random)));
            Ok(found < enough && agree)
        })?;
        let of_floats = matches!(map.key.kind, Kind::Float32 | Kind::Float64);
        Ok(agree && (found > 0 || of_floats && nan > 0))
    }

    /// Whether the first keys and values can be ones of the map's type.
    fn values_agree(&self, map: &GoMap<'_>, watch: &dyn Watch) -> Result<bool> {
        let (mut seen, mut agree) = (0, true);
        let walked = map.each(watch, &mut |entry| {
            let is_value = |ty: &GoType, bytes: &std::result::Result<&[u8], MemoryError>| {
                bytes.as_ref().is_ok_and(|bytes| self.is_value(ty, bytes, MAX_NEST))
            };
            agree &= is_value(&map.key, &entry.key) && is_value(&map.elem, &entry.elem);
            seen += 1;
            Ok(seen < ENTRIES && agree)
        });
        no_error(walked.map(|()| agree))
    }

    /// Whether a type is of shapes, which generic code has in place of types and no variable has (`go.shape`,
    /// src/cmd/compile/internal/noder/reader.go and internal/types/fmt.go, go1.18 to 1.27).
    fn is_of_shapes(&self, fit: &Fit) -> bool {
        self.session.types.load(fit.ty).is_ok_and(|ty| ty.name.contains("go.shape."))
    }

    /// How many of the first keys and values are such as programs seldom have.
    fn doubts(&self, map: &GoMap<'_>, watch: &dyn Watch) -> Result<u32> {
        let (mut seen, mut doubts) = (0, 0);
        map.each(watch, &mut |entry| {
            for (ty, bytes) in [(&map.key, &entry.key), (&map.elem, &entry.elem)] {
                doubts += bytes.as_ref().map_or(1, |bytes| self.doubts_of(ty, bytes, MAX_NEST));
            }
            doubts += u32::from(self.has_rest(map, entry));
            seen += 1;
            Ok(seen < ENTRIES)
        })?;
        Ok(doubts)
    }

    /// Whether something is left in a slot behind an elem: slots are made as zeros.
    fn has_rest(&self, map: &GoMap<'_>, entry: &Entry<'_>) -> bool {
        let Shape::Map(ty) = &map.ty.shape else { return false };
        let MapLayout::Swiss(layout) = &ty.layout else { return false };
        if layout.key_stride != layout.elem_stride || layout.indirect_key || layout.indirect_elem {
            return false;
        }
        let (from, to) =
            (entry.elem_address.wrapping_add(map.elem.size), entry.key_address.wrapping_add(layout.key_stride));
        let rest = self.session.memory.bytes(from, to.saturating_sub(from).min(8) as usize);
        rest.is_ok_and(|rest| rest.iter().any(|&byte| byte != 0))
    }

    fn doubts_of(&self, ty: &GoType, bytes: &[u8], nest: usize) -> u32 {
        let Some(nest) = nest.checked_sub(1) else { return 0 };
        let word = |at: usize| bytes.get(at..at + 8).map_or(0, LE::read_u64);
        let part = |offset: u64, id: TypeId| {
            let Ok(inner) = self.session.types.load(id) else { return 0 };
            let end = offset.saturating_add(inner.size) as usize;
            bytes.get(offset as usize..end).map_or(0, |part| self.doubts_of(&inner, part, nest))
        };
        // A number with a fraction, as people write them, ends in zero bits; one of any size has no such exponent.
        let is_usual = |float: f64| float == 0.0 || (1e-100..1e100).contains(&float.abs()) || float.is_infinite();
        let looks_like_float = |word: u64| word as u32 == 0 && (1e-9..1e15).contains(&f64::from_bits(word).abs());
        let doubtful = match (&ty.shape, ty.kind) {
            (_, Kind::Float64) => !is_usual(f64::from_bits(word(0))),
            (_, Kind::Float32) => bytes.get(..4).is_some_and(|bytes| !is_usual(LE::read_f32(bytes).into())),
            (_, kind) if (kind.is_signed() || kind.is_unsigned()) && ty.size == 8 => {
                looks_like_float(word(0)) || self.heap.object(word(0)).is_some()
            }
            (_, Kind::String) => {
                let text = self.session.memory.bytes(word(0), word(8).min(ELEMENTS) as usize).unwrap_or_default();
                std::str::from_utf8(&text).is_err_and(|error| error.error_len().is_some())
            }
            (Shape::Struct(fields), _) => return fields.iter().map(|field| part(field.offset, field.ty)).sum(),
            (Shape::Array { elem, len }, _) => {
                let size = self.session.types.load(*elem).map_or(0, |elem| elem.size);
                return (0..(*len).min(ELEMENTS)).map(|index| part(index.saturating_mul(size), *elem)).sum();
            }
            _ => false,
        };
        doubtful.into()
    }

    /// Whether so many bytes can lie at an address: within one object, or where no object is.
    fn holds(&self, address: u64, bytes: u64) -> bool {
        let end = address.saturating_add(bytes);
        match self.heap.object(address) {
            _ if bytes >= MAX_LENGTH => false,
            Some(object) => end <= object.base.saturating_add(object.span.elem_size),
            None => bytes == 0 || (self.leads(address) && self.leads(end - 1)),
        }
    }

    /// Whether a pointer is nil or to something that is there.
    fn leads(&self, address: u64) -> bool {
        address == 0 || self.session.memory.u8(address).is_ok()
    }

    /// Whether these bytes can be a value of this type, by what its pointers lead to.
    fn is_value(&self, ty: &GoType, bytes: &[u8], nest: usize) -> bool {
        let word = |at: usize| bytes.get(at..at + 8).map_or(0, LE::read_u64);
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
            _ if ty.kind == Kind::String => word(8) == 0 || (word(0) != 0 && self.holds(word(0), word(8))),
            Shape::Slice(elem) => {
                let size = || self.session.types.load(*elem).map_or(0, |elem| elem.size);
                let room = || self.holds(word(0), word(16).saturating_mul(size()));
                word(8) <= word(16) && word(16) < MAX_LENGTH && (word(16) == 0 || room())
            }
            Shape::Interface { methods } => {
                let descriptor = || rtype::of_interface(&*self.session.memory, *methods, word(0)).unwrap_or(0);
                word(0) == 0 || self.session.types.by_descriptor(descriptor()).is_ok()
            }
            Shape::Pointer(_) | Shape::Map(_) | Shape::Chan(_) | Shape::Func => self.leads(word(0)),
            Shape::Struct(fields) => fields.iter().all(|field| part(field.offset, field.ty)),
            Shape::Array { elem, len } => {
                let Ok(inner) = self.session.types.load(*elem) else { return true };
                (0..(*len).min(ELEMENTS)).all(|index| part(index.saturating_mul(inner.size), *elem))
            }
            _ => true,
        }
    }
}

/// What cannot be read does not agree; only Ctrl-C goes on up.
fn no_error(agrees: Result<bool>) -> Result<bool> {
    match agrees {
        Err(Error::Interrupted) => Err(Error::Interrupted),
        agrees => Ok(agrees.unwrap_or(false)),
    }
}

fn size(layout: &MapLayout) -> u64 {
    match layout {
        MapLayout::Classic(layout) => layout.bucket_size,
        MapLayout::Swiss(layout) => layout.group_size,
    }
}

/// The buckets of a classic map; arrays of 16 and more have overflow buckets behind them (`makeBucketArray`,
/// src/runtime/map.go).
fn classic_cells(memory: &dyn Memory, address: u64) -> Option<Cells> {
    let bytes = memory.array::<{ hmap::SIZE }>(address).ok()?;
    let (entries, flags, b) = (LE::read_u64(&bytes[hmap::COUNT..]), bytes[hmap::FLAGS], bytes[hmap::B]);
    let (buckets, seed) = (LE::read_u64(&bytes[hmap::BUCKETS..]), LE::read_u32(&bytes[hmap::HASH0..]).into());
    let has_buckets = buckets != 0 || (entries == 0 && b == 0);
    let plausible = flags < 16 && b < 40 && has_buckets && buckets.is_multiple_of(8);
    let count = 1u64.checked_shl(b.into())?;
    let spare = if b >= 4 { count / 16 } else { 0 };
    plausible.then_some(Cells { address: buckets, count, spare, entries, seed })
}

/// The first groups of a Swiss map.
fn swiss_cells(memory: &dyn Memory, address: u64) -> Option<Cells> {
    let bytes = memory.array::<{ swiss::SIZE }>(address).ok()?;
    let word = |at: usize| LE::read_u64(&bytes[at..]);
    let (entries, seed, dir, dir_len) =
        (word(swiss::USED), word(swiss::SEED), word(swiss::DIR_PTR), word(swiss::DIR_LEN));
    if (dir == 0 && (entries > 0 || dir_len > 0)) || !dir.is_multiple_of(8) || bytes[swiss::WRITING] > 1 {
        return None;
    }
    if dir_len == 0 {
        return (entries <= 8).then_some(Cells { address: dir, count: 1, spare: 0, entries, seed });
    }
    if 1u64.checked_shl(bytes[swiss::GLOBAL_DEPTH].into()) != Some(dir_len) {
        return None;
    }
    let table = Table::read(memory, memory.u64(dir).ok()?).ok()?;
    Some(Cells { address: table.groups, count: table.group_count(), spare: 0, entries, seed })
}

/// The map whose header is at `address`, its type told by memory: what typed traversal leads there, else what fits.
pub fn map_at(session: &Session, address: u64, watch: &dyn Watch) -> Result<MapRef> {
    let unknown = |why: String| Err(Error::Usage(format!("{why}; say its type with --type, e.g. 'map[string]int'")));
    let identified = match Identifier::new(session, watch) {
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Ok(identifier) => identifier.identify(address, watch)?,
        Err(_) => None,
    };
    if let Some(found) = identified.as_ref().filter(|found| found.or.is_empty()) {
        return Ok(MapRef { address, ty: found.ty });
    }
    let reached = reach(session, watch)?;
    if let Some(map) = reached.maps.iter().find(|map| map.address == address && reached.or(map).is_empty()) {
        return Ok(reached.map(map));
    }
    match identified {
        None => unknown(format!("no map was recognised at {address:#x}")),
        Some(found) => {
            let first = session.types.load(found.ty)?.name.to_string();
            let others = found.or.iter().filter_map(|&ty| session.types.load(ty).ok());
            let names = others.fold(first, |names, ty| format!("{names}, {}", ty.name));
            unknown(format!("the map at {address:#x} fits several types ({names})"))
        }
    }
}
