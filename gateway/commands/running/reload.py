"""`gateway reload`: have a running gateway take its configuration anew.

What it refuses is printed as `gateway check` prints it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.commands.check import refused
from gateway.commands.options import add_json, print_json
from gateway.commands.progress import progress
from gateway.commands.running.admin import add_options, ask, said
from gateway.commands.running.client import AdminError
from gateway.config.toml.problems import Problem


def arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    with progress("waiting until the gateway has read its configuration"):
        status, answer = ask(options, "POST", "/admin/reload")
    if status >= 300 and "problems" not in answer:
        raise AdminError(said(answer))
    if status >= 300:
        if options.json:
            print_json({"ok": False, **answer})
            return 1
        return refused(_problems(answer), as_json=False)
    if options.json:
        print_json(answer)
    else:
        print("\n".join(described(answer)))
    return 0


def described(answer: Mapping[str, Any]) -> list[str]:
    """Return a reload that was taken, in lines."""
    lines = [str(problem) for problem in _problems(answer)]
    changes = answer["changes"]
    lines.append(f"reloaded: configuration {answer['hash']}" + ("" if changes else ", no change"))
    lines += [f"  {change}" for change in changes]
    lines += [f"  {line}" for line in answer.get("waiting", ())]
    return lines


def _problems(answer: Mapping[str, Any]) -> list[Problem]:
    return [Problem(**{**one, "file": Path(one["file"])}) for one in answer["problems"]]
