//! Dumps that a logger wrote into one line, with their line ends as escapes: `msg="…\ngoroutine 1 [running]:\n…"` of
//! logfmt and klog, a field of a JSON object, strings inside such strings, and `#012` of rsyslog.

use memchr::{memchr, memchr2, memmem::Finder};
use std::sync::LazyLock;

/// Strings inside strings that are opened.
const MAX_LEVELS: u32 = 4;
/// The word in every line by which a dump is recognised.
const WORD: &[u8] = b"goroutine";
static NEEDLE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(WORD));

/// What one line held.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Escaped {
    /// The dump's lines.
    pub text: Vec<u8>,
    /// A quoted string goes on beyond the end of the line.
    pub cut: bool,
}

/// The dumps escaped in `line`, where `anchor` recognises one of their lines.
pub(super) fn find(line: &[u8], anchor: fn(&[u8]) -> Option<usize>) -> Option<Escaped> {
    let escapes = memchr2(b'\\', b'#', line).is_some();
    if !escapes || NEEDLE.find(line).is_none() || anchor(line).is_some() {
        return None;
    }
    // rsyslog escapes controls only: all else is as the program wrote it.
    let text = replaced(line, b'#', control);
    if is_dump(&text, anchor) {
        return Some(Escaped { text, cut: false });
    }
    let mut found = Escaped::default();
    open(line, anchor, MAX_LEVELS, &mut found);
    (!found.text.is_empty()).then_some(found)
}

/// Opens each string of `line` with the word in it, and what is not quoted.
fn open(line: &[u8], anchor: fn(&[u8]) -> Option<usize>, levels: u32, found: &mut Escaped) {
    let mut from = 0;
    while let Some(at) = NEEDLE.find(line.get(from..).unwrap_or_default()).map(|at| from + at) {
        let (string, next, closed) = string_around(line, from, at);
        let (text, before) = (unescape(string), found.text.len());
        if is_dump(&text, anchor) {
            found.text.extend_from_slice(&text);
            found.text.push(b'\n');
        } else if levels > 1 {
            let escaped = text.split(|&b| b == b'\n').filter(|inner| memchr(b'\\', inner).is_some());
            escaped.for_each(|inner| open(inner, anchor, levels - 1, found));
        }
        found.cut |= !closed && found.text.len() > before;
        from = next;
    }
}

/// Whether it has several lines, and one that begins a goroutine or a profile.
fn is_dump(text: &[u8], anchor: fn(&[u8]) -> Option<usize>) -> bool {
    memchr(b'\n', text).is_some() && text.split(|&b| b == b'\n').any(|line| anchor(line).is_some())
}

/// The quoted string around `at`, or what is not quoted there; where to go on, and whether the string ends in this line.
fn string_around(line: &[u8], from: usize, at: usize) -> (&[u8], usize, bool) {
    let part = |start: usize, end: usize| line.get(start..end).unwrap_or_default();
    match (opening_quote(line, from, at), closing_quote(line, at)) {
        (Some(start), Some(end)) => (part(start, end), end + 1, true),
        (Some(start), None) => (part(start, line.len()), line.len(), false),
        // The next quote opens another field, unless the dump itself goes on there.
        (None, Some(end)) if memchr(b'\\', part(at, end)).is_none() => {
            (part(from, end), end.max(at + WORD.len()), true)
        }
        (None, _) => (part(from, line.len()), line.len(), true),
    }
}

/// Where the quoted string around `at` begins, behind its quote; quotes before `from` do not count.
fn opening_quote(line: &[u8], from: usize, at: usize) -> Option<usize> {
    let mut start = None;
    let mut here = from;
    while let Some(quote) = closing_quote(line.get(..at)?, here) {
        start = match start {
            None => Some(quote + 1),
            Some(_) => None,
        };
        here = quote + 1;
    }
    start
}

/// The next quote from `from` on that is no part of an escape.
fn closing_quote(line: &[u8], from: usize) -> Option<usize> {
    let mut here = from;
    loop {
        let at = here + memchr2(b'"', b'\\', line.get(here..)?)?;
        match line.get(at) {
            Some(b'"') => return Some(at),
            _ => here = at + 2,
        }
    }
}

/// The text with one level of escapes taken out: those of Go and JSON.
fn unescape(text: &[u8]) -> Vec<u8> {
    replaced(text, b'\\', escape)
}

/// The text with what follows each `mark` replaced, where `meaning` takes it and returns its length.
fn replaced(text: &[u8], mark: u8, meaning: fn(&[u8], &mut Vec<u8>) -> Option<usize>) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr(mark, rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match meaning(rest, &mut out) {
            Some(len) => rest = rest.get(len..).unwrap_or_default(),
            None => out.push(mark),
        }
    }
    out.extend_from_slice(rest);
    out
}

