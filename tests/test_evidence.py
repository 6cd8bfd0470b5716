"""Profiles and traces of one run joined, reported, and the report looked at in a real browser."""

import gzip
import html
import json
import os
import re
import shutil
import subprocess
import time
import zlib
from pathlib import Path

import build
import pytest
import test_goroutines
import toolchains
from conftest import EVERYTHING, ROOT, cli, gdb
from test_lookups import check as check_lookups

VERSIONS = ("1.23.9", "1.26.6", "1.27.3")


class Run:
    """A run of tests/evidence that still lives, with the files it wrote and what it says of itself."""

    def __init__(self, directory, version, *arguments, source=ROOT / "tests" / "evidence"):
        self.directory, self.version = directory, version
        program = directory / "evidence"
        subprocess.run([toolchains.go(version), "build", "-o", program, "."], cwd=source,
                       env=toolchains.environment(version), check=True)
        self.began = time.time()
        self.process = subprocess.Popen([program, directory, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=dict(os.environ, GOMAXPROCS="2"))
        self.truth = json.loads(self.process.stdout.readline())
        self.ended = time.time()
        self.leaked = sorted(self.truth["leaked"] or [])

    def file(self, name):
        return str(self.directory / name)

    def end(self):
        self.process.communicate()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    made = {}

    def run(version, *arguments):
        key = (version, *arguments)
        if key not in made:
            made[key] = Run(tmp_path_factory.mktemp("evidence"), version, *arguments)
        return made[key]

    yield run
    for one in made.values():
        one.end()


@pytest.fixture(params=VERSIONS)
def run(request, runs):
    return runs(request.param)


def joined(*words):
    answer = cli("evidence", *words, "--json")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("\n") == 1
    return json.loads(answer.stdout)


def all_sources(run):
    return "--profile", run.file("early.txt"), "--profile", run.file("late.txt"), "--trace", run.file("trace.out")


def leak(record, goids):
    """The cluster of exactly these goroutines, and their records."""
    clusters = [c for c in record["clusters"] if sorted(c["goids"]) == goids]
    assert len(clusters) == 1, [(c["state"], c["goids"]) for c in record["clusters"]]
    return clusters[0], [g for g in record["goroutines"] if g["goid"] in goids]


def test_the_leaked_goroutines_are_one_cluster_with_all_sources(run):
    record = joined(*all_sources(run))
    cluster, members = leak(record, run.leaked)
    assert record["schema"] == "gomap.evidence/1" and record["clusters"][0] is cluster
    assert cluster["state"] == "chan receive (nil chan)" and cluster["class"] != "waiting"
    assert cluster["counts"] == [3, 8] and cluster["sources"] == ["p1", "p2", "t1"]
    assert cluster["frames"][0]["func"] == "main.consume"
    assert len(members) == 8
    for member in members:
        assert member["joined_by"] == "goid" and member["conflicts"] == []
        told = member["sources"]
        assert told["p2"]["state"] == "chan receive (nil chan)"
        assert told["t1"]["last_block"]["reason"] == "forever"
        assert told["t1"]["created"]["by"] == 1
        terms = {term["id"]: term["points"] for term in member["score"]["terms"]}
        assert terms["nil_chan"] == 35 and terms["growth"] == 10
        # On a busy machine some may have looked keys up for so long that they waited for too small a part.
        assert terms.get("no_waker", 10) == 10 and member["score"]["total"] == sum(terms.values())
    assert any(term["id"] == "no_waker" for member in members for term in member["score"]["terms"])
    assert record["conflicts"] == []


def test_lookups_followed_by_a_wait_without_end_are_found_on_leaked_goroutines_alone(run):
    record = joined(*all_sources(run))
    found = [g for g in record["goroutines"] if g["windows"]]
    assert found and {g["goid"] for g in found} <= set(run.leaked)
    for goroutine in found:
        for window in goroutine["windows"]:
            assert 0 < window["gap_ns"] < 5_000_000_000
            assert re.match(r"runtime\.map|internal/runtime/maps\.", window["function"])
            assert window["block"] == goroutine["sources"]["t1"]["last_block"]["ts"]
    same = [w for g in found for w in g["windows"] if w["link"] == "same_func"]
    assert same and all(w["caller"]["func"] == "main.consume" for w in same)
    assert record["verdict"]["finding"].startswith(f"{len(found)} goroutine")


def test_workers_that_were_woken_are_no_suspects(run):
    record = joined(*all_sources(run))
    workers = [c for c in record["clusters"] if any(f["func"] == "main.worker" for f in c["frames"])]
    assert workers and all(c["class"] == "waiting" for c in workers)


def test_a_profile_without_ids_is_joined_by_stack_and_says_so(run):
    record = joined("--profile", run.file("late.pb.gz"), "--trace", run.file("trace.out"))
    cluster, members = leak(record, run.leaked)
    assert cluster["count"] == 8 and cluster["sources"] == ["p1", "t1"]
    assert {member["joined_by"] for member in members} == {"stack"}
    assert "goroutine_ids" in {limit["what"] for limit in record["limits"]}


def test_each_source_alone_finds_the_leak_and_names_what_it_cannot_know(run):
    by_trace = joined("--trace", run.file("trace.out"))
    assert leak(by_trace, run.leaked)[0]["state"] == "chan receive (nil chan)"
    assert "wait_reasons" in {limit["what"] for limit in by_trace["limits"]}
    by_profile = joined("--profile", run.file("late.txt"))
    cluster, members = leak(by_profile, run.leaked)
    assert cluster["confidence"] == "low" and all(member["windows"] == [] for member in members)
    assert "block_times" in {limit["what"] for limit in by_profile["limits"]}


def test_trace_time_is_put_on_the_wall_clock_where_the_trace_can(run):
    record = joined(*all_sources(run))
    alignment = record["alignment"]
    if run.version == "1.23.9":
        assert alignment["source"] == "nanotime" and alignment["wall"] is None
        return
    assert alignment["source"] == "clock_snapshot"
    first, last = alignment["wall"]["first"] / 1e9, alignment["wall"]["last"] / 1e9
    assert run.began - 0.1 < first < last < run.ended + 0.1
    assert alignment["wall"]["residual_ns"] < 100_000_000


def test_another_process_is_refused_and_joined_by_force_with_its_conflicts(runs):
    one, other = runs("1.27.3"), runs("1.27.3", "other")
    words = ("--profile", other.file("late.txt"), "--trace", one.file("trace.out"))
    refused = cli("evidence", *words)
    assert refused.returncode == 2 and refused.stdout == ""
    assert "different processes or builds" in refused.stderr and "--force" in refused.stderr
    assert refused.stderr.count("\n") == 1
    forced = joined(*words, "--force")
    example = re.search(r"different processes or builds \((.*)\); give --force", refused.stderr).group(1)
    assert example in forced["conflicts"] and any("different processes" in conflict for conflict in forced["conflicts"])
    two = cli("evidence", "--profile", other.file("late.txt"), "--profile", one.file("late.txt"))
    assert two.returncode == 2 and "different processes or builds" in two.stderr


def test_the_verbs_answer_alike_in_gdb_without_a_target(runs):
    run = runs("1.27.3")
    sources = " ".join(all_sources(run))
    goid = run.leaked[0]
    for words in ("evidence " + sources, f"timeline {goid} --trace {run.file('trace.out')}", f"profile {run.file('late.txt')}"):
        here = gdb(commands=[f"gomap {words} --json"])
        there = cli(*words.split(), "--json")
        assert there.returncode == 0 and json.loads(there.stdout)
        assert here.stdout == there.stdout, here.stderr


def test_timeline_draws_the_states_and_refuses_an_unknown_goroutine(run):
    goid = run.leaked[0]
    drawn = cli("timeline", goid, "--trace", run.file("trace.out"))
    assert drawn.returncode == 0 and f"goroutine {goid}" in drawn.stdout and "forever" in drawn.stdout
    unknown = cli("timeline", 999999, "--trace", run.file("trace.out"))
    assert unknown.returncode == 2 and "does not tell of goroutine 999999" in unknown.stderr


def test_bad_files_and_bad_use_are_one_sentence(tmp_path, runs):
    run = runs("1.27.3")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("hello\n")
    bad = [
        ("evidence",),
        ("evidence", "--profile", tmp_path / "none"),
        ("evidence", "--profile", tmp_path),
        ("evidence", "--profile", tmp_path / "empty"),
        ("evidence", "--profile", tmp_path / "text"),
        ("evidence", "--trace", tmp_path / "empty"),
        ("evidence", "--trace", run.file("late.txt")),
        ("evidence", "--profile", run.file("trace.out")),
        ("evidence", "--profile", run.file("late.txt"), "--key", '"x"'),
        ("profile", tmp_path / "none"),
        ("timeline", 1, "--trace", tmp_path / "text"),
        ("timeline", 1),
    ]
    for words in bad:
        answer = cli(*words)
        assert answer.returncode == 2 and answer.stdout == "", words
        assert answer.stderr.startswith("mapscope: ") and answer.stderr.count("\n") == 1, (words, answer.stderr)


def stack(goid, state, function, line):
    return (f"goroutine {goid} [{state}]:\n{function}()\n\t/src/main.go:{line} +0x1d\n"
            "created by main.main in goroutine 1\n\t/src/main.go:10 +0x2f\n\n")


def test_a_profile_that_lost_its_end_is_joined_and_said_to_be_truncated(tmp_path):
    """A goroutine that the lost part holds is not one that the process lacks."""
    nil = "chan receive (nil chan)"
    main = "goroutine 1 [sleep]:\ntime.Sleep(0x3b9aca00)\n\t/go/src/runtime/time.go:300 +0xf2\nmain.main()\n\t/src/main.go:12 +0x20\n\n"
    early = main + stack(7, nil, "main.waitA", 30) + stack(9, nil, "main.waitB", 40)
    late = main + stack(11, nil, "main.waitC", 50) + stack(7, nil, "main.waitA", 30) + stack(9, nil, "main.waitB", 40)
    (tmp_path / "early.txt").write_text(early)
    at = late.index("goroutine 9 [")
    for name, cut in (("boundary", at), ("middle", at + 60)):
        packer = zlib.compressobj(6, zlib.DEFLATED, 31)
        whole = tmp_path / f"{name}.gz"
        whole.write_bytes(packer.compress(late[:cut].encode()) + packer.flush(zlib.Z_FULL_FLUSH))
        (tmp_path / f"{name}.txt").write_text(late[:cut])
    for late_file, truncated in (("boundary.gz", True), ("middle.gz", True), ("middle.txt", True)):
        record = joined("--profile", tmp_path / "early.txt", "--profile", tmp_path / late_file)
        assert [source["truncated"] for source in record["inputs"]] == [False, truncated], late_file
        assert [one["verdict"] for one in record["identity"]] == ["not told"]
    # Two whole dumps that each lack what never ends in the other are of two processes.
    other = main + stack(11, nil, "main.waitC", 50) + stack(7, nil, "main.waitA", 30)
    (tmp_path / "other.txt").write_text(other)
    refused = cli("evidence", "--profile", tmp_path / "early.txt", "--profile", tmp_path / "other.txt")
    assert refused.returncode == 2 and "different processes" in refused.stderr


def field(number, value):
    """A field of a protobuf message: a number, or bytes."""
    def varint(n):
        return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def labelled_profile(path, samples):
    """A goroutine profile of (function, labels) samples, each of one goroutine; numbers are numeric labels."""
    texts = [""]

    def text(s):
        if s not in texts:
            texts.append(s)
        return texts.index(s)
    out = field(1, field(1, text("goroutine")) + field(2, text("count")))
    functions = sorted({function for function, _ in samples})
    for n, function in enumerate(functions, 1):
        out += field(5, field(1, n) + field(2, text(function)) + field(4, text("main.go")))
        out += field(4, field(1, n) + field(3, 0x1000 * n) + field(4, field(1, n) + field(2, 10 * n)))
    for function, labels in samples:
        body = field(1, functions.index(function) + 1) + field(2, 1)
        for key, value in labels:
            value, unit = value if isinstance(value, tuple) else (value, None)
            label = field(1, text(key)) + (field(3, value) if isinstance(value, int) else field(2, text(value)))
            body += field(3, label + (field(4, text(unit)) if unit else b""))
        out += field(2, body)
    out += b"".join(field(6, s.encode()) for s in texts)
    path.write_bytes(gzip.compress(out))
    return path


def test_numeric_labels_are_those_that_pprof_prints(tmp_path):
    path = labelled_profile(tmp_path / "labels.pb.gz", [
        ("main.f", [("shard", 100), ("size", (4096, "bytes")), ("name", "x")]), ("main.g", [("shard", 101), ("big", 2**63 - 1)])])
    line = [toolchains.go("1.27.3"), "tool", "pprof", "-raw", path]
    raw = subprocess.run(line, env=toolchains.environment("1.27.3"), capture_output=True, text=True, check=True).stdout
    theirs = set(re.findall(r"(\w+):\[([^]]*)\]", raw.split("Samples:")[1].split("Locations")[0]))
    report = json.loads(cli("profile", path, "--json").stdout)
    ours = {(label["key"], label["value"]) for cluster in report["clusters"] for label in cluster["labels"]}
    assert ours == theirs and ("shard", "100") in ours and ("size", "4096 bytes") in ours


def test_a_sample_for_each_goroutine_tells_ids_states_and_minutes(tmp_path):
    def sample(function, goid, state, minutes=None, parent=1):
        labels = [("go::goroutine", goid), ("go::goroutine_created_by", parent), ("go::goroutine_state", state), ("cluster", "prod")]
        return function, labels + ([("go::goroutine_wait_minutes", minutes)] if minutes else [])
    samples = [sample("main.worker", goid, "chan receive", minutes) for goid, minutes in ((100, 5), (101, 3), (102, 7))]
    samples += [sample("main.worker", goid, "running") for goid in (103, 104)]
    samples += [sample("main.fetch", 105, "chan receive (nil chan)", parent=100)]
    path = labelled_profile(tmp_path / "each.pb.gz", samples)
    report = json.loads(cli("profile", path, "--json").stdout)
    rows = {tuple(row["goids"]): row for row in report["clusters"]}
    assert set(rows) == {(100, 101, 102), (103, 104), (105,)}
    waits = rows[(100, 101, 102)]
    assert (waits["status"], waits["reason"], waits["minutes"]) == ("waiting", "chan receive", {"least": 3, "most": 7})
    assert (rows[(103, 104)]["status"], rows[(103, 104)]["minutes"]) == ("running", None)
    assert rows[(105,)]["nil_channel"] and waits["labels"] == [{"key": "cluster", "value": "prod", "count": 3}]
    record = joined("--profile", path)
    assert {g["goid"] for g in record["goroutines"]} == {100, 101, 102, 103, 104, 105}
    assert "goroutine_ids" not in {limit["what"] for limit in record["limits"]}


HOSTILE = """<script>document.title='run'</script>"'`|\u202e\x1b[31m"""


@pytest.fixture
def hostile(tmp_path):
    """A dump whose function, file and labels would be dangerous to print as they are."""
    name = HOSTILE.replace("\x1b", "")
    dump = f"goroutine 7 [chan receive (nil chan)]:\nmain.f{name}(0x1)\n\t/src/{name}.go:3 +0x1\n"
    dump += "created by main.main in goroutine 1\n\t/src/main.go:9 +0x1\n\n"
    dump += 'goroutine 8 [chan receive labels:{"<b onload=x>": "</style><script>1</script>"}]:\nmain.g()\n\t/src/main.go:4 +0x1\n'
    path = tmp_path / "hostile.txt"
    path.write_text(dump)
    return path


def test_text_of_the_target_does_nothing_in_any_form(hostile, tmp_path):
    for ending in ("html", "md", "txt"):
        path = tmp_path / f"out.{ending}"
        assert cli("evidence", "--profile", hostile, "-o", path).returncode == 0
        text = path.read_text()
        assert "document.title" in text, "the name is shown"
        assert "\u202e" not in text and "\x1b" not in text
        if ending != "txt":
            assert "<script" not in text and "<b onload" not in text


def report_on_the_live_process(run, tmp_path, key):
    path = tmp_path / "report.html"
    answer = cli("--pid", run.process.pid, "evidence", *all_sources(run), "--map", "main.subs", "--key", key, "-o", path)
    assert answer.returncode == 0, answer.stderr
    return path


def test_the_report_sets_the_missed_key_beside_the_stored_one(run, tmp_path):
    text = report_on_the_live_process(run, tmp_path, '"topic-0 "').read_text()
    assert '&quot;topic-0<mark>\u2423<small>U+0020</small></mark>&quot;' in text
    assert "likely a map lookup with a key that is not in the map" in text
    # Each live slot is in one square: 100 topics and 4 dangerous keys.
    assert sum(int(n) for n in re.findall(r"<title>(\d+) live slots", text)) == 104


def test_memory_profile_and_trace_are_one_record(run):
    answer = cli("--pid", run.process.pid, "evidence", *all_sources(run), "--json")
    assert answer.returncode == 0, answer.stderr
    record = json.loads(answer.stdout)
    assert [source["id"] for source in record["inputs"]] == ["p1", "p2", "d1", "t1"]
    cluster, members = leak(record, run.leaked)
    assert cluster["sources"] == ["p1", "p2", "d1", "t1"]
    assert any("map" in site["call"] and site["link"] == "flow" for site in cluster["sites"]), cluster["sites"]
    for member in members:
        assert {"p2", "d1", "t1"} <= set(member["sources"]) and member["confidence"] == "high"
        assert member["sources"]["d1"]["state"] == "chan receive (nil chan)"
        assert member["blocked_on"]["kind"] == "nil_chan" and re.match("0x[0-9a-f]+$", member["g"])
    assert record["conflicts"] == []


def test_memory_of_another_process_is_refused(runs):
    one, other = runs("1.27.3"), runs("1.27.3", "other")
    for sources in (("--profile", other.file("late.txt")), ("--trace", other.file("trace.out"))):
        answer = cli("--pid", one.process.pid, "evidence", *sources)
        assert answer.returncode == 2 and "different processes or builds" in answer.stderr


def test_traces_are_read_as_the_runtimes_own_tool_reads_them():
    """tests/trace/oracle.rs: traces of every version made now, and those of the newest toolchain's own tests."""
    for version in toolchains.VERSIONS:
        toolchains.go(version)
    line = ["cargo", "test", "-q", "--release", "--test", "trace", "--", "--ignored", "--nocapture", "--test-threads=1"]
    answer = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr[-3000:]
    assert "events agree" in answer.stdout and "3 passed" in answer.stdout


def raw_samples(version, path):
    """(count, functions innermost first) of each sample as `go tool pprof -raw` prints them."""
    line = [toolchains.go("1.27.3"), "tool", "pprof", "-raw", path]
    text = subprocess.run(line, env=toolchains.environment("1.27.3"), capture_output=True, text=True, check=True).stdout
    _, samples, locations = re.split(r"^Samples:\n.*\n|^Locations\n", text.split("\nMappings")[0], flags=re.M)
    functions, current = {}, None
    for row in locations.splitlines():
        # An inlined call goes on in a row without a number.
        found = re.match(r"\s*(?:(\d+): 0x[0-9a-f]+ (?:M=\d+ )?)?\s*(\S+) \S+:\d+", row)
        current = found.group(1) or current
        functions.setdefault(current, []).append(found.group(2))
    for row in samples.splitlines():
        found = re.match(r"\s*(\d+): ((?:\d+ ?)+)", row)
        if found:
            yield int(found.group(1)), [name for at in found.group(2).split() for name in functions[at]]


def test_profiles_are_read_as_pprof_reads_them(run):
    answer = cli("profile", run.file("late.pb.gz"), "--json")
    ours = json.loads(answer.stdout)
    theirs = list(raw_samples(run.version, run.file("late.pb.gz")))
    assert len(theirs) > 3 and sum(count for count, _ in theirs) == sum(c["count"] for c in ours["clusters"])
    for cluster in ours["clusters"]:
        names = [re.sub(r"\[.*\]", "", frame["func"]) for frame in cluster["frames"]]
        # We leave the runtime's parking functions and the compiler's wrappers out; the order stays.
        def has_all(functions):
            left = iter(re.sub(r"\[.*\]", "", name) for name in functions)
            return all(name in left for name in names)
        assert cluster["count"] <= sum(count for count, functions in theirs if has_all(functions)), cluster


CASES = ("trailing-space", "unicode-form", "dynamic-type", "pointer-key", "nan-key", "struct-key", "explicit-zero",
         "typed-key", "keyed-mutex")
#: How a map operation hangs together with a wait, the closest last.
LINKS = ("caller", "same_func", "decides", "until", "stored", "either", "flow")


def named_alike(dump, crash, record, path):
    """The report names the map operations before the waits as `leaks` does: map, key and what its result is."""
    told = cli("--core", dump.exe, dump.core, "leaks", "--all", "--fail-on", "none").stdout
    shown = cli("--core", dump.exe, dump.core, "evidence", "--profile", crash, "-o", path)
    assert shown.returncode == 0, shown.stderr
    report = path.read_text().replace("\\", "")
    suspects = [c for c in record["clusters"] if c["class"] != "waiting" and c["sites"] and not c["map_functions"]]
    for cluster in suspects:
        site = max(cluster["sites"], key=lambda site: LINKS.index(site["link"]))
        operation = site["call"]
        operation += f" of {site['map']['expr']} ({site['map_type']})" if site["map"] else ""
        operation += f" with key {site['key_expr']}" if site["key_expr"] else ""
        assert operation in told and operation in report, operation
        for held in cluster["held_by"][:1]:
            assert f"stored in {held['map']}[{held['key']}]" in report


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
@pytest.mark.parametrize("case", CASES)
def test_a_core_and_its_traceback_agree_and_name_the_map_behind_each_wait(case, version, tmp_path):
    """The program itself says which goroutine waits on what, and where that is stored."""
    dump = build.dump("leaks", version, args=(case,))
    truth = build.read_truth(dump.truth)[0]["waits"]
    crash = dump.core.parent / "traceback.txt"
    answer = cli("--core", dump.exe, dump.core, "evidence", "--profile", crash, "--json")
    assert answer.returncode == 0, answer.stderr
    record = json.loads(answer.stdout)
    assert record["conflicts"] == []
    found = {g["goid"]: g for g in record["goroutines"]}
    clusters = {c["id"]: c for c in record["clusters"]}
    for wait in truth:
        goroutine = found[wait["goid"]]
        assert {"p1", "d1"} <= set(goroutine["sources"])
        assert goroutine["sources"]["p1"]["state"] == goroutine["sources"]["d1"]["state"]
        blocked = goroutine["blocked_on"]
        assert blocked["kind"] == wait["kind"] and blocked["addr"] == wait.get("on")
        if wait.get("map"):
            assert any(held["map"] == wait["map"] and wait["key"] in held["key"] for held in blocked["held_by"]), blocked
            assert clusters[goroutine["cluster"]]["held_by"]
    named_alike(dump, crash, record, tmp_path / "report.md")
    held = [wait for wait in truth if wait.get("map")]
    plain = [h for w in held for h in found[w["goid"]]["blocked_on"]["held_by"] if h["map_type"].startswith("map[")]
    if plain:
        assert record["map"]["expr"] in {wait["map"] for wait in held}
        assert sum(record["map"]["heat"]["live"]) == record["map"]["count"] > 0


#: What the trace calls the wait, and the class at least, of each kind of wait.
REASONS = {"nil_chan": "forever", "chan": {"chan receive", "chan send"}, "mutex": "sync", "waitgroup": "sync",
           "cond": "sync.(*Cond).Wait"}
#: Traces before Go 1.22 have another format.
SOURCED = tuple(v for v in toolchains.VERSIONS if v >= "1.22") if EVERYTHING else ("1.23.9", "1.27.3")


def sourced(case, version):
    """The dump of a case, its stacks and trace, and what the program said: waits, then both clocks."""
    dump = build.dump("leaks", version, args=(case, "sources"))
    waits, clocks = build.read_truth(dump.truth)
    return dump, ("--profile", dump.core.parent / "stacks.txt", "--trace", dump.core.parent / "trace.out"), waits["waits"], clocks


@pytest.mark.parametrize("version", SOURCED)
@pytest.mark.parametrize("case", CASES)
def test_profile_trace_and_core_are_one_record_in_each_case(case, version):
    dump, sources, waits, _ = sourced(case, version)
    answer = cli("--core", dump.exe, dump.core, "evidence", *sources, "--json")
    assert answer.returncode == 0, answer.stderr
    record = json.loads(answer.stdout)
    assert record["conflicts"] == [] and record["alignment"]["warnings"] == []
    verdicts = {(one["a"], one["b"]): one["verdict"] for one in record["identity"]}
    assert verdicts[("d1", "t1")] == "same" and "different" not in verdicts.values(), record["identity"]
    found = {g["goid"]: g for g in record["goroutines"]}
    clusters = {c["id"]: c for c in record["clusters"]}
    healthy = [c for c in record["clusters"] if not {wait["goid"] for wait in waits} & set(c["goids"])]
    for wait in waits:
        goroutine = found[wait["goid"]]
        told = goroutine["sources"]
        assert set(told) == {"p1", "d1", "t1"} and goroutine["confidence"] == "high"
        assert told["p1"]["state"] == told["d1"]["state"]
        # The last block is the trace's alone: why, when, and nothing woke it.
        block = told["t1"]["last_block"]
        assert told["t1"]["state"] == "Waiting" and block["reason"] in REASONS[wait["kind"]]
        first, last = record["alignment"]["window_ns"]
        assert first < told["t1"]["created"]["ts"] < block["ts"] < last and told["t1"]["stack"]
        blocked = goroutine["blocked_on"]
        assert blocked["kind"] == wait["kind"] and blocked["addr"] == wait.get("on")
        cluster = clusters[goroutine["cluster"]]
        assert cluster["class"] == ("leak_suspect" if case in test_goroutines.SUSPECTS else "likely_key_mismatch"), cluster["score"]
        assert cluster["score"]["total"] > max((c["score"]["total"] for c in healthy), default=0)
        if wait.get("map"):
            assert any(held["map"] == wait["map"] and wait["key"] in held["key"] for held in blocked["held_by"]), blocked
        if wait["kind"] == "nil_chan":
            assert 0 <= goroutine["waited_ns"]["low"] < last - first + 1_000_000_000 and cluster["nil_channel"]
            assert any("map" in site["call"] for site in cluster["sites"]), cluster["sites"]
    check_lookups(case, waits, record)


@pytest.mark.parametrize("version", SOURCED)
def test_the_clocks_of_trace_and_core_are_those_of_the_program(version):
    dump, sources, waits, clocks = sourced("unicode-form", version)
    record = json.loads(cli("--core", dump.exe, dump.core, "evidence", *sources, "--json").stdout)
    alignment = record["alignment"]
    snapshots = version >= "1.25"
    assert alignment["source"] == ("clock_snapshot" if snapshots else "nanotime")
    assert alignment["wall_source"] == ("clock_snapshot" if snapshots else "memstats")
    # The program read both clocks when the trace had just been stopped, 10 ms before the core.
    second = 1_000_000_000
    assert clocks["mono"] - second < alignment["mono"]["last"] < clocks["mono"]
    assert clocks["wall"] - second < alignment["wall"]["last"] < clocks["wall"] + alignment["wall"]["residual_ns"]
    now = alignment["now_mono"]
    assert alignment["mono"]["first"] < now["low"] < clocks["mono"] + 5 * second
    assert clocks["mono"] < now["high"] and now["high_source"] == "the time of the core file"
    if snapshots:
        assert now["residual_ns"] < 10_000_000
    without = json.loads(cli("evidence", *sources, "--json").stdout)["alignment"]
    assert without["now_mono"] is None and (without["wall"] is None) == (not snapshots)


def test_another_build_is_refused(tmp_path, runs):
    """The same program built anew with one more function is another build to each pair of sources."""
    run = runs("1.27.3")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "tests" / "evidence", source)
    (source / "more.go").write_text(
        "package main\n\nimport \"fmt\"\n\nfunc init() { if len(fmt.Sprint(1)) > 9 { panic(fmt.Sprint(sink)) } }\n")
    other = Run(tmp_path, "1.27.3", source=source)
    try:
        for words in (("--profile", run.file("late.pb.gz")), ("--trace", run.file("trace.out"))):
            answer = cli("--pid", other.process.pid, "evidence", *words)
            assert answer.returncode == 2 and "different processes or builds" in answer.stderr, (words, answer.stderr)
        answer = cli("--pid", other.process.pid, "evidence", "--profile", run.file("late.pb.gz"))
        assert "the build ID is" in answer.stderr
        forced = cli("--pid", other.process.pid, "evidence", "--profile", run.file("late.pb.gz"), "--force", "--json")
        record = json.loads(forced.stdout)
        assert forced.returncode == 0 and [one["verdict"] for one in record["identity"]] == ["different"]
        two = cli("evidence", "--profile", run.file("late.pb.gz"), "--profile", other.file("late.pb.gz"))
        assert two.returncode == 2 and "the build ID is" in two.stderr
    finally:
        other.end()


