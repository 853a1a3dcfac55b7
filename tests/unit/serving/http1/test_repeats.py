"""Whatever is taken without parsing is what the parser would have made of it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.serving.codec import Event, Head
from gateway.serving.http1.codec import Http1Codec
from gateway.serving.http1.limits import Limits
from gateway.serving.http1.repeats import KEPT, Repeat, repeatable
from tests.flow.corpus_requests import CASES

FIELDS = b"Host: a\r\nX-Key: 1\r\n"
GET = b"GET /first HTTP/1.1\r\n" + FIELDS + b"\r\n"
LONGEST = 64


def parsed(data: bytes) -> list[Event]:
    """What a fresh parser makes of it."""
    loop = asyncio.new_event_loop()
    try:
        return list(Http1Codec(Limits(8190, 8190, 128), 2**16, loop).feed(data))
    finally:
        loop.close()


def repeat_of(data: bytes) -> Repeat | None:
    events = parsed(data)
    if len(events) != 1 or not isinstance(events[0], Head):
        return None
    return repeatable(data, events[0], LONGEST)


def take(repeat: Repeat, data: bytes) -> Head | None:
    """What is taken of it without parsing, in either way; `repeat` is then what the next is held
    against."""
    taken = repeat.taken(data)
    varied = repeat.varied(data)
    assert taken is None or taken == varied._replace(varied=False, same=False)  # type: ignore[union-attr]
    return varied


def same(repeat: Repeat, data: bytes) -> bool:
    """Whether the parser agrees with what was taken; where nothing is, it is the only one asked."""
    found = take(repeat, data)
    if found is None:
        return True
    [head] = parsed(data)
    assert isinstance(head, Head)
    return facts(head) == facts(found)


def facts(head: Head) -> tuple[object, ...]:
    _, _, headers, raw_headers, *_ = head
    return (*head[:2], list(headers.items()), list(raw_headers), *head[4:9])


@pytest.mark.parametrize(
    ("description", "data", "target"),
    [
        ("the same again", GET, "/first"),
        ("no fields", b"GET / HTTP/1.1\r\n\r\n", None),
        (
            "another target",
            b"GET /second?a=%2F&b HTTP/1.1\r\n" + FIELDS + b"\r\n",
            "/second?a=%2F&b",
        ),
        ("another method", b"HEAD /first HTTP/1.1\r\n" + FIELDS + b"\r\n", "/first"),
        ("one that may have a body", b"POST /first HTTP/1.1\r\n" + FIELDS + b"\r\n", "/first"),
        ("other letters of a method", b"get /first HTTP/1.1\r\n" + FIELDS + b"\r\n", None),
        ("another version", b"GET /first HTTP/1.0\r\n" + FIELDS + b"\r\n", None),
        ("another value", b"GET /first HTTP/1.1\r\nHost: a\r\nX-Key: 2\r\n\r\n", "/first"),
        ("another name", b"GET /first HTTP/1.1\r\nHost: a\r\nX-Other: 1\r\n\r\n", None),
        ("a field more", b"GET /first HTTP/1.1\r\n" + FIELDS + b"A: b\r\n\r\n", None),
        ("a field less", b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n", None),
        ("no Host", b"GET /first HTTP/1.1\r\nX-Key: 1\r\n\r\n", None),
        ("a Host elsewhere", b"GET /first HTTP/1.1\r\nA: b\r\n" + FIELDS + b"\r\n", None),
        ("another Host", b"GET /first HTTP/1.1\r\nHost: b\r\nX-Key: 1\r\n\r\n", None),
        (
            "the connection's end",
            b"GET /first HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            None,
        ),
        ("a length", b"GET /first HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", None),
        (
            "a name twice",
            b"GET /first HTTP/1.1\r\nHost: a\r\nUser-Agent: a\r\nuser-agent: b\r\n\r\n",
            None,
        ),
        (
            "white space before the colon",
            b"GET /first HTTP/1.1\r\nHost: a\r\nX-Key : 1\r\n\r\n",
            None,
        ),
        ("a folded line", b"GET /first HTTP/1.1\r\nHost: a\r\nX-Key: 1\r\n 2\r\n\r\n", None),
        ("a bare LF", b"GET /first HTTP/1.1\r\nHost: a\r\nX-Key: 1\nA: b\r\n\r\n", None),
        ("a tab", b"GET /first HTTP/1.1\r\nHost: a\r\nX-Key: 1\t2\r\n\r\n", None),
        ("beyond ASCII in a value", b"GET /first HTTP/1.1\r\nHost: a\r\nX-Key: \xe9\r\n\r\n", None),
        ("no value", b"GET /first HTTP/1.1\r\nHost: a\r\nX-Key:\r\n\r\n", None),
        (
            "a long field",
            b"GET /first HTTP/1.1\r\nHost: a\r\nX-Key: " + b"1" * LONGEST + b"\r\n\r\n",
            None,
        ),
        ("a request behind it", GET + GET, None),
        ("only its beginning", GET[:-1], None),
        ("only its end", GET[3:], None),
        ("absolute form", b"GET http://b/ HTTP/1.1\r\n" + FIELDS + b"\r\n", None),
        ("a fragment", b"GET /a#b HTTP/1.1\r\n" + FIELDS + b"\r\n", None),
        ("a control byte", b"GET /a\x00 HTTP/1.1\r\n" + FIELDS + b"\r\n", None),
        ("two spaces", b"GET  /a HTTP/1.1\r\n" + FIELDS + b"\r\n", None),
        ("beyond ASCII", b"GET /\xc3\xa9 HTTP/1.1\r\n" + FIELDS + b"\r\n", None),
        ("a long target", b"GET /" + b"a" * LONGEST + b" HTTP/1.1\r\n" + FIELDS + b"\r\n", None),
    ],
)
def test_what_is_taken(description: str, data: bytes, target: str | None) -> None:
    repeat = repeat_of(GET)
    assert repeat is not None
    assert same(repeat, data)
    found = take(repeat, data)
    assert (found and found.target) == target


@pytest.mark.parametrize(
    ("description", "data"),
    [
        (
            "a body in chunks",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        ),
        (
            "an empty body in chunks",
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a body that is not all there",
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx",
        ),
        ("another method", b"OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        ("the connection's end", b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        (
            "an upgrade",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ),
        ("HTTP/1.0", b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
        ("an empty line before it", b"\r\n" + GET),
        ("an odd target", b"GET /a|b HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("no fields", b"GET / HTTP/1.1\r\n\r\n"),
    ],
)
def test_what_is_not_remembered(description: str, data: bytes) -> None:
    assert parsed(data)
    assert repeat_of(data) is None


def test_every_request_of_the_corpus_against_every_other():
    """Whichever comes second is parsed, or taken for what the parser says it is."""
    sent = [case.sent for case in CASES if repeat_of(case.sent) is not None]
    assert len(sent) >= 20
    taken = 0
    for first in sent:
        repeat = repeat_of(first)
        assert repeat is not None
        for case in CASES:
            if take(repeat, case.sent) is not None:
                repeat = repeat_of(first)
                assert repeat is not None
                assert same(repeat, case.sent), case.sent
                taken += 1
    assert taken >= len(sent)


@given(
    st.binary(max_size=24),
    st.sampled_from((b"GET ", b"GET /", b"")),
    st.sampled_from((b" HTTP/1.1", b"")),
)
def test_any_bytes_for_a_request_line(middle: bytes, before: bytes, after: bytes) -> None:
    repeat = repeat_of(GET)
    assert repeat is not None
    assert same(repeat, before + middle + after + b"\r\n" + FIELDS + b"\r\n")


NAMES = st.sampled_from(
    b"Host X-Key x-key Connection Content-Length Transfer-Encoding Upgrade Expect TE User-Agent "
    b"Accept Content-Type Cookie "
    b"Keep-Alive Proxy-Connection Trailer X-Request-ID Sec-WebSocket-Key1".split()
)
VALUES = st.one_of(
    st.sampled_from(
        (
            b"1",
            b"a",
            b"0",
            b"close",
            b"keep-alive",
            b"chunked",
            b"100-continue",
            b"h2c",
            b"trailers",
            b"a b",
        )
    ),
    st.binary(max_size=6),
)
FIELD = st.tuples(
    NAMES | st.binary(min_size=1, max_size=4),
    st.sampled_from((b": ", b":", b" : ", b":\t", b"")),
    VALUES,
)


@given(st.lists(FIELD, max_size=5), st.lists(FIELD, max_size=5), st.integers(0, 2))
def test_any_fields_one_after_the_other(
    first: list[tuple[bytes, ...]], second: list[tuple[bytes, ...]], kept: int
) -> None:
    """Two changes in a row: what is taken is what the parser says it is, and it is never taken
    where the parser refuses."""
    repeat = repeat_of(GET)
    assert repeat is not None
    for fields in (first, second):
        lines = [*FIELDS.split(b"\r\n")[:kept], *(b"".join(field) for field in fields)]
        data = b"GET / HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        assert same(repeat, data), data


LINES = (b"Host: a", b"X-Key: 1", b"User-Agent: u", b"Connection: keep-alive", b"Content-Length: 0")
CHANGES = st.lists(st.tuples(st.integers(0, len(LINES) - 1), VALUES), max_size=3)


@given(st.lists(CHANGES, min_size=1, max_size=3))
def test_any_values_one_after_the_other(requests: list[list[tuple[int, bytes]]]) -> None:
    repeat = repeat_of(b"GET / HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in LINES) + b"\r\n")
    assert repeat is not None
    for changes in requests:
        lines = list(LINES)
        for place, value in changes:
            lines[place] = lines[place].partition(b" ")[0] + b" " + value
        data = b"GET / HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        assert same(repeat, data), data


POST = b"POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nX-Key: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("description", "data", "body"),
    [
        ("the same again", POST + b"abcd", b"abcd"),
        ("another body", POST + b"\r\n\r\n", b"\r\n\r\n"),
        ("another target", POST.replace(b"/first", b"/b") + b"abcd", b"abcd"),
        ("another method", POST.replace(b"POST", b"PUT") + b"abcd", b"abcd"),
        ("a longer body", POST.replace(b": 4", b": 10") + b"0123456789", b"0123456789"),
        (
            "another value and a shorter body",
            POST.replace(b": 4", b": 1").replace(b"Key: 1", b"Key: 2") + b"a",
            b"a",
        ),
        ("no body", POST.replace(b": 4", b": 0"), b""),
        ("leading zeros", POST.replace(b": 4", b": 004") + b"abcd", b"abcd"),
        ("a body that is not all there", POST + b"abc", None),
        ("more than the body", POST + b"abcde", None),
        ("a request behind it", POST + b"abcd" + GET, None),
        ("a longer length, the same bytes", POST.replace(b": 4", b": 5") + b"abcd", None),
        ("a shorter length, the same bytes", POST.replace(b": 4", b": 3") + b"abcd", None),
        ("a head within the body", POST.replace(b": 4", b": 26") + GET[:26], GET[:26]),
        ("a length with a sign", POST.replace(b": 4", b": +4") + b"abcd", None),
        ("a list of lengths", POST.replace(b": 4", b": 4, 4") + b"abcd", None),
        ("no length", POST.replace(b"Content-Length: 4", b"Content-Lengtj: 4") + b"abcd", None),
        (
            "chunks instead",
            POST.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
            None,
        ),
        (
            "chunks beside it",
            POST.replace(b"X-Key: 1", b"Transfer-Encoding: chunked") + b"abcd",
            None,
        ),
        (
            "another length in place of a field",
            POST.replace(b"X-Key: 1", b"Content-Length: 4") + b"abcd",
            None,
        ),
        ("a length of ten digits", POST.replace(b": 4", b": 0000000004") + b"abcd", None),
    ],
)
def test_what_is_taken_of_requests_with_bodies(
    description: str, data: bytes, body: bytes | None
) -> None:
    repeat = repeat_of(POST + b"body")
    assert repeat is not None
    found = take(repeat, data)
    assert (None if found is None else found.body or b"") == body
    repeat = repeat_of(POST + b"body")
    assert repeat is not None
    assert same(repeat, data)


LENGTHS = st.sampled_from((b"0", b"1", b"4", b"5", b"04", b"+4", b"4 ", b"4,4", b"-1", b"0x4", b""))
BODIES = st.one_of(
    st.binary(max_size=6), st.sampled_from((GET, b"\r\n\r\n", b"4\r\nabcd\r\n0\r\n\r\n"))
)


@given(st.lists(st.tuples(LENGTHS, VALUES, BODIES), min_size=1, max_size=3))
def test_any_lengths_and_bodies_one_after_the_other(
    requests: list[tuple[bytes, bytes, bytes]],
) -> None:
    repeat = repeat_of(POST + b"body")
    assert repeat is not None
    for length, value, body in requests:
        data = (
            POST.replace(b"Length: 4", b"Length: " + length).replace(b"Key: 1", b"Key: " + value)
            + body
        )
        assert same(repeat, data), data


def test_the_same_bytes_are_the_same_head_until_fields_differ() -> None:
    repeat = repeat_of(GET)
    assert repeat is not None
    head = repeat.taken(GET)
    assert head is not None and repeat.taken(bytes(bytearray(GET))) is head
    other = GET.replace(b"X-Key: 1", b"X-Key: 2")
    assert repeat.taken(other) is None and repeat.varied(other) is not None
    assert repeat.taken(GET) is None
    again = repeat.taken(other)
    assert again is not None and again.headers["X-Key"] == "2"


def test_a_long_request_is_not_kept() -> None:
    body = bytes(KEPT)
    post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % KEPT
    repeat = repeat_of(post + body)
    assert repeat is not None
    head = repeat.taken(post + body)
    assert head is not None and head.body == body
    assert repeat.taken(post + body) is not head


PLAIN = st.text("azAZ09-_ ", min_size=1, max_size=12).map(str.encode)
ODD = st.sampled_from(
    (b"", b" ", b"a\r\nb", b"a\r\nX: y", b"a\r\n\r\nGET / HTTP/1.1", b"\xe9", b"a\t")
)


@given(st.integers(0, len(LINES) - 1), st.lists(PLAIN | ODD, min_size=2, max_size=5))
def test_one_value_over_and_over(place: int, values: list[bytes]) -> None:
    """The value that differed last time is looked for first: a request id, a trace."""
    repeat = repeat_of(b"GET / HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in LINES) + b"\r\n")
    assert repeat is not None
    for value in values:
        lines = list(LINES)
        lines[place] = lines[place].partition(b" ")[0] + b" " + value
        data = b"GET / HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
        assert same(repeat, data), data


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ((b"X-Request-ID: 1", b"A: 1"), (b"X-Request-ID: 2", b"A: 1"), True),
        ((b"x-request-id: 1", b"A: 1"), (b"x-request-id: 2", b"A: 1"), True),
        ((b"X-Request-ID: 1", b"A: 1"), (b"X-Request-ID: 2", b"A: 2"), False),
        ((b"X-Request-ID: 1", b"A: 1"), (b"X-Request-ID: 1", b"A: 2"), False),
        ((b"X_Request_ID: 1", b"A: 1"), (b"X_Request_ID: 2", b"A: 1"), False),
        (
            (b"X-Request-ID: 1", b"Content-Length: 0"),
            (b"X-Request-ID: 2", b"Content-Length: 00"),
            False,
        ),
    ],
)
def test_fields_are_the_same_if_only_the_request_id_differs(
    first: tuple[bytes, ...], second: tuple[bytes, ...], same: bool
) -> None:
    one, other = [
        b"GET / HTTP/1.1\r\n" + b"\r\n".join((b"Host: a", *fields, b"", b""))
        for fields in (first, second)
    ]
    repeat = repeat_of(one)
    assert repeat is not None
    for data in (other, one, other):
        head = repeat.varied(data)
        assert head is not None and head.same is same


def test_after_one_value_has_varied_others_may() -> None:
    repeat = repeat_of(GET)
    assert repeat is not None
    for fields in (
        (b"Host: a", b"X-Key: 2"),
        (b"Host: a", b"X-Key: 34"),
        (b"Host: a", b"X-Kez: 34"),
        (b"Host: a", b"X-Key: 34", b"A: b"),
        (b"Host: a", b"X-Key: 5"),
    ):
        data = b"GET /b HTTP/1.1\r\n" + b"\r\n".join((*fields, b"", b""))
        assert same(repeat, data), data
    assert repeat.raw_headers == [(b"Host", b"a"), (b"X-Key", b"5")]
