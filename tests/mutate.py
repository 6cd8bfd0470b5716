"""Asks for maps of a stripped program whose files are damaged, in one process: python3 mutate.py EXE CORE SEED TIMES.

Damages are written into copies of both files, at the module data, the function table, the descriptors' list and the
descriptors, tried, and undone. Prints a line of JSON for each: what was damaged, how long the answers took, and what
was said; the first is of the files as they are.
"""

import contextlib
import io
import json
import random
import struct
import sys
import time

import elf_parts
from mapscope import cli

VALUES = (0, 1, 0xFF, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 47, 1 << 63, (1 << 64) - 1)


def damages(random, places, times):
    """(name, [(file, offset, bytes)]) of damages to one place each, of one to eight words or bytes."""
    for _ in range(times):
        name = random.choice(sorted(places))
        which, start, length = places[name]
        writes = []
        for _ in range(random.randint(1, 8)):
            # Beginnings hold headers and the runtime's own types: what is used first.
            reach = length if random.random() < 0.5 else min(length, 1 << 10)
            if random.random() < 0.5:
                at, data = start + random.randrange(reach), bytes([random.randrange(256)])
            else:
                at = start + random.randrange(reach) // 8 * 8
                data = struct.pack("<Q", random.choice([*VALUES, random.getrandbits(64), random.getrandbits(32)]))
            writes.append((which, at, data))
        yield name, writes


def ask(argv):
    out, err = io.StringIO(), io.StringIO()
    start = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(argv)
    return status, time.monotonic() - start, out.getvalue(), err.getvalue()


def main():
    exe, core, address, type_name, seed, times = sys.argv[1:]
    files = {"exe": open(exe, "r+b"), "core": open(core, "r+b")}
    verbs = (["list", "--limit", "3"], ["print", address, "--type", type_name, "--limit", "2"], ["goroutines"])
    chosen = damages(random.Random(int(seed)), elf_parts.places(exe, core), int(times))
    for name, writes in [("nothing", []), *chosen]:
        before = []
        for which, at, data in writes:
            files[which].seek(at)
            before.append((which, at, files[which].read(len(data))))
            files[which].seek(at)
            files[which].write(data)
            files[which].flush()
        answers = [ask(["--core", exe, core, *verb]) for verb in verbs]
        for which, at, data in reversed(before):
            files[which].seek(at)
            files[which].write(data)
            files[which].flush()
        print(json.dumps({"name": name, "writes": [(w, a, d.hex()) for w, a, d in writes], "answers": answers}), flush=True)


if __name__ == "__main__":
    main()
