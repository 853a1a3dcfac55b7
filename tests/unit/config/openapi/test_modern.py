"""OpenAPI 3.0's schemas as JSON Schema 2020-12 says the same."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.openapi.modern import modern_document, modern_schema


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"nullable": False, "type": "string"}, {"nullable": False, "type": "string"}),
        ({"enum": ["a"], "type": "string", "nullable": True},
         {"enum": ["a", None], "type": ["string", "null"]}),
        ({"minimum": 1, "exclusiveMinimum": True}, {"exclusiveMinimum": 1}),
        ({"maximum": 1, "exclusiveMaximum": False}, {"maximum": 1}),
        ({"exclusiveMaximum": True}, {}),
        ({"$ref": "#/a", "description": "x", "nullable": True}, {"$ref": "#/a"}),
        ({"items": {"minimum": 1, "exclusiveMinimum": True}}, {"items": {"exclusiveMinimum": 1}}),
        ({"properties": {"nullable": {"nullable": True, "type": "object"}}},
         {"properties": {"nullable": {"type": ["object", "null"]}}}),
        ({"default": {"nullable": True}}, {"default": {"nullable": True}}),
        (True, True),
        ([{"nullable": True, "type": "string"}], [{"type": ["string", "null"]}]),
    ],
)  # fmt: skip
def test_schemas(old: Any, new: Any):
    assert modern_schema(old) == new


def test_schemas_are_found_wherever_they_stand():
    old = {"type": "string", "nullable": True}
    new = {"type": ["string", "null"]}
    tree = {
        "openapi": "3.0.3",
        "paths": {
            "/schema": {
                "get": {
                    "parameters": [{"name": "schema", "schema": old, "example": {"schema": old}}],
                    "requestBody": {"content": {"a/b": {"schema": old}}},
                    "responses": {"200": {"headers": {"schema": {"schema": old}}}},
                }
            }
        },
        "components": {"schemas": {"schemas": old}, "parameters": {"schema": {"schema": old}}},
    }
    made = modern_document(tree)
    assert made["openapi"] == "3.1.0"
    operation = made["paths"]["/schema"]["get"]
    assert operation["parameters"][0]["schema"] == new
    assert operation["parameters"][0]["example"] == {"schema": old}
    assert operation["requestBody"]["content"]["a/b"]["schema"] == new
    assert operation["responses"]["200"]["headers"]["schema"]["schema"] == new
    assert made["components"]["schemas"]["schemas"] == new
    assert made["components"]["parameters"]["schema"]["schema"] == new
