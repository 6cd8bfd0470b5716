//! What vectors cannot show of hashes: failures, odd hasher names, both kinds of AES, speed.

use super::hash::{Algorithm, HashState};
use super::keys::{KeyHash, Keys, Recipe};
use crate::types::{Kind, TypeId, TypeSource};
use crate::value::tests::fake::{words, FakeMemory, FakeTypes};
use proptest::prelude::*;

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

/// Pairs of keys that differ in one place, and whether Go's `==` takes them for one.
#[test]
fn a_key_is_what_equality_looks_at() {
    let (mut memory, mut types) = (FakeMemory::default(), FakeTypes::new());
    let padded = [("A", 0, "int8"), ("_", 1, "int8"), ("B", 8, "string")];
    let padded = types.structure("main.padded", 24, &padded);
    let (ours, theirs) = (types.plain("main.T", Kind::Int), types.plain("main.U", Kind::Int));
    let (pointer, floats) = (types.pointer("int"), types.array(2, "float64"));
    let long: Vec<u8> = (0..300).map(|i| if i == 250 { b'x' } else { b'a' }).collect();
    memory.put(0x1000, long.clone());
    memory.put(0x2000, long.iter().map(|_| b'a').collect::<Vec<u8>>());
    memory.put(0x3000, long);
    memory.put(0x4000, words(&[7]));
    memory.put(0x5000, words(&[7]));
    for descriptor in [ours, theirs, types.get("int"), types.get("int64")] {
        let TypeId::Runtime(at) = descriptor else { unreachable!() };
        memory.put(at, [0; 48]);
    }
    let of = |name: &str| types.descriptor(name);
    let nan = |low: u64| f64::NAN.to_bits() | low;
    let bytes = |a: u64, b: u64, data: u64| [words(&[a | b << 8]), words(&[data, 300])].concat();
    let any = types.get("interface {}");
    let cases: [(TypeId, Vec<u8>, Vec<u8>, bool); 12] = [
        (types.get("string"), words(&[0x1000, 300]), words(&[0x2000, 300]), false),
        (types.get("string"), words(&[0x1000, 300]), words(&[0x3000, 300]), true),
        (types.get("string"), words(&[0x1000, 300]), words(&[0x1000, 299]), false),
        (types.get("float64"), words(&[0]), words(&[1 << 63]), true),
        (types.get("float64"), words(&[nan(1)]), words(&[nan(2)]), false),
        (floats, words(&[0, 1 << 63]), words(&[1 << 63, 0]), true),
        (pointer, words(&[0x4000]), words(&[0x5000]), false),
        (any, words(&[of("main.T"), 0x4000]), words(&[of("main.T"), 0x5000]), true),
        (any, words(&[of("main.T"), 0x4000]), words(&[of("main.U"), 0x4000]), false),
        (any, words(&[of("int"), 0x4000]), words(&[of("int64"), 0x4000]), false),
        // Blank and padding bytes do not count; the first field does.
        (padded, bytes(1, 0xff, 0x1000), bytes(1, 0, 0x3000), true),
        (padded, bytes(1, 0, 0x1000), bytes(2, 0, 0x1000), false),
    ];
    let keys = Keys::new(&memory, &types);
    for (ty, a, b, same) in cases {
        let ty = types.load(ty).unwrap();
        let [a, b] = [a, b].map(|key| keys.identity(&ty, &key).unwrap());
        assert_eq!(a == b, same, "{}", ty.name);
        assert_eq!(a.digest() == b.digest(), same, "{}", ty.name);
        assert_eq!(a.is_nan(), a != b && &*ty.name == "float64");
    }
    let unreadable = types.load(types.get("string")).unwrap();
    assert!(keys.identity(&unreadable, &words(&[0xdead_0000, 1 << 60])).is_err());
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
        for (algorithm, go) in [(Algorithm::AmdAes, 27), (Algorithm::ArmAes, 19), (Algorithm::ArmAes, 27)] {
            let native = HashState::new(algorithm, &schedule, [0; 4], (1, go));
            let portable = native.clone().portable();
            prop_assert_eq!(native.memhash(&data, seed), portable.memhash(&data, seed));
            prop_assert_eq!(native.memhash64(seed ^ 7, seed), portable.memhash64(seed ^ 7, seed));
            prop_assert_eq!(native.memhash32(seed as u32, seed), portable.memhash32(seed as u32, seed));
        }
    }
}

/// Hashing alone must stay far from being what a check of 10^7 keys waits for.
#[test]
#[ignore = "a measurement: run with --release -- --ignored --nocapture"]
fn ten_million_integers_are_hashed_in_time() {
    let schedule: [u8; 128] = std::array::from_fn(|i| i as u8 ^ 0x5a);
    let keys: Vec<u64> = (0..10_000_000).collect();
    for algorithm in [Algorithm::AmdAes, Algorithm::Fallback, Algorithm::ArmAes] {
        let state = HashState::new(algorithm, &schedule, [1, 2, 3, 4], (1, 27));
        for (rounds, state) in [("native", state.clone()), ("portable", state.portable())] {
            let start = std::time::Instant::now();
            let all = keys.iter().fold(0u64, |all, &key| all ^ state.memhash64(key, 42));
            let rate = keys.len() as f64 / start.elapsed().as_secs_f64() / 1e6;
            println!("{algorithm:?}, {rounds}: {rate:.0} M keys/s ({all:#x})");
        }
    }
}
