//! A watch in progress, driven by Python: the debugger hands in stopped threads, or the kernel engine is polled.

use super::{guarded, write_all, Output, OutputArgs, PyMap, PySession, ShowArgs};
use crate::answer::watch::{MapWatch, Taken, Wanted, WatchOptions};
use crate::probe::Registers;
use crate::session::Session;
use crate::Error;
use pyo3::prelude::*;
use std::time::Duration;

#[cfg(target_os = "linux")]
use crate::probe::pace::cpu_time;
#[cfg(target_os = "linux")]
use crate::probe::uprobe::{Polled, Settings, UprobeSession};

/// The kernel's probes, and the process that they are in.
#[cfg(target_os = "linux")]
type Kernel = (UprobeSession, u32);
#[cfg(not(target_os = "linux"))]
type Kernel = ();

/// What keeps the program alive when the debugger dies.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
type Guardian = Option<crate::probe::guard::Guard>;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
type Guardian = Option<()>;

/// Bytes of a key that the kernel engine fetches.
const KEY_BYTES: usize = 128;

/// What to watch: a dict.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(super) struct WatchArgs {
    map: Option<Py<PyMap>>,
    name: String,
    operations: Vec<String>,
    type_name: Option<String>,
    key: Option<String>,
    goroutine: Option<u64>,
    func: Option<String>,
    misses: bool,
    entry: bool,
    limit: u64,
    max_overhead: Option<f64>,
    snapshot: bool,
    paced: bool,
}

impl WatchArgs {
    fn options(self) -> crate::Result<WatchOptions> {
        let bad = |e: regex::Error| Error::Usage(format!("--func is not a regular expression: {e}"));
        let function = self.func.map(|func| regex::Regex::new(&func)).transpose().map_err(bad)?;
        Ok(WatchOptions {
            map: self.map.map(|map| (map.get().map, self.name)),
            operations: self.operations,
            wanted: Wanted {
                map: None,
                type_name: self.type_name,
                key: self.key,
                goroutine: self.goroutine,
                function,
                misses: self.misses,
                operations: Vec::new(),
            },
            entry: self.entry,
            limit: self.limit,
            max_overhead: self.max_overhead,
            snapshot: self.snapshot,
            paced: self.paced,
        })
    }
}

/// A watch. It belongs to the thread that made it, as its session does.
#[pyclass(name = "Watch", unsendable)]
pub(super) struct PyWatching {
    session: Py<PySession>,
    watch: MapWatch,
    out: Output,
    kernel: Option<Kernel>,
    cost: Option<Duration>,
    guard: Guardian,
    /// What the kernel picks hits by.
    picks: Option<String>,
    /// What was told and not handed over yet.
    text: Vec<u8>,
    /// Why it ended by itself.
    ended: Option<String>,
}

/// Bytes told that are handed over at once; the rest waits for the debugger's clock.
const PENDING: usize = 1 << 16;

#[pymethods]
impl PyWatching {
    /// Answers of `stopped_at`: not wanted; told; told, and the last.
    #[classattr]
    const IGNORED: u8 = 0;
    #[classattr]
    const TOLD: u8 = 1;
    #[classattr]
    const LAST: u8 = 2;

    /// A watch by a debugger that stops the target at each of `addresses()`.
    #[staticmethod]
    fn stopping(
        py: Python<'_>,
        session: Py<PySession>,
        what: WatchArgs,
        show: ShowArgs,
        to: OutputArgs,
    ) -> PyResult<PyWatching> {
        PyWatching::begin(py, session, to, |session| {
            let watch = MapWatch::new(session, what.options()?, true, Duration::ZERO, show.into())?;
            Ok((watch, None, None))
        })
    }

    /// A watch by the kernel's probes in process `pid`, which runs on.
    #[cfg(target_os = "linux")]
    #[staticmethod]
    fn in_kernel(
        py: Python<'_>,
        session: Py<PySession>,
        pid: u32,
        what: WatchArgs,
        show: ShowArgs,
        to: OutputArgs,
    ) -> PyResult<PyWatching> {
        let mut picks = None;
        let mut watching = PyWatching::begin(py, session, to, |session| {
            let options = what.options()?;
            let cost = crate::probe::cost_per_hit(KEY_BYTES, !options.entry)?;
            let mut watch = MapWatch::new(session, options, false, cost, show.into())?;
            let settings = Settings {
                goid_offset: watch.goid_offset(),
                key_bytes: KEY_BYTES,
                filters: watch.kernel_filters(session),
            };
            let kernel = UprobeSession::start(pid, watch.plan(), &settings)?;
            watch.follow(kernel.plan());
            picks = settings.filters.in_words(kernel.types_decided());
            Ok((watch, Some((kernel, pid)), Some(cost)))
        })?;
        watching.picks = picks;
        Ok(watching)
    }

    /// What the kernel picks hits by, in words, or None; the rest is checked when they have come.
    fn picks(&self) -> Option<&str> {
        self.picks.as_deref()
    }

