"""The most important metrics as one JSON value, for people and scripts without Prometheus. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from gateway.core.telemetry import Family, HistogramFamily, Telemetry


def summary(
    telemetry: Telemetry, health: Mapping[str, Any], status: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the figures since the start, with the fields of answers.Summary."""
    classes: dict[str, float] = defaultdict(int)
    for (_, _, code), count in telemetry.requests.values.items():
        classes[f"{code[:1]}xx"] += count
    total = sum(classes.values())
    return {
        "uptime_seconds": status["uptime_seconds"],
        "requests": {
            "total": int(total),
            "by_status": {name: int(count) for name, count in sorted(classes.items())},
            "error_rate": round(classes["5xx"] / total, 6) if total else 0.0,
            "in_flight": int(telemetry.in_flight.get()),
            **_times(telemetry.request_duration),
        },
        "services": {
            name: _service(telemetry, name, one) for name, one in health["upstreams"].items()
        },
        "rate_limited": int(sum(telemetry.rate_limited.values.values())),
        "authentication": _by_label(telemetry.auth, 1),
        "cache": _by_label(telemetry.cache_requests, 1),
        "failures": _by_label(telemetry.failures, 0),
    }


def _service(telemetry: Telemetry, name: str, state: Mapping[str, Any]) -> dict[str, Any]:
    codes: dict[str, float] = defaultdict(int)
    for (upstream, _, code), count in telemetry.upstream_requests.values.items():
        if upstream == name:
            codes[code] += count
    cell = telemetry.upstream_duration.cells.get((name,))
    answered = sum(cell.counts) if cell is not None else 0
    circuit = state.get("circuit")
    return {
        "status": state["status"],
        "circuit": None if circuit is None else circuit["state"],
        "requests": int(sum(codes.values())),
        "errors": int(sum(count for code, count in codes.items() if code == "0" or code >= "500")),
        "mean_ms": round(1000 * cell.total / answered, 3)
        if cell is not None and answered
        else None,
    }


def _by_label(family: Family, place: int) -> dict[str, int]:
    """Sum a family by one of its labels."""
    found: dict[str, float] = defaultdict(int)
    for labels, count in family.values.items():
        found[labels[place]] += count
    return {name: int(count) for name, count in sorted(found.items())}


def _times(family: HistogramFamily) -> dict[str, float | None]:
    """The mean and quantiles of a histogram over all its series, in milliseconds.

    A quantile is the upper bound of the bucket that it falls into; None beyond the last.
    """
    counts = [
        sum(column) for column in zip(*(one.counts for one in family.cells.values()), strict=True)
    ]
    total = sum(counts)
    found: dict[str, float | None] = {
        "mean_ms": None,
        "p50_ms": None,
        "p95_ms": None,
        "p99_ms": None,
    }
    if not total:
        return found
    found["mean_ms"] = round(1000 * sum(one.total for one in family.cells.values()) / total, 3)
    reached = list(accumulate(counts))
    for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)):
        place = next(place for place, below in enumerate(reached) if below >= share * total)
        found[name] = 1000 * family.bounds[place] if place < len(family.bounds) else None
    return found
