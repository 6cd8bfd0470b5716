//! A core file, mapped and read in place.
//!
//! A kernel core leaves out pages that a file can supply (text, read-only data); those come from the
//! files named in its NT_FILE note, after their build IDs have been compared.

use super::{Memory, MemoryError, Place, Region, Thread};
use crate::binary::elf::{self, BuildIds};
use crate::files::{Mapped, Stamp};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use object::elf as raw;
use object::read::elf::{FileHeader, ProgramHeader};
use object::LittleEndian;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A mapped file of the dumped process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FileMapping {
    start: u64,
    end: u64,
    offset: u64,
    path: String,
}

/// Where the bytes of an extent lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Core,
    /// Index into `files`.
    File(usize),
}

/// A run of target addresses whose bytes are contiguous in one file.
#[derive(Debug, Clone, Copy)]
struct Extent {
    start: u64,
    end: u64,
    source: Source,
    offset: u64,
}

/// What a segment of the core says of its addresses, bytes present or not.
#[derive(Debug, Clone, Copy)]
struct Segment {
    start: u64,
    end: u64,
    flags: raw::ProgramFlags,
}

/// What is to be known of a file that a core names.
#[derive(Debug, Clone)]
pub enum FileNote {
    /// It cannot be opened.
    Unusable(Error),
    /// It is of another build: its IDs, and the core's.
    OtherBuild { path: PathBuf, file: BuildIds, core: BuildIds },
    /// The core has no ID to compare.
    Unchecked(PathBuf),
}

impl fmt::Display for FileNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileNote::Unusable(error) => write!(f, "{error}"),
            FileNote::OtherBuild { path, file, core } => write!(
                f,
                "{} is not the program that this core was dumped from: its build ID is {file}, the core's is {core}",
                path.display()
            ),
            FileNote::Unchecked(path) => {
                write!(f, "this core has no build ID, so {} could not be checked", path.display())
            }
        }
    }
}

/// The memory of a core file.
pub struct CoreMemory {
    core: Mapped,
    files: Vec<Mapped>,
    extents: Vec<Extent>,
    segments: Vec<Segment>,
    mappings: Vec<FileMapping>,
    truncated: bool,
    executable: Option<PathBuf>,
    bias: Option<u64>,
    machine: raw::Machine,
    threads: Vec<Thread>,
    /// Files that could not be used, or not be checked.
    pub notes: Vec<FileNote>,
}

/// Notes and segments as the core's headers give them, before any other file is opened.
#[derive(Default)]
struct CoreNotes {
    mappings: Vec<FileMapping>,
    auxv: HashMap<u64, u64>,
    threads: Vec<Thread>,
}

const AT_PHDR: u64 = 3;
const AT_ENTRY: u64 = 9;
/// More program headers than this is a broken core, not a big one (Linux allows 2^32, max_map_count is 65530).
const MAX_SEGMENTS: usize = 4 << 20;

