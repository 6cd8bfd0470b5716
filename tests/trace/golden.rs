//! Committed traces of the lab program, with the oracle's text and the program's own words about them.

use crate::compare::{listing, same_goroutines, same_text};
use mapscope::error::Watch;
use mapscope::evidence::trace::{
    parse, parse_watched, timeline, timeline_json, GoState, Options, Relation, Trace, TraceError,
};
use std::io::Read;
use std::path::PathBuf;

/// A committed trace and the goroutine ids that the program itself printed.
pub struct Sample {
    pub name: &'static str,
    pub old: u64,
    pub nil: u64,
    pub chan: u64,
    pub mutex: u64,
    pub hot: Option<u64>,
}

pub const SAMPLES: [Sample; 5] = [
    Sample { name: "go1.22", old: 18, nil: 22, chan: 23, mutex: 24, hot: None },
    Sample { name: "go1.24", old: 18, nil: 22, chan: 23, mutex: 24, hot: None },
    Sample { name: "go1.25-flight", old: 18, nil: 22, chan: 23, mutex: 24, hot: None },
    Sample { name: "go1.27-cpu", old: 6, nil: 11, chan: 12, mutex: 13, hot: Some(14) },
    // Its process died in the second generation.
    Sample { name: "go1.27-killed", old: 6, nil: 10, chan: 11, mutex: 12, hot: None },
];

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/trace/data").join(name)
}

pub fn data(name: &str) -> Vec<u8> {
    std::fs::read(path(&format!("{name}.trace"))).expect("a committed trace")
}

fn oracle_text(name: &str) -> String {
    let file = std::fs::File::open(path(&format!("{name}.parsed.gz"))).expect("a committed listing");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("a listing");
    text
}

fn read(name: &str) -> Trace {
    parse(&data(name), &Options::default()).expect("a trace")
}

#[test]
fn events_are_those_of_the_oracle() {
    for sample in &SAMPLES {
        let (ours, error) = listing(&data(sample.name));
        let cut = matches!(error, Some(TraceError::Truncated { .. }));
        assert_eq!(cut, sample.name.ends_with("killed"), "{}: {error:?}", sample.name);
        same_text(sample.name, &ours, &oracle_text(sample.name));
    }
}

#[test]
fn goroutines_are_those_of_the_oracle() {
    for sample in &SAMPLES {
        same_goroutines(sample.name, &data(sample.name), &oracle_text(sample.name));
    }
}

#[test]
fn waits_are_those_that_the_program_made() {
    for sample in &SAMPLES {
        let trace = read(sample.name);
        for (goid, reason, function) in [
            (sample.nil, "forever", "main.consume"),
            (sample.chan, "chan receive", "main.consume"),
            (sample.mutex, "sync", "main.lockedWait"),
        ] {
            let g = &trace.goroutines[&goid];
            assert_eq!(g.state(), GoState::Waiting, "{} goroutine {goid}", sample.name);
            let Some(block) = g.last_block.filter(|block| block.woken.is_none()) else {
                // The flight recorder forgot how these began to wait.
                assert!(sample.name.ends_with("flight") && g.waits_since_before(), "{} {goid}", sample.name);
                let stack = g.spans.back().and_then(|span| span.stack).expect("the status has a stack");
                assert!(trace.stack(stack).any(|frame| frame.function == function));
                continue;
            };
            assert_eq!(trace.text(block.reason.expect("a reason")), reason, "{} goroutine {goid}", sample.name);
            let stack: Vec<_> = trace.stack(block.stack.expect("a stack")).map(|f| f.function.to_owned()).collect();
            assert!(stack.iter().any(|f| f == function), "{} goroutine {goid}: {stack:?}", sample.name);
            assert_eq!(g.created.expect("created in the trace").by, Some(1));
        }
        let old = &trace.goroutines[&sample.old];
        assert!(old.waits_since_before(), "{}: {old:?}", sample.name);
    }
}

