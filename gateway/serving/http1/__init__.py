"""HTTP/1.1 towards clients: bytes to events and back, and the connection that carries them."""
