"""gateway/serving/net/abuse.py."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.serving.net import abuse
from gateway.serving.net.abuse import RATE, Offenders

HOME = "192.0.2.1"
ROUNDING = 1e-6


def offenders(most: int = 3, seconds: float = 30.0) -> Offenders:
    made = Offenders()
    made.configure(most, seconds)
    return made


def test_so_many_at_once_and_then_a_penalty():
    one = offenders()
    assert [one.ended(HOME, 100.0) for _ in range(4)] == [False, False, True, False]
    assert one.refuses(HOME, 129.9) and not one.refuses(HOME, 130.0)
    assert not one.refuses("192.0.2.2", 100.0)
    assert [one.ended(HOME, 140.0) for _ in range(3)] == [False, False, True], "all of it again"
    assert repr(one) == "<Offenders 1 addresses>"


def test_whoever_is_ended_while_refused_is_so_for_longer():
    one = offenders(1)
    assert one.ended(HOME, 100.0) and not one.ended(HOME, 120.0)
    assert one.refuses(HOME, 149.9) and not one.refuses(HOME, 150.0)


def test_networks_count_as_their_subscriber():
    one = offenders(2)
    assert not one.ended("2001:db8::1", 0.0) and one.ended("2001:db8::2", 0.0)
    assert one.refuses("2001:db8::3", 0.0) and not one.refuses("2001:db8:0:1::3", 0.0)


def test_switched_off_and_changed():
    one = offenders(1)
    assert one.ended(HOME, 0.0)
    one.configure(1, 30.0)
    assert one.refuses(HOME, 1.0), "a reload that changes nothing lets nobody in"
    one.configure(0, 30.0)
    assert not one.refuses(HOME, 1.0) and not one.ended(HOME, 1.0) and len(one) == 0


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(abuse, "REMEMBERED", 10)
    one = offenders(1)
    for number in range(100):
        assert one.ended(f"192.0.2.{number}", 1.0)
        assert len(one) <= 10
    assert one.refuses("192.0.2.99", 1.0) and not one.refuses("192.0.2.89", 1.0)
    one.ended("192.0.2.1", 31.1)
    assert len(one) == 1, "those whose time is over are forgotten"


@given(
    st.integers(1, 5),
    st.sampled_from([0.5, 2.0, 30.0]),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 40)), max_size=80),
)
def test_refused_are_those_alone_who_have_been_ended_too_often(most, seconds, steps):
    """Beside all times of each: whose penalty begins has been ended more often than allowed within
    some time, and whose does not has not since the last."""
    one = offenders(most, seconds)
    times: dict[str, list[float]] = {name: [] for name in "abc"}
    since: dict[str, int] = dict.fromkeys("abc", 0)
    until = dict.fromkeys("abc", 0.0)
    now = 1000.0

    def beyond(ended: list[float], burst: float) -> bool:
        return any(len(ended) - at > burst + RATE * (now - one) for at, one in enumerate(ended))

    for name, tenths in steps:
        now += tenths / 10
        assert [one.refuses(each, now) for each in "abc"] == [now < until[each] for each in "abc"]
        refused = now < until[name]
        times[name].append(now)
        begins = one.ended(name, now)
        if begins:
            assert not refused and beyond(times[name], most - 1 - ROUNDING)
        elif not refused:
            assert not beyond(times[name][since[name] :], most + ROUNDING)
        if begins or refused:
            until[name] = now + seconds
            since[name] = len(times[name])
