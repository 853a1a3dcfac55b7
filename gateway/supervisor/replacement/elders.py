"""Workers of the program that was here before: they serve until the new ones do, then leave."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import marshal
import os
import signal
import socket
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from gateway.lifetime.channel import Channel, ChannelClosed, ChannelError
from gateway.supervisor.handoff import CONNECTIONS, receive
from gateway.supervisor.replacement.handover import Handover, Leaving
from gateway.supervisor.sums.readings import Reading, add
from gateway.upstream.pool.shared import KINDS

log = logging.getLogger("gateway.workers")

LEAVE_TIMEOUT = 5.0
"""Seconds that a worker may take to stop accepting."""
REFRESH_TIMEOUT = 1.0
REAP_AGAIN = 0.5


class Elder:
    """One of them."""

    def __init__(self, left: Leaving) -> None:
        self.index = left.index
        self.pid = left.pid
        self.channel = Channel(socket.socket(fileno=left.channel), received=left.received)
        self.metrics: Reading = {}
        self.over: Callable[[], object] = _nothing
        """Called when it has ended."""
        if left.reading:
            self.metrics = marshal.loads(left.reading)[0]  # noqa: S302 - of our own processes

    def take(self, reading: bytes) -> None:
        self.metrics = marshal.loads(reading)[0]  # noqa: S302 - of our own processes


class Elders:
    """All of them. base: what those that have ended had counted.

    take: has connections that were on their way to one of them, and the listener's number.
    """

    def __init__(self, handover: Handover, take: Callable[[int, socket.socket], object]) -> None:
        self.base = handover.base
        self.all = [Elder(left) for left in handover.leaving]
        self._take = take
        self._inboxes = [
            (socket.socket(fileno=sending), socket.socket(fileno=receiving))
            for sending, receiving in handover.inboxes
        ]
        self._zygotes = [(socket.socket(fileno=control), pid) for control, pid in handover.zygotes]

    def __repr__(self) -> str:
        return f"<Elders {[one.pid for one in self.all]}>"

    def start(self, handlers: Mapping[str, Callable[..., Any]]) -> None:
        """Listen to them. handlers: for what they tell of upstreams."""
        for one in self.all:
            for kind in KINDS:
                one.channel.on(kind, handlers.get(kind, _nothing))
            one.channel.on("left", one.take)
            one.channel.on("leaving", _nothing)
            one.channel.start(lambda one=one: self._ended(one))  # type: ignore[misc]

    def readings(self) -> list[Reading]:
        return [self.base, *(one.metrics for one in self.all)]

    async def refresh(self) -> None:
        """Read all of them anew, for at most REFRESH_TIMEOUT."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_TIMEOUT):
                await asyncio.gather(*(self._read(one) for one in tuple(self.all)))

    async def _read(self, one: Elder) -> None:
        with contextlib.suppress(ChannelClosed, ChannelError):
            one.take(await one.channel.ask("reading"))

    def hand_over(self, handover: Handover) -> None:
        """Add those that are left to what the next program gets."""
        for one in self.all:
            passed = one.channel.for_successor()
            if passed is not None:
                reading = marshal.dumps((one.metrics,))
                handover.leaving.append(Leaving(one.index, one.pid, *passed, reading))
        handover.inboxes += [(ours.fileno(), theirs.fileno()) for ours, theirs in self._inboxes]
        handover.zygotes += [(control.fileno(), pid) for control, pid in self._zygotes]
        add(handover.base, self.base)

    async def leave(self) -> None:
        """Have all of them accept nothing more, and end when their connections have."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_TIMEOUT):
                await asyncio.gather(*(self._leave(one) for one in tuple(self.all)))
        if self.all:
            self._deal()
        else:
            self.close()
        log.info("%d worker(s) of the program before finish what they have", len(self.all))

    async def _leave(self, one: Elder) -> None:
        with contextlib.suppress(ChannelClosed, ChannelError):
            await one.channel.ask("leave")

    def stop(self) -> None:
        """Have all of them drain, as the program does that took their place."""
        for one in self.all:
            one.channel.post("stop", 0.0)

    async def ended(self, timeout: float) -> None:
        """Wait until all have, for at most `timeout` seconds."""
        until = monotonic() + timeout
        while self.all and monotonic() < until:  # noqa: ASYNC110 - of other processes
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """End all of them at once."""
        for one in self.all:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)

    def _deal(self) -> None:
        """Take what was handed to one of them and what none of them has taken."""
        for _, inbox in self._inboxes:
            while (message := receive(inbox)) is not None:
                kind, listener, sockets = message
                for sock in sockets:
                    if kind == CONNECTIONS:
                        self._take(listener, sock)
                    else:
                        sock.close()

    def _ended(self, one: Elder) -> None:
        add(self.base, one.metrics, gauges=False)
        self.all.remove(one)
        one.over()
        self._reap(one.pid)
        if not self.all:
            self.close()

    def close(self) -> None:
        """Let go of what they needed, and end those that are left."""
        self._deal()
        for one in tuple(self.all):
            one.channel.close()
        for ends in self._inboxes:
            for end in ends:
                end.close()
        for control, pid in self._zygotes:
            control.close()
            self._reap(pid)
        self._inboxes, self._zygotes = [], []

    def _reap(self, pid: int) -> None:
        """Fetch the exit code of a child, once there is one."""
        try:
            ended, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:  # It is another process's child.
            return
        if not ended:
            asyncio.get_running_loop().call_later(REAP_AGAIN, self._reap, pid)


def _nothing(*body: Any) -> None:
    """Take a message that means nothing here."""
