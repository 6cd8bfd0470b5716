//! Each relation on keys made by hand; what is equal for Unicode is taken from the Unicode standard's examples.

use super::{Near, NearMisses};
use crate::map::keys::Keys;
use crate::types::{Kind, Shape, TypeId, TypeSource};
use crate::value::tests::fake::{words, FakeMemory, FakeTypes};

/// A target whose strings and pointees are put where they are needed.
struct Target {
    memory: FakeMemory,
    types: FakeTypes,
    next: u64,
}

impl Target {
    fn new() -> Target {
        Target {
            memory: FakeMemory { mapped: true, ..FakeMemory::default() },
            types: FakeTypes::new(),
            next: 0xc0_0000_0000,
        }
    }

    fn place(&mut self, bytes: Vec<u8>) -> u64 {
        let address = self.next;
        self.next += (bytes.len() as u64 + 16) & !15;
        self.memory.put(address, bytes);
        address
    }

    fn string(&mut self, text: impl AsRef<[u8]>) -> Vec<u8> {
        let bytes = text.as_ref().to_vec();
        let len = bytes.len() as u64;
        words(&[self.place(bytes), len])
    }

    /// An `any` that holds a value of the type named `ty`.
    fn any(&mut self, ty: &str, value: Vec<u8>) -> Vec<u8> {
        let id = self.types.get(ty);
        let descriptor = self.types.descriptor(ty);
        let direct = matches!(self.types.load(id).unwrap().kind, Kind::Pointer);
        let mut header = [0; 48];
        header[20] = if direct { 1 << 5 } else { 0 };
        self.memory.put(descriptor, header);
        let data = if direct { u64::from_le_bytes(value.try_into().unwrap()) } else { self.place(value) };
        words(&[descriptor, data])
    }

    fn near(&self, ty: TypeId, wanted: &[u8], stored: &[Vec<u8>]) -> Vec<Near> {
        let keys = Keys::new(&self.memory, &self.types);
        let mut misses = NearMisses::new(&keys, ty, wanted, 5).unwrap();
        for (i, key) in stored.iter().enumerate() {
            misses.offer(key, i as u64);
        }
        misses.finish().near
    }

    fn best(&self, ty: &str, wanted: &[u8], stored: &[Vec<u8>]) -> (&'static str, String) {
        match self.near(self.types.get(ty), wanted, stored).first() {
            Some(near) => (near.relation.name(), near.detail.clone()),
            None => ("none", String::new()),
        }
    }
}

fn texts(wanted: &str, stored: &str) -> (&'static str, String) {
    let mut target = Target::new();
    let (wanted, stored) = (target.string(wanted), target.string(stored));
    target.best("string", &wanted, &[stored])
}

fn relation_of(wanted: &str, stored: &str) -> &'static str {
    texts(wanted, stored).0
}

