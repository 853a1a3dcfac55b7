"""Requests, replies and their bodies, without sockets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import signature
from types import SimpleNamespace
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.exchange import Exchange, Identity, Reply, RequestBody
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

_AT_START = {
    name for name, one in signature(Exchange).parameters.items() if one.default is not one.empty
}


def pairs(headers: Headers) -> list[Pair]:
    """Return header fields as they are on the wire; what is not UTF-8 in them is escaped, as
    aiohttp's parser does."""
    listed = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in listed]


def exchange(
    method: str = "GET",
    target: str = "/",
    headers: Headers = (),
    body: bytes | RequestBody | None = None,
    *,
    client: str = "",
    route: str | None = None,
    explained: bool = False,
    **facts: Any,
) -> Exchange:
    """Return a request as hooks are handed it.

    body: what it brings; bytes are not read yet. client: the name of its identity, "" for none.
    route: the name of its route. explained: its decisions are kept. facts: what Exchange takes by
    name, or any of its attributes.
    """
    listed = list(headers.items() if isinstance(headers, Mapping) else headers)
    given = {name: facts.pop(name) for name in _AT_START & set(facts)}
    arriving = Body(body, len(body)) if isinstance(body, bytes) else body
    fields = CIMultiDictProxy(CIMultiDict(listed))
    made = Exchange(method, target, fields, pairs(listed), arriving, **given)
    if client:
        made.identity = Identity(client, "test")
    if route is not None:
        config = SimpleNamespace(timeout=None)
        made.route = SimpleNamespace(name=route, source=route, ignores_case=False, config=config)
    if explained:
        made.decisions = []
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def reply(
    status: int = 200, body: bytes | str | Iterable[bytes] = b"", headers: Headers = ()
) -> Reply:
    """Return an answer; a body of several chunks arrives as a stream."""
    if isinstance(body, str):
        body = body.encode()
    arriving = body if isinstance(body, bytes) else Stream(*body)
    return Reply(status, pairs(headers), arriving)


class Body:
    """A request's body, all of it here. `reads` counts how often a hook has asked for it."""

    def __init__(self, data: bytes, length: int | None = None, limit: int | None = None) -> None:
        self.data = data
        self.length = length
        self.limit = limit
        self.reads = 0

    async def read(self) -> bytes:
        self.reads += 1
        return self.data if self.reads == 1 else b""

    async def whole(self, at_most: int) -> bytes:
        self.reads += 1
        if len(self.data) > at_most:
            raise Failed(Failure.BODY_TOO_LARGE)
        return self.data

    @property
    def complete(self) -> bytes | None:
        return self.data if self.reads else None

    @property
    def received(self) -> bool:
        return True


class Stream:
    """A reply's body that arrives in chunks; an exception among them is raised when its turn comes.

    aborted: how often it was given up.
    """

    def __init__(self, *chunks: bytes | BaseException) -> None:
        self.chunks = list(chunks)
        self.aborted = 0

    async def read(self) -> bytes:
        if not self.chunks:
            return b""
        chunk = self.chunks.pop(0)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def abort(self) -> None:
        self.aborted += 1


async def whole_body(reply: Reply) -> bytes:
    """Return a reply's body, read to its end."""
    if isinstance(reply.body, bytes):
        return reply.body
    chunks = []
    while chunk := await reply.body.read():
        chunks.append(chunk)
    assert await reply.body.read() == b"", "a stream that has ended gives nothing more"
    return b"".join(chunks)
