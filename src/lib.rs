//! mapscope: see inside Go maps from the debugger.
//!
//! Data flows one way: [`memory`] (bytes of a core, a process, a remote target) -> [`binary`] (ELF,
//! DWARF, build info) -> [`types`] (one Go type graph) -> [`map`] (decoded buckets and groups) -> answer.
//! [`session`] ties them together; nothing here knows which debugger it serves.

pub mod answer;
pub mod audit;
pub mod binary;
pub mod budget;
pub mod error;
pub mod evidence;
pub mod expression;
pub mod files;
pub mod goroutine;
pub mod heap;
pub mod layout;
pub mod map;
pub mod memory;
pub mod probe;
pub mod reach;
pub mod report;
pub mod score;
pub mod session;
pub mod types;
pub mod value;

#[cfg(feature = "python")]
mod python;

pub use error::{Error, Result};
