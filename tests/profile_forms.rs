//! Profiles of real programs, built at test time with several Go versions, against what the programs know about
//! themselves and against `go tool pprof -raw`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mapscope::evidence::profile::{parse, Frame, Goroutine, Group, Kind, Note, Profile, Records};
use mapscope::evidence::profile_report::profile_report;
use serde_json::Value;

/// Its `pprof` comes built, and reads the profiles of all versions.
const ORACLE: &str = "1.23.9";

fn toolchain(version: &str) -> PathBuf {
    let cache = std::env::var_os("MAPSCOPE_GO")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(&std::env::var_os("HOME").expect("HOME is set")).join(".cache/mapscope/go"));
    let debian = PathBuf::from(format!("/usr/lib/go-{version}/bin/go"));
    [cache.join(version).join("bin/go"), cache.join(version).join("go/bin/go"), debian]
        .into_iter()
        .find(|go| go.exists())
        .unwrap_or_else(|| panic!("no Go {version} in {}: set MAPSCOPE_GO to a folder of toolchains", cache.display()))
}

fn go(version: &str) -> Command {
    let mut command = Command::new(toolchain(version));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("go-build-{version}"));
    command.env("GOTOOLCHAIN", "local").env("GOFLAGS", "-mod=mod").env("GOCACHE", cache).env_remove("GOROOT");
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// What a version's profiles can say.
#[derive(Clone, Copy, Default)]
struct Features {
    /// Creators with their goroutine, and how many frames are elided.
    parents: bool,
    /// The first line of each function in debug=0.
    start_lines: bool,
    /// Labels in tracebacks.
    labels: bool,
    leak_profile: bool,
}

impl Features {
    const GO_1_21: Features = Features { parents: true, start_lines: true, labels: false, leak_profile: false };
    const GO_1_27: Features = Features { labels: true, leak_profile: true, ..Features::GO_1_21 };
}

/// The sample program of one Go version, and the folder of its profiles.
struct Sample {
    program: PathBuf,
    folder: PathBuf,
    truth: Vec<Value>,
}

impl Sample {
    fn new(version: &str, experiment: &str) -> Sample {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("profiles-{version}"));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("program");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/profiles");
        let build = ["build", "-o", program.to_str().unwrap(), "."];
        run(go(version).args(build).current_dir(source).env("GOEXPERIMENT", experiment));
        let output = run(Command::new(&program).arg(&folder).env("GODEBUG", "tracebacklabels=1"));
        Sample { truth: truth(&output), program, folder }
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).unwrap()
    }

    fn crash(&self, how: &str, traceback: &str) -> (Vec<u8>, Vec<Value>) {
        let output = Command::new(&self.program)
            .arg(how)
            .env("GOTRACEBACK", traceback)
            .env("GODEBUG", "tracebacklabels=1")
            .output()
            .unwrap();
        assert!(!output.status.success());
        let truth = truth(&output);
        (output.stderr, truth)
    }
}

fn truth(output: &Output) -> Vec<Value> {
    let truth: Vec<Value> = serde_json::from_slice(&output.stdout).expect("the program prints what it knows");
    assert_eq!(truth.len(), 42);
    truth
}

fn goroutines(profile: &Profile) -> HashMap<u64, &Goroutine> {
    let Records::Goroutines(all) = &profile.records else { panic!("a traceback has goroutines") };
    all.iter().map(|goroutine| (goroutine.goid, goroutine)).collect()
}

fn groups(profile: &Profile) -> &[Group] {
    let Records::Groups(groups) = &profile.records else { panic!("this form has groups") };
    groups
}

fn labels(
    profile: &Profile,
    labels: &[(mapscope::evidence::profile::Text, mapscope::evidence::profile::Text)],
) -> BTreeMap<String, String> {
    let text = |text| profile.symbols.text(text).to_string();
    labels.iter().map(|&(key, value)| (text(key), text(value))).collect()
}

