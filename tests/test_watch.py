"""`gomap watch`, `snapshot` and `diff` against programs that count and tell what they do with their maps."""

import collections
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import build
import pytest
from conftest import EVERYTHING, GDBINIT, ROOT, cli, documents, gdb

from mapscope import commands

VERSIONS = ("1.19", "1.21.13", "1.23.9", "1.24.11", "1.27.3")
WHY_NOT = commands.kernel_refuses()
#: Where the kernel or the rights do not allow probes, the reason is what the product itself says.
KERNEL = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))
ENGINES = [pytest.param("uprobe", marks=KERNEL), "gdb"]
ARMED = {"gdb": "stops the program at each hit", "uprobe": "which runs on"}


@contextlib.contextmanager
def program(sample, version, *arguments, variant="default"):
    with build.live(build.build(sample, version, variant), arguments, stdin=subprocess.PIPE) as live:
        yield live


def say(live):
    live.process.stdin.write("\n")
    live.process.stdin.flush()


def command(engine, pid, *words):
    """The command line of a watch by this engine: the kernel's needs no gdb."""
    if engine == "uprobe":
        return [sys.executable, "-m", "mapscope.cli", "--pid", str(pid), "watch", *words]
    line = " ".join(["gomap watch", "--engine", engine, *words])
    return ["gdb", "-nx", "-batch", "-p", str(pid), "-x", str(GDBINIT), "-ex", line]


@contextlib.contextmanager
def watching(engine, line, tmp_path):
    """A running watch, from the moment that its probes are set."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    said = tmp_path / "said"
    with open(said, "w") as errors, open(tmp_path / "out", "w") as out:
        # A shell starts background jobs with SIGINT ignored, and so would the watch.
        process = subprocess.Popen(line, stdout=out, stderr=errors, env=environment,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        try:
            deadline = time.monotonic() + 60
            while ARMED[engine] not in said.read_text():
                assert process.poll() is None and time.monotonic() < deadline, said.read_text()
                time.sleep(0.02)
            yield process
            process.wait(timeout=120)
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in said.read_text()


def uprobe_events():
    """Our definitions that are left in the kernel."""
    text = subprocess.run(["cat", "/sys/kernel/tracing/uprobe_events"], capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if ":mapscope_" in line]


def order(live, word):
    live.process.stdin.write(word + "\n")
    live.process.stdin.flush()


def events(path):
    *hits, last = each_event(path)
    return hits, last["summary"]


def each_event(path):
    """The documents of a record, one by one: there may be millions."""
    with open(path) as lines:
        yield from map(json.loads, lines)


def own_counts(text):
    """The program's own counts: (map, goroutine, operation, key, hit)."""
    [counts] = [d["counts"] for d in documents(text) if "counts" in d]
    own = collections.Counter()
    for c in counts:
        own[c["map"], c["goroutine"], c["op"], json.dumps(c["key"]), c["hit"] if c["key"] is not None else None] += c["n"]
    return own


#: Versions that the sample of shared maps is made for, one or two of each layout of map and sync.Map.
SHARED = ("1.21.13", "1.23.9", "1.24.11", "1.27.3")


def watch_shared(engine, version, operations, tmp_path, *words, pause=1):
    """(own counts of (map, operation, hit), those seen, the events' summary) of goroutines that share their maps."""
    out = tmp_path / "events.jsonl"
    with program("shared", version, operations, 8, pause) as live:
        names = {d["address"]: d["name"] for d in live.truth}
        with watching(engine, command(engine, live.pid, *words, "--json", "-o", str(out), "--max-overhead", "100000"), tmp_path):
            say(live)
            text = live.process.stdout.read()
            assert live.process.wait(timeout=60) == 0 and text.endswith("DONE\n")
    [counts] = [d["counts"] for d in documents(text) if "counts" in d]
    own, seen = collections.Counter(), collections.Counter()
    for c in counts:
        own[c["map"], c["op"], c["hit"]] += c["n"]
    for e in each_event(out):
        if "summary" in e:
            return own, seen, e["summary"]
        if e["caller"]["func"].startswith("main."):
            name = "main.Nil" if e["map"] == "0x0" else names[e["map"]]
            seen[name, e["op"], e["found"]] += 1


