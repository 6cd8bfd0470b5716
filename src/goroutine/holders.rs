//! Which map entry holds an object: a walk over all that package variables lead to.

use super::shown::{key_text, options};
use super::Limit;
use crate::binary::rtype::is_direct;
use crate::error::Watch;
use crate::heap::Heap;
use crate::layout::goroutine::record;
use crate::layout::sync_map as trie;
use crate::map::identity::Key;
use crate::map::keys::Keys;
use crate::map::{sync, GoMap};
use crate::memory::Memory;
use crate::reach::reach;
use crate::score::{Entry, Odd};
use crate::session::{MapRef, Session};
use crate::types::{Kind, Location, Shape, TypeId, TypeSource};
use crate::value::Context;
use crate::{Error, Result};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// A map entry whose key, elem, or what its elem points to, is or contains an object.
#[derive(Debug, Clone)]
pub struct Holder {
    /// How the map is reached, e.g. `main.reg.m`.
    pub map: String,
    /// Its type, and how that is called.
    pub map_type: TypeId,
    pub type_name: Arc<str>,
    /// Address of its header; 0 for an entry of a sync.Map that is not known.
    pub address: u64,
    /// The key, in Go syntax.
    pub key: String,
    /// What it is; `None` where that cannot be read.
    pub identity: Option<Key>,
    /// Why lookups miss it easily.
    pub odd: Option<Odd>,
    /// Its type, and where it is stored.
    pub key_type: TypeId,
    pub key_address: u64,
}

impl Holder {
    /// The map and the key.
    pub fn entry(&self) -> Entry<'_> {
        (&self.map, &self.key)
    }

    /// The map's header and type, where they are known.
    pub fn map_ref(&self) -> Option<MapRef> {
        (self.address != 0).then_some(MapRef { address: self.address, ty: self.map_type })
    }
}

/// Map entries by the address of the object that they hold.
#[derive(Debug, Default)]
pub struct Holders {
    pub of: FxHashMap<u64, Vec<Holder>>,
    /// How each map is reached, by the address of its header.
    pub paths: FxHashMap<u64, String>,
    /// Maps whose entries were looked through.
    pub maps: u64,
    /// Entries looked through.
    pub entries: u64,
    /// What was left out.
    pub limits: Vec<Limit>,
}

/// Pointers, elements and entries followed in all.
const MAX_STEPS: u64 = 50_000_000;
/// Pointers followed in a row from a variable or a map entry.
const MAX_DEPTH: usize = 24;
/// Elements of one array or slice looked at.
const MAX_ELEMENTS: u64 = 1 << 20;
/// Entries named for one object.
const MAX_HOLDERS: usize = 8;

/// Finds the map entries that hold the objects at `wanted`.
pub fn holders(session: &Session, wanted: &[u64], watch: &dyn Watch) -> Result<Holders> {
    match wanted {
        [] => Ok(Holders::default()),
        wanted => search(session, wanted, false, watch),
    }
}

/// How maps are reached, by the addresses of their headers.
pub fn paths(session: &Session, watch: &dyn Watch) -> Result<FxHashMap<u64, String>> {
    Ok(search(session, &[], true, watch)?.paths)
}

fn search(session: &Session, wanted: &[u64], everything: bool, watch: &dyn Watch) -> Result<Holders> {
    let mut sorted: Vec<u64> = wanted.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let context = Context::new(&*session.memory, &session.types, options(), watch);
    let mut search = Search {
        session,
        memory: &*session.memory,
        context,
        watch,
        exact: sorted.iter().copied().collect(),
        wanted: sorted,
        everything,
        leads: FxHashMap::default(),
        seen: FxHashSet::default(),
        steps: 0,
        cut: false,
        deep: false,
        strict: false,
        noted: 0,
        chan_elem: record(session.types.program().go(), "runtime.hchan", "elemtype"),
        found: Holders::default(),
    };
    match search.everywhere() {
        Err(error @ Error::Limit(_)) => {
            watch.grant();
            search.found.limits.push(Limit::Memory(error));
        }
        looked => looked?,
    }
    if search.cut {
        search.found.limits.push(Limit::Steps(MAX_STEPS));
    }
    if search.deep {
        search.found.limits.push(Limit::Depth(MAX_DEPTH));
    }
    Ok(search.found)
}

/// Whether a struct type is one of package sync's.
fn is_sync(name: &str) -> bool {
    name.starts_with("sync.") || name.starts_with("internal/sync.")
}

/// Whether a text has white space around it.
fn is_spaced(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.trim() != text)
}

