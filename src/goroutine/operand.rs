//! Where the values of a function's registers and stack slots come from, by its machine code (amd64): a value numbering
//! over all its blocks. It tells which argument of a call is which constant, field or slot, whether a slot still holds at
//! a later instruction what it held at an earlier one, and which ways lead from one instruction to another. What a call
//! may have changed is unknown: every register but SP and g, and each variable whose address it may have.

use super::code::Code;
use super::stack::Frame;
use crate::memory::Memory;
use crate::session::Session;
use iced_x86::{
    ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers of the general registers that hold Go's integer arguments and results, in order
/// (src/cmd/compile/abi-internal.md).
pub const ARGUMENTS: [usize; 9] = [0, 3, 1, 7, 6, 8, 9, 10, 11];
const RSP: usize = 4;
const RBP: usize = 5;
const GOROUTINE: usize = 14;
const RSI: usize = 6;
const RDI: usize = 7;

/// The register that holds the context of a closure where one is called.
pub const CONTEXT: usize = 2;
/// What stands for a register in the result of a write barrier, which is in R11.
const BARRIER: usize = 16;

/// Longest function analysed, in bytes.
const MAX_CODE: u64 = 1 << 17;
/// Passes over all blocks; a function whose values still change then is given up.
const MAX_PASSES: usize = 40;
/// Bytes that a call may write where it was given a slot's address.
const MAY_WRITE: i64 = 64;
/// Bytes that an instruction of unknown size is taken to write.
const UNKNOWN_SIZE: i64 = 1024;

/// A value, by its number.
pub type Id = u32;

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// A constant, or an address in the program.
    Constant(u64),
    /// What a register held when the function was entered.
    Entry(usize),
    /// What a register held after the call at this address.
    Result(u64, usize),
    /// The address of the stack slot this far above SP.
    Slot(i64),
    /// What a slot held when the function was entered.
    Initial(i64),
    /// What was in so many bytes of memory this far from a value, when the instruction at this address ran.
    Load { base: Id, offset: i64, at: u64, size: u8 },
    /// The lowest bytes of a value.
    Low(Id, u8),
    /// A value and a constant.
    Sum(Id, i64),
    /// One of several, where ways meet; the address, and the register or (from 16 on) slot.
    Meet(u64, i64),
    /// Some other result of the instruction at this address.
    Other(u64, i64),
}

/// What registers and slots hold at one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub registers: [Id; 16],
    /// Size and value by offset from SP; of a slot that is not here see `entered`.
    pub slots: BTreeMap<i64, (u8, Id)>,
    /// Whether a slot that is not here is as it was at entry; else nothing is known of it.
    pub entered: bool,
    /// Size and value of what was stored into objects just made, by the object and the offset in it.
    pub fields: BTreeMap<(Id, i64), (u8, Id)>,
}

impl State {
    /// The value of the eight bytes of a slot.
    pub fn slot(&self, offset: i64) -> Option<Id> {
        self.slots.get(&offset).filter(|slot| slot.0 == 8).map(|slot| slot.1)
    }
}

/// A call, with the state just before it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Its address.
    pub at: u64,
    /// Where it goes, when that is in the code.
    pub target: Option<u64>,
    pub state: State,
}

/// A store through a pointer that is no slot's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    pub base: Id,
    pub offset: i64,
    pub value: Id,
}

/// A return, with the state just before it.
#[derive(Debug, Clone)]
pub struct Return {
    pub state: State,
    /// Only a deferred function that recovered from a panic leads here.
    pub recovered: bool,
}

/// A function's calls and values.
pub struct Values {
    /// Bytes from SP to the return address, once the frame is made.
    pub frame: i64,
    /// Start from SP and size of the variables with pointers whose address is taken.
    objects: Vec<(i64, i64)>,
    /// Objects just made.
    made: FxHashSet<Id>,
    /// Those variables whose address a called function may have.
    exposed: FxHashSet<(i64, i64)>,
    /// Slots that are read by their offset: no arguments of calls.
    read: FxHashSet<i64>,
    /// What the flags tell, at the instruction last seen: the values compared.
    flags: Vec<Id>,
    /// Whether the block is one for what recovered from a panic.
    recovers: bool,
    blocks: Vec<Block>,
    values: Vec<Value>,
    numbers: FxHashMap<Value, Id>,
    meets: FxHashMap<Id, FxHashSet<Id>>,
    /// Calls by address.
    pub calls: BTreeMap<u64, Call>,
    /// By address.
    pub stores: BTreeMap<u64, Store>,
    pub returns: BTreeMap<u64, Return>,
    /// What the conditional jumps hang on, by address.
    pub conditions: BTreeMap<u64, Vec<Id>>,
    /// Whether it goes on in another function, without a return.
    pub leaves: bool,
}

struct Block {
    start: u64,
    /// Address of its last instruction.
    last: u64,
    instructions: std::ops::Range<usize>,
    next: Vec<usize>,
}

