//! Map keys as the user types them: Go literals, laid out as the runtime would hold them.

use super::plan::short_name;
use super::scan::{self, Scanner, Wrong};
use crate::memory::{Memory, MemoryError, Place, Region};
use crate::types::{normal_spelling, Field, GoType, Kind, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// Keys beyond this size are refused.
const LARGEST_KEY: u64 = 1 << 20;
/// Literals nested deeper than this are refused.
const DEEPEST_LITERAL: usize = 64;

/// Memory for what a key points to (text of strings, values in interfaces), at addresses that no target
/// can map: they are not canonical on amd64, nor within 52 bits as on arm64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arena {
    bytes: Vec<u8>,
}

impl Arena {
    /// Address of its first byte.
    pub const BASE: u64 = 0x6d61_7073_0000_0000;

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends `bytes` at the next multiple of 8; returns their address.
    pub fn push(&mut self, bytes: &[u8]) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let address = Self::BASE + self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        address
    }
}

/// The target's memory with an [`Arena`] laid over it.
pub struct Overlay<'a> {
    arena: &'a Arena,
    target: &'a dyn Memory,
    missed: AtomicBool,
}

impl<'a> Overlay<'a> {
    /// Serves the arena's addresses from `arena` and all others from `target`.
    pub fn new(arena: &'a Arena, target: &'a dyn Memory) -> Overlay<'a> {
        Overlay { arena, target, missed: AtomicBool::new(false) }
    }

    /// Whether something of the target was asked for that could not be read.
    pub fn missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed)
    }

    /// The arena's bytes when `address` is one of its own (none when they are not all there).
    fn own(&self, address: u64, len: usize) -> Option<Option<&[u8]>> {
        let offset = address.checked_sub(Arena::BASE).filter(|offset| *offset <= self.arena.bytes.len() as u64)?;
        let offset = offset as usize;
        Some(offset.checked_add(len).and_then(|end| self.arena.bytes.get(offset..end)))
    }
}

impl Memory for Overlay<'_> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        match self.own(address, buf.len()) {
            Some(Some(bytes)) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            Some(None) => Err(MemoryError { address, place: self.place() }),
            None => self.target.read(address, buf).inspect_err(|_| self.missed.store(true, Ordering::Relaxed)),
        }
    }

    fn mapped(&self, address: u64, len: usize) -> Option<&[u8]> {
        match self.own(address, len) {
            Some(own) => own,
            None => self.target.mapped(address, len),
        }
    }

    fn regions(&self) -> Vec<Region> {
        self.target.regions()
    }

    fn place(&self) -> Place {
        self.target.place()
    }
}

/// Parses a key of type `key` and lays it out as the runtime does.
///
/// Returns the key's bytes and the arena that its pointers lead into: read it through an [`Overlay`]. A key
/// in an interface with methods points to an itab in the arena of which only the type word (at 8) is set.
/// Errors are [`Error::Usage`]: the column, what was expected there, and the form of such a key.
pub fn parse_key(types: &dyn TypeSource, key: TypeId, text: &str) -> Result<(Vec<u8>, Arena)> {
    let key = types.load(key)?;
    if key.size > LARGEST_KEY {
        return Err(Error::Usage(format!("a key of {} bytes cannot be typed in: take it with --expr", key.size)));
    }
    let mut parser = Parser { types, scan: Scanner::new(text), root: key.clone(), arena: Arena::default(), nest: 0 };
    let mut bytes = vec![0; key.size as usize];
    parser.value(&key, &mut bytes)?;
    if parser.scan.peek().is_some() {
        return Err(parser.expected("the end of the key"));
    }
    Ok((bytes, parser.arena))
}

/// The bytes of a Go string literal, quotes and all; `None` when it is none.
pub fn unquote(literal: &str) -> Option<Vec<u8>> {
    let mut scan = Scanner::new(literal);
    let starts = literal.starts_with(['"', '`']);
    let bytes = if starts { scan.string().ok()? } else { return None };
    scan.rest().is_empty().then_some(bytes)
}

/// An interface of type `interface` that holds the value `bytes` of type `dynamic`, laid out as by [`parse_key`].
pub fn in_interface(
    types: &dyn TypeSource,
    interface: &GoType,
    dynamic: &GoType,
    bytes: &[u8],
) -> Result<(Vec<u8>, Arena)> {
    let (mut out, mut arena) = (vec![0; interface.size as usize], Arena::default());
    store(types, &mut arena, interface, dynamic, bytes, &mut out)?;
    Ok((out, arena))
}

