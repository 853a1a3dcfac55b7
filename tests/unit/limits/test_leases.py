"""Leases against an obvious store: their bounds hold whatever comes when, and nothing is lost for
good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.clock import Clock
from gateway.limits import leases as module
from gateway.limits.algorithms import Limit
from gateway.limits.book import Book
from gateway.limits.leases import IDLE_SECONDS, RETRY_PAUSE, TERM, UNSETTLED, Leases
from gateway.limits.ledger import limit_terms

LIMIT = Limit.windowed(100, 1e6)


@dataclass
class Counting:
    """A store with one number for a key, that answers when it is told to."""

    gateways: int = 1
    up: bool = True
    since: float = 0.0
    used: float = 0.0
    quota: float = 100.0
    waiting: list[tuple[Callable[[list[int] | None], None], float, float]] = field(
        default_factory=list
    )

    def lease(
        self, key: bytes, terms: Sequence[bytes], answered: Callable[[list[int] | None], None]
    ) -> None:
        self.waiting.append((answered, float(terms[0]), float(terms[1])))

    async def answer(self, count: int = 1_000_000) -> None:
        for _ in range(min(count, len(self.waiting))):
            answer, owed, wanted = self.waiting.pop(0)
            self.used += owed
            granted = max(0.0, min(wanted, self.quota - self.used))
            self.used += granted
            left = max(0.0, self.quota - self.used)
            answer(
                [int(left * 1e6), int(granted * 1e6), 1, 0 if left >= 1 else 1_000_000, 1_000_000]
            )
        await asyncio.sleep(0)

    async def fail(self) -> None:
        waiting, self.waiting = self.waiting, []
        for answer, _, _ in waiting:
            answer(None)
        await asyncio.sleep(0)


class Gateway:
    """One gateway's leases on a clock set by hand."""

    def __init__(self, store: Counting, share: float = 0.2) -> None:
        self.now = 1000.0
        clock = Clock(lambda: self.now, lambda: self.now)
        self.leases = Leases(
            store,
            share,
            lambda key, limit, cost, wanted: (b"k", [repr(cost).encode(), repr(wanted).encode()]),
            clock,
            LIMIT,
        )  # type: ignore[arg-type]

    def take(self, cost: float = 1.0) -> float:
        _, (after, left, _) = self.leases.check("acme", self.now, cost, 10)
        if left >= 0:
            self.leases.commit("acme", after, self.now, cost)
        return left


steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 3)),
        st.tuples(st.just("answer"), st.integers(1, 3)),
    ),
    max_size=400,
)


@settings(max_examples=80, deadline=None)
@given(steps, st.integers(1, 4))
def test_the_bounds_hold(steps: list[tuple[str, int]], gateways: int):
    async def scenario() -> None:
        store = Counting(gateways)
        all_of_them = [Gateway(store) for _ in range(gateways)]
        size = all_of_them[0].leases.size()
        admitted = 0
        for what, number in steps:
            if what == "take":
                admitted += all_of_them[number % gateways].take() >= 0
            else:
                await store.answer(number)
            leases = [one.leases.live["acme"] for one in all_of_them if "acme" in one.leases.live]
            assert all(lease.debt + lease.owed <= size and lease.credit <= size for lease in leases)
            # What the store has counted is what was admitted, but for debts and credit.
            unpaid = sum(owed for _, owed, _ in store.waiting)
            assert (
                store.used + sum(lease.debt - lease.credit for lease in leases) + unpaid == admitted
            )
            assert admitted <= 100 + gateways * size
        for one in all_of_them:
            one.leases.close()

    asyncio.run(scenario())


class Booked:
    """A supervisor's book, which answers when it is told to."""

    up = True
    since = 0.0

    def __init__(self, gateways: int) -> None:
        self.gateways = gateways
        self.now = 1000.0
        self.clock = Clock(lambda: self.now, lambda: self.now)
        self.book = Book(self.clock)
        self.waiting: list[tuple[Callable[[list[int] | None], None], bytes, Sequence[bytes]]] = []

    def lease(
        self, key: bytes, terms: Sequence[bytes], answered: Callable[[list[int] | None], None]
    ) -> None:
        self.waiting.append((answered, key, terms))

    def answer(self, count: int) -> None:
        for _ in range(min(count, len(self.waiting))):
            answered, key, terms = self.waiting.pop(0)
            answered(self.book.run(b"lease", [key], terms, 1))

    def leases(self, limit: Limit, share: float) -> Leases:
        terms = limit_terms("token_bucket", limit)
        return Leases(
            self,  # type: ignore[arg-type]
            share,
            lambda key, limit, cost, wanted: (
                b"k:p",
                [*terms, b"%.17g" % cost, b"%d" % wanted, b"", b""],
            ),
            self.clock,
            limit,
        )


