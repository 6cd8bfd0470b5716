//! Expressions over package variables, for use without a debugger: `main.cache`, `*main.p`, `main.servers[2].users`,
//! `main.byName["x"].users`, `'pkg/path.Var'.field`; and every path that `gomap list` prints:
//!
//! - `m["k"]` the elem of a key, `m[key K]` the key itself, `ch<-[3]` a value in a channel's buffer, `(.next×5)` five times `.next`
//! - `(map[string]int)(0xc000…)` and `(*main.T)(0xc000…)` what lies at an address; words and an arrow before it say where it hangs
//! - `x.(T)` the value of an interface, which must be of that type

use crate::binary::rtype::is_direct;
use crate::error::Watch;
use crate::map::keys::Keys;
use crate::map::lookup::Hasher;
use crate::map::GoMap;
use crate::memory::Memory;
use crate::session::{MapRef, Session};
use crate::types::{atomic_pointee, Location, ProgramTypes, Shape, TypeId, TypeSource};
use crate::value::{parse_key, Overlay};
use crate::{Error, Result};
use rustc_hash::FxHashMap;
use std::sync::{Arc, RwLock};

/// Pointers and interfaces followed on the way to a map or a field.
const MAX_FOLLOWED: usize = 16;
/// How often `(.next×N)` goes on at most.
const MAX_REPEATED: u64 = 1 << 20;

/// What an expression means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A value in memory.
    Place(Location),
    /// A map named by its header.
    Map(MapRef),
}

impl Meaning {
    /// The value's place; a map's header is no value.
    pub fn place(self) -> Result<Location> {
        match self {
            Meaning::Place(location) => Ok(location),
            Meaning::Map(_) => Err(Error::Usage("this is the header of a map, and no value".into())),
        }
    }
}

/// How the keys of map types are hashed, kept over many expressions.
#[derive(Default)]
pub struct Hashers(RwLock<FxHashMap<TypeId, Arc<Hasher>>>);

impl Hashers {
    fn of(&self, session: &Session, map: &GoMap<'_>) -> Arc<Hasher> {
        // Each sync.Map names its own.
        if map.ty.is_sync_map() {
            return Arc::new(session.hasher(map));
        }
        if let Some(known) = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&map.ty.id) {
            return known.clone();
        }
        let hasher = Arc::new(session.hasher(map));
        self.0.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(map.ty.id, hasher.clone());
        hasher
    }
}

/// Where an expression is evaluated.
#[derive(Clone, Copy)]
pub struct Scope<'s> {
    pub session: &'s Session,
    /// The session's memory, perhaps with variables laid over it that were in registers.
    pub memory: &'s dyn Memory,
    /// Names that hide package variables.
    pub locals: Locals<'s>,
    pub hashers: &'s Hashers,
    /// Whether every key of a map is compared where its hash is not known.
    pub scans: bool,
    pub watch: &'s dyn Watch,
}

/// Evaluates `text`.
pub fn evaluate(scope: Scope<'_>, text: &str) -> Result<Meaning> {
    let text = text.trim();
    // Quoted for a shell, or as gdb wants names.
    let inside = text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''))
        .filter(|inside| !inside.is_empty() && !inside.contains('\''));
    if let Some(inside) = inside {
        if scope.session.types.variable(inside)?.is_none() {
            return evaluate(scope, inside);
        }
    }
    let mut parser = Parser { scope, types: &scope.session.types, memory: scope.memory, text, at: 0 };
    // Words that end in an address say where that hangs, not how to come to it.
    if let Some(arrow) = text.rfind(ARROW).filter(|_| text.ends_with(')')) {
        parser.at = arrow + ARROW.len() - 1;
        if let Some(found) = parser.cast()? {
            return Ok(found);
        }
        parser.at = 0;
    }
    let found = parser.unary()?;
    parser.space();
    match parser.rest() {
        "" => Ok(found),
        rest => Err(parser.wrong(&format!("{rest:?} is left over"))),
    }
}

/// Stands between the words for where a map hangs and its address.
const ARROW: &str = "→(";

/// The expression for a map by its address, which `hanging` says in words where it hangs.
pub fn by_address(session: &Session, hanging: &str, map: MapRef) -> String {
    let named = session.types.load(map.ty).ok();
    let name = named
        .as_ref()
        .map(|ty| ty.name.to_string())
        .filter(|name| session.types.by_name(name).is_ok_and(|found| found == Some(map.ty)));
    // A name that several types have, or that only reflection gave, says less than a descriptor's address.
    let name = name.or_else(|| Some(format!("{:#x}", named?.descriptor?))).unwrap_or_default();
    format!("{hanging}{ARROW}{name})({:#x})", map.address)
}

