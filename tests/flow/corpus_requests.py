"""Requests that are malformed, ambiguous, or odd and sound, and what has to become of each. Data;
test_requests.py runs it.

A case says what the client is answered (`statuses`, and whether the connection ends) and what the
upstream receives, byte for
byte: `received` are complete heads as `forwarded` builds them, `bodies` what follows each. A case
that is refused never reaches it. One whose body turns out malformed (`broken`) may have its head
there, but no end.
"""

from __future__ import annotations

from dataclasses import dataclass

GET = b"GET / HTTP/1.1"
POST = b"POST / HTTP/1.1"
HOST = b"Host: a"
CHUNKED = b"Transfer-Encoding: chunked"
LENGTH_0 = b"Content-Length: 0\r\n"
LENGTH_3 = b"Content-Length: 3\r\n"
IN_CHUNKS = b"Transfer-Encoding: chunked\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """One request, or several in one go."""

    section: str
    name: str
    sent: bytes
    statuses: tuple[int, ...]
    received: tuple[bytes, ...] = ()
    bodies: tuple[bytes, ...] = ()
    closes: bool = False
    broken: bool = False


CASES: list[Case] = []


def head(line: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join((line, *fields)) + b"\r\n\r\n" + body


def forwarded(
    line: bytes,
    fields: bytes = b"",
    framing: bytes = b"",
    host: bytes = b"a",
    named: bytes = b"a",
    version: bytes = b"1.1",
) -> bytes:
    """The head the upstream gets.

    `fields` and `framing` are complete lines; `named` is what X-Forwarded-Host says; `version` the
    client's.
    """
    quoted = b';host="' + named + b'"' if named else b""
    told_host = b"X-Forwarded-Host: " + named + b"\r\n" if named else b""
    return (
        line
        + b"\r\nHost: "
        + host
        + b"\r\nX-Request-ID: *\r\n"
        + framing
        + fields
        + b"Via: "
        + version
        + b" gateway\r\nForwarded: for=127.0.0.1;proto=http"
        + quoted
        + b"\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
        + told_host
        + b"\r\n"
    )


def refused(section: str, status: int, *sent: bytes, closes: bool = True) -> None:
    CASES.extend(Case(section, repr(one[:70]), one, (status,), closes=closes) for one in sent)


def broken(section: str, *bodies: bytes) -> None:
    """Chunked bodies that cannot be read: 400, and never an end for the upstream."""
    for body in bodies:
        sent = head(POST, HOST, CHUNKED, body=body)
        CASES.append(Case(section, f"body {body!r}", sent, (400,), closes=True, broken=True))


def passes(
    section: str, sent: bytes, *heads: bytes, bodies: tuple[bytes, ...] = (), closes: bool = False
) -> None:
    statuses = (200,) * max(1, len(heads))
    CASES.append(
        Case(section, repr(sent[:70]), sent, statuses, heads, bodies or (b"",) * len(heads), closes)
    )


def lines(section: str, status: int, *request_lines: bytes) -> None:
    refused(section, status, *(head(line, HOST) for line in request_lines))


def fields(section: str, status: int, *given: bytes) -> None:
    refused(section, status, *(head(POST, HOST, field) for field in given))


# RFC 9112 section 2.2 and 3: lines and the request line.
refused(
    "lines", 400, b"GET / HTTP/1.1\nHost: a\n\n", b"GET / HTTP/1.1\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\n", b"GET / HTTP/1.1\rHost: a\r\r", b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    b"nonsense\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)  # fmt: skip
lines(
    "request line", 400, b"GET\t/ HTTP/1.1", b"GET /\tHTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"GET / http/1.1", b"GET /a b HTTP/1.1",
    b"GET / HTTP/1.10", b"GET / HTTP/11", b"GET / HTTP/01.1", b"GET / HTTP/1.", b"GET / HTTP/1,1", b"GET / HTTP /1.1", b"GET / XTTP/1.1",
    b"G@T / HTTP/1.1", b"G\xc3T / HTTP/1.1", b"G(T / HTTP/1.1", b"G\x00T / HTTP/1.1", b"GET / ICE/1.0", b"X" * 65 + b" / HTTP/1.1",
)  # fmt: skip
lines(
    "version",
    505,
    b"GET / HTTP/1.2",
    b"GET / HTTP/2.0",
    b"GET / HTTP/0.9",
    b"GET / HTTP/3.0",
    b"GET / HTTP/9.9",
    b"GET /",
)
passes("lines", b"\r\n" + head(GET, HOST), forwarded(GET))
passes("lines", b"\r\n\r\n\r\n" + head(GET, HOST), forwarded(GET))

# RFC 9110 section 9: methods.
passes("methods", head(b"FOO / HTTP/1.1", HOST), forwarded(b"FOO / HTTP/1.1"))
lines(
    "methods", 400, b"get / HTTP/1.1", b"Get / HTTP/1.1", b"pOST / HTTP/1.1", b"delete /items/7 HTTP/1.1", b"head / HTTP/1.1",
    b"connect a:443 HTTP/1.1", b"options * HTTP/1.1", b"propfind / HTTP/1.1", b"query / HTTP/1.1", b"tracE / HTTP/1.1",
)  # fmt: skip
passes("methods", head(b"purge / HTTP/1.1", HOST), forwarded(b"purge / HTTP/1.1"))
passes(
    "methods",
    head(b"G!#$%&'*+-.^_`|~9 / HTTP/1.1", HOST),
    forwarded(b"G!#$%&'*+-.^_`|~9 / HTTP/1.1"),
)
passes("methods", head(b"PROPFIND / HTTP/1.1", HOST), forwarded(b"PROPFIND / HTTP/1.1"))
passes(
    "methods",
    head(b"FOO / HTTP/1.1", HOST, b"Content-Length: 3", body=b"abc"),
    forwarded(b"FOO / HTTP/1.1", framing=LENGTH_3),
    bodies=(b"abc",),
)
passes(
    "methods", head(GET, HOST) + head(b"FOO /f HTTP/1.1", HOST) + NEXT,
    forwarded(GET), forwarded(b"FOO /f HTTP/1.1"), forwarded(b"GET /next HTTP/1.1"),
)  # fmt: skip
refused(
    "methods",
    405,
    head(b"CONNECT a:443 HTTP/1.1", HOST),
    head(b"CONNECT / HTTP/1.1", HOST),
    head(b"CONNECT b:1 HTTP/1.1", b"Host: b:1"),
)
refused(
    "methods",
    405,
    head(b"TRACE / HTTP/1.1", HOST),
    head(b"TRACE / HTTP/1.1", HOST, b"Max-Forwards: 0"),
    closes=False,
)

# RFC 9112 section 3.2: the target; RFC 3986.
lines(
    "target", 400, b"GET * HTTP/1.1", b"GET a HTTP/1.1", b"GET ?x HTTP/1.1", b"POST * HTTP/1.1", b"GET a:80 HTTP/1.1", b"GET /#f HTTP/1.1",
    b"GET /?q#f HTTP/1.1", b"GET /\x00 HTTP/1.1", b"GET /\x01 HTTP/1.1", b"GET /\x7f HTTP/1.1", b"GET /\xc3\xbc HTTP/1.1",
    b"GET /\xff HTTP/1.1", b"GET /a\\b HTTP/1.1", b"GET /%00 HTTP/1.1", b"GET /%0 HTTP/1.1", b"GET /%zz HTTP/1.1", b"GET /% HTTP/1.1",
    b"GET ftp://a/ HTTP/1.1", b"GET http:a HTTP/1.1", b"GET http:///a HTTP/1.1", b"GET http://u@a/ HTTP/1.1",
    b"GET http://u:p@a/ HTTP/1.1", b"GET http://a:b/ HTTP/1.1", b"GET http://a\\b/ HTTP/1.1", b"GET http://a/#f HTTP/1.1", b"GET http://a,b/ HTTP/1.1",
)  # fmt: skip
lines(
    "dots", 400, b"GET /.. HTTP/1.1", b"GET /../a HTTP/1.1", b"GET /a/../b HTTP/1.1", b"GET /a/./b HTTP/1.1", b"GET /. HTTP/1.1",
    b"GET /a/.. HTTP/1.1", b"GET /%2e%2e/a HTTP/1.1", b"GET /a/%2E%2e/b HTTP/1.1", b"GET /a/.%2e/b HTTP/1.1", b"GET /a%2f..%2fb HTTP/1.1",
    b"GET /a/..;/b HTTP/1.1", b"GET /a/..;x=1/b HTTP/1.1", b"GET http://a/../b HTTP/1.1",
)  # fmt: skip
for target in (
    b"//a/b", b"/a//b", b"/a%2fb", b"/a%2Fb?c=%2e%2e", b"/...", b"/a..b", b"/a/..b", b"/?../..", b"/a;b=c", b"/%41", b"/a%5cb", b"/%0d%0aX:%20y", b"/a?b?c", b"/:@",
):  # fmt: skip
    passes(
        "target",
        head(b"GET " + target + b" HTTP/1.1", HOST),
        forwarded(b"GET " + target + b" HTTP/1.1"),
    )
passes(
    "target",
    head(b"GET http://b/x?y HTTP/1.1", HOST),
    forwarded(b"GET /x?y HTTP/1.1", host=b"b", named=b"b"),
)
passes(
    "target",
    head(b"GET HTTP://B:80 HTTP/1.1", HOST),
    forwarded(b"GET / HTTP/1.1", host=b"B:80", named=b"B:80"),
)
passes(
    "target",
    head(b"GET http://b?y HTTP/1.1", HOST),
    forwarded(b"GET /?y HTTP/1.1", host=b"b", named=b"b"),
)
passes(
    "target",
    head(b"GET https://b/ HTTP/1.1", b"Host: b"),
    forwarded(b"GET / HTTP/1.1", host=b"b", named=b"b"),
)
passes("asterisk", head(b"OPTIONS * HTTP/1.1", HOST))
passes("asterisk", head(b"OPTIONS http://a HTTP/1.1", HOST))
passes("asterisk", head(b"OPTIONS http://a/ HTTP/1.1", HOST), forwarded(b"OPTIONS / HTTP/1.1"))

# RFC 9112 section 3.2, RFC 9110 section 7.2: Host.
refused(
    "host", 400, *(
        head(GET, *given) for given in (
            (), (HOST, HOST), (HOST, b"Host: b"), (HOST, b"host: a"), (b"Host:",), (b"Host: ",), (b"Host: a b",), (b"Host: a,b",),
            (b"Host: a, a",), (b"Host: u@a",), (b"Host: a/b",), (b"Host: a?b",), (b"Host: a#b",), (b"Host: a\\b",), (b"Host: http://a",),
            (b"Host: a:b",), (b"Host: a:80:80",), (b"Host: a:99999",), (b"Host: a:-1",), (b"Host: :80",), (b"Host: ::1",), (b"Host: [::1",), (b"Host: [::g]",),
            (b"Host: [::1]x",), (b"Host: []",), (b"Host: \xc3\xbc",), (b'Host: a"b',), (b"Host: <a>",), (b"Host: %zz",), (b"Host : a",), (b"Host: a\x00",),
        )
    ), head(b"GET http://b/ HTTP/1.1"), head(b"GET http://b/ HTTP/1.1", b"Host: b", b"Host: b"),
)  # fmt: skip
for name, value in (
    (b"host", b"a"), (b"HOST", b"a"), (b"Host", b"a:80"), (b"Host", b"a:"), (b"Host", b"[::1]:80"), (b"Host", b"A.b_c-d."), (b"Host", b"%41"),
):  # fmt: skip
    passes("host", head(GET, name + b": " + value), forwarded(GET, host=value, named=value))
passes("host", head(GET, b"Host:a"), forwarded(GET))
passes("host", head(GET, b"Host:\ta \t"), forwarded(GET))

# RFC 9112 section 5, RFC 9110 section 5: fields.
fields(
    "fields", 400, b"X : a", b"X\t: a", b" X: a", b"\tX: a", b"X: a\r\n b", b"X: a\r\n\tb", b": a", b"X", b"X\x00: a", b"X(: a", b"X y: a",
    b"\xc3\xbc: a", b"X\r: a", b"X: a\x00b", b"X: \x00", b"X: a\x01", b"X: a\x0bb", b"X: a\x7f", b"X: a\rY: b", b"X: a\nY: b", b"X: a\n", b"X[]: a", b'"X": a',
)  # fmt: skip
for given, sent_on in (
    (b"X:a", b"X: a\r\n"), (b"X:\ta", b"X: a\r\n"), (b"X: a \t", b"X: a\r\n"), (b"X:", b"X: \r\n"), (b"X: \x80\xff", b"X: \x80\xff\r\n"),
    (b"X: a\tb", b"X: a\tb\r\n"), (b"x-CASE: a", b"x-CASE: a\r\n"), (b"X: a\r\nX: b", b"X: a\r\nX: b\r\n"), (b"X_Y: a", b"X_Y: a\r\n"),
    (b"X_Forwarded_For: 6.6.6.6", b""), (b"X-Forwarded_For: 6.6.6.6", b""), (b"Content_Length: 5", b""), (b"Transfer_Encoding: chunked", b""),
    (b"Forwarded: for=6.6.6.6", b""), (b"X-Client-ID: admin", b""), (b"x_client_id: admin", b""), (b"Proxy: http://evil", b""),
    (b"Connection: X\r\nX: a", b""), (b"Connection: close-not, x\r\nX: a", b""), (b"Keep-Alive: timeout=5", b""), (b"Proxy-Connection: x", b""),
    (b"TE: trailers", b""), (b"Trailer: X", b""), (b"Upgrade: h2c", b""), ((b"HTTP2-Settings: "
        b"A\r\nConnection: HTTP2-Settings"), b""),
    (b"Via: 1.0 b", b"Via: 1.0 b\r\n"), (b"Max-Forwards: 0", b"Max-Forwards: 0\r\n"),
):  # fmt: skip
    passes("fields", head(GET, HOST, given), forwarded(GET, sent_on))

# RFC 9112 section 6, RFC 9110 section 8.6: Content-Length and Transfer-Encoding.
fields(
    "length", 400, *(
        b"Content-Length: " + value for value in (
            b"-1", b"+0", b"+1", b"0x0", b"0 0", b"", b"1e0", b"0;", b"0, 0", b"3,3", b"1.0", b"a", b"\xd9\xa0", b"\xb2", b'"0"', b"0" * 5000, b"1_0",
            b"18446744073709551615", b"18446744073709551616", b"9223372036854775808", b"9" * 400,
        )
    ),
    (b"Content-Length: 0\r\nContent-Length: "
        b"0"), (b"Content-Length: 0\r\ncontent-length: "
            b"1"), b"Content-Length : 0", b"Content-Length: 3\r\n\t",
)  # fmt: skip
fields("length", 413, b"Content-Length: 9223372036854775807")
fields(
    "coding", 400, *(
        b"Transfer-Encoding: " + value for value in (
            b"", b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked,", b",chunked", b"chunked, chunked", b"xchunked", b"chunkedx",
            b'"chunked"', b"chunked;q=1", b"\x0bchunked", b"chunked\x00", b"chunked\r\nTransfer-Encoding: chunked",
            (b"chunked\r\nTransfer-Encoding: "
                b"identity"), (b"identity\r\nTransfer-Encoding: "
                    b"chunked"), b"c hunked", b"chunked\r\n ,identity",
        )
    ),
    b"Transfer-Encoding : chunked", (b"Transfer-Encoding: chunked\r\nContent-Length: "
        b"0"), b"Content-Length: 0\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding:\r\nContent-Length: 0", (b"Content-Length: 0\r\nTransfer-Encoding: "
        b"identity"), b"\x00Transfer-Encoding: chunked",
)  # fmt: skip
OLD = b"POST / HTTP/1.0"
refused(
    "coding", 400, head(OLD, HOST, CHUNKED, body=b"0\r\n\r\n" + NEXT), head(OLD, HOST, CHUNKED, b"Connection: keep-alive", body=b"0\r\n\r\n" + NEXT),
    head(POST, HOST, CHUNKED, b"Content-Length: 4", body=b"1\r\nZ\r\nQ\r\n\r\n"), head(POST, HOST, b"Content-Length: 6", CHUNKED, body=b"0\r\n\r\nX"),
)  # fmt: skip
passes(
    "length",
    head(POST, HOST, b"Content-Length: 003", body=b"abc"),
    forwarded(POST, framing=LENGTH_3),
    bodies=(b"abc",),
)
passes("length", head(POST, HOST), forwarded(POST, framing=LENGTH_0))
passes(
    "length",
    head(POST, HOST, b"Content-Length: 3", body=b"abc") + NEXT,
    forwarded(POST, framing=LENGTH_3),
    forwarded(b"GET /next HTTP/1.1"),
    bodies=(b"abc", b""),
)
passes(
    "length",
    head(GET, HOST, b"Content-Length: 3", body=b"abc") + NEXT,
    forwarded(GET, framing=LENGTH_3),
    forwarded(b"GET /next HTTP/1.1"),
    bodies=(b"abc", b""),
)
passes(
    "length",
    head(POST, HOST, b"Content-Length: 31", body=NEXT),
    forwarded(POST, framing=b"Content-Length: 31\r\n"),
    bodies=(NEXT,),
)
passes(
    "coding",
    head(POST, HOST, b"TRANSFER-ENCODING:Chunked ", body=b"3\r\nabc\r\n0\r\n\r\n"),
    forwarded(POST, framing=IN_CHUNKS),
    bodies=(b"abc",),
)

# RFC 9112 section 7.1: chunks.
broken(
    "chunks", b"+1\r\na\r\n0\r\n\r\n", b"-1\r\na\r\n0\r\n\r\n", b"0x1\r\na\r\n0\r\n\r\n", b" 1\r\na\r\n0\r\n\r\n", b"1 \r\na\r\n0\r\n\r\n", b"\r\n", b"g\r\n", b";a\r\n",
    b"1_0\r\n", b"1,1\r\na\r\n0\r\n\r\n", b"1.0\r\na\r\n0\r\n\r\n", b"10000000000000000\r\na\r\n", b"1" * 40 + b"\r\na", b"\xd9\xa1\r\na\r\n0\r\n\r\n", b"1;\r\na\r\n0\r\n\r\n",
    b"1 ;a=b\r\na\r\n0\r\n\r\n", b"1;a\nb\r\na\r\n0\r\n\r\n", b"1;a\x00\r\na\r\n0\r\n\r\n", b"1;\na\r\n0\r\n\r\n", b"1\na\n0\n\n", b"1\na\r\n0\r\n\r\n", b"1\r\na\n0\r\n\r\n",
    b"1\ra\r\n0\r\n\r\n", b"1\r\r\na\r\n0\r\n\r\n", b"1\r\na0\r\n\r\n", b"1\r\nab\r\n0\r\n\r\n", b"2\r\na\r\n0\r\n\r\n", b"1\r\na\r\n0\n\r\n", b"0\n\r\n", b"0\r\n\n", b"0\r\r\n\r\n",
    b"0\r\nX : y\r\n\r\n", b"0\r\n X: y\r\n\r\n", b"0\r\nX: \x00\r\n\r\n", b"0\r\nX: y\nZ: z\r\n\r\n", b"0\r\nContent-Length: 5\r\n\r\n", b"0\r\nHost: b\r\nX: y\r\n\r\n", b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"1\r\naX\r\n0\r\n\r\n" + NEXT, b"3\r\nabc0\r\n\r\n" + NEXT,
)  # fmt: skip
for body, understood in (
    (b"0\r\n\r\n", b""), (b"00\r\n\r\n", b""), (b"3\r\nabc\r\n0\r\n\r\n", b"abc"), (b"0003\r\nabc\r\n000\r\n\r\n", b"abc"),
    (b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"), (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"), (b"3;a\r\nabc\r\n0;b=c\r\n\r\n", b"abc"),
    (b'3;a="b c";d\r\nabc\r\n0\r\n\r\n', b"abc"), (b"3\r\nabc\r\n0\r\nX: y\r\n\r\n", b"abc"), (b"3\r\nabc\r\n0\r\nConnection: x\r\nAuthorization: c\r\n\r\n", b"abc"),
    (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
):  # fmt: skip
    passes(
        "chunks",
        head(POST, HOST, CHUNKED, body=body),
        forwarded(POST, framing=IN_CHUNKS),
        bodies=(understood,),
    )
passes(
    "chunks",
    head(POST, HOST, CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n") + NEXT,
    forwarded(POST, framing=IN_CHUNKS),
    forwarded(b"GET /next HTTP/1.1"),
    bodies=(b"abc", b""),
)

# RFC 9110 section 10.1.1 (Expect), 7.6.2 (Max-Forwards), 7.8 (Upgrade).
fields(
    "expect",
    417,
    b"Expect: 200-ok",
    b"Expect:",
    b"Expect: 100-continue, 100-continue",
    b"Expect: 100-continue\r\nExpect: 100-continue",
)
passes("expect", head(GET, HOST, b"Expect: 100-Continue"), forwarded(GET))
for method in (b"OPTIONS", b"TRACE"):
    values = (b"x", b"-1", b"1.5", b"", b"1, 1", b"9" * 20)
    status = 400 if method == b"OPTIONS" else 405  # Which no route takes here.
    for value in values:
        refused(
            "hops",
            status,
            head(method + b" / HTTP/1.1", HOST, b"Max-Forwards: " + value),
            closes=status == 400,
        )
refused("hops", 400, head(b"OPTIONS / HTTP/1.1", HOST, b"Max-Forwards: 1", b"Max-Forwards: 1"))
passes(
    "hops",
    head(b"OPTIONS / HTTP/1.1", HOST, b"Max-Forwards: 3"),
    forwarded(b"OPTIONS / HTTP/1.1", b"Max-Forwards: 2\r\n"),
)
passes("hops", head(b"OPTIONS / HTTP/1.1", HOST, b"Max-Forwards: 0"))
H2C = (b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAM")
passes("upgrade", head(GET, HOST, *H2C), forwarded(GET))
passes("upgrade", head(GET, HOST, *H2C) + NEXT, forwarded(GET), forwarded(b"GET /next HTTP/1.1"))
passes(
    "upgrade",
    head(GET, HOST, *H2C) + NEXT[:20] + NEXT[20:] + NEXT,
    forwarded(GET),
    *[forwarded(b"GET /next HTTP/1.1")] * 2,
)
passes(
    "upgrade",
    head(GET, HOST, b"Upgrade: tcp", b"Connection: upgrade") + NEXT,
    forwarded(GET),
    forwarded(b"GET /next HTTP/1.1"),
)
passes(
    "upgrade",
    head(POST, HOST, *H2C, b"Content-Length: 3", body=b"abc"),
    forwarded(POST, framing=LENGTH_3),
    bodies=(b"abc",),
    closes=True,
)

# RFC 9112 section 9: connections.
CLOSE = head(GET, HOST, b"Connection: close")
for after in (b"", NEXT, b"junk\r\n\r\n", b"\x00" * 9, b"GET / HT"):
    passes("connection", CLOSE + after, forwarded(GET), closes=True)
passes(
    "connection",
    head(b"GET / HTTP/1.0") + NEXT,
    forwarded(GET, host=b"*", named=b"", version=b"1.0"),
    closes=True,
)
passes(
    "connection",
    head(b"GET / HTTP/1.0", HOST, b"Connection: keep-alive") + NEXT,
    forwarded(GET, version=b"1.0"),
    forwarded(b"GET /next HTTP/1.1"),
)
passes(
    "connection",
    head(OLD, HOST, b"Content-Length: 3", body=b"abc") + b"junk",
    forwarded(POST, framing=LENGTH_3, version=b"1.0"),
    bodies=(b"abc",),
    closes=True,
)
passes(
    "connection",
    head(POST, HOST, b"Connection: close", CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n") + NEXT,
    forwarded(POST, framing=IN_CHUNKS),
    bodies=(b"abc",),
    closes=True,
)
CASES.extend(
    Case(
        "connection",
        f"good, then {junk!r}",
        head(GET, HOST) + junk,
        (200, 400),
        (forwarded(GET),),
        (b"",),
        closes=True,
    )
    for junk in (
        b"junk\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nX : a\r\n\r\n",
        b"G\x00",
    )
)
CASES.append(
    Case(
        "connection",
        "good, then no Host",
        head(GET, HOST) + head(GET),
        (200, 400),
        (forwarded(GET),),
        (b"",),
        closes=True,
    )
)
CASES.append(
    Case(
        "connection",
        "good, then dots, then good",
        head(GET, HOST) + head(b"GET /.. HTTP/1.1", HOST) + NEXT,
        (200, 400),
        (forwarded(GET),),
        (b"",),
        closes=True,
    )
)
