//! A live process on this machine, read by `process_vm_readv` in big blocks.

use super::debugger::{BlockCache, BLOCK};
use super::{Memory, MemoryError, Place, Region, Thread};
use crate::{Error, Result};
use std::collections::HashSet;
use std::sync::Mutex;

/// The memory of a process; optionally holds its threads stopped while it lives.
pub struct ProcessMemory {
    pid: i32,
    cache: BlockCache,
    /// Its mappings, until something is forgotten.
    regions: Mutex<Option<Vec<Region>>>,
    stopped: Vec<i32>,
    threads: Vec<Thread>,
}

impl ProcessMemory {
    /// Memory of `pid`, which somebody else (a debugger) holds still, or nobody.
    pub fn open(pid: i32) -> Result<ProcessMemory> {
        let regions = Mutex::new(Some(regions_of(pid)?));
        let reader = move |address: u64, buf: &mut [u8]| read_process(pid, address, buf);
        let cache = BlockCache::new(Box::new(reader), Place::Process);
        let memory = ProcessMemory { pid, cache, regions, stopped: Vec::new(), threads: Vec::new() };
        memory.check_rights()?;
        Ok(memory)
    }

    /// Memory of `pid` with every thread stopped by ptrace until this is dropped. If we die, the kernel
    /// lets the threads go on. Must be dropped on the thread that made it.
    pub fn stop(pid: i32) -> Result<ProcessMemory> {
        let (stopped, threads) = seize_all(pid)?;
        match ProcessMemory::open(pid) {
            Ok(mut memory) => {
                (memory.stopped, memory.threads) = (stopped, threads);
                Ok(memory)
            }
            Err(error) => {
                release(&stopped);
                Err(error)
            }
        }
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The stopped threads with their registers; empty unless made by [`ProcessMemory::stop`].
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// One word is read at once, so that missing rights are told before any answer is half done.
    fn check_rights(&self) -> Result<()> {
        let regions = self.regions();
        let Some(first) = regions.first() else {
            return Err(Error::Binary(format!(
                "process {} has no memory; it has exited or is a kernel thread",
                self.pid
            )));
        };
        let mut byte = [0];
        if read_process(self.pid, first.start, &mut byte) {
            return Ok(());
        }
        Err(Error::Binary(format!(
            "process {} may not be read ({}); run as its user with CAP_SYS_PTRACE, or set kernel.yama.ptrace_scope to 0",
            self.pid,
            std::io::Error::last_os_error()
        )))
    }
}

impl Drop for ProcessMemory {
    fn drop(&mut self) {
        release(&self.stopped);
    }
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        self.cache.read(address, buf)
    }

    fn regions(&self) -> Vec<Region> {
        let mut regions = self.regions.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        regions.get_or_insert_with(|| regions_of(self.pid).unwrap_or_default()).clone()
    }

    fn place(&self) -> Place {
        Place::Process
    }

    fn any_thread(&self) -> bool {
        true
    }

    fn forget(&self) {
        self.cache.forget();
        *self.regions.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
    }

    fn expect(&self, addresses: &[u64]) {
        self.cache.expect(addresses, |starts, buf| gather(self.pid, starts, buf));
    }
}

/// Reads the blocks at `starts` into `buf`, one behind the other, by one call; returns how many came before one that could not.
fn gather(pid: i32, starts: &[u64], buf: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let block = |start: &u64| libc::iovec { iov_base: *start as *mut libc::c_void, iov_len: BLOCK as usize };
    let remote: Vec<libc::iovec> = starts.iter().take(buf.len() / BLOCK as usize).map(block).collect();
    // SAFETY: `local` describes our own buffer for the length of the call; the kernel checks `remote`.
    let read = unsafe { libc::process_vm_readv(pid, &local, 1, remote.as_ptr(), remote.len() as libc::c_ulong, 0) };
    usize::try_from(read).unwrap_or(0) / BLOCK as usize
}

/// Reads all of `buf` from the process; `false` when any byte is missing.
fn read_process(pid: i32, address: u64, buf: &mut [u8]) -> bool {
    let mut done = 0;
    while done < buf.len() {
        let Some(from) = address.checked_add(done as u64) else { return false };
        let rest = &mut buf[done..];
        let local = libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() };
        let remote = libc::iovec { iov_base: from as *mut libc::c_void, iov_len: rest.len() };
        // SAFETY: `local` describes our own buffer for the length of the call; the kernel checks `remote`.
        let read = unsafe { libc::process_vm_readv(pid, &local, 1, &remote, 1, 0) };
        if read <= 0 {
            return false;
        }
        done += read as usize;
    }
    true
}

