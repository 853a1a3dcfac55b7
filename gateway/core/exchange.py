"""One request's facts while it is here, and the reply it will get.

`Exchange` is what hooks are handed; `Reply` (core/content/replies.py) is what they return or
change. Neither does I/O: bodies that are still arriving are `RequestBody` and `ReplyStream`,
implemented where the sockets are (serving/, upstream/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from multidict import MultiMapping
from mypy_extensions import mypyc_attr

from gateway.core.content.bodies import ReplacedBody
from gateway.core.content.replies import DIGESTS
from gateway.core.content.replies import OldReply as OldReply
from gateway.core.content.replies import Reply as Reply
from gateway.core.content.replies import ReplyStream as ReplyStream
from gateway.core.headers import Pair

if TYPE_CHECKING:
    from gateway.core.failures import Failed


@mypyc_attr(native_class=False)  # Operators' own may inherit from it.
class RequestBody(Protocol):
    """A request's body, arriving.

    `length` is its Content-Length in bytes, or None when it is chunked.
    """

    length: int | None
    limit: int | None
    """Bytes after which reading raises Failed(BODY_TOO_LARGE).

    Hooks may lower it before the first read.
    """

    async def read(self) -> bytes:
        """The next bytes, as they came; b"" at the end.

        Raises Failed when the body breaks off or grows past `limit`.
        """

    async def whole(self, at_most: int) -> bytes:
        """The complete body, kept so that it can still be sent.

        Raises Failed(BODY_TOO_LARGE) beyond `at_most` bytes.
        """

    @property
    def complete(self) -> bytes | None:
        """The whole body when all of it is here and kept, else None."""

    @property
    def received(self) -> bool:
        """Whether nothing of it is still to come from the client."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling, as an authentication method established it.

    `headers` go to the upstream (X-Client-ID ...).

    limit: one of the caller's own, as its key has it: a class of limits, or a rate such as
           "100/1m"; "" for none.
    prefix: what stands before `client` and `user` to keep one issuer's names apart from another's.
    account: a digest of the issuer, the subject and all other claims that are not of one token
        alone, "" where there are none. Two issuers' "alice", or hers in two organizations, differ
        by it: so do these objects, which caches use as keys.
    """

    client: str
    method: str
    tier: str = ""
    user: str = ""
    roles: frozenset[str] = frozenset()
    permissions: frozenset[str] = frozenset()
    headers: tuple[Pair, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False)
    limit: str = ""
    prefix: str = ""
    account: str = ""


class AttemptRecord(NamedTuple):
    """An attempt that was not the last: endpoint, seconds, and why another was made."""

    endpoint: str
    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What one hook decided and why, in words an operator understands.

    at: file:line of the table or key that decided, "" where none did.
    """

    hook: str
    outcome: str
    why: str = ""
    at: str = ""


