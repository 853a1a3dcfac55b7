"""Hooks of an operator's own middleware, kept from harming more than their request.

Each is wrapped where it is built. What it returns is checked, what it raises is said to be its
fault, and one that waits has until the route's `timeout`. The gateway's own hooks need none of it.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, NoReturn

from gateway.core.content.replies import MeasuredStream
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Hooks

_PASS = (Failed, asyncio.CancelledError, GeneratorExit)


class HookError(Exception):
    """A hook did what hooks must not do; the message names it and says what."""


def checked(name: str, made: object) -> Hooks:
    """`made` is what a `build` returned; return it with its hooks wrapped. Raises ConfigProblem."""
    if not isinstance(made, Hooks):
        raise ConfigProblem(f"build must return Hooks, not {made!r}")
    if made.start is not None and not inspect.iscoroutinefunction(made.start):
        raise ConfigProblem("start must be an async function")
    for kind in ("finish", "release"):
        if inspect.iscoroutinefunction(getattr(made, kind)):
            raise ConfigProblem(
                f"the {kind} hook must be a plain function: it runs when all is over"
            )
    return Hooks(
        request=made.request and _answering(f"the request hook of {name}", made.request),
        response=made.response and _changing(f"the response hook of {name}", made.response),
        error=made.error and _answering(f"the error hook of {name}", made.error),
        finish=made.finish and _ending(f"the finish hook of {name}", made.finish),
        release=made.release and _ending(f"the release hook of {name}", made.release),
        recheck=made.recheck,
        start=made.start,
        close=made.close,
        passed=made.passed,
    )


def _answering(what: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a hook that may return a reply."""

    async def waits(exchange: Exchange, begun: Awaitable[Any]) -> Reply | None:
        return _reply(what, exchange, await _in_time(what, exchange, begun))

    @functools.wraps(hook)
    def call(exchange: Exchange, *more: Any) -> Any:
        result = _call(what, hook, exchange, *more)
        if inspect.isawaitable(result):
            return waits(exchange, result)
        return _reply(what, exchange, result)

    if not inspect.iscoroutinefunction(hook):
        return call

    @functools.wraps(hook)
    async def call_async(exchange: Exchange, *more: Any) -> Reply | None:
        return await waits(exchange, hook(exchange, *more))

    return call_async


def _changing(what: str, hook: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a hook that changes a reply in place."""

    def check(exchange: Exchange, reply: Reply, body: Any) -> None:
        if reply.body is body:
            return
        wrong = _wrong_body(reply)
        if wrong:
            reply.body = body  # what it was: to be given up properly
            raise HookError(f"{what} made the body {wrong}")
        _measure(exchange, reply)

    @functools.wraps(hook)
    def call(exchange: Exchange, reply: Reply) -> None:
        body = reply.body
        _call(what, hook, exchange, reply)
        check(exchange, reply, body)

    if not inspect.iscoroutinefunction(hook):
        return call

    @functools.wraps(hook)
    async def call_async(exchange: Exchange, reply: Reply) -> None:
        body = reply.body
        await _in_time(what, exchange, hook(exchange, reply))
        check(exchange, reply, body)

    return call_async


def _ending(what: str, hook: Callable[[Exchange], None]) -> Callable[[Exchange], None]:
    @functools.wraps(hook)
    def call(exchange: Exchange) -> None:
        try:
            hook(exchange)
        except BaseException as error:  # GeneratorExit too: the other hooks are to run
            _blame(what, error)

    return call


def _call(what: str, hook: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return hook(*arguments)
    except _PASS:
        raise
    except BaseException as error:  # SystemExit too: a hook must not end the process
        _blame(what, error)


async def _in_time(what: str, exchange: Exchange, begun: Awaitable[Any]) -> Any:
    """Await a hook for at most what is left of the route's `timeout`."""
    seconds = exchange.route.config.timeout if exchange.route is not None else None
    try:
        if seconds is None:
            return await begun
        left = max(0.0, seconds - (perf_counter() - exchange.started))
        async with asyncio.timeout(left) as deadline:
            return await begun
    except _PASS:
        raise
    except BaseException as error:
        if seconds is not None and isinstance(error, TimeoutError) and deadline.expired():
            why = f"{what} did not return within the route's timeout of {seconds:g} s"
            raise Failed(Failure.TIMEOUT, why=why) from None
        _blame(what, error)


def _blame(what: str, error: BaseException) -> NoReturn:
    raise HookError(f"{what} raised {type(error).__name__}") from error


def _reply(what: str, exchange: Exchange, result: Any) -> Reply | None:
    if result is None:
        return None
    if not isinstance(result, Reply):
        raise HookError(f"{what} returned {type(result).__name__}, which is no Reply")
    if wrong := _wrong_body(result):
        raise HookError(f"{what} returned a reply whose body is {wrong}")
    _measure(exchange, result)
    return result


def _measure(exchange: Exchange, reply: Reply) -> None:
    """Hold a stream of an operator's to the length that its reply states: another one is an error
    that breaks the answer off, and no answer that looks complete."""
    body, length = reply.body, reply.length
    if isinstance(body, bytes | MeasuredStream) or length is None or exchange.method == "HEAD":
        return
    reply.body = MeasuredStream(body, length)


def _wrong_body(reply: Reply) -> str:
    """What a body is that is neither bytes nor a ReplyStream; "" when it is one of these."""
    body = reply.body
    if isinstance(body, bytes) or (hasattr(body, "read") and hasattr(body, "abort")):
        return ""
    return f"{type(body).__name__}, neither bytes nor a stream with read and abort"