impl Values {
    /// Analyses the function at `entry` of `size` bytes; `None` when its code cannot be read or is too long.
    ///
    /// `objects` are the variables with pointers whose address is taken, as the runtime's tables have them.
    pub fn of(
        memory: &dyn Memory,
        code: &mut Code<'_>,
        entry: u64,
        size: u64,
        objects: &[(i64, u64)],
    ) -> Option<Values> {
        let instructions = decode(memory, entry, size)?;
        let frame = frame_size(&instructions);
        let mut callees = Callees { memory, code, known: FxHashMap::default() };
        let blocks = blocks(entry, &instructions, &mut callees);
        let mut values = Values {
            frame,
            objects: objects.iter().map(|&(by, size)| (in_frame(frame, by), size as i64)).collect(),
            made: FxHashSet::default(),
            exposed: FxHashSet::default(),
            read: instructions.iter().filter_map(slot_read).collect(),
            flags: Vec::new(),
            recovers: false,
            blocks: Vec::new(),
            values: Vec::new(),
            numbers: FxHashMap::default(),
            meets: FxHashMap::default(),
            calls: BTreeMap::new(),
            stores: BTreeMap::new(),
            returns: BTreeMap::new(),
            conditions: BTreeMap::new(),
            leaves: instructions.iter().any(|one| leaves(one, entry, size)),
        };
        let settled = values.settle(&mut callees, &instructions, &blocks);
        values.blocks = blocks;
        settled.then_some(values)
    }

    /// The number of the block that an instruction is in.
    fn block(&self, at: u64) -> Option<usize> {
        self.blocks.partition_point(|block| block.start <= at).checked_sub(1)
    }

    /// The blocks that these lead to, these included; ways through `without` left out.
    fn behind(&self, start: &[usize], without: Option<usize>) -> FxHashSet<usize> {
        let mut seen = FxHashSet::default();
        let mut left = start.to_vec();
        while let Some(block) = left.pop() {
            if Some(block) != without && seen.insert(block) {
                left.extend(self.blocks.get(block).map_or(&[][..], |block| &block.next));
            }
        }
        seen
    }

    /// Whether a way leads from the instruction at `from` to that at `to`.
    pub fn leads(&self, from: u64, to: u64) -> bool {
        let (Some(first), Some(last)) = (self.block(from), self.block(to)) else { return false };
        first == last && from < to
            || self.blocks.get(first).is_some_and(|block| self.behind(&block.next, None).contains(&last))
    }

    /// The conditional jumps that decide whether the instruction at `at` is reached: one way leads there, the other only
    /// by way of the jump itself.
    pub fn deciders(&self, at: u64) -> Vec<u64> {
        let Some(wanted) = self.block(at) else { return Vec::new() };
        let decides = |(number, block): (usize, &Block)| {
            let [one, other] = block.next[..] else { return None };
            let leads = |next| self.behind(&[next], Some(number)).contains(&wanted);
            (number != wanted && leads(one) != leads(other)).then_some(block.last)
        };
        self.blocks.iter().enumerate().filter_map(decides).filter(|last| self.conditions.contains_key(last)).collect()
    }

