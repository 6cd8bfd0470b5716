//! Values of any type that are nearly equal: the wanted one is taken apart once, along its type.

use super::difference::{quote, units};
use super::instant::{addresses, Instant};
use super::number::{floats, Integer};
use super::text::Text;
use super::{Closeness, Relation};
use crate::map::keys::Keys;
use crate::types::{Field, GoType, Kind, Shape, TypeId};
use crate::{Error, Result};
use byteorder::{ByteOrder, LittleEndian as LE};
use std::sync::Arc;

/// Parts of one key that are told apart; a key of more is compared as bytes.
const MOST_PARTS: usize = 256;
/// Types nested, and pointers followed, deeper than this are not told apart.
const DEEPEST: usize = 8;
/// Texts longer than this in a key are not read.
const LONGEST_TEXT: u64 = 1 << 20;
/// Distance of a part that is not near at all, in a struct of which another part is equal or near.
const FAR_PART: u32 = 400;

/// What became of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Equal keys.
    Equal,
    /// Different keys that are near.
    Near(Closeness),
    /// Different keys.
    Far,
}

impl From<Option<Closeness>> for Outcome {
    fn from(near: Option<Closeness>) -> Outcome {
        near.map_or(Outcome::Far, Outcome::Near)
    }
}

/// The wanted value.
pub struct Wanted {
    ty: Arc<GoType>,
    form: Form,
}

enum Form {
    Text(Box<Text>),
    Integer(Box<Integer>),
    Float(f64),
    Bool(bool),
    Pointer {
        address: u64,
        pointee: Option<Box<Wanted>>,
    },
    Interface {
        dynamic: Option<Box<Wanted>>,
    },
    /// Fields of a struct, elements of an array, halves of a complex number.
    Parts(Vec<Part>),
    /// A `time.Time`.
    Time(Instant),
    /// A `netip.Addr`, all its bytes.
    Address(Vec<u8>),
    /// Elements of a slice, behind a pointer.
    Elements {
        stride: usize,
        parts: Vec<Wanted>,
    },
    /// An array of bytes, and the text in it if it can be one.
    Array {
        bytes: Vec<u8>,
        text: Option<Box<Text>>,
    },
    /// Words that are equal or are not: channels, functions, what is too large or too deep.
    Opaque(Vec<u8>),
}

struct Part {
    /// `.Name` or `[3]`.
    path: String,
    offset: usize,
    wanted: Wanted,
}

impl Wanted {
    /// Takes apart the value whose bytes are `value`.
    pub fn of(keys: &Keys<'_>, ty: &Arc<GoType>, value: &[u8]) -> Result<Wanted> {
        Builder { keys, parts_left: MOST_PARTS }.build(ty, value, DEEPEST)
    }

    fn number(&self) -> Option<Number> {
        match &self.form {
            Form::Integer(integer) => Some(Number::Integer(integer.value)),
            Form::Float(value) => Some(Number::of_float(*value)),
            _ => None,
        }
    }

    /// Offset of the first word that leads to bytes elsewhere, which a comparison reads.
    pub fn leads(&self) -> Option<usize> {
        match &self.form {
            Form::Text(_) | Form::Pointer { .. } => Some(0),
            Form::Interface { .. } => Some(8),
            Form::Parts(parts) => parts.iter().find_map(|part| Some(part.offset + part.wanted.leads()?)),
            _ => None,
        }
    }

    /// Whether it is its type's zero value.
    pub fn is_zero(&self) -> bool {
        match &self.form {
            Form::Text(text) => text.bytes().is_empty(),
            Form::Integer(integer) => integer.value == 0,
            Form::Float(value) => *value == 0.0,
            Form::Bool(value) => !value,
            Form::Pointer { address, .. } => *address == 0,
            Form::Interface { dynamic } => dynamic.is_none(),
            Form::Parts(parts) => parts.iter().all(|part| part.wanted.is_zero()),
            Form::Elements { parts, .. } => parts.is_empty(),
            Form::Time(instant) => instant.is_zero(),
            Form::Address(bytes) => bytes.iter().all(|&byte| byte == 0),
            Form::Array { bytes, .. } | Form::Opaque(bytes) => bytes.iter().all(|&byte| byte == 0),
        }
    }

