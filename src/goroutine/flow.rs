//! Whether what a goroutine waits on came out of a map: the operand of its wait is followed back through the machine code
//! (amd64), through parameters, captured variables and the results of functions that have returned, as far as the code
//! proves each step. What it does not prove is not claimed.

use super::operand::{Call, Id, Store, Value, Values, ARGUMENTS, CONTEXT};
use super::sites::{Context, Place, Sites};
use super::{Blocked, Frame, Goroutine, On};
use crate::probe::functions::{KeyPlace, Operands, Operation};
use crate::score::Reach;
use rustc_hash::FxHashSet;
use std::sync::Arc;

/// Values followed for one operand.
const MAX_VALUES: usize = 4096;
/// Callers that a captured variable is looked for in.
const MAX_CALLERS: usize = 64;
/// Cases of a select that are followed.
const MAX_CASES: u64 = 64;
/// Number of the register that holds a second result (src/cmd/compile/abi-internal.md).
const RBX: usize = ARGUMENTS[1];

/// A map operation in the function of a context.
#[derive(Clone)]
pub(super) struct Found {
    pub context: Arc<Context>,
    pub at: u64,
    pub reach: Reach,
}

/// What a value may come from.
enum Leaf {
    /// The result of the map operation at this address.
    Map(Arc<Context>, u64),
    Zero,
    Unknown,
}

/// Values still to be followed, and what was found.
struct Trail {
    left: Vec<(Arc<Context>, Id, bool)>,
    seen: FxHashSet<(Vec<u64>, Id, bool)>,
    leaves: Vec<Leaf>,
    /// An operation that stored one of the values.
    stored: Option<(Arc<Context>, u64)>,
    /// Whether any result counts, not only what may be waited on: also whether a key was found.
    any: bool,
}

