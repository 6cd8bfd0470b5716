//! Every map of a process. First those that package variables lead to by typed traversal: through structs, pointers,
//! slices, arrays, interfaces, channel buffers and the maps themselves, breadth first, so that a map's owner path is
//! the shortest. Then those among the heap's objects that their keys' own hashes prove to be maps.

use crate::binary::rtype;
use crate::error::{Quiet, Watch};
use crate::goroutine::runtime::Runtime;
use crate::heap::identify::{Identified, Identifier};
use crate::heap::mark::Marker;
use crate::map::{GoMap, Survey};
use crate::session::{MapRef, Session};
use crate::types::Location;
use crate::types::{GoType, Kind, Shape, TypeId, TypeSource};
use crate::value::{Context, GoSyntax, Options};
use crate::Result;
use byteorder::{ByteOrder, LittleEndian as LE};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

/// A map, and how it was come to.
#[derive(Debug, Clone)]
pub struct Reached {
    /// Owner path: `main.server.sessions["a"].cache`.
    pub path: String,
    /// The map.
    pub map: MapRef,
    /// Its type's name.
    pub type_name: Arc<str>,
    /// `classic` or `swiss`.
    pub layout: &'static str,
    /// `len(m)`.
    pub count: u64,
    /// Counts over its buckets or groups.
    pub survey: Survey,
    /// How it was found.
    pub found: Found,
    /// Other types that its bytes can be of as well.
    pub or: Vec<Arc<str>>,
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

/// What a traversal found.
#[derive(Debug, Clone, Default)]
pub struct Reach {
    /// The maps, in the order they were come to.
    pub maps: Vec<Reached>,
    /// What kept the traversal from going everywhere, one sentence each.
    pub notes: Vec<String>,
    /// Bytes of the heap's objects; `None` when its spans were not found.
    pub heap: Option<u64>,
}

/// Objects visited at most; the set of them takes about 24 bytes each.
const MAX_VISITED: usize = 20_000_000;
/// Elements of one slice that are looked at.
const MAX_ELEMENTS: u64 = 1 << 26;
/// Goroutines of one process at most.
const MAX_GOROUTINES: u64 = 1 << 26;
/// Bytes of one stack at most (`maxstackceiling`, twice the default 1 GB: src/runtime/proc.go).
const MAX_STACK: u64 = 2_000_000_000;
/// Values nested in each other (not behind pointers) deeper than this are garbage.
const MAX_NEST: usize = 64;
/// Bytes of a key shown in an owner path.
const KEY_BYTES: usize = 40;

/// One step of an owner path; steps share their beginnings.
struct Step {
    parent: Option<Rc<Step>>,
    text: String,
}

impl Step {
    fn below(self: &Rc<Step>, text: impl Into<String>) -> Rc<Step> {
        Rc::new(Step { parent: Some(self.clone()), text: text.into() })
    }

    fn path(&self) -> String {
        let mut steps = vec![self.text.as_str()];
        let mut at = self.parent.as_deref();
        while let Some(step) = at {
            steps.push(&step.text);
            at = step.parent.as_deref();
        }
        steps.iter().rev().copied().collect()
    }
}

/// What is still to be visited.
enum Work {
    /// A value of this type at this address.
    Value(u64, TypeId, Rc<Step>),
    /// So many elements of this type from this address on.
    Elements(u64, u64, TypeId, Rc<Step>),
    /// A map.
    Map(MapRef, Rc<Step>),
}

/// Finds the maps of a session.
pub fn reach(session: &Session, watch: &dyn Watch) -> Result<Reach> {
    let options = Options { depth: 1, string_limit: KEY_BYTES, elements_limit: 4, ..Options::default() };
    let mut traversal = Traversal {
        session,
        watch,
        context: Context::new(&*session.memory, &session.types, options, &Quiet),
        leads: FxHashMap::default(),
        visited: FxHashSet::default(),
        queue: VecDeque::new(),
        found: Reach::default(),
        unreadable: 0,
        addresses: FxHashSet::default(),
        how: Found::Reached,
    };
    traversal.start();
    traversal.run()?;
    traversal.search_heap()?;
    if traversal.unreadable > 0 {
        let sentence = format!("{} values on the way could not be read", traversal.unreadable);
        traversal.found.notes.push(sentence);
    }
    Ok(traversal.found)
}

struct Traversal<'s> {
    session: &'s Session,
    watch: &'s dyn Watch,
    context: Context<'s>,
    /// Whether a value of a type can lead to a map.
    leads: FxHashMap<TypeId, bool>,
    visited: FxHashSet<(u64, TypeId)>,
    queue: VecDeque<Work>,
    found: Reach,
    unreadable: u64,
    /// Headers of the maps found.
    addresses: FxHashSet<u64>,
    /// How what is found now is found.
    how: Found,
}

