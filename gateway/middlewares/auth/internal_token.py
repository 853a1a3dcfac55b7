"""`forward = "token"`: tell the upstream who is calling in a short-lived token that we sign.

A caller's token is made once and sent until half its lifetime is over, so that it never arrives
nearly expired.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jwt

from gateway.core.clock import Clock
from gateway.core.exchange import Identity
from gateway.core.hooks import ConfigProblem
from gateway.middlewares.auth.config import TokenConfig
from gateway.tokens import signing
from gateway.tokens.algorithms import SECRETS
from gateway.tokens.signing import BadSigningKey

MOST = 10_000
"""Callers whose token is remembered."""


class InternalToken:
    """Makes tokens. `field` is the name (lower case) of what they are sent in."""

    __slots__ = ("_alg", "_config", "_headers", "_key", "_made", "_name", "_wall", "field")

    def __init__(self, config: TokenConfig, clock: Clock) -> None:
        """Raises ConfigProblem when there is no key to sign with, or it is no good."""
        self._config = config
        self._wall = clock.wall
        self._alg, self._key = _signer(config)
        self._headers = {"kid": config.kid} if config.kid else None
        self._name = config.header.encode()
        self.field = self._name.lower()
        self._made: dict[int, tuple[Identity, Identity, float]] = {}
        """By id: the caller as authenticated, as sent on, and until when."""

    def holder(self, identity: Identity) -> Identity:
        """The caller, with the token in place of the plain fields."""
        now = self._wall()
        known = self._made.get(id(identity))
        if known is None or known[0] is not identity or now >= known[2]:
            if len(self._made) >= MOST:
                self._made.clear()
            sent = replace(identity, headers=((self._name, self._token(identity, now)),))
            known = self._made[id(identity)] = identity, sent, now + self._config.lifetime / 2
        return known[1]

    def _token(self, identity: Identity, now: float) -> bytes:
        config = self._config
        claims: dict[str, Any] = {
            "iss": config.issuer,
            "sub": identity.user or identity.client,
            "client": identity.client,
            "iat": int(now),
            "exp": int(now + config.lifetime),
            "roles": sorted(identity.roles),
            "scope": " ".join(sorted(identity.permissions)),
            "amr": [identity.method],
        }
        if config.audience:
            claims["aud"] = config.audience
        if identity.tier:
            claims["tier"] = identity.tier
        token = jwt.encode(claims, self._key, self._alg, headers=self._headers)
        return b"Bearer " + token.encode() if self.field == b"authorization" else token.encode()


def _signer(config: TokenConfig) -> tuple[str, Any]:
    """The algorithm and the key. Raises ConfigProblem."""
    if bool(config.key) == bool(config.secret):
        hint = 'one of key = { file = "internal.key" } and secret = "${SECRET}"'
        raise ConfigProblem("the token needs one key to be signed with", at=("token",), hint=hint)
    if config.secret:
        size = len(config.secret.encode("utf-8", "surrogateescape"))
        if size < SECRETS["HS256"]:
            raise ConfigProblem(
                f"has {size} bytes; HS256 needs {SECRETS['HS256']} or more", at=("token", "secret")
            )
        return "HS256", str(config.secret)
    try:
        return signing.private_key(config.key)
    except BadSigningKey as bad:
        raise ConfigProblem(str(bad), at=("token", "key")) from None
