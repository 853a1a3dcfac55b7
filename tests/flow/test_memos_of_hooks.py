"""What middlewares remember changes nothing: a gateway that has answered many requests answers,
forwards and logs as one does that has just been made.

Connections in memory, without sockets; nothing that is meant to last (cache, limits) is switched on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from time import time
from typing import Any
from zlib import crc32

import jwt
import pytest
from argon2 import PasswordHasher

from gateway.core.headers import Pair
from gateway.credentials.api_keys import key_edits
from gateway.credentials.api_keys.key_edits import Wish
from gateway.lifetime.logs.logqueue import LogQueue
from tests.flow.conftest import write
from tests.flow.test_memos import TRUSTED, UPSTREAMS, World, told

PASSWORD = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("pass")
SECRET = "0123456789abcdef" * 4
PIPELINE = f"""request = ["logging", "cors", "auth", "forward_auth", "validation", "transform"]
response = ["transform", "cors", "security_headers", "compression"]
error = ["fallback", "error_handler", "transform", "cors", "security_headers"]
cors = {{ origins = ["https://app.test", "https://*.app.test", "^https://.+[.]test$"], headers = ["*"] }}
compression = {{ minimum = 10, types = ["text/*", "+json"] }}
security_headers.remove = ["Server"]
forward_auth = {{ url = "http://127.0.0.1:3/ask", send = ["Cookie", "X-Lang"], keep = ["X-Kept"], cache = "1h" }}
validation.query.schema = {{ properties = {{ n = {{ type = "integer" }} }} }}
validation.coerce = true
logging = {{ headers = ["Origin", "Cookie", "Referer", "X-Lang"], query = true, mask_patterns = ["email", "jwt"] }}
transform.request = {{ set = {{ X-Who = "{{client}}/{{header.x-lang}}" }}, rename = {{ X-Old = "X-New" }} }}
transform.response = {{ set = {{ X-Route = "{{route}}" }}, remove = ["X-Gone"] }}
fallback.responses = [{{ on = ["bad_response", "no_route"], body = "later" }}]
[auth]
methods = ["api_key", "jwt", "basic"]
optional = true
roles = {{ admin = ["all:*"] }}
api_key = {{ file = "../keys.toml", query = "key" }}
basic.file = "../users.toml"
bearer = {{ query = "token", cookie = "t" }}
[[auth.jwt]]
issuer = "us"
secret = "{SECRET}"
[[route]]
prefix = "/"
upstream = "origin"
[[route]]
path = "/t/{{id}}"
upstream = "host"
cors.origins = ["https://other.test"]
auth = {{ require = ["all:read"], optional = false }}
[[route]]
prefix = "/plain"
upstream = "host"
methods = ["GET", "POST"]
request = ["logging", "cors", "auth"]
compression.strong_etags = "uncoded"
auth.forward = "token"
auth.token = {{ issuer = "gate", secret = "{SECRET}" }}
[[route]]
prefix = "/coded"
upstream = "host"
request = ["logging"]
response = ["compression"]
[[route]]
path = "/v"
version = "1"
version_by = {{ header = "X-Version", default = "1" }}
upstream = "origin"
[[route]]
path = "/v"
version = "2"
version_by = {{ header = "X-Version", default = "1" }}
upstream = "host"
security_headers = {{ preset = "web", override = true }}
"""
VALUES = {
    "Host": "a.test b.test:80 A.test.",
    "X-API-Key": "KEY OTHER bad ",
    "Authorization": "Bearer_ONE Bearer_TWO bearer__ONE Basic_bzpwYXNz Basic_bzpub25l ApiKey_KEY Bearer ",
    "Cookie": "s=1 t=ONE t=TWO s=me@a.test;_t=ONE ",
    "Origin": "https://app.test https://x.app.test HTTPS://x.app.test https://other.test https://é.test null "
    "https://app.test:443 HTTPS://APP.TEST ",
    "Access-Control-Request-Method": "PUT GET x ",
    "Access-Control-Request-Headers": "x-a X-A,x-b ",
    "Accept-Encoding": "gzip br zstd GZIP gzip;q=0 gzip,br;q=0.5 * identity ",
    "Cache-Control": "no-transform no-cache ",
    "If-None-Match": '"1" W/"1" ',
    "X-Forwarded-For": "192.0.2.7 192.0.2.8,10.0.0.1 ::1 ",
    "X-Forwarded-Proto": "https http ",
    "X-Lang": "de en DE ",
    "X-Old": "1 2 ",
    "X-Version": "1 2 3 ",
    "X-Kept": "root ",
    "Referer": "https://a.test/?token=s me@a.test ",
}
QUERY = {
    "n": "1 01 x",
    "key": "KEY bad",
    "token": "ONE TWO",
    "vary": "Cookie Origin Accept-Encoding *",
    "content-type": "text/plain text/html;x=1 image/png a/b%2Bjson",
    "etag": '"1" W/"1"',
    "server": "x",
    "x-gone": "1",
    "x-kept": "a b",
    "cache-control": "no-store no-transform",
    "content-security-policy": "none",
    "access-control-allow-origin": "*",
    "status": "200 200 200 404 304 204 503",
}
PATHS = [
    "/",
    "/a",
    "/A",
    "/a/",
    "/plain",
    "/plain/x",
    "/coded",
    "/coded",
    "/coded",
    "/t/1",
    "/t/2",
    "/T/1",
    "/v",
]
TRICKS = [
    "/%61",
    "//a",
    "/a/./b",
    "/a;x",
    "/a%2Fb",
    "/a..",
    "/%70lain",
    "/t/%31",
    "/t/",
    "/v/",
    "/plain%2e",
    "/plain/../t/1",
    "/plain;/t/1",
    "/t%2F1",
    "/plain%5Ct",
]
METHODS = [*["GET"] * 12, "HEAD", "HEAD", "OPTIONS", "OPTIONS", "POST", "PUT", "TRACE", "get"]
PASSES = re.compile(
    rb"(?<=[Dd]uration_ms\":)[\d.]+|(?<=upstream_ms\":)[\d.]+|\"timestamp\":\"[^\"]+\""
    rb"|eyJ[\w-]+\.[\w-]+\.[\w-]+|127\.0\.0\.1:\d+"
)


ASKED = b"GET /ask "
"""A question of forward_auth, whose answers are remembered."""


def answer(request: bytes) -> bytes:
    """An endpoint's: what it was asked, with the fields that the query names."""
    head = told(request.partition(b"\r\n\r\n")[0])
    if head.startswith(ASKED):  # What it keeps depends on all that it is told.
        known = re.sub(rb"\r\nvia: [^\r]+", b"", head)
        kept = b"" if b"x-lang: de" in head else b"X-Kept: %x\r\n" % crc32(known)
        return b"HTTP/1.1 200 X\r\n%bContent-Length: 0\r\n\r\n" % kept
    said = dict(pair.split(b"=", 1) for pair in re.findall(rb"[?&]([^&= ]+=[^& ]*)", head))
    status = said.pop(b"status", b"200")
    lines = [b"HTTP/1.1 %b X" % status, b"Date: now"]
    for name in (b"n", b"key", b"token"):
        said.pop(name, None)
    said.setdefault(b"content-type", b"text/plain")
    lines += [b"%b: %b" % (name, value.replace(b"%2B", b"+")) for name, value in said.items()]
    body = b"" if status in (b"204", b"304") else PASSES.sub(b"-", head).ljust(2000)
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join((*lines, b"", b"" if head.startswith(b"HEAD") else body))


