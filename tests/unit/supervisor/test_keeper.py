"""What the supervisor keeps for workers, beside what test_kept.py and test_local_ledger.py ask."""

from __future__ import annotations

from typing import Any

from gateway.core.clock import Clock
from gateway.issuer.kept import SESSIONS
from gateway.issuer.sessions import LocalSessions, SessionLimits
from gateway.store.local import Called
from gateway.store.purges import PURGED, Purge
from gateway.supervisor.keeper import MARGIN
from tests.until import until
from tests.workers import Shop


async def test_an_end_is_remembered_until_the_longest_access_token_has_expired():
    now = [1000.0]
    shop = Shop(Clock(lambda: now[0], lambda: now[0]))
    shop.keep(SESSIONS, LocalSessions(1000.0))
    store = shop.hire()
    heard: list[dict[str, float]] = []
    store.on("ended", heard.append)
    for access in (600.0, 60.0):
        limits = SessionLimits(access=access)
        session, _ = await store.call(SESSIONS, "begin", "alice", ("pwd",), now[0], limits)
    await store.call(SESSIONS, "end", session.id)
    until = 1000.0 + 600.0 + MARGIN
    assert heard == [{session.id: until}]
    for seconds, known in ((until - 1, {session.id: until}), (until, {})):
        now[0] = seconds
        shop.keeper._tidy()
        assert await store.ask(Called(), "ended") == (1000.0, known)
    assert repr(shop.keeper) == "<Keeper of 1 workers, <Book of 0 limits, 0 slots>>"
    store.close()
    await shop.close()


async def test_the_next_program_keeps_what_this_one_kept(caplog):
    clock = Clock(lambda: 1000.0, lambda: 1000.0)
    before, after = Shop(clock), Shop(clock)
    before.keep(SESSIONS, LocalSessions())
    store = before.hire()
    session, _ = await store.call(SESSIONS, "begin", "alice", ("pwd",), 1000.0, SessionLimits())
    await store.call(SESSIONS, "end", session.id)
    after.keeper.load_state(before.keeper.dump_state())
    heir = after.hire()
    assert (await heir.ask(Called(), "ended"))[1] == (await store.ask(Called(), "ended"))[1] != {}
    after.keeper.load_state(b"of another version")
    assert "limits begin anew" in caplog.text
    for shop, one in ((before, store), (after, heir)):
        one.close()
        await shop.close()


async def test_a_purge_by_one_worker_is_told_to_the_others():
    shop = Shop()
    stores = [shop.hire() for _ in range(3)]
    heard: list[tuple[int, Any]] = []
    for number, store in enumerate(stores):
        store.on(PURGED, lambda purges, number=number: heard.append((number, purges)))
    stores[1].post(PURGED, [tuple(Purge("tag", "t"))])
    await until(lambda: len(heard) == 2)
    assert sorted(heard) == [(0, [("tag", "t", False)]), (2, [("tag", "t", False)])]
    for store in stores:
        store.close()
    await shop.close()
