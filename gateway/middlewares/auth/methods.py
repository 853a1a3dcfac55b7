"""The methods of `auth`, each imported only where configured: API keys need no cryptography."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Protocol

from gateway.core.exchange import Exchange, Identity
from gateway.core.hooks import ConfigProblem, Context
from gateway.credentials.files import CredentialError, load_once
from gateway.middlewares.auth.bearer import Elsewhere
from gateway.middlewares.auth.config import AuthConfig
from gateway.store import stores

if TYPE_CHECKING:
    from gateway.credentials.revocations.revoked import Revocations

STORE_DEADLINE = 0.25
"""Seconds for an answer of the store with the revoked tokens. No request waits for it."""


class Method(Protocol):
    """One way to identify a caller.

    name: its word in the configuration and in metrics. wanted: what to send, for people.
    fields: the header fields (lower case) that credentials of this kind come in.
    challenge: WWW-Authenticate for requests without credentials. rejected: for bad credentials.
    """

    name: str
    challenge: bytes
    rejected: bytes
    wanted: str
    fields: frozenset[bytes]

    def identify(self, exchange: Exchange) -> Identity | Awaitable[Identity | None] | None:
        """Return the caller, None without credentials of this kind. Raises Refused for bad ones.

        A method that has to wait returns an awaitable of the same.
        """


def make(
    name: str,
    names: Sequence[str],
    config: AuthConfig,
    context: Context,
    elsewhere: Elsewhere | None,
) -> Method:
    """Build the method `name`, one of `names` in order. Raises ConfigProblem.

    elsewhere: where tokens may come from beside Authorization.
    """
    realm, roles = config.realm, config.roles
    if name == "api_key":
        from gateway.middlewares.auth.api_key import ApiKeys

        return ApiKeys.of(config.api_key, context, realm, roles, config.forward_credentials)
    if name == "jwt":
        from gateway.middlewares.auth.jwt import Jwt

        alone = "introspection" not in names[names.index("jwt") :]
        listed = _revocations(config, context)
        return Jwt.of(
            config.jwt,
            context,
            realm,
            roles,
            listed,
            alone=alone,
            prefixes=_prefixes(config),
            elsewhere=elsewhere,
        )
    if name == "introspection":
        from gateway.middlewares.auth.introspection import Introspected

        listed = _revocations(config, context)
        return Introspected.of(
            config.introspection, context, realm, roles, listed, _prefixes(config), elsewhere
        )
    if name == "basic":
        from gateway.middlewares.auth.basic import Basic

        return Basic.of(config.basic, context, realm, roles)
    if name == "signature":
        from gateway.middlewares.auth.signature import Signatures

        return Signatures.of(config.signature, context, realm, roles)
    from gateway.middlewares.auth.mtls import Mtls

    return Mtls.of(config.mtls, roles)


def _prefixes(config: AuthConfig) -> frozenset[str]:
    """Return the prefixes of all issuers."""
    issuers = [*config.jwt, *((config.introspection,) if config.introspection is not None else ())]
    return frozenset(one.claims.prefix for one in issuers if one.claims.prefix)


def _revocations(config: AuthConfig, context: Context) -> Revocations | None:
    """Return the list, shared by all who use the file. Raises ConfigProblem if it is invalid."""
    if not config.revocations:
        return None
    if config.revocations == "redis" or stores.is_url(config.revocations):
        return _stored_revocations(config.revocations, context)
    from gateway.credentials.revocations import revoked as revocations
    from gateway.credentials.revocations.revoked import Revocations

    path = context.directory / config.revocations
    try:
        seen, entries = load_once(path, revocations.load)
    except CredentialError as error:
        raise ConfigProblem(str(error), at=("revocations",)) from None
    kept: Revocations = context.keep(
        ("auth", "revocations", str(path)), None, lambda: Revocations.watching(path, seen, entries)
    )
    context.at_commit(kept.offer(seen, entries))
    return kept


def _stored_revocations(url: str, context: Context) -> Revocations:
    # With a file nothing of Redis is imported.
    from gateway.credentials.revocations.store_revocations import StoreRevocations
    from gateway.store.redis.client import client_of

    try:
        store = client_of(url, STORE_DEADLINE, context)
    except (stores.BadUrl, LookupError) as error:
        raise ConfigProblem(
            str(error), at=("revocations",), hint='revocations = "redis://host:6379/0"'
        ) from None
    kept: Revocations = context.keep(
        ("auth", "revocations", store.name, store.tag), store, lambda: StoreRevocations(store)
    )
    return kept
