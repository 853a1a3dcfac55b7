"""TLS towards endpoints: who has to prove what to whom, what a reload changes, and answers that are
cut short."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.config.toml.problems import ConfigErrors
from gateway.lifetime.process import new_event_loop
from gateway.runtime.check import check
from tests.certificates import Authority
from tests.client import Client
from tests.flow.conftest import PLAIN, write
from tests.origin import OK, Origin, answer
from tests.until import until

# So long a timeout that a check fails for what is wrong with it, never because the machine was busy
# with something else.
HEALTH = (
    'health = { path = "/health", interval = "100ms", timeout = "30s", unhealthy_threshold '
    "= 1, healthy_threshold = 1 }\n"
)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def serving(authority: Authority, *names: str, **settings: object) -> ssl.SSLContext:
    """An origin's context, with a certificate for these names."""
    certificate = authority.issue("origin", *(names or ("127.0.0.1",)))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    for setting, value in settings.items():
        setattr(context, setting, value)
    return context


def upstreams(origin: Origin, tls: str = 'ca = "ca.pem"', more: str = "") -> str:
    return f'[upstream.origin]\nurl = "{origin.url}"\n{f"tls = {{ {tls} }}" if tls else ""}\n{more}'


async def test_a_request_over_tls_and_the_connection_is_kept(start, connect, authority):
    origin = await Origin().start(tls=serving(authority))
    try:
        client = await connect(await start(PLAIN, upstreams(origin)))
        for _ in range(3):
            assert (await client.get("/")).body == b"ok"
        assert origin.connections == 1
    finally:
        await origin.stop()


async def test_a_name_that_changes_is_asked_for(start, connect, authority, tmp_path):
    """What was verified as another is not used again."""
    origin = await Origin().start(tls=serving(authority, "a.test"))
    text = '[upstream.origin]\ntls = {{ ca = "ca.pem" }}\nendpoints = [{{ url = "{}", server_name = "{}" }}]'
    try:
        gateway = await start(PLAIN, text.format(origin.url, "a.test"))
        client = await connect(gateway)
        assert (await client.get("/")).status == 200
        for name, status in (("b.test", 502), ("a.test", 200)):
            write(tmp_path, PLAIN, text.format(origin.url, name))
            assert (await gateway.reload()).ok
            assert (await client.get("/")).status == status
    finally:
        await origin.stop()


@pytest.mark.parametrize(
    ("names", "tls", "ok", "why"),
    [
        (("127.0.0.1",), 'ca = "ca.pem"', True, "its address"),
        (("other.test",), 'ca = "ca.pem"', False, "another's name"),
        (
            ("other.test",),
            'ca = "ca.pem", server_name = "other.test"',
            True,
            "the name it is to have",
        ),
        (
            ("127.0.0.1",),
            'ca = "ca.pem", server_name = "other.test"',
            False,
            "not the name it is to have",
        ),
        (("127.0.0.1",), 'ca = "foreign.pem"', False, "another authority"),
        (("127.0.0.1",), "", False, "not an authority of the system's"),
        (("127.0.0.1",), "verify = true", False, "likewise"),
        (("other.test",), "verify = false", True, "nobody asks"),
        (("127.0.0.1",), 'ca = "ca.pem", min_version = "1.3"', False, "too old a version"),
    ],
)
async def test_who_is_believed(start, connect, authority, tmp_path, caplog, names, tls, ok, why):
    Authority(tmp_path, "foreign")
    origin = await Origin().start(
        tls=serving(authority, *names, maximum_version=ssl.TLSVersion.TLSv1_2)
    )
    try:
        client = await connect(await start(PLAIN, upstreams(origin, tls)))
        reply = await client.get("/")
        assert reply.status == (200 if ok else 502), why
        if not ok:
            assert "error=tls_protocol_error" in reply.fields["proxy-status"]
            assert b"certificate" not in reply.body
            assert origin.heads == []
    finally:
        await origin.stop()


