"""WebSockets: what crosses the tunnel, and what is counted while it stands."""

from __future__ import annotations

import asyncio
import gc
import json

import aiohttp
import pytest
from aiohttp import web

from gateway.middlewares.logging.access_log import AccessLog
from gateway.runtime.snapshot import Snapshot
from tests.client import Client
from tests.flow.conftest import PLAIN, write
from tests.flow.test_proxy import upstreams
from tests.flow.tunnels import LOOPS as LOOPS
from tests.flow.tunnels import MASK, flood, over, stuck, tunnels
from tests.origin import answer
from tests.until import until
from tests.websocket import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    close,
    echo,
    frame,
    handshake,
    open_tunnel,
    read_frame,
    speaks,
    switching,
)


async def test_frames_in_the_same_write_as_the_101_arrive(start, origin_of, connect):
    first = frame(b"one", TEXT) + frame(b"two", TEXT)

    async def respond(origin, head, reader, writer):
        writer.write(switching(head) + first)
        await echo(reader, writer)
        return False

    client = await connect(await start(PLAIN, upstreams(await origin_of(respond))))
    await open_tunnel(client)
    assert await client.reader.readexactly(len(first)) == first
    await client.send(frame(b"three", mask=MASK))
    assert (await read_frame(client.reader)).payload == b"three"


@pytest.mark.parametrize("size", [5, 70_000, 1_000_000])
async def test_what_comes_right_behind_the_handshake_arrives(start, echoing, connect, size):
    client = await connect(await start(PLAIN, upstreams(echoing)))
    early = frame(b"x" * size, mask=MASK) + frame(b"?", PING, mask=MASK)
    client.writer.write(handshake() + early)
    assert (await client.head())[0] == 101
    assert (await read_frame(client.reader)).payload == b"x" * size
    assert await read_frame(client.reader) == (128 | PING, b"?", False)


async def test_a_pipelined_request_is_answered_before_the_handshake(start, origin_of, connect):
    async def respond(origin, head, reader, writer):
        if b"upgrade" in head.lower():
            return await speaks(echo)(origin, head, reader, writer)
        writer.write(answer(head.split()[1]))
        return True

    client = await connect(await start(PLAIN, upstreams(await origin_of(respond))))
    await client.send(
        b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n" + handshake("/b") + frame(b"c", mask=MASK)
    )
    assert (await client.read()).body == b"/a"
    assert (await client.head())[0] == 101
    assert (await read_frame(client.reader)).payload == b"c"