    /// Every constant of the function.
    pub fn constants(&self) -> impl Iterator<Item = u64> + '_ {
        self.values.iter().filter_map(|value| match value {
            Value::Constant(constant) => Some(*constant),
            _ => None,
        })
    }

    /// What a value is.
    pub fn value(&self, id: Id) -> &Value {
        self.values.get(id as usize).unwrap_or(&Value::Constant(0))
    }

    /// The values that may have met in this one.
    pub fn met(&self, id: Id) -> impl Iterator<Item = Id> + '_ {
        self.meets.get(&id).into_iter().flatten().copied()
    }

    fn number(&mut self, value: Value) -> Id {
        if let Some(&known) = self.numbers.get(&value) {
            return known;
        }
        let id = self.values.len() as Id;
        self.values.push(value.clone());
        self.numbers.insert(value, id);
        id
    }

    /// Passes over the blocks until nothing changes.
    fn settle(&mut self, callees: &mut Callees<'_, '_>, instructions: &[Instruction], blocks: &[Block]) -> bool {
        let mut before: Vec<Option<State>> = vec![None; blocks.len()];
        let registers = std::array::from_fn(|register| self.number(Value::Entry(register)));
        if before.is_empty() {
            return false;
        }
        before[0] = Some(State { registers, slots: BTreeMap::new(), entered: true, fields: BTreeMap::new() });
        let mut unreached: FxHashSet<usize> = FxHashSet::default();
        for _ in 0..MAX_PASSES {
            let (mut changed, exposed) = (false, self.exposed.len());
            for (at, block) in blocks.iter().enumerate() {
                // What only an indirect jump leads to is entered with nothing known.
                let Some(mut state) = before[at].clone() else { continue };
                self.flags.clear();
                let code = &instructions[block.instructions.clone()];
                // What recovered from a panic goes on in a block that no way leads to, runs what else is deferred, and
                // returns.
                self.recovers = unreached.contains(&at)
                    && code
                        .iter()
                        .any(|one| one.flow_control() == FlowControl::Call && callees.ends(one.near_branch_target()));
                for instruction in code {
                    self.step(callees, instruction, &mut state);
                }
                for &next in &block.next {
                    changed |= self.meet(&mut before[next], &state, blocks[next].start);
                }
            }
            if !changed && exposed == self.exposed.len() {
                let Some(lost) = before.iter().position(Option::is_none) else { return true };
                let start = blocks[lost].start;
                unreached.insert(lost);
                let registers = std::array::from_fn(|register| self.number(Value::Other(start, register as i64)));
                before[lost] =
                    Some(State { registers, slots: BTreeMap::new(), entered: false, fields: BTreeMap::new() });
            }
        }
        false
    }

    /// Joins `state` into what is known at the start of a block; returns whether that changed.
    fn meet(&mut self, into: &mut Option<State>, state: &State, block: u64) -> bool {
        let Some(known) = into else {
            *into = Some(state.clone());
            return true;
        };
        let mut changed = false;
        for register in 0..16 {
            let (old, new) = (known.registers[register], state.registers[register]);
            changed |= self.meet_one(&mut known.registers[register], old, new, Value::Meet(block, register as i64));
        }
        let offsets: Vec<i64> = known.slots.keys().chain(state.slots.keys()).copied().collect();
        for offset in offsets {
            let old = known.slots.get(&offset).copied();
            let new = state.slots.get(&offset).copied();
            let mut absent = |entered: bool| match entered {
                true => self.number(Value::Initial(offset)),
                false => self.number(Value::Other(block, 16 + offset)),
            };
            let (before, now) = (absent(known.entered), absent(state.entered));
            let size = old.map_or(8, |slot| slot.0).max(new.map_or(8, |slot| slot.0));
            let (old, new) = (old.map_or(before, |slot| slot.1), new.map_or(now, |slot| slot.1));
            let mut id = old;
            if self.meet_one(&mut id, old, new, Value::Meet(block, 16 + offset)) {
                known.slots.insert(offset, (size, id));
                changed = true;
            }
        }
        if known.entered && !state.entered {
            known.entered = false;
            changed = true;
        }
        let fields = known.fields.len();
        known.fields.retain(|place, held| state.fields.get(place) == Some(held));
        changed || fields != known.fields.len()
    }

    fn meet_one(&mut self, place: &mut Id, old: Id, new: Id, meet: Value) -> bool {
        if old == new {
            return false;
        }
        let id = self.number(meet);
        let members = self.meets.entry(id).or_default();
        if old != id {
            members.insert(old);
        }
        let grown = new != id && members.insert(new);
        *place = id;
        old != id || grown
    }

    fn step(&mut self, callees: &mut Callees<'_, '_>, instruction: &Instruction, state: &mut State) {
        let ip = instruction.ip();
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                let target = match instruction.flow_control() == FlowControl::Call {
                    true => Some(instruction.near_branch_target()),
                    false => self.called(instruction, state),
                };
                self.calls.insert(ip, Call { at: ip, target, state: state.clone() });
                let callee = target.map_or(Callee::Takes(ARGUMENTS.len()), |target| callees.of(target));
                self.call(ip, callee, state);
                return;
            }
            FlowControl::ConditionalBranch => {
                self.conditions.insert(ip, self.flags.clone());
                return;
            }
            FlowControl::Return => {
                self.returns.insert(ip, Return { state: state.clone(), recovered: self.recovers });
                return;
            }
            _ => {}
        }
        // The frame is made and given back by these alone.
        if is_stack_pointer(instruction) {
            return;
        }
        let known = self.is_known(instruction, state);
        if instruction.rflags_modified() != 0 && !matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) {
            self.flags.clear();
        }
        if known {
            return;
        }
        let mut info = InstructionInfoFactory::new();
        let info = info.info(instruction);
        let writes = |access: OpAccess| {
            use OpAccess::*;
            matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite)
        };
        for memory in info.used_memory().iter().filter(|memory| writes(memory.access())) {
            if let Some(offset) = self.slot(memory.base(), memory.index(), memory.displacement() as i64, state) {
                let size = memory.memory_size().size() as i64;
                self.scramble(ip, offset, if size == 0 { UNKNOWN_SIZE } else { size }, state);
            } else {
                let (base, by) = (memory.base(), memory.displacement() as i64);
                self.store_elsewhere(ip, base, memory.index(), by, None, state);
            }
        }
        // A conditional move gives one of two values.
        let moves = instruction.condition_code() != ConditionCode::None && instruction.op_count() == 2;
        let other = moves.then(|| self.moved(instruction, state)).flatten();
        for used in info.used_registers().iter().filter(|used| writes(used.access())) {
            let register = used.register().full_register();
            if register.is_gpr64() && register != Register::RSP {
                if let Some(other) = other {
                    let id = self.number(Value::Meet(ip, register.number() as i64));
                    let members = self.meets.entry(id).or_default();
                    members.extend([state.registers[register.number()], other]);
                    state.registers[register.number()] = id;
                    continue;
                }
                state.registers[register.number()] = self.number(Value::Other(ip, register.number() as i64));
            }
        }
    }

    fn call(&mut self, ip: u64, callee: Callee, state: &mut State) {
        let at = |state: &State, register: usize, values: &Values| match values.value(state.registers[register]) {
            Value::Slot(offset) => Some(*offset),
            _ => None,
        };
        match callee {
            // src/runtime/asm_amd64.s, go1.21 to 1.27: write barriers save every register but R11.
            Callee::WriteBarrier => state.registers[11] = self.number(Value::Result(ip, BARRIER)),
            // The same, go1.19 and 1.20: they store a register at DI, and save all.
            Callee::WritingBarrier(register) => {
                let value = state.registers[register];
                self.store_elsewhere(ip, Register::RDI, Register::None, 0, Some((8, value)), state);
            }
            Callee::Duff(first, end) => {
                if let Some(offset) = at(state, RDI, self) {
                    self.scramble(ip, offset + first, end - first, state);
                }
                for register in [RSI, RDI] {
                    state.registers[register] = self.number(Value::Result(ip, register));
                }
            }
            Callee::Reads | Callee::Makes | Callee::Takes(_) => {
                if let Callee::Takes(taken) = callee {
                    // Other registers hold what was left in them.
                    let arguments = ARGUMENTS.get(..taken).unwrap_or(&ARGUMENTS);
                    for offset in arguments
                        .iter()
                        .map(|&register| at(state, register, self))
                        .collect::<Vec<_>>()
                        .into_iter()
                        .flatten()
                    {
                        self.expose(offset, state);
                    }
                    // No call changes a closure itself, only what it has the address of.
                    if let Some(closure) = at(state, CONTEXT, self) {
                        self.addresses_in(closure, state).into_iter().for_each(|offset| self.expose(offset, state));
                    }
                    for &register in arguments {
                        if let Some(offset) = at(state, register, self).filter(|&offset| self.object(offset).is_none())
                        {
                            self.scramble(ip, offset, MAY_WRITE, state);
                        }
                    }
                    self.scramble_exposed(ip, state);
                    state.fields.clear();
                }
                for register in (0..16).filter(|register| !matches!(*register, RSP | GOROUTINE)) {
                    state.registers[register] = self.number(Value::Result(ip, register));
                }
                let made = state.registers[ARGUMENTS[0]];
                state.fields.retain(|(base, _), _| *base != made);
                if callee == Callee::Makes {
                    self.made.insert(made);
                }
            }
        }
    }

    /// Where an indirect call goes, when the code says so.
    fn called(&self, instruction: &Instruction, state: &State) -> Option<u64> {
        let register = (instruction.op_kind(0) == OpKind::Register).then(|| instruction.op_register(0))?;
        match self.value(*state.registers.get(register.full_register().number())?) {
            Value::Constant(target) => Some(*target),
            _ => None,
        }
    }

    /// What a conditional move of a whole register may give.
    fn moved(&mut self, instruction: &Instruction, state: &State) -> Option<Id> {
        let is_whole = |op: u32| instruction.op_register(op).is_gpr64();
        match (instruction.op_kind(0), instruction.op_kind(1)) {
            (OpKind::Register, OpKind::Register) if is_whole(0) && is_whole(1) => {
                Some(state.registers[instruction.op_register(1).number()])
            }
            (OpKind::Register, OpKind::Memory) if is_whole(0) => Some(self.load(instruction, state)),
            _ => None,
        }
    }

    /// A value compared: an operand of `cmp` or `test`.
    fn compared(&mut self, instruction: &Instruction, op: u32, state: &State) -> Option<Id> {
        match instruction.op_kind(op) {
            OpKind::Register => {
                let register = instruction.op_register(op).full_register();
                register.is_gpr64().then(|| state.registers[register.number()])
            }
            OpKind::Memory => Some(self.load(instruction, state)),
            _ => None,
        }
    }

    /// The variable around this offset, whose address is taken.
    fn object(&self, offset: i64) -> Option<(i64, i64)> {
        self.objects.iter().copied().find(|&(start, size)| start <= offset && offset < start + size)
    }

    /// The slots whose addresses the variable at this offset holds.
    fn addresses_in(&self, offset: i64, state: &State) -> Vec<i64> {
        let (start, size) = self.object(offset).unwrap_or((offset, MAY_WRITE));
        let held = state.slots.range(start..start.saturating_add(size)).map(|(_, &(_, held))| self.value(held));
        held.filter_map(|held| match held {
            Value::Slot(at) => Some(*at),
            _ => None,
        })
        .collect()
    }

    /// A called function may have the address of the variable at this offset, and of all that it leads to.
    fn expose(&mut self, offset: i64, state: &State) {
        let mut left = vec![offset];
        let mut seen = FxHashSet::default();
        while let Some(offset) = left.pop() {
            let object = self.object(offset);
            if seen.insert(object.map_or(offset, |object| object.0)) {
                self.exposed.extend(object);
                left.extend(self.addresses_in(offset, state));
            }
        }
    }

    fn scramble_exposed(&mut self, ip: u64, state: &mut State) {
        let exposed: Vec<(i64, i64)> = self.exposed.iter().copied().collect();
        exposed.into_iter().for_each(|(start, size)| self.scramble(ip, start, size, state));
    }

    /// A store that goes to no slot known by its offset; the size and value where they are known.
    fn store_elsewhere(
        &mut self,
        ip: u64,
        base: Register,
        index: Register,
        by: i64,
        value: Option<(u8, Id)>,
        state: &mut State,
    ) {
        if base == Register::RSP {
            self.scramble(ip, by, UNKNOWN_SIZE, state);
            return;
        }
        // A variable of the program, by its address.
        if !base.is_gpr64() {
            return;
        }
        let id = state.registers[base.number()];
        let (root, offset) = match *self.value(id) {
            Value::Sum(root, more) => (root, more.wrapping_add(by)),
            _ => (id, by),
        };
        if let Some((_, value)) = value.filter(|_| index == Register::None) {
            self.stores.insert(ip, Store { base: root, offset, value });
            if let Value::Slot(slot) = *self.value(value) {
                self.expose(slot, state);
            }
        }
        match *self.value(root) {
            Value::Constant(_) => {}
            // Room in the runtime's buffer of write barriers.
            Value::Result(_, BARRIER) => {}
            Value::Slot(slot) => self.scramble(ip, slot, UNKNOWN_SIZE, state),
            _ if self.made.contains(&root) => {
                let place = |at: i64| (root, at);
                match value.filter(|_| index == Register::None) {
                    Some(held) => drop(state.fields.insert(place(offset), held)),
                    None => state.fields.retain(|(base, _), _| *base != root),
                }
            }
            _ => self.scramble_exposed(ip, state),
        }
    }

    /// Handles moves, addresses and sums; returns whether it was one.
    fn is_known(&mut self, instruction: &Instruction, state: &mut State) -> bool {
        let ip = instruction.ip();
        let register = |op: u32| match instruction.op_kind(op) == OpKind::Register {
            true => Some(instruction.op_register(op)).filter(|r| r.is_gpr64() || r.is_gpr32()).map(|r| r.number()),
            false => None,
        };
        let is_immediate = |op: u32| !matches!(instruction.op_kind(op), OpKind::Register | OpKind::Memory);
        let to_memory = instruction.op_count() > 0 && instruction.op_kind(0) == OpKind::Memory;
        match instruction.mnemonic() {
            Mnemonic::Mov if to_memory => {
                let size = instruction.memory_size().size() as u8;
                let value = match instruction.op_kind(1) {
                    OpKind::Register => {
                        let register = instruction.op_register(1);
                        let source = register.full_register();
                        // A high byte is no value's lowest.
                        match source.is_gpr64()
                            && !matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
                        {
                            true => self.low(state.registers[source.number()], size),
                            false => self.number(Value::Other(ip, 16)),
                        }
                    }
                    _ => self.number(Value::Constant(instruction.immediate(1))),
                };
                match self.slot_of(instruction, state) {
                    Some(offset) => {
                        // An argument of a call, on the stack.
                        if let (Value::Slot(slot), false) = (self.value(value).clone(), self.read.contains(&offset)) {
                            self.expose(slot, state);
                        }
                        self.store(offset, size, value, state)
                    }
                    None => {
                        let (base, index) = (instruction.memory_base(), instruction.memory_index());
                        let by = instruction.memory_displacement64() as i64;
                        self.store_elsewhere(ip, base, index, by, Some((size, value)), state);
                    }
                }
            }
            Mnemonic::Movups | Mnemonic::Movdqu if to_memory => {
                let Some(offset) = self.slot_of(instruction, state) else { return false };
                // X15 is always zero (src/cmd/compile/abi-internal.md).
                let zero = instruction.op_register(1) == Register::XMM15;
                for part in [0, 8] {
                    let value = match zero {
                        true => self.number(Value::Constant(0)),
                        false => self.number(Value::Other(ip, 16 + part)),
                    };
                    self.store(offset + part, 8, value, state);
                }
            }
            Mnemonic::Mov | Mnemonic::Movzx => {
                let Some(into) = register(0) else { return false };
                state.registers[into] = match instruction.op_kind(1) {
                    OpKind::Memory => self.load(instruction, state),
                    OpKind::Register => {
                        let register = instruction.op_register(1);
                        let source = register.full_register();
                        if !source.is_gpr64()
                            || matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
                        {
                            return false;
                        }
                        match source {
                            // RBP is set before the frame is made.
                            Register::RSP if into == RBP => return false,
                            Register::RSP => self.number(Value::Slot(0)),
                            _ => self.low(state.registers[source.number()], register.size() as u8),
                        }
                    }
                    _ if is_immediate(1) => self.number(Value::Constant(instruction.immediate(1))),
                    _ => return false,
                };
            }
            Mnemonic::Lea => {
                let Some(into) = register(0) else { return false };
                let displacement = instruction.memory_displacement64() as i64;
                let base = instruction.memory_base();
                state.registers[into] = if instruction.is_ip_rel_memory_operand() {
                    self.number(Value::Constant(instruction.ip_rel_memory_address()))
                } else if instruction.memory_index() != Register::None || !base.is_gpr64() {
                    // The address of some part of a variable, which whoever has it may write to.
                    if let Some(slot) = self.slot(base, Register::None, displacement, state) {
                        self.expose(slot, state);
                    }
                    return false;
                } else if base == Register::RSP {
                    self.number(Value::Slot(displacement))
                } else {
                    self.sum(state.registers[base.number()], displacement)
                };
            }
            Mnemonic::Xor if register(0).is_some() && register(0) == register(1) => {
                let Some(into) = register(0) else { return false };
                state.registers[into] = self.number(Value::Constant(0));
            }
            Mnemonic::Add | Mnemonic::Sub if register(0).is_some() && is_immediate(1) => {
                let Some(into) = register(0) else { return false };
                let by = instruction.immediate(1) as i64;
                let by = if instruction.mnemonic() == Mnemonic::Sub { by.wrapping_neg() } else { by };
                state.registers[into] = self.sum(state.registers[into], by);
            }
            Mnemonic::Cmp | Mnemonic::Test => {
                self.flags = [0, 1].iter().filter_map(|&op| self.compared(instruction, op, state)).collect();
            }
            Mnemonic::Nop => {}
            _ => return false,
        }
        true
    }

    fn sum(&mut self, base: Id, by: i64) -> Id {
        let value = match self.value(base) {
            Value::Constant(constant) => Value::Constant(constant.wrapping_add_signed(by)),
            Value::Slot(offset) => Value::Slot(offset.wrapping_add(by)),
            Value::Sum(inner, more) => Value::Sum(*inner, more.wrapping_add(by)),
            _ => Value::Sum(base, by),
        };
        self.number(value)
    }

    /// The lowest bytes of a value.
    fn low(&mut self, id: Id, size: u8) -> Id {
        let value = match *self.value(id) {
            _ if size >= 8 => return id,
            Value::Constant(constant) => Value::Constant(constant & !(u64::MAX << (8 * u32::from(size)))),
            Value::Low(_, known) | Value::Load { size: known, .. } if known <= size => return id,
            Value::Low(inner, _) => Value::Low(inner, size),
            _ => Value::Low(id, size),
        };
        self.number(value)
    }

    /// Offset from SP of the memory operand, when it is a slot.
    fn slot_of(&self, instruction: &Instruction, state: &State) -> Option<i64> {
        let displacement = instruction.memory_displacement64() as i64;
        self.slot(instruction.memory_base(), instruction.memory_index(), displacement, state)
    }

    fn slot(&self, base: Register, index: Register, displacement: i64, state: &State) -> Option<i64> {
        if index != Register::None || !base.is_gpr64() {
            return None;
        }
        if base == Register::RSP {
            return Some(displacement);
        }
        match self.value(state.registers[base.number()]) {
            Value::Slot(offset) => Some(offset.wrapping_add(displacement)),
            _ => None,
        }
    }

    fn load(&mut self, instruction: &Instruction, state: &State) -> Id {
        let (ip, offset) = (instruction.ip(), instruction.memory_displacement64() as i64);
        let size = instruction.memory_size().size() as u8;
        if instruction.is_ip_rel_memory_operand() {
            let base = self.number(Value::Constant(instruction.ip_rel_memory_address()));
            return self.number(Value::Load { base, offset: 0, at: ip, size });
        }
        if let Some(offset) = self.slot_of(instruction, state) {
            return match state.slots.get(&offset) {
                Some(&(stored, id)) if stored >= size => self.low(id, size),
                Some(_) => self.number(Value::Other(ip, 0)),
                None if state.entered && overlapping(&state.slots, offset, size as i64).is_empty() => {
                    let initial = self.number(Value::Initial(offset));
                    self.low(initial, size)
                }
                None => self.number(Value::Other(ip, 0)),
            };
        }
        let base = instruction.memory_base();
        if instruction.memory_index() != Register::None || !base.is_gpr64() {
            return self.number(Value::Other(ip, 0));
        }
        let base = state.registers[base.number()];
        let place = match *self.value(base) {
            Value::Sum(root, more) => (root, more.wrapping_add(offset)),
            _ => (base, offset),
        };
        if let Some(&(stored, id)) = state.fields.get(&place) {
            if stored == size {
                return id;
            }
        }
        self.number(Value::Load { base, offset, at: ip, size })
    }

    fn store(&mut self, offset: i64, size: u8, value: Id, state: &mut State) {
        for other in overlapping(&state.slots, offset, size as i64) {
            state.slots.remove(&other);
        }
        state.slots.insert(offset, (size, value));
    }

    /// Puts something unknown into `size` bytes of slots.
    fn scramble(&mut self, ip: u64, offset: i64, size: i64, state: &mut State) {
        // No object of a frame reaches into the arguments above it.
        let size = if offset < self.frame { size.min(self.frame - offset) } else { size };
        for other in overlapping(&state.slots, offset, size) {
            state.slots.remove(&other);
        }
        for at in (0..size).step_by(8) {
            let value = self.number(Value::Other(ip, 16 + offset + at));
            state.slots.insert(offset + at, ((size - at).min(8) as u8, value));
        }
    }
}

