"""What one program leaves to the next."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

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


def test_a_script_is_run_by_the_interpreter_it_names_now(tmp_path: Path):
    """Behind a link that was moved it is another environment's, and names that one's."""
    script = tmp_path / "gateway"
    script.write_text("#!/opt/new/bin/python3\n")
    script.chmod(0o755)
    run, check = commands(["/opt/old/bin/python3", str(script), "run"], ["run"])
    assert run == [str(script), "run"]
    assert check == [str(script), "check"]


@pytest.mark.parametrize(("text", "mode"), [("import gateway\n", 0o755), ("#!python3\n", 0o644)])
def test_a_file_that_cannot_be_executed_is_run_by_this_interpreter(
    tmp_path: Path, text: str, mode: int
):
    script = tmp_path / "gateway.py"
    script.write_text(text)
    script.chmod(mode)
    for started in (str(script), str(tmp_path)):
        run, _ = commands(["python3", started, "run"], ["run"])
        assert run == [sys.executable, started, "run"]


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
