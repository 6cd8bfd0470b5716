//! A target made by hand: types by name, memory by region.

use crate::memory::{Memory, MemoryError, Place, Region};
use crate::types::{normal_spelling, Field, GoType, Kind, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Types; the descriptor of type `Runtime(a)` is at `a`.
#[derive(Default)]
pub struct FakeTypes {
    types: BTreeMap<u64, Arc<GoType>>,
    names: BTreeMap<String, u64>,
}

pub const FIRST_DESCRIPTOR: u64 = 0x50_0000;

impl FakeTypes {
    /// With all predeclared types.
    pub fn new() -> FakeTypes {
        let mut types = FakeTypes::default();
        for number in 1..=26 {
            let kind = Kind::from_number(number).unwrap();
            if let Some(basic) = GoType::basic(kind) {
                types.add(&basic.name, basic.size, kind, basic.shape);
            }
        }
        types
    }

    pub fn add(&mut self, name: &str, size: u64, kind: Kind, shape: Shape) -> TypeId {
        let address = FIRST_DESCRIPTOR + 64 * self.types.len() as u64;
        let id = TypeId::Runtime(address);
        let ty = GoType { id, name: name.into(), size, kind, shape, descriptor: Some(address) };
        self.types.insert(address, ty.into());
        self.names.insert(name.into(), address);
        id
    }

    /// A named type of a kind without parts.
    pub fn plain(&mut self, name: &str, kind: Kind) -> TypeId {
        self.add(name, kind.fixed_size().unwrap(), kind, Shape::Plain)
    }

    pub fn get(&self, name: &str) -> TypeId {
        TypeId::Runtime(*self.names.get(name).unwrap_or_else(|| panic!("no type {name}")))
    }

    pub fn descriptor(&self, name: &str) -> u64 {
        self.names[name]
    }

    pub fn pointer(&mut self, elem: &str) -> TypeId {
        let elem_id = self.get(elem);
        self.add(&format!("*{elem}"), 8, Kind::Pointer, Shape::Pointer(Some(elem_id)))
    }

    pub fn slice(&mut self, elem: &str) -> TypeId {
        let elem_id = self.get(elem);
        self.add(&format!("[]{elem}"), 24, Kind::Slice, Shape::Slice(elem_id))
    }

    pub fn array(&mut self, len: u64, elem: &str) -> TypeId {
        let elem_id = self.get(elem);
        let size = len * self.load(elem_id).unwrap().size;
        self.add(&format!("[{len}]{elem}"), size, Kind::Array, Shape::Array { elem: elem_id, len })
    }

    /// A struct with fields `(name, offset, type)`.
    pub fn structure(&mut self, name: &str, size: u64, fields: &[(&str, u64, &str)]) -> TypeId {
        let fields = fields
            .iter()
            .map(|(name, offset, ty)| Field {
                name: (*name).into(),
                offset: *offset,
                ty: self.get(ty),
                embedded: false,
            })
            .collect();
        self.add(name, size, Kind::Struct, Shape::Struct(fields))
    }

    /// Makes an existing type something else: for types that contain themselves.
    pub fn redefine(&mut self, name: &str, shape: Shape) {
        let address = self.names[name];
        let mut ty = (*self.types[&address]).clone();
        ty.shape = shape;
        self.types.insert(address, ty.into());
    }
}

impl TypeSource for FakeTypes {
    fn load(&self, id: TypeId) -> Result<Arc<GoType>> {
        match id {
            TypeId::Runtime(address) => self.types.get(&address).cloned(),
            TypeId::Basic(kind) => GoType::basic(kind).map(Arc::new),
            TypeId::Dwarf(_) => None,
        }
        .ok_or_else(|| Error::Type(format!("no type {id:?}")))
    }

    fn by_name(&self, name: &str) -> Result<Option<TypeId>> {
        Ok(self.names.get(&normal_spelling(name)).map(|&address| TypeId::Runtime(address)))
    }

    fn by_descriptor(&self, address: u64) -> Result<TypeId> {
        match self.types.contains_key(&address) {
            true => Ok(TypeId::Runtime(address)),
            false => Err(Error::Type(format!("no type has its descriptor at {address:#x}"))),
        }
    }

    fn function_name(&self, pc: u64) -> Option<String> {
        (pc == 0x40_1000).then(|| "main.f".into())
    }
}

/// Memory regions by start address.
#[derive(Default)]
pub struct FakeMemory {
    pub regions: BTreeMap<u64, Vec<u8>>,
    /// Whether bytes are lent in place, as from a core.
    pub mapped: bool,
}

impl FakeMemory {
    pub fn put(&mut self, address: u64, bytes: impl Into<Vec<u8>>) {
        self.regions.insert(address, bytes.into());
    }

    pub fn put_words(&mut self, address: u64, values: &[u64]) {
        self.put(address, words(values));
    }

    fn find(&self, address: u64, len: usize) -> Option<&[u8]> {
        let (start, bytes) = self.regions.range(..=address).next_back()?;
        let from = usize::try_from(address - start).ok()?;
        bytes.get(from..from.checked_add(len)?)
    }
}

impl Memory for FakeMemory {
    fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), MemoryError> {
        let bytes = self.find(address, buf.len()).ok_or(MemoryError { address, place: Place::Core })?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn mapped(&self, address: u64, len: usize) -> Option<&[u8]> {
        if self.mapped {
            self.find(address, len)
        } else {
            None
        }
    }

    fn regions(&self) -> Vec<Region> {
        Vec::new()
    }

    fn place(&self) -> Place {
        Place::Core
    }
}

/// Little-endian words.
pub fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}
