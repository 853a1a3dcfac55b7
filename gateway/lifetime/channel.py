"""Messages between the supervisor and one worker, over a socket pair that both inherited.

Either end may `post` a message, or `ask` and get an answer. The other end has a handler for each
kind of message:

    channel.on("circuit", opened)                # opened(upstream, seconds), for channel.post(...)
    answer = await channel.ask("limits", b"take", keys, terms)    # what the handler returned

Messages arrive in the order in which they were sent. Those of one turn of the loop go out in one
piece. Bodies are what marshal can write: None, numbers, strings, bytes, and tuples, lists, sets and
dicts of these. Both ends run the same code and nothing else can write to the socket, so messages
are trusted.

A frame is its length (4 bytes, little endian) and marshal's bytes of (number, kind, body). Number 0
is a post, a positive one a question, and its negative the answer, of kind "" or, with a text, "!".
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import marshal
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from gateway.core.wait import Wait

log = logging.getLogger("gateway.workers")

MAX_FRAME = 256 * 1024 * 1024
"""Bytes of one message: a configuration with tens of thousands of routes has some ten million."""
MAX_BACKLOG = 2 * MAX_FRAME
"""Bytes that may wait for the other end. Beyond that it is stuck, and the channel is closed."""
CHUNK = 256 * 1024

Handler = Callable[..., Any]
"""Takes a message's body. What it returns, or what that gives when awaited, is the answer."""


class ChannelClosed(Exception):
    """The other process has ended, or is about to."""


class ChannelError(Exception):
    """The other end's handler failed; the message says how."""


