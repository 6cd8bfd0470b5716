//! What words of memory lead to, whatever their types: the objects that a conservative collector would keep.

use super::Heap;
use crate::error::Watch;
use crate::memory::Memory;
use crate::Result;
use byteorder::{ByteOrder, LittleEndian as LE};
use std::ops::Range;

/// Bytes of a range that are read at once.
const BLOCK: u64 = 1 << 20;

/// Objects that were come to: one bit each, in the order of the spans.
pub struct Marker<'h> {
    heap: &'h Heap,
    memory: &'h dyn Memory,
    visited: Vec<u64>,
    done: u64,
}

impl<'h> Marker<'h> {
    /// Nothing visited yet.
    pub fn new(heap: &'h Heap, memory: &'h dyn Memory) -> Marker<'h> {
        Marker { heap, memory, visited: vec![0; heap.objects().div_ceil(64) as usize], done: 0 }
    }

    /// Calls `f` with the address of each object that the words in `root` lead to, and that no earlier root led to.
    pub fn mark(&mut self, root: Range<u64>, watch: &dyn Watch, f: &mut dyn FnMut(u64)) -> Result<()> {
        let mut queue = vec![root];
        while let Some(range) = queue.pop() {
            let mut at = range.start;
            while at < range.end {
                let len = BLOCK.min(range.end - at);
                let bytes = self.memory.bytes(at, len as usize).unwrap_or_default();
                for word in bytes.chunks_exact(8) {
                    let Some(object) = self.heap.object(LE::read_u64(word)) else { continue };
                    let (number, mask) = ((object.number() / 64) as usize, 1 << (object.number() % 64));
                    let Some(seen) = self.visited.get_mut(number).filter(|seen| **seen & mask == 0) else { continue };
                    *seen |= mask;
                    if !object.is_allocated(self.memory) {
                        continue;
                    }
                    f(object.base);
                    self.done += 1;
                    if self.done & 4095 == 0 {
                        watch.tick(self.done, self.heap.objects())?;
                    }
                    if !object.span.no_scan {
                        queue.push(object.base..object.base.saturating_add(object.span.elem_size));
                    }
                }
                at += len;
            }
        }
        Ok(())
    }
}
