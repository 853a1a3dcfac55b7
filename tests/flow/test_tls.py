"""TLS between clients and a running gateway: who is shown which certificate, who may come in, and
what a reload changes."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from gateway.app import Gateway
from gateway.config.toml.problems import ConfigErrors
from gateway.lifetime.process import new_event_loop
from gateway.runtime.check import check
from tests.certificates import Authority
from tests.client import Client
from tests.flow.conftest import PLAIN, write
from tests.flow.test_proxy import upstreams
from tests.origin import Origin, answer, fields_of
from tests.websocket import echo, frame, handshake, read_frame, speaks

MASK = b"\x01\x02\x03\x04"

LISTEN = '[listen]\nport = 0\ntls = {{ certificate = "edge.pem", key = "edge.key"{more} }}\n'


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    made.issue("edge", "gateway.test", "127.0.0.1")
    return made


def listen(more: str = "") -> str:
    return LISTEN.format(more=", " + more if more else "")


def shown(client) -> str:
    """The common name of the certificate a client was shown."""
    der = client.writer.get_extra_info("ssl_object").getpeercert(True)
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


async def test_a_request_over_tls(start, origin, connect, authority):
    gateway = await start(PLAIN, upstreams(origin), listen())
    client = await connect(gateway, authority.trusting())
    for _ in range(3):
        assert (await client.get("/", "X-TLS-Subject: CN=admin", "Client-Cert: :x:")).status == 200
    fields = fields_of(origin.heads[0])
    assert fields["x-forwarded-proto"] == "https"
    assert "x-tls-subject" not in fields and "client-cert" not in fields
    secured = client.writer.get_extra_info("ssl_object")
    assert secured.version() == "TLSv1.3"


async def test_alpn_is_http_1_1(start, origin, connect, authority):
    gateway = await start(PLAIN, upstreams(origin), listen())
    context = authority.trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = await connect(gateway, context)
    assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    assert (await client.get("/")).status == 200


@pytest.mark.parametrize(
    ("least", "version", "ok"),
    [("1.2", "TLSv1_2", True), ("1.3", "TLSv1_2", False), ("1.3", "TLSv1_3", True)],
)
async def test_the_least_version(start, origin, connect, authority, least, version, ok):
    gateway = await start(PLAIN, upstreams(origin), listen(f'min_version = "{least}"'))
    context = authority.trusting(maximum_version=ssl.TLSVersion[version])
    if ok:
        assert (await (await connect(gateway, context)).get("/")).status == 200
        assert gateway.telemetry.tls_failures.get() == 0
    else:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(gateway, context)
        assert gateway.telemetry.tls_failures.get() == 1


async def test_ciphers_are_the_operators_choice(start, origin, connect, authority):
    gateway = await start(PLAIN, upstreams(origin), listen('ciphers = "ECDHE+CHACHA20"'))
    client = await connect(gateway, authority.trusting(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert "CHACHA20" in client.writer.get_extra_info("ssl_object").cipher()[0]


async def test_the_name_asked_for_chooses_the_certificate(start, origin, connect, authority):
    authority.issue("one", "one.test")
    authority.issue("wild", "*.wild.test")
    authority.issue("named", "ignored.test", "three.test")
    more = """certificates = [
        { certificate = "one.pem", key = "one.key" },
        { certificate = "wild.pem", key = "wild.key" },
        { certificate = "named.pem", key = "named.key", names = ["three.test"] },
    ]"""
    text = "[listen]\nport = 0\n[listen.tls]\ncertificate = 'edge.pem'\nkey = 'edge.key'\n" + more
    gateway = await start(PLAIN, upstreams(origin), text)
    lax = authority.trusting(check_hostname=False)
    for name, expected in [
        ("gateway.test", "gateway.test"), ("one.test", "one.test"), ("ONE.test", "one.test"), ("a.wild.test", "*.wild.test"),
        ("a.b.wild.test", "gateway.test"), ("three.test", "ignored.test"), ("ignored.test", "gateway.test"),
    ]:  # fmt: skip
        client = await connect(gateway, lax, name)
        assert shown(client) == f"CN={expected}", name
        assert (await client.get("/")).status == 200
    families = gateway.telemetry.certificate_expiry.values
    assert families.keys() == {
        ("gateway.test",),
        ("one.test",),
        ("*.wild.test",),
        ("ignored.test",),
    }


SUBJECT = x509.Name(
    [
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Partner, Inc"),
        x509.NameAttribute(x509.NameOID.COMMON_NAME, "robot\r\nX-Evil: 1"),
    ]
)


@pytest.mark.parametrize("auth", ["required", "optional"])
async def test_client_certificates(start, origin, connect, authority, auth):
    robot = authority.issue("robot", subject=SUBJECT)
    gateway = await start(
        PLAIN, upstreams(origin), listen(f'client_ca = "ca.pem", client_auth = "{auth}"')
    )
    client = await connect(gateway, authority.trusting(robot))
    assert (
        await client.get("/", "X-TLS-Subject: CN=admin", "x_tls_subject: CN=admin")
    ).status == 200
    head = origin.heads[0]
    assert fields_of(head)["x-tls-subject"] == r"CN=robot\0D\0AX-Evil: 1,O=Partner\, Inc"
    assert b"\r\nX-Evil" not in head and b"admin" not in head
    stranger = authority.trusting()
    if auth == "optional":
        assert (
            await (await connect(gateway, stranger)).get("/", "X-TLS-Subject: CN=admin")
        ).status == 200
        assert b"ubject" not in origin.heads[1]
    else:
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            # In TLS 1.3 a client thinks it is through before the gateway has refused it.
            await (await connect(gateway, stranger)).get("/")


async def test_answers_for_one_certificate_are_not_given_to_another(
    start, origin, connect, authority
):
    robot = authority.issue("robot", "robot.test")

    async def who(origin, head, reader, writer):
        whom = fields_of(head).get("x-tls-subject", "nobody")
        writer.write(
            answer(whom.encode(), Cache_Control="public, max-age=60", Vary="X-TLS-Subject")
        )
        return True

    origin.respond = who
    text = 'request = ["caching"]\nresponse = ["caching"]\n' + PLAIN
    gateway = await start(
        text, upstreams(origin), listen('client_ca = "ca.pem", client_auth = "optional"')
    )
    known, stranger = (
        await connect(gateway, authority.trusting(robot)),
        await connect(gateway, authority.trusting()),
    )
    assert (await known.get("/")).body == b"CN=robot.test"
    assert (await stranger.get("/", "X-TLS-Subject: CN=robot.test")).body == b"nobody"
    assert (await known.get("/")).body == b"CN=robot.test"
    assert len(origin.heads) == 2


@pytest.mark.parametrize("auth", ["required", "optional"])
async def test_certificates_of_others_are_refused(
    start, origin, connect, authority, tmp_path, auth
):
    foreign = Authority(tmp_path, "foreign").issue("spy", "spy.test")
    gateway = await start(
        PLAIN, upstreams(origin), listen(f'client_ca = "ca.pem", client_auth = "{auth}"')
    )
    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await (await connect(gateway, authority.trusting(foreign))).get("/")
    assert origin.heads == []


async def test_a_reload_shows_new_certificates_and_disturbs_nobody(
    start, origin, connect, authority, tmp_path
):
    gateway = await start(PLAIN, upstreams(origin), listen())
    old = await connect(gateway, authority.trusting())
    assert (await old.get("/")).status == 200
    before = gateway.runtime.snapshot.tls
    assert (await gateway.reload()).ok
    assert gateway.runtime.snapshot.tls is before, (
        "the same files: clients can go on resuming sessions"
    )
    expires = dict(gateway.telemetry.certificate_expiry.values)
    authority.issue("edge", "gateway.test", "renewed.test", days=30)
    outcome = await gateway.reload()
    assert outcome.ok and any(
        "certificate for gateway.test changed" in change for change in outcome.changes
    )
    assert gateway.telemetry.certificate_expiry.values.keys() == expires.keys()
    assert gateway.telemetry.certificate_expiry.values != expires
    assert (await old.get("/")).status == 200
    new = await connect(gateway, authority.trusting(), "renewed.test")
    assert (await new.get("/")).status == 200
    # A certificate that cannot be used is refused, and the one in force stays.
    (tmp_path / "edge.pem").write_text("nonsense")
    assert not (await gateway.reload()).ok
    assert (
        await (await connect(gateway, authority.trusting(), "renewed.test")).get("/")
    ).status == 200


async def test_taking_the_table_away_does_not_turn_https_into_http(
    start, origin, connect, authority, tmp_path
):
    gateway = await start(PLAIN, upstreams(origin), listen())
    write(tmp_path, PLAIN, upstreams(origin))
    outcome = await gateway.reload()
    assert outcome.ok and "[listen] changed (takes effect at the next start)" in outcome.changes
    assert (await (await connect(gateway, authority.trusting())).get("/")).status == 200


async def test_who_does_not_shake_hands_is_cut_off(start, origin, connect, authority):
    gateway = await start(
        PLAIN, upstreams(origin), '[server]\nheader_timeout = "300ms"\n' + listen()
    )
    mute, half = await connect(gateway), await connect(gateway)
    await half.send(b"\x16\x03\x01\x02\x00\x01")  # The beginning of a ClientHello.
    assert await half.at_end() and await mute.at_end()
    assert gateway.telemetry.tls_failures.get() == 2
    silent = await connect(gateway, authority.trusting())
    assert (await silent.read()).status == 408


async def test_http_is_told_in_clear_that_this_is_https(start, origin, connect, authority):
    gateway = await start(PLAIN, upstreams(origin), listen())
    plain = await connect(gateway)
    await plain.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answered = await plain.read()
    assert (answered.status, answered.fields["connection"]) == (400, "close")
    assert b"use https" in answered.body
    assert await plain.at_end()
    assert gateway.telemetry.tls_failures.get() == 1 and origin.heads == []


async def alert_of(
    gateway: Gateway, context: ssl.SSLContext, name: str | None = "gateway.test"
) -> str:
    """What a client hears of a handshake that fails: OpenSSL's word for the alert it got."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hands = context.wrap_bio(incoming, outgoing, server_hostname=name)
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        while True:
            try:
                hands.do_handshake()
                hands.read(
                    1
                )  # TLS 1.3: the client's certificate is judged after its own handshake is done.
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                data = await asyncio.wait_for(reader.read(65536), 10)
                if not data:
                    return "the connection's end"
                incoming.write(data)
            except ssl.SSLError as error:
                return str(error.reason)
    finally:
        writer.close()


