//! What a hit costs the probed program on this machine, measured on a function of our own.

use super::functions::{Arch, Awaits, KeyPlace, Operation, ProbePoint, ReturnPoint, Tells, Variant};
use super::tracefs::{self, usage, Fetches, PointedKey, Registered};
use super::uprobe::{recorder, ring, share_ring};
use crate::{Error, Result};
use std::fs;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

#[cfg(target_arch = "x86_64")]
const ARCH: Arch = Arch::Amd64;
#[cfg(target_arch = "aarch64")]
const ARCH: Arch = Arch::Arm64;

// Begins as a Go function does behind its stack check.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(".text", "mapscope_probed:", "push rbp", "pop rbp", "mapscope_returns:", "ret");
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".text",
    "mapscope_probed:",
    "str x30, [sp, #-16]!",
    "ldr x30, [sp], #16",
    "mapscope_returns:",
    "ret"
);

extern "C" {
    fn mapscope_probed();
    fn mapscope_returns();
}

/// Calls measured; the ring buffer has room for all.
const CALLS: u32 = 2000;

/// Time that one hit with a key of `key_bytes` adds to the program, without filters; with its return where `outcomes` says so.
pub fn cost_per_hit(key_bytes: usize, outcomes: bool) -> Result<Duration> {
    tracefs::capability()?;
    let directory = tracefs::directory()?;
    let (path, offset) = own_code(mapscope_probed as *const () as usize as u64)?;
    let point = ProbePoint {
        function: String::new(),
        entry: offset,
        address: offset,
        at_entry: true,
        operation: Operation::Access1,
        variant: Variant::FastString,
        map_type: Some(0),
        map: 1,
        key: KeyPlace::String(2),
        awaits: Awaits::Return,
    };
    let fetches = Fetches {
        arch: ARCH,
        goid_offset: 152,
        key_words: super::uprobe::key_words(key_bytes),
        pointed: PointedKey::Bytes,
        outcomes,
        parts: None,
    };
    let group = Registered::group_name();
    let definition = Fetches::reading_only_the_stack(ARCH, &fetches.definition(&group, &path, offset, &point));
    let event = Registered::new(&directory, group, &[definition])?;
    let open = |event: &Registered| {
        let opened = recorder(event.id()?).observe_self().any_cpu().build();
        opened.map_err(|e| usage(format!("the kernel refuses a probe on ourselves ({e})")))
    };
    let mut ring = ring(open(&event)?, CALLS as usize * 1024)?;
    let refused = |e: std::io::Error| usage(format!("the kernel refuses to control its probe ({e})"));
    let end = match outcomes {
        true => {
            let (path, offset) = own_code(mapscope_returns as *const () as usize as u64)?;
            let point = ReturnPoint { address: offset, entry: offset, tells: Tells::Found(1) };
            let group = Registered::group_name();
            let definition = point.definition(ARCH, fetches.goid_offset, &group, &path, offset);
            let definition = Fetches::reading_only_the_stack(ARCH, &definition);
            let event = Registered::new(&directory, group, &[definition])?;
            let mut counter = open(&event)?;
            share_ring(&counter, ring.as_raw_fd())?;
            counter.enable().map_err(refused)?;
            Some((counter, event))
        }
        false => None,
    };

    ring.as_counter_mut().enable().map_err(refused)?;
    let probed = time_of_calls();
    ring.as_counter_mut().disable().map_err(refused)?;
    let hits = ring.as_counter_mut().read_full().map_err(refused)?.count();
    drop(end);
    drop(ring);
    drop(event);
    let free = time_of_calls();
    if hits != u64::from(CALLS) {
        return Err(usage(format!("the kernel saw {hits} of {CALLS} calls of a probed function")));
    }
    Ok(probed.saturating_sub(free) / CALLS)
}

fn time_of_calls() -> Duration {
    let start = Instant::now();
    for _ in 0..CALLS {
        // SAFETY: the function above changes nothing and takes no arguments.
        unsafe { mapscope_probed() };
    }
    start.elapsed()
}

/// Where code of ours is, as the kernel wants it: a path without spaces, and the offset in that file.
fn own_code(address: u64) -> Result<(String, u64)> {
    let path = "/proc/self/maps";
    let maps = fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
    maps.lines()
        .find_map(|line| {
            let mut words = line.split_whitespace();
            let range = words.next()?;
            let (start, end) = range.split_once('-')?;
            let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
            let offset = u64::from_str_radix(words.nth(1)?, 16).ok()?;
            (start..end).contains(&address).then(|| (format!("/proc/self/map_files/{range}"), address - start + offset))
        })
        .ok_or_else(|| usage("our own code is in no file"))
}
