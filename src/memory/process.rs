//! A live process on this machine, read by `process_vm_readv` in big blocks.

use super::debugger::{BlockCache, BLOCK};
use super::rights::{self, Act};
use super::stop::Stopped;
use super::{Memory, MemoryError, Place, Region, Thread};
use crate::error::Watch;
use crate::{Error, Result};
use std::sync::Mutex;
use std::time::Duration;

/// The memory of a process; optionally holds its threads stopped while it lives.
pub struct ProcessMemory {
    pid: i32,
    cache: BlockCache,
    /// Its mappings, until something is forgotten.
    regions: Mutex<Option<Vec<Region>>>,
    stopped: Option<Stopped>,
}

impl ProcessMemory {
    /// Memory of `pid`, which somebody else (a debugger) holds still, or nobody.
    pub fn open(pid: i32) -> Result<ProcessMemory> {
        let regions = Mutex::new(Some(regions_of(pid)?));
        let reader = move |address: u64, buf: &mut [u8]| read_process(pid, address, buf);
        let cache = BlockCache::new(Box::new(reader), Place::Process);
        let memory = ProcessMemory { pid, cache, regions, stopped: None };
        memory.check_rights()?;
        Ok(memory)
    }

    /// Memory of `pid` with every thread stopped by ptrace, within `within`, until this is dropped. If we die, the kernel
    /// lets the threads go on.
    pub fn stop(pid: i32, within: Duration, watch: &dyn Watch) -> Result<ProcessMemory> {
        let stopped = Stopped::all(pid, within, watch)?;
        Ok(ProcessMemory { stopped: Some(stopped), ..ProcessMemory::open(pid)? })
    }

    /// The process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The stopped threads with their registers; empty unless made by [`ProcessMemory::stop`].
    pub fn threads(&self) -> &[Thread] {
        self.stopped.as_ref().map_or(&[], |stopped| &stopped.threads)
    }

    /// One word is read at once, so that missing rights are told before any answer is half done.
    fn check_rights(&self) -> Result<()> {
        let mut byte = [0];
        let readable = self.regions().first().is_some_and(|first| read_process(self.pid, first.start, &mut byte));
        match readable {
            true => Ok(()),
            false => Err(may_not_be_read(self.pid, &std::io::Error::last_os_error())),
        }
    }
}

fn may_not_be_read(pid: i32, error: &std::io::Error) -> Error {
    Error::Binary(format!("process {pid} cannot be read: {}", rights::why_denied(pid, pid, error, Act::Read)))
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
        _ => may_not_be_read(pid, &e),
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

#[cfg(test)]
mod tests {
    use super::super::STOP_WITHIN;
    use super::*;
    use crate::error::Quiet;

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
        let memory = ProcessMemory::stop(child.id() as i32, STOP_WITHIN, &Quiet).unwrap();
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