def test_what_cannot_be_told_is_said(runs):
    """Two runs of one program that stand alike: profiles alone do not tell them apart, memory and trace do."""
    run = runs("1.27.3")
    record = joined("--profile", run.file("early.txt"), "--profile", run.file("late.txt"))
    assert [one["verdict"] for one in record["identity"]] == ["not told"]
    with_memory = cli("--pid", run.process.pid, "evidence", *all_sources(run), "--json")
    verdicts = {(one["a"], one["b"]): one["verdict"] for one in json.loads(with_memory.stdout)["identity"]}
    assert verdicts[("d1", "t1")] == "same" and verdicts[("p2", "t1")] == "not told"


def test_keys_of_the_target_are_escaped(runs, tmp_path):
    key = json.dumps("</style><script>document.title='run'</script> ")
    text = report_on_the_live_process(runs("1.27.3"), tmp_path, key).read_text()
    assert "<script" not in text and text.count("</style>") == 1
    assert html.escape("</style><script>document.title=") in text


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if shutil.which("chromium") is None:
        if os.geteuid() == 0 and shutil.which("apt-get"):
            subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"],
                           env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"), capture_output=True)
        if shutil.which("chromium") is None:
            pytest.skip("chromium is not installed and cannot be: apt-get install chromium")

    def browse(page, *options, size="1200,800"):
        profile = tmp_path_factory.mktemp("chromium")
        words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--enable-logging=stderr", f"--user-data-dir={profile}", f"--window-size={size}"]
        return subprocess.run([*words, *options, Path(page).as_uri()], capture_output=True, text=True, timeout=120)

    return browse


