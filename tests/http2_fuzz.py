"""Generated frames into the gateway's session and into h2: neither may fail, and what one takes for
a request the other has to take for the same.

h2 and libnghttp2 differ on purpose in places, which DIFFERENCES names; anything else is a fault.
"""

from __future__ import annotations

import random
import re
import struct
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from hpack import Encoder

from gateway.protocols.http2 import session as http2
from gateway.protocols.http2.session import PREFACE, Limits, Session

DIFFERENCES = {
    "priorities": "libnghttp2 ignores PRIORITY of RFC 7540, h2 checks its size and its stream",
    "closed streams": "what comes for a stream that has ended, libnghttp2 may ignore",
    "content": "libnghttp2 judges :path, :method, :scheme and :authority, a TE, and bytes that no name"
    " or value may have (RFC 9110 sections 5.1 and 5.5); h2 does not",
    "stream errors": "h2 ends the connection where libnghttp2 resets the stream",
    "cookies": "h2 joins crumbs, and puts them last, before it looks at the order of fields",
    "trailing state": "h2 stops at its first error; libnghttp2 goes on with other streams",
}

NAMES = (b":method", b":scheme", b":authority", b":path", b":status", b":protocol", b"host", b"te",
         b"cookie", b"content-length", b"connection", b"x-one", b"X-Two", b"", b"x y")  # fmt: skip
VALUES = (b"GET", b"POST", b"CONNECT", b"http", b"https", b"/", b"/a?b", b"a.test", b"trailers",
          b"0", b"3", b"close", b"a\r\nb", b"a\0", b" a", b"\xff", b"")  # fmt: skip
NAME = re.compile(rb":?[!#$%&'*+.^_`|~0-9a-z-]+")
VALUE = re.compile(rb"(?![\t ])[\t\x20-\x7e\x80-\xff]*(?<![\t ])")
GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a.test"), (b":path", b"/")]


def frame(kind: int, flags: int, stream: int, payload: bytes, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    return struct.pack("!I", size)[1:] + struct.pack("!BBI", kind & 255, flags, stream) + payload


def head(rng: random.Random) -> list[tuple[bytes, bytes]]:
    """A request's fields: good ones, mostly, with something wrong now and then."""
    fields = list(GET)
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 4))):
        change = rng.randrange(4)
        place = rng.randrange(len(fields) + 1)
        if change == 0:
            fields.insert(place, (rng.choice(NAMES), rng.choice(VALUES)))
        elif change == 1 and place < len(fields):
            del fields[place]
        elif change == 2 and place < len(fields):
            fields[place] = (fields[place][0], rng.choice(VALUES))
        else:
            fields.append(
                (b"x-%d" % rng.randrange(9), bytes(rng.randrange(33, 127) for _ in "abc"))
            )
    return fields


def generate(rng: random.Random) -> bytes:
    """What a client may send: sound frames with requests that may not be, or any frames."""
    data = PREFACE + frame(4, 0, 0, b"")
    data += messages(rng) if rng.random() < 0.6 else frames(rng)
    if rng.random() < 0.1:
        place = rng.randrange(len(data))
        data = data[:place] + rng.randbytes(rng.randrange(1, 4)) + data[place + 1 :]
    return data


def messages(rng: random.Random) -> bytes:
    """Requests on streams of their own, each with a body or none, and what may come between."""
    encoder = Encoder()
    out = b""
    for number in range(1, 2 * rng.randrange(2, 8), 2):
        ends = rng.random() < 0.7
        block = encoder.encode(head(rng), huffman=rng.random() < 0.5)
        cut = rng.randrange(len(block) + 1) if rng.random() < 0.2 else len(block)
        whole = cut == len(block)
        out += frame(1, (1 if ends else 0) | (4 if whole else 0), number, block[:cut])
        if not whole:
            out += frame(9, 4, number, block[cut:])
        if not ends:
            for _ in range(rng.randrange(3)):
                out += frame(0, 0, number, rng.randbytes(rng.randrange(20)))
            out += frame(0, 1, number, b"") if rng.random() < 0.8 else b""
        if rng.random() < 0.3:
            between = (
                frame(6, 0, 0, rng.randbytes(8)),
                frame(8, 0, 0, b"\0\0\0\x09"),
                frame(200, 255, number, rng.randbytes(9)),
            )
            out += rng.choice(between)
    return out


