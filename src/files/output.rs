//! A file that is written: beside its place, and renamed there when it is whole. What stood there before stays until
//! then, and is never something that is read.

use super::{in_use, note_use, Id};
use crate::{Error, Result};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// See the module. It writes without a buffer.
pub struct Output {
    /// As the user named it.
    path: PathBuf,
    file: File,
    /// Where it is written, and where it belongs; a pipe or a device is written in place.
    beside: Option<(PathBuf, PathBuf)>,
}

/// Why a file is not written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    Directory,
    BlockDevice,
    Socket,
    NoReader,
    Used(PathBuf),
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reason::Directory => f.write_str("it is a directory"),
            Reason::BlockDevice => f.write_str("it is a block device"),
            Reason::Socket => f.write_str("it is a socket"),
            Reason::NoReader => f.write_str("nobody reads this pipe (FIFO)"),
            Reason::Used(path) => write!(f, "it is the same file as {}, which is in use here", path.display()),
        }
    }
}

fn cannot_write(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Output { path: path.display().to_string(), reason: reason.to_string() }
}

impl Output {
    /// Begins to write what is to be at `path`.
    pub fn create(path: &Path) -> Result<Output> {
        let failed = |error: std::io::Error| cannot_write(path, error);
        let about = match std::fs::metadata(path) {
            Ok(about) => Some(about),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        if let Some(about) = &about {
            refuse_used(path, about)?;
            let kind = about.file_type();
            let refused = match () {
                () if kind.is_dir() => Some(Reason::Directory),
                () if kind.is_block_device() => Some(Reason::BlockDevice),
                () if kind.is_socket() => Some(Reason::Socket),
                () => None,
            };
            if let Some(reason) = refused {
                return Err(cannot_write(path, reason));
            }
            if !kind.is_file() {
                return Ok(Output { path: path.to_path_buf(), file: open_stream(path)?, beside: None });
            }
            // A file that may not be written to is not to be replaced either.
            OpenOptions::new().write(true).open(path).map_err(failed)?;
        }
        // A link stays: what it leads to is replaced.
        let place = std::fs::canonicalize(path).unwrap_or_else(|_| through_links(path));
        let (file, temporary) = beside(&place).map_err(failed)?;
        let output = Output { path: path.to_path_buf(), file, beside: Some((temporary, place)) };
        if let Some(about) = about {
            output.be_like(&about);
        }
        Ok(output)
    }

    /// What is written is whole: it takes its place.
    pub fn finish(&mut self) -> Result<()> {
        let Some((temporary, place)) = self.beside.take() else { return Ok(()) };
        let failed = |error: std::io::Error| {
            let _ = std::fs::remove_file(&temporary);
            cannot_write(&self.path, error)
        };
        let about = self.file.metadata().map_err(failed)?;
        // What is now read may be what stands there: it may have been opened since.
        if let Ok(there) = std::fs::metadata(&place) {
            if let Err(error) = refuse_used(&self.path, &there) {
                let _ = std::fs::remove_file(&temporary);
                return Err(error);
            }
        }
        // Some file systems tell only now that the disk is full.
        let copy = self.file.try_clone().map_err(failed)?;
        // SAFETY: the copy is ours, and is not used again.
        if unsafe { libc::close(copy.into_raw_fd()) } != 0 {
            return Err(failed(std::io::Error::last_os_error()));
        }
        std::fs::rename(&temporary, &place).map_err(failed)?;
        note_use(Id::of(&about), &self.path);
        Ok(())
    }

    /// Gives the file the rights and, where that is allowed, the owner of what it replaces.
    fn be_like(&self, about: &Metadata) {
        let file = self.file.as_raw_fd();
        // SAFETY: the descriptor is open; a refusal leaves the file ours.
        unsafe {
            libc::fchown(file, about.uid(), about.gid());
            libc::fchmod(file, about.mode() & 0o777);
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes).map_err(|error| match error.kind() {
            // Who reads a pipe may never come back; Ctrl-C ends the wait.
            ErrorKind::Interrupted if self.beside.is_none() => Error::Interrupted.into_io(),
            _ => error,
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some((temporary, _)) = &self.beside {
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// What is read by this process, or was written by the same command, is not written over.
fn refuse_used(path: &Path, about: &Metadata) -> Result<()> {
    match in_use(Id::of(about)) {
        // Devices and pipes have no content to lose.
        Some(used) if about.is_file() => Err(cannot_write(path, Reason::Used(used))),
        _ => Ok(()),
    }
}

/// Where a link that leads to nothing yet leads.
fn through_links(path: &Path) -> PathBuf {
    const MOST: usize = 40;
    let mut place = path.to_path_buf();
    for _ in 0..MOST {
        let Ok(target) = std::fs::read_link(&place) else { break };
        place = match place.parent() {
            Some(directory) => directory.join(target),
            None => target,
        };
    }
    place
}

/// How long a pipe may have no reader.
const READER_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Opens a pipe or a character device.
fn open_stream(path: &Path) -> Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let by = Instant::now() + READER_WITHIN;
    let file = loop {
        match OpenOptions::new().write(true).custom_flags(flags).open(path) {
            Ok(file) => break file,
            Err(error) if error.raw_os_error() != Some(libc::ENXIO) => return Err(cannot_write(path, error)),
            Err(_) if Instant::now() > by => return Err(cannot_write(path, Reason::NoReader)),
            Err(_) => std::thread::sleep(LOOK_EVERY),
        }
    };
    // SAFETY: a descriptor of ours; writes wait for the reader from now on, as on standard output.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) };
    Ok(file)
}

/// A new file in the same directory.
fn beside(place: &Path) -> std::io::Result<(File, PathBuf)> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let directory = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    loop {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = directory.join(format!(".mapscope-{}-{number}.tmp", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((file, temporary)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}
