"""Asking an introspection server: once for all that want to know the same, and not again and again
while it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from gateway.tokens import introspection
from gateway.tokens.introspection import MOST_WAITING, Introspection, Server, Unavailable
from tests.idp import Provider

Make = Callable[..., Introspection]


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    one = await Provider("ES256").start()
    one.active["good"] = {"active": True, "sub": "alice"}
    yield one
    await one.stop()


@pytest.fixture
async def make(provider: Provider) -> AsyncIterator[Make]:
    """`make(failures=2, ...)`: an Introspection of the provider, whose clock is `make.now[0]`."""
    made: list[Introspection] = []
    now = [100.0]

    def one(**settings: Any) -> Introspection:
        made.append(
            Introspection(Server(f"{provider.issuer}/introspect", **settings), clock=lambda: now[0])
        )
        return made[-1]

    one.now = now  # type: ignore[attr-defined]
    yield one
    for each in made:
        holding = each._holding
        each.close()
        if holding is not None:
            await asyncio.wait([holding])


async def test_many_that_ask_the_same_are_one_question(make: Make, provider: Provider):
    one = make()
    answers = await asyncio.gather(*(one.ask("good") for _ in range(20)), one.ask("other"))
    assert answers == [{"active": True, "sub": "alice"}] * 20 + [{"active": False}]
    assert one.asked == 2 == len(provider.introspected)
    await one.ask("good")
    assert one.asked == 3  # remembering answers is for others


async def test_one_that_leaves_does_not_end_the_others_question(make: Make):
    one = make()
    first, second = asyncio.create_task(one.ask("good")), asyncio.create_task(one.ask("good"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)["active"] is True and one.asked == 1


async def test_credentials_are_form_encoded_first(make: Make, provider: Provider):
    """RFC 6749 section 2.3.1."""
    await make(client_id="edge:1", client_secret="s/1").ask("good")
    # base64 of edge%3A1:s%2F1
    assert provider.introspected == [
        ("Basic ZWRnZSUzQTE6cyUyRjE=", {"token": "good", "token_type_hint": "access_token"})
    ]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"<html>", "unexpected"),
        ([], "no introspection"),
        ({"sub": "alice"}, "no introspection"),
        (b"x" * (introspection.LARGEST + 1), "more than"),
    ],
)
async def test_answers_that_are_none(make: Make, provider: Provider, answer: Any, why: str):
    provider.overrides["/introspect"] = answer
    with pytest.raises(Unavailable, match=why):
        await make().ask("good")


async def test_a_server_that_fails_is_left_alone_and_then_asked_again(
    make: Make, provider: Provider
):
    one = make(failures=2, pause=20.0)
    provider.down = True
    for _ in range(2):
        with pytest.raises(Unavailable, match="answered 5"):
            await one.ask("good")
    make.now[0] += 5  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="left alone") as caught:
        await one.ask("good")
    assert caught.value.after == 15 and one.asked == 2 and "left alone" in repr(one)
    make.now[0] += 15  # type: ignore[attr-defined]
    with pytest.raises(Unavailable, match="answered 5"):
        await one.ask("good")
    with pytest.raises(Unavailable, match="left alone"):  # one more was enough
        await one.ask("good")
    provider.down = False
    make.now[0] += 20  # type: ignore[attr-defined]
    assert (await one.ask("good"))["active"] is True and "left alone" not in repr(one)


async def test_no_answer_in_time(make: Make):
    with pytest.raises(Unavailable, match="no answer within"):
        await make(timeout=0.00001).ask("good")


async def test_only_so_many_are_asked_at_once(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(introspection, "MOST_WAITING", 2)
    one = make()
    waiting = [asyncio.create_task(one.ask(text)) for text in ("a", "b", "a")]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="2 questions are under way"):
        await one.ask("c")
    await asyncio.gather(*waiting)
    await one.ask("c")
    assert MOST_WAITING > 2
