"""A route's hooks, flattened when a snapshot is composed, and running them.

Every step is (hook, awaited, name of the middleware). A pipeline in which nothing is awaited never
yields, unless a plain request hook returns an awaitable, as one does that only sometimes waits,
such as for a key to be fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from inspect import iscoroutinefunction
from itertools import takewhile
from math import inf
from operator import length_hint
from time import perf_counter
from typing import Any

from gateway.core.content.grpc import is_failed_call
from gateway.core.exchange import DECIDED, SHADOW, Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import FinishHook, Hooks, Recheck, kind_of
from gateway.core.wait import STOPPED, driven
from gateway.tracing.trace import traced

log = logging.getLogger("gateway.pipeline")

Step = tuple[Any, bool, str]
Described = tuple[str, Callable[[Exchange], str] | None]
Remember = Callable[["Pipeline", Exchange, float], None]
"""Takes a finished request and the seconds that it took."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The hooks of one route, in TOML order.

    finish:        run after answers.
    finish_failed: run after failures.
    release:       those in both that give back what request hooks took.
    rechecks:      judge open WebSockets again.
    described:     of each request hook, its name and what says why it let a request pass.
    remember:      takes what was refused, failed or slow, for `gateway why`.
    slow:          seconds from which on a request is slow.
    asks, plain:   the request hooks, and the response hooks in front of the first that is awaited.
    """

    name: str
    request: tuple[Step, ...] = ()
    response: tuple[Step, ...] = ()
    error: tuple[Step, ...] = ()
    finish: tuple[FinishHook, ...] = ()
    finish_failed: tuple[FinishHook, ...] = ()
    release: tuple[FinishHook, ...] = ()
    rechecks: tuple[Recheck, ...] = ()
    described: tuple[Described, ...] = ()
    remember: Remember | None = None
    slow: float = inf
    asks: tuple[Any, ...] = field(init=False)
    plain: tuple[Any, ...] = field(init=False)

    def __post_init__(self) -> None:
        plain = takewhile(lambda step: not step[1], self.response)
        object.__setattr__(self, "asks", tuple(hook for hook, _, _ in self.request))
        object.__setattr__(self, "plain", tuple(hook for hook, _, _ in plain))

    def ask(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        """Run the request hooks up to the first that answers. Raises Failed.

        Returns an awaitable of the same where a hook waits.
        """
        hooks, hook = iter(self.asks), None
        try:
            for hook in hooks:
                reply: Reply | Awaitable[Reply | None] | None = hook(exchange)
                if reply is not None:
                    if not isinstance(reply, Reply):
                        return self._ask_on(exchange, length_hint(hooks), reply)
                    exchange.notes[DECIDED] = hook
                    return reply
        except Exception:
            exchange.notes[DECIDED] = hook
            raise
        return None

    async def _ask_on(
        self, exchange: Exchange, left: int, begun: Awaitable[Reply | None]
    ) -> Reply | None:
        """Run the last `left` of the request hooks, after the one that returned `begun`."""
        steps = iter(self.request[len(self.request) - left - 1 :])
        hook, _, name = next(steps)
        try:
            reply: Any = await _waiting(exchange, name, begun)
            if reply is None:
                for hook, _, name in steps:
                    reply = hook(exchange)
                    if reply is not None and not isinstance(reply, Reply):
                        reply = await _waiting(exchange, name, reply)
                    if reply is not None:
                        break
        except Exception as error:
            exchange.notes[DECIDED] = hook
            if isinstance(error, StopIteration):
                raise RuntimeError(STOPPED) from error
            raise
        if reply is not None:
            exchange.notes[DECIDED] = hook
        return reply  # type: ignore[no-any-return]

    def answer(self, exchange: Exchange, reply: Reply) -> Awaitable[None] | None:
        """Run the response hooks over an answer. Raises Failed.

        Returns an awaitable, for what is left of them, where one waits.
        """
        plain = self.plain
        for hook in plain:
            hook(exchange, reply)
        return None if len(plain) == len(self.response) else self._answer_on(exchange, reply)

    async def _answer_on(self, exchange: Exchange, reply: Reply) -> None:
        try:
            for hook, awaited, name in self.response[len(self.plain) :]:
                pending = hook(exchange, reply)
                if awaited:
                    await _waiting(exchange, name, pending)
        except StopIteration as stop:
            raise RuntimeError(STOPPED) from stop

    def fail(self, exchange: Exchange, failed: Failed) -> Reply | Awaitable[Reply]:
        """Run the error hooks: the first renders a reply, later ones replace or change it."""
        exchange.failed = failed
        exchange.reply = None
        steps = iter(self.error)
        for hook, _, name in steps:
            reply = hook(exchange, failed)
            if reply is not None:
                if not isinstance(reply, Reply):
                    return self._fail_on(exchange, failed, steps, _waiting(exchange, name, reply))
                exchange.reply = reply
        assert exchange.reply is not None
        return exchange.reply

    async def _fail_on(
        self,
        exchange: Exchange,
        failed: Failed,
        steps: Iterator[Step],
        begun: Awaitable[Reply | None],
    ) -> Reply:
        reply: Any = await begun
        if reply is not None:
            exchange.reply = reply
        for hook, _, name in steps:
            reply = hook(exchange, failed)
            if reply is not None and not isinstance(reply, Reply):
                reply = await _waiting(exchange, name, reply)
            if reply is not None:
                exchange.reply = reply
        assert exchange.reply is not None
        return exchange.reply

    def render(self, exchange: Exchange, failed: Failed) -> Reply:
        """Return the reply to what failed before there was a request. No hook may have to be
        awaited."""
        exchange.reply = None
        for hook, _, _ in self.error:
            reply = hook(exchange, failed)
            if reply is not None:
                exchange.reply = reply
        assert exchange.reply is not None
        return exchange.reply

    def done(self, exchange: Exchange) -> None:
        """Run the finish hooks, and remember what was refused, failed or slow. A hook that fails
        is logged, and the others run."""
        for hook in self.finish if exchange.failed is None else self.finish_failed:
            try:
                hook(exchange)
            except Exception:
                log.exception("a finish hook of pipeline %s failed", self.name)
        if self.remember is not None:
            took, reply = perf_counter() - exchange.started, exchange.reply
            if (
                exchange.failed is not None
                or took >= self.slow
                or reply.status >= 400  # type: ignore[union-attr]
                or SHADOW in exchange.notes
                or (exchange.reason and is_failed_call(exchange))
            ):
                self.remember(self, exchange, took)


def flatten(
    name: str,
    request: Iterable[Hooks],
    response: Iterable[Hooks],
    error: Iterable[Hooks],
    remember: Remember | None = None,
    slow: float = inf,
) -> Pipeline:
    """Return a pipeline of the hooks that three lists name. A middleware in several finishes
    once."""
    request, response, error = tuple(request), tuple(response), tuple(error)
    asks = _steps((hooks.request, hooks.name) for hooks in request)
    answers = _steps((hooks.response, hooks.name) for hooks in response)
    fails = _steps((hooks.error, hooks.name) for hooks in error)
    releases = _once(hooks.release for hooks in request)
    return Pipeline(
        name,
        asks,
        answers,
        fails,
        finish=_once((*(hooks.finish for hooks in (*request, *response)), *releases)),
        finish_failed=_once((*(hooks.finish for hooks in error), *releases)),
        release=releases,
        rechecks=tuple(hooks.recheck for hooks in request if hooks.recheck is not None),
        described=tuple((hooks.name, hooks.passed) for hooks in request if hooks.request),
        remember=remember,
        slow=slow,
    )


def _steps(hooks: Iterable[tuple[Any, str]]) -> tuple[Step, ...]:
    return tuple((hook, _is_awaited(hook), name) for hook, name in hooks if hook is not None)


def _waiting(exchange: Exchange, name: str, begun: Awaitable[Any]) -> Awaitable[Any]:
    """Return what to await for what the hook of `name` has begun; a span of the trace, if any."""
    return driven(begun) if exchange.trace is None else traced(exchange, name, begun)


def _is_awaited(hook: Any) -> bool:
    """Return True for coroutine functions, their bound methods, and objects whose `__call__` is
    one."""
    return iscoroutinefunction(hook) or iscoroutinefunction(getattr(hook, "__call__", None))  # noqa: B004


def _once(hooks: Iterable[FinishHook | None]) -> tuple[FinishHook, ...]:
    return tuple(dict.fromkeys(hook for hook in hooks if hook is not None))


def _without_auth(hooks: Mapping[str, Hooks]) -> dict[str, Hooks]:
    """The portal's page needs no login, and asks by itself."""
    return {name: made for name, made in hooks.items() if kind_of(name) != "auth"}


def _without_limits(hooks: Mapping[str, Hooks]) -> dict[str, Hooks]:
    """The answer that tells of limits uses up nothing of them, and is given when none is left."""
    return {
        name: replace(one, request=None) if hasattr(one.request, "status") else one
        for name, one in hooks.items()
    }


LEFT_OUT = {"limits": _without_limits, "portal": _without_auth}
"""What becomes of a route's hooks, by its builtin."""
