"""Whether `gateway run` needs a supervisor."""

from __future__ import annotations

import pytest

from gateway.commands import run
from tests.flow.conftest import write


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("", False),
        ("[server]\nworkers = 1\n", False),
        ("[server]\nworkers = 2\n", True),
        ("# workers\n", False),
        ("[server]\nworkers = -1\n", False),
        ("[server\n", False),
    ],
)
def test_several_workers_take_one(tmp_path, server, expected):
    write(tmp_path, "", "", server)
    assert run._several(tmp_path / "gateway.toml") is expected


def test_without_a_file_the_start_says_so(tmp_path):
    assert run._several(tmp_path / "gateway.toml") is False
