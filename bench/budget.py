#!/usr/bin/env python3
"""What one request costs inside the process, counted rather than timed, so that the machine's mood
does not matter.

    .venv/bin/python bench/budget.py calls         function calls and bytecodes a request, by profile
    .venv/bin/python bench/budget.py instructions  machine instructions a request, under valgrind --tool=callgrind
    .venv/bin/python bench/budget.py where         the functions the calls are made in
    .venv/bin/python bench/budget.py time          microseconds of CPU a request: the one that does depend on the mood
    .venv/bin/python bench/budget.py each          what each middleware of the partner profile adds to a request that has none
    .venv/bin/python bench/budget.py check         fails when a profile got more than 5 % dearer than bench/budget.json says;
                                                   `check --record` writes what it costs now, to be committed on purpose

Requests and answers are fed to the real protocols in memory, without sockets: what is counted is
everything but system calls.
"""

from __future__ import annotations

import asyncio
import cProfile
import io
import json
import os
import pstats
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from wsgiref.handlers import format_date_time

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from bench.http2_client import Http2Client  # noqa: E402
from gateway.app import Gateway  # noqa: E402
from gateway.config.tables.server import ServerConfig  # noqa: E402
from gateway.serving.http2.protocol import Http2  # noqa: E402
from gateway.serving.net.listener import Listener  # noqa: E402
from gateway.serving.net.tls import TlsTransport  # noqa: E402
from tests.certificates import Authority  # noqa: E402
from tests.transport import AtOnce  # noqa: E402

KEY = "bec_" + "0123456789abcdef" * 4
BODY = b'{"id": 1, "name": "camera-1", "status": "active", "count": 7},' * 19
PARTNER = [
    f"X-API-Key: {KEY}",
    "Origin: https://app.example.com",
    "User-Agent: partner-sdk/1.4",
    "Accept: application/json",
    "X-Client-Version: 3.2",
]
PROFILES = {
    "plain": ("plain", "/api/v1/cameras", []),
    "partner": ("partner", "/api/v1/cameras", PARTNER),
    "gzip": ("partner", "/api/v1/cameras", [*PARTNER, "Accept-Encoding: gzip"]),
    "cached": ("partner", "/cacheable/list", PARTNER),
    "varied": ("partner", "/api/v1/cameras", PARTNER),
    "postplain": ("plain", "/api/v1/cameras", []),
    "post": ("partner", "/api/v1/cameras", PARTNER),
    "awaited": ("plain", "/api/v1/cameras", []),
    "tls": ("plain", "/api/v1/cameras", []),
    "close": ("plain", "/api/v1/cameras", ["Connection: close"]),
    "untraced": ("partner", "/api/v1/cameras", PARTNER),
    "traced": ("partner", "/api/v1/cameras", PARTNER),
    "http2": ("partner", "/api/v1/cameras", PARTNER),
    "http2x25": ("partner", "/api/v1/cameras", PARTNER),
}
"""The files of bench/ that the profile loads, the path and the headers of its requests.

`varied`: a target that is new, and fields that differ from those of the request, and of the answer,
before. `post`,
`postplain`: a body of 1 kB.
`awaited`: the hook of bench/awaited.py. `tls`: over TLS 1.3, whose records our own transport reads
and writes in memory. `close`: a new connection for each request. `untraced`, `traced`:
the partner profile with [tracing] that records none of the requests, or all of them. `http2`,
`http2x25`: the partner profile over HTTP/2, without TLS, one stream at a time or 25.
"""
TARGETS = 10_000
"""Of `varied`, before one comes again."""
OK = b"HTTP/1.1 200 OK\r\n"
POSTED = (b'{"name": "camera-1", "status": "active", "zone": 7},' * 20)[:1023] + b"}"


