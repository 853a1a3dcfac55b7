"""`transform`: header fields, the query and JSON bodies, changed both ways.

    [transform.request]
    set = { "X-Tenant" = "{client}" }
    query.remove = ["debug"]
    [transform.response]
    remove = ["Server"]
    body.set = { "meta.rateLimit.remaining" = "{remaining}" }

Hooks: `request` changes what upstreams are sent, `response` and, for fields alone, `error` what
clients get. A body is only read where one is changed, and where it is JSON (application/json and
anything +json): files pass as they come, and event streams and lines of JSON unless `lines` says
otherwise. With a response's body to
be changed, upstreams are asked for whole, uncoded answers.

An answer whose body is changed is another representation: its digests go, and a strong ETag
becomes weak (RFC 9110 section 8.8.3). The operator's word stands above `no-transform`.
"""

from __future__ import annotations

from dataclasses import replace

from gateway.config.tables.schema import schema_of
from gateway.core.content.bodies import ResumedStream
from gateway.core.content.grpc import CONTENT_TYPE as GRPC
from gateway.core.content.replies import DIGESTS
from gateway.core.exchange import Decision, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import lower
from gateway.core.hooks import Context, Hooks, RequestHook, ResponseHook
from gateway.core.wait import own
from gateway.middlewares.transform.body import BodyChanges
from gateway.middlewares.transform.config import TransformConfig
from gateway.middlewares.transform.fields import QueryChanges, RequestFields, ResponseFields
from gateway.middlewares.transform.lines import DATA, ChangedLines, changed_lines
from gateway.protocols.json_text import Bounds, Unreadable, json_text, json_value

CONFIG = schema_of(TransformConfig)

_BOUNDS = Bounds()
_IN_LINES = frozenset(("text/event-stream", "application/x-ndjson", "application/ndjson"))
_NO_BODY = frozenset((101, 204, 304))


