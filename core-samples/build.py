#!/usr/bin/env python3
"""Build the sample programs and make cores of them, with the truth each one printed.

    python3 core-samples/build.py maps --go 1.23.9 --variant default --core kernel

prints the paths of the executable, the core and the truth (one JSON document a line). Everything is kept in
$MAPSCOPE_CACHE (default ~/.cache/mapscope)/samples, by a hash of the sources, and made only once.
The sample `generated@SEED` (or `generated@SEEDxMAPS`) is written by generate.py first.
"""
import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import generate  # noqa: E402
import toolchains  # noqa: E402
from toolchains import cache_dir, locked  # noqa: E402

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")
READY_SECONDS = 120


class SampleError(Exception):
    """A sample that cannot be built or dumped; the message says why and what to do."""


@dataclass(frozen=True)
class Variant:
    """How a sample is built: arguments of `go build`, an experiment, and the Go versions that can do it.

    `strip` takes symbols and DWARF away from the finished binary, as distributions do."""

    flags: tuple = ()
    experiment: str = ""
    cgo: bool = False
    strip: bool = False
    only: tuple = toolchains.VERSIONS


BOTH_LAYOUTS = ("1.24.11", "1.25.5")
VARIANTS = {
    "default": Variant(),
    "noopt": Variant(("-gcflags=all=-N -l",)),
    "stripped": Variant(("-ldflags=-s -w",)),
    "strip-s": Variant(strip=True),
    "pie": Variant(("-buildmode=pie",)),
    "noopt-pie": Variant(("-buildmode=pie", "-gcflags=all=-N -l")),
    "stripped-pie": Variant(("-buildmode=pie", "-ldflags=-s -w")),
    "noswissmap": Variant(experiment="noswissmap", only=BOTH_LAYOUTS),
    "nosynchashtriemap": Variant(experiment="nosynchashtriemap", only=BOTH_LAYOUTS),
    "mapsplitgroup": Variant(experiment="mapsplitgroup", only=("1.27.3",)),
    "cgo": Variant(("-tags=cgosample",), cgo=True),
    "trimmed": Variant(("-trimpath",)),
}
CORES = ("gcore", "kernel")


@dataclass(frozen=True)
class Dump:
    """An executable, a core of it, and the truth it printed before."""

    exe: Path
    core: Path
    truth: Path


class Live:
    """A sample that has printed its truth and waits; `truth` holds its documents in order."""

    def __init__(self, process, truth):
        self.process = process
        self.truth = truth

    @property
    def pid(self):
        return self.process.pid


def variants_of(version):
    """The names of the variants that this Go version can build here."""
    has_c = shutil.which("gcc") is not None
    return [name for name, v in VARIANTS.items() if version in v.only and (has_c or not v.cgo)]


def build(sample, version="1.23.9", variant="default"):
    """The path of the sample's executable, built when it is not in the cache."""
    recipe = _recipe(version, variant)
    sources = _sources(sample)
    exe = _directory(sample, version, variant, sources) / sample.split("@")[0]
    if not exe.exists():
        with locked(exe.parent):
            if not exe.exists():
                _compile(sample, sources, exe, version, recipe)
    return exe


def dump(sample, version="1.23.9", variant="default", kind="kernel", args=()):
    """A `Dump` of the sample, made when it is not in the cache. `kind` is "kernel" or "gcore"."""
    if kind not in CORES:
        raise SampleError(f"there is no kind of core {kind!r}: use {' or '.join(CORES)}")
    exe = build(sample, version, variant)
    tag = kind if not args else f"{kind}-{digest(' '.join(map(str, args)).encode())}"
    home = exe.parent / tag
    result = Dump(exe, home / "core", home / "truth.jsonl")
    if not home.exists():
        with locked(home):
            if not home.exists():
                with tempfile.TemporaryDirectory(dir=exe.parent, prefix="making-") as scratch:
                    made = Path(scratch) / "made"
                    made.mkdir()
                    {"kernel": kernel_core, "gcore": _gcore}[kind](exe, made, args)
                    os.replace(made, home)
    return result