def watch_to_the_end(engine, version, operations, tmp_path, variant="default", pause=0):
    out = tmp_path / "events.jsonl"
    with program("ops", version, operations, 8, pause, variant=variant) as live:
        names = {d["address"]: d["name"] for d in live.truth}
        with watching(engine, command(engine, live.pid, "--json", "-o", str(out), "--max-overhead", "100000"), tmp_path):
            say(live)
            text = live.process.stdout.read()
            assert live.process.wait(timeout=60) == 0 and text.endswith("DONE\n")
    seen, hits, callers = collections.Counter(), collections.Counter(), set()
    for e in each_event(out):
        if "summary" in e:
            break
        hits[e["found"]] += 1
        if e["map"] in names:
            seen[names[e["map"]], e["goid"], e["op"], json.dumps(e["key"]), e["found"]] += 1
            callers.add(e["caller"]["func"].split("[")[0])
    return own_counts(text), seen, hits, callers, e["summary"]


def without(counts, *columns):
    short = collections.Counter()
    for key, n in counts.items():
        short[tuple(part for i, part in enumerate(key) if i not in columns)] += n
    return short


@pytest.mark.parametrize("version", VERSIONS)
def test_gdb_tells_every_operation_once_with_its_key_and_outcome(version, tmp_path):
    operations = 10_000
    own, seen, hits, callers, summary = watch_to_the_end("gdb", version, operations, tmp_path)
    assert without(own, 4) == without(seen, 4) and sum(seen.values()) == operations
    # Where CompareAndSwap and CompareAndDelete do nothing, they do not say whether the key is there; nor does Store of Go 1.19.
    for k in [k for k in own if k[2].startswith("CompareAnd") and not k[4] or k[2] == "Store" and version == "1.19"]:
        own[k[:4] + (None,)] += own.pop(k)
    assert own == seen
    assert summary["hits"] == sum(hits.values()) and summary["dropped"] == 0 and summary["us_per_hit"] > 0
    assert summary["found"] == hits[True] and summary["missed"] == hits[False]
    assert "main.(*mapSubject" in callers and all(caller.startswith("main.") for caller in callers), callers


@pytest.mark.parametrize("version", VERSIONS)
def test_a_snapshot_is_the_map_just_before_the_operation(version, tmp_path):
    """Each map is one goroutine's, and its operations are told in order: so what it holds before each is known."""
    out = tmp_path / "events.jsonl"
    with program("ops", version, 2000, 4) as live:
        names = {d["address"]: d["name"] for d in live.truth}
        with watching("gdb", command("gdb", live.pid, "--snapshot", "--json", "-o", str(out), "--max-overhead", "100000"), tmp_path):
            say(live)
            live.process.stdout.read()
    hits, _ = events(out)
    #: Of each map how many of the sample's 16 keys it holds, half of them at first, and which ones are known to be there or not.
    held = collections.defaultdict(lambda: [8, {}])
    looked_at = 0
    for e in hits:
        name, key, state = names.get(e["map"], "Sync"), json.dumps(e["key"]), e["state"]
        if name.endswith("Sync"):
            continue
        count, known = held[name]
        assert state["count"] == count and state["writing"] is False, (e, count)
        assert state["layout"] == ("swiss" if version in ("1.24.11", "1.27.3") else "classic")
        if key != "null":
            assert e["found"] == known.setdefault(key, e["found"]), e
        if e["found"]:
            looked_at += 1
            number = int(state["hash"], 16)
            if state["layout"] == "swiss":
                wanted, shown = number & 0x7F, [cell["control"] for cell in state["path"]]
            else:
                top = number >> 56
                wanted, shown = top + 5 * (top < 5), [cell["tophash"] for cell in state["path"]]
            assert wanted in shown[-1] and all(len(cell) == 8 for cell in shown), state
        if e["op"] in ("assign", "delete"):
            held[name][0] += (e["op"] == "assign") - e["found"]
            known[key] = e["op"] == "assign"
        elif e["op"] == "clear":
            held[name] = [0, collections.defaultdict(bool)]
    assert looked_at > 300 and len(held) > 40


def test_gdb_counts_in_other_builds_as_exactly(tmp_path):
    for variant, version, operations in (("noopt", "1.27.3", 800), ("pie", "1.24.11", 800), ("stripped", "1.23.9", 3000),
                                         ("strip-s", "1.19", 800)):
        own, seen, *_ = watch_to_the_end("gdb", version, operations, tmp_path, variant)
        assert without(own, 4) == without(seen, 4), (variant, version)


