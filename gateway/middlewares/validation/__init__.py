"""Requests held to a size, a media type and a schema.

    too large                413 VAL_004, at once by Content-Length, else when the limit is passed
    wrong media type         415 VAL_006; likewise a coded or non-UTF-8 body that has to be read
    cannot be parsed         400 VAL_001, with line and column
    does not fit its schema  422 with one entry per field: VAL_002 if all are missing, else VAL_003

Bodies are read as JSON (application/json and anything +json), as an urlencoded form or, with `xml`,
as XML. With `defaults`, `coerce`, `unknown` or `sanitize` the clean body, or query, goes on. What
readers differ about is refused: a name twice in one object, numbers of more digits than can be told
apart. Depth and members are bounded, and large bodies are judged in a process of their own
(judge.py). A body that must be there and is not, or is empty, is a missing field of its own, called
"".
"""

from __future__ import annotations

import logging

from gateway.config.tables.schema import schema_of
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context, Hooks, RequestHook
from gateway.core.refusals import Shadows, in_shadow
from gateway.middlewares.validation.config import SchemaConfig, ValidationConfig
from gateway.middlewares.validation.gate import Gate

__all__ = ["CONFIG", "SchemaConfig", "ValidationConfig", "build"]

CONFIG = schema_of(ValidationConfig)

log = logging.getLogger("gateway.validation")

_REPORTED = frozenset(
    (
        Failure.MALFORMED,
        Failure.MISSING_FIELD,
        Failure.INVALID_FIELD,
        Failure.UNSUPPORTED_MEDIA_TYPE,
    )
)
_EVERY = 10.0
"""Seconds between two lines about one route in the log; all requests are counted."""


def build(config: ValidationConfig, context: Context) -> Hooks:
    """Build the cheapest hook that checks what is configured.

    Only a body's schema makes it one that is awaited.
    """
    gate = Gate(config, context)
    if gate.reads_bodies:
        hook: RequestHook = gate.with_body
    elif gate.query is not None or gate.path is not None or gate.operation is not None:
        hook = gate.with_parameters
    else:
        hook = gate.bounds
    if not gate.reports:
        return Hooks(request=hook)
    return Hooks(request=_reporting(hook, context, every=config.report))


def _reporting(hook: RequestHook, context: Context, *, every: bool) -> RequestHook:
    """The same checks, whose findings are logged and counted and refuse nothing.

    every: of all that is configured; else what is too large is refused.
    """
    told = -_EVERY

    def noted(exchange: Exchange, failed: Failed) -> bool:
        nonlocal told
        if not every and failed.failure not in _REPORTED:
            return False
        if exchange.decisions is not None:
            return True
        route = context.route or context.pipeline
        context.telemetry.validation_reports.add((route, failed.failure.code))
        now = context.clock.monotonic()
        if now - told >= _EVERY:
            told = now
            log.warning("%s does not allow a request: %s", route, failed)
        return True

    shadows = Shadows.of(context.keep, context.telemetry)
    return in_shadow(context.name, hook, shadows, noted)
