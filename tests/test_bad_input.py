"""Broken targets and bad commands: one clear sentence, in gdb and on the command line alike."""

import shutil
import subprocess

import build
import pytest
from conftest import cli, documents, gdb

VERSIONS = ("1.23.9", "1.27.3")
BOTH = pytest.mark.parametrize("version", VERSIONS)


def ask(dump, *words):
    """The command line's answer, after checking that gdb says the same."""
    there = cli("--core", dump.exe, dump.core, *words)
    here = gdb(dump.exe, dump.core, commands=["gomap " + " ".join(words)])
    assert "Traceback" not in here.stderr + here.stdout + there.stderr
    sentence = there.stderr.strip().removeprefix("mapscope: ")
    assert sentence in here.stderr, (sentence, here.stderr)
    return there


@pytest.fixture(scope="module")
def corrupt():
    dumps = {version: build.dump("corrupt", version) for version in VERSIONS}
    return dumps.__getitem__


REFUSED = {
    "main.NotAMap": "this is of type int, not a map",
    "main.NilPointer": "is nil, so there is no map",
    "main.NilInside.m": "is nil, so there is no map",
    "main.Garbage": "holds no sound map header",
    "main.Unmapped": "memory at 0x10 is not in this core",
    "main.AbsurdB": "holds no sound map header",
    "main.HugeB": "more than the whole target has",
    "main.BadCount": "holds no sound map header",
    "main.Nothing": "has no package variable main.Nothing",
    "main.Sound.field": "map[int64]int64 has no fields",
    "main.": "no package variable",
    "0x10": "no map was recognised at 0x10",
    "''": "no package variable",
}


@BOTH
@pytest.mark.parametrize("expression", REFUSED)
def test_what_is_no_sound_map_is_refused_in_one_sentence(corrupt, version, expression):
    answer = ask(corrupt(version), "print", expression)
    assert answer.returncode == 2 and answer.stdout == ""
    assert REFUSED[expression] in answer.stderr and answer.stderr.count("\n") == 1


@BOTH
def test_what_is_wrong_in_a_readable_map_is_said_in_state(corrupt, version):
    swiss = version == "1.27.3"
    said = {
        "main.OffByOne": "count says 2001, but 2000 live slots were found",
        "main.Writing": "a goroutine was writing to the map",
        "main.BadChain": "groups 0 to 127: memory at 0x7fff00000000 is not in this core" if swiss
        else "overflow 1 of bucket 5 at 0x7fff00000000: memory at 0x7fff00000000 is not in this core",
    }
    said["main.BadTable" if swiss else "main.Cycle"] = (
        "table 1: memory at 0x7fff00000000 is not in this core" if swiss else "overflow chain of bucket 3 returns to itself")
    for name, sentence in said.items():
        [document] = documents(ask(corrupt(version), "print", name, "--limit", "0", "--json").stdout)
        assert any(sentence in finding for finding in document["map"]["state"]), document["map"]
        assert all(entry["elem"] == 10 * entry["key"] for entry in document["entries"])


@BOTH
def test_a_lookup_under_a_writer_says_so(corrupt, version):
    for verb, key, verdict in (("get", "7", "present"), ("why", "7", "present"), ("why", "-7", "absent")):
        [document] = documents(ask(corrupt(version), verb, "main.Writing", key, "--json").stdout)
        assert document["verdict"] == verdict
        [note] = document["map"]["state"]
        assert note.startswith("a goroutine was writing to the map") and note.endswith("entries may be half updated")
    assert "  note: a goroutine was writing" in ask(corrupt(version), "get", "main.Writing", "7").stdout


def cut(core, share, to):
    """The beginning of a core, as a full disk leaves it."""
    with open(core, "rb") as source:
        to.write_bytes(source.read(int(core.stat().st_size * share)))
    return to


@BOTH
def test_a_truncated_core_answers_what_it_can(corrupt, version, tmp_path):
    dump = corrupt(version)
    for share in (0.001, 0.02, 0.3, 0.9):
        short = cut(dump.core, share, tmp_path / "core")
        answer = cli("--core", dump.exe, short, "print", "main.Sound", "--limit", "0", "--json")
        # That nothing says which build it is of, that it is cut, and what cannot be read for that.
        said = answer.stderr.splitlines()
        assert len(said) <= 3 and len(set(said)) == len(said) and all(line.startswith("mapscope: ") for line in said)
        if answer.returncode == 0:
            [document] = documents(answer.stdout)
            assert all(e["elem"] == 10 * e["key"] for e in document["entries"] if isinstance(e["key"], int))
            assert len(document["entries"]) == 1000 or document["map"]["state"]
        else:
            assert "truncated" in answer.stderr or "not in this core" in answer.stderr, answer.stderr


