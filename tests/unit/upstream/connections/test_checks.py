"""The parts of checks that are no HTTP exchange."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.health import HealthConfig
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.upstream.connections.checks import SEARCHED, check, contains, tcp_probe
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.endpoint import Endpoint
from tests.origin import Origin, answer


class Stream:
    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        self.aborted = False

    async def read(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""

    def abort(self) -> None:
        self.aborted = True


async def test_a_tcp_probe_finds_out_whether_somebody_listens() -> None:
    origin = await Origin().start()
    endpoint = Endpoint("x", EndpointConfig(origin.url))
    assert await tcp_probe(endpoint) == 0
    await origin.stop()
    with pytest.raises(Failed) as caught:
        await tcp_probe(endpoint)
    assert caught.value.failure is Failure.CONNECT_FAILED


@pytest.mark.parametrize(
    ("chunks", "found"),
    [
        ((b"all is w", b"ell"), True),
        ((b"nothing",), False),
        ((), False),
        ((b"x" * SEARCHED, b"well"), False),
    ],
)
async def test_what_a_stream_contains(chunks: tuple[bytes, ...], found: bool) -> None:
    stream = Stream(*chunks)
    assert await contains(Reply(200, body=stream), b"well") is found
    assert stream.aborted


@pytest.fixture
async def origin():
    one = await Origin(health=answer(b'{"status": "up"}')).start()
    yield one
    await one.stop()


@pytest.mark.parametrize(
    ("health", "status"),
    [
        (HealthConfig(type="tcp"), 0),
        (HealthConfig(body='"up"'), 200),
        (HealthConfig(body='"down"', status=(204,)), 200),
    ],
)
async def test_checks(origin: Origin, health: HealthConfig, status: int) -> None:
    assert await check(Transport(), Endpoint("x", EndpointConfig(origin.url)), health) == status


async def test_a_body_that_is_not_as_expected_fails(origin: Origin) -> None:
    with pytest.raises(Failed, match="/health answered without '\"down\"'"):
        await check(
            Transport(), Endpoint("x", EndpointConfig(origin.url)), HealthConfig(body='"down"')
        )


@pytest.mark.parametrize("refuses", [True, False])
async def test_tls_wants_a_handshake_and_no_more(refuses: bool) -> None:
    opened: list[asyncio.Protocol] = []

    async def opener(factory: Callable[[], asyncio.Protocol], endpoint: Endpoint) -> object:
        if refuses:
            error = ssl.SSLError(1, "handshake failure")
            error.reason = "HANDSHAKE_FAILURE"
            raise error
        opened.append(factory())
        return None

    transport, endpoint = (
        Transport(opener=opener),
        Endpoint("x", EndpointConfig("https://127.0.0.1:1")),
    )
    if refuses:
        with pytest.raises(Failed) as caught:
            await check(transport, endpoint, HealthConfig(type="tls"))
        assert caught.value.failure is Failure.TLS_FAILED
    else:
        assert await check(transport, endpoint, HealthConfig(type="tls")) == 0
        assert repr(opened[0]).endswith("closed>")


async def test_headers_of_a_check_replace_its_own(origin) -> None:
    seen = []

    async def respond(origin, head, reader, writer):
        seen.append(head)
        writer.write(answer(b"ok"))
        return True

    one = await Origin(respond).start()
    health = HealthConfig(
        path="/ready", headers={"host": "cameras.example", "USER-AGENT": "mine", "X-Own": "1"}
    )
    assert await check(Transport(), Endpoint("x", EndpointConfig(one.url)), health) == 200
    lines = seen[0].decode().split("\r\n")
    assert [line for line in lines if line.lower().startswith("host:")] == ["Host: cameras.example"]
    assert "User-Agent: mine" in lines
    assert "X-Own: 1" in lines
    await one.stop()
