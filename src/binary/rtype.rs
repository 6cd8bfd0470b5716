//! The runtime's own type descriptors (`abi.Type`), read from target memory.
//!
//! Source: src/internal/abi/type.go go1.21 to 1.27, src/runtime/type.go go1.19 and 1.20; maps:
//! src/internal/abi/map*.go. Offsets are those of 64-bit targets.

use super::buildinfo::{uvarint, GoVersion};
use super::module::Module;
use crate::memory::Memory;
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
    pub const KIND: usize = 23;
    pub const STR: usize = 40;
    /// Where what is special to the kind begins.
    pub const EXTRA: u64 = 48;
}

/// `abi.TFlagExtraStar`: the name has a `*` in front that is not meant.
const TFLAG_EXTRA_STAR: u8 = 2;
/// `abi.TFlagRegularMemory`: equality and hash may treat a value as so many bytes.
const TFLAG_REGULAR_MEMORY: u8 = 8;
/// In `abi.Name`, the flag of an embedded field.
const NAME_EMBEDDED: u8 = 8;
/// Longer names, larger structs and bigger values than these are garbage.
const MAX_NAME: u64 = 1 << 16;
const MAX_FIELDS: u64 = 1 << 16;
const MAX_SIZE: u64 = 1 << 40;

/// Whether an interface's data word is the value itself, as the dynamic type's descriptor says:
/// `KindDirectIface` (to go1.25) or `TFlagDirectIface` (from go1.26), each 1<<5 of its byte; the other byte's
/// bit is unused.
pub fn is_direct(memory: &dyn Memory, descriptor: u64) -> Result<bool> {
    let [tflag, _align, _field_align, kind] = memory.array::<4>(descriptor.wrapping_add(offset::TFLAG as u64))?;
    Ok((tflag | kind) & 1 << 5 != 0)
}

/// Whether values of the type at `descriptor` are hashed and compared as plain bytes: `TFlagRegularMemory`.
/// Source: src/internal/abi/type.go, go1.21 to 1.27 (1.19: src/runtime/type.go, the same).
pub fn is_regular_memory(memory: &dyn Memory, descriptor: u64) -> Result<bool> {
    Ok(memory.u8(descriptor.wrapping_add(offset::TFLAG as u64))? & 1 << 3 != 0)
}

/// What every descriptor has in common.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Its target address.
    pub address: u64,
    /// Size in bytes of a value.
    pub size: u64,
    /// The type's hash, the same in every program of this Go version.
    pub hash: u32,
    /// The kind.
    pub kind: Kind,
    /// Whether hash and equality treat a value as plain bytes.
    pub regular_memory: bool,
    /// The name, as the runtime spells it (`main.T`, the package's last element only).
    pub name: String,
    /// Alignment in bytes.
    align: u8,
    /// Bytes of a value, from its start, that can hold pointers.
    pointer_bytes: u64,
}

impl Descriptor {
    /// Whether bytes that parse as a descriptor are one: what is redundant in it must agree.
    fn is_plausible(&self) -> bool {
        self.align.is_power_of_two() && self.pointer_bytes <= self.size && !self.name.is_empty()
    }
}

/// What a map's descriptor says beyond its layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapDescriptor {
    /// Descriptor of the key type.
    pub key: u64,
    /// Descriptor of the elem type.
    pub elem: u64,
    /// Address of the hasher's closure: its first word is the code, the next what it captured.
    pub hasher: u64,
    /// Where the slots are.
    pub layout: MapLayout,
}

/// Reads descriptors of one module.
pub struct Descriptors<'m> {
    /// Where they lie.
    pub memory: &'m dyn Memory,
    /// `moduledata.types`: names are offsets from here.
    pub types: u64,
    /// Which form the map descriptors have.
    pub version: GoVersion,
}

