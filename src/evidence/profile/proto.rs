//! debug=0 profiles: the protobuf of pprof's `profile.proto`, as `printCountProfile` in
//! `src/runtime/pprof/pprof.go` writes it.
//!
//! The fields are read one by one instead of into message structs: an empty message of two bytes must not cost a
//! struct of a hundred.

use hashbrown::HashMap;
use prost::encoding::{decode_key, decode_varint, WireType};

use super::header::Header;
use super::symbols::Interner;
use super::{Frame, FrameId, Goroutine, Group, Kind, Labels, Note, ProfileError, Scan, StackId, Symbols};

/// A larger protobuf is refused: a million distinct stacks take less.
const MAX_PROTO: usize = 64 << 20;
/// Calls inlined into one address; the compiler's inlining budget keeps real ones far below.
const MAX_INLINED: usize = 256;
/// Frames of all distinct stacks: small messages can name the same large location again and again.
const MAX_FRAMES: usize = 16 << 20;

/// Whether `data` begins with fields that a profile has (1 to 15 of `profile.proto`). Printable text is none: its
/// second or third field would have a number or a type that profiles lack.
pub(super) fn looks_like(data: &[u8]) -> bool {
    let mut fields = Fields(data).take(16).peekable();
    fields.peek().is_some() && fields.all(|field| matches!(field, Ok((1..=15, Value::Varint(_) | Value::Bytes(_)))))
}

/// Labels of a profile with a sample for each goroutine (cockroachdb/go#12, `debug=3`).
const GOID: &str = "go::goroutine";
const PARENT: &str = "go::goroutine_created_by";
const STATE: &str = "go::goroutine_state";
const MINUTES: &str = "go::goroutine_wait_minutes";

/// Reads the stacks of a protobuf profile; goroutines go to `each` where every sample is one.
pub(super) fn scan(
    data: &[u8],
    symbols: &mut Symbols,
    each: &mut dyn FnMut(&Symbols, Goroutine),
) -> Result<Scan, ProfileError> {
    if data.len() > MAX_PROTO {
        return Err(ProfileError::Proto("it is over 64 MiB, more than any goroutine profile needs"));
    }
    let mut tables = Tables::default();
    let broken = tables.read(data).err();
    if tables.strings.is_empty() {
        return Err(ProfileError::Proto(broken.unwrap_or("it has no string table")));
    }
    let kind = tables.kind()?;
    let locations = tables.resolve(symbols)?;
    let mut samples = Samples {
        symbols,
        tables: &tables,
        locations,
        stacks: Vec::new(),
        lists: Interner::default(),
        frames: 0,
        skipped: 0,
        groups: Vec::new(),
    };
    samples.read(data)?;
    let Samples { groups, skipped, .. } = samples;
    let mut notes = Vec::new();
    notes.extend(broken.map(Note::DamagedProto));
    notes.extend((skipped > 0).then_some(Note::SenselessSamples(skipped)));
    let total = groups.iter().fold(0u64, |sum, group| sum.saturating_add(group.count));
    let build_id = tables.build_id.map(|id| String::from_utf8_lossy(tables.text(id)).into_owned());
    let build_id = build_id.filter(|id| !id.is_empty());
    let taken = tables.taken;
    let goroutines: Option<Vec<Goroutine>> = groups.iter().map(|group| goroutine(group, symbols)).collect();
    let (kind, groups) = match goroutines.filter(|all| kind == Kind::GoroutineProto && !all.is_empty()) {
        Some(all) => {
            all.into_iter().for_each(|goroutine| each(symbols, goroutine));
            (Kind::GoroutineEach, None)
        }
        None => (kind, Some(groups)),
    };
    Ok(Scan { kind, total, taken, groups, build_id, causes: Vec::new(), notes })
}

