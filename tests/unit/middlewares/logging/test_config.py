"""What `[logging]` may say."""

from __future__ import annotations

from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.middlewares.logging import CONFIG
from gateway.middlewares.logging.config import MASK, LoggingConfig


def test_defaults():
    assert CONFIG().load({}) == LoggingConfig("-", MASK, (), 1.0, "full", False, True)


def test_every_key_is_read():
    given = {
        "file": "a.log",
        "mask": ["X"],
        "headers": ["Referer"],
        "sample": 0.5,
        "client_ip": "masked",
        "query": True,
        "why": True,
    }
    assert CONFIG().load(given) == LoggingConfig(
        "a.log", ("X",), ("Referer",), 0.5, "masked", True, True
    )


@pytest.mark.parametrize(
    "given",
    [
        {"file": ""},
        {"mask_patterns": ["("]},
        {"levels": {"AUTH_001": "warn"}},
        {"levels": {"AUTH_999": "warning"}},
        {"http": {"url": "ftp://x"}},
        {"syslog": {"address": "logs:514"}},
        {"mask": "authorization"},
        {"headers": ["no header"]},
        {"sample": 1.5},
        {"client_ip": "hashed"},
        {"query": "yes"},
        {"why": 1},
        {"fields": []},
    ],
)
def test_what_is_no_setting(given: dict[str, Any]):
    with pytest.raises(ValidationError):
        CONFIG().load(given)
