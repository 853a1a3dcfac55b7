"""Replies to clients' conditions, and why answers are not stored."""

from __future__ import annotations

import pytest

from tests.unit.middlewares.caching.world import (
    ALICE,
    MINUTE,
    TAGGED,
    Cached,
    answer,
    date,
    not_modified,
)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": '"1"'}, 304),
        ({"If-None-Match": 'W/"1"'}, 304),
        ({"If-None-Match": '"0", "1"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"2"'}, 200),
        ({"If-Modified-Since": date(-10)}, 304),
        ({"If-Modified-Since": date(-11)}, 200),
        ({"If-None-Match": '"2"', "If-Modified-Since": date()}, 200),
    ],
)
def test_conditions_are_answered_from_the_store(headers: dict[str, str], status: int):
    world = Cached()
    stored = {
        **TAGGED,
        "Last-Modified": date(-10),
        "Content-Type": "a/b",
        "Vary": "Accept",
        "Content-Location": "/x",
    }
    world.ask(answer(stored))
    world.wait(3)
    seen = world.ask(headers=headers)
    assert (seen.status, seen.cache, seen.line) == (status, "hit", "gateway; hit; ttl=57")
    if status == 304:
        assert seen.body == b""
        assert seen.reply is not None
        assert seen.reply.length is None
        assert set(seen.headers) == {
            "Cache-Control",
            "ETag",
            "Vary",
            "Content-Location",
            "Date",
            "Age",
            "Cache-Status",
        }


def test_conditions_count_for_successful_answers_only():
    """RFC 9110 section 13.2.1."""
    world = Cached()
    world.ask(answer(TAGGED, status=404))
    assert world.ask(headers={"If-None-Match": '"1"'}).status == 404


def test_a_miss_passes_the_clients_conditions_on():
    world = Cached()
    seen = world.ask(
        not_modified(("ETag", '"1"'), *MINUTE.items()), headers={"If-None-Match": '"1"'}
    )
    assert seen.sent is not None
    assert seen.sent["If-None-Match"] == '"1"'
    assert (seen.status, seen.line) == (304, "gateway; fwd=uri-miss; detail=status")
    assert len(world.memory) == 0


@pytest.mark.parametrize(
    ("headers", "more", "why"),
    [
        ({"Cache-Control": "no-store"}, {}, "no-store"),
        ({"Cache-Control": "private, max-age=60"}, {}, "private"),
        ({"Cache-Control": "max-age=60, must-understand"}, {"status": 299}, "must-understand"),
        ({**MINUTE, "Set-Cookie": "a=b"}, {}, "set-cookie"),
        ({**MINUTE, "Content-Type": "text/event-stream"}, {}, "events"),
        ({**MINUTE, "Vary": "*"}, {}, "vary"),
        ({"Cache-Control": "max-age=0"}, {}, "stale"),
        ({"Cache-Control": "max-stale"}, {}, "unsaid"),
    ],
)
def test_cache_status_says_why_an_answer_is_not_stored(headers, more, why: str):
    """RFC 9211 section 2.8."""
    seen = Cached().ask(answer(headers, **more))
    assert seen.line == f"gateway; fwd=uri-miss; detail={why}"


def test_cache_status_says_whose_an_answer_is():
    for settings, headers, why in (
        ({}, {}, "; detail=authorization"),
        ({}, {"identity": ALICE}, "; detail=identity"),
        ({"private": True}, {"identity": ALICE}, "; stored"),
    ):
        asked = {"headers": {"Authorization": "Bearer t"}, **headers}
        seen = Cached(settings).ask(answer(MINUTE), **asked)
        assert seen.line == f"gateway; fwd=uri-miss{why}"
