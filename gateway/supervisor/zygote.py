"""The process that workers are forked from.

It has imported what they need and has neither an event loop nor threads, so a fork takes
milliseconds, is safe, and shares its memory. It waits for orders from the supervisor on a socket,
forks, and says which workers have ended. When the supervisor is gone, it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import marshal
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import NoReturn

log = logging.getLogger("gateway.workers")

Work = Callable[[int, Sequence[int]], int]
"""What a worker does with its number and its descriptors; returns its exit code."""

_MOST = 250
"""Descriptors that a worker may begin with."""
_IGNORED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""Signals to a whole process group are for the supervisor."""


class Zygote:
    """The supervisor's side: forks workers on request.

    ended: called with (pid, status as of waitpid) for each worker that has ended.
    gone: called when the zygote itself has ended, and no worker can be forked any more.
    """

    def __init__(self, control: socket.socket, pid: int) -> None:
        self.control = control
        self.pid = pid
        self.ended: Callable[[int, int], object] = lambda pid, status: None
        self.gone: Callable[[], object] = lambda: None
        self.lost = False
        """It has ended by itself."""
        self._forked: list[asyncio.Future[int]] = []

    def __repr__(self) -> str:
        return f"<Zygote {self.pid}>"

    @classmethod
    def start(
        cls, preload: Callable[[], object], work: Work, without: Sequence[int] = ()
    ) -> Zygote:
        """Fork it. Call this without an event loop and without threads.

        without: descriptors that it and its children must not have.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            for descriptor in without:
                os.close(descriptor)
            _exit_after(lambda: _serve(theirs, preload, work))
        theirs.close()
        return cls(ours, pid)

    def attach(self) -> None:
        """Listen to it from the running loop."""
        self.control.setblocking(False)
        asyncio.get_running_loop().add_reader(self.control, self._readable)

    async def fork(self, index: int, descriptors: Sequence[int]) -> int:
        """Fork worker `index`, with copies of these descriptors; return its pid. Raises OSError."""
        forked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        socket.send_fds(self.control, [bytes((index,))], descriptors)
        self._forked.append(forked)
        return await forked

    def close(self) -> None:
        """Let it end."""
        asyncio.get_running_loop().remove_reader(self.control)
        self.control.close()
        for forked in self._forked:
            forked.cancel()

    def _readable(self) -> None:
        try:
            said = self.control.recv(100)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            said = b""
        if not said:
            asyncio.get_running_loop().remove_reader(self.control)
            self.lost = True
            for forked in self._forked:
                if not forked.done():
                    forked.set_exception(OSError("the process that forks workers has ended"))
            self.gone()
            return
        kind, pid, status = marshal.loads(said)  # noqa: S302 - our own process
        if kind == "ended":
            self.ended(pid, status)
            return
        forked = self._forked.pop(0)
        if forked.done():
            return
        if kind == "forked":
            forked.set_result(pid)
        else:
            forked.set_exception(OSError(status, f"cannot fork: {os.strerror(status)}"))


def _serve(control: socket.socket, preload: Callable[[], object], work: Work) -> int:
    """The zygote's life."""
    wakes, wake = socket.socketpair()
    wake.setblocking(False)
    for number in (*_IGNORED, signal.SIGCHLD):
        signal.signal(number, _nothing)
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    logging.basicConfig(level=logging.WARNING, force=True)  # a handler without a thread
    preload()
    if threading.active_count() > 1:
        log.warning(
            "a middleware has started threads while it was built: workers will not have them"
        )
    gc.collect()
    gc.freeze()
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wakes, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if wakes.fileno() in ready:
            wakes.recv(4096)
            _reap(control)
        if control.fileno() in ready:
            try:
                order, descriptors, _, _ = socket.recv_fds(control, 16, _MOST)
            except ConnectionResetError:  # The supervisor has gone before it read everything.
                return 0
            if not order:
                return 0
            for one in descriptors:  # Python has them open in programs that are executed, too.
                os.set_inheritable(one, False)
            _fork(control, order[0], descriptors, work, (wakes, wake))
            for one in descriptors:
                os.close(one)


def _fork(
    control: socket.socket,
    index: int,
    descriptors: Sequence[int],
    work: Work,
    own: Sequence[socket.socket],
) -> None:
    try:
        pid = os.fork()
    except OSError as error:
        _say(control, "failed", 0, error.errno or 0)
        return
    if pid:
        _say(control, "forked", pid, 0)
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for one in (control, *own):
        one.close()
    _exit_after(lambda: work(index, descriptors))


def _reap(control: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say(control, "ended", pid, status)


def _say(control: socket.socket, kind: str, pid: int, status: int) -> None:
    with contextlib.suppress(OSError):  # The supervisor has gone: this process is about to end.
        control.send(marshal.dumps((kind, pid, status)))


def _exit_after(life: Callable[[], int]) -> NoReturn:
    """End this process with what `life` returns; nothing of its parent's code may go on in it."""
    code = 1
    try:
        code = life()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        log.exception("a process of the gateway failed")
    finally:
        os._exit(code)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler, so that the signal has no effect here and is the default's after an exec."""
