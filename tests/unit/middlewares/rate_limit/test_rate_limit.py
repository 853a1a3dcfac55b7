from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.core.exchange import Exchange, Identity, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem
from gateway.middlewares import rate_limit
from gateway.middlewares.rate_limit import CONFIG, RateLimit
from tests.exchange import World, exchange

UNIX = 1_700_000_000
STANDARD = {"tokens": 1000, "refill": 100, "burst": 200}


@dataclass
class Limits(World):
    now: float = 50.0
    epoch: float = UNIX

    def limiter(
        self, table: dict[str, Any], *, name: str = "rate_limit", route: str = "", pipeline: str = "partner"
    ) -> RateLimit:
        hook = self.build(rate_limit, table, name=name, route=route, pipeline=pipeline).request
        assert isinstance(hook, RateLimit)
        return hook


@pytest.fixture
def world() -> Limits:
    return Limits()


def asked(
    client: str = "", *, ip: str = "192.0.2.7", tier: str = "", route: str = "cameras", explained: bool = False
) -> Exchange:
    identity = Identity(client, "api_key", tier) if client else None
    return exchange(target="/api/v1/cameras", peer=ip, route=route, identity=identity, explained=explained)


def lines(exchange: Exchange) -> dict[str, str]:
    """The limit headers that would go out with any reply; each must be there once."""
    text = b"".join(exchange.reply_blocks or ()).decode()
    assert text.endswith("\r\n") or not text
    pairs = [line.split(": ", 1) for line in text.splitlines()]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def refused(hook: Callable[[Exchange], Any], exchange: Exchange) -> Failed:
    with pytest.raises(Failed) as caught:
        hook(exchange)
    assert caught.value.failure is Failure.RATE_LIMITED
    return caught.value


def headers(failed: Failed) -> dict[str, str]:
    assert len(dict(failed.headers)) == len(failed.headers)
    return {name.decode(): value.decode() for name, value in failed.headers}


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
        assert failed.detail == 'Too many requests: the limit "default" is used up. Try again in 40 seconds.'
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
        assert refused(hook, asked("acme")).detail == 'Too many requests: the limit "default" is used up. Try again in 1 second.'

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
        hook, exchange = world.limiter({"class": 'a"b\\c\né', "classes": {'a"b\\c\né': STANDARD}}), asked("acme")
        hook(exchange)
        assert lines(exchange)["RateLimit"] == r'"a\"b\\c??";r=999;t=1'

    def test_an_upstream_s_own_account_is_removed_where_listed(self, world: Limits):
        hooks = world.build(rate_limit, STANDARD)
        reply = Reply(200, [(b"X-RateLimit-Limit", b"5"), (b"RateLimit", b'"x";r=1'), (b"Content-Type", b"text/plain")])
        assert hooks.response is not None
        hooks.response(asked(), reply)
        assert reply.headers == [(b"Content-Type", b"text/plain")]


class TestNothingAllowed:
    """`limit = 0`."""

    @pytest.mark.parametrize("algorithm", ["token_bucket", "sliding_window", "sliding_log", "fixed_window"])
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
            {"policy": "default", "key": "client", "algorithm": algorithm, "limit": 0, "window": 3600.0, "remaining": 0}
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
    def by_ip(self, world: Limits) -> RateLimit:
        return world.limiter({"key": "ip", "limit": 4, "window": "1m", "algorithm": "fixed_window"}, name="rate_limit.ip")

    def test_all_policies_are_listed_and_the_tightest_is_shown(self, world: Limits, by_ip: RateLimit):
        by_client = world.limiter({"tokens": 10, "refill": 1})
        seen = []
        for client in ("a", "a", "b"):
            exchange = asked(client)
            by_ip(exchange)
            by_client(exchange)
            seen.append(lines(exchange))
        assert {one["RateLimit-Policy"] for one in seen} == {'"ip";q=4;w=60, "default";q=10;w=10'}
        assert [one["RateLimit"] for one in seen] == ['"ip";r=3;t=60', '"ip";r=2;t=60', '"ip";r=1;t=60']
        assert seen[0]["X-RateLimit-Limit"] == "4" and seen[0]["X-RateLimit-Reset"] == str(UNIX + 110)

    def test_the_later_one_is_shown_when_it_is_tighter(self, world: Limits, by_ip: RateLimit):
        by_client, exchange = world.limiter({"tokens": 2, "refill": 1}), asked("a")
        by_ip(exchange)
        exchange.reply_blocks = [b"X-Other: 1\r\n", *(exchange.reply_blocks or ())]
        by_client(exchange)
        assert lines(exchange)["RateLimit"] == '"default";r=1;t=1'
        assert lines(exchange)["X-RateLimit-Limit"] == "2"
        assert lines(exchange)["X-Other"] == "1"

    def test_a_third_one(self, world: Limits, by_ip: RateLimit):
        exchange = asked("a")
        by_ip(exchange)
        world.limiter({"tokens": 2, "refill": 1})(exchange)
        world.limiter({"key": "global", "tokens": 1000, "refill": 100}, name="rate_limit.all")(exchange)
        assert lines(exchange)["RateLimit-Policy"] == '"ip";q=4;w=60, "default";q=2;w=2, "all";q=1000;w=10'
        assert lines(exchange)["RateLimit"] == '"default";r=1;t=1'

    def test_a_refusal_by_the_later_one_tells_everything_once(self, world: Limits, by_ip: RateLimit):
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
    def test_who_shares(self, world: Limits, key: str, first: Exchange, second: Exchange, together: bool):
        hook = world.limiter({"key": key, "tokens": 10, "refill": 1})
        for request in (first, second):
            request.notes.clear()
            request.reply_blocks = None
            hook(request)
        assert lines(second)["X-RateLimit-Remaining"] == ("8" if together else "9")

    @pytest.mark.parametrize("key", ["ip", "client", "global"])
    def test_scope_route(self, world: Limits, key: str):
        hook = world.limiter({"key": key, "tokens": 10, "refill": 1, "scope": "route"})
        first, second, third = asked("a", route="one"), asked("a", route="two"), asked("a", route="one")
        for request in (first, second, third):
            hook(request)
        assert [lines(one)["X-RateLimit-Remaining"] for one in (first, second, third)] == ["9", "9", "8"]

    def test_max_keys(self, world: Limits):
        hook = world.limiter({"key": "ip", "tokens": 10, "refill": 1, "max_keys": 5})
        for number in range(30):
            hook(asked(ip=f"192.0.2.{number}"))
        assert len(hook._default.buckets) == 5


