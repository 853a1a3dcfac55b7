"""An answer that repeats the head of the one before is what the parser would have made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.traffic import TimeoutsConfig
from gateway.core.exchange import Reply
from gateway.core.failures import Failed
from gateway.upstream.connections.http1.codec import PATIENCE
from gateway.upstream.connections.http1.connection import Connection
from gateway.upstream.pool.endpoint import Endpoint
from tests.flow.corpus_responses import CASES
from tests.transport import AtOnce

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Own: a\r\n\r\n"


class Socket:
    def write(self, data: bytes) -> None:
        pass

    def abort(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default


class Quiet(Connection):
    """Nothing more waits in its socket."""

    def has_unread_input(self) -> bool:
        return False


@dataclass
class Outcome:
    """A ResponseHandler that notes what it was told."""

    said: Any = None
    ended: Any = None
    accept = b""

    def interim(self, status: int, fields: Any) -> None:
        pass

    def answered(self, reply: Reply) -> None:
        body = reply.body if isinstance(reply.body, bytes) else "stream"
        self.said = (
            reply.status,
            reply.headers,
            reply.index,
            reply.joined,
            reply.length,
            reply.reason,
            reply.blocks,
            body,
        )

    def failed(self, failed: Failed, stale: bool) -> None:
        self.said = failed.failure


class Peer:
    """A connection to an endpoint that does not exist: answers are fed to it."""

    def __init__(self) -> None:
        self.endpoint = Endpoint("origin", EndpointConfig("http://127.0.0.1:1"))
        self.connection = Quiet(AtOnce(), self.endpoint, 10)
        self.connection.connection_made(Socket())  # type: ignore[arg-type]

    def ask(self, *data: bytes, method: str = "GET", more: bool = False) -> tuple[Any, bool, bool]:
        """What became of a request that was answered so: what was said, whether the connection is
        kept, whether it repeats."""
        outcome = Outcome()
        self.endpoint.idle.clear()
        outcome.ended = lambda failed: None
        self.connection.start(
            b"?", outcome, TimeoutsConfig(), head_only=method == "HEAD", more=more
        )  # type: ignore[arg-type]
        for part in data:
            self.connection.data_received(part)
        return outcome.said, not self.connection.closed, bool(self.endpoint.idle)

    @property
    def repeats(self) -> bool:
        return self.connection._codec.repeat is not None


def warm(answer: bytes = HEAD + b"ok", method: str = "GET") -> Peer:
    """A connection that has been answered so twice, if it was kept."""
    peer = Peer()
    for _ in range(2):
        if peer.ask(answer, method=method)[1:] != (True, True):
            break
    return peer


def test_the_second_answer_is_the_one_to_repeat():
    peer = Peer()
    peer.ask(HEAD + b"ok")
    assert not peer.repeats
    peer.ask(HEAD + b"no")
    assert peer.repeats
    said, *kept = peer.ask(HEAD + b"so")
    assert said == Peer().ask(HEAD + b"so")[0]
    assert kept == [True, True]
    assert peer.repeats


@pytest.mark.parametrize(
    ("description", "answer", "repeats"),
    [
        ("a body of no bytes", HEAD.replace(b"h: 2", b"h: 0"), True),
        ("an error", HEAD.replace(b"200 OK", b"503 No") + b"ok", True),
        ("an interim answer first", b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"ok", False),
        ("an empty line behind it", HEAD + b"ok\r\n", False),
        ("chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", False),
        ("until close", b"HTTP/1.1 200 OK\r\n\r\nok", False),
        ("204", b"HTTP/1.1 204 No Content\r\n\r\n", False),
        ("304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n", False),
        ("the connection's end", HEAD.replace(b"X-Own: a", b"Connection: close") + b"ok", False),
        ("something behind it", HEAD + b"ok!", False),
        ("in pieces", b"", False),
    ],
)
def test_which_answers_are_repeatable(description: str, answer: bytes, repeats: bool) -> None:
    if answer:
        assert warm(answer).repeats is repeats
        return
    peer = Peer()
    for _ in range(3):
        peer.ask(HEAD, b"ok")
        assert not peer.repeats


@pytest.mark.parametrize(
    ("description", "parts", "how"),
    [
        ("in pieces", (HEAD + b"o", b"k"), {}),
        ("head first", (HEAD, b"ok"), {}),
        ("another head of the same size", (HEAD.replace(b"X-Own: a", b"X-Own: b") + b"ok",), {}),
        ("another length", (HEAD.replace(b"h: 2", b"h: 3") + b"ok!",), {}),
        ("one byte more", (HEAD + b"ok!",), {}),
        ("to HEAD", (HEAD,), {"method": "HEAD"}),
        ("to HEAD, with a body", (HEAD + b"ok",), {"method": "HEAD"}),
        ("before the request was sent whole", (HEAD + b"ok",), {"more": True}),
    ],
)
def test_what_is_no_repetition_is_parsed(
    description: str, parts: tuple[bytes, ...], how: dict[str, Any]
) -> None:
    peer = warm()
    assert peer.repeats
    assert peer.ask(*parts, **how) == Peer().ask(*parts, **how)


SERVED = (
    b"HTTP/1.1 200 OK\r\nDate: now\r\nContent-Length: 2\r\nConnection: keep-alive\r\nETag: "
    b"1\r\nVia: a\r\nVia: b\r\n\r\n"
)


@pytest.mark.parametrize(
    ("description", "answer", "taken"),
    [
        (
            "other values",
            SERVED.replace(b"now", b"then").replace(b"ETag: 1", b"ETag: 22") + b"ok",
            True,
        ),
        ("another length", SERVED.replace(b"h: 2", b"h: 12") + b"okokokokokok", True),
        ("no body", SERVED.replace(b"h: 2", b"h: 0"), True),
        ("a body that is not all there", SERVED.replace(b"h: 2", b"h: 3") + b"ok", False),
        ("something behind it", SERVED.replace(b"now", b"then") + b"ok!", False),
        ("a length that is none", SERVED.replace(b"h: 2", b"h: +2") + b"ok", False),
        ("a length past all bounds", SERVED.replace(b"h: 2", b"h: 0000000002") + b"ok", False),
        ("another name", SERVED.replace(b"ETag", b"Etag") + b"ok", False),
        ("another name of the length", SERVED.replace(b"Content-L", b"content-l") + b"ok", False),
        ("another status", SERVED.replace(b"200 OK", b"404 No") + b"ok", False),
        ("the connection's end", SERVED.replace(b"keep-alive", b"close") + b"ok", False),
        ("one of several lines of a name", SERVED.replace(b"Via: a", b"Via: c") + b"ok", False),
        ("white space", SERVED.replace(b"ETag: 1", b"ETag:1") + b"ok", False),
        ("beyond ASCII", SERVED.replace(b"ETag: 1", b"ETag: \xff") + b"ok", False),
        ("a field more", SERVED.replace(b"ETag: 1", b"ETag: 1\r\nX: 1") + b"ok", False),
        (
            "another order",
            SERVED.replace(b"Via: b", b"X: 1").replace(b"ETag: 1", b"Via: b") + b"ok",
            False,
        ),
    ],
)
def test_answers_with_other_values(description: str, answer: bytes, taken: bool) -> None:
    peer = warm(SERVED + b"ok")
    repeat = peer.connection._codec.repeat
    assert repeat is not None
    assert repeat.varied(answer) is taken
    for before in (SERVED, SERVED.replace(b"ETag: 1", b"ETag: 3")):  # As one in which one differs.
        peer = warm(SERVED + b"ok")
        peer.ask(before + b"ok")
        for _ in range(2):
            said = peer.ask(answer)
            assert said == Peer().ask(answer)
            if said[1:] != (True, True):
                break


@given(st.lists(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n")), max_size=5))
def test_one_value_that_differs_again_and_again(values: list[str]) -> None:
    peer = warm(SERVED + b"ok")
    for value in values:
        answer = SERVED.replace(b"ETag: 1", b"ETag: " + value.encode("latin-1")) + b"ok"
        said = peer.ask(answer)
        assert said == Peer().ask(answer)
        if said[1:] != (True, True):
            break


def test_answers_that_never_repeat_are_parsed_for_a_while():
    peer = Peer()
    recorded = 0
    for number in range(100):
        peer.ask(HEAD.replace(b"X-Own", b"X-%d" % number) + b"ok")
        recorded += peer.repeats
    assert 1 < recorded <= 1 + 100 // PATIENCE


def test_every_answer_of_the_corpus_after_every_other():
    pairs = 0
    for first in CASES:
        if not first.answer or not warm(first.answer, first.method).repeats:
            continue
        for second in CASES:
            if not second.answer:
                continue
            peer = warm(first.answer, first.method)
            assert peer.ask(second.answer, method=second.method) == Peer().ask(
                second.answer, method=second.method
            ), second.name
            pairs += 1
    assert pairs > len(CASES)


@given(st.binary(max_size=4), st.sampled_from((HEAD, HEAD[:-2], HEAD[1:], b"")))
def test_any_bytes_after_an_answer(rest: bytes, head: bytes) -> None:
    if head + rest:
        assert warm().ask(head + rest) == Peer().ask(head + rest)


def test_a_body_may_differ_and_headers_belong_to_each_reply():
    peer = warm()
    replies: list[Reply] = []

    class Kept(Outcome):
        def answered(self, reply: Reply) -> None:
            replies.append(reply)

    for body in (b"ab", b"cd"):
        peer.endpoint.idle.clear()
        peer.connection.start(b"?", Kept(), TimeoutsConfig())  # type: ignore[arg-type]
        peer.connection.data_received(HEAD + body)
        replies[-1].add(b"X-More", body)
        replies[-1].blocks.append(body)
    assert [reply.body for reply in replies] == [b"ab", b"cd"]
    assert [reply.get(b"x-more") for reply in replies] == [b"ab", b"cd"]
    assert [reply.blocks for reply in replies] == [[b"ab"], [b"cd"]]


VALUES = st.sampled_from(
    (b"a", b"0", b"1", b"2", b"3", b"02", b"close", b"chunked", b"gzip", b"", b" ", b"x y")
) | st.binary(max_size=5)
CHANGES = st.lists(st.tuples(st.integers(0, 5), VALUES), max_size=3)


@given(
    st.lists(
        st.tuples(CHANGES, st.sampled_from((b"ok", b"", b"o", b"ok\r\n", b"abc"))),
        min_size=1,
        max_size=3,
    )
)
def test_any_values_one_after_the_other(
    answers: list[tuple[list[tuple[int, bytes]], bytes]],
) -> None:
    lines = SERVED[:-4].split(b"\r\n")
    peer = warm(SERVED + b"ok")
    for changes, body in answers:
        changed = list(lines)
        for place, value in changes:
            changed[place + 1] = changed[place + 1].partition(b" ")[0] + b" " + value
        answer = b"\r\n".join(changed) + b"\r\n\r\n" + body
        said = peer.ask(answer)
        assert said == Peer().ask(answer), answer
        if said[1:] != (True, True):
            break


FEW = st.sampled_from((b"a", b"b", b"c"))


@given(st.lists(st.tuples(FEW, FEW, st.sampled_from((b"ok", b"abc"))), max_size=8))
def test_few_values_that_come_again(answers: list[tuple[bytes, bytes, bytes]]) -> None:
    """A value of an answer long before is one that differs, if others have come in between."""
    peer = warm(SERVED + b"ok")
    for date, tag, body in answers:
        head = SERVED.replace(b"now", date).replace(b"ETag: 1", b"ETag: " + tag)
        answer = head.replace(b"h: 2", b"h: %d" % len(body)) + body
        assert peer.ask(answer) == Peer().ask(answer)


def test_an_upgrade_that_is_required_again_and_again():
    answer = (
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: HTTP/3\r\nConnection: Upgrade\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    peer = Peer()
    for _ in range(4):
        assert peer.ask(answer) == Peer().ask(answer)


def test_a_challenge_that_is_of_the_connection():
    """After others, which differ in their values alone."""
    answer = HEAD.replace(b"200 OK", b"401 No").replace(b"X-Own: a", b"WWW-Authenticate: Basic")
    peer = warm(answer + b"ok")
    for challenge in (b"Digest", b"Bearer", b"NTLM"):
        other = answer.replace(b"Basic", challenge) + b"ok"
        assert peer.ask(other) == Peer().ask(other)
