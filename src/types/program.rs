//! The types of one program in one address space: DWARF types with their run-time descriptors joined.

use super::{GoType, Location, Shape, TypeId, TypeSource};
use crate::binary::buildinfo::GoVersion;
use crate::binary::moduledata::{self, Module};
use crate::binary::program::{no_dwarf, Program};
use crate::binary::rtype::Descriptors;
use crate::binary::typeindex::TypeIndex;
use crate::memory::Memory;
use crate::value::short_name_by;
use crate::{Error, Result};
use rustc_hash::FxHashMap;
use std::sync::{Arc, OnceLock, RwLock};

/// The type graph of a program as it runs.
pub struct ProgramTypes {
    program: Arc<Program>,
    memory: Arc<dyn Memory>,
    /// The runtime's modules, the program's own first, or why there are none: where descriptors and functions are.
    modules: Result<Vec<Module>>,
    loaded: RwLock<FxHashMap<TypeId, Arc<GoType>>>,
    /// Types read from memory that no module has: reflection made them, or it only looks so.
    made: RwLock<FxHashMap<TypeId, Arc<GoType>>>,
    /// Descriptors by name, for types that DWARF does not name.
    by_name: OnceLock<TypeIndex>,
}

impl ProgramTypes {
    /// The types of `program`, whose data is read from `memory`.
    pub fn new(program: Arc<Program>, memory: Arc<dyn Memory>) -> ProgramTypes {
        let modules = modules_of(&program, &*memory);
        ProgramTypes::of(program, memory, modules)
    }

    fn of(program: Arc<Program>, memory: Arc<dyn Memory>, modules: Result<Vec<Module>>) -> ProgramTypes {
        let (loaded, made, by_name) = (RwLock::default(), RwLock::default(), OnceLock::new());
        ProgramTypes { program, memory, modules, loaded, made, by_name }
    }

    /// Forgets the types that were read from memory which the target may write to.
    pub fn forget(&self) {
        self.made.write().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
    }

    /// Takes in modules that were loaded in the meantime, or could not be found before: a position-independent program has
    /// none before its loader has run.
    pub fn find_new_modules(&mut self) {
        let last = self.modules().last();
        let is_last = last.zip(self.program.version.as_ref()).is_some_and(|(last, version)| {
            last.data.next_now(&*self.memory, version).is_ok_and(|next| next == last.data.next)
        });
        if is_last {
            return;
        }
        if let Ok(found) = modules_of(&self.program, &*self.memory) {
            if found.len() > self.modules().len() {
                *self = ProgramTypes::of(self.program.clone(), self.memory.clone(), Ok(found));
            }
        }
    }

    /// The program.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Run-time address of the package variable `name`, and its type.
    pub fn variable(&self, name: &str) -> Result<Option<(u64, TypeId)>> {
        let Some(dwarf) = &self.program.dwarf else { return Err(no_dwarf(&self.program.path)) };
        Ok(dwarf.variable(name)?.map(|v| (v.address.wrapping_add(self.program.bias), v.ty)))
    }

    /// Full names of the variables that `name` is short for: `yaml.Cache` or `yaml.v3.Cache` for `gopkg.in/yaml.v3.Cache`.
    pub fn variables_meant(&self, name: &str) -> Vec<String> {
        self.program.dwarf.as_ref().map(|dwarf| dwarf.variables_meant(name)).unwrap_or_default()
    }

    /// Every package variable, with its run-time address and type; none without DWARF.
    pub fn variables(&self) -> Vec<(String, Location)> {
        let Some(dwarf) = &self.program.dwarf else { return Vec::new() };
        let bias = self.program.bias;
        dwarf.variables().map(|v| (v.name, Location { address: v.address.wrapping_add(bias), ty: v.ty })).collect()
    }

    /// Names of the package variables that start with `start` and are maps, or pointers to maps.
    pub fn map_variables(&self, start: &str) -> Vec<String> {
        let Some(dwarf) = &self.program.dwarf else { return Vec::new() };
        let is_map = |id: TypeId| self.load(id).is_ok_and(|ty| matches!(ty.shape, Shape::Map(_)) || ty.is_sync_map());
        let variables = dwarf.variables().filter(|v| v.name.starts_with(start) && is_map(v.ty));
        variables.map(|v| v.name).collect()
    }

