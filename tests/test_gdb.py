"""What gdb shows: options, settings, functions, help, completion, pretty printer, languages, MI, locals."""

import json
import os
import re
import subprocess

import build
import oracle
import pytest
import toolchains
from conftest import GDBINIT, documents, gdb

BOTH = pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))


@pytest.fixture(scope="module")
def maps():
    return build.dump("maps", "1.27.3")


def ask(dump, *commands, **options):
    """Standard output of gdb after the words that it says of every core."""
    result = gdb("-iex", "set auto-load off", dump.exe, dump.core, commands=["echo ===\\n", *commands], **options)
    assert "Traceback" not in result.stdout + result.stderr
    return result.stdout.split("===\n", 1)[1], result.stderr


def test_print_with_its_options(maps, tmp_path):
    out, _ = ask(maps, "gomap print main.M0 --sort key --limit 2")
    assert out.splitlines()[1:] == ['  "": 0', '  "four": 4', "  … 3 more; --limit 0 shows all"]
    out, _ = ask(maps, "gomap print main.M0 --sort elem --where elem>=2 --json")
    [document] = documents(out)
    assert [e["elem"] for e in document["entries"]] == [2, 3, 4] and document["shown"] == 3
    out, _ = ask(maps, "gomap print main.M0 --where 't*'")
    assert '"two": 2' in out and '"three": 3' in out and '"one"' not in out
    out, _ = ask(maps, "gomap print main.M0 --raw --where /^two$/")
    assert re.search(r"table 0, group 0, slot \d: key at 0x[0-9a-f]+ [0-9a-f]{32}, elem at 0x[0-9a-f]+ 0200000000000000", out)
    target = tmp_path / "answer"
    out, _ = ask(maps, f"gomap print main.M0 --json -o {target}")
    assert out == "" and len(oracle.loads(target.read_text())["entries"]) == 5
    _, err = ask(maps, "gomap print main.M0 -o /nowhere/file")
    assert "cannot write /nowhere/file" in err


@BOTH
def test_export_holds_every_entry(version, tmp_path):
    dump = build.dump("maps", version)
    truth = {m["name"]: m for m in build.read_truth(dump.truth)}
    files = [tmp_path / f"out.{ending}" for ending in ("json", "jsonl", "csv")]
    out, _ = ask(dump, *(f"gomap export main.M8 {file}" for file in files))
    assert out.splitlines() == [f"5000 entries written to {file}" for file in files]
    whole, lines, cells = (file.read_text() for file in files)
    assert not oracle.differences(truth["main.M8"], oracle.loads(whole))
    entries = [oracle.loads(line) for line in lines.splitlines()]
    assert not oracle.entry_differences(truth["main.M8"]["entries"], entries)
    assert sorted(cells.splitlines()) == sorted(["key,elem", *(f"{e['key']},{e['elem']}" for e in entries)])


def test_get_tells_the_kinds_of_presence_apart(maps):
    out, _ = ask(maps, 'gomap get main.M0 "" --json', 'gomap get main.M0 "two" --json', 'gomap get main.M0 "nope" --json',
                 'gomap get main.M1 "x" --json', "gomap get main.M0 --expr 1 --json")
    verdicts = [(d["found"], d["verdict"]) for d in documents(out)]
    assert verdicts == [(True, "zero"), (True, "present"), (False, "absent"), (False, "absent")]


def test_settings_are_gdb_parameters(maps):
    out, _ = ask(maps, "set gomap limit 1", "gomap print main.M0", "show gomap limit", "set gomap depth 0",
                 "gomap print main.M52 --limit 0 --json", "set gomap string-limit 2", "gomap print main.M0 --limit 0", "show gomap")
    assert "4 more; --limit 0 shows all" in out and '"th"' in out
    assert all("$elem" not in json.dumps(e) for e in documents(out)[0]["entries"])
    assert "gomap style" in out.splitlines()[-1]
    _, err = ask(maps, "set gomap limit x")
    assert err


def test_follow_limit_bounds_what_pointers_lead_to(maps, tmp_path):
    # Maps whose elems are pointers, told whole, then with less room than one of them needs.
    out, _ = ask(maps, "gomap print main.M95 --limit 0 --json", "gomap print main.M95 --limit 0 --json --follow-limit 1",
                 "set gomap follow-limit 1", "gomap print main.M95 --limit 0", f"gomap export main.M95 {tmp_path}/cut.jsonl",
                 f"gomap export main.M95 {tmp_path}/whole.jsonl --follow-limit 0", "show gomap follow-limit")
    whole, cut = documents(out)
    assert "cut" not in whole and 0 < cut["cut"] <= cut["shown"] == whole["shown"]
    assert json.dumps(cut["entries"]) != json.dumps(whole["entries"])
    said = "more behind pointers than follow-limit allows; --follow-limit 0 shows all"
    assert out.count(said) == 2, out[-1500:]
    assert "of one key or elem (0: all) 1" in out
    exported = [oracle.loads(line) for line in (tmp_path / "whole.jsonl").read_text().splitlines()]
    assert not oracle.entry_differences(whole["entries"], exported)


