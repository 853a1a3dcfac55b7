"""In which order endpoints come into question, and how a slow start grows."""

from __future__ import annotations

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import BreakerConfig
from gateway.upstream.pool.breaker import Breaker
from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.health import Active, Passive, Status
from gateway.upstream.pool.tiers import ALL, ramped_weight, tiers


def endpoint(name: str, status: str = "healthy", **more: object) -> Endpoint:
    one = Endpoint("x", EndpointConfig(f"http://{name}:80", **more))  # type: ignore[arg-type]
    one.health.active = Active(Status(status if status != "ejected" else "healthy"))
    if status == "ejected":
        one.health.passive = Passive((), 5.0)
    return one


CASES = [
    # description, endpoints, zone, try_all, tiers with somebody in them, in order
    (
        "the own zone first",
        [endpoint("a", zone="2"), endpoint("b", zone="1")],
        "1",
        False,
        ["b", "a"],
    ),
    (
        "without a zone they are all the same",
        [endpoint("a", zone="2"), endpoint("b")],
        "",
        False,
        ["ab"],
    ),
    (
        "healthy strangers before unknown neighbours",
        [endpoint("a", "unknown", zone="1"), endpoint("b")],
        "1",
        False,
        ["b", "a"],
    ),
    (
        "draining ones are nowhere",
        [endpoint("a", drain=True), endpoint("b", weight=0), endpoint("c")],
        "",
        False,
        ["c"],
    ),
    ("nobody is left", [endpoint("a", "ejected"), endpoint("b", "unhealthy")], "", False, []),
    (
        "then all of them",
        [endpoint("a", "ejected"), endpoint("b", "unhealthy", backup=True)],
        "",
        True,
        ["ab"],
    ),
    (
        "but not those that drain",
        [endpoint("a", "ejected"), endpoint("b", "unhealthy", drain=True)],
        "",
        True,
        ["a"],
    ),
    (
        "not while there is somebody",
        [endpoint("a", "ejected"), endpoint("b", "unknown", backup=True)],
        "",
        True,
        ["b"],
    ),
]


@pytest.mark.parametrize(
    ("endpoints", "zone", "try_all", "found"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_tiers(endpoints: list[Endpoint], zone: str, try_all: bool, found: list[str]) -> None:
    made = tiers(endpoints, zone, try_all)
    assert len(made) == ALL + 1
    assert ["".join(one.host for one in tier) for tier in made if tier] == found


def test_an_endpoint_with_an_open_circuit_is_in_none() -> None:
    one = endpoint("a")
    one.breaker = Breaker(BreakerConfig(failure_threshold=1))
    one.breaker.failure(0.0)
    assert not any(tiers([one], "", False))


def test_a_slow_start_grows_from_a_tenth() -> None:
    one = endpoint("a", weight=10)
    assert ramped_weight(one, 0.0, 20.0) == 10
    one.health.since = 100.0
    assert [ramped_weight(one, at, 20.0) for at in (100.0, 101.0, 110.0, 119.0, 120.0)] == [
        1,
        1,
        5,
        9.5,
        10,
    ]