#: Run in a copy that may: where the verdict is, whether anything is wider than the window, the least contrast of any
#: text with what is behind it.
MEASURE = """<script>addEventListener("load", () => {
    const light = colour => {
        const [r, g, b] = colour.match(/[0-9.]+/g).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
        return .2126 * r + .7152 * g + .0722 * b;
    };
    const behind = e => {
        for (; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if (!colour.endsWith(", 0)")) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    let least = 21;
    for (const e of document.querySelectorAll("main, main *")) {
        if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim()) || e.tagName == "title") continue;
        const [a, b] = [light(e.closest("svg") ? getComputedStyle(e).fill : getComputedStyle(e).color), light(behind(e))];
        least = Math.min(least, (Math.max(a, b) + .05) / (Math.min(a, b) + .05));
    }
    const r = document.getElementById("verdict").getBoundingClientRect();
    const told = JSON.stringify({seen: r.top >= 0 && r.bottom <= innerHeight, fits: document.documentElement.scrollWidth <= innerWidth,
        dark: matchMedia("(prefers-color-scheme: dark)").matches, width: innerWidth, least});
    document.title = told;
    parent.postMessage(told, "*");
})</script></body>"""
PHONE = """<!doctype html><iframe src="copy.html" style="width: 360px; height: 640px; border: 0"></iframe>
<script>addEventListener("message", event => { document.title = event.data; })</script>"""
DARK = "--blink-settings=preferredColorScheme=0"


