"""What the supervisor keeps for its workers, asked for by a worker: with memory://, all workers of
a gateway count and remember together.

The supervisor composes the same configuration. So the objects that one process keeps across reloads
(lifetime/registry.py) are there as well, under the same keys, and `call` calls them there.
supervisor/keeper.py is the other side.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

from gateway.core.wait import Wait
from gateway.lifetime.channel import Channel
from gateway.lifetime.supervised import Supervised
from gateway.store.stores import StoreDown

DEADLINE = 5.0
"""Seconds that an answer may take. The supervisor serves no traffic, so more means it is stuck. A
new program that takes its place (USR2) needs one or two."""
LOOK = 0.25
"""Seconds between two looks for answers that are late."""

T = TypeVar("T")
Key = tuple[str, ...]


class Asked(Wait[T]):
    """A question to the supervisor. Fails with StoreDown."""

    __slots__ = ()

    def fail(self, error: BaseException) -> None:
        if isinstance(error, Exception) and not isinstance(error, StoreDown):
            error = StoreDown(f"the supervisor: {str(error) or type(error).__name__}")
        super().fail(error)


class Called(Asked[Any]):
    """A question whose answer is pickled."""

    __slots__ = ()

    def wake(self, value: Any = None) -> None:
        if not self.done and self._error is None:
            value = pickle.loads(value)  # noqa: S301 - the supervisor's
        super().wake(value)


class LocalStore:
    """One worker's access to what its supervisor keeps."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._waiting: deque[tuple[float, Asked[Any]]] = deque()
        self._looks = Supervised("supervisor_answers", self._look, every=LOOK)
        self._first: list[Callable[[], Awaitable[object]]] = []
        self.since = monotonic()

    def __repr__(self) -> str:
        return f"<LocalStore {'up' if self.up else 'down'}, {len(self._waiting)} waiting>"

    @property
    def up(self) -> bool:
        """Return True as long as there is a supervisor."""
        return self._channel.open

    def on(self, kind: str, handler: Callable[..., Any]) -> None:
        """Have `handler` take messages of a kind."""
        self._channel.on(kind, handler)

    def post(self, kind: str, *body: Any) -> None:
        """Say something that needs no answer."""
        self._channel.post(kind, *body)

    def ask(self, asked: Asked[T], kind: str, *body: Any) -> Asked[T]:
        """Send a question, whose outcome is `asked`'s."""
        self._channel.ask(kind, *body, into=asked)
        if not self._waiting:
            self._looks.start(LOOK)
        self._waiting.append((monotonic() + DEADLINE, asked))
        return asked

    def call(self, key: Key, method: str, *arguments: Any) -> Wait[Any]:
        """Call a method of what the supervisor keeps under `key`."""
        return self.ask(Called(), "call", key, method, pickle.dumps(arguments))

    def before_serving(self, work: Callable[[], Awaitable[object]]) -> None:
        """Have `ready` do this as well."""
        self._first.append(work)

    async def ready(self) -> None:
        """Ask for what has to be known before the first request, as far as there is an answer."""
        first, self._first = self._first, []
        for work in first:
            with suppress(StoreDown):
                await work()

    def close(self) -> None:
        """Look for late answers no more."""
        self._looks.close()

    def _look(self) -> float | None:
        now, waiting = monotonic(), self._waiting
        while waiting and (waiting[0][1].done or waiting[0][0] <= now):
            _, asked = waiting.popleft()
            asked.fail(StoreDown("the supervisor does not answer"))
        return None if waiting else float("inf")
