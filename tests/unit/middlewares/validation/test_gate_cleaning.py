"""What goes on after a request was judged: clean bodies and queries, XML as JSON."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.exchange import Exchange
from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem
from gateway.middlewares import validation
from gateway.middlewares.validation.gate import INLINE
from gateway.middlewares.validation.judge import Judge
from tests.exchange import World
from tests.unit.middlewares.validation.requests import (
    FORM,
    JSON,
    asks,
    build,
    ended,
    fields,
    refused,
    run,
)

XML = {"Content-Type": "application/xml"}
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 2},
        "limit": {"type": "integer", "default": 20},
        "tags": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["name"],
}
CLEAN = {"defaults": True, "coerce": True, "unknown": "strip", "sanitize": ["trim"]}


async def sent(table: dict[str, Any], headers: dict[str, str], data: bytes) -> Exchange:
    one = asks(headers=headers, body=data)
    assert await run(build({"body": {"schema": SCHEMA}, **table}), one) is None
    return one


def body(one: Exchange) -> bytes:
    assert one.body is not None
    data = one.body.complete
    assert data is not None
    return data


async def test_the_clean_body_goes_on():
    given = b'{"name": " ann ", "evil": 1, "tags": ["1"]}'
    one = await sent(CLEAN, {**JSON, "Content-Digest": "sha-256=:x:"}, given)
    assert orjson.loads(body(one)) == {"name": "ann", "tags": [1], "limit": 20}
    assert one.body is not None and one.body.length == len(body(one))
    assert b"content-digest" in (one.drop_headers or ())
    one = await sent(CLEAN, FORM, b"name=+ann&evil=1&tags=1&tags=2")
    assert body(one) == b"name=ann&tags=1&tags=2&limit=20"
    given = b'{"name": " ann ", "evil": 1}'
    one = await sent({}, JSON, given)
    assert body(one) == given


async def test_it_is_the_clean_body_that_is_judged():
    failed = await refused(
        {"body": {"schema": SCHEMA}, **CLEAN}, headers=JSON, body=b'{"name": "a "}'
    )
    assert fields(failed) == {"name": ("VAL_003", "must have at least 2 characters")}


async def test_a_large_body_is_cleaned_as_a_small_one_is():
    world = World()
    hooks = world.build(validation, {"body": {"schema": SCHEMA}, **CLEAN})
    name = "x" * INLINE
    one = asks(headers=JSON, body=b'{"name": " %b ", "evil": 1}' % name.encode())
    try:
        assert await run(hooks, one) is None
    finally:
        await ended(world.draft.keep(("validation judge",), None, Judge))
    assert orjson.loads(body(one)) == {"name": name, "limit": 20}


async def test_xml_is_judged_as_json_is():
    given = b"<user><name>ann</name><tags>1</tags></user>"
    one = await sent({"xml": "check"}, XML, given)
    assert body(one) == given
    one = await sent({"xml": "json", **CLEAN}, {"Content-Type": "application/soap+xml"}, given)
    assert orjson.loads(body(one)) == {"name": "ann", "tags": [1], "limit": 20}
    assert one.forward_headers == [(b"Content-Type", b"application/json")]
    assert b"content-type" in (one.drop_headers or ())
    table = {"body": {"schema": SCHEMA}, "xml": "check"}
    failed = await refused(table, headers=XML, body=b"<user><name>a</name></user>")
    assert fields(failed) == {"name": ("VAL_003", "must have at least 2 characters")}
    failed = await refused(table, headers=XML, body=b"<!DOCTYPE a><a/>")
    assert failed.failure is Failure.MALFORMED
    failed = await refused({"body": {"schema": SCHEMA}}, headers=XML, body=given)
    assert failed.failure is Failure.UNSUPPORTED_MEDIA_TYPE


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        ("/a", "limit=20"),
        ("/a?x=1&limit=5", "limit=5"),
        ("/a?limit=05&y", "limit=05"),
        ("/a?tag=1&tag=2", "tag=1&tag=2&limit=20"),
        ("/a?q=%20a%26b%20", "q=a%26b&limit=20"),
    ],
)
async def test_the_clean_query_goes_on(target: str, wanted: str):
    schema = {
        "properties": {
            "limit": {"type": ["integer", "string"], "default": 20},
            "tag": {"type": "array"},
            "q": {"type": "string"},
        }
    }
    one = asks("GET", target)
    assert await run(build({"query": {"schema": schema}, **CLEAN}), one) is None
    assert (one.query, one.target) == (wanted, f"/a?{wanted}")


async def test_a_query_that_is_clean_stays_as_it_was_sent():
    one = asks("GET", "/a?b=%41&a=%20")
    schema = {"properties": {"a": {}, "b": {}}}
    table = {"query": {"schema": schema}, "defaults": True, "unknown": "strip"}
    assert await run(build(table), one) is None
    assert one.target == "/a?b=%41&a=%20"


async def test_fields_that_a_request_must_have():
    table = {"required_headers": ["Content-Type", "Accept"]}
    failed = await refused(table, headers=JSON, body=b"{}")
    assert (failed.failure, failed.failure.status) == (Failure.MALFORMED, 400)
    assert fields(failed) == {"Accept": ("VAL_002", "is required")}
    assert failed.detail == "The request has no Accept header."
    assert await run(build(table), asks(headers={**JSON, "accept": "*/*"}, body=b"{}")) is None


def test_cleaning_needs_a_json_schema():
    where = "tests.unit.middlewares.validation.test_schemas:ThingSchema"
    with pytest.raises(ConfigProblem, match="need a JSON Schema"):
        build({"body": {"marshmallow": where}, "defaults": True})


def test_bodies_that_go_on_as_they_came_are_not_cleaned():
    with pytest.raises(Exception, match="cannot be cleaned"):
        build({"body": {"schema": SCHEMA}, "xml": "check", "unknown": "strip"})