@KERNEL
@pytest.mark.parametrize("version", VERSIONS)
def test_the_kernel_tells_every_operation_once_or_counts_it_as_dropped(version, tmp_path):
    operations = 1_000_000 if EVERYTHING or version == "1.27.3" else 50_000
    own, seen, hits, _, summary = watch_to_the_end("uprobe", version, operations, tmp_path)
    assert summary["hits"] == sum(hits.values()) and sum(own.values()) == operations
    own, seen = without(own, 3, 4), without(seen, 3, 4)
    lost = sum((own - seen).values())
    # What the runtime and the program's own bookkeeping do with maps is dropped alike.
    others = sum(hits.values()) / sum(seen.values())
    assert not seen - own and lost <= summary["dropped"] <= 2 * others * lost + 1000, (lost, summary["dropped"])


@pytest.mark.parametrize("version", SHARED)
@pytest.mark.parametrize("engine", ENGINES)
def test_outcomes_are_what_the_operations_themselves_found(engine, version, tmp_path):
    """Eight goroutines at once put in, look up and delete the same keys: a look at any other moment finds something else."""
    operations = {"gdb": 10_000, "uprobe": 1_000_000 if EVERYTHING else 50_000}[engine]
    own, seen, summary = watch_shared(engine, version, operations, tmp_path, pause=60 if engine == "uprobe" else 1)
    assert sum(own.values()) == operations and summary["hits"] == sum(summary[k] for k in ("found", "missed", "unknown", "keyless"))
    # A busy machine may lose records of so many; what it lost makes nothing up.
    if operations < 1_000_000 or summary["dropped"] == 0:
        assert summary["dropped"] == 0 and seen == own, (own - seen, seen - own)
    assert all(n <= own[key] for key, n in seen.items() if key[2] is not None), (own - seen, seen - own)
    assert sum(own.values()) - sum(seen.values()) <= summary["dropped"]
    assert all(found is not None or op.startswith("CompareAnd") or name == "main.Boxed" for name, op, found in seen)


@pytest.mark.parametrize("engine", ENGINES)
def test_without_returns_no_outcome_is_told(engine, tmp_path):
    own, seen, summary = watch_shared(engine, "1.24.11", 3000, tmp_path, "--entry", pause=60)
    assert without(seen, 2) == without(own, 2) and {found for _, _, found in seen} == {None}
    assert summary["found"] == summary["missed"] == 0 and summary["unknown"] == summary["hits"] - summary["keyless"]


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
@pytest.mark.parametrize("engine", ENGINES)
def test_misses_are_reads_of_both_engines(engine, version, tmp_path):
    own, seen, summary = watch_shared(engine, version, 5000, tmp_path, "--misses", pause=60)
    reads = ("access1", "access2", "Load")
    assert seen == collections.Counter({k: n for k, n in own.items() if k[1] in reads and k[2] is False})
    assert summary["hits"] == summary["missed"] and summary["found"] == 0
    assert summary["unknown"] == sum(n for (_, op, found), n in own.items() if op in reads and found is None)


@pytest.mark.parametrize("engine", ENGINES)
def test_operations_are_named_as_they_are_shown(engine, tmp_path):
    own, seen, _ = watch_shared(engine, "1.27.3", 3000, tmp_path, "--op", "Load,delete,access2", pause=60)
    wanted = ("Load", "delete", "LoadAndDelete", "CompareAndDelete", "access2")
    assert seen == collections.Counter({k: n for k, n in own.items() if k[1] in wanted})


@pytest.mark.parametrize("version", ("1.21.13", "1.27.3"))
@pytest.mark.parametrize("engine", ENGINES)
def test_keys_that_are_shown_alike_are_told_apart(engine, version, tmp_path):
    """Two missing keys whose first 241 bytes are the same, each with its twin among the stored ones."""
    with program("shared", version, 0) as live:
        with watching(engine, command(engine, live.pid, "main.Cache", "--limit", "9", "--max-overhead", "100000"), tmp_path):
            pass
        say(live)
        assert live.process.stdout.read().endswith("DONE\n") and live.process.wait(timeout=30) == 0
    text = (tmp_path / "out").read_text()
    relations = re.findall(r"^      like .*?  (whitespace|case): ", text, re.M)
    assert (relations * 2)[relations.index("whitespace"):][:9] == ["whitespace", "case", "case"] * 3, text
    rows = re.findall(r"^ +(\d+)  (.*)$", text.partition("most frequent missing keys:")[2].partition("most frequent callers")[0], re.M)
    assert [n for n, _ in rows] == ["6", "3"] and rows[0][1] != rows[1][1], text


