"""`[errors]` and `[error_handler]`: what failures look like to clients, in the operator's words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields as attributes
from dataclasses import replace
from typing import Any

from marshmallow import ValidationError, fields

from gateway.config.tables.declare import setting, table
from gateway.config.tables.schema import Choice, Map, Text, Whole
from gateway.config.templates import Template, TemplateJson, TemplateText
from gateway.config.toml.problems import nearest
from gateway.core.failures import Failure, failure_words, failures_called
from gateway.core.problems import FORMATS, PLACEHOLDERS

EVERY = "*"
"""The key for all failures that no other key names."""


class ByFailure(Map):
    """A table by failure (`read_timeout`), code (`SVC_003`) or `"*"`; loads by Failure.

    A failure's own name weighs more than its code, and that more than `"*"`.
    """

    def __init__(self, values: fields.Field[Any], **kwargs: Any) -> None:
        super().__init__(keys=Text(), values=values, **kwargs)

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> dict[Failure, Any]:
        given: dict[str, Any] = super()._deserialize(value, attr, data, **kwargs)
        unknown = [word for word in given if word != EVERY and not failures_called(word)]
        if unknown:
            words = failure_words()
            faults = {}
            for word in unknown:
                hint = nearest(word, words)
                said = f"no failure is called {word!r}" + (f"; {hint}" if hint else "")
                faults[word] = {"key": [said]}
            raise ValidationError(faults)
        found: dict[Failure, Any] = {}
        for word in sorted(given, key=lambda word: (word != EVERY, word.islower())):
            failures = tuple(Failure) if word == EVERY else failures_called(word)
            found.update(dict.fromkeys(failures, given[word]))
        return found


class Types(fields.Field[Any]):
    """The beginning of a URI or path, to which the code is added; or words by failure."""

    def _deserialize(
        self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any
    ) -> Any:
        if isinstance(value, dict):
            try:
                return ByFailure(Text()).deserialize(value, attr, data, **kwargs)
            except ValidationError as error:
                faults: Any = error.messages  # Of keys and values, which this field is not.
                raise ValidationError(
                    {
                        word: [text for said in one.values() for text in said]
                        for word, one in faults.items()
                    }
                ) from None
        value = Text(empty=True).deserialize(value, attr, data, **kwargs)
        if value and not re.fullmatch(r"(?:[A-Za-z]+:|/)[\x21-\x7e]+", value):
            raise ValidationError(
                "must be the beginning of a URI or a path, such as "
                f'"https://example.com/problems/", not {value!r}'
            )
        return value

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """For editors."""
        return {"type": ["string", "object"]}


def _codes(value: Mapping[Failure, str]) -> None:
    for code in value.values():
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", code):
            raise ValidationError(f"must be letters, digits and _ . : - (64 at most), not {code!r}")


@table
class ErrorsConfig:
    """What error bodies look like. Keys are failures (`rate_limited`), codes or `"*"`."""

    format: str | None = setting(
        Choice(*FORMATS, "template"),
        default=None,
        doc='`problem` (RFC 9457, the default), `envelope` (`{"error": {...}}`), '
        '`success_envelope` (the latter with `"success": false` in front) or `template`',
    )
    codes: Mapping[Failure, str] = setting(
        ByFailure(Text()),
        default_factory=dict,
        check=_codes,
        doc='own codes: `{ rate_limited = "RATE_LIMIT_EXCEEDED", SVC_001 = "UNAVAILABLE" }`',
    )
    statuses: Mapping[Failure, int] = setting(
        ByFailure(Whole(least=400, most=599)),
        default_factory=dict,
        doc="other statuses: `{ SVC_003 = 408 }`; a failure's own name wins over its code",
    )
    messages: Mapping[Failure, Template] = setting(
        ByFailure(TemplateText(PLACEHOLDERS)),
        default_factory=dict,
        doc="own words, with placeholders; where one has no value, the gateway's words stay",
    )
    types: str | Mapping[Failure, str] = setting(
        Types(),
        default="",
        doc='the `type` is this and the gateway\'s code (`builtin = "errors"` can be there), or '
        "a word by failure; `about:blank` when left out",
    )
    template: Template | None = setting(
        TemplateJson(PLACEHOLDERS),
        default=None,
        doc='a body of your own: a table, JSON as text, or `{ file = "error.json" }`',
    )
    templates: Mapping[Failure, Template] = setting(
        ByFailure(TemplateJson(PLACEHOLDERS)),
        default_factory=dict,
        doc="bodies for some failures only: `[errors.templates] rate_limited = { ... }`",
    )

    def check(self) -> None:
        if self.template is not None and self.format not in (None, "template"):
            raise ValidationError(f'stands beside format = "{self.format}"', "template")
        if self.template is None and self.format == "template":
            raise ValidationError('is missing, and format is "template"', "template")

    def over(self, base: ErrorsConfig) -> ErrorsConfig:
        """Return these settings over those of `base`; tables are merged by failure."""
        changes: dict[str, Any] = {}
        for one in attributes(self):
            mine, theirs = getattr(self, one.name), getattr(base, one.name)
            if isinstance(mine, Mapping) and isinstance(theirs, Mapping):
                changes[one.name] = {**theirs, **mine}
            elif one.name not in ("format", "template"):
                changes[one.name] = mine or theirs
        if self.format is None and self.template is None:
            changes |= {"format": base.format, "template": base.template}
        return replace(self, **changes)
