"""One exact rule: the ledger's answer is the decision, and what happens when there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from gateway.core.drive import Drive
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.wait import Wait, driven
from gateway.middlewares.rate_limit.exact import ExactLimiter
from gateway.middlewares.rate_limit.limiter import RuleLimiter
from gateway.store.stores import StoreDown
from tests.exchange import World
from tests.unit.middlewares.rate_limit.rules_world import asked, limiter


class Ledger:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.name = "fake"
        self.gateways = 2
        self.leased_by_default = False
        self.up = True
        self.asked: list[tuple[Sequence[bytes], Sequence[bytes], Wait[list[int]]]] = []

    def take(self, keys: Sequence[bytes], terms: Sequence[bytes]) -> Wait[list[int]]:
        wait: Wait[list[int]] = Wait()
        self.asked.append((keys, terms, wait))
        return wait


class Request:
    """A request under way: driven by hand, as serving does it."""

    def __init__(self, hook: Any, **facts: Any) -> None:
        self.exchange: Exchange = asked(**facts)
        self.over: list[BaseException | None] = []
        rest = hook(self.exchange)
        if rest is None:
            self.over.append(None)
        else:
            assert driven(rest) is rest  # it needs no Task
            Drive(rest, lambda value, error: self.over.append(error)).start()

    @property
    def lines(self) -> str:
        return b"".join(self.exchange.reply_blocks or ()).decode()


def made(ledger: Ledger, **more: Any) -> ExactLimiter:
    world = more.pop("world", None)
    hook = limiter(
        {"key": "ip", "limit": 10, "window": "1m", "algorithm": "fixed_window", **more},
        world,
        ledger=ledger,
    )
    assert type(hook) is ExactLimiter
    return hook


@pytest.mark.parametrize(
    "more",
    [
        {"shadow": True},
        {"key": "body:id"},
        {"cost_header": "X-Cost"},
        {"algorithm": "concurrency"},
        {"rules": [{"key": "ip", "limit": 1, "window": "1h"}]},
    ],
)
def test_which_rules_go_the_long_way(more: dict[str, Any]):
    table = {"key": "ip", "limit": 10, **({} if "algorithm" in more else {"window": "1m"}), **more}
    assert type(limiter(table, ledger=Ledger())) is RuleLimiter


def test_an_answer_is_a_decision_at_once():
    ledger = Ledger()
    hook = made(ledger)
    admitted, refused = Request(hook), Request(hook)
    assert admitted.over == refused.over == []
    ledger.asked[0][2].wake([7_400_000, 29_500_001, 1])
    assert (
        admitted.over == [None]
        and "Remaining: 7\r\n" in admitted.lines
        and "r=7;t=30" in admitted.lines
    )
    ledger.asked[1][2].wake([-1, 29_500_001, 1])
    [failed] = refused.over
    assert isinstance(failed, Failed) and failed.failure is Failure.RATE_LIMITED
    assert dict(failed.headers)[b"Retry-After"] == b"30"


def test_requests_near_the_end_of_a_limit_are_counted():
    ledger, world = Ledger(), World(now=100.0)
    hook = made(ledger, world=world)
    for left in (2_000_001, 2_000_000):
        Request(hook)
        ledger.asked[-1][2].wake([left, 1, 1])
    assert list(world.telemetry.rate_near.values.values()) == [1]


def test_what_costs_nothing_is_not_asked_for():
    ledger = Ledger()
    hook = made(ledger, costs={"OPTIONS": 0, "POST": 3})
    assert Request(hook, method="OPTIONS").over == [None] and not ledger.asked
    Request(hook, method="POST")
    assert list(ledger.asked[0][1])[5] == b"3"


@pytest.mark.parametrize(("on_failure", "admits"), [("local_share", 5), ("open", 9), ("closed", 0)])
@pytest.mark.parametrize("up", [True, False])
def test_without_an_answer(on_failure: str, admits: int, up: bool):
    ledger, world = Ledger(), World(now=100.0)
    hook = made(ledger, on_store_failure=on_failure, world=world)
    ledger.up = up
    found = []
    for _ in range(9):
        try:
            request = Request(hook)
        except Failed as failed:
            found.append(failed)
            continue
        if up:
            ledger.asked.pop()[2].fail(StoreDown("late"))
        found += request.over
    assert found.count(None) == admits
    failures = {one.failure for one in found if isinstance(one, Failed)}
    assert failures <= {Failure.LIMITS_UNKNOWN if on_failure == "closed" else Failure.RATE_LIMITED}
    assert world.telemetry.rate_fallback.get(("default", on_failure)) == 9
