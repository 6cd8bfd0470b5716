"""sync.Map in every verb, read/dirty and hash trie, against the program's own record."""

import json

import build
import pytest
from conftest import STRIPPED_BUILDS, cli, documents, gdb, map_words
from oracle import differences, loads

CASES = [("1.19", "default"), ("1.21.13", "default"), ("1.23.9", "default"), ("1.24.11", "default"),
         ("1.24.11", "nosynchashtriemap"), ("1.27.3", "default"), ("1.27.3", "pie"), *STRIPPED_BUILDS]
BUILDS = pytest.mark.parametrize("version,variant", CASES)


@pytest.fixture(scope="module")
def asked():
    """Everything asked of one core, in one gdb for each build."""
    cache = {}

    def ask(version, variant):
        if (version, variant) not in cache:
            dump = build.dump("syncmap", version, variant)
            truth = build.read_truth(dump.truth)
            verbs = ("print {} --limit 0 --json", "stats {} --json", "check {} --json", "buckets {} 0-3 --json")
            commands = ["gomap " + verb.format(" ".join(map_words(map_, variant))) for map_ in truth for verb in verbs]
            result = gdb(dump.exe, dump.core, commands=commands)
            answers = documents(result.stdout)
            assert len(answers) == len(commands), result.stderr[-2000:]
            cache[version, variant] = dump, truth, [answers[i : i + 4] for i in range(0, len(answers), 4)]
        return cache[version, variant]

    return ask


@BUILDS
def test_entries_equal_the_program_s_record(asked, version, variant):
    _, truth, answers = asked(version, variant)
    wrong = {want["name"]: differences(want, printed) for want, (printed, *_) in zip(truth, answers)}
    assert not {name: diff[:3] for name, diff in wrong.items() if diff}


@BUILDS
def test_stats_equal_the_map_s_own_header(asked, version, variant):
    _, truth, answers = asked(version, variant)
    for want, (_, stats, _, _) in zip(truth, answers):
        header = want["header"]
        if "read" in header:
            got = {name: stats[name] for name in ("read", "amended", "misses", "dirty")}
            assert got == dict(header, dirty=header["dirty"] or 0), want["name"]
            assert stats["read"] >= stats["deleted"] + stats["expunged"]
            # Of 40 keys every third was deleted before the dirty map was made.
            assert want["name"] != "main.Y5" or stats["expunged"] == len(range(0, 40, 3))
        else:
            assert (stats["nodes"] > 0) == header["inited"] and "read" not in stats


@BUILDS
def test_sound_maps_have_no_findings(asked, version, variant):
    _, truth, answers = asked(version, variant)
    for want, (_, _, checked, _) in zip(truth, answers):
        [report] = checked["maps"]
        assert "unchecked" not in report and report["keys_checked"] <= 2 * max(want["len"], 100), want["name"]
        assert all(f["kind"] == "nan-key" for f in report["findings"]), (want["name"], report["findings"])


@BUILDS
def test_every_key_is_found_by_its_hash(asked, version, variant):
    dump, truth, _ = asked(version, variant)
    keys = [(m, e) for m in truth for e in m["entries"]
            if e["key"] and e["key"].get("$type") in ("string", "int", "int64")]
    keys = keys[:: max(1, len(keys) // 40)]
    literal = lambda key: json.dumps(key["$value"]) if key["$type"] == "string" else f"{key['$type']}({key['$value']})"
    commands = [f"gomap get {' '.join(map_words(m, variant))} {literal(e['key'])} --json" for m, e in keys]
    answers = documents(gdb(dump.exe, dump.core, commands=commands).stdout)
    assert len(answers) == len(keys) > 10
    for (_, entry), answer in zip(keys, answers):
        assert answer["found"] and answer["elem"] == entry["elem"] and not answer["map"]["state"]


@BUILDS
def test_a_key_of_another_dynamic_type_is_the_first_near_miss(asked, version, variant):
    dump, truth, _ = asked(version, variant)
    [map_] = [m for m in truth if m["name"] == "main.Y10"]
    keys = [entry["key"] for entry in map_["entries"]]
    assert {"$type": "main.ID", "$value": 5} in keys and {"$type": "int64", "$value": 5} not in keys
    answer = cli("--core", dump.exe, dump.core, "why", *map_words(map_, variant), "int64(5)", "--json")
    [why] = documents(answer.stdout)
    assert why["verdict"] == "absent" and why["path"]
    assert why["near"][0]["relation"] == "dynamic-type"
    assert why["near"][0]["key"] == {"$type": "main.ID", "$value": 5}


def test_it_is_found_in_a_process_and_exported(tmp_path):
    with build.live(build.build("syncmap", "1.27.3")) as sample:
        truth = next(m for m in sample.truth if m["len"] > 20)
        target = tmp_path / "out.jsonl"
        assert cli("--pid", sample.pid, "export", truth["name"], target).returncode == 0
        assert len([loads(line) for line in target.read_text().split("\n") if line]) == truth["len"]
        listed = documents(cli("--pid", sample.pid, "list", "--json").stdout)[0]["maps"]
        assert {m["name"]: m["len"] for m in sample.truth if m["name"].startswith("main.Y")}.items() <= {
            m["path"]: m["count"] for m in listed if m["layout"] == "sync"}.items()