impl CoreMemory {
    /// Opens `core`; `executable` is the user's choice, else the path that the core names.
    ///
    /// Fails when `core` is no core, or when the executable is of another build (both IDs in the message).
    pub fn open(core: &Path, executable: Option<&Path>) -> Result<CoreMemory> {
        let map = Mapped::open(core)?;
        let header = elf::header(&map, core)?;
        if header.e_type(LittleEndian) != raw::ET_CORE {
            let name = core.display();
            return Err(Error::Binary(format!("{name} is not a core file; give the executable first, then the core")));
        }
        let machine = header.e_machine(LittleEndian);
        let headers = header
            .program_headers(LittleEndian, &*map)
            .map_err(|e| Error::Binary(format!("{} is truncated before its program headers: {e}", core.display())))?;
        if headers.len() > MAX_SEGMENTS {
            return Err(Error::Binary(format!("{} claims {} segments; it is corrupt", core.display(), headers.len())));
        }
        let length = map.len() as u64;
        let (mut extents, mut segments, mut notes) = (Vec::new(), Vec::new(), CoreNotes::default());
        let mut truncated = false;
        for header in headers {
            match header.p_type(LittleEndian) {
                raw::PT_NOTE => match header.notes(LittleEndian, &*map) {
                    Ok(Some(found)) => read_notes(found, machine, &mut notes),
                    _ => truncated = true,
                },
                raw::PT_LOAD => {
                    let start = header.p_vaddr(LittleEndian);
                    let size = header.p_memsz(LittleEndian);
                    let offset = header.p_offset(LittleEndian);
                    let Some(end) = start.checked_add(size) else { continue };
                    let wanted = header.p_filesz(LittleEndian).min(size);
                    let present = wanted.min(length.saturating_sub(offset));
                    truncated |= present < wanted;
                    segments.push(Segment { start, end, flags: header.p_flags(LittleEndian) });
                    if present > 0 {
                        extents.push(Extent { start, end: start + present, source: Source::Core, offset });
                    }
                }
                _ => {}
            }
        }
        segments.sort_by_key(|s| s.start);
        let mut memory = CoreMemory {
            core: map,
            files: Vec::new(),
            extents: disjoint(extents),
            segments,
            mappings: notes.mappings,
            truncated,
            executable: None,
            bias: None,
            machine,
            threads: notes.threads,
            notes: Vec::new(),
        };
        memory.add_files(executable, &notes.auxv)?;
        Ok(memory)
    }

    /// The executable in use, and how far it was moved from its link addresses (0 unless PIE).
    pub fn executable(&self) -> Option<(&Path, u64)> {
        Some((self.executable.as_deref()?, self.bias.unwrap_or(0)))
    }

    /// When the core was last written to, in nanoseconds since 1970: the memory is not younger.
    pub fn written(&self) -> Option<i64> {
        self.core.stamp().written()
    }

    /// Threads in the order of the core; the first is the one that died.
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// The processor, as the core says.
    pub fn machine(&self) -> raw::Machine {
        self.machine
    }

    /// Whether the core file ends before its own headers say.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Fills pages that the core leaves out from the executable and the other mapped files.
    fn add_files(&mut self, chosen: Option<&Path>, auxv: &HashMap<u64, u64>) -> Result<()> {
        let main = main_path(&self.mappings, auxv);
        let executable = match (chosen, &main) {
            (Some(path), _) => Some(path.to_path_buf()),
            (None, Some(path)) => Some(PathBuf::from(path)),
            (None, None) => None,
        };
        let mut filled = Vec::new();
        let mut opened: HashMap<String, Option<usize>> = HashMap::new();
        for mapping in self.mappings.clone() {
            let is_main = main.as_deref() == Some(mapping.path.as_str());
            let file = match opened.get(&mapping.path) {
                Some(&known) => known,
                None => {
                    let path = match (is_main, &executable) {
                        (true, Some(path)) => path.clone(),
                        _ => PathBuf::from(&mapping.path),
                    };
                    let known = self.open_mapped(&path, &mapping.path, is_main && chosen.is_some())?;
                    opened.insert(mapping.path.clone(), known);
                    known
                }
            };
            let Some(index) = file else { continue };
            let available = (self.files[index].len() as u64).saturating_sub(mapping.offset);
            let size = (mapping.end - mapping.start).min(available);
            if size > 0 {
                filled.push(Extent {
                    start: mapping.start,
                    end: mapping.start + size,
                    source: Source::File(index),
                    offset: mapping.offset,
                });
            }
        }
        let main_index = main.as_ref().and_then(|path| opened.get(path).copied().flatten());
        match (main_index, &executable) {
            (Some(index), Some(path)) => {
                self.bias = Some(self.bias_of(index, auxv));
                self.executable = Some(path.clone());
            }
            // No NT_FILE note (some dumpers write none): the executable's own segments stand in for it.
            (None, Some(path)) if chosen.is_some() => {
                let Some(index) = self.open_mapped(path, "", true)? else { return Ok(()) };
                let bias = self.bias_of(index, auxv);
                self.bias = Some(bias);
                self.executable = Some(path.clone());
                filled.extend(file_segments(&self.files[index], index, bias));
            }
            _ => {}
        }
        let mut extents = std::mem::take(&mut self.extents);
        // Sorting is stable: where both have a page, the core's own comes first and wins.
        extents.extend(filled);
        self.extents = disjoint(extents);
        Ok(())
    }

