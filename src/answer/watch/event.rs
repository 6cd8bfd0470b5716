//! One hit told in the program's terms: which map, which key, whether it is there, who asked.

use crate::answer::get::hash_notes;
use crate::answer::why::inquire;
use crate::answer::{key_text, place_json, Show};
use crate::error::Quiet;
use crate::map::identity;
use crate::map::keys::{KeyHash, Keys};
use crate::map::lookup::{Hasher, Lookup};
use crate::map::sync::ANY_TYPE;
use crate::map::{GoMap, Header, Parts};
use crate::probe::{now_ns, Hit, Key, Operation, Outcome, ProbePlan};
use crate::session::{MapRef, Session};
use crate::types::{GoType, Kind, TypeId, TypeSource};
use crate::value::{Arena, Context, Filter, Overlay, Plan};
use crate::Result;
use byteorder::{ByteOrder, LittleEndian as LE};
use rustc_hash::FxHashMap;
use serde_json::{json, Value};
use std::sync::Arc;

/// Maps with more entries are not searched for keys like a missing one.
const NEAR_ENTRIES: u64 = 10_000;
/// Things of one sort that are remembered at most.
const REMEMBERED: usize = 1 << 16;
/// A program that runs on has changed its map by then.
const STALE_NS: u64 = 100_000_000;
/// How long a key that nothing was like is not compared again with as many stored ones.
const LOOK_AGAIN_NS: u64 = 1_000_000_000;
/// Bytes of a key that are read from memory.
const KEY_BYTES: u64 = 1 << 20;

/// Where an operation was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Function, as in tracebacks.
    pub function: String,
    /// Source file and line.
    pub place: Option<(String, u32)>,
    /// The `sync.Map` method that was inlined there.
    method: Option<Operation>,
}

/// The stored key most like a missing one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearKey {
    /// As it is shown.
    pub key: String,
    /// How it is like it.
    pub relation: &'static str,
    /// The difference.
    pub detail: String,
    /// Whether the map has got more or fewer entries since the operation.
    pub changed: bool,
}

/// What a key is, and the map that it was asked of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyOf {
    /// The map's address.
    pub map: u64,
    /// Its type.
    pub ty: TypeId,
    /// The key.
    pub key: KeyId,
}

/// What a key is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeyId {
    /// All that Go's `==` looks at.
    Whole(identity::Key),
    /// Its own bytes: what they lead to could not be read.
    Bytes(Vec<u8>),
}

/// The key of an operation.
pub struct AskedKey {
    /// As it is shown.
    pub text: String,
    /// What it is.
    pub of: KeyOf,
    bytes: Vec<u8>,
    arena: Arena,
    watched: Arc<Watched>,
}

/// A near miss that was shown, to be shown again while it is one.
struct Known {
    bytes: Vec<u8>,
    id: identity::Key,
    near: NearKey,
}

/// What is known of one operation.
pub struct Event {
    /// What was done.
    pub operation: Operation,
    /// The function that was called for it.
    pub function: String,
    /// The map's type.
    pub type_name: Arc<str>,
    /// The variable that holds the map.
    pub name: Option<Arc<str>>,
    /// The key, where the operation has one and it could be read.
    pub key: Option<AskedKey>,
    /// Whether the key was in the map, as the operation itself found.
    pub outcome: Outcome,
    /// Who asked.
    pub caller: Arc<Caller>,
    /// The map's state at that moment.
    pub state: Option<Value>,
    /// For a miss, the key that is most like the missing one.
    pub near: Option<NearKey>,
    /// The map, when its type is known.
    pub map: Option<MapRef>,
}

/// What must hold for a hit to be told.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Address of the map.
    pub map: Option<u64>,
    /// Part of the type's name.
    pub type_name: Option<String>,
    /// The key matches this pattern of `--where`.
    pub key: Option<String>,
    /// Goroutine id.
    pub goroutine: Option<u64>,
    /// The caller matches.
    pub function: Option<regex::Regex>,
    /// It is a read, and missed its key.
    pub misses: bool,
    /// What is done; anything when empty.
    pub operations: Vec<Operation>,
}

