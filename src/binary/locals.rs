//! Variables of a function at a PC: which there are, by DWARF's scopes, and where each lies, by DWARF's expressions.
//!
//! What DWARF says of a register is used only where the caller knows that register: the rest is said to be lost.

use super::dwarf::{corrupt, entry_at, number, reference, section_bytes, text, Bytes, Dwarf, Slice, LANG_GO};
use crate::memory::Memory;
use crate::types::TypeId;
use crate::Result;
use gimli::constants as dw;
use gimli::{AttributeValue, EvaluationResult, Location, RangeLists, Register, SectionId, Value};
use rayon::prelude::*;
use std::sync::OnceLock;

/// What a function's variables need beyond names and types; read when first asked for.
#[derive(Default)]
pub(super) struct Functions {
    lists: OnceLock<[Bytes; 5]>,
    /// Link-time code range and DIE of each function, by address.
    index: OnceLock<Vec<(u64, u64, usize)>>,
}

/// A frame, as expressions see it.
pub struct Machine<'m> {
    /// Link-time address of an instruction: of the call, in a frame that called another.
    pub pc: u64,
    /// The canonical frame address: SP of the caller.
    pub cfa: u64,
    /// Added to link-time addresses.
    pub bias: u64,
    /// The value of a register by DWARF's number, where it is known.
    pub register: &'m dyn Fn(u16) -> Option<u64>,
    pub memory: &'m dyn Memory,
}

/// What a variable is to its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Argument,
    Result,
    Local,
}

impl Role {
    /// The name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Role::Argument => "argument",
            Role::Result => "result",
            Role::Local => "local",
        }
    }
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// It is nowhere at this PC.
    OptimisedOut,
    /// It was in a register that is not known.
    InRegister,
    /// The code has not come to it yet.
    NotSet,
    /// Its place is said in a way that is not understood, or by memory that cannot be read.
    Unknown,
}

impl Lost {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            Lost::OptimisedOut => "optimised out here",
            Lost::InRegister => "in a register, lost when it parked",
            Lost::NotSet => "not set yet",
            Lost::Unknown => "its place cannot be read",
        }
    }
}

/// Where a variable is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Whole, at this address.
    Memory(u64),
    /// Put together from pieces.
    Bytes(Vec<u8>),
    /// Some pieces are known, with their offsets; the others are lost.
    Part(Vec<(usize, Vec<u8>)>, Lost),
    /// Nowhere.
    Lost(Lost),
}

/// A variable of a scope.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Its name; `&x` for an `x` that was moved to the heap, whose pointer this is.
    pub name: String,
    pub ty: TypeId,
    pub role: Role,
    /// Line of its declaration; 0 when not said.
    pub line: u32,
    /// Lexical blocks around it.
    pub depth: usize,
    /// Whether its place holds for the whole function, set or not.
    pub fixed: bool,
    pub place: Place,
}

/// A function, or a call inlined into the next scope.
#[derive(Debug, Clone)]
pub struct Scope {
    pub function: String,
    pub inlined: bool,
    pub variables: Vec<Variable>,
}

/// DIEs within DIEs; deeper is a broken file.
const MAX_NEST: usize = 256;
/// Operations of one expression.
const MAX_OPERATIONS: u32 = 1000;
/// Largest variable put together from pieces.
const MAX_PIECES: u64 = 4096;

impl Dwarf {
    /// The scopes that contain a PC, innermost inlined call first, the function itself last; none when no Go function
    /// is known there.
    pub fn scopes(&self, machine: &Machine<'_>) -> Result<Vec<Scope>> {
        let dwarf = self.with_lists()?;
        let functions = self.function_index(&dwarf);
        let after = functions.partition_point(|&(low, _, _)| low <= machine.pc);
        let Some(&(_, high, offset)) = after.checked_sub(1).and_then(|at| functions.get(at)) else {
            return Ok(Vec::new());
        };
        if machine.pc >= high {
            return Ok(Vec::new());
        }
        let (header, _) = self.unit_of(&dwarf, offset)?;
        let start = header.offset().as_debug_info_offset().map_or(0, |at| at.0);
        let unit = dwarf.unit(header).map_err(corrupt)?;
        let mut tree = unit.entries_tree(Some(gimli::UnitOffset(offset - start))).map_err(corrupt)?;
        let root = tree.root().map_err(corrupt)?;
        let walk = Walk { dwarf: self, sections: &dwarf, unit: &unit, machine };
        let mut scopes = vec![walk.scope(root.entry(), false)?];
        walk.children(root, &mut scopes, 0, 0)?;
        scopes.reverse();
        Ok(scopes)
    }

