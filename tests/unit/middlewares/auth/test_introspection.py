from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem
from gateway.credentials.revocations.revoked import Revocation, add
from gateway.tokens.introspection import Introspection, Server, Unavailable
from tests.idp import Provider
from tests.unit.middlewares.auth.bearers import (
    ISSUER,
    NOW,
    SECRET,
    Bearers,
    asked,
    bearing,
    failing,
    through,
    token,
)

GOOD = {
    "active": True,
    "client_id": "acme",
    "sub": "alice",
    "scope": "cameras:read",
    "exp": NOW + 30,
}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    one = await Provider("ES256").start()
    one.active["good"] = GOOD
    yield one
    await one.stop()


class Asking(Bearers):
    """A world whose callers are known by introspection."""

    def hook(self, provider: Provider, methods: Any = ("introspection",), **table: Any) -> Any:
        url = f"{provider.issuer}/introspect"
        more = {
            name: table.pop(name)
            for name in ("require", "revocations", "optional", "forward_credentials")
            if name in table
        }
        return self.auth(methods=list(methods), introspection={"url": url, **table}, **more)


@pytest.fixture
async def world(tmp_path) -> AsyncIterator[Asking]:
    one = Asking(tmp_path)
    yield one
    one.close()
    await asyncio.sleep(0.01)


async def test_whose_a_token_is_is_asked_once(world: Asking, provider: Provider):
    hook = world.hook(provider, client_id="edge:1", client_secret="s/1", require=["cameras:read"])
    for _ in range(2):
        exchange = bearing("good")
        identity = await through(hook, exchange)
        assert (identity.client, identity.method, identity.user) == (
            "acme",
            "introspection",
            "alice",
        )
        assert exchange.drop_headers == {b"authorization"}
    # base64 of the form-encoded edge%3A1:s%2F1
    assert provider.introspected == [
        ("Basic ZWRnZSUzQTE6cyUyRjE=", {"token": "good", "token_type_hint": "access_token"})
    ]
    assert hook(bearing("good")) is None
    assert "1 tokens known" in repr(hook.__self__) and "s/1" not in repr(hook.__self__)


async def test_answers_are_remembered_no_longer_than_they_hold(world: Asking, provider: Provider):
    hook = world.hook(provider, ttl="20s")
    for now, times in ((NOW, 1), (NOW + 19, 1), (NOW + 20, 2), (NOW + 29, 2)):
        world.now = now
        await through(hook, bearing("good"))
        assert len(provider.introspected) == times
    world.now = NOW + 30
    assert (await failing(hook, bearing("good"))).failure is Failure.EXPIRED


@pytest.mark.parametrize(
    ("answer", "table", "why"),
    [
        ({"active": False}, {}, "is not active"),
        ({**GOOD, "active": "true"}, {}, "is not active"),
        ({**GOOD, "active": 1}, {}, "is not active"),
        ({**GOOD, "aud": "other"}, {"audience": "edge"}, "not for edge"),
        (GOOD, {"audience": ["edge"]}, "aud is missing"),
        (
            {**GOOD, "client_id": None},
            {},
            "the claim client_id, which names the client, is missing",
        ),
        ({**GOOD, "exp": "soon"}, {}, "exp is not a time"),
    ],
)
async def test_answers_that_refuse(
    world: Asking, provider: Provider, answer: Any, table: Any, why: str
):
    provider.active["bad"] = answer
    hook = world.hook(provider, **table)
    for now, times in ((NOW, 1), (NOW + 9, 1), (NOW + 10, 2)):
        world.now = now
        failed = await failing(hook, bearing("bad"))
        assert failed.failure is Failure.UNAUTHENTICATED and why in failed.why
        assert failed.headers == (
            (b"WWW-Authenticate", b'Bearer realm="gateway", error="invalid_token"'),
        )
        assert len(provider.introspected) == times


async def test_answers_that_allow(world: Asking, provider: Provider):
    provider.active["a"] = {**GOOD, "aud": ["edge", "x"]}
    assert await through(world.hook(provider, audience="edge"), bearing("a"))
    provider.active["b"] = {"active": True, "username": "bob", "tier": "gold"}
    identity = await through(world.hook(provider, claims={"client": "username"}), bearing("b"))
    assert (identity.client, identity.tier) == ("bob", "gold")
    provider.active["c"] = {"active": True, "client_id": "c"}
    assert (
        await through(world.hook(provider, claims={"tier": "level"}), bearing("c"))
    ).client == "c"


