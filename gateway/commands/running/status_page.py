"""What `gateway status` prints, made of the dashboard's figures. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

REASONS = 8
"""Reasons of failures that are shown."""
UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def page(live: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines. live: the answer of /admin/live."""
    status = live["status"]
    yield from _process(status, live["at"])
    yield from _reload(status, live["at"])
    if live["warnings"]:
        yield from ("", "Warnings")
        yield from (f"  {one['text']}" for one in live["warnings"])
    yield from _upstreams(live["health"])
    yield from _requests(live)
    if status.get("workers"):
        yield from ("", "Workers")
        yield from _table([_worker(one) for one in status["workers"]])


def _process(status: Mapping[str, Any], now: float) -> Iterator[str]:
    serving = "serves" if status.get("ready", True) else "does not take requests"
    yield (
        f"gateway {status['version']} {serving}: pid {status['pid']}, "
        f"up {duration(status['uptime_seconds'])}, Python {status.get('python', '?')}"
        f"{', compiled' if status.get('compiled') else ''}"
    )
    yield from _table([[name, where] for name, where in status.get("addresses", {}).items()])


def _reload(status: Mapping[str, Any], now: float) -> Iterator[str]:
    """Yield which configuration is in force, since when, and what became of a later one."""
    reloads: Sequence[Mapping[str, Any]] = status.get("reloads", ())
    taken = next((one for one in reloads if one["ok"]), None)
    since = f", since {duration(now - taken['at'])}" if taken is not None else ""
    yield f"  configuration {status.get('configuration', '?')}{since}"
    if taken is not None:
        yield from (f"    {change}" for change in taken["changes"])
    if reloads and not reloads[0]["ok"]:
        yield f"  the last reload was refused {duration(now - reloads[0]['at'])} ago:"
        yield from (f"    {problem}" for problem in reloads[0]["problems"])


def _upstreams(health: Mapping[str, Any]) -> Iterator[str]:
    yield from ("", f"Upstreams: {health['status']}")
    if not health["upstreams"]:
        yield "  none"
    rows: list[list[str]] = []
    for name, one in health["upstreams"].items():
        rows.append([name, one["status"], "", ", ".join(_of_upstream(one))])
        rows += [
            [f"  {each.get('url', each['name'])}", *_endpoint(each)] for each in one["endpoints"]
        ]
    yield from _table(rows)


def _of_upstream(one: Mapping[str, Any]) -> Iterator[str]:
    circuit = one.get("circuit")
    if circuit is not None and circuit["state"] != "closed":
        yield f"circuit {circuit['state']}"
    if one.get("trying_all"):
        yield "none is well: all are tried"
    if one.get("waiting"):
        yield f"{one['waiting']} waiting"
    if one.get("registered"):
        yield "registered at run time"


def _endpoint(one: Mapping[str, Any]) -> list[str]:
    """Return an endpoint's state, its load, and why it is as it is."""
    state = "draining" if one.get("draining") else one["status"]
    if one.get("ejected_for"):
        state = f"ejected for {duration(one['ejected_for'])}"
    why = [] if state == "healthy" or not one.get("last_error") else [one["last_error"]]
    if one.get("circuit") not in (None, "closed"):
        why.append(f"circuit {one['circuit']}")
    if one.get("checked_ago") is not None and state != "healthy":
        why.append(f"checked {duration(one['checked_ago'])} ago")
    if one.get("backup"):
        why.append("backup")
    return [state, f"{one['in_flight']} in flight", ", ".join(why)]


def _requests(live: Mapping[str, Any]) -> Iterator[str]:
    """Yield the figures of the last minute."""
    status, seconds = live["status"], live["recent"]
    routes = live["routes"]
    yield from ("", f"Requests of the last {duration(seconds)}" if seconds else "Requests")
    rate = sum(one["rate"] for one in routes)
    total = sum(one["total"] for one in routes)
    shown = [f"{rate:.1f} a second", f"{total} since the start"]
    shown.append(f"{status.get('in_flight', 0)} under way")
    shown.append(f"{status.get('connections', 0)} connections")
    yield "  " + ", ".join(shown)
    if rate:
        client = sum(one["rate"] * one["client_errors"] for one in routes) / rate
        server = sum(one["rate"] * one["server_errors"] for one in routes) / rate
        yield f"  4xx {client:.1%}, 5xx {server:.1%}" + _times(live["series"])
    failures = [one for one in live["failures"] if one["rate"]][:REASONS]
    yield from _table([[one["reason"], f"{one['rate']:.3g} a minute"] for one in failures])


def _times(series: Mapping[str, Sequence[float | None]]) -> str:
    """Return the response times of the last moment that has some."""
    found = [
        f"{name} {value:.3g} ms"
        for name in ("p50", "p95", "p99")
        if (value := next((one for one in reversed(series[name]) if one is not None), None))
        is not None
    ]
    return "; " + ", ".join(found) if found else ""


def _worker(one: Mapping[str, Any]) -> list[str]:
    state = "serves" if one.get("serving", True) else "starts"
    restarts = f"started again {one['restarts']} times" if one.get("restarts") else ""
    load = f"{one.get('connections', 0)} connections, {one.get('in_flight', 0)} under way"
    return [str(one["worker"]), f"pid {one['pid']}", state, load, restarts]


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows with their columns below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield ("  " + "  ".join(cells)).rstrip()


def duration(seconds: float) -> str:
    """Return a time in its two largest units, such as "3 h 12 min"."""
    left, parts = max(0, round(seconds)), []
    for size, unit in UNITS:
        if left >= size:
            parts.append(f"{left // size} {unit}")
            left %= size
    return " ".join(parts[:2]) or "0 s"
