"""Active checks of endpoints: a TCP connection, a TLS handshake, a GET, or a call of gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from gateway.config.tables.health import HealthConfig
from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.content.grpc import CONTENT_TYPE, NAMES
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.wait import Wait
from gateway.protocols.grpc import (
    HEALTH_METHOD,
    format_timeout,
    health_request,
    serving_status,
)
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.opening import failure_of
from gateway.upstream.connections.transport import Transport
from gateway.upstream.pool.endpoint import UNIX, Endpoint

SEARCHED = 1024 * 1024
"""Bytes of an answer that are searched for what it has to contain."""


class Answer(Wait[Reply]):
    """A ResponseHandler for one coroutine: `await` gives the Reply or raises Failed. `stale`: see
    ResponseHandler.failed."""

    accept = b""

    def __init__(self) -> None:
        super().__init__()
        self.stale = False

    def interim(self, status: int, fields: Sequence[Pair]) -> None:
        pass

    def answered(self, reply: Reply, counts_as: int = 0) -> None:
        self.wake(reply)

    def failed(self, failed: Failed, stale: bool) -> None:
        self.stale = stale
        self.fail(failed)

    def ended(self, failed: Failed | None, counts_as: int = 0) -> None:
        pass


async def check(transport: Transport, endpoint: Endpoint, health: HealthConfig) -> int:
    """One active check, on a connection of its own: the status of GET `health.path`, 0 for other
    types. Raises Failed."""
    if health.type == "tcp":
        return await tcp_probe(endpoint)
    place = await transport.connect_apart(endpoint, health.timeout)
    try:
        if health.type == "tls":
            return 0
        fields = {"Host": health.host or endpoint.authority, "User-Agent": "gateway-health"}
        fields |= {name.title(): value for name, value in health.headers.items()}
        if health.type == "grpc":
            await _grpc_check(place, endpoint, health, fields)
            return 0
        answer, timeouts = Answer(), TimeoutsConfig(read=health.timeout, write=health.timeout)
        path = f"{endpoint.path}{health.path}"
        if isinstance(place, Connection):
            fields["Connection"] = "close"
            lines = [f"GET {path} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
            head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
            place.start(head, answer, timeouts)
        else:
            place.start(_fields("GET", endpoint, path, fields), b"", answer, timeouts)
        reply = await answer
        if (
            health.body
            and reply.status in health.status
            and not await contains(reply, health.body.encode())
        ):
            raise Failed(
                Failure.BAD_RESPONSE, why=f"{health.path} answered without {health.body!r}"
            )
        return reply.status
    finally:
        place.give_up()
        place.retire()


async def _grpc_check(
    place: Any, endpoint: Endpoint, health: HealthConfig, fields: dict[str, str]
) -> None:
    """Ask by grpc.health.v1. Raises Failed unless the service is there and serves."""
    answer, timeouts = Answer(), TimeoutsConfig(read=health.timeout, write=health.timeout)
    asked = _fields("POST", endpoint, endpoint.path + HEALTH_METHOD, fields)
    asked += [
        (b"content-type", CONTENT_TYPE.encode()),
        (b"te", b"trailers"),
        (b"grpc-timeout", format_timeout(health.timeout)),
    ]
    place.start(asked, health_request(health.service), answer, timeouts)
    reply = await answer
    body, trailers = reply.body, reply.index
    if not isinstance(body, bytes):
        parts = b""
        while (chunk := await body.read()) and len(parts) < SEARCHED:
            parts += chunk
        body, trailers = parts, dict(getattr(body, "trailers", ())) or trailers
    status = trailers.get(b"grpc-status", b"none")
    if reply.status != 200 or status != b"0":
        what = NAMES.get(status, status.decode("latin-1"))
        why = f"{HEALTH_METHOD} answered {reply.status}, grpc-status {what}"
        raise Failed(Failure.BAD_RESPONSE, why=why)
    try:
        said = serving_status(body)
    except ValueError as error:
        why = f"{HEALTH_METHOD} answered something else than a HealthCheckResponse: {error}"
        raise Failed(Failure.BAD_RESPONSE, why=why) from None
    if said != "SERVING":
        raise Failed(Failure.BAD_RESPONSE, why=f"{health.service or 'the server'} is {said}")


def _fields(method: str, endpoint: Endpoint, path: str, fields: dict[str, str]) -> list[Pair]:
    """The fields of a check by HTTP/2."""
    pairs = [
        (":method", method),
        (":scheme", "https" if endpoint.scheme == "https" else "http"),
        (":authority", fields["Host"]),
        (":path", path),
    ]
    pairs += [(name.lower(), value) for name, value in fields.items() if name != "Host"]
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]


async def tcp_probe(endpoint: Endpoint) -> int:
    """Open a connection to `endpoint` and close it; returns 0. Raises Failed."""
    try:
        if endpoint.scheme == UNIX:
            _, writer = await asyncio.open_unix_connection(endpoint.host)
        else:
            _, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
    except OSError as error:
        raise failure_of(error, endpoint) or error from None
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass  # It was there, which is all that was asked.
    return 0


async def contains(reply: Reply, text: bytes) -> bool:
    """Return True if the first SEARCHED bytes of the body contain `text`."""
    body = reply.body
    if isinstance(body, bytes):
        return text in body[:SEARCHED]
    read, tail = 0, b""
    while read < SEARCHED and (chunk := await body.read()):
        read += len(chunk)
        tail += chunk
        if text in tail:
            body.abort()
            return True
        tail = tail[-len(text) :]
    body.abort()
    return False
