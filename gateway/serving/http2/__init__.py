"""HTTP/2 towards clients: a connection, its streams, and their messages as the way knows them."""
