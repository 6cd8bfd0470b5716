"""Compare what mapscope says of a map with what the Go program itself printed (core-samples/truth)."""

import json
import math
import re
from collections import Counter

PACKAGE_PATH = re.compile(r"(?:[\w.~-]+/)+")
# A field of an unnamed struct: DWARF qualifies unexported names, reflect does not.
FIELD_PACKAGE = re.compile(r"((?:struct \{|;) )\w+\.(\w+) (?=[^\s};])")
SHOWN = 300


def loads(text):
    """json.loads that keeps the sign of -0, which Go writes without a fraction."""
    return json.loads(text, parse_int=lambda digits: -0.0 if digits == "-0" else int(digits))


def differences(truth, answer):
    """What is wrong in mapscope's `print --json` document, as sentences; empty when all is right.

    `truth` is one document of a truth file. Entries are compared as sets that may repeat (NaN keys do).
    A truth without entries (a map that contains itself, one too big to list) is compared by its head.
    """
    head = answer.get("map", {})
    found = [f"{what} is {got!r}, should be {want!r}" for what, got, want in (
        ("type", type_name(str(head.get("type"))), type_name(truth["type"])),
        ("address", head.get("address") or "0x0", truth["address"]),
        ("layout", head.get("layout"), truth["layout"]),
        ("count", head.get("count"), truth["len"]),
    ) if got != want]
    if "entries" not in truth:
        return found
    entries = answer.get("entries")
    if not isinstance(entries, list):
        return found + [f"there are no entries in {str(answer)[:SHOWN]}"]
    if answer.get("truncated") or answer.get("shown") != len(entries):
        found.append(f"shown {answer.get('shown')} (truncated {answer.get('truncated')}) of {len(entries)} entries")
    return found + entry_differences(truth["entries"], entries)


def entry_differences(wanted, got):
    """How two lists of {"key":…,"elem":…} differ as sets that may repeat, as sentences."""
    want, have = Counter(map(canonical, wanted)), Counter(map(canonical, got))
    missing, extra = (want - have).elements(), (have - want).elements()
    text = {canonical(entry): json.dumps(entry, ensure_ascii=False)[:SHOWN] for entry in [*wanted, *got]}
    return [f"missing {text[entry]}" for entry in missing] + [f"not in the map: {text[entry]}" for entry in extra]


def canonical(value):
    """A hashable form of a JSON value in which equal means: shows the same Go value."""
    if isinstance(value, dict):
        # The programs do not print the bits of a NaN.
        value = {"$float": value["$float"]} if "$float" in value else value
        return ("object", frozenset(
            (name, ("type", type_name(field)) if name == "$type" else canonical(field)) for name, field in value.items()))
    if isinstance(value, list):
        items = tuple(map(canonical, value))
        if value and all(isinstance(item, dict) and item.keys() == {"key", "elem"} for item in value):
            return ("map", frozenset(Counter(items).items()))
        return ("list", items)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return (type(value).__name__, value)
    return ("number", value, math.copysign(1, value) if value == 0 else 0)


def type_name(name):
    """A type's name in the one spelling that DWARF, type descriptors and reflect share."""
    short = PACKAGE_PATH.sub("", name).replace("interface{}", "interface {}").replace("struct{}", "struct {}")
    return FIELD_PACKAGE.sub(r"\1\2 ", short)
