"""Answers in a content coding the client accepts (RFC 9110 section 12.5.3): zstd, br or gzip.

    [compression] algorithms = ["zstd", "br", "gzip"]     # the server's preference among what the
    client likes equally minimum = "1KiB"                        # shorter answers go out as they
    are types = ["text/*", "application/json", "+json"] gzip_level = 1                          # 0
    to 3; br_quality 0 to 5, zstd_level 1 to 9 events = false                          # whether
    text/event-stream is compressed too

Short complete bodies are compressed at once, longer ones piece by piece so that others get their
turn, and bodies that are arriving with a flush after everything that arrived, so that nothing is
held back.

Left alone: what has a coding already, parts (206, Content-Range), bodiless statuses, `no-transform`
            (RFC 9111 sections 5.2.1.6
and 5.2.2.6), and what carries a digest or a signature: Content-Digest and Repr-Digest both cover
the coded bytes (RFC 9530 sections 2 and 3), so a coding would make them wrong, and dropping them
would take away what the origin took care to give.

A strong ETag becomes weak, since another coding is another representation (RFC 9110 section
8.8.3.3). Where `caching` comes before this in the list it stores answers as they came; after it,
coded ones, which Vary tells apart.
"""

from __future__ import annotations

import re
from typing import Any, Final

from multidict import istr

from gateway.config.tables.schema import schema_of
from gateway.core.content.grpc import CONTENT_TYPE as GRPC
from gateway.core.exchange import Exchange, Reply
from gateway.core.headers import Pair
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.middlewares.compression.codings import Coding, EncodedStream, Pieces, codings
from gateway.middlewares.compression.config import CompressionConfig
from gateway.middlewares.compression.negotiation import preferred

CONFIG = schema_of(CompressionConfig)

EVENTS = "text/event-stream"

AT_ONCE = 64 * 1024
"""Bytes that are compressed in one go: about a millisecond of the slowest coding allowed."""

ACCEPT_ENCODING, CACHE_CONTROL, IF_NONE_MATCH = (
    istr("Accept-Encoding"),
    istr("Cache-Control"),
    istr("If-None-Match"),
)
UNTOUCHED: Final = frozenset(
    (
        b"content-encoding",
        b"content-range",
        b"content-digest",
        b"repr-digest",
        b"digest",
        b"content-md5",
        b"signature-input",
    )
)
"""Fields whose presence keeps an answer as it is; the last is RFC 9421's."""
BODILESS: Final = frozenset((204, 205, 206, 304))
"""Statuses without a body, and 206, whose ranges are those of the uncoded one."""

NOTHING: Final[list[str]] = []
Fields = tuple[list[Pair], dict[bytes, bytes], tuple[int, bytes]]
"""A reply's headers, their index, and the headers joined."""

_MEMO_MAX = 256
_TYPE = re.compile(r"[a-z0-9!#$&^_.-]+/(?:\*|[a-z0-9!#$&^_.+-]+)|\+[a-z0-9.-]+")


class Compression:
    """Decides per answer; remembers decisions about media types and Accept-Encoding."""

    def __init__(self, config: CompressionConfig) -> None:
        self._algorithms = config.algorithms
        self._codings = codings(config.gzip_level, config.br_quality, config.zstd_level)
        self._minimum = max(1, config.minimum)
        types = [_checked(number, pattern) for number, pattern in enumerate(config.types)]
        self._exact = frozenset(types)
        self._suffixes = tuple(pattern for pattern in types if pattern.startswith("+"))
        self._keeps_strong = config.strong_etags == "uncoded"
        self._events = config.events or EVENTS in types
        self._types: dict[bytes, bool] = {}
        self._choices: dict[str, Coding | None] = {}
        self._fields = CodedFields()

    def response(self, exchange: Exchange, reply: Reply) -> None:
        """Code the reply as the client prefers, where that is worth it."""
        length = reply.length
        if length is not None and length < self._minimum and reply.status != 304:
            return
        index = reply.index
        if reply.status in BODILESS or reply.status < 200:
            if reply.status == 304:
                _not_modified(exchange, reply)
            return
        media_type = index.get(b"content-type")
        if media_type is None:
            return
        fits = self._types.get(media_type)
        if not (self._fits(media_type) if fits is None else fits) or not UNTOUCHED.isdisjoint(
            index
        ):
            return
        directives = index.get(b"cache-control")
        if directives is not None and b"no-transform" in directives.lower():
            return
        if self._keeps_strong and index.get(b"etag", b"W/")[:2] != b"W/":
            return
        given = exchange.headers.getall(ACCEPT_ENCODING, NOTHING)
        if given:
            accept = ", ".join(given) if given[1:] else given[0]
            coding = self._choices[accept] if accept in self._choices else self._choose(accept)
            if (
                coding is not None
                and not (
                    CACHE_CONTROL in exchange.headers
                    and "no-transform" in _joined(exchange, CACHE_CONTROL).lower()
                )
                and _encode(coding, exchange, reply)
            ):
                self._fields.declare(coding.name, reply)
                return
        reply.vary(b"Accept-Encoding")

    def _fits(self, value: bytes) -> bool:
        """Return True if a Content-Type is one to compress."""
        media_type = value.decode("latin-1").partition(";")[0].strip().lower()
        if media_type == EVENTS:
            fits = self._events
        elif media_type.startswith(GRPC):
            fits = False  # Its messages say themselves how they are coded.
        else:
            fits = (
                media_type in self._exact
                or media_type.partition("/")[0] + "/*" in self._exact
                or (bool(self._suffixes) and media_type.endswith(self._suffixes))
            )
        _remember(self._types, value, fits)
        return fits

    def _choose(self, accept: str) -> Coding | None:
        name = preferred(accept, self._algorithms)
        coding = None if name is None else self._codings[name]
        _remember(self._choices, accept, coding)
        return coding


