"""The ledger in Redis beside its script: signs of life, and slots that are renewed and let go."""

from __future__ import annotations

import pytest

from gateway.core.clock import REAL
from gateway.core.telemetry import Telemetry
from gateway.limits import redis_ledger
from gateway.limits.algorithms import NEVER
from gateway.limits.redis_ledger import RedisLedger
from gateway.store.stores import SharedStore, StoreDown, parse
from tests.redis import StartFake, fake, usual
from tests.until import until

__all__ = ["fake"]


def made(port: int) -> RedisLedger:
    return RedisLedger(SharedStore(parse(f"redis://127.0.0.1:{port}"), 2.0), REAL, Telemetry())


async def test_it_says_how_it_is():
    ledger = made(1)
    assert repr(ledger) == "<RedisLedger redis://127.0.0.1:1 up, 0 gateways>"
    with pytest.raises(StoreDown, match="cannot connect"):
        await ledger.take((b"k",), ())
    assert not ledger.up
    ledger.close()


async def test_it_knows_since_when_it_can_be_reached(fake: StartFake):
    server = await fake(usual())
    ledger = made(server.port)
    assert ledger.since == NEVER
    await ledger.take((b"k",), ())
    first = ledger.since
    assert NEVER < first <= REAL.monotonic()
    ledger.client.links[0].down("for a test")
    assert ledger.since == first
    await until(lambda: ledger.up)
    assert ledger.since > first
    ledger.close()


async def test_a_beat_that_is_not_heard_changes_nothing(
    fake: StartFake, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(redis_ledger, "BEAT", 0.04)
    beats = 0

    def reply(command: list[bytes]) -> bytes:
        nonlocal beats
        if b"gateway:alive" in command:
            beats += 1
            return b"-BUSY a script runs\r\n" if beats == 2 else b":3\r\n"
        return usual()(command)

    server = await fake(reply)
    ledger = made(server.port)
    ledger.hold(b"slot", b"held", (b"x",))
    assert await ledger.take((b"k",), ()) == [1, 2]
    await until(lambda: beats >= 12)
    assert ledger.gateways == 3 and ledger.up
    # slots are renewed every tenth time
    assert [command for command in server.asked if b"held" in command]
    ledger.close()


async def test_a_lease_is_answered_or_known_to_be_unknown(fake: StartFake):
    server = await fake(usual(b"*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n"))
    ledger = made(server.port)
    told: list[list[int] | None] = []
    ledger.lease(b"k", (), told.append)
    await until(lambda: told)
    ledger.close()
    ledger.lease(b"k", (), told.append)
    assert told == [[1, 2, 3, 4], None]
