"""Nobody hung, nothing lost: inputs that are written over, cut short or never end, processes that do not stop."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import build
import elf_parts
import pytest
from conftest import ROOT, cli, gdb

PROFILE = (ROOT / "tests/profiles").glob("*")
STACKS = "goroutine 1 [running]:\nmain.main()\n\t/tmp/main.go:3 +0x1d\n"
SAME = "it is the same file as"


def wait(what, why="it never came"):
    """Waits for `what()` to be true: as long as it takes on a slow machine."""
    end = time.monotonic() + 60
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < end, why
        time.sleep(0.01)


def start(*words, **options):
    """The command line at work."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-m", "mapscope.cli", *map(str, words)], env=environment, **{**pipes, **options})


@pytest.fixture
def target(tmp_path):
    """Copies of an executable and a core, to be harmed."""
    dump = build.dump("demo", "1.27.3")
    exe, core = tmp_path / "demo", tmp_path / "core"
    shutil.copy(dump.exe, exe)
    subprocess.run(["cp", "--sparse=always", dump.core, core], check=True)
    return exe, core


def left_behind(directory):
    return [name for name in os.listdir(directory) if name.startswith(".mapscope")]


# Output never touches input.


def test_no_answer_is_written_over_the_target(target, tmp_path):
    exe, core = target
    hard, soft = tmp_path / "hard", tmp_path / "soft"
    os.link(core, hard)
    soft.symlink_to(exe)
    before = exe.read_bytes(), core.read_bytes()
    (tmp_path / "link.csv").symlink_to(core)
    for words in (
        ("list", "-o", core), ("list", "-o", exe), ("list", "-o", hard), ("list", "-o", soft),
        ("leaks", "-o", core), ("goroutines", "-o", exe), ("check", "--all", "-o", core), ("stats", "main.M0", "-o", core),
        ("get", "main.M0", '"one"', "-o", exe), ("export", "main.M0", tmp_path / "link.csv"), ("snapshot", "main.M0", core),
        ("audit", "--write-baseline", core), ("audit", "-o", exe), ("evidence", "-o", core), ("help-never", "-o", core),
    ):
        answer = cli("--core", exe, core, *words)
        assert answer.returncode == 2, words
        assert SAME in answer.stderr or "no verb" in answer.stderr, (words, answer.stderr)
        assert (exe.read_bytes(), core.read_bytes()) == before, words
    answer = gdb(exe, core, commands=[f"gomap list -o {core}", f"gomap profile {exe} -o {hard}", "echo ALIVE\\n"])
    assert answer.stderr.count(SAME) == 2 and "ALIVE" in answer.stdout, answer.stderr
    assert core.read_bytes() == before[1] and not left_behind(tmp_path)


def test_no_answer_is_written_over_another_file_that_is_read(target, tmp_path):
    exe, core = target
    files = {"stacks": STACKS, "policy": "[goroutines]\nmax = 3\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    path = {name: str(tmp_path / name) for name in ("stacks", "policy", "s1", "known")}
    assert cli("--core", exe, core, "snapshot", "main.M0", path["s1"]).returncode == 0
    assert cli("profile", path["stacks"], "-o", tmp_path / "clusters").returncode == 0
    assert cli("audit", "--profile", path["stacks"], "--write-baseline", path["known"]).returncode == 0
    trace = next((ROOT / "tests/trace").rglob("*.trace"), None)
    cases = [
        ("profile", path["stacks"], "-o", path["stacks"]),
        ("evidence", "--profile", path["stacks"], "-o", path["stacks"]),
        ("audit", "--profile", path["stacks"], "--policy", path["policy"], "-o", path["policy"]),
        ("audit", "--profile", path["stacks"], "--baseline", path["known"], "-o", path["known"]),
        ("audit", "--profile", path["stacks"], "--write-baseline", path["stacks"]),
        ("audit", "--profile", path["stacks"], "--write-baseline", path["known"], "-o", path["known"]),
        ("--core", exe, core, "diff", path["s1"], "main.M0", "-o", path["s1"]),
    ]
    if trace:
        shutil.copy(trace, tmp_path / "trace")
        cases.append(("evidence", "--trace", tmp_path / "trace", "-o", tmp_path / "trace"))
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(tmp_path) if (tmp_path / name).is_file()}
    for words in cases:
        answer = cli(*words)
        assert answer.returncode == 2 and SAME in answer.stderr, (words, answer.stderr)
        after = {name: (tmp_path / name).read_bytes() for name in before}
        # The last but one of the audits has written its baseline, and refuses to write the answer there too.
        assert all(after[name] == before[name] for name in before if name != "known"), words
        assert json.loads(after["known"]) and not left_behind(tmp_path)


