"""Stale answers at once, and the origin asked behind the client's back (RFC 5861 section 3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Hooks
from gateway.core.wait import Wait, own
from gateway.middlewares.caching import behind
from gateway.runtime.pipeline import Pipeline, flatten
from tests.exchange import Stream, exchange
from tests.unit.middlewares.caching.world import (
    ALICE,
    DOWN,
    MINUTE,
    Cached,
    Seen,
    answer,
    not_modified,
    sent_to_origin,
)
from tests.until import until

WINDOW = {"Cache-Control": "max-age=60, stale-while-revalidate=30", "ETag": '"1"'}


class Asked(Cached):
    """A cache whose route has an origin that answers `replies` in turn, once `go` says so."""

    def __init__(self, settings: dict[str, Any], *replies: Reply | Failed) -> None:
        super().__init__(settings)
        self.replies = list(replies)
        self.sent: list[Any] = []
        self.copies: list[Exchange] = []
        self.held: list[Wait[None]] = []
        self.holds = False

    @own
    async def origin(self, exchange: Exchange) -> Reply:
        self.copies.append(exchange)
        self.sent.append(sent_to_origin(exchange))
        exchange.attempts = 1
        if self.holds:
            self.held.append(Wait())
            await self.held[-1]
        reply = self.replies.pop(0)
        if isinstance(reply, Failed):
            raise reply
        return reply

    def exchange(self, *arguments: Any, **more: Any) -> Exchange:
        made = super().exchange(*arguments, **more)
        made.route.pipeline = flatten("p", [self.hooks], [self.hooks], [self.hooks])
        made.route.target = self.origin
        return made

    async def stale(self, **more: Any) -> Seen:
        """A request that gets what is stored though it is stale."""
        seen = self.ask(**more)
        assert seen.cache == "stale"
        assert seen.sent is None
        return seen

    async def settled(self) -> None:
        """Wait until nothing is asked any more."""
        cache = self.hooks.request.__self__  # type: ignore[union-attr]
        await until(lambda: repr(cache._behind) == "<Behind 0>")


async def test_a_stale_answer_at_once_and_a_new_one_for_the_next():
    world = Asked({}, answer(WINDOW, b"new"))
    world.ask(answer(WINDOW, b"old"), headers={"X-A": "1"})
    world.wait(90)
    seen = await world.stale(headers={"X-A": "2"})
    assert (seen.body, seen.line) == (b"old", "gateway; hit; ttl=-30")
    await world.settled()
    assert world.sent[0]["If-None-Match"] == '"1"'
    assert world.sent[0]["X-A"] == "2"
    assert (world.ask().body, world.ask().cache) == (b"new", "hit")
    assert world.counted("stale") == 1


async def test_a_304_makes_it_fresh_again():
    world = Asked({}, not_modified(("Cache-Control", "max-age=60"), ("X-A", "new")))
    world.ask(answer(WINDOW, b"old"))
    world.wait(61)
    await world.stale()
    await world.settled()
    seen = world.ask()
    assert (seen.cache, seen.body, seen.headers["X-A"]) == ("hit", b"old", "new")
    assert world.counted("revalidated") == 0


async def test_after_the_window_clients_wait():
    world = Asked({})
    world.ask(answer(WINDOW, b"old"))
    world.wait(90.5)
    assert world.ask(answer({}, b"new")).body == b"new"


@pytest.mark.parametrize(
    ("why", "control", "request_"),
    [
        ("s-maxage", "s-maxage=60, stale-while-revalidate=30", {}),
        ("must-revalidate", "max-age=60, must-revalidate, stale-while-revalidate=30", {}),
        ("no-cache", "max-age=60, no-cache, stale-while-revalidate=30", {}),
        ("0", "max-age=60, stale-while-revalidate=0", {}),
        ("the client", "max-age=60, stale-while-revalidate=30", {"Cache-Control": "no-cache"}),
        ("its age", "max-age=60, stale-while-revalidate=30", {"Cache-Control": "max-age=60"}),
        ("its need", "max-age=60, stale-while-revalidate=30", {"Cache-Control": "min-fresh=1"}),
    ],
)
async def test_what_forbids_it(why: str, control: str, request_: dict[str, str]):
    world = Asked({"stale_while_revalidate": "1h"})
    world.ask(answer({"Cache-Control": control, "ETag": '"1"'}, b"old"))
    world.wait(61)
    assert world.ask(answer({}, b"new"), headers=request_).body == b"new", why


async def test_a_window_for_origins_that_do_not_say():
    world = Asked({"stale_while_revalidate": "1h"}, answer(MINUTE, b"new"))
    world.ask(answer(MINUTE, b"old"))
    world.wait(61)
    assert (await world.stale()).body == b"old"
    await world.settled()
    assert world.ask().body == b"new"


async def test_one_question_at_a_time_for_each_answer(monkeypatch):
    monkeypatch.setattr(behind, "MAX_BEHIND", 2)
    world = Asked({})
    world.holds = True
    for target in ("/1", "/2", "/3"):
        world.ask(answer(WINDOW, b"old"), target=target)
    world.wait(61)
    for target in ("/1", "/1", "/2", "/3"):
        await world.stale(target=target)
    await until(lambda: len(world.held) == 2)
    assert [copy.target for copy in world.copies] == ["/1", "/2"]
    world.replies = [answer(WINDOW, b"new"), answer(WINDOW, b"new")]
    for held in world.held:
        held.wake()
    await world.settled()
    assert world.ask(target="/1").cache == "hit"
    world.holds = False
    world.replies = [answer(WINDOW, b"new")]
    await world.stale(target="/3")
    await world.settled()
    assert world.ask(target="/3").cache == "hit"


@pytest.mark.parametrize("reply", [DOWN, answer({}, b"", 503)], ids=["failed", "503"])
async def test_an_origin_that_fails_leaves_what_is_stored(reply: Reply | Failed):
    world = Asked({}, reply)
    world.ask(answer(WINDOW, b"old"))
    world.wait(61)
    await world.stale()
    await world.settled()
    assert (await world.stale()).body == b"old"
    world.replies = [answer(WINDOW, b"new")]
    await world.settled()


async def test_what_is_wrong_is_logged(caplog):
    world = Asked({})
    world.ask(answer(WINDOW, b"old"))
    world.wait(61)
    await world.stale()
    await world.settled()
    assert "went wrong" in caplog.text


@pytest.mark.parametrize(
    "ask",
    [
        {"method": "HEAD"},
        {"headers": {"Range": "bytes=0-0"}},
        {"headers": {"If-None-Match": '"1"', "If-Modified-Since": "x"}},
    ],
)
async def test_all_of_it_is_asked_for_whatever_the_client_wants(ask: dict[str, Any]):
    world = Asked({}, answer(WINDOW, Stream(b"n", b"ew")))
    world.ask(answer(WINDOW, b"old"))
    world.wait(61)
    await world.stale(**ask)
    await world.settled()
    assert world.copies[0].method == "GET"
    assert "Range" not in world.sent[0]
    assert world.sent[0].getall("If-None-Match") == ['"1"']
    assert "If-Modified-Since" not in world.sent[0]
    assert world.ask().body == b"new"


async def test_what_is_too_long_is_broken_off():
    stream = Stream(*[b"x" * 100] * 100)
    world = Asked({"max_entry": 3000}, answer(WINDOW, stream))
    world.ask(answer(WINDOW, b""))
    world.wait(61)
    await world.stale()
    await world.settled()
    assert stream.aborted >= 1
    assert len(stream.chunks) > 60


async def test_a_private_answer_is_asked_for_by_its_caller():
    private = {"Cache-Control": "private, max-age=60, stale-while-revalidate=30"}
    world = Asked({"private": True}, answer(private, b"new"))
    world.ask(answer(private, b"old"), identity=ALICE)
    world.wait(61)
    await world.stale(identity=ALICE)
    await world.settled()
    assert world.copies[0].identity is ALICE
    assert world.ask(identity=ALICE).body == b"new"
    assert world.ask(answer({})).cache == "miss"


async def test_explaining_asks_nobody():
    world = Asked({})
    world.ask(answer(WINDOW, b"old"))
    world.wait(61)
    decision, reply = world.explain()
    assert (decision.outcome, reply.body) == ("stale", b"old")  # type: ignore[union-attr]
    assert "behind the client's back" in decision.why
    await asyncio.sleep(0)
    assert world.copies == []


async def test_an_answer_purged_meanwhile_is_not_stored():
    world = Asked({})
    world.holds = True
    world.ask(answer(WINDOW, b"old"))
    world.wait(61)
    await world.stale()
    await until(lambda: world.held)
    world.ask(answer({}, b"", 204), method="PUT")
    world.replies = [answer(WINDOW, b"as it was before the write")]
    world.held[0].wake()
    await world.settled()
    assert world.ask(answer({}, b"as it is")).cache == "miss"


class Recorder:
    """Hooks that write down when they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def hooks(self, name: str, reply: Reply | None = None) -> Hooks:
        def request(exchange: Exchange) -> Reply | None:
            self.ran.append(f"{name}.request")
            return reply

        async def response(exchange: Exchange, reply: Reply) -> None:
            self.ran.append(f"{name}.response")

        return Hooks(request, response)


