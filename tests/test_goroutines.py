"""Goroutines against what each program printed of itself and against the runtime's own tracebacks."""

import json
import re
import subprocess

import build
import pytest
from conftest import cli

VERSIONS = ("1.19", "1.21.13", "1.23.9", "1.24.11", "1.26.6", "1.27.3")
VARIANTS = ("default", "stripped")
CASES = ("trailing-space", "unicode-form", "dynamic-type", "pointer-key", "nan-key", "struct-key", "explicit-zero",
         "typed-key", "keyed-mutex")
#: Where memory proves the mistake; of a zero that was meant, and of a lock left behind, it only shows that nobody comes.
SUSPECTS = ("explicit-zero", "keyed-mutex")


def ask(dump, *words, status=(0,)):
    """The JSON answer to a verb on a dump."""
    done = cli("--core", dump.exe, dump.core, *words, "--json")
    assert done.returncode in status, done.stderr
    return json.loads(done.stdout)


def traceback(text):
    """goid -> (state, [(function, file, line)], created by) of a traceback with GOTRACEBACK=crash."""
    goroutines, current, frame = {}, None, None
    for line in text.split("\n"):
        head = re.match(r"goroutine (\d+)(?: gp=\S+ m=\S+(?: mp=\S+)?)? \[([^\],]*)", line)
        if head:
            # One in a system call is printed again by its thread.
            current = (head[2], [], [])
            goroutines.setdefault(int(head[1]), current)
        elif not line or line.startswith("[originating from "):
            current = None
        elif current is not None and line.startswith("created by "):
            current[2].append(line[11:].split(" in goroutine ")[0])
            frame = None
        elif current is not None and not line.startswith("\t"):
            name = line.rpartition("(")[0]
            frame = "runtime.gopanic" if name == "panic" else name
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


def equal(goroutine, printed):
    """Whether a goroutine's state and frames are those printed."""
    state, frames, created = printed
    ours = [(f["func"], f["file"], f["line"]) for f in goroutine["stack"]]
    creator = [goroutine["created_at"]["func"]] if goroutine["created_at"] else []
    said = goroutine["reason"] or goroutine["status"]
    return alike(ours, frames) and said == state and creator == created and goroutine["torn"] == []


def alike(ours, printed):
    """Whether these are the frames printed: of a deep stack 50 at each end, or 100 before Go 1.21."""
    cut = len(printed) == 100 and len(ours) > 100
    return ours == printed or cut and printed in (ours[:50] + ours[-50:], ours[:100])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sample", ("crowd", "healthy"))
def test_a_whole_programs_stacks_are_the_runtimes_own(sample, version, variant):
    """An HTTP server with its clients, 1200 goroutines; one with every kind of sound wait."""
    dump = build.dump(sample, version, variant)
    printed = traceback((dump.core.parent / "traceback.txt").read_text())
    answer = ask(dump, "goroutines")
    goroutines = [g for g in answer["goroutines"] if g["status"] == "waiting"]
    assert len(goroutines) > (1000 if sample == "crowd" else 400) and answer["notes"] == []
    assert [g["goid"] for g in goroutines if not equal(g, printed[g["goid"]])] == []
    others = [g for g in answer["goroutines"] if g["status"] == "syscall" and not g["thread"]]
    assert all(equal({**g, "reason": "syscall"}, printed[g["goid"]]) for g in others)


@pytest.mark.parametrize("version,variant", [("1.21.13", "stripped"), ("1.23.9", "default"), ("1.24.11", "stripped"),
                                             ("1.26.6", "default"), ("1.27.3", "default"), ("1.27.3", "stripped")])
def test_a_live_programs_stacks_are_those_that_it_printed(version, variant):
    with build.live(build.build("crowd", version, variant)) as sample:
        answer = live(sample, "goroutines")
        printed = traceback(sample.truth[0]["stacks"])
    goroutines = {g["goid"]: g for g in answer["goroutines"]}
    # The main goroutine has gone on since.
    waiting = [goid for goid, (state, _, _) in printed.items() if goid > 1 and goroutines[goid]["status"] == "waiting"]
    assert len(waiting) > 1000
    wrong = [goid for goid in waiting if goroutines[goid]["torn"] or not told(goroutines[goid], printed[goid], version)]
    assert wrong == []