impl Sites<'_> {
    /// The map operation that the goroutine's wait in its innermost own frame was followed to.
    pub(super) fn waited_on(&mut self, goroutine: &Goroutine, index: usize, frame: &Frame) -> Option<Found> {
        let context = self.frame_context(goroutine, index)?;
        let callee = goroutine.stack.frames.get(index.checked_sub(1)?)?;
        let call = context.call.clone()?;
        // A call that did not lead to the frame below it tells nothing.
        if frame.on != On::Goroutine || call.target.is_some_and(|target| target != callee.info.entry) {
            return None;
        }
        let operands = operands_of_wait(&context.values, &call, callee.info.func());
        let is_nil = matches!(goroutine.blocked_on, Some(Blocked::NilChan));
        let found = operands.into_iter().filter_map(|id| self.source(goroutine, &context, id, is_nil));
        found.max_by_key(|found| found.reach)
    }

    /// Whether the operand `id` came out of a map, or was stored in one.
    fn source(&mut self, goroutine: &Goroutine, context: &Arc<Context>, id: Id, is_nil: bool) -> Option<Found> {
        let trail = self.follow(goroutine, context, id, false);
        let leaves: Vec<&Leaf> = trail.leaves.iter().filter(|leaf| is_nil || !matches!(leaf, Leaf::Zero)).collect();
        let maps: Vec<(&Arc<Context>, u64)> = leaves
            .iter()
            .filter_map(|leaf| match leaf {
                Leaf::Map(context, at) => Some((context, *at)),
                _ => None,
            })
            .collect();
        let Some(&(context, at)) = maps.last() else {
            // Stored on every way, not only on one of several.
            let (context, at) = trail.stored.filter(|_| leaves.len() == 1)?;
            return Some(Found { context, at, reach: Reach::Stored });
        };
        let alone =
            maps.len() == leaves.len() && maps.iter().all(|(other, site)| other.key == context.key && *site == at);
        let reach = if alone { Reach::Flow } else { Reach::Either };
        Some(Found { context: context.clone(), at, reach })
    }

    /// The map operation whose result decided that the call of a frame was reached.
    pub(super) fn decided_by(&mut self, goroutine: &Goroutine, index: usize) -> Option<Found> {
        let context = self.frame_context(goroutine, index)?;
        let (values, call) = (context.values.clone(), context.call.clone()?);
        let mut found: Option<Found> = None;
        for jump in values.deciders(call.at) {
            for &id in &values.conditions[&jump] {
                let trail = self.follow(goroutine, &context, id, true);
                let Some(Leaf::Map(of, at)) = trail.leaves.into_iter().find(|leaf| matches!(leaf, Leaf::Map(..)))
                else {
                    continue;
                };
                // In this frame's function, the operation itself or the call that led to it.
                let own = of.key.get(context.key.len()).copied().unwrap_or(at);
                let again = of.key.starts_with(&context.key) && values.leads(call.at, own) && values.leads(own, jump);
                let reach = if again { Reach::Until } else { Reach::Decides };
                if found.as_ref().is_none_or(|found| found.reach < reach) {
                    found = Some(Found { context: of, at, reach });
                }
            }
        }
        found
    }

    fn follow(&mut self, goroutine: &Goroutine, context: &Arc<Context>, id: Id, any: bool) -> Trail {
        let mut trail = Trail {
            left: vec![(context.clone(), id, false)],
            seen: FxHashSet::default(),
            leaves: Vec::new(),
            stored: None,
            any,
        };
        while let Some((context, id, loaded)) = trail.left.pop() {
            if !trail.seen.insert((context.key.clone(), id, loaded)) {
                continue;
            }
            if trail.seen.len() > MAX_VALUES {
                trail.leaves.push(Leaf::Unknown);
                break;
            }
            if trail.stored.is_none() {
                trail.stored = self.stored(&context, id).map(|at| (context.clone(), at));
            }
            self.step(goroutine, &context, id, loaded, &mut trail);
        }
        trail
    }

    /// Follows a value by one step.
    fn step(&mut self, goroutine: &Goroutine, context: &Arc<Context>, id: Id, loaded: bool, trail: &mut Trail) {
        let values = context.values.clone();
        match values.value(id).clone() {
            Value::Constant(0) if !loaded => trail.leaves.push(Leaf::Zero),
            Value::Sum(base, _) | Value::Low(base, _) => trail.left.push((context.clone(), base, loaded)),
            Value::Meet(..) => trail.left.extend(values.met(id).map(|met| (context.clone(), met, loaded))),
            Value::Load { base, offset, .. } => match self.captured(goroutine, context, base, offset) {
                Some((context, id)) => trail.left.push((context, id, loaded)),
                None => trail.left.push((context.clone(), base, true)),
            },
            Value::Entry(register) => match self.caller(goroutine, context) {
                Some((caller, call)) => trail.left.push((caller, call.state.registers[register], loaded)),
                None => trail.leaves.push(Leaf::Unknown),
            },
            // An argument on the stack.
            Value::Initial(offset) => {
                let argument = self.caller(goroutine, context).and_then(|(caller, call)| {
                    let above = offset.checked_sub(values.frame + 8).filter(|&above| above >= 0)?;
                    Some((caller, call.state.slot(above)?, loaded))
                });
                match argument {
                    Some(argument) => trail.left.push(argument),
                    None => trail.leaves.push(Leaf::Unknown),
                }
            }
            Value::Result(at, register) => self.result(context, at, register, loaded, trail),
            _ => trail.leaves.push(Leaf::Unknown),
        }
    }

    /// Follows what a call gave in a register.
    fn result(&mut self, context: &Arc<Context>, at: u64, register: usize, loaded: bool, trail: &mut Trail) {
        let Some(call) = context.values.calls.get(&at).cloned() else {
            trail.leaves.push(Leaf::Unknown);
            return;
        };
        if let Some((_, _, operation)) = self.operation(&call) {
            let gives = gives(operation.operation, register) || trail.any && says(operation.operation, register);
            trail.leaves.push(if gives { Leaf::Map(context.clone(), at) } else { Leaf::Unknown });
            return;
        }
        let returned = self.returned(context, &call);
        let Some(inner) = returned.filter(|inner| !inner.values.leaves && !inner.values.returns.is_empty()) else {
            trail.leaves.push(Leaf::Unknown);
            return;
        };
        let recovers = inner.values.returns.values().any(|one| one.recovered) && self.may_recover(&inner.values);
        for one in inner.values.returns.values().filter(|one| recovers || !one.recovered) {
            trail.left.push((inner.clone(), one.state.registers[register], loaded));
        }
    }

    /// Whether a deferred function of this one may recover from a panic: unless none that it names calls `recover`, nor
    /// calls through a wrapper what may.
    fn may_recover(&mut self, values: &Values) -> bool {
        let named: Vec<u64> = values.calls.values().filter_map(|call| call.target).chain(values.constants()).collect();
        if values.calls.values().any(|call| call.target.is_none()) {
            return true;
        }
        let memory = self.session().memory.clone();
        let functions: FxHashSet<u64> = named
            .into_iter()
            .flat_map(|at| [Some(at), memory.u64(at).ok()])
            .flatten()
            .filter(|&at| self.code.at(at, false).is_some_and(|info| info.entry == at && !is_library(info.func())))
            .collect();
        let mut seen = functions.clone();
        let mut left: Vec<(u64, usize)> = functions.into_iter().map(|entry| (entry, 1)).collect();
        while let Some((entry, depth)) = left.pop() {
            let Some(inner) = self.values_of(entry) else { return true };
            for call in inner.calls.values() {
                let Some(target) = call.target else { return true };
                let Some(info) = self.code.at(target, false) else { return true };
                if info.func() == "runtime.gorecover" {
                    return true;
                }
                if depth > 0 && !is_library(info.func()) && seen.insert(target) {
                    left.push((target, depth - 1));
                }
            }
        }
        false
    }

    /// The function that a context's was called by, and the call.
    pub(super) fn caller(&mut self, goroutine: &Goroutine, context: &Context) -> Option<(Arc<Context>, Call)> {
        match &context.place {
            Place::Returned(caller, at) => Some((caller.clone(), caller.values.calls.get(at)?.clone())),
            Place::Creator => None,
            &Place::Frame(index) => {
                let frames = &goroutine.stack.frames;
                let (frame, outer) = (frames.get(index)?, frames.get(index + 1)?);
                if frame.on != On::Goroutine || outer.on != On::Goroutine {
                    return None;
                }
                let caller = self.frame_context(goroutine, index + 1)?;
                let call = caller.call.clone()?;
                call.target.is_none_or(|target| target == frame.info.entry).then_some((caller, call))
            }
        }
    }

    /// The value at an offset of the closure whose address `base` is: what a variable was when it was captured. That does
    /// not change, for a variable that changes is captured by its address.
    fn captured(
        &mut self,
        goroutine: &Goroutine,
        context: &Arc<Context>,
        base: Id,
        offset: i64,
    ) -> Option<(Arc<Context>, Id)> {
        let (mut context, mut id) = (context.clone(), base);
        if *context.values.value(id) != Value::Entry(CONTEXT) {
            return None;
        }
        for _ in 0..MAX_CALLERS {
            let (values, call) = match *context.values.value(id) {
                Value::Entry(register) => {
                    let (caller, call) = match self.caller(goroutine, &context) {
                        Some(found) if !self.starts(goroutine, &context) => found,
                        _ if register == CONTEXT => {
                            let creator = self.creator(goroutine, &context)?;
                            let call = creator.call.clone()?;
                            (context, id) = (creator, call.state.registers[ARGUMENTS[0]]);
                            let held = self.held_in(&context, &call, id, offset)?;
                            return Some((context, held));
                        }
                        _ => return None,
                    };
                    id = call.state.registers[register];
                    context = caller;
                    (context.values.clone(), call)
                }
                _ => return None,
            };
            if matches!(values.value(id), Value::Slot(_) | Value::Result(..)) {
                let held = self.held_in(&context, &call, id, offset)?;
                return Some((context, held));
            }
        }
        None
    }

    /// What the object at the address `id` holds at an offset when this call is made.
    fn held_in(&self, context: &Context, call: &Call, id: Id, offset: i64) -> Option<Id> {
        match *context.values.value(id) {
            Value::Slot(slot) => call.state.slot(slot.checked_add(offset)?),
            Value::Result(..) => call.state.fields.get(&(id, offset)).filter(|held| held.0 == 8).map(|held| held.1),
            _ => None,
        }
    }

    /// The operation of this function that stored a value in a map.
    fn stored(&mut self, context: &Context, id: Id) -> Option<u64> {
        let values = &context.values;
        if matches!(values.value(id), Value::Constant(_) | Value::Slot(_)) {
            return None;
        }
        let into = |store: &Store| match *values.value(store.base) {
            Value::Result(at, register) if register == ARGUMENTS[0] && store.value == id => Some(at),
            _ => None,
        };
        let assigned: Vec<u64> = values.stores.values().filter_map(into).collect();
        let is_assign = |sites: &mut Self, at: u64| {
            let call = values.calls.get(&at).cloned()?;
            let (_, _, operation) = sites.operation(&call)?;
            (operation.operation == Operation::Assign).then_some(at)
        };
        if let Some(at) = assigned.into_iter().find_map(|at| is_assign(self, at)) {
            return Some(at);
        }
        let calls: Vec<&Call> = values.calls.values().filter(|call| call.state.registers.contains(&id)).collect();
        calls.into_iter().find_map(|call| {
            let (_, _, operation) = self.operation(call)?;
            (call.state.registers[*ARGUMENTS.get(value_given(&operation)?)?] == id).then_some(call.at)
        })
    }
}

