"""Fields of requests over HTTP/2, and what becomes of an answer's."""

from __future__ import annotations

import pytest

from gateway.protocols.http2.session import NeverIndexed
from gateway.upstream.connections.http1.fields import MAX_FIELDS, InvalidAnswer
from gateway.upstream.connections.http2.fields import Answers, request_fields, trailer_fields
from tests.exchange import exchange


def test_a_request() -> None:
    asked = exchange(
        "POST",
        "/p",
        {"Host": "a", "X-One": "1", "Connection": "x-hop", "X-Hop": "1", "TE": "trailers"},
        request_id="id-1",
        peer="192.0.2.1",
    )
    fields = request_fields(asked, "/to?q", "host:1", b"https", None)
    assert fields[:6] == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"host:1"),
        (b":path", b"/to?q"),
        (b"x-request-id", b"id-1"),
        (b"te", b"trailers"),
    ]
    rest = dict(fields[6:])
    assert rest[b"x-one"] == b"1" and rest[b"x-forwarded-for"] == b"192.0.2.1"
    assert not rest.keys() & {b"host", b"connection", b"x-hop", b"te", b""}
    assert all(name == name.lower() for name, _ in fields)


def test_credentials_are_never_indexed() -> None:
    """Requests of other clients share the table."""
    asked = exchange(headers={"Authorization": "secret", "Cookie": "a", "X-Api-Key": "k"})
    fields = request_fields(asked, "/", "h", b"http", None)
    assert {
        name for name, *_ in (field for field in fields if isinstance(field, NeverIndexed))
    } == {b"authorization", b"cookie", b"x-api-key"}


def test_what_was_worked_out_is_worked_out_once_for_equal_fields() -> None:
    asked = exchange(headers={"X-One": "1"})
    first = request_fields(asked, "/", "h", b"http", None)
    again = exchange(headers={"X-One": "1"}, memo=asked.memo)
    assert request_fields(again, "/", "h", b"http", None) == first
    changed = exchange(headers={"X-One": "1"}, memo=asked.memo)
    changed.forward_headers = [(b"X-Two", b"2")]
    assert (b"x-two", b"2") in request_fields(changed, "/", "h", b"http", None)


@pytest.mark.parametrize(
    ("left", "said", "sent"),
    [(None, "5S", [b"5S"]), (0.25, "5S", [b"250000u"]), (0.25, "", [b"250000u"]), (None, "", [])],
)
def test_what_a_call_has_left(left: float | None, said: str, sent: list[bytes]) -> None:
    asked = exchange(headers={"grpc-timeout": said} if said else {})
    fields = request_fields(asked, "/", "h", b"http", left)
    assert [value for name, value in fields if name == b"grpc-timeout"] == sent


def test_trailers_of_a_request() -> None:
    given = [(b"X-Sum", b"1"), (b"Authorization", b"a"), (b"TE", b"b"), (b"X-Client-ID", b"c")]
    assert trailer_fields(given) == [(b"x-sum", b"1")]


def test_answers() -> None:
    answers = Answers()
    fields = ((b":status", b"200"), (b"content-length", b"5"), (b"x-a", b"1"))
    reply, again = answers.reply(fields), answers.reply(fields)
    assert (reply.status, reply.length, reply.headers) == (200, 5, [(b"x-a", b"1")])
    again.set(b"x-a", b"2")
    assert reply.get(b"x-a") == b"1" and answers.reply(fields).get(b"x-a") == b"1"
    assert answers.reply(((b":status", b"204"),)).length == 0
    with pytest.raises(InvalidAnswer):
        answers.reply(((b":status", b"600"),))
    with pytest.raises(InvalidAnswer):
        answers.reply(((b":status", b"200"), *[(b"x", b"y")] * MAX_FIELDS))
    with pytest.raises(InvalidAnswer):
        answers.reply(((b":status", b"404"), (b"x", b"y" * 70_000)))
    assert answers.reply(((b":status", b"204"),)).status == 204


def test_the_gateways_traceparent_goes_along_once() -> None:
    theirs = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    ours = theirs.replace("00f067aa0ba902b7", "53995c3f42cd8ad8")
    asked = exchange(headers={"traceparent": theirs}, traceparent=ours)
    fields = request_fields(asked, "/", "h", b"http", None)
    assert [value for name, value in fields if name == b"traceparent"] == [ours.encode()]
