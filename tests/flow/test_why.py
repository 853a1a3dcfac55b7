"""For every reason of a failure a request that causes it, and what `gateway why` says of it: the
hook that decided, the key in the files, and the value that it did not allow."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from time import time
from typing import Any, NamedTuple

import pytest

from gateway.app import Gateway
from gateway.cli import main
from gateway.core.exchange import Exchange
from gateway.core.failures import Failure
from gateway.core.hooks import Context, Hooks
from gateway.credentials.api_keys import key_edits
from gateway.credentials.api_keys.new_keys import Wish
from gateway.upstream.connections.opening import open_socket
from gateway.upstream.pool.endpoint import Endpoint
from tests.client import Client, Message
from tests.origin import Origin, answer
from tests.until import until

GOOD, LATE = "a-key-that-is-good", "a-key-that-has-expired"
SILENT = 1
"""The port of an endpoint to which no connection comes about."""


def build(config: Any, context: Context) -> Hooks:
    def request(exchange: Exchange) -> None:
        raise ValueError("a secret")

    return Hooks(request=request)


PIPELINE = """
request = ["cors", "auth", "rate_limit", "validation", "caching"]
response = ["caching", "cors"]
error = ["error_handler", "cors"]
[cors]
origins = ["https://app.example.com"]
reject = true
[auth]
methods = ["api_key"]
optional = true
api_key.file = "../keys.toml"
require = { GET = [], "*" = [] }
[rate_limit]
limit = 1000
window = "1m"
[rate_limit.daily]
algorithm = "quota"
period = "day"
limit = 0
[validation]
max_body = 100
[caching]
[[route]]
prefix = "/plain"
upstream = "origin"
[[route]]
name = "read only"
path = "/read"
methods = ["GET"]
upstream = "origin"
[[route]]
path = "/old"
retired = true
upstream = "origin"
[[route]]
path = "/versions"
version = "2"
version_by = { header = "X-API-Version" }
upstream = "origin"
[[route]]
path = "/media"
version = "3"
version_by = "media_type"
upstream = "origin"
[[route]]
path = "/known"
auth.optional = false
upstream = "origin"
[[route]]
path = "/needs"
auth.require = ["cameras:write"]
upstream = "origin"
[[route]]
path = "/gold"
auth.tiers = ["gold"]
upstream = "origin"
[[route]]
path = "/limited"
rate_limit = { limit = 1, window = "1h", key = "ip" }
upstream = "origin"
[[route]]
path = "/quota"
request = ["rate_limit.daily"]
upstream = "origin"
[[route]]
path = "/judged"
upstream = "origin"
validation.body.schema = { type = "object", required = ["id"], properties = { id = { type = "integer" } } }
[[route]]
path = "/crashes"
request = ["tests.flow.test_why:build"]
upstream = "origin"
[[route]]
path = "/none"
upstream = "empty"
[[route]]
path = "/broken"
upstream = "broken"
[[route]]
path = "/full"
limit = { requests = 1 }
upstream = "hangs"
[[route]]
path = "/hangs"
upstream = "hangs"
[[route]]
path = "/late"
timeout = "60ms"
upstream = "hangs"
[[route]]
path = "/refused"
upstream = "refused"
[[route]]
path = "/unknown-name"
upstream = "nameless"
[[route]]
path = "/tls"
upstream = "tls"
[[route]]
path = "/shut"
upstream = "shut"
[[route]]
path = "/silent"
upstream = "silent"
[[route]]
path = "/slow-writes"
validation = false
upstream = "deaf"
"""

UPSTREAMS = """
[upstream.origin]
url = "{origin}"
[upstream.empty]
endpoints = [{{ url = "{origin}", drain = true }}]
[upstream.broken]
url = "{origin}"
circuit_breaker = {{ failure_threshold = 1, recovery_timeout = "1h", on = ["503"] }}
[upstream.hangs]
url = "{hangs}"
timeouts = {{ read = "200ms" }}
[upstream.refused]
url = "http://127.0.0.1:{closed}"
[upstream.nameless]
url = "http://nowhere.invalid"
[upstream.tls]
url = "https://127.0.0.1:{plain}"
[upstream.shut]
url = "http://127.0.0.1:{shut}"
[upstream.silent]
url = "http://127.0.0.1:1"
timeouts = {{ connect = "60ms" }}
[upstream.deaf]
url = "{deaf}"
timeouts = {{ write = "100ms" }}
"""

GATEWAY = """
[server]
max_body = "64MiB"
max_header_size = "4KiB"
max_uri = "2KiB"
body_timeout = "150ms"
"""

Cause = Callable[[Client, Gateway], Awaitable[object]]


def sends(request: str, *fields: str, body: bytes = b"") -> Cause:
    """Send a request, and read its answer."""

    async def cause(client: Client, gateway: Gateway) -> object:
        length = [f"Content-Length: {len(body)}"] if body else []
        lines = [f"{request} HTTP/1.1", "Host: gateway.test", *fields, *length, "", ""]
        await client.send("\r\n".join(lines).encode() + body)
        return await client.read()

    return cause


def raw(data: bytes) -> Cause:
    async def cause(client: Client, gateway: Gateway) -> object:
        await client.send(data)
        return await client.read()

    return cause


async def leaves(client: Client, gateway: Gateway) -> None:
    await client.send(b"GET /hangs HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
    await until(lambda: gateway.telemetry.in_flight.level)
    reset = struct.pack("ii", 1, 0)
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    client.writer.transport.abort()


async def fills(client: Client, gateway: Gateway) -> object:
    """One request is under way on the route, and another one comes."""
    first = await Client.connect(gateway.port)
    await first.send(b"GET /full HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
    await until(lambda: gateway.telemetry.in_flight.level)
    try:
        return await client.get("/full")
    finally:
        first.close()


class Row(NamedTuple):
    """hook, file, line: what decided, and what the line of that file begins with. why: what its
    words hold."""

    reason: Failure
    cause: Cause
    hook: str
    file: str
    line: str
    why: str


F = Failure
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
ROWS = (
    Row(F.MALFORMED, raw(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), "admission", "", "", "'a b'"),
    Row(F.MISSING_FIELD, sends("POST /judged", JSON, body=b"{}"), "validation", "pipelines/test.toml", "validation.body", "'id' is required"),
    Row(F.INVALID_FIELD, sends("POST /judged", JSON, body=b'{"id": "x"}'), "validation", "pipelines/test.toml", "validation.body", "'id' must be an integer"),
    Row(F.BODY_TOO_LARGE, sends("POST /plain", body=b"x" * 101), "validation", "pipelines/test.toml", "max_body", "101 bytes"),
    Row(F.URI_TOO_LONG, sends("GET /" + "x" * 3000), "admission", "gateway.toml", "max_uri", "2048"),
    Row(F.UNSUPPORTED_MEDIA_TYPE, sends("POST /judged", "Content-Type: text/csv", body=b"x"), "validation", "pipelines/test.toml", "validation.body", "Content-Type 'text/csv'"),
    Row(F.HEADERS_TOO_LARGE, sends("GET /plain", f"X-A: {'x' * 5000}"), "admission", "gateway.toml", "max_header_size", "4096"),
    Row(F.REQUEST_TIMEOUT, raw(b"POST /plain HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nx"), "admission", "gateway.toml", "body_timeout", "0.15 s"),
    Row(F.EXPECTATION_FAILED, sends("GET /plain", "Expect: tea"), "admission", "", "", "'tea'"),
    Row(F.VERSION_NOT_SUPPORTED, raw(b"GET / HTTP/1.7\r\nHost: a\r\n\r\n"), "admission", "", "", "1.7"),
    Row(F.NO_ROUTE, sends("GET /nowhere"), "routing", "", "", "GET gateway.test/nowhere"),
    Row(F.METHOD_NOT_ALLOWED, sends("DELETE /read"), "routing", "pipelines/test.toml", "methods", "route read only takes GET, HEAD, not DELETE"),
    Row(F.GONE, sends("GET /old"), "version", "pipelines/test.toml", "retired", "retired = true"),
    Row(F.NOT_ACCEPTABLE, sends("GET /media", "Accept: application/json;version=9"), "routing", "pipelines/test.toml", 'version = "3"', "version=9"),
    Row(F.VERSION_REQUIRED, sends("GET /versions", "X-API-Version: ?"), "routing", "pipelines/test.toml", 'version = "2"', "X-API-Version is '?'"),
    Row(F.UNAUTHENTICATED, sends("GET /known"), "auth", "pipelines/test.toml", "auth.optional", "no credentials"),
    Row(F.EXPIRED, sends("GET /plain", f"X-API-Key: {LATE}"), "auth", "pipelines/test.toml", "api_key.file", "of late expired 2026-01-01"),
    Row(F.FORBIDDEN, sends("GET /needs", f"X-API-Key: {GOOD}"), "auth", "pipelines/test.toml", "auth.require", "GET needs cameras:write; client partner has cameras:read"),
    Row(F.SUBSCRIPTION_REQUIRED, sends("GET /gold", f"X-API-Key: {GOOD}"), "auth", "pipelines/test.toml", "auth.tiers", "client partner is of tier free, not gold"),
    Row(F.RATE_LIMITED, sends("GET /limited"), "rate_limit", "pipelines/test.toml", "rate_limit", '"/limited";q=1;w=3600 of ip 127.0.0.1'),
    Row(F.QUOTA_EXCEEDED, sends("GET /quota"), "rate_limit.daily", "pipelines/test.toml", "[rate_limit.daily]", "q=0"),
    Row(F.NO_ENDPOINT, sends("GET /none"), "upstream", "upstreams.toml", "endpoints", "upstream empty: no endpoint can be picked"),
    Row(F.CIRCUIT_OPEN, sends("GET /broken"), "upstream", "upstreams.toml", "circuit_breaker", "upstream broken: circuit open"),
    Row(F.OVERLOADED, fills, "limit", "pipelines/test.toml", "limit", "1 requests are under way"),
    Row(F.CONNECT_FAILED, sends("GET /refused"), "upstream", "upstreams.toml", "[upstream.refused]", "127.0.0.1"),
    Row(F.DNS_FAILED, sends("GET /unknown-name"), "upstream", "upstreams.toml", "[upstream.nameless]", "nowhere.invalid"),
    Row(F.TLS_FAILED, sends("GET /tls"), "upstream", "upstreams.toml", "[upstream.tls]", "127.0.0.1"),
    Row(F.NOT_RECEIVED, sends("POST /shut", body=b"x"), "upstream", "upstreams.toml", "[upstream.shut]", "closed the connection"),
    Row(F.CONNECTION_RESET, sends("POST /plain/reset", body=b"x"), "upstream", "upstreams.toml", "[upstream.origin]", "closed the connection before it answered"),
    Row(F.BAD_RESPONSE, sends("GET /plain/nonsense"), "upstream", "upstreams.toml", "[upstream.origin]", "127.0.0.1"),
    Row(F.INCOMPLETE_RESPONSE, sends("GET /plain/part"), "upstream", "upstreams.toml", "[upstream.origin]", "within its answer"),
    Row(F.CONNECT_TIMEOUT, sends("GET /silent"), "upstream", "upstreams.toml", "timeouts", "within 0.06 s"),
    Row(F.READ_TIMEOUT, sends("GET /hangs"), "upstream", "upstreams.toml", "timeouts", "no bytes for 0.2 s"),
    Row(F.WRITE_TIMEOUT, sends("POST /slow-writes", body=b"x" * 30_000_000), "upstream", "upstreams.toml", "timeouts", "took no bytes for 0.1 s"),
    Row(F.TIMEOUT, sends("GET /late"), "upstream", "pipelines/test.toml", "timeout", "0.06 s"),
    Row(F.NOT_CACHED, sends("GET /plain", "Cache-Control: only-if-cached"), "caching", "pipelines/test.toml", "[caching]", "uri-miss"),
    Row(F.INTERNAL, sends("GET /crashes"), "tests.flow.test_why:build", "pipelines/test.toml", "request", "ValueError in"),
    Row(F.CLIENT_GONE, leaves, "client", "", "", "closed"),
)  # fmt: skip


async def responds(
    origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    target = head.split()[1]
    if target == b"/plain/reset":
        return False
    said = {
        b"/broken": answer(b"", "503 Service Unavailable"),
        b"/plain/nonsense": b"nonsense\r\n\r\n",
        b"/plain/part": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab",
        b"/plain/forbidden": answer(b"no", "403 Forbidden"),
    }
    writer.write(said.get(target, answer()))
    return target != b"/plain/part"


async def hangs(
    origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    await asyncio.Event().wait()
    return False


def speaks_no_tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"no TLS")
    writer.close()


def opener(listener: socket.socket) -> Callable[..., Awaitable[object]]:
    """Connections fail in every way there is."""

    async def opening(factory: Any, endpoint: Endpoint, *more: Any) -> object:
        if endpoint.port == SILENT:
            return await asyncio.get_running_loop().create_future()
        if endpoint.host == "nowhere.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        opened = await open_socket(factory, endpoint, *more)
        if endpoint.port == listener.getsockname()[1]:
            listener.accept()[0].close()
        return opened

    return opening


@pytest.fixture
async def world(
    start, origin_of, unused_tcp_port: int, tmp_path: Path, monkeypatch
) -> AsyncIterator[Gateway]:
    shut = socket.create_server(("127.0.0.1", 0))
    opening = "gateway.upstream.connections.transport.open_socket"
    monkeypatch.setattr(opening, opener(shut))
    monkeypatch.chdir(tmp_path)
    answering, hanging = await origin_of(responds), await origin_of(hangs)
    deaf = await origin_of(hangs)
    deaf.read_body = False
    plain = await asyncio.start_server(speaks_no_tls, "127.0.0.1", 0)
    places = {
        "origin": answering.url, "hangs": hanging.url, "deaf": deaf.url,
        "plain": plain.sockets[0].getsockname()[1], "closed": unused_tcp_port,
        "shut": shut.getsockname()[1],
    }  # fmt: skip
    for key, wish in (
        (GOOD, Wish("partner", tier="free", permissions=("cameras:read",))),
        (LATE, Wish("of late", expires=1767225600.0)),
    ):
        key_edits.create(tmp_path / "keys.toml", wish, time(), existing=key)
    yield await start(PIPELINE, UPSTREAMS.format(**places), GATEWAY)
    plain.close()
    shut.close()


def admin_of(gateway: Gateway) -> list[str]:
    return ["--admin", f"http://127.0.0.1:{gateway.admin_port}"]


async def shown(gateway: Gateway, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What `gateway why` prints for programs."""
    assert await asyncio.to_thread(main, ["why", *words, "--json", *admin_of(gateway)]) == 0
    return json.loads(capsys.readouterr().out)


