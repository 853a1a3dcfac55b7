"""One host in all its spellings, on both sides of a running gateway."""

from __future__ import annotations

import pytest

from tests.flow.test_proxy import upstreams

PIPELINE = """
request = ["cors"]
response = ["cors"]
[cors]
origins = ["https://bücher.example", "https://*.Müller.example:8443"]
[[route]]
name = "named"
prefix = "/"
upstream = "origin"
hosts = ["Example.com.", "münchen.example", "*.München.example.", "[0:0::1]"]
"""


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("example.com", 200),
        ("EXAMPLE.com", 200),
        ("example.com.", 200),
        ("example.com.:8080", 200),
        ("example.com:8080", 200),
        ("xn--mnchen-3ya.example", 200),
        ("XN--MNCHEN-3YA.example.", 200),
        ("a.b.xn--mnchen-3ya.example", 200),
        ("[::1]", 200),
        ("[0:0:0:0:0:0:0:1]:80", 200),
        ("other.example", 404),
        ("aexample.com", 404),
        ("example.com..", 404),
        ("münchen.example", 400),  # Not how names travel: RFC 3986 section 3.2.2.
        (".example.com", 404),
    ],
)
async def test_hosts(start, origin, connect, host, status):
    gateway = await start(PIPELINE, upstreams(origin))
    client = await connect(gateway)
    await client.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    assert (await client.read()).status == status


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        ("https://xn--bcher-kva.example", True),
        ("https://a.xn--mller-kva.example:8443", True),
        ("https://xn--mller-kva.example:8443", False),
        ("https://bucher.example", False),
    ],
)
async def test_origins(start, origin, connect, sent, allowed):
    gateway = await start(PIPELINE, upstreams(origin))
    client = await connect(gateway)
    await client.send(f"GET / HTTP/1.1\r\nHost: example.com\r\nOrigin: {sent}\r\n\r\n".encode())
    reply = await client.read()
    assert reply.fields.get("access-control-allow-origin") == (sent if allowed else None)