/// Every goroutine that the program started is in the traceback as the program knows it.
fn assert_goroutines(profile: &Profile, truth: &[Value], with: Features, leak_profile: bool) {
    let found = goroutines(profile);
    for fact in truth {
        let goid = fact["goid"].as_u64().unwrap();
        let goroutine = found.get(&goid).unwrap_or_else(|| panic!("goroutine {goid} is missing"));
        let text = |id| profile.symbols.text(id);
        let reason = goroutine.reason.map(text).unwrap_or_default();
        assert!(fact["reasons"].as_array().unwrap().iter().any(|r| r == reason), "{fact}: {reason}");
        assert_eq!(text(goroutine.status), "waiting");
        assert_eq!(goroutine.locked, fact["locked"].as_bool().unwrap(), "{fact}");
        assert_eq!(goroutine.leaked, leak_profile && fact["leaked"].as_bool().unwrap(), "{fact}");
        assert_eq!(goroutine.parent, with.parents.then_some(1));
        assert_eq!(goroutine.created_by.map(|id| profile.symbols.function(id)), Some("main.start"));
        let frames: Vec<(&Frame, &str)> = profile.frames(goroutine).collect();
        let user: Vec<&str> = frames.iter().map(|(f, _)| text(f.function)).filter(|f| f.starts_with("main.")).collect();
        assert_eq!(user.first().copied(), fact["func"].as_str(), "{fact}");
        for (frame, args) in &frames {
            assert!(frame.line > 0 && text(frame.file).contains('/'), "{fact}");
            assert!(*args == "..." || frame.offset.is_some(), "only an inlined call has no offset: {fact}");
        }
        if fact["func"] == "main.send" {
            assert_eq!(frames.iter().find(|(f, _)| text(f.function) == "main.send").unwrap().1, "0x7");
        }
        let depth = fact["depth"].as_u64().unwrap();
        if depth > 0 {
            let shown = frames.iter().filter(|(f, _)| text(f.function).starts_with("main.")).count() as u64;
            // One more frame: the closure that calls it first. System level also shows runtime frames on both ends.
            // Go 1.19 does not say how many, or cuts the stack without a word where it passed over its own frames.
            let all = goroutine
                .elided
                .map_or(!with.parents, |elided| (elided == 0 && !with.parents) || shown + elided > depth);
            assert!(shown < depth && all, "{goroutine:?}");
        } else {
            assert_eq!(goroutine.elided, None);
        }
        let want: BTreeMap<String, String> = match fact["labels"].as_object() {
            Some(labels) if with.labels => {
                labels.iter().map(|(k, v)| (k.clone(), v.as_str().unwrap().to_string())).collect()
            }
            _ => BTreeMap::new(),
        };
        assert_eq!(labels(profile, &goroutine.labels), want, "{fact}");
    }
}

/// A stack as `go tool pprof -raw` tells it: count, calls as `function file:line s=start`, addresses, labels.
type RawSample = (u64, Vec<String>, Vec<u64>, String);

