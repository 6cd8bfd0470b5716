//! Tracebacks: `runtime.Stack`, debug=2 profiles, and what the runtime prints when a program crashes or gets SIGQUIT.
//!
//! Line-driven and tolerant: a line that is no part of a traceback is passed over, so that a dump can be read out of a
//! log in which other threads wrote at the same time.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::header::{address, number, Header};
use super::lines::{self, find_anchor};
use super::symbols::Interner;
use super::{header, Args, Frame, FrameId, Goroutine, Kind, Note, ProfileError, Scan, Symbols};

/// `writeGoroutineStacks` in `src/runtime/pprof/pprof.go` gives up at this size and cuts the dump without a word.
const RUNTIME_LIMIT: usize = 64 << 20;
const MAX_CAUSES: usize = 16;
const MAX_CAUSE_BYTES: usize = 4096;
/// A longer line is not taken for the name of a C function.
const MAX_NAME: usize = 4096;

/// Reads every goroutine in `data` and hands it to `each`; arguments go to `args` where they are wanted.
pub(super) fn scan(
    data: &[u8],
    symbols: &mut Symbols,
    args: Option<&mut Args>,
    each: &mut dyn FnMut(&Symbols, Goroutine),
) -> Result<Scan, ProfileError> {
    let mut dump = Dump::new(symbols, args, each);
    let walked = lines::walk(data, anchor, |line| dump.read(line));
    let unfinished = dump.finish(walked.cut);
    if dump.goroutines == 0 {
        return Err(ProfileError::Unrecognised);
    }
    let mut notes = Vec::new();
    if data.len() == RUNTIME_LIMIT {
        notes.push(Note::RuntimeLimit);
    } else if unfinished {
        notes.push(Note::BreaksOff);
    }
    notes.extend(dump.begins_inside.then_some(Note::BeginsInside));
    notes.extend((dump.lost_headers > 0).then_some(Note::LostHeaders(dump.lost_headers)));
    notes.extend((dump.foreign > 0).then_some(Note::ForeignLines(dump.foreign)));
    notes.extend(walked.notes());
    let kind = if dump.causes.is_empty() { Kind::Stacks } else { Kind::Crash };
    Ok(Scan { kind, total: dump.goroutines, taken: None, groups: None, build_id: None, causes: dump.causes, notes })
}

/// Where a goroutine's header starts in a line. A header ends with a colon, as few other lines do.
fn anchor(line: &[u8]) -> Option<usize> {
    if line.trim_ascii_end().last() != Some(&b':') {
        return None;
    }
    find_anchor(line, b"goroutine ", |rest| header::parse(rest).is_some())
}

/// Frame and stack pointers differ from goroutine to goroutine: they are no part of the call site.
fn without_pointers(text: &[u8]) -> &[u8] {
    static FP: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b" fp=0x"));
    FP.find(text).map_or(text, |at| &text[..at])
}

/// A call whose file line is still to come.
#[derive(PartialEq, Clone, Copy)]
enum Pending {
    None,
    Call,
    Creator,
}

/// Whose frames are being read.
#[derive(PartialEq, Clone, Copy)]
enum Section {
    /// None: before the first goroutine, or after a goroutine's creator.
    Outside,
    /// None: the runtime's own stack.
    Runtime,
    Goroutine,
    Ancestor(u64),
}

/// Frames where no goroutine's line stands above.
#[derive(PartialEq, Clone, Copy)]
enum Orphan {
    None,
    /// What may be a call; its file line would show it.
    Call,
    Stack,
}

struct Dump<'a> {
    symbols: &'a mut Symbols,
    args: Option<&'a mut Args>,
    each: &'a mut dyn FnMut(&Symbols, Goroutine),
    /// Function and file line of each frame seen, as one text; the frame has the same index in `frames`.
    seen: Interner<u8>,
    frames: Vec<FrameId>,
    section: Section,
    current: Option<Goroutine>,
    stack: Vec<FrameId>,
    pending: Pending,
    /// The pending call's function, then (while a frame is looked up) its file line.
    call: Vec<u8>,
    call_args: Vec<u8>,
    /// A line that is a C function's name, if the next one says where in it the call is.
    name: Vec<u8>,
    goroutines: u64,
    foreign: u64,
    orphan: Orphan,
    begins_inside: bool,
    lost_headers: u64,
    /// Nothing but blank lines was read.
    at_start: bool,
    last_known: bool,
    causes: Vec<String>,
}