    /// Whether these bytes of the same type are its zero value.
    pub fn holds_zero(&self, value: &[u8]) -> bool {
        match &self.form {
            Form::Text(_) => value.get(8..16).is_some_and(|len| LE::read_u64(len) == 0),
            Form::Parts(parts) => {
                parts.iter().all(|part| value.get(part.offset..).is_some_and(|value| part.wanted.holds_zero(value)))
            }
            _ => value.iter().take(self.ty.size as usize).all(|&byte| byte == 0),
        }
    }

    /// The value in words, for types that a few words can say.
    pub fn describe(&self) -> Option<String> {
        Some(match &self.form {
            Form::Text(text) => quote(&units(text.bytes())),
            Form::Integer(integer) => integer.value.to_string(),
            Form::Float(value) => format!("{value:?}"),
            Form::Bool(value) => value.to_string(),
            Form::Pointer { address: 0, .. } | Form::Interface { dynamic: None } => "nil".into(),
            Form::Pointer { pointee: Some(pointee), .. } => format!("&{}", pointee.describe()?),
            Form::Interface { dynamic: Some(dynamic) } => dynamic.describe_with_type(),
            Form::Parts(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| part.wanted.describe()).collect::<Option<_>>()?;
                format!("{{{}}}", parts.join(", "))
            }
            Form::Time(instant) => instant.describe(),
            Form::Array { bytes, .. } if bytes.len() <= 64 => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            _ => return None,
        })
    }

    /// `int64(42)`.
    fn describe_with_type(&self) -> String {
        match self.describe() {
            Some(value) => format!("{}({value})", self.ty.name),
            None => format!("a {}", self.ty.name),
        }
    }

    /// Compares with the value of the same type whose bytes are `stored`. Texts farther than `worst` need not
    /// be found near; differences are spelled out when `tell`.
    pub fn compare(&self, keys: &Keys<'_>, stored: &[u8], worst: u32, tell: bool) -> Result<Outcome> {
        let stored = stored.get(..self.ty.size as usize).ok_or_else(too_short)?;
        Ok(match &self.form {
            Form::Text(text) => {
                let (data, len) = (LE::read_u64(stored), LE::read_u64(&stored[8..]));
                if len > LONGEST_TEXT || !text.may_be_near(len as usize) {
                    return Ok(Outcome::Far);
                }
                let bytes = keys.memory().bytes(data, len as usize)?;
                match *bytes == *text.bytes() {
                    true => Outcome::Equal,
                    false => text.compare(&bytes, worst, tell).into(),
                }
            }
            Form::Integer(integer) => match integer_of(&self.ty, stored) {
                value if value == integer.value => Outcome::Equal,
                value => integer.compare(value, worst, tell).into(),
            },
            Form::Float(wanted) => {
                let value = float_of(&self.ty, stored);
                match floats(*wanted, value, tell) {
                    None if *wanted == value => Outcome::Equal,
                    near => near.into(),
                }
            }
            Form::Bool(wanted) => equal_or_far(*wanted == (stored[0] != 0)),
            Form::Array { bytes, text } => compare_arrays(bytes, text.as_deref(), stored, worst, tell),
            Form::Opaque(wanted) => equal_or_far(wanted == stored),
            Form::Pointer { address, pointee } => {
                let other = LE::read_u64(stored);
                match pointee {
                    _ if other == *address => Outcome::Equal,
                    Some(pointee) if other != 0 => pointee.compare_pointee(keys, [*address, other], worst, tell)?,
                    _ => Outcome::Far,
                }
            }
            Form::Interface { dynamic } => self.compare_interfaces(keys, dynamic.as_deref(), stored, worst, tell)?,
            Form::Parts(parts) => compare_parts(keys, parts, stored, worst, tell)?,
            Form::Time(instant) if instant.is(stored) => Outcome::Equal,
            Form::Time(instant) => instant.compare(keys, stored, tell).into(),
            Form::Address(wanted) if wanted == stored => Outcome::Equal,
            Form::Address(wanted) => match addresses(&self.ty, wanted, stored, tell) {
                None => near_addresses(wanted, stored, tell),
                near => near.into(),
            },
            Form::Elements { stride, parts } => {
                let (data, len) = (LE::read_u64(stored), LE::read_u64(&stored[8..]));
                if len != parts.len() as u64 {
                    return Ok(Outcome::Far);
                }
                for (i, part) in parts.iter().enumerate() {
                    let element = keys.memory().bytes(data.wrapping_add((i * stride) as u64), *stride)?;
                    if part.compare(keys, &element, 0, false)? != Outcome::Equal {
                        return Ok(Outcome::Far);
                    }
                }
                Outcome::Equal
            }
        })
    }

    /// Compares what two different pointers point to.
    fn compare_pointee(&self, keys: &Keys<'_>, [wanted, stored]: [u64; 2], worst: u32, tell: bool) -> Result<Outcome> {
        let value = keys.memory().bytes(stored, self.ty.size as usize)?;
        Ok(match self.compare(keys, &value, worst, tell)? {
            Outcome::Far => Outcome::Far,
            Outcome::Equal => {
                let what = self.describe().map_or("values".into(), |value| format!("values {value}"));
                let detail =
                    || format!("{stored:#x} and {wanted:#x} are different pointers to equal {} {what}", self.ty.name);
                Outcome::Near(Closeness::new(Relation::Pointee, 60, detail, tell))
            }
            Outcome::Near(near) => {
                let relation = match near.relation {
                    Relation::StructField => Relation::StructField,
                    _ => Relation::Pointee,
                };
                let detail = match (tell, relation) {
                    (false, _) => String::new(),
                    (_, Relation::StructField) => near.detail,
                    _ => format!("the pointee: {}: {}", near.relation.name(), near.detail),
                };
                Outcome::Near(Closeness { relation, distance: near.distance + 100, detail })
            }
        })
    }

    fn compare_interfaces(
        &self,
        keys: &Keys<'_>,
        wanted: Option<&Wanted>,
        stored: &[u8],
        worst: u32,
        tell: bool,
    ) -> Result<Outcome> {
        let stored = keys.dynamic_of(&self.ty, stored)?;
        let (wanted, ty, value) = match (wanted, &stored) {
            (None, None) => return Ok(Outcome::Equal),
            (Some(wanted), Some((ty, value))) => (wanted, ty, value),
            (Some(wanted), None) if wanted.is_zero() => {
                let detail = || format!("nil is stored, {} asked for", wanted.describe_with_type());
                return Ok(Outcome::Near(Closeness::new(Relation::DynamicType, 80, detail, tell)));
            }
            (None, Some((ty, value))) if value.iter().all(|&byte| byte == 0) => {
                let detail = || format!("a nil or zero {} is stored, nil asked for", ty.name);
                return Ok(Outcome::Near(Closeness::new(Relation::DynamicType, 80, detail, tell)));
            }
            _ => return Ok(Outcome::Far),
        };
        if keys.is_same_type(&wanted.ty, ty) {
            return wanted.compare(keys, value, worst, tell);
        }
        let Some((distance, how)) = wanted.compare_across(keys, ty, value, worst)? else { return Ok(Outcome::Far) };
        let detail = || {
            let stored = Wanted::of(keys, ty, value).map_or(format!("a {}", ty.name), |w| w.describe_with_type());
            format!("{stored} is stored, {} asked for{how}", wanted.describe_with_type())
        };
        Ok(Outcome::Near(Closeness::new(Relation::DynamicType, distance, detail, tell)))
    }

    /// How near a value of another type is, and what differs besides the type.
    fn compare_across(
        &self,
        keys: &Keys<'_>,
        ty: &Arc<GoType>,
        value: &[u8],
        worst: u32,
    ) -> Result<Option<(u32, String)>> {
        const SAME_VALUE: u32 = 50;
        const SAME_WORDS: u32 = 70;
        let numeric = |ty: &GoType| ty.kind.is_signed() || ty.kind.is_unsigned() || is_float(ty.kind);
        if numeric(&self.ty) && numeric(ty) {
            return Ok((self.number() == number_of(ty, value)).then(|| (SAME_VALUE, String::new())));
        }
        if self.ty.kind == ty.kind && self.ty.size == ty.size {
            return Ok(match self.compare(keys, value, worst, true)? {
                Outcome::Equal => Some((SAME_VALUE, String::new())),
                Outcome::Near(near) => {
                    Some((SAME_WORDS + near.distance, format!("; also {}: {}", near.relation.name(), near.detail)))
                }
                Outcome::Far => None,
            });
        }
        let words = |ty: &GoType| numeric(ty) || matches!(ty.kind, Kind::String | Kind::Bool);
        if words(&self.ty) && words(ty) {
            let (wanted, stored) = (self.describe(), Wanted::of(keys, ty, value)?.describe());
            let bare = |words: &Option<String>| words.as_deref().map(|words| words.trim_matches('"').to_string());
            return Ok((bare(&wanted) == bare(&stored)).then(|| (SAME_WORDS, String::new())));
        }
        if let Form::Pointer { pointee: Some(pointee), .. } = &self.form {
            if keys.is_same_type(&pointee.ty, ty) && pointee.compare(keys, value, 0, false)? == Outcome::Equal {
                return Ok(Some((SAME_WORDS + 20, "; the value itself is stored, not a pointer to it".into())));
            }
        }
        if let Shape::Pointer(Some(pointee)) = ty.shape {
            let address = value.get(..8).map_or(0, LE::read_u64);
            if address != 0 && keys.is_same_type(&*keys.types().load(pointee)?, &self.ty) {
                let pointed = keys.memory().bytes(address, self.ty.size as usize)?;
                if self.compare(keys, &pointed, 0, false)? == Outcome::Equal {
                    return Ok(Some((SAME_WORDS + 20, "; a pointer to an equal value is stored".into())));
                }
            }
        }
        Ok(None)
    }
}

