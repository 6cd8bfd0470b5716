//! `time.Time`: the instant, and the zone offset in force as the target's own `*time.Location` says.

use crate::memory::{Memory, MemoryError};
use crate::types::{Shape, TypeSource};

/// Seconds from year 1 to 1885: the epoch of the wall clock reading (src/time/time.go `wallToInternal`).
const WALL_TO_INTERNAL: i64 = (1884 * 365 + 1884 / 4 - 1884 / 100 + 1884 / 400) * DAY;
/// Seconds from year 1 to 1970 (src/time/time.go `unixToInternal`).
const UNIX_TO_INTERNAL: i64 = (1969 * 365 + 1969 / 4 - 1969 / 100 + 1969 / 400) * DAY;
const DAY: i64 = 86_400;
/// Bit of `wall` that says it carries the seconds and `ext` a monotonic reading.
const HAS_MONOTONIC: u64 = 1 << 63;
const NANOSECOND_MASK: u64 = (1 << 30) - 1;

/// A `time.Time`, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoTime {
    /// Seconds since 1970 UTC.
    pub unix: i64,
    /// Nanoseconds within the second, 0 to 999 999 999 (up to 2^30-1 in a damaged value).
    pub nanosecond: u32,
    /// Seconds east of UTC in force at that instant.
    pub offset: i32,
    /// The location's name: `UTC`, `Local`, `Europe/Paris`.
    pub location: String,
}

/// The civil date and clock of an instant.
struct Civil {
    year: i64,
    month: u32,
    day: u32,
    second_of_day: u32,
}

impl GoTime {
    /// The instant in a `time.Time` with these `wall` and `ext` words, in UTC.
    ///
    /// Source: src/time/time.go `Time.sec`, unchanged since Go 1.9.
    pub fn utc(wall: u64, ext: i64) -> GoTime {
        let seconds = if GoTime::is_monotonic(wall) { WALL_TO_INTERNAL + (wall << 1 >> 31) as i64 } else { ext };
        GoTime {
            unix: seconds.wrapping_sub(UNIX_TO_INTERNAL),
            nanosecond: (wall & NANOSECOND_MASK) as u32,
            offset: 0,
            location: "UTC".into(),
        }
    }

    /// Whether a `wall` word says that `ext` is a monotonic clock reading.
    pub fn is_monotonic(wall: u64) -> bool {
        wall & HAS_MONOTONIC != 0
    }

    /// Appends Go's `time.RFC3339Nano` form.
    pub fn push_rfc3339(&self, out: &mut Vec<u8>) {
        let civil = self.civil();
        if civil.year < 0 {
            out.push(b'-');
        }
        push_padded(out, civil.year.unsigned_abs(), 4);
        for (separator, value) in [
            (b'-', civil.month),
            (b'-', civil.day),
            (b'T', civil.second_of_day / 3600),
            (b':', civil.second_of_day / 60 % 60),
            (b':', civil.second_of_day % 60),
        ] {
            out.push(separator);
            push_padded(out, value.into(), 2);
        }
        if self.nanosecond != 0 {
            out.push(b'.');
            push_padded(out, self.nanosecond.into(), 9);
            while out.last() == Some(&b'0') {
                out.pop();
            }
        }
        if self.offset == 0 {
            return out.push(b'Z');
        }
        let minutes = self.offset / 60;
        out.push(if minutes < 0 { b'-' } else { b'+' });
        push_padded(out, (minutes.unsigned_abs() / 60).into(), 2);
        out.push(b':');
        push_padded(out, (minutes.unsigned_abs() % 60).into(), 2);
    }

