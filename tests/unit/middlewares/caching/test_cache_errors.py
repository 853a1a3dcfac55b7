"""Stored responses that stand in for errors."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from tests.exchange import Stream
from tests.unit.middlewares.caching.world import DOWN, MINUTE, Cached, answer


@pytest.mark.parametrize(
    ("why", "stored", "settings", "headers", "wait", "stale"),
    [
        ("the origin allows it", "max-age=60, stale-if-error=30", {}, {}, 89, True),
        ("no longer", "max-age=60, stale-if-error=30", {}, {}, 91, False),
        ("the default allows it", "max-age=60", {"stale_if_error": "30s"}, {}, 89, True),
        (
            "the origin goes before the default",
            "max-age=60, stale-if-error=0",
            {"stale_if_error": "30s"},
            {},
            61,
            False,
        ),
        ("nobody allows it", "max-age=60", {}, {}, 61, False),
        (
            "the client allows it",
            "max-age=60",
            {},
            {"Cache-Control": "stale-if-error=30"},
            89,
            True,
        ),
        (
            "the client forbids it",
            "max-age=60, stale-if-error=30",
            {},
            {"Cache-Control": "stale-if-error=0"},
            61,
            False,
        ),
        ("must-revalidate", "max-age=60, must-revalidate, stale-if-error=30", {}, {}, 61, False),
        ("s-maxage", "s-maxage=60, stale-if-error=30", {}, {}, 61, False),
        ("no-cache", "max-age=60, no-cache, stale-if-error=30", {}, {}, 61, False),
        (
            "the client insists on news",
            "max-age=60, stale-if-error=30",
            {},
            {"Cache-Control": "no-cache"},
            1,
            False,
        ),
    ],
)
@pytest.mark.parametrize(
    "error",
    [503, 500, 502, 504, Failure.CONNECT_FAILED, Failure.CIRCUIT_OPEN, Failure.READ_TIMEOUT],
)
def test_stale_if_error(
    why: str,
    stored: str,
    settings: dict[str, Any],
    headers: dict[str, str],
    wait: float,
    stale: bool,
    error: Any,
):
    """RFC 5861 section 4: for statuses and for failures alike."""
    world = Cached(settings)
    world.ask(answer({"Cache-Control": stored, "ETag": '"1"'}))
    world.wait(wait)
    seen = world.ask(
        answer({}, b"down", error) if isinstance(error, int) else Failed(error), headers=headers
    )
    if stale:
        assert (seen.status, seen.body, seen.cache) == (200, b"body", "stale")
        assert seen.headers["Age"] == str(wait)
        went = f"; fwd-status={error}" if isinstance(error, int) else ""
        assert seen.line == f"gateway; fwd=stale{went}; ttl={60 - wait}; detail=stale-if-error"
        assert world.counted("stale") == 1
    else:
        assert seen.status == (error if isinstance(error, int) else error.status)
        assert seen.cache in ("expired", "bypass")


def test_an_origin_that_was_not_asked_at_all():
    world = Cached({"stale_if_error": "1h"})
    world.ask(answer(MINUTE))
    world.wait(61)
    exchange = world.exchange()
    assert world.hooks.request is not None
    assert world.hooks.error is not None
    assert world.hooks.request(exchange) is None
    reply = world.hooks.error(exchange, Failed(Failure.CIRCUIT_OPEN))
    assert isinstance(reply, Reply)
    assert reply.blocks == [
        b"Age: 61\r\nCache-Status: gateway; hit; ttl=-1; detail=stale-if-error\r\n"
    ]


@pytest.mark.parametrize(
    "failure",
    [Failure.RATE_LIMITED, Failure.UNAUTHENTICATED, Failure.MALFORMED, Failure.CLIENT_GONE],
)
def test_refusals_are_no_errors_of_the_origin(failure: Failure):
    world = Cached({"stale_if_error": "1h"})
    world.ask(answer(MINUTE))
    world.wait(61)
    assert world.ask(Failed(failure)).reply is None


def test_an_error_with_nothing_stored_stays_one():
    world = Cached({"stale_if_error": "1h"})
    assert world.ask(DOWN).reply is None
    assert world.ask(answer({}, b"", 503)).status == 503
    assert world.ask(DOWN, method="POST").reply is None


def test_a_request_that_passed_by_gets_its_error():
    world = Cached({"stale_if_error": "1h"})
    world.ask(answer(MINUTE))
    assert world.ask(DOWN, headers={"If-Match": "*"}).reply is None


def test_a_response_invalidated_meanwhile_does_not_stand_in():
    world = Cached({"stale_if_error": "1h"})
    world.ask(answer(MINUTE))
    world.wait(61)
    complete = world.begin(world.exchange())
    world.ask(answer({}, b"", 204), method="PUT")
    assert complete(DOWN).reply is None


def test_an_error_that_streams_is_given_up_for_the_stale_response():
    world = Cached({"stale_if_error": "1h"})
    world.ask(answer(MINUTE))
    world.wait(61)
    stream = Stream(b"down")
    assert world.ask(answer({}, stream, 503)).body == b"body"
    assert stream.aborted == 1


def test_responses_are_kept_only_for_errors_if_that_is_all_they_are_good_for():
    world = Cached({"stale_if_error": "1h"})
    world.ask(answer({"Cache-Control": "max-age=0"}))
    assert world.ask(answer({"Cache-Control": "max-age=0"})).cache == "expired"
    assert world.ask(DOWN).cache == "stale"
    useless = Cached().ask(answer({"Cache-Control": "max-age=0"}))
    assert useless.line == "gateway; fwd=uri-miss; detail=stale"
