"""Replies and their bodies: complete, arriving, or changed on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final, Protocol

from mypy_extensions import mypyc_attr

from gateway.core.headers import Pair, lower, tokens
from gateway.core.wait import STOPPED

DIGESTS = frozenset((b"content-digest", b"repr-digest", b"digest", b"content-md5"))
"""Fields that are true of one body alone (RFC 9530 and what was before it)."""


@mypyc_attr(native_class=False)  # Operators' own may inherit from it.
class ReplyStream(Protocol):
    """A reply's body, arriving. A reader that stops before the end calls `abort`."""

    async def read(self) -> bytes:
        """The next bytes, as they came; b"" at the end. Raises Failed when the body breaks off."""

    def abort(self) -> None:
        """Give the rest up: closes what it came from. Harmless after the end, and twice."""


class ChangedStream:
    """A reply's body of which every chunk is changed: a ReplyStream."""

    __slots__ = ("_change", "_end", "_inner")

    def __init__(
        self,
        inner: ReplyStream,
        change: Callable[[bytes], bytes],
        end: Callable[[], bytes] | None,
    ) -> None:
        self._inner = inner
        self._change = change
        self._end = end

    @property
    def trailers(self) -> Any:
        return getattr(self._inner, "trailers", ())

    async def read(self) -> bytes:
        try:
            while chunk := await self._inner.read():
                if changed := self._change(chunk):
                    return changed
            end, self._end = self._end, None
            return b"" if end is None else end()
        except StopIteration as stop:
            raise RuntimeError(STOPPED) from stop

    def abort(self) -> None:
        self._inner.abort()


class WrongLength(Exception):
    """A body has another length than its reply says."""


class MeasuredStream:
    """A reply's body that must have the length its reply states: a ReplyStream.

    What would complete that length is held back until the end has come: a client never takes a body
    that is cut short for a whole one. Raises WrongLength.
    """

    __slots__ = ("_held", "_inner", "_left", "_length")

    def __init__(self, inner: ReplyStream, length: int) -> None:
        self._inner = inner
        self._length = self._left = length
        self._held = b""

    @property
    def trailers(self) -> Any:
        return getattr(self._inner, "trailers", ())

    async def read(self) -> bytes:
        if self._left == 0 and not self._held and self._length:
            return b""
        try:
            chunk = await self._inner.read()
        except StopIteration as stop:
            raise RuntimeError(STOPPED) from stop
        if self._held:
            if chunk:
                raise WrongLength(f"the body has more than the {self._length} bytes it states")
            held, self._held = self._held, b""
            return held
        self._left -= len(chunk)
        if self._left < 0 or (not chunk and self._left):
            word = "more" if chunk else "less"
            raise WrongLength(f"the body has {word} than the {self._length} bytes it states")
        if self._left or not chunk:
            return chunk
        self._held = chunk
        return await self.read()

    def abort(self) -> None:
        self._inner.abort()


_VARIES: Final[dict[tuple[bytes, bytes], bool]] = {}
"""Whether a Vary value covers a name already; few of either are ever seen."""
_VARIES_MAX = 512


