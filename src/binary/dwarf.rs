//! DWARF 4 and 5 of Go programs: an index of names first, a type's DIEs only when it is asked for.
//!
//! Attribute numbers: src/cmd/internal/dwarf/dwarf.go, Go 1.19 to 1.27. Type DIEs of the whole program lie
//! in one late unit and are referred to across units, so everything is keyed by `.debug_info` offset.

use super::locals::Functions;
use super::typename::plain_paths;
use crate::files::{Mapped, Stamp};
use crate::types::{ClassicLayout, Field, GoType, Kind, MapLayout, MapType, Shape, SwissLayout, TypeId};
use crate::{Error, Result};
use gimli::constants as dw;
use gimli::{Abbreviations, AttributeValue, DebugInfoOffset, DwarfSections, EndianSlice, LittleEndian, SectionId};
use object::{Object, ObjectSection};
use rayon::prelude::*;
use rustc_hash::FxHasher;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::{Arc, Mutex};

pub(super) type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Entry<'a, 'e> = gimli::DebuggingInformationEntry<'e, 'e, Slice<'a>>;

const GO_KIND: gimli::DwAt = gimli::DwAt(0x2900);
const GO_KEY: gimli::DwAt = gimli::DwAt(0x2901);
const GO_ELEM: gimli::DwAt = gimli::DwAt(0x2902);
const GO_EMBEDDED_FIELD: gimli::DwAt = gimli::DwAt(0x2903);
const GO_RUNTIME_TYPE: gimli::DwAt = gimli::DwAt(0x2904);
const GO_PACKAGE_NAME: gimli::DwAt = gimli::DwAt(0x2905);
/// `DW_LANG_Go`; units of other languages (cgo) are not indexed.
pub(super) const LANG_GO: gimli::DwLang = dw::DW_LANG_Go;
/// Types within types within … beyond this depth are a broken file.
const MAX_CHAIN: usize = 64;

/// The bytes of one section: in the mapped file, or inflated.
pub(super) enum Bytes {
    Mapped(Range<usize>),
    Inflated(Vec<u8>),
}

/// Debug information of one file.
pub struct Dwarf {
    pub(super) file: Arc<Mapped>,
    sections: DwarfSections<Bytes>,
    /// Start offset of each unit, sorted.
    pub(super) units: Vec<usize>,
    abbreviations: Mutex<HashMap<usize, Arc<Abbreviations>>>,
    index: Index,
    pub(super) functions: Functions,
}

/// Where named things are; names are kept as hashes and verified at the DIE.
#[derive(Default)]
struct Index {
    /// (hash of name, DIE offset), sorted.
    types: Vec<(u32, u32)>,
    /// (hash of name, DIE offset), sorted.
    variables: Vec<(u32, u32)>,
    /// (go_runtime_type, DIE offset), sorted; the first DIE of each wins.
    runtime_types: Vec<(u64, u32)>,
    /// (import path, name) of packages whose name is not the last element of their path.
    packages: Vec<(String, String)>,
}

/// A package variable.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Full name, e.g. `main.cache`.
    pub name: String,
    /// Link-time address (add the bias).
    pub address: u64,
    /// Its type.
    pub ty: TypeId,
}

impl Dwarf {
    /// Reads the debug sections of an ELF file; `None` when it has none.
    pub fn load(file: Arc<Mapped>) -> Result<Option<Dwarf>> {
        let object = object::File::parse(&file[..]).map_err(|e| broken("executable", e))?;
        if object.section_by_name(".debug_info").or_else(|| object.section_by_name(".zdebug_info")).is_none() {
            return Ok(None);
        }
        // Only what types and variables need; line tables and location lists stay compressed.
        use SectionId::*;
        const NEEDED: [SectionId; 6] = [DebugInfo, DebugAbbrev, DebugStr, DebugLineStr, DebugAddr, DebugStrOffsets];
        let mut read: Vec<(SectionId, Bytes)> =
            NEEDED.par_iter().map(|&id| Ok((id, section_bytes(&object, &file, id)?))).collect::<Result<_>>()?;
        let sections = DwarfSections::load(|id| -> Result<Bytes> {
            let found = read.iter().position(|(have, _)| *have == id);
            Ok(found.map_or(Bytes::Mapped(0..0), |at| read.swap_remove(at).1))
        })?;
        let mut dwarf = Dwarf {
            file: file.clone(),
            sections,
            units: Vec::new(),
            abbreviations: Mutex::default(),
            index: Index::default(),
            functions: Functions::default(),
        };
        dwarf.build_index()?;
        Ok(Some(dwarf))
    }

