//! How much memory a command may take: so much more than its process had when it began.

use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};

/// In MiB; 0 for no limit.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// The limit that nobody set, in MiB: a quarter of this machine's memory or of the container's, and at most 4 GiB.
pub fn default_limit() -> u64 {
    const MOST: u64 = 4 << 10;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let machine = read("/proc/meminfo").lines().find_map(|line| {
        let line = line.strip_prefix("MemTotal:")?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib >> 10)
    });
    // "max" where there is none.
    let container = read("/sys/fs/cgroup/memory.max").trim().parse::<u64>().ok().map(|bytes| bytes >> 20);
    machine.into_iter().chain(container).min().map_or(MOST, |all| (all / 4).clamp(1, MOST))
}

/// Sets the limit of the commands to come, in MiB; 0 for none.
pub fn set_limit(mib: u64) {
    LIMIT.store(mib, Ordering::Relaxed);
}

/// What one command may take.
#[derive(Debug)]
pub struct Budget {
    mib: u64,
    /// Bytes of the whole process, above which it is used up.
    end: AtomicU64,
}

impl Budget {
    /// Of a command that begins now.
    pub fn begin() -> Budget {
        let mib = LIMIT.load(Ordering::Relaxed);
        let end = match mib {
            0 => u64::MAX,
            mib => used().saturating_add(mib.saturating_mul(1 << 20)),
        };
        Budget { mib, end: AtomicU64::new(end) }
    }

    /// Fails when it is used up, until more is granted.
    pub fn check(&self) -> Result<()> {
        match used() > self.end.load(Ordering::Relaxed) {
            true => Err(Error::Limit(self.mib)),
            false => Ok(()),
        }
    }

    /// Half as much again, to tell what was found.
    pub fn grant(&self) {
        let more = self.mib.saturating_mul(1 << 19);
        let _ = self
            .end
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |end| Some(end.max(used()).saturating_add(more)));
    }
}

/// Bytes of this process that no file holds (proc_pid_statm(5): resident, less what is shared).
fn used() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = text.split_ascii_whitespace().skip(1).map(|pages| pages.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    // SAFETY: a question without arguments in memory.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(4096) as u64;
    resident.saturating_sub(shared).saturating_mul(page)
}
