//! The function table that every Go binary carries, stripped or not: names, code, files and lines, stack
//! depths, inlined calls. One reader over the table's bytes, formats of Go 1.18 to 1.27.

use crate::files::Mapped;
use crate::layout::pclntab::{self as layout, func, header, Offsets};
use crate::memory::{Memory, MemoryError};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Steps of one pc-value table at most; a real function has far fewer.
const MAX_STEPS: usize = 1 << 20;
/// Calls inlined into each other at one place; the compiler stops far earlier.
const MAX_INLINED: usize = 1 << 10;

/// Where the table's bytes are.
#[derive(Debug, Clone)]
pub enum Bytes {
    /// A part of the executable; the table is read-only and needs no relocation, so it is the same in memory.
    File(Arc<Mapped>, Range<usize>),
    /// Copied from the target.
    Copied(Vec<u8>),
}

impl Bytes {
    fn get(&self) -> &[u8] {
        match self {
            Bytes::File(file, range) => file.get(range.clone()).unwrap_or_default(),
            Bytes::Copied(bytes) => bytes,
        }
    }
}

/// Why bytes are no function table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It ends inside the header.
    #[error("the function table is cut off before its header ends; use the executable that was run")]
    Short,
    /// The fixed bytes of the header are not there.
    #[error("there is no function table of Go 1.18 or later here; is it a Go program, and not packed?")]
    Header,
    /// The header names parts outside the table, or in another order than the linker writes them.
    #[error("the function table's header contradicts itself; the binary is corrupt")]
    Parts,
}

/// A function table.
#[derive(Debug)]
pub struct FunctionTable {
    bytes: Bytes,
    /// Run-time address that entries are offsets from.
    text: u64,
    offsets: &'static Offsets,
    /// Functions in it; `ftab` has one more entry that marks the end.
    count: usize,
    names: Range<usize>,
    files_of_units: Range<usize>,
    files: Range<usize>,
    pc_values: Range<usize>,
    /// `ftab`, then the functions' records.
    functions: Range<usize>,
    /// Number of each function by the offset of its name, sorted.
    by_name: OnceLock<Vec<(u32, u32)>>,
}

/// Offsets of the parts that a table's header names, each from the header's start, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts {
    /// Functions in the table.
    pub count: u64,
    /// `funcnametab`.
    pub names: u64,
    /// `cutab`.
    pub files_of_units: u64,
    /// `filetab`.
    pub files: u64,
    /// `pctab`.
    pub pc_values: u64,
    /// `pclntable`, which begins with `ftab`.
    pub functions: u64,
}

impl Parts {
    /// Reads the header at the start of `bytes`. Obfuscators change its magic, so that is left to [`has_magic`].
    pub fn read(bytes: &[u8]) -> Result<Parts, TableError> {
        let head = bytes.get(..header::SIZE).ok_or(TableError::Short)?;
        let quantum = head[header::QUANTUM];
        let fixed = head[header::PADDING..header::QUANTUM] == [0, 0] && head[header::POINTER_SIZE] == 8;
        if !fixed || !matches!(quantum, 1 | 2 | 4) {
            return Err(TableError::Header);
        }
        let word = |at: usize| LE::read_u64(&head[at..]);
        let parts = Parts {
            count: word(header::NFUNC),
            names: word(header::FUNCNAME_OFFSET),
            files_of_units: word(header::CU_OFFSET),
            files: word(header::FILETAB_OFFSET),
            pc_values: word(header::PCTAB_OFFSET),
            functions: word(header::PCLN_OFFSET),
        };
        let in_order = [header::SIZE as u64, parts.names, parts.files_of_units, parts.files, parts.pc_values];
        let in_order = in_order.windows(2).all(|pair| pair[0] <= pair[1]) && parts.pc_values <= parts.functions;
        // A function takes at least its eight bytes of `ftab`.
        let sane = in_order && parts.count > 0 && parts.count < u32::MAX as u64 && parts.functions < 1 << 40;
        sane.then_some(parts).ok_or(TableError::Parts)
    }
}

