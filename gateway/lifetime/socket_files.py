"""Unix sockets that listen: their files, and who may connect."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path


class SocketFile:
    """The file of a Unix socket that was bound here."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = _identity(path)

    def remove(self) -> None:
        """Delete it, if it is still this socket's and not another's of the same name."""
        if self._identity is not None and _identity(self._path) == self._identity:
            Path(self._path).unlink()


def bind_unix(path: str, mode: int) -> socket.socket:
    """Return a socket bound to `path`, whose file has the permissions `mode`.

    The file of a dead process is replaced. Raises OSError for one that something listens on, and
    for any other file.
    """
    _make_room(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Linux takes the file's permissions from the socket: it is never open to others, not even
        # for a moment. What the umask takes away is given back afterwards.
        os.fchmod(made.fileno(), mode)
        made.bind(path)
        Path(path).chmod(mode)
    except BaseException:
        made.close()
        raise
    return made


def _make_room(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError("there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except BlockingIOError:  # Its backlog is full.
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _identity(path: str) -> tuple[int, int, int] | None:
    """Return what tells this file from another of its name; numbers of inodes are used again."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
