//! The events of a trace in the order in which they can have happened.
//!
//! Each thread's stream is read in file order; of all threads' next events the earliest is tried first,
//! and where the scheduler's state does not allow it yet, the others in order of time.

use super::error::TraceError;
use super::event::{Event, Kind, StackId, NONE};
use super::generation::{CpuSample, Generation, Generations, Stream};
use super::order::{Advance, Broken, Moved, Order, Passed, Place, Raw, ThreadSlot};
use super::table::Frame;
use super::wire::{argument_count, Cursor, Version};
use std::sync::Arc;

/// How many tries out of order are allowed beyond [`TRIES_PER_EVENT`]: keeps a hostile file from taking
/// time quadratic in its size.
const FREE_TRIES: u64 = 20_000_000;
const TRIES_PER_EVENT: u64 = 256;
/// Events handed over at once by [`Events::fill`]: few enough to stay in a processor's cache, many enough that two
/// threads seldom wait for each other.
const BLOCK: usize = 8192;
/// The slot of no goroutine.
const NO_SLOT: u32 = u32::MAX;

/// Events of one generation in a row, with what their ids mean.
#[derive(Debug, Default)]
pub(super) struct Portion<'a> {
    pub passed: Passed<'a>,
    pub around: Around<'a>,
}

/// The generation that events are in; none behind the last one.
#[derive(Debug, Clone, Default)]
pub(super) struct Around<'a>(Option<Arc<Generation<'a>>>);

impl<'a> Around<'a> {
    /// A stack's frames, innermost first.
    pub fn frames(&self, stack: StackId) -> impl Iterator<Item = Frame<'a>> + '_ {
        self.0.iter().flat_map(move |generation| generation.tables.frames(stack))
    }

    /// The text at a place.
    pub fn text(&self, place: u32) -> &'a [u8] {
        self.0.as_ref().map_or(&[], |generation| generation.tables.text(place))
    }

    /// The clock's units a second.
    pub fn frequency(&self) -> Option<u64> {
        self.0.as_ref().map(|generation| generation.clock.frequency)
    }
}

/// Iterates over a trace's events; see [`Events::next`].
#[derive(Debug)]
pub struct Events<'a> {
    generations: Generations<'a>,
    current: Option<Arc<Generation<'a>>>,
    order: Order<'a>,
    /// One for each thread with events in the generation.
    readers: Vec<Reader<'a>>,
    /// A binary heap by time of readers with events left: ties fall as in Go's reader, whose heap has
    /// the same shape.
    frontier: Vec<Next>,
    samples: std::vec::IntoIter<CpuSample>,
    next_sample: Option<CpuSample>,
    /// How many of the events that have passed were handed out by [`Events::next`].
    handed_out: usize,
    syncs: u64,
    tried: u64,
    tries: u64,
    /// An error to hand out behind the last sync event.
    error: Option<TraceError>,
    /// An error to hand out behind the last block.
    behind: Option<TraceError>,
    done: bool,
}

impl<'a> Events<'a> {
    /// Starts on the bytes of a trace file.
    pub fn new(data: &'a [u8]) -> Result<Events<'a>, TraceError> {
        Ok(Events {
            generations: Generations::new(data)?,
            current: None,
            order: Order::new(),
            readers: Vec::new(),
            frontier: Vec::new(),
            samples: Vec::new().into_iter(),
            next_sample: None,
            handed_out: 0,
            syncs: 0,
            tried: 0,
            tries: 0,
            error: None,
            behind: None,
            done: false,
        })
    }

    /// The file's format.
    pub fn version(&self) -> Version {
        self.generations.version()
    }

    /// The clock's units a second in the current generation, None outside one.
    pub fn frequency(&self) -> Option<u64> {
        self.current.as_ref().map(|generation| generation.clock.frequency)
    }

    /// A stack's frames, innermost first. Ids hold until the next [`Kind::Sync`].
    pub fn frames(&self, stack: StackId) -> impl Iterator<Item = Frame<'a>> + '_ {
        self.current.iter().flat_map(move |generation| generation.tables.frames(stack))
    }

    /// The next event, None at the end of the trace. After an error there are no more events.
    // Not an Iterator: stacks are resolved through `self` between two events.
    #[allow(clippy::should_implement_trait)]
    #[inline]
    pub fn next(&mut self) -> Result<Option<Event<'a>>, TraceError> {
        loop {
            if let Some(place) = self.order.passed.places.get(self.handed_out) {
                self.handed_out += 1;
                return Ok(match *place {
                    Place::Moved(moved) => Some(self.event(moved)),
                    Place::Other(at) => self.order.passed.others.get(at as usize).copied(),
                });
            }
            self.handed_out = 0;
            self.order.passed.clear();
            self.advance()?;
            if self.order.passed.places.is_empty() {
                return Ok(None);
            }
        }
    }

