from dataclasses import dataclass
from typing import Any

import pytest
from marshmallow import ValidationError, fields, validates_schema

from gateway.config.tables.health import HealthConfig
from gateway.config.tables.load import Fault, dotted, load
from gateway.config.tables.schema import Items, Map, Secret, SubTable, Table, Text, Whole, schema_of
from gateway.config.toml.sources import Outside
from gateway.core.hooks import ConfigProblem


@dataclass(frozen=True, slots=True)
class ItemConfig:
    value: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class OuterConfig:
    item: ItemConfig | None = None
    items: tuple[ItemConfig, ...] = ()
    listed: tuple[ItemConfig, ...] = ()
    named: Any = None
    numbers: tuple[int, ...] = ()
    klass: str = ""
    secret: str = ""
    odd: Any = None
    text: str = ""


class ItemTable(Table):
    makes = ItemConfig
    value = Whole(required=True, least=1)
    key = Text()


class Odd(fields.Field[Any]):
    """Complains in ways of its own."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        raise ValidationError(value)


class OuterTable(Table):
    makes = OuterConfig
    item = SubTable(ItemTable)
    items = SubTable(ItemTable, many=True)
    listed = Items(SubTable(ItemTable))
    named = Map(keys=Text(), values=SubTable(ItemTable))
    numbers = Items(Whole())
    klass = Text(data_key="class")
    secret = Secret()
    odd = Odd()
    text = Text()

    @validates_schema
    def _whole(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("klass") == "field":
            raise ValidationError("Is wrong.", "klass")
        if data.get("klass") == "table":
            raise ValidationError("The table is wrong.")
        if data.get("klass") == "problem":
            raise ConfigProblem("is beyond words", at=("class",), hint="say another")
        if data.get("secret") == "hunter2":
            raise ValidationError("does not like hunter2", "secret")
        if data.get("text") == "hunter2":
            raise ValidationError("does not like hunter2", "text")
        if data.get("text") == "elsewhere":
            raise ValidationError({"text": {"deep": ["is odd"]}, "unheard": ["is of"]})


A_TABLE = "a table, such as { value = ... }"


def test_a_good_table_is_its_config() -> None:
    loaded = load(OuterTable, {"item": {"value": 1}, "class": "x"})
    assert loaded.value == OuterConfig(item=ItemConfig(1), klass="x")
    assert loaded.faults == ()


@pytest.mark.parametrize(
    ("what", "data", "faults"),
    [
        (
            "an unknown key",
            {"txt": 1},
            [Fault(("txt",), "is not a known key", "did you mean 'text'?")],
        ),
        (
            "an unknown key like one that is there",
            {"text": "a", "texts_": 1},
            [
                Fault(
                    ("texts_",),
                    "is not a known key",
                    "known: class, item, items, listed, named, numbers, odd, secret",
                )
            ],
        ),
        (
            "an unknown key in a table",
            {"item": {"value": 1, "kye": 1}},
            [Fault(("item", "kye"), "is not a known key", "did you mean 'key'?")],
        ),
        ("a wrong type", {"text": 5}, [Fault(("text",), "must be a string, not 5")]),
        ("no table", {"item": 5}, [Fault(("item",), "must be a table, not 5", A_TABLE)]),
        ("a missing key", {"item": {}}, [Fault(("item", "value"), "is missing", missing=True)]),
        (
            "in an array of tables",
            {"items": [{"value": 1}, {"value": 0}]},
            [Fault(("items", 1, "value"), "must be at least 1")],
        ),
        (
            "an unknown key there",
            {"items": [{"value": 1, "k": 1}]},
            [Fault(("items", 0, "k"), "is not a known key", "known: key")],
        ),
        (
            "in a list of tables",
            {"listed": [{"value": 1}, {"value": 0}]},
            [Fault(("listed", 1, "value"), "must be at least 1")],
        ),
        (
            "in a map called like marshmallow's own",
            {"named": {"value": {"value": 0}}},
            [Fault(("named", "value", "value"), "must be at least 1")],
        ),
        ("a map's key", {"named": {"": {"value": 1}}}, [Fault(("named", ""), "must not be empty")]),
        (
            "key and value of a map",
            {"named": {"": {"value": 1, "key": ""}}},
            [
                Fault(("named", ""), "must not be empty"),
                Fault(("named", "", "key"), "must not be empty"),
            ],
        ),
        (
            "a map's value",
            {"named": {"a": 5}},
            [Fault(("named", "a"), "must be a table, not 5", A_TABLE)],
        ),
        (
            "items",
            {"numbers": [1, "a", 2, "b"]},
            [
                Fault(("numbers", 1), "must be a whole number, not 'a'"),
                Fault(("numbers", 3), "must be a whole number, not 'b'"),
            ],
        ),
        ("by attribute", {"class": "field"}, [Fault(("class",), "is wrong")]),
        ("of the table", {"class": "table"}, [Fault((), "the table is wrong")]),
        (
            "raised as a problem",
            {"class": "problem"},
            [Fault(("class",), "is beyond words", "say another")],
        ),
        (
            "in a field's own way",
            {"odd": {"a": {"b": ["Is odd."]}}},
            [Fault(("odd", "a", "b"), "is odd")],
        ),
        ("one message", {"odd": "Is odd."}, [Fault(("odd",), "is odd")]),
        (
            "by paths",
            {"text": "elsewhere"},
            [Fault(("text", "deep"), "is odd"), Fault(("unheard",), "is of")],
        ),
    ],
)
def test_faults(what: str, data: dict[str, Any], faults: list[Fault]) -> None:
    loaded = load(OuterTable, data)
    assert loaded.value is None
    assert sorted(loaded.faults, key=lambda fault: str(fault.path)) == sorted(
        faults, key=lambda fault: str(fault.path)
    ), what


def test_what_is_valid_is_there_all_the_same() -> None:
    loaded = load(OuterTable, {"text": "a", "class": 5, "numbers": [1, "a", 3]})
    assert loaded.valid == {"text": "a", "numbers": (1, 3)}


@pytest.mark.parametrize(
    ("what", "data", "message"),
    [
        ("a secret", {"secret": "hunter2"}, "does not like ***"),
        ("a secret from outside", {"secret": Outside("hunter2", "${X}")}, "does not like ***"),
        ("text from outside", {"text": Outside("hunter2", "${X}")}, "does not like ${X}"),
        ("text as written", {"text": "hunter2"}, "does not like hunter2"),
    ],
)
def test_no_message_tells_a_secret(what: str, data: dict[str, Any], message: str) -> None:
    assert [fault.message for fault in load(OuterTable, data).faults] == [message], what


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (("a", "b_c"), "a.b_c"),
        (("route", 0, "path"), "route.path"),
        (("a-b", "c.d", ""), 'a-b."c.d".""'),
        (("a:b",), '"a:b"'),
        ((), ""),
    ],
)
def test_dotted(path: tuple[str | int, ...], shown: str) -> None:
    assert dotted(path) == shown


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "Connection", "Upgrade"])
def test_headers_of_a_check_cannot_frame_its_request(name: str) -> None:
    given = {"path": "/ready", "headers": {"Host": "cameras.example", name: "1"}}
    with pytest.raises(ValidationError, match="says how the message is framed"):
        schema_of(HealthConfig)().load(given)
    del given["headers"][name]  # type: ignore[attr-defined]
    assert schema_of(HealthConfig)().load(given).headers == {"Host": "cameras.example"}
