"""The ledger of one of several workers: the supervisor's book (book.py), asked over a channel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from gateway.core.wait import Wait
from gateway.limits.ledger import Told
from gateway.store.local import Asked, LocalStore
from gateway.store.stores import StoreDown


class Settled(Asked[Told]):
    """A lease that is being settled: `callback` gets the answer, None if there is none."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[Told | None], None]) -> None:
        super().__init__()
        self.callback = callback

    def wake(self, value: Any = None) -> None:
        if not self.done:
            super().wake(value)
            self.callback(value if self._error is None else None)


class LocalLedger:
    """See gateway.limits.ledger.Ledger. store: None where a configuration is only checked."""

    name = "the supervisor"
    leased_by_default = True

    def __init__(self, store: LocalStore | None, gateways: int) -> None:
        self._store = store
        self.gateways = gateways
        """Workers."""

    def __repr__(self) -> str:
        return f"<LocalLedger of {self.gateways} workers, {'up' if self.up else 'down'}>"

    def adopt(self, gateways: int) -> None:
        self.gateways = gateways

    @property
    def up(self) -> bool:
        return self._store is not None and self._store.up

    @property
    def since(self) -> float:
        return 0.0 if self._store is None else self._store.since

    def status(self) -> dict[str, Any]:
        status = "healthy" if self.up else "unhealthy"
        return {"name": self.name, "status": status, "reason": None, "gateways": self.gateways}

    def take(self, keys: Sequence[bytes], terms: Sequence[bytes]) -> Wait[Told]:
        return self._ask(Asked(), b"take", keys, terms)

    def peek(self, key: bytes, terms: Sequence[bytes]) -> Wait[Told]:
        return self._ask(Asked(), b"peek", (key,), terms)

    def charge(self, key: bytes, terms: Sequence[bytes]) -> None:
        self._post(b"charge", key, terms)

    def refund(self, key: bytes, terms: Sequence[bytes]) -> None:
        self._post(b"refund", key, terms)

    def lease(
        self, key: bytes, terms: Sequence[bytes], answered: Callable[[Told | None], None]
    ) -> None:
        self._ask(Settled(answered), b"lease", (key,), terms)

    def hold(self, slot: bytes, key: bytes, terms: Sequence[bytes]) -> None:
        """Nothing: the supervisor knows who has a slot, and whether that process lives."""

    def let_go(self, slot: bytes, key: bytes, terms: Sequence[bytes]) -> None:
        self._post(b"refund", key, terms)

    def _ask(
        self, asked: Asked[Told], action: bytes, keys: Sequence[bytes], terms: Sequence[bytes]
    ) -> Wait[Told]:
        if self._store is None:
            asked.fail(StoreDown("there is no supervisor"))
            return asked
        return self._store.ask(asked, "limits", action, tuple(keys), tuple(terms))

    def _post(self, action: bytes, key: bytes, terms: Sequence[bytes]) -> None:
        if self._store is not None:
            self._store.post("limits", action, (key,), tuple(terms))
