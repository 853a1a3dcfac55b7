"""Spans on their way to a collector: OTLP over HTTP, in batches, from a thread.

As with logs at most BACKLOG bytes wait. While the collector is down or slow, spans beyond that and
those it does not take are dropped and counted; requests never wait for it.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any
from uuid import uuid4

from gateway import __version__
from gateway.config.tables.server import TracingConfig
from gateway.core.telemetry import trace_spans_dropped
from gateway.lifetime.logs.logqueue import LogQueue
from gateway.lifetime.logs.posting import Poster
from gateway.tracing.encoding import attributes, count, request
from gateway.tracing.protobuf import fields, nested

log = logging.getLogger("gateway.state")

PATH = "/v1/traces"
"""Below the collector's URL (OTLP specification, OTLP/HTTP request)."""
INTERVAL = 1.0
"""Seconds after which a span is sent at the latest."""
BACKLOG = 8 * 1024 * 1024
TIMEOUT = 5.0
"""Seconds of one attempt."""
RETRIES = 3

_SCOPE = nested(1, b"gateway") + nested(2, __version__.encode())


class SpanQueue(LogQueue):
    """Encoded spans, which a thread posts to a collector."""

    __slots__ = ("_poster", "_resource", "_service")

    def __init__(self, config: TracingConfig) -> None:
        url = config.otlp.rstrip("/")
        super().__init__(
            url if url.endswith(PATH) else url + PATH, interval=INTERVAL, backlog=BACKLOG
        )
        headers = {"Content-Type": "application/x-protobuf", **config.headers}
        limits: Any = {"timeout": TIMEOUT, "retries": RETRIES}
        self._poster = Poster(self.name, headers, stopping=self._stopping, **limits)
        self._service = config.service
        self._resource = b""

    def restart(self) -> None:
        """Write with a new thread, in a copy of the process, which is another instance."""
        super().restart()
        self._resource = b""

    def _refuse(self, lines: int) -> None:
        self._refused += lines
        trace_spans_dropped.add((self.name, "refused"), lines)

    # In the thread.

    def _deliver(self, chunk: bytes | bytearray) -> Exception | None:
        self._resource = self._resource or _resource(self._service)
        said = self._poster.send(request(chunk, self._resource, _SCOPE))
        if isinstance(said, Exception):
            self._lose(count(chunk))
            return said
        rejected = _rejected(said)
        if rejected:
            self._lose(min(rejected, count(chunk)))
            log.warning("%s has refused %d spans", self.name, rejected)
        return None

    def _lose(self, lines: int) -> None:
        self._lost += lines
        trace_spans_dropped.add((self.name, "failed"), lines)

    def _release(self) -> None:
        self._poster.close()
        super()._release()


def _resource(service: str) -> bytes:
    """Return the attributes of this process: each worker is an instance of the service."""
    return attributes(
        {
            "service.name": service,
            "service.version": __version__,
            "service.instance.id": str(uuid4()),
            "host.name": socket.gethostname(),
            "process.pid": str(os.getpid()),
            "telemetry.sdk.language": "python",
            "telemetry.sdk.name": "edge-gateway",
            "telemetry.sdk.version": __version__,
        }
    )


def _rejected(said: bytes) -> int:
    """Return ExportTraceServiceResponse.partial_success = 1 . rejected_spans = 1, 0 without."""
    try:
        for number, value in fields(said):
            if number == 1 and isinstance(value, bytes):
                return sum(n for one, n in fields(value) if one == 1 and isinstance(n, int))
    except ValueError:
        pass  # It has taken them, and answers something else.
    return 0
