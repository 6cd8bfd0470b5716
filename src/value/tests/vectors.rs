//! Floats, quoted strings, times and zone rules against the output of Go 1.27.3.

use crate::value::float::{push_f32, push_f64, Rule};
use crate::value::quote::push_go_string;
use crate::value::time::posix_offset;
use crate::value::GoTime;

const VECTORS: &str = include_str!("../testdata/vectors.tsv");

/// The rows of one kind, and a floor on their number so that an empty table cannot pass.
pub(super) fn rows(kind: &str, at_least: usize) -> Vec<Vec<&'static str>> {
    let rows: Vec<Vec<&str>> =
        VECTORS.lines().map(|line| line.split('\t').collect()).filter(|row: &Vec<&str>| row[0] == kind).collect();
    assert!(rows.len() >= at_least, "{} rows of {kind}", rows.len());
    rows
}

/// The bytes that hexadecimal digits stand for.
pub(super) fn hex(digits: &str) -> Vec<u8> {
    (0..digits.len() / 2).map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn pushed(push: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    push(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn float64_as_go_writes_it() {
    for row in rows("f64", 1000) {
        let value = f64::from_bits(u64::from_str_radix(row[1], 16).unwrap());
        assert_eq!(pushed(|out| push_f64(out, value, Rule::Json)), row[2], "json of {row:?}");
        assert_eq!(pushed(|out| push_f64(out, value, Rule::Go)), row[3], "go of {row:?}");
    }
}

#[test]
fn float32_as_go_writes_it() {
    for row in rows("f32", 500) {
        let value = f32::from_bits(u32::from_str_radix(row[1], 16).unwrap());
        assert_eq!(pushed(|out| push_f32(out, value, Rule::Json)), row[2], "json of {row:?}");
        assert_eq!(pushed(|out| push_f32(out, value, Rule::Go)), row[3], "go of {row:?}");
    }
}

#[test]
fn strings_as_strconv_quotes_them() {
    for row in rows("str", 300) {
        assert_eq!(pushed(|out| push_go_string(out, &hex(row[1]))), row[2]);
    }
}

#[test]
fn times_as_go_formats_them() {
    for row in rows("time", 60) {
        let number = |column: usize| row[column].parse::<i64>().unwrap();
        let location = if number(3) == 0 { "UTC" } else { "Z" };
        let time = GoTime {
            unix: number(1),
            nanosecond: number(2) as u32,
            offset: number(3) as i32,
            location: location.into(),
        };
        assert_eq!(pushed(|out| time.push_rfc3339(out)), row[4]);
        assert_eq!(pushed(|out| time.push_go_syntax(out)), row[5]);
    }
}

#[test]
fn posix_rules_as_go_applies_them() {
    for row in rows("tzset", 250) {
        let expected = (row[4] == "true").then(|| row[3].parse().unwrap());
        assert_eq!(posix_offset(row[1], row[2].parse().unwrap()), expected, "{row:?}");
    }
}
