"""Goroutines against what each program printed of itself and against the runtime's own tracebacks."""

import json
import re

import build
import pytest
from conftest import cli

VERSIONS = ("1.19", "1.21.13", "1.23.9", "1.24.11", "1.26.6", "1.27.3")
VARIANTS = ("default", "stripped")
CASES = ("trailing-space", "unicode-form", "dynamic-type", "pointer-key", "nan-key", "struct-key", "explicit-zero",
         "typed-key", "keyed-mutex")


def ask(dump, *words, status=(0,)):
    """The JSON answer to a verb on a dump."""
    done = cli("--core", dump.exe, dump.core, *words, "--json")
    assert done.returncode in status, done.stderr
    return json.loads(done.stdout)


def traceback(path):
    """goid -> (state, [(function, file, line)], created by) of a traceback with GOTRACEBACK=crash."""
    goroutines, current, frame = {}, None, None
    for line in path.read_text().split("\n"):
        head = re.match(r"goroutine (\d+)(?: gp=\S+ m=\S+(?: mp=\S+)?)? \[([^\],]*)", line)
        if head:
            current = goroutines.setdefault(int(head[1]), (head[2], [], []))
        elif not line:
            current = None
        elif current is not None and line.startswith("created by "):
            current[2].append(line[11:].split(" in goroutine ")[0])
            frame = None
        elif current is not None and not line.startswith("\t"):
            frame = line.rpartition("(")[0]
        elif current is not None and frame is not None:
            place = re.match(r"\t(.*):(\d+)(?: |$)", line)
            current[1].append((frame, place[1], int(place[2])))
    return goroutines


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_waits_are_what_the_program_says(version, case, variant):
    dump = build.dump("leaks", version, variant, args=(case,))
    truth = build.read_truth(dump.truth)[0]["waits"]
    answer = {g["goid"]: g for g in ask(dump, "goroutines")["goroutines"]}
    assert len(truth) >= 8
    for wait in truth:
        found = answer[wait["goid"]]
        assert found["blocked_on"]["kind"] == wait["kind"]
        assert found["blocked_on"]["address"] == wait.get("on")
        if wait["reason"]:
            assert found["reason"] == wait["reason"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_stacks_are_the_runtimes_own(version, case, variant):
    dump = build.dump("leaks", version, variant, args=(case,))
    printed = traceback(dump.core.parent / "traceback.txt")
    parked = 0
    for goroutine in ask(dump, "goroutines")["goroutines"]:
        if goroutine["status"] != "waiting":
            continue
        state, frames, created = printed[goroutine["goid"]]
        assert goroutine["reason"] == state
        assert [(f["func"], f["file"], f["line"]) for f in goroutine["stack"]] == frames
        assert ([goroutine["created_at"]["func"]] if goroutine["created_at"] else []) == created
        assert goroutine["torn"] == []
        parked += 1
    assert parked >= 8


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_leaks_name_the_stored_key(version, case):
    dump = build.dump("leaks", version, args=(case,))
    truth = build.read_truth(dump.truth)[0]["waits"]
    answer = ask(dump, "leaks", status=(0, 1))
    assert answer["schema"] == "gomap.evidence/1"
    goroutines = {g["goid"]: g for g in answer["goroutines"]}
    clusters = {c["id"]: c for c in answer["clusters"]}
    for wait in truth:
        found = goroutines[wait["goid"]]
        held = [(h["map"], bare(h["key"])) for h in found["blocked_on"]["held_by"]]
        assert held == ([(wait["map"], wait["key"])] if "map" in wait else [])
        cluster = clusters[found["cluster"]]
        assert max(0, sum(term["points"] for term in cluster["terms"])) == cluster["score"]
        if wait["kind"] == "nil_chan":
            assert cluster["class"] != "waiting"
            assert cluster["sites"][0]["call"].startswith("runtime.mapaccess")


def bare(key):
    """A key in Go syntax without its type and quotes."""
    return re.fullmatch(r'(?:main\.userID\()?"?(.*?)"?\)?', key)[1]


@pytest.mark.parametrize("version", VERSIONS)
def test_who_waits_for_signals_is_set_aside(version):
    dump = build.dump("leaks", version, args=("nan-key",))
    main = next(c for c in ask(dump, "leaks", status=(0, 1))["clusters"] if c["goids"] == [1])
    assert (main["class"], main["idle"]) == ("waiting", "waits for signals")


def test_explain_tells_the_chain():
    dump = build.dump("leaks", "1.27.3", args=("trailing-space",))
    wait = next(w for w in build.read_truth(dump.truth)[0]["waits"] if w["kind"] == "chan")
    said = cli("--core", dump.exe, dump.core, "explain", wait["goid"]).stdout
    assert wait["on"] in said and f'main.reg.m["{wait["key"]}"]' in said and "white space" in said
    missing = cli("--core", dump.exe, dump.core, "explain", "999999")
    assert missing.returncode == 2 and "no goroutine 999999" in missing.stderr
