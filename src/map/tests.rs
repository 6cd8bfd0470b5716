//! Hashes of whole keys against those that the Go runtime itself computed, 1.19 to 1.27, amd64 and arm64.

use super::hash::{Algorithm, HashState};
use super::keys::{KeyHash, Keys, Recipe};
use crate::types::{Kind, Shape, TypeId};
use crate::value::tests::fake::{words, FakeMemory, FakeTypes};
use proptest::prelude::*;
use serde_json::Value;

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap_or_default();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn number(value: &Value) -> u64 {
    u64::from_str_radix(value.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

fn state(set: &Value) -> HashState {
    let algorithm = match (set["use_aeshash"].as_bool().unwrap(), set["arch"].as_str().unwrap()) {
        (true, "amd64") => Algorithm::AmdAes,
        (true, _) => Algorithm::ArmAes,
        (false, _) => Algorithm::Fallback,
    };
    let schedule: [u8; 128] = unhex(&set["aeskeysched"]).try_into().unwrap();
    let keys: Vec<u64> = set["hashkey"].as_array().unwrap().iter().map(number).collect();
    let minor = set["go"].as_str().unwrap().split('.').nth(1).unwrap().parse().unwrap();
    HashState::new(algorithm, &schedule, keys.try_into().unwrap(), (1, minor))
}

/// A map's key type: its hasher to Go 1.26, and since 1.27, where that differs.
struct KeyType {
    id: TypeId,
    hasher: &'static str,
    hasher_1_27: &'static str,
    captured: u64,
}

/// The key type that a vector names, as the compiler lays it out.
fn key_type(types: &mut FakeTypes, name: &str) -> KeyType {
    let plain = |id, hasher| KeyType { id, hasher, hasher_1_27: hasher, captured: 0 };
    let generated = |id, signature| KeyType { id, hasher: "type:.hash.T", hasher_1_27: signature, captured: 0 };
    match name {
        "int32" => plain(types.get("int32"), "runtime.memhash32"),
        "int64" => plain(types.get("int64"), "runtime.memhash64"),
        "uint8" => plain(types.get("uint8"), "runtime.memhash8"),
        "bool" => plain(types.get("bool"), "runtime.memhash8"),
        "int16" => plain(types.get("int16"), "runtime.memhash16"),
        "*int" => plain(types.pointer("int"), "runtime.memhash64"),
        "float32" => plain(types.get("float32"), "runtime.f32hash"),
        "float64" => plain(types.get("float64"), "runtime.f64hash"),
        "complex64" => plain(types.get("complex64"), "runtime.c64hash"),
        "complex128" => plain(types.get("complex128"), "runtime.c128hash"),
        "string" => plain(types.get("string"), "runtime.strhash"),
        "any" => plain(types.get("interface {}"), "runtime.nilinterhash"),
        "interface{M()}" => {
            plain(types.add("I", 16, Kind::Interface, Shape::Interface { methods: true }), "runtime.interhash")
        }
        "struct{}" => plain(types.structure("T", 0, &[]), "runtime.memhash0"),
        "[4]int32" => plain(types.array(4, "int32"), "runtime.memhash128"),
        "struct{A, B int64}" => {
            plain(types.structure("T", 16, &[("A", 0, "int64"), ("B", 8, "int64")]), "runtime.memhash128")
        }
        "struct{A, B, C int32}" => {
            let fields = [("A", 0, "int32"), ("B", 4, "int32"), ("C", 8, "int32")];
            let id = types.structure("T", 12, &fields);
            KeyType { captured: 12, ..plain(id, "runtime.memhash_varlen") }
        }
        "[2]float32" => KeyType { hasher_1_27: "runtime.c64hash", ..generated(types.array(2, "float32"), "") },
        "[2]string" => generated(types.array(2, "string"), "type:.hash.SS"),
        "struct{A int32; _ int32; B int64}" => {
            let fields = [("A", 0, "int32"), ("_", 4, "int32"), ("B", 8, "int64")];
            generated(types.structure("T", 16, &fields), "type:.hash.M4K4M8")
        }
        "struct{A int8; B int64}" => {
            generated(types.structure("T", 16, &[("A", 0, "int8"), ("B", 8, "int64")]), "type:.hash.M1K7M8")
        }
        "struct{A int32; S string; B float64; C uint16}" => {
            let fields = [("A", 0, "int32"), ("S", 8, "string"), ("B", 24, "float64"), ("C", 32, "uint16")];
            generated(types.structure("T", 40, &fields), "type:.hash.M4K4SGM2")
        }
        "struct{A int64; F float32; G, H int32; I any}" => {
            let fields = [
                ("A", 0, "int64"),
                ("F", 8, "float32"),
                ("G", 12, "int32"),
                ("H", 16, "int32"),
                ("I", 24, "interface {}"),
            ];
            generated(types.structure("T", 40, &fields), "type:.hash.M8FM8K4E")
        }
        "struct{A int32; B [3]int8; C string; D int64; E bool}" => {
            types.array(3, "int8");
            let fields =
                [("A", 0, "int32"), ("B", 4, "[3]int8"), ("C", 8, "string"), ("D", 24, "int64"), ("E", 32, "bool")];
            generated(types.structure("T", 40, &fields), "type:.hash.M7K1SM9")
        }
        other => panic!("a vector has the unknown key type {other}"),
    }
}

/// The dynamic type that a vector's note names: (type, whether interfaces hold it directly).
fn dynamic_type(types: &mut FakeTypes, note: &str) -> Option<(TypeId, bool)> {
    let note = note.strip_prefix("dynamic ")?;
    let mut pair = |name: &str, first: &str, second: u64, size| {
        types.structure(name, size, &[("A", 0, first), ("B", second, "int64")])
    };
    Some(match note.split(" (").next()? {
        "struct{A,B int64}" | "struct{X,Y int64}" => (pair("D", "int64", 8, 16), false),
        "struct{A int8; B int64}" => (pair("D", "int8", 8, 16), false),
        "*int" => (types.pointer("int"), true),
        plain => (types.get(plain), false),
    })
}

/// The key's bytes, and what they lead to put into memory.
fn key_bytes(memory: &mut FakeMemory, types: &mut FakeTypes, vector: &Value) -> Vec<u8> {
    let text = unhex(&vector["string_bytes"]);
    let mut key = unhex(&vector["key_bytes"]);
    let note = vector["note"].as_str().unwrap_or_default();
    match vector["type"].as_str().unwrap() {
        "string" => {
            memory.put(0x1000, text.clone());
            words(&[0x1000, text.len() as u64])
        }
        ty @ ("any" | "interface{M()}") => {
            let Some((dynamic, direct)) = dynamic_type(types, note) else { return words(&[0, 0]) };
            let TypeId::Runtime(descriptor) = dynamic else { unreachable!() };
            let plain = !note.contains("string") && !note.contains("int8; B");
            let mut header = [0u8; 48];
            header[20] = if plain { 8 } else { 0 };
            header[23] = if direct { 1 << 5 } else { 0 };
            memory.put(descriptor, header);
            let mut value = unhex(&vector["dynamic_bytes"]);
            if note.contains("string") {
                memory.put(0x2000, text.clone());
                value = words(&[0x2000, text.len() as u64]);
            }
            let data = match direct {
                true => u64::from_le_bytes(value[..8].try_into().unwrap()),
                false => {
                    memory.put(0x3000, value);
                    0x3000
                }
            };
            memory.put(0x4000, words(&[0, descriptor]));
            words(&[if ty == "any" { descriptor } else { 0x4000 }, data])
        }
        ty => {
            // Vectors give strings within keys by their bytes; their addresses are those of the process.
            let mut rest = &text[..];
            for at in (0..key.len().saturating_sub(15)).step_by(8).filter(|_| ty.contains("string")) {
                let len = u64::from_le_bytes(key[at + 8..at + 16].try_into().unwrap()) as usize;
                let is_header = (ty.starts_with('[') && at % 16 == 0) || (!ty.starts_with('[') && at == 8);
                if is_header {
                    memory.put(0x1000 + at as u64, rest[..len].to_vec());
                    key[at..at + 8].copy_from_slice(&(0x1000 + at as u64).to_le_bytes());
                    rest = &rest[len..];
                }
            }
            key
        }
    }
}

#[test]
fn typed_hashes_equal_the_runtime_s() {
    let file: Value = serde_json::from_str(include_str!("../../tests/data/hash-vectors.json")).unwrap();
    let mut checked = 0;
    for set in file["sets"].as_array().unwrap() {
        for state in [state(set), state(set).portable()] {
            for vector in set["vectors"].as_array().unwrap().iter().filter(|vector| vector["kind"] == "map") {
                let (mut memory, mut types) = (FakeMemory::default(), FakeTypes::new());
                let ty = key_type(&mut types, vector["type"].as_str().unwrap());
                let key = key_bytes(&mut memory, &mut types, vector);
                let hasher = if state.go() >= (1, 27) { ty.hasher_1_27 } else { ty.hasher };
                let recipe = Recipe::of_hasher(&memory, &types, ty.id, hasher, ty.captured, state.go());
                let recipe = recipe.unwrap().unwrap_or_else(|| panic!("{hasher} is not known"));
                let hash = Keys::new(&memory, &types).hash(&state, &recipe, &key, number(&vector["seed"])).unwrap();
                assert_eq!(hash, KeyHash::Known(number(&vector["hash"])), "{} {} {vector}", set["go"], set["arch"]);
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 15 * 2 * 68, "vectors that give the hash of a typed key");
}

#[test]
fn hashes_that_have_no_value_say_why() {
    let (mut memory, mut types) = (FakeMemory::default(), FakeTypes::new());
    let slice = types.slice("int");
    let TypeId::Runtime(descriptor) = slice else { unreachable!() };
    memory.put(descriptor, [0; 48]);
    memory.put(0x1000, words(&[0, 0, 0]));
    let any = types.get("interface {}");
    let state = HashState::new(Algorithm::Fallback, &[0; 128], [1, 2, 3, 4], (1, 25));
    let keys = Keys::new(&memory, &types);
    let recipe = |key, hasher| Recipe::of_hasher(&memory, &types, key, hasher, 0, (1, 25)).unwrap();
    let hash = |key, hasher, bytes: &[u8]| keys.hash(&state, &recipe(key, hasher).unwrap(), bytes, 7);
    let of_slice = hash(any, "runtime.nilinterhash", &words(&[descriptor, 0x1000])).unwrap();
    assert_eq!(of_slice, KeyHash::Unhashable("[]int".into()));
    let nan = hash(types.get("float64"), "runtime.f64hash", &f64::NAN.to_le_bytes()).unwrap();
    assert_eq!(nan, KeyHash::Random);
    let bad_string = hash(types.get("string"), "runtime.strhash", &words(&[0xdead_0000, 5]));
    assert!(bad_string.unwrap_err().to_string().contains("0xdead0000"));
    assert_eq!(recipe(any, "main.myHasher"), None);
    assert!(hash(any, "runtime.nilinterhash", &[0; 8]).is_err());
}

#[test]
fn a_signature_that_no_compiler_writes_is_refused() {
    let types = FakeTypes::new();
    let parse = |signature: &str| {
        let name = format!("type:.hash.{signature}");
        Recipe::of_hasher(&FakeMemory::default(), &types, types.get("int"), &name, 0, (1, 27)).unwrap()
    };
    for bad in ["M", "Q4", "[4S", "S]", "[16777216[16777216]]", "M99999999999999999999", &"[2".repeat(200)] {
        assert_eq!(parse(bad), None, "{bad}");
    }
    let repeated = Recipe::Repeat(4, 16, Box::new(Recipe::Pieces(vec![(0, Recipe::String)])));
    assert_eq!(parse("M4K4[4S]"), Some(Recipe::Pieces(vec![(0, Recipe::Memory32), (8, repeated)])));
}

/// Before Go 1.23 `reflect.StructOf` does not flag a plain struct so: `typehash` goes field by field.
#[test]
fn the_flag_of_the_descriptor_decides_how_typehash_goes() {
    let (mut memory, mut types) = (FakeMemory::default(), FakeTypes::new());
    let pair = types.structure("struct { A int32; B int32 }", 8, &[("A", 0, "int32"), ("B", 4, "int32")]);
    let TypeId::Runtime(descriptor) = pair else { unreachable!() };
    let mut header = [0u8; 48];
    memory.put(descriptor, header);
    let recipe = |memory: &FakeMemory| {
        Recipe::of_hasher(memory, &types, pair, "reflect.MapOf.func1", 0, (1, 22)).unwrap().unwrap()
    };
    assert_eq!(recipe(&memory), Recipe::Pieces(vec![(0, Recipe::Memory32), (4, Recipe::Memory32)]));
    header[20] = 8;
    memory.put(descriptor, header);
    assert_eq!(recipe(&memory), Recipe::Memory64);
}

proptest! {
    /// The processor's AES and the portable one are one function, for every length class.
    #[test]
    fn the_portable_hash_equals_the_native_one(
        data in prop::collection::vec(any::<u8>(), 0..1100),
        schedule in any::<[[u8; 32]; 4]>(),
        seed in any::<u64>(),
    ) {
        let schedule: [u8; 128] = schedule.concat().try_into().unwrap();
        let native = HashState::new(Algorithm::AmdAes, &schedule, [0; 4], (1, 27));
        let portable = native.clone().portable();
        prop_assert_eq!(native.memhash(&data, seed), portable.memhash(&data, seed));
        prop_assert_eq!(native.memhash64(seed ^ 7, seed), portable.memhash64(seed ^ 7, seed));
        prop_assert_eq!(native.memhash32(seed as u32, seed), portable.memhash32(seed as u32, seed));
    }
}

/// Hashing alone must stay far from being what a check of 10^7 keys waits for.
#[test]
#[ignore = "a measurement: run with --release -- --ignored --nocapture"]
fn ten_million_integers_are_hashed_in_time() {
    let schedule: [u8; 128] = std::array::from_fn(|i| i as u8 ^ 0x5a);
    let keys: Vec<u64> = (0..10_000_000).collect();
    for algorithm in [Algorithm::AmdAes, Algorithm::Fallback, Algorithm::ArmAes] {
        for state in [HashState::new(algorithm, &schedule, [1, 2, 3, 4], (1, 27))] {
            for state in [state.clone(), state.portable()] {
                let start = std::time::Instant::now();
                let all = keys.iter().fold(0u64, |all, &key| all ^ state.memhash64(key, 42));
                let rate = keys.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
                println!("{algorithm:?}: {rate:.0} M keys/s ({all:#x})");
            }
        }
    }
}