    /// Whether outcomes were asked for and cannot be told on this kind of machine.
    fn lacks_outcomes(&self) -> bool {
        self.watch.lacks_outcomes()
    }

    /// Run-time addresses of the probes: calls, then returns.
    fn addresses(&self) -> Vec<u64> {
        self.watch.addresses()
    }

    /// How many of these are calls.
    fn calls(&self) -> usize {
        self.watch.plan().points.len()
    }

    /// Run-time address that the program comes to before it executes another one, or None.
    fn before_exec(&self) -> Option<u64> {
        self.watch.before_exec()
    }

    /// The registers that `stopped_with` wants, by the debugger's names.
    fn register_names(&self) -> Vec<&'static str> {
        Registers::names(self.watch.plan().arch).to_vec()
    }

    /// Guards process `pid`, which stands still without breakpoints and soon gets ours and `others`, against the death of the
    /// debugger; SIGCONT, when the guard ends, has to be passed on to it. Raises Error when that cannot be.
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    fn guard(&mut self, pid: u32, others: Vec<u64>) -> PyResult<()> {
        let points = self.addresses().into_iter().chain(self.before_exec()).chain(others).collect();
        let guard = crate::probe::guard::Guard::start(pid, points)?;
        guard.arm()?;
        self.guard = Some(guard);
        Ok(())
    }

    /// Ends the guard of a process whose breakpoints are gone, or that is gone itself; returns whether there was one.
    fn unguard(&mut self, alive: bool) -> bool {
        let Some(guard) = self.guard.take() else { return false };
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        if alive {
            guard.disarm();
        }
        let _ = (alive, guard);
        true
    }

    /// Thread `thread`, traced by the calling thread, has stopped at probe `point`; raises Error when its registers
    /// cannot be read directly. Returns one of the constants above.
    fn stopped_at(&mut self, py: Python<'_>, point: usize, thread: u32) -> PyResult<u8> {
        let registers = Registers::of_traced(thread as i32).map_err(PyErr::from)?;
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        if let (Some(guard), Some(address)) = (&self.guard, self.watch.address(point)) {
            guard.hit(thread, address);
        }
        self.stopped(py, point, thread, registers)
    }

    /// As `stopped_at`, with the values of `register_names()`.
    fn stopped_with(&mut self, py: Python<'_>, point: usize, thread: u32, registers: [u64; 9]) -> PyResult<u8> {
        self.stopped(py, point, thread, Registers::new(registers))
    }

    /// Takes what the kernel recorded, waiting for it up to `milliseconds`; returns whether the watch has ended.
    #[cfg(target_os = "linux")]
    fn poll(&mut self, py: Python<'_>, milliseconds: u64) -> PyResult<bool> {
        let Some((kernel, pid)) = &mut self.kernel else { return Ok(true) };
        if self.ended.is_some() {
            return Ok(true);
        }
        let session = self.session.borrow(py);
        let held = session.held();
        let work = Borrowed((held.get(), &mut self.watch, kernel, &mut self.out));
        let pid = *pid;
        let ended = guarded(py, move || {
            let (session, watch, kernel, out) = work.get();
            let mut ended: Option<String> = None;
            let mut failed = None;
            session.forget();
            let mut text = Vec::new();
            let polled = kernel.poll(Duration::from_millis(milliseconds), &mut |seen| {
                if failed.is_none() && ended.is_none() {
                    match watch.take(session, seen, &mut text) {
                        Ok(Taken::Last(spent)) => ended = Some(spent.to_string()),
                        Ok(_) => {}
                        Err(error) => failed = Some(error),
                    }
                }
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            hand_over(&mut text, out)?;
            if polled == Polled::Ended {
                ended.get_or_insert(format!("process {pid} has ended, or runs another program"));
            } else if let (None, Some(cpu)) = (&ended, cpu_time(pid)) {
                ended = watch.judge(cpu, kernel.passed()?).map(|spent| spent.to_string());
            }
            Ok(ended)
        })?;
        self.ended = ended;
        Ok(self.ended.is_some())
    }

    /// Hands over what was told so far.
    fn flush(&mut self, py: Python<'_>) -> PyResult<()> {
        let session = self.session.borrow(py);
        let held = session.held();
        let work = Borrowed((held.get(), &mut self.watch, &mut self.text, &mut self.out));
        Ok(guarded(py, move || {
            let (_, _, text, out) = work.get();
            hand_over(text, out)
        })?)
    }

    /// Why the watch ended by itself, or None.
    fn ended(&self) -> Option<String> {
        self.ended.clone()
    }

    /// Judges the share of time, in percent, that the debugger takes; returns whether that ends the watch.
    fn judge_share(&mut self, percent: f64) -> bool {
        if let Some(spent) = self.watch.judge_share(percent) {
            self.ended = Some(spent.to_string());
        }
        self.ended.is_some()
    }

    /// Operations told so far.
    fn hits(&self) -> u64 {
        self.watch.hits()
    }

    /// The last hit told: (map or None, key as shown or None, goroutine id).
    fn last(&self, py: Python<'_>) -> Option<(Option<PyMap>, Option<String>, u64)> {
        let last = self.watch.last()?;
        let session = self.session.borrow(py);
        Some((last.map.map(|map| session.found(map)), last.key.clone(), last.goroutine))
    }

    /// Removes the kernel's probes and tells what it all came to; `cost` is seconds per hit, when the caller knows.
    #[pyo3(signature = (cost=None))]
    fn finish(&mut self, py: Python<'_>, cost: Option<f64>) -> PyResult<()> {
        let mut cost = self.cost.or(cost.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()));
        let session = self.session.borrow(py);
        let held = session.held();
        let kernel = self.kernel.take();
        if self.watch.hits() == 0 {
            cost = None;
        }
        let work = Borrowed((held.get(), &mut self.watch, (kernel, &mut self.text), &mut self.out));
        guarded(py, move || {
            let (session, watch, (kernel, text), out) = work.get();
            hand_over(text, out)?;
            let mut dropped = 0;
            #[cfg(target_os = "linux")]
            if let Some((kernel, _)) = kernel {
                session.forget();
                let mut failed = None;
                let totals = kernel.stop(&mut |seen| {
                    if failed.is_none() {
                        failed = watch.take(session, seen, &mut *out.writer).err();
                    }
                })?;
                dropped = totals.dropped;
                failed.map_or(Ok(()), Err)?;
            }
            watch.finish(session, dropped, cost, &mut *out.writer)?;
            out.writer.finish()
        })?;
        Ok(())
    }
}

