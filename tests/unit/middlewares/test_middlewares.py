"""The catalogue: which middleware a name in a list means."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from gateway import middlewares
from gateway.core.hooks import Context, Hooks
from gateway.middlewares import CATALOGUE, UnknownMiddleware, find, kind_of, names


@pytest.mark.parametrize("name", CATALOGUE)
def test_all_of_the_catalogue(name: str):
    kind = find(name)
    assert kind.name == name and kind.config is not None and callable(kind.build)
    assert find(f"{name}.instance") == kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("rate_limit", "rate_limit"),
        ("rate_limit.ip", "rate_limit"),
        ("my.package:build", "my.package:build"),
    ],
)
def test_instances(name: str, kind: str):
    assert kind_of(name) == kind


def build(config: Any, context: Context) -> Hooks:
    return Hooks()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A middleware of the operator's own."""
    module = ModuleType("operators_own")
    module.build = build  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "operators_own", module)
    return module


def test_the_operators_own(package: ModuleType):
    kind = find("operators_own:build")
    assert (kind.name, kind.build, kind.config) == ("operators_own:build", build, None)
    package.CONFIG = CONFIG = find("cors").config  # type: ignore[attr-defined]
    assert find("operators_own:build").config is CONFIG


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("cor", "no middleware is called 'cor'"),
        (
            "no_such_package:build",
            "cannot import no_such_package: No module named 'no_such_package'",
        ),
        ("operators_own:other", "operators_own has no function called other"),
        ("operators_own:__name__", "operators_own has no function called __name__"),
    ],
)
def test_what_is_none(package: ModuleType, name: str, why: str):
    with pytest.raises(UnknownMiddleware) as caught:
        find(name)
    assert str(caught.value) == why


def test_installed_ones(package: ModuleType, monkeypatch: pytest.MonkeyPatch):
    points = [
        EntryPoint("own", "operators_own:build", middlewares.ENTRY_POINTS),
        EntryPoint("broken", "operators_own:other", middlewares.ENTRY_POINTS),
    ]

    def entry_points(*, group: str, name: str = "") -> list[EntryPoint]:
        assert group == middlewares.ENTRY_POINTS
        return [point for point in points if name in ("", point.name)]

    monkeypatch.setattr(middlewares, "entry_points", entry_points)
    assert find("own").build is find("own.second").build is build
    assert names() == sorted([*CATALOGUE, "own", "broken"])
    with pytest.raises(UnknownMiddleware, match="cannot load broken from operators_own:other"):
        find("broken")
