"""Stacks that are no plain chains of calls, against the runtime's own tracebacks of the same program: from a core, from a
stopped process, and through each debugger, whose registers show what runs."""

import json
import re
import subprocess
from collections import Counter

import build
import pytest
import unpack
from conftest import cli, documents, gdb
from test_goroutines import alike, equal, told, traceback
from test_lldb import LLDB, lldb

VERSIONS = ("1.19", "1.23.9", "1.24.11", "1.27.3")
ALWAYS = {"sigpanic": 1, "sigpanic-inlined": 1, "sigpanic-divide": 1, "sigpanic-twice": 1, "locked": 1, "deep": 1,
          "ancestors": 1, "preempted": 3}
COROUTINES = {"waits-for-coroutine": 2, "coroutine-waits": 2, "coroutine-idle": 1, "has-coroutine": 2}
CALLBACKS = {"callback": 2, "callback-of-thread": 1}


def kinds(truth, version, cgo=False):
    """kind -> goroutine IDs, all that this version has."""
    found = {}
    for each in truth["situations"]:
        found.setdefault(each["kind"], set()).add(each["goid"])
    wanted = {**ALWAYS, **(COROUTINES if has_coroutines(version) else {}), **(CALLBACKS if cgo else {})}
    assert {kind: len(goids) for kind, goids in found.items()} == wanted
    return found


def has_coroutines(version):
    return tuple(map(int, version.split(".")[:2])) >= (1, 23)


def core(version, variant="default", args=()):
    """(dump, truth, text of the runtime's traceback)."""
    dump = build.dump("situations", version, variant, args=args)
    return dump, build.read_truth(dump.truth)[0], (dump.core.parent / "traceback.txt").read_text()


def ask(dump, *words, status=(0, 1)):
    done = cli("--core", dump.exe, dump.core, *words, "--json")
    assert done.returncode in status, done.stderr
    return json.loads(done.stdout)


def locked_in(text):
    """IDs of the goroutines that the runtime calls locked to a thread."""
    return {int(goid) for goid in re.findall(r"^goroutine (\d+)[^\[\n]*\[[^\]\n]*locked to thread", text, re.M)}


BUILDS = [(version, "default") for version in VERSIONS] + [
    ("1.19", "stripped"), ("1.27.3", "stripped"), ("1.27.3", "pie"), ("1.27.3", "noopt"),
    ("1.19", "cgo"), ("1.23.9", "cgo"), ("1.27.3", "cgo")]


@pytest.mark.parametrize("version,variant", BUILDS)
def test_stacks_in_a_core_are_the_runtimes_own(version, variant):
    dump, truth, text = core(version, variant)
    of = kinds(truth, version, variant == "cgo")
    printed = traceback(text)
    goroutines = {g["goid"]: g for g in ask(dump, "goroutines")["goroutines"]}
    still = {goid: g for goid, g in goroutines.items() if g["status"] in ("waiting", "runnable")}
    # Of code that a signal interrupted Go 1.19 prints the line of the byte before (src/runtime/traceback.go, tracepc--).
    inexact = {goid for goid, g in still.items() if version == "1.19" and "runtime.asyncPreempt" in json.dumps(g)}
    assert [goid for goid, g in still.items() if goid not in inexact and not equal(g, printed[goid])] == []
    # One processor: of the loops all but one wait for it, where a signal interrupted them.
    waiting = [goroutines[goid] for goid in of["preempted"] if goid in still]
    assert len(waiting) >= 2
    assert all("runtime.asyncPreempt" in [f["func"] for f in g["stack"]] for g in waiting)
    assert {goid for goid in still if goroutines[goid]["locked_to_thread"]} == locked_in(text) & set(still)
    assert of["locked"] | of.get("callback", set()) <= locked_in(text)
    # The one that runs is in its loop.
    for goroutine in (goroutines[goid] for goid in of["preempted"] - set(still)):
        assert goroutine["torn"] == [] and goroutine["stack"][-1]["func"] == "runtime.goexit"
        assert {"main.spin", "main.mix", "main.calls"} & {f["func"] for f in goroutine["stack"]}
    assert not any(goroutines[goid]["system"] for goids in of.values() for goid in goids)