def led(pipeline: Pipeline, target: Callable[[Exchange], Any]) -> Exchange:
    made = exchange(route="r")
    made.route.pipeline, made.route.target = pipeline, target
    return made


async def later(reply: Reply) -> Reply:
    return reply


async def test_a_request_behind_a_clients_back_passes_what_is_beyond_its_middleware():
    """From its request hook to its response hook; what was taken on the way is given back."""
    seen = Recorder()
    first, second, third = (seen.hooks(name) for name in ("first", "second", "third"))
    released = Hooks(release=lambda _: seen.ran.append("released"))
    pipeline = flatten("p", [first, second, third, released], [third, second, first], [])
    stream = Stream(b"ab", b"cd")
    for target in (lambda _: Reply(200, body=b"whole"), lambda _: later(Reply(200, body=stream))):
        seen.ran.clear()
        await behind.sent(led(pipeline, target), (second.request, second.response), 9)
        assert seen.ran == ["third.request", "third.response", "second.response", "released"]
    assert (stream.chunks, stream.aborted) == ([], 1)


async def test_a_request_behind_a_clients_back_may_be_answered_on_the_way_or_fail():
    seen = Recorder()
    first, second = seen.hooks("first"), seen.hooks("second", Reply(204))
    released = Hooks(release=lambda _: seen.ran.append("released"))
    pipeline = flatten("p", [first, second, released], [first], [])
    await behind.sent(led(pipeline, refuse), (first.request, first.response), 9)
    assert seen.ran == ["second.request", "released"]
    with pytest.raises(Failed):
        await behind.sent(led(pipeline, refuse), (second.request, second.response), 9)
    assert seen.ran[-1] == "released"


def refuse(exchange: Exchange) -> Reply:
    raise Failed(Failure.NO_ROUTE)
