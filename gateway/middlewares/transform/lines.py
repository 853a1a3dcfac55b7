"""Streams whose lines are JSON, changed line by line as they arrive."""

from __future__ import annotations

from collections.abc import Callable

from gateway.core.exchange import ReplyStream

DATA = b"data:"
"""What begins a line of an event stream that holds data (WHATWG HTML section 9.2.6)."""


class ChangedLines:
    """A reply's body, arriving: a ReplyStream.

    change: gives a line without its end in another form. most: bytes of a line that is changed; a
    longer one passes as it comes. No line is held back once it is complete.
    """

    __slots__ = ("_begun", "_change", "_most", "_passing", "_source")

    def __init__(self, source: ReplyStream, change: Callable[[bytes], bytes], most: int) -> None:
        self._source = source
        self._change = change
        self._most = most
        self._begun = b""
        self._passing = False
        """Whether the rest of a line that was too long is passing."""

    @property
    def trailers(self) -> object:
        return getattr(self._source, "trailers", ())

    async def read(self) -> bytes:
        while chunk := await self._source.read():
            made = self._feed(chunk)
            if made:
                return made
        begun, self._begun = self._begun, b""
        return self._change(begun) if begun else b""

    def abort(self) -> None:
        self._source.abort()

    def _feed(self, chunk: bytes) -> bytes:
        """What can go on, now that more has come."""
        made = b""
        if self._passing:
            made, end, chunk = chunk.partition(b"\n")
            made += end
            self._passing = not end
        whole, end, self._begun = (self._begun + chunk).rpartition(b"\n")
        if end:
            made += changed_lines(whole, self._change, self._most) + end
        if len(self._begun) > self._most:
            made, self._begun, self._passing = made + self._begun, b"", True
        return made


def changed_lines(text: bytes, change: Callable[[bytes], bytes], most: int) -> bytes:
    """The lines of a text, each changed; an end of CRLF stays."""
    made = []
    for line in text.split(b"\n"):
        end = b"\r" if line.endswith(b"\r") else b""
        bare = line.removesuffix(b"\r")
        made.append(line if len(bare) > most else change(bare) + end)
    return b"\n".join(made)
