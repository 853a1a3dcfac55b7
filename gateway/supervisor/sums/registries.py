"""What prometheus_client's default registry holds in several processes, as that of one. Pure.

Operators' own middlewares register their metrics there, in every worker, and prometheus_client its
figures of the process. Counters, histograms and summaries are summed, and so are gauges but for
those that say when or how much at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""Values by a sample's name and labels."""
Registered = dict[str, tuple[str, str, Samples]]
"""Documentation, type and samples by name, as marshal can carry them."""

GROWING = ("counter", "histogram", "summary")
"""Types whose values never fall."""
_JOINED: Mapping[str, Callable[[float, float], float]] = {
    "process_start_time_seconds": min,
    "process_max_fds": min,
}
_INTERPRETER = "python_"
"""Of the interpreter's own figures those of one process do."""


def registered(collector: Collector) -> Registered:
    """Return what a registry holds. What its collectors raise is theirs."""
    found: Registered = {}
    for metric in collector.collect():
        samples = {
            (one.name, tuple(sorted(one.labels.items()))): float(one.value)
            for one in metric.samples
        }
        found[metric.name] = (metric.documentation, metric.type, samples)
    return found


def add(into: Registered, more: Registered, *, gauges: bool = True, own: bool = False) -> None:
    """Add what another process holds; without `gauges` only what never falls.

    own: `more` is the supervisor's, of which the interpreter's figures are shown.
    """
    for name, (documentation, kind, samples) in more.items():
        if (kind not in GROWING and not gauges) or (name.startswith(_INTERPRETER) and not own):
            continue
        known = into.setdefault(name, (documentation, kind, {}))[2]
        for key, value in samples.items():
            if key not in known:
                known[key] = value
            elif key[0].endswith("_created"):
                known[key] = min(known[key], value)
            else:
                join = _JOINED.get(name)
                known[key] = known[key] + value if join is None else join(known[key], value)


def total(own: Registered, others: Iterable[Registered]) -> Registered:
    """Return the sum over the supervisor's and the workers' registries."""
    found: Registered = {}
    add(found, own, own=True)
    for one in others:
        add(found, one)
    return found


class Shown(Collector):
    """Registries that were added up, for the exposition."""

    def __init__(self, found: Registered) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        for name, (documentation, kind, samples) in self._found.items():
            metric: Any = Metric(name, documentation, kind)
            for (sample, labels), value in samples.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric
