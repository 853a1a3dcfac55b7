"""A Redis asked by commands: one server, the master that Sentinels watch, or a Cluster.

Which server has a key, and what errors mean. Commands never wait for a server that is down: that is
link.py. Where servers are is topology.py, one connection connection.py. What the commands mean is
the business of those who send them: limits/redis_ledger.py counts, the credentials look up.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from math import inf

from redis.crc import key_slot

from gateway.core.clock import Clock
from gateway.core.hooks import Context
from gateway.core.telemetry import Telemetry
from gateway.store import stores
from gateway.store.redis.connection import Command, Script, fail
from gateway.store.redis.link import FIRST, Link
from gateway.store.redis.topology import Address, server_of, slots_of
from gateway.store.stores import StoreUrl

log = logging.getLogger("gateway.store")

PAGE = b"1000"
"""Fields asked for at a time when a whole hash is read."""
REDIRECTS = 3
"""How often a command is sent again: to another server of a Cluster, or with its script."""

DOWN = frozenset(("LOADING", "MASTERDOWN", "NOAUTH", "READONLY"))
"""Errors after which a server is of no use for any command."""
UNWRITABLE = frozenset(("MISCONF", "NOPERM", "OOM"))
"""Errors after which a server is of no use to a client whose probe writes."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a client is for, in words for operators.

    label: follows the server's name in metrics.
    back, down: what the log says that changes when the server is back or down.
    probe: the command that a server has to answer before it counts as back; it carries its keys.
    writes: the probe writes, so a server that cannot write is down.
    scripts: what is loaded on every connection.
    """

    label: str
    back: str
    down: str
    probe: tuple[bytes, ...] = (b"PING",)
    writes: bool = False
    scripts: tuple[Script, ...] = ()


LOOK_UPS = Purpose(
    label=" (look-ups)",
    back="it is asked for keys and revocations again",
    down="What was looked up before goes on as on_store_failure says",
)


class RedisClient:
    """Connects when it is first asked.

    name: its URL without secrets. deadline: seconds that an answer may take. closed: for good.
    since: monotonic time when a connection to a server was last opened; -inf before the first.
    """

    def __init__(
        self,
        url: StoreUrl,
        deadline: float,
        clock: Clock,
        telemetry: Telemetry,
        purpose: Purpose = LOOK_UPS,
    ) -> None:
        self.url = url
        self.name = str(url)
        self.deadline = deadline
        self.clock = clock
        self.closed = False
        self.since = -inf
        self.failures = telemetry.store_failures
        self.tls = ssl.create_default_context() if url.scheme == "rediss" else None
        self.identification = _identification(url)
        self.greeting: Sequence[tuple[bytes, ...]] = [
            *self.identification,
            *((b"SCRIPT", b"LOAD", script.text) for script in purpose.scripts),
        ]
        self.probe = purpose.probe
        self.tag = f"{hash((url, deadline)):x}"
        """Tells it from others of the same name, in this process."""
        self._purpose = purpose
        self._fatal = DOWN | UNWRITABLE if purpose.writes else DOWN
        self._up = telemetry.store_up
        self._links: dict[Address, Link] = {}
        self._slots: list[Address] | None = None
        self._refreshing: asyncio.Task[None] | None = None
        self._one = None if url.scheme == "redis+cluster" else Link(self, self._server, self.name)

    def __repr__(self) -> str:
        return f"<RedisClient {self.name}{self._purpose.label} {'up' if self.up else 'down'}>"

    @property
    def links(self) -> tuple[Link, ...]:
        """The servers asked so far."""
        return tuple(self._links.values()) if self._one is None else (self._one,)

    @property
    def up(self) -> bool:
        """Return True if it makes sense to ask. Changes by itself, in the background."""
        if self._one is not None:
            return self._one.up
        return not self._links or any(link.up for link in self._links.values())

    @property
    def why(self) -> str:
        """Why servers are down, "" while none is."""
        return "; ".join(f"{link.label}: {link.why}" for link in self.links if link.why)

    def command(self, *words: bytes, key: bytes = b"") -> Command:
        """Send one command, whose second word is its key unless `key` says which.

        Awaiting it gives the answer or raises StoreDown, at once while the server is down.
        """
        command = Command(words, key or words[1])
        self.send(command)
        return command

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes]) -> Command:
        """Run a script. Its first key decides on the server."""
        command = Command.of(script, keys, args)
        self.send(command)
        return command

    async def scan(self, key: bytes) -> AsyncIterator[list[bytes]]:
        """A hash's fields and values in turn, a page at a time; each at least once. Raises
        StoreDown."""
        cursor = b"0"
        while True:
            cursor, found = await self.command(b"HSCAN", key, cursor, b"COUNT", PAGE)
            yield found
            if cursor == b"0":
                return

    async def anywhere(self) -> Address:
        """A server that hears what is published; in a Cluster any. Raises what looking for it
        does."""
        if self._one is not None:
            return await self._server()
        return random.choice([*self._links] or list(self.url.hosts))  # noqa: S311

    def close(self) -> None:
        """End all connections; what waits fails."""
        self.closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
        for link in self.links:
            link.close()

    # What links report (link.Owner).

    def refused(self, link: Link, command: Command, error: str) -> None:
        """Send a command again where the error says that another server, or the whole script, is
        wanted."""
        word, _, rest = error.partition(" ")
        command.tries += 1
        if command.tries <= REDIRECTS and word == "NOSCRIPT" and command.script is not None:
            command.words = (b"EVAL", command.script.text, *command.words[2:])
            self.send(command)
        elif command.tries <= REDIRECTS and word in ("MOVED", "ASK") and self._one is None:
            self._redirect(command, word, rest)
        else:
            self.failures.add((word.lower()[:20],))
            if word in self._fatal and self._one is not None:
                link.down(f"Redis says {error}")
            fail(command, error)

    def changed(self, link: Link) -> None:
        """Note that a server is up, or down."""
        purpose = self._purpose
        self._up.set((link.label + purpose.label,), int(link.up))
        if link.why:
            self.searching(link)
            log.warning("store %s is down: %s. %s", link.label, link.why, purpose.down)
            return
        self.since = self.clock.monotonic()
        if link.outage:
            log.warning("store %s is back after %.1f s: %s", link.label, link.outage, purpose.back)

    def searching(self, link: Link) -> None:
        """While a server of a Cluster is away, another may take its slots over: ask for the map
        again."""
        if self._one is None:
            self._refresh()

    # Where keys are.

    def send(self, command: Command) -> None:
        """Send a command to the server that has its key."""
        if self.closed:
            fail(command, "the store was closed")
        elif self._one is not None:
            self._one.send(command)
        elif self._slots is None:
            self._send_later(command)
        else:
            self._link(self._address(command.key)).send(command)

    def _address(self, key: bytes) -> Address:
        assert self._slots is not None
        return self._slots[key_slot(key)]

    def _link(self, address: Address) -> Link:
        link = self._links.get(address)
        if link is None:

            async def there() -> Address:
                return address

            label = f"{self.url.scheme}://{address[0]}:{address[1]}"
            link = self._links[address] = Link(self, there, label)
        return link

    def _send_later(self, command: Command) -> None:
        """Send once the Cluster's map is there, if that is soon."""
        self._refresh()

        def known(_: object) -> None:
            if self._slots is None:
                fail(command, "the cluster cannot be reached")
            elif not command.done:
                self.send(command)

        assert self._refreshing is not None
        self._refreshing.add_done_callback(known)
        asyncio.get_running_loop().call_later(
            FIRST, fail, command, "the cluster was not found in time"
        )

    def _redirect(self, command: Command, word: str, rest: str) -> None:
        """Follow a Cluster to another server (Redis Cluster specification, "Redirection and
        resharding")."""
        slot, _, place = rest.partition(" ")
        host, _, port = place.rpartition(":")
        address = (host or self._address(command.key)[0], int(port))
        link = self._link(address)
        if word == "ASK":
            link.send(Command((b"ASKING",)))
        elif self._slots is not None:
            self._slots[int(slot)] = address
            self._refresh()
        link.send(command)

    def _refresh(self) -> None:
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.get_running_loop().create_task(self._map())

    async def _map(self) -> None:
        """Ask any server of the Cluster which has which slots."""
        slots = await slots_of(self.url, [*self._links, *self.url.hosts])
        if slots is not None:
            self._slots = slots
            for address in self._links.keys() - set(slots):
                self._links.pop(address).close()
        elif self._slots is None:
            log.warning("store %s: no server of the cluster can be reached", self.name)

    async def _server(self) -> Address:
        return await server_of(self.url)


def client_of(url: str, deadline: float, context: Context) -> RedisClient:
    """The client for look-ups at a URL, shared by all that use it; "redis" is what `[store] url`
    names.

    Raises BadUrl, LookupError when there is no such store, and ImportError without the package
    redis.
    """
    if url == "redis":
        if context.store is None:
            raise LookupError('"redis" is what [store] url names, and that is no Redis')
        parsed: StoreUrl = context.store.url
    else:
        parsed = stores.parse(url)
    kept: RedisClient = context.keep(
        ("reader", str(parsed), f"{hash((parsed, deadline)):x}"),
        (parsed, deadline),
        lambda: RedisClient(parsed, deadline, context.clock, context.telemetry),
    )
    return kept


def _identification(url: StoreUrl) -> list[tuple[bytes, ...]]:
    """The commands that say who connects, and to which database."""
    commands: list[tuple[bytes, ...]] = []
    if url.password:
        user = (url.user.encode(),) if url.user else ()
        commands.append((b"AUTH", *user, url.password.encode()))
    if url.database:
        commands.append((b"SELECT", b"%d" % url.database))
    return commands