impl<'s> Traversal<'s> {
    fn start(&mut self) {
        let variables = self.session.types.variables();
        if variables.is_empty() {
            let path = self.session.types.program().path.display();
            self.found.notes.push(format!("{path} has no DWARF, so its package variables are not known"));
        }
        for (name, Location { address, ty }) in variables {
            let step = Rc::new(Step { parent: None, text: name });
            self.queue.push_back(Work::Value(address, ty, step));
        }
    }

    fn run(&mut self) -> Result<()> {
        let mut done = 0;
        while let Some(work) = self.queue.pop_front() {
            done += 1;
            if done & 1023 == 0 {
                self.watch.tick(done, done + self.queue.len() as u64)?;
            }
            match work {
                Work::Value(address, ty, step) => self.elements(address, 1, ty, &step, false)?,
                Work::Elements(address, count, ty, step) => self.elements(address, count, ty, &step, true)?,
                Work::Map(map, step) => self.map(map, &step)?,
            }
        }
        Ok(())
    }

    /// Whether this object is met for the first time.
    fn is_new(&mut self, address: u64, ty: TypeId) -> bool {
        if self.visited.len() >= MAX_VISITED {
            let sentence = format!("more than {MAX_VISITED} objects are reachable; the rest was not visited");
            if self.found.notes.last() != Some(&sentence) {
                self.found.notes.push(sentence);
            }
            return false;
        }
        self.visited.insert((address, ty))
    }

    /// Whether a value of this type can lead to a map: whether any type that it is made of, or points to, is one.
    fn leads(&mut self, id: TypeId) -> bool {
        if let Some(&known) = self.leads.get(&id) {
            return known;
        }
        let (mut queue, mut seen) = (vec![id], FxHashSet::default());
        let mut leads = false;
        while let Some(next) = queue.pop().filter(|_| !leads) {
            if !seen.insert(next) || self.leads.get(&next) == Some(&false) {
                continue;
            }
            let Ok(ty) = self.session.types.load(next) else { continue };
            match &ty.shape {
                _ if self.leads.get(&next) == Some(&true) => leads = true,
                Shape::Map(_) | Shape::Interface { .. } => leads = true,
                _ if ty.is_sync_map() => leads = true,
                Shape::Pointer(Some(elem)) | Shape::Slice(elem) | Shape::Chan(elem) => queue.push(*elem),
                Shape::Array { elem, .. } => queue.push(*elem),
                Shape::Struct(fields) => queue.extend(fields.iter().map(|field| field.ty)),
                _ => {}
            }
        }
        if !leads {
            // None of them does, then.
            self.leads.extend(seen.into_iter().map(|id| (id, false)));
        }
        self.leads.insert(id, leads);
        leads
    }

    fn elements(&mut self, address: u64, count: u64, id: TypeId, step: &Rc<Step>, numbered: bool) -> Result<()> {
        if !self.leads(id) {
            return Ok(());
        }
        let Ok(ty) = self.session.types.load(id) else { return Ok(()) };
        for index in 0..count.min(MAX_ELEMENTS) {
            if index & 1023 == 1023 {
                self.watch.tick(index, count)?;
            }
            let Some(at) = index.checked_mul(ty.size).and_then(|offset| address.checked_add(offset)) else { break };
            let memory = self.session.memory.clone();
            let Ok(bytes) = memory.bytes(at, ty.size as usize) else {
                self.unreadable += 1;
                // What follows a hole in an array is as likely missing.
                break;
            };
            let step = if numbered { step.below(format!("[{index}]")) } else { step.clone() };
            self.value(&ty, at, &bytes, &step, MAX_NEST)?;
        }
        Ok(())
    }

