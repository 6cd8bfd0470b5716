//! The runtime's own type descriptors (`abi.Type`), read from target memory.
//!
//! Source: src/internal/abi/type.go go1.21 to 1.27, src/runtime/type.go go1.19 and 1.20; maps:
//! src/internal/abi/map*.go. Offsets are those of 64-bit targets.

use super::buildinfo::{uvarint, GoVersion};
use super::moduledata::{Itabs, Module};
use super::typename;
use crate::memory::{Memory, MemoryError};
use crate::types::{ClassicLayout, Field, GoType, Kind, MapLayout, MapType, Shape, SwissLayout, TypeId};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::sync::Arc;

/// Offsets in `abi.Type`, 48 bytes.
mod offset {
    pub const SIZE: usize = 0;
    pub const PTR_BYTES: usize = 8;
    pub const HASH: usize = 16;
    pub const TFLAG: usize = 20;
    pub const ALIGN: usize = 21;
    pub const FIELD_ALIGN: usize = 22;
    pub const KIND: usize = 23;
    pub const STR: usize = 40;
    pub const PTR_TO_THIS: usize = 44;
    /// Where what is special to the kind begins.
    pub const EXTRA: u64 = 48;
}

/// `abi.TFlagUncommon`: package and methods follow.
const TFLAG_UNCOMMON: u8 = 1;
/// `abi.TFlagExtraStar`: the name has a `*` in front that is not meant.
const TFLAG_EXTRA_STAR: u8 = 2;
/// `abi.TFlagNamed`: the type was declared with a name.
const TFLAG_NAMED: u8 = 4;
/// `abi.TFlagRegularMemory`: equality and hash may treat a value as so many bytes.
const TFLAG_REGULAR_MEMORY: u8 = 8;
/// `KindDirectIface` (to go1.25) and `TFlagDirectIface` (from go1.26), each of its own byte; the other byte's
/// bit is unused.
const DIRECT: u8 = 1 << 5;
/// `abi.Name` flags: a tag follows; the offset of a package's name follows; the field is embedded.
const NAME_TAG: u8 = 2;
const NAME_PACKAGE: u8 = 4;
const NAME_EMBEDDED: u8 = 8;
/// In `FuncType.OutCount`: the last parameter is `...`.
const VARIADIC: u16 = 1 << 15;
/// Sizes in bytes of `UncommonType`, `Method`, `Imethod`, `StructField`, and of `ITab` without methods.
const UNCOMMON_SIZE: u64 = 16;
const METHOD_SIZE: u64 = 16;
const IMETHOD_SIZE: u64 = 8;
const FIELD_SIZE: u64 = 24;
const ITAB_SIZE: u64 = 24;

/// Longer names, more fields or methods and bigger values than these are garbage.
const MAX_NAME: u64 = 1 << 16;
const MAX_MEMBERS: u64 = 1 << 14;
const MAX_SIZE: u64 = 1 << 40;
/// Types or itabs that one module lists at most.
const MAX_LISTED: u64 = 1 << 24;

/// Whether an interface's data word is the value itself, as the dynamic type's descriptor says.
pub fn is_direct(memory: &dyn Memory, descriptor: u64) -> Result<bool> {
    let [tflag, _align, _field_align, kind] = memory.array::<4>(descriptor.wrapping_add(offset::TFLAG as u64))?;
    Ok((tflag | kind) & DIRECT != 0)
}

/// Address of the descriptor of an interface's dynamic type, from its first word, which is not 0: the descriptor
/// itself or, with `methods`, an itab, whose second word it is (src/internal/abi/iface.go; runtime.itab before go1.22).
pub fn of_interface(memory: &dyn Memory, methods: bool, word: u64) -> Result<u64, MemoryError> {
    match methods {
        true => memory.u64(word.wrapping_add(8)),
        false => Ok(word),
    }
}

/// Whether values of the type at `descriptor` are hashed and compared as plain bytes: `TFlagRegularMemory`.
pub fn is_regular_memory(memory: &dyn Memory, descriptor: u64) -> Result<bool> {
    Ok(memory.u8(descriptor.wrapping_add(offset::TFLAG as u64))? & TFLAG_REGULAR_MEMORY != 0)
}

