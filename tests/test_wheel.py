"""What `pip install .` gives: one wheel with the library, a gdbinit that gdb can source, and a command."""

import os
import subprocess
import sys
import zipfile

import build
import pytest
from conftest import ROOT, documents

VERSION = "1.27.3"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The bin directory of a fresh virtual environment that holds only our wheel."""
    home = tmp_path_factory.mktemp("wheel")
    # maturin is among the tests' requirements, and cargo's own target directory holds what it needs.
    line = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(home), str(ROOT)]
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    subprocess.run(line, check=True, env=dict(os.environ, PATH=path))
    [wheel] = home.glob("*.whl")
    assert "-cp39-abi3-" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert {"mapscope/_native.abi3.so", "mapscope/gdbinit", "mapscope/lldbinit", "mapscope/gdb.py"} <= set(names), names
    subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
    subprocess.run([home / "venv/bin/pip", "install", "-q", "--no-index", wheel], check=True)
    return home / "venv/bin"


def run(*line):
    # Nothing of the source tree: what the wheel lacks must be missed.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(list(map(str, line)), capture_output=True, text=True, env=clean, cwd="/", timeout=120)


def test_the_command_answers(environment):
    dump = build.dump("maps", VERSION)
    result = run(environment / "mapscope", "--core", dump.exe, dump.core, "print", "main.M0", "--json")
    assert result.returncode == 0 and len(documents(result.stdout)[0]["entries"]) == 5, result.stderr
    assert run(environment / "mapscope", "--core", dump.exe, dump.core, "print", "main.Nope").returncode == 2
    assert "gomap VERB" in run(environment / "mapscope", "help").stdout


def test_gdb_sources_the_gdbinit_that_the_command_names(environment):
    dump = build.dump("maps", VERSION)
    gdbinit = run(environment / "mapscope", "gdbinit").stdout.strip()
    assert gdbinit.startswith(str(environment.parent)) and gdbinit.endswith("mapscope/gdbinit")
    line = ["gdb", "-nx", "-batch", "-iex", "set auto-load off", "-ex", f"source {gdbinit}", dump.exe, dump.core]
    result = run(*line, "-ex", "gomap print main.M0 --limit 0 --json", "-ex", "print 'main.M0'")
    assert len(documents(result.stdout)[0]["entries"]) == 5, result.stderr[-1500:]
    assert "$1 = map[string]int{" in result.stdout
