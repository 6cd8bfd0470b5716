//! The binding to a debugger's Python: thin, typed errors in, one exception out, no panic across.

use crate::answer::{
    self, Format, GoroutineOptions, InFrame, KeyInput, LeaksOptions, ListOptions, ListSort, PrintOptions, Show, SortBy,
    Tally,
};
use crate::budget::{self, Budget};
use crate::error::Watch;
use crate::evidence::join::Target;
use crate::evidence::{join, profile_report::profile_report, trace, EvidenceFile};
use crate::files;
use crate::heap::identify::map_at;
use crate::memory::{DebuggerMemory, Memory, Thread, STOP_WITHIN};
use crate::report::{self, Form};
use crate::session::{MapRef, Session};
use crate::value::{Options, FOLLOW_LIMIT};
use crate::{types::Location, Error};
use pyo3::exceptions::{PyBrokenPipeError, PyKeyboardInterrupt};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cell::{Ref, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

mod audit;
mod watch;

pyo3::create_exception!(_native, PyError, pyo3::exceptions::PyException, "One sentence: what was wrong, what to do.");

impl From<Error> for PyErr {
    fn from(error: Error) -> PyErr {
        match error {
            Error::Interrupted => PyKeyboardInterrupt::new_err(()),
            Error::BrokenPipe => PyBrokenPipeError::new_err(()),
            other => PyError::new_err(other.to_string()),
        }
    }
}

/// Looks for Ctrl-C every 10 ms, and tells the front end how far the work is every 200 ms.
struct PyWatch {
    budget: Budget,
    progress: Option<Py<PyAny>>,
    last: Mutex<(Instant, Instant)>,
}

const SIGNALS_EVERY: Duration = Duration::from_millis(10);
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

impl PyWatch {
    fn new(progress: Option<Py<PyAny>>) -> PyWatch {
        PyWatch { budget: Budget::begin(), progress, last: Mutex::new((Instant::now(), Instant::now())) }
    }
}

impl Watch for PyWatch {
    fn tick(&self, done: u64, total: u64) -> crate::Result<()> {
        // Whoever holds the lock is looking right now.
        let Ok(mut last) = self.last.try_lock() else { return Ok(()) };
        if last.0.elapsed() < SIGNALS_EVERY {
            return Ok(());
        }
        last.0 = Instant::now();
        self.budget.check()?;
        let show = last.1.elapsed() >= PROGRESS_EVERY && done > 0;
        if show {
            last.1 = Instant::now();
        }
        Python::attach(|py| {
            py.check_signals()?;
            match &self.progress {
                Some(progress) if show => progress.call1(py, (done, total)).map(drop),
                _ => Ok(()),
            }
        })
        .map_err(|_| Error::Interrupted)
    }

    fn grant(&self) {
        self.budget.grant();
    }
}

/// Text for the front end, handed over in pieces that are whole UTF-8.
struct PyWriter {
    write: Py<PyAny>,
    pending: Vec<u8>,
    /// What the front end's write raised: the caller gets it as it is.
    raised: Arc<Mutex<Option<PyErr>>>,
}

impl Write for PyWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        self.hand_over(false)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.hand_over(true)
    }
}

impl PyWriter {
    fn hand_over(&mut self, all: bool) -> std::io::Result<()> {
        let whole = match std::str::from_utf8(&self.pending) {
            Ok(_) => self.pending.len(),
            Err(error) if all || error.error_len().is_some() => self.pending.len(),
            Err(error) => error.valid_up_to(),
        };
        let text = String::from_utf8_lossy(&self.pending[..whole]);
        let result = Python::attach(|py| self.write.call1(py, (&*text,)).map(drop));
        self.pending.drain(..whole);
        result.map_err(|error| {
            let interrupted = Python::attach(|py| error.is_instance_of::<PyKeyboardInterrupt>(py));
            match interrupted {
                true => Error::Interrupted.into_io(),
                false => {
                    let said = std::io::Error::other(error.to_string());
                    *self.raised.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(error);
                    said
                }
            }
        })
    }
}

/// What an answer is written to; a file has it only when it is finished.
trait Sink: Write + Send {
    /// All is written.
    fn finish(&mut self) -> crate::Result<()>;
}

impl Sink for PyWriter {
    fn finish(&mut self) -> crate::Result<()> {
        self.flush().map_err(|error| Error::of_output(&error, "the answer"))
    }
}

impl Sink for std::io::BufWriter<files::Output> {
    fn finish(&mut self) -> crate::Result<()> {
        self.flush().map_err(|error| Error::of_output(&error, "the answer"))?;
        self.get_mut().finish()
    }
}

