"""Basic credentials (RFC 7617): users of a file, with argon2id or bcrypt hashes.

Passwords are verified in threads, in a queue by address (issuer/password_queue.py), and attempts
are limited like logins. Names that no user has are verified too, so that the time tells nothing.
Results are remembered under a keyed hash of what was sent, never under a password.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem, Context
from gateway.core.identities import Granted, identity
from gateway.core.refusals import Refused
from gateway.core.wait import Wait
from gateway.credentials.files import CredentialError, load_once
from gateway.credentials.users import user_file
from gateway.credentials.users.user_file import User
from gateway.issuer.attempts import Attempts, LocalAttempts, rules_of
from gateway.issuer.kept import KeptAttempts
from gateway.issuer.password_queue import Busy, PasswordQueue
from gateway.lifetime.coalesce import Coalesce, Full
from gateway.lifetime.watch import Stamp, Watched
from gateway.middlewares.auth import bearer
from gateway.middlewares.auth.bearer import AUTHORIZATION, NOTHING
from gateway.middlewares.auth.config import BasicConfig
from gateway.middlewares.auth.memory import Memory
from gateway.store.stores import StoreDown

if TYPE_CHECKING:
    from gateway.issuer.own import OwnIssuer

KNOWN = 10_000
WRONG = 1_000
MOST_ASKED = 1_000
"""Different credentials under way at a time; more are answered 503."""
LONGEST = 1024
"""Letters of credentials; longer ones are refused."""


class BasicUsers:
    """The users of one file and a cache of results. Shared by the routes that use the file."""

    def __init__(
        self,
        users: Mapping[str, User],
        granted: Granted,
        attempts: Attempts,
        clock: Clock,
        verify: Callable[[str, str], bool] = user_file.verifies,
    ) -> None:
        self._granted = granted
        self._attempts = attempts
        self._now = clock.monotonic
        self._wall = clock.wall
        self._verify = verify
        self._salt = secrets.token_bytes(32)
        self._queue = PasswordQueue()
        self._asked: Coalesce[Identity | None] = Coalesce(MOST_ASKED)
        self._watched: Watched[dict[str, User]] | None = None
        # Since when, in Unix time: for how long it holds is up to each route.
        self.known: Memory[Identity] = Memory(KNOWN)
        self.wrong: Memory[str] = Memory(WRONG)
        self.replace(users)

    def __repr__(self) -> str:
        return f"<BasicUsers {len(self._users)}>"

    def replace(self, users: Mapping[str, User]) -> None:
        """Take other users, and forget every result."""
        self._users = dict(users)
        self.known.clear()
        self.wrong.clear()
        # A name without a user is verified against a hash of the same cost that no password has.
        some = next(iter(users.values())).hash if users else ""
        head, _, digest = some.rpartition("$")
        self._nobody = f"{head}${'A' * len(digest)}" if some else ""

    def watch(self, path: Path, seen: Stamp) -> None:
        """Follow the file."""
        self._watched = Watched(path, seen, lambda: user_file.load(path), self.replace)

    def offer(self, seen: Stamp, users: dict[str, User]) -> Callable[[], None]:
        """Return the step that takes the users that a reload has read (Watched.offer)."""
        assert self._watched is not None
        return self._watched.offer(seen, users)

    def close(self) -> None:
        if self._watched is not None:
            self._watched.close()
        self._asked.close()
        self._queue.close()

    def remembered_as(self, credentials: str) -> str:
        """Return the key under which results for these credentials are remembered."""
        return hashlib.blake2b(
            credentials.encode("utf-8", "surrogateescape"), key=self._salt, digest_size=32
        ).hexdigest()

    def find(
        self, key: str, name: str, password: str, address: str, counted: bool
    ) -> Wait[Identity | None]:
        """Wait for the caller with this name and password, or None; fails with Refused.

        Requests with the same credentials share one verification. counted: as an attempt.
        """
        try:
            work = partial(self._find, key, name, password, address, counted)
            return self._asked.join((key, counted), work)
        except Full:
            raise _busy(1) from None

    async def _find(
        self, key: str, name: str, password: str, address: str, counted: bool
    ) -> Identity | None:
        try:
            if counted:
                await self._count(name, address)
            try:
                user = await self._verified(name, password, address)
            except Busy as busy:
                if counted:
                    await self._attempts.undone(address, name, self._now())
                raise _busy(busy.seconds) from None
            if user is None:
                self.wrong.put(key, ("", self._wall()))
                return None
            if counted:
                await self._attempts.succeeded(address, name, self._now())
        except StoreDown as down:
            raise _busy(1, f"attempts cannot be counted: {down}") from None
        found = identity(
            user.client,
            "basic",
            self._granted,
            tier=user.tier,
            user=user.name,
            roles=user.roles,
            permissions=user.permissions,
            claims={"sub": user.name},
        )
        if self._users.get(name) == user:  # Still so: the file may be read while attempts wait.
            self.known.put(key, (found, self._wall()))
        return found

    async def _count(self, name: str, address: str) -> None:
        """Count an attempt, as for logins. Raises Refused if it has to wait."""
        wait = await self._attempts.begin(address, name, self._now())
        if wait > 0:
            raise Refused(
                "limited",
                f"too many attempts by address or account; the next may be in {wait:.1f} s",
                detail="There were too many attempts.",
                failure=Failure.RATE_LIMITED,
                headers=((b"Retry-After", b"%d" % max(1, ceil(wait))),),
            )

    async def _verified(self, name: str, password: str, address: str) -> User | None:
        """Return the user with this name and password, or None. Raises Busy.

        If the file changed meanwhile, the password is verified again.
        """
        while True:
            user = self._users.get(name)
            hash = user.hash if user is not None else self._nobody
            good = await self._queue.run(partial(self._verify, hash, password), address)
            if self._users.get(name) == user:
                # A password alone must not do where a second factor was asked for.
                return user if good and user is not None and not user.totp else None


class Basic:
    """The method "basic"."""

    name = "basic"
    wanted = "a user name and password (Basic)"
    fields = bearer.FIELDS

    __slots__ = ("_ttl", "_users", "_wall", "challenge", "rejected")

    def __init__(self, users: BasicUsers, ttl: float, clock: Clock, realm: str) -> None:
        self._users = users
        self._ttl = ttl
        self._wall = clock.wall
        # RFC 7617 section 2.1: clients should send UTF-8.
        self.challenge = self.rejected = (
            f'Basic realm={bearer.quoted(realm)}, charset="UTF-8"'.encode("latin-1")
        )

    @classmethod
    def of(cls, config: BasicConfig, context: Context, realm: str, granted: Granted) -> Basic:
        """Build the method. Raises ConfigProblem when the file is missing or broken."""
        path = config.path(context.directory, context.home)
        try:
            seen, loaded = load_once(path, user_file.load)
        except CredentialError as error:
            hint = "" if path.exists() else f"make one: gateway users add NAME --file {path}"
            raise ConfigProblem(str(error), at=("basic", "file"), hint=hint) from None
        fingerprint = tuple(sorted(granted.items()))
        key = ("auth", "basic", context.pipeline, context.name, str(path), f"{hash(fingerprint):x}")
        attempts = _attempts(config, context, path)

        def make() -> BasicUsers:
            made = BasicUsers(loaded, granted, attempts, context.clock)
            made.watch(path, seen)
            return made

        users: BasicUsers = context.keep(key, (fingerprint, attempts), make)
        context.at_commit(users.offer(seen, loaded))
        return cls(users, config.ttl, context.clock, realm)

    def __repr__(self) -> str:
        return f"<Basic {self._users!r}>"

    def identify(self, exchange: Exchange) -> Identity | Awaitable[Identity] | None:
        """Return the caller who sent name and password, None without them. Raises Refused."""
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
        if known is not None and now < known[1] + self._ttl:
            return known[0]
        wrong = self._users.wrong.get(key)
        if wrong is not None and now < wrong[1] + self._ttl:
            raise _wrong()
        # What is only explained uses up no attempt.
        return self._find(key, credentials, exchange.client_ip, exchange.decisions is None)

    async def _find(self, key: str, credentials: str, address: str, counted: bool) -> Identity:
        try:
            text = base64.b64decode(credentials, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            raise _malformed() from None
        name, colon, password = text.partition(":")
        if not colon:
            raise _malformed()
        found = await self._users.find(key, name, password, address, counted)
        if found is None:
            raise _wrong()
        return found


def _attempts(config: BasicConfig, context: Context, path: Path) -> Attempts:
    """Return what counts attempts: the token issuer's own where that has the same user file."""
    if context.issuer is not None and context.issuer.users == path.resolve():
        issuer: OwnIssuer = context.issuer
        return issuer.attempts
    rules, place, local = config.attempts, ("auth", "basic", "attempts", str(path)), context.local

    def make() -> Attempts:
        return LocalAttempts(*rules_of(rules)) if local is None else KeptAttempts(local, place)

    kept: Attempts = context.keep(place, rules, make)
    return kept


def _busy(seconds: int, why: str = "too many passwords wait to be verified") -> Refused:
    return Refused(
        "unavailable",
        why,
        detail="Passwords cannot be verified at the moment.",
        failure=Failure.OVERLOADED,
        headers=((b"Retry-After", b"%d" % seconds),),
    )


def _wrong() -> Refused:
    return Refused(
        "invalid",
        "no user of the file has this name and password",
        detail="The user name or password is wrong.",
    )


def _malformed() -> Refused:
    return Refused(
        "malformed",
        "the Basic credentials are not base64 of a name and a password",
        detail="The credentials are not valid.",
    )
