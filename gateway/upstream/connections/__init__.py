"""Sockets to endpoints: opening them, keeping idle ones, and the protocols spoken on them."""
