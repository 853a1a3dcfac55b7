"""gRPC through the gateway: real clients and servers, deadlines, retries, and failures as
clients of gRPC understand them."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import h2.errors
import pytest

from tests.flow.conftest import PLAIN
from tests.http2 import Answer, Http2Client
from tests.http2_origin import Http2Origin, Request, Respond
from tests.until import until

HTTP2 = "[listen]\nport = 0\nhttp2 = true\n"
GRPC = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
MESSAGE = b"\0\0\0\0\x05hello"
OUTLIER = 'outlier = { interval = "100ms", minimum_requests = 1, max_ejected = 1, latency = 0 }'
Ask = Callable[..., Awaitable[Answer]]


def upstreams(origin: Http2Origin, more: str = "") -> str:
    return f'[upstream.origin]\nurl = "{origin.url}"\nprotocol = "h2c"\n{more}\n'


async def echo(request: Request) -> None:
    """A server of gRPC, in short: each message comes back, and status 0 behind them."""
    request.head(200, [("content-type", request.fields["content-type"])])
    while data := await request.chunk():
        await request.data(data)
    request.finish([("grpc-status", "0")])


@pytest.fixture
async def origin_of() -> AsyncIterator[Callable[..., Awaitable[Http2Origin]]]:
    made: list[Http2Origin] = []

    async def one(respond: Respond = echo) -> Http2Origin:
        made.append(await Http2Origin(respond).start())
        return made[-1]

    yield one
    for origin in made:
        await origin.stop()


@pytest.fixture
async def client_of() -> AsyncIterator[Callable[..., Awaitable[Http2Client]]]:
    made: list[Http2Client] = []

    async def one(gateway: Any) -> Http2Client:
        made.append(await Http2Client.connect(gateway.port))
        return made[-1]

    yield one
    for client in made:
        client.close()


def status(answer: Answer) -> tuple[int, int, str]:
    """HTTP status, grpc-status and message, wherever they stand."""
    fields = answer.trailers or answer.fields
    return answer.status, int(fields["grpc-status"]), unquote(fields.get("grpc-message", ""))


async def peers(*arguments: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "tests.grpc_peers", *arguments)
    return await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)


async def called(port: int, *key: str) -> Any:
    """What came of all kinds of calls, by a client in a process of its own."""
    caller = await peers("call", str(port), *key)
    out, _ = await asyncio.wait_for(caller.communicate(), 60)
    return json.loads(out)


async def test_all_calls_are_as_without_the_gateway(start):
    """grpcio at both ends: unary, both streams, each message after the answer to the one before,
    errors with details, deadlines, cancellation, 4 MiB, a hundred at a time."""
    server = await peers("serve")
    assert server.stdin is not None and server.stdout is not None
    try:
        port = int(await server.stdout.readline())
        health = 'health = { type = "grpc", interval = "1s", timeout = "1s" }'
        table = f'[upstream.origin]\nurl = "http://127.0.0.1:{port}"\nprotocol = "h2c"\n{health}\n'
        gateway = await start(PLAIN, table, HTTP2)
        (endpoint,) = gateway.runtime.snapshot.pools["origin"].endpoints
        await until(lambda: endpoint.health.status == "healthy")
        through = await called(gateway.port)
        assert through == await called(port)
        assert through["large"]["bytes"] == 4 * 2**20 and through["deadline"]["left"]
        assert through["fail"]["details"] == "50% of résumés\nare not here"
        assert endpoint.in_flight == 0
    finally:
        server.stdin.close()
        await server.wait()


async def test_a_call_and_its_fields(start, origin_of, client_of):
    origin = await origin_of()
    client = await client_of(await start(PLAIN, upstreams(origin), HTTP2))
    answer = await client.get("/a.B/C", *GRPC, (b"x-meta-bin", b"AAE"), body=MESSAGE)
    assert status(answer) == (200, 0, "") and answer.body == MESSAGE
    assert "content-length" not in answer.fields
    (request,) = origin.requests
    assert request.fields[":path"] == "/a.B/C" and request.fields[":method"] == "POST"
    assert request.fields["te"] == "trailers" and request.fields["x-meta-bin"] == "AAE"
    assert "grpc-timeout" not in request.fields


PIPELINE = """
request = ["auth", "rate_limit", "validation", "caching", "transform"]
response = ["caching", "transform", "compression"]
error = ["error_handler"]

