"""The audit log: one JSON object a line for every decision about a caller, in a file of its own, without anything secret."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.config.schema import Boolean, Table, Text
from gateway.core.exchange import Exchange
from gateway.core.hooks import ConfigProblem, Context
from gateway.state.logfile import LogFile


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """The file, "-" for standard output; `allowed`: whether what was allowed is written as well as what was refused."""

    file: str = "-"
    allowed: bool = True


class AuditTable(Table):
    makes = AuditConfig
    file = Text()
    allowed = Boolean()


class Audit:
    """Writes decisions down. Costs a tuple on the request's way; the line is made later (state.logfile)."""

    __slots__ = ("_file", "_name", "_pipeline", "_wall", "allowed")

    def __init__(self, config: AuditConfig, file: LogFile, context: Context) -> None:
        self.allowed = config.allowed
        self._file = file
        self._name = context.name
        self._pipeline = context.pipeline
        self._wall: Callable[[], float] = context.clock.wall

    @classmethod
    def of(cls, config: AuditConfig, context: Context) -> Audit:
        """Raises ConfigProblem when the file cannot be opened."""
        path = None if config.file == "-" else context.directory / config.file
        try:
            # As the access log keeps its own: one path has one LogFile, whoever writes to it.
            file: LogFile = context.keep(("logging", str(path or "-")), path, lambda: LogFile(path))
        except OSError as error:
            raise ConfigProblem(f"cannot open {path}: {error.strerror}", at=("audit", "file")) from None
        return cls(config, file, context)

    def write(self, exchange: Exchange, method: str, outcome: str, result: str, why: str) -> None:
        """One decision: "allowed" or "denied", the metric's word for it, and the rule."""
        self._file.append((_line, self._wall(), exchange, self._pipeline, self._name, method, outcome, result, why))


def _line(record: tuple[Any, ...]) -> bytes:
    _, when, exchange, pipeline, name, method, outcome, result, why = record
    identity, route = exchange.identity, exchange.route
    said = {
        "timestamp": datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": "authentication",
        "outcome": outcome,
        "result": result,
        "auth_method": method,
        "client": identity.client if identity is not None else None,
        "user": identity.user or None if identity is not None else None,
        "client_ip": exchange.client_ip,
        "request_id": exchange.request_id,
        "method": exchange.method,
        "path": exchange.path,
        "route": route.name if route is not None else None,
        "pipeline": pipeline,
        "hook": name,
        "why": why or None,
    }
    try:
        return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # lone surrogates, which bytes that are no UTF-8 become
        plain = {
            key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for key, value in said.items()
        }
        return orjson.dumps(plain, option=orjson.OPT_APPEND_NEWLINE)
