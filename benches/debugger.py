"""What a user of gdb waits for: the first answer on a program of 100 MB, the prompt after Ctrl-C, a breakpoint's condition.

python3 benches/debugger.py [--go VERSION]      needs gdb and module mapscope (make build)
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "core-samples"), str(ROOT / "benches")]

import build  # noqa: E402
import bulk  # noqa: E402
import toolchains  # noqa: E402
from bench import row  # noqa: E402

RUNS = 7
GDB = ["gdb", "-nx", "-batch", "-iex", "set auto-load off"]

INTERRUPT = """
import gdb, os, signal, threading, time
os.mkfifo("answer")
def interrupt():
    global sent
    pipe = open("answer", "rb", buffering=0)
    time.sleep(0.05)
    sent = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)
    while pipe.read(1 << 20): pass
threading.Thread(target=interrupt).start()
try:
    gdb.execute("gomap print main.int64int64 --limit 0 {options} -o answer")
except gdb.error:
    print("STOPPED", time.monotonic() - sent)
"""


CALLS = 3000
#: Runs the program through a breakpoint with each condition, which never holds, and tells the seconds.
CONDITIONS = """
import gdb, time
class OneWord(gdb.Function):
    def invoke(self, value):
        return int.from_bytes(gdb.selected_inferior().read_memory(int(value), 8), "little")
OneWord("one_word")
gdb.execute("set pagination off")
gdb.execute("handle SIGURG nostop noprint pass", to_string=True)
for condition in {conditions!r} * {runs}:
    gdb.execute("tbreak main.main", to_string=True)
    gdb.execute("run {calls} > /dev/null", to_string=True)
    point = gdb.Breakpoint("main.(*Set).Add")
    point.condition = condition
    start = time.monotonic()
    gdb.execute("continue", to_string=True)
    print("TOOK", condition, "=", time.monotonic() - start)
    point.delete()
"""


def seconds(*line):
    start = time.monotonic()
    subprocess.run(list(map(str, line)), capture_output=True, check=True)
    return time.monotonic() - start


def big_program(version):
    """A program of 100 MB without optimisation, all its DWARF uncompressed, and a core of it."""
    home = toolchains.cache_dir() / "bulk" / version
    exe, core = home / "bulk", home / "dump" / "core"
    with toolchains.locked(home):
        if not core.exists():
            source, dump = home / "src", home / "dump"
            dump.mkdir(parents=True, exist_ok=True)
            source.mkdir(exist_ok=True)
            bulk.write(source)
            line = [toolchains.go(version), "build", "-o", exe, "-gcflags=all=-N -l", "-ldflags=-compressdwarf=false", "."]
            subprocess.run(list(map(str, line)), cwd=source, env=toolchains.environment(version), check=True)
            build.kernel_core(exe, dump)
    return exe, core


def first_answer(version):
    exe, core = big_program(version)
    load, ours = [], []
    for _ in range(RUNS):
        load.append(seconds(*GDB, exe, core))
        ours.append(seconds(*GDB, "-x", ROOT / "gdbinit", exe, core, "-ex", "gomap print main.cache --limit 10"))
    loaded, answered = statistics.median(load), statistics.median(ours)
    first = answered - loaded
    row("program MB", "gdb loads it, s", "and answers, s", "our part, s", "our part / gdb's (limit 1)")
    row(*["---"] * 5)
    row(f"{exe.stat().st_size / 1e6:.0f}", f"{loaded:.2f}", f"{answered:.2f}", f"{first:.2f}", f"{first / loaded:.2f}")


def interrupts(version):
    dump = build.dump("big", version, args=("int64int64", "10000000"))
    row("Ctrl-C in a print of 10,000,000 entries", "prompt after, ms (limit 200)", "worst of 7")
    row(*["---"] * 3)
    for options in ("", "--json", "--sort elem", "--where elem>=0"):
        took = []
        for _ in range(RUNS):
            with tempfile.TemporaryDirectory() as work:
                script = Path(work) / "interrupt.py"
                script.write_text(INTERRUPT.format(options=options))
                line = [*GDB, "-x", ROOT / "gdbinit", dump.exe, dump.core, "-x", script]
                out = subprocess.run(list(map(str, line)), cwd=work, capture_output=True, text=True).stdout
                took.append(1000 * float(out.split("STOPPED")[1].split()[0]))
        row(options or "plain", f"{statistics.median(took):.0f}", f"{max(took):.0f}")


def conditions(version):
    word, *ours = ["$one_word(s.data) == -1", "$gomap_len(s.data) == -1", "$gomap_has(s.data, name) == 2"]
    with tempfile.TemporaryDirectory() as work:
        script = Path(work) / "conditions.py"
        script.write_text(CONDITIONS.format(conditions=[word, *ours], runs=RUNS, calls=CALLS))
        line = [*GDB, "-x", ROOT / "gdbinit", build.build("conditions", version, "noopt"), "-x", script]
        out = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=True).stdout
    took = {}
    for said in (line[5:].rsplit(" = ", 1) for line in out.splitlines() if line.startswith("TOOK ")):
        took.setdefault(said[0], []).append(1e6 * float(said[1]) / CALLS)
    median = {condition: statistics.median(times) for condition, times in took.items()}
    row("condition at each of %d calls" % CALLS, "µs per call", "of one that reads a word (limit for len 1.5)")
    row(*["---"] * 3)
    for condition in (word, *ours):
        row(f"`{condition}`", f"{median[condition]:.0f}", f"{median[condition] / median[word]:.2f}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--go", default="1.27.3")
    options = parser.parse_args()
    first_answer(options.go)
    print()
    interrupts(options.go)
    print()
    conditions(options.go)


if __name__ == "__main__":
    main()
