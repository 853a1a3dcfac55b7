"""The supervisor's book beside its decisions (test_redis_script.py): limits that change, and what
is forgotten."""

from __future__ import annotations

import pickle

from gateway.core.clock import Clock
from gateway.limits.algorithms import Limit
from gateway.limits.book import FORGET_AFTER, SETTLING, Book
from gateway.limits.ledger import limit_terms


class Desk:
    """A book on a clock that is moved by hand; Unix time is 10^6 s ahead."""

    def __init__(self) -> None:
        self.now = 100.0
        self.book = Book(Clock(lambda: self.now, lambda: self.now + 1e6))

    def run(
        self,
        action: bytes,
        limit: Limit,
        *,
        algorithm: str = "fixed_window",
        key: bytes = b"k:p",
        cost: int = 1,
        flag: int = 0,
        own: tuple[bytes, bytes] = (b"", b""),
        owner: object = 1,
    ) -> list[int]:
        terms = [*limit_terms(algorithm, limit), b"%d" % cost, b"%d" % flag, *own]
        return self.book.run(action, [key], terms, owner)


def test_its_time_is_unix_time_in_microseconds():
    assert Desk().run(b"peek", Limit.windowed(4, 60))[-1] == 1_000_100_000_000


def test_workers_that_have_yet_to_reload_change_nothing():
    desk, old, new = Desk(), Limit.windowed(10, 60), Limit.windowed(20, 60)
    assert desk.run(b"take", old, cost=5)[0] == 5_000_000
    assert desk.run(b"peek", new)[0] == 10_000_000
    assert desk.run(b"take", old, cost=5)[0] == 5_000_000, "of 20, as the others count"
    desk.now += SETTLING
    assert desk.run(b"peek", old)[0] == 2_500_000, "10 again, after another reload"


def test_units_of_a_quota_come_back_in_their_period_alone():
    desk, limit = Desk(), Limit(10.0, 1.0, 3600.0)
    period = (b"1000200", b"1003800")
    assert desk.run(b"take", limit, algorithm="quota", cost=4, own=period)[0] == 6_000_000
    desk.run(b"refund", limit, algorithm="quota", cost=2, own=(b"1000200", b""))
    assert desk.run(b"peek", limit, algorithm="quota", own=period)[0] == 8_000_000
    desk.now += 200
    desk.run(b"take", limit, algorithm="quota", cost=1, own=(b"1003800", b"1007400"))
    desk.run(b"refund", limit, algorithm="quota", cost=1, own=(b"1000200", b""))
    assert desk.run(b"peek", limit, algorithm="quota", own=(b"1003800", b"1007400"))[0] == 9_000_000


def test_credit_that_comes_back_never_makes_more_than_the_limit():
    for algorithm in ("fixed_window", "sliding_window", "token_bucket"):
        desk, limit = Desk(), Limit.windowed(10, 60)
        desk.run(b"lease", limit, algorithm=algorithm, cost=0, flag=5)
        desk.now += 90
        desk.run(b"lease", limit, algorithm=algorithm, cost=-5)
        assert desk.run(b"peek", limit, algorithm=algorithm)[0] == 10_000_000, algorithm


def test_limits_that_are_not_asked_for_are_forgotten():
    desk, limit = Desk(), Limit.windowed(10, 60)
    desk.run(b"take", limit)
    desk.now += FORGET_AFTER
    desk.book.tidy()
    assert repr(desk.book) == "<Book of 1 limits, 0 slots>"
    desk.now += 121
    desk.book.tidy()
    assert repr(desk.book) == "<Book of 0 limits, 0 slots>"


def test_slots_of_a_process_that_has_ended():
    desk, limit = Desk(), Limit.windowed(2, 1)
    for slot, owner in ((b"a", 1), (b"b", 2)):
        desk.run(b"take", limit, algorithm="concurrency", own=(slot, b"60"), owner=owner)
    desk.book.release(1)
    assert desk.run(b"peek", limit, algorithm="concurrency")[0] == 1_000_000
    desk.book.release(1)
    assert desk.run(b"peek", limit, algorithm="concurrency")[0] == 1_000_000


def test_another_program_goes_on_counting():
    before, after = Desk(), Desk()
    limit, period = Limit.windowed(10, 60), (b"1000200", b"1003800")
    before.run(b"take", limit, cost=4)
    before.run(b"take", limit, key=b"k:q", algorithm="quota", cost=3, own=period)
    slot = {"algorithm": "concurrency", "key": b"k:s"}
    before.run(b"take", limit, **slot, own=(b"a", b"60"), owner=7)
    after.book.load_state(pickle.loads(pickle.dumps(before.book.dump_state())))
    assert after.run(b"peek", limit)[0] == 6_000_000
    assert after.run(b"peek", limit, key=b"k:q", algorithm="quota", own=period)[0] == 7_000_000
    assert after.run(b"peek", limit, **slot)[0] == 9_000_000
    after.book.release(7)
    assert after.run(b"peek", limit, **slot)[0] == 10_000_000


def test_callers_of_a_leased_limit_are_forgotten():
    desk, limit = Desk(), Limit.windowed(10, 1)
    for action in (b"lease", b"charge"):
        for number in range(1000):
            desk.run(action, limit, key=b"%s%d:p" % (action, number), flag=5)
            desk.now += 0.1
    assert len(pickle.dumps(desk.book.dump_state())) < 20_000
