"""The condition of upstreams in several processes as that of one gateway. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.builtins.health import worst

Report = dict[str, Any]

_SUMS = ("in_flight", "retrying", "waiting", "limit")
_ENDPOINT_SUMS = ("in_flight", "idle")
_CIRCUITS = ("closed", "half-open", "open")


def merged(own: Report, workers: Sequence[Mapping[str, Any]]) -> Report:
    """Return the supervisor's own report with the numbers and the worst conditions of workers."""
    reports = [report for report in workers if report]
    if not reports:
        return own
    upstreams = {
        name: _upstream(
            one, [each["upstreams"][name] for each in reports if name in each["upstreams"]]
        )
        for name, one in own["upstreams"].items()
    }
    said = {**own, "status": worst(each["status"] for each in reports), "upstreams": upstreams}
    stores = [each["store"] for each in reports if "store" in each]
    if stores:
        said["store"] = next((one for one in stores if one["status"] != "healthy"), stores[0])
    return said


def _upstream(own: Report, theirs: Sequence[Report]) -> Report:
    if not theirs:
        return own
    said = {**own, **_sums(theirs, _SUMS)}
    said["status"] = worst(one["status"] for one in theirs)
    said["trying_all"] = any(one["trying_all"] for one in theirs)
    if own["circuit"] is not None:
        circuits = [one["circuit"] for one in theirs if one["circuit"] is not None]
        said["circuit"] = max([own["circuit"], *circuits], key=lambda one: _open(one["state"]))
    said["endpoints"] = [
        _endpoint(
            one,
            [found for each in theirs for found in each["endpoints"] if found["url"] == one["url"]],
        )
        for one in own["endpoints"]
    ]
    return said


def _endpoint(own: Report, theirs: Sequence[Report]) -> Report:
    if not theirs:
        return own
    said = {**own, **_sums(theirs, _ENDPOINT_SUMS)}
    said["last_error"] = own["last_error"] or next(
        (one["last_error"] for one in theirs if one["last_error"]), ""
    )
    said["circuit"] = max(
        [own["circuit"], *(one["circuit"] for one in theirs)], key=lambda state: _open(state)
    )
    return said


def _open(state: str | None) -> int:
    return -1 if state is None else _CIRCUITS.index(state)


def _sums(reports: Iterable[Report], names: Sequence[str]) -> dict[str, int]:
    """Return sums of the numbers that reports have."""
    found: dict[str, int] = {}
    for report in reports:
        for name in names:
            if report.get(name) is not None:
                found[name] = found.get(name, 0) + report[name]
    return found
