//! Values as JSON: as `encoding/json` would write them, and `{"$…":…}` where JSON has no form.

use super::float::{self, Rule};
use super::plan::{FieldPlan, Plan};
use super::sink::{drain_if_full, Drain, Sink};
use super::time::GoTime;
use crate::Result;
use base64::Engine;
use std::fmt::Display;
use std::io::Write;

/// Appends values as JSON to a buffer that the caller flushes between values.
///
/// Beyond the forms that every user sees, a string cut by a limit is `{"$prefix":"abc","$len":1000}`
/// (`$bytes` instead of `$prefix` for a `[]byte`), a list cut by one ends with `{"$omitted":90}`, and a pointer that
/// one left alone is `{"$ptr":"0x…","$cut":"follow-limit"}`.
pub struct Json<'b> {
    /// What was written so far.
    pub out: &'b mut Vec<u8>,
    drain: Option<Drain<'b>>,
}

impl<'b> Json<'b> {
    /// Appends to `out`.
    pub fn new(out: &'b mut Vec<u8>) -> Json<'b> {
        Json { out, drain: None }
    }

    /// Appends to `out`, which `drain` empties within long values too.
    pub fn draining(out: &'b mut Vec<u8>, drain: Drain<'b>) -> Json<'b> {
        Json { out, drain: Some(drain) }
    }

