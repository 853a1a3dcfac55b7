"""An HTTP/2 upstream for tests, on the package h2, which shares no code with the gateway's codec.

A test says what it answers: `respond` is a coroutine function that is called for every request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings

Respond = Callable[["Request"], Awaitable[None]]
Fields = Iterable[tuple[str, str]]


class Request:
    """One stream at the origin: what came, and the way back.

    fields: header fields by name, pseudo-fields too. ended: no more of the body will come.
    reset:  the code with which the client broke it off, None while it has not.
    """

    def __init__(self, connection: Connection, number: int, fields: list[tuple[str, str]]) -> None:
        self.connection = connection
        self.number = number
        self.pairs = fields
        self.fields = dict(fields)
        self.trailers: list[tuple[str, str]] = []
        self.reset: int | None = None
        self.ended = False
        self.read = 0
        self._chunks: list[tuple[bytes, int]] = []
        self.came = asyncio.Event()

    async def chunk(self) -> bytes:
        """The next bytes of the body, which the client may send anew; b"" at the end."""
        while not self._chunks:
            if self.ended or self.reset is not None:
                return b""
            self.came.clear()
            await self.came.wait()
        data, size = self._chunks.pop(0)
        self.read += len(data)
        if size and self.reset is None:
            self.connection.h2.acknowledge_received_data(size, self.number)
            self.connection.flush()
        return data

    async def body(self) -> bytes:
        parts = []
        while data := await self.chunk():
            parts.append(data)
        return b"".join(parts)

    async def broken_off(self) -> int:
        """The code of the client's reset."""
        while self.reset is None:
            self.came.clear()
            await self.came.wait()
        return self.reset

    def head(self, status: int = 200, fields: Fields = (), *, end: bool = False) -> None:
        self.connection.h2.send_headers(
            self.number, [(":status", str(status)), *fields], end_stream=end
        )
        self.connection.flush()

    async def data(self, data: bytes, *, end: bool = False) -> None:
        """Send bytes as the client's windows have room for them."""
        machine = self.connection.h2
        view = memoryview(data)
        while True:
            if self.reset is not None:
                return
            room = min(
                machine.local_flow_control_window(self.number), machine.max_outbound_frame_size
            )
            if view and not room:
                self.connection.room.clear()
                await self.connection.room.wait()
                continue
            part, view = view[:room], view[room:]
            machine.send_data(self.number, part.tobytes(), end_stream=end and not view)
            self.connection.flush()
            await self.connection.drain()
            if not view:
                return

    def finish(self, trailers: Fields = ()) -> None:
        trailers = list(trailers)
        if trailers:
            self.connection.h2.send_headers(self.number, trailers, end_stream=True)
        else:
            self.connection.h2.end_stream(self.number)
        self.connection.flush()

    async def answer(
        self, body: bytes = b"ok", status: int = 200, fields: Fields = (), trailers: Fields = ()
    ) -> None:
        """A whole answer, with a Content-Length."""
        self.head(status, [*fields, ("content-length", str(len(body)))])
        if body:
            await self.data(body)
        self.finish(trailers)

    def break_off(self, code: int) -> None:
        self.connection.h2.reset_stream(self.number, code)
        self.connection.flush()


class Connection(asyncio.Protocol):
    """One connection at the origin."""

    def __init__(self, origin: Http2Origin) -> None:
        self.origin = origin
        self.h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.requests: dict[int, Request] = {}
        self.room = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self.pings = 0
        self.goaway: Any = None
        self.lost = asyncio.Event()
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.origin.connections.append(self)
        self.h2.local_settings = h2.settings.Settings(
            client=False, initial_values=self.origin.settings
        )
        self.h2.initiate_connection()
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        for request in self.requests.values():
            if not request.ended and request.reset is None:
                request.reset = -1
            request.came.set()
        self.room.set()
        self._drained.set()

    def pause_writing(self) -> None:
        self._drained.clear()

    def resume_writing(self) -> None:
        self._drained.set()

    async def drain(self) -> None:
        await self._drained.wait()

    def flush(self) -> None:
        data = self.h2.data_to_send()
        if data and not self.origin.mute:
            self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self.origin.errors.append(error)
            self.flush()
            self.transport.close()
            return
        for event in events:
            self._take(event)
        self.flush()

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            request = Request(self, event.stream_id, event.headers)
            self.requests[event.stream_id] = request
            self.origin.take(request)
            return
        request = self.requests.get(getattr(event, "stream_id", 0) or 0)  # type: ignore[assignment]
        if isinstance(event, h2.events.WindowUpdated | h2.events.RemoteSettingsChanged):
            self.room.set()
        elif isinstance(event, h2.events.PingReceived):
            self.pings += 1
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = event
        elif request is None:
            return
        elif isinstance(event, h2.events.DataReceived):
            request._chunks.append((event.data, event.flow_controlled_length))
        elif isinstance(event, h2.events.TrailersReceived):
            request.trailers = event.headers
        elif isinstance(event, h2.events.StreamEnded):
            request.ended = True
        elif isinstance(event, h2.events.StreamReset):
            request.reset = event.error_code
            self.room.set()
        if request is not None:
            request.came.set()


async def ok(request: Request) -> None:
    await request.body()
    await request.answer()


class Http2Origin:
    """`requests` holds all there were. `mute`: it sends nothing any more."""

    def __init__(self, respond: Respond = ok, *, settings: dict[int, int] | None = None) -> None:
        self.respond = respond
        self.settings = {
            h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 100,
            **(settings or {}),
        }
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.errors: list[Exception] = []
        self.mute = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: Any = None
        self.port = 0
        self.scheme = "http"

    async def start(
        self, tls: ssl.SSLContext | None = None, *, path: Path | None = None
    ) -> Http2Origin:
        """Listens on a port, or on the Unix socket `path`."""
        loop = asyncio.get_running_loop()
        if path is not None:
            self._server = await loop.create_unix_server(lambda: Connection(self), path)
            return self
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.scheme = "http" if tls is None else "https"
        return self

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def take(self, request: Request) -> None:
        self.requests.append(request)
        task = asyncio.create_task(self._respond(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, request: Request) -> None:
        try:
            await self.respond(request)
        except h2.exceptions.ProtocolError as error:
            if request.reset is None and not request.connection.lost.is_set():
                self.errors.append(error)
        except Exception as error:
            self.errors.append(error)

    async def stop(self) -> None:
        """Raises what went wrong at the origin."""
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for connection in self.connections:
            connection.transport.abort()
        for connection in self.connections:
            await connection.lost.wait()
        if self.errors:
            raise self.errors[0]