impl Descriptors<'_> {
    /// Reads the common part of the descriptor at `address`.
    pub fn descriptor(&self, address: u64) -> Result<Descriptor> {
        let garbage = |why: &str| Error::Type(format!("there is no type descriptor at {address:#x} ({why})"));
        let bytes = self.memory.array::<{ offset::EXTRA as usize }>(address)?;
        let kind = Kind::from_number(bytes[offset::KIND] & 31).ok_or_else(|| garbage("unknown kind"))?;
        let size = LE::read_u64(&bytes[offset::SIZE..]);
        if size > MAX_SIZE || kind.fixed_size().is_some_and(|fixed| fixed != size) {
            return Err(garbage("its size contradicts its kind"));
        }
        let str_offset = LE::read_i32(&bytes[offset::STR..]);
        let at = self.types.checked_add_signed(str_offset as i64).ok_or_else(|| garbage("its name is nowhere"))?;
        let (_, mut name) = self.name(at)?;
        if bytes[offset::TFLAG] & TFLAG_EXTRA_STAR != 0 {
            name = name.strip_prefix('*').map(str::to_string).ok_or_else(|| garbage("its name has no star"))?;
        }
        let regular_memory = bytes[offset::TFLAG] & TFLAG_REGULAR_MEMORY != 0;
        Ok(Descriptor {
            address,
            size,
            hash: LE::read_u32(&bytes[offset::HASH..]),
            kind,
            regular_memory,
            name,
            align: bytes[offset::ALIGN],
            pointer_bytes: LE::read_u64(&bytes[offset::PTR_BYTES..]),
        })
    }

    /// The whole type.
    pub fn load(&self, address: u64) -> Result<GoType> {
        let common = self.descriptor(address)?;
        let word = |i: u64| -> Result<u64> { Ok(self.memory.u64(address.wrapping_add(offset::EXTRA + 8 * i))?) };
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
            Kind::Struct => Shape::Struct(self.fields(address, word(1)?, word(2)?)?),
            _ => Shape::Plain,
        };
        Ok(GoType {
            id: id(address),
            name: common.name.into(),
            size: common.size,
            kind: common.kind,
            shape,
            descriptor: Some(address),
        })
    }

    /// Addresses of the descriptors that a module lists: by its typelinks, or since 1.27, where there are
    /// none, every sound descriptor in the range that holds them.
    pub fn listed(&self, module: &Module) -> Vec<u64> {
        if let Some((start, count)) = module.typelinks {
            let bytes = self.memory.bytes(start, 4 * count as usize).unwrap_or_default();
            let offsets = bytes.chunks_exact(4).map(LE::read_i32);
            return offsets.filter_map(|offset| module.types.checked_add_signed(offset as i64)).collect();
        }
        let len = module.typedesclen.unwrap_or(0).min(module.etypes - module.types);
        let starts = (module.types + 8..module.types + len).step_by(8);
        starts.filter(|&address| self.descriptor(address).is_ok_and(|d| d.is_plausible())).collect()
    }

    /// Fields of a struct: 24 bytes each, name, type and offset.
    fn fields(&self, address: u64, start: u64, count: u64) -> Result<Vec<Field>> {
        if count > MAX_FIELDS {
            return Err(Error::Type(format!("the struct type at {address:#x} claims {count} fields")));
        }
        let bytes = self.memory.bytes(start, count as usize * 24)?;
        let fields = bytes.chunks_exact(24).map(|field| {
            let (flags, name) = self.name(LE::read_u64(field))?;
            Ok(Field {
                name: name.into(),
                ty: TypeId::Runtime(LE::read_u64(&field[8..])),
                offset: LE::read_u64(&field[16..]),
                embedded: flags & NAME_EMBEDDED != 0,
            })
        });
        fields.collect()
    }

    /// An `abi.Name`: a byte of flags, the length as a varint, the text.
    fn name(&self, address: u64) -> Result<(u8, String)> {
        let garbage = || Error::Type(format!("there is no name at {address:#x}"));
        let start = address.checked_add(1).ok_or_else(garbage)?;
        // A varint of a sane length has at most three bytes; the last byte of memory may be nearer.
        let head: Vec<u8> = (0..3).map_while(|i| self.memory.u8(start + i).ok()).collect();
        let (len, rest) = uvarint(&head).filter(|(len, _)| *len <= MAX_NAME).ok_or_else(garbage)?;
        let used = (head.len() - rest.len()) as u64;
        let text = self.memory.bytes(start + used, len as usize)?;
        let text = std::str::from_utf8(&text).map_err(|_| garbage())?;
        Ok((self.memory.u8(address)?, text.to_string()))
    }

    /// The descriptor of a map type.
    pub fn map(&self, address: u64) -> Result<MapDescriptor> {
        let extra = address.wrapping_add(offset::EXTRA);
        let words = self.memory.array::<88>(extra)?;
        let word = |at: usize| LE::read_u64(&words[at - offset::EXTRA as usize..]);
        let (key, elem, hasher) = (word(48), word(56), word(72));
        let layout = match (self.version.has_swiss_maps(), self.version.number() >= (1, 27)) {
            (false, _) => {
                // KeySize u8, ValueSize u8, BucketSize u16, Flags u32: indirect key 1, indirect elem 2.
                let sizes = word(80);
                let (key_size, elem_size) = (sizes & 0xff, sizes >> 8 & 0xff);
                let flags = sizes >> 32;
                MapLayout::Classic(ClassicLayout {
                    bucket_size: sizes >> 16 & 0xffff,
                    keys: 8,
                    key_size,
                    elems: 8 + 8 * key_size,
                    elem_size,
                    indirect_key: flags & 1 != 0,
                    indirect_elem: flags & 2 != 0,
                })
            }
            (true, newest) => {
                // Flags: indirect key 4, indirect elem 8. Offsets of keys and elems are explicit since 1.27.
                let (keys, key_stride, elems, elem_stride, flags) = match newest {
                    true => (word(88), word(96), word(104), word(112), word(128)),
                    false => (8, word(88), 8u64.wrapping_add(word(96)), word(88), word(104)),
                };
                MapLayout::Swiss(SwissLayout {
                    group_size: word(80),
                    keys,
                    key_stride,
                    elems,
                    elem_stride,
                    indirect_key: flags & 4 != 0,
                    indirect_elem: flags & 8 != 0,
                })
            }
        };
        Ok(MapDescriptor { key, elem, hasher, layout })
    }
}