/// What every descriptor has in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// Its target address.
    pub address: u64,
    /// Size in bytes of a value.
    pub size: u64,
    /// Bytes of a value, from its start, that can hold pointers.
    pub pointer_bytes: u64,
    /// The type's hash, the same in every program of this Go version.
    pub hash: u32,
    /// Alignment in bytes of a variable, and of a field.
    pub align: u8,
    pub field_align: u8,
    /// The kind.
    pub kind: Kind,
    /// Whether it was declared with a name (or is predeclared).
    pub named: bool,
    /// Whether hash and equality treat a value as plain bytes.
    pub regular_memory: bool,
    /// Whether an interface holds a value in its data word.
    pub direct: bool,
    /// Whether package and methods follow.
    uncommon: bool,
    extra_star: bool,
    /// Offsets of its name and of the descriptor of its pointer type.
    name: i32,
    pointer_to_this: i32,
}

impl Descriptor {
    /// Whether bytes that parse as a descriptor are one: what is redundant in it must agree.
    fn is_plausible(&self) -> bool {
        let aligned = self.align.is_power_of_two() && self.field_align.is_power_of_two();
        aligned && self.pointer_bytes <= self.size && self.size.is_multiple_of(self.align as u64)
    }
}

/// What a map's descriptor says beyond its layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapDescriptor {
    /// Descriptor of the key type.
    pub key: u64,
    /// Descriptor of the elem type.
    pub elem: u64,
    /// Descriptor of the bucket's or group's type.
    pub slots: u64,
    /// Address of the hasher's closure: its first word is the code, the next what it captured.
    pub hasher: u64,
    /// Flags, whose bits differ between classic and Swiss maps.
    pub flags: u32,
    /// Where the slots are.
    pub layout: MapLayout,
}

/// What follows the descriptor of a type that has a name or methods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncommon {
    /// Import path; empty for predeclared types.
    pub package: String,
    /// Methods, and how many of them are exported.
    pub methods: u16,
    pub exported: u16,
    /// Where the methods are.
    start: u64,
}

/// A method of a type, or that an interface asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Its name.
    pub name: Name,
    /// Descriptor of its func type; `None` where the linker found it unreachable.
    pub ty: Option<u64>,
    /// Code that an interface call runs; `None` where unreachable, and in an interface.
    pub code: Option<u64>,
}

/// Parameters and results of a func type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Descriptors of the parameters' types.
    pub parameters: Vec<u64>,
    /// Descriptors of the results' types.
    pub results: Vec<u64>,
    /// Whether the last parameter, a slice, is `...`.
    pub variadic: bool,
}

/// A pair of an interface type and a type that has its methods: first word of an interface value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Itab {
    /// Descriptor of the interface type.
    pub interface: u64,
    /// Descriptor of the dynamic type.
    pub ty: u64,
}

/// An `abi.Name`: flags, text, a struct field's tag, an unexported method's package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    flags: u8,
    /// The name.
    pub text: String,
    /// The tag; empty without one.
    pub tag: String,
    /// Import path of the package, where it is not that of the type that has the name; else empty.
    pub package: String,
}

/// A field of a struct's descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDescriptor {
    /// Name and tag.
    pub name: Name,
    /// Descriptor of its type.
    pub ty: u64,
    /// Offset in bytes.
    pub offset: u64,
    /// Whether it is embedded.
    pub embedded: bool,
}

/// Reads descriptors.
#[derive(Clone, Copy)]
pub struct Descriptors<'m> {
    /// Where they lie.
    pub memory: &'m dyn Memory,
    /// Names and types are offsets from the start of their module's types. Descriptors outside every module
    /// were made by reflection.
    pub modules: &'m [Module],
    /// Which form the map descriptors have.
    pub version: &'m GoVersion,
}