/// A number of any type, exactly.
#[derive(PartialEq)]
enum Number {
    Integer(i128),
    Float(f64),
}

impl Number {
    fn of_float(value: f64) -> Number {
        // Beyond 2^64 no integer type reaches, and the cast would saturate.
        match value.fract() == 0.0 && value.abs() < 2e19 {
            true => Number::Integer(value as i128),
            false => Number::Float(value),
        }
    }
}

fn number_of(ty: &GoType, value: &[u8]) -> Option<Number> {
    let value = value.get(..ty.size as usize)?;
    Some(match is_float(ty.kind) {
        true => Number::of_float(float_of(ty, value)),
        false => Number::Integer(integer_of(ty, value)),
    })
}

struct Builder<'b, 'a> {
    keys: &'b Keys<'a>,
    parts_left: usize,
}

impl Builder<'_, '_> {
    fn build(&mut self, ty: &Arc<GoType>, value: &[u8], depth: usize) -> Result<Wanted> {
        let size = ty.size as usize;
        let value = value.get(..size).ok_or_else(too_short)?;
        let form = match (&ty.shape, ty.kind) {
            (_, kind) if kind.fixed_size().is_some_and(|fixed| fixed != ty.size) => Form::Opaque(value.to_vec()),
            (_, kind) if kind.is_signed() || kind.is_unsigned() => {
                Form::Integer(Box::new(Integer::new(integer_of(ty, value), 8 * ty.size as u32)))
            }
            (_, kind) if is_float(kind) => Form::Float(float_of(ty, value)),
            (_, Kind::Bool) => Form::Bool(value[0] != 0),
            (_, Kind::Complex64 | Kind::Complex128) => self.halves(ty, value),
            (_, Kind::String) => {
                let (data, len) = (LE::read_u64(value), LE::read_u64(&value[8..]));
                match len <= LONGEST_TEXT {
                    true => Form::Text(Box::new(Text::new(self.keys.memory().bytes(data, len as usize)?.into_owned()))),
                    false => Form::Opaque(value.to_vec()),
                }
            }
            _ if depth == 0 => Form::Opaque(value.to_vec()),
            (Shape::Pointer(pointee), _) => self.pointer(*pointee, LE::read_u64(value), depth)?,
            (Shape::Interface { .. }, _) => {
                let dynamic = match self.keys.dynamic_of(ty, value)? {
                    Some((ty, value)) => Some(Box::new(self.build(&ty, &value, depth - 1)?)),
                    None => None,
                };
                Form::Interface { dynamic }
            }
            (Shape::Struct(fields), _) => self.fields(ty, fields, value, depth)?,
            (Shape::Array { elem, len }, _) => self.array(*elem, *len, value, depth)?,
            (Shape::Slice(elem), _) => self.slice(*elem, value, depth)?,
            _ => Form::Opaque(value.to_vec()),
        };
        Ok(Wanted { ty: ty.clone(), form })
    }

