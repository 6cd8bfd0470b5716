//! Every map of a process. First those that package variables lead to by typed traversal: through structs, pointers,
//! slices, arrays, interfaces, channel buffers and the maps themselves, breadth first, so that a map's owner path is
//! short. Then those that untyped words lead to: closures, `unsafe.Pointer`, stacks, finalizers, and without DWARF the
//! variables; interface values among the words give types again. Last those among the heap's objects that their keys'
//! own hashes prove to be maps, though nothing is known to lead there.

mod parallel;
mod plan;
mod roots;
mod steps;
mod visit;
mod visited;

pub use parallel::{in_pieces, Progress};

use crate::error::Watch;
use crate::expression::{self, Hashers, Scope};
use crate::heap::headers::Headers;
use crate::heap::identify::{Identified, Identifier};
use crate::heap::{Heap, Object};
use crate::map::Layout;
use crate::memory::Place as MemoryPlace;
use crate::session::{MapRef, Session};
use crate::types::{Location, TypeId, TypeSource};
use crate::{Error, Result};
use plan::{LeadKind, PlanId, Plans};
use roots::{Pairs, Root};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use steps::{Extent, Place, Steps, NONE};
use visit::{Batch, Child, Item, Target, World, UNTYPED};
use visited::{Tag, Visited};

/// A map, and how it was come to.
#[derive(Debug, Clone)]
pub struct Reached {
    /// Address of its header.
    pub address: u64,
    /// Its type's plan, and where it hangs.
    plan: PlanId,
    place: Place,
    /// Whether memory told its type, or that of something on the way.
    inferred: bool,
    /// How it was found.
    pub found: Found,
    /// `len(m)`.
    pub count: u64,
    /// Live slots, and slots allocated; the latter is 0 for a `sync.Map`.
    pub live: u64,
    pub capacity: u64,
    /// Bytes of header, buckets or groups, directory and indirect keys and elems.
    pub bytes: u64,
    /// Classic: overflow buckets. Swiss: tombstones.
    spare: u32,
}

/// How sure the type of a map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sure {
    /// Types lead to it, from a variable or the value of an interface.
    Proven,
    /// Of the program's map types only this one fits its keys' hashes and its values.
    Inferred,
    /// The most plausible of several that fit.
    Guessed,
}

impl Sure {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Sure::Proven => "proven",
            Sure::Inferred => "inferred",
            Sure::Guessed => "guessed",
        }
    }
}

/// How a map was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A package variable, a goroutine's stack or a finalizer leads to it.
    Reached,
    /// The heap holds it, and its keys lie where their hash says; nothing is known to lead to it.
    Candidate,
}

impl Found {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Found::Reached => "reached",
            Found::Candidate => "candidate",
        }
    }
}

/// What kept a traversal from going everywhere.
#[derive(Debug, Clone)]
pub enum Note {
    /// The heap was not searched.
    Heap(Error),
    /// The executable tells nothing of its package variables.
    NoDwarf(PathBuf),
    /// The traversal ended before it had been everywhere.
    Cut(Error),
    /// Not all that pairs of words lead to was followed.
    Guesses,
    /// More was reachable than can be remembered.
    Full,
    /// So many values could not be read.
    Unreadable(u64),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Heap(error) => write!(f, "the heap was not searched: {error}"),
            Note::NoDwarf(path) => {
                write!(f, "{} has no DWARF, so its package variables have no names or types", path.display())
            }
            Note::Cut(error) => write!(f, "not everything was visited: {error}"),
            Note::Guesses => f.write_str(
                "not all that pairs of words lead to was followed: maps that nothing else leads to are candidates",
            ),
            Note::Full => f.write_str("more places are reachable than are remembered; the rest was not visited"),
            Note::Unreadable(count) => write!(f, "{count} values on the way could not be read"),
        }
    }
}

