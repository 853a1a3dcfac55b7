"""A worker's ledger: what it asks the supervisor's book, and what it says without one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.limits.algorithms import NEVER, Limit
from gateway.limits.ledger import Told, limit_terms
from gateway.limits.local_ledger import LocalLedger
from gateway.store.stores import StoreDown
from tests.until import until
from tests.workers import Shop

LIMIT = Limit.windowed(4, 3600.0)


def terms(cost: int = 1, flag: int = 0, algorithm: str = "fixed_window", *own: bytes):
    first, second = own or (b"", b"")
    return (*limit_terms(algorithm, LIMIT), b"%d" % cost, b"%d" % flag, first, second)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    one = Shop()
    yield one
    await one.close()


async def test_workers_count_together(shop: Shop):
    first, second = (LocalLedger(shop.hire(), 2) for _ in range(2))
    for ledger, left in ((first, 3), (second, 2)):
        assert (await ledger.take((b"k:p",), terms()))[0] == left * 1_000_000
    first.charge(b"k:p", terms())
    assert (await first.peek(b"k:p", terms()))[0] == 1_000_000
    told = await second.take((b"k:p",), terms(2))
    assert told[0] == -1 and told[1] > 0
    second.refund(b"k:p", terms(1, told[-1]))
    assert (await second.peek(b"k:p", terms()))[0] == 2_000_000


async def test_leases(shop: Shop):
    ledger, told = LocalLedger(shop.hire(), 2), list[Told | None]()
    ledger.lease(b"k:p", terms(1, 9), told.append)
    await until(lambda: told)
    assert told[0] is not None and told[0][:2] == [0, 3_000_000]
    shop.channels[0].close()
    ledger.lease(b"k:p", terms(1, 9), told.append)
    await until(lambda: len(told) == 2)
    assert told[1] is None and not ledger.up
    assert ledger.status()["status"] == "unhealthy"


async def test_slots_are_free_when_they_are_let_go_or_their_worker_ends(shop: Shop):
    first, second = (LocalLedger(shop.hire(), 2) for _ in range(2))

    def slot(name: bytes):
        return terms(1, 0, "concurrency", name, b"60")

    for ledger, name in ((first, b"a"), (first, b"b"), (second, b"c"), (second, b"d")):
        assert (await ledger.take((b"k:p",), slot(name)))[0] >= 0
        ledger.hold(name, b"k:p", slot(name))
    assert (await second.take((b"k:p",), slot(b"e")))[0] == -1
    second.let_go(b"c", b"k:p", slot(b"c"))
    second.let_go(b"c", b"k:p", slot(b"c"))
    assert (await second.peek(b"k:p", slot(b"")))[0] == 1_000_000
    shop.channels[0].close()
    assert (await second.peek(b"k:p", slot(b"")))[0] == 3_000_000


async def test_where_a_configuration_is_only_checked():
    ledger = LocalLedger(None, 4)
    assert (ledger.up, ledger.since, ledger.leased_by_default) == (False, 0.0, True)
    assert repr(ledger) == "<LocalLedger of 4 workers, down>"
    with pytest.raises(StoreDown):
        await ledger.take((b"k:p",), terms())
    ledger.charge(b"k:p", terms())
    ledger.adopt(2)
    assert ledger.gateways == 2


async def test_since_when_it_is_there(shop: Shop):
    ledger = LocalLedger(shop.hire(), 2)
    assert ledger.since > NEVER and ledger.up
