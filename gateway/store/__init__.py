"""Shared stores: what the gateway asks of one, and Redis."""
