"""The gateway as an issuer of tokens: sessions, login attempts, passwords and TOTP."""