impl Wanted {
    /// Whether operations on maps of the type of this name are wanted.
    pub fn is_type(&self, name: &str) -> bool {
        self.type_name
            .as_ref()
            .is_none_or(|part| name.contains(part.as_str()) || unshaped(name).contains(part.as_str()))
    }
}

/// A type's name with plain types for their shapes: generic code of Go up to 1.20 hands over a `map[go.shape.int64_0]int`
/// (`Shapify`, src/cmd/compile/internal/typecheck/subr.go, go1.19) for each map with such keys.
fn unshaped(name: &str) -> String {
    let mut pieces = name.split("go.shape.");
    let mut out = pieces.next().unwrap_or_default().to_string();
    for piece in pieces {
        let end = piece.find(|c: char| !(c.is_alphanumeric() || "_.*".contains(c))).unwrap_or(piece.len());
        let (word, rest) = piece.split_at(end);
        let number = word.rfind('_').filter(|&at| at + 1 < end && word[at + 1..].bytes().all(|b| b.is_ascii_digit()));
        out += &word[..number.unwrap_or(end)];
        out += rest;
    }
    out
}

/// What a hit turned out to be.
pub enum Told {
    /// What was asked for.
    Event(Box<Event>),
    /// Something else, or a step on the way of another operation.
    Unwanted,
    /// Nobody can say any more whether it was asked for: the program has ended.
    Lost,
}

/// A map type whose operations are watched.
struct Watched {
    name: Arc<str>,
    /// `None` for `sync.Map`.
    parts: Option<Parts>,
    key_type: Arc<GoType>,
    key: Arc<Plan>,
    /// The pattern for keys, when it makes sense for these.
    filter: Option<Filter>,
}

/// Shows keys of one type.
struct KeyText<'a> {
    context: Context<'a>,
    plan: &'a Plan,
    show: &'a Show,
}

impl KeyText<'_> {
    fn of(&self, key: &[u8]) -> Result<String> {
        key_text(self.plan, &self.context, self.show, key)
    }
}

/// Turns hits into events; remembers what does not change.
pub struct Teller {
    pub plan: ProbePlan,
    pub bias: u64,
    /// Whether the target stands still at each hit; else it has run on since.
    pub stopped: bool,
    pub show: Show,
    pub snapshot: bool,
    types: FxHashMap<u64, Option<TypeId>>,
    sync_map: Option<TypeId>,
    hashers: FxHashMap<TypeId, Arc<Hasher>>,
    watched: FxHashMap<TypeId, Option<Arc<Watched>>>,
    callers: FxHashMap<u64, Arc<Caller>>,
    names: FxHashMap<u64, Arc<str>>,
    unnamed: FxHashMap<u64, ()>,
    near: FxHashMap<KeyOf, Known>,
    /// Keys that nothing was like, and how many entries the map had then.
    unlike: FxHashMap<KeyOf, (u64, u64)>,
}

impl Teller {
    pub fn new(session: &Session, plan: ProbePlan, stopped: bool, show: Show, snapshot: bool) -> Teller {
        Teller {
            plan,
            bias: session.types.program().bias,
            stopped,
            show,
            snapshot,
            types: FxHashMap::default(),
            sync_map: session.types.by_name("sync.Map").ok().flatten(),
            hashers: FxHashMap::default(),
            watched: FxHashMap::default(),
            callers: FxHashMap::default(),
            names: FxHashMap::default(),
            unnamed: FxHashMap::default(),
            near: FxHashMap::default(),
            unlike: FxHashMap::default(),
        }
    }

    /// Gives the map at `address` a name.
    pub fn name(&mut self, address: u64, name: &str) {
        self.names.insert(address, name.into());
    }