/// How a literal of this type is written, for help and error messages: `{42, "text"}`.
pub fn example(types: &dyn TypeSource, ty: &GoType) -> String {
    example_within(types, ty, 0)
}

fn example_within(types: &dyn TypeSource, ty: &GoType, nest: usize) -> String {
    let of = |id: TypeId| match types.load(id) {
        Ok(ty) if nest < 4 => example_within(types, &ty, nest + 1),
        _ => "…".into(),
    };
    match (ty.kind, &ty.shape) {
        (Kind::Bool, _) => "true".into(),
        (Kind::Float32 | Kind::Float64, _) => "1.5".into(),
        (Kind::Complex64 | Kind::Complex128, _) => "(1+2i)".into(),
        (Kind::String, _) => "\"text\"".into(),
        (Kind::Interface, _) => "int64(42) or \"text\"".into(),
        (_, Shape::Array { elem, len }) => {
            list(std::iter::repeat_n(of(*elem), usize::try_from(*len).unwrap_or(9).min(9)))
        }
        (_, Shape::Struct(fields)) => list(fields.iter().map(|field| of(field.ty))),
        (Kind::Pointer | Kind::Chan | Kind::UnsafePointer, _) => "0xc000012340".into(),
        _ => "42".into(),
    }
}

fn list(parts: impl Iterator<Item = String>) -> String {
    format!("{{{}}}", parts.collect::<Vec<_>>().join(", "))
}

struct Parser<'p> {
    types: &'p dyn TypeSource,
    scan: Scanner<'p>,
    root: Arc<GoType>,
    arena: Arena,
    nest: usize,
}

