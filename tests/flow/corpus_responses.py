"""Answers an upstream may give to GET, and what may become of each: the corpus for
test_responses.py.

Each `Case` is written by the origin byte for byte, after which it closes the connection (`ends`) or
keeps it. What the client may see is one of

- a whole message with `status` and `body`, as RFC 9112 section 6.3 reads those bytes;
- `BAD`: a 502 of the gateway's own;
- `BROKEN`: a message that visibly breaks off, or a 502 where nothing had gone out yet.

`kept` says whether the origin's connection may carry another request.
"""

from __future__ import annotations

from dataclasses import dataclass

BAD = -1
BROKEN = -2


@dataclass(frozen=True)
class Case:
    """`answer` is sent whole; `status` and `body` are what the client gets, or BAD, or BROKEN."""

    name: str
    answer: bytes
    status: int = BAD
    body: bytes = b""
    kept: bool = False
    ends: bool = False
    method: str = "GET"


OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"


def head(lines: bytes, start: bytes = OK) -> bytes:
    return start + lines + b"\r\n"


def whole(
    name: str,
    answer: bytes,
    status: int = 200,
    body: bytes = b"ok",
    kept: bool = True,
    **more: object,
) -> Case:
    return Case(name, answer, status, body, kept, **more)  # type: ignore[arg-type]


def bad(name: str, answer: bytes, **more: object) -> Case:
    return Case(name, answer, **more)  # type: ignore[arg-type]


def broken(name: str, answer: bytes, ends: bool = False) -> Case:
    return Case(name, answer, BROKEN, ends=ends)


def chunks(text: bytes) -> bytes:
    return head(CHUNKED) + text


