"""Where a store's servers are: in its URL, by its Sentinels, or by a Cluster's map of slots."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.store.stores import StoreUrl

Address = tuple[str, int]

NO_RETRY = Retry(NoBackoff(), 0)

CONNECT = 1.0
"""Seconds for a connection in the background, and for asking where a server is."""
SLOTS = 16384


async def server_of(url: StoreUrl) -> Address:
    """The address of the one server. Raises OSError and RedisError when no Sentinel knows it."""
    if url.scheme != "redis+sentinel":
        return url.hosts[0]
    sentinels = Sentinel(  # type: ignore[no-untyped-call]
        list(url.hosts),
        sentinel_kwargs=dict.fromkeys(("socket_timeout", "socket_connect_timeout"), CONNECT / 4)
        | {"retry": NO_RETRY},
    )
    try:
        host, port = await sentinels.discover_master(url.service)
    finally:
        for client in sentinels.sentinels:
            await client.aclose()
    return host, port


async def slots_of(url: StoreUrl, known: Iterable[Address]) -> list[Address] | None:
    """The server of each slot, by the first of the `known` that answers; None when none does."""
    for host, port in known:
        try:
            async with asyncio.timeout(CONNECT):
                async with _client(url, host, port) as client:
                    ranges = await client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
        except (OSError, TimeoutError, RedisError):
            continue
        slots: list[Address] = [(host, port)] * SLOTS
        for first, last, server in _ranges(ranges, host):
            slots[first : last + 1] = [server] * (last - first + 1)
        return slots
    return None


def _client(url: StoreUrl, host: str, port: int) -> Redis:
    return Redis(
        host=host, port=port, username=url.user or None, password=url.password or None,
        socket_timeout=CONNECT, socket_connect_timeout=CONNECT, retry=NO_RETRY,
    )  # fmt: skip


def _ranges(answer: Any, host: str) -> list[tuple[int, int, Address]]:
    """The answer to CLUSTER SLOTS: {(first, last): {"primary": (host, port)}} from redis-py, or
    Redis' lists."""
    if isinstance(answer, dict):
        return [
            (first, last, _place(found["primary"], host)) for (first, last), found in answer.items()
        ]
    return [(int(one[0]), int(one[1]), _place(one[2], host)) for one in answer]


def _place(server: Sequence[Any], host: str) -> Address:
    name = server[0].decode() if isinstance(server[0], bytes) else server[0]
    return name or host, int(server[1])
