"""Where log lines go beside files: an HTTP endpoint in batches, and syslog.

Both are LogQueues: a thread sends, at most `backlog` bytes wait for it, and what is beyond that, or
cannot be sent in time, is dropped and counted.
"""

from __future__ import annotations

import gzip
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
from marshmallow import ValidationError

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import (
    Choice,
    Duration,
    FieldName,
    HttpUrl,
    Map,
    Secret,
    Size,
    Whole,
)
from gateway.lifetime.logs.logqueue import LogQueue
from gateway.lifetime.logs.posting import Poster

log = logging.getLogger("gateway.state")

BACKLOG = 8 * 1024 * 1024
"""Bytes that may wait, unless configured."""
_FACILITIES = ("user", "daemon", "auth", *(f"local{number}" for number in range(8)))
_CODES = {"user": 1, "daemon": 3, "auth": 4} | {f"local{n}": 16 + n for n in range(8)}
_TYPES = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "elasticsearch": "application/x-ndjson",
}


@table
class HttpSinkConfig:
    """Lines in batches, by POST."""

    url: str = setting(HttpUrl(), doc="where they go; for Elasticsearch usually `.../_bulk`")
    format: str = setting(
        Choice("json", "ndjson", "elasticsearch"),
        default="json",
        doc="`json`: an array of objects; `ndjson`: one a line; `elasticsearch`: the same for its "
        "bulk API, into `index`",
    )
    index: str = setting(default="api-logs", doc="the index, for `elasticsearch`")
    headers: Mapping[str, str] = setting(
        Map(keys=FieldName(), values=Secret()),
        default_factory=dict,
        doc='more header fields: `{ Authorization = "${LOG_TOKEN}" }`',
    )
    flush: float = setting(Duration(), default=2.0, doc="how long a line waits at most")
    batch: int = setting(Whole(least=1, most=10_000), default=500, doc="lines in one request")
    gzip: bool = setting(default=False, doc="whether bodies are compressed")
    timeout: float = setting(Duration(), default=5.0, doc="of one attempt")
    retries: int = setting(Whole(least=0, most=10), default=3, doc="further attempts at a batch")
    backlog: int = setting(
        Size(),
        default=BACKLOG,
        doc="bytes that may wait; lines beyond are dropped and counted",
    )


def _address(value: str) -> None:
    parts = urlsplit(value)
    try:
        port = parts.port
    except ValueError:
        port = None
    network = parts.scheme in ("udp", "tcp") and bool(parts.hostname) and port and not parts.path
    if not network and not (value.startswith("unix:/") and len(value) > 6):
        raise ValidationError('must be "udp://HOST:PORT", "tcp://HOST:PORT" or "unix:/dev/log"')


@table
class SyslogConfig:
    """Lines as messages of syslog (RFC 5424)."""

    address: str = setting(
        check=_address, doc='`"unix:/dev/log"`, `"udp://logs:514"` or `"tcp://logs:601"` (RFC 6587)'
    )
    facility: str = setting(Choice(*_FACILITIES), default="local0", doc="the facility")
    app: str = setting(default="gateway", doc="APP-NAME")
    backlog: int = setting(
        Size(),
        default=BACKLOG,
        doc="bytes that may wait; lines beyond are dropped and counted",
    )


