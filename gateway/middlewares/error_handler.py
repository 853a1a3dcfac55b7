"""What a failure looks like to the client: the shape of its body, its status and its words.

    [error_handler]                                    # over [errors] of gateway.toml, key by key
    format = "envelope"
    statuses = { SVC_003 = 408 }                       # by code, or by a failure's own name
    codes = { rate_limited = "RATE_LIMIT_EXCEEDED" }
    messages = { missing_field = "Missing required field: {field}" }
    types = "https://example.com/problems/"            # the "type" is this and the gateway's code
    templates.rate_limited = { error = "rate_limit_exceeded", retryAfter = "{retry_after}" }

Rendering itself is core/problems.py.
"""

from __future__ import annotations

from typing import Any

from gateway.config.tables.errors import ErrorsConfig
from gateway.config.tables.schema import schema_of
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed
from gateway.core.hooks import Context, Hooks
from gateway.core.problems import Problems

CONFIG = schema_of(ErrorsConfig)


class ErrorHandler:
    """Renders every failure.

    Put first in an `error` list, so that later hooks have a reply to change.
    """

    def __init__(self, config: ErrorsConfig, context: Context) -> None:
        if context.errors is not None:
            config = config.over(context.errors)
        self.problems = Problems(
            config.format or "problem",
            statuses=config.statuses,
            codes=config.codes,
            messages=config.messages,
            types=config.types,
            template=config.template,
            templates=config.templates,
            clock=context.clock,
        )

    def error(self, exchange: Exchange, failed: Failed) -> Reply:
        return self.problems.render(failed, exchange)


def build(config: Any, context: Context) -> Hooks:
    return Hooks(error=ErrorHandler(config, context).error)
