"""Discovery: endpoints from a file, the environment, DNS and the admin API.

Every source yields EndpointConfigs. The pool merges them with those of its configuration and keeps
what it knows of endpoints that stay. A source that fails is reported once, and its last answer
stays in use: an unreadable file or a silent name server must not empty a working pool.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from time import time
from typing import Any

from marshmallow import ValidationError

from gateway.config.tables.endpoints import DiscoverConfig, EndpointConfig
from gateway.config.tables.schema import schema_of
from gateway.config.toml.parse import loads_json
from gateway.lifetime.supervised import Supervised, Timers
from gateway.upstream.discovery.dns import Service, lifetime, look_up
from gateway.upstream.pool.endpoint import UNIX, Address
from gateway.upstream.pool.pool import Pool

log = logging.getLogger("gateway.upstream")

Found = tuple[EndpointConfig, ...]

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host; raises OSError."""


LookUp = Callable[[str], Awaitable[Sequence[Service]]]
"""The services of a name in SRV records; raises OSError."""

Lifetime = Callable[[str], Awaitable[float | None]]
"""The TTL of a host's addresses in seconds, None when it is not known."""

SOONEST = 1.0
"""Seconds between two look-ups of a name, however short its TTL."""

SETTLED = 1.0
"""Seconds after which a text file whose last line does not end is taken as it is."""


class Undiscovered(Exception):
    """A source could not say which endpoints there are; str() says why."""


