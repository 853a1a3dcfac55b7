"""Refuses requests outside opening hours: a middleware of the operator's own, with a table, a
refusal and the clock passed in."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import ValidationError, validates_schema

from gateway.config.tables.schema import Table, Text
from gateway.core.exchange import Decision, Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context, Hooks

DAY = 86400


@dataclass(frozen=True, slots=True)
class OpeningHoursConfig:
    """`opens` and `closes` are seconds after midnight in `timezone`; closing before opening means
    the next day."""

    opens: int
    closes: int
    timezone: tzinfo = UTC


class ClockTime(Text):
    """ "HH:MM", as seconds after midnight."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", text)
        if match is None:
            raise ValidationError(f'must be a time such as "08:30", not {text!r}')
        return int(match[1]) * 3600 + int(match[2]) * 60


class Zone(Text):
    """The name of a time zone."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            return ZoneInfo(text)
        except (ValueError, OSError, LookupError):
            raise ValidationError(f"no time zone is called {text!r}") from None


class OpeningHoursTable(Table):
    makes = OpeningHoursConfig
    opens = ClockTime(required=True)
    closes = ClockTime(required=True)
    timezone = Zone()

    @validates_schema
    def _open_at_all(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("opens", 0) == data.get("closes", 1):
            raise ValidationError("would never be open", "closes")


CONFIG = OpeningHoursTable


def until_open(config: OpeningHoursConfig, now: datetime) -> float:
    """Seconds until requests are welcome; 0 when they are."""
    second = now.hour * 3600 + now.minute * 60 + now.second + now.microsecond / 1e6
    if config.opens < config.closes:
        is_open = config.opens <= second < config.closes
    else:
        is_open = second >= config.opens or second < config.closes
    return 0.0 if is_open else (config.opens - second) % DAY


def build(config: OpeningHoursConfig, context: Context) -> Hooks:
    """Called when the configuration is read, once for the pipeline and once more for every route
    with keys of its own."""

    def request(exchange: Exchange) -> None:
        wait = until_open(config, datetime.fromtimestamp(context.clock.wall(), config.timezone))
        if exchange.decisions is not None:
            exchange.decisions.append(Decision(context.name, "refused" if wait else "passed"))
        if wait:
            raise Failed(
                Failure.FORBIDDEN,
                "Closed at this hour.",
                headers=((b"Retry-After", b"%d" % math.ceil(wait)),),
                why=f"opens in {wait:.0f} s",
                by=context.name,
            )

    return Hooks(request=request)
