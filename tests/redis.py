"""Real Redis servers for tests, each on a free port of its own: killed, stopped and resumed by
pid."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType

import hiredis
import pytest

SERVER = shutil.which("redis-server") or "/usr/bin/redis-server"


def free_port() -> int:
    """A port nobody listens on, below the range from which a Cluster's bus (port + 10000) would be
    out of bounds."""
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
    """One redis-server. `arguments` are more words of its command line; the first may be a
    configuration file."""

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
             *("" if "--sentinel" in self.arguments else ("--save", "", "--repl-diskless-sync-delay", "0"))],
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
                b"*%d\r\n" % len(words)
                + b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
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


class Cluster:
    """Three masters of five to six thousand slots each."""

    def __init__(self) -> None:
        self.servers = [
            RedisServer("--cluster-enabled", "yes", "--cluster-node-timeout", "500")
            for _ in range(3)
        ]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{one.port}" for one in self.servers)

    def __enter__(self) -> Cluster:
        for server in self.servers:
            server.start()
        first, *others = self.servers
        for index, server in enumerate(self.servers):
            server.command(
                "CLUSTER",
                "ADDSLOTSRANGE",
                str(index * 5461),
                str((index + 1) * 5461 - 1 if index < 2 else 16383),
            )
            server.command("CLUSTER", "SET-CONFIG-EPOCH", str(index + 1))
        for server in others:
            first.command("CLUSTER", "MEET", "127.0.0.1", str(server.port))
        self._wait(lambda one: one.command("CLUSTER", "NODES").count("\n") >= len(self.servers))
        self._wait(lambda one: "cluster_state:ok" in one.command("CLUSTER", "INFO"))
        return self

    def __exit__(self, *exc: object) -> None:
        for server in self.servers:
            server.stop()

    @staticmethod
    def id(server: RedisServer) -> str:
        """The node's name in the cluster."""
        return server.command("CLUSTER", "MYID").split("\r\n")[1]

    def master_of(self, slot: int) -> RedisServer:
        """Who has a slot, as far as any says."""
        return self.servers[min(2, slot // 5461)]

    def move(self, slot: int) -> None:
        """Moves an empty or filled slot to the next master, as redis-cli --cluster reshard does."""
        source = self.master_of(slot)
        target = self.servers[(self.servers.index(source) + 1) % 3]
        target.command("CLUSTER", "SETSLOT", str(slot), "IMPORTING", self.id(source))
        source.command("CLUSTER", "SETSLOT", str(slot), "MIGRATING", self.id(target))
        while len(
            keys := source.command("CLUSTER", "GETKEYSINSLOT", str(slot), "10").split("\r\n")[1:-1]
        ):
            for key in keys[1::2]:
                source.command("MIGRATE", "127.0.0.1", str(target.port), key, "0", "1000")
        for server in (
            target,
            source,
            self.servers[3 - sum(map(self.servers.index, (source, target)))],
        ):
            server.command("CLUSTER", "SETSLOT", str(slot), "NODE", self.id(target))

    def agree(self) -> None:
        """Waits until all servers say the same about who has which slots."""

        def view(server: RedisServer) -> dict[str, list[str]]:
            lines = [
                line.split()
                for line in server.command("CLUSTER", "NODES").splitlines()[1:]
                if " " in line
            ]
            return {words[0]: [word for word in words[8:] if "[" not in word] for words in lines}

        self._wait(lambda one: view(one) == view(self.servers[0]))

    def _wait(self, ready: Callable[[RedisServer], bool]) -> None:
        end = time.monotonic() + 20
        while not all(ready(one) for one in self.servers):
            assert time.monotonic() < end, "the cluster does not come up"
            time.sleep(0.05)


class Watched:
    """A master, a replica and three Sentinels that call it "limits"."""

    def __init__(self) -> None:
        self.master = RedisServer()
        self.replica = RedisServer("--replicaof", "127.0.0.1", str(self.master.port))
        self.sentinels: list[RedisServer] = []

    @property
    def url(self) -> str:
        return (
            "redis+sentinel://"
            + ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
            + "/limits"
        )

    def __enter__(self) -> Watched:
        self.master.start()
        self.replica.start()
        while "master_link_status:up" not in self.replica.command("INFO", "replication"):
            time.sleep(0.05)
        for _ in range(3):
            directory = Path(tempfile.mkdtemp(prefix="sentinel-"))
            file = directory / "sentinel.conf"
            file.write_text(
                f"sentinel monitor limits 127.0.0.1 {self.master.port} 2\n"
                "sentinel down-after-milliseconds limits 500\nsentinel failover-timeout limits "
                "2000\n"
            )
            sentinel = RedisServer(str(file), "--sentinel")
            shutil.rmtree(sentinel.directory)
            sentinel.directory = directory
            self.sentinels.append(sentinel.start())
        end = time.monotonic() + 20
        while not all(
            "num-other-sentinels\r\n$1\r\n2"
            in (told := one.command("SENTINEL", "MASTER", "limits"))
            and "num-slaves\r\n$1\r\n1" in told
            for one in self.sentinels
        ):
            assert time.monotonic() < end, "the sentinels do not find each other"
            time.sleep(0.05)
        return self

    def __exit__(self, *exc: object) -> None:
        for server in (*self.sentinels, self.master, self.replica):
            server.stop()


OK = b"+OK\r\n"
Reply = Callable[[list[bytes]], bytes | None]


class FakeRedis:
    """A server that says what it is told to: `reply` gives the bytes for a command, None closes the
    connection."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.asked: list[list[bytes]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    self.asked.append(command)
                    answer = self.reply(command)
                    if answer is None:
                        return
                    writer.write(answer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


StartFake = Callable[[Reply], Awaitable[FakeRedis]]


@pytest.fixture
async def fake() -> AsyncIterator[StartFake]:
    servers: list[asyncio.Server] = []

    async def start(reply: Reply) -> FakeRedis:
        one = FakeRedis(reply)
        servers.append(await asyncio.start_server(one.serve, "127.0.0.1", 0))
        one.port = servers[-1].sockets[0].getsockname()[1]
        return one

    yield start
    for server in servers:
        server.close()


def usual(take: bytes = b"*2\r\n:1\r\n:2\r\n") -> Reply:
    """What a healthy server says, and `take` to scripts other than the sign of life."""

    def reply(command: list[bytes]) -> bytes:
        if command[0] == b"EVAL" and b"gateway:alive" in command:
            return b":1\r\n"
        return take if command[0] in (b"EVALSHA", b"EVAL") else OK

    return reply
