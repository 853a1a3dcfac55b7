"""Days, versions and how requests name them: what is accepted, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.config.versions import Day, Version, VersionBy, VersionByField

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "value",
    [
        date(2027, 1, 1),
        datetime(2027, 1, 1),
        datetime.fromisoformat("2027-01-01T02:00:00+02:00"),
        "2027-01-01",
        "2027-01-01T00:00:00Z",
    ],
)
def test_a_day_begins_at_midnight_utc(value: Any):
    assert Day().deserialize(value) == NEW_YEAR


@pytest.mark.parametrize("value", [2027, "tomorrow", True, [], "2027-13-01"])
def test_no_days(value: Any):
    with pytest.raises(ValidationError, match="must be a day such as 2026-12-31"):
        Day().deserialize(value)


@pytest.mark.parametrize(
    ("value", "by"),
    [
        ("path", VersionBy()),
        ("media_type", VersionBy("media_type")),
        ({"header": "X-V"}, VersionBy("header", "X-V")),
        ({"header": "X-V", "default": "2.0"}, VersionBy("header", "X-V", "2.0")),
        ({"media_type": True, "default": "1"}, VersionBy("media_type", "", "1")),
    ],
)
def test_version_by(value: Any, by: VersionBy):
    assert VersionByField().deserialize(value) == by


@pytest.mark.parametrize(
    "value",
    [
        "query",
        1,
        {},
        {"header": "a b"},
        {"header": "X", "media_type": True},
        {"header": "X", "default": "a b"},
        {"header": "X", "else": "1"},
        {"media_type": False},
        {"default": "1"},
    ],
)
def test_no_version_by(value: Any):
    with pytest.raises(ValidationError):
        VersionByField().deserialize(value)


@pytest.mark.parametrize("value", ["", "a b", "-1", "x" * 33, "1\n", 1])
def test_no_versions(value: Any):
    with pytest.raises(ValidationError):
        Version().deserialize(value)
