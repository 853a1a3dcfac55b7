"""What arrives piece by piece leaves piece by piece, through every middleware; nobody waits for
somebody else's reader."""

from __future__ import annotations

import asyncio
import zlib

import pytest

from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.origin import Origin, answer, fields_of
from tests.until import until

KEYS = """[[key]]
id = "k_bf11f220"
client = "partner"
hash = "sha256:e5b6d6574488ab2fa9b7dd3b8086bdf627d2d537e48a5653ee69fc76b93111a9"
hint = "bec_0123"
"""
KEY = "X-API-Key: bec_" + "0123456789abcdef" * 4

EVERYTHING = """
request  = ["cors", "rate_limit.ip", "auth", "rate_limit", "validation", "caching", "logging"]
response = ["caching", "compression", "cors", "security_headers", "logging", "metrics"]
error    = ["error_handler", "fallback", "cors", "security_headers", "logging", "metrics"]
[cors]
origins = ["https://app.example.com"]
[rate_limit.ip]
key = "ip"
algorithm = "sliding_window"
limit = 100000
window = "1m"
[auth]
methods = ["api_key"]
api_key = { header = "X-API-Key", file = "../keys.toml" }
[rate_limit]
key = "client"
algorithm = "token_bucket"
class = "wide"
classes.wide = { tokens = 100000, refill = 100000, burst = 100000 }
[validation]
max_body = "2GB"
[security_headers]
[caching]
default_ttl = "60s"
[compression]
minimum = 1
EVENTS
[logging]
file = "access.log"
[fallback]
responses = [{ on = ["503"], status = 503, body = "later" }]
[[route]]
prefix = "/"
upstream = "origin"
"""


def upstream(origin: Origin, more: str = "") -> str:
    return f'[upstream.origin]\nurl = "{origin.url}"\n{more}'


def everything(events: bool = False) -> str:
    return EVERYTHING.replace("EVENTS", "events = true" if events else "")


HEADS = {
    "chunked": b"Transfer-Encoding: chunked\r\n",
    "until the end": b"",
    "a length": b"Content-Length: 180000\r\n",
}


@pytest.mark.parametrize("events", [False, True], ids=["identity", "gzip"])
@pytest.mark.parametrize("framing", HEADS)
async def test_events_pass_at_once_through_every_middleware(start, connect, framing, events):
    """The origin sends an event only when the one before has reached the client."""
    arrived: asyncio.Queue[None] = asyncio.Queue()

    async def tell(origin, head, reader, writer):
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + HEADS[framing] + b"\r\n"
        )
        for number in range(10):
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(event), event) if framing == "chunked" else event)
            await writer.drain()
            await arrived.get()
        return False

    origin = await Origin(tell).start()
    try:
        gateway = await start(everything(events), upstream(origin), keys__toml=KEYS)
        client = await connect(gateway)
        lines = f"{KEY}\r\nOrigin: https://app.example.com\r\nAccept-Encoding: gzip\r\n"
        await client.send(f"GET /events HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
        status, _, fields = await client.head()
        assert (status, fields.get("content-encoding")) == (200, "gzip" if events else None)
        assert {
            "access-control-allow-origin",
            "x-ratelimit-remaining",
            "x-frame-options",
            "cache-status",
        } <= fields.keys()
        decoder = zlib.decompressobj(31)
        for number in range(10):
            expected, seen = b"data: %d\n\n" % number, b""
            while expected not in seen:
                part = await asyncio.wait_for(client.reader.read(65536), 10)
                assert part
                if "transfer-encoding" in fields:
                    part = part.split(b"\r\n", 1)[1][:-2]
                seen += decoder.decompress(part) if events else part
            arrived.put_nowait(None)
    finally:
        await origin.stop()


TRAILED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: "
    b"X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n"
    b"Server-Timing: db;dur=5\r\nSet-Cookie: a=b\r\nContent-Type: text/html\r\nConnection: "
    b"close\r\nX-Request-ID: forged\r\n\r\n"
)


