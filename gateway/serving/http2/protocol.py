"""What a listener with `http2 = true` needs beside HTTP/1.1. Imported only there: it needs ngh2."""

from __future__ import annotations

from gateway.config.tables.server import ServerConfig
from gateway.protocols.http2.session import Limits, Session
from gateway.serving.http1.limits import Limits as HeadLimits
from gateway.serving.http2.connection import (
    CONNECTION_WINDOW,
    STREAMS,
    WINDOW,
    Http2Connection,
)
from gateway.serving.http2.head import HeadReader
from gateway.serving.server import Server


class Http2:
    """Makes connections under one ServerConfig. connect: take WebSockets (RFC 8441)."""

    def __init__(self, server: Server, config: ServerConfig, *, connect: bool) -> None:
        self._server = server
        self._connect = connect
        self._heads = HeadLimits(config.max_uri, config.max_header_size, config.max_headers)
        self._max_list = config.max_header_size
        # Up to twice of what is allowed is read, and answered 431; beyond it the connection ends.
        most = 2 * (config.max_header_size + config.max_uri + 32 * config.max_headers)
        self._limits = Limits(
            streams=STREAMS,
            window=WINDOW,
            connection_window=CONNECTION_WINDOW,
            header_list=most,
            header_count=2 * config.max_headers + 8,
            advertised=config.max_header_size + config.max_uri,
            continuations=most // 16384 + 1,
        )

    def __call__(self, peer: str = "") -> Http2Connection:
        """Return the protocol of a new socket."""
        heads = HeadReader(self._heads, self._max_list)
        session = Session(self._limits, connect=self._connect)
        return Http2Connection(self._server, heads, session, peer)
