"""What operators read: repr, status, one word for all of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.upstream.pool.world import BREAKER, HEALTH, PASSIVE, World


def test_repr_reads_like_a_status_line() -> None:
    world = World("a", "b", passive_health=PASSIVE)
    world.pool.pick("")
    world.fail("a", 2)
    assert repr(world.pool) == "<Pool becamera least_connections, 1 of 2 eligible, 1 in flight>"
    assert repr(World("a", balance="ip_hash", circuit_breaker=BREAKER).pool) == (
        "<Pool becamera ip_hash, 1 of 1 eligible, 0 in flight, circuit closed>"
    )


STATUSES = [
    # description, settings, what happens, status
    ("all is well", {}, lambda world: None, "healthy"),
    ("nothing is known yet", {"health": HEALTH}, lambda world: None, "degraded"),
    (
        "one is out",
        {"health": HEALTH},
        lambda world: (world.probe("a", True), world.probe("b", *[False] * 3)),
        "degraded",
    ),
    (
        "nobody is left",
        {"health": HEALTH},
        lambda world: [world.probe(name, *[False] * 3) for name in "ab"],
        "unhealthy",
    ),
    (
        "the circuit is open",
        {"circuit_breaker": BREAKER},
        lambda world: world.fail("a", 3),
        "unhealthy",
    ),
]


@pytest.mark.parametrize(
    ("settings", "happen", "status"),
    [case[1:] for case in STATUSES],
    ids=[case[0] for case in STATUSES],
)
def test_status_in_a_word(
    settings: dict[str, Any], happen: Callable[[World], object], status: str
) -> None:
    world = World("a", "b", **settings)
    happen(world)
    assert world.pool.status()["status"] == status


def test_status_is_plain_and_current() -> None:
    world = World("a", "b", passive_health=PASSIVE, circuit_breaker=BREAKER)
    world.fail("a", 3)
    world.now += 5.0
    status = world.pool.status()
    assert json.loads(json.dumps(status)) == status
    assert status["circuit"] == {"state": "open", "failures": 3, "retry_after": 25.0}
    assert [(e["name"], e["status"], e["eligible"]) for e in status["endpoints"]] == [
        ("a:80", "ejected", False),
        ("b:80", "healthy", True),
    ]
    world.now += 25.0
    world.exchange()
    status = world.pool.status()
    assert status["status"] == "degraded"
    assert status["circuit"]["state"] == "half-open"
    world.reconfigure("a")
    status = world.pool.status()
    assert (status["name"], status["balance"], status["circuit"]) == (
        "becamera",
        "least_connections",
        None,
    )
    assert (status["in_flight"], status["retrying"], status["status"]) == (0, 0, "healthy")
