"""The newest gdb and lldb, which embed another Python than Debian's: from PyPI, pinned in requirements.txt."""

import glob
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import build
import pytest
from conftest import GDBINIT, ROOT, documents
from oracle import differences
from test_bad_input import REFUSED, cut, not_go  # noqa: F401  (a fixture)

VERSIONS = ("1.23.9", "1.27.3")
BOTH = pytest.mark.parametrize("version", VERSIONS)


@pytest.fixture(scope="module", autouse=True)
def libpython():
    """Both load the interpreter's shared library, and look for it in the environment's lib."""
    name = sysconfig.get_config_var("INSTSONAME")
    wanted = Path(sys.prefix) / "lib" / name
    if not wanted.exists():
        places = [sysconfig.get_config_var("LIBDIR"), f"{sys.base_prefix}/lib", *glob.glob("/usr/lib/*-linux-gnu")]
        found = [Path(place) / name for place in places if place and (Path(place) / name).exists()]
        if not found:
            pytest.skip(f"{name} is not installed (apt-get install python3-dev)")
        wanted.symlink_to(found[0])


def run(program, *arguments, **options):
    line = [Path(sys.prefix) / "bin" / program, *arguments]
    return subprocess.run(list(map(str, line)), capture_output=True, text=True, timeout=120, **options)


def gdb(*arguments, commands, **options):
    line = ["-nx", "-batch", "-iex", "set auto-load off", "-x", GDBINIT, *arguments]
    return run("gdb", *line, *(word for command in commands for word in ("-ex", command)), **options)


def lldb(*arguments, commands):
    line = ["-b", "-s", ROOT / "lldbinit", *arguments]
    return run("lldb", *line, *(word for command in commands for word in ("-o", command)))


def check(result, truth):
    assert "Traceback" not in result.stdout + result.stderr
    answers = documents(result.stdout)
    assert len(answers) == len(truth), result.stdout[-1000:] + result.stderr[-1000:]
    assert not [d for want, got in zip(truth, answers) for d in differences(want, got)]


def print_all(truth):
    return [f"gomap print {m['name']} --limit 0 --json" for m in truth]


def test_they_are_the_newer_ones():
    assert run("gdb", "--version").stdout.startswith("GNU gdb (GDB) 18.1")
    assert "version 23." in run("lldb", "--version").stdout


@BOTH
@pytest.mark.parametrize("source", ("core", "live"))
def test_gdb_reads_every_map(version, source):
    if source == "core":
        dump = build.dump("maps", version)
        truth = build.read_truth(dump.truth)
        return check(gdb(dump.exe, dump.core, commands=print_all(truth)), truth)
    with build.live(build.build("maps", version)) as sample:
        check(gdb("-p", sample.pid, commands=print_all(sample.truth)), sample.truth)


@BOTH
def test_lldb_reads_every_package_variable(version):
    dump = build.dump("maps", version)
    truth = [m for m in build.read_truth(dump.truth) if m["name"].startswith("main.M")]
    check(lldb(dump.exe, "-c", dump.core, commands=print_all(truth)), truth)


def test_gdb_has_settings_functions_printer_and_errors():
    dump = build.dump("maps", "1.27.3")
    result = gdb(dump.exe, dump.core, commands=[
        "set gomap limit 1", "gomap print main.M0", "show gomap", "print $gomap_len('main.M0')", "print 'main.M0'",
        "gomap get main.M0 \"two\"", "complete gomap print main.M10", "gomap print main.Nope"])
    assert "4 more; --limit 0 shows all" in result.stdout and "gomap follow-limit" in result.stdout
    assert "$1 = 5" in result.stdout and "$2 = map[string]int{" in result.stdout and '"two": 2' in result.stdout
    assert "gomap print main.M100" in result.stdout
    assert "has no package variable main.Nope" in result.stderr and "Traceback" not in result.stdout + result.stderr


