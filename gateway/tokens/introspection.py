"""Ask an authorization server about opaque tokens (RFC 7662): one question a token, a breaker.

Requests with the same token wait for one answer. After `failures` in a row the server is left alone
for `pause` seconds; what it says of one token never counts as its failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any
from urllib.parse import quote_plus

import aiohttp
import orjson

from gateway.lifetime.coalesce import Coalesce, Full

LARGEST = 64 * 1024
"""Bytes of an answer that are read."""
MOST_WAITING = 1000
"""Different tokens asked about at a time."""
OF_THE_TOKEN = frozenset((400, 413, 414, 422, 431))
"""Statuses about the token asked about, such as one that is too long.

401, 403, 404 and 429 are about the gateway, and count as failures.
"""
INACTIVE: dict[str, Any] = {"active": False}


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask, as whom. Times in seconds."""

    url: str
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    timeout: float = 5.0
    failures: int = 5
    pause: float = 10.0


class Unavailable(Exception):
    """There is no answer; the message says why, `after` when to try again, in seconds."""

    def __init__(self, why: str, after: float) -> None:
        super().__init__(why)
        self.after = after


class _Refused(Exception):
    """The server takes this token for no token at all, which says nothing about the server."""


class Introspection:
    """One server."""

    def __init__(self, server: Server, *, clock: Callable[[], float] = monotonic) -> None:
        self.server = server
        self.asked = 0
        self._clock = clock
        self._failed = 0
        self._open_until = float("-inf")
        self._asking: Coalesce[dict[str, Any]] = Coalesce(MOST_WAITING)
        self._session: aiohttp.ClientSession | None = None
        self._holding: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        alone = ", left alone" if self._clock() < self._open_until else ""
        return f"<Introspection {self.server.url}{alone}>"

    def close(self) -> None:
        if self._holding is not None:
            self._holding.cancel()
        self._asking.close()

    async def ask(self, token: str) -> dict[str, Any]:
        """Return what the server says of a token. Raises Unavailable. The caller needs no Task."""
        left = self._open_until - self._clock()
        if left > 0 and token not in self._asking:
            raise Unavailable("it has failed too often lately and is left alone", left)
        try:
            return await self._asking.join(token, lambda: self._ask(token))
        except Full:
            raise Unavailable(f"{MOST_WAITING} questions are under way", 1.0) from None

    async def _ask(self, token: str) -> dict[str, Any]:
        self.asked += 1
        try:
            answer = await self._post(token)
        except _Refused:
            return INACTIVE  # about this token alone: neither a failure of the server nor a success
        except TimeoutError:
            raise self._failure(f"no answer within {self.server.timeout:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise self._failure(str(error) or type(error).__name__) from None
        self._failed = 0
        return answer

    def _failure(self, why: str) -> Unavailable:
        self._failed += 1
        if self._failed < self.server.failures:
            return Unavailable(why, 1.0)
        self._open_until = self._clock() + self.server.pause
        self._failed = self.server.failures - 1  # afterwards one more is enough
        return Unavailable(why, self.server.pause)

    async def _post(self, token: str) -> dict[str, Any]:
        server = self.server
        if self._session is None:
            auth = _basic(server) if server.client_id else None
            headers = {"Accept": "application/json", **({"Authorization": auth} if auth else {})}
            timeout = aiohttp.ClientTimeout(total=server.timeout)
            self._session = aiohttp.ClientSession(timeout=timeout, headers=headers)
            self._holding = asyncio.create_task(_hold(self._session))
        form = {"token": token, "token_type_hint": "access_token"}
        async with self._session.post(server.url, data=form, allow_redirects=False) as response:
            if response.status in OF_THE_TOKEN:
                raise _Refused
            if response.status != 200:
                raise ValueError(f"{server.url} answered {response.status}")
            data = bytearray()
            async for chunk in response.content.iter_any():
                data += chunk
                if len(data) > LARGEST:
                    raise ValueError(f"{server.url} answered more than {LARGEST} bytes")
        answer = orjson.loads(data)
        if not isinstance(answer, dict) or "active" not in answer:
            raise ValueError(f"{server.url} answered something that is no introspection")
        return answer


def _basic(server: Server) -> str:
    """RFC 6749 section 2.3.1: both are form-encoded before they are put together."""
    return aiohttp.encode_basic_auth(quote_plus(server.client_id), quote_plus(server.client_secret))


async def _hold(session: aiohttp.ClientSession) -> None:
    """Hold the session until this task is cancelled: closing must be awaited, `close()` is not."""
    try:
        await asyncio.Event().wait()
    finally:
        await session.close()
