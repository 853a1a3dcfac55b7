"""One leased rule: credit is used without asking anybody, and everything else goes the long way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failed
from gateway.core.wait import Wait
from gateway.limits.algorithms import NEVER
from gateway.limits.leases import TERM
from gateway.middlewares import rate_limit
from gateway.middlewares.rate_limit.leased import LeasedLimiter
from gateway.store.stores import StoreDown
from tests.exchange import World, exchange


class Granting:
    """A store that grants whatever is wanted while its limit lasts, and is heard at the next turn
    of the loop."""

    def __init__(self, quota: float) -> None:
        self.left = quota
        self.asked = 0
        self.up = True
        self.failing = False
        self.gateways = 1
        self.since = NEVER
        self.name = "fake"
        self.leased_by_default = False

    def peek(self, key: bytes, terms: Sequence[bytes]) -> Wait[list[int]]:
        answer: Wait[list[int]] = Wait()
        if self.failing:
            answer.fail(StoreDown("away"))
        answer.wake([int(self.left * 1e6), 1, 1])
        return answer

    def lease(
        self, key: bytes, terms: Sequence[bytes], answered: Callable[[list[int] | None], None]
    ) -> None:
        self.asked += 1
        asyncio.get_running_loop().call_soon(
            answered, None if self.failing else self.granted(terms)
        )

    def granted(self, terms: Sequence[bytes]) -> list[int]:
        cost, wanted = float(terms[5]), float(terms[6])
        self.left -= cost
        granted = max(0.0, min(wanted, self.left))
        self.left -= granted
        told = [max(0.0, self.left), granted, 30.0, 0.0 if self.left >= 1 else 30.0, 1.0]
        return [int(one * 1e6) for one in told]


def made(store: Granting, world: World | None = None, **more: Any) -> Any:
    table = {"limit": 100, "window": "1h", "mode": "leased", "lease": 0.2, **more}
    return (world or World(now=100.0)).build(rate_limit, table, ledger=store).request


def asked(client: str = "acme", tier: str = "", **facts: Any) -> Exchange:
    return exchange(peer="192.0.2.1", identity=Identity(client, "api_key", tier), **facts)


@pytest.mark.parametrize(
    ("more", "short"),
    [
        ({}, True),
        ({"tiers": {"a": "b"}, "classes": {"b": {"limit": 5, "window": "1h"}}}, True),
        ({"exempt": {"clients": ["acme"]}}, True),
        ({"costs": {"GET": 2}}, False),
        ({"cost_header": "X-Cost"}, False),
        ({"shadow": True}, False),
        ({"key": "body:email"}, False),
        ({"mode": "exact"}, False),
        ({"rules": [{"key": "ip", "limit": 1, "window": "1h"}]}, False),
    ],
)
def test_which_rules_have_the_short_way(more: dict[str, Any], short: bool):
    assert (type(made(Granting(100), **more)) is LeasedLimiter) is short


@pytest.mark.parametrize(
    ("more", "mode"),
    [
        ({}, "leased"),
        ({"mode": "exact"}, "exact"),
        ({"mode": "leased"}, "leased"),
        ({"limit": 99}, "exact"),
        ({"limit": 99, "lease": 0.5}, "leased"),
        ({"algorithm": "sliding_log"}, "exact"),
        ({"algorithm": "concurrency", "window": None}, "exact"),
        ({"window": None, "limit": None, "tokens": 9, "refill": 1, "burst": 3}, "exact"),
        ({"window": None, "limit": None, "tokens": 900, "refill": 100, "burst": 400}, "leased"),
        (
            {
                "window": None,
                "limit": None,
                "tokens": 900,
                "refill": 100,
                "burst": 400,
                "costs": {"GET": 2},
            },
            "exact",
        ),
        ({"classes": {"b": {"limit": 5, "window": "1h", "burst": 2}}}, "leased"),
        ({"tiers": {"a": "b"}, "classes": {"b": {"limit": 5, "window": "1h"}}}, "exact"),
        (
            {
                "tiers": {"a": "b"},
                "algorithm": "token_bucket",
                "classes": {"b": {"tokens": 9, "refill": 1, "burst": 2}},
            },
            "exact",
        ),
    ],
)
def test_what_a_rule_without_a_mode_does_with_workers(more: dict[str, Any], mode: str):
    """Shares are taken ahead where that is possible and pays; with Redis only where a rule says
    so."""
    store = Granting(100)
    for by_default in (True, False):
        store.leased_by_default = by_default
        table = {"limit": 200, "window": "1h", **more}
        kept = {key: value for key, value in table.items() if value is not None}
        hook = World(now=100.0).build(rate_limit, kept, ledger=store).request
        expected = mode if by_default or "mode" in more else "exact"
        assert [rule.mode for rule in hook._rules] == [expected]


async def test_requests_near_the_end_of_a_limit_are_counted():
    store, world = Granting(100), World(now=100.0)
    hook = made(store, world)
    for _ in range(90):
        rest = hook(asked())
        if rest is not None:
            await rest
        await asyncio.sleep(0)
    assert list(world.telemetry.rate_near.values.values()) == [11]


async def test_credit_is_used_without_asking():
    store = Granting(100)
    hook = made(store)
    hook(asked())
    await asyncio.sleep(0)
    before = store.asked
    lefts = []
    for _ in range(5):
        exchange = asked()
        assert hook(exchange) is None
        lefts.append(exchange.reply_blocks[0].split(b"Remaining: ")[1].split(b"\r")[0])
    assert lefts == [b"98", b"97", b"96", b"95", b"94"]
    assert store.asked == before
    hook(asked())  # half of it is used: time to ask for more
    assert store.asked == before + 1
    assert exchange.reply_blocks[0].startswith(b"X-RateLimit-Limit: 100\r\n")


async def test_credit_that_lay_too_long_is_not_used():
    store = Granting(100)
    world = World(now=100.0)
    hook = made(store, world)
    hook(asked())
    await asyncio.sleep(0)
    world.now += TERM
    hook(asked())
    assert store.asked == 1
    explained = asked(explained=True)
    await hook(explained)
    assert store.left == 89 and explained.decisions is not None
    assert [one.why for one in explained.decisions] == [
        ('"default";q=100;w=3600 of client acme, leased in fake: 97 left after it')
    ]


async def test_a_failed_settlement_ends_the_short_way():
    store = Granting(100)
    hook = made(store, on_store_failure="closed")
    hook(asked())
    await asyncio.sleep(0)
    store.failing = True
    for _ in range(6):
        hook(asked())
    await asyncio.sleep(0)  # the settlement has failed, with four on credit
    with pytest.raises(Failed):
        hook(asked())


async def test_all_that_is_left_is_admitted_and_no_more():
    store = Granting(20)
    hook = made(store)
    admitted = 0
    for _ in range(60):
        try:
            rest = hook(asked())
            if rest is not None:
                await rest
            admitted += 1
        except Failed:
            pass
        await asyncio.sleep(0)
    assert admitted == 20


async def test_tiers_and_who_is_exempt():
    store = Granting(100)
    classes = {"small": {"limit": 0, "window": "1h"}}
    hook = made(store, tiers={"free": "small"}, classes=classes, exempt={"clients": ["probe"]})
    exempt = asked("probe")
    assert hook(exempt) is None and exempt.reply_blocks is None and store.asked == 0
    with pytest.raises(Failed):
        hook(asked(tier="free"))
    assert store.asked == 0


async def test_what_a_store_that_does_not_answer_would_say():
    store = Granting(100)
    hook = made(store, mode="exact")
    store.failing = True
    assert [one["remaining"] for one in await hook.status(asked())] == [100]
    store.up = False
    (told,) = await hook.status(asked())
    assert (told["remaining"], told["mode"]) == (100, "local_share")
