//! The kernel engine against programs that count their own map operations, per map, goroutine, operation and key.
//!
//! Where the kernel or the rights do not allow uprobes, each test checks the sentence that says so.
#![cfg(target_os = "linux")]

use mapscope::probe::launch::Held;
use mapscope::probe::uprobe::{Polled, Settings, Totals, UprobeSession};
use mapscope::probe::{
    capability, cost_per_hit, plan, Arch, Awaits, Filters, FunctionSymbol, Hit, Key, Operation, Outcome, Pairs,
    ProbePlan, Seen, TypeFilter,
};
use mapscope::value::{Demand, TextLength};
use object::{Object, ObjectSymbol};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Offset of `goid` in `runtime.g`, measured from the DWARF of each version.
const VERSIONS: [(&str, u64); 4] = [("1.21.13", 152), ("1.23.9", 160), ("1.24.11", 160), ("1.27.3", 152)];

/// One at a time: the tests look at the list of all probes in the kernel.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|e| e.into_inner())
}

fn possible() -> bool {
    match capability() {
        Ok(()) => true,
        Err(sentence) => {
            let sentence = sentence.to_string();
            assert!(
                ["tracefs", "CONFIG_UPROBE", "root", "CAP_PERFMON"].iter().any(|w| sentence.contains(w)),
                "{sentence}"
            );
            false
        }
    }
}

fn sample(name: &str, version: &str, variant: &str) -> PathBuf {
    let output = Command::new("python3")
        .args(["core-samples/build.py", name, "--go", version, "--variant", variant])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    PathBuf::from(text.lines().next().unwrap())
}

fn plan_of(path: &Path, version: &str) -> ProbePlan {
    let data = std::fs::read(path).unwrap();
    let elf = object::File::parse(&*data).unwrap();
    let functions: Vec<FunctionSymbol> = elf
        .symbols()
        .filter(|s| s.kind() == object::SymbolKind::Text)
        .map(|s| FunctionSymbol {
            name: s.name().unwrap().to_string(),
            entry: s.address(),
            end: s.address() + s.size(),
        })
        .collect();
    let minor = version.split('.').nth(1).unwrap().parse().unwrap();
    plan(Arch::Amd64, (1, minor), &functions, &|address, buf| read_code(&elf, address, buf))
}

fn read_code(elf: &object::File<'_>, address: u64, buf: &mut [u8]) -> bool {
    use object::ObjectSegment;
    let found = elf.segments().find_map(|s| s.data_range(address, buf.len() as u64).ok().flatten());
    found.map(|bytes| buf.copy_from_slice(bytes)).is_some()
}

/// A sample that waits for a line on its input.
struct Target {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
    maps: HashMap<u64, String>,
}

impl Target {
    fn start(path: &Path, operations: usize) -> Target {
        Target::paced(path, operations, 0)
    }

    /// Each goroutine pauses for `microseconds` after each operation.
    fn paced(path: &Path, operations: usize, microseconds: u32) -> Target {
        let mut child = Command::new(path)
            .args(["wait", &operations.to_string(), "8", &microseconds.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut maps = HashMap::new();
        loop {
            let mut line = String::new();
            assert!(output.read_line(&mut line).unwrap() > 0, "the sample ended early");
            if line.starts_with("READY") {
                break;
            }
            let head: Value = serde_json::from_str(&line).unwrap();
            let address = head["address"].as_str().unwrap().trim_start_matches("0x");
            maps.insert(u64::from_str_radix(address, 16).unwrap(), head["name"].as_str().unwrap().to_string());
        }
        Target { child, output: Some(output), maps }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn map_named(&self, name: &str) -> u64 {
        *self.maps.iter().find(|(_, n)| *n == name).unwrap().0
    }

    /// Lets it run; its output comes when it has ended.
    fn go(&mut self) -> std::thread::JoinHandle<String> {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
        let mut output = self.output.take().unwrap();
        std::thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).unwrap();
            text
        })
    }

