"""Three ways to drive the same requests. A client can tell none of them from the others.

direct   nothing yields where it need not: most requests end inside the parser's callback
yielding every await of the way yields to the event loop, so that whatever can come between comes
tasks    every hook is foreign: an `async def` that has a Task of its own
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import wraps
from typing import Any

import pytest

from gateway.core.hooks import Hooks
from gateway.core.wait import Wait, driven, own
from gateway.runtime import compose, early, pipeline


def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is."""


def yielding(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Wait.__await__

    def late(self: Wait[Any]) -> Generator[Any, None, Any]:
        turn: Wait[None] = Wait()
        asyncio.get_running_loop().call_soon(turn.wake)
        yield from plain(turn)
        return (yield from plain(self))

    monkeypatch.setattr(Wait, "__await__", late)

    def lingering(hook: Any, awaited: bool) -> Any:
        @own
        @wraps(hook)
        async def run(*arguments: Any) -> Any:
            ready: Wait[None] = Wait()
            ready.wake()
            await ready
            found = hook(*arguments)
            return await driven(found) if awaited or asyncio.iscoroutine(found) else found

        return run

    _wrap(monkeypatch, lingering)


def tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    def foreign(hook: Any, awaited: bool) -> Any:
        @wraps(hook)
        async def run(*arguments: Any) -> Any:
            async with asyncio.timeout(60):
                await asyncio.sleep(0)
                found = hook(*arguments)
                return await found if awaited or hasattr(found, "__await__") else found

        return run

    _wrap(monkeypatch, foreign)


def _wrap(monkeypatch: pytest.MonkeyPatch, change: Callable[[Any, bool], Any]) -> None:
    """Changes every hook but the one that renders errors, which must not wait (see
    Pipeline.render)."""

    def changed(hooks: Hooks) -> Hooks:
        made = {kind: getattr(hooks, kind) for kind in ("request", "response", "error")}
        return replace(
            hooks,
            **{
                kind: change(hook, pipeline._is_awaited(hook))
                for kind, hook in made.items()
                if hook is not None and not _renders(hook)
            },
        )

    def flatten(name: str, *lists: Any) -> pipeline.Pipeline:
        hooks = (map(changed, one) for one in lists[:3])
        return pipeline.flatten(name, *hooks, *lists[3:])

    for module in (compose, early):  # What is compiled calls no functions of tests.
        monkeypatch.setattr(module, "flatten", flatten)


def _renders(hook: Any) -> bool:
    return "error_handler" in f"{getattr(hook, '__module__', '')} {type(hook).__module__}"


MODES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "direct": direct,
    "yielding": yielding,
    "tasks": tasks,
}
