//! Go values: printing them from target memory, reading them as the user types them, filtering by them.
//!
//! A type is compiled once into a [`Plan`]; [`Plan::write`] walks a value's bytes and tells a [`Sink`]
//! what it meets. Sinks are compiled in, so that a scalar costs a branch and its digits.

mod context;
mod csv;
mod demand;
mod float;
mod gosyntax;
mod json;
mod literal;
mod pattern;
mod plan;
mod prefetch;
mod quote;
mod scan;
mod sink;
mod time;
mod walk;

pub use context::{Context, Options, FOLLOW_LIMIT};
pub use csv::CsvCell;
pub use demand::{Demand, TextLength};
pub use gosyntax::{push_key, GoSyntax};
pub use json::{push_string as push_json_string, Json};
pub use literal::{example, in_interface, parse_key, unquote, Arena, Overlay};
pub use pattern::{glob, Filter};
pub use plan::{short_name, short_name_by, Plan, TimeOffsets};
pub use quote::push_go_string;
pub use sink::{Drain, Sink};
pub use time::GoTime;

#[cfg(test)]
pub(crate) mod tests;
