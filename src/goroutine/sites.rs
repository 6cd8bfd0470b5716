//! The map operation before a wait: which call in the waiting function or a caller, on which map, with which key; from
//! machine code (amd64), and the index expression from the source where that is on this machine.

use super::code::{Code, Line};
use super::flow::Found;
use super::operand::{same_slots, Analyses, Call, Id, Value, Values, ARGUMENTS};
use super::{Frame, Goroutine};
use crate::error::Watch;
use crate::probe::functions::{operands, KeyPlace, Operands, Operation};
use crate::score::Reach;
use crate::session::{MapRef, Session};
use crate::types::{Shape, TypeId, TypeSource};
use crate::Result;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a map operation does to the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Lookup,
    Store,
    /// Gives what is stored, else stores.
    LookupOrStore,
    Delete,
    Iterate,
    Clear,
}

impl Kind {
    fn of(operation: Operation) -> Kind {
        use Operation::*;
        match operation {
            Access1 | Access2 | Load => Kind::Lookup,
            Assign | Store | Swap | CompareAndSwap => Kind::Store,
            LoadOrStore => Kind::LookupOrStore,
            Delete | SyncDelete | LoadAndDelete | CompareAndDelete => Kind::Delete,
            Iterate | Range => Kind::Iterate,
            Clear | SyncClear => Kind::Clear,
        }
    }

    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lookup => "lookup",
            Kind::Store => "store",
            Kind::LookupOrStore => "lookup_or_store",
            Kind::Delete => "delete",
            Kind::Iterate => "iterate",
            Kind::Clear => "clear",
        }
    }

    /// What was done with a key, for people.
    pub fn verb(self) -> &'static str {
        match self {
            Kind::Lookup | Kind::Iterate | Kind::Clear => "looked up",
            Kind::Store => "stored under",
            Kind::LookupOrStore => "looked up, or stored under,",
            Kind::Delete => "deleted",
        }
    }

    /// Whether it asks what is stored under a key, so that it can miss.
    pub fn asks(self) -> bool {
        matches!(self, Kind::Lookup | Kind::LookupOrStore)
    }
}

/// A map operation before the wait, in the waiting function or a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Address of the call instruction.
    pub pc: u64,
    /// The runtime function called, e.g. `runtime.mapaccess1_faststr`.
    pub call: String,
    /// Where that is in the source.
    pub line: Option<Line>,
    /// The map type given to it, where the machine code says so.
    pub map_type: Option<Arc<str>>,
    /// The map as an expression over package variables, e.g. `main.reg.m`.
    pub map: Option<String>,
    /// Where the variable is that the code names as the map.
    pub variable: Option<u64>,
    /// The key as the source spells it.
    pub key_expr: Option<String>,
    pub kind: Kind,
    pub reach: Reach,
    /// Number of its frame in the goroutine's stack; `None` when its function has returned.
    pub frame: Option<usize>,
    /// The function that it is in, as [`Context::key`] has it.
    within: Vec<u64>,
}

/// A function, as it ran or runs for a goroutine.
pub(super) struct Context {
    pub values: Arc<Values>,
    /// The call that it is in; `None` when it has returned.
    pub call: Option<Call>,
    pub place: Place,
    /// The number of its frame, or [`CREATOR`]; then the calls that led to it and have returned.
    pub key: Vec<u64>,
}

/// Where a function ran.
pub(super) enum Place {
    /// In this frame of the goroutine's stack.
    Frame(usize),
    /// It was called from this context's function, at this address, and has returned.
    Returned(Arc<Context>, u64),
    /// It has the `go` statement that started the goroutine.
    Creator,
}

/// What the key of a context begins with when it is that of the `go` statement.
const CREATOR: u64 = u64::MAX;
/// Functions that have returned, one called by the other.
const MAX_RETURNED: usize = 3;

/// Where a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A constant in the code.
    Code,
    /// A stack slot that nothing wrote to since.
    Slot,
    /// Memory behind a pointer, as it is now.
    Memory,
    /// A variable, as it is now.
    Dwarf,
}

impl Source {
    /// The name in the JSON record.
    pub fn name(self) -> &'static str {
        match self {
            Source::Code => "constant",
            Source::Slot => "spill_slot",
            Source::Memory => "memory",
            Source::Dwarf => "dwarf",
        }
    }
}

/// What is left of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// All its bytes.
    Whole(Vec<u8>, Source),
    /// A string's data pointer; its length was in a register.
    Pointer(u64, Source),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

/// User frames whose code is searched for map operations.
const SITE_FRAMES: usize = 4;
/// Steps from value to value.
const FUEL: usize = 64;
/// Longest source file read, and most of them.
const MAX_SOURCE: u64 = 8 << 20;
const MAX_SOURCES: usize = 64;

