//! What the runtime's own tables (pclntab) say of a PC: function, file and line, inlined calls, frame size.

use crate::layout::goroutine::func;
use crate::memory::Memory;
use crate::session::Session;
use crate::{Error, Result};
use rustc_hash::FxHashMap;
use std::borrow::Cow;
use std::sync::Arc;

/// A place in the source.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Line {
    /// Function name, as the runtime prints it.
    pub func: Arc<str>,
    /// File, as the compiler recorded it.
    pub file: Arc<str>,
    /// Line; 0 when unknown.
    pub line: u32,
    /// Whether this call was inlined into the next line's function.
    pub inlined: bool,
}

/// All that is said of one PC.
#[derive(Debug, PartialEq, Eq)]
pub struct PcInfo {
    /// Start of the function.
    pub entry: u64,
    /// The innermost inlined call first, the function itself last; never empty.
    pub lines: Vec<Line>,
    /// Distance from SP to the frame's end (without the return address of amd64); `None` when not said.
    pub sp_delta: Option<u64>,
    /// Whether nothing called this function.
    pub top_frame: bool,
    /// Whether the function sets SP to what the tables do not say.
    pub writes_sp: bool,
}

impl PcInfo {
    /// Name of the function whose frame this is.
    pub fn func(&self) -> &str {
        self.lines.last().map_or("", |line| &line.func)
    }
}

/// The tables of one module.
struct Module<'a> {
    names: Cow<'a, [u8]>,
    units: Cow<'a, [u8]>,
    files: Cow<'a, [u8]>,
    values: Cow<'a, [u8]>,
    funcs: Cow<'a, [u8]>,
    index: Cow<'a, [u8]>,
    text: u64,
    end: u64,
    gofunc: u64,
}

/// The tables of all modules, and what was looked up so far.
pub struct Code<'a> {
    memory: &'a dyn Memory,
    modules: Vec<Module<'a>>,
    quantum: u64,
    func_size: usize,
    inline_trees: bool,
    names: FxHashMap<usize, Arc<str>>,
    files: FxHashMap<usize, Arc<str>>,
    known: FxHashMap<(u64, bool), Option<Arc<PcInfo>>>,
}

/// More modules than this is a broken list (plugins are modules).
const MAX_MODULES: usize = 1000;
/// Calls inlined into each other at one PC; a longer chain is a cycle.
const MAX_INLINED: usize = 200;
/// PCs remembered; garbage must not fill our memory.
const MAX_KNOWN: usize = 1 << 20;

impl<'a> Code<'a> {
    /// Reads where the tables are from `runtime.firstmoduledata`.
    pub fn of(session: &'a Session) -> Result<Code<'a>> {
        let memory = &*session.memory;
        let program = session.types.program();
        let go = program.go();
        let missing =
            || Error::Binary("the program has no runtime.firstmoduledata; its stacks cannot be walked".into());
        let (first, ty) = session.types.variable("runtime.firstmoduledata")?.ok_or_else(missing)?;
        let offset = |name: &str| -> Result<u64> {
            let field = session.types.field(ty, name)?;
            field
                .map(|f| f.0)
                .ok_or_else(|| Error::Type(format!("runtime.moduledata has no field {name} in this program")))
        };
        let mut modules = Vec::new();
        let mut at = first;
        while at != 0 && modules.len() < MAX_MODULES {
            let word = |name: &str| -> Result<u64> { Ok(memory.u64(at.wrapping_add(offset(name)?))?) };
            let slice = |name: &str, size: usize| -> Result<Cow<'a, [u8]>> {
                let header = at.wrapping_add(offset(name)?);
                let len = (memory.u64(header.wrapping_add(8))? as usize).checked_mul(size);
                let len =
                    len.ok_or_else(|| Error::Binary(format!("the module data's {name} has an impossible length")))?;
                Ok(memory.bytes(memory.u64(header)?, len)?)
            };
            modules.push(Module {
                names: slice("funcnametab", 1)?,
                units: slice("cutab", 4)?,
                files: slice("filetab", 1)?,
                values: slice("pctab", 1)?,
                funcs: slice("pclntable", 1)?,
                index: slice("ftab", 8)?,
                text: word("text")?,
                end: word("etext")?,
                gofunc: word("gofunc")?,
            });
            at = word("next")?;
        }
        Ok(Code {
            memory,
            modules,
            quantum: if program.is_arm() { 4 } else { 1 },
            func_size: func::size(go),
            inline_trees: go >= (1, 20),
            names: FxHashMap::default(),
            files: FxHashMap::default(),
            known: FxHashMap::default(),
        })
    }

    /// What is known of `pc`; of the call before it when `returned` (it is a return address).
    ///
    /// `None` when no Go function is there.
    pub fn at(&mut self, pc: u64, returned: bool) -> Option<Arc<PcInfo>> {
        if let Some(known) = self.known.get(&(pc, returned)) {
            return known.clone();
        }
        let found = self.find(pc, returned).map(Arc::new);
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert((pc, returned), found.clone());
        found
    }