#[test]
fn white_space_is_told_from_what_is_not_seen() {
    assert_eq!(texts("order-A", "order-A "), ("whitespace", r#""order-A" + U+0020"#.into()));
    assert_eq!(texts("order-A", "\torder-A\n"), ("whitespace", r#"U+0009 + "order-A" + U+000A"#.into()));
    assert_eq!(texts("order-A ", "order-A"), ("whitespace", r#""order-A" (without U+0020)"#.into()));
    assert_eq!(texts("a b", "a\u{a0}b"), ("whitespace", r#""a" + U+00A0 (for U+0020) + "b""#.into()));
    assert_eq!(texts("order-A", "\u{feff}order-A"), ("invisible", r#"U+FEFF + "order-A""#.into()));
    assert_eq!(texts("order-A", "order\u{200b}-A"), ("invisible", r#""order" + U+200B + "-A""#.into()));
    assert_eq!(relation_of("order-A", "order-A\0"), "invisible");
    assert_eq!(relation_of("", " "), "whitespace");
}

#[test]
fn forms_and_cases_are_unicode_s_own() {
    assert_eq!(
        texts("caf\u{e9}", "cafe\u{301}"),
        ("unicode-form", "\"caf\" + U+0065 U+0301 (for U+00E9 \"é\")".into())
    );
    assert_eq!(relation_of("\u{212b}", "\u{c5}"), "unicode-form");
    assert_eq!(relation_of("xq\u{307}\u{323}y", "xq\u{323}\u{307}y"), "unicode-form");
    assert_eq!(relation_of("x\u{1112}\u{1161}\u{11ab}", "x\u{d55c}"), "unicode-form");
    assert_eq!(relation_of("\u{fb01}le", "file"), "unicode-form");
    assert_eq!(relation_of("ABC1", "\u{ff21}\u{ff22}\u{ff23}1"), "unicode-form");
    assert_eq!(texts("alice", "Alice"), ("case", r#"U+0041 "A" (for U+0061 "a") + "lice""#.into()));
    assert_eq!(relation_of("stra\u{df}e", "STRASSE"), "case");
    assert_eq!(
        relation_of(
            "\u{3c3}\u{3af}\u{3c3}\u{3c5}\u{3c6}\u{3bf}\u{3c2}",
            "\u{3a3}\u{38a}\u{3a3}\u{3a5}\u{3a6}\u{39f}\u{3a3}"
        ),
        "case"
    );
}

#[test]
fn texts_that_look_alike_are_homoglyphs() {
    let (relation, detail) = texts("paypal", "p\u{430}ypal");
    assert_eq!((relation, &detail[..]), ("homoglyph", "\"p\" + U+0430 \"а\" (for U+0061 \"a\") + \"ypal\""));
    assert_eq!(relation_of("order-O", "order-0"), "homoglyph");
    assert_eq!(relation_of("Item-l", "Item-I"), "homoglyph");
    assert_eq!(relation_of("\u{3bd}ova", "vova"), "homoglyph");
    assert_eq!(relation_of("modern", "modem"), "homoglyph");
}

#[test]
fn two_ways_at_once_are_both_named() {
    let (relation, detail) = texts("order-a", "Order-A ");
    assert_eq!(relation, "whitespace");
    assert!(detail.ends_with("(also: case)"), "{detail}");
    assert!(detail.contains("U+0020"), "{detail}");
}

#[test]
fn affixes_and_edits_come_after() {
    assert_eq!(relation_of("order-A", "order-A.json"), "affix");
    assert_eq!(relation_of("tenant/order-A", "order-A"), "affix");
    assert_eq!(
        texts("recieve", "receive"),
        ("edit-distance", r#""rec" (without U+0069 "i") + "e" + U+0069 "i" + "ve""#.into())
    );
    assert_eq!(relation_of("kubernetes-node-17", "kubernetes-nod-18"), "edit-distance");
    assert_eq!(relation_of("kubernetes", "prometheus"), "none");
    assert_eq!(relation_of("a", "b"), "none");
    assert_eq!(relation_of("1", "01"), "numeric");
    assert_eq!(relation_of("0", "-0"), "signed-zero");
    assert_eq!(relation_of("x", ""), "zero-value");
}

#[test]
fn bytes_that_are_no_text_are_shown_as_bytes() {
    let mut target = Target::new();
    let (wanted, stored) = (target.string(b"key\xff"), target.string(b"key\xff\x80"));
    assert_eq!(target.best("string", &wanted, &[stored]), ("affix", "\"key<0xFF>\" + 0x80".into()));
}

#[test]
fn the_best_come_first_whatever_the_order() {
    let mut target = Target::new();
    let wanted = target.string("order-A");
    let stored = ["order-B", "order-A/2", "ORDER-A", "unrelated", "order-A ", "order-A", ""];
    let mut stored: Vec<Vec<u8>> = stored.iter().map(|text| target.string(text)).collect();
    let names = |target: &Target, stored: &[Vec<u8>]| -> Vec<&'static str> {
        target.near(target.types.get("string"), &wanted, stored).iter().map(|near| near.relation.name()).collect()
    };
    let expected = ["whitespace", "case", "affix", "edit-distance", "zero-value"];
    assert_eq!(names(&target, &stored), expected);
    stored.reverse();
    assert_eq!(names(&target, &stored), expected);
}

fn integers(ty: &str, wanted: i64, stored: i64) -> (&'static str, String) {
    let target = Target::new();
    let size = target.types.load(target.types.get(ty)).unwrap().size as usize;
    target.best(ty, &wanted.to_le_bytes()[..size], &[stored.to_le_bytes()[..size].to_vec()])
}

#[test]
fn integers_differ_by_width_sign_and_value() {
    assert_eq!(integers("int64", 4_294_967_303, 7), ("width", "7 is 4294967303 cut to 32 bits".into()));
    assert_eq!(integers("int64", -1, 0xffff_ffff).0, "width");
    assert_eq!(integers("int", 5, -5), ("numeric", "-5 is 5 negated".into()));
    assert_eq!(integers("int", 42, 43), ("numeric", "43 = 42 + 1".into()));
    assert_eq!(integers("uint8", 255, 254).0, "numeric");
    assert_eq!(integers("int64", 1_700_000_000, 1_700_000_000_000).1, "1700000000000 is 1700000000 times 1000");
    assert_eq!(integers("int64", 90_000_000_000, 90).1, "90 times 1000000000 is 90000000000");
    assert_eq!(integers("int", 120_345, 120_354).0, "numeric");
    assert_eq!(integers("uint32", 0x1234_5678, 0x7856_3412).0, "numeric");
    assert_eq!(integers("int", 120_345, 0).0, "zero-value");
    assert_eq!(integers("int", 120_345, 9_999_999).0, "none");
    assert_eq!(integers("uint64", 0, i64::MIN).0, "signed-zero");
    assert_eq!(integers("int64", i64::MIN, i64::MAX).0, "none");
}

fn floats(wanted: f64, stored: f64) -> &'static str {
    Target::new().best("float64", &wanted.to_le_bytes(), &[stored.to_le_bytes().to_vec()]).0
}

#[test]
fn floats_differ_by_rounding_and_nan_never_equals() {
    assert_eq!(floats(0.3, 0.1 + 0.2), "numeric");
    assert_eq!(floats(0.1, 0.1f32 as f64), "width");
    assert_eq!(floats(f64::NAN, f64::NAN), "nan");
    assert_eq!(floats(0.0, -0.0), "signed-zero");
    assert_eq!(floats(1.0, 1.0), "none");
    assert_eq!(floats(1.5, f64::NAN), "none");
    assert_eq!(floats(f64::INFINITY, f64::NEG_INFINITY), "numeric");
}

#[test]
fn interfaces_differ_by_dynamic_type_first() {
    let mut target = Target::new();
    target.types.plain("main.UserID", Kind::String);
    let string = target.string("u1");
    let forty_two = 42u64.to_le_bytes().to_vec();
    let int = target.any("int", forty_two.clone());
    let int64 = target.any("int64", forty_two.clone());
    let float = target.any("float64", 42f64.to_le_bytes().to_vec());
    let user = target.any("main.UserID", string.clone());
    let plain = target.any("string", string);
    let digits = target.string("42");
    let digits = target.any("string", digits);
    let spaced = target.string("u1 ");
    let spaced = target.any("main.UserID", spaced);
    let any = target.types.get("interface {}");
    let best = |wanted: &Vec<u8>, stored: &[Vec<u8>]| {
        let near = target.near(any, wanted, stored);
        near.first().map_or(("none", String::new()), |near| (near.relation.name(), near.detail.clone()))
    };
    assert_eq!(
        best(&int64, std::slice::from_ref(&int)),
        ("dynamic-type", "int(42) is stored, int64(42) asked for".into())
    );
    assert_eq!(best(&float, std::slice::from_ref(&int)).0, "dynamic-type");
    assert_eq!(best(&int, &[digits]), ("dynamic-type", r#"string("42") is stored, int(42) asked for"#.into()));
    assert_eq!(
        best(&plain, std::slice::from_ref(&user)),
        ("dynamic-type", r#"main.UserID("u1") is stored, string("u1") asked for"#.into())
    );
    assert_eq!(best(&user, std::slice::from_ref(&spaced)), ("whitespace", r#""u1" + U+0020"#.into()));
    assert_eq!(best(&plain, &[spaced, user]).1, r#"main.UserID("u1") is stored, string("u1") asked for"#);
    assert_eq!(best(&int, &[words(&[0, 0])]).0, "zero-value");
    assert_eq!(best(&int, std::slice::from_ref(&int)).0, "none");
}

#[test]
fn pointers_differ_though_what_they_point_to_is_equal() {
    let mut target = Target::new();
    target.types.structure("main.T", 24, &[("ID", 0, "int"), ("Name", 8, "string")]);
    let pointer = target.types.pointer("main.T");
    let mut value = |id: u64, name: &str| {
        let mut value = words(&[id]);
        value.extend(target.string(name));
        target.place(value).to_le_bytes().to_vec()
    };
    let (wanted, twin, other) = (value(1, "bob"), value(1, "bob"), value(1, "bob "));
    let (relation, detail) = target.best("*main.T", &wanted, &[other.clone(), twin]);
    assert_eq!(relation, "pointee");
    assert!(detail.contains(r#"equal main.T values {1, "bob"}"#), "{detail}");
    assert_eq!(
        target.best("*main.T", &wanted, &[other]),
        ("struct-field", r#".Name: whitespace: "bob" + U+0020"#.into())
    );
    assert!(target.near(pointer, &wanted, &[words(&[0xdead_0000])]).is_empty());
}

#[test]
fn structs_differ_by_named_fields() {
    let mut target = Target::new();
    target.types.structure("main.In", 16, &[("Name", 0, "string")]);
    target.types.structure(
        "main.Key",
        40,
        &[("A", 0, "int"), ("_", 8, "int"), ("In", 16, "main.In"), ("F", 32, "float64")],
    );
    let mut key = |a: u64, blank: u64, name: &str, f: f64| {
        let mut bytes = words(&[a, blank]);
        bytes.extend(target.string(name));
        bytes.extend(f.to_le_bytes());
        bytes
    };
    let wanted = key(7, 0, "bob", 0.5);
    let (blank, name, far) = (key(7, 1, "bob", 0.5), key(7, 0, "Bob", 0.5), key(70_000, 0, "alice", 9e9));
    let (two, nan) = (key(8_000_000, 0, "bob\u{200b}", 0.5), key(7, 0, "bob", f64::NAN));
    assert_eq!(target.best("main.Key", &wanted, &[blank]).0, "none");
    assert_eq!(target.best("main.Key", &wanted, std::slice::from_ref(&far)).0, "none");
    assert_eq!(
        target.best("main.Key", &wanted, &[far, name]),
        ("struct-field", r#".In.Name: case: U+0042 "B" (for U+0062 "b") + "ob""#.into())
    );
    assert_eq!(
        target.best("main.Key", &wanted, &[two]),
        ("struct-field", r#".A: 8000000 instead of 7; .In.Name: invisible: "bob" + U+200B"#.into())
    );
    assert_eq!(target.best("main.Key", &nan, std::slice::from_ref(&nan)).0, "nan");
    assert_eq!(target.best("main.Key", &wanted, &[nan]).0, "struct-field");
}

#[test]
fn arrays_of_bytes_differ_by_byte() {
    let mut target = Target::new();
    let array = target.types.array(16, "uint8");
    let mut stored = vec![0x9fu8; 16];
    stored[3] = 0x10;
    let near = target.near(array, &[0x9f; 16], &[stored]);
    assert_eq!((near[0].relation.name(), &near[0].detail[..]), ("edit-distance", "byte 3 is 0x10, not 0x9f"));
    let digest = |last: u8| vec![1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, last];
    let near = target.near(array, &digest(8), &[digest(9)]);
    assert_eq!((near[0].relation.name(), &near[0].detail[..]), ("edit-distance", "byte 15 is 0x09, not 0x08"));
    let padded = |text: &str| [text.as_bytes(), &vec![0; 16 - text.len()][..]].concat();
    assert_eq!(target.near(array, &padded("ABCD-17"), &[padded("abcd-17")])[0].relation.name(), "case");
}

#[test]
fn garbage_is_counted_and_never_followed_far() {
    let mut target = Target::new();
    target.types.add("main.Node", 16, Kind::Struct, Shape::Struct(Vec::new()));
    target.types.pointer("main.Node");
    let twin = target.types.structure("tmp", 16, &[("V", 0, "int"), ("Next", 8, "*main.Node")]);
    let shape = target.types.load(twin).unwrap().shape.clone();
    target.types.redefine("main.Node", shape);
    // Two rings of one node each.
    target.memory.put(0x1000, words(&[1, 0x1000]));
    target.memory.put(0x2000, words(&[1, 0x2000]));
    let best = target.best("*main.Node", &words(&[0x1000]), &[words(&[0x2000])]);
    assert!(["pointee", "struct-field", "none"].contains(&best.0), "{best:?}");
    let keys = Keys::new(&target.memory, &target.types);
    let string = target.types.get("string");
    let empty = words(&[0, 0]);
    let mut misses = NearMisses::new(&keys, string, &empty, 3).unwrap();
    misses.offer(&words(&[0xdead_0000, 7]), 0);
    misses.offer(&words(&[0xdead_0000, u64::MAX]), 0);
    misses.offer(&[1, 2, 3], 0);
    let nearest = misses.finish();
    assert_eq!((nearest.unreadable, nearest.near.len()), (2, 0));
}

#[test]
fn an_equal_key_is_told_apart_from_near_ones() {
    let mut target = Target::new();
    let (wanted, twin, other) = (target.string("order-A"), target.string("order-A"), target.string("order-B"));
    let keys = Keys::new(&target.memory, &target.types);
    let mut misses = NearMisses::new(&keys, target.types.get("string"), &wanted, 3).unwrap();
    misses.offer(&other, 0x100);
    misses.offer(&twin, 0x200);
    let nearest = misses.finish();
    assert_eq!((nearest.equal, nearest.near.len(), nearest.near[0].address), (Some(0x200), 1, 0x100));
}

/// 10^6 keys in well under the 2 s allowed, with room for slow machines: measured with `--release -- --ignored`.
#[test]
#[ignore = "a measurement: run with --release -- --ignored --nocapture"]
fn a_million_texts_are_compared_in_time() {
    for (name, wanted, make) in [
        ("ascii", "user:00500003 ", (|i: u64| format!("user:{:08}", i * 7)) as fn(u64) -> String),
        ("random", &format!("{:016X}", 777_777u64.wrapping_mul(0x9e37_79b9_7f4a_7c15)), |i| {
            format!("{:016x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        }),
        ("long", &format!("request/path/segment/{:0>80}\t", 39), |i| format!("request/path/segment/{:0>80}", i * 13)),
        ("cyrillic", "пользователь-5", |i| format!("пользователь-{i}")),
    ] {
        let mut target = Target::new();
        let wanted = target.string(wanted);
        let (mut heap, mut stored) = (Vec::new(), Vec::new());
        for i in 0..1_000_000 {
            let text = make(i);
            stored.extend(words(&[0x10_0000_0000 + heap.len() as u64, text.len() as u64]));
            heap.extend(text.into_bytes());
        }
        target.memory.put(0x10_0000_0000, heap);
        let keys = Keys::new(&target.memory, &target.types);
        let start = std::time::Instant::now();
        let mut misses = NearMisses::new(&keys, target.types.get("string"), &wanted, 10).unwrap();
        for (i, key) in stored.chunks_exact(16).enumerate() {
            misses.offer(key, i as u64);
        }
        let near = misses.finish().near;
        let elapsed = start.elapsed();
        println!("{name}: {elapsed:?}, first {:?}", near.first().map(|near| (near.relation.name(), &near.detail)));
        assert!(!near.is_empty() && elapsed.as_millis() < 2000, "{name}: {elapsed:?}");
    }
}
