//! Goroutine profiles and tracebacks as plain data, whatever form they come in.
//!
//! | form | parser | source of the facts |
//! | --- | --- | --- |
//! | debug=0 (or with a sample for each goroutine), gzip protobuf | `proto` | `src/runtime/pprof/{pprof,proto}.go`, profile.proto |
//! | debug=1 text | `text` | `printCountProfile` in `src/runtime/pprof/pprof.go` |
//! | debug=2, panic, SIGQUIT, SIGABRT | `traceback` | `src/runtime/traceback.go`, Go 1.19 to 1.27 |
//!
//! Only tracebacks, and a protobuf with a sample for each goroutine, name goroutines and what they wait for; a debug=0 or
//! debug=1 profile knows counts and stacks.

mod escaped;
mod header;
mod labels;
mod lines;
mod note;
mod proto;
mod symbols;
mod text;
mod traceback;

use std::io::Read;
use std::ops::Range;

use memchr::memmem;

pub use note::Note;
pub use symbols::{Frame, FrameId, StackId, Symbols, Text};

/// A gzip file that unpacks to more is refused. The runtime itself stops a debug=2 dump at 64 MiB; a profile of a
/// million distinct stacks stays below this.
pub const MAX_UNPACKED: usize = 256 << 20;

/// The form a profile came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    GoroutineProto,
    /// A protobuf whose labels say which goroutine each sample is.
    GoroutineEach,
    GoroutineText,
    LeakProto,
    LeakText,
    /// debug=2, or `runtime.Stack`.
    Stacks,
    /// A traceback with the cause of a crash or the name of a signal above it.
    Crash,
}

impl Kind {
    /// The form in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::GoroutineProto => "goroutine profile (debug=0)",
            Kind::GoroutineEach => "goroutine profile (a sample for each goroutine)",
            Kind::GoroutineText => "goroutine profile (debug=1)",
            Kind::LeakProto => "goroutineleak profile (debug=0)",
            Kind::LeakText => "goroutineleak profile (debug=1)",
            Kind::Stacks => "goroutine stacks (debug=2)",
            Kind::Crash => "crash traceback",
        }
    }

    /// Whether it tells goroutines by their ids and states.
    pub fn knows_goroutines(self) -> bool {
        matches!(self, Kind::GoroutineEach | Kind::Stacks | Kind::Crash)
    }

    /// Whether it lists every goroutine of the process, as far as it is whole; of a crash perhaps only one is printed.
    pub fn lists_all(self) -> bool {
        matches!(self, Kind::GoroutineEach | Kind::Stacks)
    }
}

/// One goroutine profile or traceback.
#[derive(Debug)]
pub struct Profile {
    pub kind: Kind,
    /// Goroutines the file says it is about (debug=1), else the number it holds.
    pub total: u64,
    /// When it was taken, in nanoseconds since 1970; only debug=0 says.
    pub taken: Option<i64>,
    pub records: Records,
    /// Lines such as `panic: …`, `fatal error: …`, `SIGQUIT: quit`, in order.
    pub causes: Vec<String>,
    /// What is missing or was passed over.
    pub notes: Vec<Note>,
    pub symbols: Symbols,
    args: Args,
}

/// What a profile knows, by its form.
#[derive(Debug)]
pub enum Records {
    Goroutines(Vec<Goroutine>),
    Groups(Vec<Group>),
}

