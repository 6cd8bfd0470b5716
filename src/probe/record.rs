//! One hit, from the record that the kernel wrote.

use super::functions::{KeyPlace, ProbePoint, ReturnPoint};
use super::tracefs::PointedKey;

/// One call of a probed function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub ns: u64,
    /// Thread id.
    pub thread: u32,
    /// Goroutine id; 0 on a stack of the runtime's own.
    pub goroutine: u64,
    /// Index of the [`ProbePoint`] in the plan.
    pub point: usize,
    /// Address of the map's type descriptor; 0 for a `sync.Map`.
    pub map_type: u64,
    /// Address of the map's header (or of the `sync.Map`); 0 for a nil map.
    pub map: u64,
    /// Entries of the map just before, of a runtime's map whose outcome is asked for; else 0.
    pub count: u64,
    /// The key, as far as it was fetched.
    pub key: Key,
    /// Link-time return addresses, innermost first; from the second on only right where the caller keeps frame
    /// pointers, as Go's does.
    pub callers: [u64; 3],
}

/// One return of a function that a plan names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Return {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub ns: u64,
    /// Thread id.
    pub thread: u32,
    /// Goroutine id; 0 on a stack of the runtime's own.
    pub goroutine: u64,
    /// Index of the [`ReturnPoint`] in the plan.
    pub point: usize,
    /// The result that tells the outcome; a pointer into the program as a link-time address.
    pub result: u64,
    /// Where [`Tells::Count`](super::Tells) looks for the map's address, what lies there.
    pub map: u64,
    /// The first word of what is at that address.
    pub count: u64,
}

/// What an engine sees, in the order of time within a goroutine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A call.
    Call(Hit),
    /// A return.
    Return(Return),
    /// Records may have been lost between these two moments; told before all that was seen since the first.
    Gap(u64, u64),
}

/// A key at the moment of the call. Bytes are as many as the session fetches; a reader who knows the key's size
/// cuts them. Bytes that could not be read are zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The operation has no key.
    None,
    /// The key's own bytes, 4 or 8 of them, from a register.
    Value(Vec<u8>),
    /// What the pointer to the key points at.
    Pointer { address: u64, bytes: Vec<u8> },
    /// A string; `bytes` is its beginning when `len` is greater.
    String { address: u64, len: u64, bytes: Vec<u8> },
    /// An interface: type word, data word, the first 16 bytes that the data word points at, and the bytes that
    /// the first of these points at (the text, when the value is a string).
    Interface { type_word: u64, data: u64, value: Vec<u8>, behind: Vec<u8> },
}

/// Where each field is in a raw record, read from the event's `format` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordLayout {
    address: usize,
    map_type: usize,
    map: usize,
    a: usize,
    n: usize,
    count: Option<usize>,
    goroutine: usize,
    callers: [usize; 3],
    words: Vec<usize>,
}

/// The number of the event that wrote a raw record: its first field (`struct trace_entry`, include/linux/trace_events.h).
pub(super) fn event_of(raw: &[u8]) -> Option<u64> {
    Some(u16::from_le_bytes(raw.get(..2)?.try_into().ok()?).into())
}

/// Where the 64-bit field `name` is, by lines such as `field:u64 goid; offset:48; size:8; signed:0;`.
fn offset_in(format: &str, name: &str) -> Option<usize> {
    format.lines().find_map(|line| {
        let mut parts = line.trim().split(';').map(str::trim);
        let declared = parts.next()?.strip_prefix("field:")?.rsplit(' ').next()?;
        let offset = parts.next()?.strip_prefix("offset:")?.parse::<usize>().ok()?;
        let size = parts.next()?.strip_prefix("size:")?;
        (declared == name && size == "8").then_some(offset)
    })
}

fn word_at(raw: &[u8], offset: usize) -> Option<u64> {
    Some(u64::from_le_bytes(raw.get(offset..offset.checked_add(8)?)?.try_into().ok()?))
}

/// Where each field is in the record of a return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReturnLayout {
    address: usize,
    goroutine: usize,
    result: usize,
    map: usize,
    count: usize,
}

impl ReturnLayout {
    /// Reads the event's `format` file; `None` when a field is missing.
    pub fn parse(format: &str) -> Option<ReturnLayout> {
        let offset = |name| offset_in(format, name);
        Some(ReturnLayout {
            address: offset("__probe_ip")?,
            goroutine: offset("goid")?,
            result: offset("r")?,
            map: offset("m")?,
            count: offset("n")?,
        })
    }

