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

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(trace: i64, mono: u64, wall_seconds: i64, wall_nanos: u32) -> ClockSnapshot {
        ClockSnapshot { trace, mono, wall_seconds, wall_nanos }
    }

    #[test]
    fn the_snapshot_before_a_time_shifts_it_and_the_others_give_the_residual() {
        let mut clocks = Clocks::default();
        clocks.add(Some(15_625_000), Some(snapshot(1_000, 1_010, 100, 0)));
        clocks.add(Some(15_625_000), Some(snapshot(1_000_001_000, 1_000_001_500, 101, 700)));
        assert_eq!(clocks.relation(), Relation::Snapshots);
        assert_eq!(clocks.mono(2_000), Some(OtherTime { ns: 2_010, residual: 490 }));
        assert_eq!(clocks.mono(500), Some(OtherTime { ns: 510, residual: 490 }), "before the first");
        assert_eq!(clocks.mono(1_000_002_000), Some(OtherTime { ns: 1_000_002_500, residual: 490 }));
        assert_eq!(clocks.wall(2_000).map(|wall| wall.ns), Some(100_000_001_000));
        assert_eq!(clocks.wall_drift(), Some(210));
    }

    #[test]
    fn without_snapshots_only_the_frequency_tells() {
        let mut fine = Clocks::default();
        fine.add(Some(15_625_000), None);
        assert_eq!(fine.mono(-5), Some(OtherTime { ns: -5, residual: 64 }));
        assert_eq!((fine.wall(0), fine.wall_drift()), (None, None));
        let mut ticks = Clocks::default();
        ticks.add(Some(11_000_000), None);
        assert_eq!((ticks.relation(), ticks.mono(1)), (Relation::Unknown, None));
        assert_eq!(Clocks::default().relation(), Relation::Unknown);
    }

    #[test]
    fn extreme_snapshots_do_not_overflow() {
        let mut clocks = Clocks::default();
        clocks.add(Some(1), Some(snapshot(i64::MIN, u64::MAX, i64::MAX, 999_999_999)));
        clocks.add(Some(1), Some(snapshot(i64::MAX, 0, i64::MIN, 0)));
        assert!(clocks.mono(i64::MIN).is_some() && clocks.wall(i64::MAX).is_some() && clocks.wall_drift().is_some());
    }
}