/// The readable mappings in /proc/PID/maps.
fn regions_of(pid: i32) -> Result<Vec<Region>> {
    let path = format!("/proc/{pid}/maps");
    let text = std::fs::read_to_string(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::Binary(format!("there is no process {pid}")),
        _ => Error::file(&path, e),
    })?;
    Ok(text.lines().filter_map(region).collect())
}

/// One line of /proc/PID/maps: `start-end rwxp offset dev inode path`.
fn region(line: &str) -> Option<Region> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?.as_bytes();
    let file = words.nth(3).filter(|path| path.starts_with('/')).map(str::to_string);
    // [vvar] and [vsyscall] are listed readable but cannot be read from outside.
    let special = line.ends_with("[vvar]") || line.ends_with("[vvar_vclock]") || line.ends_with("[vsyscall]");
    (rights.first() == Some(&b'r') && !special).then_some(Region {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        writable: rights.get(1) == Some(&b'w'),
        executable: rights.get(2) == Some(&b'x'),
        file,
    })
}

/// Seizes and stops every thread, again and again until no new one appears.
fn seize_all(pid: i32) -> Result<(Vec<i32>, Vec<Thread>)> {
    let mut stopped = Vec::new();
    let mut threads = Vec::new();
    let mut known = HashSet::new();
    loop {
        let before = known.len();
        for tid in tasks(pid)? {
            if !known.insert(tid) {
                continue;
            }
            match seize(tid) {
                Ok(thread) => {
                    stopped.push(tid);
                    threads.extend(thread);
                }
                // A thread may end between being listed and being seized.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                Err(e) => {
                    release(&stopped);
                    return Err(Error::Binary(format!(
                        "process {pid} cannot be stopped ({e}); is a debugger attached to it? Use --no-stop to read it running"
                    )));
                }
            }
        }
        if known.len() == before {
            return Ok((stopped, threads));
        }
    }
}

fn tasks(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let entries = std::fs::read_dir(&path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::Binary(format!("there is no process {pid}")),
        _ => Error::file(&path, e),
    })?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Stops one thread and reads its registers.
fn seize(tid: i32) -> std::io::Result<Option<Thread>> {
    let null = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: ptrace with null data for SEIZE/INTERRUPT; GETREGSET writes at most iov_len bytes into `words`.
    unsafe {
        if libc::ptrace(libc::PTRACE_SEIZE, tid, null, null) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        if libc::ptrace(libc::PTRACE_INTERRUPT, tid, null, null) != 0 {
            return Err(std::io::Error::last_os_error());
        }
        let mut status = 0;
        while libc::waitpid(tid, &mut status, libc::__WALL) < 0 {
            let error = std::io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINTR) {
                return Err(error);
            }
        }
        let mut words = [0u64; 64];
        let mut iov = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: std::mem::size_of_val(&words) };
        let set = libc::NT_PRSTATUS as usize as *mut libc::c_void;
        if libc::ptrace(libc::PTRACE_GETREGSET, tid, set, &mut iov as *mut libc::iovec) != 0 {
            return Ok(None);
        }
        Ok(Some(Thread { tid: tid as u64, registers: words[..iov.iov_len / 8].to_vec() }))
    }
}

/// Lets threads go on as if nothing had been.
fn release(threads: &[i32]) {
    for &tid in threads {
        let null = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: detaching takes no data; a thread that is gone gives ESRCH, which is fine.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, null, null) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_very_process() {
        let words = [0x1122334455667788u64, 42];
        let memory = ProcessMemory::open(std::process::id() as i32).unwrap();
        let memory: &dyn Memory = &memory;
        assert_eq!(memory.u64(words.as_ptr() as u64), Ok(0x1122334455667788));
        assert_eq!(memory.u64(8), Err(MemoryError { address: 8, place: Place::Process }));
        assert!(memory.regions().iter().any(|r| r.start <= words.as_ptr() as u64 && r.end > words.as_ptr() as u64));
    }

    #[test]
    fn a_stopped_child_runs_on_after_the_drop() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let state = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
            stat.rsplit(')').next().unwrap().trim().chars().next().unwrap()
        };
        let memory = ProcessMemory::stop(child.id() as i32).unwrap();
        assert_eq!(state(), 't');
        assert_eq!(memory.threads().len(), 1);
        drop(memory);
        assert!(matches!(state(), 'S' | 'R'));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_missing_process_is_a_sentence() {
        let error = ProcessMemory::open(i32::MAX).err().unwrap();
        assert_eq!(error.to_string(), format!("there is no process {}", i32::MAX));
    }
}
