"""What the gateway's counters say about the last minute: rates, shares and times. Pure.

`counts` adds the cells of each family up by the labels that the dashboard shows, `rates` compares
two of these sums.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from gateway.core.telemetry import Family, HistogramFamily, Telemetry

Sums = dict[tuple[str, ...], float]
Times = dict[tuple[str, ...], tuple[list[int], float]]
"""Counts by bucket, and the sum in seconds."""

SLICE = 2000
"""Cells added up in one go: less than a millisecond."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "gateway_requests_total": ("route", "code"),
    "gateway_upstream_requests_total": ("upstream", "endpoint", "code"),
    "gateway_client_requests_total": ("client",),
    "gateway_client_errors_total": ("client",),
    "gateway_failures_total": ("reason",),
    "gateway_rate_limited_total": ("route", "policy"),
    "gateway_rate_limit_near_total": ("route", "policy"),
    "gateway_cache_requests_total": ("route", "result"),
    "gateway_auth_total": ("method", "result"),
}
"""The labels that each family is added up by. Of a code, its class."""
TIMED: Mapping[str, tuple[str, ...]] = {
    "gateway_request_duration_seconds": ("route",),
    "gateway_upstream_duration_seconds": ("upstream",),
}


@dataclass(slots=True)
class Counts:
    """Sums since the start, at `at` (monotonic seconds). bounds: of the buckets of times."""

    at: float
    sums: dict[str, Sums] = field(default_factory=dict)
    times: dict[str, Times] = field(default_factory=dict)
    bounds: tuple[float, ...] = ()


async def counts(telemetry: Telemetry, at: float) -> Counts:
    """Add the families up, in slices, between which the loop does its other work."""
    found = Counts(at)
    for family in telemetry.families:
        if isinstance(family, HistogramFamily):
            if family.name in TIMED:
                found.bounds = family.bounds
                found.times[family.name] = await _times(family, TIMED[family.name])
        elif family.name in GROUPS:
            found.sums[family.name] = await _sums(family, GROUPS[family.name])
    return found


async def _sums(family: Family, labels: Sequence[str]) -> Sums:
    places = [family.labels.index(label) for label in labels]
    by_class = family.labels.index("code") if "code" in labels else -1
    made: Sums = {}
    cells = list(family.values.items())
    for start in range(0, len(cells), SLICE):
        for values, number in cells[start : start + SLICE]:
            key = tuple([values[one][:1] if one == by_class else values[one] for one in places])
            made[key] = made.get(key, 0) + number
        if start + SLICE < len(cells):
            await asyncio.sleep(0)
    return made


async def _times(family: HistogramFamily, labels: Sequence[str]) -> Times:
    places = [family.labels.index(label) for label in labels]
    made: Times = {}
    cells = list(family.cells.items())
    step = SLICE // 10
    for start in range(0, len(cells), step):
        for values, cell in cells[start : start + step]:
            key = tuple([values[one] for one in places])
            before = made.get(key)
            if before is None:
                made[key] = (list(cell.counts), cell.total)
            else:
                joined = [one + other for one, other in zip(before[0], cell.counts, strict=True)]
                made[key] = (joined, before[1] + cell.total)
        if start + step < len(cells):
            await asyncio.sleep(0)
    return made


def gained(now: Counts, then: Counts | None, family: str) -> Sums:
    """Return what a family has counted since `then`; nothing without one. Counters that began
    anew, as those of a process that was replaced, count from zero."""
    if then is None:
        return {}
    before = then.sums.get(family, {})
    found = {key: number - before.get(key, 0) for key, number in now.sums.get(family, {}).items()}
    return {key: number for key, number in found.items() if number > 0}


def gained_times(now: Counts, then: Counts | None, family: str) -> Times:
    """As `gained`, of a histogram."""
    if then is None:
        return {}
    before = then.times.get(family, {})
    found: Times = {}
    for key, (buckets, total) in now.times.get(family, {}).items():
        old = before.get(key)
        if old is not None:
            buckets = [max(0, one - two) for one, two in zip(buckets, old[0], strict=True)]
            total = max(0.0, total - old[1])
        if any(buckets):
            found[key] = (buckets, total)
    return found


def quantile(buckets: Sequence[int], bounds: Sequence[float], share: float) -> float | None:
    """Return the time, in milliseconds, below which `share` of what was observed lies.

    Within a bucket times are taken to be spread evenly, as histogram_quantile of Prometheus does;
    beyond the last bound it is that bound. None where nothing was observed.
    """
    reached = list(accumulate(buckets))
    if not reached or not reached[-1]:
        return None
    wanted = share * reached[-1]
    place = next(place for place, below in enumerate(reached) if below >= wanted)
    if place >= len(bounds):
        return 1000 * bounds[-1]
    low = bounds[place - 1] if place else 0.0
    inside = (wanted - (reached[place] - buckets[place])) / buckets[place]
    return round(1000 * (low + (bounds[place] - low) * inside), 3)


