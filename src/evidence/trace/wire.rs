//! The bytes of a v2 execution trace: header, varints, batches, event tags.
//!
//! Layout facts: Go 1.27.3 `src/internal/trace/{batch.go,version/version.go,tracev2/events.go}`.

use super::error::TraceError;

/// Largest body of a batch, bytes (`tracev2.MaxBatchSize`).
const MAX_BATCH: u64 = 64 << 10;
/// Bytes of the file header: `go 1.NN trace\0\0\0`.
const HEADER: usize = 16;

/// The format of a trace file: the minor number in its header (22, 23, 25 or 26).
///
/// The format changes less often than Go: 1.24 writes 23, 1.27 writes 26.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32);

impl Version {
    /// From Go 1.25 a generation's clock data is a Sync batch; before, a lone Frequency event.
    pub(super) const SYNC_BATCH: Version = Version(25);
    /// From Go 1.26 a byte says that a generation has ended; before, the next one's first batch does.
    pub(super) const END_OF_GENERATION: Version = Version(26);

    /// Reads the header; errors name what to do about a file that cannot be read here.
    pub fn read(data: &[u8]) -> Result<Version, TraceError> {
        let header = data.get(..HEADER).ok_or(TraceError::NotATrace)?;
        let digits = header.strip_prefix(b"go 1.").and_then(|h| h.strip_suffix(b" trace\0\0\0"));
        // Formats before 1.10 had one digit and a longer padding; none of them is readable either.
        let old = header.strip_prefix(b"go 1.").and_then(|h| h.strip_suffix(b" trace\0\0\0\0"));
        let digits = digits.or(old).ok_or(TraceError::NotATrace)?;
        let minor = std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).ok_or(TraceError::NotATrace)?;
        match minor {
            22 | 23 | 25 | 26 => Ok(Version(minor)),
            0..=21 => Err(TraceError::OldFormat(minor)),
            _ => Err(TraceError::UnknownFormat(minor)),
        }
    }
}

/// A bounded reader over bytes that knows where in the file it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'a> {
    data: &'a [u8],
    at: usize,
    /// Offset of `data` in the file.
    base: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(data: &'a [u8], base: usize) -> Cursor<'a> {
        Cursor { data, at: 0, base }
    }

    /// Offset in the file of the next byte.
    pub fn offset(&self) -> usize {
        self.base.saturating_add(self.at)
    }

    pub fn is_empty(&self) -> bool {
        self.at >= self.data.len()
    }

    pub fn byte(&mut self) -> Option<u8> {
        let byte = *self.data.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// An unsigned LEB128 number of at most 64 bits; None when it is cut off or too long.
    #[inline]
    pub fn number(&mut self) -> Option<u64> {
        let first = *self.data.get(self.at)?;
        if first < 0x80 {
            self.at += 1;
            return Some(u64::from(first));
        }
        let word = self.data.get(self.at..).and_then(|rest| rest.first_chunk()).map(|bytes| u64::from_le_bytes(*bytes));
        // The top bit that is not set ends a number; its 7-bit groups move together by pairs, without a branch.
        match word.map(|word| (word, !word & 0x8080_8080_8080_8080)) {
            Some((word, ends)) if ends != 0 => {
                let groups = word & (ends ^ (ends - 1)) & 0x7f7f_7f7f_7f7f_7f7f;
                let pairs = groups & 0x007f_007f_007f_007f | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
                let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
                self.at += ends.trailing_zeros() as usize / 8 + 1;
                Some(fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4)
            }
            _ => self.long_number(),
        }
    }

    #[cold]
    fn long_number(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for i in 0..10usize {
            let byte = *self.data.get(self.at.checked_add(i)?)?;
            if i == 9 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.at += i + 1;
                return Some(value);
            }
        }
        None
    }

    pub fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let len = usize::try_from(len).ok()?;
        let bytes = self.data.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(bytes)
    }

    /// The error for what stands here.
    pub fn damaged(&self, what: &'static str) -> TraceError {
        TraceError::Damaged { offset: self.offset(), what }
    }
}