    /// Maps the file at `path` that the process had mapped under `name`, unless it is of another build.
    /// A file the user chose must be right; any other is left out with a note.
    fn open_mapped(&mut self, path: &Path, name: &str, chosen: bool) -> Result<Option<usize>> {
        let map = match std::fs::metadata(path) {
            Ok(meta) if meta.is_file() && meta.len() > 0 => Mapped::open(path),
            Ok(_) if !chosen => return Ok(None),
            Ok(meta) if !meta.is_file() => Mapped::open(path),
            Ok(_) => Err(Error::file(path, "not a regular file with content")),
            Err(e) => Err(Error::file(path, e)),
        };
        let map = match map {
            Ok(map) => map,
            Err(error) if chosen => return Err(error),
            Err(error) => {
                self.notes.push(FileNote::Unusable(error));
                return Ok(None);
            }
        };
        if chosen {
            elf::header(&map, path)?;
        }
        let (file_ids, core_ids) = (elf::build_ids(&map), self.mapped_ids(name));
        match file_ids.same_build(&core_ids) {
            Some(false) => {
                let other = FileNote::OtherBuild { path: path.to_path_buf(), file: file_ids, core: core_ids };
                if chosen {
                    return Err(Error::Binary(other.to_string()));
                }
                self.notes.push(other);
                Ok(None)
            }
            checked => {
                if checked.is_none() && chosen && !file_ids.is_empty() {
                    self.notes.push(FileNote::Unchecked(path.to_path_buf()));
                }
                self.files.push(map);
                Ok(Some(self.files.len() - 1))
            }
        }
    }

    /// The build IDs in the first pages of the mapping of file `name`, as dumped.
    fn mapped_ids(&self, name: &str) -> BuildIds {
        let Some(first) = self.mappings.iter().find(|m| m.path == name && m.offset == 0) else {
            return BuildIds::default();
        };
        let available = self.extent(first.start).map_or(0, |extent| extent.end - first.start);
        self.mapped(first.start, available.min(64 << 10) as usize).map(elf::build_ids).unwrap_or_default()
    }

    /// How far the executable was moved: AT_PHDR or AT_ENTRY against what the file says.
    fn bias_of(&self, index: usize, auxv: &HashMap<u64, u64>) -> u64 {
        let data = &*self.files[index];
        let Ok(header) = elf::Header::parse(data) else { return 0 };
        if header.e_type(LittleEndian) != raw::ET_DYN {
            return 0;
        }
        let entry = header.e_entry(LittleEndian);
        match auxv.get(&AT_ENTRY) {
            Some(&at) => at.wrapping_sub(entry),
            None => self.mappings.iter().find(|m| m.offset == 0).map_or(0, |m| m.start),
        }
    }

    fn extent(&self, address: u64) -> Option<&Extent> {
        let after = self.extents.partition_point(|extent| extent.start <= address);
        let extent = self.extents.get(after.checked_sub(1)?)?;
        (address < extent.end).then_some(extent)
    }

    fn data(&self, source: Source) -> &[u8] {
        match source {
            Source::Core => &self.core,
            Source::File(index) => &self.files[index],
        }
    }

    fn missing(&self, address: u64) -> MemoryError {
        let claimed = self.segments.partition_point(|s| s.start <= address).checked_sub(1);
        let claimed = claimed.and_then(|i| self.segments.get(i)).is_some_and(|s| address < s.end);
        let place = match (claimed, self.truncated) {
            (true, true) => Place::TruncatedCore,
            (true, false) => Place::LeftOut,
            (false, _) => Place::Core,
        };
        MemoryError { address, place }
    }
}