    fn halves(&self, ty: &GoType, value: &[u8]) -> Form {
        let kind = if ty.kind == Kind::Complex64 { Kind::Float32 } else { Kind::Float64 };
        let half = ty.size as usize / 2;
        let part = |(path, offset): (&str, usize)| {
            let ty = Arc::new(GoType::basic(kind)?);
            let form = Form::Float(float_of(&ty, &value[offset..]));
            Some(Part { path: path.into(), offset, wanted: Wanted { ty, form } })
        };
        Form::Parts([(".real", 0), (".imag", half)].into_iter().filter_map(part).collect())
    }

    /// What cannot be read behind a pointer is not compared: the pointer itself still is.
    fn pointer(&mut self, pointee: Option<TypeId>, address: u64, depth: usize) -> Result<Form> {
        let mut follow = || {
            let ty = self.keys.types().load(pointee?).ok()?;
            let value = self.keys.memory().bytes(address, ty.size as usize).ok()?;
            self.build(&ty, &value, depth - 1).ok().map(Box::new)
        };
        Ok(Form::Pointer { address, pointee: if address == 0 { None } else { follow() } })
    }

    fn fields(&mut self, ty: &GoType, fields: &[Field], value: &[u8], depth: usize) -> Result<Form> {
        if let Some(instant) = Instant::of(ty, fields, value) {
            return Ok(Form::Time(instant));
        }
        if &*ty.name == "net/netip.Addr" && ty.size == 24 {
            return Ok(Form::Address(value.to_vec()));
        }
        let mut parts = Vec::new();
        for field in fields.iter().filter(|field| &*field.name != "_") {
            let ty = self.keys.types().load(field.ty)?;
            let offset = field.offset as usize;
            self.parts_left = self.parts_left.saturating_sub(1);
            if self.parts_left == 0 {
                return Ok(Form::Opaque(value.to_vec()));
            }
            let wanted = self.build(&ty, value.get(offset..).ok_or_else(too_short)?, depth - 1)?;
            parts.push(Part { path: format!(".{}", field.name), offset, wanted });
        }
        Ok(Form::Parts(parts))
    }

