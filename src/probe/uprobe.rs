//! The kernel engine: every call of a probed function becomes a record in a ring buffer, with registers,
//! goroutine id and key bytes fetched by the kernel. The target is never stopped.
//!
//! One tracefs event holds all the probes of calls, a second one those of returns. Each is opened for each thread of the target on each CPU (threads
//! started later inherit it), all openings of a CPU share one ring buffer, and the breakpoints are only put
//! into the target's address space.

use super::functions::{KeyPlace, ProbePlan, ReturnPoint};
use super::now_ns;
use super::record::{event_of, Hit, RecordLayout, Return, ReturnLayout, Seen};
use super::tracefs::{self, usage, Fetches, PointedKey, Registered};
use super::uprobe_filter::Filters;
use crate::{Error, Result};
use object::{Object, ObjectSegment};
use perf_event::data::{self, Record};
use perf_event::events::Tracepoint;
use perf_event::{Builder, Clock, Counter, SampleFlag, Sampler};
use perf_event_open_sys::ioctls;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

/// Ring buffer of one CPU: about 60 000 hits and their returns.
const RING_BYTES: usize = 16 << 20;
/// All ring buffers together, on machines with many CPUs.
const RINGS_BYTES: usize = 256 << 20;
/// Bytes in a ring buffer that wake the reader.
const WAKE_BYTES: usize = 256 << 10;
/// Hits taken from one ring buffer before the others have their turn.
const BATCH: usize = 4096;
/// A ring buffer has lost nothing while there was room for so much more.
const LARGEST_RECORD: usize = 16 << 10;
/// A record may reach its buffer so long after the time that it bears, for a virtual CPU can be held up in between.
const LATE_NS: u64 = 2_000_000;
/// How often new threads and the target's end are looked for while no hit comes.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a session needs to know besides the plan.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Offset in bytes of `goid` in `runtime.g`.
    pub goid_offset: u64,
    /// Bytes of a key to fetch, up to 512.
    pub key_bytes: usize,
    /// Which hits are wanted.
    pub filters: Filters,
}

/// What [`UprobeSession::poll`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// This many hits were given out.
    Hits(usize),
    /// Nothing came in the time allowed.
    Quiet,
    /// The target has ended, or runs another program now, and every hit was given out.
    Ended,
}

/// What a finished session counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Calls that passed the filter, delivered or not.
    pub hits: u64,
    /// Those that the ring buffers had no room for.
    pub dropped: u64,
}

/// Probes set in a running process.
pub struct UprobeSession {
    // Fields drop in this order: the openings before the events, which the kernel keeps while they are open.
    counters: Vec<Counter>,
    of_returns: Vec<Counter>,
    rings: Vec<Ring>,
    event: Registered,
    layout: RecordLayout,
    returns: Option<Returns>,
    /// What was read and is not given out yet, as something earlier may still come.
    held: Vec<Seen>,
    plan: ProbePlan,
    pointed: PointedKey,
    types_decided: usize,
    bias: u64,
    pid: u32,
    identity: Option<Identity>,
    received: u64,
    looked: Instant,
}

/// The event of the returns.
struct Returns {
    /// Removed with it.
    _event: Registered,
    id: u64,
    layout: ReturnLayout,
}

impl Returns {
    fn register(directory: &Path, plan: &ProbePlan, goid_offset: u64, path: &str, image: &Image) -> Result<Returns> {
        let group = Registered::group_name();
        let definition = |point: &ReturnPoint| {
            let offset = image.file_offset(point.address)?;
            Ok(point.definition(plan.arch, goid_offset, &group, path, offset))
        };
        let definitions = plan.returns.iter().map(definition).collect::<Result<Vec<String>>>()?;
        let event = Registered::new(directory, group, &definitions)?;
        let layout = ReturnLayout::parse(&event.format()?).ok_or_else(unknown_form)?;
        Ok(Returns { id: event.id()?, _event: event, layout })
    }
}

fn unknown_form() -> Error {
    usage("this kernel describes our probe in a form that is not known: use --engine gdb")
}