    fn find(&mut self, pc: u64, returned: bool) -> Option<PcInfo> {
        let m = self.modules.iter().position(|m| (m.text..m.end).contains(&pc))?;
        let module = &self.modules[m];
        let (entry, record) = module.function(pc)?;
        let fixed = module.funcs.get(record..record.checked_add(self.func_size)?)?;
        let flag = fixed[self.func_size - 3];
        let word = |at: usize| u32_at(fixed, at);
        let value = |table: u32, pc: u64| module.value(table, entry, pc, self.quantum);
        let sp_delta = value(word(func::PCSP)?, pc).and_then(|v| u64::try_from(v).ok());
        let symbol_pc = if returned && pc > entry { pc - 1 } else { pc };
        let places = self.places(module, entry, record, symbol_pc)?;
        let unit = word(func::CU_OFFSET)? as usize;
        let (pcfile, pcln) = (word(func::PCFILE)?, word(func::PCLN)?);
        let raw: Vec<(usize, Option<usize>, u32, bool)> = places
            .into_iter()
            .map(|(name, pc, inlined)| {
                let file = value(pcfile, pc).and_then(|f| module.file_offset(unit, f));
                let line = value(pcln, pc).and_then(|l| u32::try_from(l).ok()).unwrap_or(0);
                (name, file, line, inlined)
            })
            .collect();
        let lines = raw
            .into_iter()
            .map(|(name, file, line, inlined)| Line {
                func: text(&mut self.names, &self.modules[m].names, m, Some(name)),
                file: text(&mut self.files, &self.modules[m].files, m, file),
                line,
                inlined,
            })
            .collect();
        Some(PcInfo {
            entry,
            lines,
            sp_delta,
            top_frame: flag & func::TOP_FRAME != 0,
            writes_sp: flag & func::SP_WRITE != 0,
        })
    }

    /// Name offset, PC and inlined-or-not of each call that `pc` stands for, innermost first.
    fn places(&self, module: &Module<'_>, entry: u64, record: usize, pc: u64) -> Option<Vec<(usize, u64, bool)>> {
        let mut places = Vec::new();
        let mut pc = pc;
        if let Some((table, tree)) = self.inline_tree(module, record).filter(|_| self.inline_trees) {
            while places.len() < MAX_INLINED {
                let Some(index) = module.value(table, entry, pc, self.quantum).and_then(|i| u64::try_from(i).ok())
                else {
                    break;
                };
                let at = tree.checked_add(index.checked_mul(func::INLINED_SIZE)?)?;
                let Ok(call) = self.memory.array::<{ func::INLINED_SIZE as usize }>(at) else { break };
                places.push((u32_at(&call, func::INLINED_NAME)? as usize, pc, true));
                pc = entry.checked_add(u64::from(u32_at(&call, func::INLINED_PARENT_PC)?))?;
            }
        }
        let name = u32_at(&module.funcs, record.checked_add(func::NAME)?)? as usize;
        places.push((name, pc, false));
        Some(places)
    }

    /// The table of inline indices of the function at `record`, and the address of its tree.
    fn inline_tree(&self, module: &Module<'_>, record: usize) -> Option<(u32, u64)> {
        let pcdata = u32_at(&module.funcs, record.checked_add(func::NPCDATA)?)?;
        let funcdata = *module.funcs.get(record + self.func_size - 1)?;
        if pcdata <= func::PCDATA_INLINE || u32::from(funcdata) <= func::FUNCDATA_INLINE {
            return None;
        }
        let words = record + self.func_size;
        let table = u32_at(&module.funcs, words + 4 * func::PCDATA_INLINE as usize)?;
        let tree = u32_at(&module.funcs, words + 4 * (pcdata as usize + func::FUNCDATA_INLINE as usize))?;
        (table != 0 && tree != u32::MAX).then(|| (table, module.gofunc.wrapping_add(tree.into())))
    }
}

impl Module<'_> {
    /// Entry address and offset of the `_func` record of the function that contains `pc`.
    fn function(&self, pc: u64) -> Option<(u64, usize)> {
        let target = u32::try_from(pc.checked_sub(self.text)?).ok()?;
        // The last row only marks the end.
        let rows = (self.index.len() / 8).checked_sub(1)?;
        let entry = |row: usize| u32_at(&self.index, row * 8).unwrap_or(u32::MAX);
        let (mut low, mut high) = (0, rows);
        while low < high {
            let middle = low + (high - low) / 2;
            if entry(middle) <= target {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let row = low.checked_sub(1)?;
        let record = u32_at(&self.index, row * 8 + 4)? as usize;
        Some((self.text.checked_add(entry(row).into())?, record))
    }

    /// The value at `pc` of the table at offset `table` of pctab (src/runtime/symtab.go `pcvalue`).
    fn value(&self, table: u32, entry: u64, pc: u64, quantum: u64) -> Option<i32> {
        if table == 0 {
            return None;
        }
        let mut rest = self.values.get(table as usize..)?;
        let (mut at, mut value) = (entry, -1i32);
        let mut first = true;
        loop {
            let delta = varint(&mut rest)?;
            if delta == 0 && !first {
                return None;
            }
            first = false;
            let signed = if delta & 1 != 0 { !(delta >> 1) } else { delta >> 1 } as i32;
            value = value.wrapping_add(signed);
            at = at.checked_add(u64::from(varint(&mut rest)?) * quantum)?;
            if pc < at {
                return Some(value);
            }
        }
    }

    fn file_offset(&self, unit: usize, file: i32) -> Option<usize> {
        let row = unit.checked_add(usize::try_from(file).ok()?)?;
        u32_at(&self.units, row.checked_mul(4)?).filter(|&at| at != u32::MAX).map(|at| at as usize)
    }
}

/// A NUL-terminated text at `at` of a table, made once per module and offset.
fn text(known: &mut FxHashMap<usize, Arc<str>>, table: &[u8], module: usize, at: Option<usize>) -> Arc<str> {
    const LONGEST: usize = 1 << 16;
    let Some(start) = at else { return "?".into() };
    let key = start ^ (module << 48);
    known
        .entry(key)
        .or_insert_with(|| {
            let rest = table.get(start..).unwrap_or_default();
            let rest = &rest[..rest.len().min(LONGEST)];
            let end = memchr::memchr(0, rest).unwrap_or(0);
            String::from_utf8_lossy(&rest[..end]).into()
        })
        .clone()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
