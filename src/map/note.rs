//! What a walk over a map meets besides entries: kinds, with their words.

use super::lookup::Endless;
use crate::Error;
use std::fmt;

/// What is wrong or in motion in a map.
#[derive(Debug, Clone)]
pub enum Note {
    /// A nil map.
    Nil,
    /// The header's flag of a writer is set.
    Writing,
    /// Classic: entries are being moved to another array.
    Growing { same_size: bool, evacuated: u64, old: u64 },
    /// The header's count is not that of the live slots.
    Count { said: u64, live: u64 },
    /// A lookup of an absent key never ends.
    Endless(Endless),
    /// A part that cannot be read, or is not what it should be.
    Lost { part: Part, error: Error },
    /// Classic: a chain of overflow buckets longer than any write can have made.
    LongChain { old: bool, index: u64 },
    /// Swiss: an entry of the directory that has the table of an earlier one, not its neighbour.
    RepeatedTable { index: u64, address: u64 },
    /// Swiss: a table that says that it stands elsewhere in the directory.
    TableIndex { index: u64, address: u64, said: i64 },
    /// sync.Map: a node below the last level.
    DeepNode { level: u64 },
    /// sync.Map: its nodes lead to each other.
    TrieCycle,
    /// So many more of the last kind, not written out.
    More(u64),
}

/// A part of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Buckets {
        old: bool,
        first: u64,
        last: u64,
    },
    Overflow {
        old: bool,
        index: u64,
        overflow: u64,
        address: u64,
    },
    Directory {
        first: u64,
        last: u64,
    },
    Table(u64),
    OnlyGroup,
    Groups {
        table: u64,
        first: u64,
        last: u64,
    },
    /// sync.Map: `read.m`, else `dirty`.
    Inner {
        read: bool,
    },
    Value,
    Node {
        level: u64,
    },
    Children {
        level: u64,
    },
    Entry {
        level: u64,
    },
}

/// What buckets of an array are called.
pub(super) fn bucket(old: bool) -> &'static str {
    if old {
        "old bucket"
    } else {
        "bucket"
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Part::Buckets { old, first, last } => write!(f, "{}s {first} to {last}", bucket(old)),
            Part::Overflow { old, index, overflow, address } => {
                write!(f, "overflow {overflow} of {} {index} at {address:#x}", bucket(old))
            }
            Part::Directory { first, last } => write!(f, "directory entries {first} to {last}"),
            Part::Table(index) => write!(f, "table {index}"),
            Part::OnlyGroup => f.write_str("its only group"),
            Part::Groups { table, first, last } => write!(f, "table {table}, groups {first} to {last}"),
            Part::Inner { read } => f.write_str(if read { "read map" } else { "dirty map" }),
            Part::Value => f.write_str("an entry"),
            Part::Node { level } => write!(f, "a node of level {level}"),
            Part::Children { level } => write!(f, "children of a node of level {level}"),
            Part::Entry { level } => write!(f, "an entry of level {level}"),
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Nil => f.write_str("nil map"),
            Note::Writing => f.write_str("a goroutine was writing to the map; entries may be half updated"),
            Note::Growing { same_size, evacuated, old } => {
                let how = if *same_size { "growing at the same size" } else { "growing" };
                write!(f, "{how}: {evacuated} of {old} old buckets evacuated")
            }
            Note::Count { said, live } => write!(f, "count says {said}, but {live} live slots were found"),
            Note::Endless(endless) => write!(f, "{endless}"),
            Note::Lost { part, error } => write!(f, "{part}: {error}"),
            Note::LongChain { old, index } => {
                write!(f, "overflow chain of {} {index} is longer than the map can need", bucket(*old))
            }
            Note::RepeatedTable { index, address } => {
                write!(f, "directory entry {index} repeats the table at {address:#x} of an earlier one")
            }
            Note::TableIndex { index, address, said } => {
                write!(f, "table {index} at {address:#x} says its index is {said}")
            }
            Note::DeepNode { level } => write!(f, "a node at level {level}, below the last"),
            Note::TrieCycle => f.write_str("the trie leads in circles"),
            Note::More(count) => write!(f, "and {count} more findings of this kind"),
        }
    }
}
