//! Hashing and comparing keys of any type in target memory, exactly as the target's own code does.
//!
//! Sources: src/runtime/alg.go and src/cmd/compile/internal/reflectdata/alg.go, go1.19 to 1.27. The two
//! differ (`typehash` goes field by field, compiled hashers run plain fields together), so which one a map
//! uses is read from its hasher function, never derived from the key type alone.

use super::hash::HashState;
use crate::binary::rtype::{self, is_direct, is_regular_memory};
use crate::memory::Memory;
use crate::types::{Field, GoType, Kind, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// How a key's bytes become a hash.
#[derive(Debug, Clone, PartialEq)]
pub enum Recipe {
    /// No bytes: the seed itself (`memhash0`).
    Nothing,
    /// `memhash` of so many bytes.
    Memory(usize),
    /// `memhash32`.
    Memory32,
    /// `memhash64`.
    Memory64,
    /// `strhash`.
    String,
    /// `f32hash`.
    Float32,
    /// `f64hash`.
    Float64,
    /// `nilinterhash`, or `interhash` when the interface has methods.
    Interface { methods: bool },
    /// One after the other, each hash the next one's seed: (offset, recipe).
    Pieces(Vec<(usize, Recipe)>),
    /// Elements of an array: how many, how far apart, each by this recipe.
    Repeat(usize, usize, Box<Recipe>),
}

/// The hash of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyHash {
    /// The value that the runtime computes.
    Known(u64),
    /// The key holds a NaN: each hash of it is another random number.
    Random,
    /// Hashing it panics: the dynamic type of an interface in it is not comparable.
    Unhashable(String),
}

/// Constants of `f64hash` and `interhash` on 64-bit machines (src/runtime/alg.go).
const C0: u64 = 33054211828000289;
const C1: u64 = 23344194077549503;
/// Types nested deeper than this are garbage.
pub(super) const MAX_NEST: usize = 64;
/// A value whose parts number more than this is not hashed; no sane key has them.
const MAX_REPEAT: u64 = 1 << 20;

impl Recipe {
    /// The recipe of the hasher function `name` for keys of type `key`; `captured` is the word that its
    /// closure holds. `None` when we do not know this hasher.
    pub fn of_hasher(
        memory: &dyn Memory,
        types: &dyn TypeSource,
        key: TypeId,
        name: &str,
        captured: u64,
        go: (u32, u32),
    ) -> Result<Option<Recipe>> {
        if let Some(signature) = name.strip_prefix("type:.hash.").or_else(|| name.strip_prefix("type..hash.")) {
            let ty = types.load(key)?;
            return match go >= (1, 27) {
                true => Ok(parse_signature(signature)),
                false => compiled(types, &ty, MAX_NEST).map(Some),
            };
        }
        let Some(function) = name.strip_prefix("runtime.") else {
            return match name.starts_with("reflect.MapOf.func") {
                true => typehash(memory, types, key, MAX_NEST).map(Some),
                false => Ok(None),
            };
        };
        Ok(Some(match function {
            "memhash0" => Recipe::Nothing,
            "memhash8" => Recipe::Memory(1),
            "memhash16" => Recipe::Memory(2),
            "memhash32" => Recipe::Memory32,
            "memhash64" => Recipe::Memory64,
            "memhash128" => Recipe::Memory(16),
            "memhash_varlen" if captured <= types.load(key)?.size => Recipe::Memory(captured as usize),
            "strhash" => Recipe::String,
            "f32hash" => Recipe::Float32,
            "f64hash" => Recipe::Float64,
            "c64hash" => Recipe::Pieces(vec![(0, Recipe::Float32), (4, Recipe::Float32)]),
            "c128hash" => Recipe::Pieces(vec![(0, Recipe::Float64), (8, Recipe::Float64)]),
            "nilinterhash" => Recipe::Interface { methods: false },
            "interhash" => Recipe::Interface { methods: true },
            _ => return Ok(None),
        }))
    }
}

/// The recipe that a hasher's name spells since Go 1.27: `M4K4S` is 4 bytes, skip 4, a string
/// (`TypeSig`, src/cmd/compile/internal/reflectdata/alg.go go1.27).
fn parse_signature(text: &str) -> Option<Recipe> {
    let mut parser = Signature { rest: text.as_bytes(), offset: 0, pieces: Vec::new() };
    parser.sequence(MAX_NEST)?;
    parser.rest.is_empty().then_some(Recipe::Pieces(parser.pieces))
}

