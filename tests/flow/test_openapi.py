"""Routes of an OpenAPI document, over real sockets."""

from __future__ import annotations

import orjson

from tests.flow.test_proxy import upstreams
from tests.openapi.cases import HERE

PIPELINE = """
request = ["validation"]
[validation]
unknown = "strip"
[[openapi]]
file = "../old.yaml"
upstream = "origin"
prefix = "/v1"
"""
JSON = "Content-Type: application/json"


async def test_requests_are_held_to_the_document(start, origin, connect):
    document = (HERE / "old.yaml").read_text()
    client = await connect(await start(PIPELINE, upstreams(origin), old__yaml=document))
    assert (await client.get("/v1/pets/7?limit=5")).status == 200
    assert origin.heads[-1].startswith(b"GET /v1/pets/7?limit=5 ")
    reply = await client.get("/v1/pets/x?limit=0")
    assert reply.status == 422
    assert orjson.loads(reply.body)["errors"] == [
        {"field": "id", "code": "VAL_003", "message": "must be an integer"}
    ]
    reply = await client.get("/v1/pets/7?limit=0")
    assert [one["field"] for one in orjson.loads(reply.body)["errors"]] == ["limit"]
    body = b'{"name": "a", "tag": null, "evil": 1}'
    assert (await client.get("/v1/pets/7", JSON, method="PUT", body=body)).status == 200
    assert origin.bodies[-1] == b'{"name":"a","tag":null}'
    reply = await client.get("/v1/pets/7", JSON, method="PUT", body=b"{}")
    assert (reply.status, orjson.loads(reply.body)["code"]) == (422, "VAL_002")
    assert (await client.get("/v1/pets/7", method="DELETE")).status == 405
    assert (await client.get("/pets/7")).status == 404
    assert len(origin.heads) == 2


async def test_what_is_only_reported_passes(start, origin, connect):
    document = (HERE / "old.yaml").read_text()
    pipeline = PIPELINE + 'validate = "report"\n'
    gateway = await start(pipeline, upstreams(origin), old__yaml=document)
    client = await connect(gateway)
    assert (await client.get("/v1/pets/x")).status == 200
    body = b'{"evil": 1}'
    assert (await client.get("/v1/pets/7", JSON, method="PUT", body=body)).status == 200
    assert origin.bodies[-1] == body
