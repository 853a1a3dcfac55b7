"""The PROXY protocol in front of a running gateway's connections: whose address counts, and who may
say so."""

from __future__ import annotations

import asyncio
import struct
from ipaddress import IPv4Address

import pytest

from gateway.protocols.http2.session import PREFACE
from gateway.serving.net.accept import AT_ONCE
from gateway.serving.net.proxy_protocol import SIGNATURE
from tests.certificates import Authority
from tests.client import Client
from tests.flow.conftest import PLAIN, write
from tests.flow.test_proxy import upstreams
from tests.origin import fields_of
from tests.until import until

LISTEN = "[listen]\nport = 0\nproxy_protocol = true\n"
GET = b"GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n"
TEXT = b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n"
BINARY = (
    SIGNATURE
    + b"\x21\x11\x00\x0c"
    + IPv4Address("192.0.2.7").packed
    + IPv4Address("10.0.0.1").packed
    + b"\0\1\0\2"
)
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"


@pytest.mark.parametrize("preamble", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("pause", [False, True], ids=["at once", "in pieces"])
async def test_the_address_in_the_preamble_is_the_peers(start, origin, connect, preamble, pause):
    gateway = await start(PLAIN, upstreams(origin), LISTEN)
    client = await connect(gateway)
    if pause:
        for place in range(0, len(preamble), 5):
            await client.send(preamble[place : place + 5])
            await asyncio.sleep(0.002)
        await client.send(GET)
    else:
        await client.send(preamble + GET)
    assert (await client.read()).status == 200
    assert (await client.get("/", "X-Forwarded-For: 6.6.6.6")).status == 200
    assert [fields_of(head)["x-forwarded-for"] for head in origin.heads] == ["192.0.2.7"] * 2


@pytest.mark.parametrize("preamble", [b"PROXY UNKNOWN\r\n", LOCAL], ids=["unknown", "local"])
async def test_without_an_address_the_sockets_own_counts(start, origin, connect, preamble):
    gateway = await start(PLAIN, upstreams(origin), LISTEN)
    client = await connect(gateway)
    await client.send(preamble + GET)
    assert (await client.read()).status == 200
    assert fields_of(origin.heads[0])["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize(
    "data", [GET, b"PROXY TCP4 a b c d\r\n" + GET, SIGNATURE + b"\x21\x11\xff\xff" + GET, b"PROXY "]
)
async def test_without_a_preamble_there_is_no_connection(start, origin, connect, data):
    gateway = await start(PLAIN, upstreams(origin), LISTEN + '[server]\nheader_timeout = "400ms"\n')
    client = await connect(gateway)
    await client.send(data)
    assert await client.at_end()
    assert origin.heads == []
    assert gateway.telemetry.connections_refused.get(("proxy_protocol",)) == 1


async def test_a_client_that_leaves_within_its_preamble_is_forgotten(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), LISTEN)
    client = await connect(gateway)
    await client.send(b"PROXY TC")
    client.close()
    await until(lambda: gateway.telemetry.connections_refused.get(("proxy_protocol",)) != 0)


@pytest.mark.parametrize(("networks", "ok"), [("127.0.0.0/8", True), ("10.0.0.0/8", False)])
async def test_only_trusted_proxies_may_speak_for_others(start, origin, connect, networks, ok):
    gateway = await start(
        PLAIN, upstreams(origin), f'[server]\ntrusted_proxies = ["{networks}"]\n' + LISTEN
    )
    client = await connect(gateway)
    await client.send(TEXT + GET)
    if ok:
        # The peer is now the client, whom nobody trusts: what it says of others does not count.
        assert (await client.read()).status == 200
        assert (await client.get("/", "X-Forwarded-For: 6.6.6.6")).status == 200
        assert fields_of(origin.heads[1])["x-forwarded-for"] == "192.0.2.7"
    else:
        assert await client.at_end()
        assert origin.heads == []


async def test_limits_are_for_the_address_in_the_preamble(start, origin, connect):
    gateway = await start(
        PLAIN, upstreams(origin), "[server]\nmax_connections_per_ip = 1\n" + LISTEN
    )
    statuses = []
    for number in (7, 8, 7):
        client = await connect(gateway)
        await client.send(TEXT.replace(b".7 ", b".%d " % number) + GET)
        statuses.append((await client.read()).status)
    assert statuses == [200, 200, 429]


