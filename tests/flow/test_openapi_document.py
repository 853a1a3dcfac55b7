"""The document and the page of a gateway's own API."""

from __future__ import annotations

import orjson
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.flow.test_proxy import upstreams
from tests.openapi.cases import HERE

PIPELINE = """
request = ["auth", "rate_limit", "validation"]
[auth]
methods = ["api_key"]
optional = true
[rate_limit]
key = "ip"
limit = 100
window = "1m"
[validation.query]
schema = { properties = { q = { type = "string" } } }
[[openapi]]
file = "../old.yaml"
upstream = "origin"
prefix = "/v1"
overrides = { "PUT /pets/{id}" = { auth = { require = ["pets:write"] } } }
[[openapi]]
file = "../styles.json"
upstream = "origin"
prefix = "/v2"
[[route]]
path = "/search"
methods = ["GET"]
upstream = "origin"
[[route]]
path = "/openapi.json"
builtin = "openapi"
api = { title = "Pets and styles", version = "3" }
[[route]]
path = "/docs"
builtin = "docs"
[[route]]
path = "/internal"
upstream = "origin"
published = false
"""


async def test_the_published_document_is_valid_and_complete(start, origin, connect):
    texts = {
        "old__yaml": (HERE / "old.yaml").read_text(),
        "styles__json": (HERE / "styles.json").read_text(),
        "keys__toml": "",
    }
    client = await connect(await start(PIPELINE, upstreams(origin), **texts))
    reply = await client.get("/openapi.json")
    document = orjson.loads(reply.body)
    assert [*OpenAPIV31SpecValidator(document).iter_errors()] == []
    assert document["info"]["title"] == "Pets and styles"
    paths = document["paths"]
    assert {"/v1/pets/{id}", "/v2/query", "/search", "/openapi.json", "/docs"} <= paths.keys()
    assert "/internal" not in paths
    assert paths["/search"]["get"]["parameters"][0]["name"] == "q"
    failure = document["components"]["schemas"]["Failure"]["properties"]
    assert {"type", "title", "status", "code", "request_id"} <= failure.keys()
    reply = await client.get("/docs", "Accept: text/html")
    assert reply.fields["content-type"] == "text/html; charset=utf-8"
    assert "content-security-policy" in reply.fields
    assert orjson.loads((await client.get("/docs")).body)["paths"] == paths
