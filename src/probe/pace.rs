//! Keeping a watch cheap: when to print, and when to stop.

use std::time::Duration;

/// Lets through so many a second, and a burst at first; the caller counts what it holds back.
#[derive(Debug, Clone)]
pub struct Throttle {
    per_second: f64,
    burst: f64,
    tokens: f64,
    last_ns: Option<u64>,
    held_back: u64,
}

impl Throttle {
    /// Lets `per_second` through, and `burst` at once after a silence.
    pub fn new(per_second: u32, burst: u32) -> Throttle {
        let burst = f64::from(burst.max(1));
        Throttle { per_second: f64::from(per_second), burst, tokens: burst, last_ns: None, held_back: 0 }
    }

    /// Whether one may pass at `ns`, the nanoseconds of any steady clock.
    pub fn passes(&mut self, ns: u64) -> bool {
        let elapsed = ns.saturating_sub(self.last_ns.unwrap_or(ns));
        self.last_ns = Some(ns.max(self.last_ns.unwrap_or(0)));
        self.tokens = (self.tokens + elapsed as f64 * 1e-9 * self.per_second).min(self.burst);
        let passes = self.tokens >= 1.0;
        if passes {
            self.tokens -= 1.0;
        } else {
            self.held_back += 1;
        }
        passes
    }

    /// How many were held back since the last call.
    pub fn take_held_back(&mut self) -> u64 {
        std::mem::take(&mut self.held_back)
    }
}

/// What a watch may cost before it disarms itself.
#[derive(Debug, Clone)]
pub struct Budget {
    max_percent: Option<f64>,
    limit: Option<u64>,
    cost_per_hit: Duration,
    window: Duration,
    hits: u64,
    start: Option<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    cpu: Duration,
    hits: u64,
}

/// Why a watch disarmed itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Spent {
    /// `--limit` hits were seen.
    Limit(u64),
    /// The probes took this percentage of the target's time, more than `--max-overhead`.
    Overhead { percent: f64, allowed: f64 },
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Spent::Limit(n) => write!(f, "disarmed after {n} hits (--limit)"),
            Spent::Overhead { percent, allowed } => write!(
                f,
                "disarmed: the probes took {percent:.0} % of the program's time, more than {allowed} % (--max-overhead); \
                 narrow the watch to an operation or a function, leave outcomes out (--entry), or raise the budget"
            ),
        }
    }
}

impl Budget {
    /// `cost_per_hit` is what a hit takes from the target; overhead is judged over each `window` of time.
    pub fn new(max_percent: Option<f64>, limit: Option<u64>, cost_per_hit: Duration, window: Duration) -> Budget {
        Budget { max_percent, limit, cost_per_hit, window, hits: 0, start: None }
    }

    /// How many more hits may be taken.
    pub fn left(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.hits))
    }

    /// Counts hits; says so when they were the last allowed.
    pub fn hit(&mut self, hits: u64) -> Option<Spent> {
        self.hits = self.hits.saturating_add(hits);
        self.limit.filter(|limit| self.hits >= *limit).map(Spent::Limit)
    }

    /// Judges the overhead at time `now`, when the target has used `cpu` time in all; both count from any fixed
    /// moment. `total_hits` includes those dropped or filtered out: they cost as much.
    pub fn judge(&mut self, now: Duration, cpu: Duration, total_hits: u64) -> Option<Spent> {
        let allowed = self.max_percent?;
        let Some(start) = self.start else {
            self.start = Some(Sample { at: now, cpu, hits: total_hits });
            return None;
        };
        if now.saturating_sub(start.at) < self.window {
            return None;
        }
        self.start = Some(Sample { at: now, cpu, hits: total_hits });
        let hits = total_hits.saturating_sub(start.hits);
        let cost = self.cost_per_hit.as_secs_f64() * hits as f64;
        let used = cpu.saturating_sub(start.cpu).as_secs_f64().max(f64::MIN_POSITIVE);
        let percent = (100.0 * cost / used).min(100.0);
        // Probes whose own estimate exceeds the target's whole time still count as all of it; a handful do not count.
        (percent > allowed && cost > 1e-3).then_some(Spent::Overhead { percent, allowed })
    }
}

/// CPU time that a process has used, in user code and in the kernel; `None` when it is gone.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    cpu_time_of(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn cpu_time_of(stat: &str) -> Option<Duration> {
    // USER_HZ: what the kernel shows to programs is in this unit on every architecture of ours.
    const TICKS_PER_SECOND: u64 = 100;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks = fields.next()?.parse::<u64>().ok()?.checked_add(fields.next()?.parse().ok()?)?;
    Some(Duration::from_nanos(ticks.checked_mul(1_000_000_000 / TICKS_PER_SECOND)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_flood_is_printed_at_the_rate_after_the_burst() {
        let mut throttle = Throttle::new(10, 5);
        let passed = (0..2_000_000_000u64).step_by(1_000_000).filter(|ns| throttle.passes(*ns)).count();
        assert!((24..=25).contains(&passed), "{passed}");
        assert_eq!(throttle.take_held_back(), 2000 - passed as u64);
        assert_eq!(throttle.take_held_back(), 0);
        assert!(throttle.passes(60_000_000_000));
    }

    #[test]
    fn the_limit_ends_at_exactly_its_number() {
        let mut budget = Budget::new(None, Some(3), Duration::ZERO, MS(1));
        assert_eq!(budget.hit(2), None);
        assert_eq!(budget.left(), Some(1));
        assert_eq!(budget.hit(1), Some(Spent::Limit(3)));
    }

    #[test]
    fn overhead_is_judged_by_the_target_s_own_time() {
        let cost = Duration::from_micros(10);
        let mut budget = Budget::new(Some(20.0), None, cost, MS(100));
        assert_eq!(budget.judge(MS(0), MS(500), 0), None);
        assert_eq!(budget.judge(MS(50), MS(550), 1_000_000), None, "the window is not over");
        // 10 000 hits of 10 us are 100 ms: 10 % of one second.
        assert_eq!(budget.judge(MS(200), MS(1500), 10_000), None);
        let spent = budget.judge(MS(400), MS(1700), 20_000);
        assert_eq!(spent, Some(Spent::Overhead { percent: 50.0, allowed: 20.0 }));
        assert!(spent.unwrap().to_string().contains("--max-overhead"));
    }

    #[test]
    fn cpu_time_is_read_behind_any_process_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 99 0 0";
        assert_eq!(cpu_time_of(stat), Some(MS(2000)));
        assert!(cpu_time(std::process::id()).is_some());
    }
}
