//! From trace time to the runtime's monotonic clock and to wall clock.

use super::generation::ClockSnapshot;

/// Most snapshots kept: one a second for over an hour; later ones replace the last.
const MAX_SNAPSHOTS: usize = 4096;

/// Units a second of a trace clock that is `nanotime` in steps of 64 ns: every platform with a fine
/// clock since Go 1.22 (Go 1.27.3 `src/runtime/tracetime.go`).
const NANOTIME_FREQUENCY: u64 = 1_000_000_000 / 64;

/// How a trace's times relate to other clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// Clock snapshots in the trace (Go 1.25 and later): monotonic and wall clock.
    Snapshots,
    /// The frequency shows that trace time is `nanotime`; wall clock is unknown.
    Nanotime,
    /// Processor ticks, of which nothing else is known.
    Unknown,
}

impl Relation {
    /// A word for records.
    pub fn name(self) -> &'static str {
        match self {
            Relation::Snapshots => "clock_snapshot",
            Relation::Nanotime => "nanotime",
            Relation::Unknown => "none",
        }
    }
}

/// A time on another clock, with how far it may be off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherTime {
    /// Nanoseconds: since boot for the monotonic clock, since 1970 (UTC) for the wall clock.
    pub ns: i128,
    /// The spread of what the trace's snapshots say, at least the trace clock's step; ns.
    pub residual: u64,
}

/// The clocks of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clocks {
    /// Units a second; None without a complete generation.
    pub frequency: Option<u64>,
    /// One a generation, by time.
    pub snapshots: Vec<ClockSnapshot>,
}

impl Clocks {
    pub(super) fn add(&mut self, frequency: Option<u64>, snapshot: Option<ClockSnapshot>) {
        self.frequency = self.frequency.or(frequency);
        if let Some(snapshot) = snapshot {
            if self.snapshots.len() >= MAX_SNAPSHOTS {
                self.snapshots.pop();
            }
            self.snapshots.push(snapshot);
        }
    }

    /// What is known of other clocks.
    pub fn relation(&self) -> Relation {
        match self.frequency {
            _ if !self.snapshots.is_empty() => Relation::Snapshots,
            Some(NANOTIME_FREQUENCY) => Relation::Nanotime,
            _ => Relation::Unknown,
        }
    }

    /// `nanotime` at trace time `time` (ns).
    pub fn mono(&self, time: i64) -> Option<OtherTime> {
        match self.relation() {
            Relation::Snapshots => self.shift(time, |s| i128::from(s.mono) - i128::from(s.trace)),
            Relation::Nanotime => Some(OtherTime { ns: i128::from(time), residual: self.step() }),
            Relation::Unknown => None,
        }
    }

    /// Wall clock at trace time `time` (ns).
    pub fn wall(&self, time: i64) -> Option<OtherTime> {
        self.shift(time, |s| {
            i128::from(s.wall_seconds) * 1_000_000_000 + i128::from(s.wall_nanos) - i128::from(s.trace)
        })
    }

    /// How far the wall clock moved against the monotonic clock between the first and the last snapshot:
    /// slewing, or somebody set it. Nanoseconds; None with fewer than two snapshots.
    pub fn wall_drift(&self) -> Option<i128> {
        let offset = |s: &ClockSnapshot| {
            i128::from(s.wall_seconds) * 1_000_000_000 + i128::from(s.wall_nanos) - i128::from(s.mono)
        };
        let (first, last) = (self.snapshots.first()?, self.snapshots.get(1..)?.last()?);
        Some(offset(last) - offset(first))
    }

    /// The clock's step, ns.
    fn step(&self) -> u64 {
        self.frequency.and_then(|f| 1_000_000_000u64.checked_div(f)).unwrap_or_default().max(1)
    }

    /// Shifts `time` by the offset of the snapshot before it (or the first); the residual is the largest
    /// difference to any other snapshot's offset.
    fn shift(&self, time: i64, offset: impl Fn(&ClockSnapshot) -> i128) -> Option<OtherTime> {
        let before = self.snapshots.partition_point(|s| s.trace <= time);
        let nearest = self.snapshots.get(before.saturating_sub(1))?;
        let by = offset(nearest);
        let spread = self.snapshots.iter().map(|s| offset(s).abs_diff(by)).max().unwrap_or_default();
        let residual = u64::try_from(spread).unwrap_or(u64::MAX).max(self.step());
        Some(OtherTime { ns: i128::from(time) + by, residual })
    }
}
