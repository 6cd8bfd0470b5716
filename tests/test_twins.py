"""Keys that differ in one place which is easily not seen are told apart by every verb, as the program's own == tells them."""

import collections
import json

import build
import pytest
from conftest import cli

VERSIONS = ("1.21.13", "1.23.9", "1.24.11", "1.27.3")


class Twins:
    """A core of the sample, and what its program said of its lookups."""

    def __init__(self, version):
        self.dump = build.dump("twins", version)
        documents = build.read_truth(self.dump.truth)
        self.lookups = next(document["lookups"] for document in documents if "lookups" in document)
        self.typed = [lookup for lookup in self.lookups if lookup.get("literal")]

    def ask(self, *verb):
        done = cli("--core", self.dump.exe, self.dump.core, *verb)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout

    def json(self, *verb):
        return json.loads(self.ask(*verb, "--json"))


@pytest.fixture(scope="module", params=VERSIONS)
def twins(request):
    return Twins(request.param)


def by_map(lookups):
    maps = collections.defaultdict(list)
    for lookup in lookups:
        maps[lookup["map"]].append(lookup)
    return maps


def test_get_and_why_find_what_the_program_found(twins):
    elems = {}
    for lookup in twins.typed:
        name = "main." + lookup["map"]
        found = twins.json("get", name, lookup["literal"])
        assert found["found"] is lookup["found"], lookup
        assert twins.json("why", name, lookup["literal"])["verdict"] == ("present" if lookup["found"] else "absent"), lookup
        if lookup["found"]:
            elems.setdefault((lookup["map"], lookup["class"]), set()).add(found["elem"]["$chan"])
    # One key leads to one channel, and no other key to that.
    assert all(len(channels) == 1 for channels in elems.values())
    assert len({channel for channels in elems.values() for channel in channels}) == len(elems)


def test_why_all_says_where_each_key_is(twins):
    for lookup in twins.typed[::4]:
        answer = twins.json("why", "--all", lookup["literal"], "--limit", "0")
        verdicts = {one["map"]["path"]: one["verdict"] for one in answer["maps"]}
        present = verdicts.get("main." + lookup["map"]) == "present"
        assert present is lookup["found"], (lookup, verdicts)


def test_keys_of_a_map_never_print_alike(twins):
    for name in by_map(twins.lookups):
        entries = twins.json("print", "main." + name)["entries"]
        text = twins.ask("print", "main." + name).splitlines()
        keys = [line.strip().rsplit(": (chan int)", 1)[0] for line in text if "(chan int)(0x" in line]
        assert len(set(keys)) == len(keys) == len(entries), keys
        assert len({json.dumps(entry["key"]) for entry in entries}) == len(entries), entries


def test_print_where_compares_whole_keys(twins):
    for lookup in twins.lookups:
        if lookup["map"] == "texts":
            shown = twins.json("print", "main.texts", "--where", "key==" + lookup["literal"])["shown"]
            assert shown == int(lookup["found"]), lookup


@pytest.mark.parametrize("verb", ("leaks", "explain", "evidence"))
def test_goroutines_have_the_keys_that_they_looked_up(twins, verb):
    known = collections.defaultdict(dict)
    if verb == "explain":
        records = [twins.json("explain", str(lookup["goid"]))["goroutines"][0] for lookup in twins.lookups[::15]]
    else:
        records = twins.json(verb, "--all")["goroutines"] if verb == "leaks" else twins.json(verb)["goroutines"]
    records = {record["goid"]: record for record in records}
    for lookup in twins.lookups:
        record = records.get(lookup["goid"])
        if record is None:
            assert verb == "explain"
            continue
        looked = record.get("lookup") or record["memory"]["lookup"]
        if looked["key"] is None:
            assert looked["lost"], lookup
            continue
        assert looked["found"] is lookup["found"], (lookup, looked)
        known[lookup["map"]].setdefault(lookup["class"], set()).add((looked["key"]["id"], looked["key"]["text"]))
        # What is near is another key; but a NaN is near to those of the same bits.
        others = [near for near in looked["near"] if near["relation"] != "nan"]
        assert all(near["id"] != looked["key"]["id"] for near in others), looked
    for name, classes in known.items():
        ids = [{id for id, _ in shown} for shown in classes.values()]
        assert all(len(one) == 1 for one in ids), (name, classes)
        assert len({id for one in ids for id in one}) == len(classes), (name, classes)
        texts = [text for shown in classes.values() for text in {text for _, text in shown}]
        assert len(set(texts)) >= len(classes), (name, texts)
    assert verb == "explain" or {"texts", "pointers", "anys", "channels"} <= set(known)


def test_what_holds_the_channels_is_the_stored_key(twins):
    record = {g["goid"]: g for g in twins.json("leaks", "--all")["goroutines"]}
    held = {}
    for lookup in twins.lookups:
        if lookup["found"]:
            [holder] = record[lookup["goid"]]["blocked_on"]["held_by"]
            held.setdefault((lookup["map"], lookup["class"]), set()).add((holder["id"], holder["key_address"]))
    assert all(len(one) == 1 for one in held.values()), held
    assert len({address for one in held.values() for _, address in one}) == len(held)


def test_diff_tells_what_came_and_went(tmp_path):
    for version in ("1.21.13", "1.27.3"):
        with build.live(build.build("twins", version), stdin=build.subprocess.PIPE) as live:
            before = {}
            names = ("texts", "pointers", "anys", "floats", "pads")
            for name in names:
                before[name] = tmp_path / f"{version}-{name}"
                done = cli("--pid", live.pid, "snapshot", "main." + name, before[name])
                assert done.returncode == 0, done.stderr
            live.process.stdin.write("change\n")
            live.process.stdin.flush()
            changed = None
            for line in live.process.stdout:
                if line.startswith("READY"):
                    break
                changed = json.loads(line)["changed"]
            for name in names:
                done = cli("--pid", live.pid, "diff", "main." + name, before[name], "--json")
                assert done.returncode in (0, 1), done.stderr
                counts = json.loads(done.stdout)["counts"]
                assert [counts["added"], counts["removed"], counts["kept"]] == changed[name], (name, done.stdout)
