"""Goroutines of a core, 100 000 of them: listed, grouped, with all stacks; mapscope beside Delve and viewcore. And the
map entries behind 100 000 waiters, looked for among 1 000 000 entries.

python3 benches/goroutines.py [--go VERSION] [--quick]      installs Delve and viewcore by the pinned Go toolchain
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile

from bench import ROOT, install_delve, mapscope, measured, proxy, row

import build
import toolchains

VIEWCORE = "golang.org/x/debug"


def install_viewcore():
    """The path of viewcore and None, or None and why: a proxy may not have it, or it may not build."""
    target = toolchains.cache_dir() / "bin" / "viewcore"
    if target.exists():
        return target, None
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", **proxy()}
    with tempfile.TemporaryDirectory() as module:
        for words in (["mod", "init", "peer"], ["get", VIEWCORE + "@latest"],
                      ["build", "-o", target, VIEWCORE + "/cmd/viewcore"]):
            done = subprocess.run([toolchains.go("1.27.3"), *words], env=environment, cwd=module, capture_output=True, text=True)
            if done.returncode:
                return None, " ".join(done.stderr.split())
    return target, None


def delve(dlv, dump, *commands):
    script = dump.core.parent / "dlv.txt"
    script.write_text("\n".join([*commands, "exit", ""]))
    return measured([dlv, "core", dump.exe, dump.core, "--init", script, "--allow-non-terminal-interactive"],
                    stdin=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--go", default="1.27.3")
    parser.add_argument("--quick", action="store_true", help="a tenth of the goroutines, to see that it runs")
    options = parser.parse_args()
    share = 10 if options.quick else 1
    count = 100_000 // share
    dump = build.dump("herd", options.go, args=(str(count),))
    dlv = install_delve()
    viewcore, why = install_viewcore()
    print(f"\nGoroutines: Go {options.go}, {count:,} of them. Seconds with loading. Peak: anonymous resident MB.\n")
    row("goroutines", "tool", "seconds", "peak MB")
    row(*["---"] * 4)
    asked = {
        "list": (["goroutines"], "goroutines"),
        "group": (["goroutines", "--group"], "goroutines -group userloc"),
        "all stacks": (["goroutines", "--stack"], "goroutines -t 50"),
        "leaks": (["leaks", "--fail-on", "none"], None),
    }
    ratios = {}
    mapscope(dump, "goroutines", "-o", "/dev/null")  # brings the core into the page cache
    for what, (ours, theirs) in asked.items():
        seconds, peak, output = mapscope(dump, *ours, "-o", "/dev/null")
        assert output == "", output
        row(what, "mapscope", f"{seconds:.2f}", f"{peak:.0f}")
        if theirs is None:
            continue  # no peer tells who could still wake a goroutine
        assert peak < 100, f"{what} took {peak:.0f} MB, 100 are allowed"
        slow, peak, output = delve(dlv, dump, theirs)
        said = "goroutine" in output.lower() and len(output) > 1000
        row(what, "Delve" if said else "Delve (failed)", f"{slow:.2f}", f"{peak:.0f}")
        if said:
            ratios[what] = slow / seconds
    if viewcore:
        seconds, peak, output = measured([viewcore, dump.core, "--exe", dump.exe, "goroutines"])
        shown = output.count("\nG") or output.lower().count("goroutine")
        row("all stacks", f"viewcore ({shown:,} shown)", f"{seconds:.2f}", f"{peak:.0f}")
    else:
        print(f"\nviewcore was not built: {why}")
    print("\nmapscope against Delve: " + ", ".join(f"{what}: {ratio:.0f} times" for what, ratio in ratios.items()))

    entries = 1_000_000 // share
    dump = build.dump("herd", options.go, args=(str(count), str(entries)))
    line = ["cargo", "bench", "-q", "--bench", "holders", "--", dump.exe, dump.core]
    output = subprocess.run(list(map(str, line)), capture_output=True, text=True, check=True, cwd=ROOT).stdout
    found = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    print(f"\nreverse lookup of what {found['waiters']:,} goroutines wait on among {found['entries']:,} map entries: "
          f"{found['seconds']:.2f} s, {found['found']:,} objects found in a map")
    # Every second of the herd, and the main goroutine, whose channel os/signal keeps in a map of its own.
    assert found["maps"] == {"main.replies": (count + 1) // 2, "os/signal.handlers.m": 1}
    if not options.quick:
        assert found["seconds"] < 2


if __name__ == "__main__":
    sys.exit(main())