/// Whether `size` bytes of slots are the same at two instructions.
pub fn same_slots(a: &State, b: &State, offset: i64, size: i64) -> bool {
    let within = |state: &State| -> Vec<(i64, (u8, Id))> {
        let offsets = overlapping(&state.slots, offset, size);
        offsets.into_iter().filter_map(|at| Some((at, *state.slots.get(&at)?))).collect()
    };
    within(a) == within(b)
}

/// Offsets of the slots that share a byte with `size` bytes at `offset`.
fn overlapping(slots: &BTreeMap<i64, (u8, Id)>, offset: i64, size: i64) -> Vec<i64> {
    let near = slots.range(offset.saturating_sub(8)..offset.saturating_add(size));
    near.filter(|&(&at, &(len, _))| at + len as i64 > offset).map(|(&at, _)| at).collect()
}

/// What a called function does to its caller's frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callee {
    /// Takes up to so many arguments in registers, and may write where they point.
    Takes(usize),
    /// Writes nothing where its arguments point: a lookup.
    Reads,
    /// Gives a new object, and does nothing else.
    Makes,
    WriteBarrier,
    /// Stores this register at DI besides.
    WritingBarrier(usize),
    /// `runtime.duffcopy` or `duffzero`, entered somewhere in its middle: writes from the first to the second of
    /// these offsets from DI, and keeps the registers.
    Duff(i64, i64),
}

