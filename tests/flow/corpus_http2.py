"""Requests in HTTP/2 that an HTTP/1.1 endpoint behind the gateway must not read as anything else:
malformed and ambiguous ones, and a few that only look so.

Encoded by hand, with HPACK's own encoder, since no client's library would send most of them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from hpack import Encoder

Fields = list[tuple[bytes, bytes]]

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS = 1, 4
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\n"


class Case(NamedTuple):
    """One request. data: DATA frames, then maybe trailers.

    passes: None where nothing may reach the endpoint; else the request line and the client's own
    fields, as the endpoint has to receive them, and all of the data. cut: it turns out to be
    malformed behind its head, so that it may have been begun; its body must not come to an end,
    but where what its length says, `whole`, was there.
    """

    name: str
    fields: Fields
    data: tuple[bytes, ...] = ()
    trailers: Fields | None = None
    passes: tuple[bytes, Fields] | None = None
    ends: bool = True
    cut: bool = False
    whole: bytes = b""

    def frames(self) -> bytes:
        """Its frames, on stream 1."""
        encoder = Encoder()
        last = not self.data and self.trailers is None and self.ends
        out = frame(HEADERS, encoder.encode(self.fields, huffman=False), last)
        for place, piece in enumerate(self.data):
            final = place == len(self.data) - 1 and self.trailers is None and self.ends
            out += frame(DATA, piece, final)
        if self.trailers is not None:
            out += frame(HEADERS, encoder.encode(self.trailers, huffman=False), self.ends)
        return out


def frame(kind: int, payload: bytes, end: bool = False) -> bytes:
    flags = (END_STREAM if end else 0) | (END_HEADERS if kind == HEADERS else 0)
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, 1) + payload


PSEUDO = {b":method": b"GET", b":scheme": b"http", b":authority": b"a.test", b":path": b"/p"}


def head(*more: tuple[bytes, bytes], **pseudo: bytes | None) -> Fields:
    """A head with these pseudo-fields; None leaves one out."""
    named = PSEUDO | {b":" + name.encode(): value for name, value in pseudo.items()}
    return [*((name, value) for name, value in named.items() if value is not None), *more]


def post(*more: tuple[bytes, bytes]) -> Fields:
    return head(*more, method=b"POST")


def line(method: bytes = b"GET", target: bytes = b"/p") -> bytes:
    return b"%b %b HTTP/1.1" % (method, target)


def pseudo_fields() -> Iterator[Case]:
    for name in ("method", "scheme", "path"):
        yield Case(f"no {name}", head(**{name: None}))
        yield Case(f"an empty {name}", head(**{name: b""}))
    yield Case("no authority, no host", head(authority=None))
    yield Case("an empty authority", head(authority=b""))
    for name, value in PSEUDO.items():
        yield Case(f"{name.decode()} twice", [*head(), (name, value)])
        yield Case(f"{name.decode()} twice, in front", [(name, value), *head()])
        yield Case(f"{name.decode()} twice, differing", [(name, value + b"x"), *head()])
    yield Case("one that is unknown", [*head(), (b":extra", b"1")])
    yield Case("one of answers", [(b":status", b"200"), *head()])
    yield Case("one behind a field", [*head(path=None), (b"x", b"1"), (b":path", b"/p")])
    yield Case("one in upper case", [*head(path=None), (b":Path", b"/p")])
    yield Case("a nameless one", [*head(), (b":", b"1")])
    yield Case("protocol without the setting", head(method=b"CONNECT", protocol=b"websocket"))
    yield Case("protocol of a GET", head(protocol=b"websocket"))
    yield Case("CONNECT with a path", head(method=b"CONNECT"))
    yield Case("CONNECT", head(method=b"CONNECT", path=None, scheme=None))
    yield Case("CONNECT to nobody", head(method=b"CONNECT", path=None, scheme=None, authority=None))
    for scheme in (b"ftp", b"http://x", b"http\r\nX: y", b"javascript", b"HTTP "):
        yield Case(f"scheme {scheme!r}", head(scheme=scheme))


def targets() -> Iterator[Case]:
    for path in (
        b"/a b",
        b"/a\tb",
        b"/a\rb",
        b"/a\nb",
        b"/a\x00b",
        b"/a\x0bb",
        b"/a\x7fb",
        b"/a\x80b",
        "/ü".encode(),
        b"/p HTTP/1.1",
        b"/p HTTP/1.1\r\nX-Evil: 1",
        b"/p HTTP/1.1\r\nHost: evil.test\r\n\r\n" + SMUGGLED,
        b"/p HTTP/1.0\n\n",
        b" /p",
        b"/p ",
        b"http://evil.test/",
        b"https://a.test/p",
        b"HTTP://evil.test",
        b"evil.test:80",
        b"a/b",
        b"?query",
        b"*",
        b"",
        b"\\p",
        b"/p#fragment",
        b"/%00",
        b"/a/../b",
        b"/%2e%2e/b",
        b"/%zz",
    ):
        yield Case(f"path {path[:30]!r}", head(path=path))
    for path in (b"/%0d%0aX:1", b"/a?b=http://evil.test/%20HTTP/1.1", b"/a?b=c&d"):
        yield Case(f"path {path!r}", head(path=path), passes=(line(target=path), []))


def methods() -> Iterator[Case]:
    for method in (
        b"GET ",
        b" GET",
        b"GE T",
        b"GET /smuggled HTTP/1.1\r\nHost: evil.test\r\n\r\nGET",
        b"GET\r\nX: y",
        b"GET\x00",
        b"get",
        b"Post",
        b"G(T",
        b"G:T",
        b"G\xc3\x84T",
        b"A" * 65,
        b"TRACE",
    ):
        yield Case(f"method {method[:20]!r}", head(method=method))


def authorities() -> Iterator[Case]:
    for authority in (
        b"a.test\r\nX-Evil: 1",
        b"a.test\r\n\r\n" + SMUGGLED,
        b"a.test\n",
        b"a\x00.test",
        b"a test",
        b"a.test\t",
        b"user@a.test",
        b"user:password@a.test",
        b"a.test,evil.test",
        b"a.test:",
        b"a.test:x",
        b"a.test:99999",
        b"a.test/evil",
        b"a.test?x",
        b"a.test#x",
        b"a.test\\evil",
        b"[::1",
        b"[fe80::1%25eth0]",
        b"http://a.test",
        "ä.test".encode(),
    ):
        if authority != b"a.test:":
            yield Case(f"authority {authority[:24]!r}", head(authority=authority))
    yield Case("another host", head((b"host", b"evil.test")))
    yield Case("another port", head((b"host", b"a.test:81")))
    yield Case("two hosts", head((b"host", b"a.test"), (b"host", b"evil.test")))
    yield Case("two hosts, no authority", head(*[(b"host", b"a.test")] * 2, authority=None))
    yield Case("an empty host, no authority", head((b"host", b""), authority=None))
    yield Case("a host with CRLF", head((b"host", b"a.test\r\nX: y"), authority=None))
    yield Case("the same host", head((b"host", b"A.test")), passes=(line(), []))
    yield Case("only a host", head((b"host", b"a.test"), authority=None), passes=(line(), []))


def fields() -> Iterator[Case]:
    for name in (
        b"X-Upper",
        b"x y",
        b"x:y",
        b"x\r\ny",
        b"x\n",
        b"x\x00",
        b"",
        b"x@y",
        b"x\xc3\xa4",
        b"x ",
        b" x",
        b"\tx",
        b"x-evil: 1\r\nx",
        b"(x)",
    ):
        yield Case(f"name {name!r}", head((name, b"1")))
    for value in (
        b"a\rb",
        b"a\nb",
        b"a\r\nb",
        b"a\r\nX-Evil: 1",
        b"a\r\n\r\n" + SMUGGLED,
        b"a\r\n b",
        b"a\x00b",
        b"\x01",
        b"a\x0bb",
        b"a\x7fb",
        b"a\r",
        b"\na",
    ):
        yield Case(f"value {value[:16]!r}", head((b"x-value", value)))
        yield Case(f"cookie {value[:16]!r}", head((b"cookie", b"a=1"), (b"cookie", value)))
    yield Case("white space before a value", head((b"x-value", b" a")))
    yield Case("white space behind a value", head((b"x-value", b"a ")))
    yield Case(
        "a tab within a value", head((b"x-tab", b"a\tb")), passes=(line(), [(b"x-tab", b"a\tb")])
    )
    yield Case(
        "bytes beyond ASCII",
        head((b"x-raw", b"\xff\xc3")),
        passes=(line(), [(b"x-raw", b"\xff\xc3")]),
    )
    yield Case(
        "cookie crumbs",
        head((b"cookie", b"a=1"), (b"x-one", b"1"), (b"cookie", b"b=2; c=3")),
        passes=(line(), [(b"x-one", b"1"), (b"cookie", b"a=1; b=2; c=3")]),
    )
    yield Case("another expectation", post((b"expect", b"200-ok")), (b"",))


def of_a_connection() -> Iterator[Case]:
    for name, value in (
        (b"connection", b"close"),
        (b"connection", b"x-forwarded-for"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"keep-alive"),
        (b"transfer-encoding", b"chunked"),
        (b"transfer-encoding", b"identity"),
        (b"transfer-encoding", b""),
        (b"Transfer-Encoding", b"chunked"),
        (b"upgrade", b"h2c"),
        (b"upgrade", b"websocket"),
        (b"te", b"gzip"),
        (b"te", b"trailers, chunked"),
        (b"te", b""),
    ):
        named = f"{name.decode()}: {value.decode()}"
        yield Case(named, post((name, value)), (b"0\r\n\r\n" + SMUGGLED,))
    yield Case(
        "a coding beside a length",
        post((b"transfer-encoding", b"chunked"), (b"content-length", b"6")),
        (b"0\r\n\r\nG",),
    )


def lengths() -> Iterator[Case]:
    body = b"0\r\n\r\n" + SMUGGLED
    for value in (
        b"4",
        b"0",
        b"1000",
        b"+%d" % len(body),
        b"-1",
        b"0x20",
        b"",
        b" %d" % len(body),
        b"%d " % len(body),
        b"%d, %d" % (len(body), len(body)),
        b"1_0",
        b"%d" % 2**63,
        b"%d" % 2**64,
        b"99999999999999999999999",
    ):
        fault = Case(f"a length of {value!r}", post((b"content-length", value)), (body,))
        yield fault._replace(cut=value.isdigit() and len(value) < 6)
    for pair in ((b"5", b"6"), (b"%d" % len(body),) * 2):
        yield Case(
            f"two lengths {pair}", post(*[(b"content-length", value) for value in pair]), (body,)
        )
    yield Case("a length and no body", post((b"content-length", b"5")))
    yield Case("a GET that announces a body", head((b"content-length", b"5")))
    right = (b"content-length", b"%d" % len(body))
    yield Case(
        "what looks smuggled, in a body", post(right), (body,), passes=(line(b"POST"), [right])
    )
    yield Case("the same in pieces", post(), (body[:3], b"", body[3:]), passes=(line(b"POST"), []))
    yield Case(
        "no body and that length",
        post((b"content-length", b"0")),
        passes=(line(b"POST"), [(b"content-length", b"0")]),
    )
    yield Case(
        "more than the length, later",
        post((b"content-length", b"3")),
        (b"abc", b"def"),
        cut=True,
        whole=b"abc",
    )


def trailers() -> Iterator[Case]:
    for name, value in (
        (b":path", b"/evil"),
        (b":status", b"200"),
        (b"X-Upper", b"1"),
        (b"x", b"a\r\nb"),
        (b"x", b"a\x00"),
        (b"connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"x y", b"1"),
        (b"content-length", b"0"),
    ):
        named = f"trailer {name.decode()}: {value!r}"
        yield Case(named, post(), (b"abc",), [(name, value)], cut=True)
    for pair in ((b"x-sum", b"1"), (b"host", b"evil.test"), (b"authorization", b"x")):
        name = f"trailer {pair[0].decode()}"
        yield Case(name, post(), (b"abc",), [pair], passes=(line(b"POST"), []))
    yield Case("trailers that do not end", post(), (b"abc",), [(b"x", b"1")], ends=False, cut=True)


SECTIONS = {
    "pseudo-fields": list(pseudo_fields()),
    "targets": list(targets()),
    "methods": list(methods()),
    "authorities": list(authorities()),
    "fields": list(fields()),
    "of a connection": list(of_a_connection()),
    "lengths": list(lengths()),
    "trailers": list(trailers()),
}
