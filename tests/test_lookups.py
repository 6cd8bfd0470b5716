"""The key that each stuck goroutine looked up, out of its frames, against what the program printed."""

import json

import build
import pytest
import unpack
from conftest import EVERYTHING, cli, gdb
from test_goroutines import CASES, SUSPECTS

VERSIONS = ("1.19", "1.21.13", "1.23.9", "1.24.11", "1.26.6", "1.27.3")

#: Go type of the map, its package path, the relation of the nearest stored key, by case.
FACTS = {
    "trailing-space": ("map[string]chan string", "main.reg.m", "whitespace"),
    "unicode-form": ("map[string]chan int", "main.subs", "unicode-form"),
    "dynamic-type": ("map[interface {}]chan struct {}", "main.done", "dynamic-type"),
    "pointer-key": ("map[*main.ident]chan int", "main.answers", "pointee"),
    "nan-key": ("map[float64]chan int", "main.byScore", "nan"),
    "struct-key": ("map[main.gateKey]chan int", "main.gates", "struct-field"),
    "explicit-zero": ("map[string]int", "main.limits.quota", None),
    "typed-key": ("sync.Map", "main.sessions", None),
    "keyed-mutex": ("map[string]*sync.Mutex", "main.locks.m", None),
}
#: The stored key that each of these should have met.
STORED = {"unicode-form": "caf\u00e9", "dynamic-type": {"$type": "int", "$value": 7}}
#: Cases whose goroutines wait behind a lookup of their own, so that its key must be known.
KNOWN = ("trailing-space", "unicode-form", "dynamic-type", "pointer-key", "struct-key", "explicit-zero")


def asked(value):
    """A key as the sample prints what was looked up."""
    if isinstance(value, dict) and "$elem" in value:
        return "{%(shard)d %(n)d}" % value["$elem"]
    if isinstance(value, dict) and "$type" in value:
        return "%s(%s)" % (value["$type"], value["$value"])
    if isinstance(value, dict) and "zone" in value:
        return value["name"] + "/" + value["zone"]["$elem"]
    return value


def check(case, waits, answer, has_names=True, optimised=True):
    goroutines = {g["goid"]: g for g in answer["goroutines"]}
    clusters = {c["id"]: c for c in answer["clusters"]}
    map_type, path, relation = FACTS[case]
    for wait in waits:
        found = goroutines[wait["goid"]]
        cluster = clusters[found["cluster"]]
        lookup = found["lookup"]
        site = cluster["sites"][0]
        if case == "trailing-space" and wait["kind"] == "chan":
            # Stored by a function that has returned, which the code follows; its key was only in registers.
            assert (site["link"], site["operation"]) == ("stored", "store")
            assert not has_names or site["map"] == {"expr": path}
            continue
        if case == "keyed-mutex":
            # The lookup was in a function that has returned; the stored key is known by what is waited on.
            assert site["link"] in ("flow", "either") and lookup["key"] is None and lookup["lost"]
        assert site["map_type"] == map_type or case == "typed-key" and not has_names
        if has_names:
            assert site["map"] == {"expr": path}
        if case in KNOWN:
            assert lookup["key"], (case, lookup)
            assert asked(lookup["key"]["value"]) == wait["asked"]
            assert lookup["found"] is (case == "explicit-zero")
            assert lookup["zero"] is (case == "explicit-zero")
        elif lookup and lookup["key"] is not None:
            assert lookup["key"]["text"] in ("NaN", 'main.userID("%s")' % wait.get("asked"))
        elif lookup:
            assert lookup["lost"] and optimised
        if relation and lookup["key"]:
            assert lookup["near"][0]["relation"] == relation
            points = {term["id"]: term["points"] for term in found["score"]["terms"]}
            assert points["near_miss"] == 25
        if case in STORED:
            assert lookup["near"][0]["key"] == STORED[case]
        if case == "trailing-space":
            assert lookup["near"][0]["key"] == wait["asked"] + " "
        if wait["kind"] == "nil_chan":
            assert (site["link"], cluster["class"]) == ("flow", "likely_key_mismatch")


def leaks(*target):
    done = cli(*target, "leaks", "--json")
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", CASES)
def test_lookups_of_a_core(version, case):
    dump = build.dump("leaks", version, args=(case,))
    check(case, build.read_truth(dump.truth)[0]["waits"], leaks("--core", dump.exe, dump.core))


@pytest.mark.parametrize("version", VERSIONS if EVERYTHING else ("1.21.13", "1.23.9", "1.27.3"))
@pytest.mark.parametrize("case", CASES)
def test_lookups_of_a_stripped_program(version, case):
    dump = build.dump("leaks", version, "stripped", args=(case,))
    check(case, build.read_truth(dump.truth)[0]["waits"], leaks("--core", dump.exe, dump.core), has_names=False)


@pytest.mark.parametrize("case", ("trailing-space", "explicit-zero", "typed-key"))
def test_lookups_of_an_unoptimised_program(case):
    dump = build.dump("leaks", "1.24.11", "noopt", args=(case,))
    check(case, build.read_truth(dump.truth)[0]["waits"], leaks("--core", dump.exe, dump.core), optimised=False)


#: Live programs are asked too: the oldest and the newest of these, else all.
LIVE = VERSIONS if EVERYTHING else ("1.21.13", "1.27.3")


