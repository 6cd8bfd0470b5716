"""Goroutines of cores whose memory was damaged: what is wrong is said at each, and the others are all there."""

import json
import re
import struct

import build
import pytest
from conftest import cli

#: Offsets in runtime.g of Go 1.27 and 1.21 (src/runtime/runtime2.go): sched.sp, sched.pc, atomicstatus, goid.
OFFSETS = {"1.27.3": (56, 64, 144, 152), "1.21.13": (56, 64, 144, 152)}
VERSIONS = tuple(OFFSETS)


class Core:
    """A copy of a core that can be written to by address."""

    def __init__(self, dump, path):
        self.exe, self.path = dump.exe, path
        with open(dump.core, "rb") as source:
            build.copy_sparse(source, path)
        self.file = open(path, "r+b")
        head = self.file.read(64)
        offset, count = struct.unpack_from("<Q", head, 32)[0], struct.unpack_from("<H", head, 56)[0]
        self.file.seek(offset)
        headers = [struct.unpack("<IIQQQQQQ", self.file.read(56)) for _ in range(count)]
        self.loads = [(h[3], h[2], h[5]) for h in headers if h[0] == 1]

    def place(self, address):
        start, offset, _ = next(load for load in self.loads if load[0] <= address < load[0] + load[2])
        return offset + address - start

    def write(self, address, data):
        self.file.seek(self.place(address))
        self.file.write(data)
        self.file.flush()

    def word(self, address, value):
        self.write(address, struct.pack("<Q", value))

    def find(self, data):
        """Addresses of these bytes, aligned as a word."""
        for start, offset, size in self.loads:
            self.file.seek(offset)
            content = self.file.read(size)
            at = content.find(data)
            while at >= 0:
                if at % 8 == 0:
                    yield start + at
                at = content.find(data, at + 1)

    def ask(self):
        done = cli("--core", self.exe, self.path, "goroutines", "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(params=[(v, k) for v in VERSIONS for k in ("default", "stripped")], ids="-".join)
def torn(request, tmp_path):
    """A copy of a core, the goroutines that it had, and the offsets of its version."""
    version, variant = request.param
    core = Core(build.dump("leaks", version, variant, args=("keyed-mutex",)), tmp_path / "core")
    before = core.ask()
    assert not before["notes"]
    victims = [g for g in before["goroutines"] if g["reason"] == "sync.Mutex.Lock"]
    assert len(victims) == 8
    return core, before, victims, OFFSETS[version]


def others(answer, *goids):
    return [g for g in answer["goroutines"] if g["goid"] not in goids]


def same_but(before, after, *goids):
    """Whether all other goroutines are as they were."""
    return others(before, *goids) == others(after, *goids)


def test_garbage_stack_pointers_and_pcs(torn):
    core, before, victims, (sp, pc, _, _) = torn
    core.word(int(victims[0]["g"], 16) + sp, 0xdeadbeef)
    core.word(int(victims[1]["g"], 16) + pc, 0xdeadbeef)
    after = core.ask()
    first, second = (next(g for g in after["goroutines"] if g["goid"] == v["goid"]) for v in victims[:2])
    assert first["stack"] == [] and "lies on none of its stacks" in first["torn"][0]
    assert second["stack"] == [] and "is not Go's" in second["torn"][0]
    assert first["reason"] == "sync.Mutex.Lock" and first["blocked_on"]["address"] == second["blocked_on"]["address"]
    assert same_but(before, after, first["goid"], second["goid"])
    unread = f"who else could end a wait was not looked for: the stack of goroutine {min(first['goid'], second['goid'])} cannot be walked"
    limits = json.loads(cli("--core", core.exe, core.path, "leaks", "--json").stdout)["limits"]
    assert any(limit["reason"].startswith(unread) for limit in limits), limits


def test_a_return_address_of_unknown_code(torn):
    core, before, victims, _ = torn
    frame = victims[0]["stack"][4]
    stack = int(victims[0]["g"], 16)
    low = struct.unpack("<Q", read(core, stack, 8))[0]
    high = struct.unpack("<Q", read(core, stack + 8, 8))[0]
    words = struct.unpack("<%dQ" % ((high - low) // 8), read(core, low, high - low))
    [*_, at] = [low + 8 * i for i, word in enumerate(words) if word == int(frame["pc"], 16)]
    core.word(at, 0x1234)
    after = core.ask()
    found = next(g for g in after["goroutines"] if g["goid"] == victims[0]["goid"])
    assert found["stack"] == victims[0]["stack"][:len(found["stack"])] and 0 < len(found["stack"]) <= 4
    assert "the code at 0x1234 is not Go's" in found["torn"][0]
    assert same_but(before, after, found["goid"])


def read(core, address, size):
    core.file.seek(core.place(address))
    return core.file.read(size)


def test_statuses_unknown_moving_and_dead(torn):
    core, before, victims, (_, _, status, _) = torn
    for victim, number in zip(victims, (77, 8, 6)):
        core.write(int(victim["g"], 16) + status, struct.pack("<I", number))
    after = core.ask()
    found = {g["goid"]: g for g in after["goroutines"]}
    unknown, moving, dead = (v["goid"] for v in victims[:3])
    assert found[unknown]["status"] == "unknown status 77" and "status 77 is not known" in found[unknown]["torn"]
    assert found[moving]["status"] == "copystack" and "its stack was being moved" in found[moving]["torn"][0]
    assert found[moving]["stack"] == next(v for v in victims if v["goid"] == moving)["stack"]
    assert dead not in found and after["dead"] == before["dead"] + 1
    assert {g["goid"] for g in after["goroutines"]} == {g["goid"] for g in before["goroutines"]} - {dead}


def where_the_list_is(core, before):
    """Addresses of runtime.allgs itself, and of each goroutine's place in its array."""
    gs = [int(g["g"], 16) for g in before["goroutines"]]
    count = before["total"] + before["dead"]
    # Shorter arrays that the list has outgrown may still lie about.
    for array in core.find(struct.pack("<4Q", *gs[:4])):
        slices = [at for at in core.find(struct.pack("<QQ", array, count))]
        words = struct.unpack("<%dQ" % count, read(core, array, 8 * count))
        if slices and set(gs) <= set(words):
            return slices, {g: array + 8 * i for i, g in enumerate(words)}
    raise AssertionError("the list is not in the core")


def test_a_torn_list(torn):
    core, before, victims, _ = torn
    gs = [int(g["g"], 16) for g in before["goroutines"]]
    _, where = where_the_list_is(core, before)
    lost, empty, twice = (int(v["g"], 16) for v in victims[:3])
    core.word(where[lost], 0x10)
    core.word(where[empty], 0)
    core.word(where[twice], gs[0])
    after = core.ask()
    assert same_but(before, after, *(v["goid"] for v in victims[:3]))
    assert len(after["goroutines"]) == len(before["goroutines"]) - 3
    notes = " ".join(after["notes"])
    assert "the goroutine at 0x10" in notes and "1 entries" in notes and "are empty" in notes and "earlier one names" in notes


def test_an_impossible_length(torn):
    core, before, _, _ = torn
    slices, _ = where_the_list_is(core, before)
    for at in slices:
        core.word(at + 8, 1 << 60)
        core.word(at + 16, 1 << 60)
    done = cli("--core", core.exe, core.path, "goroutines", "--json")
    if "stripped" in str(core.exe):  # there the list is known by its soundness alone
        assert done.returncode == 2 and "list of goroutines was not found" in done.stderr
        return
    after = json.loads(done.stdout)
    assert same_but(before, {"goroutines": after["goroutines"][:len(before["goroutines"])]})
    assert any("impossible length" in note for note in after["notes"])


def test_a_core_that_ends_before_some_stacks(torn):
    """Of each goroutine that is not whole any more this is said, at the goroutine or where the list is."""
    core, before, victims, _ = torn
    stacks = {v["goid"]: core.place(struct.unpack("<Q", read(core, int(v["g"], 16), 8))[0]) for v in victims}
    core.file.truncate(max(stacks.values()))
    done = cli("--core", core.exe, core.path, "goroutines", "--json")
    if done.returncode == 2 and "stripped" in str(core.exe):  # the list itself is gone, and nothing else leads there
        assert "is truncated" in done.stderr and "list of goroutines was not found" in done.stderr
        return
    after = json.loads(done.stdout)
    found, notes = {g["goid"]: g for g in after["goroutines"]}, " ".join(after["notes"])
    cut_list = re.search(r"goroutines \d+ to \d+ of the runtime's list are lost", notes)
    lost = 0
    for goroutine in before["goroutines"]:
        now = found.get(goroutine["goid"])
        whole = now is not None and now["stack"] == goroutine["stack"]
        assert whole or now and now["torn"] or f"the goroutine at {goroutine['g']}" in notes or cut_list
        lost += not whole
    assert lost and "truncated" in notes


@pytest.mark.parametrize("version", VERSIONS)
def test_the_end_of_a_stack_is_no_pointer(version, tmp_path):
    """A channel may begin where a goroutine's stack ends: what stands in that goroutine's record does not lead to it."""
    dump = build.dump("leaks", version, args=("pointer-key",))
    core = Core(dump, tmp_path / "core")
    waits = build.read_truth(dump.truth)[0]["waits"]

    def terms():
        clusters = json.loads(cli("--core", core.exe, core.path, "leaks", "--json").stdout)["clusters"]
        [found] = [c for c in clusters if waits[0]["goid"] in c["goids"]]
        return {term["id"] for term in found["terms"]}

    assert "only_waiters" in terms()
    channels = sorted(int(wait["on"], 16) for wait in waits)
    moved = 0
    for g in core.ask()["goroutines"]:
        record = int(g["g"], 16)
        low = struct.unpack("<Q", read(core, record, 8))[0]
        above = [channel for channel in channels if channel > low + (1 << 16)]
        if g["goid"] not in [wait["goid"] for wait in waits] and above and g["reason"] != "running":
            core.word(record + 8, above[0])
            moved += 1
    assert moved and "only_waiters" in terms()
