from __future__ import annotations

from pathlib import Path
from time import time
from typing import Any

import pytest

from gateway.config.toml.problems import Problem
from gateway.lifetime.registry import Registry
from gateway.runtime.reload import load
from gateway.runtime.tls import listening, towards
from tests.certificates import Authority
from tests.flow.conftest import PLAIN, write


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def found(
    directory: Path, upstream: str, gateway: str = ""
) -> tuple[Any, Any, list[tuple[str, str]]]:
    """TLS for clients, TLS towards the upstream, and (severity, message) of what there is to
    say."""
    write(directory, PLAIN, f"[upstream.origin]\n{upstream}\n", gateway)
    loaded = load(directory / "gateway.toml", {})
    said: list[Problem] = []
    keep = Registry().draft().keep
    ours = listening(loaded, keep, time(), said.append)
    theirs = towards(loaded, "origin", keep, said.append)
    return ours, theirs, [(problem.severity, problem.message) for problem in said]


HTTP, HTTPS = 'url = "http://127.0.0.1:9"', 'url = "https://127.0.0.1:9"'


def test_none_where_nothing_asks_for_it(tmp_path: Path):
    assert found(tmp_path, HTTP) == (None, None, [])


def test_towards_https_without_a_word(tmp_path: Path):
    _, theirs, said = found(tmp_path, HTTPS)
    assert theirs is not None and said == []


def test_towards_what_discovery_may_find(tmp_path: Path):
    _, theirs, said = found(tmp_path, f"{HTTP}\ndiscover = {{ api = true }}")
    assert theirs is not None and said == []


@pytest.mark.parametrize(
    ("upstream", "severity", "message"),
    [
        (f"{HTTP}\ntls = {{ verify = true }}", "warning", "tls has no effect"),
        (f"{HTTPS}\ntls = {{ verify = false }}", "warning", "need not prove who they are"),
        (f'{HTTPS}\ntls = {{ ca = "missing.pem" }}', "error", "missing.pem"),
    ],
)
def test_what_is_odd_is_said(tmp_path: Path, upstream: str, severity: str, message: str):
    _, _, [(how, what)] = found(tmp_path, upstream)
    assert how == severity and message in what and what.startswith("upstream.origin.tls")


def test_for_clients(tmp_path: Path, authority: Authority):
    authority.issue("edge", "edge.test")
    tls = '[listen]\nport = 0\ntls = { certificate = "edge.pem", key = "edge.key" }\n'
    ours, _, said = found(tmp_path, HTTP, tls)
    assert ours is not None and said == []
    ours, _, [(severity, _)] = found(tmp_path, HTTP, tls.replace("edge.key", "missing.key"))
    assert ours is None and severity == "error"