    /// The sections, with location and range lists.
    fn with_lists(&self) -> Result<gimli::Dwarf<Slice<'_>>> {
        use SectionId::*;
        // gimli opens no unit whose line table it cannot see.
        const LISTS: [SectionId; 5] = [DebugLoc, DebugLocLists, DebugRanges, DebugRngLists, DebugLine];
        let mut dwarf = self.borrow();
        if self.functions.lists.get().is_none() {
            let object = object::File::parse(&self.file[..]).map_err(corrupt)?;
            let [a, b, c, d, e] = LISTS.map(|id| section_bytes(&object, &self.file, id));
            let _ = self.functions.lists.set([a?, b?, c?, d?, e?]);
        }
        let Some(lists) = self.functions.lists.get() else { return Ok(dwarf) };
        let [loc, loclists, ranges, rnglists, line] = [0, 1, 2, 3, 4].map(|at| self.slice(&lists[at]));
        dwarf.locations = gimli::LocationLists::new(loc.into(), loclists.into());
        dwarf.ranges = RangeLists::new(ranges.into(), rnglists.into());
        dwarf.debug_line = line.into();
        Ok(dwarf)
    }

    fn function_index(&self, dwarf: &gimli::Dwarf<Slice<'_>>) -> &[(u64, u64, usize)] {
        self.functions.index.get_or_init(|| {
            let of_unit = |&start: &usize| functions_of(dwarf, start).unwrap_or_default();
            let mut index: Vec<_> = self.units.par_iter().flat_map_iter(of_unit).collect();
            index.par_sort_unstable();
            index
        })
    }
}

/// Code ranges and DIEs of a Go unit's functions.
fn functions_of(dwarf: &gimli::Dwarf<Slice<'_>>, start: usize) -> gimli::Result<Vec<(u64, u64, usize)>> {
    let header = dwarf.debug_info.header_from_offset(gimli::DebugInfoOffset(start))?;
    let unit = dwarf.unit(header)?;
    let mut found = Vec::new();
    let mut entries = unit.entries_raw(None)?;
    let mut depth = 0isize;
    while !entries.is_empty() {
        let offset = start + entries.next_offset().0;
        let Some(abbreviation) = entries.read_abbreviation()? else {
            depth -= 1;
            continue;
        };
        let here = depth;
        depth += abbreviation.has_children() as isize;
        let is_function = here == 1 && abbreviation.tag() == dw::DW_TAG_subprogram;
        if here != 0 && !is_function {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let (mut low, mut high, mut size) = (None, None, None);
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            match attribute.name() {
                dw::DW_AT_language if attribute.value() != AttributeValue::Language(LANG_GO) => return Ok(found),
                dw::DW_AT_low_pc => low = dwarf.attr_address(&unit, attribute.value())?,
                dw::DW_AT_high_pc => match dwarf.attr_address(&unit, attribute.value())? {
                    Some(address) => high = Some(address),
                    None => size = attribute.udata_value(),
                },
                _ => {}
            }
        }
        let end = high.or_else(|| low?.checked_add(size?));
        if let (true, Some(low), Some(end)) = (is_function, low, end) {
            found.push((low, end, offset));
        }
    }
    Ok(found)
}

struct Walk<'a, 'w> {
    dwarf: &'w Dwarf,
    sections: &'w gimli::Dwarf<Slice<'a>>,
    unit: &'w gimli::Unit<Slice<'a>>,
    machine: &'w Machine<'w>,
}

type Entry<'a, 'e> = gimli::DebuggingInformationEntry<'e, 'e, Slice<'a>>;