crowds = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 3), st.integers(1, 20)),
        st.tuples(st.just("answer"), st.integers(1, 4), st.just(0)),
        st.tuples(st.just("pass"), st.integers(1, 40), st.just(0)),
    ),
    max_size=200,
)


@settings(max_examples=80, deadline=None)
@given(crowds, st.integers(1, 4), st.integers(5, 60))
def test_a_leased_burst_keeps_its_bound(
    steps: list[tuple[str, int, int]], gateways: int, burst: int
):
    async def scenario() -> None:
        store, admitted = Booked(gateways), list[float]()
        all_of_them = [store.leases(Limit.refilled(300, 50.0, burst), 0.2) for _ in range(gateways)]
        size = all_of_them[0].size()
        for what, number, times in steps:
            if what == "answer":
                store.answer(number)
            elif what == "pass":
                store.now += number / 64
            for _ in range(times):
                leases = all_of_them[number % gateways]
                _, (after, left, _) = leases.check("acme", store.now, 1.0, 10)
                if left >= 0:
                    leases.commit("acme", after, store.now, 1.0)
                    admitted.append(store.now)
            for at in admitted[-burst:]:
                within = sum(at - 1.0 < other <= at for other in admitted)
                assert within <= burst + 2 * gateways * size
        for leases in all_of_them:
            leases.close()

    asyncio.run(scenario())


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_the_first_request_waits_for_nobody_and_later_ones_are_on_credit():
    async def scenario() -> None:
        store = Counting()
        one = Gateway(store)
        assert one.take() >= 0
        await store.answer()
        assert store.used == 11  # the one, and ten on credit
        assert [one.take() >= 0 for _ in range(4)] == [True] * 4 and not store.waiting
        one.take()
        one.take()
        assert len(store.waiting) == 1  # less than half is left
        one.leases.close()

    run(scenario)


def test_unused_credit_goes_back_and_idle_leases_are_forgotten():
    async def scenario() -> None:
        store = Counting()
        one = Gateway(store)
        one.take()
        await store.answer()
        one.now += TERM
        one.leases._tidy()
        await store.answer()
        assert store.used == 1 and len(one.leases) == 1
        one.now += IDLE_SECONDS + 1
        one.leases._tidy()
        assert len(one.leases) == 0
        one.leases.close()

    run(scenario)


def test_an_empty_limit_refuses_until_there_may_be_something():
    async def scenario() -> None:
        store = Counting(quota=0.0)
        one = Gateway(store)
        assert one.take() >= 0
        await store.answer()
        _, (_, left, wait) = one.leases.check("acme", one.now, 1.0, 10)
        assert left == -1.0 and wait == 1.0
        one.now += 1.0
        assert one.take() >= 0  # one finds out
        assert one.take() == UNSETTLED
        await store.answer()
        assert one.take() == -1.0
        one.leases.close()

    run(scenario)


def test_a_failed_settlement_is_not_repeated_at_once():
    async def scenario() -> None:
        store = Counting()
        one = Gateway(store)
        one.take()
        await store.fail()
        assert not one.leases.usable("acme", one.now + RETRY_PAUSE / 2)
        assert one.leases.usable("acme", one.now + RETRY_PAUSE * 1.5)
        assert one.leases.usable("other", one.now)
        one.leases.close()

    run(scenario)


def test_a_settlement_that_failed_with_the_store_is_repeated_once_it_is_back():
    async def scenario() -> None:
        store = Counting()
        one = Gateway(store)
        one.take()
        await store.fail()
        one.now += RETRY_PAUSE / 4
        store.since = one.now
        assert one.leases.usable("acme", one.now)
        one.take()  # fails while the store stays up
        await store.fail()
        assert not one.leases.usable("acme", one.now + RETRY_PAUSE / 2)
        one.leases.close()

    run(scenario)


