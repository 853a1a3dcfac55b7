"""Sessions of users, and the refresh tokens that continue them: one at a time, each good once.

A refresh token is 48 random bytes: 16 that all tokens of a session share, and 32 of its own. Only
hashes are stored: the session's id is made from the first part, and the digest of the whole token
that is good now. So another token of a session is a used one, or a forgery by a client that has
seen one; either way two clients hold tokens, and the session ends (RFC 9700 section 4.14.2). An
access token names its session (`sid`) and is refused once that has ended.

A session ends when it is not prolonged (a refresh does that) for `idle` seconds, and `lifetime`
seconds after it began. Times are Unix seconds.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal, Protocol

_TOKEN = re.compile(r"[A-Za-z0-9_-]{64}")
SHARED, OWN = 16, 32

Result = Literal["ok", "again", "unknown", "expired", "reused"]
ENDED = "its session has ended"


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of sessions, in seconds and in number.

    most_of_user, most: beyond them the user's oldest, and the one refreshed longest ago, end.
    access: lifetime of access tokens, for which the end of a session has to be remembered.
    renewal: a refresh prolongs a session that has at most this left of `idle`.
    """

    idle: float = 1800.0
    lifetime: float = 7 * 86400.0
    most_of_user: int = 5
    most: int = 100_000
    access: float = 900.0
    renewal: float = inf


@dataclass(frozen=True, slots=True)
class Session:
    """One session.

    seen: when it began, or was prolonged last. checked: when the password was asked for last.
    amr: how (RFC 8176). digest: of the refresh token that is good now. before, salt: until the
    client was given that token, the digest of the one before and what it was made with; afterwards
    "".
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
class RefreshResult:
    """The result of a refresh.

    With "ok" `token` is the next one; with "expired" and "reused" `session` has ended.
    """

    result: Result
    session: Session | None = None
    token: str = field(default="", repr=False)


class Sessions(Protocol):
    """All sessions. Methods that wait raise StoreDown where the shared store is away."""

    listeners: set[Callable[[], None]]
    """Called when one has ended before its access tokens have."""

    def why(self, claims: Mapping[str, Any]) -> str:
        """Return why an access token with these claims is refused, "" if it is not.

        Raises StoreDown while that is not known.
        """

    async def begin(
        self, user: str, amr: tuple[str, ...], now: float, limits: SessionLimits
    ) -> tuple[Session, str]:
        """Another session of a user, and its first refresh token."""

    async def refresh(self, token: str, now: float, limits: SessionLimits) -> RefreshResult:
        """Return the next refresh token; the same one again while the client was not given it."""

    def delivered(self, session: Session) -> None:
        """The token of a refresh goes to the client: from now on the one before is a used one."""

    async def find(self, id: str) -> Session | None:
        """One session, if it has not ended."""

    async def end(self, id: str) -> Session | None:
        """Ends one; None when there was none."""

    async def end_others(self, user: str, keep: str, now: float) -> int:
        """End a user's sessions but `keep`, whose password was just given; return their number."""

    async def end_before(self, user: str, moment: float) -> int:
        """End a user's sessions whose password was given before `moment`; return their number."""

    async def count(self, user: str, now: float, limits: SessionLimits) -> int:
        """Return the number of a user's sessions."""

    async def claim(self, user: str, step: int) -> bool:
        """Use up a step of a user's second factor (RFC 6238 section 5.2).

        Return False if it, or a later one, has been used.
        """


def new_token() -> str:
    """The first token of a session."""
    return _text(secrets.token_bytes(SHARED + OWN))


def next_token(token: str, salt: str) -> str:
    """Return the next token of the session; making it takes both the token and the salt."""
    data = _bytes(token)
    return _text(data[:SHARED] + hashlib.sha256(b"next" + data + salt.encode()).digest())


def new_salt() -> str:
    return secrets.token_hex(SHARED)


def session_of(token: str) -> str:
    """The id of the session that a token, which has the form of one, belongs to."""
    return _text(hashlib.sha256(b"session" + _bytes(token)[:SHARED]).digest()[:SHARED])


def looks_like(token: str) -> bool:
    """Return True if this has the form of a refresh token."""
    return _TOKEN.fullmatch(token) is not None


