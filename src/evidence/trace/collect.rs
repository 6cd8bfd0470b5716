//! From events to goroutines: one pass, memory bounded by [`Options`] and the number of live goroutines.

use super::clock::Clocks;
use super::error::TraceError;
use super::event::{Edge, Event, GoState, Kind, StackId, NONE};
use super::events::{Around, Events, Portion};
use super::keep::Keep;
use super::model::{Block, Counts, Creation, Goroutine, MapSample, Options, Span, Times, Trace, Wake};
use super::wire::Version;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::sync_channel;

/// States that a goroutine keeps even when all goroutines together have too many.
const FEWEST_SPANS: usize = 4;
/// States kept for a goroutine in focus.
const FOCUS_SPANS: usize = 1_000_000;
/// Blocks of events on their way between the two threads of [`parse`].
const BLOCKS: usize = 8;

/// Reads a whole trace.
///
/// A file that is cut off or damaged gives what stands before the damage, with [`Trace::incomplete`]
/// and a note; an error means that the file is no trace this reader knows.
pub fn parse(data: &[u8], options: &Options) -> Result<Trace, TraceError> {
    let mut events = Events::new(data)?;
    let version = events.version();
    let mut collector = Collector::new(options);
    // One thread orders events while another takes in those before; blocks go round between them.
    let (ordered, to_collect) = sync_channel::<Portion>(BLOCKS);
    let (collected, to_fill) = sync_channel::<Portion>(BLOCKS + 2);
    let incomplete = std::thread::scope(|scope| {
        let ordering = scope.spawn(move || loop {
            let mut block = to_fill.try_recv().unwrap_or_default();
            match events.fill(&mut block) {
                Ok(()) if block.events.is_empty() => return None,
                Ok(()) => ordered.send(block).ok()?,
                Err(error) => return Some(error),
            }
        });
        for mut block in to_collect {
            block.events.iter().for_each(|event| collector.event(&block.around, event));
            block.events.clear();
            // The other thread may have ended.
            let _ = collected.try_send(block);
        }
        ordering.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let mut trace = collector.finish(version, incomplete);
    trace.counts.bytes = data.len() as u64;
    Ok(trace)
}

/// Reads a whole trace from a file, mapped into memory rather than loaded.
pub fn parse_file(path: &std::path::Path, options: &Options) -> Result<Trace, TraceError> {
    let fail = |error: std::io::Error| TraceError::File { path: path.display().to_string(), reason: error.to_string() };
    let file = std::fs::File::open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.len() == 0 {
        return Err(TraceError::NotATrace);
    }
    // SAFETY: the mapping is read-only and private; a file cut short while it is read ends the process
    // with SIGBUS, as for every mapped file.
    let data = unsafe { memmap2::Mmap::map(&file) }.map_err(fail)?;
    parse(&data, options)
}

struct Collector<'o> {
    options: &'o Options,
    focus: FxHashSet<u64>,
    keep: Keep,
    /// Where each goroutine's record is in `records`.
    slot_of: FxHashMap<u64, u32>,
    records: Vec<Goroutine>,
    /// Records of goroutines that were dropped, to use again: most traces are full of short lives.
    free: Vec<u32>,
    /// Ended goroutines, in the order of their end.
    ended: VecDeque<u64>,
    all_spans: usize,
    threads: FxHashSet<i64>,
    procs: FxHashSet<i64>,
    last_thread: i64,
    last_proc: i64,
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

/// The index in [`KINDS`]; experimental events have none.
fn kind_index(kind: &Kind) -> usize {
    match kind {
        Kind::Sync { .. } => 0,
        Kind::Goroutine { .. } => 1,
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

fn push_bounded<T>(list: &mut VecDeque<T>, value: T, most: usize) {
    if most == 0 {
        return;
    }
    while list.len() >= most {
        list.pop_front();
    }
    list.push_back(value);
}

impl<'o> Collector<'o> {
    fn new(options: &'o Options) -> Collector<'o> {
        Collector {
            options,
            focus: options.focus.iter().copied().collect(),
            keep: Keep::new(),
            slot_of: FxHashMap::default(),
            records: Vec::new(),
            free: Vec::new(),
            ended: VecDeque::new(),
            all_spans: 0,
            threads: FxHashSet::default(),
            procs: FxHashSet::default(),
            last_thread: NONE,
            last_proc: NONE,
            by_kind: [0; KINDS.len()],
            counts: Counts::default(),
            clocks: Clocks::default(),
            window: None,
        }
    }

    fn event(&mut self, around: &Around, event: &Event) {
        self.counts.events += 1;
        if let Some(count) = self.by_kind.get_mut(kind_index(&event.kind)) {
            *count += 1;
        }
        if event.thread != self.last_thread {
            self.last_thread = event.thread;
            self.threads.insert(event.thread);
        }
        if event.proc != self.last_proc {
            self.last_proc = event.proc;
            self.procs.insert(event.proc);
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
            Kind::Goroutine { goid, from, to, reason, stack } => {
                self.saw(event.time);
                let reason = if reason.is_empty() { None } else { Some(self.keep.text_at(reason)) };
                let stack = stack.filter(|stack| stack.0 != 0);
                self.moved(around, event, goid as u64, Move { from, to, reason, stack });
            }
            Kind::StackSample => self.sample(around, event),
            Kind::Label { label } => {
                self.saw(event.time);
                let label = Some(self.keep.text(label));
                if let Some(g) = goid_of(event.goroutine).and_then(|goid| self.find(goid)) {
                    g.label = label;
                }
            }
            Kind::Proc { proc, .. } => {
                self.saw(event.time);
                self.procs.insert(proc);
            }
            _ => self.saw(event.time),
        }
    }

    fn saw(&mut self, time: i64) {
        let (first, last) = self.window.unwrap_or((time, time));
        self.window = Some((first, last.max(time)));
    }

    /// A goroutine changed its state, or a generation repeats it.
    fn moved(&mut self, around: &Around, event: &Event, goid: u64, change: Move) {
        let Move { from, to, reason, stack } = change;
        // Creation has two stacks: the creator's, and the new goroutine's, whose only frame is its start.
        let creating = from == GoState::NotExist;
        let own = stack.map(|stack| self.keep.stack(around, stack));
        let others = if stack != event.stack { event.stack.map(|s| self.keep.stack(around, s)) } else { None };
        let start = own.and_then(|own| self.keep.outermost(own));
        let (time, by) = (event.time, goid_of(event.goroutine));
        if from == to {
            self.repeated(goid, own, start);
            return;
        }
        self.counts.goroutines_created += u64::from(creating);
        self.counts.goroutines_ended += u64::from(to == GoState::NotExist);
        let focused = !self.focus.is_empty() && self.focus.contains(&goid);
        let Some(slot) = self.slot(goid, time, focused, creating || from == GoState::Undetermined) else { return };
        let Some(g) = self.records.get_mut(slot) else { return };
        g.start_function = g.start_function.or(start);
        if creating {
            g.created = Some(Creation { time, by, stack: others });
        }
        if let Some(span) = g.spans.back_mut() {
            span.end = Some(time);
            add_time(&mut g.times, span.state, time.saturating_sub(span.start));
        }
        let (proc, thread) = match g.spans.back() {
            // A waiting goroutine is woken on somebody else's P and M.
            Some(last) if from == GoState::Waiting => (last.proc, last.thread),
            _ => (proc_of(event.proc), goid_of(event.thread)),
        };
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
            self.end(goid, focused);
            return;
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

    fn find(&mut self, goid: u64) -> Option<&mut Goroutine> {
        self.slot_of.get(&goid).and_then(|slot| self.records.get_mut(*slot as usize))
    }

    /// The goroutine's record, a new one for a `new` goroutine unless there are too many.
    fn slot(&mut self, goid: u64, time: i64, focused: bool, new: bool) -> Option<usize> {
        if let Some(slot) = self.slot_of.get(&goid) {
            return Some(*slot as usize);
        }
        if !new {
            return None;
        }
        self.counts.goroutines_seen += 1;
        if self.slot_of.len() >= self.options.max_goroutines && !focused {
            self.counts.goroutines_not_kept += 1;
            return None;
        }
        let slot = self.free.pop().unwrap_or(self.records.len() as u32);
        self.slot_of.insert(goid, slot);
        match self.records.get_mut(slot as usize) {
            Some(record) => renew(record, goid, time),
            None => self.records.push(new_goroutine(goid, time)),
        }
        Some(slot as usize)
    }

    /// A generation repeats a state: the stack may be news, as for a goroutine that waits since long.
    fn repeated(&mut self, goid: u64, stack: Option<super::model::StackRef>, start: Option<super::model::TextId>) {
        if let Some(g) = self.find(goid) {
            g.start_function = g.start_function.or(start);
            if let Some(span) = g.spans.back_mut() {
                span.stack = span.stack.or(stack);
            }
        }
    }

    /// A goroutine has ended; the oldest ended ones make room.
    fn end(&mut self, goid: u64, focused: bool) {
        if focused {
            return;
        }
        self.ended.push_back(goid);
        if self.ended.len() > self.options.max_ended {
            let Some(slot) = self.ended.pop_front().and_then(|oldest| self.slot_of.remove(&oldest)) else { return };
            let spans = self.records.get(slot as usize).map_or(0, |g| g.spans.len());
            self.all_spans = self.all_spans.saturating_sub(spans);
            self.free.push(slot);
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
        let Some(slot) = goid_of(event.goroutine).and_then(|goid| self.slot_of.get(&goid)) else { return };
        let Some(g) = self.records.get_mut(*slot as usize) else { return };
        g.cpu_samples += 1;
        if let Some(function) = map_function {
            g.map_sample_count += 1;
            let stack = self.keep.stack(around, stack);
            let sample = MapSample { time: event.time, function, stack, followed_by: None };
            push_bounded(&mut g.map_samples, sample, self.options.max_map_samples);
        }
    }

    fn finish(mut self, version: Version, incomplete: Option<TraceError>) -> Trace {
        let last = self.window.map_or(0, |(_, last)| last);
        let free: FxHashSet<u32> = self.free.into_iter().collect();
        let kept = self.records.into_iter().enumerate().filter(|(slot, _)| !free.contains(&(*slot as u32)));
        let mut goroutines: BTreeMap<u64, Goroutine> = kept.map(|(_, g)| (g.goid, g)).collect();
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

struct Move {
    from: GoState,
    to: GoState,
    reason: Option<super::model::TextId>,
    stack: Option<StackId>,
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
