"""Tiers: the order in which a pool's endpoints are considered, by what is known about each. Pure.

    healthy primaries, unknown primaries, healthy backups, unknown backups

Each comes first with the endpoints of the gateway's own zone, then with the others. The last tier,
of all endpoints whatever their health, is filled only when all others are empty and `on_empty` is
"try_all". Draining endpoints are in none.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.health import Status

ALL = 8
"""The number of the last tier."""

SLOWEST = 0.1
"""The fraction of its weight with which a slow start begins."""

STEPS = 10
"""The number of steps in which it grows."""


def tiers(endpoints: Iterable[Endpoint], zone: str, try_all: bool) -> list[list[Endpoint]]:
    """ALL + 1 lists of endpoints, first choice first. One whose own circuit is not closed is in
    none."""
    found: list[list[Endpoint]] = [[] for _ in range(ALL + 1)]
    last: list[Endpoint] = found[ALL]
    found_any = False
    for endpoint in endpoints:
        if endpoint.draining:
            continue
        last.append(endpoint)
        status = endpoint.health.status
        if status in (Status.HEALTHY, Status.UNKNOWN) and (
            endpoint.breaker is None or not endpoint.breaker.state
        ):
            remote = bool(zone) and endpoint.zone != zone
            found[4 * endpoint.backup + 2 * (status is Status.UNKNOWN) + remote].append(endpoint)
            found_any = True
    if found_any or not try_all:
        last.clear()
    return found


def ramped_weight(endpoint: Endpoint, now: float, seconds: float) -> float:
    """The weight at `now` of an endpoint that takes `seconds` to reach its full weight after it
    joined or came back."""
    since = endpoint.health.since
    if since is None or now - since >= seconds:
        return endpoint.share
    return endpoint.share * max(SLOWEST, (now - since) / seconds)