/// Finds sites and keys; remembers code and sources.
pub struct Sites<'s> {
    session: &'s Session,
    pub code: Code<'s>,
    analyses: Analyses,
    sources: FxHashMap<Arc<str>, Option<Arc<str>>>,
    variables: Option<Vec<(u64, u64, String, TypeId)>>,
    /// Entry and size of the functions that may look up by interface keys.
    callers: Option<Option<Callers>>,
}

/// Entry and size of functions.
type Callers = Arc<[(u64, u64)]>;
/// The type of a lookup's interface key, where the code says so, and where the lookup is.
pub type KeyAsked = (Option<TypeId>, Line);

/// How the names of functions begin that look up.
const LOOKUPS: [&str; 3] = ["runtime.map", "sync.(*Map).", "internal/sync.(*HashTrieMap["];
/// The opcode of a call with a relative target (amd64).
const CALL: u8 = 0xe8;
/// Bytes of code looked through at most, and at once; functions analysed.
const MAX_TEXT: u64 = 1 << 30;
const TEXT_BLOCK: u64 = 1 << 20;
const MAX_CALLERS: usize = 1 << 18;

impl<'s> Sites<'s> {
    pub fn new(session: &'s Session, code: Code<'s>) -> Sites<'s> {
        Sites {
            session,
            code,
            analyses: Analyses::default(),
            sources: FxHashMap::default(),
            variables: None,
            callers: None,
        }
    }

    /// The map operations before the wait, the one closest to it first.
    pub fn of(&mut self, goroutine: &Goroutine) -> Vec<Site> {
        if self.session.types.program().is_arm() {
            return Vec::new();
        }
        let is_users = |frame: &Frame| {
            !["runtime.", "sync.", "internal/"].iter().any(|start| frame.info.func().starts_with(start))
        };
        let frames = goroutine.stack.frames.iter().enumerate().filter(|(_, frame)| is_users(frame));
        let mut found = Vec::new();
        for (depth, (index, frame)) in frames.take(SITE_FRAMES).enumerate() {
            let waited_on = (depth == 0).then(|| self.waited_on(goroutine, index, frame)).flatten();
            let followed = waited_on.or_else(|| self.decided_by(goroutine, index));
            let reach = if depth == 0 { Reach::SameFunction } else { Reach::Caller };
            let one = followed.or_else(|| self.before(goroutine, index, reach));
            found.extend(one.and_then(|one| self.site(one)));
        }
        found.sort_by_key(|site| std::cmp::Reverse(site.reach));
        found
    }

    /// The last map operation of a frame's function from which a way leads to the call that it is in.
    fn before(&mut self, goroutine: &Goroutine, index: usize, reach: Reach) -> Option<Found> {
        let context = self.frame_context(goroutine, index)?;
        let (values, wait) = (context.values.clone(), context.call.clone()?);
        let leading = values.calls.values().filter(|call| values.leads(call.at, wait.at));
        let operations: Vec<u64> = leading.filter(|call| self.operation(call).is_some()).map(|call| call.at).collect();
        // The condition of a loop may lie behind its body.
        let at = *operations.iter().rfind(|&&at| at < wait.at).or(operations.first())?;
        Some(Found { context, at, reach })
    }

    fn site(&mut self, found: Found) -> Option<Site> {
        let (values, call) = (found.context.values.clone(), found.context.values.calls.get(&found.at)?.clone());
        let (_, name, at) = self.operation(&call)?;
        let lines = self.code.at(call.at, false);
        let lines = lines.as_ref().map_or(&[][..], |info| &info.lines);
        // Methods of sync.Map are inlined: the call that the program's own source has is the outermost of them.
        let is_sync = |line: &&Line| ["sync.", "internal/sync."].iter().any(|start| line.func.starts_with(start));
        let line = lines.iter().find(|line| !is_sync(line)).cloned();
        let inlined = lines.iter().take_while(is_sync).last().and_then(|line| line.func.strip_prefix("sync.(*Map)."));
        let map = call.state.registers[ARGUMENTS[at.map as usize]];
        let map = self.describe(&found.context, map, at.map_type.is_none());
        let key_expr = line.as_ref().and_then(|line| self.key_expression(line, map.as_deref(), inlined.or(at.method)));
        let map_type = self.map_type(&values, &call, &at).and_then(|ty| self.session.types.load(ty).ok());
        let operation = inlined.and_then(|method| Operation::of_inlined(&format!("sync.(*Map).{method}")));
        Some(Site {
            pc: call.at,
            call: name,
            line,
            map_type: map_type.map(|ty| ty.name.clone()),
            map,
            variable: variable_of(&values, &call, &at),
            key_expr,
            kind: Kind::of(operation.unwrap_or(at.operation)),
            reach: found.reach,
            frame: match found.context.place {
                Place::Frame(index) => Some(index),
                _ => None,
            },
            within: found.context.key.clone(),
        })
    }

    /// The function of a frame.
    pub(super) fn frame_context(&mut self, goroutine: &Goroutine, index: usize) -> Option<Arc<Context>> {
        let frame = goroutine.stack.frames.get(index)?;
        let (values, call) = self.wait_of(frame)?;
        let (call, place, key) = (Some(call), Place::Frame(index), vec![index as u64]);
        Some(Arc::new(Context { values, call, place, key }))
    }

    /// Whether a context is the goroutine's first function.
    pub(super) fn starts(&self, goroutine: &Goroutine, context: &Context) -> bool {
        let Place::Frame(index) = context.place else { return false };
        goroutine.stack.frames.get(index + 1).is_some_and(|outer| outer.info.func() == "runtime.goexit")
    }

    /// The function with the `go` statement that started the goroutine, where a context is its first.
    pub(super) fn creator(&mut self, goroutine: &Goroutine, context: &Context) -> Option<Arc<Context>> {
        self.starts(goroutine, context).then(|| self.created(goroutine)).flatten()
    }

    fn created(&mut self, goroutine: &Goroutine) -> Option<Arc<Context>> {
        let after = goroutine.created_pc.filter(|&pc| pc != 0)?;
        let entry = self.code.at(after, true)?.entry;
        let values = self.values_of(entry)?;
        let call = values.calls.range(..after).next_back()?.1.clone();
        // `newproc(fn *funcval)` (src/runtime/proc.go, go1.19 to 1.27).
        let made = self.code.at(call.target?, false).is_some_and(|info| info.func() == "runtime.newproc");
        let (call, place) = (Some(call), Place::Creator);
        made.then(|| Arc::new(Context { values, call, place, key: vec![CREATOR] }))
    }

    /// The program's own function that a context's called and that has returned.
    pub(super) fn returned(&mut self, caller: &Arc<Context>, call: &Call) -> Option<Arc<Context>> {
        let target = call.target?;
        let info = self.code.at(target, false).filter(|info| info.entry == target)?;
        let library = ["runtime.", "sync.", "internal/"].iter().any(|start| info.func().starts_with(start));
        if library || caller.key.len() > MAX_RETURNED {
            return None;
        }
        let values = self.values_of(target)?;
        let key = [&caller.key[..], &[call.at]].concat();
        Some(Arc::new(Context { values, call: None, place: Place::Returned(caller.clone(), call.at), key }))
    }

    /// The values of the function at `entry`.
    pub(super) fn values_of(&mut self, entry: u64) -> Option<Arc<Values>> {
        self.analyses.of(self.session, &mut self.code, entry)
    }

    pub(super) fn session(&self) -> &'s Session {
        self.session
    }

    /// The function that a site is in.
    fn context_of(&mut self, goroutine: &Goroutine, site: &Site) -> Option<Arc<Context>> {
        let (&first, calls) = site.within.split_first()?;
        let mut context = match first {
            CREATOR => self.created(goroutine)?,
            index => self.frame_context(goroutine, usize::try_from(index).ok()?)?,
        };
        for at in calls {
            let call = context.values.calls.get(at)?.clone();
            context = self.returned(&context, &call)?;
        }
        Some(context)
    }

    /// The map that a site worked on, in this goroutine, where its address is still known.
    pub fn map(&mut self, goroutine: &Goroutine, site: &Site) -> Option<MapRef> {
        let (context, call, at) = self.at(goroutine, site)?;
        let ty = self.map_type(&context.values, &call, &at)?;
        let map = call.state.registers[ARGUMENTS[at.map as usize]];
        let (address, _) = self.resolve(goroutine, &context, map, FUEL)?;
        (address != 0).then_some(MapRef { address, ty })
    }

    /// What is left of the key that a site used, a value of `size` bytes.
    pub fn key(&mut self, goroutine: &Goroutine, site: &Site, size: usize) -> Left {
        const GONE: Left = Left::Nothing("it was only in registers, which are lost when a goroutine parks");
        let Some((context, call, at)) = self.at(goroutine, site) else { return GONE };
        let argument = |n: u8| ARGUMENTS.get(n as usize).map(|&register| call.state.registers[register]);
        let word = |sites: &mut Sites<'s>, n: u8| sites.resolve(goroutine, &context, argument(n)?, FUEL);
        let joined = |a: u64, b: u64| [a.to_le_bytes(), b.to_le_bytes()].concat();
        match at.key {
            KeyPlace::None => Left::Nothing("the operation takes no key"),
            KeyPlace::Value32(n) | KeyPlace::Value64(n) => match word(self, n) {
                Some((value, source)) if size <= 8 => Left::Whole(value.to_le_bytes()[..size].to_vec(), source),
                _ => GONE,
            },
            KeyPlace::String(n) => match (word(self, n), word(self, n + 1)) {
                (Some((data, a)), Some((len, b))) => Left::Whole(joined(data, len), a.max(b)),
                (Some((data, source)), None) => Left::Pointer(data, source),
                _ => GONE,
            },
            KeyPlace::Interface(n) => match (word(self, n), word(self, n + 1)) {
                (Some((ty, a)), Some((data, b))) => Left::Whole(joined(ty, data), a.max(b)),
                _ => GONE,
            },
            KeyPlace::Pointer(n) => self.key_behind(goroutine, &context, &call, argument(n), size),
        }
    }

    /// A key given by address: in a slot of the frame that nothing wrote to since, or elsewhere.
    fn key_behind(
        &mut self,
        goroutine: &Goroutine,
        context: &Arc<Context>,
        call: &Call,
        pointer: Option<Id>,
        size: usize,
    ) -> Left {
        const CHANGED: Left = Left::Nothing("its place on the stack was written to since");
        let Some(pointer) = pointer else { return CHANGED };
        let memory = &self.session.memory;
        if let Value::Slot(offset) = *context.values.value(pointer) {
            let (Place::Frame(index), Some(wait)) = (&context.place, &context.call) else {
                return self.key_in_slots(goroutine, context, call, offset, size);
            };
            let Some(frame) = goroutine.stack.frames.get(*index) else { return CHANGED };
            if !same_slots(&call.state, &wait.state, offset, size as i64) {
                return CHANGED;
            }
            return match memory.bytes(frame.sp.wrapping_add_signed(offset), size) {
                Ok(bytes) => Left::Whole(bytes.into_owned(), Source::Slot),
                Err(_) => Left::Nothing("its memory cannot be read"),
            };
        }
        let Some((address, _)) = self.resolve(goroutine, context, pointer, FUEL) else {
            return Left::Nothing("its address was only in registers");
        };
        match memory.bytes(address, size) {
            Ok(bytes) => Left::Whole(bytes.into_owned(), Source::Memory),
            Err(_) => Left::Nothing("its memory cannot be read"),
        }
    }

    /// A key that lay on the stack of a function that has returned, word by word out of what was put there.
    fn key_in_slots(
        &mut self,
        goroutine: &Goroutine,
        context: &Arc<Context>,
        call: &Call,
        offset: i64,
        size: usize,
    ) -> Left {
        const RETURNED: Left = Left::Nothing("it was on the stack of a function that has returned");
        let (mut bytes, mut from) = (Vec::with_capacity(size), Source::Code);
        while bytes.len() < size {
            let held = call.state.slot(offset + bytes.len() as i64);
            let Some((word, source)) = held.and_then(|id| self.resolve(goroutine, context, id, FUEL)) else {
                return RETURNED;
            };
            bytes.extend(word.to_le_bytes());
            from = from.max(source);
        }
        bytes.truncate(size);
        Left::Whole(bytes, from)
    }

    /// Every lookup in the program's own code of the map at `variable` whose keys are interface values: the type of its
    /// key, where the code says so, and where it is. `None` when there is more code than is looked at.
    pub fn lookups_of(&mut self, variable: u64, watch: &dyn Watch) -> Result<Option<Vec<KeyAsked>>> {
        let session = self.session;
        if self.callers.is_none() {
            self.callers = Some(self.lookup_callers(watch)?);
        }
        let Some(Some(callers)) = self.callers.clone() else { return Ok(None) };
        let mut found = Vec::new();
        for &(entry, size) in callers.iter() {
            watch.tick(0, 0)?;
            let code = session.memory.bytes(entry, size as usize).unwrap_or_default();
            // An operand is given by its distance from the end of its instruction.
            let names = |(i, by): (usize, &[u8])| {
                let by = by.try_into().map_or(0, i32::from_le_bytes);
                entry.wrapping_add(i as u64 + 4).wrapping_add_signed(by.into()) == variable
            };
            if !code.windows(4).enumerate().any(names) {
                continue;
            }
            // What cannot be analysed may be a lookup.
            let Some(values) = self.analyses.of(session, &mut self.code, entry) else { return Ok(None) };
            for call in values.calls.values() {
                let Some((call, _, at)) = self.operation(call).filter(|(_, _, at)| looks_up(at)) else { continue };
                if variable_of(&values, call, &at) != Some(variable) {
                    continue;
                }
                let Some(info) = self.code.at(call.at, false) else { continue };
                let own = |line: &&Line| !line.func.starts_with("sync.") && !line.func.starts_with("internal/sync.");
                let Some(line) = info.lines.iter().find(own).cloned() else { continue };
                let ty = type_word(&values, call, &at).and_then(|at| session.types.by_descriptor(at).ok());
                found.push((ty, line));
            }
        }
        Ok(Some(found))
    }

    /// Entry and size of each of the program's own functions that may look up a map by interface keys.
    fn lookup_callers(&mut self, watch: &dyn Watch) -> Result<Option<Callers>> {
        let session = self.session;
        let mut callers: BTreeMap<u64, u64> = BTreeMap::new();
        for module in session.types.modules() {
            let named = |name: &str| LOOKUPS.iter().any(|start| name.starts_with(start));
            let by_interface =
                |at: Operands| looks_up(&at) && matches!(at.key, KeyPlace::Interface(_) | KeyPlace::Pointer(_));
            let is_lookup = |name: &str| named(name) && operands(name).is_some_and(by_interface);
            let targets: FxHashSet<u64> =
                module.functions.functions().filter(|f| is_lookup(&f.name())).map(|f| f.entry).collect();
            let (mut at, end) = (module.data.text.start, module.data.text.end);
            if end.saturating_sub(at) > MAX_TEXT {
                return Ok(None);
            }
            while at < end && !targets.is_empty() {
                watch.tick(0, 0)?;
                // Blocks overlap by an instruction.
                let size = (end - at).min(TEXT_BLOCK + 5);
                let bytes = session.memory.bytes(at, size as usize).unwrap_or_default();
                for i in memchr::memchr_iter(CALL, &bytes) {
                    let Some(by) = bytes.get(i + 1..i + 5).and_then(|by| by.try_into().ok()) else { continue };
                    let next = at.wrapping_add(i as u64 + 5);
                    if targets.contains(&next.wrapping_add_signed(i32::from_le_bytes(by).into())) {
                        let function = module.functions.function_at(next - 5);
                        callers.extend(function.map(|function| (function.entry, function.size())));
                    }
                }
                at += size.min(TEXT_BLOCK);
            }
        }
        callers.retain(|&entry, _| {
            let info = self.code.at(entry, false);
            let library = |func: &str| ["runtime.", "sync.", "internal/"].iter().any(|start| func.starts_with(start));
            info.is_some_and(|info| !library(info.func()))
        });
        Ok((callers.len() <= MAX_CALLERS).then(|| callers.into_iter().collect()))
    }

    fn at(&mut self, goroutine: &Goroutine, site: &Site) -> Option<(Arc<Context>, Call, Operands)> {
        let context = self.context_of(goroutine, site)?;
        let call = context.values.calls.get(&site.pc)?.clone();
        let (_, _, at) = self.operation(&call)?;
        Some((context, call, at))
    }

    /// The values of a frame's function, and the call that the frame is in.
    fn wait_of(&mut self, frame: &Frame) -> Option<(Arc<Values>, Call)> {
        let values = self.analyses.of(self.session, &mut self.code, frame.info.entry)?;
        let call = values.calls.range(..frame.pc).next_back()?.1.clone();
        Some((values, call))
    }

    pub(super) fn operation<'c>(&mut self, call: &'c Call) -> Option<(&'c Call, String, Operands)> {
        let info = self.code.at(call.target?, false).filter(|info| Some(info.entry) == call.target)?;
        let at = operands(info.func())?;
        Some((call, info.func().to_string(), at))
    }

    fn map_type(&self, values: &Values, call: &Call, at: &Operands) -> Option<TypeId> {
        let types = &self.session.types;
        let Some(argument) = at.map_type else { return types.by_name("sync.Map").ok().flatten() };
        let Value::Constant(descriptor) = values.value(call.state.registers[ARGUMENTS[argument as usize]]) else {
            return None;
        };
        let ty = types.load(types.by_descriptor(*descriptor).ok()?).ok()?;
        matches!(ty.shape, Shape::Map(_)).then_some(ty.id)
    }

    /// The number that a value of a function is, where that can still be known.
    fn resolve(&mut self, goroutine: &Goroutine, context: &Arc<Context>, id: Id, fuel: usize) -> Option<(u64, Source)> {
        let fuel = fuel.checked_sub(1)?;
        let values = &context.values;
        let memory = &self.session.memory;
        if let Value::Constant(constant) = values.value(id) {
            return Some((*constant, Source::Code));
        }
        let frame = match context.place {
            Place::Frame(index) => goroutine.stack.frames.get(index),
            _ => None,
        };
        if let (Some(frame), Some(wait)) = (frame, &context.call) {
            let slot = |offset: i64| frame.sp.wrapping_add_signed(offset);
            if let Value::Slot(offset) = values.value(id) {
                return Some((slot(*offset), Source::Slot));
            }
            // A slot that holds this value still.
            if let Some((&offset, &(size, _))) =
                wait.state.slots.iter().find(|(_, &(size, held))| held == id && matches!(size, 4 | 8))
            {
                let word = if size == 8 { memory.u64(slot(offset)) } else { memory.u32(slot(offset)).map(u64::from) };
                return Some((word.ok()?, Source::Slot));
            }
            if let Value::Initial(offset) = *values.value(id) {
                let same = same_as_entry(wait, values, offset);
                return same.then(|| Some((memory.u64(slot(offset)).ok()?, Source::Slot))).flatten();
            }
        }
        match values.value(id).clone() {
            Value::Sum(base, by) => {
                let (base, source) = self.resolve(goroutine, context, base, fuel)?;
                Some((base.wrapping_add_signed(by), source))
            }
            Value::Low(inner, size) => {
                let (inner, source) = self.resolve(goroutine, context, inner, fuel)?;
                Some((inner & lowest(size), source))
            }
            Value::Load { base, offset, size, .. } => {
                let (base, _) = self.resolve(goroutine, context, base, fuel)?;
                let at = base.wrapping_add_signed(offset);
                let bytes = self.session.memory.bytes(at, usize::from(size).min(8)).ok()?;
                let mut word = [0; 8];
                word[..bytes.len()].copy_from_slice(&bytes);
                Some((u64::from_le_bytes(word), Source::Memory))
            }
            // What the caller passed.
            Value::Entry(register) => {
                let (caller, call) = self.caller(goroutine, context)?;
                self.resolve(goroutine, &caller, call.state.registers[register], fuel)
            }
            _ => None,
        }
    }

    /// A map argument as an expression over package variables; the argument is the map's address for a `sync.Map`.
    fn describe(&mut self, context: &Arc<Context>, id: Id, by_address: bool) -> Option<String> {
        match by_address {
            true => self.place_at(context, id, FUEL).map(|(name, _)| name),
            false => self.expression(context, id, FUEL).map(|(name, _)| name),
        }
    }

    /// The same value in the function that called one that has returned, where it is a parameter.
    fn given(context: &Arc<Context>, id: Id) -> Option<(Arc<Context>, Id)> {
        let (Place::Returned(caller, at), Value::Entry(register)) = (&context.place, context.values.value(id)) else {
            return None;
        };
        Some((caller.clone(), caller.values.calls.get(at)?.state.registers[*register]))
    }

    /// The expression and type of a value.
    fn expression(&mut self, context: &Arc<Context>, id: Id, fuel: usize) -> Option<(String, TypeId)> {
        let fuel = fuel.checked_sub(1)?;
        if let Some((caller, id)) = Self::given(context, id) {
            return self.expression(&caller, id, fuel);
        }
        let Value::Load { base, offset, .. } = *context.values.value(id) else { return None };
        if let Value::Constant(address) = context.values.value(base) {
            return self.variable(address.wrapping_add_signed(offset));
        }
        // The address of a variable, given as a parameter.
        if let Some((caller, id)) = Self::given(context, base) {
            if let Value::Constant(address) = caller.values.value(id) {
                return self.variable(address.wrapping_add_signed(offset));
            }
        }
        let (name, ty) = self.pointee(context, base, fuel)?;
        self.field(name, ty, offset)
    }

    /// The expression and type of what is at a pointer value.
    fn place_at(&mut self, context: &Arc<Context>, id: Id, fuel: usize) -> Option<(String, TypeId)> {
        let fuel = fuel.checked_sub(1)?;
        if let Some((caller, id)) = Self::given(context, id) {
            return self.place_at(&caller, id, fuel);
        }
        match context.values.value(id).clone() {
            Value::Constant(address) => self.variable(address),
            Value::Sum(base, offset) => {
                if let Some((caller, id)) = Self::given(context, base) {
                    if let Value::Constant(address) = caller.values.value(id) {
                        return self.variable(address.wrapping_add_signed(offset));
                    }
                }
                let (name, ty) = self.pointee(context, base, fuel)?;
                self.field(name, ty, offset)
            }
            _ => None,
        }
    }

    /// What the pointer `id` points to.
    fn pointee(&mut self, context: &Arc<Context>, id: Id, fuel: usize) -> Option<(String, TypeId)> {
        let (name, ty) = self.expression(context, id, fuel)?;
        match self.session.types.load(ty).ok()?.shape {
            Shape::Pointer(Some(pointee)) => Some((name, pointee)),
            _ => None,
        }
    }

    /// The innermost field of a struct that begins at an offset and is no struct, or is `sync.Map`.
    fn field(&self, name: String, ty: TypeId, offset: i64) -> Option<(String, TypeId)> {
        let (mut name, mut ty, mut offset) = (name, ty, u64::try_from(offset).ok()?);
        for _ in 0..FUEL {
            let loaded = self.session.types.load(ty).ok()?;
            let Shape::Struct(fields) = &loaded.shape else { break };
            if loaded.is_sync_map() && offset == 0 {
                break;
            }
            let field = fields.iter().rev().find(|field| field.offset <= offset)?;
            name = format!("{name}.{}", field.name);
            (offset, ty) = (offset - field.offset, field.ty);
        }
        (offset == 0).then_some((name, ty))
    }

    /// The package variable, or field of one, at an address.
    fn variable(&mut self, address: u64) -> Option<(String, TypeId)> {
        let session = self.session;
        let variables = self.variables.get_or_insert_with(|| {
            let size = |ty| session.types.load(ty).map_or(0, |ty| ty.size);
            let all = session.types.variables().into_iter();
            let mut all: Vec<_> = all.map(|(name, at)| (at.address, size(at.ty), name, at.ty)).collect();
            all.sort_unstable();
            all
        });
        let after = variables.partition_point(|variable| variable.0 <= address);
        let (start, size, name, ty) = variables.get(after.checked_sub(1)?)?.clone();
        (address - start < size.max(1)).then(|| self.field(name, ty, (address - start) as i64)).flatten()
    }

    /// The key of the index expression, or of the method's call, on a source line.
    fn key_expression(&mut self, line: &Line, map: Option<&str>, method: Option<&str>) -> Option<String> {
        if !self.sources.contains_key(&line.file) && self.sources.len() < MAX_SOURCES {
            self.sources.insert(line.file.clone(), source(&line.file));
        }
        let text = self.sources.get(&line.file)?.clone()?;
        let text = text.lines().nth((line.line as usize).checked_sub(1)?)?;
        key_in(text, map, method)
    }
}