def test_a_wrong_executable_is_refused_with_both_ids(corrupt):
    for version, other in (VERSIONS, VERSIONS[::-1]):
        answer = cli("--core", corrupt(other).exe, corrupt(version).core, "print", "main.Sound")
        assert answer.returncode == 2
        assert "is not the program that this core was dumped from: its build ID is" in answer.stderr
        sentence = answer.stderr.split("build ID is ")[1]
        ours, theirs = sentence.split(", the core's is ")
        assert len(ours) > 20 and len(theirs) > 20 and ours != theirs.strip()


def test_files_that_are_not_what_they_should_be(corrupt, tmp_path):
    dump = corrupt("1.27.3")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    cases = [
        ((tmp_path / "nowhere", dump.core), "No such file"),
        ((dump.exe, tmp_path / "nowhere"), "No such file"),
        ((dump.exe, dump.exe), "is not a core file"),
        ((tmp_path / "text", dump.core), "is not an ELF file"),
        ((dump.exe, tmp_path / "text"), "is not an ELF file"),
        ((dump.exe, tmp_path), ""),
        ((dump.exe, tmp_path / "empty"), ""),
    ]
    for (exe, core), sentence in cases:
        answer = cli("--core", exe, core, "print", "main.Sound")
        assert answer.returncode == 2 and sentence in answer.stderr and answer.stderr.count("\n") == 1, answer.stderr


@pytest.fixture(scope="module")
def not_go(tmp_path_factory):
    """(program, core) of one written in C."""
    home = tmp_path_factory.mktemp("c")
    (home / "c.c").write_text("#include <stdlib.h>\nint main(void) { abort(); }\n")
    exe = home / "c"
    subprocess.run(["gcc", "-g", "-o", exe, home / "c.c"], check=True)
    subprocess.run(["gdb", "-nx", "-batch", "-ex", "break main", "-ex", "run", "-ex", f"gcore {home}/core", exe],
                   check=True, capture_output=True)
    return exe, home / "core"


def test_a_program_that_is_not_go(not_go):
    exe, core = not_go
    answer = cli("--core", exe, core, "print", "main.M0")
    assert answer.returncode == 2 and "is not a Go program" in answer.stderr
    here = gdb(exe, core, commands=["gomap print main.M0"])
    assert "is not a Go program" in here.stderr and "Traceback" not in here.stderr


@pytest.mark.parametrize("version,variant", [("1.23.9", "default"), ("1.27.3", "default"), ("1.27.3", "stripped")])
def test_a_version_newer_than_known_is_tried_and_said(version, variant, tmp_path):
    dump = build.dump("maps", version, variant)
    wanted = next(m for m in build.read_truth(dump.truth) if m["name"] == "main.M8")
    exe = tmp_path / "exe"
    # The build info's version string; as long as the real one, so that nothing else moves.
    newer = b"go1.99" + version.encode()[4:]
    exe.write_bytes(dump.exe.read_bytes().replace(b"go" + version.encode(), newer))
    exe.chmod(0o755)
    answer = cli("--core", exe, dump.core, "print", wanted["address"], "--type", wanted["type"], "--limit", "0", "--json")
    assert f"{newer.decode()} is newer than Go 1.27, the newest known" in answer.stderr
    assert len(documents(answer.stdout)[0]["entries"]) == wanted["len"]


@BOTH
def test_a_program_without_dwarf_is_one_sentence(version):
    dump = build.dump("maps", version, "stripped")
    answer = cli("--core", dump.exe, dump.core, "print", "main.M0")
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1


