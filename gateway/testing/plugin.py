"""A plugin of pytest: a gateway on a configuration given as text, and an origin behind it.

    # conftest.py
    pytest_plugins = ["gateway.testing.plugin"]

    # test_it.py
    def test_it(edge, origin):
        origin.answer = 200, {"Content-Type": "text/plain"}, b"hello"
        gateway = edge('response = ["mine:build"]' + ROUTE)
        assert gateway.get("/").status == 200

Tests are plain functions: the gateway runs in a thread of its own, in this process, on free ports
of 127.0.0.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.testing.edge import Edge, Origin

ROUTE = """
[[route]]
name = "all"
prefix = "/"
upstream = "origin"
"""
"""A route to the origin, for pipelines that have none of their own."""


@pytest.fixture
def origin() -> Iterator[Origin]:
    """An upstream; see Origin."""
    with Origin() as one:
        yield one


@pytest.fixture
def edge(tmp_path: Path, origin: Origin) -> Iterator[Callable[..., Edge]]:
    """`edge(pipeline, gateway="", **files)` starts a gateway and returns an Edge.

    pipeline: a pipeline file's text; ROUTE is added if it has no route. The upstream called
    `origin` is that of the fixture. gateway: more of gateway.toml. files: further files by name,
    "__" for the dot.
    """
    running: list[Edge] = []

    def start(pipeline: str, gateway: str = "", **files: str) -> Edge:
        one = Edge(tmp_path / f"edge-{len(running)}", origin.url)
        running.append(one)
        for name, text in files.items():
            one.write(name.replace("__", "."), text)
        one.write("pipeline.toml", pipeline if "[[route]]" in pipeline else pipeline + ROUTE)
        one.start(gateway)
        return one

    yield start
    for one in running:
        one.stop()