/// The buffer of one CPU.
struct Ring {
    sampler: Sampler,
    bytes: usize,
    /// Read since it was last seen empty.
    since_empty: usize,
    /// Time of the newest record.
    newest: u64,
    /// Whether records were lost before the next one.
    lost: bool,
}

/// What one look into a ring buffer found, besides records.
struct Look {
    /// All that happened until then is known.
    until: u64,
    /// When records may have been lost.
    gap: Option<(u64, u64)>,
}

impl Ring {
    /// Gives each record to `each`, which returns its time, up to a bounded number of them.
    fn read(&mut self, gaps: &mut Vec<(u64, u64)>, each: &mut dyn FnMut(&data::Sample) -> Option<u64>) -> Look {
        let begun = now_ns().saturating_sub(LATE_NS);
        for _ in 0..BATCH {
            let Some(record) = self.sampler.next_record() else {
                // What was ever in it since it was empty has been read: was that enough to fill it?
                let full = self.since_empty + LARGEST_RECORD >= self.bytes || self.lost;
                let gap = full.then(|| (self.newest, now_ns()));
                (self.since_empty, self.lost) = (0, false);
                return Look { until: begun, gap };
            };
            self.since_empty += record.len() + std::mem::size_of::<u64>();
            let parsed = record.parse_record();
            match parsed {
                Ok(Record::Sample(sample)) => {
                    let Some(ns) = each(&sample) else { continue };
                    if std::mem::take(&mut self.lost) {
                        gaps.push((self.newest, ns));
                    }
                    self.newest = self.newest.max(ns);
                }
                Ok(Record::Lost(_) | Record::LostSamples(_)) => self.lost = true,
                _ => {}
            }
        }
        Look { until: self.newest.saturating_sub(LATE_NS).min(begun), gap: None }
    }
}

impl UprobeSession {
    /// Sets the plan's probes in process `pid` and starts recording.
    ///
    /// Fails with one sentence when the kernel or the rights do not allow it, when the process is gone, or when
    /// the plan has no probe that the filters could let through.
    pub fn start(pid: u32, plan: &ProbePlan, settings: &Settings) -> Result<UprobeSession> {
        tracefs::capability()?;
        let directory = tracefs::directory()?;
        tracefs::remove_left_behind(&directory);
        let mut plan = plan.clone();
        let filters = &settings.filters;
        plan.retain(|p| {
            let unwanted = (filters.keyed && p.key == KeyPlace::None) || (filters.no_sync_map && p.map_type.is_none());
            !unwanted
        });
        if plan.points.is_empty() {
            return Err(usage("there is nothing to probe: the program has no map function for these operations"));
        }

        // The kernel follows this link itself: it also works for a program in a container or a deleted file.
        let path = format!("/proc/{pid}/exe");
        let image = Image::of(pid, &path)?;
        let key_words = key_words(settings.key_bytes);
        let parts = filters.parts(key_words);
        let fetches = Fetches {
            arch: plan.arch,
            goid_offset: settings.goid_offset,
            key_words,
            pointed: filters.pointed,
            outcomes: !plan.returns.is_empty(),
            parts: (!filters.key.is_empty() || !filters.types.is_empty()).then_some(&parts),
        };
        let group = Registered::group_name();
        let mut definitions = Vec::with_capacity(plan.points.len());
        let debugged = Debugged::of(pid);
        for point in &plan.points {
            let offset = image.file_offset(point.address)?;
            if debugged.as_ref().is_some_and(|process| process.has_breakpoint(point.address + image.bias, offset)) {
                return Err(usage(format!(
                    "a debugger's breakpoint stands on {}, which would hide its calls: end that debugger's watch first",
                    point.function
                )));
            }
            definitions.push(fetches.definition(&group, &path, offset, point));
        }
        let event = Registered::new(&directory, group, &definitions)?;
        let layout = RecordLayout::parse(&event.format()?, key_words).ok_or_else(unknown_form)?;
        let returns = match plan.returns.is_empty() {
            true => None,
            false => Some(Returns::register(&directory, &plan, settings.goid_offset, &path, &image)?),
        };

        let filter = filters.expression(&plan, image.bias, key_words);
        let of_returns = filters.of_returns();
        let mut events = vec![Opening { event: event.id()?, filter: &filter.text }];
        events.extend(returns.as_ref().map(|returns| Opening { event: returns.id, filter: &of_returns }));
        let openings = open_all(pid, &events)?;
        let mut session = UprobeSession {
            counters: openings.counters,
            of_returns: openings.of_returns,
            rings: openings.rings,
            event,
            layout,
            returns,
            held: Vec::new(),
            plan,
            pointed: filters.pointed,
            types_decided: filter.types,
            bias: image.bias,
            pid,
            identity: identity(pid),
            received: 0,
            looked: Instant::now(),
        };
        // Returns first: of a call that is seen, the return is too.
        each(&mut session.of_returns, |c| c.enable())?;
        session.each_call_counter(|c| c.enable())?;
        Ok(session)
    }

