"""Errors in the operator's words, over sockets: those of pipelines, and those that never reach
one."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from gateway.app import Gateway
from tests.client import Client
from tests.flow.conftest import Start
from tests.origin import Origin

Connect = Callable[[Gateway], Awaitable[Client]]

S0 = """
[errors]
format = "envelope"
types = "/errors/"
statuses = { SVC_003 = 408, VAL_002 = 400, VAL_003 = 400 }
codes = { no_route = "NOT_FOUND" }
messages = { missing_field = "Missing required field: {field}" }

[errors.templates.rate_limited]
error = "rate_limit_exceeded"
message = "Rate limit exceeded. Please try again later."
retryAfter = "{retry_after}"
limit = "{limit}"
remaining = "{remaining}"
"""
PIPELINE = """
request = ["rate_limit", "validation"]
rate_limit = { key = "ip", algorithm = "fixed_window", limit = 1, window = "1h" }
[validation]
body.schema = { type = "object", required = ["name"] }
[[route]]
path = "/cameras"
upstream = "origin"
[[route]]
path = "/free"
upstream = "origin"
rate_limit = false
[[route]]
prefix = "/errors"
builtin = "errors"
request = []
"""


async def test_one_gateways_words(start: Start, origin: Origin, connect: Connect):
    client = await connect(await start(PIPELINE, f'[upstream.origin]\nurl = "{origin.url}"\n', S0))
    assert (await client.get("/cameras")).status == 200
    limited = await client.get("/cameras")
    shown = json.loads(limited.body)
    assert limited.status == 429
    assert shown.pop("retryAfter") == int(limited.fields["retry-after"])
    assert shown == {
        "error": "rate_limit_exceeded",
        "message": "Rate limit exceeded. Please try again later.",
        "limit": 1,
        "remaining": 0,
    }
    json_type = "Content-Type: application/json"
    missing = await client.get("/free", json_type, method="POST", body=b"{}")
    assert missing.status == 400
    assert json.loads(missing.body)["error"]["message"] == "Missing required field: name"
    assert missing.fields["x-error-message"] == "Missing required field: name"
    unknown = await client.get("/nowhere")
    assert json.loads(unknown.body)["error"]["code"] == "NOT_FOUND"
    assert unknown.fields["x-error-code"] == "NOT_FOUND"
    explained = json.loads((await client.get("/errors/NOT_FOUND")).body)["errors"]
    assert [one["reason"] for one in explained] == ["no_route"]
    by_type = json.loads((await client.get(explained[0]["type"])).body)
    assert by_type["errors"] == explained
    timeouts = json.loads((await client.get("/errors/SVC_003")).body)["errors"]
    assert {one["status"] for one in timeouts} == {408}


async def test_a_template_also_before_there_is_a_route(start: Start, connect: Connect):
    gateway = await start(
        '[[route]]\npath = "/a"\nbuiltin = "info"\nmethods = ["GET"]\n',
        gateway='[errors]\ntemplate = { code = "{code}", status_code = "{status}", path = "{path}" }',
    )
    client = await connect(gateway)
    assert json.loads((await client.get("/b?key=secret")).body) == {
        "code": "ROUTE_001",
        "status_code": 404,
        "path": "/b",
    }
    assert json.loads((await client.get("/a", method="POST")).body)["code"] == "ROUTE_002"
