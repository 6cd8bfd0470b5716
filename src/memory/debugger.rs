//! Memory through the debugger (a remote target), in cached blocks so that few packets are sent.

use super::{Memory, MemoryError, Place, Region};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Reads `buf.len()` bytes at an address; `false` when the target refuses.
pub type Reader = Box<dyn Fn(u64, &mut [u8]) -> bool + Send + Sync>;

/// Bytes per cached block: one page, as remote stubs and the kernel fail by page.
pub(super) const BLOCK: u64 = 4096;
/// Blocks asked for at once, once so many were asked for one by one: most looks need but a few words.
const AHEAD: u64 = 16;
const ONE_BY_ONE: usize = 4;
/// Blocks kept (16 MiB).
const KEPT: usize = 4096;
/// Blocks expected at once at most.
const EXPECTED: usize = 16;

/// A block cache over any reader.
pub struct BlockCache {
    reader: Reader,
    place: Place,
    blocks: Mutex<Blocks>,
}

/// One block of those that one call read.
#[derive(Clone)]
struct Piece {
    bytes: Arc<Vec<u8>>,
    start: usize,
}

impl Piece {
    fn block(&self) -> &[u8] {
        &self.bytes[self.start..self.start + BLOCK as usize]
    }
}

#[derive(Default)]
struct Blocks {
    held: FxHashMap<u64, Option<Piece>>,
    order: VecDeque<u64>,
    /// How often the reader was called since all was forgotten.
    asked: usize,
}

impl Blocks {
    fn keep(&mut self, number: u64, piece: Option<Piece>) {
        if self.held.insert(number, piece).is_none() {
            self.order.push_back(number);
        }
        while self.order.len() > KEPT {
            if let Some(oldest) = self.order.pop_front() {
                self.held.remove(&oldest);
            }
        }
    }
}

impl BlockCache {
    /// A cache over `reader`; valid until the target runs or is written to.
    pub fn new(reader: Reader, place: Place) -> BlockCache {
        BlockCache { reader, place, blocks: Mutex::new(Blocks::default()) }
    }

    /// Fills `buf`; whole-block reads go round the cache.
    pub fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        if buf.len() as u64 >= AHEAD * BLOCK && (self.reader)(address, buf) {
            return Ok(());
        }
        let mut done = 0;
        while done < buf.len() {
            let at = address.checked_add(done as u64).ok_or(MemoryError { address, place: self.place })?;
            let within = (at % BLOCK) as usize;
            let len = (BLOCK as usize - within).min(buf.len() - done);
            let piece = self.block(at / BLOCK).ok_or(MemoryError { address: at, place: self.place })?;
            buf[done..done + len].copy_from_slice(&piece.block()[within..within + len]);
            done += len;
        }
        Ok(())
    }

    /// Keeps the blocks of these addresses, read by one call of `gather`, which gives as many of the first ones as it can.
    pub fn expect(&self, addresses: &[u64], gather: impl Fn(&[u64], &mut [u8]) -> usize) {
        let mut starts: Vec<u64> = Vec::with_capacity(addresses.len());
        for start in addresses.iter().map(|address| address / BLOCK * BLOCK).take(EXPECTED) {
            if !starts.contains(&start) {
                starts.push(start);
            }
        }
        let mut bytes = vec![0; starts.len() * BLOCK as usize];
        let came = gather(&starts, &mut bytes);
        let mut blocks = self.blocks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let bytes = Arc::new(bytes);
        for (i, start) in starts.iter().enumerate().take(came) {
            blocks.keep(start / BLOCK, Some(Piece { bytes: bytes.clone(), start: i * BLOCK as usize }));
        }
    }

    /// Drops every block.
    pub fn forget(&self) {
        let mut blocks = self.blocks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The tables' own memory stays for the next look, unless it is that of a big one.
        match blocks.held.len() <= EXPECTED {
            true => {
                blocks.held.clear();
                blocks.order.clear();
                blocks.asked = 0;
            }
            false => *blocks = Blocks::default(),
        }
    }

    fn block(&self, number: u64) -> Option<Piece> {
        let mut blocks = self.blocks.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(known) = blocks.held.get(&number) {
            return known.clone();
        }
        blocks.asked += 1;
        let ahead = if blocks.asked > ONE_BY_ONE { AHEAD } else { 1 };
        let mut bytes = vec![0; (ahead * BLOCK) as usize];
        if ahead > 1 && (number + AHEAD).checked_mul(BLOCK).is_some() && (self.reader)(number * BLOCK, &mut bytes) {
            let bytes = Arc::new(bytes);
            for i in 0..AHEAD {
                blocks.keep(number + i, Some(Piece { bytes: bytes.clone(), start: (i * BLOCK) as usize }));
            }
        } else {
            bytes.truncate(BLOCK as usize);
            let present = (self.reader)(number * BLOCK, &mut bytes);
            blocks.keep(number, present.then(|| Piece { bytes: Arc::new(bytes), start: 0 }));
        }
        blocks.held.get(&number).cloned().flatten()
    }
}

/// The memory of whatever a debugger is attached to.
pub struct DebuggerMemory {
    cache: BlockCache,
    regions: Vec<Region>,
}

impl DebuggerMemory {
    /// Memory read by `reader`; `regions` as far as the debugger knows them.
    pub fn new(reader: Reader, regions: Vec<Region>) -> DebuggerMemory {
        DebuggerMemory { cache: BlockCache::new(reader, Place::Debugger), regions }
    }
}

impl Memory for DebuggerMemory {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.cache.read(address, buf)
    }

    fn regions(&self) -> Vec<Region> {
        self.regions.clone()
    }

    fn place(&self) -> Place {
        Place::Debugger
    }

    fn forget(&self) {
        self.cache.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// 3 pages at 0x10000, each byte its address's low byte; counts the calls.
    fn memory(calls: Arc<AtomicUsize>) -> DebuggerMemory {
        let reader = move |address: u64, buf: &mut [u8]| {
            calls.fetch_add(1, Ordering::Relaxed);
            let inside = address >= 0x10000 && address <= 0x13000 - buf.len() as u64;
            buf.iter_mut().enumerate().for_each(|(i, byte)| *byte = address.wrapping_add(i as u64) as u8);
            inside
        };
        DebuggerMemory::new(Box::new(reader), Vec::new())
    }

    #[test]
    fn small_reads_share_blocks_and_the_missing_address_is_exact() {
        let calls = Arc::new(AtomicUsize::new(0));
        let memory = memory(calls.clone());
        let memory: &dyn Memory = &memory;
        assert_eq!(memory.u32(0x10ffe), Ok(u32::from_le_bytes([0xfe, 0xff, 0x00, 0x01])));
        let after_first = calls.load(Ordering::Relaxed);
        for address in 0x10000..0x11f00 {
            assert_eq!(memory.u8(address), Ok(address as u8));
        }
        assert_eq!(calls.load(Ordering::Relaxed), after_first);
        memory.forget();
        assert_eq!(memory.u8(0x10000), Ok(0));
        assert_eq!(calls.load(Ordering::Relaxed), after_first + 1);
        let missing = memory.bytes(0x12ff0, 64).unwrap_err();
        assert_eq!(missing, MemoryError { address: 0x13000, place: Place::Debugger });
        assert!(memory.bytes(u64::MAX - 3, 8).is_err());
    }
}