impl<'a> Dump<'a> {
    fn new(
        symbols: &'a mut Symbols,
        args: Option<&'a mut Args>,
        each: &'a mut dyn FnMut(&Symbols, Goroutine),
    ) -> Dump<'a> {
        Dump {
            symbols,
            args,
            each,
            seen: Interner::default(),
            frames: Vec::new(),
            section: Section::Outside,
            current: None,
            stack: Vec::new(),
            pending: Pending::None,
            call: Vec::new(),
            call_args: Vec::new(),
            name: Vec::new(),
            goroutines: 0,
            foreign: 0,
            orphan: Orphan::None,
            begins_inside: false,
            lost_headers: 0,
            at_start: true,
            last_known: true,
            causes: Vec::new(),
        }
    }

    fn read(&mut self, line: &[u8]) {
        if line.trim_ascii().is_empty() {
            self.orphan = Orphan::None;
            return;
        }
        self.last_known = self.read_known(line);
        if !self.last_known {
            if self.is_in_stack() && line.len() <= MAX_NAME && indented(line).is_none() {
                self.name.extend_from_slice(line);
            } else if self.is_in_stack() {
                self.foreign += 1;
            }
            if self.pending == Pending::None {
                self.read_cause(line);
            }
        }
        self.at_start = false;
    }

    /// Whether the line belongs to a goroutine whose frames are read.
    fn is_in_stack(&self) -> bool {
        self.current.is_some() && matches!(self.section, Section::Goroutine | Section::Ancestor(_))
    }

    /// Reads a line of a traceback; false if it is none.
    fn read_known(&mut self, line: &[u8]) -> bool {
        if self.read_foreign_site(line.trim_ascii()) {
            return true;
        }
        if let Some(text) = indented(line) {
            return self.read_orphan_site(text) || self.read_file_line(text);
        }
        if line.starts_with(b"goroutine ") {
            if let Some(header) = header::parse(line) {
                self.begin(header);
                return true;
            }
        }
        if line == b"runtime stack:" {
            self.end_goroutine();
            self.section = Section::Runtime;
            return true;
        }
        if !self.is_in_stack() {
            self.read_orphan(line);
            return self.read_ancestor(line);
        }
        if let Some(name) = line.strip_prefix(b"created by ") {
            self.begin_creator(name);
            return true;
        }
        if line.starts_with(b"...") {
            return self.read_elided(line);
        }
        if let Some(rest) = line.strip_prefix(b"non-Go function at pc=") {
            return self.read_foreign_function(rest);
        }
        if let Some((name, args)) = split_call(line) {
            self.settle();
            self.pending = Pending::Call;
            self.call.extend_from_slice(name);
            self.call_args.extend_from_slice(args);
            return true;
        }
        // Some collectors take leading blanks off.
        (self.pending != Pending::None && self.read_file_line(line)) || self.read_ancestor(line)
    }

    /// Reads the line below the name of a C function, which the symbolizer chose: any text (`printOneCgoTraceback`).
    fn read_foreign_site(&mut self, text: &[u8]) -> bool {
        if self.name.is_empty() {
            return false;
        }
        let name = std::mem::take(&mut self.name);
        let site = Site::parse(text).filter(|site| site.is_foreign);
        let (Some(site), true) = (site, self.is_in_stack()) else {
            self.foreign += 1;
            return false;
        };
        self.settle();
        let frame = match name.as_slice() {
            b"non-Go function" => {
                let Frame { file, line, .. } = self.frame(&name, &site);
                Frame { file, line, ..Frame::foreign(site.pc.unwrap_or_default(), self.symbols) }
            }
            name => self.frame(name, &site),
        };
        let id = self.symbols.frame_id(frame);
        self.push_frame(id);
        true
    }

    /// Watches for frames without a goroutine.
    fn read_orphan(&mut self, line: &[u8]) {
        let call = self.section == Section::Outside && (line.starts_with(b"created by ") || split_call(line).is_some());
        if call && self.orphan == Orphan::None {
            self.orphan = Orphan::Call;
        }
    }

    /// Reads the file line of such a frame; false if it is none.
    fn read_orphan_site(&mut self, text: &[u8]) -> bool {
        let is_first = self.at_start && Site::parse(text).is_some_and(|site| site.offset.is_some());
        let is_below = self.orphan == Orphan::Call && Site::parse(text).is_some();
        if is_first || is_below {
            self.orphan = Orphan::Stack;
            self.begins_inside |= self.goroutines == 0;
            self.lost_headers += u64::from(self.goroutines > 0);
        }
        is_first || is_below
    }

    fn begin(&mut self, header: Header) {
        self.end_goroutine();
        self.orphan = Orphan::None;
        self.goroutines += 1;
        let labels = self.symbols.intern_pairs(&header.labels);
        let first_arg = self.args.as_ref().map_or(0, |args| args.ends.len());
        self.current = Some(Goroutine {
            goid: header.goid,
            status: self.symbols.intern(header.status),
            reason: header.reason.map(|reason| self.symbols.intern(reason)),
            leaked: header.leaked,
            scan: header.scan,
            durable: header.durable,
            minutes: header.minutes,
            locked: header.locked,
            bubble: header.bubble,
            g: header.g,
            m: header.m,
            labels,
            stack: self.symbols.stack_id(&[]),
            created_by: None,
            parent: None,
            elided: None,
            unavailable: false,
            ancestors: Vec::new(),
            args: first_arg..first_arg,
        });
        self.section = Section::Goroutine;
    }

    /// Hands the goroutine in hand to its reader.
    fn end_goroutine(&mut self) {
        self.settle();
        self.end_section();
        if let Some(mut goroutine) = self.current.take() {
            // The first ancestor ran the `go` statement, which Go 1.19 and 1.20 do not say otherwise.
            goroutine.parent = goroutine.parent.or(goroutine.ancestors.first().map(|&(goid, _)| goid));
            (self.each)(self.symbols, goroutine);
        }
    }

    /// Gives the frames read so far to whom they belong.
    fn end_section(&mut self) {
        let section = std::mem::replace(&mut self.section, Section::Outside);
        let Some(goroutine) = self.current.as_mut() else { return };
        if matches!(section, Section::Outside | Section::Runtime) {
            return;
        }
        let stack = self.symbols.stack_id(&self.stack);
        self.stack.clear();
        match section {
            Section::Ancestor(goid) => goroutine.ancestors.push((goid, stack)),
            _ => {
                goroutine.stack = stack;
                goroutine.args.end = self.args.as_ref().map_or(0, |args| args.ends.len());
            }
        }
    }

    fn begin_creator(&mut self, text: &[u8]) {
        self.settle();
        let (name, parent) = match memchr::memmem::rfind(text, b" in goroutine ") {
            Some(at) => (&text[..at], number(&text[at + b" in goroutine ".len()..]).map(|(goid, _)| goid)),
            None => (text, None),
        };
        self.pending = Pending::Creator;
        self.call.extend_from_slice(name);
        if let (Some(goroutine), Section::Goroutine) = (self.current.as_mut(), self.section) {
            goroutine.parent = parent;
        }
    }

    fn read_elided(&mut self, line: &[u8]) -> bool {
        let Some(text) = line.strip_prefix(b"...") else { return false };
        let count = match text {
            b"additional frames elided..." => Some(0),
            _ => number(text).filter(|(_, rest)| *rest == b" frames elided...").map(|(n, _)| n),
        };
        self.settle();
        // An ancestor's stack is its own.
        if let (Some(count), Section::Goroutine, Some(goroutine)) = (count, self.section, self.current.as_mut()) {
            goroutine.elided = Some(count);
        }
        count.is_some()
    }

    fn read_foreign_function(&mut self, text: &[u8]) -> bool {
        let Some((pc, _)) = address(text) else { return false };
        self.settle();
        let frame = Frame::foreign(pc, self.symbols);
        let id = self.symbols.frame_id(frame);
        self.push_frame(id);
        true
    }

    fn read_ancestor(&mut self, line: &[u8]) -> bool {
        let goid = line
            .strip_prefix(b"[originating from goroutine ")
            .and_then(number)
            .filter(|(_, rest)| *rest == b"]:")
            .map(|(goid, _)| goid);
        let (Some(goid), true) = (goid, self.current.is_some()) else { return false };
        self.settle();
        self.end_section();
        self.section = Section::Ancestor(goid);
        true
    }

    /// Reads the line below a function: where the call is.
    fn read_file_line(&mut self, text: &[u8]) -> bool {
        if self.pending == Pending::None {
            let running = text.starts_with(b"goroutine running on other thread");
            if let (true, Some(goroutine)) = (running, self.current.as_mut()) {
                goroutine.unavailable = true;
            }
            return running;
        }
        let site = without_pointers(text);
        let name_len = self.call.len();
        self.call.push(0);
        self.call.extend_from_slice(site);
        let id = match self.seen.get(&self.call) {
            Some(seen) => self.frames.get(seen as usize).copied(),
            None => self.new_frame(name_len, text),
        };
        self.call.truncate(name_len);
        let Some(id) = id else { return false };
        self.place(id);
        true
    }

    /// The frame for `self.call`, whose file line is `text`; `None` if `text` is no file line.
    fn new_frame(&mut self, name_len: usize, text: &[u8]) -> Option<FrameId> {
        let site = Site::parse(text)?;
        let name = self.call[..name_len].to_vec();
        let frame = self.frame(&name, &site);
        let id = self.symbols.frame_id(frame);
        self.seen.insert(&self.call);
        self.frames.push(id);
        Some(id)
    }

    fn frame(&mut self, name: &[u8], site: &Site) -> Frame {
        let (function, file) = (self.symbols.intern(name), self.symbols.intern(site.file));
        Frame { function, file, line: site.line, start_line: 0, offset: site.offset, pc: site.pc }
    }

    /// Puts a finished call where it belongs.
    fn place(&mut self, id: FrameId) {
        match std::mem::replace(&mut self.pending, Pending::None) {
            Pending::Creator => {
                if let (Some(goroutine), Section::Goroutine) = (self.current.as_mut(), self.section) {
                    goroutine.created_by = Some(id);
                }
                // Nothing of this goroutine follows but an ancestor.
                self.end_section();
            }
            _ => self.push_frame(id),
        }
        self.call.clear();
        self.call_args.clear();
    }

    fn push_frame(&mut self, id: FrameId) {
        self.stack.push(id);
        if let (Some(args), Section::Goroutine) = (self.args.as_mut(), self.section) {
            args.push(&self.call_args);
        }
    }

    /// Keeps a pending call whose file line never came.
    fn settle(&mut self) {
        if self.pending == Pending::None {
            return;
        }
        let function = self.symbols.intern(&self.call);
        let file = self.symbols.intern(b"");
        let id = self.symbols.frame_id(Frame { function, file, line: 0, start_line: 0, offset: None, pc: None });
        self.place(id);
    }

    /// Keeps a line that says why the traceback was printed.
    fn read_cause(&mut self, line: &[u8]) {
        let line = line.trim_ascii();
        let named =
            [&b"panic: "[..], b"fatal error: ", b"[signal ", b"unexpected fault address", b"http: panic serving"]
                .iter()
                .any(|start| line.starts_with(start));
        let signal = line.starts_with(b"SIG")
            && line.iter().position(|b| !b.is_ascii_uppercase()).is_some_and(|at| line[at..].starts_with(b": "));
        if (named || signal) && self.causes.len() < MAX_CAUSES {
            let text = &line[..line.len().min(MAX_CAUSE_BYTES)];
            self.causes.push(String::from_utf8_lossy(text).into_owned());
        }
    }

    /// Hands on the last goroutine; true if the dump broke off inside it.
    fn finish(&mut self, cut: bool) -> bool {
        let unfinished = self.pending != Pending::None || (cut && !self.last_known);
        self.foreign += u64::from(!self.name.is_empty());
        self.end_goroutine();
        unfinished
    }
}