fn pprof_raw(file: &Path) -> Vec<RawSample> {
    let output = run(go(ORACLE).args(["tool", "pprof", "-raw"]).arg(file));
    let raw = String::from_utf8(output.stdout).unwrap();
    let (samples, locations) = raw.split_once("\nLocations\n").expect("pprof -raw lists locations");
    let locations = locations.split("\nMappings").next().unwrap();
    let mut calls: HashMap<u64, (u64, Vec<String>)> = HashMap::new();
    let mut current = 0;
    for line in locations.lines() {
        let mut call = line.trim();
        if let Some((id, rest)) = call.split_once(": 0x") {
            current = id.trim().parse().unwrap();
            let (address, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            calls.insert(current, (u64::from_str_radix(address, 16).unwrap(), Vec::new()));
            call = rest.trim_start().strip_prefix("M=1").unwrap_or(rest).trim();
        }
        if !call.is_empty() {
            calls.get_mut(&current).unwrap().1.push(call.to_string());
        }
    }
    let mut out: Vec<RawSample> = Vec::new();
    for line in samples.split_once("/count").unwrap().1.lines().skip(1) {
        let sample = line.split_once(": ").and_then(|(count, ids)| {
            let ids: Option<Vec<u64>> = ids.split_whitespace().map(|id| id.parse().ok()).collect();
            Some((count.trim().parse::<u64>().ok()?, ids?))
        });
        match sample {
            Some((count, ids)) => {
                let frames = ids.iter().flat_map(|id| calls[id].1.clone()).collect();
                out.push((count, frames, ids.iter().map(|id| calls[id].0).collect(), String::new()));
            }
            None => {
                let labels = &mut out.last_mut().unwrap().3;
                labels.push_str(line.trim_start());
                labels.push('\n');
            }
        }
    }
    out.iter_mut().for_each(|sample| sample.3 = sample.3.trim_end().to_string());
    out.sort();
    out
}

fn label_text(profile: &Profile, group: &Group) -> String {
    let labels = labels(profile, &group.labels);
    labels.iter().map(|(k, v)| format!("{k}:[{v}]")).collect::<Vec<_>>().join(" ")
}

fn assert_proto(sample: &Sample, name: &str, kind: Kind) {
    let profile = parse(&sample.read(name)).unwrap();
    assert_eq!(profile.kind, kind);
    assert!(profile.taken.is_some_and(|ns| ns > 1_700_000_000_000_000_000));
    let mut ours: Vec<RawSample> = Vec::new();
    for group in groups(&profile) {
        let text = |id| profile.symbols.text(id);
        let call = |frame: &Frame| {
            format!("{} {}:{}:0 s={}", text(frame.function), text(frame.file), frame.line, frame.start_line)
        };
        let calls = profile.symbols.stack(group.stack).iter().map(|&id| call(profile.symbols.frame(id))).collect();
        ours.push((group.count, calls, group.pcs.clone(), label_text(&profile, group)));
    }
    ours.sort();
    assert_eq!(ours, pprof_raw(&sample.folder.join(name)));
}

fn assert_text(sample: &Sample, name: &str, kind: Kind) {
    let profile = parse(&sample.read(name)).unwrap();
    assert_eq!(profile.kind, kind);
    assert_eq!(profile.notes, []);
    let mut ours: Vec<(u64, Vec<u64>)> = Vec::new();
    for group in groups(&profile) {
        // pprof turns return addresses into call addresses.
        ours.push((group.count, group.pcs.iter().map(|pc| pc - 1).collect()));
    }
    ours.sort();
    let raw = pprof_raw(&sample.folder.join(name));
    let mut theirs: Vec<(u64, Vec<u64>)> = raw.into_iter().map(|(count, _, pcs, _)| (count, pcs)).collect();
    theirs.sort();
    assert_eq!(ours, theirs);

    // The text names the calls that the protobuf of the same process names at the same addresses.
    let proto = name.replace("-1", "-0");
    let mut named: HashMap<u64, BTreeSet<String>> = HashMap::new();
    let other = parse(&sample.read(&proto)).unwrap();
    for group in groups(&other) {
        for &id in other.symbols.stack(group.stack) {
            let frame = other.symbols.frame(id);
            let name = other.symbols.text(frame.function).replace("[go.shape.string]", "[...]");
            let call = format!("{name} {}:{}", other.symbols.text(frame.file), frame.line);
            named.entry(frame.pc.unwrap()).or_default().insert(call);
        }
    }
    let (mut checked, mut labelled) = (0, 0);
    for group in groups(&profile) {
        for &id in profile.symbols.stack(group.stack) {
            let frame = profile.symbols.frame(id);
            let name = profile.symbols.text(frame.function).replace("[go.shape.string]", "[...]");
            let call = format!("{name} {}:{}", profile.symbols.text(frame.file), frame.line);
            if let Some(names) = named.get(&frame.pc.unwrap()) {
                checked += 1;
                assert!(names.contains(&call), "{call} is not among {names:?}");
            }
        }
        if !group.labels.is_empty() {
            labelled += group.count;
            let want = BTreeMap::from([("k".into(), "b".into()), ("req".into(), "r \"1\": é\n".into())]);
            assert_eq!(labels(&profile, &group.labels), want);
        }
    }
    assert!(checked > 8, "{checked}");
    assert_eq!(labelled, 3);
}

/// States concluded from the frames of a debug=0 profile are those that the program knows.
fn assert_concluded_states(sample: &Sample) {
    let data = sample.read("goroutine-0");
    let report: Value = serde_json::from_str(&profile_report(&[("p", &data)], true).unwrap()).unwrap();
    let mut known = BTreeMap::new();
    for cluster in report["clusters"].as_array().unwrap() {
        let frames = cluster["frames"].as_array().unwrap();
        if let Some(frame) = frames.iter().find(|f| f["func"].as_str().unwrap().starts_with("main.")) {
            let name = frame["func"].as_str().unwrap().replace("[go.shape.string]", "[...]");
            known.insert(name, cluster.clone());
        }
    }
    for fact in &sample.truth {
        let cluster = &known[fact["func"].as_str().unwrap()];
        assert!(fact["reasons"].as_array().unwrap().contains(&cluster["reason"]), "{fact}: {cluster}");
        let nil = fact["reasons"][0].as_str().unwrap().contains("nil chan");
        assert_eq!(cluster["nil_channel"].as_bool(), Some(nil));
        let same = sample.truth.iter().filter(|other| other["func"] == fact["func"]).count();
        assert_eq!(cluster["count"].as_u64(), Some(same as u64));
    }
}

/// A dump read out of logs says what the dump itself says.
fn assert_wrapped(data: &[u8]) {
    let plain = describe(&parse(data).unwrap());
    for (form, wrapped) in wrappings(data) {
        let read = parse(wrapped.as_bytes()).unwrap_or_else(|e| panic!("{form}: {e}"));
        assert_eq!(describe(&read), plain, "{form}");
    }
    for cut in (0..data.len()).step_by(397).skip(1) {
        let read = describe(&parse(&data[..cut]).unwrap_or_else(|e| panic!("cut at {cut}: {e}")));
        // All but the last one, which may be partial.
        let sure = read.len().saturating_sub(1);
        assert!(read.len() <= plain.len());
        assert_eq!(read[..sure], plain[..sure], "cut at {cut}");
    }
}

fn json(text: &str) -> String {
    serde_json::json!(text).to_string()
}

/// A dump as log pipelines pass it on.
fn wrappings(data: &[u8]) -> Vec<(&'static str, String)> {
    let text = String::from_utf8(data.to_vec()).unwrap();
    let wrap =
        |line: &dyn Fn(usize, &str) -> String| text.lines().enumerate().map(|(n, l)| line(n, l)).collect::<String>();
    vec![
        ("CRLF", wrap(&|_, l| format!("{l}\r\n"))),
        (
            "docker",
            wrap(&|n, l| {
                serde_json::json!({"log": format!("{l}\n"), "stream": "stderr", "time": n}).to_string() + "\n"
            }),
        ),
        ("cri", wrap(&|n, l| format!("2026-01-02T03:04:05.{n}Z stderr F {l}\n"))),
        (
            "docker in parts",
            wrap(&|_, l| {
                let half = (0..=l.len() / 2).rev().find(|&at| l.is_char_boundary(at)).unwrap();
                let record = |text: &str| serde_json::json!({"log": text, "stream": "stderr"}).to_string() + "\n";
                record(&l[..half]) + &record(&format!("{}\n", &l[half..]))
            }),
        ),
        (
            "cri in parts",
            wrap(&|n, l| {
                let half = (0..=l.len() / 2).rev().find(|&at| l.is_char_boundary(at)).unwrap();
                let time = format!("2026-01-02T03:04:05.{n}Z stderr");
                format!("{time} P {}\n{time} F {}\n", &l[..half], &l[half..])
            }),
        ),
        ("syslog", wrap(&|n, l| format!("Jan {:2} 03:04:05 host app[12]: {}\n", 1 + n % 28, l.replace('\t', "#011")))),
        ("compose", wrap(&|_, l| format!("\u{1b}[36mweb-1  |\u{1b}[0m {l}\n"))),
        ("klog", wrap(&|n, l| format!("E0102 03:04:05.{:06} {:>5} {}\n", n, n, l))),
        (
            "logfmt",
            format!("Jan 02 03:04:05 host app[77]: time=\"2026-01-02T03:04:05Z\" level=info msg={}\n", json(&text)),
        ),
        (
            "JSON field",
            format!("{{\"level\":\"error\",\"msg\":\"stopping\",\"debug\":{{\"stacks\":[{}]}}}}\n", json(&text)),
        ),
        ("JSON in JSON", {
            let inner = format!("{{\"msg\":{},\"n\":1}}\n", json(&text));
            format!("{{\"log\":{},\"stream\":\"stderr\"}}\n", json(&inner))
        }),
        (
            "JSON in logfmt",
            format!("I0102 03:04:05.000001 7 main.go:3] event={}\n", json(&format!("{{\"s\":{}}}", json(&text)))),
        ),
        ("JSON after a prefix", format!("web-1  | {{\"stack\":{},\"caller\":\"x.go:1\"}}\n", json(&text))),
        ("Go's quotes", format!("E0102 03:04:05.000001 7 main.go:3] \"Observed a panic\" stack={text:?}\n")),
        ("rsyslog", format!("Jan  2 03:04:05 host app: {}\n", text.replace('\n', "#012").replace('\t', "#011"))),
        ("indented", wrap(&|_, l| format!("    {l}\n"))),
        (
            "interleaved",
            wrap(&|n, l| {
                format!(
                    "{l}\n{}",
                    ["level=info msg=\"call(x)\"\n", "", "GET /a 200\n", "\n", "time=1 f.g(1 + 2)\n"][n % 5]
                )
            }),
        ),
    ]
}

/// Everything but what differs between runs of the parser.
fn describe(profile: &Profile) -> Vec<String> {
    let text = |id| profile.symbols.text(id);
    let call = |f: &Frame| format!("{} {}:{} {:?} {:?}", text(f.function), text(f.file), f.line, f.offset, f.pc);
    match &profile.records {
        Records::Goroutines(all) => all
            .iter()
            .map(|g| {
                let frames: Vec<String> = profile.frames(g).map(|(f, args)| format!("{}({args})", call(f))).collect();
                let creator = g.created_by.map(|id| call(profile.symbols.frame(id)));
                let labels = labels(profile, &g.labels);
                let reason = g.reason.map(text);
                format!(
                    "{} {reason:?} {:?} {creator:?} {:?} {} {labels:?} {frames:#?}",
                    g.goid, g.elided, g.parent, g.locked
                )
            })
            .collect(),
        Records::Groups(all) => all
            .iter()
            .map(|g| {
                let stack = profile.symbols.stack(g.stack);
                let frames: Vec<String> = stack.iter().map(|&id| call(profile.symbols.frame(id))).collect();
                format!("{} {:x?} {:?} {frames:#?}", g.count, g.pcs, labels(profile, &g.labels))
            })
            .collect(),
    }
}

fn assert_crashes(sample: &Sample, with: Features) {
    for (how, traceback, cause) in [
        ("panic", "all", "panic: assignment to entry in nil map"),
        ("quit", "all", "SIGQUIT: quit"),
        ("quit", "system", "SIGQUIT: quit"),
        ("abort", "system", "SIGABRT: abort"),
    ] {
        let (dump, truth) = sample.crash(how, traceback);
        let profile = parse(&dump).unwrap();
        assert_eq!(profile.kind, Kind::Crash, "{how}");
        assert_eq!(profile.causes, [cause]);
        assert_goroutines(&profile, &truth, with, false);
        if traceback == "system" {
            let main = goroutines(&profile)[&truth[0]["goid"].as_u64().unwrap()];
            assert!(profile.frames(main).all(|(frame, args)| args == "..." || frame.pc.is_some()));
        }
    }
}

/// C frames as the runtime prints them, which are nothing but what the symbolizer says and an address.
fn assert_foreign_frames(version: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("profiles-{version}"));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("cgo");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/profiles/cgo");
    let build = ["build", "-o", program.to_str().unwrap(), "."];
    run(go(version).args(build).current_dir(source).env("CGO_ENABLED", "1"));
    let dump = Command::new(&program).output().unwrap().stderr;
    let profile = parse(&dump).unwrap();
    let first = goroutines(&profile)[&1];
    let text = |id| profile.symbols.text(id);
    let frames: Vec<_> = profile
        .frames(first)
        .map(|(frame, args)| (text(frame.function), args, text(frame.file), frame.line, frame.pc.unwrap_or(0)))
        .collect();
    let foreign = [
        ("read_block", "", "/src/native.c", 7, 0x1001),
        ("std::map<int, page*>::at(int const&) const", "", "/usr/include/c++/map", 541, 0x2002),
        ("store.load", "0x1", "/src/store.cc", 30, 0x3003),
        ("non-Go function at pc=0x4004", "", "/src/nameless.s", 2, 0x4004),
        ("non-Go function at pc=0x5005", "", "", 0, 0x5005),
    ];
    assert_eq!(frames[..5], foreign, "{}", String::from_utf8_lossy(&dump));
    let callers: Vec<&str> = frames[5..].iter().map(|frame| frame.0).filter(|name| name.starts_with("main.")).collect();
    assert_eq!(callers, ["main._Cfunc_crash", "main.callC", "main.main"]);
}

