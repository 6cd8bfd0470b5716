//! All entries of a map, formatted by every processor and handed on in the map's order.
//!
//! The calling thread walks the buckets or groups and writes: both may need the debugger, which only that thread may
//! call. The others format copies of the buckets or groups, and read what these lead to.

use super::FLUSH;
use crate::error::Watch;
use crate::map::{Cell, Entry, Findings, GoMap, Header, Place};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, sync_channel, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::Mutex;
use std::time::Duration;

/// Bytes of buckets or groups that are formatted in one go.
const BATCH: usize = 128 << 10;
/// Formatted blocks of one batch that may wait to be written.
const WAITING: usize = 2;
/// Fewer entries are formatted sooner than a thread is started.
const FEW: u64 = 2000;
/// More threads would only wait for the one that writes.
const MOST_THREADS: usize = 8;
/// How often the calling thread looks for Ctrl-C while it waits.
const LOOK: Duration = Duration::from_millis(10);
/// Buckets or groups whose entries' memory is asked for at once.
const AHEAD: usize = 16;

/// What was told of some entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Entries.
    pub shown: u64,
    /// Those of which a limit of [`Options`](crate::value::Options) cut what their pointers lead to.
    pub cut: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.shown += other.shown;
        self.cut += other.cut;
    }
}

/// How one thread tells entries.
pub(super) trait Formatter {
    /// Appends `entry` to `out`, or leaves it out.
    fn entry(&self, entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<Tally>;

    /// Asks for the memory `level` pointers away from `entry`, so that many such reads wait together.
    fn prefetch(&self, entry: &Entry<'_>, level: usize);

    /// How many levels there are to ask for.
    fn levels(&self) -> usize;
}

/// Makes a formatter for one thread, with the watch that this thread asks.
pub(super) type Make<'f> = dyn for<'t> Fn(&'t GoMap<'t>, &'t dyn Watch) -> Result<Box<dyn Formatter + 't>> + Sync + 'f;

/// Formats every entry of `map` and calls `write` with what that gave, in the map's order.
pub(super) fn all_entries(
    map: &GoMap<'_>,
    watch: &dyn Watch,
    make: &Make<'_>,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Tally> {
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get()).min(MOST_THREADS);
    let alone = threads == 1 || map.count() < FEW || !map.memory.any_thread() || matches!(map.header, Header::Sync(_));
    match alone {
        true => by_this_thread(map, watch, make, write),
        false => by_threads(threads, map, watch, make, write),
    }
}

fn by_this_thread(
    map: &GoMap<'_>,
    watch: &dyn Watch,
    make: &Make<'_>,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Tally> {
    let formatter = make(map, watch)?;
    let mut buffer = Vec::with_capacity(2 * FLUSH);
    let mut tally = Tally::default();
    map.each(watch, &mut |entry| {
        tally += formatter.entry(entry, &mut buffer)?;
        if buffer.len() >= FLUSH {
            write(&buffer)?;
            buffer.clear();
        }
        Ok(true)
    })?;
    write(&buffer)?;
    Ok(tally)
}

fn by_threads(
    threads: usize,
    map: &GoMap<'_>,
    watch: &dyn Watch,
    make: &Make<'_>,
    write: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Tally> {
    // Tells an error of the types before any thread starts.
    make(map, watch)?;
    let (queue, batches) = channel();
    let shared = Shared { stop: Stop::default(), buffers: Mutex::default(), batches: Mutex::new(batches) };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| format_batches(map, make, &shared));
        }
        let batch = Batch::default();
        let tally = Tally::default();
        let mut pipeline = Pipeline { queue, batch, waiting: VecDeque::new(), tally, watch, write, shared: &shared };
        let told = pipeline.run(map, 2 * threads);
        shared.stop.0.store(true, Ordering::Relaxed);
        // Dropping the pipeline ends the threads: there is no one left to take what they format.
        told.map(|()| pipeline.tally)
    })
}

/// Told to the threads when nobody wants their work any more.
#[derive(Default)]
struct Stop(AtomicBool);

