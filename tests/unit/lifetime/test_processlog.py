from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator

import pytest

from gateway.config.tables.server import ProcessLogConfig
from gateway.core.telemetry import log_lines_dropped
from gateway.lifetime import processlog
from gateway.lifetime.processlog import ProcessLog


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, ProcessLog]]:
    """A process log that writes into a pipe, and the pipe's other end."""
    reader, writer = os.pipe()
    handler = ProcessLog()
    handler.file._descriptor = writer
    yield reader, handler
    for descriptor in (reader, writer):
        os.close(descriptor)
    handler.file.close()
    handler.file.wait(10)


def record(message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord("gateway.reload", logging.WARNING, __file__, 1, message, args, None)


def test_a_line_a_record(pipe: tuple[int, ProcessLog]):
    reader, log = pipe
    log.emit(record("reload refused: %d problems", 3))
    log.say("as it is \udcff")
    log.file.close()
    assert log.file.wait(10)
    first, second = os.read(reader, 65536).decode().splitlines()
    assert first.endswith(" WARNING gateway.reload: reload refused: 3 problems")
    assert second == "as it is \\udcff"


def test_a_record_that_cannot_be_formatted_is_said_to_be_so(pipe: tuple[int, ProcessLog]):
    reader, log = pipe
    log.emit(record("%d", "three"))
    log.file.close()
    assert log.file.wait(10)
    assert os.read(reader, 65536).startswith(
        b"WARNING gateway.reload: '%d' cannot be formatted: TypeError("
    )


def test_a_pipe_that_nothing_reads_costs_lines_and_no_time(pipe: tuple[int, ProcessLog]):
    reader, log = pipe
    line = "x" * 1023
    for _ in range(2 * processlog.BACKLOG // 1024):
        log.say(line)
    assert log.file.dropped > 0
    lost = log.file.dropped
    assert lost == log_lines_dropped.get((log.file.name, "refused"))
    log.file.close()
    while not log.file.wait(0.001):
        os.read(reader, 65536)
    assert log.file.dropped == lost, "what was taken is written"


def test_installing_makes_it_the_only_one():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        handler = processlog.install()
        assert root.handlers == [handler] and root.level == logging.INFO
        said: list[str] = []
        handler.say = said.append  # type: ignore[method-assign]
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("of Python's", stacklevel=1)
        assert len(said) == 1 and "UserWarning: of Python's" in said[0]
    finally:
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)


def test_it_can_be_json_and_say_less(pipe: tuple[int, ProcessLog], monkeypatch: pytest.MonkeyPatch):
    reader, log = pipe
    root = logging.getLogger()
    before = root.level
    log.configure(ProcessLogConfig(format="json", level="warning"))
    assert root.level == logging.WARNING
    root.setLevel(before)
    try:
        raise ZeroDivisionError("by\nzero")
    except ZeroDivisionError:
        failed = record('"%s"', "\udcff")
        failed.exc_info = sys.exc_info()
    failed.created = 1.5
    log.emit(failed)
    log.configure(ProcessLogConfig())
    root.setLevel(before)
    log.emit(record("text again"))
    log.file.close()
    assert log.file.wait(10)
    first, second = os.read(reader, 65536).decode().splitlines()
    said = json.loads(first)
    assert "by\nzero" in said.pop("exception")
    assert said == {
        "timestamp": "1970-01-01T00:00:01.500Z",
        "level": "warning",
        "logger": "gateway.reload",
        "message": '"\\udcff"',
    }
    assert second.endswith("text again")