    /// The plan that [`Hit::point`] counts in: what was asked for, less what the filters exclude.
    pub fn plan(&self) -> &ProbePlan {
        &self.plan
    }

    /// How many of the filtered types the kernel decides; for more there was no room.
    pub fn types_decided(&self) -> usize {
        self.types_decided
    }

    /// Gives out what has come, in the order of time; waits for some up to `timeout`.
    pub fn poll(&mut self, timeout: Duration, each: &mut dyn FnMut(Seen)) -> Result<Polled> {
        let deadline = Instant::now() + timeout;
        loop {
            let ended = self.looked.elapsed() >= LOOK_AGAIN && {
                self.looked = Instant::now();
                has_ended(self.pid) || identity(self.pid).is_some_and(|now| Some(now) != self.identity)
            };
            let drained = self.drain(each);
            if drained.given > 0 {
                return Ok(Polled::Hits(drained.given));
            }
            if ended && drained.read == 0 && self.held.is_empty() {
                return Ok(Polled::Ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Polled::Quiet);
            }
            match self.held.is_empty() {
                true => self.wait(left.min(LOOK_AGAIN))?,
                false => std::thread::sleep(left.min(Duration::from_nanos(LATE_NS))),
            }
        }
    }

    /// Stops recording, gives out what is still in the buffers, and removes the probes.
    pub fn stop(mut self, each_seen: &mut dyn FnMut(Seen)) -> Result<Totals> {
        self.each_call_counter(|c| c.disable())?;
        each(&mut self.of_returns, |c| c.disable())?;
        while self.drain(each_seen).read > 0 {}
        self.held.sort_by_key(time_of);
        std::mem::take(&mut self.held).into_iter().for_each(each_seen);
        let mut counted = 0;
        self.each_call_counter(|c| {
            counted += c.read_full()?.count();
            Ok(())
        })?;
        Ok(Totals { hits: counted, dropped: counted.saturating_sub(self.received) })
    }

    /// How often the probes of calls were passed so far, whatever the filters then said: each time costs the target.
    pub fn passed(&self) -> Result<u64> {
        self.event.passed()
    }

    fn each_call_counter(&mut self, mut f: impl FnMut(&mut Counter) -> std::io::Result<()>) -> Result<()> {
        each(&mut self.counters, &mut f)?;
        each(self.rings.iter_mut().map(|r| r.sampler.as_counter_mut()), f)
    }

