"""Bytes to events, whatever the segments they come in."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.failures import Failure
from gateway.serving.codec import Data, End, Event, Head, Refused, Reset
from gateway.serving.http1.codec import QUEUE, SLICE, TAIL, Http1Codec
from gateway.serving.http1.limits import Limits
from gateway.serving.http1.repeats import KEPT, OPENINGS, Openings

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
ODD = b"FOO / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.fixture
async def codec() -> Http1Codec:
    return Http1Codec(Limits(8190, 8190, 128), 16384, asyncio.get_running_loop())


def told(events: list[Event] | tuple[Event, ...]) -> list[object]:
    """Events in short."""
    found: list[object] = []
    for event in events:
        if isinstance(event, Head):
            found.append((event.method, event.body, event.more))
        elif isinstance(event, Data):
            found.append(event.data)
        elif isinstance(event, End):
            found.append("end")
        else:
            found.append((type(event), event.failed.failure))
    return found


async def test_a_body_that_came_along_is_part_of_the_head(codec):
    assert told(codec.feed(GET)) == [("GET", None, False)]
    assert told(codec.feed(POST + b"abc")) == [("POST", b"abc", False)]
    assert told(codec.feed(POST.replace(b"3", b"0"))) == [("POST", None, False)]


async def test_a_body_that_arrives_is_data_and_its_end(codec):
    assert told(codec.feed(POST + b"a")) == [("POST", None, True), b"a"]
    assert "in a body" in repr(codec)
    assert told(codec.feed(b"b")) == [b"b"]
    assert told(codec.feed(b"c" + GET)) == [b"c", "end", ("GET", None, False)]


async def test_chunks_are_data(codec):
    assert told(codec.feed(CHUNKED + b"1\r\na\r\n")) == [("POST", None, True), b"a"]
    assert told(codec.feed(b"2\r\nbc\r\n0\r\n\r\n")) == [b"bc", "end"]


async def test_more_of_a_body_is_no_head(codec):
    """A body of more bytes than a head may have: nothing of it counts as one."""
    codec.feed(POST.replace(b"3", b"1000000"))
    for _ in range(9):
        assert told(codec.feed(bytes(100_000))) == [bytes(100_000)]
    assert codec.head_bytes == 0


async def test_a_body_of_known_length_is_passed_on_without_copies(codec):
    codec.feed(POST.replace(b"3", b"1000000"))
    for _ in range(9):
        piece = bytes(100_000)
        (event,) = codec.feed(piece)
        assert event.data is piece
    assert told(codec.feed(bytes(100_000) + GET + b"junk\r\n\r\n")) == [
        bytes(100_000),
        "end",
        ("GET", None, False),
        (Refused, Failure.MALFORMED),
    ]


async def test_nothing_follows_the_body_of_the_last_request(codec):
    codec.feed(POST.replace(b"3\r\n", b"3\r\nConnection: close\r\n") + b"a")
    assert told(codec.feed(b"bc" + GET)) == [b"bc", "end"]
    assert told(codec.feed(GET)) == [] and codec.head_bytes == 0


async def test_a_body_behind_too_many_requests_waits_for_them(codec):
    events = codec.feed(GET * (QUEUE - 1) + POST + b"a")
    assert told(events[-2:]) == [("POST", None, True), b"a"] and codec.full
    assert told(codec.feed(b"b")) == []
    for _ in range(QUEUE):
        codec.consumed()
    assert told(codec.resume()) == [b"b"]
    assert told(codec.feed(b"c" + GET)) == [b"c", "end", ("GET", None, False)]


async def test_a_request_without_a_target_has_an_empty_one(codec):
    (head,) = codec.feed(b"CONNECT \nHost: a\r\n\r\n")
    assert (head.method, head.target) == ("CONNECT", "")


async def test_a_head_that_never_ends_is_refused(codec):
    assert codec.feed(b"GET / HTTP/1.1\r\n") == []
    for number in range(10_000):
        events = codec.feed(b"X-%d: y\r\n" % number)
        if events:
            break
    assert told(events) == [(Refused, Failure.HEADERS_TOO_LARGE)]


async def test_what_is_malformed_comes_after_what_was_not(codec):
    assert told(codec.feed(GET + b"junk\r\n\r\n" + GET)) == [
        ("GET", None, False),
        (Refused, Failure.MALFORMED),
    ]
    assert codec.feed(GET) == []


async def test_a_body_ends_before_what_is_malformed_behind_it(codec):
    codec.feed(CHUNKED + b"3\r\nabc\r\n0\r\nTr")
    assert told(codec.feed(b"ailer: x\r\n\r\njunk\r\n\r\n")) == [
        "end",
        (Refused, Failure.MALFORMED),
    ]


async def test_a_malformed_body_is_reset(codec):
    codec.feed(CHUNKED)
    assert told(codec.feed(b"x\r\n")) == [(Reset, Failure.MALFORMED)]
    assert codec.feed(GET) == []


async def test_the_end_of_the_connection_within_a_body_is_a_reset(codec):
    codec.feed(POST + b"a")
    assert told(codec.eof()) == [(Reset, Failure.MALFORMED)]
    assert codec.eof() == []


async def test_requests_that_repeat_are_taken_without_parsing(codec):
    for _ in range(2):
        codec.feed(POST + b"abc")
    codec._parser = object()  # What would parse.
    assert told(codec.feed(POST + b"def")) == [("POST", b"def", False)]


async def test_a_head_with_other_values_says_so(codec):
    request = GET.replace(b"a\r\n", b"a\r\nX: %d\r\n")
    codec.feed(request % 1)
    codec.feed(request % 1)
    (head,) = codec.feed(request % 2)
    assert head.varied and head.raw_headers[1] == (b"X", b"2")


@pytest.mark.parametrize("together", [True, False])
async def test_too_many_requests_wait_as_bytes(codec, together):
    count = QUEUE * 4 if together else QUEUE
    heads = []
    if together:
        heads += codec.feed(GET * 2000)
        assert QUEUE <= len(heads) <= SLICE // len(GET) + QUEUE
    else:
        for _ in range(count):
            heads += codec.feed(GET)
        assert codec.feed(GET) == []
    assert codec.full
    assert codec.resume() == []
    for _ in heads:
        codec.consumed()
    assert codec.resume()


async def test_another_protocol_keeps_its_bytes(codec):
    (head,) = codec.feed(UPGRADE + b"frames")
    assert head.upgrade and codec.switched
    assert codec.feed(b"more") == ()
    assert codec.tail() == b"framesmore"


async def test_what_waits_behind_upgrades_that_are_declined_is_there_once(codec):
    sent = b"".join(UPGRADE.replace(b"/ws", b"/%d" % number) for number in range(2000))
    events = list(codec.feed(sent))
    for _ in range(2000):
        assert len(codec.backlog) < len(sent)
        codec.consumed()
        events += codec.decline()
    assert [event.target for event in events] == [f"/{number}" for number in range(2000)]


async def test_a_declined_upgrade_is_http_again(codec):
    codec.feed(UPGRADE + GET)
    codec.feed(POST)
    assert told(codec.decline()) == [("GET", None, False), ("POST", None, True)]
    assert told(codec.feed(b"abc")) == [b"abc", "end"]


async def test_the_bytes_of_another_protocol_are_bounded(codec):
    codec.feed(UPGRADE)
    codec.consumed()
    codec.feed(bytes(TAIL))
    assert not codec.full
    codec.feed(b"x")
    assert codec.full


@pytest.mark.parametrize(
    "sent",
    [
        GET + POST + b"abc" + GET,
        CHUNKED + b"1\r\na\r\n0\r\n\r\n" + GET,
        POST + b"abc" + UPGRADE + b"x",
        ODD + b"abc" + POST + b"abc" + ODD + b"abc" + GET,
        GET + POST + b"\r\na" + GET.replace(b"GET", b"FOO") + GET,
    ],
)
async def test_the_same_comes_out_however_it_is_split(codec, sent):
    def joined(events: list[object]) -> list[object]:
        """Without what depends on the segments: whether a body came along."""
        found: list[object] = []
        for event in events:
            if isinstance(event, tuple):
                found += [event[0], event[1] or b""]
            elif isinstance(event, bytes):
                found[-1] += event  # type: ignore[operator]
        return found

    expected = joined(told(codec.feed(sent)))
    for split in range(1, len(sent)):
        one = Http1Codec(Limits(8190, 8190, 128), 16384, asyncio.get_running_loop())
        assert joined(told([*one.feed(sent[:split]), *one.feed(sent[split:])])) == expected, split
    one = Http1Codec(Limits(8190, 8190, 128), 16384, asyncio.get_running_loop())
    bytewise = [event for at in range(len(sent)) for event in one.feed(sent[at : at + 1])]
    assert joined(told(bytewise)) == expected


async def test_nothing_is_looked_at_once_it_stopped(codec):
    codec.feed(POST + b"a")
    codec.stop()
    assert codec.feed(b"bc" + GET) == []
    assert codec.head_bytes == 0


def request(kind: str, body: bytes) -> bytes:
    """One with an upgrade to nothing here, with a method that the parser does not know, or plain."""
    method = "FOO" if kind == "odd" else "POST" if body else "GET"
    upgrade = "Connection: upgrade\r\nuPgrade: h2c\r\n" if kind == "h2c" else ""
    framing = f"Content-Length: {len(body)}\r\n" if body else ""
    return f"{method} / HTTP/1.1\r\nHost: a\r\n{upgrade}{framing}\r\n".encode() + body


REQUESTS = st.tuples(
    st.sampled_from(["plain", "odd", "h2c"]),
    st.sampled_from([b"", b"abc", b"\r\n\r\n", b"a\nb\r\n\r\nGET / HTTP/1.1\r\n", b"x" * 300]),
)


@given(st.lists(REQUESTS, min_size=1, max_size=8), st.data())
async def test_requests_of_all_kinds_come_out_however_they_are_split(requests, data):
    sent = b"".join(request(*one) for one in requests)
    cuts = data.draw(st.lists(st.integers(1, len(sent)), max_size=6).map(sorted))
    codec = Http1Codec(Limits(8190, 8190, 128), 16380, asyncio.get_running_loop())
    heads, bodies = [], []
    for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
        for event in codec.feed(sent[start:end]):
            if isinstance(event, Head):
                codec.consumed()
                heads.append(event)
                bodies.append(event.body or b"")
            elif isinstance(event, Data):
                bodies[-1] += event.data
            else:
                assert isinstance(event, End)
    assert bodies == [body for _, body in requests]
    for head, (kind, _) in zip(heads, requests, strict=True):
        assert (head.method == "FOO") is (kind == "odd")
        assert head.headers.getall("Upgrade", []) == (["h2c"] if kind == "h2c" else [])


HELLOS = [
    GET,
    GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    GET.replace(b"Host: a", b"Host: b"),
    GET.replace(b" / ", b" /a b "),
    GET.replace(b"GET", b"FOO"),
    GET[:20],
    GET + GET,
    POST,
    POST + b"abc",
    CHUNKED + b"0\r\n\r\n",
    UPGRADE,
    b"\r\n",
    b"nonsense\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
]


@given(st.lists(st.lists(st.sampled_from(HELLOS), min_size=1, max_size=4), max_size=12))
def test_what_other_connections_began_with_changes_nothing(connections: list[list[bytes]]):
    async def scenario() -> None:
        limits, openings = Limits(8190, 8190, 128), Openings()
        for segments in connections:
            loop = asyncio.get_running_loop()
            plain = Http1Codec(limits, 16384, loop)
            shared = Http1Codec(limits, 16384, loop, openings)
            for data in segments:
                found, expected = shared.feed(data), plain.feed(data)
                assert told(found) == told(expected)
                for one, other in zip(found, expected, strict=True):
                    if isinstance(one, Head) and isinstance(other, Head):
                        assert (one.target, one.close, one.raw_headers) == (
                            other.target,
                            other.close,
                            other.raw_headers,
                        )
                        assert dict(one.headers) == dict(other.headers)
                assert (shared.queued, shared.head_bytes) == (plain.queued, plain.head_bytes)
            assert told(shared.eof()) == told(plain.eof())

    asyncio.run(scenario())


async def test_a_connection_that_begins_as_another_did_is_not_parsed():
    limits, openings = Limits(8190, 8190, 128), Openings()
    loop = asyncio.get_running_loop()
    one, other = (Http1Codec(limits, 16384, loop, openings) for _ in range(2))
    [head] = one.feed(GET)
    other._parser = None
    assert other.feed(GET) == (head,) and other._parser is None
    assert other.feed(GET + GET)[0].headers is not head.headers, "the parser's, from then on"


async def test_first_requests_that_are_remembered_are_bounded():
    openings = Openings()
    for number in range(OPENINGS + 10):
        codec = Http1Codec(Limits(8190, 8190, 128), 16384, asyncio.get_running_loop(), openings)
        codec.feed(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        codec = Http1Codec(Limits(8190, 8190, 128), 16384, asyncio.get_running_loop(), openings)
        codec.feed(b"GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * KEPT))
    assert len(openings) == OPENINGS
    assert openings.get(b"GET /9 HTTP/1.1\r\nHost: a\r\n\r\n") is None
