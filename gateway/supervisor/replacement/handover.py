"""What a process leaves to the program that takes its place (USR2).

`execve` keeps the pid and the descriptors. What they are stands in a memfd, whose number the
environment has: listening sockets, the workers that go on until the new ones serve, and counts.
"""

from __future__ import annotations

import marshal
import os
import socket
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import NoReturn

from gateway.lifetime.sockets import Sockets
from gateway.supervisor.sums.readings import Reading

VARIABLE = "GATEWAY_HANDOVER"
LINES = 50
"""Of a refusal that are logged."""
_ACTIVATION = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")
"""A service manager's sockets are handed over with the others."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A worker of the old program. `received` came over its channel and was not read yet."""

    index: int
    pid: int
    channel: int
    received: bytes
    reading: bytes


@dataclass(slots=True)
class Handover:
    """Everything, with descriptors as numbers.

    sockets: the listener (as Sockets names it), the addresses it was configured with, a descriptor.
    inboxes: both ends of the workers'. zygotes: control socket and pid. base: what workers that
    ended have counted. parts: what others keep, by name.
    """

    sockets: list[tuple[str, str, int]] = field(default_factory=list)
    leaving: list[Leaving] = field(default_factory=list)
    inboxes: list[tuple[int, int]] = field(default_factory=list)
    zygotes: list[tuple[int, int]] = field(default_factory=list)
    base: Reading = field(default_factory=dict)
    parts: dict[str, bytes] = field(default_factory=dict)

    def descriptors(self) -> list[int]:
        return [
            *(descriptor for *_, descriptor in self.sockets),
            *(one.channel for one in self.leaving),
            *(end for ends in self.inboxes for end in ends),
            *(control for control, _ in self.zygotes),
        ]

    def inherited(self, configured: Mapping[str, str]) -> Sockets:
        """Return the sockets for listeners that have these addresses in the configuration now.

        Where they have changed, a socket is used if it has one of the new addresses.
        """
        return Sockets(
            [
                (name if configured.get(name) == addresses else "", socket.socket(fileno=number))
                for name, addresses, number in self.sockets
            ],
            inherited=True,
        )

    def execute(self, command: Sequence[str]) -> NoReturn:
        """Have `command` take this process's place. Raises OSError, and nothing has changed."""
        memory = os.memfd_create("gateway-handover", 0)
        descriptors = self.descriptors()
        environ = {key: value for key, value in os.environ.items() if key not in _ACTIVATION}
        environ[VARIABLE] = str(memory)
        try:
            with os.fdopen(memory, "wb", closefd=False) as file:
                marshal.dump(astuple(self), file)
            for descriptor in descriptors:
                os.set_inheritable(descriptor, True)
            sys.stderr.flush()
            os.execve(command[0], list(command), environ)  # noqa: S606 - our own program
        except OSError:
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            os.close(memory)
            raise

    @classmethod
    def take(cls, environ: MutableMapping[str, str]) -> Handover | None:
        """Return what the program before has left; None if there was none."""
        number = environ.pop(VARIABLE, None)
        if number is None:
            return None
        with os.fdopen(int(number), "rb") as file:
            file.seek(0)
            sockets, leaving, *rest = marshal.load(file)  # noqa: S302 - this process wrote it
        found = cls(list(sockets), [Leaving(*one) for one in leaving], *rest)
        for descriptor in found.descriptors():
            os.set_inheritable(descriptor, False)
        return found


def commands(original: Sequence[str], arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return how this program is run again, and how it checks its configuration.

    original: sys.orig_argv, how Python was called. arguments: what the program got, ["run", ...].
    """
    program = list(original[1 : len(original) - len(arguments)])
    # Behind a link that was moved lies another environment's command, which names its own Python.
    if len(program) != 1 or not _is_executable_script(program[0]):
        program.insert(0, sys.executable)
    return [*program, *arguments], [*program, "check", *arguments[1:]]


def _is_executable_script(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return file.read(2) == b"#!" and os.access(path, os.X_OK)
    except OSError:
        return False


def why_refused(code: int | None, output: str) -> list[str]:
    """Return what a check that ended with `code` has said against it, as lines for the log."""
    if code == 0:
        return []
    lines = [line for line in output.strip().splitlines() if ": warning: " not in line]
    return lines[-LINES:] or [f"the check ended with {code}"]