async def test_a_handshake_that_fails_sends_its_alert(start, origin, authority, caplog):
    gateway = await start(
        PLAIN, upstreams(origin), listen('min_version = "1.3", client_ca = "ca.pem"')
    )
    old = authority.trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
    with caplog.at_level("INFO", "gateway.serving"):
        assert await alert_of(gateway, old) == "TLSV1_ALERT_PROTOCOL_VERSION"
        assert "no TLS with 127.0.0.1: unsupported protocol" in caplog.text
        assert await alert_of(gateway, authority.trusting()) == "TLSV13_ALERT_CERTIFICATE_REQUIRED"
        assert "peer did not return a certificate" in caplog.text
    assert gateway.telemetry.tls_failures.get() == 2


async def test_suites_of_tls_1_2_are_authenticated_encryption_alone(start, origin, authority):
    gateway = await start(PLAIN, upstreams(origin), listen())
    context = authority.trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ECDHE+AES:!AESGCM:!AESCCM")
    assert await alert_of(gateway, context) == "SSLV3_ALERT_HANDSHAKE_FAILURE"


async def test_handshakes_under_way_end_with_the_gateway(start, origin, connect, authority):
    gateway = await start(PLAIN, upstreams(origin), listen())
    mute = await connect(gateway)
    await asyncio.sleep(0)
    await gateway.close()
    assert await mute.at_end()


