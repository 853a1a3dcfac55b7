"""Retries, fallbacks and breakers through a running gateway: what the upstreams see, and what
clients get."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.connections.opening import open_socket
from gateway.upstream.pool.endpoint import Endpoint
from tests.flow.conftest import PLAIN, write
from tests.origin import Origin, answer, fields_of
from tests.unit.upstream.test_retry import POLICIES
from tests.until import until

OK = answer(b"ok")
DOWN = answer(b"down", "503 Service Unavailable")
FAST = 'retry = { attempts = 3, base_delay = "1ms", max_delay = "5ms" }\n'


def pool(name: str, *urls: str, more: str = "") -> str:
    endpoints = ", ".join(f'{{ url = "{url}" }}' for url in urls)
    return f"[upstream.{name}]\nendpoints = [{endpoints}]\n{more}"


def in_turn(origin: Origin, *answers: bytes) -> None:
    """`origin` gives these answers one after the other, the last for ever."""
    left = list(answers)

    async def respond(
        _: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        return True

    origin.respond = respond


@pytest.fixture
async def other():
    one = await Origin(answer(b"other")).start()
    yield one
    await one.stop()


@pytest.mark.parametrize(
    ("method", "lines", "sent"),
    [("PUT", (), 3), ("POST", (), 1), ("POST", ("Idempotency-Key: 7",), 3), ("PATCH", (), 1)],
)
async def test_a_body_goes_out_again_where_that_is_safe(
    start, origin, connect, method, lines, sent
):
    in_turn(origin, DOWN, DOWN, OK)
    client = await connect(await start(PLAIN, pool("origin", origin.url, more=FAST)))
    # The head alone at first: what follows has to be waited for, and kept.
    head = (
        "\r\n".join([f"{method} / HTTP/1.1", "Host: a", "Content-Length: 5", *lines]).encode()
        + b"\r\n\r\n"
    )
    await client.send(head)
    await asyncio.sleep(0)
    await client.send(b"hello")
    assert (await client.read()).status == (200 if sent == 3 else 503)
    assert origin.bodies == [b"hello"] * sent


async def test_a_body_that_is_too_long_to_keep_goes_out_once(start, origin, connect):
    in_turn(origin, DOWN, OK)
    retry = 'retry = { base_delay = "1ms", max_body = 4 }\n'
    client = await connect(await start(PLAIN, pool("origin", origin.url, more=retry)))
    await client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    await until(lambda: origin.heads)  # Else it may be here in time to go out with its head.
    await client.send(b"hello")
    assert (await client.read()).status == 503
    assert origin.bodies == [b"hello"]


async def test_a_route_may_have_its_own_policy(start, origin, connect):
    origin.respond = DOWN
    routes = PLAIN + '[[route]]\nprefix = "/pay"\nupstream = "origin"\nretry = "write"\n'
    client = await connect(await start(routes, pool("origin", origin.url, more=FAST)))
    assert (await client.get("/pay")).status == 503
    assert len(origin.heads) == POLICIES["write"].attempts
    assert (await client.get("/")).status == 503
    assert len(origin.heads) == 1 + 3


async def test_retry_after_is_waited_for(start, origin, connect):
    in_turn(origin, answer(b"", "503 Service Unavailable", Retry_After="0.2"), OK)
    retry = 'retry = { base_delay = "1ms", max_delay = "1s" }\n'
    client = await connect(await start(PLAIN, pool("origin", origin.url, more=retry)))
    began = time.monotonic()
    assert (await client.get("/")).status == 200
    assert time.monotonic() - began >= 0.2


async def test_a_retry_after_that_is_too_long_is_the_clients(start, origin, connect):
    in_turn(origin, answer(b"", "503 Service Unavailable", Retry_After="60"), OK)
    client = await connect(await start(PLAIN, pool("origin", origin.url, more=FAST)))
    reply = await client.get("/")
    assert (reply.status, reply.fields["retry-after"], len(origin.heads)) == (503, "60", 1)


async def test_what_was_never_sent_needs_no_budget(start, origin, connect):
    gone = await Origin().start()
    await gone.stop()
    more = (
        'balance = "round_robin"\nretry = { base_delay = "1h", max_delay = "1h", budget = 0.0 }\n'
    )
    gateway = await start(PLAIN, pool("origin", gone.url, origin.url, more=more))
    clients = [await connect(gateway) for _ in range(12)]
    replies = await asyncio.gather(
        *(client.get("/", method="POST", body=b"x") for client in clients)
    )
    assert [reply.status for reply in replies] == [200] * 12
    assert len(origin.heads) == 12


async def test_a_post_is_not_sent_into_a_connection_that_has_ended(start, origin, connect):
    client = await connect(await start(PLAIN, pool("origin", origin.url)))
    assert (await client.get("/")).status == 200
    port = origin.port
    await (
        origin.stop()
    )  # Its end is in the kernel, but the gateway's loop does not run before the POST does.
    await origin.start(port)
    await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx")
    assert (await client.read()).status == 200


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("method", "reads", "sent"),
    [("POST", False, 1), ("GET", False, 1), ("POST", True, 1), ("GET", True, 2)],
)
async def test_what_was_not_received_goes_out_again(
    start, origin, connect, monkeypatch, method, reads, sent
):
    """The endpoint ends its connection: unseen before a request, or having read it. A POST is
    repeated only in the first case."""
    client = await connect(await start(PLAIN, pool("origin", origin.url)))
    assert (await client.get("/warm")).status == 200
    monkeypatch.setattr(Connection, "has_unread_input", lambda self: False)
    if reads:

        async def hang_up(
            _: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> bool:
            origin.respond = OK
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            return False

        origin.respond = hang_up
    else:
        port = origin.port
        await origin.stop()
        await origin.start(port)
    reply = await client.get("/", method=method, body=b"x" if method == "POST" else None)
    assert reply.status == (502 if reads and method == "POST" else 200)
    assert [head.split()[1] for head in origin.heads] == [b"/warm", *[b"/"] * sent]


async def test_a_post_that_a_new_connection_did_not_take_goes_elsewhere(
    start, other, connect, monkeypatch
):
    """An endpoint that accepts and closes, as a balancer does that has nobody behind it."""
    opened: list[socket.socket] = []

    async def opening(factory: Any, endpoint: Endpoint, *more: Any) -> Any:
        transport = await open_socket(factory, endpoint, *more)
        if endpoint.port == listener.getsockname()[1]:
            opened.append(listener.accept()[0])
            opened[-1].close()
        return transport

    monkeypatch.setattr("gateway.upstream.connections.transport.open_socket", opening)
    more = 'balance = "round_robin"\nretry = { base_delay = "1ms" }\n'
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = await connect(await start(PLAIN, pool("origin", url, other.url, more=more)))
        for _ in range(4):
            assert (await client.get("/", method="POST", body=b"x")).body == b"other"
    assert len(opened) == 2
    assert len(other.heads) == 4


async def test_the_whole_of_it_takes_no_longer_than_total(start, origin, connect):
    async def never(
        _: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        await asyncio.Event().wait()
        return False

    origin.respond = never
    more = 'timeouts = { total = "200ms", read = "10s" }\n' + FAST
    gateway = await start(PLAIN, pool("origin", origin.url, more=more))
    reply = await (await connect(gateway)).get("/")
    assert reply.status == 504
    assert len(origin.heads) == 1


async def test_the_fallback_answers_while_the_circuit_is_open(start, origin, other, connect):
    origin.respond = DOWN
    more = (
        'circuit_breaker = { failure_threshold = 1, recovery_timeout = "1h" }\nfallback = "other"\n'
    )
    gateway = await start(PLAIN, pool("origin", origin.url, more=more) + pool("other", other.url))
    client = await connect(gateway)
    assert (await client.get("/")).body == b"down"
    assert (await client.get("/")).body == b"other"
    assert len(origin.heads) == 1
    assert gateway.reset_circuit("origin") is True
    assert (await client.get("/")).body == b"down"
    assert gateway.reset_circuit("other") is False
    assert gateway.reset_circuit("nobody") is None


async def test_an_open_circuit_is_answered_for_by_what_is_stored_and_by_what_is_written_down(
    start, origin, connect
):
    fresh = answer(b"fresh", Cache_Control="max-age=0, stale-if-error=3600", ETag='"1"')
    in_turn(origin, fresh, DOWN)
    lists = (
        'request = ["caching"]\nresponse = ["caching"]\nerror = ["error_handler", '
        '"fallback", "caching"]\n[caching]\n'
    )
    static = '[[fallback.responses]]\non = ["circuit_open"]\nstatus = 200\nbody = "written down"\n'
    more = 'circuit_breaker = { failure_threshold = 1, recovery_timeout = "1h" }\n'
    client = await connect(
        await start(lists + static + PLAIN, pool("origin", origin.url, more=more))
    )
    assert (await client.get("/stored")).body == b"fresh"
    assert (await client.get("/")).body == b"down"
    asked = len(origin.heads)
    stored, static_one = await client.get("/stored"), await client.get("/other")
    assert (stored.status, stored.body, static_one.status, static_one.body) == (
        200,
        b"fresh",
        200,
        b"written down",
    )
    assert len(origin.heads) == asked


async def test_what_was_answered_is_the_answer_when_nobody_can_be_asked_again(
    start, origin, connect
):
    origin.respond = answer(b"sorry", "503 Service Unavailable")
    more = FAST + 'circuit_breaker = { failure_threshold = 1, recovery_timeout = "1h" }\n'
    client = await connect(await start(PLAIN, pool("origin", origin.url, more=more)))
    first, second = await client.get("/"), await client.get("/")
    assert (first.status, first.body, second.status) == (503, b"sorry", 503)
    assert second.fields["retry-after"] == "3600"
    assert len(origin.heads) == 1


async def test_a_fallback_is_no_second_try(start, origin, other, connect):
    async def hang_up(
        _: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        return False

    origin.respond = hang_up
    gateway = await start(
        PLAIN, pool("origin", origin.url, more='fallback = "other"\n') + pool("other", other.url)
    )
    assert (await (await connect(gateway)).get("/")).status == 502
    assert not other.heads


async def test_who_fails_more_than_its_peers_is_ejected(start, origin, other, connect):
    origin.respond = answer(b"", "500 Internal Server Error")
    more = (
        'balance = "round_robin"\noutlier = { interval = "1ms", minimum_requests = 5, '
        'ejection_time = "1h" }\n'
    )
    gateway = await start(PLAIN, pool("origin", origin.url, other.url, more=more))
    client = await connect(gateway)
    for _ in range(30):
        await client.get("/")
    assert [
        endpoint["status"] for endpoint in gateway.health()["upstreams"]["origin"]["endpoints"]
    ] == ["ejected", "healthy"]
    assert (await client.get("/")).status == 200
    assert len(origin.heads) < 10


async def test_registered_services_are_asked_and_taken_out(start, origin, connect):
    gateway = await start(PLAIN, "[upstream.origin]\ndiscover.api = true\nhealth = {}\n")
    client = await connect(gateway)
    assert (await client.get("/")).status == 503
    assert gateway.register("origin", EndpointConfig(origin.url)) is True
    assert (await client.get("/")).status == 200
    assert (await gateway.reload()).ok
    assert (await client.get("/")).status == 200
    assert gateway.deregister("origin", origin.url)
    assert (await client.get("/")).status == 503
    assert gateway.register("nobody", EndpointConfig(origin.url)) is None


async def test_a_pool_may_be_found_in_a_file(start, origin, connect):
    gateway = await start(
        PLAIN,
        '[upstream.origin]\ndiscover = { file = "found.json" }\n',
        found__json=f'["{origin.url}"]',
    )
    client = await connect(gateway)
    assert (await client.get("/")).status == 200
    upstreams = Path(gateway.runtime.path).parent / "upstreams.toml"
    upstreams.write_text(pool("origin", origin.url))
    assert (await gateway.reload()).ok
    assert gateway.register("origin", EndpointConfig(origin.url)) is False
    assert (await client.get("/")).status == 200


def waiting(origin: Origin) -> asyncio.Event:
    """`origin` answers when the event is set."""
    event = asyncio.Event()

    async def respond(
        _: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        await event.wait()
        writer.write(OK)
        return True

    origin.respond = respond
    return event


async def arrived(origin: Origin, count: int) -> None:
    await until(lambda: len(origin.heads) >= count)


async def test_who_finds_all_full_waits_in_the_queue(start, origin, connect):
    go = waiting(origin)
    more = 'limit = { requests = 1 }\nqueue = { size = 1, timeout = "10s" }\n'
    gateway = await start(PLAIN, pool("origin", origin.url, more=more))
    one, two, three = [await connect(gateway) for _ in range(3)]
    first = asyncio.create_task(one.get("/1"))
    await arrived(origin, 1)
    second = asyncio.create_task(two.get("/2"))
    await until(lambda: gateway.runtime.snapshot.pools["origin"].waiting)
    refused = await three.get("/3")
    assert (refused.status, refused.fields["retry-after"]) == (503, "1")
    go.set()
    assert [(await first).status, (await second).status] == [200, 200]
    assert [head.split()[1] for head in origin.heads] == [b"/1", b"/2"]


async def test_nobody_waits_for_longer_than_the_queue_says(start, origin, connect):
    go = waiting(origin)
    more = 'queue = { timeout = "20ms" }\n'
    endpoints = (
        f'[upstream.origin]\nendpoints = [{{ url = "{origin.url}", max_connections = 1 }}]\n'
    )
    gateway = await start(PLAIN, endpoints + more)
    one, two = await connect(gateway), await connect(gateway)
    first = asyncio.create_task(one.get("/"))
    await arrived(origin, 1)
    assert (await two.get("/")).status == 503
    go.set()
    assert (await first).status == 200


LIMITED = PLAIN + '[[route]]\nprefix = "/few"\nupstream = "origin"\nlimit = {{ requests = {} }}\n'


async def test_a_route_takes_no_more_than_its_limit(start, origin, connect):
    go = waiting(origin)
    gateway = await start(LIMITED.format(1), pool("origin", origin.url))
    one, two = await connect(gateway), await connect(gateway)
    first = asyncio.create_task(one.get("/few"))
    await arrived(origin, 1)
    refused = await two.get("/few")
    assert (refused.status, refused.fields["retry-after"]) == (503, "1")
    other = asyncio.create_task(two.get("/"))
    await arrived(origin, 2)
    go.set()
    assert [(await first).status, (await other).status, (await two.get("/few")).status] == [
        200,
        200,
        200,
    ]


async def test_a_routes_limit_counts_over_a_reload_and_who_left(start, origin, connect):
    go = waiting(origin)
    gateway = await start(LIMITED.format(1), pool("origin", origin.url))
    directory = Path(gateway.runtime.path).parent
    one, two = await connect(gateway), await connect(gateway)
    asked = asyncio.create_task(one.get("/few"))
    await arrived(origin, 1)
    for limit, expected in ((1, 503), (2, 200)):
        write(
            directory,
            LIMITED.format(limit),
            pool("origin", origin.url, more=f"max_idle = {limit}\n"),
        )
        assert (await gateway.reload()).ok
        if expected == 200:
            go.set()
        assert (await two.get("/few")).status == expected
    assert (await asked).status == 200


async def test_who_leaves_gives_a_routes_place_back(start, origin, connect):
    go = waiting(origin)
    gateway = await start(LIMITED.format(1), pool("origin", origin.url))
    one, two = await connect(gateway), await connect(gateway)
    await one.send(b"GET /few HTTP/1.1\r\nHost: a\r\n\r\n")
    await arrived(origin, 1)
    one.close()
    await until(lambda: not gateway.runtime.snapshot.pools["origin"].in_flight)
    go.set()
    for _ in range(2):
        assert (await two.get("/few")).status == 200


@pytest.mark.parametrize(
    ("table", "line"),
    [('header = "X-User"', "X-User: {}"), ('cookie = "session"', "Cookie: session={}")],
)
async def test_a_value_keeps_its_endpoint(start, origin, other, connect, table, line):
    more = f'balance = "hash"\nhash = {{ {table} }}\n'
    client = await connect(await start(PLAIN, pool("origin", origin.url, other.url, more=more)))
    found = {
        value: {(await client.get("/", line.format(value))).body for _ in range(3)}
        for value in range(20)
    }
    assert all(len(bodies) == 1 for bodies in found.values())
    assert {body for bodies in found.values() for body in bodies} == {b"ok", b"other"}


@pytest.mark.parametrize("body", [None, b"x"])
async def test_endpoints_are_told_how_much_time_there_is(start, origin, connect, body):
    more = 'deadline_header = "X-Left-Ms"\ntimeouts.total = "10s"\n'
    client = await connect(await start(PLAIN, pool("origin", origin.url, more=more)))
    for _ in range(2):
        await client.get(
            "/", "X-Left-Ms: 99999", method="GET" if body is None else "PUT", body=body
        )
    for head in origin.heads:
        assert 9000 < int(fields_of(head)["x-left-ms"]) <= 10000


async def test_a_stop_fails_readiness_before_it_refuses(start, origin, connect):
    gateway = await start(PLAIN, pool("origin", origin.url), '[server]\nshutdown_delay = "200ms"\n')
    kept = await connect(gateway)
    assert "connection" not in (await kept.get("/")).fields
    assert gateway.ready()
    stopping = asyncio.create_task(gateway.close())
    await asyncio.sleep(0)
    assert not gateway.ready()
    for client in (kept, await connect(gateway)):
        reply = await client.get("/")
        assert (reply.status, reply.fields["connection"]) == (200, "close")
        assert await client.at_end()
    await stopping
    with pytest.raises(OSError):
        await connect(gateway)