    /// Appends Go's `%#v` form: `time.Date(2009, time.November, 10, 23, 0, 0, 0, time.UTC)`.
    pub fn push_go_syntax(&self, out: &mut Vec<u8>) {
        const MONTHS: [&str; 12] = [
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ];
        let civil = self.civil();
        let month = MONTHS.get(civil.month as usize - 1).copied().unwrap_or("January");
        let clock = civil.second_of_day;
        let text = format!(
            "time.Date({}, time.{month}, {}, {}, {}, {}, {}, ",
            civil.year,
            civil.day,
            clock / 3600,
            clock / 60 % 60,
            clock % 60,
            self.nanosecond
        );
        out.extend_from_slice(text.as_bytes());
        match self.location.as_str() {
            "UTC" => out.extend_from_slice(b"time.UTC"),
            "Local" => out.extend_from_slice(b"time.Local"),
            name => {
                out.extend_from_slice(b"time.Location(");
                super::quote::push_go_string(out, name.as_bytes());
                out.push(b')');
            }
        }
        out.push(b')');
    }

    fn civil(&self) -> Civil {
        let local = i128::from(self.unix) + i128::from(self.offset);
        let (year, month, day) = civil_from_days(local.div_euclid(DAY.into()) as i64);
        Civil { year, month, day, second_of_day: local.rem_euclid(DAY.into()) as u32 }
    }
}

fn push_padded(out: &mut Vec<u8>, value: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value);
    out.resize(out.len() + width.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(digits.as_bytes());
}

/// Year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar.
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    // Years are counted from 1 March, so that the leap day is the last of its year.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

/// Days from 1970-01-01 to 1 January of `year`.
fn days_before_year(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400) - 719_162
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// A `time.Location` of the target.
#[derive(Debug, Clone, Default)]
pub(super) struct Location {
    name: String,
    zones: Vec<Zone>,
    transitions: Vec<Transition>,
    extend: String,
    /// The zone in force from `.0` to `.1`, which the target looked up last.
    cache: Option<(i64, i64, i32)>,
}

#[derive(Debug, Clone)]
struct Zone {
    offset: i32,
    dst: bool,
}

#[derive(Debug, Clone)]
struct Transition {
    when: i64,
    zone: usize,
}

/// Zones and transitions beyond these are no time zone: the longest real ones have a few hundred.
const MOST_ZONES: u64 = 1024;
const MOST_TRANSITIONS: u64 = 1 << 16;
const LONGEST_NAME: u64 = 4096;

/// Offsets in `time.Location`, `time.zone` and `time.zoneTrans`.
///
/// The defaults are those of src/time/zoneinfo.go, go1.16 to 1.27 (`extend` came with 1.16).
#[derive(Debug, Clone)]
pub(super) struct LocationOffsets {
    name: u64,
    zone: u64,
    tx: u64,
    extend: u64,
    cache_start: u64,
    cache_end: u64,
    cache_zone: u64,
}

impl LocationOffsets {
    /// What the binary says of `time.Location`, else the documented offsets.
    pub fn of(types: &dyn TypeSource) -> LocationOffsets {
        let fields = match types.by_name("time.Location").ok().flatten().and_then(|id| types.load(id).ok()) {
            Some(ty) => match &ty.shape {
                Shape::Struct(fields) => fields.clone(),
                _ => Vec::new(),
            },
            None => Vec::new(),
        };
        let offset = |name: &str, usual: u64| {
            fields.iter().find(|field| &*field.name == name).map_or(usual, |field| field.offset)
        };
        LocationOffsets {
            name: offset("name", 0),
            zone: offset("zone", 16),
            tx: offset("tx", 40),
            extend: offset("extend", 64),
            cache_start: offset("cacheStart", 80),
            cache_end: offset("cacheEnd", 88),
            cache_zone: offset("cacheZone", 96),
        }
    }
}

