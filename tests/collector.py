"""A collector for tests: takes OTLP over HTTP and reads it with OpenTelemetry's own messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Seen:
    """A span as it arrived: ids in hexadecimal, attributes as plain values."""

    raw: Any
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.raw.name)

    @property
    def trace_id(self) -> str:
        return str(self.raw.trace_id.hex())

    @property
    def span_id(self) -> str:
        return str(self.raw.span_id.hex())

    @property
    def parent(self) -> str:
        return str(self.raw.parent_span_id.hex())

    @property
    def attributes(self) -> dict[str, Any]:
        return values(self.raw.attributes)


def values(attributes: Any) -> dict[str, Any]:
    """Return attributes by key; a key that comes twice fails."""
    found: dict[str, Any] = {}
    for one in attributes:
        assert one.key not in found, one.key
        found[one.key] = getattr(one.value, one.value.WhichOneof("value"))
    return found


def spans_of(body: bytes) -> list[Seen]:
    """Return the spans of an export request, which must have no unknown field."""
    found = []
    parsed = ExportTraceServiceRequest.FromString(body)
    size = parsed.ByteSize()
    parsed.DiscardUnknownFields()
    assert parsed.ByteSize() == size > 0
    for group in parsed.resource_spans:
        resource = values(group.resource.attributes)
        for scope in group.scope_spans:
            assert scope.scope.name == "gateway"
            found += [Seen(span, resource) for span in scope.spans]
    return found


def rejecting(count: int) -> bytes:
    """Return an answer that has taken all spans but `count`."""
    partial = ExportTracePartialSuccess(rejected_spans=count, error_message="too old")
    return ExportTraceServiceResponse(partial_success=partial).SerializeToString()


class Collector:
    """Its server runs in a thread. `answers` come first, (status, body) each; then 200."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, bytes]] = []
        self.changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                fields = {name.lower(): value for name, value in self.headers.items()}
                status, said = outer.answers.pop(0) if outer.answers else (200, b"")
                if status == 200:
                    with outer.changed:
                        outer.got.append((self.path, fields, body))
                        outer.changed.notify_all()
                self.send_response(status)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def spans(self) -> list[Seen]:
        with self.changed:
            return [span for _, _, body in self.got for span in spans_of(body)]

    def wait(self, count: int, seconds: float = 20) -> list[Seen]:
        """Block until so many spans have come."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.spans) >= count, seconds), self.spans
        return self.spans


@contextmanager
def collecting() -> Iterator[Collector]:
    made = Collector()
    made._thread.start()
    try:
        yield made
    finally:
        made._server.shutdown()
        made._server.server_close()
        made._thread.join()
