"""Names: packages whose import path is not their name, paths that `list` prints and `print` takes, sync.Maps inside values."""

import json

import build
import oracle
import pytest
from conftest import documents, gdb, map_words

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
