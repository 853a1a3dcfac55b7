"""What one Redis costs and carries for 1 to 1,000 gateways: the figures in docs/scaling.md.

    python -m bench.scaling commands     CPU of Redis for each thing that gateways ask of it
    python -m bench.scaling leases       how often leases are settled, by the gateway's own code on a
                                         clock of its own
    python -m bench.scaling table        what that makes of 1 to 1,000 gateways

Needs redis-server.
"""

from __future__ import annotations

import random
import socket
import sys
import time
from collections.abc import Callable, Sequence

import hiredis

from gateway.core.clock import Clock
from gateway.limits.algorithms import Limit
from gateway.limits.book import Book
from gateway.limits.leases import TICK, Leases
from gateway.limits.ledger import Told, limit_terms
from gateway.limits.redis_script import ALIVE, ALIVE_KEY, LIMITS
from tests.redis import RedisServer

GATEWAYS = (1, 2, 10, 50, 100, 300, 1000)
BATCH = 16
"""Commands that one gateway writes in a turn of its loop."""
RATE = 1000.0
"""Requests a second at each gateway."""
CALLERS = 1000
"""Callers whose limits are counted while costs are measured."""
LINKS = 5
"""Connections of a gateway to Redis: limits, look-ups, and a subscription for keys, revocations and
sessions."""
BEAT, COMPARE = 2.0, 5.0
"""Seconds between two signs of life, and between two comparisons of each of three feeds."""
KEYS = 10_000
"""API keys whose first bytes a gateway reads when it starts or has been away."""


