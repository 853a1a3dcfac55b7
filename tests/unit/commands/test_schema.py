"""`gateway schema` prints one schema or all of them."""

from __future__ import annotations

import json

import pytest

from gateway.cli import main
from gateway.commands.schema import NAMES


def test_one_or_all(capsys: pytest.CaptureFixture[str]):
    assert main(["schema"]) == 0
    assert tuple(json.loads(capsys.readouterr().out)) == NAMES
    assert main(["schema", "upstreams"]) == 0
    dialect = json.loads(capsys.readouterr().out)["$schema"]
    assert dialect == "https://json-schema.org/draft/2020-12/schema"


def test_there_is_no_such_schema(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["schema", "nonsense"])
    assert ended.value.code == 2
    assert "upstreams" in capsys.readouterr().err