    /// The file it is read from.
    pub fn stamp(&self) -> &Stamp {
        self.file.stamp()
    }

    pub(super) fn borrow(&self) -> gimli::Dwarf<Slice<'_>> {
        self.sections.borrow(|bytes| self.slice(bytes))
    }

    pub(super) fn slice<'a>(&'a self, bytes: &'a Bytes) -> Slice<'a> {
        let bytes = match bytes {
            Bytes::Mapped(range) => self.file.get(range.clone()).unwrap_or_default(),
            Bytes::Inflated(bytes) => bytes,
        };
        EndianSlice::new(bytes, LittleEndian)
    }

    fn build_index(&mut self) -> Result<()> {
        let dwarf = self.borrow();
        let (mut headers, mut units) = (Vec::new(), Vec::new());
        let mut all = dwarf.units();
        // A unit that cannot be parsed ends the list: what came before stays usable.
        while let Ok(Some(header)) = all.next() {
            if let Some(DebugInfoOffset(offset)) = header.offset().as_debug_info_offset() {
                units.push(offset);
                headers.push(header);
            }
        }
        let parts: Vec<Index> =
            headers.par_iter().map(|header| index_unit(&dwarf, header).unwrap_or_default()).collect();
        let mut index = Index::default();
        for part in parts {
            index.types.extend(part.types);
            index.variables.extend(part.variables);
            index.runtime_types.extend(part.runtime_types);
            index.packages.extend(part.packages);
        }
        rayon::join(
            || index.types.par_sort_unstable(),
            || {
                index.variables.par_sort_unstable();
                index.runtime_types.par_sort_unstable();
                index.runtime_types.dedup_by_key(|(runtime, _)| *runtime);
            },
        );
        (self.units, self.index) = (units, index);
        Ok(())
    }

    /// Whether any Go type was found (a C program's DWARF has none).
    pub fn has_go(&self) -> bool {
        !self.index.types.is_empty()
    }

    /// The package variable `name`, as Go or as symbols spell it.
    pub fn variable(&self, name: &str) -> Result<Option<Variable>> {
        let name = plain_paths(name);
        for offset in matching(&self.index.variables, &name) {
            if let Some(variable) = self.variable_at(offset)?.filter(|v| v.name == name) {
                return Ok(Some(variable));
            }
        }
        Ok(None)
    }

    /// Every package variable, in no particular order; those that cannot be read are left out.
    pub fn variables(&self) -> impl Iterator<Item = Variable> + '_ {
        self.index.variables.iter().filter_map(|&(_, offset)| self.variable_at(offset as usize).ok().flatten())
    }

    /// Full names of the package variables that `name` is short for: with the last elements of their package's path, or its
    /// name.
    pub fn variables_meant(&self, name: &str) -> Vec<String> {
        let name = plain_paths(name);
        let is_meant = |full: &str| {
            let by_path = full.strip_suffix(&*name).is_some_and(|before| before.ends_with('/'));
            by_path || self.with_package_name(full).is_some_and(|short| short == *name)
        };
        let mut names: Vec<String> =
            self.variables().map(|variable| variable.name).filter(|full| is_meant(full)).collect();
        names.sort();
        names.dedup();
        names
    }

    /// A word of a type's name, a package's path and what it declares, with the package's name instead.
    pub fn with_package_name(&self, word: &str) -> Option<String> {
        let packages = self.index.packages.iter();
        let mut found = packages.filter_map(|(path, own)| Some((own, word.strip_prefix(&**path)?.strip_prefix('.')?)));
        found.next().map(|(own, rest)| format!("{own}.{rest}"))
    }

    /// The type named `name`, as DWARF spells it or as Go does.
    pub fn type_named(&self, name: &str) -> Option<TypeId> {
        let name = &*plain_paths(name);
        let mut found = matching(&self.index.types, name);
        found.find(|&offset| self.name_at(offset).is_ok_and(|n| n == name)).map(|offset| TypeId::Dwarf(offset as u64))
    }

    /// The type whose runtime descriptor lies `offset` bytes after `moduledata.types`.
    pub fn type_of_runtime(&self, offset: u64) -> Option<TypeId> {
        let at = self.index.runtime_types.binary_search_by_key(&offset, |(runtime, _)| *runtime).ok()?;
        Some(TypeId::Dwarf(self.index.runtime_types[at].1 as u64))
    }

    fn variable_at(&self, offset: usize) -> Result<Option<Variable>> {
        let dwarf = self.borrow();
        let (header, abbreviations) = self.unit_of(&dwarf, offset)?;
        let entry = entry_at(&header, &abbreviations, offset)?;
        let Some(AttributeValue::Exprloc(expression)) = entry.attr_value(dw::DW_AT_location).map_err(corrupt)? else {
            return Ok(None);
        };
        let mut operations = expression.operations(header.encoding());
        let address = match operations.next().map_err(corrupt)? {
            Some(gimli::Operation::Address { address }) => address,
            Some(gimli::Operation::AddressIndex { index }) => {
                let unit = dwarf.unit(header).map_err(corrupt)?;
                dwarf.address(&unit, index).map_err(corrupt)?
            }
            _ => return Ok(None),
        };
        let name = plain_name(&dwarf, &entry)?;
        let Some(ty) = reference(&header, &entry, dw::DW_AT_type)? else { return Ok(None) };
        Ok(Some(Variable { name, address, ty: TypeId::Dwarf(ty as u64) }))
    }

    fn name_at(&self, offset: usize) -> Result<String> {
        let dwarf = self.borrow();
        let (header, abbreviations) = self.unit_of(&dwarf, offset)?;
        let entry = entry_at(&header, &abbreviations, offset)?;
        plain_name(&dwarf, &entry)
    }

    pub(super) fn unit_of<'a>(
        &self,
        dwarf: &gimli::Dwarf<Slice<'a>>,
        offset: usize,
    ) -> Result<(gimli::UnitHeader<Slice<'a>>, Arc<Abbreviations>)> {
        let at = self.units.partition_point(|&start| start <= offset);
        let start = at.checked_sub(1).and_then(|i| self.units.get(i)).copied();
        let start = start.ok_or_else(|| corrupt("a reference before the first unit"))?;
        let header = dwarf.debug_info.header_from_offset(DebugInfoOffset(start)).map_err(corrupt)?;
        let table = header.debug_abbrev_offset().0;
        let mut cache = self.abbreviations.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let abbreviations = match cache.get(&table) {
            Some(known) => known.clone(),
            None => {
                let parsed = Arc::new(header.abbreviations(&dwarf.debug_abbrev).map_err(corrupt)?);
                cache.insert(table, parsed.clone());
                parsed
            }
        };
        Ok((header, abbreviations))
    }

    /// The type whose DIE is at `offset`; its `descriptor` is still an offset from `moduledata.types`.
    pub fn load_type(&self, offset: u64) -> Result<GoType> {
        let dwarf = self.borrow();
        let mut name = String::new();
        let mut at = offset as usize;
        for _ in 0..MAX_CHAIN {
            let (header, abbreviations) = self.unit_of(&dwarf, at)?;
            let entry = entry_at(&header, &abbreviations, at)?;
            if name.is_empty() {
                name = plain_name(&dwarf, &entry)?;
            }
            let kind = number(&entry, GO_KIND)?.and_then(|kind| Kind::from_number(kind as u8 & 31));
            // A typedef without a kind of its own only lends its name.
            if entry.tag() == dw::DW_TAG_typedef && kind.is_none() {
                let target = reference(&header, &entry, dw::DW_AT_type)?;
                at = target.ok_or_else(|| Error::Type(format!("type {name} is a typedef of nothing")))?;
                continue;
            }
            let node =
                Node { dwarf: self, sections: &dwarf, header: &header, abbreviations: &abbreviations, offset: at };
            return node.load(&entry, TypeId::Dwarf(offset), name, kind);
        }
        Err(Error::Type(format!("type {name} is a typedef of itself")))
    }

    /// Members of the struct at `offset` (typedefs and pointers followed), as (name, offset, type DIE).
    fn members(&self, offset: usize) -> Result<Vec<Member>> {
        let dwarf = self.borrow();
        let mut at = offset;
        for _ in 0..MAX_CHAIN {
            let (header, abbreviations) = self.unit_of(&dwarf, at)?;
            let entry = entry_at(&header, &abbreviations, at)?;
            match entry.tag() {
                dw::DW_TAG_typedef | dw::DW_TAG_pointer_type => match reference(&header, &entry, dw::DW_AT_type)? {
                    Some(target) => at = target,
                    None => break,
                },
                dw::DW_TAG_structure_type => {
                    let node = Node {
                        dwarf: self,
                        sections: &dwarf,
                        header: &header,
                        abbreviations: &abbreviations,
                        offset: at,
                    };
                    return node.members();
                }
                _ => break,
            }
        }
        Err(Error::Type("a runtime map type is not a struct in this DWARF".into()))
    }

    /// Size in bytes and element DIE of the array at `offset`.
    fn array(&self, offset: usize) -> Result<(u64, usize)> {
        let dwarf = self.borrow();
        let (mut header, mut abbreviations) = self.unit_of(&dwarf, offset)?;
        let mut entry = entry_at(&header, &abbreviations, offset)?;
        if entry.tag() == dw::DW_TAG_typedef {
            let target = reference(&header, &entry, dw::DW_AT_type)?.ok_or_else(|| corrupt("typedef of nothing"))?;
            (header, abbreviations) = self.unit_of(&dwarf, target)?;
            entry = entry_at(&header, &abbreviations, target)?;
        }
        let elem = reference(&header, &entry, dw::DW_AT_type)?;
        match (number(&entry, dw::DW_AT_byte_size)?, elem) {
            (Some(size), Some(elem)) => Ok((size, elem)),
            _ => Err(Error::Type("the slots of a map are not an array in this DWARF".into())),
        }
    }

    fn size(&self, offset: usize) -> Result<u64> {
        Ok(self.load_type(offset as u64)?.size)
    }
}

