"""Which route a request belongs to.

Compiled once; a match costs the same with ten routes as with a thousand.

Order of candidates, independent of their order in the files:
  1. path: exact, then template (more literal segments, then the leftmost literal), then the longest
     prefix. A route that says what was sent comes before one that takes it by `trailing_slash =
     "ignore"` or `case_sensitive = false`.
  2. host: exact, then the longest wildcard, then none.
  3. headers: more of them, then more with a value rather than "*".
  4. methods: given, then not given.
  5. versions, where `version_by` is no path: see versions.py.
The first candidate whose host, headers and method accept the request has it. So one that fails on
its method alone leaves the request to less specific ones, and 405 means that no route takes this
method although some would take others.

HEAD is accepted where GET is (RFC 9110 section 9.3.2), TRACE only where it is named (section 9.3.8:
it shows what was sent).
OPTIONS is always accepted: a CORS preflight gets the route that the request it announces would get,
another OPTIONS the most specific route there is, one that lists OPTIONS before others there.

Paths are sent on as they came, and seen so: //admin and /admin%2Fx are not below /admin. But
servers read such paths in different ways, so one that has another route in any of its readings
(readings.py) is refused rather than let around that route's pipeline. A route with `encoded_slash =
"keep"` takes encoded slashes as data; one whose `path` spells the whole path so means it.

Paths are brought to a normal form in paths.py, targets are made in rewrite.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from gateway.config.check.paths import as_sent, matched, normalise
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.core.exchange import ALLOWED_METHODS, Exchange
from gateway.core.failures import Failed, Failure
from gateway.routing.index import (
    EXACT,
    PREFIX,
    TEMPLATE,
    Candidate,
    Group,
    Index,
    Rank,
    by_rank,
    last_resort,
)
from gateway.routing.readings import readings
from gateway.routing.rewrite import rewritten

__all__ = ["Router", "normalise", "rewritten"]

T = TypeVar("T")

COMMON_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
KNOWN = 1024
KNOWN_LENGTH = 128
"""Paths whose group is remembered, and how long they may be: strangers choose them."""
ALLOW = ", ".join(COMMON_METHODS).encode()
"""What is said to be allowed where any method is; TRACE has to be named by a route."""


class Router(Generic[T]):
    """Routes and what each leads to.

    Raises ConfigProblem for a path or prefix that could never be matched.

    guarded: tells whether a target asks callers who they are. None of theirs is left to another
             route
    for percent-encoding what needs none, which RFC 3986 calls equivalent but some servers do not.
    """

    def __init__(
        self,
        entries: Iterable[tuple[RouteConfig, T]],
        routing: RoutingConfig,
        guarded: Callable[[T], bool] = lambda target: False,
    ) -> None:
        self._guarded = guarded
        found: dict[tuple[tuple[str, ...], Rank], list[tuple[RouteConfig, Candidate[T]]]] = {}
        for route, target in entries:
            for segments, rank, captures in _places(route, routing):
                found.setdefault((segments, rank), []).append(
                    (route, Candidate(route, target, rank, captures, routing))
                )
        groups = [(key, Group(key[1], self._merged(here, routing))) for key, here in found.items()]
        exactly = [(key[0], group) for key, group in groups if not key[1][-1]]
        folded = [(key[0], group) for key, group in groups if key[1][-1]]
        self._exactly: Index[T] | None = Index(exactly) if exactly or not folded else None
        self._folded: Index[T] | None = Index(folded) if folded else None
        self._known: dict[str, Group[T]] = {}
        """The most specific group of plain paths asked for lately, where that alone decides."""

    def _merged(
        self, here: list[tuple[RouteConfig, Candidate[T]]], routing: RoutingConfig
    ) -> list[tuple[RouteConfig, Candidate[T]]]:
        """Return the candidates of one path, those that only differ in version as one."""
        found: list[tuple[RouteConfig, Candidate[T]]] = []
        versions: dict[Any, list[tuple[RouteConfig, Candidate[T]]]] = {}
        for route, candidate in sorted(here, key=last_resort):
            by = route.version_by or routing.version_by
            if by.kind == "path" or not route.version:
                found.append((route, candidate))
            else:
                headers = frozenset((name.lower(), value) for name, value in route.headers.items())
                place = (by, frozenset(route.hosts), headers)
                versions.setdefault(place, []).append((route, candidate))
        for (by, _, _), same in versions.items():
            targets = [candidate.target for _, candidate in same]
            target = next(filter(self._guarded, targets), targets[0])
            found.append((same[0][0], Candidate.of_versions(by, same, target, routing)))
        return found

    def match(self, exchange: Exchange) -> T:
        """Return what the request's route leads to; sets `exchange.params`.

        Raises Failed: NO_ROUTE, METHOD_NOT_ALLOWED, MALFORMED.

        For OPTIONS, `exchange.notes[ALLOWED_METHODS]` are then the methods routes accept here,
        unless they accept any.
        """
        path = exchange.path
        group = self._known.get(path)
        if group is None:
            return self._look_up(exchange, path)
        candidate = group.by_method.get(exchange.method, group.otherwise)
        if candidate is None:
            return self._match(exchange, path)
        return candidate.target if candidate.settled else candidate.settle(exchange, path)

    def _look_up(self, exchange: Exchange, path: str) -> T:
        """`match` for a path that is not among the known ones."""
        if (
            "%" in path
            or ";" in path
            or "//" in path
            or "/." in path
            or "\\" in path
            or not path.isascii()
        ):
            return self._match_ambiguous(exchange, path)
        if self._folded is None:
            groups = self._exactly.first(path)  # type: ignore[union-attr]
        elif self._exactly is None:
            groups = self._folded.first(path.lower())
        else:
            return self._match(exchange, path)
        if groups:
            group = groups[0]
            candidate = group.by_method.get(exchange.method, group.otherwise)
            if candidate is not None:
                if len(path) <= KNOWN_LENGTH:
                    if len(self._known) >= KNOWN:
                        self._known.clear()
                    self._known[path] = group
                return candidate.target if candidate.settled else candidate.settle(exchange, path)
        return self._match(exchange, path)

    def _match_ambiguous(self, exchange: Exchange, sent: str) -> T:
        """`match` for a path that another server may take for another one."""
        path = normalise(sent)
        candidate = self._candidate(exchange, path)
        if candidate.rank[0] != EXACT:
            for reading in readings(path, keeps_slash=candidate.keeps_slash):
                if self._has_another(exchange, reading, candidate):
                    raise _ambiguous(path, reading)
        undecoded = as_sent(sent)
        if undecoded != path and not self._guarded(candidate.target):
            other, _ = self._select(exchange, undecoded)
            if other is not None and self._guarded(other.target):
                raise _ambiguous(path, undecoded)
        if exchange.method == "OPTIONS":
            exchange.notes.pop(ALLOWED_METHODS, None)  # Of a reading.
            self._select(exchange, path)
        return candidate.target if candidate.settled else candidate.settle(exchange, path)

    def _has_another(self, exchange: Exchange, path: str, candidate: Candidate[T]) -> bool:
        """Return True if the path has a route, and not the candidate's."""
        other, _ = self._select(exchange, path)
        return other is not None and other.target is not candidate.target

    def _match(self, exchange: Exchange, path: str) -> T:
        """Match in general: any number of candidates, OPTIONS, and what fails."""
        candidate = self._candidate(exchange, path)
        return candidate.target if candidate.settled else candidate.settle(exchange, path)

    def _candidate(self, exchange: Exchange, path: str) -> Candidate[T]:
        """The candidate that has the request. Raises Failed: NO_ROUTE, METHOD_NOT_ALLOWED."""
        candidate, refused = self._select(exchange, path)
        if candidate is None:
            if not refused:
                raise Failed(
                    Failure.NO_ROUTE,
                    why=f"no route for {exchange.method} {exchange.host}{exchange.path}",
                )
            methods = _union(refused) or COMMON_METHODS
            allow = ", ".join(sorted({*methods, "OPTIONS"})).encode("latin-1", "replace")
            names = ", ".join(dict.fromkeys(one.name for one in refused))
            raise Failed(
                Failure.METHOD_NOT_ALLOWED,
                headers=((b"Allow", allow),),
                why=f"route {names} takes {', '.join(methods)}, not {exchange.method[:100]}",
                at=(refused[0].name, "methods"),
            )
        return candidate

    def _select(
        self, exchange: Exchange, path: str
    ) -> tuple[Candidate[T] | None, list[Candidate[T]]]:
        """The candidate that has the request, or None and those that would take another method."""
        method = exchange.method
        if method == "OPTIONS":
            return self._select_for_options(exchange, path), []
        refused = []
        for group in self._groups(path):
            for candidate in group.candidates(exchange):
                if candidate.accepts(method):
                    return candidate, []
                refused.append(candidate)
        return None, refused

    def _select_for_options(self, exchange: Exchange, path: str) -> Candidate[T] | None:
        found = self._candidates(exchange, path)
        if not found:
            return None
        methods = _union(found)
        if methods is not None:
            exchange.notes[ALLOWED_METHODS] = methods
        announced = exchange.headers.get("Access-Control-Request-Method")
        for candidate in found:
            if announced is None and candidate.rank != found[0].rank:
                break
            if candidate.accepts("OPTIONS") or (
                announced is not None and candidate.accepts(announced)
            ):
                return candidate
        return found[0]

    def _groups(self, path: str) -> list[Group[T]]:
        """Every group whose path accepts this one, the most specific first."""
        groups = self._exactly.all(path) if self._exactly is not None else []
        if self._folded is not None:
            groups += self._folded.all(path.lower())
            groups.sort(key=by_rank)
        return groups

    def _candidates(self, exchange: Exchange, path: str) -> list[Candidate[T]]:
        """Return the candidates for a path, host and headers, the most specific first."""
        return [
            candidate for group in self._groups(path) for candidate in group.candidates(exchange)
        ]


