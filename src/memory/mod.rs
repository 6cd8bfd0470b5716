//! Bytes of the target, wherever they are: a core file, a live process, a remote debugger.
//!
//! Only 64-bit little-endian targets (amd64, arm64) are read; the binary layer refuses others.

mod backed;
mod blocks;
mod core;
mod debugger;
mod process;
mod rights;
mod stop;
mod thread;

pub use backed::BackedMemory;
pub use blocks::{each_block, Block};
pub use core::{CoreMemory, FileNote};
pub use debugger::DebuggerMemory;
pub use process::ProcessMemory;
pub use stop::STOP_WITHIN;
pub use thread::{Thread, Threads};

use crate::files::Stamp;
use byteorder::{ByteOrder, LittleEndian as LE};
use std::borrow::Cow;
use std::fmt;

/// Why some target bytes could not be had. The address is the first one missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryError {
    /// First address that could not be read.
    pub address: u64,
    /// Which kind of place was asked, for the sentence.
    pub place: Place,
}

/// The kind of place that memory is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A core file none of whose segments has this page.
    Core,
    /// A core file that has a segment for this page, and left its bytes out.
    LeftOut,
    /// A core file that ends before this page.
    TruncatedCore,
    /// A live process in which the page is not mapped or not readable.
    Process,
    /// A remote target, through the debugger.
    Debugger,
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address;
        match self.place {
            Place::Core | Place::LeftOut => write!(f, "memory at {address:#x} is not in this core"),
            Place::TruncatedCore => write!(f, "memory at {address:#x} is past the end of this truncated core"),
            Place::Process => write!(f, "memory at {address:#x} is not readable in this process"),
            Place::Debugger => write!(f, "memory at {address:#x} is not readable through the debugger"),
        }
    }
}

impl std::error::Error for MemoryError {}

impl MemoryError {
    /// Whether the target had this memory, and only what was kept of it lacks it.
    pub fn is_left_out(&self) -> bool {
        matches!(self.place, Place::LeftOut | Place::TruncatedCore)
    }
}

/// A range of target addresses that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Whether the target may write there.
    pub writable: bool,
    /// Whether the target may execute there.
    pub executable: bool,
    /// The mapped file, when it is one.
    pub file: Option<String>,
}

/// A readable address space. Reading never changes the target.
pub trait Memory: Send + Sync {
    /// Fills `buf` from `address`, or says which address is missing (then `buf`'s content is unspecified).
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError>;

    /// The bytes in place, when `len` bytes at `address` are mapped contiguously in this process.
    fn mapped(&self, _address: u64, _len: usize) -> Option<&[u8]> {
        None
    }

    /// The readable ranges, sorted by start and disjoint; empty when the place cannot tell.
    fn regions(&self) -> Vec<Region>;

    /// Bytes that the target has mapped, readable here or not; `None` when the place cannot tell.
    fn size(&self) -> Option<u64> {
        let regions = self.regions();
        (!regions.is_empty()).then(|| regions.iter().map(|r| r.end - r.start).sum())
    }

    /// Which kind of place this is.
    fn place(&self) -> Place;

    /// Whether every thread may read; a debugger's memory is its own thread's.
    fn any_thread(&self) -> bool {
        false
    }

    /// The files that it is read from, as they were when they were opened.
    fn files(&self) -> Vec<Stamp> {
        Vec::new()
    }

    /// Forgets what was kept of the target's memory, because the target has run.
    fn forget(&self) {}

    /// Fetches what lies around these addresses together, where that is cheaper than one by one. A hint: one that
    /// cannot be read may hide those after it.
    fn expect(&self, _addresses: &[u64]) {}
}

/// Reads above this size are made piece by piece, so that a corrupt length fails before it allocates.
const PIECE: usize = 1 << 20;

/// Asks the processor for something before it is needed: looks made one after the other wait together.
pub fn ask<T>(wanted: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, without effect on memory; the instruction is in every amd64 processor.
    unsafe {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(wanted).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(wanted);
}

impl dyn Memory + '_ {
    /// Asks the processor for the byte at `address`, see [`ask`].
    pub fn ask(&self, address: u64) {
        if let Some([byte, ..]) = self.mapped(address, 1) {
            ask(byte);
        }
    }

    /// `len` bytes at `address`: borrowed where the memory is mapped, else copied.
    ///
    /// A corrupt `len` costs no more memory than the target really has at `address`.
    pub fn bytes(&self, address: u64, len: usize) -> Result<Cow<'_, [u8]>, MemoryError> {
        if let Some(bytes) = self.mapped(address, len) {
            return Ok(Cow::Borrowed(bytes));
        }
        let mut out = Vec::with_capacity(len.min(PIECE));
        while out.len() < len {
            let start = out.len();
            let piece = (len - start).min(PIECE);
            let from = address.checked_add(start as u64).ok_or(MemoryError { address, place: self.place() })?;
            out.resize(start + piece, 0);
            self.read(from, &mut out[start..])?;
        }
        Ok(Cow::Owned(out))
    }

    /// `N` bytes at `address`.
    pub fn array<const N: usize>(&self, address: u64) -> Result<[u8; N], MemoryError> {
        let mut buf = [0; N];
        match self.mapped(address, N) {
            Some(bytes) => buf.copy_from_slice(bytes),
            None => self.read(address, &mut buf)?,
        }
        Ok(buf)
    }

    /// The byte at `address`.
    pub fn u8(&self, address: u64) -> Result<u8, MemoryError> {
        Ok(self.array::<1>(address)?[0])
    }

    /// The little-endian 16-bit word at `address`.
    pub fn u16(&self, address: u64) -> Result<u16, MemoryError> {
        Ok(u16::from_le_bytes(self.array(address)?))
    }

    /// The little-endian 32-bit word at `address`.
    pub fn u32(&self, address: u64) -> Result<u32, MemoryError> {
        Ok(u32::from_le_bytes(self.array(address)?))
    }

    /// The little-endian 64-bit word (also: pointer, int, uintptr) at `address`.
    pub fn u64(&self, address: u64) -> Result<u64, MemoryError> {
        Ok(u64::from_le_bytes(self.array(address)?))
    }

    /// `count` little-endian 64-bit words from `address` on.
    pub fn words(&self, address: u64, count: usize) -> Result<Vec<u64>, MemoryError> {
        let bytes = self.bytes(address, count.saturating_mul(8))?;
        Ok(bytes.chunks_exact(8).map(LE::read_u64).collect())
    }

    /// Whether `len` bytes at `address` can be read.
    pub fn readable(&self, address: u64, len: usize) -> bool {
        self.bytes(address, len).is_ok()
    }
}