impl Watch for Stop {
    fn tick(&self, _done: u64, _total: u64) -> Result<()> {
        match self.0.load(Ordering::Relaxed) {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}

type Formatted = Result<(Vec<u8>, Tally)>;

/// What all threads see.
struct Shared {
    stop: Stop,
    /// Buffers to use again: fresh ones would cost a page fault for each of their pages.
    buffers: Mutex<Vec<Vec<u8>>>,
    batches: Mutex<Receiver<(Batch, SyncSender<Formatted>)>>,
}

impl Shared {
    fn buffer(&self) -> Vec<u8> {
        let used = self.buffers.lock().ok().and_then(|mut buffers| buffers.pop());
        used.unwrap_or_else(|| Vec::with_capacity(BATCH.max(2 * FLUSH)))
    }

    fn give_back(&self, mut buffer: Vec<u8>) {
        // One that grew for a huge value is not kept.
        if let (Ok(mut buffers), true) = (self.buffers.lock(), buffer.capacity() <= 4 * BATCH) {
            buffer.clear();
            buffers.push(buffer);
        }
    }
}

/// Copies of buckets or groups, and where to send their entries.
#[derive(Default)]
struct Batch {
    cells: Vec<u8>,
    places: Vec<(Place, u64, u8)>,
}

impl Batch {
    fn add(&mut self, cell: &Cell<'_>) {
        if cell.live != 0 {
            self.cells.extend_from_slice(cell.bytes);
            self.places.push((cell.place, cell.address, cell.live));
        }
    }

    /// The buckets or groups in pieces of [`AHEAD`].
    fn pieces<'b>(&'b self, size: usize) -> impl Iterator<Item = Vec<Cell<'b>>> + 'b {
        let cell =
            |(bytes, &(place, address, live)): (&'b [u8], &(Place, u64, u8))| Cell { place, address, bytes, live };
        let pieces = self.cells.chunks(size * AHEAD).zip(self.places.chunks(AHEAD));
        pieces.map(move |(bytes, places)| bytes.chunks_exact(size).zip(places).map(cell).collect())
    }
}

/// The calling thread's side.
struct Pipeline<'p> {
    queue: Sender<(Batch, SyncSender<Formatted>)>,
    batch: Batch,
    /// One for each batch handed over, oldest first.
    waiting: VecDeque<Receiver<Formatted>>,
    tally: Tally,
    watch: &'p dyn Watch,
    write: &'p mut dyn FnMut(&[u8]) -> Result<()>,
    shared: &'p Shared,
}

impl Pipeline<'_> {
    fn run(&mut self, map: &GoMap<'_>, most: usize) -> Result<()> {
        self.batch.cells = self.shared.buffer();
        map.each_cell(self.watch, &mut Findings::default(), &mut |cell| {
            self.batch.add(cell);
            if self.batch.cells.len() >= BATCH {
                self.hand_over();
                while self.waiting.len() > most {
                    self.write_oldest()?;
                }
            }
            Ok(true)
        })?;
        self.hand_over();
        while !self.waiting.is_empty() {
            self.write_oldest()?;
        }
        Ok(())
    }

    fn hand_over(&mut self) {
        let (to, from) = sync_channel(WAITING);
        // The threads end only when this side does.
        let next = Batch { cells: self.shared.buffer(), places: Vec::new() };
        let _ = self.queue.send((std::mem::replace(&mut self.batch, next), to));
        self.waiting.push_back(from);
    }

    fn write_oldest(&mut self) -> Result<()> {
        let Some(oldest) = self.waiting.front() else { return Ok(()) };
        loop {
            match oldest.recv_timeout(LOOK) {
                Ok(formatted) => {
                    let (bytes, tally) = formatted?;
                    self.tally += tally;
                    (self.write)(&bytes)?;
                    self.shared.give_back(bytes);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.watch.tick(0, 0)?;
        }
        self.waiting.pop_front();
        Ok(())
    }
}

/// A thread's side: formats one batch after the other.
fn format_batches(map: &GoMap<'_>, make: &Make<'_>, shared: &Shared) {
    // Errors of the types were told by the calling thread.
    let Ok(formatter) = make(map, &shared.stop) else { return };
    while shared.stop.tick(0, 0).is_ok() {
        let next = shared.batches.lock().map(|batches| batches.recv());
        let Ok(Ok((batch, to))) = next else { return };
        if let Err(error) = format_batch(map, &*formatter, &batch, &to, shared) {
            // Nobody listens to a thread that was stopped.
            let _ = to.send(Err(error));
        }
        shared.give_back(batch.cells);
    }
}

fn format_batch(
    map: &GoMap<'_>,
    formatter: &dyn Formatter,
    batch: &Batch,
    to: &SyncSender<Formatted>,
    shared: &Shared,
) -> Result<()> {
    let levels = formatter.levels();
    let mut buffer = shared.buffer();
    let mut tally = Tally::default();
    for cells in batch.pieces(map.slots.size as usize) {
        for level in 0..levels {
            for cell in &cells {
                map.each_slot(cell, &mut |entry| {
                    formatter.prefetch(entry, level);
                    Ok(true)
                })?;
            }
        }
        for cell in &cells {
            map.each_slot(cell, &mut |entry| {
                tally += formatter.entry(entry, &mut buffer)?;
                if buffer.len() >= FLUSH {
                    let full = std::mem::replace(&mut buffer, shared.buffer());
                    to.send(Ok((full, std::mem::take(&mut tally)))).map_err(|_| Error::Interrupted)?;
                }
                Ok(true)
            })?;
        }
    }
    to.send(Ok((buffer, tally))).map_err(|_| Error::Interrupted)
}
