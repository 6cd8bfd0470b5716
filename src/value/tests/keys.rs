//! Key literals: their layout by hand, their text against what Go prints, and what errors say.

use super::fake::{words, FakeMemory, FakeTypes};
use super::go_with;
use super::vectors::{hex, rows};
use crate::types::{Kind, Shape};
use crate::value::{parse_key, Arena, Context, GoSyntax, Options, Overlay};
use proptest::prelude::*;

const BASE: u64 = Arena::BASE;

fn target() -> FakeTypes {
    let mut types = FakeTypes::new();
    types.plain("main.UserID", Kind::String);
    types.pointer("int");
    types.array(2, "int");
    types.structure("main.P", 24, &[("N", 0, "int"), ("S", 8, "string")]);
    types.structure("main.Padded", 16, &[("A", 0, "uint8"), ("_", 1, "uint8"), ("B", 8, "int")]);
    types.structure("main.Box", 8, &[("p", 0, "*int")]);
    types.structure("struct {}", 0, &[]);
    types.array(2, "main.P");
    types.add("main.Stringer", 16, Kind::Interface, Shape::Interface { methods: true });
    types.slice("int");
    types
}

#[test]
fn keys_are_laid_out_as_the_runtime_does() {
    let types = target();
    let descriptor = |name: &str| types.descriptor(name);
    let table: Vec<(&str, &str, Vec<u8>, Vec<u8>)> = vec![
        ("int8", "-128", vec![0x80], vec![]),
        ("uint8", "0xff", vec![255], vec![]),
        ("uint16", "1_000", vec![0xe8, 3], vec![]),
        ("int32", "'é'", vec![0xe9, 0, 0, 0], vec![]),
        ("int64", "-9223372036854775808", words(&[1 << 63]), vec![]),
        ("uint64", "18446744073709551615", words(&[u64::MAX]), vec![]),
        ("int", "0b101", words(&[5]), vec![]),
        ("int", "0o17", words(&[15]), vec![]),
        ("int", "017", words(&[15]), vec![]),
        ("int", "1e3", words(&[1000]), vec![]),
        ("int", "int(7)", words(&[7]), vec![]),
        ("float64", "1.5", words(&[1.5f64.to_bits()]), vec![]),
        ("float64", "-Inf", words(&[f64::NEG_INFINITY.to_bits()]), vec![]),
        ("float32", "0.1", 0.1f32.to_le_bytes().to_vec(), vec![]),
        ("complex128", "(1-2i)", words(&[1f64.to_bits(), (-2f64).to_bits()]), vec![]),
        ("complex128", "2i", words(&[0, 2f64.to_bits()]), vec![]),
        ("bool", "true", vec![1], vec![]),
        ("string", r#""""#, words(&[0, 0]), vec![]),
        ("string", r#" "a\x00\u00e9\n" "#, words(&[BASE, 5]), b"a\0\xc3\xa9\n".to_vec()),
        ("string", "`a\\n`", words(&[BASE, 3]), b"a\\n".to_vec()),
        ("main.UserID", r#"main.UserID("u")"#, words(&[BASE, 1]), b"u".to_vec()),
        ("main.UserID", r#"UserID("u")"#, words(&[BASE, 1]), b"u".to_vec()),
        ("*int", "0xc000012340", words(&[0xc0_0001_2340]), vec![]),
        ("*int", "(*int)(0x10)", words(&[0x10]), vec![]),
        ("*int", "nil", words(&[0]), vec![]),
        ("[2]int", "{1, 2}", words(&[1, 2]), vec![]),
        ("[2]int", "[2]int{1}", words(&[1, 0]), vec![]),
        ("[2]int", "[...]int{1,2,}", words(&[1, 2]), vec![]),
        ("struct {}", "{}", vec![], vec![]),
        ("struct {}", "struct{}{}", vec![], vec![]),
        ("main.P", r#"{1, "a"}"#, words(&[1, BASE, 1]), b"a".to_vec()),
        ("main.P", r#"P{S: "a"}"#, words(&[0, BASE, 1]), b"a".to_vec()),
        ("main.Padded", "main.Padded{A: 1, B: 2}", words(&[1, 2]), vec![]),
        (
            "[2]main.P",
            r#"{{1, "a"}, {S: "b", N: 2}}"#,
            words(&[1, BASE, 1, 2, BASE + 8, 1]),
            b"a\0\0\0\0\0\0\0b".to_vec(),
        ),
        ("interface {}", "nil", words(&[0, 0]), vec![]),
        ("interface {}", "42", words(&[descriptor("int"), BASE]), words(&[42])),
        ("interface {}", "4.0", words(&[descriptor("float64"), BASE]), words(&[4f64.to_bits()])),
        ("interface {}", "'x'", words(&[descriptor("int32"), BASE]), vec![b'x', 0, 0, 0]),
        ("interface {}", "true", words(&[descriptor("bool"), BASE]), vec![1]),
        ("interface {}", "int64(1)", words(&[descriptor("int64"), BASE]), words(&[1])),
        ("interface {}", "byte(1)", words(&[descriptor("uint8"), BASE]), vec![1]),
        (
            "interface {}",
            r#"main.UserID("u1")"#,
            words(&[descriptor("main.UserID"), BASE + 8]),
            [b"u1\0\0\0\0\0\0".to_vec(), words(&[BASE, 2])].concat(),
        ),
        ("interface {}", "(*int)(0x10)", words(&[descriptor("*int"), 0x10]), vec![]),
        ("interface {}", "main.Box{0x10}", words(&[descriptor("main.Box"), 0x10]), vec![]),
        ("interface {}", "struct{}{}", words(&[descriptor("struct {}"), BASE]), vec![]),
        ("interface {}", "[2]int{1, 2}", words(&[descriptor("[2]int"), BASE]), words(&[1, 2])),
        (
            "main.Stringer",
            r#"UserID("u")"#,
            words(&[BASE + 8, BASE + 32]),
            [b"u\0\0\0\0\0\0\0".to_vec(), words(&[0, descriptor("main.UserID"), 0, BASE, 1])].concat(),
        ),
    ];
    for (ty, literal, key, arena) in table {
        let (bytes, held) = parse_key(&types, types.get(ty), literal).unwrap_or_else(|e| panic!("{literal}: {e}"));
        assert_eq!(bytes, key, "{literal} as {ty}");
        assert_eq!(held.bytes(), arena, "arena of {literal} as {ty}");
    }
}

#[test]
fn what_is_printed_can_be_typed_in_again() {
    let types = target();
    let memory = FakeMemory::default();
    for (ty, literal) in [
        ("[2]main.P", r#"[2]main.P{main.P{N:1, S:"a\"\x00"}, main.P{N:-2, S:""}}"#),
        ("interface {}", r#"main.UserID("u1")"#),
        ("interface {}", "float64(1)"),
        ("interface {}", "uint8(0xff)"),
        ("interface {}", "complex64((1+2i))"),
        ("interface {}", r#"main.P{N:1, S:"é"}"#),
        ("main.Stringer", "(*int)(nil)"),
    ] {
        let (key, arena) = parse_key(&types, types.get(ty), literal).unwrap_or_else(|e| panic!("{literal}: {e}"));
        let overlay = Overlay::new(&arena, &memory);
        let context = Context::new(&overlay, &types, Options::default(), &crate::error::Quiet);
        let mut out = Vec::new();
        context.plan(types.get(ty)).unwrap().write(&context, &key, &mut GoSyntax::new(&mut out, false)).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), literal);
    }
}

#[test]
fn literals_that_go_wrote_give_the_bytes_it_had() {
    let types = target();
    for row in rows("str", 300) {
        let (key, arena) = parse_key(&types, types.get("string"), row[2]).unwrap();
        assert_eq!(arena.bytes(), hex(row[1]), "{row:?}");
        assert_eq!(key[8..], (arena.bytes().len() as u64).to_le_bytes());
    }
    for row in rows("f64", 1000) {
        let bits = u64::from_str_radix(row[1], 16).unwrap();
        for text in &row[2..4] {
            assert_eq!(parse_key(&types, types.get("float64"), text).unwrap().0, bits.to_le_bytes(), "{row:?}");
        }
    }
    for row in rows("f32", 500) {
        let bits = u32::from_str_radix(row[1], 16).unwrap();
        assert_eq!(parse_key(&types, types.get("float32"), row[2]).unwrap().0, bits.to_le_bytes(), "{row:?}");
    }
}

#[test]
fn errors_say_where_and_what() {
    let types = target();
    for (ty, literal, sentence) in [
        (
            "string",
            "alice",
            r#"column 1 of the key: expected a string in double quotes: "alice"; a key of type string is written like "text""#,
        ),
        (
            "string",
            r#""é"x"#,
            r#"column 4 of the key: expected the end of the key; a key of type string is written like "text""#,
        ),
        (
            "string",
            r#""abc"#,
            r#"column 5 of the key: expected a closing "; a key of type string is written like "text""#,
        ),
        (
            "uint8",
            "256",
            "column 1 of the key: expected a uint8 from 0 to 255, not 256; a key of type uint8 is written like 42",
        ),
        ("int", "1.5", "column 1 of the key: expected an integer; a key of type int is written like 42"),
        (
            "main.P",
            "{1}",
            r#"column 3 of the key: expected all 2 fields of main.P, or fields by name; a key of type main.P is written like {42, "text"}"#,
        ),
        (
            "main.P",
            "{X: 1}",
            r#"column 2 of the key: expected a field, one of N, S; a key of type main.P is written like {42, "text"}"#,
        ),
        (
            "[2]int",
            "{1, 2, 3}",
            "column 8 of the key: expected } after 2 elements; a key of type [2]int is written like {42, 42}",
        ),
        (
            "interface {}",
            "main.Nope(1)",
            r#"column 1 of the key: expected a type of this binary, and main.Nope is not one; a key of type interface {} is written like int64(42) or "text""#,
        ),
        ("[]int", "{1}", "a []int cannot be a map key: the program would panic (hash of unhashable type []int)"),
    ] {
        let error = parse_key(&types, types.get(ty), literal).expect_err(literal).to_string();
        assert_eq!(error, sentence);
    }
}

#[test]
fn the_overlay_leaves_the_target_as_it_is() {
    let types = target();
    let mut memory = FakeMemory::default();
    memory.put_words(0x1000, &[7]);
    let (key, arena) = parse_key(&types, types.get("string"), "\"abc\"").unwrap();
    let overlay = Overlay::new(&arena, &memory);
    let overlay: &dyn crate::memory::Memory = &overlay;
    assert_eq!(overlay.u64(0x1000), Ok(7));
    assert_eq!(&*overlay.bytes(BASE, 3).unwrap(), b"abc");
    assert!(overlay.bytes(BASE, 4).is_err() && overlay.u64(0x2000).is_err());
    assert!(go_with(&memory, &types, Options::default(), types.get("string"), &key).contains("not in this core"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_key_or_an_error(text in "[-+0-9a-zA-Z_.'\"`\\\\(){}\\[\\],: *é]{0,24}|\\PC{0,12}") {
        let types = target();
        for ty in ["int", "float32", "string", "complex64", "[2]main.P", "interface {}", "*int", "bool", "main.Padded"] {
            if let Err(error) = parse_key(&types, types.get(ty), &text) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
    }
}
