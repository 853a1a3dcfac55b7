"""Whether new requests should be sent to several workers; the rest: tests/reload/test_workers.py."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.supervisor.member import Member
from gateway.supervisor.supervisor import Supervisor


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    zygote: Any = SimpleNamespace(gone=None)
    made = Supervisor(tmp_path / "gateway.toml", {}, zygote)
    made._accepting = True
    return made


def test_it_is_ready_while_a_worker_serves(supervisor: Supervisor):
    assert not supervisor.ready()
    supervisor.crew.members = {0: Member(0), 1: Member(1)}
    assert not supervisor.ready()
    supervisor.crew.members[1].serving = True
    assert supervisor.ready()
    supervisor._draining = True
    assert not supervisor.ready()


def test_workers_of_the_program_before_serve_too(supervisor: Supervisor):
    supervisor.elders = SimpleNamespace()  # type: ignore[assignment]
    assert supervisor.ready()
