//! A file mapped into memory, that may be cut short by somebody while it is.
//!
//! The kernel then answers an access by SIGBUS, which would end the debugger. A word at random costs 44 ns in a mapping,
//! 1,490 by `pread`, and 2,470 by `process_vm_readv` from ourselves; a page 0.4, 2.0 and more microseconds (Linux 6.18, in the page
//! cache). So files stay mapped, and healthy ones pay nothing. While a command is at work, a handler puts a page of zeros
//! where the file has no longer one, notes which file it was, and the command ends with a sentence instead of its answer.
//! A fault anywhere else goes to whoever handled it before; between commands nothing of ours is installed. (systemd's
//! journal reader does the same: src/basic/sigbus.c.)

use super::{open, Id, Stamp};
use crate::{Error, Result};
use memmap2::Mmap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::Mutex;

/// A regular file, mapped read-only.
#[derive(Debug)]
pub struct Mapped {
    /// `None` for an empty file, which cannot be mapped.
    map: Option<Mmap>,
    entry: &'static Entry,
    stamp: Stamp,
}

impl Mapped {
    /// Maps the file at `path`.
    pub fn open(path: &Path) -> Result<Mapped> {
        let (file, stamp) = open(path)?;
        // SAFETY: the mapping is read-only, and private; we only ever read it as bytes, and a file that is cut short is
        // caught. What somebody writes into it meanwhile may be read: bytes are not trusted.
        let map = || unsafe { Mmap::map(&file) }.map_err(|error| Error::file(path, error));
        let map = if stamp.size == 0 { None } else { Some(map()?) };
        let entry = Entry::claim(map.as_deref().unwrap_or_default(), &stamp);
        Ok(Mapped { map, entry, stamp })
    }

    /// The file as it was when it was opened.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // Before the addresses are somebody else's.
        self.entry.release();
    }
}

/// A file that is mapped now, in a list that a signal handler can walk: entries are never removed, but used again.
#[derive(Debug)]
struct Entry {
    start: AtomicUsize,
    len: AtomicUsize,
    taken: AtomicBool,
    /// Whether the file was found to be shorter than it was.
    cut: AtomicBool,
    device: AtomicU64,
    inode: AtomicU64,
    path: Mutex<PathBuf>,
    next: AtomicPtr<Entry>,
}

static FIRST: AtomicPtr<Entry> = AtomicPtr::new(std::ptr::null_mut());

impl Entry {
    fn all() -> impl Iterator<Item = &'static Entry> {
        let mut next = FIRST.load(Ordering::Acquire);
        std::iter::from_fn(move || {
            // SAFETY: entries are leaked, so that each pointer in the list stays good.
            let entry = unsafe { next.as_ref() }?;
            next = entry.next.load(Ordering::Acquire);
            Some(entry)
        })
    }

    fn claim(bytes: &[u8], stamp: &Stamp) -> &'static Entry {
        let free =
            |entry: &&Entry| entry.taken.compare_exchange(false, true, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        let entry = Entry::all().find(free).unwrap_or_else(|| {
            let entry: &'static Entry = Box::leak(Box::new(Entry {
                start: AtomicUsize::new(0),
                len: AtomicUsize::new(0),
                taken: AtomicBool::new(true),
                cut: AtomicBool::new(false),
                device: AtomicU64::new(0),
                inode: AtomicU64::new(0),
                path: Mutex::default(),
                next: AtomicPtr::default(),
            }));
            let own = std::ptr::from_ref(entry).cast_mut();
            let link = |first| {
                entry.next.store(first, Ordering::Release);
                Some(own)
            };
            let _ = FIRST.fetch_update(Ordering::AcqRel, Ordering::Acquire, link);
            entry
        });
        entry.device.store(stamp.id.device, Ordering::Relaxed);
        entry.inode.store(stamp.id.inode, Ordering::Relaxed);
        entry.path.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone_from(&stamp.path);
        entry.cut.store(false, Ordering::Relaxed);
        entry.start.store(bytes.as_ptr() as usize, Ordering::Relaxed);
        entry.len.store(bytes.len(), Ordering::Release);
        entry
    }

    fn release(&self) {
        self.len.store(0, Ordering::Release);
        self.inode.store(0, Ordering::Relaxed);
        self.taken.store(false, Ordering::Release);
    }

    fn path(&self) -> PathBuf {
        self.path.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// The name of a file that is mapped now.
pub fn living(id: Id) -> Option<PathBuf> {
    let is = |entry: &&Entry| {
        entry.taken.load(Ordering::Acquire)
            && entry.inode.load(Ordering::Relaxed) == id.inode
            && entry.device.load(Ordering::Relaxed) == id.device
    };
    Entry::all().find(is).map(Entry::path)
}

/// Runs `work` with faults in mapped files caught; where there was one, the answer is that the file has changed.
pub fn catching<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let handler = Handler::install();
    let result = work();
    drop(handler);
    match Entry::all().find(|entry| entry.taken.load(Ordering::Acquire) && entry.cut.load(Ordering::Acquire)) {
        Some(entry) if !matches!(result, Err(Error::Interrupted)) => {
            Err(Error::file(entry.path(), super::Reason::Changed))
        }
        _ => result,
    }
}

