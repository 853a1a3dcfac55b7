"""The admin listener, for operators: metrics, health, status and reload."""
