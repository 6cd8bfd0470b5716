#!/usr/bin/env python3
"""Put what the fuzzers start from into fuzz/corpus: our odd profiles and traces, and the hostile inputs of the Go
toolchains' own fuzzing (src/internal/trace/testdata/fuzz and cmd/internal/pgo/testdata/fuzz)."""

import ast
import gzip
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "core-samples"))

import toolchains  # noqa: E402

NEWEST = toolchains.VERSIONS[-1]


def main():
    corpus = {name: HERE / "corpus" / name for name in ("protobuf", "tracebacks", "trace")}
    for directory in corpus.values():
        directory.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "tests" / "profiles" / "odd").iterdir():
        if path.suffix == ".gz":
            (corpus["protobuf"] / path.name).write_bytes(gzip.decompress(path.read_bytes()))
        else:
            shutil.copy(path, corpus["tracebacks"])
    for path in (ROOT / "tests" / "trace" / "data").glob("*.trace"):
        shutil.copy(path, corpus["trace"])
    source = toolchains.go(NEWEST).parent.parent / "src"
    for path in (source / "internal/trace/testdata/fuzz/FuzzReader").iterdir():
        (corpus["trace"] / path.name).write_bytes(value(path))
    for path in (source / "cmd/internal/pgo/testdata/fuzz").rglob("*"):
        if path.is_file():
            (corpus["protobuf"] / path.name).write_bytes(value(path))
    return 0


def value(path):
    """The first value of a file of Go's fuzz corpus: `[]byte("…")` or `string("…")`, on its second line."""
    literal = path.read_text().splitlines()[1].partition("(")[2].rstrip(")")
    # Python reads the escapes that Go writes into a quoted string; other characters are UTF-8 in both.
    return ast.literal_eval("b" + "".join(c if ord(c) < 128 else "".join(f"\\x{b:02x}" for b in c.encode()) for c in literal))


if __name__ == "__main__":
    sys.exit(main())