/// The text of an indented line.
fn indented(line: &[u8]) -> Option<&[u8]> {
    line.first().filter(|&&b| b == b'\t' || b == b' ').map(|_| line.trim_ascii())
}

/// Splits `main.f(0x1, {0x2, ...})` into name and arguments. Only what the runtime prints as arguments is taken, so
/// that a log line with a call in it is not.
fn split_call(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii_end();
    let inner = line.strip_suffix(b")")?;
    let open = memchr::memrchr(b'(', inner)?;
    let (name, args) = (&inner[..open], &inner[open + 1..]);
    let word = !name.is_empty() && !name.iter().any(|b| b.is_ascii_whitespace() || b.is_ascii_control());
    let function = word && (name == b"panic" || memchr::memchr(b'.', name).is_some());
    let printed = args.iter().all(|b| b.is_ascii_hexdigit() || b"x ,{}_?.".contains(b));
    (function && printed).then_some((name, args))
}

/// `FILE:LINE[ +0xOFFSET][ fp=… sp=… pc=0xPC]`, or from a cgo symbolizer `[FILE:LINE ]pc=0xPC`.
struct Site<'a> {
    file: &'a [u8],
    line: u32,
    offset: Option<u64>,
    pc: Option<u64>,
    /// As only calls that are not Go's have it.
    is_foreign: bool,
}

