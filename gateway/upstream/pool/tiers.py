"""In which order a pool's endpoints come into question, from what is known about each. Pure; picking among them is pool.py's.

    healthy primaries, unknown primaries, healthy backups, unknown backups

each first those of the gateway's own zone, then the others. The last tier, of all whatever is known, is filled only when nobody
else is left and `on_empty` is "try_all". Who drains is in none.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.upstream.pool.endpoint import Endpoint
from gateway.upstream.pool.health import Status

ALL = 8
"""The number of the last tier."""

SLOWEST = 0.1
"""The share of its weight with which a slow start begins."""

STEPS = 10
"""In how many steps it grows."""


def tiers(endpoints: Iterable[Endpoint], zone: str, try_all: bool) -> list[list[Endpoint]]:
    """ALL + 1 lists of those that may be picked, first choice first. An endpoint whose own circuit is not closed is in none."""
    found: list[list[Endpoint]] = [[] for _ in range(ALL + 1)]
    last: list[Endpoint] = found[ALL]
    anybody = False
    for endpoint in endpoints:
        if endpoint.draining:
            continue
        last.append(endpoint)
        status = endpoint.health.status
        if status in (Status.HEALTHY, Status.UNKNOWN) and (endpoint.breaker is None or not endpoint.breaker.state):
            remote = bool(zone) and endpoint.zone != zone
            found[4 * endpoint.backup + 2 * (status is Status.UNKNOWN) + remote].append(endpoint)
            anybody = True
    if anybody or not try_all:
        last.clear()
    return found


def ramped_weight(endpoint: Endpoint, now: float, seconds: float) -> float:
    """The weight of an endpoint at `now`, so long after it joined or came back, when it takes `seconds` to get to all of it."""
    since = endpoint.health.since
    if since is None or now - since >= seconds:
        return endpoint.share
    return endpoint.share * max(SLOWEST, (now - since) / seconds)
