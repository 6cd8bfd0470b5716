"""Binaries without DWARF and symbols: every map, by address and type, as with DWARF."""

import subprocess

import build
import pytest
from conftest import documents, gdb
from oracle import differences

VERSIONS = ("1.21.13", "1.23.9", "1.24.11", "1.26.6", "1.27.3")
CASES = [(version, variant) for version in VERSIONS for variant in ("stripped", "stripped-pie")]


def print_by_address(truth):
    return [f"gomap print {m['address']} --type '{m['type']}' --limit 0 --json" for m in truth]


def listed(dump):
    """The truth about maps that a static type names: not sync.Map, not nil."""
    return [m for m in build.read_truth(dump.truth) if m["layout"] != "sync" and m["address"] != "0x0"]


def compare(exe, core, truth):
    result = gdb(exe, core, commands=print_by_address(truth))
    answers = documents(result.stdout)
    assert len(answers) == len(truth), result.stderr[-2000:]
    wrong = {want["name"]: differences(want, got) for want, got in zip(truth, answers)}
    assert not {name: diff[:3] for name, diff in wrong.items() if diff}


@pytest.mark.parametrize("version,variant", CASES)
@pytest.mark.parametrize("sample", ("maps", "generated@1"))
def test_entries_equal_what_the_program_printed(sample, version, variant):
    dump = build.dump(sample, version, variant)
    compare(dump.exe, dump.core, listed(dump))


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_stripped_after_the_link(version, tmp_path):
    """`strip -s` takes symbols and DWARF away from a finished binary, as distributions do."""
    dump = build.dump("maps", version)
    exe = tmp_path / "maps"
    subprocess.run(["strip", "-s", "-o", exe, dump.exe], check=True)
    compare(exe, dump.core, listed(dump))


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_lookup_goes_by_hash(version):
    dump = build.dump("maps", version, "stripped")
    [map_] = [m for m in listed(dump) if m["name"] == "main.M0"]
    where = f"{map_['address']} --type 'map[string]int'"
    result = gdb(dump.exe, dump.core, commands=[f'gomap get {where} "two" --json', f'gomap why {where} "Two" --json'])
    got, why = documents(result.stdout)
    assert (got["found"], got["verdict"], got["elem"], got["map"]["state"]) == (True, "present", 2, [])
    assert why["hasher"]["function"] == "runtime.strhash" and why["near"][0]["relation"] == "case"


def test_variables_have_no_names_there():
    dump = build.dump("maps", "1.27.3", "stripped")
    result = gdb(dump.exe, dump.core, commands=["gomap print main.M0"])
    assert "no DWARF debug information" in result.stderr and "--type" in result.stderr
