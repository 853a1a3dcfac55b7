"""USR2: a new program takes this process's place, once it has accepted the configuration.

The new program and what it reads are checked in a process of their own first. If that fails, this
one goes on and says why. Otherwise `execve` keeps the pid, and what serves goes on serving until
the new one does: of several workers the workers; of one process a copy, made by fork.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from time import monotonic
from typing import NoReturn

from gateway.lifetime.channel import Channel, pair
from gateway.lifetime.logs import logqueue
from gateway.lifetime.process import restart_threads, threads_idle
from gateway.supervisor.replacement.handover import Handover, Leaving, commands, why_refused

CHECK_TIMEOUT = 60.0
"""Seconds that the check of the new program may take."""
QUIET_TIMEOUT = 2.0
"""Seconds that threads get to write logs and to end their work before the program changes."""


async def refused() -> list[str]:
    """Run the new program's check; return what it has found, nothing if all is well."""
    _, check = commands(sys.orig_argv, sys.argv[1:])
    checking = await asyncio.create_subprocess_exec(
        *check, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            output, _ = await checking.communicate()
    except TimeoutError:
        checking.kill()
        await checking.wait()
        return [f"the check took more than {CHECK_TIMEOUT:g} s"]
    return why_refused(checking.returncode, output.decode(errors="backslashreplace"))


def execute(leave: Callable[[], Handover]) -> NoReturn:
    """Have the new program take this one's place, when it is quiet and signals are blocked. Raises
    OSError if it cannot be executed.

    leave: returns what it gets; nothing else happens between that and the end of this program.
    """
    command, _ = commands(sys.orig_argv, sys.argv[1:])
    leave().execute(command)


def execute_beside(leave: Callable[[], tuple[Handover, bytes]]) -> Channel:
    """As `execute`, with a copy of this process that serves on, and whose channel to the new
    program is returned in the copy. leave: also returns the copy's first reading."""
    command, _ = commands(sys.orig_argv, sys.argv[1:])
    loop = asyncio.get_running_loop()
    ours, theirs = pair()
    copy = os.fork()
    if copy == 0:
        ours.close()
        _without_threads(loop)
        return Channel(theirs)
    theirs.close()
    handover, reading = leave()
    handover.leaving.append(Leaving(0, copy, ours.fileno(), b"", reading))
    try:
        handover.execute(command)
    except OSError:
        ours.close()  # and with it the copy ends
        raise


async def quiet() -> None:
    """Wait for a moment in which no thread works; not for long."""
    end = monotonic() + QUIET_TIMEOUT
    await logqueue.drained(QUIET_TIMEOUT)
    while not threads_idle() and monotonic() < end:  # noqa: ASYNC110 - of threads
        await asyncio.sleep(0.002)


def _without_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Go on in a process that was forked in the middle of its life: threads are not copied."""
    asyncio._set_running_loop(loop)  # Python forgets it in a fork.
    restart_threads()
    logqueue.restart_threads()