/// The map that a meaning leads to: pointers and interfaces are followed. The address is 0 for a nil map.
pub fn map_at(types: &dyn TypeSource, memory: &dyn Memory, meaning: Meaning) -> Result<MapRef> {
    let mut here = match meaning {
        Meaning::Place(location) => location,
        Meaning::Map(map) => return Ok(map),
    };
    let first = types.load(here.ty)?;
    for _ in 0..MAX_FOLLOWED {
        let ty = types.load(here.ty)?;
        match &ty.shape {
            Shape::Map(_) => return Ok(MapRef { address: memory.u64(here.address)?, ty: here.ty }),
            _ if ty.is_sync_map() => return Ok(MapRef { address: here.address, ty: here.ty }),
            _ => {}
        }
        let leads =
            matches!(ty.shape, Shape::Pointer(_) | Shape::Interface { .. }) || atomic_pointee(types, &ty).is_some();
        match leads {
            true => match follow(types, memory, here)? {
                Some(next) => here = next,
                None => {
                    return Err(Error::Map(format!(
                        "the {} at {:#x} is nil, so there is no map",
                        ty.name, here.address
                    )))
                }
            },
            false if ty.name == first.name => {
                return Err(Error::Usage(format!("this is of type {}, not a map", ty.name)))
            }
            false => return Err(Error::Usage(format!("this {} leads to a {}, not to a map", first.name, ty.name))),
        }
    }
    Err(Error::Usage(format!("no map after following {MAX_FOLLOWED} pointers")))
}

/// What a pointer or an interface at `here` leads to; `None` when it is nil.
fn follow(types: &dyn TypeSource, memory: &dyn Memory, here: Location) -> Result<Option<Location>> {
    let ty = types.load(here.ty)?;
    match &ty.shape {
        Shape::Pointer(Some(pointee)) => {
            let address = memory.u64(here.address)?;
            Ok((address != 0).then_some(Location { address, ty: *pointee }))
        }
        Shape::Interface { methods } => {
            let word = memory.u64(here.address)?;
            if word == 0 {
                return Ok(None);
            }
            // An itab's second word is the type (src/internal/abi/iface.go, runtime2.go before 1.22).
            let descriptor = if *methods { memory.u64(word.wrapping_add(8))? } else { word };
            let dynamic = types.by_descriptor(descriptor)?;
            let data = here.address.wrapping_add(8);
            let address = if is_direct(memory, descriptor)? { data } else { memory.u64(data)? };
            Ok(Some(Location { address, ty: dynamic }))
        }
        _ => match atomic_pointee(types, &ty) {
            Some((offset, pointee)) => {
                let address = memory.u64(here.address.wrapping_add(offset))?;
                Ok((address != 0).then_some(Location { address, ty: pointee }))
            }
            None => Err(Error::Usage(format!("{} cannot be dereferenced", ty.name))),
        },
    }
}

/// A frame's variable by name; `None` when it has none of that name.
pub type Locals<'l> = &'l dyn Fn(&str) -> Result<Option<Location>>;

struct Parser<'p> {
    scope: Scope<'p>,
    types: &'p ProgramTypes,
    memory: &'p dyn Memory,
    text: &'p str,
    at: usize,
}