#[test]
fn map_samples_lead_to_the_wait_that_follows() {
    let sample = &SAMPLES[3];
    let trace = read(sample.name);
    let g = &trace.goroutines[&sample.hot.expect("the sample with CPU samples")];
    assert!(g.map_sample_count >= 5, "{} samples in maps", g.map_sample_count);
    let last = g.map_samples.back().expect("a sample in a map");
    assert!(trace.text(last.function).contains("map"), "{}", trace.text(last.function));
    assert!(trace.stack(last.stack).any(|frame| frame.function == "main.hotMap"));
    let block = last.followed_by.expect("a wait after the last lookup");
    assert_eq!((block.reason.map(|r| trace.text(r)), block.woken), (Some("forever"), None));
}

#[test]
fn clocks_are_told_as_far_as_they_are_known() {
    let (nanotime, snapshots) = (Relation::Nanotime, Relation::Snapshots);
    let relations = [nanotime, nanotime, snapshots, snapshots, snapshots];
    for (sample, relation) in SAMPLES.iter().zip(relations) {
        let trace = read(sample.name);
        assert_eq!(trace.clocks.relation(), relation, "{}", sample.name);
        let (first, _) = trace.window.expect("a window");
        let mono = trace.clocks.mono(first).expect("nanotime is known");
        // Trace time is nanotime in steps of 64 ns on this platform.
        assert!((mono.ns - i128::from(first)).abs() < 1000 + i128::from(mono.residual), "{mono:?} {first}");
        assert_eq!(trace.clocks.wall(first).is_some(), relation == Relation::Snapshots);
    }
}

#[test]
fn timeline_shows_the_life() {
    let sample = &SAMPLES[3];
    let trace = parse(&data(sample.name), &Options::focused(sample.nil)).expect("a trace");
    let text = timeline(&trace, sample.nil, 80, false);
    for part in ["by goroutine 1 in main.main", "last block: forever, never woken", "main.consume", "older"] {
        assert_eq!(text.contains(part), part != "older", "{part} in\n{text}");
    }
    let bar = text.lines().find(|line| line.starts_with('|')).expect("a bar");
    assert_eq!(bar.len(), 80);
    assert!(bar.trim_matches('|').trim_start().chars().all(|c| c == '.'), "it waits nearly all the time: {bar}");
    assert!(timeline(&trace, sample.nil, 80, true).contains("\x1b[31m.\x1b[0m"));
    assert!(timeline(&trace, sample.old, 80, false).contains("waits since before the trace began"));
    assert!(timeline(&trace, 987_654, 80, false).contains("does not tell of goroutine 987654"));
    let json = timeline_json(&trace, sample.nil).expect("a goroutine");
    assert_eq!(json["last_block"]["reason"], "forever");
    assert_eq!(json["created"]["by"], 1);
    assert_eq!(json["last_block"]["stack"][0]["func"], "runtime.chanrecv1");
    assert_eq!(timeline_json(&trace, 987_654), None);
}

#[test]
fn little_is_kept_where_little_is_asked() {
    let data = data("go1.27-cpu");
    let all = parse(&data, &Options::default()).expect("a trace");
    let options = Options { max_spans: 2, max_ended: 3, max_wakers: 1, max_map_samples: 1, ..Options::default() };
    let few = parse(&data, &options).expect("a trace");
    assert!(few.goroutines.values().all(|g| g.spans.len() <= 2 && g.wakers.len() <= 1 && g.map_samples.len() <= 1));
    assert_eq!(few.goroutines.values().filter(|g| g.ended.is_some()).count(), 3);
    assert_eq!(few.counts.goroutines_dropped, few.counts.goroutines_ended - 3);
    assert_eq!(few.counts.goroutines_seen, all.counts.goroutines_seen);
    let sum = |trace: &Trace| trace.goroutines[&1].spans.len() as u64 + trace.goroutines[&1].spans_dropped;
    assert_eq!(sum(&few), sum(&all), "dropped states are counted");
    assert_eq!(few.goroutines[&1].times, all.goroutines[&1].times, "times do not depend on what is kept");
    assert!(few.notes.iter().any(|note| note.contains("left out to bound memory")), "{:?}", few.notes);
    let ten = parse(&data, &Options { max_goroutines: 10, focus: vec![14], ..Options::default() }).expect("a trace");
    let (focused, hot) = (&ten.goroutines[&14], &all.goroutines[&14]);
    assert!(hot.spans_dropped > 0 && focused.spans_dropped == 0, "the goroutine in focus is kept whole");
    assert!(focused.last_block.is_some() && focused.last_block == hot.last_block);
    assert!(hot.spans.iter().rev().zip(focused.spans.iter().rev()).all(|(few, whole)| few == whole));
    assert_eq!(ten.counts.goroutines_not_kept + ten.goroutines.len() as u64, all.counts.goroutines_seen);
    assert_eq!(ten.counts.goroutines_ended, all.counts.goroutines_ended);
}

