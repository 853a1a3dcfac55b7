"""What has been purged of caches, and when: by URL, path, prefix, tag or altogether.

Nothing stored is touched by a purge. It takes a version, and what is stored remembers the version
that was known when its origin was asked: an answer older than a purge that names it counts as gone,
or as stale after a soft purge, wherever it lies and whenever it is looked at. So a purge takes the
same time whatever is stored, and the answers under way are covered as well.

The versions are kept by a hash of the name, in a table of fixed size. Names that share a place
are purged together, which costs a question to the origin and nothing else.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from typing import NamedTuple
from urllib.parse import unquote
from zlib import crc32

from gateway.core.wait import Wait

BUCKETS = 1 << 16
MAX_PREFIX_LENGTHS = 128
"""Different lengths of purged prefixes that are told apart; one more purges everything."""
_EXACT, _STEP = 64, 32
"""Characters up to which a prefix counts as it is, and by which longer ones are told apart."""
MAX_PATTERNS = 256
"""Purged patterns that are told apart; one more purges everything."""

PURGES = ("caching", "purges")
"""The key in the registry of what has been purged, for the whole process."""
PURGED = "purged"
"""The kind of message that carries purges to another process: a list of tuples, as of Purge."""


class Purge(NamedTuple):
    """What is to be purged.

    kind:  "url": `value` is "http://host/path?query", or "/path?query" on any host.
           "path": a path with any query, on any host. "prefix": what a URL or a path begins with.
           "pattern": a path in which "*" stands for anything. "tag": a tag that the origin gave.
           "all": everything. Letters may be percent-encoded or not.
    soft:  what is purged stays, but is stale.
    """

    kind: str
    value: str = ""
    soft: bool = False


async def everywhere(known: Purges | None, purges: Iterable[Purge]) -> bool:
    """Purge here and wherever is told, and wait for that; False if nothing is cached here."""
    if known is None:
        return False
    for told in [known.purge(one) for one in purges]:
        if isinstance(told, Wait):
            await told
    return True


def of_pattern(pattern: str) -> Purge:
    """Return the purge for a path in which "*" stands for anything, in the cheapest kind."""
    if "*" not in pattern:
        return Purge("path", pattern)
    if pattern.startswith("/") and pattern.index("*") == len(pattern) - 1:
        return Purge("prefix", pattern[:-1])
    return Purge("pattern", pattern)


class Purges:
    """All purges so far. version: that of the latest one; it only grows.

    affecting: that of the latest one that may concern what is stored. stores: what is stored, by
    URI. tell: what is called with each purge that begins here, so that others learn of it.
    """

    def __init__(self, tell: Callable[[Purge], object] | None = None) -> None:
        self.version = self.affecting = 0
        self.stores: list[Container[str]] = []
        self.tell = tell
        self._tables = (_Table(), _Table())

    def __repr__(self) -> str:
        return f"<Purges up to {self.version}>"

    def purge(self, purge: Purge) -> object:
        """Purge here and wherever it is told to; return what `tell` does."""
        self.add(purge)
        return None if self.tell is None else self.tell(purge)

    def add(self, purge: Purge) -> None:
        """Purge what is older than this moment, here."""
        version = self.version + 1
        for field in self.fields(purge):
            self.restore(field, version)

    @staticmethod
    def fields(purge: Purge) -> list[str]:
        """Return the names under which a purge is remembered, for `restore`."""
        kind, value = purge.kind, purge.value
        if kind in ("url", "prefix"):
            value = value.partition("://")[2] or value
        if kind != "tag":
            value = unquote(value)
        if kind == "prefix":
            value = value[: _told_apart(len(value))]
        hardness = "soft" if purge.soft else "hard"
        if kind in ("all", "pattern"):
            return [f"{hardness} {kind} {value}"]
        fields = [f"{hardness} place {bucket(kind, value)}"]
        return [*fields, f"{hardness} length {len(value)}"] if kind == "prefix" else fields

    def restore(self, field: str, version: int) -> None:
        """Purge what a name of `fields` says, as of a version. Raises ValueError."""
        hardness, kind, value = field.split(" ", 2)
        self._tables[hardness == "soft"].add(kind, value, version)
        self.affecting = self.version = max(self.version, version)

    def written(self, uri: str) -> None:
        """Purge a URI after a write: as a purge by "url", and cheaper where nothing is stored.

        Answers that are still to come are covered all the same.
        """
        version = self.version = self.version + 1
        scheme, _, rest = uri.partition("://")
        other = f"{'http' if scheme == 'https' else 'https'}://{rest}"
        for store in self.stores:
            if uri in store or other in store:
                self.affecting = version
        if "%" in rest:
            rest = unquote(rest)
        self._tables[0].note(bucket("url", rest), version)
        if self.tell is not None:
            self.tell(Purge("url", uri))

    def verdict(self, uri: str, tags: Iterable[int], since: int) -> str:
        """Return "gone", "stale" or "" for an answer from `uri`, asked for at version `since`.

        tags: of the answer, as `tag_buckets` gives them.
        """
        if since >= self.version:
            return ""
        hard, soft = self._tables
        if hard.names(uri, tags, since):
            return "gone"
        return "stale" if soft.names(uri, tags, since) else ""


class _Table:
    """The purges of one kind, hard or soft, by when they were."""

    def __init__(self) -> None:
        self._versions = array("Q", bytes(8 * BUCKETS))
        self._latest = 0
        self._all = 0
        self._lengths: set[int] = set()
        self._patterns: dict[str, tuple[int, re.Pattern[str]]] = {}

    def add(self, kind: str, value: str, version: int) -> None:
        """Take one name; see `Purges.fields`. Raises ValueError."""
        self._latest = max(self._latest, version)
        if kind == "place":
            place = int(value) % BUCKETS
            self._versions[place] = max(self._versions[place], version)
            return
        if kind == "length":
            self._lengths.add(int(value))
        elif kind == "pattern":
            self._patterns[value] = version, _compiled(value)
        if (
            kind == "all"
            or len(self._lengths) > MAX_PREFIX_LENGTHS
            or len(self._patterns) > MAX_PATTERNS
        ):
            self._all = max(self._all, version)
            self._lengths.clear()
            self._patterns.clear()

    def note(self, place: int, version: int) -> None:
        """Purge what has a name of this bucket, as of the latest version there is."""
        self._versions[place] = self._latest = version

    def names(self, uri: str, tags: Iterable[int], since: int) -> bool:
        """Return True if a purge after `since` names what came from `uri`."""
        if self._latest <= since:
            return False
        if self._all > since:
            return True
        versions = self._versions
        if any(versions[place] > since for place in tags):
            return True
        if any(versions[place] > since for place in self._places(uri)):
            return True
        path = _path(uri)
        return any(
            version > since and pattern.fullmatch(path)
            for version, pattern in self._patterns.values()
        )

    def _places(self, uri: str) -> Iterator[int]:
        rest = unquote(uri.partition("://")[2])
        target = rest[rest.find("/") :]
        yield bucket("url", rest)
        yield bucket("url", target)
        yield bucket("path", _path(uri))
        for length in self._lengths:
            yield bucket("prefix", rest[:length])
            yield bucket("prefix", target[:length])


def _told_apart(length: int) -> int:
    """Return for how long a prefix counts: a little more is purged with a long one.

    Who writes chooses the length of what `invalidate` takes from the path. There are no more of
    these than MAX_PREFIX_LENGTHS, so it purges no more than that.
    """
    if length <= _EXACT:
        return length
    steps = min((length - _EXACT) // _STEP, MAX_PREFIX_LENGTHS - _EXACT - 1)
    return _EXACT + steps * _STEP


def bucket(kind: str, value: str) -> int:
    """Return the place of a name in the table; the same in every process."""
    return crc32(f"{kind}\0{value}".encode("utf-8", "surrogatepass")) % BUCKETS


def tag_buckets(value: str) -> tuple[int, ...]:
    """Return the places of the tags in a field's value, which commas or spaces separate."""
    return tuple(sorted({bucket("tag", tag) for tag in re.split(r"[,\s]+", value) if tag}))


def _path(uri: str) -> str:
    return "/" + unquote(uri.partition("://")[2].partition("/")[2].partition("?")[0])


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*"), re.DOTALL)
