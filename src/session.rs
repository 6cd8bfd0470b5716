//! One target to ask questions of: its memory, its program, its types.

use crate::binary::elf;
use crate::binary::hashstate;
use crate::binary::program::{DebugNote, Program};
use crate::error::Watch;
use crate::expression::{self, Hashers, Meaning, Scope};
use crate::files::{Mapped, Stamp};
use crate::layout::hash_state;
use crate::map::hash::HashState;
use crate::map::keys::Recipe;
use crate::map::lookup::{read_hash_state, Hasher};
use crate::map::{sync, GoMap, Header};
use crate::memory::{BackedMemory, CoreMemory, FileNote, Memory, ProcessMemory, Thread, Threads};
use crate::types::Location;
use crate::types::{ProgramTypes, TypeId, TypeSource};
use crate::{Error, Result};
use object::read::elf::FileHeader;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A target: a core, a live process, or whatever a debugger is attached to.
pub struct Session {
    /// Its memory.
    pub memory: Arc<dyn Memory>,
    /// Its types.
    pub types: ProgramTypes,
    /// Its threads with their registers, as far as known.
    pub threads: Threads,
    /// What the user should know of the source.
    pub notes: Vec<Note>,
    /// Where its memory comes from.
    pub origin: Origin,
    /// The files it is read from, as they were when they were opened.
    files: Vec<Stamp>,
}

/// What the user should know of a source.
#[derive(Debug, Clone)]
pub enum Note {
    /// A file that the core names.
    File(FileNote),
    /// The core ends before its own headers say.
    Truncated(PathBuf),
    /// The process ran on.
    Running(i32),
    /// A debug file.
    Debug(DebugNote),
    /// The program's version of Go is not one that is known.
    Version(String),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::File(note) => write!(f, "{note}"),
            Note::Truncated(core) => {
                write!(f, "{} is truncated; what it lacks is reported where it matters", core.display())
            }
            Note::Running(pid) => {
                write!(f, "process {pid} was running while it was read; entries may be inconsistent")
            }
            Note::Debug(note) => write!(f, "{note}"),
            Note::Version(warning) => f.write_str(warning),
        }
    }
}

/// Where a session's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A core file, with the time of its last change in nanoseconds since 1970: the memory is not younger.
    Core(Option<i64>),
    /// A process of this machine, read now.
    Process,
    /// Whatever a debugger reads.
    Debugger,
}

/// A map that an expression or an address named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MapRef {
    /// Address of its header; 0 for a nil map.
    pub address: u64,
    /// Its type.
    pub ty: TypeId,
}

impl Session {
    /// Opens a core file; the executable is `executable`, else the one that the core names.
    pub fn core(core: &Path, executable: Option<&Path>) -> Result<Session> {
        let memory = CoreMemory::open(core, executable)?;
        let Some((path, bias)) = memory.executable().map(|(path, bias)| (path.to_path_buf(), bias)) else {
            return Err(Error::Binary(format!("{} does not name its executable; give it too", core.display())));
        };
        let mut notes: Vec<Note> = memory.notes.iter().cloned().map(Note::File).collect();
        if memory.is_truncated() {
            notes.push(Note::Truncated(core.to_path_buf()));
        }
        let threads = memory.threads().to_vec();
        let written = memory.written();
        let file = Arc::new(Mapped::open(&path)?);
        let machine = elf::header(&file, &path)?.e_machine(object::LittleEndian);
        if machine != memory.machine() {
            let (core, path) = (core.display(), path.display());
            return Err(Error::Binary(format!(
                "{core} is of another processor than {path}: amd64 and arm64 do not mix"
            )));
        }
        let program = Program::with_bias(&path, file, bias)?;
        Session::new(Arc::new(memory), program, threads, notes, Origin::Core(written))
    }

    /// Opens a live process, stopped while the session lives if `stop`, within so long.
    pub fn process(pid: i32, executable: Option<&Path>, stop: Option<Duration>, watch: &dyn Watch) -> Result<Session> {
        let memory = match stop {
            Some(within) => ProcessMemory::stop(pid, within, watch)?,
            None => ProcessMemory::open(pid)?,
        };
        let notes = if stop.is_some() { Vec::new() } else { vec![Note::Running(pid)] };
        Session::of_process(memory, executable, notes)
    }

