"""What gdb evaluates while the program runs, stops and runs again: conditions, dprintf, frame lines; against what the program
itself says held at each call."""

import json
import re

import build
import pytest
from conftest import documents, gdb

EACH = pytest.mark.parametrize("version", ("1.19", "1.23.9", "1.24.11", "1.27.3"))
BOTH = pytest.mark.parametrize("version", ("1.19", "1.27.3"))

#: Go preempts by a signal; one that comes while gdb steps over a breakpoint makes it hit that twice.
QUIET = ["set pagination off", "handle SIGURG nostop noprint pass", "set environment GODEBUG asyncpreemptoff=1"]
ADD = "break main.(*Set).Add"

def run(version, *commands, variant="noopt"):
    """(what gdb printed, what the program said in the end)."""
    exe = build.build("conditions", version, variant)
    result = gdb("-iex", "set auto-load off", exe, commands=[*QUIET, *commands, "python gdb.selected_inferior().pid or gdb.execute('run')", "kill"])
    assert "Traceback" not in result.stdout + result.stderr and "mapscope failed" not in result.stderr, result.stderr
    return result.stdout, (documents(result.stdout) or [None])[-1]


def at_stop(*commands):
    """Commands of the breakpoint before: they run when it stops the program."""
    return "python gdb.breakpoints()[-1].commands = %r" % "\n".join(["silent", *commands, "continue"])


def said(out, word):
    return [line.split(" ", 1)[1] for line in out.splitlines() if line.startswith(word + " ")]


@EACH
def test_a_length_in_a_condition(version):
    out, own = run(version, f"{ADD} if $gomap_len(s.data) == 100", at_stop("print name"))
    assert out.count('"k100"') == own["lens"].count(100) == 1


@EACH
def test_a_key_in_a_condition(version):
    out, own = run(version, f"{ADD} if $gomap_has(s.data, name)", at_stop(r'printf "NAME %s\n", name.str'))
    assert said(out, "NAME") == own["known"] and own["known"][0] == "k0" and len(own["known"]) == 50


@BOTH
def test_an_elem_in_a_condition(version):
    out, own = run(version, f"{ADD} if $gomap_has(s.data, name) && $gomap_get(s.data, name)", at_stop(r'printf "NAME %s\n", name.str'))
    assert said(out, "NAME") == own["known"]


@BOTH
def test_dprintf(version):
    out, own = run(version, r'dprintf main.(*Set).Add,"LEN %d\n", $gomap_len(s.data)')
    assert [int(text) for text in said(out, "LEN")] == own["lens"]


@BOTH
def test_a_breakpoint_that_python_stops(version):
    stop = "\n".join([
        "python", "class Counted(gdb.Breakpoint):", "  lens = []", "  def stop(self):",
        "    self.lens.append(int(gdb.parse_and_eval('$gomap_len(s.data)')))",
        "    self.lens.append(json.loads(gdb.execute('gomap stats s.data --json', to_string=True))['map']['count'])",
        "    return False", "import json", "Counted('main.(*Set).Add')",
        "gdb.events.exited.connect(lambda event: print('LENS', json.dumps(Counted.lens)))", "end"])
    script = build.build("conditions", version, "noopt").parent / "stop.gdb"
    script.write_text(stop)
    out, own = run(version, f"source {script}")
    lens = json.loads(said(out, "LENS")[0])
    assert lens[::2] == own["lens"] and lens[1::2] == own["lens"]


@BOTH
def test_the_map_in_a_frame_line_after_false_conditions(version):
    out, own = run(version, f"{ADD} if $gomap_len(s.data) == 1000", "break main.Show", at_stop("frame"))
    [line] = [line for line in out.splitlines() if "main.Show (m=" in line]
    shown = re.search(r"m=map\[string\]bool\{(.*)\}", line)[1]
    assert len(shown.split(", ")) == own["shown"] == 8


@BOTH
def test_after_writes_and_steps(version):
    length = r'printf "LEN %d\n", $gomap_len(main.Current)'
    entry = r"python print('ENTRIES', len(json.loads(gdb.execute('gomap print main.Left --json', to_string=True))['entries']))"
    count = "used" if version == "1.27.3" else "count"
    # Beside what gdb itself reads in the header: a step may end in another thread, calls later.
    adding = rf'printf "STEP %d %d\n", $gomap_len(s.data), s.data.{count}'
    out, _ = run(
        version, "python import json", "tbreak main.main", "run fill", length,
        # 2 entries, then 5 by a write of gdb's to the variable, then 7 by a write to the header.
        "set var main.Current = main.Right", length, f"set var main.Current.{count} = 7", length,
        f"set var main.Current.{count} = 5", length,
        # A function of the program's adds one.
        entry, "tbreak main.Fill", "continue", entry, "finish", entry,
        # One statement after the other.
        "tbreak main.(*Set).Add", "continue", adding, "finish", "tbreak main.(*Set).Add if $_streq(name.str, \"k1\")",
        "continue", *["next", adding] * 8)
    assert said(out, "LEN") == ["2", "5", "7", "5"]
    assert said(out, "ENTRIES") == ["2", "2", "3"]
    lens = [text.split() for text in said(out, "STEP")]
    assert len({length for length, _ in lens}) > 1 and all(length == own for length, own in lens), lens


@BOTH
def test_after_a_call(version):
    """gdb 13 itself fails over a call of a Go function, so it is C that puts one map into another's place."""
    length = r'printf "LEN %d\n", $gomap_len(main.Current)'
    call = "call conditions_put((void**)&'main.Current', (void*)'main.Right')"
    out, _ = run(version, "break main.main", "run", length, "set language c", call, "set language go", length, variant="cgo")
    assert said(out, "LEN") == ["2", "5"], out


@BOTH
def test_while_other_threads_run_on(version):
    """In non-stop mode a thread stands still and the others do not: no event of gdb's tells that memory changed."""
    length, grown = "int(gdb.parse_and_eval('$gomap_len(main.Growing)'))", "int(gdb.parse_and_eval('main.Grown.v'))"
    asked = "\n".join([
        "python", "import json, time", "seen, deadline = [], time.monotonic() + 60",
        "while time.monotonic() < deadline and len({length for _, length, _ in seen}) < 5:",
        f"  seen.append(({grown}, {length}, {grown}))", "print('SEEN', json.dumps(seen))", "end"])
    script = build.build("conditions", version, "noopt").parent / "asked.gdb"
    script.write_text(asked)
    out, _ = run(version, "set non-stop on", ADD, "run background", f"source {script}")
    seen = json.loads(said(out, "SEEN")[0])
    # The program counts an entry after it has added it; it may never have come to the first.
    assert len({length for _, length, _ in seen}) == 5, seen
    assert all((before + 1 if before else 0) <= length <= after + 2 for before, length, after in seen), seen


@pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
def test_a_program_is_looked_at_before_its_loader_ran_and_run_again(version):
    """The runtime's tables make sense once the loader has moved them; a map of one run is none of the next."""
    look = 'gomap get main.Right "c" --json'
    out, _ = run(version, "starti", look, "tbreak main.main", "continue", look, "gomap print $gomap_last --json", "kill",
                 "tbreak main.main", "run", 'printf "AGAIN\\n"', "gomap print $gomap_last --json", look, variant="pie")
    first, again = out.split("AGAIN")
    assert [d.get("elem", d["map"]["count"]) for d in documents(first)[-2:]] == [3, 5]
    # The program's own last words are no map's.
    assert [d["elem"] for d in documents(again) if "map" in d] == [3]