    /// What a hit was, and its event when it may be wanted; its outcome is to come.
    pub fn tell(&mut self, session: &Session, hit: &Hit, wanted: &Wanted) -> Result<Told> {
        // What costs least decides first.
        if wanted.map.is_some_and(|map| map != hit.map)
            || wanted.goroutine.is_some_and(|goroutine| goroutine != hit.goroutine)
        {
            return Ok(Told::Unwanted);
        }
        let Some(point) = self.plan.points.get(hit.point) else { return Ok(Told::Unwanted) };
        let asked = self.plan.asked(point, &hit.callers);
        let (operation, function, return_address) = (asked.operation, asked.function.to_string(), asked.caller);
        let ty = self.map_type(session, hit.map_type);
        let watched = ty.and_then(|ty| self.watched(session, ty, wanted));
        let type_name = watched.as_ref().map_or_else(|| "?".into(), |watched| watched.name.clone());
        if !wanted.is_type(&type_name) {
            return Ok(Told::Unwanted);
        }
        let caller = self.caller(session, return_address);
        let operation = caller.method.unwrap_or(operation);
        if wanted.function.as_ref().is_some_and(|function| !function.is_match(&caller.function))
            || !(wanted.operations.is_empty() || wanted.operations.contains(&operation))
        {
            return Ok(Told::Unwanted);
        }
        let mut arena = Arena::default();
        let key_bytes = |watched: &Watched| key_bytes(session, watched.key_type.size, &hit.key, &mut arena);
        let bytes = watched.as_deref().and_then(key_bytes);
        let key = watched.zip(ty).zip(bytes);
        // The record of a hit outlives the program; its map does not.
        let lost = |unknown: bool| match unknown && hit.map != 0 && !session.memory.readable(hit.map, 1) {
            true => Ok(Told::Lost),
            false => Ok(Told::Unwanted),
        };
        let mut event = Event {
            operation,
            function,
            type_name,
            name: None,
            key: None,
            outcome: Outcome::Unknown,
            caller,
            state: None,
            near: None,
            map: ty.map(|ty| MapRef { address: hit.map, ty }),
        };
        let Some(((watched, ty), bytes)) = key else {
            if wanted.key.is_some() {
                return lost(hit.key != Key::None);
            }
            if self.snapshot && hit.key == Key::None {
                event.state = event.map.and_then(|map| session.open(map).ok()).map(|map| state(&map, None));
            }
            event.name = self.name_of(session, hit.map);
            return Ok(Told::Event(Box::new(event)));
        };
        let overlay = Overlay::new(&arena, &*session.memory);
        let context = Context::new(&overlay, &session.types, self.show.values.clone(), &Quiet);
        if wanted.key.is_some() {
            match &watched.filter {
                Some(filter) if !filter.matches(&context, &bytes, &[])? => return lost(overlay.missed()),
                Some(_) => {}
                None => return Ok(Told::Unwanted),
            }
        }
        let keys = Keys::new(&overlay, &session.types);
        let text = KeyText { context, plan: &watched.key, show: &self.show }.of(&bytes)?;
        let id = keys.identity(&watched.key_type, &bytes).map_or_else(|_| KeyId::Bytes(bytes.clone()), KeyId::Whole);
        if self.snapshot {
            event.state =
                open(session, &overlay, &watched, ty, hit.map).map(|map| self.state_for(session, &map, &keys, &bytes));
        }
        event.name = self.name_of(session, hit.map);
        let of = KeyOf { map: hit.map, ty, key: id };
        event.key = Some(AskedKey { text, of, bytes, arena, watched });
        Ok(Told::Event(Box::new(event)))
    }

