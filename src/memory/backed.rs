//! A process's memory with its executable's file behind it: what no write can change is still there when the
//! process has ended.

use super::{Memory, MemoryError, Place, Region};
use crate::binary::elf::{load_segments, LoadSegment};
use crate::files::{Mapped, Stamp};
use std::sync::Arc;

/// Memory, and the file for what the memory does not give.
pub struct BackedMemory<M> {
    memory: M,
    file: Arc<Mapped>,
    parts: Vec<LoadSegment>,
}

impl<M: Memory> BackedMemory<M> {
    /// Puts the executable's `file`, moved by `bias`, behind `memory`. What the loader relocates is writable at first,
    /// and is not taken from the file.
    pub fn new(memory: M, file: Arc<Mapped>, bias: u64) -> BackedMemory<M> {
        let parts = load_segments(&file, bias).into_iter().filter(|segment| !segment.writable).collect();
        BackedMemory { memory, file, parts }
    }

    fn in_file(&self, address: u64, len: usize) -> Option<&[u8]> {
        let within = |part: &&LoadSegment| address.checked_sub(part.start).is_some_and(|at| at < part.size);
        let part = self.parts.iter().find(within)?;
        let at = address - part.start;
        let end = at.checked_add(len as u64).filter(|&end| end <= part.size)?;
        self.file.get(part.offset.checked_add(at)? as usize..part.offset.checked_add(end)? as usize)
    }
}

impl<M: Memory> Memory for BackedMemory<M> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(address, buf).or_else(|error| {
            buf.copy_from_slice(self.in_file(address, buf.len()).ok_or(error)?);
            Ok(())
        })
    }

    fn mapped(&self, address: u64, len: usize) -> Option<&[u8]> {
        self.memory.mapped(address, len)
    }

    fn regions(&self) -> Vec<Region> {
        self.memory.regions()
    }

    fn size(&self) -> Option<u64> {
        self.memory.size()
    }

    fn place(&self) -> Place {
        self.memory.place()
    }

    fn any_thread(&self) -> bool {
        self.memory.any_thread()
    }

    fn files(&self) -> Vec<Stamp> {
        self.memory.files()
    }

    fn forget(&self) {
        self.memory.forget();
    }

    fn expect(&self, addresses: &[u64]) {
        self.memory.expect(addresses);
    }
}
