"""JSON Web Tokens (RFC 7519) as Bearer credentials (RFC 6750), of one or several issuers.

A token is verified once and remembered until it expires, the key set changes or a revocation comes.
A remembered token costs one look-up. Only a token with an unknown key, of an issuer whose keys are
fetched, has to wait: `identify` then returns an awaitable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem, Context
from gateway.core.refusals import Refused
from gateway.credentials.revocations.revoked import Revocations
from gateway.middlewares.auth import bearer
from gateway.middlewares.auth.bearer import AUTHORIZATION, NOTHING, Elsewhere
from gateway.middlewares.auth.config import JwtConfig
from gateway.middlewares.auth.memory import Memory
from gateway.store.stores import StoreDown
from gateway.tokens import claims, jose, verifying
from gateway.tokens.algorithms import SECRETS, USUAL
from gateway.tokens.claims import ClaimsConfig, RulesConfig
from gateway.tokens.jose import Token
from gateway.tokens.jwks import JwksSource, RemoteKeys
from gateway.tokens.verifying import BadKey, VerifyingKey

if TYPE_CHECKING:
    from gateway.issuer.own import OwnIssuer
    from gateway.issuer.sessions import Sessions

KNOWN = 10_000
"""Tokens remembered, at least; at most twice as many."""
NAMELESS = 4
"""Keys tried for a token that names none."""


class Issuer:
    """One issuer: its rules, and its own keys or those that `remote` has fetched.

    sessions: those of this gateway, where it is the issuer.
    """

    __slots__ = ("_keys", "algorithms", "claims", "name", "remote", "rules", "sessions")

    def __init__(
        self,
        config: JwtConfig,
        keys: tuple[VerifyingKey, ...],
        remote: RemoteKeys | None,
        sessions: Sessions | None = None,
    ) -> None:
        self.name = config.issuer
        self.algorithms = frozenset(_algorithms(config))
        limits = config.required, config.type, config.max_age
        self.rules = RulesConfig(config.audience, config.leeway, *limits, config.claims)
        self.claims = config.claims
        self.remote = remote
        self.sessions = sessions
        self._keys = keys

    def __repr__(self) -> str:
        return f"<Issuer {self.name} {self.remote or self._keys!r}>"

    def candidates(self, token: Token) -> list[VerifyingKey]:
        """Return the keys that may have signed the token. Raises Refused if there are too many."""
        keys = self._keys if self.remote is None else self.remote.keys or ()
        fitting = verifying.candidates(keys, token.kid, token.alg)
        if len(fitting) > NAMELESS:
            raise claims.invalid(
                f"the token names no key (kid), and {len(fitting)} of {self.name} would fit"
            )
        return fitting


class Verifier:
    """The issuers of one `[auth]` table and the tokens found good.

    Shared by the pipeline's routes, kept across reloads.
    """

    __slots__ = ("_issuers", "_prefixes", "_revocations", "_roles", "known")

    def __init__(
        self,
        issuers: Sequence[Issuer],
        roles: Mapping[str, tuple[str, ...]],
        revocations: Revocations | None = None,
        prefixes: frozenset[str] = frozenset(),
    ) -> None:
        self._revocations = revocations
        self._prefixes = prefixes
        self._issuers = {issuer.name: issuer for issuer in issuers}
        self._roles = roles
        self.known: Memory[Identity] = Memory(KNOWN)
        """By "Bearer TOKEN", which is how most Authorization fields say it."""
        for listeners in self._listened():
            listeners.add(self.known.clear)

    def __repr__(self) -> str:
        return f"<Verifier {list(self._issuers.values())!r}, {len(self.known)} tokens known>"

    def close(self) -> None:
        for listeners in self._listened():
            listeners.discard(self.known.clear)

    def _listened(self) -> list[set[Callable[[], None]]]:
        """Where it is heard that what is remembered may no longer hold."""
        found = [
            issuer.remote.listeners
            for issuer in self._issuers.values()
            if issuer.remote is not None
        ]
        found += [
            issuer.sessions.listeners
            for issuer in self._issuers.values()
            if issuer.sessions is not None
        ]
        return found if self._revocations is None else [*found, self._revocations.listeners]

    def issuer_of(self, token: Token) -> Issuer | None:
        """Return the issuer that the token names, if it is configured."""
        name = token.claims.get("iss")
        return self._issuers.get(name) if isinstance(name, str) else None

    def verify(self, token: Token, issuer: Issuer, now: float) -> tuple[Identity, float] | None:
        """Return the caller and the Unix time until which it holds, None without a fitting key.

        Raises Refused.
        """
        keys = issuer.candidates(token)
        if not keys:
            return None
        if not any(key.verifies(token.alg, token.signed, token.signature) for key in keys):
            raise claims.invalid(f"the signature is not that of a key of {issuer.name}")
        try:
            until = claims.check(token, issuer.rules, now)
            why = self._revocations.why(token.claims) if self._revocations is not None else ""
            if not why and issuer.sessions is not None:
                why = _ended(issuer.sessions, token)
            if why:
                raise Refused("revoked", why, detail="The token has been revoked.")
        except Refused as refused:
            refused.client = claims.client_of(token.claims, issuer.claims)
            raise
        return claims.identity(
            token.claims, issuer.claims, self._roles, "jwt", self._prefixes
        ), until


class Jwt:
    """The method "jwt". `alone`: no other method after this one takes Bearer tokens."""

    name = "jwt"
    fields = bearer.FIELDS

    __slots__ = (
        "_alone",
        "_elsewhere",
        "_known",
        "_verifier",
        "_wall",
        "challenge",
        "rejected",
        "wanted",
    )

    def __init__(
        self,
        verifier: Verifier,
        clock: Clock,
        realm: str,
        *,
        alone: bool = True,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._verifier = verifier
        self._elsewhere = elsewhere
        self.wanted = bearer.WANTED + (elsewhere.wanted if elsewhere is not None else "")
        self._known = verifier.known
        self._wall = clock.wall
        self._alone = alone
        self.challenge, self.rejected = bearer.challenges(realm)

    @classmethod
    def of(
        cls,
        configs: Sequence[JwtConfig],
        context: Context,
        realm: str,
        roles: Mapping[str, tuple[str, ...]],
        revocations: Revocations | None = None,
        *,
        alone: bool = True,
        prefixes: frozenset[str] = frozenset(),
        elsewhere: Elsewhere | None = None,
    ) -> Jwt:
        """Build the method. Raises ConfigProblem when an issuer's keys are missing or unusable."""
        if not configs:
            raise ConfigProblem(
                "no issuer, so no token could be verified",
                at=("methods",),
                hint="add a table [[auth.jwt]]",
            )
        names = [config.issuer for config in configs]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ConfigProblem(f"{name} has two tables", at=("jwt", index, "issuer"))
        issuers = [_issuer(config, context, index) for index, config in enumerate(configs)]
        # Not by value: a list that is read again is the same list.
        own = (
            (context.issuer.keys.names, id(context.issuer.sessions))
            if any(config.own for config in configs)
            else None
        )
        fingerprint = (tuple(configs), tuple(sorted(roles.items())), id(revocations), own, prefixes)
        # Routes that override other settings share the cache; others have their own.
        key = ("auth", "jwt", context.pipeline, context.name, f"{hash(fingerprint):x}")
        verifier: Verifier = context.keep(
            key, fingerprint, lambda: Verifier(issuers, roles, revocations, prefixes)
        )
        return cls(verifier, context.clock, realm, alone=alone, elsewhere=elsewhere)

    def __repr__(self) -> str:
        return f"<Jwt {self._verifier!r}>"

    def identify(self, exchange: Exchange) -> Identity | Awaitable[Identity | None] | None:
        """Return the caller whose token came, None without a token. Raises Refused."""
        given = exchange.headers.getall(AUTHORIZATION, NOTHING)
        now = self._wall()
        if self._elsewhere is not None:
            text = self._elsewhere.token(exchange, bearer.token(given) if given else None)
        elif given:
            known = self._known.get(given[0])
            # A known field holds one good token; a second field must not pass beside it.
            if known is not None and now < known[1] and len(given) == 1:
                return known[0]
            text = bearer.token(given)
        else:
            return None
        return None if text is None else self._whose(text, now)

    def _whose(self, text: str, now: float) -> Identity | Awaitable[Identity | None] | None:
        """Return the caller of a token, None if another method must judge it. Raises Refused."""
        # Remembered in one spelling: "bearer  TOKEN" is no other token.
        presented = f"Bearer {text}"
        known = self._known.get(presented)
        if known is not None and now < known[1]:
            return known[0]
        if not self._alone and not jose.looks_like(text):
            return None
        token = jose.read(text)
        issuer = self._verifier.issuer_of(token)
        if issuer is None:
            if not self._alone:
                return None
            raise claims.invalid(f"no issuer {claims.shown(token.claims.get('iss'))} is configured")
        verified = self._verifier.verify(token, issuer, now)
        if verified is not None:
            self._known.put(presented, verified)
            return verified[0]
        # Another set of keys would not help a token whose algorithm none of them may be used with.
        if issuer.remote is None or token.alg not in issuer.algorithms:
            raise _no_key(token, issuer)
        return self._with_newer_keys(presented, token, issuer, issuer.remote)

    async def _with_newer_keys(
        self, presented: str, token: Token, issuer: Issuer, remote: RemoteKeys
    ) -> Identity:
        """Wait for newer keys: the issuer may have begun to sign with a new one. Raises Refused."""
        if not remote.may_wait:
            raise _no_key(token, issuer)
        for wait in (remote.settled, remote.newer):
            await wait()
            verified = self._verifier.verify(token, issuer, self._wall())
            if verified is not None:
                self._known.put(presented, verified)
                return verified[0]
        if remote.keys is None:
            raise Refused(
                "unavailable",
                f"there are no keys of {issuer.name}: {remote.problem}",
                detail="Tokens cannot be verified at the moment.",
                failure=Failure.NO_ENDPOINT,
                headers=((b"Retry-After", b"%d" % max(1, round(remote.source.cooldown))),),
            )
        raise _no_key(token, issuer)