async def test_large_bodies_cross_tls(start, origin, connect, authority):
    body = bytes(range(256)) * 8192
    gateway = await start(PLAIN, upstreams(origin), listen())
    client = await connect(gateway, authority.trusting())
    assert (await client.get("/", method="POST", body=body)).status == 200
    assert origin.bodies == [body]


CACHED = """request = ["caching"]
response = ["caching"]
[caching]
max_entry = "32MiB"
max_size = "64MiB"
"""
LONG = bytes(range(256)) * 65536


async def ask_and_read_nothing(start, origin, connect, tls, *lines):
    """A gateway, and a client that takes nothing of its answer for now: more of it than sockets
    hold."""
    origin.respond = answer(LONG, Cache_Control="max-age=60")
    gateway = await start(CACHED + PLAIN, upstreams(origin), listen() if tls else "")
    assert (await (await connect(gateway, tls)).get("/")).body == LONG
    client = await connect(gateway, tls)
    client.writer.transport.pause_reading()
    head = ("GET / HTTP/1.1", "Host: gateway.test", *lines, "", "")
    await client.send("\r\n".join(head).encode())
    await asyncio.sleep(0.2)
    return gateway, client


async def test_a_slow_client_gets_all_of_its_last_answer(
    start, origin, connect, authority, monkeypatch
):
    monkeypatch.setattr("gateway.serving.net.tls.GOODBYE", 0.1)
    _, client = await ask_and_read_nothing(
        start, origin, connect, authority.trusting(), "Connection: close"
    )
    await asyncio.sleep(0.8)
    client.writer.transport.resume_reading()
    assert (await client.read()).body == LONG
    assert await client.at_end()


