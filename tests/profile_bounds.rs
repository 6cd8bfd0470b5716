//! Damaged, hostile and odd inputs: no panic, bounded time, one clear sentence.

use std::io::Write;
use std::time::{Duration, Instant};

use mapscope::evidence::profile::{parse, Kind, Profile, ProfileError, Records};
use mapscope::evidence::profile_report::profile_report;
use proptest::prelude::*;

const STACKS: &[u8] = include_bytes!("profiles/odd/stacks.txt");
const CRASH: &[u8] = include_bytes!("profiles/odd/crash.log");
const TEXT: &[u8] = include_bytes!("profiles/odd/debug1.txt");
const PROTO: &[u8] = include_bytes!("profiles/odd/debug0.pb.gz");

fn unpack(data: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(data), &mut unpacked).unwrap();
    unpacked
}

fn pack(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Reads every field, so that a bad id or range would show.
fn walk(profile: &Profile) -> usize {
    match &profile.records {
        Records::Goroutines(all) => all
            .iter()
            .map(|g| profile.frames(g).map(|(f, args)| profile.symbols.text(f.file).len() + args.len()).sum::<usize>())
            .sum(),
        Records::Groups(all) => {
            all.iter().flat_map(|g| profile.symbols.stack(g.stack)).map(|&id| profile.symbols.function(id).len()).sum()
        }
    }
}

fn read_all(data: &[u8]) {
    if let Ok(profile) = parse(data) {
        walk(&profile);
        let text = profile_report(&[("a", data), ("b", STACKS)], false).unwrap();
        assert!(!text.contains('\u{1b}'));
        let json = profile_report(&[("a", data), ("b", data)], true).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok() && !json.contains('\n'));
    } else {
        let error = profile_report(&[("a", data)], false).unwrap_err().to_string();
        assert!(error.starts_with("a: ") && error.len() < 400 && !error.contains('\n'), "{error}");
    }
}

/// `seed` with bytes overwritten, cut out and doubled.
fn mutated(seed: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..40usize, 0..4u8);
    prop::collection::vec(edit, 0..12).prop_map(move |edits| {
        let mut data = seed.to_vec();
        for (at, byte, len, kind) in edits {
            if data.is_empty() {
                break;
            }
            let start = at.index(data.len());
            let end = (start + len).min(data.len());
            match kind {
                0 => data[start] = byte,
                1 => drop(data.drain(start..end)),
                2 => data.extend_from_within(start..end),
                _ => data.truncate(start),
            }
        }
        data
    })
}

proptest! {
    #[test]
    fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..600)) {
        read_all(&data);
        read_all(&pack(&data));
    }

    #[test]
    fn words_of_the_grammars(words in prop::collection::vec(prop::sample::select(vec![
        "goroutine ", "1", "99999999999999999999", " [", "]:", "\n", "running", "chan receive (nil chan)", ", ", " minutes",
        "main.f(", "0x1", "{", "}", ")", "\t", "/a.go", ":", "12", " +0x", " fp=0x1 sp=0x2 pc=0x3", "created by ", " in goroutine ",
        "...", " frames elided...", "[originating from goroutine ", "runtime stack:", "panic: ", "goroutine profile: total ", " @ ",
        "# labels: ", "#\t", "\"", "\\u00", "{\"log\":\"", "\",\"stream\":\"stderr\"}", "2026-01-02T03:04:05Z stderr P ", "F ", "\r", "é", "\u{0}",
    ]), 0..80)) {
        read_all(words.concat().as_bytes());
    }

    #[test]
    fn mutated_stacks(data in mutated(STACKS)) {
        read_all(&data);
    }

    #[test]
    fn mutated_crash(data in mutated(CRASH)) {
        read_all(&data);
    }

    #[test]
    fn mutated_text(data in mutated(TEXT)) {
        read_all(&data);
    }

    #[test]
    fn mutated_gzip(data in mutated(PROTO)) {
        read_all(&data);
    }

    #[test]
    fn mutated_proto(edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12), cut in any::<prop::sample::Index>()) {
        let mut data = unpack(PROTO);
        for (at, byte) in edits {
            let at = at.index(data.len());
            data[at] = byte;
        }
        read_all(&data);
        data.truncate(cut.index(data.len()));
        read_all(&data);
        read_all(&pack(&data));
    }
}

