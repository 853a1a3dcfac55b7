"""Operations of OpenAPI documents, compared with openapi-core's verdicts on the same requests.

The verdicts are recorded (bench/openapi/record.py); where they differ, REASONS says why.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from gateway.config.openapi.document import Operation, document, operations
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Hooks
from gateway.middlewares import validation
from gateway.middlewares.validation.config import ValidationConfig
from gateway.middlewares.validation.gate import INLINE
from gateway.middlewares.validation.judge import Judge
from gateway.middlewares.validation.operation import compiled_document
from gateway.middlewares.validation.schemas import JsonSchema
from gateway.routing.router import Router
from tests.exchange import Body, World, exchange
from tests.openapi.cases import HERE, JSON, Case, cases
from tests.unit.middlewares.validation.requests import ended, fields

VERDICTS: dict[str, str] = json.loads((HERE / "verdicts.json").read_text())

REASONS = {
    r"/(matrix|label)/": "openapi-core finds no parameter in a path of style matrix or label",
    r"[/=]01$|(%20| )1$|ratio=(1\.|\.5|nan)$": (
        "it reads numbers as Python does, with leading noughts and spaces; JSON has no such "
        "numbers, and services may read them otherwise"
    ),
    r"active=(1|yes|TRUE)$": "it takes more spellings of true",
    r"ids=1%2C2$": "a comma that is encoded is part of a value, not between values",
    r"spaces=1%202$": "it decodes %20 only after it has looked for it",
    r"limit=\d+&limit=": "services differ about which of two values counts",
    r"either\?": "it fails (TypeError) where a parameter has several types",
    r"needed\?q=?$": "an empty text is a text",
    r"form-urlencoded name=a&other=1$": "it drops fields that the schema does not allow",
    r'\{"id": 1, "name"': "clients send back what they were given; readOnly is only a SHOULD NOT",
    r'"(kind|owner)": null': "`nullable` beside `enum` or `allOf` means what its authors mean",
}


WORLDS: list[World] = []
"""Those of the test that runs."""


@pytest.fixture(autouse=True)
async def no_judge_is_left() -> AsyncIterator[None]:
    """End the processes that bodies of the test were judged in."""
    yield
    while WORLDS:
        await ended(WORLDS.pop().draft.keep(("validation judge",), None, Judge))


class Api:
    """A document's operations, and the hook of each."""

    def __init__(self, name: str, world: World, **settings: Any) -> None:
        self.world = world
        WORLDS.append(world)
        self.settings = settings
        found = operations(document((HERE / name).read_bytes(), name))
        routes = [
            (RouteConfig(name=one.id, path=one.path, methods=(one.method,), upstream="x"), one)
            for one in found
        ]
        self.router = Router(routes, RoutingConfig())
        self.hooks: dict[str, Hooks] = {}

    async def verdict(self, case: Case) -> Failed | None:
        asked = exchange(case.method, case.target, list(case.headers))
        if case.body is not None:
            asked.body = Body(case.body.encode(), len(case.body.encode()))
        operation: Operation = self.router.match(asked)
        if operation.pointer not in self.hooks:
            config = ValidationConfig(operation=operation, **self.settings)
            context = self.world.context("validation", route=operation.id)
            self.hooks[operation.pointer] = validation.build(config, context)
        hook = self.hooks[operation.pointer].request
        assert hook is not None
        try:
            pending = hook(asked)
            if pending is not None:
                await pending  # type: ignore[misc]
        except Failed as failed:
            return failed
        self.asked = asked
        return None


async def test_verdicts_are_those_of_openapi_core_but_for_named_reasons():
    world = World()
    apis = {name: Api(name, world) for name in ("styles.json", "old.yaml")}
    assert len(VERDICTS) > 300
    used = set()
    for case in cases():
        mine, theirs = await apis[case.document].verdict(case), VERDICTS[case.name]
        if (mine is None) != (theirs == ""):
            reason = next((one for one in REASONS if re.search(one, case.name)), None)
            assert reason is not None, (case.name, mine, theirs)
            used.add(reason)
    assert used == set(REASONS)


async def refused(case: Case, **settings: Any) -> Failed:
    failed = await Api(case.document, World(), **settings).verdict(case)
    assert failed is not None
    return failed


def posted(body: str, kind: str = JSON, method: str = "POST") -> Case:
    return Case("styles.json", method, "/pets", (("Content-Type", kind),), body)


