//! The program under test: its file, how far it was moved, and its debug information.

use super::buildinfo::{BuildInfo, GoVersion, NEWEST_KNOWN};
use super::dwarf::Dwarf;
use super::elf::BuildIds;
use super::{elf, moduledata};
use crate::files::Mapped;
use crate::{Error, Result};
use object::read::elf::FileHeader;
use object::{Object, ObjectSymbol};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// An executable, mapped.
pub struct Program {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub file: Arc<Mapped>,
    /// Added to link-time addresses; 0 unless PIE.
    pub bias: u64,
    /// Its DWARF, from itself or from a separate debug file.
    pub dwarf: Option<Dwarf>,
    /// The Go version it was built with; `None` when it is no Go program of 1.18 or later.
    pub version: Option<GoVersion>,
    /// What is to be known of its debug files.
    pub debug_notes: Vec<DebugNote>,
    functions: OnceLock<Vec<Function>>,
}

/// A function of the symbol table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Link-time address.
    pub address: u64,
    /// Size in bytes; 0 when unknown.
    pub size: u64,
    /// Its linker name.
    pub name: String,
}

/// Where Debian and Fedora put separate debug files.
const DEBUG_DIRECTORY: &str = "/usr/lib/debug";

impl Program {
    /// Opens the executable at `path`, which runs with its entry point at `entry` (if that is known).
    pub fn open(path: &Path, entry: Option<u64>) -> Result<Program> {
        let file = Arc::new(Mapped::open(path)?);
        let header = elf::header(&file, path)?;
        let linked = header.e_entry(object::LittleEndian);
        let moved = header.e_type(object::LittleEndian) == object::elf::ET_DYN;
        let bias = match entry {
            Some(entry) if moved => entry.wrapping_sub(linked),
            _ => 0,
        };
        Program::with_bias(path, file, bias)
    }

    /// The same, when the bias itself is known.
    pub fn with_bias(path: &Path, file: Arc<Mapped>, bias: u64) -> Result<Program> {
        let mut debug_notes = Vec::new();
        let dwarf = match Dwarf::load(file.clone())? {
            Some(dwarf) => {
                debug_notes.extend(left_to_dwz(path, &file));
                Some(dwarf)
            }
            None => separate_debug_file(path, &file, &mut debug_notes)?,
        };
        let version = BuildInfo::of_file(&file).map(|info| info.go);
        let version = version.or_else(|| moduledata::is_go(&file).then(|| GoVersion::search(&file)).flatten());
        let path = path.to_path_buf();
        Ok(Program { path, file, bias, dwarf, version, debug_notes, functions: OnceLock::new() })
    }

    /// Its Go version; the newest known when it does not say.
    pub fn go(&self) -> (u32, u32) {
        self.version.as_ref().map_or(NEWEST_KNOWN, |version| version.number())
    }

    /// Whether it is for arm64; else it is for amd64.
    pub fn is_arm(&self) -> bool {
        let machine = elf::header(&self.file, &self.path).map(|h| h.e_machine(object::LittleEndian));
        machine.is_ok_and(|machine| machine == object::elf::EM_AARCH64)
    }

    /// Its run-time entry point; 0 when the header cannot be read.
    pub fn entry(&self) -> u64 {
        let linked = elf::header(&self.file, &self.path).map(|h| h.e_entry(object::LittleEndian));
        linked.map_or(0, |linked| linked.wrapping_add(self.bias))
    }

    /// The function of the symbol table that contains the run-time address `pc`.
    pub fn function_at(&self, pc: u64) -> Option<&Function> {
        let address = pc.wrapping_sub(self.bias);
        let functions = self.functions();
        let function = &functions[functions.partition_point(|f| f.address <= address).checked_sub(1)?];
        (function.size == 0 || address < function.address + function.size).then_some(function)
    }

    /// Functions of the symbol table, by address; none when stripped.
    pub fn functions(&self) -> &[Function] {
        self.functions.get_or_init(|| {
            let Ok(object) = object::File::parse(&self.file[..]) else { return Vec::new() };
            let text = object.symbols().filter(|s| s.kind() == object::SymbolKind::Text && s.address() != 0);
            let mut functions: Vec<Function> = text
                .filter_map(|s| {
                    Some(Function { address: s.address(), size: s.size(), name: s.name().ok()?.to_string() })
                })
                .collect();
            functions.sort_by_key(|f| f.address);
            functions
        })
    }
}

/// What is to be known of a program's debug files: one that does not belong to it is not used.
#[derive(Debug, Clone)]
pub enum DebugNote {
    /// Its build ID is another: the file's, and the program's.
    OtherBuild { file: PathBuf, its: BuildIds, programs: BuildIds },
    /// There are no two build IDs to compare, and its checksum is not the one that `.gnu_debuglink` gives.
    OtherChecksum { file: PathBuf, its: u32, linked: u32 },
    /// It stands under the program's build ID, and has none itself.
    NoBuildId { file: PathBuf },
    /// It cannot be opened, or is no ELF file that we read.
    Unusable(Error),
    /// A part of the debug information lies in a file of dwz's, which is not read.
    Dwz { file: PathBuf, part: String },
}