def test_a_full_disk_or_an_interrupt_leaves_the_old_file(target, tmp_path):
    import resource

    exe, core = target
    old = tmp_path / "answer"
    old.write_text("old")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))  # noqa: E731
    for words in (("list", "--json", "-o", old), ("export", "main.M0", tmp_path / "m.json"), ("snapshot", "main.M0", old)):
        run = start("--core", exe, core, *words, preexec_fn=limit)
        _, stderr = run.communicate(timeout=60)
        assert run.returncode == 2 and b"cannot write" in stderr and b"File too large" in stderr, stderr
        assert old.read_text() == "old" and not (tmp_path / "m.json").exists() and not left_behind(tmp_path)
    run = start("profile", "-", "-o", old, stdin=subprocess.PIPE)
    wait(lambda: left_behind(tmp_path))
    assert old.read_text() == "old"
    run.send_signal(signal.SIGINT)
    # Standard input stays open: its end would be an answer of its own.
    assert run.wait(timeout=60) == 130
    assert run.communicate()[1] == b"mapscope: interrupted\n"
    assert old.read_text() == "old" and not left_behind(tmp_path)


def test_a_file_is_replaced_where_a_link_leads_and_keeps_its_rights(target, tmp_path):
    exe, core = target
    (tmp_path / "there").mkdir()
    real, link, fresh = tmp_path / "there/real", tmp_path / "link", tmp_path / "fresh"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to("there/real")
    fresh.symlink_to("there/new")
    shown = cli("--core", exe, core, "stats", "main.M0").stdout
    for name, place in ((link, real), (fresh, tmp_path / "there/new")):
        assert cli("--core", exe, core, "stats", "main.M0", "-o", name).returncode == 0
        assert name.is_symlink() and place.read_text() == shown
    assert real.stat().st_mode & 0o777 == 0o640
    assert cli("--core", exe, core, "stats", "main.M0", "-o", "-").stdout == shown
    assert cli("--core", exe, core, "stats", "main.M0", "-o", "/dev/stdout").stdout == shown
    assert cli("--core", exe, core, "stats", "main.M0", "-o", "/dev/null").returncode == 0
    snapshot = cli("--core", exe, core, "snapshot", "main.M0", "-").stdout.splitlines()
    assert len(snapshot) == 4 and json.loads(snapshot[0])["mapscope_snapshot"] == 1
    assert "is a directory" in cli("--core", exe, core, "list", "-o", tmp_path).stderr


# Files are opened without waiting.