    /// The map's state, and where it stands still at an operation the way of the lookup.
    fn state_for(&mut self, session: &Session, map: &GoMap<'_>, keys: &Keys<'_>, key: &[u8]) -> Value {
        if !self.stopped {
            return state(map, None);
        }
        let hasher = self.hasher(session, map);
        let lookup = map.look_up(&hasher, keys, key, &Quiet).ok();
        let mut state = state(map, lookup.as_ref());
        if let Some(lookup) = &lookup {
            state["notes"] = hash_notes(&hasher, lookup).iter().map(ToString::to_string).collect();
        }
        state
    }

    /// Adds how the operation ended, and for a read that missed, the stored key that is most like the missing one.
    pub fn conclude(&mut self, session: &Session, hit: &Hit, event: &mut Event, outcome: Outcome) {
        event.outcome = outcome;
        if let (Outcome::Missing, "access", Some(asked)) = (outcome, event.operation.family(), &event.key) {
            event.near = self.near(session, hit, asked);
        }
    }

    fn map_type(&mut self, session: &Session, descriptor: u64) -> Option<TypeId> {
        if descriptor == 0 {
            return self.sync_map;
        }
        bound(&mut self.types);
        *self.types.entry(descriptor).or_insert_with(|| session.types.by_descriptor(descriptor).ok())
    }

    fn hasher(&mut self, session: &Session, map: &GoMap<'_>) -> Arc<Hasher> {
        if let Some(known) = self.hashers.get(&map.ty.id) {
            return known.clone();
        }
        let hasher = Arc::new(session.hasher(map));
        // A map that was never used does not tell yet.
        if matches!(*hasher, Hasher::Known { .. }) {
            self.hashers.insert(map.ty.id, hasher.clone());
        }
        hasher
    }

    /// What is known of a map type; `None` for what is no map, or a map of something unknown.
    fn watched(&mut self, session: &Session, ty: TypeId, wanted: &Wanted) -> Option<Arc<Watched>> {
        if let Some(known) = self.watched.get(&ty) {
            return known.clone();
        }
        let watched = self.look_at(session, ty, wanted).map(Arc::new);
        bound(&mut self.watched);
        self.watched.insert(ty, watched.clone());
        watched
    }

    fn look_at(&self, session: &Session, ty: TypeId, wanted: &Wanted) -> Option<Watched> {
        let types = &session.types;
        let loaded = types.load(ty).ok()?;
        let parts = Parts::of(types, &loaded).ok().filter(|_| !loaded.is_sync_map());
        let (key, elem) = match &parts {
            Some(parts) => (parts.key.id, parts.elem.id),
            None if loaded.is_sync_map() => (ANY_TYPE, ANY_TYPE),
            None => return None,
        };
        let compile = |pattern: &String| Filter::compile(types, key, elem, pattern).ok();
        Some(Watched {
            name: loaded.name.clone(),
            parts,
            key_type: types.load(key).ok()?,
            key: Plan::compile(types, key).ok()?,
            // A comparison that makes no sense for this key type matches none of its keys.
            filter: wanted.key.as_ref().and_then(compile),
        })
    }

    fn caller(&mut self, session: &Session, return_address: u64) -> Arc<Caller> {
        if let Some(known) = self.callers.get(&return_address) {
            return known.clone();
        }
        bound(&mut self.callers);
        let caller = Arc::new(caller(session, return_address.wrapping_add(self.bias)));
        self.callers.insert(return_address, caller.clone());
        caller
    }

    /// The variable that holds a map. Variables are read again when an unknown map comes.
    fn name_of(&mut self, session: &Session, map: u64) -> Option<Arc<str>> {
        if let Some(name) = self.names.get(&map) {
            return Some(name.clone());
        }
        bound(&mut self.unnamed);
        if map == 0 || self.unnamed.insert(map, ()).is_some() {
            return None;
        }
        for name in session.types.map_variables("") {
            if let Ok(found) = session.resolve(&name, &Quiet) {
                self.names.entry(found.address).or_insert_with(|| name.into());
            }
        }
        self.names.get(&map).cloned()
    }

