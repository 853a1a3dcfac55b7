"""`[logging]`: the access log of a pipeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError

from gateway.config.tables.declare import setting, table
from gateway.config.tables.errors import ByFailure
from gateway.config.tables.schema import Choice, FieldName, Items, Number, Text
from gateway.core.content.masking import MASK, PATTERNS
from gateway.core.failures import Failure
from gateway.lifetime.logs.logsinks import HttpSinkConfig, SyslogConfig

PATTERN_MAX = 500
"""Letters of a pattern."""


class Pattern(Text):
    """A regular expression of Python's, or a name of PATTERNS."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        value = super()._deserialize(value, attr, data, **kwargs)
        if value in PATTERNS:
            return value
        try:
            compiled = re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            names = ", ".join(PATTERNS)
            raise ValidationError(
                f"is neither one of {names} nor a regular expression: {error}"
            ) from None
        if compiled.match("") is not None:
            raise ValidationError("matches nothing at all, and so everywhere")
        if len(value) > PATTERN_MAX:
            raise ValidationError(f"is longer than {PATTERN_MAX} letters")
        return value


@table
class LoggingConfig:
    """The access log of a pipeline."""

    file: str = setting(
        Text(empty=True),
        default="-",
        doc='`"-"` is standard output; a path is relative to the pipeline\'s file; `""`: none',
    )
    mask: tuple[str, ...] = setting(
        default=MASK,
        doc="headers and query parameters whose values are replaced by `***`, in any case;"
        " those that any `auth` takes credentials from always are",
    )
    headers: tuple[str, ...] = setting(
        Items(FieldName()), default=(), doc="more request headers to log, under `headers`"
    )
    sample: float = setting(
        Number(least=0, most=1),
        default=1.0,
        doc="the share of requests answered below 400 that is logged; everything else always is, "
        "and calls of gRPC with another status than OK",
    )
    client_ip: str = setting(
        Choice("full", "masked"),
        default="full",
        doc="`masked` logs the network instead: /24 of IPv4, /48 of IPv6",
    )
    query: bool = setting(default=False, doc="whether `path` carries the query")
    why: bool = setting(
        default=True,
        doc="whether a field `why` says of a failure which rule decided and what it did not allow, "
        "and `tries` lists the attempts before the last, where there were any: endpoint, ms, why",
    )
    mask_patterns: tuple[str, ...] = setting(
        Items(Pattern()),
        default=(),
        doc="what is replaced by `***` in any text: `email`, `card`, `jwt`, regular expressions",
    )
    levels: Mapping[Failure, str] = setting(
        ByFailure(Choice("debug", "info", "warning", "error")),
        default_factory=dict,
        doc='adds a field `level`, `info` or by failure: `{ AUTH_001 = "warning" }`',
    )
    http: HttpSinkConfig | None = setting(
        default=None, doc="lines in batches to a URL as well: `[logging.http]`"
    )
    syslog: SyslogConfig | None = setting(
        default=None, doc="lines to syslog as well: `[logging.syslog]`"
    )

    def check(self) -> None:
        if not self.file and self.http is None and self.syslog is None:
            raise ValidationError("is empty, and there is neither http nor syslog", "file")