@pytest.mark.parametrize("engine", ENGINES)
def test_a_near_miss_is_shown_where_it_tells_something(engine, tmp_path):
    """All stored texts are a digit apart: of seven characters that is chance, of eight it may be a mistake."""
    out = tmp_path / "events.jsonl"
    with program("shared", "1.24.11", 10_000_000, 8, 60) as live:
        words = ["--misses", "--limit", "1000", "--json", "-o", str(out), "--max-overhead", "100000"]
        with watching(engine, command(engine, live.pid, *words), tmp_path):
            say(live)
    hits, _ = events(out)
    near = [(e["key"], e["near"][0]) for e in hits if "near" in e]
    texts = {key for key, like in near if isinstance(key, str) and like["relation"] == "edit-distance"}
    assert all(like["key"] != key for key, like in near)
    assert texts <= {"order-10", "order-11"}
    # The kernel's reader may come too late to look, and says nothing then.
    assert texts or engine == "uprobe"


@pytest.mark.parametrize("engine", ENGINES)
def test_filters_limit_and_near_misses(engine, tmp_path):
    with program("lookups", "1.27.3") as live:
        def watch(*words):
            out = tmp_path / "events.jsonl"
            line = command(engine, live.pid, *words, "--json", "-o", str(out), "--max-overhead", "100000")
            with watching(engine, line, tmp_path):
                pass
            return events(out)

        hits, summary = watch("main.cache", "--limit", "30")
        assert len(hits) == 30 and {e["name"] for e in hits} == {"main.cache"}
        assert {e["key"] for e in hits} == {"order-A", "order-A ", "order-B"}
        assert {e["found"] for e in hits if e["key"] == "order-A "} == {False}
        assert {e["found"] for e in hits if e["key"] != "order-A "} == {True}
        assert {e["caller"]["func"] for e in hits} == {"main.handle"}
        assert {os.path.basename(e["caller"]["file"]) for e in hits} == {"main.go"}
        assert summary["missing"][0]["key"] == "order-A " and summary["callers"][0] == {"func": "main.handle", "count": 30}
        hits, _ = watch("--misses", "--limit", "3")
        assert {e["key"] for e in hits} == {"order-A "}
        assert hits[0]["near"][0]["key"] == "order-A" and hits[0]["near"][0]["relation"] == "whitespace"
        assert "U+0020" in hits[0]["near"][0]["detail"]
        hits, _ = watch("--key", "*B", "--limit", "3", "--func", "handle$", "--op", "access,clear", "--snapshot")
        assert {e["key"] for e in hits} == {"order-B"} and hits[0]["state"]["count"] == 3
        started = time.monotonic()
        hits, summary = watch("--op", "delete", "--for", "1")
        assert not hits and summary["hits"] == 0 and time.monotonic() - started < 30
        [goroutine] = {e["goid"] for e in watch("main.cache", "--limit", "3")[0]}
        assert {e["goid"] for e in watch("--goroutine", str(goroutine), "--limit", "4")[0]} == {goroutine}
        say(live)
        say(live)
        assert live.process.stdout.read().endswith("DONE\n") and live.process.wait(timeout=30) == 0


def test_stop_gives_the_prompt_at_the_hit(tmp_path):
    with program("lookups", "1.27.3") as live:
        answer = gdb("-p", live.pid, commands=[
            "gomap watch main.cache --key 'order-A ' --stop",
            'printf "goid %d\\n", $gomap_goid', "print $gomap_key", "gomap print $gomap_map --sort key --json",
            "bt 2", "info breakpoints"])
        assert "goid " in answer.stdout and re.search(r"order-A ", answer.stdout)
        [document] = documents(answer.stdout)
        assert [e["key"] for e in document["entries"]] == ["order-A", "order-B", "order-C"]
        assert "mapaccess" in answer.stdout and "main.handle" in answer.stdout
        assert "No breakpoints or watchpoints." in answer.stdout
        say(live)
        say(live)
        assert live.process.wait(timeout=30) == 0


