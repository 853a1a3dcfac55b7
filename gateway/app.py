"""The process: wiring, signals, lifetime.

TERM and INT drain and stop, a second one stops at once; HUP reloads; USR1 reopens log files
(lifetime.signals has them before anything else is imported).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import ssl
import sys
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from aiohttp import http_parser

from gateway import __version__
from gateway.admin.application import PUBLIC, make_app
from gateway.admin.listener import AdminListener
from gateway.builtins.answers import with_store, worst
from gateway.config.tables.endpoints import EndpointConfig
from gateway.config.tables.server import AdminConfig, ListenConfig, RedirectConfig
from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.core.hooks import ConfigProblem
from gateway.lifetime import processlog
from gateway.lifetime.heap import settle
from gateway.lifetime.signals import STOPPING, Signals
from gateway.protocols.tls import server_tls
from gateway.runtime.compose import World
from gateway.runtime.reload import Outcome, Runtime
from gateway.serving.net.listener import Listener
from gateway.upstream.connections.transport import Transport

log = logging.getLogger("gateway")

FILES = 1024 * 1024
"""Open files beyond which more are of no use to one process."""


class Gateway:
    """One gateway: the runtime, its two listeners, and what the admin application asks for (admin.application.AdminState)."""

    def __init__(self, path: Path, environ: Mapping[str, str]) -> None:
        self.transport = Transport()
        self.runtime = Runtime(path, World(self.transport), environ)
        self.telemetry = self.runtime.world.telemetry
        self._started = monotonic()
        self._listener: Listener | None = None
        self._redirect: Listener | None = None
        self._admin: AdminListener | None = None
        self._metrics: AdminListener | None = None
        self._serving = False
        self._draining = False
        self._early: list[int] = []
        """Signals that came while it started, for when it serves."""
        self._starting: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.port = self.admin_port = self.metrics_port = self.redirect_port = 0

    async def start(self) -> None:
        """Loads, listens. Raises ConfigErrors or OSError."""
        self.transport.start()
        await self.runtime.start()
        config = self.runtime.snapshot.loaded.gateway
        self._listener = Listener(self.runtime)
        with binding(config.listen.host, config.listen.port):
            self.port = await self._listener.start(config.listen)
        if config.listen.redirect is not None:
            await self._start_redirect(config.listen, config.listen.redirect)
        if config.admin is not None:
            await self._start_admin(config.admin)
        self._serving = True
        log.info(
            "gateway %s serves on %s:%d, admin on %s, configuration %s, pid %d",
            __version__,
            config.listen.host,
            self.port,
            f"{config.admin.host}:{self.admin_port}" if config.admin is not None else "nothing",
            self.runtime.snapshot.loaded.hash,
            os.getpid(),
        )

    async def _start_admin(self, config: AdminConfig) -> None:
        tls = self._admin_tls(config)
        self._admin = AdminListener(make_app(self, config), tls)
        with binding(config.host, config.port):
            self.admin_port = await self._admin.start(config.host, config.port)
        if config.metrics is not None:
            self._metrics = AdminListener(make_app(self, config, PUBLIC), tls)
            with binding(config.metrics.host, config.metrics.port):
                self.metrics_port = await self._metrics.start(config.metrics.host, config.metrics.port)

    def _admin_tls(self, config: AdminConfig) -> ssl.SSLContext | None:
        """Raises ConfigErrors."""
        if config.tls is None:
            return None
        file, line, column = self.runtime.snapshot.loaded.locate("", ("admin", "tls"))
        try:
            return server_tls(config.tls, file.parent, lambda key, settings, make: make()).context
        except ConfigProblem as problem:
            found = Problem(file, line, column, f"admin.tls: {problem.message}", problem.hint)
            raise ConfigErrors([found]) from None

    async def _start_redirect(self, listen: ListenConfig, redirect: RedirectConfig) -> None:
        from gateway.serving.redirect import NAME, Redirects

        self._redirect = Listener(Redirects(self.runtime, redirect, self.port), NAME)
        where = replace(listen, host=redirect.host or listen.host, port=redirect.port)
        with binding(where.host, where.port):
            self.redirect_port = await self._redirect.start(where)
        log.info("http on %s:%d is sent to https", where.host, self.redirect_port)

    async def run(self, signals: Signals) -> None:
        """Start, serve until TERM or INT, drain. Raises what `start` raises.

        TERM while it starts breaks the start off; HUP and USR1 then wait until it serves.
        """
        self._starting = asyncio.create_task(self.start())
        signals.attach(asyncio.get_running_loop(), self._on_signal)
        try:
            await asyncio.wait((self._starting,))
            if not self._starting.cancelled():
                self._starting.result()
                settle_memory()
                for number in self._early:
                    self._on_signal(number)
                await self._stop.wait()
        finally:
            self._starting.cancel()
            await self.close()
            signals.detach()

    async def close(self) -> None:
        """Report not ready, serve for `shutdown_delay`, drain for at most `shutdown_timeout`, close.

        A gateway that has not begun to serve has nothing to wait for.
        """
        self._draining = True
        if self._listener is not None:
            config = self.runtime.snapshot.loaded.gateway.server
            if config.shutdown_delay and self._serving:
                # Balancers in front have yet to find out; until then refusing would be an error for clients.
                self._listener.draining = True
                await asyncio.sleep(config.shutdown_delay)
            await self._listener.stop(config.shutdown_timeout)
            self._listener = None
        if self._redirect is not None:
            await self._redirect.stop(0)
            self._redirect = None
        for admin in (self._admin, self._metrics):
            if admin is not None:
                await admin.stop()
        self._admin = self._metrics = None
        for task in tuple(self._tasks):
            task.cancel()
        self.runtime.stop()
        await self.runtime.registry.closed()
        self.transport.close()

    def _on_signal(self, number: int) -> None:
        if number in STOPPING:
            log.info("%s: %s", signal.Signals(number).name, "draining" if self._serving else "not starting")
            self._stop.set()
            if self._starting is not None:
                self._starting.cancel()
        elif not self._serving:
            self._early.append(number)
        elif number == signal.SIGUSR1:
            self._reopen()
        elif not self._draining:
            self._in_background(self.reload)

    def _reopen(self) -> None:
        for kept in self.runtime.registry:
            reopen = getattr(kept, "reopen", None)
            if reopen is not None:
                reopen()

    def _in_background(self, work: Any) -> None:
        coroutine: Coroutine[Any, Any, Any] = work()
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # What the admin application asks for.

    async def reload(self) -> Outcome:
        """The next configuration, or the reasons against it."""
        outcome = await self.runtime.reload()
        if outcome.ok:
            for listener in (self._listener, self._redirect):
                if listener is not None:
                    listener.configure()
            self._renew_admin_tls()
        return outcome

    def _renew_admin_tls(self) -> None:
        """Certificates of the admin listener that were renewed; what else [admin] says needs a restart."""
        config = self.runtime.snapshot.loaded.gateway.admin
        if config is None or config.tls is None or self._admin is None or self._admin.tls is None:
            return
        try:
            self._admin.tls = self._admin_tls(config)
        except ConfigErrors as errors:
            log.error("the admin listener keeps its certificate: %s", errors.problems[0])
        if self._metrics is not None:
            self._metrics.tls = self._admin.tls

    def reset_circuit(self, name: str) -> bool | None:
        """Closes an upstream's breaker by hand; False when it has none, None when there is no such upstream."""
        pool = self.runtime.snapshot.pools.get(name)
        return None if pool is None else pool.reset_circuit()

    def register(self, name: str, config: EndpointConfig) -> bool | None:
        """Adds an endpoint to an upstream; False when that takes none this way, None when there is no such upstream."""
        if name not in self.runtime.snapshot.pools:
            return None
        discovery = self.runtime.discoveries.get(name)
        return discovery is not None and discovery.register(config)

    def deregister(self, name: str, url: str) -> bool:
        """Takes it out again; False when it was not there."""
        discovery = self.runtime.discoveries.get(name)
        return discovery is not None and discovery.deregister(url)

    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return not self._draining and self._listener is not None

    def health(self) -> dict[str, Any]:
        """The condition of every upstream and its endpoints, and of the shared store."""
        snapshot = self.runtime.snapshot
        upstreams = {name: pool.status() for name, pool in snapshot.pools.items()}
        found: dict[str, Any] = {"status": worst(upstream["status"] for upstream in upstreams.values()), "upstreams": upstreams}
        if snapshot.store is not None:
            found["store"] = snapshot.store.status()
            found["status"] = with_store(found["status"], found["store"])
        return found

    def config(self) -> dict[str, Any]:
        """What is in force, by names; no values that could be secret."""
        loaded = self.runtime.snapshot.loaded
        return {
            "hash": loaded.hash,
            "loaded_at": self.runtime.loaded_at,
            "files": [str(file) for file in loaded.files],
            "warnings": [str(problem) for problem in loaded.warnings],
            "upstreams": {
                name: {"balance": upstream.balance, "endpoints": [endpoint.url for endpoint in upstream.endpoints]}
                for name, upstream in loaded.upstreams.items()
            },
            "pipelines": {
                pipeline.name: {
                    "file": str(pipeline.file),
                    "request": list(pipeline.request),
                    "response": list(pipeline.response),
                    "error": list(pipeline.error),
                    "routes": [
                        {
                            "name": route.name,
                            "match": route.path or route.prefix,
                            "kind": "path" if route.path else "prefix",
                            "methods": list(route.methods),
                            "hosts": list(route.hosts),
                            "target": route.upstream or f"builtin:{route.builtin}",
                        }
                        for route in pipeline.routes
                    ],
                }
                for pipeline in loaded.pipelines
            },
        }

    def status(self) -> dict[str, Any]:
        """The process in numbers."""
        runtime = self.runtime
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_seconds": round(monotonic() - self._started, 3),
            "configuration": runtime.snapshot.loaded.hash,
            "connections": len(self._listener.connections) if self._listener is not None else 0,
            "in_flight": int(self.telemetry.in_flight.get()),
            "snapshots_alive": 1 + len(runtime.retiring),
            "python": sys.version.split()[0],
        }


