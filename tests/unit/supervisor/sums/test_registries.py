"""Metrics of prometheus_client over several processes."""

from __future__ import annotations

import marshal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.supervisor.sums.registries import Registered, Shown, add, registered, total


def process(orders: int, waiting: int, start: float) -> Registered:
    registry = CollectorRegistry()
    Counter("orders", "Orders", ["kind"], registry=registry).labels("book").inc(orders)
    Gauge("waiting", "Waiting", registry=registry).set(waiting)
    Gauge("process_start_time_seconds", "Start", registry=registry).set(start)
    Gauge("python_info", "Python", registry=registry).set(1)
    Histogram("sizes", "Sizes", buckets=(1, 10), registry=registry).observe(orders)
    return marshal.loads(marshal.dumps(registered(registry)))


def shown(found: Registered) -> set[str]:
    lines = generate_latest(Shown(found)).decode().splitlines()
    return {line for line in lines if not line.startswith("#") and "_created" not in line}


def test_sums_and_the_first_start():
    found = total(process(1, 2, 100.0), [process(3, 4, 90.0), process(5, 6, 110.0)])
    assert shown(found) >= {
        'orders_total{kind="book"} 9.0',
        "waiting 12.0",
        "process_start_time_seconds 90.0",
        "python_info 1.0",
        'sizes_bucket{le="1.0"} 1.0',
        'sizes_bucket{le="10.0"} 3.0',
        "sizes_sum 9.0",
    }


def test_a_process_that_ended_leaves_what_never_falls():
    base: Registered = {}
    add(base, process(3, 4, 90.0), gauges=False)
    assert base.keys() == {"orders", "sizes"}
    found = total(process(0, 0, 100.0), [base, process(1, 1, 120.0)])
    assert shown(found) >= {'orders_total{kind="book"} 4.0', "waiting 1.0"}