@mypyc_attr(allow_interpreted_subclasses=True)
class Reply:
    """A status, raw headers and a body: complete (`bytes`) or still arriving (`ReplyStream`).

    `headers` never holds Connection, Content-Length or Transfer-Encoding: serving/ frames the
    message itself. Change headers only through the methods; they keep the index for `get` true.
    `length` is the body's length in bytes when known (for HEAD and 304, the length GET would have
    had), None otherwise. `blocks` are complete header lines (each ended by CRLF) that are not
    looked up again, such as the limit headers. `joined` is how many of the first `headers` have
    been written out already, and as which lines; the methods keep it true.
    """

    __slots__ = ("blocks", "body", "headers", "index", "joined", "length", "reason", "status")

    version: ClassVar[str] = "1.1"
    """Of HTTP, by which it came; for Via (RFC 9110 section 7.6.3)."""

    def __init__(
        self,
        status: int,
        headers: Iterable[Pair] = (),
        body: bytes | ReplyStream = b"",
        *,
        reason: bytes = b"",
        length: int | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers: list[Pair] = []
        self.index: dict[bytes, bytes] = {}
        self.blocks: list[bytes] = []
        self.joined: tuple[int, bytes] | None = None
        self.body = body
        self.length = len(body) if length is None and isinstance(body, bytes) else length
        for name, value in headers:
            self.add(name, value)

    @classmethod
    def known(
        cls,
        status: int,
        headers: list[Pair],
        index: dict[bytes, bytes],
        joined: tuple[int, bytes] | None,
        length: int | None,
    ) -> Reply:
        """One whose headers have been indexed and joined already; takes them over.

        Its body is to be set.
        """
        reply = cls.__new__(cls)
        reply.status = status
        reply.reason = b""
        reply.headers = headers
        reply.index = index
        reply.blocks = []
        reply.joined = joined
        reply.body = b""
        reply.length = length
        return reply

    def transform(
        self, change: Callable[[bytes], bytes], end: Callable[[], bytes] | None = None
    ) -> None:
        """Change the body, whole or chunk by chunk as it arrives; the length follows.

        change: gets a chunk and returns what takes its place, maybe b"". Chunks end anywhere. end:
        returns what comes after the last one. Digests go, and a strong ETag becomes weak. Raises
        ValueError for a part of a body (206) and for a coded one (Content-Encoding): who transforms
        bodies keeps Range and Accept-Encoding from the upstream.
        """
        if self.status == 206 or self.index.get(b"content-encoding", b"identity") != b"identity":
            raise ValueError("neither a part of a body nor a coded one can be transformed")
        body, etag = self.body, self.index.get(b"etag")
        if etag is not None and not etag.startswith(b"W/"):
            self.set(b"ETag", b"W/" + etag)
        self.remove(b"accept-ranges", *DIGESTS)
        if not isinstance(body, bytes):
            self.body, self.length = ChangedStream(body, change, end), None
        elif body or not self.length:
            self.body = change(body) + (b"" if end is None else end())
            self.length = len(self.body)
        else:
            self.length = None  # Of HEAD and 304: what a GET would have had is not known.

    def __repr__(self) -> str:
        kind = "bytes" if isinstance(self.body, bytes) else "stream"
        return f"<Reply {self.status} {kind} {self.length}>"

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the field `name` (lower case), several lines joined by commas."""
        return self.index.get(name)

    def add(self, name: bytes, value: bytes) -> None:
        """One more line."""
        self.headers.append((name, value))
        key = lower(name)
        known = self.index.get(key)
        self.index[key] = value if known is None else known + b", " + value

    def set(self, name: bytes, value: bytes) -> None:
        """This line instead of any there was."""
        key = lower(name)
        if key in self.index:
            self.remove(key)
        self.headers.append((name, value))
        self.index[key] = value

    def vary(self, name: bytes) -> None:
        """Add `name` to Vary, unless it is there (RFC 9110 section 12.5.5)."""
        known = self.index.get(b"vary")
        if known is None:
            self.headers.append((b"Vary", name))
            self.index[b"vary"] = name
        elif known != name:
            said = _VARIES.get((known, name))
            if said is None:
                said = _VARIES[(known, name)] = bool({b"*", lower(name)} & set(tokens(known)))
                if len(_VARIES) > _VARIES_MAX:
                    _VARIES.clear()
            if not said:
                self.headers.append((b"Vary", name))
                self.index[b"vary"] = known + b", " + name

    def remove(self, *names: bytes) -> None:
        """Drops every line called one of `names` (lower case)."""
        index = self.index
        there = [name for name in names if index.pop(name, None) is not None]
        if there:
            self.headers = [pair for pair in self.headers if lower(pair[0]) not in there]
            self.joined = None


@mypyc_attr(allow_interpreted_subclasses=True)  # Else __new__ in `known` would be __init__ too.
class OldReply(Reply):
    """A reply that came by HTTP/1.0."""

    __slots__ = ()

    version = "1.0"