@pytest.fixture
async def server():
    """aiohttp's own WebSocket server: echoes messages; "close" and "abort" make it do so."""
    closed: list[int | None] = []

    async def talk(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(protocols=("chat",), max_msg_size=0, compress=True)
        await ws.prepare(request)
        async for message in ws:
            if message.data == "close":
                await ws.close(code=4321, message=b"as you wish")
            elif message.type == aiohttp.WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        closed.append(ws.close_code)
        return ws

    application = web.Application()
    application.router.add_get("/", talk)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f'[upstream.origin]\nurl = "http://127.0.0.1:{runner.addresses[0][1]}"\n', closed
    await runner.cleanup()


@pytest.mark.parametrize("compress", [0, 15])
async def test_two_real_implementations_agree_with_each_other(start, server, compress):
    gateway = await start(PLAIN, server[0])
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{gateway.port}/"
        async with session.ws_connect(
            url, protocols=("x", "chat"), compress=compress, max_msg_size=0
        ) as ws:
            assert (ws.protocol, bool(ws.compress)) == ("chat", bool(compress))
            await ws.send_str("grüezi")
            assert await ws.receive_str() == "grüezi"
            large = bytes(range(256)) * 40_000
            await ws.send_bytes(large)
            assert await ws.receive_bytes() == large
            await ws.ping(b"x")
            await ws.send_str("after a ping")
            assert await ws.receive_str() == "after a ping"
    await over(gateway)


async def test_close_codes_cross_both_ways(start, server):
    gateway = await start(PLAIN, server[0])
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://127.0.0.1:{gateway.port}/") as ws:
            await ws.send_str("close")
            message = await ws.receive()
            assert (message.type, message.data, message.extra) == (
                aiohttp.WSMsgType.CLOSE,
                4321,
                "as you wish",
            )
        async with session.ws_connect(f"http://127.0.0.1:{gateway.port}/") as ws:
            await ws.close(code=4444)
    await over(gateway)
    await until(lambda: len(server[1]) == 2)
    assert server[1] == [1000, 4444], "what the client said each time"


async def test_ten_megabytes_of_small_frames_cross(start, echoing, connect):
    client = await connect(await start(PLAIN, upstreams(echoing)))
    await open_tunnel(client)
    number = 2000
    frames = [frame(bytes((place % 256,)) * 5000, mask=MASK) for place in range(number)]

    async def send() -> None:
        for one in frames:
            await client.send(one)

    sending = asyncio.create_task(send())
    for place in range(number):
        assert await read_frame(client.reader) == (130, bytes((place % 256,)) * 5000, False)
    await sending


async def test_a_slow_client_holds_the_endpoint_back_and_loses_nothing(start, origin_of, connect):
    sent = [0]

    async def talk(reader, writer):
        await flood(writer, sent)
        writer.write(close(1000))

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = Client(*await asyncio.open_connection("127.0.0.1", gateway.port, limit=1000))
    await open_tunnel(client)
    assert await stuck(sent) < 30_000_000
    for _ in range(500):
        assert len((await read_frame(client.reader)).payload) == 100_000
    assert (await read_frame(client.reader)).code == 1000
    client.close()
    await over(gateway)


async def test_a_slow_endpoint_holds_the_client_back_and_loses_nothing(start, origin_of, connect):
    sent, go, got = [0], asyncio.Event(), asyncio.get_running_loop().create_future()

    async def talk(reader, writer):
        await go.wait()
        got.set_result([len((await read_frame(reader)).payload) for _ in range(500)])

    gateway = await start(PLAIN, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    await open_tunnel(client)
    flooding = asyncio.create_task(flood(client.writer, sent, MASK))
    assert await stuck(sent) < 30_000_000
    go.set()
    assert await got == [100_000] * 500
    await flooding


async def test_a_tunnel_counts_for_as_long_as_it_stands(start, origin_of, connect):
    origins = [await origin_of(speaks(echo)) for _ in range(2)]
    gateway = await start(PLAIN, upstreams(*origins))
    pool = gateway.runtime.snapshot.pools["origin"]
    clients = [await connect(gateway) for _ in range(6)]
    for client in clients:
        await open_tunnel(client)
    assert [endpoint.in_flight for endpoint in pool.endpoints] == [3, 3], (
        "least connections sees them"
    )
    assert (pool.tunnels, gateway.telemetry.in_flight.get(), len(tunnels(gateway))) == (6, 6, 6)
    for client in clients:
        await client.send(close(1000, MASK))
        assert (await read_frame(client.reader)).opcode == CLOSE
        assert await client.at_end()
        client.close()
    await over(gateway)
    assert [endpoint.in_flight for endpoint in pool.endpoints] == [0, 0]
    name = pool.endpoints[0].name
    assert gateway.telemetry.upstream_requests.get(("origin", name, "101")) == 3


async def test_max_connections_counts_tunnels(start, echoing, connect):
    text = f'[upstream.origin]\nendpoints = [{{ url = "{echoing.url}", max_connections = 1 }}]\n'
    gateway = await start(PLAIN, text)
    first, second = await connect(gateway), await connect(gateway)
    await open_tunnel(first)
    assert (await second.get("/")).status == 503
    await first.send(close(1000, MASK))
    await read_frame(first.reader)
    first.close()
    await until(lambda: not gateway.runtime.snapshot.pools["origin"].in_flight)
    await open_tunnel(second)


async def test_a_101_closes_a_half_open_circuit_at_once(start, origin_of, connect):
    well = False

    async def respond(origin, head, reader, writer):
        if not well:
            writer.write(answer(status="503 Busy"))
            return True
        return await speaks(echo)(origin, head, reader, writer)

    more = (
        'circuit_breaker = { failure_threshold = 1, recovery_timeout = "50ms", '
        "half_open_requests = 1 }\n"
    )
    gateway = await start(PLAIN, upstreams(await origin_of(respond), more=more))
    client = await connect(gateway)
    await client.send(handshake())
    assert (await client.read()).status == 503
    well = True
    await asyncio.sleep(0.1)
    await open_tunnel(client)
    breaker = gateway.runtime.snapshot.pools["origin"].breaker
    assert breaker is not None and breaker.state == 0


async def test_the_access_log_has_one_line_when_it_ends(start, tmp_path, origin_of, connect):
    async def talk(reader, writer):
        assert (await read_frame(reader)).payload == b"x" * 100
        writer.write(frame(b"y" * 1000))
        await read_frame(reader)
        writer.write(close(1000))

    pipeline = (
        f'response = ["logging", "compression", "caching", "metrics"]\n[logging]\nfile = '
        f'"../log"\n{PLAIN}name = "ws"\n'
    )
    gateway = await start(pipeline, upstreams(await origin_of(speaks(talk))))
    client = await connect(gateway)
    fields = await open_tunnel(client)
    assert "content-encoding" not in fields
    await client.send(frame(b"x" * 100, mask=MASK))
    await read_frame(client.reader)
    assert gateway.telemetry.requests.get(("ws", "GET", "101")) == 0
    await client.send(close(1000, MASK))
    assert (await read_frame(client.reader)).code == 1000
    client.close()
    await over(gateway)
    assert gateway.telemetry.requests.get(("ws", "GET", "101")) == 1
    await until(lambda: (tmp_path / "log").stat().st_size > 0)
    (line,) = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert {name: line[name] for name in ("status", "route", "upstream", "attempts", "reason")} == {
        "status": 101, "route": "ws", "upstream": "origin", "attempts": 1, "reason": None,
    }  # fmt: skip
    assert (line["bytes_in"], line["bytes_out"]) == (106 + 8, 1004 + 4)
    assert line["duration_ms"] > line["upstream_ms"]


async def test_health_is_no_business_of_a_tunnels(start, origin_of, connect):
    origin = await origin_of(speaks(echo))
    other = await origin_of(answer(b"other"))
    health = (
        'health = { path = "/health", interval = "100ms", timeout = "1s", '
        "unhealthy_threshold = 1 }\n"
    )
    gateway = await start(PLAIN, upstreams(origin, more=health))
    pool = gateway.runtime.snapshot.pools["origin"]
    client = await connect(gateway)
    await open_tunnel(client)
    origin.health = answer(status="500 Ill")
    await until(lambda: not pool.eligible)
    await client.send(frame(b"still here", mask=MASK))
    assert (await read_frame(client.reader)).payload == b"still here"
    (gateway.runtime.path.parent / "upstreams.toml").write_text(upstreams(other))
    assert (await gateway.reload()).ok
    assert [endpoint.name for endpoint in pool.endpoints] == [f"127.0.0.1:{other.port}"]
    await client.send(frame(b"and still", mask=MASK))
    assert (await read_frame(client.reader)).payload == b"and still"
    client.close()
    await until(lambda: not pool.tunnels)


LOGS = (
    'response = ["logging"]\n[logging]\nfile = "../{file}"\n[[route]]\nname = '
    '"{name}"\nprefix = "/"\nupstream = "origin"\n'
)
WITH_ERRORS = 'error = ["logging"]\n'


@pytest.mark.parametrize(("name", "lines"), [("ws", 1), ("another", 0)])
async def test_a_reload_is_not_held_up_and_has_the_last_word(
    start, tmp_path, echoing, connect, name, lines
):
    def kept() -> list[object]:
        gc.collect()
        return [one for one in gc.get_objects() if isinstance(one, Snapshot | AccessLog)]

    others = kept()  # of tests before this one, if something holds them
    gateway = await start(LOGS.format(file="old", name="ws"), upstreams(echoing))
    client = await connect(gateway)
    await open_tunnel(client)
    write(tmp_path, LOGS.format(file="new", name=name), upstreams(echoing))
    assert (await gateway.reload()).ok
    assert gateway.status()["snapshots_alive"] == 1
    # Nothing of the old configuration is kept, once the thread that wrote its log has let go.
    await until(lambda: len(kept()) == len(others) + 2)
    await client.send(close(1000, MASK))
    await read_frame(client.reader)
    client.close()
    await over(gateway)
    if lines:
        await until(lambda: (tmp_path / "new").stat().st_size > 0)
    assert (tmp_path / "old").read_text() == ""
    assert len((tmp_path / "new").read_text().splitlines()) == lines


async def test_what_counts_at_a_time_is_given_back_whatever_was_reloaded(
    start, tmp_path, echoing, connect
):
    def one_at_a_time(message: str) -> str:
        limit = (
            f'[rate_limit]\nkey = "ip"\nalgorithm = "concurrency"\nlimit = 1\nmessage = '
            f'"{message}"\n'
        )
        return f'request = ["rate_limit"]\n{limit}{PLAIN}'

    gateway = await start(one_at_a_time("one"), upstreams(echoing))
    first, second = await connect(gateway), await connect(gateway)
    for message in ("two", "three"):
        await open_tunnel(first)
        write(tmp_path, one_at_a_time(message), upstreams(echoing))
        assert (await gateway.reload()).ok
        await second.send(handshake())
        reply = await second.read()
        assert reply.status == 429 and message.encode() in reply.body
        first.close()
        await until(lambda: not gateway.runtime.snapshot.pools["origin"].tunnels)
        first = await connect(gateway)
    await open_tunnel(second)


async def test_when_its_route_is_gone_those_who_log_everything_log_it(
    start, tmp_path, echoing, connect
):
    gateway = await start(WITH_ERRORS + LOGS.format(file="old", name="ws"), upstreams(echoing))
    client = await connect(gateway)
    await open_tunnel(client)
    write(tmp_path, WITH_ERRORS + LOGS.format(file="new", name="another"), upstreams(echoing))
    assert (await gateway.reload()).ok
    client.close()
    await over(gateway)
    await until(lambda: (tmp_path / "new").stat().st_size > 0)
    line = json.loads((tmp_path / "new").read_text())
    assert (line["route"], line["status"]) == ("ws", 101)


SIZES = (0, 125, 126, 127, 128, 65535, 65536)


def chopped(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


# What the gateway does not look into, compared with no gateway at all, in the Autobahn test suite's
# main groups.
CASES: dict[str, list[bytes]] = {
    **{f"1.1 text {size}": [frame(b"*" * size, TEXT, mask=MASK)] for size in SIZES},
    **{f"1.2 binary {size}": [frame(b"\xfe" * size, mask=MASK)] for size in SIZES},
    "1.1.8 text 65536 in chops of 997": chopped(frame(b"*" * 65536, TEXT, mask=MASK), 997),
    "1.2.8 binary 65536 in chops of 997": chopped(frame(b"\xfe" * 65536, mask=MASK), 997),
    "1.3 octet by octet": chopped(frame(b"*" * 300, TEXT, mask=MASK), 1),
    "2.1 ping without payload": [frame(b"", PING, mask=MASK)],
    "2.4 ping of 125": [frame(b"\xfe" * 125, PING, mask=MASK)],
    "2.5 ping of 126": [frame(b"\xfe" * 126, PING, mask=MASK)],
    "2.7 unsolicited pong": [frame(b"?", PONG, mask=MASK)],
    "2.10 ten pings": [b"".join(frame(b"%d" % number, PING, mask=MASK) for number in range(10))],
    **{f"3 reserved bits {bits}": [frame(b"*", TEXT, reserved=bits, mask=MASK)] for bits in range(1, 8)},
    **{f"4 opcode {opcode}": [frame(b"*", opcode, mask=MASK)] for opcode in (3, 7, 11, 15)},
    "5.3 a message in two": [frame(b"a", TEXT, fin=False, mask=MASK) + frame(b"b", 0, mask=MASK)],
    "5.6 with a ping in between": [
        frame(b"a", TEXT, fin=False, mask=MASK),
        frame(b"!", PING, mask=MASK),
        frame(b"b", 0, mask=MASK),
    ],
    "5.9 a continuation of nothing": [frame(b"a", 0, mask=MASK)],
    "6.3 invalid UTF-8": [frame(b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80", TEXT, mask=MASK)],
    "9.1 256 KiB in one": [frame(b"*" * 262144, TEXT, mask=MASK)],
    "9.5 1 MiB in chops of 4099": chopped(frame(b"\xfe" * 1048576, mask=MASK), 4099),
    "9.3 1 MiB in frames of 4 KiB": [
        frame(b"\xfe" * 4096, 0 if place else 2, fin=place == 255, mask=MASK) for place in range(256)
    ],
    "10.1 without minimal length": [b"\x82\xfe\x00\x05" + MASK + b"\x00" * 5],
}  # fmt: skip
ENDS = {
    "7.1 close": close(1000, MASK),
    "7.3 close without code": frame(b"", CLOSE, mask=MASK),
    "7.3 close with a reason": frame(b"\x03\xe8" + b"*" * 123, CLOSE, mask=MASK),
    "7.7 close 4999": close(4999, MASK),
    "7.9 close with an invalid code": close(999, MASK),
}


async def seen(port: int, case: list[bytes], end: bytes) -> bytes:
    """Everything a client is sent behind the 101 when it sends this, piece by piece, and then this
    end."""
    client = await Client.connect(port)
    try:
        await open_tunnel(client)

        async def send() -> None:
            for piece in case:
                await client.send(piece)
                await asyncio.sleep(0)
            await client.send(end)

        sending = asyncio.create_task(send())
        got = await asyncio.wait_for(client.reader.read(), 20)
        await sending
        return got
    finally:
        client.close()


async def test_clients_see_the_same_with_a_gateway_as_without(start, echoing):
    gateway = await start(PLAIN, upstreams(echoing))
    ends = list(ENDS.values())
    for number, (name, case) in enumerate(CASES.items()):
        end = ends[number % len(ends)]
        direct = await seen(echoing.port, case, end)
        assert len(direct) > 2
        assert await seen(gateway.port, case, end) == direct, name
    for name, end in ENDS.items():
        assert await seen(gateway.port, [], end) == await seen(echoing.port, [], end), name
    await over(gateway)
