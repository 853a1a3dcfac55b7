"""Failed logins that several gateways count together."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.core.clock import Clock
from gateway.core.telemetry import Telemetry
from gateway.issuer.attempts import AttemptRule, LocalAttempts
from gateway.issuer.shared_attempts import SharedAttempts
from gateway.store import stores
from gateway.store.redis.client import RedisClient
from gateway.store.stores import StoreDown
from tests.redis import RedisServer, Slow
from tests.unit.issuer.shared import RULE, WIDE, T
from tests.until import until


async def test_attempts_decide_as_the_local_ones_do(store: Any):
    """The same random walk over both: every answer is the same."""
    local = LocalAttempts(RULE, AttemptRule(6, 2.0, 30.0, 200.0))
    shared = SharedAttempts(
        store(), RULE, AttemptRule(6, 2.0, 30.0, 200.0), clock=lambda now: b"%.17g" % now
    )
    dice, now = random.Random(7), T
    for _ in range(400):
        now += dice.choice((0.0, 0.1, 0.5, 3.0, 40.0))
        address, account = f"192.0.2.{dice.randrange(3)}", dice.choice(("alice", "bob", "nobody"))
        waits = [await each.begin(address, account, now) for each in (local, shared)]
        assert waits[0] == pytest.approx(waits[1], abs=1e-5)
        action = dice.choice(("failed", "failed", "failed", "undone", "succeeded"))
        if waits[0] == 0.0 and action != "failed":
            for each in (local, shared):
                await getattr(each, action)(address, account, now)


async def test_attempts_are_shared(store: Any):
    one, two = SharedAttempts(store(), RULE, WIDE), SharedAttempts(store(), RULE, WIDE)
    waits = [await each.begin("192.0.2.1", "alice", 0.0) for each in (one, two, one, two)]
    assert waits[:3] == [0.0, 0.0, 0.0] and 0 < waits[3] <= 1.0
    assert "SharedAttempts redis://" in repr(one)


async def test_an_attempt_whose_answer_comes_too_late_is_withdrawn(
    store: Any, shared_redis: RedisServer
):
    """It was never made: no password has been verified."""
    way = await Slow(shared_redis.port).start()
    late = RedisClient(
        stores.parse(f"redis://127.0.0.1:{way.port}/9"), 0.05, Clock(wall=lambda: T), Telemetry()
    )
    there, shared = SharedAttempts(store(), RULE, WIDE), SharedAttempts(late, RULE, WIDE)
    assert await shared.begin("192.0.2.1", "alice", 0.0) == 0.0
    await shared.undone("192.0.2.1", "alice", 0.0)
    way.delay = 0.2
    with pytest.raises(StoreDown):
        await shared.begin("192.0.2.1", "alice", 0.0)

    async def marked() -> bool:
        found = await store().command(b"KEYS", b"gateway:{tokens}:begun:*")
        values = [await store().command(b"GET", key) for key in found]
        return sorted(values) == [b"0", b"1"]

    await until(marked)
    for _ in range(RULE.free):
        assert await there.begin("192.0.2.1", "alice", 0.0) == 0.0
    assert await there.begin("192.0.2.1", "alice", 0.0) > 0
    late.close()
    await way.stop()


async def test_one_that_is_withdrawn_before_it_begins_never_does(store: Any):
    shared = SharedAttempts(store(), RULE, WIDE)
    await shared._run(b"withdrawn", "192.0.2.1", "alice", 0.0, b"one")
    for _ in range(5):
        assert float(await shared._run(b"begin", "192.0.2.1", "alice", 0.0, b"one")) == 0.0
    assert await shared.begin("192.0.2.1", "alice", 0.0) == 0.0
    await shared._run(b"withdrawn", "192.0.2.1", "alice", 0.0, b"other")
    waits = [await shared.begin("192.0.2.1", "alice", 0.0) for _ in range(3)]
    assert waits[:2] == [0.0, 0.0] and waits[2] > 0
