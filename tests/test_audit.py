"""`gomap audit`: limits against what programs print of themselves; its forms read by others' readers."""

import json
import re
import subprocess
from collections import Counter

import build
import pytest
import toolchains
from conftest import ROOT, cli, documents, gdb
from junitparser import Error, Failure, JUnitXml
from sarif_pydantic import Sarif

BOTH = pytest.mark.parametrize("version", ("1.23.9", "1.27.3"))
LEAKS = '[leaks]\nclasses = ["likely_key_mismatch", "leak_suspect"]\n'


def audit(dump, tmp_path, policy=None, *words):
    """The exit status and the JSON answer of an audit of a core."""
    if policy is not None:
        (tmp_path / "policy.toml").write_text(policy)
        words = ("--policy", tmp_path / "policy.toml", *words)
    done = cli("--core", dump.exe, dump.core, "audit", "--json", *words)
    assert done.returncode in (0, 1), done.stderr
    [answer] = documents(done.stdout)
    assert answer["passed"] == (done.returncode == 0)
    return done.returncode, answer


def found(answer, rule):
    """place -> value of a rule's findings."""
    return {finding["place"]: finding["value"] for finding in answer["findings"] if finding["rule"] == rule}


@BOTH
@pytest.mark.parametrize("case", ("trailing-space", "nan-key"))
def test_a_leak_fails_and_is_counted_as_the_program_counts(version, case, tmp_path):
    dump = build.dump("leaks", version, args=(case,))
    waits = Counter(wait["reason"] for wait in build.read_truth(dump.truth)[0]["waits"])
    status, answer = audit(dump, tmp_path)
    leaks = found(answer, "leaks")
    assert status == 1 and leaks
    for place, value in leaks.items():
        state = re.search(r"\[(.*)\]$", place)[1]
        assert value == waits[state], (place, waits)
    # As many as there are may be allowed.
    status, answer = audit(dump, tmp_path, LEAKS + f"max = {max(waits.values())}\n")
    assert status == 0 and not answer["findings"] and set(answer["checked"]) == {"leaks"}


@BOTH
def test_maps_are_held_to_their_own_sizes(version, tmp_path):
    dump = build.dump("maps", version)
    maps = {one["name"]: one for one in build.read_truth(dump.truth) if re.fullmatch(r"main\.M\d+", one["name"])}
    status, answer = audit(dump, tmp_path, '[[map]]\npath = "main.M*"\nmax_entries = 50\nmax_nan_keys = 0\n')
    entries = {name: value for name, value in found(answer, "map-entries").items() if name in maps}
    assert status == 1 and entries == {name: one["len"] for name, one in maps.items() if one["len"] > 50}
    nan = {"$float": "NaN"}
    expected = {name: sum(entry["key"] == nan for entry in one["entries"])
                for name, one in maps.items() if one.get("entries") and "float" in one["type"].partition("]")[0]}
    expected = {name: count for name, count in expected.items() if count}
    reported = found(answer, "nan-keys")
    assert expected and {name: reported.get(name) for name in expected} == expected


@BOTH
def test_the_first_limits_that_fit_a_path_count(version, tmp_path):
    dump = build.dump("maps", version)
    policy = '[[map]]\npath = "main.*"\n\n[[map]]\npath = "*"\nmax_entries = 0\n'
    _, answer = audit(dump, tmp_path, policy)
    assert not any(place.startswith("main.") for place in found(answer, "map-entries"))


@BOTH
def test_each_planted_corruption_is_a_finding(version, tmp_path):
    dump = build.dump("corrupt", version)
    _, answer = audit(dump, tmp_path, '[integrity]\nseverity = "warning"\n')
    places = found(answer, "integrity")
    for place in ("main.KeyChanged misplaced-key", "main.Twice duplicate-key", "main.OffByOne count-mismatch",
                  "main.Writing writing"):
        assert place in places
    assert not any(place.startswith("main.Sound ") for place in places)
    _, answer = audit(dump, tmp_path, '[integrity]\nseverity = "error"\n')
    assert "main.Writing writing" not in found(answer, "integrity")


def test_a_baseline_lets_known_findings_pass_unless_they_grow(tmp_path):
    dump = build.dump("leaks", "1.27.3", args=("trailing-space",))
    file = tmp_path / "known.json"
    status, answer = audit(dump, tmp_path, LEAKS, "--write-baseline", file)
    assert status == 0 and {finding["state"] for finding in answer["findings"]} == {"known"}
    known = json.loads(file.read_text())
    assert audit(dump, tmp_path, LEAKS, "--baseline", file)[0] == 0

    first, *others = known["findings"]
    file.write_text(json.dumps({**known, "findings": [{**first, "value": first["value"] - 1}, *others]}))
    status, answer = audit(dump, tmp_path, LEAKS, "--baseline", file)
    states = {finding["place"]: finding["state"] for finding in answer["findings"]}
    assert status == 1 and states[first["place"]] == "worse"
    assert audit(dump, tmp_path, LEAKS + "[baseline]\ntolerance = 0.5\n", "--baseline", file)[0] == 0

    gone = {"rule": "leaks", "place": "main.mended [select]", "value": 3}
    elsewhere = {"rule": "map-bytes", "place": "main.big", "value": 3}
    file.write_text(json.dumps({**known, "findings": [*others, gone, elsewhere]}))
    status, answer = audit(dump, tmp_path, LEAKS, "--baseline", file)
    states = {finding["place"]: finding["state"] for finding in answer["findings"]}
    assert status == 1 and states[first["place"]] == "new"
    # A rule that was not checked says nothing of what is gone.
    assert answer["fixed"] == [{"rule": "leaks", "place": "main.mended [select]"}]