def frames(rng: random.Random) -> bytes:
    """Frames of any kind, on any stream. A client's GOAWAY may only be the last: after it, when to
    stop depends on when the answers go out."""
    encoder = Encoder()
    out = b""
    number = 1
    for _ in range(rng.randrange(1, 12)):
        stream = rng.choice((number, number, number, 1, 3, 0, 2, number + 2))
        kind = rng.choice((0, 0, 1, 1, 1, 1, 2, 3, 4, 5, 6, 8, 9, 16, 200))
        flags = rng.choice((0, 1, 4, 5, 5, 5, 8, 12, 32, 255))
        if kind == 1:
            payload = encoder.encode(head(rng), huffman=rng.random() < 0.5)
            number = max(number, stream + 2) if stream % 2 else number
        else:
            payload = rng.randbytes(rng.choice((0, 1, 4, 5, 6, 8, 8, 20, 300)))
        if rng.random() < 0.03:
            payload = bytes(byte ^ (rng.random() < 0.05) * 255 for byte in payload)
        length = rng.randrange(20) if rng.random() < 0.02 else None
        out += frame(kind, flags, stream, payload, length)
    return out + (frame(7, 0, 0, rng.randbytes(8)) if rng.random() < 0.1 else b"")


def ours(data: bytes, cuts: list[int]) -> tuple[list[Any], bool]:
    """The requests that the session sees, and whether it ended the connection."""
    session = Session(Limits())
    requests: list[Any] = []
    ended = False
    at = 0
    for cut in [*cuts, len(data)]:
        for event in [*session.receive(data[at:cut]), *drained(session)]:
            if type(event) is http2.RequestReceived:
                requests.append((event.stream_id, tuple(map(tuple, event.headers))))
            elif type(event) in (http2.Failed, http2.ConnectionClosed, http2.GoAwayReceived):
                ended = True
        at = cut
    return requests, ended


def drained(session: Session) -> list[Any]:
    while session.pending():
        pass
    return session.events()


def theirs(data: bytes) -> tuple[list[Any], bool]:
    """The same of h2."""
    config = h2.config.H2Configuration(client_side=False, header_encoding=False)
    peer = h2.connection.H2Connection(config)
    peer.initiate_connection()
    requests: list[Any] = []
    try:
        events = peer.receive_data(data)
    except (h2.exceptions.H2Error, ValueError, KeyError, IndexError):
        return requests, True
    requests += [
        (event.stream_id, tuple((bytes(name), bytes(value)) for name, value in event.headers))
        for event in events
        if isinstance(event, h2.events.RequestReceived)
    ]
    return requests, any(isinstance(event, h2.events.ConnectionTerminated) for event in events)


def check(rng: random.Random) -> None:
    """One piece of input. Raises AssertionError with it where something does not hold."""
    data = generate(rng)
    whole, ended = ours(data, [])
    cuts = sorted(rng.sample(range(1, len(data)), min(5, len(data) - 1)))
    pieces, _ = ours(data, cuts)
    assert whole == pieces, f"cut at {cuts}: {data.hex()}"
    seen, refused = theirs(data)
    if refused or ended:
        return  # DIFFERENCES: what each had seen by then is its own.
    known = dict(whole)
    for stream, fields in seen:
        if stream in known:
            assert ordered(known[stream]) == ordered(fields), f"stream {stream}: {data.hex()}"
        else:
            # h2 took what libnghttp2 has refused: it must be malformed.
            assert not sound(fields), f"stream {stream} was lost: {data.hex()}"
    for stream, fields in whole:
        assert stream in dict(seen) or not sound(fields), f"stream {stream}: {data.hex()}"


def ordered(fields: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
    """Fields but for cookies; see DIFFERENCES."""
    return [field for field in fields if field[0] != b"cookie"]


def sound(fields: tuple[tuple[bytes, bytes], ...]) -> bool:
    """Whether nothing is wrong with these fields of a request, as far as `head` makes it so."""
    named = [name for name, _ in fields if name[:1] == b":"]
    values = dict(fields)
    return (
        sorted(named) == sorted(name for name, _ in GET)
        and all(name[:1] == b":" for name, _ in fields[: len(named)])
        and values[b":method"] in (b"GET", b"POST")
        and values[b":scheme"] in (b"http", b"https")
        and values[b":authority"] == b"a.test"
        and values[b":path"] in (b"/", b"/a?b")
        and not {b"connection", b"cookie", b"", b"x y", b"X-Two"} & values.keys()
        and values.get(b"te", b"trailers") == b"trailers"
        and b"content-length" not in values
        and b"host" not in values
        and all(NAME.fullmatch(name) and VALUE.fullmatch(value) for name, value in fields)
    )
