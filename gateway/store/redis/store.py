"""A shared store in Redis: one server, one that Sentinels watch, or a Cluster.

Which server has a key, what its answers mean, and signs of life. Requests never wait for a server that is down: that is
server.py; where servers are is topology.py, and one connection link.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.crc import key_slot

from gateway.core.clock import Clock
from gateway.core.telemetry import Telemetry
from gateway.store.redis.limit_script import ALIVE, LIMITS, LIMITS_SHA
from gateway.store.redis.link import Ask, fail
from gateway.store.redis.server import FIRST, Link
from gateway.store.redis.topology import Address, server_of, slots_of
from gateway.store.stores import StoreDown, StoreUrl

log = logging.getLogger("gateway.state")

BEAT = 2.0
"""Seconds between two signs of life. After three without one, a gateway counts as gone."""
SLOT = 60
"""Seconds after which a slot that nobody renews is free; renewed three times as often."""


class RedisStore:
    """See gateway.store.stores.Store. Connects when it is first asked."""

    def __init__(self, url: StoreUrl, deadline: float, clock: Clock, telemetry: Telemetry) -> None:
        self.url = url
        self.name = str(url)
        self.deadline = deadline
        self.clock = clock
        self.closed = False
        self.gateways = 0
        self.failures = telemetry.store_failures
        self.tls = ssl.create_default_context() if url.scheme == "rediss" else None
        self.greeting = _greeting(url)
        self._up = telemetry.store_up
        self._alive = telemetry.store_gateways
        self._id = f"{os.getpid()}-{random.getrandbits(48):x}".encode()
        self._sign = (b"EVAL", ALIVE, b"1", b"gateway:alive", self._id, b"%d" % (3 * BEAT))
        # A write does not succeed on a replica. In a Cluster, where the key is elsewhere, an answer has to do.
        self.probe = (b"PING",) if url.scheme == "redis+cluster" else self._sign
        self._links: dict[Address, Link] = {}
        self._slots: list[Address] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._held: dict[bytes, tuple[bytes, Sequence[bytes]]] = {}
        self._one = None if url.scheme == "redis+cluster" else Link(self, self._server, self.name)

    def __repr__(self) -> str:
        return f"<RedisStore {self.name} {'up' if self.up else 'down'}, {self.gateways} gateways>"

    @property
    def up(self) -> bool:
        if self._one is not None:
            return self._one.up
        return not self._links or any(link.up for link in self._links.values())

    def ask(self, action: bytes, keys: Sequence[bytes], args: Sequence[bytes]) -> Ask:
        if self._beating is None:
            self._beating = asyncio.get_running_loop().create_task(self._beat())
        ask = Ask((b"EVALSHA", LIMITS_SHA, b"%d" % len(keys), *keys, b"", action, *args), keys[0])
        self._send(ask)
        return ask

    def post(self, action: bytes, keys: Sequence[bytes], args: Sequence[bytes]) -> None:
        self.ask(action, keys, args).add_done_callback(_look)

    def hold(self, slot: bytes, key: bytes, args: Sequence[bytes]) -> None:
        self._held[slot] = (key, args)

    def let_go(self, slot: bytes, key: bytes, args: Sequence[bytes]) -> None:
        self._held.pop(slot, None)
        if self.up:
            self.post(b"charge", (key,), args)

    def close(self) -> None:
        self.closed = True
        for task in (self._beating, self._refreshing):
            if task is not None:
                task.cancel()
        for link in (*self._links.values(), *([self._one] if self._one else ())):
            link.close()

    # Answers.

    def answered(self, ask: Ask, answer: Any) -> None:
        """What Redis said: the answer, or an error of which some mean that another server should be asked."""
        if not isinstance(answer, hiredis.ReplyError):
            if self._one is not None:
                self._one.on_time()
            elif ask.key and ask.key != b"greeting" and (link := self._links.get(self._address(ask.key))) is not None:
                link.on_time()
            ask.set_result(answer)
            return
        word, _, rest = str(answer).partition(" ")
        ask.tries += 1
        if ask.tries <= 3 and word == "NOSCRIPT":
            ask.command = (b"EVAL", LIMITS, *ask.command[2:])
            self._send(ask)
        elif ask.tries <= 3 and word in ("MOVED", "ASK") and self._one is None:
            self._redirect(ask, word, rest)
        else:
            self.failures.add((word.lower()[:20],))
            fail(ask, str(answer))
            if word in ("READONLY", "LOADING", "MASTERDOWN") and self._one is not None:
                self._one.down(f"Redis says {word}")

    def changed(self, link: Link, why: str) -> None:
        """A server is down, or back."""
        self._up.set((link.label,), int(link.up))
        level = logging.WARNING
        if link.up:
            log.log(level, "store %s is %s: limits are shared again", link.label, why)
        else:
            log.log(
                level, "store %s is down: %s. Limits do what on_store_failure says; %d gateway(s)", link.label, why, self.gateways
            )

    # Where keys are.

    def _send(self, ask: Ask) -> None:
        if self.closed:
            fail(ask, "the store was closed")
        elif self._one is not None:
            self._one.send(ask)
        elif self._slots is None:
            self._early(ask)
        else:
            self._link(self._address(ask.key)).send(ask)

    def _address(self, key: bytes) -> Address:
        assert self._slots is not None
        return self._slots[key_slot(key)]

    def _link(self, address: Address) -> Link:
        link = self._links.get(address)
        if link is None:

            async def there() -> Address:
                return address

            link = self._links[address] = Link(self, there, f"{self.url.scheme}://{address[0]}:{address[1]}")
        return link

    def _early(self, ask: Ask) -> None:
        """Sends once the Cluster's map is there, if that is soon."""
        self._refresh()

        def known(_: object) -> None:
            if self._slots is None:
                fail(ask, "the cluster cannot be reached")
            elif not ask.done():
                self._send(ask)

        assert self._refreshing is not None
        self._refreshing.add_done_callback(known)
        asyncio.get_running_loop().call_later(FIRST, fail, ask, "the cluster was not found in time")

    def _redirect(self, ask: Ask, word: str, rest: str) -> None:
        slot, _, place = rest.partition(" ")
        host, _, port = place.rpartition(":")
        address = (host or self._address(ask.key)[0], int(port))
        link = self._link(address)
        if word == "ASK":
            link.send(Ask((b"ASKING",), b"greeting"))
        elif self._slots is not None:
            self._slots[int(slot)] = address
            self._refresh()
        link.send(ask)

    def _refresh(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._map())

    async def _map(self) -> None:
        """Asks any server of the Cluster which has which slots."""
        slots = await slots_of(self.url, [*self._links, *self.url.hosts])
        if slots is not None:
            self._slots = slots
            for address in self._links.keys() - set(slots):
                self._links.pop(address).close()
        elif self._slots is None:
            log.warning("store %s: no server of the cluster can be reached", self.name)

    async def _server(self) -> Address:
        return await server_of(self.url)

    # Signs of life.

    async def _beat(self) -> None:
        beats = 0
        while True:
            if self.up:
                ask = Ask(self._sign, b"gateway:alive")
                self._send(ask)
                try:
                    self.gateways = max(1, int(await ask))
                    self._alive.set((), self.gateways)
                    self._up.values.setdefault((self.name,), 1)
                except StoreDown:
                    pass
                if beats % 10 == 0:
                    for key, args in tuple(self._held.values()):
                        self.post(b"charge", (key,), args)
            if self._one is None and not all(link.up for link in self._links.values()):
                self._refresh()
            beats += 1
            await asyncio.sleep(BEAT if beats > 2 else BEAT / 8)  # soon at first: others should know of a new one


def _look(ask: asyncio.Future[Any]) -> None:
    """Takes note of a posted command's failure, so that nobody complains about it."""
    if not ask.cancelled():
        ask.exception()


def _greeting(url: StoreUrl) -> list[tuple[bytes, ...]]:
    """What every connection begins with. Nobody waits for its answers: should one be an error, so are those that follow."""
    commands: list[tuple[bytes, ...]] = []
    if url.password:
        user = (url.user.encode(),) if url.user else ()
        commands.append((b"AUTH", *user, url.password.encode()))
    if url.database:
        commands.append((b"SELECT", b"%d" % url.database))
    return [*commands, (b"SCRIPT", b"LOAD", LIMITS)]
