"""The meter between requests and ledgers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Identity, Reply
from gateway.usage.counters import HOUR, OTHER, Cell, Cells, Place
from gateway.usage.meter import NAME_MAX, InFile, Meter
from tests.exchange import exchange

START = 500_000 * HOUR


class Times:
    now = float(START)


class Slow:
    """A ledger that takes nothing, or fails, until it may."""

    def __init__(self) -> None:
        self.refuses: Exception | bool = True
        self.added: list[dict[Place, Cell]] = []

    async def add(self, cells: Cells, retention: float) -> bool:
        if isinstance(self.refuses, Exception):
            raise self.refuses
        if not self.refuses:
            self.added.append(dict(cells))
        return not self.refuses

    async def read(self, client: str, since: float, now: float) -> tuple[Cells, Cells]:
        return {}, {}

    def close(self) -> None:
        """Nothing is open."""


def finished(client: str | None = "acme", status: int = 200, route: str | None = "a") -> Exchange:
    request = exchange(route=route)
    request.identity = None if client is None else Identity(client, "api_key")
    request.reply, request.written = Reply(status), True
    request.bytes_in, request.bytes_out = 3, 5
    return request


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
async def meter(tmp_path: Path, times: Times):
    clock = Clock(lambda: times.now, lambda: times.now)
    made = Meter(InFile(tmp_path / "u.db", clock.wall), clock, 3 * 24 * HOUR)
    yield made
    await made.close()


async def test_what_a_client_did(meter: Meter, times: Times):
    for status in (200, 503):
        meter.finish(finished(status=status))
    for other in (finished(None), finished(route=None), finished("other")):
        meter.finish(other)
    hours, days = await meter.history("acme")
    [(place, cell)] = hours.items()
    assert place == Place("acme", "a", "GET", START // HOUR)
    assert cell[:7] == [2, 1, 0, 0, 1, 6, 10]
    assert list(days) == [place._replace(hour=place.hour // 24 * 24)]
    times.now += 49 * HOUR
    hours, days = await meter.history("acme")
    assert hours == {} and list(days.values()) == [cell]


async def test_names_have_an_end(meter: Meter):
    meter.finish(finished("x" * 5000))
    hours, _ = await meter.history("x" * 5000)
    assert [place.client for place in hours] == ["x" * NAME_MAX]


async def test_methods_that_clients_make_up_are_one(meter: Meter):
    for method in ("GET", "REPORT", *(f"MADE-UP-{number}" for number in range(9))):
        made = finished()
        made.method = method
        meter.finish(made)
    hours, _ = await meter.history("acme")
    counts = {place.method: cell[0] for place, cell in hours.items()}
    assert counts == {"GET": 1, "REPORT": 1, OTHER: 9}


async def test_a_restart_goes_on(tmp_path: Path, times: Times):
    clock = Clock(lambda: times.now, lambda: times.now)
    for count in (1, 2):
        meter = Meter(InFile(tmp_path / "v.db", clock.wall), clock, HOUR)
        meter.finish(finished())
        hours, _ = await meter.history("acme")
        assert [cell[0] for cell in hours.values()] == [count]
        await meter.close()


async def test_what_was_not_written_is_kept(times: Times):
    ledger = Slow()
    clock = Clock(lambda: times.now, lambda: times.now)
    meter = Meter(ledger, clock, HOUR)
    meter.finish(finished())
    await meter.write()
    ledger.refuses = OSError("the disk is full")
    with pytest.raises(OSError, match="full"):
        await meter.write()
    meter.finish(finished())
    ledger.refuses = False
    await meter.close()
    [cells] = ledger.added
    assert [cell[0] for cell in cells.values()] == [2]


async def test_another_program_has_what_was_in_memory(tmp_path: Path, times: Times):
    clock = Clock(lambda: times.now, lambda: times.now)
    before, after = (Meter(InFile(None, clock.wall), clock, HOUR) for _ in range(2))
    before.finish(finished())
    await before.write()
    before.finish(finished())
    after.load_state(before.dump_state())
    hours, _ = await after.history("acme")
    assert [cell[0] for cell in hours.values()] == [2]
    on_disk = Meter(InFile(tmp_path / "w.db", clock.wall), clock, HOUR)
    on_disk.finish(finished())
    assert on_disk.dump_state() == ({}, b""), "it is written down before the end"
    for one in (before, after, on_disk):
        await one.close()
