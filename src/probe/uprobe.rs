//! The kernel engine: every call of a probed function becomes a record in a ring buffer, with registers,
//! goroutine id and key bytes fetched by the kernel. The target is never stopped.
//!
//! One tracefs event holds all the probes. It is opened for each thread of the target on each CPU (threads
//! started later inherit it), all openings of a CPU share one ring buffer, and the breakpoints are only put
//! into the target's address space.

use super::functions::{KeyPlace, ProbePlan};
use super::record::{Hit, RecordLayout};
use super::tracefs::{self, usage, Fetches, PointedKey, Registered};
use super::uprobe_filter::Filters;
use crate::{Error, Result};
use object::{Object, ObjectSegment};
use perf_event::data::Record;
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

/// Ring buffer of one CPU: about 100 000 hits.
const RING_BYTES: usize = 16 << 20;
/// All ring buffers together, on machines with many CPUs.
const RINGS_BYTES: usize = 256 << 20;
/// Bytes in a ring buffer that wake the reader.
const WAKE_BYTES: usize = 256 << 10;
/// Hits taken from one ring buffer before the others have their turn.
const BATCH: usize = 4096;
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
    // Fields drop in this order: the openings before the event, which the kernel keeps while it is open.
    counters: Vec<Counter>,
    rings: Vec<Sampler>,
    event: Registered,
    layout: RecordLayout,
    plan: ProbePlan,
    pointed: PointedKey,
    types_decided: usize,
    bias: u64,
    pid: u32,
    identity: Option<Identity>,
    received: u64,
    looked: Instant,
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
        plan.points.retain(|p| !(filters.keyed && p.key == KeyPlace::None));
        plan.points.retain(|p| !(filters.no_sync_map && p.map_type.is_none()));
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
        let layout = RecordLayout::parse(&event.format()?, key_words)
            .ok_or_else(|| usage("this kernel describes our probe in a form that is not known: use --engine gdb"))?;

        let filter = filters.expression(&plan, image.bias, key_words);
        let openings = open_all(pid, event.id()?, &filter.text)?;
        let mut session = UprobeSession {
            counters: openings.counters,
            rings: openings.rings,
            event,
            layout,
            plan,
            pointed: filters.pointed,
            types_decided: filter.types,
            bias: image.bias,
            pid,
            identity: identity(pid),
            received: 0,
            looked: Instant::now(),
        };
        session.each_counter(|c| c.enable())?;
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

    /// Gives out the hits that have come, in the order of time within each call; waits for some up to `timeout`.
    pub fn poll(&mut self, timeout: Duration, each: &mut dyn FnMut(Hit)) -> Result<Polled> {
        let deadline = Instant::now() + timeout;
        loop {
            let ended = self.looked.elapsed() >= LOOK_AGAIN && {
                self.looked = Instant::now();
                has_ended(self.pid) || identity(self.pid).is_some_and(|now| Some(now) != self.identity)
            };
            let hits = self.drain(each);
            if hits > 0 {
                return Ok(Polled::Hits(hits));
            }
            if ended {
                return Ok(Polled::Ended);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Polled::Quiet);
            }
            self.wait(left.min(LOOK_AGAIN))?;
        }
    }

    /// Stops recording, gives out the hits still in the buffers, and removes the probes.
    pub fn stop(mut self, each: &mut dyn FnMut(Hit)) -> Result<Totals> {
        self.each_counter(|c| c.disable())?;
        while self.drain(each) > 0 {}
        let mut counted = 0;
        self.each_counter(|c| {
            counted += c.read_full()?.count();
            Ok(())
        })?;
        Ok(Totals { hits: counted, dropped: counted.saturating_sub(self.received) })
    }

    /// How often the probes were passed so far, whatever the filters then said: each time costs the target.
    pub fn passed(&self) -> Result<u64> {
        self.event.passed()
    }

    fn each_counter(&mut self, mut f: impl FnMut(&mut Counter) -> std::io::Result<()>) -> Result<()> {
        let rings = self.rings.iter_mut().map(|r| r.as_counter_mut());
        for counter in self.counters.iter_mut().chain(rings) {
            f(counter).map_err(|e| usage(format!("the kernel refuses to control its probe ({e})")))?;
        }
        Ok(())
    }

    fn drain(&mut self, each: &mut dyn FnMut(Hit)) -> usize {
        let mut hits = Vec::new();
        for ring in &mut self.rings {
            for _ in 0..BATCH {
                let Some(record) = ring.next_record() else { break };
                let Ok(Record::Sample(sample)) = record.parse_record() else { continue };
                self.received += 1;
                let Some(raw) = sample.raw() else { continue };
                let Some(mut hit) = self.layout.hit(raw, &self.plan.points, self.bias, self.pointed) else {
                    continue;
                };
                hit.ns = sample.time().unwrap_or(0);
                hit.thread = sample.tid().unwrap_or(0);
                if sample.pid() == Some(self.pid) {
                    hits.push(hit);
                }
            }
        }
        hits.sort_by_key(|hit| hit.ns);
        let count = hits.len();
        hits.into_iter().for_each(each);
        count
    }

    /// Sleeps until a buffer has filled up some, or `timeout`.
    fn wait(&self, timeout: Duration) -> Result<()> {
        let mut fds: Vec<libc::pollfd> = self
            .rings
            .iter()
            .map(|ring| libc::pollfd { fd: ring.as_raw_fd(), events: libc::POLLIN, revents: 0 })
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

#[derive(Default)]
struct Openings {
    counters: Vec<Counter>,
    rings: Vec<Sampler>,
}

/// Opens the event for every thread on every CPU, until no thread is new.
fn open_all(pid: u32, event: u64, filter: &str) -> Result<Openings> {
    let cpus = online_cpus(&fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default());
    let ring_bytes = RING_BYTES.min(RINGS_BYTES / cpus.len().next_power_of_two()).max(4 * WAKE_BYTES);
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
                let Some(counter) = open(pid, thread, *cpu, event)? else { break };
                if !filter.is_empty() {
                    set_filter(&counter, filter)?;
                }
                match ring_of.get(cpu) {
                    Some(ring) => {
                        share_ring(&counter, *ring)?;
                        openings.counters.push(counter);
                    }
                    None => {
                        let ring = ring(counter, ring_bytes)?;
                        ring_of.insert(*cpu, ring.as_raw_fd());
                        openings.rings.push(ring);
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

fn share_ring(counter: &Counter, ring: i32) -> Result<()> {
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
