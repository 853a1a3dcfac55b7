"""What happened to sessions, in the audit log: a JSON object a line, with the fields of `auth`'s own lines; nothing secret."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.core.exchange import Exchange
from gateway.lifetime.logfile import LogFile


class TokenAudit:
    """Writes events down. The line is made later, off the request's way (logfile.py)."""

    def __init__(self, file: LogFile, wall: Callable[[], float]) -> None:
        self._file = file
        self._wall = wall

    def write(self, exchange: Exchange, event: str, result: str, client: str, user: str, session: str, why: str) -> None:
        """One event: login, refresh, logout, change_password or profile, and what came of it, "ok" when it was granted."""
        self._file.append((_line, self._wall(), exchange, event, result, client, user, session, why))


def _line(record: tuple[Any, ...]) -> bytes:
    _, when, exchange, event, result, client, user, session, why = record
    route = exchange.route
    said = {
        "timestamp": datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "event": event,
        "outcome": "allowed" if result == "ok" else "denied",
        "result": result,
        "client": client or None,
        "user": user or None,
        "session": session or None,
        "client_ip": exchange.client_ip,
        "request_id": exchange.request_id,
        "method": exchange.method,
        "path": exchange.path,
        "route": route.name if route is not None else None,
        "why": why or None,
    }
    plain = {key: value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for key, value in said.items()}
    return orjson.dumps(plain, option=orjson.OPT_APPEND_NEWLINE)
