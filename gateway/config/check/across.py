"""Lints that need more than one table: routes beside which auth does not protect, unused parts.

What is found is allowed; it becomes a warning at the route, upstream or list it is about.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.config.check import paths
from gateway.config.check.assemble import LISTS, PipelineDraft, RouteDraft
from gateway.config.tables.pipeline import RouteConfig
from gateway.config.tables.server import RoutingConfig
from gateway.config.tables.upstream import UpstreamConfig
from gateway.config.toml.problems import nearest
from gateway.config.toml.read import Document
from gateway.core.hooks import GUARDS, ConfigProblem, kind_of

OBSERVERS = frozenset(("logging", "metrics"))


@dataclass(frozen=True, slots=True)
class _Target:
    """A route to an upstream. `guarded`: its callers must be known."""

    draft: RouteDraft
    route: RouteConfig
    segments: tuple[str, ...]
    guarded: bool

    @property
    def match(self) -> str:
        return self.route.path or self.route.prefix

    @property
    def start(self) -> tuple[str, ...]:
        """What the segments of all paths below this one begin with."""
        return self.segments[:-1] if self.segments[-1] == "" else self.segments

    def starts(self) -> Iterator[tuple[str, ...]]:
        """Yield the `start` of each path above this one, and of this."""
        for size in range(1, len(self.segments) + 1):
            yield self.segments[:size]

    def warn(self, message: str, hint: str) -> None:
        self.draft.placed.document.warning(self.draft.placed.path, f"route: {message}", hint)


def lint(drafts: Sequence[PipelineDraft], routing: RoutingConfig) -> None:
    """Warn of routes and lists that leave open what others guard."""
    targets = list(_targets(drafts))
    below: defaultdict[tuple[str, ...], list[_Target]] = defaultdict(list)
    guarding: defaultdict[tuple[str, ...], list[_Target]] = defaultdict(list)
    for target in targets:
        if target.guarded:
            for start in target.starts():
                below[start].append(target)
            if target.route.prefix and target.route.hosts:
                guarding[target.start].append(target)
    for target in targets:
        if not target.guarded:
            _lint_open_prefix(target, below.get(target.start, ()), routing)
            for start in () if target.route.hosts else target.starts():
                _lint_host(target, guarding.get(start, ()))
    for made in drafts:
        _lint_lists_without_auth(made)
    _lint_observers(drafts)


def _targets(drafts: Sequence[PipelineDraft]) -> Iterator[_Target]:
    for made in drafts:
        for draft in made.routes:
            route = draft.placed.route
            if not route.upstream or draft.placed.bad:
                continue
            for match in route.matches():
                try:
                    segments, _ = paths.matched(match)
                except ConfigProblem:
                    continue
                yield _Target(draft, match, segments, _is_guarded(made, draft))


def _is_guarded(made: PipelineDraft, draft: RouteDraft) -> bool:
    """Return True unless callers pass without credentials."""
    settings = {**made.settings, **draft.placed.route.settings}
    return any(
        kind_of(name) in GUARDS and _is_strict(settings.get(name))
        for name, _ in draft.lists["request"]
    )


def _is_strict(config: Any) -> bool:
    return not getattr(config, "optional", False) or any(getattr(config, "require", {}).values())


def _lint_open_prefix(target: _Target, below: Collection[_Target], routing: RoutingConfig) -> None:
    """Warn of an open prefix above a route with auth, one of those `below` it.

    An origin may take other spellings of the latter's path for it.
    """
    if not target.route.prefix:
        return
    for other in below:
        if not _is_above(target, other) or not _share(target.route, other.route):
            continue
        if spellings := _spellings(other, routing):
            mend = 'set case_sensitive = false and trailing_slash = "ignore", or list what is open'
            hint = f"{spellings} comes here: {mend}"
            target.warn(f"is open, and {other.match!r} below it needs auth", hint)
            return


def _spellings(other: _Target, routing: RoutingConfig) -> str:
    """Return paths that the route does not match but some origins take for it; "" for none."""
    route, found = other.route, []
    is_sensitive = routing.case_sensitive if route.case_sensitive is None else route.case_sensitive
    if is_sensitive and other.match != other.match.upper():
        found.append(repr(other.match.upper()))
    if route.path and (route.trailing_slash or routing.trailing_slash) == "strict":
        found.append(
            repr(other.match.rstrip("/") if other.match.endswith("/") else other.match + "/")
        )
    return " or ".join(found)


def _lint_host(target: _Target, guarding: Collection[_Target]) -> None:
    """Warn of an open route without a host, below one of the prefixes that a host guards.

    The longer path is chosen first, whatever the host.
    """
    for other in guarding:
        if _is_above(other, target) and _share(other.route, target.route):
            guarded = f"of {other.route.hosts[0]!r} too, where {other.match!r} needs auth"
            message = f"is open and takes {target.match!r} {guarded}"
            target.warn(message, "give it hosts, or auth")
            return


def _is_above(one: _Target, other: _Target) -> bool:
    """Return True if `one` is a prefix of all that `other` matches, and less specific."""
    return other.segments[: len(one.start)] == one.start and (
        bool(other.route.path)
        or len(other.segments) > len(one.segments)
        or one.segments[-1] == "" != other.segments[-1]
    )


def _share(one: RouteConfig, other: RouteConfig) -> bool:
    """Return True unless their methods or hosts are all different."""
    methods = not one.methods or not other.methods or bool({*one.methods} & {*other.methods})
    return methods and (not one.hosts or not other.hosts or bool({*one.hosts} & {*other.hosts}))


def _lint_lists_without_auth(made: PipelineDraft) -> None:
    """Warn of a route's own list that leaves out the pipeline's auth without saying so."""
    guards = [name for name, _ in made.lists["request"] if kind_of(name) in GUARDS]
    for draft in made.routes:
        listed = {kind_of(name) for name, _ in draft.lists["request"]}
        if (
            not guards
            or not draft.placed.route.upstream
            or listed & GUARDS
            or any(kind_of(name) in GUARDS for name in draft.overrides)
        ):
            continue
        placed = draft.placed
        message = f"route.request: leaves out {guards[0]!r}: anybody may call this route"
        placed.document.warning(
            (*placed.path, "request"), message, f"list {guards[0]!r}, or say {guards[0]} = false"
        )


def _lint_observers(drafts: Sequence[PipelineDraft]) -> None:
    """Warn of a pipeline that neither logs nor counts, where others do."""
    seeing = {made.name for made in drafts if _kinds(made) & OBSERVERS}
    for made in drafts:
        if (
            seeing
            and made.name not in seeing
            and any(draft.placed.route.upstream for draft in made.routes)
        ):
            hint = "add logging or metrics to response and error"
            made.document.warning(
                ("response",),
                f"requests of the pipeline {made.name!r} are neither logged nor counted",
                hint,
            )


def _kinds(made: PipelineDraft) -> set[str]:
    lists = [made.lists, *(draft.lists for draft in made.routes)]
    return {kind_of(name) for each in lists for key in LISTS for name, _ in each[key]}


def check_like(document: Document, like: str, homes: Mapping[str, Document]) -> None:
    """Check that the upstream exists whose settings registered services take."""
    if like and like not in homes:
        message = f"services.like: no upstream is called {like!r}"
        document.error(("services", "like"), message, nearest(like, tuple(homes)))


def lint_upstreams(
    drafts: Sequence[PipelineDraft],
    upstreams: Mapping[str, UpstreamConfig],
    homes: Mapping[str, Document],
    like: str = "",
) -> None:
    """Warn of upstreams that no route leads to, or whose endpoints get no requests."""
    used = {name for made in drafts for draft in made.routes for name in draft.placed.route.asked}
    used |= {like, *(config.fallback for config in upstreams.values())}
    for name, config in upstreams.items():
        if used - {""} and name not in used:
            homes[name].warning(
                ("upstream", name),
                f"no route leads to the upstream {name!r}",
                "remove it, or use it",
            )
        if (
            config.endpoints
            and config.discover is None
            and all(one.weight == 0 or one.drain for one in config.endpoints)
        ):
            place = ("upstream", name, "endpoints")
            homes[name].warning(
                place,
                f"{name!r} gets no requests: every endpoint drains or has weight 0",
                "give one a weight",
            )
