"""`gateway check` finds what a reload would refuse, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from gateway.config.toml.problems import ConfigErrors
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.runtime.check import check
from tests.flow.conftest import PLAIN, write

UPSTREAM = '[upstream.origin]\nurl = "http://127.0.0.1:9"\n'
OWN = f'request = ["{__name__}:build"]\n'


class Kept:
    made: ClassVar[list[Kept]] = []

    def __init__(self) -> None:
        self.closed = 0
        self.made.append(self)

    def close(self) -> None:
        self.closed += 1


def build(config: dict[str, Any], context: Context) -> Hooks:
    context.keep(("kept",), 1, Kept)
    if "wrong" in config:
        raise ConfigProblem("wrong is wrong", at=("wrong",), hint="say right")
    return Hooks()


@pytest.fixture(autouse=True)
def made() -> list[Kept]:
    Kept.made = []
    return Kept.made


def test_what_would_be_taken(tmp_path: Path):
    write(tmp_path, OWN + PLAIN, UPSTREAM)
    loaded = check(tmp_path / "gateway.toml", {})
    assert list(loaded.upstreams) == ["origin"]
    assert [kept.closed for kept in Kept.made] == [1]


def test_what_middlewares_refuse(tmp_path: Path):
    write(tmp_path, f'{OWN}["{__name__}:build"]\nwrong = 1\n{PLAIN}', UPSTREAM)
    with pytest.raises(ConfigErrors) as caught:
        check(tmp_path / "gateway.toml", {})
    [problem] = caught.value.problems
    assert (problem.file.name, problem.line, problem.hint) == ("test.toml", 3, "say right")
    assert problem.message == f"{__name__}:build: wrong is wrong"
    assert [kept.closed for kept in Kept.made] == [1]
