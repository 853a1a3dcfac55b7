"""A raw HTTP/1.1 client for tests: sends bytes as they are, reads one message at a time, hides
nothing."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field

from tests.origin import fields_of


@dataclass
class Message:
    """A response. `whole` is False when the connection ended before the body was complete."""

    status: int
    head: bytes
    body: bytes
    whole: bool = True
    fields: dict[str, str] = field(default_factory=dict)


class Client:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(
        cls, port: int, tls: ssl.SSLContext | None = None, name: str = "gateway.test"
    ) -> Client:
        """`tls` and the `name` to ask for, where the gateway is to be met over TLS."""
        hostname = name if tls is not None else None
        return cls(
            *await asyncio.open_connection(
                "127.0.0.1", port, limit=2**20, ssl=tls, server_hostname=hostname
            )
        )

    def close(self) -> None:
        self.writer.close()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> tuple[int, bytes, dict[str, str]]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        return int(head.split()[1]), head, fields_of(head)

    async def read(self, method: str = "GET") -> Message:
        """The next response, interim ones skipped."""
        status, head, fields = await self.head()
        while status < 200:
            status, head, fields = await self.head()
        body, whole = b"", True
        try:
            if method == "HEAD" or status in (204, 304):
                pass
            elif "content-length" in fields:
                body = await asyncio.wait_for(
                    self.reader.readexactly(int(fields["content-length"])), 20
                )
            elif fields.get("transfer-encoding") == "chunked":
                parts = []
                while size := int((await self.reader.readuntil(b"\r\n")).strip(), 16):
                    parts.append(await self.reader.readexactly(size))
                    await self.reader.readexactly(2)
                await self.reader.readexactly(2)
                body = b"".join(parts)
            else:
                body = await self.reader.read()
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            whole = False
            body = getattr(error, "partial", b"")
        return Message(status, head, body, whole, fields)

    async def get(
        self, path: str, *lines: str, method: str = "GET", body: bytes | None = None
    ) -> Message:
        """One request with the given extra header lines, and its response."""
        head = [f"{method} {path} HTTP/1.1", "Host: gateway.test", *lines]
        if body is not None:
            head.append(f"Content-Length: {len(body)}")
        await self.send("\r\n".join(head).encode() + b"\r\n\r\n" + (body or b""))
        return await self.read(method)

    async def at_end(self) -> bool:
        """Whether the gateway has closed the connection, with nothing more sent."""
        try:
            return await asyncio.wait_for(self.reader.read(1), 10) == b""
        except ConnectionError:
            return True
