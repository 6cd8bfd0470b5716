//! Damaged, hostile and odd inputs: no panic, bounded time, one clear sentence.

use std::io::Write;
use std::time::{Duration, Instant};

use mapscope::evidence::profile::{parse, Kind, Note, Profile, ProfileError, Records};
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
        "# labels: ", "#\t", "\\n", "\\t", "\\\\", "\\\"", "#012", " pc=0x7", "non-Go function", "\"", "\\u00", "{\"log\":\"", "\",\"stream\":\"stderr\"}", "2026-01-02T03:04:05Z stderr P ", "F ", "\r", "é", "\u{0}",
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
    assert!(parse(&long).unwrap().notes.contains(&Note::Overlong(1)));

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
    assert_eq!(names(8), ["non-Go function at pc=0x7f3a5c0d2117", "runtime.cgocall", "main._Cfunc_wait", "main.callC"]);
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

fn report(files: &[(&str, &[u8])]) -> serde_json::Value {
    serde_json::from_str(&profile_report(files, true).unwrap()).unwrap()
}

fn names(cluster: &serde_json::Value) -> Vec<&str> {
    cluster["frames"].as_array().unwrap().iter().map(|frame| frame["func"].as_str().unwrap()).collect()
}

/// Goroutines in different C functions are not alike.
#[test]
fn goroutines_in_c_are_told_apart_by_their_c_frames() {
    let goroutine = |goid: u64, frames: &str| {
        format!(
            "goroutine {goid} [syscall]:\n{frames}main._Cfunc_load()\n\t_cgo_gotypes.go:41 +0x34\nmain.load()\n\t/app/main.go:15 +0x1c\ncreated by main.main in goroutine 1\n\t/app/main.go:20 +0x64\n\n"
        )
    };
    let dump = [
        goroutine(5, "read_block\n\t/src/native.c:7 pc=0x481b3c\nload_page\n\t/src/native.c:12 pc=0x481b5f\n"),
        goroutine(6, "wait_for_lock\n\t/src/native.c:30 pc=0x481c3c\nnon-Go function\n\tpc=0x481b10\n"),
        goroutine(7, "non-Go function\n\tpc=0x481b20\n"),
        goroutine(8, "non-Go function\n\tpc=0x481b30\n"),
    ]
    .concat();
    let report = report(&[("in.txt", dump.as_bytes())]);
    let clusters = report["clusters"].as_array().unwrap();
    assert_eq!(clusters.len(), 4);
    let of = |goid: u64| names(clusters.iter().find(|c| c["goids"] == serde_json::json!([goid])).unwrap());
    assert_eq!(of(5), ["read_block", "load_page", "main._Cfunc_load", "main.load"]);
    assert_eq!(of(6), ["wait_for_lock", "non-Go function at pc=0x481b10", "main._Cfunc_load", "main.load"]);
    assert_eq!(of(8)[0], "non-Go function at pc=0x481b30");
    assert_eq!(report["profiles"][0]["notes"], serde_json::json!([]));
}

/// Stacks without their goroutine's line are not silently left out; those that no goroutine has are not missed.
#[test]
fn what_stands_outside_goroutines_is_said() {
    let head =
        "main.worker(0xc000012345)\n\t/app/worker.go:20 +0x61\ncreated by main.start\n\t/app/main.go:9 +0x1c\n\n";
    let rest = "goroutine 134 [IO wait, 91 minutes]:\nmain.serve(0x1)\n\t/app/serve.go:7 +0x60\ncreated by main.start\n\t/app/main.go:9 +0x1c\n";
    let notes = |dump: &str| parse(dump.as_bytes()).unwrap().notes;
    assert_eq!(notes(&format!("{head}{rest}")), [Note::BeginsInside]);
    assert_eq!(notes(&format!("\t/app/worker.go:20 +0x61\n\n{rest}")), [Note::BeginsInside]);
    assert_eq!(notes(&format!("{rest}\n{head}")), [Note::LostHeaders(1)]);
    assert_eq!(notes(&format!("{rest}\n{head}{head}{rest}")), [Note::LostHeaders(2)]);
    for whole in [
        "fatal error: sweep\n\nruntime stack:\nruntime.throw({0x47f6a0?, 0x4c5a18?})\n\t/go/src/runtime/panic.go:1 +0x1\n\n",
        "panic: x\n\nrunning tests:\n\tTestA (1s)\n\n",
        "WARNING: DATA RACE\nWrite at 0x1 by goroutine 7:\n  main.f()\n      /a.go:1 +0x1\n\n",
        "error: no\nmain.f\n\t/a.go:1\n",
    ] {
        assert_eq!(notes(&format!("{whole}{rest}")), [], "{whole}");
    }
}

