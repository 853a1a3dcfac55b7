"""The ledger in Redis: one script decides (redis_script.py), by Redis' own clock.

It has a connection of its own: a flood of limits does not delay look-ups of keys, nor the other way
round. It also says that this gateway lives, renews slots that are in use, and frees those that are
not.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any

from gateway.core.clock import Clock
from gateway.core.telemetry import Telemetry
from gateway.core.wait import Wait
from gateway.lifetime.supervised import Supervised
from gateway.limits.ledger import SLOT_SECONDS, Told
from gateway.limits.redis_script import ALIVE, ALIVE_KEY, LIMITS
from gateway.store.redis.client import Purpose, RedisClient
from gateway.store.redis.connection import Answered, Command
from gateway.store.stores import SharedStore, StoreDown

BEAT = 2.0
"""Seconds between two signs of life. After three without one, a gateway counts as gone."""
RENEWAL = 10
"""Beats between two renewals of the slots in use: three in the time a slot lasts."""
MOST_FREED = 10_000
"""Slots remembered until Redis has confirmed that they are free; others run out by themselves."""

Account = tuple[bytes, Sequence[bytes]]
"""A limit of one caller: its key and terms."""


class RedisLedger:
    """See gateway.limits.ledger.Ledger. Connects when it is first asked."""

    leased_by_default = False

    def __init__(self, store: SharedStore, clock: Clock, telemetry: Telemetry) -> None:
        name = f"{os.getpid()}-{random.getrandbits(48):x}".encode()
        # A write does not succeed on a replica. In a Cluster, where the key is elsewhere, an answer
        # has to do.
        cluster = store.url.scheme == "redis+cluster"
        sign = (b"EVAL", ALIVE.text, b"1", ALIVE_KEY, name, b"%d" % (3 * BEAT))
        purpose = Purpose(
            label="",
            back="limits are shared again",
            down="Limits do what on_store_failure says",
            probe=(b"PING",) if cluster else sign,
            writes=not cluster,
            scripts=(LIMITS,),
        )
        self.client = RedisClient(store.url, store.deadline, clock, telemetry, purpose)
        self.name = self.client.name
        self.gateways = 0
        self._clock = clock
        self._alive = telemetry.store_gateways
        self._sign = sign
        self._beats = 0
        self._heart = Supervised("store_sign_of_life", self._beat, every=BEAT, of=self.name)
        self._held: dict[bytes, Account] = {}
        self._freed: dict[bytes, tuple[float, Account]] = {}

    def __repr__(self) -> str:
        return f"<RedisLedger {self.name} {'up' if self.up else 'down'}, {self.gateways} gateways>"

    @property
    def up(self) -> bool:
        return self.client.up

    @property
    def since(self) -> float:
        return self.client.since

    def status(self) -> dict[str, Any]:
        why = self.client.why
        status = "unhealthy" if why else "healthy"
        return {
            "name": self.name,
            "status": status,
            "reason": why or None,
            "gateways": self.gateways,
        }

    def close(self) -> None:
        """End its connections; what waits fails."""
        self._heart.close()
        self.client.close()

    def take(self, keys: Sequence[bytes], terms: Sequence[bytes]) -> Wait[Told]:
        return self._run(b"take", keys, terms)

    def peek(self, key: bytes, terms: Sequence[bytes]) -> Wait[Told]:
        return self._run(b"peek", (key,), terms)

    def charge(self, key: bytes, terms: Sequence[bytes]) -> None:
        self._run(b"charge", (key,), terms)

    def refund(self, key: bytes, terms: Sequence[bytes]) -> None:
        self._run(b"refund", (key,), terms)

    def lease(
        self, key: bytes, terms: Sequence[bytes], answered: Callable[[Told | None], None]
    ) -> None:
        command = Answered.of(LIMITS, (key,), (b"", b"lease", *terms))
        command.callback = answered
        self._send(command)

    def hold(self, slot: bytes, key: bytes, terms: Sequence[bytes]) -> None:
        self._held[slot] = key, terms

    def let_go(self, slot: bytes, key: bytes, terms: Sequence[bytes]) -> None:
        self._held.pop(slot, None)
        self._free(slot, (key, terms))

    # Slots that are no longer in use.

    def _free(self, slot: bytes, account: Account) -> None:
        """Give a slot back; again with the beats, until Redis has confirmed it or the slot has run
        out.

        The slot may have been taken by a command that is late: on one connection this comes after
        it.
        """
        if len(self._freed) < MOST_FREED:
            self._freed[slot] = self._clock.monotonic() + SLOT_SECONDS, account
        if self.up:
            self._send_free(slot, account)

    def _send_free(self, slot: bytes, account: Account) -> None:
        def answered(told: Told | None) -> None:
            if told is not None:
                self._freed.pop(slot, None)

        key, terms = account
        command = Answered.of(LIMITS, (key,), (b"", b"refund", *terms))
        command.callback = answered
        self._send(command)

    def _free_again(self) -> None:
        now = self._clock.monotonic()
        for slot, (until, account) in tuple(self._freed.items()):
            if now >= until:
                del self._freed[slot]
            else:
                self._send_free(slot, account)

    # Commands.

    def _run(self, action: bytes, keys: Sequence[bytes], terms: Sequence[bytes]) -> Command:
        command = Command.of(LIMITS, keys, (b"", action, *terms))
        self._send(command)
        return command

    def _send(self, command: Command) -> None:
        if not self._beats:
            self._beats = 1
            self._heart.start()
        self.client.send(command)

    async def _beat(self) -> float | None:
        """Say that this gateway lives, renew slots in use, and free others again."""
        self._beats += 1
        if self.up:
            try:
                self.gateways = max(1, int(await self.client.command(*self._sign, key=ALIVE_KEY)))
                self._alive.set((), self.gateways)
            except StoreDown:
                pass
            self._free_again()
            if self._beats % RENEWAL == 0:
                for account in tuple(self._held.values()):
                    self.charge(*account)
        # soon at first: others should know of a new one
        return BEAT / 8 if self._beats < 4 else None