/// What a batch holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchKind {
    Events,
    Strings,
    Stacks,
    CpuSamples,
    Sync,
    Experimental,
    EndOfGeneration,
}

/// One batch: up to 64 KiB of one thread's events, or a piece of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch<'a> {
    pub kind: BatchKind,
    pub generation: u64,
    /// The M, or -1 for no thread.
    pub thread: i64,
    /// In clock units.
    pub time: u64,
    pub body: &'a [u8],
    /// Offset of `body` in the file.
    pub offset: usize,
}

/// The batches of a trace, in file order.
#[derive(Debug)]
pub(super) struct Batches<'a> {
    pub version: Version,
    cursor: Cursor<'a>,
}

impl<'a> Batches<'a> {
    pub fn new(data: &'a [u8]) -> Result<Batches<'a>, TraceError> {
        let version = Version::read(data)?;
        Ok(Batches { version, cursor: Cursor::new(data.get(HEADER..).unwrap_or_default(), HEADER) })
    }

    /// Offset in the file of the next batch.
    pub fn offset(&self) -> usize {
        self.cursor.offset()
    }

    /// The next batch, None at the end of the file.
    pub fn next(&mut self) -> Result<Option<Batch<'a>>, TraceError> {
        let start = self.cursor.offset();
        let cut = TraceError::Truncated { offset: start };
        let Some(kind) = self.cursor.byte() else { return Ok(None) };
        let experimental = match kind {
            tag::END_OF_GENERATION => {
                let (kind, body) = (BatchKind::EndOfGeneration, &[][..]);
                return Ok(Some(Batch { kind, generation: 0, thread: -1, time: 0, body, offset: start }));
            }
            tag::EVENT_BATCH => false,
            tag::EXPERIMENTAL_BATCH => {
                self.cursor.byte().ok_or(cut.clone())?;
                true
            }
            _ => return Err(TraceError::Damaged { offset: start, what: "no batch starts here" }),
        };
        let mut number = || self.cursor.number().ok_or(cut.clone());
        let (generation, thread, time, size) = (number()?, number()?, number()?, number()?);
        if size > MAX_BATCH {
            return Err(self.cursor.damaged("a batch is longer than 64 KiB"));
        }
        let offset = self.cursor.offset();
        let body = self.cursor.take(size).ok_or(cut)?;
        let kind = if experimental { BatchKind::Experimental } else { self.kind(body) };
        Ok(Some(Batch { kind, generation, thread: thread as i64, time, body, offset }))
    }

    /// A table's batch starts with its tag; everything else is timed events.
    fn kind(&self, body: &[u8]) -> BatchKind {
        match body.first() {
            Some(&tag::STRINGS) => BatchKind::Strings,
            Some(&tag::STACKS) => BatchKind::Stacks,
            Some(&tag::CPU_SAMPLES) => BatchKind::CpuSamples,
            Some(&tag::FREQUENCY) if self.version < Version::SYNC_BATCH => BatchKind::Sync,
            Some(&tag::SYNC) if self.version >= Version::SYNC_BATCH => BatchKind::Sync,
            Some(&tag::END_OF_GENERATION) => BatchKind::EndOfGeneration,
            _ => BatchKind::Events,
        }
    }
}

