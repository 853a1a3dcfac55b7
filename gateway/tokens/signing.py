"""The keys that sign tokens: the first signs, the public halves of all are published (RFC 7517).

The algorithm follows from the key. A key without a name is called by its thumbprint (RFC 7638). A
secret (HS256) has no public half: it is never published, and nameless unless it is given a name.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import get_default_algorithms

from gateway.tokens.algorithms import CURVES, RSA_BITS
from gateway.tokens.verifying import BadKey, VerifyingKey, from_secret, from_set

_IN_THUMBPRINT = {
    "RSA": ("e", "kty", "n"),
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
}
"""RFC 7638 section 3.2 and RFC 8037 section 2."""
_KNOWN: Mapping[str, Any] = get_default_algorithms()


class BadSigningKey(ValueError):
    """A key that cannot sign tokens; the message says why and shows none of it."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key. `public` is its JSON Web Key, with kid, alg and use; empty for a secret."""

    kid: str
    alg: str
    public: Mapping[str, Any]
    private: Any = field(repr=False, compare=False)


class SigningKeys:
    """Several, of which the first signs."""

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        self._first = keys[0]
        self._headers = {"typ": "at+jwt"}  # RFC 9068 section 2.1
        if self._first.kid:
            self._headers["kid"] = self._first.kid
        self.names = tuple(key.kid or key.alg for key in keys)
        self.algorithms = tuple(dict.fromkeys(key.alg for key in keys))
        self.document: dict[str, Any] = {"keys": [dict(key.public) for key in keys if key.public]}
        """The JSON Web Key Set."""
        self._secrets = [key for key in keys if not key.public]

    def __repr__(self) -> str:
        return f"<SigningKeys {', '.join(self.names)}>"

    def verifying(self, algorithms: Sequence[str]) -> tuple[VerifyingKey, ...]:
        """Return what verifies the tokens that these sign. Raises BadKey."""
        public = from_set(self.document, algorithms) if self.document["keys"] else ()
        secret = (
            VerifyingKey(key.kid or None, frozenset((key.alg,)), key.private)
            for key in self._secrets
            if key.alg in algorithms
        )
        found = (*public, *secret)
        if not found:
            raise BadKey("no key works with any of them")
        return found

    def sign(self, claims: dict[str, Any]) -> str:
        """A token in compact form."""
        return jwt.encode(claims, self._first.private, self._first.alg, headers=self._headers)


def load(pem: str, kid: str = "") -> SigningKey:
    """A key from PEM. Raises BadSigningKey."""
    alg, private = private_key(pem)
    public = _KNOWN[alg].to_jwk(private.public_key(), as_dict=True)
    public = {
        name: value
        for name, value in public.items()
        if name not in ("key_ops", "use", "alg", "kid")
    }
    named = kid or thumbprint(public)
    return SigningKey(named, alg, {**public, "kid": named, "alg": alg, "use": "sig"}, private)


def load_secret(secret: str, kid: str = "") -> SigningKey:
    """A secret for HS256. Raises BadSigningKey."""
    try:
        made = from_secret(secret, ("HS256",))
    except BadKey as bad:
        raise BadSigningKey(str(bad)) from None
    return SigningKey(kid, "HS256", {}, made.key)


def private_key(pem: str) -> tuple[str, Any]:
    """Return the algorithm a private key signs with, and the key. Raises BadSigningKey."""
    try:
        private = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError):
        raise BadSigningKey("is not a private key in PEM without a password") from None
    if isinstance(private, RSAPrivateKey):
        if private.key_size < RSA_BITS:
            raise BadSigningKey(
                f"is an RSA key of {private.key_size} bits; it needs {RSA_BITS} or more"
            )
        return "RS256", private
    if isinstance(private, EllipticCurvePrivateKey) and private.curve.name in CURVES:
        return CURVES[private.curve.name], private
    if isinstance(private, Ed25519PrivateKey | Ed448PrivateKey):
        return "EdDSA", private
    raise BadSigningKey("is of a kind that cannot sign tokens")


def thumbprint(public: Mapping[str, Any]) -> str:
    """RFC 7638, with SHA-256."""
    members = {name: public[name] for name in _IN_THUMBPRINT[public["kty"]]}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
