"""What is wrong with a configuration, and where: one `Problem` each, gathered so that all of them are reported at once.

Nothing here knows TOML or any table; `read` and the checks fill it, the command line and the reload print it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `line` and `column` count from 1; `str()` is the line an operator reads and an editor jumps to."""

    file: Path
    line: int
    column: int
    message: str
    hint: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        hint = f" (hint: {self.hint})" if self.hint else ""
        return f"{shown_path(self.file)}:{self.line}:{self.column}: {self.severity}: {self.message}{hint}"


class ConfigErrors(Exception):
    """A configuration that cannot be used. `problems` holds everything found, warnings included; at least one is an error."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)

    @property
    def errors(self) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity == "error")


class Problems:
    """Gathers findings; the same one found twice (a table is loaded once per route that overrides it) counts once."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def add(self, problem: Problem) -> None:
        self._found[problem] = None

    def of(self, severity: Severity) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.all() if problem.severity == severity)

    def all(self) -> tuple[Problem, ...]:
        """Every finding, by file and place."""
        return tuple(sorted(self._found, key=lambda problem: (str(problem.file), problem.line, problem.column)))


def shown_path(path: Path) -> str:
    """The path relative to the working directory when it is below it, else as it is."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return os.fspath(path)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a word nobody knows: the one most like it, or else all there are, when they are few enough to read."""
    words = sorted(set(known))
    if close := get_close_matches(word, words, n=1):
        return f"did you mean {close[0]!r}?"
    return f"known: {', '.join(words)}" if 0 < len(words) <= 16 else ""
