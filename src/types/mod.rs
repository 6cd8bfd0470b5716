//! One graph of Go types, whether it came from DWARF or from the runtime's own type descriptors.
//!
//! Types name each other by [`TypeId`] and are loaded when asked for ([`TypeSource::load`]), so cyclic
//! types need no care and a binary with 100 000 types costs only those that an answer touches.

mod program;

pub use program::{normal_spelling, ProgramTypes};

use crate::value::short_name;
use crate::Result;
use std::sync::Arc;

/// Identifies a type within one session; cheap to copy and compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TypeId {
    /// Offset of the DIE in `.debug_info`.
    Dwarf(u64),
    /// Target address of the runtime's type descriptor (`abi.Type`).
    Runtime(u64),
    /// A predeclared type made by us: `uint8`, `int`, `string`, `any`, …
    Basic(Kind),
}

/// A Go kind, numbered as `internal/abi.Kind` (src/internal/abi/type.go, unchanged in Go 1.19 to 1.27).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    Bool = 1,
    Int,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Uintptr,
    Float32,
    Float64,
    Complex64,
    Complex128,
    Array,
    Chan,
    Func,
    Interface,
    Map,
    Pointer,
    Slice,
    String,
    Struct,
    UnsafePointer,
}

impl Kind {
    /// The kind with this number, flag bits already masked off (`& 31`).
    pub fn from_number(number: u8) -> Option<Kind> {
        use Kind::*;
        const ALL: [Kind; 26] = [
            Bool,
            Int,
            Int8,
            Int16,
            Int32,
            Int64,
            Uint,
            Uint8,
            Uint16,
            Uint32,
            Uint64,
            Uintptr,
            Float32,
            Float64,
            Complex64,
            Complex128,
            Array,
            Chan,
            Func,
            Interface,
            Map,
            Pointer,
            Slice,
            String,
            Struct,
            UnsafePointer,
        ];
        ALL.get((number as usize).checked_sub(1)?).copied()
    }

    /// Size in bytes on a 64-bit target, for the kinds whose size the kind decides.
    pub fn fixed_size(self) -> Option<u64> {
        use Kind::*;
        Some(match self {
            Bool | Int8 | Uint8 => 1,
            Int16 | Uint16 => 2,
            Int32 | Uint32 | Float32 => 4,
            Int | Int64 | Uint | Uint64 | Uintptr | Float64 | Complex64 => 8,
            Chan | Func | Map | Pointer | UnsafePointer => 8,
            Complex128 | String | Interface => 16,
            Slice => 24,
            Array | Struct => return None,
        })
    }

    /// Whether the kind is a signed integer.
    pub fn is_signed(self) -> bool {
        matches!(self, Kind::Int | Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64)
    }

    /// Whether the kind is an unsigned integer (uintptr included).
    pub fn is_unsigned(self) -> bool {
        use Kind::*;
        matches!(self, Uint | Uint8 | Uint16 | Uint32 | Uint64 | Uintptr)
    }
}

/// A Go type.
#[derive(Debug, Clone)]
pub struct GoType {
    /// Where it came from.
    pub id: TypeId,
    /// Its name as the source of the type spells it, e.g. `map[string]*main.T`.
    pub name: Arc<str>,
    /// Size in bytes of a value.
    pub size: u64,
    /// Its kind.
    pub kind: Kind,
    /// What it is made of.
    pub shape: Shape,
    /// Target address of its runtime type descriptor, when it has one.
    pub descriptor: Option<u64>,
}

/// A typed location in target memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Where the value lies.
    pub address: u64,
    /// What it is.
    pub ty: TypeId,
}

/// What a type is made of. Kinds without parts are [`Shape::Plain`].
#[derive(Debug, Clone)]
pub enum Shape {
    /// Bool, numbers, string, unsafe.Pointer: kind and size say all.
    Plain,
    /// A pointer; `None` when the pointee is unknown (a C pointer, `*void`).
    Pointer(Option<TypeId>),
    /// A slice of this element.
    Slice(TypeId),
    /// An array of `len` elements.
    Array { elem: TypeId, len: u64 },
    /// A struct.
    Struct(Vec<Field>),
    /// An interface; with methods its first word is an itab, without it is a type descriptor.
    Interface { methods: bool },
    /// A func value: pointer to a closure whose first word is the code address.
    Func,
    /// A channel of this element: pointer to `runtime.hchan`.
    Chan(TypeId),
    /// A map: pointer to the header that `layout` describes.
    Map(Arc<MapType>),
}

/// A struct field.
#[derive(Debug, Clone)]
pub struct Field {
    /// Field name; `_` for a blank one; the type's own name for an embedded one.
    pub name: Arc<str>,
    /// Offset in bytes.
    pub offset: u64,
    /// Its type.
    pub ty: TypeId,
    /// Whether it is embedded.
    pub embedded: bool,
}

/// A map type: its key and elem and where the slots lie.
#[derive(Debug, Clone)]
pub struct MapType {
    /// Type of the key.
    pub key: TypeId,
    /// Type of the elem.
    pub elem: TypeId,
    /// Where things are in memory.
    pub layout: MapLayout,
}

