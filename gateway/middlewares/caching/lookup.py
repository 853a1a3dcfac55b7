"""A request's question to the cache: its fields, its key, and what is stored for it.

Nothing here changes anything, so that `explain` can ask the same questions.
"""

from __future__ import annotations

from collections.abc import Hashable
from operator import itemgetter
from typing import Any, Final

from gateway.core.exchange import Exchange
from gateway.core.headers import (
    OVERRIDES,
    Pair,
    is_client_address,
    is_from_proxies,
    is_own,
    lower,
    spelt,
)
from gateway.core.hooks import is_ours
from gateway.core.provenance import account
from gateway.middlewares.caching.config import CachingConfig
from gateway.middlewares.caching.entries import Entry
from gateway.middlewares.caching.flights import Flight
from gateway.middlewares.caching.rules.directives import NOTHING_SAID, Directives, parse
from gateway.middlewares.caching.rules.parts import covers, range_of
from gateway.middlewares.caching.rules.policy import Verdict, may_serve
from gateway.middlewares.caching.storage.memory import Memory, Slot
from gateway.middlewares.caching.vary import Changes, changes, secondary_key

Fields = dict[bytes, bytes]

_DIRECTIVES = frozenset((b"cache-control", b"pragma"))
_CONDITIONS = {b"if-match", b"if-modified-since", b"if-none-match", b"if-unmodified-since"}
_READ = _DIRECTIVES | OVERRIDES | _CONDITIONS | {b"range", b"if-range", b"upgrade"}
"""Request fields that change what the cache does.

A request without any is answered without a further look.
"""

REPLACED = frozenset((b"if-none-match", b"if-modified-since"))
"""The client's conditions, in place of which the cache asks its own."""

_PARTS = (b"range", b"if-range")
_NO_FIELDS: Fields = {}
_NAME = itemgetter(0)
ORIGIN: Final = "cache key's origin"
"""Key of the memo that holds scheme, host, and what else proxies say to the origin."""
_PRAGMA_NO_CACHE = Directives(no_cache=True)
_BORING_MAX = 1024


class Lookup:
    """What the store had for a request, and how it was asked.

    uri, scope:  the key. slot: what is stored there, None when nothing is or when it does not
                 matter. verdict: what may be done with it. why: the RFC 9211 word should the
                 request go to the origin.
    fields:      the request's, joined, by lower-case name. directives: its Cache-Control.
    asked:       the monotonic second. stamp: the version of the purges then. conditional: whether
                 the origin may answer 304 to us. changes: what hooks had changed then.
    flight:      what others wait for, where this leads.
    refused:     in a word, why the answer is not stored; "" where it says nothing about that.
    """

    __slots__ = (
        "asked",
        "changes",
        "conditional",
        "directives",
        "fields",
        "flight",
        "refused",
        "scope",
        "slot",
        "stamp",
        "uri",
        "verdict",
        "why",
    )

    def __init__(
        self,
        uri: str,
        scope: Hashable,
        slot: Slot | None,
        fields: Fields,
        asked: float,
        stamp: int,
        changes: Changes,
    ) -> None:
        self.uri = uri
        self.scope = scope
        self.slot = slot
        self.fields = fields
        self.asked = asked
        self.stamp = stamp
        self.changes = changes
        self.directives = NOTHING_SAID
        self.verdict: Verdict | None = None
        self.why = "uri-miss"
        self.refused = ""
        self.conditional = False
        self.flight: Flight | None = None

    def make_conditional(self, exchange: Exchange, entry: Entry) -> None:
        """Ask the origin for news only (RFC 9111 section 4.3.1).

        The client's own conditions are judged here when it answers.
        """
        pairs: list[Pair] = []
        if entry.etag is not None:
            pairs.append((b"If-None-Match", entry.etag))
        if entry.last_modified is not None:
            pairs.append((b"If-Modified-Since", entry.last_modified))
        if pairs:
            self.conditional = True
            exchange.forward_headers = [*(exchange.forward_headers or ()), *pairs]
            exchange.drop_headers = (exchange.drop_headers or frozenset()) | REPLACED


