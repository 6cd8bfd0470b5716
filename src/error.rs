//! Every way an answer can fail, each as one sentence that says what was wrong and what to do.

use crate::memory::MemoryError;

/// The crate's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the words shown to the user.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Target memory could not be read.
    #[error("{0}")]
    Memory(#[from] MemoryError),
    /// A file could not be opened or mapped.
    #[error("cannot open {path}: {reason}")]
    File { path: String, reason: String },
    /// The executable, core or its debug information is not what it should be.
    #[error("{0}")]
    Binary(String),
    /// The type graph lacks or contradicts something.
    #[error("{0}")]
    Type(String),
    /// The map header or its buckets cannot be what they claim.
    #[error("{0}")]
    Map(String),
    /// The user's expression, key literal or option makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A profile or trace is not one, or two of them do not belong together.
    #[error("{0}")]
    Evidence(String),
    /// Output could not be written.
    #[error("cannot write {path}: {reason}")]
    Output { path: String, reason: String },
    /// Who reads the output has gone.
    #[error("whoever read the answer has gone")]
    BrokenPipe,
    /// The memory that a command may take, in MiB, is used up.
    #[error(
        "this takes more than {0} MiB of memory, the limit; --memory-limit MIB or set gomap memory-limit allows more"
    )]
    Limit(u64),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// A [`Error::File`] for `path`.
    pub fn file(path: impl AsRef<std::path::Path>, reason: impl std::fmt::Display) -> Error {
        Error::File { path: path.as_ref().display().to_string(), reason: reason.to_string() }
    }
}

/// How long work reports progress and learns that the user pressed Ctrl-C.
///
/// Every loop over target memory calls [`Watch::tick`] at least every few thousand entries.
pub trait Watch: Send + Sync {
    /// `done` of `total` units (0 when unknown) are finished; an error stops the work.
    fn tick(&self, done: u64, total: u64) -> Result<()>;

    /// Work has ended with [`Error::Limit`], and what it found is going to be told: that may take some memory again.
    fn grant(&self) {}
}

/// A [`Watch`] that never interrupts and shows nothing.
pub struct Quiet;

impl Watch for Quiet {
    fn tick(&self, _done: u64, _total: u64) -> Result<()> {
        Ok(())
    }
}

impl Error {
    /// What a writer's failure means; `path` is what was written to.
    pub fn of_output(error: &std::io::Error, path: &str) -> Error {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(Error::Interrupted) => Error::Interrupted,
            _ if error.kind() == std::io::ErrorKind::BrokenPipe => Error::BrokenPipe,
            _ => Error::Output { path: path.into(), reason: error.to_string() },
        }
    }

    /// As an error of a writer. (`ErrorKind::Interrupted` would make `write_all` try again.)
    pub fn into_io(self) -> std::io::Error {
        std::io::Error::other(self)
    }
}
