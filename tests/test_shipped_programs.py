"""etcd, prometheus and esbuild as Debian and npm ship them: stripped, at work, dumped and watched."""

import contextlib
import json
import signal
import time
from dataclasses import dataclass
from typing import Callable

import pytest
import shipped
from conftest import cli, documents, gdb
from test_watch import command, watching

KEYS = [f"order-{i}" for i in range(100)]


@dataclass
class Stored:
    """What a program must hold: a map of this type with these keys, of which one is looked for."""

    type: str
    keys: set
    one: str
    text: Callable = str


def work_of_etcd(program):
    """Keys under leases: these are in maps, while the tree of all keys is a B-tree."""
    for lease in range(4):
        shipped.put(program, lease + 1, KEYS[lease::4])
    return Stored("map[lease.LeaseItem]lease.LeaseID", set(KEYS), "order-77", lambda key: key["Key"])


def work_of_prometheus(program):
    """The names of its own metrics, which it has scraped, index its series."""
    names = set(json.loads(program.get("/api/v1/label/__name__/values"))["data"])
    assert len(names) > 100
    return Stored("map[string][]storage.SeriesRef", names, "prometheus_tsdb_head_series")


def work_of_esbuild(program):
    """Each module of the build, by its file's name."""
    files = {str(file) for file in program.directory.glob("*.ts")}
    return Stored("map[logger.Path]*cache.jsCacheEntry", files, "module59.ts", lambda key: key["Text"])


PROGRAMS = {"etcd": work_of_etcd, "prometheus": work_of_prometheus, "esbuild": work_of_esbuild}


@contextlib.contextmanager
def running(name, directory):
    """The program at work, or a skip that says why it cannot be had."""
    try:
        with getattr(shipped, name)(directory) as program:
            program.directory = directory
            yield program
    except shipped.Unavailable as reason:
        pytest.skip(f"{name}: {reason}")


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_map_of_a_shipped_program_is_listed_and_sound(name, tmp_path):
    core = tmp_path / "core"
    with running(name, tmp_path) as program:
        truth = PROGRAMS[name](program)
        gdb("-iex", "set auto-load off", "-p", program.pid, commands=[f"gcore {core}"])
        exe = program.exe
    try:
        ask = lambda *words: cli("--core", exe, core, *words, "--json")  # noqa: E731
        listed, checked = (documents(ask(*words).stdout)[0]["maps"] for words in (["list", "--limit", "0"], ["check", "--all"]))
        assert len(listed) >= 100 and len(checked) >= 100
        assert not [(m["map"]["path"], f) for m in checked for f in m["findings"] if f["severity"] != "info"]
        assert sum(m["keys_checked"] for m in checked) > 1000
        # Without DWARF a type that no interface or descriptor leads to may be one of several that fit.
        fit = [m for m in listed if truth.type in (m["type"], *m.get("or", ())) and m["count"] >= len(truth.keys)]
        found = []
        for map_ in fit:
            words = ["print", map_["address"], "--type", truth.type]
            [whole], [some] = (documents(ask(*words, *more).stdout) for more in (["--limit", "0"], ["--where", truth.one]))
            if truth.keys <= {truth.text(entry["key"]) for entry in whole["entries"]}:
                assert some["entries"] and all(truth.one in truth.text(entry["key"]) for entry in some["entries"])
                found.append(map_["address"])
        assert found, [m["path"] for m in fit]
        # So does a search of all maps, which is not told the type.
        hits = {m["address"]: m for m in documents(ask("list", "--where", truth.one).stdout)[0]["maps"]}
        assert set(found) <= set(hits) and all(hits[address]["matches"] > 0 for address in found)
        assert all(any(truth.one in str(entry) for entry in hits[address]["entries"]) for address in found)
    finally:
        core.unlink(missing_ok=True)


def test_operations_of_etcd_are_watched_with_their_types_and_keys(tmp_path):
    keys, out = [f"watched-{i}" for i in range(5)], tmp_path / "events"
    with running("etcd", tmp_path) as program:
        line = command("gdb", program.pid, "--json", "-o", str(out), "--max-overhead", "100000")
        with watching("gdb", line, tmp_path) as watch:
            shipped.put(program, 7, keys)
            deadline = time.monotonic() + 60
            # The answer stands beside its place until the watch ends.
            written = lambda: "".join(part.read_text() for part in tmp_path.glob(".mapscope-*.tmp"))  # noqa: E731
            while keys[-1] not in written() and time.monotonic() < deadline:
                time.sleep(0.1)
            watch.send_signal(signal.SIGINT)
        # It lives on.
        assert json.loads(program.get("/health"))["health"] == "true"
    hits = [hit for hit in documents(out.read_text()) if "op" in hit]
    assert all(hit["map"] and hit["function"].startswith(("runtime.map", "reflect.map", "sync.(*Map).")) for hit in hits)
    typed = {hit["type"] for hit in hits if hit["type"]}
    assert len(typed) > 5
    attached = [hit for hit in hits if hit["op"] == "assign" and hit["type"] == "map[lease.LeaseItem]lease.LeaseID"]
    assert [hit["key"]["Key"] for hit in attached] == keys
    assert all(hit["caller"]["func"].endswith(".(*lessor).Attach") and not hit["found"] for hit in attached)
