"""`gomap check` names each planted corruption, and `why` a key that is stored off its path."""


import re
import shutil
import subprocess

import build
import pytest
from conftest import STRIPPED_BUILDS, cli, documents, map_words

THREE = pytest.mark.parametrize("version", ("1.19", "1.23.9", "1.27.3"))
BUILDS = [("1.19", "default"), ("1.23.9", "default"), ("1.27.3", "default"), *STRIPPED_BUILDS]

#: Variable of the corrupt sample -> kind of the finding, and whether both layouts have it.
PLANTED = {
    "main.KeyChanged": ("misplaced-key", True),
    "main.Twice": ("duplicate-key", True),
    "main.BadByte": ("misplaced-key", True),
    "main.OffByOne": ("count-mismatch", True),
    "main.Writing": ("writing", True),
    "main.BadChain": ("bad-pointer", True),
    "main.Cycle": ("chain-cycle", False),
}


@pytest.mark.parametrize("version,variant", BUILDS)
@pytest.mark.parametrize("name", PLANTED)
def test_each_planted_corruption_is_named(version, variant, name):
    kind, in_swiss = PLANTED[name]
    if version >= "1.24" and not in_swiss:
        pytest.skip("Swiss maps have no overflow chains")
    dump = build.dump("corrupt", version, variant)
    words = {truth["name"]: map_words(truth, variant) for truth in build.read_truth(dump.truth)}
    answer = cli("--core", dump.exe, dump.core, "check", *words[name], "--json")
    assert answer.stdout, answer.stderr
    [report] = documents(answer.stdout)[0]["maps"]
    found = {finding["kind"]: finding for finding in report["findings"]}
    assert answer.returncode == 1 and kind in found, report
    assert found[kind]["meaning"] and found[kind]["severity"] in ("warning", "error")
    sound = cli("--core", dump.exe, dump.core, "check", *words["main.Sound"], "--json")
    assert sound.returncode == 0 and not documents(sound.stdout)[0]["maps"][0]["findings"]


@THREE
def test_a_key_changed_in_place_in_the_only_bucket(version):
    dump = build.dump("corrupt", version)
    get = documents(cli("--core", dump.exe, dump.core, "get", "main.KeyChanged", "1000", "--json").stdout)[0]
    why = documents(cli("--core", dump.exe, dump.core, "why", "main.KeyChanged", "1000", "--json").stdout)[0]
    # In a map of one bucket or group the runtime compares keys of 8 bytes without their hash, so it does find it.
    assert get["found"] and why["verdict"] == "present"


#: A function that a map write calls in the middle of it, when the flag of the writer is set.
INSIDE_A_WRITE = {"1.19": "runtime.hashGrow", "1.23.9": "runtime.hashGrow", "1.27.3": "internal/runtime/maps.(*table).rehash"}


@THREE
def test_the_writer_at_work_is_named_with_its_goroutine(version, tmp_path):
    exe = build.build("racing", version)
    symbols = subprocess.run(["nm", exe], capture_output=True, text=True, check=True).stdout
    [address] = [line.split()[0] for line in symbols.splitlines() if line.endswith(" " + INSIDE_A_WRITE[version])]
    # The runtime's own maps grow first; the one that counts is entered from the writer's goroutine.
    condition = "$_any_caller_matches(\"main.main\", 8)"
    core = tmp_path / "core"
    commands = [f"break *0x{address} if {condition}", "run one", f"gcore {core}", "kill"]
    line = ["gdb", "-nx", "-batch", "-iex", "set auto-load off", exe]
    for command in commands:
        line += ["-ex", command]
    subprocess.run(line, capture_output=True, timeout=120, check=False)
    answer = cli("--core", exe, core, "check", "main.Shared", "--json")
    [report] = documents(answer.stdout)[0]["maps"]
    writing = [finding for finding in report["findings"] if finding["kind"] == "writing"]
    # A map in the middle of a write is no broken one.
    assert answer.returncode == 0 and len(writing) == 1, (report, answer.stderr)
    assert {finding["severity"] for finding in report["findings"]} == {"info"}
    assert re.search(r"goroutine 1 \(thread \d+\) is inside runtime\.mapassign_fast64", writing[0]["detail"])


#: The oldest and newest Go of each layout.
ENDS_OF_LAYOUTS = pytest.mark.parametrize("version", ("1.19", "1.23.9", "1.24.11", "1.27.3"))
#: A key that is in no map of the sample `torn`.
ABSENT = str(1 << 40)


def torn(version):
    """The sample's dump, and what the program printed."""
    dump = build.dump("torn", version)
    return dump, build.read_truth(dump.truth)


@ENDS_OF_LAYOUTS
def test_a_torn_map_is_named_wherever_a_type_leads_to_it(version):
    dump, truth = torn(version)
    wanted = {document["address"]: document["torn"] for document in truth if "torn" in document}
    answer = cli("--core", dump.exe, dump.core, "check", "--all", "--json")
    maps = documents(answer.stdout)[0]["maps"]
    found = {one["map"]["address"]: one for one in maps if [f for f in one["findings"] if f["kind"] == "torn-header"]}
    assert answer.returncode == 1 and set(found) == set(wanted), (found, answer.stderr)
    listed = documents(cli("--core", dump.exe, dump.core, "list", "--json").stdout)[0]
    assert {one["address"] for one in listed["torn"]} == set(wanted)
    for path in [one["map"]["path"] for one in found.values()] + [one["path"] for one in listed["torn"]]:
        assert any(path.startswith(name) for name in wanted.values()), path
    text = cli("--core", dump.exe, dump.core, "list").stdout
    assert len(re.findall(r"^torn: main\.\w+.* map\[int64\]int64: 0x\w+ holds no sound map header", text, re.M)) == len(wanted)
    assert "main.Sound" not in str(found)


