"""`gomap list` and `check --all`: every map that the program knows of is reached, under its own type and count."""

import json
import os
import re
from collections import Counter

import build
import pytest
from conftest import EVERYTHING, cli, documents, gdb
from oracle import type_name

VERSIONS = ("1.19", "1.23.9", "1.24.11", "1.27.3")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sample", ("maps", "generated@1"))
def test_every_map_of_the_program_is_reached(sample, version):
    dump = build.dump(sample, version)
    answer = cli("--core", dump.exe, dump.core, "list", "--json")
    [document] = documents(answer.stdout)
    found = {(m["address"], type_name(m["type"])): m for m in document["maps"]}
    truth = [t for t in build.read_truth(dump.truth) if t["layout"] != "sync" and t["address"] != "0x0"]
    missing = [t["name"] for t in truth if (t["address"], type_name(t["type"])) not in found]
    assert not missing
    assert all(found[t["address"], type_name(t["type"])]["count"] == t["len"] for t in truth)
    assert all(m["count"] == 0 or m["bytes"] > 0 for m in document["maps"])
    # Maps within maps have paths that lead to them.
    if sample == "maps":
        assert any(m["path"].startswith('main.M90["') for m in document["maps"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("variant", ("default", "stripped"))
def test_all_maps_are_sound_and_every_key_is_where_its_hash_says(version, variant):
    """Without DWARF no package variable is known, so the maps are named by address and type."""
    dump = build.dump("generated@2", version, variant)
    if variant == "default":
        answer = cli("--core", dump.exe, dump.core, "check", "--all", "--json")
        reports = documents(answer.stdout)[0]["maps"]
        assert answer.returncode == 0 and len(reports) >= 200
    else:
        truth = [t for t in build.read_truth(dump.truth) if t["address"] != "0x0"][::10]
        answers = [cli("--core", dump.exe, dump.core, "check", t["address"], "--type", t["type"], "--json") for t in truth]
        assert [a.returncode for a in answers] == [0] * len(truth), [a.stderr for a in answers if a.returncode]
        reports = [documents(a.stdout)[0]["maps"][0] for a in answers]
        assert [r["map"]["count"] for r in reports] == [t["len"] for t in truth]
    assert not [r for r in reports if "unchecked" in r or any(f["severity"] != "info" for f in r["findings"])]
    assert sum(r["keys_checked"] for r in reports) > 100


#: Each version with and without DWARF; `strip -s` and PIE on one of each layout, unless everything is asked for.
PLACES = [(version, variant) for version in ("1.19", "1.21.13", "1.23.9", "1.24.11", "1.26.6", "1.27.3")
          for variant in ("default", "stripped", "strip-s", "pie", "stripped-pie")
          if EVERYTHING or variant in ("default", "stripped") or version in ("1.23.9", "1.27.3")]


def everywhere(version, variant):
    """The maps listed, by address, and the truth."""
    dump = build.dump("everywhere", version, variant)
    answer = cli("--core", dump.exe, dump.core, "list", "--json")
    assert answer.returncode == 0, answer.stderr
    return {m["address"]: m for m in documents(answer.stdout)[0]["maps"]}, build.read_truth(dump.truth)


def types_of(listed):
    """Every type that a map is listed under."""
    return {type_name(name) for name in (listed["type"], *listed.get("or", ()))}


@pytest.mark.parametrize("version,variant", PLACES)
def test_maps_in_all_places_are_found_and_true(version, variant):
    """Structs, slices, arrays, lists, interfaces, channels, closures, maps, stacks, sync.Map, finalizers, cleanups, generics,
    atomic and unsafe pointers, uintptrs, timers, deferred calls, a waiting select, both halves of a sync.Pool."""
    found, truth = everywhere(version, variant)
    has_dwarf = variant in ("default", "pie")
    hits = [(t, found[t["address"]]) for t in truth if t["address"] in found]
    counted = [t["type"] for t, m in hits if not has_dwarf or m["found"] == "reached"]
    limit = 0.99 if has_dwarf else 0.95
    assert len(truth) > 7000 and len(counted) >= limit * len(truth)
    # And so in each of the places, which have types of their own.
    made, counts = Counter(t["type"] for t in truth), Counter(counted)
    assert not {place: (counts[place], n) for place, n in made.items() if counts[place] < int(limit * n)}
    # Maps whose bytes fit several types are listed with all of them, the true one among them.
    assert not [(t, m) for t, m in hits if m["count"] != t["len"] or type_name(t["type"]) not in types_of(m)]
    # Of the types that only this program has, nothing is listed that it does not have.
    own, known = {type_name(t["type"]) for t in truth if "main." in t["type"]}, {t["address"] for t in truth}
    assert not [m for m in found.values() if types_of(m) <= own and m["address"] not in known]


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_an_address_needs_no_type_where_memory_tells_it(version):
    dump = build.dump("everywhere", version, "stripped")
    # Memory tells most in the buckets of a large map.
    truth = max((t for t in build.read_truth(dump.truth) if t["type"] == "map[uint32][]uint8"), key=lambda t: t["len"])
    answer = cli("--core", dump.exe, dump.core, "print", truth["address"], "--json", "--limit", "0")
    [document] = documents(answer.stdout)
    assert (type_name(document["map"]["type"]), document["shown"]) == (truth["type"], truth["len"])


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
@pytest.mark.parametrize("variant", ("default", "stripped"))
def test_a_key_or_elem_is_looked_for_in_all_maps(version, variant):
    dump = build.dump("everywhere", version, variant)
    truth = {t["address"]: t for t in build.read_truth(dump.truth)}

    def listed(pattern):
        answer = cli("--core", dump.exe, dump.core, "list", "--where", pattern, "--json")
        assert answer.returncode == 0, answer.stderr
        return documents(answer.stdout)[0]["maps"]

    # Of a map with string keys `key 0` is in every one with entries but the named ones; nested has one each.
    hits = listed('key=="key 7"')
    known = [m for m in hits if m["address"] in truth]
    assert known and all(m["matches"] == 1 and m["entries"][0]["key"] == "key 7" for m in hits)
    named = {"map[string]*main.inSlice", "map[string]float64", "map[string]uint16", "map[string]struct {}"}
    wanted = {a for a, t in truth.items() if t["type"] in named and t["len"] > 7}
    assert wanted and wanted <= {m["address"] for m in hits}
    # By elem: only those of strings have this one.
    hits = listed('elem=="number"')
    assert {m["address"] for m in hits} == {a for a, t in truth.items() if t["type"] == "map[int8]string"}
    assert all(m["matches"] == m["count"] for m in hits)
    assert listed('elem=="no such elem"') == []
    refused = cli("--core", dump.exe, dump.core, "list", "--where", "key ==")
    assert refused.returncode == 2 and "of the pattern: expected" in refused.stderr


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_why_asks_all_maps(version):
    dump = build.dump("everywhere", version)
    answer = cli("--core", dump.exe, dump.core, "why", "--all", '"key 7 "', "--json", "--limit", "0")
    [document] = documents(answer.stdout)
    truth = {t["address"]: t for t in build.read_truth(dump.truth)}
    near = {m["map"]["address"]: m["near"] for m in document["maps"]}
    wanted = {a for a, t in truth.items() if t["type"] in ("map[string]float64", "map[string]struct {}") and t["len"] > 7}
    assert wanted and wanted <= set(near)
    assert all(near[a][0]["key"] == "key 7" and near[a][0]["relation"] == "whitespace" for a in wanted)
    there = documents(cli("--core", dump.exe, dump.core, "why", "--all", '"key 7"', "--json", "--limit", "0").stdout)[0]
    assert wanted <= {m["map"]["address"] for m in there["maps"] if m["verdict"] == "present"}
    assert there["maps"][0]["verdict"] == "present"
    none = cli("--core", dump.exe, dump.core, "why", "--all", "main.NoType{1}")
    assert none.returncode == 2 and "none of the" in none.stderr


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_the_summary_names_what_wastes_memory(version):
    dump = build.dump("maps", version)
    [document] = documents(cli("--core", dump.exe, dump.core, "list", "--json").stdout)
    truth = {t["address"]: t for t in build.read_truth(dump.truth)}
    wasteful = document["summary"]["wasteful"]
    assert 0 < len(wasteful) <= 10
    sizes = [w["wasted"] for w in wasteful]
    assert sizes == sorted(sizes, reverse=True)
    listed = {m["address"]: m for m in document["maps"]}
    for waste in wasteful:
        m = listed[waste["address"]]
        reasons = m["load"] < 0.2, m.get("tombstones", 0) > 0.2 * m["count"] / max(m["load"], 1e-9)
        assert any(reasons) and waste["wasted"] <= m["bytes"], (waste, m)
    # A map that grew and was emptied: the program says it has no entries now.
    emptied = [w for w in wasteful if "emptied" in w["why"] and w["address"] in truth]
    assert all(truth[w["address"]]["len"] == 0 for w in emptied)
    by_waste = documents(cli("--core", dump.exe, dump.core, "list", "--sort", "waste", "--json").stdout)[0]["maps"]
    empty = [int(m["bytes"] * (1 - m.get("load", 1))) for m in by_waste]
    assert all(a >= b - 1 for a, b in zip(empty, empty[1:])) and empty[0] >= sizes[0]
    by_count = documents(cli("--core", dump.exe, dump.core, "list", "--sort", "count", "--json").stdout)[0]["maps"]
    assert [m["count"] for m in by_count] == sorted((m["count"] for m in by_count), reverse=True)


@pytest.mark.parametrize("words", ("list --where elem=~/nothing/", "check --all", 'why --all "attribute 7 "'))
@pytest.mark.parametrize("variant", ("default", "stripped"))
def test_ctrl_c_ends_a_long_search(variant, words, tmp_path):
    """All maps and their entries by all threads; only gdb's own thread hears of Ctrl-C. How soon is the benchmark's matter."""
    dump = build.dump("heap", "1.27.3", variant, args=("100000", "1000000"))
    [truth] = build.read_truth(dump.truth)
    words = words.replace('"', '\\"')
    script = tmp_path / "script.py"
    script.write_text(
        "import gdb, os, signal, threading\n"
        "gdb.execute('gomap list --limit 1', to_string=True)\n"
        # It comes again should it ever come between two commands.
        "ended = threading.Event()\n"
        "def interrupt():\n"
        "    while not ended.wait(0.3):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "try:\n"
        "    threading.Thread(target=interrupt).start()\n"
        "    while True:\n"
        f"        gdb.execute(\"gomap {words} -o /dev/null\")\n"
        "except (gdb.error, KeyboardInterrupt) as error:\n"
        "    ended.set()\n"
        "    print('STOPPED', type(error).__name__, error)\n"
        "print('LISTED', gdb.execute('gomap list --json --limit 1', to_string=True))\n"
    )
    answer = gdb(dump.exe, dump.core, "-x", script)
    stopped = [line for line in answer.stdout.splitlines() if line.startswith("STOPPED")]
    assert stopped, answer.stdout + answer.stderr
    [listed] = [line for line in answer.stdout.splitlines() if line.startswith("LISTED")]
    summary = documents(listed.removeprefix("LISTED ") + "\n")[0]["summary"]
    # The runtime has some maps of its own.
    assert truth["maps"] <= summary["maps"] < truth["maps"] + 100 and summary["entries"] >= truth["entries"]


def test_long_searches_show_how_far_they_are():
    dump = build.dump("heap", "1.27.3", "stripped", args=("100000", "1000000"))
    terminal, end = os.openpty()
    answer = cli("--core", dump.exe, dump.core, "check", "--all", stderr=end)
    os.close(end)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    steps = [(int(done), int(total)) for done, total in re.findall(r"\r(\d+) of (\d+)", shown)]
    assert answer.returncode == 0 and steps and all(0 < done <= total for done, total in steps), shown


@pytest.mark.parametrize("version", ("1.21.13", "1.23.9", "1.24.11", "1.27.3"))
def test_a_variable_without_a_name_has_its_own_address(version):
    dump = build.dump("twins", version, "stripped")
    variables = next(one["variables"] for one in build.read_truth(dump.truth) if "variables" in one)
    maps = json.loads(cli("--core", dump.exe, dump.core, "list", "--limit", "0", "--json").stdout)["maps"]
    found = {one["path"].split("→")[0]: one for one in maps}
    of_types = {"main.first": "main.whole", "main.second": "main.text", "main.third": "main.fraction"}
    for name, address in variables.items():
        one = found["variable at " + address]
        assert "map[string]" + of_types[name] in [one["type"], *one.get("or", [])], one
        assert one["sure"] in ("inferred", "guessed") and (one["sure"] == "guessed") == ("or" in one)
    # Bits of a number with a fraction are no usual integer, and a bool leaves the rest of its slot empty.
    assert found["variable at " + variables["main.third"]]["type"] == "map[string]main.fraction"
    assert not any("go.shape" in one["type"] for one in maps)


def test_a_map_that_types_lead_to_is_proven_to_be_one():
    dump = build.dump("twins", "1.27.3")
    maps = json.loads(cli("--core", dump.exe, dump.core, "list", "--limit", "0", "--json").stdout)["maps"]
    assert {one["sure"] for one in maps if one["path"].startswith("main.")} == {"proven"}
