"""What the dashboard shows: one snapshot an interval, the same bytes for everyone who looks.

Rounds of background work sum the counters up, oftener while a page is open. What a snapshot says
beside them is put together when the first viewer of the interval asks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.admin.answers import Health, Status
from gateway.admin.dashboard import figures
from gateway.admin.dashboard.figures import Counts
from gateway.admin.state import AdminState
from gateway.core.clock import REAL, Clock
from gateway.lifetime.supervised import Supervised

INTERVAL = 2.0
"""Seconds between two snapshots while a page is open."""
UNSEEN_INTERVAL = 10.0
"""Seconds between two sums while none is."""
LOOKING = 15.0
"""Seconds after a question for which a page counts as open."""
SHOWN = 900.0
"""Seconds that the charts go back."""
RECENT = 60.0
"""Seconds over which rates are taken."""
BASE_STEP = 10.0
"""Seconds between the sums that are kept to take rates from."""
MOST_ROUTES = 500
MOST_ROWS = 100
"""Clients, reasons and other series that are shown."""
SOON = 14 * 86400.0
"""Seconds before a certificate's end from which that is a warning."""
COLUMNS = ("at", "ok", "client_errors", "server_errors", "p50", "p95", "p99", "in_flight")


class Live:
    """The snapshots of one admin application."""

    def __init__(self, state: AdminState, clock: Clock = REAL) -> None:
        self._state = state
        self._clock = clock
        self._points: deque[dict[str, Any]] = deque()
        self._bases: deque[Counts] = deque()
        self._last: Counts | None = None
        self._asked = float("-inf")
        self._body = b""
        self._lock = asyncio.Lock()
        self._routes: tuple[str, dict[str, dict[str, Any]]] = ("", {})
        self._rounds = Supervised("dashboard", self._round, every=UNSEEN_INTERVAL)

    def __repr__(self) -> str:
        return f"<Live {len(self._points)} points>"

    def start(self) -> None:
        self._rounds.start()

    def close(self) -> None:
        self._rounds.close()

    async def body(self) -> bytes:
        """Return the snapshot of this interval as JSON."""
        now = self._clock.monotonic()
        self._asked = now
        self._rounds.wake(INTERVAL)
        async with self._lock:
            if self._last is None or now - self._last.at >= INTERVAL:
                await self._sum()
            if not self._body:
                self._body = orjson.dumps(self._snapshot())
            return self._body

    async def _round(self) -> float:
        async with self._lock:
            await self._sum()
        return INTERVAL if self._clock.monotonic() - self._asked < LOOKING else UNSEEN_INTERVAL

    async def _sum(self) -> None:
        """Sum the counters up and keep what the charts need of them."""
        await self._state.refresh()
        now = await figures.counts(self._state.telemetry, self._clock.monotonic())
        then, self._last, self._body = self._last, now, b""
        if then is not None:
            wall = self._clock.wall()
            shown: dict[str, Any] = {"at": round(wall, 3), **figures.point(now, then)}
            shown["in_flight"] = int(self._state.telemetry.in_flight.get())
            self._points.append(shown)
            while self._points and self._points[0]["at"] < wall - SHOWN:
                self._points.popleft()
        if not self._bases or now.at - self._bases[-1].at >= BASE_STEP:
            self._bases.append(now)
        while len(self._bases) > 1 and self._bases[1].at <= now.at - RECENT:
            self._bases.popleft()

    def _snapshot(self) -> dict[str, Any]:
        state, now = self._state, self._last
        assert now is not None
        then = self._bases[0] if self._bases[0] is not now else None
        status = Status().dump(state.status())
        said = {
            "at": self._clock.wall(),
            "interval": INTERVAL,
            "recent": round(now.at - then.at, 3) if then is not None else 0,
            "status": status,
            "health": Health().dump(state.health()),
            "series": {name: [one[name] for one in self._points] for name in COLUMNS},
            "routes": self._with_matches(figures.routes(now, then, MOST_ROUTES), status),
            "limits": figures.limits(now, then, MOST_ROWS),
            "clients": figures.clients(now, then, MOST_ROWS),
            "warnings": _warnings(state, status, self._clock.wall()),
        }
        for name, family, labels in _TABLES:
            said[name] = [
                {**dict(zip(labels, key, strict=True)), "total": total, "rate": rate}
                for key, total, rate in figures.rates(now, then, family)[:MOST_ROWS]
            ]
        return said

    def _with_matches(
        self, rows: list[dict[str, Any]], status: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        """Say of each route what it matches and where it leads."""
        in_force = str(status.get("configuration"))
        if self._routes[0] != in_force:
            found = {
                route["name"]: {
                    "pipeline": pipeline,
                    "match": route.get("match", ""),
                    "kind": route.get("kind", ""),
                    "target": route.get("target", ""),
                }
                for pipeline, one in self._state.config()["pipelines"].items()
                for route in one["routes"]
            }
            self._routes = (in_force, found)
        known = self._routes[1]
        shown = {row["route"] for row in rows}
        idle = [name for name in known if name not in shown][: max(0, MOST_ROUTES - len(rows))]
        rows += [{**_IDLE, "route": name} for name in idle]
        return [{**row, **known.get(row["route"], {})} for row in rows]


_IDLE: dict[str, Any] = {
    "total": 0,
    "rate": 0.0,
    "client_errors": 0.0,
    "server_errors": 0.0,
    "mean_ms": None,
    "p95_ms": None,
}
_TABLES = (
    ("failures", "gateway_failures_total", ("reason",)),
    ("cache", "gateway_cache_requests_total", ("route", "result")),
    ("authentication", "gateway_auth_total", ("method", "result")),
)
"""Tables of series: their name, family and labels."""


def _warnings(state: AdminState, status: Mapping[str, Any], now: float) -> list[dict[str, str]]:
    """Return what an operator should know, by kind, with a text for people."""
    found = [("restart", line) for line in status.get("waiting", ())]
    telemetry, health = state.telemetry, state.health()
    store = health.get("store")
    if store is not None and store["status"] != "healthy":
        found.append(("store", f"The store {store['name']} is away: {store['reason']}"))
    for (name,), expires in telemetry.certificate_expiry.values.items():
        if expires - now < SOON:
            days = (expires - now) / 86400
            text = f"expires in {days:.1f} days" if days > 0 else "has expired"
            found.append(("certificate", f"The certificate {name} {text}"))
    for family in telemetry.families:
        for name, text in _COUNTED.items():
            if family.name == name:
                for labels, number in family.values.items():  # type: ignore[union-attr]
                    if number:
                        what = " ".join(labels)
                        found.append((name, text.format(what=what, number=int(number))))
    found += [("configuration", line) for line in state.config().get("warnings", ())]
    return [{"kind": kind, "text": text} for kind, text in found[:MOST_ROWS]]


_COUNTED = {
    "gateway_background_failures_total": "Background work failed {number} times: {what}",
    "gateway_log_lines_dropped_total": "{number} lines of logs were dropped: {what}",
    "gateway_worker_restarts_total": "Workers ended and were started again {number} times",
}
"""Counters that should stay at 0."""