impl<'a> Walk<'a, '_> {
    fn children(
        &self,
        node: gimli::EntriesTreeNode<'_, '_, '_, Slice<'a>>,
        scopes: &mut Vec<Scope>,
        depth: usize,
        nest: usize,
    ) -> Result<()> {
        let mut children = node.children();
        let at = scopes.len() - 1;
        while let Some(child) = children.next().map_err(corrupt)? {
            let entry = child.entry();
            match entry.tag() {
                dw::DW_TAG_formal_parameter | dw::DW_TAG_variable => {
                    if let Some(variable) = self.variable(entry, depth)? {
                        scopes[at].variables.push(variable);
                    }
                }
                dw::DW_TAG_lexical_block if nest < MAX_NEST && self.contains(entry) => {
                    self.children(child, scopes, depth + 1, nest + 1)?;
                }
                dw::DW_TAG_inlined_subroutine if nest < MAX_NEST && self.contains(entry) => {
                    scopes.push(self.scope(entry, true)?);
                    self.children(child, scopes, 0, nest + 1)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn contains(&self, entry: &Entry<'a, '_>) -> bool {
        let Ok(mut ranges) = self.sections.die_ranges(self.unit, entry) else { return false };
        while let Ok(Some(range)) = ranges.next() {
            if range.begin <= self.machine.pc && self.machine.pc < range.end {
                return true;
            }
        }
        false
    }

    fn scope(&self, entry: &Entry<'a, '_>, inlined: bool) -> Result<Scope> {
        let function = self.of_origin(entry, |entry, _| text(self.sections, entry, dw::DW_AT_name))?.unwrap_or("?");
        Ok(Scope { function: function.to_string(), inlined, variables: Vec::new() })
    }

    /// What a DIE, or the abstract one that it is an instance of, says.
    fn of_origin<T>(
        &self,
        entry: &Entry<'a, '_>,
        ask: impl Fn(&Entry<'a, '_>, &gimli::UnitHeader<Slice<'a>>) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        if let Some(said) = ask(entry, &self.unit.header)? {
            return Ok(Some(said));
        }
        let Some(origin) = reference(&self.unit.header, entry, dw::DW_AT_abstract_origin)? else { return Ok(None) };
        let (header, abbreviations) = self.dwarf.unit_of(self.sections, origin)?;
        let entry = entry_at(&header, &abbreviations, origin)?;
        ask(&entry, &header)
    }

    fn variable(&self, entry: &Entry<'a, '_>, depth: usize) -> Result<Option<Variable>> {
        let name = self.of_origin(entry, |entry, _| text(self.sections, entry, dw::DW_AT_name))?;
        let ty = self.of_origin(entry, |entry, header| reference(header, entry, dw::DW_AT_type))?;
        let (Some(name), Some(ty)) = (name, ty) else { return Ok(None) };
        // Nameless results are `~r0`; `.this` and the like are the compiler's.
        if name.is_empty() || name == "_" || name.starts_with(['~', '.']) {
            return Ok(None);
        }
        let line = self.of_origin(entry, |entry, _| number(entry, dw::DW_AT_decl_line))?.unwrap_or(0);
        let result = |entry: &Entry<'a, '_>, _: &gimli::UnitHeader<Slice<'a>>| {
            let flag = entry.attr_value(dw::DW_AT_variable_parameter).map_err(corrupt)?;
            Ok(matches!(flag, Some(AttributeValue::Flag(true))).then_some(()))
        };
        let role = match entry.tag() {
            dw::DW_TAG_variable => Role::Local,
            _ if self.of_origin(entry, result)?.is_some() => Role::Result,
            _ => Role::Argument,
        };
        let size = self.dwarf.load_type(ty as u64).map(|ty| ty.size)?;
        let (place, fixed) = match entry.attr_value(dw::DW_AT_location).map_err(corrupt)? {
            None => (Place::Lost(Lost::OptimisedOut), false),
            Some(AttributeValue::Exprloc(expression)) => (self.evaluate(expression, size), true),
            Some(list) => (self.listed(list, size)?, false),
        };
        let ty = TypeId::Dwarf(ty as u64);
        Ok(Some(Variable { name: name.to_string(), ty, role, line: line as u32, depth, fixed, place }))
    }

    /// The place that a location list gives at this PC.
    fn listed(&self, list: AttributeValue<Slice<'a>>, size: u64) -> Result<Place> {
        let Some(mut list) = self.sections.attr_locations(self.unit, list).map_err(corrupt)? else {
            return Ok(Place::Lost(Lost::OptimisedOut));
        };
        while let Some(entry) = list.next().map_err(corrupt)? {
            if entry.range.begin <= self.machine.pc && self.machine.pc < entry.range.end {
                return Ok(self.evaluate(entry.data, size));
            }
        }
        Ok(Place::Lost(Lost::OptimisedOut))
    }

    fn evaluate(&self, expression: gimli::Expression<Slice<'a>>, size: u64) -> Place {
        if expression.0.is_empty() {
            return Place::Lost(Lost::OptimisedOut);
        }
        match self.pieces(expression) {
            Ok(pieces) => self.assemble(&pieces, size),
            Err(why) => Place::Lost(why),
        }
    }

    /// Runs an expression; what it asks for and is not known ends it.
    fn pieces(&self, expression: gimli::Expression<Slice<'a>>) -> Result<Vec<gimli::Piece<Slice<'a>>>, Lost> {
        let unknown = |_| Lost::Unknown;
        let mut evaluation = expression.evaluation(self.unit.encoding());
        evaluation.set_max_iterations(MAX_OPERATIONS);
        let mut asked = evaluation.evaluate().map_err(unknown)?;
        loop {
            asked = match asked {
                EvaluationResult::Complete => return Ok(evaluation.result()),
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let bytes = self.machine.memory.bytes(address, size.min(8) as usize).map_err(|_| Lost::Unknown)?;
                    evaluation.resume_with_memory(Value::Generic(little(&bytes)))
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    let value = (self.machine.register)(register.0).ok_or(Lost::InRegister)?;
                    evaluation.resume_with_register(Value::Generic(value))
                }
                // The frame base of Go's functions is the canonical frame address (src/cmd/internal/dwarf/dwarf.go).
                EvaluationResult::RequiresFrameBase => evaluation.resume_with_frame_base(self.machine.cfa),
                EvaluationResult::RequiresCallFrameCfa => evaluation.resume_with_call_frame_cfa(self.machine.cfa),
                EvaluationResult::RequiresRelocatedAddress(address) => {
                    evaluation.resume_with_relocated_address(address.wrapping_add(self.machine.bias))
                }
                EvaluationResult::RequiresIndexedAddress { index, .. } => {
                    let address = self.sections.address(self.unit, index).map_err(unknown)?;
                    evaluation.resume_with_indexed_address(address.wrapping_add(self.machine.bias))
                }
                _ => return Err(Lost::Unknown),
            }
            .map_err(unknown)?;
        }
    }

    fn assemble(&self, pieces: &[gimli::Piece<Slice<'a>>], size: u64) -> Place {
        if let [gimli::Piece { size_in_bits: None, location: Location::Address { address }, .. }] = pieces {
            return Place::Memory(*address);
        }
        if size > MAX_PIECES {
            return Place::Lost(Lost::Unknown);
        }
        let (mut known, mut lost, mut at) = (Vec::new(), None, 0u64);
        for piece in pieces {
            let len = piece.size_in_bits.map_or(size, |bits| bits / 8).min(size.saturating_sub(at));
            match self.piece(piece, len as usize) {
                Ok(bytes) => known.push((at as usize, bytes)),
                Err(why) => lost = Some(lost.unwrap_or(why)),
            }
            at += len;
        }
        if at < size {
            lost = lost.or(Some(Lost::OptimisedOut));
        }
        match lost {
            None => Place::Bytes(known.into_iter().flat_map(|(_, bytes)| bytes).collect()),
            Some(why) if known.is_empty() => Place::Lost(why),
            Some(why) => Place::Part(known, why),
        }
    }

    fn piece(&self, piece: &gimli::Piece<Slice<'a>>, len: usize) -> Result<Vec<u8>, Lost> {
        let word = |value: u64| value.to_le_bytes().get(..len).map(<[u8]>::to_vec).ok_or(Lost::Unknown);
        match &piece.location {
            Location::Empty => Err(Lost::OptimisedOut),
            Location::Register { register: Register(number) } => {
                word((self.machine.register)(*number).ok_or(Lost::InRegister)?)
            }
            Location::Address { address } => {
                self.machine.memory.bytes(*address, len).map(|bytes| bytes.into_owned()).map_err(|_| Lost::Unknown)
            }
            Location::Value { value } => word(value.to_u64(u64::MAX).map_err(|_| Lost::Unknown)?),
            Location::Bytes { value } => value.slice().get(..len).map(<[u8]>::to_vec).ok_or(Lost::Unknown),
            Location::ImplicitPointer { .. } => Err(Lost::Unknown),
        }
    }
}

fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | byte as u64)
}