@contextmanager
def binding(host: str, port: int) -> Iterator[None]:
    """Have an OSError say which address it is about: uvloop's do not, asyncio's say it twice."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise OSError(error.errno, f"cannot listen on {where}: {reason.lower()}") from error


def raise_file_limit() -> int:
    """Lets the process open as many files as it may, since every connection is one; returns how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        except (OSError, ValueError) as error:
            log.warning("cannot open more than %d files: %s", soft, error)
            return soft
        return most
    return soft if soft != resource.RLIM_INFINITY else most


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's where it is installed. Says loudly what costs most of the speed when it is missing."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        log.warning("aiohttp runs without its C parser: requests cost several times as much; install it from a wheel")
    try:
        import uvloop
    except ImportError:
        log.warning("uvloop is missing: requests cost about twice as much; install uvloop")
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def settle_memory() -> None:
    """Spares the collector what will live as long as the process, and lets it look less often at the rest.

    A request leaves no reference cycles behind, so collecting after every 700 new objects, Python's default, only walks again
    and again over what is in flight: a third of a request's cost at a high rate.
    """
    settle()
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def run(path: Path, signals: Signals) -> int:
    """`gateway run`: 0 after a clean stop, 1 when the configuration is bad or the address cannot be had."""
    output = processlog.install()
    raise_file_limit()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(Gateway(path, os.environ).run(signals))
    except ConfigErrors as errors:
        for problem in errors.problems:
            output.say(str(problem))
        return 1
    except OSError as error:
        output.say(f"gateway: cannot start: {error.strerror or error}")
        return 1
    return 0