def check_live(case, waits, answer, variant):
    check(case, waits, answer, has_names=variant == "default")
    classes = {goid: c["class"] for c in answer["clusters"] for goid in c["goids"]}
    wanted = "leak_suspect" if case in SUSPECTS else "likely_key_mismatch"
    assert {classes[wait["goid"]] for wait in waits} == {wanted}, answer["clusters"]
    held = {g["goid"]: g["blocked_on"]["held_by"] for g in answer["goroutines"] if g["blocked_on"]}
    assert all(wait["key"] in held[wait["goid"]][0]["key"] for wait in waits if "map" in wait)


@pytest.mark.parametrize("variant", ("default", "stripped"))
@pytest.mark.parametrize("version", LIVE)
@pytest.mark.parametrize("case", CASES)
def test_lookups_of_a_process(version, case, variant):
    with build.live(build.build("leaks", version, variant), args=(case,)) as live:
        answer = leaks("--pid", live.pid)
        # One goroutine in motion, whose stack cannot be walked, hides who else has what is waited on: that is said.
        if any("was not looked for" in limit["reason"] for limit in answer["limits"]):
            answer = leaks("--pid", live.pid)
        check_live(case, live.truth[0]["waits"], answer, variant)


@pytest.mark.parametrize("variant", ("default", "stripped"))
@pytest.mark.parametrize("version", LIVE)
@pytest.mark.parametrize("case", CASES if EVERYTHING else ("trailing-space", "pointer-key", "keyed-mutex"))
def test_lookups_of_a_process_that_gdb_has_stopped(version, case, variant):
    exe = build.build("leaks", version, variant)
    with build.live(exe, args=(case,)) as live:
        done = gdb(exe, "-p", live.pid, commands=("gomap leaks --json",))
        [answer] = [line for line in done.stdout.split("\n") if line.startswith('{"schema"')]
        check_live(case, live.truth[0]["waits"], json.loads(answer), variant)


def test_a_length_that_was_only_in_a_register_is_inferred():
    # Of the key only the data pointer was spilled (core-samples/demo: worker, waitReply).
    dump = unpack.unpack("swiss-1.27.3")
    goroutines = leaks("--core", dump.exe, dump.core)["goroutines"]
    waiting = [g for g in goroutines if g["lookup"] and g["lookup"]["map"]["type"] == "map[string]chan string"]
    keys = {g["lookup"]["key"]["value"]: g for g in waiting}
    assert sorted(keys) == ["customer-%d" % i for i in range(7)]
    for key, goroutine in keys.items():
        assert goroutine["lookup"]["key"]["length"] == "inferred"
        # One key was stored with a space behind it: its waiter got a nil channel, the others what was stored for them.
        assert goroutine["lookup"]["found"] is (key != "customer-3")
        held = [holder["key"] for holder in goroutine["blocked_on"]["held_by"]]
        assert held == ([] if key == "customer-3" else [json.dumps(key)])
    near = keys["customer-3"]["lookup"]["near"][0]
    assert (near["key"], near["relation"]) == ("customer-3 ", "whitespace")


def test_the_source_names_the_key():
    wanted = {"trailing-space": "id", "unicode-form": "topic", "dynamic-type": "k", "explicit-zero": "user",
              "typed-key": "userID(user)", "nan-key": "math.NaN()"}
    for case, key in wanted.items():
        dump = build.dump("leaks", "1.27.3", args=(case,))
        expressions = {s["key_expr"] for c in leaks("--core", dump.exe, dump.core)["clusters"] for s in c["sites"]}
        assert key in expressions, case


def test_explain_names_key_and_near_miss():
    dump = build.dump("leaks", "1.27.3", args=("trailing-space",))
    wait = next(w for w in build.read_truth(dump.truth)[0]["waits"] if w["kind"] == "nil_chan")
    said = cli("--core", dump.exe, dump.core, "explain", wait["goid"]).stdout
    assert f'Looked up "{wait["asked"]}", which is absent; stored is "{wait["asked"]} " (whitespace' in said
    assert "of main.reg.m (map[string]chan string) with key id" in said


#: Go versions whose layouts of spans differ.
SPANS = ("1.19", "1.21.13", "1.24.11", "1.27.3")


@pytest.mark.parametrize("variant", ("default", "stripped"))
@pytest.mark.parametrize("version", SPANS)
def test_memory_that_was_used_again_is_never_taken_for_the_key(version, variant):
    dump = build.dump("reused", version, variant)
    asked = {one["goid"]: one["key"] for one in build.read_truth(dump.truth)[0]["asked"]}
    answer = leaks("--core", dump.exe, dump.core)
    found = {g["goid"]: g for g in answer["goroutines"] if g["goid"] in asked}
    assert len(found) == len(asked)
    said = set()
    for goid, goroutine in found.items():
        lookup = goroutine["lookup"]
        if lookup["key"] is not None:
            assert lookup["key"]["value"] == asked[goid]
            continue
        assert not lookup["near"] and lookup["found"] is None
        assert "near_miss" not in [term["id"] for term in goroutine["score"]["terms"]]
        said.add("its memory may have been used again since" in lookup["lost"])
    # The keys died at the wait, and two collections saw that.
    assert said == {True}


@pytest.mark.parametrize("version", SPANS)
def test_a_key_that_is_needed_after_the_wait_is_vouched_for(version):
    dump = build.dump("reused", version, args=("kept",))
    asked = {one["goid"]: one["key"] for one in build.read_truth(dump.truth)[0]["asked"]}
    for goroutine in leaks("--core", dump.exe, dump.core)["goroutines"]:
        if goroutine["goid"] in asked:
            key = goroutine["lookup"]["key"]
            assert (key["value"], key["memory"]) == (asked[goroutine["goid"]], "proven")