async def test_the_name_is_asked_for(start, connect, authority):
    asked = []
    context = serving(authority, "other.test")
    context.sni_callback = lambda handshake, name, context: asked.append(name)
    origin = await Origin().start(tls=context)
    try:
        client = await connect(
            await start(PLAIN, upstreams(origin, 'ca = "ca.pem", server_name = "other.test"'))
        )
        assert (await client.get("/")).status == 200
        assert asked == ["other.test"]
    finally:
        await origin.stop()


async def test_the_gateway_shows_its_certificate(start, connect, authority):
    authority.issue("gateway", "gateway.internal")
    context = serving(authority, verify_mode=ssl.CERT_REQUIRED)
    shown = []

    async def respond(origin, head, reader, writer):
        shown.append(writer.get_extra_info("ssl_object").getpeercert()["subject"])
        writer.write(OK)
        return True

    origin = await Origin(respond).start(tls=context)
    try:
        client = await connect(
            await start(
                PLAIN,
                upstreams(
                    origin, 'ca = "ca.pem", certificate = "gateway.pem", key = "gateway.key"'
                ),
            )
        )
        assert (await client.get("/")).status == 200
        assert shown == [((("commonName", "gateway.internal"),),)]
        without = await connect(await start(PLAIN, upstreams(origin)))
        assert (await without.get("/")).status == 502
    finally:
        await origin.stop()


async def test_health_checks_go_the_same_way(start, connect, authority):
    origin = await Origin().start(tls=serving(authority))
    try:
        gateway = await start(PLAIN, upstreams(origin, more=HEALTH))
        await until(lambda: gateway.health()["status"] == "healthy")
        gateway = await start(PLAIN, upstreams(origin, "", more=HEALTH))
        await until(lambda: gateway.health()["status"] == "unhealthy")
        assert (
            "certificate" in gateway.health()["upstreams"]["origin"]["endpoints"][0]["last_error"]
        )
    finally:
        await origin.stop()


async def test_changed_settings_are_not_served_by_old_connections(
    start, connect, authority, tmp_path
):
    go = asyncio.Event()

    async def respond(origin, head, reader, writer):
        if b"/slow" in head:
            await go.wait()
        writer.write(OK)
        return True

    origin = await Origin(respond).start(tls=serving(authority))
    try:
        gateway = await start(PLAIN, upstreams(origin))
        idle, busy = await connect(gateway), await connect(gateway)
        assert (await idle.get("/")).status == 200
        assert origin.connections == 1
        assert (await gateway.reload()).ok
        assert (await idle.get("/")).status == 200
        assert origin.connections == 1, "nothing has changed"
        await busy.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: len(origin.heads) >= 3)
        write(tmp_path, PLAIN, upstreams(origin, 'ca = "ca.pem", min_version = "1.3"'))
        outcome = await gateway.reload()
        assert outcome.ok and any(
            "upstream origin changed: tls" in change for change in outcome.changes
        )
        assert (await idle.get("/")).status == 200
        assert origin.connections == 2, "the idle connection was of the old settings"
        go.set()
        assert (await busy.read()).status == 200, "what is under way ends as it began"
        (endpoint,) = gateway.runtime.snapshot.pools["origin"].endpoints
        assert len(endpoint.idle) == 1
        # The file alone has changed: whoever was believed by the old one is not kept either.
        Authority(tmp_path)
        assert (await gateway.reload()).ok
        assert (await idle.get("/")).status == 502
    finally:
        await origin.stop()