/// One goroutine of a traceback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goroutine {
    pub goid: u64,
    /// `running`, `runnable`, `syscall`, `waiting`, … (`gStatusStrings`).
    pub status: Text,
    /// `chan receive (nil chan)`, `select`, … (`waitReasonStrings`), where it waits for a known reason.
    pub reason: Option<Text>,
    /// Found by the goroutineleak profile (Go 1.26).
    pub leaked: bool,
    /// Was being scanned by the garbage collector.
    pub scan: bool,
    /// Waits only for goroutines of its own synctest bubble (Go 1.25).
    pub durable: bool,
    /// Whole minutes since the garbage collector first saw it wait: less than the true time.
    pub minutes: Option<u64>,
    pub locked: bool,
    /// `testing/synctest` group or bubble (Go 1.24).
    pub bubble: Option<u64>,
    /// Address of the runtime.g, with GOTRACEBACK=system or crash (Go 1.22).
    pub g: Option<u64>,
    /// Number of its thread, with GOTRACEBACK=system or crash, if it has one.
    pub m: Option<i64>,
    pub labels: Labels,
    pub stack: StackId,
    /// Call site of the `go` statement.
    pub created_by: Option<FrameId>,
    /// Goroutine that ran the `go` statement (Go 1.21).
    pub parent: Option<u64>,
    /// Frames that the runtime says it left out; `Some(0)` where it did not say how many. Go 1.19 and 1.20 cut most
    /// stacks of more than 100 frames without a word.
    pub elided: Option<u64>,
    /// It ran on another thread, so there is no stack.
    pub unavailable: bool,
    /// Goroutine id and stack of each ancestor, with GODEBUG=tracebackancestors.
    pub ancestors: Vec<(u64, StackId)>,
    args: Range<usize>,
}

/// Goroutines of one stack and label set, in a profile without goroutine ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub count: u64,
    /// Return addresses (debug=1) or call addresses (debug=0), innermost first.
    pub pcs: Vec<u64>,
    /// Frames, innermost first. debug=1 leaves the runtime's innermost frames out.
    pub stack: StackId,
    pub labels: Labels,
}

/// Label key and value, in the file's order.
pub type Labels = Vec<(Text, Text)>;

/// Argument texts of all frames of a profile, side by side.
#[derive(Debug, Default)]
struct Args {
    text: Vec<u8>,
    /// End of each frame's arguments in `text`.
    ends: Vec<usize>,
}

impl Args {
    fn push(&mut self, args: &[u8]) {
        self.text.extend_from_slice(args);
        self.ends.push(self.text.len());
    }

    fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(index).copied().unwrap_or(start);
        std::str::from_utf8(self.text.get(start..end).unwrap_or_default()).unwrap_or_default()
    }
}

impl Profile {
    /// The frames of a goroutine, innermost first, each with its arguments as printed (`0xc000012345, 0x3?`; `...`
    /// for an inlined call).
    pub fn frames<'a>(&'a self, goroutine: &Goroutine) -> impl Iterator<Item = (&'a Frame, &'a str)> + 'a {
        let first = goroutine.args.start;
        let stack = self.symbols.stack(goroutine.stack);
        stack.iter().enumerate().map(move |(n, &id)| (self.symbols.frame(id), self.args.get(first + n)))
    }
}

/// Why a file is no goroutine profile. Each is one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    #[error("the file is empty: take the profile again")]
    Empty,
    #[error("this is {0}, not a goroutine profile: fetch /debug/pprof/goroutine?debug=2")]
    OtherKind(String),
    #[error("nothing in the file is a goroutine profile or a Go traceback: expected gzip, 'goroutine profile: total N' or 'goroutine N [state]:'")]
    Unrecognised,
    #[error("the gzip data unpacks to more than {} MiB, more than any goroutine profile needs: check where it comes from", MAX_UNPACKED >> 20)]
    TooLarge,
    #[error("the gzip data is damaged before any of the profile could be unpacked ({0}): fetch it again")]
    Gzip(String),
    #[error("the protobuf is damaged ({0}): fetch the profile again")]
    Proto(&'static str),
}

/// Reads a goroutine profile or traceback, recognised by its content. Time is linear in `data`; memory is bounded by
/// a multiple of `data`, or of [`MAX_UNPACKED`] for gzip.
pub fn parse(data: &[u8]) -> Result<Profile, ProfileError> {
    let mut symbols = Symbols::default();
    let mut goroutines = Vec::new();
    let mut args = Args::default();
    let scanned = scan_into(data, &mut symbols, Some(&mut args), &mut |_, goroutine| goroutines.push(goroutine))?;
    let records = scanned.groups.map_or(Records::Goroutines(goroutines), Records::Groups);
    let Scan { kind, total, taken, causes, notes, .. } = scanned;
    Ok(Profile { kind, total, taken, records, causes, notes, symbols, args })
}

