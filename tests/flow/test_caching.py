"""The cache on real sockets: what is stored, parts of it, and the origin asked behind."""

from __future__ import annotations

import pytest

from tests.origin import answer, fields_of
from tests.until import until

PIPELINE = """
request = ["caching", "transform"]
response = ["compression", "caching"]
[compression]
minimum = 1
algorithms = ["gzip"]
[caching]
{settings}
[transform]
request = {{ set = {{ "X-Behind" = "yes" }} }}
[[route]]
prefix = "/"
upstream = "origin"
"""
BODY = b"0123456789" * 200


def upstream(url: str) -> str:
    return f'[upstream.origin]\nurl = "{url}"\n'


@pytest.mark.modes
async def test_a_stale_answer_at_once_and_the_origin_is_asked_with_all_that_it_is_sent(
    start, origin, connect
):
    control = "max-age=0, stale-while-revalidate=60"
    origin.respond = answer(b"old", ETag='"1"', Cache_Control=control, Content_Type="text/plain")
    client = await connect(await start(PIPELINE.format(settings=""), upstream(origin.url)))
    assert (await client.get("/")).body == b"old"
    origin.respond = answer(b"new", Cache_Control="max-age=60", Content_Type="text/plain")
    stale = await client.get("/")
    assert (stale.body, stale.fields["cache-status"].split(";")[1]) == (b"old", " hit")

    async def fresh() -> bool:
        return (await client.get("/")).body == b"new"

    await until(fresh)
    asked = fields_of(origin.heads[1])
    assert len(origin.heads) == 2
    assert (asked["x-behind"], asked["if-none-match"]) == ("yes", '"1"')


async def test_a_coded_answer_is_stored_once_for_all_who_mean_the_same(start, origin, connect):
    origin.respond = answer(BODY, Cache_Control="max-age=60", Content_Type="text/plain")
    client = await connect(await start(PIPELINE.format(settings=""), upstream(origin.url)))
    for coding in ("gzip, br;q=0.5", "br;q=0.50,GZIP", "x-gzip;q=1.0, br ; q=0.5"):
        coded = await client.get("/", f"Accept-Encoding: {coding}")
        assert coded.fields["content-encoding"] == "gzip"
        assert coded.fields["vary"] == "Accept-Encoding"
    assert len(origin.heads) == 1


async def test_a_part_of_what_is_stored(start, origin, connect):
    origin.respond = answer(BODY, ETag='"1"', CDN_Cache_Control="max-age=60")
    client = await connect(await start(PIPELINE.format(settings=""), upstream(origin.url)))
    await client.get("/")
    part = await client.get("/", "Range: bytes=1995-", 'If-Range: "1"')
    assert (part.status, part.body) == (206, b"56789")
    assert part.fields["content-range"] == "bytes 1995-1999/2000"
    assert part.fields["content-length"] == "5"
    beyond = await client.get("/", "Range: bytes=2000-")
    assert (beyond.status, beyond.fields["content-length"]) == (416, "0")
    assert len(origin.heads) == 1


async def test_a_guess_by_what_was_changed_long_ago(start, origin, connect):
    origin.respond = answer(Last_Modified="Mon, 01 Jan 2024 00:00:00 GMT")
    client = await connect(
        await start(PIPELINE.format(settings="heuristic = true"), upstream(origin.url))
    )
    await client.get("/")
    hit = await client.get("/")
    assert "; hit; ttl=86" in hit.fields["cache-status"]
    assert len(origin.heads) == 1


async def test_what_is_changed_on_its_way_is_sent_whole(start, origin, connect):
    """A part of what is stored would have in it what `transform` removes."""
    origin.respond = answer(
        b'{"id": 1, "internal": 2}', Cache_Control="max-age=60", Content_Type="application/json"
    )
    pipeline = """
request = ["caching", "transform"]
response = ["caching", "transform"]
[caching]
[transform]
unreadable = "pass"
response = { body = { remove = ["internal"] } }
[[route]]
prefix = "/"
upstream = "origin"
"""
    client = await connect(await start(pipeline, upstream(origin.url)))
    for _ in range(2):
        seen = await client.get("/", "Range: bytes=8-")
        assert (seen.status, seen.body) == (200, b'{"id":1}')
    assert len(origin.heads) == 1
