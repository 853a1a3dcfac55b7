"""SIGHUP to a real process that speaks TLS: new certificates for new handshakes, and nobody who is
there loses a thing."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509

from tests.certificates import Authority
from tests.client import Client
from tests.flow.conftest import PLAIN, write
from tests.load import Load
from tests.origin import Origin, answer
from tests.process import Process

LISTEN = """
[server]
max_requests_per_connection = 50
[listen]
port = 0
tls = { certificate = "edge.pem", key = "edge.key" }
"""


@pytest.fixture
async def origin():
    one = await Origin(answer(b"ok")).start()
    yield one
    await one.stop()


def shown(client: Client) -> str:
    der = client.writer.get_extra_info("ssl_object").getpeercert(True)
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


async def test_certificates_change_under_load(tmp_path: Path, origin: Origin):
    authority = Authority(tmp_path)
    authority.issue("edge", "before.test", "gateway.test")
    write(tmp_path, PLAIN, f'[upstream.origin]\nurl = "{origin.url}"\n', LISTEN)
    async with Process(tmp_path / "gateway.toml") as gateway:
        context = authority.trusting()
        old = await Client.connect(gateway.port, context)
        assert shown(old) == "CN=before.test"
        before = await gateway.metric(
            "gateway_tls_certificate_expiry_timestamp_seconds", name="before.test"
        )
        async with Load(gateway.port, 8, tls=context) as load:
            await load.more(50)
            # Half written is not taken, and nothing is lost by it.
            (tmp_path / "edge.pem").write_text("-----BEGIN CERTIFICATE-----\n")
            assert "refused" in await gateway.reload()
            assert any("gateway.toml:6:9: error: listen.tls:" in line for line in gateway.lines)
            for number in range(5):
                authority.issue("edge", f"after{number}.test", "gateway.test", days=30 + number)
                assert "taken" in await gateway.reload()
                await load.more(50)
        assert (load.failed, set(load.answers)) == ([], {200}), gateway.lines
        new = await Client.connect(gateway.port, context)
        assert shown(new) == "CN=after4.test"
        assert (await new.get("/")).status == (await old.get("/")).status == 200
        after = await gateway.metric(
            "gateway_tls_certificate_expiry_timestamp_seconds", name="after4.test"
        )
        assert before is not None and after is not None and after < before
        assert (
            await gateway.metric(
                "gateway_tls_certificate_expiry_timestamp_seconds", name="before.test"
            )
            is None
        )
        assert any("certificate for after4.test changed" in line for line in gateway.lines)
        old.close()
        new.close()
    assert not any("Traceback" in line for line in gateway.lines), gateway.lines


async def test_preambles_and_handshakes_on_the_loop_in_use(tmp_path: Path, origin: Origin):
    """The other tests run on asyncio's own loop; a gateway runs on uvloop's."""
    authority = Authority(tmp_path)
    authority.issue("edge", "gateway.test")
    write(
        tmp_path,
        PLAIN,
        f'[upstream.origin]\nurl = "{origin.url}"\n',
        LISTEN + "proxy_protocol = true\n",
    )
    async with Process(tmp_path / "gateway.toml") as gateway:
        for _ in range(3):
            client = await Client.connect(gateway.port)
            await client.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n")
            await client.writer.start_tls(authority.trusting(), server_hostname="gateway.test")
            assert (await client.get("/")).status == 200
            client.close()
        plain = await Client.connect(gateway.port)
        await plain.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await plain.at_end()
        plain.close()
    assert (
        all(b"X-Forwarded-For: 192.0.2.7\r\n" in head for head in origin.heads)
        and len(origin.heads) == 3
    )
    assert not any("Traceback" in line for line in gateway.lines), gateway.lines
