"""Parts of active checks that need no HTTP connection of ours: a knock at a port, and what an answer has to contain."""

from __future__ import annotations

import asyncio

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.upstream.pool.endpoint import Endpoint

MOST = 1024 * 1024
"""Bytes of an answer that are searched for what it has to contain."""


async def knock(endpoint: Endpoint) -> int:
    """Opens a TCP connection to `endpoint` and closes it; returns 0. Raises Failed(CONNECT_FAILED)."""
    try:
        _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except OSError as error:
        raise Failed(Failure.CONNECT_FAILED, why=f"{endpoint.name}: {error.strerror or error}") from None
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass  # It was there, which is all that was asked.
    return 0


async def contains(reply: Reply, text: bytes) -> bool:
    """Whether the first MOST bytes of the body hold `text`."""
    body = reply.body
    if isinstance(body, bytes):
        return text in body[:MOST]
    read, tail = 0, b""
    while read < MOST and (chunk := await body.read()):
        read += len(chunk)
        tail += chunk
        if text in tail:
            body.abort()
            return True
        tail = tail[-len(text) :]
    body.abort()
    return False
