"""A route's hooks, flattened at compose time, and running them.

Every step is a pair (hook, awaited). A pipeline in which nothing is awaited never yields, unless a plain request hook returns an
awaitable: the way for one that knows the answer at once but for rare cases, such as a key that has to be fetched first.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import FinishHook, Hooks

log = logging.getLogger("gateway.pipeline")

Step = tuple[Any, bool]


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The hooks of one route, in TOML order. `finish` runs after answers, `finish_failed` after failures.

    `release` are those in both that give back what request hooks took.
    """

    name: str
    request: tuple[Step, ...] = ()
    response: tuple[Step, ...] = ()
    error: tuple[Step, ...] = ()
    finish: tuple[FinishHook, ...] = ()
    finish_failed: tuple[FinishHook, ...] = ()
    release: tuple[FinishHook, ...] = ()
    plain: bool = True
    """Whether no hook has to be awaited."""

    async def ask(self, exchange: Exchange) -> Reply | None:
        """Runs the request hooks up to the first that answers. Raises Failed when one refuses."""
        return await self.ask_on(exchange, iter(self.request))

    async def ask_on(
        self, exchange: Exchange, steps: Iterator[Step], begun: Awaitable[Reply | None] | None = None
    ) -> Reply | None:
        """Runs what is left of the request hooks, after the one that returned `begun` instead of a reply."""
        reply: Any = None if begun is None else await begun
        if reply is not None:
            return reply  # type: ignore[no-any-return]
        for hook, awaited in steps:
            reply = await hook(exchange) if awaited else hook(exchange)
            if reply is not None and not isinstance(reply, Reply):
                reply = await reply
            if reply is not None:
                return reply  # type: ignore[no-any-return]
        return None

    async def answer(self, exchange: Exchange, reply: Reply) -> None:
        """Runs the response hooks over an answer. Raises Failed when one cannot accept it."""
        for hook, awaited in self.response:
            if awaited:
                await hook(exchange, reply)
            else:
                hook(exchange, reply)

    async def fail(self, exchange: Exchange, failed: Failed) -> Reply:
        """Runs the error hooks; the first renders a reply (compose sees to that), later ones replace or change it."""
        exchange.failed = failed
        exchange.reply = None
        for hook, awaited in self.error:
            reply = await hook(exchange, failed) if awaited else hook(exchange, failed)
            if reply is not None:
                exchange.reply = reply
        assert exchange.reply is not None
        return exchange.reply

    def fail_plain(self, exchange: Exchange, failed: Failed) -> Reply:
        """`fail` for pipelines in which nothing is awaited."""
        exchange.failed = failed
        exchange.reply = None
        for hook, _ in self.error:
            reply = hook(exchange, failed)
            if reply is not None:
                exchange.reply = reply
        assert exchange.reply is not None
        return exchange.reply

    def render(self, exchange: Exchange, failed: Failed) -> Reply:
        """The error's reply as the first hook renders it, for what failed before there was a request to run hooks on."""
        reply: Reply = self.error[0][0](exchange, failed)
        return reply

    def done(self, exchange: Exchange) -> None:
        """Runs the finish hooks; one that fails is logged and does not keep the others from running."""
        for hook in self.finish if exchange.failed is None else self.finish_failed:
            try:
                hook(exchange)
            except Exception:
                log.exception("a finish hook of pipeline %s failed", self.name)


def flatten(
    name: str,
    request: Iterable[Hooks],
    response: Iterable[Hooks],
    error: Iterable[Hooks],
) -> Pipeline:
    """One pipeline out of the hooks its three lists name. A middleware named in several lists finishes once."""
    request, response, error = tuple(request), tuple(response), tuple(error)
    asks = _steps(hooks.request for hooks in request)
    answers = _steps(hooks.response for hooks in response)
    fails = _steps(hooks.error for hooks in error)
    releases = _once(hooks.release for hooks in request)
    return Pipeline(
        name,
        asks,
        answers,
        fails,
        finish=_once((*(hooks.finish for hooks in (*request, *response)), *releases)),
        finish_failed=_once((*(hooks.finish for hooks in error), *releases)),
        release=releases,
        plain=not any(awaited for _, awaited in (*asks, *answers, *fails)),
    )


def _steps(hooks: Iterable[Any]) -> tuple[Step, ...]:
    return tuple((hook, _is_awaited(hook)) for hook in hooks if hook is not None)


def _is_awaited(hook: Any) -> bool:
    """Coroutine functions, bound methods of them, and objects whose `__call__` is one."""
    return iscoroutinefunction(hook) or iscoroutinefunction(getattr(hook, "__call__", None))  # noqa: B004


def _once(hooks: Iterable[FinishHook | None]) -> tuple[FinishHook, ...]:
    return tuple(dict.fromkeys(hook for hook in hooks if hook is not None))
