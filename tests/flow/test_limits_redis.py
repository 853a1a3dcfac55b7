"""Limits that several gateways share through a real Redis: exact and leased, and what happens while
it is away."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.limits.redis_ledger import RedisLedger
from gateway.store.redis import link
from tests.client import Client
from tests.flow.conftest import write
from tests.origin import OK, Origin
from tests.redis import RedisServer, Slow, redis, shared_redis
from tests.until import until

__all__ = ["redis", "shared_redis"]

Run = Callable[..., Awaitable[list["Asker"]]]

ROUTES = """
[[route]]
path = "/limits"
builtin = "limits"

[[route]]
prefix = "/"
upstream = "origin"
"""


class Asker:
    """A gateway and a client of it."""

    def __init__(self, gateway: Gateway, client: Client) -> None:
        self.gateway = gateway
        self.client = client

    async def ask(self, count: int = 1, path: str = "/") -> Counter[int]:
        return Counter([(await self.client.get(path)).status for _ in range(count)])

    @property
    def store(self) -> RedisLedger:
        return next(kept for kept in self.gateway.runtime.registry if isinstance(kept, RedisLedger))

    async def store_is(self, up: bool) -> None:
        await until(lambda: self.store.up is up)


@pytest.fixture
async def run(tmp_path: Path, origin: Origin) -> AsyncIterator[Run]:
    """`await run(URL, TOML, gateways=N)`: so many gateways with that below `[rate_limit]`."""
    running: list[Asker] = []

    async def start(url: str, table: str, gateways: int = 1, deadline: str = "2s") -> list[Asker]:
        for number in range(gateways):
            directory = tmp_path / str(number)
            directory.mkdir()
            text = (
                f'name = "{tmp_path.name}"\nrequest = '
                f'["rate_limit"]\n[rate_limit]\n{table}\n{ROUTES}'
            )
            write(
                directory,
                text,
                f'[upstream.origin]\nurl = "{origin.url}"\n',
                f'[store]\nurl = "{url}"\ndeadline = "{deadline}"\n',
            )
            gateway = Gateway(directory / "gateway.toml", {})
            await gateway.start()
            running.append(Asker(gateway, await Client.connect(gateway.port)))
        return running

    yield start
    for one in running:
        one.client.close()
        await one.gateway.close()


@pytest.mark.parametrize(
    "table",
    [
        'algorithm = "fixed_window"\nlimit = 30\nwindow = "1h"',
        'algorithm = "sliding_window"\nlimit = 30\nwindow = "1h"',
        'algorithm = "sliding_log"\nlimit = 30\nwindow = "1h"',
        "tokens = 30\nrefill = 0.001",
        'algorithm = "quota"\nlimit = 30\nperiod = "month"',
    ],
)
async def test_exact_is_exact_over_all_gateways(run: Run, shared_redis: RedisServer, table: str):
    one, two = await run(shared_redis.url, f'key = "ip"\n{table}', 2)
    assert (await one.client.get("/")).fields["x-ratelimit-remaining"] == "29"
    found = Counter({200: 1}) + sum(
        await asyncio.gather(*(asker.ask(25) for asker in (one, two))), Counter()
    )
    refused = 403 if "quota" in table else 429
    assert found == {200: 30, refused: 21}
    message = await one.client.get("/limits")
    assert b'"remaining":0' in message.body and b'"mode":"exact"' in message.body
    assert (await two.client.get("/")).fields["x-ratelimit-remaining"] == "0"


async def test_all_rules_or_none_and_local_ones_are_given_back(run: Run, shared_redis: RedisServer):
    table = """
    rules = [
      { name = "wide", key = "ip", limit = 20, window = "1h", algorithm = "fixed_window" },
      { name = "leased", key = "ip", limit = 100, window = "1h", algorithm = "fixed_window", mode = "leased" },
      { name = "narrow", key = "global", limit = 3, window = "1h", algorithm = "fixed_window" },
      { name = "planned", key = "ip", limit = 1, window = "1h", shadow = true },
    ]"""
    (one,) = await run(shared_redis.url, table)
    assert await one.ask(10) == {200: 3, 429: 7}
    message = await one.client.get("/limits")
    assert (
        b'"policy":"wide","key":"ip","algorithm":"fixed_window","limit":20,"window":3600.0,"remaining":17'
        in message.body
    )
    assert one.gateway.telemetry.rate_shadowed.get(("/", "planned")) == 9


async def test_slots_are_shared_and_given_back(run: Run, shared_redis: RedisServer, origin: Origin):
    one, two = await run(shared_redis.url, 'key = "ip"\nalgorithm = "concurrency"\nlimit = 1', 2)
    arrived, go = asyncio.Event(), asyncio.Event()

    async def respond(
        origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        arrived.set()
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        return True

    origin.respond = respond
    first = asyncio.create_task(one.ask())
    await arrived.wait()
    assert await two.ask(2) == {429: 2}
    go.set()
    assert await first == {200: 1}
    async with asyncio.timeout(5):
        while await two.ask() != {200: 1}:
            pass


async def test_leased_keeps_its_bounds(run: Run, shared_redis: RedisServer):
    share = 0.2
    askers = await run(
        shared_redis.url,
        (
            f'key = "ip"\nmode = "leased"\nlease = {share}\nlimit = 200\nwindow = '
            f'"1h"\nalgorithm = '
            f'"fixed_window"'
        ),
        2,
    )
    found = sum(await asyncio.gather(*(asker.ask(200) for asker in askers)), Counter())
    # docs/limits.md: over by the debts, one half of the share and at least one request a gateway;
    # under by what is on credit.
    assert 200 * (1 - share / 2) - 2 <= found[200] <= 200 * (1 + share / 2) + 2
    assert found[200] + found[429] == 400
    async with asyncio.timeout(5):  # what lies unused comes back
        while found[200] < 200:
            found += await askers[0].ask()
    assert b'"mode":"leased"' in (await askers[0].client.get("/limits")).body


async def test_a_fast_client_waits_for_the_settlement_instead_of_being_refused(
    run: Run, shared_redis: RedisServer
):
    (one,) = await run(
        shared_redis.url, 'key = "ip"\nmode = "leased"\nlease = 0.02\nlimit = 100\nwindow = "1h"'
    )
    clients = [await Client.connect(one.gateway.port) for _ in range(20)]
    found = Counter(
        [
            message.status
            for message in await asyncio.gather(*(client.get("/") for client in clients))
        ]
    )
    for client in clients:
        client.close()
    assert found == {200: 20}


OUTAGES = [("local_share", {200: 10, 429: 5}), ("open", {200: 15}), ("closed", {503: 15})]


@pytest.mark.parametrize("mode", ["exact", "leased"])
@pytest.mark.parametrize(("policy", "expected"), OUTAGES)
async def test_killed(
    run: Run,
    redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
    mode: str,
    policy: str,
    expected: dict[int, int],
):
    table = (
        f'key = "ip"\nmode = "{mode}"\non_store_failure = "{policy}"\nlimit = 20\nwindow = '
        f'"1h"\nalgorithm = "fixed_window"'
    )
    one, two = await run(redis.url, table, 2)
    for _ in range(3):
        await asyncio.gather(one.ask(), two.ask())
    # Each knows of the other
    await until(lambda: one.store.gateways >= 2)
    with caplog.at_level(logging.WARNING, "gateway.state"):
        redis.kill()
        await one.store_is(up=False)
        assert await one.ask(15) == expected
        assert "is down: the connection was lost" in caplog.text
        assert one.gateway.telemetry.store_up.get((one.store.name,)) == 0
        assert one.gateway.telemetry.rate_fallback.get(("default", policy)) >= 15
        redis.start()
        await one.store_is(up=True)
        assert "limits are shared again" in caplog.text
    assert await one.ask(3) == {200: 3}
    assert b'"mode":"%s"' % mode.encode() in (await one.client.get("/limits")).body


async def test_a_settlement_lost_with_the_server_delays_no_limit(run: Run, redis: RedisServer):
    table = 'key = "ip"\nmode = "leased"\nlease = 0.5\nlimit = 40\nwindow = "1h"'
    (one,) = await run(redis.url, table)
    assert await one.ask() == {200: 1}
    await until(lambda: one.store.gateways == 1)
    assert await one.ask(2) == {200: 2}
    await one.client.get("/limits")  # asks Redis, which has answered the settlements before it
    redis.freeze()
    # More than half of the credit: a settlement is under way.
    assert await one.ask(7) == {200: 7}
    redis.kill()
    await one.store_is(up=False)
    assert await one.ask(45) == {200: 40, 429: 5}
    redis.start()
    await one.store_is(up=True)
    assert await one.ask(3) == {200: 3}


async def test_frozen_costs_the_first_requests_the_deadline_and_the_others_nothing(
    run: Run, redis: RedisServer
):
    (one,) = await run(
        redis.url,
        'key = "ip"\non_store_failure = "open"\nlimit = 5\nwindow = "1h"',
        deadline="20ms",
    )
    assert await one.ask(2) == {200: 2}
    redis.freeze()
    assert await one.ask(link.BREAKS) == {200: link.BREAKS}
    assert not one.store.up
    assert one.gateway.telemetry.store_failures.get(("late",)) >= link.BREAKS
    assert await one.ask(50) == {200: 50}
    redis.thaw()
    await one.store_is(up=True)
    # What was sent while it was frozen counts, as the requests were admitted; nothing was counted
    # meanwhile.
    assert await one.ask(3) == {429: 3}


async def test_slow_is_down_and_fast_again_is_up(run: Run, shared_redis: RedisServer):
    way = await Slow(shared_redis.port).start()
    (one,) = await run(
        f"redis://127.0.0.1:{way.port}",
        'key = "ip"\non_store_failure = "open"\nlimit = 50\nwindow = "1h"',
        deadline="100ms",
    )
    assert await one.ask(2) == {200: 2}
    way.delay = 0.2
    assert await one.ask(20) == {200: 20}
    assert not one.store.up
    way.delay = 0.0
    await one.store_is(up=True)
    assert "ratelimit" in (await one.client.get("/")).fields
    await way.stop()


async def test_there_is_none_when_the_gateway_starts(run: Run, redis: RedisServer):
    redis.kill()
    (one,) = await run(redis.url, 'key = "ip"\nlimit = 3\nwindow = "1h"')
    assert await one.ask(5) == {200: 3, 429: 2}
    redis.start()
    await one.store_is(up=True)
    assert await one.ask(5) == {200: 3, 429: 2}


async def test_a_flushed_script_is_sent_again(run: Run, redis: RedisServer):
    (one,) = await run(redis.url, 'key = "ip"\nlimit = 3\nwindow = "1h"')
    assert await one.ask(1) == {200: 1}
    redis.command("SCRIPT", "FLUSH")
    assert await one.ask(4) == {200: 2, 429: 2}


async def test_a_reload_keeps_the_connection_and_the_counts(
    run: Run, redis: RedisServer, tmp_path: Path
):
    (one,) = await run(
        redis.url, 'key = "ip"\nlimit = 5\nwindow = "1h"\nalgorithm = "fixed_window"'
    )
    assert await one.ask(5) == {200: 5}
    store, file = one.store, tmp_path / "0" / "pipelines" / "test.toml"
    file.write_text(file.read_text().replace("limit = 5", "limit = 8"))
    assert (await one.gateway.reload()).ok
    assert one.store is store
    assert await one.ask(1) == {429: 1}  # all of the 5 were used, and so are all of the 8
    assert redis.command("CLIENT", "LIST").count("cmd=evalsha") == 1


@pytest.mark.parametrize("mode", ["exact", "leased"])
async def test_a_reload_rescales_what_is_used(
    run: Run, redis: RedisServer, tmp_path: Path, mode: str
):
    table = f'key = "ip"\nmode = "{mode}"\nlimit = 100\nwindow = "1h"\nalgorithm = "fixed_window"'
    one, two = await run(redis.url, table, 2)
    assert await one.ask(50) == {200: 50}
    # The gateways of a deployment reload one after the other: meanwhile, both limits hold.
    for asker, number in ((one, 0), (two, 1)):
        file = tmp_path / str(number) / "pipelines" / "test.toml"
        file.write_text(file.read_text().replace("limit = 100", "limit = 200"))
        assert (await asker.gateway.reload()).ok
        message = await one.client.get("/limits")
        assert b'"limit":200' in message.body
        # A request that is one of 100 is two of 200; what two has on credit may be missing.
        assert abs(
            int((await one.client.get("/")).fields["x-ratelimit-remaining"]) - (99 - 3 * number)
        ) <= (0 if mode == "exact" else 11)
        await two.ask(1)
    found = Counter[int]()
    for asker in (one, two):
        found += await asker.ask(100)
    assert abs(found[200] - 95) <= (0 if mode == "exact" else 22)


async def test_the_limits_answer_knows_what_others_have_used(run: Run, redis: RedisServer):
    table = """
    rules = [
      { name = "leased", key = "ip", limit = 200, window = "1h", algorithm = "fixed_window", mode = "leased" },
      { name = "exact", key = "ip", limit = 100, window = "1h", algorithm = "sliding_log" },
      { name = "daily", key = "ip", limit = 500, period = "day", algorithm = "quota", mode = "leased" },
      { name = "at-a-time", key = "ip", limit = 5, algorithm = "concurrency" },
    ]"""
    one, two = await run(redis.url, table, 2)
    assert await one.ask(20) == {200: 20}

    async def left(asker: Asker) -> dict[str, tuple[int, str]]:
        told = json.loads((await asker.client.get("/limits")).body)["limits"]
        return {each["policy"]: (each["remaining"], each["mode"]) for each in told}

    expected = {
        "leased": (180, "leased"),
        "exact": (80, "exact"),
        "daily": (480, "leased"),
        "at-a-time": (5, "exact"),
    }
    assert await left(one) == expected
    # What the first has on credit is used, to the second, until it comes back.
    assert abs((await left(two))["leased"][0] - 180) <= 10

    async def settled() -> bool:
        return await left(two) == expected

    await until(settled)


async def test_what_allows_nothing_needs_no_store(run: Run, redis: RedisServer):
    (one,) = await run(
        redis.url, 'key = "ip"\nlimit = 0\nwindow = "1h"\non_store_failure = "closed"'
    )
    redis.kill()
    message = await one.client.get("/")
    assert message.status == 429 and "retry-after" not in message.fields
    assert (
        b'"limit":0,"window":3600.0,"remaining":0,"headers":'
        in (await one.client.get("/limits")).body
    )


async def test_wrong_passwords_and_readonly_servers_are_outages(run: Run, redis: RedisServer):
    redis.command("CONFIG", "SET", "requirepass", "right")
    wrong = redis.url.replace("redis://", "redis://:wrong@")
    (one,) = await run(wrong, 'key = "ip"\nlimit = 5\nwindow = "1h"\non_store_failure = "closed"')
    assert await one.ask(2) == {503: 2}
    assert "wrong" not in repr(one.gateway.runtime.snapshot.loaded.gateway)
    health = one.gateway.health()
    assert health["status"] == "degraded" and health["store"]["status"] == "unhealthy"
    assert "WRONGPASS" in health["store"]["reason"] and "wrong@" not in str(health["store"])


async def test_a_password(run: Run, redis: RedisServer):
    redis.command("CONFIG", "SET", "requirepass", "right")
    (one,) = await run(
        redis.url.replace("redis://", "redis://:right@") + "/2",
        'key = "ip"\nlimit = 5\nwindow = "1h"',
    )
    assert await one.ask(6) == {200: 5, 429: 1}


SLOT = 'key = "ip"\nalgorithm = "concurrency"\nlimit = 1\non_store_failure = "open"'


async def held_by_none(one: Asker) -> None:
    """Requests are counted again, one at a time, long before the slots of lost requests run out."""

    async def counted() -> bool:
        message = await one.client.get("/")
        return message.status == 200 and "ratelimit" in message.fields

    await until(counted)
    assert (await one.client.get("/")).status == 200


async def test_a_slot_that_is_taken_late_is_free_again(run: Run, redis: RedisServer):
    way = await Slow(redis.port).start()
    (one,) = await run(f"redis://127.0.0.1:{way.port}", SLOT, deadline="40ms")
    assert await one.ask(2) == {200: 2}
    way.delay = 0.05
    assert await one.ask(1) == {200: 1}
    way.delay = 0.0
    await held_by_none(one)
    await way.stop()


async def test_a_slot_that_a_frozen_server_takes_is_free_again(run: Run, redis: RedisServer):
    (one,) = await run(redis.url, SLOT, deadline="20ms")
    assert await one.ask(2) == {200: 2}
    redis.freeze()
    assert await one.ask(link.BREAKS + 1) == {200: link.BREAKS + 1}
    redis.thaw()
    await one.store_is(up=True)
    await held_by_none(one)


async def test_a_slot_that_is_let_go_during_an_outage_is_free_again(
    run: Run, redis: RedisServer, origin: Origin
):
    (one,) = await run(redis.url, SLOT)

    async def outage(
        _: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        one.store.client.links[0].down("for a test")
        writer.write(OK)
        await writer.drain()
        return True

    origin.respond = outage
    assert await one.ask(1) == {200: 1}
    origin.respond = OK
    await one.store_is(up=True)
    await held_by_none(one)


async def test_a_slot_whose_client_leaves_before_it_is_given_is_free_again(
    run: Run, redis: RedisServer
):
    way = await Slow(redis.port).start()
    (one,) = await run(f"redis://127.0.0.1:{way.port}", SLOT, deadline="5s")
    assert await one.ask(1) == {200: 1}
    way.delay = 0.1
    leaving = await Client.connect(one.gateway.port)
    leaving.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await until(lambda: one.gateway.runtime.snapshot.active == 1)
    leaving.close()
    await until(lambda: one.gateway.runtime.snapshot.active == 0)
    way.delay = 0.0
    await held_by_none(one)
    await way.stop()