impl fmt::Display for DebugNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DebugNote::OtherBuild { file, its, programs } => write!(
                f,
                "the debug file {} is of another build, so it is not used: its build ID is {its}, the program's is {programs}",
                file.display()
            ),
            DebugNote::OtherChecksum { file, its, linked } => write!(
                f,
                "the debug file {} is of another build, so it is not used: its CRC is {its:08x}, the program's \
                 .gnu_debuglink names {linked:08x}",
                file.display()
            ),
            DebugNote::NoBuildId { file } => {
                write!(f, "the debug file {} has no build ID to compare, so it is not used", file.display())
            }
            DebugNote::Unusable(error) => write!(f, "{error}; it is passed over"),
            DebugNote::Dwz { file, part } => write!(
                f,
                "{} has a part of its debug information in {part} (dwz), which is not read: types and variables may lack",
                file.display()
            ),
        }
    }
}

/// A place where a debug file may be, and what proves that it is this program's where no two build IDs can be compared.
struct Candidate {
    path: PathBuf,
    /// The checksum in `.gnu_debuglink`.
    crc: Option<u32>,
}

/// The debug file that a `.gnu_debuglink` section or the build ID names, if it is there and is this program's.
fn separate_debug_file(path: &Path, program: &Mapped, notes: &mut Vec<DebugNote>) -> Result<Option<Dwarf>> {
    let ids = elf::build_ids(program);
    for candidate in debug_file_candidates(path, program, &ids) {
        let map = match Mapped::open(&candidate.path) {
            Ok(map) => map,
            Err(error) => {
                // Most of the places have none, which goes without saying.
                notes.extend(candidate.path.exists().then_some(DebugNote::Unusable(error)));
                continue;
            }
        };
        if let Some(note) = unfit(&candidate, &map, &ids) {
            notes.push(note);
            continue;
        }
        let map = Arc::new(map);
        if let Some(dwarf) = Dwarf::load(map.clone())? {
            notes.extend(left_to_dwz(&candidate.path, &map));
            return Ok(Some(dwarf));
        }
    }
    Ok(None)
}

/// Why a file is not this program's debug file. Build IDs decide; without them the checksum of the link, as in gdb.
fn unfit(candidate: &Candidate, map: &Mapped, ids: &BuildIds) -> Option<DebugNote> {
    let file = candidate.path.clone();
    if let Err(error) = elf::header(map, &file) {
        return Some(DebugNote::Unusable(error));
    }
    let its = elf::build_ids(map);
    match (ids.same_build(&its), candidate.crc) {
        (Some(true), _) => None,
        (Some(false), _) => Some(DebugNote::OtherBuild { file, its, programs: ids.clone() }),
        (None, None) => Some(DebugNote::NoBuildId { file }),
        (None, Some(linked)) => {
            let its = crc32fast::hash(map);
            (its != linked).then_some(DebugNote::OtherChecksum { file, its, linked })
        }
    }
}

/// That dwz moved a part of a file's debug information into another.
fn left_to_dwz(path: &Path, file: &Mapped) -> Option<DebugNote> {
    let object = object::File::parse(&file[..]).ok()?;
    let (part, _build_id) = object.gnu_debugaltlink().ok()??;
    Some(DebugNote::Dwz { file: path.to_path_buf(), part: String::from_utf8_lossy(part).into_owned() })
}

/// The places where gdb looks, in its order.
fn debug_file_candidates(path: &Path, file: &Mapped, ids: &BuildIds) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    if let Some((first, rest)) = ids.gnu.as_deref().and_then(|id| id.split_first()) {
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = PathBuf::from(format!("{DEBUG_DIRECTORY}/.build-id/{first:02x}/{rest}.debug"));
        candidates.push(Candidate { path, crc: None });
    }
    let link = object::File::parse(&file[..]).ok().and_then(|object| {
        let (name, crc) = object.gnu_debuglink().ok()??;
        Some((PathBuf::from(String::from_utf8_lossy(name).into_owned()), crc))
    });
    // A link is a bare file name; one with a path in it could point anywhere.
    let link = link.as_ref().and_then(|(name, crc)| Some((name.file_name()?, *crc)));
    let directory = std::fs::canonicalize(path).ok().and_then(|p| p.parent().map(Path::to_path_buf));
    if let (Some((name, crc)), Some(directory)) = (link, directory) {
        let below = directory.strip_prefix("/").unwrap_or(&directory);
        let places = [directory.join(name), directory.join(".debug").join(name)];
        let all = places.into_iter().chain([Path::new(DEBUG_DIRECTORY).join(below).join(name)]);
        candidates.extend(all.map(|path| Candidate { path, crc: Some(crc) }));
    }
    candidates
}

/// The sentence for a program without DWARF.
pub fn no_dwarf(path: &Path) -> Error {
    Error::Type(format!(
        "{} has no DWARF debug information (built with -ldflags=-s or -w, or stripped), so its variables have no \
         names; give an address with --type, or put its debug file beside it",
        path.display()
    ))
}
