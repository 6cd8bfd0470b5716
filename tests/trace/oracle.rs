//! Traces made now, and those of the toolchain's own tests, against the oracle.

use crate::compare::{listing, same_goroutines, same_text};
use crate::hostile::exercise;
use crate::toolchain::{lab, oracle, parsed, record, root, NEWEST, VERSIONS};
use crate::wiretext;
use mapscope::evidence::trace::{parse, Options, TraceError};
use std::path::{Path, PathBuf};

fn compare(oracle: &Path, name: &str, data: &[u8]) -> u64 {
    let (text, whole) = parsed(oracle, data);
    assert!(whole, "{name}: the oracle cannot read it");
    let (ours, error) = listing(data);
    assert_eq!(error, None, "{name}");
    same_text(name, &ours, &text);
    same_goroutines(name, data, &text);
    text.lines().filter(|line| line.starts_with("M=")).count() as u64
}

/// One test for all that builds and runs programs: they would disturb each other's traces. `MAPSCOPE_MATRIX=all` is for
/// more and larger traces.
#[test]
#[ignore = "builds with the pinned Go toolchains; takes minutes: tests/test_evidence.py runs it"]
fn traces_made_now() {
    let oracle = oracle();
    let everything = std::env::var("MAPSCOPE_MATRIX").is_ok_and(|matrix| matrix == "all");
    let (all_procs, sizes): (&[&str], &[&str]) = match everything {
        true => (&["1", "2", "3", "4", "5", "6", "7", "8"], &["100", "1000", "10000", "100000"]),
        false => (&["1", "2", "8"], &["100", "10000"]),
    };
    for version in VERSIONS {
        let lab = lab(version);
        for procs in all_procs {
            for events in sizes {
                let data = record(&lab, &["-procs", procs, "-events", events]);
                let count = compare(oracle, &format!("{version} procs {procs} events {events}"), &data);
                println!("{version} GOMAXPROCS={procs}: {count} events agree");
            }
        }
        let data = record(&lab, &["-procs", "4", "-cpu"]);
        compare(oracle, &format!("{version} with CPU samples"), &data);
        if !["1.22.10", "1.23.9", "1.24.11"].contains(&version) {
            let data = record(&lab, &["-procs", "4", "-flight", "-events", "20000"]);
            compare(oracle, &format!("{version} flight recorder"), &data);
        }
        cut_traces(oracle, version, &record(&lab, &["-kill", "-events", "20000"]));
    }
    for version in if everything { &["1.22.10", NEWEST][..] } else { &[] } {
        let data = record(&lab(version), &["-procs", "4", "-events", "2000000"]);
        println!("{version}: {} events agree", compare(oracle, &format!("{version} large"), &data));
    }
}

/// A process that died: the oracle, too, tells what stands before the damage and then gives up.
fn cut_traces(oracle: &Path, version: &str, data: &[u8]) {
    for cut in [data.len(), data.len() / 2, data.len() / 3 * 2, data.len().saturating_sub(1), 66, 16] {
        let Some(data) = data.get(..cut) else { continue };
        let (text, whole) = parsed(oracle, data);
        let (ours, error) = listing(data);
        // A last generation of which only tables were written ends the oracle's reading without a word.
        let honest = error.is_none() == whole || matches!(error, Some(TraceError::Truncated { .. }));
        assert!(honest, "{version} cut at {cut}: {error:?}, the oracle: {whole}");
        same_text(&format!("{version} cut at {cut}"), &ours, &text);
        let trace = parse(data, &Options::default()).expect("the header is whole");
        assert!(trace.incomplete == error, "{version} cut at {cut}");
    }
}

fn files(directory: PathBuf) -> Vec<(String, Vec<u8>)> {
    let list = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> = list.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), std::fs::read(path).expect("a file"))).collect()
}

#[test]
#[ignore = "reads the pinned Go toolchain's test data: tests/test_evidence.py runs it"]
fn traces_of_the_toolchains_own_tests() {
    let oracle = oracle();
    let cases = files(root(NEWEST).join("src/internal/trace/testdata/tests"));
    assert!(cases.len() >= 20, "{} test files", cases.len());
    for (name, text) in cases {
        let case = wiretext::read(std::str::from_utf8(&text).expect("text"));
        let (text, whole) = parsed(oracle, &case.data);
        assert_eq!(whole, case.succeeds, "{name}: its bytes are not what the test means");
        let (ours, error) = listing(&case.data);
        assert_eq!(error.is_none(), case.succeeds, "{name}: {error:?}");
        same_text(&name, &ours, &text);
        if case.succeeds {
            same_goroutines(&name, &case.data, &text);
        }
        exercise(&case.data);
    }
}

#[test]
#[ignore = "reads the pinned Go toolchain's fuzz corpus: tests/test_evidence.py runs it"]
fn hostile_traces_of_the_toolchains_own_fuzzing() {
    let oracle = oracle();
    let inputs = files(root(NEWEST).join("src/internal/trace/testdata/fuzz/FuzzReader"));
    assert!(inputs.len() >= 10, "{} inputs", inputs.len());
    for (name, text) in inputs {
        let text = String::from_utf8(text).expect("text");
        let quoted = text.split_once("[]byte(").and_then(|(_, rest)| rest.trim_end().strip_suffix(')'));
        let data = wiretext::unquote(quoted.expect("a []byte literal"));
        exercise(&data);
        let (text, whole) = parsed(oracle, &data);
        match listing(&data) {
            (_, Some(TraceError::OldFormat(_) | TraceError::UnknownFormat(_) | TraceError::NotATrace)) => {}
            (ours, error) => {
                assert_eq!(error.is_none(), whole, "{name}: {error:?}");
                same_text(&name, &ours, &text);
            }
        }
    }
}
