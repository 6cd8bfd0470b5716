"""Debug information wherever it may be: compressed or not, DWARF 4 and 5, in a file of its own."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import build
import pytest
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
    assert answer.returncode == 2 and "has no DWARF debug information" in answer.stderr, answer.stderr
    assert answer.stderr.count("\n") == 1


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
