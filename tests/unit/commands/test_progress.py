"""Work that takes long says so, and says nothing more when it is over."""

from __future__ import annotations

import threading

import pytest

from gateway.commands.progress import progress


def test_it_speaks_while_the_work_lasts():
    said: list[str] = []
    twice = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            twice.set()

    with progress("reading files", say, every=0.001):
        assert twice.wait(30)
    count = len(said)
    assert said[0].startswith("gateway: still reading files, after ")
    assert threading.active_count() == 1 or all(
        one.name != "progress" for one in threading.enumerate()
    )
    assert len(said) == count


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]):
    with progress("reading files"):
        pass
    assert capsys.readouterr() == ("", "")


def test_it_ends_with_an_error():
    with pytest.raises(ZeroDivisionError), progress("dividing", every=0.001):
        raise ZeroDivisionError
    assert all(one.name != "progress" for one in threading.enumerate())