class Hooked(World):
    """forgets: its gateway is made anew for each request."""

    def __init__(self, directory: Path, *, forgets: bool) -> None:
        super().__init__(directory, keeps=not forgets)
        self._directory, self._forgets = directory, forgets
        self.lines: list[bytes] = []

    async def begin(self) -> None:
        for number, (connection, *_) in [*self.clients.items()]:
            if self._forgets or getattr(connection, "last", False):
                self.leave(number)
        if self._forgets:
            await self.gateway.close()
            super().__init__(self._directory, keeps=False)
            await self.start()
        self.lines.clear()


class Requests:
    """Those of clients that repeat themselves, but for a little."""

    def __init__(self, seed: int, words: dict[str, str]) -> None:
        self.random, self._words = Random(seed), words
        self._fields: dict[int, list[tuple[str, str]]] = {}
        self._query: dict[str, str] = {}

    def _one_of(self, values: str) -> str:
        value = self.random.choice(values.split(" ")).replace("_", " ")
        for word, secret in self._words.items():
            value = value.replace(word, secret)
        return value

    def next(self, number: int) -> bytes | list[Pair]:
        random = self.random
        if random.random() < 0.2:
            self._fields.pop(number, None)
        fields = self._fields.setdefault(number, [("Host", "a.test"), ("Accept-Encoding", "gzip")])
        for _ in range(random.choice((0, 1, 1, 2))):
            name = random.choice([*VALUES])
            value = self._one_of(VALUES[name])
            if random.random() < 0.95:  # Else once more.
                fields[:] = [pair for pair in fields if pair[0] != name]
            if random.random() < 0.8 or name == "Host":
                fields.append((random.choice((name, name, name.lower())), value))
        if random.random() < 0.1:
            self._query = {}
        for name in random.sample([*QUERY], random.choice((0, 0, 0, 1, 2))):
            self._query[name] = self._one_of(QUERY[name])
        query = "&".join(map("=".join, self._query.items()))
        target = random.choice(PATHS if random.random() < 0.85 else TRICKS) + (
            query and f"?{query}"
        )
        method = random.choice(METHODS)
        if number >= 4:
            pseudo = {"method": method, "scheme": "http", "path": target, "authority": "a.test"}
            head = [(f":{name}".encode(), value.encode()) for name, value in pseudo.items()]
            more = [(name.lower().encode(), value.encode()) for name, value in fields]
            return [*head, *(pair for pair in more if pair[0] != b"host")]
        version = "1.0" if random.random() < 0.05 else "1.1"
        lines = [f"{name}: {value}" for name, value in fields]
        return "\r\n".join((f"{method} {target} HTTP/{version}", *lines, "", "")).encode()