/// A struct member.
struct Member {
    name: String,
    offset: u64,
    ty: usize,
    embedded: bool,
}

/// One type DIE while it is being read.
struct Node<'a, 'n> {
    dwarf: &'n Dwarf,
    sections: &'n gimli::Dwarf<Slice<'a>>,
    header: &'n gimli::UnitHeader<Slice<'a>>,
    abbreviations: &'n Abbreviations,
    offset: usize,
}

impl<'a> Node<'a, '_> {
    fn load(&self, entry: &Entry<'a, '_>, id: TypeId, name: String, kind: Option<Kind>) -> Result<GoType> {
        let lost = |what: &str| Error::Type(format!("type {name} has no {what} in this DWARF"));
        let target = reference(self.header, entry, dw::DW_AT_type)?.map(|at| TypeId::Dwarf(at as u64));
        let elem = reference(self.header, entry, GO_ELEM)?.map(|at| TypeId::Dwarf(at as u64));
        let size = number(entry, dw::DW_AT_byte_size)?;
        let kind = match kind {
            Some(kind) => kind,
            // The linker makes its DIE and gives it no kind.
            None if &*name == "unsafe.Pointer" => Kind::UnsafePointer,
            None => self.implied_kind(entry)?.ok_or_else(|| lost("kind"))?,
        };
        let shape = match kind {
            Kind::Array => {
                Shape::Array { elem: target.or(elem).ok_or_else(|| lost("element"))?, len: self.array_len()? }
            }
            Kind::Chan => Shape::Chan(elem.ok_or_else(|| lost("element"))?),
            Kind::Func => Shape::Func,
            Kind::Interface => Shape::Interface { methods: !self.is_empty_interface(&name, target)? },
            Kind::Map => {
                let key = reference(self.header, entry, GO_KEY)?.ok_or_else(|| lost("key"))?;
                let elem = reference(self.header, entry, GO_ELEM)?.ok_or_else(|| lost("elem"))?;
                let header = reference(self.header, entry, dw::DW_AT_type)?.ok_or_else(|| lost("header"))?;
                Shape::Map(Arc::new(self.map_type(&name, key, elem, header)?))
            }
            Kind::Pointer => Shape::Pointer(target.or(elem)),
            Kind::Slice => Shape::Slice(match elem {
                Some(elem) => elem,
                None => self.slice_elem()?.ok_or_else(|| lost("element"))?,
            }),
            Kind::Struct => Shape::Struct(self.members()?.into_iter().map(Field::from).collect()),
            _ => Shape::Plain,
        };
        let size = match (kind.fixed_size(), size) {
            (Some(fixed), _) => fixed,
            (None, Some(size)) => size,
            (None, None) => return Err(lost("size")),
        };
        let descriptor = number(entry, GO_RUNTIME_TYPE)?.filter(|&offset| offset != 0);
        Ok(GoType { id, name: name.into(), size, kind, shape, descriptor })
    }

    /// The kind that tag and encoding say, for the runtime's synthetic types, which carry none.
    fn implied_kind(&self, entry: &Entry<'a, '_>) -> Result<Option<Kind>> {
        Ok(match entry.tag() {
            dw::DW_TAG_structure_type => Some(Kind::Struct),
            dw::DW_TAG_array_type => Some(Kind::Array),
            dw::DW_TAG_pointer_type => Some(Kind::Pointer),
            dw::DW_TAG_subroutine_type => Some(Kind::Func),
            dw::DW_TAG_base_type => {
                let size = number(entry, dw::DW_AT_byte_size)?.unwrap_or(0);
                let encoding = entry.attr_value(dw::DW_AT_encoding).map_err(corrupt)?;
                match (encoding, size) {
                    (Some(AttributeValue::Encoding(dw::DW_ATE_boolean)), 1) => Some(Kind::Bool),
                    (Some(AttributeValue::Encoding(dw::DW_ATE_float)), 4) => Some(Kind::Float32),
                    (Some(AttributeValue::Encoding(dw::DW_ATE_float)), 8) => Some(Kind::Float64),
                    (Some(AttributeValue::Encoding(dw::DW_ATE_signed | dw::DW_ATE_signed_char)), 1) => Some(Kind::Int8),
                    (Some(AttributeValue::Encoding(dw::DW_ATE_signed)), 2) => Some(Kind::Int16),
                    (Some(AttributeValue::Encoding(dw::DW_ATE_signed)), 4) => Some(Kind::Int32),
                    (Some(AttributeValue::Encoding(dw::DW_ATE_signed)), 8) => Some(Kind::Int64),
                    (_, 1) => Some(Kind::Uint8),
                    (_, 2) => Some(Kind::Uint16),
                    (_, 4) => Some(Kind::Uint32),
                    (_, 8) => Some(Kind::Uint64),
                    _ => None,
                }
            }
            _ => None,
        })
    }

    /// An interface without methods is a typedef of `runtime.eface`.
    fn is_empty_interface(&self, name: &str, target: Option<TypeId>) -> Result<bool> {
        match target {
            Some(TypeId::Dwarf(at)) => Ok(self.dwarf.name_at(at as usize)? == "runtime.eface"),
            _ => Ok(name == "interface {}"),
        }
    }

    fn members(&self) -> Result<Vec<Member>> {
        let mut members = Vec::new();
        self.each_child(|child| {
            if child.tag() == dw::DW_TAG_member {
                let name = text(self.sections, child, dw::DW_AT_name)?.unwrap_or("_").to_string();
                let offset = number(child, dw::DW_AT_data_member_location)?.unwrap_or(0);
                let embedded = matches!(child.attr_value(GO_EMBEDDED_FIELD), Ok(Some(AttributeValue::Flag(true))));
                if let Some(ty) = reference(self.header, child, dw::DW_AT_type)? {
                    members.push(Member { name, offset, ty, embedded });
                }
            }
            Ok(())
        })?;
        Ok(members)
    }

    fn array_len(&self) -> Result<u64> {
        let mut len = None;
        self.each_child(|child| {
            if child.tag() == dw::DW_TAG_subrange_type {
                len = match number(child, dw::DW_AT_count)? {
                    Some(count) => Some(count),
                    None => number(child, dw::DW_AT_upper_bound)?.map(|last| last.wrapping_add(1)),
                };
            }
            Ok(())
        })?;
        len.ok_or_else(|| corrupt("an array without a length"))
    }

    /// The pointee of a slice's first member.
    fn slice_elem(&self) -> Result<Option<TypeId>> {
        let Some(first) = self.members()?.into_iter().next() else { return Ok(None) };
        match self.dwarf.load_type(first.ty as u64)?.shape {
            Shape::Pointer(elem) => Ok(elem),
            _ => Ok(None),
        }
    }

    /// Calls `f` with each direct child of this DIE.
    fn each_child(&self, mut f: impl FnMut(&Entry<'a, '_>) -> Result<()>) -> Result<()> {
        let unit_start = self.header.offset().as_debug_info_offset().map_or(0, |offset| offset.0);
        let at = gimli::UnitOffset(self.offset - unit_start);
        let mut cursor = self.header.entries_at_offset(self.abbreviations, at).map_err(corrupt)?;
        cursor.next_dfs().map_err(corrupt)?;
        if !cursor.current().is_some_and(|entry| entry.has_children()) {
            return Ok(());
        }
        let mut depth = 0isize;
        while let Some((delta, child)) = cursor.next_dfs().map_err(corrupt)? {
            depth += delta;
            if depth < 1 {
                break;
            }
            if depth == 1 {
                f(child)?;
            }
        }
        Ok(())
    }

    /// Slots of a map from its synthetic types: `hash<K,V>` and `bucket<K,V>`, or `map<K,V>` and its group.
    fn map_type(&self, name: &str, key: usize, elem: usize, header: usize) -> Result<MapType> {
        let dwarf = self.dwarf;
        let lost =
            |what: &str| Error::Type(format!("{name} has no {what} in this DWARF, so its slots cannot be found"));
        let find = |members: &[Member], what: &str| {
            members.iter().find(|m| m.name == what).map(|m| (m.ty, m.offset)).ok_or_else(|| lost(what))
        };
        let (indirect_key, indirect_elem) = (dwarf.size(key)? > MAX_INLINE, dwarf.size(elem)? > MAX_INLINE);
        let fields = dwarf.members(header)?;
        let layout = if let Ok((buckets, _)) = find(&fields, "buckets") {
            let bucket = dwarf.members(buckets)?;
            let (keys, keys_at) = find(&bucket, "keys")?;
            let (elems, elems_at) = find(&bucket, "values")?;
            let (_, overflow) = find(&bucket, "overflow")?;
            MapLayout::Classic(ClassicLayout {
                bucket_size: overflow + 8,
                keys: keys_at,
                key_size: dwarf.array(keys)?.0 / 8,
                elems: elems_at,
                elem_size: dwarf.array(elems)?.0 / 8,
                indirect_key,
                indirect_elem,
            })
        } else {
            let (directory, _) = find(&fields, "dirPtr")?;
            let (groups, _) = find(&dwarf.members(dwarf.pointee(directory)?)?, "groups")?;
            let (data, _) = find(&dwarf.members(groups)?, "data")?;
            let group = dwarf.members(data)?;
            let group_size = dwarf.size(dwarf.pointee(data)?)?;
            let (keys, key_stride, elems, elem_stride) = match find(&group, "slots") {
                Ok((slots, slots_at)) => {
                    let (size, slot) = dwarf.array(slots)?;
                    let members = dwarf.members(slot)?;
                    let (_, key_at) = find(&members, "key")?;
                    let (_, elem_at) = find(&members, "elem")?;
                    (slots_at + key_at, size / 8, slots_at + elem_at, size / 8)
                }
                Err(_) => {
                    let (keys, keys_at) = find(&group, "keys")?;
                    let (elems, elems_at) = find(&group, "elems")?;
                    (keys_at, dwarf.array(keys)?.0 / 8, elems_at, dwarf.array(elems)?.0 / 8)
                }
            };
            MapLayout::Swiss(SwissLayout {
                group_size,
                keys,
                key_stride,
                elems,
                elem_stride,
                indirect_key,
                indirect_elem,
            })
        };
        Ok(MapType { key: TypeId::Dwarf(key as u64), elem: TypeId::Dwarf(elem as u64), layout })
    }
}