async def caused(
    gateway: Gateway, connect: Callable[..., Awaitable[Client]], row: Row
) -> dict[str, Any]:
    """What is remembered of the row's request."""
    client = await connect(gateway)
    message = await row.cause(client, gateway)
    if isinstance(message, Message) and "x-request-id" in message.fields:
        found = await gateway.requests.why(message.fields["x-request-id"])
        assert found is not None and found["code"] == message.fields["x-error-code"], row.reason
        return dict(found)
    reason = {"reason": row.reason.reason}
    await until(lambda: gateway.runtime.services.why.recent(1, reason))
    return gateway.runtime.services.why.recent(1, reason)[0]


ELSEWHERE = {F.LIMITS_UNKNOWN, F.DEADLINE_EXCEEDED}
"""That takes a store, and a client of gRPC."""


async def test_every_reason(world: Gateway, connect, capsys, tmp_path: Path):
    client = await connect(world)
    assert [(await client.get(f"/{path}")).status for path in ("broken", "limited")] == [503, 200]
    lines = {
        file: (tmp_path / file).read_text().splitlines()
        for file in ("gateway.toml", "upstreams.toml", "pipelines/test.toml")
    }
    wrong = []
    for row in ROWS:
        found = await caused(world, connect, row)
        said = (await shown(world, capsys, found["request"]["id"]))["decisions"][-1]
        file, _, number = (said["at"] or "").rpartition(":")
        line = lines[file][int(number) - 1] if file else ""
        if not (
            (found["reason"], found["code"]) == (row.reason.reason, row.reason.code)
            and said["hook"] == row.hook
            and row.why in said["why"]
            and file == row.file
            and (line.startswith(row.line) if row.line else not line)
        ):
            wrong.append((row.reason.reason, found["reason"], said, line))
    assert wrong == []
    assert {row.reason for row in ROWS} == set(Failure) - ELSEWHERE