def test_stacks_of_arm64_are_the_runtimes_own():
    """Without DWARF; of a core that qemu's user emulation wrote."""
    dump = unpack.unpack("arm64-1.27.3")
    of = kinds(build.read_truth(dump.truth)[0], "1.27.3")
    text = (dump.core.parent / "traceback.txt").read_text()
    goroutines = {g["goid"]: g for g in ask(dump, "goroutines")["goroutines"]}
    still = {goid: g for goid, g in goroutines.items() if g["status"] in ("waiting", "runnable")}
    printed = traceback(text)
    assert [goid for goid, g in still.items() if not equal(g, printed[goid])] == []
    assert len(of["preempted"] & set(still)) >= 2 and of["sigpanic"] | of["deep"] <= set(still)


def test_what_is_not_read_of_arm64_is_said():
    dump = unpack.unpack("arm64-1.27.3")
    [goid, *_] = kinds(build.read_truth(dump.truth)[0], "1.27.3")["coroutine-waits"]
    unread = "machine code of arm64 is not read yet"
    for verb in ("leaks", "evidence"):
        answer = ask(dump, verb)
        assert [limit["reason"].startswith(unread) for limit in answer["limits"]].count(True) == 1
    assert f"note: {unread}" in cli("--core", dump.exe, dump.core, "leaks").stdout
    assert f"note: {unread}" in cli("--core", dump.exe, dump.core, "explain", goid).stdout
    assert unread in cli("--core", dump.exe, dump.core, "evidence").stdout
    audit = ask(dump, "audit")
    assert audit["unchecked"]["leaks"].startswith(unread) and not audit["passed"] and "leaks" not in audit["checked"]
    # Where it is read nothing of the kind is said.
    dump, _, _ = core("1.27.3")
    assert not any(limit["reason"].startswith(unread) for limit in ask(dump, "leaks")["limits"])
    assert "leaks" in ask(dump, "audit")["checked"]


def check_live(answer, truth, version, cgo=False):
    """Each parked goroutine's frames are those that runtime.Stack told; each that runs has its stack too."""
    of, printed = kinds(truth, version, cgo), traceback(truth["stacks"])
    goroutines = {g["goid"]: g for g in answer["goroutines"]}
    parked = set.union(*of.values()) - of["preempted"]
    assert [goid for goid in parked if goroutines[goid]["torn"] or not told(goroutines[goid], printed[goid], version)] == []
    assert locked_in(truth["stacks"]) - {1} == {goid for goid in parked if goroutines[goid]["locked_to_thread"]}
    states = Counter(goroutines[goid]["status"] for goid in of["preempted"])
    assert set(states) <= {"running", "runnable"}
    for goroutine in (goroutines[goid] for goid in of["preempted"]):
        own = [f["func"] for f in goroutine["stack"] if not f["func"].startswith("runtime.")]
        if goroutine["status"] == "runnable" and not own:
            continue  # it gave its processor up before it had run at all
        assert goroutine["torn"] == [], goroutine
        assert own[-1].startswith("main.") and {"main.spin", "main.mix", "main.leaf"} & set(own)
    return goroutines


@pytest.mark.parametrize("version,variant", [("1.21.13", "default"), ("1.23.9", "default"), ("1.27.3", "stripped"),
                                             ("1.23.9", "cgo"), ("1.27.3", "cgo")])
def test_stacks_of_a_stopped_process_are_the_runtimes_own(version, variant):
    with build.live(build.build("situations", version, variant)) as sample:
        done = cli("--pid", sample.pid, "goroutines", "--json")
        check_live(json.loads(done.stdout), sample.truth[0], version, variant == "cgo")


@pytest.mark.parametrize("version,variant", [("1.21.13", "default"), ("1.23.9", "cgo"), ("1.27.3", "default")])
@pytest.mark.parametrize("front", ("gdb", "gdbserver", "lldb"))
def test_stacks_through_a_debugger_are_the_runtimes_own(front, version, variant):
    if front == "lldb" and LLDB is None:
        pytest.skip("lldb is not installed")
    exe = build.build("situations", version, variant)
    with build.live(exe) as sample:
        [answer] = through(front, exe, sample, ["gomap goroutines --json"])
        check_live(answer, sample.truth[0], version, variant == "cgo")