def _ended(sessions: Sessions, token: Token) -> str:
    """Return why a token of this gateway is refused before it expires, "" if it is not.

    Raises Refused while that is not known.
    """
    try:
        return sessions.why(token.claims)
    except StoreDown as down:
        raise Refused(
            "unavailable",
            str(down),
            detail="Tokens cannot be verified at the moment.",
            failure=Failure.NO_ENDPOINT,
            headers=((b"Retry-After", b"1"),),
        ) from None


def _no_key(token: Token, issuer: Issuer) -> Refused:
    return claims.invalid(
        f"{issuer.name} has no key {claims.shown(token.kid)} for {claims.shown(token.alg)}"
    )


def _issuer(config: JwtConfig, context: Context, index: int) -> Issuer:
    """The issuer as configured. Raises ConfigProblem."""
    sources = [
        name for name in ("secret", "key", "jwks", "discovery", "own") if getattr(config, name)
    ]
    if len(sources) != 1:
        said = " and ".join(sources) if sources else "nothing"
        files, others = "{ file = ... }", 'jwks = "https://...", discovery = true, own = true'
        hint = f"one of secret = {files}, key = {files}, {others}"
        raise ConfigProblem(
            f"{config.issuer}: {said} says where its keys are", at=("jwt", index), hint=hint
        )
    [source] = sources
    if config.own:
        return _own(config, context, index)
    algorithms = _algorithms(config)
    try:
        if config.secret:
            return Issuer(config, (verifying.from_secret(config.secret, algorithms),), None)
        wrong = [name for name in algorithms if name in SECRETS]
        if wrong:
            raise ConfigProblem(
                f"{wrong[0]} needs a secret, not a public key", at=("jwt", index, "algorithms")
            )
        if config.key:
            return Issuer(config, verifying.from_text(config.key, algorithms), None)
    except BadKey as bad:
        raise ConfigProblem(
            f"the {source} of {config.issuer} {bad}", at=("jwt", index, source)
        ) from None
    if config.discovery and not config.issuer.startswith(("https://", "http://")):
        raise ConfigProblem("discovery needs an issuer that is a URL", at=("jwt", index, "issuer"))
    where = JwksSource(config.jwks, config.issuer, config.refresh, config.cooldown, config.timeout)
    remote = _remote(where, algorithms, context)
    return Issuer(config, (), remote)


