//! From events to goroutines: one pass, memory bounded by [`Options`] and the number of live goroutines.

use super::clock::Clocks;
use super::error::TraceError;
use super::event::{Edge, Event, GoState, Kind, NONE};
use super::events::{Around, Events, Portion};
use super::keep::Keep;
use super::model::{Block, Counts, Creation, Goroutine, MapSample, Options, Span, Times, Trace, Wake};
use super::order::{Moved, Passed, Place};
use super::wire::Version;
use crate::error::{Quiet, Watch};
use crate::files::Mapped;
use rustc_hash::FxHashSet;
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::sync_channel;

/// States that a goroutine keeps even when all goroutines together have too many.
const FEWEST_SPANS: usize = 4;
/// States kept for a goroutine in focus.
const FOCUS_SPANS: usize = 1_000_000;
/// Blocks of events on their way between the two threads of [`parse`].
const BLOCKS: usize = 2;
/// No record: of a slot whose goroutine is not kept.
const NO_RECORD: u32 = u32::MAX;
/// How many of the goroutines that ended last are searched for one that the CPU profiler saw a moment too late.
const JUST_ENDED: usize = 256;

/// Reads a whole trace.
///
/// A file that is cut off or damaged gives what stands before the damage, with [`Trace::incomplete`]
/// and a note; an error means that the file is no trace this reader knows.
pub fn parse(data: &[u8], options: &Options) -> Result<Trace, TraceError> {
    parse_watched(data, options, &Quiet)
}

/// As [`parse`], until `watch` says to stop.
pub fn parse_watched(data: &[u8], options: &Options, watch: &dyn Watch) -> Result<Trace, TraceError> {
    let mut events = Events::new(data)?;
    let version = events.version();
    let mut collector = Collector::new(options);
    // One thread orders events while another takes in those before; blocks go round between them.
    let (ordered, to_collect) = sync_channel::<Portion>(BLOCKS);
    let (collected, to_fill) = sync_channel::<Portion>(BLOCKS + 2);
    let incomplete = std::thread::scope(|scope| {
        let ordering = scope.spawn(move || {
            let error = loop {
                let mut block = to_fill.try_recv().unwrap_or_default();
                match events.fill(&mut block) {
                    Ok(()) if block.passed.places.is_empty() => break None,
                    Ok(()) if ordered.send(block).is_ok() => {}
                    Ok(()) => break None,
                    Err(error) => break Some(error),
                }
            };
            (error, events)
        });
        let mut stopped = false;
        for mut block in to_collect {
            stopped = watch.tick(collector.counts.events, 0).is_err();
            if stopped {
                break;
            }
            collector.block(&block);
            block.passed.clear();
            // The other thread may have ended.
            let _ = collected.try_send(block);
        }
        let (error, events) = ordering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (threads, procs) = events.threads_and_procs();
        collector.threads.extend(threads);
        collector.procs.extend(procs);
        if stopped {
            Some(TraceError::Interrupted)
        } else {
            error
        }
    });
    if incomplete == Some(TraceError::Interrupted) {
        return Err(TraceError::Interrupted);
    }
    let mut trace = collector.finish(version, incomplete);
    trace.counts.bytes = data.len() as u64;
    Ok(trace)
}

/// Reads a whole trace from a file, mapped into memory rather than loaded.
pub fn parse_file(path: &std::path::Path, options: &Options, watch: &dyn Watch) -> Result<Trace, TraceError> {
    let fail = |error: crate::Error| match error {
        crate::Error::File { path, reason } => TraceError::File { path, reason },
        other => TraceError::File { path: path.display().to_string(), reason: other.to_string() },
    };
    let data = Mapped::open(path).map_err(fail)?;
    if data.is_empty() {
        return Err(TraceError::NotATrace);
    }
    parse_watched(&data, options, watch)
}

struct Collector<'o> {
    options: &'o Options,
    focus: FxHashSet<u64>,
    keep: Keep,
    /// Where the record is of the goroutine in each slot.
    record_of: Vec<u32>,
    records: Vec<Goroutine>,
    /// Records without a goroutine, to use again while they are in a processor's cache.
    free: Vec<u32>,
    /// Goroutines in focus that have ended: their records stay where they are.
    done: Vec<u32>,
    ended: Ended,
    all_spans: usize,
    threads: FxHashSet<i64>,
    procs: FxHashSet<i64>,
    by_kind: [u64; KINDS.len()],
    counts: Counts,
    clocks: Clocks,
    window: Option<(i64, i64)>,
}