    /// Reads what is in the buffers, and gives out what nothing earlier can come to.
    fn drain(&mut self, each: &mut dyn FnMut(Seen)) -> Drained {
        let mut gaps = Vec::new();
        let (mut until, mut read) = (u64::MAX, 0);
        for ring in &mut self.rings {
            let look = ring.read(&mut gaps, &mut |sample| {
                read += 1;
                let raw = sample.raw()?;
                let ns = sample.time()?;
                let (thread, ours) = (sample.tid().unwrap_or(0), sample.pid() == Some(self.pid));
                let seen = match &self.returns {
                    Some(returns) if event_of(raw) == Some(returns.id) => {
                        let found = returns.layout.of(raw, &self.plan.returns, self.bias);
                        found.map(|found| Seen::Return(Return { ns, thread, ..found }))
                    }
                    _ => {
                        self.received += 1;
                        let found = self.layout.hit(raw, &self.plan.points, self.bias, self.pointed);
                        found.map(|found| Seen::Call(Hit { ns, thread, ..found }))
                    }
                };
                self.held.extend(seen.filter(|_| ours));
                Some(ns)
            });
            until = until.min(look.until);
            gaps.extend(look.gap);
        }
        gaps.iter().for_each(|&(from, to)| each(Seen::Gap(from, to)));
        self.held.sort_by_key(time_of);
        let given = self.held.partition_point(|seen| time_of(seen) <= until);
        self.held.drain(..given).for_each(each);
        Drained { given, read }
    }

    /// Sleeps until a buffer has filled up some, or `timeout`.
    fn wait(&self, timeout: Duration) -> Result<()> {
        let mut fds: Vec<libc::pollfd> = self
            .rings
            .iter()
            .map(|ring| libc::pollfd { fd: ring.sampler.as_raw_fd(), events: libc::POLLIN, revents: 0 })
            .collect();
        let milliseconds = timeout.as_millis().clamp(1, 1000) as i32;
        // SAFETY: `fds` is a live array of as many entries as said.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, milliseconds) };
        let only_hung_up = ready > 0 && fds.iter().all(|fd| fd.revents & libc::POLLIN == 0);
        if only_hung_up {
            // The thread that a buffer was opened for has ended; others may still write to it.
            std::thread::sleep(timeout.min(Duration::from_millis(5)));
        }
        if ready < 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(usage(format!("cannot wait for the kernel's probes ({error})")));
            }
        }
        Ok(())
    }
}

/// How many records were given out, and how many read.
struct Drained {
    given: usize,
    read: usize,
}

fn time_of(seen: &Seen) -> u64 {
    match seen {
        Seen::Call(hit) => hit.ns,
        Seen::Return(of) => of.ns,
        Seen::Gap(from, _) => *from,
    }
}

fn each<'c>(
    counters: impl IntoIterator<Item = &'c mut Counter>,
    mut f: impl FnMut(&mut Counter) -> std::io::Result<()>,
) -> Result<()> {
    counters
        .into_iter()
        .try_for_each(|counter| f(counter).map_err(|e| usage(format!("the kernel refuses to control its probe ({e})"))))
}

/// Words to fetch for keys of up to this many bytes; a definition of the kernel's has room for 64 of them.
pub(super) fn key_words(key_bytes: usize) -> usize {
    key_bytes.div_ceil(8).clamp(1, 64)
}

/// The executable of a process: where its file and its memory lie to each other.
struct Image {
    /// Link-time address, size and file offset of each segment.
    segments: Vec<(u64, u64, u64)>,
    bias: u64,
}

impl Image {
    fn of(pid: u32, path: &str) -> Result<Image> {
        let gone = |e: Error| usage(format!("cannot open the program of process {pid} ({e})"));
        let data = crate::files::Mapped::open(Path::new(path)).map_err(gone)?;
        let elf = object::File::parse(&*data).map_err(|e| Error::Binary(format!("{path} is no ELF file: {e}")))?;
        let segments: Vec<(u64, u64, u64)> =
            elf.segments().map(|s| (s.address(), s.file_range().1, s.file_range().0)).collect();
        let bias = if elf.kind() == object::ObjectKind::Dynamic { load_bias(pid, path, &segments)? } else { 0 };
        Ok(Image { segments, bias })
    }

    fn file_offset(&self, address: u64) -> Result<u64> {
        self.segments
            .iter()
            .find_map(|(start, size, offset)| {
                let into = address.checked_sub(*start).filter(|into| into < size)?;
                into.checked_add(*offset)
            })
            .ok_or_else(|| Error::Binary(format!("the program's file does not hold the code at {address:#x}")))
    }
}