async def test_what_is_wrong_is_said_field_by_field():
    failed = await refused(Case("styles.json", "GET", "/query?limit=0&sort=x&tags="))
    assert failed.failure is Failure.INVALID_FIELD
    assert fields(failed) == {
        "limit": ("VAL_003", "must be at least 1"),
        "sort": ("VAL_003", 'must be one of "asc", "desc"'),
        "tags.0": ("VAL_003", "must have at least 1 characters"),
    }
    failed = await refused(Case("styles.json", "GET", "/needed"))
    assert fields(failed) == {"q": ("VAL_002", "is required")}
    failed = await refused(Case("styles.json", "GET", "/query?json={"))
    assert fields(failed) == {"json": ("VAL_003", "is not JSON")}
    failed = await refused(posted('{"name": "a", "friends": [{}]}'))
    assert fields(failed) == {"friends.0.name": ("VAL_002", "is required")}


async def test_other_media_types_are_415_with_those_that_are_taken():
    failed = await refused(posted("x", "text/plain"))
    assert failed.failure is Failure.UNSUPPORTED_MEDIA_TYPE
    assert failed.headers == ((b"Accept", b"application/json, application/x-www-form-urlencoded"),)


async def test_parameters_that_are_not_utf8_are_malformed():
    failed = await refused(Case("styles.json", "GET", "/query?name=%ff"))
    assert failed.failure is Failure.MALFORMED


