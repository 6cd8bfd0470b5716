//! Each kind in each form. The expected text is written by hand from the JSON contract and from `%#v`.

use super::fake::{words, FakeMemory, FakeTypes};
use super::{csv, go_with, json_with};
use crate::types::{ClassicLayout, Kind, MapLayout, MapType, Shape};
use crate::value::{short_name, Options};

const TEXT: u64 = 0xc000_0000;
const HEAP: u64 = 0xc000_1000;

/// Types and memory that the tables below share.
fn target() -> (FakeMemory, FakeTypes) {
    let mut types = FakeTypes::new();
    types.plain("main.UserID", Kind::String);
    types.structure("main.T", 24, &[("A", 0, "int"), ("_", 8, "int"), ("b", 16, "uint8")]);
    types.pointer("int");
    types.pointer("main.T");
    types.structure("main.Node", 16, &[("V", 0, "int"), ("Next", 8, "*int")]);
    let node = types.pointer("main.Node");
    types.structure("main.Node", 16, &[("V", 0, "int"), ("Next", 8, "*main.Node")]);
    let new_node = types.get("main.Node");
    types.redefine("*main.Node", Shape::Pointer(Some(new_node)));
    assert_eq!(node, types.get("*main.Node"));
    types.slice("int");
    types.slice("uint8");
    types.slice("interface {}");
    types.array(2, "int");
    types.array(0, "int");
    types.array(3, "uint8");
    types.structure("struct {}", 0, &[]);
    types.slice("struct {}");
    types.add("error", 16, Kind::Interface, Shape::Interface { methods: true });
    types.add("func()", 8, Kind::Func, Shape::Func);
    let int = types.get("int");
    types.add("chan int", 8, Kind::Chan, Shape::Chan(int));
    types.structure("main.Box", 8, &[("P", 0, "*int")]);
    types.structure("time.Time", 24, &[("wall", 0, "uint64"), ("ext", 8, "int64"), ("loc", 16, "unsafe.Pointer")]);
    types.add("main.Loop", 24, Kind::Slice, Shape::Plain);
    let looped = types.get("main.Loop");
    types.redefine("main.Loop", Shape::Slice(looped));
    let string = types.get("string");
    let layout = ClassicLayout {
        bucket_size: 8 + 8 * 16 + 8 * 8 + 8,
        keys: 8,
        key_size: 16,
        elems: 136,
        elem_size: 8,
        indirect_key: false,
        indirect_elem: false,
    };
    let map = MapType { key: string, elem: int, layout: MapLayout::Classic(layout) };
    types.add("map[string]int", 8, Kind::Map, Shape::Map(map.into()));

    let mut memory = FakeMemory::default();
    memory.put(TEXT, *b"hello \"w\"\n\xff\xc3\xa9!,x");
    memory.put_words(HEAP, &[7, HEAP + 0x100]);
    memory.put_words(HEAP + 0x100, &[8, HEAP]);
    memory.put_words(HEAP + 0x200, &[1, 2, 3]);
    memory.put_words(HEAP + 0x300, &[0x40_1000]);
    memory.put_words(HEAP + 0x310, &[0x40_2000]);
    memory.put_words(HEAP + 0x320, &[3, 8]);
    // An itab for *main.T, then a slice of itself.
    memory.put_words(HEAP + 0x400, &[0, types.descriptor("*main.T"), 0]);
    memory.put_words(HEAP + 0x500, &[HEAP + 0x500, 1, 1]);
    memory.put_words(HEAP + 0x600, &[types.descriptor("int"), HEAP, types.descriptor("main.UserID"), HEAP + 0x640]);
    memory.put_words(HEAP + 0x640, &[TEXT, 5]);
    // The descriptor of main.Box: KindDirectIface set in Kind_.
    memory.put(types.descriptor("main.Box"), {
        let mut descriptor = vec![0; 24];
        descriptor[23] = 25 | 1 << 5;
        descriptor
    });
    // runtime.hmap with B 0, two entries; its bucket.
    let mut header = words(&[2, 0, 0, 0, 0, 0]);
    header[16..24].copy_from_slice(&(HEAP + 0x800).to_le_bytes());
    memory.put(HEAP + 0x700, header);
    let mut bucket = vec![0; 208];
    bucket[0] = 0x80;
    bucket[3] = 0x90;
    bucket[8..24].copy_from_slice(&words(&[TEXT, 5]));
    bucket[8 + 48..8 + 64].copy_from_slice(&words(&[TEXT, 1]));
    bucket[136] = 1;
    bucket[136 + 24] = 4;
    memory.put(HEAP + 0x800, bucket);
    (memory, types)
}

