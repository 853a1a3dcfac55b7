"""Histograms filled the slow way, for tests to hold the gateway's own counting against."""

from __future__ import annotations

from bisect import bisect_left

from gateway.core.telemetry import HistogramCell


def observe(cell: HistogramCell, value: float) -> None:
    cell.counts[bisect_left(cell.bounds, value)] += 1
    cell.total += value
