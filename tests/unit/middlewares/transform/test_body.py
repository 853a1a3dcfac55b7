"""Paths into JSON bodies."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.hooks import ConfigProblem
from gateway.middlewares.transform.body import BodyChanges
from gateway.middlewares.transform.config import BodyConfig
from tests.exchange import exchange


def changed(value: Any, **changes: Any) -> Any:
    return BodyChanges(BodyConfig(**changes), ()).apply(value, exchange(request_id="r-1"))


@pytest.mark.parametrize(
    ("value", "changes", "wanted"),
    [
        ({}, {"set": {"meta.id": "{request_id}"}}, {"meta": {"id": "r-1"}}),
        ({"meta": {"a": 1}}, {"set": {"meta": {"id": "{request_id}"}}}, {"meta": {"a": 1, "id": "r-1"}}),
        ({"meta": None}, {"set": {"meta.id": 1}}, {"meta": {"id": 1}}),
        ({"meta": "text"}, {"set": {"meta.id": 1}}, {"meta": "text"}),
        ({}, {"set": {"a": [1, "{request_id}", {"b": "{route}"}]}}, {"a": [1, "r-1", {}]}),
        ({}, {"set": {"a": {}, "b": True, "c": 1.5}}, {"a": {}, "b": True, "c": 1.5}),
        ({}, {"set": {"d": datetime.date(2026, 1, 2)}}, {"d": "2026-01-02"}),
        ({}, {"set": {r"a\.b": 1}}, {"a.b": 1}),
        ([{"a": 1}, {"a": 2}], {"set": {"*.b": 3}}, [{"a": 1, "b": 3}, {"a": 2, "b": 3}]),
        ([1, 2], {"set": {"1": 3, "2": 4, "x": 5}}, [1, 3]),
        ("text", {"set": {"a": 1}, "remove": ["b"], "rename": {"c": "d"}}, "text"),
        ({"a": 1, "b": 2}, {"remove": ["a", "x.y"]}, {"b": 2}),
        ({"a": [1, 2, 3]}, {"remove": ["a.0"]}, {"a": [2, 3]}),
        ({"a": [1, 2, 3]}, {"remove": ["a.*"]}, {"a": []}),
        ({"a": [{"x": 1}, 5, {"x": 2, "y": 3}]}, {"remove": ["a.*.x"]}, {"a": [{}, 5, {"y": 3}]}),
        ({"a": {"p": {"x": 1}, "q": {"x": 2}}}, {"remove": ["a.*.x"]}, {"a": {"p": {}, "q": {}}}),
        ({"a": 1}, {"rename": {"a": "b.c"}}, {"b": {"c": 1}}),
        ({"a": [{"x": 1}]}, {"rename": {"a.*.x": "a.*.y"}}, {"a": [{"y": 1}]}),
        ({"x": 1}, {"rename": {"a": "b"}}, {"x": 1}),
        ({"a": 1}, {"rename": {"a": "b"}, "remove": ["b"], "set": {"b": 2}}, {"b": 2}),
    ],
)  # fmt: skip
def test_changes(value: Any, changes: dict[str, Any], wanted: Any):
    assert changed(value, **changes) == wanted


def test_what_is_set_is_new_each_time():
    changes = BodyChanges(BodyConfig(set={"a": [], "b": [{}]}), ())
    first = changes.apply({}, exchange())
    first["a"].append(1)
    first["b"][0]["x"] = 1
    assert changes.apply({}, exchange()) == {"a": [], "b": [{}]}


@pytest.mark.parametrize(
    "changes",
    [
        {"remove": [""]},
        {"remove": ["a..b"]},
        {"set": {"a.": 1}},
        {"rename": {"a.*.x": "b.*.x"}},
        {"rename": {"a.x": "a.*"}},
        {"rename": {"a.*": "a.x"}},
    ],
)
def test_paths_that_lead_nowhere(changes: dict[str, Any]):
    with pytest.raises(ConfigProblem):
        changed({}, **changes)


values = st.recursive(
    st.integers() | st.text(max_size=2) | st.none(),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3)
    ),
)
paths = st.lists(st.sampled_from(["a", "b", "0", "1", "*"]), min_size=1, max_size=3).map(".".join)


@given(values, paths, paths)
def test_no_body_breaks_a_change(value: Any, one: str, other: str):
    changed(value, remove=[one], set={other: 1})
