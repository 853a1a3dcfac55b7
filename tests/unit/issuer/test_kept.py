"""Sessions and attempts of several workers, kept by one supervisor."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.core.clock import Clock
from gateway.issuer.attempts import AttemptRule, LocalAttempts
from gateway.issuer.kept import ATTEMPTS, SESSIONS, KeptAttempts, KeptSessions
from gateway.issuer.sessions import LocalSessions, SessionLimits
from gateway.store.stores import StoreDown
from tests.until import until
from tests.workers import Shop

NOW = 1_000_000.5
CLOCK = Clock(lambda: 5.0, lambda: NOW)
LIMITS = SessionLimits(access=60.0)


@pytest.fixture
async def shop() -> AsyncIterator[Shop]:
    one = Shop(CLOCK)
    one.keep(SESSIONS, LocalSessions(1_000_000.0))
    rule = AttemptRule(2, 10.0, 100.0, 1000.0)
    one.keep(ATTEMPTS, LocalAttempts(rule, AttemptRule(1000, 1.0, 1.0, 1.0)))
    yield one
    await one.close()


async def hired(shop: Shop) -> KeptSessions:
    store = shop.hire()
    sessions = KeptSessions(store, CLOCK)
    with pytest.raises(StoreDown, match="not been heard"):
        sessions.why({"sid": "x", "iat": NOW})
    await store.ready()
    return sessions


def claims(id: str, iat: float = NOW) -> dict[str, object]:
    return {"sid": id, "sub": "alice", "iat": iat}


async def test_a_session_of_one_is_a_session_of_all(shop: Shop):
    first, second = await hired(shop), await hired(shop)
    session, token = await first.begin("alice", ("pwd",), NOW, LIMITS)
    assert await second.find(session.id) == session
    assert await second.count("alice", NOW, LIMITS) == 1
    assert second.why(claims(session.id)) == ""
    refreshed = await second.refresh(token, NOW, LIMITS)
    assert refreshed.result == "ok" and refreshed.session is not None
    second.delivered(refreshed.session)
    assert (await first.refresh(token, NOW, LIMITS)).result == "reused"
    for sessions in (first, second):
        await until(lambda sessions=sessions: sessions.why(claims(session.id)))
        sessions.close()


async def test_ends_reach_all_and_those_that_come_later(shop: Shop):
    first, second = await hired(shop), await hired(shop)
    told: list[int] = []
    second.listeners.add(lambda: told.append(1))
    ids = [(await first.begin("alice", ("pwd",), NOW + n, LIMITS))[0].id for n in range(4)]
    assert await first.end(ids[0]) is not None
    await until(lambda: told)
    assert await first.end(ids[0]) is None
    assert await second.end_others("alice", ids[1], NOW + 9) == 2
    assert await second.end_before("alice", NOW) == 0
    third = await hired(shop)
    for sessions in (first, second, third):
        await until(lambda sessions=sessions: sessions.why(claims(ids[3])))
        assert [bool(sessions.why(claims(id))) for id in ids] == [True, False, True, True]
        sessions.close()


async def test_tokens_that_are_older_than_the_gateway_are_no_good(shop: Shop):
    sessions = await hired(shop)
    assert sessions.why(claims("another gateway's", NOW - 1))
    assert sessions.why({"sub": "alice", "iat": NOW})
    sessions.close()


async def test_a_code_is_good_once(shop: Shop):
    first, second = await hired(shop), await hired(shop)
    assert [await one.claim("alice", 7) for one in (first, second, first)] == [True, False, False]
    first.close()
    second.close()


async def test_without_the_supervisor_nothing_begins(shop: Shop):
    sessions = await hired(shop)
    shop.channels[0].close()
    with pytest.raises(StoreDown):
        await sessions.begin("alice", ("pwd",), NOW, LIMITS)
    sessions.close()


async def test_ends_are_forgotten_when_they_no_longer_matter(shop: Shop):
    sessions = await hired(shop)
    sessions._end({f"old {number}": NOW - 1 for number in range(999)})
    sessions._end({"new": NOW + 60})
    assert repr(sessions) == "<KeptSessions 1 ended>"
    sessions.close()


async def test_attempts_count_together(shop: Shop):
    first, second = (KeptAttempts(shop.hire(), ATTEMPTS) for _ in range(2))
    found = [await one.begin("192.0.2.1", "alice", 5.0) for one in (first, second, first)]
    assert found[:2] == [0.0, 0.0] and found[2] > 0
    await second.undone("192.0.2.1", "alice", 5.0)
    await second.succeeded("192.0.2.1", "alice", 5.0)
    assert await first.begin("192.0.2.1", "alice", 5.0) == 0.0
    assert repr(first) == "<KeptAttempts tokens/attempts>"