[auth]
methods = ["api_key"]
api_key = { file = "../keys.toml" }

[rate_limit]
key = "client"
algorithm = "fixed_window"
limit = 2
window = "1h"

[validation]
max_body = "100KiB"

[transform.request.body]
set = { added = 1 }
[transform.response]
set = { X-Changed = "1" }
body = { set = { added = 1 } }

[compression]
minimum = 0

[[route]]
prefix = "/"
upstream = "origin"
methods = ["POST"]
"""
KEY = "bec_" + "0123456789abcdef" * 4


async def test_metadata_is_what_auth_and_limits_go_by(start, origin_of, client_of):
    """And bodies of calls pass all middlewares as they came, whatever format they name."""
    from hashlib import sha256

    origin = await origin_of()
    digest = sha256(KEY.encode()).hexdigest()
    keys = f'[[key]]\nid = "k"\nclient = "me"\nhash = "sha256:{digest}"\n'
    gateway = await start(PIPELINE, upstreams(origin), HTTP2, keys__toml=keys)
    client = await client_of(gateway)
    json_call = ((b"content-type", b"application/grpc+json"), (b"te", b"trailers"))
    encodings = (b"accept-encoding", b"gzip, br")
    answer = await client.get("/a.B/C", *GRPC, body=MESSAGE)
    assert status(answer) == (200, 16, "This needs an API key in the X-API-Key header.")
    assert answer.fields["content-type"] == "application/grpc" and answer.body == b""
    assert answer.fields["x-error-code"] == "AUTH_001"
    key = (b"x-api-key", KEY.encode())
    body = b"\0\0\0\x10\0" + b'{"a": "b"}' * 410
    for _ in range(2):
        answer = await client.get("/a.B/C", *json_call, key, encodings, body=body)
        assert status(answer) == (200, 0, "") and answer.body == body
        assert answer.fields["x-changed"] == "1" and "content-encoding" not in answer.fields
        assert "vary" not in answer.fields
    assert origin.requests[0].fields["x-client-id"] == "me"
    answer = await client.get("/a.B/C", *GRPC, key, body=MESSAGE)
    assert status(answer)[1] == 8 and "retry-after" in answer.fields
    assert answer.fields["x-ratelimit-remaining"] == "0"


async def test_failures_are_statuses(start, origin_of, client_of):
    async def respond(request: Request) -> None:
        path = request.fields[":path"]
        if path == "/reset":
            request.break_off(h2.errors.ErrorCodes.INTERNAL_ERROR)
        elif path == "/html":
            await request.answer(b"<html>", 503, [("content-type", "text/html")])
        elif path != "/slow":
            await echo(request)

    origin = await origin_of(respond)
    gone = await origin_of()
    await gone.stop()
    routes = """
[[route]]
path = "/slow"
upstream = "origin"
timeout = "100ms"

[[route]]
path = "/gone"
upstream = "gone"

