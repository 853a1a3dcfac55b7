"""Candidates by path, host, headers and method, at a cost independent of their number.

What the ranks mean and what follows from a search is said in router.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from gateway.config.check.paths import decoded
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.versions import VersionBy
from gateway.core.exchange import Exchange
from gateway.core.failures import Failed, Failure
from gateway.routing.versions import Versions

T = TypeVar("T")

Rank = tuple[int, int, tuple[int, ...], int, int]
"""How specific a path is, the smallest first.

Kind, size, which segments vary, taken by trailing slash, taken by case.
"""

EXACT, TEMPLATE, PREFIX = range(3)
_LONGEST_HOST = 255
"""RFC 1035 section 2.3.4; longer ones are no host's name, and not worth cutting into labels."""


class Candidate(Generic[T]):
    """A route at one path. `methods` are those it accepts, None for all.

    HEAD is among them where GET is.

    keeps_slash: an encoded slash is data to its origin (`encoded_slash = "keep"`).
    versions: those of its place, of which the request names one; None where it is one itself.
    settled: nothing is left to find out when it has been found.
    """

    __slots__ = (
        "captures", "keeps_slash", "methods", "name", "rank", "settled", "target", "versions",
    )  # fmt: skip

    def __init__(
        self,
        route: RouteConfig,
        target: T,
        rank: Rank,
        captures: tuple[tuple[str, int], ...],
        routing: RoutingConfig,
    ) -> None:
        self.keeps_slash = (route.encoded_slash or routing.encoded_slash) == "keep"
        self.name = route.name
        self.target = target
        self.rank = rank
        self.captures = captures
        given = {method.upper() for method in route.methods}
        self.methods = frozenset(given | {"HEAD"} if "GET" in given else given) if given else None
        self.versions: Versions[Candidate[T]] | None = None
        self.settled = not captures

    @classmethod
    def of_versions(
        cls,
        by: VersionBy,
        found: list[tuple[RouteConfig, Candidate[T]]],
        target: T,
        routing: RoutingConfig,
    ) -> Candidate[T]:
        """Return the one candidate for several versions at one place.

        found: in the order in which they are tried where a version has several. target: the one
        that stands for all until the version is known.
        """
        made = cls(found[0][0], target, found[0][1].rank, (), routing)
        methods = [candidate.methods for _, candidate in found]
        made.methods = (
            None if None in methods else frozenset(name for one in methods for name in one or ())
        )
        choices = [(route.version, candidate) for route, candidate in found]
        made.versions, made.settled = Versions(by, choices, made.name), False
        return made

    def settle(self, exchange: Exchange, path: str) -> T:
        """Choose the version and set `exchange.params`; return the target. Raises Failed."""
        found = self if self.versions is None else self.versions.choose(exchange)
        if found.captures:
            segments = path.split("/")
            exchange.params = {name: decoded(segments[place]) for name, place in found.captures}
        return found.target

    def accepts(self, method: str) -> bool:
        return method != "TRACE" if self.methods is None else method in self.methods


class _Shape(Generic[T]):
    """Candidates that ask for the same header fields.

    `names` with a value each, `present` with any. `asked`: the values that any asks for, by name.
    """

    __slots__ = ("asked", "by_values", "names", "present")

    def __init__(self, names: tuple[str, ...], present: tuple[str, ...]) -> None:
        self.names = names
        self.present = present
        self.asked: dict[str, set[str]] = {name: set() for name in names}
        self.by_values: dict[tuple[str, ...], list[Candidate[T]]] = {}


Shapes = tuple[_Shape[T], ...]


