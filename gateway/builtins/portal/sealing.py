"""Sessions of the portal: cookies that only gateways can read and make.

A cookie holds the credential that a partner logged in with, encrypted and authenticated (AES-GCM),
and until when. Nothing is kept of sessions. The credential is judged anew with every request, so
that a session ends with it: revoked, expired, or used from where it may not be.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.store.local import Key, LocalStore

KEY_BYTES = 32
NONCE_BYTES = 12
PORTAL: Key = ("portal",)
"""Where a process keeps its key."""
_CONTEXT = b"portal"
MOST = 3800
"""Bytes of a cookie's value that browsers are sure to keep, with name and attributes 4,096
(RFC 6265 section 6.1)."""


class Session(NamedTuple):
    """Who logged in: an Authorization field; until when (Unix time); a token against requests that
    other pages have the browser send."""

    credential: str
    until: float
    token: str


class SealingKey:
    """The key of one process, or of a supervisor for its workers; survives reloads."""

    def __init__(self) -> None:
        self._key = os.urandom(KEY_BYTES)

    def __repr__(self) -> str:
        return "<SealingKey>"

    def read(self) -> bytes:
        return self._key

    def dump_state(self) -> bytes:
        return self._key

    def load_state(self, state: bytes) -> None:
        self._key = state


class Seal:
    """Makes and reads the values of cookies. source: gives the key, once it is known."""

    def __init__(self, source: Callable[[], Awaitable[bytes]]) -> None:
        self._source = source
        self._cipher: AESGCM | None = None

    async def seal(self, session: Session) -> str:
        """Return a cookie's value. Raises StoreDown."""
        nonce = os.urandom(NONCE_BYTES)
        text = orjson.dumps(list(session))
        sealed = (await self._known()).encrypt(nonce, text, _CONTEXT)
        return urlsafe_b64encode(nonce + sealed).decode()

    async def unseal(self, value: str, now: float) -> Session | None:
        """Return the session of a cookie; None if it is none or is over. Raises StoreDown."""
        if not value or len(value) > MOST:
            return None
        try:
            raw = urlsafe_b64decode(value.encode("ascii", "replace"))
            nonce, sealed = raw[:NONCE_BYTES], raw[NONCE_BYTES:]
            said = (await self._known()).decrypt(nonce, sealed, _CONTEXT)
        except (ValueError, InvalidTag):
            return None
        session = Session(*orjson.loads(said))
        return session if now < session.until else None

    async def _known(self) -> AESGCM:
        if self._cipher is None:
            self._cipher = AESGCM(await self._source())
        return self._cipher


def of_process(key: SealingKey) -> Callable[[], Awaitable[bytes]]:
    """Return the source of a process's own key."""

    async def source() -> bytes:
        return key.read()

    return source


def of_supervisor(store: LocalStore) -> Callable[[], Awaitable[bytes]]:
    """Return the source of the key that a supervisor keeps for its workers."""

    async def source() -> bytes:
        return bytes(await store.call(PORTAL, "read"))

    return source
