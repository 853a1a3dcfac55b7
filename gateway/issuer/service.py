"""Issue tokens: log in, refresh, log out, change passwords. The HTTP is builtins/tokens.py.

A refusal is a Denied: a word for metrics and audit, the reason for operators, and the Failed that
clients see.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from gateway.core.clock import Clock
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.credentials.files import CredentialError
from gateway.credentials.users import user_edits
from gateway.credentials.users.user_file import User
from gateway.credentials.users.user_store import UserStore
from gateway.issuer import totp
from gateway.issuer.attempts import Attempts
from gateway.issuer.password_policy import ANY_PASSWORD, PasswordPolicy
from gateway.issuer.password_queue import Busy
from gateway.issuer.passwords import Passwords
from gateway.issuer.sessions import Session, SessionLimits, Sessions, session_of
from gateway.issuer.sessions import looks_like as is_refresh_token
from gateway.tokens.signing import SigningKeys

log = logging.getLogger("gateway.tokens")

CHALLENGE: tuple[Pair, ...] = ((b"WWW-Authenticate", b"Bearer"),)
"""RFC 9110 section 15.5.2: every 401 has one."""


class Denied(Exception):
    """A refusal.

    user: the name of an existing user, else "": what was typed in its place may be a password.
    """

    def __init__(
        self, result: str, why: str, failed: Failed, user: str = "", session: str = ""
    ) -> None:
        super().__init__(result, why)
        self.result = result
        self.why = why
        self.failed = failed
        self.user = user
        self.session = session


@dataclass(frozen=True, slots=True)
class Issued:
    """Tokens as issued; `expires`: seconds that the access token lives."""

    user: User
    session: Session
    access: str
    expires: int
    refresh: str
    refresh_expires: int


@dataclass(frozen=True, slots=True, eq=False)
class TokenService:
    """One `[tokens]`. `access` in seconds."""

    issuer: str
    audience: str
    access: float
    limits: SessionLimits
    keys: SigningKeys
    users: UserStore
    sessions: Sessions
    attempts: Attempts
    passwords: Passwords
    clock: Clock
    policy: PasswordPolicy = ANY_PASSWORD

    async def login(self, name: str, password: str, code: str | None, address: str) -> Issued:
        """Return tokens for a name, a password and, with a second factor, a code.

        Raises Denied and StoreDown.
        """
        now = self.clock.wall()
        await self._attempt(name, address)
        user = await self.users.get(name)
        good = await self._verify(user.hash if user is not None else None, password, name, address)
        if not good or user is None:
            why = "the password is wrong" if user is not None else "there is no user of this name"
            raise Denied("invalid", why, _wrong(), user.name if user is not None else "")
        amr = await self._second_factor(user, code, address, now)
        again = await self.users.get(name)
        if again is None or (again.changed, again.totp) != (user.changed, user.totp):
            raise Denied("invalid", "the user was changed meanwhile", _wrong(), user.name)
        await self.attempts.succeeded(address, name, self.clock.monotonic())
        if self.passwords.stale(user.hash):
            await self._rehash(again, password)
        session, refresh = await self.sessions.begin(user.name, amr, now, self.limits)
        return self._issued(user, session, refresh, self.clock.wall())

    async def refresh(self, token: str) -> Issued:
        """The next tokens for a refresh token. Raises Denied and StoreDown."""
        now = self.clock.wall()
        turn = await self.sessions.refresh(token, now, self.limits)
        session = turn.session
        if session is None:
            raise Denied("invalid", "there is no session of this token", _no_refresh())
        if turn.result == "expired":
            failed = Failed(Failure.EXPIRED, "The session has expired.", headers=CHALLENGE)
            raise Denied(
                "expired", "the session was not refreshed in time", failed, session.user, session.id
            )
        if turn.result == "reused":
            raise Denied(
                "reused",
                "the token was used before; its session has ended",
                _no_refresh(),
                session.user,
                session.id,
            )
        user = await self.users.get(session.user)
        if user is None or session.checked < user.changed:
            await self.sessions.end(session.id)
            why = (
                "there is no such user any more"
                if user is None
                else "the password has changed since"
            )
            raise Denied("ended", why, _no_refresh(), session.user, session.id)
        issued = self._issued(user, session, turn.token, now)
        self.sessions.delivered(session)  # last: answers of the store may come too late
        return issued

    async def logout(self, session: str, token: str) -> Session | None:
        """End the session `session` and that of a refresh token, used or not.

        Return the first that existed, or None. Raises StoreDown.
        """
        named = session_of(token) if is_refresh_token(token) else ""
        ended = [await self.sessions.end(one) for one in dict.fromkeys((session, named)) if one]
        return next((one for one in ended if one is not None), None)

    async def known(self, claims: Mapping[str, Any]) -> tuple[User, Session]:
        """Return the user and session of an access token of ours. Raises Denied and StoreDown."""
        session = user = None
        if claims.get("iss") == self.issuer and isinstance(claims.get("sid"), str):
            session = await self.sessions.find(claims["sid"])
        if session is not None and session.user == claims.get("sub"):
            user = await self.users.get(session.user)
        if session is None or user is None:
            failed = Failed(
                Failure.UNAUTHENTICATED,
                "This answer needs an access token from a login here.",
                headers=CHALLENGE,
            )
            raise Denied("missing", "no access token of a session that is there", failed)
        return user, session

    async def change_password(
        self, user: User, session: Session, old: str, new: str, address: str
    ) -> int:
        """Change a password, given the old one, and end all other sessions; return their number.

        Raises Denied and StoreDown.
        """
        problem = self.policy.problem(new, user.name)
        if problem or new == old:
            raise self._bad_field(
                "weak", user, session, "new_password", problem or "must not be the old one"
            )
        await self._attempt(user.name, address, user.name)
        if not await self._verify(user.hash, old, user.name, address):
            raise self._bad_field("invalid", user, session, "old_password", "is wrong")
        await self.attempts.succeeded(address, user.name, self.clock.monotonic())
        try:
            hash = await self.passwords.hash(new, address)
        except Busy as busy:
            raise _busy(busy, user.name) from None
        changed = user_edits.at(replace(user, hash=hash), self.clock.wall())
        try:
            written = await self.users.change(user, changed)
        except CredentialError as error:
            log.error("the password of %s cannot be changed: %s", user.name, error)
            failed = Failed(Failure.INTERNAL, "Passwords cannot be changed at the moment.")
            raise Denied("failed", str(error), failed, user.name, session.id) from None
        if not written:
            raise Denied(
                "invalid", "the user was changed meanwhile", _wrong(), user.name, session.id
            )
        return await self.sessions.end_others(user.name, session.id, changed.changed)

    async def _attempt(self, name: str, address: str, user: str = "") -> None:
        wait = await self.attempts.begin(address, name, self.clock.monotonic())
        if wait > 0:
            failed = Failed(
                Failure.RATE_LIMITED,
                "There were too many attempts.",
                headers=((b"Retry-After", b"%d" % max(1, ceil(wait))),),
                why="attempts by address or account",
            )
            raise Denied(
                "limited", f"too many attempts; the next may be in {wait:.1f} s", failed, user
            )

    async def _verify(self, hash: str | None, password: str, name: str, address: str) -> bool:
        try:
            return await self.passwords.verify(hash, password, address)
        except Busy as busy:
            await self.attempts.undone(address, name, self.clock.monotonic())
            raise _busy(busy, name if hash is not None else "") from None

    async def _second_factor(
        self, user: User, code: str | None, address: str, now: float
    ) -> tuple[str, ...]:
        """Return how the user has authenticated, in the words of RFC 8176."""
        if not user.totp:
            return ("pwd",)
        if code is None:
            await self.attempts.undone(address, user.name, self.clock.monotonic())
            raise Denied(
                "second_factor_required",
                "no code came with the password",
                _factor("required"),
                user.name,
            )
        step = totp.step_of(user.totp, code, now)
        if step is None or not await self.sessions.claim(user.name, step):
            why = "the code is wrong" if step is None else "the code was used before"
            raise Denied("second_factor_invalid", why, _factor("invalid"), user.name)
        return ("pwd", "otp", "mfa")

    async def _rehash(self, user: User, password: str) -> None:
        """Hash the password with today's parameters; if that fails, the next login tries again."""
        try:
            changed = replace(user, hash=await self.passwords.hash(password))
            await self.users.change(user, changed)
        except Busy:
            pass
        except CredentialError as error:
            log.warning("the hash of %s stays as it is: %s", user.name, error)

    def _issued(self, user: User, session: Session, refresh: str, now: float) -> Issued:
        ends = session.created + self.limits.lifetime
        expires = int(min(now + self.access, ends))
        claims: dict[str, Any] = {
            "iss": self.issuer,
            "sub": user.name,
            "client_id": user.client,
            "sid": session.id,
            "jti": secrets.token_urlsafe(16),
            "iat": int(now),
            "exp": expires,
            "roles": sorted(user.roles),
            "scope": " ".join(sorted(user.permissions)),
            "amr": list(session.amr),
        }
        if self.audience:
            claims["aud"] = self.audience
        if user.tier:
            claims["tier"] = user.tier
        idle = min(session.seen + self.limits.idle, ends)
        return Issued(
            user, session, self.keys.sign(claims), expires - int(now), refresh, int(idle - now)
        )

    def _bad_field(
        self, result: str, user: User, session: Session, field: str, problem: str
    ) -> Denied:
        return Denied(
            result, f"{field} {problem}", invalid_field(field, problem), user.name, session.id
        )


def invalid_field(field: str, problem: str) -> Failed:
    """422 with one entry, as `validation` has them."""
    errors = [{"field": field, "code": "invalid", "message": f"{field} {problem}"}]
    return Failed(Failure.INVALID_FIELD, f"{field} {problem}.", errors=errors)


def _wrong() -> Failed:
    return Failed(Failure.UNAUTHENTICATED, "The user name or password is wrong.", headers=CHALLENGE)


def _no_refresh() -> Failed:
    return Failed(Failure.UNAUTHENTICATED, "The refresh token is not valid.", headers=CHALLENGE)


def _factor(what: str) -> Failed:
    message = (
        "A code from the second factor is needed."
        if what == "required"
        else "The code is not valid."
    )
    errors = [{"field": "code", "code": f"second_factor_{what}", "message": message}]
    return Failed(Failure.UNAUTHENTICATED, message, headers=CHALLENGE, errors=errors)


def _busy(busy: Busy, user: str) -> Denied:
    headers = ((b"Retry-After", b"%d" % busy.seconds),)
    failed = Failed(
        Failure.OVERLOADED, "Passwords cannot be verified at the moment.", headers=headers
    )
    return Denied("unavailable", "too many passwords wait to be verified", failed, user)
