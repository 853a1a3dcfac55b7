"""API keys from a header or a query parameter, looked up in a file (key_ring.py) or in Redis
(store_ring.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from multidict import istr

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem, Context
from gateway.core.networks import Networks
from gateway.core.refusals import Refused
from gateway.credentials.api_keys import key_file
from gateway.credentials.api_keys.key_ring import Good, KeyRing
from gateway.credentials.api_keys.last_use import KeyUse
from gateway.credentials.audit import Audit
from gateway.credentials.files import CredentialError, load_once
from gateway.middlewares.auth import bearer
from gateway.middlewares.auth.bearer import AUTHORIZATION
from gateway.middlewares.auth.config import ApiKeyConfig
from gateway.store import stores

if TYPE_CHECKING:
    from gateway.credentials.api_keys.store_ring import StoreRing


class ApiKeys:
    """The method "api_key"."""

    name = "api_key"

    __slots__ = (
        "_forward",
        "_header",
        "_query",
        "_ring",
        "_wall",
        "challenge",
        "fields",
        "rejected",
        "wanted",
    )

    def __init__(
        self,
        config: ApiKeyConfig,
        ring: KeyRing | StoreRing,
        clock: Clock,
        realm: str,
        forward: bool,
    ) -> None:
        self._header = istr(config.header)
        self._query = config.query
        self._forward = forward
        self.fields = frozenset((config.header.lower().encode(),))
        self._ring = ring
        self._wall = clock.wall
        # There is no registered scheme for API keys, but a 401 needs a challenge (RFC 9110 section
        # 15.5.2), and what it names works.
        self.wanted = f"an API key in the {config.header} header" + (
            f" or the {config.query} parameter" if config.query else ""
        )
        self.challenge = self.rejected = f"ApiKey realm={bearer.quoted(realm)}".encode("latin-1")

    @classmethod
    def of(
        cls,
        config: ApiKeyConfig,
        context: Context,
        realm: str,
        roles: Mapping[str, tuple[str, ...]],
        forward: bool,
    ) -> ApiKeys:
        """Build the method. Raises ConfigProblem if its store or file is missing or broken."""
        if config.header.lower() == "x-request-id":  # No memo looks at it (see Exchange.memo).
            raise ConfigProblem(
                "X-Request-ID is logged and answered: it is no place for a key",
                at=("api_key", "header"),
                hint='such as "X-API-Key"',
            )
        # The same roles give the same ring, to every route of the pipeline and across reloads.
        fingerprint = tuple(sorted(roles.items()))
        make = _of_store if config.store else _of_file
        return cls(config, make(config, context, roles, fingerprint), context.clock, realm, forward)

    def __repr__(self) -> str:
        return f"<ApiKeys {self._header} {self._ring!r}>"

    def identify(self, exchange: Exchange) -> Identity | Awaitable[Identity] | None:
        """Return the caller whose key came, None without one. Raises Refused.

        Awaitable where a store has to be asked.
        """
        presented: str | None = exchange.memo.get(self)
        if presented is None:
            given = exchange.headers.getall(self._header, NOTHING)
            presented = self._from_header(given) if given else None
            if AUTHORIZATION in exchange.headers:
                presented = self._from_authorization(exchange, presented)
            else:
                exchange.memo[self] = presented
        if self._query and exchange.query:
            presented = self._from_query(exchange, presented)
        if not presented:
            return None
        now = self._wall()
        known = self._ring.good.get(presented)
        # `until` is never later than the key's own expiry, so nothing else has to be checked.
        if known is None or now >= known[1]:
            found = self._ring.look_up(presented, now, exchange.decisions is not None)
            if not isinstance(found, tuple):
                return self._later(found, exchange)
            known = found
        if known[2] is not None and exchange.client_ip not in known[2]:
            raise _from_elsewhere(known[0], exchange.client_ip, known[2])
        return known[0]

    def audit_to(self, audit: Audit) -> None:
        """Write changes of keys to this log too."""
        self._ring.changes.add(audit)

    async def _later(self, found: Awaitable[Good], exchange: Exchange) -> Identity:
        identity, _, networks = await found
        if networks is not None and exchange.client_ip not in networks:
            raise _from_elsewhere(identity, exchange.client_ip, networks)
        return identity

    def _from_header(self, given: list[str]) -> str:
        """Return the key in the header, "" for an empty field."""
        if len(given) > 1:
            raise bearer.ambiguous(
                f"{len(given)} {self._header} headers",
                f"There must be only one {self._header} header.",
            )
        return given[0]

    def _from_authorization(self, exchange: Exchange, from_header: str | None) -> str | None:
        """Return the key in `Authorization: ApiKey KEY` if there is one, else the header's."""
        if not bearer.holds_key(exchange):
            return from_header
        presented = bearer.of_scheme(exchange.headers.getall(AUTHORIZATION), "apikey")
        if self._header != AUTHORIZATION and from_header and presented and from_header != presented:
            raise bearer.ambiguous(
                f"different keys in {self._header} and Authorization",
                f"The {self._header} and Authorization headers differ.",
            )
        if not self._forward:
            bearer.drop(exchange, bearer.FIELDS)
        return presented or from_header

    def _from_query(self, exchange: Exchange, from_header: str | None) -> str | None:
        """Return the key in the query if there is one, else the header's."""
        presented = bearer.parameter(exchange, self._query, self._forward)
        if from_header and presented and presented != from_header:
            raise bearer.ambiguous(
                f"different keys in {self._header} and {self._query}",
                f"The {self._header} header and the {self._query} parameter differ.",
            )
        return presented or from_header


