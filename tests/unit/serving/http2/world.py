"""A connection of HTTP/2 without sockets: a client's session, and the server of memory.World."""

from __future__ import annotations

from typing import Any

from gateway.core.telemetry import Level
from gateway.protocols.http2 import session as http2
from gateway.protocols.http2.session import Limits, Session
from gateway.serving.http1.limits import Limits as HeadLimits
from gateway.serving.http2.connection import Http2Connection
from gateway.serving.http2.head import HeadReader
from tests.unit.serving.memory import Transport
from tests.unit.serving.memory import World as Http1World

GOAWAY = 7


class World(Http1World):
    """`client` is the client's session; `events` what it has been told.

    limits: the server's. of_client: the client's own.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        of_client: Limits | None = None,
        connect: bool = False,
        max_requests: int = 1000,
    ) -> None:
        super().__init__(max_requests)
        self.ended: list[str] = []
        self.http2_requests = Level("requests", "", "counter")
        heads = HeadReader(HeadLimits(8190, 8190, 128), 16384)
        self.session = Session(limits or Limits(), connect=connect)
        self.connection: Any = Http2Connection(self, heads, self.session)
        self.transport = Transport()
        self.client = Session(of_client or Limits(), client=True)
        self.events: list[Any] = []
        self.goaway: int | None = None
        """The code of the last GOAWAY."""
        self.connection.connection_made(self.transport)
        self.talk()

    def count_http2_end(self, reason: str, peer: str) -> None:
        self.ended.append(reason)

    def talk(self) -> list[Any]:
        """Hand over all that either side has; return what the client has been told since."""
        told: list[Any] = []
        while True:
            there, back = self.client.pending(), self.transport.take()
            if not there and not back:
                self.events += told
                for event in told:
                    if type(event) is http2.GoAwayReceived:
                        self.goaway = event.error_code
                return told
            if there:
                self.connection.data_received(there)
            told += self.client.receive(back)

    def raw(self, data: bytes) -> bytes:
        """The client sends these bytes, of which its session knows nothing; what it gets."""
        self.connection.data_received(data)
        sent = self.transport.take()
        at = 0
        while at < len(sent):
            size = 9 + int.from_bytes(sent[at : at + 3], "big")
            if sent[at + 3] == GOAWAY:
                self.goaway = int.from_bytes(sent[at + 13 : at + 17], "big")
            at += size
        return sent

    def ask(
        self,
        target: str,
        *fields: tuple[bytes, bytes],
        method: str = "GET",
        body: bytes | None = None,
    ) -> int:
        """A request; its stream."""
        head = [
            (b":method", method.encode()),
            (b":scheme", b"http"),
            (b":authority", b"a"),
            (b":path", target.encode()),
            *fields,
        ]
        stream = self.client.request(head, end=body is None)
        if body is not None:
            self.client.send(stream, body, end=True)
        return stream

    def get(self, target: str, *fields: tuple[bytes, bytes], **more: Any) -> tuple[int, bytes]:
        """Ask, and return the status and the body of what comes at once."""
        stream = self.ask(target, *fields, **more)
        self.talk()
        return self.answer_of(stream)

    def answer_of(self, stream: int) -> tuple[int, bytes]:
        heads = [e for e in self.of(http2.ResponseReceived) if e.stream_id == stream]
        if not heads:
            return 0, b""
        body = b"".join(e.data for e in self.of(http2.DataReceived) if e.stream_id == stream)
        return int(dict(heads[0].headers)[b":status"]), body

    def of(self, kind: Any) -> list[Any]:
        return [event for event in self.events if type(event) is kind]
