"""Attempts over real sockets: what counts, how often a request goes out, answers that come early,
bodies that break off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop

from gateway.upstream.connections.http1.connection import Connection
from tests.flow.conftest import PLAIN
from tests.origin import Origin, answer

CHUNKED_503 = b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n"


def pool_of(gateway: Any, name: str = "origin") -> Any:
    return gateway.runtime.snapshot.pools[name]


async def test_a_streamed_error_that_is_retried_counts_against_its_endpoint(start, connect, origin):
    async def busy(origin, head, reader, writer):
        writer.write(CHUNKED_503)
        await reader.read()
        return False

    sick = await Origin(busy).start()
    try:
        gateway = await start(
            PLAIN,
            "[upstream.origin]\n"
            f'endpoints = [{{ url = "{sick.url}", weight = 100 }}, {{ url = "{origin.url}" }}]\n'
            'retry = { attempts = 2, base_delay = "1ms", on = ["503"] }\n'
            "passive_health = { max_fails = 1 }\n",
        )
        client = await connect(gateway)
        assert (await client.get("/")).status == 200
        assert len(sick.heads) == 1
        assert [str(endpoint.health.status) for endpoint in pool_of(gateway).endpoints] == [
            "ejected",
            "healthy",
        ]
    finally:
        await sick.stop()


async def test_a_stale_connection_costs_one_more_try_within_the_same_time(
    start, connect, monkeypatch
):
    """Two idle connections that both turn out closed: the second try goes out on a fresh one, and
    no third follows."""
    limits: list[float] = []
    send = Connection.send

    def noted(self: Connection, *args: Any, **kwargs: Any) -> bool:
        limits.append(args[-1])
        return send(self, *args, **kwargs)

    first: set[Any] = set()
    both = asyncio.Event()

    async def once(origin, head, reader, writer):
        if writer in first:
            return False  # The second request on a connection finds it closed.
        first.add(writer)
        if len(first) == 2:
            both.set()
        await both.wait()
        writer.write(answer(b"ok"))
        return True

    origin = await Origin(once).start()
    try:
        gateway = await start(
            PLAIN, f'[upstream.origin]\nurl = "{origin.url}"\ntimeouts = {{ total = "5s" }}\n'
        )
        clients = [await connect(gateway), await connect(gateway)]
        assert [
            reply.status for reply in await asyncio.gather(*(client.get("/") for client in clients))
        ] == [200, 200]
        assert len(pool_of(gateway).endpoints[0].idle) == 2
        monkeypatch.setattr(Connection, "send", noted)
        assert (await clients[0].get("/")).status == 200
        assert len(origin.heads) == 4
        assert len(limits) == 2
        assert limits[0] == limits[1], "the time for all of it does not start anew"
        assert pool_of(gateway).in_flight == 0
    finally:
        await origin.stop()


@pytest.mark.parametrize("error", [ValueError, ConnectionError])
async def test_a_body_that_cannot_be_read_ends_its_request(start, connect, monkeypatch, error):
    """Whatever reading it raises: the endpoint is not left waiting for the rest, nor the client for
    an answer."""

    async def waits(origin, head, reader, writer):
        await reader.read()
        origin.aborted.set()
        return False

    origin = await Origin(waits, read_body=False).start()
    try:
        gateway = await start(PLAIN, f'[upstream.origin]\nurl = "{origin.url}"\n')
        client = await connect(gateway)
        from gateway.serving.body import ClientBody

        async def read(self: ClientBody) -> bytes:
            raise error("broken")

        monkeypatch.setattr(ClientBody, "read", read)
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nx")
        assert (await client.read()).status == 500
        await asyncio.wait_for(origin.aborted.wait(), 20)
        assert pool_of(gateway).in_flight == 0
    finally:
        await origin.stop()


def early(status: str, rest: bytes = b"", keep_reading: int = 0) -> Any:
    """Answers as soon as it has the head, and closes on what of the body is still on its way."""

    async def refuse(origin, head, reader, writer):
        if keep_reading:
            await reader.readexactly(keep_reading)
        writer.write(answer(b"no", status))
        await writer.drain()
        return False

    return refuse


pytestmark = pytest.mark.modes
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
async def test_an_endpoint_that_refuses_a_body_is_heard_and_not_blamed(start, connect, length):
    """It answers 413 and closes while megabytes are still being sent: its reset must not cost the
    answer."""
    refuses = early("413 Too Large", keep_reading=100_000)
    one, two = (
        await Origin(refuses, read_body=False).start(),
        await Origin(refuses, read_body=False).start(),
    )
    try:
        gateway = await start(
            PLAIN,
            f'[upstream.origin]\nendpoints = [{{ url = "{one.url}" }}, {{ url = "{two.url}" }}]\n'
            "passive_health = { max_fails = 1 }\n",
        )
        chunk = b"x" * 65536
        for _ in range(10):
            client = await connect(gateway)

            async def send(client: Any = client) -> None:
                framing = (
                    b"Content-Length: %d" % (len(chunk) * 160)
                    if length
                    else b"Transfer-Encoding: chunked"
                )
                await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
                try:
                    for _ in range(160):
                        await client.send(chunk if length else b"10000\r\n" + chunk + b"\r\n")
                except ConnectionError:
                    pass

            sending = asyncio.create_task(send())
            reply = await client.read("POST")
            assert (reply.status, reply.body) == (413, b"no")
            sending.cancel()
            await asyncio.wait((sending,))
        pool = pool_of(gateway)
        assert {str(endpoint.health.status) for endpoint in pool.endpoints} == {"healthy"}
        assert pool.in_flight == 0
    finally:
        await one.stop()
        await two.stop()


async def test_interim_answers_go_on_to_clients_that_know_them(start, connect):
    """RFC 9110 section 15.2: known or not, in order, before the final one; not to HTTP/1.0."""

    async def early_hints(origin, head, reader, writer):
        for interim in (
            b"102 Processing",
            b"103 Early Hints\r\nLink: </a>\r\nKeep-Alive: 5",
            b"199 Odd",
        ):
            writer.write(b"HTTP/1.1 " + interim + b"\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(answer(b"ok"))
        return True

    origin = await Origin(early_hints).start()
    try:
        gateway = await start(PLAIN, f'[upstream.origin]\nurl = "{origin.url}"\n')
        client = await connect(gateway)
        for _ in range(2):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            heads = [await client.head() for _ in range(4)]
            assert [status for status, *_ in heads] == [102, 103, 199, 200]
            assert heads[1][2].get("link") == "</a>"
            assert "keep-alive" not in heads[1][2], "hop-by-hop"
            assert await client.reader.readexactly(2) == b"ok"
        old = await connect(gateway)
        await old.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        assert (await old.head())[0] == 200
        assert len(origin.heads) == 3
    finally:
        await origin.stop()


async def test_a_unix_socket_is_an_endpoint(start, connect, tmp_path):
    """`unix:/run/app.sock`, checks and kept connections included."""
    path = tmp_path / "app.sock"
    origin = await Origin().start(path=path)
    try:
        gateway = await start(
            PLAIN,
            (
                f'[upstream.origin]\nurl = "unix:{path}"\npreserve_host = false\nhealth = '
                f'{{ interval = "1h" }}\n'
            ),
        )
        client = await connect(gateway)
        for _ in range(2):
            assert (await client.get("/")).status == 200
        assert b"\r\nHost: localhost\r\n" in origin.heads[0]
        assert len(pool_of(gateway).endpoints[0].idle) == 1
        assert pool_of(gateway).status()["endpoints"][0]["name"] == f"unix:{path}"
    finally:
        await origin.stop()


async def test_what_to_upgrade_to_and_what_trails_go_on(start, connect):
    """`Upgrade` of a 426 (RFC 9110 section 15.5.22), and `Trailer` (section 6.6.2)."""
    answers = [
        answer(b"no", "426 Upgrade Required", Upgrade="TLS/1.3", Connection="upgrade"),
        (
            b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: "
            b"1\r\n\r\n"
        ),
        answer(b"ok", Upgrade="h2c", Connection="upgrade"),
    ]

    async def respond(origin, head, reader, writer):
        writer.write(answers[len(origin.heads) - 1])
        return True

    origin = await Origin(respond).start()
    try:
        client = await connect(await start(PLAIN, f'[upstream.origin]\nurl = "{origin.url}"\n'))
        refused = await client.get("/")
        assert (refused.status, refused.fields["upgrade"]) == (426, "TLS/1.3")
        assert "upgrade" in refused.fields["connection"].lower()
        assert (await client.get("/", "TE: trailers", "Connection: TE")).fields[
            "trailer"
        ] == "X-Sum"
        assert "upgrade" not in (await client.get("/")).fields
    finally:
        await origin.stop()


async def test_announced_trailers_of_a_request_go_on(start, connect):
    """RFC 9110 section 6.5: behind chunks, those that the client announced and that do no harm."""
    got: list[bytes] = []

    async def raw(origin, head, reader, writer):
        got.append(await reader.readuntil(b"0\r\n") + await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer(b"ok"))
        return True

    origin = await Origin(raw, read_body=False).start()
    try:
        client = await connect(await start(PLAIN, f'[upstream.origin]\nurl = "{origin.url}"\n'))
        await client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, "
            b"X-Client-ID, Content-Length\r\n\r\n"
        )
        for part in (
            b"2\r\nhi\r\n",
            b"0\r\nX-Sum: 1\r\nX-Client-ID: evil\r\nX-Not-Announced: 1\r\n\r\n",
        ):
            await client.send(part)
        assert (await client.read()).status == 200
        assert b"\r\nTrailer: x-sum\r\n" in origin.heads[0]
        assert got == [b"2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"]
    finally:
        await origin.stop()