    fn event(&self, moved: Moved) -> Event<'a> {
        let Moved { time, thread, proc, goroutine, goid, reason, own, stack, from, to, .. } = moved;
        let reason = self.current.as_ref().map_or(&[][..], |generation| generation.tables.text(reason));
        let kind = Kind::Goroutine { goid, from, to, reason, stack: own };
        Event { time, thread, proc, goroutine, kind, stack, slot: NO_SLOT }
    }

    /// Moves events into an empty portion; none are left when it stays empty. An error comes behind the events before it.
    pub(super) fn fill(&mut self, block: &mut Portion<'a>) -> Result<(), TraceError> {
        self.advance()?;
        block.around = Around(self.current.clone());
        self.order.passed.hand_over(&mut block.passed);
        Ok(())
    }

    /// The threads and Ps that the events have told of.
    pub(super) fn threads_and_procs(&self) -> (impl Iterator<Item = i64> + '_, impl Iterator<Item = i64> + '_) {
        (self.order.threads(), self.order.procs())
    }

    /// Lets a block of one generation's events pass; none pass at the end of the trace.
    fn advance(&mut self) -> Result<(), TraceError> {
        if let Some(error) = self.behind.take() {
            return Err(error);
        }
        while !self.done && self.order.passed.places.len() < BLOCK {
            let last = self.frontier.is_empty() && self.next_sample.is_none();
            if last && !self.order.passed.places.is_empty() {
                break;
            }
            let stepped = match last {
                true => self.next_generation(),
                false => self.step(),
            };
            if let Err(error) = stepped {
                self.done = true;
                match self.order.passed.places.is_empty() {
                    true => return Err(error),
                    false => self.behind = Some(error),
                }
            }
        }
        Ok(())
    }

    /// Lets some of the next events pass.
    fn step(&mut self) -> Result<(), TraceError> {
        let first = self.frontier.first().map_or(i64::MAX, |first| first.time);
        match self.next_sample {
            Some(sample) if self.frontier.is_empty() || sample.time < first => {
                self.next_sample = self.samples.next();
                let event = self.sample(sample)?;
                self.order.passed.push(event);
                Ok(())
            }
            _ => match self.run()? {
                true => Ok(()),
                false => self.out_of_order(),
            },
        }
    }

    /// Lets the first thread's events pass for as long as they are the earliest; false when its next one cannot pass yet.
    fn run(&mut self) -> Result<bool, TraceError> {
        let sample = self.next_sample.map_or(i64::MAX, |sample| sample.time);
        let until = sample.min(time_at(&self.frontier, 1)).min(time_at(&self.frontier, 2));
        let Some(next) = self.frontier.first_mut() else { return Ok(false) };
        let (Some(generation), Some(reader)) = (&self.current, self.readers.get_mut(next.reader)) else {
            return Ok(false);
        };
        loop {
            self.tried += 1;
            let advance = self.order.advance(&reader.raw, reader.slot, generation);
            let passed = advance.map_err(|broken| broken.at(reader.raw.time))? == Advance::Passed;
            if passed && !reader.read(generation)? {
                remove(&mut self.frontier, 0);
                return Ok(true);
            }
            if !passed || reader.time > until || self.order.passed.places.len() >= BLOCK {
                next.time = reader.time;
                sift_down(&mut self.frontier, 0);
                return Ok(passed);
            }
        }
    }

    fn sample(&self, sample: CpuSample) -> Result<Event<'a>, TraceError> {
        let CpuSample { time, thread, proc, goroutine, stack } = sample;
        let unknown = Broken("a CPU sample names a stack that is not there", stack as i64);
        let stack = self.current.as_ref().and_then(|g| g.tables.stack(stack)).ok_or(unknown.at(time))?;
        let slot = self.order.slot_of_goroutine(goroutine);
        Ok(Event { time, thread, proc, goroutine, kind: Kind::StackSample, stack: Some(stack), slot })
    }

    /// Moves on to the next generation and announces it; the end, too, is announced once.
    fn next_generation(&mut self) -> Result<(), TraceError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        let ended = self.syncs > 0 && self.current.is_none();
        if ended {
            self.done = true;
            return Ok(());
        }
        self.syncs += 1;
        let mut next = match self.generations.next() {
            Ok(generation) => generation,
            Err(error) => {
                self.error = Some(error);
                None
            }
        };
        let (mut time, mut snapshot) = (self.order.passed.last_time(), None);
        if let Some(generation) = &mut next {
            (time, snapshot) = (generation.start(), generation.clock.snapshot());
            self.order.enter(generation.number);
            self.samples = std::mem::take(&mut generation.samples).into_iter();
            self.next_sample = self.samples.next();
            self.readers.clear();
            self.frontier.clear();
            for stream in std::mem::take(&mut generation.streams) {
                let slot = self.order.slot(stream.thread);
                let mut reader = Reader::new(stream, slot);
                if reader.read(generation)? {
                    self.frontier.push(Next { time: reader.time, reader: self.readers.len() });
                    sift_up(&mut self.frontier);
                    self.readers.push(reader);
                }
            }
        }
        self.current = next.map(Arc::new);
        let kind = Kind::Sync { number: self.syncs, snapshot };
        let (thread, proc, goroutine) = (NONE, NONE, NONE);
        self.order.passed.push(Event { time, thread, proc, goroutine, kind, stack: None, slot: NO_SLOT });
        Ok(())
    }

    /// The first thread's next event cannot have happened yet: lets one event of another thread pass.
    fn out_of_order(&mut self) -> Result<(), TraceError> {
        self.tries += self.frontier.len() as u64;
        let first = self.frontier.first().and_then(|next| self.readers.get(next.reader));
        let first = first.map_or((0, 0), |reader| (reader.raw.time, reader.stream.thread));
        if self.tries > self.tried.saturating_mul(TRIES_PER_EVENT).saturating_add(FREE_TRIES) {
            return Err(Broken("too many events are out of order; thread", first.1).at(first.0));
        }
        // A sorted array is a heap as well.
        self.frontier.sort_by_key(|next| next.time);
        for i in 1..self.frontier.len() {
            if self.try_advance(i)? {
                return Ok(());
            }
        }
        Err(Broken("no thread's next event fits; thread", first.1).at(first.0))
    }

    fn try_advance(&mut self, i: usize) -> Result<bool, TraceError> {
        let Some(next) = self.frontier.get_mut(i) else { return Ok(false) };
        let (Some(generation), Some(reader)) = (&self.current, self.readers.get_mut(next.reader)) else {
            return Ok(false);
        };
        let advance = self.order.advance(&reader.raw, reader.slot, generation);
        if advance.map_err(|broken| broken.at(reader.raw.time))? == Advance::NotYet {
            return Ok(false);
        }
        if reader.read(generation)? {
            next.time = reader.time;
            update(&mut self.frontier, i);
        } else {
            remove(&mut self.frontier, i);
        }
        Ok(true)
    }
}

