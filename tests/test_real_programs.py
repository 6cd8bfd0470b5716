"""Programs that nobody wrote for us: the compiler, the linker and vet of the toolchains, stopped in the middle of work."""

import json
import os
import subprocess

import pytest
import toolchains
from conftest import gdb

VERSIONS = ("1.23.9", "1.27.3")
MAIN = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n'


def go(version, *words, cwd=None):
    """Runs the go command of this version; returns what it prints."""
    environment = {**os.environ, **toolchains.environment(version)}
    line = [toolchains.go(version), *map(str, words)]
    return subprocess.run(line, env=environment, cwd=cwd, capture_output=True, text=True, check=True).stdout


def unicode_files(version):
    """The files of package unicode: real work, and it imports nothing."""
    directory = toolchains.go(version).parent.parent / "src/unicode"
    return [str(f) for f in sorted(directory.glob("*.go")) if not f.name.endswith("_test.go")]


def compile_work(version, tmp_path):
    return ["-p", "unicode", "-complete", "-o", tmp_path / "unicode.a", *unicode_files(version)]


def link_work(version, tmp_path):
    (tmp_path / "main.go").write_text(MAIN)
    (tmp_path / "go.mod").write_text("module example\n")
    form = "{{if .Export}}packagefile {{.ImportPath}}={{.Export}}{{end}}"
    packages = go(version, "list", "-deps", "-export", "-f", form, ".", cwd=tmp_path).split("\n")
    main = next(p for p in packages if p.startswith("packagefile example="))
    config = tmp_path / "importcfg"
    config.write_text("\n".join(p for p in packages if p and p != main) + "\n")
    return ["-importcfg", config, "-o", tmp_path / "linked", main.split("=", 1)[1]]


def vet_work(version, tmp_path):
    files = unicode_files(version)
    config = dict(ID="unicode", Compiler="gc", Dir=os.path.dirname(files[0]), ImportPath="unicode", GoFiles=files,
                  NonGoFiles=[], IgnoredFiles=[], ImportMap={}, PackageFile={}, Standard={"unicode": True}, PackageVetx={},
                  VetxOnly=False, VetxOutput="", SucceedOnTypecheckFailure=False, GoVersion="go1.23")
    (tmp_path / "vet.cfg").write_text(json.dumps(config))
    return [tmp_path / "vet.cfg"]


#: Run in gdb: prints ten of the listed maps, all of different types, and notes the count that gdb reads.
TEN = """
import argparse, gdb, json
from mapscope import commands
from mapscope.gdb import FRONT
maps = json.load(open("listed"))["maps"]
# Every path leads back to its map.
lost = []
for m in maps:
    try:
        found = "%#x" % commands.find_map(FRONT, argparse.Namespace(map=m["path"], type=None)).address
    except commands.Error as error:
        found = str(error)
    if found != m["address"]:
        lost.append((m["path"], m["address"], found))
json.dump(lost, open("lost", "w"))
types = {}
for m in maps:
    if m["layout"] != "sync" and m["found"] == "reached" and m["count"] and not m.get("or"):
        types.setdefault(m["type"], m)
with open("counts", "w") as counts:
    for number, m in enumerate(list(types.values())[:10]):
        gdb.execute("gomap print %s --type '%s' --json --limit 0 -o map%d" % (m["address"], m["type"], number))
        word = int.from_bytes(gdb.selected_inferior().read_memory(int(m["address"], 16), 8).tobytes(), "little")
        counts.write("%d %d\\n" % (number, word))
# The same map with its pointers followed: each entry leads into the program's whole graph.
m = next(iter(types.values()))
gdb.execute("set gomap depth 3")
gdb.execute("set gomap follow-limit 20")
gdb.execute("gomap print %s --type '%s' --json --limit 0 -o deep" % (m["address"], m["type"]))
"""

PROGRAMS = {
    "compile": (compile_work, "cmd/compile/internal/ssagen.Compile", 10),
    "link": (link_work, "cmd/link/internal/ld.(*Link).dodata", 0),
    "vet": (vet_work, "go/types.(*Checker).funcBody", 5),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_maps_of_a_real_program_in_the_middle_of_its_work(program, version, tmp_path):
    work, function, passed = PROGRAMS[program]
    exe = toolchains.cache_dir() / "real" / f"{program}-{version}"
    if not exe.exists():
        with toolchains.locked(exe):
            go(version, "build", "-o", exe, f"cmd/{program}")
    symbols = subprocess.run(["nm", exe], capture_output=True, text=True, check=True).stdout
    [address] = [line.split()[0] for line in symbols.splitlines() if line.endswith(" " + function)]
    arguments = " ".join(str(argument) for argument in work(version, tmp_path))
    stop = ["handle SIGURG nostop noprint pass", f"break *0x{address}", f"ignore 1 {passed}", f"run {arguments}"]
    (tmp_path / "ten.py").write_text(TEN)
    files = {name: tmp_path / name for name in ("listed", "checked", "counts")}
    result = gdb("-iex", "set auto-load off", exe, cwd=tmp_path, commands=[
        *stop, "gomap list --json --limit 0 -o listed", "gomap check --all --json -o checked", "set gomap depth 0", "source ten.py", "kill"])
    assert all(path.exists() for path in files.values()), result.stdout[-1500:] + result.stderr[-1500:]
    listed, checked = (json.loads(files[name].read_text())["maps"] for name in ("listed", "checked"))
    broken = [(m["map"]["path"], f) for m in checked for f in m["findings"] if f["severity"] != "info"]
    assert len(checked) == len(listed) > 30 and not broken
    assert sum(m["keys_checked"] for m in checked) > 1000
    assert json.loads((tmp_path / "lost").read_text()) == []

    # gdb itself reads the count: the first word of either header.
    counts = [line.split() for line in files["counts"].read_text().splitlines()]
    assert len(counts) == 10
    for number, count in counts:
        answer = json.loads((tmp_path / f"map{number}").read_text())
        assert answer["map"]["layout"] == ("classic" if version < "1.24" else "swiss")
        assert answer["shown"] == len(answer["entries"]) == answer["map"]["count"] == int(count) > 0
        keys = [json.dumps(entry["key"], sort_keys=True) for entry in answer["entries"]]
        assert len(set(keys)) == len(keys) and "$unreadable" not in "".join(keys)
    # Without the bound some of these answers have more than 10^10 bytes.
    deep = tmp_path / "deep"
    assert deep.stat().st_size < 2e8
    assert len(json.loads(deep.read_text())["entries"]) == int(counts[0][1])
