"""The portal's key in Redis, for all gateways that use it.

gateway:{portal}:key    32 bytes; made by the first gateway that asks
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

from gateway.builtins.portal.sealing import KEY_BYTES
from gateway.store.redis.client import RedisClient
from gateway.store.stores import StoreDown

NAME = b"gateway:{portal}:key"


def of_redis(client: RedisClient) -> Callable[[], Awaitable[bytes]]:
    """Return the source of the key that a store keeps."""

    async def source() -> bytes:
        await client.command(b"SET", NAME, os.urandom(KEY_BYTES), b"NX")
        key = await client.command(b"GET", NAME)
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            raise StoreDown(f"{client.name} has no key under {NAME.decode()}")
        return key

    return source