/// Where the variable is that a call's code names as the map.
fn variable_of(values: &Values, call: &Call, at: &Operands) -> Option<u64> {
    match (values.value(call.state.registers[ARGUMENTS[at.map as usize]]), at.map_type) {
        (Value::Constant(address), None) => Some(*address),
        (Value::Load { base, offset, .. }, Some(_)) => match values.value(*base) {
            Value::Constant(address) => Some(address.wrapping_add_signed(*offset)),
            _ => None,
        },
        _ => None,
    }
}

/// The constant type word of a key that is an interface value.
fn type_word(values: &Values, call: &Call, at: &Operands) -> Option<u64> {
    let id = match at.key {
        KeyPlace::Interface(n) => call.state.registers[*ARGUMENTS.get(n as usize)?],
        KeyPlace::Pointer(n) => match values.value(call.state.registers[*ARGUMENTS.get(n as usize)?]) {
            Value::Slot(offset) => call.state.slots.get(offset).filter(|slot| slot.0 == 8)?.1,
            _ => return None,
        },
        _ => return None,
    };
    match values.value(id) {
        Value::Constant(descriptor) => Some(*descriptor),
        _ => None,
    }
}

/// Whether an operation asks for a key that is stored.
fn looks_up(at: &Operands) -> bool {
    use Operation::*;
    matches!(
        at.operation,
        Access1
            | Access2
            | Delete
            | Load
            | SyncDelete
            | LoadOrStore
            | LoadAndDelete
            | CompareAndSwap
            | CompareAndDelete
    )
}

