"""One of several workers: a data plane that does as the supervisor says.

It has the configuration from the supervisor, which has checked it, and its sockets from the zygote.
When the supervisor is gone, it drains and ends.
"""

from __future__ import annotations

import asyncio
import logging
import marshal
import os
import pickle
import signal
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from gateway.config.check.compile import LoadedConfig
from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.lifetime import processlog
from gateway.lifetime.channel import Channel
from gateway.lifetime.heap import settle_process
from gateway.lifetime.logs import logqueue
from gateway.lifetime.logs.writing import take_turns
from gateway.lifetime.process import new_event_loop, raise_file_limit
from gateway.lifetime.signals import STOPPING, Signals
from gateway.lifetime.supervised import Supervised
from gateway.runtime.reload import Prepared, Runtime
from gateway.runtime.services import Services
from gateway.serving.data_plane import DataPlane
from gateway.serving.net.listener import Listener
from gateway.serving.requests import RequestsHere
from gateway.serving.server import Runtime as Serves
from gateway.store.local import LocalStore
from gateway.store.purges import PURGED, PURGES, Purge, Purges
from gateway.supervisor.board import Board
from gateway.supervisor.handoff import Inbox
from gateway.supervisor.shared_listener import SharedListener
from gateway.supervisor.sums.readings import read
from gateway.supervisor.sums.registries import registered
from gateway.upstream.connections.transport import Transport
from gateway.upstream.observer import discover
from gateway.upstream.pool.shared import KINDS

log = logging.getLogger("gateway.workers")

FIXED = 3
"""Descriptors of every worker: its channel, inbox and the board. Listening sockets follow."""
SWEEP = 0.25
"""Seconds between two looks into the inbox that nothing has called for."""


def work(index: int, descriptors: Sequence[int]) -> int:
    """Be worker `index`, in a process that was just forked. Return its exit code."""
    signals = Signals()
    signals.install(STOPPING)
    output = processlog.install(index)
    raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(Worker(index, descriptors, output).run(signals))
    finally:
        logqueue.finish()
    return 0