/// How many commands are at work, and the handler that was there before.
static AT_WORK: Mutex<usize> = Mutex::new(0);
static mut BEFORE: std::mem::MaybeUninit<libc::sigaction> = std::mem::MaybeUninit::uninit();

struct Handler;

impl Handler {
    fn install() -> Handler {
        let mut at_work = AT_WORK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *at_work == 0 {
            // SAFETY: the lock makes us the only one to write BEFORE; the handler reads it only after this.
            unsafe {
                let mut ours: libc::sigaction = std::mem::zeroed();
                ours.sa_sigaction = on_fault as *const () as usize;
                // On another stack where the thread has one, as Rust's own threads do.
                ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_NODEFER;
                libc::sigaction(libc::SIGBUS, &ours, (&raw mut BEFORE).cast());
            }
        }
        *at_work += 1;
        Handler
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let mut at_work = AT_WORK.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *at_work -= 1;
        if *at_work == 0 {
            // SAFETY: BEFORE was filled when the first command began. Whoever set a handler since keeps it.
            unsafe {
                let mut now: libc::sigaction = std::mem::zeroed();
                libc::sigaction(libc::SIGBUS, std::ptr::null(), &mut now);
                if now.sa_sigaction == on_fault as *const () as usize {
                    libc::sigaction(libc::SIGBUS, (&raw const BEFORE).cast(), std::ptr::null_mut());
                }
            }
        }
    }
}

/// Puts a page of zeros where a mapped file has none any more.
extern "C" fn on_fault(signal: libc::c_int, about: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands over a siginfo_t; of what is called here, all is a plain system call or an atomic.
    unsafe {
        let address = (*about).si_addr() as usize;
        let within = |entry: &&Entry| {
            let (start, len) = (entry.start.load(Ordering::Relaxed), entry.len.load(Ordering::Acquire));
            address.checked_sub(start).is_some_and(|at| at < len)
        };
        if let Some(entry) = Entry::all().find(within) {
            entry.cut.store(true, Ordering::Release);
            let page = libc::sysconf(libc::_SC_PAGESIZE).max(4096) as usize;
            let start = (address & !(page - 1)) as *mut libc::c_void;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            if libc::mmap(start, page, libc::PROT_READ, flags, -1, 0) != libc::MAP_FAILED {
                return;
            }
        }
        // Not ours: as if we had not been here.
        let before = (&raw const BEFORE).cast::<libc::sigaction>();
        let handler = (*before).sa_sigaction;
        if handler == libc::SIG_DFL || handler == libc::SIG_IGN {
            // The access is made again, and ends the process as it would have.
            libc::sigaction(signal, before, std::ptr::null_mut());
        } else if (*before).sa_flags & libc::SA_SIGINFO != 0 {
            let call: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                std::mem::transmute(handler);
            call(signal, about, context);
        } else {
            let call: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
            call(signal);
        }
    }
}
