import json
import tomllib
from dataclasses import dataclass
from typing import Any

import jsonschema_rs
import pytest
from marshmallow import INCLUDE, fields, validate

from gateway.config.tables.addresses import AdminConfig
from gateway.config.tables.describe import json_schemas, table_schema
from gateway.config.tables.schema import (
    Boolean,
    Choice,
    Duration,
    Items,
    Map,
    Secret,
    Size,
    SubTable,
    Table,
    Text,
    Whole,
)
from gateway.config.tables.server import ListenConfig
from tests.unit.config.tree import NAMES, Tree, schema_for

SCHEMAS = json_schemas(schema_for, [*NAMES, "company.broken:build"])
DEFINITIONS = SCHEMAS["gateway"]["$defs"]


def errors(name: str, text: str) -> list[str]:
    """Where and why `text` is not what the schema `name` says."""
    found = jsonschema_rs.Draft202012Validator(SCHEMAS[name]).iter_errors(tomllib.loads(text))
    return ["/".join(map(str, error.instance_path)) for error in found]


GATEWAY = """
    include = ["upstreams.toml", "pipelines/*.toml"]
    [listen]
    host = "127.0.0.1"
    port = 8080
    [admin]
    host = "127.0.0.1"
    port = 9901
    token = "${GATEWAY_ADMIN_TOKEN}"
    [server]
    trusted_proxies = ["10.0.0.0/8"]
    shutdown_timeout = "30s"
    max_header_size = "16KiB"
    header_timeout = "10s"
    idle_timeout = "75s"
    [store]
    url = "memory://"
    [errors]
    format = "problem"
"""

UPSTREAMS = """
    [upstream.becamera]
    balance = "least_connections"
    endpoints = [
      { url = "http://127.0.0.1:3001", weight = 2 },
      { url = "http://127.0.0.1:3002" },
    ]
    health = { path = "/health", interval = "30s", timeout = "5s", unhealthy_threshold = 3, status = [200] }
    passive_health = { max_fails = 3, fail_timeout = "30s" }
    timeouts = { connect = "5s", read = "30s", write = "30s" }
    retry = { attempts = 3, base_delay = "100ms", max_delay = "2s", on = ["502", "connect", "timeout"], budget = 0.2 }
    circuit_breaker = { failure_threshold = 5, recovery_timeout = "30s", half_open_requests = 3 }
"""

PIPELINE = """
    name = "partner"
    request = ["cors", "rate_limit.ip", "auth", "rate_limit", "validation", "caching", "logging", "company.edge:build"]
    response = ["caching", "compression", "cors", "logging", "metrics"]
    error = ["error_handler", "fallback", "cors", "logging", "metrics"]
    [cors]
    origins = ["https://app.example.com"]
    [rate_limit.ip]
    key = "ip"
    limit = 300
    window = "1m"
    [rate_limit]
    key = "client"
    class = "standard"
    classes.standard = { tokens = 1000, refill = 100 }
    classes.strict = { tokens = 100, refill = 10 }
    [auth]
    methods = ["api_key", "jwt"]
    secret = { file = "secret" }
    realm = { file = "realm" }
    ["company.edge:build"]
    script = "x"
    [[route]]
    name = "cameras"
    prefix = "/api/v1/cameras"
    methods = ["GET", "POST", "PUT", "DELETE"]
    upstream = "becamera"
    hosts = ["api.example.com"]
    headers = { "X-Beta" = "1" }
    strip_prefix = "/api/v1"
    rewrite = "/v1{path}"
    timeout = "60s"
    rate_limit = { class = "strict", classes.strict.refill = 5 }
    auth = false
    "company.edge:build" = false
    [[route]]
    path = "/health"
    builtin = "health"
    request = []
"""


@pytest.mark.parametrize(
    ("name", "text"), [("gateway", GATEWAY), ("upstreams", UPSTREAMS), ("pipeline", PIPELINE)]
)
def test_the_contract_s_files_validate(name: str, text: str) -> None:
    text = (
        text.replace("    rate_limit.ip = false\n", "")
        .replace("refill = 5 }", "refill = 5, burst = 1 }")
        .replace(", burst = 1", "")
    )
    assert errors(name, text) == []


def test_they_are_what_the_gateway_takes(tree: Tree) -> None:
    tree.environ = {"GATEWAY_ADMIN_TOKEN": "x"}
    tree.write("pipelines/secret", "x").chmod(0o600)
    tree.write("pipelines/realm", "x")
    tree.write("gateway.toml", GATEWAY)
    tree.write("upstreams.toml", UPSTREAMS)
    tree.write("pipelines/partner.toml", PIPELINE)
    assert tree.said() == []