/// Where an answer goes, and who is asked whether to go on.
struct Output {
    writer: Box<dyn Sink>,
    watch: PyWatch,
    path: Option<PathBuf>,
    raised: Arc<Mutex<Option<PyErr>>>,
}

impl Output {
    fn open(to: OutputArgs) -> crate::Result<Output> {
        let OutputArgs { write, output, progress } = to;
        let raised = Arc::default();
        let writer: Box<dyn Sink> = match &output {
            None => Box::new(PyWriter { write, pending: Vec::new(), raised: Arc::clone(&raised) }),
            Some(path) => Box::new(std::io::BufWriter::with_capacity(1 << 16, files::Output::create(path)?)),
        };
        Ok(Output { writer, watch: PyWatch::new(progress), path: output, raised })
    }

    /// Hands over what was written.
    fn flush(&mut self) -> crate::Result<()> {
        self.writer.flush().map_err(|error| Error::of_output(&error, "the answer"))
    }

    /// Runs `answer` without holding Python's lock; a panic becomes an error.
    fn run<T: Send>(
        mut self,
        py: Python<'_>,
        answer: impl FnOnce(&dyn Watch, &mut dyn Write) -> crate::Result<T> + Send,
    ) -> PyResult<T> {
        let (path, raised) = (self.path.clone(), self.raised.clone());
        let result = guarded(py, move || {
            let result = answer(&self.watch, &mut *self.writer);
            result.and_then(|answer| self.writer.finish().map(|()| answer))
        });
        let raised = raised.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        match (result, path, raised) {
            (Err(Error::Output { .. }), _, Some(raised)) => Err(raised),
            (Err(Error::Output { reason, .. }), Some(path), _) => Err(cannot_write(&path, reason).into()),
            (result, ..) => Ok(result?),
        }
    }
}

fn cannot_write(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Output { path: path.display().to_string(), reason: reason.to_string() }
}

/// Has `write` write entries to the file at `path`, and says to `out` how many, and how many were cut.
fn into_file(
    path: &Path,
    as_json: bool,
    out: &mut dyn Write,
    write: impl FnOnce(&mut files::Output) -> crate::Result<Tally>,
) -> crate::Result<()> {
    let mut file = files::Output::create(path)?;
    let tally = write(&mut file).map_err(|e| match e {
        Error::Output { reason, .. } => cannot_write(path, reason),
        other => other,
    })?;
    file.finish()?;
    let file = path.display().to_string();
    let said = match as_json {
        true => serde_json::json!({"file": file, "entries": tally.shown, "cut": tally.cut}).to_string(),
        false => match tally.cut {
            0 => format!("{} entries written to {file}", tally.shown),
            cut => format!("{} entries written to {file}; {}", tally.shown, answer::cut_text(cut)),
        },
    };
    write_all(out, &(said + "\n"))
}

/// Runs `work` without Python's lock. A panic is a bug of ours: it must not end the debugger.
fn guarded<T: Send>(py: Python<'_>, work: impl FnOnce() -> crate::Result<T> + Send) -> crate::Result<T> {
    py.detach(|| {
        let work = || files::catching(work);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
            let what = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            Err(Error::Binary(format!("mapscope failed ({}); please report this", what.unwrap_or("unknown"))))
        })
    })
}

/// How values are shown: a dict.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct ShowArgs {
    json: bool,
    depth: usize,
    string_limit: usize,
    elements_limit: usize,
    follow_limit: usize,
    colour: bool,
}

impl From<ShowArgs> for Show {
    fn from(args: ShowArgs) -> Show {
        let ShowArgs { json, colour, depth, string_limit, elements_limit, follow_limit } = args;
        Show { json, colour, values: Options { depth, string_limit, elements_limit, follow_limit } }
    }
}

/// Where an answer goes: a dict. `write(text)` shows it, unless `output` names a file; `progress(done, total)` or None.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct OutputArgs {
    write: Py<PyAny>,
    output: Option<PathBuf>,
    progress: Option<Py<PyAny>>,
}

/// A key: a dict with a Go literal as `key`, or else the name of its type and its bytes.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct KeyArgs {
    key: Option<String>,
    key_type: Option<String>,
    key_bytes: Option<Vec<u8>>,
}

impl From<KeyArgs> for KeyInput {
    fn from(args: KeyArgs) -> KeyInput {
        match args.key {
            Some(text) => KeyInput::Literal(text),
            None => KeyInput::Bytes {
                type_name: args.key_type.unwrap_or_default(),
                bytes: args.key_bytes.unwrap_or_default(),
            },
        }
    }
}