def test_gdb_over_the_debug_adapter_protocol():
    dump = build.dump("maps", "1.27.3")
    requests = [("initialize", dict(adapterID="x")), ("attach", dict(program=str(dump.exe), coreFile=str(dump.core))),
                ("configurationDone", {}), ("evaluate", dict(expression="gomap print main.M0 --json", context="repl")),
                ("disconnect", {})]
    line = [Path(sys.prefix) / "bin/gdb", "-nx", "-q", "-i=dap", "-iex", "set auto-load off", "-x", GDBINIT]
    messages = ""
    for number, (command, arguments) in enumerate(requests, 1):
        body = json.dumps(dict(seq=number, type="request", command=command, arguments=arguments))
        messages += f"Content-Length: {len(body)}\r\n\r\n{body}"
    result = subprocess.run(list(map(str, line)), input=messages, capture_output=True, text=True, timeout=60,
                            env=dict(os.environ))
    assert r'\"entries\":[{\"key\":' in result.stdout, result.stdout[-2000:] + result.stderr[-1000:]


@BOTH
def test_lldb_refuses_what_is_no_sound_map_in_one_sentence(version):
    dump = build.dump("corrupt", version)
    for expression, sentence in REFUSED.items():
        result = lldb(dump.exe, "-c", dump.core, commands=[f"gomap print {expression}", "script print('ALIVE')"])
        assert sentence in result.stderr and "Traceback" not in result.stdout + result.stderr, (expression, result.stderr)
        assert "error: " in result.stderr and not documents(result.stdout)


@BOTH
def test_lldb_answers_what_it_can_of_a_truncated_core(version, tmp_path):
    dump = build.dump("corrupt", version)
    for share in (0.02, 0.3, 0.9):
        result = lldb(dump.exe, "-c", cut(dump.core, share, tmp_path / "core"),
                      commands=["gomap print main.Sound --limit 0 --json"])
        # 1: lldb's own status after a command that failed.
        assert result.returncode in (0, 1) and "Traceback" not in result.stdout + result.stderr
        answers = documents(result.stdout)
        if answers:
            [document] = answers
            assert all(e["elem"] == 10 * e["key"] for e in document["entries"] if isinstance(e["key"], int))
            assert len(document["entries"]) == 1000 or document["map"]["state"]
        else:
            assert any(word in result.stderr for word in ("truncated", "not in this core", "nothing to read")), result.stderr


def test_lldb_refuses_a_program_that_is_not_go_and_a_wrong_one(not_go, tmp_path):
    exe, core = not_go
    result = lldb(exe, "-c", core, commands=["gomap print main.M0"])
    assert "is not a Go program" in result.stderr and "Traceback" not in result.stdout + result.stderr
    # lldb prefers the program that the core names, as long as it is there.
    moved = tmp_path / "corrupt"
    shutil.copy(build.build("corrupt", "1.27.3"), moved)
    build.kernel_core(moved, tmp_path)
    moved.unlink()
    result = lldb(build.build("corrupt", "1.23.9"), "-c", tmp_path / "core", commands=["gomap print main.Sound"])
    assert "is not the program that this core was dumped from: its build ID is" in result.stderr, result.stderr
    assert "the core's is" in result.stderr and not documents(result.stdout)


@BOTH
def test_lldb_says_what_is_wrong_in_a_readable_map(version):
    dump = build.dump("corrupt", version)
    names = ["main.OffByOne", "main.Writing", "main.BadTable" if version == "1.27.3" else "main.Cycle"]
    result = lldb(dump.exe, "-c", dump.core, commands=[f"gomap print {name} --json" for name in names])
    states = [" ".join(document["map"]["state"]) for document in documents(result.stdout)]
    wanted = ["2000 live slots were found", "a goroutine was writing", "not in this core" if version == "1.27.3" else "returns to itself"]
    assert len(states) == 3 and all(want in state for want, state in zip(wanted, states)), states


def test_lldb_without_a_target_says_so():
    for arguments in ((), (build.build("corrupt", "1.27.3"),)):
        result = lldb(*arguments, commands=["gomap print main.M0"])
        assert "open a core (target create EXE --core CORE), or run or attach" in result.stderr
