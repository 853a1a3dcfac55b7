"""Waiting for another request: who goes on when, and who is forgotten."""

from __future__ import annotations

import asyncio

import pytest

from gateway.middlewares.caching.flights import (
    ALONE_SECONDS,
    MAX_ALONE,
    WOKEN_AT_ONCE,
    Flight,
    Flights,
    Outcome,
)


async def test_those_that_wait_are_told_the_outcome_a_few_in_a_turn():
    flights = Flights()
    flight = flights.under_way["key"] = Flight("key")
    waiters = [flight.join() for _ in range(WOKEN_AT_ONCE + 5)]
    assert (flight.wanted(), repr(flight)) == (True, "<Flight 'key', 37 wait>")
    flights.land(flight, Outcome.SHARED)
    assert (flight.wanted(), repr(flights)) == (False, "<Flights 0>")
    await asyncio.sleep(0)
    assert sum(waiter.done for waiter in waiters) == WOKEN_AT_ONCE
    assert [await waiter for waiter in waiters] == [Outcome.SHARED] * len(waiters)


async def test_one_that_leaves_is_forgotten_at_once():
    flight = Flight("key")
    one, other = flight.join(), flight.join()
    assert one.cancel()
    assert list(flight.waiters) == [other]
    with pytest.raises(asyncio.CancelledError):
        await one
    assert other.cancel()
    assert not flight.wanted()


async def test_one_that_has_waited_for_long_goes_alone():
    flight = Flight("key")
    waiter, patient = flight.join(0.0), flight.join()
    assert await waiter is Outcome.ALONE
    assert list(flight.waiters) == [patient]
    patient.cancel()


async def test_one_that_leaves_in_the_turn_of_the_landing():
    flights = Flights()
    flight = flights.under_way["key"] = Flight("key")
    waiter = flight.join()
    flights.land(flight, Outcome.SHARED)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    await asyncio.sleep(0)


async def test_a_body_is_read_faster_once_somebody_waits():
    hurried: list[int] = []
    flight = Flight("key")
    flight.arriving(lambda: hurried.append(1))
    assert not hurried
    waiter = flight.join()
    assert hurried == [1]
    flight.arriving(lambda: hurried.append(2))
    assert hurried == [1, 2]
    waiter.cancel()


def test_so_many_keys_are_remembered_for_a_while():
    flights = Flights()
    for number in range(MAX_ALONE + 1):
        flights.alone(number, 100.0)
        flights.alone(1, 100.0 + number)
    assert len(flights.going_alone) == MAX_ALONE
    assert not flights.goes_alone(0, 100.0)
    end = 100.0 + MAX_ALONE + ALONE_SECONDS
    assert flights.goes_alone(1, end - 1)
    assert not flights.goes_alone(1, end)


def test_long_keys_are_not_remembered_as_they_are():
    flights = Flights()
    flights.alone(("u" * 8000, "r"), 0.0)
    assert flights.goes_alone(("u" * 8000, "r"), 0.0)
    assert [type(key) for key in flights.going_alone] == [int]
