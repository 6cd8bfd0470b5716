"""`gomap list` and `check --all`: every map that the program knows of is reached, under its own type and count."""

import build
import pytest
from conftest import cli, documents
from oracle import type_name

VERSIONS = ("1.21.13", "1.23.9", "1.24.11", "1.27.3")


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
