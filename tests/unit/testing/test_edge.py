"""The gateway in a thread: that it ends whatever came before. The rest is in test_plugin."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from gateway.config.toml.problems import ConfigErrors
from gateway.testing.edge import Edge, Origin
from gateway.testing.plugin import ROUTE


def test_nothing_is_left(tmp_path: Path):
    before = threading.active_count()
    with Origin() as origin:
        never, wrong, right = (Edge(tmp_path / name, origin.url) for name in ("a", "b", "c"))
        never.stop()
        wrong.write("pipeline.toml", "nothing = 1\n" + ROUTE)
        with pytest.raises(ConfigErrors):
            wrong.start()
        wrong.stop()
        right.write("pipeline.toml", ROUTE)
        right.start()
        assert right.get("/").body == b"ok" and right.url.startswith("http://127.0.0.1:")
        right.stop()
    assert threading.active_count() == before