#[test]
fn reading_stops_when_it_is_told_to() {
    struct Stop;
    impl Watch for Stop {
        fn tick(&self, _: u64, _: u64) -> mapscope::Result<()> {
            Err(mapscope::Error::Interrupted)
        }
    }
    let stopped = parse_watched(&data("go1.27-cpu"), &Options::default(), &Stop);
    assert_eq!(stopped.err(), Some(TraceError::Interrupted));
}

#[test]
fn other_files_are_named() {
    let options = Options::default();
    for bad in [&b""[..], b"g", b"go 1.22 trace\0\0", b"\x1f\x8b\x08", b"go 1.x2 trace\0\0\0 "] {
        assert_eq!(parse(bad, &options).err(), Some(TraceError::NotATrace), "{bad:?}");
    }
    for old in [&b"go 1.21 trace\0\0\0"[..], b"go 1.11 trace\0\0\0", b"go 1.9 trace\0\0\0\0"] {
        let error = parse(old, &options).expect_err("an old trace");
        assert!(matches!(error, TraceError::OldFormat(_)), "{error}");
        assert!(error.to_string().contains("go tool trace -d=parsed"), "{error}");
    }
    assert_eq!(parse(b"go 1.31 trace\0\0\0", &options).err(), Some(TraceError::UnknownFormat(31)));
    let empty = parse(b"go 1.26 trace\0\0\0", &options).expect("a trace of nothing");
    assert!(empty.goroutines.is_empty() && empty.notes.iter().any(|note| note.contains("no complete generation")));
}

#[test]
fn text_of_the_target_cannot_act_on_the_terminal() {
    let (data, name) = (data("go1.22"), b"main.consume");
    let mut hostile = data.clone();
    let places: Vec<usize> = (0..data.len() - name.len()).filter(|at| data[*at..].starts_with(name)).collect();
    assert!(!places.is_empty());
    for at in places {
        hostile[at..at + name.len()].copy_from_slice(b"\x1b]0;owned\x07\x9b?");
    }
    let trace = parse(&hostile, &Options::default()).expect("a trace");
    let text = timeline(&trace, SAMPLES[0].nil, 80, false);
    assert!(text.contains("owned"), "{text}");
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
}

/// The oracle tests compare cut traces event by event; this is what holds without the oracle.
#[test]
fn a_cut_trace_gives_what_stands_before_the_cut() {
    for sample in &SAMPLES {
        let (data, whole) = (data(sample.name), read(sample.name));
        let mut most = 0;
        for cut in (16..data.len()).step_by(97) {
            let trace = parse(&data[..cut], &Options::default()).expect("the header is whole");
            assert!(trace.incomplete.is_some() || cut == 16, "{} cut at {cut}", sample.name);
            assert!(!trace.notes.is_empty(), "{} cut at {cut}", sample.name);
            for (goid, g) in &trace.goroutines {
                let known = &whole.goroutines[goid];
                assert_eq!(g.created.map(|c| c.by), known.created.map(|c| c.by), "{} cut at {cut}", sample.name);
            }
            most = most.max(trace.goroutines.len());
        }
        // A generation's tables stand at its end, so only a trace of several can lose its end and still tell.
        assert_eq!(most > 3, sample.name.ends_with("killed"), "{}", sample.name);
    }
}
