"""Documents as they are handed in: what is read, and what is wrong with the others."""

from __future__ import annotations

import sys
from typing import Any

import orjson
import pytest

from gateway.config.openapi.document import InvalidDocument, document, operations
from tests.openapi.cases import HERE

OK = {"responses": {"200": {"description": "ok"}}}


def made(paths: dict[str, Any], version: str = "3.1.0", **more: Any) -> bytes:
    info = {"title": "x", "version": "1"}
    return orjson.dumps({"openapi": version, "info": info, "paths": paths, **more})


def ids(data: bytes, name: str = "x.json") -> list[str]:
    return [f"{one.method} {one.path} {one.id}" for one in operations(document(data, name))]


def test_yaml_is_read_as_json_is():
    found = document((HERE / "old.yaml").read_bytes(), "old.yaml")
    assert found.tree["openapi"] == "3.1.0"
    pet = found.at("#/components/schemas/Pet")
    assert pet["properties"]["tag"]["type"] == ["string", "null"]
    assert pet["properties"]["weight"] == {"type": "number", "exclusiveMaximum": 100}
    assert [one.id for one in operations(found)] == ["getPet", "putPet"]
    text = b"""
openapi: 3.1.0
info: {title: x, version: 2026-01-01}
paths: {/a: {get: {responses: {200: {description: "on"}}}}}
"""
    assert document(text, "x.yaml").tree["info"]["version"] == "2026-01-01"


def test_operations_have_what_their_path_says_of_all():
    path = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
    query = {"name": "q", "in": "query", "schema": {"type": "string"}}
    own = {"name": "q", "in": "query", "schema": {"type": "integer"}}
    accept = {"name": "Accept", "in": "header", "schema": {"type": "string"}}
    paths = {
        "/a/{id}": {
            "parameters": [path, query],
            "get": OK,
            "post": {**OK, "parameters": [own, accept], "security": []},
        },
        "x-own": 1,
    }
    get, post = operations(document(made(paths, security=[{"key": []}]), "x.json"))
    assert [one["schema"]["type"] for one, _ in get.parameters] == ["integer", "string"]
    assert [one["schema"]["type"] for one, _ in post.parameters] == ["integer", "integer"]
    assert post.parameters[1][1] == "#/paths/~1a~1{id}/post/parameters/0"
    assert (get.security, post.security) == (({"key": ()},), ())
    assert post.raw["security"] == []


@pytest.mark.parametrize(
    ("data", "name", "said"),
    [
        (b"{", "x.json", "x.json:1:2: not JSON"),
        (b"a: [", "x.yaml", "x.yaml is not YAML"),
        (b"{a: 1}", "x.yaml", "it has no line openapi: 3.0.x or 3.1.x"),
        (b'{"swagger": "2.0"}', "x.json", "it has no line openapi: 3.0.x or 3.1.x"),
        (made({"/a": {"get": {"responses": 5}}}), "x.json", "x.json: #/paths/~1a/get/responses"),
        (made({"/a": {"get": {}}}, "3.0.3"), "x.json", "x.json: #/paths/~1a/get"),
        (made({"/a/{id}": {"get": OK}}), "x.json", "no parameter describes id"),
        (
            made({"/a": {"get": {**OK, "operationId": "b"}, "put": {**OK, "operationId": "b"}}}),
            "x.json",
            "two are called 'b'",
        ),
        (
            made({"/a": {"get": {**OK, "parameters": [{"$ref": "#/components/parameters/B"}]}}}),
            "x.json",
            "nothing is at #/components/parameters/B",
        ),
        (
            made({"/a": {"get": {**OK, "requestBody": {"$ref": "other.json#/a"}}}}),
            "x.json",
            "bundle it into one file",
        ),
        (
            made(
                {"/a": {"get": {**OK, "requestBody": {"$ref": "#/components/requestBodies/B"}}}},
                components={"requestBodies": {"B": {"$ref": "#/components/requestBodies/B"}}},
            ),
            "x.json",
            "references lead in a circle",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data: bytes, name: str, said: str):
    with pytest.raises(InvalidDocument) as caught:
        ids(data, name)
    assert said in str(caught.value)


@pytest.mark.parametrize(("module", "name"), [("yaml", "y.yaml"), ("openapi_spec_validator", "z")])
def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, module: str, name: str):
    monkeypatch.setitem(sys.modules, module, None)
    data = b"openapi: 3.1.0" if module == "yaml" else made({})
    with pytest.raises(InvalidDocument, match=r"edge-gateway\[openapi\]"):
        document(data, name)


def test_the_same_text_is_read_once():
    data = made({"/once": {"get": OK}})
    assert document(data, "x.json") is document(data, "x.json")
    assert document(data, "x.json").at("#") == document(data, "x.json").tree
    assert ids(data) == ["GET /once "]
