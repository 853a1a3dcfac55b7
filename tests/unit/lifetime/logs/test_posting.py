"""Batches by POST. What comes of answers is told by the sinks' tests, which post to real sockets."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from gateway.lifetime.logs import posting
from gateway.lifetime.logs.posting import Poster
from tests.collector import collecting


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posting, "FIRST_PAUSE", 0.001)


def poster(url: str, stopping: threading.Event | None = None, retries: int = 2) -> Poster:
    limits = {"timeout": 5.0, "retries": retries}
    return Poster(url, {"X-A": "b"}, **limits, stopping=stopping or threading.Event())


def test_the_answer_is_returned_and_the_connection_kept():
    with collecting() as collector:
        collector.answers = [(200, b"one"), (503, b"busy"), (200, b"two")]
        one = poster(f"{collector.url}/x")
        assert [one.send(b"a"), one.send(b"b")] == [b"one", b"two"]
        one.close()
        one.close()
    assert [(path, fields["x-a"], body) for path, fields, body in collector.got] == [
        ("/x", "b", b"a"),
        ("/x", "b", b"b"),
    ]


@pytest.mark.parametrize(("status", "attempts"), [(503, 3), (404, 1)])
def test_what_kept_it_from_coming_is_returned(status: int, attempts: int):
    with collecting() as collector:
        collector.answers = [(status, b"")] * 5
        with closing(poster(collector.url)) as one:
            said = one.send(b"a")
        assert isinstance(said, OSError) and str(said) == f"answered {status}"
        assert len(collector.answers) == 5 - attempts


def test_no_further_attempt_once_it_stops():
    stopping = threading.Event()
    stopping.set()
    with collecting() as collector:
        collector.answers = [(503, b"")] * 5
        with closing(poster(collector.url, stopping)) as one:
            assert isinstance(one.send(b"a"), OSError)
        assert len(collector.answers) == 4
