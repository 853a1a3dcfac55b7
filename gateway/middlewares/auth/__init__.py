"""`auth`: who is calling, and whether they may.

The request hook asks each of `methods` in turn; the first that finds credentials of its kind decides. It leaves an Identity on
the exchange (whose headers, X-Client-ID, X-Client-Tier and X-Client-Roles, go to the upstream), and compares its permissions with
what `require` says. How a method knows callers is its own file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gateway.config import schema
from gateway.config.schema import Boolean, Choice, FieldValue, Items, Map, Secret, SubTable, Table, Text
from gateway.core.exchange import Decision, Exchange, Identity
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Context, Hooks
from gateway.middlewares.auth import bearer
from gateway.middlewares.auth.api_key import ApiKeyConfig, ApiKeys, ApiKeyTable
from gateway.middlewares.auth.audit import Audit, AuditConfig, AuditTable
from gateway.middlewares.auth.basic import Basic, BasicConfig, BasicTable
from gateway.middlewares.auth.internal_token import InternalToken, TokenConfig, TokenTable
from gateway.middlewares.auth.introspection import Introspected, IntrospectionConfig, IntrospectionTable
from gateway.middlewares.auth.jwt import Jwt, JwtConfig, JwtTable
from gateway.middlewares.auth.mtls import Mtls, MtlsConfig, MtlsTable
from gateway.middlewares.auth.permissions import Permission, Require, Requirements, covers
from gateway.middlewares.auth.refusal import Refused
from gateway.middlewares.auth.rules import Network, from_where, rules
from gateway.state import revocations, stores
from gateway.state.revocations import RevocationError, Revocations

STORE_DEADLINE = 0.25
"""Seconds for an answer of the store that has the list of revoked tokens. No request waits for it."""
METHODS = ("api_key", "jwt", "introspection", "basic", "mtls")


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """How callers are known (`methods`, in this order) and what they need.

    revocations: the file that lists revoked tokens, the URL of a Redis that does, or "redis" for the one that `[store] url`
              names; "" for none.
    require:  permissions, all of them needed: a list for every method, or a table of lists by method with "*" for the others.
    roles:    the permissions that come with a role, beyond those of the caller's own.
    tiers:    the tiers that may; all when empty.
    owner:    claims by path parameter: the one must be the other, so that `/users/{id}` is for `sub` alone; "client" is the
              client's name. owner_except: the permissions (all of them) with which it need not.
    allow, deny: networks, asked before anything else; deny weighs more, and without `allow` all others may.
    optional: callers without credentials pass as nobody in particular wherever `require` asks for nothing; credentials that
              are wrong are refused all the same.
    realm:    what a challenge (WWW-Authenticate) says the credentials are for.
    forward_credentials: whether the upstream sees them.
    forward:  how the upstream is told who is calling: in plain fields ("headers"), or in a signed `token`.
    audit:    the log of decisions, None for none.
    """

    methods: tuple[str, ...] = ("api_key",)
    api_key: ApiKeyConfig = field(default_factory=ApiKeyConfig)
    jwt: tuple[JwtConfig, ...] = ()
    introspection: IntrospectionConfig | None = None
    basic: BasicConfig = field(default_factory=BasicConfig)
    mtls: tuple[MtlsConfig, ...] = ()
    revocations: str = ""
    require: Mapping[str, frozenset[str]] = field(default_factory=dict)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    tiers: tuple[str, ...] = ()
    owner: Mapping[str, str] = field(default_factory=dict)
    owner_except: tuple[str, ...] = ()
    allow: tuple[Network, ...] = ()
    deny: tuple[Network, ...] = ()
    optional: bool = False
    realm: str = "gateway"
    forward_credentials: bool = False
    forward: str = "headers"
    token: TokenConfig = field(default_factory=TokenConfig)
    audit: AuditConfig | None = None


class AuthTable(Table):
    makes = AuthConfig
    methods = Items(Choice(*METHODS))
    api_key = SubTable(ApiKeyTable)
    jwt = Items(SubTable(JwtTable))
    introspection = SubTable(IntrospectionTable)
    basic = SubTable(BasicTable)
    mtls = Items(SubTable(MtlsTable))
    revocations = Secret()
    require = Require()
    roles = Map(keys=Text(), values=Items(Permission()))
    tiers = Items(Text())
    owner = Map(keys=Text(), values=Text())
    owner_except = Items(Permission())
    allow = Items(schema.Network())
    deny = Items(schema.Network())
    optional = Boolean()
    realm = FieldValue()
    forward_credentials = Boolean()
    forward = Choice("headers", "token")
    token = SubTable(TokenTable)
    audit = SubTable(AuditTable)


CONFIG = AuthTable


class Method(Protocol):
    """One way to know a caller.

    name: its word in the configuration and in metrics. wanted: what to send, for people.
    fields: the header fields (lower case) that credentials of this kind come in.
    challenge: its WWW-Authenticate for requests without credentials; rejected: for those whose credentials were no good.
    """

    name: str
    challenge: bytes
    rejected: bytes
    wanted: str
    fields: frozenset[bytes]

    def identify(self, exchange: Exchange) -> Identity | Awaitable[Identity | None] | None:
        """Who is calling; None without credentials of this kind. Raises Refused when there are some and they are no good.

        Whoever cannot tell at once returns an awaitable of the same.
        """


class Auth:
    """One instance in one pipeline, or on one route that overrides it."""

    __slots__ = (
        "_audit", "_challenges", "_counts", "_drop", "_drop_always", "_from_where", "_methods", "_missing", "_name",
        "_optional", "_requirements", "_rules", "_token",
    )  # fmt: skip

    def __init__(self, config: AuthConfig, context: Context, methods: tuple[Method, ...]) -> None:
        self._name = context.name
        self._methods = methods
        self._optional = config.optional
        self._requirements = Requirements(config.require)
        self._rules = rules(frozenset(config.tiers), config.owner, frozenset(config.owner_except))
        self._from_where = from_where(config.allow, config.deny)
        self._token = InternalToken(config.token, context.clock) if config.forward == "token" else None
        # What the upstream is not to see: credentials of every method, not only the one that decided, for the others' have not
        # even been looked at; and whatever a client says in place of our token.
        mine = frozenset((self._token.field,) if self._token is not None else ())
        self._drop_always = mine or None
        credentials = frozenset[bytes]().union(*(method.fields for method in methods))
        self._drop = (mine if config.forward_credentials else mine | credentials) or None
        self._audit = Audit.of(config.audit, context) if config.audit is not None else None
        for method in methods:
            if self._audit is not None and hasattr(method, "audit_to"):
                method.audit_to(self._audit)
        # RFC 9110 section 11.6.1: every 401 carries a challenge for each scheme that would do.
        self._challenges = tuple(dict.fromkeys((b"WWW-Authenticate", method.challenge) for method in methods))
        self._missing = f"This needs {' or '.join(dict.fromkeys(method.wanted for method in methods))}."
        self._counts = context.telemetry.auth

    def __repr__(self) -> str:
        return f"<Auth {self._name} {self._methods!r}>"

    def request(self, exchange: Exchange) -> Awaitable[None] | None:
        """Sets `exchange.identity`. Raises Failed: UNAUTHENTICATED, EXPIRED, FORBIDDEN or MALFORMED."""
        if self._from_where is not None:
            refused = self._from_where(exchange)
            if refused is not None:
                raise self._failed(exchange, None, refused)
        for method in self._methods:
            try:
                identity = method.identify(exchange)
            except Refused as refused:
                raise self._failed(exchange, method, refused) from None
            if identity is not None:
                if not isinstance(identity, Identity):
                    return self._request_later(exchange, method, identity)
                self._permit(exchange, method, identity)
                return None
        self._anonymous(exchange)
        return None

    async def _request_later(self, exchange: Exchange, method: Method, begun: Awaitable[Identity | None]) -> None:
        """The rest of `request`, from a method on that has to wait."""
        for following in self._methods[self._methods.index(method) :]:
            try:
                identity = await begun if following is method else following.identify(exchange)
                if identity is not None and not isinstance(identity, Identity):
                    identity = await identity
            except Refused as refused:
                raise self._failed(exchange, following, refused) from None
            if identity is not None:
                self._permit(exchange, following, identity)
                return
        self._anonymous(exchange)

    def _permit(self, exchange: Exchange, method: Method, identity: Identity) -> None:
        """Whether somebody who is known may do this."""
        exchange.identity = identity
        needed = self._requirements.of(exchange.method)
        if needed and not needed <= identity.permissions and not self._requirements.met(needed, identity.permissions):
            raise self._failed(exchange, method, _forbidden(exchange, identity, needed))
        for rule in self._rules:
            refused = rule(exchange, identity)
            if refused is not None:
                raise self._failed(exchange, method, refused)
        if self._drop is not None:
            dropped = exchange.drop_headers
            # The same object where it can be: upstream.headers remembers what it made of the fields by it.
            exchange.drop_headers = self._drop if dropped is None else dropped | self._drop
        if self._token is not None:
            exchange.identity = self._token.holder(identity)
        if exchange.decisions is not None:
            why = f"{method.name} of client {identity.client}, who has {_listed(identity.permissions)}; needed: {_listed(needed)}"
            exchange.decisions.append(Decision(self._name, "allowed", why))
            return
        self._counts.add((method.name, "ok"))
        if self._audit is not None and self._audit.allowed:
            self._audit.write(exchange, method.name, "allowed", "ok", "")

    def _anonymous(self, exchange: Exchange) -> None:
        """A request without any credentials."""
        needed = self._requirements.of(exchange.method)
        if not self._optional or needed or self._rules:
            why = f"no credentials; {exchange.method} needs {_listed(needed)}" if needed else "no credentials"
            raise self._failed(exchange, None, Refused("missing", why, detail=self._missing))
        bearer.drop(exchange, self._drop_always)
        if exchange.decisions is not None:
            exchange.decisions.append(Decision(self._name, "allowed", "no credentials, and none are needed"))
            return
        self._counts.add(("none", "anonymous"))
        if self._audit is not None and self._audit.allowed:
            self._audit.write(exchange, "none", "allowed", "anonymous", "")

    def _failed(self, exchange: Exchange, method: Method | None, refused: Refused) -> Failed:
        if exchange.decisions is not None:
            exchange.decisions.append(Decision(self._name, "denied", refused.why))
        else:
            name = method.name if method is not None else "none"
            self._counts.add((name, refused.result))
            if self._audit is not None:
                self._audit.write(exchange, name, "denied", refused.result, refused.why)
        headers = refused.headers
        if refused.failure.status == 401:
            mine = method.challenge if method is not None else b""
            headers += tuple(
                (b"WWW-Authenticate", method.rejected) if method is not None and value == mine else (name, value)
                for name, value in self._challenges
            )
        return Failed(refused.failure, refused.detail, headers=headers, why=refused.why, by=self._name)


def build(config: AuthConfig, context: Context) -> Hooks:
    """The middleware. Raises ConfigProblem when a method cannot work, e.g. without its key file."""
    if not config.methods:
        raise ConfigProblem("no methods, so nobody could be known", at=("methods",), hint='methods = ["api_key"]')
    names = tuple(dict.fromkeys(config.methods))
    alone = "introspection" not in names[names.index("jwt") :] if "jwt" in names else True
    realm, roles = config.realm, config.roles
    makers: Mapping[str, Callable[[], Method]] = {
        "api_key": lambda: ApiKeys.of(config.api_key, context, realm, roles, config.forward_credentials),
        "jwt": lambda: Jwt.of(config.jwt, context, realm, roles, _revocations(config, context), alone=alone),
        "introspection": lambda: Introspected.of(config.introspection, context, realm, roles, _revocations(config, context)),
        "basic": lambda: Basic.of(config.basic, context, realm, roles),
        "mtls": lambda: Mtls.of(config.mtls, roles),
    }
    methods = tuple(makers[name]() for name in names)
    return Hooks(request=Auth(config, context, methods).request)


def _revocations(config: AuthConfig, context: Context) -> Revocations | None:
    """The list, one for everybody who uses the file. Raises ConfigProblem when it makes no sense."""
    if not config.revocations:
        return None
    if config.revocations == "redis" or stores.is_url(config.revocations):
        return _stored_revocations(config.revocations, context)
    path = context.directory / config.revocations
    try:
        kept: Revocations = context.keep(("auth", "revocations", str(path)), None, lambda: Revocations.of(path))
        kept.replace(revocations.load(path))
    except RevocationError as error:
        raise ConfigProblem(str(error), at=("revocations",)) from None
    return kept


def _stored_revocations(url: str, context: Context) -> Revocations:
    # Whoever has a file needs nothing of Redis.
    from gateway.middlewares.auth.store_revocations import StoreRevocations
    from gateway.state.redis_reader import reader_of

    try:
        store = reader_of(url, STORE_DEADLINE, context)
    except (stores.BadUrl, LookupError) as error:
        raise ConfigProblem(str(error), at=("revocations",), hint='revocations = "redis://host:6379/0"') from None
    kept: Revocations = context.keep(("auth", "revocations", store.name, store.tag), store, lambda: StoreRevocations(store))
    return kept


def _forbidden(exchange: Exchange, identity: Identity, needed: frozenset[str]) -> Refused:
    lacking = frozenset(word for word in needed if not covers(identity.permissions, {word}))
    return Refused(
        "forbidden",
        f"require: {exchange.method} needs {_listed(needed)}; client {identity.client} has {_listed(identity.permissions)}",
        detail=f"This needs the permission{'s' if len(lacking) > 1 else ''} {_listed(lacking)}.",
        failure=Failure.FORBIDDEN,
    )


def _listed(words: frozenset[str]) -> str:
    return ", ".join(sorted(words)) or "none"