class Group(Generic[T]):
    """All candidates at one path, found by host, then by headers, then by method.

    `by_method` and `otherwise` answer at once when no candidate here asks for a host or a header;
    OPTIONS only when there is but one answer to it.
    """

    __slots__ = ("by_method", "hosts", "otherwise", "rank", "rest", "wildcards")

    def __init__(self, rank: Rank, entries: list[tuple[RouteConfig, Candidate[T]]]) -> None:
        self.rank = rank
        entries = sorted(entries, key=last_resort)
        hosts: dict[str, list[tuple[RouteConfig, Candidate[T]]]] = {}
        for entry in entries:
            for host in dict.fromkeys(host.lower() for host in entry[0].hosts or ("",)):
                hosts.setdefault(host, []).append(entry)
        self.rest: Shapes[T] = _shapes(hosts.pop("", ()))
        self.hosts = {
            host: _shapes(found) for host, found in hosts.items() if not host.startswith("*.")
        }
        self.wildcards = {
            host[2:]: _shapes(found) for host, found in hosts.items() if host.startswith("*.")
        }
        self.by_method: dict[str, Candidate[T] | None] = {}
        self.otherwise: Candidate[T] | None = None
        if not any(route.hosts or route.headers for route, _ in entries):
            for _, candidate in entries:
                for method in candidate.methods or ():
                    self.by_method.setdefault(method, candidate)
                if candidate.methods is None and self.otherwise is None:
                    self.otherwise = candidate
            if self.by_method:
                self.by_method["OPTIONS"] = None
            self.by_method.setdefault("TRACE", None)

    def candidates(self, exchange: Exchange) -> list[Candidate[T]]:
        """Those whose host and headers accept the request, the most specific first."""
        found: list[Candidate[T]] = []
        if self.hosts or self.wildcards:
            host = exchange.host
            if host.endswith("."):
                host = host[:-1]
            _accepting(self.hosts.get(host, ()), exchange, found)
            if self.wildcards and len(host) <= _LONGEST_HOST:
                dot = host.find(".", 1)
                while dot != -1:
                    _accepting(self.wildcards.get(host[dot + 1 :], ()), exchange, found)
                    dot = host.find(".", dot + 1)
        _accepting(self.rest, exchange, found)
        return found


def _accepting(shapes: Shapes[T], exchange: Exchange, found: list[Candidate[T]]) -> None:
    """Appends the candidates whose headers are there.

    Raises Failed for a field of which one line alone has a value that is asked for: the upstream
    may go by another than the first.
    """
    headers = exchange.headers
    for shape in shapes:
        for name, values in shape.asked.items():
            given = headers.getall(name, ())
            if given[1:] and len(set(given)) > 1 and not values.isdisjoint(given):
                raise Failed(
                    Failure.MALFORMED,
                    f"The fields {name} lead to different routes.",
                    why=f"{len(given)} lines of {name} that differ",
                )
        if not shape.present or all(name in headers for name in shape.present):
            found += shape.by_values.get(tuple([headers.get(name, "") for name in shape.names]), ())


def _shapes(entries: Iterable[tuple[RouteConfig, Candidate[T]]]) -> Shapes[T]:
    shapes: dict[tuple[tuple[str, ...], tuple[str, ...]], _Shape[T]] = {}
    for route, candidate in entries:
        asked = sorted((name.lower(), value) for name, value in route.headers.items())
        names = tuple(name for name, value in asked if value != "*")
        present = tuple(name for name, value in asked if value == "*")
        shape = shapes.setdefault((names, present), _Shape(names, present))
        for name, value in asked:
            if value != "*":
                shape.asked[name].add(value)
        shape.by_values.setdefault(tuple(value for _, value in asked if value != "*"), []).append(
            candidate
        )
    ordered = sorted(
        shapes, key=lambda asked: (-len(asked[0]) - len(asked[1]), -len(asked[0]), asked)
    )
    return tuple(shapes[asked] for asked in ordered)


def last_resort(entry: tuple[RouteConfig, object]) -> tuple[object, ...]:
    """An order for what the rules leave equal: HEAD's own route before GET's.

    So the files' order never decides.

    HEAD's own route before GET's.
    """
    route = entry[0]
    methods = sorted(method.upper() for method in route.methods)
    return not methods, "HEAD" not in methods, methods, route.path, route.prefix, route.name


