from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.config.toml.problems import Problem
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.core.telemetry import Family
from gateway.lifetime.registry import Registry
from gateway.runtime.build import Builder
from gateway.runtime.compose import compose
from gateway.runtime.reload import load
from gateway.runtime.services import Services
from gateway.upstream.connections.transport import Transport
from tests.flow.conftest import PLAIN, write

OWN = f"{__name__}:build"
NONE = f"{__name__}:build_nothing"


def build(config: dict[str, Any], context: Context) -> Hooks:
    if config.get("wrong"):
        raise ConfigProblem("wrong is wrong", at=("wrong",), hint="leave it out")
    if config.get("breaks"):
        raise ZeroDivisionError("by zero")
    return Hooks(request=lambda exchange: None)


def build_nothing(config: dict[str, Any], context: Context) -> None:
    return None


def built(directory: Path, name: str, settings: str = "") -> tuple[Hooks, list[Problem]]:
    """What is built of a middleware in a pipeline's list, and what there is to say."""
    write(
        directory,
        f'request = ["{name}"]\n["{name}"]\n{settings}\n{PLAIN}',
        '[upstream.origin]\nurl = "http://127.0.0.1:9"\n',
    )
    loaded = load(directory / "gateway.toml", {})
    said: list[Problem] = []
    builder = Builder(
        loaded,
        Registry().draft(),
        Services(Transport()),
        None,
        None,
        None,
        frozenset(),
        said.append,
        lambda name: None,  # type: ignore[arg-type, return-value]
    )
    [pipeline] = loaded.pipelines
    return builder.build(pipeline, name, pipeline.settings[name]), said


def test_what_is_right(tmp_path: Path):
    hooks, said = built(tmp_path, OWN)
    assert hooks.request is not None and said == []


@pytest.mark.parametrize(
    ("name", "settings", "line", "message"),
    [
        (OWN, "wrong = true", 3, f"{OWN}: wrong is wrong"),
        (OWN, "breaks = true", 2, f"{OWN}: build failed: ZeroDivisionError: by zero"),
        (NONE, "", 2, f"{NONE}: build must return Hooks, not None"),
    ],
)
def test_what_is_wrong_is_reported_at_its_place(
    tmp_path: Path, name: str, settings: str, line: int, message: str
):
    hooks, [problem] = built(tmp_path, name, settings)
    assert hooks == Hooks()
    assert (problem.file.name, problem.line, problem.message) == ("test.toml", line, message)


def test_a_module_that_has_changed_waits_for_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    module = f"acme_{os.getpid()}_{tmp_path.name}"
    source = "from gateway.core.hooks import Hooks\ndef build(config, context): return Hooks()\n"
    file = tmp_path / f"{module}.py"
    file.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    assert built(tmp_path, f"{module}:build")[1] == []
    file.write_text(f"{source}# new\n")
    [problem] = built(tmp_path, f"{module}:build")[1]
    assert (problem.severity, problem.hint) == ("warning", "restart the gateway to load it")
    assert problem.message == f"{module}:build: {file} has changed, and the old code goes on"


KIND: list[Any] = []


def build_more(config: dict[str, Any], context: Context) -> Hooks:
    """Uses what the context has for operators' own middlewares."""
    KIND.append(context.failure(config.get("code", "LOOKUP_001"), 424, "Lookup failed"))
    metric = context.metric(config.get("metric", "lookups"), "Lookups", labels=("result",))
    metric.add("hit")
    assert repr(context.http) == f"<Client of {context.name}>"

    async def start() -> None:
        """Open something."""

    return Hooks(start=start)


MORE = f"{__name__}:build_more"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('code = "SVC_001"', "SVC_001 is a failure of the gateway's own"),
        ('code = "no"', "a failure's code is capitals"),
        ('metric = "Bad-Name"', "'Bad-Name' is no name for a metric"),
    ],
)
def test_what_a_middleware_asks_for_wrongly(tmp_path: Path, settings: str, message: str):
    _, [problem] = built(tmp_path, MORE, settings)
    assert message in problem.message and problem.line == 2


def test_metrics_are_shown_while_a_configuration_uses_them(tmp_path: Path):
    registry, services = Registry(), Services(Transport())
    telemetry = services.telemetry

    def shown() -> list[str]:
        return [one.name for one in telemetry.families if "lookups" in one.name]

    def draft_of(settings: str = ""):
        write(
            tmp_path,
            f'request = ["{MORE}"]\n["{MORE}"]\n{settings}\n{PLAIN}',
            '[upstream.origin]\nurl = "http://127.0.0.1:9"\n',
        )
        draft = registry.draft()
        snapshot = compose(load(tmp_path / "gateway.toml", {}), draft, services)
        assert len(snapshot.lives) == 1
        return draft

    first = draft_of()
    assert shown() == []
    first.commit()
    assert shown() == ["gateway_plugin_lookups_total"]
    second = draft_of()
    second.commit()
    first.release()
    [family] = [one for one in telemetry.families if "lookups" in one.name]
    assert isinstance(family, Family) and family.get(("hit",)) == 2
    third = draft_of('metric = "other_lookups"')
    third.commit()
    second.release()
    assert shown() == ["gateway_plugin_other_lookups_total"]
    registry.close()
    assert shown() == []
