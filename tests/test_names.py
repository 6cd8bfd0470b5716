"""Names: packages whose import path is not their name, paths that `list` prints and `print` takes, sync.Maps inside values."""

import argparse
import json
import re

import build
import oracle
import pytest
from conftest import cli, documents, gdb, map_words

from mapscope import cli as mapscope_cli
from mapscope import commands
from mapscope._native import Error

EACH = pytest.mark.parametrize("version", ("1.19", "1.23.9", "1.24.11", "1.27.3"))


@pytest.fixture(scope="module")
def asked():
    """The answers of one gdb to many commands, and the truth."""

    def ask(version, commands, variant="default"):
        dump = build.dump("names", version, variant)
        truth = {t["name"]: t for t in build.read_truth(dump.truth)}
        result = gdb("-iex", "set auto-load off", dump.exe, dump.core, commands=commands(truth), encoding="utf-8")
        assert "Traceback" not in result.stdout + result.stderr
        return truth, documents(result.stdout), result

    return ask


@EACH
def test_packages_by_path_and_by_name(asked, version):
    spellings = lambda truth: [(t, name) for t in truth.values() if "entries" in t and t["note"] != "copy"
                               for name in (t["name"], escaped(t["name"]), *t["note"].split())]
    truth, answers, result = asked(version, lambda truth: [f"gomap print {name} --limit 0 --json" for _, name in spellings(truth)])
    assert len(answers) == len(spellings(truth)), result.stderr
    for (want, name), got in zip(spellings(truth), answers):
        assert got["map"]["address"] == want["address"] and "%2e" not in got["map"]["type"], name
        assert oracle.entry_differences(want["entries"], got["entries"]) == [], name


def escaped(name):
    """As the linker spells it."""
    path, slash, last = name.rpartition("/")
    package, _, variable = last.rpartition(".")
    return path + slash + package.replace(".", "%2e") + "." + variable


@EACH
def test_types_in_answers_are_those_of_the_program(asked, version):
    """In Go syntax, which says each type as %T does."""
    truth, _, result = asked(version, lambda truth: [
        "gomap print socketio.Live --sort key", "gomap print socketio.ByConn", "gomap print lib.Ts", "gomap print tilde.Ts",
        "gomap print main.Maße", "gomap get socketio.ByConn 'socketio.Conn{\"x\"}'", "gomap get lib.Ts 'lib.T{1}'"])
    out = result.stdout
    assert '"a": &socketio.Conn{ID:"a"}' in out
    # Type arguments have their paths, as symbols spell them: so says %T.
    [generic] = [e["elem"]["$type"] for e in truth["mapscope.example/samples/names/go-socket.io.Live"]["entries"] if e["key"] == "b"]
    assert '"b": %s{Key:"k"' % generic in out
    assert 'socketio.Conn{ID:"x"}: &socketio.Conn{ID:"y"}' in out
    assert "lib.T{A:1}: []lib.T{lib.T{A:2}, lib.T{A:3}}" in out
    assert '"t": tilde.T{A:5}' in out and '"ä": main.Größe{Länge:1}' in out
    assert out.count("present (") == 2, out + result.stderr


@EACH
def test_a_name_of_two_packages_is_refused_with_both(asked, version):
    _, _, result = asked(version, lambda truth: ["gomap print twin.Ts"])
    assert "one/twin.Ts" in result.stderr and "two/twin.Ts" in result.stderr and "several" in result.stderr


def without_addresses(value):
    if isinstance(value, dict):
        return {name: without_addresses(part) for name, part in value.items() if name != "$ptr"}
    return [without_addresses(part) for part in value] if isinstance(value, list) else value




@EACH
@pytest.mark.parametrize("variant", ("default", "stripped"))
def test_a_sync_map_inside_a_value_shows_its_entries(asked, version, variant):
    shown = lambda truth: [t for t in truth.values() if "entries" not in t]
    truth, answers, result = asked(version, lambda truth: [
        "gomap print %s --limit 0 --json" % " ".join(f"'{word}'" if " " in word else word for word in map_words(t, variant))
        for t in shown(truth)], variant)
    assert len(answers) == len(shown(truth)) == 4, result.stderr
    for real, got in zip(shown(truth), answers):
        # A *map[any]any stands for a *sync.Map.
        want = json.dumps(without_addresses(truth[real["note"]]["entries"])).replace("*map[interface {}]interface {}", "*sync.Map")
        assert oracle.entry_differences(json.loads(want), without_addresses(got["entries"])) == [], real["name"]


@pytest.mark.parametrize("version", ("1.19", "1.27.3"))
def test_a_sync_map_inside_a_value_in_go_syntax(asked, version):
    _, _, result = asked(version, lambda truth: ['gomap get main.Held "one"', "print 'main.Pointed'", 'gomap get main.Held "none"'])
    one = r'&main.Holder{Name:"one", M:sync.Map{0:"one"}, Deep:[1]struct { sync.Map }{struct { sync.Map }{Map:sync.Map{"one":0}}}}'
    assert one in result.stdout, result.stdout
    assert 'M:sync.Map{}' in result.stdout and '"one": &sync.Map{0:"one"}' in result.stdout, result.stdout


def paths_of(*target):
    """What `list --json` says of a target, and the front end that said it."""
    front = cli_front(*target)
    text = []
    front.write = text.append
    commands.run(front, ["list", "--json", "--limit", "0"])
    return front, oracle.loads("".join(text))["maps"]