/// The goroutine that a sample is of by its labels; `None` if they do not say.
fn goroutine(group: &Group, symbols: &mut Symbols) -> Option<Goroutine> {
    let value = |name: &str| {
        let label = group.labels.iter().find(|&&(key, _)| symbols.text(key) == name)?;
        Some(symbols.text(label.1).to_string())
    };
    let number = |name: &str| value(name)?.parse::<u64>().ok();
    let goid = number(GOID).filter(|_| group.count == 1)?;
    let (parent, minutes, state) = (number(PARENT), number(MINUTES), value(STATE).unwrap_or_default());
    let mut header = Header { status: b"unknown", ..Header::default() };
    if !state.is_empty() {
        header.read_state(state.as_bytes());
    }
    let own = |&&(key, _): &&(super::Text, super::Text)| ![GOID, PARENT, STATE, MINUTES].contains(&symbols.text(key));
    let labels = group.labels.iter().filter(own).copied().collect();
    Some(Goroutine {
        goid,
        status: symbols.intern(header.status),
        reason: header.reason.map(|reason| symbols.intern(reason)),
        leaked: header.leaked,
        scan: header.scan,
        durable: header.durable,
        minutes: minutes.or(header.minutes).filter(|&minutes| minutes > 0),
        locked: header.locked,
        bubble: header.bubble,
        g: None,
        m: None,
        labels,
        stack: group.stack,
        created_by: None,
        parent: parent.filter(|&parent| parent > 0),
        elided: None,
        unavailable: false,
        ancestors: Vec::new(),
        args: 0..0,
    })
}

type Broken = &'static str;

/// One field's value; fixed-width fields have no use here.
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a message, in order.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Value<'a>), Broken> {
        let (number, wire) = decode_key(&mut self.0).map_err(|_| "a field has no valid key")?;
        let value = match wire {
            WireType::Varint => Value::Varint(self.varint()?),
            WireType::LengthDelimited => {
                let len = self.varint()?;
                Value::Bytes(self.bytes(usize::try_from(len).unwrap_or(usize::MAX))?)
            }
            WireType::SixtyFourBit => self.bytes(8).map(|_| Value::Fixed)?,
            WireType::ThirtyTwoBit => self.bytes(4).map(|_| Value::Fixed)?,
            WireType::StartGroup | WireType::EndGroup => return Err("it has groups, which profiles never have"),
        };
        Ok((number, value))
    }

    fn varint(&mut self) -> Result<u64, Broken> {
        decode_varint(&mut self.0).map_err(|_| "a number breaks off or is too long")
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Broken> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or("it breaks off inside a field")?;
        self.0 = rest;
        Ok(bytes)
    }
}

/// Adds the numbers of a repeated field, packed or not.
fn repeated(value: Value, into: &mut Vec<u64>) -> Result<(), Broken> {
    match value {
        Value::Varint(number) => into.push(number),
        Value::Bytes(packed) => {
            let mut packed = Fields(packed);
            while !packed.0.is_empty() {
                into.push(packed.varint()?);
            }
        }
        Value::Fixed => return Err("a list of numbers has the wrong type"),
    }
    Ok(())
}

#[derive(Clone, Copy, Default)]
struct Function {
    name: u64,
    file: u64,
    start_line: u64,
}

#[derive(Clone, Copy, Default)]
struct Location {
    address: u64,
    /// Where its lines begin and end in [`Tables::lines`].
    lines: (u32, u32),
}

/// What samples refer to.
#[derive(Default)]
struct Tables<'a> {
    strings: Vec<&'a [u8]>,
    functions: HashMap<u64, Function>,
    locations: HashMap<u64, Location>,
    /// Function id and line of each call at a location, innermost first.
    lines: Vec<(u64, u32)>,
    sample_types: Vec<u64>,
    taken: Option<i64>,
    /// String id of the first mapping's build ID: the program's own comes first.
    build_id: Option<u64>,
}