/// Keys and elems above this many bytes are stored behind a pointer (`MapMaxKeyBytes`, `MapMaxElemBytes`:
/// src/internal/abi/map.go and its forerunners, Go 1.19 to 1.27).
const MAX_INLINE: u64 = 128;

impl Dwarf {
    /// What the pointer type at `offset` points to.
    fn pointee(&self, offset: usize) -> Result<usize> {
        match self.load_type(offset as u64)?.shape {
            Shape::Pointer(Some(TypeId::Dwarf(target))) => Ok(target as usize),
            _ => Err(Error::Type("a runtime map pointer points to nothing known in this DWARF".into())),
        }
    }
}

impl From<Member> for Field {
    fn from(member: Member) -> Field {
        Field {
            name: member.name.into(),
            offset: member.offset,
            ty: TypeId::Dwarf(member.ty as u64),
            embedded: member.embedded,
        }
    }
}

pub(super) fn section_bytes(object: &object::File<'_>, file: &Mapped, id: SectionId) -> Result<Bytes> {
    let Some(section) = object.section_by_name(id.name()) else { return Ok(Bytes::Mapped(0..0)) };
    let data = section.compressed_data().map_err(|e| broken(id.name(), e))?;
    if data.format == object::CompressionFormat::None {
        let start = (data.data.as_ptr() as usize).wrapping_sub(file.as_ptr() as usize);
        return Ok(Bytes::Mapped(start..start + data.data.len()));
    }
    // zlib cannot pack tighter than about 1:1030, so a larger claim is corrupt and must not be allocated.
    if data.uncompressed_size > (data.data.len() as u64).saturating_mul(1100) {
        return Err(broken(id.name(), "its claimed size is absurd"));
    }
    Ok(Bytes::Inflated(data.decompress().map_err(|e| broken(id.name(), e))?.into_owned()))
}