/// A map that a type leads to, and whose header cannot be: it was overwritten, or it cannot be read.
#[derive(Debug, Clone)]
pub struct Torn {
    /// Where the header should be.
    pub address: u64,
    plan: PlanId,
    place: Place,
    /// Why it is no map.
    pub error: Error,
}

impl Torn {
    /// Whether only the core lacks it: nothing is known of the map then.
    pub fn is_left_out(&self) -> bool {
        matches!(&self.error, Error::Memory(error) if error.is_left_out())
    }
}

/// What a traversal found.
pub struct Reach<'s> {
    session: &'s Session,
    plans: Plans<'s>,
    steps: Steps,
    /// The maps, in the order they were come to.
    pub maps: Vec<Reached>,
    /// Where a type leads to a map, and what is there is none.
    pub torn: Vec<Torn>,
    /// What kept the traversal from going everywhere.
    pub notes: Vec<Note>,
    /// How keys are hashed, for paths through maps.
    hashers: Hashers,
    /// By header: other types that a map's bytes can be of as well.
    or: FxHashMap<u64, Arc<Identified>>,
    /// Bytes of the heap's objects; `None` when its spans were not found.
    pub heap: Option<u64>,
}

impl Reach<'_> {
    /// A map's header and type.
    pub fn map(&self, map: &Reached) -> MapRef {
        let ty = self.plans.get(map.plan).map_or(crate::map::sync::ANY_TYPE, |plan| plan.ty.id);
        MapRef { address: map.address, ty }
    }

    /// The name of a map's type.
    pub fn type_name(&self, map: &Reached) -> &str {
        self.plans.get(map.plan).map_or("", |plan| &plan.ty.name)
    }

    /// The name of a torn map's type.
    pub fn torn_type(&self, torn: &Torn) -> &str {
        self.plans.get(torn.plan).map_or("", |plan| &plan.ty.name)
    }

    /// A torn map's owner path: as it is shown, with nothing cut, and as an expression that leads there.
    pub fn torn_path(&self, torn: &Torn) -> String {
        self.path_of(torn.place, Extent::Shown).0
    }

    pub fn torn_whole_path(&self, torn: &Torn) -> String {
        self.path_of(torn.place, Extent::Whole).0
    }

    pub fn torn_expression(&self, torn: &Torn, watch: &dyn Watch) -> String {
        let ty = self.plans.get(torn.plan).map_or(crate::map::sync::ANY_TYPE, |plan| plan.ty.id);
        self.expression_of(torn.place, MapRef { address: torn.address, ty }, watch)
    }

    /// A map's layout.
    pub fn layout(&self, map: &Reached) -> Layout {
        let parts = self.plans.get(map.plan).and_then(|plan| plan.map.as_ref()?.parts.as_ref());
        match parts {
            None => Layout::Sync,
            Some(parts) if parts.slots.classic => Layout::Classic,
            Some(_) => Layout::Swiss,
        }
    }

    /// Overflow buckets of a classic map.
    pub fn overflow(&self, map: &Reached) -> Option<u32> {
        (self.layout(map) == Layout::Classic).then_some(map.spare)
    }

    /// Tombstones of a Swiss map.
    pub fn tombstones(&self, map: &Reached) -> Option<u32> {
        (self.layout(map) == Layout::Swiss).then_some(map.spare)
    }

    /// Other types that a map's bytes can be of as well.
    pub fn or(&self, map: &Reached) -> &[TypeId] {
        self.or.get(&map.address).map_or(&[], |found| &found.or)
    }

    /// How sure a map's type is.
    pub fn sure(&self, map: &Reached) -> Sure {
        match (self.or(map).is_empty(), map.inferred) {
            (false, _) => Sure::Guessed,
            (_, true) => Sure::Inferred,
            _ => Sure::Proven,
        }
    }

    /// What those are called.
    pub fn or_names(&self, map: &Reached) -> Vec<Arc<str>> {
        self.or(map).iter().filter_map(|&ty| Some(self.session.types.load(ty).ok()?.name.clone())).collect()
    }

    /// A map's owner path as it is shown, long keys cut: `main.server.sessions["a"].cache`.
    pub fn path(&self, map: &Reached) -> String {
        self.path_of(map.place, Extent::Shown).0
    }

    /// The same with nothing cut, to tell maps apart by.
    pub fn whole_path(&self, map: &Reached) -> String {
        self.path_of(map.place, Extent::Whole).0
    }

    fn path_of(&self, place: Place, extent: Extent) -> (String, bool) {
        self.steps.path(&self.plans, &self.session.types, &*self.session.memory, place, extent)
    }

    /// An expression that leads to a map: its owner path, or where that cannot be gone again, the path and the address.
    pub fn expression(&self, map: &Reached, watch: &dyn Watch) -> String {
        self.expression_of(map.place, self.map(map), watch)
    }

    fn expression_of(&self, place: Place, target: MapRef, watch: &dyn Watch) -> String {
        let session = self.session;
        let (text, whole) = self.path_of(place, Extent::Expression);
        let scope = Scope {
            session,
            memory: &*session.memory,
            locals: &|_| Ok(None),
            hashers: &self.hashers,
            scans: false,
            watch,
        };
        let leads_there = || {
            let meant = expression::evaluate(scope, &text).and_then(|meant| session.map_meant(meant));
            meant.is_ok_and(|meant| meant == target)
        };
        match whole && leads_there() {
            true => text,
            false => expression::by_address(session, &text, target),
        }
    }
}

