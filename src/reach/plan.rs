//! How to get from values of a type to maps: its places that lead on, flattened through structs and arrays, so that a
//! visit of a value reads only those words.

use crate::binary::rtype;
use crate::map::{sync, Parts};
use crate::memory::Memory;
use crate::types::{atomic_pointee, GoType, ProgramTypes, Shape, TypeId, TypeSource};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// Number of a plan.
pub type PlanId = u32;

/// Values nested in each other (not behind pointers) deeper than this are garbage.
const MAX_NEST: usize = 64;
/// Elements of an array inside a value that get leads of their own.
const UNROLLED: u64 = 16;

/// How a step through a pointer of no type is written.
pub const UNTYPED_STEP: &str = "→…";

/// What a word, or the words behind it, are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A map: pointer to its header.
    Map(PlanId),
    /// A `sync.Map`, in place.
    SyncMap(PlanId),
    /// A pointer to a value.
    Pointer(PlanId),
    /// A slice.
    Slice(PlanId),
    /// A channel of these.
    Chan(PlanId),
    /// An interface, with or without methods.
    Interface(bool),
    /// So many values in place.
    Array(PlanId, u32),
    /// A pointer to nobody knows what: `unsafe.Pointer`, a closure.
    Untyped,
}

/// A place in a value that leads on.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// Offset in bytes.
    pub offset: u32,
    pub what: What,
    /// Number of its [`Lead`].
    pub lead: u32,
}

/// How a way is written in an owner path.
#[derive(Debug, Clone)]
pub struct Lead {
    /// `.field`, `[3]`, `.field<-`; the name of a root.
    pub text: Box<str>,
    pub kind: LeadKind,
}

/// What a lead starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeadKind {
    /// Nothing: a variable, a stack.
    Root,
    /// Words of variables without names: each is known by its address.
    Words,
    /// A value.
    Field,
    /// The elem of a map's entry whose key is of this type.
    Entry(TypeId),
    /// The key of this type itself.
    Key(TypeId),
}

/// A type's places that lead on.
pub struct Plan {
    pub ty: Arc<GoType>,
    /// Of a value that is no map.
    pub ways: Box<[Way]>,
    /// Of a map.
    pub map: Option<MapPlan>,
}

/// A map type's parts and their places that lead on.
pub struct MapPlan {
    /// Nothing for a `sync.Map`.
    pub parts: Option<Parts>,
    pub keys: Box<[Way]>,
    pub elems: Box<[Way]>,
}

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wanted {
    /// A value of this type.
    Value(TypeId),
    /// A map of this type, from its header on.
    Header(TypeId),
}

/// All plans, made when they are first needed.
pub struct Plans<'s> {
    types: &'s ProgramTypes,
    ids: FxHashMap<Wanted, PlanId>,
    wanted: Vec<Wanted>,
    plans: Vec<Option<Plan>>,
    leads: Vec<Lead>,
    /// Whether values of a type can lead to a map.
    leading: FxHashMap<TypeId, bool>,
    /// By descriptor: the plan of a dynamic type that leads on, and whether interfaces hold its values directly.
    dynamics: FxHashMap<u64, Option<(PlanId, bool)>>,
}

impl<'s> Plans<'s> {
    /// The lead to what has no name where it hangs.
    pub const UNNAMED: u32 = 0;
    /// The lead to what words of variables without names lead to.
    pub const VARIABLES: u32 = 1;

