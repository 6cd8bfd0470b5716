//! Lines of a dump as the program wrote them, taken out of what a log pipeline wrapped around them.
//!
//! Understood: CRLF; Docker's `json-file` and other one-object-a-line logs (`log`, `message`, `msg`, `textPayload`);
//! the CRI form of Kubernetes (`TIME stderr F text`, `P` for a part of a line); and any prefix of one shape
//! (timestamp, syslog, `docker compose`, `kubectl --prefix`), learned from the first line that can be recognised. A dump
//! in one line, its own line ends escaped, is opened by [`escaped`].

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::{memchr, memmem};

use super::{escaped, Note};

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
    /// Lines that held a dump with its line ends escaped.
    pub unescaped: u64,
    /// Those of them that end inside a quoted string.
    pub cut_strings: u64,
    /// The input did not end with a line end.
    pub cut: bool,
}

impl Walked {
    /// What a reader should know of the walk.
    pub(super) fn notes(&self) -> impl Iterator<Item = Note> {
        let notes = [
            (self.unwrapped, Note::Unwrapped as fn(u64) -> Note),
            (self.unescaped, Note::Unescaped),
            (self.cut_strings, Note::CutStrings),
            (self.overlong, Note::Overlong),
        ];
        notes.into_iter().filter(|&(count, _)| count > 0).map(|(count, note)| note(count))
    }
}

/// Calls `line` with each line of `data`, unwrapped, without its line end. `anchor` says where in a line the
/// recognisable text starts: from it the prefix is learned.
pub(super) fn walk(data: &[u8], anchor: fn(&[u8]) -> Option<usize>, mut line: impl FnMut(&[u8])) -> Walked {
    let walked = Walked { cut: data.last().is_some_and(|&b| b != b'\n'), ..Walked::default() };
    let mut unwrapper = Unwrapper { prefix: first_prefix(data, anchor), anchor, partial: Vec::new(), walked };
    physical_lines(data).for_each(|raw| unwrapper.take(raw, &mut line));
    unwrapper.finish(&mut line);
    unwrapper.walked
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
    walked: Walked,
}

impl Unwrapper {
    fn take(&mut self, raw: &[u8], line: &mut impl FnMut(&[u8])) {
        let content = content(raw);
        if !matches!(content, Content::Plain(_)) {
            self.walked.unwrapped += 1;
        }
        if content.is_part() {
            self.partial.extend_from_slice(content.text());
        } else if self.partial.is_empty() {
            self.pass(content.text(), line);
        } else {
            self.partial.extend_from_slice(content.text());
            self.finish(line);
        }
    }

    fn finish(&mut self, line: &mut impl FnMut(&[u8])) {
        let joined = std::mem::take(&mut self.partial);
        if !joined.is_empty() {
            self.pass(&joined, line);
        }
    }

    fn pass(&mut self, text: &[u8], line: &mut impl FnMut(&[u8])) {
        text.split(|&b| b == b'\n').for_each(|text| self.emit(trim_cr(text), line));
    }

    fn emit(&mut self, text: &[u8], line: &mut impl FnMut(&[u8])) {
        if let Some(found) = escaped::find(text, self.anchor) {
            self.walked.unescaped += 1;
            self.walked.cut_strings += u64::from(found.cut);
            for text in found.text.split(|&b| b == b'\n') {
                let from = (self.anchor)(text).unwrap_or(0);
                line(trim_cr(&text[from..]));
            }
            return;
        }
        if text.len() > MAX_LINE {
            self.walked.overlong += 1;
            return;
        }
        if let Some(rest) = self.prefix.as_ref().and_then(|prefix| prefix.strip(text)) {
            self.walked.unwrapped += 1;
            return line(&with_tabs(rest));
        }
        match (self.anchor)(text) {
            Some(at) if at > 0 => {
                self.prefix = Prefix::of(&text[..at]).or_else(|| self.prefix.take());
                self.walked.unwrapped += 1;
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
    let key = ["log", "message", "msg", "textPayload"]
        .into_iter()
        .find(|key| object.get(*key).is_some_and(serde_json::Value::is_string));
    let said = key.and_then(|key| match object.remove(key)? {
        serde_json::Value::String(text) => Some(text),
        _ => None,
    });
    // Docker cuts a long line into several records and ends only the last one with a newline.
    if key == Some("log") && object.contains_key("stream") {
        let text = said?;
        let part = !text.ends_with('\n');
        return Some(Content::Json(Cow::Owned(text), part));
    }
    // The dump may be in a field of its own beside the message.
    let mut texts: Vec<String> = said.into_iter().collect();
    object.values().for_each(|value| dumps(value, &mut texts));
    (!texts.is_empty()).then(|| Content::Json(Cow::Owned(texts.join("\n")), false))
}

/// Texts inside `value` of several lines that may be a dump.
fn dumps(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) if text.contains("goroutine") && text.contains('\n') => {
            texts.push(text.clone())
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| dumps(value, texts)),
        serde_json::Value::Object(fields) => fields.values().for_each(|value| dumps(value, texts)),
        _ => {}
    }
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