impl Location {
    /// Reads the `time.Location` at `address`; absurd lengths are reported as unreadable memory.
    pub fn read(memory: &dyn Memory, at: &LocationOffsets, address: u64) -> Result<Location, MemoryError> {
        let absurd = || MemoryError { address, place: memory.place() };
        let slice = |offset: u64, most: u64, size: u64| -> Result<_, MemoryError> {
            let header = address.checked_add(offset).ok_or_else(absurd)?;
            let start = memory.u64(header)?;
            let len = memory.u64(header.checked_add(8).ok_or_else(absurd)?)?;
            if len > most {
                return Err(absurd());
            }
            memory.bytes(start, (len * size) as usize)
        };
        let text = |offset: u64| -> Result<String, MemoryError> {
            Ok(String::from_utf8_lossy(&slice(offset, LONGEST_NAME, 1)?).into_owned())
        };
        let word = |offset: u64| memory.u64(address.checked_add(offset).ok_or_else(absurd)?);
        // zone: name string, offset int, isDST bool. zoneTrans: when int64, index uint8, two bools.
        let zones = slice(at.zone, MOST_ZONES, 32)?.chunks_exact(32).map(zone).collect();
        let transitions = slice(at.tx, MOST_TRANSITIONS, 16)?
            .chunks_exact(16)
            .map(|bytes| Transition { when: word_at(bytes, 0) as i64, zone: bytes[8].into() })
            .collect();
        let cache = match word(at.cache_zone)? {
            0 => None,
            cached => Some((
                word(at.cache_start)? as i64,
                word(at.cache_end)? as i64,
                zone(&memory.bytes(cached, 32)?).offset,
            )),
        };
        Ok(Location { name: text(at.name)?, zones, transitions, extend: text(at.extend)?, cache })
    }

    /// The name that `%#v` shows. The target's own zone has none before its first use.
    pub fn name(&self) -> &str {
        if self.name.is_empty() {
            "Local"
        } else {
            &self.name
        }
    }

    /// Seconds east of UTC at `unix`, as src/time/zoneinfo.go `Location.lookup` (go1.21 to 1.27) finds them.
    pub fn offset(&self, unix: i64) -> i32 {
        match self.cache {
            Some((start, end, offset)) if !self.zones.is_empty() && start <= unix && unix < end => return offset,
            _ => {}
        }
        let after = self.transitions.partition_point(|transition| transition.when <= unix);
        let Some(last) = after.checked_sub(1) else {
            return self.zones.get(self.first_zone()).map_or(0, |zone| zone.offset);
        };
        if after == self.transitions.len() && !self.zones.is_empty() {
            if let Some(offset) = posix_offset(&self.extend, unix) {
                return offset;
            }
        }
        self.zones.get(self.transitions[last].zone).map_or(0, |zone| zone.offset)
    }

    /// `Location.lookupFirstZone`: the zone before the first transition.
    fn first_zone(&self) -> usize {
        if self.transitions.iter().all(|transition| transition.zone != 0) {
            return 0;
        }
        let standard = |zone: &Zone| !zone.dst;
        let first = self.transitions.first().map_or(0, |transition| transition.zone);
        if self.zones.get(first).is_some_and(|zone| zone.dst) {
            if let Some(earlier) = self.zones[..first].iter().rposition(standard) {
                return earlier;
            }
        }
        self.zones.iter().position(standard).unwrap_or(0)
    }
}

fn zone(bytes: &[u8]) -> Zone {
    Zone { offset: word_at(bytes, 16) as i32, dst: bytes.get(24).is_some_and(|&dst| dst != 0) }
}

/// The little-endian word at `offset`, 0 beyond the end.
pub(super) fn word_at(bytes: &[u8], offset: usize) -> u64 {
    let word = offset.checked_add(8).and_then(|end| bytes.get(offset..end)).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_le_bytes)
}

/// Seconds east of UTC at `unix` by a POSIX TZ rule such as `EST5EDT,M3.2.0,M11.1.0`; `None` when the
/// rule is malformed. Agrees with src/time/zoneinfo.go `tzset`, go1.21 to 1.27.
pub(super) fn posix_offset(rule: &str, unix: i64) -> Option<i32> {
    let mut text = Posix(rule.as_bytes());
    text.name()?;
    let standard = -text.offset()?;
    if matches!(text.0.first(), None | Some(b',')) {
        return i32::try_from(standard).ok();
    }
    text.name()?;
    let summer = match text.0.first() {
        None | Some(b',') => standard + 3600,
        _ => -text.offset()?,
    };
    if text.0.is_empty() {
        text = Posix(b",M3.2.0,M11.1.0");
    }
    if !text.skip(b',') && !text.skip(b';') {
        return None;
    }
    let start = text.rule()?;
    if !text.skip(b',') {
        return None;
    }
    let end = text.rule()?;
    if !text.0.is_empty() {
        return None;
    }
    let (year, ..) = civil_from_days(unix.div_euclid(DAY));
    let second_of_year = unix - days_before_year(year) * DAY;
    let (starts, ends) = (start.second(year) - standard, end.second(year) - summer);
    let in_summer = if ends < starts {
        second_of_year < ends || second_of_year >= starts
    } else {
        second_of_year >= starts && second_of_year < ends
    };
    i32::try_from(if in_summer { summer } else { standard }).ok()
}

