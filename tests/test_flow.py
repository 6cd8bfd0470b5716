"""How a map operation and the wait behind it hang together, against programs written so that it is known."""

import collections
import json

import build
import pytest
from conftest import EVERYTHING, cli

VERSIONS = ("1.19", "1.23.9", "1.24.11", "1.27.3")
BUILDS = [(version, variant) for version in VERSIONS for variant in ("default", "noopt")]
#: Links that say that what is waited on came out of a map, or went into one.
OBJECT = {"flow", "either", "stored"}
FOLLOWED = OBJECT | {"until"}


def leaks(dump):
    """goid -> cluster, of a core."""
    done = cli("--core", dump.exe, dump.core, "leaks", "--json")
    assert done.returncode in (0, 1), done.stderr
    return {goid: cluster for cluster in json.loads(done.stdout)["clusters"] for goid in cluster["goids"]}


def links(sample, version, variant):
    """name -> (links, class) of each goroutine that a sample parked."""
    dump = build.dump(sample, version, variant)
    clusters = leaks(dump)
    waits = build.read_truth(dump.truth)[0]["waits"]
    return {w["name"]: clusters[w["goid"]] for w in waits}


@pytest.mark.parametrize("version,variant", BUILDS)
def test_who_waits_for_something_else_does_not_wait_for_what_a_map_gave(version, variant):
    found = links("unrelated", version, variant)
    assert len(found) >= 40
    wrong = {name: c["sites"] for name, c in found.items() if any(s["link"] in OBJECT for s in c["sites"])}
    assert wrong == {}
    # A loop that a lookup ends waits for the map; what is only near the wait makes no suspect.
    loops = {name for name, c in found.items() if any(s["link"] == "until" for s in c["sites"])}
    assert loops == {"readThenCond", "boolThenGlobal"}
    assert {name for name, c in found.items() if c["class"] != "waiting"} <= loops
    for cluster in found.values():
        assert all(site["followed"] == (site["link"] in FOLLOWED) for site in cluster["sites"])
        said = json.dumps(cluster["terms"])
        assert " gave it" not in said, said


#: The operation of each site, where it is no lookup.
OPERATIONS = {"assignThenGlobal": "store", "deleteThenGlobal": "delete", "rangeThenGlobal": "iterate",
              "storeThenGlobal": "store", "loadThenGlobal": "lookup", "readThenGlobal": "lookup",
              "loadOrStoreThenParam": "lookup_or_store", "loadAndDeleteThenLock": "delete"}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_store_is_not_called_a_lookup(version):
    dump = build.dump("unrelated", version)
    found = links("unrelated", version, "default")
    assert {name: found[name]["sites"][0]["operation"] for name in OPERATIONS} == OPERATIONS
    goid = {w["name"]: w["goid"] for w in build.read_truth(dump.truth)[0]["waits"]}
    said = cli("--core", dump.exe, dump.core, "explain", goid["assignThenGlobal"]).stdout.lower()
    assert "looked up" not in said and "gave it" not in said and "whose result is waited on" not in said
    assert "no link to what it waits on" in said


#: What each way through the code of core-samples/flows must be told as, in an optimised build.
PROVEN = collections.ChainMap(
    dict.fromkeys(("direct", "send", "commaOk", "overCall", "parameter", "goStatement", "goClosure", "capture", "wrapper",
                   "wrapperCommaOk", "genericMap", "structField", "pointerField", "selectCase", "mutex", "mutexField",
                   "waitGroup", "readLock", "loop", "syncLoad", "syncLoadOrStore", "deferred", "missing",
                   "missingInWrapper"), "flow"),
    dict.fromkeys(("stored", "storedInSync", "storedInWrapper"), "stored"),
    {"getOrMake": "either", "guard": "until", "throughInterface": None})
#: Ways that the code of an unoptimised build does not prove: results that a deferred function might have changed, and
#: what ran while the function was ending.
NOT_PROVEN = {"genericMap", "deferred", "storedInWrapper"}


@pytest.mark.parametrize("version,variant", BUILDS)
def test_what_came_out_of_a_map_is_followed_where_the_code_proves_it(version, variant):
    found = links("flows", version, variant)
    assert len(found) == len(PROVEN)
    for name, wanted in PROVEN.items():
        sites = found[name]["sites"]
        link = sites[0]["link"] if sites and sites[0]["link"] in FOLLOWED else None
        if variant == "noopt" and name in NOT_PROVEN:
            assert link in (wanted, "either", None), (name, sites)
        else:
            assert link == wanted, (name, sites)


KIN = ("zero-struct", "zero-method", "zero-comma-ok", "lock-plain", "lock-interface", "lock-entry", "lock-struct", "lock-sync")


@pytest.mark.parametrize("version", build.toolchains.VERSIONS if EVERYTHING else VERSIONS)
@pytest.mark.parametrize("case", KIN)
def test_an_explicit_zero_and_a_keyed_lock_are_suspects_in_other_programs_too(case, version):
    dump = build.dump("kin", version, args=(case,))
    clusters = leaks(dump)
    waits = build.read_truth(dump.truth)[0]["waits"]
    assert len(waits) == 8
    assert {clusters[w["goid"]]["class"] for w in waits} == {"leak_suspect"}, clusters[waits[0]["goid"]]["terms"]


def test_what_is_near_a_wait_adds_up_to_no_suspect():
    dump = build.dump("unrelated", "1.27.3")
    assert cli("--core", dump.exe, dump.core, "leaks", "--fail-on", "likely-key-mismatch").returncode == 0