/// What the called functions do, found out once each.
struct Callees<'c, 'a> {
    memory: &'c dyn Memory,
    code: &'c mut Code<'a>,
    known: FxHashMap<u64, Callee>,
}

impl Callees<'_, '_> {
    fn of(&mut self, target: u64) -> Callee {
        if let Some(&known) = self.known.get(&target) {
            return known;
        }
        let info = self.code.at(target, false);
        let callee = match info.as_deref().map(|info| info.func()) {
            Some(name) if name.starts_with("runtime.gcWriteBarrier") => barrier(name),
            Some("runtime.duffcopy" | "runtime.duffzero") => self.duff(target),
            Some(name) if name.starts_with("runtime.mapaccess") => Callee::Reads,
            Some(name) if name.starts_with("runtime.mapassign") || name.starts_with("runtime.mapdelete") => {
                Callee::Reads
            }
            // A send only reads the elem that it is given by address (src/runtime/chan.go, go1.19 to 1.27).
            Some("runtime.chansend1") => Callee::Reads,
            // src/runtime/malloc.go; specialised by size and kind from Go 1.26 on.
            Some(name) if matches!(name, "runtime.newobject" | "runtime.makechan") => Callee::Makes,
            Some(name) if name.starts_with("runtime.mallocgc") => Callee::Makes,
            Some(name) if takes_one(name) => Callee::Takes(1),
            _ => Callee::Takes(ARGUMENTS.len()),
        };
        self.known.insert(target, callee);
        callee
    }