/// What the loader added to link-time addresses.
fn load_bias(pid: u32, path: &str, segments: &[(u64, u64, u64)]) -> Result<u64> {
    let inode = fs::metadata(path).map_err(|e| Error::file(path, e))?.ino().to_string();
    let maps_path = format!("/proc/{pid}/maps");
    let maps = fs::read_to_string(&maps_path).map_err(|e| Error::file(&maps_path, e))?;
    maps.lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let start = u64::from_str_radix(words.next()?.split('-').next()?, 16).ok()?;
            let offset = u64::from_str_radix(words.nth(1)?, 16).ok()?;
            if words.nth(1)? != inode {
                return None;
            }
            let page = |address: u64| address & !0xfff;
            let (address, ..) = segments.iter().find(|(_, size, at)| *size > 0 && page(*at) == offset)?;
            Some(start.wrapping_sub(page(*address)))
        })
        .ok_or_else(|| usage(format!("process {pid} has not mapped its own program: is it still starting?")))
}

/// A process that a debugger holds.
struct Debugged {
    memory: fs::File,
    /// What `uprobe_events` lists: the kernel's own breakpoints.
    defined: String,
}

impl Debugged {
    /// `None` when no debugger holds the process.
    fn of(pid: u32) -> Option<Debugged> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?.trim();
        if tracer == "0" {
            return None;
        }
        let memory = fs::File::open(format!("/proc/{pid}/mem")).ok()?;
        let defined = fs::read_to_string(tracefs::directory().ok()?.join("uprobe_events")).unwrap_or_default();
        Some(Debugged { memory, defined })
    }

    /// Whether the code at the run-time address is a breakpoint (amd64) that is not the kernel's.
    fn has_breakpoint(&self, address: u64, file_offset: u64) -> bool {
        const INT3: u8 = 0xcc;
        let mut code = [0];
        let is_kernels = || self.defined.lines().any(|line| line.contains(&format!(":0x{file_offset:016x} ")));
        cfg!(target_arch = "x86_64")
            && self.memory.read_exact_at(&mut code, address).is_ok()
            && code == [INT3]
            && !is_kernels()
    }
}

/// One event to open, and which of its hits are wanted.
struct Opening<'f> {
    event: u64,
    filter: &'f str,
}

#[derive(Default)]
struct Openings {
    counters: Vec<Counter>,
    of_returns: Vec<Counter>,
    rings: Vec<Ring>,
}