/// The values that a function called by the wait's function waits on.
fn operands_of_wait(values: &Values, call: &Call, callee: &str) -> Vec<Id> {
    let argument = |n: usize| call.state.registers[ARGUMENTS[n]];
    match callee {
        // src/runtime/chan.go, src/runtime/sema.go, src/sync, src/internal/sync, go1.19 to 1.27: the first argument.
        "runtime.chanrecv1"
        | "runtime.chanrecv2"
        | "runtime.chansend1"
        | "sync.runtime_Semacquire"
        | "sync.runtime_SemacquireMutex"
        | "sync.runtime_SemacquireRWMutex"
        | "sync.runtime_SemacquireRWMutexR"
        | "sync.runtime_SemacquireWaitGroup"
        | "internal/sync.runtime_SemacquireMutex"
        | "sync.(*Mutex).Lock"
        | "sync.(*Mutex).lockSlow"
        | "internal/sync.(*Mutex).Lock"
        | "internal/sync.(*Mutex).lockSlow"
        | "sync.(*RWMutex).Lock"
        | "sync.(*RWMutex).RLock"
        | "sync.(*rlocker).Lock"
        | "sync.(*WaitGroup).Wait"
        | "sync.(*Cond).Wait" => vec![argument(0)],
        // selectgo(cas0 *scase, order0 *uint16, pc0 *uintptr, nsends, nrecvs int, block bool), of scase {c *hchan; elem}
        // (src/runtime/select.go, go1.19 to 1.27).
        "runtime.selectgo" => {
            let number = |n| match *values.value(argument(n)) {
                Value::Constant(number) => Some(number),
                _ => None,
            };
            let (Value::Slot(first), Some(sends), Some(receives)) = (values.value(argument(0)), number(3), number(4))
            else {
                return Vec::new();
            };
            let cases = sends.saturating_add(receives).min(MAX_CASES) as i64;
            (0..cases).filter_map(|case| call.state.slot(first + 16 * case)).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether an operation gives, in this register, an elem, its address, or the data word of one that is an interface
/// (src/runtime/map*.go, src/sync/map.go, src/internal/sync/hashtriemap.go; src/cmd/compile/abi-internal.md).
fn gives(operation: Operation, register: usize) -> bool {
    use Operation::*;
    match operation {
        // A pointer to the elem, and of the second form whether it was found.
        Access1 | Access2 => register == ARGUMENTS[0],
        // The value's type and its data word, then whether it was found.
        Load | LoadOrStore | LoadAndDelete | Swap => register == RBX,
        // Only a store goes through the slot that an assignment gives; the others give nothing of the map's.
        Assign | Delete | Iterate | Clear | Store | SyncDelete | CompareAndSwap | CompareAndDelete | Range
        | SyncClear => false,
    }
}

/// Whether it says there whether the key was found, or what type of value.
fn says(operation: Operation, register: usize) -> bool {
    use Operation::*;
    match operation {
        Access2 => register == RBX,
        Load | LoadOrStore | LoadAndDelete | Swap => register == ARGUMENTS[0] || register == ARGUMENTS[2],
        CompareAndSwap | CompareAndDelete => register == ARGUMENTS[0],
        _ => false,
    }
}

/// The argument that holds the data word of the value that a method of `sync.Map` stores: behind the key's two words and
/// the value's type.
fn value_given(at: &Operands) -> Option<usize> {
    let stores = matches!(at.operation, Operation::Store | Operation::Swap | Operation::LoadOrStore);
    match at.key {
        KeyPlace::Interface(key) if stores && at.method.is_some() => Some(key as usize + 3),
        _ => None,
    }
}

fn is_library(func: &str) -> bool {
    ["runtime.", "sync.", "internal/"].iter().any(|start| func.starts_with(start))
}
