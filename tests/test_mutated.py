"""Maps whose memory was overwritten at random: every verb answers or refuses in one sentence, and comes to an end."""

import json
import struct
import subprocess
import sys
import textwrap

import build
import pytest
from conftest import EVERYTHING, ROOT, cli, documents

ROUNDS = 1000 if EVERYTHING else 60
#: Seconds for all rounds of one core: an endless loop is what this is about, not speed.
PATIENCE = 600

#: Runs in a process of its own, so that a loop without an end is a failure and not the end of the tests.
SCRIPT = textwrap.dedent("""
    import json, os, random, struct, sys
    from mapscope import _native, cli, commands

    exe, core, scratch, places, rounds, seed = sys.argv[1:]
    places, rounds, rng = json.loads(places), int(rounds), random.Random(int(seed))
    with open(core, "rb") as file:
        sound = file.read()
    answers = {"answered": 0, "refused": 0, "findings": 0}
    for number in range(rounds):
        mutated = bytearray(sound)
        name, key, spots = rng.choice(places)
        for _ in range(rng.choice((1, 1, 2, 8))):
            offset, size, pointers = rng.choice(spots)
            at = offset + rng.randrange(size)
            kind = rng.randrange(4)
            if kind == 0:
                mutated[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                mutated[at] = rng.choice((0, 1, 2, 3, 4, 5, 0x7f, 0x80, 0xfe, 0xff))
            else:
                # A word that leads into the map itself, nowhere, or to the end of memory.
                word = rng.choice((*pointers, 0, 8, 1 << 47, (1 << 64) - 8, rng.getrandbits(64)))
                struct.pack_into("<Q", mutated, at & -8, word)
        with open(scratch, "wb") as file:
            file.write(mutated)
        front = cli.CliFront(lambda: _native.Session.core(scratch, exe))
        front.write = lambda text: None
        for words in (["print", name, "--limit", "20"], ["get", name, key], ["why", name, key, "--budget", "1"],
                      ["check", name], ["stats", name], ["buckets", name]):
            try:
                answers["findings"] += commands.run(front, words)
                answers["answered"] += 1
            except commands.Error as error:
                said = str(error)
                assert "please report this" not in said and "\\n" not in said, (number, words, said)
                answers["refused"] += 1
    print(json.dumps(answers))
""")


def segments(core):
    """(address, offset in the file, bytes) of each part of memory in a core."""
    data = core.read_bytes()
    table, = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for at in range(table, table + size * count, size):
        kind, _, offset, address, _, length, _, _ = struct.unpack_from("<IIQQQQQQ", data, at)
        if kind == 1 and length:
            yield address, offset, length


def offset_of(parts, address):
    return next(offset + address - start for start, offset, length in parts if start <= address < start + length)


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_overwritten_maps_are_read_to_an_end(version, tmp_path):
    dump = build.dump("misses", version)
    parts, memory = list(segments(dump.core)), dump.core.read_bytes()
    places = []
    for name, key in (("main.Names", '"order-A"'), ("main.Numbers", "-7000001"), ("main.Anything", "int64(42)"),
                      ("main.Sessions", '{User: "bob"}'), ("main.Digests", "{1}"), ("main.Typed", '"u1"'),
                      ("main.Words", '"kubernetes"')):
        [layout] = documents(cli("--core", dump.exe, dump.core, "buckets", name, "0-40", "--json").stdout)
        header = int(layout["map"]["address"], 16)
        cells = [int(cell["address"], 16) for cell in layout.get("buckets", [])]
        if not cells:
            # A sync.Map: what its words lead to.
            words = struct.unpack_from("<6Q", memory, offset_of(parts, header))
            cells = [word for word in words if any(start <= word < start + size - 104 for start, _, size in parts)]
        # The header and what lies beside it; buckets or groups, whose size differs by map.
        spots = [(offset_of(parts, header), 48, (header, *cells[:3]))]
        spots += [(offset_of(parts, cell), 104, (header, cell, *cells[:3])) for cell in cells]
        places.append((name, key, spots))
    script = tmp_path / "mutate.py"
    script.write_text(SCRIPT)
    line = [sys.executable, script, dump.exe, dump.core, tmp_path / "core", json.dumps(places), str(ROUNDS), "7"]
    result = subprocess.run(list(map(str, line)), capture_output=True, text=True, timeout=PATIENCE,
                            env={"PYTHONPATH": str(ROOT / "python")})
    assert result.returncode == 0, result.stderr[-3000:]
    [answers] = documents(result.stdout)
    # Some mutations are harmless, some break the header, some are found.
    assert answers["answered"] > answers["refused"] > 0 and answers["findings"] > ROUNDS / 4, answers

