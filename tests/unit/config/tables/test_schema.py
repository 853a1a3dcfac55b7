from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from marshmallow import ValidationError, fields

from gateway.config.tables import schema
from gateway.config.tables.addresses import AdminConfig
from gateway.config.tables.server import GatewayConfig, ListenConfig
from gateway.config.toml.sources import FileTable, Outside, Sources


def env(value: str) -> Outside:
    return Outside(value, "${X}")


@pytest.mark.parametrize(
    ("field", "value", "loaded"),
    [
        (schema.Boolean(), True, True),
        (schema.Boolean(), env("false"), False),
        (schema.Text(), "a", "a"),
        (schema.Text(empty=True), "", ""),
        (schema.Text(), env("a"), "a"),
        (schema.Secret(), "a", "a"),
        (schema.Secret(), env("a"), "a"),
        (schema.Whole(), 5, 5),
        (schema.Whole(least=1, most=5), 5, 5),
        (schema.Whole(), env("80"), 80),
        (schema.Number(), 5, 5.0),
        (schema.Number(), env("0.5"), 0.5),
        (schema.Duration(), "500ms", 0.5),
        (schema.Duration(), "30s", 30.0),
        (schema.Duration(), "5m", 300.0),
        (schema.Duration(), "1.5h", 5400.0),
        (schema.Duration(), "7d", 604800.0),
        (schema.Duration(), 2, 2.0),
        (schema.Duration(), env("2"), 2.0),
        (schema.Duration(), env("2s"), 2.0),
        (schema.Duration(zero=True), "0s", 0.0),
        (schema.Size(), 5, 5),
        (schema.Size(), "10MB", 10_000_000),
        (schema.Size(), "64KiB", 65536),
        (schema.Size(), "1.5kB", 1500),
        (schema.Size(), env("5"), 5),
        (schema.Size(), env("5kB"), 5000),
        (schema.Choice("a", "b"), "b", "b"),
        (schema.Choice("a", "b"), env("b"), "b"),
        (schema.Items(schema.Whole()), [1, 2], (1, 2)),
        (schema.Items(schema.Whole()), env("1, 2,"), (1, 2)),
        (schema.Items(schema.Text()), env("a,b"), ("a", "b")),
        (schema.Items(schema.Text()), env(""), ()),
        (schema.Items(schema.Network()), env("10.0.0.0/8"), (ip_network("10.0.0.0/8"),)),
        (schema.Map(), {"a": 1}, {"a": 1}),
        (schema.Map(keys=schema.Text(), values=schema.Whole()), {"a": 1}, {"a": 1}),
        (schema.HttpUrl(), "https://[::1]:3000/a", "https://[::1]:3000/a"),
        (schema.HttpUrl(), env("http://a"), "http://a"),
        (schema.HttpUrl(), "http://münchen.example", "http://münchen.example"),
        (schema.EndpointUrl(), "http://a:1", "http://a:1"),
        (schema.EndpointUrl(), "unix:/run/app.sock", "unix:/run/app.sock"),
        (schema.Network(), "10.0.0.0/8", ip_network("10.0.0.0/8")),
        (schema.Network(), env("::1"), ip_network("::1")),
        (schema.FieldName(), "X-A", "X-A"),
        (schema.FieldValue(), "a b", "a b"),
    ],
)
def test_values_that_load(field: fields.Field[Any], value: object, loaded: object) -> None:
    found = field.deserialize(value)
    assert found == loaded
    assert type(found) is not Outside


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (schema.Boolean(), "yes", "must be true or false, not 'yes'"),
        (schema.Boolean(), 1, "must be true or false, not 1"),
        (schema.Boolean(), env("yes"), "must be true or false, not '${X}'"),
        (schema.Text(), 5, "must be a string, not 5"),
        (schema.Text(), {"file": 5}, "must be a string, not a table"),
        (schema.Text(), True, "must be a string, not true"),
        (schema.Text(), "", "must not be empty"),
        (schema.Text(), env(""), "must not be empty"),
        (schema.Secret(), 12345, 'must be a string or { file = "path" }'),
        (schema.Secret(), "", "must not be empty"),
        (schema.Whole(), "80", "must be a whole number, not '80'"),
        (schema.Whole(), True, "must be a whole number, not true"),
        (schema.Whole(), 1.0, "must be a whole number, not 1.0"),
        (schema.Whole(), env("80.5"), "must be a whole number, not 80.5"),
        (schema.Whole(), env("many"), "must be a whole number, not '${X}'"),
        (schema.Whole(least=1, most=5), 6, "must be from 1 to 5"),
        (schema.Whole(least=1), 0, "must be at least 1"),
        (schema.Whole(most=5), 6, "must be at most 5"),
        (schema.Number(least=0, most=1), 1.5, "must be from 0 to 1"),
        (schema.Number(), "1", "must be a number, not '1'"),
        (schema.Number(), float("nan"), "must be a number, not nan"),
        (schema.Duration(), 0, "must be more than 0"),
        (
            schema.Duration(),
            "30 s",
            """must be a duration such as "30s", "500ms" or "5m", or a number of seconds, not '30 s'""",
        ),
        (
            schema.Size(),
            "1 MB",
            """must be a size such as "10MB" or "64KiB", or a number of bytes, not '1 MB'""",
        ),
        (
            schema.Size(),
            -1,
            """must be a size such as "10MB" or "64KiB", or a number of bytes, not -1""",
        ),
        (schema.Choice("a", "b"), "c", "must be one of a, b"),
        (schema.Items(schema.Text()), "a", "must be an array, not 'a'"),
        (schema.Map(), [], "must be a table, not an array"),
        (schema.SubTable(ListenConfig), 5, "must be a table, not 5"),
        (schema.SubTable(ListenConfig, many=True), {}, "must be an array of tables, not a table"),
        (
            schema.HttpUrl(),
            "ftp://a",
            """must be a URL such as "http://127.0.0.1:3001", not 'ftp://a'""",
        ),
        (schema.HttpUrl(), "http://a:b", "is not a URL: 'http://a:b'"),
        (schema.HttpUrl(), "http://a..b", "'a..b' is no host's name"),
        (
            schema.EndpointUrl(),
            "unix:app.sock",
            "must be an absolute path such as \"unix:/run/app.sock\", not 'unix:app.sock'",
        ),
        (
            schema.EndpointUrl(),
            "unix:/" + "x" * 107,
            "is longer than the 107 bytes that a socket's path may have",
        ),
        (
            schema.EndpointUrl(),
            "ftp://a",
            """must be a URL such as "http://127.0.0.1:3001", not 'ftp://a'""",
        ),
        (
            schema.HttpUrl(),
            env("ftp://u:p@a"),
            """must be a URL such as "http://127.0.0.1:3001", not '${X}'""",
        ),
        (schema.HttpUrl(), "http://u@a", "must have no user, query or fragment"),
        (schema.Network(), "10.0.0.1/8", "is not a network: 10.0.0.1/8 has host bits set"),
        (
            schema.Network(),
            env("home"),
            "is not a network: '${X}' does not appear to be an IPv4 or IPv6 network",
        ),
        (schema.FieldName(), "a b", "is not a header name: 'a b'"),
        (schema.FieldValue(), "a\nb", "is not a header value: 'a\\nb'"),
        (schema.Text(), list(range(99)), "must be a string, not an array"),
        (schema.Boolean(), "x" * 99, "must be true or false, not '" + "x" * 56 + "..."),
    ],
)
def test_values_that_do_not(field: fields.Field[Any], value: object, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        field.deserialize(value)
    assert caught.value.messages == [message]


def test_only_text_reads_files(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(" hunter2\n")
    table = FileTable({"file": "x"}, tmp_path, Sources({}))
    assert schema.Text().deserialize(table) == "hunter2"
    assert type(schema.Text().deserialize(table)) is str
    assert schema.Map().deserialize(table) == {"file": "x"}
    with pytest.raises(ValidationError, match="must be a whole number, not a table"):
        schema.Whole().deserialize(table)


@pytest.mark.parametrize("how", ["literal", "variable", "file"])
def test_a_secret_is_shown_by_nothing(tmp_path: Path, how: str) -> None:
    (tmp_path / "x").write_text("hunter2")
    values = {
        "literal": "hunter2",
        "variable": env("hunter2"),
        "file": FileTable({"file": "x"}, tmp_path, Sources({})),
    }
    config = schema.schema_of(AdminConfig)().load({"token": values[how]})
    assert config.token == "hunter2"
    assert "hunter2" not in repr(config)
    assert (
        f"{schema.schema_of(GatewayConfig)().load({'admin': {'token': values[how]}})!r}".count(
            "hunter2"
        )
        == 0
    )


@dataclass(frozen=True, slots=True)
class AnyConfig:
    body: Any = None


class AnyTable(schema.Table):
    makes = AnyConfig
    body = fields.Raw()


def test_what_a_table_loads_as_it_is_holds_ordinary_values(tmp_path: Path) -> None:
    table = FileTable({"file": env("x")}, tmp_path, Sources({}))
    body = AnyTable().load({"body": {"a": [env("b")], "c": table}}).body
    assert body == {"a": ["b"], "c": {"file": "x"}}
    assert [type(body["a"][0]), type(body["c"]), type(body["c"]["file"])] == [str, dict, str]


def test_defaults_are_the_dataclass_s() -> None:
    assert schema.schema_of(ListenConfig)().load({}).port == 8080
