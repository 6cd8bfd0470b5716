//! What a lookup comes to.

/// How a key is in a map, or is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// There, with an elem that is none of the next three.
    Present,
    /// There, with the elem's zero value.
    Zero,
    /// There, with a nil elem.
    Nil,
    /// There, with an elem that is empty, but not nil.
    Empty,
    /// Stored where the program's own lookup does not come to it.
    Unreachable,
    /// Not there, and the program's own lookup of it never ends.
    Endless,
    /// Not there.
    Absent,
    /// The program's own lookup panics.
    Unhashable,
}

impl Verdict {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Present => "present",
            Verdict::Zero => "zero",
            Verdict::Nil => "nil",
            Verdict::Empty => "empty",
            Verdict::Unreachable => "unreachable",
            Verdict::Endless => "endless",
            Verdict::Absent => "absent",
            Verdict::Unhashable => "unhashable",
        }
    }

    /// For people, after "KEY is".
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Present => "present",
            Verdict::Zero => "present with the zero value",
            Verdict::Nil => "present and nil",
            Verdict::Empty => "present, empty but not nil",
            Verdict::Unreachable => "unreachable",
            Verdict::Endless => "not there, and the program's own lookup of it never ends",
            Verdict::Absent => "absent",
            Verdict::Unhashable => "not hashable",
        }
    }
}