class TestPolicies:
    def test_tiers(self, world: Limits):
        hook = world.limiter(
            {
                "class": "free",
                "tiers": {"premium": "gold", "enterprise": "gold"},
                "classes": {"free": {"limit": 100, "window": "1m"}, "gold": {"limit": 1000, "window": "1m"}},
            }
        )
        seen = {}
        for tier in ("", "unheard of", "premium", "enterprise"):
            exchange = asked("acme", tier=tier)
            hook(exchange)
            seen[tier] = lines(exchange)["RateLimit"]
        assert seen == {
            "": '"free";r=99;t=1',
            "unheard of": '"free";r=98;t=2',
            "premium": '"gold";r=999;t=1',
            "enterprise": '"gold";r=998;t=1',
        }
        stranger = asked()
        hook(stranger)
        assert lines(stranger)["RateLimit"] == '"free";r=99;t=1'

    def test_routes_of_one_class_count_together(self, world: Limits):
        table = {"class": "strict", "classes": {"strict": {"tokens": 10, "refill": 1}}}
        one, two = world.limiter(table, route="one"), world.limiter({**table, "message": "no"}, route="two")
        first, second = asked("acme", route="one"), asked("acme", route="two")
        one(first)
        two(second)
        assert lines(second)["RateLimit"] == '"strict";r=8;t=2'

    @pytest.mark.parametrize(
        "other",
        [
            {"name": "rate_limit.other"},
            {"pipeline": "internal"},
        ],
    )
    def test_other_instances_and_pipelines_count_apart(self, world: Limits, other: dict[str, str]):
        table = {"class": "strict", "classes": {"strict": {"tokens": 10, "refill": 1}}}
        exchange = asked("acme")
        world.limiter(table)(asked("acme"))
        world.limiter(table, **other)(exchange)
        assert lines(exchange)["X-RateLimit-Remaining"] == "9"

    def test_a_route_with_numbers_of_its_own_counts_apart(self, world: Limits):
        whole, own = world.limiter({"tokens": 10, "refill": 1}), world.limiter({"tokens": 5, "refill": 1}, route="login")
        whole(asked("acme"))
        exchange = asked("acme", route="login")
        own(exchange)
        assert lines(exchange)["RateLimit"] == '"login";r=4;t=1'

    def test_tokens_by_limit_and_window(self, world: Limits):
        hook, exchange = world.limiter({"limit": 60, "window": "1m", "burst": 5}), asked("acme")
        hook(exchange)
        assert lines(exchange)["RateLimit-Policy"] == '"default";q=60;w=60'
        for _ in range(4):
            hook(asked("acme"))
        failed = refused(hook, asked("acme"))
        assert headers(failed)["Retry-After"] == "1"
        assert headers(failed)["X-RateLimit-Remaining"] == "0"

    def test_refusals_are_counted_by_route_and_policy(self, world: Limits):
        hook = world.limiter({"class": "strict", "classes": {"strict": {"tokens": 1, "refill": 1}}})
        hook(asked("acme"))
        for _ in range(3):
            refused(hook, asked("acme", route="login"))
        nowhere = asked("acme")
        nowhere.route = None
        refused(hook, nowhere)
        assert world.telemetry.rate_limited.values == {("login", "strict"): 3, ("", "strict"): 1}