/// Whether a function table of a plain Go linker starts here.
pub fn has_magic(bytes: &[u8]) -> bool {
    bytes.get(..4).is_some_and(|magic| layout::MAGICS.contains(&LE::read_u32(magic)))
}

impl FunctionTable {
    /// Reads a table that starts with `bytes` (more may follow it), of a program of Go version `go` whose
    /// code starts at the run-time address `text` (`moduledata.text`).
    pub fn parse(bytes: Bytes, text: u64, go: (u32, u32)) -> Result<FunctionTable, TableError> {
        let data = bytes.get();
        let parts = Parts::read(data)?;
        let part = |start: u64, end: u64| -> Result<Range<usize>, TableError> {
            let range = start as usize..end as usize;
            data.get(range.clone()).map(|_| range).ok_or(TableError::Parts)
        };
        let count = parts.count as usize;
        let functions = part(parts.functions, data.len() as u64)?;
        if count.checked_mul(8).and_then(|size| size.checked_add(4)).is_none_or(|size| size > functions.len()) {
            return Err(TableError::Parts);
        }
        Ok(FunctionTable {
            text,
            offsets: layout::offsets(go),
            count,
            names: part(parts.names, parts.files_of_units)?,
            files_of_units: part(parts.files_of_units, parts.files)?,
            files: part(parts.files, parts.pc_values)?,
            pc_values: part(parts.pc_values, parts.functions)?,
            functions,
            by_name: OnceLock::new(),
            bytes,
        })
    }

    /// How many functions there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none; a table that was parsed has one at least.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The function whose code contains the run-time address `pc`.
    pub fn function_at(&self, pc: u64) -> Option<Function<'_>> {
        let wanted = u32::try_from(pc.checked_sub(self.text)?).ok()?;
        let ftab = self.part(&self.functions).get(..8 * self.count + 4)?;
        let entry = |index: usize| ftab.get(8 * index..8 * index + 4).map(LE::read_u32);
        if wanted >= entry(self.count)? {
            return None;
        }
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            match entry(middle)? <= wanted {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        self.function(low.checked_sub(1)?)
    }

    /// The function named `name`, as tracebacks spell it; the one with the lowest address if there are several.
    pub fn function_named(&self, name: &str) -> Option<Function<'_>> {
        let names = self.part(&self.names);
        let needle = [name.as_bytes(), &[0]].concat();
        let mut starts = memchr::memmem::find_iter(names, &needle);
        // A longer name may end with this one.
        let at = starts.find(|&at| at == 0 || names[at - 1] == 0)? as u32;
        let by_name = self.by_name.get_or_init(|| {
            let mut by_name: Vec<(u32, u32)> =
                self.functions().map(|f| (f.u32(func::NAME).unwrap_or(u32::MAX), f.index as u32)).collect();
            by_name.sort_unstable();
            by_name
        });
        let found = by_name.get(by_name.partition_point(|&(name, _)| name < at))?;
        (found.0 == at).then(|| self.function(found.1 as usize)).flatten()
    }

    /// Every function, by address.
    pub fn functions(&self) -> impl Iterator<Item = Function<'_>> {
        (0..self.count).filter_map(|index| self.function(index))
    }

    /// What was running at `pc`, innermost inlined call first, the function that has the code last. For the
    /// return address of a call give the byte before it. Inline trees are at `gofunc` (`moduledata.gofunc`).
    pub fn frames(&self, pc: u64, memory: &dyn Memory, gofunc: u64) -> Result<Vec<Frame>, MemoryError> {
        let mut frames = Vec::new();
        let Some(function) = self.function_at(pc) else { return Ok(frames) };
        let mut pc = pc;
        while frames.len() < MAX_INLINED {
            let (file, line) = function.file_line(pc).unzip();
            let Some(call) = function.inlined_call(pc, memory, gofunc)? else {
                frames.push(Frame {
                    function: function.name().into_owned(),
                    file,
                    line,
                    inlined: false,
                    id: function.id(),
                });
                break;
            };
            let name = self.name(call.name).into_owned();
            frames.push(Frame { function: name, file, line, inlined: true, id: call.id });
            pc = function.entry.wrapping_add(call.parent_pc as u64);
        }
        Ok(frames)
    }

    /// Function number `index` in order of address.
    fn function(&self, index: usize) -> Option<Function<'_>> {
        let functions = self.part(&self.functions);
        let [entry, record, end] =
            [0, 4, 8].map(|at| functions.get(8 * index + at..8 * index + at + 4).map(LE::read_u32));
        let record = record? as usize;
        functions.get(record..record.checked_add(self.offsets.func_size)?)?;
        let address = |offset: u32| self.text.checked_add(offset as u64);
        Some(Function { table: self, index, entry: address(entry?)?, end: address(end?)?, record })
    }

    fn part(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get().get(range.clone()).unwrap_or_default()
    }

    fn name(&self, offset: u32) -> Cow<'_, str> {
        text(self.part(&self.names), offset).unwrap_or(Cow::Borrowed("?"))
    }
}

