"""Reload: read, check, compose; swap one reference; retire the old snapshot when its last request
ends.

Files are read and checked in a thread, and snapshots composed in slices on the loop (slices.py), so
that traffic goes on. If anything fails before the swap, every error is reported and nothing has
changed. Reloads never overlap: those asked for during one are answered by a single further one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from gateway import middlewares
from gateway.config.check.compile import LoadedConfig, compile_config
from gateway.config.tables.schema import TableClass
from gateway.config.tables.server import GatewayConfig
from gateway.config.tables.tokens import BUILTINS as TOKEN_BUILTINS
from gateway.config.toml.problems import ConfigErrors, Problem, Problems
from gateway.lifetime.descriptors import shortage
from gateway.lifetime.registry import Draft, Registry
from gateway.runtime.compose import Composer, composing
from gateway.runtime.diff import differences
from gateway.runtime.operators.modules import forget, restore
from gateway.runtime.operators.starting import start_all
from gateway.runtime.services import Services
from gateway.runtime.slices import Steps, in_slices
from gateway.runtime.snapshot import Snapshot
from gateway.upstream.discovery.registrar import Registrar
from gateway.upstream.observer import Observer

log = logging.getLogger("gateway.reload")

SLOW_START = 3.0
"""Seconds after which a start says what it is doing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a reload: its errors, and then nothing has changed, or the differences now in
    force."""

    ok: bool
    hash: str
    problems: tuple[Problem, ...] = ()
    changes: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    """What waits for a restart."""


class Followers(Protocol):
    """Other processes that take each configuration together with this one."""

    async def prepare(self, loaded: LoadedConfig) -> None:
        """Have all of them compose it. Raises ConfigErrors if one cannot; then none keeps it."""

    async def commit(self) -> None:
        """Have all of them make what they have prepared the one in force."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A snapshot that could be put into force now."""

    snapshot: Snapshot
    changes: tuple[str, ...]