def told(goroutine, printed, version):
    """Whether these are a goroutine's frames but for those that runtime.Stack hides: the runtime's and wrappers."""
    state, frames, _ = printed
    hidden = r"runtime\.(?!gopanic$)[^A-Z]|internal/runtime/|.*\.(gowrap|deferwrap)\d+$|[^.]*$"
    ours = [(f["func"], f["file"], f["line"]) for f in goroutine["stack"]]
    if version.startswith("1.21.") and len(ours) > 1 and ours[-1][0] == "runtime.goexit" and ours[-2] != frames[-1]:
        del ours[-2]  # the wrapper of a go statement has a plain name there
    kept = [f for f in ours if f[1] != "<autogenerated>" and not re.match(hidden, f[0])]
    return alike(kept, frames) and goroutine["reason"] == state


def live(sample, *words):
    """The JSON answer to a verb on a running sample."""
    done = cli("--pid", sample.pid, *words, "--json")
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("variant", ("stripped-pie", "pie"))
@pytest.mark.parametrize("version", ("1.21.13", "1.26.6", "1.27.3"))
def test_position_independent_programs_too(version, variant):
    dump = build.dump("leaks", version, variant, args=("keyed-mutex",))
    printed = traceback((dump.core.parent / "traceback.txt").read_text())
    goroutines = [g for g in ask(dump, "goroutines")["goroutines"] if g["status"] == "waiting"]
    assert len(goroutines) > 8 and all(equal(g, printed[g["goid"]]) for g in goroutines)
    assert {g["blocked_on"]["kind"] for g in goroutines if g["blocked_on"]} >= {"mutex"}


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_a_binary_stripped_after_the_link(version, tmp_path):
    dump = build.dump("leaks", version, args=("typed-key",))
    exe = tmp_path / "leaks"
    subprocess.run(["strip", "-s", "-o", exe, dump.exe], check=True)
    bare = ask(build.Dump(exe, dump.core, dump.truth), "goroutines")
    assert bare == ask(dump, "goroutines")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", VERSIONS)
def test_healthy_programs_are_not_flagged(version, variant):
    dump = build.dump("healthy", version, variant)
    kinds = build.read_truth(dump.truth)[0]["kinds"]
    answer = ask(dump, "leaks")
    clusters = {goid: c for c in answer["clusters"] for goid in c["goids"]}
    flagged = {kind for kind, goids in kinds.items() for goid in goids if clusters[goid]["class"] != "waiting"}
    assert len(kinds) >= 26 and not flagged
    assert {c["class"] for c in answer["clusters"]} == {"waiting"}
    idle = {kind: clusters[goids[0]]["idle"] for kind, goids in kinds.items()}
    assert idle["sleep"] == "waits for a timer" and idle["signal"] == "waits for signals"
    assert idle["server"] == idle["reader"] == "waits for the network or a file"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_stacks_are_the_runtimes_own(version, case, variant):
    dump = build.dump("leaks", version, variant, args=(case,))
    printed = traceback((dump.core.parent / "traceback.txt").read_text())
    parked = 0
    for goroutine in ask(dump, "goroutines")["goroutines"]:
        if goroutine["status"] != "waiting":
            continue
        assert equal(goroutine, printed[goroutine["goid"]])
        parked += 1
    assert parked >= 8


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_leaks_name_the_stored_key(version, case, variant):
    dump = build.dump("leaks", version, variant, args=(case,))
    truth = build.read_truth(dump.truth)[0]["waits"]
    answer = ask(dump, "leaks", status=(0, 1))
    assert answer["schema"] == "gomap.evidence/1"
    goroutines = {g["goid"]: g for g in answer["goroutines"]}
    clusters = {c["id"]: c for c in answer["clusters"]}
    for wait in truth:
        found = goroutines[wait["goid"]]
        held = [(h["map"], bare(h["key"])) for h in found["blocked_on"]["held_by"]]
        if variant == "stripped":  # variables have no names there
            held = [("", key) for _, key in held]
            assert held == ([("", wait["key"])] if "map" in wait else [])
        else:
            assert held == ([(wait["map"], wait["key"])] if "map" in wait else [])
        cluster = clusters[found["cluster"]]
        assert min(100, max(0, sum(term["points"] for term in cluster["terms"]))) == cluster["score"]
        assert cluster["class"] == ("leak_suspect" if case in SUSPECTS else "likely_key_mismatch"), cluster["terms"]
        if wait["kind"] == "nil_chan":
            assert cluster["sites"][0]["call"].startswith("runtime.mapaccess")
    because = {term["id"]: term["because"] for c in answer["clusters"] for term in c["terms"]}
    if case in CLUES:
        term, said = CLUES[case]
        assert said in because[term]


