"""Services that are registered at run time, and the snapshot that has them.

A registration is a further upstream of the configuration: when one comes or goes, a snapshot is
composed of what was read last, and swapped in like a reload's.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import NamedTuple

from gateway.config.check.compile import LoadedConfig
from gateway.config.tables.targets import SERVICE, ServiceConfig, ServicesConfig
from gateway.config.toml.problems import ConfigErrors, Problem
from gateway.core.clock import Clock
from gateway.core.telemetry import Telemetry
from gateway.lifetime.supervised import Supervised
from gateway.store.stores import BadUrl, is_url, parse
from gateway.upstream.discovery.kept import InFile, InMemory, Keeper, Unkept
from gateway.upstream.discovery.registered import (
    Registrations,
    Unregistered,
    in_environment,
    refusal,
    upstreams,
)

log = logging.getLogger("gateway.upstream")


class _Asked(NamedTuple):
    """How a configuration that is not in force yet wants registrations kept. found: what another
    keeper had, None where it is the same one."""

    where: tuple[Path | None, str]
    keeper: Keeper
    found: Registrations | None
    config: ServicesConfig
    used: bool


class Registrar:
    """Keeps the registrations as the configuration says, and has them taken when they change.

    recompose: puts a snapshot with the present registrations into force. Raises ConfigErrors.
    """

    def __init__(
        self,
        clock: Clock,
        telemetry: Telemetry,
        environ: Mapping[str, str],
        recompose: Callable[[], Awaitable[object]],
    ) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._environ = environ
        self._recompose = recompose
        self._where: tuple[Path | None, str] | None = None
        self._keeper: Keeper = InMemory()
        self._config, self._used = ServicesConfig(), False
        self._asked: _Asked | None = None
        self.registrations: Registrations = ()
        self._taking = Supervised("registered_services", self._take, every=inf)

    @property
    def lasting(self) -> bool:
        """Whether registrations outlast the process."""
        return self._keeper.lasting

    async def follow(self, loaded: LoadedConfig) -> LoadedConfig:
        """Return `loaded` with the registrations that are kept as it says; `adopt` or `abandon`
        comes next. Raises ConfigErrors."""
        config = loaded.gateway.services or ServicesConfig()
        directory = loaded.files[0].parent
        state = loaded.gateway.server.state_dir
        where = (directory / state if state else None, loaded.gateway.store.url)
        if not _used(loaded):
            where = (None, "")
        keeper, found = self._keeper, None
        if where != self._where:
            keeper = self._opened(*where, loaded.gateway.store.deadline)
            try:
                found = await keeper.load()
            except (Unkept, Unregistered) as error:
                keeper.close()
                place = loaded.locate("", ("server", "state_dir"))
                hint = "mend the file, or remove it to begin without registrations"
                raise ConfigErrors([Problem(*place, f"server.state_dir: {error}", hint)]) from None
        self._asked = _Asked(where, keeper, found, config, _used(loaded))
        try:
            return self._merged(loaded, self.registrations if found is None else found)
        except ConfigErrors:
            self.abandon()
            raise

    def adopt(self) -> None:
        """Keep registrations from now on as followed last."""
        asked, self._asked = self._asked, None
        assert asked is not None
        if asked.keeper is not self._keeper:
            self._keeper.close()
        self._keeper, self._where = asked.keeper, asked.where
        if asked.found is not None:
            self.registrations = asked.found
        self._config, self._used = asked.config, asked.used

    def abandon(self) -> None:
        """Keep them as before: what was followed last is not taken."""
        asked, self._asked = self._asked, None
        if asked is not None and asked.keeper is not self._keeper:
            asked.keeper.close()

    def _merged(self, loaded: LoadedConfig, registrations: Registrations) -> LoadedConfig:
        """Return `loaded` with the registered services. Raises ConfigErrors."""
        config = loaded.gateway.services or ServicesConfig()
        try:
            every = (*in_environment(config.env, self._environ), *registrations)
        except Unregistered as error:
            place = loaded.locate("", ("services", "env"))
            raise ConfigErrors([Problem(*place, f"services.env: {error}")]) from None
        found = {
            name: made
            for name, made in upstreams(every, loaded.upstreams.get(config.like)).items()
            if name not in loaded.upstreams
        }
        template = loaded.upstreams.get(config.like)
        known = dict(loaded.upstreams)
        if template is not None and not template.endpoints and not _leads_to(loaded, config.like):
            del known[config.like]
        return replace(loaded, upstreams=known | found, registered=frozenset(found))

    async def register(self, one: ServiceConfig) -> None:
        """Take a service, or another address of one, into force. Raises Unregistered, Unkept,
        ConfigErrors."""
        if not self._used:
            raise Unregistered('no route leads to registered services: upstream = "{service}"')
        if why := refusal(one.url, self._config):
            raise Unregistered(why)
        self.registrations = await self._keeper.put(one)
        log.info("service %s registered at %s", one.name, one.url)
        await self._recompose()

    async def deregister(self, name: str, url: str = "") -> bool:
        """Take a service, or one address of it, out; False when it was not registered. Raises
        Unkept, ConfigErrors."""
        left = await self._keeper.drop(name, url)
        known, self.registrations = self.registrations, left
        if len(left) == len(known):
            return False
        log.info("service %s taken out%s", name, f" at {url}" if url else "")
        await self._recompose()
        return True

    def close(self) -> None:
        """Follow no more changes."""
        self.abandon()
        self._taking.close()
        self._keeper.close()

    def _opened(self, state: Path | None, store: str, deadline: float) -> Keeper:
        if is_url(store):
            try:
                from gateway.store.redis.client import RedisClient
                from gateway.upstream.discovery.kept_in_store import InStore

                url = parse(store)
            except (BadUrl, ImportError):  # Composing reports it.
                return InMemory()
            client = RedisClient(url, deadline, self._clock, self._telemetry)
            return InStore(client, self._changed)
        return InMemory() if state is None else InFile(state, self._changed)

    def _changed(self, registrations: Registrations) -> None:
        """Another process has changed them."""
        self.registrations = registrations
        self._taking.start()

    async def _take(self) -> float:
        try:
            await self._recompose()
        except ConfigErrors as errors:
            log.error("registered services stay as they were: %s", errors.problems[0])
        return inf


def _used(loaded: LoadedConfig) -> bool:
    """Return True if something is made of registrations."""
    return loaded.gateway.services is not None or any(
        route.upstream == SERVICE for pipeline in loaded.pipelines for route in pipeline.routes
    )


def _leads_to(loaded: LoadedConfig, upstream: str) -> bool:
    return any(
        upstream in route.asked for pipeline in loaded.pipelines for route in pipeline.routes
    )
