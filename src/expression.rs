//! Expressions over package variables, for use without a debugger: `main.cache`, `*main.p`,
//! `main.servers[2].users`, `'pkg/path.Var'.field`.

use crate::binary::rtype::is_direct;
use crate::memory::Memory;
use crate::types::{Location, ProgramTypes, Shape, TypeId, TypeSource};
use crate::{Error, Result};

/// Pointers and interfaces followed on the way to a map or a field.
const MAX_FOLLOWED: usize = 16;

/// Evaluates `text` to a location.
pub fn evaluate(types: &ProgramTypes, memory: &dyn Memory, text: &str) -> Result<Location> {
    evaluate_with(types, memory, text, &|_| Ok(None))
}

/// The same, where a name is first looked for among `locals`.
pub fn evaluate_with(types: &ProgramTypes, memory: &dyn Memory, text: &str, locals: Locals<'_>) -> Result<Location> {
    let mut parser = Parser { types, memory, text, at: 0, locals };
    let location = parser.unary()?;
    parser.space();
    match parser.rest() {
        "" => Ok(location),
        rest => Err(parser.wrong(&format!("{rest:?} is left over"))),
    }
}

/// The address of the map header that a location leads to, and the map type: pointers and interfaces are
/// followed. The address is 0 for a nil map.
pub fn map_at(types: &dyn TypeSource, memory: &dyn Memory, location: Location) -> Result<(u64, TypeId)> {
    let mut here = location;
    let first = types.load(here.ty)?;
    for _ in 0..MAX_FOLLOWED {
        let ty = types.load(here.ty)?;
        match &ty.shape {
            Shape::Map(_) => return Ok((memory.u64(here.address)?, here.ty)),
            _ if ty.is_sync_map() => return Ok((here.address, here.ty)),
            Shape::Pointer(_) | Shape::Interface { .. } => match follow(types, memory, here)? {
                Some(next) => here = next,
                None => {
                    return Err(Error::Map(format!(
                        "the {} at {:#x} is nil, so there is no map",
                        ty.name, here.address
                    )))
                }
            },
            _ if ty.name == first.name => return Err(Error::Usage(format!("this is of type {}, not a map", ty.name))),
            _ => return Err(Error::Usage(format!("this {} leads to a {}, not to a map", first.name, ty.name))),
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
        _ => Err(Error::Usage(format!("{} cannot be dereferenced", ty.name))),
    }
}

/// A frame's variable by name; `None` when it has none of that name.
pub type Locals<'l> = &'l dyn Fn(&str) -> Result<Option<Location>>;

struct Parser<'p> {
    types: &'p ProgramTypes,
    memory: &'p dyn Memory,
    text: &'p str,
    at: usize,
    locals: Locals<'p>,
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

    fn unary(&mut self) -> Result<Location> {
        // Each star is one level of pointers; counted, so that a long row of them cannot overflow the stack.
        let mut stars = 0;
        while self.eat('*') {
            stars += 1;
        }
        let mut location = self.postfix()?;
        for _ in 0..stars {
            location = self.deref(location)?;
        }
        Ok(location)
    }

    fn postfix(&mut self) -> Result<Location> {
        let mut location = self.primary()?;
        loop {
            if self.eat('.') {
                let name = self.identifier()?;
                location = self.field(location, name)?;
            } else if self.eat('[') {
                let index = self.number()?;
                if !self.eat(']') {
                    return Err(self.wrong("a ] is missing"));
                }
                location = self.element(location, index)?;
            } else {
                return Ok(location);
            }
        }
    }

    fn primary(&mut self) -> Result<Location> {
        self.space();
        if self.eat('(') {
            if self.text.len() > 4096 {
                return Err(self.wrong("it is too long"));
            }
            let inner = self.unary()?;
            return if self.eat(')') { Ok(inner) } else { Err(self.wrong("a ) is missing")) };
        }
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
        if let Some(location) = (self.locals)(first)? {
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

    fn number(&mut self) -> Result<u64> {
        self.space();
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        self.at += len;
        rest[..len].parse().map_err(|_| self.wrong("an index such as [2] is expected"))
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
                Shape::Struct(_) => {
                    return self
                        .promoted(here, name, MAX_FOLLOWED)?
                        .ok_or_else(|| self.wrong(&format!("{} has no field {name}", ty.name)));
                }
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

    fn element(&self, location: Location, index: u64) -> Result<Location> {
        let mut here = location;
        for _ in 0..MAX_FOLLOWED {
            let ty = self.types.load(here.ty)?;
            let (start, elem, len) = match &ty.shape {
                Shape::Array { elem, len } => (here.address, *elem, *len),
                Shape::Slice(elem) => {
                    (self.memory.u64(here.address)?, *elem, self.memory.u64(here.address.wrapping_add(8))?)
                }
                Shape::Pointer(_) | Shape::Interface { .. } => {
                    here = self.deref(here)?;
                    continue;
                }
                _ => return Err(self.wrong(&format!("{} cannot be indexed", ty.name))),
            };
            if index >= len {
                return Err(self.wrong(&format!("index {index} is out of range, the length is {len}")));
            }
            let offset = index.checked_mul(self.types.load(elem)?.size);
            let address = offset.and_then(|o| start.checked_add(o)).ok_or_else(|| self.wrong("the index overflows"))?;
            return Ok(Location { address, ty: elem });
        }
        Err(self.wrong("too many pointers"))
    }
}

/// Characters of a package path, a variable and its fields.
fn is_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '-' | '~' | '+' | '·' | '%')
}
