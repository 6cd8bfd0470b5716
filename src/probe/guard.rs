//! Keeps a program alive whose debugger is killed while its breakpoints stand in the program.
//!
//! A debugger that dies lets all threads go at once: one that has just hit a breakpoint still gets its SIGTRAP, and the
//! others run into breakpoints that nobody handles any more. So the program is put into a group stop, which the debugger
//! overrides thread by thread as it continues them; when it dies, the kernel reinstates the stop before any thread runs
//! another instruction (`__ptrace_unlink`, kernel/ptrace.c, Linux 3.1 to 6.18). A process of our own, which sees the
//! debugger's end of a pipe close, then takes the breakpoints out, brings each thread back to the instruction
//! that it had been about to run, and continues the program.

use super::tracefs::usage;
use crate::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long the debugger may take to be gone, once its files are closed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Threads whose last breakpoint is remembered; two that share a place only matter in the middle of a step.
const REMEMBERED: usize = 4096;
/// Stops of a thread that are looked at before it is taken as it is.
const MOST_STOPS: usize = 8;
/// Where gdb steps over a breakpoint's instruction: copies of it, 16 bytes each, lie 2 bytes behind the entry point
/// (`linux_displaced_step_location` and `displaced_step_buffers`, gdb 11 to 17).
const STEPS_AT: u64 = 2;
const STEP_BYTES: u64 = 16;
const STEPS: u64 = 4;

/// What the kernel lays on the stack for a signal handler: `struct rt_sigframe`, arch/x86/include/asm/sigframe.h.
const FRAME_CONTEXT: u64 = 8;
const FRAME_RBP: u64 = FRAME_CONTEXT + 40 + 80;
const FRAME_RSP: u64 = FRAME_CONTEXT + 40 + 120;
const FRAME_RIP: u64 = FRAME_CONTEXT + 40 + 128;
const FRAME_INFO: u64 = FRAME_CONTEXT + 304;
/// `si_code` of a breakpoint instruction's SIGTRAP; a step's has another.
const SI_KERNEL: u32 = 0x80;
/// The instruction that a function without a stack check begins with.
const PUSH_RBP: u8 = 0x55;

/// A guarded program; the guard ends when this is dropped.
pub struct Guard {
    program: i32,
    guardian: i32,
    pipe: OwnedFd,
    hits: &'static [AtomicU64],
}

/// What the guardian knows of the program.
struct Watched {
    program: i32,
    memory: File,
    /// Addresses of the breakpoints.
    points: Vec<u64>,
    entry: u64,
    /// Bytes that the debugger replaces, as they were.
    saved: Vec<(u64, Vec<u8>)>,
    hits: &'static [AtomicU64],
}

