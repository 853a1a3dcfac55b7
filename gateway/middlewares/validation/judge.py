"""A helper process that judges large bodies.

Reading JSON and holding it to a schema keeps the interpreter to itself, for 50 ms and more with a
megabyte, so that no thread helps. Large bodies go to one process beside this one instead, and so do
bodies whose errors may take long to list because their schema branches into itself. The process
starts with the first of them. It is replaced when a body takes longer than its deadline, or more
memory than it may have.

The process reads and writes messages of four bytes of length and a payload: a line of JSON about
the body, with its schema when that is new, then the body; back comes JSON. Its first message, which
is empty, says that it is ready.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson

from gateway.core.failures import Failed, Failure
from gateway.middlewares.validation.messages import Entry
from gateway.middlewares.validation.reading import Kind
from gateway.protocols.json_text import Bounds, Unreadable

DEADLINE = 5.0
"""Seconds a body may take to be judged."""
MAX_WAITING = 32
"""Bodies in the queue, beyond which requests are refused."""
_MODULE = "gateway.middlewares.validation.judging"


Verdict = tuple[list[Entry], bytes | None]
"""What is wrong with a body, and what goes on in its place where that is another one."""


@dataclass(slots=True)
class _Case:
    """A body to be judged: what is to be known of it, its schema, and who waits for the verdict."""

    about: dict[str, Any]
    schema: dict[str, Any]
    data: bytes
    verdict: asyncio.Future[Any]
    deadline: float


class Judge:
    """The process and the bodies that wait for it; one for each gateway process."""

    def __init__(self) -> None:
        self._waiting: deque[_Case] = deque()
        self._case: _Case | None = None
        self._child: _Child | None = None
        self._starting: asyncio.Task[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Judge {len(self._waiting)} bodies wait>"

    async def verdict(
        self,
        schema: dict[str, Any],
        data: bytes,
        kind: Kind,
        bounds: Bounds,
        deadline: float = DEADLINE,
        *,
        rewrite: bool = False,
    ) -> Verdict:
        """Return what is wrong with a body, and with `rewrite` the clean one if nothing is.

        Raises Unreadable, and Failed(OVERLOADED) when too many wait already.

        deadline: seconds it may take once its turn has come.
        """
        if len(self._waiting) >= MAX_WAITING or self._closed:
            headers = ((b"Retry-After", b"1"),)
            raise Failed(
                Failure.OVERLOADED,
                headers=headers,
                why=f"{len(self._waiting)} bodies wait to be judged",
            )
        about = {
            "schema": schema["name"],
            "kind": kind,
            "rewrite": rewrite,
            "depth": bounds.depth,
            "members": bounds.members,
        }
        case = _Case(about, schema, data, asyncio.get_running_loop().create_future(), deadline)
        self._waiting.append(case)
        self._next()
        answer = await case.verdict
        if "errors" in answer:
            body = answer.get("body")
            return answer["errors"], None if body is None else body.encode()
        raise Unreadable(Failure[answer["failure"]], answer["detail"], answer["why"])

    def close(self) -> None:
        """Called when no configuration needs it any more."""
        self._closed = True
        if self._child is not None:
            self._child.kill()
        for case in (*self._waiting, *((self._case,) if self._case else ())):
            _answer(case, _UNJUDGED)
        self._waiting.clear()

    def _next(self) -> None:
        while self._case is None and self._waiting:
            if self._child is None:
                if self._starting is None:
                    self._starting = asyncio.get_running_loop().create_task(self._start())
                return
            case = self._waiting.popleft()
            if not case.verdict.done():  # Its client may have left.
                self._case = case
                self._child.send(case)

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = (sys.executable, "-m", _MODULE)
        try:
            _, child = await loop.subprocess_exec(
                lambda: _Child(self), *command, stderr=asyncio.subprocess.DEVNULL, env=environ
            )
            await child.ready.wait()
            if child.exited.is_set():
                raise OSError("it ended at once")
        except OSError as error:
            self._starting = None
            for case in self._waiting:
                _fail(
                    case,
                    Failed(
                        Failure.INTERNAL,
                        why=f"cannot start the process that judges bodies: {error}",
                    ),
                )
            self._waiting.clear()
            return
        self._child, self._starting = child, None
        if self._closed:
            child.kill()
        self._next()

    def answered(self, payload: bytes) -> None:
        """The verdict on the body that was sent last."""
        case, self._case = self._case, None
        if case is not None:
            _answer(case, orjson.loads(payload))
        self._next()

    def ended(self) -> None:
        """The process is gone: its body took too long, or too much memory."""
        self._child = None
        case, self._case = self._case, None
        if case is not None:
            _answer(case, _UNJUDGED)
        if not self._closed:
            self._next()


_UNJUDGED = {
    "failure": Failure.BODY_TOO_LARGE.name,
    "detail": "The body is too complex to be checked.",
    "why": "not judged within its deadline and memory",
}


def _answer(case: _Case, answer: Any) -> None:
    if not case.verdict.done():
        case.verdict.set_result(answer)


def _fail(case: _Case, error: Exception) -> None:
    if not case.verdict.done():
        case.verdict.set_exception(error)


class _Child(asyncio.SubprocessProtocol):
    """One process. `known` are the schemas it has been sent, by name."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._known: dict[str, dict[str, Any]] = {}
        self._received = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._transport: Any = None
        self.ready = asyncio.Event()
        """Set once it reads, which takes longer than a body may: until then no deadline runs."""
        self.exited = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def send(self, case: _Case) -> None:
        about = case.about
        if self._known.get(about["schema"]) is not case.schema:
            self._known[about["schema"]] = case.schema
            about = {**about, **case.schema}
        payload = orjson.dumps(about) + b"\n" + case.data
        pipe = self._transport.get_pipe_transport(0)
        pipe.write(len(payload).to_bytes(4, "big"))
        pipe.write(payload)
        self._timer = asyncio.get_running_loop().call_later(case.deadline, self._too_late)

    def kill(self) -> None:
        self._transport.close()  # Kills the process too.

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        received = self._received
        received += data
        if len(received) >= 4 and len(received) >= 4 + int.from_bytes(received[:4], "big"):
            payload = bytes(received[4:])
            received.clear()
            self._stop_timer()
            if self.ready.is_set():
                self._judge.answered(payload)
            self.ready.set()

    def process_exited(self) -> None:
        self._stop_timer()
        self._transport.close()
        self.exited.set()
        self.ready.set()
        self._judge.ended()

    def _too_late(self) -> None:
        self._transport.kill()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
