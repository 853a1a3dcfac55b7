"""A gateway in a thread, and an origin for it: what the fixtures of gateway.testing.plugin are."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson

from gateway.app import Gateway

TIMEOUT = 30.0
"""Seconds that anything may take."""


@dataclass(frozen=True, slots=True)
class Message:
    """An answer that a client got, or a request that the origin did. Names of headers are in lower
    case; `line` is the status, or method and target."""

    line: tuple[Any, ...]
    headers: Mapping[str, str]
    body: bytes

    @property
    def status(self) -> int:
        """Of an answer."""
        found: int = self.line[0]
        return found

    @property
    def method(self) -> str:
        """Of a request."""
        return str(self.line[0])

    @property
    def target(self) -> str:
        """Of a request: path and query."""
        return str(self.line[1])

    def json(self) -> Any:
        """Return the value that the body is. Raises ValueError."""
        return orjson.loads(self.body)


class Origin:
    """An upstream under the test's control.

    answer: (status, headers, body), or a function that makes it of the request. requests: those
    that have come, as Message.
    """

    def __init__(self) -> None:
        self.answer: Any = (200, {"Content-Type": "text/plain"}, b"ok")
        self.requests: list[Message] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                outer._serve(self)

            do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = handle_one

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Origin:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(TIMEOUT)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        fields = {name.lower(): value for name, value in handler.headers.items()}
        asked = Message((handler.command, handler.path), fields, body)
        self.requests.append(asked)
        status, headers, data = self.answer(asked) if callable(self.answer) else self.answer
        handler.send_response_only(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)


class Edge:
    """A running gateway. directory: of its files. upstream: the URL of `origin`."""

    def __init__(self, directory: Path, upstream: str) -> None:
        self.directory = directory
        directory.mkdir()
        self.write("upstreams.toml", f'[upstream.origin]\nurl = "{upstream}"\n')
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._gateway: Gateway | None = None

    def write(self, name: str, text: str) -> None:
        """Write one of its files."""
        (self.directory / name).write_text(text, "utf-8")

    def start(self, more: str = "") -> None:
        """Serve. Raises ConfigErrors, whose `problems` say what is wrong."""
        files = 'include = ["upstreams.toml", "pipeline.toml"]\n'
        self.write("gateway.toml", f"{files}[listen]\nport = 0\n[admin]\nport = 0\n{more}\n")
        self._thread.start()
        gateway = self._gateway = Gateway(self.directory / "gateway.toml", {})
        self._run(gateway.start())

    def stop(self) -> None:
        """Drain, stop and end the thread."""
        if self._thread.ident is not None:
            if self._gateway is not None:
                self._run(self._gateway.close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(TIMEOUT)
        self._loop.close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._running.port}"

    def request(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Message:
        """Return the answer to a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self._running.port, timeout=TIMEOUT)
        try:
            connection.request(method, target, body, dict(headers or {}))
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return Message((answer.status,), fields, answer.read())
        finally:
            connection.close()

    def get(self, target: str, headers: Mapping[str, str] | None = None) -> Message:
        """`request` with GET."""
        return self.request("GET", target, headers)

    def post(self, target: str, body: bytes, headers: Mapping[str, str] | None = None) -> Message:
        """`request` with POST."""
        return self.request("POST", target, headers, body)

    def reload(self, pipeline: str | None = None) -> tuple[str, ...]:
        """Reload, with another pipeline file if that is given; return what is wrong with it."""
        if pipeline is not None:
            self.write("pipeline.toml", pipeline)
        outcome = self._run(self._running.reload())
        return () if outcome.ok else tuple(str(problem) for problem in outcome.problems)

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a counter or gauge, 0 for one that has counted nothing."""
        for family in self._running.telemetry.families:
            if family.name == name:
                values = getattr(family, "values", {})
                found: float = values.get(tuple(labels[label] for label in family.labels), 0)
                return found
        raise LookupError(f"there is no metric {name}")

    @property
    def _running(self) -> Gateway:
        assert self._gateway is not None, "it is not started"
        return self._gateway

    def _run(self, work: Any) -> Any:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(TIMEOUT)