def through(front, exe, sample, commands):
    """The JSON answers of a debugger that has attached to a sample."""
    if front == "lldb":
        done = lldb("-p", sample.pid, commands=commands)
    elif front == "gdb":
        done = gdb("-p", sample.pid, commands=commands)
    else:
        line = ["gdbserver", "--once", "--attach", "localhost:0", str(sample.pid)]
        server = subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        try:
            port = next(line.rsplit(" ", 1)[1].strip() for line in server.stderr if line.startswith("Listening on port"))
            done = gdb(exe, commands=[f"target remote localhost:{port}", *commands, "detach"])
        finally:
            server.kill()
            server.wait()
    answers = documents(done.stdout)
    assert len(answers) == len(commands), done.stdout[-2000:] + done.stderr[-2000:]
    return answers


@pytest.mark.parametrize("front", ("gdb", "gdbserver", "lldb"))
@pytest.mark.parametrize("version", ("1.21.13", "1.27.3"))
def test_a_running_goroutines_variables_are_in_the_debuggers_registers(front, version):
    if front == "lldb" and LLDB is None:
        pytest.skip("lldb is not installed")
    exe = build.build("spinning", version)
    with build.live(exe) as sample:
        [found] = through(front, exe, sample, ["gomap goroutines --func ^main.spin$ --json"])
        [running] = found["goroutines"]
        assert running["status"] == "running" and running["torn"] == []
        [said] = through(front, exe, sample, [f"gomap locals --goroutine {running['goid']} --json"])
    here = {v["name"]: v for v in said["frames"][0]["variables"]}
    assert (here["step"]["value"], here["rounds"]["value"]) == (7, 1 << 60)
    assert here["round"]["address"] is None


@pytest.mark.parametrize("version", ("1.23.9", "1.24.11", "1.27.3"))
@pytest.mark.parametrize("variant", ("default", "stripped"))
def test_who_asks_a_coroutine_for_more_waits_for_its_goroutine(version, variant):
    dump, truth, _ = core(version, variant)
    of = kinds(truth, version)
    goroutines = {g["goid"]: g for g in ask(dump, "goroutines")["goroutines"]}
    on = {goid: goroutines[goid]["blocked_on"] for goids in of.values() for goid in goids}
    waits = {goid: on[goid] for goid in of["waits-for-coroutine"]}
    assert {wait["kind"] for wait in waits.values()} == {"coroutine"}
    # Each started its own.
    assert {wait["goid"]: goid for goid, wait in waits.items()} == {
        goid: goroutines[goid]["parent"] for goid in of["coroutine-waits"]}
    [idle] = of["coroutine-idle"]
    unstarted = [g for g in goroutines.values() if g["reason"] == "coroutine" and g["goid"] not in on]
    assert [(on[idle]["kind"], on[idle]["goid"])] == [(g["blocked_on"]["kind"], g["blocked_on"]["goid"]) for g in unstarted]
    assert (on[idle]["kind"], on[idle]["goid"]) == ("coroutine", None)
    clusters = {goid: c for c in ask(dump, "leaks")["clusters"] for goid in c["goids"]}
    assert set(clusters) >= of["coroutine-waits"] | of["waits-for-coroutine"] | {idle}
    assert all("nil_chan" in [t["id"] for t in clusters[goid]["terms"]] for goid in of["coroutine-waits"])


@pytest.mark.parametrize("version", VERSIONS)
def test_ancestors_are_the_runtimes_own(version):
    dump, truth, text = core(version, args=("ancestors",))
    [goid] = kinds(truth, version)["ancestors"]
    [section] = re.findall(rf"^goroutine {goid} (?:.+\n)+", text, re.M)[:1]
    printed = [(int(part.split("]", 1)[0]), re.findall(r"^(\S+)\(\.\.\.\)$", part, re.M))
               for part in section.split("[originating from goroutine ")[1:]]
    [found] = [g for g in ask(dump, "goroutines")["goroutines"] if g["goid"] == goid]
    assert len(printed) == 3
    assert [(a["goid"], [f["func"] for f in a["stack"]]) for a in found["ancestors"]] == printed
    shown = cli("--core", dump.exe, dump.core, "goroutine", goid).stdout
    assert [int(each) for each in re.findall(r"originating from goroutine (\d+)", shown)] == [each for each, _ in printed]