def test_watches_of_one_session_follow_each_other():
    """Each ends with threads in any state, and gdb still has to be able to stop and let them go."""
    with program("lookups", "1.27.3") as live:
        answer = gdb("-p", live.pid, commands=["gomap watch --engine gdb --limit 5", "gomap watch --engine gdb --for 0.2"] * 10)
        assert answer.returncode == 0 and len(re.findall(r"\d+ operations, ", answer.stdout)) == 20, answer.stderr
        say(live)
        say(live)
        assert live.process.stdout.read().endswith("DONE\n") and live.process.wait(timeout=30) == 0


def test_the_examples_of_the_help_work(tmp_path):
    examples = re.findall(r"^  (gomap watch .*)$", commands.BY_NAME["watch"].help(), re.M)
    assert len(examples) == 3
    with program("lookups", "1.23.9") as live:
        for example in examples:
            answer = gdb("-p", live.pid, commands=[example])
            assert answer.returncode == 0 and "order-A" in answer.stdout, answer.stdout + answer.stderr
            assert live.process.poll() is None
        say(live)
        say(live)
        assert live.process.wait(timeout=30) == 0


def test_a_user_s_breakpoint_ends_the_watch_and_stays():
    with program("lookups", "1.27.3") as live:
        answer = gdb("-p", live.pid, commands=[
            "break main.handle", "gomap watch --op assign --engine gdb", "info breakpoints", "delete"])
        assert "main.handle" in answer.stdout and "breakpoint already hit" in answer.stdout
        say(live)
        say(live)
        assert live.process.wait(timeout=30) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_watch_that_is_ended_from_outside_leaves_the_program_alone(engine, tmp_path):
    """SIGINT as by Ctrl-C, SIGTERM, and for the kernel's probes SIGKILL: they go with the process that holds them."""
    for number in (signal.SIGINT, signal.SIGTERM) + ((signal.SIGKILL,) if engine == "uprobe" else ()):
        with program("lookups", "1.24.11") as live:
            line = command(engine, live.pid, "--max-overhead", "100000")
            with watching(engine, line, tmp_path) as process:
                time.sleep(1)
                process.send_signal(number)
            time.sleep(0.2)
            say(live)
            say(live)
            assert live.process.stdout.read().endswith("DONE\n") and live.process.wait(timeout=30) == 0
            if number == signal.SIGINT:
                assert re.search(r"\d+ operations, \d+ found, \d+ missed", (tmp_path / "out").read_text())


@KERNEL
def test_gdb_with_the_kernel_s_probes_and_a_program_of_its_own(tmp_path):
    exe = build.build("ops", "1.27.3")
    out = tmp_path / "events.jsonl"
    answer = cli("watch", "--json", "-o", out, "--max-overhead", "100000", "--", exe, "exit", "2000", "4")
    assert answer.returncode == 0 and answer.stdout.endswith("DONE\n"), answer.stderr
    hits, _ = events(out)
    own = own_counts(answer.stdout)
    seen = collections.Counter((e["goid"], e["op"]) for e in hits if "main." in e["caller"]["func"])
    assert not without(own, 0, 3, 4) - seen
    with program("lookups", "1.27.3") as live:
        answer = gdb("-p", live.pid, commands=["gomap watch main.cache --engine uprobe --limit 5", "info threads"])
        assert "the kernel's probes watch" in answer.stderr and answer.stdout.count("main.handle main.go") == 5
        say(live)
        say(live)
        assert live.process.wait(timeout=30) == 0


#: (words of the watch, fields of the sample's World, the keys that match)
BEHIND_POINTERS = ["--key", "key.A==\"12\""]
PATTERNS = [
    (["--type", "map[int64]", "--key", f"key>={5 << 40}"], ["Int64", "BigElem"], lambda key: key >= 5 << 40),
    (["--type", "map[int32]", "--key", "key>=-7 && key<-2"], ["Int32"], lambda key: -7 <= key < -2),
    (["--type", "map[uint8]int", "--key", "key!=3"], ["Byte"], lambda key: key != 3),
    (["--key", "key.X>4 && key.Y<0"], ["Point"], lambda key: key["X"] > 4),
    (["--key", "name 1*"], ["String", "Named", "Fat"], lambda key: key.startswith("name 1")),
    (["--key", "key==\"fat 7\""], ["Fat"], lambda key: key == "fat 7"),
    (["--key", "key==\"kkkkkkkkk\""], ["String"], lambda key: key == "kkkkkkkkk"),
    (BEHIND_POINTERS, ["Mixed"], lambda key: key["A"] == "12"),
]


