"""The samples themselves: the same seed gives the same program, the states are those that the notes
promise, the record of a sync.Map agrees with Range, and the counts of ops add up."""

import json
import re
import signal
import subprocess

import build
import generate
import pytest
import toolchains
import unpack
from conftest import EVERYTHING, FULL

VERSIONS = toolchains.VERSIONS if EVERYTHING else FULL


def run(sample, version, *words):
    exe = build.build(sample, version)
    return subprocess.run([exe, *words], capture_output=True, text=True, timeout=120)


def truth_of(sample, version):
    result = run(sample, version, "exit")
    assert result.returncode == 0, result.stderr[:1000]
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def test_the_same_seed_gives_the_same_program():
    assert generate.program(5, 30) == generate.program(5, 30)
    assert generate.program(5, 30) != generate.program(6, 30)
    assert len(re.findall(r"^\tG\d+ map\[", generate.program(5, 30), re.MULTILINE)) == 30


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sample", ["maps", "generated@1", "syncmap", "demo", "locals"])
def test_every_listed_map_has_as_many_entries_as_its_length(sample, version):
    truth = truth_of(sample, version)
    assert len(truth) > 5
    assert [t["name"] for t in truth if "entries" in t and len(t["entries"]) != t["len"]] == []
    assert len({t["name"] for t in truth}) == len(truth)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_maps_are_in_the_states_that_their_notes_promise(version):
    truth = {t["note"]: t["header"] for t in truth_of("maps", version)}
    growing = [note for note in truth if note.startswith(("mid-growth", "same-size"))]
    assert len(growing) == 5
    if int(version.split(".")[1]) < 24:
        assert all(int(truth[note]["oldbuckets"], 16) for note in growing)
        assert 1 < truth["mid-growth, partly evacuated"]["nevacuate"] < 1 << (truth["mid-growth, partly evacuated"]["B"] - 1)
        assert truth["same-size growth"]["flags"] & 8
        crowded = truth["many overflow buckets"]
        assert crowded["noverflow"] * 8 >= 7 << crowded["B"]
    else:
        assert truth["8 entries: one full bucket or group"]["dirLen"] == 0
        assert truth["one table"]["tables"] == 1
        shared = truth["many tables, some shared in the directory"]
        assert shared["shared"] and shared["tables"] < shared["dirLen"]
        assert truth["after deletes: emptyOne or tombstones"]["tombstones"] > 0
        assert truth["grown, then emptied"]["used"] == 0 < truth["grown, then emptied"]["tables"]
    assert truth["nil"] is None


@pytest.mark.parametrize("version", VERSIONS)
def test_the_record_of_each_sync_map_agrees_with_range(version):
    result = run("syncmap", version, "verify")
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("by_signal", [True, False], ids=["signal", "line"])
def test_ops_counts_what_it_was_told_to_do(version, by_signal):
    with build.live(build.build("ops", version), [2000, 4], stdin=subprocess.PIPE) as sample:
        if by_signal:
            sample.process.send_signal(signal.SIGUSR1)
        else:
            sample.process.stdin.write("\n")
            sample.process.stdin.flush()
        counts = json.loads(sample.process.stdout.readline())["counts"]
        assert sample.process.stdout.read() == "DONE\n"
        assert sample.process.wait() == 0
    assert sum(count["n"] for count in counts) == 2000
    assert len({count["goroutine"] for count in counts}) == 4
    assert {count["map"] for count in counts} <= {t["name"] for t in sample.truth}


@pytest.mark.parametrize("name", [name for name in unpack.SAMPLES if not name.startswith("arm64")])
def test_committed_samples_unpack_whole(name):
    dump = unpack.unpack(name)
    assert dump.core.read_bytes()[:4] == dump.exe.read_bytes()[:4] == b"\x7fELF"
    truth = {t["name"]: t for t in build.read_truth(dump.truth)}
    assert truth["main.M0"]["entries"] and truth["main.live"]["layout"] == "sync"
    assert any(entry["key"].endswith(" ") for entry in truth["main.replies"]["entries"])


@pytest.mark.parametrize("ask,words", [
    (lambda: build.build("nothing"), "there is no sample"),
    (lambda: build.build("maps", "1.23.9", "mapsplitgroup"), "cannot be built by Go 1.23.9"),
    (lambda: build.build("maps", "1.23.8"), "is not pinned|cannot be built"),
    (lambda: build.build("generated@x"), "is not generated@SEED"),
    (lambda: build.dump("maps", kind="disk"), "there is no kind of core"),
])
def test_what_cannot_be_made_is_said(ask, words):
    with pytest.raises((build.SampleError, toolchains.ToolchainError), match=words):
        ask()
