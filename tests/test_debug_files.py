"""Debug information wherever it may be: compressed or not, DWARF 4 and 5, in a file of its own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import build
import pytest
import toolchains
from conftest import cli, documents, gdb
from oracle import differences

#: Go writes DWARF 4 before 1.25, DWARF 5 from then on.
DWARF = {"1.23.9": 4, "1.27.3": 5}
BOTH = pytest.mark.parametrize("version", DWARF)
pytestmark = pytest.mark.skipif(shutil.which("objcopy") is None, reason="objcopy is not installed (apt-get install binutils)")


def objcopy(*arguments):
    subprocess.run(["objcopy", *map(str, arguments)], check=True, capture_output=True)


def sections(exe):
    """Name -> flags of the sections."""
    out = subprocess.run(["readelf", "-SW", exe], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"\] (\.\S+) +\S+ +[0-9a-f]+ [0-9a-f]+ [0-9a-f]+ +[0-9a-f]+ +([A-Z]*) ", out))


def check(exe, dump):
    """Every map of the sample shows what the program printed, with `exe` as its executable."""
    truth = build.read_truth(dump.truth)
    result = gdb(exe, dump.core, commands=[f"gomap print {m['name']} --limit 0 --json" for m in truth])
    answers = documents(result.stdout)
    assert len(answers) == len(truth), result.stderr[-2000:]
    assert not [d for want, got in zip(truth, answers) for d in differences(want, got)]


@BOTH
@pytest.mark.parametrize("form", ("zlib-gabi", "zlib-gnu", "none"))
def test_compressed_sections(version, form, tmp_path):
    dump = build.dump("maps", version)
    plain, exe = tmp_path / "plain", tmp_path / "exe"
    objcopy("--decompress-debug-sections", dump.exe, plain)
    objcopy(f"--compress-debug-sections={form}", plain, exe)
    found = sections(exe)
    assert {"zlib-gabi": "C" in found.get(".debug_info", ""), "zlib-gnu": ".zdebug_info" in found,
            "none": found.get(".debug_info") == ""}[form], found
    header = subprocess.run(["readelf", "--debug-dump=info", plain], capture_output=True, text=True).stdout[:2000]
    assert f"Version:       {DWARF[version]}" in header
    check(exe, dump)


def split(dump, directory, name="maps.debug"):
    """The sample without its DWARF, and the file that holds it."""
    exe, debug = directory / "maps", directory / name
    objcopy("--only-keep-debug", dump.exe, debug)
    objcopy("--strip-debug", f"--add-gnu-debuglink={debug}", dump.exe, exe)
    exe.chmod(0o755)
    assert not any("debug_info" in section for section in sections(exe))
    return exe, debug


@BOTH
@pytest.mark.parametrize("place", ("beside", ".debug"))
def test_a_debug_file_that_a_link_names(version, place, tmp_path):
    dump = build.dump("maps", version)
    exe, debug = split(dump, tmp_path)
    if place == ".debug":
        (tmp_path / ".debug").mkdir()
        debug.rename(tmp_path / ".debug" / debug.name)
    check(exe, dump)


def test_a_debug_file_in_the_build_id_directory(tmp_path):
    # Go's own linker writes a GNU build ID from 1.24 on.
    dump = build.dump("maps", "1.27.3")
    exe, debug = split(dump, tmp_path)
    objcopy("--remove-section=.gnu_debuglink", exe)
    notes = subprocess.run(["readelf", "-n", exe], capture_output=True, text=True, check=True).stdout
    build_id = re.search(r"Build ID: ([0-9a-f]+)", notes)[1]
    target = Path("/usr/lib/debug/.build-id") / build_id[:2] / f"{build_id[2:]}.debug"
    if os.geteuid() != 0:
        pytest.skip("only root can write to /usr/lib/debug")
    made = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.move(debug, target)
        check(exe, dump)
    finally:
        target.unlink(missing_ok=True)
        for parent in made:
            parent.rmdir()


@BOTH
def test_a_debug_file_of_another_build_is_not_used(version, tmp_path):
    dump = build.dump("maps", version)
    exe, debug = split(dump, tmp_path)
    [other] = set(DWARF) - {version}
    objcopy("--only-keep-debug", build.build("maps", other), debug)
    answer = cli("--core", exe, dump.core, "print", "main.M0")
    note, error = answer.stderr.splitlines()
    assert answer.returncode == 2 and "has no DWARF debug information" in error, answer.stderr
    assert f"the debug file {debug} is of another build, so it is not used: its build ID is" in note, answer.stderr


#: Two programs that differ in the order of a struct's fields only: without build IDs nothing but the checksum tells.
FIELDS = """package main
import ("fmt"; "os"; "runtime/debug"; "syscall")
type R struct { %s int64 }
var filler [4096]byte
var m = map[string]R{"x": {A: 11, B: 22, Pad: 1}}
func main() { debug.SetTraceback("crash"); fmt.Println(m["x"].A, m["x"].B, m["x"].Pad, filler[0]); syscall.Kill(os.Getpid(), syscall.SIGABRT); select {} }
"""


@pytest.mark.parametrize("version", ("1.19", "1.23.9", "1.24.11", "1.27.3"))
def test_without_build_ids_the_checksum_of_the_link_decides(version, tmp_path):
    for name, fields in (("a", "Pad, A, B"), ("b", "B, A, Pad")):
        (tmp_path / f"{name}.go").write_text(FIELDS % fields)
        subprocess.run([str(toolchains.go(version)), "build", "-ldflags=-buildid=" + (" -B none" if version >= "1.24" else ""),
                        "-o", tmp_path / name, tmp_path / f"{name}.go"], check=True, env=toolchains.environment(version))
        objcopy("--only-keep-debug", tmp_path / name, tmp_path / f"{name}.debug")
    debug, exe = tmp_path / "prog.debug", tmp_path / "prog"
    shutil.copy(tmp_path / "a.debug", debug)
    objcopy("--strip-debug", f"--add-gnu-debuglink={debug}", tmp_path / "a", exe)
    home = tmp_path / "core"
    home.mkdir()
    build.kernel_core(exe, home)
    words = ("--core", exe, home / "core", "print", "main.m", "--json")
    right = cli(*words)
    [entry] = documents(right.stdout)[0]["entries"]
    a, b, pad, _ = (home / "truth.jsonl").read_text().split()
    assert entry["elem"] == {"A": int(a), "B": int(b), "Pad": int(pad)} and "debug file" not in right.stderr
    shutil.copy(tmp_path / "b.debug", debug)
    wrong = cli(*words)
    assert wrong.returncode == 2 and not wrong.stdout, wrong
    assert f"the debug file {debug} is of another build, so it is not used: its CRC is" in wrong.stderr
    # What the core tells without names stands under that note too, in every front end.
    listed = documents(cli("--core", exe, home / "core", "list", "--json").stdout)[0]
    assert any(f"the debug file {debug}" in note for note in listed["notes"])
    shown = gdb(exe, home / "core", commands=["gomap list"])
    assert f"the debug file {debug}" in shown.stdout + shown.stderr


def test_a_compression_that_is_not_known_is_one_sentence(tmp_path):
    dump = build.dump("maps", "1.27.3")
    exe = tmp_path / "exe"
    plain = tmp_path / "plain"
    objcopy("--decompress-debug-sections", dump.exe, plain)
    if subprocess.run(["objcopy", "--compress-debug-sections=zstd", plain, exe], capture_output=True).returncode:
        pytest.skip("this objcopy cannot write zstd")
    answer = cli("--core", exe, dump.core, "print", "main.M0", "--json")
    assert "Traceback" not in answer.stderr
    assert answer.returncode == 0 or answer.stderr.count("\n") == 1, answer.stderr
