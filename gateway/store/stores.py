"""Shared stores: their URLs, and what is raised when one does not answer.

memory:// is no store: everything then stays in the process. What talks to Redis is store/redis/.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

PORTS = {"redis": 6379, "rediss": 6379, "redis+sentinel": 26379, "redis+cluster": 6379}
"""The schemes of store URLs, and their default ports."""

SCHEMES = ", ".join(f"{scheme}://" for scheme in PORTS)


class StoreDown(Exception):
    """The store has not answered in time, or refused; the message says why, for operators."""


class BadUrl(ValueError):
    """Not the URL of a store."""


@dataclass(frozen=True, slots=True)
class StoreUrl:
    """A store URL taken apart.

    redis[s]://user:password@host:port/0, redis+sentinel://host,host/service/0,
    redis+cluster://host,host
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = field(default="", repr=False)
    service: str = ""
    database: int = 0

    def __str__(self) -> str:
        """The URL without user and password."""
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.scheme}://{hosts}" + (f"/{self.service}" if self.service else "")

    def channel(self, name: str) -> str:
        """The channel on which changes of `name` are published.

        Redis delivers a channel's messages in all databases, so its name holds the database.
        """
        return f"{name}:changes" + (f":{self.database}" if self.database else "")


@dataclass(frozen=True, slots=True)
class SharedStore:
    """The store that `[store] url` names, and how many seconds it may take to answer."""

    url: StoreUrl
    deadline: float


def is_url(text: str) -> bool:
    """Return True if `text` is meant to be the URL of a shared store."""
    return text.partition("://")[0] in PORTS and "://" in text


def parse(url: str) -> StoreUrl:
    """Take a URL apart. Raises BadUrl."""
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
        raise BadUrl(
            "must name the service that the sentinels watch: redis+sentinel://host:26379/mymaster"
        )
    database = words.pop(0) if words and scheme != "redis+cluster" else "0"
    if words or not database.isdecimal():
        raise BadUrl("must end in the number of a database, or in nothing")
    return StoreUrl(scheme, tuple(found), unquote(user), unquote(password), service, int(database))
