//! What else leads to the objects that goroutines wait on: a search back from each object through everything that the
//! garbage collector looks at, word by word. What is found may be a number that only looks like a pointer, or a variable
//! that is dead; what is not found is not there.

use super::live::Live;
use super::{Goroutine, Goroutines, Runtime, Unsearched};
use crate::error::Watch;
use crate::heap::{Heap, Span};
use crate::memory::{each_block, Block, Memory, Place};
use crate::reach::{in_pieces, Progress};
use crate::session::Session;
use crate::{Error, Result};
use rustc_hash::{FxHashMap, FxHashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What leads to an object, besides the goroutines that wait on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Others {
    /// A map entry that holds it.
    pub entry: bool,
    /// A package variable, by way of no such entry.
    pub variable: bool,
    /// Another goroutine's stack.
    pub goroutine: bool,
    /// There is more than was looked at.
    pub more: bool,
}

impl Others {
    /// Nothing leads to it at all.
    pub fn none(&self) -> bool {
        *self == Others::default()
    }

    /// Only a map entry does.
    pub fn only_entry(&self) -> bool {
        *self == Others { entry: true, ..Others::default() }
    }

    /// Whether a goroutine that does not wait on it may have it.
    pub fn others_have_it(&self) -> bool {
        self.goroutine || self.more
    }
}

/// Objects between one and the variable or stack that leads to it.
const STEPS: usize = 4;
/// Objects looked back from at most, in all and for one.
const MAX_NODES: usize = 1 << 21;
const MAX_BEHIND: usize = 256;
/// Objects that point to one, and stacks.
const MAX_OBJECTS: usize = 64;
const MAX_STACKS: usize = 1 << 17;
/// Pages between the first of the heap and the last that the filter covers: 8 MB of memory.
const MAX_PAGES: u64 = 1 << 26;
const PAGE: u64 = 8192;

/// The allocator puts objects without pointers that are smaller than this together into blocks of this size
/// (`maxTinySize`, src/runtime/malloc.go, go1.19 to 1.27): a mutex may share one with a text that others have.
const TINY_BLOCK: u64 = 16;
/// Bytes of a mutex, and of what may lie before it in the same object of such a block, which is aligned as it is.
const TINY_OBJECT: u64 = 8;
const BEFORE: u64 = 4;

/// What points to an object.
#[derive(Default)]
struct Node {
    objects: Vec<u64>,
    stacks: Vec<u64>,
    others: Others,
}

/// Who a run of words belongs to.
#[derive(Clone, Copy)]
enum Owner {
    Variable,
    Stack(u64),
    /// Its address, and that of the word.
    Object(u64, u64),
}

/// Words to look at.
enum Area<'h> {
    Span(&'h Span),
    /// Package variables; address and length of the bitmap of those that are pointers.
    Variables(Range<u64>, (u64, u64)),
    Finalizer(Range<u64>),
    Stack(&'h Goroutine),
}

/// What leads to the objects waited on.
#[derive(Debug, Default)]
pub struct Leads {
    /// By the objects' addresses; empty where memory cannot be searched as a whole.
    pub others: FxHashMap<u64, Others>,
    /// Why it cannot.
    pub unsearched: Option<Unsearched>,
    /// Bytes of it that could not be read.
    pub unread: u64,
}

impl Leads {
    fn unsearched(why: Unsearched) -> Leads {
        Leads { others: FxHashMap::default(), unread: 0, unsearched: Some(why) }
    }
}

/// What leads to the objects waited on. `storage` are addresses in map entries that hold such objects.
pub fn leads(
    session: &Session,
    goroutines: &Goroutines,
    storage: impl Iterator<Item = u64>,
    watch: &dyn Watch,
) -> Result<Leads> {
    let unread = |g: &&Goroutine| !g.system && (g.stack.frames.is_empty() || g.stack.broken.is_some());
    // A stack that cannot be walked may lead anywhere.
    if let Some(goroutine) = goroutines.all.iter().find(unread) {
        return Ok(Leads::unsearched(Unsearched::stack(goroutine)));
    }
    if let Some(note) = goroutines.listed.notes.first() {
        return Ok(Leads::unsearched(Unsearched::List(note.clone())));
    }
    let heap = match Heap::of(session, watch) {
        Ok(heap) => heap,
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) => return Ok(Leads::unsearched(Unsearched::Heap(error))),
    };
    let runtime = match Runtime::of(session) {
        Ok(runtime) => runtime,
        Err(error) => return Ok(Leads::unsearched(Unsearched::Heap(error))),
    };
    let base = |address: u64| heap.object(address).map(|object| object.base);
    let mut search = Search {
        session,
        heap: &heap,
        runtime: &runtime,
        gs: goroutines.all.iter().map(|g| g.g).collect(),
        dead: super::dead(&runtime)?,
        storage: storage.filter_map(base).collect(),
        waits: FxHashSet::default(),
        nodes: FxHashMap::default(),
        buffers: FxHashMap::default(),
        unread: AtomicU64::new(0),
    };
    let mut objects: FxHashMap<u64, Vec<u64>> = FxHashMap::default();
    for goroutine in &goroutines.all {
        for address in goroutine.blocked_on.as_ref().map(super::Blocked::addresses).unwrap_or_default() {
            if let Some(base) = base(address) {
                search.waits.insert((base, goroutine.g));
                let known = objects.entry(base).or_default();
                if !known.contains(&address) {
                    known.push(address);
                }
            }
        }
    }
    if objects.is_empty() {
        return Ok(Leads::default());
    }
    match search.look_back(goroutines, &objects, watch) {
        Ok(true) => {}
        Ok(false) => return Ok(Leads::unsearched(Unsearched::TooMuch)),
        Err(error @ Error::Limit(_)) => {
            watch.grant();
            return Ok(Leads::unsearched(Unsearched::Heap(error)));
        }
        Err(error) => return Err(error),
    }
    // Each step reads the same areas.
    let unread = search.unread.load(Ordering::Relaxed);
    let found = objects.into_iter().flat_map(|(base, addresses)| {
        let others = search.behind(base);
        let others = Others { more: others.more || unread > 0, ..others };
        addresses.into_iter().map(move |address| (address, others))
    });
    Ok(Leads { others: found.collect(), unsearched: None, unread })
}

struct Search<'s> {
    session: &'s Session,
    heap: &'s Heap,
    runtime: &'s Runtime<'s>,
    /// Records of goroutines, and of dead ones.
    gs: FxHashSet<u64>,
    dead: FxHashSet<u64>,
    /// Objects in which the entries lie.
    storage: FxHashSet<u64>,
    /// Objects, and the goroutines that wait on something in them.
    waits: FxHashSet<(u64, u64)>,
    nodes: FxHashMap<u64, Node>,
    buffers: FxHashMap<u64, Range<u64>>,
    /// Bytes that could not be read in the last step.
    unread: AtomicU64,
}

