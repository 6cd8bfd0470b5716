//! A Go type compiled for printing: sizes, offsets and kinds resolved, so that a value costs no look-up.

use super::json;
use crate::types::{Field, GoType, Kind, Shape, TypeId, TypeSource};
use crate::{Error, Result};
use std::sync::Arc;

/// Structs and arrays nested deeper than this in a type are refused: no compiler makes them.
const DEEPEST_TYPE: usize = 100;

/// How to read values of one type. Immutable and shareable; what lies behind pointers, slices, maps and
/// interfaces is compiled when first met, by the [`Context`](super::Context).
#[derive(Debug)]
pub struct Plan {
    ty: Arc<GoType>,
    name: Box<str>,
    json_name: Box<[u8]>,
    pub(super) size: usize,
    pub(super) form: Form,
    pub(super) direct: Direct,
}

/// What a value's bytes mean.
#[derive(Debug)]
pub(super) enum Form {
    Bool,
    Int,
    Uint,
    Float32,
    Float64,
    Complex64,
    Complex128,
    String,
    UnsafePointer,
    Pointer(Option<TypeId>),
    Slice { elem: TypeId },
    Bytes,
    Array { elem: Arc<Plan>, len: u64 },
    Struct(Vec<FieldPlan>),
    Time(TimeOffsets),
    Interface { methods: bool },
    Func,
    Chan,
    Map,
    SyncMap,
}

/// Whether an interface holds a value of the type in its data word itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direct {
    Yes,
    No,
    /// Depends on the Go version (1.26 began to store structs with further zero-sized fields directly);
    /// the type's descriptor says.
    AskDescriptor,
}

/// A named field of a struct; blank fields have no plan.
#[derive(Debug)]
pub struct FieldPlan {
    /// Its name; for an embedded field the name of its type.
    pub name: Arc<str>,
    /// Its name as a JSON member: `"name":`.
    pub json: Box<[u8]>,
    pub(super) offset: usize,
    pub(super) plan: Arc<Plan>,
}

/// Offsets in `time.Time` (src/time/time.go, unchanged since Go 1.9).
#[derive(Debug, Clone, Copy)]
pub struct TimeOffsets {
    pub wall: usize,
    pub ext: usize,
    pub loc: usize,
}

impl Plan {
    /// Compiles a type. Errors: the type source lacks a part, or the parts contradict each other.
    pub fn compile(types: &dyn TypeSource, id: TypeId) -> Result<Arc<Plan>> {
        compile(types, id, 0)
    }

    /// The same plan for a type that has to be called otherwise.
    pub fn renamed(self: &Arc<Plan>, types: &dyn TypeSource, name: &str) -> Result<Arc<Plan>> {
        let form = form(types, &self.ty, 0)?;
        let mut json_name = Vec::new();
        json::push_string(&mut json_name, name.as_bytes());
        let (ty, size, direct) = (self.ty.clone(), self.size, self.direct);
        Ok(Arc::new(Plan { name: name.into(), json_name: json_name.into(), size, form, direct, ty }))
    }

    /// The type.
    pub fn ty(&self) -> &Arc<GoType> {
        &self.ty
    }

    /// Its name as `%T` prints it: packages by their last path element.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its name as a JSON string, quotes included.
    pub fn json_name(&self) -> &[u8] {
        &self.json_name
    }

    /// Whether a value prints as one plain word: a bool, number or string.
    pub fn is_scalar(&self) -> bool {
        use Form::*;
        matches!(self.form, Bool | Int | Uint | Float32 | Float64 | Complex64 | Complex128 | String)
    }
}

fn compile(types: &dyn TypeSource, id: TypeId, nest: usize) -> Result<Arc<Plan>> {
    let ty = types.load(id)?;
    if nest > DEEPEST_TYPE {
        return Err(contradiction(&ty, "contains itself"));
    }
    let size = usize::try_from(ty.size).map_err(|_| contradiction(&ty, "has an absurd size"))?;
    let form = form(types, &ty, nest)?;
    let direct = direct(&form, size);
    let name = types.shown_name(&ty);
    let mut json_name = Vec::new();
    json::push_string(&mut json_name, name.as_bytes());
    Ok(Arc::new(Plan { name: name.into(), json_name: json_name.into(), size, form, direct, ty }))
}

fn form(types: &dyn TypeSource, ty: &Arc<GoType>, nest: usize) -> Result<Form> {
    if let Some(size) = ty.kind.fixed_size() {
        if size != ty.size {
            return Err(contradiction(ty, "has a size that its kind cannot have"));
        }
    }
    Ok(match (ty.kind, &ty.shape) {
        (Kind::Bool, _) => Form::Bool,
        (kind, _) if kind.is_signed() => Form::Int,
        (kind, _) if kind.is_unsigned() => Form::Uint,
        (Kind::Float32, _) => Form::Float32,
        (Kind::Float64, _) => Form::Float64,
        (Kind::Complex64, _) => Form::Complex64,
        (Kind::Complex128, _) => Form::Complex128,
        (Kind::String, _) => Form::String,
        (Kind::UnsafePointer, _) => Form::UnsafePointer,
        (Kind::Pointer, Shape::Pointer(elem)) => Form::Pointer(*elem),
        (Kind::Pointer, _) => Form::Pointer(None),
        (Kind::Slice, Shape::Slice(elem)) => match types.load(*elem) {
            Ok(elem) if elem.kind == Kind::Uint8 => Form::Bytes,
            _ => Form::Slice { elem: *elem },
        },
        (Kind::Array, Shape::Array { elem, len }) => array(types, ty, *elem, *len, nest)?,
        (Kind::Struct, _) if ty.is_sync_map() => Form::SyncMap,
        (Kind::Struct, Shape::Struct(fields)) => structure(types, ty, fields, nest)?,
        (Kind::Interface, Shape::Interface { methods }) => Form::Interface { methods: *methods },
        (Kind::Func, _) => Form::Func,
        (Kind::Chan, _) => Form::Chan,
        (Kind::Map, Shape::Map(_)) => Form::Map,
        _ => return Err(contradiction(ty, "lacks its parts in the debug information")),
    })
}

