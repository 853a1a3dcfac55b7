"""`gateway schema` prints one schema or all of them."""

from __future__ import annotations

import json

import pytest

from gateway.cli import main


def test_one_or_all(capsys: pytest.CaptureFixture[str]):
    assert main(["schema"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"gateway", "upstreams", "pipeline"}
    assert main(["schema", "upstreams"]) == 0
    dialect = json.loads(capsys.readouterr().out)["$schema"]
    assert dialect == "https://json-schema.org/draft/2020-12/schema"


def test_there_is_no_such_schema(capsys: pytest.CaptureFixture[str]):
    assert main(["schema", "nonsense"]) == 1
    assert "gateway, upstreams, pipeline" in capsys.readouterr().err
