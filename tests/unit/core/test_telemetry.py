"""The gateway's own numbers."""

from __future__ import annotations

from gateway.core.telemetry import (
    DURATION_BUCKETS,
    Family,
    HistogramFamily,
    Level,
    Measured,
    Telemetry,
)


def test_families_have_one_name_each():
    names = [family.name for family in Telemetry().families]
    assert len(set(names)) == len(names) and all(name.startswith("gateway_") for name in names)


def test_names_follow_their_kind():
    for family in Telemetry().families:
        assert family.name.endswith("_total") is (family.kind == "counter"), family.name
        assert family.help and family.kind in ("counter", "gauge", "histogram")


def test_counts():
    family = Family("counter", "x_total", "X", ("a",))
    family.add(("1",))
    family.add(("1",), 2)
    assert (family.get(("1",)), family.get(("2",)), dict(family.values)) == (3, 0, {("1",): 3})
    family.set(("2",), 7)
    family.drop(("1",))
    family.drop(("1",))
    assert dict(family.values) == {("2",): 7}


def test_a_level_is_a_gauge_like_others():
    level = Level("x", "X")
    assert Level("x_total", "X", "counter").kind == "counter"
    assert (level.kind, level.get(), dict(level.values)) == ("gauge", 0, {(): 0})
    level.level += 1
    level.add()
    assert (level.get(), dict(level.values)) == (2, {(): 2})
    level.set((), 5)
    assert level.get() == 5


def test_what_is_measured_is_read_while_it_exists():
    class Thing:
        size = 1

    one, other = Thing(), Thing()
    measured = Measured("gauge", "x", "X", ("a",))
    assert dict(measured.values) == {}
    for name, thing in (("1", one), ("2", other)):
        measured.watch((name,), thing, lambda thing: thing.size)
    one.size = 5
    assert (dict(measured.values), measured.get(("1",))) == ({("1",): 5, ("2",): 1}, 5)
    del one, thing
    assert dict(measured.values) == {("2",): 1}
    measured.watch(("2",), other, lambda thing: -thing.size)
    assert measured.get(("2",)) == -1


def test_two_processes_worth_of_counts_are_apart():
    one, other = Telemetry(), Telemetry()
    one.requests.add(("a", "GET", "200"))
    assert other.requests.values == {}


def test_a_cell_is_made_once():
    family = HistogramFamily("x_seconds", "X", ("a",), DURATION_BUCKETS)
    assert family.cell(("1",)) is family.cell(("1",)) is not family.cell(("2",))
