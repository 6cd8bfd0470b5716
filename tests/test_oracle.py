"""The comparison that all other tests rest on must itself see every kind of difference."""

import copy

import pytest
from oracle import canonical, differences, loads, type_name

TRUTH = loads('{"name":"main.M","type":"map[float64]interface {}","address":"0xc000","len":4,"layout":"swiss","entries":['
              '{"key":{"$float":"NaN"},"elem":1},{"key":{"$float":"NaN"},"elem":1},{"key":-0,"elem":null},'
              '{"key":2,"elem":[{"key":"a","elem":1},{"key":"b","elem":true}]}]}')
ANSWER = {"map": {"type": "map[float64]interface {}", "address": "0xc000", "layout": "swiss", "count": 4, "state": []},
          "entries": list(reversed(TRUTH["entries"])), "shown": 4, "truncated": False}


def changed(change):
    answer = copy.deepcopy(ANSWER)
    change(answer)
    return differences(TRUTH, answer)


def test_order_does_not_count():
    assert differences(TRUTH, ANSWER) == []
    assert changed(lambda a: a["entries"][0]["elem"].reverse()) == []


@pytest.mark.parametrize("change", [
    lambda a: a["entries"].pop(),
    lambda a: a["entries"].append(a["entries"][0]),
    lambda a: a["entries"][0].update(key=3),
    lambda a: a["entries"][0]["elem"][1].update(elem=1),
    lambda a: a["entries"][1].update(key=0),
    lambda a: a["entries"][1].update(elem=0),
    lambda a: a["entries"][3].update(elem=True),
    lambda a: a["map"].update(count=5),
    lambda a: a["map"].update(layout="classic"),
    lambda a: a["map"].update(address="0xc008"),
    lambda a: a["map"].update(type="map[float64]int"),
    lambda a: a.update(truncated=True),
    lambda a: a.update(entries=None),
])
def test_every_difference_is_seen(change):
    assert changed(change)


def test_numbers_are_exact():
    assert canonical(2**62 + 1) != canonical(2**62)
    assert canonical(loads("1")) == canonical(loads("1.0"))
    assert canonical(1) != canonical(True)
    assert canonical(loads("-0")) == canonical(loads("-0.0")) != canonical(0)


def test_type_names_of_both_sources_agree():
    assert type_name("map[string]*io/fs.PathError") == "map[string]*fs.PathError"
    assert type_name("map[struct { A int; main.b string }]int") == "map[struct { A int; b string }]int"
    assert type_name("struct { main.T }") == "struct { main.T }"
    assert type_name("main.Pair[a/b.K,c/d.V]") == "main.Pair[b.K,d.V]"
