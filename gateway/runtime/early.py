"""Requests that fail before they have a route: their errors, their log and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.config.tables.pipeline import PipelineConfig
from gateway.core.hooks import Hooks, kind_of
from gateway.runtime.pipeline import Pipeline, flatten

RENDERER = "error_handler"
"""What renders failures.

Put first in an error list that does not begin with it, so that others have a reply to change.
"""
_EARLY = frozenset((RENDERER, "cors", "security_headers", "transform"))
"""Middlewares whose error hooks need no route."""

Build = Callable[[PipelineConfig, str, Any], Hooks]


def early_pipeline(
    pipeline: PipelineConfig, build: Build, render: Callable[[str], Hooks]
) -> Pipeline:
    """Return a pipeline's error hooks that need no route.

    build: makes a middleware's hooks. render: makes those that render a pipeline's failures.
    """
    names = [
        name for name in pipeline.error if kind_of(name) in _EARLY and name in pipeline.settings
    ]
    hooks = [Hooks(error=build(pipeline, name, pipeline.settings[name]).error) for name in names]
    if not names or kind_of(names[0]) != RENDERER:
        hooks.insert(0, render(pipeline.name))
    return flatten(pipeline.name, (), (), hooks)


def unrouted_pipeline(
    pipelines: Sequence[PipelineConfig],
    early: Mapping[str, Pipeline],
    build: Build,
    render: Callable[[str], Hooks],
) -> Pipeline:
    """Return the pipeline of requests without a route, given what `early_pipeline` made of each.

    It renders, logs and counts by the first pipeline that does each. Where there is but one
    pipeline, errors look like its own.
    """
    observers: dict[str, Hooks] = {}
    for pipeline in pipelines:
        for name in pipeline.error:
            kind = kind_of(name)
            if kind in ("logging", "metrics") and kind not in observers:
                observers[kind] = Hooks(
                    finish=build(pipeline, name, pipeline.settings.get(name)).finish
                )
    made = flatten("", (), (), (render(""), *observers.values()))
    return replace(made, error=next(iter(early.values())).error) if len(early) == 1 else made
