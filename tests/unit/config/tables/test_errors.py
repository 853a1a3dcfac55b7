"""`[errors]`: what is accepted, by which names, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from marshmallow import ValidationError

from gateway.config.tables.errors import ErrorsConfig
from gateway.config.tables.load import load as load_table
from gateway.config.tables.schema import schema_of
from gateway.config.toml.sources import FileTable, Sources
from gateway.core.failures import Failure


def load(table: dict[str, Any]) -> ErrorsConfig:
    config: ErrorsConfig = schema_of(ErrorsConfig)().load(table)
    return config


def test_a_failures_name_wins_over_its_code_and_that_over_all():
    statuses = load({"statuses": {"read_timeout": 408, "SVC_003": 503, "*": 400}}).statuses
    assert statuses[Failure.READ_TIMEOUT] == 408
    assert statuses[Failure.CONNECT_TIMEOUT] == 503
    assert statuses[Failure.NO_ROUTE] == 400


def test_a_template_in_a_file(tmp_path: Path):
    (tmp_path / "error.json").write_text('{"error": "{code}"}')
    table = FileTable({"file": "error.json"}, tmp_path, Sources({}))
    template = load({"template": table}).template
    assert template is not None and template.tree == {"error": "{code}"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"codes": {"SVC_03": "X"}}, "did you mean 'SVC_003'?"),
        ({"messages": {"cirquit_open": "x"}}, "did you mean 'circuit_open'?"),
        ({"messages": {"SVC_003": "{fild}"}}, "no value is called {fild}; did you mean 'field'?"),
        ({"template": {"a": ["{secret}"]}}, "no value is called {secret}"),
        ({"template": "{"}, "is not JSON"),
        ({"template": "[1"}, "is not JSON"),
        ({"template": "3"}, "must be a table"),
        ({"template": {"a": 1}, "format": "problem"}, "stands beside format"),
        ({"format": "template"}, "is missing"),
        ({"format": "xml"}, "must be one of"),
        ({"statuses": {"SVC_003": 200}}, "must be from 400 to 599"),
        ({"statuses": {"SVC_003": "408"}}, "must be a whole number"),
        ({"codes": {"SVC_003": "a b"}}, "must be letters"),
        ({"codes": {"SVC_003": "a\r\nb"}}, "must be letters"),
        ({"messages": {"SVC_003": ""}}, "must not be empty"),
        ({"types": "example.com/problems"}, "must be the beginning of a URI"),
        ({"types": "https:"}, "must be the beginning of a URI"),
        ({"types": "https://example.com/a b"}, "must be the beginning of a URI"),
        ({"types": "https://ex\u00e4mple.com/"}, "must be the beginning of a URI"),
        ({"types": {"nothing": "X"}}, "no failure is called"),
        ({"style": "x"}, "Unknown field"),
    ],
)
def test_refused(table: dict[str, Any], message: str):
    with pytest.raises(ValidationError) as caught:
        load(table)
    assert message in str(caught.value.messages)


def test_a_mistake_is_said_where_it_is():
    table = {"codes": {"SVC_03": "X"}, "messages": {"SVC_003": "{fild}"}, "types": {"gon": "X"}}
    found = load_table(ErrorsConfig, table)
    assert [fault.path for fault in found.faults] == [
        ("codes", "SVC_03"),
        ("messages", "SVC_003"),
        ("types", "gon"),
    ]