#: What proves each of those that wait on no nil channel, and what must be said of it.
CLUES = {
    "trailing-space": ("missed_by_another", "(whitespace) and is stuck itself"),
    "pointer-key": ("only_waiters", "no variable, no other goroutine and no object leads"),
    "nan-key": ("odd_key", "no lookup finds"),
    "explicit-zero": ("zero_awaited", '["bob"]'),
    "typed-key": ("other_key_type", "of type string; the key stored is a main.userID"),
    "keyed-mutex": ("twin_key", '"42_default" beside "42_"'),
}


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


def test_filters_and_groups():
    dump = build.dump("leaks", "1.27.3", args=("trailing-space",))
    waits = build.read_truth(dump.truth)[0]["waits"]
    on = next(w for w in waits if w["kind"] == "chan")
    [found] = ask(dump, "goroutines", "--on", on["on"])["goroutines"]
    assert found["goid"] == on["goid"]
    nil = {w["goid"] for w in waits if w["kind"] == "nil_chan"}
    assert {g["goid"] for g in ask(dump, "goroutines", "--state", "chan send (nil chan)")["goroutines"]} == nil
    assert {g["goid"] for g in ask(dump, "goroutines", "--func", r"registry.\.reply$")["goroutines"]} == nil
    assert ask(dump, "goroutines", "--label", "a=b")["goroutines"] == []
    groups = {frozenset(g["goids"]): g for g in ask(dump, "goroutines", "--group")["groups"]}
    assert groups[frozenset(nil)]["count"] == 8 and groups[frozenset(nil)]["state"] == "chan send (nil chan)"


def test_exit_status_by_class():
    dump = build.dump("leaks", "1.27.3", args=("nan-key",))
    worst = max(c["score"] for c in ask(dump, "leaks", status=(1,))["clusters"])
    status = lambda name: cli("--core", dump.exe, dump.core, "leaks", "--fail-on", name).returncode  # noqa: E731
    assert status("none") == 0 and status("waiting") == status("leak-suspect") == 1
    assert status("likely-key-mismatch") == (worst >= 70) == True  # noqa: E712
    suspect = build.dump("leaks", "1.27.3", args=("keyed-mutex",))
    status = lambda name: cli("--core", suspect.exe, suspect.core, "leaks", "--fail-on", name).returncode  # noqa: E731
    assert (status("leak-suspect"), status("likely-key-mismatch")) == (1, 0)
    bad = cli("--core", dump.exe, dump.core, "leaks", "--fail-on", "fire")
    assert bad.returncode == 2 and "--fail-on is likely-key-mismatch" in bad.stderr


@pytest.mark.parametrize("words", (["leaks"], ["explain"]))
def test_graphs_lead_from_the_wait_to_the_entry(words):
    dump = build.dump("leaks", "1.27.3", args=("trailing-space",))
    wait = next(w for w in build.read_truth(dump.truth)[0]["waits"] if w["kind"] == "chan")
    words = words + ([wait["goid"]] if words == ["explain"] else [])
    dot = cli("--core", dump.exe, dump.core, *words, "--graph", "dot").stdout
    node = lambda text: re.search(r"(n\d+) \[shape=\w+, label=\"[^\n]*" + re.escape(text), dot)[1]  # noqa: E731
    entry, channel = node(f'main.reg.m[\\"{wait["key"]}\\"]'), node("channel " + wait["on"])
    assert f'{channel} -> {entry} [label="is stored in"]' in dot
    assert re.search(rf'n\d+ -> {channel} \[label="waits on"\]', dot) and dot.endswith("}\n")
    mermaid = cli("--core", dump.exe, dump.core, *words, "--graph", "mermaid").stdout
    assert mermaid.startswith("flowchart LR\n") and mermaid.count("-->") == dot.count("->")
