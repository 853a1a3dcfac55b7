"""The cache's hooks: serve, ask the origin conditionally, store, freshen, invalidate.

Nothing is decided here that policy.py can decide. A hit is answered from the request hook; a
request that goes to the origin leaves a `Lookup` in the exchange's notes, by which the response
hook tells the origin's answers from others.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING

from gateway.core.exchange import CACHE_KEY, Decision, Exchange, Reply
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import Context
from gateway.core.wait import own
from gateway.middlewares.caching.behind import Behind, copied
from gateway.middlewares.caching.coalescing import MAX_ROUNDS, Coalescing, collapsed
from gateway.middlewares.caching.config import CachingConfig
from gateway.middlewares.caching.entries import Entry
from gateway.middlewares.caching.flights import Flights, Outcome
from gateway.middlewares.caching.invalidation import Invalidation
from gateway.middlewares.caching.lookup import Fields, Finder, Lookup
from gateway.middlewares.caching.replies import (
    become,
    entry_of,
    for_client,
    freshened,
    part_in,
    reply_of,
    tags_of,
)
from gateway.middlewares.caching.rules import policy
from gateway.middlewares.caching.rules.directives import http_date, seconds_of_age
from gateway.middlewares.caching.rules.parts import covers
from gateway.middlewares.caching.rules.policy import Verdict
from gateway.middlewares.caching.rules.targeted import lower_names
from gateway.middlewares.caching.status import (
    FORWARDED,
    REVALIDATED,
    STORED,
    WORD,
    forwarded,
    stored,
)
from gateway.middlewares.caching.storage.memory import MAX_HITS, Memory, Slot
from gateway.middlewares.caching.storage.tee import Tee
from gateway.middlewares.caching.storage.tiers import Tiers

if TYPE_CHECKING:
    from gateway.middlewares.caching.storage.remote import Remote


class Cache:
    """One pipeline's (or route's) hooks."""

    def __init__(
        self,
        config: CachingConfig,
        context: Context,
        memory: Memory,
        remote: Remote | None,
        flights: Flights | None,
    ) -> None:
        self._config = config
        self._name = context.name
        self._memory = memory
        self._stored = memory.index
        self._shared = remote is not None
        self._finder = Finder(config, memory)
        self._tiers = Tiers(config, self._finder, memory, remote)
        self._words = (b"cache-control", b"expires", *lower_names(config.targets))
        self._needs_word = not (config.default_ttl or config.heuristic)
        self._behind = Behind()
        self._monotonic = context.clock.monotonic
        self._wall = context.clock.wall
        self._coalescing: Coalescing | None = None
        if flights is not None:
            self._coalescing = Coalescing(
                self._finder, flights, self._monotonic, shared=self._shared
            )
        self._counts = context.telemetry.cache_requests.values
        self._tags = tuple(name.lower().encode() for name in config.tags)
        self._invalidate = Invalidation(config, self._finder, memory.purges)

    def __repr__(self) -> str:
        return f"<Cache {self._name} on {self._tiers!r}>"

    def request(self, exchange: Exchange) -> Reply | Awaitable[Reply | None] | None:
        """Return a stored response when one may be used.

        Otherwise None, or an awaitable of both while another request asks for the same.
        """
        method, decisions = exchange.method, exchange.decisions
        if method != "GET" and method != "HEAD":
            if decisions is None:
                exchange.cache = "bypass"
            else:
                decisions.append(
                    Decision(self._name, "bypass", f"{method} is never answered from the cache")
                )
            return None
        finder = self._finder
        fields, uri, scope = finder.ask(exchange)
        known = uri in self._stored
        slot = finder.select(exchange, uri, scope) if known else None
        now = self._monotonic()
        if not fields and exchange.body is None and decisions is None:
            # The common cases: a request that asks for nothing special.
            if slot is not None and now < slot.fresh_until:
                exchange.cache = "hit"
                return self._serve(exchange, slot, now, fields)
            if not known and not self._shared:  # For any caller.
                exchange.cache = "miss"
                changed = exchange.forward_headers, exchange.drop_headers
                stamp = self._memory.purges.version
                look = Lookup(uri, scope, None, fields, now, stamp, changed)
                return self._depart(exchange, look, now)
        look = finder.consider(exchange, uri, scope, slot, fields, now)
        if decisions is not None:
            decisions.append(Decision(self._name, *finder.told(look, now)))
            exchange.notes[CACHE_KEY] = look.uri
        elif self._shared and (slot is None or now >= slot.fresh_until) and look.why != "bypass":
            alone = (c := self._coalescing) is not None and c.goes_alone(exchange, uri, scope, now)
            fetching = None if alone else self._tiers.fetch(exchange, uri, scope)
            if fetching is not None:
                return self._go_on(exchange, look, fetching, MAX_ROUNDS)
        return self._act(exchange, look, now)

    def _act(
        self, exchange: Exchange, look: Lookup, now: float, rounds: int = MAX_ROUNDS
    ) -> Reply | Awaitable[Reply | None] | None:
        """Serves, refuses (RFC 9111 section 5.2.1.7), or sends the request on.

        Explained only, the exchange alone changes. rounds: how often it may wait for another.
        """
        slot, real = look.slot, exchange.decisions is None
        if slot is not None and look.verdict in policy.SERVED:
            if not real:
                return reply_of(exchange, slot.entry, look.fields)
            if look.verdict is Verdict.BEHIND:
                self._ask_behind(exchange, look, slot.entry, now)
            exchange.cache = "hit" if look.verdict is Verdict.FRESH else "stale"
            return self._serve(exchange, slot, now, look.fields)
        if real:
            exchange.cache = WORD[look.why]
        if look.directives.only_if_cached:
            headers = ((b"Cache-Status", b"gateway; detail=only-if-cached"),)
            raise Failed(
                Failure.NOT_CACHED,
                "No stored response may be used",
                headers=headers,
                why=f"only-if-cached, and {look.why}",
                by=self._name,
            )
        return self._depart(exchange, look, now, rounds if real else 0)

    def _depart(
        self, exchange: Exchange, look: Lookup, now: float, rounds: int = MAX_ROUNDS
    ) -> Awaitable[Reply | None] | None:
        """Send the request on, or have it wait for another that asks for the same."""
        if rounds and exchange.method == "GET" and self._coalescing is not None:
            flight = self._coalescing.begin(exchange, look, now)
            if flight is not None:
                return self._go_on(exchange, look, flight.join(), rounds)
        exchange.notes[self._name] = look
        if look.slot is not None:
            look.make_conditional(exchange, look.slot.entry)
        return None

    @own
    async def _go_on(
        self, exchange: Exchange, look: Lookup, coming: Awaitable[Outcome | None], rounds: int
    ) -> Reply | None:
        """Look again, once another request's answer is there, or what the shared store has."""
        outcome = await coming
        finder, fields = self._finder, look.fields
        slot, now = finder.select(exchange, look.uri, look.scope), self._monotonic()
        look = finder.consider(exchange, look.uri, look.scope, slot, fields, now)
        if outcome is not None:
            rounds = 0 if outcome is Outcome.ALONE else rounds - 1
            if slot is not None and look.verdict is Verdict.FRESH:
                exchange.cache = "coalesced"
                return collapsed(exchange, slot, now, fields)
        again = self._act(exchange, look, now, rounds)
        return again if again is None or isinstance(again, Reply) else await again

    def _ask_behind(self, exchange: Exchange, look: Lookup, entry: Entry, now: float) -> None:
        """Ask the origin for news of what the client gets stale, unless that is under way."""
        key = entry.uri, entry.scope, entry.vary, entry.key
        if not self._behind.is_free(key):
            return
        copy = copied(exchange)
        news = copy.notes[self._name] = Lookup(
            look.uri, look.scope, look.slot, {}, now, look.stamp, look.changes
        )
        news.why = "stale"
        news.make_conditional(copy, entry)
        self._behind.ask(key, copy, (self.request, self.response), self._config.max_entry)

    def _serve(self, exchange: Exchange, slot: Slot, now: float, fields: Fields) -> Reply:
        entry = slot.entry
        place = slot.place
        if place.hits < MAX_HITS:
            place.hits += 1
        if now >= slot.block_until:
            age = int(now - entry.born)
            slot.block = stored(age, entry.lifetime)
            slot.block_until = entry.born + age + 1
        reply = reply_of(exchange, entry, fields)
        reply.blocks.append(slot.block)
        return reply

    def response(self, exchange: Exchange, reply: Reply) -> None:
        """Store, freshen or invalidate, as the origin's answer has it.

        What the cache or another hook answered passes.
        """
        look: Lookup | None = exchange.notes.get(self._name)
        if look is None:
            if exchange.method not in policy.SAFE and exchange.attempts:
                reply.blocks.append(FORWARDED["method"])
                self._invalidate(exchange, reply)
            return
        if not exchange.attempts:
            exchange.cache = ""
            return
        status = reply.status
        if (
            look.why == "uri-miss"
            and status < 500
            and self._needs_word
            and reply.index.keys().isdisjoint(self._words)
        ):
            reply.blocks.append(FORWARDED["uri-miss"])  # What `_answered` does with most.
        else:
            self._answered(exchange, look, reply)
        flight, coalescing = look.flight, self._coalescing
        if flight is not None and coalescing is not None and type(reply.body) is not Tee:
            coalescing.land(exchange, look, flight, status)

    def _answered(self, exchange: Exchange, look: Lookup, reply: Reply) -> None:
        """Take the origin's answer."""
        slot, status = look.slot, reply.status
        if look.why == "bypass":
            reply.blocks.append(FORWARDED["bypass"])
        elif slot is not None and status == 304 and look.conditional:
            self._revalidated(exchange, look, slot, reply)
        elif (
            status in policy.ERRORS
            and (stale := self._stand_in(exchange, look, b"; fwd-status=%d" % status)) is not None
        ):
            become(reply, stale)
        elif exchange.method == "HEAD":
            if slot is not None and status == slot.entry.status:
                self._compare(exchange, look, slot, reply)
            reply.blocks.append(FORWARDED[look.why])
        else:
            is_stored = self._store(exchange, look, reply)
            if slot is not None and not is_stored and status in policy.OUTDATES:
                self._tiers.remove(slot)
            if look.conditional and isinstance(reply.body, bytes):
                # The client's own conditions did not go to the origin.
                become(reply, for_client(exchange, reply, look.fields))
            reply.blocks.append(
                STORED[look.why] if is_stored else forwarded(look.why, look.refused)
            )

    def _store(self, exchange: Exchange, look: Lookup, reply: Reply) -> bool:
        """Store the reply, at once or when its last byte has passed; return True if so."""
        config = self._config
        if self._needs_word and reply.index.keys().isdisjoint(self._words):
            return False
        make = self._entry_of(exchange, look, reply, reply)
        body, length = reply.body, reply.length
        if make is None or (length is not None and length > config.max_entry):
            look.refused = look.refused or "size"
            return False
        tags = tags_of(reply, self._tags)
        if isinstance(body, bytes):
            return self._tiers.file(exchange, look, make(body=body, tags=tags))
        if (part := part_in(reply)) is not None:
            length = part[0].stop - part[0].start
        status = reply.status

        def over(body: bytes | None) -> None:
            if body is not None and length in (None, len(body)):
                self._tiers.file(exchange, look, make(body=body, tags=tags))
            flight, coalescing = look.flight, self._coalescing
            if flight is not None and coalescing is not None:
                coalescing.land(exchange, look, flight, status)

        reply.body = tee = Tee(body, config.max_entry, over)
        if look.flight is not None:
            look.flight.arriving(tee.hurry)
        return True

    def _entry_of(
        self, exchange: Exchange, look: Lookup, reply: Reply, answer: Reply
    ) -> partial[Entry] | None:
        """See `entry_of`; `answer` is what the origin sent, `reply` what it amounts to."""
        age, now = seconds_of_age(answer.get(b"age")), self._monotonic()
        return entry_of(exchange, look, reply, self._config, age=age, now=now, wall=self._wall())

    def _revalidated(self, exchange: Exchange, look: Lookup, slot: Slot, reply: Reply) -> None:
        """Answer the client when the origin has answered the cache's own question with 304.

        It gets the stored response, or its own 304.
        """
        entry, status = slot.entry, REVALIDATED[look.why]
        if self._confirms(entry, reply):
            if reply.get(b"date") is None:
                # Without one the stored Date would stay, and with it an age (RFC 9110 section
                # 6.6.1).
                reply.set(b"Date", http_date(int(self._wall())))
            full = self._freshen(exchange, look, slot, reply)
        else:
            # It is about some other representation: nothing may be updated (RFC 9111 section
            # 4.3.4), nor is ours to be trusted.
            full = Reply(entry.status, entry.headers, entry.body, reason=entry.reason)
            self._tiers.remove(slot)
        age = seconds_of_age(reply.get(b"age"))
        become(reply, for_client(exchange, full, look.fields, entry))
        reply.blocks.append(status if not age else b"Age: %d\r\n%b" % (age, status))
        exchange.cache = "revalidated"

    @staticmethod
    def _confirms(entry: Entry, reply: Reply) -> bool:
        return policy.confirms(
            entry.etag, entry.last_modified, reply.get(b"etag"), reply.get(b"last-modified")
        )

    def _freshen(self, exchange: Exchange, look: Lookup, slot: Slot, reply: Reply) -> Reply:
        """Return the stored response with the answer's fields, and store that instead.

        RFC 9111 section 4.3.4.
        """
        full = freshened(slot.entry, reply)
        make = self._entry_of(exchange, look, full, reply)
        if not look.directives.no_store:
            self._tiers.remove(slot)
            if make is not None:
                old, tags = slot.entry, tags_of(full, self._tags)
                entry = make(body=old.body, tags=tags, start=old.start, total=old.total)
                self._tiers.put(entry, look.stamp)
        return full

    def _compare(self, exchange: Exchange, look: Lookup, slot: Slot, reply: Reply) -> None:
        """Freshen the response stored for GET with a HEAD's answer, or drop it as outdated.

        RFC 9111 section 4.3.5.
        """
        same_length = not reply.length or reply.length == len(slot.entry.body)
        if same_length and self._confirms(slot.entry, reply):
            self._freshen(exchange, look, slot, reply)
        else:
            self._tiers.remove(slot)

    def _stand_in(self, exchange: Exchange, look: Lookup, outcome: bytes) -> Reply | None:
        """Return what is stored, in place of an error, if that is allowed (RFC 5861 section 4).

        Looked up again, because it may have changed.
        """
        slot = None if look.why == "bypass" else self._finder.select(exchange, look.uri, look.scope)
        if slot is None or not covers(slot.entry, exchange.method, look.fields):
            return None
        entry = slot.entry
        age = self._monotonic() - entry.born
        if not policy.may_serve_on_error(
            age,
            entry.lifetime,
            entry.stale_if_error,
            no_cache=entry.no_cache,
            strict=entry.strict,
            request=look.directives,
            default=self._config.stale_if_error,
        ):
            return None
        exchange.cache = "stale"
        reply = reply_of(exchange, entry, look.fields)
        went = b"fwd=%b%b" % (look.why.encode(), outcome) if exchange.attempts else b"hit"
        reply.blocks.append(stored(int(age), entry.lifetime, went, b"; detail=stale-if-error"))
        return reply

    def error(self, exchange: Exchange, failed: Failed) -> Reply | None:
        """A stored response in place of an upstream's failure, where stale-if-error allows it."""
        look: Lookup | None = exchange.notes.get(self._name)
        if look is None or failed.failure.status not in policy.ERRORS:
            return None
        return self._stand_in(exchange, look, b"")

    def release(self, exchange: Exchange) -> None:
        """Count what became of the request, and let those go on that still wait for it."""
        if exchange.cache and exchange.decisions is None:
            self._counts[(exchange.route.name, exchange.cache)] += 1
        look: Lookup | None = exchange.notes.get(self._name)
        if look is not None and look.flight is not None and self._coalescing is not None:
            self._coalescing.release(exchange, look, look.flight)
