"""What a supervisor keeps and a worker's access to it, in one process over a real channel."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.core.clock import REAL, Clock
from gateway.lifetime.channel import Channel, pair
from gateway.lifetime.registry import Draft, Registry
from gateway.store.local import LocalStore
from gateway.supervisor.keeper import Keeper


@dataclass
class Shop:
    """A keeper. `keep`: what it has, by key. `hire`: another worker's access to it."""

    clock: Clock = REAL
    registry: Registry = field(default_factory=Registry)
    channels: list[Channel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.keeper = Keeper(self.registry, self.clock)
        self._draft: Draft = self.registry.draft()

    def keep(self, key: tuple[str, ...], made: object) -> None:
        self._draft.keep(key, id(made), lambda: made)

    def hire(self) -> LocalStore:
        """A worker; its end of the channel is the last of `channels`."""
        ours, theirs = (Channel(end) for end in pair())
        pid = len(self.channels)
        self.keeper.serve(ours, pid)
        ours.start(lambda: self.keeper.forget(ours, pid))
        theirs.start(lambda: None)
        self.channels += (ours, theirs)
        return LocalStore(theirs)

    async def close(self) -> None:
        for one in self.channels:
            one.close()
        self.keeper.close()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