async def test_limits_of_ipv6_are_for_the_network_that_one_subscriber_has(start, origin, connect):
    gateway = await start(
        PLAIN, upstreams(origin), "[server]\nmax_connections_per_ip = 1\n" + LISTEN
    )
    statuses = []
    for address in ("2001:db8:0:1::7", "2001:db8:0:2::7", "2001:db8:0:1:ffff::8"):
        client = await connect(gateway)
        await client.send(b"PROXY TCP6 %b ::1 56324 443\r\n" % address.encode() + GET)
        statuses.append((await client.read()).status)
    assert statuses == [200, 200, 429]


async def test_abuse_counts_for_the_address_in_the_preamble(start, origin, connect):
    listen = LISTEN + "http2 = true\n[server]\nmax_abuse_per_ip = 1\n"
    gateway = await start(PLAIN, upstreams(origin), listen)
    client = await connect(gateway)
    await client.send(TEXT + PREFACE + b"no frames, but what looks like one that is too long")
    await client.reader.read()
    client = await connect(gateway)
    await client.send(TEXT + GET)
    assert await client.at_end()
    assert gateway.telemetry.connections_refused.get(("max_abuse_per_ip",)) == 1
    client = await connect(gateway)
    await client.send(TEXT.replace(b".7 ", b".8 ") + GET)
    assert (await client.read()).status == 200


async def test_it_comes_before_tls(start, origin, connect, tmp_path):
    authority = Authority(tmp_path)
    authority.issue("edge", "gateway.test")
    gateway = await start(
        PLAIN, upstreams(origin), LISTEN + 'tls = { certificate = "edge.pem", key = "edge.key" }\n'
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(BINARY)
    await writer.start_tls(authority.trusting(), server_hostname="gateway.test")
    client = Client(reader, writer)
    assert (await client.get("/")).status == 200
    client.close()
    fields = fields_of(origin.heads[0])
    assert (fields["x-forwarded-for"], fields["x-forwarded-proto"]) == ("192.0.2.7", "https")


async def test_over_tls_one_connection_too_many_is_closed_before_the_handshake(
    start, origin, connect, tmp_path
):
    authority = Authority(tmp_path)
    authority.issue("edge", "gateway.test")
    text = "[server]\nmax_connections = 1\n" + LISTEN.replace("proxy_protocol = true\n", "")
    gateway = await start(
        PLAIN, upstreams(origin), text + 'tls = { certificate = "edge.pem", key = "edge.key" }\n'
    )
    first = await connect(gateway, authority.trusting())
    assert (await first.get("/")).status == 200
    with pytest.raises(ConnectionError):
        await connect(gateway, authority.trusting())
    assert gateway.telemetry.connections_refused.get(("max_connections",)) == 1
    assert (await first.get("/")).status == 200


async def test_a_reset_before_anything_was_said_harms_nobody(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), LISTEN)
    rude = await connect(gateway)
    rude.writer.get_extra_info("socket").setsockopt(
        1, 13, struct.pack("ii", 1, 0)
    )  # SOL_SOCKET, SO_LINGER
    rude.writer.transport.abort()
    client = await connect(gateway)
    await client.send(TEXT + GET)
    assert (await client.read()).status == 200


async def test_adding_tls_waits_for_the_next_start(start, origin, connect, tmp_path):
    Authority(tmp_path).issue("edge", "gateway.test")
    gateway = await start(PLAIN, upstreams(origin), LISTEN)
    write(
        tmp_path,
        PLAIN,
        upstreams(origin),
        LISTEN + 'tls = { certificate = "edge.pem", key = "edge.key" }\n',
    )
    outcome = await gateway.reload()
    assert outcome.ok and "[listen] changed (takes effect at the next start)" in outcome.changes
    client = await connect(gateway)
    await client.send(TEXT + GET)
    assert (await client.read()).status == 200


async def test_preambles_that_are_awaited_have_room_of_their_own(start, origin, connect):
    """Else whoever sends none takes every descriptor, whatever `max_connections` says."""
    limit = '[server]\nmax_connections = 2\ntrusted_proxies = ["127.0.0.1"]\n'
    gateway = await start(PLAIN, upstreams(origin), LISTEN + limit)
    waiting = [await connect(gateway) for _ in range(AT_ONCE)]
    await until(lambda: len(gateway.plane.listeners[0]._acceptor.pending) == AT_ONCE)
    assert await (await connect(gateway)).at_end()
    assert gateway.telemetry.connections_refused.get(("max_connections",)) == 1
    statuses = []
    for client in waiting[:3]:
        await client.send(TEXT + GET)
        statuses.append((await client.read()).status)
    assert statuses == [200, 200, 503]
