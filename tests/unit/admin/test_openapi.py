"""The OpenAPI document is valid, describes every route and no other, and answers are what it
says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from aiohttp.test_utils import TestClient

from gateway.admin.application import ENDPOINTS, make_app
from gateway.admin.openapi import document
from gateway.runtime.reload import Outcome
from tests.unit.admin.state import ERROR, State

# What OpenAPI 3.1 demands of the parts that are used here (spec.openapis.org/oas/3.1/schema),
# nothing else being allowed in them.
SHAPE: dict[str, Any] = {
    "type": "object",
    "required": ["openapi", "info", "paths"],
    "additionalProperties": False,
    "properties": {
        "openapi": {"pattern": "^3\\.1\\.[0-9]+$"},
        "info": {
            "type": "object",
            "required": ["title", "version"],
            "additionalProperties": False,
            "properties": {
                name: {"type": "string", "minLength": 1} for name in ("title", "version", "summary")
            },
        },
        "paths": {
            "type": "object",
            "additionalProperties": False,
            "patternProperties": {
                "^/": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        name: {"$ref": "#/$defs/operation"}
                        for name in ("get", "post", "put", "delete", "patch")
                    },
                }
            },
        },
        "components": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "schemas": {"type": "object", "propertyNames": {"pattern": "^[a-zA-Z0-9._-]+$"}},
                "securitySchemes": {
                    "type": "object",
                    "additionalProperties": {
                        "type": "object",
                        "required": ["type", "scheme"],
                        "properties": {
                            "type": {"const": "http"},
                            "scheme": {"const": "bearer"},
                            "description": {"type": "string"},
                        },
                        "additionalProperties": False,
                    },
                },
            },
        },
    },
    "$defs": {
        "operation": {
            "type": "object",
            "required": ["operationId", "responses"],
            "additionalProperties": False,
            "properties": {
                "operationId": {"type": "string"},
                "summary": {"type": "string"},
                "security": {
                    "type": "array",
                    "items": {"type": "object", "additionalProperties": {"type": "array"}},
                },
                "parameters": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["name", "in", "schema"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string"},
                            "in": {"enum": ["query", "header", "path", "cookie"]},
                            "required": {"type": "boolean"},
                            "schema": {"type": "object"},
                            "description": {"type": "string"},
                        },
                    },
                },
                "requestBody": {
                    "type": "object",
                    "required": ["content"],
                    "additionalProperties": False,
                    "properties": {
                        "required": {"type": "boolean"},
                        "content": {
                            "type": "object",
                            "propertyNames": {"const": "application/json"},
                            "additionalProperties": {
                                "type": "object",
                                "required": ["schema"],
                                "additionalProperties": False,
                                "properties": {"schema": {"type": "object"}},
                            },
                        },
                    },
                },
                "responses": {
                    "type": "object",
                    "minProperties": 1,
                    "additionalProperties": False,
                    "patternProperties": {
                        "^([1-5][0-9][0-9]|default)$": {
                            "type": "object",
                            "required": ["description"],
                            "additionalProperties": False,
                            "properties": {
                                "description": {"type": "string", "minLength": 1},
                                "content": {
                                    "type": "object",
                                    "additionalProperties": {
                                        "type": "object",
                                        "required": ["schema"],
                                        "additionalProperties": False,
                                        "properties": {"schema": {"type": "object"}},
                                    },
                                },
                            },
                        }
                    },
                },
            },
        }
    },
}


def schemas_in(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if isinstance(node.get("schema"), dict):
            yield node["schema"]
        for value in node.values():
            yield from schemas_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from schemas_in(value)


@pytest.fixture(params=[False, True], ids=["open", "token"])
def described(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(json.dumps(document(ENDPOINTS, request.param)))


def test_the_document_is_openapi(described: dict[str, Any]):
    errors = [
        str(error) for error in jsonschema_rs.Draft202012Validator(SHAPE).iter_errors(described)
    ]
    assert errors == []


def test_its_schemas_are_schemas(described: dict[str, Any]):
    schemas = [*described["components"]["schemas"].values(), *schemas_in(described["paths"])]
    assert len(schemas) > 20
    for schema in schemas:
        jsonschema_rs.meta.validate(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        )


def test_references_lead_somewhere(described: dict[str, Any]):
    references = re.findall(r'"\$ref": "([^"]+)"', json.dumps(described))
    assert references
    for reference in references:
        start, components, schemas, name = reference.split("/")
        assert (start, components, schemas) == ("#", "components", "schemas")
        assert name in described["components"]["schemas"]


def test_operations_have_names_of_their_own(described: dict[str, Any]):
    names = [
        operation["operationId"]
        for path in described["paths"].values()
        for operation in path.values()
    ]
    assert len(set(names)) == len(names) == len(ENDPOINTS)


def test_the_application_has_these_routes_and_no_other(described: dict[str, Any], state: State):
    routes = {
        (route.method, route.resource.canonical)
        for route in make_app(state).router.routes()
        if route.resource
    }
    assert {(method, path) for method, path in routes if method != "HEAD"} == {
        (method.upper(), path)
        for path, operations in described["paths"].items()
        for method in operations
    }
    assert {path for method, path in routes if method == "HEAD"} == {
        path for method, path in routes if method == "GET"
    }


def test_what_a_token_changes():
    open_, closed = document(ENDPOINTS, False), document(ENDPOINTS, True)
    assert "securitySchemes" not in open_["components"]
    assert set(closed["components"]["securitySchemes"]) == {"token"}
    needs = {
        path: next(iter(operations.values()))["security"]
        for path, operations in closed["paths"].items()
    }
    free = {"/admin/ready", "/admin/session", "/", "/pages/{name}"}
    assert {path for path, security in needs.items() if security == []} == free
    assert all(security == [{"token": []}] for path, security in needs.items() if path not in free)
    for made, required in ((open_, True), (closed, False)):
        (parameter,) = made["paths"]["/admin/reload"]["post"]["parameters"]
        assert (parameter["name"], parameter["in"], parameter["required"]) == (
            "X-Gateway-Admin",
            "header",
            required,
        )
        assert "parameters" not in made["paths"]["/admin/health"]["get"]


async def test_the_document_is_served(admin: TestClient):
    async with admin.get("/admin/openapi.json") as response:
        assert response.status == 200
        assert await response.json() == document(ENDPOINTS, False)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=[endpoint.name for endpoint in ENDPOINTS])
@pytest.mark.parametrize("well", [True, False])
async def test_answers_are_what_it_says(admin: TestClient, state: State, endpoint: Any, well: bool):
    if not well:
        state.is_ready = False
        state.health_now = {**state.health_now, "status": "unhealthy"}
        state.outcome = Outcome(False, "abc123", (ERROR,))
    described = document(ENDPOINTS, False)
    responses = described["paths"][endpoint.path][endpoint.method.lower()]["responses"]
    async with admin.request(
        endpoint.method, endpoint.path, headers={"X-Gateway-Admin": "1"}
    ) as response:
        content = responses[str(response.status)]["content"][response.content_type]
        text = await response.text()
    body = json.loads(text) if response.content_type.endswith("json") else text
    jsonschema_rs.Draft202012Validator(
        {**content["schema"], "components": described["components"]}
    ).validate(body)


async def test_errors_are_what_it_says(admin: TestClient):
    described = document(ENDPOINTS, False)
    schema = {"$ref": "#/components/schemas/Problem", "components": described["components"]}
    for method, path, headers in (
        ("POST", "/admin/reload", {}),
        ("GET", "/admin/status", {"Host": "evil.example"}),
        ("GET", "/admin/nothing", {}),
    ):
        async with admin.request(method, path, headers=headers) as response:
            jsonschema_rs.Draft202012Validator(schema).validate(json.loads(await response.text()))
