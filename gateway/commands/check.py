"""`gateway check`: every error and lint of a configuration, as a reload would find them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from gateway.commands.options import add_config, add_json, print_json
from gateway.commands.progress import progress
from gateway.config.toml.problems import ConfigErrors, Problem, shown_path
from gateway.runtime.check import check


def arguments(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    try:
        with progress("compiling the configuration"):
            loaded = check(options.config, os.environ)
    except ConfigErrors as errors:
        return refused(errors.problems, options.json)
    if options.json:
        print_json({"ok": True, "problems": described(loaded.warnings), "hash": loaded.hash})
        return 0
    for problem in loaded.warnings:
        print(problem)
    routes = sum(len(pipeline.routes) for pipeline in loaded.pipelines)
    print(
        f"ok: {counted(len(loaded.pipelines), 'pipeline')}, {counted(routes, 'route')}, "
        f"{counted(len(loaded.upstreams), 'upstream')}, "
        f"{counted(len(loaded.warnings), 'warning')}, configuration {loaded.hash}"
    )
    return 0


def refused(problems: Sequence[Problem], as_json: bool) -> int:
    """Print what a configuration is refused for, and return the exit code."""
    if as_json:
        print_json({"ok": False, "problems": described(problems)})
        return 1
    for problem in problems:
        print(problem)
    errors = sum(1 for problem in problems if problem.severity == "error")
    print(
        f"{counted(errors, 'error')}, {counted(len(problems) - errors, 'warning')}",
        file=sys.stderr,
    )
    return 1


def described(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return problems for programs."""
    return [
        {
            "file": shown_path(one.file),
            "line": one.line,
            "column": one.column,
            "severity": one.severity,
            "message": one.message,
            "hint": one.hint,
        }
        for one in problems
    ]


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