    fn ends_normally(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // A failed test leaves no program behind; one that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn settings(goid_offset: u64, filters: Filters) -> Settings {
    Settings { goid_offset, key_bytes: 64, filters }
}

type Counts = BTreeMap<(String, u64, String, String), u64>;

/// The sample's own counts. `twins`: whether the compiler left `Store` and `Delete` as functions of their own.
fn own_counts(output: &str, twins: bool) -> Counts {
    let line = output.lines().find(|l| l.starts_with("{\"counts\"")).expect("the sample prints its counts");
    let document: Value = serde_json::from_str(line).unwrap();
    let mut counts = Counts::new();
    for count in document["counts"].as_array().unwrap() {
        let map = count["map"].as_str().unwrap();
        let op = spelled(count["op"].as_str().unwrap(), twins);
        let key = if comparable_key(map) { count["key"].to_string() } else { String::new() };
        *counts.entry((map.to_string(), count["goroutine"].as_u64().unwrap(), op, key)).or_default() +=
            count["n"].as_u64().unwrap();
    }
    counts
}

/// How many the sample says it did in all.
fn operations_of(output: &str) -> u64 {
    let line = output.lines().find(|l| l.starts_with("{\"counts\"")).unwrap();
    serde_json::from_str::<Value>(line).unwrap()["operations"].as_u64().unwrap()
}

/// `Store` and `Delete` when inlined are told by the caller's inlined frames, which the engine does not see.
fn spelled(op: &str, twins: bool) -> String {
    match op {
        "Store" if !twins => "Swap".to_string(),
        "Delete" if !twins => "LoadAndDelete".to_string(),
        op => op.to_string(),
    }
}

/// Keys whose bytes the engine delivers whole without knowing the type.
fn comparable_key(map: &str) -> bool {
    !["Point", "Pointer", "Mixed", "Any", "Big", "Fat"].contains(&map.rsplit('.').next().unwrap())
}

fn key_text(map: &str, key: &Key) -> String {
    if !comparable_key(map) {
        return String::new();
    }
    let i32_at = |b: &[u8]| i32::from_le_bytes(b[..4].try_into().unwrap());
    let i64_at = |b: &[u8]| i64::from_le_bytes(b[..8].try_into().unwrap());
    let quoted = |b: &[u8]| Value::from(std::str::from_utf8(b).unwrap()).to_string();
    match (map.rsplit('.').next().unwrap(), key) {
        (_, Key::None) => "null".to_string(),
        ("Int32", Key::Value(b)) => i32_at(b).to_string(),
        ("Uint32", Key::Value(b)) => (i32_at(b) as u32).to_string(),
        ("Int64", Key::Value(b)) => i64_at(b).to_string(),
        ("String" | "Named" | "Strings", Key::String { len, bytes, .. }) => {
            assert_eq!(*len, bytes.len() as u64);
            quoted(bytes)
        }
        ("Byte", Key::Pointer { bytes, .. }) => bytes[0].to_string(),
        ("BigElem" | "Integers", Key::Pointer { bytes, .. }) => i64_at(bytes).to_string(),
        ("Float", Key::Pointer { bytes, .. }) => {
            serde_json::Number::from_f64(f64::from_bits(i64_at(bytes) as u64)).unwrap().to_string()
        }
        ("Sync", Key::Interface { value, behind, .. }) if i64_at(value) > 4096 => {
            let text = quoted(&behind[..i64_at(&value[8..]) as usize]);
            format!("{{\"$type\":\"string\",\"$value\":{text}}}")
        }
        ("Sync", Key::Interface { value, .. }) => format!("{{\"$type\":\"int\",\"$value\":{}}}", i64_at(value)),
        (map, key) => panic!("{map} with {key:?}"),
    }
}

fn normal_key(key: &str) -> String {
    match serde_json::from_str::<Value>(key) {
        Ok(Value::Number(n)) => n.as_f64().unwrap().to_string(),
        Ok(Value::Object(o)) => o["$value"].to_string(),
        _ => key.to_string(),
    }
}

fn normal(counts: Counts) -> Counts {
    let mut out = Counts::new();
    for ((map, goroutine, op, key), n) in counts {
        *out.entry((map, goroutine, op, normal_key(&key))).or_default() += n;
    }
    out
}

/// Watches the sample's calls to its end.
fn watch(
    target: &mut Target,
    plan: &ProbePlan,
    settings: &Settings,
    each: &mut dyn FnMut(Hit, &ProbePlan),
) -> (String, Totals) {
    let mut plan = plan.clone();
    plan.without_outcomes();
    watch_ends(target, &plan, settings, &mut |hit, plan, _| each(hit, plan))
}

/// Watches the sample's operations to its end, each with its outcome.
fn watch_ends(
    target: &mut Target,
    plan: &ProbePlan,
    settings: &Settings,
    each: &mut dyn FnMut(Hit, &ProbePlan, Outcome),
) -> (String, Totals) {
    let mut session = UprobeSession::start(target.pid(), plan, settings).unwrap();
    let plan = session.plan().clone();
    let output = target.go();
    let mut pairs: Pairs<()> = Pairs::default();
    let mut take = |seen: Seen| match seen {
        Seen::Call(hit) => {
            if let Some(open) = pairs.interrupted(&hit) {
                each(open.hit, &plan, Outcome::Unknown);
            }
            match Pairs::<()>::at_once(&plan, &hit) {
                Some(outcome) => each(hit, &plan, outcome),
                None => assert!(pairs.begin(hit, ()).is_none()),
            }
        }
        Seen::Return(of) => {
            if let Some((open, outcome)) = pairs.end(&plan, &of) {
                each(open.hit, &plan, outcome);
            }
        }
        Seen::Gap(from, to) => pairs.gap(from, to),
    };
    while session.poll(Duration::from_millis(200), &mut take).unwrap() != Polled::Ended {}
    let totals = session.stop(&mut take).unwrap();
    pairs.rest().into_iter().for_each(|open| each(open.hit, &plan, Outcome::Unknown));
    (output.join().unwrap(), totals)
}

fn counted(name: &str, version: &str, goid_offset: u64, variant: &str, operations: usize) {
    let path = sample(name, version, variant);
    let plan = plan_of(&path, version);
    assert!(plan.points.iter().all(|p| !p.at_entry), "{version}: {:?}", plan.points);
    let mut target = Target::start(&path, operations);
    let maps = target.maps.clone();
    let mut seen = Counts::new();
    let (mut delivered, mut others) = (0, 0);
    let (output, totals) = watch(&mut target, &plan, &settings(goid_offset, Filters::default()), &mut |hit, plan| {
        delivered += 1;
        let Some(map) = maps.get(&hit.map) else {
            others += 1;
            return;
        };
        let asked = plan.asked(&plan.points[hit.point], &hit.callers);
        let key = key_text(map, &hit.key);
        *seen.entry((map.clone(), hit.goroutine, asked.operation.name().to_string(), key)).or_default() += 1;
    });
    target.ends_normally();
    assert_eq!(delivered + totals.dropped, totals.hits);
    let twins = variant == "noopt";
    let (own, seen) = (normal(own_counts(&output, twins)), normal(seen));
    let sum = |counts: &Counts| counts.values().sum::<u64>();
    assert_eq!(sum(&own), operations_of(&output));
    let missing: u64 = own.iter().map(|(k, n)| n.saturating_sub(seen.get(k).copied().unwrap_or(0))).sum();
    let extra: Vec<_> = seen.iter().filter(|(k, n)| own.get(*k).copied().unwrap_or(0) < **n).take(5).collect();
    assert!(extra.is_empty(), "{version} {variant}: too many of {extra:?}");
    assert!(missing <= totals.dropped, "{version} {variant}: {missing} missing, {totals:?}");
    assert_eq!(sum(&seen) + others + totals.dropped, totals.hits);
    println!(
        "{name} {version} {variant}: {} of {} seen, {} hits, {} dropped",
        sum(&seen),
        sum(&own),
        totals.hits,
        totals.dropped
    );
}

#[test]
fn every_operation_is_reported_once_with_its_map_key_and_goroutine() {
    let _alone = alone();
    if possible() {
        for (version, goid_offset) in VERSIONS {
            counted("ops", version, goid_offset, "default", 100_000);
        }
    }
}

/// Of each kind of operation how many found their key, missed it, and are unknown.
type Ends = BTreeMap<String, [u64; 3]>;

fn own_ends(output: &str, twins: bool) -> Ends {
    let line = output.lines().find(|l| l.starts_with("{\"counts\"")).expect("the sample prints its counts");
    let document: Value = serde_json::from_str(line).unwrap();
    let mut ends = Ends::new();
    for count in document["counts"].as_array().unwrap().iter().filter(|count| !count["key"].is_null()) {
        let op = spelled(count["op"].as_str().unwrap(), twins);
        let hit = count["hit"].as_bool().unwrap();
        // Done or not done is all that these return: not done says nothing of the key.
        let at = if op.starts_with("CompareAnd") && !hit { 2 } else { usize::from(!hit) };
        ends.entry(op).or_default()[at] += count["n"].as_u64().unwrap();
    }
    ends
}

/// Every operation's outcome is what the program counted; the sample pauses so that nothing is dropped.
fn outcomes(name: &str, version: &str, goid_offset: u64, variant: &str, operations: usize) {
    let path = sample(name, version, variant);
    let plan = plan_of(&path, version);
    let by_pointer = plan.points.iter().any(|p| p.operation == Operation::Access1);
    assert!(plan.zero.is_some() == by_pointer && !plan.returns.is_empty(), "{version} {variant}");
    let silent: Vec<&str> = plan.points.iter().filter(|p| p.awaits == Awaits::Nothing).map(|p| &*p.function).collect();
    assert!(
        silent.iter().all(|f| ["iter", "Iter", "clear", "Clear", "Range"].iter().any(|w| f.contains(w))),
        "{silent:?}"
    );
    let mut target = Target::start(&path, operations);
    let maps = target.maps.clone();
    let mut seen = Ends::new();
    let (output, totals) =
        watch_ends(&mut target, &plan, &settings(goid_offset, Filters::default()), &mut |hit, plan, end| {
            if maps.contains_key(&hit.map) && hit.key != Key::None {
                let op = plan.asked(&plan.points[hit.point], &hit.callers).operation.name();
                let at = match end {
                    Outcome::Found => 0,
                    Outcome::Missing => 1,
                    Outcome::Unknown => 2,
                };
                seen.entry(op.to_string()).or_default()[at] += 1;
            }
        });
    target.ends_normally();
    println!("{name} {version} {variant}: {seen:?} {totals:?}");
    if name == "reflected" {
        assert!(seen.values().all(|[found, missing, unknown]| found + missing > 0 && *unknown == 0), "{seen:?}");
        return;
    }
    let own = own_ends(&output, variant == "noopt");
    if totals.dropped == 0 {
        assert_eq!(seen, own, "{version} {variant}");
        return;
    }
    // What was dropped is missing, and what it left without its return is unknown; nothing is on the other side.
    for (op, [found, missing, _]) in &seen {
        assert!(*found <= own[op][0] && *missing <= own[op][1], "{version} {variant} {op}: {seen:?} of {own:?}");
    }
    let sum = |ends: &Ends| ends.values().flatten().sum::<u64>();
    assert!(sum(&own) - sum(&seen) <= totals.dropped, "{version} {variant}: {totals:?}");
}

#[test]
fn outcomes_are_what_the_operations_themselves_found() {
    let _alone = alone();
    if possible() {
        for (version, goid_offset) in VERSIONS {
            outcomes("ops", version, goid_offset, "default", 30_000);
            outcomes("reflected", version, goid_offset, "default", 300);
        }
        outcomes("ops", "1.27.3", 152, "noopt", 20_000);
        outcomes("ops", "1.23.9", 160, "noopt", 20_000);
        outcomes("ops", "1.24.11", 160, "pie", 20_000);
    }
}

/// The reader cannot keep up with this: whatever is dropped, no outcome is another operation's.
#[test]
fn no_outcome_is_made_up_where_records_are_dropped() {
    let _alone = alone();
    if possible() {
        outcomes("ops", "1.27.3", 152, "default", 1_000_000);
        outcomes("ops", "1.21.13", 152, "default", 1_000_000);
    }
}

#[test]
fn other_builds_count_as_exactly() {
    let _alone = alone();
    if possible() {
        counted("ops", "1.27.3", 152, "noopt", 20_000);
        counted("ops", "1.23.9", 160, "noopt", 20_000);
        counted("ops", "1.24.11", 160, "pie", 20_000);
    }
}

#[test]
fn operations_through_reflect_are_reported_once_and_clones_are_not() {
    let _alone = alone();
    if possible() {
        for (version, goid_offset) in VERSIONS {
            counted("reflected", version, goid_offset, "default", 300);
        }
        counted("reflected", "1.21.13", 152, "noopt", 300);
        counted("reflected", "1.27.3", 152, "noopt", 300);
    }
}

#[test]
fn a_million_hits_are_delivered_or_counted_as_dropped() {
    let _alone = alone();
    if possible() {
        counted("ops", "1.27.3", 152, "default", 1_000_000);
    }
}

#[test]
fn the_kernel_filters_by_map_goroutine_and_key() {
    let _alone = alone();
    if !possible() {
        return;
    }
    let (version, goid_offset) = ("1.27.3", 152);
    let path = sample("ops", version, "default");
    let plan = plan_of(&path, version);
    let number = |size, value| vec![Demand::Number { offset: 0, size, ranges: vec![(value, value)] }];
    let nine = TextLength { shortest: 9, longest: 9 };
    let text = Demand::Text { offset: 0, length: nine, start: b"kkkkkkkkk".to_vec() };
    let cases: [(&str, Vec<Demand>, &str); 5] = [
        ("main.Worlds[3].Int64", Vec::new(), ""),
        ("main.Worlds[1].Int32", number(4, -5i32 as u32 as u64), "-5"),
        ("main.Worlds[2].Int64", number(8, 0), "0"),
        ("main.Worlds[1].String", vec![text], "\"kkkkkkkkk\""),
        ("main.Worlds[4].Byte", number(1, 7), "7"),
    ];
    for (name, key, text) in cases {
        let mut target = Target::start(&path, 50_000);
        let keyed = !key.is_empty();
        let filters = Filters { map: Some(target.map_named(name)), key, keyed, ..Filters::default() };
        let mut hits = Vec::new();
        let (output, totals) = watch(&mut target, &plan, &settings(goid_offset, filters), &mut |hit, _| hits.push(hit));
        target.ends_normally();
        let own = own_counts(&output, false);
        let of_map = own.iter().filter(|((map, _, _, key), _)| map == name && (text.is_empty() || key == text));
        assert_eq!(of_map.map(|(_, n)| n).sum::<u64>(), hits.len() as u64, "{name} {text}");
        assert_eq!((totals.hits, totals.dropped), (hits.len() as u64, 0), "the kernel passes on nothing else");
        if let (Some(hit), true) = (hits.first(), text.is_empty()) {
            let mut target = Target::start(&path, 50_000);
            let goroutine = hit.goroutine;
            let filters = Filters { goroutine: Some(goroutine), ..Filters::default() };
            let mut seen = 0;
            let maps = target.maps.clone();
            let (output, _) = watch(&mut target, &plan, &settings(goid_offset, filters), &mut |hit, _| {
                assert_eq!(hit.goroutine, goroutine);
                seen += u64::from(maps.contains_key(&hit.map));
            });
            let own = own_counts(&output, false);
            assert_eq!(own.iter().filter(|((_, g, ..), _)| *g == goroutine).map(|(_, n)| n).sum::<u64>(), seen);
        }
    }
}

#[test]
fn the_kernel_filters_by_type_and_by_the_keys_of_a_type() {
    let _alone = alone();
    if !possible() {
        return;
    }
    let (version, goid_offset) = ("1.24.11", 160);
    let path = sample("ops", version, "default");
    let plan = plan_of(&path, version);
    let field_of = |map: &str| map.rsplit('.').next().unwrap().to_string();
    let mut target = Target::start(&path, 20_000);
    let maps = target.maps.clone();
    // Generic code may clear a map under the type of its shape, beside the map's own.
    let mut types: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    watch(&mut target, &plan, &settings(goid_offset, Filters::default()), &mut |hit, _| {
        if let Some(map) = maps.get(&hit.map) {
            types.entry(field_of(map)).or_default().insert(hit.map_type);
        }
    });
    target.ends_normally();
    assert_eq!((types.len(), &types["Sync"]), (15, &BTreeSet::from([0])), "{types:?}");

    let only =
        |number: f64| vec![Demand::Number { offset: 0, size: 8, ranges: vec![(number.to_bits(), number.to_bits())] }];
    for (keys, text) in [(Vec::new(), ""), (only(3.5), "3.5")] {
        let floats = &types["Float"];
        let wanted = floats.iter().map(|ty| TypeFilter { descriptor: *ty, keys: Some(keys.clone()) });
        let others = types.values().flatten().filter(|ty| !floats.contains(ty) && **ty != 0);
        let types = wanted.chain(others.map(|ty| TypeFilter { descriptor: *ty, keys: None })).collect();
        let filters = Filters { types, no_sync_map: true, keyed: !keys.is_empty(), ..Filters::default() };
        let mut target = Target::start(&path, 20_000);
        let maps = target.maps.clone();
        let mut seen = 0;
        let (output, totals) = watch(&mut target, &plan, &settings(goid_offset, filters), &mut |hit, _| {
            // The program's other maps are of types that nobody excluded.
            if let Some(map) = maps.get(&hit.map) {
                assert_eq!(field_of(map), "Float");
                seen += 1;
            }
        });
        target.ends_normally();
        let own = own_counts(&output, false);
        let of_type =
            own.iter().filter(|((map, _, _, key), _)| field_of(map) == "Float" && (text.is_empty() || key == text));
        assert_eq!((of_type.map(|(_, n)| n).sum::<u64>(), totals.dropped), (seen, 0));
        assert!(seen > 0);
    }
}

/// Not a test of its own: a watcher for the next one to kill.
#[test]
#[ignore = "the watcher that another test starts and kills"]
fn watcher_to_kill() {
    let Ok(pid) = std::env::var("WATCHED_PID") else { return };
    let plan = plan_of(Path::new(&std::env::var("WATCHED_PATH").unwrap()), "1.27.3");
    let mut session = UprobeSession::start(pid.parse().unwrap(), &plan, &settings(152, Filters::default())).unwrap();
    println!("WATCHING");
    std::io::stdout().flush().unwrap();
    while session.poll(Duration::from_secs(1), &mut |_| {}).unwrap() != Polled::Ended {}
}

fn our_events() -> usize {
    let list = std::fs::read_to_string("/sys/kernel/tracing/uprobe_events").unwrap_or_default();
    list.lines().filter(|l| l.contains(":mapscope_")).count()
}

#[test]
fn the_program_survives_a_killed_watcher_and_the_next_watch_cleans_up() {
    let _alone = alone();
    if !possible() {
        return;
    }
    let path = sample("ops", "1.27.3", "default");
    let mut target = Target::paced(&path, 20_000, 1000);
    let mut watcher = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "watcher_to_kill", "--ignored", "--nocapture"])
        .env("WATCHED_PID", target.pid().to_string())
        .env("WATCHED_PATH", &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    assert!(lines.any(|l| l.unwrap().contains("WATCHING")));
    let output = target.go();
    std::thread::sleep(Duration::from_millis(50));
    watcher.kill().unwrap();
    watcher.wait().unwrap();
    assert!(our_events() > 0, "a killed watcher leaves its definitions");

    let plan = plan_of(&path, "1.27.3");
    let session = UprobeSession::start(target.pid(), &plan, &settings(152, Filters::default())).unwrap();
    let probes = plan.points.len() + plan.returns.len();
    assert_eq!(our_events(), probes, "only the new watch's are left");
    let second = UprobeSession::start(target.pid(), &plan, &settings(152, Filters::default())).unwrap();
    assert_eq!(our_events(), 2 * probes, "two watches stand side by side");
    drop(second);
    drop(session);
    assert_eq!(our_events(), 0);
    assert!(output.join().unwrap().contains("DONE"));
    target.ends_normally();
}

