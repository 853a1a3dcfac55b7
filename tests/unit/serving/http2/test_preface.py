"""gateway/serving/http2/preface.py: the first bytes tell the version."""

from __future__ import annotations

import asyncio

import pytest

from gateway.protocols.http2.session import PREFACE
from gateway.serving.http1.codec import Http1Codec
from gateway.serving.http1.limits import Limits
from gateway.serving.http2.preface import Preface
from tests.unit.serving.memory import Transport, World


class Chosen(asyncio.Protocol):
    def __init__(self, http2: bool) -> None:
        self.http2 = http2
        self.data = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data


class Undecided(World):
    def __init__(self) -> None:
        super().__init__()
        self.chosen: Chosen | None = None
        codec = Http1Codec(Limits(8190, 8190, 128), 16384, asyncio.get_running_loop())
        self.transport = Transport()
        self.transport.set_protocol = lambda protocol: None
        self.connection = Preface(self, codec, "", known=self.known)
        self.connection.connection_made(self.transport)

    def known(self, http2: bool) -> Chosen:
        self.chosen = Chosen(http2)
        return self.chosen


@pytest.mark.parametrize(
    ("pieces", "http2"),
    [
        ([PREFACE + b"more"], True),
        ([PREFACE[:1], PREFACE[1:23], PREFACE[23:] + b"more"], True),
        ([b"GET / HTTP/1.1\r\n\r\n"], False),
        ([b"P", b"OST /"], False),
        ([b"PRI * HTTP/2.0\r\n\r\nXX"], False),
    ],
)
async def test_the_version_is_told_by_the_first_bytes(pieces, http2):
    world = Undecided()
    for place, piece in enumerate(pieces):
        assert (world.chosen is None) or place == 0
        world.connection.data_received(piece)
    assert world.chosen.http2 is http2
    assert world.chosen.data == b"".join(pieces)
    assert world.chosen.transport is world.transport and world.lost == 1


async def test_a_client_that_says_nothing_is_refused_as_one_of_http1():
    from gateway.core.failures import Failed, Failure

    world = Undecided()
    world.connection.data_received(b"PRI")
    world.connection.refuse(Failed(Failure.REQUEST_TIMEOUT), linger=False)
    assert world.transport.take().startswith(b"HTTP/1.1 408 ")
    world.connection.data_received(PREFACE[3:])
    assert world.chosen is None