impl Guard {
    /// Guards process `program`, which stands still without breakpoints, against breakpoints at `points`.
    ///
    /// Fails when its memory cannot be written, and for a program with a controlling terminal: its shell would take
    /// the stop for Ctrl-Z.
    pub fn start(program: u32, points: Vec<u64>) -> Result<Guard> {
        let stat_path = format!("/proc/{program}/stat");
        let stat = fs::read_to_string(&stat_path).map_err(|e| Error::file(&stat_path, e))?;
        let terminal = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(4)?.parse::<i32>().ok());
        if terminal != Some(0) {
            return Err(usage("the program has a terminal, whose shell would take it for suspended"));
        }
        let entry = entry_point(program).ok_or_else(|| usage("the program's entry point is not known"))?;
        let path = format!("/proc/{program}/mem");
        let memory = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| Error::file(&path, e))?;
        let mut saved = Vec::new();
        let steps = (entry, (STEPS_AT + STEPS * STEP_BYTES) as usize);
        for (address, length) in points.iter().map(|point| (*point, 1)).chain([steps]) {
            let mut bytes = vec![0; length];
            memory.read_exact_at(&mut bytes, address).map_err(|e| Error::file(&path, e))?;
            saved.push((address, bytes));
        }
        let hits = shared_words(REMEMBERED)?;
        let watched = Watched { program: program as i32, memory, points, entry, saved, hits };
        let mut ends = [0; 2];
        // SAFETY: the kernel fills the two descriptors in.
        if unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(failed("make a pipe"));
        }
        // SAFETY: both are new descriptors that nobody else owns.
        let [reader, writer] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        // SAFETY: the child never returns to the caller, and runs only the code below: no lock of another thread's is needed but malloc's,
        // which fork keeps whole.
        match unsafe { libc::fork() } {
            -1 => Err(failed("start a process")),
            0 => watched.guard(reader.as_raw_fd()),
            guardian => Ok(Guard { program: program as i32, guardian, pipe: writer, hits }),
        }
    }

    /// Puts the program, all of whose threads stand still under the debugger whose thread this is, into the group stop. None runs
    /// an instruction for that, and the debugger sees no change.
    pub fn arm(&self) -> Result<()> {
        // The first to get the signal marks all others; each then stops where it is let go.
        for (n, thread) in threads(self.program).into_iter().enumerate() {
            if !stop_in_group(thread, if n == 0 { libc::SIGSTOP } else { 0 }) {
                self.disarm();
                return Err(usage(format!("thread {thread} cannot be put into a group stop")));
            }
        }
        Ok(())
    }

    /// Notes that `thread` stands at `address`: a breakpoint.
    pub fn hit(&self, thread: u32, address: u64) {
        if let Some(last) = self.hits.get(thread as usize % REMEMBERED) {
            last.store(address, Ordering::Relaxed);
        }
    }

    /// Ends the group stop, when the breakpoints are out. The debugger has to pass on the SIGCONT.
    pub fn disarm(&self) {
        // SIGCONT takes back every SIGSTOP, and the debugger would wait for ever for one of its own that is still on its way.
        let stopping: Vec<i32> =
            threads(self.program).into_iter().filter(|thread| is_pending(*thread, libc::SIGSTOP)).collect();
        // SAFETY: plain system calls.
        unsafe {
            libc::kill(self.program, libc::SIGCONT);
            for thread in stopping {
                libc::syscall(libc::SYS_tgkill, self.program, thread, libc::SIGSTOP);
            }
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: one byte of a live array is written to our own pipe, and a child of our own is waited for; the
        // debugger may have done that already.
        unsafe {
            libc::write(self.pipe.as_raw_fd(), [1u8].as_ptr().cast(), 1);
            libc::waitpid(self.guardian, std::ptr::null_mut(), libc::__WALL);
            libc::munmap(self.hits.as_ptr().cast_mut().cast(), std::mem::size_of_val(self.hits));
        }
    }
}

