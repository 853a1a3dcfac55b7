from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway.tokens import jwks
from gateway.tokens.jwks import FetchError, JwksSource, RemoteKeys, fetch
from tests.idp import Provider
from tests.timers import Timers
from tests.until import until


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    one = await Provider("ES256").start()
    yield one
    await one.stop()


@pytest.fixture
async def keys(provider: Provider) -> AsyncIterator[Any]:
    made: list[RemoteKeys] = []

    def one(parse: Any = None, *, background: bool = False, **source: Any) -> RemoteKeys:
        timers = None if background else Timers()  # a clock that stands still
        keys = RemoteKeys(
            JwksSource(provider.jwks, **{"cooldown": 0.01, **source}), parse or names, timers=timers
        )
        made.append(keys)
        return keys

    yield one
    for keys in made:
        keys.close()
    await asyncio.sleep(0)


def names(document: Any) -> tuple[str, ...]:
    if not isinstance(document, dict) or "keys" not in document:
        raise ValueError("is no key set")
    return tuple(key["kid"] for key in document["keys"])


async def test_fetched_at_once(keys, provider):
    one = keys(background=True)
    assert one.keys is None and "no keys, not fetched yet" in repr(one)
    await until(lambda: one.keys)
    assert one.keys == ("k1",) and repr(one) == f"<RemoteKeys {provider.jwks} 1 keys>"


async def test_refreshed_in_the_background(keys, provider):
    one = keys(refresh=0.02, background=True)
    await until(lambda: one.keys)
    provider.rotate("k2")
    await until(lambda: one.keys == ("k1", "k2"))


async def test_listeners_hear_of_another_set_only(keys, provider):
    one, heard = keys(), []
    one.listeners.add(lambda: heard.append(one.keys))
    for _ in range(3):
        await one.newer()
    assert heard == [("k1",)] and one.fetches == 3
    provider.rotate("k2")
    await one.newer()
    assert heard == [("k1",), ("k1", "k2")]


async def test_the_last_good_set_stays(keys, provider, caplog):
    caplog.set_level(logging.INFO)
    one = keys()
    await one.newer()
    provider.down = True
    for _ in range(3):
        await one.newer()
    assert one.keys == ("k1",) and one.problem == f"{provider.jwks} answered 503"
    assert caplog.text.count("answered 503; the last good ones stay") == 1
    provider.overrides["/jwks"] = {"no": "set"}
    provider.down = False
    await one.newer()
    assert one.keys == ("k1",) and one.problem == "the document is no key set"
    provider.overrides.clear()
    await one.newer()
    assert one.problem == "" and "the issuer answers again" in caplog.text


async def test_an_issuer_that_is_down_is_asked_again_soon_and_then_less_often(provider):
    timers, provider.down = Timers(), True
    one = RemoteKeys(
        JwksSource(provider.jwks, refresh=60.0, cooldown=4.0),
        names,
        clock=timers.time,
        timers=timers,
    )
    pauses: list[float] = []
    for _ in range(5):
        timers.advance(pauses[-1] if pauses else 0)
        await until(lambda: timers.waiting)
        pauses += timers.waiting
    provider.down = False
    timers.advance(pauses[-1])
    await until(lambda: timers.waiting)
    assert pauses == [8, 16, 32, 60, 60] and timers.waiting == [60] and one.problem == ""
    one.close()


async def test_a_document_that_cannot_be_understood_at_all_does_not_end_the_refreshes(
    keys, provider, caplog
):
    def parse(document: Any) -> tuple[Any, ...]:
        if provider.overrides:
            raise RecursionError("deep")
        return names(document)

    provider.overrides["/jwks"] = {"keys": []}
    one = keys(parse, refresh=0.02, background=True)
    await until(lambda: one.fetches > 2)
    assert one.problem == "the document cannot be used: RecursionError('deep')"
    provider.overrides.clear()
    await until(lambda: one.keys == ("k1",))
    assert one.problem == ""