impl<'m> Descriptors<'m> {
    /// Reads the common part of the descriptor at `address`.
    pub fn descriptor(&self, address: u64) -> Result<Descriptor> {
        let garbage = |why: &str| Error::Type(format!("there is no type descriptor at {address:#x} ({why})"));
        let bytes = self.memory.array::<{ offset::EXTRA as usize }>(address)?;
        let kind = Kind::from_number(bytes[offset::KIND] & 31).ok_or_else(|| garbage("unknown kind"))?;
        let size = LE::read_u64(&bytes[offset::SIZE..]);
        if size > MAX_SIZE || kind.fixed_size().is_some_and(|fixed| fixed != size) {
            return Err(garbage("its size contradicts its kind"));
        }
        let tflag = bytes[offset::TFLAG];
        Ok(Descriptor {
            address,
            size,
            pointer_bytes: LE::read_u64(&bytes[offset::PTR_BYTES..]),
            hash: LE::read_u32(&bytes[offset::HASH..]),
            align: bytes[offset::ALIGN],
            field_align: bytes[offset::FIELD_ALIGN],
            kind,
            named: tflag & TFLAG_NAMED != 0,
            regular_memory: tflag & TFLAG_REGULAR_MEMORY != 0,
            direct: (tflag | bytes[offset::KIND]) & DIRECT != 0,
            uncommon: tflag & TFLAG_UNCOMMON != 0,
            extra_star: tflag & TFLAG_EXTRA_STAR != 0,
            name: LE::read_i32(&bytes[offset::STR..]),
            pointer_to_this: LE::read_i32(&bytes[offset::PTR_TO_THIS..]),
        })
    }

    /// The whole type.
    pub fn load(&self, address: u64) -> Result<GoType> {
        let common = self.descriptor(address)?;
        let word = |i: u64| self.word(address, i);
        let id = TypeId::Runtime;
        let shape = match common.kind {
            Kind::Array => Shape::Array { elem: id(word(0)?), len: word(2)? },
            Kind::Chan => Shape::Chan(id(word(0)?)),
            Kind::Func => Shape::Func,
            Kind::Interface => Shape::Interface { methods: word(2)? > 0 },
            Kind::Map => {
                let map = self.map(address)?;
                Shape::Map(Arc::new(MapType { key: id(map.key), elem: id(map.elem), layout: map.layout }))
            }
            Kind::Pointer => Shape::Pointer(Some(id(word(0)?))),
            Kind::Slice => Shape::Slice(id(word(0)?)),
            Kind::Struct => Shape::Struct(self.fields(address)?.into_iter().map(Field::from).collect()),
            _ => Shape::Plain,
        };
        Ok(GoType {
            id: id(address),
            name: typename::plain_paths(&self.type_name(&common)?).into(),
            size: common.size,
            kind: common.kind,
            shape,
            descriptor: Some(address),
        })
    }

    /// The type's name as the runtime spells it: `main.T`, with the package's name only.
    ///
    /// Reflection keeps the names of the types it makes in a table of its own; they are put together again
    /// from their parts.
    pub fn type_name(&self, descriptor: &Descriptor) -> Result<String> {
        match self.own_name(descriptor)? {
            Some(name) => Ok(name),
            None => typename::spell(self, descriptor.address, typename::Packages::Name),
        }
    }

    /// The type's name with whole import paths, as DWARF spells it: `example.com/a/b.T`.
    pub fn full_name(&self, address: u64) -> Result<String> {
        typename::spell(self, address, typename::Packages::Path)
    }

    /// The name that a descriptor of a module has.
    pub fn own_name(&self, descriptor: &Descriptor) -> Result<Option<String>> {
        let Some(at) = self.in_module(descriptor.address, descriptor.name) else { return Ok(None) };
        let name = self.name(at)?.text;
        let name = match descriptor.extra_star {
            true => name.strip_prefix('*').map(str::to_string),
            false => Some(name),
        };
        name.filter(|name| !name.is_empty()).map(Some).ok_or_else(|| {
            Error::Type(format!("there is no type descriptor at {:#x} (its name is empty)", descriptor.address))
        })
    }

