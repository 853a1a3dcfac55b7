"""What RFC 9112 and RFC 9110 say that a server MUST or MUST NOT do with a request, in the order of
their sections. corpus_requests.py has what two readers might understand differently."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest

from tests.client import Client
from tests.flow.conftest import PLAIN
from tests.flow.test_proxy import upstreams
from tests.origin import answer, fields_of

HOST = b"Host: gateway.test\r\n"
NEXT = b"GET /next HTTP/1.1\r\n" + HOST + b"\r\n"


class Case(NamedTuple):
    """`sent`, and a request behind it; `statuses` of all answers. `closes`: the one behind it is
    not answered. `body`: what the upstream receives."""

    section: str
    rule: str
    sent: bytes
    statuses: tuple[int, ...] = (200,)
    closes: bool = False
    body: bytes = b""


def get(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    return line + b"\r\n" + host + b"".join(one + b"\r\n" for one in fields) + b"\r\n"


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return get(*fields, line=b"POST / HTTP/1.1") + body


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


BAD, VERSION = (400,), (505,)
CASES = [
    Case("9112 2.2", "an empty line before the request line is ignored", b"\r\n" + get()),
    Case("9112 2.2", "several are", b"\r\n\r\n" + get()),
    Case("9112 2.2", "white space before the first field is refused", get(host=b" " + HOST), BAD, True),
    Case("9112 2.2", "a bare CR in a field is refused", get(b"X: a\rb"), BAD, True),
    Case("9112 2.2", "a bare CR behind a field is refused", get(b"X: a\r\r"), BAD, True),
    Case("9112 2.3", "another major version is refused", get(line=b"GET / HTTP/2.0"), VERSION, True),
    Case("9112 2.3", "a version of one number is malformed", get(line=b"GET / HTTP/1"), BAD, True),
    Case("9112 2.3", "the name of the protocol is case-sensitive", get(line=b"GET / http/1.1"), BAD, True),
    Case("9112 2.3", "HTTP/1.0 is answered and closed", get(line=b"GET / HTTP/1.0"), closes=True),
    Case("9112 3", "a request line of two words is of HTTP/0.9", get(line=b"GET /"), VERSION, True),
    Case("9112 3", "one of four words is refused", get(line=b"GET / a HTTP/1.1"), BAD, True),
    Case("9112 3", "a line without a method is", get(line=b" / HTTP/1.1"), BAD, True),
    Case("9112 3", "two spaces are one", get(line=b"GET  / HTTP/1.1")),
    Case("9112 3", "a tab is", get(line=b"GET\t/ HTTP/1.1"), BAD, True),
    Case("9112 3", "a space behind the version is", get(line=b"GET / HTTP/1.1 "), BAD, True),
    Case("9112 3", "a method longer than any is 400", get(line=b"A" * 200 + b" / HTTP/1.1"), BAD, True),
    Case("9112 3", "a target longer than any is 414", get(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1"), (414,), True),
    Case("9110 9.1", "a method that is no token is refused", get(line=b"G(T / HTTP/1.1"), BAD, True),
    Case("9110 9.1", "methods are case-sensitive", get(line=b"get / HTTP/1.1"), BAD, True),
    Case("9110 9.1", "an unknown one is passed on", get(line=b"PURGE / HTTP/1.1")),
    Case("9112 3.2.1", "an empty path is /", get(line=b"GET http://gateway.test HTTP/1.1")),
    Case("9112 3.2.2", "the absolute form is taken", get(line=b"GET http://gateway.test/ HTTP/1.1")),
    Case("9112 3.2.2", "and counts in place of Host", get(line=b"GET http://a/ HTTP/1.1", host=b"Host: b\r\n")),
    Case("9112 3.2.3", "the authority form is CONNECT's alone", get(line=b"GET a:80 HTTP/1.1"), BAD, True),
    Case("9110 9.3.6", "CONNECT is none of a gateway's", get(line=b"CONNECT a:80 HTTP/1.1"), (405,), True),
    Case("9112 3.2.4", "* is for OPTIONS alone", get(line=b"GET * HTTP/1.1"), BAD, True),
    Case("9112 3.2.4", "OPTIONS * is answered", get(line=b"OPTIONS * HTTP/1.1")),
    Case("9112 3.2", "no Host in HTTP/1.1 is 400", get(host=b""), BAD, True),
    Case("9112 3.2", "two are", get(host=HOST + HOST), BAD, True),
    Case("9112 3.2", "two that differ are", get(host=HOST + b"Host: b\r\n"), BAD, True),
    Case("9112 3.2", "one that is no host is", get(host=b"Host: a b\r\n"), BAD, True),
    Case("9112 3.2", "one with a path is", get(host=b"Host: a/b\r\n"), BAD, True),
    Case("9112 3.2", "one with a user is", get(host=b"Host: u@a\r\n"), BAD, True),
    Case("9112 3.2", "one with a port that is none is", get(host=b"Host: a:b\r\n"), BAD, True),
    Case("9112 3.2", "an empty one is", get(host=b"Host:\r\n"), BAD, True),
    Case("9110 7.2", "an address in brackets is a host", get(host=b"Host: [::1]:80\r\n")),
    Case("9112 3.2", "HTTP/1.0 needs none", get(line=b"GET / HTTP/1.0", host=b""), closes=True),
    Case("9112 5", "a name and no colon is refused", get(b"X"), BAD, True),
    Case("9112 5", "a field without a name is", get(b": a"), BAD, True),
    Case("9112 5.1", "white space before the colon is", get(b"X : a"), BAD, True),
    Case("9112 5.1", "white space around the value is none of it", get(b"X: \t a \t")),
    Case("9112 5.1", "an empty value is one", get(b"X:")),
    Case("9110 5.1", "a name that is no token is refused", get(b"X@Y: a"), BAD, True),
    Case("9110 5.5", "NUL is", get(b"X: a\0b"), BAD, True),
    Case("9110 5.5", "control characters are", get(b"X: a\x01b"), BAD, True),
    Case("9110 5.5", "obs-text is taken", get(b"X: a\xe9b")),
    Case("9112 5.2", "a folded line is refused", get(b"X: a\r\n b"), BAD, True),
    Case("9112 5.2", "folded by a tab too", get(b"X: a\r\n\tb"), BAD, True),
    Case("9110 5.4", "too many fields are 431", get(*[b"X%d: a" % n for n in range(200)]), (431,), True),
    Case("9110 5.4", "one that is too long is", get(b"X: " + b"a" * 20000), (431,), True),
    Case("9112 6.1", "chunked is understood", chunked(b"3\r\nabc\r\n0\r\n\r\n"), body=b"abc"),
    Case("9112 6.1", "whatever its case", post(b"Transfer-Encoding: CHUNKED", body=b"0\r\n\r\n")),
    Case("9112 6.1", "an unknown coding is refused", post(b"Transfer-Encoding: foo", body=b"0\r\n\r\n"), BAD, True),
    Case("9112 6.1", "chunked not being the last is", post(b"Transfer-Encoding: chunked, gzip"), BAD, True),
    Case("9112 6.1", "chunked twice is", post(b"Transfer-Encoding: chunked, chunked"), BAD, True),
    Case("9112 6.1", "with a Content-Length is", post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n"), BAD, True),
    Case("9112 6.1", "in HTTP/1.0 is", get(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0") + b"0\r\n\r\n", BAD, True),
    Case("9112 6.2", "a length is that long", post(b"Content-Length: 3", body=b"abc"), body=b"abc"),
    Case("9112 6.3", "one that is no number is refused", post(b"Content-Length: 3a", body=b"abc"), BAD, True),
    Case("9112 6.3", "with a sign", post(b"Content-Length: +3", body=b"abc"), BAD, True),
    Case("9112 6.3", "below zero", post(b"Content-Length: -1"), BAD, True),
    Case("9112 6.3", "hexadecimal", post(b"Content-Length: 0x3", body=b"abc"), BAD, True),
    Case("9112 6.3", "two that differ", post(b"Content-Length: 3", b"Content-Length: 4", body=b"abc"), BAD, True),
    Case("9112 6.3", "a list", post(b"Content-Length: 3, 4", body=b"abc"), BAD, True),
    Case("9112 6.3", "an empty one", post(b"Content-Length:", body=b"abc"), BAD, True),
    Case("9112 6.3", "beyond all numbers", post(b"Content-Length: " + b"9" * 30), BAD, True),
    Case("9112 6.3", "neither is no body", post()),
    Case("9110 9.3.1", "a GET may have a body", get(b"Content-Length: 3") + b"abc", body=b"abc"),
    Case("9112 7.1", "sizes are hexadecimal, in any case", chunked(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), body=b"0123456789" * 2),
    Case("9112 7.1", "zeros in front are harmless", chunked(b"0003\r\nabc\r\n000\r\n\r\n"), body=b"abc"),
    Case("9112 7.1", "a size that is none is refused", chunked(b"x\r\nabc\r\n0\r\n\r\n"), BAD, True),
    Case("9112 7.1", "an empty one is", chunked(b"\r\nabc\r\n0\r\n\r\n"), BAD, True),
    Case("9112 7.1", "one beyond all numbers is", chunked(b"fffffffffffffffff\r\nabc"), BAD, True),
    Case("9112 7.1", "a chunk that is longer than it says is", chunked(b"3\r\nabcd\r\n0\r\n\r\n"), BAD, True),
    Case("9112 7.1.1", "extensions are skipped", chunked(b'3;a=b;c="d"\r\nabc\r\n0;e\r\n\r\n'), body=b"abc"),
    Case("9112 7.1.2", "trailers are skipped", chunked(b"3\r\nabc\r\n0\r\nX: a\r\n\r\n"), body=b"abc"),
    Case("9112 7.1.2", "malformed ones are refused", chunked(b"3\r\nabc\r\n0\r\nX : a\r\n\r\n"), BAD, True),
    Case("9112 9.3", "a connection is kept", get()),
    Case("9112 9.3", "unless it says close", get(b"Connection: close"), closes=True),
    Case("9112 9.3", "in any case, in a list", get(b"Connection: foo, CLOSE"), closes=True),
    Case("9112 9.3", "HTTP/1.0 is kept if it says so", get(b"Connection: keep-alive", line=b"GET / HTTP/1.0")),
    Case("9112 9.3.2", "requests in a row are answered in that order", get() + get(line=b"GET /2 HTTP/1.1"), (200, 200)),
    Case("9112 9.6", "nothing behind close is answered", get(b"Connection: close") + get(), closes=True),
    Case("9110 10.1.1", "100-continue is understood", post(b"Expect: 100-continue", b"Content-Length: 3", body=b"abc"), body=b"abc"),
    Case("9110 10.1.1", "in any case", post(b"Expect: 100-Continue", b"Content-Length: 3", body=b"abc"), body=b"abc"),
    Case("9110 10.1.1", "other expectations are 417", get(b"Expect: 200-ok"), (417,), True),
    Case("9110 10.1.1", "HTTP/1.0's are ignored", get(b"Expect: 100-continue", b"Content-Length: 0", line=b"POST / HTTP/1.0"), closes=True),
    Case("9110 7.8", "an upgrade nothing knows is ignored", get(b"Connection: upgrade", b"Upgrade: foo")),
    Case("9110 7.8", "one without Connection too", get(b"Upgrade: websocket")),
    Case("9110 7.6.1", "fields that Connection names are of this hop", get(b"Connection: X", b"X: a")),
    Case("9110 9.3.2", "HEAD has no body", get(line=b"HEAD / HTTP/1.1")),
    Case("9110 9.3.8", "TRACE is off unless asked for", get(line=b"TRACE / HTTP/1.1"), (405,)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=[f"{one.section}: {one.rule}" for one in CASES])
async def test_rules(start, origin, connect, case):
    client: Client = await connect(await start(PLAIN, upstreams(origin)))
    method = case.sent.lstrip().split(b" ")[0].decode("latin-1")
    await client.send(case.sent + NEXT)
    for status in case.statuses:
        reply = await asyncio.wait_for(client.read(method), 10)
        assert (reply.status, reply.whole) == (status, True)
        method = "GET"
    if case.closes:
        assert reply.fields["connection"] == "close" and await client.at_end()
    else:
        assert (await client.read()).status == 200
    received = [head.split(b" ")[1] for head in origin.heads]
    assert (b"/next" in received) is not case.closes
    if case.body:
        assert origin.bodies[0] == case.body
    if "hop" in case.rule:
        assert "x" not in fields_of(origin.heads[0])


INTERIM = [
    (b"HTTP/1.1 100 Continue\r\n\r\n", []),
    (b"HTTP/1.1 102 Processing\r\n\r\n", [102]),
    (b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n", [103]),
    (b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3, [103, 103, 103]),
    (b"HTTP/1.1 104 Upload Resumption Supported\r\n\r\n", [104]),
    (b"HTTP/1.1 199 \r\n\r\n", [199]),
    (b"HTTP/1.1 102 A\r\n\r\nHTTP/1.1 103 B\r\nX: a\r\n\r\n", [102, 103]),
]


@pytest.mark.parametrize(("said", "passed"), INTERIM)
@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("split", [False, True], ids=["at once", "in pieces"])
async def test_none_of_the_interim_answers_is_dropped(
    start, origin_of, connect, said, passed, version, split
):
    """RFC 9110 section 15.2; a client of HTTP/1.0 gets none."""

    async def respond(origin, head, reader, writer):
        for place in range(0, len(said), 7 if split else len(said)):
            writer.write(said[place : place + (7 if split else len(said))])
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(answer(b"final"))
        return True

    client = await connect(await start(PLAIN, upstreams(await origin_of(respond))))
    await client.send(get(line=f"GET / HTTP/{version}".encode()))
    seen = []
    while (found := await client.head())[0] < 200:
        seen.append(found[0])
    assert seen == (passed if version == "1.1" else [])
    assert found[0] == 200 and await client.reader.readexactly(5) == b"final"
