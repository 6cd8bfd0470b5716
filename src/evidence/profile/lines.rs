//! Lines of a dump as the program wrote them, taken out of what a log pipeline wrapped around them.
//!
//! Understood: CRLF; Docker's `json-file` and other one-object-a-line logs (`log`, `message`, `msg`, `textPayload`);
//! the CRI form of Kubernetes (`TIME stderr F text`, `P` for a part of a line); and any prefix of one shape
//! (timestamp, syslog, `docker compose`, `kubectl --prefix`), learned from the first line that can be recognised.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::{memchr, memmem};

use super::counted;

/// A longer line is passed over: no line of a goroutine dump comes near it.
const MAX_LINE: usize = 1 << 20;
const MAX_PREFIX: usize = 256;

/// What a walk over the lines left out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Walked {
    /// Lines over [`MAX_LINE`] bytes.
    pub overlong: u64,
    /// Lines that carried a wrapping or a prefix.
    pub unwrapped: u64,
    /// The input did not end with a line end.
    pub cut: bool,
}

impl Walked {
    /// What a reader should know of the walk, one sentence each.
    pub(super) fn notes(&self) -> impl Iterator<Item = String> {
        let prefixes = || format!("log prefixes were taken off {}", counted(self.unwrapped, "line", "lines"));
        let overlong = || format!("{} over 1 MiB were left out", counted(self.overlong, "line", "lines"));
        [(self.unwrapped > 0).then(prefixes), (self.overlong > 0).then(overlong)].into_iter().flatten()
    }
}

/// Calls `line` with each line of `data`, unwrapped, without its line end. `anchor` says where in a line the
/// recognisable text starts: from it the prefix is learned.
pub(super) fn walk(data: &[u8], anchor: fn(&[u8]) -> Option<usize>, mut line: impl FnMut(&[u8])) -> Walked {
    let mut walked = Walked { cut: data.last().is_some_and(|&b| b != b'\n'), ..Walked::default() };
    let mut unwrapper = Unwrapper { prefix: first_prefix(data, anchor), anchor, partial: Vec::new(), unwrapped: 0 };
    for raw in physical_lines(data) {
        if raw.len() > MAX_LINE {
            walked.overlong += 1;
        } else {
            unwrapper.take(raw, &mut line);
        }
    }
    unwrapper.finish(&mut line);
    walked.unwrapped = unwrapper.unwrapped;
    walked
}

/// The lines of `data` without `\n` and `\r`.
fn physical_lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..end];
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(trim_cr(line))
    })
}

fn trim_cr(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|&b| b != b'\r').map_or(0, |last| last + 1);
    &line[..end]
}

/// The prefix before the first anchor, so that what stands above it (`panic: …`) loses it too.
fn first_prefix(data: &[u8], anchor: fn(&[u8]) -> Option<usize>) -> Option<Prefix> {
    physical_lines(data).filter(|line| line.len() <= MAX_LINE).find_map(|raw| {
        let content = content(raw);
        let text = content.text();
        anchor(text).map(|at| Prefix::of(&text[..at]))
    })?
}

struct Unwrapper {
    prefix: Option<Prefix>,
    anchor: fn(&[u8]) -> Option<usize>,
    partial: Vec<u8>,
    unwrapped: u64,
}

impl Unwrapper {
    fn take(&mut self, raw: &[u8], line: &mut impl FnMut(&[u8])) {
        let content = content(raw);
        if !matches!(content, Content::Plain(_)) {
            self.unwrapped += 1;
        }
        if content.is_part() && self.partial.len() + raw.len() <= MAX_LINE {
            self.partial.extend_from_slice(content.text());
            return;
        }
        if self.partial.is_empty() {
            for text in content.text().split(|&b| b == b'\n') {
                self.emit(trim_cr(text), line);
            }
        } else {
            self.partial.extend_from_slice(content.text());
            self.finish(line);
        }
    }

    fn finish(&mut self, line: &mut impl FnMut(&[u8])) {
        let joined = std::mem::take(&mut self.partial);
        if !joined.is_empty() {
            joined.split(|&b| b == b'\n').for_each(|text| self.emit(trim_cr(text), line));
        }
    }

    fn emit(&mut self, text: &[u8], line: &mut impl FnMut(&[u8])) {
        if let Some(rest) = self.prefix.as_ref().and_then(|prefix| prefix.strip(text)) {
            self.unwrapped += 1;
            return line(&with_tabs(rest));
        }
        match (self.anchor)(text) {
            Some(at) if at > 0 => {
                self.prefix = Prefix::of(&text[..at]).or_else(|| self.prefix.take());
                self.unwrapped += 1;
                line(&text[at..]);
            }
            _ => line(text),
        }
    }
}

