#!/usr/bin/env python3
"""What OpenAPI documents cost: compiling one of 500 operations, and checking a POST.

    .venv/bin/python -m bench.openapi.costs

A POST of 1 kB is checked against an operation, and against the same JSON Schema written by hand.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.transform import best, finish
from gateway.config.openapi.document import document, operations
from gateway.middlewares import validation
from gateway.middlewares.validation.config import ValidationConfig
from gateway.runtime.check import check
from tests.exchange import Body, World, exchange

CAMERA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "zone": {"type": "integer", "minimum": 0},
        "status": {"enum": ["active", "off"]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
}
PIPELINE = """
request = ["validation"]
[[openapi]]
file = "api.json"
upstream = "origin"
"""


def api(paths: int) -> bytes:
    """A document of two operations a path."""
    made: dict[str, Any] = {}
    for number in range(paths):
        operation = {
            "parameters": [
                {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1}},
                {"name": "X-Tenant", "in": "header", "schema": {"type": "string"}},
            ],
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": {"$ref": f"#/components/schemas/C{number}"}}
                },
            },
            "responses": {"200": {"description": "ok"}},
        }
        path = {"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}
        made[f"/cameras{number}/{{id}}"] = {
            "parameters": [path],
            "post": {**operation, "operationId": f"post{number}"},
            "put": {**operation, "operationId": f"put{number}"},
        }
    schemas = {f"C{number}": CAMERA for number in range(paths)}
    info = {"title": "bench", "version": "1"}
    whole = {"openapi": "3.1.0", "info": info, "paths": made, "components": {"schemas": schemas}}
    return json.dumps(whole).encode()


def compiled(data: bytes) -> float:
    """Seconds to check a configuration whose routes are the document's, middlewares built."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "pipelines").mkdir()
        (directory / "gateway.toml").write_text("")
        (directory / "upstreams.toml").write_text('[upstream.origin]\nurl = "http://a:1"\n')
        (directory / "pipelines" / "api.toml").write_text(PIPELINE)
        (directory / "pipelines" / "api.json").write_bytes(data)
        begun = perf_counter()
        check(directory / "gateway.toml", {})
        return perf_counter() - begun


def main() -> None:
    data = api(250)
    print(f"500 operations ({len(data) // 1000} kB): {compiled(data):.2f} s")
    first = next(operations(document(api(1), "api.json")))
    by_document = ValidationConfig(operation=first)
    schema = {"schema": CAMERA}
    by_hand = validation.CONFIG().load({"body": schema})
    tags = ", ".join(['"abcdefgh"'] * 80)
    text = b'{"name": "camera", "zone": 7, "status": "active", "tags": [%b]}' % tags.encode()
    asked = exchange("POST", "/cameras0/7?limit=5", {"Content-Type": "application/json"})
    asked.params = {"id": "7"}
    for title, config in (("by hand", by_hand), ("operation", by_document)):
        hook: Any = validation.build(config, World().context("validation")).request

        def run(hook: Any = hook) -> None:
            asked.body = Body(text)
            finish(hook(asked))

        print(f"POST of {len(text)} bytes, {title}: {best(run, 20_000):.2f} us")


if __name__ == "__main__":
    main()