class TestReload:
    def test_counts_survive_in_proportion_and_changed_limits_apply_at_once(self, world: Limits):
        classes = {"standard": {"tokens": 10, "refill": 1}}
        before = world.limiter({"class": "standard", "classes": classes})
        for _ in range(6):
            before(asked("acme"))
        world.reload()
        after = world.limiter({"class": "standard", "classes": {"standard": {"tokens": 100, "refill": 2}}})
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

    @pytest.mark.parametrize("change", [{"key": "ip"}, {"algorithm": "fixed_window"}, {"scope": "route"}])
    def test_counts_that_mean_something_else_start_afresh(self, world: Limits, change: dict[str, str]):
        table = {"limit": 10, "window": "1m"}
        world.limiter(table)(asked("acme"))
        world.reload()
        exchange = asked("acme")
        world.limiter({**table, **change})(exchange)
        assert lines(exchange)["X-RateLimit-Remaining"] == "9"


class TestExplain:
    def test_says_and_consumes_nothing(self, world: Limits):
        hook = world.limiter({"tokens": 2, "refill": 0.5})
        for _ in range(3):
            exchange = asked("acme", explained=True)
            hook(exchange)
            assert exchange.decisions is not None and exchange.reply_blocks is None
            assert (exchange.decisions[0].hook, exchange.decisions[0].outcome) == ("rate_limit", "admitted")
            assert exchange.decisions[0].why == '"default";q=2;w=4 by client: 1 left after it'
        hook(asked("acme"))
        hook(asked("acme"))
        exchange = asked("acme", explained=True)
        refused(hook, exchange)
        assert exchange.decisions is not None
        assert (exchange.decisions[0].outcome, exchange.decisions[0].why) == (
            "limited",
            '"default";q=2;w=4 by client: 2.000 s to wait',
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
        assert "by ip, for want of an identity" in exchange.decisions[0].why


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
                "classes": {"free": {"limit": 5, "window": 60}, "gold": {"limit": 50, "window": 60}},
            }
        )
        hook(asked("acme", tier="premium"))
        told = hook.status(asked("acme", tier="premium"))[0]
        assert (told["policy"], told["remaining"], "burst" in told) == ("gold", 49, False)
        assert hook.status(asked("acme"))[0]["policy"] == "free"


class TestConfig:
    @pytest.mark.parametrize(
        ("table", "at", "said"),
        [
            ({}, (), "says no limit"),
            ({"class": "strict"}, ("class",), "there is no class 'strict'"),
            ({"class": "a", "classes": {"a": {}}}, ("classes", "a"), "says no limit"),
            ({"class": "a", "classes": {"a": STANDARD}, "limit": 3}, ("class",), "two limits"),
            ({**STANDARD, "tiers": {"gold": "b"}}, ("tiers", "gold"), "there is no class 'b'"),
            ({"tokens": 5}, (), "tokens and refill need each other"),
            ({"burst": 5}, (), "tokens and refill need each other"),
            ({"limit": 5}, (), "limit and window need each other"),
            ({"window": 5}, (), "limit and window need each other"),
            ({"tokens": 5, "refill": 1, "limit": 3, "window": 5}, (), "one way to say it"),
            ({"algorithm": "fixed_window", "limit": 3, "window": 5, "burst": 5}, ("burst",), "token_bucket"),
            ({"algorithm": "sliding_window", "tokens": 3, "refill": 5}, ("tokens",), "token_bucket"),
            (
                {"algorithm": "sliding_window", "class": "a", "classes": {"a": STANDARD}},
                ("classes", "a", "tokens"),
                "not 'sliding_window'",
            ),
        ],
    )
    def test_problems_that_only_show_together(self, world: Limits, table: dict[str, Any], at: tuple[str, ...], said: str):
        with pytest.raises(ConfigProblem) as caught:
            world.limiter(table)
        assert caught.value.at == at
        assert said in caught.value.message

    def test_the_classes_there_are_is_the_hint(self, world: Limits):
        with pytest.raises(ConfigProblem) as caught:
            world.limiter({"class": "c", "classes": {"b": STANDARD, "a": STANDARD}})
        assert caught.value.hint == "classes here: a, b"

    @pytest.mark.parametrize(
        "table",
        [
            {"key": "cookie"},
            {"algorithm": "leaky"},
            {"tokens": 0},
            {"refill": 0},
            {"window": "0s"},
            {"limit": 1.5},
            {"classes": {"a": {"tokens": 1, "size": 2}}},
            {"tiers": {"gold": 3}},
            {"scope": "planet"},
            {"max_keys": 0},
            {"class_": "a"},
        ],
    )
    def test_values_that_are_wrong_alone(self, table: dict[str, Any]):
        with pytest.raises(ValidationError):
            CONFIG().load(table)

    def test_repr(self, world: Limits):
        assert (
            repr(world.limiter({**STANDARD, "key": "ip"}, name="rate_limit.ip"))
            == '<RateLimit rate_limit.ip by ip: "ip";q=1000;w=10>'
        )
