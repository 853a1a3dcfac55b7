"""A route and its place in a file, where findings about it are reported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.toml.positions import KeyPath
from gateway.config.toml.read import Document
from gateway.core.hooks import ConfigProblem

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Placed:
    """A route and its place. `bad`: keys that did not load; nothing more is reported about them."""

    document: Document
    path: KeyPath
    route: RouteConfig
    bad: frozenset[str] = frozenset()

    def judge(self, parse: Callable[[], T]) -> T | None:
        """Return what `parse` returns, or report its ConfigProblem and return None."""
        try:
            return parse()
        except ConfigProblem as problem:
            self.error(problem.at, problem.message, problem.hint)
            return None

    def warning(self, key: str, message: str, hint: str) -> None:
        self.document.warning((*self.path, key), f"route.{key}: {message}", hint)

    def error(self, key: str | KeyPath, message: str, hint: str = "") -> None:
        keys = (key,) if isinstance(key, str) else key
        self.document.error(
            (*self.path, *keys),
            f"route.{keys[0]}: {message}" if keys else f"route: {message}",
            hint,
        )
