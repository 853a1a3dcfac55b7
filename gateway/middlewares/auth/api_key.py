"""API keys: taken from a header or a query parameter, looked up by their hash.

No key appears in a log, a repr or an error; in memory there are hashes, and the keys presented lately.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from multidict import istr

from gateway.config.schema import FieldName, Table, Text
from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem, Context
from gateway.middlewares.auth import bearer
from gateway.middlewares.auth.identities import Granted, identity
from gateway.middlewares.auth.networks import Networks
from gateway.middlewares.auth.refusal import Refused
from gateway.state import keyfile
from gateway.state.keyfile import Key, KeyFileError
from gateway.state.keyuse import KeyUse
from gateway.state.watch import Stamp, Watched, stamp

log = logging.getLogger("gateway.auth")

TTL = 300.0
"""Seconds a look-up is remembered."""
KNOWN = 10_000
"""Keys remembered that were good."""
UNKNOWN = 1_000
"""Keys remembered that were not: few, for whoever guesses never repeats himself."""
LONGEST = 256
"""Letters of a key that is worth remembering."""


@dataclass(frozen=True, slots=True)
class ApiKeyConfig:
    """Where keys are: in the field `header`, also in the query parameter `query` ("" for not there), and in the key file.

    A key in a URL ends up in histories, logs and Referer fields, so `query` has to be asked for.
    """

    header: str = "X-API-Key"
    query: str = ""
    file: str = "keys.toml"


class ApiKeyTable(Table):
    makes = ApiKeyConfig
    header = FieldName()
    query = Text()
    file = Text()


class KeyRing:
    """The keys of one file, by hash, and what was lately made of the keys presented. Shared by the routes that use the file.

    used: writes down which keys are in use, if that is wanted; a key counts once in TTL seconds.
    """

    __slots__ = ("_by_digest", "_roles", "_used", "_watched", "_wrong", "good")

    def __init__(self, keys: Iterable[Key], roles: Mapping[str, tuple[str, ...]], used: KeyUse | None = None) -> None:
        self._roles = roles
        self._used = used
        self._watched: Watched[tuple[Key, ...]] | None = None
        self._by_digest: dict[bytes, tuple[Key, Identity, Networks | None]] = {}
        self.good: dict[str, tuple[Identity, float, Networks | None]] = {}
        """By key: who it makes the caller, the Unix time until which that holds, and from where alone."""
        self._wrong: dict[str, tuple[Key | None, float]] = {}
        self.replace(keys)

    def __repr__(self) -> str:
        return f"<KeyRing {len(self._by_digest)} keys>"

    def replace(self, keys: Iterable[Key]) -> None:
        """Other keys from now on; nothing that was remembered of the old ones holds any more."""
        self._by_digest = {
            key.digest: (key, _identity(key, self._roles), Networks(key.networks) if key.networks else None) for key in keys
        }
        self.good.clear()
        self._wrong.clear()

    def watch(self, path: Path, seen: Stamp) -> None:
        """Follows the file, so that a key that is revoked there is refused here within a second."""
        if self._watched is None:
            self._watched = Watched(path, seen, lambda: keyfile.load(path), self._follow)

    def _follow(self, keys: tuple[Key, ...]) -> None:
        """Other keys, and in the log what became of each."""
        before = {key.id: key for key, *_ in self._by_digest.values()}
        self.replace(keys)
        for key in keys:
            was = before.pop(key.id, None)
            if was != key:
                what = "added" if was is None else "revoked" if key.revoked and not was.revoked else "changed"
                log.info("key %s of %s: %s", key.id, key.client, what)
        for gone in before.values():
            log.info("key %s of %s: removed", gone.id, gone.client)

    def close(self) -> None:
        if self._watched is not None:
            self._watched.close()
        if self._used is not None:
            self._used.close()

    def look_up(self, presented: str, now: float) -> tuple[Identity, float, Networks | None]:
        """Whose key this is, at the Unix time `now`, as `good` has it. Raises Refused."""
        remembered = self._wrong.get(presented)
        if remembered is not None and now < remembered[1]:
            raise _refused(remembered[0], presented)
        # Constant time by construction: what is compared is the hash of a guess, which nobody can steer towards a stored one
        # bit by bit, so how far a comparison got tells nothing about any key.
        found = self._by_digest.get(keyfile.digest(presented))
        if found is None or found[0].state(now) != "active":
            key = found[0] if found is not None else None
            _remember(self._wrong, UNKNOWN, presented, (key, now + TTL))
            raise _refused(key, presented)
        key, identity, networks = found
        until = now + TTL if key.expires is None else min(now + TTL, key.expires)
        if self._used is not None:
            self._used.note(key.id, now)
        good = (identity, until, networks)
        _remember(self.good, KNOWN, presented, good)
        return good


class ApiKeys:
    """The method "api_key"."""

    name = "api_key"

    __slots__ = ("_forward", "_header", "_query", "_ring", "_wall", "challenge", "fields", "rejected", "wanted")

    def __init__(self, config: ApiKeyConfig, ring: KeyRing, clock: Clock, realm: str, forward: bool) -> None:
        self._header = istr(config.header)
        self._query = config.query
        self._forward = forward
        self.fields = frozenset((config.header.lower().encode(),))
        self._ring = ring
        self._wall = clock.wall
        # Not a registered scheme: there is none for API keys. A challenge is needed all the same (RFC 9110 section 15.5.2).
        self.wanted = f"an API key in the {config.header} header" + (f" or the {config.query} parameter" if config.query else "")
        self.challenge = self.rejected = f"ApiKey realm={bearer.quoted(realm)}".encode("latin-1")

    @classmethod
    def of(
        cls, config: ApiKeyConfig, context: Context, realm: str, roles: Mapping[str, tuple[str, ...]], forward: bool
    ) -> ApiKeys:
        """With the keys of the file. Raises ConfigProblem when that is missing or broken."""
        path = context.directory / config.file
        try:
            seen = stamp(path)
            keys = keyfile.load(path)
        except KeyFileError as error:
            hint = "" if path.exists() else f"make one: gateway keys create --client NAME --file {_shortest(path)}"
            raise ConfigProblem(str(error), at=("api_key", "file"), hint=hint) from None
        # The same roles give the same ring, to every route of the pipeline and across reloads.
        fingerprint = tuple(sorted(roles.items()))
        key = ("auth", "api_key", context.pipeline, context.name, str(path), f"{hash(fingerprint):x}")
        ring: KeyRing = context.keep(key, fingerprint, lambda: KeyRing(keys, roles, KeyUse(path)))
        ring.replace(keys)
        ring.watch(path, seen)
        return cls(config, ring, context.clock, realm, forward)

    def __repr__(self) -> str:
        return f"<ApiKeys {self._header} {self._ring!r}>"

    def identify(self, exchange: Exchange) -> Identity | None:
        """Whose key came with the request; None without one. Raises Refused."""
        presented: str | None
        given = exchange.headers.getall(self._header, NOTHING)
        if given:
            presented = self._from_header(given)
            if self._query and exchange.query:
                self._from_query(exchange, presented)
        elif self._query and exchange.query:
            presented = self._from_query(exchange, None)
            if presented is None:
                return None
        else:
            return None
        now = self._wall()
        known = self._ring.good.get(presented)
        # `until` is never later than the key's own expiry: this comparison is all the checking a known key needs.
        if known is None or now >= known[1]:
            known = self._ring.look_up(presented, now)
        if known[2] is not None and exchange.client_ip not in known[2]:
            raise _from_elsewhere(known[0], exchange.client_ip, known[2])
        return known[0]

    def _from_header(self, given: list[str]) -> str:
        """The key in the header."""
        if len(given) > 1:
            raise _ambiguous(f"{len(given)} {self._header} headers", f"There must be only one {self._header} header.")
        return given[0]

    def _from_query(self, exchange: Exchange, from_header: str | None) -> str | None:
        """The key in the query, if there is one, which is taken out of what the upstream gets."""
        if self._query not in exchange.query and "%" not in exchange.query:
            return None
        parameters = exchange.query.split("&")
        mine = [parameter for parameter in parameters if unquote(parameter.partition("=")[0]) == self._query]
        if not mine:
            return None
        if len(mine) > 1:
            raise _ambiguous(f"{len(mine)} {self._query} parameters", f"There must be only one {self._query} parameter.")
        # Not unquote_plus: keys made elsewhere may hold a "+", and none holds a space.
        presented = unquote(mine[0].partition("=")[2])
        if from_header is not None and presented != from_header:
            raise _ambiguous(
                f"different keys in {self._header} and {self._query}",
                f"The {self._header} header and the {self._query} parameter differ.",
            )
        if not self._forward:
            parameters.remove(mine[0])
            exchange.query = "&".join(parameters)
            exchange.target = exchange.path + ("?" + exchange.query if exchange.query else "")
        return presented


NOTHING: list[str] = []


def _identity(key: Key, granted: Granted) -> Identity:
    """Who a key makes the caller, with the headers that tell the upstream."""
    return identity(
        key.client, "api_key", granted, tier=key.tier, roles=key.roles, permissions=key.permissions, claims={"key": key.id}
    )


def _remember(memory: dict[str, Any], most: int, presented: str, value: object) -> None:
    """Whoever fills the memory empties it: forgetting costs a look-up each, and dropping one at a time would cost more."""
    if len(presented) <= LONGEST:
        if len(memory) >= most:
            memory.clear()
        memory[presented] = value


def _from_elsewhere(identity: Identity, address: str, networks: Networks) -> Refused:
    return Refused(
        "network",
        f"key {identity.claims['key']} of {identity.client} may be used from {networks!r} only, not from {address}",
        detail="The API key may not be used from here.",
        failure=Failure.FORBIDDEN,
    )


def _refused(key: Key | None, presented: str) -> Refused:
    """Why a key is no good: unknown (None), revoked or expired."""
    if key is None and keyfile.mistyped(presented):
        why = "the key's checksum is wrong, so it was mistyped or cut off rather than guessed"
        return Refused("mistyped", why, detail="The API key is mistyped: its checksum does not fit.")
    if key is None:
        return Refused("invalid", "the key is in no key file", detail="The API key is not valid.")
    if key.revoked:
        return Refused("revoked", f"key {key.id} of {key.client} was revoked", detail="The API key has been revoked.")
    since = datetime.fromtimestamp(key.expires or 0, UTC)
    return Refused(
        "expired",
        f"key {key.id} of {key.client} expired {since:%Y-%m-%d %H:%M} UTC",
        detail="The API key has expired.",
        failure=Failure.EXPIRED,
    )


def _ambiguous(why: str, detail: str) -> Refused:
    return Refused("malformed", why, detail=detail, failure=Failure.MALFORMED)


def _shortest(path: Path) -> str:
    """A path as one would type it here."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
