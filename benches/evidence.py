"""Traces and tracebacks: events and goroutines per second and peak memory, beside the peers, from one run.

python3 benches/evidence.py [--go VERSION] [--quick]      needs the pinned Go toolchain and the Go module proxy
"""

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "core-samples"), str(ROOT / "benches")]

import toolchains  # noqa: E402
from bench import measured, proxy, row  # noqa: E402

EVENTS, GOROUTINES, RUNS = 10_000_000, 100_000, 3


def best(line, **options):
    """(seconds, peak of anonymous resident MB, CPU seconds, output) of the fastest of some runs: others were disturbed."""
    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds, peak, output = measured(line, **options)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return seconds, peak, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, output
    return min((once() for _ in range(RUNS)), key=lambda run: run[0])


def go_build(version, directory, package, out):
    environment = {**toolchains.environment(version), **proxy(), "GOFLAGS": "-mod=mod"}
    subprocess.run([toolchains.go(version), "build", "-o", out, package], cwd=directory, env=environment, check=True)
    return out


def trace_of(version, scratch, events):
    """A trace of that many events or a little more, by the lab program of the tests."""
    lab = go_build(version, ROOT / "tests/trace/lab", ".", scratch / "lab")
    path = scratch / "trace.out"
    # The program's -events are scheduling events, of which it writes about six tenths.
    subprocess.run([lab, "-procs", "2", "-events", str(events * 18 // 10), "-o", path], check=True, capture_output=True)
    return path


def dump_of(version, scratch, goroutines):
    """A debug=2 dump: goroutines of a few hundred places that wait as they do in a service."""
    source = scratch / "dump"
    source.mkdir()
    (source / "go.mod").write_text("module dump\n\ngo 1.21\n")
    (source / "main.go").write_text(DUMP)
    program = go_build(version, source, ".", scratch / "dumper")
    path = scratch / "stacks.txt"
    with open(path, "wb") as out:
        subprocess.run([program, str(goroutines)], stdout=out, check=True)
    return path


DUMP = """package main

import (
	"os"
	"runtime/pprof"
	"strconv"
	"sync"
	"time"
)

var replies = map[string]chan string{}

func reply(key string)                { <-replies[key] }
func receive(c chan int)              { <-c }
func lock(mu *sync.Mutex)             { mu.Lock() }
func deep(n int, c chan int)          { if n > 0 { deep(n-1, c) } else { receive(c) } }
func choose(a, b chan int)            { select { case <-a: case <-b: } }

func main() {
	n, _ := strconv.Atoi(os.Args[1])
	var mu sync.Mutex
	mu.Lock()
	a, b := make(chan int), make(chan int)
	for i := 0; i < n; i++ {
		switch i % 5 {
		case 0:
			go reply(strconv.Itoa(i))
		case 1:
			go receive(a)
		case 2:
			go lock(&mu)
		case 3:
			go deep(i%60, a)
		default:
			go choose(a, b)
		}
	}
	time.Sleep(time.Second)
	pprof.Lookup("goroutine").WriteTo(os.Stdout, 2)
}
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--go", default="1.27.3")
    parser.add_argument("--quick", action="store_true", help="a tenth of the events, to see that it runs")
    options = parser.parse_args()
    share = 10 if options.quick else 1
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        peer = go_build(options.go, ROOT / "benches/peer", ".", scratch / "peer")
        tool = go_build(options.go, toolchains.go(options.go).parent.parent / "src", "cmd/trace", scratch / "gotrace")
        trace = trace_of(options.go, scratch, EVENTS // share)
        events = int(measured([peer, "loop", trace])[2].split()[0])
        size = trace.stat().st_size
        print(f"\nA trace of {events:,} events ({size / 1e6:.0f} MB), Go {options.go}, {os.cpu_count()} cores, best of {RUNS}; "
              "peak: anonymous resident MB.\n")
        row("trace read by", "seconds", "events/s", "CPU seconds", "peak MB")
        row(*["---"] * 5)
        # As installed: Python's modules are compiled once, not at each start.
        environment = dict(os.environ, PYTHONPATH=str(ROOT / "python"), PYTHONPYCACHEPREFIX=str(scratch / "compiled"))
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        ours = [sys.executable, "-m", "mapscope.cli"]
        took = {}
        lines = {
            "mapscope evidence (records of all goroutines)": [*ours, "evidence", "--trace", trace, "-o", scratch / "out.json"],
            "x/exp/trace, the same records": [peer, "records", trace],
            "x/exp/trace, events only": [peer, "loop", trace],
        }
        for name, line in lines.items():
            seconds, peak, cpu, output = best(line, env=environment)
            took[name] = seconds
            row(name, f"{seconds:.2f}", f"{events / seconds:,.0f}", f"{cpu:.2f}", f"{peak:.0f}")
        with open(os.devnull, "wb") as nowhere:
            start = time.monotonic()
            subprocess.run([tool, "-d=parsed", trace], stdout=nowhere, check=True)
            seconds = time.monotonic() - start
        took["tool"] = seconds
        row("go tool trace -d=parsed", f"{seconds:.2f}", f"{events / seconds:,.0f}", "", "")
        first = took["mapscope evidence (records of all goroutines)"]
        print(f"\nspeed of mapscope over x/exp/trace with the same records: {took['x/exp/trace, the same records'] / first:.1f}, "
              f"over its bare loop: {took['x/exp/trace, events only'] / first:.1f}, over go tool trace: {took['tool'] / first:.1f}\n")
        dump = dump_of(options.go, scratch, GOROUTINES // share)
        row("debug=2 dump read by", "goroutines", "MB", "seconds", "goroutines/s", "peak MB")
        row(*["---"] * 6)
        for verb in ("profile", "evidence"):
            words = [dump] if verb == "profile" else ["--profile", dump]
            seconds, peak, _, output = best([*ours, verb, *words, "--json", "-o", scratch / "out.json"], env=environment)
            count = len(re.findall(rb"^goroutine ", dump.read_bytes(), re.M))
            json.loads((scratch / "out.json").read_text())
            row(f"mapscope {verb}", f"{count:,}", f"{dump.stat().st_size / 1e6:.0f}", f"{seconds:.2f}",
                f"{count / seconds:,.0f}", f"{peak:.0f}")


if __name__ == "__main__":
    main()
