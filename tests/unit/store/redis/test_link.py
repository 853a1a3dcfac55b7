"""Opening the way to a server: what is sent first, what is refused, and why it is down."""

from __future__ import annotations

import logging

import pytest

from gateway.core.clock import REAL
from gateway.core.telemetry import Telemetry
from gateway.store.redis import link as link_module
from gateway.store.redis.client import RedisClient
from gateway.store.stores import StoreDown, parse
from tests.redis import OK, RedisServer, StartFake, fake, redis, usual
from tests.until import until

__all__ = ["fake", "redis"]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "AGAIN", (0.01, 0.02))


def made(url: str) -> RedisClient:
    return RedisClient(parse(url), 2.0, REAL, Telemetry())


async def until_up(client: RedisClient) -> None:
    await until(lambda: client.up)


async def test_a_server_that_closes_while_it_is_greeted(fake: StartFake):
    server = await fake(lambda command: None)
    client = made(f"redis://127.0.0.1:{server.port}/1")
    with pytest.raises(StoreDown):
        await client.command(b"GET", b"k")
    assert not client.up
    server.reply = usual()
    await until_up(client)
    assert await client.command(b"GET", b"k") == b"OK"
    client.close()


async def test_nothing_is_asked_before_the_database_is_selected(fake: StartFake):
    """An error to SELECT once left everything in database 0."""

    def reply(command: list[bytes]) -> bytes:
        return b"-ERR DB index is out of range\r\n" if command[0] == b"SELECT" and refuses else OK

    refuses = True
    server = await fake(reply)
    client = made(f"redis://127.0.0.1:{server.port}/99")
    with pytest.raises(StoreDown, match="SELECT: ERR DB index"):
        await client.command(b"SET", b"k", b"v")
    await until(lambda: len(server.asked) >= 3)
    assert not client.up and "DB index is out of range" in client.why
    assert {command[0] for command in server.asked} == {b"SELECT"}
    refuses = False
    await until_up(client)
    assert await client.command(b"SET", b"k", b"v") == b"OK" and client.why == ""
    client.close()


async def test_a_wrong_password_is_said_without_the_password(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING, "gateway")
    redis.command("CONFIG", "SET", "requirepass", "right")
    client = made(f"redis://:guessed@127.0.0.1:{redis.port}")
    with pytest.raises(StoreDown, match="AUTH: WRONGPASS"):
        await client.command(b"GET", b"k")
    assert "WRONGPASS" in client.why and "WRONGPASS" in caplog.text and "guessed" not in caplog.text
    client.close()
    none = made(f"redis://127.0.0.1:{redis.port}")
    with pytest.raises(StoreDown, match="NOAUTH"):
        await none.command(b"GET", b"k")
    assert not none.up and "NOAUTH" in none.why
    none.close()


async def test_tls_to_a_port_without(redis: RedisServer):
    client = made(f"rediss://127.0.0.1:{redis.port}")
    with pytest.raises(StoreDown, match=r"cannot connect: .*(SSL|TLS)"):
        await client.command(b"GET", b"k")
    assert not client.up and ("SSL" in client.why or "TLS" in client.why)
    client.close()


async def test_a_port_that_says_nothing(fake: StartFake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(link_module, "FIRST", 0.02)
    server = await fake(lambda command: b"")
    client = made(f"redis://127.0.0.1:{server.port}/1")
    with pytest.raises(StoreDown, match=r"no answer within 0\.02 s"):
        await client.command(b"GET", b"k")
    client.close()


async def test_a_mistake_of_our_own_does_not_end_the_search(
    fake: StartFake, caplog: pytest.LogCaptureFixture
):
    """One exception that was not foreseen once left a server down for ever."""
    server = await fake(lambda command: None)
    client = made(f"redis://127.0.0.1:{server.port}")
    with pytest.raises(StoreDown):
        await client.command(b"GET", b"k")
    [link] = client.links
    resolve, wrong = link.resolve, [RuntimeError("a mistake")]

    async def once() -> tuple[str, int]:
        if wrong:
            raise wrong.pop()
        return await resolve()

    link.resolve = once
    server.reply = usual()
    await until_up(client)
    assert "store_link of redis://" in caplog.text and await client.command(b"GET", b"k") == b"OK"
    client.close()


async def test_a_mistake_of_our_own_leaves_nothing_waiting(
    fake: StartFake, caplog: pytest.LogCaptureFixture
):
    server = await fake(usual())
    client = made(f"redis://127.0.0.1:{server.port}")
    [link] = client.links
    resolve = link.resolve

    async def wrong() -> tuple[str, int]:
        link.resolve = resolve
        raise RuntimeError("a mistake")

    link.resolve = wrong
    with pytest.raises(StoreDown, match="a mistake"):
        await client.command(b"GET", b"k")
    assert "RuntimeError" in caplog.text
    await until_up(client)
    client.close()


async def test_an_error_without_words_is_a_reason_too(fake: StartFake):
    """A link without a reason counts as up: commands once waited in it for ever."""
    server = await fake(lambda command: None)
    client = made(f"redis://127.0.0.1:{server.port}")
    [link] = client.links
    tries = 0

    async def silent() -> tuple[str, int]:
        nonlocal tries
        tries += 1
        raise ConnectionResetError

    link.resolve = silent
    for _ in range(2):
        with pytest.raises(StoreDown, match="ConnectionResetError"):
            await client.command(b"GET", b"k")
        await until(lambda: tries >= 3)
    client.close()
