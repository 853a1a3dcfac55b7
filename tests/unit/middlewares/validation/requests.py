"""Requests for tests of validation."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from gateway.core.hooks import Hooks
from gateway.middlewares import validation
from gateway.middlewares.validation.judge import Judge
from tests.exchange import Body, World, exchange

CAMERA = {
    "type": "object",
    "required": ["name", "location"],
    "properties": {
        "name": {"type": "string", "minLength": 2, "maxLength": 10},
        "location": {"type": "string"},
        "count": {"type": "integer", "minimum": 0},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}},
            },
        },
    },
    "additionalProperties": False,
}
QUERY = {
    "properties": {
        "limit": {"type": "integer", "minimum": 1, "maximum": 100},
        "ratio": {"type": "number"},
        "active": {"type": "boolean"},
        "tag": {"type": "array", "items": {"type": "integer"}, "maxItems": 3},
        "sort": {"enum": ["asc", "desc"]},
        "id": {"type": ["integer", "string"]},
    },
    "required": ["limit"],
    "additionalProperties": False,
}
GOOD = b'{"name": "gate", "location": "north"}'
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def build(
    table: dict[str, Any], directory: Path = Path("nowhere"), name: str = "validation"
) -> Hooks:
    return World(directory).build(validation, table, name=name)


def asks(
    method: str = "POST",
    target: str = "/things",
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: Body | bytes | None = None,
    params: dict[str, str] | None = None,
) -> Exchange:
    data = Body(body, len(body)) if isinstance(body, bytes) else body
    return exchange(method, target, headers or {}, route="things", body=data, params=params or {})


async def run(hooks: Hooks, asked: Exchange) -> Failed | None:
    assert hooks.request is not None
    assert (hooks.response, hooks.error, hooks.finish) == (None, None, None)
    try:
        answer: Any = hooks.request(asked)
        if inspect.isawaitable(answer):
            answer = await answer
    except Failed as failed:
        assert failed.by == "validation"
        return failed
    assert answer is None
    return None


async def refused(table: dict[str, Any], *args: Any, **more: Any) -> Failed:
    failed = await run(build(table), asks(*args, **more))
    assert failed is not None
    return failed


def fields(failed: Failed) -> dict[str, tuple[str, str]]:
    assert failed.errors is not None
    return {one["field"]: (one["code"], one["message"]) for one in failed.errors}


async def ended(judge: Judge) -> None:
    """Closes it and waits for its process."""
    judge.close()
    if judge._starting is not None:
        await judge._starting
    if judge._child is not None:
        await judge._child.exited.wait()
