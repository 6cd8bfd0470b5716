//! `gomap get`: one entry by its hash, and what kind of presence it has.

use super::state::LookupNote;
use super::verdict::Verdict;
use super::{head, head_text, place_json, place_text, source, write_error, Show, State, Values};
use crate::error::Watch;
use crate::map::keys::{KeyHash, Keys};
use crate::map::lookup::{Hasher, Lookup, Stop};
use crate::map::{GoMap, Note};
use crate::session::{MapRef, Session};
use crate::types::{GoType, Kind, Shape, TypeSource};
use crate::value::{example, in_interface, parse_key, Arena, Overlay};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::io::Write;

/// A key as the user gave it.
#[derive(Debug, Clone)]
pub enum KeyInput {
    /// A Go literal.
    Literal(String),
    /// Bytes of a value of the type with this name.
    Bytes { type_name: String, bytes: Vec<u8> },
}

impl KeyInput {
    /// The key's bytes for this map, and the memory that they point into.
    pub fn lay_out(&self, map: &GoMap<'_>) -> Result<(Vec<u8>, Arena)> {
        let key = &map.key;
        match self {
            KeyInput::Literal(text) => parse_key(map.types, key.id, text),
            KeyInput::Bytes { type_name, bytes } => {
                let given = map.types.by_name(type_name)?.and_then(|id| map.types.load(id).ok());
                let given = given.filter(|ty| ty.size == bytes.len() as u64);
                match given {
                    Some(ty) if fits(&ty, key) => Ok((bytes.clone(), Arena::default())),
                    Some(ty) if key.kind == Kind::Interface && ty.kind != Kind::Interface => {
                        in_interface(map.types, key, &ty, bytes)
                    }
                    _ => Err(Error::Usage(format!(
                        "the key is a {type_name}, but {} has keys of type {}, such as {}",
                        map.ty.name,
                        key.name,
                        example(map.types, key)
                    ))),
                }
            }
        }
    }
}

/// Whether the bytes of a value of type `given` are a key of type `key`: one type, or two with one plain underlying kind.
fn fits(given: &GoType, key: &GoType) -> bool {
    let same = given.id == key.id || (given.descriptor.is_some() && given.descriptor == key.descriptor);
    let plain = matches!(given.shape, Shape::Plain) && given.kind == key.kind && given.size == key.size;
    let interfaces = matches!(
        (&given.shape, &key.shape),
        (Shape::Interface { methods: a }, Shape::Interface { methods: b }) if a == b
    );
    same || plain || interfaces
}

/// What an elem says to the code that reads it.
pub fn presence(types: &dyn TypeSource, ty: &GoType, elem: &[u8], map_count: impl Fn(u64) -> Option<u64>) -> Verdict {
    let word = |at: usize| elem.get(at..at + 8).map(LE::read_u64).unwrap_or(0);
    match (&ty.shape, ty.kind) {
        (Shape::Slice(_), _) => match (word(0), word(8)) {
            (0, _) => Verdict::Nil,
            (_, 0) => Verdict::Empty,
            _ => Verdict::Present,
        },
        (Shape::Map(_), _) => match word(0) {
            0 => Verdict::Nil,
            header if map_count(header) == Some(0) => Verdict::Empty,
            _ => Verdict::Present,
        },
        (Shape::Pointer(_) | Shape::Chan(_) | Shape::Func | Shape::Interface { .. }, _) | (_, Kind::UnsafePointer) => {
            match word(0) {
                0 => Verdict::Nil,
                _ => Verdict::Present,
            }
        }
        _ if is_zero(types, ty, elem, 32) => Verdict::Zero,
        _ => Verdict::Present,
    }
}

/// Whether a value is its type's zero value, as `reflect.Value.IsZero` has it.
fn is_zero(types: &dyn TypeSource, ty: &GoType, value: &[u8], nest: usize) -> bool {
    if value.iter().all(|&byte| byte == 0) {
        return true;
    }
    let part = |at: u64, ty: &GoType| value.get(at as usize..(at.saturating_add(ty.size)) as usize);
    match &ty.shape {
        _ if ty.kind == Kind::String => value.get(8..16).is_some_and(|len| LE::read_u64(len) == 0),
        Shape::Struct(fields) if nest > 0 => fields.iter().filter(|f| &*f.name != "_").all(|field| {
            types
                .load(field.ty)
                .is_ok_and(|ty| part(field.offset, &ty).is_some_and(|v| is_zero(types, &ty, v, nest - 1)))
        }),
        Shape::Array { elem, len } if nest > 0 => types.load(*elem).is_ok_and(|ty| {
            (0..*len).all(|i| part(i * ty.size, &ty).is_some_and(|v| is_zero(types, &ty, v, nest - 1)))
        }),
        _ => false,
    }
}

/// The elem that a lookup found, and its verdict.
pub struct Present {
    /// Its bytes.
    pub elem: Vec<u8>,
    /// Present, zero, nil or empty.
    pub verdict: Verdict,
}