/// The objects to look for, with a filter of their pages.
struct Wanted {
    bases: FxHashSet<u64>,
    /// Of blocks that may hold several small objects without pointers, where the wanted ones begin.
    tiny: FxHashMap<u64, Vec<u64>>,
    low: u64,
    pages: Vec<u64>,
}

impl Wanted {
    fn of(heap: &Heap, bases: FxHashSet<u64>) -> Option<Wanted> {
        let (low, high) = (heap.spans().first()?.base, heap.spans().last()?.end());
        let count = (high - low).div_ceil(PAGE);
        let mut pages = vec![0u64; usize::try_from(count.div_ceil(64)).ok().filter(|_| count <= MAX_PAGES)?];
        for &base in &bases {
            let end = heap.object(base).map_or(base, |object| base + object.span.elem_size - 1);
            for page in (base - low) / PAGE..=(end - low) / PAGE {
                *pages.get_mut(page as usize / 64)? |= 1 << (page % 64);
            }
        }
        Some(Wanted { bases, tiny: FxHashMap::default(), low, pages })
    }

    fn object(&self, heap: &Heap, word: u64) -> Option<u64> {
        let page = word.checked_sub(self.low)? / PAGE;
        let bits = self.pages.get(usize::try_from(page / 64).ok()?)?;
        if bits >> (page % 64) & 1 == 0 {
            return None;
        }
        let base = heap.object(word).map(|object| object.base).filter(|base| self.bases.contains(base))?;
        let hits = |at: &u64| (at.wrapping_sub(BEFORE)..at.wrapping_add(TINY_OBJECT)).contains(&word);
        self.tiny.get(&base).is_none_or(|objects| objects.iter().any(hits)).then_some(base)
    }
}