async def test_who_waits_gets_a_fetch_that_began_later(keys, provider):
    """One that was under way may have the set from before the key was made."""
    provider.hold = asyncio.Event()
    one = keys(background=True)
    await until(lambda: provider.requests["/jwks"])
    waiting = asyncio.create_task(one.newer())
    await asyncio.sleep(0)
    provider.hold.set()
    await waiting
    assert one.fetches == 2


async def test_a_flood_shares_one_fetch(keys, provider, monkeypatch):
    began: list[float] = []
    fetch = jwks.fetch

    async def fetched(source: JwksSource) -> Any:
        began.append(one._began)
        return await fetch(source)

    monkeypatch.setattr(jwks, "fetch", fetched)
    one = keys(cooldown=0.05)
    await one.newer()
    await asyncio.gather(*(one.newer() for _ in range(500)))
    assert one.fetches == 2 == provider.requests["/jwks"]
    assert began[1] - began[0] >= 0.049


async def test_one_that_leaves_does_not_end_the_others_fetch(keys, provider):
    one = keys()
    await one.newer()
    provider.hold = asyncio.Event()
    first, second = (asyncio.create_task(one.newer()) for _ in range(2))
    await until(lambda: provider.requests["/jwks"] == 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    provider.hold.set()
    await second
    assert one.fetches == 2 and one.problem == ""


async def test_only_so_many_wait(keys, monkeypatch):
    monkeypatch.setattr(jwks, "MOST_WAITING", 2)
    one = keys()
    waiting = [asyncio.create_task(one.newer()) for _ in range(2)]
    await asyncio.sleep(0)
    assert one.may_wait is False
    await asyncio.gather(*waiting)
    await until(lambda: one.may_wait)


@pytest.mark.parametrize(
    ("path", "document", "message"),
    [
        ("/jwks", b"<html>", "is not JSON"),
        ("/jwks", b"[" * (jwks.LARGEST + 1), "is longer than"),
        ("/jwks", web.Response(status=302, headers={"Location": "/elsewhere"}), "answered 302"),
        ("/.well-known/openid-configuration", {"issuer": "ISSUER"}, "has no jwks_uri"),
        ("/.well-known/openid-configuration", ["x"], "has no jwks_uri"),
        (
            "/.well-known/openid-configuration",
            {"issuer": "http://other", "jwks_uri": "JWKS"},
            "is another issuer's",
        ),
        (
            "/.well-known/openid-configuration",
            {"issuer": "ISSUER", "jwks_uri": "file:///etc/passwd"},
            "less safe",
        ),
        (
            "/.well-known/openid-configuration",
            {"issuer": "ISSUER", "jwks_uri": "http://["},
            "cannot be fetched",
        ),
    ],
)
async def test_documents_that_are_none(provider, path, document, message):
    if isinstance(document, dict):
        document = {
            key: {"ISSUER": provider.issuer, "JWKS": provider.jwks}.get(value, value)
            for key, value in document.items()
        }
    provider.overrides[path] = document
    with pytest.raises(FetchError, match=message):
        await fetch(JwksSource("" if "well" in path else provider.jwks, provider.issuer))


async def test_discovery(provider):
    document = await fetch(JwksSource("", provider.issuer))
    assert [key["kid"] for key in document["keys"]] == ["k1"]


def test_discovery_over_tls_does_not_lead_to_plain_text():
    document = {"issuer": "https://id.example", "jwks_uri": "http://id.example/jwks"}
    with pytest.raises(FetchError, match="less safe"):
        jwks._jwks_uri(document, "https://id.example")


async def test_nobody_there(provider, unused_tcp_port):
    with pytest.raises(FetchError, match="cannot be fetched"):
        await fetch(JwksSource(f"http://127.0.0.1:{unused_tcp_port}/"))
    provider.hold = asyncio.Event()
    with pytest.raises(FetchError, match=r"no answer within 0\.05 s"):
        await fetch(JwksSource(provider.jwks, timeout=0.05))
    provider.hold.set()


def test_without_a_loop_nothing_runs():
    one = RemoteKeys(JwksSource("http://127.0.0.1:9/"), names)
    assert one.keys is None
    one.close()
