"""Requests and answers that are changed on their way, over real sockets."""

from __future__ import annotations

import gzip

import orjson
import pytest

from tests.flow.test_proxy import upstreams
from tests.origin import answer, fields_of

PIPELINE = """
request = ["rate_limit", "transform", "validation"]
response = ["transform", "compression"]
error = ["error_handler", "transform"]
[compression]
minimum = 1
[rate_limit]
key = "ip"
limit = 100
window = "1h"
[transform.request]
set = { "X-Route" = "{route}" }
remove = ["X-Debug"]
query.set = { camera = "{param.id}" }
body.set = { "meta.camera" = "{param.id}" }
[transform.response]
set = { Pragma = "no-cache", Expires = "0", "X-XSS-Protection" = "1; mode=block" }
remove = ["X-Powered-By"]
body.remove = ["data.secret"]
[transform.response.body.set]
"meta.rateLimit" = { limit = "{limit}", remaining = "{remaining}", resetAt = "{reset_at}" }
[[route]]
name = "cameras"
path = "/cameras/{id}"
upstream = "origin"
"""


async def test_a_request_and_its_answer_are_changed(start, origin, connect):
    text = b"x" * 300
    data = b'{"success": true, "data": {"id": 7, "secret": "x", "text": "%b"}}' % text
    origin.respond = answer(
        data, Content_Type="application/json", ETag='"v1"', X_Powered_By="PHP", Expires="Thu"
    )
    client = await connect(await start(PIPELINE, upstreams(origin)))
    for left in (99, 98):
        reply = await client.get(
            "/cameras/7?x=%20",
            "X-Debug: 1",
            "Accept-Encoding: gzip",
            "Content-Type: application/json",
            method="POST",
            body=b'{"name": "c"}',
        )
        head = fields_of(origin.heads[-1])
        assert origin.heads[-1].startswith(b"POST /cameras/7?x=%20&camera=7 HTTP/1.1\r\n")
        assert (head["x-route"], head["accept-encoding"]) == ("cameras", "identity")
        assert "x-debug" not in head
        assert orjson.loads(origin.bodies[-1]) == {"name": "c", "meta": {"camera": "7"}}
        body = orjson.loads(gzip.decompress(reply.body))
        assert body["data"] == {"id": 7, "text": text.decode()}
        limits = body["meta"]["rateLimit"]
        assert (limits["limit"], limits["remaining"]) == (100, left)
        assert limits["resetAt"].endswith("Z")
        fields = reply.fields
        assert (fields["pragma"], fields["expires"]) == ("no-cache", "0")
        assert fields["x-xss-protection"] == "1; mode=block"
        assert fields["etag"] == 'W/"v1"'
        assert "x-powered-by" not in fields


async def test_errors_get_the_fields_and_a_body_that_cannot_be_read_is_refused(
    start, origin, connect
):
    client = await connect(await start(PIPELINE, upstreams(origin)))
    reply = await client.get("/nowhere")
    assert (reply.status, reply.fields["pragma"]) == (404, "no-cache")
    kind = "Content-Type: application/json"
    reply = await client.get("/cameras/7", kind, method="POST", body=b"{")
    assert (reply.status, reply.fields["pragma"]) == (400, "no-cache")
    assert origin.heads == []
    origin.respond = answer(b"{", Content_Type="application/json")
    assert (await client.get("/cameras/7")).status == 502


@pytest.mark.modes
async def test_what_streams_passes_and_json_in_chunks_is_put_together(start, origin, connect):
    client = await connect(await start(PIPELINE, upstreams(origin)))
    origin.respond = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"a\r\ndata: {}\n\n\r\n0\r\n\r\n"
    )
    reply = await client.get("/cameras/7")
    assert reply.body == b"data: {}\n\n"
    origin.respond = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n'
    )
    reply = await client.get("/cameras/7")
    assert orjson.loads(reply.body)["a"] == 1
    assert reply.fields["content-length"] == str(len(reply.body))
