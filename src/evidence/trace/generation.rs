//! A generation: about a second of trace, whose ids mean nothing outside it.
//!
//! Its tables may stand after its events, so a generation is indexed whole before its first event is
//! read; the events themselves stay where they are in the file.

use super::error::TraceError;
use super::table::Tables;
use super::wire::{tag, Batch, BatchKind, Batches, Cursor, Version};
use rustc_hash::FxHashMap;

/// Most threads in a generation: ten times the runtime's own limit (`debug.SetMaxThreads`).
const MAX_THREADS: usize = 100_000;

/// Below this many units, a product with a whole unit of up to 1000 ns is exact in a float.
const EXACT: u64 = 1 << 42;

/// A reading of three clocks at (almost) one moment; Go 1.25 and later write one a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockSnapshot {
    /// Trace time, ns.
    pub trace: i64,
    /// The runtime's monotonic clock (`nanotime`), ns.
    pub mono: u64,
    /// Wall clock: seconds since 1970, UTC.
    pub wall_seconds: i64,
    /// And its nanoseconds.
    pub wall_nanos: u32,
}

/// A generation's clock: how long a unit of its timestamps is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    /// Nanoseconds a unit.
    pub unit: f64,
    /// The same, where it is a small whole number: then integers multiply to what floats do, and sooner.
    whole: Option<u64>,
    /// Units a second, as written.
    pub frequency: u64,
    /// Trace time (units), nanotime (ns), wall seconds, wall nanoseconds.
    snapshot: Option<(u64, u64, u64, u64)>,
}

impl Clock {
    /// Units to nanoseconds, rounded as Go's reader rounds.
    #[inline]
    pub fn nanos(&self, units: u64) -> i64 {
        match self.whole {
            Some(whole) if units < EXACT => (units * whole) as i64,
            _ => (units as f64 * self.unit) as i64,
        }
    }

    pub fn snapshot(&self) -> Option<ClockSnapshot> {
        let (trace, mono, seconds, nanos) = self.snapshot?;
        Some(ClockSnapshot {
            trace: self.nanos(trace),
            mono,
            wall_seconds: i64::try_from(seconds).ok()?,
            wall_nanos: u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000)?,
        })
    }

    /// Reads the sync batch: a frequency, and from Go 1.25 a snapshot of the clocks.
    fn read(&mut self, batch: &Batch, version: Version) -> Result<(), TraceError> {
        let mut cursor = Cursor::new(batch.body, batch.offset);
        let with_snapshot = version >= Version::SYNC_BATCH;
        if with_snapshot {
            cursor.byte();
        }
        let mut time = batch.time;
        while !cursor.is_empty() {
            let cut = cursor.damaged("the clock data is cut off");
            let kind = cursor.byte();
            let mut number = || cursor.number().ok_or(cut.clone());
            match kind {
                Some(tag::FREQUENCY) if self.frequency == 0 => {
                    self.frequency = number()?;
                    self.unit = 1.0 / (self.frequency as f64 / 1e9);
                    self.whole = Some(self.unit as u64).filter(|whole| *whole as f64 == self.unit && *whole <= 1000);
                    if self.frequency == 0 {
                        return Err(cursor.damaged("the clock's frequency is zero"));
                    }
                }
                Some(tag::CLOCK_SNAPSHOT) if with_snapshot && self.snapshot.is_none() => {
                    time = time.wrapping_add(number()?);
                    self.snapshot = Some((time, number()?, number()?, number()?));
                }
                _ => return Err(cursor.damaged("the clock data has an unknown or repeated part")),
            }
        }
        Ok(())
    }
}

/// A sample of the CPU profiler.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuSample {
    /// Nanoseconds.
    pub time: i64,
    pub thread: i64,
    pub proc: i64,
    pub goroutine: i64,
    pub stack: u64,
}

/// One thread's events in a generation.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    pub thread: i64,
    pub batches: Vec<Batch<'a>>,
}

/// One generation, indexed.
#[derive(Debug)]
pub(super) struct Generation<'a> {
    pub number: u64,
    /// In the order in which the file first names the threads.
    pub streams: Vec<Stream<'a>>,
    pub samples: Vec<CpuSample>,
    pub tables: Tables<'a>,
    pub clock: Clock,
    /// The earliest batch, in units.
    start: u64,
}

impl<'a> Generation<'a> {
    /// When it starts, ns.
    pub fn start(&self) -> i64 {
        self.clock.nanos(self.start)
    }
}

/// The generations of a trace, in order.
#[derive(Debug)]
pub(super) struct Generations<'a> {
    batches: Batches<'a>,
    /// The batch that showed that the generation before it had ended.
    next: Option<Batch<'a>>,
    /// An error met behind a generation that is good by itself.
    pending: Option<TraceError>,
    any: bool,
}

impl<'a> Generations<'a> {
    pub fn new(data: &'a [u8]) -> Result<Generations<'a>, TraceError> {
        Ok(Generations { batches: Batches::new(data)?, next: None, pending: None, any: false })
    }

    pub fn version(&self) -> Version {
        self.batches.version
    }

    /// The next generation, None at the end of a whole trace.
    pub fn next(&mut self) -> Result<Option<Generation<'a>>, TraceError> {
        if let Some(error) = self.pending.take() {
            return Err(error);
        }
        let mut building = Building::new(self.version());
        let ended = if self.version() >= Version::END_OF_GENERATION {
            self.fill_to_mark(&mut building)?
        } else {
            self.fill_to_next(&mut building)?
        };
        if !ended {
            return Ok(None);
        }
        self.any = true;
        building.finish(self.batches.offset()).map(Some)
    }

