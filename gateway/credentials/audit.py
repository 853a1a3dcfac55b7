"""The audit log: a JSON object a line for decisions, events of sessions and changed credentials.

Nothing secret is written. The gateway and the command line write the same lines.
"""

from __future__ import annotations

import getpass
import logging
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakSet

import orjson

from gateway.config.tables.declare import setting, table
from gateway.core.exchange import Exchange
from gateway.core.hooks import ConfigProblem, Context
from gateway.lifetime.logs.logfile import LogFile, located, shared

log = logging.getLogger("gateway.auth")


@table
class AuditConfig:
    """The audit log."""

    file: str = setting(
        default="-", doc='`"-"` is standard output; a path is relative to the pipeline\'s file'
    )
    allowed: bool = setting(
        default=True, doc="whether what was allowed is written too, or only what was refused"
    )


class Audit:
    """An audit log. A request costs a tuple; its line is made later (lifetime/logs/logfile.py).

    allowed: whether allowed requests are written too. pipeline, name: of the `auth` that writes.
    """

    __slots__ = ("__weakref__", "_name", "_pipeline", "_wall", "allowed", "file")

    def __init__(
        self,
        file: LogFile,
        wall: Callable[[], float],
        *,
        allowed: bool = True,
        pipeline: str = "",
        name: str = "",
    ) -> None:
        self.allowed = allowed
        self.file = file
        self._name = name
        self._pipeline = pipeline
        self._wall = wall

    @classmethod
    def of(cls, config: AuditConfig, context: Context) -> Audit:
        """Return the log of an `auth`. Raises ConfigProblem when the file cannot be opened."""
        file = log_file(config.file, context.directory, context.keep)
        return cls(
            file,
            context.clock.wall,
            allowed=config.allowed,
            pipeline=context.pipeline,
            name=context.name,
        )

    def write(self, exchange: Exchange, method: str, outcome: str, result: str, why: str) -> None:
        """Write a decision: "allowed" or "denied", the metric's word for it, and the rule."""
        self.file.append(
            (
                _decision,
                self._wall(),
                exchange,
                self._pipeline,
                self._name,
                method,
                outcome,
                result,
                why,
            )
        )

    def session_event(
        self,
        exchange: Exchange,
        event: str,
        result: str,
        client: str,
        user: str,
        session: str,
        why: str,
    ) -> None:
        """Write an event of a session (login, refresh, ...); `result` is "ok" if granted."""
        self.file.append(
            (_session_event, self._wall(), exchange, event, result, client, user, session, why)
        )

    def key_changed(self, outcome: str, id: str, client: str, by: str) -> None:
        """Write that a key was "created", "rotated", "revoked", "changed" or "removed"."""
        self.file.append((_key_change, self._wall(), outcome, id, client, by))


class KeyChanges:
    """Changes of keys: for the process log, and for the audit log of each `auth` with the keys."""

    __slots__ = ("_audits",)

    def __init__(self) -> None:
        # Weak: an Audit belongs to a snapshot, which must be able to go.
        self._audits: WeakSet[Audit] = WeakSet()

    def add(self, audit: Audit) -> None:
        self._audits.add(audit)

    def publish(self, outcome: str, id: str, client: str, by: str = "") -> None:
        """Log a change, and write it once to each file. Arguments as for `Audit.key_changed`."""
        log.info("key %s of %s: %s%s", id, client, outcome, f" by {by}" if by else "")
        for audit in {audit.file: audit for audit in self._audits}.values():
            audit.key_changed(outcome, id, client, by)


def log_file(name: str, directory: Path, keep: Callable[..., Any], label: str = "") -> LogFile:
    """Return the one LogFile of a path, shared by all writers.

    Raises ConfigProblem when it cannot be opened, with `label` before its message.
    """
    path = located(directory, name)
    try:
        return shared(keep, path)
    except OSError as error:
        raise ConfigProblem(
            f"{label}cannot open {path}: {error.strerror}", at=("audit", "file")
        ) from None


def line(when: float, said: Mapping[str, Any]) -> bytes:
    """Encode one line; `when` is Unix seconds. Lone surrogates (not UTF-8) become "?"."""
    time = (
        datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
    plain = {
        key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        for key, value in said.items()
    }
    return orjson.dumps({"timestamp": time, **plain}, option=orjson.OPT_APPEND_NEWLINE)


def operator() -> str:
    """Return the user who runs this process, "" where the system does not say."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""


def _request(exchange: Exchange) -> dict[str, Any]:
    route = exchange.route
    return {
        "client_ip": exchange.client_ip,
        "request_id": exchange.request_id,
        "method": exchange.method,
        "path": exchange.path,
        "route": route.name if route is not None else None,
    }


def _decision(record: tuple[Any, ...]) -> bytes:
    _, when, exchange, pipeline, name, method, outcome, result, why = record
    identity = exchange.identity
    said = {
        "event": "authentication",
        "outcome": outcome,
        "result": result,
        "auth_method": method,
        "client": identity.client if identity is not None else None,
        "user": identity.user or None if identity is not None else None,
        "key": identity.claims.get("key")
        if identity is not None and identity.method == "api_key"
        else None,
        **_request(exchange),
        "pipeline": pipeline,
        "hook": name,
        "why": why or None,
    }
    return line(when, said)


def _session_event(record: tuple[Any, ...]) -> bytes:
    _, when, exchange, event, result, client, user, session, why = record
    said = {
        "event": event,
        "outcome": "allowed" if result == "ok" else "denied",
        "result": result,
        "client": client or None,
        "user": user or None,
        "session": session or None,
        **_request(exchange),
        "why": why or None,
    }
    return line(when, said)


def _key_change(record: tuple[Any, ...]) -> bytes:
    _, when, outcome, id, client, by = record
    said = {"event": "key_change", "outcome": outcome, "key": id, "client": client}
    return line(when, {**said, "by": by or None, "seen_by": f"gateway {os.getpid()}"})