impl Parser<'_> {
    fn expected(&self, what: impl std::fmt::Display) -> Error {
        self.expected_at(self.scan.at, what)
    }

    fn expected_at(&self, at: usize, what: impl std::fmt::Display) -> Error {
        let column = self.scan.text.get(..at).map_or(0, |before| before.chars().count()) + 1;
        let form = example(self.types, &self.root);
        let name = self.types.shown_name(&self.root);
        Error::Usage(format!(
            "column {column} of the key: expected {what}; a key of type {name} is written like {form}"
        ))
    }

    fn lexical<T>(&self, scanned: Result<T, Wrong>) -> Result<T> {
        scanned.map_err(|wrong| self.expected_at(wrong.at, wrong.expected))
    }

    /// Parses a value of type `ty` into its bytes, which are zero.
    fn value(&mut self, ty: &Arc<GoType>, out: &mut [u8]) -> Result<()> {
        self.nest += 1;
        if self.nest > DEEPEST_LITERAL {
            return Err(self.expected("fewer nested braces"));
        }
        if out.len() as u64 != ty.size {
            return Err(Error::Type(format!("type {} lies beyond its end: the debug information is damaged", ty.name)));
        }
        self.scan.skip_space();
        if ty.kind == Kind::Interface {
            self.interface(ty, out)?;
        } else {
            let prefixes = self.type_prefixes();
            match prefixes.iter().find(|(spelling, _)| spells(spelling, self.types, ty)) {
                Some((_, bracket)) => self.typed(ty, *bracket, out)?,
                None => self.plain(ty, out)?,
            }
        }
        self.nest -= 1;
        Ok(())
    }

    /// What follows a type name: `(value)` or `{values}`, at `bracket`.
    fn typed(&mut self, ty: &Arc<GoType>, bracket: usize, out: &mut [u8]) -> Result<()> {
        self.scan.at = bracket;
        if self.scan.accept("(") {
            self.value(ty, out)?;
            return self.expect(")");
        }
        self.plain(ty, out)
    }

    fn expect(&mut self, word: &'static str) -> Result<()> {
        if self.scan.accept(word) {
            Ok(())
        } else {
            Err(self.expected(format_args!("{word:?}")))
        }
    }

    /// Type names that the text may begin with: each spelling that is followed by a `(` or `{`, and where.
    fn type_prefixes(&self) -> Vec<(String, usize)> {
        const MOST: usize = 8;
        let rest = self.scan.rest();
        let mut found = Vec::new();
        let mut depth = 0usize;
        for (at, c) in rest.char_indices() {
            match c {
                '(' | '{' | '[' => {
                    let spelling = rest[..at].trim();
                    if depth == 0 && c != '[' && !spelling.is_empty() && found.len() < MOST {
                        let inner = spelling.strip_prefix('(').and_then(|s| s.strip_suffix(')')).unwrap_or(spelling);
                        found.push((normal_spelling(inner), self.scan.at + at));
                    }
                    depth += 1;
                }
                ')' | '}' | ']' if depth == 0 => break,
                ')' | '}' | ']' => depth -= 1,
                ',' | ':' if depth == 0 => break,
                '"' | '\'' | '`' => break,
                _ => {}
            }
        }
        found
    }

    /// A value without a type name before it.
    fn plain(&mut self, ty: &Arc<GoType>, out: &mut [u8]) -> Result<()> {
        if ty.kind.fixed_size().is_some_and(|size| size != out.len() as u64) {
            return Err(Error::Type(format!("type {} has a size that its kind cannot have", ty.name)));
        }
        match (ty.kind, &ty.shape) {
            (Kind::Bool, _) => {
                let value = self.bool()?;
                put(out, 0, &[value.into()]);
            }
            (kind, _) if kind.is_signed() || kind.is_unsigned() => self.integer(ty, out)?,
            (Kind::Float32, _) => out.copy_from_slice(&self.float::<f32>()?.to_le_bytes()),
            (Kind::Float64, _) => out.copy_from_slice(&self.float::<f64>()?.to_le_bytes()),
            (Kind::Complex64, _) => {
                let (re, im) = self.complex::<f32>()?;
                put(out, 0, &re.to_le_bytes());
                put(out, 4, &im.to_le_bytes());
            }
            (Kind::Complex128, _) => {
                let (re, im) = self.complex::<f64>()?;
                put(out, 0, &re.to_le_bytes());
                put(out, 8, &im.to_le_bytes());
            }
            (Kind::String, _) => self.string(out)?,
            (Kind::Pointer | Kind::Chan | Kind::UnsafePointer, _) => {
                let address = self.address()?;
                put(out, 0, &address.to_le_bytes());
            }
            (Kind::Array, Shape::Array { elem, len }) => self.array(*elem, *len, out)?,
            (Kind::Struct, Shape::Struct(fields)) => self.structure(ty, fields, out)?,
            _ => {
                return Err(Error::Usage(format!(
                    "a {0} cannot be a map key: the program would panic (hash of unhashable type {0})",
                    ty.name
                )))
            }
        }
        Ok(())
    }

    fn bool(&mut self) -> Result<bool> {
        let start = self.scan.at;
        match self.scan.name() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.expected_at(start, "true or false")),
        }
    }

    fn integer(&mut self, ty: &GoType, out: &mut [u8]) -> Result<()> {
        let start = self.scan.at;
        let value = if self.scan.peek() == Some('\'') {
            let rune = self.scan.rune();
            self.lexical(rune)?.into()
        } else {
            let number = self.scan.number();
            scan::integer(&number).ok_or_else(|| self.expected_at(start, "an integer"))?
        };
        let bits = 8 * out.len() as u32;
        let (least, most) = if ty.kind.is_signed() {
            (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
        } else {
            (0, (1i128 << bits) - 1)
        };
        if !(least..=most).contains(&value) {
            let name = self.types.shown_name(ty);
            return Err(self.expected_at(start, format_args!("a {name} from {least} to {most}, not {value}")));
        }
        let len = out.len();
        out.copy_from_slice(&value.to_le_bytes()[..len]);
        Ok(())
    }

    fn float<F: std::str::FromStr>(&mut self) -> Result<F> {
        let start = self.scan.at;
        let number = self.scan.number();
        scan::float(&number).ok_or_else(|| self.expected_at(start, "a number, NaN, +Inf or -Inf"))
    }

    /// `(1+2i)`, `1+2i`, `2i` or `1`.
    fn complex<F: std::str::FromStr + Default>(&mut self) -> Result<(F, F)> {
        if self.scan.accept("(") {
            let value = self.complex_parts()?;
            self.expect(")")?;
            return Ok(value);
        }
        self.complex_parts()
    }

    fn complex_parts<F: std::str::FromStr + Default>(&mut self) -> Result<(F, F)> {
        let first = self.float()?;
        if self.scan.accept("i") {
            return Ok((F::default(), first));
        }
        if !matches!(self.scan.peek(), Some('+' | '-')) {
            return Ok((first, F::default()));
        }
        let second = self.float()?;
        if !self.scan.accept("i") {
            return Err(self.expected("an i after the imaginary part"));
        }
        Ok((first, second))
    }

    fn string(&mut self, out: &mut [u8]) -> Result<()> {
        if !matches!(self.scan.peek(), Some('"' | '`')) {
            let start = self.scan.at;
            return Err(match self.scan.name() {
                "" => self.expected("a string in double quotes"),
                word => self.expected_at(start, format_args!("a string in double quotes: \"{word}\"")),
            });
        }
        let scanned = self.scan.string();
        let bytes = self.lexical(scanned)?;
        if !bytes.is_empty() {
            put(out, 0, &self.arena.push(&bytes).to_le_bytes());
            put(out, 8, &(bytes.len() as u64).to_le_bytes());
        }
        Ok(())
    }

    fn address(&mut self) -> Result<u64> {
        if self.nil() {
            return Ok(0);
        }
        let start = self.scan.at;
        let number = self.scan.number();
        let address = scan::integer(&number).and_then(|value| u64::try_from(value).ok());
        address.ok_or_else(|| self.expected_at(start, "an address such as 0xc000012340, or nil"))
    }

    fn nil(&mut self) -> bool {
        let start = self.scan.at;
        let nil = self.scan.name() == "nil";
        if !nil {
            self.scan.at = start;
        }
        nil
    }

    fn array(&mut self, elem: TypeId, len: u64, out: &mut [u8]) -> Result<()> {
        let elem = self.types.load(elem)?;
        self.expect("{")?;
        let mut index = 0;
        while !self.scan.accept("}") {
            if index == len {
                return Err(self.expected(format_args!("}} after {len} elements")));
            }
            let start = index.checked_mul(elem.size).and_then(|offset| usize::try_from(offset).ok());
            let slot = start.and_then(|at| out.get_mut(at..at.checked_add(elem.size as usize)?));
            self.value(&elem, slot.unwrap_or_default())?;
            index += 1;
            self.comma_or_brace()?;
        }
        Ok(())
    }

    /// A comma, or a closing brace that is left in place.
    fn comma_or_brace(&mut self) -> Result<()> {
        if self.scan.accept(",") || self.scan.peek() == Some('}') {
            return Ok(());
        }
        Err(self.expected("a comma or }"))
    }

    fn structure(&mut self, ty: &GoType, fields: &[Field], out: &mut [u8]) -> Result<()> {
        self.expect("{")?;
        let named = self.field_name().is_some();
        let mut count = 0;
        while !self.scan.accept("}") {
            let field = if named {
                let start = self.scan.at;
                let name = self.field_name();
                let field = name.and_then(|name| fields.iter().find(|field| *field.name == *name));
                let Some(field) = field else {
                    let names: Vec<&str> =
                        fields.iter().map(|field| &*field.name).filter(|name| *name != "_").collect();
                    return Err(self.expected_at(start, format_args!("a field, one of {}", names.join(", "))));
                };
                self.scan.name();
                self.expect(":")?;
                field
            } else {
                let Some(field) = fields.get(count) else {
                    return Err(self.expected(format_args!("}} after {count} fields")));
                };
                field
            };
            let field_type = self.types.load(field.ty)?;
            let start = usize::try_from(field.offset).ok();
            let slot = start.and_then(|at| out.get_mut(at..at.checked_add(field_type.size as usize)?));
            self.value(&field_type, slot.unwrap_or_default())?;
            count += 1;
            self.comma_or_brace()?;
        }
        // As in Go: all fields by position, or any by name, or none at all.
        if !named && count > 0 && count < fields.len() {
            let name = self.types.shown_name(ty);
            return Err(self.expected_at(
                self.scan.at - 1,
                format_args!("all {} fields of {name}, or fields by name", fields.len()),
            ));
        }
        Ok(())
    }

    /// The name that comes next when a colon follows it; consumes nothing.
    fn field_name(&mut self) -> Option<String> {
        let mut ahead = self.scan.clone();
        let name = ahead.name();
        (!name.is_empty() && ahead.accept(":")).then(|| name.to_string())
    }

    /// A value in an interface: of the type written before it, else of its literal's default type.
    fn interface(&mut self, interface: &GoType, out: &mut [u8]) -> Result<()> {
        if self.nil() {
            return Ok(());
        }
        let start = self.scan.at;
        if let Some(default) = self.default_type() {
            let dynamic = self.named_type(default)?;
            let Some(dynamic) = dynamic else {
                return Err(self.expected_at(start, format_args!("another key: this binary has no type {default}")));
            };
            let mut bytes = vec![0; dynamic.size as usize];
            self.plain(&dynamic, &mut bytes)?;
            return store(self.types, &mut self.arena, interface, &dynamic, &bytes, out);
        }
        let prefixes = self.type_prefixes();
        for (spelling, bracket) in &prefixes {
            let Some(dynamic) = self.named_type(spelling)? else { continue };
            if dynamic.size > LARGEST_KEY {
                return Err(self.expected_at(start, "a smaller type"));
            }
            let mut bytes = vec![0; dynamic.size as usize];
            if dynamic.kind == Kind::Interface {
                return Err(self.expected_at(start, "a type that is not an interface"));
            }
            self.typed(&dynamic, *bracket, &mut bytes)?;
            return store(self.types, &mut self.arena, interface, &dynamic, &bytes, out);
        }
        Err(match prefixes.first() {
            Some((spelling, _)) => {
                self.expected_at(start, format_args!("a type of this binary, and {spelling} is not one"))
            }
            None => self.expected_at(start, "a literal, or one with its type"),
        })
    }

    /// The default type of the untyped literal that comes next.
    fn default_type(&mut self) -> Option<&'static str> {
        match self.scan.peek()? {
            '"' | '`' => return Some("string"),
            '\'' => return Some("int32"),
            _ => {}
        }
        let mut ahead = self.scan.clone();
        let number = ahead.number();
        if !number.is_empty() {
            if ahead.rest().starts_with(['i', '+', '-']) {
                return Some("complex128");
            }
            let digits = number.trim_start_matches(['+', '-']).to_ascii_lowercase();
            let hex = digits.starts_with("0x");
            return Some(if !hex && digits.contains(['.', 'e', 'n']) { "float64" } else { "int" });
        }
        matches!(ahead.name(), "true" | "false").then_some("bool")
    }

    fn named_type(&self, spelling: &str) -> Result<Option<Arc<GoType>>> {
        // As types are shown that have no other name of their own.
        if let Some((name, address)) = spelling.rsplit_once("@0x") {
            let address = u64::from_str_radix(address, 16).ok().filter(|_| !name.is_empty());
            return address.map(|address| self.types.load(self.types.by_descriptor(address)?)).transpose();
        }
        let id = match self.types.by_name(spelling)? {
            Some(id) => Some(id),
            None => self.types.by_name(&format!("main.{spelling}"))?,
        };
        id.map(|id| self.types.load(id)).transpose()
    }
}

