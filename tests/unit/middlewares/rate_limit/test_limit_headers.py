"""What clients are told: header lines on replies, refusals, and several limits in one account."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.exchange import Reply
from gateway.core.failures import Failed
from gateway.middlewares import rate_limit
from gateway.middlewares.rate_limit.memory import MemoryLimiter
from tests.unit.middlewares.rate_limit.limits_world import (
    STANDARD,
    UNIX,
    Limits,
    asked,
    headers,
    lines,
    refused,
    world,
)

__all__ = ["world"]


class TestHeaders:
    def test_of_an_admitted_request(self, world: Limits):
        hook = world.limiter({"class": "standard", "classes": {"standard": STANDARD}})
        exchange = asked("acme")
        assert hook(exchange) is None
        assert exchange.reply_blocks is not None and len(exchange.reply_blocks) == 1
        assert lines(exchange) == {
            "X-RateLimit-Limit": "1000",
            "X-RateLimit-Remaining": "999",
            "X-RateLimit-Reset": str(UNIX + 51),
            "RateLimit-Policy": '"standard";q=1000;w=10',
            "RateLimit": '"standard";r=999;t=1',
        }

    def test_of_a_refused_request(self, world: Limits):
        hook = world.limiter({"limit": 2, "window": "1m", "algorithm": "fixed_window"})
        for _ in range(2):
            hook(asked("acme"))
        world.now += 20.5
        exchange = asked("acme")
        failed = refused(hook, exchange)
        assert headers(failed) == {
            "X-RateLimit-Limit": "2",
            "X-RateLimit-Remaining": "0",
            "X-RateLimit-Reset": str(UNIX + 70 + 40),
            "RateLimit-Policy": '"default";q=2;w=60',
            "RateLimit": '"default";r=0;t=40',
            "Retry-After": "40",
        }
        assert exchange.reply_blocks is None
        assert failed.by == "rate_limit"
        assert failed.detail == (
            'Too many requests: the limit "default" is used up. Try again in 40 seconds.'
        )
        assert '"default";q=2;w=60' in failed.why

    @pytest.mark.parametrize(
        "table",
        [
            {"tokens": 3, "refill": 0.3},
            {"tokens": 30, "refill": 7, "burst": 2},
            {"limit": 3, "window": "7s", "algorithm": "sliding_window"},
            {"limit": 3, "window": "7s", "algorithm": "fixed_window"},
            {"limit": 3, "window": "500ms", "algorithm": "fixed_window"},
        ],
    )
    def test_retry_after_is_true(self, world: Limits, table: dict[str, Any]):
        hook = world.limiter(table)
        for _ in range(40):
            try:
                hook(asked("acme"))
            except Failed as failed:
                wait = int(headers(failed)["Retry-After"])
                assert wait >= 1
                assert int(headers(failed)["X-RateLimit-Reset"]) == int(UNIX + world.now) + wait
                world.now += wait
                hook(asked("acme"))
            world.now += 0.0625

    def test_the_longest_wait_is_worded_in_the_singular_when_it_is_one_second(self, world: Limits):
        hook = world.limiter({"tokens": 1, "refill": 1})
        hook(asked("acme"))
        assert refused(hook, asked("acme")).detail == (
            'Too many requests: the limit "default" is used up. Try again in 1 second.'
        )

    def test_message(self, world: Limits):
        hook = world.limiter({"tokens": 1, "refill": 1, "message": "Slow down, please."})
        hook(asked("acme"))
        assert refused(hook, asked("acme")).detail == "Slow down, please."

    def test_other_lines_for_the_reply_stay(self, world: Limits):
        hook, exchange = world.limiter(STANDARD), asked("acme")
        exchange.reply_blocks = [b"X-Other: 1\r\n"]
        hook(exchange)
        assert list(lines(exchange))[:2] == ["X-Other", "X-RateLimit-Limit"]

    def test_the_reset_follows_a_wall_clock_that_was_set(self):
        world = Limits(now=0.0, epoch=1000.0)
        hook = world.limiter({"tokens": 10, "refill": 1})
        first, second = asked("acme"), asked("acme")
        hook(first)
        world.now, world.epoch = 100.0, 4900.0
        hook(second)
        assert [lines(one)["X-RateLimit-Reset"] for one in (first, second)] == ["1001", "5001"]

    def test_a_name_that_needs_quoting(self, world: Limits):
        hook, exchange = (
            world.limiter({"class": 'a"b\\c\né', "classes": {'a"b\\c\né': STANDARD}}),
            asked("acme"),
        )
        hook(exchange)
        assert lines(exchange)["RateLimit"] == r'"a\"b\\c??";r=999;t=1'

    def test_an_upstream_s_own_account_is_removed_where_listed(self, world: Limits):
        hooks = world.build(rate_limit, STANDARD)
        reply = Reply(
            200,
            [
                (b"X-RateLimit-Limit", b"5"),
                (b"RateLimit", b'"x";r=1'),
                (b"Content-Type", b"text/plain"),
            ],
        )
        assert hooks.response is not None
        hooks.response(asked(), reply)
        assert reply.headers == [(b"Content-Type", b"text/plain")]


class TestNothingAllowed:
    """`limit = 0`."""

    @pytest.mark.parametrize(
        "algorithm", ["token_bucket", "sliding_window", "sliding_log", "fixed_window"]
    )
    def test_nobody_is_told_to_wait(self, world: Limits, algorithm: str):
        hook = world.limiter({"limit": 0, "window": "1h", "algorithm": algorithm})
        failed = refused(hook, asked("acme"))
        assert headers(failed) == {
            "X-RateLimit-Limit": "0",
            "X-RateLimit-Remaining": "0",
            "RateLimit-Policy": '"default";q=0;w=3600',
            "RateLimit": '"default";r=0',
        }
        assert failed.detail == 'The limit "default" allows no requests.'
        assert failed.why.endswith("no time to wait")
        assert hook.status(asked("acme")) == [
            {
                "policy": "default",
                "key": "client",
                "algorithm": algorithm,
                "limit": 0,
                "window": 3600.0,
                "remaining": 0,
            }
        ]
        with pytest.raises(Failed):
            hook(asked("acme", explained=True))

    def test_for_a_tier_alone(self, world: Limits):
        classes = {"none": {"limit": 0, "window": "1h"}, "some": {"limit": 2, "window": "1h"}}
        hook = world.limiter({"class": "none", "tiers": {"pro": "some"}, "classes": classes})
        refused(hook, asked("a"))
        assert hook(asked("b", tier="pro")) is None

    def test_a_reload_takes_it_back(self, world: Limits):
        for limit, admitted in ((2, True), (0, False), (2, True)):
            hook = world.limiter({"limit": limit, "window": "1h"})
            world.reload()
            if admitted:
                assert hook(asked("acme")) is None
            else:
                refused(hook, asked("acme"))


class TestSeveral:
    """Two instances on one pipeline: by address, then by client."""

    @pytest.fixture
    def by_ip(self, world: Limits) -> MemoryLimiter:
        return world.limiter(
            {"key": "ip", "limit": 4, "window": "1m", "algorithm": "fixed_window"},
            name="rate_limit.ip",
        )

    def test_all_policies_are_listed_and_the_tightest_is_shown(
        self, world: Limits, by_ip: MemoryLimiter
    ):
        by_client = world.limiter({"tokens": 10, "refill": 1})
        seen = []
        for client in ("a", "a", "b"):
            exchange = asked(client)
            by_ip(exchange)
            by_client(exchange)
            seen.append(lines(exchange))
        assert {one["RateLimit-Policy"] for one in seen} == {'"ip";q=4;w=60, "default";q=10;w=10'}
        assert [one["RateLimit"] for one in seen] == [
            '"ip";r=3;t=60',
            '"ip";r=2;t=60',
            '"ip";r=1;t=60',
        ]
        assert seen[0]["X-RateLimit-Limit"] == "4" and seen[0]["X-RateLimit-Reset"] == str(
            UNIX + 110
        )

    def test_the_later_one_is_shown_when_it_is_tighter(self, world: Limits, by_ip: MemoryLimiter):
        by_client, exchange = world.limiter({"tokens": 2, "refill": 1}), asked("a")
        by_ip(exchange)
        exchange.reply_blocks = [b"X-Other: 1\r\n", *(exchange.reply_blocks or ())]
        by_client(exchange)
        assert lines(exchange)["RateLimit"] == '"default";r=1;t=1'
        assert lines(exchange)["X-RateLimit-Limit"] == "2"
        assert lines(exchange)["X-Other"] == "1"

    def test_a_third_one(self, world: Limits, by_ip: MemoryLimiter):
        exchange = asked("a")
        by_ip(exchange)
        world.limiter({"tokens": 2, "refill": 1})(exchange)
        world.limiter({"key": "global", "tokens": 1000, "refill": 100}, name="rate_limit.all")(
            exchange
        )
        assert lines(exchange)["RateLimit-Policy"] == (
            '"ip";q=4;w=60, "default";q=2;w=2, "all";q=1000;w=10'
        )
        assert lines(exchange)["RateLimit"] == '"default";r=1;t=1'

    def test_a_refusal_by_the_later_one_tells_everything_once(
        self, world: Limits, by_ip: MemoryLimiter
    ):
        by_client = world.limiter({"tokens": 1, "refill": 0.1})
        for _ in range(2):
            exchange = asked("a")
            by_ip(exchange)
            try:
                by_client(exchange)
            except Failed as failed:
                assert exchange.reply_blocks == []
                assert headers(failed)["RateLimit-Policy"] == '"ip";q=4;w=60, "default";q=1;w=10'
                assert headers(failed)["RateLimit"] == '"default";r=0;t=10'
                return
        pytest.fail("not refused")