impl PyWatching {
    /// A watch that `make` makes over the session, with the kernel's probes and their cost if there are any.
    fn begin(
        py: Python<'_>,
        session: Py<PySession>,
        to: OutputArgs,
        make: impl FnOnce(&Session) -> crate::Result<(MapWatch, Option<Kernel>, Option<Duration>)> + Send,
    ) -> PyResult<PyWatching> {
        let out = Output::open(to)?;
        let borrowed = session.borrow(py);
        let shared = borrowed.look();
        let (watch, kernel, cost) = guarded(py, || make(shared.get()))?;
        drop(shared);
        drop(borrowed);
        Ok(PyWatching { session, watch, out, kernel, cost, guard: None, picks: None, text: Vec::new(), ended: None })
    }

    fn stopped(&mut self, py: Python<'_>, point: usize, thread: u32, registers: Registers) -> PyResult<u8> {
        let session = self.session.borrow(py);
        let held = session.held();
        let work = Borrowed((held.get(), &mut self.watch, &mut self.text, &mut self.out));
        let taken = guarded(py, move || {
            let (session, watch, text, out) = work.get();
            let taken = watch.stopped_at(session, point, thread, &registers, text)?;
            if text.len() >= PENDING || matches!(taken, Taken::Last(_)) {
                hand_over(text, out)?;
            }
            Ok(taken)
        })?;
        Ok(match taken {
            Taken::Ignored => Self::IGNORED,
            Taken::Told => Self::TOLD,
            Taken::Last(spent) => {
                self.ended = Some(spent.to_string());
                Self::LAST
            }
        })
    }
}

fn hand_over(text: &mut Vec<u8>, out: &mut Output) -> crate::Result<()> {
    write_all(&mut *out.writer, &String::from_utf8_lossy(text))?;
    text.clear();
    out.flush()
}

/// What one call borrows, used by the calling thread while Python's lock is free.
struct Borrowed<'a, K>((&'a Session, &'a mut MapWatch, K, &'a mut Output));

// SAFETY: `guarded` runs its closure on the calling thread; nothing is sent anywhere.
unsafe impl<K> Send for Borrowed<'_, K> {}

impl<'a, K> Borrowed<'a, K> {
    fn get(self) -> (&'a Session, &'a mut MapWatch, K, &'a mut Output) {
        self.0
    }
}

/// A program held before its first instruction.
#[cfg(target_os = "linux")]
#[pyclass(name = "Program", unsendable)]
pub(super) struct PyProgram(Option<crate::probe::launch::Held>);

#[cfg(target_os = "linux")]
#[pymethods]
impl PyProgram {
    /// Loads `program`, which does not run before `release`; killed when dropped before.
    #[staticmethod]
    fn hold(program: std::ffi::OsString, args: Vec<std::ffi::OsString>) -> PyResult<PyProgram> {
        Ok(PyProgram(Some(crate::probe::launch::Held::start(&program, &args, |_| {})?)))
    }

    /// Its process id; 0 once it is released.
    #[getter]
    fn pid(&self) -> u32 {
        self.0.as_ref().map_or(0, |held| held.pid())
    }

    /// Lets it run.
    fn release(&mut self) -> PyResult<()> {
        if let Some(held) = self.0.take() {
            held.release()?;
        }
        Ok(())
    }
}

/// Whether kernel probes can be used here; raises Error with what is missing.
#[cfg(target_os = "linux")]
#[pyfunction]
pub(super) fn kernel_probes() -> PyResult<()> {
    Ok(crate::probe::capability()?)
}
