"""What is remembered of requests and answers changes nothing: a gateway whose clients and endpoints
keep their connections answers and forwards as one does to which each request is the first.

Connections in memory, without sockets; requests that repeat themselves, and differ in a little.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from time import time
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.config.tables.server import ServerConfig
from gateway.core.headers import Pair
from gateway.credentials.api_keys import key_edits
from gateway.credentials.api_keys.key_edits import Wish
from gateway.protocols.http2.session import Limits, Session
from gateway.serving.http1.repeats import Openings
from gateway.serving.http2.protocol import Http2
from gateway.serving.net.listener import Listener
from tests.flow.conftest import write
from tests.transport import AtOnce
from tests.unit.serving.memory import Transport

PIPELINE = """request = ["cors", "auth", "caching"]
response = ["caching", "cors", "compression"]
error = ["cors", "error_handler"]
cors.origins = ["https://app.test"]
auth = { methods = ["api_key"], optional = true, api_key = { file = "../keys.toml", query = "key" } }
caching = { default_ttl = "1h", private = true, key = { headers = ["X-Lang"] } }
compression.minimum = 10
[[route]]
prefix = "/"
upstream = "origin"
[[route]]
prefix = "/host"
upstream = "host"
request = []
"""
UPSTREAMS = """[upstream.origin]
url = "http://127.0.0.1:1"
[upstream.host]
url = "http://127.0.0.1:2"
preserve_host = true
"""
TRUSTED = "10.0.0.1"
PEERS = (TRUSTED, "192.0.2.1", "192.0.2.1", "192.0.2.2")
"""Addresses of the clients, by number: so many speak HTTP/1, and as many more HTTP/2."""
VALUES = {
    "Host": "a.test a.test b.test A.test:80",
    "X-API-Key": "KEY KEY OTHER bad",
    "X-Request-ID": "r1 r2 r3 no?",
    "Cookie": "s=1 s=2",
    "Accept-Encoding": "gzip identity",
    "Cache-Control": "no-cache no-store",
    "If-None-Match": '"1" "2"',
    "X-Forwarded-For": "192.0.2.7 192.0.2.8",
    "X-Forwarded-Proto": "https http",
    "Forwarded": "for=192.0.2.9;proto=https for=192.0.2.8",
    "traceparent": f"00-{'a' * 32}-{'b' * 16}-01 junk",
    "X-Lang": "de en",
    "Authorization": "NTLM Negotiate",
    "Origin": "https://app.test https://evil.test",
    "Range": "bytes=0-3 bytes=4-",
    "Connection": "keep-alive close X-Lang TE",
    "TE": "trailers gzip",
}
QUERY = {
    "a": "1 2 3",
    "b": "1 2 3",
    "vary": "Cookie X-Lang Origin",
    "cache-control": "max-age=60 public private no-store",
    "etag": '"1" "2"',
    "set-cookie": "s=1 s=2",
    "status": "200 404 426 204",
}
NEW = re.compile(rb"[0-9a-f]{32}|(?<=age: )\d+|(?<=ttl=)\d+|(?<=date: )[^\r\n]+")


def told(data: bytes) -> bytes:
    """Without what differs from time to time."""
    names = re.sub(rb"(?m)^[\w-]+(?=: )", lambda match: match[0].lower(), data)
    return NEW.sub(b"-", names)


def answer(request: bytes) -> bytes:
    """An origin's: what it was asked, with the fields that the query names."""
    head = told(request.partition(b"\r\n\r\n")[0])
    said = dict(pair.split(b"=", 1) for pair in re.findall(rb"[?&]([^&= ]+=[^& ]*)", head))
    status, body = said.pop(b"status", b"200"), head.ljust(1000)  # Else its length would differ.
    lines = [b"HTTP/1.1 %b X" % status, b"Content-Type: text/plain"]
    lines += [b"%b: %b" % pair for pair in said.items()]
    if status == b"204":
        body = b""
    else:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join((*lines, b"", b"" if head.startswith(b"HEAD") else body))


class Origin(Transport):
    """An endpoint's end of a connection."""

    def __init__(self, connection: Any, asked: list[Any]) -> None:
        super().__init__()
        self.connection, self.asked = connection, asked

    def write(self, data: Any) -> None:
        self.asked.append((self.connection, bytes(data)))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Client(Transport):
    def __init__(self, peer: str) -> None:
        super().__init__()
        self.peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.peer, 1) if name == "peername" else default


