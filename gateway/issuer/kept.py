"""Sessions and attempts that the supervisor keeps for its workers, as one of them sees them.

A worker decides about access tokens by itself: they are good unless their session is known to have
ended, or they are older than the gateway. Every end reaches all workers within milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any

from gateway.core.clock import Clock
from gateway.issuer.sessions import ENDED, RefreshResult, Session, SessionLimits
from gateway.lifetime.supervised import Supervised
from gateway.store.local import Called, Key, LocalStore
from gateway.store.stores import StoreDown

RETRY_PAUSE = 0.25
"""Seconds until the supervisor is asked again which sessions have ended."""
SESSIONS: Key = ("tokens", "sessions")
ATTEMPTS: Key = ("tokens", "attempts")
"""Where a process keeps those of `[tokens]`."""


class KeptSessions:
    """See sessions.Sessions."""

    def __init__(self, store: LocalStore, clock: Clock) -> None:
        self.listeners: set[Callable[[], None]] = set()
        self._store = store
        self._wall = clock.wall
        self._since = 0.0
        self._ended: dict[str, float] = {}
        """Until when to remember that a session has ended, by its id."""
        self._read = False
        store.on("ended", self._end)
        self._reading = Supervised("ended_sessions", self._read_ended, every=RETRY_PAUSE)
        store.before_serving(self._read_ended)
        self._reading.start(RETRY_PAUSE)

    def __repr__(self) -> str:
        return f"<KeptSessions {len(self._ended)} ended>"

    def close(self) -> None:
        self._reading.close()

    def why(self, claims: Mapping[str, Any]) -> str:
        if not self._read:
            raise StoreDown("which sessions have ended has not been heard yet")
        id, made = claims.get("sid"), claims.get("iat")
        known = isinstance(id, str) and isinstance(made, int | float) and made >= self._since
        return "" if known and id not in self._ended else ENDED

    async def begin(
        self, user: str, amr: tuple[str, ...], now: float, limits: SessionLimits
    ) -> tuple[Session, str]:
        begun: tuple[Session, str] = await self._call("begin", user, amr, now, limits)
        return begun

    async def refresh(self, token: str, now: float, limits: SessionLimits) -> RefreshResult:
        result: RefreshResult = await self._call("refresh", token, now, limits)
        return result

    def delivered(self, session: Session) -> None:
        self._call("delivered", session)

    async def find(self, id: str) -> Session | None:
        found: Session | None = await self._call("find", id)
        return found

    async def end(self, id: str) -> Session | None:
        ended: Session | None = await self._call("end", id)
        return ended

    async def end_others(self, user: str, keep: str, now: float) -> int:
        return int(await self._call("end_others", user, keep, now))

    async def end_before(self, user: str, moment: float) -> int:
        return int(await self._call("end_before", user, moment))

    async def count(self, user: str, now: float, limits: SessionLimits) -> int:
        return int(await self._call("count", user, now, limits))

    async def claim(self, user: str, step: int) -> bool:
        return bool(await self._call("claim", user, step))

    def _call(self, method: str, *arguments: Any) -> Any:
        return self._store.call(SESSIONS, method, *arguments)

    async def _read_ended(self) -> float:
        if not self._read:
            self._since, ended = await self._store.ask(Called(), "ended")
            self._ended.update(ended)
            self._read = True
            self._tell()
        return inf

    def _end(self, ended: dict[str, float]) -> None:
        if len(self._ended) // 1000 != (len(self._ended) + len(ended)) // 1000:
            now = self._wall()
            self._ended = {id: until for id, until in self._ended.items() if until > now}
        self._ended.update(ended)
        self._tell()

    def _tell(self) -> None:
        for listener in tuple(self.listeners):
            listener()


class KeptAttempts:
    """See attempts.Attempts. key: where the supervisor keeps them."""

    def __init__(self, store: LocalStore, key: Key) -> None:
        self._store = store
        self._key = key

    def __repr__(self) -> str:
        return f"<KeptAttempts {'/'.join(self._key)}>"

    async def begin(self, address: str, account: str, now: float) -> float:
        return float(await self._store.call(self._key, "begin", address, account, now))

    async def succeeded(self, address: str, account: str, now: float) -> None:
        await self._store.call(self._key, "succeeded", address, account, now)

    async def undone(self, address: str, account: str, now: float) -> None:
        await self._store.call(self._key, "undone", address, account, now)