/// What is left of a POSIX TZ rule.
struct Posix<'a>(&'a [u8]);

enum Day {
    /// Day 1 to 365; 29 February is never counted.
    Julian(i64),
    /// Day 0 to 365.
    OfYear(i64),
    /// Day `day` (0 is Sunday) of week `week` (5 is the last) of a month.
    OfMonth { month: i64, week: i64, day: i64 },
}

struct Change {
    day: Day,
    second: i64,
}

impl Posix<'_> {
    fn skip(&mut self, byte: u8) -> bool {
        let found = self.0.first() == Some(&byte);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    /// A zone name: three or more letters, or anything within `<>`.
    fn name(&mut self) -> Option<()> {
        let len = if self.0.first() == Some(&b'<') {
            self.0.iter().position(|&byte| byte == b'>')? + 1
        } else {
            let end = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b',' | b'-' | b'+');
            self.0.iter().position(end).unwrap_or(self.0.len())
        };
        if self.0[0..len].len() < 3 && !self.0.starts_with(b"<") {
            return None;
        }
        self.0 = &self.0[len..];
        Some(())
    }

    fn number(&mut self, least: i64, most: i64) -> Option<i64> {
        let len = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = self.0.get(..len).filter(|digits| (1..=9).contains(&digits.len()))?;
        let value = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
        self.0 = &self.0[len..];
        (least..=most).contains(&value).then_some(value)
    }

    /// `[+-]hh[:mm[:ss]]` in seconds.
    fn offset(&mut self) -> Option<i64> {
        let negative = self.skip(b'-');
        if !negative {
            self.skip(b'+');
        }
        let mut seconds = self.number(0, 24 * 7)? * 3600;
        if self.skip(b':') {
            seconds += self.number(0, 59)? * 60;
            if self.skip(b':') {
                seconds += self.number(0, 59)?;
            }
        }
        Some(if negative { -seconds } else { seconds })
    }

    fn rule(&mut self) -> Option<Change> {
        let day = if self.skip(b'J') {
            Day::Julian(self.number(1, 365)?)
        } else if self.skip(b'M') {
            let month = self.number(1, 12)?;
            let week = self.skip(b'.').then(|| self.number(1, 5))??;
            let day = self.skip(b'.').then(|| self.number(0, 6))??;
            Day::OfMonth { month, week, day }
        } else {
            Day::OfYear(self.number(0, 365)?)
        };
        let second = if self.skip(b'/') { self.offset()? } else { 2 * 3600 };
        Some(Change { day, second })
    }
}

impl Change {
    /// Second of `year` by the local clock.
    fn second(&self, year: i64) -> i64 {
        let day = match self.day {
            Day::Julian(day) => day - 1 + i64::from(is_leap(year) && day >= 60),
            Day::OfYear(day) => day,
            Day::OfMonth { month, week, day } => {
                let (first, len) = month_of_year(month, year);
                // 1 January 1970 was a Thursday.
                let weekday = (days_before_year(year) + first + 4).rem_euclid(7);
                let mut of_month = (day - weekday).rem_euclid(7) + (week - 1) * 7;
                while of_month >= len {
                    of_month -= 7;
                }
                first + of_month
            }
        };
        day * DAY + self.second
    }
}

/// Day of the year on which a month begins, and its length in days.
fn month_of_year(month: i64, year: i64) -> (i64, i64) {
    let lengths = [31, 28 + i64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let before = (month - 1).clamp(0, 11) as usize;
    (lengths[..before].iter().sum(), lengths[before])
}