    /// Go 1.26 and later: a generation ends with a mark; without it, it is incomplete.
    fn fill_to_mark(&mut self, building: &mut Building<'a>) -> Result<bool, TraceError> {
        loop {
            match self.batches.next()? {
                None if building.is_empty() => return Ok(false),
                None => return Err(TraceError::Truncated { offset: self.batches.offset() }),
                Some(batch) if batch.kind == BatchKind::EndOfGeneration => return Ok(true),
                Some(batch) => {
                    if !building.same_generation(&batch) {
                        return Err(damaged(&batch, "a generation's end mark is missing"));
                    }
                    building.add(batch)?;
                }
            }
        }
    }

    /// Before Go 1.26: a generation ends where the next one starts, or the file ends.
    fn fill_to_next(&mut self, building: &mut Building<'a>) -> Result<bool, TraceError> {
        if let Some(batch) = self.next.take() {
            building.add(batch)?;
        } else if self.any {
            return Ok(false);
        }
        loop {
            match self.batches.next() {
                Ok(None) if building.is_empty() => return Err(TraceError::Truncated { offset: self.batches.offset() }),
                Ok(None) => return Ok(true),
                Ok(Some(batch)) if building.same_generation(&batch) => building.add(batch)?,
                Ok(Some(batch)) if building.is_next(&batch) => {
                    self.next = Some(batch);
                    return Ok(true);
                }
                Ok(Some(batch)) => return Err(damaged(&batch, "the generations are out of order")),
                Err(error) if building.is_empty() => return Err(error),
                Err(error) => {
                    self.pending = Some(error);
                    return Ok(true);
                }
            }
        }
    }
}

fn damaged(batch: &Batch, what: &'static str) -> TraceError {
    TraceError::Damaged { offset: batch.offset, what }
}

/// A generation while its batches come in.
struct Building<'a> {
    version: Version,
    generation: Generation<'a>,
    stream_of: FxHashMap<i64, usize>,
}

impl<'a> Building<'a> {
    fn new(version: Version) -> Building<'a> {
        let (streams, samples, tables) = (Vec::new(), Vec::new(), Tables::new());
        let generation = Generation { number: 0, streams, samples, tables, clock: Clock::default(), start: 0 };
        Building { version, generation, stream_of: FxHashMap::default() }
    }

    fn is_empty(&self) -> bool {
        self.generation.number == 0
    }

    fn same_generation(&self, batch: &Batch) -> bool {
        batch.generation != 0 && (self.is_empty() || batch.generation == self.generation.number)
    }

    fn is_next(&self, batch: &Batch) -> bool {
        Some(batch.generation) == self.generation.number.checked_add(1)
    }

    fn add(&mut self, batch: Batch<'a>) -> Result<(), TraceError> {
        let generation = &mut self.generation;
        generation.number = batch.generation;
        if generation.start == 0 || batch.time < generation.start {
            generation.start = batch.time;
        }
        let cursor = Cursor::new(batch.body, batch.offset);
        match batch.kind {
            BatchKind::Strings => generation.tables.add_strings(cursor),
            BatchKind::Stacks => generation.tables.add_stacks(cursor),
            BatchKind::CpuSamples => add_samples(&mut generation.samples, cursor),
            BatchKind::Sync => generation.clock.read(&batch, self.version),
            BatchKind::Experimental => Ok(()),
            BatchKind::EndOfGeneration => Err(damaged(&batch, "an end mark where this version has none")),
            BatchKind::Events => {
                let next = generation.streams.len();
                if next > MAX_THREADS {
                    return Err(damaged(&batch, "a generation has more than 100000 threads"));
                }
                let at = *self.stream_of.entry(batch.thread).or_insert(next);
                if at == next {
                    generation.streams.push(Stream { thread: batch.thread, batches: Vec::new() });
                }
                if let Some(stream) = generation.streams.get_mut(at) {
                    stream.batches.push(batch);
                }
                Ok(())
            }
        }
    }

    /// Checks what Go's reader checks; `offset` is where the generation ends.
    fn finish(self, offset: usize) -> Result<Generation<'a>, TraceError> {
        let mut generation = self.generation;
        let damaged = |what| Err(TraceError::Damaged { offset, what });
        if generation.clock.frequency == 0 {
            return damaged("a generation has no clock frequency");
        }
        if self.version >= Version::SYNC_BATCH && generation.clock.snapshot.is_none() {
            return damaged("a generation has no clock snapshot");
        }
        if !generation.tables.frames_have_strings() {
            return damaged("a stack frame names a string that is not there");
        }
        for sample in &mut generation.samples {
            sample.time = generation.clock.nanos(sample.time as u64);
        }
        generation.samples.sort_by_key(|sample| sample.time);
        Ok(generation)
    }
}

/// Reads a batch of CPU samples: `tag, time, m, p, g, stack` each; times stay in units.
fn add_samples(samples: &mut Vec<CpuSample>, mut cursor: Cursor) -> Result<(), TraceError> {
    cursor.byte();
    while !cursor.is_empty() {
        if cursor.byte() != Some(tag::CPU_SAMPLE) {
            return Err(cursor.damaged("a CPU sample was expected"));
        }
        let cut = cursor.damaged("a CPU sample is cut off");
        let mut number = || cursor.number().ok_or(cut.clone());
        let (time, thread, proc) = (number()? as i64, number()? as i64, number()? as i64);
        let goroutine = match number()? {
            0 => -1,
            id => id as i64,
        };
        samples.push(CpuSample { time, thread, proc, goroutine, stack: number()? });
    }
    Ok(())
}
