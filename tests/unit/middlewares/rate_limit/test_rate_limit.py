"""What a table may say, and the limiter that serves it."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.middlewares.rate_limit import CONFIG
from tests.unit.middlewares.rate_limit.limits_world import STANDARD, Limits, world

__all__ = ["world"]


class TestConfig:
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
            == '<MemoryLimiter rate_limit.ip: [<LimitRule "ip";q=1000;w=10 by ip memory>]>'
        )