/// Names and offsets of a Go unit's top-level DIEs.
fn index_unit(dwarf: &gimli::Dwarf<Slice<'_>>, header: &gimli::UnitHeader<Slice<'_>>) -> gimli::Result<Index> {
    let mut index = Index::default();
    let abbreviations = header.abbreviations(&dwarf.debug_abbrev)?;
    let start = header.offset().as_debug_info_offset().map_or(0, |offset| offset.0);
    let mut entries = header.entries_raw(&abbreviations, None)?;
    let mut depth = 0;
    while !entries.is_empty() {
        let offset = (start + entries.next_offset().0) as u32;
        let Some(abbreviation) = entries.read_abbreviation()? else {
            depth -= 1;
            continue;
        };
        let here = depth;
        depth += abbreviation.has_children() as isize;
        let tag = abbreviation.tag();
        let wanted = match tag {
            dw::DW_TAG_variable
            | dw::DW_TAG_typedef
            | dw::DW_TAG_base_type
            | dw::DW_TAG_structure_type
            | dw::DW_TAG_array_type
            | dw::DW_TAG_pointer_type
            | dw::DW_TAG_subroutine_type => here == 1,
            dw::DW_TAG_compile_unit => here == 0,
            _ => false,
        };
        if !wanted {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let (mut name, mut runtime, mut package) = (None, 0, None);
        for specification in abbreviation.attributes() {
            let attribute = entries.read_attribute(*specification)?;
            match attribute.name() {
                dw::DW_AT_name => name = string(dwarf, attribute.value()),
                dw::DW_AT_language if attribute.value() != AttributeValue::Language(LANG_GO) => return Ok(index),
                GO_RUNTIME_TYPE => runtime = word(attribute.value()).unwrap_or(0),
                GO_PACKAGE_NAME => package = string(dwarf, attribute.value()),
                _ => {}
            }
        }
        let Some(name) = name else { continue };
        // A name that is no UTF-8 is as it is.
        let name = std::str::from_utf8(name).map_or(Cow::Borrowed(name), |name| match plain_paths(name) {
            Cow::Borrowed(plain) => Cow::Borrowed(plain.as_bytes()),
            Cow::Owned(plain) => Cow::Owned(plain.into_bytes()),
        });
        match tag {
            dw::DW_TAG_compile_unit => {
                let package = package.and_then(|package| std::str::from_utf8(package).ok());
                if let (Some(package), Ok(path)) = (package, std::str::from_utf8(&name)) {
                    if path.rsplit('/').next() != Some(package) {
                        index.packages.push((path.to_string(), package.to_string()));
                    }
                }
            }
            dw::DW_TAG_variable => index.variables.push((hash(&name), offset)),
            _ => index.types.push((hash(&name), offset)),
        }
        if runtime != 0 {
            index.runtime_types.push((runtime, offset));
        }
    }
    Ok(index)
}

fn hash(name: &[u8]) -> u32 {
    let mut hasher = FxHasher::default();
    hasher.write(name);
    (hasher.finish() >> 32) as u32
}

/// DIE offsets whose name hashes as `name` does.
fn matching<'i>(index: &'i [(u32, u32)], name: &str) -> impl Iterator<Item = usize> + 'i {
    let wanted = hash(name.as_bytes());
    let first = index.partition_point(|&(hash, _)| hash < wanted);
    index[first..].iter().take_while(move |&&(hash, _)| hash == wanted).map(|&(_, offset)| offset as usize)
}

