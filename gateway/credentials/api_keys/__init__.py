"""API keys: the file and the Redis hash that hold them, changes to them, and look-ups."""
