//! The runtime's module data, found without symbols: by its own section, or by its pointer to the function
//! table, which has a section or a magic of its own.

use super::buildinfo::GoVersion;
use super::pclntab::{self, Bytes, FunctionTable, Parts};
use crate::files::Mapped;
use crate::layout::moduledata::{self as at, Offsets};
use crate::memory::Memory;
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection};
use std::ops::Range;
use std::sync::Arc;

/// A `runtime.moduledata`, as run-time addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleData {
    /// Where it is itself.
    pub address: u64,
    /// Code.
    pub text: Range<u64>,
    /// Initialised variables without pointers, and with.
    pub noptrdata: Range<u64>,
    pub data: Range<u64>,
    /// Variables that start as zero, with pointers, and without.
    pub bss: Range<u64>,
    pub noptrbss: Range<u64>,
    /// Which words of `data` and of `bss` hold pointers: address of the bitmap, and its length in bits.
    pub gcdatamask: (u64, u64),
    pub gcbssmask: (u64, u64),
    /// Type descriptors and their names.
    pub types: Range<u64>,
    /// Descriptors alone, one behind the other; Go 1.27 and later.
    pub descriptors: Option<Range<u64>>,
    /// The list of types that reflection may look for: address and count of int32 offsets; to Go 1.26.
    pub typelinks: Option<(u64, u64)>,
    /// Itabs that the compiler made.
    pub itabs: Itabs,
    /// Read-only data.
    pub rodata: u64,
    /// Base of FUNCDATA.
    pub gofunc: u64,
    /// The function table.
    pub pclntab: Range<u64>,
    /// Its name; empty but for plugins and shared libraries.
    pub name: String,
    /// The next module, if there is one.
    pub next: Option<u64>,
}

/// Where a module lists its itabs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Itabs {
    /// Pointers to them: address and count; to Go 1.26.
    Links(u64, u64),
    /// They themselves, one behind the other; Go 1.27 and later.
    Packed(Range<u64>),
}

/// A module with its function table.
#[derive(Debug)]
pub struct Module {
    /// Where everything is.
    pub data: ModuleData,
    /// Its functions.
    pub functions: FunctionTable,
}

/// Modules of one process at most; each plugin is one.
const MAX_MODULES: usize = 1 << 12;
/// Places that may be a function table, when sections do not tell.
const MAX_CANDIDATES: usize = 1 << 12;
/// Longer module names are garbage.
const MAX_NAME: u64 = 1 << 12;

/// The modules of the program in `file`, which runs in `memory` moved by `bias`; the program's own first.
pub fn find(file: &Arc<Mapped>, memory: &dyn Memory, bias: u64, version: &GoVersion) -> Result<Vec<Module>> {
    let first = first(file, memory, bias, version).ok_or_else(|| {
        Error::Binary(
            "the runtime's module data was not found in this process or core; is it the executable that was run, \
             and not a packed one?"
                .into(),
        )
    })?;
    let room = Room::of(file, memory, bias);
    let mut modules: Vec<Module> = Vec::new();
    let mut next = Some(first);
    while let Some(mut data) = next {
        data.clip(&room);
        let seen = modules.iter().any(|module| module.data.address == data.address);
        if seen || modules.len() == MAX_MODULES {
            break;
        }
        next = data.next.and_then(|address| ModuleData::read(memory, address, version));
        let functions = functions(file, memory, bias, &data, version);
        match functions {
            Ok(functions) => modules.push(Module { data, functions }),
            Err(error) if modules.is_empty() => return Err(error),
            Err(_) => {}
        }
    }
    Ok(modules)
}

fn first(file: &[u8], memory: &dyn Memory, bias: u64, version: &GoVersion) -> Option<ModuleData> {
    let object = object::File::parse(file).ok()?;
    let own = object.section_by_name(".go.module");
    let own = own.and_then(|section| ModuleData::read(memory, section.address().wrapping_add(bias), version));
    own.or_else(|| {
        let mut tables = function_tables(file, &object).into_iter();
        tables.find_map(|address| pointing_to(file, memory, bias, address.wrapping_add(bias), version))
    })
}

/// The table's bytes come from the file where it has them: that costs nothing, and a core may lack them.
fn functions(
    file: &Arc<Mapped>,
    memory: &dyn Memory,
    bias: u64,
    data: &ModuleData,
    version: &GoVersion,
) -> Result<FunctionTable> {
    let len = data.pclntab.end - data.pclntab.start;
    let linked = data.pclntab.start.wrapping_sub(bias);
    // Of the table only the header's unused `textStart` is relocated (PIE, to Go 1.25).
    let in_file = segments(file).into_iter().find_map(|segment| {
        let within = linked.checked_sub(segment.address)?;
        let whole = within.checked_add(len)? <= segment.file_size;
        let start = usize::try_from(segment.offset.checked_add(within)?).ok()?;
        whole.then_some(start..start.checked_add(len as usize)?)
    });
    let same = |range: &Range<usize>| {
        let head = memory.bytes(data.pclntab.start, crate::layout::pclntab::header::NFUNC);
        head.is_ok_and(|head| file.get(range.clone()).is_some_and(|bytes| bytes.starts_with(&head)))
    };
    let bytes = match in_file.filter(same) {
        Some(range) => Bytes::File(file.clone(), range),
        None => Bytes::Copied(memory.bytes(data.pclntab.start, len as usize)?.into_owned()),
    };
    FunctionTable::parse(bytes, data.text.start, version.number()).map_err(|error| Error::Binary(error.to_string()))
}