/// A debug=1 profile whose first line was lost, and more.
fn assert_rest_of_text(data: &[u8]) {
    let whole = describe(&parse(data).unwrap());
    let first_line = data.iter().position(|&b| b == b'\n').unwrap() + 1;
    let rest = parse(&data[first_line..]).unwrap();
    assert_eq!(describe(&rest), whole);
    assert_eq!((rest.kind, &rest.notes[..]), (Kind::GoroutineText, &[Note::NoTitle][..]));
    for (form, wrapped) in wrappings(&data[first_line..]).into_iter().filter(|(form, _)| *form != "interleaved") {
        // Without the title nothing but the word in a function's name could tell that a quoted text is a profile.
        if wrapped.lines().count() > 1 {
            assert_eq!(describe(&parse(wrapped.as_bytes()).unwrap()), whole, "{form}");
        }
    }
    let inside = first_line + data[first_line..].iter().position(|&b| b == b'\n').unwrap() + 1;
    let rest = parse(&data[inside..]).unwrap();
    assert_eq!(describe(&rest), whole[1..]);
}

/// A dump that begins in the middle says so, and is right from its first whole goroutine on.
fn assert_beginnings(data: &[u8]) {
    let whole = describe(&parse(data).unwrap());
    for cut in (0..data.len()).step_by(397).skip(1) {
        let Ok(profile) = parse(&data[cut..]) else { continue };
        let read = describe(&profile);
        assert_eq!(read[..], whole[whole.len() - read.len()..], "cut at {cut}");
        let rest = &data[cut..];
        let next = memchr::memmem::find(rest, b"\n\ngoroutine ").unwrap_or(0);
        // A whole line of the goroutine that was cut is left.
        let lines = rest[..next].split(|&b| b == b'\n').skip(1).count();
        if lines >= 2 && !rest.trim_ascii_start().starts_with(b"goroutine ") {
            assert_eq!(profile.notes, [Note::BeginsInside], "cut at {cut}: {}", String::from_utf8_lossy(&rest[..next]));
        }
    }
}