    /// The return in `raw`; `None` when it is too short or not from a probe of ours. `points` is sorted by address.
    pub fn of(&self, raw: &[u8], points: &[ReturnPoint], bias: u64) -> Option<Return> {
        let at = |offset: usize| word_at(raw, offset);
        let address = at(self.address)?.wrapping_sub(bias);
        let point = points.binary_search_by_key(&address, |p| p.address).ok()?;
        let result = points.get(point)?.tells.result(at(self.result)?, bias);
        let (goroutine, map, count) = (at(self.goroutine)?, at(self.map)?, at(self.count)?);
        Some(Return { ns: 0, thread: 0, goroutine, point, result, map, count })
    }
}

impl RecordLayout {
    /// Reads the event's `format` file; `None` when a field is missing.
    pub fn parse(format: &str, key_words: usize) -> Option<RecordLayout> {
        let offset = |name: &str| offset_in(format, name);
        Some(RecordLayout {
            address: offset("__probe_ip")?,
            map_type: offset("t")?,
            map: offset("m")?,
            a: offset("a")?,
            n: offset("n")?,
            count: offset("u"),
            goroutine: offset("goid")?,
            callers: [offset("c1")?, offset("c2")?, offset("c3")?],
            words: (0..key_words).map(|i| offset(&format!("w{i}"))).collect::<Option<_>>()?,
        })
    }

    /// The hit in `raw`; `None` when it is too short or not from a probe of ours. `points` is sorted by address;
    /// `bias` is what the loader added to link-time addresses.
    pub fn hit(&self, raw: &[u8], points: &[ProbePoint], bias: u64, pointed: PointedKey) -> Option<Hit> {
        let at = |offset: usize| word_at(raw, offset);
        let address = at(self.address)?.wrapping_sub(bias);
        let index = points.binary_search_by_key(&address, |p| p.address).ok()?;
        let mut bytes = Vec::with_capacity(self.words.len() * 8);
        for offset in &self.words {
            bytes.extend_from_slice(&at(*offset)?.to_le_bytes());
        }
        let mut callers = [0; 3];
        for (caller, offset) in callers.iter_mut().zip(self.callers) {
            *caller = at(offset)?.wrapping_sub(bias);
        }
        Some(Hit {
            ns: 0,
            thread: 0,
            goroutine: at(self.goroutine)?,
            point: index,
            map_type: at(self.map_type)?,
            map: at(self.map)?,
            count: self.count.map_or(Some(0), at)?,
            key: key(points.get(index)?.key, at(self.a)?, at(self.n)?, bytes, pointed),
            callers,
        })
    }
}

/// The key at `place`: `a` and `n` are its register and the next, or what the kernel fetched in their stead; `bytes`
/// is what lies behind them, as far as it was fetched.
pub(super) fn key(place: KeyPlace, a: u64, n: u64, mut bytes: Vec<u8>, pointed: PointedKey) -> Key {
    match (place, pointed) {
        (KeyPlace::None, _) => Key::None,
        (KeyPlace::Value32(_), _) => Key::Value(a.to_le_bytes()[..4].to_vec()),
        (KeyPlace::Value64(_), _) => Key::Value(a.to_le_bytes().to_vec()),
        (KeyPlace::String(_), _) | (KeyPlace::Pointer(_), PointedKey::String) => {
            bytes.truncate(usize::try_from(n).unwrap_or(usize::MAX));
            Key::String { address: a, len: n, bytes }
        }
        (KeyPlace::Interface(_), _) | (KeyPlace::Pointer(_), PointedKey::Interface) => {
            let behind = bytes.split_off(bytes.len().min(16));
            Key::Interface { type_word: a, data: n, value: bytes, behind }
        }
        (KeyPlace::Pointer(_), PointedKey::Bytes) => Key::Pointer { address: a, bytes },
    }
}

#[cfg(test)]
mod tests {
    use super::super::functions::access_point as point;
    use super::*;

