//! Live probes on the runtime's map functions: which functions there are and where their arguments lie
//! ([`functions`]), the kernel engine that records every call ([`uprobe`]), which return ends which call
//! ([`pairs`]), and what is kept of the calls
//! ([`summary`], [`pace`]).
//!
//! Nothing here decodes a map: a [`Hit`] carries addresses and key bytes, its reader knows the types.

#[cfg(target_os = "linux")]
mod cost;
pub mod functions;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub mod guard;
#[cfg(target_os = "linux")]
pub mod launch;
pub mod pace;
pub mod pairs;
mod prologue;
mod record;
mod registers;
mod returns;
pub mod summary;
mod tracefs;
#[cfg(target_os = "linux")]
pub mod uprobe;
mod uprobe_filter;

#[cfg(target_os = "linux")]
pub use cost::cost_per_hit;
pub use functions::{
    plan, Arch, Awaits, FunctionSymbol, KeyPlace, Operation, ProbePlan, ProbePoint, ReturnPoint, Tells, Variant,
};
pub use pairs::{Outcome, Pairs};
pub use record::{Hit, Key, Return, Seen};
pub use registers::Registers;
pub use tracefs::{capability, PointedKey};
pub use uprobe_filter::{Filters, TypeFilter};

/// Nanoseconds of CLOCK_MONOTONIC, as the kernel stamps its records.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live struct that the call fills in.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}
