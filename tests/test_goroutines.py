"""Goroutines against what each program printed of itself and against the runtime's own tracebacks."""

import json
import re

import build
import pytest
from conftest import cli

VERSIONS = ("1.21.13", "1.23.9", "1.24.11", "1.26.6", "1.27.3")
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


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_waits_are_what_the_program_says(version, case):
    dump = build.dump("leaks", version, args=(case,))
    truth = build.read_truth(dump.truth)[0]["waits"]
    answer = {g["goid"]: g for g in ask(dump, "goroutines")["goroutines"]}
    assert len(truth) >= 8
    for wait in truth:
        found = answer[wait["goid"]]
        assert found["blocked_on"]["kind"] == wait["kind"]
        assert found["blocked_on"]["address"] == wait.get("on")
        if wait["reason"]:
            assert found["reason"] == wait["reason"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_stacks_are_the_runtimes_own(version, case):
    dump = build.dump("leaks", version, args=(case,))
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
