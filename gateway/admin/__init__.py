"""The admin listener, for operators: metrics, health, status and reload."""

ADMIN_HEADER = "X-Gateway-Admin"
"""What changes something is asked for with it: pages of another origin cannot send it."""
