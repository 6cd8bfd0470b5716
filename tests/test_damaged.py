"""Programs without DWARF that are damaged, obfuscated, packed, or lack what is needed: a sentence each, and soon."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys

import build
import elf_parts
import oracle
import pytest
import shipped
from conftest import EVERYTHING, ROOT, cli, documents

VERSIONS = ("1.23.9", "1.27.3")
BOTH = pytest.mark.parametrize("version", VERSIONS)
#: Damages tried of each version; the bounds are for a machine that does other things too.
TIMES = 400 if EVERYTHING else 40
SECONDS = 20


def copies(dump, tmp_path):
    exe, core = tmp_path / dump.exe.name, tmp_path / "core"
    shutil.copy(dump.exe, exe)
    with open(dump.core, "rb") as source:
        build.copy_sparse(source, core)
    return exe, core


@BOTH
def test_damaged_tables_end_in_a_sentence_and_never_in_a_panic(version, tmp_path):
    dump = build.dump("maps", version, "stripped")
    exe, core = copies(dump, tmp_path)
    [m0] = [t for t in build.read_truth(dump.truth) if t["name"] == "main.M0"]
    line = [sys.executable, ROOT / "tests/mutate.py", exe, core, m0["address"], m0["type"], "7", str(TIMES)]
    environment = dict(os.environ, PYTHONPATH=f"{ROOT / 'python'}:{ROOT / 'tests'}")
    answer = subprocess.run(list(map(str, line)), capture_output=True, text=True, env=environment, timeout=SECONDS * TIMES)
    tried = [json.loads(line) for line in answer.stdout.splitlines()]
    assert answer.returncode == 0 and len(tried) == 1 + TIMES, answer.stderr[-2000:]
    said = [[(status, out) for status, _, out, _ in damage["answers"]] for damage in tried]
    assert all(status == 0 for status, _ in said[0])
    for damage in tried:
        for status, seconds, out, err in damage["answers"]:
            assert status in (0, 2) and seconds < SECONDS and "mapscope failed" not in err, damage
            assert status == 0 or (out == "" and err.count("\n") == 1), damage
    # Damages that nobody notices would prove nothing.
    assert sum(one != whole for answers in said[1:] for one, whole in zip(answers, said[0])) > TIMES // 4


@BOTH
def test_obfuscated_names_are_names(version, tmp_path):
    """As garble does it: hashes in place of the names of the program's types, fields and functions."""
    dump = build.dump("everywhere", version, "stripped")
    source = (ROOT / "core-samples/everywhere/main.go").read_text()
    names = {n for n in re.findall(r"^\t?(\w+)(?:\[K[^\n]*\])?\s+(?:struct|interface|map|\[)", source, re.M) if len(n) > 4}
    names |= {"Field", "Cache", "values"}
    assert {"inStruct", "inSlice", "guarded", "behind", "generic"} <= names
    # Of equal length, and capital where the name was.
    hashed = lambda name: (name[0] + hashlib.sha256(name.encode()).hexdigest())[:len(name)]  # noqa: E731
    exe = tmp_path / "everywhere"
    data = dump.exe.read_bytes()
    for name in names:
        data = re.sub(rb"(?<![A-Za-z0-9_])%s(?![A-Za-z0-9_])" % name.encode(), hashed(name).encode(), data)
        # Before the name of a descriptor is its length.
        data = data.replace(bytes([len(name)]) + name.encode(), bytes([len(name)]) + hashed(name).encode())
    exe.write_bytes(data)
    answer = cli("--core", exe, dump.core, "list", "--json")
    found = {m["address"]: m for m in documents(answer.stdout)[0]["maps"]}
    truth = build.read_truth(dump.truth)
    hits = [(t, found[t["address"]]) for t in truth if t["address"] in found]
    assert len(hits) >= 0.95 * len(truth) and all(m["count"] == t["len"] for t, m in hits)
    [slices] = {t["type"] for t in truth if t["type"] == "map[string]*main.inSlice"}
    garbled = slices.replace("inSlice", hashed("inSlice"))
    assert all(garbled in (m["type"], *m.get("or", ())) for t, m in hits if t["type"] == slices)
    checked = cli("--core", exe, dump.core, "check", "--all")
    assert checked.returncode == 0, checked.stdout[-500:]


