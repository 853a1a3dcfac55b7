"""Real Redis servers for tests, each on a free port of its own: killed, stopped and resumed by pid."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import pytest

SERVER = shutil.which("redis-server") or "/usr/bin/redis-server"


def free_port() -> int:
    """A port nobody listens on, below the range from which a Cluster's bus (port + 10000) would be out of bounds."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
        if port < 50_000:
            return port
        port -= 25_000
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class RedisServer:
    """One redis-server. `arguments` are more words of its command line; the first may be a configuration file."""

    def __init__(self, *arguments: str, port: int = 0) -> None:
        self.arguments = arguments
        self.port = port or free_port()
        self.directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> RedisServer:
        """Starts, and returns once it answers."""
        self.process = subprocess.Popen(
            [SERVER, *self.arguments, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory),
             *("" if "--sentinel" in self.arguments else ("--save", "", "--appendonly", "no"))],
            stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
        )  # fmt: skip
        for _ in range(200):
            try:
                if self.command("PING").startswith("+PONG"):
                    return self
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError("redis-server does not answer")

    def command(self, *words: str) -> str:
        """One command, and the raw answer's beginning."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as one:
            one.sendall(
                b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
            )
            return one.recv(65536).decode(errors="replace")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> RedisServer:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


@pytest.fixture(scope="session")
def shared_redis():
    """One server for a whole test run; tests use keys of their own."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis():
    """A server that a test may kill."""
    with RedisServer() as server:
        yield server


class Slow:
    """A way to a server on which everything takes `delay` seconds longer in each direction."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.delay = 0.0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> Slow:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._copy(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                sink.write(data)
                await sink.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            sink.close()
