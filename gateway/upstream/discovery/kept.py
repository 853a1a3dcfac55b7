"""Where registrations of services are kept: in a file over restarts, or in memory.

What other processes change in the file is told to `changed`. A shared store is kept_in_store.py's;
what registrations mean stands in registered.py.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import orjson
from marshmallow import ValidationError

from gateway.config.tables.schema import schema_of
from gateway.config.tables.targets import ServiceConfig
from gateway.lifetime.supervised import Supervised
from gateway.lifetime.watch import Stamp, stamp
from gateway.upstream.discovery.registered import Registrations, Unregistered, added, removed

log = logging.getLogger("gateway.upstream")

FILE = "services.json"
EVERY = 1.0
"""Seconds between two looks at the file."""

Changed = Callable[[Registrations], None]
"""Takes all registrations after another process has changed them."""


class Unkept(Exception):
    """A change could not be written down; the message says why, for operators."""


class Keeper(Protocol):
    """What keeps registrations."""

    lasting: bool
    """Whether they outlast the process."""

    async def load(self) -> Registrations:
        """All of them. Raises Unkept or Unregistered when they cannot be read."""

    async def put(self, one: ServiceConfig) -> Registrations:
        """Add or replace one; return all. Raises Unkept, Unregistered."""

    async def drop(self, name: str, url: str = "") -> Registrations:
        """Take a service out, or one address of it; return the others. Raises Unkept."""

    def close(self) -> None: ...


class InMemory:
    """Keeps them until the process ends."""

    lasting = False

    def __init__(self) -> None:
        self._all: Registrations = ()

    async def load(self) -> Registrations:
        return self._all

    async def put(self, one: ServiceConfig) -> Registrations:
        self._all = added(self._all, one)
        return self._all

    async def drop(self, name: str, url: str = "") -> Registrations:
        self._all = removed(self._all, name, url)
        return self._all

    def close(self) -> None:
        """Nothing is open."""


class InFile:
    """Keeps them in a file of a directory, which it watches. Processes may share it."""

    lasting = True

    def __init__(self, directory: Path, changed: Changed) -> None:
        self._directory = directory
        self._path = directory / FILE
        self._changed = changed
        self._seen: Stamp = None
        self._watch = Supervised("registered_services", self._look, every=EVERY)
        self._watch.start(EVERY)

    async def load(self) -> Registrations:
        self._seen, found = await asyncio.to_thread(self._read)
        return found

    async def put(self, one: ServiceConfig) -> Registrations:
        return await asyncio.to_thread(self._write, lambda known: added(known, one))

    async def drop(self, name: str, url: str = "") -> Registrations:
        return await asyncio.to_thread(self._write, lambda known: removed(known, name, url))

    def close(self) -> None:
        self._watch.close()

    async def _look(self) -> None:
        if await asyncio.to_thread(stamp, self._path) != self._seen:
            try:
                found = await self.load()
            except (Unkept, Unregistered) as error:
                log.error("registered services stay as they were: %s", error)
                self._seen = await asyncio.to_thread(stamp, self._path)
                return
            self._changed(found)

    def _read(self) -> tuple[Stamp, Registrations]:
        seen = stamp(self._path)
        try:
            return seen, parsed(self._path.read_bytes(), self._path)
        except FileNotFoundError:
            return None, ()
        except OSError as error:
            raise Unkept(f"cannot read {self._path}: {error.strerror}") from None

    def _write(self, change: Callable[[Registrations], Registrations]) -> Registrations:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                _, known = self._read()
                found = change(known)
                self._replace(orjson.dumps([asdict(one) for one in found]))
                return found
        except OSError as error:
            raise Unkept(f"cannot write {self._path}: {error.strerror}") from None

    def _replace(self, data: bytes) -> None:
        """Put the file in place of the old one, on the disk, in one step."""
        new = self._path.with_suffix(".new")
        made = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
        with os.fdopen(made, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._directory, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def parsed(data: bytes, path: Path) -> Registrations:
    """Raises Unregistered."""
    try:
        tables = orjson.loads(data)
        if not isinstance(tables, list):
            raise ValueError("is no array")
        schema = schema_of(ServiceConfig)()
        made = []
        for one in tables:
            given = {key: value for key, value in one.items() if value not in ("", None)}
            made.append(schema.load(given))
        return tuple(made)
    except ValidationError as error:
        raise Unregistered(f"{path}: {error.messages}") from None
    except (ValueError, AttributeError) as error:
        raise Unregistered(f"{path}: {error}") from None
