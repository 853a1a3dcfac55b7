"""Owners of the URL space, for the errors of requests that match no route.

Only asked for when a request has failed: it costs nothing on the way of others.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from typing import Generic, TypeVar

from gateway.config.tables.pipeline import RouteConfig
from gateway.core.exchange import Exchange

T = TypeVar("T")


class Regions(Generic[T]):
    """Owners by host and by the literal segments that paths of their routes begin with."""

    def __init__(self, entries: Iterable[tuple[RouteConfig, T]]) -> None:
        self._owners: dict[tuple[str, str], set[T]] = {}
        owners: set[T] = set()
        for route, owner in entries:
            owners.add(owner)
            for match, host in product(route.matches(), route.hosts or ("",)):
                for start in _starts((match.path or match.prefix).partition("{")[0]):
                    self._owners.setdefault((host.lower(), start), set()).add(owner)
        self._only = next(iter(owners)) if len(owners) == 1 else None

    def owner(self, exchange: Exchange) -> T | None:
        """Return the owner of the longest beginning of the path that has only one.

        None when there is none.
        """
        if self._only is not None:
            return self._only
        starts = _starts(exchange.path)[::-1]
        for host in _hosts(exchange.host):
            for start in starts:
                found = self._owners.get((host, start), ())
                if len(found) == 1:
                    return next(iter(found))
        return None


def _starts(path: str) -> list[str]:
    """ "/a/b/" gives "", "/a", "/a/b"."""
    segments = [segment for segment in path.split("/") if segment]
    return ["/".join(("", *segments[:count])) for count in range(min(len(segments), 16) + 1)]


def _hosts(host: str) -> list[str]:
    """A host, the wildcards above it, the longest first, and no host."""
    labels = host.rstrip(".").split(".")[-16:]
    return [
        host.rstrip("."),
        *("*." + ".".join(labels[place:]) for place in range(1, len(labels))),
        "",
    ]