    pub fn new(types: &'s ProgramTypes) -> Plans<'s> {
        let unnamed = Lead { text: "".into(), kind: LeadKind::Field };
        let variables = Lead { text: "variable at ".into(), kind: LeadKind::Words };
        Plans {
            types,
            ids: FxHashMap::default(),
            wanted: Vec::new(),
            plans: Vec::new(),
            leads: vec![unnamed, variables],
            leading: FxHashMap::default(),
            dynamics: FxHashMap::default(),
        }
    }

    /// The lead with this number.
    pub fn lead(&self, number: u32) -> &Lead {
        &self.leads[number as usize]
    }

    /// The number of a new lead.
    pub fn add_lead(&mut self, text: impl Into<Box<str>>, kind: LeadKind) -> u32 {
        self.leads.push(Lead { text: text.into(), kind });
        (self.leads.len() - 1) as u32
    }

    /// The number of the plan of a type's values; it can be read after [`Plans::make`].
    pub fn id(&mut self, ty: TypeId) -> PlanId {
        self.id_of(Wanted::Value(ty))
    }

    /// The number of the plan of maps of a type, from their header on.
    pub fn header(&mut self, ty: TypeId) -> PlanId {
        self.id_of(Wanted::Header(ty))
    }

    fn id_of(&mut self, wanted: Wanted) -> PlanId {
        if let Some(&known) = self.ids.get(&wanted) {
            return known;
        }
        let id = self.wanted.len() as PlanId;
        self.ids.insert(wanted, id);
        self.wanted.push(wanted);
        self.plans.push(None);
        id
    }

    /// Makes a plan, if it was not made yet; returns whether there is one.
    pub fn make(&mut self, id: PlanId) -> bool {
        if self.plans.get(id as usize).is_some_and(|plan| plan.is_none()) {
            let plan = self.compile(self.wanted[id as usize]);
            self.plans[id as usize] = plan;
        }
        self.get(id).is_some()
    }

    /// The number of the plan of maps of a type, if it has one.
    pub fn known_header(&self, ty: TypeId) -> Option<PlanId> {
        self.ids.get(&Wanted::Header(ty)).copied()
    }

    /// A plan that was made.
    pub fn get(&self, id: PlanId) -> Option<&Plan> {
        self.plans.get(id as usize)?.as_ref()
    }

    /// The plan of values of the type with this descriptor; `None` when they lead nowhere or it is none.
    pub fn dynamic(&mut self, memory: &dyn Memory, descriptor: u64) -> Option<(PlanId, bool)> {
        if let Some(&known) = self.dynamics.get(&descriptor) {
            return known;
        }
        let found = self.types.by_descriptor(descriptor).ok().filter(|&ty| self.leads(ty)).map(|ty| {
            let direct = rtype::is_direct(memory, descriptor).unwrap_or(false);
            (self.id(ty), direct)
        });
        self.dynamics.insert(descriptor, found);
        found
    }

    /// The same, if it was asked for before: the outer `None` is that it was not.
    pub fn known_dynamic(&self, descriptor: u64) -> Option<Option<(PlanId, bool)>> {
        self.dynamics.get(&descriptor).copied()
    }

    /// Whether a value of this type can lead to a map: whether any type that it is made of, or points to, is one, or
    /// can be anything.
    pub fn leads(&mut self, id: TypeId) -> bool {
        if let Some(&known) = self.leading.get(&id) {
            return known;
        }
        let (mut queue, mut seen) = (vec![id], FxHashSet::default());
        let mut leads = false;
        while let Some(next) = queue.pop().filter(|_| !leads) {
            if !seen.insert(next) || self.leading.get(&next) == Some(&false) {
                continue;
            }
            let Ok(ty) = self.types.load(next) else { continue };
            match &ty.shape {
                _ if self.leading.get(&next) == Some(&true) => leads = true,
                Shape::Map(_) | Shape::Interface { .. } => leads = true,
                _ if ty.is_sync_map() => leads = true,
                Shape::Pointer(Some(elem)) | Shape::Slice(elem) | Shape::Chan(elem) => queue.push(*elem),
                Shape::Array { elem, .. } => queue.push(*elem),
                Shape::Struct(fields) => {
                    let untyped = has_untyped(&ty);
                    let inner = fields.iter().map(|field| field.ty);
                    queue.extend(inner.filter(|&field| untyped || !self.is_untyped(field)));
                    queue.extend(atomic_pointee(self.types, &ty).map(|(_, pointee)| pointee));
                }
                _ if is_untyped(&ty) => leads = true,
                _ => {}
            }
        }
        if !leads {
            // None of them does, then.
            self.leading.extend(seen.into_iter().map(|id| (id, false)));
        }
        self.leading.insert(id, leads);
        leads
    }

    fn is_untyped(&self, id: TypeId) -> bool {
        self.types.load(id).is_ok_and(|ty| is_untyped(&ty))
    }

    fn compile(&mut self, wanted: Wanted) -> Option<Plan> {
        let (Wanted::Value(id) | Wanted::Header(id)) = wanted;
        let ty = self.types.load(id).ok()?;
        let mut ways = Vec::new();
        if let Wanted::Value(_) = wanted {
            self.flatten(&ty, 0, "", LeadKind::Field, MAX_NEST, true, &mut ways);
            return Some(Plan { ty, ways: ways.into_boxed_slice(), map: None });
        }
        let (parts, key, elem) = match &ty.shape {
            Shape::Map(map) => (Some(Parts::of(self.types, &ty).ok()?), map.key, map.elem),
            _ if ty.is_sync_map() => {
                // Its inner maps are not maps of their own.
                sync::inner_type(&ty).map(|inner| self.header(inner));
                (None, sync::ANY_TYPE, sync::ANY_TYPE)
            }
            _ => return None,
        };
        let mut ways_of = |part: TypeId, kind: LeadKind| {
            let mut ways = Vec::new();
            if let Ok(part) = self.types.load(part) {
                self.flatten(&part, 0, "", kind, MAX_NEST, true, &mut ways);
            }
            ways.into_boxed_slice()
        };
        let map =
            Some(MapPlan { parts, keys: ways_of(key, LeadKind::Key(key)), elems: ways_of(elem, LeadKind::Entry(key)) });
        Some(Plan { ty, ways: Box::default(), map })
    }

    #[allow(clippy::too_many_arguments)]
    fn flatten(
        &mut self,
        ty: &GoType,
        offset: u64,
        text: &str,
        kind: LeadKind,
        nest: usize,
        untyped: bool,
        ways: &mut Vec<Way>,
    ) {
        let (Some(nest), true) = (nest.checked_sub(1), self.leads(ty.id)) else { return };
        let what = match &ty.shape {
            Shape::Map(_) => What::Map(self.header(ty.id)),
            _ if ty.is_sync_map() => What::SyncMap(self.header(ty.id)),
            Shape::Pointer(Some(elem)) if self.leads(*elem) => What::Pointer(self.id(*elem)),
            Shape::Slice(elem) if self.leads(*elem) => What::Slice(self.id(*elem)),
            Shape::Chan(elem) if self.leads(*elem) => What::Chan(self.id(*elem)),
            Shape::Interface { methods } => What::Interface(*methods),
            Shape::Struct(fields) => {
                let pointee = atomic_pointee(self.types, ty).filter(|&(_, pointee)| self.leads(pointee));
                let untyped = has_untyped(ty) && pointee.is_none();
                for field in fields {
                    let Ok(inner) = self.types.load(field.ty) else { continue };
                    let text = format!("{text}.{}", field.name);
                    let at = offset.saturating_add(field.offset);
                    self.flatten(&inner, at, &text, kind, nest, untyped, ways);
                }
                let Some((at, pointee)) = pointee else { return };
                let lead = self.add_lead(text, kind);
                let what = What::Pointer(self.id(pointee));
                ways.extend(way(offset.saturating_add(at), what, lead));
                return;
            }
            &Shape::Array { elem, len } if len <= UNROLLED => {
                let Ok(inner) = self.types.load(elem) else { return };
                for index in 0..len {
                    let at = offset.saturating_add(index.saturating_mul(inner.size));
                    self.flatten(&inner, at, &format!("{text}[{index}]"), kind, nest, untyped, ways);
                }
                return;
            }
            &Shape::Array { elem, len } => match u32::try_from(len) {
                Ok(len) if self.leads(elem) => What::Array(self.id(elem), len),
                _ => return,
            },
            _ if untyped && is_untyped(ty) => What::Untyped,
            _ => return,
        };
        let text = match what {
            What::Chan(_) => format!("{text}<-"),
            What::Untyped => format!("{text}{UNTYPED_STEP}"),
            _ => text.to_string(),
        };
        let lead = self.add_lead(text, kind);
        ways.extend(way(offset, what, lead));
    }
}

fn way(offset: u64, what: What, lead: u32) -> Option<Way> {
    Some(Way { offset: u32::try_from(offset).ok()?, what, lead })
}

fn is_untyped(ty: &GoType) -> bool {
    matches!(ty.shape, Shape::Func) || ty.kind == crate::types::Kind::UnsafePointer
}

/// Whether untyped pointers of a struct are followed: those of the runtime's own structs lead all over its
/// bookkeeping, but for the deferred calls and the values that a waiting goroutine has in hand.
fn has_untyped(ty: &GoType) -> bool {
    !ty.name.starts_with("runtime.") || matches!(&*ty.name, "runtime._defer" | "runtime.sudog")
}
