//! The runtime's module data and function table, found without symbols: `runtime.moduledata` by its own
//! section or by its pointer to the pclntab, the tables through the pointers it holds.
//!
//! Source: src/runtime/symtab.go go1.19 to 1.27; the pclntab has had one format since 1.18 but for its magic.

use super::buildinfo::GoVersion;
use crate::layout::moduledata as at;
use crate::memory::Memory;
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection};

/// `runtime.firstmoduledata` as far as it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its target address.
    pub address: u64,
    /// Code of the module: `[text, etext)`.
    pub text: u64,
    pub etext: u64,
    /// Type descriptors lie in `[types, etypes)`.
    pub types: u64,
    pub etypes: u64,
    /// Address and length of `typelinks`, before 1.27.
    pub typelinks: Option<(u64, u64)>,
    /// Bytes of descriptors from `types` on, since 1.27.
    pub typedesclen: Option<u64>,
    ftab: (u64, u64),
    pclntable: u64,
    funcnametab: (u64, u64),
    pctab: (u64, u64),
    cutab: (u64, u64),
    filetab: (u64, u64),
}

/// A function of the pclntab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// First address of its code.
    pub entry: u64,
    /// Its name, as in tracebacks.
    pub name: String,
    /// Target address of its `runtime._func`.
    record: u64,
}

/// First bytes of a pclntab: magic of 1.18 and 1.19, or of 1.20 to 1.27; two zeros; instruction quantum; pointer size.
const MAGICS: [u32; 2] = [0xffff_fff0, 0xffff_fff1];
/// Names longer than this are garbage.
const MAX_NAME: usize = 1 << 14;
/// Steps of one pc-value table; a real function has far fewer.
const MAX_STEPS: usize = 1 << 20;

impl Module {
    /// Finds and reads the module data of the program in `file`, which runs in `memory` moved by `bias`.
    pub fn find(file: &[u8], memory: &dyn Memory, bias: u64, version: &GoVersion) -> Result<Module> {
        let lost = || Error::Binary("the runtime's module data was not found in this process or core".into());
        let object = object::File::parse(file).map_err(|_| lost())?;
        if let Some(section) = object.section_by_name(".go.module") {
            if let Some(module) = Module::read(memory, section.address().wrapping_add(bias), version) {
                return Ok(module);
            }
        }
        let tables = pclntabs(file, &object);
        for address in tables {
            if let Some(module) = pointing_to(file, memory, bias, address.wrapping_add(bias), version) {
                return Ok(module);
            }
        }
        Err(lost())
    }

    /// Reads the module data at `address`; `None` when it is not that.
    fn read(memory: &dyn Memory, address: u64, version: &GoVersion) -> Option<Module> {
        let later = at::later(version.number());
        let word = |offset: u64| memory.u64(address.checked_add(offset)?).ok();
        let slice = |offset: u64| Some((word(offset)?, word(offset + 8)?));
        let module = Module {
            address,
            text: word(at::TEXT)?,
            etext: word(at::ETEXT)?,
            types: word(later.types)?,
            etypes: word(later.etypes)?,
            typelinks: later.typelinks.and_then(slice),
            typedesclen: later.typedesclen.and_then(word),
            ftab: slice(at::FTAB)?,
            pclntable: word(at::PCLNTABLE)?,
            funcnametab: slice(at::FUNCNAMETAB)?,
            pctab: slice(at::PCTAB)?,
            cutab: slice(at::CUTAB)?,
            filetab: slice(at::FILETAB)?,
        };
        let (minpc, maxpc) = (word(at::MINPC)?, word(at::MAXPC)?);
        let sound = module.text < module.etext
            && (module.text..=module.etext).contains(&minpc)
            && (minpc..=module.etext).contains(&maxpc)
            && module.types < module.etypes
            && module.ftab.1 > 1
            && module.ftab.1 < module.etext - module.text;
        let header = memory.u32(word(0)?).ok()?;
        (sound && MAGICS.contains(&header)).then_some(module)
    }

