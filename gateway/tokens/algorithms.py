"""Names of algorithms for signatures (RFC 7518, RFC 8037, RFC 9864), and what keys they need."""

from __future__ import annotations

SECRETS = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Bytes a secret must at least have, by algorithm: as many as the hash (RFC 7518 section 3.2)."""
RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
RSA_BITS = 2048
"""RFC 7518 section 3.3."""
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
"""RFC 7518 section 3.4: a curve has one algorithm."""
EDWARDS = ("EdDSA", "Ed25519", "Ed448")
"""RFC 8037 has one name for both curves, RFC 9864 one for each."""
ALGORITHMS = (*SECRETS, *RSA, *CURVES.values(), *EDWARDS)
USUAL = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
"""Allowed with public keys where the configuration does not say."""
