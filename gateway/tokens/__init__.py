"""Tokens as `auth` and the issuer share them: JOSE, JWKS, introspection, claims and signing keys."""
