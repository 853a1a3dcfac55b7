"""Every snippet of TOML in the documentation is taken by the loader.

A snippet may be a part of a file: what it does not say, and a whole configuration needs, is put
beside it (a route, the upstreams that are named, the lists, the files).
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from gateway.config.tables.load import instance, known_keys
from gateway.config.tables.pipeline import PipelineConfig
from gateway.config.tables.server import GatewayConfig
from gateway.config.toml.problems import ConfigErrors
from gateway.middlewares import CATALOGUE
from gateway.runtime.reload import load
from tests.docs.pages import PAGES, ROOT, Snippet, fenced, indented_tables, name_of

TUTORIAL = "docs/middleware-tutorial.md"
"""Its blocks are files of a whole, which test_tutorial.py follows."""
SNIPPETS = [
    (page, snippet)
    for page in PAGES
    for snippet in (*fenced(page), *indented_tables(page))
    if snippet.kind == "toml" and name_of(page) != TUTORIAL
]
GATEWAY = known_keys(instance(GatewayConfig)).keys()
PIPELINE = known_keys(instance(PipelineConfig)).keys()
DOCUMENT = """
openapi: 3.1.0
info: {title: t, version: "1"}
paths:
  /cameras:
    get: {responses: {"200": {description: all}}}
    post: {responses: {"201": {description: made}}}
  /cameras/{id}:
    parameters: [{name: id, in: path, required: true, schema: {type: string}}]
    delete: {responses: {"204": {description: gone}}}
"""
DEFAULTS: dict[str, dict[str, Any]] = {
    "auth": {"methods": ["api_key"]},
    "rate_limit": {
        "class": "standard",
        "classes": {name: {"limit": 100, "window": "1m"} for name in ("standard", "strict")},
    },
    "cors": {"origins": ["https://app.example.com"]},
    "forward_auth": {"url": "http://authz.internal/check"},
}
"""What a middleware cannot do without, where a snippet lists it and says no more."""


class Environment(dict[str, str]):
    """Every variable is set."""

    def __missing__(self, name: str) -> str:
        return "8080" if "PORT" in name else "value"

    def get(self, name: str, default: Any = None) -> str:  # type: ignore[override]
        return self[name]

    def __contains__(self, name: object) -> bool:
        return True


def parts(data: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What of a snippet belongs to gateway.toml, upstreams.toml and a pipeline."""
    gateway: dict[str, Any] = {}
    pipeline: dict[str, Any] = {}
    for key, value in data.items():
        own = key in GATEWAY and (key != "logging" or "process" in value)
        if key != "upstream":
            (gateway if own else pipeline)[key] = value
    return gateway, data.get("upstream", {}), pipeline


def completed(pipeline: dict[str, Any]) -> dict[str, Any]:
    """A pipeline with lists, routes and what its middlewares cannot do without."""
    made = dict(pipeline)
    tables = [key for key in pipeline if key not in PIPELINE]
    made.setdefault("request", tables)
    if not {"route", "openapi"} & made.keys():
        made["route"] = [{"prefix": "/", "respond": {"status": 204}}]
    used = {name for key in ("request", "response", "error") for name in made.get(key, ())}
    for route in made.get("route", ()):
        used |= {key for key in route if key in CATALOGUE}
    for name in used & DEFAULTS.keys():
        made[name] = {
            **({} if "limit" in made.get(name, {}) else DEFAULTS[name]),
            **made.get(name, {}),
        }
    return made


def upstreams(pipeline: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    """The upstreams of a snippet, and those that it names."""
    named: set[str] = set()
    for one in (*pipeline.get("route", ()), *pipeline.get("openapi", ())):
        target = one.get("upstream", ())
        named |= {target} if isinstance(target, str) else set(target)
        named |= {one["mirror"]["upstream"]} if "mirror" in one else set()
    named |= {one["fallback"] for one in known.values() if "fallback" in one}
    named = {name for name in named if "{" not in name}
    asked = {"url": "http://127.0.0.1:1"}
    return dict.fromkeys(named, asked) | {
        name: one if {"url", "endpoints", "discover"} & one.keys() else asked | one
        for name, one in known.items()
    }


def files(value: Any) -> Iterator[str]:
    """The files that texts and secrets are read from."""
    if isinstance(value, dict):
        if value.keys() == {"file"} and isinstance(value["file"], str):
            yield value["file"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from files(one)


def placed(data: Any, root: Path) -> Any:
    """The data with absolute paths of files below the root, where they are made."""
    if isinstance(data, dict):
        if data.keys() == {"file"} and isinstance(data["file"], str):
            path = root / data["file"].lstrip("/").replace("../", "")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
            return {"file": str(path)}
        return {key: placed(value, root) for key, value in data.items()}
    return [placed(one, root) for one in data] if isinstance(data, list) else data


@pytest.mark.parametrize(
    ("page", "snippet"),
    SNIPPETS,
    ids=[f"{name_of(page)}:{snippet.line}" for page, snippet in SNIPPETS],
)
def test_the_loader_takes_it(page: Path, snippet: Snippet, tmp_path: Path):
    data = placed(tomllib.loads(snippet.text), tmp_path / "files")
    gateway, known, pipeline = parts(data)
    pipeline = completed(pipeline)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "camera-api.yaml").write_text(DOCUMENT)
    for name, part in (
        ("gateway.toml", {**gateway, "include": ["upstreams.toml", "pipelines/*.toml"]}),
        ("upstreams.toml", {"upstream": upstreams(pipeline, known)}),
        ("pipelines/shown.toml", pipeline),
    ):
        (tmp_path / name).write_text(tomlkit.dumps(part))
    try:
        load(tmp_path / "gateway.toml", Environment())
    except ConfigErrors as errors:
        pytest.fail(f"{name_of(page)}:{snippet.line}\n{errors}")


def test_there_are_many():
    assert len(SNIPPETS) >= 25
    assert {name_of(page).partition("/")[0] for page, _ in SNIPPETS} >= {"README.md", "docs"}
    assert ROOT / TUTORIAL in PAGES
