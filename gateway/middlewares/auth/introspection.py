"""Opaque Bearer tokens that an authorization server is asked about (RFC 7662).

A remembered token costs one look-up; any other waits for the server.
"""

from __future__ import annotations

from collections.abc import Awaitable

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem, Context
from gateway.core.identities import Granted
from gateway.core.refusals import Refused
from gateway.credentials.revocations.revoked import Revocations
from gateway.middlewares.auth import bearer
from gateway.middlewares.auth.bearer import AUTHORIZATION, NOTHING, Elsewhere
from gateway.middlewares.auth.config import IntrospectionConfig
from gateway.middlewares.auth.memory import Memory
from gateway.tokens import claims
from gateway.tokens.introspection import Introspection, Server, Unavailable

KNOWN = 10_000
"""Tokens remembered that were good, at least."""
WRONG = 1_000
"""Tokens remembered that were not."""


Remembered = tuple[Memory[Identity], Memory[str]]
"""By token: whose it is, and why it is no good."""


def _memory() -> Remembered:
    return Memory(KNOWN), Memory(WRONG)


class Introspected:
    """The method "introspection"."""

    name = "introspection"
    fields = bearer.FIELDS

    __slots__ = (
        "_config",
        "_elsewhere",
        "_granted",
        "_known",
        "_prefixes",
        "_revocations",
        "_server",
        "_wall",
        "_wrong",
        "challenge",
        "rejected",
        "wanted",
    )

    def __init__(
        self,
        config: IntrospectionConfig,
        server: Introspection,
        clock: Clock,
        realm: str,
        granted: Granted,
        revocations: Revocations | None,
        *,
        memory: Remembered | None = None,
        prefixes: frozenset[str] = frozenset(),
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._config = config
        self._elsewhere = elsewhere
        self.wanted = bearer.WANTED + (elsewhere.wanted if elsewhere is not None else "")
        self._prefixes = prefixes
        self._server = server
        self._wall = clock.wall
        self._granted = granted
        self._revocations = revocations
        self._known, self._wrong = memory or _memory()
        self.challenge, self.rejected = bearer.challenges(realm)

    @classmethod
    def of(
        cls,
        config: IntrospectionConfig | None,
        context: Context,
        realm: str,
        granted: Granted,
        revocations: Revocations | None,
        prefixes: frozenset[str] = frozenset(),
        elsewhere: Elsewhere | None = None,
    ) -> Introspected:
        """Raises ConfigProblem when there is no server to ask."""
        if config is None:
            hint = 'add a table [auth.introspection] with url = "https://..."'
            raise ConfigProblem(
                "no introspection server, so no token could be asked about",
                at=("methods",),
                hint=hint,
            )
        asked = Server(
            config.url,
            config.client_id,
            config.client_secret,
            config.timeout,
            config.failures,
            config.pause,
        )
        server: Introspection = context.keep(
            ("auth", "introspection", config.url, f"{hash(asked):x}"),
            asked,
            lambda: Introspection(asked),
        )
        fingerprint = (config, tuple(sorted(granted.items())), prefixes)
        key = ("auth", "introspected", context.pipeline, context.name, f"{hash(fingerprint):x}")
        memory: Remembered = context.keep(key, fingerprint, _memory)
        return cls(
            config,
            server,
            context.clock,
            realm,
            granted,
            revocations,
            memory=memory,
            prefixes=prefixes,
            elsewhere=elsewhere,
        )

    def __repr__(self) -> str:
        return f"<Introspected {self._server!r}, {len(self._known)} tokens known>"

    def identify(self, exchange: Exchange) -> Identity | Awaitable[Identity] | None:
        """Return the caller whose token came, None without a token. Raises Refused."""
        given = exchange.headers.getall(AUTHORIZATION, NOTHING)
        token = bearer.token(given) if given else None
        if self._elsewhere is not None:
            token = self._elsewhere.token(exchange, token)
        if token is None:
            return None
        now = self._wall()
        known = self._known.get(token)
        if known is not None and now < known[1]:
            self._check_revoked(known[0])
            return known[0]
        wrong = self._wrong.get(token)
        if wrong is not None and now < wrong[1]:
            raise claims.invalid(wrong[0])
        return self._ask(token)

    async def _ask(self, token: str) -> Identity:
        config = self._config
        if not bearer.B64TOKEN.fullmatch(token):
            raise claims.invalid("the token is not one that RFC 6750 allows")
        try:
            answer = await self._server.ask(token)
        except Unavailable as error:
            raise Refused(
                "unavailable",
                f"the introspection server cannot be asked: {error}",
                detail="Tokens cannot be verified at the moment.",
                failure=Failure.NO_ENDPOINT,
                headers=((b"Retry-After", b"%d" % max(1, round(error.after))),),
            ) from None
        now = self._wall()
        try:
            until = claims.check_answer(answer, config.audience, now)
            identity = claims.identity(
                answer, config.claims, self._granted, self.name, self._prefixes
            )
        except Refused as refused:
            self._wrong.put(token, (refused.why, now + config.negative_ttl))
            raise
        self._check_revoked(identity)
        self._known.put(token, (identity, min(until, now + config.ttl)))
        return identity

    def _check_revoked(self, identity: Identity) -> None:
        why = self._revocations.why(identity.claims) if self._revocations is not None else ""
        if why:
            detail = "The token has been revoked."
            raise Refused("revoked", why, detail=detail, client=identity.client)