impl<'a> Tables<'a> {
    fn read(&mut self, data: &'a [u8]) -> Result<(), Broken> {
        for field in Fields(data) {
            match field? {
                (1, Value::Bytes(message)) => self.read_sample_type(message)?,
                (3, Value::Bytes(message)) if self.build_id.is_none() => self.read_mapping(message)?,
                (4, Value::Bytes(message)) => self.read_location(message)?,
                (5, Value::Bytes(message)) => self.read_function(message)?,
                (6, Value::Bytes(text)) => self.strings.push(text),
                (9, Value::Varint(nanos)) if nanos != 0 => self.taken = Some(nanos as i64),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_sample_type(&mut self, message: &[u8]) -> Result<(), Broken> {
        for field in Fields(message) {
            if let (1, Value::Varint(name)) = field? {
                self.sample_types.push(name);
            }
        }
        Ok(())
    }

    fn read_mapping(&mut self, message: &[u8]) -> Result<(), Broken> {
        self.build_id = Some(0);
        for field in Fields(message) {
            if let (6, Value::Varint(text)) = field? {
                self.build_id = Some(text);
            }
        }
        Ok(())
    }

    fn read_location(&mut self, message: &[u8]) -> Result<(), Broken> {
        let (mut id, mut address) = (0, 0);
        let start = self.lines.len();
        for field in Fields(message) {
            match field? {
                (1, Value::Varint(number)) => id = number,
                (3, Value::Varint(number)) => address = number,
                (4, Value::Bytes(line)) => self.read_line(line)?,
                _ => {}
            }
        }
        self.lines.truncate(start + MAX_INLINED);
        self.locations.insert(id, Location { address, lines: (start as u32, self.lines.len() as u32) });
        Ok(())
    }

    fn read_line(&mut self, message: &[u8]) -> Result<(), Broken> {
        let (mut function, mut line) = (0, 0);
        for field in Fields(message) {
            match field? {
                (1, Value::Varint(number)) => function = number,
                (2, Value::Varint(number)) => line = u32::try_from(number).unwrap_or(0),
                _ => {}
            }
        }
        self.lines.push((function, line));
        Ok(())
    }

    fn read_function(&mut self, message: &[u8]) -> Result<(), Broken> {
        let (mut id, mut function) = (0, Function::default());
        for field in Fields(message) {
            match field? {
                (1, Value::Varint(number)) => id = number,
                (2, Value::Varint(number)) => function.name = number,
                (4, Value::Varint(number)) => function.file = number,
                (5, Value::Varint(number)) => function.start_line = number,
                _ => {}
            }
        }
        self.functions.insert(id, function);
        Ok(())
    }

    /// The text of a string id; unknown ids have none.
    fn text(&self, id: u64) -> &'a [u8] {
        usize::try_from(id).ok().and_then(|id| self.strings.get(id)).copied().unwrap_or_default()
    }

    fn kind(&self) -> Result<Kind, ProfileError> {
        let first = self.sample_types.first().map(|&id| self.text(id)).unwrap_or_default();
        match first {
            b"goroutine" => Ok(Kind::GoroutineProto),
            b"goroutineleak" => Ok(Kind::LeakProto),
            b"" => Err(ProfileError::Proto("it does not say what it counts")),
            other => {
                let name: String =
                    String::from_utf8_lossy(other).chars().filter(|c| c.is_ascii_graphic()).take(32).collect();
                Err(ProfileError::OtherKind(format!("a profile of '{name}'")))
            }
        }
    }

    /// The frames of each location, innermost first.
    fn resolve(&self, symbols: &mut Symbols) -> Result<HashMap<u64, Resolved>, ProfileError> {
        let nothing = symbols.intern(b"");
        let resolve = |(&id, location): (&u64, &Location)| {
            let lines = self.lines.get(location.lines.0 as usize..location.lines.1 as usize).unwrap_or_default();
            let blank = Frame {
                function: nothing,
                file: nothing,
                line: 0,
                start_line: 0,
                offset: None,
                pc: Some(location.address),
            };
            let mut frames: Vec<FrameId> = Vec::with_capacity(lines.len());
            for &(function, line) in lines {
                let function = self.functions.get(&function).copied().unwrap_or_default();
                let start_line = u32::try_from(function.start_line).unwrap_or(0);
                let (name, file) = (symbols.intern(self.text(function.name)), symbols.intern(self.text(function.file)));
                frames.push(symbols.frame_id(Frame { function: name, file, line, start_line, ..blank }));
            }
            if frames.is_empty() {
                let frame = Frame::at(location.address, symbols);
                frames.push(symbols.frame_id(frame));
            }
            (id, Resolved { address: location.address, frames: frames.into_boxed_slice() })
        };
        Ok(self.locations.iter().map(resolve).collect())
    }
}

struct Resolved {
    address: u64,
    frames: Box<[FrameId]>,
}

struct Samples<'t, 'd> {
    symbols: &'t mut Symbols,
    tables: &'t Tables<'d>,
    locations: HashMap<u64, Resolved>,
    /// The stack of each distinct list of locations.
    stacks: Vec<StackId>,
    lists: Interner<u64>,
    frames: usize,
    skipped: u64,
    groups: Vec<Group>,
}

impl Samples<'_, '_> {
    fn read(&mut self, data: &[u8]) -> Result<(), ProfileError> {
        // A damaged end has been noted by then; what precedes it is good.
        for (number, value) in Fields(data).map_while(Result::ok) {
            if let (2, Value::Bytes(message)) = (number, value) {
                match self.read_sample(message) {
                    Ok(Some(group)) => self.groups.push(group),
                    Ok(None) | Err(_) => self.skipped += 1,
                }
                if self.frames > MAX_FRAMES {
                    return Err(ProfileError::Proto("its stacks hold more than 16 million frames"));
                }
            }
        }
        Ok(())
    }

    /// `None` for a sample that counts nothing or refers to nothing.
    fn read_sample(&mut self, message: &[u8]) -> Result<Option<Group>, Broken> {
        let (mut list, mut values, mut labels) = (Vec::new(), Vec::new(), Labels::new());
        for field in Fields(message) {
            match field? {
                (1, value) => repeated(value, &mut list)?,
                (2, value) => repeated(value, &mut values)?,
                (3, Value::Bytes(label)) => labels.extend(self.read_label(label)?),
                _ => {}
            }
        }
        let count = values.first().and_then(|&value| i64::try_from(value).ok()).filter(|&count| count > 0);
        let known: Option<Vec<u64>> = list.iter().map(|id| Some(self.locations.get(id)?.address)).collect();
        let (Some(count), Some(pcs)) = (count, known) else { return Ok(None) };
        let stack = self.stack(&list);
        Ok(Some(Group { count: count as u64, pcs, stack, labels }))
    }

    /// A label's value is a text, else a number and perhaps its unit; neither is an empty text.
    fn read_label(&mut self, message: &[u8]) -> Result<Option<(super::Text, super::Text)>, Broken> {
        let (mut key, mut value, mut number, mut unit) = (0, 0, 0, 0);
        for field in Fields(message) {
            match field? {
                (1, Value::Varint(id)) => key = id,
                (2, Value::Varint(id)) => value = id,
                (3, Value::Varint(bits)) => number = bits as i64,
                (4, Value::Varint(id)) => unit = id,
                _ => {}
            }
        }
        if key == 0 {
            return Ok(None);
        }
        let (tables, symbols) = (self.tables, &mut *self.symbols);
        let key = symbols.intern(tables.text(key));
        let value = match (value, number, tables.text(unit)) {
            (0, 0, b"") => symbols.intern(b""),
            (0, number, b"") => symbols.intern(number.to_string().as_bytes()),
            (0, number, unit) => symbols.intern(format!("{number} {}", String::from_utf8_lossy(unit)).as_bytes()),
            (id, ..) => symbols.intern(tables.text(id)),
        };
        Ok(Some((key, value)))
    }

    fn stack(&mut self, list: &[u64]) -> StackId {
        if let Some(&stack) = self.lists.get(list).and_then(|known| self.stacks.get(known as usize)) {
            return stack;
        }
        let mut frames = Vec::new();
        for resolved in list.iter().filter_map(|id| self.locations.get(id)) {
            frames.extend_from_slice(&resolved.frames);
            if self.frames + frames.len() > MAX_FRAMES {
                break;
            }
        }
        self.frames += frames.len() + 1;
        let stack = self.symbols.stack_id(&frames);
        self.lists.insert(list);
        self.stacks.push(stack);
        stack
    }
}
