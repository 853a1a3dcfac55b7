"""How a method says no, and what comes of a no that is only noted (`shadow = true`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from gateway.core.exchange import SHADOW, Decision, Exchange, Reply
from gateway.core.failures import NO_FACTS, Failed, Failure
from gateway.core.headers import Pair
from gateway.core.identities import Clients
from gateway.core.telemetry import Telemetry
from gateway.core.wait import own

WOULD = "would refuse (shadow)"
"""The outcome of a hook in shadow that does not like a request."""


class Refused(Exception):
    """Credentials that are no good.

    Neither the message nor `why` may hold any part of them that is secret.

    result: one of a few words, for the metric. why: for operators. detail: one sentence for the
            client.
    headers: for the reply, beside any challenge. facts, client, at: as those of Failed.
    """

    def __init__(
        self,
        result: str,
        why: str,
        *,
        detail: str,
        failure: Failure = Failure.UNAUTHENTICATED,
        headers: tuple[Pair, ...] = (),
        facts: Mapping[str, Any] = NO_FACTS,
        client: str = "",
        at: tuple[str | int, ...] = (),
    ) -> None:
        super().__init__(result, why)
        self.result = result
        self.why = why
        self.detail = detail
        self.failure = failure
        self.headers = headers
        self.facts = facts
        self.client = client
        self.at = at


class WouldRefuse(NamedTuple):
    """A refusal that was only noted. reason: the failure's, or a status; the others as Failed's."""

    hook: str
    reason: str
    why: str
    at: tuple[str | int, ...] = ()
    client: str = ""


def shadow_client(exchange: Exchange) -> str:
    """Return whose request it is by what hooks in shadow found, "" if they found none."""
    noted: list[WouldRefuse] = exchange.notes.get(SHADOW, [])
    return next((one.client for one in noted if one.client), "")


class Shadows:
    """Counts and notes what hooks in shadow would refuse. One serves the whole process."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._counts = telemetry.shadow_refusals
        self._clients = Clients(telemetry.client_shadow_refusals)

    @classmethod
    def of(cls, keep: Callable[..., Any], telemetry: Telemetry) -> Shadows:
        """Return the process's, given a Context's `keep`."""
        made: Shadows = keep(("shadows",), None, lambda: cls(telemetry))
        return made

    def note(self, exchange: Exchange, one: WouldRefuse, word: str = "") -> None:
        """A request goes on that would have been refused. word: for the log, the hook's name."""
        identity, route = exchange.identity, exchange.route
        client = identity.client if identity is not None else one.client
        exchange.notes.setdefault(SHADOW, []).append(one._replace(client=client))
        if exchange.decisions is not None:
            exchange.decisions.append(Decision(one.hook, WOULD, one.why))
            return
        exchange.reason = f"shadow:{word or one.hook}"
        self._counts.add(("_none" if route is None else route.name, one.hook, one.reason))
        if client:
            self._clients.count(client)

    def failed(self, exchange: Exchange, hook: str, failed: Failed) -> None:
        """As `note`, of a hook that has raised `failed`."""
        decisions = exchange.decisions
        if decisions and decisions[-1].hook == hook:
            decisions.pop()  # What it would do, in the words of one that does it.
        why = failed.why or failed.detail or failed.failure.title
        reason, client = failed.failure.reason, failed.client
        self.note(exchange, WouldRefuse(hook, reason, why, failed.at, client))


Hook = Callable[[Exchange], "Reply | Awaitable[Reply | None] | None"]


def in_shadow(
    name: str,
    hook: Hook,
    shadows: Shadows,
    notes: Callable[[Exchange, Failed], bool] = lambda exchange, failed: True,
) -> Hook:
    """Return a request hook that decides as `hook` does, notes refusals, and changes nothing.

    Whatever it answers or raises, the request goes on as it came: with the identity, the fields and
    the query that it had. notes: the failures for which that is so; others are raised.
    """

    def request(exchange: Exchange) -> Awaitable[None] | None:
        before = _of(exchange)
        try:
            pending = hook(exchange)
            if pending is not None and not isinstance(pending, Reply):
                return later(exchange, before, pending)
            take(exchange, pending)
        except Exception as error:
            fail(exchange, error)
        _restore(exchange, before)
        return None

    @own
    async def later(exchange: Exchange, before: Any, pending: Awaitable[Reply | None]) -> None:
        try:
            take(exchange, await pending)
        except Exception as error:
            fail(exchange, error)
        finally:
            _restore(exchange, before)

    def take(exchange: Exchange, reply: Reply | None) -> None:
        if reply is not None:
            shadows.note(exchange, WouldRefuse(name, str(reply.status), f"answers {reply.status}"))

    def fail(exchange: Exchange, error: Exception) -> None:
        if not isinstance(error, Failed):
            error = Failed(Failure.INTERNAL, why=type(error).__name__, by=name)
        elif not notes(exchange, error):
            raise error
        # A body that breaks off is no decision: who reads the rest of it learns that too.
        if error.by or error.failure is Failure.BODY_TOO_LARGE:
            shadows.failed(exchange, name, error)

    return request


def _of(exchange: Exchange) -> tuple[Any, ...]:
    """Return what request hooks change of a request that goes on."""
    limit = exchange.body.limit if exchange.body is not None else None
    return (
        exchange.identity,
        exchange.drop_headers,
        exchange.forward_headers,
        exchange.query,
        exchange.target,
        limit,
    )


def _restore(exchange: Exchange, before: tuple[Any, ...]) -> None:
    (
        exchange.identity,
        exchange.drop_headers,
        exchange.forward_headers,
        exchange.query,
        exchange.target,
        limit,
    ) = before
    if exchange.body is not None:
        exchange.body.limit = limit