    /// The function whose code contains `pc`.
    pub fn function_at(&self, memory: &dyn Memory, pc: u64) -> Option<Function> {
        if !(self.text..self.etext).contains(&pc) {
            return None;
        }
        let wanted = u32::try_from(pc - self.text).ok()?;
        // The last entry only marks the end.
        let (mut low, mut high) = (0, self.ftab.1.checked_sub(1)?);
        while low < high {
            let middle = low + (high - low) / 2;
            match memory.u32(self.ftab.0.checked_add(8 * middle)?).ok()? <= wanted {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        self.function(memory, low.checked_sub(1)?)
    }

    /// Function number `index` in order of address.
    fn function(&self, memory: &dyn Memory, index: u64) -> Option<Function> {
        let [entry, offset] = self.entry(memory, index)?;
        let record = self.pclntable.checked_add(offset as u64)?;
        let name_offset = memory.u32(record.checked_add(4)?).ok()? as u64;
        let name =
            (name_offset < self.funcnametab.1).then(|| text(memory, self.funcnametab.0 + name_offset)).flatten()?;
        Some(Function { entry: self.text + entry as u64, name, record })
    }

    fn entry(&self, memory: &dyn Memory, index: u64) -> Option<[u32; 2]> {
        let words = memory.array::<8>(self.ftab.0.checked_add(8 * index)?).ok()?;
        Some([LE::read_u32(&words), LE::read_u32(&words[4..])])
    }

    /// Calls `f` with every function, by address, until it returns `false`.
    pub fn each_function(&self, memory: &dyn Memory, mut f: impl FnMut(&Function) -> bool) {
        let functions = (0..self.ftab.1 - 1).filter_map(|index| self.function(memory, index));
        for function in functions {
            if !f(&function) {
                return;
            }
        }
    }

    /// The function named `name`, and the size of its code.
    pub fn function_named(&self, memory: &dyn Memory, name: &str) -> Option<(Function, u64)> {
        for index in 0..self.ftab.1 - 1 {
            let function = self.function(memory, index);
            if let Some(function) = function.filter(|function| function.name == name) {
                let [next, _] = self.entry(memory, index + 1)?;
                let size = (self.text + next as u64).saturating_sub(function.entry);
                return Some((function, size));
            }
        }
        None
    }

    /// Source file and line of the instruction at `pc` in `function`.
    pub fn file_line(&self, memory: &dyn Memory, function: &Function, pc: u64) -> Option<(String, u32)> {
        let word = |offset: u64| memory.u32(function.record.checked_add(offset)?).ok();
        // runtime._func: pcfile 20, pcln 24, cuOffset 32.
        let (pcfile, pcln, cu) = (word(20)?, word(24)?, word(32)?);
        let line = self.value(memory, function.entry, pcln, pc)?;
        let file = self.value(memory, function.entry, pcfile, pc)?;
        let index = (cu as u64).checked_add(u64::try_from(file).ok()?)?;
        let offset = (index < self.cutab.1).then(|| memory.u32(self.cutab.0.checked_add(4 * index)?).ok()).flatten()?;
        let name = (offset as u64) < self.filetab.1;
        Some((name.then(|| text(memory, self.filetab.0 + offset as u64)).flatten()?, u32::try_from(line).ok()?))
    }

    /// How many bytes the stack pointer is below its value at entry when `pc` is about to run (pcsp).
    pub fn stack_delta(&self, memory: &dyn Memory, function: &Function, pc: u64) -> Option<i64> {
        let pcsp = memory.u32(function.record.checked_add(16)?).ok()?;
        self.value(memory, function.entry, pcsp, pc).map(i64::from)
    }

    /// The value of a pc-value table at `pc`: pairs of a zigzag value delta and a pc delta, both varints.
    fn value(&self, memory: &dyn Memory, entry: u64, table: u32, pc: u64) -> Option<i32> {
        if table == 0 || table as u64 >= self.pctab.1 {
            return None;
        }
        let mut reader = Varints { memory, at: self.pctab.0 + table as u64, end: self.pctab.0 + self.pctab.1 };
        let (mut value, mut reached) = (-1i32, entry);
        for step in 0..MAX_STEPS {
            let delta = reader.next()?;
            if delta == 0 && step > 0 {
                return None;
            }
            value = value.wrapping_add((delta >> 1) as i32 ^ -((delta & 1) as i32));
            reached = reached.checked_add(reader.next()? as u64)?;
            if pc < reached {
                return Some(value);
            }
        }
        None
    }
}

struct Varints<'m> {
    memory: &'m dyn Memory,
    at: u64,
    end: u64,
}

impl Varints<'_> {
    fn next(&mut self) -> Option<u32> {
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            if self.at >= self.end {
                return None;
            }
            let byte = self.memory.u8(self.at).ok()?;
            self.at += 1;
            value |= ((byte & 0x7f) as u32) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// The NUL-terminated text at `address`.
fn text(memory: &dyn Memory, address: u64) -> Option<String> {
    let mut name = Vec::new();
    while name.len() < MAX_NAME {
        let at = address.checked_add(name.len() as u64)?;
        let chunk =
            memory.array::<16>(at).map(|bytes| bytes.to_vec()).or_else(|_| memory.u8(at).map(|byte| vec![byte]));
        let chunk = chunk.ok()?;
        match chunk.iter().position(|&byte| byte == 0) {
            Some(end) => {
                name.extend_from_slice(&chunk[..end]);
                return String::from_utf8(name).ok();
            }
            None => name.extend_from_slice(&chunk),
        }
    }
    None
}

/// Link-time addresses of what may be a pclntab: by section name, else by magic.
fn pclntabs(file: &[u8], object: &object::File<'_>) -> Vec<u64> {
    let named = [".gopclntab", ".data.rel.ro.gopclntab"].iter().filter_map(|name| object.section_by_name(name));
    let mut found: Vec<u64> = named.map(|section| section.address()).collect();
    if found.is_empty() {
        for magic in MAGICS {
            let needle = [&magic.to_le_bytes()[..], &[0, 0]].concat();
            for offset in memchr::memmem::find_iter(file, &needle).take(1 << 12) {
                let rest = file.get(offset + 6..offset + 8);
                if rest.is_some_and(|rest| matches!(rest[0], 1 | 2 | 4) && rest[1] == 8) {
                    found.extend(address_of(file, offset as u64));
                }
            }
        }
    }
    found
}

/// The link-time address of a file offset.
fn address_of(file: &[u8], offset: u64) -> Option<u64> {
    segments(file).into_iter().find_map(|segment| {
        let within = offset.checked_sub(segment.offset)?;
        (within < segment.file_size).then(|| segment.address.wrapping_add(within))
    })
}

struct Segment {
    address: u64,
    offset: u64,
    file_size: u64,
    size: u64,
    writable: bool,
}

fn segments(file: &[u8]) -> Vec<Segment> {
    let Ok(header) = super::elf::Header::parse(file) else { return Vec::new() };
    let Ok(headers) = header.program_headers(LittleEndian, file) else { return Vec::new() };
    let loads = headers.iter().filter(|h| h.p_type(LittleEndian) == object::elf::PT_LOAD);
    loads
        .map(|h| Segment {
            address: h.p_vaddr(LittleEndian),
            offset: h.p_offset(LittleEndian),
            file_size: h.p_filesz(LittleEndian),
            size: h.p_memsz(LittleEndian),
            writable: h.p_flags(LittleEndian).contains(object::elf::PF_W),
        })
        .collect()
}

/// The module data among the program's writable data whose first word is the address of the pclntab.
fn pointing_to(file: &[u8], memory: &dyn Memory, bias: u64, pclntab: u64, version: &GoVersion) -> Option<Module> {
    const BLOCK: u64 = 1 << 20;
    for segment in segments(file).into_iter().filter(|segment| segment.writable) {
        let mut done = 0;
        // Only initialised data can hold it; a corrupt size is bounded by what the file has.
        let size = segment.file_size.min(segment.size);
        while done < size {
            let len = BLOCK.min(size - done);
            let start = segment.address.wrapping_add(bias).wrapping_add(done);
            done += len;
            let Ok(bytes) = memory.bytes(start, len as usize) else { continue };
            for (i, word) in bytes.chunks_exact(8).enumerate() {
                if LE::read_u64(word) == pclntab {
                    if let Some(module) = Module::read(memory, start + 8 * i as u64, version) {
                        return Some(module);
                    }
                }
            }
        }
    }
    None
}
