"""Tables and keys are found where they stand in the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config.check.compile import LoadedConfig
from gateway.runtime.reload import load
from gateway.runtime.why.places import Places

PIPELINE = """\
request = ["auth", "rate_limit.ip", "validation"]
[auth]
methods = ["basic"]
require = ["a"]
[rate_limit.ip]
limit = 1
window = "1m"
[[route]]
name = "a"
prefix = "/a"
upstream = "o"
[[route]]
name = "b"
prefix = "/b"
upstream = "o"
auth.require = ["b"]
[[openapi]]
file = "api.yaml"
upstream = "o"
"""
DOCUMENT = """\
openapi: 3.1.0
info: { title: a, version: "1" }
paths: { /c: { get: { operationId: c, responses: { "200": { description: a } } } } }
"""


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadedConfig:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "gateway.toml").write_text('[server]\nmax_body = "1MB"\n')
    (tmp_path / "upstreams.toml").write_text('[upstream.o]\nurl = "http://127.0.0.1:1"\n')
    (tmp_path / "pipelines/p.toml").write_text(PIPELINE)
    (tmp_path / "pipelines/api.yaml").write_text(DOCUMENT)
    return load(tmp_path / "gateway.toml", {})


@pytest.mark.parametrize(
    ("pipeline", "path", "route", "place"),
    [
        ("p", ("auth",), "a", "pipelines/p.toml:2"),
        ("p", ("auth", "require"), "a", "pipelines/p.toml:4"),
        ("p", ("auth", "require"), "b", "pipelines/p.toml:16"),
        ("p", ("auth", "methods"), "b", "pipelines/p.toml:3"),
        ("p", ("rate_limit.ip", "limit"), "", "pipelines/p.toml:6"),
        ("", ("server", "max_body"), "", "gateway.toml:2"),
        ("", ("server", "max_uri"), "", "gateway.toml:1"),
    ],
)
def test_places(loaded: LoadedConfig, pipeline: str, path: tuple[str, ...], route: str, place: str):
    places = Places(loaded)
    assert places.of(pipeline, path, route) == places.of(pipeline, path, route) == place


@pytest.mark.parametrize(
    ("route", "keys", "place"),
    [
        ("a", (), "pipelines/p.toml:8"),
        ("b", ("prefix",), "pipelines/p.toml:14"),
        ("c", (), "pipelines/p.toml:17"),
        ("nowhere", (), ""),
    ],
)
def test_routes(loaded: LoadedConfig, route: str, keys: tuple[str, ...], place: str):
    assert Places(loaded).of_route(route, *keys) == place


def test_upstreams(loaded: LoadedConfig):
    places = Places(loaded)
    assert places.of_upstream("o") == "upstreams.toml:1"
    assert places.of_upstream("o", "url") == "upstreams.toml:2"
    assert places.of_upstream("registered") == ""