def joined(times: Times) -> list[int]:
    """Return the counts by bucket of all series together."""
    return [sum(column) for column in zip(*(one for one, _ in times.values()), strict=True)]


def point(now: Counts, then: Counts) -> dict[str, float | None]:
    """Return what the charts show of the time between two sums; rates a second, times in ms."""
    seconds = max(now.at - then.at, 1e-9)
    classes: dict[str, float] = {}
    for (_, code), number in gained(now, then, "gateway_requests_total").items():
        classes[code] = classes.get(code, 0) + number
    buckets = joined(gained_times(now, then, "gateway_request_duration_seconds"))
    made: dict[str, float | None] = {
        "ok": (classes.get("2", 0) + classes.get("3", 0) + classes.get("1", 0)) / seconds,
        "client_errors": classes.get("4", 0) / seconds,
        "server_errors": classes.get("5", 0) / seconds,
    }
    made = {name: round(value or 0.0, 3) for name, value in made.items()}
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        made[name] = quantile(buckets, now.bounds, share)
    return made


def routes(now: Counts, then: Counts | None, limit: int) -> list[dict[str, Any]]:
    """Return the busiest routes: rates of the time since `then`, and totals."""
    recent: dict[str, dict[str, float]] = {}
    for (route, code), number in gained(now, then, "gateway_requests_total").items():
        recent.setdefault(route, {})[code] = number
    totals: dict[str, float] = {}
    for (route, _), number in now.sums.get("gateway_requests_total", {}).items():
        totals[route] = totals.get(route, 0) + number
    times = gained_times(now, then, "gateway_request_duration_seconds")
    seconds = _seconds(now, then)
    chosen = sorted(totals, key=lambda name: (-sum(recent.get(name, {}).values()), -totals[name]))
    found = []
    for name in chosen[:limit]:
        codes = recent.get(name, {})
        number = sum(codes.values())
        buckets, total = times.get((name,), ([], 0.0))
        found.append(
            {
                "route": name,
                "total": int(totals[name]),
                "rate": round(number / seconds, 3),
                "client_errors": _share(codes.get("4", 0), number),
                "server_errors": _share(codes.get("5", 0), number),
                "mean_ms": round(1000 * total / sum(buckets), 3) if buckets else None,
                "p95_ms": quantile(buckets, now.bounds, 0.95),
            }
        )
    return found


def clients(now: Counts, then: Counts | None, limit: int) -> list[dict[str, Any]]:
    """Return the busiest clients: rates of the time since `then`, and totals."""
    recent = gained(now, then, "gateway_client_requests_total")
    errors = gained(now, then, "gateway_client_errors_total")
    totals = now.sums.get("gateway_client_requests_total", {})
    wrong = now.sums.get("gateway_client_errors_total", {})
    seconds = _seconds(now, then)
    chosen = sorted(totals, key=lambda key: (-recent.get(key, 0), -totals[key]))
    return [
        {
            "client": key[0],
            "total": int(totals[key]),
            "errors": int(wrong.get(key, 0)),
            "rate": round(recent.get(key, 0) / seconds, 3),
            "error_rate": _share(errors.get(key, 0), recent.get(key, 0)),
        }
        for key in chosen[:limit]
    ]


def rates(
    now: Counts, then: Counts | None, family: str
) -> list[tuple[tuple[str, ...], int, float]]:
    """Return labels, total and rate a minute of each series that ever counted, the busiest
    first."""
    recent, totals = gained(now, then, family), now.sums.get(family, {})
    minutes = _seconds(now, then) / 60
    found = [
        (key, int(number), round(recent.get(key, 0) / minutes, 2))
        for key, number in totals.items()
        if number
    ]
    return sorted(found, key=lambda one: (-one[2], -one[1], one[0]))


def limits(now: Counts, then: Counts | None, limit: int) -> list[dict[str, Any]]:
    """Return the limits that have refused requests or were near to it, the fullest first."""
    refused = {one[0]: one for one in rates(now, then, "gateway_rate_limited_total")}
    near = {one[0]: one for one in rates(now, then, "gateway_rate_limit_near_total")}
    found: list[dict[str, Any]] = []
    for key in {**refused, **near}:
        _, total, rate = refused.get(key, (key, 0, 0.0))
        _, near_total, near_rate = near.get(key, (key, 0, 0.0))
        said = {"route": key[0], "policy": key[1], "near": near_total, "near_rate": near_rate}
        found.append({**said, "refused": total, "refused_rate": rate})
    order = ("refused_rate", "near_rate", "refused", "near")
    return sorted(found, key=lambda one: [-one[name] for name in order])[:limit]


def _seconds(now: Counts, then: Counts | None) -> float:
    return max(now.at - then.at, 1e-9) if then is not None else 1.0


def _share(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0