def test_a_pipe_is_read_as_a_profile_and_refused_elsewhere(target, tmp_path):
    exe, core = target
    fifo, stacks, policy = tmp_path / "fifo", tmp_path / "stacks", tmp_path / "policy"
    os.mkfifo(fifo)
    stacks.write_text(STACKS)
    policy.write_text("[goroutines]\nmax = 3\n")
    cases = [
        ("--core", exe, fifo, "list"), ("--core", fifo, core, "list"), ("timeline", "1", "--trace", fifo),
        ("evidence", "--profile", stacks, "--trace", fifo), ("audit", "--profile", stacks, "--policy", fifo),
        ("audit", "--profile", stacks, "--baseline", fifo), ("--core", exe, core, "diff", fifo, "main.M0"),
        ("--core", exe, core, "list", "-o", fifo), ("--core", exe, "/dev/zero", "list"), ("profile", "/dev/zero"),
        ("profile", fifo), ("profile", tmp_path), ("audit", "--profile", stacks, "--policy", "/dev/null"),
    ]
    for words in cases:
        answer = cli(*words, timeout=60)
        assert answer.returncode == 2 and answer.stderr.count("\n") == 1, (words, answer.stderr)
        assert any(word in answer.stderr for word in ("pipe (FIFO)", "device", "directory")), answer.stderr
    answer = gdb(exe, core, commands=[f"gomap diff {fifo} main.M0", "gomap profile -", "echo ALIVE\\n"], timeout=60)
    assert "pipe (FIFO)" in answer.stderr and "standard input" in answer.stderr and "ALIVE" in answer.stdout
    python, wanted = sys.executable, cli("profile", stacks, "--json").stdout
    shell = f"PYTHONPATH={ROOT}/python {python} -m mapscope.cli profile --json "
    run = lambda line: subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)  # noqa: E731
    counts = lambda text: json.loads(text)["clusters"] if "clusters" in json.loads(text) else json.loads(text)  # noqa: E731
    for line in (f"{shell} <(cat {stacks})", f"cat {stacks} | {shell} -", f"{shell} - < {stacks}"):
        answer = run(line)
        assert answer.returncode == 0, answer.stderr
        assert set(json.loads(answer.stdout)) == set(json.loads(wanted)), (counts, line)
        assert "main.main" in answer.stdout


def test_a_pipe_beside_the_executable_is_passed_over_and_said(tmp_path):
    if shutil.which("objcopy") is None:
        pytest.skip("objcopy is not installed (apt-get install binutils)")
    from test_debug_files import split

    dump = build.dump("demo", "1.23.9")
    exe, debug = split(dump, tmp_path, "demo.debug")
    debug.unlink()
    os.mkfifo(debug)
    answer = cli("--core", exe, dump.core, "goroutines", timeout=60)
    assert answer.returncode == 0 and f"{debug}: it is a pipe (FIFO)" in answer.stderr and "passed over" in answer.stderr


# No signal from a mapped file.


@pytest.mark.parametrize("which", ("core", "exe"))
def test_a_file_that_shrinks_under_a_session_is_an_answer(target, which, tmp_path):
    exe, core = target
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "from mapscope import _native\n"
        f"session = _native.Session.core({str(core)!r}, {str(exe)!r})\n"
        f"os.truncate({str(core if which == 'core' else exe)!r}, 4096)\n"
        "to = dict(write=print, output=None, progress=None)\n"
        "try:\n"
        "    session.leaks(all=True, graph=None, fail_on='none', json=False, to=to)\n"
        "except _native.Error as error:\n"
        "    print('SAID', error)\n"
        "print('ALIVE')\n")
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
    answer = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, env=environment)
    assert answer.returncode == 0, (answer.returncode, answer.stderr)
    assert "SAID cannot open" in answer.stdout and "has changed since it was opened" in answer.stdout, answer.stdout


def test_gdb_lives_on_when_its_core_is_cut_short_or_replaced(target, tmp_path):
    exe, core = target
    whole = tmp_path / "whole"
    shutil.copy(core, whole)
    answer = gdb(exe, core, commands=[
        "gomap stats main.M0", f"shell truncate -s 4096 {core}", "gomap list", "echo ALIVE\\n",
        f"shell cp {whole} {core}.new && mv {core}.new {core}", "gomap stats main.M0", "gomap get main.M0 \"two\""])
    assert answer.returncode == 0 and "ALIVE" in answer.stdout, answer.stderr
    assert answer.stderr.count("the file has changed since it was opened; it is read as it is now") == 2, answer.stderr
    assert '"two": 2\n' in answer.stdout, answer.stdout


# Bounded waits.