@dataclass(slots=True, eq=False)
class Runtime:
    """The snapshot in force and all that outlives it. `path` is that of gateway.toml.

    observer: None in a process that is told what another one observes.
    """

    path: Path
    services: Services
    environ: Mapping[str, str]
    observer: Observer | None = None
    followers: Followers | None = None
    serves: bool = True
    """Whether requests come here: without them no middleware is started."""
    registry: Registry = field(default_factory=Registry)
    retiring: set[int] = field(default_factory=set)
    loaded_at: float = 0.0
    registrar: Registrar = field(init=False)
    """Services registered at run time."""
    started: GatewayConfig | None = None
    """What gateway.toml said at the start: sockets follow that until a restart."""
    snapshot: Snapshot = field(init=False)
    """The snapshot in force; there is none before `start`."""
    _read: LoadedConfig = field(init=False)
    """What the files said last, without what was registered."""
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a snapshot is composed and installed."""
    _running: asyncio.Task[Outcome] | None = None
    _next: asyncio.Task[Outcome] | None = None

    def __post_init__(self) -> None:
        services = self.services
        self.registrar = Registrar(services.clock, services.telemetry, self.environ, self.recompose)

    async def start(self) -> Outcome:
        """Load and install the first snapshot. Raises ConfigErrors."""
        loop, told = asyncio.get_running_loop(), "reading and compiling %s takes a while"
        slow = loop.call_later(SLOW_START, log.info, told, self.path)
        try:
            return await self._take(await self._judged(partial(load, self.path, self.environ)))
        finally:
            slow.cancel()

    async def reload(self) -> Outcome:
        """Load and install the next snapshot. A bad configuration is in the outcome, not raised."""
        if self._next is None:
            if self._running is None or self._running.done():
                self._running = asyncio.create_task(self._reload())
                return await asyncio.shield(self._running)
            self._next = asyncio.create_task(self._after(self._running))
        return await asyncio.shield(self._next)

    def reopen(self) -> None:
        """Reopen log files."""
        for kept in self.registry:
            reopen = getattr(kept, "reopen", None)
            if reopen is not None:
                reopen()

    async def recompose(self) -> None:
        """Compose what was read last anew, for services that have come or gone. Raises
        ConfigErrors."""
        await self._take()

    def stop(self) -> None:
        """Break off a reload, end observation and close everything kept."""
        for reload in (self._running, self._next):
            if reload is not None:
                reload.cancel()
        self.registrar.close()
        if self.observer is not None:
            self.observer.stop()
        self.registry.close()

    async def _after(self, running: asyncio.Task[Outcome]) -> Outcome:
        await asyncio.wait((running,))  # Those asked for between its end and this are one with it.
        self._running, self._next = self._next, None
        return await self._reload()

    async def _reload(self) -> Outcome:
        telemetry = self.services.telemetry
        try:
            outcome = await self._renew()
        except ConfigErrors as errors:
            telemetry.reload_success.set((), 0)
            await in_slices(_log(logging.ERROR, "%s", errors.problems))
            log.error(
                "reload refused: %d problem(s); the running configuration stays",
                len(errors.problems),
            )
            return Outcome(False, self.snapshot.loaded.hash, tuple(errors.problems))
        except Exception as error:
            telemetry.reload_success.set((), 0)
            log.exception("reload failed; the running configuration stays")
            problem = Problem(
                self.path, 1, 1, f"internal error while loading: {type(error).__name__}"
            )
            return Outcome(False, self.snapshot.loaded.hash, (problem,))
        await in_slices(_log(logging.INFO, "reload: %s", outcome.changes))
        log.info("reload taken: configuration %s, %d change(s)", outcome.hash, len(outcome.changes))
        return outcome

    async def _renew(self) -> Outcome:
        """Take what the files say now, with what has changed of operators' modules."""
        if self.followers is not None:
            return await self._take(await self._judged(self._load_next))
        forgotten = await asyncio.to_thread(forget, self.snapshot.modules)
        try:
            outcome = await self._take(await self._judged(self._load_next))
        except BaseException:
            restore(forgotten)
            raise
        lines = (f"module {name} loaded anew" for name in forgotten.packages)
        return replace(outcome, changes=(*outcome.changes, *lines))

    async def _judged(self, read: Callable[[], LoadedConfig]) -> LoadedConfig:
        """Read the files in a thread. Raises ConfigErrors with the problems of all stages."""
        try:
            return await asyncio.to_thread(read)
        except ConfigErrors as errors:
            draft = self.registry.draft()
            raise await in_slices(surveying(errors, draft, self.services)) from None

    def _load_next(self) -> LoadedConfig:
        """Load what is to follow the snapshot. Raises ConfigErrors, also when pipelines are gone
        with their folder.

        A folder that is gone matches no `include`, and is more likely not mounted than what is
        meant.
        """
        loaded = load(self.path, self.environ)
        old = self.snapshot.loaded.pipelines
        gone = sorted(
            {str(pipeline.file.parent) for pipeline in old if not pipeline.file.parent.is_dir()}
        )
        message = f"the folder of pipelines in use is gone: {', '.join(gone)}" if gone else ""
        if not message and old and not loaded.pipelines:
            message = "there are no pipelines any more"
        if message:
            hint = "restart the gateway if that is meant"
            raise ConfigErrors([Problem(*loaded.locate("", ("include",)), message, hint)])
        return loaded

    async def _take(self, loaded: LoadedConfig | None = None) -> Outcome:
        """Compose beside the snapshot in force and, if that works, make it the one in force.

        Without `loaded` it is what was read last, by now: another may have been taken meanwhile.
        """
        async with self._lock:
            loaded = self._read if loaded is None else loaded
            whole = await self.registrar.follow(loaded)
            try:
                prepared = await self.prepare(whole)
                if self.followers is not None:
                    try:
                        await self.followers.prepare(whole)
                    except BaseException:
                        self.discard(prepared)
                        raise
            except BaseException:
                self.registrar.abandon()
                raise
            self.commit(prepared)
            self.registrar.adopt()
            self._read = loaded
            if self.followers is not None:
                await self.followers.commit()
        warnings = prepared.snapshot.loaded.warnings
        await in_slices(_log(logging.WARNING, "%s", warnings))
        return Outcome(True, loaded.hash, warnings, prepared.changes)

    async def prepare(self, loaded: LoadedConfig) -> Prepared:
        """Compose a snapshot, which then is committed or discarded. Raises ConfigErrors."""
        old: Snapshot | None = getattr(self, "snapshot", None)
        draft = self.registry.draft()
        try:
            snapshot = await in_slices(
                composing(loaded, draft, self.services, old.number + 1 if old is not None else 1)
            )
            if self.serves:
                await start_all(snapshot.lives)
            changes = (
                ()
                if old is None
                else await asyncio.to_thread(_changes, old, snapshot, self.started)
            )
        except BaseException:
            draft.release()
            raise
        return Prepared(snapshot, changes)

    def discard(self, prepared: Prepared) -> None:
        """Let go of a snapshot that will not be in force."""
        prepared.snapshot.objects.release()

    def commit(self, prepared: Prepared) -> None:
        """Make a prepared snapshot the one in force."""
        old: Snapshot | None = getattr(self, "snapshot", None)
        if old is None:
            self.started = prepared.snapshot.loaded.gateway
        self._install(prepared.snapshot, old)

    def _install(self, snapshot: Snapshot, old: Snapshot | None) -> None:
        """Make a snapshot the one in force. Must not await: a request sees all of it or nothing."""
        for name, pool in snapshot.pools.items():
            config, tls = snapshot.loaded.upstreams[name], snapshot.upstream_tls.get(name)
            pool.reconfigure(config)
            self.services.transport.secure(name, pool.endpoints, tls, config.protocol)
        self.services.transport.retain(snapshot.pools)
        self.snapshot = snapshot
        snapshot.objects.commit()
        if self.observer is not None:
            self.observer.follow(snapshot.loaded, snapshot.pools, snapshot.upstream_tls)
        self._publish(snapshot)
        if old is None:
            return
        self.retiring.add(old.number)

        def retired() -> None:
            self.retiring.discard(old.number)
            old.objects.release()

        old.retire(retired)

    def _publish(self, snapshot: Snapshot) -> None:
        loaded, telemetry, clock = snapshot.loaded, self.services.telemetry, self.services.clock
        self.loaded_at = clock.wall()
        telemetry.reload_success.set((), 1)
        telemetry.reload_timestamp.set((), self.loaded_at)
        telemetry.config_info.values.clear()
        telemetry.config_info.set((loaded.hash,), 1)
        telemetry.certificate_expiry.values.clear()
        if snapshot.tls is not None:
            for certificate in snapshot.tls.certificates:
                telemetry.certificate_expiry.set((certificate.name,), certificate.expires)