@ENDS_OF_LAYOUTS
def test_a_lookup_that_never_ends_in_the_program_is_no_absent_key(version):
    dump, truth = torn(version)
    answers = [document for document in truth if "ends" in document]
    assert [document["ends"] for document in answers if document["name"] == "main.Full"] == [False]
    for document in answers:
        name, verdict = document["name"], "absent" if document["ends"] else "endless"
        for verb in ("get", "why"):
            answer = documents(cli("--core", dump.exe, dump.core, verb, name, ABSENT, "--json").stdout)[0]
            assert answer["verdict"] == verdict, (document, answer["verdict"])
        text = cli("--core", dump.exe, dump.core, "get", name, ABSENT).stdout
        assert ("never ends" in text) == (not document["ends"]) and ("is absent" in text) == document["ends"]
        [report] = documents(cli("--core", dump.exe, dump.core, "check", name, "--json").stdout)[0]["maps"]
        kinds = {finding["kind"] for finding in report["findings"]}
        assert "count-mismatch" not in kinds and report["map"]["count"] == document["len"]
        if not document["ends"]:
            assert kinds & {"endless-probe", "chain-cycle"}, kinds


@ENDS_OF_LAYOUTS
def test_a_key_changed_in_place_is_found_where_the_program_finds_it(version):
    dump, truth = torn(version)
    lookups = [document for document in truth if "found" in document]
    assert len(lookups) >= 6 and {document["found"] for document in lookups} == {True, False}
    for document in lookups:
        words = ("--core", dump.exe, dump.core)
        get = documents(cli(*words, "get", document["lookup"], document["key"], "--json").stdout)[0]
        why = documents(cli(*words, "why", document["lookup"], document["key"], "--json").stdout)[0]
        assert get["found"] == document["found"], document
        assert why["verdict"] == ("present" if document["found"] else "unreachable"), document


#: A goroutine that was interrupted while its map grows, which is in the middle of a write: the flag is set before.
INTERRUPTED = re.compile(r"^goroutine (\d+)[^\n]*\[(?!running)[^\n]*\n(?:.*\n)*?\S*(?:hashGrow|growWork|evacuate|newoverflow|rehash|growTo)\S*"
                         r"\(.*\n(?:.*\n)*?runtime\.mapassign", re.M)


@ENDS_OF_LAYOUTS
def test_a_writer_without_a_thread_is_named(version, tmp_path):
    exe = build.build("writers", version)
    home = tmp_path / "made"
    home.mkdir()
    build.kernel_core(exe, home)
    blocks = (home / "traceback.txt").read_text().split("\n\n")
    waiting = {int(found[1]) for block in blocks if (found := INTERRUPTED.search(block))}
    truth = {d["goid"]: d["map"] for d in build.read_truth(home / "truth.jsonl")}
    answer = cli("--core", exe, home / "core", "check", "--all", "--json")
    maps = {one["map"]["path"]: one for one in documents(answer.stdout)[0]["maps"]}
    shutil.rmtree(home)
    writing = {path: f for path, one in maps.items() for f in one["findings"] if f["kind"] == "writing"}
    # The program's main goroutine and the runtime's own write maps too.
    waiting &= set(truth)
    assert waiting
    for goid in waiting:
        said = writing[truth[goid]]
        assert re.search(rf"\bgoroutine {goid}, which holds no thread, is inside runtime\.mapassign", said["detail"]), said
    # Each map that is being written is its own goroutine's, and none is called broken for it.
    goids = {path: goid for goid, path in truth.items()}
    for path, finding in ((path, writing[path]) for path in goids.keys() & writing.keys()):
        assert f"goroutine {goids[path]}" in finding["detail"] and finding["severity"] == "info", finding
    assert answer.returncode == 0, [f for one in maps.values() for f in one["findings"] if f["severity"] != "info"]


@THREE
def test_a_core_without_the_maps_memory_is_no_sound_one(version, tmp_path):
    """A core filter that leaves all private memory out: variables, heap and stacks are not in it."""
    exe = build.build("corrupt", version)
    with build.live(exe) as running:
        core = tmp_path / f"core.{running.pid}"
        with open(f"/proc/{running.pid}/coredump_filter", "w") as filter:
            filter.write("0x10")
        subprocess.run(["gdb", "-nx", "-batch", "-p", str(running.pid), "-ex", f"gcore {core}"], capture_output=True,
                       timeout=120, check=False)
    for words in (("check", "--all"), ("check", "--all", "--json")):
        answer = cli("--core", exe, core, *words)
        assert answer.returncode == 2 and "no map could be read, so nothing was checked" in answer.stderr, answer
        assert "without findings" not in answer.stdout
