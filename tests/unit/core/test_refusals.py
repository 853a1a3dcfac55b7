"""A hook in shadow decides, and what it decides is noted and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any

import pytest

from gateway.core.exchange import SHADOW, Decision, Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.refusals import WOULD, Shadows, WouldRefuse, in_shadow
from gateway.core.telemetry import Telemetry
from gateway.core.wait import own
from tests.exchange import Body, exchange

BOB = Identity("bob", "api_key")
REFUSED = Failed(Failure.FORBIDDEN, "No.", why="too few", by="auth", at=("require",), client="eve")


class World:
    def __init__(self) -> None:
        self.telemetry = Telemetry()
        self.shadows = Shadows(self.telemetry)

    async def ask(
        self, one: Exchange, decide: Callable[[Exchange], Any], *, waits: bool = False, **more: Any
    ) -> None:
        """Ask a hook in shadow that changes all it can, and then decides."""

        def changes(exchange: Exchange) -> Any:
            exchange.identity, exchange.target, exchange.query = BOB, "/x", "y"
            exchange.drop_headers = frozenset((b"a",))
            exchange.forward_headers = [(b"a", b"b")]
            if exchange.body is not None:
                exchange.body.limit = 1
            return later(exchange) if waits else decide(exchange)

        @own
        async def later(exchange: Exchange) -> Any:
            return decide(exchange)

        pending = in_shadow("auth", changes, self.shadows, **more)(one)
        assert isawaitable(pending) is waits
        if isawaitable(pending):
            assert await pending is None

    @property
    def counted(self) -> dict[Any, float]:
        return dict(self.telemetry.shadow_refusals.values)


@pytest.fixture
def world() -> World:
    return World()


def refuses(exchange: Exchange) -> None:
    raise REFUSED


def state(one: Exchange) -> list[Any]:
    limit = one.body.limit if one.body is not None else None
    return [one.identity, one.target, one.query, one.drop_headers, one.forward_headers, limit]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize(
    ("decide", "noted"),
    [
        (lambda exchange: None, None),
        (refuses, WouldRefuse("auth", "forbidden", "too few", ("require",), "bob")),
        (lambda exchange: Reply(401), WouldRefuse("auth", "401", "answers 401", (), "bob")),
        (lambda exchange: 1 / 0, WouldRefuse("auth", "internal", "ZeroDivisionError", (), "bob")),
    ],
)
async def test_whatever_it_decides_the_request_goes_on_as_it_came(
    world: World, waits: bool, decide: Callable[[Exchange], Any], noted: WouldRefuse | None
):
    one = exchange("POST", "/a?b=c", route="r", body=Body(b"x", limit=9))
    before = state(one)
    await world.ask(one, decide, waits=waits)
    assert state(one) == before
    assert one.notes.get(SHADOW, []) == ([] if noted is None else [noted])
    assert one.reason == ("" if noted is None else "shadow:auth")
    assert world.counted == ({} if noted is None else {("r", "auth", noted.reason): 1})
    by_client = dict(world.telemetry.client_shadow_refusals.values)
    assert by_client == ({} if noted is None else {("bob",): 1})


@pytest.mark.parametrize("waits", [False, True])
async def test_a_dry_run_is_told_and_counts_nothing(world: World, waits: bool):
    def decide(exchange: Exchange) -> None:
        assert exchange.decisions is not None
        exchange.decisions.append(Decision("auth", "denied", "too few"))
        raise REFUSED

    one = exchange(explained=True)
    await world.ask(one, decide, waits=waits)
    assert one.decisions == [Decision("auth", WOULD, "too few")]
    assert (one.reason, world.counted) == ("", {}) and len(one.notes[SHADOW]) == 1


async def test_a_body_that_breaks_off_is_no_decision(world: World):
    def breaks_off(exchange: Exchange) -> None:
        raise Failed(Failure.REQUEST_TIMEOUT)

    one = exchange()
    await world.ask(one, breaks_off)
    assert one.notes == {} and world.counted == {}


async def test_some_failures_may_be_meant(world: World):
    one = exchange()
    with pytest.raises(Failed):
        await world.ask(one, refuses, waits=True, notes=lambda exchange, failed: False)
    assert one.notes == {} and one.identity is None


def test_the_owner_of_refused_credentials_is_named(world: World):
    one = exchange()
    world.shadows.failed(one, "auth", REFUSED)
    assert one.notes[SHADOW][0].client == "eve"
    assert dict(world.telemetry.client_shadow_refusals.values) == {("eve",): 1}
    assert world.counted == {("_none", "auth", "forbidden"): 1}