class Channel:
    """One end. All methods are called from the loop that `start` was called in."""

    def __init__(self, end: socket.socket, received: bytes = b"") -> None:
        """received: what an earlier program in this process has read and not taken
        (`for_successor`)."""
        end.setblocking(False)
        self._socket = end
        self._handlers: dict[str, Handler] = {}
        self._asked: dict[int, Wait[Any]] = {}
        # Answers to an earlier program's questions are no answers to ours.
        self._number = int.from_bytes(os.urandom(5), "little")
        self._incoming = bytearray(received)
        self._outgoing = bytearray()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._flushing = False
        self._closed: Callable[[], object] | None = None
        self._tasks: set[asyncio.Future[Any]] = set()
        self.open = True

    def __repr__(self) -> str:
        state = "open" if self.open else "closed"
        return f"<Channel {state}, {len(self._asked)} questions, {len(self._outgoing)} bytes>"

    def fileno(self) -> int:
        return self._socket.fileno()

    def on(self, kind: str, handler: Handler) -> None:
        """Have `handler` take messages of a kind, in place of the one before."""
        self._handlers[kind] = handler

    def start(self, closed: Callable[[], object]) -> None:
        """Begin to read. `closed` is called once, when the other end is gone or `close` is
        called."""
        self._loop = asyncio.get_running_loop()
        self._closed = closed
        self._loop.add_reader(self._socket, self._readable)
        if self._outgoing:
            self._flush()
        if self._incoming:
            self._loop.call_soon(self._take_frames)

    def for_successor(self) -> tuple[int, bytes] | None:
        """Send what waits; return the descriptor and what was received in part, for a program that
        takes this one's place. None if the other end does not take what waits."""
        self._flush()
        return None if self._outgoing or not self.open else (self.fileno(), bytes(self._incoming))

    def post(self, kind: str, *body: Any) -> None:
        """Send a message. One to an end that is gone is lost."""
        self._send(0, kind, body)

    def ask(self, kind: str, *body: Any, into: Wait[Any] | None = None) -> Wait[Any]:
        """Send a question; the wait, or `into`, has the answer, or fails with ChannelClosed or
        ChannelError."""
        wait: Wait[Any] = Wait() if into is None else into
        if not self.open:
            wait.fail(ChannelClosed())
            return wait
        self._number += 1
        self._asked[self._number] = wait
        self._send(self._number, kind, body)
        return wait

    def close(self) -> None:
        """Send what still goes out at once, and end. Questions without an answer fail. Harmless
        twice."""
        if not self.open:
            return
        self._flush()
        self._end()

    def detach(self) -> int:
        """As `close`, but the socket stays open: the other end sees the end of this process.
        Return its descriptor."""
        self._flush()
        return self._end(detach=True)

    def _end(self, detach: bool = False) -> int:
        if not self.open:
            return -1
        self.open = False
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        descriptor = self._socket.detach() if detach else -1
        self._socket.close()
        asked, self._asked = self._asked, {}
        for wait in asked.values():
            wait.fail(ChannelClosed())
        for task in tuple(self._tasks):
            task.cancel()
        if self._closed is not None:
            self._closed()
        return descriptor

    # Out.

    def _send(self, number: int, kind: str, body: Any) -> None:
        if not self.open:
            return
        frame = marshal.dumps((number, kind, body))
        if len(frame) > MAX_FRAME:
            raise ValueError(f"a message of kind {kind!r} has {len(frame)} bytes")
        out = self._outgoing
        out += len(frame).to_bytes(4, "little")
        out += frame
        if len(out) > MAX_BACKLOG and self._flushing:
            self._give_up()
        elif not self._flushing and self._loop is not None:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Write all there is; what the socket does not take goes when it is writable again."""
        out = self._outgoing
        try:
            while out and self.open:
                del out[: self._socket.send(memoryview(out)[:CHUNK])]
        except (BlockingIOError, InterruptedError):
            if len(out) > MAX_BACKLOG:
                self._give_up()
            elif self._loop is not None:
                self._loop.add_writer(self._socket, self._writable)
            return
        except OSError:
            self._end()
            return
        self._flushing = False

    def _give_up(self) -> None:
        waiting = len(self._outgoing)
        log.error("a process takes no messages any more: %d bytes wait for it", waiting)
        self._end()

    def _writable(self) -> None:
        if self._loop is not None:
            self._loop.remove_writer(self._socket)
        self._flush()

    # In.

    def _readable(self) -> None:
        try:
            chunk = self._socket.recv(CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            chunk = b""
        if not chunk:
            self._end()
            return
        self._incoming += chunk
        self._take_frames()

    def _take_frames(self) -> None:
        data = self._incoming
        start, size = 0, len(data)
        while self.open and size - start >= 4:
            length = int.from_bytes(data[start : start + 4], "little")
            if size - start - 4 < length:
                break
            with memoryview(data) as view:
                frame = view[start + 4 : start + 4 + length]
                number, kind, body = marshal.loads(frame)  # noqa: S302 - our own process
                frame.release()
            start += 4 + length
            self._take(number, kind, body)
        del data[:start]

    def _take(self, number: int, kind: str, body: Any) -> None:
        if number < 0:
            wait = self._asked.pop(-number, None)
            if wait is not None and kind:
                wait.fail(ChannelError(body))
            elif wait is not None:
                wait.wake(body)
            return
        try:
            answer = self._handlers[kind](*body)
        except Exception as error:
            self._failed(number, kind, error)
            return
        if inspect.isawaitable(answer):
            self._await(number, kind, answer)
        elif number:
            self._send(-number, "", answer)

    def _await(self, number: int, kind: str, answer: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(answer)
        self._tasks.add(task)

        def answered(task: asyncio.Future[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled():
                self._failed(number, kind, ChannelError("it was cancelled"))
            elif (error := task.exception()) is not None:
                self._failed(number, kind, error)
            elif number:
                self._send(-number, "", task.result())

        task.add_done_callback(answered)

    def _failed(self, number: int, kind: str, error: BaseException) -> None:
        if self.open and not isinstance(error, ChannelClosed):
            log.error("a message of kind %r failed", kind, exc_info=error)
        if number:
            self._send(-number, "!", f"{kind}: {type(error).__name__}: {error}")


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends, for a Channel each."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