#: Threads, one of which waits in the kernel for a child of vfork and cannot be stopped. Prints the pid of that child and
#: the stuck thread's id, then a line for each tick.
STUCK = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
static void *stuck(void *none) {
    printf("%ld\n", (long)syscall(SYS_gettid));
    fflush(stdout);
    if (vfork() == 0) { for (;;) pause(); }
    return none;
}
int main(void) {
    pthread_t thread;
    pthread_create(&thread, 0, stuck, 0);
    for (;;) { usleep(1000); if (write(2, ".", 1) < 0) return 0; }
}
"""


@pytest.fixture
def stuck(tmp_path):
    """A program with a thread in state D, and that thread's id."""
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed (apt-get install gcc)")
    (tmp_path / "stuck.c").write_text(STUCK)
    subprocess.run(["cc", "-pthread", "-o", tmp_path / "stuck", tmp_path / "stuck.c"], check=True)
    ticks = open(tmp_path / "ticks", "wb")
    program = subprocess.Popen([tmp_path / "stuck"], stdout=subprocess.PIPE, stderr=ticks, start_new_session=True)
    tid = int(program.stdout.readline())
    state = lambda: Path(f"/proc/{program.pid}/task/{tid}/stat").read_text().rsplit(")")[1].split()[0]  # noqa: E731
    wait(lambda: state() == "D")
    yield program.pid, tid, lambda: os.path.getsize(tmp_path / "ticks")
    os.killpg(program.pid, signal.SIGKILL)
    program.wait()


def test_a_thread_that_does_not_stop_is_named_and_all_run_on(stuck):
    pid, tid, ticks = stuck
    answer = cli("--pid", pid, "--stop-timeout", "0.3", "goroutines", timeout=60)
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1, answer.stderr
    assert f"thread {tid} of process {pid} did not stop within 0.3 s" in answer.stderr
    assert "state D" in answer.stderr and "--no-stop" in answer.stderr
    before = ticks()
    wait(lambda: ticks() > before + 3)
    # The stuck thread is nobody's any more either.
    wait(lambda: "TracerPid:\t0" in Path(f"/proc/{pid}/task/{tid}/status").read_text())


def test_ctrl_c_ends_the_wait_for_a_thread(stuck):
    pid, tid, ticks = stuck
    run = start("--pid", pid, "--stop-timeout", "1000", "goroutines")
    wait(lambda: "TracerPid:\t0" not in Path(f"/proc/{pid}/task/{tid}/status").read_text())
    run.send_signal(signal.SIGINT)
    _, stderr = run.communicate(timeout=60)
    assert run.returncode == 130 and stderr == b"mapscope: interrupted\n"
    before = ticks()
    wait(lambda: ticks() > before + 3)


# A claim costs what the target has.


def memory_of(words):
    """The command line's answer, and the memory it took at most, in MB."""
    run = start(*words, stdout=subprocess.PIPE)
    stdout, stderr = run.communicate(timeout=100)
    return run.returncode, stdout.decode(), stderr.decode()


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
@pytest.mark.parametrize("part", ("ebss", "edata"))
def test_a_part_of_the_program_that_claims_a_terabyte_changes_no_answer(version, part, tmp_path):
    dump = build.dump("demo", version)
    core = tmp_path / "core"
    subprocess.run(["cp", "--sparse=always", dump.core, core], check=True)
    # struct moduledata, src/runtime/symtab.go: data and bss with their ends, the same since Go 1.16.
    offset = elf_parts.offset_in(core, elf_parts.module_data(dump.exe)) + {"edata": 216, "ebss": 232}[part]
    verbs = (("list", "--json"), ("leaks", "--json", "--fail-on", "none"))
    with open(core, "r+b") as file:
        file.seek(offset)
        old = struct.unpack("<Q", file.read(8))[0]
        assert old, "the end of a part"
        right = [cli("--core", dump.exe, dump.core, *words) for words in verbs]
        for end in (1 << 40, 1 << 62):
            file.seek(offset)
            file.write(struct.pack("<Q", end))
            file.flush()
            for words, wanted in zip(verbs, right):
                answer = cli("--core", dump.exe, core, *words, timeout=60)
                assert answer.returncode == 0, answer.stderr
                found, want = json.loads(answer.stdout), json.loads(wanted.stdout)
                if words[0] == "list":
                    found, want = ([(m["path"], m["count"]) for m in d["maps"]] for d in (found, want))
                assert found == want


# The exit status is a contract.