/// A reader's place in the heap.
#[derive(Debug, Clone, Copy)]
struct Next {
    /// Of its next event, ns.
    time: i64,
    reader: usize,
}

/// Reads one thread's events of one generation.
#[derive(Debug)]
struct Reader<'a> {
    /// The next event.
    raw: Raw,
    slot: Option<ThreadSlot>,
    cursor: Cursor<'a>,
    stream: Stream<'a>,
    next_batch: usize,
    time: i64,
}

impl<'a> Reader<'a> {
    fn new(stream: Stream<'a>, slot: Option<ThreadSlot>) -> Reader<'a> {
        Reader { raw: Raw::default(), slot, cursor: Cursor::new(&[], 0), stream, next_batch: 0, time: 0 }
    }

    /// Reads the next event into `raw`; false at the end.
    #[inline]
    fn read(&mut self, generation: &Generation) -> Result<bool, TraceError> {
        while self.cursor.is_empty() {
            let Some(batch) = self.stream.batches.get(self.next_batch) else { return Ok(false) };
            self.next_batch += 1;
            self.cursor = Cursor::new(batch.body, batch.offset);
            self.time = generation.clock.nanos(batch.time);
        }
        let start = self.cursor.offset();
        match self.event() {
            Some(units) => {
                self.time = self.time.saturating_add(generation.clock.nanos(units));
                self.raw.time = self.time;
                Ok(true)
            }
            None => Err(TraceError::Damaged { offset: start, what: "an event is unknown or cut off" }),
        }
    }

    /// Tag and arguments into `raw`; the time difference in units.
    #[inline]
    fn event(&mut self) -> Option<u64> {
        let mut cursor = self.cursor;
        let tag = cursor.byte()?;
        let count = argument_count(tag)?;
        let units = cursor.number()?;
        let mut args = [0; 4];
        for slot in args.iter_mut().take(count) {
            *slot = cursor.number()?;
        }
        self.cursor = cursor;
        (self.raw.tag, self.raw.args) = (tag, args);
        Some(units)
    }
}

fn time_at(heap: &[Next], i: usize) -> i64 {
    heap.get(i).map_or(i64::MAX, |next| next.time)
}

/// Moves the last reader up to its place.
fn sift_up(heap: &mut [Next]) {
    sift_up_from(heap, heap.len().saturating_sub(1));
}

fn sift_up_from(heap: &mut [Next], mut i: usize) -> usize {
    while i > 0 && time_at(heap, (i - 1) / 2) > time_at(heap, i) {
        heap.swap((i - 1) / 2, i);
        i = (i - 1) / 2;
    }
    i
}

fn sift_down(heap: &mut [Next], mut i: usize) {
    loop {
        let (left, right) = (2 * i + 1, 2 * i + 2);
        let mut least = i;
        if time_at(heap, left) < time_at(heap, least) {
            least = left;
        }
        if time_at(heap, right) < time_at(heap, least) {
            least = right;
        }
        if least == i {
            return;
        }
        heap.swap(i, least);
        i = least;
    }
}

/// Puts the reader at `i`, whose time has changed, where it belongs.
fn update(heap: &mut [Next], i: usize) {
    if sift_up_from(heap, i) == i {
        sift_down(heap, i);
    }
}

/// Takes the reader at `i` out, as if its time were the earliest of all.
fn remove(heap: &mut Vec<Next>, mut i: usize) {
    while i > 0 {
        heap.swap((i - 1) / 2, i);
        i = (i - 1) / 2;
    }
    heap.swap_remove(0);
    sift_down(heap, 0);
}