    fn array(&mut self, elem: TypeId, len: u64, value: &[u8], depth: usize) -> Result<Form> {
        let elem = self.keys.types().load(elem)?;
        if len >= self.parts_left as u64 && elem.kind != Kind::Uint8 {
            return Ok(Form::Opaque(value.to_vec()));
        }
        if elem.kind == Kind::Uint8 {
            let bytes = value.to_vec();
            let is_text = len <= LONGEST_TEXT && holds_text(&bytes);
            let text = is_text.then(|| Box::new(Text::new(bytes.clone())));
            return Ok(Form::Array { bytes, text });
        }
        self.parts_left -= len as usize;
        let mut parts = Vec::new();
        for i in 0..len as usize {
            let offset = i * elem.size as usize;
            let wanted = self.build(&elem, value.get(offset..).ok_or_else(too_short)?, depth - 1)?;
            parts.push(Part { path: format!("[{i}]"), offset, wanted });
        }
        Ok(Form::Parts(parts))
    }

    fn slice(&mut self, elem: TypeId, value: &[u8], depth: usize) -> Result<Form> {
        let elem = self.keys.types().load(elem)?;
        let (data, len) = (LE::read_u64(value), LE::read_u64(&value[8..]));
        if len >= self.parts_left as u64 {
            return Ok(Form::Opaque(value.to_vec()));
        }
        self.parts_left -= len as usize;
        let stride = elem.size as usize;
        let bytes = self.keys.memory().bytes(data, len as usize * stride)?;
        let parts = (0..len as usize).map(|i| {
            let element = bytes.get(i * stride..).ok_or_else(too_short)?;
            self.build(&elem, element, depth - 1)
        });
        Ok(Form::Elements { stride, parts: parts.collect::<Result<_>>()? })
    }
}

