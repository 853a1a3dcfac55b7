"""What routes say about themselves."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.builtins.openapi.published import Published, either, published, shape_of
from gateway.config.openapi.document import document, operations
from gateway.config.tables.pipeline import PipelineConfig, RouteConfig
from tests.openapi.cases import HERE

AUTH = SimpleNamespace(
    methods=("api_key", "jwt"),
    api_key=SimpleNamespace(header="X-API-Key"),
    require={"GET": frozenset(("a:read",)), "*": frozenset(("a:write",))},
    tiers=("pro",),
    optional=True,
)
VALIDATION = SimpleNamespace(
    body=SimpleNamespace(schema={"type": "object"}),
    query=SimpleNamespace(
        schema={"properties": {"limit": {"type": "integer"}, "ids": {}}, "required": ["limit"]}
    ),
    path=SimpleNamespace(schema={"properties": {"id": {"type": "integer"}}}),
    methods=("POST",),
    body_required=True,
    split=("ids",),
)


def made(route: RouteConfig, **settings: Any) -> list[Published]:
    pipeline = PipelineConfig(request=tuple(settings), settings=settings)
    return list(published(pipeline, route, "application/problem+json"))


def test_a_route_says_what_its_middlewares_ask_for():
    route = RouteConfig(name="things", path="/a/{id}", methods=("GET", "POST"), upstream="x")
    get, post = made(route, auth=AUTH, rate_limit=SimpleNamespace(), validation=VALIDATION)
    assert (get.method, get.path, get.needed, get.tiers) == (
        "GET", "/a/{id}", {"a:read"}, {"pro"},
    )  # fmt: skip
    assert post.needed == {"a:write"}
    assert get.operation["security"] == [{"api_key": ["a:read"]}, {"jwt": ["a:read"]}, {}]
    assert get.schemes["api_key"] == {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    assert get.operation["parameters"] == [
        {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}},
        {"name": "limit", "in": "query", "schema": {"type": "integer"}, "required": True},
        {"name": "ids", "in": "query", "schema": {}, "explode": False},
    ]
    assert "requestBody" not in get.operation
    body = post.operation["requestBody"]
    assert body == {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
    assert list(get.operation["responses"]) == ["2XX", "3XX", "401", "403", "429", "default"]


@pytest.mark.parametrize(
    ("route", "wanted"),
    [
        (RouteConfig(prefix="/", upstream="x"), []),
        (
            RouteConfig(prefix="/api/{service}", methods=("GET",), upstream="{service}"),
            ["GET /api/{service}", "GET /api/{service}/{path_below}"],
        ),
        (RouteConfig(path="/a/{service}", methods=("PUT",), upstream="x"), ["PUT /a/{service}"]),
        (RouteConfig(path="/a", builtin="health", published=False), []),
        (RouteConfig(path="/a", upstream="x", retired=True), []),
        (RouteConfig(path="/a", builtin="health"), ["GET /a"]),
        (
            RouteConfig(prefix="/a", methods=("GET",), upstream="x"),
            ["GET /a", "GET /a/{path_below}"],
        ),
        (RouteConfig(prefix="/a/", methods=("GET",), upstream="x"), ["GET /a/{path_below}"]),
        (RouteConfig(path="/a", builtin="login"), ["POST /a"]),
        (RouteConfig(paths=("/a", "/b"), methods=("GET",), upstream="x"), ["GET /a", "GET /b"]),
    ],
)
def test_which_routes_are_published(route: RouteConfig, wanted: list[str]):
    assert [f"{one.method} {one.path}" for one in made(route)] == wanted


def test_all_below_a_prefix_is_a_variable():
    start, below = made(RouteConfig(name="a", prefix="/a", methods=("GET",), upstream="x"))
    assert (start.below, below.below) == (False, True)
    assert "parameters" not in start.operation
    (parameter,) = below.operation["parameters"]
    assert (parameter["name"], parameter["in"]) == ("path_below", "path")
    assert "slashes included" in parameter["description"]
    assert start.operation["operationId"] != below.operation["operationId"]


@pytest.mark.parametrize(
    ("builtin", "needed", "texts", "status"),
    [
        ("login", ["username", "password"], ["username", "password", "code"], "200"),
        ("refresh", ["refresh_token"], ["refresh_token"], "200"),
        ("logout", [], ["refresh_token"], "204"),
        (
            "change_password",
            ["old_password", "new_password"],
            ["old_password", "new_password"],
            "204",
        ),
    ],
)
def test_answers_about_tokens_say_what_they_take(
    builtin: str, needed: list[str], texts: list[str], status: str
):
    (one,) = made(RouteConfig(name="a", path="/a", builtin=builtin))
    body = one.operation["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert body["required"] is bool(needed)
    assert (schema["required"], list(schema["properties"])) == (needed, texts)
    assert list(one.operation["responses"]) == [status, "default"]


def test_an_operation_of_a_document_is_what_that_says():
    found = operations(document((HERE / "old.yaml").read_bytes(), "old.yaml"))
    get = next(one for one in found if one.id == "getPet")
    route = RouteConfig(
        name="x", path="/v1/pets/{id}", methods=("GET",), upstream="x", operation=get, sunset=1.0
    )
    (one,) = made(route, auth=AUTH)
    assert [parameter.get("name", "limit") for parameter in one.operation["parameters"]] == [
        "id", "limit", "since",
    ]  # fmt: skip
    assert one.operation["operationId"] == "getPet"
    assert one.operation["deprecated"] is True
    assert one.document is get.document
    assert list(one.operation["responses"]) == ["401", "403", "default", "200"]


def test_schemas_in_files_are_shown():
    text = '{"$schema": "https://json-schema.org/draft/2020-12/schema", "required": ["name"]}'
    body = SimpleNamespace(schema=None, text=text)
    validation = SimpleNamespace(body=body, methods=("POST",), body_required=True)
    route = RouteConfig(name="a", path="/a", methods=("POST",), upstream="x")
    (one,) = made(route, validation=validation)
    content = one.operation["requestBody"]["content"]
    assert content == {"application/json": {"schema": {"required": ["name"]}}}


def test_schemas_that_refer_to_themselves_are_left_out():
    refers = SimpleNamespace(schema={"items": [{"$ref": "#"}]})
    validation = SimpleNamespace(body=refers, methods=("POST",), body_required=False)
    route = RouteConfig(name="a", path="/a", methods=("POST",), upstream="x")
    (one,) = made(route, validation=validation)
    content = one.operation["requestBody"]["content"]
    assert content == {"application/json": {"schema": {}}}


def test_a_shape():
    assert shape_of({"a": "x", "b": [1], "c": True, "d": 1, "e": None}) == {
        "type": "object",
        "properties": {
            "a": {"type": "string"}, "b": {"type": "array"}, "c": {"type": "boolean"},
            "d": {"type": "integer"}, "e": {},
        },
    }  # fmt: skip


def test_one_of_two_shapes():
    one = shape_of({"code": "x", "error": {"a": 1}, "details": []})
    other = shape_of({"code": "x", "error": {"b": 1}, "details": {"c": 1}})
    assert either(one, other) == {
        "type": "object",
        "properties": {
            "code": {"type": "string"},
            "error": shape_of({"a": 1, "b": 1}),
            "details": {},
        },
    }