async def test_limits_that_cannot_be_checked(start, connect, capsys, unused_tcp_port: int):
    """The reason that is not in ROWS: it takes a store."""
    limited = 'request = ["rate_limit"]\n[rate_limit]\nlimit = 9\nwindow = "1m"\nkey = "ip"\n'
    routes = '[[route]]\nprefix = "/"\nrespond = { status = 204 }\n'
    store = f'[store]\nurl = "redis://127.0.0.1:{unused_tcp_port}"\n'
    gateway = await start(
        limited + 'mode = "exact"\non_store_failure = "closed"\n' + routes, gateway=store
    )
    client = await connect(gateway)
    found = await shown(gateway, capsys, (await client.get("/")).fields["x-request-id"])
    assert found["reason"] == Failure.LIMITS_UNKNOWN.reason
    said = found["decisions"][-1]
    assert said["hook"] == "rate_limit" and said["at"].endswith("test.toml:7")
    assert "on_store_failure is closed" in said["why"] and str(unused_tcp_port) in said["why"]


async def test_the_answer_of_an_upstream(world: Gateway, connect, capsys):
    client = await connect(world)
    reply = await client.get("/plain/forbidden", f"X-API-Key: {GOOD}")
    found = await shown(world, capsys, reply.fields["x-request-id"])
    assert (found["status"], found["client"], found["code"]) == (403, "partner", None)
    assert [(one["hook"], one["outcome"]) for one in found["decisions"]] == [
        ("routing", "matched"),
        ("cors", "passed"),
        ("auth", "passed"),
        ("rate_limit", "passed"),
        ("validation", "passed"),
        ("caching", "passed"),
        ("upstream", "answered"),
    ]
    words = [one["why"] for one in found["decisions"]]
    assert words[2:4] == [
        "api_key of client partner, who has cameras:read",
        '"default";q=1000;w=60: 999 left after it',
    ]
    assert words[-1] == "status 403" and found["attempts"][0]["why"] == "status 403"