/// A map found by an expression or an address, in one session.
#[pyclass(name = "MapRef", frozen)]
#[derive(Clone, Copy)]
struct PyMap {
    map: MapRef,
    /// The session that found it: address and type mean nothing in another.
    session: u64,
}

#[pymethods]
impl PyMap {
    /// Address of the header; 0 for a nil map.
    #[getter]
    fn address(&self) -> u64 {
        self.map.address
    }
}

/// A target: a core, a process, or a debugger's.
///
/// A live process's session may hold its threads by ptrace, which binds it to the thread that made it.
///
/// Each call is a look of its own: nothing that was read of the target's memory before is used again.
#[pyclass(name = "Session", unsendable)]
struct PySession {
    session: RefCell<Session>,
    number: u64,
    /// Gives `[(kernel's thread ID, {register: value})]` of a debugger's threads that stand still.
    read_threads: Option<Py<PyAny>>,
}

impl PySession {
    fn new(session: Session, read_threads: Option<Py<PyAny>>) -> PySession {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        PySession { session: RefCell::new(session), number: NEXT.fetch_add(1, Ordering::Relaxed), read_threads }
    }

    /// The session for one call, which reads the target's memory anew.
    fn look(&self) -> Shared<'_> {
        // Whoever has it already is in the middle of a look, of which this one is a part.
        if let Ok(mut session) = self.session.try_borrow_mut() {
            session.look_again();
            if self.read_threads.is_some() {
                session.threads.forget();
            }
        }
        self.held()
    }

    /// The same, with the registers of a debugger's threads; not for expressions, in the middle of which a debugger had
    /// better select no other thread.
    fn look_with_threads(&self, py: Python<'_>) -> PyResult<Shared<'_>> {
        let shared = self.look();
        let session = shared.get();
        if let Some(read) = self.read_threads.as_ref().filter(|_| !session.threads.are_known()) {
            let arm = session.types.program().is_arm();
            let found: Vec<(u64, HashMap<String, u64>)> = read.call0(py)?.extract(py)?;
            let threads = found.iter().filter_map(|(tid, values)| Thread::named(*tid, values, arm));
            session.threads.set(threads.collect());
        }
        Ok(shared)
    }

    /// The session for a watch, which looks again at each hit.
    fn held(&self) -> Shared<'_> {
        Shared(self.session.borrow())
    }

    fn found(&self, map: MapRef) -> PyMap {
        PyMap { map, session: self.number }
    }

    /// A map that this session found.
    fn own(&self, found: &PyMap) -> crate::Result<MapRef> {
        match found.session == self.number {
            true => Ok(found.map),
            false => Err(Error::Usage("this map was found in another program or an earlier run; name it again".into())),
        }
    }
}

#[pymethods]
impl PySession {
    /// A core file, with the executable that the user chose or the one that it names.
    #[staticmethod]
    #[pyo3(signature = (core, executable=None))]
    fn core(py: Python<'_>, core: PathBuf, executable: Option<PathBuf>) -> PyResult<PySession> {
        let session = guarded(py, || Session::core(&core, executable.as_deref()))?;
        Ok(PySession::new(session, None))
    }

    /// A live process, stopped while the session lives if `stop`, within `stop_timeout` seconds.
    #[staticmethod]
    #[pyo3(signature = (pid, executable=None, stop=true, stop_timeout=STOP_WITHIN.as_secs_f64()))]
    fn process(
        py: Python<'_>,
        pid: i32,
        executable: Option<PathBuf>,
        stop: bool,
        stop_timeout: f64,
    ) -> PyResult<PySession> {
        let within = Duration::try_from_secs_f64(stop_timeout).unwrap_or(STOP_WITHIN);
        let watch = PyWatch::new(None);
        let session = guarded(py, || Session::process(pid, executable.as_deref(), stop.then_some(within), &watch))?;
        Ok(PySession::new(session, None))
    }

    /// A live process that the calling debugger holds; `threads()` gives the registers of its threads.
    #[staticmethod]
    #[pyo3(signature = (pid, executable=None, threads=None))]
    fn held_process(
        py: Python<'_>,
        pid: i32,
        executable: Option<PathBuf>,
        threads: Option<Py<PyAny>>,
    ) -> PyResult<PySession> {
        let session = guarded(py, || Session::held_process(pid, executable.as_deref()))?;
        Ok(PySession::new(session, threads))
    }

