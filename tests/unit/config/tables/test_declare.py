"""A table declared once: what its schema takes, what it says of wrong values, and what the
dataclass is like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.config.tables.declare import setting, settings, table
from gateway.config.tables.load import Fault, load
from gateway.config.tables.schema import Items, Secret, SubTable, Table, Whole, schema_of


@table
class Inner:
    """A table below another."""

    port: int = setting(Whole(least=1, most=9), doc="a port")
    host: str = setting(default="localhost", doc="a host")


def _even(value: int) -> None:
    if value % 2:
        raise ValidationError("must be even")


@table
class Outer:
    """A table."""

    inner: Inner = setting(doc="one")
    more: tuple[Inner, ...] = setting(default=(), doc="several")
    by_name: Mapping[str, Inner] = setting(default_factory=dict, doc="by name")
    maybe: Inner | None = setting(default=None, doc="perhaps one")
    words: tuple[str, ...] = setting(default=("a",), doc="words")
    on: bool = setting(default=False, doc="whether")
    class_: str = setting(default="", name="class", doc="a word Python reserves")
    even: int = setting(Whole(least=0, most=10), default=2, check=_even, doc="an even number")
    token: str = setting(Secret(), default="", doc="a secret")
    note: str = "not a key"
    settings: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        if self.on and not self.words:
            raise ValidationError("needs words", "on")


@table
class Derived(Inner):
    """Has the keys of another table, and one of its own."""

    host: str = setting(default="example.com", doc="another default")
    path: str = setting(default="/", doc="a path")


@table
class Policy:
    """Has defaults that depend on a key."""

    policy: str = setting(default="", doc="which defaults")
    attempts: int = setting(Whole(), default=3, doc="how often")

    @classmethod
    def of_toml(cls, given: Mapping[str, Any]) -> Policy:
        return cls(**{"attempts": 9, **given} if given.get("policy") == "many" else given)


def test_a_table_loads_as_the_dataclass() -> None:
    data = {
        "inner": {"port": 1},
        "more": [{"port": 2, "host": "b"}],
        "by_name": {"x": {"port": 3}},
        "class": "strict",
        "on": True,
    }
    config = load(Outer, data).value
    assert config == Outer(
        Inner(1), more=(Inner(2, "b"),), by_name={"x": Inner(3)}, on=True, class_="strict"
    )
    assert (config.even, config.words, config.maybe, config.note) == (2, ("a",), None, "not a key")
    with pytest.raises(FrozenInstanceError):
        config.on = False


def test_every_fault_is_reported() -> None:
    data = {
        "more": [{"port": 0}, {"port": 1, "hots": "x"}],
        "even": 3,
        "on": "yes",
        "note": "x",
        "class_": "x",
    }
    assert {(fault.path, fault.message) for fault in load(Outer, data).faults} == {
        (("inner",), "is missing"),
        (("more", 0, "port"), "must be from 1 to 9"),
        (("more", 1, "hots"), "is not a known key"),
        (("even",), "must be even"),
        (("on",), "must be true or false, not 'yes'"),
        (("note",), "is not a known key"),
        (("class_",), "is not a known key"),
    }


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        (11, "must be from 0 to 10", ""),
        (3, "must be even", ""),
        ("2", "must be a whole number, not '2'", "write 2, without quotes"),
    ],
)
def test_a_check_judges_what_the_field_accepted(value: Any, message: str, hint: str) -> None:
    faults = load(Outer, {"inner": {"port": 1}, "even": value}).faults
    assert faults == (Fault(("even",), message, hint),)


def test_the_whole_table_is_checked_when_its_keys_are_valid() -> None:
    assert load(Outer, {"inner": {"port": 1}, "on": True, "words": []}).faults == (
        Fault(("on",), "needs words"),
    )
    assert [fault.path for fault in load(Outer, {"on": True, "words": []}).faults] == [("inner",)]


def test_a_secret_is_not_in_the_repr() -> None:
    config = load(Outer, {"inner": {"port": 1}, "token": "hunter2"}).value
    assert config.token == "hunter2"
    assert "hunter2" not in repr(config)
    assert "hunter2" not in repr(Outer(Inner(1), token="hunter2"))


def test_a_derived_table_has_the_keys_of_its_base() -> None:
    assert load(Derived, {"port": 4}).value == Derived(4, "example.com", "/")
    assert list(settings(Derived)) == ["port", "host", "path"]
    assert load(Inner, {"port": 4, "path": "/"}).faults[0].path == ("path",)


def test_defaults_may_depend_on_a_key() -> None:
    assert load(Policy, {"policy": "many"}).value == Policy("many", 9)
    assert load(Policy, {"policy": "many", "attempts": 1}).value == Policy("many", 1)
    assert load(Policy, {}).value == Policy("", 3)


def test_both_kinds_of_tables_mix() -> None:
    """A Table of version 0.1 may hold a declared one, and the other way round."""

    class Old(Table):
        makes = dict
        inner = SubTable(Inner)
        several = Items(SubTable(Inner))

    assert load(Old, {"inner": {"port": 1}, "several": [{"port": 2}]}).value == {
        "inner": Inner(1),
        "several": (Inner(2),),
    }
    assert schema_of(Old) is Old
    assert SubTable(Old).schema.load({"inner": {"port": 1}}) == {"inner": Inner(1)}


def test_an_annotation_that_could_be_several_fields_needs_one() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.seconds"):

        @table
        class Wrong:
            seconds: float = setting(default=1.0, doc="a duration, or a number?")