@contextlib.contextmanager
def live(exe, args=(), **popen):
    """Run a sample until it is ready, as a `Live`; it is killed when the block ends."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen([str(exe), "wait", *map(str, args)], stdout=subprocess.PIPE, stderr=errors, text=True,
                                   **{"stdin": subprocess.DEVNULL, "env": _run_environment(), **popen})
        watchdog = threading.Timer(READY_SECONDS, process.kill)
        watchdog.start()
        try:
            truth = []
            for line in process.stdout:
                if line.startswith("READY "):
                    break
                truth.append(_document(line))
            else:
                errors.seek(0)
                raise SampleError(f"{exe} ended before it was ready: {errors.read().decode(errors='replace')[:500]}")
            watchdog.cancel()
            yield Live(process, truth)
        finally:
            watchdog.cancel()
            process.kill()
            process.stdout.close()
            process.wait()


def read_truth(path):
    """The documents of a truth file."""
    with open(path, encoding="utf-8") as lines:
        return [_document(line) for line in lines if line.startswith("{")]


def _document(line):
    # Go writes -0 without a fraction, and json would lose its sign.
    return json.loads(line, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


def _recipe(version, name):
    if name not in VARIANTS:
        raise SampleError(f"there is no variant {name!r}: use one of {', '.join(VARIANTS)}")
    recipe = VARIANTS[name]
    if version not in recipe.only:
        raise SampleError(f"variant {name} cannot be built by Go {version}: use one of {', '.join(recipe.only)}")
    if recipe.cgo and shutil.which("gcc") is None:
        raise SampleError(f"variant {name} needs a C compiler: run apt-get install gcc")
    return recipe


def _sources(sample):
    """The files of the sample's module, path -> text."""
    name, _, spec = sample.partition("@")
    files = {"go.mod": (HERE / "go.mod").read_text()}
    folders = [HERE / "truth"]
    if name == "generated":
        numbers = re.fullmatch(r"(\d+)(?:x(\d+))?", spec or "1")
        if numbers is None:
            raise SampleError(f"{sample!r} is not generated@SEED or generated@SEEDxMAPS")
        files["generated/main.go"] = generate.program(int(numbers[1]), int(numbers[2] or 200))
    elif (HERE / sample / "main.go").exists():
        folders.append(HERE / sample)
    else:
        raise SampleError(f"there is no sample {sample!r} in {HERE}")
    for folder in folders:
        for path in sorted(folder.rglob("*.go")):
            files[str(path.relative_to(HERE))] = path.read_text()
    return files


def _directory(sample, version, variant, sources):
    content = json.dumps([sources, str(VARIANTS[variant])], sort_keys=True).encode()
    return cache_dir() / "samples" / sample / f"{version}-{variant}-{digest(content)}"


def digest(data):
    """A short name for this content."""
    return hashlib.sha256(data).hexdigest()[:12]


def _compile(sample, sources, exe, version, recipe):
    env = toolchains.environment(version)
    env["CGO_ENABLED"] = "1" if recipe.cgo else "0"
    if recipe.experiment:
        env["GOEXPERIMENT"] = recipe.experiment
    name = sample.split("@")[0]
    module = exe.parent / "src"
    for path, text in sources.items():
        target = module / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    made = exe.with_name(exe.name + ".part")
    command = [str(toolchains.go(version)), "build", "-buildvcs=false", *recipe.flags, "-o", str(made), f"./{name}"]
    result = subprocess.run(command, cwd=module, env=env, capture_output=True, text=True)
    if result.returncode != 0:
        raise SampleError(f"Go {version} did not build {sample}: {result.stderr.strip()[:2000]}")
    if recipe.strip:
        subprocess.run(["strip", "-s", made], check=True)
    os.replace(made, exe)


def _run_environment():
    """Next to nothing: a core holds the environment, and nobody's secrets belong into it."""
    kept = {name: os.environ[name] for name in ("MAPSCOPE_SAMPLE_SECONDS",) if name in os.environ}
    return {"TZ": "UTC", "PATH": os.defpath, **kept}


