"""Lines by HTTP and to syslog, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.config.tables.schema import schema_of
from gateway.lifetime.logs import logqueue, logsinks, posting
from gateway.lifetime.logs.logqueue import LogQueue, Record
from gateway.lifetime.logs.logsinks import HttpSink, HttpSinkConfig, SyslogConfig, SyslogSink


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logqueue, "_OPEN", set())
    monkeypatch.setattr(posting, "FIRST_PAUSE", 0.001)


class Collector:
    """An HTTP server that keeps requests and answers from a list, then 204."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                status, text = outer.answers.pop(0) if outer.answers else (200, b"{}")
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/logs"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def line(record: Record) -> bytes:
    return json.dumps(record[1], separators=(",", ":")).encode() + b"\n"


async def sent(queue: LogQueue, count: int = 3) -> int:
    """Send so many lines, to the end; return how many were dropped."""
    for number in range(count):
        queue.append((line, {"timestamp": f"2026-01-01T00:00:0{number}.000Z", "status": 200}))
    queue.flush()
    waiting = queue._jobs.empty  # The thread has taken the lines before it is told to stop.
    for _ in range(1000):
        if waiting() and queue._written == queue._handed:
            break
        await asyncio.sleep(0.005)
    queue.close()
    assert await asyncio.to_thread(queue.wait, 10)
    return queue.dropped


def http_sink(collector: Collector, **more: Any) -> HttpSink:
    config = schema_of(HttpSinkConfig)().load({"url": collector.url, "flush": "1ms", **more})
    return HttpSink(config)


async def test_batches_of_json(collector: Collector):
    sink = http_sink(collector, batch=2, headers={"Authorization": "Bearer secret"})
    assert await sent(sink) == 0
    assert [len(json.loads(body)) for _, _, body in collector.got] == [2, 1]
    path, fields, _ = collector.got[0]
    assert (path, fields["content-type"]) == ("/logs", "application/json")
    assert fields["authorization"] == "Bearer secret" and "secret" not in repr(sink)


async def test_bulk_for_elasticsearch_compressed(collector: Collector):
    sink = http_sink(collector, format="elasticsearch", index="api", gzip=True)
    assert await sent(sink, 2) == 0
    ((_, fields, body),) = collector.got
    assert fields["content-encoding"] == "gzip"
    lines = [json.loads(text) for text in gzip.decompress(body).splitlines()]
    assert lines[0] == lines[2] == {"index": {"_index": "api"}}
    assert [one["status"] for one in lines[1::2]] == [200, 200]


async def test_documents_that_elasticsearch_refuses_are_counted(collector: Collector):
    items = [{"index": {"status": status}} for status in (201, 400, 429)]
    answer = json.dumps({"errors": True, "items": items}, separators=(",", ":")).encode()
    collector.answers = [(200, answer)]
    assert await sent(http_sink(collector, format="elasticsearch")) == 2


async def test_another_attempt_after_an_error(collector: Collector):
    collector.answers = [(503, b""), (429, b"")]
    assert await sent(http_sink(collector, format="ndjson")) == 0
    assert len(collector.got) == 3 and len({body for _, _, body in collector.got}) == 1


@pytest.mark.parametrize(("status", "attempts"), [(503, 3), (400, 1)])
async def test_what_cannot_be_delivered_is_counted(
    collector: Collector, status: int, attempts: int
):
    collector.answers = [(status, b"")] * 9
    assert await sent(http_sink(collector, retries=2)) == 3
    assert len(collector.got) == attempts


async def test_nothing_listens():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{one.getsockname()[1]}/"
    config = schema_of(HttpSinkConfig)().load({"url": url, "retries": 1})
    assert await sent(HttpSink(config)) == 3


def syslog(address: str) -> SyslogSink:
    return SyslogSink(
        schema_of(SyslogConfig)().load({"address": address, "facility": "local1", "app": "edge"})
    )


MESSAGE = re.compile(
    rb'<142>1 2026-01-01T00:00:00\.000Z \S+ edge \d+ access - \{"timestamp":"[^}]*\}'
)


async def test_syslog_by_udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        assert await sent(syslog(f"udp://127.0.0.1:{server.getsockname()[1]}"), 2) == 0
        assert server.recv(4096).startswith(b"<142>1 ") and server.recv(4096)


async def test_syslog_by_a_unix_socket(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        assert await sent(syslog(f"unix:{tmp_path}/log"), 1) == 0
        assert MESSAGE.fullmatch(server.recv(4096))


async def test_syslog_by_tcp_counts_octets():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        assert await sent(syslog(f"tcp://127.0.0.1:{server.getsockname()[1]}"), 2) == 0
        connection, _ = server.accept()
        with connection:
            got = b""
            while piece := connection.recv(4096):
                got += piece
    for _ in range(2):
        size, _, rest = got.partition(b" ")
        message, got = rest[: int(size)], rest[int(size) :]
        assert message.startswith(b"<142>1 2026-01-01T00:00:0") and message.endswith(b"}")
    assert got == b""


@pytest.mark.parametrize(("status", "severity"), [(200, 6), (404, 4), (503, 3)])
def test_the_severity_follows_from_the_status(status: int, severity: int):
    assert logsinks._severity(b'{"a":1,"status":%d,"b":2}' % status) == severity


async def test_syslog_that_is_away_is_counted(tmp_path: Path):
    assert await sent(syslog(f"unix:{tmp_path}/none"), 2) == 2


@pytest.mark.parametrize(
    "address",
    ["logs:514", "udp://logs", "udp://:514", "tcp://logs:514/x", "unix:", "unix:x", "tcp://logs:x"],
)
def test_no_addresses(address: str):
    with pytest.raises(ValidationError):
        schema_of(SyslogConfig)().load({"address": address})
