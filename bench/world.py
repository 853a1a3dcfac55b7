"""What the scenarios are played with: upstream processes, a gateway or HAProxy before them, clients
that time answers."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import httptools

from tests.flow.conftest import write
from tests.process import Process

ROOT = Path(__file__).resolve().parent.parent


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at the moment."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class Server:
    """A bench/upstream.py process; it can be ended and started again on its ports."""

    def __init__(
        self, directory: Path, name: str, delay: float = 0.0, ports: list[int] | None = None
    ) -> None:
        self.name = name
        self.delay = delay
        self.ports = ports or free_ports(1)
        self.port = self.ports[0]
        self.record = directory / f"record-{name}"
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop(signal.SIGKILL)

    async def start(self) -> None:
        """Returns once it listens."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, str(ROOT / "bench/upstream.py"), str(self.record), self.name, str(self.delay),
            *(str(port) for port in self.ports), stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert await self.process.stdout.readline()

    async def stop(self, number: int = signal.SIGTERM) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(number)
            await process.wait()

    async def ask(self, target: str) -> str:
        """GET straight from it: `/set?...` or `/count`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        writer.close()
        return body.decode()

    def ids(self, more: str = "") -> Counter[str]:
        """How often each POST's id has been read, over all its lives; with ".unread", how often it
        had arrived and was not."""
        record = self.record.with_name(self.record.name + more)
        return Counter(record.read_text().split()) if record.exists() else Counter()


class Answer(NamedTuple):
    """`status` 0 when there was none; `at` is when it came (perf_counter), `seconds` how long it
    took."""

    status: int
    body: bytes
    at: float
    seconds: float
    id: str


class _Client(asyncio.Protocol):
    """One connection with one request on it at a time."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.body = b""
        self.keep = True
        self.future: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.connection_lost(error)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.keep = self.parser.should_keep_alive()
        if self.future is not None and not self.future.done():
            self.future.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.future is not None and not self.future.done():
            self.future.set_exception(ConnectionResetError("closed"))

    async def ask(self, request: bytes) -> int:
        self.body = b""
        self.future = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        await self.future
        return self.parser.get_status_code()


class Drive:
    """`connections` clients that ask over and over; every `posts`-th of them sends POSTs with an
    X-Id, the others GETs.

    pause: seconds each waits after an answer, 0 for as fast as it goes.
    """

    def __init__(
        self, port: int, connections: int = 64, *, posts: int = 0, pause: float = 0.0
    ) -> None:
        self.port = port
        self.connections = connections
        self.posts = posts
        self.pause = pause
        self.gets: list[Answer] = []
        self.sent: list[Answer] = []
        self._stop = False

    async def __aenter__(self) -> Drive:
        self._tasks = [
            asyncio.create_task(self._run(index, bool(self.posts) and index % self.posts == 0))
            for index in range(self.connections)
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stop = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 60)

    def since(self, moment: float, until: float = float("inf")) -> list[Answer]:
        """GETs answered after `moment` (perf_counter)."""
        return [answer for answer in self.gets if moment <= answer.at < until]

    async def _run(self, index: int, post: bool) -> None:
        loop = asyncio.get_running_loop()
        client: _Client | None = None
        numbers = itertools.count()
        while not self._stop:
            name = f"{index}.{next(numbers)}" if post else ""
            request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
            if post:
                request = (
                    b"POST / HTTP/1.1\r\nHost: a\r\nX-Id: %b\r\nContent-Length: 5\r\n\r\nhello"
                    % name.encode()
                )
            began = time.perf_counter()
            try:
                if client is None or client.transport.is_closing():  # ended while it was idle
                    _, client = await loop.create_connection(_Client, "127.0.0.1", self.port)
                status, body = await client.ask(request), client.body
            except OSError:
                status, body = 0, b""
            now = time.perf_counter()
            (self.sent if post else self.gets).append(Answer(status, body, now, now - began, name))
            if client is not None and (not status or not client.keep):
                client.transport.abort()
                client = None
            await asyncio.sleep(self.pause if status else 0.01)
        if client is not None:
            client.transport.abort()


class HAProxy:
    """HAProxy in front of the servers: leastconn, the checks of the scenarios, retries of what is
    safe to repeat."""

    def __init__(
        self, directory: Path, servers: list[Server], more: str = "", server: str = ""
    ) -> None:
        self.port, self.stats = free_ports(2)
        self.file = directory / "haproxy.cfg"
        lines = "\n".join(
            f"  server s{one.name} 127.0.0.1:{one.port} check {server}" for one in servers
        )
        self.file.write_text(f"""global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout server 10s
  timeout queue 5s
  http-reuse always
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response 502 503 504
frontend f
  bind 127.0.0.1:{self.port}
  http-request disable-l7-retry if METH_POST
  default_backend b
frontend s
  bind 127.0.0.1:{self.stats}
  stats enable
  stats uri /
backend b
  balance leastconn
  option httpchk GET /health
  default-server inter 500ms fall 2 rise 2
  {more}
{lines}
""")
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> HAProxy:
        program = (
            shutil.which("haproxy", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
            or "haproxy"
        )
        self.process = await asyncio.create_subprocess_exec(
            program,
            "-f",
            str(self.file),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for _ in range(100):
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                break
            except OSError:
                await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)  # Its checks are on their way.
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    async def __aexit__(self, *exc: object) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()


ROUTE = '[[route]]\nprefix = "/"\nupstream = "origin"\n'
CHECKS = (
    'health = { path = "/health", interval = "500ms", timeout = "400ms", '
    "unhealthy_threshold = 2, healthy_threshold = 2 }\n"
)


def gateway(directory: Path, servers: list[Server], more: str = "", route: str = ROUTE) -> Process:
    """A gateway in front of the servers, to be entered."""
    endpoints = ", ".join(f'{{ url = "http://127.0.0.1:{one.port}" }}' for one in servers)
    write(directory, route, f"[upstream.origin]\nendpoints = [{endpoints}]\n{more}")
    return Process(directory / "gateway.toml")


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of them are below."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
