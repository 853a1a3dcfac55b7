"""gateway/serving/http2/stream_transport.py: a stream as a tunnel's transport."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.wait import Wait
from gateway.serving.http2.stream_transport import HIGH_WATER, StreamTransport


class Stream(asyncio.Protocol):
    """The stream, and the tunnel's end as well: `log` is what either was told."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.unsent = 0
        self.room: Wait[None] = Wait()
        self.stays = True
        self.transport = StreamTransport(self, self)

    def hold(self, held: bool) -> None:
        self.log.append(("hold", held))

    def send_bytes(self, data: bytes) -> Wait[None] | None:
        self.log.append(data)
        self.unsent += len(data)
        return self.room if self.unsent else None

    def send_end(self) -> None:
        self.log.append("end")

    def finish(self) -> None:
        self.log.append("finish")

    def reset(self) -> None:
        self.log.append("reset")

    def data_received(self, data: bytes) -> None:
        self.log.append(("got", data))

    def eof_received(self) -> bool:
        self.log.append("eof")
        return self.stays

    def connection_lost(self, exc: Exception | None) -> None:
        self.log.append(("lost", exc))

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def __repr__(self) -> str:
        return "<stream>"


@pytest.fixture
async def stream() -> Stream:
    return Stream()


async def test_bytes_and_ends_both_ways(stream):
    transport = stream.transport
    transport.write(b"a")
    transport.receive(b"b", False)
    transport.receive(b"", True)
    transport.write_eof()
    transport.write_eof()
    transport.write(b"not any more")
    assert stream.log == [b"a", ("got", b"b"), "eof", "end"]
    assert transport.can_write_eof() and not transport.is_closing()
    transport.close()
    transport.close()
    transport.lost(None)
    assert stream.log[4:] == ["finish", ("lost", None)] and transport.is_closing()
    assert repr(transport) == "<StreamTransport <stream>>"


async def test_an_end_that_does_not_stay_closes(stream):
    stream.stays = False
    stream.transport.receive(b"", True)
    assert stream.log == ["eof", "end", "finish"]


async def test_what_waits_for_the_client_stops_the_other_side(stream):
    stream.transport.write(bytes(HIGH_WATER))
    assert "pause" not in stream.log
    stream.transport.write(b"x")
    stream.transport.write(b"x")
    assert stream.log.count("pause") == 1
    assert stream.transport.get_write_buffer_size() == HIGH_WATER + 2
    stream.room.wake()
    await asyncio.sleep(0)
    assert stream.log[-1] == "resume"


async def test_a_tunnel_that_is_over_is_not_resumed(stream):
    stream.transport.write(bytes(HIGH_WATER + 1))
    stream.transport.abort()
    stream.room.wake()
    await asyncio.sleep(0)
    assert stream.log[-1] == "reset"


async def test_reading_is_held_and_goes_on(stream):
    stream.transport.pause_reading()
    stream.transport.resume_reading()
    assert stream.log == [("hold", True), ("hold", False)]
    assert stream.transport.get_extra_info("socket") is None
