"""A gateway of several workers: it serves no traffic, and does once what workers need not do each.

It compiles every configuration first, opens the sockets, keeps the workers alive, observes the
upstreams, and answers operators for all of them.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from gateway.app import Gateway
from gateway.config.tables.server import GatewayConfig, ListenConfig
from gateway.config.toml.problems import ConfigErrors
from gateway.lifetime.notify import ServiceManager
from gateway.lifetime.sockets import Sockets
from gateway.runtime.check import check
from gateway.store.purges import PURGED, Purge
from gateway.supervisor.crew import Crew
from gateway.supervisor.keeper import Keeper
from gateway.supervisor.member import Member, ask_all
from gateway.supervisor.replacement.execution import execute
from gateway.supervisor.replacement.handover import Handover
from gateway.supervisor.requests import RequestsOfWorkers
from gateway.supervisor.sums import registries
from gateway.supervisor.sums.readings import read, telemetry_of, total
from gateway.supervisor.sums.registries import Shown, registered
from gateway.supervisor.sums.reports import merged
from gateway.supervisor.worker import work
from gateway.supervisor.zygote import Zygote
from gateway.upstream.pool.endpoint import Address
from gateway.upstream.pool.pool import Pool
from gateway.upstream.pool.shared import KINDS, Message

log = logging.getLogger("gateway.workers")


def start_zygote(path: Path, environ: Mapping[str, str], without: Sequence[int] = ()) -> Zygote:
    """Fork the process that workers are forked from. Call it without a loop and threads.

    without: descriptors that are for this process alone.
    """

    def preload() -> None:
        """Import what the configuration needs."""
        try:
            check(path, environ)
        except ConfigErrors:  # The supervisor reports them.
            pass

    return Zygote.start(preload, work, without)


AGAIN = 10.0
"""Seconds between two attempts to begin again without a process to fork workers from."""
KEPT = "kept"
"""The part of a handover that the keeper's state is."""


class Supervisor(Gateway):
    """A Gateway whose data plane is the workers'."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        zygote: Zygote,
        manager: ServiceManager | None = None,
        sockets: Sockets | None = None,
        handover: Handover | None = None,
    ) -> None:
        super().__init__(path, environ, manager, sockets, handover)
        self._own = self.telemetry
        self.keeper = Keeper(self.runtime.registry)
        self.crew = Crew(zygote, self.keeper, self.telemetry.worker_restarts)
        self.crew.known, self.crew.learnt = self._known, self._learnt
        self.runtime.followers, self.runtime.serves = self.crew, False
        self.requests = RequestsOfWorkers(self.crew)
        self.crew.recent = self.requests.recent
        self.observer.tell = self._seen
        zygote.gone = self._cannot_fork

    def _kill(self) -> None:
        super()._kill()
        self.crew.kill()

    async def _accept(
        self, listen: ListenConfig, sockets: list[socket.socket], redirected: list[socket.socket]
    ) -> None:
        crew = self.crew
        crew.listening, crew.redirected, crew.port = sockets, redirected, self.port
        await crew.start(self.runtime.snapshot.loaded)

    async def _drain(self, delay: float, timeout: float) -> None:
        crew = self.crew
        await crew.stop(delay, self.sockets.remove_files)
        for one in (*crew.listening, *crew.redirected):
            one.close()
        self.keeper.close()

    def reopen(self) -> None:
        super().reopen()
        self.crew.post("reopen")

    # A new program in this process's place.

    def _give(self, listener: int, accepted: socket.socket) -> None:
        self.crew.give(listener, accepted)

    def _inherit_kept(self) -> None:
        super()._inherit_kept()
        kept = self._handover.parts.get(KEPT) if self._handover is not None else None
        if kept is not None:
            self.keeper.load_state(kept)

    def _inherit(self, config: GatewayConfig) -> None:
        super()._inherit(config)
        if self.elders is not None:
            for one in self.elders.all:
                self.keeper.serve(one.channel, one.pid)
                one.over = partial(self.keeper.forget, one.channel, one.pid)

    def _told_by_elders(self) -> Mapping[str, Callable[..., object]]:
        return {kind: partial(self._learnt, None, kind) for kind in KINDS}

    def _cannot_fork(self) -> None:
        """Workers that end can be replaced no more: let the program begin again, with workers of
        its own, until it does. A process with a loop and threads cannot be forked from."""
        if self._draining:
            return
        log.error("the process that workers are forked from has ended: the program begins again")
        self._on_signal(signal.SIGUSR2)
        asyncio.get_running_loop().call_later(AGAIN, self._cannot_fork)

    def _execute(self) -> None:
        execute(self.handover)

    def handover(self) -> Handover:
        made = super().handover()
        self.crew.hand_over(made)
        made.parts[KEPT] = self.keeper.dump_state()
        return made

    # What is known of upstreams.

    def _known(self) -> list[Message]:
        """Return what a worker that begins has to be told."""
        return [
            (kind, (name, *body))
            for name, pool in self.runtime.snapshot.pools.items()
            for kind, body in (*self._found(pool), *pool.known())
        ]

    def _found(self, pool: Pool) -> Iterator[Message]:
        if pool.found:
            yield "discovered", (pickle.dumps(pool.found),)

    def _seen(self, kind: str, pool: Pool, what: Any) -> None:
        """Tell the workers what was observed."""
        if kind == "discovered":
            self.crew.post(kind, pool.name, pickle.dumps(what))
        else:
            kind, body = pool.checked(what)
            self.crew.post(kind, pool.name, *body)

    def _learnt(self, one: Member | None, kind: str, upstream: str, *body: Any) -> None:
        """A worker has ejected an endpoint, or its circuit has changed: tell the others.

        Ejections that are too many for all of them together are taken back.
        """
        pool = self.runtime.snapshot.pools.get(upstream)
        if pool is None:
            return
        if pool.take_over(kind, *body):
            self.crew.post(kind, upstream, *body, but=one)
        elif one is not None and one.channel is not None:
            one.channel.post("returned", upstream, body[0])

    # What the admin application asks for.

    def ready(self) -> bool:
        serves = any(one.serving for one in self.crew.members.values())
        return super().ready() and (serves or self.elders is not None)

    def reset_circuit(self, name: str) -> bool | None:
        done = super().reset_circuit(name)
        if done:
            self.crew.post("reset", name)
        return done

    async def purge(self, purges: Sequence[Purge]) -> bool:
        await ask_all(self.crew.members.values(), PURGED, [tuple(one) for one in purges])
        return await super().purge(purges)

    def drain(self, name: str, url: str, drained: bool) -> bool | None:
        done = super().drain(name, url, drained)
        if done:
            self.crew.post("drained", name, tuple(Address.of(url)), drained)
        return done

    def health(self) -> dict[str, Any]:
        return merged(super().health(), [one.health for one in self.crew.members.values()])

    async def refresh(self) -> None:
        await self.crew.refresh()
        readings = [read(self._own), *self.crew.readings()]
        if self.elders is not None:
            await self.elders.refresh()
            readings += self.elders.readings()
        self.telemetry = telemetry_of(total(readings))
        self.others = Shown(registries.total(registered(REGISTRY), self.crew.registries()))

    def status(self) -> dict[str, Any]:
        members = [self.crew.members[index] for index in sorted(self.crew.members)]
        said = super().status()
        for name in ("connections", "in_flight"):
            said[name] = sum(one.numbers.get(name, 0) for one in members)
        alive = (one.numbers.get("snapshots_alive", 1) for one in members)
        said["snapshots_alive"] = max([said["snapshots_alive"], *alive])
        said["workers"] = [one.status() for one in members]
        return said
