"""What hooks are tested with: requests, replies and bodies without sockets, and all that a
middleware is built with.

world = World(now=50.0) hooks = world.build(rate_limit, {"limit": 2, "window": "1m"})
hooks.request(exchange(peer="192.0.2.7", route="cameras")) world.now += 60
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from gateway.core.clock import Clock
from gateway.core.exchange import Reply
from gateway.core.hooks import Context, Hooks
from gateway.core.telemetry import Telemetry
from gateway.lifetime.registry import Draft, Registry
from gateway.testing.messages import Body as Body
from gateway.testing.messages import Headers as Headers
from gateway.testing.messages import Stream as Stream
from gateway.testing.messages import exchange as exchange
from gateway.testing.messages import pairs as pairs
from gateway.testing.messages import whole_body as whole_body


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