/// Makes `out` an interface that holds `bytes` of type `dynamic`.
fn store(
    types: &dyn TypeSource,
    arena: &mut Arena,
    interface: &GoType,
    dynamic: &GoType,
    bytes: &[u8],
    out: &mut [u8],
) -> Result<()> {
    let Some(descriptor) = dynamic.descriptor else {
        let name = &dynamic.name;
        return Err(Error::Usage(format!(
            "no interface of this program can hold a {name}: the binary has no type descriptor for it"
        )));
    };
    let methods = matches!(interface.shape, Shape::Interface { methods: true });
    let tab = if methods {
        let mut itab = [0; 24];
        itab[8..16].copy_from_slice(&descriptor.to_le_bytes());
        arena.push(&itab)
    } else {
        descriptor
    };
    put(out, 0, &tab.to_le_bytes());
    if is_direct(types, dynamic, 0)? {
        put(out, 8, bytes);
    } else {
        put(out, 8, &arena.push(bytes).to_le_bytes());
    }
    Ok(())
}

/// Whether an interface holds a `ty` in its data word itself: anything that is one pointer.
fn is_direct(types: &dyn TypeSource, ty: &GoType, nest: usize) -> Result<bool> {
    if ty.size != 8 || nest > DEEPEST_LITERAL {
        return Ok(false);
    }
    let inner = |id: TypeId| is_direct(types, &*types.load(id)?, nest + 1);
    match (ty.kind, &ty.shape) {
        (Kind::Pointer | Kind::Chan | Kind::Func | Kind::Map | Kind::UnsafePointer, _) => Ok(true),
        (_, Shape::Array { elem, len: 1 }) => inner(*elem),
        (_, Shape::Struct(fields)) => {
            let mut direct = false;
            for field in fields {
                direct |= inner(field.ty)?;
            }
            // Go 1.26 began to hold these directly; without the version we would guess.
            if direct && fields.len() > 1 {
                let name = &ty.name;
                return Err(Error::Usage(format!("a {name} in an interface cannot be typed in: take it with --expr")));
            }
            Ok(direct)
        }
        _ => Ok(false),
    }
}

/// Whether `spelling` names `ty`: in full, by its last path element, or without its package.
fn spells(spelling: &str, types: &dyn TypeSource, ty: &GoType) -> bool {
    let short = types.shown_name(ty);
    spelling == &*ty.name
        || spelling == short
        || spelling == short_name(&ty.name)
        || short.rsplit_once('.').is_some_and(|(_, bare)| spelling == bare)
        || ty.kind == Kind::Array && spelling.strip_prefix("[...]").is_some_and(|elem| short.ends_with(elem))
}

fn put(out: &mut [u8], offset: usize, bytes: &[u8]) {
    if let Some(slot) = out.get_mut(offset..offset + bytes.len()) {
        slot.copy_from_slice(bytes);
    }
}