class Redis:
    """A server, and what it spends."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        connection, reader = self.connect()
        with connection:
            for script in (LIMITS, ALIVE):
                self._send(connection, reader, [(b"SCRIPT", b"LOAD", script.text)])

    def connect(self) -> tuple[socket.socket, hiredis.Reader]:
        return socket.create_connection(("127.0.0.1", self.server.port)), hiredis.Reader()

    def spent(self) -> float:
        """CPU seconds so far."""
        text = self.server.command("INFO", "cpu")
        found = dict(line.split(":") for line in text.splitlines() if ":" in line)
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])

    def cost(self, command: Callable[[int], Sequence[bytes]], count: int, batch: int) -> float:
        """CPU microseconds of Redis for one command, so many of them in one write."""
        connection, reader = self.connect()
        with connection:
            for number in range(-2, 0):  # warm: the script, and memory
                self._send(connection, reader, [command(number)])
            before = self.spent()
            for at in range(0, count, batch):
                self._send(connection, reader, [command(at + i) for i in range(batch)])
            return (self.spent() - before) / count * 1e6

    def _send(
        self, connection: socket.socket, reader: hiredis.Reader, commands: list[Sequence[bytes]]
    ) -> None:
        connection.sendall(b"".join(hiredis.pack_command(tuple(one)) for one in commands))
        for _ in commands:
            while (answer := reader.gets()) is False:
                reader.feed(connection.recv(1 << 20))
            if isinstance(answer, Exception):
                raise answer


def limits(action: bytes, flag: int = 0) -> Callable[[int], Sequence[bytes]]:
    """The command for one limit of caller `number`."""
    words = limit_terms("sliding_window", Limit.windowed(10**9, 60.0))

    def command(number: int) -> Sequence[bytes]:
        key = b"gateway:{c%d}:api/limit" % (number % CALLERS)
        return (
            b"EVALSHA", LIMITS.sha, b"1", key, b"", action, *words, b"1", b"%d" % flag, b"", b"",
        )  # fmt: skip

    return command


def commands(redis: Redis) -> dict[str, float]:
    """CPU microseconds of Redis for each thing."""
    found = {}
    for batch in (1, BATCH):
        found[f"exact, {batch} a write"] = redis.cost(limits(b"take"), 20_000, batch)
        found[f"settlement, {batch} a write"] = redis.cost(limits(b"lease", 5), 20_000, batch)

    def sign(number: int) -> Sequence[bytes]:
        return b"EVALSHA", ALIVE.sha, b"1", ALIVE_KEY, b"g%d" % (number % 1000), b"6"

    found["sign of life, of 1,000"] = redis.cost(sign, 20_000, 1)
    found["comparison of a version"] = redis.cost(lambda _: (b"GET", b"keys:version"), 20_000, 1)
    connection, reader = redis.connect()
    with connection:
        fields = [word for n in range(KEYS) for word in (b"%064x" % n, b"{}" * 100)]
        redis._send(connection, reader, [(b"HSET", b"keys", *fields)])
    found[f"reading {KEYS:,} keys"] = redis.cost(lambda _: (b"HKEYS", b"keys"), 100, 1)
    found["telling one gateway of a change"] = published(redis, 500)
    found["connecting, with the script"] = connected(redis, 1000)
    return found


def published(redis: Redis, subscribers: int) -> float:
    opened = [redis.connect() for _ in range(subscribers)]
    for connection, reader in opened:
        redis._send(connection, reader, [(b"SUBSCRIBE", b"changes")])
    each = redis.cost(lambda _: (b"PUBLISH", b"changes", b"7 revoked k_12345678"), 100, 1)
    for connection, _ in opened:
        connection.close()
    return each / subscribers


def connected(redis: Redis, count: int) -> float:
    before = redis.spent()
    for _ in range(count):
        connection, reader = redis.connect()
        with connection:
            script = (b"SCRIPT", b"LOAD", LIMITS.text)
            redis._send(connection, reader, [(b"CLIENT", b"SETNAME", b"x"), script, (b"PING",)])
    return (redis.spent() - before) / count * 1e6


class Virtual:
    """A ledger on a clock that is moved by hand; counts settlements."""

    name, up, since, leased_by_default = "virtual", True, 0.0, True

    def __init__(self, gateways: int, clock: Clock) -> None:
        self.gateways = gateways
        self.settled = 0
        self._book = Book(clock)

    def lease(
        self, key: bytes, terms: Sequence[bytes], answered: Callable[[Told | None], None]
    ) -> None:
        self.settled += 1
        answered(self._book.run(b"lease", [key], terms, 0))


def leases(quota: int, gateways: int, demand: float = 0.5, seconds: float = 120.0) -> float:
    """Settlements for each request of one caller who asks for `demand` times the limit of `quota` a
    minute, evenly over all gateways."""
    now = [1000.0]
    clock = Clock(lambda: now[0], lambda: now[0])
    limit, ledger, source = Limit.windowed(quota, 60.0), Virtual(gateways, clock), random.Random(7)

    def account(key: object, limit: Limit, cost: float, wanted: float) -> tuple[bytes, list[bytes]]:
        words = [*limit_terms("sliding_window", limit), b"%.17g" % cost, b"%d" % wanted]
        return b"k:limit", [*words, b"", b""]

    all_of_them = [Leases(ledger, 0.1, account, clock, limit) for _ in range(gateways)]  # type: ignore[arg-type]
    rate = quota * demand / 60.0
    requests, next_tidy = 0, now[0]
    while now[0] < 1000.0 + seconds:
        now[0] += source.expovariate(rate)
        if now[0] >= next_tidy:
            next_tidy = now[0] + TICK
            for one in all_of_them:
                one._tidy()
        one = all_of_them[source.randrange(gateways)]
        for _ in range(2):  # again when a settlement was waited for
            _, (after, left, _) = one.check("k", now[0], 1.0, 10)
            if left >= 0:
                one.commit("k", after, now[0], 1.0)
                break
        requests += 1
    return ledger.settled / requests


def table(costs: dict[str, float]) -> None:
    exact, settle = costs[f"exact, {BATCH} a write"], costs[f"settlement, {BATCH} a write"]
    small, large = (
        {count: leases(quota, count) for count in GATEWAYS} for quota in (1_000, 60_000)
    )
    print("| gateways | requests/s | exact | leased, 1,000 a minute | leased, 60,000 a minute | "
          "signs of life | comparisons | a key changes | all connect again | connections |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for count in GATEWAYS:
        requests = RATE * count
        shares = [
            requests * exact / 1e6,
            requests * small[count] * settle / 1e6,
            requests * large[count] * settle / 1e6,
            count / BEAT * costs["sign of life, of 1,000"] / 1e6,
            3 * count / COMPARE * costs["comparison of a version"] / 1e6,
        ]
        change = count * costs["telling one gateway of a change"] / 1e3
        again = count * (
            LINKS * costs["connecting, with the script"] + costs[f"reading {KEYS:,} keys"]
        )
        cells = " | ".join(f"{share * 100:.2g} %" for share in shares)
        print(f"| {count:,} | {requests:,.0f} | {cells} | {change:.2g} ms | {again / 1e6:.2g} s | "
              f"{count * LINKS:,} |")  # fmt: skip


def main() -> None:
    what = sys.argv[1:2]
    start = time.monotonic()
    if what == ["leases"]:
        print("| gateways | 1,000 a minute | over it | 60,000 a minute | over it |")
        print("|---|---|---|---|---|")
        for count in GATEWAYS:
            cells = [
                f"{leases(quota, count, demand):.3f}"
                for quota in (1_000, 60_000)
                for demand in (0.5, 1.2)
            ]
            print(f"| {count:,} | {' | '.join(cells)} |")
    elif what in (["commands"], ["table"]):
        with RedisServer() as server:
            costs = commands(Redis(server))
        for name, each in costs.items():
            print(f"| {name} | {each:.1f} |")
        if what == ["table"]:
            print()
            table(costs)
    else:
        print(__doc__)
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
