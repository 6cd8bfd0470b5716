#!/usr/bin/env python3
"""Unpack the committed samples: an executable, its kernel core and its truth, for one Go of each layout; beside the
newer one the stacks (debug=2) and the execution trace of the same run. And a program of arm64 with every kind of stack,
its core by qemu's user emulation and the runtime's traceback.

    python3 core-samples/unpack.py                 prints the directory of each sample
    python3 core-samples/unpack.py --remake        makes the committed files anew (needs the toolchains, and qemu-user)

They go to $MAPSCOPE_CACHE (default ~/.cache/mapscope)/committed/NAME as demo, core and truth.jsonl.
"""
import argparse
import lzma
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import build  # noqa: E402
import toolchains  # noqa: E402
from toolchains import ToolchainError, cache_dir, locked  # noqa: E402

COMMITTED = HERE / "committed"
SAMPLES = {"classic-1.23.9": "1.23.9", "swiss-1.27.3": "1.27.3", "arm64-1.27.3": "1.27.3"}
FILES = ("demo", "core", "truth.jsonl")
#: What the program wrote before it aborted; the classic sample has none.
SOURCES = ("stacks.txt", "trace.out")
#: What the runtime wrote when it aborted.
TRACEBACK = "traceback.txt"


def unpack(name):
    """The `build.Dump` of a committed sample, unpacked when it is not in the cache or has changed."""
    packed = [COMMITTED / name / f"{file}.xz" for file in FILES]
    packed += [path for file in (*SOURCES, TRACEBACK) if (path := COMMITTED / name / f"{file}.xz").exists()]
    digest = build.digest(b"".join(path.read_bytes() for path in packed))
    home = cache_dir() / "committed" / f"{name}-{digest}"
    if not home.exists():
        with locked(home):
            if not home.exists():
                with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
                    made = Path(scratch) / "made"
                    made.mkdir()
                    for path in packed:
                        with lzma.open(path) as source:
                            build.copy_sparse(source, made / path.stem)
                    (made / "demo").chmod(0o755)
                    os.replace(made, home)
    return build.Dump(*(home / file for file in FILES))


def remake(name):
    """Build the demo without the paths of this machine in it, let it abort, and pack the results."""
    (COMMITTED / name).mkdir(parents=True, exist_ok=True)
    if name.startswith("arm64"):
        return remake_arm64(name)
    exe = build.build("demo", SAMPLES[name], "trimmed")
    with tempfile.TemporaryDirectory(prefix="orders-") as scratch:
        home = Path(scratch)
        shutil.copy(exe, home / "demo")
        build.kernel_core(home / "demo", home, ("sources",))
        pack(name, home, FILES + SOURCES)


def pack(name, home, files):
    for file in files:
        packed = lzma.compress((home / file).read_bytes(), preset=9 | lzma.PRESET_EXTREME)
        (COMMITTED / name / f"{file}.xz").write_bytes(packed)


def remake_arm64(name):
    """Build situations for arm64, without DWARF to keep it small, and let it abort under qemu."""
    if shutil.which("qemu-aarch64") is None:
        raise build.SampleError("qemu-aarch64 is not installed: run apt-get install qemu-user")
    version = SAMPLES[name]
    with tempfile.TemporaryDirectory(prefix="situations-") as scratch:
        home = Path(scratch)
        for path, text in build._sources("situations").items():
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (home / path).write_text(text)
        env = dict(toolchains.environment(version), GOARCH="arm64", CGO_ENABLED="0")
        flags = ["-trimpath", "-ldflags=-s -w", "-buildvcs=false", "-o", home / "demo", "./situations"]
        subprocess.run([toolchains.go(version), "build", *flags], cwd=home, env=env, check=True)
        unlimited = lambda: resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)  # noqa: E731
        with open(home / "truth.jsonl", "wb") as out, open(home / TRACEBACK, "wb") as errors:
            subprocess.run(["qemu-aarch64", "./demo", "abort"], cwd=home, stdout=out, stderr=errors,
                           env={"TZ": "UTC", "PATH": os.defpath}, preexec_fn=unlimited)
        # Its own core, of the machine that it is made on, lies beside the guest's.
        [core] = home.glob("qemu_*.core")
        os.replace(core, home / "core")
        pack(name, home, (*FILES, TRACEBACK))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[], metavar="NAME", help=f"one of {', '.join(SAMPLES)}")
    parser.add_argument("--remake", action="store_true", help="make the committed files anew")
    args = parser.parse_args()
    try:
        for name in args.names or SAMPLES:
            if name not in SAMPLES:
                raise build.SampleError(f"there is no committed sample {name!r}: use {' or '.join(SAMPLES)}")
            if args.remake:
                remake(name)
            print(unpack(name).exe.parent)
    except (build.SampleError, ToolchainError, OSError, lzma.LZMAError) as error:
        print(f"unpack: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
