"""gateway/serving/http2/head.py: what a request's fields come to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.failures import Failed, Failure
from gateway.serving.admission import FRAMING
from gateway.serving.http1.limits import Limits
from gateway.serving.http2.head import HeadReader

PSEUDO = {b":method": b"GET", b":scheme": b"https", b":authority": b"a.example", b":path": b"/x?y"}


def fields(*more: tuple[bytes, bytes], **pseudo: bytes | None) -> Any:
    named = PSEUDO | {b":" + name.encode(): value for name, value in pseudo.items()}
    return (*[(name, value) for name, value in named.items() if value is not None], *more)


@pytest.fixture
def reader() -> HeadReader:
    return HeadReader(Limits(100, 200, 5), 300)


def test_a_request_in_the_shape_of_http1(reader):
    head = reader.read(fields((b"accept", b"*/*"), (b"x-name", "ä".encode())), 1)
    assert (head.method, head.target, head.switching) == ("GET", "/x?y", False)
    assert head.raw_headers[0] == (b"host", b"a.example")
    assert dict(head.headers) == {"host": "a.example", "accept": "*/*", "x-name": "ä"}
    assert head.memo[FRAMING] == ((2, 0), "a.example")


def test_cookie_crumbs_are_one_field(reader):
    head = reader.read(fields((b"cookie", b"a=1"), (b"x", b"1"), (b"cookie", b"b=2")), 1)
    assert head.headers.getall("Cookie") == ["a=1; b=2"]


def test_te_is_named_in_connection(reader):
    head = reader.read(fields((b"te", b"trailers")), 1)
    assert head.headers["Connection"] == "TE" and head.headers["TE"] == "trailers"


def test_host_stands_in_for_an_authority_that_is_not_there(reader):
    head = reader.read(fields((b"host", b"b.example"), authority=None), 1)
    assert head.memo[FRAMING][1] == "b.example"
    same = reader.read(
        fields(
            (b"host", b"A.example"),
        ),
        1,
    )
    assert same.headers.getall("Host") == ["a.example"]


def test_requests_that_repeat_fields_share_what_was_worked_out(reader):
    first = reader.read(fields((b"x", b"1")), 1)
    again = reader.read(fields((b"x", b"1"), path=b"/other"), 1)
    assert again.memo is first.memo and again.headers is first.headers
    for other in (
        reader.read(fields((b"x", b"2")), 1),
        reader.read(fields((b"x", b"2"), authority=b"b.example"), 1),
        reader.read(fields((b"x", b"2"), authority=b"b.example"), 2),
    ):
        assert other.memo is not first.memo
        first = other


def test_a_request_id_of_its_own_leaves_what_was_worked_out(reader):
    first = reader.read(fields((b"x-request-id", b"1"), (b"x", b"1")), 1)
    other = reader.read(fields((b"x-request-id", b"22"), (b"x", b"1")), 1)
    assert other.memo is first.memo
    assert other.headers["X-Request-ID"] == "22" and first.headers["X-Request-ID"] == "1"
    assert (b"x-request-id", b"22") in other.raw_headers
    third = reader.read(fields((b"x-request-id", b"22"), (b"x", b"2")), 1)
    assert third.memo == first.memo and third.memo is not first.memo


NAMES = (b"x", b"y", b"x-request-id", b"cookie", b"te", b"host", b"content-length", b"expect")
VALUES = (b"1", b"2", b"", b" 1", b"\x01", "ä".encode(), b"trailers", b"a.example", b"z" * 150)
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=5)
REQUESTS = st.tuples(FIELDS, st.sampled_from((b"a.example", b"b.example", None)))


def alone() -> HeadReader:
    return HeadReader(Limits(100, 160, 5), 300)


def read_by(reader: HeadReader, request: tuple[list[Any], bytes | None]) -> Any:
    try:
        head = reader.read(fields(*request[0], authority=request[1]), 1)
    except Failed as failed:
        return failed.failure
    return *head[:2], [*head.headers.items()], [*head.raw_headers], head.memo[FRAMING]


@given(first=REQUESTS, changes=st.lists(st.lists(st.integers(0, 40), max_size=2), max_size=6))
def test_what_came_before_changes_nothing(first, changes):
    """A request is read as by a reader that has read no other, refusals too."""
    reader = alone()
    pairs, authority = first
    for change in ([], *changes):
        for number in change:  # Of one field the value, now and then the name.
            if pairs:
                place = number % len(pairs)
                name = NAMES[number % len(NAMES)] if number > 30 else pairs[place][0]
                pairs[place] = (name, VALUES[number % len(VALUES)])
        assert read_by(reader, (pairs, authority)) == read_by(alone(), (pairs, authority))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(b"x", b"1")], [(b"x", b"\x01")]),
        ([(b"x", b"1")], [(b"x", "ä".encode())]),
        ([(b"x", b"1")], [(b"x", b"z" * 160)]),
        ([(b"x", b"1"), (b"y", b"z" * 150)], [(b"x", b"z" * 149), (b"y", b"z" * 150)]),
        ([(b"x", b"1"), (b"x", b"2")], [(b"x", b"3"), (b"x", b"2")]),
        ([(b"x", b"1"), (b"te", b"trailers")], [(b"x", b"2"), (b"te", b"trailers")]),
        ([(b"cookie", b"a"), (b"x", b"1")], [(b"cookie", b"a"), (b"x", b"2")]),
        ([(b"cookie", b"a"), (b"cookie", b"b")], [(b"cookie", b"a"), (b"cookie", b"c")]),
    ],
)
def test_a_value_is_judged_as_if_no_other_had_come_before(before, after):
    reader = alone()
    reader.read(fields(*before), 1)
    assert read_by(reader, (after, b"a.example")) == read_by(alone(), (after, b"a.example"))


def test_a_repeated_request_is_the_same_head_and_another_path_is_judged(reader):
    for asked in (fields((b"x", b"1")), (*fields()[::-1], (b"x", b"1"))):
        first = reader.read(asked, 1)
        assert reader.read(asked, 1) is first
        at = [name for name, _ in asked].index(b":path")

        def to(path: bytes, asked=asked, at=at):
            return (*asked[:at], (b":path", path), *asked[at + 1 :])

        with pytest.raises(Failed):
            reader.read(to(b"/ "), 1)
        assert reader.read(asked, 1) is first
        other = reader.read(to(b"/other"), 1)
        assert other == first._replace(target="/other") and other.memo is first.memo


def test_a_path_without_its_like_is_remembered_for_its_method_alone(reader):
    options = fields(method=b"OPTIONS", path=b"*")
    assert reader.read(options, 1) is reader.read(options, 1)
    with pytest.raises(Failed):
        reader.read(fields(path=b"*"), 1)
    assert reader.read(options, 1).target == "*"


def test_what_was_refused_is_not_remembered(reader):
    with pytest.raises(Failed):
        reader.read(fields((b"x", b"\x01")), 1)
    with pytest.raises(Failed):
        reader.read(fields((b"x", b"\x01")), 1)


@pytest.mark.parametrize(
    ("given", "failure"),
    [
        (fields(method=b"G T"), Failure.MALFORMED),
        (fields(method=None), Failure.MALFORMED),
        (fields(method=b"A" * 65), Failure.MALFORMED),
        (fields(scheme=b"ftp"), Failure.MALFORMED),
        (fields(scheme=None), Failure.MALFORMED),
        (fields(path=b""), Failure.MALFORMED),
        (fields(path=b"/a b"), Failure.MALFORMED),
        (fields(path="/ü".encode()), Failure.MALFORMED),
        (fields(path=b"/a HTTP/1.1\r\nX: y"), Failure.MALFORMED),
        (fields(path=b"http://a.example/"), Failure.MALFORMED),
        (fields(path=b"a.example:80"), Failure.MALFORMED),
        (fields(path=b"*"), Failure.MALFORMED),
        (fields(path=b"/" + b"a" * 100), Failure.URI_TOO_LONG),
        (fields(authority=b"u@a.example"), Failure.MALFORMED),
        (fields(authority=b"a.example:x"), Failure.MALFORMED),
        (fields(authority=b"a,b"), Failure.MALFORMED),
        (fields(authority=b"a b"), Failure.MALFORMED),
        (fields(authority=None), Failure.MALFORMED),
        (fields(authority=b""), Failure.MALFORMED),
        (fields((b"host", b"b.example")), Failure.MALFORMED),
        (fields((b"host", b"a"), (b"host", b"a"), authority=None), Failure.MALFORMED),
        (fields((b"content-length", b"1"), (b"content-length", b"1")), Failure.MALFORMED),
        (fields((b"content-length", b"+1")), Failure.MALFORMED),
        (fields((b"transfer-encoding", b"chunked"), (b"content-length", b"1")), Failure.MALFORMED),
        (fields((b"expect", b"x")), Failure.EXPECTATION_FAILED),
        (fields((b"x", b"a\x0bb")), Failure.MALFORMED),
        (fields((b"x", b"a" * 200)), Failure.HEADERS_TOO_LARGE),
        (fields((b"x", b"a" * 150), (b"y", b"a" * 150)), Failure.HEADERS_TOO_LARGE),
        (fields(*[(b"x", b"1")] * 6), Failure.HEADERS_TOO_LARGE),
        (fields(method=b"CONNECT", protocol=b"connect-udp"), Failure.MALFORMED),
    ],
)
def test_what_is_refused(reader, given, failure):
    with pytest.raises(Failed) as failed:
        reader.read(given, 1)
    assert failed.value.failure is failure


def test_options_of_the_server_and_connect_are_for_admission_to_judge(reader):
    assert reader.read(fields(method=b"OPTIONS", path=b"*"), 1).target == "*"
    plain = reader.read(fields(method=b"CONNECT", path=None, scheme=None), 1)
    assert (plain.method, plain.target) == ("CONNECT", "")


def test_an_extended_connect_is_a_handshake(reader):
    given = fields(
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-key", b"mine"),
        method=b"CONNECT",
        protocol=b"websocket",
    )
    head, other = reader.read(given, 1), reader.read(given, 1)
    assert (head.method, head.target, head.switching) == ("GET", "/x?y", True)
    assert head.headers["Upgrade"] == "websocket" and head.headers["Connection"] == "Upgrade"
    assert len(head.headers.getall("Sec-WebSocket-Key")) == 1
    assert head.headers["Sec-WebSocket-Key"] != other.headers["Sec-WebSocket-Key"]


def test_a_handshake_shares_nothing_with_a_request_before_it(reader):
    """What is worked out of fields for an endpoint holds no Upgrade there."""
    plain = reader.read(fields(), 1)
    handshake = reader.read(fields(method=b"CONNECT", protocol=b"websocket"), 1)
    assert handshake.memo == plain.memo and handshake.memo is not plain.memo
    assert reader.read(fields(), 1).memo is not handshake.memo