@KERNEL
@pytest.mark.parametrize("version", VERSIONS if EVERYTHING else ("1.21.13", "1.27.3"))
def test_the_kernel_picks_by_type_and_key(version, tmp_path):
    """The exact check comes after the kernel's, so too much passed on would not show here: tests/uprobe.rs counts that."""
    for words, fields, matches in PATTERNS if EVERYTHING or version == "1.27.3" else PATTERNS[1::3]:
        out = tmp_path / "events.jsonl"
        with program("ops", version, 3000, 4, 1000) as live:
            with watching("uprobe", command("uprobe", live.pid, *words, "--json", "-o", str(out), "--max-overhead", "100000"),
                          tmp_path):
                say(live)
                text = live.process.stdout.read()
        [counts] = [d["counts"] for d in documents(text) if "counts" in d]
        own = sum(c["n"] for c in counts if c["map"].rpartition(".")[2] in fields and c["key"] is not None and matches(c["key"]))
        hits, summary = events(out)
        if words == BEHIND_POINTERS:  # memory that is gone for the last hits: nobody can say then
            assert 0 < len(hits) <= own <= len(hits) + summary["dropped"], words
        else:
            assert 0 < len(hits) == own, words
        assert all(matches(e["key"]) for e in hits)
        said = (tmp_path / "said").read_text()
        assert "picked by map type" in said and "length, beginning or number of the key" in said


@pytest.mark.parametrize("version", VERSIONS if EVERYTHING else ("1.21.13", "1.27.3"))
def test_the_program_outlives_a_gdb_that_is_killed(version, tmp_path):
    """The program checks what each of its operations does, so a thread that went on at the wrong place would show."""
    for n in range(10 if EVERYTHING else 3):
        # A program with a terminal is not guarded: its shell would take it for suspended.
        with build.live(build.build("ops", version), (30_000, 8), stdin=subprocess.PIPE, start_new_session=True) as live:
            with watching("gdb", command("gdb", live.pid, "--max-overhead", "100000", "-o", os.devnull), tmp_path) as process:
                say(live)
                time.sleep(0.3 + 0.1 * n)
                process.kill()
            assert live.process.stdout.read().endswith("DONE\n") and live.process.wait(timeout=30) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_that_forks_is_watched_on_and_its_child_left_alone(engine, tmp_path):
    out = tmp_path / "events.jsonl"
    with program("lives", "1.27.3") as live:
        with watching(engine, command(engine, live.pid, "main.table", "--json", "-o", str(out), "--max-overhead", "1000"),
                      tmp_path) as process:
            order(live, "fork")
            assert live.process.stdout.readline() == "CHILD 200\n"
            assert live.process.stdout.readline() == "<nil>\n"
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
        hits, _ = events(out)
        assert len(hits) > 100 and {e["name"] for e in hits} == {"main.table"} and len({e["goid"] for e in hits}) == 1
        order(live, "exit")
        assert live.process.wait(timeout=30) == 7


@pytest.mark.parametrize("build_of", [("1.19", "default"), ("1.23.9", "strip-s"), ("1.27.3", "default"), ("1.27.3", "pie")])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_that_executes_another_ends_the_watch(engine, build_of, tmp_path):
    version, variant = build_of
    said = {"gdb": "has executed another one", "uprobe": "runs another program"}
    with program("lives", version, variant=variant) as live:
        with watching(engine, command(engine, live.pid, "--max-overhead", "1000"), tmp_path):
            order(live, "exec")
        assert said[engine] in (tmp_path / "said").read_text()
        assert live.process.stdout.read() == "CHILD 200\n" and live.process.wait(timeout=30) == 0
    assert not uprobe_events()


