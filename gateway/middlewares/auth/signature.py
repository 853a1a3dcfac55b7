"""HMAC signatures of requests (RFC 9421, RFC 9530); each key is shared with one client.

A request is verified in this order: what the signature covers and when it was made; the signature;
its nonce; and, when Content-Digest is covered, the body. So a client without a key cannot have a
body read or a nonce remembered.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from hashlib import sha256
from typing import Literal

from gateway.core.clock import Clock
from gateway.core.exchange import Exchange, Identity
from gateway.core.failures import Failure
from gateway.core.hooks import ConfigProblem, Context
from gateway.core.identities import Granted, identity
from gateway.core.refusals import Refused
from gateway.core.wait import Wait
from gateway.middlewares.auth import bearer, signed_message
from gateway.middlewares.auth.config import SignatureConfig
from gateway.middlewares.auth.signed_message import DIGESTS, Signed, Unreadable
from gateway.store.local import Key, LocalStore
from gateway.store.stores import StoreDown

ALGORITHM = "hmac-sha256"
SHORTEST = 32
"""Bytes of a secret at least: as many as the hash (RFC 2104 section 3)."""
MOST_NONCES = 100_000
"""Nonces remembered of each key."""
WHOLE = frozenset(("@authority", "@path", "@query"))
"""Components that together cover as much as @target-uri, except the scheme."""
NOTHING: list[str] = []
Used = Literal["new", "replayed", "full"]


class Nonces:
    """The nonces of signatures that are still good; a second request with one is a replay.

    Kept across reloads.
    """

    def __init__(self, most: int = MOST_NONCES) -> None:
        self._most = most
        # By age: the oldest of a plain dict takes as long to find as many have been deleted.
        self._by_key: dict[str, OrderedDict[bytes, float]] = {}

    def __repr__(self) -> str:
        return f"<Nonces {sum(map(len, self._by_key.values()))}>"

    def dump_state(self) -> dict[str, dict[bytes, float]]:
        """Return everything, for the program that takes this one's place."""
        return {keyid: dict(known) for keyid, known in self._by_key.items()}

    def load_state(self, state: dict[str, dict[bytes, float]]) -> None:
        self._by_key = {keyid: OrderedDict(known) for keyid, known in state.items()}

    def seen(self, keyid: str, nonce: bytes) -> bool:
        return nonce in self._by_key.get(keyid, ())

    def use(self, keyid: str, nonce: bytes, now: float, until: float) -> Used:
        """Remember a nonce; return what it is: "new", "replayed", or one of too many of its key.

        `until` never decreases from call to call.
        """
        known = self._by_key.setdefault(keyid, OrderedDict())
        while known and next(iter(known.values())) <= now:
            known.popitem(last=False)
        if nonce in known:
            return "replayed"
        if len(known) >= self._most:
            return "full"
        known[nonce] = until
        return "new"


class KeptNonces:
    """As Nonces, kept by the supervisor for all workers."""

    def __init__(self, store: LocalStore, key: Key) -> None:
        self._store = store
        self._key = key

    def __repr__(self) -> str:
        return "<KeptNonces>"

    def seen(self, keyid: str, nonce: bytes) -> Wait[bool]:
        return self._store.call(self._key, "seen", keyid, nonce)

    def use(self, keyid: str, nonce: bytes, now: float, until: float) -> Wait[Used]:
        return self._store.call(self._key, "use", keyid, nonce, now, until)


def _digest(nonce: str) -> bytes:
    """Return what is stored of a nonce: 16 bytes, however long it is."""
    return hashlib.blake2b(nonce.encode("utf-8", "surrogateescape"), digest_size=16).digest()


