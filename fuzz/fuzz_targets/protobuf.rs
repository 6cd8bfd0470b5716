//! debug=0: the protobuf within the gzip, so that the fuzzer need not find a checksum.
#![no_main]

mod report;

use std::io::Write;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(data).expect("memory");
    report::report(&gzip.finish().expect("memory"));
});