/// Kinds of events as [`Counts::by_kind`] names them.
const KINDS: [&str; 14] = [
    "Sync",
    "GoroutineTransition",
    "ProcTransition",
    "StackSample",
    "Metric",
    "Label",
    "RangeBegin",
    "RangeActive",
    "RangeEnd",
    "TaskBegin",
    "TaskEnd",
    "RegionBegin",
    "RegionEnd",
    "Log",
];

/// The index in [`KINDS`] of [`Kind::Goroutine`].
const MOVED: usize = 1;

/// The index in [`KINDS`]; experimental events have none.
fn kind_index(kind: &Kind) -> usize {
    match kind {
        Kind::Sync { .. } => 0,
        Kind::Goroutine { .. } => MOVED,
        Kind::Proc { .. } => 2,
        Kind::StackSample => 3,
        Kind::Metric { .. } => 4,
        Kind::Label { .. } => 5,
        Kind::Range { edge: Edge::Begin, .. } => 6,
        Kind::Range { edge: Edge::Active, .. } => 7,
        Kind::Range { edge: Edge::End, .. } => 8,
        Kind::TaskBegin { .. } => 9,
        Kind::TaskEnd { .. } => 10,
        Kind::RegionBegin { .. } => 11,
        Kind::RegionEnd { .. } => 12,
        Kind::Log { .. } => 13,
        Kind::Experimental { .. } => KINDS.len(),
    }
}

fn goid_of(id: i64) -> Option<u64> {
    (id != NONE).then_some(id as u64)
}

fn proc_of(id: i64) -> Option<u32> {
    u32::try_from(id).ok()
}

#[inline]
fn push_bounded<T>(list: &mut VecDeque<T>, value: T, most: usize) {
    if most == 0 {
        return;
    }
    while list.len() >= most {
        list.pop_front();
    }
    list.push_back(value);
}

/// Moves all of `from` behind `to`; most lists are of one or two.
fn append<T>(to: &mut VecDeque<T>, from: &mut VecDeque<T>) {
    while let Some(value) = from.pop_front() {
        to.push_back(value);
    }
}

/// The goroutines that ended last. They come and go in one order, so their lists stand behind one another in memory:
/// a trace can hold millions of short lives.
#[derive(Default)]
struct Ended {
    /// Their lists are empty; how many of each list are theirs.
    goroutines: VecDeque<(Goroutine, [u32; 3])>,
    spans: VecDeque<Span>,
    wakers: VecDeque<Wake>,
    map_samples: VecDeque<MapSample>,
}

impl Ended {
    /// Takes a goroutine out of its record, which keeps its lists' memory.
    fn add(&mut self, record: &mut Goroutine) {
        let lists = [record.spans.len(), record.wakers.len(), record.map_samples.len()].map(|len| len as u32);
        append(&mut self.spans, &mut record.spans);
        append(&mut self.wakers, &mut record.wakers);
        append(&mut self.map_samples, &mut record.map_samples);
        let goroutine =
            Goroutine { spans: VecDeque::new(), wakers: VecDeque::new(), map_samples: VecDeque::new(), ..*record };
        self.goroutines.push_back((goroutine, lists));
    }

    /// Forgets the one that ended first; how many states it had.
    fn drop_oldest(&mut self) -> usize {
        let Some((_, [spans, wakers, samples])) = self.goroutines.pop_front() else { return 0 };
        self.spans.drain(..spans as usize);
        self.wakers.drain(..wakers as usize);
        self.map_samples.drain(..samples as usize);
        spans as usize
    }

    /// One that ended a moment ago.
    fn just(&mut self, goid: u64) -> Option<&mut Goroutine> {
        let latest = self.goroutines.iter_mut().rev().take(JUST_ENDED);
        latest.map(|(goroutine, _)| goroutine).find(|goroutine| goroutine.goid == goid)
    }

    fn into_goroutines(mut self) -> impl Iterator<Item = Goroutine> {
        self.goroutines.into_iter().map(move |(mut goroutine, [spans, wakers, samples])| {
            goroutine.spans.extend(self.spans.drain(..spans as usize));
            goroutine.wakers.extend(self.wakers.drain(..wakers as usize));
            // One that was taken after the end is in its goroutine already.
            for sample in self.map_samples.drain(..samples as usize).rev() {
                goroutine.map_samples.push_front(sample);
            }
            goroutine
        })
    }
}

