//! Garbage of every sort: an answer in place, valid JSON, no panic, no hang.

use super::fake::{words, FakeMemory, FakeTypes, FIRST_DESCRIPTOR};
use super::{csv, go_with, json_with};
use crate::error::{Quiet, Watch};
use crate::types::{ClassicLayout, Kind, MapLayout, MapType, Shape, TypeId};
use crate::value::{Context, Json, Options, Plan};
use crate::{Error, Result};
use proptest::prelude::*;

const HEAP: u64 = 0x10_0000;

#[test]
fn absurd_lengths_are_refused_where_they_are() {
    let mut types = FakeTypes::new();
    let ints = types.slice("int");
    let bytes = types.slice("uint8");
    types.structure("struct {}", 0, &[]);
    let empties = types.slice("struct {}");
    let string = types.get("string");
    let mut memory = FakeMemory::default();
    memory.put_words(HEAP, &[1, 2]);
    let huge = 1 << 60;
    let gone = r#"{"$unreadable":"memory at 0x100000 is not in this core"}"#;
    for (ty, value) in
        [(ints, words(&[HEAP, huge, huge])), (string, words(&[HEAP, huge])), (bytes, words(&[HEAP, huge, huge]))]
    {
        let limited = Options { string_limit: 5, elements_limit: 5, ..Options::default() };
        assert_eq!(json_with(&memory, &types, Options::default(), ty, &value), gone);
        assert_eq!(json_with(&memory, &types, limited, ty, &value), gone);
    }
    assert_eq!(
        json_with(&memory, &types, Options::default(), ints, &words(&[HEAP, 2, 1])),
        r#"{"$unreadable":"a slice cannot have length 2 and capacity 1"}"#
    );
    // Nothing in memory bounds a slice of empty structs.
    let told = json_with(&memory, &types, Options::default(), empties, &words(&[HEAP, huge, huge]));
    assert!(told.ends_with(&format!(r#"{{"$omitted":{}}}]"#, huge - 65536)), "{}", &told[told.len() - 60..]);
}

#[test]
fn a_hole_in_a_slice_spoils_only_its_elements() {
    let mut types = FakeTypes::new();
    let ints = types.slice("int");
    let mut memory = FakeMemory::default();
    memory.put_words(HEAP, &[1]);
    memory.put_words(HEAP + 16, &[3]);
    let told = json_with(&memory, &types, Options::default(), ints, &words(&[HEAP, 3, 3]));
    assert_eq!(told, r#"[1,{"$unreadable":"memory at 0x100008 is not in this core"},3]"#);
    // A hole of 2^20 elements is told 64 times, then counted.
    memory.put_words(HEAP + 8 * (1 << 20), &[9]);
    let told = json_with(&memory, &types, Options::default(), ints, &words(&[HEAP, (1 << 20) + 1, 1 << 21]));
    assert_eq!(told.matches("$unreadable").count(), 64);
    assert!(told.ends_with(&format!(r#"{{"$omitted":{}}}]"#, (1 << 20) + 1 - 66)), "{}", &told[told.len() - 40..]);
}

#[test]
fn types_that_contradict_themselves_are_refused() {
    let mut types = FakeTypes::new();
    let beyond = types.structure("main.Beyond", 8, &[("A", 4, "int")]);
    let array = types.array(4, "int");
    types.redefine("[4]int", Shape::Array { elem: types.get("int"), len: 5 });
    let itself = types.add("main.Self", 8, Kind::Struct, Shape::Plain);
    let field = crate::types::Field { name: "s".into(), offset: 0, ty: itself, embedded: false };
    types.redefine("main.Self", Shape::Struct(vec![field]));
    for id in [beyond, array, itself] {
        let error = Plan::compile(&types, id).unwrap_err().to_string();
        assert!(error.contains("the debug information is damaged"), "{error}");
    }
}

#[test]
fn deep_nesting_ends_before_parsers_give_up() {
    let mut types = FakeTypes::new();
    let tree = types.slice("interface {}");
    let mut memory = FakeMemory::default();
    // A []any of one []any of one … each header behind its interface.
    let descriptor = types.descriptor("[]interface {}");
    for level in 0..10_000 {
        let here = HEAP + level * 64;
        memory.put_words(here, &[here + 24, 1, 1, descriptor, here + 64]);
    }
    let told = json_with(&memory, &types, Options::default(), tree, &words(&[HEAP + 24, 1, 1]));
    assert!(told.contains("nested too deep to show"), "{told}");
    serde_json::from_str::<serde_json::Value>(&told).unwrap();
}

/// Interrupts at once.
struct CtrlC;

impl Watch for CtrlC {
    fn tick(&self, _done: u64, _total: u64) -> Result<()> {
        Err(Error::Interrupted)
    }
}

#[test]
fn an_interrupt_stops_a_long_value() {
    let mut types = FakeTypes::new();
    let ints = types.slice("int");
    let mut memory = FakeMemory::default();
    memory.put_words(HEAP, &[7; 100_000]);
    let context = Context::new(&memory, &types, Options::default(), &CtrlC);
    let mut out = Vec::new();
    let value = words(&[HEAP, 100_000, 100_000]);
    let told = context.plan(ints).unwrap().write(&context, &value, &mut Json::new(&mut out));
    assert!(matches!(told, Err(Error::Interrupted)));
    assert!(out.len() < 10_000, "{} bytes after the interrupt", out.len());
}

#[test]
fn long_values_are_drained_as_they_grow() {
    let mut types = FakeTypes::new();
    let ints = types.slice("int");
    let mut memory = FakeMemory::default();
    memory.put_words(HEAP, &[7; 1_000_000]);
    let context = Context::new(&memory, &types, Options::default(), &Quiet);
    let value = words(&[HEAP, 1_000_000, 1_000_000]);
    let (mut out, mut total, mut largest) = (Vec::new(), 0, 0);
    let mut drain = |out: &mut Vec<u8>| {
        total += out.len();
        largest = largest.max(out.len());
        out.clear();
        Ok(())
    };
    context.plan(ints).unwrap().write(&context, &value, &mut Json::draining(&mut out, &mut drain)).unwrap();
    assert_eq!(total + out.len(), 2_000_001);
    assert!((1..1 << 19).contains(&largest), "{largest}");
    let mut fail = |_: &mut Vec<u8>| Err(Error::Output { path: "x".into(), reason: "full".into() });
    let told = context.plan(ints).unwrap().write(&context, &value, &mut Json::draining(&mut out, &mut fail));
    assert!(matches!(told, Err(Error::Output { .. })));
}

/// Nodes whose every edge leads back to the first: at depth 6 more than 10^8 of them.
fn graph() -> (FakeMemory, FakeTypes, TypeId) {
    let mut types = FakeTypes::new();
    types.structure("main.Node", 40, &[]);
    types.pointer("main.Node");
    types.slice("*main.Node");
    types.redefine("main.Node", {
        let field = |name: &str, offset, ty: &str| crate::types::Field {
            name: name.into(),
            offset,
            ty: types.get(ty),
            embedded: false,
        };
        Shape::Struct(vec![field("Text", 0, "string"), field("Edges", 16, "[]*main.Node")])
    });
    let mut memory = FakeMemory::default();
    const EDGES: u64 = 25;
    memory.put_words(HEAP, &[HEAP + 0x1000, 3000, HEAP + 0x800, EDGES, EDGES]);
    memory.put_words(HEAP + 0x800, &[HEAP; EDGES as usize]);
    memory.put(HEAP + 0x1000, vec![b'x'; 3000]);
    let ty = types.get("*main.Node");
    (memory, types, ty)
}

#[test]
fn what_lies_behind_pointers_is_bounded_and_the_answer_says_so() {
    let (memory, types, ty) = graph();
    let told = |follow_limit| {
        let context = super::context(&memory, &types, Options { depth: 6, follow_limit, ..Options::default() });
        let (mut json, mut go) = (Vec::new(), Vec::new());
        let plan = context.plan(ty).unwrap();
        plan.write(&context, &words(&[HEAP]), &mut Json::new(&mut json)).unwrap();
        plan.write(&context, &words(&[HEAP]), &mut crate::value::GoSyntax::new(&mut go, false)).unwrap();
        assert_eq!(context.cut(), 2);
        serde_json::from_slice::<serde_json::Value>(&json).expect("valid JSON");
        (super::text(json), super::text(go))
    };
    // A node costs about 7, and at the end of the depth 25 for its pointers too.
    let (json, go) = told(600);
    let nodes = json.matches("\"Text\"").count();
    assert!((15..=90).contains(&nodes), "{nodes} nodes");
    assert!(json.contains("\"$omitted\":") || json.contains("\"$cut\":\"follow-limit\""));
    assert!(go.contains("more}") || go.contains("/* follow-limit */"));
    // A limit in the middle of a text cuts the text.
    let (json, _) = told(3);
    assert!(json.contains("\"$prefix\":\"x") && json.contains("\"$len\":3000"), "{json}");
}

#[test]
fn what_needs_no_pointer_is_not_bounded() {
    let mut types = FakeTypes::new();
    let ints = types.slice("int");
    let mut memory = FakeMemory::default();
    memory.put_words(HEAP, &[7; 10_000]);
    let options = Options { follow_limit: 1, ..Options::default() };
    let told = json_with(&memory, &types, options, ints, &words(&[HEAP, 10_000, 10_000]));
    assert_eq!(told.matches('7').count(), 10_000);
}

/// A random type over the ones made so far.
fn grow(types: &mut FakeTypes, choices: &[(u8, u8, u8)]) -> Vec<TypeId> {
    let mut names: Vec<String> = [
        "int",
        "uint8",
        "bool",
        "string",
        "float64",
        "float32",
        "complex64",
        "complex128",
        "interface {}",
        "unsafe.Pointer",
        "int16",
    ]
    .iter()
    .map(|name| name.to_string())
    .collect();
    let mut ids: Vec<TypeId> = names.iter().map(|name| types.get(name)).collect();
    for (number, &(choice, first, second)) in choices.iter().enumerate() {
        let of = |index: u8| (names[index as usize % names.len()].clone(), ids[index as usize % ids.len()]);
        let (first, first_id) = of(first);
        let (second, second_id) = of(second);
        let size = |types: &FakeTypes, id| crate::types::TypeSource::load(types, id).unwrap().size;
        let name = format!("main.T{number}");
        let id = match choice % 9 {
            0 => types.add(&name, 8, Kind::Pointer, Shape::Pointer(Some(first_id))),
            1 => types.add(&name, 24, Kind::Slice, Shape::Slice(first_id)),
            2 => {
                let len = u64::from(choice / 9 % 3);
                types.add(&name, size(types, first_id) * len, Kind::Array, Shape::Array { elem: first_id, len })
            }
            3 | 4 => {
                let (a, b) = (size(types, first_id), size(types, second_id));
                types.structure(&name, a + b, &[("A", 0, &first), ("B", a, &second)])
            }
            5 => types.add(&name, 8, Kind::Chan, Shape::Chan(first_id)),
            6 => types.add(&name, 8, Kind::Func, Shape::Func),
            7 => types.add(&name, 16, Kind::Interface, Shape::Interface { methods: choice >= 128 }),
            _ => {
                let (a, b) = (size(types, first_id), size(types, second_id));
                let layout = ClassicLayout {
                    bucket_size: 8 + 8 * a + 8 * b + 8,
                    keys: 8,
                    key_size: a,
                    elems: 8 + 8 * a,
                    elem_size: b,
                    indirect_key: false,
                    indirect_elem: false,
                };
                let map = MapType { key: first_id, elem: second_id, layout: MapLayout::Classic(layout) };
                types.add(&name, 8, Kind::Map, Shape::Map(map.into()))
            }
        };
        names.push(name);
        ids.push(id);
    }
    ids
}

/// Words that are small, or addresses of the heap or of a descriptor, or anything.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0u64..6,
        4 => (0u64..512).prop_map(|i| HEAP + 8 * i),
        2 => (0u64..60).prop_map(|i| FIRST_DESCRIPTOR + 64 * i),
        1 => any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_of_random_types(
        choices in prop::collection::vec(any::<(u8, u8, u8)>(), 1..9),
        heap in prop::collection::vec(word(), 512),
        value in prop::collection::vec(word(), 64),
        cut in 0usize..600,
        mapped: bool,
    ) {
        let mut types = FakeTypes::new();
        let ids = grow(&mut types, &choices);
        let mut memory = FakeMemory { mapped, ..FakeMemory::default() };
        memory.put_words(HEAP, &heap);
        memory.put_words(FIRST_DESCRIPTOR, &heap);
        let options = Options { depth: 2, elements_limit: 3, ..Options::default() };
        for id in ids {
            let size = crate::types::TypeSource::load(&types, id).unwrap().size as usize;
            let mut bytes = words(&value);
            bytes.resize(size.min(1 << 12), 0x41);
            bytes.truncate(size.min(cut.max(8)));
            let json = json_with(&memory, &types, options.clone(), id, &bytes);
            serde_json::from_str::<serde_json::Value>(&json).map_err(|e| TestCaseError::fail(format!("{e}: {json}")))?;
            go_with(&memory, &types, options.clone(), id, &bytes);
            csv(&memory, &types, id, &bytes[..bytes.len().min(16)]);
        }
    }

    #[test]
    fn any_string_survives_json(bytes in prop::collection::vec(any::<u8>(), 0..64), text in ".{0,40}") {
        for bytes in [bytes, text.into_bytes()] {
            let mut out = Vec::new();
            crate::value::push_json_string(&mut out, &bytes);
            let parsed: serde_json::Value = serde_json::from_slice(&out).unwrap();
            match std::str::from_utf8(&bytes) {
                Ok(text) => prop_assert_eq!(parsed.as_str(), Some(text)),
                Err(_) => {
                    use base64::Engine;
                    let decoded = base64::engine::general_purpose::STANDARD.decode(parsed["$bytes"].as_str().unwrap());
                    prop_assert_eq!(decoded.unwrap(), bytes);
                }
            }
        }
    }
}