    /// The stored key that is most like a missing one, when it is telling. A program that runs on may have changed the map
    /// since: what is shown was stored when it was looked for, just now, and is never the missing key itself.
    fn near(&mut self, session: &Session, hit: &Hit, asked: &AskedKey) -> Option<NearKey> {
        if !self.stopped && now_ns().saturating_sub(hit.ns) >= STALE_NS {
            return None;
        }
        let AskedKey { of, bytes, arena, watched, .. } = asked;
        let overlay = Overlay::new(arena, &*session.memory);
        let map = open(session, &overlay, watched, of.ty, of.map)?;
        let (count, has_count) = (map.count(), hit.count > 0);
        if count > NEAR_ENTRIES
            || count == 0
            || self.unlike.get(of).is_some_and(|&(then, ns)| then == count && hit.ns < ns)
        {
            return None;
        }
        let changed = has_count && hit.count != count;
        let keys = Keys::new(&overlay, &session.types);
        let hasher = self.hasher(session, &map);
        if let Some(Known { bytes: stored, id, near }) = self.near.get(of) {
            let found =
                |key: &[u8]| map.look_up(&hasher, &keys, key, &Quiet).is_ok_and(|lookup| lookup.found.is_some());
            let same = || keys.identity(&watched.key_type, stored).is_ok_and(|now| now == *id);
            if same() && found(stored) && !found(bytes) {
                return Some(NearKey { changed, ..near.clone() });
            }
        }
        let length = keys.text(&watched.key_type, bytes).map(|text| String::from_utf8_lossy(&text).chars().count());
        let near = inquire(&map, &keys, &hasher, bytes, None, &Quiet).ok()?.near;
        let nearest = near.into_iter().find(|near| near.is_telling(length));
        let shown = nearest.and_then(|nearest| {
            let id = keys.identity(&watched.key_type, &nearest.key).ok()?;
            let context = Context::new(&overlay, &session.types, self.show.values.clone(), &Quiet);
            let key = KeyText { context, plan: &watched.key, show: &self.show }.of(&nearest.key).ok()?;
            let near = NearKey { key, relation: nearest.relation.name(), detail: nearest.detail, changed };
            Some(Known { bytes: nearest.key, id, near })
        });
        let Some(known) = shown else {
            bound(&mut self.unlike);
            self.unlike.insert(of.clone(), (count, hit.ns.saturating_add(LOOK_AGAIN_NS)));
            return None;
        };
        let near = known.near.clone();
        bound(&mut self.near);
        self.near.insert(of.clone(), known);
        Some(near)
    }
}

/// The map of an operation.
fn open<'s>(
    session: &'s Session,
    overlay: &'s Overlay<'_>,
    watched: &Watched,
    ty: TypeId,
    address: u64,
) -> Option<GoMap<'s>> {
    match &watched.parts {
        Some(parts) => GoMap::open_as(overlay, &session.types, parts, address).ok(),
        None => GoMap::open(overlay, &session.types, ty, address).ok(),
    }
}

/// The key as it lies in memory, `size` bytes; what of it was caught at the hit goes into `arena`.
fn key_bytes(session: &Session, size: u64, key: &Key, arena: &mut Arena) -> Option<Vec<u8>> {
    let memory = &*session.memory;
    let pair = |first: u64, second: u64| [first.to_le_bytes(), second.to_le_bytes()].concat();
    let bytes = match key {
        Key::None => return None,
        Key::Value(bytes) => bytes.get(..size as usize)?.to_vec(),
        Key::Pointer { bytes, .. } if bytes.len() as u64 >= size => bytes.get(..size as usize)?.to_vec(),
        Key::Pointer { address, .. } => memory.bytes(*address, size.min(KEY_BYTES) as usize).ok()?.into_owned(),
        Key::String { len, bytes, .. } if bytes.len() as u64 == *len => pair(arena.push(bytes), *len),
        Key::String { address, len, .. } => pair(*address, *len),
        Key::Interface { type_word, data, value, behind } => {
            let data = caught(session, *type_word, value, behind, arena).unwrap_or(*data);
            pair(*type_word, data)
        }
    };
    (bytes.len() as u64 == size).then_some(bytes)
}