def test_functions_in_expressions(maps):
    # gdb itself finds main.M0 without quotes only after it has read that unit.
    expressions = ("$gomap_len('main.M0')", "$gomap_len(main.M0) * 2 + 1", '$gomap_has(main.M0, "two")',
                   '$gomap_has(main.M0, "Two")', '$gomap_get(main.M0, "three") + 1', "$gomap_has('main.M8', 4999)",
                   "$gomap_has('main.M8', 5000)")
    out, _ = ask(maps, *(f"print {expression}" for expression in expressions))
    assert [line.split(" = ")[1] for line in out.splitlines()] == ["5", "11", "true", "false", "4", "true", "false"]


def test_last_map_and_addresses(maps):
    address = next(m["address"] for m in build.read_truth(maps.truth) if m["name"] == "main.M0")
    out, _ = ask(maps, "gomap print main.M0 --json", "gomap print $gomap_last --json",
                 f"gomap print {address} --type 'map[string]int' --json")
    first, second, third = documents(out)
    assert first == second == third and first["map"]["address"] == address


def test_help_and_completion(maps):
    out, _ = ask(maps, "help gomap", "help gomap print", "complete gomap pr", "complete gomap print main.M10",
                 "complete gomap print main.M0 --li", "complete set gomap li")
    assert "gomap VERB [MAP] [OPTIONS]" in out and "--where PATTERN" in out
    lines = out.splitlines()
    assert "gomap print" in lines and "gomap print main.M0 --limit" in lines and "set gomap limit" in lines
    assert {f"gomap print main.M10{i}" for i in range(6)} <= set(lines)


@pytest.mark.parametrize("language", ("auto", "go", "c"))
def test_plain_print_and_gomap_in_every_language(maps, language):
    out, err = ask(maps, f"set language {language}", "print 'main.M0'", "gomap print main.M0 --json", "gomap print 'main.M0' --json",
                   "gomap print main.Strukt.Inner.M --json")
    assert re.search(r'\$1 = map\[string\]int\{("\w*": \d, ){4}"\w*": \d\}', out), out
    assert [len(d["entries"]) > 0 for d in documents(out)] == [True] * 3, err


def test_print_elements_bounds_the_pretty_printer(maps):
    out, _ = ask(maps, "set print elements 3", "print 'main.M8'", "print 'main.M1'")
    assert re.search(r"\$1 = map\[int\]int\{-?\d+: -?\d+, -?\d+: -?\d+, -?\d+: -?\d+, … 4997 more\}", out)
    assert "$2 = map[string]int(nil)" in out
    out, _ = ask(maps, "print -elements 2 -- 'main.M8'", "set print elements 1", "print -elements unlimited -- 'main.M0'")
    assert "… 4998 more}" in out and out.splitlines()[-1].count(": ") == 5, out


@BOTH
@pytest.mark.parametrize("order", ("before", "after"))
def test_beside_runtime_gdb_py(version, order):
    dump = build.dump("maps", version)
    script = toolchains.go(version).parent.parent / "src/runtime/runtime-gdb.py"
    ours = f"source {GDBINIT}"
    line = ["gdb", "-nx", "-batch", "-iex", "set auto-load off", str(dump.exe), str(dump.core)]
    for command in ([f"source {script}", ours] if order == "before" else [ours, f"source {script}"]):
        line += ["-ex", command]
    # Go's script empties the object file's list of printers, so ours goes back to its head at the next command.
    line += ["-ex", "gomap print main.M0 --json", "-ex", "print 'main.M0'"]
    result = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert re.search(r'\$1 = map\[string\]int\{"', result.stdout), result.stdout[-500:] + result.stderr[-500:]
    assert len(documents(result.stdout)[0]["entries"]) == 5


def test_machine_interface(maps):
    script = "\n".join(['-interpreter-exec console "gomap print main.M0 --json"', "-data-evaluate-expression 'main.M0'",
                        "-enable-pretty-printing", "-var-create v * 'main.M0'", "-gdb-exit", ""])
    line = ["gdb", "-nx", "-q", "-i=mi", "-iex", "set auto-load off", "-x", str(GDBINIT), str(maps.exe), str(maps.core)]
    result = subprocess.run(line, input=script, capture_output=True, text=True, timeout=60)
    assert r'\"entries\":[{\"key\":' in result.stdout
    assert result.stdout.count(r"map[string]int{") >= 2, result.stdout[-1500:]
    assert "Traceback" not in result.stdout + result.stderr and "^exit" in result.stdout


