"""The policies of a rule: by class, tier and role, and what does not make sense together."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.hooks import ConfigProblem
from tests.unit.middlewares.rate_limit.limits_world import (
    STANDARD,
    Limits,
    asked,
    headers,
    lines,
    refused,
    world,
)

__all__ = ["world"]


class TestPolicies:
    def test_tiers(self, world: Limits):
        hook = world.limiter(
            {
                "class": "free",
                "tiers": {"premium": "gold", "enterprise": "gold"},
                "classes": {
                    "free": {"limit": 100, "window": "1m"},
                    "gold": {"limit": 1000, "window": "1m"},
                },
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
        one, two = (
            world.limiter(table, route="one"),
            world.limiter({**table, "message": "no"}, route="two"),
        )
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
        whole, own = (
            world.limiter({"tokens": 10, "refill": 1}),
            world.limiter({"tokens": 5, "refill": 1}, route="login"),
        )
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


class TestProblems:
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
            (
                {"algorithm": "fixed_window", "limit": 3, "window": 5, "burst": 5},
                ("burst",),
                "token_bucket",
            ),
            (
                {"algorithm": "sliding_window", "tokens": 3, "refill": 5},
                ("tokens",),
                "token_bucket",
            ),
            (
                {"algorithm": "sliding_window", "class": "a", "classes": {"a": STANDARD}},
                ("classes", "a", "tokens"),
                "not 'sliding_window'",
            ),
        ],
    )
    def test_problems_that_only_show_together(
        self, world: Limits, table: dict[str, Any], at: tuple[str, ...], said: str
    ):
        with pytest.raises(ConfigProblem) as caught:
            world.limiter(table)
        assert caught.value.at == at
        assert said in caught.value.message

    def test_the_classes_there_are_is_the_hint(self, world: Limits):
        with pytest.raises(ConfigProblem) as caught:
            world.limiter({"class": "c", "classes": {"b": STANDARD, "a": STANDARD}})
        assert caught.value.hint == "classes here: a, b"