impl<'p> Parser<'p> {
    fn rest(&self) -> &'p str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, token: char) -> bool {
        self.space();
        let found = self.rest().starts_with(token);
        self.at += if found { token.len_utf8() } else { 0 };
        found
    }

    fn wrong(&self, why: &str) -> Error {
        Error::Usage(format!("cannot evaluate {:?}: {why}", self.text))
    }

    fn unary(&mut self) -> Result<Meaning> {
        // Each star is one level of pointers; counted, so that a long row of them cannot overflow the stack.
        let mut stars = 0;
        while self.eat('*') {
            stars += 1;
        }
        let mut found = self.postfix()?;
        for _ in 0..stars {
            found = Meaning::Place(self.deref(found.place()?)?);
        }
        Ok(found)
    }

    fn postfix(&mut self) -> Result<Meaning> {
        let mut found = self.primary()?;
        while let Some(next) = self.step(found)? {
            found = next;
        }
        Ok(found)
    }

    /// What the next field, index, or the like of `found` is; `None` when none comes.
    fn step(&mut self, found: Meaning) -> Result<Option<Meaning>> {
        self.space();
        let rest = self.rest();
        if rest.starts_with('[') {
            let index = self.bracketed()?;
            return self.indexed(found, index).map(Some);
        }
        if rest.starts_with("<-") {
            self.at += 2;
            let index = self.bracketed()?;
            return self.buffered(found.place()?, index).map(|place| Some(Meaning::Place(place)));
        }
        if rest.starts_with("(.") || rest.starts_with("([") {
            let steps = self.bracketed()?;
            return self.repeated(found, steps).map(Some);
        }
        if !self.eat('.') {
            return Ok(None);
        }
        let place = found.place()?;
        let place = match self.rest().starts_with('(') {
            true => {
                let name = self.bracketed()?;
                self.asserted(place, name)?
            }
            false => {
                let name = self.identifier()?;
                self.field(place, name)?
            }
        };
        Ok(Some(Meaning::Place(place)))
    }

    /// What stands between the bracket here and the one that closes it.
    fn bracketed(&mut self) -> Result<&'p str> {
        let rest = self.rest();
        let (mut depth, mut quote, mut escaped) = (0usize, None, false);
        for (at, c) in rest.char_indices() {
            match (quote, c) {
                (Some(_), _) if escaped => escaped = false,
                (Some(open), '\\') if open != '`' => escaped = true,
                (Some(open), _) if c == open => quote = None,
                (Some(_), _) => {}
                (None, '"' | '\'' | '`') => quote = Some(c),
                (None, '(' | '[' | '{') => depth += 1,
                (None, ')' | ']' | '}') => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        self.at += at + 1;
                        return Ok(rest[1..at].trim());
                    }
                }
                _ if depth == 0 => break,
                _ => {}
            }
        }
        Err(self.wrong("an index such as [2], or the bracket at its end, is missing"))
    }

    /// `(TYPE)(0xADDRESS)`, when that comes: the map, or what a pointer of that type leads to.
    fn cast(&mut self) -> Result<Option<Meaning>> {
        let start = self.at;
        self.space();
        let (Ok(name), true) = (self.bracketed(), self.rest().starts_with("(0x")) else {
            self.at = start;
            return Ok(None);
        };
        let text = self.bracketed()?;
        let address = u64::from_str_radix(&text[2..], 16)
            .map_err(|_| self.wrong("an address such as 0xc000012345 is expected"))?;
        let ty = match name.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            Some(descriptor) => self.types.by_descriptor(descriptor)?,
            None => self.scope.session.type_named(name)?,
        };
        let loaded = self.types.load(ty)?;
        match loaded.shape {
            Shape::Map(_) => Ok(Some(Meaning::Map(MapRef { address, ty }))),
            Shape::Pointer(Some(ty)) => Ok(Some(Meaning::Place(Location { address, ty }))),
            _ if loaded.is_sync_map() => Ok(Some(Meaning::Place(Location { address, ty }))),
            _ => Err(self.wrong("an address can be taken for a map or a pointer")),
        }
    }

    /// The same steps so many times: `.next×5`.
    fn repeated(&mut self, found: Meaning, steps: &'p str) -> Result<Meaning> {
        let (steps, times) = steps.rsplit_once('×').ok_or_else(|| self.wrong("a call cannot be made"))?;
        let times: u64 = times
            .parse()
            .ok()
            .filter(|&times| times <= MAX_REPEATED)
            .ok_or_else(|| self.wrong(&format!("a number up to {MAX_REPEATED} is expected after the ×")))?;
        let mut found = found;
        for n in 0..times {
            if n & 1023 == 0 {
                self.scope.watch.tick(0, 0)?;
            }
            let mut parser = Parser { text: steps, at: 0, ..*self };
            while let Some(next) = parser.step(found)? {
                found = next;
            }
            if !parser.rest().is_empty() {
                return Err(self.wrong("fields and indices are expected before the ×"));
            }
        }
        Ok(found)
    }

    /// The value of the interface at `place`, which has to be of the type named `name`.
    fn asserted(&self, place: Location, name: &str) -> Result<Location> {
        let ty = self.types.load(place.ty)?;
        if !matches!(ty.shape, Shape::Interface { .. }) {
            return Err(self.wrong(&format!("{} is no interface", ty.name)));
        }
        let found = self.deref(place)?;
        let dynamic = self.types.load(found.ty)?;
        let is_meant = *dynamic.name == *name
            || self.types.shown_name(&dynamic) == name
            || self.types.by_name(name)? == Some(found.ty);
        match is_meant {
            true => Ok(found),
            false => Err(self.wrong(&format!("the interface holds a {}, no {name}", dynamic.name))),
        }
    }

    /// The element or entry of `found` that `index` names.
    fn indexed(&self, found: Meaning, index: &str) -> Result<Meaning> {
        let mut here = match found {
            Meaning::Map(map) => return self.entry(map, index).map(Meaning::Place),
            Meaning::Place(here) => here,
        };
        for _ in 0..MAX_FOLLOWED {
            let ty = self.types.load(here.ty)?;
            if matches!(ty.shape, Shape::Map(_)) || ty.is_sync_map() {
                let map = map_at(self.types, self.memory, Meaning::Place(here))?;
                return self.entry(map, index).map(Meaning::Place);
            }
            if self.leads(here)? {
                here = self.deref(here)?;
                continue;
            }
            return self.element(here, self.number(index)?).map(Meaning::Place);
        }
        Err(self.wrong("too many pointers"))
    }

    /// The elem of the key that `text` is a literal of, or after `key` the key itself as the map has it.
    fn entry(&self, map: MapRef, text: &str) -> Result<Location> {
        let map = GoMap::open(self.memory, self.types, map.ty, map.address)?;
        let (text, of_key) = match text.strip_prefix("key ") {
            Some(text) => (text.trim(), true),
            None => (text, false),
        };
        let (bytes, arena) = parse_key(self.types, map.key.id, text)?;
        let overlay = Overlay::new(&arena, self.memory);
        let hasher = self.scope.hashers.of(self.scope.session, &map);
        if let (Hasher::Unknown(why), false) = (&*hasher, self.scope.scans) {
            return Err(Error::Map(why.clone()));
        }
        let through = map.through(&overlay);
        let lookup = through.look_up(&hasher, &Keys::new(&overlay, self.types), &bytes, self.scope.watch)?;
        match lookup.found {
            Some(found) if of_key => Ok(Location { address: found.key_address, ty: map.key.id }),
            Some(found) => Ok(Location { address: found.elem_address, ty: map.elem.id }),
            None => Err(self.wrong(&format!("the {} has no key {text}", map.ty.name))),
        }
    }

    /// A value in the buffer of a channel (`qcount`, `dataqsiz`, `buf`: src/runtime/chan.go go1.19 to 1.27).
    fn buffered(&self, place: Location, index: &str) -> Result<Location> {
        let mut here = place;
        for _ in 0..MAX_FOLLOWED {
            let ty = self.types.load(here.ty)?;
            let Shape::Chan(elem) = ty.shape else {
                here = self.deref(here)?;
                continue;
            };
            let (channel, index) = (self.memory.u64(here.address)?, self.number(index)?);
            let word = |n: u64| self.memory.u64(channel.wrapping_add(8 * n));
            if channel == 0 || index >= word(1)? {
                return Err(self.wrong("the channel's buffer has no such place"));
            }
            return self.nth(word(2)?, elem, index);
        }
        Err(self.wrong("too many pointers"))
    }

    fn nth(&self, start: u64, elem: TypeId, index: u64) -> Result<Location> {
        let offset = index.checked_mul(self.types.load(elem)?.size);
        let address =
            offset.and_then(|offset| start.checked_add(offset)).ok_or_else(|| self.wrong("the index overflows"))?;
        Ok(Location { address, ty: elem })
    }

    fn leads(&self, here: Location) -> Result<bool> {
        let ty = self.types.load(here.ty)?;
        Ok(matches!(ty.shape, Shape::Pointer(_) | Shape::Interface { .. }) || atomic_pointee(self.types, &ty).is_some())
    }

    fn primary(&mut self) -> Result<Meaning> {
        self.space();
        if self.rest().starts_with('(') {
            if let Some(found) = self.cast()? {
                return Ok(found);
            }
        }
        if self.eat('(') {
            if self.text.len() > 4096 {
                return Err(self.wrong("it is too long"));
            }
            let inner = self.unary()?;
            return if self.eat(')') { Ok(inner) } else { Err(self.wrong("a ) is missing")) };
        }
        self.named().map(Meaning::Place)
    }

    /// A variable.
    fn named(&mut self) -> Result<Location> {
        if self.eat('\'') {
            let Some(end) = self.rest().find('\'') else { return Err(self.wrong("a ' is missing")) };
            let name = &self.rest()[..end];
            self.at += end + 1;
            return self.variable(name)?.ok_or_else(|| self.unknown(name));
        }
        let run = self.rest();
        let len = run.find(|c: char| !is_path(c)).unwrap_or(run.len());
        let run = &run[..len];
        if run.is_empty() {
            return Err(self.wrong("a package variable such as main.cache is expected"));
        }
        let first = &run[..run.find('.').unwrap_or(run.len())];
        if let Some(location) = (self.scope.locals)(first)? {
            self.at += first.len();
            return Ok(location);
        }
        // The longest prefix that names a variable; what follows are fields.
        let mut ends: Vec<usize> = run.match_indices('.').map(|(i, _)| i).collect();
        ends.push(run.len());
        for &end in ends.iter().rev() {
            if let Some(location) = self.variable(&run[..end])? {
                self.at += end;
                return Ok(location);
            }
        }
        for &end in ends.iter().rev() {
            match &self.types.variables_meant(&run[..end])[..] {
                [] => {}
                [only] => {
                    self.at += end;
                    return self.variable(only)?.ok_or_else(|| self.unknown(only));
                }
                several => {
                    let names = several.join(", ");
                    return Err(self.wrong(&format!("{} is the name of several variables: {names}", &run[..end])));
                }
            }
        }
        Err(self.unknown(run))
    }

    fn variable(&self, name: &str) -> Result<Option<Location>> {
        Ok(self.types.variable(name)?.map(|(address, ty)| Location { address, ty }))
    }

    fn unknown(&self, name: &str) -> Error {
        let path = self.types.program().path.display();
        Error::Usage(format!("{path} has no package variable {name}; give its full name, such as main.cache"))
    }

    fn identifier(&mut self) -> Result<&'p str> {
        self.space();
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.wrong("a field name is expected after the dot"));
        }
        self.at += len;
        Ok(&rest[..len])
    }

    fn number(&self, text: &str) -> Result<u64> {
        text.parse().map_err(|_| self.wrong("an index such as [2] is expected"))
    }

    fn deref(&self, location: Location) -> Result<Location> {
        follow(self.types, self.memory, location)?.ok_or_else(|| self.wrong("it dereferences nil"))
    }

    /// Field `name`, through pointers and interfaces, and promoted through embedded structs.
    fn field(&self, location: Location, name: &str) -> Result<Location> {
        let mut here = location;
        for _ in 0..MAX_FOLLOWED {
            let ty = self.types.load(here.ty)?;
            match &ty.shape {
                Shape::Struct(_) => match self.promoted(here, name, MAX_FOLLOWED)? {
                    Some(found) => return Ok(found),
                    None if atomic_pointee(self.types, &ty).is_some() => here = self.deref(here)?,
                    None => return Err(self.wrong(&format!("{} has no field {name}", ty.name))),
                },
                Shape::Pointer(_) | Shape::Interface { .. } => here = self.deref(here)?,
                _ => return Err(self.wrong(&format!("{} has no fields", ty.name))),
            }
        }
        Err(self.wrong("too many pointers"))
    }

    fn promoted(&self, here: Location, name: &str, depth: usize) -> Result<Option<Location>> {
        let ty = self.types.load(here.ty)?;
        let Shape::Struct(fields) = &ty.shape else { return Ok(None) };
        let at = |offset: u64, ty| Location { address: here.address.wrapping_add(offset), ty };
        if let Some(field) = fields.iter().find(|f| &*f.name == name) {
            return Ok(Some(at(field.offset, field.ty)));
        }
        if depth == 0 {
            return Ok(None);
        }
        for field in fields.iter().filter(|f| f.embedded) {
            let mut inner = at(field.offset, field.ty);
            if let Shape::Pointer(Some(pointee)) = self.types.load(inner.ty)?.shape {
                match self.memory.u64(inner.address)? {
                    0 => continue,
                    address => inner = Location { address, ty: pointee },
                }
            }
            if let Some(found) = self.promoted(inner, name, depth - 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn element(&self, here: Location, index: u64) -> Result<Location> {
        let ty = self.types.load(here.ty)?;
        let (start, elem, len) = match &ty.shape {
            Shape::Array { elem, len } => (here.address, *elem, *len),
            Shape::Slice(elem) => {
                (self.memory.u64(here.address)?, *elem, self.memory.u64(here.address.wrapping_add(8))?)
            }
            _ => return Err(self.wrong(&format!("{} cannot be indexed", ty.name))),
        };
        if index >= len {
            return Err(self.wrong(&format!("index {index} is out of range, the length is {len}")));
        }
        self.nth(start, elem, index)
    }
}

/// Characters of a package path, a variable and its fields.
fn is_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | '~' | '+' | '·' | '%')
}
