"""Large bodies, and those whose schema may take long, are judged in another process: with the same
outcome, or none in time."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.core.failures import Failed, Failure
from gateway.middlewares import validation
from gateway.middlewares.validation import judge as module
from gateway.middlewares.validation.gate import INLINE
from gateway.middlewares.validation.judge import Judge
from gateway.middlewares.validation.schemas import JsonSchema
from gateway.protocols.json_text import Bounds, Unreadable
from tests.exchange import World
from tests.unit.middlewares.validation.requests import FORM, JSON, asks, ended, fields, run

INTEGERS = {"type": "array", "items": {"type": "integer"}}
NODE = {"$ref": "#/$defs/node"}
BRANCHES = [
    {"const": 2},
    {"type": "array", "items": NODE},
    {"type": "array", "minItems": 1, "items": NODE},
]
EXPONENTIAL = {**NODE, "$defs": {"node": {"oneOf": BRANCHES}}}
"""Its errors are twice as many with every level of a body."""
DEEP = b"[" * 40 + b"1" + b"]" * 40


@asynccontextmanager
async def judging() -> AsyncIterator[Judge]:
    made = Judge()
    try:
        yield made
    finally:
        await ended(made)


def portable(schema: Any) -> dict[str, Any]:
    found = JsonSchema(schema, "a schema").portable
    assert found is not None
    return found


async def test_a_large_body_is_judged_as_a_small_one_is():
    world = World()
    hooks = world.build(validation, {"body": {"schema": INTEGERS}})
    try:
        assert await run(hooks, asks(headers=JSON, body=b"[" + b"1," * INLINE + b"1]")) is None
        failed = await run(hooks, asks(headers=JSON, body=b"[" + b'"",' * INLINE + b'""]'))
        assert failed is not None and failed.failure is Failure.INVALID_FIELD
        assert fields(failed) == {"0": ("VAL_003", "must be an integer")}
        failed = await run(hooks, asks(headers=JSON, body=b"[" + b"1," * INLINE))
        assert failed is not None and failed.failure is Failure.MALFORMED
    finally:
        await ended(world.draft.keep(("validation judge",), None, Judge))


async def test_forms_go_there_too():
    schema = portable({"properties": {"a": {"type": "integer"}}})
    async with judging() as judge:
        assert await judge.verdict(schema, b"a=1&b=" + b"%41" * INLINE, "form", Bounds()) == (
            [],
            None,
        )
        (wrong,), _ = await judge.verdict(schema, b"a=x", "form", Bounds())
        assert wrong["field"] == "a"
    assert FORM


async def test_what_takes_too_long_is_given_up_and_the_next_body_is_judged():
    async with judging() as judge:
        assert await judge.verdict(portable(INTEGERS), b"[1]", "json", Bounds()) == ([], None)
        with pytest.raises(Unreadable) as caught:
            await judge.verdict(portable(EXPONENTIAL), DEEP, "json", Bounds(), deadline=0.2)
        assert caught.value.failure is Failure.BODY_TOO_LARGE
        assert await judge.verdict(portable(INTEGERS), b"[1]", "json", Bounds()) == ([], None)


async def test_a_small_body_with_endless_errors_is_refused_without_them():
    world = World()
    hooks = world.build(validation, {"body": {"schema": EXPONENTIAL}})
    try:
        assert await run(hooks, asks(headers=JSON, body=DEEP.replace(b"1", b"2"))) is not None
        assert await run(hooks, asks(headers=JSON, body=b"2")) is None
        failed = await run(hooks, asks(headers=JSON, body=DEEP))
        assert failed is not None and failed.failure is Failure.INVALID_FIELD
        assert fields(failed) == {"": ("VAL_003", "is not as it must be")}
    finally:
        await ended(world.draft.keep(("validation judge",), None, Judge))


async def test_a_process_that_ends_is_replaced():
    async with judging() as judge:
        assert await judge.verdict(portable(INTEGERS), b"[1]", "json", Bounds()) == ([], None)
        assert judge._child is not None
        os.kill(judge._child._transport.get_pid(), signal.SIGKILL)
        outcome = await asyncio.gather(
            judge.verdict(portable(INTEGERS), b"[2]", "json", Bounds()), return_exceptions=True
        )
        assert outcome[0] == [] or isinstance(outcome[0], Unreadable)
        assert await judge.verdict(portable(INTEGERS), b"[3]", "json", Bounds()) == ([], None)


async def test_of_bodies_only_so_many_wait(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_WAITING", 1)
    async with judging() as judge:
        first = asyncio.ensure_future(judge.verdict(portable(INTEGERS), b"[1]", "json", Bounds()))
        await asyncio.sleep(0)
        with pytest.raises(Failed) as caught:
            await judge.verdict(portable(INTEGERS), b"[2]", "json", Bounds())
        assert caught.value.failure is Failure.OVERLOADED
        assert await first == ([], None)


async def test_closing_ends_what_waits():
    judge = Judge()
    waiting = asyncio.ensure_future(judge.verdict(portable(INTEGERS), b"[1]", "json", Bounds()))
    await asyncio.sleep(0)
    judge.close()
    with pytest.raises(Unreadable):
        await waiting
    await ended(judge)


async def test_errors_that_fill_the_memory_are_left_out():
    """Every member is wrong in every branch, and every error holds the whole body."""
    branch = {"patternProperties": {"^a": {"enum": list(range(3000))}}}
    world = World()
    hooks = world.build(validation, {"body": {"schema": {"oneOf": [branch, branch]}}})
    body = b"{" + b",".join(b'"a%d":"x"' % number for number in range(2500)) + b"}"
    try:
        failed = await run(hooks, asks(headers=JSON, body=body))
        assert failed is not None and failed.failure is Failure.INVALID_FIELD
    finally:
        await ended(world.draft.keep(("validation judge",), None, Judge))


async def test_a_process_that_does_not_start_fails_what_waits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_MODULE", "gateway.there_is_no_such_module")
    async with judging() as judge:
        with pytest.raises(Failed) as caught:
            await judge.verdict(portable(INTEGERS), b"[1]", "json", Bounds())
        assert caught.value.failure is Failure.INTERNAL