def test_a_program_that_fails_to_execute_another_lives_on(tmp_path):
    with program("lives", "1.27.3") as live:
        with watching("gdb", command("gdb", live.pid, "--max-overhead", "1000"), tmp_path):
            order(live, "try")
        assert "the program tried to execute another one" in (tmp_path / "said").read_text()
        order(live, "exit")
        assert live.process.wait(timeout=30) == 7 and live.process.stdout.read() == "no such file or directory\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_that_ends_ends_the_watch(engine, tmp_path):
    with program("lives", "1.24.11") as live:
        with watching(engine, command(engine, live.pid, "--max-overhead", "100000"), tmp_path):
            time.sleep(0.3)
            order(live, "exit")
        assert "has ended" in (tmp_path / "said").read_text()
        assert re.search(r"\d+ operations, ", (tmp_path / "out").read_text())
        assert live.process.wait(timeout=30) == 7
    assert not uprobe_events()


@KERNEL
def test_two_watches_at_once(tmp_path):
    """Two of the kernel's share a program; the kernel's and gdb's would hide each other's hits, and say so."""
    first, second, third = (tmp_path / name for name in ("1", "2", "3"))
    for directory in (first, second, third):
        directory.mkdir()
    out = {directory: directory / "events.jsonl" for directory in (first, second, third)}

    def words(directory):
        return ["main.table", "--json", "-o", str(out[directory]), "--max-overhead", "1000"]

    with program("lives", "1.27.3") as live, program("lives", "1.23.9") as other:
        with watching("uprobe", command("uprobe", live.pid, *words(first)), first) as one:
            with watching("uprobe", command("uprobe", live.pid, *words(second)), second) as two:
                with watching("gdb", command("gdb", other.pid, *words(third)), third) as three:
                    answer = gdb("-p", live.pid, commands=["gomap watch --engine gdb --for 1"])
                    assert "a kernel probe stands on runtime.map" in answer.stderr and "Traceback" not in answer.stderr
                    answer = cli("--pid", other.pid, "watch", "--for", "1")
                    assert answer.returncode == 2 and "a debugger's breakpoint stands on runtime.map" in answer.stderr
                    time.sleep(1)
                    for process in (one, two, three):
                        process.send_signal(signal.SIGINT)
        for directory in (first, second, third):
            hits, summary = events(out[directory])
            assert len(hits) > 50 and {e["key"] for e in hits} == {"here"} and summary["dropped"] == 0
        for process in (live, other):
            order(process, "exit")
            assert process.process.wait(timeout=30) == 7
    assert not uprobe_events()


