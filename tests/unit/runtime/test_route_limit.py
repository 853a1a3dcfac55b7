from __future__ import annotations

import pytest

from gateway.config.tables.traffic import LimitConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.runtime.route_limit import RouteLimit
from gateway.upstream.pool.limiter import SAMPLES
from tests.exchange import exchange


def asked(seconds: float = 0.0, failed: Failed | None = None, attempts: int = 1) -> Exchange:
    return exchange(attempts=attempts, failed=failed, upstream_seconds=seconds)


def test_what_is_above_it_is_refused() -> None:
    limit = RouteLimit("few", LimitConfig(2))
    for _ in range(2):
        limit.enter(asked())
    with pytest.raises(Failed, match="route few: 2 requests") as refused:
        limit.enter(asked())
    assert refused.value.failure is Failure.OVERLOADED
    assert refused.value.headers == ((b"Retry-After", b"1"),)
    assert limit.live == 2


def test_a_place_is_given_back_once_whoever_ends_it() -> None:
    limit, later = RouteLimit("few", LimitConfig(2)), RouteLimit("few", LimitConfig(3))
    one, refused = asked(), asked()
    limit.enter(one)
    for _ in range(2):
        later.leave(one)
        later.leave(refused)
    assert (limit.live, later.live) == (0, 0)


@pytest.mark.parametrize(("status", "live"), [(101, 0), (200, 1)])
def test_a_tunnel_is_no_request_any_more(status: int, live: int) -> None:
    limit = RouteLimit("few", LimitConfig(2))
    one = asked()
    limit.enter(one)
    limit.answered(one, Reply(status))
    assert limit.live == live
    limit.leave(one)
    assert limit.live == 0


@pytest.mark.parametrize(
    ("failed", "attempts", "follows", "why"),
    [
        (None, 1, True, "an answer of the upstream's"),
        (Failed(Failure.READ_TIMEOUT), 1, False, "none"),
        (None, 0, False, "an answer of the gateway's own"),
    ],
)
def test_an_adaptive_one_follows_the_upstreams_answers(
    failed: Failed | None, attempts: int, follows: bool, why: str
) -> None:
    limit = RouteLimit("few", LimitConfig(100, adaptive=True, minimum=1))
    for seconds in [0.01] * 10 * SAMPLES + [1.0] * 4 * SAMPLES:
        one = asked(seconds, failed, attempts)
        limit.enter(one)
        limit.leave(one)
    assert (limit.limiter.limit < 100) is follows
