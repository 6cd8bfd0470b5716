"""Lookups where something is missing or broken: a map torn by a race, a core without the hash state, a hash function
that nobody knows, no time for all keys. `get`, `why` and `check` agree with what the program itself found."""

import os
import pty
import struct
import subprocess
import sys

import build
import pytest
import toolchains
from conftest import EVERYTHING, ROOT, cli, documents, gdb

VERSIONS = toolchains.VERSIONS if EVERYTHING else ("1.21.13", "1.23.9", "1.24.11", "1.27.3")
EACH = pytest.mark.parametrize("version", VERSIONS)
PAGE = 4096


def ask(dump, *lines):
    """The documents that gdb answers to these lines, `gomap` and --json left out."""
    answer = gdb(dump.exe, dump.core, commands=[f"gomap {line} --json" for line in lines])
    assert "Traceback" not in answer.stdout + answer.stderr
    found = documents(answer.stdout)
    assert len(found) == len(lines), answer.stderr[-2000:]
    return found


@EACH
def test_a_map_torn_by_a_race_is_read_as_the_program_itself_finds_it(version):
    dump = build.dump("racing", version, args=("torn",))
    [truth] = build.read_truth(dump.truth)
    got, lost, size = dict(truth["got"]), set(truth["lost"]), 64
    assert lost and size > len(got)
    keys = [f"main.Torn {{{k}}}" for k in range(size)]
    printed, checked, *answers = ask(
        dump, "print main.Torn --limit 0", "check main.Torn", *map("get {}".format, keys), *map("why {}".format, keys))
    entries = [[entry["key"][0], entry["elem"]["V"]] for entry in printed["entries"]]
    assert sorted(entries) == sorted(truth["ranged"])
    for k, (get, why) in enumerate(zip(answers[:size], answers[size:])):
        assert get["found"] == (k in got), (k, get["verdict"])
        if k in got:
            assert get["elem"]["V"] == got[k]
        assert why["verdict"] == ("present" if k in got else "unreachable" if k in lost else "absent"), k
        assert ("stored_at" in why) == (k in lost)
    findings = checked["maps"][0]["findings"]
    misplaced = [finding for finding in findings if finding["kind"] == "misplaced-key"]
    assert len(misplaced) >= len(lost) and all(finding["severity"] == "error" for finding in findings)
    assert all(finding["meaning"] for finding in findings)
    if truth["len"] != len(truth["ranged"]):
        assert "count-mismatch" in {finding["kind"] for finding in findings}
    text = cli("--core", dump.exe, dump.core, "check", "main.Torn")
    assert text.returncode == 1 and "misplaced-key means: lookups may not find this entry" in text.stdout


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_a_map_in_which_the_runtime_caught_a_race_is_read_to_its_end(version):
    dump = build.dump("racing", version)
    assert "fatal error: concurrent map" in (dump.core.parent / "traceback.txt").read_text(errors="replace")
    keys = range(0, 512, 8)
    *answers, checked = ask(dump, *(f"get main.Shared {k}" for k in keys), *(f"why main.Shared {k}" for k in keys),
                            "check main.Shared")
    # What is left is anybody's guess, but each elem is the number of one of the four writers.
    assert all(answer["elem"] in range(4) for answer in answers[: len(keys)] if answer["found"])
    assert all(finding["meaning"] for finding in checked["maps"][0]["findings"])


def without_page(core, address, target):
    """Copies a core to `target` without the page of memory at `address`. Returns whether it was there before."""
    data = bytearray(core.read_bytes())
    table, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [table + size * i for i in range(count)]
    read = lambda at: struct.unpack_from("<IIQQQQQQ", data, at)  # type, flags, offset, vaddr, paddr, filesz, memsz, align
    page, loads = address & -PAGE, [at for at in headers if read(at)[0] == 1]
    [holder] = [at for at in loads if read(at)[3] <= page < read(at)[3] + read(at)[5]]
    kind, flags, offset, vaddr, paddr, filesz, memsz, align = read(holder)
    # The part behind the page takes the place of a segment that no test needs: one with no bytes in the file.
    spare = next(at for at in loads if read(at)[5] == 0)
    before, after = page - vaddr, page - vaddr + PAGE
    struct.pack_into("<IIQQQQQQ", data, spare, kind, flags, offset + after, page + PAGE, paddr, filesz - after,
                     memsz - after, align)
    struct.pack_into("<IIQQQQQQ", data, holder, kind, flags, offset, vaddr, paddr, before, before, align)
    target.write_bytes(data)


def symbol(exe, name):
    symbols = subprocess.run(["nm", exe], capture_output=True, text=True, check=True).stdout.splitlines()
    [address] = [line.split()[0] for line in symbols if line.split()[-1] == name]
    return int(address, 16)


