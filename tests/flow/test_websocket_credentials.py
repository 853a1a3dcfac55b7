"""WebSockets whose credentials end while they are open."""

from __future__ import annotations

import asyncio
from time import time

import jwt
import pytest

from gateway.credentials.api_keys import key_edits
from gateway.credentials.api_keys.key_edits import Wish
from gateway.credentials.revocations import revoked as revocations
from gateway.credentials.revocations.revoked import Revocation
from tests.flow.test_proxy import upstreams
from tests.flow.tunnels import LOOPS as LOOPS
from tests.flow.tunnels import MASK, over
from tests.until import until
from tests.websocket import close, frame, open_tunnel, read_frame

SECRET = "0123456789abcdef" * 2
PIPELINE = f"""
request = ["auth"]
response = ["logging", "metrics"]
error = ["logging", "metrics"]
[auth]
methods = ["api_key", "jwt"]
recheck = "20ms"
revocations = "../revoked.toml"
api_key = {{ file = "../keys.toml", query = "key" }}
[[auth.jwt]]
issuer = "https://id.example.com"
secret = "{SECRET}"
leeway = "0s"
[logging]
file = "../access.log"
[[route]]
name = "ws"
prefix = "/"
upstream = "origin"
"""


def token(seconds: float = 60, **claims: object) -> str:
    now = time()
    said = {"iss": "https://id.example.com", "sub": "alice", "iat": now, "exp": now + seconds}
    return jwt.encode({**said, **claims}, SECRET, "HS256")


def bearer(word: str) -> str:
    return f"Authorization: Bearer {word}"


@pytest.fixture
async def gateway(start, echoing, tmp_path):
    (tmp_path / "keys.toml").write_text("")
    (tmp_path / "revoked.toml").write_text("")
    return await start(PIPELINE, upstreams(echoing))


async def ends(client) -> None:
    """The gateway says goodbye, with 1008."""
    while True:
        one = await asyncio.wait_for(read_frame(client.reader), 20)
        if one.opcode == 8:
            assert int.from_bytes(one.payload[:2], "big") == 1008
            break
    await client.send(close(1008, MASK))
    assert await client.at_end()


async def goes_on(client) -> None:
    await client.send(frame(b"still there?", mask=MASK))
    assert (await asyncio.wait_for(read_frame(client.reader), 20)).payload == b"still there?"


async def test_a_token_that_expires(gateway, connect, tmp_path):
    lasting, ending = await connect(gateway), await connect(gateway)
    await open_tunnel(lasting, "/", bearer(token()))
    await open_tunnel(ending, "/", bearer(token(1.2)))
    await goes_on(ending)
    await ends(ending)
    await goes_on(lasting)
    await until(lambda: '"reason":"expired"' in (tmp_path / "access.log").read_text())
    lasting.close()
    await over(gateway)
    durations = gateway.telemetry.request_duration.cells
    assert sum(sum(cell.counts) for cell in durations.values()) == 0
    assert gateway.telemetry.requests.get(("ws", "GET", "101")) == 2


async def test_a_token_that_is_revoked(gateway, connect, tmp_path):
    client = await connect(gateway)
    await open_tunnel(client, "/", bearer(token(jti="one")))
    await goes_on(client)
    revocations.add(tmp_path / "revoked.toml", Revocation(jti="one"))
    await ends(client)


@pytest.mark.parametrize("where", ["header", "query"])
async def test_a_key_that_is_revoked(gateway, connect, tmp_path, where):
    made, key = key_edits.create(tmp_path / "keys.toml", Wish("partner"), time())
    assert (await gateway.reload()).ok
    client = await connect(gateway)
    if where == "header":
        await open_tunnel(client, "/", f"X-API-Key: {key}")
    else:
        await open_tunnel(client, f"/?a=b&key={key}")
    await goes_on(client)
    key_edits.revoke(tmp_path / "keys.toml", made.id, time())
    await ends(client)


async def test_what_is_in_force_judges(gateway, connect, tmp_path):
    client = await connect(gateway)
    await open_tunnel(client, "/", bearer(token(scope="cameras:read")))
    pipeline = tmp_path / "pipelines" / "test.toml"
    needs = pipeline.read_text().replace("[[auth.jwt]]", 'require = ["cameras:read"]\n[[auth.jwt]]')
    pipeline.write_text(needs)
    assert (await gateway.reload()).ok
    await goes_on(client)
    pipeline.write_text(needs.replace("cameras:read", "cameras:write"))
    assert (await gateway.reload()).ok
    await ends(client)


async def test_without_the_route_it_goes_on(gateway, connect, tmp_path):
    client = await connect(gateway)
    await open_tunnel(client, "/", bearer(token()))
    pipeline = tmp_path / "pipelines" / "test.toml"
    pipeline.write_text(pipeline.read_text().replace('name = "ws"', 'name = "other"'))
    assert (await gateway.reload()).ok
    await asyncio.sleep(0.1)  # Several times as long as between two looks.
    await goes_on(client)
