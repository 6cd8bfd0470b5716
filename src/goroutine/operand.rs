//! Where the values of a function's registers and stack slots come from, by its machine code (amd64): a value numbering
//! over all its blocks. It tells which argument of a call is which constant, field or slot, and whether a slot still
//! holds at a later instruction what it held at an earlier one.

use super::code::Code;
use super::stack::Frame;
use crate::memory::Memory;
use crate::session::Session;
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers of the general registers that hold Go's integer arguments and results, in order
/// (src/cmd/compile/abi-internal.md).
pub const ARGUMENTS: [usize; 9] = [0, 3, 1, 7, 6, 8, 9, 10, 11];
const RSP: usize = 4;
const RSI: usize = 6;
const RDI: usize = 7;

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
    /// What was in memory this far from a value, when the instruction at the last address ran.
    Load(Id, i64, u64),
    /// A value and a constant.
    Sum(Id, i64),
    /// One of several, where ways meet; the block's address, and the register or (from 16 on) slot.
    Meet(u64, i64),
    /// Some other result of the instruction at this address.
    Other(u64, i64),
}

/// What registers and slots hold at one instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub registers: [Id; 16],
    /// Size and value by offset from SP; a slot that is not here is as it was at entry.
    pub slots: BTreeMap<i64, (u8, Id)>,
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

/// A function's calls and values.
pub struct Values {
    /// Bytes from SP to the return address, once the frame is made.
    frame: i64,
    values: Vec<Value>,
    numbers: FxHashMap<Value, Id>,
    meets: FxHashMap<Id, FxHashSet<Id>>,
    /// Calls by address.
    pub calls: BTreeMap<u64, Call>,
}

struct Block {
    start: u64,
    instructions: std::ops::Range<usize>,
    next: Vec<usize>,
}

