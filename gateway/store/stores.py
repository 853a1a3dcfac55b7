"""Shared stores: what others may ask of one, and opening the one that `[store] url` names.

memory:// is no store: everything then stays in the process, and nothing here is imported further.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote, urlsplit

from gateway.core.clock import Clock
from gateway.core.telemetry import Telemetry

PORTS = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379, "redis+cluster": 6379}
"""The schemes of store URLs, and the ports that go without saying."""


SCHEMES = ", ".join(f"{scheme}://" for scheme in PORTS)


class StoreDown(Exception):
    """The store has not answered, in time or as it should; the message says why, for operators."""


class BadUrl(ValueError):
    """Not the URL of a store."""


class Store(Protocol):
    """Counts limits for several gateways."""

    @property
    def up(self) -> bool:
        """Whether it makes sense to ask. Changes by itself, in the background."""

    gateways: int
    """How many gateways use it, this one included, as far as is known; 0 until the store has said so."""
    name: str
    """Its URL without secrets."""

    def ask(self, action: bytes, keys: Sequence[bytes], args: Sequence[bytes]) -> asyncio.Future[list[int]]:
        """Runs the limits' script (limit_script.py). The future fails with StoreDown."""

    def post(self, action: bytes, keys: Sequence[bytes], args: Sequence[bytes]) -> None:
        """The same when nobody waits for the answer."""

    def hold(self, slot: bytes, key: bytes, args: Sequence[bytes]) -> None:
        """Renews a slot until it is let go."""

    def let_go(self, slot: bytes, key: bytes, args: Sequence[bytes]) -> None:
        """Gives a slot back."""

    def close(self) -> None:
        """Ends all connections."""


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store URL taken apart: redis[s]://user:password@host:port/0, redis+sentinel://host,host/service/0, redis+cluster://..."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = ""
    service: str = ""
    database: int = 0

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.scheme}://{hosts}" + (f"/{self.service}" if self.service else "")

    def channel(self, name: str) -> str:
        """Where changes of what is called `name` are published: what is published in one database is heard in all of them."""
        return f"{name}:changes" + (f":{self.database}" if self.database else "")


def is_url(text: str) -> bool:
    """Whether this is meant to be the URL of a shared store."""
    return text.partition("://")[0] in PORTS and "://" in text


def parse(url: str) -> StoreUrl:
    """A URL's parts. Raises BadUrl."""
    scheme, _, rest = url.partition("://")
    if scheme not in PORTS:
        raise BadUrl(f"must begin with memory:// or one of {SCHEMES}")
    place, _, path = rest.partition("/")
    secrets, _, hosts = place.rpartition("@")
    user, _, password = secrets.partition(":")
    found = []
    for host in hosts.split(","):
        try:
            parts = urlsplit(f"//{host}")
            found.append((parts.hostname or "", parts.port or PORTS[scheme]))
        except ValueError:
            raise BadUrl("has a port that is no port") from None
    if not all(host for host, _ in found) or (len(found) > 1 and "+" not in scheme):
        raise BadUrl("must name one host" if "+" not in scheme else "must name hosts")
    words = [word for word in path.split("/") if word]
    service = words.pop(0) if scheme == "redis+sentinel" and words else ""
    if scheme == "redis+sentinel" and not service:
        raise BadUrl("must name the service that the sentinels watch: redis+sentinel://host:26379/mymaster")
    database = words.pop(0) if words and scheme != "redis+cluster" else "0"
    if words or not database.isdecimal():
        raise BadUrl("must end in the number of a database, or in nothing")
    return StoreUrl(scheme, tuple(found), unquote(user), unquote(password), service, int(database))


def open_store(url: str, deadline: float, clock: Clock, telemetry: Telemetry) -> Store | None:
    """The store at `url`, not connected yet; None for memory://. Raises BadUrl, and ImportError without the package redis."""
    if url.startswith("memory://"):
        return None
    from gateway.store.redis.store import RedisStore

    return RedisStore(parse(url), deadline, clock, telemetry)