@pytest.fixture(scope="module")
def tenants(tmp_path_factory):
    """Runs tests/audit with N large maps, whose paths agree where they are shown; gives its process."""
    running = []
    programs = {}

    def run(version, large):
        if version not in programs:
            programs[version] = tmp_path_factory.mktemp("tenants") / "tenants"
            subprocess.run([toolchains.go(version), "build", "-o", programs[version], "."], cwd=ROOT / "tests" / "audit",
                           env=toolchains.environment(version), check=True)
        process = subprocess.Popen([programs[version], str(large)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout.readline() == f"large: {large}\n"
        return process

    yield run
    for process in running:
        process.communicate()


PREFIX = "/var/lib/service/tenants/" + "x" * 35 + "/"


def live_audit(process, policy, *words):
    done = cli("--pid", process.pid, "audit", "--json", "--policy", policy, *words)
    assert done.returncode in (0, 1), done.stderr
    [answer] = documents(done.stdout)
    return done.returncode, answer


@BOTH
def test_a_known_map_does_not_hide_others_that_are_shown_alike(version, tenants, tmp_path):
    policy, file = tmp_path / "policy.toml", tmp_path / "known.json"
    policy.write_text('[[map]]\npath = "main.tenants*"\nmax_entries = 10\n')
    few, many = tenants(version, 1), tenants(version, 4)
    assert live_audit(few, policy, "--write-baseline", file)[0] == 0
    assert live_audit(few, policy, "--baseline", file)[0] == 0
    status, answer = live_audit(many, policy, "--baseline", file)
    states = {finding["place"]: finding["state"] for finding in answer["findings"]}
    assert status == 1 and states == {f'main.tenants["{PREFIX}{n}"]': "known" if n == 0 else "new" for n in range(4)}
    text = cli("--pid", many.pid, "audit", "--policy", policy, "--baseline", file)
    assert text.stdout.splitlines()[-1] == "audit failed: 3 to mend, 1 known" and PREFIX not in text.stdout
    # A policy can ask for one of them.
    policy.write_text(f'[[map]]\npath = "main.tenants[*/2\\"]"\nmax_entries = 10\n')
    assert [finding["place"] for finding in live_audit(many, policy)[1]["findings"]] == [f'main.tenants["{PREFIX}2"]']


def test_a_baseline_of_the_form_that_cut_paths_is_read_and_said(tenants, tmp_path):
    policy, file = tmp_path / "policy.toml", tmp_path / "known.json"
    policy.write_text('[[map]]\npath = "main.tenants*"\nmax_entries = 10\n')
    cut = {"rule": "map-entries", "place": f'main.tenants["{PREFIX[:40]}"…]', "value": 100}
    gone = {"rule": "map-entries", "place": 'main.mended["/var/lib"…]', "value": 100}
    file.write_text(json.dumps({"schema": "mapscope.audit-baseline/1", "findings": [cut, gone]}))
    status, answer = live_audit(tenants("1.27.3", 4), policy, "--baseline", file)
    assert status == 1 and sorted(finding["state"] for finding in answer["findings"]) == ["known", "new", "new", "new"]
    [note] = [note for note in answer["notes"] if "older form" in note]
    assert "1 of its findings cannot be matched for certain" in note and "3 more that fit count as new" in note
    assert answer["fixed"] == [{"rule": gone["rule"], "place": gone["place"]}]


def test_one_known_finding_stands_for_one(tmp_path):
    """Heap objects of one type have one place; what is known of it is matched with what it covers."""
    dump = build.dump("leaks", "1.27.3", args=("trailing-space",))
    policy = '[[map]]\npath = "*"\nmax_entries = 0\n'
    file = tmp_path / "known.json"
    _, answer = audit(dump, tmp_path, policy, "--write-baseline", file)
    known = json.loads(file.read_text())["findings"]
    twice = next(place for place, count in Counter(one["place"] for one in known).items() if count > 1)
    same = sorted((one for one in known if one["place"] == twice), key=lambda one: one["value"])
    for lacking in same:
        left = list(known)
        left.remove(lacking)
        file.write_text(json.dumps({"schema": "mapscope.audit-baseline/2", "findings": left}))
        status, answer = audit(dump, tmp_path, policy, "--baseline", file)
        failing = [finding for finding in answer["findings"] if finding["state"] != "known"]
        assert status == 1 and [finding["place"] for finding in failing] == [twice]


#: Text of a stranger: a function's name that tries to leave XML and JSON, and to mislead the eye.
HOSTILE = 'main.x"><script>&amp;\u202e]]>\ufffe'


@pytest.fixture
def hostile_profile(tmp_path):
    stacks = [f"goroutine {goid} [chan receive (nil chan), 90 minutes]:\n{HOSTILE}(0x1)\n\t/src/a b/é.go:7 +0x1d\n"
              "created by main.main in goroutine 1\n\t/src/main.go:9 +0x1d\n" for goid in range(20, 32)]
    path = tmp_path / "stacks.txt"
    path.write_text("\n".join(stacks))
    return path


def test_sarif_is_read_by_a_reader_of_sarif(hostile_profile, tmp_path):
    out = tmp_path / "audit.sarif"
    assert cli("audit", "--profile", hostile_profile, "-o", out).returncode == 1
    log = Sarif.model_validate_json(out.read_text())
    [run] = log.runs
    [result] = run.results
    assert log.version == "2.1.0" and run.tool.driver.rules[result.rule_index].id == result.rule_id == "leaks"
    [location] = result.locations
    assert location.physical_location.artifact_location.uri == "file:///src/a%20b/%C3%A9.go"
    assert location.physical_location.region.start_line == 7
    assert "12 goroutines" in result.message.text
    assert json.loads(out.read_text())["runs"][0]["results"][0]["baselineState"] == "new"


def test_junit_is_read_by_a_reader_of_junit(hostile_profile, tmp_path):
    out = tmp_path / "audit.xml"
    policy = tmp_path / "policy.toml"
    policy.write_text(LEAKS + "[goroutines]\nmax = 100\n[total]\nmax_bytes = 1\n")
    assert cli("audit", "--profile", hostile_profile, "--policy", policy, "-o", out).returncode == 1
    suites = JUnitXml.fromstring(out.read_bytes())
    [suite] = suites
    cases = {case.name: [type(result) for result in case.result] for case in suite}
    assert cases == {"goroutines": [], "leaks": [Failure], "total-bytes": [Error]}
    assert (suite.tests, suite.failures, suite.errors) == (3, 1, 1)
    text = out.read_text()
    assert "<script>" not in text and "script" in text and "\u202e" not in text and "\ufffe" not in text


def test_text_for_a_terminal_does_not_mislead(hostile_profile):
    done = cli("audit", "--profile", hostile_profile)
    assert done.returncode == 1 and "script" in done.stdout and "\u202e" not in done.stdout
    assert done.stdout.splitlines()[-1] == "audit failed: 1 to mend, 0 known"


BAD_POLICIES = {
    "[leaks]\nclases = []": "line 2: unknown field `clases`",
    '[leaks]\nclasses = ["leak"]': "line 2: unknown variant `leak`",
    "[goroutines]\nmax = -1": "line 2:",
    "[[map]]\nmax_bytes = 1": "missing field `path`",
    '[[map]]\npath = "*"\nmin_load = 20': "20 is not a share from 0 to 1",
    "[baseline]\ntolerance = nan": "NaN is not a share from 0 to 1",
    "what": "line 1:",
}


@pytest.mark.parametrize("policy", BAD_POLICIES)
def test_a_policy_that_makes_no_sense_is_one_sentence(policy, hostile_profile, tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(policy)
    done = cli("audit", "--profile", hostile_profile, "--policy", path)
    assert done.returncode == 2 and BAD_POLICIES[policy] in done.stderr and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("text", ("", "[]", '{"schema":"x","findings":[]}', '{"findings":3}'))
def test_a_baseline_that_is_none_is_one_sentence(text, hostile_profile, tmp_path):
    path = tmp_path / "known.json"
    path.write_text(text)
    done = cli("audit", "--profile", hostile_profile, "--baseline", path)
    assert done.returncode == 2 and "is no baseline of gomap audit" in done.stderr and len(done.stderr.splitlines()) == 1


def test_without_a_source_there_is_nothing_to_audit():
    done = cli("audit")
    assert done.returncode == 2 and done.stderr.startswith("mapscope: give --profile FILE")


def test_gdb_answers_the_same(tmp_path):
    dump = build.dump("leaks", "1.27.3", args=("trailing-space",))
    _, alone = audit(dump, tmp_path)
    [in_gdb] = documents(gdb(dump.exe, dump.core, commands=["gomap audit --json"]).stdout)
    assert in_gdb["findings"] == alone["findings"] and not in_gdb["passed"]


def test_the_policy_of_the_readme_gates_an_integration_test(tmp_path):
    readme = (ROOT / "README.md").read_text()
    [policy] = re.findall(r"```toml\n(.*?)```", readme, re.DOTALL)
    leaking = build.dump("leaks", "1.27.3", args=("nan-key",))
    status, answer = audit(leaking, tmp_path, policy)
    assert status == 1 and not answer["unchecked"] and found(answer, "leaks")
