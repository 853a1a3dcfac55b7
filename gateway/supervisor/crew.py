"""The workers: started, watched, replaced when they end, and told what all of them have to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import marshal
import os
import pickle
import signal
import socket
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any

from gateway.config.check.compile import LoadedConfig
from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.lifetime.channel import Channel, ChannelClosed, ChannelError, pair
from gateway.lifetime.process import worker_count
from gateway.lifetime.supervised import Supervised
from gateway.supervisor.board import Board, create
from gateway.supervisor.handoff import CONNECTIONS, PEER, inbox, receive, send
from gateway.supervisor.keeper import Keeper
from gateway.supervisor.member import Member
from gateway.supervisor.readings import Reading, add
from gateway.supervisor.restarts import failures, pause
from gateway.supervisor.zygote import Zygote
from gateway.upstream.pool.shared import KINDS

log = logging.getLogger("gateway.workers")

PULL = 1.0
"""Seconds between two readings of a worker, which are its signs of life too."""
AWAY_AFTER = 3
"""Readings a worker may owe before others get its connections; and before it is ended."""
KILL_AFTER = 30
TAKE_TIMEOUT = 60.0
"""Seconds that workers may take to start, or to compose a configuration."""
END_TIMEOUT = 10.0
"""Seconds a worker may take to end after it has drained: logs are written."""
FRESH_TIMEOUT = 1.0
"""Seconds that a question for fresh readings waits at most."""


class Crew:
    """All workers. `listening` and `redirected` are the sockets that they share; `port` is the
    first's."""

    def __init__(self, zygote: Zygote, keeper: Keeper) -> None:
        self.known: Callable[[], list[tuple[str, tuple[Any, ...]]]] = list
        """Returns what is known of upstreams, as messages."""
        self.learnt: Callable[..., object] = lambda one, kind, *body: None
        """Takes what a worker has learnt of an upstream."""
        self.members: dict[int, Member] = {}
        self.listening: Sequence[socket.socket] = ()
        self.redirected: Sequence[socket.socket] = ()
        self.port = 0
        self.base: Reading = {}
        """What workers that have ended had counted."""
        self._keeper = keeper
        self._zygote = zygote
        zygote.ended = self._reaped
        self._board = Board(create())
        self._inboxes: list[tuple[socket.socket, socket.socket]] = []
        self._loaded: LoadedConfig | None = None
        self._configuration = b""
        self._next: tuple[LoadedConfig, bytes, dict[Member, Channel]] | None = None
        self._pulls = Supervised("workers", self._pull, every=PULL)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Crew {list(self.members.values())}>"

    async def start(self, loaded: LoadedConfig) -> None:
        """Start the workers, and wait until all serve. Raises ConfigErrors or OSError."""
        self._zygote.attach()
        self._loaded, self._configuration = loaded, pickle.dumps(loaded)
        self._resize(worker_count(loaded.gateway.server))
        await asyncio.wait(
            [asyncio.ensure_future(one.began.wait()) for one in self.members.values()]
        )
        for one in self.members.values():
            if one.problem is not None:
                raise one.problem
        self._pulls.start(PULL)

    async def stop(self, delay: float, closing: Callable[[], object]) -> None:
        """Have all workers drain and end; call `closing` after `delay`, when they accept nothing
        new."""
        self._stopping = True
        self._pulls.close()
        asyncio.get_running_loop().call_later(delay, closing)
        await asyncio.gather(*(self._dismiss(one) for one in tuple(self.members.values())))
        closing()
        for task in tuple(self._tasks):
            task.cancel()
        self._zygote.close()

    def kill(self) -> None:
        """End all workers at once."""
        for one in self.members.values():
            one.kill()

    def post(self, kind: str, *body: Any, but: Member | None = None) -> None:
        """Send a message to all workers, except one."""
        for one in self.members.values():
            if one.channel is not None and one is not but:
                one.channel.post(kind, *body)

    # Configurations: see Followers.

    async def prepare(self, loaded: LoadedConfig) -> None:
        """Have every worker compose it. Raises ConfigErrors with what any of them found."""
        if self._loaded is None:  # the first one, which workers are started with
            return
        configuration = pickle.dumps(loaded)
        asked = {one: one.channel for one in self.members.values() if one.channel is not None}
        answers = await asyncio.gather(
            *(self._prepare(one, channel, configuration) for one, channel in asked.items())
        )
        problems = list(dict.fromkeys(problem for found in answers for problem in found))
        if problems:
            for channel in asked.values():
                channel.post("discard")
            raise ConfigErrors(problems)
        self._next = loaded, configuration, asked

    async def _prepare(
        self, one: Member, channel: Channel, configuration: bytes
    ) -> Sequence[Problem]:
        why = ""
        try:
            async with asyncio.timeout(TAKE_TIMEOUT):
                answer = await channel.ask("prepare", configuration)
            problems: Sequence[Problem] = pickle.loads(answer)  # noqa: S301 - of our own process
            return problems
        except TimeoutError:
            why = f"did not compose it within {TAKE_TIMEOUT:g} s"
        except ChannelClosed:
            why = "ended while it composed it"
        except ChannelError as error:
            why = f"cannot compose it: {error}"
        assert self._loaded is not None
        return [Problem(self._loaded.files[0], 1, 1, f"worker {one.index} {why}")]

    async def commit(self) -> None:
        """Have every worker put into force what it has prepared. One that fails is replaced."""
        if self._next is None:
            return
        (self._loaded, self._configuration, asked), self._next = self._next, None
        await asyncio.gather(
            *(
                self._commit(one, one.channel, asked.get(one) is one.channel)
                for one in self.members.values()
                if one.channel is not None
            )
        )
        for kind, body in self.known():  # some may have come before the pools that it is about
            self.post(kind, *body)
        number = worker_count(self._loaded.gateway.server)
        if number > 1:  # else that waits for a restart
            self._resize(number)

    async def _commit(self, one: Member, channel: Channel, prepared: bool) -> None:
        """A worker that was started meanwhile, with the old one, prepares it first."""
        try:
            if not prepared and await self._prepare(one, channel, self._configuration):
                raise ChannelError("it cannot compose what the others have in force")
            async with asyncio.timeout(TAKE_TIMEOUT):
                await channel.ask("commit")
        except ChannelClosed:
            pass
        except (ChannelError, TimeoutError) as error:
            log.error(
                "worker %d is replaced: it did not take the configuration: %s",
                one.index,
                error or "it does not answer",
            )
            one.kill()

    # Readings.

    async def refresh(self) -> None:
        """Read all workers anew."""
        waits = [self._read(one) for one in self.members.values() if one.serving]
        if waits:
            await asyncio.wait([asyncio.ensure_future(one) for one in waits], timeout=FRESH_TIMEOUT)

    def readings(self) -> list[Reading]:
        """Return what ended workers have counted, and the last readings of the others."""
        return [self.base, *(one.metrics for one in self.members.values())]

    def _pull(self) -> None:
        for one in self.members.values():
            if one.serving:
                if one.owed:
                    self._owes(one)
                self._run(self._read(one))

    async def _read(self, one: Member) -> None:
        channel = one.channel
        if channel is None:
            return
        one.owed += 1
        with contextlib.suppress(ChannelClosed, ChannelError):
            self._take_reading(one, await channel.ask("reading"))

    def _take_reading(self, one: Member, reading: bytes) -> None:
        if one.owed >= AWAY_AFTER and not one.leaving:
            log.info("worker %d answers again", one.index)
            self._board.set_away(one.index, False)
        one.owed = 0
        said = marshal.loads(reading)  # noqa: S302 - of our own process
        one.metrics, one.numbers, one.health = said

    def _owes(self, one: Member) -> None:
        """A worker has not answered lately."""
        if one.owed == AWAY_AFTER:
            log.warning("worker %d does not answer: others get its connections", one.index)
            self._board.set_away(one.index, True)
        if one.owed >= AWAY_AFTER:
            self._deal_again(one)
        if one.owed == KILL_AFTER:
            log.error(
                "worker %d is replaced: it has not answered for %g s", one.index, KILL_AFTER * PULL
            )
            one.kill()

    # Processes.

    def _resize(self, number: int) -> None:
        """Have so many workers."""
        for index in range(number):
            if index not in self.members:
                if index == len(self._inboxes):
                    self._inboxes.append(inbox())
                one = self.members[index] = Member(index)
                self._board.set_away(index, False)
                for other in self.members.values():
                    if other is not one:
                        self._introduce(index, other.index)
                self._run(self._keep(one))
        for index in [index for index in self.members if index >= number]:
            self._run(self._dismiss(self.members[index]))

    def _introduce(self, index: int, to: int) -> None:
        send(self._inboxes[to][0], PEER, index, [self._inboxes[index][0].fileno()])

    async def _keep(self, one: Member) -> None:
        """Start a worker again and again, until it is dismissed."""
        while not one.leaving:
            one.problem = await self._begin(one)
            since = monotonic()
            if one.problem is None and one.restarts:
                log.info("worker %d serves, pid %d", one.index, one.pid)
            one.began.set()
            if one.problem is not None:
                if not one.leaving:
                    log.error("worker %d did not start: %s", one.index, one.problem)
                one.kill()
            await one.over.wait()
            self._account(one)
            one.failures = failures(
                one.failures, monotonic() - since if one.problem is None else None
            )
            if not one.leaving:
                one.restarts += 1
                await asyncio.sleep(pause(one.failures))

    async def _begin(self, one: Member) -> Exception | None:
        """Fork a worker and have it serve; return what was wrong."""
        ours, theirs = pair()
        for other in self.members.values():
            if other is not one:
                self._introduce(other.index, one.index)
        shared = [sock.fileno() for sock in (*self.listening, *self.redirected)]
        mine = [theirs.fileno(), self._inboxes[one.index][1].fileno(), self._board.descriptor]
        try:
            one.over.clear()
            one.pid = await self._zygote.fork(one.index, [*mine, *shared])
        except OSError as error:
            ours.close()
            one.over.set()
            return error
        finally:
            theirs.close()
        channel = one.channel = Channel(ours)
        channel.on("left", lambda reading: self._take_reading(one, reading))
        for kind in KINDS:
            channel.on(kind, partial(self.learnt, one, kind))
        channel.on("leaving", lambda: self._board.set_away(one.index, True))
        pid = one.pid
        self._keeper.serve(channel, pid)

        def ended() -> None:
            self._keeper.forget(channel, pid)
            one.ended()

        channel.start(ended)
        try:
            async with asyncio.timeout(TAKE_TIMEOUT):
                answer = await channel.ask(
                    "start", self._configuration, self.known(), len(self.listening), self.port
                )
        except TimeoutError:
            return OSError("it does not come to serve")
        except ChannelClosed:
            return OSError("it ended")
        except ChannelError as error:
            return OSError(str(error))
        problems = pickle.loads(answer)  # noqa: S301 - of our own process
        if problems:
            return ConfigErrors(list(problems))
        self._board.set_away(one.index, False)
        one.owed = 0
        one.serving = True
        return None

    def _account(self, one: Member) -> None:
        """Keep what a worker that has ended had counted."""
        add(self.base, one.metrics, gauges=False)
        one.forget()
        self._board.set_open(one.index, 0)

    async def _dismiss(self, one: Member) -> None:
        """Have a worker drain and end; others get what waits for it."""
        one.leaving = True
        self._board.set_away(one.index, True)
        if one.channel is not None:
            assert self._loaded is not None
            config = self._loaded.gateway.server
            one.channel.post("leave")
            try:
                async with asyncio.timeout(
                    config.shutdown_delay + config.shutdown_timeout + END_TIMEOUT
                ):
                    await one.over.wait()
            except TimeoutError:
                log.error("worker %d does not end: it is killed", one.index)
                one.kill()
                await one.over.wait()
        if not self._stopping:
            self._deal_again(one)
            del self.members[one.index]

    def _deal_again(self, one: Member) -> None:
        """Hand connections that wait for a worker to the others."""
        others = [other.index for other in self.members.values() if other.serving]
        others = [index for index in others if index != one.index]
        while others and (message := receive(self._inboxes[one.index][1])) is not None:
            kind, number, sockets = message
            loads = self._board.loads(max(others) + 1)
            best = min(others, key=lambda index: loads.get(index, 1 << 62))
            if kind == CONNECTIONS:
                send(self._inboxes[best][0], kind, number, [sock.fileno() for sock in sockets])
            for sock in sockets:
                sock.close()

    def _reaped(self, pid: int, status: int) -> None:
        """A worker's process has ended."""
        one = next((one for one in self.members.values() if one.pid == pid), None)
        if one is not None:
            one.pid = 0
        name = f"worker {one.index}" if one is not None else "a worker"
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            log.warning("%s (pid %d) was ended by %s", name, pid, signal.Signals(-code).name)
        elif code or one is None or not one.leaving:
            log.info("%s (pid %d) has ended with %d", name, pid, code)

    def _run(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("work on a worker failed", exc_info=task.exception())