class Finder:
    """One pipeline's (or route's) questions to the store."""

    def __init__(self, config: CachingConfig, memory: Memory) -> None:
        self._memory = memory
        self._private = config.private
        self._window = config.stale_while_revalidate
        self._read = _READ if config.request_directives else _READ - _DIRECTIVES
        self._boring: set[bytes] = set()
        self._headers = tuple(sorted(name.lower() for name in config.key.headers))
        self._ignores = bool(config.key.query_ignore)
        self._ignored = frozenset(
            name for name in config.key.query_ignore if not name.endswith("*")
        )
        self._ignored_prefixes = tuple(
            name[:-1] for name in config.key.query_ignore if name.endswith("*")
        )

    def ask(self, exchange: Exchange) -> tuple[Fields, str, Hashable]:
        """The request's fields that matter, and its key: URI and scope.

        uri:   scheme, host and target as the origin is sent them. Nothing is normalised but the
               host's case and what `query_ignore` takes out. The host counts with its port: an
               origin that builds links from it would otherwise plant one client's port for others.
        scope: the part that stands for the origin of the answers. Routes may send one URI to
               different upstreams (by its headers), so each has its own responses, and loses them
               when its upstream is another one after a reload. What a trusted proxy says goes on to
               the origin, so it counts.
        """
        memo = exchange.memo
        known = memo.get(self)
        if known is None:
            base, told = memo.get(ORIGIN) or origin_of(exchange)
            known = memo[self] = (self._fields(exchange), base, told)
        fields, base, told = known
        target = self._target(exchange) if self._ignores and exchange.query else exchange.target
        scope: Hashable = exchange.route.source
        if exchange.trusted and told:
            scope = (scope, told, self._headers, secondary_key(exchange, self._headers))
        elif self._headers:
            scope = (scope, self._headers, secondary_key(exchange, self._headers))
        return fields, base + target, scope

    def _fields(self, exchange: Exchange) -> Fields:
        """The request's fields that matter, several lines of one joined; usually none."""
        boring = self._boring
        pairs = exchange.raw_headers
        if boring.issuperset(map(_NAME, pairs)):
            return _NO_FIELDS
        return self._sifted([pair for pair in pairs if pair[0] not in boring])

    def _sifted(self, pairs: list[Pair]) -> Fields:
        fields: Fields = {}
        for name, value in pairs:
            key = lower(name)
            if key in self._read:
                fields[key] = fields[key] + b", " + value if key in fields else value
            elif len(name) <= 64:
                if len(self._boring) >= _BORING_MAX:
                    self._boring.clear()
                self._boring.add(name)
        return fields

    def _target(self, exchange: Exchange) -> str:
        kept = []
        for part in exchange.query.split("&"):
            name = part.partition("=")[0]
            # Some origins take ";" for a separator too: "utm_a=1;id=2" is not ignored.
            if ";" in part or (
                name not in self._ignored and not name.startswith(self._ignored_prefixes)
            ):
                kept.append(part)
        return f"{exchange.path}?{'&'.join(kept)}" if kept else exchange.path

    def select(self, exchange: Exchange, uri: str, scope: Hashable) -> Slot | None:
        """Return the response stored for all or, with `private`, for this identity.

        The more recent of the two.
        """
        slot = self._memory.select(uri, scope, secondary_key, exchange)
        if self._private and exchange.identity is not None:
            own = self._memory.select(uri, (scope, caller(exchange)), secondary_key, exchange)
            if own is not None and (slot is None or own.entry.date >= slot.entry.date):
                return own
        return slot

    def consider(
        self,
        exchange: Exchange,
        uri: str,
        scope: Hashable,
        slot: Slot | None,
        fields: Fields,
        now: float,
    ) -> Lookup:
        """Return what is to be done with the request."""
        if b"range" in fields and not _sends_parts(exchange):
            fields = {name: value for name, value in fields.items() if name not in _PARTS}
        look = Lookup(uri, scope, slot, fields, now, self._memory.purges.version, changes(exchange))
        if fields:
            control = fields.get(b"cache-control")
            if control is not None:
                look.directives = parse(control)
            elif b"no-cache" in fields.get(b"pragma", b"").lower():
                # RFC 9111 section 5.4: what HTTP/1.0 clients say, and only in the absence of
                # Cache-Control.
                look.directives = _PRAGMA_NO_CACHE
        if exchange.body is not None or (fields and _passes_by(exchange, fields)):
            look.why, look.slot = "bypass", None
        elif slot is not None and not covers(slot.entry, exchange.method, fields):
            look.why, look.slot = "partial", None
        elif slot is not None:
            entry = slot.entry
            age, window = now - entry.born, entry.stale_while_revalidate
            look.verdict = may_serve(
                age,
                entry.lifetime,
                no_cache=entry.no_cache,
                strict=entry.strict,
                request=look.directives,
                window=self._window if window is None else window,
            )
            look.why = "request" if look.verdict is Verdict.ASK_REQUEST else "stale"
        elif uri in self._memory.index and self._memory.varies(uri, scope):
            look.why = "vary-miss"
        return look

    def flight_key(self, exchange: Exchange, look: Lookup) -> Hashable:
        """Return what requests have in common that one answer may do for; None for one that
        another's will not do for."""
        slot, fields = look.slot, look.fields
        if fields and (look.directives is not NOTHING_SAID or b"range" in fields):
            return None
        if slot is not None:
            entry = slot.entry
            if look.why != "stale" or entry.scope != look.scope:
                return None
            key = (look.uri, look.scope)
            return (*key, entry.vary, entry.key) if entry.vary else key
        if look.why == "uri-miss":
            return look.uri, look.scope
        if look.why != "vary-miss":
            return None
        names = self._memory.varies(look.uri, look.scope)
        return look.uri, look.scope, names, secondary_key(exchange, names)

    def told(self, look: Lookup, now: float) -> tuple[str, str]:
        """The outcome and its reason in an operator's words."""
        slot = look.slot
        if slot is None:
            if look.why == "bypass":
                return (
                    "bypass",
                    "for several parts, conditional on the origin's state, with a body, or for a "
                    "tunnel",
                )
            if look.why == "partial":
                return "miss", f"another part is stored of {look.uri}"
            if look.why == "vary-miss":
                names = ", ".join(self._memory.varies(look.uri, look.scope))
                return "miss", f"stored for {look.uri}, but for other values of {names}"
            return "miss", f"nothing is stored for {look.uri}"
        age = int(now - slot.entry.born)
        left = int(slot.entry.lifetime) - age
        state = (
            f"{look.uri} is {age} s old, "
            f"{f'fresh for {left} s more' if left > 0 else f'stale for {-left} s'}"
        )
        if look.verdict is Verdict.FRESH or look.verdict is Verdict.STALE:
            return "hit" if look.verdict is Verdict.FRESH else "stale", state
        if look.verdict is Verdict.BEHIND:
            return "stale", f"{state}; the origin is asked behind the client's back"
        asks = (
            "the request asks for news"
            if look.why == "request"
            else "the origin is asked whether it still holds"
        )
        return "revalidate", f"{state}; {asks}"