class Unsettled(Undiscovered):
    """A file may still be being written."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Addresses from the system's resolver. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def in_file(path: Path) -> Found:
    """Endpoints listed in a file: JSON, an array of URLs or of tables like those of `endpoints`; or
    a URL a line.

    Raises Undiscovered; Unsettled when the last line of a text file that has just been changed has
    no end, for half a URL can be a URL as well, or when there is no line in it yet.
    """
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix == ".json":
            return endpoints(loads_json(text))
        if not text.endswith("\n") and abs(time() - path.stat().st_mtime) < SETTLED:
            raise Unsettled(f"{path.name}: its last line does not end")
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        return endpoints([line for line in lines if line])
    except (OSError, ValueError) as error:
        raise Undiscovered(f"{path.name}: {getattr(error, 'strerror', None) or error}") from None


def in_environment(pattern: str, environ: Mapping[str, str]) -> Found:
    """The URLs in the variables that `pattern` names ("CAMERA_*_URL"), each with one or more of
    them. Raises Undiscovered."""
    names = sorted(name for name in environ if fnmatchcase(name, pattern))
    urls = [url for name in names for url in environ[name].replace(",", " ").split()]
    return endpoints(
        [url if "://" in url or url.startswith(f"{UNIX}:") else f"http://{url}" for url in urls]
    )


def endpoints(entries: Any) -> Found:
    """EndpointConfigs of URLs and tables. Raises Undiscovered."""
    if not isinstance(entries, list):
        raise Undiscovered("is not an array")
    table, made = schema_of(EndpointConfig)(), []
    for entry in entries:
        try:
            made.append(table.load({"url": entry} if isinstance(entry, str) else entry))
        except ValidationError as error:
            raise Undiscovered(f"{entry!r}: {error.messages}") from None
    return tuple(made)


class Discovery:
    """Keeps one pool's found endpoints up to date. Needs a running loop; all methods are called
    from it.

    apply: takes what all sources together say, whenever that changes. timers: a clock of one's own,
    in tests.
    """

    def __init__(
        self,
        pool: Pool,
        apply: Callable[[Found], None],
        environ: Mapping[str, str],
        *,
        resolve: Resolve = resolve,
        look_up: LookUp = look_up,
        lifetime: Lifetime = lifetime,
        timers: Timers | None = None,
    ) -> None:
        self._pool = pool
        self._apply = apply
        self._environ = environ
        self._resolve = resolve
        self._services = look_up
        self._lifetime = lifetime
        self._timers = timers
        self._config: DiscoverConfig | None = None
        self._rounds: Supervised | None = None
        self._sources: set[str] = set()
        self._said: dict[str, Found] = {}
        self._before: dict[Address, EndpointConfig] = {}
        """What the sources before the last change of the configuration said; counts until all new
        ones have answered."""
        self._failing: set[str] = set()
        self._registered: dict[Address, EndpointConfig] = {}

    def __repr__(self) -> str:
        return f"<Discovery of {self._pool.name}, {len(self.found())} endpoints>"

    def found(self) -> Found:
        """The endpoints of all sources, each address once."""
        return tuple((self._by_sources() | self._registered).values())

    def _by_sources(self) -> dict[Address, EndpointConfig]:
        every = {Address.of(one.url): one for said in self._said.values() for one in said}
        return every if self._sources <= self._said.keys() else self._before | every

    def sync(self, config: DiscoverConfig | None, directory: Path) -> None:
        """Follow the configuration. A file and the environment are read at once, so that a start
        has what they say."""
        if config == self._config and self._rounds is not None:
            return
        self.stop()
        self._before = self._by_sources()
        self._config = config
        self._said.clear()
        self._failing.clear()
        self._sources.clear()
        if config is None or not config.api:
            self._registered.clear()
        if config is None:
            self._before = {}
            return
        if config.dns:
            self._sources.add(f"DNS {config.dns}")
        if config.env:
            self._source(
                f"environment {config.env}", lambda: in_environment(config.env, self._environ)
            )
        if config.file:
            self._source(f"file {config.file}", lambda: in_file(directory / config.file))
        self._changed()
        stamp: list[object] = [None]
        work = partial(self._round, config, directory, stamp)
        self._rounds = Supervised(
            "discovery", work, every=config.every, of=self._pool.name, timers=self._timers
        )
        self._rounds.start()

    def stop(self) -> None:
        """Look no more; what was found stays."""
        if self._rounds is not None:
            self._rounds.close()
            self._rounds = None

    def register(self, config: EndpointConfig) -> bool:
        """Add an endpoint, or change the one at that address; False when the upstream does not
        allow it."""
        if self._config is None or not self._config.api:
            return False
        self._registered[Address.of(config.url)] = config
        self._changed()
        return True

    def deregister(self, url: str) -> bool:
        """Remove a registered endpoint; False when there is none."""
        if self._registered.pop(Address.of(url), None) is None:
            return False
        self._changed()
        return True

    async def _round(self, config: DiscoverConfig, directory: Path, stamp: list[object]) -> float:
        """Look at everything that may have changed; seconds until the next look. `stamp` is that of
        the file as last read."""
        pause = config.every
        if config.file:
            stamp[0] = await self._read(config.file, directory / config.file, stamp[0])
            if stamp[0] is None:
                pause = min(pause, SETTLED)
        if config.dns:
            pause = min(pause, await self._look_up(config))
        return pause

    async def _read(self, name: str, path: Path, seen: object) -> object:
        """Read a file that has changed since it was `seen`; one that could not be read is tried
        again."""
        stamp = await asyncio.to_thread(_stamp, path)
        if stamp is not None and stamp == seen:
            return seen
        try:
            said = await asyncio.to_thread(in_file, path)
        except Undiscovered as failed:
            self._fail(f"file {name}", failed)
            return None
        self._source(f"file {name}", lambda: said)
        self._changed()
        return stamp

    async def _look_up(self, config: DiscoverConfig) -> float:
        """Ask DNS; return for how many seconds the answer is good, as far as that is known."""
        name, ttl = f"DNS {config.dns}", config.every
        host, _, port = config.dns.rpartition(":")
        try:
            if host:
                addresses = await self._resolve(host, int(port))
                shown = sorted(
                    {f"[{address}]" if ":" in address else address for address in addresses}
                )
                # The name that was configured is what a certificate is for, not the address.
                tls = self._pool.config.tls
                asked = host if config.scheme == "https" and not (tls and tls.server_name) else ""
                found = tuple(
                    EndpointConfig(f"{config.scheme}://{address}:{port}", server_name=asked)
                    for address in shown
                )
            else:
                services = await self._services(config.dns)
                found = _serving(services, config.scheme)
                ttl = min((service.ttl for service in services), default=ttl)
        except OSError as error:
            self._fail(name, Undiscovered(f"{host or config.dns}: {error.strerror or error}"))
            return ttl
        self._source(name, lambda: found)
        self._changed()
        if host and (lasts := await self._lifetime(host)) is not None:
            ttl = lasts
        return max(SOONEST, ttl)

    def _source(self, name: str, ask: Callable[[], Found]) -> None:
        self._sources.add(name)
        try:
            self._said[name] = ask()
        except Undiscovered as failed:
            self._fail(name, failed)
            return
        if name in self._failing:
            self._failing.discard(name)
            log.info("upstream %s: discovery from %s works again", self._pool.name, name)

    def _fail(self, name: str, failed: Undiscovered) -> None:
        if name not in self._failing and not isinstance(failed, Unsettled):
            self._failing.add(name)
            log.warning(
                "upstream %s: discovery from %s failed, what it said last stays: %s",
                self._pool.name,
                name,
                failed,
            )

    def _changed(self) -> None:
        found = self.found()
        if found == self._pool.found:
            return
        before = {endpoint.address for endpoint in self._pool.endpoints}
        self._apply(found)
        after = {endpoint.address for endpoint in self._pool.endpoints}
        text = "upstream %s: discovery: %d added, %d removed; %d endpoints"
        log.info(text, self._pool.name, len(after - before), len(before - after), len(after))


def _serving(services: Sequence[Service], scheme: str) -> Found:
    """Endpoints of SRV records: the lowest priority value serves, the others are backups."""
    first = min((service.priority for service in services), default=0)
    return tuple(
        EndpointConfig(
            f"{scheme}://{one.target}:{one.port}", max(1, one.weight), backup=one.priority > first
        )
        for one in services
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """A value that changes with the file, or None when there is no file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