def test_numbers_that_are_too_large_are_a_users_mistake(target):
    exe, core = target
    huge = "9" * 30
    for words in (("print", "main.M0", "--limit", huge), ("get", "main.M0", '"one"', "--depth", huge), ("explain", huge),
                  ("goroutines", "--on", "0x" + "f" * 20), ("print", "0x" + "f" * 20), ("buckets", "main.M0", huge),
                  ("print", "main.M0", "--goroutine", huge), ("list", "--min-bytes", str(1 << 64)),
                  ("print", "0x" + "f" * 20, "--type", "map[string]int")):
        answer = cli("--core", exe, core, *words)
        assert answer.returncode == 2 and answer.stdout == "" and answer.stderr.count("\n") == 1, (words, answer.stderr)
        here = gdb(exe, core, commands=["gomap " + " ".join(words)])
        for said in (answer.stderr, here.stderr):
            assert "Traceback" not in said and "report this" not in said, (words, said)
    assert cli("--pid", huge, "list").returncode == 2


def test_a_key_may_be_any_bytes(target):
    exe, core = target
    for key in (b'"on\xff"', b"`on\xff`", b'"\xc3"'):
        run = start("--core", exe, core, "get", "main.M0", key.decode("utf-8", "surrogateescape"), "--json")
        stdout, stderr = run.communicate(timeout=60)
        assert run.returncode in (0, 1) and json.loads(stdout)["verdict"] == "absent", stderr
    run = start("--core", exe, core, "print", b"main.\xff".decode("utf-8", "surrogateescape"))
    assert run.communicate(timeout=60)[0] == b"" and run.returncode == 2


def test_standard_output_that_is_closed_or_left(target):
    exe, core = target
    line = f"PYTHONPATH={ROOT}/python {sys.executable} -m mapscope.cli --core {exe} {core} list --json"
    run = lambda rest: subprocess.run(["bash", "-c", line + rest], capture_output=True, text=True, timeout=60)  # noqa: E731
    closed = run(" >&-")
    assert closed.returncode == 2 and closed.stderr == "mapscope: cannot write the answer: standard output is closed\n"
    full = run(" >/dev/full")
    assert full.returncode == 2 and full.stderr == "mapscope: cannot write the answer: No space left on device\n"
    for left in (" | true; exit ${PIPESTATUS[0]}", " -o /dev/stdout | true; exit ${PIPESTATUS[0]}"):
        answer = run(left)
        assert answer.returncode in (0, 141) and answer.stderr == "", (left, answer.stderr)


# Permission errors tell what is missing.


def test_what_is_no_readable_process_is_told(tmp_path):
    ended = subprocess.Popen(["true"])
    wait(lambda: Path(f"/proc/{ended.pid}/stat").read_text().rsplit(")")[1].split()[0] == "Z")
    answer = cli("--pid", ended.pid, "list")
    assert answer.returncode == 2 and "is a zombie" in answer.stderr and f"process {os.getpid()}" in answer.stderr
    ended.wait()
    if Path("/proc/2/status").exists() and "VmSize" not in Path("/proc/2/status").read_text():
        assert "is a kernel thread" in cli("--pid", "2", "list").stderr


def test_who_traces_a_process_already_is_told():
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        holder = subprocess.Popen(["gdb", "-nx", "-batch", "-p", str(sleeper.pid), "-ex", "shell echo HELD; cat"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        while "HELD" not in holder.stdout.readline():
            pass
        answer = cli("--pid", sleeper.pid, "list")
        assert answer.returncode == 2 and f"process {holder.pid} (gdb) traces it already" in answer.stderr, answer.stderr
    finally:
        holder.stdin.close()
        holder.wait()
        sleeper.kill()
        sleeper.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has processes of other users to try")
def test_another_owner_is_told(tmp_path):
    shutil.copytree(ROOT / "python/mapscope", tmp_path / "mapscope")
    for path in (tmp_path, *tmp_path.parents[:-1]):
        if path.stat().st_uid == os.geteuid() and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    code = (f"import os, sys; sys.path.insert(0, {str(tmp_path)!r}); from mapscope import _native; os.setgroups([])\n"
            f"os.setgid(65534); os.setuid(65534)\n"
            f"try: _native.Session.process({os.getpid()}, None, True)\n"
            f"except _native.Error as error: print(error)\n")
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "belongs to user 0, and you are user 65534" in answer.stdout, (answer.stdout, answer.stderr)
