"""The socket below a protocol: unread input, what is kept, what is saved after a failed write."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.config.tables.endpoints import EndpointConfig
from gateway.upstream.connections.endpoint_socket import EndpointSocket
from gateway.upstream.connections.interfaces import NEVER
from gateway.upstream.pool.endpoint import Endpoint


class Owner:
    def __init__(self) -> None:
        self.now = 100.0
        self.open: set[Any] = set()


class Transport:
    def __init__(self, raw: socket.socket | None, tls: object = None) -> None:
        self.raw, self.tls = raw, tls
        self.did: list[str] = []

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": self.raw, "ssl_object": self.tls}.get(name, default)

    def abort(self) -> None:
        self.did.append("abort")

    def pause_reading(self) -> None:
        self.did.append("pause")

    def resume_reading(self) -> None:
        self.did.append("resume")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def connected(
    raw: socket.socket | None, tls: object = None, max_idle: int = 2
) -> tuple[EndpointSocket, Owner, Transport]:
    owner = Owner()
    one = EndpointSocket(owner, Endpoint("origin", EndpointConfig("http://127.0.0.1:1")), max_idle)
    transport = Transport(raw, tls)
    one.connection_made(transport)  # type: ignore[arg-type]
    assert owner.open == {one}
    return one, owner, transport


def test_unread_input_is_bytes_or_the_end(ends: Any) -> None:
    ours, theirs = ends
    one, *_ = connected(ours)
    assert not one.has_unread_input()
    theirs.send(b"x")
    assert one.has_unread_input()
    ours.recv(1)
    assert not one.has_unread_input()
    theirs.close()
    assert one.has_unread_input()
    assert not connected(None)[0].has_unread_input(), "no socket of the kernel's"


def test_what_came_before_a_write_failed_is_saved(ends: Any) -> None:
    ours, theirs = ends
    theirs.send(b"HTTP/1.1 413")
    assert connected(ours, tls=object())[0].salvage() == b"", "TLS has a state of its own"
    paused, *_ = connected(ours)
    paused.pause_reading()
    assert paused.salvage() == b""
    one, *_ = connected(ours)
    assert one.salvage() == b"HTTP/1.1 413"
    ours.setblocking(False)
    assert one.salvage() == b""
    ours.close()
    assert one.salvage() == b""
    assert connected(None)[0].salvage() == b""


def test_reading_pauses_and_resumes_once(ends: Any) -> None:
    one, _, transport = connected(ends[0])
    one.resume_reading()
    one.pause_reading()
    one.pause_reading()
    one.resume_reading()
    one.resume_reading()
    one.close()
    one.pause_reading()
    assert transport.did == ["pause", "resume", "abort"]


def test_it_is_kept_where_there_is_room(ends: Any) -> None:
    one, owner, _ = connected(ends[0], max_idle=1)
    one.deadline = 5.0
    one.keep()
    assert (one.endpoint.idle, one.deadline, one.idle_since) == ([one], NEVER, owner.now)
    one.leave()
    one.leave()
    assert one.endpoint.idle == []
    one.pause_writing()
    one.keep()
    assert one.closed, "what it was sent has not been taken"
    retired, _, _ = connected(ends[0])
    retired.retire()
    retired.keep()
    assert retired.closed
    orphaned, _, _ = connected(ends[0])
    orphaned.endpoint.retire()
    orphaned.keep()
    assert orphaned.closed and orphaned.endpoint.idle == [], "its endpoint has left the pool"


def test_room_is_waited_for_by_one(ends: Any) -> None:
    one, *_ = connected(ends[0])
    one.resume_writing()
    one.pause_writing()
    room = one._wait_for_room()
    assert one._wait_for_room() is room
    one.resume_writing()
    assert room.done


def test_one_that_was_never_connected_can_be_closed() -> None:
    one = EndpointSocket(Owner(), Endpoint("origin", EndpointConfig("http://127.0.0.1:1")), 1)
    one.close()
    assert one.closed