def cli_front(exe, core):
    front, _ = mapscope_cli._parse(["--core", str(exe), str(core)])
    front.note = lambda sentence: None
    return front


def shape(path):
    """A path without what there is many of."""
    return re.sub(r"0x[0-9a-f]+|\d+", "0", re.sub(r'"(?:\\.|[^"\\])*"', '""', path))


@pytest.mark.parametrize("version", ("1.19", "1.27.3"))
@pytest.mark.parametrize("sample", ("everywhere", "maps", "demo", "healthy", "names", "syncmap", "keys"))
@pytest.mark.parametrize("variant", ("default", "stripped"))
def test_every_path_of_list_leads_to_its_map(sample, version, variant):
    dump = build.dump(sample, version, variant)
    front, maps = paths_of(dump.exe, dump.core)
    assert len(maps) > 5
    wrong = []
    for m in maps:
        try:
            found = commands.find_map(front, argparse.Namespace(map=m["path"], type=None))
            if "%#x" % found.address != m["address"]:
                wrong.append((m, "%#x" % found.address))
        except Error as error:
            wrong.append((m, str(error)))
    assert not wrong, (len(wrong), wrong[:5])
    # A path that needs an address is one that no expression is for.
    if variant == "default" and sample in ("maps", "names", "syncmap", "keys"):
        known = {t["address"] for t in build.read_truth(dump.truth) if t["name"].startswith("main.") and ":" not in t["name"]}
        assert not [m for m in maps if m["address"] in known and "→" in m["path"]]


@pytest.mark.parametrize("version", ("1.19", "1.27.3"))
def test_paths_are_words_for_every_verb_and_debugger(version, tmp_path):
    dump = build.dump("everywhere", version)
    front, maps = paths_of(dump.exe, dump.core)
    text = cli("--core", dump.exe, dump.core, "list", "--limit", "0").stdout.splitlines()
    lines = text[1 : len(maps) + 1]
    assert all(f"  {m['path']} {m['type']}" in line for m, line in zip(maps, lines))
    shapes = {}
    for m in maps:
        # What counts is one of each form.
        if m["count"]:
            shapes.setdefault(shape(m["path"]), m)
    assert len(shapes) > 15
    verbs = ["print {} --json", "stats {} --json", "check {} --json", "diff {} {} --json", "export {} " + str(tmp_path / "out.jsonl")]
    commands_ = [verb.replace("{}", m["path"]) for m in shapes.values() for verb in verbs]
    result = gdb(dump.exe, dump.core, commands=[f"gomap {command}" for command in commands_], encoding="utf-8", timeout=300)
    answers = documents(result.stdout)
    assert len(answers) == 4 * len(shapes), result.stderr[-2000:]
    said = result.stdout.count(" entries written to ")
    assert said == len(shapes)
    for i, m in enumerate(shapes.values()):
        printed, stats, checked, diffed = answers[4 * i : 4 * i + 4]
        heads = (printed["map"], stats["map"], checked["maps"][0]["map"], diffed["a"], diffed["b"])
        assert {head["address"] for head in heads} == {m["address"]} and diffed["counts"]["kept"] == m["count"]
        key = printed["entries"][0]["key"]
        if isinstance(key, str):
            for verb in ("get", "why"):
                words = [verb, m["path"], json.dumps(key, ensure_ascii=False), "--json"]
                text = []
                front.write = text.append
                commands.run(front, words)
                assert oracle.loads("".join(text))["map"]["address"] == m["address"]


@pytest.mark.parametrize("version", ("1.19", "1.23.9", "1.27.3"))
def test_expressions_of_a_programmer(version):
    dump = build.dump("names", version)
    front = cli_front(dump.exe, dump.core)
    address = lambda expression: commands.find_map(front, argparse.Namespace(map=expression, type=None)).address
    nodes = address("yaml.Nodes")
    inner = address('yaml.Nodes["root"].Sub')
    assert nodes and inner and address("'yaml.Nodes[\"root\"].Sub'") == inner
    assert address(f"(map[string]*yaml.Node)({nodes:#x})") == nodes
    assert address(f'(map[string]*yaml.Node)({nodes:#x})["root"].Sub') == inner
    assert address('main.Boxed["many"].(*sync.Map)') == address('main.Pointed["many"]') == address('main.Held["many"].M')
    assert address('main.Slices[2][1].M') == address('main.Held["many"].M')
    for expression, why in (('yaml.Nodes["rot"].Sub', "no key"), ("main.Slices[2][2].M", "out of range"),
                            ('main.Boxed["many"].(*lib.T)', "holds a"), ("main.Held(1)", "left over")):
        with pytest.raises(Error, match=why):
            address(expression)


def test_a_diff_takes_the_type_of_an_address(tmp_path):
    dump = build.dump("names", "1.27.3", "stripped")
    truth = next(t for t in build.read_truth(dump.truth) if t["name"] == "main.Held")
    core, file = ("--core", dump.exe, dump.core), tmp_path / "before"
    assert cli(*core, "snapshot", truth["address"], file, "--type", truth["type"]).returncode == 0
    answer = cli(*core, "diff", file, truth["address"], "--type", truth["type"], "--json")
    assert documents(answer.stdout)[0]["counts"]["kept"] == truth["len"], answer.stderr
    refused = cli("diff", file, file, "--type", "map[string]int")
    assert refused.returncode == 2 and "address" in refused.stderr
