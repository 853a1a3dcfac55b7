"""The process's own log, on standard error.

A line never waits for who reads it: a thread writes, at most `BACKLOG` bytes wait for it, and lines
beyond that are dropped and counted. Otherwise a pipe that nothing reads would stop the event loop after
64 KiB, and with it readiness and signals.
"""

from __future__ import annotations

import logging

from gateway.lifetime.logfile import LogFile

BACKLOG = 1024 * 1024
TEXT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class ProcessLog(logging.Handler):
    """Formats records where they arise and hands them to a LogFile on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self.file = LogFile(descriptor=2, backlog=BACKLOG)
        self.setFormatter(logging.Formatter(TEXT))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # a message whose arguments do not fit it
            line = f"{record.levelname} {record.name}: {record.msg!r} cannot be formatted: {error!r}"
        self.say(line)

    def say(self, line: str) -> None:
        """Write a line as it is, after those logged before it."""
        self.file.put(line.encode("utf-8", "backslashreplace") + b"\n")


def install() -> ProcessLog:
    """Make it the only handler of the root logger; level INFO. Warnings of Python's go to it as well."""
    handler = ProcessLog()
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    return handler