class World:
    """A gateway, its clients and its endpoints. keeps: connections are used again."""

    def __init__(self, directory: Path, *, keeps: bool) -> None:
        self.keeps = keeps
        self.asked: list[Any] = []
        self.clients: dict[int, tuple[Any, Client, Session]] = {}
        self.gateway = Gateway(directory / "gateway.toml", {})
        transport = self.gateway.transport = AtOnce(opener=self._open)
        object.__setattr__(self.gateway.runtime.services, "transport", transport)

    async def _open(self, factory: Any, endpoint: Any) -> None:
        connection = factory()
        connection.connection_made(Origin(connection, self.asked))

    async def start(self) -> None:
        await self.gateway.runtime.start()
        self.listener = Listener(self.gateway.runtime)

    def leave(self, number: int) -> None:
        if number in self.clients:
            self.clients.pop(number)[0].connection_lost(None)

    async def ask(self, number: int, request: bytes | list[Pair]) -> list[bytes]:
        """What endpoints are sent, and what the client gets."""
        if not self.keeps:
            self.leave(number)
            self.listener._openings = Openings()
            for pool in self.gateway.runtime.snapshot.pools.values():
                for endpoint in pool.endpoints:
                    endpoint.close_idle()
        if number not in self.clients or self.clients[number][1].is_closing():
            self.leave(number)
            client = Client(PEERS[number % len(PEERS)])
            http2 = number >= len(PEERS)
            make = Http2(self.listener, ServerConfig(), connect=False) if http2 else self.listener
            session = Session(Limits(window=2**20, connection_window=2**30), client=True)
            self.clients[number] = (make(), client, session)
            self.clients[number][0].connection_made(client)
        connection, client, session = self.clients[number]
        if isinstance(request, bytes):
            connection.data_received(request)
        else:
            session.request(request, end=True)
            connection.data_received(session.pending())
        sent = []
        while self.asked or not client.sent or getattr(connection, "streams", None):
            while self.asked:
                endpoint, data = self.asked.pop()
                sent.append(told(data))
                endpoint.data_received(answer(data))
            await asyncio.sleep(0)
        if isinstance(request, bytes):
            return [*sent, told(client.take())]
        events = session.receive(client.take())
        parts = [getattr(event, "data", None) or getattr(event, "headers", ()) for event in events]
        lines = [b"%b: %b" % pair for part in parts if part.__class__ is tuple for pair in part]
        return [*sent, *map(told, (*lines, *(one for one in parts if isinstance(one, bytes))))]


class Requests:
    """Those of clients that repeat themselves, but for a little."""

    def __init__(self, seed: int, keys: dict[str, str]) -> None:
        self.random, self._keys = Random(seed), keys
        self._fields: dict[int, dict[str, str]] = {}
        self._query: dict[str, str] = {}

    def _one_of(self, values: str) -> str:
        value = self.random.choice(values.split())
        return self._keys.get(value, value)

    def next(self, number: int) -> bytes | list[Pair]:
        random = self.random
        if random.random() < 0.03 or number not in self._fields:
            self._fields[number] = {"Host": "a.test", "X-API-Key": self._keys["KEY"]}
            self._query = {"a": "1", "b": "1"}
        fields = self._fields[number]
        for known, values in ((fields, VALUES), (self._query, QUERY)):
            for _ in range(random.choice((0, 0, 0, 1, 2))):
                name = random.choice([*(known if random.random() < 0.9 else values)])
                known[name] = self._one_of(values[name])
        query = "&".join(map("=".join, self._query.items()))
        target = random.choice(("/a", "/host")) + (query and f"?{query}")
        method = random.choice(("GET", "GET", "GET", "GET", "HEAD", "DELETE"))
        if number >= len(PEERS):
            pseudo = {"method": method, "scheme": "http", "path": target, "authority": "a.test"}
            own = {"connection", "host", "te"}
            return [
                *((f":{name}".encode(), value.encode()) for name, value in pseudo.items()),
                *(
                    (name.lower().encode(), value.encode())
                    for name, value in fields.items()
                    if name.lower() not in own
                ),
            ]
        version = "1.0" if random.random() < 0.05 else "1.1"
        lines = [f"{name}: {value}" for name, value in fields.items()]
        return "\r\n".join((f"{method} {target} HTTP/{version}", *lines, "", "")).encode()


@pytest.fixture
async def worlds(tmp_path: Path) -> AsyncIterator[list[World]]:
    made = []
    for keeps in (True, False):
        directory = tmp_path / str(keeps)
        directory.mkdir()
        write(directory, PIPELINE, UPSTREAMS, f'[server]\ntrusted_proxies = ["{TRUSTED}"]\n')
        made.append(World(directory, keeps=keeps))
    yield made
    for world in made:
        for number in [*world.clients]:
            world.leave(number)
        await world.gateway.close()


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_told_of_others(seed, worlds, monkeypatch, tmp_path):
    for module in ("serving", "upstream.connections"):  # Else little would ever be repeated.
        monkeypatch.setattr(f"gateway.{module}.http1.codec.PATIENCE", 1)
    keys = tmp_path / "True" / "keys.toml"
    made = {name: key_edits.create(keys, Wish(name.lower()), time()) for name in ("KEY", "OTHER")}
    (tmp_path / "False" / "keys.toml").write_text(keys.read_text())
    for world in worlds:
        await world.start()
    requests = Requests(seed, {name: secret for name, (_, secret) in made.items()})
    random, first = requests.random, {}
    for count in range(600):
        number = random.randrange(2 * len(PEERS))
        request = requests.next(number)
        if random.random() < 0.1:
            for world in worlds:
                world.leave(number)
            if number < len(PEERS):
                request = first.setdefault((count // 100, number % 2), request)
        if count == 300:  # With one key fewer.
            for world in worlds:
                key_edits.revoke(
                    world.gateway.runtime.path.parent / "keys.toml", made["KEY"][0].id, time()
                )
                assert (await world.gateway.reload()).ok
                world.listener.configure()
        one, other = [await world.ask(number, request) for world in worlds]
        assert one == other, request
