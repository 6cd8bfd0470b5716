//! What a reader of an answer about one map must know besides: kinds, with their words.

use crate::map::{Note, Survey};
use crate::session;
use std::fmt;
use std::time::Duration;

/// One thing that stands in the head of an answer.
#[derive(Debug, Clone)]
pub enum State {
    /// Of the map.
    Map(Note),
    /// Of a lookup in it.
    Lookup(LookupNote),
    /// Of the target.
    Source(session::Note),
}

/// What is particular of a lookup.
#[derive(Debug, Clone)]
pub enum LookupNote {
    /// It could not go by hash, because …
    Compared(String),
    /// Its key holds a NaN.
    Nan,
    /// Its key is of this unhashable type.
    Unhashable(String),
    /// Near misses were looked for as long as there was time.
    Partly { compared: u64, stored: u64, budget: Duration },
}

impl fmt::Display for LookupNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupNote::Compared(why) => {
                write!(f, "every key was compared, because no hash could be computed: {why}")
            }
            LookupNote::Nan => {
                f.write_str("the key holds a NaN: each hash of it is another random number, so no lookup ever finds it")
            }
            LookupNote::Unhashable(name) => write!(f, "the program would panic: hash of unhashable type {name}"),
            LookupNote::Partly { compared, stored, budget } => write!(
                f,
                "only {compared} of {stored} stored keys were compared within {} s, so nearer ones may be left, and the \
                 key itself may lie off its path; --budget 0 compares all",
                budget.as_secs_f64()
            ),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Map(note) => write!(f, "{note}"),
            State::Lookup(note) => write!(f, "{note}"),
            State::Source(note) => write!(f, "{note}"),
        }
    }
}

/// What is wrong or in motion in a map; `notes` come from the session.
pub fn state(survey: &Survey, notes: &[session::Note]) -> Vec<State> {
    let of_map = survey.findings.clone().into_notes().into_iter().map(State::Map);
    of_map.chain(source(notes)).collect()
}

/// What the session knows of its source.
pub fn source(notes: &[session::Note]) -> impl Iterator<Item = State> + '_ {
    notes.iter().cloned().map(State::Source)
}
