"""How many files, and so connections, the process may open."""

from __future__ import annotations

import resource

import pytest

from gateway.lifetime import process

INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [
        (1024, 4096, 4096),
        (4096, 4096, 4096),
        (1024, INFINITE, process.FILES),
        (1024, 10**9, process.FILES),
        (10**9, 10**9, 10**9),
        (INFINITE, INFINITE, process.FILES),
    ],
)
def test_as_many_as_it_may(monkeypatch, soft, hard, expected):
    limits = [soft]
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits[-1], hard))
    monkeypatch.setattr(resource, "setrlimit", lambda which, pair: limits.append(pair[0]))
    assert process.raise_file_limit() == expected
    assert limits[-1] == (soft if len(limits) == 1 else expected) and len(limits) == 1 + (
        soft not in (expected, INFINITE)
    )


def test_a_system_that_refuses_is_no_reason_not_to_start(monkeypatch, caplog):
    def refuse(which, pair):
        raise OSError("not permitted")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert process.raise_file_limit() == 1024
    assert "cannot open more than 1024 files" in caplog.text