async def test_what_is_neither_refused_nor_failed_nor_slow_is_not_remembered(
    world: Gateway, connect, capsys
):
    client = await connect(world)
    known = (await client.get("/plain")).fields["x-request-id"]
    assert await world.requests.why(known) is None
    assert await asyncio.to_thread(main, ["why", known, *admin_of(world)]) == 1
    assert "Nothing is known" in capsys.readouterr().err


async def test_a_slow_request(start, origin_of, connect):
    async def slowly(origin, head, reader, writer) -> bool:
        await asyncio.sleep(0.02)
        writer.write(answer())
        return True

    slow = await origin_of(slowly)
    routes = '[[route]]\nprefix = "/"\nupstream = "slow"\n'
    upstreams = f'[upstream.slow]\nurl = "{slow.url}"\n'
    gateway = await start(routes, upstreams, '[server]\nslow = "10ms"\n')
    client = await connect(gateway)
    found = await gateway.requests.why((await client.get("/")).fields["x-request-id"])
    assert found is not None and (found["status"], found["reason"]) == (200, None)
    assert found["duration_ms"] >= 20 and found["attempts"][0]["ms"] >= 20


async def test_it_is_masked_as_the_log_is(start, connect):
    log = '[logging]\nfile = "../access.log"\nquery = true\nclient_ip = "masked"\n'
    more = 'mask = ["pin"]\nmask_patterns = ["email"]\n'
    gateway = await start('error = ["error_handler", "logging"]\n' + log + more)
    client = await connect(gateway)
    reply = await client.get("/of/bob@example.com?pin=1234&a=b")
    found = await gateway.requests.why(reply.fields["x-request-id"])
    assert found is not None and found["request"]["path"] == "/of/***?pin=***&a=b"
    assert found["request"]["client_ip"] == "127.0.0.0"
    assert "bob" not in str(found) and "1234" not in str(found)
