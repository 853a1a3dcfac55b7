"""Metrics of several processes as those of one. Pure.

A reading is what one process counts: for each family its kind, name, help, labels and bounds, and
its values by labels, as marshal can carry them. Counters and histograms are summed, gauges joined
by what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.core.telemetry import Family, HistogramCell, HistogramFamily, Labels, Telemetry

Head = tuple[str, str, tuple[str, ...], tuple[float, ...]]
"""Kind, help, labels, and a histogram's bounds."""
Values = dict[Labels, Any]
"""Numbers; of a histogram, counts by bucket and the sum."""
Reading = dict[str, tuple[Head, Values]]
"""By the family's name."""

BY_CLIENT = {
    "gateway_client_requests_total",
    "gateway_client_errors_total",
    "gateway_client_shadow_refusals_total",
}
"""Families of which a process has series for some clients, and OTHER for all the rest."""
OTHER = ("_other",)
KEPT_CLIENTS = 1000
"""Clients above which those without a process that counts them are counted among the rest."""
_OPENNESS = (0.0, 2.0, 1.0)
"""States of a circuit, the best first: closed, half-open, open."""

JOINED: Mapping[str, Callable[[Iterable[float]], float]] = {
    "gateway_upstream_endpoint_healthy": min,
    "gateway_upstream_try_all": max,
    "gateway_circuit_state": lambda states: max(states, key=_OPENNESS.index),
    "gateway_store_up": min,
    "gateway_store_gateways": max,
    "gateway_config_last_reload_success": min,
    "gateway_config_last_reload_timestamp_seconds": max,
    "gateway_config_info": max,
    "gateway_tls_certificate_expiry_timestamp_seconds": min,
}
"""How gauges are joined that are no sums: states by the worst, times by the last."""


def read(telemetry: Telemetry) -> Reading:
    """Return what a process counts."""
    found: Reading = {}
    for family in telemetry.families:
        if isinstance(family, HistogramFamily):
            cells = {labels: (tuple(one.counts), one.total) for labels, one in family.cells.items()}
            found[family.name] = (("histogram", family.help, family.labels, family.bounds), cells)
        else:
            head = (family.kind, family.help, family.labels, ())
            found[family.name] = (head, dict(family.values))
    return found


def add(into: Reading, more: Reading, *, gauges: bool = True) -> None:
    """Add a reading to another; without `gauges` only what never falls, of a process that ended."""
    for name, (head, values) in more.items():
        kind = head[0]
        if kind == "gauge" and not gauges:
            continue
        known = into.setdefault(name, (head, {}))[1]
        for labels, value in values.items():
            before = known.get(labels)
            if before is None:
                known[labels] = value
            elif kind == "histogram":
                counts = tuple(map(sum, zip(before[0], value[0], strict=True)))
                known[labels] = (counts, before[1] + value[1])
            elif kind == "gauge" and name in JOINED:
                known[labels] = JOINED[name]((before, value))
            else:
                known[labels] = before + value


def give_up(base: Reading, before: Reading, after: Reading, others: Iterable[Reading]) -> None:
    """Keep the series of clients from falling, in the sum over all processes.

    A process that ends a client's series has added it to the one of all other clients. `before` and
    `after` are two readings of it. What it had counted stays in `base` while one of the `others`
    has a series of this client.
    """
    readings = (after, *others)
    for name in BY_CLIENT & after.keys():
        head, now = after[name]
        kept = base.setdefault(name, (head, {}))[1]
        known = {labels for one in readings if name in one for labels in one[name][1]} - {OTHER}
        for labels, value in before.get(name, (head, {}))[1].items():
            if labels in known and labels not in now:
                kept[labels] = kept.get(labels, 0) + value
                kept[OTHER] = kept.get(OTHER, 0) - value
        if len(kept) > KEPT_CLIENTS:
            for labels in kept.keys() - known - {OTHER}:
                kept[OTHER] = kept.get(OTHER, 0) + kept.pop(labels)


def total(readings: Iterable[Reading]) -> Reading:
    """Return the sum of readings of processes that run, and of what ended ones have left."""
    found: Reading = {}
    for reading in readings:
        add(found, reading)
    return found


def telemetry_of(reading: Reading) -> Telemetry:
    """Return families with these values, to be shown."""
    made = Telemetry()
    known = {one.name: name for name, one in vars(made).items() if hasattr(one, "labels")}
    made.families = [_family(name, head, values) for name, (head, values) in reading.items()]
    for family in made.families:
        if family.name in known:
            setattr(made, known[family.name], family)
    return made


def _family(name: str, head: Head, values: Values) -> Family | HistogramFamily:
    kind, help, labels, bounds = head
    if kind != "histogram":
        plain = Family(kind, name, help, labels)
        plain.values.update(values)
        return plain
    family = HistogramFamily(name, help, labels, bounds)
    for series, (counts, amount) in values.items():
        cell = family.cells[series] = HistogramCell(bounds)
        cell.counts, cell.total = list(counts), amount
    return family
