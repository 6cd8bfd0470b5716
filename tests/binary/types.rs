//! Type descriptors against reflection, in the program itself, and against DWARF.

use crate::image::{debug_sections, Image};
use crate::programs::{ask, documents, lab, Mode, VERSIONS};
use mapscope::binary::dwarf::Dwarf;
use mapscope::binary::program::Program;
use mapscope::binary::rtype::Descriptors;
use mapscope::binary::typeindex::TypeIndex;
use mapscope::files::Mapped;
use mapscope::memory::ProcessMemory;
use mapscope::types::{GoType, Kind, ProgramTypes, Shape, TypeId, TypeSource};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

fn number(fact: &Value, key: &str) -> u64 {
    fact[key].as_u64().unwrap_or_else(|| panic!("{key} in {fact}"))
}

fn numbers(fact: &Value, key: &str) -> Vec<u64> {
    fact[key].as_array().into_iter().flatten().map(|n| n.as_u64().expect("a number")).collect()
}

fn address(id: &TypeId) -> u64 {
    match id {
        TypeId::Runtime(address) => *address,
        other => panic!("{other:?} is not from a descriptor"),
    }
}

/// Compares one type with what reflection says of it.
fn compare(descriptors: &Descriptors<'_>, fact: &Value) {
    let at = number(fact, "Address");
    let common = descriptors.descriptor(at).unwrap_or_else(|error| panic!("{error}: {fact}"));
    let ty = descriptors.load(at).unwrap_or_else(|error| panic!("{error}: {fact}"));
    assert_eq!(*ty.name, *fact["String"].as_str().expect("a name"), "{fact}");
    assert_eq!((ty.kind as u64, ty.size), (number(fact, "Kind"), number(fact, "Size")), "{fact}");
    assert_eq!((common.align as u64, common.field_align as u64), (number(fact, "Align"), number(fact, "FieldAlign")));
    assert_eq!(common.named, fact["Name"] != "", "{fact}");
    if common.named {
        assert_eq!(descriptors.package(&common).expect("a package"), fact["Package"].as_str().expect("text"), "{fact}");
    }
    match &ty.shape {
        Shape::Plain | Shape::Func | Shape::Interface { .. } => {}
        Shape::Pointer(elem) => assert_eq!(elem.as_ref().map(address), Some(number(fact, "Elem")), "{fact}"),
        Shape::Slice(elem) | Shape::Chan(elem) => assert_eq!(address(elem), number(fact, "Elem"), "{fact}"),
        Shape::Array { elem, len } => assert_eq!((address(elem), *len), (number(fact, "Elem"), number(fact, "Len"))),
        Shape::Map(map) => {
            assert_eq!((address(&map.key), address(&map.elem)), (number(fact, "Key"), number(fact, "Elem")), "{fact}");
        }
        Shape::Struct(_) => compare_fields(descriptors, at, fact),
    }
    match ty.kind {
        Kind::Func => {
            let signature = descriptors.signature(&common).expect("a signature");
            assert_eq!((&signature.parameters, &signature.results), (&numbers(fact, "In"), &numbers(fact, "Out")));
            assert_eq!(Some(signature.variadic), fact["Variadic"].as_bool(), "{fact}");
        }
        Kind::Interface => {
            let methods = descriptors.interface_methods(at).expect("methods");
            let names: Vec<&str> = methods.iter().map(|method| method.name.text.as_str()).collect();
            let expected: Vec<&str> =
                fact["Methods"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            assert_eq!(names, expected, "{fact}");
        }
        _ => {
            let exported = descriptors.uncommon(&common).expect("what follows").map_or(0, |u| u.exported);
            let promoted = ty.kind == Kind::Struct && !common.named;
            // Only types with a name, pointers to them, and structs that embed them have methods.
            assert!(promoted || exported as u64 == number(fact, "Exported"), "{fact}");
            let methods = descriptors.methods(&common).expect("methods");
            assert!(
                methods.iter().filter(|m| m.name.text.starts_with(char::is_uppercase)).count() >= exported as usize
            );
        }
    }
}

fn compare_fields(descriptors: &Descriptors<'_>, at: u64, fact: &Value) {
    let fields = descriptors.fields(at).expect("fields");
    let expected = fact["Fields"].as_array().map_or(&[][..], Vec::as_slice);
    assert_eq!(fields.len(), expected.len(), "{fact}");
    for (field, expected) in fields.iter().zip(expected) {
        let told = (field.name.text.as_str(), field.name.tag.as_str(), field.ty, field.offset, field.embedded);
        let text = |key: &str| expected[key].as_str().expect("text");
        let embedded = expected["Anonymous"] == true;
        assert_eq!(told, (text("Name"), text("Tag"), number(expected, "Type"), number(expected, "Offset"), embedded));
    }
}

#[test]
fn types_are_what_reflection_says() {
    for version in VERSIONS {
        for mode in [Mode::Default, Mode::Linked, Mode::LinkedPie, Mode::Stripped, Mode::Cgo] {
            let program = lab(version, mode);
            let (base, facts) = documents(&ask(&program, "types", ""));
            let image = Image::load(&program, base);
            assert!(facts.len() > 100, "{version} {mode:?} told of {} types only", facts.len());
            let descriptors = image.descriptors();
            facts.iter().for_each(|fact| compare(&descriptors, fact));
            let index = TypeIndex::build(&descriptors);
            for fact in &facts {
                let at = number(fact, "Address");
                let full = descriptors.full_name(at).expect("a full name");
                let named = fact["Name"] != "" && fact["Package"] != "";
                let expected =
                    format!("{}.{}", fact["Package"].as_str().expect("text"), fact["Name"].as_str().expect("text"));
                assert!(!named || full == expected, "{full} is not {expected}");
                // A literal of one package's unexported names is spelled like that of another.
                let found = index.find(&descriptors, &full).expect("one type").expect("the type by its name");
                assert_eq!(descriptors.full_name(found).expect("a name"), full, "{version} {mode:?}");
            }
        }
    }
}

#[test]
fn one_name_of_two_types_is_told() {
    for version in ["1.19", "1.27.3"] {
        let image = Image::open(&lab(version, Mode::Linked));
        let descriptors = image.descriptors();
        let index = TypeIndex::build(&descriptors);
        let error = index.find(&descriptors, "shared.T").expect_err("two types").to_string();
        assert!(error.contains("example.com/lab/one/shared.T, example.com/lab/two/shared.T"), "{error}");
        for (package, field) in [("one", "One"), ("two", "Two")] {
            let name = format!("example.com/lab/{package}/shared.T");
            let found = index.find(&descriptors, &name).expect("one type").expect("the type");
            assert_eq!(descriptors.fields(found).expect("fields")[0].name.text, field);
        }
        let map = "map[example.com/lab/one/shared.T]example.com/lab/two/shared.T";
        assert!(index.find(&descriptors, map).expect("one type").is_some());
        assert_eq!(index.find(&descriptors, "no.Such").expect("no error"), None);
    }
}

/// Names that are put together from parts are those that the compiler wrote.
#[test]
fn names_from_parts_are_the_compilers() {
    for version in VERSIONS {
        let image = Image::open(&lab(version, Mode::Linked));
        let descriptors = image.descriptors();
        let mut compared = 0;
        for address in TypeIndex::build(&descriptors).addresses() {
            let full = descriptors.full_name(address).expect("a name");
            let own = &*descriptors.load(address).expect("a type").name;
            // Both spellings are one without import paths of several elements, and without fields, which DWARF qualifies.
            if !full.contains('/') && !full.contains("struct {") && !is_internal(own) {
                assert_eq!(full, own, "{version}");
                compared += 1;
            }
        }
        assert!(compared > 300, "{version}: {compared}");
    }
}

#[test]
fn types_made_by_reflection_are_read_in_the_process() {
    for version in VERSIONS {
        let program = lab(version, Mode::Linked);
        let mut child = Command::new(&program)
            .arg("made")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the lab runs");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        let lines: Vec<String> = output.lines().map_while(Result::ok).take_while(|line| line != "end").collect();
        let (_, facts) = documents(&lines.join("\n"));
        let memory = Arc::new(
            ProcessMemory::stop(child.id() as i32, mapscope::memory::STOP_WITHIN, &mapscope::error::Quiet)
                .expect("the process"),
        );
        let types = ProgramTypes::new(Arc::new(Program::open(&program, None).expect("the program")), memory.clone());
        let descriptors = types.descriptors().expect("descriptors");
        let made = facts.iter().filter(|fact| descriptors.module_of(number(fact, "Address")).is_none()).count();
        assert!(made >= 6, "{version}: only {made} types were made by reflection");
        for fact in &facts {
            let ty = types.load(types.by_descriptor(number(fact, "Address")).expect("a type")).expect("a type");
            assert_eq!(*ty.name, *fact["String"].as_str().expect("a name"), "{version}");
            if ty.kind != Kind::Interface {
                compare(&descriptors, fact);
            }
        }
        drop((types, memory));
        drop(child.stdin.take());
        child.wait().expect("the lab ends");
    }
}

/// Names as DWARF has them, by offset of the descriptor, of all types that have one.
fn named_by_dwarf(file: &[u8]) -> BTreeMap<u64, String> {
    let sections = debug_sections(file);
    let dwarf = sections.borrow(|section| gimli::EndianSlice::new(section, gimli::LittleEndian));
    let mut units = dwarf.units();
    let mut found = BTreeMap::new();
    while let Some(header) = units.next().expect("a unit") {
        let unit = dwarf.unit(header).expect("a unit");
        let mut entries = unit.entries();
        while let Some((_, entry)) = entries.next_dfs().expect("an entry") {
            let offset = match entry.attr_value(gimli::DwAt(0x2904)).expect("an attribute") {
                Some(gimli::AttributeValue::Addr(offset)) => offset,
                Some(gimli::AttributeValue::DebugAddrIndex(index)) => dwarf.address(&unit, index).expect("an address"),
                _ => continue,
            };
            if let Some(name) = entry.attr_value(gimli::DW_AT_name).expect("a name").filter(|_| offset != 0) {
                let name = dwarf.attr_string(&unit, name).expect("a string").to_string_lossy().into_owned();
                found.insert(offset, name);
            }
        }
    }
    found
}

#[test]
fn dwarf_and_descriptors_say_the_same() {
    let experiments = [("1.24.11", "noswissmap"), ("1.25.5", "noswissmap"), ("1.27.3", "mapsplitgroup")];
    let experiments = experiments.map(|(version, name)| (version, Mode::Experiment(name)));
    for (version, mode) in VERSIONS.map(|version| (version, Mode::Default)).into_iter().chain(experiments) {
        let program = lab(version, mode);
        let image = Image::open(&program);
        let descriptors = image.descriptors();
        let file = Arc::new(Mapped::open(&program).expect("the lab"));
        let dwarf = Dwarf::load(file.clone()).expect("DWARF").expect("DWARF");
        let types = image.module().data.types.clone();
        let known = named_by_dwarf(&file);
        assert!(known.len() > 500, "{version}: {} types", known.len());
        let index: std::collections::BTreeSet<u64> = TypeIndex::build(&descriptors).addresses().collect();
        let (mut listed, mut different) = (0, Vec::new());
        // To Go 1.22 uintptr has the address itself, and no offset.
        let size = types.end - types.start;
        assert!(known.iter().all(|(&offset, name)| offset < size || name == "uintptr"), "{version}");
        for (&offset, name) in known.iter().filter(|(&offset, _)| offset < size) {
            let address = types.start + offset;
            listed += index.contains(&address) as usize;
            let ours = descriptors.load(address).unwrap_or_else(|error| panic!("{version} {name}: {error}"));
            let full = descriptors.full_name(address).expect("a name");
            if !is_internal(name) && !same_name(&full, name) {
                different.push(format!("{full} is {name}"));
            }
            let Some(TypeId::Dwarf(die)) = dwarf.type_of_runtime(offset) else { panic!("{version}: {name} is lost") };
            let theirs = dwarf.load_type(die).unwrap_or_else(|error| panic!("{version} {name}: {error}"));
            if let Some(what) = difference(&ours, &theirs) {
                different.push(format!("{name}: {what}"));
            }
        }
        assert!(
            different.is_empty(),
            "{version}: {} of {}: {:#?}",
            different.len(),
            known.len(),
            &different[..different.len().min(20)]
        );
        // What the index lacks no list and no type leads to.
        assert!(listed * 100 >= known.len() * 97, "{version}: {listed} of {} types are in the index", known.len());
    }
}

/// Buckets and groups, whose names the descriptors have with packages' names only.
fn is_internal(name: &str) -> bool {
    name.contains("map.bucket[") || name.contains("map.group[")
}

/// DWARF marks types that the compiler gave no equality, and numbers those declared in functions; the runtime's
/// names do not.
fn same_name(ours: &str, dwarf: &str) -> bool {
    let (dwarf, _number) = dwarf.split_once('·').unwrap_or((dwarf, ""));
    ours == dwarf.replace("noalg.", "")
}

/// What is not the same in a type from both sources.
fn difference(ours: &GoType, theirs: &GoType) -> Option<String> {
    if (ours.size, ours.kind) != (theirs.size, theirs.kind) {
        return Some(format!("{} {:?} is {} {:?}", ours.size, ours.kind, theirs.size, theirs.kind));
    }
    match (&ours.shape, &theirs.shape) {
        (Shape::Struct(a), Shape::Struct(b)) => {
            let list = |fields: &[mapscope::types::Field]| -> Vec<(String, u64, bool)> {
                fields.iter().map(|f| (f.name.to_string(), f.offset, f.embedded)).collect()
            };
            (list(a) != list(b)).then(|| format!("{:?} is {:?}", list(a), list(b)))
        }
        (Shape::Map(a), Shape::Map(b)) => (a.layout != b.layout).then(|| format!("{:?} is {:?}", a.layout, b.layout)),
        (Shape::Array { len: a, .. }, Shape::Array { len: b, .. }) => (a != b).then(|| format!("{a} is {b}")),
        (Shape::Interface { methods: a }, Shape::Interface { methods: b }) => (a != b).then(|| format!("{a} is {b}")),
        (a, b) => (std::mem::discriminant(a) != std::mem::discriminant(b)).then(|| format!("{a:?} is {b:?}")),
    }
}
