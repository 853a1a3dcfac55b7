"""What a failure looks like to the client: the shape of its body, its status and its words.

    [error_handler] format = "envelope"                              # default: [errors] format of
    gateway.toml statuses = { SVC_003 = 408 }                     # by code, or by a failure's own
    name ("read_timeout"), which wins messages = { RATE_001 = "Slow down, please" }    # instead of
    the detail type_base = "https://example.com/problems/"      # RFC 9457 "type" is this and the
    code; default "about:blank"

Rendering itself is core/problems.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from marshmallow import ValidationError

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Choice, Map, Text, Whole, schema_of
from gateway.config.toml.problems import nearest
from gateway.core.exchange import Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.core.problems import FORMATS, Problems, failure_words, failures_called

T = TypeVar("T")


def _type_base(value: str) -> None:
    scheme, colon, rest = value.partition(":")
    if (
        not colon
        or not rest
        or not scheme.isalpha()
        or not value.isascii()
        or not value.isprintable()
        or " " in value
    ):
        raise ValidationError(
            f'must be the beginning of a URI, such as "https://example.com/problems/", not '
            f"{value!r}"
        )


@table
class ErrorHandlerConfig:
    """The shape of error bodies, their statuses and words. `format` None: the gateway's."""

    format: str | None = setting(Choice(*FORMATS), default=None, doc="in place of `[errors]`'s")
    statuses: Mapping[str, int] = setting(
        Map(keys=Text(), values=Whole(least=400, most=599)),
        default_factory=dict,
        doc="another status, by code (`SVC_003`) or by failure (`read_timeout`), which wins",
    )
    messages: Mapping[str, str] = setting(default_factory=dict, doc="another detail, likewise")
    type_base: str = setting(
        default="",
        check=_type_base,
        doc="the problem's `type` is this and the code; `about:blank` when left out",
    )


CONFIG = schema_of(ErrorHandlerConfig)


class ErrorHandler:
    """Renders every failure.

    Put first in an `error` list, so that later hooks have a reply to change.
    """

    def __init__(self, config: ErrorHandlerConfig, context: Context) -> None:
        self._render = Problems(
            config.format or context.errors_format,
            statuses=_by_failure("statuses", config.statuses),
            messages=_by_failure("messages", config.messages),
            type_base=config.type_base,
            clock=context.clock,
        ).render

    def error(self, exchange: Exchange, failed: Failed) -> Reply:
        return self._render(failed, exchange)


def _by_failure(key: str, given: Mapping[str, T]) -> dict[Failure, T]:
    """The values by failure; a failure's own name weighs more than its code."""
    found: dict[Failure, T] = {}
    for word in sorted(given, key=str.islower):
        failures = failures_called(word)
        if not failures:
            raise ConfigProblem(
                f"no failure is called {word!r}",
                at=(key, word),
                hint=nearest(word, failure_words()),
            )
        found.update(dict.fromkeys(failures, given[word]))
    return found


def build(config: Any, context: Context) -> Hooks:
    return Hooks(error=ErrorHandler(config, context).error)
