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
from tests.http2_origin import Http2Origin, Request
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


def message(status: int) -> bytes:
    """A framed HealthCheckResponse."""
    return bytes([0, 0, 0, 0, 2, 8, status])


@pytest.mark.parametrize(
    ("body", "trailers", "why"),
    [
        (message(1), "0", ""),
        (message(2), "0", "a.B is NOT_SERVING"),
        (message(3), "0", "a.B is SERVICE_UNKNOWN"),
        (b"", "12", "grpc-status unimplemented"),
        (b"", "", "grpc-status none"),
        (b"odd", "0", "something else than a HealthCheckResponse"),
    ],
)
async def test_a_check_by_grpc(body: bytes, trailers: str, why: str) -> None:
    async def respond(request: Request) -> None:
        asked.append(await request.body())
        request.head(200, [("content-type", "application/grpc")])
        if body:
            await request.data(body)
        request.finish([("grpc-status", trailers)] if trailers else ())

    asked: list[bytes] = []
    origin = await Http2Origin(respond).start()
    transport, endpoint = Transport(), Endpoint("x", EndpointConfig(origin.url))
    transport.secure("x", [endpoint], None, "h2c")
    health = HealthConfig(type="grpc", service="a.B")
    try:
        if why:
            with pytest.raises(Failed, match=why) as caught:
                await check(transport, endpoint, health)
            assert caught.value.failure is Failure.BAD_RESPONSE
        else:
            assert await check(transport, endpoint, health) == 0
    finally:
        transport.close()
        await origin.stop()
    assert asked == [b"\0\0\0\0\x05\x0a\x03a.B"]
    fields = origin.requests[0].fields
    assert fields[":path"] == "/grpc.health.v1.Health/Check" and fields["te"] == "trailers"
    assert fields["content-type"] == "application/grpc" and fields["grpc-timeout"] == "5000000u"


async def test_a_status_that_comes_alone() -> None:
    """A failed call has no body: its status is in the headers."""

    async def respond(request: Request) -> None:
        await request.body()
        request.head(200, [("content-type", "application/grpc"), ("grpc-status", "5")], end=True)

    origin = await Http2Origin(respond).start()
    transport, endpoint = Transport(), Endpoint("x", EndpointConfig(origin.url))
    transport.secure("x", [endpoint], None, "h2c")
    try:
        with pytest.raises(Failed, match="grpc-status not_found"):
            await check(transport, endpoint, HealthConfig(type="grpc"))
        assert await check(transport, endpoint, HealthConfig(type="tls")) == 0
    finally:
        transport.close()
        await origin.stop()
