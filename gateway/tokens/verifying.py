"""Keys that verify tokens, each bound to the algorithms it may be used with.

The algorithm belongs to the key, never to the token (RFC 8725 section 3.1): a key is loaded for the
algorithms that fit its kind, its size and the configuration; a token that names another is refused
before anything is computed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt import PyJWK
from jwt.algorithms import get_default_algorithms

from gateway.config.toml.parse import loads_json
from gateway.tokens.algorithms import ALGORITHMS, CURVES, EDWARDS, RSA, RSA_BITS, SECRETS

MOST_KEYS = 100
"""Keys taken from one set."""

_KNOWN = get_default_algorithms()
_VERIFY = {name: _KNOWN["EdDSA" if name in EDWARDS else name].verify for name in ALGORITHMS}

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | Ed448PublicKey


class BadKey(ValueError):
    """A key that cannot be used; the message says why and shows none of it."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """One key and its algorithms. `kid` is None for a key that was configured without a name."""

    kid: str | None
    algorithms: frozenset[str]
    key: Any = field(repr=False, compare=False)

    def verifies(self, alg: str, signed: bytes, signature: bytes) -> bool:
        """Return True if this key made `signature` over `signed`, with an algorithm of its own."""
        return alg in self.algorithms and bool(_VERIFY[alg](signed, self.key, signature))


def from_secret(secret: str, algorithms: Sequence[str]) -> VerifyingKey:
    """Return a key shared with the issuer. Raises BadKey if it is too short or a public key."""
    data = secret.encode("utf-8", "surrogateescape")
    if b"-----BEGIN " in data or data.startswith((b"ssh-", b"ecdsa-")):
        raise BadKey("is a public key or certificate; as a secret it would let everyone sign")
    others = [name for name in algorithms if name not in SECRETS]
    if others:
        raise BadKey(f"{others[0]} does not work with a secret")
    for name in algorithms:
        if len(data) < SECRETS[name]:
            raise BadKey(f"has {len(data)} bytes; {name} needs {SECRETS[name]} or more")
    return VerifyingKey(None, frozenset(algorithms), data)


def from_text(text: str, algorithms: Sequence[str]) -> tuple[VerifyingKey, ...]:
    """Return public keys from PEM (key or certificate) or JSON (key or set). Raises BadKey."""
    if text.lstrip().startswith("{"):
        try:
            document = loads_json(text)
        except ValueError:
            raise BadKey("is neither PEM nor JSON") from None
        return from_set(document if "keys" in document else {"keys": [document]}, algorithms)
    data = text.encode()
    if b"PRIVATE KEY-----" in data:
        raise BadKey("is a private key; the gateway needs, and should have, only the public one")
    try:
        if b"-----BEGIN CERTIFICATE-----" in data:
            key: Any = x509.load_pem_x509_certificate(data).public_key()
        else:
            key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise BadKey("is not a public key in PEM") from None
    return (VerifyingKey(None, _fitting(key, algorithms), key),)


def from_set(document: object, algorithms: Sequence[str]) -> tuple[VerifyingKey, ...]:
    """Return the usable keys of a JSON Web Key Set (RFC 7517). Raises BadKey when there are none.

    Unusable ones are skipped, as section 5 asks: for encryption, of unknown kinds, too small, or
    secrets, which do not belong in a public document.
    """
    entries = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise BadKey("is not a key set: it has no array called keys")
    found, reasons = [], []
    for entry in entries[:MOST_KEYS]:
        try:
            found.append(_from_jwk(entry, algorithms))
        except BadKey as bad:
            reasons.append(str(bad))
    if not found:
        raise BadKey(f"holds no usable key ({'; '.join(dict.fromkeys(reasons)) or 'it is empty'})")
    return tuple(found)


def candidates(keys: Iterable[VerifyingKey], kid: str | None, alg: str) -> list[VerifyingKey]:
    """Return the keys a token may be signed with: those of its `kid`, and those without a name."""
    return [
        key
        for key in keys
        if alg in key.algorithms and (kid is None or key.kid is None or key.kid == kid)
    ]


def _from_jwk(entry: Any, algorithms: Sequence[str]) -> VerifyingKey:
    if not isinstance(entry, dict):
        raise BadKey("an entry is not an object")
    if entry.get("kty") not in ("RSA", "EC", "OKP"):
        raise BadKey("a key is of a kind that is not for public keys")
    operations = entry.get("key_ops", ["verify"])
    if (
        entry.get("use", "sig") != "sig"
        or not isinstance(operations, list)
        or "verify" not in operations
    ):
        raise BadKey("a key is not for signatures")
    kid = entry.get("kid")
    if not isinstance(kid, str | None):
        raise BadKey("a key's kid is not a string")
    public = {
        name: value
        for name, value in entry.items()
        if name not in ("d", "p", "q", "dp", "dq", "qi", "oth", "alg")
    }
    try:
        # Without its alg, PyJWK goes by kty and crv; allowed algorithms are decided below.
        key = PyJWK(public, "EdDSA" if entry["kty"] == "OKP" else None).key
    except Exception:  # three libraries raise what they like for a stranger's document
        raise BadKey("a key cannot be read") from None
    fitting = _fitting(key, algorithms)
    alg = entry.get("alg")
    if alg is not None:
        fitting &= {alg} if isinstance(alg, str) else set()
    if not fitting:
        raise BadKey("a key is for an algorithm that is not allowed")
    return VerifyingKey(kid, fitting, key)


def _fitting(key: object, algorithms: Sequence[str]) -> frozenset[str]:
    """Return the allowed algorithms that fit the key. Raises BadKey for none, or a small key."""
    if isinstance(key, RSAPublicKey):
        if key.key_size < RSA_BITS:
            raise BadKey(
                f"an RSA key of {key.key_size} bits is too small: it needs {RSA_BITS} or more"
            )
        fits = frozenset(RSA)
    elif isinstance(key, EllipticCurvePublicKey):
        fits = frozenset(name for name in (CURVES.get(key.curve.name),) if name)
    elif isinstance(key, Ed25519PublicKey | Ed448PublicKey):
        fits = frozenset(("EdDSA", "Ed25519" if isinstance(key, Ed25519PublicKey) else "Ed448"))
    else:
        raise BadKey("a key is of a kind that no algorithm here uses")
    if not fits & set(algorithms):
        fitting = ", ".join(sorted(fits)) or "no algorithm"
        raise BadKey(f"a key fits {fitting}; allowed are {', '.join(algorithms)}")
    return fits & frozenset(algorithms)