STATUS_LINE = [
    whole("a plain answer", head(TWO) + b"ok"),
    whole("no reason phrase", head(TWO, b"HTTP/1.1 200\r\n") + b"ok"),
    whole("an empty reason phrase", head(TWO, b"HTTP/1.1 200 \r\n") + b"ok"),
    whole("a reason phrase in Latin-1", head(TWO, b"HTTP/1.1 200 D\xe9j\xe0 vu\r\n") + b"ok"),
    whole("HTTP/1.0", head(TWO, b"HTTP/1.0 200 OK\r\n") + b"ok", kept=False),
    whole(
        "HTTP/1.0 kept alive",
        head(TWO + b"Connection: keep-alive\r\n", b"HTTP/1.0 200 OK\r\n") + b"ok",
    ),
    whole(
        "HTTP/1.0, both",
        head(TWO + b"Connection: keep-alive, close\r\n", b"HTTP/1.0 200 OK\r\n") + b"ok",
        kept=False,
    ),
    whole("status 599", head(TWO, b"HTTP/1.1 599 Odd\r\n") + b"ok", 599),
    bad("status 600", head(TWO, b"HTTP/1.1 600 Odd\r\n") + b"ok"),
    bad("status 799", head(TWO, b"HTTP/1.1 799 Odd\r\n") + b"ok"),
    whole("an unknown status", head(TWO, b"HTTP/1.1 299 Odd\r\n") + b"ok", 299),
    bad("status 099", head(TWO, b"HTTP/1.1 099 X\r\n") + b"ok"),
    bad("status 000", head(TWO, b"HTTP/1.1 000 X\r\n") + b"ok"),
    bad("status 1000", head(TWO, b"HTTP/1.1 1000 X\r\n") + b"ok"),
    bad("status 20", head(TWO, b"HTTP/1.1 20 X\r\n") + b"ok"),
    bad("status -200", head(TWO, b"HTTP/1.1 -200 X\r\n") + b"ok"),
    bad("status 200OK", head(TWO, b"HTTP/1.1 200OK\r\n") + b"ok"),
    bad("two spaces before the status", head(TWO, b"HTTP/1.1  200 OK\r\n") + b"ok"),
    bad("a tab before the status", head(TWO, b"HTTP/1.1\t200 OK\r\n") + b"ok"),
    bad("a CR in the reason phrase", head(TWO, b"HTTP/1.1 200 O\rK\r\n") + b"ok"),
    bad("HTTP/0.9 by number", head(TWO, b"HTTP/0.9 200 OK\r\n") + b"ok"),
    bad("HTTP/0.9: a body and nothing else", b"<html>hello</html>", ends=True),
    bad("HTTP/1.2", head(TWO, b"HTTP/1.2 200 OK\r\n") + b"ok"),
    bad("HTTP/1.10", head(TWO, b"HTTP/1.10 200 OK\r\n") + b"ok"),
    bad("HTTP/2.0", head(TWO, b"HTTP/2.0 200 OK\r\n") + b"ok"),
    bad("HTTP/2", head(TWO, b"HTTP/2 200 OK\r\n") + b"ok"),
    bad("http in lower case", head(TWO, b"http/1.1 200 OK\r\n") + b"ok"),
    bad("ICY", head(TWO, b"ICY 200 OK\r\n") + b"ok"),
    bad("ICE", head(TWO, b"ICE/1.0 200 OK\r\n") + b"ok"),
    bad("RTSP", head(TWO, b"RTSP/1.0 200 OK\r\n") + b"ok"),
    bad("a request", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    bad("HTTP/2's preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    bad("HTTP/2 SETTINGS", b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
    bad("a TLS alert", b"\x15\x03\x01\x00\x02\x02\x46", ends=True),
    bad("an empty line first", b"\r\n" + head(TWO) + b"ok"),
    bad("a bare LF first", b"\n" + head(TWO) + b"ok"),
    bad("a space first", b" " + head(TWO) + b"ok"),
    bad("a byte order mark first", b"\xef\xbb\xbf" + head(TWO) + b"ok"),
    bad("nothing", b"", ends=True),
    bad("only an empty line", b"\r\n\r\n", ends=True),
    bad("half a status line", b"HTTP/1.1 20", ends=True),
    bad("only a status line", b"HTTP/1.1 200 OK\r\n", ends=True),
]

FIELDS = [
    bad("bare LF after the status line", b"HTTP/1.1 200 OK\n" + TWO + b"\r\nok"),
    bad("bare LF after a field", OK + b"A: b\n" + TWO + b"\r\nok"),
    bad("bare LF at the head's end", OK + TWO + b"\nok"),
    bad("only bare LF", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
    bad("a bare CR in a value", head(b"A: b\rc\r\n" + TWO) + b"ok"),
    bad("bare CR as line ends", b"HTTP/1.1 200 OK\rContent-Length: 2\r\rok"),
    bad("NUL in a value", head(b"A: b\x00c\r\n" + TWO) + b"ok"),
    bad("a control byte in a value", head(b"A: b\x01c\r\n" + TWO) + b"ok"),
    bad("DEL in a value", head(b"A: b\x7fc\r\n" + TWO) + b"ok"),
    bad("NUL in a name", head(b"A\x00: b\r\n" + TWO) + b"ok"),
    bad("obs-fold", head(b"A: b\r\n c\r\n" + TWO) + b"ok"),
    bad("obs-fold with a tab", head(b"A: b\r\n\tc\r\n" + TWO) + b"ok"),
    bad("obs-fold of the length", head(b"Content-Length:\r\n 2\r\n") + b"ok"),
    bad("a first field that is folded", head(b" A: b\r\n" + TWO) + b"ok"),
    bad("white space before the colon", head(b"Content-Length : 2\r\n") + b"ok"),
    bad("a tab before the colon", head(b"Transfer-Encoding\t: chunked\r\n") + b"2\r\nok\r\n" + END),
    bad("no colon", head(b"Foo\r\n" + TWO) + b"ok"),
    bad("no name", head(b": x\r\n" + TWO) + b"ok"),
    bad("a space in a name", head(b"A B: x\r\n" + TWO) + b"ok"),
    bad("a name that is no token", head(b"A@: x\r\n" + TWO) + b"ok"),
    bad("a name in UTF-8", head("Ä: x\r\n".encode() + TWO) + b"ok"),
    bad("too many fields", head(b"A: b\r\n" * 300 + TWO) + b"ok"),
    bad("a field too large", head(b"A: " + b"b" * 70_000 + b"\r\n" + TWO) + b"ok"),
    bad("fields too large together", head((b"A: " + b"b" * 700 + b"\r\n") * 100 + TWO) + b"ok"),
    bad("a head without end", OK + b"A: b\r\n" * 200, ends=True),
    whole("a value in UTF-8", head("A: ü\r\n".encode() + TWO) + b"ok"),
    whole("a value with tabs", head(b"A:\tb\tc\t\r\n" + TWO) + b"ok"),
    whole("an empty value", head(b"A:\r\n" + TWO) + b"ok"),
    whole("a shadow of the length", head(b"Content_Length: 9\r\n" + TWO) + b"ok"),
]

LENGTH = [
    whole("a length of none", head(b"Content-Length: 0\r\n"), body=b""),
    whole("leading zeros", head(b"Content-Length: 002\r\n") + b"ok"),
    whole("white space around", head(b"Content-Length: \t2 \t\r\n") + b"ok"),
    bad("a list", head(b"Content-Length: 2, 2\r\n") + b"ok"),
    bad("a list of unequal ones", head(b"Content-Length: 2, 3\r\n") + b"ok"),
    bad("twice the same", head(TWO + TWO) + b"ok"),
    bad("two unequal ones", head(TWO + b"Content-Length: 3\r\n") + b"oka"),
    bad("a plus sign", head(b"Content-Length: +2\r\n") + b"ok"),
    bad("a minus sign", head(b"Content-Length: -2\r\n") + b"ok"),
    bad("hexadecimal", head(b"Content-Length: 0x2\r\n") + b"ok"),
    bad("a fraction", head(b"Content-Length: 2.0\r\n") + b"ok"),
    bad("an underscore", head(b"Content-Length: 0_2\r\n") + b"ok"),
    bad("other digits", head("Content-Length: ٢\r\n".encode()) + b"ok"),
    bad("an inner space", head(b"Content-Length: 2 2\r\n") + b"ok"),
    bad("a vertical tab", head(b"Content-Length: \x0b2\r\n") + b"ok"),
    bad("no value", head(b"Content-Length:\r\n") + b"ok"),
    bad("2^63", head(b"Content-Length: 9223372036854775808\r\n") + b"ok"),
    bad("2^64 + 2", head(b"Content-Length: 18446744073709551618\r\n") + b"ok"),
    bad("thirty digits", head(b"Content-Length: 999999999999999999999999999999\r\n") + b"ok"),
    bad("short", head(b"Content-Length: 5\r\n") + b"ok", ends=True),
    broken("short by a lot", head(b"Content-Length: 200000\r\n") + b"x" * 1000, ends=True),
    broken("short by one", head(b"Content-Length: 100000\r\n") + b"x" * 99_999, ends=True),
    broken(
        "as long as nothing is", head(b"Content-Length: 9223372036854775807\r\n") + b"ok", ends=True
    ),
    whole("over-long", head(TWO) + b"okay", kept=False),
    whole("an answer behind it", head(TWO) + b"ok" + head(TWO) + b"no", kept=False),
    whole("half an answer behind it", head(TWO) + b"ok" + b"HTTP/1.1 2", kept=False),
    whole("an empty line behind it", head(TWO) + b"ok\r\n"),
    whole(
        "a long answer, over-long",
        head(b"Content-Length: 100000\r\n") + b"x" * 100_001,
        body=b"x" * 100_000,
        kept=False,
    ),
]

CODINGS = [
    whole("chunked", chunks(b"2\r\nok\r\n" + END)),
    whole("CHUNKED", head(b"Transfer-Encoding: CHUNKED\r\n") + b"2\r\nok\r\n" + END),
    whole(
        "chunked and white space",
        head(b"Transfer-Encoding: \t chunked  \r\n") + b"2\r\nok\r\n" + END,
    ),
    bad("chunked and a tab", head(b"Transfer-Encoding: chunked\t\r\n") + b"2\r\nok\r\n" + END),
    whole("an empty chunked body", chunks(END), body=b""),
    whole("chunk sizes with zeros", chunks(b"0002\r\nok\r\n000\r\n\r\n")),
    whole(
        "chunk sizes in both cases",
        chunks(b"a\r\n0123456789\r\nA\r\n0123456789\r\n" + END),
        body=b"0123456789" * 2,
    ),
    whole("chunk extensions", chunks(b"2;a=b;c\r\nok\r\n0;d\r\n\r\n")),
    whole("a quoted chunk extension", chunks(b'2;a="b;\\"c"\r\nok\r\n' + END)),
    whole("trailers nobody asked for", chunks(b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n")),
    whole(
        "a trailer that poses as a header",
        chunks(b"2\r\nok\r\n0\r\nSet-Cookie: a=b\r\nX-Request-ID: evil\r\n\r\n"),
    ),
    whole(
        "a trailer that closes", chunks(b"2\r\nok\r\n0\r\nConnection: close\r\n\r\n"), kept=False
    ),
    bad("a length beside it", head(TWO + CHUNKED) + b"2\r\nok\r\n" + END),
    bad("a length behind it", head(CHUNKED + TWO) + b"2\r\nok\r\n" + END),
    bad(
        "chunked twice in one field",
        head(b"Transfer-Encoding: chunked, chunked\r\n") + b"2\r\nok\r\n" + END,
    ),
    bad("chunked in two fields", head(CHUNKED + CHUNKED) + b"2\r\nok\r\n" + END),
    bad("chunked with a comma", head(b"Transfer-Encoding: chunked,\r\n") + b"2\r\nok\r\n" + END),
    bad("identity", head(b"Transfer-Encoding: identity\r\n") + b"ok", ends=True),
    bad("identity beside a length", head(b"Transfer-Encoding: identity\r\n" + TWO) + b"ok"),
    bad("gzip alone", head(b"Transfer-Encoding: gzip\r\n") + b"ok", ends=True),
    bad("gzip, chunked", head(b"Transfer-Encoding: gzip, chunked\r\n") + b"2\r\nok\r\n" + END),
    bad("chunked, gzip", head(b"Transfer-Encoding: chunked, gzip\r\n") + b"2\r\nok\r\n" + END),
    bad(
        "gzip and chunked in two fields",
        head(b"Transfer-Encoding: gzip\r\n" + CHUNKED) + b"2\r\nok\r\n" + END,
    ),
    bad("xchunked", head(b"Transfer-Encoding: xchunked\r\n") + b"2\r\nok\r\n" + END),
    bad(
        "chunked with a parameter",
        head(b"Transfer-Encoding: chunked;q=1\r\n") + b"2\r\nok\r\n" + END,
    ),
    bad("chunked in quotes", head(b'Transfer-Encoding: "chunked"\r\n') + b"2\r\nok\r\n" + END),
    bad(
        "a vertical tab before chunked",
        head(b"Transfer-Encoding: \x0bchunked\r\n") + b"2\r\nok\r\n" + END,
    ),
    bad("no coding", head(b"Transfer-Encoding:\r\n") + b"ok", ends=True),
    bad("chunked in HTTP/1.0", head(CHUNKED, b"HTTP/1.0 200 OK\r\n") + b"2\r\nok\r\n" + END),
    bad(
        "chunked in HTTP/1.0, kept",
        head(CHUNKED + b"Connection: keep-alive\r\n", b"HTTP/1.0 200 OK\r\n") + END,
    ),
    broken("a chunk size with a plus", chunks(b"+2\r\nok\r\n" + END)),
    broken("a chunk size with a minus", chunks(b"-2\r\nok\r\n" + END)),
    broken("a chunk size with 0x", chunks(b"0x2\r\nok\r\n" + END)),
    broken("a chunk size with a space behind", chunks(b"2 \r\nok\r\n" + END)),
    broken("a chunk size with a space before", chunks(b" 2\r\nok\r\n" + END)),
    broken("a chunk size with an underscore", chunks(b"0_2\r\nok\r\n" + END)),
    broken("no chunk size", chunks(b"\r\nok\r\n" + END)),
    broken("a chunk size beyond 64 bits", chunks(b"10000000000000002\r\nok\r\n" + END)),
    broken("a chunk as large as can be", chunks(b"ffffffffffffffff\r\nok\r\n" + END), ends=True),
    broken("bare LF after a chunk size", chunks(b"2\nok\r\n" + END)),
    broken("bare LF after a chunk", chunks(b"2\r\nok\n" + END)),
    broken("bare LF after the last chunk size", chunks(b"2\r\nok\r\n0\n\r\n")),
    broken("bare LF at the end", chunks(b"2\r\nok\r\n0\r\n\n")),
    broken("a longer chunk than its size", chunks(b"2\r\nokay\r\n" + END)),
    broken("a shorter chunk than its size", chunks(b"5\r\nok\r\n" + END), ends=True),
    broken("bare LF in an extension", chunks(b"2;a\nok\r\n" + END)),
    broken("bare CR in an extension", chunks(b"2;a\rb\r\nok\r\n" + END)),
    broken("NUL in an extension", chunks(b"2;a\x00\r\nok\r\n" + END)),
    broken("an extension without end", chunks(b"2;" + b"a" * 400_000)),
    broken("a size of zeros without end", chunks(b"0" * 400_000)),
    broken("no last chunk", chunks(b"2\r\nok\r\n"), ends=True),
    broken("no empty line at the end", chunks(b"2\r\nok\r\n0\r\n"), ends=True),
    broken("a length in the trailers", chunks(b"2\r\nok\r\n0\r\nContent-Length: 5\r\n\r\n")),
    broken("a trailer without colon", chunks(b"2\r\nok\r\n0\r\nA b\r\n\r\n")),
    broken("a folded trailer", chunks(b"2\r\nok\r\n0\r\nA: b\r\n c\r\n\r\n")),
    broken("bare LF after a trailer", chunks(b"2\r\nok\r\n0\r\nA: b\n\r\n")),
    broken("too many trailers", chunks(b"2\r\nok\r\n0\r\n" + b"A: b\r\n" * 300 + b"\r\n")),
    broken("a trailer without end", chunks(b"2\r\nok\r\n0\r\nA: " + b"b" * 400_000)),
    whole(
        "an answer behind the last chunk",
        chunks(b"2\r\nok\r\n" + END + head(TWO) + b"no"),
        kept=False,
    ),
]

ENDINGS = [
    whole(
        "the connection's end",
        head(b"") + b"until the end",
        body=b"until the end",
        kept=False,
        ends=True,
    ),
    whole(
        "the end, and kept alive",
        head(b"Connection: keep-alive\r\n") + b"ok",
        kept=False,
        ends=True,
    ),
    whole("the end in HTTP/1.0", head(b"", b"HTTP/1.0 200 OK\r\n") + b"ok", kept=False, ends=True),
    whole("the end of nothing", head(b""), body=b"", kept=False, ends=True),
    whole("Connection: close", head(TWO + b"Connection: close\r\n") + b"ok", kept=False),
    whole(
        "close in a list", head(TWO + b"Connection: X-A, Close\r\nX-A: 1\r\n") + b"ok", kept=False
    ),
    whole(
        "close in a second field",
        head(TWO + b"Connection: keep-alive\r\nConnection: close\r\n") + b"ok",
        kept=False,
    ),
    whole(
        "Proxy-Connection: close", head(TWO + b"Proxy-Connection: close\r\n") + b"ok", kept=False
    ),
    whole("Proxy-Connection: keep-alive", head(TWO + b"Proxy-Connection: keep-alive\r\n") + b"ok"),
    whole("Upgrade on 200", head(TWO + b"Upgrade: h2c\r\nConnection: Upgrade\r\n") + b"ok"),
]

BODILESS = [
    whole("204", head(b"", b"HTTP/1.1 204 No Content\r\n"), 204, b""),
    whole(
        "204 of no length", head(b"Content-Length: 0\r\n", b"HTTP/1.1 204 No Content\r\n"), 204, b""
    ),
    whole(
        "204 that announces a body", head(TWO, b"HTTP/1.1 204 No Content\r\n"), 204, b"", kept=False
    ),
    whole(
        "204 with a body", head(TWO, b"HTTP/1.1 204 No Content\r\n") + b"ok", 204, b"", kept=False
    ),
    whole(
        "204 with chunks",
        head(CHUNKED, b"HTTP/1.1 204 No Content\r\n") + b"2\r\nok\r\n" + END,
        204,
        b"",
        kept=False,
    ),
    whole(
        "204 with an answer as body",
        head(TWO, b"HTTP/1.1 204 No Content\r\n") + head(TWO) + b"no",
        204,
        b"",
        kept=False,
    ),
    whole("304", head(b'ETag: "a"\r\n', b"HTTP/1.1 304 Not Modified\r\n"), 304, b""),
    whole("304 with a length", head(TWO, b"HTTP/1.1 304 Not Modified\r\n"), 304, b""),
    whole(
        "304 with a body", head(TWO, b"HTTP/1.1 304 Not Modified\r\n") + b"ok", 304, b"", kept=False
    ),
    whole(
        "304 with chunks",
        head(CHUNKED, b"HTTP/1.1 304 Not Modified\r\n") + b"2\r\nok\r\n" + END,
        304,
        b"",
        kept=False,
    ),
    whole(
        "205 of no length",
        head(b"Content-Length: 0\r\n", b"HTTP/1.1 205 Reset Content\r\n"),
        205,
        b"",
    ),
    whole("205 with a body", head(TWO, b"HTTP/1.1 205 Reset Content\r\n") + b"ok", 205),
    whole("HEAD", head(b"Content-Length: 5000\r\n"), body=b"", method="HEAD"),
    whole("HEAD without length", head(b""), body=b"", method="HEAD"),
    whole("HEAD chunked", head(CHUNKED), body=b"", method="HEAD"),
    whole("HEAD with a body", head(TWO) + b"ok", body=b"", kept=False, method="HEAD"),
    whole(
        "HEAD with an answer as body",
        head(TWO) + head(TWO) + b"no",
        body=b"",
        kept=False,
        method="HEAD",
    ),
    bad("HEAD with two lengths", head(TWO + b"Content-Length: 3\r\n"), method="HEAD"),
    bad("HEAD with both framings", head(TWO + CHUNKED), method="HEAD"),
]

INTERIM = [
    whole("100", b"HTTP/1.1 100 Continue\r\n\r\n" + head(TWO) + b"ok"),
    whole("103", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + head(TWO) + b"ok"),
    whole(
        "102 and 103 and 103",
        b"HTTP/1.1 102 P\r\n\r\n" + b"HTTP/1.1 103 E\r\nLink: </a>\r\n\r\n" * 2 + head(TWO) + b"ok",
    ),
    bad("103 and no more", b"HTTP/1.1 103 Early Hints\r\n\r\n", ends=True),
    bad("103 with a length", b"HTTP/1.1 103 E\r\nContent-Length: 5\r\n\r\n" + head(TWO) + b"ok"),
    bad(
        "103 with chunks",
        b"HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n" + head(TWO) + b"ok",
    ),
    bad("100 with a body", b"HTTP/1.1 100 C\r\nContent-Length: 5\r\n\r\nhello" + head(TWO) + b"ok"),
    bad("103 and nonsense", b"HTTP/1.1 103 E\r\n\r\nnonsense\r\n\r\n"),
    bad(
        "101 unasked",
        b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x81\x02hi",
    ),
    bad("101 without Upgrade", b"HTTP/1.1 101 S\r\n\r\n" + head(TWO) + b"ok"),
    whole("104", b"HTTP/1.1 104 X\r\n\r\n" + head(TWO) + b"ok"),
    whole("199", b"HTTP/1.1 199 X\r\nX-A: 1\r\n\r\n" + head(TWO) + b"ok"),
    bad("interim answers without end", b"HTTP/1.1 103 E\r\nLink: </a>\r\n\r\n" * 10_000),
]

CASES = [*STATUS_LINE, *FIELDS, *LENGTH, *CODINGS, *ENDINGS, *BODILESS, *INTERIM]

GOOD = {
    "a length": head(TWO + b"X-A: 1\r\n") + b"ok",
    "chunks": chunks(b"2\r\nok\r\n3;a=b\r\nyes\r\n0\r\nX-Sum: 1\r\n\r\n"),
    "the connection's end": head(b"X-A: 1\r\n") + b"until the end",
    "no body": head(b'ETag: "a"\r\n', b"HTTP/1.1 304 Not Modified\r\n"),
    "an interim answer": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + head(TWO) + b"ok",
}
"""Answers that are cut, by a close and by a reset, at every byte position."""