class HttpSink(LogQueue):
    """Posts lines to a URL."""

    __slots__ = ("_body_head", "_config", "_poster")

    def __init__(self, config: HttpSinkConfig) -> None:
        super().__init__(config.url, interval=config.flush, backlog=config.backlog)
        self._config = config
        fields = {"Content-Type": _TYPES[config.format], **config.headers}
        if config.gzip:
            fields["Content-Encoding"] = "gzip"
        limits: Any = {"timeout": config.timeout, "retries": config.retries}
        self._poster = Poster(config.url, fields, stopping=self._stopping, **limits)
        action = orjson.dumps({"index": {"_index": config.index}}) + b"\n"
        self._body_head = action if config.format == "elasticsearch" else b""

    # In the thread.

    def _deliver(self, chunk: bytes | bytearray) -> Exception | None:
        lines = bytes(chunk).splitlines(keepends=True)
        size = self._config.batch
        for start in range(0, len(lines), size):
            batch = lines[start : start + size]
            said = self._poster.send(self._body(batch))
            if isinstance(said, Exception):
                self._lose(len(lines) - start)
                return said
            if self._body_head and b'"errors":true' in said[:200]:
                refused = _refused(said, len(batch))
                self._lose(refused)
                log.warning("%s has refused %d lines of a batch", self.name, refused)
        return None

    def _body(self, batch: list[bytes]) -> bytes:
        if self._config.format == "json":
            body = b"[" + b",".join(line.rstrip(b"\n") for line in batch) + b"]"
        else:
            body = b"".join(self._body_head + line for line in batch)
        return gzip.compress(body, 5) if self._config.gzip else body

    def _release(self) -> None:
        self._poster.close()
        super()._release()


def _refused(said: bytes, lines: int) -> int:
    """Return how many documents the bulk API has refused; all of them if that cannot be read."""
    try:
        items: list[dict[str, Any]] = orjson.loads(said)["items"]
        return sum(next(iter(item.values()))["status"] >= 300 for item in items)
    except (ValueError, LookupError, TypeError, StopIteration, AttributeError):
        return lines


class SyslogSink(LogQueue):
    """Sends lines to syslog; the severity follows from the line's status."""

    __slots__ = ("_config", "_head", "_socket")

    def __init__(self, config: SyslogConfig) -> None:
        super().__init__(config.address, backlog=config.backlog)
        self._config = config
        self._socket: socket.socket | None = None
        host = socket.gethostname() or "-"
        self._head = f" {host} {config.app} {os.getpid()} access - ".encode()

    def _deliver(self, chunk: bytes | bytearray) -> Exception | None:
        error: Exception | None = None
        for message in self._messages(bytes(chunk)):
            error = self._send(message)
            if error is not None:
                # Over TCP the first part of a message may be out: only a new connection is sound.
                self._disconnect()
                self._lose(1)
        return error

    def _messages(self, chunk: bytes) -> Iterator[bytes]:
        counted = self._config.address.startswith("tcp:")
        facility = _CODES[self._config.facility] * 8
        for line in chunk.splitlines():
            stamp = line[14:38] if line.startswith(b'{"timestamp":"') else _now()
            message = b"<%d>1 %b%b%b" % (facility + _severity(line), stamp, self._head, line)
            yield b"%d %b" % (len(message), message) if counted else message

    def _send(self, message: bytes) -> Exception | None:
        for attempt in (1, 2):
            try:
                if self._socket is None:
                    self._socket = self._connect()
                self._socket.sendall(message)
                return None
            except OSError as error:
                self._disconnect()
                if attempt == 2 or self._stopping.is_set():
                    return error
        return None

    def _connect(self) -> socket.socket:
        address = self._config.address
        if address.startswith("unix:"):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.settimeout(1.0)
            try:
                made.connect(address.removeprefix("unix:"))
            except OSError:
                made.close()
                raise
            return made
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or 0
        if parts.scheme == "tcp":
            return socket.create_connection((host, port), timeout=5.0)
        family, kind, proto, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        made = socket.socket(family, kind, proto)
        made.settimeout(1.0)
        made.connect(where)
        return made

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _release(self) -> None:
        self._disconnect()
        super()._release()


def _severity(line: bytes) -> int:
    """Return RFC 5424's severity: error from status 500 on, warning from 400 on, else info."""
    at = line.find(b'"status":')
    first = line[at + 9 : at + 10] if at >= 0 else b""
    return {b"5": 3, b"4": 4}.get(first, 6)


def _now() -> bytes:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode()
