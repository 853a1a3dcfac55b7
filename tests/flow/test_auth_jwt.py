"""Tokens of a real identity provider on this machine, through a running gateway."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from multidict import CIMultiDict

from gateway.core.exchange import Exchange
from gateway.core.failures import Failed
from tests.flow.test_proxy import upstreams
from tests.idp import Provider, encoded
from tests.origin import fields_of
from tests.until import until

PIPELINE = """
request = ["auth"]
[auth]
methods = ["jwt"]
require = ["cameras:read"]
[[auth.jwt]]
issuer = "{issuer}"
audience = "edge"
{keys}
[[route]]
prefix = "/"
upstream = "origin"
[[route]]
path = "/me"
builtin = "me"
"""


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    one = await Provider().start()
    yield one
    await one.stop()


def pipeline(provider: Provider, keys: str = "discovery = true") -> str:
    return PIPELINE.format(issuer=provider.issuer, keys=keys)


def bearer(text: str) -> str:
    return f"Authorization: Bearer {text}"


async def test_a_token_crosses_as_an_identity(start, origin, connect, provider):
    gateway = await start(pipeline(provider), upstreams(origin))
    client = await connect(gateway)  # the keys are on their way
    text = provider.token(scope="cameras:read", tier="gold", roles=["operator"])
    for _ in range(2):
        assert (await client.get("/", bearer(text), "X-Client-ID: admin")).status == 200
    for head in origin.heads:
        fields = fields_of(head)
        assert "authorization" not in fields
        assert (fields["x-client-id"], fields["x-client-tier"], fields["x-client-roles"]) == (
            "acme",
            "gold",
            "operator",
        )
    assert json.loads((await client.get("/me", bearer(text))).body)["method"] == "jwt"
    assert provider.requests["/jwks"] == 1


async def test_what_clients_are_told(start, origin, connect, provider):
    gateway = await start(pipeline(provider), upstreams(origin))
    client = await connect(gateway)
    reply = await client.get("/")
    assert (reply.status, reply.fields["www-authenticate"]) == (401, 'Bearer realm="gateway"')
    reply = await client.get("/", bearer(provider.token(scope="cameras:read", exp=1000)))
    assert (reply.status, reply.fields["x-error-code"]) == (401, "AUTH_002")
    assert reply.fields["www-authenticate"] == 'Bearer realm="gateway", error="invalid_token"'
    reply = await client.get("/", bearer(provider.token(scope="other")))
    assert (reply.status, reply.fields["x-error-code"]) == (403, "AUTH_003")
    reply = await client.get("/", bearer(provider.token()), bearer(provider.token()))
    assert (reply.status, reply.fields["x-error-code"]) == (400, "VAL_001")
    assert origin.heads == []


async def test_an_issuer_that_is_down_at_first(start, origin, connect, provider):
    provider.down = True
    gateway = await start(
        pipeline(provider, 'discovery = true\ncooldown = "20ms"'), upstreams(origin)
    )
    client = await connect(gateway)
    text = provider.token(scope="cameras:read")
    reply = await client.get("/", bearer(text))
    assert reply.status == 503 and reply.fields["retry-after"] == "1"
    assert str(provider.port) not in reply.body.decode() + reply.head.decode()
    provider.down = False
    assert (await client.get("/", bearer(text))).status == 200
    provider.down = True  # what is known goes on being known
    assert (
        await client.get("/", bearer(provider.token(scope="cameras:read", jti="2")))
    ).status == 200


async def test_keys_outlive_a_reload(start, origin, connect, provider):
    gateway = await start(pipeline(provider), upstreams(origin))
    client = await connect(gateway)
    text = provider.token(scope="cameras:read")
    assert (await client.get("/", bearer(text))).status == 200
    assert (await gateway.reload()).ok
    provider.down = True
    assert (await client.get("/", bearer(text))).status == 200
    assert (
        await client.get("/", bearer(provider.token(scope="cameras:read", jti="2")))
    ).status == 200


async def test_rotation_under_load_refuses_no_valid_token(start, origin, connect, provider):
    """Old and new keys are used at once, while others send keys that do not exist and have fetches
    spent on them."""
    began = asyncio.get_running_loop().time()
    gateway = await start(
        pipeline(provider, 'discovery = true\ncooldown = "50ms"'), upstreams(origin)
    )
    statuses: Counter[tuple[str, int]] = Counter()
    over = asyncio.Event()

    async def partner(number: int) -> None:
        client, count = await connect(gateway), 0
        while not over.is_set():
            text, count = (
                provider.token(scope="cameras:read", jti=f"{number}.{count // 5}"),
                count + 1,
            )
            for _ in range(5):
                statuses["partner", (await client.get("/", bearer(text))).status] += 1

    async def guesser(number: int) -> None:
        client, count, parts = await connect(gateway), 0, provider.token().split(".")
        while not over.is_set():
            header, count = encoded({"alg": "RS256", "kid": f"x{number}.{count}"}), count + 1
            statuses[
                "guesser", (await client.get("/", bearer(f"{header}.{parts[1]}.{parts[2]}"))).status
            ] += 1

    tasks = [asyncio.create_task(partner(number)) for number in range(4)]
    tasks += [asyncio.create_task(guesser(number)) for number in range(40)]
    for number in range(2, 7):
        before = statuses["partner", 200]
        await until(lambda before=before: statuses["partner", 200] >= before + 50)
        provider.rotate(f"k{number}")
    over.set()
    await asyncio.gather(*tasks)
    assert {status for who, status in statuses if who == "partner"} == {200}
    assert {status for who, status in statuses if who == "guesser"} == {401}
    # A timer may fire a millisecond early.
    assert (
        5 <= provider.requests["/jwks"] <= (asyncio.get_running_loop().time() - began) / 0.049 + 1
    )


async def test_ten_thousand_keys_that_do_not_exist(start, origin, connect, provider):
    """1,000 of them may wait at a time, all for the same fetch; whoever has a good token is served
    meanwhile."""
    gateway = await start(
        pipeline(provider, 'discovery = true\ncooldown = "300ms"'), upstreams(origin)
    )
    client = await connect(gateway)
    good = bearer(provider.token(scope="cameras:read"))
    assert (await client.get("/", good)).status == 200
    fetches = provider.requests["/jwks"]
    hook = gateway.runtime.snapshot.routes[0].pipeline.request[0][0]
    parts = provider.token().split(".")
    began = asyncio.get_running_loop().time()
    refused = await flood(
        hook,
        [
            f"{encoded({'alg': 'RS256', 'kid': f'x{n}'})}.{parts[1]}.{parts[2]}"
            for n in range(10_000)
        ],
    )
    assert (await client.get("/", good)).status == 200
    took = asyncio.get_running_loop().time() - began
    assert refused == 10_000
    assert provider.requests["/jwks"] - fetches <= took / 0.3 + 1


async def flood(hook: Any, tokens: list[str]) -> int:
    """All at once; how many were refused."""

    async def one(text: str) -> bool:
        try:
            later = hook(Exchange("GET", "/", CIMultiDict(Authorization=f"Bearer {text}"), ()))
            if later is not None:
                await later
        except Failed as failed:
            return failed.failure.status == 401
        return False

    return sum(await asyncio.gather(*map(one, tokens)))
