"""A Transport for tests that have no event loop."""

from __future__ import annotations

from typing import Any

from gateway.upstream.connections.transport import Transport


class AtOnce(Transport):
    """Sends a request when it begins, not at the end of a turn."""

    def write_later(self, connection: Any) -> None:
        connection.write_request()
