"""Which version a client speaks, told by its first bytes where TLS does not (RFC 9113 section 3.3:
prior knowledge)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.protocols.http2.session import PREFACE
from gateway.serving.http1.codec import Http1Codec
from gateway.serving.http1.connection import Http1Connection
from gateway.serving.server import Server


class Preface(Http1Connection):
    """A connection of which nothing is known yet. `known` gives the protocol that takes it over: of
    HTTP/2 if asked for that."""

    __slots__ = ("_early", "_known")

    def __init__(
        self,
        server: Server,
        codec: Http1Codec,
        peer: str,
        known: Callable[[bool], asyncio.Protocol],
    ) -> None:
        super().__init__(server, codec, peer)
        self._early = b""
        self._known = known

    def data_received(self, data: bytes) -> None:
        data = self._early + data
        transport = self.transport
        if transport is None or self.last:
            return
        if len(data) < len(PREFACE) and PREFACE.startswith(data):
            self._early = data
            return
        protocol = self._known(data.startswith(PREFACE))
        self.transport = None
        self._server.closed(self)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)
