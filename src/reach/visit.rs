//! One visit: what the words of a value, of a map's entries, or of memory without a type lead to. Many go on at once,
//! so they change nothing; what they find is taken in afterwards, in order.

use super::plan::{LeadKind, PlanId, Plans, Way, What};
use super::roots::Pairs;
use super::steps::{Place, INDEXED};
use super::visited::{Spot, Tag, Visited};
use crate::binary::rtype;
use crate::error::Watch;
use crate::heap::headers::Headers;
use crate::heap::identify::Identifier;
use crate::heap::{Heap, Object};
use crate::map::sync::Header as SyncHeader;
use crate::map::{Entry, GoMap, Header};
use crate::memory::{each_block, Block, Memory};
use crate::session::MapRef;
use crate::types::ProgramTypes;
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};

/// Plan of words of no known type.
pub const UNTYPED: PlanId = u32::MAX;
/// Maps with more entries are visited entry by entry later, so that what they lead to need not wait in memory.
const LARGE: u64 = 1 << 16;

/// Something to visit.
#[derive(Debug, Clone, Copy)]
pub struct Item {
    /// Whether its type is not known from a variable on.
    pub inferred: bool,
    pub address: u64,
    pub plan: PlanId,
    /// Index of the first of `count` elements; one value, or a map, when `count` is 0. For [`UNTYPED`], `count` words.
    pub first: u32,
    pub count: u32,
    /// Whether its type is only likely: words of unknown type led here.
    pub doubt: bool,
    pub place: Place,
}

/// What a visit led to.
#[derive(Debug, Clone, Copy)]
pub struct Child {
    /// The item that led there: its number in the block.
    pub from: u32,
    /// See [`Place`].
    pub lead: u32,
    pub payload: u64,
    pub address: u64,
    /// Where the address is, when that is known already.
    pub spot: Option<Spot>,
    pub target: Target,
    pub doubt: bool,
    /// Whether it is an array of its own, and no part of a value.
    pub claims: bool,
}

/// As what it is to be visited.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    Value(PlanId),
    Array(PlanId, u64),
    /// A part of what is visited already.
    InPlace(PlanId),
    /// The dynamic type of an interface whose data word is `data`; a value that is held directly lies at the address.
    Dynamic {
        descriptor: u64,
        data: u64,
    },
    Untyped,
    /// A header that belongs to a `sync.Map`.
    Known(PlanId),
}

/// What is kept of a survey.
#[derive(Debug, Clone, Copy)]
pub struct Counts {
    pub count: u64,
    pub live: u64,
    pub capacity: u64,
    pub bytes: u64,
    /// Classic: overflow buckets. Swiss: tombstones.
    pub spare: u32,
}

impl Counts {
    /// Surveys a map.
    pub fn of(map: &GoMap<'_>, watch: &dyn Watch) -> Result<Counts> {
        let survey = map.survey(watch)?;
        let spare = survey.overflow_buckets.or(survey.tombstones).unwrap_or(0);
        Ok(Counts {
            count: map.count(),
            live: survey.live,
            capacity: survey.capacity,
            bytes: survey.bytes,
            spare: u32::try_from(spare).unwrap_or(u32::MAX),
        })
    }
}

/// What the visits of some items led to.
#[derive(Default)]
pub struct Batch {
    pub children: Vec<Child>,
    /// Maps, by the number of their item.
    pub maps: Vec<(u32, Counts)>,
    /// Items whose type says that they are maps, and why they are none.
    pub torn: Vec<(u32, Error)>,
    /// Items whose entries are still to be visited.
    pub large: Vec<u32>,
    pub unreadable: u64,
}

/// What visits read.
#[derive(Clone, Copy)]
pub struct World<'w> {
    pub memory: &'w dyn Memory,
    pub types: &'w ProgramTypes,
    pub heap: Option<&'w Heap>,
    pub plans: &'w Plans<'w>,
    pub visited: &'w Visited,
    pub pairs: Option<&'w Pairs>,
    pub identifier: Option<&'w Identifier<'w>>,
    pub headers: Option<&'w Headers<'w, 'w>>,
    pub watch: &'w dyn Watch,
}

