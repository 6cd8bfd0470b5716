//! Execution traces: all goroutines, a timeline of some, and the listing.
#![no_main]

use mapscope::evidence::trace::{parse, timeline, timeline_json, Options};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(trace) = parse(data, &Options::default()) else { return };
    for &goid in trace.goroutines.keys().take(20) {
        assert!(!timeline(&trace, goid, 60, false).contains('\u{1b}'));
        timeline_json(&trace, goid);
    }
});
