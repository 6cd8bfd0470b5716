//! What could not be read of goroutines, or was left out of a search: kinds, with their words.

use super::stack::Broken;
use super::Goroutine;
use crate::memory::MemoryError;
use crate::Error;
use std::fmt;

/// What is wrong with the runtime's list of goroutines.
#[derive(Debug, Clone)]
pub enum ListNote {
    /// The record that an entry names cannot be read.
    Lost { g: u64, entry: u64, error: Error },
    /// So many more like that.
    MoreLost(u64),
    /// The list says that it is longer than memory.
    ImpossibleLength(u64),
    /// Entries that cannot be read.
    Unreadable { first: u64, end: u64, error: MemoryError },
    /// Entries that name a goroutine again.
    Repeated(u64),
    /// Entries that name none.
    Empty(u64),
}

impl fmt::Display for ListNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListNote::Lost { g, entry, error } => write!(f, "the goroutine at {g:#x} (entry {entry}) is lost: {error}"),
            ListNote::MoreLost(count) => write!(f, "{count} more goroutines are lost"),
            ListNote::ImpossibleLength(said) => {
                write!(f, "the runtime's list of goroutines claims an impossible length, {said}")
            }
            ListNote::Unreadable { first, end, error } => {
                write!(f, "goroutines {first} to {end} of the runtime's list are lost: {error}")
            }
            ListNote::Repeated(count) => write!(
                f,
                "{count} entries of the runtime's list of goroutines name a goroutine that an earlier one names"
            ),
            ListNote::Empty(count) => write!(f, "{count} entries of the runtime's list of goroutines are empty"),
        }
    }
}

/// What of one goroutine could not be read.
#[derive(Debug, Clone)]
pub enum Torn {
    /// Its status is none of the runtime's.
    Status(u32),
    /// The runtime was copying its stack.
    StackMoves,
    /// Its labels, and why.
    Labels(Error),
    /// Its stack is not whole, and why.
    StackEnds(Broken),
    /// The record of who started it, and why.
    Ancestors(Error),
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Torn::Status(status) => write!(f, "status {status} is not known"),
            Torn::StackMoves => f.write_str("its stack was being moved; it may be half in the old place"),
            Torn::Labels(error) => write!(f, "its labels cannot be read: {error}"),
            Torn::Ancestors(error) => write!(f, "who started it cannot be read: {error}"),
            Torn::StackEnds(why) => write!(f, "its stack ends early: {why}"),
        }
    }
}

/// What a search for map entries and for others who could end a wait left out.
#[derive(Debug, Clone)]
pub enum Limit {
    /// It ended after so many steps.
    Steps(u64),
    /// Values more than so many pointers away.
    Depth(usize),
    /// It ended for want of memory.
    Memory(Error),
    /// Who else could end a wait was not looked for.
    Others(Unsearched),
    /// So many bytes of where that was looked for could not be read.
    Unread(u64),
    /// Calls before a wait were not looked for: this processor's code is not decoded.
    CallsUnread,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Steps(steps) => write!(f, "the search for map entries stopped after {steps} steps"),
            Limit::Depth(depth) => {
                write!(f, "values more than {depth} pointers away from a variable or map entry were left out")
            }
            Limit::Memory(error) => write!(f, "not all map entries were looked at: {error}"),
            Limit::Unread(bytes) => {
                write!(
                    f,
                    "{bytes} bytes of heap, variables and stacks cannot be read: more may lead to what is waited on"
                )
            }
            Limit::CallsUnread => f.write_str(
                "machine code of arm64 is not read yet: which map operations came before a wait and which keys they \
                 looked up is not known here",
            ),
            Limit::Others(why) => write!(f, "who else could end a wait was not looked for: {why}"),
        }
    }
}

/// Why who else could end a wait was not looked for.
#[derive(Debug, Clone)]
pub enum Unsearched {
    /// A stack that cannot be walked may lead anywhere.
    Stack { goid: u64, broken: Option<Broken> },
    /// The list of goroutines is torn.
    List(ListNote),
    /// The heap or the runtime's records were not found.
    Heap(Error),
    /// More leads there than can be kept.
    TooMuch,
}

impl Unsearched {
    pub(super) fn stack(goroutine: &Goroutine) -> Unsearched {
        Unsearched::Stack { goid: goroutine.goid, broken: goroutine.stack.broken.clone() }
    }
}

impl fmt::Display for Unsearched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsearched::Stack { goid, broken } => {
                write!(f, "the stack of goroutine {goid} cannot be walked")?;
                broken.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
            }
            Unsearched::List(note) => write!(f, "{note}"),
            Unsearched::Heap(error) => write!(f, "{error}"),
            Unsearched::TooMuch => {
                f.write_str("more leads to what is waited on than can be kept, or the heap is too wide")
            }
        }
    }
}