class Signatures:
    """The method "signature"."""

    name = "signature"
    wanted = "a signature (RFC 9421, hmac-sha256) in the Signature and Signature-Input headers"
    fields = frozenset((b"signature", b"signature-input"))

    __slots__ = ("_config", "_keys", "_needed", "_nonces", "_wall", "challenge", "rejected")

    def __init__(
        self,
        config: SignatureConfig,
        keys: Mapping[str, tuple[bytes, Identity]],
        nonces: Nonces | KeptNonces,
        clock: Clock,
        realm: str,
    ) -> None:
        self._config = config
        self._keys = keys
        self._nonces = nonces
        self._wall = clock.wall
        self._needed = frozenset(config.required)
        # There is no registered scheme for RFC 9421, but a 401 needs a challenge (RFC 9110 15.5.2).
        self.challenge = self.rejected = f"Signature realm={bearer.quoted(realm)}".encode("latin-1")

    @classmethod
    def of(
        cls, config: SignatureConfig, context: Context, realm: str, granted: Granted
    ) -> Signatures:
        """Raises ConfigProblem when there are no keys, or one is no good."""
        if not config.keys:
            hint = "add a table [[auth.signature.keys]]"
            raise ConfigProblem(
                "no keys, so no signature could be verified", at=("methods",), hint=hint
            )
        keys: dict[str, tuple[bytes, Identity]] = {}
        for index, key in enumerate(config.keys):
            at = ("signature", "keys", index)
            if key.id in keys:
                raise ConfigProblem(f"{key.id} has two tables", at=(*at, "id"))
            secret = key.secret.encode()
            if key.base64:
                try:
                    secret = base64.b64decode(secret, validate=True)
                except binascii.Error:
                    raise ConfigProblem("is not base64", at=(*at, "secret")) from None
            if len(secret) < SHORTEST:
                raise ConfigProblem(
                    f"is shorter than {SHORTEST} bytes",
                    at=(*at, "secret"),
                    hint="openssl rand -hex 32",
                )
            roles, permissions = frozenset(key.roles), frozenset(key.permissions)
            who = identity(
                key.client,
                cls.name,
                granted,
                tier=key.tier,
                roles=roles,
                permissions=permissions,
                claims={"keyid": key.id},
            )
            keys[key.id] = (secret, who)
        for name in config.required:
            if name.startswith("@") and name not in signed_message.DERIVED:
                hint = f"one of {', '.join(sorted(signed_message.DERIVED))}, or a header field"
                raise ConfigProblem(
                    f"{name} cannot be covered", at=("signature", "required"), hint=hint
                )
        place = ("auth", "nonces", context.pipeline, context.name)
        local: LocalStore | None = context.local
        nonces: Nonces | KeptNonces = context.keep(
            place, local, Nonces if local is None else partial(KeptNonces, local, place)
        )
        return cls(config, keys, nonces, context.clock, realm)

    def __repr__(self) -> str:
        return f"<Signatures {len(self._keys)} keys, {self._nonces!r}>"

    def identify(self, exchange: Exchange) -> Identity | Awaitable[Identity] | None:
        """Return the caller who signed the request, None without a signature. Raises Refused.

        Awaitable where a body has to be read.
        """
        inputs = exchange.headers.getall("Signature-Input", NOTHING)
        if not inputs:
            return None
        try:
            signed = signed_message.read(
                inputs, exchange.headers.getall("Signature", NOTHING), self._keys
            )
            if signed is None:
                raise _invalid("the signature names no key (keyid) that is known here")
            self._check(exchange, signed)
            secret, who = self._keys[signed.keyid]
            text = signed_message.base(signed, lambda name: component(exchange, name))
            # compare_digest: how long it takes tells nothing about how many bytes are right.
            if not hmac.compare_digest(hmac.digest(secret, text, sha256), signed.signature):
                raise _invalid(f"the signature is not that of key {signed.keyid}")
            digests: Mapping[str, bytes] = {}
            if "content-digest" in signed.components:
                digests = signed_message.digests(exchange.headers.getall("Content-Digest", NOTHING))
        except Unreadable as error:
            raise Refused(
                "malformed", str(error), detail="The request's signature cannot be read."
            ) from None
        used = self._use_nonce(exchange, signed)
        if isinstance(used, str):
            self._judge_nonce(used, signed.keyid)
            if exchange.body is None or not digests:
                _compare(digests, b"")
                return who
            return self._rest(exchange, signed.keyid, None, digests, who)
        return self._rest(exchange, signed.keyid, used, digests, who)

    async def _rest(
        self,
        exchange: Exchange,
        keyid: str,
        used: Awaitable[Used] | None,
        digests: Mapping[str, bytes],
        who: Identity,
    ) -> Identity:
        """What has to be waited for: the nonce, and the body."""
        if used is not None:
            try:
                self._judge_nonce(await used, keyid)
            except StoreDown as down:
                raise _unavailable(f"nonces cannot be checked: {down}", 1) from None
        if digests:
            body = exchange.body
            whole = b"" if body is None else await body.whole(self._config.max_body)
            _compare(digests, whole)
        return who

    def _check(self, exchange: Exchange, signed: Signed) -> None:
        """Raise Refused unless the signature covers enough and is recent (RFC 9421 section 3.2)."""
        config, now = self._config, self._wall()
        covered = frozenset(signed.components)
        if "@target-uri" in covered:
            covered |= WHOLE
        elif covered >= WHOLE:
            covered |= {"@target-uri"}
        lacking = self._needed - covered
        if exchange.body is None:
            lacking -= {"content-digest"}
        if lacking:
            raise _invalid(
                f"the signature does not cover {', '.join(sorted(lacking))}",
                "The signature does not cover enough.",
            )
        if signed.alg not in ("", ALGORITHM):
            raise _invalid(
                f"key {signed.keyid} is for {ALGORITHM}, and the signature says {signed.alg}"
            )
        if signed.created is None:
            raise _invalid("the signature does not say when it was made (created)")
        if signed.created > now + config.leeway:
            raise _invalid(f"the signature was made {signed.created - now:.0f} s from now")
        if now >= signed.created + config.max_age + config.leeway:
            raise _expired(f"the signature was made {now - signed.created:.0f} s ago")
        if signed.expires is not None and now >= signed.expires + config.leeway:
            raise _expired(f"the signature expired {now - signed.expires:.0f} s ago")

    def _use_nonce(self, exchange: Exchange, signed: Signed) -> Used | Awaitable[Used]:
        """Use the nonce up, unless the request is only explained. Raises Refused without one."""
        if not signed.nonce:
            if self._config.nonce:
                raise _invalid("the signature has no nonce")
            return "new"
        nonce, now = _digest(signed.nonce), self._wall()
        if exchange.decisions is not None:
            seen = self._nonces.seen(signed.keyid, nonce)
            return _seen(seen) if not isinstance(seen, bool) else "replayed" if seen else "new"
        # A signature may be made up to `leeway` from now.
        until = now + self._config.max_age + 2 * self._config.leeway
        return self._nonces.use(signed.keyid, nonce, now, until)

    def _judge_nonce(self, used: Used, keyid: str) -> None:
        """Raise Refused unless the nonce was new."""
        if used == "replayed":
            raise Refused(
                "replayed",
                f"the nonce of key {keyid} was used before",
                detail="The request was sent before.",
            )
        if used == "full":
            raise _unavailable(
                f"key {keyid} has {MOST_NONCES} nonces that would still be good",
                max(1, round(self._config.max_age)),
            )


