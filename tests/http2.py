"""An HTTP/2 client for tests on real sockets: the gateway's own session as client, one connection."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from typing import Any

from gateway.protocols.http2 import session as http2
from gateway.protocols.http2.session import Limits, Session

Pairs = tuple[tuple[bytes, bytes], ...]


@dataclass
class Answer:
    """What has come on a stream. done: it has ended, with `code` where it was reset."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    interim: list[int] = field(default_factory=list)
    done: bool = False
    code: int = 0


class Http2Client(asyncio.Protocol):
    """`answers` by stream. reads: acknowledge bodies as they come. `goaway`: the code of the last
    one, None without one."""

    def __init__(self, limits: Limits, *, reads: bool = True) -> None:
        self.session = Session(limits, client=True)
        self.answers: dict[int, Answer] = {}
        self.goaway: int | None = None
        self.closed = self.settled = False
        self.reads = reads
        self._changed = asyncio.Event()
        self.transport: Any = None

    @classmethod
    async def connect(
        cls,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        limits: Limits | None = None,
        reads: bool = True,
        local: str | None = None,
    ) -> Http2Client:
        """local: the client's own address."""
        loop = asyncio.get_running_loop()
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        limits = limits or Limits(window=10**6, connection_window=10**7)
        _, client = await loop.create_connection(
            lambda: cls(limits, reads=reads),
            "127.0.0.1",
            port,
            ssl=tls,
            server_hostname="gateway.test" if tls is not None else None,
            local_addr=None if local is None else (local, 0),
        )
        await client.until(lambda: client.settled or client.closed)
        return client

    # asyncio.Protocol.

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.flush()

    def data_received(self, data: bytes) -> None:
        self._take(self.session.receive(data))
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._changed.set()

    def flush(self) -> None:
        """Send what the session has."""
        while data := self.session.pending():
            self.transport.write(data)
        self._take(self.session.events())

    def _take(self, events: list[Any]) -> None:
        for event in events:
            answer = self.answers.get(getattr(event, "stream_id", 0))
            if type(event) is http2.GoAwayReceived:
                self.goaway = event.error_code
            elif type(event) is http2.SettingsReceived:
                self.settled = True
            elif type(event) is http2.ConnectionClosed:
                self.transport.close()
            if answer is None:
                continue
            if type(event) is http2.ResponseReceived:
                answer.fields = {k.decode(): v.decode() for k, v in event.headers}
                answer.status = int(answer.fields.pop(":status"))
            elif type(event) is http2.InformationalResponseReceived:
                answer.interim.append(int(event.headers[0][1]))
            elif type(event) is http2.DataReceived:
                answer.body += event.data
                if self.reads:
                    self.session.consumed(event.stream_id, len(event.data))
            elif type(event) is http2.TrailersReceived:
                answer.trailers = {k.decode(): v.decode() for k, v in event.headers}
            elif type(event) is http2.StreamClosed:
                answer.done, answer.code = True, event.error_code
        self._changed.set()

    # Requests.

    def begin(
        self, path: str = "/", *fields: tuple[bytes, bytes], method: str = "GET", end: bool = True
    ) -> int:
        """Send a head; its stream."""
        head = [
            (b":method", method.encode()),
            (b":scheme", b"http"),
            (b":authority", b"gateway.test"),
            (b":path", path.encode()),
            *fields,
        ]
        return self.send_head(head, end=end)

    def send_head(self, head: list[tuple[bytes, bytes]], *, end: bool = True) -> int:
        stream = self.session.request(head, end=end)
        self.answers[stream] = Answer()
        self.flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        self.session.send(stream, data, end=end)
        self.flush()

    def reset(self, stream: int) -> None:
        self.session.reset(stream)
        self.flush()

    async def get(
        self, path: str = "/", *fields: tuple[bytes, bytes], body: bytes | None = None, **more: Any
    ) -> Answer:
        """Ask, and wait for the end of the answer."""
        if body is not None:
            more.setdefault("method", "POST")
        stream = self.begin(path, *fields, end=body is None, **more)
        if body is not None:
            self.send(stream, body, end=True)
        return await self.answer(stream)

    async def answer(self, stream: int) -> Answer:
        """Wait for the end of the stream."""
        answer = self.answers[stream]
        await self.until(lambda: answer.done or self.closed)
        return answer

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def close(self) -> None:
        self.transport.abort()
