"""A shared store in Redis: one server, one that Sentinels watch, or a Cluster.

Requests never wait for a server that is down: a lost connection, or BREAKS late batches in a row, close the way to it, and a
background task opens it again once the server has written something within the deadline. That task is all that ever probes, so
neither an outage nor its end costs requests anything, and gateways come back one by one (jitter).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError

from gateway.core.clock import Clock
from gateway.core.telemetry import Telemetry
from gateway.state.redis_link import Ask, Pipe, fail
from gateway.state.redis_script import ALIVE, LIMITS, LIMITS_SHA
from gateway.state.stores import StoreDown, StoreUrl

log = logging.getLogger("gateway.state")

Address = tuple[str, int]

NO_RETRY = Retry(NoBackoff(), 0)

BREAKS = 3
"""Late batches in a row after which a server is taken for down."""
FIRST = 0.25
"""Seconds that requests wait for a server's first connection at most."""
CONNECT = 1.0
"""Seconds for a connection in the background, and for asking where a server is."""
AGAIN = (0.05, 1.0)
"""The first and the longest wait between two tries to reach a server that is down, in seconds."""
BEAT = 2.0
"""Seconds between two signs of life. After three without one, a gateway counts as gone."""
SLOT = 60
"""Seconds after which a slot that nobody renews is free; renewed three times as often."""


class Link:
    """The way to one server, wherever `resolve` finds it: down, connecting, or up with a Pipe."""

    def __init__(self, store: RedisStore, resolve: Callable[[], Awaitable[Address]], label: str) -> None:
        self.store = store
        self.resolve = resolve
        self.label = label
        self.pipe: Pipe | None = None
        self.up = True
        self._early: list[Ask] | None = []
        self._late = 0
        self._task: asyncio.Task[None] | None = None
        self._since = 0.0

    def __repr__(self) -> str:
        return f"<Link {self.label} {'up' if self.up else 'down'} {self.pipe}>"

    def send(self, ask: Ask) -> None:
        """Sends, or fails at once when the server is down."""
        if self.pipe is not None:
            self.pipe.send(ask)
        elif self._early is None:
            fail(ask, "the server is down")
        else:
            self._early.append(ask)
            if self._task is None:
                self._task = asyncio.get_running_loop().create_task(self._start())

    def down(self, why: str) -> None:
        """Closes the way, and begins to look for the server."""
        if self._early is None or self.store.closed:
            return
        early, self._early = self._early, None
        self.up = False
        self._since = self.store.clock.monotonic()
        pipe, self.pipe = self.pipe, None
        if pipe is not None:
            pipe.close()
        for ask in early:
            fail(ask, why)
        self.store.changed(self, why)
        self._task = asyncio.get_running_loop().create_task(self._recover())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        if self.pipe is not None:
            self.pipe.close()
        for ask in self._early or ():
            fail(ask, "the store was closed")

    async def _start(self) -> None:
        """The first connection, for which requests wait a little."""
        try:
            async with asyncio.timeout(FIRST):
                pipe = await self._open()
        except (OSError, TimeoutError, RedisError, StoreDown) as error:
            self._task = None
            self.down(f"cannot connect: {error or type(error).__name__}")
            return
        self._take(pipe)

    async def _recover(self) -> None:
        wait, longest = AGAIN
        while True:
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))  # noqa: S311
            wait = min(longest, wait * 2)
            pipe = None
            try:
                async with asyncio.timeout(CONNECT):
                    pipe = await self._open()
                    ask = Ask(self.store.probe, b"")
                    pipe.send(ask)
                    await ask
                break
            except (OSError, TimeoutError, RedisError, StoreDown):
                if pipe is not None:
                    pipe.close()
        self._take(pipe)
        seconds = self.store.clock.monotonic() - self._since
        self.store.changed(self, f"back after {seconds:.1f} s")

    def _take(self, pipe: Pipe) -> None:
        if pipe.closed:
            self.down("the connection was lost")
            return
        early, self._early = self._early or [], []
        self.pipe, self.up, self._late, self._task = pipe, True, 0, None
        for ask in early:
            pipe.send(ask)

    async def _open(self) -> Pipe:
        """A connection on which the scripts are loaded, or will be when what is sent next is read."""
        store = self.store
        host, port = await self.resolve()
        _, pipe = await asyncio.get_running_loop().create_connection(
            lambda: Pipe(store.deadline, store.answered, self._on_late, self._on_lost), host, port, ssl=store.tls
        )
        for command in store.greeting:
            pipe.send(Ask(command, b"greeting"))
        return pipe

    def on_time(self) -> None:
        self._late = 0

    def _on_late(self) -> None:
        self._late += 1
        self.store.failures.add(("late",))
        if self._late >= BREAKS:
            self.down(f"{BREAKS} times no answer within {self.store.deadline * 1000:.0f} ms")

    def _on_lost(self, pipe: Pipe) -> None:
        if pipe is self.pipe:
            self.store.failures.add(("lost",))
            self.down("the connection was lost")


class RedisStore:
    """See gateway.state.stores.Store. Connects when it is first asked."""

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
        known = [*self._links, *self.url.hosts]
        for host, port in known:
            try:
                async with asyncio.timeout(CONNECT):
                    async with self._client(host, port) as client:
                        ranges = await client.execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
            except (OSError, TimeoutError, RedisError):
                continue
            slots: list[Address] = [(host, port)] * 16384
            for first, last, server in _ranges(ranges, host):
                slots[first : last + 1] = [server] * (last - first + 1)
            self._slots = slots
            for address in self._links.keys() - set(slots):
                self._links.pop(address).close()
            return
        if self._slots is None:
            log.warning("store %s: no server of the cluster can be reached", self.name)

    def _client(self, host: str, port: int) -> Redis:
        return Redis(
            host=host, port=port, username=self.url.user or None, password=self.url.password or None,
            socket_timeout=CONNECT, socket_connect_timeout=CONNECT, retry=NO_RETRY,
        )  # fmt: skip

    async def _server(self) -> Address:
        """Where the one server is: in the URL, or where the Sentinels say."""
        if self.url.scheme != "redis+sentinel":
            return self.url.hosts[0]
        sentinels = Sentinel(  # type: ignore[no-untyped-call]
            list(self.url.hosts),
            sentinel_kwargs=dict.fromkeys(("socket_timeout", "socket_connect_timeout"), CONNECT / 4) | {"retry": NO_RETRY},
        )
        try:
            host, port = await sentinels.discover_master(self.url.service)
        finally:
            for client in sentinels.sentinels:
                await client.aclose()
        return host, port

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


def _ranges(answer: Any, host: str) -> list[tuple[int, int, Address]]:
    """The slots of CLUSTER SLOTS: redis-py gives them as {(first, last): {"primary": (host, port)}}, Redis as lists."""
    if isinstance(answer, dict):
        return [(first, last, _place(found["primary"], host)) for (first, last), found in answer.items()]
    return [(int(one[0]), int(one[1]), _place(one[2], host)) for one in answer]


def _place(server: Sequence[Any], host: str) -> Address:
    name = server[0].decode() if isinstance(server[0], bytes) else server[0]
    return name or host, int(server[1])
