"""The audit log of the admin listener: a JSON object a line for what was changed or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.core.clock import REAL
from gateway.credentials import audit
from gateway.lifetime.logs.logfile import LogFile

LONGEST = 512
"""Letters of a path that are written."""


class AdminAudit:
    """Writes lines like those of `auth`'s audit log, maybe to the same file."""

    def __init__(self, file: LogFile, wall: Callable[[], float] = REAL.wall) -> None:
        self._file = file
        self._wall = wall

    @classmethod
    def of(cls, name: str, directory: Path, keep: Callable[..., Any]) -> AdminAudit:
        """Open the log. Raises ConfigProblem."""
        return cls(audit.log_file(name, directory, keep))

    def write(self, request: web.Request, caller: str, status: int) -> None:
        """Write who asked for what, and what the answer was."""
        said = {
            "event": "admin",
            "outcome": "denied" if status in (401, 403, 421) else "allowed",
            "by": caller or None,
            "client_ip": request.remote,
            "method": request.method,
            "path": request.raw_path.partition("?")[0][:LONGEST],
            "query": request.query_string[:LONGEST] or None,
            "status": status,
        }
        self._file.append((_line, self._wall(), said))


def _line(record: tuple[Any, ...]) -> bytes:
    _, when, said = record
    return audit.line(when, said)
