//! debug=1 profiles (`printCountProfile` and `printStackRecord` in `src/runtime/pprof/pprof.go`):
//! `NAME profile: total N`, then for each stack `COUNT @ 0xPC …`, perhaps `# labels: {…}`, and a line
//! `#\t0xPC\tFUNCTION+0xOFFSET\t\tFILE:LINE` for each frame below the runtime's innermost ones.

use super::header::{address, number};
use super::lines::{self, find_anchor, Walked};
use super::{labels, Frame, FrameId, Group, Kind, Labels, Note, ProfileError, Scan, Symbols};

const TOTAL: &[u8] = b" profile: total ";

/// Reads the stacks of a debug=1 profile; `None` if `data` holds no line that begins one.
pub(super) fn scan(data: &[u8], symbols: &mut Symbols) -> Result<Option<Scan>, ProfileError> {
    let mut reader = Reader::new(symbols);
    let walked = lines::walk(data, anchor, |line| reader.read(line));
    reader.end_group();
    let Reader { title, groups, other, stray, mut notes, .. } = reader;
    let Some((kind, says)) = title else {
        return match other {
            Some(name) => Err(ProfileError::OtherKind(format!("a {name} profile"))),
            None => Ok(None),
        };
    };
    let holds = total(&groups);
    if holds != says {
        notes.push(Note::OtherTotal { says, holds });
    }
    Ok(Some(finished(kind, says, groups, stray, notes, walked)))
}

/// Reads the stacks of a debug=1 profile whose beginning was lost; `None` if `data` holds no stack of one.
pub(super) fn scan_rest(data: &[u8], symbols: &mut Symbols) -> Option<Scan> {
    let mut reader = Reader { kind_is_known: false, ..Reader::new(symbols) };
    let walked = lines::walk(data, anchor_of_group, |line| reader.read(line));
    reader.end_group();
    let Reader { groups, stray, .. } = reader;
    if !groups.iter().any(|group| !group.pcs.is_empty() && !symbols.stack(group.stack).is_empty()) {
        return None;
    }
    Some(finished(Kind::GoroutineText, total(&groups), groups, stray, vec![Note::NoTitle], walked))
}

fn total(groups: &[Group]) -> u64 {
    groups.iter().fold(0u64, |sum, group| sum.saturating_add(group.count))
}

fn finished(kind: Kind, total: u64, groups: Vec<Group>, stray: u64, mut notes: Vec<Note>, walked: Walked) -> Scan {
    notes.extend((stray > 0).then_some(Note::StrayLines(stray)));
    notes.extend(walked.notes());
    Scan { kind, total, taken: None, groups: Some(groups), build_id: None, causes: Vec::new(), notes }
}

/// Where `COUNT @ 0x` stands in a line.
fn anchor_of_group(line: &[u8]) -> Option<usize> {
    let at = memchr::memmem::find(line, b" @ 0x")?;
    let digits = line[..at].iter().rev().take_while(|b| b.is_ascii_digit()).count();
    (digits > 0).then_some(at - digits)
}

fn anchor(line: &[u8]) -> Option<usize> {
    [&b"goroutine profile: total "[..], b"goroutineleak profile: total "]
        .iter()
        .find_map(|needle| find_anchor(line, needle, |rest| title(rest).is_some()))
}

/// Name and total of a line that begins a profile.
fn title(line: &[u8]) -> Option<(&str, u64)> {
    let at = memchr::memmem::find(line, TOTAL)?;
    let name = std::str::from_utf8(&line[..at]).ok()?;
    let (total, rest) = number(&line[at + TOTAL.len()..])?;
    let word = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b));
    (word && rest.trim_ascii().is_empty()).then_some((name, total))
}

struct Reader<'a> {
    symbols: &'a mut Symbols,
    title: Option<(Kind, u64)>,
    /// Stacks are read only once the title was, if this is so.
    kind_is_known: bool,
    /// Name of a count profile that is not about goroutines.
    other: Option<String>,
    groups: Vec<Group>,
    current: Option<(u64, Vec<u64>, Labels)>,
    stack: Vec<FrameId>,
    /// Lines that belong to no stack.
    stray: u64,
    notes: Vec<Note>,
    /// A second profile follows in the same file.
    done: bool,
}