@BOTH
def test_a_packed_or_encrypted_program_is_refused(version, tmp_path):
    dump = build.dump("maps", version, "stripped")
    exe = tmp_path / "maps"
    data = bytearray(dump.exe.read_bytes())
    # What packers leave: headers, and bytes that look random.
    noise = hashlib.shake_256(b"packed").digest(len(data) - 8192)
    exe.write_bytes(bytes(data[:8192]) + noise)
    answer = cli("--core", exe, dump.core, "list")
    assert answer.returncode == 2 and "is not a Go program" in answer.stderr and answer.stderr.count("\n") == 1
    # The version can be read, but the tables are not where the file says.
    for name in (".gopclntab", ".typelink", ".go.type"):
        if name in (parts := elf_parts.sections(dump.exe)):
            _, offset, size = parts[name]
            data[offset:offset + size] = noise[:size]
    exe.write_bytes(data)
    for words in (["list"], ["print", "0x10"], ["goroutines"]):
        answer = cli("--core", exe, dump.core, *words)
        assert answer.returncode == 2 or "not found" in answer.stdout, answer.stdout
        assert "Traceback" not in answer.stderr and answer.stderr.count("\n") <= 1


@BOTH
def test_a_program_packed_by_upx_is_read_by_what_it_was_before(version, tmp_path):
    exe = build.build("maps", version)
    packed = tmp_path / "packed"
    try:
        upx, environment = shipped.upx()
    except shipped.Unavailable as reason:
        pytest.skip(str(reason))
    subprocess.run([upx, "-q", "-1", "-o", packed, exe], env=environment, check=True, capture_output=True)
    with build.live(packed) as live:
        for target in (["--pid", live.pid], ["--core", packed, build.dump("maps", version).core]):
            answer = cli(*target, "list")
            assert answer.returncode == 2 and "is packed by UPX" in answer.stderr and answer.stderr.count("\n") == 1
        subprocess.run(["gdb", "-nx", "-batch", "-p", str(live.pid), "-ex", f"gcore {tmp_path}/core"], capture_output=True)
        [truth] = [m for m in live.truth if m["name"] == "main.M8"]
    [document] = documents(cli("--core", exe, tmp_path / "core", "print", "main.M8", "--limit", "0", "--json").stdout)
    assert len(document["entries"]) == truth["len"] and not oracle.differences(truth, document)


@BOTH
def test_a_version_older_than_known_is_said(version, tmp_path):
    dump = build.dump("maps", version, "stripped")
    exe = tmp_path / "maps"
    exe.write_bytes(dump.exe.read_bytes().replace(b"go" + version.encode(), b"go1.17." + version.encode()[5:]))
    answer = cli("--core", exe, dump.core, "list")
    assert "go1.17" in answer.stderr + answer.stdout and "is older than Go" in answer.stderr + answer.stdout
    assert "Traceback" not in answer.stderr


@BOTH
def test_a_core_without_the_heaps_metadata_says_so(version, tmp_path):
    dump = build.dump("maps", version)
    _, core = copies(dump, tmp_path)
    nm = subprocess.run(["nm", "-S", dump.exe], capture_output=True, text=True, check=True).stdout
    heap = next(line.split() for line in nm.splitlines() if line.endswith(" runtime.mheap_"))
    with open(core, "r+b") as file:
        file.seek(elf_parts.offset_in(core, int(heap[0], 16)))
        file.write(bytes(int(heap[1], 16)))
    answer = cli("--core", dump.exe, core, "list", "--json")
    [document] = documents(answer.stdout)
    truth = [t for t in build.read_truth(dump.truth) if t["layout"] != "sync" and t["address"] != "0x0"]
    # Variables still lead to maps.
    assert {t["address"] for t in truth} <= {m["address"] for m in document["maps"]}
    assert any("heap was not searched" in note for note in document["notes"]) and "heap_bytes" not in document["summary"]
    stripped = tmp_path / "maps"
    subprocess.run(["strip", "-s", "-o", stripped, dump.exe], check=True)
    answer = cli("--core", stripped, core, "list")
    assert answer.returncode == 0 and "the runtime's list of heap spans was not found" in answer.stdout
    assert "no DWARF" in answer.stdout
