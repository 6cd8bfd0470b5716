//! What a value needs around it to be printed: memory, types, limits, and what was learnt on the way.

use super::plan::{Direct, Plan};
use super::time::{Location, LocationOffsets};
use crate::binary::rtype::is_direct;
use crate::error::Watch;
use crate::memory::Memory;
use crate::types::{Shape, TypeId, TypeSource};
use crate::Result;
use rustc_hash::FxHashMap;
use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

/// How much of a value to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How many pointers to follow, one below the other.
    pub depth: usize,
    /// Bytes shown of a string or `[]byte`; 0 for all.
    pub string_limit: usize,
    /// Elements shown of a slice, an array or a map inside a value; 0 for all.
    pub elements_limit: usize,
    /// Values shown of what lies behind the pointers of one value; 0 for all. Pointers that are followed may meet the
    /// same things again and again, so nothing else bounds them.
    pub follow_limit: usize,
}

/// The usual [`Options::follow_limit`].
pub const FOLLOW_LIMIT: usize = 2000;

impl Default for Options {
    fn default() -> Options {
        Options { depth: 3, string_limit: 0, elements_limit: 0, follow_limit: FOLLOW_LIMIT }
    }
}

/// The surroundings of the values being printed. One per thread: it caches without locks.
pub struct Context<'a> {
    /// The target's bytes.
    pub memory: &'a dyn Memory,
    /// The target's types.
    pub types: &'a dyn TypeSource,
    /// The limits.
    pub options: Options,
    /// Asked every few thousand pieces, with `tick(0, 0)`, whether to go on.
    pub watch: &'a dyn Watch,
    plans: RefCell<FxHashMap<TypeId, Result<Arc<Plan>>>>,
    dynamics: RefCell<FxHashMap<u64, Result<Dynamic>>>,
    locations: RefCell<FxHashMap<u64, Option<Arc<Location>>>>,
    location_offsets: OnceCell<LocationOffsets>,
    channel_offsets: OnceCell<ChannelOffsets>,
    steps: Cell<u32>,
    cut: Cell<u64>,
}

/// The dynamic type of an interface value.
#[derive(Debug, Clone)]
pub(super) struct Dynamic {
    pub plan: Arc<Plan>,
    /// Whether the interface's data word is the value itself.
    pub direct: bool,
}

/// Offsets in `runtime.hchan`; the defaults are those of src/runtime/chan.go, go1.1 to 1.27.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChannelOffsets {
    pub qcount: u64,
    pub dataqsiz: u64,
}

/// Descriptors remembered; garbage interfaces must not fill our memory with errors.
const MOST_DYNAMICS: usize = 1 << 16;

impl<'a> Context<'a> {
    /// A context with empty caches.
    pub fn new(
        memory: &'a dyn Memory,
        types: &'a dyn TypeSource,
        options: Options,
        watch: &'a dyn Watch,
    ) -> Context<'a> {
        Context {
            memory,
            types,
            options,
            watch,
            plans: RefCell::default(),
            dynamics: RefCell::default(),
            locations: RefCell::default(),
            location_offsets: OnceCell::new(),
            channel_offsets: OnceCell::new(),
            steps: Cell::new(0),
            cut: Cell::new(0),
        }
    }

    /// The plan of a type, compiled on first use.
    pub fn plan(&self, id: TypeId) -> Result<Arc<Plan>> {
        if let Some(plan) = self.plans.borrow().get(&id) {
            return plan.clone();
        }
        let plan = Plan::compile(self.types, id);
        self.plans.borrow_mut().insert(id, plan.clone());
        plan
    }

    /// The type with a runtime descriptor, and how interfaces hold its values.
    pub(super) fn dynamic(&self, descriptor: u64) -> Result<Dynamic> {
        if let Some(dynamic) = self.dynamics.borrow().get(&descriptor) {
            return dynamic.clone();
        }
        let dynamic = self.find_dynamic(descriptor);
        let mut dynamics = self.dynamics.borrow_mut();
        if dynamics.len() >= MOST_DYNAMICS {
            dynamics.clear();
        }
        dynamics.insert(descriptor, dynamic.clone());
        dynamic
    }

    fn find_dynamic(&self, descriptor: u64) -> Result<Dynamic> {
        let mut plan = self.plan(self.types.by_descriptor(descriptor)?)?;
        // Predeclared types have names of their own.
        if plan.name().contains('.') {
            if let Some(name) = self.types.distinct_name(plan.ty()) {
                plan = plan.renamed(self.types, &name)?;
            }
        }
        let direct = match plan.direct {
            Direct::Yes => true,
            Direct::No => false,
            Direct::AskDescriptor => is_direct(self.memory, descriptor)?,
        };
        Ok(Dynamic { plan, direct })
    }

    /// The `time.Location` at an address, read once; `None` when it cannot be read.
    pub(super) fn location(&self, address: u64) -> Option<Arc<Location>> {
        if let Some(location) = self.locations.borrow().get(&address) {
            return location.clone();
        }
        let offsets = self.location_offsets.get_or_init(|| LocationOffsets::of(self.types));
        let location = Location::read(self.memory, offsets, address).ok().map(Arc::new);
        let mut locations = self.locations.borrow_mut();
        if locations.len() >= MOST_DYNAMICS {
            locations.clear();
        }
        locations.insert(address, location.clone());
        location
    }

    pub(super) fn channel_offsets(&self) -> ChannelOffsets {
        *self.channel_offsets.get_or_init(|| {
            let ty = self.types.by_name("runtime.hchan").ok().flatten().and_then(|id| self.types.load(id).ok());
            let offset = |name: &str, usual: u64| match ty.as_deref().map(|ty| &ty.shape) {
                Some(Shape::Struct(fields)) => {
                    fields.iter().find(|field| &*field.name == name).map_or(usual, |field| field.offset)
                }
                _ => usual,
            };
            ChannelOffsets { qcount: offset("qcount", 0), dataqsiz: offset("dataqsiz", 8) }
        })
    }

    /// How many values so far were more than [`Options::follow_limit`] shows.
    pub fn cut(&self) -> u64 {
        self.cut.get()
    }

    pub(super) fn add_cut(&self) {
        self.cut.set(self.cut.get() + 1);
    }

    /// Counts one piece of work and asks now and then whether to go on.
    pub(super) fn step(&self) -> Result<()> {
        let steps = self.steps.get().wrapping_add(1);
        self.steps.set(steps);
        if steps.is_multiple_of(4096) {
            self.watch.tick(0, 0)?;
        }
        Ok(())
    }
}
