"""The numbers of the README, from one run: mapscope beside Delve and Go's own runtime-gdb.py on the same cores.

python3 benches/bench.py [--go VERSION] [--quick]      needs gdb; installs Delve by the pinned Go toolchain
"""

import argparse
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "core-samples"), str(ROOT / "python")]

import build  # noqa: E402
import toolchains  # noqa: E402

DELVE = "github.com/go-delve/delve/cmd/dlv@v1.27.1"
#: Entries that the peers are given: they need minutes and gigabytes for more.
PEER_ENTRIES = 50_000


def measured(line, **options):
    """(seconds, peak of anonymous resident MB, output) of one command."""
    start = time.monotonic()
    process = subprocess.Popen(list(map(str, line)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               errors="replace", **options)
    peak = 0

    def watch():
        nonlocal peak
        while process.poll() is None:
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                break
            found = re.search(r"RssAnon:\s+(\d+) kB", status)
            peak = max(peak, int(found.group(1)) if found else 0)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    output = process.stdout.read()
    process.wait()
    seconds = time.monotonic() - start
    watcher.join()
    return seconds, peak / 1024, output


def row(*cells):
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def per_second(entries, seconds):
    return f"{entries / seconds:,.0f}"


def mapscope(dump, *words):
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    return measured([sys.executable, "-m", "mapscope.cli", "--core", dump.exe, dump.core, *words], env=environment)


def gdb_go(dump, version, name, entries):
    """runtime-gdb.py of this Go version; entries shown and seconds beyond loading."""
    script = toolchains.go(version).parent.parent / "src/runtime/runtime-gdb.py"
    base = ["gdb", "-nx", "-batch", "-iex", "set auto-load safe-path /", dump.exe, dump.core, "-ex", f"source {script}"]
    load = measured(base)[0]
    # gdb prints only so many children of a map: the printer itself knows no other limit.
    seconds, peak, output = measured(base + ["-ex", f"set print elements {2 * entries}", "-ex", f"print '{name}'"])
    shown = output.count("] = ")
    return shown, max(seconds - load, 1e-3), peak


def delve(dlv, dump, name, entries):
    commands = f"config max-array-values {entries}\nconfig max-string-len 64\nprint {name}\nexit\n"
    script = dump.core.parent / "dlv.txt"
    script.write_text(commands)
    load = measured([dlv, "core", dump.exe, dump.core, "--init", "/dev/null", "--allow-non-terminal-interactive"],
                    stdin=subprocess.DEVNULL)[0]
    seconds, peak, output = measured(
        [dlv, "core", dump.exe, dump.core, "--init", script, "--allow-non-terminal-interactive"], stdin=subprocess.DEVNULL)
    shown = 0 if "could not" in output[:2000] and len(output) < 4000 else entries
    return shown, max(seconds - load, 1e-3), peak, output


def delve_lookup(dlv, dump, name, missing, times):
    """Seconds of one of so many lookups of a missing key in one session, beyond loading."""
    script = dump.core.parent / "dlv.txt"
    line = [dlv, "core", dump.exe, dump.core, "--init", script, "--allow-non-terminal-interactive"]
    seconds = []
    for count in (1, 1 + times):
        script.write_text(f"print {name}[{missing}]\n" * count + "exit\n")
        taken, _, output = measured(line, stdin=subprocess.DEVNULL)
        assert output.count("key not found") == count, output[:500]
        seconds.append(taken)
    return max(seconds[1] - seconds[0], 1e-6) / times


def lookups(dlv, version, share):
    """One lookup by key in maps of growing size: ours by hash, Delve's by going through the entries."""
    print("\n| one lookup in int64int64 of | mapscope us | Delve us | ratio |\n| --- | --- | --- | --- |")
    for count, times in [(1000, 300), (10_000, 60), (100_000, 10), (1_000_000, 2), (10_000_000, 1)]:
        count = max(count // share, 1000)
        dump = build.dump("big", version, args=("int64int64", str(count)))
        ours = measure(dump, "main.int64int64")["lookup_seconds"]
        theirs = delve_lookup(dlv, dump, "main.int64int64", count, times)
        row(f"{count:,}", f"{ours * 1e6:.2f}", f"{theirs * 1e6:,.0f}", f"{theirs / ours:,.0f}")
    print("\nThe key looked up in Delve is a missing one, ours are stored ones; each within a running session.")


def install_delve():
    go = toolchains.go("1.27.3")
    target = toolchains.cache_dir() / "bin"
    target.mkdir(parents=True, exist_ok=True)
    if not (target / "dlv").exists():
        environment = dict(os.environ, GOBIN=str(target), GOTOOLCHAIN="local", GOFLAGS="-mod=mod")
        environment.pop("GOPROXY", None)
        subprocess.run([go, "install", DELVE], env={**environment, **proxy()}, check=True)
    return target / "dlv"


def read_once(path):
    """Brings a file into the page cache, so that no tool pays for the disk."""
    with open(path, "rb") as file:
        while file.read(1 << 22):
            pass


def proxy():
    return {"GOPROXY": os.environ["GOPROXY"]} if "GOPROXY" in os.environ else {}


def measure(dump, name):
    line = ["cargo", "bench", "-q", "--bench", "measure", "--", dump.exe, dump.core, name]
    output = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=True, cwd=ROOT).stdout
    return json.loads(next(l for l in output.splitlines() if l.startswith("{")))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--go", default="1.27.3")
    parser.add_argument("--quick", action="store_true", help="a tenth of the entries, to see that it runs")
    options = parser.parse_args()
    share = 10 if options.quick else 1
    cases = [("int64int64", 10_000_000), ("int64int64", 1_000_000), ("stringstring", 1_000_000), ("stringptr", 100_000)]
    dlv = install_delve()
    print(f"Go {options.go}, {os.cpu_count()} cores. Peak: anonymous resident MB. Seconds of the peers exclude loading.\n")
    row("map", "tool", "entries", "seconds", "entries/s", "peak MB")
    row(*["---"] * 6)
    ratios = []
    for kind, count in cases:
        count //= share
        dump = build.dump("big", options.go, args=(kind, str(count)))
        read_once(dump.core)
        name, ours = f"main.{kind}", {}
        for verb, words in (("print", ["print", name, "--limit", "0", "-o", "/dev/null"]),
                            ("export", ["export", name, str(dump.core.parent / "out.jsonl")]), ("stats", ["stats", name])):
            seconds, peak, output = mapscope(dump, *words)
            ours[verb] = count / seconds
            row(f"{kind} {count:,}", f"mapscope {verb}", f"{count:,}", f"{seconds:.2f}", per_second(count, seconds), f"{peak:.0f}")
        (dump.core.parent / "out.jsonl").unlink(missing_ok=True)
        entries = min(PEER_ENTRIES // share, count)
        shown, seconds, peak, _ = delve(dlv, dump, name, entries)
        row(f"{kind} {count:,}", "Delve print", f"{shown:,}", f"{seconds:.2f}", per_second(shown, seconds), f"{peak:.0f}")
        if shown:
            ratios.append((kind, count, ours["print"] / (shown / seconds)))
        entries = min(2_000, count)
        shown, seconds, peak = gdb_go(dump, options.go, name, entries)
        row(f"{kind} {count:,}", "runtime-gdb.py print", f"{shown:,}", f"{seconds:.2f}", per_second(shown, seconds), f"{peak:.0f}")
    print("\nmapscope print against Delve print, entries per second: "
          + ", ".join(f"{kind} {count:,}: {ratio:,.0f} times" for kind, count, ratio in ratios))
    print("\n| map | stats GB/s | plain sum GB/s | share | one lookup us | check M keys/s | without AES instructions |"
          "\n| --- | --- | --- | --- | --- | --- | --- |")
    for kind, count in [*cases, ("int64int64", 1000), ("int64int64", 100_000)]:
        count = max(count // share, 1000)
        m = measure(build.dump("big", options.go, args=(kind, str(count))), f"main.{kind}")
        row(f"{kind} {count:,}", f"{m['stats_bytes_per_second'] / 1e9:.1f}", f"{m['sum_bytes_per_second'] / 1e9:.1f}",
            f"{m['stats_bytes_per_second'] / m['sum_bytes_per_second']:.2f}", f"{m['lookup_seconds'] * 1e6:.2f}",
            f"{m['check_keys_per_second'] / 1e6:.1f}", f"{m['portable_check_keys_per_second'] / 1e6:.1f}")
    lookups(dlv, options.go, share)
    dump = build.dump("big", options.go, args=("stringstring", str(1_000_000 // share)))
    seconds = mapscope(dump, "why", "main.stringstring", '"key-123456789 "')[0]
    print(f"\nwhy with near misses over {1_000_000 // share:,} string keys: {seconds:.2f} s")


if __name__ == "__main__":
    main()
