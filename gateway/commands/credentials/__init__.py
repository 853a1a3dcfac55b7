"""Commands about credentials: API keys, users, revoked tokens."""
