"""Several rules on one request, and what an upstream says about its cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import Hooks
from gateway.limits.algorithms import ALGORITHMS
from gateway.middlewares import rate_limit
from tests.exchange import World, exchange


class Caller:
    """One address that asks an upstream which says what each request has cost."""

    def __init__(self, **table: Any) -> None:
        self.world = World(now=1000.0)
        self.hooks: Hooks = self.world.build(
            rate_limit, {"key": "ip", "cost_header": "X-Cost", **table}
        )

    def ask(self) -> Exchange | None:
        """A request under way; None when it was refused."""
        assert self.hooks.request is not None
        request = exchange(peer="192.0.2.1")
        try:
            self.hooks.request(request)
        except Failed:
            return None
        return request

    def answer(self, request: Exchange, cost: str) -> None:
        assert self.hooks.response is not None
        reply = Reply(200, [(b"X-Cost", cost.encode())])
        self.hooks.response(request, reply)
        assert not reply.headers

    def left(self) -> int:
        told: list[dict[str, Any]] = self.hooks.request.status(exchange(peer="192.0.2.1"))  # type: ignore[union-attr]
        return int(told[0]["remaining"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("0", 100), ("1", 99), ("5", 95), ("2.5", 97), ("100", 0), ("3e7", 0), ("inf", 0), ("1e400", 0),
        ("-5", 100), ("-inf", 100), ("nan", 99), ("", 99), ("many", 99),
    ],
)  # fmt: skip
def test_what_an_upstream_says_is_held_to_the_limit(algorithm: str, said: str, left: int):
    caller = Caller(algorithm=algorithm, limit=100, window="1h")
    request = caller.ask()
    assert request is not None
    caller.answer(request, said)
    assert caller.left() == left


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_costs_nothing_after_all_does_not_make_room_in_the_next_window(algorithm: str):
    caller = Caller(algorithm=algorithm, limit=10, window="2s")
    before = [caller.ask() for _ in range(10)]
    assert None not in before and caller.ask() is None
    caller.world.now += 4.1
    now = [caller.ask() for _ in range(10)]
    assert None not in now
    for request in before:
        assert request is not None
        caller.answer(request, "0")
    assert caller.ask() is None
    for request in now[:3]:
        assert request is not None
        caller.answer(request, "0")
    assert [caller.ask() is not None for _ in range(4)] == [True, True, True, False]


def test_what_was_counted_by_another_limit_is_not_given_back():
    world = World(now=1000.0)
    tables = [
        {"key": "ip", "cost_header": "X-Cost", "limit": limit, "window": "1h"}
        for limit in (10, 100)
    ]
    first = world.build(rate_limit, tables[0])
    world.reload()
    second = world.build(rate_limit, tables[1])
    assert first.request is not None and second.request is not None and first.response is not None
    request = exchange(peer="192.0.2.1")
    first.request(request)
    world.reload()
    first.response(request, Reply(200, [(b"X-Cost", b"0")]))
    assert second.request.status(exchange(peer="192.0.2.1"))[0]["remaining"] == 90  # type: ignore[attr-defined]


class Ledger:
    """A ledger that leases what is wanted, 1,000 s ahead of our clock, and notes what it is told to
    give back."""

    name, gateways, up, leased_by_default = "fake", 1, True, False

    def __init__(self, world: World) -> None:
        self.world = world
        self.refunds: list[list[bytes]] = []

    def lease(
        self, key: bytes, terms: Sequence[bytes], answered: Callable[[list[int] | None], None]
    ) -> None:
        wanted, now = int(float(terms[6])), self.world.now + 1000
        answered([50_000_000, wanted * 1_000_000, 1, 0, int(now * 1e6)])

    def refund(self, key: bytes, terms: Sequence[bytes]) -> None:
        self.refunds.append([*terms[5:]])


async def test_what_was_on_lease_is_given_back_by_the_ledger_s_clock():
    world = World(now=1000.0)
    ledger = Ledger(world)
    table = {"key": "ip", "cost_header": "X-Cost", "mode": "leased", "limit": 100, "window": "100s"}
    hooks = world.build(rate_limit, table, ledger=ledger)
    assert hooks.request is not None and hooks.response is not None
    requests = [exchange(peer="192.0.2.1") for _ in range(2)]
    for request in requests:
        hooks.request(request)
        world.now += 10
    for request, cost in zip(requests, (b"0", b"7"), strict=True):
        hooks.response(request, Reply(200, [(b"X-Cost", cost)]))
    # Taken at 1000 here, and a token bucket may have had a second's refill more than was known
    # then.
    [[units, at, left, _]] = ledger.refunds
    assert (units, at) == (b"1", b"2000000000") and 50 <= float(left) <= 100
    world.close()
