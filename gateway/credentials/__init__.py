"""Credentials: API keys, users and revocations, with their storage and their edits."""