@pytest.mark.parametrize("secure", [False, True])
async def test_a_stop_lets_slow_clients_take_their_answers(
    start, origin, connect, authority, secure
):
    tls = authority.trusting() if secure else None
    gateway, client = await ask_and_read_nothing(start, origin, connect, tls)
    stopping = asyncio.create_task(gateway.close())
    await asyncio.sleep(0.2)
    assert not stopping.done()
    client.writer.transport.resume_reading()
    assert (await client.read()).body == LONG
    await stopping


async def test_http_is_sent_to_https(start, origin, connect, authority):
    text = listen() + "redirect = { port = 0, status = 301, https_port = 443 }\n"
    gateway = await start(PLAIN, upstreams(origin), text)
    client = await type(await connect(gateway, authority.trusting())).connect(gateway.redirect_port)
    try:
        reply = await client.get("/a%20b?x=1&y=%2F")
        assert (reply.status, reply.fields["location"]) == (
            301,
            "https://gateway.test/a%20b?x=1&y=%2F",
        )
        reply = await client.get("/", method="POST", body=b"x")
        assert (reply.status, reply.fields["location"]) == (301, "https://gateway.test/")
        await client.send(b"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n")
        assert (await client.read()).fields["location"] == "https://[::1]/"
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert (await client.read()).status == 400
    finally:
        client.close()
    assert origin.heads == []


async def test_a_redirect_names_the_port_unless_it_is_https_own(start, origin, connect, authority):
    gateway = await start(PLAIN, upstreams(origin), listen() + "redirect = { port = 0 }\n")
    client = await type(await connect(gateway, authority.trusting())).connect(gateway.redirect_port)
    try:
        reply = await client.get("/")
        assert (reply.status, reply.fields["location"]) == (
            308,
            f"https://gateway.test:{gateway.port}/",
        )
        assert (await gateway.reload()).ok
        assert (await client.get("/")).status == 308
    finally:
        client.close()


def problems(path: Path) -> list[str]:
    try:
        return [
            str(problem).partition("gateway.toml:")[2]
            for problem in check(path / "gateway.toml", {}).warnings
        ]
    except ConfigErrors as errors:
        return [str(problem).partition("gateway.toml:")[2] for problem in errors.problems]


