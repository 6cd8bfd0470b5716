"""Binaries without DWARF and symbols: every map, by address and type, as with DWARF."""

import build
import pytest
from conftest import EVERYTHING, STRIPPED, STRIPPED_BUILDS, cli, documents, gdb
from oracle import differences, entry_differences, loads

CASES = [(version, variant) for version in STRIPPED for variant in ("stripped", "stripped-pie", "strip-s")]
BUILDS = pytest.mark.parametrize("version,variant", STRIPPED_BUILDS)


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
    if sample != "maps" and variant != "stripped" and not EVERYTHING:
        pytest.skip("the other sample shows this build's reading")
    dump = build.dump(sample, version, variant)
    compare(dump.exe, dump.core, listed(dump))


@pytest.mark.parametrize("version,variant", [("1.19", "stripped"), ("1.27.3", "strip-s")])
def test_a_binary_without_build_info(version, variant, tmp_path):
    """npm's esbuild is shipped so; the version is then the runtime's own text."""
    dump = build.dump("maps", version, variant)
    exe = tmp_path / "maps"
    exe.write_bytes(dump.exe.read_bytes().replace(b"\xff Go buildinf:", bytes(14)))
    exe.chmod(0o755)
    compare(exe, dump.core, listed(dump)[:20])


@BUILDS
def test_lookup_goes_by_hash(version, variant):
    dump = build.dump("maps", version, variant)
    [map_] = [m for m in listed(dump) if m["name"] == "main.M0"]
    where = f"{map_['address']} --type 'map[string]int'"
    result = gdb(dump.exe, dump.core, commands=[f'gomap get {where} "two" --json', f'gomap why {where} "Two" --json'])
    got, why = documents(result.stdout)
    assert (got["found"], got["verdict"], got["elem"], got["map"]["state"]) == (True, "present", 2, [])
    assert why["hasher"]["function"] == "runtime.strhash" and why["near"][0]["relation"] == "case"


@BUILDS
def test_stats_buckets_and_export_agree_with_the_program(version, variant, tmp_path):
    dump = build.dump("maps", version, variant)
    maps = [m for m in listed(dump) if m["len"] and "entries" in m][::8]
    commands, files = [], []
    for number, map_ in enumerate(maps):
        where = f"{map_['address']} --type '{map_['type']}'"
        files.append(tmp_path / f"{number}.jsonl")
        commands += [f"gomap stats {where} --json", f"gomap buckets {where} --json", f"gomap export {where} {files[-1]}"]
    answers = documents(gdb(dump.exe, dump.core, commands=commands).stdout)
    assert len(answers) == 2 * len(maps) > 10
    for map_, stats, buckets, file in zip(maps, answers[::2], answers[1::2], files):
        assert stats["map"]["count"] == map_["len"] and stats["bytes"] > 0, map_["name"]
        exported = [loads(line) for line in file.read_text().split("\n") if line]
        assert not entry_differences(map_["entries"], exported), map_["name"]
        # Of a large map only the first buckets are shown.
        slots = [slot for bucket in buckets["buckets"] for slot in bucket["slots"] if "key" in slot]
        assert 0 < len(slots) <= map_["len"], map_["name"]
        assert len(slots) == map_["len"] or len(buckets["buckets"]) > 1, map_["name"]


def test_variables_have_no_names_there():
    dump = build.dump("maps", "1.27.3", "stripped")
    result = gdb(dump.exe, dump.core, commands=["gomap print main.M0"])
    assert "no DWARF debug information" in result.stderr and "--type" in result.stderr