async def test_a_large_body_is_judged_in_the_other_process():
    world = World()
    api = Api("styles.json", world)
    friend = '{"name": "a", "age": %d}'
    large = json.dumps({"name": "a", "friends": [{"name": "b"}] * (INLINE // 10)})
    failed = await api.verdict(posted(large))
    assert failed is not None
    assert fields(failed) == {"friends": ("VAL_003", "must have at most 2 items")}
    space = " " * INLINE
    assert await api.verdict(posted(friend % 1 + space)) is None
    assert await api.verdict(posted(friend % -1 + space)) is not None


def one_body(media_type: str, schema: Any) -> Operation:
    body = {"required": True, "content": {media_type: {"schema": schema}}}
    post = {"requestBody": body, "responses": {"200": {"description": "ok"}}}
    raw = {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1"},
        "paths": {"/a": {"post": post}},
    }
    (operation,) = operations(document(json.dumps(raw).encode(), "x.json"))
    return operation


async def sent(config: ValidationConfig, kind: str, data: bytes) -> Any:
    one = exchange("POST", "/a", {"Content-Type": kind}, body=Body(data, len(data)))
    hook: Any = validation.build(config, World().context("validation")).request
    await hook(one)
    return one.body


@pytest.mark.parametrize(("kind", "schema"), [("application/octet-stream", {}), ("text/csv", {})])
async def test_what_is_not_judged_may_be_larger(kind: str, schema: Any):
    config = ValidationConfig(operation=one_body(kind, schema))
    large = b"x" * 2_000_000
    assert (await sent(config, kind, large)).reads == 0
    with pytest.raises(Failed) as caught:
        await sent(config, kind, large * 6)
    assert caught.value.failure is Failure.BODY_TOO_LARGE
    json = ValidationConfig(operation=one_body(JSON, {}))
    with pytest.raises(Failed) as caught:
        await sent(json, JSON, b" " * 2_000_000)
    assert caught.value.failure is Failure.BODY_TOO_LARGE


async def test_xml_that_goes_on_as_it_came_is_judged_as_it_came():
    schema = {"properties": {"a": {"type": "integer"}}, "additionalProperties": False}
    operation = one_body("application/xml", schema)
    data = b"<x><a>1</a><evil>1</evil></x>"
    with pytest.raises(Failed):
        await sent(ValidationConfig(operation=operation, unknown="strip"), "application/xml", data)
    config = ValidationConfig(operation=operation, unknown="strip", xml="json")
    assert (await sent(config, "application/xml", data)).complete == b'{"a":1}'


def test_a_bundle_has_what_a_schema_refers_to_and_no_more():
    made = document((HERE / "old.yaml").read_bytes(), "old.yaml")
    shared = compiled_document(made)
    pointer = "#/components/requestBodies/Pet/content/application~1json/schema"
    bundle = shared.bundle(pointer)
    assert bundle["$ref"] == pointer
    components = bundle["components"]
    assert components["schemas"].keys() == {"Pet", "Owner"}
    content = components["requestBodies"]["Pet"]["content"]
    assert content == {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}
    alone = JsonSchema(bundle, "bundle")
    assert alone.is_valid({"name": "a", "owner": {"name": "b"}})
    assert not alone.is_valid({"name": "a", "owner": {}})


async def test_the_clean_body_goes_on():
    api = Api("styles.json", World(), coerce=True, unknown="strip", defaults=True)
    assert await api.verdict(posted('{"name": 7, "age": "5", "evil": 1}')) is None
    assert api.asked.body is not None
    assert api.asked.body.complete == b'{"name":"7","age":5}'


@pytest.mark.parametrize(
    ("settings", "query", "wanted"),
    [
        ({}, "x=1&limit=%35", "x=1&limit=%35"),
        ({"unknown": "strip"}, "x=1&limit=%35&filter[age]=1", "limit=%35&filter[age]=1"),
        ({"unknown": "strip"}, "x=1", ""),
        ({"defaults": True}, "x=1", "x=1&page=2&sort=up"),
        ({"defaults": True}, "page=3", "page=3&sort=up"),
    ],
)
async def test_the_clean_query_goes_on(settings: dict[str, Any], query: str, wanted: str):
    def parameter(name: str, schema: Any, **more: Any) -> dict[str, Any]:
        return {"name": name, "in": "query", "schema": schema, **more}

    listed = [
        parameter("limit", {"type": "integer"}),
        parameter("page", {"$ref": "#/components/schemas/Page"}),
        parameter("sort", {"default": "up"}),
        parameter("filter", {"type": "object"}, style="deepObject"),
    ]
    raw = {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1"},
        "paths": {
            "/a": {"get": {"parameters": listed, "responses": {"200": {"description": "ok"}}}}
        },
        "components": {"schemas": {"Page": {"type": "integer", "default": 2}}},
    }
    (operation,) = operations(document(json.dumps(raw).encode(), "x.json"))
    config = ValidationConfig(operation=operation, **settings)
    hook: Any = validation.build(config, World().context("validation")).request
    one = exchange("GET", f"/a?{query}")
    assert hook(one) is None
    assert (one.query, one.target) == (wanted, "/a" + (f"?{wanted}" if wanted else ""))


async def test_what_is_only_reported_passes_and_is_counted():
    world = World()
    made = document((HERE / "styles.json").read_bytes(), "styles.json")
    found = next(one for one in operations(made) if one.id == "needed")
    config = ValidationConfig(operation=replace(found, report=True), unknown="strip")
    hooks = validation.build(config, world.context("validation", route="needed"))
    assert hooks.request is not None
    for _ in range(2):
        assert hooks.request(exchange("GET", "/needed")) is None
    values = world.telemetry.validation_reports.values
    assert values == {("needed", "VAL_002"): 2}
    assert world.telemetry.shadow_refusals.values == {("_none", "validation", "missing_field"): 2}
    right = exchange("GET", "/needed?q=a&evil=1")
    assert hooks.request(right) is None
    assert right.query == "q=a&evil=1"
    large = exchange("GET", "/needed", body=Body(b"", 20_000_000))
    with pytest.raises(Failed):
        hooks.request(large)


async def test_everything_that_is_configured_may_be_only_reported():
    """What is too large, too: without `[validation] report` the limit would hold."""
    world = World()
    table = {
        "report": True, "max_body": 3, "xml": "json", "coerce": True, "unknown": "strip",
        "query": {"schema": {"type": "object", "required": ["q"], "properties": {"q": {}}}},
        "body": {"schema": {"type": "object", "properties": {"a": {"type": "integer"}}}},
    }  # fmt: skip
    hooks = world.build(validation, table)
    assert hooks.request is not None
    for target, data in (("/?b=1", b"{}"), ("/?q=1&b=1", b'{"a": "1"}'), ("/?q=1&b=1", b"[1]")):
        one = exchange("POST", target, {"Content-Type": "application/json"}, body=Body(data))
        pending: Any = hooks.request(one)
        assert pending is None or await pending is None
        assert (one.target, one.body.data, one.body.limit) == (target, data, None)  # type: ignore[union-attr]
    counted = {labels[2]: count for labels, count in world.telemetry.shadow_refusals.values.items()}
    assert counted == {"missing_field": 1, "body_too_large": 1, "invalid_field": 1}


def test_a_schema_that_is_none_is_an_error_with_its_place():
    raw: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "1"},
        "paths": {
            "/a": {
                "get": {
                    "parameters": [{"name": "q", "in": "query", "schema": {"type": "strin"}}],
                    "responses": {"200": {"description": "ok"}},
                }
            }
        },
    }
    (operation,) = operations(document(json.dumps(raw).encode(), "x.json"))
    with pytest.raises(ConfigProblem, match=r"x\.json: #/paths/~1a/get: not a schema"):
        validation.build(ValidationConfig(operation=operation), World().context("validation"))
    parameters = raw["paths"]["/a"]["get"]["parameters"]
    parameters[0]["schema"] = {"$ref": "#/components/schemas/None"}
    (operation,) = operations(document(json.dumps(raw).encode(), "x.json"))
    with pytest.raises(ConfigProblem, match=r"x\.json: #/paths/~1a/get"):
        validation.build(ValidationConfig(operation=operation), World().context("validation"))
