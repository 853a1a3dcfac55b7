"""Files of Unix sockets: permissions, what stands in the way, and who may delete them."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from gateway.lifetime.socket_files import SocketFile, bind_unix


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
def test_permissions_are_those_that_were_asked_for(tmp_path: Path, mode: int):
    path = tmp_path / "a.sock"
    before = os.umask(0o077)
    try:
        bind_unix(str(path), mode).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_file_that_was_left_behind_is_replaced(tmp_path: Path):
    path = tmp_path / "a.sock"
    bind_unix(str(path), 0o660).close()
    left = SocketFile(str(path))
    with bind_unix(str(path), 0o660) as one:
        one.listen(5)
        left.remove()  # It is another's by now.
        assert path.exists()
        SocketFile(str(path)).remove()
        assert not path.exists()
        SocketFile(str(path)).remove()


@pytest.mark.parametrize("backlog", [5, 0], ids=["", "with a full backlog"])
def test_a_socket_that_something_listens_on_is_left_alone(tmp_path: Path, backlog: int):
    path = tmp_path / "a.sock"
    with bind_unix(str(path), 0o660) as one, socket.socket(socket.AF_UNIX) as waiting:
        one.listen(backlog)
        if not backlog:
            waiting.connect(str(path))
        with pytest.raises(OSError, match="Address already in use"):
            bind_unix(str(path), 0o660)
        assert path.exists()


def test_another_file_is_left_alone(tmp_path: Path):
    path, link = tmp_path / "a.sock", tmp_path / "link"
    path.write_text("precious")
    link.symlink_to(path)
    for one in (path, link):
        with pytest.raises(OSError, match="there is a file that is no socket"):
            bind_unix(str(one), 0o660)
    assert path.read_text() == "precious"
    with pytest.raises(FileNotFoundError):
        bind_unix(str(tmp_path / "none" / "a.sock"), 0o660)
