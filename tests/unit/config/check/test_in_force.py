"""What operators are shown of a configuration."""

from __future__ import annotations

from pathlib import Path

from gateway.config.check.in_force import described
from gateway.runtime.reload import load
from tests.flow.conftest import write


def test_names_and_no_values(tmp_path: Path):
    write(
        tmp_path,
        'request = ["auth"]\nauth = { methods = ["api_key"], api_key = { file = "keys.toml" } }\n'
        '[[route]]\npaths = ["/a", "/b/{id}"]\nupstream = { x = 9, y = 1 }\nmethods = ["GET"]\n',
        '[upstream.x]\nurl = "http://127.0.0.1:1"\n[upstream.y]\nurl = "http://127.0.0.1:2"\n',
        '[admin]\nport = 0\ntoken = "very secret"\n',
    )
    found = described(load(tmp_path / "gateway.toml", {}))
    assert found["upstreams"]["x"] == {
        "balance": "least_connections", "endpoints": ["http://127.0.0.1:1"]
    }  # fmt: skip
    [route] = found["pipelines"]["test"]["routes"]
    assert route == {
        "name": "/a", "match": "/a, /b/{id}", "kind": "path", "methods": ["GET"], "hosts": [],
        "target": "x 9, y 1",
    }  # fmt: skip
    assert "very secret" not in repr(found)
