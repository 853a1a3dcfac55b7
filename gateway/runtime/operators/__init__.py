"""Middleware of an operator's own: what its hooks may do, and its modules."""
