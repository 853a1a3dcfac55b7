"""Routes of OpenAPI documents: what is checked, and what an operation's route says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.config.check.compile import LoadedConfig
from gateway.config.toml.problems import ConfigErrors
from gateway.runtime.reload import load

OK = {"responses": {"200": {"description": "ok"}}}
ID = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "x", "version": "1"},
    "security": [{"bearer": []}],
    "paths": {
        "/pets": {
            "get": {**OK, "operationId": "listPets", "security": []},
            "post": {**OK, "security": [{"oauth": ["pets:write", "pets:read"]}]},
        },
        "/pets/{id}": {"parameters": [ID], "get": {**OK, "security": [{}, {"bearer": []}]}},
    },
}
PIPELINE = """
request = ["auth", "validation"]
[auth]
methods = ["api_key"]
[[openapi]]
file = "pets.json"
upstream = "cameras"
prefix = "/api/"
"""


class Tree:
    """A configuration on disk, for the gateway's own middlewares."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "pipelines").mkdir()
        (directory / "gateway.toml").write_text("")
        (directory / "upstreams.toml").write_text('[upstream.cameras]\nurl = "http://a:1"\n')

    def load(self) -> LoadedConfig:
        return load(self.directory / "gateway.toml", {})

    def said(self) -> list[str]:
        try:
            return [problem.message for problem in self.load().warnings]
        except ConfigErrors as errors:
            return [problem.message for problem in errors.problems]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def written(tree: Tree, pipeline: str = PIPELINE, document: Any = DOCUMENT) -> None:
    (tree.directory / "pipelines" / "partner.toml").write_text(pipeline)
    (tree.directory / "pipelines" / "pets.json").write_bytes(orjson.dumps(document))


def test_each_operation_is_a_route(tree: Tree) -> None:
    written(
        tree, PIPELINE + 'overrides = { "*" = { timeout = "5s" }, "GET /pets" = { name = "l" } }'
    )
    (pipeline,) = tree.load().pipelines
    routes = {route.name: route for route in pipeline.routes}
    assert list(routes) == ["l", "POST /pets", "GET /pets/{id}"]
    post = routes["POST /pets"]
    assert (post.path, post.methods, post.upstream) == ("/api/pets", ("POST",), "cameras")
    assert all(route.timeout == 5 for route in routes.values())
    assert routes["l"].overrides["auth"] is False
    require = post.settings["auth"].require
    assert require == {"*": frozenset(("pets:read", "pets:write"))}
    assert routes["GET /pets/{id}"].settings["auth"].optional
    assert routes["l"].settings["validation"].operation.id == "listPets"
    assert not routes["l"].settings["validation"].operation.report
    assert post.operation is not None
    assert tree.said() == []


def test_the_document_counts_for_the_hash(tree: Tree) -> None:
    written(tree)
    before = tree.load().hash
    written(tree, document={**DOCUMENT, "info": {"title": "y", "version": "1"}})
    assert tree.load().hash != before


def test_an_operation_may_be_left_out_and_reported_only(tree: Tree) -> None:
    more = 'validate = "report"\noverrides = { "GET /pets" = false }'
    written(tree, PIPELINE + more)
    (pipeline,) = tree.load().pipelines
    assert [route.name for route in pipeline.routes] == ["POST /pets", "GET /pets/{id}"]
    assert pipeline.routes[0].settings["validation"].operation.report


def test_what_is_wrong(tree: Tree) -> None:
    written(tree, PIPELINE + 'overrides = { "GET /pet" = {}, "POST /pets" = { tiemout = 1 } }')
    said = tree.said()
    assert any("pets.json has no operation 'GET /pet'" in one for one in said)
    assert any("tiemout" in one for one in said)
    written(tree, PIPELINE.replace("pets.json", "none.json"))
    assert any("cannot read 'none.json': No such file" in one for one in tree.said())
    written(tree, document={"openapi": "2.0"})
    assert any("pets.json is no OpenAPI document" in one for one in tree.said())
    written(tree, PIPELINE.replace('"auth", "validation"', '"auth"'))
    assert any("which is not in request" in one for one in tree.said())
    written(tree, PIPELINE.replace('"auth", "validation"', '"validation"'))
    assert any("asks for credentials, but 'auth' is not in request" in one for one in tree.said())
    written(tree, PIPELINE.replace('upstream = "cameras"', 'upstream = "cams"'))
    assert any("no upstream is called 'cams'" in one for one in tree.said())


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/pets/{id}.json", "in '{id}.json' a variable shares its segment with text"),
        ("/pets#more", "no request has a fragment or a query in its path"),
    ],
)
def test_paths_that_are_no_routes(tree: Tree, path: str, said: str) -> None:
    written(tree, document={**DOCUMENT, "paths": {path: {"parameters": [ID], "get": OK}}})
    assert any(said in one for one in tree.said())
    left_out = f'overrides = {{ "GET {path}" = false }}'
    written(tree, PIPELINE + left_out, {**DOCUMENT, "paths": {path: {"get": OK}}})
    assert tree.said() == []


def test_scopes_that_differ_by_scheme_have_to_be_said(tree: Tree) -> None:
    either = {**OK, "security": [{"oauth": ["a:b"]}, {"key": []}]}
    document = {**DOCUMENT, "paths": {"/a": {"get": either}}}
    written(tree, document=document)
    assert any("takes other scopes for each of several schemes" in one for one in tree.said())
    own = 'overrides = { "GET /a" = { auth = { require = ["a:b"] } } }'
    written(tree, PIPELINE + own, document)
    assert tree.said() == []


def test_what_a_document_asks_for_stands_above_a_pipeline_for_strangers(tree: Tree) -> None:
    optional = PIPELINE.replace("[auth]", "[auth]\noptional = true")
    document = {**DOCUMENT, "paths": {"/a": {"get": OK, "post": {**OK, "security": [{}]}}}}
    written(tree, optional, document)
    (pipeline,) = tree.load().pipelines
    asked, free = pipeline.routes
    assert not asked.settings["auth"].optional
    assert free.overrides["auth"] is False


def test_overrides_decide_about_the_keys_that_they_have(tree: Tree) -> None:
    written(tree, PIPELINE + 'overrides = { "*" = { auth = { tiers = ["gold"] } } }')
    (pipeline,) = tree.load().pipelines
    post = next(route for route in pipeline.routes if route.name == "POST /pets")
    auth = post.settings["auth"]
    assert auth.tiers and auth.require == {"*": frozenset(("pets:read", "pets:write"))}