impl Search<'_> {
    /// Looks back from the objects, step by step; false where there are too many.
    fn look_back(
        &mut self,
        goroutines: &Goroutines,
        objects: &FxHashMap<u64, Vec<u64>>,
        watch: &dyn Watch,
    ) -> Result<bool> {
        let start: FxHashSet<u64> = objects.keys().copied().collect();
        let shares = |base: u64| {
            self.heap.object(base).is_some_and(|object| object.span.no_scan && object.span.elem_size == TINY_BLOCK)
        };
        let tiny: FxHashMap<u64, Vec<u64>> =
            objects.iter().filter(|(&base, _)| shares(base)).map(|(&base, at)| (base, at.clone())).collect();
        let mut areas: Vec<Area<'_>> = self.heap.spans().iter().map(Area::Span).collect();
        for module in self.session.types.modules() {
            areas.push(Area::Variables(module.data.data.clone(), module.data.gcdatamask));
            areas.push(Area::Variables(module.data.bss.clone(), module.data.gcbssmask));
        }
        let finalizers = self.heap.spans().iter().flat_map(|span| span.specials(&*self.session.memory));
        areas.extend(finalizers.map(Area::Finalizer));
        areas.extend(goroutines.all.iter().map(Area::Stack));
        let live = Live::of(self.session, goroutines.all.iter());
        let alone = self.session.memory.place() == Place::Debugger;
        let mut next = start;
        for step in 0..STEPS {
            if next.is_empty() {
                return Ok(true);
            }
            next.iter().for_each(|&base| {
                self.nodes.entry(base).or_default();
            });
            if self.nodes.len() > MAX_NODES {
                return Ok(false);
            }
            let Some(mut wanted) = Wanted::of(self.heap, std::mem::take(&mut next)) else { return Ok(false) };
            if step == 0 {
                wanted.tiny = tiny.clone();
            }
            let (heap, memory, unread) = (self.heap, &*self.session.memory, &self.unread);
            unread.store(0, Ordering::Relaxed);
            let found = in_pieces(&areas, alone, Progress::of(&areas), watch, &|_, areas, watch| {
                let mut found = Vec::new();
                for area in areas {
                    let missing = match area {
                        Area::Stack(goroutine) => {
                            let mut missing = 0;
                            for part in live.parts(goroutine) {
                                let owner = |_| Some(Owner::Stack(goroutine.g));
                                missing += scan(part, &owner, heap, memory, &wanted, watch, &mut found)?;
                            }
                            missing
                        }
                        Area::Finalizer(range) => {
                            scan(range.clone(), &|_| Some(Owner::Variable), heap, memory, &wanted, watch, &mut found)?
                        }
                        Area::Variables(range, (mask, bits)) => {
                            let owner = |at: u64| {
                                let bit = (at - range.start) / 8;
                                let byte = memory.u8(mask.wrapping_add(bit / 8)).unwrap_or(u8::MAX);
                                (bit >= *bits || byte >> (bit % 8) & 1 == 1).then_some(Owner::Variable)
                            };
                            scan(range.clone(), &owner, heap, memory, &wanted, watch, &mut found)?
                        }
                        Area::Span(span) if span.no_scan => 0,
                        Area::Span(span) => {
                            let owner = |at| {
                                let from = heap.object(at).filter(|from| from.is_allocated(memory));
                                from.map(|from| Owner::Object(from.base, at))
                            };
                            scan(span.base..span.end(), &owner, heap, memory, &wanted, watch, &mut found)?
                        }
                    };
                    unread.fetch_add(missing, Ordering::Relaxed);
                }
                Ok(found)
            })?;
            for (owner, object) in found.into_iter().flatten() {
                if let Some(new) = self.note(owner, object, step == 0) {
                    next.insert(new);
                }
            }
        }
        for base in next {
            self.nodes.entry(base).or_default().others.more = true;
        }
        Ok(true)
    }

    /// Notes what points to an object; returns an object that is to be looked back from in turn.
    fn note(&mut self, owner: Owner, object: u64, is_first: bool) -> Option<u64> {
        let owner = match owner {
            Owner::Object(base, _) if self.is_scheduling(base) => return None,
            // Where a goroutine's stack ends, an object of the next span may begin.
            Owner::Object(base, at) if at == base + self.runtime.g.stack_hi as u64 && self.gs.contains(&base) => {
                return None
            }
            // A runtime.p has numbers like addresses, and leads to none of the program's objects at once.
            Owner::Object(base, at) if is_first && !self.buffer(base).is_empty() || self.buffer(base).contains(&at) => {
                return None
            }
            Owner::Object(base, _) => self.goroutine_of(base).map_or(owner, Owner::Stack),
            owner => owner,
        };
        let node = self.nodes.get_mut(&object)?;
        match owner {
            Owner::Variable => node.others.variable = true,
            Owner::Stack(g) if self.waits.contains(&(object, g)) || node.stacks.last() == Some(&g) => {}
            Owner::Stack(_) if node.stacks.len() >= MAX_STACKS => node.others.more = true,
            Owner::Stack(g) => node.stacks.push(g),
            Owner::Object(base, _) if base == object => {}
            Owner::Object(base, _) if self.storage.contains(&base) => node.others.entry = true,
            Owner::Object(base, _) if node.objects.contains(&base) => {}
            Owner::Object(..) if node.objects.len() >= MAX_OBJECTS => node.others.more = true,
            Owner::Object(base, _) => {
                node.objects.push(base);
                return (!self.nodes.contains_key(&base)).then_some(base);
            }
        }
        None
    }

    /// Whether an object is the record of a dead goroutine, or of one that a thread runs the scheduler or signal handlers
    /// on: what they did last still stands in them.
    fn is_scheduling(&self, base: u64) -> bool {
        let (memory, runtime) = (self.runtime.memory, self.runtime);
        let word = |at: u64, by: u64| memory.u64(at.checked_add(by)?).ok();
        let m = || word(base, runtime.g.m as u64).filter(|&m| m != 0);
        let is_ms = |m: u64| [runtime.m.g0, runtime.m.gsignal].iter().any(|&by| word(m, by) == Some(base));
        !self.gs.contains(&base) && (self.dead.contains(&base) || m().is_some_and(is_ms))
    }

    /// Where in a `runtime.p` the buffer of its write barrier is, in which pointers stay that were written long ago: by its
    /// two pointers into itself, `next` and `end` (src/runtime/mwbbuf.go go1.19 to 1.27).
    fn buffer(&mut self, base: u64) -> Range<u64> {
        const SIZES: Range<u64> = 4096..32769;
        if let Some(known) = self.buffers.get(&base) {
            return known.clone();
        }
        let size = self.heap.object(base).map_or(0, |object| object.span.elem_size);
        let found = SIZES.contains(&size).then(|| {
            let words = self.session.memory.words(base, size as usize / 8).unwrap_or_default();
            let buffer = |(i, pair): (usize, &[u64])| {
                let start = base + 8 * i as u64 + 16;
                (start <= pair[0] && pair[0] <= pair[1] && start < pair[1] && pair[1] <= base + size)
                    .then_some(start..pair[1])
            };
            words.windows(2).enumerate().find_map(buffer)
        });
        let found = found.flatten().unwrap_or_default();
        self.buffers.insert(base, found.clone());
        found
    }

    /// The goroutine whose record (`runtime.g`), or place in a queue of waiters (`runtime.sudog`), an object is.
    fn goroutine_of(&self, base: u64) -> Option<u64> {
        if self.gs.contains(&base) {
            return Some(base);
        }
        let g = self.runtime.memory.u64(base.checked_add(self.runtime.sudog.g)?).ok()?;
        let c = || self.runtime.memory.u64(base.checked_add(self.runtime.sudog.c)?).ok();
        let elem = || self.runtime.memory.u64(base.checked_add(self.runtime.sudog.elem)?).ok();
        let waits_on = |word: u64| self.heap.object(word).is_some_and(|object| self.waits.contains(&(object.base, g)));
        (self.gs.contains(&g) && [c(), elem()].into_iter().flatten().any(waits_on)).then_some(g)
    }

    /// All that leads to what goroutines wait on in the object at `start`.
    fn behind(&self, start: u64) -> Others {
        let mut others = Others::default();
        let (mut left, mut seen) = (vec![start], FxHashSet::default());
        while let Some(base) = left.pop() {
            let Some(node) = self.nodes.get(&base).filter(|_| seen.insert(base)) else { continue };
            if seen.len() > MAX_BEHIND {
                others.more = true;
                break;
            }
            others.entry |= node.others.entry;
            others.variable |= node.others.variable;
            others.more |= node.others.more;
            others.goroutine |= node.stacks.iter().any(|&g| !self.waits.contains(&(start, g)));
            left.extend(&node.objects);
        }
        others
    }
}

