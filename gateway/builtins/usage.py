"""`builtin = "usage"`: the caller's own requests, failures, bytes and quotas, exactly."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from sqlite3 import Error as SqliteError
from typing import Any
from urllib.parse import parse_qsl

from gateway.builtins.answers import answered, identified
from gateway.builtins.limits import asked as limits_of
from gateway.builtins.limits import quotas
from gateway.config.tables.pipeline import PipelineConfig
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.store.stores import StoreDown
from gateway.usage.counters import DAY, HOUR, WIDTH, Cell, Cells, add_to
from gateway.usage.meter import HOURS_SHOWN, History, Meter

_RANGE = re.compile(r"(\d{1,4})([hd])")
_SECONDS = {"h": HOUR, "d": DAY}


def usage(
    meter: Meter | None, pipelines: Iterable[PipelineConfig], wall: Callable[[], float]
) -> Callable[[Exchange], Awaitable[Reply]]:
    """Return the target."""
    assert meter is not None
    paths = paths_of(pipelines)

    async def answer(exchange: Exchange) -> Reply:
        client = identified(exchange).client
        asked = _asked(exchange.query)
        if asked.get("clientId", client) != client:
            raise Failed(Failure.FORBIDDEN, "This is only told to the client itself.")
        now = wall()
        seconds = _seconds(asked.get("timeRange"), meter.retention)
        try:
            history = await meter.history(client)
        except (OSError, SqliteError, StoreDown) as error:
            raise Failed(
                Failure.NO_ENDPOINT,
                "Usage cannot be looked up at the moment.",
                headers=((b"Retry-After", b"1"),),
                why=f"usage: {error}",
            ) from None
        said = report(history, paths, now, seconds, asked.get("endpoint", ""))
        left = quotas(await limits_of(exchange.route.status, exchange))
        return answered({"clientId": client, **said, "quotas": left})

    return answer


def paths_of(pipelines: Iterable[PipelineConfig]) -> dict[str, str]:
    """Return the first path or prefix of each route by its name."""
    return {
        route.name: match.path or match.prefix
        for pipeline in pipelines
        for route in pipeline.routes
        for match in route.matches()[:1]
    }


async def usage_of(
    meter: Meter | None, client: str, pipelines: Iterable[PipelineConfig], now: float
) -> dict[str, Any] | None:
    """Return all that is kept of a client, for operators; None without a meter. Raises OSError."""
    if meter is None:
        return None
    try:
        history = await meter.history(client)
    except (SqliteError, StoreDown) as error:
        raise OSError(str(error)) from None
    return report(history, paths_of(pipelines), now, meter.retention)


def report(
    history: History, paths: Mapping[str, str], now: float, seconds: float, endpoint: str = ""
) -> dict[str, Any]:
    """Return a client's usage of the last `seconds`. Pure. paths: of routes, by name.

    Up to HOURS_SHOWN hours are counted from the beginning of an hour, longer times from the
    beginning of a day (UTC). endpoint: a route's name or path; all routes when empty.
    """
    if seconds <= HOURS_SHOWN * HOUR:
        first, chosen = int(now - seconds) // HOUR + 1, history.hours
    else:
        first, chosen = int(now - seconds) // DAY * 24, history.days
    wanted = {
        place: cell
        for place, cell in chosen.items()
        if place.hour >= first and endpoint in ("", place.route, paths.get(place.route))
    }
    total = _sum(wanted.values())
    endpoints = [
        {"route": route, "path": paths.get(route, ""), "method": method, **_figures(cell)}
        for (route, method), cell in _by(wanted, lambda place: (place.route, place.method))
    ]
    return {
        "timeRange": {"start": _iso(first * HOUR), "end": _iso(now)},
        "totalRequests": total[0],
        "successfulRequests": total[1] + total[2],
        "failedRequests": total[3] + total[4],
        "averageResponseTime": _mean(total),
        "byStatus": dict(zip(("2xx", "3xx", "4xx", "5xx"), total[1:5], strict=True)),
        "bytesIn": total[5],
        "bytesOut": total[6],
        "endpoints": endpoints,
        "hours": _periods(history.hours, endpoint, paths),
        "days": _periods(history.days, endpoint, paths),
    }


def _periods(cells: Cells, endpoint: str, paths: Mapping[str, str]) -> list[dict[str, Any]]:
    wanted = {
        place: cell
        for place, cell in cells.items()
        if endpoint in ("", place.route, paths.get(place.route))
    }
    return [
        {"start": _iso(hour * HOUR), **_figures(cell)}
        for hour, cell in _by(wanted, lambda place: place.hour)
    ]


def _by(cells: Cells, key: Callable[[Any], Any]) -> list[tuple[Any, Cell]]:
    found: dict[Any, Cell] = {}
    for place, cell in cells.items():
        add_to(found.setdefault(key(place), [0] * WIDTH), cell)
    return sorted(found.items())


def _figures(cell: Cell) -> dict[str, Any]:
    return {
        "requests": cell[0],
        "errors": cell[3] + cell[4],
        "avgResponseTime": _mean(cell),
        "bytesIn": cell[5],
        "bytesOut": cell[6],
    }


def _mean(cell: Cell) -> float:
    """Milliseconds a request."""
    return round(cell[7] / cell[0] / 1000, 3) if cell[0] else 0.0


def _sum(cells: Iterable[Cell]) -> Cell:
    total = [0] * WIDTH
    for cell in cells:
        add_to(total, cell)
    return total


def _asked(query: str) -> dict[str, str]:
    """Raises Failed."""
    try:
        return dict(parse_qsl(query, keep_blank_values=True, max_num_fields=20))
    except ValueError:
        raise Failed(Failure.MALFORMED, "The query has too many parameters.") from None


def _seconds(text: str | None, most: float) -> float:
    """Return the time that a query asks for: "24h", "7d". Raises Failed."""
    if text is None:
        return most
    found = _RANGE.fullmatch(text)
    if found is None or not int(found[1]):
        raise Failed(Failure.MALFORMED, 'timeRange must be a time such as "24h" or "7d".')
    return min(most, int(found[1]) * float(_SECONDS[found[2]]))


def _iso(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