#: Map of the misses sample, key, and what the one sentence says: where, what was expected, the form of such a key.
BAD_KEYS = [
    ("main.Names", "alice", 'column 1 of the key: expected a string in double quotes: "alice"; '
     'a key of type string is written like "text"'),
    ("main.Names", "42", "column 1 of the key: expected a string in double quotes"),
    ("main.Names", '"a" "b"', None),
    ("main.Names", '"a\\q"', "a key of type string is written like"),
    ("main.Numbers", '"7"', "column 1 of the key: expected an integer; a key of type int64 is written like 42"),
    ("main.Numbers", "1.5", "column 1 of the key: expected an integer"),
    ("main.Numbers", "9223372036854775808", "from -9223372036854775808 to 9223372036854775807, not 9223372036854775808"),
    ("main.Numbers", "int32(7)", "a key of type int64 is written like 42"),
    ("main.Floats", "true", "column 1 of the key: expected a number, NaN, +Inf or -Inf"),
    ("main.Sessions", '{User: "bob", Nope: 1}', "column 15 of the key: expected a field, one of User, Device, At"),
    ("main.Sessions", '{"bob"}', "expected all 4 fields of main.Session, or fields by name"),
    ("main.Sessions", '{User: "bob"', None),
    ("main.Digests", "{1, 2, 3, 4, 5, 6, 7, 8, 9}", "expected } after 8 elements; a key of type [8]uint8 is written like {42"),
    ("main.Digests", "{300}", "a uint8 from 0 to 255, not 300"),
    ("main.Nodes", "somewhere", "expected an address such as 0xc000012340, or nil"),
    ("main.Anything", "nothing.Here{1}", "expected a type of this binary, and nothing.Here is not one"),
    ("main.Anything", "what", "expected a literal, or one with its type; a key of type interface {} is written like int64(42)"),
    ("main.Anything", "[]int{1}", "the program would panic (hash of unhashable type []int)"),
    ("main.Anything", "map[string]int{}", "the program would panic (hash of unhashable type map[string]int)"),
    ("main.Typed", "[]int{1}", "the program would panic (hash of unhashable type []int)"),
]


@BOTH
def test_a_key_that_cannot_be_is_told_where_and_what_was_expected(version):
    dump = build.dump("misses", version)
    for map_, key, sentence in BAD_KEYS:
        for verb in ("get", "why"):
            there = cli("--core", dump.exe, dump.core, verb, map_, key)
            assert there.returncode == 2 and there.stdout == "" and there.stderr.count("\n") == 1, (key, there)
            assert "Traceback" not in there.stderr and (sentence or "") in there.stderr, (key, there.stderr)
    commands = [f"gomap get {map_} {key}" for map_, key, sentence in BAD_KEYS if sentence]
    here = gdb(dump.exe, dump.core, commands=commands)
    assert "Traceback" not in here.stdout + here.stderr
    for _, key, sentence in BAD_KEYS:
        assert (sentence or "") in here.stderr, (key, here.stderr)


@BOTH
def test_a_key_from_an_expression_must_be_of_the_map_s_type(version):
    dump = build.dump("misses", version)
    wrong = {
        "main.Names --expr main.wanted": "the key is a *main.Node, but map[string]int has keys of type string",
        "main.Sessions --expr main.Moment": "but map[main.Session]bool has keys of type main.Session, such as {",
        "main.Nodes --expr main.Modes": "but map[*main.Node]int has keys of type *main.Node, such as 0xc000012340",
        "main.Names --expr nowhere": "gdb cannot evaluate 'nowhere'",
    }
    right = {
        "main.Nodes --expr main.stored": True,
        "main.Nodes --expr main.wanted": False,
        # A map[any] takes a value of any type, which becomes the interface that the program would make of it.
        "main.Anything --expr main.LastUser": False,
        "main.Names --expr main.LastUser": False,
        "main.Anything --expr main.stored": False,
    }
    result = gdb(dump.exe, dump.core, commands=[f"gomap get {words} --json" for words in (*wrong, *right)])
    assert "Traceback" not in result.stdout + result.stderr
    for words, sentence in wrong.items():
        assert sentence in result.stderr, (words, result.stderr)
    answers = documents(result.stdout)
    assert [answer["found"] for answer in answers] == list(right.values()), result.stderr
    assert answers[2]["key"] == {"$type": "main.UserID", "$value": "u2"}


@BOTH
def test_an_unhashable_dynamic_type_in_a_key_would_panic(version):
    dump = build.dump("misses", version)
    get, why = documents(gdb(dump.exe, dump.core, commands=[
        f"gomap {verb} main.Anything --expr main.Unhashable --json" for verb in ("get", "why")]).stdout)
    for answer in (get, why):
        assert any("the program would panic: hash of unhashable type []int" in note for note in answer["map"]["state"])
    assert not get["found"] and why["verdict"] == "unhashable" and why["path"] == []


