"""The build is told by what Python loads a module with."""

from __future__ import annotations

import pytest

import gateway

PLAIN, COMPILED, MISSING = "gateway.cli", "orjson.orjson", "gateway.missing"


@pytest.mark.parametrize(
    ("module", "compiled"), [(PLAIN, False), (COMPILED, True), (MISSING, False)]
)
def test_what_a_module_is_loaded_with(module: str, compiled: bool):
    assert gateway.is_compiled(module) is compiled


@pytest.mark.parametrize(("compiled", "more"), [(True, " (compiled)"), (False, "")])
def test_the_version_says_it(monkeypatch: pytest.MonkeyPatch, compiled: bool, more: str):
    monkeypatch.setattr(gateway, "is_compiled", lambda: compiled)
    assert gateway.described_version() == gateway.__version__ + more
