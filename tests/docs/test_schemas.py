"""The schemas that editors get accept every TOML file that is shipped, and mark what is wrong."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from gateway import middlewares
from gateway.config.tables.describe import json_schemas
from gateway.config.toml.read import PIPELINE_KEYS
from gateway.runtime.reload import schema_for

ROOT = Path(__file__).resolve().parents[2]
OTHERS = {"demo.toml", "keys.toml", "users.toml", "pyproject.toml"}
"""Files of keys, users, demonstrations and packages."""
FOLDERS = ("pipelines", "examples", "bench", "deploy")
FILES = [
    path
    for path in sorted(
        (*ROOT.glob("*.toml"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.toml")))
    )
    if path.name not in OTHERS
]
VALIDATORS = {
    name: jsonschema_rs.validator_for(json.dumps(schema))
    for name, schema in json_schemas(schema_for, middlewares.names()).items()
}


def kind_of(data: dict[str, Any]) -> str:
    if PIPELINE_KEYS & data.keys():
        return "pipeline"
    return "upstreams" if "upstream" in data else "gateway"


def plain(value: Any) -> Any:
    """Dates as text, which JSON has instead."""
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value if isinstance(value, bool | int | float | str) else value.isoformat()


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_shipped_file_is_valid(file: Path):
    data = tomllib.loads(file.read_text("utf-8"))
    errors = [
        f"{'.'.join(map(str, one.instance_path))}: {one.message}"
        for one in VALIDATORS[kind_of(data)].iter_errors(plain(data))
    ]
    assert errors == []


def test_there_are_all_kinds():
    kinds = [kind_of(tomllib.loads(file.read_text("utf-8"))) for file in FILES]
    assert {kind: kinds.count(kind) >= 5 for kind in VALIDATORS} == dict.fromkeys(VALIDATORS, True)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("gateway", "[listen]\nprot = 80"),
        ("gateway", "[listen]\nport = 'http'"),
        ("upstreams", "[upstream.a]\nbalance = 'fastest'"),
        ("pipeline", "[[route]]\nprefix = '/'\nupstream = 'a'\n[route.rate_limit]\nlimit = -1"),
        ("pipeline", "request = ['rate_limt']"),
        ("pipeline", "request = ['auth']\n[auth]\npermissions = ['a']"),
    ],
)
def test_what_is_wrong_is_marked(kind: str, text: str):
    assert not VALIDATORS[kind].is_valid(tomllib.loads(text))
