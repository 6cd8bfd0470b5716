"""The runtime's own hash, against live programs: every key on the path of its hash, with the processor's AES
and without; and lookups that miss, against the reason that the program itself gives."""

import json
import os

import build
import pytest
import toolchains
from conftest import EVERYTHING, FULL, cli

VERSIONS = toolchains.VERSIONS if EVERYTHING else FULL


def ask(sample, *words):
    """The JSON document that a verb answers about a live sample."""
    answer = cli("--pid", sample.process.pid, *words, "--json")
    assert answer.stdout, answer.stderr[:1000]
    return json.loads(answer.stdout)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("aes", ["on", "off"])
def test_every_key_lies_on_the_path_of_its_hash(version, aes):
    environment = {"PATH": os.environ["PATH"], "GODEBUG": f"cpu.aes={aes}"}
    with build.live(build.build("keys", version), env=environment) as sample:
        maps = ask(sample, "check", "--all")["maps"]
        maps += ask(sample, "check", "main.Made")["maps"]
    assert len(maps) > 20
    assert [one for one in maps if one["findings"]] == []
    assert [one for one in maps if one.get("unchecked")] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_each_miss_has_its_reason_first(version):
    with build.live(build.build("misses", version)) as sample:
        assert len(sample.truth) > 20
        for miss in sample.truth:
            answer = ask(sample, "why", miss["map"], miss["key"])
            assert answer["verdict"] == "absent", miss
            assert answer["near"], miss
            first = answer["near"][0]
            assert first["relation"] == miss["relation"], (miss, answer["near"])
            assert miss["detail"] in first["detail"], (miss, first)