[[route]]
paths = ["/reset", "/html", "/a.B/C"]
upstream = "origin"
validation = { max_body = 10 }
"""
    other = f'[upstream.gone]\nurl = "{gone.url}"\nprotocol = "h2c"\n'
    pipeline = 'request = ["validation"]\n' + routes
    client = await client_of(await start(pipeline, upstreams(origin) + other, HTTP2))
    for path, code, message in (
        ("/none", 12, "No such route"),
        ("/slow", 4, "Upstream timeout"),
        ("/gone", 14, "Bad gateway"),
        ("/reset", 14, "Bad gateway"),
    ):
        answer = await client.get(path, *GRPC, body=MESSAGE)
        assert status(answer) == (200, code, message), path
        assert answer.fields["content-type"] == "application/grpc"
    answer = await client.get("/a.B/C", *GRPC, body=MESSAGE * 2)
    assert status(answer)[:2] == (200, 8) and "at most 10 bytes" in status(answer)[2]
    # What a proxy behind the gateway says goes on as it is: clients know what to make of it.
    answer = await client.get("/html", *GRPC, body=MESSAGE)
    assert answer.status == 503 and answer.body == b"<html>"
    # Others are told as ever.
    answer = await client.get("/none", (b"content-type", b"application/json"), body=b"{}")
    assert answer.status == 404 and json.loads(answer.body)["code"] == "ROUTE_001"


async def test_the_log_knows_the_status(start, origin_of, client_of, tmp_path):
    async def respond(request: Request) -> None:
        code = request.fields[":path"][1:]
        head = [("content-type", "application/grpc")]
        if code == "8":
            request.head(200, [*head, ("grpc-status", code)], end=True)
            return
        request.head(200, head)
        await request.data(MESSAGE)
        request.finish([("grpc-status", code)])

    origin = await origin_of(respond)
    log = 'response = ["logging"]\nerror = ["error_handler", "logging"]\n[logging]\nfile = "../a.log"\n'
    client = await client_of(await start(log + PLAIN, upstreams(origin), HTTP2))
    for path in ("/0", "/5", "/8"):
        await client.get(path, *GRPC, body=MESSAGE)
    file = tmp_path / "a.log"
    await until(lambda: file.exists() and file.read_text().count("\n") == 3)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["reason"] for line in lines] == [None, "grpc_not_found", "grpc_resource_exhausted"]
    assert {line["status"] for line in lines} == {200}


async def test_what_breaks_off_ends_with_a_status(start, origin_of, client_of):
    go = asyncio.Event()

    async def respond(request: Request) -> None:
        request.head(200, [("content-type", "application/grpc")])
        await request.data(MESSAGE)
        await go.wait()
        if request.fields[":path"] == "/reset":
            request.break_off(h2.errors.ErrorCodes.INTERNAL_ERROR)

    origin = await origin_of(respond)
    hasty = f'[upstream.hasty]\nurl = "{origin.url}"\nprotocol = "h2c"\n'
    hasty += 'timeouts = { read = "1s" }\n'
    routes = PLAIN + '\n[[route]]\npath = "/silent"\nupstream = "hasty"\n'
    client = await client_of(await start(routes, upstreams(origin) + hasty, HTTP2))
    for path, code in (("/reset", 14), ("/silent", 4)):
        stream = client.begin(path, *GRPC, method="POST")
        await client.until(lambda: client.answers[stream].body)  # noqa: B023
        go.set()
        answer = await client.answer(stream)
        assert answer.body == MESSAGE and status(answer)[1] == code and answer.code == 0
    # Without trailers there is no place for a status: the stream is reset.
    go.clear()
    stream = client.begin("/reset", GRPC[0], method="POST")
    await client.until(lambda: client.answers[stream].body)
    go.set()
    answer = await client.answer(stream)
    assert answer.code != 0


async def test_deadlines_are_heeded_and_passed_on(start, origin_of, client_of):
    async def respond(request: Request) -> None:
        if request.fields[":path"] != "/slow":
            await echo(request)

    origin = await origin_of(respond)
    limits = "retry = { attempts = 3 }\npassive_health = { max_fails = 1 }\n"
    routes = PLAIN + '\n[[route]]\npath = "/short"\nupstream = "origin"\ntimeout = "500s"\n'
    gateway = await start(routes, upstreams(origin, limits), HTTP2)
    client = await client_of(gateway)

    async def left(path: str, said: bytes) -> float:
        await client.get(path, *GRPC, *([(b"grpc-timeout", said)] if said else []), body=MESSAGE)
        value = origin.requests[-1].fields["grpc-timeout"]
        return int(value[:-1]) / {"u": 1e6, "m": 1e3}[value[-1]]

    assert 900 < await left("/", b"1000S") < 1000
    assert 400 < await left("/short", b"1000S") < 500  # The route's own is earlier.
    assert 400 < await left("/short", b"") < 500
    assert 100 < await left("/short", b"200S") < 200
    answer = await client.get("/slow", *GRPC, (b"grpc-timeout", b"1S"), body=MESSAGE)
    assert status(answer) == (200, 4, "Deadline exceeded")
    await until(lambda: origin.requests[-1].reset == 8)
    asked = len(origin.requests)
    answer = await client.get("/slow", *GRPC, (b"grpc-timeout", b"1n"), body=MESSAGE)
    assert status(answer) == (200, 4, "Deadline exceeded") and len(origin.requests) == asked
    # A deadline of the client's is neither tried again nor held against the endpoint.
    (endpoint,) = gateway.runtime.snapshot.pools["origin"].endpoints
    assert endpoint.health.error == ""


@pytest.mark.parametrize(
    ("on", "failing", "attempts", "code"),
    [
        ("unavailable", "14", 2, 0),
        ("unavailable", "8", 1, 8),
        ("resource_exhausted", "8", 2, 0),
        ("503", "14", 1, 14),
    ],
)
async def test_retries_by_status(start, origin_of, client_of, on, failing, attempts, code):
    async def respond(request: Request) -> None:
        body = await request.body()
        bodies.append(body)
        if len(bodies) == 1:
            fields = [("content-type", "application/grpc"), ("grpc-status", failing)]
            request.head(200, fields, end=True)
            return
        request.head(200, [("content-type", "application/grpc")])
        await request.data(body)
        request.finish([("grpc-status", "0")])

    bodies: list[bytes] = []
    origin = await origin_of(respond)
    retry = f'retry = {{ on = ["{on}"], base_delay = 0 }}'
    client = await client_of(await start(PLAIN, upstreams(origin, retry), HTTP2))
    head = [(b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"x"), (b":path", b"/")]
    # As clients do, head and message in one write.
    stream = client.session.request([*head, *GRPC])
    client.answers[stream] = Answer()
    client.send(stream, MESSAGE, end=True)
    answer = await client.answer(stream)
    assert status(answer)[1] == code and bodies == [MESSAGE] * attempts


@pytest.mark.parametrize(
    ("settings", "code", "trailers_only", "ejected"),
    [
        ("passive_health = { max_fails = 2 }", "14", True, True),
        ("passive_health = { max_fails = 2 }", "14", False, True),
        ("passive_health = { max_fails = 2 }", "13", True, False),
        ('passive_health = { max_fails = 2, on = ["500"] }', "13", False, True),
        (OUTLIER, "2", True, True),
        (OUTLIER, "5", True, False),
    ],
    ids=["at once", "in trailers", "internal", "internal that counts", "outlier", "no outlier"],
)
async def test_calls_that_fail_count_against_their_endpoint(
    start, origin_of, client_of, settings, code, trailers_only, ejected
):
    async def failing(request: Request) -> None:
        head = [("content-type", "application/grpc")]
        if trailers_only:
            request.head(200, [*head, ("grpc-status", code)], end=True)
        else:
            request.head(200, head)
            request.finish([("grpc-status", code)])

    def name(origin: Http2Origin) -> str:
        return origin.url.removeprefix("http://")

    good, bad = await origin_of(), await origin_of(failing)
    urls = ", ".join(f'{{ url = "{one.url}" }}' for one in (good, bad))
    pool = f'[upstream.origin]\nendpoints = [{urls}]\nprotocol = "h2c"\n{settings}\n'
    gateway = await start(PLAIN, pool, HTTP2)
    client = await client_of(gateway)
    for _ in range(20):
        await client.get("/", *GRPC, body=MESSAGE)
    endpoints = {one.name: one for one in gateway.runtime.snapshot.pools["origin"].endpoints}

    async def asked_on() -> bool:
        await client.get("/", *GRPC, body=MESSAGE)
        return bool(endpoints[name(bad)].health.passive.until)

    if ejected:
        await until(asked_on)
        assert "grpc_" in endpoints[name(bad)].health.error or "outlier" in settings
    else:
        assert not await asked_on()
    assert not endpoints[name(good)].health.passive.until


async def test_a_stream_that_goes_on_is_not_sent_again(start, origin_of, client_of):
    async def respond(request: Request) -> None:
        await request.chunk()
        request.head(200, [("content-type", "application/grpc"), ("grpc-status", "14")], end=True)

    origin = await origin_of(respond)
    retry = 'retry = { on = ["unavailable"], base_delay = 0 }'
    client = await client_of(await start(PLAIN, upstreams(origin, retry), HTTP2))
    stream = client.begin("/", *GRPC, method="POST", end=False)
    client.send(stream, MESSAGE)
    answer = await client.answer(stream)
    assert status(answer)[1] == 14 and len(origin.requests) == 1


async def test_a_call_may_be_silent(start, origin_of, client_of):
    """No time for bodies counts: the next message may come in an hour."""
    origin = await origin_of()
    gateway = await start(PLAIN, upstreams(origin), HTTP2 + '[server]\nbody_timeout = "100ms"\n')
    client = await client_of(gateway)
    call = client.begin("/", *GRPC, method="POST", end=False)
    client.send(call, MESSAGE)
    upload = client.begin("/", (b"content-type", b"text/plain"), method="POST", end=False)
    client.send(upload, MESSAGE)
    await client.until(lambda: client.answers[call].body and client.answers[upload].body)
    assert (await client.answer(upload)).code != 0
    client.send(call, MESSAGE, end=True)
    answer = await client.answer(call)
    assert answer.body == MESSAGE * 2 and status(answer)[1] == 0


async def test_a_call_of_which_nothing_comes_is_ended(start, origin_of, client_of):
    async def respond(request: Request) -> None:
        await request.chunk()

    origin = await origin_of(respond)
    limits = 'timeouts = { call = "300ms" }'
    client = await client_of(await start(PLAIN, upstreams(origin, limits), HTTP2))
    for messages in ([], [MESSAGE]):
        stream = client.begin("/", *GRPC, method="POST", end=False)
        for message in messages:
            client.send(stream, message)
        assert status(await client.answer(stream))[:2] == (200, 4)


async def test_a_call_to_an_endpoint_of_http1_has_the_time_of_any_body(start, origin, client_of):
    """What says that it is a call is none there, and its endpoint cannot answer meanwhile."""
    auto = f'[upstream.origin]\nurl = "http://127.0.0.1:{origin.port}"\nprotocol = "auto"\n'
    gateway = await start(PLAIN, auto, HTTP2 + '[server]\nbody_timeout = "300ms"\n')
    client = await client_of(gateway)
    stream = client.begin("/", *GRPC, method="POST", end=False)
    client.send(stream, MESSAGE)
    assert status(await client.answer(stream))[:2] == (200, 4)
    assert gateway.telemetry.connections_refused.get(("body_timeout",)) == 1


async def test_a_client_that_cancels_is_passed_on(start, origin_of, client_of):
    origin = await origin_of()
    gateway = await start(PLAIN, upstreams(origin), HTTP2)
    client = await client_of(gateway)
    stream = client.begin("/", *GRPC, method="POST", end=False)
    client.send(stream, MESSAGE)
    await client.until(lambda: client.answers[stream].body == MESSAGE)
    client.reset(stream)
    assert await asyncio.wait_for(origin.requests[0].broken_off(), 10) == 8
    (endpoint,) = gateway.runtime.snapshot.pools["origin"].endpoints
    await until(lambda: endpoint.in_flight == 0)
    assert endpoint.health.error == "" and len(origin.connections) == 1
