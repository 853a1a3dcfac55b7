"""Users with passwords: the file and the Redis hash that hold them, and changes to them."""
