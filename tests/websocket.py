"""RFC 6455 by hand, for tests: handshakes and frames byte by byte, and an upstream that speaks
them."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable
from hashlib import sha1
from typing import NamedTuple

from tests.client import Client
from tests.origin import Origin, Respond, fields_of

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""RFC 6455 section 1.3."""
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Frame(NamedTuple):
    """`first` is the first byte: FIN, three reserved bits, opcode."""

    first: int
    payload: bytes
    masked: bool = False

    @property
    def opcode(self) -> int:
        return self.first & 15

    @property
    def code(self) -> int:
        """A Close frame's status code."""
        return int.from_bytes(self.payload[:2], "big")


def handshake(path: str = "/", *lines: str, key: str = KEY) -> bytes:
    """A client's request, with further header lines."""
    head = [
        f"GET {path} HTTP/1.1",
        "Host: gateway.test",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
    ]
    return "\r\n".join(
        (*head, "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *lines, "", "")
    ).encode()


def switching(head: bytes, *lines: str) -> bytes:
    """The 101 that answers a handshake, with further header lines."""
    key = fields_of(head)["sec-websocket-key"].encode()
    accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    fields = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept}",
    ]
    return "\r\n".join((*fields, *lines, "", "")).encode()


def frame(
    payload: bytes, opcode: int = BINARY, *, fin: bool = True, reserved: int = 0, mask: bytes = b""
) -> bytes:
    """One frame; masked as a client's when `mask` (four bytes) is given. The payload is repeated
    XOR of its own, so cheap."""
    size, bit = len(payload), 128 if mask else 0
    if size < 126:
        length = bytes((size | bit,))
    elif size < 65536:
        length = bytes((126 | bit,)) + size.to_bytes(2, "big")
    else:
        length = bytes((127 | bit,)) + size.to_bytes(8, "big")
    return bytes((fin << 7 | reserved << 4 | opcode,)) + length + mask + masked(payload, mask)


def masked(payload: bytes, mask: bytes) -> bytes:
    """A payload with its mask put on, or taken off again."""
    if not mask or not payload:
        return payload
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def close(code: int, mask: bytes = b"") -> bytes:
    return frame(code.to_bytes(2, "big"), CLOSE, mask=mask)


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    """The next frame, unmasked."""
    async with asyncio.timeout(10):
        first, second = await reader.readexactly(2)
        size = second & 127
        if size > 125:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        mask = await reader.readexactly(4) if second & 128 else b""
        return Frame(first, masked(await reader.readexactly(size), mask), bool(mask))


async def open_tunnel(client: Client, path: str = "/", *lines: str) -> dict[str, str]:
    """A handshake that must succeed; the answer's fields."""
    await client.send(handshake(path, *lines))
    status, head, fields = await client.head()
    assert status == 101, head
    return fields


def speaks(talk: Talk, *lines: str) -> Respond:
    """An Origin's `respond` that accepts every handshake, adds `lines` to its 101, and then talks.

    It hangs up on any other request.
    """

    async def respond(
        origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if "sec-websocket-key" not in fields_of(head):
            return False
        writer.write(switching(head, *lines))
        await writer.drain()
        await talk(reader, writer)
        return False

    return respond


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends every frame back, reserved bits and all, until a Close, which it answers."""
    while True:
        got = await read_frame(reader)
        assert got.masked, "a client's frames are masked"
        writer.write(bytes((got.first,)) + frame(got.payload)[1:])
        await writer.drain()
        if got.opcode == CLOSE:
            return
