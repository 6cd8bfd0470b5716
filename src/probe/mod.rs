//! Live probes on the runtime's map functions: which functions there are and where their arguments lie
//! ([`functions`]), the kernel engine that records every call ([`uprobe`]), and what is kept of the calls
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
mod prologue;
mod record;
mod registers;
pub mod summary;
mod tracefs;
#[cfg(target_os = "linux")]
pub mod uprobe;
mod uprobe_filter;

#[cfg(target_os = "linux")]
pub use cost::cost_per_hit;
pub use functions::{plan, Arch, FunctionSymbol, KeyPlace, Operation, ProbePlan, ProbePoint, Variant};
pub use record::{Hit, Key};
pub use registers::Registers;
pub use tracefs::{capability, PointedKey};
pub use uprobe_filter::{Filters, TypeFilter};