def test_bad_commands_say_what_to_do(corrupt):
    dump = corrupt("1.27.3")
    cases = {
        ("frobnicate",): "gomap has no verb 'frobnicate'",
        ("print",): "the following arguments are required: MAP",
        ("print", "main.Sound", "--limit", "-3"): "argument --limit",
        ("print", "main.Sound", "--bogus"): "unrecognized arguments: --bogus",
        ("export", "main.Sound", "x.doc"): "use .json, .jsonl or .csv",
        ("buckets", "main.Sound", "a-b"): "a range is N or N-M",
        ("print", "0x10", "--type", "map[string]nothing"): "the program has no type map[string]nothing",
    }
    for words, sentence in cases.items():
        answer = cli("--core", dump.exe, dump.core, *words)
        assert answer.returncode == 2 and sentence in answer.stderr and "Traceback" not in answer.stderr, answer.stderr
    assert "which target?" in cli("print", "main.Sound").stderr
    assert "there is no process" in cli("--pid", "999999999", "print", "main.Sound").stderr


def test_gdb_without_a_target_says_so(corrupt):
    for arguments in ((), (corrupt("1.27.3").exe,)):
        answer = gdb(*arguments, commands=["gomap print main.M0"])
        assert "open a core (core-file FILE), or run or attach" in answer.stderr


@pytest.mark.parametrize("options", ("", "--json", "--sort elem", "--where elem>=0"))
def test_ctrl_c_ends_a_long_print_within_a_fifth_of_a_second(options, tmp_path):
    """The command stops its own clock; the tests' machine may be slow, so the bound is generous here
    and the exact figure is in the benchmark."""
    dump = build.dump("big", "1.27.3", args=("int64int64", "5000000"))
    script = tmp_path / "script.py"
    # The answer goes into a pipe whose reader rests until the signal is sent, so the print cannot be over by then.
    script.write_text(
        "import gdb, os, signal, threading, time\n"
        f"os.mkfifo('{tmp_path}/answer')\n"
        "def interrupt():\n"
        "    global sent\n"
        f"    pipe = open('{tmp_path}/answer', 'rb', buffering=0)\n"
        "    time.sleep(0.2)\n"
        "    sent = time.monotonic()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    while pipe.read(1 << 20): pass\n"
        "threading.Thread(target=interrupt).start()\n"
        "try:\n"
        f"    gdb.execute('gomap print main.int64int64 --limit 0 {options} -o {tmp_path}/answer')\n"
        "except gdb.error as error:\n"
        "    print('STOPPED %s %.3f' % (error, time.monotonic() - sent))\n"
        "print('ALIVE', gdb.execute('gomap print main.int64int64 --limit 1 --json', to_string=True)[:20])\n"
    )
    answer = gdb(dump.exe, dump.core, "-x", script)
    stopped = [line for line in answer.stdout.splitlines() if line.startswith("STOPPED")]
    assert stopped and "interrupted" in stopped[0], answer.stdout + answer.stderr
    assert float(stopped[0].split()[-1]) < 2
    assert 'ALIVE {"map":' in answer.stdout


def test_an_executable_that_is_gone(tmp_path):
    exe = tmp_path / "corrupt"
    shutil.copy(build.build("corrupt", "1.27.3"), exe)
    home = tmp_path / "core"
    home.mkdir()
    build.kernel_core(exe, home)
    # gdb finds the executable by the core alone, as long as it is there.
    commands = [f"core-file {home}/core", "gomap print main.Sound --limit 0 --json"]
    assert len(documents(gdb(commands=commands).stdout)[0]["entries"]) == 1000
    exe.unlink()
    answer = gdb(commands=commands)
    said = [line for line in answer.stderr.splitlines() if str(exe) in line and "Traceback" not in line]
    assert said and not documents(answer.stdout) and "Traceback" not in answer.stderr, answer.stderr
    there = cli("--core", exe, home / "core", "print", "main.Sound")
    assert there.returncode == 2 and "No such file" in there.stderr and there.stderr.count("\n") == 1


def test_gdb_refuses_a_wrong_executable_with_both_ids(corrupt):
    answer = gdb(corrupt("1.23.9").exe, corrupt("1.27.3").core, commands=["gomap print main.Sound"])
    assert "is not the program that this core was dumped from: its build ID is" in answer.stderr
    assert "the core's is" in answer.stderr and "Traceback" not in answer.stderr
