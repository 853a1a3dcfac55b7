"""`auth`: identify the caller, and decide what it may do.

The request hook asks each of `methods` in turn; the first that finds credentials of its kind
decides. It leaves an Identity on the exchange, whose headers (X-Client-ID, X-Client-Tier,
X-Client-Roles) go to the upstream, and compares its permissions with `require`. Each method has a
module of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config.tables.schema import schema_of
from gateway.core.exchange import CHALLENGES, Decision, Exchange, Identity
from gateway.core.failures import Failed, Failure
from gateway.core.hooks import ConfigProblem, Context, Hooks, Recheck
from gateway.core.identities import covers
from gateway.core.refusals import Refused, Shadows, in_shadow
from gateway.core.wait import own
from gateway.credentials.audit import Audit
from gateway.credentials.files import CredentialError, load_once
from gateway.middlewares.auth import bearer
from gateway.middlewares.auth.bearer import Elsewhere
from gateway.middlewares.auth.config import AuthConfig
from gateway.middlewares.auth.methods import Method, make
from gateway.middlewares.auth.permissions import Requirements
from gateway.middlewares.auth.rules import from_where, rules
from gateway.protocols.websocket import HANDSHAKE, UPGRADE

if TYPE_CHECKING:
    from gateway.middlewares.auth.internal_token import InternalToken

CONFIG = schema_of(AuthConfig)
JUDGED_ONCE = frozenset(("signature", "mtls"))
"""Methods whose credentials are not looked at again while a WebSocket is open."""
__all__ = ["CONFIG", "Auth", "AuthConfig", "build", "left_out", "read_ahead", "secrets"]


class Auth:
    """One instance in one pipeline, or on one route that overrides it."""

    __slots__ = (
        "_audit", "_challenges", "_counts", "_drop", "_drop_always", "_from_where", "_methods",
        "_missing", "_name", "_optional", "_recheck", "_requirements", "_rules", "_token",
    )  # fmt: skip

    def __init__(self, config: AuthConfig, context: Context, methods: tuple[Method, ...]) -> None:
        self._name = context.name
        self._methods = methods
        self._optional = config.optional
        self._recheck = bool(config.recheck)
        self._requirements = Requirements(config.require)
        self._rules = rules(config.tiers, config.owner, frozenset(config.owner_except))
        self._from_where = from_where(config.allow, config.deny)
        self._token: InternalToken | None = None
        if config.forward == "token":
            from gateway.middlewares.auth import internal_token

            self._token = internal_token.InternalToken(config.token, context.clock)
        # Kept from the upstream: credentials of every method, because those of methods after
        # the deciding one were never checked, and whatever a client sends in place of our token.
        mine = frozenset((self._token.field,) if self._token is not None else ())
        self._drop_always = mine or None
        credentials = frozenset[bytes]().union(*(method.fields for method in methods))
        self._drop = (mine if config.forward_credentials else mine | credentials) or None
        self._audit = Audit.of(config.audit, context) if config.audit is not None else None
        for method in methods:
            if self._audit is not None and hasattr(method, "audit_to"):
                method.audit_to(self._audit)
        # RFC 9110 section 11.6.1: every 401 carries a challenge for each scheme that would do.
        self._challenges = tuple(
            dict.fromkeys((b"WWW-Authenticate", method.challenge) for method in methods)
        )
        self._missing = (
            f"This needs {' or '.join(dict.fromkeys(method.wanted for method in methods))}."
        )
        self._counts = context.telemetry.auth

    def __repr__(self) -> str:
        return f"<Auth {self._name} {self._methods!r}>"

    @property
    def audit(self) -> Audit | None:
        """The audit log, where there is one."""
        return self._audit

    def request(self, exchange: Exchange) -> Awaitable[None] | None:
        """Set `exchange.identity`. Raises Failed: 400, 401 or 403."""
        if self._recheck and UPGRADE in exchange.notes:
            exchange.notes[HANDSHAKE] = exchange.target  # Credentials in it are taken out.
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

    @own
    async def _request_later(
        self, exchange: Exchange, method: Method, begun: Awaitable[Identity | None]
    ) -> None:
        """Go on with `request` from a method that has to wait.

        Methods await only Waits and futures, so no Task is needed.
        """
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

    def recheck(self, exchange: Exchange) -> Awaitable[None] | None:
        """Judge the request of an open WebSocket again. Raises Failed.

        A signature is for one moment, and a certificate for its connection: they are not judged.
        """
        target = exchange.notes.get(HANDSHAKE)
        if target is None or (
            exchange.identity is not None and exchange.identity.method in JUDGED_ONCE
        ):
            return None
        again = Exchange(
            exchange.method,
            target,
            exchange.headers,
            exchange.raw_headers,
            peer=exchange.peer,
            scheme=exchange.scheme,
            host=exchange.host,
        )
        again.client_ip, again.trusted = exchange.client_ip, exchange.trusted
        again.tls_subject, again.params = exchange.tls_subject, exchange.params
        again.decisions = []  # It is no request: nothing is counted.
        return self.request(again)

    def _permit(self, exchange: Exchange, method: Method, identity: Identity) -> None:
        """Raise Failed unless this caller may make this request."""
        exchange.identity = identity
        needed = self._requirements.of(exchange.method)
        if (
            needed
            and not needed <= identity.permissions
            and not self._requirements.met(needed, identity.permissions)
        ):
            raise self._failed(exchange, method, _forbidden(exchange, method, identity, needed))
        for rule in self._rules:
            refused = rule(exchange, identity)
            if refused is not None:
                raise self._failed(exchange, method, refused)
        if self._drop is not None:
            dropped = exchange.drop_headers
            # The same object where possible: upstream's headers.py caches by it.
            exchange.drop_headers = self._drop if dropped is None else dropped | self._drop
        if self._token is not None:
            exchange.identity = self._token.holder(identity)
        if exchange.decisions is not None:
            has, need = _listed(identity.permissions), _listed(needed)
            why = f"{method.name} of client {identity.client}, who has {has}; needed: {need}"
            exchange.decisions.append(Decision(self._name, "allowed", why))
            return
        self._counts.values[(method.name, "ok")] += 1
        if self._audit is not None and self._audit.allowed:
            self._audit.write(exchange, method.name, "allowed", "ok", "")

    def _anonymous(self, exchange: Exchange) -> None:
        """A request without any credentials."""
        needed = self._requirements.of(exchange.method)
        if not self._optional or needed or self._rules:
            why = (
                f"no credentials; {exchange.method} needs {_listed(needed)}"
                if needed
                else "no credentials"
            )
            raise self._failed(exchange, None, Refused("missing", why, detail=self._missing))
        bearer.drop(exchange, self._drop_always)
        exchange.notes[CHALLENGES] = self._challenges
        if exchange.decisions is not None:
            exchange.decisions.append(
                Decision(self._name, "allowed", "no credentials, and none are needed")
            )
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
                (b"WWW-Authenticate", method.rejected)
                if method is not None and value == mine
                else (name, value)
                for name, value in self._challenges
            )
        return Failed(
            refused.failure,
            refused.detail,
            headers=headers,
            facts=refused.facts,
            why=refused.why,
            by=self._name,
            at=refused.at or ((method.name,) if method is not None else ()),
            client=refused.client,
        )


def build(config: AuthConfig, context: Context) -> Hooks:
    """The middleware. Raises ConfigProblem when a method cannot work, e.g. without its key file."""
    if not config.methods:
        raise ConfigProblem(
            "no methods, so no caller could be identified",
            at=("methods",),
            hint='methods = ["api_key"]',
        )
    names = tuple(dict.fromkeys(config.methods))
    elsewhere = None
    if config.bearer.query or config.bearer.cookie:
        elsewhere = Elsewhere(config.bearer.query, config.bearer.cookie, config.forward_credentials)
    methods = tuple(make(name, names, config, context, elsewhere) for name in names)
    auth = Auth(config, context, methods)
    if config.shadow:
        shadows = Shadows.of(context.keep, context.telemetry)
        return Hooks(request=in_shadow(context.name, auth.request, shadows))
    recheck = Recheck(config.recheck, auth.recheck) if config.recheck else None
    return Hooks(request=auth.request, recheck=recheck, passed=passed)


def passed(exchange: Exchange) -> str:
    """Say who was let pass."""
    identity = exchange.identity
    if identity is None:
        return "no credentials, and none are needed"
    return f"{identity.method} of client {identity.client}, who has {_listed(identity.permissions)}"


def read_ahead(config: AuthConfig, directory: Path, home: Path) -> None:
    """Read the files of keys and users; what is wrong with them is said when they are built."""
    if "api_key" in config.methods and not config.api_key.store:
        from gateway.credentials.api_keys import key_file

        with suppress(CredentialError):
            load_once(config.api_key.path(directory, home), key_file.load)
    if "basic" in config.methods:
        from gateway.credentials.users import user_file

        with suppress(CredentialError):
            load_once(config.basic.path(directory, home), user_file.load)


def secrets(config: AuthConfig) -> frozenset[str]:
    """Return the names (lower case) of fields, parameters and cookies that credentials come in."""
    names = set()
    if "api_key" in config.methods:
        names |= {config.api_key.header, config.api_key.query}
    if {"api_key", "jwt", "introspection", "basic"} & set(config.methods):
        names.add("authorization")
    if {"jwt", "introspection"} & set(config.methods):
        names |= {
            config.bearer.query,
            config.bearer.cookie,
            "cookie" if config.bearer.cookie else "",
        }
    if config.forward == "token":
        names.add(config.token.header)
    return frozenset(name.lower() for name in names if name)


def left_out(config: AuthConfig, context: Context) -> Hooks | None:
    """Return the hooks for a route without `auth`: they keep credentials from the upstream."""
    keeper = Keeper(config)
    return Hooks(request=keeper.request) if keeper else None


class Keeper:
    """Keeps API keys, tokens in queries and cookies, and forged tokens of ours from the upstream.

    Authorization goes on unless it holds an API key: on an open route it may be the upstream's own.
    """

    __slots__ = ("_cookie", "_fields", "_keys", "_queries")

    def __init__(self, config: AuthConfig) -> None:
        fields = {config.token.header} if config.forward == "token" else set()
        queries: set[str] = set()
        self._keys, self._cookie = False, ""
        if not config.forward_credentials:
            if "api_key" in config.methods:
                self._keys = True
                fields.add(config.api_key.header)
                queries.add(config.api_key.query)
            if {"jwt", "introspection"} & set(config.methods):
                queries.add(config.bearer.query)
                self._cookie = config.bearer.cookie
        self._fields = frozenset(name.lower().encode() for name in fields) or None
        self._queries = frozenset(queries - {""})

    def __bool__(self) -> bool:
        return bool(self._fields or self._queries or self._cookie)

    def request(self, exchange: Exchange) -> None:
        """The request hook. Refuses nothing."""
        bearer.drop(exchange, self._fields)
        if self._queries and exchange.query:
            bearer.parameters(exchange, self._queries, forward=False)
        if self._keys and bearer.holds_key(exchange):
            bearer.drop(exchange, bearer.FIELDS)
        if self._cookie:
            with suppress(Refused):  # two of them: both are taken out
                bearer.cookie(exchange, self._cookie, forward=False)


def _forbidden(
    exchange: Exchange, method: Method, identity: Identity, needed: frozenset[str]
) -> Refused:
    lacking = frozenset(word for word in needed if not covers(identity.permissions, {word}))
    has, need = _listed(identity.permissions), _listed(needed)
    return Refused(
        "forbidden",
        f"require: {exchange.method} needs {need}; client {identity.client} has {has}",
        detail=f"This needs the permission{'s' if len(lacking) > 1 else ''} {_listed(lacking)}.",
        failure=Failure.FORBIDDEN,
        headers=bearer.insufficient_scope(method.challenge, needed),
        facts={"required_permission": _listed(lacking)},
        at=("require",),
    )


def _listed(words: frozenset[str]) -> str:
    return ", ".join(sorted(words)) or "none"