pub(super) fn entry_at<'a, 'e>(
    header: &'e gimli::UnitHeader<Slice<'a>>,
    abbreviations: &'e Abbreviations,
    offset: usize,
) -> Result<Entry<'a, 'e>> {
    let start = header.offset().as_debug_info_offset().map_or(0, |offset| offset.0);
    let within = offset.checked_sub(start).ok_or_else(|| corrupt("a reference out of its unit"))?;
    header.entry(abbreviations, gimli::UnitOffset(within)).map_err(corrupt)
}

fn string<'a>(dwarf: &gimli::Dwarf<Slice<'a>>, value: AttributeValue<Slice<'a>>) -> Option<&'a [u8]> {
    match value {
        AttributeValue::String(text) => Some(text.slice()),
        AttributeValue::DebugStrRef(at) => Some(dwarf.debug_str.get_str(at).ok()?.slice()),
        AttributeValue::DebugLineStrRef(at) => Some(dwarf.debug_line_str.get_str(at).ok()?.slice()),
        _ => None,
    }
}

pub(super) fn text<'a>(
    dwarf: &gimli::Dwarf<Slice<'a>>,
    entry: &Entry<'a, '_>,
    at: gimli::DwAt,
) -> Result<Option<&'a str>> {
    let value = entry.attr_value(at).map_err(corrupt)?;
    Ok(value.and_then(|value| string(dwarf, value)).and_then(|bytes| std::str::from_utf8(bytes).ok()))
}