class Exchange:
    """A request, everything learnt about it, and its reply.

    Made in serving/, dropped when the reply is written.

    What the client sent: `method`, `target` (raw, as on the request line, origin-form), `path`
    (raw, without the query; what routes match), `query` (raw, without "?"), `headers` (case-
    insensitive, str), `raw_headers`, `body` (None when there is none), `version` ((1, 1)),
    `scheme`, `host` (lower case, without port), `peer` (the socket's address), `trusted` (whether
    that is one of `trusted_proxies`), `client_ip` (`peer`, or what a trusted proxy said),
    `tls_subject` (of the client's certificate, which has been verified, as RFC 4514 writes it; ""
    without one).

    What the gateway found: `route`, `params` (template captures, percent-decoded), `identity`,
    `request_id`, `reply`, `failed`, `reason` (the deciding hook's word when nothing failed),
    `upstream` and `endpoint` (names), `attempts` (how many endpoints were tried), `tries` (the
    attempts before the last), `cache` (the word for the access log: hit, miss, ...), `notes` (a
    hook's own, by the hook's own key).

    When and how much: `started` (perf_counter seconds), `upstream_seconds`, `bytes_in`, `bytes_out`
    (body bytes), `written` (whether the head has gone out).

    What hooks add: `forward_headers` are raw pairs for the upstream request, instead of any of the
    client's with the same names; `drop_headers` are names (lower case) of the client's that must
    not go there; `reply_blocks` are complete header lines (each ended by CRLF) for the reply that
    goes out, errors included.

    `memo` holds what was worked out from the header fields alone (and who sent them), by the key of
    its owner. Requests on one connection that repeat the fields of the one before, X-Request-ID
    apart, share it, so nothing that changes with time, target or that field may go in.
    `traceparent` is the field (W3C Trace Context) for what is asked on the request's behalf, ""
    where the gateway traces nothing and the client's own goes on; `trace` has the spans of a
    request that is recorded (gateway.tracing.trace.Trace), None for others.
    `interim(status, pairs)` sends the client an interim answer (1xx, RFC 9110 section 15.2); None
    where the client knows none.
    `decisions` is None except for `explain`; then hooks append to it and consume nothing.
    """

    __slots__ = (
        "attempts",
        "body",
        "bytes_in",
        "bytes_out",
        "cache",
        "client_ip",
        "decisions",
        "drop_headers",
        "endpoint",
        "failed",
        "forward_headers",
        "headers",
        "host",
        "identity",
        "interim",
        "memo",
        "method",
        "notes",
        "params",
        "path",
        "peer",
        "query",
        "raw_headers",
        "reason",
        "reply",
        "reply_blocks",
        "request_id",
        "route",
        "scheme",
        "started",
        "target",
        "tls_subject",
        "trace",
        "traceparent",
        "tries",
        "trusted",
        "upstream",
        "upstream_seconds",
        "version",
        "written",
    )

    def __init__(
        self,
        method: str,
        target: str,
        headers: MultiMapping[str],
        raw_headers: Sequence[Pair],
        body: RequestBody | None = None,
        peer: str = "",
        scheme: str = "http",
        host: str = "",
        version: tuple[int, int] = (1, 1),
        request_id: str = "",
        started: float = 0.0,
        memo: dict[Any, Any] | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.path, _, self.query = target.partition("?")
        self.headers = headers
        self.raw_headers = raw_headers
        self.body = body
        self.peer = peer
        self.client_ip = peer
        self.trusted = False
        self.scheme = scheme
        self.tls_subject = ""
        self.host = host
        self.version = version
        self.request_id = request_id
        self.started = started
        self.route: Any = None
        self.params: dict[str, str] = NO_PARAMS
        self.identity: Identity | None = None
        self.reply: Reply | None = None
        self.failed: Failed | None = None
        self.reason = self.upstream = self.endpoint = self.cache = self.traceparent = ""
        self.trace: Any = None
        self.attempts = 0
        self.tries: list[AttemptRecord] | None = None
        self.upstream_seconds = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.written = False
        self.notes: dict[Any, Any] = {}
        self.memo = {} if memo is None else memo
        self.forward_headers: list[Pair] | None = None
        self.drop_headers: frozenset[bytes] | None = None
        self.reply_blocks: list[bytes] | None = None
        self.decisions: list[Decision] | None = None
        self.interim: Callable[[int, Iterable[Pair]], None] | None = None

    def __repr__(self) -> str:
        # Without the query: an API key may be in it, and this ends up in logs.
        return f"<Exchange {self.method} {self.path} {self.request_id}>"

    def beside(self, method: str, target: str, raw_headers: Sequence[Pair]) -> Exchange:
        """Return another request, without a body, from the same client and to the same route."""
        made = Exchange(method, target, self.headers, raw_headers, None, self.peer, self.scheme)
        made.host, made.version = self.host, self.version
        made.request_id, made.started = self.request_id, self.started
        made.client_ip, made.trusted = self.client_ip, self.trusted
        made.tls_subject, made.identity, made.route = self.tls_subject, self.identity, self.route
        made.trace, made.traceparent = self.trace, self.traceparent
        return made

    def replace_body(self, data: bytes, content_type: bytes = b"") -> None:
        """Send `data` on in place of the request's body.

        Its length follows, and digests of the other one go. content_type: its new one, b"" to keep
        it.
        """
        self.body = ReplacedBody(data)
        gone = DIGESTS | {b"content-type"} if content_type else DIGESTS
        self.drop_headers = (self.drop_headers or frozenset()) | gone
        if content_type:
            added = (b"Content-Type", content_type)
            self.forward_headers = [*(self.forward_headers or ()), added]

    def status(self) -> int:
        """Return the status the client saw: the reply's once its head was out, else the failure's.

        499 when the client left before either.
        """
        reply = self.reply
        if reply is not None and self.written:
            return reply.status
        return 499 if self.failed is None else self.failed.failure.status


NO_PARAMS: Final[dict[str, str]] = {}
"""Shared by every exchange whose route has no template; never written to."""

CHALLENGES = "challenges"
"""The note in which `auth` leaves, for a caller without credentials, the headers of a 401."""
SHADOW: Final = "shadow"
"""The note with what hooks in shadow would have refused: refusals.WouldRefuse."""
CACHE_KEY = "cache key"
"""The note with what the cache knows an answer by, in a dry run."""
DECIDED = "decided"
"""The note in which a pipeline leaves the request hook that answered or failed."""
ALLOWED_METHODS = "allowed_methods"
"""The note with the methods that routes accept, for OPTIONS only: a sorted tuple."""