/// Event tags, Go 1.27.3 `tracev2/events.go`; numbers never change meaning between versions.
pub(super) mod tag {
    pub const EVENT_BATCH: u8 = 1;
    pub const STACKS: u8 = 2;
    pub const STACK: u8 = 3;
    pub const STRINGS: u8 = 4;
    pub const STRING: u8 = 5;
    pub const CPU_SAMPLES: u8 = 6;
    pub const CPU_SAMPLE: u8 = 7;
    pub const FREQUENCY: u8 = 8;
    pub const PROCS_CHANGE: u8 = 9;
    pub const PROC_START: u8 = 10;
    pub const PROC_STOP: u8 = 11;
    pub const PROC_STEAL: u8 = 12;
    pub const PROC_STATUS: u8 = 13;
    pub const GO_CREATE: u8 = 14;
    pub const GO_CREATE_SYSCALL: u8 = 15;
    pub const GO_START: u8 = 16;
    pub const GO_DESTROY: u8 = 17;
    pub const GO_DESTROY_SYSCALL: u8 = 18;
    pub const GO_STOP: u8 = 19;
    pub const GO_BLOCK: u8 = 20;
    pub const GO_UNBLOCK: u8 = 21;
    pub const GO_SYSCALL_BEGIN: u8 = 22;
    pub const GO_SYSCALL_END: u8 = 23;
    pub const GO_SYSCALL_END_BLOCKED: u8 = 24;
    pub const GO_STATUS: u8 = 25;
    pub const STW_BEGIN: u8 = 26;
    pub const STW_END: u8 = 27;
    pub const GC_ACTIVE: u8 = 28;
    pub const GC_BEGIN: u8 = 29;
    pub const GC_END: u8 = 30;
    pub const GC_SWEEP_ACTIVE: u8 = 31;
    pub const GC_SWEEP_BEGIN: u8 = 32;
    pub const GC_SWEEP_END: u8 = 33;
    pub const GC_ASSIST_ACTIVE: u8 = 34;
    pub const GC_ASSIST_BEGIN: u8 = 35;
    pub const GC_ASSIST_END: u8 = 36;
    pub const HEAP_ALLOC: u8 = 37;
    pub const HEAP_GOAL: u8 = 38;
    pub const GO_LABEL: u8 = 39;
    pub const TASK_BEGIN: u8 = 40;
    pub const TASK_END: u8 = 41;
    pub const REGION_BEGIN: u8 = 42;
    pub const REGION_END: u8 = 43;
    pub const LOG: u8 = 44;
    pub const GO_SWITCH: u8 = 45;
    pub const GO_SWITCH_DESTROY: u8 = 46;
    pub const GO_CREATE_BLOCKED: u8 = 47;
    pub const GO_STATUS_STACK: u8 = 48;
    pub const EXPERIMENTAL_BATCH: u8 = 49;
    pub const SYNC: u8 = 50;
    pub const CLOCK_SNAPSHOT: u8 = 51;
    pub const END_OF_GENERATION: u8 = 52;
    pub const SPAN: u8 = 128;
    pub const GOROUTINE_STACK_FREE: u8 = 136;
}

/// How many numbers follow a timed event's tag after its time difference; None for what is no timed event.
#[inline]
pub(super) fn argument_count(tag: u8) -> Option<usize> {
    const NONE: u8 = u8::MAX;
    #[rustfmt::skip]
    const COUNTS: [u8; 53] = [
        NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE, NONE,
        2, 2, 0, 3, 2,                      // procs: 9 to 13
        3, 1, 2, 0, 0, 2, 2, 3, 2, 0, 0, 3, // goroutines: 14 to 25
        2, 0, 1, 2, 1, 1, 1, 2, 1, 1, 0, 1, 1, // stop the world, GC, heap: 26 to 38
        1, 4, 2, 3, 3, 4,                   // labels and annotations: 39 to 44
        2, 2, 3, 4,                         // coroutines, status with stack: 45 to 48
        NONE, NONE, 3, NONE,
    ];
    const EXPERIMENTS: [u8; 9] = [3, 3, 1, 2, 2, 1, 2, 2, 1];
    let count = match tag {
        0..=52 => *COUNTS.get(usize::from(tag))?,
        tag::SPAN..=tag::GOROUTINE_STACK_FREE => *EXPERIMENTS.get(usize::from(tag - tag::SPAN))?,
        _ => NONE,
    };
    (count != NONE).then_some(usize::from(count))
}