def _own(config: JwtConfig, context: Context, index: int) -> Issuer:
    """This gateway, whose keys and sessions are at hand. Raises ConfigProblem."""
    mine: OwnIssuer | None = context.issuer
    if mine is None:
        raise ConfigProblem(
            "own needs the gateway to issue tokens",
            at=("jwt", index, "own"),
            hint="add [tokens] to gateway.toml",
        )
    if config.issuer != mine.name:
        message = f"own: the gateway issues tokens as {mine.name}, not as {config.issuer}"
        raise ConfigProblem(message, at=("jwt", index, "issuer"), hint=f'issuer = "{mine.name}"')
    algorithms = config.algorithms or mine.keys.algorithms
    try:
        keys = mine.keys.verifying(algorithms)
    except BadKey as bad:
        raise ConfigProblem(f"algorithms: {bad}", at=("jwt", index, "algorithms")) from None
    if replace(config.claims, prefix=None) == ClaimsConfig():
        # RFC 9068 section 2.2: sub is the user
        config = replace(
            config, claims=ClaimsConfig(client="client_id", prefix=config.claims.prefix)
        )
    return Issuer(replace(config, algorithms=algorithms), keys, None, mine.sessions)


def _algorithms(config: JwtConfig) -> tuple[str, ...]:
    return config.algorithms or (("HS256",) if config.secret else USUAL)


def _remote(source: JwksSource, algorithms: Sequence[str], context: Context) -> RemoteKeys:
    """The fetched keys, one for everybody who fetches them in the same way."""

    parse = partial(verifying.from_set, algorithms=algorithms)
    name = source.url or source.issuer
    key = (
        "auth",
        "jwks",
        name,
        source.issuer,
        *algorithms,
        f"{source.refresh} {source.cooldown} {source.timeout}",
    )
    remote: RemoteKeys = context.keep(key, source, lambda: RemoteKeys(source, parse))
    return remote