    /// Whether the function at `target` is `deferproc` or `deferprocStack`.
    fn defers(&mut self, target: u64) -> bool {
        let info = self.code.at(target, false);
        info.is_some_and(|info| matches!(info.func(), "runtime.deferproc" | "runtime.deferprocStack"))
    }

    /// Whether the function at `target` runs what is deferred.
    fn ends(&mut self, target: u64) -> bool {
        self.code.at(target, false).is_some_and(|info| info.func() == "runtime.deferreturn")
    }

    /// Stores through DI and steps of DI, to the return (src/runtime/mkduff.go, go1.19 to 1.27).
    fn duff(&self, target: u64) -> Callee {
        const LONGEST: u64 = 1 << 11;
        let whole = Callee::Duff(-UNKNOWN_SIZE, UNKNOWN_SIZE);
        let Some(instructions) = decode(self.memory, target, LONGEST) else { return whole };
        let (mut at, mut range) = (0i64, None);
        for instruction in instructions {
            let is_di = instruction.op_count() == 2
                && instruction.op_kind(0) == OpKind::Register
                && instruction.op_register(0) == Register::RDI;
            match instruction.mnemonic() {
                Mnemonic::Ret => return range.map_or(whole, |(first, end)| Callee::Duff(first, end)),
                Mnemonic::Movups if instruction.memory_base() == Register::RDI => {
                    let offset = at + instruction.memory_displacement64() as i64;
                    let (first, end) = range.unwrap_or((offset, offset));
                    range = Some((offset.min(first), end.max(offset + 16)));
                }
                Mnemonic::Lea if is_di => at += instruction.memory_displacement64() as i64,
                Mnemonic::Add if is_di => at += instruction.immediate(1) as i64,
                _ => {}
            }
        }
        whole
    }
}

