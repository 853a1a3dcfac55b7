"""The gateway's condition, for its public answer and for operators.

It is down only when something is that routes need and nothing stands in for: upstreams that no
route uses, and the store of limits, make it degraded at most.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from gateway import __version__
from gateway.core.exchange import Exchange, Reply

HEALTHY, DEGRADED, UNHEALTHY = "healthy", "degraded", "unhealthy"


class Reporting(Protocol):
    """What is asked of a pool, and of the shared store."""

    def status(self) -> dict[str, Any]:
        """Its state for operators; `status` is "healthy", "degraded" or "unhealthy"."""


class Health:
    """The condition of a snapshot's upstreams and of its store.

    needed: the upstreams that routes lead to, each with the fallbacks that stand in for it, in
            order.
    registered: those that were registered at run time.
    """

    def __init__(
        self,
        pools: Mapping[str, Reporting],
        needed: Mapping[str, Sequence[str]],
        store: Reporting | None,
        wall: Callable[[], float],
        registered: Collection[str] = (),
    ) -> None:
        self._pools = pools
        self._needed = needed
        self._store = store
        self._wall = wall
        self._registered = registered

    def report(self) -> dict[str, Any]:
        """For operators: `status`, `upstreams` by name as pools tell it, and `store` if there is
        one."""
        upstreams = {name: pool.status() for name, pool in self._pools.items()}
        alone = {name: str(upstream["status"]) for name, upstream in upstreams.items()}
        for name, upstream in upstreams.items():
            upstream["status"] = self._effective(name, alone)
            if name in self._registered:
                upstream["registered"] = True
        counted = [upstreams[name]["status"] for name in self._needed]
        unused = [DEGRADED for name in upstreams.keys() - self._needed if alone[name] == UNHEALTHY]
        said: dict[str, Any] = {"status": worst([*counted, *unused]), "upstreams": upstreams}
        if self._store is not None:
            said["store"] = store = self._store.status()
            if store["status"] != HEALTHY:  # limits go on without it, as on_store_failure says
                said["status"] = worst([said["status"], DEGRADED])
        return said

    def answer(self, exchange: Exchange) -> Reply:
        """The public answer: 200, or 503 when it is down. It names upstreams, never their
        addresses."""
        report = self.report()
        body = {
            "status": report["status"],
            "version": __version__,
            "timestamp": datetime.fromtimestamp(self._wall(), UTC)
            .isoformat(timespec="seconds")
            .replace("+00:00", "Z"),
            "services": {
                name: _service(upstream) for name, upstream in report["upstreams"].items()
            },
        }
        if "store" in report:
            body["store"] = {"status": report["store"]["status"]}
        headers = ((b"Content-Type", b"application/json"), (b"Cache-Control", b"no-store"))
        return Reply(503 if report["status"] == UNHEALTHY else 200, headers, orjson.dumps(body))

    def _effective(self, name: str, alone: Mapping[str, str]) -> str:
        """An upstream's condition, which is degraded at worst while a fallback serves for it."""
        if alone[name] == UNHEALTHY and any(
            alone[other] != UNHEALTHY for other in self._needed.get(name, ())
        ):
            return DEGRADED
        return alone[name]


def worst(conditions: Iterable[str]) -> str:
    """The overall condition: unhealthy if any is, else degraded if any is, else healthy."""
    found = set(conditions)
    return next((word for word in (UNHEALTHY, DEGRADED) if word in found), HEALTHY)


def _service(upstream: Mapping[str, Any]) -> dict[str, Any]:
    """`responseTime`: milliseconds that the quickest endpoint took for its last check, where there
    are checks."""
    said = {"status": upstream["status"]}
    seconds = [
        one["check_seconds"]
        for one in upstream.get("endpoints", ())
        if one["check_seconds"] is not None
    ]
    if seconds:
        said["responseTime"] = round(1000 * min(seconds), 3)
    return said