fn array(types: &dyn TypeSource, ty: &Arc<GoType>, elem: TypeId, len: u64, nest: usize) -> Result<Form> {
    let elem = compile(types, elem, nest + 1)?;
    if (elem.size as u64).checked_mul(len) != Some(ty.size) {
        return Err(contradiction(ty, "has a size that is not its length times its element"));
    }
    Ok(Form::Array { elem, len })
}

fn structure(types: &dyn TypeSource, ty: &Arc<GoType>, fields: &[Field], nest: usize) -> Result<Form> {
    if let Some(offsets) = TimeOffsets::of(ty, fields) {
        return Ok(Form::Time(offsets));
    }
    let mut plans = Vec::with_capacity(fields.len());
    for field in fields.iter().filter(|field| &*field.name != "_") {
        let plan = compile(types, field.ty, nest + 1)?;
        if field.offset.checked_add(plan.size as u64).is_none_or(|end| end > ty.size) {
            return Err(contradiction(ty, "has a field beyond its end"));
        }
        let mut json = Vec::new();
        json::push_string(&mut json, field.name.as_bytes());
        json.push(b':');
        plans.push(FieldPlan { name: field.name.clone(), json: json.into(), offset: field.offset as usize, plan });
    }
    Ok(Form::Struct(plans))
}

impl TimeOffsets {
    /// Those of a `time.Time`; `None` for any other type.
    pub fn of(ty: &GoType, fields: &[Field]) -> Option<TimeOffsets> {
        let offset = |name: &str| {
            let field = fields.iter().find(|field| &*field.name == name)?;
            (field.offset.checked_add(8)? <= ty.size).then_some(field.offset as usize)
        };
        if &*ty.name != "time.Time" {
            return None;
        }
        Some(TimeOffsets { wall: offset("wall")?, ext: offset("ext")?, loc: offset("loc")? })
    }
}

fn contradiction(ty: &GoType, what: &str) -> Error {
    Error::Type(format!("type {} {what}: the debug information is damaged or not of this program", ty.name))
}

/// Source: src/cmd/compile/internal/types/type.go `IsDirectIface`, go1.21 to 1.27.
fn direct(form: &Form, size: usize) -> Direct {
    match form {
        Form::Pointer(_) | Form::UnsafePointer | Form::Func | Form::Chan | Form::Map => Direct::Yes,
        // Blank fields have no plan here, so even a struct of one named field has to be asked about.
        Form::Struct(_) if size == 8 => Direct::AskDescriptor,
        Form::Array { len: 1, elem } if size == 8 => elem.direct,
        _ => Direct::No,
    }
}

/// A type name as `%T` and the runtime print it: `github.com/x/y.T` becomes `y.T`, inside
/// composite names too. Type arguments keep their paths, as they do in the runtime.
pub fn short_name(name: &str) -> String {
    short_name_by(name, &|_| None)
}

/// The same, where `package` tells words whose package is not called as the last element of its path: `a/yaml.v3.T` is `yaml.T`.
pub fn short_name_by(name: &str, package: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(name.len());
    let mut word = 0;
    let (mut quoted, mut escaped) = (false, false);
    let mut type_arguments = 0usize;
    for (at, c) in name.char_indices() {
        let keep_path = quoted || type_arguments > 0;
        let literal = escaped;
        escaped = quoted && c == '\\' && !escaped;
        match c {
            '"' if !literal => quoted = !quoted,
            _ if quoted => {}
            // `G[` opens type arguments; `map[` and `[]` do not.
            '[' if keep_path || at > word && &name[word..at] != "map" => type_arguments += 1,
            ']' if keep_path => type_arguments -= 1,
            _ => {}
        }
        if matches!(c, '[' | ']' | '(' | ')' | '{' | '}' | ',' | ';' | ' ' | '*' | '"' | '<') {
            push_word(&mut out, &name[word..at], keep_path, package);
            out.push(c);
            word = at + c.len_utf8();
        }
    }
    push_word(&mut out, &name[word..], false, package);
    out
}

fn push_word(out: &mut String, word: &str, keep_path: bool, package: &dyn Fn(&str) -> Option<String>) {
    match word.rfind('/').filter(|_| !keep_path) {
        None => out.push_str(word),
        Some(slash) => match package(word) {
            Some(known) => out.push_str(&known),
            None => out.push_str(&word[slash + 1..]),
        },
    }
}
