"""One limit in this process: whose requests count together, reloads, `explain` and the `limits`
answer."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Exchange
from tests.unit.middlewares.rate_limit.limits_world import (
    STANDARD,
    UNIX,
    Limits,
    asked,
    lines,
    refused,
    world,
)

__all__ = ["world"]


class TestKeys:
    @pytest.mark.parametrize(
        ("key", "first", "second", "together"),
        [
            ("ip", asked("a", ip="192.0.2.1"), asked("b", ip="192.0.2.1"), True),
            ("ip", asked("a", ip="192.0.2.1"), asked("a", ip="192.0.2.2"), False),
            ("ip", asked(ip="2001:db8::1"), asked(ip="2001:db8::ffff:2"), True),
            ("ip", asked(ip="2001:db8::1"), asked(ip="2001:db8:0:1::1"), False),
            ("client", asked("a", ip="192.0.2.1"), asked("a", ip="192.0.2.2"), True),
            ("client", asked("a", ip="192.0.2.1"), asked("b", ip="192.0.2.1"), False),
            ("client", asked(ip="192.0.2.1"), asked(ip="192.0.2.1"), True),
            ("client", asked(ip="192.0.2.1"), asked(ip="192.0.2.2"), False),
            ("client", asked(ip="192.0.2.1"), asked("192.0.2.1"), False),
            ("global", asked("a", ip="192.0.2.1"), asked("b", ip="192.0.2.2"), True),
            ("client", asked("a", route="one"), asked("a", route="two"), True),
        ],
    )
    def test_who_shares(
        self, world: Limits, key: str, first: Exchange, second: Exchange, together: bool
    ):
        hook = world.limiter({"key": key, "tokens": 10, "refill": 1})
        for request in (first, second):
            request.notes.clear()
            request.reply_blocks = None
            hook(request)
        assert lines(second)["X-RateLimit-Remaining"] == ("8" if together else "9")

    @pytest.mark.parametrize("key", ["ip", "client", "global"])
    def test_scope_route(self, world: Limits, key: str):
        hook = world.limiter({"key": key, "tokens": 10, "refill": 1, "scope": "route"})
        first, second, third = (
            asked("a", route="one"),
            asked("a", route="two"),
            asked("a", route="one"),
        )
        for request in (first, second, third):
            hook(request)
        assert [lines(one)["X-RateLimit-Remaining"] for one in (first, second, third)] == [
            "9",
            "9",
            "8",
        ]

    def test_max_keys(self, world: Limits):
        hook = world.limiter({"key": "ip", "tokens": 10, "refill": 1, "max_keys": 5})
        for number in range(30):
            hook(asked(ip=f"192.0.2.{number}"))
        assert len(hook._default.buckets) == 5


class TestReload:
    def test_counts_survive_in_proportion_and_changed_limits_apply_at_once(self, world: Limits):
        classes = {"standard": {"tokens": 10, "refill": 1}}
        before = world.limiter({"class": "standard", "classes": classes})
        for _ in range(6):
            before(asked("acme"))
        world.reload()
        after = world.limiter(
            {"class": "standard", "classes": {"standard": {"tokens": 100, "refill": 2}}}
        )
        # Nothing has changed for anybody until the reload has come to be.
        exchange = asked("acme")
        before(exchange)
        assert lines(exchange)["RateLimit"] == '"standard";r=3;t=7'
        world.reload()
        exchange = asked("acme")
        after(exchange)
        assert lines(exchange)["RateLimit"] == '"standard";r=29;t=36'
        # The old snapshot's last requests count in the same buckets, by the new limits.
        old = asked("acme")
        before(old)
        assert lines(old)["RateLimit"] == '"standard";r=28;t=36'

    def test_a_class_that_a_route_redefines_is_another_class(self, world: Limits):
        table = {"class": "strict", "classes": {"strict": {"limit": 2, "window": "1m"}}}
        wide = {"class": "strict", "classes": {"strict": {"limit": 100, "window": "1m"}}}
        for _ in range(2):
            everywhere = world.limiter(table)
            there = world.limiter(wide, route="there")
            world.reload()
        for _ in range(2):
            everywhere(asked("acme"))
        exchange = asked("acme")
        there(exchange)
        assert lines(exchange)["X-RateLimit-Remaining"] == "99"

    @pytest.mark.parametrize(
        "change", [{"key": "ip"}, {"algorithm": "fixed_window"}, {"scope": "route"}]
    )
    def test_counts_that_mean_something_else_start_afresh(
        self, world: Limits, change: dict[str, str]
    ):
        table = {"limit": 10, "window": "1m"}
        world.limiter(table)(asked("acme"))
        world.reload()
        exchange = asked("acme")
        world.limiter({**table, **change})(exchange)
        assert lines(exchange)["X-RateLimit-Remaining"] == "9"


def test_requests_near_the_end_of_a_limit_are_counted(world: Limits):
    hook = world.limiter({"tokens": 10, "refill": 1})
    counts = []
    for _ in range(10):
        hook(asked("acme"))
        counts.append(world.telemetry.rate_near.get(("cameras", "default")))
    refused(hook, asked("acme"))
    assert (
        counts
        == [0] * 7 + [1, 2, 3]
        == [*counts[:-1], world.telemetry.rate_near.get(("cameras", "default"))]
    )


class TestExplain:
    def test_says_and_consumes_nothing(self, world: Limits):
        hook = world.limiter({"tokens": 2, "refill": 0.5})
        for _ in range(3):
            exchange = asked("acme", explained=True)
            hook(exchange)
            assert exchange.decisions is not None and exchange.reply_blocks is None
            assert (exchange.decisions[0].hook, exchange.decisions[0].outcome) == (
                "rate_limit",
                "admitted",
            )
            assert exchange.decisions[0].why == '"default";q=2;w=4 of client acme: 1 left after it'
        hook(asked("acme"))
        hook(asked("acme"))
        exchange = asked("acme", explained=True)
        refused(hook, exchange)
        assert exchange.decisions is not None
        assert (exchange.decisions[0].outcome, exchange.decisions[0].why) == (
            "limited",
            '"default";q=2;w=4 of client acme: 0 left, the request costs 1, 2.000 s to wait',
        )
        assert world.telemetry.rate_limited.values == {}

    def test_leaves_the_burst_s_memory_alone(self, world: Limits):
        hook = world.limiter({"tokens": 100, "refill": 1, "burst": 3})
        for _ in range(2):
            hook(asked("acme"))
        for _ in range(5):
            hook(asked("acme", explained=True))
        hook(asked("acme"))
        refused(hook, asked("acme", explained=True))

    def test_says_when_there_is_no_client_to_go_by(self, world: Limits):
        exchange = asked(explained=True)
        world.limiter({"tokens": 2, "refill": 0.5})(exchange)
        assert exchange.decisions is not None
        assert "of ip 192.0.2.7, for want of an identity" in exchange.decisions[0].why


class TestStatus:
    def test_tells_without_counting(self, world: Limits):
        hook = world.limiter({"class": "standard", "classes": {"standard": STANDARD}})
        assert hook.status(asked("acme")) == [
            {
                "policy": "standard",
                "key": "client",
                "algorithm": "token_bucket",
                "limit": 1000,
                "window": 10.0,
                "remaining": 1000,
                "reset": UNIX + 50,
                "burst": 200,
            }
        ]
        for _ in range(150):
            hook(asked("acme"))
        for _ in range(2):
            told = hook.status(asked("acme"))[0]
            assert (told["remaining"], told["reset"]) == (850, UNIX + 52)
        assert hook.status(asked("other"))[0]["remaining"] == 1000

    def test_of_a_tier_and_a_window(self, world: Limits):
        hook = world.limiter(
            {
                "algorithm": "sliding_window",
                "class": "free",
                "tiers": {"premium": "gold"},
                "classes": {
                    "free": {"limit": 5, "window": 60},
                    "gold": {"limit": 50, "window": 60},
                },
            }
        )
        hook(asked("acme", tier="premium"))
        told = hook.status(asked("acme", tier="premium"))[0]
        assert (told["policy"], told["remaining"], "burst" in told) == ("gold", 49, False)
        assert hook.status(asked("acme"))[0]["policy"] == "free"