    /// Visits a value in place; what it points to is put off.
    fn value(&mut self, ty: &GoType, address: u64, bytes: &[u8], step: &Rc<Step>, nest: usize) -> Result<()> {
        let Some(nest) = nest.checked_sub(1) else { return Ok(()) };
        let word = |at: usize| bytes.get(at..at + 8).map(LE::read_u64).unwrap_or(0);
        match &ty.shape {
            Shape::Map(_) if word(0) != 0 && self.is_new(word(0), ty.id) => {
                self.queue.push_back(Work::Map(MapRef { address: word(0), ty: ty.id }, step.clone()));
            }
            Shape::Pointer(Some(elem)) if word(0) != 0 && self.leads(*elem) && self.is_new(word(0), *elem) => {
                self.queue.push_back(Work::Value(word(0), *elem, step.clone()));
            }
            Shape::Slice(elem) if word(0) != 0 && word(8) > 0 && self.leads(*elem) && self.is_new(word(0), ty.id) => {
                self.queue.push_back(Work::Elements(word(0), word(8), *elem, step.clone()));
            }
            Shape::Chan(elem) if word(0) != 0 && self.leads(*elem) && self.is_new(word(0), ty.id) => {
                self.channel(word(0), *elem, step)
            }
            Shape::Interface { methods } if word(0) != 0 => {
                self.interface(*methods, word(0), word(8), address, step)?
            }
            _ if ty.is_sync_map() && self.is_new(address, ty.id) => {
                self.queue.push_back(Work::Map(MapRef { address, ty: ty.id }, step.clone()));
            }
            Shape::Struct(fields) => {
                for field in fields.clone() {
                    if !self.leads(field.ty) {
                        continue;
                    }
                    let Ok(inner) = self.session.types.load(field.ty) else { continue };
                    let at = field.offset as usize;
                    let Some(part) = bytes.get(at..at.saturating_add(inner.size as usize)) else { continue };
                    let step = step.below(format!(".{}", field.name));
                    self.value(&inner, address.wrapping_add(field.offset), part, &step, nest)?;
                }
            }
            Shape::Array { elem, len } if self.leads(*elem) => {
                let Ok(inner) = self.session.types.load(*elem) else { return Ok(()) };
                for index in 0..(*len).min(MAX_ELEMENTS) {
                    let at = index.saturating_mul(inner.size) as usize;
                    let Some(part) = bytes.get(at..at.saturating_add(inner.size as usize)) else { break };
                    let step = step.below(format!("[{index}]"));
                    self.value(&inner, address.wrapping_add(at as u64), part, &step, nest)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn interface(&mut self, methods: bool, word: u64, data: u64, address: u64, step: &Rc<Step>) -> Result<()> {
        let memory = self.session.memory.clone();
        let descriptor = rtype::of_interface(&*memory, methods, word).unwrap_or(0);
        let Ok(dynamic) = self.session.types.by_descriptor(descriptor) else { return Ok(()) };
        if !self.leads(dynamic) {
            return Ok(());
        }
        let direct = rtype::is_direct(&*memory, descriptor).unwrap_or(false);
        let at = if direct { address.wrapping_add(8) } else { data };
        if direct || self.is_new(at, dynamic) {
            self.queue.push_back(Work::Value(at, dynamic, step.clone()));
        }
        Ok(())
    }

    /// The buffer of a channel: `dataqsiz` slots at `buf` (src/runtime/chan.go, offsets 8 and 16 in every version).
    fn channel(&mut self, channel: u64, elem: TypeId, step: &Rc<Step>) {
        let memory = &self.session.memory;
        let word = |offset: u64| memory.u64(channel.wrapping_add(offset)).unwrap_or(0);
        let (count, capacity, buffer) = (word(0), word(8), word(16));
        if count > 0 && count <= capacity {
            self.queue.push_back(Work::Elements(buffer, capacity, elem, step.below("<-")));
        }
    }

    /// Adds the heap's maps that no type led to.
    fn search_heap(&mut self) -> Result<()> {
        let session = self.session;
        let identifier = match Identifier::new(session) {
            Ok(identifier) => identifier,
            Err(error) => {
                self.found.notes.push(format!("the heap was not searched: {error}"));
                return Ok(());
            }
        };
        self.found.heap = Some(identifier.heap().bytes());
        let mut hidden: FxHashMap<u64, Identified> = FxHashMap::default();
        for (done, header) in identifier.headers().enumerate() {
            if done & 255 == 0 {
                self.watch.tick(done as u64, 0)?;
            }
            if !self.addresses.contains(&header) {
                hidden.extend(identifier.identify(header).map(|found| (header, found)));
            }
        }
        let mut led: Vec<(Identified, Rc<Step>)> = Vec::new();
        let mut marker = Marker::new(identifier.heap(), &*session.memory);
        let specials = identifier.heap().spans().iter().flat_map(|span| span.specials(&*session.memory));
        let specials = specials.map(|range| (format!("finalizer at {:#x}", range.start), range));
        for (name, range) in roots(session).into_iter().chain(specials) {
            let mut step = None;
            marker.mark(range, self.watch, &mut |object| {
                let Some(found) = hidden.remove(&object) else { return };
                let step = step.get_or_insert_with(|| Rc::new(Step { parent: None, text: name.clone() }));
                led.push((found, step.clone()));
            })?;
        }
        self.add(led)?;
        self.how = Found::Candidate;
        let mut rest: Vec<Identified> = hidden.into_values().collect();
        rest.sort_by_key(|found| found.map.address);
        let step = |found: &Identified| {
            let text = format!("heap object {:#x}", found.map.address);
            Rc::new(Step { parent: None, text })
        };
        self.add(rest.into_iter().map(|found| (step(&found), found)).map(|(step, found)| (found, step)).collect())
    }

    /// Adds maps whose type memory told. Those of one possible type come first: they tell the types of others.
    fn add(&mut self, mut maps: Vec<(Identified, Rc<Step>)>) -> Result<()> {
        maps.sort_by_key(|(found, _)| !found.or.is_empty());
        for (found, step) in maps {
            if found.or.is_empty() {
                self.queue.push_back(Work::Map(found.map, step));
                self.run()?;
            } else if !self.addresses.contains(&found.map.address) {
                self.note_map(found.map, &step, found.or)?;
            }
        }
        Ok(())
    }

    /// Notes one map; `None` when it is known already, or no map.
    fn note_map(&mut self, target: MapRef, step: &Rc<Step>, or: Vec<Arc<str>>) -> Result<Option<GoMap<'s>>> {
        // Garbage that is no sound map is not one; a variable that was overwritten is told by `check`.
        let Ok(map) = self.session.open(target) else { return Ok(None) };
        if !self.addresses.insert(target.address) {
            return Ok(None);
        }
        let survey = map.survey(self.watch)?;
        self.found.maps.push(Reached {
            path: step.path(),
            map: target,
            type_name: map.ty.name.clone(),
            layout: map.layout(),
            count: map.count(),
            survey,
            found: self.how,
            or,
        });
        Ok(Some(map))
    }

    fn map(&mut self, target: MapRef, step: &Rc<Step>) -> Result<()> {
        let Some(map) = self.note_map(target, step, Vec::new())? else { return Ok(()) };
        let (keys, elems) = (self.leads(map.key.id), self.leads(map.elem.id));
        if keys || elems {
            self.entries(&map, step, keys, elems)?;
        }
        Ok(())
    }

    fn entries(&mut self, map: &GoMap<'_>, step: &Rc<Step>, keys: bool, elems: bool) -> Result<()> {
        let watch = self.watch;
        map.each(watch, &mut |entry| {
            let Ok(key) = entry.key else { return Ok(true) };
            let step = step.below(format!("[{}]", self.key_text(&map.key, key)));
            if keys {
                self.value(&map.key, entry.key_address, key, &step, MAX_NEST)?;
            }
            if let (true, Ok(elem)) = (elems, &entry.elem) {
                self.value(&map.elem, entry.elem_address, elem, &step, MAX_NEST)?;
            }
            Ok(true)
        })
    }

    fn key_text(&self, ty: &GoType, key: &[u8]) -> String {
        let mut text = Vec::new();
        let written = self.context.plan(ty.id).and_then(|plan| {
            let mut sink = GoSyntax::new(&mut text, false);
            plan.write(&self.context, key, &mut sink)
        });
        match written {
            Ok(()) if ty.kind == Kind::String || text.len() <= 2 * KEY_BYTES => {
                String::from_utf8_lossy(&text).into_owned()
            }
            _ => "…".into(),
        }
    }
}

/// Ranges of memory whose words may be pointers, with what they are called: variables, then stacks.
fn roots(session: &Session) -> Vec<(String, Range<u64>)> {
    let mut roots: Vec<(String, Range<u64>)> = Vec::new();
    for (name, Location { address, ty }) in session.types.variables() {
        let Ok(ty) = session.types.load(ty) else { continue };
        // Untyped words on the way cannot be named.
        roots.push((format!("{name}→…"), address..address.saturating_add(ty.size)));
    }
    for module in session.types.modules() {
        for range in [&module.data.data, &module.data.bss] {
            roots.push((format!("variables at {:#x}", range.start), range.clone()));
        }
    }
    roots.extend(stacks(session).unwrap_or_default());
    roots
}

/// The stacks of all goroutines; only known with DWARF.
fn stacks(session: &Session) -> Result<Vec<(String, Range<u64>)>> {
    let runtime = Runtime::of(session)?;
    let (list, count) = runtime.allgs;
    let memory = &*session.memory;
    let mut stacks = Vec::new();
    for at in 0..count.min(MAX_GOROUTINES) {
        let Ok(g) = memory.u64(list.wrapping_add(8 * at)) else { break };
        let word = |offset: usize| memory.u64(g.wrapping_add(offset as u64)).unwrap_or(0);
        let (low, high) = (word(runtime.g.stack_lo), word(runtime.g.stack_hi));
        if low < high && high - low <= MAX_STACK {
            stacks.push((format!("stack of goroutine {}", word(runtime.g.goid)), low..high));
        }
    }
    Ok(stacks)
}