/// What the user is told about files that are no profile.
#[test]
fn other_files_are_named() {
    let sentence = |data: &[u8]| parse(data).unwrap_err().to_string();
    assert_eq!(parse(b"").unwrap_err(), ProfileError::Empty);
    assert_eq!(parse(b"x").unwrap_err(), ProfileError::Unrecognised);
    assert!(sentence(b"go 1.26 trace\0\0\0....").contains("an execution trace"));
    assert!(sentence(b"\x7fELF\x02\x01").contains("an executable or a core"));
    assert!(sentence(b"heap profile: 1: 2 [3: 4] @ heap/1048576\n").contains("a heap profile"));
    assert!(sentence(b"threadcreate profile: total 7\n7 @\n").contains("a threadcreate profile"));
    assert!(sentence(b"<!DOCTYPE html><title>Sign in</title>").contains("an HTML page"));
    assert!(sentence(&[0x1f, 0x8b, 8, 0, 1]).contains("gzip data is damaged"));
    assert_eq!(parse(&pack(b"")).unwrap_err(), ProfileError::Empty);
    // samples/count: a CPU profile.
    let cpu = [0x0a, 4, 8, 1, 16, 2, 0x32, 0, 0x32, 7, b's', b'a', b'm', b'p', b'l', b'e', b's', 0x32, 1, b'c'];
    assert!(sentence(&cpu).contains("a profile of 'samples'"), "{}", sentence(&cpu));
}

