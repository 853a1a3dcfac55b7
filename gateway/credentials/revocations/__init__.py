"""Tokens that are refused before they expire, in a file or in Redis."""