@pytest.mark.parametrize("name", ["gateway", "upstreams", "pipeline"])
def test_every_schema_is_one(name: str) -> None:
    assert SCHEMAS[name]["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(SCHEMAS[name])
    json.dumps(SCHEMAS[name])
    assert errors(name, "") == []


@pytest.mark.parametrize(
    ("what", "name", "text", "path"),
    [
        ("an unknown key", "gateway", "lisen = {}", ""),
        ("an unknown key in a table", "gateway", "listen.prot = 1", "listen"),
        ("a wrong type", "gateway", "listen.port = 'x'", "listen/port"),
        ("a port beyond ports", "gateway", "listen.port = 65536", "listen/port"),
        ("no duration", "gateway", "server.idle_timeout = '5 s'", "server/idle_timeout"),
        ("no time at all", "gateway", "server.idle_timeout = 0", "server/idle_timeout"),
        ("no size", "gateway", "server.max_body = '5 mb'", "server/max_body"),
        ("a negative size", "gateway", "server.max_body = -1", "server/max_body"),
        ("no choice", "gateway", "errors.format = 'xml'", "errors/format"),
        ("nothing", "gateway", "listen.host = ''", "listen/host"),
        ("no table", "upstreams", "upstream.a = 5", "upstream/a"),
        (
            "an endpoint without a url",
            "upstreams",
            "upstream.a.endpoints = [{ weight = 1 }]",
            "upstream/a/endpoints/0",
        ),
        ("what is no upstream", "upstreams", "[cors]", ""),
        ("an unknown middleware", "pipeline", "request = ['auht']", "request/0"),
        ("an instance of none", "pipeline", "request = ['auht.x']", "request/0"),
        ("a name twice", "pipeline", "request = ['auth', 'auth']", "request"),
        ("a table of none", "pipeline", "[auht]", ""),
        ("an unknown key of a middleware", "pipeline", "rate_limit.limt = 5", "rate_limit/limt"),
        ("an unknown key of an instance", "pipeline", "rate_limit.ip.limt = 5", "rate_limit/ip"),
        ("a missing key of an instance", "pipeline", "transform.x = { buffer = 5 }", "transform/x"),
        (
            "a missing key in a map",
            "pipeline",
            "rate_limit.ip.classes.a = { refill = 5 }",
            "rate_limit/ip/classes/a",
        ),
        (
            "a route with two matches",
            "pipeline",
            "route = [{ path = '/', prefix = '/', upstream = 'a' }]",
            "route/0",
        ),
        ("a route without a target", "pipeline", "route = [{ path = '/' }]", "route/0"),
        (
            "an unknown key of a route",
            "pipeline",
            "route = [{ path = '/', upstream = 'a', timout = 1 }]",
            "route/0",
        ),
        (
            "an override that is true",
            "pipeline",
            "route = [{ path = '/', upstream = 'a', auth = true }]",
            "route/0/auth",
        ),
        (
            "an override of an unknown key",
            "pipeline",
            "route = [{ path = '/', upstream = 'a', auth = { relm = 'x' } }]",
            "route/0/auth",
        ),
    ],
)
def test_broken_files_do_not(what: str, name: str, text: str, path: str) -> None:
    assert path in errors(name, text), what


@pytest.mark.parametrize(
    ("what", "name", "text"),
    [
        ("a number from the environment", "gateway", "listen.port = '${PORT}'"),
        ("a choice from it", "gateway", "errors.format = '${FORMAT}'"),
        ("a duration from it", "gateway", "server.idle_timeout = '${IDLE:-5s}'"),
        ("a boolean from it", "gateway", "routing.case_sensitive = '${STRICT}'"),
        ("a number of seconds", "gateway", "server.idle_timeout = 1.5"),
        ("a number of bytes", "gateway", "server.max_body = 5"),
        ("a secret of a file", "gateway", "admin.token = { file = 'x' }"),
        (
            "a pipeline's table without what its instances have",
            "pipeline",
            "transform.x = { script = 'a' }",
        ),
        ("a quoted instance", "pipeline", "['transform.x']\nscript = 'a'"),
        (
            "an override without what the pipeline has",
            "pipeline",
            "route = [{ path = '/', upstream = 'a', transform.buffer = 1 }]",
        ),
        (
            "an instance left out",
            "pipeline",
            "route = [{ path = '/', upstream = 'a', rate_limit.ip = false }]",
        ),
        (
            "a quoted instance left out",
            "pipeline",
            "route = [{ path = '/', upstream = 'a', 'rate_limit.ip' = false }]",
        ),
        ("any keys where there is no schema", "pipeline", "cors.x.y = 5"),
        ("an operator's own with any keys", "pipeline", "['a.b:c']\nx = 5"),
    ],
)
def test_what_the_gateway_takes_is_not_marked(what: str, name: str, text: str) -> None:
    assert errors(name, text) == [], what


def test_middlewares_that_cannot_be_loaded_are_left_out() -> None:
    assert "company.broken:build" not in SCHEMAS["pipeline"]["properties"]
    assert set(NAMES) <= SCHEMAS["pipeline"]["properties"].keys()


def test_tables_are_described_and_show_their_defaults() -> None:
    listen = table_schema(ListenConfig)
    assert listen["description"] == "The data plane's listener."
    assert (
        listen["properties"]["backlog"]["description"] == "connections that may wait to be accepted"
    )
    assert [listen["properties"][key]["default"] for key in ("host", "port", "backlog")] == [
        "127.0.0.1",
        8080,
        1024,
    ]
    assert "default" not in table_schema(AdminConfig)["properties"]["token"]
    # A dataclass without a docstring gets its signature for one.
    assert "description" not in SCHEMAS["pipeline"]["$defs"]["auth"]


@dataclass(frozen=True, slots=True)
class EveryConfig:
    numbers: tuple[int, ...] = (1, 2)
    pair: tuple[object, ...] = (None,)


class Own(fields.Field[Any]):
    def json_schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "own"}


