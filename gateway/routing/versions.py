"""Versions of an API: which one a request wants, and what is said of it.

Routes at one place that differ in `version` share a candidate of the router where `version_by` is a
header or the media type; a request that names none that there is is refused:

    header       missing and no default: 400; several, or no version's name: 400; unknown: 404
    media type   no version in Accept and no default: 406; only unknown ones: 406

The version is in the path otherwise, and a route's path decides. Every answer of a route with a
version says X-API-Version and X-API-Status, and what it knows of its end: Deprecation (RFC 9745),
Sunset (RFC 8594), Link to a successor. After its end a version is answered 410.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Generic, Protocol, TypeVar

from gateway.config.tables.pipeline import RouteConfig
from gateway.config.versions import VERSION, VersionBy
from gateway.core.clock import Clock
from gateway.core.exchange import Decision, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Hooks

RANGES_MAX = 32
"""Media ranges of an Accept field that are looked at."""
_VENDOR = re.compile(r"[.-]v(\d+(?:\.\d+)*)(?=\+|$)", re.IGNORECASE)
"""The version in a vendor's media type: application/vnd.example.v2+json."""
_NAMES = (b"x-api-version", b"x-api-status", b"deprecation", b"sunset")


class Choice(Protocol):
    """A candidate of the router."""

    @property
    def methods(self) -> frozenset[str] | None: ...

    def accepts(self, method: str) -> bool: ...


C = TypeVar("C", bound=Choice)


class Versions(Generic[C]):
    """Candidates at one place by version, the newest first. route: the name of one of them."""

    __slots__ = ("_at", "_by", "_choices", "_names")

    def __init__(self, by: VersionBy, choices: Sequence[tuple[str, C]], route: str = "") -> None:
        self._by = by
        self._at = (route, "version")
        self._choices: dict[str, list[C]] = {}
        for version, choice in sorted(choices, key=lambda one: natural(one[0]), reverse=True):
            self._choices.setdefault(version, []).append(choice)
        self._names = ", ".join(self._choices)

    def choose(self, exchange: Exchange) -> C:
        """Return the candidate for the version that a request wants.

        Raises Failed: VERSION_REQUIRED, NO_ROUTE, NOT_ACCEPTABLE, METHOD_NOT_ALLOWED. Never for
        OPTIONS: a preflight cannot name a version.
        """
        method = exchange.method
        try:
            wanted = self._header(exchange) if self._by.kind == "header" else self._accept(exchange)
        except Failed:
            if method != "OPTIONS":
                raise
            wanted = self._by.default if self._by.default in self._choices else ""
        choices = self._choices[wanted or next(iter(self._choices))]
        if method == "OPTIONS":
            method = exchange.headers.get("Access-Control-Request-Method", method)
        found = next((one for one in choices if one.accepts(method)), None)
        if found is None and exchange.method == "OPTIONS":
            return choices[0]
        if found is None:
            methods = {name for one in choices for name in one.methods or ()}
            allow = ", ".join(sorted({*methods, "OPTIONS"})).encode("latin-1", "replace")
            why = f"version {wanted} takes {allow.decode('latin-1')}"
            allowed = ((b"Allow", allow),)
            raise Failed(Failure.METHOD_NOT_ALLOWED, headers=allowed, why=why, at=self._at)
        return found

    def _header(self, exchange: Exchange) -> str:
        name, given = self._by.header, exchange.headers.getall(self._by.header, ())
        if not given:
            if self._by.default in self._choices:
                return self._by.default
            text = f"The field {name} is missing. Versions: {self._names}."
            raise Failed(Failure.VERSION_REQUIRED, text, why=f"no {name}", at=self._at)
        if len(set(given)) > 1 or not VERSION.fullmatch(given[0]):
            text = f"{name} names no version. Versions: {self._names}."
            why = f"{name} is {', '.join(given)[:100]!r}"
            raise Failed(Failure.VERSION_REQUIRED, text, why=why, at=self._at)
        if given[0] not in self._choices:
            text = f"There is no version {given[0]} of this. Versions: {self._names}."
            raise Failed(Failure.NO_ROUTE, text, why=f"{name} is {given[0]!r}", at=self._at)
        return given[0]

    def _accept(self, exchange: Exchange) -> str:
        given = ", ".join(exchange.headers.getall("Accept", ()))
        best, weight, unnamed = "", 0.0, not given.strip()
        for version, quality in _accepted(given):
            if not version:
                unnamed = unnamed or quality > 0
            elif version in self._choices and quality > weight:
                best, weight = version, quality
        if best:
            return best
        if unnamed and self._by.default in self._choices:
            return self._by.default
        example = next(iter(self._choices))
        raise Failed(
            Failure.NOT_ACCEPTABLE,
            f"Accept must name a version, e.g. application/json;version={example}. "
            f"Versions: {self._names}.",
            why=f"Accept {given[:100]!r}",
            at=self._at,
        )


