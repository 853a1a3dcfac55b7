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

from gateway.config.tables.schema import schema_of
from gateway.core.hooks import Context, Hooks
from gateway.middlewares.validation.config import SchemaConfig, ValidationConfig
from gateway.middlewares.validation.gate import Gate

__all__ = ["CONFIG", "SchemaConfig", "ValidationConfig", "build"]

CONFIG = schema_of(ValidationConfig)


def build(config: ValidationConfig, context: Context) -> Hooks:
    """Build the cheapest hook that checks what is configured.

    Only a body's schema makes it one that is awaited.
    """
    gate = Gate(config, context)
    if gate.body is not None:
        return Hooks(request=gate.with_body)
    if gate.query is not None or gate.path is not None:
        return Hooks(request=gate.with_parameters)
    return Hooks(request=gate.bounds)
