"""The settings of the access log, and what they share."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.core.clock import Clock
from gateway.core.hooks import ConfigProblem, Context
from gateway.lifetime.logs.logfile import LogFile
from gateway.lifetime.logs.logqueue import LogQueue
from gateway.lifetime.logs.logsinks import HttpSink
from gateway.lifetime.registry import Registry
from gateway.middlewares.logging import CONFIG, build
from gateway.middlewares.logging.access_log import AccessLog
from gateway.middlewares.logging.config import LoggingConfig
from tests.unit.middlewares.logging.test_access_log import Time, answered


def context(tmp_path: Path, keep: Any = None) -> Context:
    made = Context("logging", directory=tmp_path, clock=Clock(wall=Time().wall))
    return made if keep is None else replace(made, keep=keep)


async def test_lines_reach_the_file(tmp_path: Path):
    keep = Registry()
    draft = keep.draft()
    hooks = build(LoggingConfig(file="access.log"), context(tmp_path, draft.keep))
    draft.commit()
    assert (hooks.request, hooks.response, hooks.error) == (None, None, None)
    assert hooks.finish is not None
    hooks.finish(answered())
    (file,) = (kept for kept in keep if isinstance(kept, LogFile))
    keep.close()
    assert await asyncio.to_thread(file.wait, 10)
    assert json.loads((tmp_path / "access.log").read_bytes())["request_id"] == "r-1"


@pytest.mark.parametrize(
    ("sample", "hook"),
    [(1.0, AccessLog.finish), (0.5, AccessLog.finish_sampled), (0.0, AccessLog.finish_sampled)],
)
def test_sampling_costs_nothing_when_everything_is_logged(tmp_path: Path, sample: float, hook: Any):
    assert build(LoggingConfig(sample=sample), context(tmp_path)).finish.__func__ is hook  # type: ignore[union-attr]


def test_one_writer_a_path_and_one_log_for_equal_settings(tmp_path: Path):
    keep = Registry()
    here = context(tmp_path, keep.draft().keep)

    def made(config: LoggingConfig) -> AccessLog:
        return build(config, here).finish.__self__  # type: ignore[union-attr, no-any-return]

    first = made(LoggingConfig(file="a"))
    assert made(LoggingConfig(file="a")) is first
    other = made(LoggingConfig(file="a", query=True))
    assert other is not first
    assert other._append == first._append
    assert made(LoggingConfig(file="b"))._append != first._append


@pytest.mark.parametrize("file", ["missing/access.log", "."])
def test_a_file_that_cannot_be_opened_is_a_problem_of_the_configuration(tmp_path: Path, file: str):
    with pytest.raises(ConfigProblem) as caught:
        build(LoggingConfig(file=file), context(tmp_path))
    assert caught.value.at == ("file",)
    assert "cannot open" in caught.value.message
    assert caught.value.hint


async def test_sinks_are_shared_by_what_they_are(tmp_path: Path):
    keep = Registry()
    table: dict[str, Any] = {
        "file": "",
        "http": {"url": "http://127.0.0.1:1/logs"},
        "syslog": {"address": "udp://127.0.0.1:514"},
    }
    here = context(tmp_path, keep.draft().keep)
    build(CONFIG().load(table), here)
    build(CONFIG().load({**table, "query": True}), here)
    names = sorted(one.name for one in keep if isinstance(one, LogQueue))
    assert names == ["http://127.0.0.1:1/logs", "udp://127.0.0.1:514"]
    build(CONFIG().load({"file": "", "http": {**table["http"], "batch": 7}}), here)
    assert len([one for one in keep if isinstance(one, HttpSink)]) == 2
