"""Tokens, for `auth` and the issuer: JOSE, JWKS, introspection, claims and signing keys."""