impl ModuleData {
    /// Reads the module data at `address`; `None` when it is not that.
    pub fn read(memory: &dyn Memory, address: u64, version: &GoVersion) -> Option<ModuleData> {
        let offsets = at::offsets(version.number());
        let bytes = memory.bytes(address, offsets.size as usize).ok()?;
        let words = Words(&bytes);
        let data = words.module(memory, address, offsets)?;
        data.is_sound(memory, &words).then_some(data)
    }

    /// The next module now: more come while a program runs.
    pub fn next_now(&self, memory: &dyn Memory, version: &GoVersion) -> Result<Option<u64>> {
        let next = memory.u64(self.address.wrapping_add(at::offsets(version.number()).next))?;
        Ok((next != 0).then_some(next))
    }

    /// Ends each part with variables where the memory ends that it begins in, whatever a torn word claims.
    fn clip(&mut self, room: &Room) {
        let ModuleData { noptrdata, data, bss, noptrbss, .. } = self;
        for part in [noptrdata, data, bss, noptrbss] {
            part.end = part.end.min(room.end(part.start)).max(part.start);
        }
    }

    /// Whether `pc` is in its code.
    pub fn has_code(&self, pc: u64) -> bool {
        self.text.contains(&pc)
    }

    /// Whether the parts agree with each other and with the function table's header.
    fn is_sound(&self, memory: &dyn Memory, words: &Words<'_>) -> bool {
        let pc_in_text = |offset| words.word(offset).is_some_and(|pc| self.text.start <= pc && pc <= self.text.end);
        let ranges = [&self.text, &self.types, &self.pclntab];
        let filled = ranges.iter().all(|range| range.start < range.end);
        let within = |part: &Range<u64>, whole: &Range<u64>| part.start >= whole.start && part.end <= whole.end;
        let descriptors = self.descriptors.as_ref().is_none_or(|part| within(part, &self.types));
        let header = memory.bytes(self.pclntab.start, crate::layout::pclntab::header::SIZE).ok();
        let parts = header.and_then(|header| Parts::read(&header).ok());
        // The header says the same as the slices, and `ftab` has one entry more than there are functions.
        let agrees = parts.is_some_and(|parts| {
            let at = |offset: u64| self.pclntab.start.checked_add(offset);
            words.word(at::FUNCNAMETAB) == at(parts.names)
                && words.word(at::PCLNTABLE) == at(parts.functions)
                && words.word(at::FTAB) == at(parts.functions)
                && words.word(at::FTAB + 8) == parts.count.checked_add(1)
        });
        filled && descriptors && agrees && pc_in_text(at::MINPC) && pc_in_text(at::MAXPC)
    }
}

/// Where memory ends: the executable's segments, and for other modules the readable ranges.
struct Room {
    segments: Vec<Range<u64>>,
    /// Adjacent ones joined; empty where the target does not tell.
    readable: Vec<Range<u64>>,
}

impl Room {
    /// Bytes of a part at most, where nothing tells how much memory there is.
    const UNKNOWN: u64 = 1 << 30;

    fn of(file: &[u8], memory: &dyn Memory, bias: u64) -> Room {
        let of = |segment: Segment| {
            let start = segment.address.wrapping_add(bias);
            start..start.saturating_add(segment.size)
        };
        let mut readable: Vec<Range<u64>> = Vec::new();
        for region in memory.regions() {
            match readable.last_mut() {
                Some(last) if last.end == region.start => last.end = region.end,
                _ => readable.push(region.start..region.end),
            }
        }
        Room { segments: segments(file).into_iter().map(of).collect(), readable }
    }

    /// The end of the memory that `start` is in; `start` itself where there is none.
    fn end(&self, start: u64) -> u64 {
        // The end of one part is the start of the next, which may be empty and at the very end.
        let holds = |range: &&Range<u64>| range.start <= start && start <= range.end;
        let own = self.segments.iter().filter(holds).map(|range| range.end).max();
        let end = own.or_else(|| self.readable.iter().filter(holds).map(|range| range.end).max());
        end.unwrap_or(if self.readable.is_empty() { start.saturating_add(Room::UNKNOWN) } else { start })
    }
}

/// The words of a struct.
struct Words<'b>(&'b [u8]);

