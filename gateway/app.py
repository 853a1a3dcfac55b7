"""One gateway: the runtime, its listeners, and how it begins and ends.

TERM and INT drain and stop, HUP reloads, USR1 reopens log files, USR2 replaces the program.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic, time
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from gateway import __version__, described_version, is_compiled
from gateway.admin.listeners import AdminListeners
from gateway.builtins.usage import usage_of
from gateway.config.check.in_force import described
from gateway.config.tables.addresses import ListenAddress
from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.server import ListenConfig
from gateway.config.tables.targets import ServiceConfig
from gateway.lifetime import processlog
from gateway.lifetime.heap import settle_process
from gateway.lifetime.notify import ServiceManager
from gateway.lifetime.signals import STOPPING, Signals
from gateway.lifetime.sockets import Sockets, address_of, bind, port_of
from gateway.lifetime.watch import Changes, with_neighbours
from gateway.runtime.diff import restarts
from gateway.runtime.reload import Outcome, Runtime
from gateway.runtime.services import Services
from gateway.serving.data_plane import DataPlane
from gateway.serving.requests import RequestsHere
from gateway.store.purges import PURGES, Purge, everywhere
from gateway.supervisor.replacement.replaceable import Replaceable
from gateway.upstream.connections.transport import Transport
from gateway.upstream.observer import Observer
from gateway.usage.ledger_local import METER as USAGE

log = logging.getLogger("gateway")

RELOADS_SHOWN = 20
"""Reloads that are remembered for operators."""
LINES_SHOWN = 50
"""Changes and problems of each."""
END_TIMEOUT = 15.0
"""Seconds that a stop needs at most after requests have ended: admin calls, logs, the store."""


class Gateway(Replaceable):
    """One gateway: its runtime, its listeners, and answers for the admin application
    (AdminState)."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        manager: ServiceManager | None = None,
        sockets: Sockets | None = None,
        handover: Any = None,
    ) -> None:
        """manager: who is told of starts, reloads and the end. sockets: listening sockets of
        another process, used before any is bound. handover: what the program before has left."""
        self.manager = manager or ServiceManager()
        self.sockets = sockets or Sockets()
        self.transport = Transport()
        services = Services(self.transport)
        self.observer = Observer(self.transport, environ)
        self.runtime = Runtime(path, services, environ, self.observer)
        self.telemetry = self.runtime.services.telemetry
        self.requests: Any = RequestsHere(self.runtime)
        self._started = monotonic()
        self.plane = DataPlane(self.runtime)
        self.admin = AdminListeners(self.runtime, self._bind)
        self.process_log: processlog.ProcessLog | None = None
        """Follows `[logging] process`, if the process has no other purpose than this gateway."""
        self._accepting = self._serving = self._draining = False
        self._early: list[int] = []
        """Signals that came before it served."""
        self._starting: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._addresses: dict[str, str] = {}
        self._reloads: deque[dict[str, Any]] = deque(maxlen=RELOADS_SHOWN)
        Replaceable.__init__(self, handover)
        self.others: Collector = REGISTRY
        self._changes: Changes | None = None
        self.port = self.admin_port = self.metrics_port = self.redirect_port = 0

    async def start(self) -> None:
        """Load the configuration and listen. Raises ConfigErrors or OSError."""
        self.transport.start()
        before = time()
        self._inherit_kept()
        self._note_reload(await self.runtime.start())
        self._configure_log()
        config = self.runtime.snapshot.loaded.gateway
        self._inherit(config)
        await self._serve(config.listen)
        if config.admin is not None:
            await self.admin.start(self, config.admin)
            self.admin_port, self.metrics_port = self.admin.port, self.admin.metrics_port
        self.sockets.check()
        self._watch(before)
        self._serving = True
        where = self.addresses()
        log.info(
            "gateway %s serves on %s, admin on %s, configuration %s, pid %d",
            described_version(),
            where["listen"],
            where.get("admin", "nothing"),
            self.runtime.snapshot.loaded.hash,
            os.getpid(),
        )

    async def _serve(self, listen: ListenConfig) -> None:
        """Bind the data plane's sockets and let it accept. Raises OSError."""
        mode = int(listen.socket_mode, 8)
        sockets = await self._bind("listen", listen.bound, listen.backlog, mode)
        self.port = port_of(sockets)
        redirected: list[socket.socket] = []
        if listen.redirect is not None:
            try:
                redirected = await self._bind("redirect", listen.redirected, listen.backlog, mode)
            except OSError:
                for one in sockets:
                    one.close()
                raise
            self.redirect_port = port_of(redirected)
            log.info("http on %s is sent to https", self._addresses["redirect"])
        self._accepting = True
        await self._accept(listen, sockets, redirected)

    async def _accept(
        self, listen: ListenConfig, sockets: list[socket.socket], redirected: list[socket.socket]
    ) -> None:
        """Let the data plane accept from these sockets."""
        self.plane.start(listen, sockets, redirected, self.port)

    async def _drain(self, delay: float, timeout: float) -> None:
        """End the data plane."""
        await self.plane.stop(delay, timeout, self.sockets.remove_files)

    async def _bind(
        self, name: str, where: Sequence[ListenAddress], backlog: int, mode: int = 0o660
    ) -> list[socket.socket]:
        sockets = await bind(name, where, backlog, self.sockets, mode)
        shown = dict.fromkeys(str(address_of(one)) for one in sockets)
        self._addresses[name] = ", ".join(shown)
        self._bound[name] = sockets
        return sockets

    async def run(self, signals: Signals) -> None:
        """Start, serve until TERM or INT, drain. Raises what `start` raises.

        TERM while it starts breaks the start off; HUP and USR1 then wait until it serves.
        """
        signals.before_end = self._kill
        self._starting = asyncio.create_task(self.start())
        signals.attach(asyncio.get_running_loop(), self._on_signal)
        try:
            await asyncio.wait((self._starting,))
            if not self._starting.cancelled():
                self._starting.result()
                settle_process()
                self.manager.ready()
                self._let_elders_leave()
                for number in self._early:
                    self._on_signal(number)
                await self._stop.wait()
        finally:
            self._starting.cancel()
            await self.close()
            signals.detach()

    async def close(self) -> None:
        """Report not ready, serve for `shutdown_delay`, drain for at most `shutdown_timeout`,
        close.

        A gateway that has not begun to serve has nothing to wait for.
        """
        self._draining = True
        if self._changes is not None:
            self._changes.close()
        if self._accepting:
            config = self.runtime.snapshot.loaded.gateway.server
            self.manager.stopping(config.shutdown_delay + config.shutdown_timeout + END_TIMEOUT)
            delay, timeout = config.shutdown_delay if self._serving else 0, config.shutdown_timeout
            before = monotonic()
            if self.elders is not None:
                asyncio.get_running_loop().call_later(delay, self.elders.stop)
            await self._drain(delay, timeout)
            self._accepting = False
            if self.elders is not None:
                await self.elders.ended(before + delay + timeout - monotonic())
        await self.admin.stop()
        for task in tuple(self._tasks):
            task.cancel()
        self.runtime.stop()
        await self.runtime.registry.closed()
        self.transport.close()
        self.manager.close()

    def _kill(self) -> None:
        """End other processes of this gateway at once."""
        if self.elders is not None:
            self.elders.kill()

    def _on_signal(self, number: int) -> None:
        if number in STOPPING:
            log.info(
                "%s: %s",
                signal.Signals(number).name,
                "draining" if self._serving else "not starting",
            )
            self._stop.set()
            if self._starting is not None:
                self._starting.cancel()
        elif not self._serving:
            self._early.append(number)
        elif number == signal.SIGUSR1:
            self.reopen()
        elif not self._draining and not self._copy:
            self._in_background(self.upgrade if number == signal.SIGUSR2 else self.reload)

    def _in_background(self, work: Any) -> None:
        coroutine: Coroutine[Any, Any, Any] = work()
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What the admin application asks for.

    async def reload(self) -> Outcome:
        """Take the next configuration, or return what is wrong with it."""
        self.manager.reloading()
        try:
            return await self._reload()
        finally:
            self.manager.ready()

    async def _reload(self) -> Outcome:
        before = time()
        outcome = replace(await self.runtime.reload(), waiting=self.waiting())
        self._note_reload(outcome)
        for line in outcome.waiting:
            log.warning("%s", line)
        if outcome.ok:
            self._configure_log()
            self._watch(before)
            self.plane.configure()
            self.admin.renew_tls()
        return outcome

    def _note_reload(self, outcome: Outcome) -> None:
        """Remember what became of a configuration."""
        problems = [str(one) for one in outcome.problems[:LINES_SHOWN]]
        changes = list(outcome.changes[:LINES_SHOWN])
        said = {"ok": outcome.ok, "hash": outcome.hash, "changes": changes, "problems": problems}
        self._reloads.appendleft({"at": self.runtime.services.clock.wall(), **said})

    def reopen(self) -> None:
        """Reopen log files."""
        self.runtime.reopen()

    def _watch(self, since: float) -> None:
        """Reload by itself, or not any more, as `[server] watch` says. since: see Changes."""
        every = self.runtime.snapshot.loaded.gateway.server.watch
        if self._changes is not None and self._changes.every != every:
            self._changes.close()
            self._changes = None
        if self._changes is not None:
            self._changes.were_read(since)
        elif every:
            self._changes = Changes(self._files, self.reload, since=since, every=every)

    def _files(self) -> Iterator[Path]:
        return with_neighbours(self.runtime.snapshot.loaded.files)

    def _configure_log(self) -> None:
        if self.process_log is not None:
            self.process_log.configure(self.runtime.snapshot.loaded.gateway.logging.process)

    async def usage(self, client: str) -> dict[str, Any] | None:
        """Return what is kept of a client, None where nothing counts it. Raises OSError."""
        runtime = self.runtime
        return await usage_of(
            runtime.registry.find(USAGE),
            client,
            runtime.snapshot.loaded.pipelines,
            runtime.services.clock.wall(),
        )

    def reset_circuit(self, name: str) -> bool | None:
        """Close an upstream's breaker. Return False if it has none, None if there is no such
        upstream."""
        pool = self.runtime.snapshot.pools.get(name)
        return None if pool is None else pool.reset_circuit()

    async def purge(self, purges: Sequence[Purge]) -> bool:
        """Purge the caches of all pipelines, and of gateways that share a store with them. Return
        False if there are none. Raises StoreDown when others could not be told."""
        return await everywhere(self.runtime.registry.find(PURGES), purges)

    def drain(self, name: str, url: str, drained: bool) -> bool | None:
        """Give an endpoint nothing new, or again something. Return False if there is none at
        `url`, None if there is no such upstream."""
        pool = self.runtime.snapshot.pools.get(name)
        return None if pool is None else pool.drain(url, drained)

    def register(self, name: str, config: EndpointConfig) -> bool | None:
        """Add an endpoint. Return False if the upstream takes none, None if there is no such
        upstream."""
        if name not in self.runtime.snapshot.pools:
            return None
        discovery = self.observer.discoveries.get(name)
        return discovery is not None and discovery.register(config)

    def deregister(self, name: str, url: str) -> bool:
        """Take an endpoint out that was added. Return False if there is none."""
        discovery = self.observer.discoveries.get(name)
        return discovery is not None and discovery.deregister(url)

    async def register_service(self, one: ServiceConfig) -> bool:
        """Register a service. Return whether that outlasts the process."""
        await self.runtime.registrar.register(one)
        return self.runtime.registrar.lasting

    async def deregister_service(self, name: str, url: str) -> bool:
        """Take a registered service out, or one address of it. Return False if there is none."""
        return await self.runtime.registrar.deregister(name, url)

    def ready(self) -> bool:
        """Return True if new requests should be sent here."""
        return not self._draining and self._accepting

    def health(self) -> dict[str, Any]:
        """Return the condition of every upstream, its endpoints, and the store."""
        return self.runtime.snapshot.health.report()

    def config(self) -> dict[str, Any]:
        """Return what is in force, by names; no values that could be secret."""
        return {**described(self.runtime.snapshot.loaded), "loaded_at": self.runtime.loaded_at}

    def status(self) -> dict[str, Any]:
        """Return the process in numbers."""
        runtime = self.runtime
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": round(monotonic() - self._started, 3),
            "configuration": runtime.snapshot.loaded.hash,
            "connections": self.plane.connections,
            "in_flight": int(self.telemetry.in_flight.get()),
            "snapshots_alive": 1 + len(runtime.retiring),
            "python": sys.version.split()[0],
            "compiled": is_compiled(),
            "addresses": self.addresses(),
            "ready": self.ready(),
            "waiting": list(self.waiting()),
            "reloads": list(self._reloads),
        }

    def addresses(self) -> dict[str, str]:
        """Return where it really listens, by table of gateway.toml."""
        return dict(self._addresses)

    def waiting(self) -> tuple[str, ...]:
        """Return a line for each table that waits for a restart."""
        runtime = self.runtime
        if runtime.started is None:
            return ()
        where = self.addresses()
        return tuple(
            f"[{name}] waits for a restart; it is on {where[name]}"
            if name in where
            else f"[{name}] waits for a restart"
            for name in restarts(runtime.started, runtime.snapshot.loaded.gateway)
        )