@pytest.mark.parametrize("split", [0, len(TRAILED) - 150], ids=["in one piece", "in two"])
@pytest.mark.parametrize(
    ("lines", "given"),
    [
        ("TE: trailers\r\nConnection: TE\r\n", True),
        ("TE: gzip;q=0.5, trailers\r\nConnection: keep-alive, te\r\n", True),
        ("TE: trailers\r\n", False),
        ("TE: gzip\r\nConnection: TE\r\n", False),
        ("", False),
    ],
)
async def test_trailers_reach_those_who_ask(start, connect, lines, given, split):
    async def respond(origin, head, reader, writer):
        writer.write(TRAILED[:split])
        await writer.drain()
        await asyncio.sleep(0.01 if split else 0)
        writer.write(TRAILED[split:])
        return True

    origin = await Origin(respond).start()
    try:
        client = await connect(await start(PLAIN, upstream(origin)))
        for _ in range(2):
            await client.send(f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
            _, head, fields = await client.head()
            assert b"\r\nx-sum:" not in head.lower(), "never merged with the header section"
            assert fields.get("trailer") == ("X-Sum" if given else None)
            if "content-length" in fields:
                assert not given
                assert await client.reader.readexactly(int(fields["content-length"])) == b"ok"
                continue
            rest = await asyncio.wait_for(client.reader.readuntil(b"\r\n0\r\n"), 10)
            assert rest == b"2\r\nok\r\n0\r\n"
            trailer = b"X-Sum: 1\r\nServer-Timing: db;dur=5\r\n\r\n" if given else b"\r\n"
            assert await client.reader.readexactly(len(trailer)) == trailer
        sent = fields_of(origin.heads[0])
        assert (sent.get("te"), sent.get("connection")) == (
            ("trailers", "TE") if given else (None, None)
        )
        assert origin.connections == 2, (
            "Connection: close in the trailers is heeded, if not passed on"
        )
    finally:
        await origin.stop()


async def test_trailers_pass_the_cache_once_and_are_not_kept(start, connect):
    origin = await Origin(
        TRAILED.replace(
            b"200 OK\r\n", b"200 OK\r\nCache-Control: max-age=60\r\nContent-Type: a/b\r\n"
        )
    ).start()
    try:
        lines = 'request = ["caching"]\nresponse = ["caching"]\n[caching]\n' + PLAIN
        client = await connect(await start(lines, upstream(origin)))
        for kept in (False, True):
            await client.send(
                b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n"
            )
            _, _, fields = await client.head()
            if kept:
                assert await client.reader.readexactly(int(fields["content-length"])) == b"ok"
            else:
                assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(
                    b"2\r\nok\r\n0\r\nX-Sum: 1\r\n"
                )
        assert len(origin.heads) == 1
    finally:
        await origin.stop()


async def test_trailers_pass_compression(start, connect):
    answered = TRAILED.replace(b"200 OK\r\n", b"200 OK\r\nContent-Type: text/plain\r\n").replace(
        b"2\r\nok", b"7d0\r\n" + b"o" * 2000
    )
    origin = await Origin(answered).start()
    try:
        client = await connect(
            await start('response = ["compression"]\n[compression]\n' + PLAIN, upstream(origin))
        )
        await client.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nAccept-Encoding: "
            b"gzip\r\n\r\n"
        )
        _, _, fields = await client.head()
        assert fields["content-encoding"] == "gzip"
        assert (await client.reader.readuntil(b"\r\n\r\n")).endswith(
            b"\r\n0\r\nX-Sum: 1\r\nServer-Timing: db;dur=5\r\n\r\n"
        )
    finally:
        await origin.stop()


