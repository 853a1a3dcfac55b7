"""Sessions of users, and the refresh tokens that continue them: one token at a time, each good once.

A refresh token is 48 random bytes: 16 that all tokens of a session share, and 32 of its own. Kept are hashes only: of the first
part the session's id, of the whole the one token that is good now. So whoever shows another token of a session shows one that was
used before, or one made by somebody who has seen one; either way there are two holders, and the session ends (RFC 9700 section
4.14.2). An access token names its session (`sid`) and is refused once that has ended.

A session ends by itself when it is not refreshed for `idle` seconds, and `lifetime` seconds after it began. Times are Unix
seconds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

_TOKEN = re.compile(r"[A-Za-z0-9_-]{64}")
SHARED, OWN = 16, 32

Result = Literal["ok", "again", "unknown", "expired", "reused"]
ENDED = "its session has ended"


@dataclass(frozen=True, slots=True)
class Limits:
    """`most_of_user` and `most` sessions; beyond them the user's oldest, and the one refreshed longest ago, end.

    `access`: seconds that access tokens live, which is how long it has to be remembered that a session has ended.
    """

    idle: float = 1800.0
    lifetime: float = 7 * 86400.0
    most_of_user: int = 5
    most: int = 100_000
    access: float = 900.0


@dataclass(frozen=True, slots=True)
class Session:
    """`seen`: when it was refreshed last; `checked`: when the password was asked for last; `amr`: how (RFC 8176).

    digest: of the token that is good now. before, salt: of the token before it, and what makes the one that is good now out of
    that, until it is known that the client was given it; then both are "".
    """

    id: str
    user: str
    created: float
    seen: float
    checked: float
    amr: tuple[str, ...]
    digest: str = field(repr=False)
    before: str = field(default="", repr=False)
    salt: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Turn:
    """What a refresh token came to: with "ok" the next one; with "expired" and "reused" the session that has ended."""

    result: Result
    session: Session | None = None
    token: str = field(default="", repr=False)


class Sessions(Protocol):
    """All sessions. Methods that wait raise StoreDown where they are shared and cannot be reached."""

    listeners: set[Callable[[], None]]
    """Called when one has ended before its access tokens have."""

    def why(self, claims: Mapping[str, Any]) -> str:
        """Why an access token with these claims is refused; "" when it is not. Raises StoreDown while that is not known."""

    async def begin(self, user: str, amr: tuple[str, ...], now: float, limits: Limits) -> tuple[Session, str]:
        """Another session of a user, and its first refresh token."""

    async def refresh(self, token: str, now: float, limits: Limits) -> Turn:
        """The next refresh token for this one: the same again for a client that was never given it."""

    def delivered(self, session: Session) -> None:
        """The token of a refresh goes to the client: from now on the one before is a used one."""

    async def find(self, id: str) -> Session | None:
        """One session, if it has not ended."""

    async def end(self, id: str) -> Session | None:
        """Ends one; None when there was none."""

    async def end_others(self, user: str, keep: str, now: float) -> int:
        """Ends all of a user's but one, for which the password has just been given; how many those were."""

    async def end_before(self, user: str, moment: float) -> int:
        """Ends all of a user's for which the password was given before then; how many those were."""

    async def count(self, user: str, now: float, limits: Limits) -> int:
        """How many a user has."""

    async def claim(self, user: str, step: int) -> bool:
        """Uses up a step of a user's second factor (RFC 6238 section 5.2); False when it, or a later one, has been used."""


def new_token() -> str:
    """The first token of a session."""
    return _text(secrets.token_bytes(SHARED + OWN))


def next_token(token: str, salt: str) -> str:
    """Another token of the same session, which nobody can make out of the salt without the token, nor the other way round."""
    data = _bytes(token)
    return _text(data[:SHARED] + hashlib.sha256(b"next" + data + salt.encode()).digest())


def new_salt() -> str:
    return secrets.token_hex(SHARED)


def session_of(token: str) -> str:
    """The id of the session that a token, which has the form of one, belongs to."""
    return _text(hashlib.sha256(b"session" + _bytes(token)[:SHARED]).digest()[:SHARED])


def looks_like(token: str) -> bool:
    """Whether this can be a refresh token at all."""
    return _TOKEN.fullmatch(token) is not None


def digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def judge(session: Session, presented: str, now: float, limits: Limits) -> Result:
    """What a token with the digest `presented` is to its session. A used one is that also after the session's time."""
    again = bool(session.before) and hmac.compare_digest(session.before, presented)
    if not again and not hmac.compare_digest(session.digest, presented):
        return "reused"
    if over(session, now, limits):
        return "expired"
    return "again" if again else "ok"


def over(session: Session, now: float, limits: Limits) -> bool:
    """Whether its time is over."""
    return now >= session.seen + limits.idle or now >= session.created + limits.lifetime


class LocalSessions:
    """Those of one process: they end with it, and so do their access tokens."""

    def __init__(self) -> None:
        self.listeners: set[Callable[[], None]] = set()
        self._all: OrderedDict[str, Session] = OrderedDict()
        """By id, the one refreshed longest ago first."""
        self._of: dict[str, list[str]] = {}
        """Ids by user, the oldest first."""
        self._steps: OrderedDict[str, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LocalSessions {len(self._all)}>"

    def why(self, claims: Mapping[str, Any]) -> str:
        id = claims.get("sid")
        session = self._all.get(id) if isinstance(id, str) else None
        return "" if session is not None and session.user == claims.get("sub") else ENDED

    async def begin(self, user: str, amr: tuple[str, ...], now: float, limits: Limits) -> tuple[Session, str]:
        while self._all and over(oldest := next(iter(self._all.values())), now, limits):
            self._drop(oldest)
        mine = [self._all[id] for id in self._of.get(user, ())]
        ended = [one for one in mine if over(one, now, limits)]
        ended += [one for one in mine if one not in ended][: max(0, len(mine) - len(ended) - limits.most_of_user + 1)]
        for one in ended:
            self._drop(one)
        while len(self._all) >= limits.most:
            ended.append(next(iter(self._all.values())))
            self._drop(ended[-1])
        token = new_token()
        session = Session(session_of(token), user, now, now, now, amr, digest(token))
        self._all[session.id] = session
        self._of.setdefault(user, []).append(session.id)
        if ended:
            self._tell()
        return session, token

    async def refresh(self, token: str, now: float, limits: Limits) -> Turn:
        session = self._all.get(session_of(token)) if looks_like(token) else None
        if session is None:
            return Turn("unknown")
        result = judge(session, digest(token), now, limits)
        if result == "again":
            return Turn("ok", session, next_token(token, session.salt))
        if result != "ok":
            self._drop(session)
            self._tell()
            return Turn(result, session)
        salt = new_salt()
        following = next_token(token, salt)
        session = replace(session, seen=now, digest=digest(following), before=session.digest, salt=salt)
        self._all[session.id] = session
        self._all.move_to_end(session.id)
        return Turn("ok", session, following)

    def delivered(self, session: Session) -> None:
        known = self._all.get(session.id)
        if known is not None and known.digest == session.digest:
            self._all[session.id] = replace(known, before="", salt="")

    async def find(self, id: str) -> Session | None:
        return self._all.get(id)

    async def end(self, id: str) -> Session | None:
        session = self._all.get(id)
        if session is not None:
            self._drop(session)
            self._tell()
        return session

    async def end_others(self, user: str, keep: str, now: float) -> int:
        others = [self._all[id] for id in self._of.get(user, ()) if id != keep]
        if keep in self._all:
            self._all[keep] = replace(self._all[keep], checked=now)
        return self._drop_all(others)

    async def end_before(self, user: str, moment: float) -> int:
        mine = [self._all[id] for id in self._of.get(user, ())]
        return self._drop_all([session for session in mine if session.checked < moment])

    async def count(self, user: str, now: float, limits: Limits) -> int:
        return sum(not over(self._all[id], now, limits) for id in self._of.get(user, ()))

    async def claim(self, user: str, step: int) -> bool:
        if step <= self._steps.get(user, -1):
            return False
        self._steps[user] = step
        self._steps.move_to_end(user)
        while next(iter(self._steps.values())) < step - 10:  # minutes ago: no code of then is accepted any more
            self._steps.popitem(last=False)
        return True

    def _drop_all(self, sessions: list[Session]) -> int:
        for session in sessions:
            self._drop(session)
        if sessions:
            self._tell()
        return len(sessions)

    def _drop(self, session: Session) -> None:
        del self._all[session.id]
        mine = self._of[session.user]
        mine.remove(session.id)
        if not mine:
            del self._of[session.user]

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
