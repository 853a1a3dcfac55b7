"""The audit log: one JSON object a line for every decision about a caller and every change of a key, without anything secret."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from weakref import WeakSet

import orjson

from gateway.config.tables.declare import setting, table
from gateway.core.exchange import Exchange
from gateway.core.hooks import ConfigProblem, Context
from gateway.lifetime.logfile import LogFile, located, shared

log = logging.getLogger("gateway.auth")


@table
class AuditConfig:
    """The audit log."""

    file: str = setting(default="-", doc='`"-"` is standard output; a path is relative to the pipeline\'s file')
    allowed: bool = setting(default=True, doc="whether what was allowed is written too, or only what was refused")


class Audit:
    """Writes decisions down. Costs a tuple on the request's way; the line is made later (state.logfile)."""

    __slots__ = ("__weakref__", "_name", "_pipeline", "_wall", "allowed", "file")

    def __init__(self, config: AuditConfig, file: LogFile, context: Context) -> None:
        self.allowed = config.allowed
        self.file = file
        self._name = context.name
        self._pipeline = context.pipeline
        self._wall: Callable[[], float] = context.clock.wall

    @classmethod
    def of(cls, config: AuditConfig, context: Context) -> Audit:
        """Raises ConfigProblem when the file cannot be opened."""
        path = located(context.directory, config.file)
        try:
            file = shared(context.keep, path)
        except OSError as error:
            raise ConfigProblem(f"cannot open {path}: {error.strerror}", at=("audit", "file")) from None
        return cls(config, file, context)

    def write(self, exchange: Exchange, method: str, outcome: str, result: str, why: str) -> None:
        """One decision: "allowed" or "denied", the metric's word for it, and the rule."""
        self.file.append((_line, self._wall(), exchange, self._pipeline, self._name, method, outcome, result, why))

    def key_changed(self, outcome: str, id: str, client: str, by: str) -> None:
        """A key was "created", "rotated", "revoked", "changed" or "removed", as far as this process has heard of it."""
        self.file.append((_key_line, self._wall(), outcome, id, client, by))


class Changes:
    """Who hears of keys that change: the gateway's log, and each audit log of those who use the keys, once."""

    __slots__ = ("_audits",)

    def __init__(self) -> None:
        # They belong to a snapshot, which must be able to go.
        self._audits: WeakSet[Audit] = WeakSet()

    def add(self, audit: Audit) -> None:
        self._audits.add(audit)

    def tell(self, outcome: str, id: str, client: str, by: str = "") -> None:
        """As `Audit.key_changed`."""
        log.info("key %s of %s: %s%s", id, client, outcome, f" by {by}" if by else "")
        for audit in {audit.file: audit for audit in self._audits}.values():
            audit.key_changed(outcome, id, client, by)


def _time(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _key_line(record: tuple[Any, ...]) -> bytes:
    _, when, outcome, id, client, by = record
    said = {
        "timestamp": _time(when),
        "event": "key_change",
        "outcome": outcome,
        "key": id,
        "client": client,
        "by": by or None,
        "seen_by": f"gateway {os.getpid()}",
    }
    return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)


def _line(record: tuple[Any, ...]) -> bytes:
    _, when, exchange, pipeline, name, method, outcome, result, why = record
    identity, route = exchange.identity, exchange.route
    said = {
        "timestamp": _time(when),
        "event": "authentication",
        "outcome": outcome,
        "result": result,
        "auth_method": method,
        "client": identity.client if identity is not None else None,
        "user": identity.user or None if identity is not None else None,
        "key": identity.claims.get("key") if identity is not None and identity.method == "api_key" else None,
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