NOTHING: Final[list[str]] = []

Fingerprint = tuple[tuple[str, tuple[str, ...]], ...]


def _of_file(
    config: ApiKeyConfig,
    context: Context,
    roles: Mapping[str, tuple[str, ...]],
    fingerprint: Fingerprint,
) -> KeyRing:
    path = config.path(context.directory, context.home)
    try:
        seen, keys = load_once(path, key_file.load)
    except CredentialError as error:
        hint = (
            ""
            if path.exists()
            else f"make one: gateway keys create --client NAME --file {_shortest(path)}"
        )
        raise ConfigProblem(str(error), at=("api_key", "file"), hint=hint) from None
    key = ("auth", "api_key", context.pipeline, context.name, str(path), f"{hash(fingerprint):x}")

    def make() -> KeyRing:
        made = KeyRing(keys, roles, KeyUse(path))
        made.watch(path, seen)
        return made

    ring: KeyRing = context.keep(key, fingerprint, make)
    context.at_commit(ring.offer(seen, keys))
    return ring


def _of_store(
    config: ApiKeyConfig,
    context: Context,
    roles: Mapping[str, tuple[str, ...]],
    fingerprint: Fingerprint,
) -> StoreRing:
    # With a file nothing of Redis is imported.
    from gateway.credentials.api_keys.shared_keys import SharedKeys
    from gateway.credentials.api_keys.store_ring import StoreRing
    from gateway.store.redis.client import client_of

    try:
        store = client_of(config.store, config.deadline, context)
    except (stores.BadUrl, LookupError) as error:
        raise ConfigProblem(
            str(error), at=("api_key", "store"), hint='store = "redis://host:6379/0"'
        ) from None
    keys: SharedKeys = context.keep(
        ("auth", "shared keys", store.name, store.tag), store, lambda: SharedKeys(store)
    )
    stale = config.stale if config.on_store_failure == "cached" else 0.0
    key = (
        "auth",
        "api_key",
        context.pipeline,
        context.name,
        store.name,
        f"{hash((store.tag, fingerprint, stale)):x}",
    )
    ring: StoreRing = context.keep(
        key, (keys, fingerprint, stale), lambda: StoreRing(keys, roles, stale, context.clock)
    )
    return ring


def _from_elsewhere(identity: Identity, address: str, networks: Networks) -> Refused:
    key = f"key {identity.claims['key']} of {identity.client}"
    return Refused(
        "network",
        f"{key} may be used from {networks!r} only, not from {address}",
        detail="The API key may not be used from here.",
        failure=Failure.FORBIDDEN,
        client=identity.client,
    )


def _shortest(path: Path) -> str:
    """Return a path as it would be typed in this directory."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
