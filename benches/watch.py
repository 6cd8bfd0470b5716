"""What one hit of a live probe costs the program: ours, a bare gdb breakpoint, dprintf, dlv trace, bpftrace, from one run.

python3 benches/watch.py [--go VERSION]      needs gdb; installs Delve; bpftrace where it is installed and root
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "core-samples"), str(ROOT / "python"), str(ROOT / "benches")]

import bench  # noqa: E402
import build  # noqa: E402
from mapscope import _native, commands  # noqa: E402

BARE = """
import gdb
hits = 0
class Bare(gdb.Breakpoint):
    def stop(self):
        global hits
        hits += 1
        return False
for address in %r:
    Bare("*%%#x" %% address, internal=True)
print("ARMED", flush=True)
gdb.execute("continue")
print("HITS", hits, flush=True)
"""


#: Ours at most so many times as dear as the bare breakpoint, and as bpftrace; the bare breakpoint at least so many as the kernel's.
GDB_AT_MOST, KERNEL_AT_MOST, KERNEL_CHEAPER = 1.2, 1.3, 15
#: With outcomes at most so many times as dear as without.
OUTCOME_AT_MOST = 2.2

RUNS = 3

NAMES = ["mapaccess1", "mapaccess2", "mapassign", "mapdelete", "mapaccess1_fast32", "mapaccess2_fast32",
         "mapaccess1_fast64", "mapaccess2_fast64", "mapaccess1_faststr", "mapaccess2_faststr", "mapassign_fast32",
         "mapassign_fast64", "mapassign_faststr", "mapassign_fast64ptr", "mapdelete_fast32", "mapdelete_fast64",
         "mapdelete_faststr"]


def code(pid, address):
    """The first bytes of a function in memory: a debugger's breakpoint shows there."""
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(address)
        return memory.read(64)


def addresses(pid):
    """Where we probe this process."""
    session = _native.Session.process(pid, None, False)
    what = dict(map=None, name="", operations=[], type_name=None, key=None, goroutine=None, func=None, misses=False,
                entry=True, limit=0, max_overhead=None, snapshot=False, paced=False)
    show = dict(json=True, depth=1, string_limit=0, elements_limit=0, follow_limit=0, colour=False)
    return _native.Watch.stopping(session, what, show, dict(write=print, output=None, progress=None)).addresses()


def run(exe, operations, start, armed):
    """(seconds from go to the end, the tool's output) of the program, watched by what `start(pid)` starts."""
    with tempfile.TemporaryFile("w+") as out, build.live(exe, (operations, 4), stdin=subprocess.PIPE) as live:
        tool = None
        if start:
            tool = subprocess.Popen(start(live.pid), stdout=out, stderr=subprocess.STDOUT,
                                    env=dict(os.environ, PYTHONPATH=str(ROOT / "python")))
            deadline = time.monotonic() + 60
            while True:
                text = Path(f"/proc/{os.getpid()}/fd/{out.fileno()}").read_text(errors="replace")
                if armed(live.pid) if callable(armed) else armed in text:
                    break
                if tool.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{start(0)[0]} did not start: {text[-500:]}")
                time.sleep(0.05)
            time.sleep(0.5)
        began = time.monotonic()
        live.process.stdin.write("\n")
        live.process.stdin.flush()
        live.process.stdout.read()
        seconds = time.monotonic() - began
        live.process.wait()
        if tool:
            tool.wait(timeout=120)
        out.seek(0)
        return seconds, out.read()


