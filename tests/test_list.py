"""`gomap list` and `check --all`: every map that the program knows of is reached, under its own type and count."""

import build
import pytest
from conftest import cli, documents
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


@pytest.mark.parametrize("version", ("1.19", "1.21.13", "1.23.9", "1.24.11", "1.26.6", "1.27.3"))
@pytest.mark.parametrize("variant", ("default", "stripped"))
def test_maps_in_all_places_are_found_and_true(version, variant):
    """Structs, slices, arrays, lists, interfaces, channels, closures, maps, stacks, sync.Map, finalizers."""
    dump = build.dump("everywhere", version, variant)
    answer = cli("--core", dump.exe, dump.core, "list", "--json")
    [document] = documents(answer.stdout)
    truth = build.read_truth(dump.truth)
    found = {m["address"]: m for m in document["maps"]}
    hits = [(t, found[t["address"]]) for t in truth if t["address"] in found]
    counted = [m for _, m in hits if variant != "default" or m["found"] == "reached"]
    assert len(truth) > 2000 and len(counted) >= (0.99 if variant == "default" else 0.95) * len(truth)
    # Maps whose bytes fit several types are listed with all of them, the true one among them.
    types = lambda m: {type_name(name) for name in (m["type"], *m.get("or", ()))}  # noqa: E731
    assert not [(t, m) for t, m in hits if m["count"] != t["len"] or type_name(t["type"]) not in types(m)]


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_an_address_needs_no_type_where_memory_tells_it(version):
    dump = build.dump("everywhere", version, "stripped")
    # Memory tells most in the buckets of a large map.
    truth = max((t for t in build.read_truth(dump.truth) if t["type"] == "map[uint32][]uint8"), key=lambda t: t["len"])
    answer = cli("--core", dump.exe, dump.core, "print", truth["address"], "--json", "--limit", "0")
    [document] = documents(answer.stdout)
    assert (type_name(document["map"]["type"]), document["shown"]) == (truth["type"], truth["len"])