def _gcore(exe, home, args):
    if shutil.which("gdb") is None:
        raise SampleError("gdb is not installed: run apt-get install gdb")
    with live(exe, args) as running:
        full = home / "core.full"
        command = ["gdb", "-nx", "-batch", "-p", str(running.pid), "-ex", f"gcore {full}"]
        result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if not full.exists():
            raise SampleError(f"gdb made no core of process {running.pid}: {result.stderr.strip()[-500:]}")
        with open(full, "rb") as source:
            copy_sparse(source, home / "core")
        full.unlink()
        with open(home / "truth.jsonl", "w", encoding="utf-8") as out:
            for document in running.truth:
                out.write(json.dumps(document, ensure_ascii=False) + "\n")


def copy_sparse(source, path):
    """Write a stream to a file, leaving holes for its zeros: gdb writes out all that Go has reserved."""
    block = 1 << 16
    zeros = bytes(block)
    with open(path, "wb") as target:
        for data in iter(lambda: source.read(block), b""):
            if data == zeros:
                target.seek(block, os.SEEK_CUR)
            else:
                target.write(data)
        target.truncate()


def kernel_core(exe, home, args=()):
    """Let the sample abort; puts core, truth.jsonl and traceback.txt into the directory."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] != resource.RLIM_INFINITY:
        raise SampleError("the hard limit on core size is not unlimited: run ulimit -Hc unlimited as root first")
    with _plain_core_pattern(), open(home / "truth.jsonl", "wb") as out, open(home / "traceback.txt", "wb") as errors:
        process = subprocess.Popen([str(exe), "abort", *map(str, args)], cwd=home, stdout=out, stderr=errors,
                                   stdin=subprocess.DEVNULL, env=_run_environment(), preexec_fn=_allow_core)
        try:
            status = process.wait(timeout=READY_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise SampleError(f"{exe} did not abort within {READY_SECONDS} seconds") from None
    cores = [path for path in home.iterdir() if path.name.startswith("core")]
    if status != -signal.SIGABRT or len(cores) != 1:
        message = (home / "traceback.txt").read_text(errors="replace")[:300]
        raise SampleError(f"{exe} ended with status {status} and left {len(cores)} cores (core_pattern is "
                          f"{CORE_PATTERN.read_text().strip()!r}): {message}")
    os.rename(cores[0], home / "core")


def _allow_core():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextlib.contextmanager
def _plain_core_pattern():
    """Have the kernel write cores into the working directory, putting the old pattern back at the end."""
    before = CORE_PATTERN.read_text().strip()
    if before.startswith("core") and "/" not in before:
        yield
        return
    with open(cache_dir() / "core_pattern.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            CORE_PATTERN.write_text("core")
        except OSError:
            raise SampleError(f"the kernel sends cores to {before!r}: as root, run echo core > {CORE_PATTERN}") from None
        try:
            yield
        finally:
            CORE_PATTERN.write_text(before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sample", help="a folder of core-samples, or generated@SEED")
    parser.add_argument("--go", default="1.23.9", choices=toolchains.VERSIONS, help="Go version")
    parser.add_argument("--variant", default="default", choices=VARIANTS)
    parser.add_argument("--core", choices=CORES, help="make a core too")
    parser.add_argument("--live", action="store_true", help="run it, print its pid, and keep it until a line is entered")
    parser.add_argument("args", nargs="*", help="arguments of the sample, after --")
    args = parser.parse_args()
    try:
        exe = build(args.sample, args.go, args.variant)
        print(exe, flush=True)
        if args.core:
            made = dump(args.sample, args.go, args.variant, args.core, args.args)
            print(made.core)
            print(made.truth)
        if args.live:
            with live(exe, args.args) as running:
                print(f"pid {running.pid}", flush=True)
                sys.stdin.readline()
    except (SampleError, toolchains.ToolchainError) as error:
        print(f"build: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
