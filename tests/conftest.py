"""What the tests share: the matrix of Go versions, and ways to ask each front end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "core-samples"), str(ROOT / "tests")]

import build  # noqa: E402  (core-samples/build.py)
import oracle  # noqa: E402
import toolchains  # noqa: E402

# A shell starts its background jobs with SIGINT ignored, and so would all be that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

GDBINIT = ROOT / "gdbinit"
#: Versions that run every variant and source in CI; the others run the default build only.
FULL = ("1.19", "1.23.9", "1.24.11", "1.27.3")
EVERYTHING = os.environ.get("MAPSCOPE_MATRIX") == "all"

#: Versions whose binaries without DWARF and symbols are tested, and the two ways to make them; with both sources
#: in full, the verbs on three of these.
STRIPPED = ("1.19", "1.21.13", "1.23.9", "1.24.11", "1.26.6", "1.27.3")
STRIPPED_BUILDS = [(version, variant) for version in STRIPPED for variant in ("stripped", "strip-s")]
if not EVERYTHING:
    STRIPPED_BUILDS = [("1.19", "strip-s"), ("1.24.11", "stripped"), ("1.27.3", "strip-s")]
#: (version, variant) of the builds on which every verb is tested.
VERB_BUILDS = [(version, "default") for version in (toolchains.VERSIONS if EVERYTHING else FULL)] + STRIPPED_BUILDS


def map_words(truth, variant):
    """How a map of the truth is named on the command line: without DWARF variables have no names."""
    if variant in ("stripped", "stripped-pie", "strip-s"):
        return [truth["address"], "--type", truth["type"]]
    return [truth["name"]]


def gdb(*arguments, commands=(), timeout=120, **options):
    """Runs gdb in batch mode with our gdbinit and these commands; returns its CompletedProcess."""
    line = ["gdb", "-nx", "-batch", "-x", str(GDBINIT), *map(str, arguments)]
    for command in commands:
        line += ["-ex", command]
    return subprocess.run(line, capture_output=True, text=True, timeout=timeout, **options)


def documents(text):
    """The JSON documents among lines of output."""
    return [oracle.loads(line) for line in text.split("\n") if line.startswith("{")]


def cli(*words, timeout=120, stderr=subprocess.PIPE):
    """Runs the command line form; returns its CompletedProcess."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    line = [sys.executable, "-m", "mapscope.cli", *map(str, words)]
    return subprocess.run(line, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=timeout, env=environment)