    /// Opens a live process that a debugger holds.
    pub fn held_process(pid: i32, executable: Option<&Path>) -> Result<Session> {
        Session::of_process(ProcessMemory::open(pid)?, executable, Vec::new())
    }

    fn of_process(memory: ProcessMemory, executable: Option<&Path>, notes: Vec<Note>) -> Result<Session> {
        let pid = memory.pid();
        let link = PathBuf::from(format!("/proc/{pid}/exe"));
        let path = executable.map(Path::to_path_buf).unwrap_or(link);
        let program = Program::open(&path, auxv_entry(pid))?;
        let threads = memory.threads().to_vec();
        let memory = BackedMemory::new(memory, program.file.clone(), program.bias);
        Session::new(Arc::new(memory), program, threads, notes, Origin::Process)
    }

    /// A session over any memory, e.g. that of a remote target; `entry` is the program's run-time entry point.
    pub fn remote(memory: Arc<dyn Memory>, executable: &Path, entry: Option<u64>) -> Result<Session> {
        Session::new(memory, Program::open(executable, entry)?, Vec::new(), Vec::new(), Origin::Debugger)
    }

    fn new(
        memory: Arc<dyn Memory>,
        program: Program,
        threads: Vec<Thread>,
        mut notes: Vec<Note>,
        origin: Origin,
    ) -> Result<Session> {
        if program.version.is_none() && !program.dwarf.as_ref().is_some_and(|dwarf| dwarf.has_go()) {
            let what = match is_packed(&program.file) {
                true => "is packed by UPX: name the program as it was before (upx -d gives it), with a core of the packed one",
                false => "is not a Go program",
            };
            return Err(Error::Binary(format!("{} {what}", program.path.display())));
        }
        notes.extend(program.debug_notes.iter().cloned().map(Note::Debug));
        notes.extend(program.version.as_ref().and_then(|version| version.warning()).map(Note::Version));
        let mut files = memory.files();
        files.push(program.file.stamp().clone());
        files.extend(program.dwarf.as_ref().map(|dwarf| dwarf.stamp().clone()));
        let types = ProgramTypes::new(Arc::new(program), memory.clone());
        Ok(Session { memory, types, threads: threads.into(), notes, origin, files })
    }

    /// Fails when a file that this is read from is not any more what was opened. Of a core that was replaced the old one
    /// is still open, but who asks means the new one; a process runs on with the program that it was started from.
    pub fn check_files(&self) -> Result<()> {
        let of_core = matches!(self.origin, Origin::Core(_));
        let changed = |file: &&Stamp| file.was_written() || (of_core && file.was_replaced());
        self.files.iter().find(changed).map_or(Ok(()), |file| Err(file.changed()))
    }

    /// Forgets what was read of the target's memory: it may have run, or been written to.
    pub fn forget(&self) {
        self.memory.forget();
        self.types.forget();
    }

    /// Begins a look at the target: what was read of its memory before is not used again. The program's file, its types
    /// and their index stay, but for those of modules that came in the meantime.
    pub fn look_again(&mut self) {
        if !matches!(self.origin, Origin::Core(_)) {
            self.forget();
            self.types.find_new_modules();
        }
    }

    /// The map that an expression over package variables leads to.
    pub fn resolve(&self, expression: &str, watch: &dyn Watch) -> Result<MapRef> {
        let (locals, hashers) = (&|_: &str| Ok(None), &Hashers::default());
        let scope = Scope { session: self, memory: &*self.memory, locals, hashers, scans: true, watch };
        self.map_meant(expression::evaluate(scope, expression)?)
    }

    /// The map that the value at a location leads to.
    pub fn map_from(&self, location: Location) -> Result<MapRef> {
        self.map_meant(Meaning::Place(location))
    }

    /// The map that an expression's meaning leads to.
    pub fn map_meant(&self, meaning: Meaning) -> Result<MapRef> {
        expression::map_at(&self.types, &*self.memory, meaning)
    }

