"""Active checks of endpoints: a TCP connection, a TLS handshake, or a GET."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.config.tables.health import HealthConfig
from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.wait import Wait
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

    def answered(self, reply: Reply) -> None:
        self.wake(reply)

    def failed(self, failed: Failed, stale: bool) -> None:
        self.stale = stale
        self.fail(failed)

    def ended(self, failed: Failed | None) -> None:
        pass


async def check(transport: Transport, endpoint: Endpoint, health: HealthConfig) -> int:
    """One active check: the status of GET `health.path`, 0 for other types. Raises Failed."""
    if health.type == "tcp":
        return await tcp_probe(endpoint)
    connection = await transport.connect(endpoint, health.timeout)
    if health.type == "tls":
        connection.close()
        return 0
    fields = {"Host": health.host or endpoint.authority, "User-Agent": "gateway-health"}
    fields |= {name.title(): value for name, value in health.headers.items()}
    fields["Connection"] = "close"
    lines = [
        f"GET {endpoint.path}{health.path} HTTP/1.1",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    answer = Answer()
    try:
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        connection.start(head, answer, TimeoutsConfig(read=health.timeout, write=health.timeout))
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
        connection.give_up()


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