/// Opens the events, calls first and then returns, for every thread on every CPU, until no thread is new.
fn open_all(pid: u32, events: &[Opening<'_>]) -> Result<Openings> {
    let cpus = online_cpus(&fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default());
    let bytes = RING_BYTES.min(RINGS_BYTES / cpus.len().next_power_of_two()).max(4 * WAKE_BYTES);
    raise_file_limit();
    let mut openings = Openings::default();
    let mut ring_of: BTreeMap<usize, i32> = BTreeMap::new();
    let mut known = Vec::new();
    loop {
        let new: Vec<i32> = threads(pid)?.into_iter().filter(|t| !known.contains(t)).collect();
        if new.is_empty() {
            return Ok(openings);
        }
        for thread in new {
            known.push(thread);
            for cpu in &cpus {
                for (i, Opening { event, filter }) in events.iter().enumerate() {
                    let Some(counter) = open(pid, thread, *cpu, *event)? else { break };
                    if !filter.is_empty() {
                        set_filter(&counter, filter)?;
                    }
                    match ring_of.get(cpu) {
                        Some(ring) => {
                            share_ring(&counter, *ring)?;
                            let counters = if i == 0 { &mut openings.counters } else { &mut openings.of_returns };
                            counters.push(counter);
                        }
                        None => {
                            let sampler = ring(counter, bytes)?;
                            ring_of.insert(*cpu, sampler.as_raw_fd());
                            openings.rings.push(Ring { sampler, bytes, since_empty: 0, newest: 0, lost: false });
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn ring(counter: Counter, bytes: usize) -> Result<Sampler> {
    counter.sampled(bytes).map_err(|e| {
        usage(format!("the kernel gives no buffer for probes ({e}): raise kernel.perf_event_mlock_kb, or be root"))
    })
}

/// The event on one thread and CPU, not yet recording; `None` when the thread has just ended.
fn open(pid: u32, thread: i32, cpu: usize, event: u64) -> Result<Option<Counter>> {
    match recorder(event).observe_pid(thread).one_cpu(cpu).inherit(true).build() {
        Ok(counter) => Ok(Some(counter)),
        Err(e) => match e.raw_os_error() {
            Some(libc::ESRCH) => Ok(None),
            Some(libc::EMFILE | libc::ENFILE) => {
                Err(usage("too many threads and CPUs for the limit of open files: raise it with `ulimit -n`"))
            }
            Some(libc::EACCES | libc::EPERM) => Err(usage(format!(
                "the kernel does not let us probe process {pid} ({e}): be root, or have CAP_PERFMON and CAP_SYS_PTRACE"
            ))),
            _ => Err(usage(format!("the kernel refuses to open the probe on process {pid} ({e}): use --engine gdb"))),
        },
    }
}

/// An opening of the event that records each hit, and is not enabled.
pub(super) fn recorder(event: u64) -> Builder<'static> {
    let mut builder = Builder::new(Tracepoint::with_id(event));
    builder
        .sample_period(1)
        .sample(SampleFlag::TID | SampleFlag::TIME | SampleFlag::RAW)
        .clockid(Clock::MONOTONIC)
        .wakeup_watermark(WAKE_BYTES)
        .exclude_kernel(false)
        .exclude_hv(false)
        .enabled(false);
    builder
}

fn set_filter(counter: &Counter, filter: &str) -> Result<()> {
    let text = CString::new(filter).map_err(|_| usage("a filter cannot hold a zero byte"))?;
    // SAFETY: the kernel only reads the string, up to its terminating zero.
    let status = unsafe { ioctls::SET_FILTER(counter.as_raw_fd(), text.as_ptr().cast_mut()) };
    checked(status, || format!("the kernel refuses the filter `{filter}`"))
}

pub(super) fn share_ring(counter: &Counter, ring: i32) -> Result<()> {
    // SAFETY: both are open perf events.
    let status = unsafe { ioctls::SET_OUTPUT(counter.as_raw_fd(), ring) };
    checked(status, || "the kernel refuses to let probes share a buffer".to_string())
}

fn checked(status: i32, what: impl Fn() -> String) -> Result<()> {
    if status < 0 {
        return Err(usage(format!("{} ({})", what(), std::io::Error::last_os_error())));
    }
    Ok(())
}

fn threads(pid: u32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).map_err(|_| usage(format!("there is no process {pid}")))?;
    Ok(entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect())
}

/// Whether the process is gone, or only waits for its parent to ask how it ended.
fn has_ended(pid: u32) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat"));
    let state = state.ok().and_then(|s| s.rsplit_once(')')?.1.trim_start().chars().next());
    let gone = matches!(state, None | Some('Z' | 'X'));
    // A leader that has called pthread_exit is a zombie too, while its threads run on.
    gone && fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task")).map_or(0, |tasks| tasks.count()) <= 1
}

/// What tells one run of a program from any other: its file, and the addresses that the kernel gave it at its start.
type Identity = (u64, u64, Vec<u8>);

fn identity(pid: u32) -> Option<Identity> {
    let metadata = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    let told = fs::read(format!("/proc/{pid}/auxv")).unwrap_or_default();
    Some((metadata.dev(), metadata.ino(), told))
}

/// Numbers of a list such as `0-3,8`.
fn online_cpus(list: &str) -> Vec<usize> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            cpus.extend(first..=last.min(first.saturating_add(1 << 14)));
        }
    }
    if cpus.is_empty() {
        cpus.push(0);
    }
    cpus
}

/// One file is open for each thread and CPU: takes what the hard limit allows.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a live rlimit; a failure leaves the limit as it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