/// The sizes that a hostile file would like to claim are refused or passed over in time linear in the file.
#[test]
fn hostile_sizes_stay_cheap() {
    let start = Instant::now();
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![0u8; 1 << 20];
    (0..300).for_each(|_| bomb.write_all(&zeros).unwrap());
    assert_eq!(parse(&bomb.finish().unwrap()).unwrap_err(), ProfileError::TooLarge);

    let headers = b"goroutine 1 [".repeat(1 << 18);
    assert_eq!(parse(&headers).unwrap_err(), ProfileError::Unrecognised);
    let lines = b"goroutine 1 [goroutine 1 [goroutine 1 [goroutine 1 [\n".repeat(1 << 16);
    assert_eq!(parse(&lines).unwrap_err(), ProfileError::Unrecognised);
    let long = [STACKS, b"\n", &b"x".repeat(40 << 20), b"\n"].concat();
    assert!(parse(&long).unwrap().notes.iter().any(|note| note.contains("over 1 MiB")));

    let deep = [b"goroutine 1 [running]:\n".as_slice(), &b"main.f(0x1)\n\t/a.go:1 +0x1\n".repeat(1 << 17)].concat();
    assert_eq!(walk(&parse(&deep).unwrap()), (1 << 17) * ("/a.go".len() + "0x1".len()));
    let unclosed = [b"goroutine 1 [running]:\n".as_slice(), &b"main.f(".repeat(1 << 17)].concat();
    parse(&unclosed).unwrap();
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

/// A few bytes for each sample must not buy a frame list of thousands each.
#[test]
fn locations_named_again_and_again_are_bounded() {
    let field = |key: u8, body: &[u8]| {
        let mut out = vec![key];
        prost::encoding::encode_varint(body.len() as u64, &mut out);
        out.extend_from_slice(body);
        out
    };
    let mut data = field(0x0a, &[8, 1, 16, 2]);
    let line = field(0x22, &[8, 1, 16, 1]);
    data.extend(field(0x22, &[vec![8, 1, 24, 1], line.repeat(5000)].concat()));
    data.extend(field(0x2a, &[8, 1, 16, 3]));
    for n in 1..400usize {
        data.extend(field(0x12, &[field(0x0a, &vec![1; n]), vec![0x12, 1, 1]].concat()));
    }
    for text in ["", "goroutine", "count", "main.f"] {
        data.extend(field(0x32, text.as_bytes()));
    }
    assert_eq!(parse(&data).unwrap_err(), ProfileError::Proto("its stacks hold more than 16 million frames"));
}

/// Forms that today's toolchains no longer print, or only at certain moments.
#[test]
fn odd_forms_are_read() {
    let profile = parse(STACKS).unwrap();
    assert_eq!(profile.kind, Kind::Stacks);
    let Records::Goroutines(all) = &profile.records else { panic!("a traceback has goroutines") };
    let text = |id| profile.symbols.text(id);
    let by_id = |goid| all.iter().find(|g| g.goid == goid).unwrap();
    let names = |goid| profile.frames(by_id(goid)).map(|(f, _)| text(f.function)).collect::<Vec<_>>();

    // Go 1.19: creator without its goroutine, frames elided without a number.
    assert_eq!((by_id(6).parent, by_id(6).elided, by_id(6).minutes), (None, Some(0), Some(1441)));
    assert_eq!(by_id(6).created_by.map(|id| profile.symbols.function(id)), Some("main.main"));
    // Running elsewhere: no frames, but a creator.
    assert!(by_id(7).unavailable && names(7).is_empty() && by_id(7).parent == Some(1));
    // Calls out of Go, with and without a symbolizer.
    assert_eq!(names(8), ["non-Go function", "runtime.cgocall", "main._Cfunc_wait", "main.callC"]);
    // Go 1.24 and 1.25 synctest.
    assert_eq!((by_id(9).bubble, by_id(10).bubble, by_id(10).durable), (Some(3), Some(4), true));
    assert_eq!(by_id(10).reason.map(text), Some("chan receive"));
    // Ancestors.
    let ancestors: Vec<(u64, Vec<&str>)> = by_id(11)
        .ancestors
        .iter()
        .map(|&(goid, stack)| {
            (goid, profile.symbols.stack(stack).iter().map(|&id| profile.symbols.function(id)).collect())
        })
        .collect();
    assert_eq!(names(11), ["main.leaf"]);
    assert_eq!(ancestors, [(5, vec!["main.mid"]), (1, vec!["main.main"])]);
    assert_eq!(all.len(), 6);
}

/// A container's log around a crash: cause, thread id, registers and other services' lines.
#[test]
fn a_crash_is_read_out_of_a_container_log() {
    let profile = parse(CRASH).unwrap();
    assert_eq!(profile.kind, Kind::Crash);
    assert_eq!(
        profile.causes,
        [
            "fatal error: concurrent map writes",
            "[signal SIGSEGV: segmentation violation code=0x1 addr=0x18 pc=0x47e2bd]"
        ]
    );
    let report: serde_json::Value =
        serde_json::from_str(&profile_report(&[("crash.log", CRASH)], true).unwrap()).unwrap();
    let clusters = report["clusters"].as_array().unwrap();
    let writer = clusters.iter().find(|c| c["goids"] == serde_json::json!([18])).unwrap();
    assert_eq!(
        writer["map_functions"],
        serde_json::json!(["internal/runtime/maps.fatal", "runtime.mapassign_faststr"])
    );
    assert_eq!(clusters.len(), 2);
}

/// Clusters that grow are told from those that only wobble.
#[test]
fn growth_is_told_over_several_profiles() {
    let dump = |leaks: u64, workers: u64| -> Vec<u8> {
        let leak = |n| {
            format!("goroutine {n} [chan receive (nil chan), {n} minutes]:\nmain.consume(0xc0000{n:05x})\n\t/m.go:9 +0x1d\n\n")
        };
        let worker = |n| format!("goroutine {n} [select]:\nmain.work(0x{n:x})\n\t/m.go:30 +0x2d\n\n");
        ((10..10 + leaks).map(leak).chain((1000..1000 + workers).map(worker))).collect::<String>().into_bytes()
    };
    let (a, b, c) = (dump(2, 5), dump(4, 3), dump(9, 6));
    let files: [(&str, &[u8]); 3] = [("a", &a), ("b", &b), ("c", &c)];
    let report: serde_json::Value = serde_json::from_str(&profile_report(&files, true).unwrap()).unwrap();
    let rows = report["clusters"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["counts"], serde_json::json!([2, 4, 9]));
    assert_eq!((rows[0]["grows"].as_bool(), rows[0]["persistent"].as_u64()), (Some(true), Some(2)));
    assert_eq!(
        (rows[0]["nil_channel"].as_bool(), &rows[0]["minutes"]),
        (Some(true), &serde_json::json!({"least": 10, "most": 18}))
    );
    assert_eq!((rows[1]["grows"].as_bool(), rows[1]["growth"].as_i64()), (Some(false), Some(1)));
    let text = profile_report(&files, false).unwrap();
    assert!(text.contains("trend: 1 cluster grows") && text.contains("2 -> 4 -> 9 (+7, grows)"), "{text}");
}

/// Names in a file cannot steer the terminal.
#[test]
fn terminal_escapes_are_shown_not_sent() {
    let dump = b"goroutine 1 [\x1b[31mred]:\nmain.f()\n\t/a\x1b]0;title\x07.go:1 +0x1\n";
    let text = profile_report(&[("\u{1b}name", dump)], false).unwrap();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n') && text.contains("\\u{1b}[31mred"), "{text}");
}