impl Memory for CoreMemory {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let mut done = 0;
        while done < buf.len() {
            let at = address.checked_add(done as u64).ok_or_else(|| self.missing(address))?;
            let extent = self.extent(at).ok_or_else(|| self.missing(at))?;
            let piece = ((extent.end - at) as usize).min(buf.len() - done);
            let from = (extent.offset + (at - extent.start)) as usize;
            let bytes = self.data(extent.source).get(from..from + piece).ok_or_else(|| self.missing(at))?;
            buf[done..done + piece].copy_from_slice(bytes);
            done += piece;
        }
        Ok(())
    }

    fn mapped(&self, address: u64, len: usize) -> Option<&[u8]> {
        if len == 0 {
            return Some(&[]);
        }
        let extent = self.extent(address)?;
        if len as u64 > extent.end - address {
            return None;
        }
        let from = (extent.offset + (address - extent.start)) as usize;
        self.data(extent.source).get(from..from.checked_add(len)?)
    }

    fn regions(&self) -> Vec<Region> {
        let mut regions = Vec::new();
        for extent in &self.extents {
            let segment = self.segments.partition_point(|s| s.start <= extent.start).checked_sub(1);
            let flags = segment.and_then(|i| self.segments.get(i)).filter(|s| extent.start < s.end).map(|s| s.flags);
            let file = self.mappings.iter().find(|m| m.start <= extent.start && extent.start < m.end);
            regions.push(Region {
                start: extent.start,
                end: extent.end,
                writable: flags.is_some_and(|f| f.contains(raw::PF_W)),
                executable: flags.is_some_and(|f| f.contains(raw::PF_X)),
                file: file.map(|m| m.path.clone()),
            });
        }
        regions
    }

    fn size(&self) -> Option<u64> {
        Some(self.segments.iter().map(|s| s.end - s.start).fold(0, u64::saturating_add))
    }

    fn place(&self) -> Place {
        Place::Core
    }

    fn any_thread(&self) -> bool {
        true
    }

    fn files(&self) -> Vec<Stamp> {
        std::iter::once(&self.core).chain(&self.files).map(|file| file.stamp().clone()).collect()
    }
}

/// Sorted and without overlap: earlier entries of the list win, contiguous neighbours are joined.
fn disjoint(extents: Vec<Extent>) -> Vec<Extent> {
    let mut kept: std::collections::BTreeMap<u64, Extent> = std::collections::BTreeMap::new();
    for extent in extents {
        let mut start = extent.start;
        let mut covered: Vec<(u64, u64)> = kept
            .range(..extent.end)
            .rev()
            .take_while(|(_, k)| k.end > extent.start)
            .map(|(_, k)| (k.start, k.end))
            .collect();
        covered.reverse();
        covered.push((extent.end, extent.end));
        for (from, to) in covered {
            if start < from {
                let offset = extent.offset + (start - extent.start);
                kept.insert(start, Extent { start, end: from, source: extent.source, offset });
            }
            start = start.max(to);
        }
    }
    let mut joined: Vec<Extent> = Vec::with_capacity(kept.len());
    for extent in kept.into_values() {
        match joined.last_mut() {
            Some(last)
                if last.end == extent.start
                    && last.source == extent.source
                    && last.offset + (last.end - last.start) == extent.offset =>
            {
                last.end = extent.end
            }
            _ => joined.push(extent),
        }
    }
    joined
}

/// The file that the process was started from: the mapping that holds its program headers.
fn main_path(mappings: &[FileMapping], auxv: &HashMap<u64, u64>) -> Option<String> {
    [AT_PHDR, AT_ENTRY].iter().find_map(|tag| {
        let address = *auxv.get(tag)?;
        mappings.iter().find(|m| m.start <= address && address < m.end).map(|m| m.path.clone())
    })
}

