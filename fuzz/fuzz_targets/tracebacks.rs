//! debug=1, debug=2, panics, signals, logs: every form that is recognised by its text.
#![no_main]

mod report;

libfuzzer_sys::fuzz_target!(|data: &[u8]| report::report(data));
