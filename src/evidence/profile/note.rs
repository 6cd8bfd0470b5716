//! What a reader of a profile should know beside its records.

use std::fmt;

use super::counted;

/// What is missing, was passed over or was done to the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The gzip data ends early or is damaged, and how.
    DamagedGzip(String),
    /// The protobuf ends early or is damaged, and how.
    DamagedProto(&'static str),
    /// Samples that count nothing or refer to nothing.
    SenselessSamples(u64),
    /// The goroutines that a debug=1 profile says it is about are not those that it holds.
    OtherTotal { says: u64, holds: u64 },
    /// Groups of a debug=1 profile without the line that says of what it is.
    NoTitle,
    /// More than one debug=1 profile in a file.
    SecondProfile,
    /// The dump has the size at which the runtime stops writing.
    RuntimeLimit,
    /// The file ends inside a goroutine.
    BreaksOff,
    /// The file begins inside a goroutine.
    BeginsInside,
    /// Further on, stacks stand without their goroutine's line.
    LostHeaders(u64),
    /// Log lines that end inside the quoted string with the dump.
    CutStrings(u64),
    /// Lines inside goroutines that are no part of a traceback.
    ForeignLines(u64),
    /// Lines that belong to no stack of a debug=1 profile.
    StrayLines(u64),
    /// Lines that carried a wrapping or a prefix.
    Unwrapped(u64),
    /// Lines that held a whole dump, with its line ends escaped.
    Unescaped(u64),
    /// Lines over 1 MiB.
    Overlong(u64),
    /// Goroutines in more clusters than are kept.
    BeyondClusters { most: usize, goroutines: u64 },
    /// Goroutine ids that occur more than once.
    RepeatedIds(u64),
    /// The profiles were given in another order.
    Reordered,
    /// The profiles do not all tell states.
    MatchedByStack,
}

impl Note {
    /// Whether goroutines or frames of the process may be missing from what was read.
    pub fn is_loss(&self) -> bool {
        match self {
            Note::DamagedGzip(_)
            | Note::DamagedProto(_)
            | Note::SenselessSamples(_)
            | Note::NoTitle
            | Note::RuntimeLimit
            | Note::BreaksOff
            | Note::BeginsInside
            | Note::LostHeaders(_)
            | Note::CutStrings(_) => true,
            Note::OtherTotal { says, holds } => holds < says,
            Note::SecondProfile
            | Note::ForeignLines(_)
            | Note::StrayLines(_)
            | Note::Unwrapped(_)
            | Note::Unescaped(_)
            | Note::Overlong(_)
            | Note::BeyondClusters { .. }
            | Note::RepeatedIds(_)
            | Note::Reordered
            | Note::MatchedByStack => false,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = |count| counted(count, "line", "lines");
        match self {
            Note::DamagedGzip(how) => write!(f, "the gzip data is damaged ({how}): only what came before is shown"),
            Note::DamagedProto(how) => write!(f, "the protobuf is damaged ({how}): only what came before is shown"),
            Note::SenselessSamples(count) => {
                write!(f, "{} of the protobuf make no sense and were left out", counted(*count, "sample", "samples"))
            }
            Note::OtherTotal { says, holds } => {
                write!(f, "the file says {says} goroutines and holds {holds}: it is incomplete or was edited")
            }
            Note::NoTitle => write!(
                f,
                "the line 'goroutine profile: total N' is missing: stacks before the first may be, and that these are of goroutines is not stated"
            ),
            Note::SecondProfile => {
                write!(f, "a second profile follows in the same file and was left out: give it a file of its own")
            }
            Note::RuntimeLimit => {
                write!(f, "the dump is exactly 64 MiB, where the runtime stops writing: goroutines are missing")
            }
            Note::BreaksOff => {
                write!(f, "the dump breaks off in the middle of a goroutine: that one is partial, others may be missing")
            }
            Note::BeginsInside => write!(
                f,
                "the dump begins in the middle of a goroutine: that one was left out, others may be missing before it"
            ),
            Note::LostHeaders(count) => write!(
                f,
                "{} without the line 'goroutine N [state]:' above: left out, and others may be missing",
                counted(*count, "stack stands", "stacks stand")
            ),
            Note::CutStrings(count) => {
                write!(f, "{} end inside the quoted dump: goroutines may be missing", counted(*count, "log line", "log lines"))
            }
            Note::ForeignLines(count) => {
                write!(f, "{} inside goroutines belong to no traceback and were left out", lines(*count))
            }
            Note::StrayLines(count) => write!(f, "{} belong to no stack and were left out", lines(*count)),
            Note::Unwrapped(count) => write!(f, "log prefixes were taken off {}", lines(*count)),
            Note::Unescaped(count) => {
                write!(f, "the dump was read out of {} with its line ends escaped", counted(*count, "log line", "log lines"))
            }
            Note::Overlong(count) => write!(f, "{} over 1 MiB were left out", lines(*count)),
            Note::BeyondClusters { most, goroutines } => {
                write!(f, "there are more than {most} clusters: {goroutines} goroutines are in none of those shown")
            }
            Note::RepeatedIds(count) => {
                write!(f, "{count} goroutine ids occur more than once: the file holds more than one dump")
            }
            Note::Reordered => write!(f, "the profiles were put in the order in which they were taken"),
            Note::MatchedByStack => {
                write!(f, "the profiles do not all tell states, so clusters are matched by stack alone")
            }
        }
    }
}
