"""What one program leaves to the next."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from gateway.supervisor.replacement.handover import (
    VARIABLE,
    Handover,
    Leaving,
    commands,
    why_refused,
)


def test_commands_are_those_this_program_was_started_with():
    run, check = commands(
        ["python3", "-X", "utf8", "-m", "gateway", "run", "--config", "a.toml"],
        ["run", "--config", "a.toml"],
    )
    assert run == [sys.executable, "-X", "utf8", "-m", "gateway", "run", "--config", "a.toml"]
    assert check == [sys.executable, "-X", "utf8", "-m", "gateway", "check", "--config", "a.toml"]


def test_a_check_that_succeeds_refuses_nothing():
    assert why_refused(0, "a:1:1: warning: odd\nok: 1 pipelines") == []


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("a:1:1: warning: odd\na:2:1: wrong\n1 error, 1 warnings\n", 2),
        ("", 1),
        ("line\n" * 1000, 50),
    ],
)
def test_reasons_are_what_it_says(output, expected):
    assert len(why_refused(1, output)) == expected


def test_what_is_left_is_taken_over(monkeypatch):
    listening = socket.create_server(("127.0.0.1", 0))
    ours, theirs = socket.socketpair()
    made = Handover(
        [("listen", "as configured", listening.fileno()), ("admin", "then", theirs.fileno())],
        [Leaving(1, 4711, ours.fileno(), b"half a", b"reading")],
        parts={"ledger": b"counts"},
    )
    environ: dict[str, str] = {}

    def executed(path, command, given):
        assert (path, command) == (sys.executable, [sys.executable, "-m", "gateway", "run"])
        assert "LISTEN_PID" not in given
        assert all(os.get_inheritable(one) for one in made.descriptors())
        environ.update(given)
        raise OSError("so that the test goes on")

    kept: list[int] = []
    monkeypatch.setattr(os, "execve", executed)
    monkeypatch.setattr(os, "close", kept.append)
    monkeypatch.setenv("LISTEN_PID", "1")
    with pytest.raises(OSError, match="goes on"):
        made.execute([sys.executable, "-m", "gateway", "run"])
    monkeypatch.undo()
    assert not any(os.get_inheritable(one) for one in made.descriptors())
    found = Handover.take(environ)
    assert found == made
    assert VARIABLE not in environ and Handover.take(environ) is None
    numbers = [one.detach() for one in (listening, theirs)]
    sockets = found.inherited({"listen": "as configured", "admin": "now"})
    taken = [*sockets.take(lambda name, _: name == "listen"), *sockets.take(lambda name, _: True)]
    assert [one.fileno() for one in taken] == numbers
    for one in (*taken, ours):
        one.close()
