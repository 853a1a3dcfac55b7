"""Parts of responses: sent of what is stored, stored as they come, put together."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Reply
from tests.exchange import Stream
from tests.unit.middlewares.caching.world import MINUTE, TAGGED, Cached, answer, date, not_modified

BODY = b"0123456789"


def part(first: int, last: int, headers: dict[str, str] = TAGGED, body: bytes = BODY, **more):
    said = {**headers, "Content-Range": f"bytes {first}-{last}/{len(body)}"}
    return answer(said, body[first : last + 1], 206, **more)


def wants(field: str, **more: str) -> dict[str, str]:
    return {"Range": f"bytes={field}", **{name.replace("_", "-"): v for name, v in more.items()}}


@pytest.mark.parametrize(
    ("asked", "expected", "said"),
    [
        ("0-1", b"01", "bytes 0-1/10"),
        ("1-", b"123456789", "bytes 1-9/10"),
        ("-1", b"9", "bytes 9-9/10"),
        ("-99", BODY, "bytes 0-9/10"),
        ("5-99", b"56789", "bytes 5-9/10"),
    ],
)
def test_a_part_of_what_is_stored(asked: str, expected: bytes, said: str):
    """RFC 9110 section 14.2: the origin is not asked."""
    world = Cached()
    world.ask(answer({**TAGGED, "Content-Type": "text/plain"}, BODY))
    world.wait(5)
    seen = world.ask(headers=wants(asked))
    assert (seen.status, seen.body, seen.cache) == (206, expected, "hit")
    assert seen.reply.length == len(expected)  # type: ignore[union-attr]
    assert seen.headers["Content-Range"] == said
    assert seen.headers["Content-Type"] == "text/plain"
    assert seen.line == "gateway; hit; ttl=55"
    assert world.ask().body == BODY


def test_a_part_that_is_not_there():
    """RFC 9110 section 15.5.17."""
    world = Cached()
    world.ask(answer({**TAGGED, "Content-Type": "text/plain"}, BODY))
    seen = world.ask(headers=wants("10-"))
    assert (seen.status, seen.body) == (416, b"")
    assert seen.headers["Content-Range"] == "bytes */10"
    assert "Content-Type" not in seen.headers


@pytest.mark.parametrize(
    ("why", "headers", "status"),
    [
        ("the tag", {"If-Range": '"1"'}, 206),
        ("another tag", {"If-Range": '"2"'}, 200),
        ("a weak tag", {"If-Range": 'W/"1"'}, 200),
        ("the client has all of it", {"If-None-Match": '"1"'}, 304),
        ("it has something else", {"If-None-Match": '"2"'}, 206),
    ],
)
def test_conditions_go_before_parts(why: str, headers: dict[str, str], status: int):
    """RFC 9110 section 13.2.2."""
    world = Cached()
    world.ask(answer(TAGGED, BODY))
    seen = world.ask(headers={**wants("2-3"), **headers})
    assert seen.status == status, why
    if status != 304:
        assert seen.body == (b"23" if status == 206 else BODY)


def test_there_are_no_parts_of_other_statuses_of_nothing_or_for_head():
    world = Cached()
    world.ask(answer(MINUTE, b"gone", 410))
    assert world.ask(headers=wants("0-1")).status == 410
    world.ask(answer(MINUTE, b""), target="/empty")
    assert world.ask(target="/empty", headers=wants("0-1")).status == 200
    world.ask(answer(MINUTE, BODY), target="/head")
    seen = world.ask(method="HEAD", target="/head", headers=wants("0-1"))
    assert (seen.status, seen.body, seen.reply.length) == (200, b"", 10)  # type: ignore[union-attr]


def test_a_part_is_stored_and_smaller_ones_are_sent_of_it():
    world = Cached()
    first = world.ask(part(2, 6), headers=wants("2-6"))
    assert first.sent is not None
    assert (first.sent["Range"], first.line) == ("bytes=2-6", "gateway; fwd=uri-miss; stored")
    for asked, expected in (("2-6", b"23456"), ("3-4", b"34")):
        seen = world.ask(headers=wants(asked))
        assert (seen.status, seen.body, seen.cache) == (206, expected, "hit")
    assert seen.headers["Content-Range"] == "bytes 3-4/10"
    assert world.ask(headers=wants("10-")).status == 416
    for headers in (wants("6-7"), wants("-3"), wants("0-"), {}, wants("3-4", If_Range='"2"')):
        asked = world.ask(answer({}, BODY), headers=headers)
        assert (asked.cache, asked.line) == ("miss", "gateway; fwd=partial")
    assert world.ask(answer({}, b""), method="HEAD").line == "gateway; fwd=partial"
    assert world.explain()[0].why == "another part is stored of http://api.example.com/thing"


def test_parts_become_longer_and_whole():
    """RFC 9111 section 3.4: with one strong tag, and the fields of the later part."""
    world = Cached()
    world.ask(part(4, 6), headers=wants("4-6"))
    world.ask(part(0, 4, {**TAGGED, "X-A": "new"}), headers=wants("0-4"))
    assert world.ask(headers=wants("1-5")).body == b"12345"
    world.ask(part(7, 9), headers=wants("7-"))
    seen = world.ask()
    assert (seen.status, seen.body, seen.cache) == (200, BODY, "hit")
    assert seen.headers["X-A"] == "new"
    assert "Content-Range" not in seen.headers


@pytest.mark.parametrize(
    ("why", "second"),
    [
        ("a gap", part(8, 9)),
        ("another tag", part(5, 9, {**MINUTE, "ETag": '"2"'})),
        ("a weak tag", part(5, 9, {**MINUTE, "ETag": 'W/"1"'})),
        ("no tag", part(5, 9, MINUTE)),
        ("another length", part(5, 10, TAGGED, BODY + b"a")),
    ],
)
def test_parts_that_do_not_fit_take_the_place_of_others(why: str, second: Reply):
    world = Cached()
    world.ask(part(0, 4), headers=wants("0-4"))
    world.ask(second, headers=wants("5-"))
    assert world.ask(headers=wants("8-9")).body == b"89", why
    assert world.ask(answer({}), headers=wants("0-4")).line == "gateway; fwd=partial"


def test_a_part_freshens_what_is_whole():
    world = Cached()
    world.ask(answer({**TAGGED, "X-A": "old", "X-B": "old"}, BODY))
    world.wait(61)
    seen = world.ask(part(0, 1, {**TAGGED, "X-A": "new"}), headers=wants("0-1"))
    assert seen.sent is not None
    assert seen.sent["If-None-Match"] == '"1"'
    assert (seen.status, seen.cache) == (206, "expired")
    whole = world.ask()
    assert (whole.cache, whole.body) == ("hit", BODY)
    assert (whole.headers["X-A"], whole.headers["X-B"]) == ("new", "old")


@pytest.mark.parametrize(
    ("tag", "kept"), [({}, True), ({"ETag": '"1"'}, True), ({"ETag": '"2"'}, False)]
)
def test_a_part_takes_the_place_of_what_is_whole_only_if_that_is_another(tag, kept):
    """All of it can stand in for a failing origin, which a part cannot."""
    world = Cached({"stale_if_error": "1h"})
    world.ask(answer({**MINUTE, **({"ETag": '"1"'} if tag else {})}, BODY))
    world.wait(61)
    world.ask(part(0, 1, {**MINUTE, **tag}), headers=wants("0-1"))
    world.wait(61)
    found = world.ask(answer({}, b"", 503))
    assert (found.status, found.body) == ((200, BODY) if kept else (503, b""))


def test_what_is_stale_is_asked_about_and_a_part_of_it_sent():
    for stored in (answer(TAGGED, BODY), part(2, 6)):
        world = Cached()
        world.ask(stored, headers=wants("2-6"))
        world.wait(61)
        seen = world.ask(not_modified(("Cache-Control", "max-age=60")), headers=wants("3-4"))
        assert (seen.status, seen.body, seen.cache) == (206, b"34", "revalidated")
        assert seen.headers["Content-Range"] == "bytes 3-4/10"
        assert world.ask(headers=wants("2-3")).body == b"23"


def test_a_part_stands_in_for_an_error():
    world = Cached({"stale_if_error": "1h"})
    world.ask(part(2, 6), headers=wants("2-6"))
    world.wait(61)
    assert world.ask(answer({}, b"", 503), headers=wants("3-4")).body == b"34"
    assert world.ask(answer({}, b"", 503), headers=wants("0-4")).status == 503
    assert world.ask(answer({}, b"", 503)).status == 503


async def test_a_part_that_arrives_is_stored_if_all_of_it_came():
    world = Cached()
    seen = world.ask(part(2, 6), headers=wants("2-6"))
    for chunks, kept in (((b"23", b"456"), True), ((b"23", b"45"), False)):
        world = Cached()
        said = {**TAGGED, "Content-Range": "bytes 2-6/10"}
        seen = world.ask(answer(said, Stream(*chunks), 206), headers=wants("2-6"))
        assert await seen.read() == b"".join(chunks)
        assert len(world.memory) == kept


@pytest.mark.parametrize(
    ("why", "reply", "headers"),
    [
        ("too few bytes", answer({**TAGGED, "Content-Range": "bytes 4-9/10"}, b"01234", 206), {}),
        ("several parts", answer(TAGGED, b"--x", 206), {}),
        ("of unknown length", answer({**TAGGED, "Content-Range": "bytes 0-1/*"}, b"01", 206), {}),
        ("nothing said", part(0, 1, {"ETag": '"1"'}), {}),
        ("private", part(0, 1, {"Cache-Control": "private, max-age=60"}), {}),
        ("not there", answer({**MINUTE, "Content-Range": "bytes */10"}, b"", 416), {}),
        ("to be forgotten", part(0, 1), {"Cache-Control": "no-store"}),
    ],
)
def test_parts_that_are_not_stored(why: str, reply: Reply, headers: dict[str, str]):
    world = Cached()
    status = reply.status
    seen = world.ask(reply, headers={**wants("0-1"), **headers})
    assert seen.status == status
    assert len(world.memory) == 0, why


def test_the_range_is_not_heeded_by_an_origin():
    world = Cached()
    assert world.ask(answer(MINUTE, BODY), headers=wants("0-1")).status == 200
    assert world.ask().body == BODY
    assert world.ask(headers=wants("0-1")).body == b"01"


def test_parts_by_date():
    """If-Range with a date: only what changed a minute before it was sent (RFC 9110 section
    8.8.2.2)."""
    for changed, status in ((-60, 206), (-59, 200)):
        world = Cached()
        world.ask(answer({**MINUTE, "Last-Modified": date(changed), "Date": date()}, BODY))
        assert world.ask(headers=wants("0-1", If_Range=date(changed))).status == status


def test_each_variant_has_its_parts():
    world = Cached()
    varies = {**TAGGED, "Vary": "Accept-Language"}
    world.ask(part(0, 4, varies), headers=wants("0-4", Accept_Language="en"))
    world.ask(part(5, 9, varies), headers=wants("5-9", Accept_Language="de"))
    assert world.ask(headers=wants("0-4", Accept_Language="en")).body == b"01234"
    assert world.ask(answer({}), headers=wants("0-4", Accept_Language="de")).cache == "miss"