    /// What Linux 6.18 says of an event with two key words.
    const FORMAT: &str = "name: mapscope_1_2_0\nID: 1724\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\
        \tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;\n\
        \tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;\n\
        \tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n\
        \tfield:unsigned long __probe_ip;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:u64 t;\toffset:16;\tsize:8;\tsigned:0;\n\
        \tfield:u64 m;\toffset:24;\tsize:8;\tsigned:0;\n\
        \tfield:u64 a;\toffset:32;\tsize:8;\tsigned:0;\n\
        \tfield:u64 n;\toffset:40;\tsize:8;\tsigned:0;\n\
        \tfield:u64 goid;\toffset:48;\tsize:8;\tsigned:0;\n\
        \tfield:u64 c1;\toffset:56;\tsize:8;\tsigned:0;\n\
        \tfield:u64 c2;\toffset:64;\tsize:8;\tsigned:0;\n\
        \tfield:u64 c3;\toffset:72;\tsize:8;\tsigned:0;\n\
        \tfield:u64 w0;\toffset:80;\tsize:8;\tsigned:0;\n\
        \tfield:u64 w1;\toffset:88;\tsize:8;\tsigned:0;\n\n\
        print fmt: \"(%lx) t=%Lu\", REC->__probe_ip, REC->t\n";

    fn record(fields: &[u64]) -> Vec<u8> {
        let head = [0xbc, 0x06, 0, 0, 0xd2, 0x04, 0, 0];
        head.into_iter().chain(fields.iter().flat_map(|f| f.to_le_bytes())).collect()
    }

    const WORDS: [u64; 2] = [u64::from_le_bytes(*b"01234567"), u64::from_le_bytes(*b"89abcdef")];

    fn hit(key: KeyPlace, a: u64, n: u64, pointed: PointedKey) -> Hit {
        let layout = RecordLayout::parse(FORMAT, 2).unwrap();
        let raw = record(&[0x5006, 0x4000, 0xc000, a, n, 7, 0x5100, 0x5200, 0x5300, WORDS[0], WORDS[1]]);
        layout.hit(&raw, &[point(0x906, KeyPlace::None), point(0x1006, key)], 0x4000, pointed).unwrap()
    }

    #[test]
    fn fields_are_found_by_name_and_addresses_lose_the_bias() {
        let hit = hit(KeyPlace::Value64(2), 42, 0, PointedKey::Bytes);
        assert_eq!((hit.point, hit.goroutine, hit.map_type, hit.map), (1, 7, 0x4000, 0xc000));
        assert_eq!(hit.callers, [0x1100, 0x1200, 0x1300]);
        assert_eq!(hit.key, Key::Value(42u64.to_le_bytes().to_vec()));
    }

    #[test]
    fn keys_are_cut_to_what_is_known_of_them() {
        let bytes = b"0123456789abcdef";
        let key = |place, a, n, pointed| hit(place, a, n, pointed).key;
        assert_eq!(key(KeyPlace::None, 0, 0, PointedKey::Bytes), Key::None);
        assert_eq!(key(KeyPlace::Value32(2), u64::MAX - 1, 0, PointedKey::Bytes), Key::Value(vec![254, 255, 255, 255]));
        let short = Key::String { address: 9, len: 3, bytes: b"012".to_vec() };
        assert_eq!(key(KeyPlace::String(2), 9, 3, PointedKey::Bytes), short);
        assert_eq!(key(KeyPlace::Pointer(2), 9, 3, PointedKey::String), short);
        let long = Key::String { address: 9, len: u64::MAX, bytes: bytes.to_vec() };
        assert_eq!(key(KeyPlace::String(2), 9, u64::MAX, PointedKey::Bytes), long);
        assert_eq!(
            key(KeyPlace::Pointer(2), 9, 0, PointedKey::Bytes),
            Key::Pointer { address: 9, bytes: bytes.to_vec() }
        );
        let boxed = Key::Interface { type_word: 9, data: 3, value: bytes.to_vec(), behind: Vec::new() };
        assert_eq!(key(KeyPlace::Interface(1), 9, 3, PointedKey::Bytes), boxed);
    }

    #[test]
    fn short_and_foreign_records_are_no_hits() {
        let layout = RecordLayout::parse(FORMAT, 2).unwrap();
        let points = [point(0x1006, KeyPlace::None)];
        let raw = record(&[0x1006, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for length in 0..raw.len() {
            assert_eq!(layout.hit(&raw[..length], &points, 0, PointedKey::Bytes), None);
        }
        assert!(layout.hit(&raw, &points, 0, PointedKey::Bytes).is_some());
        assert_eq!(layout.hit(&raw, &points, 1, PointedKey::Bytes), None);
        assert_eq!(RecordLayout::parse(FORMAT, 3), None);
        assert_eq!(RecordLayout::parse("", 0), None);
    }
}
