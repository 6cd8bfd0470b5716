//! Go execution traces, formats of Go 1.22 to 1.27.

mod error;
mod event;
mod events;
mod generation;
mod listing;
mod order;
mod table;
mod wire;

pub use error::TraceError;
pub use event::{Edge, Event, GoState, Kind, ProcState, Range, StackId, NONE};
pub use events::Events;
pub use generation::ClockSnapshot;
pub use listing::{wall_text, write_event};
pub use table::Frame;
pub use wire::Version;