async def test_a_revoked_subject(world: Asking, provider: Provider):
    hook = world.hook(provider, revocations="revoked.toml")
    await through(hook, bearing("good"))
    add(world.directory / "revoked.toml", Revocation(subject="alice"))
    again = world.hook(provider, revocations="revoked.toml")
    await through(hook, bearing("good"))  # what is only being built changes nothing
    world.reload()
    assert (await failing(again, bearing("good"))).detail == "The token has been revoked."


async def test_many_with_one_token_wait_for_one_answer(world: Asking, provider: Provider):
    hook = world.hook(provider)
    await asyncio.gather(*(through(hook, bearing("good")) for _ in range(50)))
    assert len(provider.introspected) == 1


async def test_a_server_that_fails_is_left_alone(world: Asking, provider: Provider):
    hook = world.hook(provider, failures=2, pause="20s")
    world.reload()
    [server] = [one for one in world.kept if isinstance(one, Introspection)]
    server._clock = lambda: world.now
    provider.down = True
    for number in range(4):
        failed = await failing(hook, bearing(f"t{number}"))
        assert failed.failure is Failure.NO_ENDPOINT and failed.headers == (
            (b"Retry-After", b"20" if number else b"1"),
        )
    assert (
        provider.requests["/introspect"] == 2
        and "left alone" in failed.why
        and "left alone" in repr(hook.__self__)
    )
    provider.down = False
    world.now += 20
    await through(hook, bearing("good"))


@pytest.mark.parametrize("status", [400, 413, 414, 422, 431])
async def test_what_is_said_of_a_token_is_no_failure_of_the_server(
    world: Asking, provider: Provider, status: int
):
    hook = world.hook(provider, failures=2, pause="1h")
    provider.statuses["/introspect"] = status
    for number in range(5):
        failed = await failing(hook, bearing(f"junk{number}"))
        assert failed.failure is Failure.UNAUTHENTICATED
    del provider.statuses["/introspect"]
    await through(hook, bearing("good"))
    with_them = provider.requests["/introspect"]
    await failing(hook, bearing("junk4"))
    assert provider.requests["/introspect"] == with_them  # remembered as any other that is no good


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
async def test_what_is_said_of_the_gateway_is(world: Asking, provider: Provider, status: int):
    hook = world.hook(provider, failures=2, pause="1h")
    provider.statuses["/introspect"] = status
    for number in range(3):
        assert (await failing(hook, bearing(f"t{number}"))).failure is Failure.NO_ENDPOINT
    assert provider.requests["/introspect"] == 2


@pytest.mark.parametrize(("failures", "waits"), [(1, [20.0, 20.0]), (3, [1.0, 1.0, 20.0, 20.0])])
async def test_when_to_try_again(provider: Provider, failures: int, waits: list[float]):
    provider.down = True
    one = Introspection(
        Server(f"{provider.issuer}/introspect", failures=failures, pause=20.0), clock=lambda: 0.0
    )
    for number, after in enumerate(waits):
        with pytest.raises(Unavailable) as caught:
            await one.ask(str(number))
        assert caught.value.after == after
    one.close()
    await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"<html>", "unexpected"),
        ([], "no introspection"),
        ({"active_": True}, "no introspection"),
        (b"x" * 70_000, "more than"),
    ],
)
async def test_answers_that_are_none(world: Asking, provider: Provider, answer: Any, why: str):
    provider.overrides["/introspect"] = answer
    failed = await failing(world.hook(provider), bearing("good"))
    assert failed.failure is Failure.NO_ENDPOINT and why in failed.why


async def test_beside_jwt(world: Asking, provider: Provider):
    hook = world.hook(provider, ["jwt", "introspection"])
    assert (await through(hook, bearing(token()))).method == "jwt"
    assert (await through(hook, bearing("good"))).method == "introspection"
    provider.active["a.b.c"] = GOOD
    for text in (token(iss="https://elsewhere.example"), "a.b"):
        provider.active[text] = GOOD
        assert (await through(hook, bearing(text))).method == "introspection"
    assert (await failing(hook, bearing(token("x" * 32)))).why.endswith(ISSUER)
    assert SECRET not in repr(hook.__self__)


async def test_not_of_its_kind(world: Asking, provider: Provider):
    hook = world.hook(provider)
    assert (await failing(hook, asked())).why == "no credentials"
    assert (await failing(hook, asked("Basic YTpi"))).why == "no credentials"
    assert "RFC 6750" in (await failing(hook, bearing("a b\x00"))).why
    assert provider.introspected == []
    exchange = bearing("good")
    await through(world.hook(provider, forward_credentials=True), exchange)
    assert exchange.drop_headers is None


def test_no_server():
    with pytest.raises(ConfigProblem, match="no introspection server"):
        Bearers().auth(methods=["introspection"])
