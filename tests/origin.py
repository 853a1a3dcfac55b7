"""An upstream for tests that shows what it received, byte by byte, and answers whatever a test
wants."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Respond = Callable[["Origin", bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bool]]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class Origin:
    """A raw TCP server. `heads` holds every request head it received, `bodies` what followed by
    Content-Length or chunks.

    respond: called with the head and the streams once the body has been read; returns whether to
    keep the connection.
    """

    def __init__(
        self, respond: Respond | bytes = OK, *, health: bytes = OK, read_body: bool = True
    ) -> None:
        self.respond = respond
        self.health = health
        self.read_body = read_body
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.aborted = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.port = 0
        self.scheme = "http"

    async def start(
        self, port: int = 0, tls: ssl.SSLContext | None = None, *, path: Path | None = None
    ) -> Origin:
        """Listens on a port, or on the Unix socket `path`."""
        if path is not None:
            self._server = await asyncio.start_unix_server(self._serve, path)
            return self
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, ssl=tls)
        self.scheme = "http" if tls is None else "https"
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if server is not None and self.scheme == "https":
            # A handshake that was broken off has no task, and ends with its alert or reset.
            if sys.version_info >= (3, 12):
                with suppress(TimeoutError):
                    await asyncio.wait_for(server.wait_closed(), 5)
            else:  # There wait_closed waits for nothing once the server is closed.
                await asyncio.sleep(0.1)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.aborted.set()
        except asyncio.CancelledError:
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        if b" /health" in head.split(b"\r\n")[0]:
            writer.write(self.health)
            await writer.drain()
            return b"connection: close" not in head.lower()
        self.heads.append(head)
        if self.read_body:
            self.bodies.append(await read_body(head, reader))
        if isinstance(self.respond, bytes):
            writer.write(self.respond)
            await writer.drain()
            return True
        return await self.respond(self, head, reader, writer)


async def read_body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    fields = fields_of(head)
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    if "chunked" in fields.get("transfer-encoding", ""):
        parts = []
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return b"".join(parts)
    return b""


def fields_of(head: bytes) -> dict[str, str]:
    """The header fields of a head, by lower-case name; repeated ones joined by ", "."""
    fields: dict[str, str] = {}
    for line in head.decode("latin-1").split("\r\n")[1:]:
        if ":" in line:
            name, _, value = line.partition(":")
            key = name.strip().lower()
            fields[key] = f"{fields[key]}, {value.strip()}" if key in fields else value.strip()
    return fields


def answer(body: bytes = b"ok", status: str = "200 OK", **fields: str) -> bytes:
    """A complete answer with a Content-Length; underscores in names become dashes."""
    lines = [
        f"HTTP/1.1 {status}",
        *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items()),
    ]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def main() -> None:
    """`python -m tests.origin PORT NAME [DELAY]`: an upstream in a process of its own, so that it
    can be killed.

    It answers GET with its name after DELAY seconds; /bytes/N with N bytes, /digest to a body with
    the body's SHA-256.
    """
    port, name, delay = int(sys.argv[1]), sys.argv[2].encode(), float((*sys.argv, "0")[3])

    async def respond(
        origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        target = head.split()[1]
        if target.startswith(b"/bytes/"):
            left = int(target.rpartition(b"/")[2])
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % left)
            for start in range(0, left, 65536):
                writer.write(block(start)[: left - start])
                await writer.drain()
        elif target.startswith(b"/digest"):
            digest, left = hashlib.sha256(), int(fields_of(head)["content-length"])
            while left:
                chunk = await reader.read(min(left, 65536))
                digest.update(chunk)
                left -= len(chunk)
            writer.write(answer(digest.hexdigest().encode()))
        else:
            if delay:
                await asyncio.sleep(delay)
            writer.write(answer(name))
        await writer.drain()
        return True

    async def serve() -> None:
        await Origin(respond, read_body=False).start(port)
        print("ready", flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


def block(start: int) -> bytes:
    """64 KiB that differ from those at any other start."""
    return (b"%016d" % start) * 4096


if __name__ == "__main__":
    main()
