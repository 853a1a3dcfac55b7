"""The process's own log, on standard error.

A line never waits for who reads it: a thread writes, at most `BACKLOG` bytes wait for it, and lines
beyond that are dropped and counted. Otherwise a pipe that nothing reads would stop the event loop
after 64 KiB, and with it readiness and signals.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import orjson

from gateway.config.tables.server import ProcessLogConfig
from gateway.lifetime.logs.logfile import LogFile

BACKLOG = 1024 * 1024
TEXT = "%(asctime)s %(levelname)-7s {}%(name)s: %(message)s"


class JsonFormatter(logging.Formatter):
    """One JSON object a record: timestamp, level, logger, message, `worker` where there are
    several, and the traceback as `exception`."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said: dict[str, Any] = {
            "timestamp": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _plain(record.getMessage()),
        }
        if self._worker is not None:
            said["worker"] = self._worker
        if record.exc_info:
            said["exception"] = _plain(self.formatException(record.exc_info))
        return orjson.dumps(said).decode()


def _plain(text: str) -> str:
    """`text` without lone surrogates, which JSON cannot have."""
    return text.encode("utf-8", "backslashreplace").decode()


def _formatter(kind: str, worker: int | None) -> logging.Formatter:
    if kind == "json":
        return JsonFormatter(worker)
    return logging.Formatter(TEXT.format("" if worker is None else f"worker {worker} "))


class ProcessLog(logging.Handler):
    """Formats records where they arise and hands them to a LogFile on standard error.

    worker: this process's number, where there are several.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = worker
        self.file = LogFile(descriptor=2, backlog=BACKLOG)
        self.setFormatter(_formatter("text", worker))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # a message whose arguments do not fit it
            line = (
                f"{record.levelname} {record.name}: {record.msg!r} cannot be formatted: {error!r}"
            )
        self.say(line)

    def configure(self, config: ProcessLogConfig) -> None:
        """Follow `[logging] process`, for what is logged from now on."""
        self.setFormatter(_formatter(config.format, self._worker))
        logging.getLogger().setLevel(config.level.upper())

    def say(self, line: str) -> None:
        """Write a line as it is, after those logged before it."""
        self.file.put(line.encode("utf-8", "backslashreplace") + b"\n")


def install(worker: int | None = None) -> ProcessLog:
    """Make it the only handler of the root logger; level INFO. Warnings of Python's go to it as
    well."""
    handler = ProcessLog(worker)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    return handler
