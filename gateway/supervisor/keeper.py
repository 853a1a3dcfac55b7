"""What the supervisor keeps for all workers while nothing is shared with other machines.

Limits are counted in its book. Sessions, attempts to log in and nonces of signatures are the
objects of its own snapshot, which workers call by their key in the registry (store/local.py).
"""

from __future__ import annotations

import inspect
import logging
import pickle
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any

from gateway.core.clock import REAL, Clock
from gateway.issuer.kept import SESSIONS
from gateway.issuer.sessions import SessionLimits
from gateway.lifetime.channel import Channel
from gateway.lifetime.registry import Registry
from gateway.lifetime.supervised import Supervised
from gateway.limits.book import Book
from gateway.limits.ledger import Told
from gateway.store.purges import PURGED

log = logging.getLogger("gateway.workers")

TIDY_EVERY = 60.0
"""Seconds between two looks for what need not be kept any more."""
MARGIN = 3600.0
"""Seconds for which an end is remembered after the access tokens expire, for lenient verifiers."""


class Keeper:
    """Serves the channels of all workers."""

    def __init__(self, registry: Registry, clock: Clock = REAL) -> None:
        self.book = Book(clock)
        self._registry = registry
        self._clock = clock
        self._wall = clock.wall
        self._ended: dict[str, float] = {}
        """Until when to remember that a session has ended, by its id."""
        self._access = 0.0
        self._channels: set[Channel] = set()
        self._tidying = Supervised("ledger_tidying", self._tidy, every=TIDY_EVERY)

    def __repr__(self) -> str:
        return f"<Keeper of {len(self._channels)} workers, {self.book!r}>"

    def dump_state(self) -> bytes:
        """Return everything that is not in the registry, for the program that takes this one's
        place."""
        return pickle.dumps((self._ended, self._access, self.book.dump_state()))

    def load_state(self, state: bytes) -> None:
        try:
            ended, access, book = pickle.loads(state)  # noqa: S301 - this process wrote it
            self.book.load_state(book)
        except Exception:
            log.exception("what the program before has counted cannot be read: limits begin anew")
            self.book = Book(self._clock)
        else:
            self._ended, self._access = ended, access

    def serve(self, channel: Channel, pid: int) -> None:
        """Answer the worker `pid`; its slots are its own until `forget`."""

        def limits(action: bytes, keys: Sequence[bytes], terms: Sequence[bytes]) -> Told:
            return self.book.run(action, keys, terms, pid)

        channel.on("limits", limits)
        channel.on("call", self._call)
        channel.on("ended", self._all_ended)
        channel.on(PURGED, partial(self._purged, channel))
        self._channels.add(channel)
        self._tidying.start(TIDY_EVERY)

    def forget(self, channel: Channel, pid: int) -> None:
        """A worker has ended."""
        self._channels.discard(channel)
        self.book.release(pid)

    def close(self) -> None:
        self._tidying.close()

    def _call(self, key: tuple[str, ...], method: str, body: bytes) -> bytes | Awaitable[bytes]:
        kept = self._registry.find(key)
        if kept is None:
            raise LookupError(f"nothing is kept under {'/'.join(key)}")
        arguments = pickle.loads(body)  # noqa: S301 - of our own process
        if key == SESSIONS:
            kept.followers.add(self._tell)
            if arguments and isinstance(arguments[-1], SessionLimits):
                self._access = max(self._access, arguments[-1].access)
        result: Any = getattr(kept, method)(*arguments)
        return _pickled(result) if inspect.isawaitable(result) else pickle.dumps(result)

    def _all_ended(self) -> bytes:
        """Return since when sessions are known here, and which have ended."""
        sessions = self._registry.find(SESSIONS)
        return pickle.dumps((sessions.since if sessions is not None else 0.0, self._ended))

    def _purged(self, by: Channel, purges: Any) -> None:
        """Tell the other workers what one of them has purged of its cache."""
        for channel in self._channels:
            if channel is not by:
                channel.post(PURGED, purges)

    def _tell(self, ids: Sequence[str]) -> None:
        """Tell all workers which sessions have ended."""
        until = self._wall() + self._access + MARGIN
        ended = dict.fromkeys(ids, until)
        self._ended.update(ended)
        for channel in self._channels:
            channel.post("ended", ended)

    def _tidy(self) -> None:
        self.book.tidy()
        now = self._wall()
        self._ended = {id: until for id, until in self._ended.items() if until > now}


async def _pickled(result: Awaitable[Any]) -> bytes:
    return pickle.dumps(await result)
