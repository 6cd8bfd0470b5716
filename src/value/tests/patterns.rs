//! `--where`: each form of pattern on entries made by hand.

use super::fake::{words, FakeMemory, FakeTypes};
use crate::error::Quiet;
use crate::types::{Field, Kind, Shape};
use crate::value::{Context, Filter, Options};
use proptest::prelude::*;

const HEAP: u64 = 0x10_0000;

/// `map[string]*main.User`, with `main.User{*Base; Name string; Any any; Ratio float32}` and `Base{ID int}`.
fn target() -> (FakeMemory, FakeTypes) {
    let mut types = FakeTypes::new();
    types.structure("main.Base", 8, &[("ID", 0, "int")]);
    types.pointer("main.Base");
    let field = |types: &FakeTypes, name: &str, offset, ty: &str, embedded| Field {
        name: name.into(),
        offset,
        ty: types.get(ty),
        embedded,
    };
    let fields = vec![
        field(&types, "Base", 0, "*main.Base", true),
        field(&types, "Name", 8, "string", false),
        field(&types, "Any", 24, "interface {}", false),
        field(&types, "Ratio", 40, "float32", false),
        field(&types, "On", 44, "bool", false),
    ];
    types.add("main.User", 48, Kind::Struct, Shape::Struct(fields));
    types.pointer("main.User");
    let mut memory = FakeMemory::default();
    let ratio = u64::from(0.1f32.to_bits()) | 1 << 32;
    memory.put_words(HEAP, &[HEAP + 0x100, HEAP + 0x200, 3, types.descriptor("int64"), HEAP + 0x108, ratio]);
    memory.put_words(HEAP + 0x100, &[41, 7]);
    memory.put(HEAP + 0x200, *b"Bobuser:12.x\xff");
    (memory, types)
}

fn matches(pattern: &str, key: &str, elem: &str, key_bytes: &[u8], elem_bytes: &[u8]) -> bool {
    let (memory, types) = target();
    let filter = Filter::compile(&types, types.get(key), types.get(elem), pattern).unwrap_or_else(|e| panic!("{e}"));
    let context = Context::new(&memory, &types, Options { string_limit: 2, ..Options::default() }, &Quiet);
    filter.matches(&context, key_bytes, elem_bytes).unwrap()
}

#[test]
fn each_form_of_pattern() {
    let key = words(&[HEAP + 0x203, 9]); // "user:12.x"
    for (pattern, expected) in [
        ("user:1", true),
        ("user:2", false),
        ("er:12.", true),
        ("User", false),
        ("user:*", true),
        ("user", true),
        ("*12", false),
        ("user:??.x", true),
        ("user:?.x", false),
        ("/^user:\\d+/", true),
        ("/^ser/", false),
        ("key==\"user:12.x\"", true),
        ("key != `user:12.x`", false),
        ("key > \"user\" && key < \"usf\"", true),
        ("key=~/12\\.x$/", true),
        ("key !~ /a\\/b/", true),
        ("elem.Name == \"Bob\"", true),
        ("elem.Name == \"Bo\"", false),
        ("elem.ID >= 41 && elem.ID < 42", true),
        ("elem.Base.ID == 0x29", true),
        ("elem.ID == 41.5", false),
        ("elem.ID > -1.5", true),
        ("elem.Ratio == 0.1", true),
        ("elem.On == true", true),
        ("elem.On != true", false),
        ("elem.Any == 7", true),
        ("elem.Any == \"7\"", false),
        ("elem.Any =~ /^7$/", true),
        ("elem.Any != nil && elem != nil", true),
        ("elem == nil", false),
    ] {
        assert_eq!(matches(pattern, "string", "*main.User", &key, &words(&[HEAP])), expected, "{pattern}");
    }
}

#[test]
fn what_is_behind_nil_or_missing_memory_matches_only_nil() {
    let key = words(&[0, 0]);
    for elem in [0, 0x10] {
        for pattern in ["elem.Name == \"\"", "elem.Name != \"x\"", "elem.ID < 5", "elem.Name =~ /./"] {
            assert!(!matches(pattern, "string", "*main.User", &key, &words(&[elem])), "{pattern} of {elem:#x}");
        }
        assert_eq!(matches("elem == nil", "string", "*main.User", &key, &words(&[elem])), elem == 0);
    }
}

#[test]
fn numbers_compare_by_value_at_every_width() {
    for (ty, value, pattern, expected) in [
        ("int8", vec![0xff], "key < 0", true),
        ("uint8", vec![0xff], "key == 255", true),
        ("int16", vec![0, 0x80], "key == -32768", true),
        ("uint32", vec![0xff; 4], "key > 4294967294", true),
        ("int64", words(&[1 << 63]), "key <= -9223372036854775808", true),
        ("uint64", words(&[u64::MAX]), "key == 18446744073709551615", true),
        ("uint64", words(&[42]), "42", true),
        ("float64", words(&[f64::NAN.to_bits()]), "key == NaN", false),
        ("float64", words(&[f64::NAN.to_bits()]), "key != NaN", true),
        ("float64", words(&[f64::NAN.to_bits()]), "NaN", true),
        ("float64", words(&[1e3f64.to_bits()]), "key == 1000", true),
        ("int32", vec![b'x', 0, 0, 0], "key == 'x'", true),
    ] {
        assert_eq!(matches(pattern, ty, "int", &value, &words(&[0])), expected, "{pattern} of {ty}");
    }
}

#[test]
fn errors_say_where_and_what() {
    let (_, types) = target();
    for (pattern, part) in [
        ("key == x", "column 8 of the pattern: expected a string in double quotes, a number, true, false or nil"),
        ("key == 1", "column 8 of the pattern: expected a string in double quotes, for a string"),
        ("elem.Nope == 1", "column 6 of the pattern: expected a field of main.User: Base, Name, Any, Ratio, On"),
        ("elem.ID.X == 1", "column 9 of the pattern: expected an operator: int has no fields"),
        ("elem.ID == 1 elem", "column 14 of the pattern: expected && or the end"),
        ("elem.On < true", "column 11 of the pattern: expected == or != and true or false, for a bool"),
        ("/(/", "column 1 of the pattern: expected a regular expression"),
        ("key =~ /a", "column 10 of the pattern: expected a closing /"),
        ("elem == 1", "expected one of its fields before the operator"),
    ] {
        let error = Filter::compile(&types, types.get("string"), types.get("*main.User"), pattern);
        let error = error.expect_err(pattern).to_string();
        assert!(error.contains(part), "{pattern}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_pattern_or_an_error(
        text in "(key|elem)?(\\.(ID|Name|Any))?( ?(==|=~|<|!=) ?)?[-+0-9a-z.'\"/&*?\\\\(é]{0,8}",
        value in prop::collection::vec(any::<u64>(), 2),
    ) {
        let (memory, types) = target();
        if let Ok(filter) = Filter::compile(&types, types.get("string"), types.get("*main.User"), &text) {
            let context = Context::new(&memory, &types, Options::default(), &Quiet);
            for elem in [HEAP, 0, value[0]] {
                filter.matches(&context, &words(&value), &words(&[elem])).unwrap();
            }
        }
    }
}