impl<'a> Site<'a> {
    fn parse(text: &'a [u8]) -> Option<Site<'a>> {
        if let Some((pc, b"")) = text.strip_prefix(b"pc=").and_then(address) {
            return Some(Site { file: b"", line: 0, offset: None, pc: Some(pc), is_foreign: true });
        }
        let (text, pc) = match memchr::memmem::rfind(text, b" pc=0x") {
            Some(at) => (&text[..at], address(&text[at + 4..]).map(|(pc, _)| pc)),
            None => (text, None),
        };
        let with_pointers = text;
        let text = without_pointers(text);
        let (text, offset) = match memchr::memmem::rfind(text, b" +0x") {
            Some(at) => {
                let (offset, rest) = address(&text[at + 2..])?;
                (&text[..at], rest.is_empty().then_some(offset))
            }
            None => (text, None),
        };
        let colon = memchr::memrchr(b':', text)?;
        let (line, rest) = number(&text[colon + 1..])?;
        let file = &text[..colon];
        if file.is_empty() || !rest.is_empty() {
            return None;
        }
        let is_foreign = pc.is_some() && offset.is_none() && with_pointers.len() == text.len();
        Some(Site { file, line: u32::try_from(line).ok()?, offset, pc, is_foreign })
    }
}

#[cfg(test)]
mod tests {
    use super::{split_call, Site};