def test_costs_room_and_what_is_told():
    async def scenario() -> None:
        store = Counting()
        one = Gateway(store)
        assert one.take(40.0) >= 0  # more than the size: one request may
        assert one.take(40.0) == UNSETTLED
        waiting = one.leases.settled("acme")
        assert not waiting.done
        await store.answer()
        assert waiting.done and one.leases.settled("acme").done
        assert one.leases.held("acme") == 10  # the credit; the debt is paid
        assert one.leases.held("other") == 0
        one.leases.charge("acme", one.now, -40.0)
        await store.answer()
        assert store.used == 10
        for number in range(30):
            one.leases.check(number, one.now, 1.0, 10)
        assert len(one.leases) <= 10
        one.leases.close()

    run(scenario)


def test_a_changed_limit_rescales_what_is_on_lease_and_what_is_on_its_way():
    async def scenario() -> None:
        store = Counting()
        one = Gateway(store)
        one.take()
        await store.answer()
        assert one.leases.live["acme"].credit == 10
        for _ in range(7):
            one.take()  # a settlement is under way, in units of 100
        assert len(store.waiting) == 1 and one.leases.live["acme"].credit == 3
        one.leases.adopt(Limit.windowed(200, 1e6))
        one.leases.adopt(Limit.windowed(200, 1e6))
        assert one.leases.live == {} and len(one.leases) == 1
        lease = one.leases.find("acme")
        assert lease is not None and lease.credit == 6 and lease.enough == float("inf")
        await store.answer()
        assert lease.credit == 6 + 2 * 6
        assert one.leases.held("acme") == 18
        one.leases.close()

    run(scenario)


def test_what_a_failed_settlement_owes_is_settled_when_the_store_is_back():
    async def scenario() -> None:
        store = Counting()
        one = Gateway(store)
        one.take()
        await store.answer()
        for _ in range(6):
            one.take()
        one.take()
        assert len(store.waiting) == 1
        store.up = False
        await store.fail()
        one.now += TERM
        one.leases._tidy()
        assert store.waiting == []
        store.up = True
        one.now += RETRY_PAUSE
        one.leases._tidy()
        assert len(store.waiting) == 1
        await store.answer()
        one.leases.close()

    run(scenario)


def test_very_many_are_forgotten_in_steps_and_their_memory_with_them(
    monkeypatch: pytest.MonkeyPatch,
):
    given: list[int] = []
    monkeypatch.setattr(module, "TRIM_FROM", 1000)
    monkeypatch.setattr(module, "give_back", lambda: given.append(1))

    async def scenario() -> None:
        store = Counting(quota=1e9)
        one = Gateway(store)
        for number in range(2000):
            _, (after, _, _) = one.leases.check(number, one.now, 1.0, 10_000)
            one.leases.commit(number, after, one.now, 1.0)
        await store.answer()
        one.now += TERM
        one.leases._tidy()  # credit goes back
        await store.answer()
        one.now += IDLE_SECONDS
        one.leases.check("busy", one.now, 1.0, 10_000)
        one.leases._tidy()
        assert 1000 < len(one.leases) < 2001
        for _ in range(5):
            one.leases._tidy()
        assert list(one.leases.live) == ["busy"] and len(given) == 1
        one.leases.close()

    run(scenario)


def test_who_still_comes_or_waits_is_not_forgotten():
    async def scenario() -> None:
        store = Counting(quota=0.0)
        one = Gateway(store)
        one.take()
        await store.answer()
        one.leases.live["acme"].empty_until = one.now + 10 * IDLE_SECONDS
        for _ in range(3):
            one.now += IDLE_SECONDS
            one.leases._tidy()
        assert len(one.leases) == 1
        one.now += 20 * IDLE_SECONDS
        one.leases._tidy()
        assert len(one.leases) == 0
        one.leases.close()

    run(scenario)


def test_a_stranger_s_charge_opens_a_lease():
    async def scenario() -> None:
        store = Counting()
        one = Gateway(store)
        one.leases.charge("new", one.now, 3.0)
        await store.answer()
        assert store.used == 3 + 10
        one.leases.close()

    run(scenario)
