"""The same verbs in lldb, on cores and on a live process."""

import glob
import os
import shutil
import subprocess

import build
import pytest
from conftest import ROOT, documents
from oracle import differences

LLDB = shutil.which("lldb-14") or shutil.which("lldb")
pytestmark = pytest.mark.skipif(LLDB is None, reason="lldb is not installed (apt-get install lldb-14 python3-lldb-14)")


def lldb(*arguments, commands):
    """Runs lldb in batch mode with our lldbinit and these commands."""
    line = [LLDB, "-b", "-s", str(ROOT / "lldbinit"), *map(str, arguments)]
    for command in commands:
        line += ["-o", command]
    # Debian's lldb finds neither its own Python package nor its interpreter when another one is on PATH.
    packages = glob.glob("/usr/lib/llvm-14/lib/python3*/dist-packages")
    environment = dict(os.environ, PATH="/usr/bin:" + os.environ["PATH"], PYTHONPATH=":".join(packages))
    return subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment)


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
@pytest.mark.parametrize("source", ("core", "live"))
def test_entries_equal_what_the_program_printed(version, source):
    def ask(truth, *arguments):
        names = [m["name"] for m in truth if m["name"].startswith("main.M")][:40]
        result = lldb(*arguments, commands=[f"gomap print {name} --limit 0 --json" for name in names])
        answers = documents(result.stdout)
        assert len(answers) == len(names), result.stdout[-2000:] + result.stderr[-2000:]
        by_name = {m["name"]: m for m in truth}
        assert not [d for name, answer in zip(names, answers) for d in differences(by_name[name], answer)]

    if source == "core":
        dump = build.dump("maps", version)
        ask(build.read_truth(dump.truth), dump.exe, "-c", dump.core)
    else:
        with build.live(build.build("maps", version)) as sample:
            ask(sample.truth, "-p", sample.pid)


def test_help_settings_and_errors():
    dump = build.dump("maps", "1.27.3")
    commands = ["gomap help", "gomap help print", "gomap set limit 1", "gomap print main.M0", "gomap print main.Nope"]
    result = lldb(dump.exe, "-c", dump.core, commands=commands)
    assert "gomap VERB [MAP] [OPTIONS]" in result.stdout and "--where PATTERN" in result.stdout
    assert "4 more; --limit 0 shows all" in result.stdout
    assert "has no package variable main.Nope" in result.stderr and "Traceback" not in result.stdout + result.stderr


def test_what_lldb_writes_is_seen_at_the_next_look():
    with build.live(build.build("maps", "1.27.3")) as sample:
        address, count = next((t["address"], t["len"]) for t in sample.truth if t["name"] == "main.M0")
        look = "gomap stats main.M0 --json"
        # The count is the header's first word.
        commands = [look, f"memory write -s 8 {address} {count - 1}", look, f"memory write -s 8 {address} {count}", look]
        answers = documents(lldb("-p", sample.pid, commands=commands).stdout)
        assert [a["map"]["count"] for a in answers] == [count, count - 1, count]