def test_a_user_may_detach_in_the_middle():
    with program("lives", "1.27.3") as live:
        answer = gdb("-p", live.pid, commands=[
            "break main.look if $_gomap_passed++ > 20", "commands 1\nsilent\ndetach\nend", "gomap watch --engine gdb main.table",
            "info breakpoints"])
        assert "Traceback" not in answer.stderr and re.search(r"\d+ operations, ", answer.stdout), answer.stderr
        order(live, "exit")
        assert live.process.wait(timeout=30) == 7


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_in_a_container_is_watched(engine, tmp_path):
    """One whose executable only its own mount namespace has."""
    exe = build.build("lookups", "1.27.3")
    inside = "mount -t tmpfs none /mnt && cp %s /mnt/inside && exec /mnt/inside wait" % exe
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"]).returncode:
        pytest.skip("a mount namespace needs root and unshare")
    process = subprocess.Popen(["unshare", "-m", "sh", "-c", inside], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    try:
        while not process.stdout.readline().startswith("READY"):
            assert process.poll() is None
        with watching(engine, command(engine, process.pid, "main.cache", "--limit", "6", "--max-overhead", "1000"), tmp_path):
            pass
        assert "6 operations, 4 found, 2 missed" in (tmp_path / "out").read_text(), (tmp_path / "said").read_text()
        process.stdin.write("\n\n")
        process.stdin.flush()
        assert process.stdout.read().endswith("DONE\n") and process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()


def test_a_costly_watch_disarms_itself(tmp_path):
    with program("ops", "1.27.3", 100_000, 8) as live:
        line = command("gdb", live.pid, "--op", "access", "--max-overhead", "20", "-o", str(tmp_path / "file"))
        with watching("gdb", line, tmp_path):
            say(live)
        assert "more than 20 % (--max-overhead)" in (tmp_path / "said").read_text()
        assert live.process.stdout.read().endswith("DONE\n")


def test_what_cannot_be_watched_is_one_sentence(tmp_path):
    dump = build.dump("demo", "1.27.3")
    answer = gdb(dump.exe, dump.core, commands=["gomap watch"])
    assert "a core has no future to watch" in answer.stderr
    answer = cli("--core", dump.exe, dump.core, "watch")
    assert answer.returncode == 2 and "a core has no future" in answer.stderr
    answer = gdb(dump.exe, commands=["gomap watch"])
    assert "there is no process to watch" in answer.stderr
    for words in (("--pid", "999999999"), ()):
        answer = cli(*words, "watch")
        assert answer.returncode == 2 and len(answer.stderr.splitlines()) == 1, answer.stderr
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        answer = cli("--pid", sleeper.pid, "watch")
        assert answer.returncode == 2 and "is not a Go program" in answer.stderr
    finally:
        sleeper.kill()
        sleeper.wait()
    with program("lookups", "1.27.3") as live:
        answer = gdb("-p", live.pid, commands=[
            "gomap watch --op fly", "gomap watch --misses --op assign", "gomap watch --misses --entry"])
        assert "--op knows access" in answer.stderr and "--op leaves no reads" in answer.stderr
        assert "--entry leaves that out" in answer.stderr
        answer = gdb("-p", live.pid, commands=["gomap watch --func '('", "gomap watch --key 'elem.Nothing==1' --for 0.3"])
        assert "--func is not a regular expression" in answer.stderr and "Traceback" not in answer.stderr


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_a_diff_tells_what_the_program_did(version, tmp_path):
    before, after = tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    with program("lookups", version) as live:
        assert cli("--pid", live.pid, "snapshot", "main.table", before).stdout == f"100 entries written to {before}\n"
        say(live)
        truth = json.loads(live.process.stdout.readline())
        [found] = documents(cli("--pid", live.pid, "diff", before, "main.table", "--limit", "0", "--json").stdout)
        assert {e["key"]: e["elem"] for e in found["added"]} == truth["added"]
        assert {e["key"]: e["elem"] for e in found["removed"]} == truth["removed"]
        assert {e["key"]: [e["old"], e["new"]] for e in found["changed"]} == truth["changed"]
        assert found["counts"]["kept"] == 100 - len(truth["removed"]) and found["counts"]["moved"] > 0
        assert cli("--pid", live.pid, "snapshot", "main.table", after).returncode == 0
        assert documents(cli("diff", before, after, "--limit", "0", "--json").stdout)[0]["counts"] == found["counts"]
        text = gdb("-p", live.pid, commands=[f"gomap diff {before} main.table --limit 2"]).stdout
        assert "1400 added, 10 removed" in text and '  + "key 100": 100\n' in text and "1398 more" in text
        same = cli("diff", after, after).stdout
        assert same.startswith("0 added, 0 removed, 0 changed of 1490 entries then and 1490 now; 0 of 1490 kept ones moved")
        say(live)
        assert live.process.wait(timeout=30) == 0


def test_files_that_are_no_snapshots_are_one_sentence(tmp_path):
    for name, content in (("empty", ""), ("other", "{}\n"), ("broken", '{"mapscope_snapshot":1}\n{"key":1\n'),
                          ("binary", b"\xff\xfe\n"), ("short", '{"mapscope_snapshot":1}\n{"key":1}\n')):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        answer = cli("diff", path, path)
        assert answer.returncode == 2 and len(answer.stderr.splitlines()) == 1 and name in answer.stderr, answer.stderr
    answer = cli("diff", tmp_path / "missing", tmp_path / "missing")
    assert answer.returncode == 2 and "neither a file nor a map" in answer.stderr


def test_a_remote_program_is_watched_through_gdbserver():
    with program("lookups", "1.27.3") as live:
        answer = gdb("-iex", "set auto-load off", build.build("lookups", "1.27.3"), commands=[
            f"target remote | gdbserver --once --attach - {live.pid}", "gomap watch main.cache --limit 6 --max-overhead 1000",
            "gomap watch --misses --for 1 --max-overhead 1000", "detach"])
        assert "Traceback" not in answer.stderr and answer.stdout.count("operations, ") == 2
        assert "6 operations, 4 found, 2 missed" in answer.stdout and 'like "order-A"  whitespace' in answer.stdout
        say(live)
        say(live)
        assert live.process.wait(timeout=30) == 0
