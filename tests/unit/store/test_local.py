"""Asking the supervisor: answers, failures, an end that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.store import local as module
from gateway.store.local import Asked, LocalStore
from gateway.store.stores import StoreDown
from tests.until import until
from tests.workers import Shop


class Till:
    def __init__(self) -> None:
        self.sum = 0

    def add(self, number: int) -> int:
        self.sum += number
        return self.sum

    async def later(self) -> object:
        await asyncio.sleep(0)
        return self.__class__.__name__, None

    def broken(self) -> None:
        raise ValueError("out of change")


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    one = Shop()
    one.keep(("till",), Till())
    yield one
    await one.close()


async def test_all_workers_call_the_same_object(shop: Shop):
    first, second = shop.hire(), shop.hire()
    assert await first.call(("till",), "add", 2) == 2
    assert await second.call(("till",), "add", 3) == 5
    assert await first.call(("till",), "later") == ("Till", None)
    first.close()
    second.close()


async def test_what_fails_there_is_a_store_that_is_down(shop: Shop, caplog):
    store = shop.hire()
    with pytest.raises(StoreDown, match="ValueError: out of change"):
        await store.call(("till",), "broken")
    with pytest.raises(StoreDown, match="nothing is kept under till/2"):
        await store.call(("till", "2"), "add", 1)
    assert await store.call(("till",), "add", 1) == 1
    store.close()


async def test_without_a_supervisor(shop: Shop):
    store = shop.hire()
    waiting = store.call(("till",), "add", 1)
    shop.channels[0].close()
    with pytest.raises(StoreDown):
        await waiting
    assert not store.up and repr(store) == "<LocalStore down, 1 waiting>"
    with pytest.raises(StoreDown, match="ChannelClosed"):
        await store.call(("till",), "add", 1)
    store.close()


async def test_one_that_does_not_answer(shop: Shop, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "DEADLINE", 0.02)
    monkeypatch.setattr(module, "LOOK", 0.01)
    stuck = asyncio.Event()
    store = shop.hire()
    shop.channels[0].on("stuck", stuck.wait)
    late: Asked[None] = store.ask(Asked(), "stuck")
    with pytest.raises(StoreDown, match="does not answer"):
        await asyncio.wait_for(late, 10)
    assert await store.call(("till",), "add", 1) == 1
    stuck.set()
    await until(lambda: repr(store).endswith("0 waiting>"))
    store.close()


async def test_what_has_to_be_known_first(shop: Shop):
    store = shop.hire()
    known: list[object] = []

    async def ask() -> None:
        known.append(await store.call(("till",), "add", 7))

    async def in_vain() -> None:
        await store.call(("nothing",), "add", 7)

    store.before_serving(in_vain)
    store.before_serving(ask)
    await store.ready()
    assert known == [7]
    await store.ready()
    assert known == [7]
    store.close()


async def test_a_wait_that_is_given_up(shop: Shop):
    store: LocalStore = shop.hire()
    given_up = store.call(("till",), "add", 1)
    assert given_up.cancel()
    assert await store.call(("till",), "add", 1) == 2
    assert given_up.cancelled()
    store.close()