    /// Any target, read by `read(address, length) -> bytes or None`; `entry` is its run-time entry point, `threads()`
    /// gives the registers of its threads.
    #[staticmethod]
    #[pyo3(signature = (read, executable, entry, threads=None))]
    fn remote(
        py: Python<'_>,
        read: Py<PyAny>,
        executable: PathBuf,
        entry: Option<u64>,
        threads: Option<Py<PyAny>>,
    ) -> PyResult<PySession> {
        let reader = move |address: u64, buf: &mut [u8]| {
            Python::attach(|py| {
                let answer = read.call1(py, (address, buf.len()));
                let Ok(answer) = answer else { return false };
                let Ok(bytes) = answer.cast_bound::<PyBytes>(py) else { return false };
                let bytes = bytes.as_bytes();
                let whole = bytes.len() == buf.len();
                if whole {
                    buf.copy_from_slice(bytes);
                }
                whole
            })
        };
        let memory: Arc<dyn Memory> = Arc::new(DebuggerMemory::new(Box::new(reader), Vec::new()));
        let session = guarded(py, || Session::remote(memory, &executable, entry))?;
        Ok(PySession::new(session, threads))
    }

    /// What the user should know of the source, one sentence each.
    fn notes(&self) -> Vec<String> {
        self.session.borrow().notes.iter().map(ToString::to_string).collect()
    }

    /// Fails when a file that the session is read from has changed since it was opened.
    fn check_files(&self) -> PyResult<()> {
        Ok(self.session.borrow().check_files()?)
    }

    /// The map that an expression over package variables leads to.
    fn resolve(&self, py: Python<'_>, expression: &str) -> PyResult<PyMap> {
        let session = self.look();
        Ok(self.found(guarded(py, || session.get().resolve(expression, &PyWatch::new(None)))?))
    }

    /// The map that an expression over the variables of a goroutine's frame (None: of the innermost with such a
    /// name) and package variables leads to.
    fn resolve_in(&self, py: Python<'_>, expression: &str, goid: u64, frame: Option<usize>) -> PyResult<PyMap> {
        let (session, at) = (self.look_with_threads(py)?, InFrame { goid, frame });
        let watch = PyWatch::new(None);
        Ok(self.found(guarded(py, || answer::resolve_in(session.get(), expression, at, &watch))?))
    }

    /// The value of such an expression: its type's name, and its bytes.
    fn evaluate_in(
        &self,
        py: Python<'_>,
        expression: &str,
        goid: u64,
        frame: Option<usize>,
    ) -> PyResult<(String, Vec<u8>)> {
        let (session, at) = (self.look_with_threads(py)?, InFrame { goid, frame });
        let watch = PyWatch::new(None);
        Ok(guarded(py, || answer::evaluate_in(session.get(), expression, at, &watch))?)
    }

    /// The map of the type named `type_name` whose header is at `address`.
    fn map_at(&self, py: Python<'_>, type_name: &str, address: u64) -> PyResult<PyMap> {
        let session = self.look();
        Ok(self.found(guarded(py, || Ok(MapRef { address, ty: session.get().type_named(type_name)? }))?))
    }

    /// The map whose header is at `address`, its type told by memory.
    fn map_found_at(&self, py: Python<'_>, address: u64) -> PyResult<PyMap> {
        let session = self.look();
        Ok(self.found(guarded(py, || map_at(session.get(), address, &PyWatch::new(None)))?))
    }

    /// The map that the value of the type named `type_name` at `address` leads to.
    fn map_in(&self, py: Python<'_>, type_name: &str, address: u64) -> PyResult<PyMap> {
        let session = self.look();
        Ok(self.found(guarded(py, || {
            let session = session.get();
            session.map_from(Location { address, ty: session.type_named(type_name)? })
        })?))
    }

    /// `len(m)`.
    fn count(&self, py: Python<'_>, map: &PyMap) -> PyResult<u64> {
        let (session, map) = (self.look(), self.own(map)?);
        Ok(guarded(py, || Ok(session.get().open(map)?.count()))?)
    }

    /// Names of package variables that start with `start` and are maps.
    fn map_variables(&self, py: Python<'_>, start: &str) -> PyResult<Vec<String>> {
        let session = self.look();
        Ok(guarded(py, || Ok(session.get().types.map_variables(start)))?)
    }

