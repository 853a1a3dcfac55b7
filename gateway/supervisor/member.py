"""One worker, as the supervisor knows it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterable
from time import monotonic
from typing import Any

from gateway.lifetime.channel import Channel, ChannelClosed, ChannelError
from gateway.supervisor.sums.readings import Reading
from gateway.supervisor.sums.registries import Registered

log = logging.getLogger("gateway.workers")

ANSWER_TIMEOUT = 1.0
"""Seconds that a question to all workers waits at most."""


class Member:
    """Worker `index`, whichever process it is at the moment.

    channel: None while there is no process. serving: it has begun to. leaving: it is not to be
    started again. owed: readings asked for since the last answer. began: the first start has
    ended, with `problem`. over: the process is gone.
    """

    def __init__(self, index: int) -> None:
        self.index = index
        self.pid = 0
        self.channel: Channel | None = None
        self.serving = False
        self.leaving = False
        self.problem: Exception | None = None
        self.owed = 0
        self.failures = 0
        self.restarts = 0
        self.since = monotonic()
        self.metrics: Reading = {}
        self.registered: Registered = {}
        self.numbers: dict[str, Any] = {}
        self.health: dict[str, Any] = {}
        self.began = asyncio.Event()
        self.over = asyncio.Event()

    def __repr__(self) -> str:
        state = "leaving" if self.leaving else "serving" if self.serving else "starting"
        return f"<Member {self.index} pid {self.pid} {state}>"

    def ended(self) -> None:
        """The channel has ended, and so has the process, or it is about to."""
        self.channel = None
        self.serving = False
        self.over.set()

    def kill(self) -> None:
        """End the process at once; harmless if it has ended."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):  # Its end is yet to be heard of.
                os.kill(self.pid, signal.SIGKILL)

    def forget(self) -> None:
        """Drop the readings of a process that has ended."""
        self.metrics, self.registered, self.numbers, self.health = {}, {}, {}, {}

    def status(self) -> dict[str, Any]:
        """Plain values for the admin API."""
        return {
            "worker": self.index,
            "pid": self.pid,
            "serving": self.serving,
            "restarts": self.restarts,
            "connections": self.numbers.get("connections", 0),
            "in_flight": self.numbers.get("in_flight", 0),
        }


def log_end(one: Member | None, pid: int, status: int) -> None:
    """Log how a worker's process ended; nothing if it was to. status: as of waitpid."""
    name = "a worker" if one is None else f"worker {one.index}"
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        log.warning("%s (pid %d) was ended by %s", name, pid, signal.Signals(-code).name)
    elif code or one is None or not one.leaving:
        log.info("%s (pid %d) has ended with %d", name, pid, code)


async def ask_all(members: Iterable[Member], kind: str, *body: Any) -> list[Any]:
    """Ask all workers that serve; return the answers of those that give one in time."""
    waits = [
        asyncio.ensure_future(_answers(one.channel, kind, body))
        for one in members
        if one.serving and one.channel is not None
    ]
    if not waits:
        return []
    done, _ = await asyncio.wait(waits, timeout=ANSWER_TIMEOUT)
    return [answer for one in done for answer in one.result()]


async def _answers(channel: Channel, kind: str, body: tuple[Any, ...]) -> list[Any]:
    """Return a worker's answer; nothing if it has ended or failed."""
    with contextlib.suppress(ChannelClosed, ChannelError):
        return [await channel.ask(kind, *body)]
    return []