struct Signature<'t> {
    rest: &'t [u8],
    offset: usize,
    pieces: Vec<(usize, Recipe)>,
}

impl Signature<'_> {
    fn number(&mut self) -> Option<usize> {
        let len = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = std::str::from_utf8(&self.rest[..len]).ok()?.parse().ok().filter(|&n: &usize| n <= 1 << 24)?;
        self.rest = &self.rest[len..];
        Some(number)
    }

    fn piece(&mut self, size: usize, recipe: Recipe) {
        self.pieces.push((self.offset, recipe));
        self.offset += size;
    }

    fn sequence(&mut self, nest: usize) -> Option<()> {
        while let Some((&letter, rest)) = self.rest.split_first() {
            if letter == b']' {
                return Some(());
            }
            self.rest = rest;
            match letter {
                b'M' => match self.number()? {
                    4 => self.piece(4, Recipe::Memory32),
                    8 => self.piece(8, Recipe::Memory64),
                    n => self.piece(n, Recipe::Memory(n)),
                },
                b'K' => self.offset += self.number()?,
                b'A' => drop(self.number()?),
                b'F' => self.piece(4, Recipe::Float32),
                b'G' => self.piece(8, Recipe::Float64),
                b'S' => self.piece(16, Recipe::String),
                b'I' => self.piece(16, Recipe::Interface { methods: true }),
                b'E' => self.piece(16, Recipe::Interface { methods: false }),
                b'[' => {
                    let count = self.number()?;
                    let mut inner = Signature { rest: self.rest, offset: 0, pieces: Vec::new() };
                    inner.sequence(nest.checked_sub(1)?)?;
                    self.rest = inner.rest.strip_prefix(b"]")?;
                    // The compiler leaves arrays of nothing out; here they would cost time for no bytes.
                    if inner.offset == 0 {
                        return None;
                    }
                    let repeat = Recipe::Repeat(count, inner.offset, Box::new(Recipe::Pieces(inner.pieces)));
                    self.piece(count.checked_mul(inner.offset)?, repeat);
                }
                _ => return None,
            }
        }
        Some(())
    }
}

pub(super) fn too_deep() -> Error {
    Error::Type("this key type is nested too deeply to be one".into())
}

/// Whether hash and equality treat a value as plain bytes: no floats, strings, interfaces, padding or blank
/// fields in it (`compare.IsRegularMemory`, src/cmd/compile/internal/compare).
fn is_plain(types: &dyn TypeSource, ty: &GoType, nest: usize) -> Result<bool> {
    let nest = nest.checked_sub(1).ok_or_else(too_deep)?;
    Ok(match &ty.shape {
        Shape::Plain => {
            !matches!(ty.kind, Kind::String | Kind::Float32 | Kind::Float64 | Kind::Complex64 | Kind::Complex128)
        }
        Shape::Pointer(_) | Shape::Chan(_) => true,
        Shape::Array { len: 0, .. } => true,
        Shape::Array { elem, .. } => is_plain(types, &*types.load(*elem)?, nest)?,
        Shape::Struct(fields) => {
            let mut end = 0;
            for field in fields {
                let inner = types.load(field.ty)?;
                if field.offset != end || is_blank(field) || !is_plain(types, &inner, nest)? {
                    return Ok(false);
                }
                end = field.offset + inner.size;
            }
            end == ty.size
        }
        _ => false,
    })
}

pub(super) fn is_blank(field: &Field) -> bool {
    &*field.name == "_"
}

/// What compiled hashers and `typehash` do alike for types without parts.
fn simple(ty: &GoType) -> Option<Recipe> {
    Some(match (&ty.shape, ty.kind) {
        (_, Kind::String) => Recipe::String,
        (_, Kind::Float32) => Recipe::Float32,
        (_, Kind::Float64) => Recipe::Float64,
        (_, Kind::Complex64) => Recipe::Pieces(vec![(0, Recipe::Float32), (4, Recipe::Float32)]),
        (_, Kind::Complex128) => Recipe::Pieces(vec![(0, Recipe::Float64), (8, Recipe::Float64)]),
        (Shape::Interface { methods }, _) => Recipe::Interface { methods: *methods },
        _ => return None,
    })
}

