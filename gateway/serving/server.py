"""The interface of a listener: what its connections share."""

from __future__ import annotations

from typing import Any, Protocol

from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.telemetry import Level
from gateway.runtime.services import Services
from gateway.runtime.snapshot import Snapshot
from gateway.serving.admission import Admission
from gateway.serving.tunnel import Tunnels


class Runtime(Protocol):
    """The configuration in force."""

    @property
    def services(self) -> Services: ...

    @property
    def snapshot(self) -> Snapshot: ...


class Server(Protocol):
    """A listener. now: the loop's time as of the last sweep. draining: every connection ends after
    its reply."""

    runtime: Runtime
    admission: Admission
    in_flight: Level
    http2_requests: Level
    tunnels: Tunnels
    draining: bool
    max_requests: int
    now: float

    def opened(self, connection: Any) -> None:
        """A connection is there."""

    def closed(self, connection: Any) -> None:
        """It is gone."""

    def count_http2_end(self, reason: str, peer: str) -> None:
        """A connection in HTTP/2 of this address was ended for what its client did."""

    def refuse(self, peer: str, failed: Failed) -> tuple[Exchange, Reply]:
        """Render, log and count what was refused before it became a request."""
