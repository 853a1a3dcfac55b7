"""The pump: sends a request's body as it arrives, as fast as the endpoint takes it."""

from __future__ import annotations

import logging
from typing import Any

from gateway.core.drive import Drive
from gateway.core.exchange import RequestBody
from gateway.core.failures import Failed, Failure
from gateway.core.wait import Wait
from gateway.upstream.attempt import Attempt
from gateway.upstream.connections.interfaces import Stream

log = logging.getLogger("gateway.upstream")


class Pump:
    """Moves one body to one attempt's stream, beside the coroutine that waits for the answer.

    It is the attempt's `pump` until the body has been sent whole. `over` is done when nothing reads
    the body any more.
    """

    __slots__ = ("_attempt", "_body", "_drive", "_stream", "over")

    def __init__(self, body: RequestBody, stream: Stream, attempt: Attempt) -> None:
        self._body = body
        self._stream = stream
        self._attempt = attempt
        self.over: Wait[None] = Wait()
        self._drive = Drive(self._run(), self._ended)

    def start(self) -> None:
        """Send what is here, and the rest as it comes."""
        self._attempt.pump = self
        self._drive.start()

    def cancel(self) -> None:
        """Send no more."""
        self._drive.cancel()

    async def _run(self) -> None:
        body, stream = self._body, self._stream
        while True:
            stream.hold()
            chunk = await body.read()
            if stream.closed:
                return
            if not chunk:
                break
            room = stream.write(chunk)
            if room is not None:
                await room
        self._attempt.pump = None
        stream.end(getattr(body, "trailers", ()))

    def _ended(self, _: Any, error: BaseException | None) -> None:
        if isinstance(error, Exception):
            # The client's body broke off, grew too large, or reading it failed inside the gateway:
            # the endpoint must not take what it has for a complete request.
            failed = error
            if not isinstance(failed, Failed):
                log.error("reading a request's body went wrong", exc_info=error)
                failed = Failed(Failure.INTERNAL, why=repr(error))
            self._attempt.pump = None
            self._stream.break_off(failed)
            self._attempt.failed(failed, False)
        self.over.wake()
