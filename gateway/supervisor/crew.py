"""The workers: started, watched, replaced when they end, and told what all of them have to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import marshal
import pickle
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any

from gateway.config.check.compile import LoadedConfig
from gateway.config.toml.problems import ConfigErrors
from gateway.core.telemetry import Family
from gateway.lifetime.channel import Channel, ChannelClosed, ChannelError, pair
from gateway.lifetime.logs.writing import take_turns
from gateway.lifetime.process import worker_count
from gateway.lifetime.supervised import Supervised
from gateway.supervisor.agreement import TAKE_TIMEOUT, Agreement
from gateway.supervisor.board import Board, create
from gateway.supervisor.handoff import CONNECTIONS, PEER, inbox, receive, send
from gateway.supervisor.heartbeats import AWAY_AFTER, PULL, Verdict, verdict
from gateway.supervisor.keeper import Keeper
from gateway.supervisor.member import Member, log_end
from gateway.supervisor.replacement.handover import Handover, Leaving
from gateway.supervisor.restarts import failures, pause
from gateway.supervisor.sums import registries
from gateway.supervisor.sums.readings import Reading, add, give_up
from gateway.supervisor.sums.registries import Registered
from gateway.supervisor.zygote import Zygote
from gateway.upstream.pool.shared import KINDS

log = logging.getLogger("gateway.workers")

END_TIMEOUT = 10.0
"""Seconds a worker may take to end after it has drained: logs are written."""
FRESH_TIMEOUT = 1.0
"""Seconds that a question for fresh readings waits at most."""


class Crew:
    """All workers. `listening` and `redirected` are the sockets that they share; `port` is the
    first's."""

    def __init__(self, zygote: Zygote, keeper: Keeper, restarts: Family) -> None:
        """keeper: answers for what is kept once for all. restarts: counts workers that were started
        again."""
        self.restarts = restarts
        self.registered: Registered = {}
        """What the default registries of workers that have ended had counted."""
        self.known: Callable[[], list[tuple[str, tuple[Any, ...]]]] = list
        """Returns what is known of upstreams, as messages."""
        self.learnt: Callable[..., object] = lambda one, kind, *body: None
        """Takes what a worker has learnt of an upstream."""
        self.recent: Callable[..., Awaitable[object]] | None = None
        """Gives the last requests of all workers that failed, to one of them."""
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
        take_turns(self._board.descriptor)
        self._inboxes: list[tuple[socket.socket, socket.socket]] = []
        self.agreement = Agreement()
        self._pulls = Supervised("workers", self._pull, every=PULL)
        self._processes: dict[int, Member] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wanted = 0
        self._stopping = False

    def __repr__(self) -> str:
        return f"<Crew {list(self.members.values())}>"

    async def start(self, loaded: LoadedConfig) -> None:
        """Start the workers, and wait until all serve. Raises ConfigErrors or OSError."""
        self._zygote.attach()
        self.agreement.begin(loaded)
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
        await asyncio.gather(*(self._stop(one, delay) for one in tuple(self.members.values())))
        closing()
        for task in tuple(self._tasks):
            task.cancel()
        self._zygote.close()

    def hand_over(self, handover: Handover) -> None:
        """Add what a program that takes this one's place needs."""
        for one in self.members.values():
            passed = one.channel.for_successor() if one.serving and one.channel else None
            if passed is None:
                one.kill()
                add(handover.base, one.metrics, gauges=False)
                continue
            reading = marshal.dumps((one.metrics, one.registered))
            handover.leaving.append(Leaving(one.index, one.pid, *passed, reading))
        handover.inboxes += [(ours.fileno(), theirs.fileno()) for ours, theirs in self._inboxes]
        handover.zygotes.append((self._zygote.control.fileno(), self._zygote.pid))
        add(handover.base, self.base)

    def give(self, listener: int, accepted: socket.socket) -> None:
        """Hand a connection to the worker with the fewest."""
        loads = self._board.loads(len(self._inboxes))
        if loads:
            best = min(loads, key=loads.__getitem__)
            send(self._inboxes[best][0], CONNECTIONS, listener, [accepted.fileno()])
        accepted.close()

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
        await self.agreement.prepare(loaded, self.members.values())

    async def commit(self) -> None:
        """Have every worker put into force what it has prepared. One that fails is replaced."""
        if not await self.agreement.commit(self.members.values()):
            return
        for kind, body in self.known():  # some may have come before the pools that it is about
            self.post(kind, *body)
        number = worker_count(self.agreement.loaded.gateway.server)
        if number > 1:  # else that waits for a restart
            self._resize(number)

    # Readings.

    async def refresh(self) -> None:
        """Read all workers anew."""
        waits = [self._read(one) for one in self.members.values() if one.serving]
        if waits:
            await asyncio.wait([asyncio.ensure_future(one) for one in waits], timeout=FRESH_TIMEOUT)

    def readings(self) -> list[Reading]:
        """Return what ended workers have counted, and the last readings of the others."""
        return [self.base, *(one.metrics for one in self.members.values())]

    def registries(self) -> list[Registered]:
        """As `readings`, of the default registries."""
        return [self.registered, *(one.registered for one in self.members.values())]

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
        if verdict(one.owed) is not Verdict.WELL and not one.leaving:
            log.info("worker %d answers again", one.index)
            self._board.set_away(one.index, False)
        one.owed = 0
        said = marshal.loads(reading)  # noqa: S302 - of our own process
        others = [other.metrics for other in self.members.values() if other is not one]
        give_up(self.base, one.metrics, said[0], others)
        one.metrics, one.registered, one.numbers, one.health = said

    def _owes(self, one: Member) -> None:
        """A worker has not answered lately."""
        found = verdict(one.owed)
        if found is Verdict.WELL:
            return
        if one.owed == AWAY_AFTER:
            log.warning("worker %d does not answer: others get its connections", one.index)
            self._board.set_away(one.index, True)
        self._deal_again(one)
        if found is Verdict.KILL:
            log.error("worker %d is replaced: it owes %d answers", one.index, one.owed)
            one.kill()

    # Processes.

    def _resize(self, number: int) -> None:
        """Have so many workers, but none that is new once all of them stop. One whose predecessor
        is leaving comes when that has ended."""
        self._wanted = number
        for index in range(0 if self._stopping else number):
            if index not in self.members:
                if index == len(self._inboxes):
                    self._inboxes.append(inbox())
                one = self.members[index] = Member(index)
                self._board.set_away(index, False)
                for other in self.members.values():
                    if other is not one:
                        self._introduce(index, other.index)
                self._run(self._keep(one))
        for index, one in self.members.items():
            if index >= number and not one.leaving:
                self._run(self._dismiss(one))

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
                self.restarts.add()
                await asyncio.sleep(pause(one.failures))

    async def _begin(self, one: Member) -> Exception | None:
        """Fork a worker and have it serve; return what was wrong."""
        try:
            channel = await self._fork(one)
        except OSError as error:
            return error
        try:
            async with asyncio.timeout(TAKE_TIMEOUT):
                answer = await channel.ask(
                    "start",
                    self.agreement.configuration,
                    self.known(),
                    len(self.listening),
                    self.port,
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

    async def _fork(self, one: Member) -> Channel:
        """Return the channel of a new worker. Raises OSError."""
        ours, theirs = pair()
        for other in self.members.values():
            if other is not one:
                self._introduce(other.index, one.index)
        shared = [sock.fileno() for sock in (*self.listening, *self.redirected)]
        mine = [theirs.fileno(), self._inboxes[one.index][1].fileno(), self._board.descriptor]
        one.over.clear()
        one.pid = 0  # The one before has ended, and others may get its number.
        try:
            pid = one.pid = await self._zygote.fork(one.index, [*mine, *shared])
        except OSError:
            ours.close()
            one.over.set()
            raise
        finally:
            theirs.close()
        if one.leaving:  # It was dismissed meanwhile, and ends when its channel does.
            ours.close()
            one.over.set()
            raise OSError("it is not needed any more")
        self._processes[pid] = one
        channel = one.channel = Channel(ours)
        channel.on("left", lambda reading: self._take_reading(one, reading))
        for kind in KINDS:
            channel.on(kind, partial(self.learnt, one, kind))
        if self.recent is not None:
            channel.on("everyones", self.recent)
        channel.on("leaving", lambda: self._board.set_away(one.index, True))
        self._keeper.serve(channel, pid)

        def ended() -> None:
            self._keeper.forget(channel, pid)
            one.ended()
            if self._zygote.lost:  # It says no more when a number is free for others.
                one.pid = 0

        channel.start(ended)
        return channel

    def _account(self, one: Member) -> None:
        """Keep what a worker that has ended had counted."""
        add(self.base, one.metrics, gauges=False)
        registries.add(self.registered, one.registered, gauges=False)
        one.forget()
        self._board.forget(one.index)

    async def _dismiss(self, one: Member) -> None:
        """Have a worker drain and end while others go on; they get what waits for it."""
        one.leaving = True
        self._board.set_away(one.index, True)
        if one.channel is not None:
            with contextlib.suppress(ChannelClosed, ChannelError):
                await one.channel.ask("leave")
        self._deal_again(one)
        await self._end(one, 0)
        self._deal_again(one)
        del self.members[one.index]
        self._resize(self._wanted)

    async def _stop(self, one: Member, delay: float) -> None:
        """Have a worker end with all the others."""
        one.leaving = True
        if one.channel is not None:
            one.channel.post("stop", delay)
        await self._end(one, delay)

    async def _end(self, one: Member, delay: float) -> None:
        """Wait until a worker that is to end has, and end it if it takes too long."""
        if one.channel is None:
            return
        timeout = self.agreement.loaded.gateway.server.shutdown_timeout
        try:
            async with asyncio.timeout(delay + timeout + END_TIMEOUT):
                await one.over.wait()
        except TimeoutError:
            log.error("worker %d does not end: it is killed", one.index)
            one.kill()
            await one.over.wait()

    def _deal_again(self, one: Member) -> None:
        """Hand connections that wait for a worker to the others."""
        while (message := receive(self._inboxes[one.index][1])) is not None:
            kind, listener, sockets = message
            for sock in sockets:
                if kind == CONNECTIONS:
                    self.give(listener, sock)
                else:
                    sock.close()

    def _reaped(self, pid: int, status: int) -> None:
        """A worker's process has ended."""
        one = self._processes.pop(pid, None)
        if one is not None and one.pid == pid:  # else its successor is there already
            one.pid = 0
        log_end(one, pid, status)

    def _run(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("work on a worker failed", exc_info=task.exception())
