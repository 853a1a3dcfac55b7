"""What the parser is shown, and what becomes of it again."""

from __future__ import annotations

from collections import namedtuple

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from gateway.serving.http1.disguise import Disguise

Message = namedtuple("Message", "method headers raw_headers")


def message(method: str, *fields: tuple[str, str]) -> Message:
    raw = tuple((name.encode(), value.encode()) for name, value in fields)
    return Message(method, CIMultiDictProxy(CIMultiDict(fields)), raw)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\n"),
        (b"FOO / HTTP/1.1\r\n", b"PUT / HTTP/1.1\r\n"),
        (b"a~b /x\r\n", b"PUT /x\r\n"),
        (b"no method\r\n", b"PUT method\r\n"),
        (b"n\xff / HTTP/1.1\r\n", b"n\xff / HTTP/1.1\r\n"),
        (b"x" * 65 + b" / HTTP/1.1\r\n", b"x" * 65 + b" / HTTP/1.1\r\n"),
        (b"\r\n", b"\r\n"),
    ],
)
def test_request_lines(sent, shown):
    disguise = Disguise()
    assert disguise.request_line(sent) == shown
    assert bool(disguise) is (sent != shown)


@pytest.mark.parametrize(
    ("sent", "hidden"),
    [
        (b"Upgrade: h2c\r\n", True),
        (b"UPGRADE:\t foo/1, websocket\r\n", True),
        (b"Upgrade: WebSocket\r\n", False),
        (b"Upgrades: h2c\r\n", False),
        (b"Host: a\r\n", False),
    ],
)
def test_fields(sent, hidden):
    disguise = Disguise()
    shown = disguise.field(sent)
    assert len(shown) == len(sent) and bool(disguise) is (shown != sent) is hidden


def test_it_comes_off_once():
    disguise = Disguise()
    disguise.request_line(b"FOO / HTTP/1.1\r\n")
    disguise.field(b"Upgrade: h2c\r\n")
    found = disguise.taken_off(message("PUT", ("Host", "a"), ("`pgrade", "h2c")))
    assert (found.method, found.headers["upgrade"]) == ("FOO", "h2c")
    assert found.raw_headers == ((b"Host", b"a"), (b"Upgrade", b"h2c"))
    assert not disguise
    other = message("PUT", ("Host", "a"))
    assert disguise.taken_off(other) is other
