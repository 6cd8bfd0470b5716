"""Variables of a goroutine's frames against what the program printed of its own maps and arguments."""

import json
import re

import build
import pytest
from conftest import EVERYTHING, cli, documents, gdb
from oracle import differences
from test_lldb import LLDB, lldb

VERSIONS = ("1.21.13", "1.23.9", "1.24.11", "1.27.3")
#: The goroutine that holds the maps.
MAIN = 1


def ask(target, *words):
    done = cli(*target, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def entries(pairs):
    return sorted(json.dumps(pair, sort_keys=True) for pair in pairs or [])


def variable(frames, function, name):
    """The frame's number and the variable of this name in the innermost frame of the function that has it."""
    for frame in frames:
        for found in reversed(frame["variables"]):
            if frame["func"] == function and found["name"] == name:
                return frame["frame"], found
    return None


def of_closure(function):
    """Where the truth's variable is: the sample names what a closure captured by the function around it."""
    return [function, function + ".func1"]


def check(target, truth, optimised):
    """Every variable shown is the one printed; without optimisation every one is shown."""
    frames = ask(target, "locals", "--goroutine", MAIN)["frames"]
    shown = 0
    for said in truth:
        function, _, expression = said["name"].partition(":")
        name = expression.strip("*").split(".")[0]
        found = next(filter(None, (variable(frames, f, name) for f in of_closure(function))), None)
        if found is None or found[1]["lost"]:
            assert optimised, said["name"]
            continue
        shown += 1
        frame, value = found
        if name == expression:
            assert entries(value["value"]) == entries(said["entries"]), said["name"]
        printed = ask(target, "print", expression, "--limit", 0, "--goroutine", MAIN, "--frame", frame)
        assert not [d for d in differences(said, printed) if not d.startswith("address")], said["name"]
    assert shown >= 5
    numbers = {f["frame"]: v["value"] for f in frames for v in f["variables"] if f["func"] == "main.inner" and v["name"] == "level"}
    levels = [numbers[frame] for frame in sorted(numbers)]
    assert levels == [0, 1, 2] or optimised and all(level in (0, 1, 2, None) for level in levels)


@pytest.mark.parametrize("variant", ["default", "noopt"])
@pytest.mark.parametrize("version", VERSIONS if not EVERYTHING else build.toolchains.VERSIONS)
def test_locals_of_a_core(version, variant):
    dump = build.dump("locals", version, variant)
    check(("--core", dump.exe, dump.core), build.read_truth(dump.truth), variant == "default")


@pytest.mark.parametrize("variant", ["default", "noopt"])
def test_locals_of_a_process(variant):
    with build.live(build.build("locals", "1.27.3", variant)) as live:
        check(("--pid", live.pid), live.truth, variant == "default")


def test_locals_of_a_position_independent_program():
    dump = build.dump("locals", "1.27.3", "noopt-pie")
    check(("--core", dump.exe, dump.core), build.read_truth(dump.truth), False)


def test_keys_from_variables():
    dump = build.dump("locals", "1.27.3", "noopt")
    found = ask(("--core", dump.exe, dump.core), "get", "argument", "--expr", "key", "--goroutine", MAIN, "--frame", 2)
    assert (found["found"], found["key"], found["elem"]) == (True, "captured", "by a closure")


def test_gdb_keeps_the_selected_goroutine():
    dump = build.dump("locals", "1.27.3", "noopt")
    said = gdb(dump.exe, dump.core, commands=[
        f"gomap goroutine {MAIN} --json", "gomap print onStack --json", "gomap get argument --expr key --frame 2 --json",
        "gomap locals --frame 2 --json", "gomap goroutine"])
    _, printed, got, frame = documents(said.stdout)
    assert printed["map"]["type"] == "map[int]int" and len(printed["entries"]) == 3
    assert got["elem"] == "by a closure"
    assert [f["func"] for f in frame["frames"]] == ["main.inner"]
    assert f"goroutine {MAIN} [" in said.stdout


@pytest.mark.skipif(LLDB is None, reason="lldb is not installed (apt-get install lldb-14 python3-lldb-14)")
def test_lldb_knows_variables():
    dump = build.dump("locals", "1.27.3", "noopt")
    said = lldb(dump.exe, "-c", dump.core, commands=[f"gomap goroutine {MAIN}", "gomap print onStack --json"])
    assert [document["map"]["type"] for document in documents(said.stdout)] == ["map[int]int"]


def test_what_lies_in_a_register_of_a_parked_goroutine_is_lost():
    dump = build.dump("leaks", "1.27.3", args=("trailing-space",))
    wait = next(w for w in build.read_truth(dump.truth)[0]["waits"] if w["kind"] == "nil_chan")
    frames = ask(("--core", dump.exe, dump.core), "locals", "--goroutine", wait["goid"])["frames"]
    park = next(f for f in frames if f["func"] == "runtime.gopark")
    assert all((v["lost"] is None) == (v["value"] is not None or v["address"] is not None) for v in park["variables"])
    channels = [v for f in frames for v in f["variables"] if v["type"].startswith("chan ") and v["lost"] is None]
    assert all(v["value"] is None for v in channels), "the channel that it got is nil"


@pytest.mark.parametrize("version", ["1.21.13", "1.27.3"])
def test_a_running_goroutine_has_its_registers(version):
    dump = build.dump("spinning", version, kind="gcore")
    target = ("--core", dump.exe, dump.core)
    [running] = ask(target, "goroutines", "--func", "^main.spin$")["goroutines"]
    assert running["status"] == "running"
    frames = ask(target, "locals", "--goroutine", running["goid"])["frames"]
    here = {v["name"]: v for v in frames[0]["variables"]}
    assert (here["step"]["value"], here["rounds"]["value"]) == (7, 1 << 60)
    assert here["round"]["address"] is None, "it is in a register"
    told = int(re.search(r"\$1 = (\d+)", gdb(dump.exe, dump.core, commands=["print 'main.Sum'"]).stdout)[1])
    # At some instructions the compiler says of none where it is; and the two steps of a round may be apart.
    said = here["round"]["value"]
    assert here["round"]["lost"] == "optimised out here" if said is None else abs(told - 7 * said) <= 7
    # Of its caller, nothing but the stack is known.
    assert all(v["address"] or v["lost"] for frame in frames[1:] for v in frame["variables"])


def test_mistakes_are_told():
    dump = build.dump("locals", "1.27.3")
    target = ("--core", dump.exe, dump.core)
    for words, told in [
        (("locals",), "which goroutine"),
        (("locals", "--goroutine", 999999), "no goroutine 999999"),
        (("locals", "--goroutine", MAIN, "--frame", 99), "frames 0 to "),
        (("print", "nowhere", "--goroutine", MAIN), "nowhere"),
        (("print", "key", "--goroutine", MAIN, "--frame", 2), "key is optimised out here"),
    ]:
        done = cli(*target, *words)
        assert done.returncode == 2 and told in done.stderr, (words, done.stderr)
    stripped = build.dump("leaks", "1.27.3", "stripped", args=("nan-key",))
    done = cli("--core", stripped.exe, stripped.core, "locals", "--goroutine", MAIN)
    assert done.returncode == 2 and "no DWARF" in done.stderr


def test_every_verb_with_a_map_takes_variables(tmp_path):
    dump = build.dump("locals", "1.27.3", "noopt")
    target, frame = ("--core", dump.exe, dump.core), ("--goroutine", MAIN, "--frame", 2)
    before = tmp_path / "before.jsonl"
    for words in [("stats", "argument"), ("buckets", "argument"), ("check", "argument"), ("why", "argument", '"x"'),
                  ("export", "argument", tmp_path / "all.json"), ("snapshot", "argument", before)]:
        ask(target, *words, *frame)
    assert ask(target, "diff", before, "argument", *frame)["counts"]["kept"] == 1