def hits_in(text):
    return int(re.findall(r"(?:HITS |\n@hits: |^)(\d+)(?: operations)?", text, re.M)[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--go", default="1.27.3")
    version = parser.parse_args().go
    exe = build.build("ops", version)
    gdb = ["gdb", "-nx", "-batch", "-iex", "set auto-load off"]
    with tempfile.TemporaryDirectory() as scratch:
        script = Path(scratch) / "bare.py"

        def bare(pid):
            if pid:
                script.write_text(BARE % addresses(pid))
            return [*gdb, "-p", str(pid), "-x", str(script)]

        def dprintf(pid):
            lines = [*gdb, "-p", str(pid)]
            for address in addresses(pid) if pid else []:
                lines += ["-ex", 'dprintf *%#x, "%%lx %%lx %%lx\\n", $rax, $rbx, $rcx' % address]
            return [*lines, "-ex", "echo ARMED\\n", "-ex", "continue"]

        def ours(engine, pid, *more):
            words = [*more, "--max-overhead", "1000000", "-o", str(Path(scratch) / "events")]
            if engine == "gdb":
                return [*gdb, "-p", str(pid), "-x", str(ROOT / "gdbinit"), "-ex", "gomap watch --engine gdb " + " ".join(words)]
            return [sys.executable, "-m", "mapscope.cli", "--pid", str(pid), "watch", *words]

        def returns(name):
            """Offsets of the function's returns: bpftrace's uretprobe would write to a stack that Go moves."""
            text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", f"--disassemble=runtime.{name}", str(exe)],
                                  capture_output=True, text=True).stdout
            start = int(re.search(r"^([0-9a-f]+) <", text, re.M).group(1), 16)
            return [int(at, 16) - start for at in re.findall(r"^ *([0-9a-f]+):\s+ret", text, re.M)]

        def bpftrace(pid, with_returns=False):
            names = [n for n in NAMES if f" runtime.{n}\n" in symbols]
            program = 'BEGIN { printf("ARMED\\n"); } ' + ",".join(f'uprobe:{exe}:"runtime.{n}"' for n in names)
            program += ' { printf("%lx %lx %lx\\n", reg("ax"), reg("bx"), reg("cx")); @hits = count(); }'
            if with_returns:
                program += ",".join(f'uprobe:{exe}:"runtime.{n}"+{offset}' for n in names for offset in returns(n))
                program += ' { printf("%lx %lx\\n", reg("ax"), reg("bx")); }'
            return ["bpftrace", "-p", str(pid), "-e", program]

        delve = bench.install_delve()

        def dlv(pid):
            return [str(delve), "trace", "-p", str(pid), r"^runtime\.(%s)$" % "|".join(NAMES)]

        def traced(pid):
            # Delve says nothing before the first hit.
            return code(pid, assign) != original

        symbols = subprocess.run(["nm", str(exe)], capture_output=True, text=True).stdout
        assign = next(int(line.split()[0], 16) for line in symbols.splitlines() if line.endswith(" runtime.mapassign"))
        with build.live(exe, (1,)) as live:
            original = code(live.pid, assign)
        # A stop costs 0.1 ms, one of Delve's 4. What is read once of each map and key should not count for much.
        few, slow, fast = 3_000, 15_000, 300_000
        free = {n: min(run(exe, n, None, "")[0] for _ in range(3)) for n in (few, slow, fast)}
        print(f"Go {version}, {os.cpu_count()} cores; us that a hit adds to the program's time, best of {RUNS}\n")
        print("| probe | hits | us per hit |\n|---|---|---|")
        costs = {}

        def row(name, operations, start, armed, counted):
            runs = []
            for _ in range(RUNS):
                seconds, text = run(exe, operations, start, armed)
                hits = counted(text)
                runs.append((seconds - free[operations]) / hits * 1e6)
            # Slower ones were disturbed.
            costs[name] = min(runs)
            print(f"| {name} | {hits} | {costs[name]:.1f} |", flush=True)

        def told(_text):
            first = (Path(scratch) / "events").read_text().splitlines()
            line = next(l for l in reversed(first) if " operations, " in l)
            return int(line.split()[0]) + int(re.search(r"(\d+) dropped", line).group(1))

        row("gdb, a bare Python breakpoint", slow, bare, "ARMED", hits_in)
        row("gdb, dprintf of three registers", slow, dprintf, "ARMED",
            lambda text: len(re.findall(r"^[0-9a-f]+ [0-9a-f]+ [0-9a-f]+$", text, re.M)))
        row("dlv trace", few, dlv, traced, lambda text: len(re.findall(r"^> goroutine\(", text, re.M)))
        row("gomap watch --engine gdb --entry", slow, lambda pid: ours("gdb", pid, "--entry"), "stops the program", told)
        row("gomap watch --engine gdb", slow, lambda pid: ours("gdb", pid), "stops the program", told)
        why = commands.kernel_refuses()
        if why:
            print(f"\nthe kernel engine was not measured: {why}")
            return
        row("gomap watch --engine uprobe --entry", fast, lambda pid: ours("uprobe", pid, "--entry"), "runs on", told)
        row("gomap watch --engine uprobe", fast, lambda pid: ours("uprobe", pid), "runs on", told)
        if shutil.which("bpftrace"):
            row("bpftrace, printf of three registers", fast, bpftrace, "ARMED", hits_in)
            row("bpftrace, the same and two at each return", fast, lambda pid: bpftrace(pid, True), "ARMED", hits_in)
        bare_cost = costs["gdb, a bare Python breakpoint"]
        kernel_cost = costs["gomap watch --engine uprobe --entry"]
        ratios = [("engine gdb --entry / bare breakpoint", costs["gomap watch --engine gdb --entry"] / bare_cost,
                   f"at most {GDB_AT_MOST}"),
                  ("bare breakpoint / engine uprobe --entry", bare_cost / kernel_cost, f"at least {KERNEL_CHEAPER}")]
        for engine in ("gdb", "uprobe"):
            ratio = costs[f"gomap watch --engine {engine}"] / costs[f"gomap watch --engine {engine} --entry"]
            ratios.append((f"engine {engine} with outcome / --entry", ratio, f"at most {OUTCOME_AT_MOST}"))
        if "bpftrace, printf of three registers" in costs:
            peer = costs["bpftrace, printf of three registers"]
            ratios.append(("engine uprobe --entry / bpftrace", kernel_cost / peer, f"at most {KERNEL_AT_MOST}"))
        print("\n" + "; ".join(f"{what}: {ratio:.2f} (to reach: {limit})" for what, ratio, limit in ratios))


if __name__ == "__main__":
    main()