    /// The type named `name`, or a sentence.
    pub fn type_named(&self, name: &str) -> Result<TypeId> {
        self.types.by_name(name)?.ok_or_else(|| {
            Error::Type(format!("the program has no type {name}; spell it as Go does, e.g. 'map[string]*main.T'"))
        })
    }

    /// How the keys of `map` are hashed, read from its type descriptor's hasher and the process's hash state.
    pub fn hasher(&self, map: &GoMap<'_>) -> Hasher {
        match self.find_hasher(map) {
            Ok(hasher) => hasher,
            Err(error) => Hasher::Unknown(error.to_string()),
        }
    }

    fn find_hasher(&self, map: &GoMap<'_>) -> Result<Hasher> {
        let unknown = |why: String| Ok(Hasher::Unknown(why));
        match &map.header {
            Header::Sync(sync::Header::Trie(trie)) if trie.root == 0 => {
                return unknown("the map was never used".into())
            }
            Header::Sync(sync::Header::Trie(trie)) => return self.hasher_of_closure(trie.hasher, map.key.id),
            // Both inner maps are of one type.
            Header::Sync(sync::Header::ReadDirty(maps)) => {
                return match maps.inner_maps(map.memory, map.types).first() {
                    Some(inner) => self.find_hasher(inner),
                    None => unknown("the map was never used".into()),
                };
            }
            _ => {}
        }
        let Some(descriptor) = map.ty.descriptor else {
            return unknown(format!("{} has no type descriptor that would name its hash function", map.ty.name));
        };
        let closure = self.types.descriptors()?.map(descriptor)?.hasher;
        self.hasher_of_closure(closure, map.key.id)
    }

    /// The hasher whose closure is at `closure`, for keys of type `key`.
    fn hasher_of_closure(&self, closure: u64, key: TypeId) -> Result<Hasher> {
        let unknown = |why: String| Ok(Hasher::Unknown(why));
        let code = self.memory.u64(closure)?;
        let captured = self.memory.u64(closure.wrapping_add(8)).unwrap_or(0);
        let Some(function) = self.types.function_name(code) else {
            return unknown(format!("the hash function at {code:#x} has no name here"));
        };
        let go = self.types.descriptors()?.version.number();
        let recipe = Recipe::of_hasher(&*self.memory, &self.types, key, &function, captured, go)?;
        match recipe {
            Some(recipe) => Ok(Hasher::Known { state: Box::new(self.hash_state()?), recipe, function }),
            None => unknown(format!("the hash function {function} is not known")),
        }
    }

    /// The process's hash state.
    pub fn hash_state(&self) -> Result<HashState> {
        let program = self.types.program();
        let go = program.go();
        let named = hash_state::variables(go).map(|name| self.types.variable(name).ok().flatten().map(|found| found.0));
        let addresses = match named {
            [Some(flag), Some(schedule), Some(hashkey)] => [flag, schedule, hashkey],
            _ => self
                .types
                .module()
                .and_then(|module| hashstate::locate(&*self.memory, module, go, program.is_arm()))
                .ok_or_else(|| Error::Map("the process's hash state was not found, so no hash is known".into()))?,
        };
        read_hash_state(&*self.memory, addresses, program.is_arm(), go)
    }

    /// Reads the header of a map.
    pub fn open(&self, map: MapRef) -> Result<GoMap<'_>> {
        GoMap::open(&*self.memory, &self.types, map.ty, map.address)
    }
}

/// Whether UPX packed this file: its mark stands behind the program headers (`l_info`, src/stub/src/include/linux.h, 4.2).
fn is_packed(file: &[u8]) -> bool {
    file[..file.len().min(1024)].windows(4).any(|mark| mark == b"UPX!")
}

/// AT_ENTRY of a process: where its entry point came to lie.
fn auxv_entry(pid: i32) -> Option<u64> {
    const AT_ENTRY: u64 = 9;
    let auxv = std::fs::read(format!("/proc/{pid}/auxv")).ok()?;
    auxv.chunks_exact(16).find_map(|pair| {
        let word = |at: usize| pair[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        (word(0)? == AT_ENTRY).then(|| word(8)).flatten()
    })
}