/// The item, and the element or entry of it, that ways start from.
#[derive(Clone, Copy)]
struct From {
    index: u32,
    /// [`INDEXED`] or 0.
    flag: u32,
    payload: u64,
    doubt: bool,
}

impl World<'_> {
    /// Visits one item, number `index` of its block.
    pub fn visit(&self, index: u32, item: &Item, batch: &mut Batch) -> Result<()> {
        if item.plan == UNTYPED {
            self.words(index, item, batch);
            return Ok(());
        }
        let Some(plan) = self.plans.get(item.plan) else { return Ok(()) };
        if plan.map.is_some() {
            return self.map(index, item, batch);
        }
        let size = plan.ty.size as usize;
        let (elements, flag) = match item.count {
            0 => (1, 0),
            count => (count as usize, INDEXED),
        };
        let Ok(bytes) = self.memory.bytes(item.address, size.saturating_mul(elements)) else {
            batch.unreadable += u64::from(!item.doubt);
            return Ok(());
        };
        for (i, element) in bytes.chunks_exact(size.max(1)).enumerate() {
            let payload = if flag == 0 { 0 } else { u64::from(item.first) + i as u64 };
            let from = From { index, flag, payload, doubt: item.doubt };
            self.ways(&plan.ways, element, item.address + (i * size) as u64, from, batch);
        }
        Ok(())
    }

    fn map(&self, index: u32, item: &Item, batch: &mut Batch) -> Result<()> {
        let Some((plan, map_plan)) = self.plans.get(item.plan).and_then(|plan| Some((plan, plan.map.as_ref()?))) else {
            return Ok(());
        };
        let opened = match &map_plan.parts {
            Some(parts) => GoMap::open_as(self.memory, self.types, parts, item.address),
            None => GoMap::open(self.memory, self.types, plan.ty.id, item.address),
        };
        let map = match opened {
            Ok(map) => map,
            // Where only words led there, garbage that is no sound map is not one.
            Err(_) if item.doubt => return Ok(()),
            Err(error) => {
                batch.torn.push((index, error));
                return Ok(());
            }
        };
        if item.doubt && !self.is_proven(&map)? {
            return Ok(());
        }
        let counts = Counts::of(&map, self.watch)?;
        batch.maps.push((index, counts));
        if let Header::Sync(SyncHeader::ReadDirty(maps)) = &map.header {
            for inner in maps.inner_maps(self.memory, self.types) {
                if let Some(plan) = self.plans.known_header(inner.ty.id) {
                    let (lead, payload, address, target) = (0, 0, inner.address, Target::Known(plan));
                    let (doubt, claims, spot) = (item.doubt, false, None);
                    batch.children.push(Child { from: index, lead, payload, address, spot, target, doubt, claims });
                }
            }
        }
        if map_plan.keys.is_empty() && map_plan.elems.is_empty() {
            return Ok(());
        }
        if counts.live > LARGE && map_plan.parts.is_some() {
            batch.large.push(index);
            return Ok(());
        }
        map.each(self.watch, &mut |entry| {
            self.entry(index, item, entry, batch);
            Ok(true)
        })
    }

    /// Whether a map that only words led to is one.
    fn is_proven(&self, map: &GoMap<'_>) -> Result<bool> {
        let (Some(heap), Some(identifier)) = (self.heap, self.identifier) else { return Ok(false) };
        let target = MapRef { address: map.address, ty: map.ty.id };
        match map.count() {
            _ if map.ty.is_sync_map() => {
                Ok(heap.object(map.address).is_some_and(|object| object.is_allocated(self.memory)))
            }
            0 => Ok(identifier.can_be_empty(target)),
            _ => identifier.proves(target, self.watch),
        }
    }

    /// Visits an entry of the map that is item `index`.
    pub fn entry(&self, index: u32, item: &Item, entry: &Entry<'_>, batch: &mut Batch) {
        let Some(map) = self.plans.get(item.plan).and_then(|plan| plan.map.as_ref()) else { return };
        let Ok(key) = entry.key else { return };
        let from = From { index, flag: 0, payload: entry.key_address, doubt: item.doubt };
        self.ways(&map.keys, key, entry.key_address, from, batch);
        if let Ok(elem) = entry.elem {
            self.ways(&map.elems, elem, entry.elem_address, from, batch);
        }
    }

    /// What the ways of a value at `address` lead to.
    fn ways(&self, ways: &[Way], value: &[u8], address: u64, from: From, batch: &mut Batch) {
        for way in ways {
            let at = way.offset as usize;
            let word = |i: usize| value.get(at + 8 * i..at + 8 * i + 8).map_or(0, LE::read_u64);
            let inside = address.wrapping_add(way.offset.into());
            let (to, target, claims) = match way.what {
                What::SyncMap(plan) => (inside, Target::Value(plan), true),
                What::Array(plan, len) => (inside, Target::Array(plan, len.into()), false),
                _ if word(0) == 0 => continue,
                What::Map(plan) | What::Pointer(plan) => (word(0), Target::Value(plan), true),
                // Elements up to the capacity are in use by other slices, or were.
                What::Slice(plan) if word(1) > 0 && word(1) <= word(2) => (word(0), Target::Array(plan, word(2)), true),
                What::Slice(_) => continue,
                What::Chan(plan) => match self.channel(word(0)) {
                    Some((buffer, count)) => (buffer, Target::Array(plan, count), true),
                    None => continue,
                },
                What::Interface(methods) => match self.interface(methods, word(0), word(1), inside) {
                    Some((to, target)) => (to, target, true),
                    None => continue,
                },
                What::Untyped => (word(0), Target::Untyped, true),
            };
            let From { index, flag, payload, doubt } = from;
            let lead = way.lead | flag;
            self.push(Child { from: index, lead, payload, address: to, spot: None, target, doubt, claims }, batch);
        }
    }

    /// Adds a child that may be new.
    fn push(&self, child: Child, batch: &mut Batch) {
        let object = || self.heap.and_then(|heap| heap.object(child.address));
        let (tag, plan) = match child.target {
            Target::Value(plan) => (Tag::value(plan), plan),
            Target::Array(plan, _) if child.claims => (Tag::array(plan), plan),
            Target::Untyped => {
                if let Some(object) = object().filter(|object| !object.span.no_scan) {
                    self.untyped(&object, child, batch);
                }
                return;
            }
            _ => return batch.children.push(child),
        };
        let size = self.plans.get(plan).map_or(0, |plan| plan.ty.size);
        let spot = Visited::spot(self.heap, child.address);
        if !self.visited.has(spot, child.address, tag, size) {
            if let Some(object) = object().filter(|_| child.doubt) {
                self.ask(&object);
            }
            batch.children.push(Child { spot: Some(spot), ..child });
        }
    }

    /// Adds an object that may be new, of which nothing is known.
    fn untyped(&self, object: &Object<'_>, child: Child, batch: &mut Batch) {
        if !self.visited.has_object(object) {
            self.ask(object);
            batch.children.push(child);
        }
    }

    /// Finds out whether an object is a map while many threads are at it. When the user interrupts that, the next
    /// look at the watch tells.
    fn ask(&self, object: &Object<'_>) {
        if let (Some(headers), Some(_)) = (self.headers, self.pairs) {
            let _ = headers.of(object, self.watch);
        }
    }

    /// The dynamic value of an interface, if it may lead on.
    fn interface(&self, methods: bool, word: u64, data: u64, address: u64) -> Option<(u64, Target)> {
        let address = address.wrapping_add(8);
        let descriptor = rtype::of_interface(self.memory, methods, word).ok()?;
        Some(match self.plans.known_dynamic(descriptor) {
            Some(None) => return None,
            Some(Some((plan, true))) => (address, Target::InPlace(plan)),
            Some(Some((plan, false))) => (data, Target::Value(plan)),
            None => (address, Target::Dynamic { descriptor, data }),
        })
    }

    /// The buffer of a channel with something in it: `dataqsiz` slots at `buf` (src/runtime/chan.go, offsets 8 and 16 in
    /// every version).
    fn channel(&self, channel: u64) -> Option<(u64, u64)> {
        let bytes = self.memory.array::<24>(channel).ok()?;
        let word = |i: usize| LE::read_u64(&bytes[8 * i..]);
        (word(0) > 0 && word(0) <= word(1)).then_some((word(2), word(1)))
    }

    /// What words of no known type lead to: objects, and the values of interfaces.
    fn words(&self, index: u32, item: &Item, batch: &mut Batch) {
        let (Some(heap), Some(pairs)) = (self.heap, self.pairs) else { return };
        if let Ok(bytes) = self.memory.bytes(item.address, 8 * item.count as usize) {
            return self.run(heap, pairs, index, item, (0, &bytes), batch);
        }
        batch.unreadable += 1;
        // What is around the hole still leads somewhere; the callback does not fail.
        let _ = each_block(self.memory, item.address, 8, 0..item.count.into(), &mut |block| {
            if let Block::Present(first, bytes) = block {
                self.run(heap, pairs, index, item, (first, bytes), batch);
            }
            Ok(true)
        });
    }

    /// The same for a run of an item's words, from the one with index `first`.
    fn run(
        &self,
        heap: &Heap,
        pairs: &Pairs,
        index: u32,
        item: &Item,
        (first, bytes): (u64, &[u8]),
        batch: &mut Batch,
    ) {
        let of_variables = self.plans.lead(item.place.lead & !INDEXED).kind == LeadKind::Words;
        let child = |at: u64, address, target| Child {
            from: index,
            lead: match (of_variables, item.place.payload) {
                // What a variable's word leads to has no name there.
                (true, 1..) => Plans::UNNAMED,
                _ => item.place.lead,
            },
            payload: match (of_variables, item.place.payload) {
                (true, 0) => at,
                (true, _) => 0,
                (false, payload) => payload,
            },
            address,
            spot: None,
            target,
            doubt: true,
            claims: true,
        };
        let mut descriptor = None;
        for (i, word) in (first..).zip(bytes.chunks_exact(8).map(LE::read_u64)) {
            let at = item.address.wrapping_add(8 * i);
            if let Some(descriptor) = descriptor.take().filter(|_| word != 0) {
                self.pair(heap, child(at - 8, at, Target::Dynamic { descriptor, data: word }), word, batch);
            }
            if let Some(object) = heap.object(word).filter(|object| !object.span.no_scan) {
                self.untyped(&object, child(at, word, Target::Untyped), batch);
                continue;
            }
            descriptor = pairs.descriptor(word);
        }
    }

    /// Adds the value of what may be an interface: a type, and a pointer to an object that such a value fits into.
    fn pair(&self, heap: &Heap, child: Child, data: u64, batch: &mut Batch) {
        let Target::Dynamic { descriptor, .. } = child.target else { return };
        if self.plans.known_dynamic(descriptor) == Some(None) {
            return;
        }
        let Some(object) = heap.object(data).filter(|object| object.base == data && !object.span.no_scan) else {
            return;
        };
        let direct = rtype::is_direct(self.memory, descriptor).unwrap_or(false);
        let size = self.memory.u64(descriptor).unwrap_or(0);
        // Size classes waste less than a third of an object.
        let room = object.span.elem_size;
        let fits = direct || (size <= room && (size.saturating_mul(3) >= room.saturating_mul(2) || room <= 16));
        if fits && object.is_allocated(self.memory) {
            self.ask(&object);
            batch.children.push(child);
        }
    }
}