fn compare_parts(keys: &Keys<'_>, parts: &[Part], stored: &[u8], worst: u32, tell: bool) -> Result<Outcome> {
    let (mut equal, mut far, mut near) = (0, 0, 0);
    let mut distance = 0u32;
    let mut differing: Option<Closeness> = None;
    let mut zero: Option<Closeness> = None;
    let mut told = Vec::new();
    let mut different: Vec<&Part> = Vec::new();
    for part in parts {
        let value = stored.get(part.offset..).ok_or_else(too_short)?;
        let outcome = part.wanted.compare(keys, value, worst, tell)?;
        if outcome != Outcome::Equal {
            different.push(part);
        }
        match outcome {
            Outcome::Equal => equal += 1,
            Outcome::Near(closeness)
                if closeness.relation == Relation::SignedZero
                    && closeness.distance == 0
                    && is_float(part.wanted.ty.kind) =>
            {
                equal += 1;
                zero = Some(within(part, closeness));
            }
            Outcome::Near(closeness) => {
                near += 1;
                distance = distance.saturating_add(closeness.distance);
                if tell {
                    told.push(tell_part(part, &closeness));
                }
                differing = Some(within(part, closeness));
            }
            Outcome::Far => {
                far += 1;
                distance = distance.saturating_add(FAR_PART);
                if tell {
                    told.push(tell_far_part(keys, part, value));
                }
            }
        }
        // A key no part of which is near is not worth its other parts.
        if far > 2 && equal + near == 0 && far * 2 > parts.len() {
            return Ok(Outcome::Far);
        }
    }
    if let [a, b] = different[..] {
        if are_swapped(keys, a, b, stored)? {
            let detail = || format!("{} and {} are swapped", a.path, b.path);
            return Ok(Outcome::Near(Closeness::new(Relation::StructField, 65, detail, tell)));
        }
    }
    Ok(match (far, near, differing, zero) {
        (0, 0, _, None) => Outcome::Equal,
        (0, 0, _, Some(zero)) => Outcome::Near(zero),
        (0, 1, Some(nan), _) if nan.relation == Relation::Nan => Outcome::Near(nan),
        _ if far > 0 && equal + near == 0 => Outcome::Far,
        _ => {
            let detail = || told.join("; ");
            Outcome::Near(Closeness::new(Relation::StructField, distance.saturating_add(20), detail, tell))
        }
    })
}

/// Whether each of two parts holds what was asked for in the other.
fn are_swapped(keys: &Keys<'_>, a: &Part, b: &Part, stored: &[u8]) -> Result<bool> {
    if !keys.is_same_type(&a.wanted.ty, &b.wanted.ty) {
        return Ok(false);
    }
    let holds = |wanted: &Part, place: &Part| {
        let value = stored.get(place.offset..).ok_or_else(too_short)?;
        Ok::<bool, Error>(wanted.wanted.compare(keys, value, 0, false)? == Outcome::Equal)
    };
    Ok(holds(a, b)? && holds(b, a)?)
}

fn within(part: &Part, closeness: Closeness) -> Closeness {
    let detail = match closeness.detail.is_empty() {
        true => String::new(),
        false => join_path(&part.path, &closeness.detail),
    };
    Closeness { detail, ..closeness }
}

