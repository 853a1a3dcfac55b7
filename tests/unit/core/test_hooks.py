"""Metrics of operators' own middlewares."""

from __future__ import annotations

import pytest

from gateway.core.hooks import OwnMetric, own_metric
from gateway.core.telemetry import Family, HistogramFamily


def test_metrics_of_a_middlewares_own(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(OwnMetric, "SERIES_MAX", 2)
    counter = own_metric("counter", "lookups", "Lookups", ("result",), ())
    for word in ("a", "b", "c", "d", "a"):
        counter.add(word)
    assert counter.family.name == "gateway_plugin_lookups_total"
    assert isinstance(counter.family, Family)
    assert dict(counter.family.values) == {("a",): 2, ("b",): 1, ("_other",): 2}
    gauge = own_metric("gauge", "size", "Size", (), ())
    gauge.set(5)
    gauge.add(amount=-2)
    assert isinstance(gauge.family, Family) and gauge.family.get() == 3
    histogram = own_metric("histogram", "seconds", "Time", (), (1.0, 0.5))
    histogram.observe(0.7)
    assert isinstance(histogram.family, HistogramFamily)
    assert histogram.family.cell().counts == [0, 1, 0]
    with pytest.raises(ValueError, match="has the labels"):
        counter.add()


@pytest.mark.parametrize(
    ("kind", "name", "labels"),
    [("counter", "A", ()), ("counter", "a", ("le",)), ("counter", "a", ("x-y",)), ("sum", "a", ())],
)
def test_what_no_metric_may_be(kind: str, name: str, labels: tuple[str, ...]):
    with pytest.raises(ValueError):
        own_metric(kind, name, "", labels, ())
