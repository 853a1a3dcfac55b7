"""Findings about a route stand at its place."""

from __future__ import annotations

from pathlib import Path

from gateway.config.check.placed import Placed
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.toml.problems import Problems
from gateway.config.toml.read import Document
from gateway.core.hooks import ConfigProblem


def test_a_refusal_becomes_an_error_at_its_key() -> None:
    document = Document(Path("/x.toml"), Problems())
    placed = Placed(document, ("route", 0), RouteConfig(prefix="/"))

    def refuse() -> None:
        raise ConfigProblem("is bad", at=("respond", "json"), hint="mend it")

    assert placed.judge(refuse) is None
    assert placed.judge(lambda: 7) == 7
    assert [(one.message, one.hint) for one in document.problems.all()] == [
        ("route.respond: is bad", "mend it")
    ]
