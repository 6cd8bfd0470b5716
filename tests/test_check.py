"""`gomap check` names each planted corruption, and `why` a key that is stored off its path."""


import re
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
def test_a_key_changed_in_place_is_unreachable(version):
    dump = build.dump("corrupt", version)
    get = documents(cli("--core", dump.exe, dump.core, "get", "main.KeyChanged", "1000", "--json").stdout)[0]
    why = documents(cli("--core", dump.exe, dump.core, "why", "main.KeyChanged", "1000", "--json").stdout)[0]
    # The fast paths of a small Swiss map compare keys without their hash, so there the runtime does find it.
    if version == "1.27.3":
        assert get["found"] and why["verdict"] == "present"
    else:
        assert not get["found"] and why["verdict"] == "unreachable" and why["stored_at"]["slot"] == 2


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
    writing = [finding["detail"] for finding in report["findings"] if finding["kind"] == "writing"]
    assert answer.returncode == 1 and len(writing) == 1, (report, answer.stderr)
    assert re.search(r"goroutine 1 \(thread \d+\) is inside runtime\.mapassign_fast64", writing[0])