impl<'a> Reader<'a> {
    fn new(symbols: &'a mut Symbols) -> Reader<'a> {
        Reader {
            symbols,
            title: None,
            kind_is_known: true,
            other: None,
            groups: Vec::new(),
            current: None,
            stack: Vec::new(),
            stray: 0,
            notes: Vec::new(),
            done: false,
        }
    }

    fn read(&mut self, line: &[u8]) {
        if let Some((name, total)) = title(line) {
            return self.begin(name, total);
        }
        if (self.kind_is_known && self.title.is_none()) || self.done || line.trim_ascii().is_empty() {
            return;
        }
        let known = match line.strip_prefix(b"#") {
            Some(rest) => self.read_comment(rest.trim_ascii()),
            None => self.read_counted(line),
        };
        if !known {
            self.stray += 1;
        }
    }

    fn begin(&mut self, name: &str, total: u64) {
        let kind = match name {
            "goroutine" => Kind::GoroutineText,
            "goroutineleak" => Kind::LeakText,
            other => {
                self.other.get_or_insert_with(|| other.to_string());
                self.done = self.title.is_some();
                return;
            }
        };
        if self.title.is_none() {
            self.title = Some((kind, total));
        } else if !self.done {
            self.done = true;
            self.notes.push(Note::SecondProfile);
        }
    }

    fn read_counted(&mut self, line: &[u8]) -> bool {
        let parsed = number(line).and_then(|(count, rest)| Some((count, rest.strip_prefix(b" @")?)));
        let Some((count, mut rest)) = parsed else { return false };
        self.end_group();
        let mut pcs = Vec::new();
        while let Some((pc, after)) = address(rest.trim_ascii_start()) {
            pcs.push(pc);
            rest = after;
        }
        self.current = Some((count, pcs, Labels::new()));
        true
    }

    fn read_comment(&mut self, text: &[u8]) -> bool {
        let Some((_, _, labels)) = self.current.as_mut() else { return false };
        if let Some(set) = text.strip_prefix(b"labels: ") {
            let Some(pairs) = labels::parse(set) else { return false };
            *labels = self.symbols.intern_pairs(&pairs);
            return true;
        }
        match parse_frame(text, self.symbols) {
            Some(frame) => {
                let id = self.symbols.frame_id(frame);
                self.stack.push(id);
                true
            }
            None => false,
        }
    }

    fn end_group(&mut self) {
        if let Some((count, pcs, labels)) = self.current.take() {
            let stack = self.symbols.stack_id(&self.stack);
            self.groups.push(Group { count, pcs, stack, labels });
        }
        self.stack.clear();
    }
}

/// `0xPC[ FUNCTION+0xOFFSET FILE:LINE]`, the columns apart by tabs or, after copying, by blanks.
fn parse_frame(text: &[u8], symbols: &mut Symbols) -> Option<Frame> {
    let (pc, rest) = address(text)?;
    let rest = rest.trim_ascii_start();
    let mut frame = Frame::at(pc, symbols);
    if rest.is_empty() {
        return Some(frame);
    }
    // A symbolizer of C++ puts blanks into names.
    let tab = memchr::memchr(b'\t', rest).filter(|&tab| memchr::memmem::find(&rest[..tab], b"+0x").is_some());
    let end = tab.or_else(|| rest.iter().position(u8::is_ascii_whitespace)).unwrap_or(rest.len());
    let (call, site) = rest.split_at(end);
    let plus = memchr::memmem::rfind(call, b"+0x")?;
    frame.offset = Some(address(&call[plus + 1..])?.0);
    frame.function = symbols.intern(&call[..plus]);
    let site = site.trim_ascii();
    if let Some(colon) = memchr::memrchr(b':', site) {
        frame.file = symbols.intern(&site[..colon]);
        frame.line = number(&site[colon + 1..]).and_then(|(line, _)| u32::try_from(line).ok()).unwrap_or(0);
    }
    Some(frame)
}