def _accepted(given: str) -> Iterator[tuple[str, float]]:
    """Yield the version ("" for none) and the weight of each media range of an Accept field.

    RFC 9110 section 12.5.1. Commas in quoted parameters are not expected: no version holds one.
    """
    for text in given.split(",")[:RANGES_MAX]:
        media, *parameters = (part.strip() for part in text.split(";"))
        vendor = _VENDOR.search(media.partition("/")[2])
        version, quality = vendor[1] if vendor else "", 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            name, value = name.strip().lower(), value.strip().strip('"')
            if name == "version":
                version = value
            elif name == "q":
                quality = float(value) if re.fullmatch(r"[01](?:\.\d{0,3})?", value) else 0.0
        if media:
            yield version, quality


def natural(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts versions as people do: 2 before 10."""
    return tuple(
        (1, int(part), "") if part.isdigit() else (0, 0, part)
        for part in re.findall(r"\d+|[^\d]+", version)
    )


def announced(route: RouteConfig, by: VersionBy, clock: Clock) -> tuple[Hooks, ...]:
    """Return the hooks that say on every answer what is known of a route's version, if anything."""
    facts = (route.version, route.retired, route.deprecated, route.sunset)
    if not any(fact not in ("", False, None) for fact in facts):
        return ()
    made = _Announcement(route, by, clock)
    return (Hooks(request=made.request, response=made.response, name="version"),)


class _Announcement:
    def __init__(self, route: RouteConfig, by: VersionBy, clock: Clock) -> None:
        self._version, self._wall = route.version, clock.wall
        self._retired = 0.0 if route.retired else route.sunset
        self._at = ("retired",) if route.retired else ("sunset",)
        self._why = "retired = true"
        if route.sunset is not None and not route.retired:
            self._why = f"sunset: version {route.version} ended on {_day(route.sunset)}"
        self._deprecated = route.deprecated
        self._varies = {"header": by.header, "media_type": "Accept", "path": ""}[by.kind].encode()
        self._blocks = {state: _lines(route, state) for state in ("active", "deprecated")}
        self._gone = _lines(route, "retired")
        sunset = None if route.sunset is None else _day(route.sunset)
        facts = {"version": route.version, "successor": route.successor, "sunset": sunset}
        self._facts = {name: value for name, value in facts.items() if value}
        self._detail = (
            f"Version {route.version} is no longer served."
            if route.version
            else ("This is no longer served.")
        )
        if route.successor:
            self._detail += f" Its successor is {route.successor}."

    def request(self, exchange: Exchange) -> None:
        now = self._wall()
        gone = self._retired is not None and now >= self._retired
        state = "active" if self._deprecated is None or now < self._deprecated else "deprecated"
        block = self._gone if gone else self._blocks[state]
        exchange.reply_blocks = [*(exchange.reply_blocks or ()), block]
        # A preflight must succeed for a page to see the answer to what follows it.
        if gone and exchange.method != "OPTIONS":
            if exchange.decisions is not None:
                exchange.decisions.append(Decision("version", "denied", self._why))
            raise Failed(
                Failure.GONE,
                self._detail,
                facts=self._facts,
                why=self._why,
                by="version",
                at=self._at,
            )

    def response(self, exchange: Exchange, reply: Reply) -> None:
        for name in _NAMES:
            if name in reply.index:  # The upstream's own account: there is one on a reply.
                reply.remove(name)
        if self._varies:
            reply.vary(self._varies)


def _lines(route: RouteConfig, state: str) -> bytes:
    """Return the header lines of a version in one of its states."""
    pairs = [("X-API-Version", route.version)] if route.version else []
    pairs.append(("X-API-Status", state))
    if route.deprecated is not None:
        pairs.append(("Deprecation", f"@{route.deprecated:.0f}"))
    if route.sunset is not None:
        pairs.append(("Sunset", formatdate(route.sunset, usegmt=True)))
    if route.successor:
        pairs.append(("Link", f'<{route.successor}>; rel="successor-version"'))
    return "".join(f"{name}: {value}\r\n" for name, value in pairs).encode("latin-1", "replace")


def _day(unix: float) -> str:
    at = datetime.fromtimestamp(unix, UTC)
    return at.isoformat().removesuffix("T00:00:00+00:00")