impl<'o> Collector<'o> {
    fn new(options: &'o Options) -> Collector<'o> {
        Collector {
            options,
            focus: options.focus.iter().copied().collect(),
            keep: Keep::new(),
            record_of: Vec::new(),
            records: Vec::new(),
            free: Vec::new(),
            done: Vec::new(),
            ended: Ended::default(),
            all_spans: 0,
            threads: FxHashSet::default(),
            procs: FxHashSet::default(),
            by_kind: [0; KINDS.len()],
            counts: Counts::default(),
            clocks: Clocks::default(),
            window: None,
        }
    }

    fn block(&mut self, block: &Portion) {
        let Passed { places, others, .. } = &block.passed;
        self.counts.events += places.len() as u64;
        if let Some(count) = self.by_kind.get_mut(MOVED) {
            *count += (places.len() - others.len()) as u64;
        }
        for place in places {
            match place {
                Place::Moved(moved) => self.moved(&block.around, moved),
                Place::Other(at) => {
                    let Some(event) = others.get(*at as usize) else { continue };
                    self.other(&block.around, event);
                }
            }
        }
    }

    fn other(&mut self, around: &Around, event: &Event) {
        if let Some(count) = self.by_kind.get_mut(kind_index(&event.kind)) {
            *count += 1;
        }
        match event.kind {
            Kind::Sync { snapshot, .. } => {
                self.keep.new_generation();
                if let Some(frequency) = around.frequency() {
                    self.counts.generations += 1;
                    self.clocks.add(Some(frequency), snapshot);
                    self.saw(event.time);
                }
            }
            Kind::StackSample => {
                // A sample may name what no event does.
                self.threads.insert(event.thread);
                self.procs.insert(event.proc);
                self.sample(around, event);
            }
            Kind::Label { label } => {
                self.saw(event.time);
                let label = Some(self.keep.text(label));
                if let Some(g) = self.record(event.slot) {
                    g.label = label;
                }
            }
            _ => self.saw(event.time),
        }
    }

    #[inline]
    fn saw(&mut self, time: i64) {
        match &mut self.window {
            Some((_, last)) => *last = time,
            None => self.window = Some((time, time)),
        }
    }

    /// A goroutine changed its state, or a generation repeats it.
    #[inline]
    fn moved(&mut self, around: &Around, moved: &Moved) {
        let Moved { time, slot, from, to, .. } = *moved;
        self.saw(time);
        if from == to {
            return self.repeated(around, moved);
        }
        let creating = from == GoState::NotExist;
        let goid = moved.goid as u64;
        let focused = !self.focus.is_empty() && self.focus.contains(&goid);
        self.counts.goroutines_created += u64::from(creating);
        self.counts.goroutines_ended += u64::from(to == GoState::NotExist);
        if creating || from == GoState::Undetermined {
            self.add(slot, goid, time, focused);
        }
        // Creation has two stacks: the creator's, and the new goroutine's, whose only frame is its start.
        let own = self.keep.stack_at(around, moved.own);
        let others = if moved.stack == moved.own { None } else { self.keep.stack_at(around, moved.stack) };
        let reason = self.keep.text_at(around, moved.reason);
        let by = goid_of(moved.goroutine);
        let Some(g) = self.record_of.get(slot as usize).and_then(|at| self.records.get_mut(*at as usize)) else {
            return;
        };
        if g.start_function.is_none() {
            g.start_function = own.and_then(|own| self.keep.outermost(own));
        }
        if creating {
            g.created = Some(Creation { time, by, stack: others });
        }
        let (mut proc, mut thread) = (proc_of(moved.proc), goid_of(moved.thread));
        if let Some(span) = g.spans.back_mut() {
            span.end = Some(time);
            add_time(&mut g.times, span.state, time.saturating_sub(span.start));
            if from == GoState::Waiting {
                // A waiting goroutine is woken on somebody else's P and M.
                (proc, thread) = (span.proc, span.thread);
            }
        }
        match (from, to) {
            (GoState::Running, GoState::Waiting) => {
                let block = Block { time, reason, stack: own, proc, thread, woken: None };
                g.blocks += 1;
                g.last_block = Some(block);
                for sample in g.map_samples.iter_mut().rev().take_while(|sample| sample.followed_by.is_none()) {
                    sample.followed_by = Some(block);
                }
            }
            (GoState::Waiting, _) => {
                g.wakes += 1;
                if let Some(block) = &mut g.last_block {
                    block.woken = Some(time);
                }
                push_bounded(&mut g.wakers, Wake { time, by, stack: others }, self.options.max_wakers);
            }
            (GoState::Running, GoState::Syscall) => g.syscalls += 1,
            _ => {}
        }
        if to == GoState::NotExist {
            g.ended = Some(time);
            return self.end(slot, focused);
        }
        let most = match focused {
            true => FOCUS_SPANS,
            false if self.all_spans >= self.options.max_all_spans => self.options.max_spans.min(FEWEST_SPANS),
            false => self.options.max_spans,
        };
        let before = g.spans.len();
        let stack = if creating { None } else { own };
        push_bounded(
            &mut g.spans,
            Span { start: time, end: None, state: to, reason, stack, proc, thread },
            most.max(1),
        );
        g.spans_dropped += (before + 1 - g.spans.len()) as u64;
        self.all_spans = (self.all_spans + g.spans.len()).saturating_sub(before);
    }

    #[inline]
    fn record(&mut self, slot: u32) -> Option<&mut Goroutine> {
        self.record_of.get(slot as usize).and_then(|at| self.records.get_mut(*at as usize))
    }

    /// A record for a new goroutine, unless there are too many.
    fn add(&mut self, slot: u32, goid: u64, time: i64, focused: bool) {
        self.counts.goroutines_seen += 1;
        if self.record_of.len() <= slot as usize {
            self.record_of.resize(slot as usize + 1, NO_RECORD);
        }
        let Some(record) = self.record_of.get_mut(slot as usize) else { return };
        let kept = self.records.len() - self.free.len() + self.ended.goroutines.len();
        if kept >= self.options.max_goroutines && !focused {
            self.counts.goroutines_not_kept += 1;
            *record = NO_RECORD;
            return;
        }
        *record = self.free.pop().unwrap_or(self.records.len() as u32);
        match self.records.get_mut(*record as usize) {
            Some(record) => renew(record, goid, time),
            None => self.records.push(new_goroutine(goid, time)),
        }
    }

    /// A generation repeats a state: the stack may be news, as for a goroutine that waits since long.
    fn repeated(&mut self, around: &Around, moved: &Moved) {
        let stack = self.keep.stack_at(around, moved.own);
        let start = stack.and_then(|stack| self.keep.outermost(stack));
        if let Some(g) = self.record(moved.slot) {
            g.start_function = g.start_function.or(start);
            if let Some(span) = g.spans.back_mut() {
                span.stack = span.stack.or(stack);
            }
        }
    }

    /// The slot's goroutine has ended; the oldest ended ones make room.
    fn end(&mut self, slot: u32, focused: bool) {
        let Some(at) = self.record_of.get_mut(slot as usize).map(|at| std::mem::replace(at, NO_RECORD)) else { return };
        let Some(record) = self.records.get_mut(at as usize) else { return };
        if focused {
            self.done.push(at);
            return;
        }
        self.ended.add(record);
        self.free.push(at);
        if self.ended.goroutines.len() > self.options.max_ended {
            self.all_spans = self.all_spans.saturating_sub(self.ended.drop_oldest());
            self.counts.goroutines_dropped += 1;
        }
    }

    fn sample(&mut self, around: &Around, event: &Event) {
        self.counts.cpu_samples += 1;
        let Some(stack) = event.stack else { return };
        let map_function = self.keep.map_function(around, stack);
        if map_function.is_some() {
            self.counts.map_samples += 1;
        }
        let (Some(goid), kept) = (goid_of(event.goroutine), self.keep.stack_at(around, Some(stack))) else { return };
        let live = self.record_of.get(event.slot as usize).filter(|at| **at != NO_RECORD);
        let done = || self.done.iter().find(|at| self.records.get(**at as usize).is_some_and(|g| g.goid == goid));
        let g = match live.or_else(done) {
            Some(at) => self.records.get_mut(*at as usize),
            None => self.ended.just(goid),
        };
        let Some(g) = g else { return };
        g.cpu_samples += 1;
        if let (Some(function), Some(stack)) = (map_function, kept) {
            g.map_sample_count += 1;
            let sample = MapSample { time: event.time, function, stack, followed_by: None };
            push_bounded(&mut g.map_samples, sample, self.options.max_map_samples);
        }
    }

    fn finish(mut self, version: Version, incomplete: Option<TraceError>) -> Trace {
        let last = self.window.map_or(0, |(_, last)| last);
        let free: FxHashSet<u32> = self.free.into_iter().collect();
        let kept = self.records.into_iter().enumerate().filter(|(at, _)| !free.contains(&(*at as u32)));
        let kept = kept.map(|(_, g)| g).chain(self.ended.into_goroutines());
        let mut goroutines: BTreeMap<u64, Goroutine> = kept.map(|g| (g.goid, g)).collect();
        for g in goroutines.values_mut().filter(|g| g.ended.is_none()) {
            // A wait that a sample's block copied may have ended since.
            if let Some(span) = g.spans.back() {
                add_time(&mut g.times, span.state, last.saturating_sub(span.start));
            }
            let Some(block) = g.last_block else { continue };
            for sample in g.map_samples.iter_mut().rev() {
                match &mut sample.followed_by {
                    Some(followed) if followed.time == block.time => *followed = block,
                    _ => break,
                }
            }
        }
        self.threads.remove(&NONE);
        self.procs.remove(&NONE);
        self.counts.threads = self.threads.len() as u64;
        let mut threads: Vec<u64> = self.threads.iter().map(|&thread| thread as u64).collect();
        threads.sort_unstable();
        self.counts.procs = self.procs.len() as u64;
        self.counts.by_kind = KINDS.iter().copied().zip(self.by_kind).filter(|(_, count)| *count > 0).collect();
        let mut trace = Trace {
            version,
            window: self.window,
            counts: self.counts,
            clocks: self.clocks,
            threads,
            goroutines,
            incomplete,
            notes: Vec::new(),
            texts: self.keep.texts,
            frames: self.keep.frames,
            stacks: self.keep.stacks,
        };
        trace.notes = notes(&trace, self.options);
        trace
    }
}

fn new_goroutine(goid: u64, time: i64) -> Goroutine {
    Goroutine {
        goid,
        created: None,
        start_function: None,
        first_seen: time,
        ended: None,
        spans: VecDeque::new(),
        spans_dropped: 0,
        last_block: None,
        blocks: 0,
        wakes: 0,
        syscalls: 0,
        wakers: VecDeque::new(),
        times: Times::default(),
        cpu_samples: 0,
        map_sample_count: 0,
        map_samples: VecDeque::new(),
        label: None,
    }
}

/// Makes a dropped record a new goroutine's, keeping its lists' memory.
fn renew(record: &mut Goroutine, goid: u64, time: i64) {
    let mut fresh = new_goroutine(goid, time);
    std::mem::swap(&mut fresh.spans, &mut record.spans);
    std::mem::swap(&mut fresh.wakers, &mut record.wakers);
    fresh.spans.clear();
    fresh.wakers.clear();
    *record = fresh;
}

fn add_time(times: &mut Times, state: GoState, duration: i64) {
    let total = match state {
        GoState::Runnable => &mut times.runnable,
        GoState::Running => &mut times.running,
        GoState::Waiting => &mut times.waiting,
        GoState::Syscall => &mut times.syscall,
        GoState::Undetermined | GoState::NotExist => return,
    };
    *total = total.saturating_add(duration);
}

/// What was left out, and what this trace cannot tell.
fn notes(trace: &Trace, options: &Options) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(error) = &trace.incomplete {
        notes.push(error.to_string());
    }
    if trace.window.is_none() {
        notes.push("the trace holds no complete generation, so it tells of no goroutine".to_owned());
    }
    if trace.counts.goroutines_dropped > 0 {
        notes.push(format!(
            "{} ended goroutines were left out to bound memory, the oldest ones; the latest {} to end are kept",
            trace.counts.goroutines_dropped, options.max_ended
        ));
    }
    if trace.counts.goroutines_not_kept > 0 {
        notes.push(format!(
            "{} goroutines were left out because more than {} were there at once",
            trace.counts.goroutines_not_kept, options.max_goroutines
        ));
    }
    let shortened = trace.goroutines.values().filter(|g| g.spans_dropped > 0).count();
    if shortened > 0 {
        notes.push(format!("of {shortened} goroutines only the latest states are kept"));
    }
    let older = trace.goroutines.values().filter(|g| g.waits_since_before()).count();
    if older > 0 {
        let stacks = if trace.version.0 <= 22 { ", nor (before Go 1.23) where" } else { "" };
        notes.push(format!(
            "{older} goroutines wait since before the trace began: it tells neither since when nor why{stacks}"
        ));
    }
    notes
}