/// Items visited in one go, and elements and words of them: all that they lead to waits in memory.
const BLOCK: usize = 1 << 15;
const BLOCK_ELEMENTS: u64 = 1 << 19;
/// So many items or children ahead, memory is asked for.
const AHEAD: usize = 16;
/// Items waiting, above which the newest come first: they lead to fewer new ones than the oldest.
const MANY_WAITING: usize = 1 << 19;
/// Elements of one slice or array that are looked at.
const MAX_ELEMENTS: u64 = 1 << 30;
/// Elements in one item.
const PIECE: u64 = 1 << 10;
/// Large maps within the entries of large maps: deeper ones wait in memory.
const MAX_NESTED: usize = 16;
/// Values, and pieces of arrays, visited because two words look like an interface, for each object of the heap, and at
/// least. The objects of one graph lead to each other again under every type that their bytes allow, which would never end.
const GUESSES: u64 = 2;
const MIN_GUESSES: u64 = 1 << 16;

/// Finds the maps of a session.
pub fn reach<'s>(session: &'s Session, watch: &dyn Watch) -> Result<Reach<'s>> {
    let identifier = Identifier::new(session, watch);
    let identifier = identifier.as_ref();
    if let Err(Error::Interrupted) = identifier {
        return Err(Error::Interrupted);
    }
    let headers = identifier.ok().map(Headers::new);
    let mut traversal = Traversal {
        session,
        watch,
        alone: session.memory.place() == MemoryPlace::Debugger,
        heap: identifier.ok().map(|identifier| identifier.heap()),
        identifier: identifier.ok(),
        headers: headers.as_ref(),
        pairs: None,
        visited: Visited::new(identifier.ok().map(|identifier| identifier.heap())),
        guesses: u64::MAX,
        waiting: VecDeque::new(),
        untyped: VecDeque::new(),
        doubtful: Vec::new(),
        how: Found::Reached,
        unreadable: 0,
        done: 0,
        nested: 0,
        found: Reach {
            session,
            plans: Plans::new(&session.types),
            steps: Steps::default(),
            maps: Vec::new(),
            torn: Vec::new(),
            notes: Vec::new(),
            hashers: Hashers::default(),
            or: FxHashMap::default(),
            heap: identifier.ok().map(|identifier| identifier.heap().bytes()),
        },
    };
    match traversal.everything(identifier.map(|identifier| identifier.heap())) {
        Err(error @ Error::Limit(_)) => {
            watch.grant();
            traversal.found.notes.push(Note::Cut(error));
        }
        visited => visited?,
    }
    traversal.finish();
    Ok(traversal.found)
}

