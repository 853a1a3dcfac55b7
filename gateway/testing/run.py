"""Run one middleware over one request, as a gateway would."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from marshmallow import ValidationError

from gateway.config.tables.schema import schema_of
from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import Build, ConfigProblem, Context, Hooks
from gateway.core.problems import render
from gateway.core.telemetry import Telemetry
from gateway.lifetime.registry import Draft, Registry
from gateway.runtime.operators.hooks import checked
from gateway.runtime.operators.http import HttpClients
from gateway.runtime.pipeline import flatten
from gateway.testing.messages import exchange as an_exchange
from gateway.testing.messages import whole_body

Upstream = Reply | Failed | Callable[[Exchange], "Reply | Awaitable[Reply]"]


def context(name: str = "tested", **more: Any) -> Context:
    """Return what `build` is handed, with a registry of its own; `more` as Context has it."""
    return replace(Context(name, pipeline="test", keep=Registry().draft().keep), **more)


async def run(
    build: Build,
    config: Mapping[str, Any] | None = None,
    exchange: Exchange | None = None,
    upstream: Upstream | None = None,
    *,
    context: Context | None = None,
) -> Reply:
    """Return what a client gets of a request that crosses one middleware; its body is whole.

    build: the middleware's. config: its table, checked by the module's CONFIG where it has one.
    upstream: what answers when the middleware does not, 200 without a body if left out; a Failed is
    raised. context: in place of one that is made. What the middleware raises but Failed is raised
    here; `exchange.failed` has the failure. Raises ConfigProblem for a table that is wrong.
    """
    asked = exchange or an_exchange()
    registry = Registry()
    draft = registry.draft()
    given = context or Context("tested", pipeline="test", keep=draft.keep)
    hooks = checked(given.name, build(_settings(build, config), _with_http(given, draft)))
    if hooks.start is not None:
        await hooks.start()
    try:
        draft.commit()
        return await _cross(hooks, asked, upstream)
    finally:
        closing = hooks.close() if hooks.close is not None else None
        if inspect.isawaitable(closing):
            await closing
        registry.close()
        await registry.closed()


def _settings(build: Build, config: Mapping[str, Any] | None) -> Any:
    table = getattr(sys.modules.get(build.__module__), "CONFIG", None)
    settings = dict(config or {})
    if table is None:
        return settings
    try:
        return schema_of(table)().load(settings)
    except ValidationError as error:
        raise ConfigProblem(_first(error.messages)) from None


def _first(messages: Any) -> str:
    """Return the first of a schema's messages, with the path to it."""
    if isinstance(messages, dict):
        name, below = next(iter(messages.items()))
        return f"{name}: {_first(below)}"
    return str(messages[0] if isinstance(messages, list) else messages)


def _with_http(given: Context, draft: Draft) -> Context:
    """Add a client for services, unless the test has brought one."""
    if given.http is not Context("").http:
        return given
    clients = draft.keep(
        ("http of middlewares",), None, lambda: HttpClients(Telemetry(), given.clock)
    )
    return replace(given, http=clients.of(given.name))


async def _cross(hooks: Hooks, asked: Exchange, upstream: Upstream | None) -> Reply:
    usual = Hooks(error=lambda exchange, failed: render(failed, exchange, "problem"))
    pipeline = flatten("test", [hooks], [hooks], [usual, hooks])
    try:
        try:
            answer: Any = await _settled(pipeline.ask(asked))
            if answer is None:
                answer = await _answer(asked, upstream)
            asked.reply = answer
            await _settled(pipeline.answer(asked, answer))
        except Failed as failed:
            asked.reply = answer = await _settled(pipeline.fail(asked, failed))
        answer.body = await whole_body(answer)
        asked.written, asked.bytes_out = True, len(answer.body)
        made: Reply = answer
        return made
    finally:
        pipeline.done(asked)


async def _answer(asked: Exchange, upstream: Upstream | None) -> Reply:
    if isinstance(upstream, Failed):
        raise upstream
    if upstream is None or isinstance(upstream, Reply):
        return upstream or Reply(200)
    found: Reply = await _settled(upstream(asked))
    return found


async def _settled(outcome: Any) -> Any:
    return await outcome if inspect.isawaitable(outcome) else outcome


__all__ = ["Clock", "context", "run"]