/// A function of a table.
#[derive(Debug, Clone, Copy)]
pub struct Function<'t> {
    table: &'t FunctionTable,
    index: usize,
    /// First run-time address of its code.
    pub entry: u64,
    /// Address of the next function; padding may lie before it.
    pub end: u64,
    /// Offset of its `_func` from `pclntable`.
    record: usize,
}

/// One level of inlined calls at an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The function's name, as in tracebacks.
    pub function: String,
    /// Source file, as the compiler knew it.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
    /// Whether the compiler put its code into its caller's.
    pub inlined: bool,
    /// `abi.FuncID`; 0 for a function with no special part in the runtime.
    pub id: u8,
}

struct InlinedCall {
    name: u32,
    parent_pc: u32,
    id: u8,
}

impl<'t> Function<'t> {
    /// Its name, as in tracebacks: with the whole package path.
    pub fn name(&self) -> Cow<'t, str> {
        self.u32(func::NAME).map_or(Cow::Borrowed("?"), |offset| self.table.name(offset))
    }

    /// Size of its code in bytes, padding included.
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.entry)
    }

    /// Bytes of arguments and results on the stack; `None` when it varies (assembly).
    pub fn args_size(&self) -> Option<u32> {
        // ArgsSizeUnknown is the lowest int32.
        self.u32(func::ARGS).filter(|&size| size != 1 << 31)
    }

    /// Line of the `func` keyword; Go 1.20 and later.
    pub fn start_line(&self) -> Option<u32> {
        self.u32(self.table.offsets.start_line?)
    }

    /// Address of the call of `deferreturn`, where a recovered panic goes on; `None` without defers.
    pub fn defer_return(&self) -> Option<u64> {
        let offset = self.u32(func::DEFER_RETURN).filter(|&offset| offset != 0)?;
        self.entry.checked_add(offset as u64)
    }

    /// `abi.FuncID`: 0, or the part it has in the runtime; numbers differ between versions.
    pub fn id(&self) -> u8 {
        self.byte(self.table.offsets.func_id)
    }

    /// `abi.FuncFlag`: 1 the outermost frame of a stack, 2 writes SP in odd ways, 4 assembly.
    pub fn flags(&self) -> u8 {
        self.byte(self.table.offsets.func_id + 1)
    }

    /// Source file and line of the instruction at `pc`.
    pub fn file_line(&self, pc: u64) -> Option<(String, u32)> {
        let line = self.value(self.u32(func::PCLN)?, pc)?;
        let file = self.value(self.u32(func::PCFILE)?, pc)?;
        let index = (self.u32(func::CU)? as usize).checked_add(usize::try_from(file).ok()?)?;
        let units = self.table.part(&self.table.files_of_units);
        let offset = units.get(index.checked_mul(4)?..)?.get(..4).map(LE::read_u32)?;
        Some((text(self.table.part(&self.table.files), offset)?.into_owned(), u32::try_from(line).ok()?))
    }

    /// How many bytes the stack pointer is below its value at entry when the instruction at `pc` is about to
    /// run; the return address is at that distance from it (amd64).
    pub fn stack_delta(&self, pc: u64) -> Option<i64> {
        self.value(self.u32(func::PCSP)?, pc).map(i64::from)
    }

    /// The value of the PCDATA table number `index` at `pc`.
    pub fn pcdata(&self, index: u32, pc: u64) -> Option<i32> {
        let table = (index < self.u32(func::NPCDATA)?).then_some(index as usize)?;
        self.value(self.u32(self.table.offsets.func_size + 4 * table)?, pc)
    }

    /// Run-time address of the FUNCDATA number `index`.
    pub fn funcdata(&self, index: u32, gofunc: u64) -> Option<u64> {
        if index >= self.byte(self.table.offsets.nfuncdata) as u32 {
            return None;
        }
        let place = (self.u32(func::NPCDATA)? as usize).checked_add(index as usize)?.checked_mul(4)?;
        let offset = self.u32(self.table.offsets.func_size.checked_add(place)?)?;
        (offset != layout::NO_FUNCDATA).then(|| gofunc.checked_add(offset as u64)).flatten()
    }

    /// The inlined call that the instruction at `pc` belongs to, if any.
    fn inlined_call(&self, pc: u64, memory: &dyn Memory, gofunc: u64) -> Result<Option<InlinedCall>, MemoryError> {
        let index = self.pcdata(layout::PCDATA_INL_TREE, pc).and_then(|index| u64::try_from(index).ok());
        let (Some(index), Some(tree)) = (index, self.funcdata(layout::FUNCDATA_INL_TREE, gofunc)) else {
            return Ok(None);
        };
        let offsets = self.table.offsets;
        let call = tree.wrapping_add(index * offsets.inlined_size);
        Ok(Some(InlinedCall {
            name: memory.u32(call.wrapping_add(offsets.inlined_name))?,
            parent_pc: memory.u32(call.wrapping_add(offsets.inlined_parent_pc))?,
            id: memory.u8(call.wrapping_add(offsets.inlined_func_id))?,
        }))
    }

    /// The value of a pc-value table at `pc`: pairs of a zigzag value delta and a pc delta, both varints.
    fn value(&self, table: u32, pc: u64) -> Option<i32> {
        let pc_values = self.table.part(&self.table.pc_values);
        // Offset 0 says that there is no table.
        let mut rest = pc_values.get(table as usize..).filter(|_| table != 0)?;
        let quantum = *self.table.bytes.get().get(header::QUANTUM)? as u64;
        let (mut value, mut reached) = (-1i32, self.entry);
        for step in 0..MAX_STEPS {
            let delta = varint(&mut rest)?;
            if delta == 0 && step > 0 {
                return None;
            }
            value = value.wrapping_add((delta >> 1) as i32 ^ -((delta & 1) as i32));
            reached = reached.checked_add(varint(&mut rest)? as u64 * quantum)?;
            if pc < reached {
                return Some(value);
            }
        }
        None
    }

    fn u32(&self, offset: usize) -> Option<u32> {
        let start = self.record.checked_add(offset)?;
        self.table.part(&self.table.functions).get(start..start.checked_add(4)?).map(LE::read_u32)
    }

    fn byte(&self, offset: usize) -> u8 {
        self.table.part(&self.table.functions).get(self.record + offset).copied().unwrap_or(0)
    }
}

/// The NUL-terminated text at `offset`.
fn text(part: &[u8], offset: u32) -> Option<Cow<'_, str>> {
    let rest = part.get(offset as usize..)?;
    Some(String::from_utf8_lossy(&rest[..memchr::memchr(0, rest)?]))
}

/// A number of up to five groups of seven bits, taken from the front.
fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= ((byte & 0x7f) as u32) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