/// What the runtime says of a panic that was recovered, of an ancestor's stack, of a thread and of the collector.
#[test]
fn words_of_the_runtime_beside_frames_are_kept() {
    let dump = "panic: first [recovered]\n\tpanic: second\n\ngoroutine 9 [chan receive (scan), 2 minutes, locked to thread]:\nmain.leaf()\n\t/m.go:30 +0x17\ncreated by main.mid\n\t/m.go:34 +0x25\n[originating from goroutine 5]:\nmain.mid(...)\n\t/m.go:34 +0x25\n...additional frames elided...\ncreated by main.main\n\t/m.go:50 +0x11d\n";
    let profile = parse(dump.as_bytes()).unwrap();
    assert_eq!(profile.causes, ["panic: first [recovered]", "panic: second"]);
    let Records::Goroutines(all) = &profile.records else { panic!("a traceback has goroutines") };
    let one = &all[0];
    assert_eq!((one.parent, one.elided, one.scan, one.locked, one.minutes), (Some(5), None, true, true, Some(2)));
    assert_eq!(profile.notes, []);
}

/// Frames that are not shown, because the runtime left them out or because they repeat, are counted.
#[test]
fn frames_that_are_not_shown_are_said() {
    let dump = |frames: usize, elided: &str| {
        let deep = "main.walk(0x1)\n\t/m.go:9 +0x1d\n".repeat(frames);
        format!("goroutine {frames} [select]:\n{deep}{elided}main.run()\n\t/m.go:20 +0x1d\n\n")
    };
    let text = [dump(50, "...51 frames elided...\n"), dump(3, "")].concat();
    let report = report(&[("a", text.as_bytes())]);
    let clusters = report["clusters"].as_array().unwrap();
    assert_eq!(clusters.len(), 1);
    assert_eq!(clusters[0]["frames_collapsed"], serde_json::json!({"least": 2, "most": 49}));
    let text = profile_report(&[("a", text.as_bytes())], false).unwrap();
    assert!(text.contains("recursion shown once: 2 to 49 more frames"), "{text}");
    assert!(text.contains("stacks cut by the runtime: 1 goroutine, up to 51 frames of one"), "{text}");
}

/// A dump in one line of a log, and one whose line was cut.
#[test]
fn a_dump_in_one_log_line_is_read() {
    let line = r#"Jan 02 03:04:05 host-1 serverd[77]: time="2026-01-02T03:04:05Z" level=info msg="=== stack dump ===\ngoroutine 11 [running]:\nmain.dump()\n\t/app/dump.go:7 +0x98\n\ngoroutine 1 [chan receive, 90 minutes]:\nmain.main()\n\t/app/main.go:9 +0x10\n""#;
    let found = report(&[("in.txt", line.as_bytes())]);
    assert_eq!(found["profiles"][0]["goroutines"], 2);
    assert_eq!(found["profiles"][0]["truncated"], false);
    let waits = found["clusters"].as_array().unwrap().iter().find(|c| c["goids"] == serde_json::json!([1])).unwrap();
    assert_eq!(waits["minutes"]["most"], 90);
    assert_eq!(waits["frames"][0]["line"], 9);
    let cut = report(&[("in.txt", &line.as_bytes()[..line.len() - 20])]);
    assert_eq!(cut["profiles"][0]["truncated"], true);
    // A dump in one line may be longer than any line of its own.
    let many: String = (1..30_000).map(|n| format!("goroutine {n} [select]:\nmain.f()\n\t/a.go:1 +0x1\n\n")).collect();
    let found = parse(format!("msg={many:?}\n").as_bytes()).unwrap();
    assert_eq!((found.total, &found.notes[..]), (29_999, &[Note::Unescaped(1)][..]));
}

/// A file whose gzip data ends at a goroutine's end looks whole, and is not.
#[test]
fn a_profile_that_lost_its_end_is_truncated() {
    let goroutine = |n: u64| format!("goroutine {n} [select]:\nmain.f()\n\t/a.go:1 +0x1\n\n");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(goroutine(1).as_bytes()).unwrap();
    encoder.flush().unwrap();
    let cut = encoder.get_ref().len();
    encoder.write_all(goroutine(2).as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    let truncated = |data: &[u8]| report(&[("a", data)])["profiles"][0]["truncated"].clone();
    assert_eq!((truncated(&whole), truncated(&whole[..cut])), (false.into(), true.into()));
}

/// Names in a file cannot steer the terminal.
#[test]
fn terminal_escapes_are_shown_not_sent() {
    let dump = b"goroutine 1 [\x1b[31mred]:\nmain.f()\n\t/a\x1b]0;title\x07.go:1 +0x1\n";
    let text = profile_report(&[("\u{1b}name", dump)], false).unwrap();
    assert!(!text.chars().any(|c| c.is_control() && c != '\n') && text.contains("\\u{1b}[31mred"), "{text}");
}