/// Reads the elem of a found entry; `None` when nothing was found.
pub fn read_found(session: &Session, map: &GoMap<'_>, lookup: &Lookup) -> Result<Option<Present>> {
    let Some(found) = lookup.found else { return Ok(None) };
    let elem = map.memory.bytes(found.elem_address, map.elem.size as usize)?.into_owned();
    let map_count = |address| {
        let inner = session.open(MapRef { address, ty: map.elem.id }).ok()?;
        Some(inner.count())
    };
    let verdict = presence(map.types, &map.elem, &elem, map_count);
    Ok(Some(Present { elem, verdict }))
}

/// What a reader of this lookup must know: a writer at work, why it could not go by hash.
pub fn lookup_notes(map: &GoMap<'_>, hasher: &Hasher, lookup: &Lookup) -> Vec<State> {
    let writing = map.is_being_written().then_some(State::Map(Note::Writing));
    writing.into_iter().chain(hash_notes(hasher, lookup).map(State::Lookup)).collect()
}

/// That a key is not there, or that the program would look for it for ever.
pub fn missing(lookup: &Lookup) -> Verdict {
    match lookup.stop {
        Stop::Never(_) => Verdict::Endless,
        _ => Verdict::Absent,
    }
}

/// Why a lookup could not go by hash.
pub fn hash_notes(hasher: &Hasher, lookup: &Lookup) -> Option<LookupNote> {
    match (hasher, &lookup.hash) {
        (Hasher::Unknown(why), _) => Some(LookupNote::Compared(why.clone())),
        (_, Some(KeyHash::Random)) => Some(LookupNote::Nan),
        (_, Some(KeyHash::Unhashable(name))) => Some(LookupNote::Unhashable(name.to_string())),
        _ => None,
    }
}

/// Shows the entry of one key.
pub fn get(
    session: &Session,
    target: MapRef,
    key: &KeyInput,
    show: &Show,
    watch: &dyn Watch,
    out: &mut dyn Write,
) -> Result<()> {
    let map = session.open(target)?;
    let (bytes, arena) = key.lay_out(&map)?;
    let overlay = Overlay::new(&arena, map.memory);
    let map = map.through(&overlay);
    let keys = Keys::new(&overlay, map.types);
    let hasher = session.hasher(&map);
    let lookup = map.look_up(&hasher, &keys, &bytes, watch)?;
    let present = read_found(session, &map, &lookup)?;
    let verdict = present.as_ref().map_or_else(|| missing(&lookup), |present| present.verdict);
    let mut state = lookup_notes(&map, &hasher, &lookup);
    state.extend(source(&session.notes));
    if map.address == 0 {
        state.push(State::Map(Note::Nil));
    }
    let values = Values::of(&map, show, watch)?;
    let mut text = Vec::new();
    values.write_key(&Ok(&bytes), &mut text)?;
    let mut elem = Vec::new();
    if let Some(present) = &present {
        values.write_elem(&Ok(&present.elem), &mut elem)?;
    }
    let line = if show.json {
        let mut line = format!("{{\"map\":{},\"key\":{}", head(&map, &state), String::from_utf8_lossy(&text));
        line += &format!(",\"found\":{},\"verdict\":{:?}", present.is_some(), verdict.name());
        if let Some(found) = lookup.found {
            line += &format!(",\"elem\":{}", String::from_utf8_lossy(&elem));
            line += &format!(",\"where\":{}", place_json(found.place, found.slot));
        }
        line + "}\n"
    } else {
        let key = String::from_utf8_lossy(&text);
        let mut line = head_text(&map, &state);
        match lookup.found {
            None => {
                line += &format!("  {key} is {}", verdict.words());
                line += &match lookup.stop {
                    Stop::Never(why) => format!(": {why}\n"),
                    _ => "\n".into(),
                };
            }
            Some(found) => {
                let place = place_text(found.place);
                line += &format!("  {key}: {}\n", String::from_utf8_lossy(&elem));
                line += &format!("  {} ({place}, slot {})\n", verdict.words(), found.slot);
            }
        }
        line
    };
    out.write_all(line.as_bytes()).map_err(write_error)
}

/// One entry for a debugger's expression.
#[derive(Debug, Clone)]
pub struct FoundElem {
    /// Name of the elem's type.
    pub elem_type: String,
    /// Address of the elem, when the key is there.
    pub elem_address: Option<u64>,
    /// The elem in Go syntax.
    pub text: String,
}

/// Looks up one key.
pub fn look_up(session: &Session, target: MapRef, key: &KeyInput, show: &Show, watch: &dyn Watch) -> Result<FoundElem> {
    let map = session.open(target)?;
    let (bytes, arena) = key.lay_out(&map)?;
    let overlay = Overlay::new(&arena, map.memory);
    let lookup = map.look_up(&session.hasher(&map), &Keys::new(&overlay, map.types), &bytes, watch)?;
    let mut text = Vec::new();
    if let Some(present) = read_found(session, &map, &lookup)? {
        let values = Values::of(&map, show, watch)?;
        values.write_elem(&Ok(&present.elem), &mut text)?;
    }
    Ok(FoundElem {
        elem_type: map.elem.name.to_string(),
        elem_address: lookup.found.map(|found| found.elem_address),
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}