OTHER = '[listen.tls]\ncertificate = "{name}.pem"\nkey = "{name}.key"\n'
TABLE = '[listen.tls]\ncertificate = "edge.pem"\nkey = "{key}"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TABLE.format(key="edge.key"), []),
        (TABLE.format(key="none.key"), ["3:1: error: listen.tls: cannot read"]),
        (TABLE.format(key="other.key"), ["3:1: error: listen.tls:", "is not the key of"]),
        (TABLE.format(key="locked.key"), ["3:1: error: listen.tls:", "is encrypted"]),
        (TABLE.format(key="edge.pem"), ["3:1: error: listen.tls: cannot use"]),
        (TABLE.format(key="edge.key") + 'ciphers = "nonsense"\n', [("4:1: error: listen.tls: "
            "OpenSSL knows no cipher")]),
        (TABLE.format(key="edge.key") + 'client_ca = "edge.key"\n', ["4:1: error: listen.tls:", "holds no certificates"]),
        (TABLE.format(key="edge.key") + 'client_ca = "none.pem"\n', ["4:1: error: listen.tls: cannot read"]),
        (TABLE.format(key="edge.key") + 'client_auth = "required"\n', [("4:1: error: listen.tls: "
            "client_auth means nothing")]),
        (('[listen.tls]\ncertificate = "edge.key"\nkey = '
            '"edge.key"\n'), ["2:1: error: listen.tls:", "holds no certificate"]),
        (('[listen.tls]\ncertificate = "none.pem"\nkey = '
            '"edge.key"\n'), ["2:1: error: listen.tls: cannot read"]),
        (OTHER.format(name="old"), [("2:1: warning: listen.tls: the certificate for old.test "
            "expired")]),
        (OTHER.format(name="soon"), ["2:1: warning:", "for soon.test expires", "in 2 days"]),
        (OTHER.format(name="future"), ["2:1: warning:", "for future.test is not valid before"]),
        (
            TABLE.format(key="edge.key") + ('[[listen.tls.certificates]]\ncertificate = '
                '"edge.pem"\nkey = "other.key"\n'),
            ["6:1: error: listen.tls:", "is not the key of"],
        ),
        (
            TABLE.format(key="edge.key") + ('[[listen.tls.certificates]]\ncertificate = '
                '"other.pem"\nkey = "other.key"\n'),
            ["5:1: warning: listen.tls: the certificate for gateway.test is never shown"],
        ),
        (
            TABLE.format(key="edge.key")
            + ('[[listen.tls.certificates]]\ncertificate = "edge.pem"\nkey = "edge.key"\nnames = '
                '["gateway.test", "b.test"]\n'),
            ["7:26: warning: listen.tls: the certificate is not made out to 'b.test'"],
        ),
        ("[listen]\nredirect = { port = 80, status = 305 }\n", [("2:25: error: "
            "listen.redirect.status: must be 301, 302,")]),
    ],
)  # fmt: skip
def test_what_check_says_about_certificates(tmp_path, text, expected):
    authority = Authority(tmp_path)
    authority.issue("edge", "gateway.test")
    authority.issue("other", "gateway.test")
    authority.issue("locked", "gateway.test", password=b"secret")
    authority.issue("old", "old.test", begins=-3, days=-1)
    authority.issue("soon", "soon.test", days=2.5)
    authority.issue("future", "future.test", begins=1)
    write(tmp_path, PLAIN, '[upstream.origin]\nurl = "http://127.0.0.1:1"\n')
    (tmp_path / "gateway.toml").write_text(text)
    found = problems(tmp_path)
    if expected:
        assert len(found) == 1 and all(part in found[0] for part in expected), found
        assert found[0].startswith(expected[0].split(" ")[0])
    else:
        assert found == []


@pytest.mark.parametrize(
    "loop", [asyncio.new_event_loop, new_event_loop], ids=["asyncio", "uvloop"]
)
def test_websockets_over_tls_on_both_sides(tmp_path, loop):
    async def run() -> None:
        authority = Authority(tmp_path)
        authority.issue("edge", "gateway.test")
        certificate = authority.issue("origin", "127.0.0.1")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        origin = await Origin(speaks(echo)).start(tls=context)
        write(tmp_path, PLAIN, upstreams(origin, more='tls = { ca = "ca.pem" }\n'), listen())
        gateway = Gateway(tmp_path / "gateway.toml", {})
        await gateway.start()
        try:
            client = await Client.connect(gateway.port, authority.trusting())
            await client.send(handshake() + frame(b"early", mask=MASK))
            assert (await client.head())[0] == 101
            big = b"x" * 60_000
            assert (await read_frame(client.reader)).payload == b"early"
            for _ in range(20):
                await client.send(frame(big, mask=MASK))
            for _ in range(20):
                assert (await read_frame(client.reader)).payload == big
            assert (await gateway.reload()).ok
            await client.send(frame(b"after", mask=MASK))
            assert (await read_frame(client.reader)).payload == b"after"
            client.close()
        finally:
            await gateway.close()
            await origin.stop()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())