/// A profile whose goroutines were handed on one by one.
#[derive(Debug)]
pub struct Scan {
    pub kind: Kind,
    pub total: u64,
    pub taken: Option<i64>,
    /// The records of a profile without goroutine ids.
    pub groups: Option<Vec<Group>>,
    /// The build ID of the program's own mapping, where a debug=0 profile has one: of the GNU note, in hex.
    pub build_id: Option<String>,
    pub causes: Vec<String>,
    pub notes: Vec<Note>,
}

/// As [`parse`], but hands each goroutine to `each` instead of keeping it, and drops the arguments: memory then grows
/// with the number of distinct frames and stacks only.
pub fn scan(
    data: &[u8],
    symbols: &mut Symbols,
    each: &mut dyn FnMut(&Symbols, Goroutine),
) -> Result<Scan, ProfileError> {
    scan_into(data, symbols, None, each)
}

fn scan_into(
    data: &[u8],
    symbols: &mut Symbols,
    args: Option<&mut Args>,
    each: &mut dyn FnMut(&Symbols, Goroutine),
) -> Result<Scan, ProfileError> {
    if data.is_empty() {
        return Err(ProfileError::Empty);
    }
    if !data.starts_with(&[0x1f, 0x8b]) {
        return scan_unpacked(data, symbols, args, each);
    }
    let (unpacked, damage) = gunzip(data)?;
    let mut scan = scan_unpacked(&unpacked, symbols, args, each)?;
    if let Some(damage) = damage {
        scan.notes.push(Note::DamagedGzip(damage));
    }
    Ok(scan)
}

/// The unpacked bytes, and what stopped the unpacking early.
fn gunzip(data: &[u8]) -> Result<(Vec<u8>, Option<String>), ProfileError> {
    let mut unpacked = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(data).take(MAX_UNPACKED as u64 + 1);
    let damage = reader.read_to_end(&mut unpacked).err().map(|e| e.to_string());
    match damage {
        _ if unpacked.len() > MAX_UNPACKED => Err(ProfileError::TooLarge),
        Some(damage) if unpacked.is_empty() => Err(ProfileError::Gzip(damage)),
        None if unpacked.is_empty() => Err(ProfileError::Empty),
        damage => Ok((unpacked, damage)),
    }
}

fn scan_unpacked(
    data: &[u8],
    symbols: &mut Symbols,
    args: Option<&mut Args>,
    each: &mut dyn FnMut(&Symbols, Goroutine),
) -> Result<Scan, ProfileError> {
    if let Some(kind) = other_kind(data) {
        return Err(ProfileError::OtherKind(kind.to_string()));
    }
    if proto::looks_like(data) {
        return proto::scan(data, symbols, each);
    }
    let titled = memmem::find(data, b" profile: total ").is_some();
    if titled {
        if let Some(scan) = text::scan(data, symbols)? {
            return Ok(scan);
        }
    }
    match traceback::scan(data, symbols, args, each) {
        Err(ProfileError::Unrecognised) => {
            // A log may have cut the title line itself in two, or lost it.
            let scan = if titled { None } else { text::scan(data, symbols)? };
            scan.or_else(|| text::scan_rest(data, symbols)).ok_or(ProfileError::Unrecognised)
        }
        result => result,
    }
}

/// Files that users hand in by mistake, by their first bytes.
fn other_kind(data: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 12] = [
        (b"\x7fELF", "an executable or a core"),
        (b"PK\x03\x04", "a zip archive"),
        (b"heap profile:", "a heap profile"),
        (b"--- mutex:", "a mutex profile"),
        (b"--- contention:", "a block profile"),
        (b"--- goroutineleak:", "a goroutineleak profile in an unknown form"),
        (b"<!DOCTYPE", "an HTML page"),
        (b"<!doctype", "an HTML page"),
        (b"<html", "an HTML page"),
        (b"go1.", "a heap dump of runtime/debug"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive (unpack it first)"),
        (b"%PDF", "a PDF"),
    ];
    if data.starts_with(b"go 1.") && data.get(..16).is_some_and(|head| memmem::find(head, b" trace").is_some()) {
        return Some("an execution trace (give it as --trace)");
    }
    KINDS.iter().find(|(magic, _)| data.starts_with(magic)).map(|&(_, kind)| kind)
}

/// How many places of `count` to name: `1 line`, `3 lines`.
fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
