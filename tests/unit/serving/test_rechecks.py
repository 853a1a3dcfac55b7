"""When an open WebSocket is judged, by what, and what becomes of it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Recheck
from gateway.core.wait import Wait
from gateway.protocols.websocket import POLICY_VIOLATION
from gateway.runtime.pipeline import Pipeline
from gateway.serving.rechecks import Rechecks
from tests.until import until


class World:
    """A tunnel of the route "ws", which is judged by `verdict`."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []
        self.asked = 0
        self.verdict: Any = None
        self.pipeline = Pipeline("p", rechecks=(Recheck(0.001, self.judge),))
        self.route: Any = SimpleNamespace(pipeline=self.pipeline)
        self.snapshot = SimpleNamespace(active=0, leave=self.leave, route=lambda name: self.route)
        self.server: Any = SimpleNamespace(runtime=SimpleNamespace(snapshot=self.snapshot))
        self.tunnel: Any = SimpleNamespace(go_away=lambda why, code: self.said.append((why, code)))
        self.exchange: Any = SimpleNamespace(
            route=SimpleNamespace(name="ws"), client_ip="192.0.2.1"
        )

    def leave(self) -> None:
        self.snapshot.active -= 1

    def judge(self, exchange: object) -> Any:
        assert exchange is self.exchange and self.snapshot.active == 1
        self.asked += 1
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict

    def begin(self) -> Rechecks:
        return Rechecks(self.exchange, self.tunnel, self.server, self.pipeline)


@pytest.fixture
async def world():
    made = World()
    yield made
    assert made.snapshot.active == 0


async def test_it_is_judged_again_and_again(world):
    rechecks = world.begin()
    assert world.asked == 0  # The handshake has just been judged.
    await until(lambda: world.asked > 2)
    rechecks.close()
    asked = world.asked
    await asyncio.sleep(0.01)
    assert (world.asked, world.said) == (asked, [])


@pytest.mark.parametrize("failure", [Failure.EXPIRED, Failure.UNAUTHENTICATED, Failure.FORBIDDEN])
async def test_credentials_that_are_no_longer_good_end_it(world, failure):
    world.verdict = Failed(failure)
    world.begin()
    await until(lambda: world.said)
    assert world.said == [(failure.reason, POLICY_VIOLATION)] and world.asked == 1


async def test_what_cannot_be_told_does_not(world):
    world.verdict = Failed(Failure.NO_ENDPOINT, why="the store is away")
    rechecks = world.begin()
    await until(lambda: world.asked > 2)
    assert world.said == []
    rechecks.close()


async def test_a_hook_may_wait(world):
    world.verdict = Wait()
    world.begin()
    await until(lambda: world.asked)
    world.verdict.fail(Failed(Failure.EXPIRED))
    assert world.said == [("expired", POLICY_VIOLATION)]


async def test_one_that_waits_is_given_up_with_the_tunnel(world):
    world.verdict = Wait()
    rechecks = world.begin()
    await until(lambda: world.asked)
    rechecks.close()
    assert world.verdict.done and world.snapshot.active == 0 and world.said == []


async def test_a_hook_that_fails_is_logged_and_asked_no_more(world, caplog):
    world.verdict = ZeroDivisionError("a bug")
    world.begin()
    await until(lambda: "is not judged any more" in caplog.text)
    assert (world.asked, world.said) == (1, [])


@pytest.mark.parametrize("gone", ["the route", "the hooks"])
async def test_what_is_in_force_judges_and_maybe_nothing_does(world, gone):
    rechecks = world.begin()
    world.route = None if gone == "the route" else SimpleNamespace(pipeline=Pipeline("p"))
    await until(lambda: rechecks._timer is None)
    assert (world.asked, world.said) == (0, [])
