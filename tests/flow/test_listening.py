"""Several addresses of one gateway: Unix sockets, both families, and who their clients are."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.flow.test_proxy import upstreams
from tests.origin import fields_of

GET = b"GET / HTTP/1.1\r\nHost: gateway.test\r\nX-Forwarded-For: 192.0.2.9\r\n\r\n"


async def unix_client(path: Path) -> Client:
    return Client(*await asyncio.open_unix_connection(path))


def listen(path: Path, more: str = "") -> str:
    return f'[listen]\naddresses = ["127.0.0.1:0", "unix:{path}"]\nsocket_mode = "0600"\n{more}'


@pytest.mark.parametrize(
    ("trusted", "client"),
    [("", "unix"), ('[server]\ntrusted_proxies = ["unix"]', "192.0.2.9, unix")],
    ids=["a stranger", "a trusted proxy"],
)
async def test_a_unix_socket_beside_a_port(start, origin, connect, tmp_path, trusted, client):
    path = tmp_path / "gateway.sock"
    gateway = await start(PLAIN, upstreams(origin), listen(path, trusted))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert gateway.addresses()["listen"] == f"127.0.0.1:{gateway.port}, unix:{path}"
    assert (await (await connect(gateway)).get("/")).status == 200
    one = await unix_client(path)
    await one.send(GET)
    assert (await one.read()).status == 200
    assert [fields_of(head)["x-forwarded-for"] for head in origin.heads] == ["127.0.0.1", client]
    one.close()
    await gateway.close()
    assert not path.exists()


async def test_a_preamble_on_a_unix_socket(start, origin, tmp_path):
    path = tmp_path / "gateway.sock"
    settings = 'proxy_protocol = true\n[server]\ntrusted_proxies = ["unix"]'
    await start(PLAIN, upstreams(origin), listen(path, settings))
    one = await unix_client(path)
    await one.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n" + GET)
    assert (await one.read()).status == 200
    assert fields_of(origin.heads[0])["x-forwarded-for"] == "192.0.2.7"
    one.close()


async def test_every_address_takes_ipv4_clients_as_such(start, origin, connect):
    gateway = await start(PLAIN, upstreams(origin), '[listen]\nhost = "::"\nport = 0')
    assert (await (await connect(gateway)).get("/")).status == 200
    assert fields_of(origin.heads[0])["x-forwarded-for"] == "127.0.0.1"
    assert gateway.status()["addresses"]["listen"] == f"[::]:{gateway.port}"