fn join_path(path: &str, detail: &str) -> String {
    match detail.starts_with(['.', '[']) {
        true => format!("{path}{detail}"),
        false => format!("{path}: {detail}"),
    }
}

fn tell_part(part: &Part, closeness: &Closeness) -> String {
    match closeness.relation {
        Relation::StructField => {
            closeness.detail.split("; ").map(|one| join_path(&part.path, one)).collect::<Vec<_>>().join("; ")
        }
        relation => format!("{}: {}: {}", part.path, relation.name(), closeness.detail),
    }
}

fn tell_far_part(keys: &Keys<'_>, part: &Part, value: &[u8]) -> String {
    let stored = Wanted::of(keys, &part.wanted.ty, value).ok().and_then(|stored| stored.describe());
    match (stored, part.wanted.describe()) {
        (Some(stored), Some(wanted)) if stored != wanted => format!("{}: {stored} instead of {wanted}", part.path),
        _ => format!("{}: differs", part.path),
    }
}

fn compare_arrays(wanted: &[u8], text: Option<&Text>, stored: &[u8], worst: u32, tell: bool) -> Outcome {
    if wanted == stored {
        return Outcome::Equal;
    }
    if let Some(near) = text.and_then(|text| text.compare(stored, worst, tell)) {
        return Outcome::Near(near);
    }
    // A quarter of the bytes: more have too little in common.
    let differing = wanted.iter().zip(stored).filter(|(a, b)| a != b).count();
    if differing * 4 > wanted.len() {
        return Outcome::Far;
    }
    let distance = 305 + 20 * differing.min(10) as u32;
    Outcome::Near(Closeness::new(Relation::EditDistance, distance, || spell_bytes(wanted, stored), tell))
}

/// Addresses of which one byte differs, by more than its family or zone.
fn near_addresses(wanted: &[u8], stored: &[u8], tell: bool) -> Outcome {
    // hi and lo are big-endian numbers, kept in little-endian words.
    let bytes = |value: &[u8]| [LE::read_u64(value).to_be_bytes(), LE::read_u64(&value[8..]).to_be_bytes()].concat();
    let (wanted, stored) = (bytes(wanted), bytes(stored));
    let differing = wanted.iter().zip(&stored).filter(|(a, b)| a != b).count();
    match differing {
        1 => Outcome::Near(Closeness::new(Relation::EditDistance, 325, || spell_bytes(&wanted, &stored), tell)),
        _ => Outcome::Far,
    }
}

/// Whether an array of bytes is used for text, padded with zeros: digests and numbers have control bytes too.
fn holds_text(bytes: &[u8]) -> bool {
    let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let text = bytes.get(..end).and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.is_some_and(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

fn spell_bytes(wanted: &[u8], stored: &[u8]) -> String {
    let differ = wanted.iter().zip(stored).enumerate().filter(|(_, (a, b))| a != b);
    let differ: Vec<String> =
        differ.take(8).map(|(i, (wanted, stored))| format!("byte {i} is {stored:#04x}, not {wanted:#04x}")).collect();
    differ.join(", ")
}

fn equal_or_far(equal: bool) -> Outcome {
    match equal {
        true => Outcome::Equal,
        false => Outcome::Far,
    }
}

fn is_float(kind: Kind) -> bool {
    matches!(kind, Kind::Float32 | Kind::Float64)
}

fn float_of(ty: &GoType, value: &[u8]) -> f64 {
    match ty.kind {
        Kind::Float32 => LE::read_f32(value) as f64,
        _ => LE::read_f64(value),
    }
}

/// The integer in `value`, which is as long as its type.
fn integer_of(ty: &GoType, value: &[u8]) -> i128 {
    let size = (ty.size as usize).min(8);
    match ty.kind.is_signed() {
        true => LE::read_int(value, size) as i128,
        false => LE::read_uint(value, size) as i128,
    }
}

fn too_short() -> Error {
    Error::Type("this key has fewer bytes than its type".into())
}