    #[test]
    fn takes_calls_and_leaves_log_lines() {
        let call = |line: &'static str| {
            split_call(line.as_bytes()).map(|(n, a)| (std::str::from_utf8(n).unwrap(), std::str::from_utf8(a).unwrap()))
        };
        assert_eq!(call("main.f()"), Some(("main.f", "")));
        assert_eq!(call("panic({0x47f6a0?, 0x4c5a18?})"), Some(("panic", "{0x47f6a0?, 0x4c5a18?}")));
        assert_eq!(call("main.(*T[...]).M(0x1, _, ...)"), Some(("main.(*T[...]).M", "0x1, _, ...")));
        assert_eq!(call("gopkg.in/a%2eb.F(...)"), Some(("gopkg.in/a%2eb.F", "...")));
        for line in ["info: call(x)", "handler.go: f(0x1)", "f(0x1)", "main.f(1 + 2)", "main.f(0x1", "()"] {
            assert_eq!(call(line), None, "{line}");
        }
    }

    #[test]
    fn reads_file_lines() {
        let site = Site::parse(b"C:/a b/x.go:12 +0x1d fp=0xc000012f90 sp=0xc000012f70 pc=0x47e2bd").unwrap();
        assert_eq!((site.file, site.line, site.offset, site.pc), (&b"C:/a b/x.go"[..], 12, Some(0x1d), Some(0x47e2bd)));
        let site = Site::parse(b"/x/y.c:7 pc=0x10").unwrap();
        assert_eq!((site.file, site.line, site.offset, site.pc), (&b"/x/y.c"[..], 7, None, Some(0x10)));
        assert!(
            site.is_foreign && Site::parse(b"pc=0x10").is_some_and(|site| site.pc == Some(0x10) && site.is_foreign)
        );
        assert!(Site::parse(b"/x/y.go:7 fp=0x1 sp=0x2 pc=0x3").is_some_and(|site| !site.is_foreign));
        assert!(Site::parse(b"no colon").is_none() && Site::parse(b"a:b").is_none() && Site::parse(b":1").is_none());
    }
}