/// The value in an interface as it was at the hit, when all of it was fetched.
fn caught(session: &Session, type_word: u64, value: &[u8], behind: &[u8], arena: &mut Arena) -> Option<u64> {
    let descriptor = session.types.descriptors().ok()?.descriptor(type_word).ok()?;
    if value.is_empty() || descriptor.direct || descriptor.size > value.len() as u64 {
        return None;
    }
    let mut value = value.to_vec();
    if descriptor.kind == Kind::String {
        let len = usize::try_from(LE::read_u64(value.get(8..16)?)).ok()?;
        let text = arena.push(behind.get(..len)?);
        LE::write_u64(value.get_mut(..8)?, text);
    }
    Some(arena.push(&value))
}

/// Keeps a table from growing without end: a target has few of what is remembered, or it is garbage.
fn bound<K, V>(table: &mut FxHashMap<K, V>) {
    if table.len() >= REMEMBERED {
        table.clear();
    }
}

/// Who called, by the return address; methods of `sync.Map` that were inlined there are what was asked for.
fn caller(session: &Session, return_address: u64) -> Caller {
    let pc = return_address.wrapping_sub(1);
    let module = session.types.modules().iter().find(|module| module.data.has_code(pc));
    let frames = module.and_then(|m| m.functions.frames(pc, &*session.memory, m.data.gofunc).ok()).unwrap_or_default();
    let mut method = None;
    for frame in frames {
        match Operation::of_inlined(&frame.function) {
            Some(operation) if frame.inlined => method = Some(operation),
            _ => return Caller { function: frame.function, place: frame.file.zip(frame.line), method },
        }
    }
    let function = session.types.function_name(pc).unwrap_or_else(|| format!("{return_address:#x}"));
    Caller { function, place: None, method }
}

/// What of a map a lookup depends on, and the slots that it passed.
fn state(map: &GoMap<'_>, lookup: Option<&Lookup>) -> Value {
    let mut state = json!({"count": map.count(), "layout": map.layout().name()});
    match &map.header {
        Header::Classic(header) => {
            state["growing"] = (header.oldbuckets != 0).into();
            state["writing"] = (header.flags & crate::layout::hmap::HASH_WRITING != 0).into();
            state["b"] = header.b.into();
        }
        Header::Swiss(header) => {
            state["writing"] = (header.writing != 0).into();
            state["tables"] = header.dir_len.into();
        }
        _ => {}
    }
    let Some(lookup) = lookup else { return state };
    if let Some(KeyHash::Known(hash)) = lookup.hash {
        state["hash"] = format!("{hash:#x}").into();
    }
    let control = if map.slots.classic { "tophash" } else { "control" };
    let mut cells: Vec<Value> = Vec::new();
    let mut last = None;
    for step in &lookup.path {
        if last != Some(step.address) {
            last = Some(step.address);
            let mut cell = place_json(step.place, step.slot);
            cell["address"] = format!("{:#x}", step.address).into();
            cell[control] = map.memory.bytes(step.address, 8).map(|b| b.to_vec()).unwrap_or_default().into();
            cells.push(cell);
        }
    }
    state["path"] = cells.into();
    state["stop"] = lookup.stop.to_string().into();
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_told_as_what_they_are_shapes_of() {
        assert_eq!(unshaped("map[go.shape.int64_0]go.shape.*uint8_1"), "map[int64]*uint8");
        assert_eq!(unshaped("map[go.shape.string]main.T_1"), "map[string]main.T_1");
        let wanted = Wanted { type_name: Some("map[int64]".into()), ..Wanted::default() };
        assert!(wanted.is_type("map[go.shape.int64_0]go.shape.int_1") && !wanted.is_type("map[go.shape.int32_0]int"));
    }
}
