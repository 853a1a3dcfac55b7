"""A snapshot is retired once the last request that crosses it has left."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.lifetime.registry import Registry
from gateway.runtime.compose import compose
from gateway.runtime.reload import load
from gateway.runtime.services import Services
from gateway.runtime.snapshot import Snapshot
from gateway.upstream.connections.transport import Transport
from tests.flow.conftest import PLAIN, write


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    write(
        tmp_path,
        PLAIN.replace("[[route]]\n", '[[route]]\nname = "all"\n'),
        '[upstream.origin]\nurl = "http://127.0.0.1:9"\n',
    )
    return compose(
        load(tmp_path / "gateway.toml", {}), Registry().draft(), Services(Transport()), 7
    )


def test_one_that_nobody_crosses_is_retired_at_once(snapshot: Snapshot):
    told: list[str] = []
    snapshot.retire(lambda: told.append("over"))
    assert told == ["over"]


def test_the_last_to_leave_retires_it_once(snapshot: Snapshot):
    told: list[str] = []
    snapshot.active += 2
    snapshot.leave()
    assert told == []
    snapshot.retire(lambda: told.append("over"))
    assert told == [] and "retiring" in repr(snapshot)
    snapshot.leave()
    assert told == ["over"] and "retiring" not in repr(snapshot)


def test_those_that_leave_the_one_in_force_end_nothing(snapshot: Snapshot):
    for _ in range(2):
        snapshot.active += 1
        snapshot.leave()
    assert repr(snapshot) == f"<Snapshot 7 {snapshot.loaded.hash} current, 1 routes, 0 active>"


def test_routes_by_name(snapshot: Snapshot):
    found = snapshot.route("all")
    assert found is not None and found.config.prefix == "/"
    assert snapshot.route("other") is None
