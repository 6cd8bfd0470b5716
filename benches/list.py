"""`gomap list` over a core of 2 GB, Ctrl-C in it, and the first answer on a large stripped binary; part of `make bench`.

python3 benches/list.py [--go VERSION] [--quick]
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "core-samples"), str(ROOT / "benches")]

import build  # noqa: E402
from bench import mapscope, row  # noqa: E402
from debugger import GDB, big_program  # noqa: E402

#: Run inside gdb: asks once in full, then stops the same at points spread over it, or over its first seconds.
INTERRUPTS = """
import gdb, os, signal, threading, time
def interrupt():
    global sent
    sent = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)
gdb.execute("gomap list --limit 1", to_string=True)
def stopped_after(seconds):
    timer = threading.Timer(seconds, interrupt)
    timer.start()
    start = time.monotonic()
    try:
        gdb.execute({command!r}, to_string=True)
    except gdb.error:
        print("STOPPED", time.monotonic() - sent)
    timer.cancel()
    return time.monotonic() - start
whole = stopped_after(6)
for i in range({points}):
    stopped_after(whole * (i + 0.5) / {points})
"""
POINTS = 12


def scan(version, share):
    """One row for each way to list the core of a large heap."""
    maps, objects = 1_000_000 // share, 10_000_000 // share
    print(f"`list` on a core of {maps:,} maps and {objects:,} other objects, Go {version}, {os.cpu_count()} cores\n")
    row("build", "maps", "heap MB", "seconds", "GB of heap/s (limit 1)", "peak MB", "peak / heap (limit 0.125)")
    row(*["---"] * 7)
    for variant in ("default", "stripped"):
        dump = build.dump("heap", version, variant, args=(str(maps), str(objects)))
        [truth] = build.read_truth(dump.truth)
        # The first run brings the core into the page cache.
        best = min((mapscope(dump, "list", "--limit", "3") for _ in range(3)), key=lambda run: run[0])
        seconds, peak, output = best
        found = re.search(r"^(\d+) maps, (\d+) entries", output, re.M)
        assert found and int(found[1]) >= truth["maps"] and int(found[2]) >= truth["entries"], output[-500:]
        heap = truth["heap"]
        row(variant, f"{int(found[1]):,}", f"{heap / 1e6:,.0f}", f"{seconds:.2f}", f"{heap / seconds / 1e9:.2f}", f"{peak:.0f}",
            f"{peak * (1 << 20) / heap:.3f}")


def interrupts(version, share):
    """One row for each command that goes over all maps: Ctrl-C at points spread over all its phases."""
    maps, objects = 1_000_000 // share, 10_000_000 // share
    print()
    row(f"Ctrl-C among {maps:,} maps", "build", "interrupts", "prompt after, ms (limit 200)", "worst")
    row(*["---"] * 5)
    for words in ("list", "list --where elem=~/nothing/", "check --all", "why --all '\"attribute 7 \"'"):
        for variant in ("default", "stripped"):
            dump = build.dump("heap", version, variant, args=(str(maps), str(objects)))
            with tempfile.TemporaryDirectory() as work:
                script = Path(work) / "interrupts.py"
                script.write_text(INTERRUPTS.format(command=f"gomap {words} -o /dev/null", points=POINTS))
                line = [*GDB, "-x", ROOT / "gdbinit", dump.exe, dump.core, "-x", script]
                answer = subprocess.run(list(map(str, line)), cwd=work, capture_output=True, text=True)
            took = [1000 * float(line.split()[1]) for line in answer.stdout.splitlines() if line.startswith("STOPPED")]
            # The last points may come after a faster run's end.
            assert len(took) > POINTS // 2, answer.stdout + answer.stderr
            row(words, variant, len(took), f"{statistics.median(took):.0f}", f"{max(took):.0f}")


def first_answer(version):
    """Opening a large stripped program, to the first answer: the types of all its maps by name, and one map."""
    exe, core = big_program(version)
    known = build.Dump(exe, core, None)
    head = json.loads(mapscope(known, "print", "main.cache", "--json")[2])["map"]
    with tempfile.TemporaryDirectory() as work:
        stripped = Path(work) / exe.name
        subprocess.run(["strip", "-s", "-o", stripped, exe], check=True)
        words = ["print", head["address"], "--type", "map[string]int", "--limit", "1"]
        runs = [mapscope(build.Dump(stripped, core, None), *words) for _ in range(5)]
        seconds, _, output = min(runs, key=lambda run: run[0])
        assert f"{head['count']} entries" in output, output
        size = stripped.stat().st_size / 1e6
    print()
    row("stripped program MB", "first answer, s (limit 0.3)")
    row(*["---"] * 2)
    row(f"{size:.0f}", f"{seconds:.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--go", default="1.27.3")
    parser.add_argument("--quick", action="store_true", help="a tenth of the objects, to see that it runs")
    options = parser.parse_args()
    scan(options.go, 10 if options.quick else 1)
    interrupts(options.go, 10 if options.quick else 1)
    first_answer(options.go)


if __name__ == "__main__":
    main()