/// Syslog writes a tab as `#011`.
fn with_tabs(text: &[u8]) -> Cow<'_, [u8]> {
    static TAB: LazyLock<memmem::Finder<'static>> = LazyLock::new(|| memmem::Finder::new(b"#011"));
    if TAB.find(text).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = TAB.find(rest) {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\t');
        rest = &rest[at + 4..];
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// One physical line by its wrapping.
enum Content<'a> {
    Plain(&'a [u8]),
    /// Text of a CRI line; the flag says that the line goes on.
    Cri(&'a [u8], bool),
    /// Text of a JSON line; the flag says that the line goes on.
    Json(Cow<'a, str>, bool),
}

impl Content<'_> {
    fn text(&self) -> &[u8] {
        match self {
            Content::Plain(text) | Content::Cri(text, _) => text,
            Content::Json(text, _) => text.strip_suffix('\n').unwrap_or(text).as_bytes(),
        }
    }

    fn is_part(&self) -> bool {
        matches!(self, Content::Cri(_, true) | Content::Json(_, true))
    }
}

fn content(raw: &[u8]) -> Content<'_> {
    match raw.first() {
        Some(b'{') if raw.starts_with(b"{\"") => json(raw),
        Some(b'0'..=b'9') => cri(raw),
        _ => None,
    }
    .unwrap_or(Content::Plain(raw))
}

fn json(raw: &[u8]) -> Option<Content<'_>> {
    let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(raw).ok()?;
    let (key, text) =
        ["log", "message", "msg", "textPayload"].into_iter().find_map(|key| match object.remove(key)? {
            serde_json::Value::String(text) => Some((key, text)),
            _ => None,
        })?;
    // Docker cuts a long line into several records and ends only the last one with a newline.
    let part = key == "log" && object.contains_key("stream") && !text.ends_with('\n');
    Some(Content::Json(Cow::Owned(text), part))
}

fn cri(raw: &[u8]) -> Option<Content<'_>> {
    let space = memchr(b' ', raw.get(..64.min(raw.len()))?)?;
    let rest = raw.get(space + 1..)?;
    let rest = rest.strip_prefix(b"stderr ").or_else(|| rest.strip_prefix(b"stdout "))?;
    match rest {
        [b'F'] => Some(Content::Cri(&[], false)),
        [b'F', b' ', text @ ..] => Some(Content::Cri(text, false)),
        [b'P', b' ', text @ ..] => Some(Content::Cri(text, true)),
        _ => None,
    }
}

/// The shape of what a logger writes before a line: its bytes, with every run of digits and spaces left open.
#[derive(Debug, PartialEq)]
struct Prefix {
    tokens: Vec<Token>,
    /// Spaces at its very end; the text may go on with more of its own.
    last_spaces: usize,
}

#[derive(Debug, PartialEq, Clone, Copy)]
enum Token {
    Digits,
    Spaces,
    Byte(u8),
}

impl Prefix {
    /// The shape of `bytes`, or `None` if they are none or too many to be a prefix.
    fn of(bytes: &[u8]) -> Option<Prefix> {
        if bytes.is_empty() || bytes.len() > MAX_PREFIX {
            return None;
        }
        let mut tokens: Vec<Token> = Vec::new();
        for &byte in bytes {
            let token = match byte {
                b'0'..=b'9' => Token::Digits,
                b' ' => Token::Spaces,
                other => Token::Byte(other),
            };
            if matches!(token, Token::Byte(_)) || tokens.last() != Some(&token) {
                tokens.push(token);
            }
        }
        let last_spaces = bytes.iter().rev().take_while(|&&b| b == b' ').count();
        if last_spaces > 0 {
            tokens.pop();
        }
        Some(Prefix { tokens, last_spaces })
    }

    /// What follows the prefix in `line`, if the line begins with one of this shape.
    fn strip<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let mut rest = line;
        for token in &self.tokens {
            rest = match token {
                Token::Byte(byte) => rest.strip_prefix(std::slice::from_ref(byte))?,
                Token::Digits => skip_some(rest, |b| b.is_ascii_digit())?,
                Token::Spaces => skip_some(rest, |b| b == b' ')?,
            };
        }
        let spaces = rest.iter().take(self.last_spaces).take_while(|&&b| b == b' ').count();
        // A logger may cut the blanks at the end of an empty line, but not between a prefix and its text.
        (spaces == self.last_spaces || spaces == rest.len()).then(|| &rest[spaces..])
    }
}

fn skip_some(text: &[u8], matches: impl Fn(u8) -> bool) -> Option<&[u8]> {
    match text.iter().take_while(|&&b| matches(b)).count() {
        0 => None,
        n => Some(&text[n..]),
    }
}

/// Where `needle` stands in `line` such that `accepts` takes the line from there; the first few places are tried.
pub(super) fn find_anchor(line: &[u8], needle: &[u8], accepts: impl Fn(&[u8]) -> bool) -> Option<usize> {
    memmem::find_iter(line, needle).take(8).find(|&at| accepts(&line[at..]))
}
