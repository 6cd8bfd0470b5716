//! Evidence that a Go program leaves outside its memory, and what it says together.

/// Goroutines grouped by what they wait for and where, and how the groups grow.
pub mod clusters;
/// A profile's bytes, mapped.
mod file;
/// Profiles and a trace as one record for each goroutine.
pub mod join;
/// Goroutine profiles and tracebacks of Go 1.19 to 1.27.
pub mod profile;
/// The answer of `mapscope profile`, as text and as JSON.
pub mod profile_report;
/// Execution traces of Go 1.22 to 1.27.
pub mod trace;

pub use file::EvidenceFile;
pub use join::join;
