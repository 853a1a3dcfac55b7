"""Limits in one gateway, over sockets: several rules, costs, calendar quotas, slots, and what
clients see of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.app import Gateway
from tests.client import Client, Message
from tests.flow.conftest import Start
from tests.origin import Origin, answer
from tests.until import until

Connect = Callable[[Gateway], Awaitable[Client]]

ROUTES = """
[[route]]
path = "/limits"
builtin = "limits"

[[route]]
name = "camera"
path = "/cameras/{id}"
upstream = "origin"

[[route]]
name = "all"
prefix = "/"
upstream = "origin"
"""


@pytest.fixture
def limited(start: Start, origin: Origin, connect: Connect) -> Callable[..., Awaitable[Client]]:
    """`await limited(TOML)`: a client of a gateway with that below `[rate_limit]`."""

    async def run(table: str, gateway: str = "") -> Client:
        text = (
            f'request = ["rate_limit"]\nresponse = ["rate_limit"]\n[rate_limit]\n{table}\n{ROUTES}'
        )
        return await connect(
            await start(text, f'[upstream.origin]\nurl = "{origin.url}"\n', gateway)
        )

    return run


def problem(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(message.body)
    return found


async def statuses(
    client: Client, count: int, path: str = "/", *lines: str, method: str = "GET"
) -> list[int]:
    return [(await client.get(path, *lines, method=method)).status for _ in range(count)]


async def test_no_rule_counts_unless_all_have_room(limited: Callable[..., Awaitable[Client]]):
    client = await limited("""
        rules = [
          { name = "wide", key = "ip", algorithm = "fixed_window", limit = 100, window = "1h" },
          { name = "narrow", key = "global", algorithm = "fixed_window", limit = 2, window = "1m" },
          { name = "tokens", key = "ip", tokens = 50, refill = 0.001, burst = 40 },
        ]""")
    first = await client.get("/")
    assert (
        first.fields["ratelimit-policy"]
        == '"wide";q=100;w=3600, "narrow";q=2;w=60, "tokens";q=50;w=50000'
    )
    assert first.fields["ratelimit"].startswith('"narrow";r=1;t=')
    assert await statuses(client, 5) == [200, 429, 429, 429, 429]
    refused = await client.get("/")
    assert refused.fields["ratelimit"].startswith('"narrow";r=0;t=')
    assert 50 < int(refused.fields["retry-after"]) <= 60
    assert '"narrow"' in problem(refused)["detail"] and problem(refused)["code"] == "RATE_001"
    told = problem(await client.get("/limits"))["limits"]
    assert {one["policy"]: one["remaining"] for one in told} == {
        "wide": 98,
        "narrow": 0,
        "tokens": 48,
    }


async def test_what_a_request_costs_goes_by_method(limited: Callable[..., Awaitable[Client]]):
    client = await limited(
        'key = "ip"\nlimit = 10\nwindow = "1h"\ncosts = { POST = 2, DELETE = 4, OPTIONS = 0 }'
    )
    left = [
        (await client.get("/", method=method)).fields.get("x-ratelimit-remaining")
        for method in ("GET", "POST", "DELETE")
    ]
    assert left == ["9", "7", "3"]
    assert (await client.get("/", method="DELETE")).status == 429
    assert await statuses(client, 3) == [200, 200, 200]
    assert (await client.get("/")).status == 429
    assert await statuses(client, 2, method="OPTIONS") == [200, 200]


async def test_the_upstream_says_what_it_cost(
    limited: Callable[..., Awaitable[Client]], origin: Origin
):
    client = await limited(
        'key = "ip"\nalgorithm = "fixed_window"\nlimit = 10\nwindow = "1h"\ncost_header = "X-Cost"'
    )
    for said, left in (("5", 5), ("0", 5), ("nonsense", 4), ("1", 3), ("9", 0)):
        origin.respond = answer(X_Cost=said)
        message = await client.get("/")
        assert message.status == 200 and "x-cost" not in message.fields
        assert problem(await client.get("/limits"))["limits"][0]["remaining"] == left, said
    assert (await client.get("/")).status == 429


async def test_only_answers_cost_something(
    limited: Callable[..., Awaitable[Client]], origin: Origin
):
    client = await limited(
        'key = "ip"\nalgorithm = "fixed_window"\nlimit = 2\nwindow = "1h"\n'
        'costs = { "*" = 0 }\ncost_header = "X-Videos"'
    )
    assert await statuses(client, 3) == [200, 200, 200]
    assert (await client.get("/")).fields["x-ratelimit-remaining"] == "2"
    origin.respond = answer(X_Videos="1")
    assert await statuses(client, 3) == [200, 200, 429]


async def test_a_quota_is_answered_403_until_the_day_ends(
    limited: Callable[..., Awaitable[Client]],
):
    client = await limited(
        'key = "ip"\nalgorithm = "quota"\nlimit = 2\nperiod = "day"\ntime_zone = "Asia/Kolkata"'
    )
    assert await statuses(client, 2) == [200, 200]
    refused = await client.get("/")
    assert (refused.status, problem(refused)["code"]) == (403, "RATE_002")
    assert (
        int(refused.fields["x-ratelimit-reset"]) % 86_400 == 66_600
    )  # midnight there, 18:30 in UTC
    assert "The quota" in problem(refused)["detail"]


async def test_a_shadow_refuses_nobody_and_is_not_shown(
    limited: Callable[..., Awaitable[Client]], start: Start
):
    client = await limited("""
        key = "ip"
        limit = 50
        window = "1h"
        rules = [{ name = "planned", key = "ip", limit = 1, window = "1h", shadow = true }]""")
    messages = [await client.get("/") for _ in range(3)]
    assert [one.status for one in messages] == [200, 200, 200]
    assert all("planned" not in one.fields["ratelimit-policy"] for one in messages)
    told = problem(await client.get("/limits"))["limits"]
    assert [(one["policy"], one.get("shadow", False)) for one in told] == [
        ("default", False),
        ("planned", True),
    ]


async def test_who_is_exempt_is_not_limited(limited: Callable[..., Awaitable[Client]]):
    client = await limited(
        'key = "ip"\nlimit = 1\nwindow = "1h"\nexempt = { networks = ["127.0.0.0/8"] }'
    )
    messages = [await client.get("/") for _ in range(3)]
    assert [one.status for one in messages] == [200, 200, 200]
    assert "ratelimit" not in messages[0].fields


@pytest.mark.parametrize(
    ("key", "paths", "headers", "expected"),
    [
        ('"header:X-Tenant"', ["/"] * 3, ["a", "a", "b"], [200, 429, 200]),
        ('["ip", "header:X-Tenant"]', ["/"] * 3, ["a", "b", "a"], [200, 200, 429]),
        ('"param:id"', ["/cameras/1", "/cameras/2", "/cameras/1"], [""] * 3, [200, 200, 429]),
        ('"route"', ["/cameras/1", "/cameras/2", "/other"], [""] * 3, [200, 429, 200]),
        (
            '"header:X-Tenant"',
            ["/"] * 3,
            ["x" * 500 + "1", "x" * 500 + "2", "x" * 500 + "1"],
            [200, 200, 429],
        ),
        ('"claim:org"', ["/"] * 2, [""] * 2, [200, 429]),
        ('"user"', ["/"] * 2, [""] * 2, [200, 429]),
    ],
)
async def test_keys(
    limited: Callable[..., Awaitable[Client]],
    key: str,
    paths: list[str],
    headers: list[str],
    expected: list[int],
):
    client = await limited(f'key = {key}\nlimit = 1\nwindow = "1h"')
    found = [
        (await client.get(path, *([f"X-Tenant: {value}"] if value else []))).status
        for path, value in zip(paths, headers, strict=True)
    ]
    assert found == expected


async def test_a_key_in_the_body(limited: Callable[..., Awaitable[Client]], origin: Origin):
    client = await limited('key = "body:email"\nlimit = 1\nwindow = "1h"')

    async def ask(body: bytes) -> int:
        return (await client.get("/reset", method="POST", body=body)).status

    assert [await ask(b'{"email": "%s"}' % one) for one in (b"a@b.c", b" A@B.C", b"d@e.f")] == [
        200,
        429,
        200,
    ]
    assert origin.bodies == [b'{"email": "a@b.c"}', b'{"email": "d@e.f"}']
    assert [await ask(body) for body in (b"[1]", b"not json")] == [200, 429]


async def test_so_many_at_a_time(start: Start, origin: Origin, connect: Connect):
    go = asyncio.Event()
    arrived = asyncio.Semaphore(0)

    async def respond(
        origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        arrived.release()
        await go.wait()
        if b"/break" in head:
            return False
        writer.write(answer())
        await writer.drain()
        return True

    origin.respond = respond
    gateway = await start(
        (
            f'request = ["rate_limit"]\n[rate_limit]\nkey = "ip"\nalgorithm = '
            f'"concurrency"\nlimit = '
            f"2\n{ROUTES}"
        ),
        f'[upstream.origin]\nurl = "{origin.url}"\n',
    )
    clients = [await connect(gateway) for _ in range(3)]
    both = [
        asyncio.create_task(one.get(path))
        for one, path in zip(clients, ("/", "/break"), strict=False)
    ]
    for _ in both:
        await arrived.acquire()
    refused = await clients[2].get("/")
    assert (refused.status, refused.fields["retry-after"]) == (429, "1")
    go.set()
    assert [one.status for one in await asyncio.gather(*both)] == [200, 502]
    go.clear()
    # One client leaves: its slot is free as soon as the gateway has noticed.
    both = [asyncio.create_task(clients[0].get("/"))]
    await arrived.acquire()
    await clients[1].send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    await arrived.acquire()
    assert (await clients[2].get("/")).status == 429
    clients[1].close()
    await until(lambda: gateway.telemetry.in_flight.get() <= 1)
    go.set()
    assert (await clients[2].get("/")).status == 200
    assert (await both[0]).status == 200


@pytest.mark.parametrize(
    ("table", "count"),
    [('algorithm = "sliding_log"\nlimit = 5\nwindow = "1s"', 7), ("tokens = 5\nrefill = 1", 6)],
)
async def test_a_client_that_waits_as_told_is_refused_once(
    limited: Callable[..., Awaitable[Client]], table: str, count: int
):
    client = await limited(f'key = "ip"\n{table}')
    refused = done = 0
    while done < count:
        message = await client.get("/")
        if message.status == 429:
            refused += 1
            await asyncio.sleep(int(message.fields["retry-after"]))
            assert (await client.get("/")).status == 200
        done += 1
    assert refused == 1
