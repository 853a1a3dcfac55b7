"""`/metrics`: the gateway's families and prometheus_client's, as text or OpenMetrics.

The default registry holds what prometheus_client knows about the process and the interpreter, and
what operators' own middlewares have registered there. Rendering takes microseconds a line, and
there may be tens of thousands of lines, on the loop that serves requests: it is done in slices,
between which the loop does its other work.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client import REGISTRY
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from gateway.core.telemetry import Family, HistogramCell, HistogramFamily, Labels, Telemetry

log = logging.getLogger("gateway.admin")

SLICE = 200
"""Lines rendered in one go: about a millisecond."""
EOF = b"# EOF\n"
"""How an OpenMetrics exposition ends."""


class FamilyCollector(Collector):
    """Families as prometheus_client's metrics.

    `slices` gives each in pieces of about SLICE lines, `collect` in one.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry

    def collect(self) -> Iterator[Metric]:
        for family in self.telemetry.families:
            first, *rest = self.slices(family)
            for more in rest:
                first.samples.extend(more.samples)
            yield first

    def slices(self, family: Family | HistogramFamily) -> Iterator[Metric]:
        """Yield at least one piece, even of a family without series.

        Its name and type are known all the same.
        """
        if isinstance(family, HistogramFamily):
            cells = list(family.cells.items())
            step = max(1, SLICE // (len(family.bounds) + 3))
            for start in range(0, len(cells) or 1, step):
                yield _histogram(family, cells[start : start + step])
        else:
            series = list(family.values.items()) or [((), 0.0)] * (not family.labels)
            for start in range(0, len(series) or 1, SLICE):
                yield _plain(family, series[start : start + SLICE])


def _plain(family: Family, series: Iterable[tuple[Labels, float]]) -> Metric:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, value in series:
        metric.add_metric(_shown(labels), value)
    return metric


def _histogram(family: HistogramFamily, cells: Iterable[tuple[Labels, HistogramCell]]) -> Metric:
    bounds = [*map(floatToGoString, family.bounds), "+Inf"]
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    for labels, cell in cells:
        # A histogram's buckets include all smaller ones.
        metric.add_metric(
            _shown(labels), list(zip(bounds, accumulate(cell.counts), strict=True)), cell.total
        )
    return metric


def _shown(labels: Labels) -> Labels:
    """Label values as UTF-8 can have them: one lone surrogate would cost the whole exposition."""
    return tuple([value.encode("utf-8", "replace").decode() for value in labels])


class _One(Collector):
    """A single metric, for encoders that want something to collect from."""

    def __init__(self, metric: Metric) -> None:
        self.metric = metric

    def collect(self) -> Iterable[Metric]:
        return (self.metric,)


async def exposition(
    telemetry: Telemetry, accept: str, others: Collector = REGISTRY
) -> tuple[bytes, str]:
    """Return everything there is to scrape, and its content type.

    `accept` chooses between OpenMetrics and Prometheus text, which is the default.
    """
    encode, content_type = choose_encoder(accept)
    collector = FamilyCollector(telemetry)
    parts = []
    for family in telemetry.families:
        for number, metric in enumerate(collector.slices(family)):
            text = encode(_One(metric)).removesuffix(EOF)
            # The HELP and TYPE lines stand once, in front of the first slice.
            parts.append(text if number == 0 else text.split(b"\n", 2)[2])
            await asyncio.sleep(0)
    parts.append(_others(encode, others))
    if content_type.startswith("application/openmetrics-text"):
        parts.append(EOF)
    return b"".join(parts), content_type


def _others(encode: Callable[[Collector], bytes], others: Collector) -> bytes:
    try:
        return encode(others).removesuffix(EOF)
    except Exception:
        # A collector of the operator's own; our families are what alerts depend on.
        log.exception("a collector of the default registry failed; its metrics are left out")
        return b""
