"""gateway/serving/http2/protocol.py: what [server] says, as limits of sessions."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.tables.server import ServerConfig
from gateway.protocols.http2.session import Limits, Session
from gateway.serving.http2.protocol import Http2
from tests.unit.serving.memory import World


@pytest.mark.parametrize("connect", [True, False])
async def test_limits_and_settings_are_those_of_the_configuration(connect: bool) -> None:
    server: Any = World()
    config = ServerConfig(max_header_size=1000, max_uri=500, max_headers=10)
    connection = Http2(server, config, connect=connect)("192.0.2.7")
    assert connection.peer == "192.0.2.7"
    client = Session(Limits(), client=True)
    client.receive(connection.session.pending())
    assert (client.peer_streams, client.peer_connects) == (100, connect)
    connection.session.receive(client.pending())
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
    client.request([*fields, (b"x", b"a" * 2000)], end=True)
    assert connection.session.receive(client.pending())[0].stream_id == 1
    client.request([*fields, (b"x", b"a" * 5000)], end=True)
    assert "Failed" in repr(connection.session.receive(client.pending()))