async def _seen(seen: Awaitable[bool]) -> Used:
    return "replayed" if await seen else "new"


def _unavailable(why: str, seconds: int) -> Refused:
    return Refused(
        "unavailable",
        why,
        detail="Too many signed requests at the moment.",
        failure=Failure.OVERLOADED,
        headers=((b"Retry-After", b"%d" % seconds),),
    )


def component(exchange: Exchange, name: str) -> str:
    """Return a component's value (RFC 9421 sections 2.1, 2.2). Raises Unreadable without it."""
    if name.startswith("@"):
        return _DERIVED[name](exchange)
    values = exchange.headers.getall(name, NOTHING)
    if not values:
        raise Unreadable(f"the signature covers {name}, which the request does not have")
    return ", ".join(value.strip(" \t") for value in values)


def _authority(exchange: Exchange) -> str:
    """Lower case, and without the port that goes without saying (section 2.2.3)."""
    host = exchange.headers.get("Host", exchange.host).strip(" \t").lower()
    return host.removesuffix(":443" if exchange.scheme == "https" else ":80")


def _path(exchange: Exchange) -> str:
    return exchange.target.partition("?")[0] or "/"


_DERIVED: Mapping[str, Callable[[Exchange], str]] = {
    "@method": lambda exchange: exchange.method,
    "@target-uri": lambda exchange: f"{exchange.scheme}://{_authority(exchange)}{exchange.target}",
    "@authority": _authority,
    "@scheme": lambda exchange: exchange.scheme,
    "@request-target": lambda exchange: exchange.target,
    "@path": _path,
    "@query": lambda exchange: "?" + exchange.target.partition("?")[2],
}


def _compare(digests: Mapping[str, bytes], body: bytes) -> None:
    for name, digest in digests.items():
        if not hmac.compare_digest(DIGESTS[name](body).digest(), digest):
            raise _invalid(
                f"the body is not the one of Content-Digest ({name})",
                "The body does not fit its digest.",
            )


def _invalid(why: str, detail: str = "The signature is not valid.") -> Refused:
    return Refused("invalid", why, detail=detail)


def _expired(why: str) -> Refused:
    return Refused("expired", why, detail="The signature has expired.", failure=Failure.EXPIRED)