#[test]
fn a_program_is_watched_from_its_first_instruction() {
    let _alone = alone();
    if !possible() {
        return;
    }
    let path = sample("ops", "1.24.11", "pie");
    let plan = plan_of(&path, "1.24.11");
    let args = ["exit", "20000", "8"].map(Into::into);
    let held = Held::start(&path.clone().into(), &args, |command| {
        command.stdout(Stdio::piped());
    })
    .unwrap();
    let mut session = UprobeSession::start(held.pid(), &plan, &settings(160, Filters::default())).unwrap();
    let mut child = held.release().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).unwrap();
        text
    });
    let mut deleted: HashMap<u64, u64> = HashMap::new();
    let mut each = |seen: Seen| match seen {
        Seen::Call(hit) if plan.points[hit.point].operation == Operation::Delete => {
            *deleted.entry(hit.map).or_default() += 1;
        }
        _ => {}
    };
    while session.poll(Duration::from_millis(200), &mut each).unwrap() != Polled::Ended {}
    let passed = session.passed().unwrap();
    let totals = session.stop(&mut each).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(totals.dropped, 0);
    assert!(passed >= totals.hits, "{passed} passes, {totals:?}");
    let text = reader.join().unwrap();
    let own = own_counts(&text, false);
    for head in text.lines().filter(|l| l.starts_with("{\"name\"")) {
        let head: Value = serde_json::from_str(head).unwrap();
        let address = u64::from_str_radix(head["address"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
        let name = head["name"].as_str().unwrap();
        let wanted: u64 = own.iter().filter(|((m, _, op, _), _)| m == name && op == "delete").map(|(_, n)| n).sum();
        assert_eq!(deleted.get(&address).copied().unwrap_or(0), wanted, "{name}");
    }
    assert!(Held::start(&"no such program".into(), &[], |_| ()).is_err());
}

#[test]
fn the_cost_of_a_hit_is_measured_and_leaves_nothing() {
    let _alone = alone();
    if possible() {
        for outcomes in [false, true] {
            let cost = cost_per_hit(64, outcomes).unwrap();
            println!("{cost:?} per hit, outcome: {outcomes}");
            assert!((Duration::from_nanos(200)..Duration::from_micros(100)).contains(&cost), "{cost:?}");
        }
        assert_eq!(our_events(), 0);
    }
}

#[test]
fn what_cannot_be_watched_is_said_in_one_sentence() {
    let _alone = alone();
    if !possible() {
        return;
    }
    let path = sample("ops", "1.27.3", "default");
    let plan = plan_of(&path, "1.27.3");
    let refused = |pid, plan: &ProbePlan| match UprobeSession::start(pid, plan, &settings(152, Filters::default())) {
        Ok(_) => panic!("it started"),
        Err(e) => e.to_string(),
    };
    assert!(refused(4_000_000, &plan).contains("process 4000000"));
    let empty = ProbePlan { points: Vec::new(), ..plan.clone() };
    assert!(refused(std::process::id(), &empty).contains("nothing to probe"));
    let mut outside = plan;
    outside.points[0].address = 8;
    let target = Target::start(&path, 1);
    assert!(refused(target.pid(), &outside).contains("does not hold the code at 0x8"));
    assert_eq!(our_events(), 0);
}

#[test]
fn an_inlined_method_is_named_by_the_frame() {
    assert_eq!(Operation::of_inlined("sync.(*Map).Store"), Some(Operation::Store));
    assert_eq!(
        Operation::of_inlined("internal/sync.(*HashTrieMap[go.shape.interface {},go.shape.interface {}]).Delete"),
        Some(Operation::SyncDelete)
    );
    assert_eq!(Operation::of_inlined("sync.(*Map).Range"), Some(Operation::Range));
    assert_eq!(Operation::of_inlined("sync.(*Map).lock"), None);
}
