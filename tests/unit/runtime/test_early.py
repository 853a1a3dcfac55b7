from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.config.tables.pipeline import PipelineConfig
from gateway.core.exchange import Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Hooks
from gateway.runtime.early import early_pipeline, unrouted_pipeline
from tests.exchange import exchange

SEEN: list[str] = []


def build(pipeline: PipelineConfig, name: str, settings: Any) -> Hooks:
    def error(asked: Any, failed: Failed) -> Reply | None:
        SEEN.append(f"{pipeline.name} {name}")
        return Reply(failed.failure.status) if name == "error_handler" else None

    return Hooks(error=error, finish=lambda asked: SEEN.append(f"{pipeline.name} {name} finishes"))


def render(pipeline: str) -> Hooks:
    return Hooks(error=lambda asked, failed: Reply(failed.failure.status))


def pipeline(name: str, *error: str) -> PipelineConfig:
    return PipelineConfig(name=name, file=Path(), error=error, settings=dict.fromkeys(error))


def failing(*pipelines: PipelineConfig, of: str = "") -> list[str]:
    """The hooks that hear of a failure without a route, asked in the region of pipeline `of`."""
    early = {one.name: early_pipeline(one, build, render) for one in pipelines}
    unrouted = unrouted_pipeline(pipelines, early, build, render)
    SEEN.clear()
    chosen = early[of] if of else unrouted
    reply = chosen.render(exchange(), Failed(Failure.NO_ROUTE))
    assert reply.status == 404
    asked = exchange(failed=Failed(Failure.NO_ROUTE))
    unrouted.done(asked)
    return SEEN.copy()


ONE = pipeline("one", "cors", "fallback", "logging", "security_headers")
TWO = pipeline("two", "error_handler", "cors", "metrics", "logging")


def test_the_only_pipelines_error_hooks_that_need_no_route():
    assert failing(ONE) == ["one cors", "one security_headers", "one logging finishes"]


def test_of_several_pipelines_each_has_its_own_and_none_is_everybodys():
    assert failing(ONE, TWO) == ["one logging finishes", "two metrics finishes"]
    assert failing(ONE, TWO, of="two")[:2] == ["two error_handler", "two cors"]
    assert failing(ONE, TWO, of="one")[:2] == ["one cors", "one security_headers"]


def test_without_any_pipeline():
    assert failing() == []
