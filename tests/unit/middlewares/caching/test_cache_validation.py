"""Asking the origin whether what is stored still holds."""

from __future__ import annotations

import pytest

from tests.exchange import Stream
from tests.unit.middlewares.caching.world import MINUTE, TAGGED, Cached, answer, date, not_modified


def test_revalidation_freshens_what_is_stored():
    world = Cached()
    world.ask(
        answer(
            {**TAGGED, "Last-Modified": date(-10), "X-A": "1", "X-B": "1", "Content-Type": "a/b"}
        )
    )
    world.wait(100)
    news = not_modified(
        ("ETag", '"1"'),
        ("Cache-Control", "max-age=30"),
        ("X-A", "2"),
        ("Content-Type", "wrong"),
        ("Date", date(100)),
    )
    seen = world.ask(news)
    assert seen.sent is not None
    assert (seen.sent["If-None-Match"], seen.sent["If-Modified-Since"]) == ('"1"', date(-10))
    assert (seen.status, seen.body, seen.cache) == (200, b"body", "revalidated")
    assert seen.line == "gateway; fwd=stale; fwd-status=304"
    assert (seen.headers["X-A"], seen.headers["X-B"], seen.headers["Content-Type"]) == (
        "2",
        "1",
        "a/b",
    )
    assert "Age" not in seen.headers
    assert seen.reply is not None
    assert seen.reply.length == 4
    world.wait(29)
    hit = world.ask()
    assert (hit.cache, hit.headers["Age"], hit.headers["X-A"], hit.headers["Date"]) == (
        "hit",
        "29",
        "2",
        date(100),
    )
    assert len(world.memory) == 1
    assert world.counted("revalidated") == 1


def test_a_304_without_date_is_as_young_as_it_is():
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    world.ask(not_modified())
    assert world.ask().headers["Age"] == "0"


def test_a_304_from_another_cache_brings_its_age():
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(not_modified(("Age", "20"), ("Date", date(100))))
    assert seen.headers["Age"] == "20"
    world.wait(5)
    assert world.ask().headers["Age"] == "25"


def test_the_clients_condition_is_judged_after_revalidation():
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    headers = {"If-None-Match": '"0"', "If-Modified-Since": date(50)}
    seen = world.ask(not_modified(), headers=headers)
    assert seen.sent is not None
    assert seen.sent["If-None-Match"] == '"1"'
    assert "If-Modified-Since" not in seen.sent
    assert seen.status == 200
    world.wait(100)
    seen = world.ask(not_modified(("X-New", "1")), headers={"If-None-Match": '"1"'})
    assert (seen.status, seen.body, seen.cache, seen.headers["X-New"]) == (
        304,
        b"",
        "revalidated",
        "1",
    )
    assert world.ask().body == b"body"


def test_the_clients_condition_is_judged_on_a_new_answer_too():
    """It did not go to the origin: ours did."""
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(answer({**MINUTE, "ETag": '"2"'}, b"new"), headers={"If-None-Match": '"2"'})
    assert (seen.status, seen.body, seen.line) == (304, b"", "gateway; fwd=stale; stored")
    assert world.ask().body == b"new"


async def test_a_new_answer_that_streams_is_passed_on_whole():
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(
        answer({**MINUTE, "ETag": '"2"'}, Stream(b"new")), headers={"If-None-Match": '"2"'}
    )
    assert seen.status == 200
    assert await seen.read() == b"new"


def test_validation_by_date_drops_the_clients_tags():
    """An origin ignores If-Modified-Since next to If-None-Match (RFC 9110 section 13.1.3)."""
    world = Cached()
    world.ask(answer({**MINUTE, "Last-Modified": date(-10)}))
    world.wait(100)
    seen = world.ask(not_modified(), headers={"If-None-Match": '"9"'})
    assert seen.sent is not None
    assert "If-None-Match" not in seen.sent
    assert seen.sent["If-Modified-Since"] == date(-10)
    assert seen.status == 200


def test_what_other_hooks_add_and_drop_stays():
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    exchange = world.exchange(headers={"X-API-Key": "k"})
    exchange.forward_headers = [(b"X-A", b"1")]
    exchange.drop_headers = frozenset((b"x-api-key",))
    seen = world.begin(exchange)(not_modified())
    assert seen.sent is not None
    assert (seen.sent["X-A"], seen.sent["If-None-Match"]) == ("1", '"1"')
    assert "X-API-Key" not in seen.sent


