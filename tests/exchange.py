"""What hooks are tested with: requests, replies and bodies without sockets, and all that a
middleware is built with.

world = World(now=50.0) hooks = world.build(rate_limit, {"limit": 2, "window": "1m"})
hooks.request(exchange(peer="192.0.2.7", route="cameras")) world.now += 60
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from multidict import CIMultiDict, CIMultiDictProxy

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.headers import Pair
from gateway.core.hooks import Context, Hooks
from gateway.core.telemetry import Telemetry
from gateway.lifetime.registry import Draft, Registry

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

_AT_START = {
    name for name, one in signature(Exchange).parameters.items() if one.default is not one.empty
}


def pairs(headers: Headers) -> list[Pair]:
    """Header fields as they are on the wire; what is not UTF-8 in them is escaped, as aiohttp's
    parser does."""
    listed = headers.items() if isinstance(headers, Mapping) else headers
    return [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in listed]


def exchange(
    method: str = "GET",
    target: str = "/",
    headers: Headers = (),
    *,
    route: str | None = None,
    explained: bool = False,
    **facts: Any,
) -> Exchange:
    """Return a request as hooks are handed it.

    route: the name of its route. explained: its decisions are kept. facts: what Exchange takes by
    name, or any of its attributes.
    """
    listed = list(headers.items() if isinstance(headers, Mapping) else headers)
    given = {name: facts.pop(name) for name in _AT_START & set(facts)}
    made = Exchange(method, target, CIMultiDictProxy(CIMultiDict(listed)), pairs(listed), **given)
    if route is not None:
        made.route = SimpleNamespace(name=route, source=route, ignores_case=False)
    if explained:
        made.decisions = []
    for name, value in facts.items():
        setattr(made, name, value)
    return made


def fields(reply: Reply) -> dict[str, str]:
    """Return the fields a client gets, names in lower case; a name that comes twice fails."""
    lines = [name + b": " + value for name, value in reply.headers]
    lines += [line for block in reply.blocks for line in block.removesuffix(b"\r\n").split(b"\r\n")]
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.decode().partition(": ")
        assert name.lower() not in found, name
        found[name.lower()] = value
    return found


class Body:
    """A request's body, all of it here. `reads` counts how often a hook has asked for it."""

    def __init__(self, data: bytes, length: int | None = None, limit: int | None = None) -> None:
        self.data = data
        self.length = length
        self.limit = limit
        self.reads = 0

    async def read(self) -> bytes:
        raise NotImplementedError

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
    """A reply's body that arrives in chunks; an exception among them is raised when its turn
    comes."""

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
    assert await reply.body.read() == b""
    return b"".join(chunks)


@dataclass
class World:
    """What middlewares are built with: clocks set by hand, metrics, and what survives reloads.

    now:   seconds on the monotonic clock.
    epoch: what the time of day is ahead of it, in seconds since 1970.
    """

    directory: Path = field(default_factory=Path)
    now: float = 0.0
    epoch: float = 0.0
    telemetry: Telemetry = field(default_factory=Telemetry)
    kept: Registry = field(default_factory=Registry)

    def __post_init__(self) -> None:
        self.clock = Clock(lambda: self.now, lambda: self.epoch + self.now)
        self.draft = self.kept.draft()
        self.before: Draft | None = None

    def context(
        self, name: str, *, route: str = "", pipeline: str = "partner", **more: Any
    ) -> Context:
        given = {
            "home": self.directory,
            "clock": self.clock,
            "telemetry": self.telemetry,
            "keep": self.draft.keep,
            "at_commit": self.draft.at_commit,
            **more,
        }
        return Context(name, pipeline, route, self.directory, **given)

    def build(
        self,
        middleware: ModuleType,
        table: Mapping[str, Any] | None = None,
        *,
        name: str = "",
        **more: Any,
    ) -> Hooks:
        """Build a middleware from the package that the catalogue names, with its TOML table; `more`
        as in `context`."""
        context = self.context(name or middleware.__name__.rpartition(".")[2], **more)
        hooks: Hooks = middleware.build(middleware.CONFIG().load(dict(table or {})), context)
        return hooks

    def reload(self) -> None:
        """Let what was built be in force, and begin the next reload."""
        self.draft.commit()
        if self.before is not None:
            self.before.release()
        self.before, self.draft = self.draft, self.kept.draft()

    def close(self) -> None:
        """Close what is kept, at the end of the process."""
        self.draft.commit()
        self.kept.close()