impl Watched {
    /// The guardian's life: waits for the debugger's word, or for its death.
    fn guard(&self, pipe: i32) -> ! {
        // SAFETY: plain system calls on our own process; the descriptors closed are copies of the debugger's.
        unsafe {
            libc::setsid();
            libc::prctl(libc::PR_SET_NAME, c"mapscope-guard".as_ptr());
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
                libc::signal(signal, libc::SIG_IGN);
            }
            libc::signal(libc::SIGCHLD, libc::SIG_DFL);
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            let mut kept = [pipe as u32, self.memory.as_raw_fd() as u32];
            kept.sort_unstable();
            let mut from = 0;
            for fd in kept {
                if fd > from {
                    libc::syscall(libc::SYS_close_range, from, fd - 1, 0);
                }
                from = fd + 1;
            }
            libc::syscall(libc::SYS_close_range, from, u32::MAX, 0);
            let mut word = 0u8;
            let got = loop {
                let got = libc::read(pipe, (&raw mut word).cast(), 1);
                if got >= 0 || *libc::__errno_location() != libc::EINTR {
                    break got;
                }
            };
            if got == 0 {
                self.rescue();
            }
            libc::_exit(0)
        }
    }

    fn rescue(&self) {
        // The stop is in force already, unless somebody has ended it.
        // SAFETY: a plain system call.
        unsafe { libc::kill(self.program, libc::SIGSTOP) };
        let deadline = Instant::now() + PATIENCE;
        let mut held: Vec<(i32, Signal)> = Vec::new();
        let mut gone = Vec::new();
        loop {
            let is_new = |thread: &i32| !gone.contains(thread) && held.iter().all(|(known, _)| known != thread);
            let new: Vec<i32> = threads(self.program).into_iter().filter(is_new).collect();
            if new.is_empty() {
                break;
            }
            for thread in new {
                match hold(thread, deadline) {
                    Some(signal) => held.push((thread, signal)),
                    None => gone.push(thread),
                }
            }
        }
        for (address, bytes) in &self.saved {
            let mut now = vec![0; bytes.len()];
            if self.memory.read_exact_at(&mut now, *address).is_ok() && now != *bytes {
                // A program that runs another executable by now has nothing of ours in it.
                let _ = self.memory.write_all_at(bytes, *address);
            }
        }
        for (thread, signal) in held {
            let left = self.bring_back(thread, signal);
            // SAFETY: the thread is stopped and traced by us.
            unsafe { libc::ptrace(libc::PTRACE_DETACH, thread, 0, left) };
        }
        // SAFETY: a plain system call.
        unsafe { libc::kill(self.program, libc::SIGCONT) };
    }

    /// Undoes what the debugger had begun with a thread; gives the signal that the thread still has to get.
    fn bring_back(&self, thread: i32, Signal { number: signal, code }: Signal) -> i32 {
        // SAFETY: all bytes zero are a valid value of this plain struct.
        let mut r: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one such struct.
        if unsafe { libc::ptrace(libc::PTRACE_GETREGS, thread, 0, &mut r) } != 0 {
            return signal;
        }
        let before = r.rip;
        if let Some((handled, code)) = self.at_handler(&r) {
            let is_trap = handled == libc::SIGTRAP;
            let [rbp, rsp, saved] = [FRAME_RBP, FRAME_RSP, FRAME_RIP].map(|offset| self.word(r.rsp + offset));
            let rip = self.place(thread, (saved, rsp, rbp), is_trap && code == SI_KERNEL);
            if rip != saved {
                let _ = self.memory.write_all_at(&rip.to_le_bytes(), r.rsp + FRAME_RIP);
            }
            if is_trap {
                // It is the debugger's: the handler, which has not begun, returns at once.
                r.rip = self.word(r.rsp);
                r.rsp += 8;
                r.orig_rax = u64::MAX;
            }
        } else {
            r.rip = self.place(thread, (r.rip, r.rsp, r.rbp), signal == libc::SIGTRAP && code == SI_KERNEL);
        }
        if r.rip != before {
            // SAFETY: the kernel reads one such struct.
            unsafe { libc::ptrace(libc::PTRACE_SETREGS, thread, 0, &r) };
        }
        if signal == libc::SIGTRAP || signal == libc::SIGSTOP {
            return 0;
        }
        signal
    }

    /// The signal, and its `si_code`, whose handler the thread is about to enter.
    fn at_handler(&self, r: &libc::user_regs_struct) -> Option<(i32, u32)> {
        let is_entry = r.rdx == r.rsp + FRAME_CONTEXT && r.rsi == r.rsp + FRAME_INFO && (1..=64).contains(&r.rdi);
        (is_entry && self.word(r.rsi) as u32 == r.rdi as u32).then(|| (r.rdi as i32, self.word(r.rsi + 8) as u32))
    }

    /// Where the thread has to go on that was found at `rip`; `trapped` says that a breakpoint's SIGTRAP is on its way.
    fn place(&self, thread: i32, (rip, rsp, rbp): (u64, u64, u64), trapped: bool) -> u64 {
        let point = rip.wrapping_sub(1);
        if self.points.contains(&point) {
            // One past a breakpoint: it was hit, or the debugger has stepped over the one byte of a function's `push rbp`.
            let first = self.saved.iter().find(|(address, _)| *address == point).map(|(_, bytes)| bytes[0]);
            let is_hit = trapped || first != Some(PUSH_RBP) || self.word(rsp) != rbp;
            return if is_hit { point } else { rip };
        }
        let into = rip.wrapping_sub(self.entry + STEPS_AT);
        let last = self.hits.get(thread as usize % REMEMBERED).map_or(0, |last| last.load(Ordering::Relaxed));
        if into < STEPS * STEP_BYTES && last != 0 {
            return last + into % STEP_BYTES;
        }
        rip
    }

    fn word(&self, address: u64) -> u64 {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, address).map_or(0, |()| u64::from_le_bytes(word))
    }
}