def origin_of(exchange: Exchange) -> tuple[str, tuple[Pair, ...]]:
    """Scheme and host as the origin is told them, and what else it is told that proxies write."""
    told = account(exchange)
    more: list[Pair] = []
    if exchange.trusted:
        host = exchange.headers.get("Host", "").lower()
        if host != told.host.lower():
            more.append((b"host", host.encode("utf-8", "surrogateescape")))
        for name, value in exchange.raw_headers:
            key = spelt(name)
            if is_from_proxies(key) and not is_own(key) and not is_client_address(key):
                more.append((key, value))
    made = exchange.memo[ORIGIN] = told.origin, tuple(more)
    return made


def caller(exchange: Exchange) -> Hashable:
    """Return the whole identity, without what is new in every token.

    For what is kept for one caller alone.
    """
    identity = exchange.identity
    assert identity is not None
    who = (identity.client, identity.method, identity.user, identity.tier, identity.account)
    return (*who, identity.roles, identity.permissions)


def _sends_parts(exchange: Exchange) -> bool:
    """Return False where a response hook may change bodies: a part of what is stored would be none
    of what clients get."""
    pipeline = getattr(exchange.route, "pipeline", None)
    return pipeline is None or not any(_changes_bodies(step[0]) for step in pipeline.response)


def _changes_bodies(hook: Any) -> bool:
    """Return True for a hook that says so, and for operators' own, which cannot say."""
    hook = getattr(hook, "__wrapped__", hook)
    if not is_ours(hook):
        return True
    return getattr(getattr(hook, "__self__", None), "changes_bodies", False)


def _passes_by(exchange: Exchange, fields: Fields) -> bool:
    """Return True for requests that only the origin can answer.

    For several parts or a tunnel, or with preconditions (RFC 9110 section 13.1.1). And for those
    that the origin takes for others, where a route passes such fields on.
    """
    forwarded = exchange.forward_headers
    if (
        forwarded
        and not OVERRIDES.isdisjoint(fields)
        and not OVERRIDES.isdisjoint([lower(name) for name, _ in forwarded])
    ):
        return True
    if b"if-match" in fields or b"if-unmodified-since" in fields:
        return True
    # For a HEAD there are no parts (RFC 9110 section 14.2).
    if b"range" in fields and exchange.method == "GET" and range_of(fields[b"range"]) is None:
        return True
    return b"websocket" in fields.get(b"upgrade", b"").lower()
