"""One exchange on an HTTP/2 connection: an interfaces.Stream, and the source of its answer's body.

Flow control reaches from end to end: of an answer that a client reads slowly nothing more is
acknowledged, so that the endpoint stops sending it; what the endpoint does not take of a request
makes `write` wait, which stops reading from the client. Other exchanges on the connection go on.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.content.grpc import counts_as, reason_of
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.protocols.http2.session import ErrorCode
from gateway.upstream.connections.http1.connection import WHOLE
from gateway.upstream.connections.http1.fields import MAX_FIELDS, InvalidAnswer, understand
from gateway.upstream.connections.http2.fields import Answers, status_of
from gateway.upstream.connections.http2.sending import Carrier, RequestSender
from gateway.upstream.connections.interfaces import NEVER
from gateway.upstream.connections.stream import MAX_CHUNKS, AnswerStream

MAX_INTERIM = 32
"""Interim answers (1xx) to one request."""

ERROR_NAMES = {code.value: code.name for code in ErrorCode}


class RequestStream(RequestSender):
    """A place on a connection, for one exchange."""

    __slots__ = (
        "_answer",
        "_body",
        "_ended",
        "_failed",
        "_interims",
        "_reply",
        "_trailers",
        "_unacknowledged",
    )

    def __init__(self, connection: Carrier, kept: bool) -> None:
        super().__init__(connection, kept)
        self._ended = False
        self._reply: Reply | None = None
        self._body: list[bytes] = []
        self._trailers: tuple[Pair, ...] = ()
        self._answer: AnswerStream | None = None
        self._failed: tuple[Failed, bool] | None = None
        self._unacknowledged = self._interims = 0

    def give_up(self) -> None:
        """Break the stream off, so that the endpoint can stop working for it."""
        self.break_off(Failed(Failure.CLIENT_GONE, why="the reader gave the answer up"))

    def break_off(self, failed: Failed) -> None:
        """Break the stream off because of what has happened elsewhere. An answer that is still
        arriving ends with `failed`."""
        handler, answer = self._handler, self._answer
        self._close(ErrorCode.CANCEL)
        if answer is not None and handler is not None:
            handler.ended(failed)
            answer.end(failed)

    def retire(self) -> None:
        self._connection.retire()

    def expire(self, now: float) -> None:
        """Called by the sweep when the deadline or the exchange's own limit has passed."""
        name, timeouts = self._connection.endpoint.name, self._timeouts
        if now >= self.limit:
            limits = (
                "the client's deadline"
                if self._overdue is Failure.DEADLINE_EXCEEDED
                else "the route's timeout or timeouts.total"
            )
            failed = Failed(self._overdue, why=f"{name} was not done within {limits}")
        elif self._paused:
            self.deadline = now + (timeouts.read or NEVER)  # It is our client that is slow.
            return
        elif self._holding:
            why = f"neither {name} nor the client sent a byte for {timeouts.call:g} s"
            failed = Failed(Failure.DEADLINE_EXCEEDED, why=why)
        elif self._sending:
            why = f"{name} took no bytes for {timeouts.write:g} s"
            failed = Failed(Failure.WRITE_TIMEOUT, why=why)
        else:
            why = f"{name} sent no bytes for {timeouts.read:g} s"
            failed = Failed(Failure.READ_TIMEOUT, why=why)
        self._connection.suspect(self._since)
        self._fail(failed)

    # AnswerStream's source.

    def pause_reading(self) -> None:
        """Acknowledge no more of the answer for now."""
        self._paused = True

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        self._paused = False
        if not self.closed:
            self._extend(self._sending)
            self._acknowledge()
            self._connection.write_soon()

    def _acknowledge(self) -> None:
        size, self._unacknowledged = self._unacknowledged, 0
        if size:
            self._connection.session.consumed(self.number, size)

    # What has come, from the connection; `settle` follows.

    def take_head(self, answers: Answers, fields: Sequence[Pair], ended: bool) -> None:
        """The head of the final answer."""
        try:
            reply = self._reply = answers.reply(fields)
        except InvalidAnswer as error:
            self._invalid(str(error))
            return
        self._ended = ended
        if reply.length is None and ended and not self._head_only and reply.status != 304:
            reply.length = 0

    def take_data(self, data: bytes, ended: bool) -> None:
        """More of the answer's body."""
        size = len(data)
        if size:
            self._body.append(data)
            self._unacknowledged += size
        self._ended = ended

    def take_trailers(self, fields: Sequence[Pair]) -> None:
        """The fields after the body, which they end."""
        self._ended = True
        if len(fields) > MAX_FIELDS:
            self._invalid(f"more than {MAX_FIELDS} trailer fields")
        self._trailers = tuple(fields)

    def take_interim(self, fields: Sequence[Pair]) -> None:
        """An interim answer, which goes on to the client."""
        self._interims += 1
        if self._interims > MAX_INTERIM:
            self._invalid(f"more than {MAX_INTERIM} interim answers")
            return
        try:
            status, rest = status_of(fields), understand(list(fields[1:]))[0]
        except InvalidAnswer as error:
            self._invalid(str(error))
            return
        if self._handler is not None and self._failed is None:
            self._handler.interim(status, rest)

    def take_reset(self, code: int, by_endpoint: bool) -> None:
        """The stream has been reset, or closed; not by the endpoint: it broke the protocol."""
        if self._ended or self._failed is not None:
            return
        name = self._connection.endpoint.name
        if code == ErrorCode.REFUSED_STREAM and self._reply is None:
            failed = Failed(Failure.NOT_RECEIVED, why=f"{name} refused the request")
            self._failed = (failed, self.kept)
        elif not by_endpoint and code != ErrorCode.NO_ERROR:
            self._invalid(ERROR_NAMES.get(code, str(code)))
        else:
            kind = Failure.CONNECTION_RESET if self._reply is None else Failure.INCOMPLETE_RESPONSE
            what = ERROR_NAMES.get(code, str(code))
            self._failed = (Failed(kind, why=f"{name} reset the stream: {what}"), False)

    def _invalid(self, why: str) -> None:
        name = self._connection.endpoint.name
        failed = Failed(Failure.BAD_RESPONSE, why=f"{name} sent an invalid answer: {why}")
        self._failed = (failed, False)

    def settle(self) -> None:
        """Act on what has come; this may run the rest of the request."""
        if self._handler is None:
            return
        self._extend(self._sending)
        if not self._paused:
            self._acknowledge()
        answer, reply, body = self._answer, self._reply, self._body
        if self._failed is not None:
            if answer is not None:
                answer.feed(body)
            self._fail(*self._failed)
        elif reply is None:
            return
        elif self._ended:
            self._finish(reply)
        elif answer is not None:
            if body:
                self._body = []
                answer.feed(body)
                answer.wake()
        elif reply.length is None or reply.length > WHOLE:
            self._start_answer(reply)
            self._handler.answered(reply)
        elif len(body) > MAX_CHUNKS:
            self._body = [b"".join(body)]

    def _start_answer(self, reply: Reply) -> AnswerStream:
        answer = self._answer = AnswerStream(self)
        body, self._body = self._body, []
        answer.feed(body)
        reply.body = answer
        return answer

    def _finish(self, reply: Reply) -> None:
        """The answer is complete."""
        handler, answer, body = self._handler, self._answer, self._body
        assert handler is not None
        verdict = 0
        if self._call is not None:
            status = dict(self._trailers).get(b"grpc-status") or reply.index.get(b"grpc-status")
            self._call.reason = reason_of(status)
            verdict = 0 if status is None else counts_as(self._call)
        started = answer is not None
        if answer is not None:
            answer.feed(body)
        elif self._trailers:
            answer = self._start_answer(reply)
        # A request that has not been sent whole is not wanted any more.
        self._close(ErrorCode.CANCEL if self._sending else None)
        if answer is not None:
            if not started:
                handler.answered(reply)
            # First, so that nothing reads the request's body any more when its answer ends.
            handler.ended(None, verdict)
            answer.end(None, self._trailers)
            return
        if not self._head_only:
            reply.body = body[0] if len(body) == 1 else b"".join(body)
            if reply.status != 304:
                reply.length = len(reply.body)
        handler.answered(reply, verdict)

    # Ends.

    def lost(self, failure: Failure, why: str) -> None:
        """The connection has ended."""
        if self._reply is not None and failure is Failure.CONNECTION_RESET:
            self._fail(Failed(Failure.INCOMPLETE_RESPONSE, why=f"{why} within its answer"))
        else:
            stale = self.kept and failure is Failure.CONNECTION_RESET
            self._fail(Failed(failure, why=why), stale)

    def _fail(self, failed: Failed, stale: bool = False) -> None:
        handler, answer = self._handler, self._answer
        self._close(ErrorCode.CANCEL)
        if handler is None:
            return
        if answer is not None:
            handler.ended(failed)
            answer.end(failed)
        else:
            handler.failed(failed, stale)

    def _close(self, reset: int | None) -> None:
        """Leave the connection; with a code, the endpoint is told to stop."""
        if self.closed:
            return
        self.closed = True
        self._handler = self._answer = None
        self.deadline = self.limit = NEVER
        connection = self._connection
        connection.owner.open.discard(self)
        if not self.number:
            return
        self._acknowledge()
        if reset is not None:
            connection.reset(self.number, reset)
        connection.over(self.number)
        connection.write_soon()
