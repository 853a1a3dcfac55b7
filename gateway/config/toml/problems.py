"""The findings about a configuration: one `Problem` each, all reported at once.

Nothing here knows TOML or tables. read.py and the checks add problems; the command line and the
reload print them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `line` and `column` count from 1; `str()` is what operators read and editors
    jump to."""

    file: Path
    line: int
    column: int
    message: str
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        hint = f" (hint: {self.hint})" if self.hint else ""
        return (
            f"{shown_path(self.file)}:{self.line}:{self.column}: {self.severity}: "
            f"{self.message}{hint}"
        )


class ConfigErrors(Exception):
    """A configuration cannot be used. `problems`: everything found, with at least one error.

    rest: what could be loaded beside the errors (a LoadedConfig), for what comes later to be judged
        too; None where that would only find consequences.
    """

    def __init__(self, problems: Sequence[Problem], rest: Any = None) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
        self.rest = rest

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")


class Problems:
    """Gathers findings. The same one found twice counts once: tables are loaded once per route."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def add(self, problem: Problem) -> None:
        self._found[problem] = None

    def of(self, severity: Severity) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.all() if problem.severity == severity)

    def all(self) -> tuple[Problem, ...]:
        """Return every finding, by file and place."""
        return tuple(
            sorted(
                self._found, key=lambda problem: (str(problem.file), problem.line, problem.column)
            )
        )


def shown_path(path: Path) -> str:
    """Return the path relative to the working directory when it is below it, and that is not /."""
    try:
        here = Path.cwd()
        return str(path if here == here.parent else path.relative_to(here))
    except (ValueError, OSError):
        return os.fspath(path)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown word: the most similar one, or all if they are few."""
    words = sorted(set(known))
    if close := get_close_matches(word, words, n=1):
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(words)}" if 0 < len(words) <= 16 else ""
