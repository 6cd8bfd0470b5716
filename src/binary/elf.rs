//! What an ELF file says of itself: sections, segments, symbols and the IDs that tell builds apart.

use crate::{Error, Result};
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader};
use object::LittleEndian;
use std::fmt;
use std::path::Path;

/// The IDs that linkers leave in a binary's notes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildIds {
    /// `.note.gnu.build-id`, raw bytes (Go's own linker writes it from 1.24 on).
    pub gnu: Option<Vec<u8>>,
    /// `.note.go.buildid`, text.
    pub go: Option<String>,
}

impl BuildIds {
    /// Whether both know an ID of the same kind; `Some(false)` proves two different builds.
    pub fn same_build(&self, other: &BuildIds) -> Option<bool> {
        match (&self.gnu, &other.gnu, &self.go, &other.go) {
            (Some(a), Some(b), _, _) => Some(a == b),
            (_, _, Some(a), Some(b)) => Some(a == b),
            _ => None,
        }
    }

    /// Whether any ID is known.
    pub fn is_empty(&self) -> bool {
        self.gnu.is_none() && self.go.is_none()
    }
}

impl fmt::Display for BuildIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.gnu, &self.go) {
            (Some(gnu), _) => gnu.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            (None, Some(go)) => f.write_str(go),
            (None, None) => f.write_str("unknown"),
        }
    }
}

/// A parsed 64-bit little-endian ELF header.
pub type Header = FileHeader64<LittleEndian>;

/// The processors whose programs are read: stack frames, registers, hashes and header layouts are known for these.
const READ: [elf::Machine; 2] = [elf::EM_X86_64, elf::EM_AARCH64];

/// What Go calls the processor of an ELF file, by `e_machine`, and `EI_CLASS` and `EI_DATA` where they decide.
fn goarch(machine: u16, is_64: bool, is_little: bool) -> String {
    let known = match (elf::Machine(machine), is_64, is_little) {
        (elf::EM_X86_64, true, _) => "amd64",
        (elf::EM_X86_64, false, _) => "amd64 with 32-bit pointers",
        (elf::EM_AARCH64, _, true) => "arm64",
        (elf::EM_AARCH64, _, false) => "big-endian arm64",
        (elf::EM_386, ..) => "386",
        (elf::EM_ARM, ..) => "arm",
        (elf::EM_PPC64, _, true) => "ppc64le",
        (elf::EM_PPC64, _, false) => "ppc64",
        (elf::EM_RISCV, true, _) => "riscv64",
        (elf::EM_RISCV, false, _) => "riscv",
        (elf::EM_LOONGARCH, ..) => "loong64",
        (elf::EM_S390, ..) => "s390x",
        (elf::EM_SPARCV9, ..) => "sparc64",
        (elf::EM_MIPS, true, true) => "mips64le",
        (elf::EM_MIPS, true, false) => "mips64",
        (elf::EM_MIPS, false, true) => "mipsle",
        (elf::EM_MIPS, false, false) => "mips",
        (elf::Machine(other), ..) => return format!("processor {other} of ELF's list"),
    };
    known.into()
}

/// The header of an ELF file of a processor that is read, or why it is not one.
pub fn header<'a>(data: &'a [u8], path: &Path) -> Result<&'a Header> {
    let name = path.display();
    if !data.starts_with(&elf::ELFMAG) {
        return Err(Error::Binary(format!("{name} is not an ELF file")));
    }
    // EI_CLASS is ELFCLASS64, EI_DATA is ELFDATA2LSB; e_machine lies at the same place in every class.
    if let (Some(class), Some(order), Some(&[first, second])) = (data.get(4), data.get(5), data.get(18..20)) {
        let (is_64, is_little) = (*class == 2, *order == 1);
        let machine = if is_little { u16::from_le_bytes([first, second]) } else { u16::from_be_bytes([first, second]) };
        if !is_64 || !is_little || !READ.contains(&elf::Machine(machine)) {
            let processor = goarch(machine, is_64, is_little);
            return Err(Error::Binary(format!("{name} is for {processor}; only amd64 and arm64 are read")));
        }
    }
    Header::parse(data).map_err(|e| Error::Binary(format!("{name} has a broken ELF header: {e}")))
}

/// Go's note type for its build ID (src/cmd/internal/buildid/note.go, Go 1.19 to 1.27).
const NT_GO_BUILDID: elf::NoteType = elf::NoteType(4);

/// The build IDs in an ELF image's note segments and sections: Go's linker puts the GNU one into no segment (go1.24 to
/// 1.27). `data` may be the file, or just its first page(s) as found in memory: what lies beyond is not seen.
pub fn build_ids(data: &[u8]) -> BuildIds {
    let mut ids = BuildIds::default();
    let Ok(header) = Header::parse(data) else { return ids };
    let segments = header.program_headers(LittleEndian, data).unwrap_or_default();
    let sections = header.section_headers(LittleEndian, data).unwrap_or_default();
    let in_segments = segments.iter().filter_map(|segment| segment.notes(LittleEndian, data).ok()?);
    let in_sections = sections.iter().filter_map(|section| section.notes(LittleEndian, data).ok()?);
    for mut notes in in_segments.chain(in_sections) {
        while let Ok(Some(note)) = notes.next() {
            if note.desc().is_empty() {
                continue;
            }
            match (note.name(), note.n_type(LittleEndian)) {
                (b"GNU", elf::NT_GNU_BUILD_ID) => ids.gnu = Some(note.desc().to_vec()),
                (b"Go", NT_GO_BUILDID) => ids.go = Some(String::from_utf8_lossy(note.desc()).into_owned()),
                _ => {}
            }
        }
    }
    ids
}

/// A part of a file that is mapped when the program starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadSegment {
    /// Run-time address of its first byte.
    pub start: u64,
    /// Bytes of it that the file holds.
    pub size: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Whether the program may write to it.
    pub writable: bool,
}

/// The segments of the executable in `data`, moved by `bias`; none when it is none.
pub fn load_segments(data: &[u8], bias: u64) -> Vec<LoadSegment> {
    let Ok(header) = Header::parse(data) else { return Vec::new() };
    let Ok(segments) = header.program_headers(LittleEndian, data) else { return Vec::new() };
    let loads = segments.iter().filter(|s| s.p_type(LittleEndian) == object::elf::PT_LOAD);
    loads
        .map(|segment| {
            let offset = segment.p_offset(LittleEndian);
            LoadSegment {
                start: segment.p_vaddr(LittleEndian).wrapping_add(bias),
                size: segment.p_filesz(LittleEndian).min((data.len() as u64).saturating_sub(offset)),
                offset,
                writable: segment.p_flags(LittleEndian).contains(object::elf::PF_W),
            }
        })
        .collect()
}