/// Whether a function takes but the object that it is a method of (src/sync, src/internal/sync, go1.19 to 1.27).
fn takes_one(name: &str) -> bool {
    let method =
        ["sync.(*Mutex).", "internal/sync.(*Mutex).", "sync.(*RWMutex).", "sync.(*WaitGroup).", "sync.(*Cond)."]
            .iter()
            .find_map(|object| name.strip_prefix(object));
    matches!(
        method,
        Some("Lock" | "lockSlow" | "Unlock" | "RLock" | "RUnlock" | "Wait" | "Done" | "Signal" | "Broadcast")
    )
}

/// What a write barrier does (src/runtime/asm_amd64.s): those of Go 1.19 and 1.20 store AX, or the register that they are
/// named by; those of later versions are named by a number and only make room.
fn barrier(name: &str) -> Callee {
    match name.strip_prefix("runtime.gcWriteBarrier").unwrap_or_default() {
        "" => Callee::WritingBarrier(0),
        "CX" => Callee::WritingBarrier(1),
        "DX" => Callee::WritingBarrier(2),
        "BX" => Callee::WritingBarrier(3),
        "BP" => Callee::WritingBarrier(5),
        "SI" => Callee::WritingBarrier(6),
        "R8" => Callee::WritingBarrier(8),
        "R9" => Callee::WritingBarrier(9),
        _ => Callee::WriteBarrier,
    }
}

/// Where a variable lies from SP, by its distance from the variables' end, or from the arguments' start where that is not
/// negative (`stackObjectRecord`, src/runtime/stack.go).
fn in_frame(frame: i64, by: i64) -> i64 {
    // The caller's frame pointer lies above the variables of a frame that has a size.
    let variables = if frame > 0 { frame - 8 } else { frame };
    if by < 0 {
        variables + by
    } else {
        frame + 8 + by
    }
}

/// The slot that an instruction reads by its offset.
fn slot_read(instruction: &Instruction) -> Option<i64> {
    let mut factory = InstructionInfoFactory::new();
    let used = factory.info(instruction).used_memory();
    let reads = |access: OpAccess| !matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::NoMemAccess);
    let read = used
        .iter()
        .find(|memory| memory.base() == Register::RSP && reads(memory.access()) && !is_stack_pointer(instruction))?;
    Some(read.displacement() as i64)
}

/// Whether an instruction goes on in another function.
fn leaves(instruction: &Instruction, entry: u64, size: u64) -> bool {
    let within = |target: u64| (entry..entry.wrapping_add(size)).contains(&target);
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => !within(instruction.near_branch_target()),
        FlowControl::IndirectBranch => true,
        _ => false,
    }
}

/// How far the first instructions move SP: pushes, then one sum.
fn frame_size(instructions: &[Instruction]) -> i64 {
    let mut size = 0;
    for instruction in instructions {
        match instruction.mnemonic() {
            Mnemonic::Push => size += 8,
            Mnemonic::Sub if is_stack_pointer(instruction) => return size + instruction.immediate(1) as i64,
            Mnemonic::Add if is_stack_pointer(instruction) => return size - instruction.immediate(1) as i64,
            Mnemonic::Ret => break,
            _ => {}
        }
    }
    size
}

