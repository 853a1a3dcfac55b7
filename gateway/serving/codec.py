"""The interface between a protocol's codec and the way of a request: events in, an Outlet back.

A codec turns a client's bytes into events and replies into bytes; it knows no socket, no clock and
no routes. HTTP/1.1 has one in http1/codec.py. That of HTTP/2, whose events name their streams, is
protocols/http2, which both sides use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from multidict import MultiMapping

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.headers import Pair
from gateway.core.wait import Wait
from gateway.serving.admission import Admission


class Head(NamedTuple):
    """A request's head.

    body: the whole of it when it came along; None without one, or while `more` of it is to come as
    Data and End.
    close: the client wants the connection closed after the reply. upgrade: nothing that follows is
    this protocol, if the upgrade that is asked for succeeds. varied: no field that frames or
    addresses the message differs from the head before. same: no field but X-Request-ID does.
    """

    method: str
    target: str
    headers: MultiMapping[str]
    raw_headers: Sequence[Pair]
    version: tuple[int, int]
    close: bool = False
    body: bytes | None = None
    more: bool = False
    upgrade: bool = False
    varied: bool = False
    same: bool = False


class Data(NamedTuple):
    """More of the body of the last head."""

    data: bytes


class End(NamedTuple):
    """The body is complete. trailers: the fields that came after it."""

    trailers: Sequence[Pair] = ()


class Reset(NamedTuple):
    """There will be no more of the body; nothing that follows on the connection counts."""

    failed: Failed


class Refused(NamedTuple):
    """Bytes that are no request. What came before them is answered first; nothing that follows
    counts."""

    failed: Failed


Event = Head | Data | End | Reset | Refused


class Codec(Protocol):
    """A client's bytes as events."""

    def feed(self, data: bytes) -> Sequence[Event]:
        """Return the events in `data`. Bytes that have to wait, because too many requests are
        queued, are kept."""

    def eof(self) -> Sequence[Event]:
        """The client sends nothing more."""


class Outlet(Protocol):
    """The way back to the client of one request: an HTTP/1.1 connection, or a stream of HTTP/2.

    admission: what its requests are checked by.
    open: whether the client can still be answered.
    switching: whether the request asks for another protocol on the connection.
    last: the connection is to end with this reply, because what follows on it cannot be trusted.
    snapshot: what is in force for this request, which it holds; None once it has let go of it.
    """

    admission: Admission
    switching: bool
    last: bool
    snapshot: Any

    @property
    def open(self) -> bool: ...

    def give_away(
        self, exchange: Exchange, reply: Reply, rest: bytes, protocol: asyncio.Protocol
    ) -> tuple[asyncio.Transport, bytes, bool]:
        """Another protocol takes the connection, or the stream, over after the head of `reply` and
        `rest`, which came behind it: its transport, what came early, whether it is congested.

        The connection counts as in use until `taken_back`.
        """

    def taken_back(self) -> None:
        """The protocol that took the connection over has closed it."""

    def send(self, exchange: Exchange, reply: Reply) -> None:
        """Send a reply whose body is complete. Nothing has been sent when it raises."""

    def begin(self, exchange: Exchange, reply: Reply) -> None:
        """Send the head of a reply whose body follows by `write` and `end`. Nothing has been sent
        when it raises."""

    def write(self, data: bytes) -> Wait[None] | None:
        """Send a piece of the body. A Wait is to be awaited before the next: the client takes bytes
        too slowly."""

    def end(self, exchange: Exchange, trailers: Iterable[Pair]) -> None:
        """The body is complete."""

    def interim(self, status: int, pairs: Iterable[Pair]) -> None:
        """Send an interim answer (RFC 9110 section 15.2), for clients that know them."""

    def abort(self) -> None:
        """Break off, visibly: what the client has is not the whole reply."""