def test_a_browser_shows_the_verdict_first_and_complains_of_nothing(chromium, run, hostile, tmp_path):
    dangerous = tmp_path / "dangerous.html"
    assert cli("evidence", "--profile", hostile, "-o", dangerous).returncode == 0
    script = json.dumps("</style><script>document.title='run'</script> ")
    (tmp_path / "key").mkdir()
    page, keyed = report_on_the_live_process(run, tmp_path, '"topic-0 "'), report_on_the_live_process(run, tmp_path / "key", script)
    for path in (page, dangerous, keyed):
        for scheme in ("--blink-settings=preferredColorScheme=1", DARK):
            shot = tmp_path / "shot.png"
            answer = chromium(path, f"--screenshot={shot}", scheme)
            assert shot.stat().st_size > 5000
            assert "CONSOLE" not in answer.stderr, answer.stderr
        dom = chromium(path, "--dump-dom").stdout
        assert "<script" not in dom and "<title>run</title>" not in dom and 'id="verdict"' in dom
        # Nothing in it asks for anything from outside, and the policy would not let it.
        source = path.read_text()
        assert "default-src 'none'" in source and not re.search(r"<(img|link|iframe|object|embed|video|audio|image|use|form|base)\b", source)
        assert not re.search(r"url\(|@import", re.search("<style>(.*?)</style>", source, re.S).group(1))
    source = page.read_text()
    policy = re.search(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", source).group()
    (tmp_path / "copy.html").write_text(source.replace(policy, "").replace("</body>", MEASURE))
    (tmp_path / "phone.html").write_text(PHONE)
    for name, width, options in (("copy", 1200, {}), ("copy", 500, dict(size="500,700")), ("phone", 360, {})):
        for scheme in ((), (DARK,)):
            dom = chromium(tmp_path / f"{name}.html", "--dump-dom", "--virtual-time-budget=2000", *scheme, **options).stdout
            told = json.loads(html.unescape(re.search("<title>(.*?)</title>", dom).group(1)))
            assert told["seen"] and told["fits"] and told["width"] == width and told["dark"] == bool(scheme), told
            assert told["least"] >= 4.5, told


def test_the_report_is_printed_on_light_paper(chromium, run, tmp_path):
    page = report_on_the_live_process(run, tmp_path, '"topic-0 "')
    paper = tmp_path / "paper.pdf"
    answer = chromium(page, f"--print-to-pdf={paper}", DARK)
    assert "CONSOLE" not in answer.stderr
    data = paper.read_bytes()
    assert data.startswith(b"%PDF") and 1 <= len(re.findall(rb"/Type /Page\b", data)) < 20
    drawn = b""
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", data, re.S):
        try:
            drawn += zlib.decompressobj().decompress(stream)
        except zlib.error:
            pass
    # The colours that areas and text are filled with: blue ink of the drawings is there, the dark scheme's paper is not.
    fills = {tuple(round(255 * float(part)) for part in found) for found in re.findall(rb"([.\d]+) ([.\d]+) ([.\d]+) rg\b", drawn)}
    assert (0x09, 0x69, 0xda) in fills and (0x0d, 0x11, 0x17) not in fills and (0x16, 0x1b, 0x22) not in fills, fills
