"""Fetch an issuer's keys in the background; the last good set stays when the issuer fails.

They are fetched at the start, every `refresh` seconds, and when a token with an unknown key comes:
at most once in `cooldown` seconds, for all that wait. The `parse` function reads a key set; it
raises ValueError for anything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from gateway.lifetime.supervised import Supervised, Timers

log = logging.getLogger("gateway.auth")

LARGEST = 1 << 20
"""Bytes of a document that are read."""
MOST_WAITING = 1000
"""Requests that may wait for a newer set at a time; more are refused."""
DISCOVERY = "/.well-known/openid-configuration"


@dataclass(frozen=True, slots=True)
class JwksSource:
    """Where keys are: at `url`, or if that is "" where the discovery document of `issuer` says.

    Times in seconds.
    """

    url: str
    issuer: str = ""
    refresh: float = 300.0
    cooldown: float = 5.0
    timeout: float = 5.0


class FetchError(Exception):
    """No key set came back; the message says why."""


class RemoteKeys:
    """The keys of one source.

    listeners: called when another set is in force. fetches: how many were begun.
    """

    def __init__(
        self,
        source: JwksSource,
        parse: Callable[[Any], tuple[Any, ...]],
        *,
        clock: Callable[[], float] = monotonic,
        timers: Timers | None = None,
    ) -> None:
        self.source = source
        self.keys: tuple[Any, ...] | None = None
        self.listeners: set[Callable[[], None]] = set()
        self.fetches = 0
        self.problem = "not fetched yet"
        """Why the last fetch failed; "" when it did not."""
        self._parse = parse
        self._clock = clock
        self._document: Any = None
        self._waiting = 0
        self._began = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._pause = source.cooldown
        self._keeping = Supervised(
            "key_set", self._keep, every=source.refresh, of=self._name, timers=timers
        )
        self._keeping.start()

    def __repr__(self) -> str:
        state = "no keys" if self.keys is None else f"{len(self.keys)} keys"
        problem = f", {self.problem}" if self.problem else ""
        return f"<RemoteKeys {self._name} {state}{problem}>"

    def close(self) -> None:
        self._keeping.close()
        if self._fetching is not None:
            self._fetching.cancel()

    @property
    def may_wait(self) -> bool:
        """Return True if another request may wait for a newer set."""
        return self._waiting < MOST_WAITING

    async def settled(self) -> None:
        """Wait for the end of a fetch that is under way, if there is one."""
        if self._fetching is not None and not self._fetching.done():
            self._waiting += 1
            try:
                await asyncio.shield(self._fetching)
            finally:
                self._waiting -= 1

    async def newer(self) -> None:
        """Wait for the end of a fetch that began after this call.

        It may have failed: see `keys` and `problem`.
        """
        arrived = self._clock()
        self._waiting += 1
        try:
            while self._began < arrived:
                if self._fetching is None or self._fetching.done():
                    self._fetching = asyncio.create_task(self._fetch_when_allowed())
                # Shielded: a client that leaves must not take the others' fetch with it.
                await asyncio.shield(self._fetching)
            if self._fetching is not None:
                await asyncio.shield(self._fetching)
        finally:
            self._waiting -= 1

    async def _keep(self) -> float:
        """Fetch; return the seconds to the next fetch: `refresh`, after failures less."""
        await self.newer()
        if not self.problem:
            self._pause = self.source.cooldown
            return self.source.refresh
        self._pause = min(self._pause * 2, self.source.refresh)
        return self._pause

    async def _fetch_when_allowed(self) -> None:
        early = self._began + self.source.cooldown - self._clock()
        if early > 0:
            await asyncio.sleep(early)
        self._began = self._clock()
        self.fetches += 1
        try:
            self._take(await fetch(self.source))
        except Exception as error:
            known = isinstance(error, FetchError)
            said = str(error) if known else f"the document cannot be used: {error!r}"
            if said != self.problem:
                stays = "the last good ones stay" if self.keys else "there are none yet"
                log.warning("keys of %s: %s; %s", self._name, said, stays, exc_info=not known)
            self.problem = said

    def _take(self, document: Any) -> None:
        """Take another set. Raises FetchError for a document that is none; the last set stays."""
        if document != self._document or self.keys is None:
            try:
                keys = self._parse(document)
            except ValueError as error:
                raise FetchError(f"the document {error}") from None
            self._document, self.keys = document, keys
            log.info("keys of %s: %d in force", self._name, len(keys))
            for listener in tuple(self.listeners):
                listener()
        elif self.problem:
            log.info("keys of %s: the issuer answers again", self._name)
        self.problem = ""

    @property
    def _name(self) -> str:
        return self.source.url or self.source.issuer


async def fetch(source: JwksSource) -> Any:
    """The key set document. Raises FetchError."""
    timeout = aiohttp.ClientTimeout(total=source.timeout)
    try:
        async with aiohttp.ClientSession(
            timeout=timeout, headers={"Accept": "application/json"}
        ) as session:
            url = source.url
            if not url:
                url = _jwks_uri(
                    await _get(session, source.issuer.rstrip("/") + DISCOVERY), source.issuer
                )
            return await _get(session, url)
    except TimeoutError:
        raise FetchError(f"no answer within {source.timeout:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FetchError(f"cannot be fetched: {error or type(error).__name__}") from None


def _jwks_uri(document: Any, issuer: str) -> str:
    """Return where the keys are. The document must be the issuer's (OpenID Discovery 1.0, 4.3)."""
    uri = document.get("jwks_uri") if isinstance(document, dict) else None
    if not isinstance(uri, str):
        raise FetchError("the discovery document has no jwks_uri")
    if document.get("issuer") != issuer:
        raise FetchError("the discovery document is another issuer's")
    if urlsplit(uri).scheme not in ("http", "https") or (
        issuer.startswith("https:") and not uri.startswith("https:")
    ):
        raise FetchError(
            "the discovery document leads to keys on a connection less safe than its own"
        )
    return uri


async def _get(session: aiohttp.ClientSession, url: str) -> Any:
    # No redirects: one could move the keys anywhere.
    async with session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise FetchError(f"{url} answered {response.status}")
        data = bytearray()
        async for chunk in response.content.iter_any():
            data += chunk
            if len(data) > LARGEST:
                raise FetchError(f"{url} is longer than {LARGEST} bytes")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        raise FetchError(f"{url} is not JSON") from None