class Worker:
    """The worker's side of each message; see Crew for the supervisor's."""

    def __init__(
        self, index: int, descriptors: Sequence[int], output: processlog.ProcessLog
    ) -> None:
        channel, inbox, board, *listening = descriptors
        self.index = index
        self.board = Board(board)
        take_turns(board)
        self.channel = Channel(socket.socket(fileno=channel))
        self.inbox = Inbox(index, socket.socket(fileno=inbox), self.board, self._take, self._meet)
        self._sockets = [socket.socket(fileno=one) for one in listening]
        self._output = output
        self._transport = Transport()
        self.local = LocalStore(self.channel)
        services = Services(self._transport, tell=self._tell, local=self.local)
        self.runtime = Runtime(Path(), services, os.environ)
        self.plane = DataPlane(self.runtime, self._listener)
        self._peers: dict[int, socket.socket] = {}
        self._ready = asyncio.Event()
        self._early: list[tuple[str, tuple[Any, ...]]] = []
        """What was told before there was a configuration."""
        self._prepared: Prepared | None = None
        self._sweeps = Supervised("worker_inbox", self.inbox.empty, every=SWEEP)
        self._left = asyncio.Event()
        self._closed = asyncio.Event()
        self._delay: float | None = None
        """Before it stops with the others; None: it leaves, and others go on."""

    async def run(self, signals: Signals) -> None:
        """Serve until the supervisor says to leave, is gone, or TERM."""
        for kind, handler in (
            ("start", self.start),
            ("prepare", self.prepare),
            ("commit", self.commit),
            ("discard", self.discard),
            ("reading", self.reading),
            ("why", self.runtime.services.why.find),
            ("recent", self.runtime.services.why.recent),
            ("explain", RequestsHere(self.runtime).explain),
            ("reopen", self.reopen),
            ("leave", self.leave),
            ("stop", self.stop),
            (PURGED, self.purged),
        ):
            self.channel.on(kind, handler)
        for kind in (*KINDS, "discovered"):
            self.channel.on(kind, partial(self._told, kind))
        self.channel.start(self._orphaned)
        signals.attach(asyncio.get_running_loop(), self._on_signal)
        try:
            await self._left.wait()
        finally:
            await self._leave()

    def _orphaned(self) -> None:
        if not self._left.is_set():
            log.warning("the supervisor is gone: draining")
            self._delay = 0.0
            self._left.set()

    def _on_signal(self, number: int) -> None:
        log.info("%s: draining", signal.Signals(number).name)
        self.channel.post("leaving")
        self._left.set()

    async def _leave(self) -> None:
        if self._ready.is_set():
            config = self.runtime.snapshot.loaded.gateway.server
            if self._delay is not None:
                await self.plane.stop(self._delay, config.shutdown_timeout, self._deaf)
            else:
                await self.plane.leave(config.shutdown_timeout, self._deaf)
        else:
            self._deaf()
        self.board.set_open(self.index, 0)
        self.runtime.stop()
        await self.runtime.registry.closed()  # What was counted goes to the supervisor.
        self.local.close()
        self.channel.post("left", self.reading())
        self.channel.detach()  # It ends with the process, whose logs are still to be written.
        self._transport.close()

    def _deaf(self) -> None:
        """Nothing is accepted any more: not from the inbox, either, but for what is in it."""
        self._sweeps.close()
        self.inbox.empty()
        self.inbox.stop()
        self._closed.set()

    # What the supervisor asks for.

    async def leave(self) -> bool:
        """End while others serve: as soon as nothing is left to do. Answered when it accepts
        nothing any more."""
        self._left.set()
        await self._closed.wait()
        return True

    def stop(self, delay: float) -> None:
        """End with all others, `delay` seconds from now at the earliest; if it leaves already, it
        gives idle connections no more time than that."""
        asyncio.get_running_loop().call_later(delay, self.plane.hurry)
        self._delay = delay
        self._left.set()

    async def start(
        self,
        configuration: bytes,
        known: Sequence[tuple[str, tuple[Any, ...]]],
        listening: int,
        port: int,
    ) -> bytes:
        """Compose the first configuration and serve. Return the problems with it, pickled.

        known: what is known of upstreams. listening: how many sockets are `[listen]`'s; the others
        are its redirect's.
        """
        self._transport.start()
        loaded: LoadedConfig = pickle.loads(configuration)  # noqa: S301 - the supervisor's
        try:
            self.runtime.commit(await self.runtime.prepare(loaded))
        except ConfigErrors as errors:
            return pickle.dumps(tuple(errors.problems))
        early, self._early = self._early, []
        for kind, body in (*known, *early):
            self._told(kind, *body)
        await self.local.ready()
        config = loaded.gateway
        self._output.configure(config.logging.process)
        self.plane.start(config.listen, self._sockets[:listening], self._sockets[listening:], port)
        for listener in self._listeners():
            listener.shared_dealer.peers = self._peers
        self.inbox.start()
        self._sweeps.start(SWEEP)
        settle_process()
        self._ready.set()
        return pickle.dumps(())

    async def prepare(self, configuration: bytes) -> bytes:
        """Compose the next configuration. Return the problems with it, pickled."""
        await self._ready.wait()
        self.discard()
        try:
            self._prepared = await self.runtime.prepare(pickle.loads(configuration))  # noqa: S301
        except ConfigErrors as errors:
            return pickle.dumps(tuple(errors.problems))
        except Exception as error:
            log.exception("a configuration cannot be composed")
            problem = Problem(Path(), 1, 1, f"worker {self.index}: {type(error).__name__}")
            return pickle.dumps((problem,))
        return pickle.dumps(())

    def commit(self) -> None:
        """Put what was prepared into force."""
        prepared, self._prepared = self._prepared, None
        assert prepared is not None
        self.runtime.commit(prepared)
        self._output.configure(self.runtime.snapshot.loaded.gateway.logging.process)
        self.plane.configure()

    def discard(self) -> None:
        """Let go of what was prepared."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            self.runtime.discard(prepared)

    def reopen(self) -> None:
        """Reopen log files."""
        self.runtime.reopen()

    def purged(self, purges: Sequence[tuple[Any, ...]]) -> None:
        """Take over what was purged elsewhere."""
        known: Purges | None = self.runtime.registry.find(PURGES)
        if known is not None:  # Else nothing is cached yet.
            for one in purges:
                known.add(Purge(*one))

    def reading(self) -> bytes:
        """Return what the supervisor shows of this worker: metrics, numbers, health."""
        serves = self._ready.is_set()
        return marshal.dumps(
            (
                read(self.runtime.services.telemetry),
                registered(REGISTRY),
                {
                    "pid": os.getpid(),
                    "connections": self.plane.connections,
                    "in_flight": int(self.runtime.services.telemetry.in_flight.get()),
                    "snapshots_alive": 1 + len(self.runtime.retiring),
                },
                self.runtime.snapshot.health.report() if serves else {},
            )
        )

    # What is known of upstreams.

    def _tell(self, upstream: str, kind: str, body: tuple[Any, ...]) -> None:
        """Pass on what a pool has learnt."""
        self.channel.post(kind, upstream, *body)

    def _told(self, kind: str, upstream: str, *body: Any) -> None:
        """Take over what the supervisor or another worker has learnt."""
        snapshot = getattr(self.runtime, "snapshot", None)
        if snapshot is None:
            self._early.append((kind, (upstream, *body)))
        elif upstream in snapshot.pools:
            if kind == "discovered":
                found = pickle.loads(*body)  # noqa: S301 - the supervisor's
                discover(snapshot.pools[upstream], found, self._transport, snapshot.upstream_tls)
            else:
                snapshot.pools[upstream].take_over(kind, *body)

    # Connections.

    def _listener(self, runtime: Serves, name: str = "data") -> Listener:
        return SharedListener(runtime, name, self.index, len(self.plane.listeners), self.board)

    def _listeners(self) -> list[SharedListener]:
        return [one for one in self.plane.listeners if isinstance(one, SharedListener)]

    def _take(self, listener: int, accepted: socket.socket) -> None:
        listeners = self._listeners()
        if listener < len(listeners):
            listeners[listener].take(accepted)
        else:
            accepted.close()

    def _meet(self, worker: int, inbox: socket.socket) -> None:
        """Know the inbox of another worker from now on."""
        before = self._peers.pop(worker, None)
        if before is not None:
            before.close()
        inbox.setblocking(False)
        self._peers[worker] = inbox