/// The loadable segments of an executable as extents at `bias`.
fn file_segments(data: &[u8], index: usize, bias: u64) -> Vec<Extent> {
    let extent = |segment: elf::LoadSegment| {
        let end = segment.start.checked_add(segment.size)?;
        let elf::LoadSegment { start, offset, .. } = segment;
        (segment.size > 0).then_some(Extent { start, end, source: Source::File(index), offset })
    };
    elf::load_segments(data, bias).into_iter().filter_map(extent).collect()
}

/// NT_FILE, NT_AUXV and NT_PRSTATUS; anything malformed is left out.
fn read_notes(mut notes: object::read::elf::NoteIterator<'_, elf::Header>, machine: raw::Machine, out: &mut CoreNotes) {
    while let Ok(Some(note)) = notes.next() {
        let desc = note.desc();
        match note.n_type(LittleEndian) {
            raw::NT_FILE => out.mappings = file_mappings(desc),
            raw::NT_AUXV => {
                out.auxv = desc.chunks_exact(16).map(|pair| (LE::read_u64(pair), LE::read_u64(&pair[8..]))).collect()
            }
            raw::NT_PRSTATUS => out.threads.extend(thread(desc, machine)),
            _ => {}
        }
    }
}

/// `struct elf_prstatus` (linux/elfcore.h): pr_pid at 32, pr_reg at 112 on 64-bit machines.
fn thread(desc: &[u8], machine: raw::Machine) -> Option<Thread> {
    let count = match machine {
        raw::EM_X86_64 => 27,
        raw::EM_AARCH64 => 34,
        _ => return None,
    };
    let tid = LE::read_u32(desc.get(32..36)?) as u64;
    let registers = desc.get(112..112 + 8 * count)?.chunks_exact(8).map(LE::read_u64).collect();
    Some(Thread { tid, registers })
}

/// NT_FILE: count, page size, then (start, end, page offset) triples, then the names.
fn file_mappings(desc: &[u8]) -> Vec<FileMapping> {
    let mut mappings = Vec::new();
    let (Some(count), Some(page)) = (desc.get(..8).map(LE::read_u64), desc.get(8..16).map(LE::read_u64)) else {
        return mappings;
    };
    let Some(table_end) = count.checked_mul(24).and_then(|n| n.checked_add(16)).map(|n| n as usize) else {
        return mappings;
    };
    let Some(table) = desc.get(16..table_end) else { return mappings };
    let names = desc[table_end..].split(|&byte| byte == 0);
    for (triple, name) in table.chunks_exact(24).zip(names) {
        let (start, end) = (LE::read_u64(triple), LE::read_u64(&triple[8..]));
        let Some(offset) = LE::read_u64(&triple[16..]).checked_mul(page) else { continue };
        if start < end {
            mappings.push(FileMapping { start, end, offset, path: String::from_utf8_lossy(name).into_owned() });
        }
    }
    mappings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(start: u64, end: u64, source: Source, offset: u64) -> Extent {
        Extent { start, end, source, offset }
    }

    fn flat(extents: Vec<Extent>) -> Vec<(u64, u64, Source, u64)> {
        extents.iter().map(|e| (e.start, e.end, e.source, e.offset)).collect()
    }

    #[test]
    fn earlier_extents_win_and_neighbours_join() {
        let file = Source::File(0);
        let list = vec![
            extent(0x2000, 0x3000, Source::Core, 0x100),
            extent(0x5000, 0x6000, Source::Core, 0x2100),
            extent(0x3000, 0x4000, Source::Core, 0x1100),
            extent(0x1000, 0x7000, file, 0),
        ];
        let want = vec![
            (0x1000, 0x2000, file, 0),
            (0x2000, 0x4000, Source::Core, 0x100),
            (0x4000, 0x5000, file, 0x3000),
            (0x5000, 0x6000, Source::Core, 0x2100),
            (0x6000, 0x7000, file, 0x5000),
        ];
        assert_eq!(flat(disjoint(list)), want);
    }

    #[test]
    fn a_file_note_of_garbage_gives_no_mappings() {
        assert!(file_mappings(&[]).is_empty());
        assert!(file_mappings(&[0xff; 40]).is_empty());
    }
}