impl Values {
    /// Analyses the function at `entry` of `size` bytes; `None` when its code cannot be read or is too long.
    pub fn of(memory: &dyn Memory, code: &mut Code<'_>, entry: u64, size: u64) -> Option<Values> {
        let instructions = decode(memory, entry, size)?;
        let blocks = blocks(entry, &instructions);
        let mut values = Values {
            frame: frame_size(&instructions),
            values: Vec::new(),
            numbers: FxHashMap::default(),
            meets: FxHashMap::default(),
            calls: BTreeMap::new(),
        };
        let mut callees = Callees { memory, code, known: FxHashMap::default() };
        values.settle(&mut callees, &instructions, &blocks).then_some(values)
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
        before[0] = Some(State { registers, slots: BTreeMap::new() });
        for _ in 0..MAX_PASSES {
            let mut changed = false;
            for (at, block) in blocks.iter().enumerate() {
                // What only an indirect jump leads to is entered with nothing known.
                let Some(mut state) = before[at].clone() else { continue };
                for instruction in &instructions[block.instructions.clone()] {
                    self.step(callees, instruction, &mut state);
                }
                for &next in &block.next {
                    changed |= self.meet(&mut before[next], &state, blocks[next].start);
                }
            }
            if !changed {
                let Some(lost) = before.iter().position(Option::is_none) else { return true };
                let start = blocks[lost].start;
                let registers = std::array::from_fn(|register| self.number(Value::Other(start, register as i64)));
                before[lost] = Some(State { registers, slots: BTreeMap::new() });
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
            let initial = self.number(Value::Initial(offset));
            let size = old.map_or(8, |slot| slot.0).max(new.map_or(8, |slot| slot.0));
            let (old, new) = (old.map_or(initial, |slot| slot.1), new.map_or(initial, |slot| slot.1));
            let mut id = old;
            if self.meet_one(&mut id, old, new, Value::Meet(block, 16 + offset)) {
                known.slots.insert(offset, (size, id));
                changed = true;
            }
        }
        changed
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
        if matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall) {
            let target = (instruction.flow_control() == FlowControl::Call).then(|| instruction.near_branch_target());
            self.calls.insert(ip, Call { at: ip, target, state: state.clone() });
            let callee = target.map_or(Callee::Plain, |target| callees.of(target));
            self.call(ip, callee, state);
            return;
        }
        // The frame is made and given back by these alone.
        if is_stack_pointer(instruction) {
            return;
        }
        if self.is_known(instruction, state) {
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
            }
        }
        for used in info.used_registers().iter().filter(|used| writes(used.access())) {
            let register = used.register().full_register();
            if register.is_gpr64() && register != Register::RSP {
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
            // src/runtime/asm_amd64.s: write barriers save every register but R11.
            Callee::WriteBarrier => state.registers[11] = self.number(Value::Result(ip, 11)),
            Callee::Duff(first, end) => {
                if let Some(offset) = at(state, RDI, self) {
                    self.scramble(ip, offset + first, end - first, state);
                }
                for register in [RSI, RDI] {
                    state.registers[register] = self.number(Value::Result(ip, register));
                }
            }
            Callee::Reads | Callee::Plain => {
                if callee == Callee::Plain {
                    for register in ARGUMENTS {
                        if let Some(offset) = at(state, register, self) {
                            self.scramble(ip, offset, MAY_WRITE, state);
                        }
                    }
                }
                for register in (0..16).filter(|&register| register != RSP) {
                    state.registers[register] = self.number(Value::Result(ip, register));
                }
            }
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
                let Some(offset) = self.slot_of(instruction, state) else { return true };
                let value = match instruction.op_kind(1) {
                    OpKind::Register => {
                        let source = instruction.op_register(1).full_register();
                        state.registers[source.number()]
                    }
                    _ => self.number(Value::Constant(instruction.immediate(1))),
                };
                self.store(offset, size, value, state);
            }
            Mnemonic::Movups | Mnemonic::Movdqu if to_memory => {
                let Some(offset) = self.slot_of(instruction, state) else { return true };
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
            Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd => {
                let Some(into) = register(0) else { return false };
                state.registers[into] = match instruction.op_kind(1) {
                    OpKind::Memory => self.load(instruction, state),
                    OpKind::Register => {
                        let source = instruction.op_register(1).full_register();
                        if !source.is_gpr64() {
                            return false;
                        }
                        state.registers[source.number()]
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
            Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Nop => {}
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
        let (ip, displacement) = (instruction.ip(), instruction.memory_displacement64() as i64);
        if instruction.is_ip_rel_memory_operand() {
            let address = self.number(Value::Constant(instruction.ip_rel_memory_address()));
            return self.number(Value::Load(address, 0, ip));
        }
        if let Some(offset) = self.slot_of(instruction, state) {
            let size = instruction.memory_size().size() as u8;
            return match state.slots.get(&offset) {
                Some(&(stored, id)) if stored >= size => id,
                Some(_) => self.number(Value::Other(ip, 0)),
                None if overlapping(&state.slots, offset, size as i64).is_empty() => {
                    self.number(Value::Initial(offset))
                }
                None => self.number(Value::Other(ip, 0)),
            };
        }
        let base = instruction.memory_base();
        if instruction.memory_index() != Register::None || !base.is_gpr64() {
            return self.number(Value::Other(ip, 0));
        }
        self.number(Value::Load(state.registers[base.number()], displacement, ip))
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
    Plain,
    /// Writes nothing where its arguments point: a lookup.
    Reads,
    WriteBarrier,
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
            Some(name) if name.starts_with("runtime.gcWriteBarrier") => Callee::WriteBarrier,
            Some("runtime.duffcopy" | "runtime.duffzero") => self.duff(target),
            Some(name) if name.starts_with("runtime.map") => Callee::Reads,
            _ => Callee::Plain,
        };
        self.known.insert(target, callee);
        callee
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
fn blocks(entry: u64, instructions: &[Instruction]) -> Vec<Block> {
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
        let falls = matches!(
            last.flow_control(),
            FlowControl::Next | FlowControl::Call | FlowControl::IndirectCall | FlowControl::ConditionalBranch
        );
        if falls && block + 1 < starts.len() {
            next.push(block + 1);
        }
        blocks.push(Block { start: instructions[start].ip(), instructions: start..end, next });
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
        let made = size.and_then(|size| Values::of(&*session.memory, code, entry, size)).map(Arc::new);
        self.known.insert(entry, made.clone());
        made
    }
}
