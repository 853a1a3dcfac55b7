"""The document of all operations: merged, for one caller, and as a page."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import Any

import orjson

from gateway.builtins.openapi.document import ApiDocument
from gateway.builtins.openapi.published import Published
from gateway.config.openapi.config import ApiConfig
from gateway.config.openapi.document import Document, document, operations
from gateway.core.exchange import Identity
from tests.exchange import exchange

OK = {"responses": {"200": {"description": "ok"}}}


def written(pet: str, version: str = "1") -> Document:
    reference = {"$ref": "#/components/schemas/Pet"}
    body = {"content": {"application/json": {"schema": reference}}}
    text = {
        "openapi": "3.1.0",
        "info": {"title": "Pets", "version": version},
        "tags": [{"name": "pets"}],
        "paths": {"/pets": {"post": {**OK, "requestBody": body, "security": [{"key": []}]}}},
        "components": {
            "schemas": {
                "Pet": {"type": pet},
                "Pets": {"type": "array", "items": reference},
                "Same": {"type": "string"},
            },
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": f"X-{pet}"}},
        },
    }
    return document(orjson.dumps(text), f"{pet}.json")


def of(found: Document, path: str) -> Published:
    (operation,) = operations(found)
    return Published(path, "POST", operation.raw, found)


def made(*published: Published, config: ApiConfig | None = None, **facts: Any) -> Any:
    api = ApiDocument(config)
    api.publish(published, {"type": "object"})
    reply = api.answer(exchange(**facts))
    assert reply.get(b"content-type") == b"application/json"
    assert isinstance(reply.body, bytes)
    return orjson.loads(reply.body)


def test_one_document_keeps_its_name():
    found = made(of(written("object"), "/v1/pets"))
    assert found["openapi"] == "3.1.0"
    assert found["info"] == {"title": "Pets", "version": "1"}
    assert found["tags"] == [{"name": "pets"}]
    assert list(found["paths"]) == ["/v1/pets"]
    assert found["components"]["schemas"]["Failure"] == {"type": "object"}


def test_the_configuration_says_what_it_is_called():
    config = ApiConfig(title="T", version="9", description="D", servers=("https://a.example",))
    found = made(Published("/a", "GET", OK, schemes={"k": {"type": "mutualTLS"}}), config=config)
    assert found["info"] == {"title": "T", "version": "9", "description": "D"}
    assert found["servers"] == [{"url": "https://a.example"}]
    assert found["components"]["securitySchemes"] == {"k": {"type": "mutualTLS"}}


def test_components_of_one_name_get_two():
    found = made(of(written("object"), "/a"), of(written("array"), "/b"))
    schemas = found["components"]["schemas"]
    assert schemas["Pet"] == {"type": "object"}
    assert schemas["Pet_2"] == {"type": "array"}
    assert schemas["Pets_2"]["items"] == {"$ref": "#/components/schemas/Pet_2"}
    assert "Same_2" not in schemas
    other = found["paths"]["/b"]["post"]
    schema = other["requestBody"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/Pet_2"}
    assert other["security"] == [{"key_2": []}]
    assert found["components"]["securitySchemes"]["key_2"]["name"] == "X-array"
    assert found["info"]["title"] == "API"


def test_a_caller_sees_what_it_may_use():
    free = Published("/free", "GET", OK)
    writes = Published("/write", "GET", OK, needed=frozenset(("a:write",)))
    pro = Published("/pro", "GET", OK, tiers=frozenset(("pro",)))
    everything = ["/free", "/write", "/pro"]
    assert list(made(free, writes, pro)["paths"]) == everything
    ann = Identity("ann", "jwt")
    assert list(made(free, writes, pro, identity=ann)["paths"]) == ["/free"]
    bob = Identity("bob", "jwt", tier="pro", permissions=frozenset(("a:*",)))
    assert list(made(free, writes, pro, identity=bob)["paths"]) == everything


def test_all_below_a_prefix_gives_way_to_a_path_of_the_same_shape():
    below = Published("/a/{path_below}", "GET", OK, below=True)
    other = Published("/b/{path_below}", "GET", OK, below=True)
    found = made(below, Published("/a/{id}", "PUT", OK), other)
    assert list(found["paths"]) == ["/a/{id}", "/b/{path_below}"]


def test_the_page_is_for_browsers_and_runs_nothing_but_its_own():
    api = ApiDocument(None)
    api.publish([Published("/a", "GET", OK)], {})
    json = api.page(exchange(headers={"Accept": "*/*"}))
    assert json.get(b"content-type") == b"application/json"
    reply = api.page(exchange(headers={"Accept": "text/html,*/*;q=0.8"}))
    assert isinstance(reply.body, bytes)
    policy = (reply.get(b"content-security-policy") or b"").decode()
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), reply.body, re.DOTALL)
        digest = b64encode(sha256(text).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    page = reply.body.decode()
    assert "innerHTML" not in page
    assert not re.search(r"(?:src|href)=|https?://", page)