class _Node(Generic[T]):
    """A segment of the prefix tree.

    `at` are the groups for a path that ends here, `under` for one that goes on.
    """

    __slots__ = ("at", "children", "get", "under")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.get = self.children.get
        self.at: tuple[Group[T], ...] = ()
        self.under: tuple[Group[T], ...] = ()


class _Stem(Generic[T]):
    """A segment of the template tree; `wild` is where a variable leads, `groups` what ends here."""

    __slots__ = ("children", "get", "groups", "wild")

    def __init__(self) -> None:
        self.children: dict[str, _Stem[T]] = {}
        self.get = self.children.get
        self.wild: _Stem[T] | None = None
        self.groups: list[Group[T]] = []


class Index(Generic[T]):
    """Finds groups by path: exact paths in a dict, templates and prefixes in trees of segments.

    Every group of a prefix tree already holds those above it, so that finding the deepest is
    finding all.
    """

    def __init__(self, groups: Iterable[tuple[tuple[str, ...], Group[T]]]) -> None:
        self.exact: dict[str, tuple[Group[T], ...]] = {}
        self.stem: _Stem[T] = _Stem()
        self.longest = 0
        self.root: _Node[T] = _Node()
        self.depth = 0
        for segments, group in sorted(groups, key=lambda item: item[1].rank):
            kind = group.rank[0]
            if kind == EXACT:
                path = "/".join(segments)
                self.exact[path] = (*self.exact.get(path, ()), group)
            elif kind == TEMPLATE:
                self._add_template(segments, group)
            else:
                self._add_prefix(segments, group)
        self._inherit(self.root, ())

    def _add_template(self, segments: tuple[str, ...], group: Group[T]) -> None:
        stem = self.stem
        for segment in segments:
            if segment != "{}":
                stem = stem.children.setdefault(segment, _Stem())
            else:
                stem.wild = stem.wild or _Stem()
                stem = stem.wild
        stem.groups.append(group)
        self.longest = max(self.longest, len(segments))

    def _add_prefix(self, segments: tuple[str, ...], group: Group[T]) -> None:
        """Add a prefix; one that ends with a slash ("/api/") takes only what is below it."""
        below = segments[-1] == ""
        node = self.root
        for segment in segments[:-1] if below else segments:
            node = node.children.setdefault(segment, _Node())
        node.under = (*node.under, group)
        if not below:
            node.at = (*node.at, group)

    def _inherit(self, node: _Node[T], above: tuple[Group[T], ...], depth: int = 0) -> None:
        node.at += above
        node.under += above
        self.depth = max(self.depth, depth)
        for child in node.children.values():
            self._inherit(child, node.under, depth + 1)

    def first(self, path: str) -> Sequence[Group[T]]:
        """The groups to try, at least the most specific of all there are."""
        return (
            self.exact.get(path) or (self.longest and self._templates(path)) or self._prefixes(path)
        )

    def all(self, path: str) -> list[Group[T]]:
        """Every group whose path accepts this one, the most specific first."""
        return [*self.exact.get(path, ()), *self._templates(path), *self._prefixes(path)]

    def _templates(self, path: str) -> Sequence[Group[T]]:
        segments = path.split("/", self.longest)
        if len(segments) > self.longest:
            return ()
        stems = [self.stem]
        for segment in segments:
            further = []
            for stem in stems:
                child = stem.get(segment)
                if child is not None:
                    further.append(child)
                if stem.wild is not None and segment:
                    further.append(stem.wild)
            if not further:
                return ()
            stems = further
        if len(stems) == 1:
            return stems[0].groups
        return sorted([group for stem in stems for group in stem.groups], key=by_rank)

    def _prefixes(self, path: str) -> tuple[Group[T], ...]:
        node = self.root
        for segment in path.split("/", self.depth):
            child = node.get(segment)
            if child is None:
                return node.under
            node = child
        return node.at


def by_rank(group: Group[T]) -> Rank:
    return group.rank