    /// The module that an address of types is in.
    pub fn module_of(&self, address: u64) -> Option<&'m Module> {
        self.modules.iter().find(|module| module.data.types.contains(&address))
    }

    /// What an offset that the descriptor at `address` holds means.
    fn in_module(&self, address: u64, offset: i32) -> Option<u64> {
        let types = &self.module_of(address)?.data.types;
        let at = types.start.checked_add(u64::try_from(offset).ok()?)?;
        types.contains(&at).then_some(at)
    }

    /// A type that the descriptor at `address` names by an offset; 0 and -1 are none.
    fn type_at(&self, address: u64, offset: i32) -> Option<u64> {
        self.in_module(address, offset).filter(|_| offset != 0)
    }

    /// Word number `i` of what is special to the kind.
    pub(super) fn word(&self, address: u64, i: u64) -> Result<u64> {
        Ok(self.memory.u64(address.wrapping_add(offset::EXTRA).wrapping_add(8 * i))?)
    }

    /// Fields of a struct.
    pub fn fields(&self, address: u64) -> Result<Vec<FieldDescriptor>> {
        let bytes = self.members(address, self.word(address, 1)?, self.word(address, 2)?, FIELD_SIZE)?;
        let fields = bytes.chunks_exact(FIELD_SIZE as usize).map(|field| {
            let name = self.name(LE::read_u64(field))?;
            let embedded = name.flags & NAME_EMBEDDED != 0;
            Ok(FieldDescriptor { name, ty: LE::read_u64(&field[8..]), offset: LE::read_u64(&field[16..]), embedded })
        });
        fields.collect()
    }

    /// The bytes of `count` members at `start`.
    fn members(&self, address: u64, start: u64, count: u64, size: u64) -> Result<Vec<u8>> {
        if count > MAX_MEMBERS {
            let sentence = format!("the type descriptor at {address:#x} claims {count} members; it is no descriptor");
            return Err(Error::Type(sentence));
        }
        Ok(self.memory.bytes(start, (count * size) as usize)?.into_owned())
    }

    /// An `abi.Name`: a byte of flags, the length as a varint, the text; the same for a tag; an offset.
    pub(super) fn name(&self, address: u64) -> Result<Name> {
        let flags = self.memory.u8(address)?;
        let (text, mut after) = self.counted(address.wrapping_add(1))?;
        let mut name = Name { flags, text, ..Name::default() };
        if flags & NAME_TAG != 0 {
            (name.tag, after) = self.counted(after)?;
        }
        if flags & NAME_PACKAGE != 0 {
            let offset = i32::from_le_bytes(self.memory.array(after)?);
            let package = self.in_module(address, offset);
            name.package =
                package.map_or(Ok(String::new()), |at| Ok::<_, Error>(self.counted(at.wrapping_add(1))?.0))?;
        }
        Ok(name)
    }

    /// Text with its length before it, and the address that follows.
    fn counted(&self, address: u64) -> Result<(String, u64)> {
        let garbage = || Error::Type(format!("there is no name at {address:#x}"));
        // A varint of a sane length has at most three bytes; the last byte of memory may be nearer.
        let head: Vec<u8> = (0..3).map_while(|i| self.memory.u8(address.checked_add(i)?).ok()).collect();
        let (len, rest) = uvarint(&head).filter(|(len, _)| *len <= MAX_NAME).ok_or_else(garbage)?;
        let start = address.wrapping_add((head.len() - rest.len()) as u64);
        let text = self.memory.bytes(start, len as usize)?;
        let text = std::str::from_utf8(&text).map_err(|_| garbage())?;
        Ok((text.to_string(), start.wrapping_add(len)))
    }

    /// The descriptor of a map type.
    pub fn map(&self, address: u64) -> Result<MapDescriptor> {
        let extra = address.wrapping_add(offset::EXTRA);
        let swiss = self.version.has_swiss_maps();
        let newest = self.version.number() >= (1, 27);
        let bytes = self.memory.bytes(extra, (self.map_size() - offset::EXTRA) as usize)?;
        let word =
            |at: usize| bytes.get(at - offset::EXTRA as usize..).and_then(|b| b.get(..8)).map_or(0, LE::read_u64);
        let (layout, flags) = match (swiss, newest) {
            (false, _) => {
                // KeySize u8, ValueSize u8, BucketSize u16, Flags u32: indirect key 1, indirect elem 2.
                let sizes = word(80);
                let (key_size, elem_size) = (sizes & 0xff, sizes >> 8 & 0xff);
                let flags = sizes >> 32;
                let layout = ClassicLayout {
                    bucket_size: sizes >> 16 & 0xffff,
                    keys: 8,
                    key_size,
                    elems: 8 + 8 * key_size,
                    elem_size,
                    indirect_key: flags & 1 != 0,
                    indirect_elem: flags & 2 != 0,
                };
                (MapLayout::Classic(layout), flags)
            }
            (true, newest) => {
                // Flags: indirect key 4, indirect elem 8. Offsets of keys and elems are explicit since 1.27.
                let (keys, key_stride, elems, elem_stride, flags) = match newest {
                    true => (word(88), word(96), word(104), word(112), word(128)),
                    false => (8, word(88), 8u64.wrapping_add(word(96)), word(88), word(104)),
                };
                let layout = SwissLayout {
                    group_size: word(80),
                    keys,
                    key_stride,
                    elems,
                    elem_stride,
                    indirect_key: flags & 4 != 0,
                    indirect_elem: flags & 8 != 0,
                };
                (MapLayout::Swiss(layout), flags)
            }
        };
        if !fits(&layout) {
            return Err(Error::Type(format!("the map type at {address:#x} has slots outside its bucket or group")));
        }
        let (key, elem, slots, hasher) = (word(48), word(56), word(64), word(72));
        Ok(MapDescriptor { key, elem, slots, hasher, flags: flags as u32, layout })
    }

    /// Size of a map's descriptor in this version.
    fn map_size(&self) -> u64 {
        match (self.version.has_swiss_maps(), self.version.number() >= (1, 27)) {
            (false, _) => 88,
            (true, false) => 112,
            (true, true) => 136,
        }
    }

    /// Size of the fixed part of a descriptor of this kind.
    fn base_size(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Array => 72,
            Kind::Chan => 64,
            Kind::Func | Kind::Pointer | Kind::Slice => 56,
            Kind::Interface | Kind::Struct => 80,
            Kind::Map => self.map_size(),
            _ => offset::EXTRA,
        }
    }

    /// What follows the descriptor of a type with a name or methods; `None` where nothing does.
    pub fn uncommon(&self, descriptor: &Descriptor) -> Result<Option<Uncommon>> {
        if !descriptor.uncommon {
            return Ok(None);
        }
        let address = descriptor.address.wrapping_add(self.base_size(descriptor.kind));
        let bytes = self.memory.array::<{ UNCOMMON_SIZE as usize }>(address)?;
        let package = match self.type_at(descriptor.address, LE::read_i32(&bytes)) {
            Some(at) => self.name(at)?.text,
            None => String::new(),
        };
        let [methods, exported] = [4, 6].map(|at| LE::read_u16(&bytes[at..]));
        let start = address.wrapping_add(LE::read_u32(&bytes[8..]) as u64);
        Ok(Some(Uncommon { package, methods, exported, start }))
    }

    /// Import path of the package that a type belongs to; empty for predeclared types and for types that are
    /// no package's.
    pub fn package(&self, descriptor: &Descriptor) -> Result<String> {
        if let Some(uncommon) = self.uncommon(descriptor)? {
            return Ok(uncommon.package);
        }
        match (descriptor.kind, self.word(descriptor.address, 0)) {
            (Kind::Struct | Kind::Interface, Ok(name)) if name != 0 => Ok(self.name(name)?.text),
            _ => Ok(String::new()),
        }
    }

    /// Methods of a type, sorted by name.
    pub fn methods(&self, descriptor: &Descriptor) -> Result<Vec<Method>> {
        let Some(uncommon) = self.uncommon(descriptor)? else { return Ok(Vec::new()) };
        let bytes = self.members(descriptor.address, uncommon.start, uncommon.methods as u64, METHOD_SIZE)?;
        let text = self.module_of(descriptor.address).map(|module| module.data.text.start);
        let methods = bytes.chunks_exact(METHOD_SIZE as usize).map(|method| {
            let code = u64::try_from(LE::read_i32(&method[8..])).ok().filter(|&offset| offset != 0);
            Ok(Method {
                name: self.name_at(descriptor.address, LE::read_i32(method))?,
                ty: self.type_at(descriptor.address, LE::read_i32(&method[4..])),
                code: text.zip(code).and_then(|(text, offset)| text.checked_add(offset)),
            })
        });
        methods.collect()
    }

    /// Methods that an interface type asks for, sorted by name.
    pub fn interface_methods(&self, address: u64) -> Result<Vec<Method>> {
        let bytes = self.members(address, self.word(address, 1)?, self.word(address, 2)?, IMETHOD_SIZE)?;
        let methods = bytes.chunks_exact(IMETHOD_SIZE as usize).map(|method| {
            let name = self.name_at(address, LE::read_i32(method))?;
            Ok(Method { name, ty: self.type_at(address, LE::read_i32(&method[4..])), code: None })
        });
        methods.collect()
    }

    /// The name that the descriptor at `address` names by an offset.
    fn name_at(&self, address: u64, offset: i32) -> Result<Name> {
        match self.in_module(address, offset) {
            Some(at) => self.name(at),
            None => Err(Error::Type(format!("the type descriptor at {address:#x} names nothing at {offset:#x}"))),
        }
    }

    /// Parameters and results of a func type.
    pub fn signature(&self, descriptor: &Descriptor) -> Result<Signature> {
        let counts = self.word(descriptor.address, 0)?;
        let (parameters, results) = (counts as u16, (counts >> 16) as u16);
        let count = parameters as u64 + (results & !VARIADIC) as u64;
        let uncommon = if descriptor.uncommon { UNCOMMON_SIZE } else { 0 };
        let start = descriptor.address.wrapping_add(self.base_size(Kind::Func) + uncommon);
        let bytes = self.members(descriptor.address, start, count, 8)?;
        let mut types: Vec<u64> = bytes.chunks_exact(8).map(LE::read_u64).collect();
        let results_of = types.split_off(parameters as usize);
        Ok(Signature { parameters: types, results: results_of, variadic: results & VARIADIC != 0 })
    }

    /// Addresses of the descriptors that a module lists: by its typelinks, or since 1.27, where there are
    /// none, one behind the other.
    pub fn listed(&self, module: &Module) -> Vec<u64> {
        match (module.data.typelinks, &module.data.descriptors) {
            (Some((start, count)), _) => {
                let bytes = self.memory.bytes(start, 4 * count.min(MAX_LISTED) as usize).unwrap_or_default();
                let offsets = bytes.chunks_exact(4).map(LE::read_i32);
                offsets.filter_map(|offset| self.in_module(module.data.types.start, offset)).collect()
            }
            (None, Some(range)) => self.packed(range.start.saturating_add(8), range.end),
            (None, None) => Vec::new(),
        }
    }

    /// Descriptors that lie one behind the other, each aligned to 8 (`moduleTypelinks`, src/runtime/type.go
    /// go1.27). What is no descriptor is stepped over word by word.
    fn packed(&self, start: u64, end: u64) -> Vec<u64> {
        let mut found = Vec::new();
        let mut at = start.next_multiple_of(8);
        while at < end {
            let descriptor = match self.descriptor(at) {
                // A corrupt end can be far behind the last page.
                Err(Error::Memory(_)) => break,
                descriptor => descriptor.ok().filter(Descriptor::is_plausible),
            };
            let size = descriptor.and_then(|descriptor| {
                self.own_name(&descriptor).ok()??;
                self.size_of(&descriptor).ok()
            });
            if size.is_some() {
                found.push(at);
            }
            at = match at.checked_add(size.unwrap_or(8)).and_then(|at| at.checked_next_multiple_of(8)) {
                Some(next) => next,
                None => break,
            };
        }
        found
    }

    /// Bytes that a descriptor takes with what the compiler puts behind it (`DescriptorSize`,
    /// src/internal/abi/type.go go1.27).
    fn size_of(&self, descriptor: &Descriptor) -> Result<u64> {
        let members = |size: u64| -> Result<u64> {
            let count = self.word(descriptor.address, 2)?;
            count.checked_mul(size).filter(|_| count <= MAX_MEMBERS).ok_or_else(|| {
                Error::Type(format!("the type descriptor at {:#x} claims {count} members", descriptor.address))
            })
        };
        let behind = match descriptor.kind {
            Kind::Struct => members(FIELD_SIZE)?,
            Kind::Interface => members(IMETHOD_SIZE)?,
            Kind::Func => {
                let signature = self.signature(descriptor)?;
                8 * (signature.parameters.len() + signature.results.len()) as u64
            }
            _ => 0,
        };
        let uncommon = match self.uncommon(descriptor)? {
            Some(uncommon) => UNCOMMON_SIZE + METHOD_SIZE * uncommon.methods as u64,
            None => 0,
        };
        Ok(self.base_size(descriptor.kind) + behind + uncommon)
    }

    /// The itab at `address`: both its types must be there, and the hash it copied from one must agree.
    pub fn itab(&self, address: u64) -> Result<Itab> {
        let bytes = self.memory.array::<{ ITAB_SIZE as usize }>(address)?;
        let (interface, ty) = (LE::read_u64(&bytes), LE::read_u64(&bytes[8..]));
        let agrees = self.descriptor(interface)?.kind == Kind::Interface
            && self.descriptor(ty)?.hash == LE::read_u32(&bytes[16..]);
        agrees.then_some(Itab { interface, ty }).ok_or_else(|| Error::Type(format!("there is no itab at {address:#x}")))
    }

    /// Addresses of the itabs that the compiler made for a module.
    pub fn itabs(&self, module: &Module) -> Vec<u64> {
        match &module.data.itabs {
            &Itabs::Links(start, count) => {
                let bytes = self.memory.bytes(start, 8 * count.min(MAX_LISTED) as usize).unwrap_or_default();
                bytes.chunks_exact(8).map(LE::read_u64).collect()
            }
            Itabs::Packed(range) => {
                let mut found = Vec::new();
                let mut at = range.start;
                while at < range.end {
                    let Ok(methods) = self.itab(at).and_then(|itab| self.word(itab.interface, 2)) else { break };
                    found.push(at);
                    // There is room for one method at least.
                    let Some(next) = methods.max(1).checked_mul(8).and_then(|m| at.checked_add(ITAB_SIZE + m)) else {
                        break;
                    };
                    at = next;
                }
                found
            }
        }
    }

    /// The descriptors that the one at `address` leads to.
    pub fn parts(&self, descriptor: &Descriptor) -> Vec<u64> {
        let address = descriptor.address;
        let mut parts: Vec<u64> = self.type_at(address, descriptor.pointer_to_this).into_iter().collect();
        let mut words = |count: u64| parts.extend((0..count).filter_map(|i| self.word(address, i).ok()));
        match descriptor.kind {
            Kind::Pointer | Kind::Slice | Kind::Chan => words(1),
            Kind::Array => words(2),
            Kind::Map => words(3),
            Kind::Struct => parts.extend(self.fields(address).unwrap_or_default().iter().map(|field| field.ty)),
            Kind::Func => {
                if let Ok(signature) = self.signature(descriptor) {
                    parts.extend(signature.parameters);
                    parts.extend(signature.results);
                }
            }
            Kind::Interface => {
                parts.extend(self.interface_methods(address).unwrap_or_default().iter().filter_map(|method| method.ty));
            }
            _ => {}
        }
        parts.extend(self.methods(descriptor).unwrap_or_default().iter().filter_map(|method| method.ty));
        parts
    }
}

/// Whether all slots of a bucket or group lie inside it.
fn fits(layout: &MapLayout) -> bool {
    let (slots, size, overflow) = match layout {
        MapLayout::Classic(l) => ([(l.keys, l.key_size), (l.elems, l.elem_size)], l.bucket_size, 8),
        MapLayout::Swiss(l) => ([(l.keys, l.key_stride), (l.elems, l.elem_stride)], l.group_size, 0),
    };
    // The last slot begins seven strides behind the first; keys and elems of a Swiss slot may alternate.
    let ends = slots.map(|(start, stride)| stride.checked_mul(7).and_then(|last| last.checked_add(start)));
    ends.iter().all(|end| end.and_then(|end| end.checked_add(overflow)).is_some_and(|end| end <= size))
}

impl From<FieldDescriptor> for Field {
    fn from(field: FieldDescriptor) -> Field {
        let FieldDescriptor { name, ty, offset, embedded } = field;
        Field { name: name.text.into(), ty: TypeId::Runtime(ty), offset, embedded }
    }
}