#[test]
fn every_kind_in_every_form() {
    let (mut memory, types) = target();
    let double = |value: f64| value.to_bits();
    let table: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("bool", vec![1], "true", "true"),
        ("int8", vec![0x80], "-128", "-128"),
        ("int16", vec![0xff, 0xff], "-1", "-1"),
        ("int32", vec![0, 0, 0, 0x80], "-2147483648", "-2147483648"),
        ("int64", words(&[1 << 63]), "-9223372036854775808", "-9223372036854775808"),
        ("int", words(&[42]), "42", "42"),
        ("uint8", vec![255], "255", "0xff"),
        ("uint16", vec![1, 1], "257", "0x101"),
        ("uint32", vec![255; 4], "4294967295", "0xffffffff"),
        ("uint64", words(&[u64::MAX]), "18446744073709551615", "0xffffffffffffffff"),
        ("uintptr", words(&[16]), "16", "0x10"),
        ("float64", words(&[double(1e21)]), "1e+21", "1e+21"),
        ("float64", words(&[double(-0.0)]), "-0", "-0"),
        ("float64", words(&[double(f64::from_bits(0x7ff8_0000_0000_0001))]), r#"{"$float":"NaN"}"#, "NaN"),
        ("float64", words(&[double(f64::NEG_INFINITY)]), r#"{"$float":"-Inf"}"#, "-Inf"),
        ("float32", 0.1f32.to_le_bytes().to_vec(), "0.1", "0.1"),
        ("float32", f32::INFINITY.to_le_bytes().to_vec(), r#"{"$float":"+Inf"}"#, "+Inf"),
        ("complex128", words(&[double(1.0), double(-2.5)]), r#"{"$complex":[1,-2.5]}"#, "(1-2.5i)"),
        (
            "complex128",
            words(&[double(1.0), double(f64::INFINITY)]),
            r#"{"$complex":[1,{"$float":"+Inf"}]}"#,
            "(1+Infi)",
        ),
        ("complex64", [1f32.to_le_bytes(), 0.1f32.to_le_bytes()].concat(), r#"{"$complex":[1,0.1]}"#, "(1+0.1i)"),
        ("string", words(&[0, 0]), r#""""#, r#""""#),
        ("string", words(&[TEXT, 10]), r#""hello \"w\"\n""#, r#""hello \"w\"\n""#),
        ("string", words(&[TEXT + 10, 4]), r#"{"$bytes":"/8OpIQ=="}"#, r#""\xffé!""#),
        ("string", words(&[TEXT + 11, 2]), r#""é""#, r#""é""#),
        ("[]uint8", words(&[TEXT, 5, 5]), r#"{"$bytes":"aGVsbG8="}"#, r#"[]byte("hello")"#),
        ("[]uint8", words(&[0, 0, 0]), "null", "[]uint8(nil)"),
        ("[]uint8", words(&[TEXT, 0, 0]), r#"{"$bytes":""}"#, r#"[]byte("")"#),
        ("[3]uint8", vec![1, 2, 3], "[1,2,3]", "[3]uint8{0x1, 0x2, 0x3}"),
        ("[]int", words(&[HEAP + 0x200, 3, 4]), "[1,2,3]", "[]int{1, 2, 3}"),
        ("[]int", words(&[0, 0, 0]), "null", "[]int(nil)"),
        ("[]int", words(&[HEAP, 0, 0]), "[]", "[]int{}"),
        ("[2]int", words(&[5, 6]), "[5,6]", "[2]int{5, 6}"),
        ("[0]int", vec![], "[]", "[0]int{}"),
        ("[]struct {}", words(&[HEAP, 2, 2]), "[{},{}]", "[]struct {}{struct {}{}, struct {}{}}"),
        ("main.T", words(&[1, 9, 2]), r#"{"A":1,"b":2}"#, "main.T{A:1, b:0x2}"),
        ("*int", words(&[0]), "null", "(*int)(nil)"),
        ("*int", words(&[HEAP]), r#"{"$ptr":"0xc0001000","$elem":7}"#, "&7"),
        ("*main.T", words(&[HEAP + 0x200]), r#"{"$ptr":"0xc0001200","$elem":{"A":1,"b":3}}"#, "&main.T{A:1, b:0x3}"),
        (
            "*main.Node",
            words(&[HEAP]),
            r#"{"$ptr":"0xc0001000","$elem":{"V":7,"Next":{"$ptr":"0xc0001100","$elem":{"V":8,"Next":{"$ptr":"0xc0001000","$elem":{"V":7,"Next":{"$ptr":"0xc0001100"}}}}}}}"#,
            "&main.Node{V:7, Next:&main.Node{V:8, Next:&main.Node{V:7, Next:(*main.Node)(0xc0001100)}}}",
        ),
        (
            "*int",
            words(&[0x10]),
            r#"{"$ptr":"0x10","$elem":{"$unreadable":"memory at 0x10 is not in this core"}}"#,
            "&/* memory at 0x10 is not in this core */",
        ),
        ("unsafe.Pointer", words(&[0]), "null", "(unsafe.Pointer)(nil)"),
        ("unsafe.Pointer", words(&[0x10]), r#"{"$ptr":"0x10"}"#, "(unsafe.Pointer)(0x10)"),
        ("func()", words(&[HEAP + 0x300]), r#"{"$func":"main.f"}"#, "main.f"),
        ("func()", words(&[HEAP + 0x310]), r#"{"$func":"0x402000"}"#, "0x402000"),
        ("func()", words(&[0]), "null", "(func())(nil)"),
        ("chan int", words(&[0]), "null", "(chan int)(nil)"),
        (
            "chan int",
            words(&[HEAP + 0x320]),
            r#"{"$chan":"0xc0001320","len":3,"cap":8}"#,
            "(chan int)(0xc0001320) /* 3 of 8 */",
        ),
        ("interface {}", words(&[0, 0]), "null", "interface {}(nil)"),
        ("error", words(&[0, 0]), "null", "error(nil)"),
        (
            "[]interface {}",
            words(&[HEAP + 0x600, 2, 2]),
            r#"[{"$type":"int","$value":7},{"$type":"main.UserID","$value":"hello"}]"#,
            r#"[]interface {}{7, main.UserID("hello")}"#,
        ),
        ("interface {}", words(&[types.descriptor("int64"), HEAP]), r#"{"$type":"int64","$value":7}"#, "int64(7)"),
        (
            "interface {}",
            words(&[types.descriptor("main.Box"), HEAP]),
            r#"{"$type":"main.Box","$value":{"P":{"$ptr":"0xc0001000","$elem":7}}}"#,
            "main.Box{P:&7}",
        ),
        (
            "interface {}",
            words(&[types.descriptor("struct {}"), 0x10]),
            r#"{"$type":"struct {}","$value":{}}"#,
            "struct {}{}",
        ),
        (
            "error",
            words(&[HEAP + 0x400, HEAP + 0x200]),
            r#"{"$type":"*main.T","$value":{"$ptr":"0xc0001200","$elem":{"A":1,"b":3}}}"#,
            "&main.T{A:1, b:0x3}",
        ),
        (
            "interface {}",
            words(&[0x66, HEAP]),
            r#"{"$unreadable":"no type has its descriptor at 0x66"}"#,
            "/* no type has its descriptor at 0x66 */",
        ),
        ("map[string]int", words(&[0]), "null", "map[string]int(nil)"),
        (
            "map[string]int",
            words(&[HEAP + 0x700]),
            r#"[{"key":"hello","elem":1},{"key":"h","elem":4}]"#,
            r#"map[string]int{"hello":1, "h":4}"#,
        ),
        (
            "main.Loop",
            words(&[HEAP + 0x500, 1, 1]),
            r#"[{"$unreadable":"the main.Loop at 0xc0001500 contains itself"}]"#,
            "main.Loop{/* the main.Loop at 0xc0001500 contains itself */}",
        ),
        // wall: hasMonotonic, 3 s after the wall epoch, 5 ns.
        (
            "time.Time",
            words(&[1 << 63 | 3 << 30 | 5, 77, 0]),
            r#"{"$time":"1885-01-01T00:00:03.000000005Z"}"#,
            "time.Date(1885, time.January, 1, 0, 0, 3, 5, time.UTC)",
        ),
        (
            "time.Time",
            words(&[0, 0, 0]),
            r#"{"$time":"0001-01-01T00:00:00Z"}"#,
            "time.Date(1, time.January, 1, 0, 0, 0, 0, time.UTC)",
        ),
    ];
    for mapped in [false, true] {
        memory.mapped = mapped;
        for (ty, value, json, go) in &table {
            let id = types.get(ty);
            assert_eq!(&json_with(&memory, &types, Options::default(), id, value), json, "JSON of {ty}");
            assert_eq!(&go_with(&memory, &types, Options::default(), id, value), go, "Go syntax of {ty}");
        }
    }
}

#[test]
fn limits_cut_and_say_so() {
    let (memory, types) = target();
    let options = Options { depth: 0, string_limit: 3, elements_limit: 1, ..Options::default() };
    let table: Vec<(&str, Vec<u8>, &str, &str)> = vec![
        ("string", words(&[TEXT, 10]), r#"{"$prefix":"hel","$len":10}"#, "\"hel\"…"),
        ("string", words(&[TEXT, 3]), r#""hel""#, "\"hel\""),
        // The limit falls inside é.
        ("string", words(&[TEXT + 9, 4]), r#"{"$bytes":"Cv/D","$len":4}"#, "\"\\n\\xff\\xc3\"…"),
        ("[]uint8", words(&[TEXT, 5, 5]), r#"{"$bytes":"aGVs","$len":5}"#, "[]byte(\"hel\"…)"),
        ("[]int", words(&[HEAP + 0x200, 3, 4]), r#"[1,{"$omitted":2}]"#, "[]int{1, …2 more}"),
        ("[2]int", words(&[5, 6]), r#"[5,{"$omitted":1}]"#, "[2]int{5, …1 more}"),
        ("*int", words(&[HEAP]), r#"{"$ptr":"0xc0001000"}"#, "(*int)(0xc0001000)"),
        (
            "map[string]int",
            words(&[HEAP + 0x700]),
            r#"[{"key":{"$prefix":"hel","$len":5},"elem":1},{"$omitted":1}]"#,
            "map[string]int{\"hel\"…:1, …1 more}",
        ),
    ];
    for (ty, value, json, go) in table {
        assert_eq!(json_with(&memory, &types, options.clone(), types.get(ty), &value), json, "JSON of {ty}");
        assert_eq!(go_with(&memory, &types, options.clone(), types.get(ty), &value), go, "Go syntax of {ty}");
    }
}

#[test]
fn csv_cells() {
    let (memory, types) = target();
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("int", words(&[u64::MAX]), "-1"),
        ("float64", words(&[f64::NAN.to_bits()]), "NaN"),
        ("float32", 0.1f32.to_le_bytes().to_vec(), "0.1"),
        ("string", words(&[TEXT, 5]), "hello"),
        ("string", words(&[0, 0]), "\"\""),
        ("string", words(&[TEXT, 10]), "\"hello \"\"w\"\"\n\""),
        ("string", words(&[TEXT + 13, 3]), "\"!,x\""),
        ("string", words(&[TEXT + 10, 2]), r#""{""$bytes"":""/8M=""}""#),
        ("*int", words(&[0]), ""),
        ("main.T", words(&[1, 9, 2]), r#""{""A"":1,""b"":2}""#),
        ("time.Time", words(&[0, 0, 0]), "0001-01-01T00:00:00Z"),
    ];
    for (ty, value, cell) in table {
        assert_eq!(csv(&memory, &types, types.get(ty), &value), cell, "{ty}");
    }
}

#[test]
fn times_follow_the_targets_own_location() {
    let (mut memory, types) = target();
    let at = |unix: i64, location: u64| words(&[0, (unix + 62_135_596_800) as u64, location]);
    let time = types.get("time.Time");
    let show = |memory: &FakeMemory, unix: i64, location: u64| {
        json_with(memory, &types, Options::default(), time, &at(unix, location))
    };
    // Two zones, one transition at 1000, then a rule for everything after it.
    let place = HEAP + 0x1000;
    memory.put(place + 0x200, *b"Europe/X\0\0\0\0\0\0\0\0CET-1CEST,M3.5.0,M10.5.0/3");
    memory.put_words(place + 0x300, &[0, 0, 600, 0, 0, 0, 3600, 1]);
    memory.put_words(place + 0x400, &[1000, 1]);
    let location = |extend: u64, cache: [u64; 3]| {
        let mut header = vec![place + 0x200, 8, place + 0x300, 2, 2, place + 0x400, 1, 1, place + 0x210, extend];
        header.extend(cache);
        header
    };
    memory.put_words(place, &location(0, [0, 0, 0]));
    assert_eq!(show(&memory, 999, place), r#"{"$time":"1970-01-01T00:26:39+00:10"}"#);
    assert_eq!(show(&memory, 1000, place), r#"{"$time":"1970-01-01T01:16:40+01:00"}"#);
    assert_eq!(
        go_with(&memory, &types, Options::default(), time, &at(1000, place)),
        r#"time.Date(1970, time.January, 1, 1, 16, 40, 0, time.Location("Europe/X"))"#
    );
    memory.put_words(place, &location(26, [0, 0, 0]));
    assert_eq!(show(&memory, 1_700_000_000, place), r#"{"$time":"2023-11-14T23:13:20+01:00"}"#);
    assert_eq!(show(&memory, 1_690_000_000, place), r#"{"$time":"2023-07-22T06:26:40+02:00"}"#);
    // The zone that the target cached comes first.
    memory.put_words(place, &location(26, [1_600_000_000, 1_800_000_000, place + 0x300]));
    assert_eq!(show(&memory, 1_690_000_000, place), r#"{"$time":"2023-07-22T04:36:40+00:10"}"#);
    // A location that cannot be read leaves UTC.
    assert_eq!(show(&memory, 0, 0x10), r#"{"$time":"1970-01-01T00:00:00Z"}"#);
}

#[test]
fn names_as_the_runtime_prints_them() {
    for (long, short) in [
        ("int", "int"),
        ("github.com/x/y.T", "y.T"),
        ("map[github.com/x/y.T]*net/http.Header", "map[y.T]*http.Header"),
        ("main.G[github.com/x/y.T]", "main.G[github.com/x/y.T]"),
        ("a/b.G[map[c/d.K][]e/f.E]", "b.G[map[c/d.K][]e/f.E]"),
        ("struct { A a/b.T \"json:\\\"a/b\\\"\" }", "struct { A b.T \"json:\\\"a/b\\\"\" }"),
        ("func(a/b.T, ...int) chan<- a/b.T", "func(b.T, ...int) chan<- b.T"),
    ] {
        assert_eq!(short_name(long), short);
    }
}
