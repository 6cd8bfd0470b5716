//! Rates of printing, for a human to look at: `cargo test --release --lib value::tests::speed -- --ignored --nocapture`.

use super::context;
use super::fake::{words, FakeMemory, FakeTypes};
use crate::value::{Filter, GoSyntax, Json, Options};
use std::time::Instant;

const HEAP: u64 = 0x10_0000;
const ENTRIES: usize = 2_000_000;

fn rate(what: &str, entries: usize, mut run: impl FnMut() -> usize) {
    let start = Instant::now();
    let bytes = run();
    let seconds = start.elapsed().as_secs_f64();
    let millions = entries as f64 / seconds / 1e6;
    println!("{what:40} {millions:8.1} M/s {:8.0} MB/s out", bytes as f64 / seconds / 1e6);
}

#[test]
#[ignore = "a measurement, of use only in release builds"]
fn rates() {
    let mut types = FakeTypes::new();
    types.structure("main.T", 24, &[("ID", 0, "int"), ("Name", 8, "string")]);
    types.pointer("main.T");
    let mut memory = FakeMemory { mapped: true, ..FakeMemory::default() };
    let text: Vec<u8> = (0..1 << 24).map(|i| b'a' + (i % 26) as u8).collect();
    memory.put(HEAP, text);
    let struct_at = HEAP + (1 << 25);
    memory.put_words(struct_at, &[7, HEAP, 12]);
    let context = context(&memory, &types, Options::default());
    let plan = |name: &str| context.plan(types.get(name)).unwrap();
    let mut out = Vec::with_capacity(1 << 20);

    for (ty, value) in [
        ("int64", words(&[123_456_789_012])),
        ("string", words(&[HEAP, 12])),
        ("float64", words(&[1234.5678f64.to_bits()])),
        ("*main.T", words(&[struct_at])),
    ] {
        let plan = plan(ty);
        for json in [true, false] {
            let form = if json { "JSON" } else { "Go" };
            rate(&format!("{form} entries {ty} -> {ty}"), ENTRIES, || {
                let mut written = 0;
                for _ in 0..ENTRIES {
                    for part in [&value, &value] {
                        let result = if json {
                            plan.write(&context, part, &mut Json::new(&mut out))
                        } else {
                            plan.write(&context, part, &mut GoSyntax::new(&mut out, false))
                        };
                        result.unwrap();
                    }
                    if out.len() > 1 << 19 {
                        written += out.len();
                        out.clear();
                    }
                }
                written
            });
        }
    }
    let long = words(&[HEAP, 1 << 24]);
    for json in [true, false] {
        rate(if json { "JSON 16 MB string" } else { "Go 16 MB string" }, 20, || {
            let mut written = 0;
            for _ in 0..20 {
                out.clear();
                let plan = plan("string");
                match json {
                    true => plan.write(&context, &long, &mut Json::new(&mut out)).unwrap(),
                    false => plan.write(&context, &long, &mut GoSyntax::new(&mut out, false)).unwrap(),
                }
                written += out.len();
            }
            written
        });
    }
    let (int, string) = (types.get("int64"), types.get("string"));
    for (pattern, key, value) in [
        ("key > 5 && elem < 7", int, words(&[9])),
        ("key == \"x\"", string, words(&[HEAP, 12])),
        ("nowhere", string, words(&[HEAP, 12])),
        ("*z", string, words(&[HEAP, 12])),
    ] {
        let filter = Filter::compile(&types, key, int, pattern).unwrap();
        rate(&format!("--where {pattern}"), ENTRIES, || {
            (0..ENTRIES).filter(|_| filter.matches(&context, &value, &[9; 8]).unwrap()).count()
        });
    }
}
