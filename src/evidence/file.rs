//! A file that is evidence: its name, its bytes, and when it was last written.

use crate::error::Watch;
use crate::files::{self, Mapped};
use crate::Result;
use std::path::Path;

/// A file mapped into memory, or what came out of a pipe.
#[derive(Debug)]
pub struct EvidenceFile {
    /// As the user gave it.
    pub name: String,
    /// Nanoseconds since 1970 of the last change: the content is not younger. `None` for a pipe.
    pub written: Option<i64>,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Mapped(Mapped),
    Streamed(Vec<u8>),
}

impl EvidenceFile {
    /// Maps `path`, or reads it to its end where it is a pipe, or `-` for standard input; a directory, a device or a
    /// missing file is one sentence.
    pub fn open(path: &Path, watch: &dyn Watch) -> Result<EvidenceFile> {
        let name = path.display().to_string();
        if let Some(bytes) = files::read_stream(path, watch)? {
            return Ok(EvidenceFile { name, written: None, data: Data::Streamed(bytes) });
        }
        let file = Mapped::open(path)?;
        Ok(EvidenceFile { name, written: file.stamp().written(), data: Data::Mapped(file) })
    }

    /// The content.
    pub fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Mapped(file) => file,
            Data::Streamed(bytes) => bytes,
        }
    }
}
