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

/// The header of a 64-bit little-endian ELF file, or why it is not one that we read.
pub fn header<'a>(data: &'a [u8], path: &Path) -> Result<&'a Header> {
    let name = path.display();
    if !data.starts_with(&elf::ELFMAG) {
        return Err(Error::Binary(format!("{name} is not an ELF file")));
    }
    // EI_CLASS is ELFCLASS64, EI_DATA is ELFDATA2LSB.
    match (data.get(4), data.get(5)) {
        (Some(2), Some(1)) => {}
        _ => {
            return Err(Error::Binary(format!("{name} is not for a 64-bit little-endian machine; only those are read")))
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
