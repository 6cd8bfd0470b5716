"""Every map of the sample programs shows exactly the entries that the program printed of it:
Go versions x build variants x (kernel core, gdb core, live process, remote target)."""

import subprocess

import build
import pytest
import toolchains
from conftest import EVERYTHING, FULL, documents, gdb
from oracle import differences

SAMPLES = ("maps", "generated@1", "generated@2")
VARIANTS = ("default", "noopt", "pie", "noopt-pie", "noswissmap", "mapsplitgroup", "cgo")
SOURCES = ("kernel", "gcore", "live", "remote")


def _cases():
    for version in toolchains.VERSIONS:
        full = EVERYTHING or version in FULL
        for variant in build.variants_of(version):
            if variant not in VARIANTS or not (full or variant == "default"):
                continue
            for source in SOURCES:
                # What differs between the sources is reading, so one variant shows it for each version.
                if source == "kernel" or EVERYTHING or (full and variant in ("default", "pie")):
                    yield pytest.param(version, variant, source, id=f"{version}-{variant}-{source}")


def ask_core(sample, version, variant, kind, commands):
    """(truth, gdb's output) on a core of the sample."""
    dump = build.dump(sample, version, variant, kind)
    truth = build.read_truth(dump.truth)
    return truth, gdb(dump.exe, dump.core, commands=commands(truth))


def ask_live(sample, version, variant, commands):
    """(truth, gdb's output), attached to the running sample."""
    exe = build.build(sample, version, variant)
    with build.live(exe) as sample:
        return sample.truth, gdb("-p", sample.pid, commands=commands(sample.truth))


def ask_remote(sample, version, variant, commands):
    """(truth, gdb's output), through gdbserver."""
    exe = build.build(sample, version, variant)
    with build.live(exe) as sample:
        line = ["gdbserver", "--once", "--attach", "localhost:0", str(sample.pid)]
        with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as server:
            try:
                port = next(l.rsplit(" ", 1)[1].strip() for l in server.stderr if l.startswith("Listening on port"))
                connect = [f"target remote localhost:{port}"]
                return sample.truth, gdb(exe, commands=connect + commands(sample.truth) + ["detach"])
            finally:
                server.kill()


def print_all(truth):
    """One print command per map of the truth."""
    return [f"gomap print {map_['name']} --limit 0 --json" for map_ in truth]


def check(sample, version, variant, source):
    if source in ("kernel", "gcore"):
        truth, result = ask_core(sample, version, variant, source, print_all)
    else:
        truth, result = {"live": ask_live, "remote": ask_remote}[source](sample, version, variant, print_all)
    answers = documents(result.stdout)
    assert len(answers) == len(truth), result.stderr[-2000:]
    wrong = {want["name"]: differences(want, got) for want, got in zip(truth, answers)}
    assert not {name: diff[:3] for name, diff in wrong.items() if diff}


@pytest.mark.parametrize("version,variant,source", _cases())
@pytest.mark.parametrize("sample", SAMPLES)
def test_entries_equal_what_the_program_printed(sample, version, variant, source):
    check(sample, version, variant, source)


@pytest.mark.skipif(EVERYTHING, reason="part of the whole matrix above")
@pytest.mark.parametrize("version", (FULL[0], FULL[-1]))
@pytest.mark.parametrize("source", SOURCES[1:])
def test_entries_of_unoptimised_programs(version, source):
    check("maps", version, "noopt", source)


BUILDS = [pytest.param(*case.values[:2], id=case.id) for case in _cases() if case.values[2] == "kernel"]


@pytest.mark.parametrize("version,variant", BUILDS)
@pytest.mark.parametrize("sample", SAMPLES if EVERYTHING else SAMPLES[:2])
def test_check_has_nothing_to_say_of_sound_maps(sample, version, variant):
    truth, result = ask_core(sample, version, variant, "kernel", lambda truth: [
        f"gomap check {map_['name']} --json" for map_ in truth])
    answers = documents(result.stdout)
    assert len(answers) == len(truth), result.stderr[-2000:]
    for want, answer in zip(truth, answers):
        [report] = answer["maps"]
        # A key that holds a NaN has another hash each time; check says how many there are.
        random = [int(finding["detail"].split()[0]) for finding in report["findings"] if finding["kind"] == "nan-key"]
        assert len(random) == len(report["findings"]) and "unchecked" not in report, (want["name"], report)
        assert report["keys_checked"] + sum(random) == want["len"], want["name"]
