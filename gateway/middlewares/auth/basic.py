"""Basic credentials (RFC 7617): users of a file, with argon2id or bcrypt hashes, verified in threads and remembered for a while.

Verifying takes tens of milliseconds on purpose. So it happens off the loop, one a core at a time, for so many as may wait, and
for names nobody has as well, so that its time tells nothing. Remembered is a keyed hash of what was sent, never a password.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem, Context
from gateway.core.identities import Granted, identity
from gateway.core.refusals import Refused
from gateway.credentials.users import user_file
from gateway.credentials.users.user_file import User, UserFileError
from gateway.lifetime.watch import Watched, stamp
from gateway.middlewares.auth import bearer
from gateway.middlewares.auth.bearer import AUTHORIZATION, NOTHING
from gateway.middlewares.auth.config import BasicConfig
from gateway.middlewares.auth.memory import Memory

KNOWN = 10_000
WRONG = 1_000
MOST_WAITING = 100
"""Passwords that may wait to be verified; for the rest there is a 503."""
LONGEST = 1024
"""Letters of credentials that are looked at."""


class Users:
    """The users of one file, and what was lately made of credentials. Shared by the routes that use the file."""

    def __init__(
        self, users: Mapping[str, User], granted: Granted, verify: Callable[[str, str], bool] = user_file.verifies
    ) -> None:
        self._granted = granted
        self._verify = verify
        self._salt = secrets.token_bytes(32)
        self._waiting = 0
        self._turn = asyncio.Semaphore(os.cpu_count() or 1)
        self._watched: Watched[dict[str, User]] | None = None
        self.known: Memory[Identity] = Memory(KNOWN)
        self.wrong: Memory[str] = Memory(WRONG)
        self.replace(users)

    def __repr__(self) -> str:
        return f"<Users {len(self._users)}>"

    def replace(self, users: Mapping[str, User]) -> None:
        """Other users from now on."""
        self._users = dict(users)
        self.known.clear()
        self.wrong.clear()
        # Whoever has no such name is compared with a hash of the same cost that no password has.
        some = next(iter(users.values())).hash if users else ""
        head, _, digest = some.rpartition("$")
        self._nobody = f"{head}${'A' * len(digest)}" if some else ""

    def watch(self, path: Path, seen: tuple[int, int, int] | None) -> None:
        """Follows the file."""
        if self._watched is None:
            self._watched = Watched(path, seen, lambda: user_file.load(path), self.replace)

    def close(self) -> None:
        if self._watched is not None:
            self._watched.close()

    def remembered_as(self, credentials: str) -> str:
        """Under what credentials are remembered."""
        return hashlib.blake2b(credentials.encode("utf-8", "surrogateescape"), key=self._salt, digest_size=32).hexdigest()

    async def find(self, name: str, password: str) -> Identity | None:
        """Who has this name and password, or None. Raises Refused when too many ask at once."""
        if self._waiting >= MOST_WAITING:
            raise Refused(
                "unavailable",
                f"{MOST_WAITING} passwords wait to be verified",
                detail="Passwords cannot be verified at the moment.",
                failure=Failure.OVERLOADED,
                headers=((b"Retry-After", b"1"),),
            )
        user = self._users.get(name)
        self._waiting += 1
        try:
            async with self._turn:
                good = await asyncio.to_thread(self._verify, user.hash if user is not None else self._nobody, password)
        finally:
            self._waiting -= 1
        if not good or user is None or self._users.get(name) is not user:
            return None
        if user.totp:  # a password alone must not do where a second factor was asked for
            return None
        return identity(
            user.client,
            "basic",
            self._granted,
            tier=user.tier,
            user=user.name,
            roles=user.roles,
            permissions=user.permissions,
            claims={"sub": user.name},
        )


class Basic:
    """The method "basic"."""

    name = "basic"
    wanted = "a user name and password (Basic)"
    fields = bearer.FIELDS

    __slots__ = ("_ttl", "_users", "_wall", "challenge", "rejected")

    def __init__(self, users: Users, ttl: float, clock: Clock, realm: str) -> None:
        self._users = users
        self._ttl = ttl
        self._wall = clock.wall
        # RFC 7617 section 2.1: clients should send UTF-8.
        self.challenge = self.rejected = f'Basic realm={bearer.quoted(realm)}, charset="UTF-8"'.encode("latin-1")

    @classmethod
    def of(cls, config: BasicConfig, context: Context, realm: str, granted: Granted) -> Basic:
        """With the users of the file. Raises ConfigProblem when that is missing or broken."""
        path = context.directory / config.file
        try:
            seen, loaded = stamp(path), user_file.load(path)
        except UserFileError as error:
            hint = "" if path.exists() else f"make one: gateway users add NAME --file {config.file}"
            raise ConfigProblem(str(error), at=("basic", "file"), hint=hint) from None
        fingerprint = tuple(sorted(granted.items()))
        key = ("auth", "basic", context.pipeline, context.name, str(path), f"{hash(fingerprint):x}")
        users: Users = context.keep(key, fingerprint, lambda: Users(loaded, granted))
        users.replace(loaded)
        users.watch(path, seen)
        return cls(users, config.ttl, context.clock, realm)

    def __repr__(self) -> str:
        return f"<Basic {self._users!r}>"

    def identify(self, exchange: Exchange) -> Identity | Awaitable[Identity] | None:
        """Who sent name and password; None without them. Raises Refused."""
        given = exchange.headers.getall(AUTHORIZATION, NOTHING)
        if not given:
            return None
        credentials = bearer.of_scheme(given, "basic")
        if credentials is None:
            return None
        if len(credentials) > LONGEST:
            raise _malformed()
        now = self._wall()
        key = self._users.remembered_as(credentials)
        known = self._users.known.get(key)
        if known is not None and now < known[1]:
            return known[0]
        wrong = self._users.wrong.get(key)
        if wrong is not None and now < wrong[1]:
            raise _wrong()
        return self._find(key, credentials)

    async def _find(self, key: str, credentials: str) -> Identity:
        try:
            text = base64.b64decode(credentials, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise _malformed() from None
        name, colon, password = text.partition(":")
        if not colon:
            raise _malformed()
        found = await self._users.find(name, password)
        until = self._wall() + self._ttl
        if found is None:
            self._users.wrong.put(key, ("", until))
            raise _wrong()
        self._users.known.put(key, (found, until))
        return found


def _wrong() -> Refused:
    return Refused("invalid", "no user of the file has this name and password", detail="The user name or password is wrong.")


def _malformed() -> Refused:
    return Refused(
        "malformed", "the Basic credentials are not base64 of a name and a password", detail="The credentials are not valid."
    )