fn is_stack_pointer(instruction: &Instruction) -> bool {
    let first = instruction.op_count() > 0
        && instruction.op_kind(0) == OpKind::Register
        && instruction.op_register(0).full_register() == Register::RSP;
    matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Pop) || first
}

fn decode(memory: &dyn Memory, entry: u64, size: u64) -> Option<Vec<Instruction>> {
    if size == 0 || size > MAX_CODE {
        return None;
    }
    let bytes = memory.bytes(entry, size as usize).ok()?;
    Some(Decoder::with_ip(64, &bytes, entry, DecoderOptions::NONE).iter().collect())
}

/// The blocks of straight code, by address.
///
/// `deferproc` and `deferprocStack` return a second time, and not zero, when a deferred function has recovered from a
/// panic (src/runtime/panic.go, go1.19 to 1.26): that way is left out.
fn blocks(entry: u64, instructions: &[Instruction], callees: &mut Callees<'_, '_>) -> Vec<Block> {
    let by_address: FxHashMap<u64, usize> = instructions.iter().enumerate().map(|(i, one)| (one.ip(), i)).collect();
    let jump = |instruction: &Instruction| match instruction.flow_control() {
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
            // A function whose stack had to grow begins again: that is no loop.
            by_address
                .get(&instruction.near_branch_target())
                .copied()
                .filter(|_| instruction.near_branch_target() != entry)
        }
        _ => None,
    };
    let ends = |instruction: &Instruction| {
        !matches!(instruction.flow_control(), FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall)
    };
    let mut starts: Vec<usize> = vec![0];
    for (i, instruction) in instructions.iter().enumerate() {
        starts.extend(jump(instruction));
        if ends(instruction) {
            starts.push(i + 1);
        }
    }
    starts.retain(|&start| start < instructions.len());
    starts.sort_unstable();
    starts.dedup();
    let number: FxHashMap<usize, usize> = starts.iter().enumerate().map(|(block, &start)| (start, block)).collect();
    let mut blocks = Vec::new();
    for (block, &start) in starts.iter().enumerate() {
        let end = starts.get(block + 1).copied().unwrap_or(instructions.len());
        let last = &instructions[end - 1];
        let mut next: Vec<usize> = jump(last).and_then(|target| number.get(&target).copied()).into_iter().collect();
        let call = instructions[start..end].iter().rfind(|one| one.flow_control() == FlowControl::Call);
        let defers = call.is_some_and(|call| callees.defers(call.near_branch_target()));
        if defers && last.flow_control() == FlowControl::ConditionalBranch {
            next.clear();
        }
        let falls = matches!(
            last.flow_control(),
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall | FlowControl::ConditionalBranch
        );
        if falls && block + 1 < starts.len() {
            next.push(block + 1);
        }
        blocks.push(Block { start: instructions[start].ip(), last: last.ip(), instructions: start..end, next });
    }
    // What only fills the room before a block is not run.
    let led_to: FxHashSet<usize> = blocks.iter().flat_map(|block| block.next.iter().copied()).collect();
    for (number, block) in blocks.iter_mut().enumerate().skip(1) {
        let code = &instructions[block.instructions.clone()];
        if !led_to.contains(&number) && code.iter().all(|one| one.mnemonic() == Mnemonic::Nop) {
            block.next.clear();
        }
    }
    blocks
}

/// Whether an instruction before `pc` of a frame's function writes to the slot at `address`, or takes its address.
pub fn writes_slot(session: &Session, frame: &Frame, pc: u64, address: u64) -> bool {
    let Some(instructions) = decode(&*session.memory, frame.info.entry, pc.saturating_sub(frame.info.entry)) else {
        return true;
    };
    let wanted = address.wrapping_sub(frame.sp) as i64;
    instructions.iter().any(|instruction| {
        let is_slot = |base: Register, displacement: i64, size: i64| {
            base == Register::RSP && displacement <= wanted && wanted < displacement + size.max(1)
        };
        let displacement = instruction.memory_displacement64() as i64;
        match instruction.mnemonic() {
            Mnemonic::Lea => instruction.memory_base() == Register::RSP && displacement == wanted,
            _ => {
                let mut factory = InstructionInfoFactory::new();
                let used = factory.info(instruction).used_memory();
                let written = |access: OpAccess| !matches!(access, OpAccess::Read | OpAccess::CondRead);
                used.iter().any(|memory| {
                    written(memory.access())
                        && !is_stack_pointer(instruction)
                        && is_slot(memory.base(), memory.displacement() as i64, memory.memory_size().size() as i64)
                })
            }
        }
    })
}

/// Analyses, one for each function asked for.
#[derive(Default)]
pub struct Analyses {
    known: FxHashMap<u64, Option<Arc<Values>>>,
}

impl Analyses {
    /// The values of the function whose code contains `pc`.
    pub fn of(&mut self, session: &Session, code: &mut Code<'_>, entry: u64) -> Option<Arc<Values>> {
        if let Some(known) = self.known.get(&entry) {
            return known.clone();
        }
        let modules = session.types.modules();
        let size =
            modules.iter().find_map(|module| module.functions.function_at(entry)).map(|function| function.size());
        let objects = super::live::objects(session, entry);
        let made = size.and_then(|size| Values::of(&*session.memory, code, entry, size, &objects)).map(Arc::new);
        self.known.insert(entry, made.clone());
        made
    }
}