class Pipe(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(data)  # type: ignore[arg-type]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 50000) if name == "peername" else default

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Asked(Pipe):
    """An upstream's: whoever was written to is noted in `asked`."""

    def __init__(self, owner: Any, asked: list[Any]) -> None:
        super().__init__()
        self.owner = owner
        self.asked = asked

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.asked.append(self.owner)


class AskedWhole(Asked):
    """Notes its owner once the body has been written to its end, in however many pieces.

    Behind it stands a socket with nothing to read, at which the gateway looks before it sends what
    must not be repeated.
    """

    def __init__(self, owner: Any, asked: list[Any]) -> None:
        super().__init__(owner, asked)
        self.sockets = socket.socketpair()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.sockets[0] if name == "socket" else super().get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if bytes(data[-1:]) == POSTED[-1:]:
            self.asked.append(self.owner)


class Tls:
    """The client's end of a TLS connection to `listener`."""

    def __init__(self, context: ssl.SSLContext, listener: Listener, down: Pipe) -> None:
        self.server = TlsTransport(listener, context, "127.0.0.1")
        self.arriving, self.leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
        self.client = ours.wrap_bio(self.arriving, self.leaving)
        self.down = down
        self.server.connection_made(down)
        while True:
            try:
                self.client.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._arrive()
        self._flush()
        self._arrive()

    def data_received(self, data: bytes) -> None:
        """Encrypts what the client sends, and delivers it."""
        self.client.write(data)
        self._flush()

    def look(self) -> None:
        """Decrypts the answer."""
        self._arrive()
        answer = self.client.read(1 << 16)
        assert answer.startswith(OK), answer

    def _arrive(self) -> None:
        self.arriving.write(b"".join(self.down.written))
        self.down.written.clear()

    def _flush(self) -> None:
        record = self.leaving.read()
        if record:
            self.server.data_received(record)


class Closing:
    """Clients that each send one request on a connection of its own."""

    def __init__(self, listener: Listener, down: Pipe) -> None:
        self.listener = listener
        self.down = down
        self.connection: Any = None

    def data_received(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.connection_lost(None)
        self.connection = self.listener.welcome("127.0.0.1")
        self.connection.connection_made(self.down)
        self.connection.data_received(data)


class Bench:
    """A gateway without sockets: one client connection, one upstream connection for each endpoint.

    config: another gateway.toml than the profile's.
    """

    def __init__(self, profile: str, directory: Path, config: Path | None = None) -> None:
        self.profile = profile
        kind, path, headers = PROFILES[profile]
        os.environ["GATEWAY_ACCESS_LOG"] = str(directory / "access.log")
        each = (
            (["X-Request-ID: varied-a"], ["X-Request-ID: varied-b"])
            if profile == "varied"
            else ([],)
        )
        self.posts = profile.startswith("post")
        if self.posts:
            headers = [*headers, "Content-Type: application/json", f"Content-Length: {len(POSTED)}"]
        self.http2 = [
            (b":method", b"GET"),
            (b":scheme", b"http"),
            (b":authority", b"127.0.0.1:8080"),
            (b":path", path.encode()),
            *(tuple(line.lower().encode().split(b": ")) for line in headers),
        ]
        first = f"{'POST' if self.posts else 'GET'} {path} HTTP/1.1"
        requests = [
            "\r\n".join([first, "Host: 127.0.0.1:8080", *headers, *more, "", ""]).encode()
            + (POSTED if self.posts else b"")
            for more in each
        ]
        cacheable = b"Cache-Control: public, max-age=600\r\n" if profile == "cached" else b""
        answer = (
            b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n"
            b"Last-Modified: Sun, 22 Nov 2026 04:18:58 GMT\r\nConnection: keep-alive\r\n"
            b'ETag: "6921"\r\n%bAccept-Ranges: bytes\r\n\r\n'
            % (format_date_time(time.time()).encode(), len(BODY), cacheable)
        ) + BODY
        answers = [answer, answer.replace(b"6921", b"6922")][: len(each)]
        # In this order neither the client's connection nor an endpoint's, of which there are two,
        # sees the same twice in a row.
        self.pairs = [(request, one) for one in answers for request in requests]
        if profile == "varied":
            self.pairs = [
                (request.replace(b" HTTP", b"?number=%d HTTP" % number, 1), one)
                for number, (request, one) in zip(range(TARGETS), cycle(self.pairs), strict=False)
            ]
        self.asked: list[Any] = []
        self.down = Pipe()
        if config is None:
            config = (
                VARIANTS[profile](directory)
                if profile in VARIANTS
                else HERE / kind / "gateway.toml"
            )
        self.gateway = Gateway(config, os.environ)
        transport = AtOnce(opener=self._open)
        self.gateway.transport = transport
        object.__setattr__(self.gateway.runtime.services, "transport", transport)

    async def _open(self, factory: Any, endpoint: Any) -> None:
        upstream = factory()
        upstream.connection_made((AskedWhole if self.posts else Asked)(upstream, self.asked))

    async def start(self) -> None:
        """Loads the profile and warms it up: every endpoint has an idle connection, every memo its
        entry."""
        await self.gateway.runtime.start()
        for prober in self.gateway.observer.probers.values():
            prober.stop()
        for pool in self.gateway.runtime.snapshot.pools.values():
            for endpoint in pool.endpoints:
                pool.probed(endpoint, True)
        listener = Listener(self.gateway.runtime)
        tls = self.gateway.runtime.snapshot.tls
        if tls is not None:
            self.client: Any = Tls(tls.context, listener, self.down)
        elif self.profile.startswith("http2"):
            at_once = self.profile.partition("x")[2] or 1
            connection = Http2(listener, ServerConfig(), connect=False)()
            self.client = Http2Client(connection, self.down, self.http2, int(at_once))
        elif self.profile == "close":
            self.client = Closing(listener, self.down)
        else:
            self.client = listener()
            self.client.connection_made(self.down)
        await self.run(20, self._look if tls is None else self.client.look)

    def _look(self) -> None:
        assert self.down.written[0].startswith(OK), self.down.written

    async def run(self, count: int, look: Callable[[], None] | None = None) -> None:
        """`count` requests, each answered before the next; `look` looks at every answer.

        A request that was not answered at once leaves the loop one more turn before the next comes,
        as a client's socket would.
        """
        if isinstance(self.client, Http2Client):
            await self.client.run(count, self.asked, self.pairs[0][1])
            return
        receive, written, asked = self.client.data_received, self.down.written, self.asked
        for request, answer in islice(cycle(self.pairs), count):
            receive(request)
            if asked:
                asked.pop().data_received(answer)
            if not written:
                while not written:
                    await asyncio.sleep(0)
                    while asked:
                        asked.pop().data_received(answer)
                await asyncio.sleep(0)
            if look is not None:
                look()
            written.clear()


def with_awaited(directory: Path) -> Path:
    """The plain profile with the hook of bench/awaited.py."""
    shutil.copytree(HERE / "plain", directory, dirs_exist_ok=True)
    pipeline = directory / "pipelines" / "plain.toml"
    pipeline.write_text(
        pipeline.read_text().replace("request  = []", 'request  = ["bench.awaited:build"]')
    )
    return directory / "gateway.toml"


def with_tls(directory: Path) -> Path:
    """The plain profile with a certificate of its own."""
    shutil.copytree(HERE / "plain", directory, dirs_exist_ok=True)
    certificate = Authority(directory).issue("edge", "localhost")
    table = (
        f'[listen.tls]\ncertificate = "{certificate}"\nkey = "{certificate.with_suffix(".key")}"\n'
    )
    config = directory / "gateway.toml"
    config.write_text(f"{config.read_text()}\n{table}")
    return config


def with_tracing(sample: float) -> Callable[[Path], Path]:
    """The partner profile with a collector that takes nothing: spans are encoded and dropped."""

    def made(directory: Path) -> Path:
        shutil.copytree(HERE / "partner", directory, dirs_exist_ok=True)
        config = directory / "gateway.toml"
        table = f'[tracing]\notlp = "http://127.0.0.1:9"\nsample = {sample}\n'
        config.write_text(f"{config.read_text()}\n{table}")
        return config

    return made


VARIANTS = {
    "awaited": with_awaited,
    "tls": with_tls,
    "untraced": with_tracing(0.0),
    "traced": with_tracing(1.0),
}
"""What a profile changes in the files it loads: makes them in a directory, and returns their
gateway.toml."""


async def measure(profile: str, mode: str, count: int) -> Any:
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(profile, Path(directory))
        await bench.start()
        await bench.run(50)
        if mode == "run":
            await bench.run(count)
            return None
        if mode == "time":
            best = float("inf")
            for _ in range(7):
                began = time.process_time()
                await bench.run(count)
                best = min(best, (time.process_time() - began) / count * 1e6)
                await asyncio.sleep(0)
            return best
        profiler = cProfile.Profile()
        profiler.enable()
        await bench.run(count)
        profiler.disable()
        stats = pstats.Stats(profiler, stream=io.StringIO())
        if mode == "where":
            stats = pstats.Stats(profiler)
            stats.sort_stats("tottime").print_stats(60)
        return stats.total_calls / count  # type: ignore[attr-defined]


def bytecodes(profile: str, count: int) -> float:
    """Bytecodes executed per request."""

    async def counted() -> float:
        with tempfile.TemporaryDirectory() as directory:
            bench = Bench(profile, Path(directory))
            await bench.start()
            await bench.run(50)
            total = 0

            def trace(frame: Any, event: str, arg: Any) -> Any:
                nonlocal total
                frame.f_trace_opcodes = True
                frame.f_trace_lines = False
                if event == "opcode":
                    total += 1
                return trace

            sys.settrace(trace)
            await bench.run(count)
            sys.settrace(None)
            return total / count

    return asyncio.run(counted())


def instructions(profile: str) -> float:
    """Machine instructions per request: the difference between two runs of different length."""
    totals = []
    for count in (100, 600):
        command = [
            "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
            sys.executable, str(Path(__file__).resolve()), "run", profile, str(count),
        ]  # fmt: skip
        environ = {**os.environ, "PYTHONHASHSEED": "0"}
        output = subprocess.run(
            command, capture_output=True, text=True, check=True, env=environ
        ).stderr
        match = re.search(r"Collected : (\d+)", output)
        assert match is not None, output
        totals.append(int(match[1]))
    return (totals[1] - totals[0]) / 500


LISTS = {
    "cors": ("request", "response", "error"),
    "auth": ("request",),
    "rate_limit": ("request",),
    "caching": ("request", "response"),
    "compression": ("response",),
    "security_headers": ("response", "error"),
    "logging": ("response", "error"),
    "metrics": ("response", "error"),
}
"""The middlewares of the partner profile, and the lists they stand in."""


def with_only(names: tuple[str, ...], directory: Path) -> Path:
    """The partner profile with no other middlewares than these: its gateway.toml in `directory`."""
    source = HERE / "partner"
    for file in ("gateway.toml", "upstreams.toml", "keys.toml"):
        (directory / file).write_text((source / file).read_text())
    text = next((source / "pipelines").glob("*.toml")).read_text()
    partner = tomllib.loads(text)
    lines = []
    for which in ("request", "response", "error"):
        chosen = [
            name
            for name in partner[which]
            if name == "error_handler" or (name in names and which in LISTS[name])
        ]
        lines.append(f"{which} = {json.dumps(chosen)}")
    # Tables of middlewares that are in no list are lints; everything else of the file stays.
    tables = re.split(r"(?m)^(?=\[)", text)[1:]
    lines += [
        table
        for table in tables
        if table.startswith("[[") or re.match(r"\[(\w+)", table)[1] in names
    ]  # type: ignore[index]
    (directory / "pipelines").mkdir()
    (directory / "pipelines" / "partner.toml").write_text("\n".join(lines))
    return directory / "gateway.toml"


async def costs(selections: list[tuple[str, ...]]) -> list[tuple[float, float]]:
    """Microseconds of CPU and function calls a request with each selection of middlewares.

    The best of 40 short runs of each, in turns: a machine that is slower for a while is so for all.
    """
    with ExitStack() as stack:
        benches = []
        for names in selections:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            benches.append(Bench("partner", directory, with_only(names, directory)))
            await benches[-1].start()
            await benches[-1].run(100)
        best = [float("inf")] * len(benches)
        for _ in range(40):
            for number, bench in enumerate(benches):
                began = time.process_time()
                await bench.run(250)
                best[number] = min(best[number], (time.process_time() - began) / 250 * 1e6)
                await asyncio.sleep(0)
        return [
            (micros, await calls_of(bench)) for micros, bench in zip(best, benches, strict=True)
        ]


async def calls_of(bench: Bench) -> float:
    """Function calls a request."""
    profiler = cProfile.Profile()
    profiler.enable()
    await bench.run(200)
    profiler.disable()
    return float(pstats.Stats(profiler).total_calls / 200)  # type: ignore[attr-defined]


def each() -> list[tuple[str, float, float]]:
    """What every middleware adds alone, and what all add together: name, microseconds, calls."""
    selections = [(), *((name,) for name in LISTS), tuple(LISTS)]
    none, *others = asyncio.run(costs(selections))
    rows = [("none", *none)]
    for names, (micros, calls) in zip(selections[1:], others, strict=True):
        rows.append(
            (names[0] if len(names) == 1 else "all together", micros - none[0], calls - none[1])
        )
    return rows


def check(record: bool) -> int:
    """Compares with the recorded budget of this Python's version; 1 when a profile is over it by
    more than 5 %."""
    file = HERE / "budget.json"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    recorded = json.loads(file.read_text()) if file.exists() else {}
    now = {
        profile: {
            "calls": round(asyncio.run(measure(profile, "calls", 500)), 1),
            "bytecodes": round(bytecodes(profile, 200)),
        }
        for profile in PROFILES
    }
    if record:
        file.write_text(json.dumps({**recorded, python: now}, indent=2, sort_keys=True) + "\n")
        print(f"recorded for Python {python}: {now}")
        return 0
    if python not in recorded:
        print(f"no budget is recorded for Python {python}")
        return 0
    dearer = 0
    for profile, costs in now.items():
        for what, value in costs.items():
            budget = recorded[python][profile][what]
            over = value > budget * 1.05
            dearer += over
            print(
                f"{profile:9} {what:9} {value:8.1f}, budget "
                f"{budget:8.1f}{'  OVER by more than 5 %' if over else ''}"
            )
    return 1 if dearer else 0


def main() -> int:
    mode, *rest = sys.argv[1:] or ["calls"]
    if mode == "check":
        return check("--record" in rest)
    if mode == "each":
        for name, micros, calls in each():
            print(f"{name:16} {micros:8.2f} us {calls:8.1f} calls")
        return 0
    profiles = [name for name in rest if name in PROFILES] or list(PROFILES)
    for profile in profiles:
        if mode == "run":
            asyncio.run(measure(profile, "run", int(rest[1])))
        elif mode == "instructions":
            print(f"{profile:8} {instructions(profile):10.0f} instructions a request")
        elif mode == "time":
            print(
                f"{profile:8} {asyncio.run(measure(profile, 'time', 2000)):10.2f} us of CPU a "
                f"request, without system calls"
            )
        elif mode == "where":
            asyncio.run(measure(profile, "where", 2000))
        else:
            calls = asyncio.run(measure(profile, "calls", 500))
            print(
                f"{profile:8} {calls:10.1f} calls, {bytecodes(profile, 200):10.1f} bytecodes a "
                f"request"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