class Transform:
    """One instance. Its hooks are made of what there is to change."""

    def __init__(self, config: TransformConfig, context: Context) -> None:
        asked, answered = config.request, config.response
        self._name = context.name
        self._most = config.max_body
        self._passes = config.unreadable == "pass"
        self._query = QueryChanges(asked.query, ("request", "query"))
        self._body = BodyChanges(asked.body, ("request", "body"))
        self._reply_fields = ResponseFields(answered, ("response",))
        self._reply_body = BodyChanges(answered.body, ("response", "body"))
        self._lines = answered.lines
        self.changes_bodies = bool(self._reply_body)
        """Of answers. A part of one is then no part of what clients get."""
        if self._reply_body:
            asked = replace(
                asked,
                remove=(*asked.remove, "Range", "If-Range"),
                set={**asked.set, "Accept-Encoding": "identity"},
            )
        self._fields = RequestFields(asked, ("request",))

    def hooks(self) -> Hooks:
        """The cheapest hooks that do it."""
        request: RequestHook | None = None
        response: ResponseHook | None = None
        if self._body:
            request = self._with_body
        elif self._query or self._fields:
            request = self._ask
        if self._reply_body:
            response = self._answer
        elif self._reply_fields:
            response = self._reply_fields.__call__
        return Hooks(request, response, self._error if self._reply_fields else None)

    def _ask(self, exchange: Exchange) -> None:
        if self._fields:
            self._fields(exchange)
        if self._query:
            self._query(exchange)
        if exchange.decisions is not None:
            exchange.decisions.append(Decision(self._name, "changed", "what the upstream is sent"))

    @own
    async def _with_body(self, exchange: Exchange) -> None:
        """Change the body too. Raises Failed for one that cannot be read."""
        self._ask(exchange)
        body = exchange.body
        headers = exchange.headers
        # An origin may go by any line of them: see validation/gate.py.
        if body is None or not any(map(_is_json, headers.getall("Content-Type", ()))):
            return
        try:
            if any(one.lower() != "identity" for one in headers.getall("Content-Encoding", ())):
                raise Unreadable(Failure.UNSUPPORTED_MEDIA_TYPE, "A coded body is not supported.")
            if self._passes and (body.length is None or body.length > self._most):
                return
            data = await body.whole(self._most)
            if not data:
                return
            value = json_value(data, _BOUNDS)
        except Unreadable as error:
            if self._passes:
                return
            raise Failed(error.failure, error.detail, why=error.why, by=self._name) from None
        exchange.replace_body(json_text(self._body.apply(value, exchange)))

    def _error(self, exchange: Exchange, failed: Failed) -> None:
        if exchange.reply is not None:
            self._reply_fields(exchange, exchange.reply)

    @own
    async def _answer(self, exchange: Exchange, reply: Reply) -> None:
        """Change an answer's body and fields. Raises Failed for a body that cannot be read."""
        content_type = reply.index.get(b"content-type", b"").decode("latin-1")
        if _is_json(content_type):
            if reply.status == 304 or exchange.method == "HEAD":
                _another(reply)
            elif reply.status not in _NO_BODY:
                await self._answer_body(exchange, reply)
        elif self._lines and content_type.partition(";")[0].strip().lower() in _IN_LINES:
            self._answer_lines(exchange, reply, content_type.lstrip().lower().startswith("text/"))
        elif reply.status == 304:
            _another(reply)  # It may be of an answer that has been changed.
        self._reply_fields(exchange, reply)

    def _answer_lines(self, exchange: Exchange, reply: Reply, events: bool) -> None:
        """Change a stream's lines. A coded one passes."""
        if reply.get(b"content-encoding") is not None:
            return
        start = DATA if events else b""

        def change(line: bytes) -> bytes:
            if not line.startswith(start):
                return line
            try:
                value = json_value(line[len(start) :], _BOUNDS)
            except Unreadable:
                return line
            return start + json_text(self._reply_body.apply(value, exchange))

        body, most = reply.body, self._most
        _another(reply)
        if isinstance(body, bytes):
            reply.body = changed_lines(body, change, most)
            reply.length = len(reply.body) if exchange.method != "HEAD" else None
        else:
            reply.body = ChangedLines(body, change, most)

    async def _answer_body(self, exchange: Exchange, reply: Reply) -> None:
        index = reply.index
        try:
            coding = index.get(b"content-encoding", b"identity")
            if lower(coding) != b"identity" or b"content-range" in index:
                raise Unreadable(Failure.BAD_RESPONSE, "", "it is coded or a part")
            data = await self._whole(reply)
            if not data:
                return
            value = json_value(data, _BOUNDS)
        except Unreadable as error:
            if self._passes:
                return
            why = f"the answer cannot be changed: {error.why or error.detail}"
            raise Failed(Failure.BAD_RESPONSE, why=why, by=self._name) from None
        reply.body = json_text(self._reply_body.apply(value, exchange))
        _another(reply)
        reply.length = len(reply.body)

    async def _whole(self, reply: Reply) -> bytes:
        """The complete body of a reply, which has it from now on. Raises Unreadable beyond the
        bound."""
        body = reply.body
        if isinstance(body, bytes):
            if len(body) > self._most:
                raise _too_large(self._most)
            return body
        if reply.length is not None and reply.length > self._most:
            raise _too_large(self._most)
        begun = bytearray()
        while chunk := await body.read():
            begun += chunk
            if len(begun) > self._most:
                reply.body = ResumedStream(bytes(begun), body)
                raise _too_large(self._most)
        reply.body = bytes(begun)
        return reply.body


def _too_large(most: int) -> Unreadable:
    return Unreadable(Failure.BODY_TOO_LARGE, "", f"it has more than {most} bytes")


def _another(reply: Reply) -> None:
    """Say of a reply that its body is not the one that came."""
    reply.length = None
    for name in (*DIGESTS, b"accept-ranges"):
        reply.remove(name)
    etag = reply.get(b"etag")
    if etag is not None and not etag.startswith(b"W/"):
        reply.set(b"ETag", b"W/" + etag)


def _is_json(content_type: str) -> bool:
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (
        media_type.endswith("+json") and not media_type.startswith(GRPC)
    )


def build(config: TransformConfig, context: Context) -> Hooks:
    return Transform(config, context).hooks()
