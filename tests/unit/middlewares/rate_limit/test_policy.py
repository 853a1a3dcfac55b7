"""A policy: the limit that a class's numbers describe, and the lines written beforehand."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.hooks import ConfigProblem
from gateway.limits.algorithms import Limit
from gateway.middlewares.rate_limit.config import ClassConfig, RuleConfig
from gateway.middlewares.rate_limit.policy import MAX_LOG_UNITS, PolicyMaker
from tests.exchange import World


def maker(algorithm: str = "token_bucket", **more: Any) -> PolicyMaker:
    return PolicyMaker(
        RuleConfig(algorithm=algorithm, **more), {}, World().context("rate_limit"), (), ()
    )


@pytest.mark.parametrize(
    ("algorithm", "numbers", "expected"),
    [
        ("token_bucket", ClassConfig(tokens=10, refill=5.0), Limit.refilled(10, 5.0)),
        ("token_bucket", ClassConfig(tokens=10, refill=5.0, burst=3), Limit.refilled(10, 5.0, 3)),
        ("token_bucket", ClassConfig(limit=10, window=2.0), Limit.windowed(10, 2.0)),
        ("fixed_window", ClassConfig(limit=10, window=2.0), Limit.windowed(10, 2.0)),
        (
            "sliding_log",
            ClassConfig(limit=MAX_LOG_UNITS, window=2.0),
            Limit.windowed(MAX_LOG_UNITS, 2.0),
        ),
    ],
)
def test_the_limit_that_numbers_describe(algorithm: str, numbers: ClassConfig, expected: Limit):
    assert maker(algorithm).limit(numbers, ()) == expected


def test_a_log_is_bounded():
    with pytest.raises(ConfigProblem, match="100000 requests at most"):
        maker("sliding_log").limit(ClassConfig(limit=MAX_LOG_UNITS + 1, window=2.0), ())


def test_the_lines_of_a_reply():
    policy = maker("fixed_window").policy('a "b" \u2603', ClassConfig(limit=10, window=2.5), ())
    assert policy.item == r'"a \"b\" ?";q=10;w=3'
    assert policy.lines(7, 1000, 2, policy.item).decode().split("\r\n") == [
        "X-RateLimit-Limit: 10",
        "X-RateLimit-Remaining: 7",
        "X-RateLimit-Reset: 1000",
        r'RateLimit-Policy: "a \"b\" ?";q=10;w=3',
        r'RateLimit: "a \"b\" ?";r=7;t=2',
        "",
    ]


@pytest.mark.parametrize(
    ("algorithm", "numbers", "item"),
    [
        ("concurrency", ClassConfig(limit=3), '"n";q=3'),
        ("quota", ClassConfig(limit=3, period="month"), '"n";q=3'),
        ("quota", ClassConfig(limit=3, period="day"), '"n";q=3;w=86400'),
    ],
)
def test_what_has_no_window_of_a_length_shows_none(algorithm: str, numbers: ClassConfig, item: str):
    assert maker(algorithm).policy("n", numbers, ()).item == item
