"""The target of a route with `respond`: the same answer for everybody."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from gateway.config.tables.targets import RespondConfig
from gateway.core.exchange import Exchange, Reply


def respond(config: RespondConfig) -> Callable[[Exchange], Reply]:
    """Return what gives that answer."""
    body, kind = config.text.encode(), "text/plain; charset=utf-8"
    if config.json is not None:
        body, kind = orjson.dumps(config.json), "application/json"
    headers = [
        (name.encode(), value.encode("latin-1", "replace"))
        for name, value in config.headers.items()
    ]
    if body and "content-type" not in {name.lower() for name in config.headers}:
        headers.insert(0, (b"Content-Type", kind.encode()))

    def answer(exchange: Exchange) -> Reply:
        return Reply(config.status, headers, body)

    return answer