/// Whether a stack slot is as it was at entry.
fn same_as_entry(wait: &Call, values: &Values, offset: i64) -> bool {
    match wait.state.slots.get(&offset) {
        None => wait.state.entered && wait.state.slots.range(offset - 7..offset + 8).next().is_none(),
        Some(&(_, id)) => matches!(values.value(id), Value::Initial(at) if *at == offset),
    }
}

/// The bits of so many bytes.
fn lowest(size: u8) -> u64 {
    if size < 8 {
        !(u64::MAX << (8 * u32::from(size)))
    } else {
        u64::MAX
    }
}

fn source(path: &str) -> Option<Arc<str>> {
    let about = std::fs::metadata(path).ok()?;
    let text = (about.is_file() && about.len() <= MAX_SOURCE).then(|| crate::files::read(path.as_ref()).ok())??;
    String::from_utf8(text).ok().map(Arc::from)
}

/// The key in a line of Go: of `X[KEY]` where X ends as `map` does, else of the only such expression; of `.Method(KEY)`.
fn key_in(line: &str, map: Option<&str>, method: Option<&str>) -> Option<String> {
    let open = if method.is_some() { '(' } else { '[' };
    let mut found: Vec<(&str, &str)> = Vec::new();
    let (mut quote, mut escaped) = (None, false);
    for (at, char) in line.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(with) if char == '\\' && with != '`' => escaped = true,
            Some(with) if char == with => quote = None,
            Some(_) => {}
            None if matches!(char, '"' | '`' | '\'') => quote = Some(char),
            None if line[at..].starts_with("//") => break,
            None if char == open => {
                let before = &line[..at];
                let start =
                    before.rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'))).map_or(0, |i| i + 1);
                let name = &before[start..];
                let Some(inner) = enclosed(&line[at..]) else { continue };
                let fits = match method {
                    Some(method) => name.rsplit('.').next() == Some(method) && name.contains('.'),
                    None => {
                        let indexed = !name.is_empty() || before.ends_with([')', ']']);
                        indexed && name != "map" && !inner.is_empty() && !has_outside(inner, ':')
                    }
                };
                if fits {
                    found.push((name, inner));
                }
            }
            None => {}
        }
    }
    if method.is_none() {
        if let Some(call) = line.find("delete(") {
            let arguments = enclosed(&line[call + 6..])?;
            if let Some((name, key)) = split_outside(arguments) {
                found.push((name, key));
            }
        }
    }
    let last = |name: &str| name.trim().rsplit('.').next().unwrap_or("").to_string();
    let owner = |name: &str| {
        if method.is_some() {
            last(name.rsplit_once('.').map_or("", |(owner, _)| owner))
        } else {
            last(name)
        }
    };
    let named = map.and_then(|map| found.iter().find(|(name, _)| owner(name) == last(map)));
    let only = match found.as_slice() {
        [one] => Some(one),
        _ => None,
    };
    // `Store` and the like have more arguments than the key.
    let key_of = |arguments: &str| split_outside(arguments).map_or(arguments, |(key, _)| key).trim().to_string();
    named.or(only).map(|(_, key)| if method.is_some() { key_of(key) } else { key.trim().to_string() })
}

