"""Asking the origin for news while clients get what is stale (RFC 5861 section 3).

At most one question for each stored response, and `MAX_BEHIND` at a time: a stale response beyond
that is used all the same, and the next request for it asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable
from typing import Any

from gateway.core.drive import Drive
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.wait import driven, own

log = logging.getLogger("gateway.caching")

MAX_BEHIND = 64

_OF_THE_CLIENT = frozenset((b"range", b"if-range", b"if-none-match", b"if-modified-since"))
"""Fields by which it asks for less than all of it."""


class Behind:
    """The questions of one cache that are under way."""

    def __init__(self) -> None:
        self._drives: dict[Hashable, Drive] = {}

    def __repr__(self) -> str:
        return f"<Behind {len(self._drives)}>"

    def is_free(self, key: Hashable) -> bool:
        """Return True if a question about `key` may begin."""
        return key not in self._drives and len(self._drives) < MAX_BEHIND

    def ask(self, key: Hashable, copy: Exchange, hooks: tuple[Any, Any], most: int) -> None:
        """Send `copy` once the loop comes to it: the client's answer goes first.

        hooks: the cache's own two, by which the pipeline knows where it begins and ends. most:
        bytes of a body that are read.
        """
        drive = Drive(_asked(copy, hooks, most), lambda _, error: self._over(key, error))
        self._drives[key] = drive
        asyncio.get_running_loop().call_soon(drive.start)

    def _over(self, key: Hashable, error: BaseException | None) -> None:
        del self._drives[key]
        if isinstance(error, Exception):
            log.error("asking an origin for a stale answer went wrong", exc_info=error)


@own
async def _asked(copy: Exchange, hooks: tuple[Any, Any], most: int) -> None:
    try:
        await sent(copy, hooks, most)
    except Failed:
        return  # Counted by the upstream's own metrics; what is stored stays.


@own
async def sent(copy: Exchange, hooks: tuple[Any, Any], most: int) -> None:
    """Send a request through what is beyond the cache in its route's pipeline: the request hooks
    behind the cache's, the target, and the response hooks as far as the cache's.

    Raises Failed.
    """
    request, response = hooks
    route = copy.route
    asks = [step[0] for step in route.pipeline.request]
    place = [_is(hook, request) for hook in asks].index(True)
    try:
        for hook in asks[place + 1 :]:
            reply: Any = hook(copy)
            if reply is not None and not isinstance(reply, Reply):
                reply = await driven(reply)
            if reply is not None:
                return
        reply = route.target(copy)
        if not isinstance(reply, Reply):
            reply = await reply
        for hook, awaited, *_ in route.pipeline.response:
            pending = hook(copy, reply)
            if awaited:
                await driven(pending)
            if _is(hook, response):
                break
        await _drained(reply, most)
    finally:
        copy.cache = ""  # What is counted are clients' requests.
        for release in route.pipeline.release:
            release(copy)


def _is(hook: Any, own: Any) -> bool:
    """Return True for a middleware's hook itself, and for what wraps it."""
    return own in (hook, getattr(hook, "__wrapped__", None))


async def _drained(reply: Reply, most: int) -> None:
    """Read a reply's body to its end, or up to `most` bytes."""
    body = reply.body
    if isinstance(body, bytes):
        return
    try:
        while most >= 0 and (chunk := await body.read()):
            most -= len(chunk)
    finally:
        body.abort()


def copied(exchange: Exchange) -> Exchange:
    """The request for all of it, as it stands before what follows the cache."""
    copy = exchange.beside("GET", exchange.target, exchange.raw_headers)
    copy.params = exchange.params
    copy.forward_headers = exchange.forward_headers
    copy.drop_headers = (exchange.drop_headers or frozenset()) | _OF_THE_CLIENT
    return copy
