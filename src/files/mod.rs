//! Files of this machine, in one place: what is read is opened without waiting, and never written over; what is written
//! appears whole or not at all.

mod mapped;
mod output;

pub use mapped::{catching, Mapped};
pub use output::Output;

use crate::error::Watch;
use crate::{Error, Result};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Which file it is, whatever it is called: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id {
    device: u64,
    inode: u64,
}

impl Id {
    fn of(about: &Metadata) -> Id {
        Id { device: about.dev(), inode: about.ino() }
    }
}

/// A file as it was when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// As it was named.
    pub path: PathBuf,
    id: Id,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path, about: &Metadata) -> Stamp {
        let changed = (about.mtime(), about.mtime_nsec());
        Stamp { path: path.to_path_buf(), id: Id::of(about), size: about.size(), changed }
    }

    /// Whether the file was written to since.
    pub fn was_written(&self) -> bool {
        self.now().is_some_and(|now| now.id == self.id && now != *self)
    }

    /// Whether the name now stands for another file. One whose name is gone is still there for those who have it open.
    pub fn was_replaced(&self) -> bool {
        self.now().is_some_and(|now| now.id != self.id)
    }

    fn now(&self) -> Option<Stamp> {
        Some(Stamp::of(&self.path, &std::fs::metadata(&self.path).ok()?))
    }

    /// When it was last changed, in nanoseconds since 1970: its content is not younger.
    pub fn written(&self) -> Option<i64> {
        let (seconds, nanoseconds) = self.changed;
        seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds).filter(|&at| at >= 0)
    }

    /// The sentence for it.
    pub fn changed(&self) -> Error {
        Error::file(&self.path, Reason::Changed)
    }
}

/// Why a file is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Directory,
    Fifo,
    Device,
    Socket,
    Changed,
    NoWriter,
    TooLong,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Directory => f.write_str("it is a directory"),
            Reason::Fifo => f.write_str("it is a pipe (FIFO), and this has to be a regular file: save it to one first"),
            Reason::Device => f.write_str("it is a device, not a regular file"),
            Reason::Socket => f.write_str("it is a socket, not a regular file"),
            Reason::Changed => f.write_str("the file has changed since it was opened"),
            Reason::NoWriter => write!(f, "nobody has written to this pipe (FIFO) for {} s", WRITER_WITHIN.as_secs()),
            Reason::TooLong => write!(f, "more than {} MiB come out of it: save it to a file first", LONGEST >> 20),
        }
    }
}

/// Files that the command at work has read or written, by any name.
static IN_USE: Mutex<Vec<(Id, PathBuf)>> = Mutex::new(Vec::new());

fn note_use(id: Id, path: &Path) {
    let mut used = IN_USE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !used.iter().any(|(known, _)| *known == id) {
        used.push((id, path.to_path_buf()));
    }
}

/// A command begins: of what earlier ones read, only what is still mapped is protected, and `inputs`, which somebody
/// else (a debugger) reads.
pub fn begin(inputs: &[PathBuf]) {
    let mut used = IN_USE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    used.clear();
    used.extend(inputs.iter().filter_map(|path| Some((Id::of(&std::fs::metadata(path).ok()?), path.clone()))));
}

/// The name by which a file is in use, if it is.
fn in_use(id: Id) -> Option<PathBuf> {
    let used = IN_USE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let read = used.iter().find(|(known, _)| *known == id).map(|(_, path)| path.clone());
    drop(used);
    read.or_else(|| mapped::living(id))
}

/// Opens whatever is at `path` without waiting for anybody.
fn open_any(path: &Path) -> Result<(File, Metadata)> {
    let failed = |error: std::io::Error| Error::file(path, error);
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = file.map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    Ok((file, about))
}

/// What a file is that is not regular.
fn refused(about: &Metadata) -> Option<Reason> {
    let kind = about.file_type();
    match () {
        () if kind.is_file() => None,
        () if kind.is_dir() => Some(Reason::Directory),
        () if kind.is_fifo() => Some(Reason::Fifo),
        () if kind.is_socket() => Some(Reason::Socket),
        () => Some(Reason::Device),
    }
}

/// Opens a regular file to read it; anything else is one sentence, at once.
pub fn open(path: &Path) -> Result<(File, Stamp)> {
    // A device may do something when it is opened (a watchdog, a tape): it is looked at first.
    if let Some(reason) = std::fs::metadata(path).ok().as_ref().and_then(refused) {
        return Err(Error::file(path, reason));
    }
    let (file, about) = open_any(path)?;
    match refused(&about) {
        Some(reason) => Err(Error::file(path, reason)),
        None => {
            note_use(Id::of(&about), path);
            Ok((file, Stamp::of(path, &about)))
        }
    }
}

/// The text of a small file, such as a policy.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let (file, _) = open(path)?;
    let mut text = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut text).map_err(|error| Error::file(path, error))?;
    match text.len() as u64 > LONGEST {
        true => Err(Error::file(path, Reason::TooLong)),
        false => Ok(text),
    }
}

/// Bytes of a stream at most.
const LONGEST: u64 = 1 << 30;
/// How long a FIFO may have no writer.
const WRITER_WITHIN: Duration = Duration::from_secs(2);
/// How often Ctrl-C is looked for while a stream has nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What comes out of a pipe, or of standard input where `path` is `-`; `None` where there is a file instead.
pub fn read_stream(path: &Path, watch: &dyn Watch) -> Result<Option<Vec<u8>>> {
    let standard = path == Path::new("-");
    let mut file = match standard {
        // SAFETY: a copy of the descriptor is made at once, and this one is given back unclosed.
        true => std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(0) }).try_clone(),
        false if std::fs::metadata(path).is_ok_and(|about| about.file_type().is_fifo()) => {
            open_any(path).map(|(file, _)| Ok(file))?
        }
        false => return Ok(None),
    }
    .map_err(|error| Error::file(path, error))?;
    let about = file.metadata().map_err(|error| Error::file(path, error))?;
    let kind = about.file_type();
    if kind.is_file() {
        note_use(Id::of(&about), path);
    }
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 16];
    // A FIFO without a writer has ended before it began; those of a shell, and standard input, have theirs.
    let writer_by = (kind.is_fifo() && !standard).then(|| Instant::now() + WRITER_WITHIN);
    loop {
        watch.tick(0, 0)?;
        let ready = is_ready(&file);
        if !ready && writer_by.is_none() {
            continue;
        }
        match file.read(&mut piece) {
            Ok(0) if ready || !bytes.is_empty() => return Ok(Some(bytes)),
            // Nobody has it open for writing; with a silent writer, it would block.
            Ok(0) if writer_by.is_some_and(|by| Instant::now() > by) => {
                return Err(Error::file(path, Reason::NoWriter))
            }
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(Error::file(path, error)),
        }
        if bytes.len() as u64 > LONGEST {
            return Err(Error::file(path, Reason::TooLong));
        }
    }
}

/// Waits a little for something to read, or for the end.
fn is_ready(file: &File) -> bool {
    let mut asked = libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one descriptor, which is open, and its answer.
    unsafe { libc::poll(&mut asked, 1, LOOK_EVERY.as_millis() as libc::c_int) != 0 && asked.revents != 0 }
}
