//! The program under test: its file, how far it was moved, and its debug information.

use super::buildinfo::{BuildInfo, GoVersion, NEWEST_KNOWN};
use super::dwarf::Dwarf;
use super::{elf, moduledata};
use crate::files::Mapped;
use crate::{Error, Result};
use object::read::elf::FileHeader;
use object::{Object, ObjectSymbol};
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
    /// Debug files that were passed over, one sentence each.
    pub notes: Vec<String>,
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
        let mut notes = Vec::new();
        let dwarf = match Dwarf::load(file.clone())? {
            Some(dwarf) => Some(dwarf),
            None => separate_debug_file(path, &file, &mut notes)?,
        };
        let version = BuildInfo::of_file(&file).map(|info| info.go);
        let version = version.or_else(|| moduledata::is_go(&file).then(|| GoVersion::search(&file)).flatten());
        Ok(Program { path: path.to_path_buf(), file, bias, dwarf, version, notes, functions: OnceLock::new() })
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

/// The debug file that a `.gnu_debuglink` section or the build ID names, if it is there and fits.
fn separate_debug_file(path: &Path, file: &Mapped, notes: &mut Vec<String>) -> Result<Option<Dwarf>> {
    let ids = elf::build_ids(file);
    for candidate in debug_file_candidates(path, file, &ids) {
        let map = match Mapped::open(&candidate) {
            Ok(map) => map,
            Err(error) => {
                // Most of the places have none, which goes without saying.
                if candidate.exists() {
                    notes.push(format!("{error}; it is passed over"));
                }
                continue;
            }
        };
        if elf::header(&map, &candidate).is_err() || ids.same_build(&elf::build_ids(&map)) == Some(false) {
            continue;
        }
        if let Some(dwarf) = Dwarf::load(Arc::new(map))? {
            return Ok(Some(dwarf));
        }
    }
    Ok(None)
}

/// The places where gdb looks, in its order.
fn debug_file_candidates(path: &Path, file: &Mapped, ids: &elf::BuildIds) -> Vec<PathBuf> {
    let mut candidates = Vec::new();
    if let Some((first, rest)) = ids.gnu.as_deref().and_then(|id| id.split_first()) {
        let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
        candidates.push(PathBuf::from(format!("{DEBUG_DIRECTORY}/.build-id/{first:02x}/{rest}.debug")));
    }
    let link = object::File::parse(&file[..]).ok().and_then(|object| {
        let (name, _crc) = object.gnu_debuglink().ok()??;
        Some(PathBuf::from(String::from_utf8_lossy(name).into_owned()))
    });
    // A link is a bare file name; one with a path in it could point anywhere.
    if let Some(name) = link.as_deref().and_then(Path::file_name) {
        let directory = std::fs::canonicalize(path).ok().and_then(|p| p.parent().map(Path::to_path_buf));
        if let Some(directory) = directory {
            candidates.push(directory.join(name));
            candidates.push(directory.join(".debug").join(name));
            let below = directory.strip_prefix("/").unwrap_or(&directory);
            candidates.push(Path::new(DEBUG_DIRECTORY).join(below).join(name));
        }
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