    /// Offset of the field that `a.b.c` leads to from the struct type named `ty`; `None` without such a type or field.
    pub fn offset(&self, ty: &str, path: &str) -> Result<Option<u64>> {
        let Some(mut ty) = self.by_name(ty)? else { return Ok(None) };
        let mut sum = 0u64;
        for name in path.split('.') {
            let Some((offset, field)) = self.field(ty, name)? else { return Ok(None) };
            sum = sum.wrapping_add(offset);
            ty = field;
        }
        Ok(Some(sum))
    }

    /// The field `name` of the struct type `ty`.
    pub fn field(&self, ty: TypeId, name: &str) -> Result<Option<(u64, TypeId)>> {
        let ty = self.load(ty)?;
        let Shape::Struct(fields) = &ty.shape else { return Ok(None) };
        Ok(fields.iter().find(|f| &*f.name == name).map(|f| (f.offset, f.ty)))
    }

    /// The runtime's module data, when it was found: the program's own.
    pub fn module(&self) -> Option<&Module> {
        self.modules().first()
    }

    /// Every module: the program and its plugins.
    pub fn modules(&self) -> &[Module] {
        self.modules.as_deref().unwrap_or_default()
    }

    fn is_of_a_module(&self, descriptor: u64) -> bool {
        self.modules().iter().any(|module| module.data.types.contains(&descriptor))
    }

    /// Every descriptor that the modules list or that one of them leads to, by name.
    pub fn type_index(&self) -> Result<&TypeIndex> {
        let descriptors = self.descriptors()?;
        Ok(self.by_name.get_or_init(|| TypeIndex::build(&descriptors)))
    }

    /// Run-time address of the descriptor that a `go_runtime_type` means: an offset from the start of types,
    /// but for uintptr, where to Go 1.22 it is the link-time address (src/cmd/link/internal/ld/dwarf.go).
    fn descriptor_of_dwarf(&self, offset: u64) -> Option<u64> {
        let types = &self.module()?.data.types;
        let places = [types.start.checked_add(offset)?, offset.wrapping_add(self.program.bias)];
        places.into_iter().find(|place| types.contains(place))
    }

    /// The reader of the runtime's own descriptors.
    pub fn descriptors(&self) -> Result<Descriptors<'_>> {
        let modules = self.modules.as_deref().map_err(Clone::clone)?;
        Ok(Descriptors { memory: &*self.memory, modules, version: version(&self.program)? })
    }
}

fn modules_of(program: &Program, memory: &dyn Memory) -> Result<Vec<Module>> {
    version(program).and_then(|version| moduledata::find(&program.file, memory, program.bias, version))
}

fn version(program: &Program) -> Result<&GoVersion> {
    let unknown = || Error::Binary(format!("{} does not tell its Go version", program.path.display()));
    program.version.as_ref().ok_or_else(unknown)
}

impl TypeSource for ProgramTypes {
    fn load(&self, id: TypeId) -> Result<Arc<GoType>> {
        let known = match id {
            TypeId::Runtime(address) if !self.is_of_a_module(address) => &self.made,
            _ => &self.loaded,
        };
        if let Some(known) = known.read().unwrap_or_else(|poisoned| poisoned.into_inner()).get(&id) {
            return Ok(known.clone());
        }
        let ty = match (id, &self.program.dwarf) {
            (TypeId::Basic(kind), _) => {
                GoType::basic(kind).ok_or_else(|| Error::Type(format!("{kind:?} is not a predeclared type")))?
            }
            (TypeId::Dwarf(offset), Some(dwarf)) => {
                let mut ty = dwarf.load_type(offset)?;
                ty.descriptor = ty.descriptor.and_then(|offset| self.descriptor_of_dwarf(offset));
                ty
            }
            (TypeId::Runtime(address), _) => self.descriptors()?.load(address)?,
            (TypeId::Dwarf(_), None) => return Err(no_dwarf(&self.program.path)),
        };
        let ty = Arc::new(ty);
        known.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(id, ty.clone());
        Ok(ty)
    }