/// The next items of a queue: the oldest, or the newest when there are many.
fn some(queue: &mut VecDeque<Item>) -> Vec<Item> {
    let elements = |item: &Item| u64::from(item.count.max(1));
    let within = |total: &mut u64, item: &Item| {
        *total += elements(item);
        Some(()).filter(|()| *total <= BLOCK_ELEMENTS)
    };
    match queue.len() > MANY_WAITING {
        false => {
            let count = queue.iter().take(BLOCK).scan(0, within).count().max(1).min(queue.len());
            queue.drain(..count).collect()
        }
        true => {
            let count = queue.iter().rev().take(BLOCK).scan(0, within).count().max(1);
            queue.drain(queue.len() - count..).collect()
        }
    }
}

struct Traversal<'t, 's> {
    session: &'s Session,
    watch: &'t dyn Watch,
    /// Whether the memory may be read by this thread only.
    alone: bool,
    heap: Option<&'t Heap>,
    identifier: Option<&'t Identifier<'s>>,
    headers: Option<&'t Headers<'t, 's>>,
    pairs: Option<Pairs>,
    visited: Visited,
    waiting: VecDeque<Item>,
    /// Untyped words met on the way, put off while types still tell more.
    untyped: VecDeque<Item>,
    /// Maps that no type led to and that fit several types.
    doubtful: Vec<(u64, Arc<Identified>, Place)>,
    how: Found,
    unreadable: u64,
    done: u64,
    nested: usize,
    /// Values that pairs of words lead to which may still be visited.
    guesses: u64,
    found: Reach<'s>,
}