@EACH
def test_a_core_without_the_hash_state_still_finds_keys_and_says_how(version, tmp_path):
    dump = build.dump("misses", version)
    package = "internal/runtime/maps" if version.startswith("1.27") else "runtime"
    core = tmp_path / "core"
    without_page(dump.core, symbol(dump.exe, package + ".aeskeysched"), core)
    maimed = build.Dump(dump.exe, core, dump.truth)
    address = {m: d["map"]["address"] for m, d in zip(("Names", "Numbers"), ask(
        dump, "stats main.Names", "stats main.Numbers"))}
    names = f"{address['Names']} --type 'map[string]int'"
    numbers = f"{address['Numbers']} --type 'map[int64]string'"
    whole = ask(dump, 'get main.Names "alice"', "get main.Numbers 7000001")
    found, number, absent, why, checked = ask(
        maimed, f'get {names} "alice"', f"get {numbers} 7000001", f'get {names} "Alice"', f'why {names} "Alice"',
        f"check {names}")
    for was, now in zip(whole, (found, number)):
        assert now["found"] and (now["elem"], now["where"]) == (was["elem"], was["where"])
    assert not absent["found"]
    for answer in (found, number, absent, why):
        [note] = [note for note in answer["map"]["state"] if "every key was compared" in note]
        assert "because no hash could be computed: " in note and "is not in this core" in note
    assert why["verdict"] == "absent" and why["path"] == [] and "hash" not in why
    assert why["near"][0]["relation"] == "case"
    [report] = checked["maps"]
    assert report["findings"] == [] and report["keys_checked"] == 0 and "is not in this core" in report["unchecked"]
    text = cli("--core", dump.exe, core, "check", *names.replace("'", "").split(" ", 2)).stdout
    assert "keys were not checked against their hash: memory at" in text


@EACH
def test_a_hash_function_that_is_not_known_is_said(version):
    dump = build.dump("ownhash", version)
    found, absent, why, checked = ask(
        dump, "get main.Made '{7, -7}'", "get main.Made '{7, 7}'", "why main.Made '{7, 7}'", "check main.Made")
    assert found["found"] and found["elem"] == 70 and not absent["found"]
    for answer in (found, absent, why):
        assert any("the hash function main.ownHash is not known" in note for note in answer["map"]["state"])
    assert why["verdict"] == "absent" and why["near"][0]["key"] == {"A": 7, "B": -7}
    [report] = checked["maps"]
    assert report["findings"] == [] and "main.ownHash is not known" in report["unchecked"]


def test_why_ends_in_time_and_says_so(tmp_path):
    dump = build.dump("big", "1.27.3", args=("int64int64", "5000000"))
    cut, whole = (documents(cli("--core", dump.exe, dump.core, "why", "main.int64int64", "-77", "--budget", budget,
                                "--json").stdout)[0] for budget in ("0.001", "0"))
    assert 0 < cut["compared"] < whole["compared"] == 5_000_000
    [note] = cut["map"]["state"]
    assert note.startswith(f"only {cut['compared']} of 5000000 stored keys were compared within 0.001 s")
    assert note.endswith("--budget 0 compares all") and not whole["map"]["state"]
    assert cut["verdict"] == whole["verdict"] == "absent" and cut["hash"] == whole["hash"]
    assert whole["near"][0]["relation"] in ("numeric", "width")
    text = cli("--core", dump.exe, dump.core, "why", "main.int64int64", "-77", "--budget", "0.001").stdout
    assert "  note: only " in text
    for bad in ("-1", "soon"):
        answer = cli("--core", dump.exe, dump.core, "why", "main.int64int64", "-77", "--budget", bad)
        assert answer.returncode == 2 and "argument --budget" in answer.stderr


def test_a_terminal_sees_how_far_a_long_search_is():
    dump = build.dump("big", "1.27.3", args=("int64int64", "5000000"))
    line = [sys.executable, "-m", "mapscope.cli", "--core", dump.exe, dump.core, "why", "main.int64int64", "-77",
            "--budget", "0", "--json"]
    master, slave = pty.openpty()
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=slave, text=True,
                          env=dict(os.environ, PYTHONPATH=str(ROOT / "python"))) as process:
        os.close(slave)
        answer = process.stdout.read()
        shown = b""
        try:
            while piece := os.read(master, 1 << 16):
                shown += piece
        except OSError:
            pass  # the terminal's other end is closed
        os.close(master)
    assert documents(answer)[0]["compared"] == 5_000_000
    steps = [int(step.split(b" of ")[0]) for step in shown.replace(b"\x1b[K", b"").split(b"\r") if b" of " in step]
    assert steps and steps == sorted(steps), shown[:200]