impl Words<'_> {
    fn word(&self, offset: u64) -> Option<u64> {
        self.0.get(offset as usize..)?.get(..8).map(LE::read_u64)
    }

    fn pair(&self, offset: u64) -> Option<(u64, u64)> {
        Some((self.word(offset)?, self.word(offset.checked_add(8)?)?))
    }

    fn range(&self, offset: u64) -> Option<Range<u64>> {
        self.pair(offset).map(|(start, end)| start..end)
    }

    /// A bitvector: how many bits, and where.
    fn mask(&self, offset: u64) -> Option<(u64, u64)> {
        let (bits, address) = self.pair(offset)?;
        Some((address, bits & 0x7fff_ffff))
    }

    fn module(&self, memory: &dyn Memory, address: u64, offsets: &Offsets) -> Option<ModuleData> {
        let types = self.word(offsets.types)?..self.word(offsets.etypes)?;
        let descriptors = match offsets.typedesclen {
            Some(offset) => Some(types.start..types.start.checked_add(self.word(offset)?)?),
            None => None,
        };
        let itabs = match (offsets.itablinks, offsets.itaboffset) {
            (Some(links), _) => self.pair(links).map(|(start, count)| Itabs::Links(start, count))?,
            (None, Some(packed)) => {
                let (offset, size) = self.pair(packed)?;
                let start = types.start.checked_add(offset)?;
                Itabs::Packed(start..start.checked_add(size)?)
            }
            (None, None) => return None,
        };
        let (pclntable, pclntable_len) = self.pair(at::PCLNTABLE)?;
        let end = match offsets.epclntab {
            Some(end) => self.word(end)?,
            None => pclntable.checked_add(pclntable_len)?,
        };
        let (name, name_len) = self.pair(offsets.modulename)?;
        let name = memory.bytes(name, name_len.min(MAX_NAME) as usize).unwrap_or_default();
        Some(ModuleData {
            address,
            text: self.range(at::TEXT)?,
            noptrdata: self.range(at::NOPTRDATA)?,
            data: self.range(at::DATA)?,
            bss: self.range(at::BSS)?,
            noptrbss: self.range(at::NOPTRBSS)?,
            gcdatamask: self.mask(offsets.gcdatamask)?,
            gcbssmask: self.mask(offsets.gcdatamask.checked_add(16)?)?,
            types,
            descriptors,
            typelinks: offsets.typelinks.and_then(|offset| self.pair(offset)),
            itabs,
            rodata: self.word(offsets.rodata)?,
            gofunc: self.word(offsets.gofunc)?,
            pclntab: self.word(at::PC_HEADER)?..end,
            name: String::from_utf8_lossy(&name).into_owned(),
            next: self.word(offsets.next).filter(|&next| next != 0),
        })
    }
}

/// Link-time addresses of what may be a function table: by section name, else by magic.
fn function_tables(file: &[u8], object: &object::File<'_>) -> Vec<u64> {
    let named = [".gopclntab", ".data.rel.ro.gopclntab"].iter().filter_map(|name| object.section_by_name(name));
    let mut found: Vec<u64> = named.map(|section| section.address()).collect();
    if found.is_empty() {
        let segments = segments(file);
        for magic in crate::layout::pclntab::MAGICS {
            let magic = magic.to_le_bytes();
            let offsets = memchr::memmem::find_iter(file, &magic).take(MAX_CANDIDATES);
            let tables = offsets.filter(|&offset| is_table(file.get(offset..).unwrap_or_default()));
            found.extend(tables.filter_map(|offset| address_of(&segments, offset as u64)));
        }
    }
    found
}

/// Whether an executable has something that may be a function table of Go.
pub fn is_go(file: &[u8]) -> bool {
    object::File::parse(file).is_ok_and(|object| !function_tables(file, &object).is_empty())
}

fn is_table(bytes: &[u8]) -> bool {
    pclntab::has_magic(bytes) && Parts::read(bytes).is_ok()
}

struct Segment {
    address: u64,
    offset: u64,
    file_size: u64,
    size: u64,
    writable: bool,
}

/// The link-time address of a file offset.
fn address_of(segments: &[Segment], offset: u64) -> Option<u64> {
    segments.iter().find_map(|segment| {
        let within = offset.checked_sub(segment.offset)?;
        (within < segment.file_size).then(|| segment.address.wrapping_add(within))
    })
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

/// The module data among the program's writable data whose first word is the address of the function table.
fn pointing_to(file: &[u8], memory: &dyn Memory, bias: u64, table: u64, version: &GoVersion) -> Option<ModuleData> {
    const BLOCK: u64 = 1 << 20;
    for segment in segments(file).into_iter().filter(|segment| segment.writable) {
        // Pointers are aligned; segments are too, but for corrupt ones.
        let mut done = segment.address.wrapping_neg() & 7;
        // Only initialised data can hold it; a corrupt size is bounded by what the file has.
        let size = segment.file_size.min(segment.size).min(file.len() as u64);
        while done < size {
            let len = BLOCK.min(size - done);
            let start = segment.address.wrapping_add(bias).wrapping_add(done);
            done += len;
            let Ok(bytes) = memory.bytes(start, len as usize) else { continue };
            for (i, word) in bytes.chunks_exact(8).enumerate() {
                if LE::read_u64(word) == table {
                    let address = start.wrapping_add(8 * i as u64);
                    if let Some(data) = ModuleData::read(memory, address, version) {
                        return Some(data);
                    }
                }
            }
        }
    }
    None
}