/// The name of a type or variable, its import paths as they are written.
fn plain_name(dwarf: &gimli::Dwarf<Slice<'_>>, entry: &Entry<'_, '_>) -> Result<String> {
    Ok(plain_paths(text(dwarf, entry, dw::DW_AT_name)?.unwrap_or_default()).into_owned())
}

fn word(value: AttributeValue<Slice<'_>>) -> Option<u64> {
    match value {
        AttributeValue::Addr(address) => Some(address),
        other => other.udata_value(),
    }
}

pub(super) fn number(entry: &Entry<'_, '_>, at: gimli::DwAt) -> Result<Option<u64>> {
    Ok(entry.attr_value(at).map_err(corrupt)?.and_then(word))
}

/// The `.debug_info` offset that a reference attribute names.
pub(super) fn reference(
    header: &gimli::UnitHeader<Slice<'_>>,
    entry: &Entry<'_, '_>,
    at: gimli::DwAt,
) -> Result<Option<usize>> {
    let start = header.offset().as_debug_info_offset().map_or(0, |offset| offset.0);
    Ok(match entry.attr_value(at).map_err(corrupt)? {
        Some(AttributeValue::UnitRef(offset)) => start.checked_add(offset.0),
        Some(AttributeValue::DebugInfoRef(offset)) => Some(offset.0),
        _ => None,
    })
}

pub(super) fn corrupt(error: impl std::fmt::Display) -> Error {
    Error::Binary(format!("the debug information is corrupt: {error}"))
}

fn broken(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Binary(format!("the {what} of this program cannot be read: {error}"))
}
