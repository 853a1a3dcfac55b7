"""Who gets the next request: shares, ties, limits, and how little moves when an endpoint goes."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.tables.endpoints import EndpointConfig
from gateway.upstream.pool.balancing import (
    Endpoints,
    LeastConnections,
    Rendezvous,
    RoundRobin,
    WeightedRandom,
    choose,
    lightest,
)
from gateway.upstream.pool.endpoint import Endpoint

BALANCERS = ["least_connections", "round_robin", "random", "ip_hash"]


def endpoints(*weights: int, limits: tuple[int, ...] = ()) -> Endpoints:
    return tuple(
        Endpoint(
            "u",
            EndpointConfig(f"http://10.0.0.{number}:80", weight, limits[number] if limits else 0),
        )
        for number, weight in enumerate(weights)
    )


def simulate(
    picked: Endpoints,
    concurrent: int,
    requests: int,
    service: Callable[[Endpoint], float],
    seed: int = 1,
) -> Counter[Endpoint]:
    """`concurrent` clients, each sending its next request when the last was answered. Service times
    are exponential."""
    rng = random.Random(seed)
    balancer = LeastConnections()
    shares: Counter[Endpoint] = Counter()
    numbers = itertools.count()
    under_way: list[tuple[float, int, Endpoint]] = []
    now = 0.0
    for sent in range(requests):
        if sent >= concurrent:
            now, _, done = heapq.heappop(under_way)
            done.in_flight -= 1
        endpoint = balancer.pick(picked, "", ())
        assert endpoint is not None
        endpoint.in_flight += 1
        shares[endpoint] += 1
        heapq.heappush(
            under_way, (now + rng.expovariate(1 / service(endpoint)), next(numbers), endpoint)
        )
    return shares


def test_shares_approach_the_weights() -> None:
    weighted = endpoints(3, 2, 1)
    shares = simulate(weighted, 64, 30_000, lambda endpoint: 1.0)
    for endpoint in weighted:
        assert shares[endpoint] / 30_000 == pytest.approx(endpoint.weight / 6, rel=0.05)


@pytest.mark.parametrize("number", [2, 3, 7])
def test_equal_endpoints_get_equal_shares(number: int) -> None:
    shares = simulate(endpoints(*[1] * number), 5, 20_000, lambda endpoint: 1.0)
    assert len(shares) == number
    assert max(shares.values()) / min(shares.values()) < 1.05


@pytest.mark.parametrize("weights", [(1, 1, 1), (1, 1), (2, 1, 1)])
def test_a_slow_endpoints_share_falls(weights: tuple[int, ...]) -> None:
    served = endpoints(*weights)
    fair = Fraction(weights[0], sum(weights))
    shares = simulate(served, 64, 20_000, lambda endpoint: 10.0 if endpoint is served[0] else 1.0)
    assert 0 < shares[served[0]] / 20_000 < fair / 3


@pytest.mark.parametrize("number", [1, 2, 3, 20, 21, 200])
def test_idle_endpoints_take_turns(number: int) -> None:
    idle = endpoints(*[2] * number)
    balancer = LeastConnections()
    shares = Counter(balancer.pick(idle, "", ()) for _ in range(10 * number))
    assert set(shares.values()) == {10}
    assert len(shares) == number


def test_a_busy_endpoint_does_not_hand_its_share_to_its_neighbour() -> None:
    # With a start that turns, whoever stands behind the heavy one would win every tie.
    heavy, one, other = served = endpoints(2, 1, 1)
    balancer = LeastConnections()
    shares: Counter[Endpoint] = Counter()
    for _ in range(40):
        first = balancer.pick(served, "", ())
        assert first is heavy
        heavy.in_flight = 1
        second = balancer.pick(served, "", ())
        assert second is not None
        heavy.in_flight = 0
        shares[second] += 1
    assert shares == {one: 20, other: 20}


class TestMany:
    """More endpoints than are all looked at."""

    def test_shares_approach_the_weights(self) -> None:
        weighted = endpoints(*[3, 2, 1] * 20)
        shares = simulate(weighted, 640, 60_000, lambda endpoint: 1.0)
        for weight in (1, 2, 3):
            share = sum(shares[endpoint] for endpoint in weighted if endpoint.weight == weight)
            assert share / 60_000 == pytest.approx(weight / 6, rel=0.1)

    def test_slow_ones_that_stand_together_get_little(self) -> None:
        served = endpoints(*[1] * 100)
        shares = simulate(
            served, 300, 30_000, lambda endpoint: 50.0 if endpoint in served[:30] else 1.0
        )
        # Each takes a fiftieth of what the others do; all of them are full of requests for most of
        # the time.
        assert sum(shares[endpoint] for endpoint in served[:30]) / 30_000 < 0.03

    def test_as_even_as_looking_at_all(self) -> None:
        served = endpoints(*[1] * 100)
        balancer = LeastConnections()
        for _ in range(500):
            chosen = balancer.pick(served, "", ())
            assert chosen is not None
            chosen.in_flight += 1
        assert {endpoint.in_flight for endpoint in served} == {5}

    def test_full_and_tried_ones_are_passed_over_though_only_one_is_left(self) -> None:
        served = endpoints(*[1] * 50, limits=(1,) * 50)
        for endpoint in served[1:]:
            endpoint.in_flight = 1
        balancer = LeastConnections()
        assert {balancer.pick(served, "", ()) for _ in range(60)} == {served[0]}
        assert balancer.pick(served, "", (served[0],)) is None


LOADS = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 60), st.integers(0, 40)), max_size=8)


def loaded(loads: list[tuple[int, int, int]]) -> Endpoints:
    made = endpoints(
        *[weight for weight, _, _ in loads], limits=tuple(limit for _, _, limit in loads)
    )
    for endpoint, (_, in_flight, _) in zip(made, loads, strict=True):
        endpoint.in_flight = in_flight
    return made


@given(loads=LOADS, limited=st.booleans(), equal=st.booleans(), tried=st.sets(st.integers(0, 7)))
def test_least_connections_takes_the_smallest_quotient(
    loads: list[tuple[int, int, int]], limited: bool, equal: bool, tried: set[int]
) -> None:
    served = loaded(
        [
            (1 if equal else weight, in_flight, limit if limited else 0)
            for weight, in_flight, limit in loads
        ]
    )
    passed_over = [served[number] for number in tried if number < len(served)]
    left = [
        e
        for e in served
        if e not in passed_over and not (e.max_connections and e.in_flight >= e.max_connections)
    ]
    balancer = LeastConnections()
    for _ in range(3):
        chosen = balancer.pick(served, "", passed_over)
        if not left:
            assert chosen is None
            return
        assert chosen in left
        assert Fraction(chosen.in_flight + 1, chosen.weight) == min(
            Fraction(e.in_flight + 1, e.weight) for e in left
        )
        assert lightest(served, passed_over) in left


@given(
    loads=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 3)), min_size=1, max_size=6),
    rounds=st.integers(1, 40),
    limit=st.sampled_from([0, 1000]),
)
def test_ties_go_to_whoever_waits_longest(
    loads: list[tuple[int, int]], rounds: int, limit: int
) -> None:
    served = loaded([(weight, in_flight, limit) for weight, in_flight in loads])
    balancer = LeastConnections()
    last = {endpoint: -len(served) + number for number, endpoint in enumerate(served)}
    for turn in range(rounds):
        chosen = balancer.pick(served, "", ())
        lowest = min(Fraction(e.in_flight + 1, e.weight) for e in served)
        assert chosen is min(
            (e for e in served if Fraction(e.in_flight + 1, e.weight) == lowest),
            key=last.__getitem__,
        )
        last[chosen] = turn
        if turn % 2:
            chosen.in_flight += 1


def test_round_robin_is_smooth() -> None:
    a, b, c = served = endpoints(5, 1, 1)
    balancer = RoundRobin()
    assert [balancer.pick(served, "", ()) for _ in range(7)] == [a, a, b, a, c, a, a]


@given(weights=st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_round_robin_is_exact_over_every_round(weights: list[int]) -> None:
    served = endpoints(*weights)
    balancer = RoundRobin()
    for _ in range(2):
        shares = Counter(balancer.pick(served, "", ()) for _ in range(sum(weights)))
        assert [shares[endpoint] for endpoint in served] == weights


def test_round_robin_with_equal_weights_is_plain_turns() -> None:
    served = endpoints(1, 1, 1, 1)
    balancer = RoundRobin()
    assert [balancer.pick(served, "", ()) for _ in range(8)] == [*served, *served]


def test_random_follows_the_weights() -> None:
    served = endpoints(3, 2, 1)
    balancer = WeightedRandom(random.Random(7))
    shares = Counter(balancer.pick(served, "", ()) for _ in range(12_000))
    for endpoint in served:
        assert shares[endpoint] / 12_000 == pytest.approx(endpoint.weight / 6, rel=0.1)


def test_random_follows_the_weights_of_those_that_are_not_full() -> None:
    served = endpoints(3, 2, 1, limits=(1, 0, 0))
    served[0].in_flight = 1
    balancer = WeightedRandom(random.Random(7))
    shares = Counter(balancer.pick(served, "", ()) for _ in range(6_000))
    assert shares[served[0]] == 0
    assert shares[served[1]] / 6_000 == pytest.approx(2 / 3, rel=0.1)


class Highest(random.Random):
    def random(self) -> float:
        return 1.0


def test_random_survives_a_draw_of_one() -> None:
    served = endpoints(1, 1)
    assert WeightedRandom(Highest()).pick(served, "", ()) is served[1]


KEYS = [f"192.0.2.{number}" for number in range(256)] + [
    f"2001:db8::{number:x}" for number in range(744)
]


def test_ip_hash_keeps_a_client_at_its_endpoint() -> None:
    served = endpoints(1, 1, 1)
    first, second = Rendezvous(), Rendezvous()
    for key in KEYS[:50]:
        chosen = first.pick(served, key, ())
        assert chosen is not None
        chosen.in_flight += 10
        assert first.pick(served, key, ()) is chosen
        assert second.pick(tuple(reversed(served)), key, ()) is chosen


def test_ip_hash_is_the_same_in_every_process() -> None:
    served = endpoints(1, 1, 1)
    chosen = [
        Rendezvous().pick(served, key, ())
        for key in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "")
    ]
    assert [endpoint.host[-1] for endpoint in chosen if endpoint] == ["2", "2", "1", "1", "0"]


def test_ip_hash_follows_the_weights() -> None:
    served = endpoints(3, 2, 1)
    balancer = Rendezvous()
    shares = Counter(balancer.pick(served, f"10.{n // 256}.{n % 256}.7", ()) for n in range(12_000))
    for endpoint in served:
        assert shares[endpoint] / 12_000 == pytest.approx(endpoint.weight / 6, rel=0.1)


@given(weights=st.lists(st.integers(1, 9), min_size=2, max_size=8), data=st.data())
def test_ip_hash_moves_only_the_clients_of_who_goes(
    weights: list[int], data: st.DataObject
) -> None:
    served = endpoints(*weights)
    gone = data.draw(st.sampled_from(served))
    left = tuple(endpoint for endpoint in served if endpoint is not gone)
    balancer = Rendezvous()
    before = {key: balancer.pick(served, key, ()) for key in KEYS[200:300]}
    after = {key: balancer.pick(left, key, ()) for key in before}
    assert gone not in after.values()
    assert all(after[key] is before[key] for key in before if before[key] is not gone)
    # Who is tried, or full, is as good as gone.
    assert {key: balancer.pick(served, key, (gone,)) for key in before} == after
    gone.max_connections = gone.in_flight = 1
    assert {key: balancer.pick(served, key, ()) for key in before} == after
    gone.in_flight = 0
    assert {key: balancer.pick(served, key, ()) for key in before} == before


def test_ip_hash_remembers_a_bounded_number_of_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rendezvous, "MEMO", 10)
    served = endpoints(1, 1, 1)
    balancer = Rendezvous()
    first = [balancer.pick(served, key, ()) for key in KEYS[:100]]
    assert 0 < len(balancer._winners) <= 10
    assert [balancer.pick(served, key, ()) for key in KEYS[:100]] == first


def test_ip_hash_takes_keys_that_are_no_text() -> None:
    assert Rendezvous().pick(endpoints(1), "\udcff", ()) is not None


@pytest.mark.parametrize("name", BALANCERS)
def test_nobody_is_eligible(name: str) -> None:
    balancer = choose(name, random.Random(1))
    assert balancer.pick((), "key", ()) is None
    served = endpoints(1, 1)
    assert balancer.pick(served, "key", ()) in served
    assert balancer.pick((), "key", ()) is None
    assert balancer.pick((), "key", served) is None


@pytest.mark.parametrize("name", BALANCERS)
@pytest.mark.parametrize("weights", [(1,), (1, 1), (2, 1), (1, 1, 1), (3, 2, 1)], ids=str)
def test_those_tried_are_passed_over(name: str, weights: tuple[int, ...]) -> None:
    balancer = choose(name, random.Random(1))
    served = endpoints(*weights)
    tried: list[Endpoint] = []
    for _ in served:
        chosen = balancer.pick(served, "key", tried)
        assert chosen is not None and chosen not in tried
        tried.append(chosen)
    assert balancer.pick(served, "key", tried) is None


@pytest.mark.parametrize("name", BALANCERS)
def test_those_that_are_full_are_passed_over(name: str) -> None:
    balancer = choose(name, random.Random(1))
    served = endpoints(5, 1, 1, limits=(2, 3, 1))
    for left in range(6, 0, -1):
        chosen = balancer.pick(served, f"key {left}", ())
        assert chosen is not None
        chosen.in_flight += 1
    assert [endpoint.in_flight for endpoint in served] == [2, 3, 1]
    assert balancer.pick(served, "key", ()) is None
    served[1].in_flight -= 1
    assert balancer.pick(served, "key", ()) is served[1]


@pytest.mark.parametrize("name", BALANCERS)
def test_another_tuple_is_looked_at_anew(name: str) -> None:
    balancer = choose(name, random.Random(1))
    before, after = endpoints(1, 1, 1), endpoints(1, 1)
    for _ in range(5):
        assert balancer.pick(before, "key", ()) in before
        assert balancer.pick(after, "key", ()) in after


def test_names_mean_balancers() -> None:
    kinds = {name: type(choose(name, random.Random(1))) for name in BALANCERS}
    assert kinds == {
        "least_connections": LeastConnections,
        "round_robin": RoundRobin,
        "random": WeightedRandom,
        "ip_hash": Rendezvous,
    }


# Two choices.


def test_two_choices_prefer_the_less_loaded_by_weight() -> None:
    light, heavy = (
        Endpoint("x", EndpointConfig("http://a:1")),
        Endpoint("x", EndpointConfig("http://b:1", weight=4)),
    )
    balancer = choose("random_two", random.Random(3))
    light.in_flight = heavy.in_flight = 2
    assert {balancer.pick((light, heavy), "", ()) for _ in range(20)} == {heavy}
    heavy.in_flight = 20
    assert {balancer.pick((light, heavy), "", ()) for _ in range(20)} == {light}
    assert balancer.pick((light, heavy), "", (light,)) is heavy
    assert balancer.pick((light,), "", ()) is light
    assert balancer.pick((), "", ()) is None
    light.max_connections = heavy.max_connections = 1
    assert balancer.pick((light, heavy), "", ()) is None


def test_two_choices_keep_many_endpoints_level() -> None:
    endpoints = tuple(Endpoint("x", EndpointConfig(f"http://a:{port}")) for port in range(1, 51))
    balancer = choose("random_two", random.Random(3))
    for _ in range(500):
        picked = balancer.pick(endpoints, "", ())
        assert picked is not None
        picked.in_flight += 1
    assert max(one.in_flight for one in endpoints) <= 13
    assert min(one.in_flight for one in endpoints) >= 7