#: Selects the thread that runs main.spin.
SELECT = """
import gdb

for thread in gdb.selected_inferior().threads():
    thread.switch()
    if gdb.newest_frame().name() == "main.spin":
        break
"""


#: What a debugger does then to have Go call a function (debugCallV2 in src/runtime/asm_amd64.s, go1.19 to 1.27), up to where
#: the runtime says that it may.
INJECT = SELECT + """
unsigned = gdb.lookup_type("unsigned long")
frame, inferior = gdb.newest_frame(), gdb.selected_inferior()
pc, sp = (int(frame.read_register(name).cast(unsigned)) for name in ("rip", "rsp"))
inferior.write_memory(sp - 8, pc.to_bytes(8, "little"))
inferior.write_memory(sp - 24, (64).to_bytes(8, "little"))
gdb.execute("set $rip = (unsigned long)&'runtime.debugCallV2'")
gdb.execute("frame 0")
gdb.execute("set $rsp = %d" % (sp - 8))
gdb.execute("continue")
gdb.execute("print $r12")
"""


@pytest.mark.parametrize("version", ("1.21.13", "1.27.3"))
def test_what_an_injected_call_interrupted_is_walked(version, tmp_path):
    exe, script = build.build("spinning", version), tmp_path / "inject.py"
    script.write_text(INJECT)
    with build.live(exe) as sample:
        done = gdb("-p", sample.pid, commands=["set language c", f"source {script}", "gomap goroutines --json"])
    assert "SIGTRAP" in done.stdout and "$1 = 0\n" in done.stdout, done.stdout
    [answer] = documents(done.stdout)
    interrupted = [g for g in answer["goroutines"] if g["reason"] == "debug call"]
    [names] = [[f["func"] for f in g["stack"]] for g in interrupted]
    at = names.index("runtime.debugCallV2")
    assert names[at + 1] == "main.spin" and names[-1] == "runtime.goexit"
    assert all(g["torn"] == [] for g in interrupted)
    [calling] = [g for g in answer["goroutines"] if "debugCall64" in [f["func"] for f in g["stack"]]]
    assert calling["status"] == "running" and calling["torn"] == []


def test_a_function_that_a_debugger_calls_is_told(tmp_path):
    exe, script = build.build("spinning", "1.27.3"), tmp_path / "select.py"
    script.write_text(SELECT)
    called = "call ((void (*)(long, long))&'main.spin')(7, 1)"
    with build.live(exe) as sample:
        done = gdb("-p", sample.pid, commands=[
            "set language c", f"source {script}", "tbreak main.spin", called, "gomap goroutines --func ^main.spin$ --json"])
    [answer] = documents(done.stdout)
    assert [g["torn"] for g in answer["goroutines"]] == [
        ["its stack ends early: a debugger called main.spin, and what that interrupted is not followed"]]


@pytest.mark.parametrize("machine,word,order,name", [
    (21, 2, 1, "ppc64le"), (21, 2, 2, "ppc64"), (243, 2, 1, "riscv64"), (258, 2, 1, "loong64"), (8, 2, 1, "mips64le"),
    (8, 2, 2, "mips64"), (8, 1, 1, "mipsle"), (8, 1, 2, "mips"), (22, 2, 2, "s390x"), (3, 1, 1, "386"), (40, 1, 1, "arm")])
def test_other_processors_are_refused_in_one_sentence(machine, word, order, name, tmp_path):
    """e_machine, EI_CLASS and EI_DATA as the ELF specification and Go's linkers have them."""
    dump = build.dump("situations", "1.27.3")
    exe, image = tmp_path / "program", tmp_path / "core"
    for source, path in ((dump.exe, exe), (dump.core, image)):
        head = bytearray(source.open("rb").read(64))
        head[4:6] = bytes((word, order))
        head[18:20] = machine.to_bytes(2, "little" if order == 1 else "big")
        path.write_bytes(bytes(head) + bytes(4096))
    for words in (("--core", exe, dump.core), ("--core", dump.exe, image)):
        done = cli(*words, "goroutines")
        assert done.returncode == 2 and done.stdout == ""
        said = r"mapscope: \S+ is for (.*); only amd64 and arm64 are read\n"
        assert re.fullmatch(said, done.stderr)[1] == name, done.stderr