@pytest.fixture
async def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Hooked]]:
    made: list[Hooked] = []

    def logged(queue: LogQueue, record: Any) -> None:
        for world in made:
            world.lines.append(PASSES.sub(b"-", told(record[0](record))))

    monkeypatch.setattr(LogQueue, "append", logged)
    monkeypatch.setattr("tests.flow.test_memos.answer", answer)
    for forgets in (False, True):
        directory = tmp_path / str(forgets)
        directory.mkdir()
        write(directory, PIPELINE, UPSTREAMS, f'[server]\ntrusted_proxies = ["{TRUSTED}"]\n')
        (directory / "users.toml").write_text(
            f'[[user]]\nname = "o"\nclient = "o"\nroles = ["admin"]\nhash = "{PASSWORD}"\n'
        )
        made.append(Hooked(directory, forgets=forgets))
    yield made
    for world in made:
        for number in [*world.clients]:
            world.leave(number)
        await world.gateway.close()


@pytest.mark.parametrize("seed", range(2))
async def test_nothing_is_told_of_others(seed, worlds, monkeypatch, tmp_path):
    for module in ("serving", "upstream.connections"):  # Else little would ever be repeated.
        monkeypatch.setattr(f"gateway.{module}.http1.codec.PATIENCE", 1)
    keys = tmp_path / "False" / "keys.toml"
    words = {
        name: key_edits.create(keys, Wish(name.lower()), time())[1] for name in ("KEY", "OTHER")
    }
    (tmp_path / "True" / "keys.toml").write_text(keys.read_text())
    for name, more in (("ONE", {"roles": ["admin"]}), ("TWO", {"tier": "gold"})):
        words[name] = jwt.encode({"iss": "us", "sub": name, "exp": 2**32, **more}, SECRET)
    requests = Requests(seed, words)
    await worlds[0].start()
    for _ in range(300):
        number = requests.random.randrange(8)
        request = requests.next(number)
        seen = []
        for world in worlds:
            await world.begin()
            async with asyncio.timeout(10):
                got = await world.ask(number, request)
            got = [one for one in got if not one.startswith(ASKED)]
            seen.append([*(PASSES.sub(b"-", one) for one in got), *world.lines])
        assert seen[0] == seen[1], request
