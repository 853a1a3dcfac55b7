"""Which of several upstreams requests go to."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Exchange, Identity, Reply
from gateway.upstream.shares import ByShares, point_of
from tests.exchange import exchange

WENT: list[str] = []


def target(name: str) -> Callable[[Exchange], Awaitable[Reply]]:
    return lambda exchange: WENT.append(name)  # type: ignore[func-returns-value]


def went(shares: ByShares, request: Exchange) -> str:
    WENT.clear()
    shares(request)
    return WENT[0]


def of_client(name: str) -> Exchange:
    return exchange(identity=Identity(name, "api_key"), peer="192.0.2.1")


def test_in_proportion() -> None:
    shares = ByShares([(target("a"), 95), (target("b"), 5), (target("c"), 0)], rng=random.Random(1))
    counts = Counter(went(shares, exchange()) for _ in range(10_000))
    assert counts.keys() == {"a", "b"}
    assert 400 < counts["b"] < 600


def test_sticky_clients_move_only_between_the_borders() -> None:
    few = ByShares([(target("a"), 95), (target("b"), 5)], sticky=True)
    more = ByShares([(target("a"), 90), (target("b"), 10)], sticky=True)
    clients = [f"client-{number}" for number in range(2_000)]
    before = {name: went(few, of_client(name)) for name in clients}
    assert before == {name: went(few, of_client(name)) for name in clients}
    after = {name: went(more, of_client(name)) for name in clients}
    assert all(after[name] == "b" for name in clients if before[name] == "b")
    assert 50 < Counter(before.values())["b"] < 150 < Counter(after.values())["b"] < 260


@given(st.text(max_size=20))
def test_points(client: str) -> None:
    assert 0 <= point_of(of_client(client)) < 1


def test_strangers_stay_by_address() -> None:
    assert point_of(exchange(peer="192.0.2.1")) == point_of(exchange("POST", peer="192.0.2.1"))
    assert point_of(exchange(peer="192.0.2.1")) != point_of(exchange(peer="192.0.2.2"))