def test_what_is_no_validator_is_not_asked_with():
    world = Cached({"stale_if_error": 60})
    world.ask(answer({**MINUTE, "ETag": "unquoted", "Last-Modified": "yesterday"}))
    world.wait(100)
    seen = world.ask(answer({}, b"new"), headers={"If-None-Match": '"client"'})
    assert seen.sent is not None
    assert seen.sent["If-None-Match"] == '"client"'
    assert "If-Modified-Since" not in seen.sent
    assert seen.cache == "expired"


def test_a_304_that_we_did_not_ask_for_is_the_clients():
    world = Cached({"stale_if_error": 60})
    world.ask(answer(MINUTE))
    world.wait(70)
    seen = world.ask(not_modified(("ETag", '"1"')), headers={"If-None-Match": '"1"'})
    assert (seen.status, seen.cache) == (304, "expired")


def test_a_304_about_something_else_updates_nothing():
    """RFC 9111 section 4.3.4."""
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(not_modified(("ETag", '"2"'), ("Cache-Control", "max-age=60")))
    assert (seen.status, seen.body, seen.headers["ETag"]) == (200, b"body", '"1"')
    assert len(world.memory) == 0


@pytest.mark.parametrize("said", ["no-store", "private", "max-age=60, no-store"])
def test_a_304_that_forbids_storing_removes(said: str):
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    assert world.ask(not_modified(("Cache-Control", said))).body == b"body"
    assert len(world.memory) == 0


def test_a_304_to_a_request_with_no_store_changes_nothing():
    """RFC 9111 section 5.2.1.5."""
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(not_modified(("X-A", "2")), headers={"Cache-Control": "no-store"})
    assert (seen.status, seen.headers["X-A"]) == (200, "2")
    assert world.ask(not_modified()).cache == "revalidated"


def test_a_304_with_another_vary_moves_the_response():
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    world.ask(not_modified(("Vary", "Accept")), headers={"Accept": "a"})
    assert len(world.memory) == 1
    assert world.ask(headers={"Accept": "a"}).cache == "hit"
    assert world.ask(answer({}), headers={"Accept": "b"}).line == "gateway; fwd=vary-miss"


def test_head_revalidates_and_gets_a_head():
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(not_modified(), method="HEAD")
    assert (seen.status, seen.body, seen.cache) == (200, b"", "revalidated")
    assert seen.reply is not None
    assert seen.reply.length == 4
    assert world.ask().body == b"body"


@pytest.mark.parametrize(
    ("why", "headers", "length", "kept"),
    [
        ("the same tag and length", {**TAGGED, "X-A": "2"}, 4, True),
        ("no length", {**TAGGED, "X-A": "2"}, None, True),
        ("another length", TAGGED, 5, False),
        ("another tag", {**MINUTE, "ETag": '"2"'}, 4, False),
    ],
)
def test_an_answer_to_head_freshens_or_removes(
    why: str, headers: dict[str, str], length: int | None, kept: bool
):
    """RFC 9111 section 4.3.5."""
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    seen = world.ask(answer({**headers, "Date": date(100)}, b"", length=length), method="HEAD")
    assert seen.line == "gateway; fwd=stale"
    assert len(world.memory) == kept
    if kept:
        assert world.ask().headers["X-A"] == "2"


def test_an_error_to_head_says_nothing_of_get():
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    world.ask(answer({}, b"", 403), method="HEAD")
    assert len(world.memory) == 1


@pytest.mark.parametrize(
    ("status", "kept"),
    [(200, False), (301, False), (404, False), (410, False), (403, True), (429, True), (500, True)],
)
def test_an_answer_that_is_not_stored_may_show_that_what_is_stored_is_outdated(
    status: int, kept: bool
):
    world = Cached()
    world.ask(answer(TAGGED))
    world.wait(100)
    assert (
        world.ask(answer({"Cache-Control": "no-store"}, b"", status)).line
        == "gateway; fwd=stale; detail=no-store"
    )
    assert len(world.memory) == kept