async def test_a_slow_reader_slows_only_its_own_upstream_connection(start, connect):
    """While one client takes nothing of an endless answer, another gets everything it asks for,
    large answers too."""
    large = answer(b"x" * 1_000_000)
    sent = 0

    async def respond(origin, head, reader, writer):
        nonlocal sent
        if b"/endless" not in head:
            writer.write(large if b"/large" in head else answer(b"ok"))
            await writer.drain()
            return True
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536

    origin = await Origin(respond).start()
    try:
        gateway = await start(PLAIN, upstream(origin))
        slow = Client(*await asyncio.open_connection("127.0.0.1", gateway.port, limit=1000))
        await slow.send(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        await slow.reader.readuntil(b"\r\n\r\n")
        other = await connect(gateway)
        for _ in range(100):
            assert (await other.get("/")).body == b"ok"
        for _ in range(20):
            assert len((await other.get("/large")).body) == 1_000_000
        assert origin.connections == 2
        assert sent < 30_000_000, (
            "what the slow one does not read is not read from its upstream either"
        )
        slow.close()
        await asyncio.wait_for(origin.aborted.wait(), 10)
        assert (await other.get("/")).body == b"ok"
    finally:
        await origin.stop()


async def test_a_slow_upstream_slows_only_its_own_client(start, connect):
    """An endpoint that takes nothing of a body stops its client from sending, and nobody else."""
    hold = asyncio.Event()

    async def respond(origin, head, reader, writer):
        if head.startswith(b"PUT"):
            await hold.wait()
            return False
        writer.write(answer(b"ok"))
        return True

    origin = await Origin(respond, read_body=False).start()
    try:
        gateway = await start(PLAIN, upstream(origin))
        slow = await connect(gateway)
        await slow.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
        sent = 0

        async def push() -> None:
            nonlocal sent
            while True:
                await slow.send(b"x" * 65536)
                sent += 65536

        pushing = asyncio.create_task(push())
        other = await connect(gateway)
        last = -1
        while sent != last:  # Until everything between the two ends is full.
            last = sent
            for _ in range(100):
                assert (await other.get("/")).body == b"ok"
        assert sent < 30_000_000
        pushing.cancel()
        hold.set()
    finally:
        await origin.stop()


async def test_the_end_of_a_stream_frees_everything_when_its_reader_leaves(start, connect):
    async def endless(origin, head, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while True:
            writer.write(b": still here\n\n")
            await writer.drain()
            await asyncio.sleep(0.005)

    origin = await Origin(endless).start()
    try:
        gateway = await start(everything(), upstream(origin), keys__toml=KEYS)
        clients = [await connect(gateway) for _ in range(10)]
        for client in clients:
            await client.send(f"GET /events HTTP/1.1\r\nHost: a\r\n{KEY}\r\n\r\n".encode())
            assert (await client.head())[0] == 200
        pool = gateway.runtime.snapshot.pools["origin"]
        assert pool.in_flight == 10
        for client in clients:
            client.close()
        await until(
            lambda: not (pool.in_flight or gateway.runtime.services.telemetry.in_flight.values[()])
        )
    finally:
        await origin.stop()


@pytest.mark.parametrize("split", [0, 20, 60, 100])
async def test_request_trailers_that_are_announced_go_on(start, connect, split):
    got: list[bytes] = []

    async def respond(origin, head, reader, writer):
        got.append(await reader.readuntil(b"\r\n0\r\nX-Sum: 5\r\n\r\n"))
        writer.write(answer(b"ok"))
        return True

    sent = (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"5\r\nhello\r\n0\r\nX-Sum: 5\r\nX-Other: 1\r\nContent-Type: a/b\r\n\r\n"
    )
    origin = await Origin(respond, read_body=False).start()
    try:
        client = await connect(await start(PLAIN, upstream(origin)))
        await client.send(sent[:split])
        await asyncio.sleep(0.01)
        await client.send(sent[split:])
        assert (await client.read()).status == 200
        assert got == [b"5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"]
        assert fields_of(origin.heads[0])["trailer"].lower() == "x-sum"
    finally:
        await origin.stop()
