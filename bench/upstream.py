"""An upstream for the scenarios, in a process of its own: fast, told what to do over its own
sockets, and keeping a record.

    python bench/upstream.py RECORD NAME DELAY PORT...

It answers with NAME after DELAY seconds. The id of every POST (its X-Id) goes into RECORD the
moment it has arrived, so that a request that ran twice shows even when the process is gone. TERM
ends it as a well-behaved server ends: it accepts nothing more, closes what is idle, and finishes
what it has with Connection: close. What has arrived on a connection by then and was not read is
lost, as it is with every server that ends; the ids in that go into RECORD.unread.

    GET /set?delay=0.1&fail=0.5&code=503&health=503     from now on: this slow, this share answered with this code, not 500;
                                                        this status at /health
    GET /count                                          how many requests it has had, those two and /health aside
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import socket
import struct
import sys
from urllib.parse import parse_qsl

import httptools


class State:
    """What all connections share."""

    def __init__(self, record: str, name: str, delay: float) -> None:
        self.record, self.unread = (
            os.open(record + more, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            for more in ("", ".unread")
        )
        self.name = name.encode()
        self.delay = delay
        self.fail = 0.0
        self.code = 500
        self.health = 200
        self.count = 0
        self.stopping = False
        self.connections: set[Connection] = set()
        self.random = random.Random(7)

    def lose(self, connection: socket.socket) -> None:
        """Closes a connection, and notes what has arrived on it up to that moment and was not
        read."""
        try:
            unread = connection.recv(65536, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            unread = b""
        connection.close()
        for number in re.findall(rb"X-Id: (\S+)", unread, re.IGNORECASE):
            os.write(self.unread, number + b"\n")


class Connection(asyncio.Protocol):
    """One connection; answers one request at a time."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.parser = httptools.HttpRequestParser(self)
        self.busy = False
        self.url = self.id = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.state.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.state.connections.discard(self)
        # A duplicate stays open until this is over; the end goes out when that is closed.
        if self.state.stopping:
            connection = socket.socket(
                fileno=os.dup(self.transport.get_extra_info("socket").fileno())
            )
            asyncio.get_running_loop().call_soon(self.state.lose, connection)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.transport.abort()

    def on_url(self, url: bytes) -> None:
        self.url += url
        self.busy = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-id":
            self.id = value

    def on_message_complete(self) -> None:
        state, url, number = self.state, self.url, self.id
        self.url = self.id = b""
        if url.startswith(b"/set?"):
            for key, value in parse_qsl(url.partition(b"?")[2].decode()):
                setattr(state, key, type(getattr(state, key))(value))
            self.answer(200, b"set")
        elif url == b"/count":
            self.answer(200, b"%d" % state.count)
        elif url == b"/health":
            self.answer(state.health, b"health")
        else:
            state.count += 1
            if number:
                os.write(state.record, number + b"\n")
            status = state.code if state.fail and state.random.random() < state.fail else 200
            if state.delay:
                asyncio.get_running_loop().call_later(state.delay, self.answer, status, state.name)
            else:
                self.answer(status, state.name)

    def answer(self, status: int, body: bytes) -> None:
        close = b"Connection: close\r\n" if self.state.stopping else b""
        self.transport.write(
            b"HTTP/1.1 %d Status\r\nContent-Length: %d\r\n%b\r\n%b"
            % (status, len(body), close, body)
        )
        self.busy = False
        if self.state.stopping:
            self.transport.close()


def refuse(listener: socket.socket, state: State) -> None:
    """Closes it and resets the connections that nobody has accepted yet, as that would, but notes
    what is lost with them."""
    waiting = []
    with listener:
        listener.setblocking(False)
        try:
            while True:
                waiting.append(listener.accept()[0])
        except BlockingIOError:
            pass
    for connection in waiting:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        state.lose(connection)


async def serve(record: str, name: str, delay: float, ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    state = State(record, name, delay)
    servers = [
        await loop.create_server(lambda: Connection(state), "127.0.0.1", port, backlog=1024)
        for port in ports
    ]
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await stop.wait()
    state.stopping = True
    listeners = [
        socket.socket(fileno=os.dup(one.fileno())) for server in servers for one in server.sockets
    ]
    for server in servers:
        server.close()
    for listener in listeners:
        refuse(listener, state)
    for connection in tuple(state.connections):
        if not connection.busy:
            connection.transport.close()
    while state.connections:
        await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(
        serve(sys.argv[1], sys.argv[2], float(sys.argv[3]), [int(port) for port in sys.argv[4:]])
    )