/// The innermost map entry on the way to a value.
#[derive(Clone, Copy)]
struct Below<'e> {
    map: &'e str,
    map_type: TypeId,
    type_name: &'e Arc<str>,
    address: u64,
    key: TypeId,
    key_address: u64,
}

struct Search<'s> {
    session: &'s Session,
    memory: &'s dyn Memory,
    context: Context<'s>,
    watch: &'s dyn Watch,
    exact: FxHashSet<u64>,
    wanted: Vec<u64>,
    /// Whether maps are looked for, whatever they can hold.
    everything: bool,
    /// Whether values of a type can contain or lead to an object that goroutines wait on.
    leads: FxHashMap<TypeId, bool>,
    seen: FxHashSet<(u64, TypeId)>,
    steps: u64,
    cut: bool,
    deep: bool,
    /// Whether an object counts only where the type says that there is such an object.
    strict: bool,
    /// Holders noted.
    noted: u64,
    /// Where a channel has the descriptor of its elements' type.
    chan_elem: Option<u64>,
    found: Holders,
}

impl Search<'_> {
    /// Follows every variable, and the heap where those do not lead to all that is wanted.
    fn everywhere(&mut self) -> Result<()> {
        if self.wanted.is_empty() && !self.everything {
            return Ok(());
        }
        for (name, Location { address, ty }) in self.session.types.variables() {
            if !["runtime.", "internal/", "type:", "go:"].iter().any(|start| name.starts_with(start)) {
                self.value(&name, ty, address, None, 0)?;
            }
        }
        if self.wanted.iter().any(|object| !self.found.of.contains_key(object)) {
            self.heap()?;
        }
        Ok(())
    }

    /// Looks through the value of type `ty` at `address`, reached by `path` and, below a map, by `entry`.
    fn value(&mut self, path: &str, ty: TypeId, address: u64, entry: Option<Below<'_>>, depth: usize) -> Result<()> {
        if !self.leads(ty) {
            return Ok(());
        }
        self.steps += 1;
        if self.steps > MAX_STEPS || depth > MAX_DEPTH {
            self.cut |= self.steps > MAX_STEPS;
            self.deep |= depth > MAX_DEPTH;
            return Ok(());
        }
        if self.steps.is_multiple_of(4096) {
            self.watch.tick(self.steps, 0)?;
        }
        let Ok(loaded) = self.session.types.load(ty) else { return Ok(()) };
        match entry {
            Some(entry) if !self.strict => self.note_objects_in(address, loaded.size, entry),
            Some(entry) if is_sync(&loaded.name) && self.exact.contains(&address) => self.note(address, entry),
            _ => {}
        }
        match &loaded.shape {
            Shape::Plain | Shape::Func => Ok(()),
            Shape::Chan(elem) => {
                if let (Some(entry), Ok(channel)) = (entry, self.memory.u64(address)) {
                    if self.exact.contains(&channel) && (!self.strict || self.is_chan_of(channel, *elem)) {
                        self.note(channel, entry);
                    }
                }
                Ok(())
            }
            Shape::Pointer(pointee) => match (pointee, self.memory.u64(address)) {
                (Some(pointee), Ok(to)) if to != 0 => self.pointee(path, *pointee, to, entry, depth),
                _ => Ok(()),
            },
            Shape::Struct(_) if &*loaded.name == "sync.Map" => self.sync_map(path, ty, address, depth),
            Shape::Struct(fields) => {
                if let Some(pointee) = self.atomic_pointee(&loaded.name, fields) {
                    let at = fields.last().map_or(address, |field| address.wrapping_add(field.offset));
                    return match self.memory.u64(at) {
                        Ok(to) if to != 0 => self.pointee(path, pointee, to, entry, depth),
                        _ => Ok(()),
                    };
                }
                for field in fields {
                    let inner = if entry.is_some() { String::new() } else { format!("{path}.{}", field.name) };
                    let inner = if entry.is_some() { path } else { &inner };
                    self.value(inner, field.ty, address.wrapping_add(field.offset), entry, depth)?;
                }
                Ok(())
            }
            Shape::Array { elem, len } => self.elements(path, *elem, address, *len, entry, depth),
            Shape::Slice(elem) => match (self.memory.u64(address), self.memory.u64(address.wrapping_add(8))) {
                (Ok(data), Ok(len)) if data != 0 && self.seen.insert((data, ty)) => {
                    self.elements(path, *elem, data, len, entry, depth + 1)
                }
                _ => Ok(()),
            },
            Shape::Interface { methods } => self.interface(path, *methods, address, entry, depth),
            Shape::Map(_) => match self.memory.u64(address) {
                Ok(header) if header != 0 && self.seen.insert((header, ty)) => {
                    if entry.is_none() {
                        self.found.paths.insert(header, path.to_string());
                    }
                    self.map(path, ty, header, depth)
                }
                _ => Ok(()),
            },
        }
    }

    fn pointee(&mut self, path: &str, ty: TypeId, to: u64, entry: Option<Below<'_>>, depth: usize) -> Result<()> {
        // Below a map entry the same object may be met again under another key, so only cycles end there.
        match entry {
            None if !self.seen.insert((to, ty)) => Ok(()),
            Some(_) if depth > 0 && !self.seen.insert((to, ty)) => {
                let loaded = self.session.types.load(ty).ok().filter(|_| !self.strict);
                if let (Some(entry), Some(loaded)) = (entry, loaded) {
                    self.note_objects_in(to, loaded.size, entry);
                }
                Ok(())
            }
            _ => self.value(path, ty, to, entry, depth + 1),
        }
    }

    /// Whether the channel at this address is one of such elements.
    fn is_chan_of(&self, channel: u64, elem: TypeId) -> bool {
        let stated = self.chan_elem.and_then(|at| self.memory.u64(channel.checked_add(at)?).ok());
        stated.is_some_and(|stated| {
            let declared = self.session.types.load(elem).ok().and_then(|ty| ty.descriptor);
            declared == Some(stated)
        })
    }

    /// `T` of a `sync/atomic.Pointer[T]`: its first field is `[0]*T`; `any` of a `sync.entry`, whose only field was
    /// an `unsafe.Pointer` until Go 1.19.
    fn atomic_pointee(&self, name: &str, fields: &[crate::types::Field]) -> Option<TypeId> {
        if name == "sync.entry" {
            let untyped = self.session.types.load(fields.first()?.ty).ok()?.kind == Kind::UnsafePointer;
            return untyped.then_some(sync::ANY_TYPE);
        }
        // Descriptors leave out the path.
        if !name.starts_with("sync/atomic.Pointer[") && !name.starts_with("atomic.Pointer[") {
            return None;
        }
        let Shape::Array { elem, .. } = self.session.types.load(fields.first()?.ty).ok()?.shape else { return None };
        match self.session.types.load(elem).ok()?.shape {
            Shape::Pointer(pointee) => pointee,
            _ => None,
        }
    }

    fn elements(
        &mut self,
        path: &str,
        elem: TypeId,
        data: u64,
        len: u64,
        entry: Option<Below<'_>>,
        depth: usize,
    ) -> Result<()> {
        let Ok(size) = self.session.types.load(elem).map(|ty| ty.size) else { return Ok(()) };
        if size == 0 || !self.leads(elem) {
            return Ok(());
        }
        self.cut |= len > MAX_ELEMENTS;
        for i in 0..len.min(MAX_ELEMENTS) {
            let at = data.wrapping_add(i.wrapping_mul(size));
            if !self.memory.readable(at, 1) || self.cut && self.steps > MAX_STEPS {
                break;
            }
            match entry {
                Some(_) => self.value(path, elem, at, entry, depth)?,
                None => self.value(&format!("{path}[{i}]"), elem, at, entry, depth)?,
            }
        }
        Ok(())
    }

    fn interface(
        &mut self,
        path: &str,
        methods: bool,
        address: u64,
        entry: Option<Below<'_>>,
        depth: usize,
    ) -> Result<()> {
        let (Ok(tab), Ok(data)) = (self.memory.u64(address), self.memory.u64(address.wrapping_add(8))) else {
            return Ok(());
        };
        // abi.ITab: Inter, Type (src/internal/abi/iface.go).
        let descriptor = if methods && tab != 0 { self.memory.u64(tab.wrapping_add(8)).unwrap_or(0) } else { tab };
        if descriptor == 0 || data == 0 {
            return Ok(());
        }
        let Ok(ty) = self.session.types.by_descriptor(descriptor) else { return Ok(()) };
        match is_direct(self.memory, descriptor) {
            Ok(true) => self.value(path, ty, address.wrapping_add(8), entry, depth),
            Ok(false) => self.pointee(path, ty, data, entry, depth),
            Err(_) => Ok(()),
        }
    }

    fn map(&mut self, path: &str, ty: TypeId, header: u64, depth: usize) -> Result<()> {
        let Ok(map) = GoMap::open(self.memory, &self.session.types, ty, header) else { return Ok(()) };
        self.found.maps += 1;
        let (key, elem, map_type, type_name) = (map.key.id, map.elem.id, map.ty.id, map.ty.name.clone());
        let watch = self.watch;
        let mut entries = 0;
        let walked = map.each(watch, &mut |slot| {
            entries += 1;
            let key_address = slot.key_address;
            let entry = Below { map: path, map_type, type_name: &type_name, address: header, key, key_address };
            self.value(path, key, key_address, Some(entry), 0)?;
            self.value(path, elem, slot.elem_address, Some(entry), 0)?;
            Ok(self.steps <= MAX_STEPS && depth <= MAX_DEPTH)
        });
        self.found.entries += entries;
        match walked {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    /// A sync.Map: two plain maps before Go 1.24 (or without its trie), else a trie of hashes.
    fn sync_map(&mut self, path: &str, ty: TypeId, address: u64, depth: usize) -> Result<()> {
        let types = &self.session.types;
        let field = |ty, name: &str| types.field(ty, name).ok().flatten();
        if let Some(read) = sync::read_only_at(types, &*types.load(ty)?)? {
            if let (Ok(to), Ok(Some(read_only))) =
                (self.memory.u64(address.wrapping_add(read)), types.by_name("sync.readOnly"))
            {
                self.value(path, read_only, to, None, depth + 1)?;
            }
            if let Some((dirty, map)) = field(ty, "dirty") {
                self.value(path, map, address.wrapping_add(dirty), None, depth + 1)?;
            }
            return Ok(());
        }
        let Some((m, trie_type)) = field(ty, "m") else { return Ok(()) };
        let Some((root, _)) = field(trie_type, "root") else { return Ok(()) };
        let any = TypeId::Basic(Kind::Interface);
        self.found.maps += 1;
        self.found.paths.insert(address, path.to_string());
        let type_name: Arc<str> = "sync.Map".into();
        let mut left = vec![self.memory.u64(address.wrapping_add(m).wrapping_add(root)).unwrap_or(0)];
        while let Some(node) = left.pop() {
            if node == 0 || self.steps > MAX_STEPS || !self.seen.insert((node, trie_type)) {
                continue;
            }
            self.steps += 1;
            // node.isEntry is the first byte of both (src/internal/sync/hashtriemap.go go1.24 to 1.27).
            if self.memory.u8(node).is_ok_and(|is_entry| is_entry == 0) {
                let child =
                    |i| self.memory.u64(node.wrapping_add(trie::INDIRECT_CHILDREN).wrapping_add(i * 8)).unwrap_or(0);
                left.extend((0..trie::CHILDREN as u64).map(child));
                continue;
            }
            self.found.entries += 1;
            let key_address = node.wrapping_add(trie::ENTRY_KEY);
            let entry = Below { map: path, map_type: ty, type_name: &type_name, address, key: any, key_address };
            self.value(path, any, node.wrapping_add(trie::ENTRY_VALUE), Some(entry), 0)?;
            left.push(self.memory.u64(node.wrapping_add(trie::ENTRY_OVERFLOW)).unwrap_or(0));
        }
        Ok(())
    }

    /// Looks through the maps that only the heap shows: those of local variables and closures and, without DWARF, all.
    fn heap(&mut self) -> Result<()> {
        let reached = reach(self.session, self.watch)?;
        for found in &reached.maps {
            let MapRef { address, ty } = reached.map(found);
            let or = reached.or(found);
            // Of several types that fit the bytes, it is the one that says what is waited on.
            self.strict = !or.is_empty();
            let before = self.noted;
            for ty in std::iter::once(ty).chain(or.iter().copied()) {
                if self.noted == before && self.leads(ty) && self.seen.insert((address, ty)) {
                    self.map(&reached.path(found), ty, address, 0)?;
                }
            }
        }
        self.strict = false;
        if self.session.types.program().dwarf.is_none() && self.session.types.program().go() >= (1, 24) {
            self.tries()?;
        }
        Ok(())
    }

    /// Entries of every `sync.Map` that is a trie: heap objects that are such a node by their flag, their two dynamic
    /// types and their size.
    fn tries(&mut self) -> Result<()> {
        let heap = match Heap::of(self.session, self.watch) {
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(_) => return Ok(()),
            Ok(heap) => heap,
        };
        let any = TypeId::Basic(Kind::Interface);
        let type_name: Arc<str> = "sync.Map".into();
        let is_type = |word: u64| {
            self.session.types.modules().iter().any(|module| module.data.types.contains(&word))
                && self.session.types.by_descriptor(word).is_ok()
        };
        let mut entries = Vec::new();
        for span in heap.spans().iter().filter(|span| span.elem_size == trie::ENTRY_SIZE && !span.no_scan) {
            self.watch.tick(entries.len() as u64, 0)?;
            let Ok(bytes) = self.memory.bytes(span.base, (span.elem_size * u64::from(span.count)) as usize) else {
                continue;
            };
            for object in span.allocated(self.memory) {
                let at = (object.index * span.elem_size) as usize;
                let word = |offset: u64| {
                    let start = at + offset as usize;
                    bytes.get(start..start + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
                };
                // node.isEntry, and nothing in the bytes beside it.
                if word(0) == 1
                    && word(trie::ENTRY_VALUE + 8) != 0
                    && is_type(word(trie::ENTRY_KEY))
                    && is_type(word(trie::ENTRY_VALUE))
                {
                    entries.push(span.base + at as u64);
                }
            }
        }
        self.found.entries += entries.len() as u64;
        for node in entries {
            let key_address = node.wrapping_add(trie::ENTRY_KEY);
            let (map, map_type) = ("a sync.Map", sync::ANY_TYPE);
            let entry = Below { map, map_type, type_name: &type_name, address: 0, key: any, key_address };
            self.value("a sync.Map", any, node.wrapping_add(trie::ENTRY_VALUE), Some(entry), 0)?;
        }
        Ok(())
    }

    /// Notes every wanted object within `size` bytes at `address`.
    fn note_objects_in(&mut self, address: u64, size: u64, entry: Below<'_>) {
        let first = self.wanted.partition_point(|&object| object < address);
        let end = address.saturating_add(size);
        let within: Vec<u64> = self.wanted[first..].iter().copied().take_while(|&object| object < end).collect();
        for object in within {
            self.note(object, entry);
        }
    }

    fn note(&mut self, object: u64, entry: Below<'_>) {
        let known = self.found.of.entry(object).or_default();
        self.noted += 1;
        let is_known = |holder: &Holder| (holder.address, holder.key_address) == (entry.address, entry.key_address);
        if known.len() >= MAX_HOLDERS || known.iter().any(is_known) {
            return;
        }
        let (key, identity, odd) = match self.key(entry) {
            Ok((shown, identity, odd)) => (shown, identity, odd),
            Err(error) => (format!("<{error}>"), None, None),
        };
        // The two maps inside an older sync.Map are not what the program calls it.
        let map = match entry.type_name.ends_with("]*sync.entry") {
            true => entry.map.trim_end_matches(".m").to_string(),
            false => entry.map.to_string(),
        };
        let holder = Holder {
            map,
            map_type: entry.map_type,
            type_name: entry.type_name.clone(),
            address: entry.address,
            key,
            identity,
            odd,
            key_type: entry.key,
            key_address: entry.key_address,
        };
        self.found.of.entry(object).or_default().push(holder);
    }

    /// A key as it is shown, what it is, and why lookups miss it easily.
    fn key(&self, entry: Below<'_>) -> Result<(String, Option<Key>, Option<Odd>)> {
        let ty = self.session.types.load(entry.key)?;
        let bytes = self.memory.bytes(entry.key_address, ty.size as usize)?;
        let keys = Keys::new(self.memory, &self.session.types);
        let identity = keys.identity(&ty, &bytes).ok();
        let odd = match keys.text(&ty, &bytes) {
            _ if identity.as_ref().is_some_and(Key::is_nan) => Some(Odd::Nan),
            Some(text) => is_spaced(&text).then_some(Odd::Spaced),
            None => None,
        };
        Ok((key_text(&self.context, entry.key, &bytes)?, identity, odd))
    }

    /// Whether values of this type can be, contain or lead to a channel or an object of package sync.
    fn leads(&mut self, root: TypeId) -> bool {
        if let Some(&known) = self.leads.get(&root) {
            return known;
        }
        let mut seen = FxHashSet::default();
        let mut left = vec![root];
        let mut leads = false;
        while let (Some(id), false) = (left.pop(), leads) {
            if !seen.insert(id) {
                continue;
            }
            let Ok(ty) = self.session.types.load(id) else { continue };
            match &ty.shape {
                Shape::Chan(_) | Shape::Interface { .. } => leads = true,
                Shape::Struct(_) if is_sync(&ty.name) => leads = true,
                Shape::Struct(fields) => {
                    left.extend(fields.iter().map(|field| field.ty));
                    left.extend(self.atomic_pointee(&ty.name, fields));
                }
                Shape::Pointer(Some(to)) => left.push(*to),
                Shape::Slice(elem) | Shape::Array { elem, .. } => left.push(*elem),
                Shape::Map(_) if self.everything => leads = true,
                Shape::Map(map) => left.extend([map.key, map.elem]),
                Shape::Pointer(None) | Shape::Plain | Shape::Func => {}
            }
        }
        self.leads.insert(root, leads);
        leads
    }
}
