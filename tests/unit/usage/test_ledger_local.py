"""Usage of several workers, counted by their supervisor."""

from __future__ import annotations

import pytest

from gateway.core.clock import Clock
from gateway.store.stores import StoreDown
from gateway.usage.counters import HOUR, WIDTH, Place
from gateway.usage.ledger_local import METER, InSupervisor
from gateway.usage.meter import InFile, Meter
from tests.workers import Shop

NOW = 500_000.0 * HOUR
PLACE = Place("acme", "a", "GET", 500_000)


async def test_workers_report_to_one_meter():
    clock = Clock(lambda: NOW, lambda: NOW)
    shop = Shop(clock)
    kept = Meter(InFile(None, clock.wall), clock, 3 * 24 * HOUR)
    shop.keep(METER, kept)
    first, second = (InSupervisor(shop.hire()) for _ in range(2))
    for ledger in (first, first, second):
        assert await ledger.add({PLACE: [1] * WIDTH}, 0.0) is True
    hours, days = await second.read("acme", NOW - HOUR, NOW)
    assert hours == {PLACE: [3] * WIDTH} and [*days.values()] == [[3] * WIDTH]
    shop.channels[0].close()
    assert await first.add({PLACE: [1] * WIDTH}, 0.0) is False, "to be offered again"
    with pytest.raises(StoreDown):
        await first.read("acme", NOW, NOW)
    first.close()
    await kept.close()
    await shop.close()