    #[pyo3(signature = (map, *, limit, r#where, sort, raw, show, to))]
    #[allow(clippy::too_many_arguments)]
    fn print(
        &self,
        py: Python<'_>,
        map: &PyMap,
        limit: u64,
        r#where: Option<String>,
        sort: Option<&str>,
        raw: bool,
        show: ShowArgs,
        to: OutputArgs,
    ) -> PyResult<()> {
        let sort = match sort {
            Some("key") => Some(SortBy::Key),
            Some("elem") => Some(SortBy::Elem),
            _ => None,
        };
        let show = show.into();
        let options = PrintOptions { show, limit, pattern: r#where, sort, raw };
        self.answer(py, map, to, |session, map, watch, out| {
            answer::print(&session.open(map)?, &options, &session.notes, watch, out).map(drop)
        })
    }

    #[pyo3(signature = (map, *, json, to))]
    fn stats(&self, py: Python<'_>, map: &PyMap, json: bool, to: OutputArgs) -> PyResult<()> {
        self.answer(py, map, to, |session, map, watch, out| {
            answer::stats(&session.open(map)?, json, &session.notes, watch, out)
        })
    }

    #[pyo3(signature = (map, *, first, last, show, to))]
    fn buckets(
        &self,
        py: Python<'_>,
        map: &PyMap,
        first: u64,
        last: u64,
        show: ShowArgs,
        to: OutputArgs,
    ) -> PyResult<()> {
        let show = show.into();
        self.answer(py, map, to, |session, map, watch, out| {
            answer::buckets(&session.open(map)?, first..=last, &show, &session.notes, watch, out)
        })
    }

    #[pyo3(signature = (map, *, key, show, to))]
    fn get(&self, py: Python<'_>, map: &PyMap, key: KeyArgs, show: ShowArgs, to: OutputArgs) -> PyResult<()> {
        let show = show.into();
        let key = key.into();
        self.answer(py, map, to, |session, map, watch, out| answer::get(session, map, &key, &show, watch, out))
    }

    /// Near misses are looked for during `budget` seconds; 0 is as long as it takes.
    #[pyo3(signature = (map, *, key, budget, show, to))]
    fn why(
        &self,
        py: Python<'_>,
        map: &PyMap,
        key: KeyArgs,
        budget: f64,
        show: ShowArgs,
        to: OutputArgs,
    ) -> PyResult<()> {
        let show = show.into();
        let key = key.into();
        let budget = Duration::try_from_secs_f64(budget).ok().filter(|budget| !budget.is_zero());
        self.answer(py, map, to, |session, map, watch, out| answer::why(session, map, &key, budget, &show, watch, out))
    }

    /// Lists every map that can be reached.
    #[pyo3(signature = (*, sort, type_name, min_bytes, r#where, limit, show, to))]
    #[allow(clippy::too_many_arguments)]
    fn list(
        &self,
        py: Python<'_>,
        sort: &str,
        type_name: Option<String>,
        min_bytes: u64,
        r#where: Option<String>,
        limit: usize,
        show: ShowArgs,
        to: OutputArgs,
    ) -> PyResult<()> {
        let session = self.look_with_threads(py)?;
        let sort = match sort {
            "count" => ListSort::Count,
            "waste" => ListSort::Waste,
            _ => ListSort::Bytes,
        };
        let options = ListOptions { show: show.into(), sort, type_name, min_bytes, pattern: r#where, limit };
        Output::open(to)?.run(py, move |watch, out| answer::list(session.get(), &options, watch, out))
    }

    /// Which of all maps hold a key, or something like it.
    #[pyo3(signature = (*, key, limit, budget, show, to))]
    fn why_all(
        &self,
        py: Python<'_>,
        key: KeyArgs,
        limit: usize,
        budget: f64,
        show: ShowArgs,
        to: OutputArgs,
    ) -> PyResult<()> {
        let (session, key, show) = (self.look_with_threads(py)?, key.into(), show.into());
        let budget = Duration::try_from_secs_f64(budget).ok().filter(|budget| !budget.is_zero());
        Output::open(to)?
            .run(py, move |watch, out| answer::why_all(session.get(), &key, limit, budget, &show, watch, out))
    }

    /// Checks one map, or all that can be reached; returns whether something is wrong.
    #[pyo3(signature = (map, *, name, json, to))]
    fn check(&self, py: Python<'_>, map: Option<&PyMap>, name: String, json: bool, to: OutputArgs) -> PyResult<bool> {
        let (session, map) = (self.look_with_threads(py)?, map.map(|map| self.own(map)).transpose()?);
        Output::open(to)?.run(py, move |watch, out| {
            let session = session.get();
            match map {
                Some(map) => answer::check(session, &[(name, map)], json, watch, out),
                None => answer::check_all(session, json, watch, out),
            }
        })
    }

    /// The goroutines for a join, and a map to draw, with a key looked up in it if one is given.
    #[pyo3(signature = (*, map=None, name=String::new(), key=None, progress=None))]
    fn goroutine_evidence(
        &self,
        py: Python<'_>,
        map: Option<&PyMap>,
        name: String,
        key: Option<String>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<PyTarget> {
        let (session, map, watch) =
            (self.look_with_threads(py)?, map.map(|map| self.own(map)).transpose()?, PyWatch::new(progress));
        let key = key.map(KeyInput::Literal);
        Ok(PyTarget(guarded(py, || {
            let session = session.get();
            let view = map.map(|map| answer::view(session, map, &name, key.as_ref(), &watch)).transpose()?;
            answer::target(session, view, &watch)
        })?))
    }

    /// Looks up one key: (elem type, elem address or None, elem in Go syntax).
    #[pyo3(signature = (map, *, key))]
    fn lookup(&self, py: Python<'_>, map: &PyMap, key: KeyArgs) -> PyResult<(String, Option<u64>, String)> {
        let (session, map) = (self.look(), self.own(map)?);
        let key = key.into();
        let show = in_go_syntax(Options { depth: 1, ..Options::default() });
        let found = guarded(py, || answer::look_up(session.get(), map, &key, &show, &PyWatch::new(None)))?;
        Ok((found.elem_type, found.elem_address, found.text))
    }

    /// Writes all entries to `path`, then one line (or document) that says so to `write`.
    #[pyo3(signature = (map, *, path, show, to))]
    fn export(&self, py: Python<'_>, map: &PyMap, path: PathBuf, show: ShowArgs, to: OutputArgs) -> PyResult<()> {
        let show: Show = show.into();
        self.answer(py, map, to, |session, map, watch, out| {
            let map = session.open(map)?;
            let format = Format::of(&path)?;
            into_file(&path, show.json, out, |file| {
                answer::write_behind(file, |file| {
                    answer::export(&map, format, &show.values, &session.notes, watch, file)
                })
            })
        })
    }

    /// Writes the map to `path` for `diff`, then one line that says so.
    #[pyo3(signature = (map, *, path, json, to))]
    fn snapshot(&self, py: Python<'_>, map: &PyMap, path: PathBuf, json: bool, to: OutputArgs) -> PyResult<()> {
        self.answer(py, map, to, |session, map, watch, out| {
            let map = session.open(map)?;
            if path == Path::new("-") {
                return answer::snapshot(&map, &session.notes, watch, out).map(drop);
            }
            into_file(&path, json, out, |file| {
                answer::snapshot(&map, &session.notes, watch, file).map(|shown| Tally { shown, cut: 0 })
            })
        })
    }

    /// The map as one Go literal, for a pretty printer.
    #[pyo3(signature = (map, *, limit, depth, string_limit, elements_limit, write))]
    #[allow(clippy::too_many_arguments)]
    fn literal(
        &self,
        py: Python<'_>,
        map: &PyMap,
        limit: u64,
        depth: usize,
        string_limit: usize,
        elements_limit: usize,
        write: Py<PyAny>,
    ) -> PyResult<()> {
        let show = in_go_syntax(Options { depth, string_limit, elements_limit, ..Options::default() });
        let to = OutputArgs { write, output: None, progress: None };
        self.answer(py, map, to, |session, map, watch, out| {
            let mut text = Vec::new();
            answer::literal(&session.open(map)?, limit, &show, watch, &mut text)?;
            out.write_all(&text).map_err(|e| Error::of_output(&e, "the answer"))
        })
    }

    /// Shows goroutines.
    #[pyo3(signature = (*, state, func, on, label, group, stack, json, to))]
    #[allow(clippy::too_many_arguments)]
    fn goroutines(
        &self,
        py: Python<'_>,
        state: Option<String>,
        func: Option<String>,
        on: Option<u64>,
        label: Option<String>,
        group: bool,
        stack: bool,
        json: bool,
        to: OutputArgs,
    ) -> PyResult<()> {
        let session = self.look_with_threads(py)?;
        Output::open(to)?.run(py, move |watch, out| {
            let bad = |e: regex::Error| Error::Usage(format!("--func is not a regular expression: {e}"));
            let func = func.map(|func| regex::Regex::new(&func)).transpose().map_err(bad)?;
            let label = label.map(|label| answer::parse_label(&label)).transpose()?;
            let options = GoroutineOptions { state, func, on, label, group, stack, json };
            answer::goroutines(session.get(), &options, watch, out)
        })
    }

    /// Shows one goroutine with its stack.
    #[pyo3(signature = (goid, *, json, to))]
    fn goroutine(&self, py: Python<'_>, goid: u64, json: bool, to: OutputArgs) -> PyResult<()> {
        let session = self.look_with_threads(py)?;
        Output::open(to)?.run(py, move |watch, out| answer::goroutine(session.get(), goid, json, watch, out))
    }

    /// Shows the variables of a goroutine's frame, or of all its frames.
    #[pyo3(signature = (goid, frame, *, show, to))]
    fn locals(&self, py: Python<'_>, goid: u64, frame: Option<usize>, show: ShowArgs, to: OutputArgs) -> PyResult<()> {
        let (session, at, show) = (self.look_with_threads(py)?, InFrame { goid, frame }, Show::from(show));
        Output::open(to)?.run(py, move |watch, out| answer::locals(session.get(), at, &show, watch, out))
    }

    /// Shows clusters of stuck goroutines; returns whether there is one to fail on.
    #[pyo3(signature = (*, all, graph, fail_on, json, to))]
    fn leaks(
        &self,
        py: Python<'_>,
        all: bool,
        graph: Option<String>,
        fail_on: String,
        json: bool,
        to: OutputArgs,
    ) -> PyResult<bool> {
        let session = self.look_with_threads(py)?;
        Output::open(to)?.run(py, move |watch, out| {
            let graph = graph.map(|name| answer::Language::of(&name)).transpose()?;
            let options = LeaksOptions { all, json, graph, fail_on: answer::fail_on(&fail_on)? };
            answer::leaks(session.get(), options, watch, out)
        })
    }

    /// Explains one goroutine.
    #[pyo3(signature = (goid, *, graph, json, to))]
    fn explain(&self, py: Python<'_>, goid: u64, graph: Option<String>, json: bool, to: OutputArgs) -> PyResult<()> {
        let session = self.look_with_threads(py)?;
        Output::open(to)?.run(py, move |watch, out| {
            let graph = graph.map(|name| answer::Language::of(&name)).transpose()?;
            answer::explain(session.get(), goid, json, graph, watch, out)
        })
    }
}

/// A session borrowed by the one thread that made it, while Python's lock is free.
struct Shared<'s>(Ref<'s, Session>);

// SAFETY: `guarded` runs its closure on the calling thread; nothing is sent anywhere, or shared with another thread.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl Shared<'_> {
    fn get(&self) -> &Session {
        &self.0
    }
}

impl PySession {
    fn answer<T: Send>(
        &self,
        py: Python<'_>,
        map: &PyMap,
        to: OutputArgs,
        answer: impl FnOnce(&Session, MapRef, &dyn Watch, &mut dyn Write) -> crate::Result<T> + Send,
    ) -> PyResult<T> {
        let (session, map) = (self.look(), self.own(map)?);
        Output::open(to)?.run(py, move |watch, out| answer(session.get(), map, watch, out))
    }
}

fn in_go_syntax(values: Options) -> Show {
    Show { json: false, colour: false, values }
}

/// Clusters of goroutine profiles and tracebacks, and what grows over several.
#[pyfunction]
#[pyo3(signature = (files, *, json, to))]
fn profile(py: Python<'_>, files: Vec<PathBuf>, json: bool, to: OutputArgs) -> PyResult<()> {
    Output::open(to)?.run(py, move |watch, out| {
        let opened = files.iter().map(|path| EvidenceFile::open(path, watch));
        let files = opened.collect::<crate::Result<Vec<_>>>()?;
        let named: Vec<(&str, &[u8])> = files.iter().map(|file| (file.name.as_str(), file.bytes())).collect();
        let mut text = profile_report(&named, json).map_err(|e| Error::Evidence(e.to_string()))?;
        if json {
            text.push('\n');
        }
        write_all(out, &text)
    })
}

/// A command begins: `inputs` are files that the debugger reads, which no answer is to be written over; it may take
/// `memory_limit` MiB of memory, 0 for any.
#[pyfunction]
fn begin(inputs: Vec<PathBuf>, memory_limit: u64) {
    files::begin(&inputs);
    budget::set_limit(memory_limit);
}

/// How two maps differ; each a snapshot's file, or a map of the session.
#[pyfunction]
#[pyo3(signature = (session, *, a, map_a, b, map_b, limit, json, to))]
#[allow(clippy::too_many_arguments)]
fn diff(
    py: Python<'_>,
    session: Option<&PySession>,
    a: PathBuf,
    map_a: Option<&PyMap>,
    b: PathBuf,
    map_b: Option<&PyMap>,
    limit: usize,
    json: bool,
    to: OutputArgs,
) -> PyResult<()> {
    let own = |map: Option<&PyMap>| session.zip(map).map(|(session, map)| session.own(map)).transpose();
    let (map_a, map_b) = (own(map_a)?, own(map_b)?);
    let session = session.map(PySession::look);
    Output::open(to)?.run(py, move |watch, out| {
        let session = session.as_ref().map(Shared::get);
        let side = |path: &Path, map: Option<MapRef>| match (session, map) {
            (Some(session), Some(map)) => answer::Snapshot::of(&session.open(map)?, &session.notes, watch),
            _ => answer::Snapshot::read(path, watch),
        };
        answer::diff(&side(&a, map_a)?, &side(&b, map_b)?, limit, json, out)
    })
}

/// One goroutine's states over the time of an execution trace.
#[pyfunction]
#[pyo3(signature = (goid, *, trace, width, colour, json, to))]
#[allow(clippy::too_many_arguments)]
fn timeline(
    py: Python<'_>,
    goid: u64,
    trace: PathBuf,
    width: usize,
    colour: bool,
    json: bool,
    to: OutputArgs,
) -> PyResult<()> {
    let watch = PyWatch::new(None);
    let options = trace::Options::focused(goid);
    let read = guarded(py, || trace::parse_file(&trace, &options, &watch).map_err(|e| named(&trace, e)))?;
    Output::open(to)?.run(py, move |_, out| {
        let unknown = || Error::Evidence(trace::timeline(&read, goid, width, false).trim_end().to_string());
        match json {
            true => {
                let document = trace::timeline_json(&read, goid).ok_or_else(unknown)?;
                write_all(out, &format!("{document}\n"))
            }
            false if read.goroutines.contains_key(&goid) => {
                write_all(out, &trace::timeline(&read, goid, width, colour))
            }
            false => Err(unknown()),
        }
    })
}

/// Profiles and a trace joined by goroutine, in the form asked for; returns whether a leak is suspected.
#[pyfunction]
#[pyo3(signature = (*, profiles, trace, target, force, form, colour, to))]
#[allow(clippy::too_many_arguments)]
fn evidence(
    py: Python<'_>,
    profiles: Vec<PathBuf>,
    trace: Option<PathBuf>,
    target: Option<&PyTarget>,
    force: bool,
    form: &str,
    colour: bool,
    to: OutputArgs,
) -> PyResult<bool> {
    let form = Form::of(form)?;
    let watch = PyWatch::new(None);
    let target = target.map(|target| target.0.clone());
    let found = guarded(py, || joined(&profiles, trace.as_deref(), target, force, &watch))?;
    Output::open(to)?.run(py, move |_, out| {
        report::write(&found, form, colour, out)?;
        Ok(found.is_suspicious())
    })
}

/// Reads the files and joins them, with a core or process where there is one.
fn joined(
    profiles: &[PathBuf],
    trace: Option<&Path>,
    target: Option<Target>,
    force: bool,
    watch: &dyn Watch,
) -> crate::Result<join::Evidence> {
    let files = profiles.iter().map(|path| EvidenceFile::open(path, watch)).collect::<crate::Result<Vec<_>>>()?;
    let read = |path: &Path| trace::parse_file(path, &trace::Options::default(), watch).map_err(|e| named(path, e));
    let read = trace.map(read).transpose()?;
    let name = trace.map(|path| path.display().to_string());
    join(&files, name.as_deref().zip(read.as_ref()), target, force)
}

fn named(path: &Path, error: trace::TraceError) -> Error {
    match error {
        trace::TraceError::Interrupted => Error::Interrupted,
        error @ trace::TraceError::File { .. } => Error::Evidence(error.to_string()),
        error => Error::Evidence(format!("{}: {error}", path.display())),
    }
}

fn write_all(out: &mut dyn Write, text: &str) -> crate::Result<()> {
    out.write_all(text.as_bytes()).map_err(|e| Error::of_output(&e, "the answer"))
}

/// The goroutines of a core or process, for a join.
#[pyclass(name = "Target", frozen)]
struct PyTarget(Target);

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // A panic is reported as an error; its default message would land in the user's session.
    std::panic::set_hook(Box::new(|_| {}));
    module.add_class::<PySession>()?;
    module.add_class::<PyMap>()?;
    module.add_class::<PyTarget>()?;
    module.add_class::<watch::PyWatching>()?;
    #[cfg(target_os = "linux")]
    {
        module.add_class::<watch::PyProgram>()?;
        module.add_function(wrap_pyfunction!(watch::kernel_probes, module)?)?;
    }
    module.add_function(wrap_pyfunction!(begin, module)?)?;
    module.add_function(wrap_pyfunction!(profile, module)?)?;
    module.add_function(wrap_pyfunction!(diff, module)?)?;
    module.add_function(wrap_pyfunction!(timeline, module)?)?;
    module.add_function(wrap_pyfunction!(evidence, module)?)?;
    audit::add_to(module)?;
    module.add("FOLLOW_LIMIT", FOLLOW_LIMIT)?;
    module.add("MEMORY_LIMIT", budget::default_limit())?;
    module.add("STOP_TIMEOUT", STOP_WITHIN.as_secs_f64())?;
    module.add("OPERATIONS", answer::watch::FAMILIES)?;
    module.add("Error", module.py().get_type::<PyError>())?;
    Ok(())
}
