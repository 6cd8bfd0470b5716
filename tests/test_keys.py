"""The runtime's own hash, against live programs: every key on the path of its hash, with the processor's AES
and without; and lookups that miss, against the reason that the program itself gives."""

import json
import os

import build
import oracle
import pytest
import toolchains
from conftest import EVERYTHING, FULL, STRIPPED_BUILDS, VERB_BUILDS, cli, documents, gdb

VERSIONS = toolchains.VERSIONS if EVERYTHING else FULL


def ask(sample, *words):
    """The JSON document that a verb answers about a live sample."""
    answer = cli("--pid", sample.process.pid, *words, "--json")
    assert answer.stdout, answer.stderr[:1000]
    return json.loads(answer.stdout)


#: Every relation that `why` can name.
RELATIONS = set("whitespace case unicode-form invisible homoglyph encoding affix edit-distance numeric width dynamic-type "
                "pointee struct-field nan signed-zero zero-value".split())
AES = pytest.mark.parametrize("aes", ["on", "off"])
ALGORITHM = {"on": "AES", "off": "fallback"}
#: The generated programs whose every key is looked for.
GENERATED = ("generated@1", "generated@2", "maps") if EVERYTHING else ("generated@1",)


def with_aes(sample, version, aes, variant="default"):
    """The sample, running, with the processor's AES or without."""
    environment = {"PATH": os.environ["PATH"], "GODEBUG": f"cpu.aes={aes}"}
    return build.live(build.build(sample, version, variant), env=environment)


@pytest.mark.parametrize("version,variant", VERB_BUILDS)
@AES
def test_every_key_lies_on_the_path_of_its_hash(version, variant, aes):
    with with_aes("keys", version, aes, variant) as sample:
        maps = ask(sample, "check", "--all")["maps"]
        if variant == "default":
            maps += ask(sample, "check", "main.Made")["maps"]
    assert len(maps) > 20
    assert [one for one in maps if one["findings"]] == []
    assert [one for one in maps if one.get("unchecked")] == []


def literal(key):
    """A key of the truth as a Go literal, where its JSON says all of it."""
    if isinstance(key, str):
        # As a character: Go has no escapes of half a pair.
        return json.dumps(key, ensure_ascii=False)
    return json.dumps(key) if isinstance(key, (bool, int)) else None


@pytest.mark.parametrize("version", VERSIONS)
@AES
@pytest.mark.parametrize("generated", GENERATED)
def test_every_key_of_every_generated_map_is_found_by_its_hash(generated, version, aes):
    with with_aes(generated, version, aes) as sample:
        truth = sample.truth
        reports = {one["map"]["path"]: one for one in ask(sample, "check", "--all")["maps"]}
        listed = [m for m in truth if m["len"] and m["name"] in reports]
        plain = [(m["name"], entry["elem"], literal(entry["key"])) for m in truth for entry in m.get("entries", [])[:3]]
        plain = [(name, elem, key) for name, elem, key in plain if key is not None]
        commands = [f"gomap get {name} {key} --json" for name, _, key in plain]
        commands.append("gomap why {} {} --json".format(plain[0][0], plain[0][2]))
        *answers, why = documents(gdb("-p", sample.pid, commands=commands).stdout)
    assert ALGORITHM[aes] in why["hasher"]["algorithm"]
    assert len(listed) > 100 or generated == "maps"
    for m in listed:
        report = reports[m["name"]]
        assert "unchecked" not in report and report["map"]["address"] == m["address"]
        # Keys that hold a NaN have another hash each time; check says how many they are.
        random = [int(f["detail"].split()[0]) for f in report["findings"] if f["kind"] == "nan-key"]
        assert len(random) == len(report["findings"]) and report["keys_checked"] + sum(random) == m["len"], report
    assert len(answers) == len(plain) > 30
    for (name, elem, key), answer in zip(plain, answers):
        assert answer["found"] and not answer["map"]["state"], (name, key)
        wanted, got = {"key": answer["key"], "elem": elem}, {"key": answer["key"], "elem": answer["elem"]}
        assert not oracle.entry_differences([wanted], [got]), (name, key)


LAYOUTS = [(version, "default") for version in VERSIONS] + [("1.24.11", "nosynchashtriemap"), *STRIPPED_BUILDS]


@pytest.mark.parametrize("version,variant", LAYOUTS)
def test_each_miss_has_its_reason_first(version, variant):
    dump = build.dump("misses", version, variant)
    stripped = (version, variant) in STRIPPED_BUILDS
    # Expressions need the names of variables.
    truth = [miss for miss in build.read_truth(dump.truth) if not (stripped and miss["expr"])]
    name = lambda m: "{} --type '{}'".format(m["address"], m["type"]) if stripped else m["map"]  # noqa: E731
    commands = ["gomap why {} {}{} --json".format(name(m), "--expr " if m["expr"] else "", m["key"]) for m in truth]
    result = gdb(dump.exe, dump.core, commands=commands)
    answers = documents(result.stdout)
    assert len(answers) == len(truth) > 42, result.stderr[-2000:]
    for miss, answer in zip(truth, answers):
        assert answer["verdict"] == "absent", miss
        assert answer["near"], miss
        first = answer["near"][0]
        assert first["relation"] == miss["relation"], (miss, answer["near"])
        assert miss["detail"] in first["detail"], (miss, first)
    # Each relation that a text's, number's or value's owner can be told has its case.
    assert {miss["relation"] for miss in truth} == RELATIONS or stripped


def test_a_live_miss_has_its_reason_first():
    with build.live(build.build("misses", "1.27.3")) as sample:
        for miss in [miss for miss in sample.truth if not miss["expr"]][::10]:
            answer = ask(sample, "why", miss["map"], miss["key"])
            assert answer["near"][0]["relation"] == miss["relation"], miss