@BOTH
@pytest.mark.parametrize("variant", ("noopt", "default"))
def test_locals_and_arguments_of_every_frame(version, variant):
    dump = build.dump("locals", version, variant, "kernel" if variant == "noopt" else "gcore")
    truth = {tuple(m["name"].split(":")): m for m in build.read_truth(dump.truth)}
    script = "\n".join([
        "python", "import gdb, json", "for thread in gdb.selected_inferior().threads():", "    thread.switch()",
        "    frame = gdb.newest_frame()", "    for _ in range(40):", "        if frame is None: break",
        "        frame.select()", f"        wanted = {sorted(truth)!r}", "        for function, name in wanted:",
        "            if frame.name() and frame.name().split('.')[-1] == function.split('.')[-1]:",
        "                try: text = gdb.execute('gomap print %s --limit 0 --json' % name, to_string=True)",
        "                except gdb.error as error: text = json.dumps({'error': str(error)})",
        "                print('FOUND ' + json.dumps([function, name, json.loads(text)]))",
        "        try: frame = frame.older()", "        except gdb.error: break", "end", ""])
    path = dump.core.parent / "locals.gdb"
    path.write_text(script)
    out, _ = ask(dump, f"source {path}")
    found = [json.loads(line[6:]) for line in out.split("\n") if line.startswith("FOUND ")]
    errors = [answer["error"] for _, _, answer in found if "error" in answer]
    assert all("Traceback" not in error and "\n" not in error.strip() for error in errors)
    # Other frames run the same functions with maps of their own, and maps on a stack move with it: one of the
    # answers has the entries that were told.
    right = {(function, name) for function, name, answer in found
             if "error" not in answer and not oracle.entry_differences(truth[function, name]["entries"], answer["entries"])}
    simple = {(function, name) for function, name in truth if name.isidentifier()}
    if variant == "noopt":
        assert simple <= right, (simple - right, errors)
    else:
        assert right or errors


def test_a_package_variable_needs_no_frame(maps):
    # On a big program gdb's first look at a frame takes seconds.
    no_frame = "python gdb.selected_frame = lambda: (_ for _ in ()).throw(RuntimeError('a frame was asked for'))"
    out, err = ask(maps, no_frame, "gomap print main.M0 --json", "gomap print *main.P --json")
    assert [len(d["entries"]) for d in documents(out)][:1] == [5] and "a frame was asked for" not in out + err


def test_two_inferiors_in_one_gdb():
    classic, swiss = (build.dump("maps", version) for version in ("1.23.9", "1.27.3"))
    shown = ["gomap print main.M8 --limit 0 --json", "gomap stats main.M8 --json", "print $gomap_len('main.M8')"]
    out, err = ask(classic, *shown, "add-inferior", "inferior 2", f"file {swiss.exe}", f"core-file {swiss.core}", *shown,
                   "inferior 1", *shown, "inferior 2", *shown)
    answers = documents(out)
    assert [a["map"]["layout"] for a in answers] == ["classic", "classic", "swiss", "swiss"] * 2, err[-1500:]
    assert out.count(" = 5000") == 4
    for dump, answer in zip((classic, swiss, classic, swiss), answers[::2]):
        [truth] = [m for m in build.read_truth(dump.truth) if m["name"] == "main.M8"]
        assert not oracle.differences(truth, answer)


@BOTH
def test_a_live_process_is_read_afresh_after_it_ran(version):
    exe = build.build("racing", version)
    # The map grows while the program runs: what was read at one stop must not be shown at the next.
    growth = {"1.23.9": "runtime.hashGrow", "1.27.3": "internal/runtime/maps.(*table).rehash"}[version]
    symbols = subprocess.run(["nm", exe], capture_output=True, text=True, check=True).stdout
    [address] = [line.split()[0] for line in symbols.splitlines() if line.endswith(" " + growth)]
    stop = f'break *0x{address} if $_any_caller_matches("main.main", 8)'
    shown = ["python print('COUNT', gdb.execute('gomap stats main.Shared --json', to_string=True))"]
    result = gdb("-iex", "set auto-load off", exe, commands=[stop, "run one", *shown, "continue 5", *shown, "kill", *shown],
                 env=dict(os.environ, GOGC="off"))
    counts = [json.loads(line.split(" ", 1)[1])["map"]["count"] for line in result.stdout.split("\n") if line.startswith("COUNT")]
    assert len(counts) == 2 and 0 < counts[0] < counts[1], result.stdout[-1500:] + result.stderr[-500:]
    assert "there is nothing to read" in result.stderr


def test_the_c_locale_is_enough_for_keys_beyond_ascii(maps):
    """Containers have no other locale."""
    key = "\u00fcn\u00efc\u00f6d\u00e9 \u4e16\u754c \U0001f389"
    [name] = [m["name"] for m in build.read_truth(maps.truth) if key in [entry["key"] for entry in m.get("entries", [])]]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "LC_ALL": "C"}
    out, err = ask(maps, f"gomap print {name} --limit 0", f"print '{name}'", f'gomap get {name} "{key}"', "help gomap get",
                   env=environment, encoding="utf-8")
    assert "Error" not in err and out.count(key) == 3 and "KEY is a Go literal" in out, (out, err)