def digest(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def judge(session: Session, presented: str, now: float, limits: SessionLimits) -> Result:
    """Return what the token with the digest `presented` is to its session.

    A used token is "reused" even after the session has expired.
    """
    again = bool(session.before) and hmac.compare_digest(session.before, presented)
    if not again and not hmac.compare_digest(session.digest, presented):
        return "reused"
    if over(session, now, limits):
        return "expired"
    return "again" if again else "ok"


def over(session: Session, now: float, limits: SessionLimits) -> bool:
    """Return True if the session has expired."""
    return now >= session.seen + limits.idle or now >= session.created + limits.lifetime


class LocalSessions:
    """The sessions of one process: they end with it, and so do their access tokens.

    followers: called with the ids of sessions that have ended, for other processes.
    since: Unix time before which no session here began.
    """

    def __init__(self, since: float = 0.0) -> None:
        self.since = since
        self.listeners: set[Callable[[], None]] = set()
        self.followers: set[Callable[[Sequence[str]], None]] = set()
        self._ended: list[str] = []
        self._all: OrderedDict[str, Session] = OrderedDict()
        """By id, the one prolonged longest ago first."""
        self._of: dict[str, list[str]] = {}
        """Ids by user, the oldest first."""
        self._steps: OrderedDict[str, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<LocalSessions {len(self._all)}>"

    def why(self, claims: Mapping[str, Any]) -> str:
        id = claims.get("sid")
        session = self._all.get(id) if isinstance(id, str) else None
        return "" if session is not None and session.user == claims.get("sub") else ENDED

    async def begin(
        self, user: str, amr: tuple[str, ...], now: float, limits: SessionLimits
    ) -> tuple[Session, str]:
        while self._all and over(oldest := next(iter(self._all.values())), now, limits):
            self._drop(oldest)
        mine = [self._all[id] for id in self._of.get(user, ())]
        ended = [one for one in mine if over(one, now, limits)]
        ended += [one for one in mine if one not in ended][
            : max(0, len(mine) - len(ended) - limits.most_of_user + 1)
        ]
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

    async def refresh(self, token: str, now: float, limits: SessionLimits) -> RefreshResult:
        session = self._all.get(session_of(token)) if looks_like(token) else None
        if session is None:
            return RefreshResult("unknown")
        result = judge(session, digest(token), now, limits)
        if result == "again":
            return RefreshResult("ok", session, next_token(token, session.salt))
        if result != "ok":
            self._drop(session)
            self._tell()
            return RefreshResult(result, session)
        salt = new_salt()
        following = next_token(token, salt)
        renewed = session.seen + limits.idle - now <= limits.renewal
        session = replace(
            session,
            seen=now if renewed else session.seen,
            digest=digest(following),
            before=session.digest,
            salt=salt,
        )
        self._all[session.id] = session
        if renewed:
            self._all.move_to_end(session.id)
        return RefreshResult("ok", session, following)

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

    async def count(self, user: str, now: float, limits: SessionLimits) -> int:
        return sum(not over(self._all[id], now, limits) for id in self._of.get(user, ()))

    async def claim(self, user: str, step: int) -> bool:
        if step <= self._steps.get(user, -1):
            return False
        self._steps[user] = step
        self._steps.move_to_end(user)
        while next(iter(self._steps.values())) < step - 10:  # too old for any code
            self._steps.popitem(last=False)
        return True

    def dump_state(self) -> tuple[float, list[Session], dict[str, int]]:
        """Return everything, for the program that takes this one's place."""
        return self.since, list(self._all.values()), dict(self._steps)

    def load_state(self, state: tuple[float, list[Session], dict[str, int]]) -> None:
        self.since, sessions, steps = state
        self._all.update((session.id, session) for session in sessions)
        for session in sorted(sessions, key=lambda session: session.created):
            self._of.setdefault(session.user, []).append(session.id)
        self._steps.update(steps)

    def _drop_all(self, sessions: list[Session]) -> int:
        for session in sessions:
            self._drop(session)
        if sessions:
            self._tell()
        return len(sessions)

    def _drop(self, session: Session) -> None:
        del self._all[session.id]
        if self.followers:
            self._ended.append(session.id)
        mine = self._of[session.user]
        mine.remove(session.id)
        if not mine:
            del self._of[session.user]

    def _tell(self) -> None:
        ended, self._ended = self._ended, []
        for follower in tuple(self.followers):
            follower(ended)
        for listener in tuple(self.listeners):
            listener()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(token: str) -> bytes:
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