/// The two families of map layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MapLayout {
    /// `runtime.hmap` and `bmap`: Go <= 1.23, and `GOEXPERIMENT=noswissmap` on 1.24 and 1.25.
    Classic(ClassicLayout),
    /// `internal/runtime/maps.Map`: Go >= 1.24.
    Swiss(SwissLayout),
}

/// Slots of a classic bucket (`bmap`); all offsets and sizes in bytes.
///
/// Source: src/runtime/map.go go1.19 to 1.23, src/runtime/map_noswiss.go go1.24 and 1.25.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicLayout {
    /// Size of a bucket; its last word is the overflow pointer.
    pub bucket_size: u64,
    /// Offset of the first key.
    pub keys: u64,
    /// Size of a key slot (8 when indirect).
    pub key_size: u64,
    /// Offset of the first elem.
    pub elems: u64,
    /// Size of an elem slot (8 when indirect).
    pub elem_size: u64,
    /// Whether the key slot holds a pointer to the key (keys over 128 bytes).
    pub indirect_key: bool,
    /// Whether the elem slot holds a pointer to the elem.
    pub indirect_elem: bool,
}

/// Slots of a Swiss group; all offsets, sizes and strides in bytes. The control word is at offset 0.
///
/// Source: src/internal/abi/map_swiss.go go1.24 and 1.25, src/internal/abi/map.go go1.26 and 1.27.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwissLayout {
    /// Size of a group.
    pub group_size: u64,
    /// Offset of key 0 in the group.
    pub keys: u64,
    /// Distance between keys.
    pub key_stride: u64,
    /// Offset of elem 0 in the group.
    pub elems: u64,
    /// Distance between elems.
    pub elem_stride: u64,
    /// Whether the key slot holds a pointer to the key.
    pub indirect_key: bool,
    /// Whether the elem slot holds a pointer to the elem.
    pub indirect_elem: bool,
}

/// Where types come from and are looked up; implementations cache.
pub trait TypeSource: Send + Sync {
    /// The type itself.
    fn load(&self, id: TypeId) -> Result<Arc<GoType>>;

    /// The type spelled `name` (as DWARF or the runtime spells it; spaces and `any` normalised).
    fn by_name(&self, name: &str) -> Result<Option<TypeId>>;

    /// The type whose runtime descriptor is at this target address (dynamic type of an interface).
    fn by_descriptor(&self, address: u64) -> Result<TypeId>;

    /// The name of a type as `%T` prints it: packages by their names.
    fn shown_name(&self, ty: &GoType) -> String {
        short_name(&ty.name)
    }

    /// A name that no other type of the program has, for one whose usual name is that of several: with its import path, or
    /// with the address of its descriptor where several functions declare it.
    fn distinct_name(&self, _ty: &GoType) -> Option<String> {
        None
    }

    /// Run-time address of a package variable, where variables have names.
    fn variable_address(&self, _name: &str) -> Option<u64> {
        None
    }

    /// The function whose code contains this address, as DWARF or pclntab names it.
    fn function_name(&self, pc: u64) -> Option<String>;
}

/// The offset of the pointer in an `atomic.Pointer[T]`, and `T`: its first field is `[0]*T` (src/sync/atomic/type.go go1.19 to
/// 1.27).
pub fn atomic_pointee(types: &dyn TypeSource, ty: &GoType) -> Option<(u64, TypeId)> {
    let Shape::Struct(fields) = &ty.shape else { return None };
    if !ty.name.starts_with("sync/atomic.Pointer[") && !ty.name.starts_with("atomic.Pointer[") {
        return None;
    }
    let Shape::Array { elem, .. } = types.load(fields.first()?.ty).ok()?.shape else { return None };
    match types.load(elem).ok()?.shape {
        Shape::Pointer(pointee) => Some((fields.last()?.offset, pointee?)),
        _ => None,
    }
}

impl GoType {
    /// Whether this is `sync.Map`, which is read as a map although it is a struct.
    pub fn is_sync_map(&self) -> bool {
        &*self.name == "sync.Map" && matches!(self.shape, Shape::Struct(_))
    }

    /// The predeclared type of a kind that has no parts, or `None` for composite kinds.
    pub fn basic(kind: Kind) -> Option<GoType> {
        let name = match kind {
            Kind::Interface => "interface {}".into(),
            Kind::UnsafePointer => "unsafe.Pointer".into(),
            _ => format!("{kind:?}").to_lowercase(),
        };
        let shape = match kind {
            Kind::Interface => Shape::Interface { methods: false },
            Kind::Array | Kind::Struct | Kind::Map | Kind::Slice | Kind::Chan | Kind::Pointer | Kind::Func => {
                return None
            }
            _ => Shape::Plain,
        };
        Some(GoType {
            id: TypeId::Basic(kind),
            name: name.into(),
            size: kind.fixed_size()?,
            kind,
            shape,
            descriptor: None,
        })
    }
}
