//! Hostile input: nothing panics, and time and memory stay within the size of the input.

use crate::compare::listing;
use crate::golden::{data, SAMPLES};
use mapscope::evidence::trace::{parse, timeline, timeline_json, Options};
use proptest::prelude::*;

/// Reads the bytes in every way there is.
pub fn exercise(bytes: &[u8]) {
    listing(bytes);
    if let Ok(trace) = parse(bytes, &Options::default()) {
        for goid in trace.goroutines.keys().take(50) {
            timeline(&trace, *goid, 60, true);
            timeline_json(&trace, *goid);
        }
    }
}

fn header(version: u8) -> Vec<u8> {
    format!("go 1.{version} trace\0\0\0").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        exercise(&bytes);
    }

    #[test]
    fn any_bytes_after_a_header(
        version in prop::sample::select(vec![22u8, 23, 25, 26]),
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        exercise(&[header(version), bytes].concat());
    }

    /// One good batch header around any events, beside a good clock: reaches the scheduler.
    #[test]
    fn any_events(bodies in prop::collection::vec(
        prop::collection::vec(prop_oneof![9u8..49, 0u8..4, any::<u8>()], 1..120), 1..5),
    ) {
        let mut bytes = header(22);
        bytes.extend([1, 1, 0, 0, 5, 8, 0xc0, 0xd6, 0xb9, 0x07]);
        for (thread, body) in bodies.iter().enumerate() {
            bytes.extend([1, 1, thread as u8, 1, body.len() as u8]);
            bytes.extend(body);
        }
        exercise(&bytes);
    }

    #[test]
    fn real_traces_with_wrong_bytes(
        sample in 0..SAMPLES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        shorten in any::<bool>(),
    ) {
        let mut bytes = data(SAMPLES[sample].name);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if shorten {
            bytes.truncate(cut.index(bytes.len()));
        }
        exercise(&bytes);
    }

    #[test]
    fn real_traces_with_pieces_moved(
        sample in 0..SAMPLES.len(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        len in 1usize..300,
    ) {
        let mut bytes = data(SAMPLES[sample].name);
        let from = from.index(bytes.len());
        let piece = bytes[from..bytes.len().min(from + len)].to_vec();
        let to = to.index(bytes.len());
        bytes.splice(to..to, piece);
        exercise(&bytes);
    }
}

/// Time out of any order on many threads must not take time quadratic in the size of the file.
#[test]
fn disorder_is_bounded() {
    let mut bytes = header(22);
    bytes.extend([1, 1, 0, 0, 5, 8, 0xc0, 0xd6, 0xb9, 0x07]);
    // Many threads that each start a goroutine nobody creates, and one that goes on alone.
    for thread in 1..99_000u32 {
        bytes.extend([1, 1, thread as u8 | 0x80, (thread >> 7) as u8 | 0x80, (thread >> 14) as u8, 1, 4, 16, 0, 9, 1]);
    }
    for _ in 0..2000 {
        bytes.extend([1, 1, 0, 100, 48]);
        bytes.extend([13, 0, 0, 2].repeat(12));
    }
    let start = std::time::Instant::now();
    exercise(&bytes);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
