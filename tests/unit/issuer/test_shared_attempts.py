"""Failed logins that several gateways count together."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.issuer.attempts import AttemptRule, LocalAttempts
from gateway.issuer.shared_attempts import SharedAttempts
from tests.unit.issuer.shared import RULE, WIDE, T


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