impl<'s> Traversal<'_, 's> {
    fn everything(&mut self, heap: std::result::Result<&Heap, &Error>) -> Result<()> {
        self.from_variables()?;
        match heap {
            Ok(heap) => self.search_heap(heap)?,
            Err(error) => self.found.notes.push(Note::Heap(error.clone())),
        }
        Ok(())
    }

    fn from_variables(&mut self) -> Result<()> {
        let variables = self.session.types.variables();
        if variables.is_empty() {
            self.found.notes.push(Note::NoDwarf(self.session.types.program().path.clone()));
        }
        for (name, Location { address, ty }) in variables {
            if !self.found.plans.leads(ty) {
                continue;
            }
            let plan = self.found.plans.id(ty);
            let place = self.root(name);
            if self.found.plans.make(plan) {
                self.waiting.push_back(Item {
                    address,
                    plan,
                    first: 0,
                    count: 0,
                    doubt: false,
                    inferred: false,
                    place,
                });
            }
        }
        self.run_typed(0)
    }

    /// The place of a root with this name.
    fn root(&mut self, name: impl Into<Box<str>>) -> Place {
        let lead = self.found.plans.add_lead(name, LeadKind::Root);
        Place { parent: NONE, lead, payload: 0 }
    }

    /// A step to a root with this name.
    fn root_step(&mut self, name: impl Into<Box<str>>) -> Place {
        let place = self.root(name);
        let parent = self.found.steps.add(&self.found.plans, place);
        Place { parent, lead: Plans::UNNAMED, payload: 0 }
    }

    /// Visits all that waits: what a type is known of comes first, since untyped words then have less to tell.
    fn run(&mut self) -> Result<()> {
        loop {
            self.run_typed(0)?;
            if self.untyped.is_empty() {
                return Ok(());
            }
            self.waiting.extend(some(&mut self.untyped));
        }
    }

    /// Visits what a type is known of until no more than `rest` items wait.
    fn run_typed(&mut self, rest: usize) -> Result<()> {
        while self.waiting.len() > rest {
            let block = some(&mut self.waiting);
            let progress = Progress { before: self.done, total: self.done + block.len() as u64 + self.left() };
            self.done += block.len() as u64;
            self.watch.tick(progress.before, progress.total)?;
            let world = self.world();
            let batches = in_pieces(&block, self.alone, progress, self.watch, &|first, items, watch| {
                let world = World { watch, ..world };
                let mut batch = Batch::default();
                for (index, item) in (first as u32..).zip(items) {
                    if index & 63 == 0 {
                        watch.tick(0, 0)?;
                    }
                    if let Some(ahead) = items.get((index as usize - first) + AHEAD) {
                        world.memory.ask(ahead.address);
                    }
                    world.visit(index, item, &mut batch)?;
                }
                Ok(batch)
            })?;
            let mut steps = vec![NONE; block.len()];
            for batch in batches {
                let large = self.absorb(&block, &mut steps, batch)?;
                for index in large {
                    self.large_map(&block, &mut steps, index)?;
                }
            }
        }
        Ok(())
    }

    /// How many items wait.
    fn left(&self) -> u64 {
        (self.waiting.len() + self.untyped.len()) as u64
    }

    fn world(&self) -> World<'_> {
        World {
            memory: &*self.session.memory,
            types: &self.session.types,
            heap: self.heap,
            plans: &self.found.plans,
            visited: &self.visited,
            pairs: self.pairs.as_ref(),
            identifier: self.identifier,
            headers: self.headers,
            watch: self.watch,
        }
    }

    /// Takes in what a piece of a block led to; returns the items whose entries were left for later.
    fn absorb(&mut self, block: &[Item], steps: &mut [u32], batch: Batch) -> Result<Vec<u32>> {
        self.unreadable += batch.unreadable;
        for (index, survey) in batch.maps {
            let Some(item) = block.get(index as usize) else { continue };
            self.note_map(item.address, item.plan, (item.place, item.inferred), &survey);
        }
        for (index, error) in batch.torn {
            let Some(&Item { address, plan, place, .. }) = block.get(index as usize) else { continue };
            self.found.torn.push(Torn { address, plan, place, error });
        }
        for (i, child) in batch.children.iter().enumerate() {
            if let Some(spot) = batch.children.get(i + AHEAD).and_then(|child| child.spot) {
                self.visited.ask(spot);
            }
            let from = child.from as usize;
            let (Some(item), Some(step)) = (block.get(from), steps.get_mut(from)) else { continue };
            if *step == NONE {
                *step = self.found.steps.add(&self.found.plans, item.place);
            }
            let place = Place { parent: *step, lead: child.lead, payload: child.payload };
            self.take(child, place, item.inferred || item.plan == UNTYPED)?;
        }
        Ok(batch.large)
    }

    /// The entries of a map with so many that what they lead to is visited in between.
    fn large_map(&mut self, block: &[Item], steps: &mut [u32], index: u32) -> Result<()> {
        let Some(item) = block.get(index as usize) else { return Ok(()) };
        let (session, watch) = (self.session, self.watch);
        let Some(parts) = self.found.plans.get(item.plan).and_then(|plan| plan.map.as_ref()?.parts.clone()) else {
            return Ok(());
        };
        let Ok(map) = crate::map::GoMap::open_as(&*session.memory, &session.types, &parts, item.address) else {
            return Ok(());
        };
        let mut batch = Batch::default();
        map.each(watch, &mut |entry| {
            self.world().entry(index, item, entry, &mut batch);
            if batch.children.len() >= BLOCK {
                self.absorb(block, steps, std::mem::take(&mut batch))?;
                if self.waiting.len() > MANY_WAITING && self.nested < MAX_NESTED {
                    self.nested += 1;
                    let visited = self.run_typed(MANY_WAITING / 2);
                    self.nested -= 1;
                    visited?;
                }
            }
            Ok(true)
        })?;
        self.absorb(block, steps, batch).map(drop)
    }

    /// Notes that something is led to, unless it was visited.
    fn take(&mut self, child: &Child, place: Place, inferred: bool) -> Result<()> {
        let (address, doubt) = (child.address, child.doubt);
        let (plan, target) = match child.target {
            Target::Untyped => return self.take_untyped(address, place),
            Target::Dynamic { descriptor, data } => {
                let Some((plan, direct)) = self.found.plans.dynamic(&*self.session.memory, descriptor) else {
                    return Ok(());
                };
                let child = Child { address: if direct { address } else { data }, spot: None, ..*child };
                let target = if direct { Target::InPlace(plan) } else { Target::Value(plan) };
                return self.take(&Child { target, ..child }, place, inferred);
            }
            target @ (Target::Value(plan) | Target::Array(plan, _) | Target::InPlace(plan)) => (plan, target),
            Target::Known(plan) => {
                self.visited.claim(Visited::spot(self.heap, address), address, Tag::value(plan), 0);
                return Ok(());
            }
        };
        if !self.found.plans.make(plan) {
            return Ok(());
        }
        if doubt && self.guesses == 0 {
            return Ok(());
        }
        let heap = self.heap;
        let spot = || child.spot.unwrap_or_else(|| Visited::spot(heap, address));
        let (size, before) = (self.found.plans.get(plan).map_or(0, |plan| plan.ty.size), self.waiting.len());
        match target {
            Target::Array(_, count) => {
                let there = self.elements_there(address, size, count);
                // Words that only look like a slice claim more than there is.
                let end = count.checked_mul(size).and_then(|bytes| address.checked_add(bytes));
                let is_whole = || there == count && end.is_some_and(|end| self.session.memory.u8(end - 1).is_ok());
                if doubt && !is_whole() {
                    return Ok(());
                }
                let count = there;
                // Pointers into the array are visits of it too, if all of it is visited.
                if child.claims && !self.visited.claim(spot(), address, Tag::array(plan), size) {
                    return Ok(());
                }
                let mut first = 0;
                while first < count {
                    let piece = PIECE.min(count - first);
                    let at = address.wrapping_add(first.wrapping_mul(size));
                    let item =
                        Item { address: at, plan, first: first as u32, count: piece as u32, doubt, inferred, place };
                    self.waiting.push_back(item);
                    first += piece;
                }
            }
            Target::InPlace(_) => {
                self.waiting.push_back(Item { address, plan, first: 0, count: 0, doubt, inferred, place });
            }
            _ => {
                let new = !(doubt && self.is_other_map(address, plan)?);
                if new && self.visited.claim(spot(), address, Tag::value(plan), size) {
                    self.waiting.push_back(Item { address, plan, first: 0, count: 0, doubt, inferred, place });
                }
            }
        }
        if doubt && self.waiting.len() > before {
            self.guesses = self.guesses.saturating_sub((self.waiting.len() - before) as u64);
            if self.guesses == 0 {
                self.found.notes.push(Note::Guesses);
            }
        }
        Ok(())
    }

    /// Whether memory tells that a map of other types is there.
    fn is_other_map(&self, address: u64, plan: PlanId) -> Result<bool> {
        let object = self.heap.and_then(|heap| heap.object(address)).filter(|object| object.base == address);
        let Some(found) = self.map_in(object)? else { return Ok(false) };
        let ty = self.found.plans.get(plan).filter(|plan| plan.map.is_some()).map(|plan| &plan.ty);
        Ok(!ty.is_some_and(|ty| ty.id == found.ty || found.or.contains(&ty.id)))
    }

    /// The type that memory tells of a map whose header an object is.
    fn map_in(&self, object: Option<Object<'_>>) -> Result<Option<Arc<Identified>>> {
        let asked = self.headers.zip(object).map(|(headers, object)| headers.of(&object, self.watch));
        Ok(asked.transpose()?.flatten())
    }

    /// How many of so many elements there can be at an address.
    fn elements_there(&self, address: u64, size: u64, count: u64) -> u64 {
        let object = self.heap.and_then(|heap| heap.object(address));
        let room = object.map_or(u64::MAX, |object| object.base.saturating_add(object.span.elem_size) - address);
        let count = count.min(MAX_ELEMENTS).min(room / size.max(1));
        if object.is_some() || count <= PIECE {
            return count;
        }
        // Outside of the heap: as far as there is memory.
        let memory = &*self.session.memory;
        let there = |first: &u64| memory.u8(address.wrapping_add(first * size)).is_ok();
        let pieces = (0..count).step_by(PIECE as usize).take_while(there).count();
        (pieces as u64 * PIECE).min(count)
    }

    /// Notes that a word of unknown type leads to an object.
    fn take_untyped(&mut self, address: u64, place: Place) -> Result<()> {
        let Some((heap, object)) = self.heap.and_then(|heap| Some((heap, heap.object(address)?))) else {
            return Ok(());
        };
        if object.span.no_scan || self.visited.has_object(&object) {
            return Ok(());
        }
        let head = heap.type_word(object.span);
        let words = ((object.span.elem_size - head) / 8).min(u32::MAX.into()) as u32;
        let address = object.base.saturating_add(head);
        let item = Item { address, plan: UNTYPED, first: 0, count: words, doubt: true, inferred: true, place };
        if self.pairs.is_none() {
            self.untyped.push_back(item);
            return Ok(());
        }
        if !object.is_allocated(&*self.session.memory) || !self.visited.claim_untyped(&object) {
            return Ok(());
        }
        if let Some(found) = self.map_in(Some(object))? {
            self.take_map(object.base, found, place);
            return Ok(());
        }
        // The runtime may have noted the type of a large object.
        let noted = heap.noted_type(&*self.session.memory, &object);
        if let Some((plan, false)) = noted.and_then(|ty| self.found.plans.dynamic(&*self.session.memory, ty)) {
            let count = self.found.plans.make(plan).then(|| self.found.plans.get(plan).map(|plan| plan.ty.size));
            if let Some(size) = count.flatten().filter(|&size| size > 0) {
                let target = Target::Array(plan, (object.span.elem_size - head) / size);
                let child =
                    Child { from: 0, lead: 0, payload: 0, address, spot: None, target, doubt: true, claims: true };
                return self.take(&child, place, true);
            }
        }
        self.untyped.push_back(item);
        Ok(())
    }

    /// Notes a map whose type memory told.
    fn take_map(&mut self, address: u64, found: Arc<Identified>, place: Place) {
        if !found.or.is_empty() {
            self.doubtful.push((address, found, place));
            return;
        }
        let plan = self.found.plans.header(found.ty);
        if self.found.plans.make(plan)
            && self.visited.claim(Visited::spot(self.heap, address), address, Tag::value(plan), 0)
        {
            self.waiting.push_back(Item { address, plan, first: 0, count: 0, doubt: false, inferred: true, place });
        }
    }

    fn note_map(&mut self, address: u64, plan: PlanId, (place, inferred): (Place, bool), counts: &visit::Counts) {
        let found = self.how;
        let visit::Counts { count, live, capacity, bytes, spare } = *counts;
        self.found.maps.push(Reached { address, plan, place, inferred, found, count, live, capacity, bytes, spare });
    }

    /// Adds the maps that no type led to.
    fn search_heap(&mut self, heap: &Heap) -> Result<()> {
        self.pairs = Some(Pairs::of(self.session)?);
        self.guesses = MIN_GUESSES.max(GUESSES * self.visited.objects());
        for item in std::mem::take(&mut self.untyped) {
            self.take_untyped(item.address, item.place)?;
        }
        self.run()?;
        for (root, range) in roots::ranges(self.session, heap, self.watch)? {
            self.mark(root, range)?;
        }
        self.add_doubtful()?;
        self.how = Found::Candidate;
        for (address, found) in self.unvisited()? {
            let place = self.root(format!("heap object {address:#x}"));
            self.take_map(address, found, place);
        }
        self.run()?;
        self.add_doubtful()
    }

    /// The maps that nothing led to.
    fn unvisited(&self) -> Result<Vec<(u64, Arc<Identified>)>> {
        let Some(headers) = self.headers else { return Ok(Vec::new()) };
        let spans = headers.spans();
        let memory = &*self.session.memory;
        let progress = Progress { before: self.done, total: self.done + spans.len() as u64 };
        let pieces = in_pieces(&spans, self.alone, progress, self.watch, &|_, spans, watch| {
            let mut found: Vec<(u64, Arc<Identified>)> = Vec::new();
            for span in spans {
                for object in span.allocated(memory) {
                    if !self.visited.has_object(&object) {
                        watch.tick(0, 0)?;
                        found.extend(headers.of(&object, watch)?.map(|map| (object.base, map)));
                    }
                }
            }
            Ok(found)
        })?;
        Ok(pieces.into_iter().flatten().collect())
    }

    /// Visits what the words of a range of memory lead to.
    fn mark(&mut self, root: Root, range: Range<u64>) -> Result<()> {
        const WORDS: u64 = 1 << 17;
        let place = match root {
            Root::Variables => Place { parent: NONE, lead: Plans::VARIABLES, payload: 0 },
            Root::Named(name) => self.root_step(name),
        };
        let mut at = range.start.next_multiple_of(8);
        while at < range.end {
            // One word more, for an interface across the edge.
            let count = (range.end - at).div_ceil(8).min(WORDS);
            let (plan, count) = (UNTYPED, count as u32);
            self.untyped.push_back(Item { address: at, plan, first: 0, count, doubt: true, inferred: true, place });
            at += 8 * u64::from(count);
        }
        self.run()
    }

    /// Adds the maps that fit several types, unless their type has become known since.
    fn add_doubtful(&mut self) -> Result<()> {
        let doubtful = std::mem::take(&mut self.doubtful);
        let mut known: FxHashSet<u64> = doubtful.iter().map(|&(address, ..)| address).collect();
        let noted: FxHashSet<u64> =
            self.found.maps.iter().map(|map| map.address).filter(|at| known.contains(at)).collect();
        known.retain(|address| !noted.contains(address));
        for (address, found, place) in doubtful {
            if !known.contains(&address) {
                continue;
            }
            let plan = self.found.plans.header(found.ty);
            let parts = match self.found.plans.make(plan) {
                true => self.found.plans.get(plan).and_then(|plan| plan.map.as_ref()?.parts.clone()),
                false => None,
            };
            let Some(parts) = parts else { continue };
            let (memory, types) = (&*self.session.memory, &self.session.types);
            let Ok(map) = crate::map::GoMap::open_as(memory, types, &parts, address) else { continue };
            let counts = visit::Counts::of(&map, self.watch)?;
            self.note_map(address, plan, (place, true), &counts);
            self.found.or.insert(address, found);
        }
        Ok(())
    }

    fn finish(&mut self) {
        // A header come to as two types is one map.
        let mut known: Vec<u64> = Vec::with_capacity(self.found.maps.len());
        known.extend(self.found.maps.iter().map(|map| map.address));
        known.sort_unstable();
        if known.windows(2).any(|pair| pair[0] == pair[1]) {
            let mut seen = FxHashSet::default();
            self.found.maps.retain(|map| seen.insert(map.address));
        }
        if self.visited.full {
            self.found.notes.push(Note::Full);
        }
        if self.unreadable > 0 {
            self.found.notes.push(Note::Unreadable(self.unreadable));
        }
    }
}
