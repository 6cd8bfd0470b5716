//! Stops a process's threads by ptrace, within a time. A thread of ours does it and nothing else: when that ends, whatever
//! the reason, the kernel gives back what is still held (`exit_ptrace`, kernel/ptrace.c).

use super::rights;
use super::Thread;
use crate::error::Watch;
use crate::{Error, Result};
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{channel, Receiver, RecvTimeoutError, Sender};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a process's threads may take to stop, unless the user says otherwise.
pub const STOP_WITHIN: Duration = Duration::from_secs(2);
/// How often Ctrl-C is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long threads are let run before they are asked again whether they have stopped.
const REST: Duration = Duration::from_micros(200);
/// How long the thread that holds the others may take to end, before it is left alone.
const GRACE: Duration = Duration::from_secs(1);

/// Every thread of a process, stopped until this is dropped.
pub struct Stopped {
    /// The threads with their registers, by id.
    pub threads: Vec<Thread>,
    _holder: Holder,
}

/// Why threads were not stopped.
enum Refusal {
    /// One did not stop in time.
    Late(i32),
    /// One may not be traced.
    Denied(i32, io::Error),
    /// Its threads cannot be listed.
    Unlisted(Error),
    /// The user pressed Ctrl-C.
    Cancelled,
}

impl Stopped {
    /// Stops all threads of `pid` within `within`, or none.
    pub fn all(pid: i32, within: Duration, watch: &dyn Watch) -> Result<Stopped> {
        let (say, heard) = channel();
        let cancel = Arc::new(AtomicBool::new(false));
        let deadline = Instant::now() + within;
        let holder = Holder::start(pid, deadline, cancel.clone(), say)?;
        let mut interrupted = false;
        let outcome = loop {
            match heard.recv_timeout(LOOK_EVERY) {
                Ok(outcome) => break outcome,
                Err(RecvTimeoutError::Disconnected) => break Err(Refusal::Cancelled),
                Err(RecvTimeoutError::Timeout) if Instant::now() > deadline + GRACE => break Err(Refusal::Late(pid)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if !interrupted && watch.tick(0, 0).is_err() {
                interrupted = true;
                cancel.store(true, Ordering::Relaxed);
            }
        };
        match outcome {
            _ if interrupted => Err(Error::Interrupted),
            Ok(threads) => Ok(Stopped { threads, _holder: holder }),
            Err(Refusal::Cancelled) => Err(Error::Interrupted),
            Err(Refusal::Unlisted(error)) => Err(error),
            Err(Refusal::Denied(tid, error)) => Err(Error::Binary(format!(
                "process {pid} cannot be stopped: {}",
                rights::why_denied(pid, tid, &error, rights::Act::Stop)
            ))),
            Err(Refusal::Late(tid)) => Err(Error::Binary(format!(
                "thread {tid} of process {pid} did not stop within {} s: {}; all its threads run on. --stop-timeout \
                 SECONDS waits longer, --no-stop reads it running",
                within.as_secs_f64(),
                rights::state_of(pid, tid)
            ))),
        }
    }
}

/// The thread that holds the others.
struct Holder {
    release: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Holder {
    fn start(
        pid: i32,
        deadline: Instant,
        cancel: Arc<AtomicBool>,
        say: Sender<std::result::Result<Vec<Thread>, Refusal>>,
    ) -> Result<Holder> {
        let (release, released) = channel();
        let hold = move || hold(pid, deadline, &cancel, &say, &released);
        let thread = std::thread::Builder::new().name("mapscope-stop".into()).spawn(hold);
        let thread = thread.map_err(|error| Error::Binary(format!("no thread could be started ({error})")))?;
        Ok(Holder { release: Some(release), thread: Some(thread) })
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.release = None;
        let Some(thread) = self.thread.take() else { return };
        let by = Instant::now() + GRACE;
        // A system call on a thread in the middle of execve may wait; nobody else waits for that.
        while !thread.is_finished() && Instant::now() < by {
            std::thread::sleep(REST);
        }
        if thread.is_finished() {
            let _ = thread.join();
        }
    }
}

/// Stops the threads, tells so, and lets them go when it is told or when something fails.
fn hold(
    pid: i32,
    deadline: Instant,
    cancel: &AtomicBool,
    say: &Sender<std::result::Result<Vec<Thread>, Refusal>>,
    released: &Receiver<()>,
) {
    let mut held = Vec::new();
    let outcome = seize_all(pid, deadline, cancel, &mut held).map(|()| {
        let mut threads: Vec<Thread> = held.iter().filter_map(|thread| registers(thread.tid)).collect();
        threads.sort_unstable_by_key(|thread| thread.tid);
        threads
    });
    if outcome.is_err() {
        // Before it is told: whoever hears of a failure finds the threads running.
        release(&held);
        let _ = say.send(outcome);
        return;
    }
    if say.send(outcome).is_ok() {
        // Nothing is ever sent: the other end goes.
        let _ = released.recv();
    }
    release(&held);
}

/// A thread that has stopped.
struct Held {
    tid: i32,
    /// The signal that it was about to get: it gets it when it goes on.
    signal: i32,
}

/// Seizes every thread and asks it to stop, again and again until all have and no new one appears.
fn seize_all(
    pid: i32,
    deadline: Instant,
    cancel: &AtomicBool,
    held: &mut Vec<Held>,
) -> std::result::Result<(), Refusal> {
    let mut known = HashSet::new();
    loop {
        let mut asked = Vec::new();
        for tid in tasks(pid).map_err(Refusal::Unlisted)? {
            if !known.insert(tid) {
                continue;
            }
            match seize(tid) {
                Ok(()) => asked.push(tid),
                // A thread may end between being listed and being seized; one that has ended but is still listed is denied.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) || rights::has_ended(pid, tid) => {}
                Err(error) => return Err(Refusal::Denied(tid, error)),
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(Refusal::Cancelled);
            }
        }
        if asked.is_empty() {
            return Ok(());
        }
        loop {
            let before = asked.len();
            asked.retain(|&tid| match stop_of(tid) {
                Stop::Yet => true,
                Stop::Ended => false,
                Stop::Held(signal) => {
                    held.push(Held { tid, signal });
                    false
                }
            });
            let Some(&late) = asked.first() else { break };
            if cancel.load(Ordering::Relaxed) {
                return Err(Refusal::Cancelled);
            }
            if Instant::now() > deadline {
                return Err(Refusal::Late(late));
            }
            if asked.len() == before {
                std::thread::sleep(REST);
            }
        }
    }
}

fn tasks(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&path).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::Binary(format!("there is no process {pid}")),
        _ => Error::file(&path, e),
    })?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Makes a thread ours and asks it to stop, without waiting for it.
fn seize(tid: i32) -> io::Result<()> {
    let null = std::ptr::null_mut::<libc::c_void>();
    for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
        // SAFETY: these requests take no data.
        if unsafe { libc::ptrace(request, tid, null, null) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

enum Stop {
    /// Not yet.
    Yet,
    /// The thread is gone.
    Ended,
    /// It stands, with a signal on its way to it or 0.
    Held(i32),
}

/// Whether a seized thread has stopped, and how.
fn stop_of(tid: i32) -> Stop {
    let mut status = 0;
    // SAFETY: one status of ours; WNOHANG does not wait.
    match unsafe { libc::waitpid(tid, &mut status, libc::__WALL | libc::WNOHANG) } {
        0 => Stop::Yet,
        -1 if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => Stop::Yet,
        -1 => Stop::Ended,
        _ if !libc::WIFSTOPPED(status) => Stop::Ended,
        // Our own interrupt, or a stop of the whole group, are events; a signal on its way is none.
        _ if status >> 16 != 0 => Stop::Held(0),
        _ => Stop::Held(libc::WSTOPSIG(status)),
    }
}

fn registers(tid: i32) -> Option<Thread> {
    let mut words = [0u64; 64];
    let mut iov = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: std::mem::size_of_val(&words) };
    let set = libc::NT_PRSTATUS as usize as *mut libc::c_void;
    // SAFETY: GETREGSET writes at most iov_len bytes into `words`, and notes how many.
    let failed = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid, set, &mut iov as *mut libc::iovec) } != 0;
    (!failed).then(|| Thread { tid: tid as u64, registers: words[..iov.iov_len / 8].to_vec() })
}

/// Lets threads go on as if nothing had been.
fn release(held: &[Held]) {
    for thread in held {
        let signal = thread.signal as usize as *mut libc::c_void;
        // SAFETY: detaching takes a signal's number; a thread that is gone gives ESRCH, which is fine.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, thread.tid, std::ptr::null_mut::<libc::c_void>(), signal) };
    }
}