def _remember(memo: dict[Any, Any], key: str | bytes, value: object) -> None:
    if len(key) <= _MEMO_MAX:
        if len(memo) >= _MEMO_MAX:
            memo.clear()
        memo[key] = value


def _encode(coding: Coding, exchange: Exchange, reply: Reply) -> bool:
    """Code the body; False if that would not make it smaller."""
    body = reply.body
    if exchange.method == "HEAD":
        reply.length = None
    elif not isinstance(body, bytes):
        reply.body = EncodedStream(body, coding.encoder(), flush=True)
        reply.length = None
    elif len(body) > AT_ONCE:
        reply.body = EncodedStream(Pieces(body), coding.encoder(), flush=False)
        reply.length = None
    else:
        coded = coding.once(body)
        if len(coded) >= len(body):
            return False
        reply.body = coded
        reply.length = len(coded)
    return True


class CodedFields:
    """The fields of coded replies: what the same ones came to is remembered, from the second time
    on."""

    MOST: Final = 64
    """Heads that are remembered."""
    LONGEST: Final = 2048
    """Bytes of one of them."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], Fields | None] = {}

    def declare(self, coding: bytes, reply: Reply) -> None:
        """Tell in the fields that the body has this coding."""
        joined = reply.joined
        if joined is None or joined[0] != len(reply.headers) or len(joined[1]) > self.LONGEST:
            _declare(coding, reply)
            return
        key = (coding, joined[1])
        known = self._known.get(key)
        if known is not None:
            headers, index, reply.joined = known
            reply.headers, reply.index = headers.copy(), index.copy()
            return
        _declare(coding, reply)
        if key in self._known:
            lines = b"".join([b"%b: %b\r\n" % pair for pair in reply.headers])
            reply.joined = len(reply.headers), lines
            self._known[key] = reply.headers.copy(), reply.index.copy(), reply.joined
            return
        if len(self._known) >= self.MOST:
            self._known.clear()
        self._known[key] = None


def _declare(coding: bytes, reply: Reply) -> None:
    reply.vary(b"Accept-Encoding")
    reply.add(b"Content-Encoding", coding)
    etag = reply.index.get(b"etag")
    if etag is not None and not etag.startswith(b"W/"):
        reply.remove(b"accept-ranges", b"etag")
        reply.add(b"ETag", b"W/" + etag)
    else:
        reply.remove(b"accept-ranges")


def _joined(exchange: Exchange, name: istr) -> str:
    """Return all lines of a request's field, "" without one."""
    return ", ".join(exchange.headers.getall(name, NOTHING))


def _not_modified(exchange: Exchange, reply: Reply) -> None:
    """Weaken the ETag of a 304 to a client that asked with the weak form.

    It has the coded representation.

    A strong ETag in the 304 would match nothing that client has stored (RFC 9111 section 4.3.4).
    """
    etag = reply.index.get(b"etag")
    if etag is not None and not etag.startswith(b"W/"):
        weak = b"W/" + etag
        if weak.decode("latin-1") in _joined(exchange, IF_NONE_MATCH):
            reply.set(b"ETag", weak)
            reply.vary(b"Accept-Encoding")


def _checked(number: int, pattern: str) -> str:
    pattern = pattern.lower()
    if not _TYPE.fullmatch(pattern):
        hint = 'such as "application/json", "text/*" or "+json", without parameters'
        raise ConfigProblem(f"{pattern!r} is not a media type", at=("types", number), hint=hint)
    return pattern


def build(config: Any, context: Context) -> Hooks:
    if not config.algorithms:
        raise ConfigProblem(
            "there is no algorithm to choose",
            at=("algorithms",),
            hint="leave compression out of the list instead",
        )
    return Hooks(response=Compression(config).response)