pub(super) fn incomparable(ty: &GoType) -> Error {
    Error::Type(format!("{} cannot be a map key", ty.name))
}

/// The hasher that the compiler generates for a struct or array, up to Go 1.26: plain fields that follow each
/// other are hashed as one run, always by the generic `memhash`.
fn compiled(types: &dyn TypeSource, ty: &GoType, nest: usize) -> Result<Recipe> {
    let nest = nest.checked_sub(1).ok_or_else(too_deep)?;
    if let Some(recipe) = simple(ty) {
        return Ok(recipe);
    }
    match &ty.shape {
        _ if is_plain(types, ty, nest)? => Ok(Recipe::Memory(ty.size as usize)),
        Shape::Array { elem, len } => {
            let elem = types.load(*elem)?;
            repeat(*len, elem.size, compiled(types, &elem, nest)?)
        }
        Shape::Struct(fields) => {
            let mut pieces = Vec::new();
            let mut next = 0;
            while let Some(field) = fields.get(next) {
                let inner = types.load(field.ty)?;
                next += 1;
                if is_blank(field) {
                    continue;
                }
                if !is_plain(types, &inner, nest)? {
                    pieces.push((field.offset as usize, compiled(types, &inner, nest)?));
                    continue;
                }
                let mut end = field.offset + inner.size;
                while let Some(field) = fields.get(next).filter(|f| f.offset == end && !is_blank(f)) {
                    let inner = types.load(field.ty)?;
                    if !is_plain(types, &inner, nest)? {
                        break;
                    }
                    end = field.offset + inner.size;
                    next += 1;
                }
                pieces.push((field.offset as usize, Recipe::Memory((end - field.offset) as usize)));
            }
            Ok(Recipe::Pieces(pieces))
        }
        _ => Err(incomparable(ty)),
    }
}

/// Whether `typehash` takes a value as plain bytes. Descriptors of structs and arrays say so themselves:
/// before Go 1.23 those made by `reflect.StructOf` are plain, but not flagged so (src/reflect/type.go).
fn is_flagged_plain(memory: &dyn Memory, types: &dyn TypeSource, ty: &GoType, nest: usize) -> Result<bool> {
    let has_parts = matches!(ty.shape, Shape::Struct(_) | Shape::Array { .. });
    let descriptor = ty.descriptor.filter(|_| has_parts);
    match descriptor.and_then(|descriptor| is_regular_memory(memory, descriptor).ok()) {
        Some(flagged) => Ok(flagged),
        None => is_plain(types, ty, nest),
    }
}

/// `runtime.typehash`: field by field, plain values by size.
fn typehash(memory: &dyn Memory, types: &dyn TypeSource, id: TypeId, nest: usize) -> Result<Recipe> {
    let nest = nest.checked_sub(1).ok_or_else(too_deep)?;
    let ty = types.load(id)?;
    if let Some(recipe) = simple(&ty) {
        return Ok(recipe);
    }
    if is_flagged_plain(memory, types, &ty, nest)? {
        return Ok(match ty.size {
            4 => Recipe::Memory32,
            8 => Recipe::Memory64,
            size => Recipe::Memory(size as usize),
        });
    }
    match &ty.shape {
        Shape::Array { elem, len } => repeat(*len, types.load(*elem)?.size, typehash(memory, types, *elem, nest)?),
        Shape::Struct(fields) => {
            let wanted = fields.iter().filter(|field| !is_blank(field));
            let pieces = wanted.map(|field| Ok((field.offset as usize, typehash(memory, types, field.ty, nest)?)));
            Ok(Recipe::Pieces(pieces.collect::<Result<_>>()?))
        }
        _ => Err(incomparable(&ty)),
    }
}

fn repeat(len: u64, stride: u64, recipe: Recipe) -> Result<Recipe> {
    match len <= MAX_REPEAT {
        true => Ok(Recipe::Repeat(len as usize, stride as usize, Box::new(recipe))),
        false => Err(too_deep()),
    }
}

/// Hashes and compares keys; caches what it learns of dynamic types.
pub struct Keys<'a> {
    memory: &'a dyn Memory,
    types: &'a dyn TypeSource,
    dynamic: RefCell<HashMap<u64, Rc<DynamicType>>>,
}

