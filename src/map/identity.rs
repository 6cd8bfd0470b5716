//! What a key is, apart from how it is shown: its type and all that Go's `==` looks at.

use super::hash::{Algorithm, HashState};
use super::keys::{is_blank, too_deep, Keys, MAX_NEST};
use crate::types::{GoType, Kind, Shape, TypeId};
use crate::Result;
use byteorder::{ByteOrder, LittleEndian as LE};
use std::fmt;
use std::sync::Arc;

/// A key's identity: two are equal exactly where Go's `==` says so of the keys, wherever they are stored. It is the type and
/// the bytes that count: texts of strings, dynamic types and values of interfaces, addresses of pointers and channels; no
/// padding, no blank fields, no sign of a zero.
///
/// A NaN equals nothing in Go. Here it equals a NaN of the same bits: two entries of that key are told apart by where they
/// are stored, as Go tells them apart.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    ty: Type,
    bytes: Arc<[u8]>,
    nan: bool,
}

/// The identity of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Type {
    /// What a nil interface holds.
    Nothing,
    /// Any interface's: one value has the same identity in all of them.
    Interface,
    /// A predeclared one, which some sources of types state without a descriptor.
    Basic(Kind),
    /// By the address of its descriptor.
    Descriptor(u64),
    /// One that the program has no descriptor of, so that no interface holds it.
    Other(TypeId),
}

impl Type {
    fn of(ty: &GoType) -> Type {
        if matches!(ty.shape, Shape::Interface { .. }) {
            return Type::Interface;
        }
        let predeclared = GoType::basic(ty.kind).filter(|basic| basic.name == ty.name);
        match (predeclared, ty.descriptor, ty.id) {
            (Some(_), ..) => Type::Basic(ty.kind),
            (_, Some(address), _) | (_, _, TypeId::Runtime(address)) => Type::Descriptor(address),
            (_, _, other) => Type::Other(other),
        }
    }

    /// Distinct for distinct types of one program.
    fn words(self) -> [u64; 2] {
        match self {
            Type::Nothing => [0, 0],
            Type::Interface => [0, 1],
            Type::Basic(kind) => [1, kind as u64],
            Type::Descriptor(address) => [2, address],
            Type::Other(TypeId::Dwarf(offset)) => [3, offset],
            Type::Other(TypeId::Runtime(address)) => [2, address],
            Type::Other(TypeId::Basic(kind)) => [1, kind as u64],
        }
    }
}

impl Key {
    /// Whether there is a NaN in it, so that no lookup finds it.
    pub fn is_nan(&self) -> bool {
        self.nan
    }

    /// Whether this is the other key, given that both are keys of one map. The code may know a map's type by a shape only.
    pub fn is_in_one_map(&self, other: &Key) -> bool {
        self.bytes == other.bytes
    }

    /// 128 bits of it, for records: equal for equal keys of one process, and for no others that one meets.
    pub fn digest(&self) -> Digest {
        // Any fixed state will do: each half is the runtime's own memhash under another one.
        let half = |n: u8| {
            let mut schedule = [0u8; 128];
            schedule.iter_mut().zip(0u8..).for_each(|(byte, i)| *byte = i.wrapping_mul(151).wrapping_add(n) ^ 0x5a);
            let state = HashState::new(Algorithm::AmdAes, &schedule, [1; 4], (1, 27));
            let [tag, ty] = self.ty.words();
            state.memhash(&self.bytes, state.memhash64(ty, state.memhash64(tag, n.into())))
        };
        Digest([half(29), half(83)])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, {})", self.ty, self.digest())
    }
}

/// 128 bits of a [`Key`], written as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u64; 2]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:016x}", self.0[0], self.0[1])
    }
}

impl Keys<'_> {
    /// The identity of the key of type `ty` whose bytes are `key`.
    ///
    /// Fails where its texts or dynamic types cannot be read, or where it can be no key.
    pub fn identity(&self, ty: &GoType, key: &[u8]) -> Result<Key> {
        let mut spelling = Spelling { keys: self, out: Vec::with_capacity(key.len()), nan: false };
        spelling.value(ty, key, MAX_NEST)?;
        Ok(Key { ty: Type::of(ty), bytes: spelling.out.into(), nan: spelling.nan })
    }

    /// The text of a key that is a string, or an interface that holds one.
    pub fn text(&self, ty: &GoType, key: &[u8]) -> Option<Vec<u8>> {
        match (&ty.shape, ty.kind) {
            (_, Kind::String) => {
                let (data, len) = (LE::read_u64(key.get(..8)?), LE::read_u64(key.get(8..16)?));
                Some(self.memory().bytes(data, usize::try_from(len).ok()?).ok()?.into_owned())
            }
            (Shape::Interface { .. }, _) => {
                let (ty, value) = self.dynamic_of(ty, key).ok()??;
                (ty.kind == Kind::String).then(|| self.text(&ty, &value))?
            }
            _ => None,
        }
    }
}

/// Writes what `==` looks at, each part so that it tells its own end.
struct Spelling<'k, 'a> {
    keys: &'k Keys<'a>,
    out: Vec<u8>,
    nan: bool,
}

impl Spelling<'_, '_> {
    fn value(&mut self, ty: &GoType, value: &[u8], nest: usize) -> Result<()> {
        let nest = nest.checked_sub(1).ok_or_else(too_deep)?;
        let value = value.get(..ty.size as usize).ok_or_else(too_deep)?;
        match (&ty.shape, ty.kind) {
            (_, Kind::Float32 | Kind::Complex64) => value.chunks_exact(4).for_each(|part| {
                let float = LE::read_f32(part);
                self.nan |= float.is_nan();
                self.out.extend_from_slice(if float == 0.0 { &[0; 4] } else { part });
            }),
            (_, Kind::Float64 | Kind::Complex128) => value.chunks_exact(8).for_each(|part| {
                let float = LE::read_f64(part);
                self.nan |= float.is_nan();
                self.out.extend_from_slice(if float == 0.0 { &[0; 8] } else { part });
            }),
            (_, Kind::String) => {
                let (data, len) = (LE::read_u64(value), LE::read_u64(&value[8..]));
                self.out.extend_from_slice(&len.to_le_bytes());
                if len > 0 {
                    self.out.extend_from_slice(&self.keys.memory().bytes(data, len as usize)?);
                }
            }
            (Shape::Interface { .. }, _) => match self.keys.dynamic_of(ty, value)? {
                None => self.type_of(Type::Nothing),
                Some((dynamic, value)) => {
                    self.type_of(Type::of(&dynamic));
                    self.value(&dynamic, &value, nest)?;
                }
            },
            (Shape::Array { elem, .. }, _) => {
                let elem = self.keys.types().load(*elem)?;
                if elem.size > 0 {
                    for part in value.chunks_exact(elem.size as usize) {
                        self.value(&elem, part, nest)?;
                    }
                }
            }
            (Shape::Struct(fields), _) => {
                for field in fields.iter().filter(|field| !is_blank(field)) {
                    let inner = self.keys.types().load(field.ty)?;
                    self.value(&inner, value.get(field.offset as usize..).ok_or_else(too_deep)?, nest)?;
                }
            }
            (Shape::Plain | Shape::Pointer(_) | Shape::Chan(_), _) => self.out.extend_from_slice(value),
            _ => return Err(super::keys::incomparable(ty)),
        }
        Ok(())
    }

    fn type_of(&mut self, ty: Type) {
        ty.words().iter().for_each(|word| self.out.extend_from_slice(&word.to_le_bytes()));
    }
}