def _log(level: int, text: str, lines: Iterable[object]) -> Steps[None]:
    """Log each line, in steps: thousands are too many for one turn of the loop."""
    for line in lines:
        log.log(level, text, line)
        yield None


def _changes(old: Snapshot, new: Snapshot, started: GatewayConfig | None) -> tuple[str, ...]:
    """Return the differences, for people."""
    return (*differences(old.loaded, new.loaded, started), *_renewed(old, new))


def _renewed(old: Snapshot, new: Snapshot) -> tuple[str, ...]:
    """Return what has changed in files that the TOML only names."""
    if new.tls is None or new.tls is old.tls:
        return ()
    from gateway.protocols.tls import renewed

    return tuple(renewed(old.tls, new.tls))


def load(path: Path, environ: Mapping[str, str]) -> LoadedConfig:
    """Read and check all files. Raises ConfigErrors with every problem in them."""
    try:
        loaded = compile_config(path, schema_for, middlewares.names(), environ)
    except ConfigErrors as errors:
        if errors.rest is not None:
            _read_ahead(errors.rest)
        raise
    _read_ahead(loaded)
    return replace(loaded, warnings=(*loaded.warnings, *shortage(loaded)))


def _read_ahead(loaded: LoadedConfig) -> None:
    for pipeline in loaded.pipelines:
        directory, home = pipeline.file.parent, loaded.files[0].parent
        for settings in (pipeline.settings, *(route.settings for route in pipeline.routes)):
            for name, value in settings.items():
                middlewares.read_ahead(name, value, directory, home)


def schema_for(name: str) -> TableClass | None:
    """Return the table of a middleware's settings, None if it takes any. Raises LookupError for
    unknown names."""
    return middlewares.find(name).config


def surveying(errors: ConfigErrors, draft: Draft, services: Services) -> Steps[ConfigErrors]:
    """Return the errors with those that building the rest finds, so that one that cannot be built
    is not found only when the last typo elsewhere is mended. Lets go of the draft."""
    if errors.rest is None:
        return errors
    one = Composer(errors.rest, draft, services, 0)
    try:
        yield from _build_rest(one)
    except Exception:
        # What is left of a wrong configuration may not hang together; the errors stand.
        log.debug("what is beside the errors cannot be judged", exc_info=True)
    finally:
        draft.release()
    found = Problems()
    for problem in (*errors.problems, *one.warnings, *one.problems):
        found.add(problem)
    return ConfigErrors(found.all())


def _build_rest(one: Composer) -> Steps[None]:
    yield from one.prepare()
    for pipeline in one.loaded.pipelines:
        yield from one.built(pipeline, pipeline.settings)
        for route in pipeline.routes:
            yield from one.built(pipeline, route.settings, route)
            one.passed(pipeline, route)
            if route.builtin in TOKEN_BUILTINS:
                one.issued(pipeline, route)
    one.secured()