/// A control character of rsyslog: `012`.
fn control(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    match text {
        [b'0', b'0'..=b'3', ..] => octal(text, out),
        _ => None,
    }
}

/// Pushes what the escape behind a backslash means; returns its length, or `None` if it is none.
fn escape(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let plain = match text.first()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        b'f' => 12,
        b'v' => 11,
        &quoted @ (b'"' | b'\\' | b'/' | b'\'') => quoted,
        b'x' => {
            out.push(u8::try_from(hex(text.get(1..3)?)?).ok()?);
            return Some(3);
        }
        b'u' => return utf16(text, out),
        b'U' => {
            let c = char::from_u32(hex(text.get(1..9)?)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(9);
        }
        b'0'..=b'3' => return octal(text, out),
        _ => return None,
    };
    out.push(plain);
    Some(1)
}

/// `uXXXX`, or the two that JSON has for a character beyond U+FFFF.
fn utf16(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let first = hex(text.get(1..5)?)?;
    let low = || hex(text.get(5..)?.strip_prefix(b"\\u")?.get(..4)?).filter(|low| (0xdc00..0xe000).contains(low));
    let (code, len) = match first {
        0xd800..=0xdbff => (0x1_0000 + ((first - 0xd800) << 10) + (low()? - 0xdc00), 11),
        other => (other, 5),
    };
    out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    Some(len)
}

/// Three octal digits.
fn octal(text: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let digits = text.get(..3).filter(|digits| digits.iter().all(|b| (b'0'..=b'7').contains(b)))?;
    let value = digits.iter().fold(0u32, |value, b| value * 8 + u32::from(b - b'0'));
    out.push(u8::try_from(value).ok()?);
    Some(3)
}

fn hex(digits: &[u8]) -> Option<u32> {
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    u32::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| is_hex)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::{find, unescape};

    fn anchor(line: &[u8]) -> Option<usize> {
        memchr::memmem::find(line, b"goroutine 1 [").filter(|_| line.ends_with(b":"))
    }

    fn text(line: &str) -> Option<String> {
        find(line.as_bytes(), anchor).map(|found| String::from_utf8(found.text).unwrap())
    }

    #[test]
    fn strings_inside_strings_are_opened() {
        let plain = "boom\ngoroutine 1 [running]:\nmain.f(\"x\")\n\t/a.go:1 +0x1\n";
        let once = format!("{plain:?}");
        let twice = format!("{:?}", format!("{{\"msg\":{once}}}"));
        let thrice = format!("{:?}", format!("{{\"log\":{twice}}}"));
        for line in [format!("t=\"12:00\" msg={once} n=1"), format!("I0102 x] {twice}"), format!("a {thrice} \"b\"")] {
            assert_eq!(text(&line).as_deref(), Some(&*format!("{plain}\n")), "{line}");
        }
        let syslog = r#"app: #7 "a\n" goroutine 1 [running]:#012main.f()#012#011/a.go:1 +0x1"#;
        assert_eq!(text(syslog).unwrap(), "app: #7 \"a\\n\" goroutine 1 [running]:\nmain.f()\n\t/a.go:1 +0x1");
        assert_eq!(text(r"msg=goroutine 1 [select]:\nmain.f()").unwrap(), "msg=goroutine 1 [select]:\nmain.f()\n");
    }

    #[test]
    fn what_holds_no_dump_is_left_alone() {
        for line in
            ["goroutine 1 [x \\n]:", r#"msg="a\ngoroutine 2 [x]""#, r#"{"a":"b\n"}"#, "goroutine", r"\", r#""\"#]
        {
            assert_eq!(text(line), None, "{line}");
        }
    }

    #[test]
    fn a_string_that_is_not_closed_is_cut() {
        let found = find(br#"msg="goroutine 1 [running]:\nmain.f()\n\t/a.g"#, anchor).unwrap();
        assert!(found.cut);
        assert!(!find(br#"msg="goroutine 1 [running]:\nmain.f()""#, anchor).unwrap().cut);
    }

    #[test]
    fn escapes_of_go_and_json() {
        assert_eq!(unescape(br#"\u00e9\ud83d\ude00\U0001f600\x1b\"\\\/\q\t9"#), "é😀😀\u{1b}\"\\/\\q\t9".as_bytes());
        assert_eq!(unescape(br"\ud83d\u12#9#123\"), br"\ud83d\u12#9#123\");
    }
}