    fn by_name(&self, name: &str) -> Result<Option<TypeId>> {
        let normal = normal_spelling(name);
        if let Some(dwarf) = &self.program.dwarf {
            if let Some(found) = dwarf.type_named(name).or_else(|| dwarf.type_named(&normal)) {
                return Ok(Some(found));
            }
        }
        let Ok(descriptors) = self.descriptors() else { return Ok(None) };
        let index = self.type_index()?;
        let found = match index.find(&descriptors, name)? {
            Some(found) => Some(found),
            None => index.find(&descriptors, &normal)?,
        };
        Ok(found.map(TypeId::Runtime))
    }

    fn by_descriptor(&self, address: u64) -> Result<TypeId> {
        let types = self.module().map(|module| &module.data.types).filter(|types| types.contains(&address));
        let offset = types.map(|types| address - types.start).filter(|&offset| offset != 0);
        let known = offset.and_then(|offset| self.program.dwarf.as_ref()?.type_of_runtime(offset));
        if let Some(id) = known {
            return Ok(id);
        }
        // The linker leaves out the DWARF of some types; their descriptors say the same.
        self.load(TypeId::Runtime(address)).map(|ty| ty.id)
    }

    fn shown_name(&self, ty: &GoType) -> String {
        // `%T` prints the descriptor's own name, where there is a descriptor.
        let own = ty.descriptor.zip(self.descriptors().ok()).and_then(|(address, descriptors)| {
            let descriptor = descriptors.descriptor(address).ok()?;
            descriptors.own_name(&descriptor).ok()?
        });
        own.unwrap_or_else(|| short_name_by(&ty.name, &|word| self.program.dwarf.as_ref()?.with_package_name(word)))
    }

    fn distinct_name(&self, ty: &GoType) -> Option<String> {
        let descriptors = self.descriptors().ok()?;
        let own = ty.descriptor?;
        let alike = self.type_index().ok()?.of_name(&descriptors.type_name(&descriptors.descriptor(own).ok()?).ok()?);
        if alike.len() < 2 {
            return None;
        }
        let full = descriptors.full_name(own).ok()?;
        let is_other = |&other: &u64| other != own && descriptors.full_name(other).is_ok_and(|name| name == full);
        // DWARF numbers the types that functions declare.
        match alike.iter().any(is_other) {
            true if ty.name.contains('·') => Some(ty.name.to_string()),
            true => Some(format!("{full}@{own:#x}")),
            false => Some(full),
        }
    }

    fn variable_address(&self, name: &str) -> Option<u64> {
        self.variable(name).ok().flatten().map(|(address, _)| address)
    }

    fn function_name(&self, pc: u64) -> Option<String> {
        let in_module = self.modules().iter().find_map(|module| module.functions.function_at(pc));
        match in_module {
            Some(function) => Some(function.name().into_owned()),
            None => self.program.function_at(pc).map(|function| function.name.clone()),
        }
    }
}

/// A type name as the linker spells it: `any` is `interface {}`, `byte` is `uint8`, `rune` is `int32`,
/// and `struct{` and `interface{` have a space before the brace.
pub fn normal_spelling(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    let mut rest = name.trim();
    while let Some(first) = rest.chars().next() {
        let word_len = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        if word_len == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(word_len);
        match word {
            "any" => out.push_str("interface {}"),
            "byte" => out.push_str("uint8"),
            "rune" => out.push_str("int32"),
            _ => out.push_str(word),
        }
        if matches!(word, "struct" | "interface") && after.starts_with('{') {
            out.push(' ');
        }
        rest = after;
    }
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '/' | '·' | '-')
}

#[cfg(test)]
mod tests {
    use super::normal_spelling;

    #[test]
    fn spelling_as_the_linker_has_it() {
        assert_eq!(normal_spelling("map[string]any"), "map[string]interface {}");
        assert_eq!(normal_spelling("map[rune][]byte"), "map[int32][]uint8");
        assert_eq!(normal_spelling("map[main.any]interface{}"), "map[main.any]interface {}");
        assert_eq!(normal_spelling("struct{}"), "struct {}");
    }
}