/// What the bracket at the start of `text` encloses.
fn enclosed(text: &str) -> Option<&str> {
    let end = ends(text).find(|&(_, depth, _)| depth == 0)?.0;
    text.get(1..end)
}

fn has_outside(text: &str, wanted: char) -> bool {
    ends(text).any(|(_, depth, char)| depth == 0 && char == wanted)
}

/// `a, b` split at the comma outside brackets.
fn split_outside(text: &str) -> Option<(&str, &str)> {
    let at = ends(text).find(|&(_, depth, char)| depth == 0 && char == ',')?.0;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// Each character outside strings with its offset, and how many brackets are open after it.
fn ends(text: &str) -> impl Iterator<Item = (usize, i32, char)> + '_ {
    let (mut depth, mut quote, mut escaped) = (0, None, false);
    text.char_indices().filter_map(move |(at, char)| {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(with) if char == '\\' && with != '`' => escaped = true,
            Some(with) if char == with => quote = None,
            Some(_) => {}
            None => {
                match char {
                    '"' | '`' | '\'' => quote = Some(char),
                    '(' | '[' | '{' => depth += 1,
                    ')' | ']' | '}' => depth -= 1,
                    _ => {}
                }
                return Some((at, depth, char));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::key_in;

    #[test]
    fn keys_of_index_expressions() {
        let key = |line, map| key_in(line, map, None);
        assert_eq!(key("\tch := r.m[id]", Some("main.reg.m")).as_deref(), Some("id"));
        assert_eq!(key("ch, ok := m[f(a[1], \"]\")]; x[2]++", Some("main.m")).as_deref(), Some("f(a[1], \"]\")"));
        assert_eq!(key("delete(byScore, math.NaN())", Some("main.byScore")).as_deref(), Some("math.NaN()"));
        assert_eq!(key("x := make(map[string]int)", None), None);
        assert_eq!(key("y := s[1:2] // m[k]", None), None);
        assert_eq!(key("<-gates[gateKey{\"a\", z}]", Some("main.gates")).as_deref(), Some("gateKey{\"a\", z}"));
        assert_eq!(key("a[i] = b[j]", None), None);
    }

    #[test]
    fn keys_of_method_calls() {
        let line = "if s, ok := sessions.Load(user); ok {";
        assert_eq!(key_in(line, Some("main.sessions"), Some("Load")).as_deref(), Some("user"));
        let line = "sessions.Store(userID(f(a, b)), s)";
        assert_eq!(key_in(line, None, Some("Store")).as_deref(), Some("userID(f(a, b))"));
    }
}
