"""Replies whose index follows every change of their headers, and what an exchange says of
itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair, lower
from tests.exchange import exchange

NAMES = st.sampled_from([b"A", b"a", b"B", b"Vary", b"vary", b"Content-Type"])
VALUES = st.sampled_from([b"1", b"2", b"Origin", b"*"])
CHANGES = st.lists(
    st.tuples(st.sampled_from(["add", "set", "remove", "vary"]), NAMES, VALUES), max_size=12
)


def indexed(headers: list[Pair]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        key = lower(name)
        found[key] = found[key] + b", " + value if key in found else value
    return found


@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), CHANGES)
def test_the_index_is_what_the_headers_say(headers: list[Pair], changes: list[Any]):
    reply = Reply(200, headers)
    for method, name, value in changes:
        if method in ("add", "set"):
            getattr(reply, method)(name, value)
        else:
            getattr(reply, method)(lower(name) if method == "remove" else name)
        assert reply.index == indexed(reply.headers)


def test_add_set_and_remove():
    reply = Reply(200, [(b"X-A", b"1"), (b"X-B", b"2")])
    reply.add(b"x-a", b"3")
    assert reply.get(b"x-a") == b"1, 3"
    reply.set(b"X-a", b"4")
    assert reply.headers == [(b"X-B", b"2"), (b"X-a", b"4")]
    reply.remove(b"x-b")
    reply.remove(b"x-b")
    assert reply.headers == [(b"X-a", b"4")] and reply.get(b"x-b") is None


@pytest.mark.parametrize(
    ("there", "name", "expected"),
    [
        (None, b"Origin", b"Origin"),
        (b"Origin", b"Origin", b"Origin"),
        (b"Accept, origin", b"Origin", b"Accept, origin"),
        (b"*", b"Origin", b"*"),
        (b"Accept", b"Origin", b"Accept, Origin"),
        (b"Origin-Agent", b"Origin", b"Origin-Agent, Origin"),
    ],
)
def test_vary_says_a_field_once(there: bytes | None, name: bytes, expected: bytes):
    for _ in range(2):  # the second time from memory
        reply = Reply(200, [(b"Vary", there)] if there else [])
        reply.vary(name)
        reply.vary(name)
        assert reply.get(b"vary") == expected


def test_vary_does_not_remember_without_bound():
    for number in range(2000):
        reply = Reply(200, [(b"Vary", b"X-%d" % number)])
        reply.vary(b"Origin")
        assert reply.get(b"vary") == b"X-%d, Origin" % number


def test_removing_a_field_forgets_the_lines_that_were_joined():
    headers = [(b"A", b"1"), (b"B", b"2")]
    for name, joined in ((b"c", (2, b"A: 1\r\nB: 2\r\n")), (b"a", None)):
        reply = Reply.known(200, list(headers), indexed(headers), (2, b"A: 1\r\nB: 2\r\n"), 0)
        reply.remove(name)
        assert reply.joined == joined


def test_lengths():
    assert Reply(200, (), b"four").length == 4
    assert Reply(200, (), b"", length=500).length == 500  # to HEAD
    assert repr(Reply(404)) == "<Reply 404 bytes 0>"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, 499),
        ({"failed": Failed(Failure.NO_ROUTE)}, 404),
        ({"failed": Failed(Failure.NO_ROUTE), "reply": Reply(404)}, 404),
        ({"reply": Reply(200)}, 499),
        ({"reply": Reply(200), "written": True}, 200),
        (
            {"reply": Reply(200), "written": True, "failed": Failed(Failure.INCOMPLETE_RESPONSE)},
            200,
        ),
    ],
)
def test_the_status_is_what_the_client_saw(facts: dict[str, Any], expected: int):
    assert exchange(**facts).status() == expected


def test_keys_in_the_query_are_not_shown():
    made = exchange("GET", "/cameras?api_key=secret", request_id="r-1")
    assert (made.path, made.query) == ("/cameras", "api_key=secret")
    assert repr(made) == "<Exchange GET /cameras r-1>"