/// Bytes looked at between two looks at the watch.
const BLOCK: usize = 1 << 20;

/// Adds each word in a range that leads to a wanted object, with whose it is; a word may be nobody's. Returns how many
/// bytes could not be read.
fn scan(
    range: Range<u64>,
    owner: &dyn Fn(u64) -> Option<Owner>,
    heap: &Heap,
    memory: &dyn Memory,
    wanted: &Wanted,
    watch: &dyn Watch,
    found: &mut Vec<(Owner, u64)>,
) -> Result<u64> {
    let mut missing = 0;
    let mut look = |first: u64, bytes: &[u8]| {
        for (at, word) in (range.start + 8 * first..).step_by(8).zip(bytes.chunks_exact(8)) {
            let word = word.try_into().map_or(0, u64::from_le_bytes);
            if let Some(object) = wanted.object(heap, word) {
                found.extend(owner(at).map(|owner| (owner, object)));
            }
        }
    };
    each_block(memory, range.start, 8, 0..range.end.saturating_sub(range.start) / 8, &mut |block| {
        watch.tick(0, 0)?;
        match block {
            Block::Present(first, bytes) => {
                for (at, part) in (first..).step_by(BLOCK / 8).zip(bytes.chunks(BLOCK)) {
                    watch.tick(0, 0)?;
                    look(at, part);
                }
            }
            Block::Missing(words, _) => missing += 8 * (words.end - words.start),
        }
        Ok(true)
    })?;
    Ok(missing)
}
