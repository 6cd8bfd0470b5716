//! A file that is evidence: its name, its bytes, and when it was last written.

use std::path::Path;

use crate::memory::last_change;
use crate::{Error, Result};

/// A file mapped into memory.
#[derive(Debug)]
pub struct EvidenceFile {
    /// As the user gave it.
    pub name: String,
    /// Nanoseconds since 1970 of the last change: the content is not younger.
    pub written: Option<i64>,
    /// None for an empty file, which cannot be mapped.
    data: Option<memmap2::Mmap>,
}

impl EvidenceFile {
    /// Maps `path`; a directory, a pipe or a missing file is one sentence.
    pub fn open(path: &Path) -> Result<EvidenceFile> {
        let file = std::fs::File::open(path).map_err(|e| Error::file(path, e))?;
        let about = file.metadata().map_err(|e| Error::file(path, e))?;
        if !about.is_file() {
            return Err(Error::file(path, "it is not a regular file"));
        }
        let written = last_change(&about);
        // SAFETY: the mapping is read-only and private; a file cut short while it is read ends the process
        // with SIGBUS, as for every mapped file.
        let map = || unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::file(path, e));
        let data = if about.len() == 0 { None } else { Some(map()?) };
        Ok(EvidenceFile { name: path.display().to_string(), written, data })
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        self.data.as_deref().unwrap_or_default()
    }
}