async def cut_short(
    origin: Origin, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> bool:
    """An answer without a length whose connection ends: properly, or as whoever is in between can
    make it end."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhalf")
    await writer.drain()
    if b"/cut" in head:
        with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as raw:
            raw.shutdown(
                socket.SHUT_WR
            )  # The end of the TCP connection, and no word of TLS about it.
        await reader.read()
        writer.transport.abort()
    return False


@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, new_event_loop], ids=["asyncio", "uvloop"]
)
def test_the_end_of_an_answer_without_length_must_be_authentic(tmp_path, loop):
    """RFC 9112 section 9.8: without close_notify it may have been cut by anybody."""

    async def run() -> None:
        authority = Authority(tmp_path)
        origin = await Origin(cut_short).start(tls=serving(authority))
        write(tmp_path, PLAIN, upstreams(origin))
        gateway = Gateway(tmp_path / "gateway.toml", {})
        await gateway.start()
        try:
            for path, expected in (
                ("/whole", (b"half", True)),
                ("/cut", (b"half", False)),
                ("/whole", (b"half", True)),
            ):
                client = await Client.connect(gateway.port)
                reply = await chunked(client, path)
                assert reply == expected, path
                client.close()
        finally:
            await gateway.close()
            await origin.stop()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


async def chunked(client: Client, path: str) -> tuple[bytes, bool]:
    """The body of a chunked answer as far as it came, and whether it came to its end."""
    await client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    try:
        data = await asyncio.wait_for(client.reader.read(), 10)
    except ConnectionError:
        data = b""
    body = data.partition(b"\r\n\r\n")[2]
    return body.partition(b"4\r\n")[2][:4] or b"half", body.endswith(b"0\r\n\r\n")


URL = '[upstream.origin]\nurl = "https://127.0.0.1:1"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (URL, []),
        (URL + 'tls = { ca = "ca.pem" }\n', []),
        (URL + 'tls = { ca = "none.pem" }\n', ["3:9: error: upstream.origin.tls: cannot read"]),
        (
            URL + 'tls = { ca = "gateway.key" }\n',
            ["3:9: error: upstream.origin.tls:", "holds no certificates"],
        ),
        (
            URL + 'tls = { certificate = "gateway.pem" }\n',
            ["3:9: error: upstream.origin.tls: certificate goes with key"],
        ),
        (
            URL + 'tls = { key = "gateway.key" }\n',
            ["3:9: error: upstream.origin.tls: key goes with certificate"],
        ),
        (
            URL + 'tls = { certificate = "gateway.pem", key = "ca.key" }\n',
            ["3:38: error:", "is not the key of"],
        ),
        (
            URL + "tls = { verify = false }\n",
            ["3:9: warning: upstream.origin.tls: endpoints need not prove who they are"],
        ),
        (
            URL.replace("https", "http") + "tls = { verify = true }\n",
            ["3:1: warning: upstream.origin.tls has no effect"],
        ),
    ],
)
def test_what_check_says(tmp_path, text, expected):
    Authority(tmp_path).issue("gateway", "gateway.internal")
    write(tmp_path, PLAIN, text)
    try:
        problems = check(tmp_path / "gateway.toml", {}).warnings
    except ConfigErrors as errors:
        problems = errors.problems
    found = [str(problem).partition("upstreams.toml:")[2] for problem in problems]
    if expected:
        assert (
            len(found) == 1
            and found[0].startswith(expected[0])
            and all(part in found[0] for part in expected)
        ), found
    else:
        assert found == []


async def test_an_answer_that_comes_before_the_body_is_sent_is_heard(start, connect, authority):
    """The endpoint refuses megabytes and closes: what it says is read before more is written."""

    async def refuse(origin, head, reader, writer):
        await reader.readexactly(100_000)
        writer.write(answer(b"no", "413 Too Large"))
        await writer.drain()
        return False

    origin = await Origin(refuse, read_body=False).start(tls=serving(authority))
    try:
        gateway = await start(PLAIN, upstreams(origin))
        for _ in range(5):
            client = await connect(gateway)

            async def send(client: Client = client) -> None:
                await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    for _ in range(100):
                        await client.send(b"x" * 80_000)

            sending = asyncio.create_task(send())
            assert (await client.read("POST")).status == 413
            sending.cancel()
            await asyncio.wait((sending,))
    finally:
        await origin.stop()
