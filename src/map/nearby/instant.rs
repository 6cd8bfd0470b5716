//! `time.Time` and `netip.Addr` keys: values that mean the same, but that `==` tells apart.

use super::{Closeness, Relation};
use crate::map::keys::Keys;
use crate::types::{Field, GoType};
use crate::value::{GoTime, TimeOffsets};
use byteorder::{ByteOrder, LittleEndian as LE};

/// A quarter of an hour: no zone is off by less.
const QUARTER: i64 = 900;
/// The farthest that two zones are apart.
const WIDEST: i64 = 26 * 3600;
/// Instants up to so many seconds apart are near.
const NEAR: i64 = 16;
/// A second.
const NANOSECONDS: i128 = 1_000_000_000;

/// The words of a `time.Time`.
pub struct Instant {
    offsets: TimeOffsets,
    words: [u64; 3],
}

impl Instant {
    /// The time in `value`; `None` when `ty` is no `time.Time`.
    pub fn of(ty: &GoType, fields: &[Field], value: &[u8]) -> Option<Instant> {
        let offsets = TimeOffsets::of(ty, fields)?;
        let words = words(&offsets, value)?;
        Some(Instant { offsets, words })
    }

    /// In RFC 3339, UTC.
    pub fn describe(&self) -> String {
        let mut text = Vec::new();
        GoTime::utc(self.words[0], self.words[1] as i64).push_rfc3339(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Whether all words are those in `stored`, as `==` has it.
    pub fn is(&self, stored: &[u8]) -> bool {
        words(&self.offsets, stored) == Some(self.words)
    }

    /// Whether it is the zero Time.
    pub fn is_zero(&self) -> bool {
        self.words == [0; 3]
    }

    /// How near a different time is.
    pub fn compare(&self, keys: &Keys<'_>, stored: &[u8], tell: bool) -> Option<Closeness> {
        let stored = words(&self.offsets, stored)?;
        let [ours, theirs] = [&self.words, &stored].map(|words| GoTime::utc(words[0], words[1] as i64));
        let instant = |time: &GoTime| i128::from(time.unix) * NANOSECONDS + i128::from(time.nanosecond);
        let apart = instant(&theirs) - instant(&ours);
        let seconds = theirs.unix.saturating_sub(ours.unix);
        let other_place = stored[2] != self.words[2];
        let near =
            |distance, detail: &dyn Fn() -> String| Some(Closeness::new(Relation::StructField, distance, detail, tell));
        if apart == 0 {
            return near(55, &|| {
                format!("the same instant, which Equal finds and == does not: {}", self.differences(keys, &stored))
            });
        }
        if apart.abs() < NANOSECONDS {
            return near(150, &|| format!("{:+} s", apart as f64 / NANOSECONDS as f64));
        }
        let is_shifted = other_place && theirs.nanosecond == ours.nanosecond && seconds.abs() <= WIDEST;
        if is_shifted && seconds % QUARTER == 0 {
            return near(160, &|| {
                let hours = seconds as f64 / 3600.0;
                format!("{hours:+} h, as if one clock were read in two zones: {}", self.differences(keys, &stored))
            });
        }
        match seconds.abs() <= NEAR {
            true => near(210 + seconds.unsigned_abs() as u32, &|| format!("{:+} s", apart as f64 / NANOSECONDS as f64)),
            false => None,
        }
    }

    fn differences(&self, keys: &Keys<'_>, stored: &[u64; 3]) -> String {
        let mut differences = Vec::new();
        match (GoTime::is_monotonic(stored[0]), GoTime::is_monotonic(self.words[0])) {
            (true, false) => differences.push("a monotonic clock reading is stored with it, none was asked for".into()),
            (false, true) => differences.push("no monotonic clock reading is stored, one was asked for".into()),
            (true, true) if stored[1] != self.words[1] => differences.push("two monotonic clock readings".into()),
            _ => {}
        }
        if stored[2] != self.words[2] {
            let place = |address| location(keys, address);
            differences.push(match (place(stored[2]), place(self.words[2])) {
                (a, b) if a == b => format!("two *Location for {a}"),
                (a, b) => format!("location {a} is stored, {b} asked for"),
            });
        }
        differences.join("; ")
    }
}

fn words(offsets: &TimeOffsets, value: &[u8]) -> Option<[u64; 3]> {
    let word = |at: usize| value.get(at..at + 8).map(LE::read_u64);
    Some([word(offsets.wall)?, word(offsets.ext)?, word(offsets.loc)?])
}

/// The name in the `time.Location` at this address: its first field (src/time/zoneinfo.go, go1.21 to 1.27).
fn location(keys: &Keys<'_>, address: u64) -> String {
    const LONGEST: u64 = 256;
    if address == 0 {
        return "UTC".into();
    }
    let name = || {
        let (data, len) = (keys.memory().u64(address).ok()?, keys.memory().u64(address.checked_add(8)?).ok()?);
        let name = keys.memory().bytes(data, len.min(LONGEST) as usize).ok()?;
        Some(String::from_utf8_lossy(&name).into_owned()).filter(|name| !name.is_empty())
    };
    name().unwrap_or_else(|| format!("at {address:#x}"))
}

/// What a `netip.Addr` with the same bits and another `z` says: hi and lo first, then z (src/net/netip/netip.go).
pub fn addresses(ty: &GoType, wanted: &[u8], stored: &[u8], tell: bool) -> Option<Closeness> {
    if &*ty.name != "net/netip.Addr" || wanted.len() != 24 || stored.len() < 24 || wanted[..16] != stored[..16] {
        return None;
    }
    let (hi, lo) = (LE::read_u64(wanted), LE::read_u64(&wanted[8..]));
    let detail = || match (hi, lo >> 32) {
        (0, 0xffff) => {
            let [a, b, c, d] = (lo as u32).to_be_bytes();
            let (plain, mapped) = (format!("{a}.{b}.{c}.{d}"), format!("::ffff:{a}.{b}.{c}.{d}"));
            format!("{plain} and {mapped} (IPv4-mapped IPv6) are different addresses to ==; Unmap makes them one")
        }
        _ => "the same address with another zone".to_string(),
    };
    (wanted[16..24] != stored[16..24]).then(|| Closeness::new(Relation::StructField, 55, detail, tell))
}