/// A signal that a thread was about to get; its number is 0 for none.
#[derive(Debug, Clone, Copy, Default)]
struct Signal {
    number: i32,
    code: u32,
}

/// Takes hold of a stopped thread, once the debugger is gone; gives the signal it was about to get.
fn hold(thread: i32, deadline: Instant) -> Option<Signal> {
    // SAFETY: plain system calls; `status` and `info` are live and plain.
    unsafe {
        while libc::ptrace(libc::PTRACE_SEIZE, thread, 0, 0) != 0 {
            if *libc::__errno_location() != libc::EPERM || Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        libc::ptrace(libc::PTRACE_INTERRUPT, thread, 0, 0);
        for _ in 0..MOST_STOPS {
            let mut status = 0;
            if libc::waitpid(thread, &mut status, libc::__WALL) != thread || !libc::WIFSTOPPED(status) {
                return None;
            }
            if status >> 16 != libc::PTRACE_EVENT_STOP {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                libc::ptrace(libc::PTRACE_GETSIGINFO, thread, 0, &mut info);
                return Some(Signal { number: libc::WSTOPSIG(status), code: info.si_code as u32 });
            }
            // A SIGTRAP is a breakpoint or a step that the debugger did not live to see.
            if !is_pending(thread, libc::SIGTRAP) {
                break;
            }
            // It stops again to get that signal, before it runs an instruction.
            libc::ptrace(libc::PTRACE_CONT, thread, 0, 0);
        }
        Some(Signal::default())
    }
}

/// Whether this signal has been sent to the thread itself, which did not get it yet.
fn is_pending(thread: i32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let pending = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigPnd:")?.trim(), 16).ok());
    pending.is_some_and(|pending| pending >> (signal - 1) & 1 == 1)
}

/// Lets a thread go that this thread traces, with `signal`, until it stands in the group stop.
fn stop_in_group(thread: i32, signal: i32) -> bool {
    // SAFETY: plain system calls; the kernel fills in `info` and `status`.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let stands_at_signal = libc::ptrace(libc::PTRACE_GETSIGINFO, thread, 0, &mut info) == 0 && info.si_code < 0x100;
        // Elsewhere the kernel would not take the signal, and the thread would run.
        if signal != 0 && !stands_at_signal {
            return false;
        }
        let mut status = 0;
        libc::ptrace(libc::PTRACE_CONT, thread, 0, signal) == 0
            && libc::waitpid(thread, &mut status, libc::__WALL) == thread
            && libc::WIFSTOPPED(status)
            && libc::WSTOPSIG(status) == libc::SIGSTOP
    }
}

fn threads(program: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{program}/task"));
    tasks.into_iter().flatten().flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

/// The run-time address that the program started at, from what the kernel told it.
fn entry_point(program: u32) -> Option<u64> {
    const AT_ENTRY: u64 = 9;
    let words = fs::read(format!("/proc/{program}/auxv")).ok()?;
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    words.chunks_exact(16).find(|pair| word(&pair[..8]) == AT_ENTRY).map(|pair| word(&pair[8..]))
}

/// Zeros that a child shares; given back in `Drop`.
fn shared_words(count: usize) -> Result<&'static [AtomicU64]> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: asks for new memory, which the kernel fills with zeros.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), count * 8, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(failed("get memory"));
    }
    // SAFETY: it is as long as asked for, aligned to a page, and stays until `Drop`.
    Ok(unsafe { std::slice::from_raw_parts(at.cast(), count) })
}

fn failed(what: &str) -> Error {
    usage(format!("cannot {what} ({})", std::io::Error::last_os_error()))
}