    #[inline]
    fn put(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    fn number(&mut self, number: impl itoa::Integer) {
        self.out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    /// A float with digits, else `{"$float":"NaN"}`, with its bits if they are not those of `math.NaN`.
    fn float(&mut self, value: f64, unusual: Option<u64>, push: impl FnOnce(&mut Vec<u8>)) {
        match float::special(value) {
            None => push(self.out),
            Some(name) => {
                self.put(b"{\"$float\":\"");
                self.put(name);
                if let Some(bits) = unusual {
                    let _ = write!(self.out, "\",\"$bits\":\"{bits:#x}");
                }
                self.put(b"\"}");
            }
        }
    }

    fn address(&mut self, member: &str, address: u64) {
        // Writing to a Vec cannot fail.
        let _ = write!(self.out, "{{\"{member}\":\"{address:#x}\"");
    }

    fn base64(&mut self, bytes: &[u8]) {
        self.put(b"{\"$bytes\":\"");
        let start = self.out.len();
        let engine = base64::engine::general_purpose::STANDARD;
        let len = base64::encoded_len(bytes.len(), true).unwrap_or(0);
        self.out.resize(start + len, 0);
        let written = engine.encode_slice(bytes, &mut self.out[start..]).unwrap_or(0);
        self.out.truncate(start + written);
        self.put(b"\"");
    }

    fn length(&mut self, len: u64) {
        self.put(b",\"$len\":");
        self.number(len);
    }

    fn separate(&mut self, index: u64) {
        if index > 0 {
            self.out.push(b',');
        }
    }

    fn omitted(&mut self, index: u64, omitted: u64) {
        if omitted > 0 {
            self.separate(index);
            self.put(b"{\"$omitted\":");
            self.number(omitted);
            self.put(b"}");
        }
    }
}

impl Sink for Json<'_> {
    fn bool(&mut self, _plan: &Plan, value: bool) {
        self.put(if value { b"true" } else { b"false" });
    }

    #[inline]
    fn int(&mut self, _plan: &Plan, value: i64) {
        self.number(value);
    }

    #[inline]
    fn uint(&mut self, _plan: &Plan, value: u64) {
        self.number(value);
    }

    fn float32(&mut self, _plan: &Plan, value: f32) {
        self.float(value.into(), float::unusual_nan32(value), |out| float::push_f32(out, value, Rule::Json));
    }

    fn float64(&mut self, _plan: &Plan, value: f64) {
        self.float(value, float::unusual_nan64(value), |out| float::push_f64(out, value, Rule::Json));
    }

    fn complex64(&mut self, plan: &Plan, re: f32, im: f32) {
        self.put(b"{\"$complex\":[");
        self.float32(plan, re);
        self.put(b",");
        self.float32(plan, im);
        self.put(b"]}");
    }

    fn complex128(&mut self, plan: &Plan, re: f64, im: f64) {
        self.put(b"{\"$complex\":[");
        self.float64(plan, re);
        self.put(b",");
        self.float64(plan, im);
        self.put(b"]}");
    }

    fn string(&mut self, _plan: &Plan, bytes: &[u8], len: u64) {
        if bytes.len() as u64 == len {
            return push_string(self.out, bytes);
        }
        // A limit may have cut a character in two.
        let whole = match std::str::from_utf8(bytes) {
            Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
            _ => bytes,
        };
        if std::str::from_utf8(whole).is_ok() {
            self.put(b"{\"$prefix\":");
            push_string(self.out, whole);
        } else {
            self.base64(bytes);
        }
        self.length(len);
        self.put(b"}");
    }

    fn bytes(&mut self, _plan: &Plan, bytes: &[u8], len: u64) {
        self.base64(bytes);
        if bytes.len() as u64 != len {
            self.length(len);
        }
        self.put(b"}");
    }

    fn nil(&mut self, _plan: &Plan) {
        self.put(b"null");
    }

    fn pointer(&mut self, _plan: &Plan, address: u64) {
        self.address("$ptr", address);
        self.put(b"}");
    }

    fn unfollowed(&mut self, _plan: &Plan, address: u64) {
        self.address("$ptr", address);
        self.put(b",\"$cut\":\"follow-limit\"}");
    }

    fn begin_pointee(&mut self, _plan: &Plan, _elem: &Plan, address: u64) {
        self.address("$ptr", address);
        self.put(b",\"$elem\":");
    }

    fn end_pointee(&mut self, _plan: &Plan, _elem: &Plan) {
        self.put(b"}");
    }

    fn func(&mut self, _plan: &Plan, _closure: u64, name: &str) {
        self.put(b"{\"$func\":");
        push_string(self.out, name.as_bytes());
        self.put(b"}");
    }

    fn chan(&mut self, _plan: &Plan, address: u64, len: u64, cap: u64) {
        self.address("$chan", address);
        self.put(b",\"len\":");
        self.number(len);
        self.put(b",\"cap\":");
        self.number(cap);
        self.put(b"}");
    }

    fn time(&mut self, _plan: &Plan, time: &GoTime) {
        self.put(b"{\"$time\":\"");
        time.push_rfc3339(self.out);
        self.put(b"\"}");
    }

    fn begin_interface(&mut self, _plan: &Plan, dynamic: &Plan) {
        self.put(b"{\"$type\":");
        self.put(dynamic.json_name());
        self.put(b",\"$value\":");
    }

    fn end_interface(&mut self, _plan: &Plan, _dynamic: &Plan) {
        self.put(b"}");
    }

    fn begin_struct(&mut self, _plan: &Plan) {
        self.put(b"{");
    }

    fn field(&mut self, _plan: &Plan, field: &FieldPlan, index: usize) {
        self.separate(index as u64);
        self.put(&field.json);
    }

    fn end_struct(&mut self, _plan: &Plan) {
        self.put(b"}");
    }

    fn begin_list(&mut self, _plan: &Plan) {
        self.put(b"[");
    }

    fn item(&mut self, index: u64) {
        self.separate(index);
    }

    fn end_list(&mut self, index: u64, omitted: u64) {
        self.omitted(index, omitted);
        self.put(b"]");
    }

    fn begin_map(&mut self, _plan: &Plan) {
        self.put(b"[");
    }

    fn key(&mut self, index: u64) {
        self.separate(index);
        self.put(b"{\"key\":");
    }

    fn elem(&mut self) {
        self.put(b",\"elem\":");
    }

    fn end_entry(&mut self) {
        self.put(b"}");
    }

    fn end_map(&mut self, index: u64, omitted: u64, problem: Option<&dyn Display>) {
        self.omitted(index, omitted);
        if let Some(problem) = problem {
            self.separate(index + omitted);
            self.unreadable(problem);
        }
        self.put(b"]");
    }

    fn pause(&mut self) -> Result<()> {
        drain_if_full(self.out, &mut self.drain)
    }

    fn unreadable(&mut self, why: &dyn Display) {
        self.put(b"{\"$unreadable\":");
        push_string(self.out, why.to_string().as_bytes());
        self.put(b"}");
    }
}

/// Appends a JSON string, or `{"$bytes":"base64"}` when `bytes` are not UTF-8.
pub fn push_string(out: &mut Vec<u8>, bytes: &[u8]) {
    if std::str::from_utf8(bytes).is_err() {
        let mut json = Json::new(out);
        json.base64(bytes);
        return json.put(b"}");
    }
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut rest = bytes;
    while let Some(at) = first_special(rest) {
        out.extend_from_slice(&rest[..at]);
        push_escape(out, rest[at]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn push_escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let _ = write!(out, "\\u{byte:04x}");
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Index of the first byte that JSON must escape, found eight bytes at a time.
fn first_special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES << 7;
    let mut chunks = bytes.chunks_exact(8);
    let mut at = 0;
    for chunk in &mut chunks {
        let word = word(chunk);
        let zero_byte = |x: u64| x.wrapping_sub(ONES) & !x;
        let found = zero_byte(word ^ (ONES * b'"' as u64))
            | zero_byte(word ^ (ONES * b'\\' as u64))
            | (word.wrapping_sub(ONES * 0x20) & !word);
        if found & HIGH != 0 {
            // The lowest set bit is exact; borrows only spoil higher ones.
            return Some(at + ((found & HIGH).trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    let special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    chunks.remainder().iter().position(special).map(|i| at + i)
}

fn word(chunk: &[u8]) -> u64 {
    chunk.try_into().map_or(0, u64::from_le_bytes)
}