fn assert_version(version: &str, experiment: &str, with: Features) {
    let sample = Sample::new(version, experiment);
    let stacks = sample.read("goroutine-2");
    let profile = parse(&stacks).unwrap();
    assert_eq!((profile.kind, profile.total), (Kind::Stacks, 43));
    assert_eq!(profile.notes, []);
    assert_goroutines(&profile, &sample.truth, with, false);
    assert_wrapped(&stacks);
    assert_wrapped(&sample.read("goroutine-1"));
    assert_beginnings(&stacks);
    assert_rest_of_text(&sample.read("goroutine-1"));
    assert_foreign_frames(version);
    assert_proto(&sample, "goroutine-0", Kind::GoroutineProto);
    assert_text(&sample, "goroutine-1", Kind::GoroutineText);
    if with.start_lines {
        assert_concluded_states(&sample);
    }
    assert_crashes(&sample, with);
    if with.leak_profile {
        assert_goroutines(&parse(&sample.read("goroutineleak-2")).unwrap(), &sample.truth, with, true);
        assert_proto(&sample, "goroutineleak-0", Kind::LeakProto);
        assert_text(&sample, "goroutineleak-1", Kind::LeakText);
    }
    // The same process in all three forms: nothing grows, and each cluster is found again by its stack.
    let (text, proto) = (sample.read("goroutine-1"), sample.read("goroutine-0"));
    let report = profile_report(&[("2", &stacks), ("1", &text), ("0", &proto)], true).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    for fact in &sample.truth {
        let same = sample.truth.iter().filter(|other| other["func"] == fact["func"]).count() as u64;
        let clusters = report["clusters"].as_array().unwrap();
        let row = clusters
            .iter()
            .find(|row| {
                row["frames"].as_array().unwrap().iter().any(|f| {
                    f["func"].as_str().unwrap().replace("go.shape.string", "...") == fact["func"].as_str().unwrap()
                })
            })
            .unwrap();
        if fact["depth"] == 0 {
            assert_eq!(row["counts"], serde_json::json!([same, same, same]), "{fact}");
        }
    }
}

#[test]
#[ignore = "needs Debian's package golang-1.19-go"]
fn go_1_19() {
    assert_version("1.19", "", Features::default());
}

#[test]
fn go_1_21() {
    assert_version("1.21.13", "", Features::GO_1_21);
}

#[test]
fn go_1_23() {
    assert_version("1.23.9", "", Features::GO_1_21);
}

#[test]
fn go_1_26_with_the_leak_profile() {
    assert_version("1.26.6", "goroutineleakprofile", Features::GO_1_27);
}

#[test]
fn go_1_27() {
    assert_version("1.27.3", "", Features::GO_1_27);
}