class EveryTable(Table):
    """One of each, as middlewares may have them."""

    makes = EveryConfig

    numbers = Items(Whole(least=1), validate=validate.Length(min=1, max=3))
    pair = Items(Whole(), validate=validate.Length(equal=2))
    renamed = Text(data_key="class", required=True)
    share = fields.Float(
        validate=validate.Range(min=0, max=1, min_inclusive=False, max_inclusive=False)
    )
    length = Text(empty=True, validate=validate.Length(max=5))
    odd = Text(validate=lambda value: None)
    free = Map()
    few = Map(values=Duration(zero=True), validate=validate.Length(min=1))
    many = SubTable(ListenConfig, many=True)
    raw = fields.Raw()
    own = Own()
    flag = Boolean()
    theirs = fields.Boolean()
    word = Choice("a", "b")
    size = Size()
    secret = Secret()


class OpenTable(Table):
    makes = dict

    class Meta:
        unknown = INCLUDE


TEXT = {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/from_file"}]}
FROM_ENVIRONMENT = {"$ref": "#/$defs/from_environment"}


@pytest.mark.parametrize(
    ("key", "schema"),
    [
        (
            "numbers",
            {
                "type": ["array", "string"],
                "pattern": r"\$\{",
                "items": {"anyOf": [{"type": "integer", "minimum": 1}, FROM_ENVIRONMENT]},
                "minItems": 1,
                "maxItems": 3,
                "default": [1, 2],
            },
        ),
        (
            "pair",
            {
                "type": ["array", "string"],
                "pattern": r"\$\{",
                "items": {"anyOf": [{"type": "integer"}, FROM_ENVIRONMENT]},
                "minItems": 2,
                "maxItems": 2,
            },
        ),
        ("class", TEXT),
        (
            "share",
            {
                "anyOf": [
                    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
                    FROM_ENVIRONMENT,
                ]
            },
        ),
        (
            "length",
            {
                "anyOf": [
                    {"type": "string", "maxLength": 5},
                    FROM_ENVIRONMENT,
                    {"$ref": "#/$defs/from_file"},
                ]
            },
        ),
        ("odd", TEXT),
        ("free", {"type": "object"}),
        (
            "few",
            {
                "type": "object",
                "minProperties": 1,
                "additionalProperties": {
                    "type": ["string", "number"],
                    "pattern": r"^\d+(\.\d+)?(ms|s|m|h|d)$|\$\{",
                    "minimum": 0,
                },
            },
        ),
        ("many", {"type": "array", "items": table_schema(ListenConfig)}),
        ("raw", {}),
        ("own", {"type": "string", "format": "own"}),
        ("flag", {"anyOf": [{"type": "boolean"}, FROM_ENVIRONMENT]}),
        ("theirs", {"anyOf": [{"type": "boolean"}, FROM_ENVIRONMENT]}),
        (
            "word",
            {
                "anyOf": [
                    {"type": "string", "minLength": 1, "enum": ["a", "b"]},
                    FROM_ENVIRONMENT,
                    {"$ref": "#/$defs/from_file"},
                ]
            },
        ),
        (
            "size",
            {
                "type": ["string", "integer"],
                "pattern": r"^\d+(\.\d+)?(B|kB|KB|MB|GB|KiB|MiB|GiB)$|\$\{",
                "minimum": 0,
            },
        ),
        ("secret", TEXT),
    ],
)
def test_fields(key: str, schema: dict[str, Any]) -> None:
    assert table_schema(EveryTable)["properties"][key] == schema


def test_keys_that_must_be_there() -> None:
    assert table_schema(EveryTable)["required"] == ["class"]
    assert "required" not in table_schema(EveryTable, whole=False)


def test_a_table_that_takes_more_keys_says_so() -> None:
    assert table_schema(EveryTable)["additionalProperties"] is False
    assert "additionalProperties" not in table_schema(OpenTable)