/// A dynamic type, as interfaces need it.
struct DynamicType {
    ty: std::sync::Arc<GoType>,
    /// Whether the interface's data word is the value itself.
    direct: bool,
    /// `None` when it is not comparable.
    recipe: Option<Recipe>,
}

impl<'a> Keys<'a> {
    /// Reads strings and dynamic values from `memory`.
    pub fn new(memory: &'a dyn Memory, types: &'a dyn TypeSource) -> Keys<'a> {
        Keys { memory, types, dynamic: RefCell::default() }
    }

    /// Where keys' texts and dynamic values are read.
    pub fn memory(&self) -> &'a dyn Memory {
        self.memory
    }

    /// Where their types are.
    pub fn types(&self) -> &'a dyn TypeSource {
        self.types
    }

    /// Whether two types are one, by identity or by descriptor.
    pub fn is_same_type(&self, a: &GoType, b: &GoType) -> bool {
        a.id == b.id || (a.descriptor.is_some() && a.descriptor == b.descriptor)
    }

    /// The hash of the key whose bytes are `key`.
    pub fn hash(&self, state: &HashState, recipe: &Recipe, key: &[u8], seed: u64) -> Result<KeyHash> {
        self.hash_nested(state, recipe, key, seed, MAX_NEST)
    }

    fn hash_nested(&self, state: &HashState, recipe: &Recipe, key: &[u8], seed: u64, nest: usize) -> Result<KeyHash> {
        let nest = nest.checked_sub(1).ok_or_else(too_deep)?;
        let short = || Error::Type("this key has fewer bytes than its hash needs".into());
        let first = |n: usize| key.get(..n).ok_or_else(short);
        let float = |is_zero: bool, is_nan: bool, n: usize| {
            Ok(match (is_zero, is_nan) {
                (true, _) => KeyHash::Known(C1.wrapping_mul(C0 ^ seed)),
                (_, true) => KeyHash::Random,
                _ => KeyHash::Known(state.memhash(first(n)?, seed)),
            })
        };
        Ok(KeyHash::Known(match recipe {
            Recipe::Nothing => seed,
            Recipe::Memory(n) => state.memhash(first(*n)?, seed),
            Recipe::Memory32 => state.memhash32(LE::read_u32(first(4)?), seed),
            Recipe::Memory64 => state.memhash64(LE::read_u64(first(8)?), seed),
            Recipe::String => {
                let (data, len) = string_parts(first(16)?);
                state.memhash(&self.memory.bytes(data, len)?, seed)
            }
            Recipe::Float32 => {
                let value = LE::read_f32(first(4)?);
                return float(value == 0.0, value.is_nan(), 4);
            }
            Recipe::Float64 => {
                let value = LE::read_f64(first(8)?);
                return float(value == 0.0, value.is_nan(), 8);
            }
            Recipe::Interface { methods } => {
                let Some((dynamic, value)) = self.take_apart(first(16)?, *methods)? else {
                    return Ok(KeyHash::Known(seed));
                };
                let Some(recipe) = &dynamic.recipe else {
                    return Ok(KeyHash::Unhashable(dynamic.ty.name.to_string()));
                };
                return Ok(match self.hash_nested(state, recipe, &value, seed ^ C0, nest)? {
                    KeyHash::Known(hash) => KeyHash::Known(C1.wrapping_mul(hash)),
                    other => other,
                });
            }
            Recipe::Pieces(pieces) => {
                let mut hash = seed;
                for (offset, piece) in pieces {
                    let part = key.get(*offset..).ok_or_else(short)?;
                    match self.hash_nested(state, piece, part, hash, nest)? {
                        KeyHash::Known(next) => hash = next,
                        other => return Ok(other),
                    }
                }
                hash
            }
            Recipe::Repeat(count, stride, inner) => {
                let mut hash = seed;
                for i in 0..*count {
                    let part = key.get(i * stride..).ok_or_else(short)?;
                    match self.hash_nested(state, inner, part, hash, nest)? {
                        KeyHash::Known(next) => hash = next,
                        other => return Ok(other),
                    }
                }
                hash
            }
        }))
    }

    /// The dynamic type and value of an interface; `None` when it is nil.
    fn take_apart(&self, interface: &[u8], methods: bool) -> Result<Option<(Rc<DynamicType>, Vec<u8>)>> {
        let (word, data) = (LE::read_u64(interface), LE::read_u64(&interface[8..]));
        if word == 0 {
            return Ok(None);
        }
        let descriptor = rtype::of_interface(self.memory, methods, word)?;
        let dynamic = self.dynamic_type(descriptor)?;
        let value = match dynamic.direct {
            true => data.to_le_bytes()[..(dynamic.ty.size as usize).min(8)].to_vec(),
            false => self.memory.bytes(data, dynamic.ty.size as usize)?.into_owned(),
        };
        Ok(Some((dynamic, value)))
    }

    fn dynamic_type(&self, descriptor: u64) -> Result<Rc<DynamicType>> {
        if let Some(known) = self.dynamic.borrow().get(&descriptor) {
            return Ok(known.clone());
        }
        let ty = self.types.load(self.types.by_descriptor(descriptor)?)?;
        let direct = is_direct(self.memory, descriptor)?;
        let recipe = typehash(self.memory, self.types, ty.id, MAX_NEST).ok();
        let dynamic = Rc::new(DynamicType { ty, direct, recipe });
        self.dynamic.borrow_mut().insert(descriptor, dynamic.clone());
        Ok(dynamic)
    }

    /// The dynamic type and value bytes of an interface value of type `ty`; `None` when it is nil.
    pub fn dynamic_of(&self, ty: &GoType, value: &[u8]) -> Result<Option<(std::sync::Arc<GoType>, Vec<u8>)>> {
        match (&ty.shape, value.get(..16)) {
            (Shape::Interface { methods }, Some(value)) => {
                Ok(self.take_apart(value, *methods)?.map(|(dynamic, value)| (dynamic.ty.clone(), value)))
            }
            _ => Ok(None),
        }
    }

    /// Go's `==` of two values of one type.
    pub fn equal(&self, ty: &GoType, a: &[u8], b: &[u8]) -> Result<bool> {
        self.equal_nested(ty, a, b, MAX_NEST)
    }

    fn equal_nested(&self, ty: &GoType, a: &[u8], b: &[u8], nest: usize) -> Result<bool> {
        let nest = nest.checked_sub(1).ok_or_else(too_deep)?;
        let size = ty.size as usize;
        let (Some(a), Some(b)) = (a.get(..size), b.get(..size)) else { return Err(too_deep()) };
        let floats32 = |at: usize| LE::read_f32(&a[at..]) == LE::read_f32(&b[at..]);
        let floats64 = |at: usize| LE::read_f64(&a[at..]) == LE::read_f64(&b[at..]);
        Ok(match (&ty.shape, ty.kind) {
            (_, Kind::Float32) => floats32(0),
            (_, Kind::Float64) => floats64(0),
            (_, Kind::Complex64) => floats32(0) && floats32(4),
            (_, Kind::Complex128) => floats64(0) && floats64(8),
            (_, Kind::String) => {
                let ((a, a_len), (b, b_len)) = (string_parts(a), string_parts(b));
                a_len == b_len && (a == b || self.memory.bytes(a, a_len)? == self.memory.bytes(b, b_len)?)
            }
            (Shape::Interface { methods }, _) => match (self.take_apart(a, *methods)?, self.take_apart(b, *methods)?) {
                (None, None) => true,
                (Some((a_type, a)), Some((b_type, b))) => {
                    self.is_same_type(&a_type.ty, &b_type.ty)
                        && a_type.recipe.is_some()
                        && self.equal_nested(&a_type.ty, &a, &b, nest)?
                }
                _ => false,
            },
            (Shape::Array { elem, len }, _) => {
                let elem = self.types.load(*elem)?;
                let stride = elem.size as usize;
                for i in 0..(*len).min(MAX_REPEAT) as usize {
                    let (Some(a), Some(b)) = (a.get(i * stride..), b.get(i * stride..)) else { return Err(too_deep()) };
                    if !self.equal_nested(&elem, a, b, nest)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Shape::Struct(fields), _) => {
                for field in fields.iter().filter(|field| !is_blank(field)) {
                    let inner = self.types.load(field.ty)?;
                    let at = field.offset as usize;
                    let (Some(a), Some(b)) = (a.get(at..), b.get(at..)) else { return Err(too_deep()) };
                    if !self.equal_nested(&inner, a, b, nest)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => a == b,
        })
    }
}

fn string_parts(bytes: &[u8]) -> (u64, usize) {
    (LE::read_u64(bytes), LE::read_u64(&bytes[8..]) as usize)
}
