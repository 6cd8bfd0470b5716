//! The map operation before a wait: which call in the waiting function or a caller, on which map, with which key; from
//! machine code (amd64), and the index expression from the source where that is on this machine.

use super::code::{Code, Line};
use super::operand::{same_slots, Analyses, Call, Id, Value, Values, ARGUMENTS};
use super::{Frame, Goroutine};
use crate::error::Watch;
use crate::probe::functions::{operands, KeyPlace, Operands, Operation};
use crate::session::{MapRef, Session};
use crate::types::{Shape, TypeId, TypeSource};
use crate::Result;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How a map operation and the wait hang together, closest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// What the operation gave is what is waited on.
    Flow,
    /// It is in the waiting function.
    SameFunction,
    /// It is in a caller of that.
    Caller,
}

impl Link {
    /// The name in the JSON record.
    pub fn name(self) -> &'static str {
        match self {
            Link::Flow => "flow",
            Link::SameFunction => "same_func",
            Link::Caller => "caller",
        }
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
    pub link: Link,
    /// Number of its frame in the goroutine's stack.
    pub frame: usize,
}

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
        let mut found = Vec::new();
        if self.session.types.program().is_arm() {
            return found;
        }
        let is_users = |frame: &Frame| {
            !["runtime.", "sync.", "internal/"].iter().any(|start| frame.info.func().starts_with(start))
        };
        let frames = goroutine.stack.frames.iter().enumerate().filter(|(_, frame)| is_users(frame));
        for (depth, (index, frame)) in frames.take(SITE_FRAMES).enumerate() {
            let Some((values, wait)) = self.wait_of(frame) else { continue };
            let operations: Vec<(&Call, String, Operands)> =
                values.calls.values().filter_map(|call| self.operation(call)).collect();
            let flows = |call: &Call| depth == 0 && flows(&values, &wait, call.at);
            let flowing = operations.iter().rev().find(|(call, _, _)| flows(call));
            // The condition of a loop may lie behind its body.
            let before = || operations.iter().rfind(|(call, _, _)| call.at < wait.at).or(operations.first());
            let Some((call, name, at)) = flowing.or_else(before) else { continue };
            let link = match (depth, flowing.is_some()) {
                (0, true) => Link::Flow,
                (0, false) => Link::SameFunction,
                _ => Link::Caller,
            };
            let lines = self.code.at(call.at, false);
            let lines = lines.as_ref().map_or(&[][..], |info| &info.lines);
            // Methods of sync.Map are inlined: the call that the program's own source has is the outermost of them.
            let is_sync = |line: &&Line| ["sync.", "internal/sync."].iter().any(|start| line.func.starts_with(start));
            let line = lines.iter().find(|line| !is_sync(line)).cloned();
            let inlined =
                lines.iter().take_while(is_sync).last().and_then(|line| line.func.strip_prefix("sync.(*Map)."));
            let map = self.describe(&values, call.state.registers[ARGUMENTS[at.map as usize]], at.map_type.is_none());
            let key_expr =
                line.as_ref().and_then(|line| self.key_expression(line, map.as_deref(), inlined.or(at.method)));
            let map_type = self.map_type(&values, call, at).and_then(|ty| self.session.types.load(ty).ok());
            found.push(Site {
                pc: call.at,
                call: name.clone(),
                line,
                map_type: map_type.map(|ty| ty.name.clone()),
                map,
                variable: variable_of(&values, call, at),
                key_expr,
                link,
                frame: index,
            });
        }
        found.sort_by_key(|site| site.link);
        found
    }

    /// The map that a site worked on, in this goroutine, where its address is still known.
    pub fn map(&mut self, goroutine: &Goroutine, site: &Site) -> Option<MapRef> {
        let (values, call, at) = self.at(goroutine, site)?;
        let ty = self.map_type(&values, &call, &at)?;
        let (address, _) =
            self.resolve(goroutine, site.frame, call.state.registers[ARGUMENTS[at.map as usize]], FUEL)?;
        (address != 0).then_some(MapRef { address, ty })
    }

    /// What is left of the key that a site used, a value of `size` bytes.
    pub fn key(&mut self, goroutine: &Goroutine, site: &Site, size: usize) -> Left {
        const GONE: Left = Left::Nothing("it was only in registers, which are lost when a goroutine parks");
        let Some((_, call, at)) = self.at(goroutine, site) else { return GONE };
        let frame = site.frame;
        let argument = |n: u8| ARGUMENTS.get(n as usize).map(|&register| call.state.registers[register]);
        let word = |sites: &mut Sites<'s>, n: u8| sites.resolve(goroutine, frame, argument(n)?, FUEL);
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
            KeyPlace::Pointer(n) => self.key_behind(goroutine, site, argument(n), size),
        }
    }

    /// A key given by address: in a slot of the frame that nothing wrote to since, or elsewhere.
    fn key_behind(&mut self, goroutine: &Goroutine, site: &Site, pointer: Option<Id>, size: usize) -> Left {
        const CHANGED: Left = Left::Nothing("its place on the stack was written to since");
        let (Some(pointer), Some((values, call, _))) = (pointer, self.at(goroutine, site)) else { return CHANGED };
        let Some(frame) = goroutine.stack.frames.get(site.frame) else { return CHANGED };
        let memory = &self.session.memory;
        if let Value::Slot(offset) = values.value(pointer) {
            let Some((_, wait)) = self.wait_of(frame) else { return CHANGED };
            if !same_slots(&call.state, &wait.state, *offset, size as i64) {
                return CHANGED;
            }
            return match memory.bytes(frame.sp.wrapping_add_signed(*offset), size) {
                Ok(bytes) => Left::Whole(bytes.into_owned(), Source::Slot),
                Err(_) => Left::Nothing("its memory cannot be read"),
            };
        }
        let Some((address, _)) = self.resolve(goroutine, site.frame, pointer, FUEL) else {
            return Left::Nothing("its address was only in registers");
        };
        match memory.bytes(address, size) {
            Ok(bytes) => Left::Whole(bytes.into_owned(), Source::Memory),
            Err(_) => Left::Nothing("its memory cannot be read"),
        }
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

    fn at(&mut self, goroutine: &Goroutine, site: &Site) -> Option<(Arc<Values>, Call, Operands)> {
        let frame = goroutine.stack.frames.get(site.frame)?;
        let values = self.analyses.of(self.session, &mut self.code, frame.info.entry)?;
        let call = values.calls.get(&site.pc)?.clone();
        let (_, _, at) = self.operation(&call)?;
        Some((values, call, at))
    }

    /// The values of a frame's function, and the call that the frame is in.
    fn wait_of(&mut self, frame: &Frame) -> Option<(Arc<Values>, Call)> {
        let values = self.analyses.of(self.session, &mut self.code, frame.info.entry)?;
        let call = values.calls.range(..frame.pc).next_back()?.1.clone();
        Some((values, call))
    }

    fn operation<'c>(&mut self, call: &'c Call) -> Option<(&'c Call, String, Operands)> {
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

    /// The number that a value of a frame's function is, where that can still be known.
    fn resolve(&mut self, goroutine: &Goroutine, index: usize, id: Id, fuel: usize) -> Option<(u64, Source)> {
        let fuel = fuel.checked_sub(1)?;
        let frame = goroutine.stack.frames.get(index)?;
        let (values, wait) = self.wait_of(frame)?;
        let memory = &self.session.memory;
        let slot = |offset: i64| frame.sp.wrapping_add_signed(offset);
        match values.value(id) {
            Value::Constant(constant) => return Some((*constant, Source::Code)),
            Value::Slot(offset) => return Some((slot(*offset), Source::Slot)),
            _ => {}
        }
        // A slot that holds this value still.
        if let Some((&offset, _)) = wait.state.slots.iter().find(|(_, &(size, held))| held == id && size == 8) {
            return Some((memory.u64(slot(offset)).ok()?, Source::Slot));
        }
        match values.value(id).clone() {
            Value::Initial(offset) if same_as_entry(&wait, &values, offset) => {
                Some((memory.u64(slot(offset)).ok()?, Source::Slot))
            }
            Value::Sum(base, by) => {
                let (base, source) = self.resolve(goroutine, index, base, fuel)?;
                Some((base.wrapping_add_signed(by), source))
            }
            Value::Load(base, offset, _) => {
                let (base, _) = self.resolve(goroutine, index, base, fuel)?;
                Some((self.session.memory.u64(base.wrapping_add_signed(offset)).ok()?, Source::Memory))
            }
            // What the caller passed.
            Value::Entry(register) => {
                let caller = goroutine.stack.frames.get(index + 1)?;
                let (_, call) = self.wait_of(caller)?;
                if call.target.is_some_and(|target| target != frame.info.entry) {
                    return None;
                }
                self.resolve(goroutine, index + 1, call.state.registers[register], fuel)
            }
            _ => None,
        }
    }

    /// A map argument as an expression over package variables; the argument is the map's address for a `sync.Map`.
    fn describe(&mut self, values: &Values, id: Id, by_address: bool) -> Option<String> {
        match by_address {
            true => self.place_at(values, id, FUEL).map(|(name, _)| name),
            false => self.expression(values, id, FUEL).map(|(name, _)| name),
        }
    }

    /// The expression and type of a value.
    fn expression(&mut self, values: &Values, id: Id, fuel: usize) -> Option<(String, TypeId)> {
        let fuel = fuel.checked_sub(1)?;
        let Value::Load(base, offset, _) = values.value(id) else { return None };
        if let Value::Constant(address) = values.value(*base) {
            return self.variable(address.wrapping_add_signed(*offset));
        }
        let (name, ty) = self.pointee(values, *base, fuel)?;
        self.field(name, ty, *offset)
    }

    /// The expression and type of what is at a pointer value.
    fn place_at(&mut self, values: &Values, id: Id, fuel: usize) -> Option<(String, TypeId)> {
        match values.value(id).clone() {
            Value::Constant(address) => self.variable(address),
            Value::Sum(base, offset) => {
                let (name, ty) = self.pointee(values, base, fuel.checked_sub(1)?)?;
                self.field(name, ty, offset)
            }
            _ => None,
        }
    }

    /// What the pointer `id` points to.
    fn pointee(&mut self, values: &Values, id: Id, fuel: usize) -> Option<(String, TypeId)> {
        let (name, ty) = self.expression(values, id, fuel)?;
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
        (Value::Load(base, offset, _), Some(_)) => match values.value(*base) {
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
        None => wait.state.slots.range(offset - 7..offset + 8).next().is_none(),
        Some(&(_, id)) => matches!(values.value(id), Value::Initial(at) if *at == offset),
    }
}

/// Whether an argument of the waiting call comes from the result of the call at `from`.
fn flows(values: &Values, wait: &Call, from: u64) -> bool {
    let mut left: Vec<Id> = ARGUMENTS[..4].iter().map(|&register| wait.state.registers[register]).collect();
    let mut seen = FxHashSet::default();
    while let Some(id) = left.pop() {
        if !seen.insert(id) || seen.len() > 4096 {
            continue;
        }
        match values.value(id) {
            Value::Result(at, _) if *at == from => return true,
            Value::Load(base, _, _) | Value::Sum(base, _) => left.push(*base),
            Value::Meet(..) => left.extend(values.met(id)),
            // The cases of a select lie on the stack.
            Value::Slot(offset) => {
                left.extend(wait.state.slots.range(*offset..offset + 256).map(|(_, &(_, held))| held))
            }
            _ => {}
        }
    }
    false
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
