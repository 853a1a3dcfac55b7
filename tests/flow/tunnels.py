"""What the tests of WebSockets share. They run on both event loops, since a tunnel leans on what
their sockets do."""

from __future__ import annotations

import asyncio
import socket
import struct

import uvloop

from gateway.app import Gateway
from tests.until import until
from tests.websocket import (
    frame,
)

MASK = b"\x01\x02\x03\x04"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def over(gateway: Gateway) -> None:
    """Waits until nothing of a tunnel is left anywhere."""
    (pool,) = gateway.runtime.snapshot.pools.values()
    await until(
        lambda: not gateway.telemetry.in_flight.get() and not gateway.status()["connections"]
    )
    assert (pool.in_flight, pool.tunnels, len(tunnels(gateway))) == (0, 0, 0)
    assert all(connection.deadline == float("inf") for connection in gateway.transport.open), (
        "only idle ones are left"
    )


def tunnels(gateway: Gateway):
    return gateway.plane.listeners[0].tunnels


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    writer.transport.abort()


async def stuck(sent: list[int]) -> int:
    """How much had been sent when nothing moved any more."""
    last = -1
    while sent[0] != last:
        last = sent[0]
        await asyncio.sleep(0.2)
    return last


async def flood(writer: asyncio.StreamWriter, sent: list[int], mask: bytes = b"") -> None:
    one = frame(b"x" * 100_000, mask=mask)
    for _ in range(500):
        writer.write(one)
        await writer.drain()
        sent[0] += 100_000