def _places(
    route: RouteConfig, routing: RoutingConfig
) -> Iterator[tuple[tuple[str, ...], Rank, tuple[tuple[str, int], ...]]]:
    """Yield where a route stands in the index: segments, rank and captures.

    Twice when its trailing slash does not matter.
    """
    folds = not (routing.case_sensitive if route.case_sensitive is None else route.case_sensitive)
    ignores_slash = (route.trailing_slash or routing.trailing_slash) == "ignore"
    segments, captures = matched(route)
    if route.path:
        spellings = [(segments, 0)]
        if ignores_slash and segments != ("", ""):
            spellings.append((segments[:-1] if segments[-1] == "" else (*segments, ""), 1))
    else:
        prefix = "/".join(segments)
        if ignores_slash and not captures:
            prefix = prefix.rstrip("/") or "/"
        spellings = [(tuple(prefix.split("/")), 0)]
    for segments, by_slash in spellings:
        if folds:
            segments = tuple(segment.lower() for segment in segments)
        varies = tuple(int(segment == "{}") for segment in segments)
        rank: Rank = (EXACT, 0, (), by_slash, int(folds))
        if route.prefix:
            rank = (PREFIX, -len("/".join(segments)), (), by_slash, int(folds))
        elif captures:
            rank = (TEMPLATE, sum(varies) - len(varies), varies, by_slash, int(folds))
        yield segments, rank, tuple(captures.items())


def _ambiguous(path: str, reading: str) -> Failed:
    return Failed(
        Failure.MALFORMED,
        "The path can be read in two ways that lead to different routes.",
        why=f"{path!r} read as {reading!r} has another route",
    )


def _union(candidates: list[Candidate[T]]) -> tuple[str, ...] | None:
    """The methods any of these accepts, sorted; None for all there are."""
    methods: set[str] = set()
    for candidate in candidates:
        if candidate.methods is None:
            return None
        methods |= candidate.methods
    return tuple(sorted(methods))
