//! Go execution traces, formats of Go 1.22 to 1.27.
//!
//! [`parse`] answers per goroutine and in bounded memory; [`Events`] gives the events one by one, as
//! `go tool trace -d=parsed` does; [`timeline()`] draws one goroutine.
//!
//! Data flows one way: [`wire`] (batches) -> [`generation`] (tables, streams) -> [`events`] with
//! [`order`] (one ordered stream) -> [`collect`] (plain data in [`model`]) -> [`timeline`](mod@timeline).
//! Every length, id and count of the file is checked; damage ends the reading, and what stood before
//! it is the answer, with a note.

mod clock;
mod collect;
mod error;
mod event;
mod events;
mod generation;
mod keep;
mod listing;
mod model;
mod order;
mod table;
mod timeline;
mod wire;

pub use clock::{Clocks, OtherTime, Relation};
pub use collect::{parse, parse_file, parse_watched};
pub use error::TraceError;
pub use event::{Edge, Event, GoState, Kind, ProcState, Range, StackId, NONE};
pub use events::Events;
pub use generation::ClockSnapshot;
pub use listing::{wall_text, write_event};
pub use model::{
    Block, Counts, Creation, Goroutine, MapSample, Options, Span, StackFrame, StackRef, TextId, Times, Trace, Wake,
};
pub use table::Frame;
pub use timeline::{timeline, timeline_json};
pub use wire::Version;
